//! Transactions: snapshots, own writes, savepoints, locks and commit, over storage's groups.
//! Executors read and write only through [`Transaction`].
//!
//! Invariants: a transaction writes one group; what it has read of pending entries it waits for
//! before it ends; nothing here blocks a thread, reads a clock or draws a random number.

mod also;
mod as_of;
mod commit;
mod held;
mod hidden;
mod kept;
mod locks;
mod modes;
mod noted;
mod proof;
mod reads;
mod scan;
mod side;
mod snapshot;
mod stop;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

pub use crate::session::signal::Signal;
use bytes::Bytes;
pub use commit::{Committed, Identity};
pub(crate) use kept::{Kept, read_changes, rows_of};
pub(crate) use locks::deadlock;
pub use modes::{Isolation, Locked, Policy, RowMode, TableMode};
pub(crate) use proof::{Answered, Barriers, Proven, Questions};
pub use side::{Allocations, Granted};
pub use snapshot::Snapshot;
pub(crate) use snapshot::readable;
pub use stop::{Stop, Wait};
use storage::{Direction, Group, GroupId, Position, Term, TxId};
pub use storage::{EventKind, IndexWrite};

use crate::catalog::{Catalog, Change, RoleId, SchemaId, TableId};
use crate::engine::{self, Engine};
use crate::integrity::{Intents, IntentsMark, References, Wished};
use crate::moving::Moved;
use crate::outbox::Outgoing;
use crate::{Error, remote, state};

/// Bytes of one transaction's events: they are in memory until the commit, and no log takes more
/// than this as one record (`Refused::RecordTooLarge` says so of a log that takes less).
pub(crate) const EVENTS_BYTES_MAX: u64 = 64 << 20;
/// What an event costs beside its name and payload.
const EVENT_OVERHEAD: usize = 96;
/// What a row that an event is about costs beside its key.
const ROW_OVERHEAD: usize = 40;

/// Keys and values in key order; owns what it needs.
pub type RowScan = Box<dyn Iterator<Item = Result<(Bytes, Bytes), Stop>> + Send>;

/// A range of keys.
pub type Range = (Bound<Bytes>, Bound<Bytes>);

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

/// This transaction as one group's lock table and writer know it.
#[derive(Clone)]
struct Member {
    group: Arc<Group>,
    txid: TxId,
    epoch: Term,
    /// The newest position when it first locked a row or wrote: tells whether its era lasts.
    base: Option<Position>,
}

/// A named savepoint.
struct Savepoint {
    name: String,
    mark: Mark,
}

/// Everything that a savepoint goes back to.
#[derive(Clone)]
pub struct Mark {
    writes: writes::Mark,
    events: usize,
    sent: usize,
    intents: IntentsMark,
    dropped: usize,
    changes: usize,
    locks: BTreeMap<GroupId, storage::Mark>,
    writing: Option<GroupId>,
}

