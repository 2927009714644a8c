//! One group as its leader and its replicas see it: applied tables, the pending overlay above
//! them, the writer's critical section, and blind apply.
//!
//! ```text
//! floor <= applied <= placed      overlay: (floor, placed]      store: ..= applied
//! ```
//!
//! Locks, outermost first: apply (`log`), publish | writer, overlay | pins, overlay; innermost
//! `progress`, which nobody holds for longer than a copy takes. Waiters and
//! observers of published positions are called with none of them held.

mod history;
mod key;
mod large;
mod log;
mod overlay;
mod queue;
mod replace;
mod shared;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use journal::{GroupId, Index, Payload, Position, Term};
use parking_lot::{Condvar, Mutex, RwLock};

use self::overlay::Since;
use self::queue::Writer;
use self::shared::Shared;
use crate::erase::{Counting, Erasing, Streams};
use crate::follow::Follower;
use crate::ids::TxIds;
use crate::meta;
use crate::publish::{self, Publish};
use crate::{
    Applied, Change, Clock, Direction, Event, LockTable, Observer, PartHeader, PartSource, Propose,
    ROW_LOCKS_MAX, RaftState, Result, Scan, TableStore, TxId, system,
};

pub use large::PART_BYTES_MAX;
use log::Progress;
pub(crate) use log::{LogState, OpenParts};
pub(crate) use overlay::TreeWrite;
pub(crate) use shared::AtomicPosition;
pub use shared::Pin;
pub use verify::Sums;

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
    /// The record was applied before.
    Repeated,
}

/// A finished transaction, to be given its place in the log.
pub struct Commit {
    /// From [`Group::begin`].
    pub txid: TxId,
    /// The term in which it began.
    pub epoch: Term,
    /// The transaction's first snapshot, from [`Group::newest`]. It tells whether what the
    /// transaction has read still stands; an older era's is refused.
    pub base: Position,
    /// Who asked for it.
    pub meta: crate::Meta,
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
    /// The locks of `txid` stay when the entry has its place.
    pub keeps_locks: bool,
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
    /// What one record of the log must hold is larger than that, in bytes (54000): a row before
    /// and after its change, or all events and changes of the catalog of a transaction.
    RecordTooLarge(usize),
    /// The table store or the spool failed.
    Storage(crate::Error),
}

/// An idle group is closed on demand at most once in this time.
pub const CLOSE_PAUSE_MICROS: u64 = 100_000;

/// The greatest size of a transaction in the journal: 1 GiB.
pub const TRANSACTION_BYTES_MAX: u64 = 1 << 30;

/// Names a waiter of [`Group::when`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaiterId(Position, u64);

/// One group of this node.
pub struct Group {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    propose: Arc<dyn Propose>,
    observer: Option<Arc<dyn Observer>>,
    publish: Arc<Publish>,
    locks: LockTable,
    writer: Mutex<Writer>,
    /// Parts of large transactions were applied or refused.
    parts_moved: Condvar,
    /// The leader's term plus one, 0 while another node leads.
    term: AtomicU64,
    ids: Arc<TxIds>,
    /// The greatest id that has entered.
    entered: AtomicU64,
    /// Changed under the apply lock.
    keeps: Mutex<history::Keeps>,
    log: Mutex<LogState>,
    /// What others want to know of it at once: a snapshot is installed under the apply lock.
    progress: Mutex<Progress>,
    /// The last applied entry, visible or not.
    chain: AtomicPosition,
    ready: AtomicBool,
    /// The first part that the last checkpoint still needs, plus one; 0: none.
    parts_kept: AtomicU64,
    /// Committed entries that had no effect.
    broken: RwLock<BTreeSet<Position>>,
    /// This node's replica is the only voter.
    sole: AtomicBool,
    /// When the group was last closed on demand, in microseconds since 1970.
    closing: AtomicU64,
    /// The last entry that is more than a closing.
    content: AtomicPosition,
    /// Kept by another node's feed, not by Raft.
    pub(crate) follower: Option<Follower>,
    /// Nothing is read before so much is shown; zero once it is.
    since: AtomicPosition,
    /// Another one was here before it.
    succeeds: bool,
    /// It has left this node.
    gone: AtomicBool,
    /// What is to be erased. Innermost, too.
    pub(crate) erasing: Mutex<Erasing>,
    pub(crate) streams: Streams,
    pub(crate) counting: Counting,
}

