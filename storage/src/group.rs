//! One group as its leader and its replicas see it: applied tables, the pending overlay above
//! them, the writer's critical section, and blind apply.
//!
//! ```text
//! floor <= applied <= placed      overlay: (floor, placed]      store: ..= applied
//! ```

use std::ops::Bound;

use crate::payload::Payload;
use bytes::Bytes;
use journal::{GroupId, Index, Position, Term};

use crate::{
    Change, Direction, Event, LockTable, Meta, PartHeader, PartSource, RaftState, Result, Scan,
    TxId,
};

/// A range of keys.
pub type Range = (Bound<Bytes>, Bound<Bytes>);

/// Wait until [`Group::when`] of this position has an outcome, then ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait(pub Position);

/// What became of everything up to a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Committed and applied.
    Applied,
    /// Never committed (40001).
    Lost,
    /// Can't be known here (08007).
    Unknown,
}

/// What became of a transaction, for `pg_xact_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxStatus {
    /// Proposed, not yet applied.
    InProgress,
    /// Committed at the position.
    Committed(Position),
}

/// What apply did with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its effects are visible.
    Applied(Position),
    /// It does not continue the chain: nothing happened, its client has failed.
    Broken(Position),
}

/// A finished transaction, to be given its place in the log.
pub struct Commit {
    /// From [`Group::begin`].
    pub txid: TxId,
    /// The term in which it began.
    pub epoch: Term,
    /// Who asked for it.
    pub meta: Meta,
    /// The rows.
    pub changes: Changes,
    /// What happened, in order of `seq`.
    pub events: Vec<Event>,
    /// Trees that are gone as of this entry.
    pub dropped_trees: Vec<u32>,
    /// What must be shown before this entry is, of other groups.
    pub deps: Vec<(GroupId, Position)>,
    /// What must still hold.
    pub checks: Vec<Check>,
    /// Remember the outcome for `pg_xact_status`.
    pub record_outcome: bool,
}

/// Something that the transaction has seen and that must still hold when it gets its place.
/// Where the overlay no longer reaches back to `seen` (a very old transaction), a lock that the
/// transaction holds on the key counts as proof; without one it is refused (40001).
#[derive(Clone, Debug)]
pub enum Check {
    /// Nobody has written the key after `seen`.
    Key {
        /// The tree.
        tree: u32,
        /// The key.
        key: Bytes,
        /// Where it was read.
        seen: Position,
    },
    /// Nobody has written any key of the range after `seen`.
    Range {
        /// The tree.
        tree: u32,
        /// The keys.
        range: Range,
        /// Where it was read.
        seen: Position,
    },
    /// The key exists (a reference). It may have been written, but not removed.
    Present {
        /// The tree.
        tree: u32,
        /// The key.
        key: Bytes,
        /// Where it was seen.
        seen: Position,
    },
    /// The key does not exist (uniqueness).
    Absent {
        /// The tree.
        tree: u32,
        /// The key.
        key: Bytes,
        /// Where it was not seen.
        seen: Position,
    },
}

/// The rows of a transaction.
pub enum Changes {
    /// In memory, at most one per row. Above 1 MiB it is journaled in parts all the same.
    Small(Vec<Change>),
    /// Spooled.
    Large(Box<dyn LargeChanges>),
}

/// The changes of a spooled transaction.
pub trait LargeChanges: Send {
    /// The next change; seq and keys ascend. An index key appears at most once over all changes
    /// (where one row gives it up and another takes it, only the put is there).
    fn next(&mut self) -> Result<Option<Change>>;

    /// All trees that are written, those of indexes included.
    fn trees(&self) -> Vec<u32>;
}

/// Why a transaction got no place. Nothing was written, its locks are still held.
#[derive(Debug)]
pub enum Refused {
    /// What it relied on has changed (40001); the text says what.
    Serialization(String),
    /// The term in which it began is over (40001).
    NotLeader,
    /// Larger than [`TRANSACTION_BYTES_MAX`] (54000).
    TooLarge,
    /// The table store or the spool failed.
    Storage(crate::Error),
}

/// The greatest size of a transaction in the journal: 1 GiB.
pub const TRANSACTION_BYTES_MAX: u64 = 1 << 30;

/// Names a waiter of [`Group::when`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaiterId(u64);

/// Holds a position readable: the store's horizon and the overlay's floor stay at or below it.
pub struct Pin {
    at: Position,
}

impl Pin {
    /// The position.
    pub fn position(&self) -> Position {
        self.at
    }
}

/// One group of this node.
pub struct Group {}

impl Group {
    /// Its number.
    pub fn id(&self) -> GroupId {
        todo!()
    }

    /// Committed and applied: read-only statements read here and never wait. Zero until the
    /// journal is replayed as far as the tables' files reach (see [`Group::ready`]).
    pub fn applied(&self) -> Position {
        todo!()
    }

    /// Is the replay far enough that reads are right?
    pub fn ready(&self) -> bool {
        todo!()
    }

    /// The newest placed entry, pending ones included: read-write statements read here. Errors:
    /// wait while a large entry or one that changes the catalog is placed and not applied, while
    /// too much is pending, and while the chain is being mended after a refusal.
    pub fn newest(&self) -> std::result::Result<Position, Wait> {
        todo!()
    }

    /// The term, while this node leads the group.
    pub fn term(&self) -> Option<Term> {
        todo!()
    }