/// One open transaction.
pub struct Transaction {
    engine: Arc<Engine>,
    isolation: Isolation,
    read_only: bool,
    deferrable: bool,
    /// In a BEGIN block: further statements may follow.
    block: bool,
    /// The applied catalog that `catalog` is made of.
    base_catalog: Arc<Catalog>,
    /// The catalog of the current statement, own DDL included.
    catalog: Arc<Catalog>,
    /// Own DDL, in order.
    changes: Vec<Change>,
    /// Positions of the current statement, or of the whole transaction.
    snapshot: Snapshot,
    /// Its id, in every group.
    txid: Option<TxId>,
    /// Where this transaction is known to lock tables, by group.
    members: BTreeMap<GroupId, Member>,
    /// Locks of tables, by their trees, that were found to be in the newest catalog under that lock.
    described: BTreeSet<(GroupId, u32, TableMode)>,
    /// The one group that is written.
    writing: Option<GroupId>,
    writes: writes::Writes,
    reads: reads::Reads,
    /// It has locked more than tables against being dropped, written, or told its id: it can't be
    /// begun again unnoticed.
    touched: bool,
    /// See [`Transaction::act`].
    acted: bool,
    unproven: proof::Unproven,
    /// Positions of eras whose end it does not survive: it has advisory locks there.
    eras: BTreeMap<GroupId, Position>,
    /// Reads under a lock that were newer than the snapshot: where they were made.
    seen: BTreeMap<(u32, Bytes), Position>,
    events: Vec<storage::Event>,
    /// What `events` cost.
    event_bytes: u64,
    /// What it sends to other owners.
    outgoing: Outgoing,
    /// What it has asked other owners, references of theirs, and wishes to reference.
    intents: Intents,
    references: References,
    wished: Vec<Wished>,
    /// Write sets that wait, of others or its own.
    taken: kept::Taken,
    /// Triggers on followed tables that have led to it.
    hops: u16,
    unattended: bool,
    dropped_trees: Vec<u32>,
    /// Newest pending positions that were read, by group.
    hold: BTreeMap<GroupId, Position>,
    /// Positions of other owners' groups that were read.
    deps: BTreeMap<GroupId, Position>,
    savepoints: Vec<Savepoint>,
    notices: Vec<Error>,
    record_outcome: bool,
    /// Reserved names that it uses, and for whom.
    names: BTreeMap<(SchemaId, String), RoleId>,
    row_ids: u32,
    /// An index that is being built beside the writers (`ddl`).
    pub(crate) build: Option<Box<crate::ddl::Progress>>,
    /// A table's move to another owner that the statement waits for.
    pub(crate) moved: Option<Moved>,
    /// Since when the statement waits for the end of a move, in microseconds since 1970.
    waits_for_move: Option<u64>,
    /// Process id of the session, for pg_locks.
    process: i32,
    /// Start in microseconds since 1970.
    started: u64,
    /// Statements begun.
    statements: u32,
    /// The last of them is one that has begun, and may begin again.
    begun: bool,
    /// The role whose statement it is.
    reader: Option<RoleId>,
    /// The one position of the snapshot, if it was asked for.
    positioned: Option<Position>,
    /// Who reads a table that is a copy here, where that is the owner of a view.
    read_by: BTreeMap<TableId, RoleId>,
    /// Its snapshot's positions that other nodes keep readable.
    holds: remote::Holds,
    also: also::Also,
}

impl Transaction {
    /// Begins a transaction. Nothing is read or locked before its first statement.
    pub fn new(engine: &Arc<Engine>, isolation: Isolation, read_only: bool, block: bool) -> Self {
        Transaction {
            engine: Arc::clone(engine),
            isolation,
            read_only,
            deferrable: false,
            block,
            base_catalog: engine.catalog(),
            catalog: engine.catalog(),
            changes: Vec::new(),
            snapshot: Snapshot::default(),
            txid: None,
            members: BTreeMap::new(),
            described: BTreeSet::new(),
            writing: None,
            writes: writes::Writes::new(engine.limits().write_memory_bytes),
            reads: reads::Reads::default(),
            touched: false,
            acted: false,
            unproven: proof::Unproven::default(),
            eras: BTreeMap::new(),
            seen: BTreeMap::new(),
            events: Vec::new(),
            event_bytes: 0,
            dropped_trees: Vec::new(),
            hold: BTreeMap::new(),
            deps: BTreeMap::new(),
            savepoints: Vec::new(),
            notices: Vec::new(),
            record_outcome: false,
            names: BTreeMap::new(),
            row_ids: 0,
            build: None,
            moved: None,
            waits_for_move: None,
            outgoing: Outgoing::default(),
            intents: Intents::default(),
            references: References::default(),
            wished: Vec::new(),
            taken: kept::Taken::default(),
            hops: 0,
            unattended: false,
            process: 0,
            started: engine.clock().unix_micros(),
            statements: 0,
            begun: false,
            reader: None,
            positioned: None,
            read_by: BTreeMap::new(),
            holds: remote::Holds::default(),
            also: also::Also::default(),
        }
    }

    /// The isolation level.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// True in a READ ONLY transaction (writing is 25006).
    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// DEFERRABLE, as asked for: a read-only serializable transaction never waits here anyway.
    pub fn deferrable(&self) -> bool {
        self.deferrable
    }

    /// In a BEGIN block?
    pub fn in_block(&self) -> bool {
        self.block
    }

    /// BEGIN inside an implicit transaction makes it a block.
    pub fn make_block(&mut self) {
        self.block = true;
    }

    /// The session's process id.
    pub fn process(&self) -> i32 {
        self.process
    }

    /// Says whose it is.
    pub fn set_process(&mut self, process: i32) {
        self.process = process;
    }

    /// When it began, in microseconds since 1970.
    pub fn started(&self) -> u64 {
        self.started
    }