/// What a group is made of, from the registry.
pub(crate) struct Parts {
    pub id: GroupId,
    pub store: Arc<dyn TableStore>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<TxIds>,
    pub propose: Arc<dyn Propose>,
    pub observer: Option<Arc<dyn Observer>>,
    pub publish: Arc<Publish>,
    pub follower: Option<Follower>,
    /// What this node has shown of the group before it was opened like this, if it was here.
    pub since: Option<Position>,
}

impl Group {
    /// The group as a checkpoint left it.
    pub(crate) fn open(parts: Parts, applied: Applied, meta: meta::Meta) -> Result<Group> {
        let Parts {
            id,
            store,
            clock,
            ids,
            propose,
            observer,
            publish,
            follower,
            since,
        } = parts;
        let visible: Arc<AtomicPosition> = Arc::default();
        // What was shown before the restart and can't be yet must not look as if it were not there.
        let hidden = match meta.blocked.front() {
            Some((first, _)) if meta.shown == Position::ZERO => *first,
            Some(_) | None => Position::ZERO,
        };
        let shown = publish::State {
            shown: meta.shown,
            blocked: meta.blocked,
            rests: meta.rests,
        };
        // Nothing of a copy has come until its mark has.
        let joins = follower.is_some() && meta.raft.is_empty();
        publish.add(id, Arc::clone(&visible), shown, joins);
        let top = meta.top.max(applied.position);
        ids.raise(top);
        let log = LogState {
            applied,
            top,
            raft: meta.raft,
            parts: meta.parts,
            drops: [].into(),
            sums: meta.sums,
            ended: false,
        };
        let group = Group {
            shared: Arc::new(Shared::new(id, store, visible)),
            clock,
            propose,
            observer,
            publish,
            locks: LockTable::new(ROW_LOCKS_MAX),
            writer: Mutex::new(Writer::above(top)),
            parts_moved: Condvar::new(),
            term: AtomicU64::new(0),
            ids,
            entered: AtomicU64::new(0),
            keeps: Mutex::default(),
            progress: Mutex::new(log.progress()),
            log: Mutex::new(log),
            chain: AtomicPosition::default(),
            gone: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            parts_kept: AtomicU64::new(0),
            broken: RwLock::new(meta.broken),
            sole: AtomicBool::new(false),
            closing: AtomicU64::new(0),
            content: AtomicPosition::default(),
            since: AtomicPosition::default(),
            succeeds: since.is_some(),
            follower,
            erasing: Mutex::default(),
            streams: Streams::default(),
            counting: Counting::default(),
        };
        // Below it a copy can't be read, and what is shown of it may lie there.
        let horizon = match &group.follower {
            Some(_) => group.shared.store.horizon(id),
            None => Position::ZERO,
        };
        let since = since.unwrap_or_default();
        group.since.set(since.max(horizon).max(hidden));
        group.chain.set(applied.position);
        group.content.set(applied.position);
        group.keep_parts(group.parts_open());
        if group.check_ready(applied.position)? {
            group.shared.applied.set(applied.position);
            group.shared.placed.set(applied.position);
        }
        Ok(group)
    }

    /// Is the log applied as far as the tables' files reach? On the way there, trees that were
    /// dropped before the restart and not yet removed are removed.
    fn check_ready(&self, position: Position) -> Result<bool> {
        if self.ready.load(Ordering::Acquire) {
            return Ok(true);
        }
        if position < self.shared.store.persisted(self.shared.id) {
            return Ok(false);
        }
        if position == Position::ZERO {
            // It is empty; what the node had of it before may not even be readable there.
            self.ready.store(true, Ordering::Release);
            return Ok(true);
        }
        let dropped = self.shared.tree(system::DROPPED_TREES);
        let all = (Bound::Unbounded, Bound::Unbounded);
        for row in self
            .shared
            .store
            .scan(dropped, all, position, Direction::Forward)?
        {
            if let Ok(tree) = <[u8; 4]>::try_from(&*row?.0) {
                self.shared
                    .store
                    .drop_tree(self.shared.tree(u32::from_be_bytes(tree)))?;
            }
        }
        self.load_keeps(position)?;
        self.ready.store(true, Ordering::Release);
        Ok(true)
    }

