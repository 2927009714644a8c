//! The lock table of one group: rows, tables, advisory keys and named objects, in PostgreSQL's
//! modes, with first-come queues, deadlock detection and savepoints.

mod graph;
mod kept;
mod lock;
mod modes;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

pub(crate) use self::kept::read_kept;
pub use self::kept::{KeptLock, kept_locks, kept_locks_key};
pub(crate) use self::lock::Wake;
use self::lock::{Place, Waiter};
use self::table::{Answer, Table};
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

impl LockKey {
    /// Some mode of its class.
    fn class(&self) -> LockMode {
        match self {
            LockKey::Row { .. } => LockMode::Row(RowMode::KeyShare),
            LockKey::Table(_) => LockMode::Table(TableMode::AccessShare),
            LockKey::Advisory(_) | LockKey::Advisory2(..) | LockKey::Object { .. } => {
                LockMode::Shared
            }
        }
    }
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
#[must_use]
pub struct Ticket {
    id: u64,
    place: Place,
    waiter: Arc<Waiter>,
    table: Arc<Mutex<Table>>,
}

impl Ticket {
    /// Calls `ready` once the waiting is over, at once if it is over already: the lock was
    /// granted, or it is worth asking again, or the lock table was cleared. Called from whichever
    /// thread released the lock, with no lock held. A second call replaces the first.
    pub fn on_ready(&self, ready: Box<dyn FnOnce() + Send>) {
        if let Some(ready) = self.waiter.on_ready(ready) {
            ready();
        }
    }

    /// Is the waiting over?
    pub fn ready(&self) -> bool {
        self.waiter.done().is_some()
    }

    /// Is the lock held now?
    pub fn granted(&self) -> bool {
        self.waiter.done() == Some(true)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({:?})", self.place)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.ready() {
            let wakes = self.table.lock().leave(&self.place, self.id);
            call(wakes);
        }
    }
}

/// A moment in a transaction's locks, for a savepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

/// One row of `pg_locks`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockInfo {
    /// What is locked.
    pub key: LockKey,
    /// Who holds it or waits for it.
    pub tx: TxId,
    /// How.
    pub mode: LockMode,
    /// Held, or waited for?
    pub granted: bool,
    /// All rows of the tree of `key`, whose row key is empty: an escalated lock.
    pub whole_tree: bool,
}

/// Locks of one transaction on rows of one tree above which they become one lock of all rows of
/// that tree, so that memory stays bounded.
pub const ROW_LOCKS_MAX: usize = 10_000;

/// Locks of one transaction of any kind, where escalation does not help.
pub const LOCKS_MAX: usize = 1_000_000;

/// The locks of a group's transactions, in the memory of its leader.
///
/// One mutex: an operation is one or two look-ups in a hash table, far below the work of the
/// statement around it, and grants over several keys stay in one order.
pub struct LockTable {
    table: Arc<Mutex<Table>>,
}

impl LockTable {
    /// An empty table with the given [`ROW_LOCKS_MAX`].
    pub fn new(row_locks_max: usize) -> LockTable {
        LockTable {
            table: Arc::new(Mutex::new(Table::new(row_locks_max))),
        }
    }

    /// Asks for a lock. Re-entrant; a stronger mode than one held already is an upgrade, which
    /// goes before waiters that this transaction blocks. Queues are first come, first served.
    /// Panics if the mode is not one of the key's class.
    pub fn lock(
        &self,
        tx: TxId,
        key: LockKey,
        mode: impl Into<LockMode>,
        policy: Policy,
    ) -> Locked {
        let mode = mode.into();
        assert!(mode.fits(&key), "a mode of the key's class");
        let answer = self.table.lock().lock(tx, key, mode, policy);
        match answer {
            Answer::Granted => Locked::Granted,
            Answer::Queued(id, place, waiter) => Locked::Queued(Ticket {
                id,
                place,
                waiter,
                table: Arc::clone(&self.table),
            }),
            Answer::Busy => Locked::Busy,
            Answer::Deadlock(cycle) => Locked::Deadlock(cycle),
            Answer::Gone => Locked::Gone,
            Answer::TooMany => Locked::TooMany,
        }
    }

    /// Says that `tx` and `session` are the same actor: their locks do not conflict, and a cycle
    /// through both is found. A session's id (from `Group::begin`) holds its session-level
    /// advisory locks. Call it before `tx` waits for anything; ends with `release(tx)`.
    pub fn attach(&self, tx: TxId, session: TxId) {
        self.table.lock().attach(tx, session);
    }

    /// Takes back one `lock` of an advisory key; each is counted. False if it is not held.
    pub fn unlock(&self, tx: TxId, key: &LockKey, mode: impl Into<LockMode>) -> bool {
        let wakes = self.table.lock().unlock(tx, key, mode.into());
        let held = wakes.is_some();
        call(wakes.unwrap_or_default());
        held
    }

    /// Does `tx` hold `key` in `mode` or a stronger one?
    pub fn holds(&self, tx: TxId, key: &LockKey, mode: impl Into<LockMode>) -> bool {
        self.table.lock().holds(tx, key, mode.into())
    }

    /// A savepoint's mark.
    pub fn mark(&self, _tx: TxId) -> Mark {
        self.table.lock().mark()
    }

    /// Releases what `tx` has locked since the mark. Rows merged by escalation stay, and so does
    /// the count of an advisory lock that was taken before the mark and once more after it.
    pub fn release_to(&self, tx: TxId, mark: Mark) {
        let wakes = self.table.lock().release_to(tx, mark);
        call(wakes);
    }

    /// Releases everything of `tx` and leaves all queues.
    pub fn release(&self, tx: TxId) {
        let wakes = self.table.lock().release(tx);
        call(wakes);
    }

    /// Drops all locks but those that are kept; transactions up to `gone` get `Locked::Gone` from now
    /// on. Returns the waiters, to be called when no lock is held.
    #[must_use]
    pub(crate) fn clear(&self, gone: TxId, kept: &[(TxId, Vec<KeptLock>)]) -> Vec<Wake> {
        let mut table = self.table.lock();
        let wakes = table.clear(gone);
        for (holder, locks) in kept {
            locks.iter().for_each(|lock| table.keep(*holder, lock));
        }
        wakes
    }

    /// Who holds anything, in ascending order.
    pub fn holders(&self) -> Vec<TxId> {
        self.table.lock().holders()
    }

    /// What `tx` holds of rows and tables.
    pub fn held(&self, tx: TxId) -> Vec<KeptLock> {
        self.table.lock().held(tx)
    }

    /// Does anybody wait here?
    pub fn is_waited(&self) -> bool {
        self.table.lock().is_waited()
    }

    /// Who waits here for whom, in the actors' ids. A cycle within one table is found by `lock`
    /// itself; this is for those that lead through several.
    pub fn waits(&self) -> Vec<(TxId, TxId)> {
        self.table.lock().all_waits()
    }

    /// Everything held and waited for, ordered by key.
    pub fn list(&self) -> Vec<LockInfo> {
        self.table.lock().list()
    }
}

/// Calls the waiters back, outside of the mutex.
fn call(wakes: Vec<Wake>) {
    wakes.into_iter().for_each(|wake| wake());
}