    /// SET TRANSACTION: isolation (25001 after the first statement), access mode.
    pub fn set_modes(&mut self, modes: &crate::parse::Modes) -> crate::Result<()> {
        if let Some(isolation) = modes.isolation {
            if isolation != self.isolation && !self.snapshot.is_empty() {
                return Err(Error::new(
                    state::ACTIVE_SQL_TRANSACTION,
                    "SET TRANSACTION ISOLATION LEVEL must be called before any query",
                ));
            }
            self.isolation = isolation;
        }
        if let Some(read_only) = modes.read_only {
            if !read_only && self.read_only && !self.snapshot.is_empty() {
                return Err(Error::new(
                    state::ACTIVE_SQL_TRANSACTION,
                    "transaction read-write mode must be set before any query",
                ));
            }
            self.read_only = read_only;
        }
        self.deferrable = modes.deferrable.unwrap_or(self.deferrable);
        Ok(())
    }

    /// The statement's catalog, own DDL included.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Has this transaction changed the catalog?
    pub fn has_ddl(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Own DDL takes effect for this transaction's next statements (the caller writes the rows
    /// with [`Transaction::write_system`]).
    pub fn change_catalog(&mut self, changes: Vec<Change>) {
        self.catalog = Arc::new(self.catalog.with(&changes));
        self.changes.extend(changes);
    }

    /// What begins from now on is another statement.
    pub fn next_statement(&mut self) {
        self.begun = false;
        self.waits_for_move = None;
        self.also = also::Also::default();
    }

    /// Begins a statement of a role that uses these groups and writes (or locks rows of) `writes`.
    /// It was bound after [`Transaction::refresh_catalog`] and its tables are locked: the snapshot taken
    /// here belongs to that catalog, or the statement begins again.
    ///
    /// # Errors
    /// `Wait` while the newest state can't be read yet; 40001 if the leader has changed.
    pub fn begin_statement(
        &mut self,
        reader: Option<RoleId>,
        groups: &[GroupId],
        writes: Option<GroupId>,
    ) -> Result<(), Stop> {
        self.check_alive()?;
        let with;
        let (groups, writes) = match self.also.is_empty() {
            true => (groups, writes),
            false => {
                with = self.with_also(groups, writes);
                (&with.0[..], with.1)
            }
        };
        self.reader = reader;
        self.check_vouched(groups)?;
        // One that waits begins again, and again.
        self.statements += u32::from(!std::mem::replace(&mut self.begun, true));
        if self.isolation.keeps_snapshot() && !self.snapshot.is_empty() {
            return match writes {
                Some(home) => self.check_newest_catalog(home),
                None => Ok(()),
            };
        }
        let engine = Arc::clone(&self.engine);
        let named = groups;
        let all;
        let groups = if self.isolation.keeps_snapshot() {
            all = engine
                .groups()
                .all()
                .iter()
                .map(|g| g.id())
                .collect::<Vec<_>>();
            &all[..]
        } else {
            groups
        };
        let home = match (self.read_only, self.block) {
            (true, _) => None,
            (false, true) => writes.or(self.writing).or_else(|| engine.home(groups)),
            (false, false) => writes.or(self.writing),
        };
        self.also.home = home;
        // The old pins go only when the new ones are there.
        let snapshot = match home {
            Some(home) => Snapshot::newest(engine.groups(), home, groups)?,
            None if groups.is_empty() => Snapshot::default(),
            None => Snapshot::applied(engine.groups(), groups)?,
        };
        self.snapshot = snapshot;
        let begins = match Arc::ptr_eq(&self.base_catalog, &engine.catalog()) {
            true => self.await_catalog(named),
            false => Err(Stop::again()),
        };
        if begins.is_err() {
            // The same statement begins once more.
            self.take_back_snapshot();
        }
        begins
    }

    /// Moves the snapshot to one position of all groups, and answers it: everything at or below
    /// is seen, nothing above. Under READ COMMITTED only the position means something. `closed`
    /// tells how far the groups are closed that the role may read.
    ///
    /// # Errors
    /// 25001 when a snapshot of the transaction has been used before; those of `closed`.
    pub fn snapshot_position(
        &mut self,
        closed: impl FnOnce() -> crate::Result<Position>,
    ) -> Result<Position, Stop> {
        if let Some(position) = self.positioned {
            return Ok(position);
        }
        let position = closed()?;
        if self.isolation.keeps_snapshot() {
            if self.statements > 1 {
                return Err(Error::new(
                    state::ACTIVE_SQL_TRANSACTION,
                    "freehold.snapshot_position() must be called before any query",
                )
                .into());
            }
            self.snapshot = Snapshot::closed(self.engine.groups(), position);
            self.positioned = Some(position);
        }
        Ok(position)
    }

    /// The newest catalog with own DDL on top.
    pub fn refresh_catalog(&mut self) {
        let newest = self.engine.catalog();
        if !Arc::ptr_eq(&newest, &self.base_catalog) {
            self.base_catalog = newest;
            self.rebuild_catalog();
        }
    }

    fn rebuild_catalog(&mut self) {
        self.catalog = match self.changes.is_empty() {
            true => Arc::clone(&self.base_catalog),
            false => Arc::new(self.base_catalog.with(&self.changes)),
        };
    }

    /// Puts a suspended portal's snapshot in place of the present one and gives that back.
    pub fn swap_snapshot(&mut self, snapshot: &mut Snapshot) {
        std::mem::swap(&mut self.snapshot, snapshot);
    }

    /// The newest placed state of a group, to be read under a lock that keeps it as it is.
    pub fn newest_snapshot(&self, group: GroupId) -> Result<Snapshot, Stop> {
        Snapshot::newest(self.engine.groups(), group, &[])
    }

    /// The positions read at.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The newest value that this statement may see: own writes, then the snapshot. SERIALIZABLE
    /// remembers the read.
    pub fn get(&mut self, group: GroupId, tree: u32, key: &[u8]) -> Result<Option<Bytes>, Stop> {
        if self.writing == Some(group)
            && let Some(own) = self.writes.get(tree, key)?
        {
            return Ok(own);
        }
        let at = self.read_at(group)?;
        if self.validates(group) {
            self.reads.key(tree, key);
        }
        self.look(&at, tree, |group| group.get(tree, key, at.1))
    }

    /// The keys of a range, as of now: writes made later by the same statement are not in it.
    pub fn scan(
        &mut self,
        group: GroupId,
        tree: u32,
        range: Range,
        direction: Direction,
    ) -> Result<RowScan, Stop> {
        let at = self.read_at(group)?;
        if self.validates(group) {
            self.reads.range(tree, &range);
        }
        let mut own = None;
        if self.writing == Some(group) && self.writes.touches(tree) {
            own = Some(self.writes.range(tree, &range, direction)?);
        }
        let open = |held: &Group| held.scan(tree, range.clone(), at.1, direction);
        let base = self.look(&at, tree, open)?;
        Ok(scan::merged(base, own, direction))
    }

    /// Notes what a read of the group means for the end of the transaction.
    fn read_at(&mut self, id: GroupId) -> Result<(Arc<Group>, Position), Stop> {
        let engine = Arc::clone(&self.engine);
        let kept = self.isolation.keeps_snapshot();
        if self.snapshot.position(id).is_none() {
            self.check_vouched(&[id])?;
        }
        let at = self.snapshot.ensure(engine.groups(), id, kept)?;
        let (group, position) = (Arc::clone(&at.group), at.pin.position());
        if at.pending {
            let hold = self.hold.entry(id).or_insert(position);
            *hold = (*hold).max(position);
        }
        let dep = self.deps.entry(id).or_insert(position);
        *dep = (*dep).max(position);
        Ok((group, position))
    }

    /// Are reads of this group validated at commit?
    fn validates(&self, group: GroupId) -> bool {
        self.isolation == Isolation::Serializable
            && !self.read_only
            && self.snapshot.iter().any(|(id, _)| id == group)
    }

    /// The newest placed value, under a lock just taken: unique checks and the second look after
    /// a lock wait. Under REPEATABLE READ and above 40001 if it is newer than the snapshot.
    pub fn current(
        &mut self,
        group: GroupId,
        tree: u32,
        key: &[u8],
    ) -> Result<Option<Bytes>, Stop> {
        if self.writing == Some(group)
            && let Some(own) = self.writes.get(tree, key)?
        {
            return Ok(own);
        }
        let (held, snapshot) = self.read_at(group)?;
        if held.is_followed() {
            return self.get(group, tree, key);
        }
        let wait = |wait: storage::Wait| Stop::Wait(Wait::Position(group, wait.0));
        let newest = held.newest().map_err(wait)?;
        if newest <= snapshot {
            return Ok(held.get(tree, key, snapshot)?);
        }
        let value = held.get(tree, key, newest)?;
        let changed = match held.written_since(tree, key, snapshot) {
            Some(changed) => changed,
            None => held.get(tree, key, snapshot)? != value,
        };
        if changed {
            if self.isolation.keeps_snapshot() {
                return Err(Stop::Error(Error::new(
                    state::SERIALIZATION_FAILURE,
                    "could not serialize access due to concurrent update",
                )));
            }
            self.seen
                .insert((tree, Bytes::copy_from_slice(key)), newest);
        }
        self.hold_newest(&held, newest);
        Ok(value)
    }

    /// Writes one row of a table of the owner whom the transaction acts for: a second owner is
    /// 0A000 with a hint, a read-only transaction 25006. The caller has checked grants and
    /// ownership (42501) and holds the locks.
    pub fn write(&mut self, group: GroupId, tree: u32, change: RowChange) -> Result<(), Stop> {
        self.writes_to(group)?;
        let seen = match self.seen.get(&(tree, change.key.clone())) {
            Some(seen) => *seen,
            None => self.snapshot.position(group).unwrap_or(Position::ZERO),
        };
        self.writes.write(tree, change, seen)?;
        self.after_write()
    }

    /// A key for a new row of a table without a primary key: this transaction's id and a number,
    /// big-endian, 12 bytes. Never given out twice in one group, so nobody has to reserve it.
    pub fn row_id(&mut self, group: GroupId) -> Result<[u8; 12], Stop> {
        let txid = self.member(group)?.txid;
        self.row_ids = self.row_ids.checked_add(1).ok_or_else(|| {
            Error::new(
                state::PROGRAM_LIMIT_EXCEEDED,
                "too many rows in one transaction",
            )
        })?;
        let mut id = [0; 12];
        id[..8].copy_from_slice(&txid.0.to_be_bytes());
        id[8..].copy_from_slice(&self.row_ids.to_be_bytes());
        Ok(id)
    }

    fn after_write(&mut self) -> Result<(), Stop> {
        if self.writes.wants_scratch() {
            let engine = Arc::clone(&self.engine);
            self.writes.spill_to(engine.groups().store())?;
        }
        Ok(self.fits(0)?)
    }

    /// Checks the transaction's size with `more` bytes that wait beside its writes.
    ///
    /// # Errors
    /// 54000 above `freehold.max_transaction`.
    pub fn fits(&self, more: u64) -> crate::Result<()> {
        let max = self.engine.limits().transaction_bytes_max;
        match self.writes.total_bytes().saturating_add(more) <= max {
            true => Ok(()),
            false => Err(too_large(max)),
        }
    }

    /// Adds an event to the entry: a DDL record (command tag as name) or a message.
    ///
    /// # Errors
    /// 54000 when events or transaction become too large; those of a write.
    pub fn event(
        &mut self,
        group: GroupId,
        kind: EventKind,
        name: &str,
        table: Option<u32>,
        payload: Bytes,
    ) -> Result<(), Stop> {
        let event = storage::Event {
            seq: 0,
            kind,
            name: name.to_owned(),
            table,
            payload,
            about: Vec::new(),
        };
        self.push_event(group, event)
    }

    /// Adds a row of the event table with this tree.
    ///
    /// # Errors
    /// As [`Transaction::event`].
    pub fn event_row(
        &mut self,
        group: GroupId,
        tree: u32,
        row: Bytes,
        about: Vec<storage::RowKey>,
    ) -> Result<(), Stop> {
        let event = storage::Event {
            seq: 0,
            kind: EventKind::Row,
            name: String::new(),
            table: Some(tree),
            payload: row,
            about,
        };
        self.push_event(group, event)
    }

    fn push_event(&mut self, group: GroupId, mut event: storage::Event) -> Result<(), Stop> {
        self.writes_to(group)?;
        let bytes = cost(&event);
        self.event_bytes += bytes;
        self.writes.count(bytes);
        if self.event_bytes > EVENTS_BYTES_MAX {
            return Err(too_many_events().into());
        }
        self.fits(0)?;
        event.seq = self.writes.next_seq();
        self.events.push(event);
        Ok(())
    }

    /// Drops a tree with the commit.
    pub fn drop_tree(&mut self, group: GroupId, tree: u32) -> Result<(), Stop> {
        self.writes_to(group)?;
        self.dropped_trees.push(tree);
        Ok(())
    }

    /// The snapshot position of a group as this statement sees it.
    pub fn position(&mut self, group: GroupId) -> Result<Position, Stop> {
        Ok(self.read_at(group)?.1)
    }

    /// What views of another node are read on, in a statement that began then (in microseconds since
    /// 2000).
    pub fn remote_ground(&mut self, group: GroupId, begun: i64) -> Result<remote::Ground, Stop> {
        Ok(remote::Ground {
            engine: Arc::clone(&self.engine),
            at: self.read_at(group)?.1,
            kept: self.isolation.keeps_snapshot(),
            started: self.started,
            begun: engine::since_1970(begun),
            holds: Arc::clone(&self.holds),
        })
    }

    /// Reads a group at a position that another node's reader has named, and began then. Nothing else
    /// was read before.
    pub(crate) fn read_as_of(&mut self, group: Arc<Group>, at: Position, began: u64) {
        let pin = group.pin(at);
        self.snapshot = Snapshot::of(group, pin);
        self.began(began);
    }

    /// What ends this transaction waits for the position, too.
    pub fn hold_until(&mut self, group: GroupId, position: Position) {
        let hold = self.hold.entry(group).or_insert(position);
        *hold = (*hold).max(position);
    }

    /// Fixes the group that this transaction writes.
    pub(crate) fn writes_to(&mut self, group: GroupId) -> Result<(), Stop> {
        if self.writing == Some(group) {
            return Ok(());
        }
        if self.read_only {
            return Err(Stop::Error(Error::new(
                state::READ_ONLY_SQL_TRANSACTION,
                "cannot write in a read-only transaction",
            )));
        }
        self.may_write(Some(group))?;
        self.ground(group)?;
        self.writing = Some(group);
        Ok(())
    }

    /// Is there no other owner that it writes?
    ///
    /// # Errors
    /// 0A000.
    pub fn may_write(&self, group: Option<GroupId>) -> crate::Result<()> {
        match (self.writing, group) {
            (Some(writing), Some(group)) if writing != group => {
                Err(self.second_owner(writing, group))
            }
            _ => Ok(()),
        }
    }

    /// From here on the transaction stands on the group's present era.
    fn ground(&mut self, id: GroupId) -> Result<(), Stop> {
        self.member(id)?;
        self.touched = true;
        let member = self.member(id)?;
        if member.base.is_none() {
            let wait = |wait: storage::Wait| Stop::Wait(Wait::Position(id, wait.0));
            let base = member.group.newest().map_err(wait)?;
            if let Some(member) = self.members.get_mut(&id) {
                member.base = Some(base);
            }
        }
        Ok(())
    }

    fn second_owner(&self, first: GroupId, second: GroupId) -> Error {
        let name = |group: GroupId| match self.catalog.owner_of_group(group) {
            Some(owner) => format!("tables of owner \"{}\"", self.catalog.role_name(owner)),
            None => "roles and memberships".to_owned(),
        };
        Error::new(
            state::FEATURE_NOT_SUPPORTED,
            "a transaction can write the tables of one owner only",
        )
        .detail(format!(
            "It has written {} and now writes {}.",
            name(first),
            name(second)
        ))
        .hint("Commit first, then write the other owner's tables in a transaction of its own.")
    }

    /// This transaction in a group's lock table.
    fn member(&mut self, id: GroupId) -> Result<&Member, Stop> {
        if !self.members.contains_key(&id) {
            let led = self.engine.groups().get(id);
            let Some((group, epoch)) = led.and_then(|g| g.term().map(|term| (g, term))) else {
                return Err(Stop::Wait(Wait::Leader(id)));
            };
            let txid = self.begin_id(&group);
            group.enter(txid);
            self.members.insert(
                id,
                Member {
                    group,
                    txid,
                    epoch,
                    base: None,
                },
            );
        }
        self.members
            .get(&id)
            .ok_or_else(|| Stop::Error(leader_changed()))
    }

    /// One id for all groups: whoever asks for it does not know yet which one will be written.
    fn begin_id(&mut self, group: &Group) -> TxId {
        *self.txid.get_or_insert_with(|| {
            let txid = group.begin();
            self.engine.activities().hold(txid, self.process);
            txid
        })
    }

    /// The transaction's id; asking for it makes `pg_xact_status` know its outcome.
    pub fn id(&mut self) -> Result<TxId, Stop> {
        let directory = snapshot::held(self.engine.groups(), GroupId::DIRECTORY)?;
        self.record_outcome = true;
        self.touched = true;
        Ok(self.begin_id(&directory))
    }

    /// Whether what it removes from here on is to be erased at once. Answers what was said before.
    pub fn erasing(&mut self, erasing: Option<u32>) -> Option<u32> {
        std::mem::replace(&mut self.writes.erasing, erasing)
    }

    /// The id, if one was given out already.
    pub fn id_if_any(&self) -> Option<TxId> {
        self.txid
    }

    /// Does this node lead the group (so that its lock table counts)?
    pub fn leads(&self, group: GroupId) -> bool {
        self.members.contains_key(&group) || self.engine.leads(group)
    }

    fn check_alive(&self) -> Result<(), Stop> {
        let alive = |m: &Member| m.base.is_none_or(|base| m.group.alive(base));
        match self.members.values().all(alive) {
            true => self.check_eras(),
            false => Err(Stop::Error(leader_changed())),
        }
    }

    /// It has taken something in this era of a group and ends with it.
    pub(crate) fn stand_on(&mut self, (group, base): (GroupId, Position)) {
        self.eras.entry(group).or_insert(base);
    }

    fn check_eras(&self) -> Result<(), Stop> {
        let groups = self.engine.groups();
        let lasts = |(id, base): (&GroupId, &Position)| {
            groups.get(*id).is_some_and(|group| group.alive(*base))
        };
        match self.eras.iter().all(lasts) {
            true => Ok(()),
            false => Err(Stop::Error(leader_changed())),
        }
    }

    /// It does something beside itself, which stays whatever becomes of it and must not be done
    /// twice.
    pub fn act(&mut self) {
        (self.touched, self.acted) = (true, true);
    }

    /// Has it?
    pub fn has_acted(&self) -> bool {
        self.acted
    }

    /// Has it only read so far, and holds nothing but locks against the dropping of tables?
    pub fn is_untouched(&self) -> bool {
        !self.touched
    }

    /// Is its snapshot kept, and there already?
    pub fn keeps_snapshot(&self) -> bool {
        self.isolation.keeps_snapshot() && !self.snapshot.is_empty()
    }

    /// It began then, on another node.
    pub fn began(&mut self, micros: u64) {
        self.started = micros;
    }

    /// Sends a notice to the client after the statement.
    pub fn notice(&mut self, notice: Error) {
        self.notices.push(notice);
    }

    /// The notices so far.
    pub fn take_notices(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.notices)
    }

