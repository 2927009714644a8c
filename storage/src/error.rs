//! What can go wrong below SQL; each variant is what the caller does next.

use journal::Position;

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

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
