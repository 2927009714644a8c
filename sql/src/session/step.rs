//! What a call of the session ends with: an answer, or something the server must do first.

use crate::transaction::Wait;

/// The end of one call.
#[derive(Debug)]
pub enum Step {
    /// The statement is done: the CommandComplete tag (empty = EmptyQueryResponse).
    Done {
        /// `SELECT 3`, `INSERT 0 1`, ...
        tag: String,
    },
    /// The row limit of Execute is reached.
    Suspended,
    /// Await this, then call again with the same arguments.
    Wait(Wait),
    /// Flush the output, then call again.
    More,
    /// COPY FROM STDIN begins: the formats (0 text, 1 binary) of its columns.
    CopyIn {
        /// Overall format.
        binary: bool,
        /// Number of columns.
        columns: u16,
    },
    /// COPY TO STDOUT begins; call again for its data.
    CopyOut {
        /// Overall format.
        binary: bool,
        /// Number of columns.
        columns: u16,
    },
}