    /// The engine that it runs in.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Has it written anything (a commit makes an entry)?
    pub fn has_written(&self) -> bool {
        !self.writes.is_empty()
            || !self.events.is_empty()
            || !self.dropped_trees.is_empty()
            || !self.outgoing.is_empty()
    }

    /// Above `work_mem`: committing may block the thread until parts are durable.
    pub fn is_large(&self) -> bool {
        self.writes.is_spilled() || self.writes.total_bytes() > 1 << 20
    }

    /// The group that is written, once one is.
    pub fn writing(&self) -> Option<GroupId> {
        self.writing
    }

    /// A moment to go back to. Each mark ends with [`Transaction::unmark`].
    pub fn mark(&mut self) -> Mark {
        Mark {
            writes: self.writes.mark(),
            events: self.events.len(),
            sent: self.outgoing.len(),
            intents: self.intents.mark(),
            dropped: self.dropped_trees.len(),
            changes: self.changes.len(),
            locks: self.lock_marks(),
            writing: self.writing,
        }
    }

    /// A moment to go back to with the locks kept (a statement that may run again).
    pub fn statement_mark(&mut self) -> Mark {
        Mark {
            writes: self.writes.mark(),
            events: self.events.len(),
            sent: self.outgoing.len(),
            intents: self.intents.mark(),
            dropped: self.dropped_trees.len(),
            changes: self.changes.len(),
            locks: BTreeMap::new(),
            writing: self.writing,
        }
    }

