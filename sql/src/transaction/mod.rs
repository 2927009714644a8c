//! Transactions: snapshots, own writes, savepoints, locks and commit, over storage's groups.
//! Executors read and write only through [`Transaction`].

mod modes;
mod stop;

use std::ops::Bound;

use bytes::Bytes;
pub use modes::{Isolation, Locked, Policy, RowMode, TableMode};
pub use stop::{Stop, Wait};
use storage::{Direction, GroupId, Position};

use crate::Error;

/// Keys and values in key order; owns what it needs.
pub type RowScan = Box<dyn Iterator<Item = std::result::Result<(Bytes, Bytes), Stop>> + Send>;

/// A write of one index entry. `None` deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexWrite {
    /// The index's tree.
    pub tree: u32,
    /// The entry's key.
    pub key: Bytes,
    /// The table key, or `None`.
    pub value: Option<Bytes>,
}

/// One change of one row with what it does to the indexes.
#[derive(Clone, Debug)]
pub struct RowChange {
    /// The row's key in the table's tree.
    pub key: Bytes,
    /// The row as this transaction saw it before the change.
    pub old: Option<Bytes>,
    /// The row after it.
    pub new: Option<Bytes>,
    /// Entries of the secondary indexes.
    pub index: Vec<IndexWrite>,
    /// Whether the feed shows it (false: rewrites and backfill).
    pub feed: bool,
}

/// One open transaction.
pub struct Transaction {
    isolation: Isolation,
    read_only: bool,
}

fn unbuilt<T>() -> std::result::Result<T, Stop> {
    Err(Stop::Error(Error::internal("not merged yet")))
}

impl Transaction {
    /// The isolation level.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// True in a READ ONLY transaction (writing is 25006).
    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// The newest value that this statement may see: own writes, then the snapshot. SERIALIZABLE
    /// remembers the read.
    pub fn get(
        &mut self,
        _group: GroupId,
        _tree: u32,
        _key: &[u8],
    ) -> std::result::Result<Option<Bytes>, Stop> {
        unbuilt()
    }

    /// The keys of a range, as of now: writes made later by the same statement are not in it.
    pub fn scan(
        &mut self,
        _group: GroupId,
        _tree: u32,
        _range: (Bound<Bytes>, Bound<Bytes>),
        _direction: Direction,
    ) -> std::result::Result<RowScan, Stop> {
        unbuilt()
    }

    /// The newest placed value, under a lock just taken: unique checks and the second look after
    /// a lock wait. Under REPEATABLE READ and above 40001 if it is newer than the snapshot.
    pub fn current(
        &mut self,
        _group: GroupId,
        _tree: u32,
        _key: &[u8],
    ) -> std::result::Result<Option<Bytes>, Stop> {
        unbuilt()
    }

    /// Locks one key, existing or not, of a table's tree or of a unique index's.
    pub fn lock_row(
        &mut self,
        _group: GroupId,
        _tree: u32,
        _key: &[u8],
        _mode: RowMode,
        _policy: Policy,
    ) -> std::result::Result<Locked, Stop> {
        unbuilt()
    }

    /// Locks a table (by its tree). Statements take the modes of PostgreSQL's table 13.2.
    pub fn lock_table(
        &mut self,
        _group: GroupId,
        _tree: u32,
        _mode: TableMode,
        _policy: Policy,
    ) -> std::result::Result<Locked, Stop> {
        unbuilt()
    }

    /// Writes one row of a table of the owner whom the transaction acts for. `owner` and `group`
    /// are the table's: a second owner is 0A000 with a hint, a read-only transaction 25006. The
    /// caller has checked grants and ownership (42501) and holds the locks.
    pub fn write(
        &mut self,
        _group: GroupId,
        _tree: u32,
        _change: RowChange,
    ) -> std::result::Result<(), Stop> {
        unbuilt()
    }

    /// Writes a row of a system tree (catalog, sequences); `None` deletes.
    pub fn write_system(
        &mut self,
        _group: GroupId,
        _tree: u32,
        _key: Bytes,
        _new: Option<Bytes>,
    ) -> std::result::Result<(), Stop> {
        unbuilt()
    }

    /// Adds an event to the entry: a DDL record (command tag as name) or a message.
    pub fn event(
        &mut self,
        _group: GroupId,
        _kind: EventKind,
        _name: &str,
        _table: Option<u32>,
        _payload: Bytes,
    ) -> std::result::Result<(), Stop> {
        unbuilt()
    }

    /// Drops a tree with the commit.
    pub fn drop_tree(&mut self, _group: GroupId, _tree: u32) -> std::result::Result<(), Stop> {
        unbuilt()
    }

    /// The snapshot position of a group as this statement sees it.
    pub fn position(&mut self, _group: GroupId) -> std::result::Result<Position, Stop> {
        unbuilt()
    }

    /// Sends a notice to the client after the statement.
    pub fn notice(&mut self, _notice: Error) {}
}

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// `pg_logical_emit_message`.
    Message,
    /// A change of the catalog.
    Ddl,
}
