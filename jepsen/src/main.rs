//! Faults, histories and their checkers against real processes.

fn main() {}