    /// The transaction has failed: its locks are free, and nothing of it will be written. Open
    /// savepoints can still be gone back to.
    pub fn fail(&mut self) {
        match self.savepoints.last().map(|s| s.mark.clone()) {
            None => {
                self.release_all();
                self.touched = false;
            }
            Some(mark) => {
                // An error here can only be the spool's; the commit will not happen anyway.
                let _ = self.undo_to(&mark, Locks::Release);
            }
        }
    }

    /// Forgets the newest mark; what was done since stays.
    pub fn unmark(&mut self) {
        self.writes.unmark();
    }

    /// Takes back writes, events and DDL since the mark, and with `locks` the locks too. The mark
    /// stays.
    pub fn undo_to(&mut self, mark: &Mark, locks: Locks) -> Result<(), Stop> {
        self.writes.undo_to(mark.writes)?;
        for gone in self.events.drain(mark.events.min(self.events.len())..) {
            self.event_bytes -= cost(&gone);
        }
        self.outgoing.truncate(mark.sent);
        self.dropped_trees.truncate(mark.dropped);
        if self.changes.len() > mark.changes {
            self.changes.truncate(mark.changes);
            self.rebuild_catalog();
        }
        if !self.has_written() {
            self.writing = mark.writing;
        }
        self.taken.clear();
        self.intents.undo_to(&mark.intents, locks == Locks::Keep);
        if locks == Locks::Release {
            self.release_to(mark);
        }
        Ok(())
    }

