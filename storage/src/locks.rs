//! The lock table of one group: rows, tables, advisory keys and named objects, in PostgreSQL's
//! modes, with first-come queues, deadlock detection and savepoints.

use bytes::Bytes;

use crate::TxId;

/// PostgreSQL's row locks (its chapter 13.3.2), weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowMode {
    /// A foreign key references the row.
    KeyShare,
    /// FOR SHARE.
    Share,
    /// UPDATE that keeps the key.
    NoKeyUpdate,
    /// DELETE, UPDATE of a key, INSERT (of a key that may not exist yet).
    Update,
}

/// PostgreSQL's table locks (its chapter 13.3.1), weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableMode {
    /// SELECT.
    AccessShare,
    /// SELECT FOR ...
    RowShare,
    /// INSERT, UPDATE, DELETE.
    RowExclusive,
    /// VACUUM, ANALYZE, CREATE INDEX CONCURRENTLY.
    ShareUpdateExclusive,
    /// CREATE INDEX.
    Share,
    /// CREATE TRIGGER, ADD FOREIGN KEY.
    ShareRowExclusive,
    /// REFRESH MATERIALIZED VIEW CONCURRENTLY.
    Exclusive,
    /// DROP TABLE, TRUNCATE, most of ALTER TABLE.
    AccessExclusive,
}

/// The mode of a lock. Row modes go with `LockKey::Row`, table modes with `LockKey::Table`, the
/// two plain ones with the other keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockMode {
    /// Of a row.
    Row(RowMode),
    /// Of a table.
    Table(TableMode),
    /// Of an advisory key or object.
    Shared,
    /// Of an advisory key or object.
    Exclusive,
}

impl From<RowMode> for LockMode {
    fn from(mode: RowMode) -> LockMode {
        LockMode::Row(mode)
    }
}

impl From<TableMode> for LockMode {
    fn from(mode: TableMode) -> LockMode {
        LockMode::Table(mode)
    }
}

/// What is locked. It need not exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockKey {
    /// A key of a table's or unique index's tree.
    Row {
        /// The tree.
        tree: u32,
        /// The key.
        key: Bytes,
    },
    /// A table, by its tree.
    Table(u32),
    /// `pg_advisory_lock(bigint)`.
    Advisory(i64),
    /// `pg_advisory_lock(int, int)`.
    Advisory2(i32, i32),
    /// Anything else by class and name: a relation's name in its schema, a role, ...
    Object {
        /// Numbered by `sql`.
        class: u32,
        /// The name within the class.
        name: Bytes,
    },
}

/// What to do if the lock is not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Queue up.
    Wait,
    /// Answer `Busy` (55P03).
    NoWait,
    /// Answer `Busy` (leave the row out).
    SkipLocked,
}

/// The answer to a request.
#[derive(Debug)]
#[must_use]
pub enum Locked {
    /// The lock is held until it is released.
    Granted,
    /// Wait for the ticket, then ask again (at once `Granted` if `Ticket::granted`).
    Queued(Ticket),
    /// Not free, and the policy does not wait.
    Busy,
    /// To wait would close a cycle (40P01): each transaction waits for the next one, the last
    /// for the first, which is the requester. Nothing was queued.
    Deadlock(Vec<TxId>),
    /// The transaction began before the leader lost its place (40001).
    Gone,
    /// The transaction holds too many locks (53200).
    TooMany,
}

/// A place in a lock's queue. Dropping it leaves the queue; a lock that was granted meanwhile
/// stays with the transaction.
#[derive(Debug)]
pub struct Ticket {}

impl Ticket {
    /// Calls `ready` once the waiting is over, at once if it is over already: the lock was
    /// granted, or it is worth asking again, or the lock table was cleared. Called from whichever
    /// thread released the lock, with no lock held.
    pub fn on_ready(&self, _ready: Box<dyn FnOnce() + Send>) {
        todo!()
    }

    /// Is the waiting over?
    pub fn ready(&self) -> bool {
        todo!()
    }

    /// Is the lock held now?
    pub fn granted(&self) -> bool {
        todo!()
    }
}

/// A moment in a transaction's locks, for a savepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

/// One row of `pg_locks`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockInfo {
    /// What is locked; an escalated lock shows as the rows' whole tree, with `key` `None`.
    pub key: LockKey,
    /// Who holds it or waits for it.
    pub tx: TxId,
    /// How.
    pub mode: LockMode,
    /// Held, or waited for?
    pub granted: bool,
    /// All rows of the tree of `key` (its row key is empty).
    pub whole_tree: bool,
}

/// Locks of one transaction on rows of one tree above which they become one lock of all rows of
/// that tree, so that memory stays bounded.
pub const ROW_LOCKS_MAX: usize = 10_000;

/// The locks of a group's transactions, in the memory of its leader.
pub struct LockTable {}

impl LockTable {
    /// An empty table with the given [`ROW_LOCKS_MAX`].
    pub fn new(_row_locks_max: usize) -> LockTable {
        todo!()
    }

    /// Asks for a lock. Re-entrant; a stronger mode than one held already is an upgrade, which
    /// goes before waiters that this transaction blocks. Queues are first come, first served.
    pub fn lock(
        &self,
        _tx: TxId,
        _key: LockKey,
        _mode: impl Into<LockMode>,
        _policy: Policy,
    ) -> Locked {
        todo!()
    }

    /// Says that `tx` and `session` are the same actor: their locks do not conflict, and a cycle
    /// through both is found. A session's id (from `Group::begin`) holds its session-level
    /// advisory locks. Ends with `release(tx)`.
    pub fn attach(&self, _tx: TxId, _session: TxId) {
        todo!()
    }

    /// Takes back one `lock` of an advisory key; each is counted. False if it is not held.
    pub fn unlock(&self, _tx: TxId, _key: &LockKey, _mode: impl Into<LockMode>) -> bool {
        todo!()
    }

    /// Does `tx` hold `key` in `mode` or a stronger one?
    pub fn holds(&self, _tx: TxId, _key: &LockKey, _mode: impl Into<LockMode>) -> bool {
        todo!()
    }

    /// A savepoint's mark.
    pub fn mark(&self, _tx: TxId) -> Mark {
        todo!()
    }

    /// Releases what `tx` has locked since the mark (rows merged by escalation stay).
    pub fn release_to(&self, _tx: TxId, _mark: Mark) {
        todo!()
    }

    /// Releases everything of `tx` and leaves all queues.
    pub fn release(&self, _tx: TxId) {
        todo!()
    }

    /// Drops all locks; transactions up to `gone` get `Locked::Gone` from now on. Waiters are
    /// woken.
    pub fn clear(&self, _gone: TxId) {
        todo!()
    }

    /// Everything held and waited for, ordered by key.
    pub fn list(&self) -> Vec<LockInfo> {
        todo!()
    }
}
