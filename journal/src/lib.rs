//! The one ordered log of a node: every group's entries and votes, in segments.
//! WAL, Raft log and feed are the same bytes.

mod position;

pub use position::{COUNTER_BITS, EPOCH_UNIX_MICROS, GroupId, Index, Position, Term};