    /// SAVEPOINT.
    pub fn savepoint(&mut self, name: &str) {
        let mark = self.mark();
        self.savepoints.push(Savepoint {
            name: name.to_owned(),
            mark,
        });
    }

    fn find_savepoint(&self, name: &str) -> crate::Result<usize> {
        self.savepoints
            .iter()
            .rposition(|s| s.name == name)
            .ok_or_else(|| {
                Error::new(
                    state::SAVEPOINT_EXCEPTION,
                    format!("savepoint \"{name}\" does not exist"),
                )
            })
    }

    /// RELEASE SAVEPOINT.
    pub fn release_savepoint(&mut self, name: &str) -> crate::Result<()> {
        let at = self.find_savepoint(name)?;
        for _ in self.savepoints.drain(at..) {
            self.writes.unmark();
        }
        Ok(())
    }

    /// ROLLBACK TO SAVEPOINT: later savepoints are gone, this one stays. Says how many stay.
    pub fn rollback_to(&mut self, name: &str) -> Result<usize, Stop> {
        let at = self.find_savepoint(name)?;
        while self.savepoints.len() > at + 1 {
            self.savepoints.pop();
            self.writes.unmark();
        }
        let mark = self.savepoints[at].mark.clone();
        self.undo_to(&mark, Locks::Release)?;
        Ok(at + 1)
    }

