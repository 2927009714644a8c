//! The journal from outside: groups, restarts, damage, crashes.

mod log;
mod tools;
