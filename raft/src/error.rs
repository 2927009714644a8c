//! What can go wrong in a node's groups.

use journal::GroupId;

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of a node's groups; all of them end the process at start-up or are logged once.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal refused.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The tables refused.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// A group's Raft does not run.
    #[error("group {0}: {1}")]
    Raft(GroupId, String),
    /// Damaged bytes of Raft's own.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Raft's settings contradict each other.
    #[error("Raft's settings: {0}")]
    Config(String),
    /// A task of the node panicked.
    #[error("task: {0}")]
    Task(String),
}