    /// Names of the open savepoints, the innermost last.
    pub fn savepoint_names(&self) -> impl Iterator<Item = &str> {
        self.savepoints.iter().map(|savepoint| &*savepoint.name)
    }

    /// Nothing can be gone back to any more.
    pub fn forget_savepoints(&mut self) {
        for _ in self.savepoints.drain(..) {
            self.writes.unmark();
        }
    }

    /// Number of open savepoints.
    pub fn savepoints(&self) -> usize {
        self.savepoints.len()
    }
}

/// What becomes of locks when a savepoint is gone back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locks {
    /// Kept (a statement that runs again).
    Keep,
    /// Released (ROLLBACK TO).
    Release,
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.release_all();
    }
}

/// 40001: the transaction lived in a term that is over.
pub(crate) fn leader_changed() -> Error {
    Error::new(
        state::SERIALIZATION_FAILURE,
        "could not serialize access: the leader of the owner's group has changed",
    )
    .hint("Run the transaction again.")
    .begins_anew(true)
}

/// What an event costs with the rows that it is about.
fn cost(event: &storage::Event) -> u64 {
    let about = event.about.iter().map(|row| row.key.len() + ROW_OVERHEAD);
    event_bytes(&event.name, &event.payload) + about.sum::<usize>() as u64
}

/// What an event costs in memory and in the entry.
pub(crate) fn event_bytes(name: &str, payload: &[u8]) -> u64 {
    (name.len() + payload.len() + EVENT_OVERHEAD) as u64
}

/// 54000.
pub(crate) fn too_many_events() -> Error {
    Error::new(state::PROGRAM_LIMIT_EXCEEDED, "transaction is too large").detail(format!(
        "Its events take more than {EVENTS_BYTES_MAX} bytes."
    ))
}

/// 54000.
pub(crate) fn too_large(max: u64) -> Error {
    Error::new(state::PROGRAM_LIMIT_EXCEEDED, "transaction is too large").detail(format!(
        "It has written more than {max} bytes (freehold.max_transaction)."
    ))
}
