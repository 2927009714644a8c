//! What keeps a run from being played at all, apart from what the checkers find.

use crate::link::Failure;

/// Why a run could not be played to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine or the command line doesn't give what the run needs. Nothing was learned.
    #[error("{0}")]
    Setup(String),
    /// The server did not start, did not stop or closed its doors when it had to serve: a finding.
    #[error("{0}")]
    Victim(String),
    /// A statement of the harness itself that has to succeed was refused or not answered: a finding.
    #[error("{statement}: {failure}")]
    Statement {
        /// The text that was sent, shortened.
        statement: String,
        /// What came back.
        failure: Failure,
    },
    /// A file of the harness itself.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The result of everything that may keep a run from being played.
pub type Result<T> = std::result::Result<T, Error>;
