//! Where a statement's answer goes: rows already in the client's format, notices, settings.

use crate::Error;

/// The client's side of an answer. Implemented by `server` over the connection's write buffer.
pub trait Output {
    /// The buffer that rows are appended to, as complete DataRow or CopyData messages' bodies.
    /// Called once per row; the implementation frames what `write` appends.
    fn row(&mut self, write: &mut dyn FnMut(&mut Vec<u8>));

    /// A notice or warning (`severity` is NOTICE, WARNING, INFO or LOG).
    fn notice(&mut self, severity: &'static str, notice: &Error);

    /// ParameterStatus.
    fn parameter(&mut self, name: &str, value: &str);

    /// Bytes written and not yet taken by the client: above the server's limit the session
    /// answers `Step::More` and goes on when called again.
    fn full(&self) -> bool;
}
