//! What a reader of the feed can be told.

use journal::{GroupId, Position};

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of the feed; each variant is what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cursor is behind retention (OW001): begin again from a bootstrap.
    #[error("group {group} keeps its entries from {oldest} on")]
    Behind {
        /// The group that no longer has what comes after the cursor.
        group: GroupId,
        /// From here on nothing is missing.
        oldest: Position,
    },
    /// No such group is held on this node.
    #[error("group {0} is not held here")]
    Unknown(GroupId),
    /// What a source has sent is damaged, or not what comes next.
    #[error("the stream of a followed group: {0}")]
    Stream(&'static str),
    /// The journal can't be read.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// An entry can't be read.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}
