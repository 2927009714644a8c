//! Tables materialized from the journal: trees of versioned rows, the entry's codec, the pending
//! overlay, the lock table and the writer's sequencing of one group. Synchronous and pure: no
//! clock, no random, no async.

mod error;
mod store;

pub use journal::{GroupId, Index, Position, Term};

pub use error::{Error, Result};
pub use store::{
    Applied, Checkpoint, Direction, GroupCheckpoint, Scan, Scratch, TableStore, TreeId, Write,
};
