//! Text to statements: PostgreSQL's grammar by sqlparser, with a layer of our own for what it
//! can't read.

mod statement;

pub use statement::*;
