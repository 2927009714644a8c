//! SQL text to transactions, with PostgreSQL's semantics.

pub mod bind;
pub mod catalog;
pub mod changes;
pub mod cluster;
pub mod copy;
pub mod ddl;
pub mod engine;
pub mod error;
pub mod exec;
pub mod expr;
pub mod fired;
pub mod functions;
mod integrity;
pub mod meter;
mod moving;
pub mod outbox;
pub mod parse;
pub mod plan;
pub mod plpgsql;
pub mod remote;
pub mod rules;
pub mod session;
pub mod settings;
pub mod system;
pub mod transaction;
pub mod types;

pub use error::{Error, Result, SqlState, state};