    /// Its number.
    pub fn id(&self) -> GroupId {
        self.shared.id
    }

    /// Committed and applied: read-only statements read here and never wait. Zero until the
    /// journal is replayed as far as the tables' files reach (see [`Group::ready`]).
    pub fn applied(&self) -> Position {
        self.shared.applied.get()
    }

    /// The last applied entry that says more than that the group is closed. Never below it: of
    /// what was there before a start or came as a whole, it is the last one.
    pub fn content(&self) -> Position {
        self.content.get().min(self.applied())
    }

    /// Is the replay far enough that reads are right?
    pub fn ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Has it left this node? Nothing that is read of it is right.
    pub fn has_ended(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    /// Did it take the place of another one that has left this node since the start?
    pub fn succeeds(&self) -> bool {
        self.succeeds
    }

    /// The newest placed entry, pending ones included: read-write statements read here. Where
    /// this node does not lead: `applied`. Errors: wait while a large entry or one that changes
    /// the catalog is placed and not applied, while too much is pending, and while the chain is
    /// being mended after a refusal.
    pub fn newest(&self) -> Result<Position, Wait> {
        let placed = self.shared.placed.get();
        if self.shared.slow.load(Ordering::Acquire) {
            self.newest_slow()
        } else {
            Ok(placed)
        }
    }

    /// The term, while this node leads the group.
    pub fn term(&self) -> Option<Term> {
        self.term.load(Ordering::Acquire).checked_sub(1).map(Term)
    }

    /// The newest value of `key` at or below `at`. Errors: `NotReached`, `TooOld`.
    pub fn get(&self, tree: u32, key: &[u8], at: Position) -> Result<Option<Bytes>> {
        self.shared.get(tree, key, at)
    }

    /// The keys of a range as of `at`, lazily. Errors: `NotReached`, `TooOld`.
    pub fn scan(
        &self,
        tree: u32,
        range: Range,
        at: Position,
        direction: Direction,
    ) -> Result<Scan> {
        self.shared.scan(tree, range, at, direction)
    }

    /// Has anyone written `key` after `since`, pending entries included? `None` if the overlay
    /// does not know (any more).
    pub fn written_since(&self, tree: u32, key: &[u8], since: Position) -> Option<bool> {
        match self.shared.overlay.read().since(tree, key, since) {
            Since::Unwritten => Some(false),
            Since::Written { .. } => Some(true),
            Since::Unknown => None,
        }
    }

    /// Holds `at` readable until the pin is dropped.
    pub fn pin(&self, at: Position) -> Pin {
        self.shared.pin(at)
    }

    /// [`Group::newest`] and [`Group::pin`] in one step, so that nothing is evicted in between.
    pub fn pin_newest(&self) -> Result<Pin, Wait> {
        // A second try is needed only if much was committed between the two steps.
        const TRIES: usize = 3;
        for _ in 0..TRIES {
            let pin = self.pin(self.newest()?);
            if self.shared.overlay.read().floor() <= pin.position() {
                return Ok(pin);
            }
        }
        Ok(self.pin(self.newest()?))
    }

    /// [`Group::applied`] and [`Group::pin`].
    pub fn pin_applied(&self) -> Pin {
        self.pin(self.applied())
    }

    /// A new transaction id, unlike any other of this node, for a transaction of this group.
    /// Never waits.
    pub fn begin(&self) -> TxId {
        let txid = self.ids.next();
        self.enter(txid);
        txid
    }

    /// A transaction that has its id already will lock and write here, too: it ends with this
    /// group's era.
    pub fn enter(&self, txid: TxId) {
        self.entered.fetch_max(txid.0, Ordering::AcqRel);
    }

    /// Does what was read at `base`, a position from [`Group::newest`], still stand as far as
    /// leadership goes? False after `step_down` and after a refused proposal.
    pub fn alive(&self, base: Position) -> bool {
        self.is_alive(base)
    }

    /// The locks of its transactions.
    pub fn locks(&self) -> &LockTable {
        &self.locks
    }

    /// The writer's critical section: checks, stamps the position, puts the changes into the
    /// overlay, hands the entry to [`Propose`](crate::Propose) in order, releases the
    /// transaction's locks. Never waits for a disk, but for `Changes::Large` (and above
    /// [`PART_BYTES_MAX`]) it waits until the parts are committed: call it from a thread that
    /// may block. Changes of system trees always go into the entry itself.
    pub fn commit(&self, commit: Commit) -> Result<Position, Refused> {
        self.commit_changes(commit)
    }

    /// Calls `done` once the outcome of everything up to `position` is known, at once if it is
    /// already (then `None`). A position that is still to come is waited for.
    pub fn when(
        &self,
        position: Position,
        done: Box<dyn FnOnce(Outcome) + Send>,
    ) -> Option<WaiterId> {
        let mut writer = self.writer.lock();
        let outcome = if writer.is_lost(position) {
            Outcome::Lost
        } else if writer.is_unknown(position) {
            Outcome::Unknown
        } else if position <= self.shared.applied.get() && !writer.holds(position) {
            Outcome::Applied
        } else if writer.is_given_up(position) {
            Outcome::Unknown
        } else {
            return Some(writer.wait(position, done));
        };
        drop(writer);
        done(outcome);
        None
    }

    /// Drops a waiter whose caller has given up.
    pub fn forget(&self, waiter: WaiterId) {
        self.writer.lock().forget(waiter);
    }

    /// Proposes a tiny entry stamped with the clock, which closes the group up to there. Does
    /// nothing if this node does not lead. The caller limits the rate.
    pub fn close(&self) {
        self.close_above();
    }

    /// [`Group::close`], for who must know when it is applied: its position. It is above all
    /// that was promised before. `None` if this node does not lead, or is mending the chain.
    pub fn close_above(&self) -> Option<Position> {
        let placed = self.place_close(&mut self.writer.lock());
        if placed.is_some() {
            self.propose.placed(self.shared.id);
        }
        placed
    }

    /// Someone waits until the group is closed beyond what is applied: the leader, here or
    /// elsewhere, places an entry that says so, at most one in [`CLOSE_PAUSE_MICROS`].
    pub fn close_wanted(&self) {
        let now = self.clock.unix_micros();
        let last = self.closing.load(Ordering::Acquire);
        if now.abs_diff(last) < CLOSE_PAUSE_MICROS {
            return;
        }
        let mine = self
            .closing
            .compare_exchange(last, now, Ordering::AcqRel, Ordering::Acquire);
        if mine.is_err() {
            return;
        }
        if let Some(follower) = &self.follower {
            (follower.ask_close)();
        } else if self.term().is_some() {
            self.close();
        } else {
            self.propose.ask_close(self.shared.id);
        }
    }

    /// What became of a transaction that committed with `record_outcome`; `None` if it is not
    /// known (aborted, open, not recorded or older than 24 hours).
    pub fn outcome(&self, txid: TxId) -> Result<Option<TxStatus>> {
        if self
            .writer
            .lock()
            .pending
            .iter()
            .any(|entry| entry.txid == txid)
        {
            return Ok(Some(TxStatus::InProgress));
        }
        let row = self.get(system::OUTCOMES, &txid.0.to_be_bytes(), self.applied())?;
        let position = row.and_then(|row| <[u8; 8]>::try_from(&*row).ok());
        // What it has decided waits, with its locks.
        let kept = crate::locks::kept_locks_key(txid, 0);
        if position.is_none() && self.get(system::LOCKS, &kept, self.applied())?.is_some() {
            return Ok(Some(TxStatus::InProgress));
        }
        Ok(position.map(|bytes| TxStatus::Committed(Position(u64::from_be_bytes(bytes)))))
    }

    /// Commits the removal of recorded outcomes of transactions before `before`, at most
    /// [`OUTCOMES_REMOVED_MAX`]. Returns how many. Call it regularly, with [`outcomes_kept`].
    pub fn remove_outcomes(&self, before: TxId) -> Result<usize, Refused> {
        let (Some(epoch), Ok(base)) = (self.term(), self.newest()) else {
            return Ok(0);
        };
        let end = Bytes::copy_from_slice(&before.0.to_be_bytes());
        let range = (Bound::Unbounded, Bound::Excluded(end));
        let at = self.applied();
        let rows = self
            .scan(system::OUTCOMES, range, at, Direction::Forward)
            .and_then(|rows| rows.take(OUTCOMES_REMOVED_MAX).collect::<Result<Vec<_>>>())
            .map_err(Refused::Storage)?;
        if rows.is_empty() {
            return Ok(0);
        }
        let change = |(seq, (key, old))| Change {
            seq,
            tree: system::OUTCOMES,
            key,
            old: Some(old),
            ..Change::default()
        };
        let changes: Vec<Change> = (0..).zip(rows).map(change).collect();
        let count = changes.len();
        self.commit(Commit {
            txid: self.begin(),
            epoch,
            base,
            meta: crate::Meta::default(),
            changes: Changes::Small(changes),
            events: Vec::new(),
            dropped_trees: Vec::new(),
            deps: Vec::new(),
            checks: Vec::new(),
            record_outcome: false,
            keeps_locks: false,
        })?;
        Ok(count)
    }

    /// Raft: this node leads in `term` and has applied every entry before it. Positions begin
    /// above `last`: the greatest of its log, committed or not.
    pub fn lead(&self, term: Term, last: Position) {
        let last = last.max(self.log.lock().top);
        let calls = self.take_over(term, last);
        self.term.store(term.0 + 1, Ordering::Release);
        calls.call();
    }

    /// Raft: this node leads no more. Overlay and locks are dropped, open transactions fail
    /// (40001). What is pending stays in doubt: its waiters are called as the log decides, or
    /// with `Unknown` by [`Group::give_up`].
    pub fn step_down(&self) {
        self.term.store(0, Ordering::Release);
        self.retire().call();
    }

    /// Raft: what is in doubt can't be found out in time; its waiters get `Unknown` (08007).
    pub fn give_up(&self) {
        self.abandon().call();
    }

    /// Raft: these entries were refused and are certainly not in the log. Commits are refused
    /// until nothing is in flight, then the overlay is dropped and the chain begins again from
    /// the applied state.
    pub fn refused(&self, positions: &[Position]) {
        self.refuse(positions).call();
    }

    /// Raft: a part of this transaction was refused.
    pub fn part_refused(&self, txid: TxId) {
        if let Some(parts) = self.writer.lock().parts.get_mut(&txid) {
            parts.refused = true;
        }
        self.parts_moved.notify_all();
    }

    /// Raft: a committed record of kind `Entry`, in log order. Blind: checks only the chain.
    /// The whole entry becomes visible at once.
    pub fn apply(
        &self,
        term: Term,
        index: Index,
        payload: &Payload,
        parts: &mut dyn PartSource,
    ) -> Result<Verdict> {
        self.apply_entry(term, index, payload, parts)
    }

    /// Raft: a committed record of kind `Part`. Nothing becomes visible.
    pub fn apply_part(&self, term: Term, index: Index, payload: &Payload) -> Result<PartHeader> {
        self.apply_part_record(term, index, payload)
    }

    /// Raft: a committed record of its own (blank, membership). `state`, if given, replaces what
    /// a checkpoint keeps for Raft.
    pub fn apply_raft(&self, term: Term, index: Index, state: Option<RaftState>) {
        self.apply_raft_record(term, index, state);
    }

    /// How far the log is applied, and what Raft keeps with it: after a restart the state of the
    /// last checkpoint, from which the journal is replayed.
    /// Never waits, not even for a snapshot that is being installed.
    pub fn applied_log(&self) -> (Applied, RaftState) {
        let progress = self.progress.lock();
        (progress.applied, progress.raft.clone())
    }

    /// The first index from which the journal must keep the parts of large transactions in
    /// progress, even below the checkpoint.
    pub fn parts_floor(&self) -> Option<Index> {
        self.parts_kept().into_iter().chain(self.parts_open()).min()
    }

    /// Are there parts whose entry has not come?
    pub fn has_open_parts(&self) -> bool {
        !self.log.lock().parts.is_empty()
    }

    /// The first part that the last checkpoint needs.
    pub(crate) fn parts_kept(&self) -> Option<Index> {
        self.parts_kept
            .load(Ordering::Acquire)
            .checked_sub(1)
            .map(Index)
    }

    fn parts_open(&self) -> Option<Index> {
        self.progress.lock().parts
    }

    /// The log has moved: whoever changes how far it is applied, what Raft keeps with it or which
    /// parts are open says so, before anybody is told of what was applied.
    pub(crate) fn note_progress(&self, state: &LogState) {
        *self.progress.lock() = state.progress();
    }

    /// Lets the store forget versions that only reads below `wanted` need, as far as pins allow (of
    /// trees that keep their history: as long before `wanted` as they keep it), and removes trees that were dropped before. Returns the horizon. Call it regularly, with
    /// some distance to `applied` for reads without a pin. It waits for a snapshot that is being
    /// installed: call it from a thread that may block.
    pub fn raise_horizon(&self, wanted: Position) -> Result<Position> {
        let wanted = wanted.min(self.most_old());
        let state = self.lock_log();
        if self.check_alive(&state).is_err() {
            // What the store knows of a group that has ended is another one's.
            return Ok(wanted);
        }
        let horizon = self.shared.raise_horizon(wanted, &self.keeps.lock())?;
        drop(state);
        self.drop_trees(horizon)?;
        Ok(horizon)
    }

    /// How far the horizon may go: what is shown stays readable, however long it waits for other
    /// groups.
    pub(crate) fn most_old(&self) -> Position {
        match self.publish.shown(self.shared.id) {
            Position::ZERO => Position::MAX,
            shown => shown,
        }
    }

    /// Was this committed entry found off the chain, so that it had no effect?
    pub fn broken(&self, position: Position) -> bool {
        self.broken.read().contains(&position)
    }

    /// Raft: is this node's replica the only voter?
    pub fn set_sole(&self, sole: bool) {
        self.sole.store(sole, Ordering::Release);
    }

    /// Is this node's replica the only one?
    pub fn is_sole(&self) -> bool {
        self.sole.load(Ordering::Acquire)
    }

    /// How far, at most `upto`, no entry can come any more.
    ///
    /// A leader that is the only voter promises it in memory. `upto` must be durable in this
    /// node's journal (of whatever group): after a restart positions begin above the whole
    /// journal, so the promise holds then, too. Other replicas know only what is applied.
    pub fn close_up_to(&self, upto: Position) -> Position {
        let applied = self.applied();
        if applied >= upto || !self.sole.load(Ordering::Acquire) {
            return applied;
        }
        self.promise(upto).max(applied)
    }

    pub(crate) fn tree_id(&self, number: u32) -> crate::TreeId {
        self.shared.tree(number)
    }

    pub(crate) fn store(&self) -> &Arc<dyn TableStore> {
        &self.shared.store
    }

    /// Is so much shown as was shown here before, or as a copy contains that was installed?
    pub(crate) fn is_shown_since(&self) -> bool {
        let since = self.since.get();
        if since == Position::ZERO {
            return true;
        }
        let shown = self.publish.cut(&[self.shared.id]);
        let reached = shown.iter().any(|(_, shown)| *shown >= since);
        if reached {
            self.since.forget(since);
        }
        reached
    }

    /// The apply lock, for a checkpoint.
    pub(crate) fn lock_log(&self) -> parking_lot::MutexGuard<'_, LogState> {
        self.log.lock()
    }

