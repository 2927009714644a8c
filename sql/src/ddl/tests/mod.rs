//! DDL over a catalog alone: every statement is decided, written as rows of system trees, and
//! read back, so that the derived catalog and the rebuilt one can be compared.

mod build;
mod contract;
mod fixture;
mod golden;
pub(crate) use fixture::Fixture;
mod grants;
mod matrix;
mod matrix_sql;
mod projected;
mod projection;
mod tables;
