//! The checkers: from what clients were told and what was read, to what is wrong. No clock, no
//! socket: hand-written histories test them.

pub mod append;
pub mod books;
pub mod commands;
pub mod consumer;
pub mod erased;
pub mod ledger;
pub mod reads;
pub mod references;
pub mod register;