    /// What a checkpoint keeps of this group, under its apply lock.
    pub(crate) fn meta(&self, state: &LogState) -> meta::Meta {
        let publish::State {
            shown,
            blocked,
            rests,
        } = self.publish.state(self.shared.id);
        let (top, parts, raft) = (state.top, state.parts.clone(), state.raft.clone());
        let sums = state.sums.clone();
        let broken = self.broken.read().clone();
        meta::Meta {
            broken,
            top,
            shown,
            blocked,
            parts,
            sums,
            rests,
            raft,
        }
    }

    /// The last checkpoint needs the parts from here on.
    pub(crate) fn keep_parts(&self, first: Option<Index>) {
        self.parts_kept
            .store(first.map_or(0, |index| index.0 + 1), Ordering::Release);
    }
}

/// Outcomes are kept for 24 hours.
const OUTCOMES_KEPT_MICROS: u64 = 24 * 60 * 60 * 1_000_000;

/// The first transaction id whose outcome is kept at a time, in microseconds since 1970. Ids grow
/// with the time at which their transactions began.
pub fn outcomes_kept(unix_micros: u64) -> TxId {
    let since = unix_micros.saturating_sub(OUTCOMES_KEPT_MICROS);
    TxId(Position::from_unix_micros(since).0)
}

/// Outcomes removed by one entry of [`Group::remove_outcomes`].
pub const OUTCOMES_REMOVED_MAX: usize = 1000;
