//! Where a statement's answer goes: rows already in the client's format, notices, settings.

use crate::Error;

/// The client's side of an answer. Implemented by `server` over the connection's write buffer.
pub trait Output {
    /// Simple protocol only: the columns of the rows that follow (RowDescription).
    fn columns(&mut self, fields: &[Field]);

    /// One row: `write` appends the body of a DataRow (or of a CopyData during COPY TO), which the
    /// implementation frames. Called once per row.
    fn row(&mut self, write: &mut dyn FnMut(&mut Vec<u8>));

    /// A notice or warning (`severity` is NOTICE, WARNING, INFO or LOG).
    fn notice(&mut self, severity: &'static str, notice: &Error);

    /// ParameterStatus.
    fn parameter(&mut self, name: &str, value: &str);

    /// Is so much written and not yet taken by the client that the session had better answer
    /// `Step::More`?
    fn full(&self) -> bool;
}

/// A column of RowDescription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// OID of its table, 0 if none.
    pub table: u32,
    /// `attnum`, 0 if none.
    pub number: i16,
    /// OID of its type.
    pub type_oid: u32,
    /// `typlen`.
    pub type_length: i16,
    /// `atttypmod`.
    pub modifier: i32,
    /// 0 text, 1 binary.
    pub format: i16,
}
