//! What can go wrong in the journal. Damage names its file and offset, so that an operator can act.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::{GroupId, Index};

/// Shorthand for the results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the journal. Cheap to clone: one failure answers every waiting caller.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a call.
    #[error("could not {action} file \"{}\": {source}", path.display())]
    Io {
        /// What was tried: "read", "write", "sync", ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The answer of the operating system.
        source: Arc<io::Error>,
    },
    /// Damage that no crash can have caused. Nothing is cut: repair it or fetch it from the peers.
    #[error("journal is damaged in file \"{}\" at offset {offset}: {reason}", path.display())]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// Byte offset of the first bad record (or header) in it.
        offset: u64,
        /// What does not fit.
        reason: &'static str,
    },
    /// The unacknowledged end of the last segment is incomplete. Only `inspect` says so: `open`
    /// cuts it.
    #[error("journal ends in an incomplete write in file \"{}\" at offset {offset}", path.display())]
    Torn {
        /// The last segment.
        path: PathBuf,
        /// Where the whole records end.
        offset: u64,
    },
    /// Written by a newer program.
    #[error(
        "journal file \"{}\" has format version {found}, this program reads up to {supported}",
        path.display()
    )]
    NewerVersion {
        /// The segment.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that this program knows.
        supported: u32,
    },
    /// Another process has the folder open.
    #[error("journal folder \"{}\" is in use by another process", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// A log record that does not follow the last one of its group.
    #[error("group {group}: expected log index {}, got {}", expected.0, found.0)]
    OutOfOrder {
        /// The group.
        group: GroupId,
        /// The index that would follow.
        expected: Index,
        /// The index given.
        found: Index,
    },
    /// A truncation at or below the purge point, which is committed for certain.
    #[error("group {group}: cannot truncate at index {}, the log is purged up to {}", at.0, purged.0)]
    TruncateBelowPurge {
        /// The group.
        group: GroupId,
        /// The index given.
        at: Index,
        /// The purge point.
        purged: Index,
    },
    /// A record that does not fit into one segment.
    #[error("a journal record of {bytes} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Size of the record with its header.
        bytes: u64,
        /// The greatest size possible.
        limit: u64,
    },
    /// A kind of record that only the journal itself writes, or a vote without payload.
    #[error("not a record for append: {0}")]
    Invalid(&'static str),
    /// An image of a payload whose length or checksum is wrong; `at` is its offset in the payload.
    #[error("payload is damaged at byte {at}")]
    BadImage {
        /// Byte offset of the image's head in the payload.
        at: usize,
    },
    /// The image was erased: its bytes are gone for ever, and that is right.
    #[error("the image is erased")]
    Erased {
        /// What the eraser has left in its place, and zeros behind it.
        left: Bytes,
    },
    /// An earlier write or fsync failed; nothing can be appended after that.
    #[error("the journal has stopped: {0}")]
    Failed(Arc<Error>),
    /// The journal is closed.
    #[error("the journal is closed")]
    Closed,
}

impl Error {
    /// Wraps an answer of the operating system.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Error {
        Error::Io {
            action,
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }

    /// Damage at a place.
    pub(crate) fn corrupt(path: &Path, offset: u64, reason: &'static str) -> Error {
        Error::Corrupt {
            path: path.to_owned(),
            offset,
            reason,
        }
    }

    /// Is this the answer to opening a file that has gone?
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
