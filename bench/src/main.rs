//! Freehold beside PostgreSQL 15 in one run.

fn main() {}
