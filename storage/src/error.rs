//! What can go wrong below SQL; each variant is what the caller does next.

use journal::Position;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Storage errors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The read is below the horizon: begin again with a newer snapshot.
    #[error("snapshot too old: {at} is below {horizon}")]
    TooOld {
        /// The position that was asked for.
        at: Position,
        /// The oldest position that can be read.
        horizon: Position,
    },
    /// The position is not applied here, and not (any more) in the overlay: either it is still to
    /// come (wait for it with `Group::when`), or what was read there never committed (40001).
    #[error("position {at} is not reached: this node has applied {applied}")]
    NotReached {
        /// The position that was asked for.
        at: Position,
        /// What this node has applied.
        applied: Position,
    },
    /// There is no such group on this node.
    #[error("group {0} is not held by this node")]
    NoGroup(journal::GroupId),
    /// The bytes are not what was written: stop and say where.
    #[error("corruption in {place}: {what}")]
    Corrupt {
        /// File, tree or record.
        place: String,
        /// What was found.
        what: String,
    },
    /// The disk failed: the process ends.
    #[error("disk: {0}")]
    Disk(#[from] std::io::Error),
    /// The table store failed: the process ends.
    #[error("table store: {0}")]
    Store(String),
    /// The folder belongs to another store or a newer version.
    #[error("{0}")]
    Format(String),
}
