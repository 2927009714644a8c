//! Tables materialized from the journal: trees of versioned rows, the entry's codec, the pending
//! overlay, the lock table and the writer's sequencing of one group. Synchronous and pure: no
//! clock, no random, no async.

mod clock;
mod entry;
pub mod erase;
mod error;
mod estimate;
mod follow;
mod group;
mod groups;
mod ids;
mod keep;
mod local;
mod locks;
mod memory;
mod meta;
mod propose;
mod publish;
mod row;
mod snapshot;
mod store;
mod sums;
pub mod system;

pub use clock::{Clock, ManualClock};
pub use entry::{
    ABOUT_MAX, Change, Entry, EntryBuilder, Erased, ErasedImage, Event, EventKind, Header,
    IndexWrite, Meta, Part, PartHeader, PartsRef, RowKey, TxId,
};
pub use error::{Error, Result};
pub use estimate::{Estimate, time_left};
pub use follow::{Chosen, Looked, check_chosen};
pub use group::{
    CLOSE_PAUSE_MICROS, Changes, Check, Commit, Group, LargeChanges, OUTCOMES_REMOVED_MAX, Outcome,
    PART_BYTES_MAX, Pin, Range, Refused, Sums, TRANSACTION_BYTES_MAX, TxStatus, Verdict, Wait,
    WaiterId, outcomes_kept,
};
pub use groups::Groups;
#[cfg(feature = "sabotage")]
pub use journal::sabotage;
pub use journal::{GroupId, Index, Payload, Position, Term};
pub use keep::Keep;
pub use local::{Local, LocalRecord};
pub use locks::{
    KeptLock, LOCKS_MAX, LockInfo, LockKey, LockMode, LockTable, Locked, Mark, Policy,
    ROW_LOCKS_MAX, RowMode, TableMode, Ticket, kept_locks, kept_locks_key,
};
pub use memory::MemoryStore;
pub use propose::{Durable, Observer, PartSource, Proposal, Propose, Proposed, RaftState};
pub use row::{ColumnId, Columns, Row, RowWriter};
pub use snapshot::{Export, Pieces, check_export};
pub use store::{
    Applied, Checkpoint, Direction, ErasedKeys, GroupCheckpoint, KEY_BYTES_MAX, POSITION_MAX,
    RowVersion, Scan, Scratch, StoreKind, StoreOptions, TableFile, TableStore, TreeId,
    VALUE_BYTES_MAX, Versions, Write, kind_of, open, read_checkpoint, shadow, table_files,
};
pub use sums::TableSum;
