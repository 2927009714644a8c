//! SQL text to transactions, with PostgreSQL's semantics.

pub mod error;
pub mod types;

pub use error::{Error, Result, SqlState, state};
