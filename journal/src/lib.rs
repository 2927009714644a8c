//! The one ordered log of a node: every group's entries and votes, in segments.
//! WAL, Raft log and feed are the same bytes.
//!
//! [`Journal::append`] takes records of any groups and calls back when they are on disk; one writer
//! thread serves all groups with one fsync for all that waits. [`Journal::read`] gives a group's
//! log back, from memory or from the segments. The first failed write or fsync is final.

pub mod disk;
mod erase;
mod error;
mod index;
mod inspect;
mod journal;
mod payload;
mod position;
mod reader;
mod record;
mod recover;
mod release;
mod remains;
mod retention;
#[cfg(feature = "sabotage")]
pub mod sabotage;
mod segment;
mod spare;
mod writer;

pub use disk::{Disk, FaultyDisk, File, Lock, MemoryDisk, Open, RealDisk, ShadowDisk};
pub use erase::Erasure;
pub use error::{Error, Result};
pub use inspect::{Inspect, Inspected, inspect};
pub use journal::{GroupState, Journal, OnFatal, Options, Spare, Stats};
pub use payload::{Images, Payload, PayloadBuilder};
pub use position::{COUNTER_BITS, EPOCH_UNIX_MICROS, GroupId, Index, Position, Term};
pub use record::{Kind, Record};
pub use remains::{Fate, Remains};
pub use writer::Done;
