//! The one test binary: what is tested against the running program, and the rules of the house.

mod drivers;
mod fixtures;
mod tidy;