    /// The newest value of `key` at or below `at`. Errors: `NotReached`, `TooOld`.
    pub fn get(&self, _tree: u32, _key: &[u8], _at: Position) -> Result<Option<Bytes>> {
        todo!()
    }

    /// The keys of a range as of `at`, lazily. Errors: `NotReached`, `TooOld`.
    pub fn scan(
        &self,
        _tree: u32,
        _range: Range,
        _at: Position,
        _direction: Direction,
    ) -> Result<Scan> {
        todo!()
    }

    /// Has anyone written `key` after `since`, pending entries included? `None` if the overlay
    /// does not reach back that far.
    pub fn written_since(&self, _tree: u32, _key: &[u8], _since: Position) -> Option<bool> {
        todo!()
    }

    /// Holds `at` readable until the pin is dropped.
    pub fn pin(&self, _at: Position) -> Pin {
        todo!()
    }

    /// [`Group::newest`] and [`Group::pin`] in one step, so that nothing is evicted in between.
    pub fn pin_newest(&self) -> std::result::Result<Pin, Wait> {
        todo!()
    }

    /// [`Group::applied`] and [`Group::pin`] in one step.
    pub fn pin_applied(&self) -> Pin {
        todo!()
    }

    /// A new transaction id. Never waits.
    pub fn begin(&self) -> TxId {
        todo!()
    }

    /// Can this transaction still commit, as far as leadership goes? False after `step_down` and
    /// after a refused proposal.
    pub fn alive(&self, _txid: TxId) -> bool {
        todo!()
    }

    /// The locks of its transactions.
    pub fn locks(&self) -> &LockTable {
        todo!()
    }

    /// The writer's critical section: checks, stamps the position, puts the changes into the
    /// overlay, hands the entry to [`Propose`](crate::Propose) in order, releases the
    /// transaction's locks. Never waits for a disk, but for `Changes::Large` (and above 1 MiB)
    /// it waits until the parts are committed: call it from a thread that may block.
    pub fn commit(&self, _commit: Commit) -> std::result::Result<Position, Refused> {
        todo!()
    }

    /// Calls `done` once the outcome of everything up to `position` is known, at once if it is
    /// already (then `None`). A position that is still to come is waited for.
    pub fn when(
        &self,
        _position: Position,
        _done: Box<dyn FnOnce(Outcome) + Send>,
    ) -> Option<WaiterId> {
        todo!()
    }

    /// Drops a waiter whose caller has given up.
    pub fn forget(&self, _waiter: WaiterId) {
        todo!()
    }

    /// Proposes a tiny entry stamped with the clock, which closes the group up to there. Does
    /// nothing if this node does not lead. The caller limits the rate.
    pub fn close(&self) {
        todo!()
    }

    /// What became of a transaction that committed with `record_outcome`; `None` if it is not
    /// known (aborted, open, not recorded or older than 24 hours).
    pub fn outcome(&self, _txid: TxId) -> Result<Option<TxStatus>> {
        todo!()
    }

    /// Raft: this node leads in `term` and has applied every entry before it. Positions begin
    /// above `last`: the greatest of its log, committed or not.
    pub fn lead(&self, _term: Term, _last: Position) {
        todo!()
    }

    /// Raft: this node leads no more. Overlay and locks are dropped, open transactions fail
    /// (40001). What is pending stays in doubt: its waiters are called as the log decides, or
    /// with `Unknown` by [`Group::give_up`].
    pub fn step_down(&self) {
        todo!()
    }

    /// Raft: what is in doubt can't be found out in time; its waiters get `Unknown` (08007).
    pub fn give_up(&self) {
        todo!()
    }

    /// Raft: these entries were refused and are certainly not in the log. Commits are refused
    /// until nothing is in flight, then the overlay is dropped and the chain begins again from
    /// the applied state.
    pub fn refused(&self, _positions: &[Position]) {
        todo!()
    }

    /// Raft: a part of this transaction was refused.
    pub fn part_refused(&self, _txid: TxId) {
        todo!()
    }

    /// Raft: a committed record of kind `Entry`, in log order. Blind: checks only the chain.
    /// The whole entry becomes visible at once.
    pub fn apply(
        &self,
        _term: Term,
        _index: Index,
        _payload: &Payload,
        _parts: &mut dyn PartSource,
    ) -> Result<Verdict> {
        todo!()
    }

    /// Raft: a committed record of kind `Part`. Nothing becomes visible.
    pub fn apply_part(&self, _term: Term, _index: Index, _payload: &Payload) -> Result<PartHeader> {
        todo!()
    }

    /// Raft: a committed record of its own (blank, membership). `state`, if given, replaces what
    /// a checkpoint keeps for Raft.
    pub fn apply_raft(&self, _term: Term, _index: Index, _state: Option<RaftState>) {
        todo!()
    }

    /// How far the log is applied, and what Raft keeps with it: after a restart the state of the
    /// last checkpoint, from which the journal is replayed.
    pub fn applied_log(&self) -> (crate::Applied, RaftState) {
        todo!()
    }

    /// The first index that a large transaction in progress still needs from the journal.
    pub fn parts_floor(&self) -> Option<Index> {
        todo!()
    }

    /// Lets the store forget versions that only reads below `wanted` need, as far as pins allow.
    /// Returns the horizon. Call it regularly.
    pub fn raise_horizon(&self, _wanted: Position) -> Position {
        todo!()
    }
}
