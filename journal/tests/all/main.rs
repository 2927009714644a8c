//! The journal from outside: groups, restarts, damage, crashes.

mod crash;
mod damage;
mod erase;
mod far;
mod load;
mod log;
mod model;
mod tools;
