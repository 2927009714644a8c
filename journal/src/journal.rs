//! The journal's handle: append, read, seek, state. What it does not do itself, the writer thread
//! does.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use crate::disk::{Disk, Lock};
use crate::index::{Evictable, Group, Held, Place};
use crate::reader::Cursor;
use crate::record::{Kind, payload_max};
use crate::segment::{HEAD_BYTES, Segment};
use crate::spare::Need;
use crate::writer::{Done, Ticket, Waiting, Writer};
use crate::{Error, GroupId, Index, Position, Record, Result, Term, index, recover};

/// When the next segment's file is made and filled with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spare {
    /// By a thread, as soon as a segment is begun.
    Ahead,
    /// By the writer, when it is needed: tests count the disk's calls.
    OnDemand,
}

/// What to do after the first failed write or fsync.
pub type OnFatal = Arc<dyn Fn(&Error) + Send + Sync>;

/// The journal's limits.
#[derive(Clone)]
pub struct Options {
    /// Size of a segment's file, 4 KiB to 1 GiB; also the limit of one record.
    pub segment_bytes: u64,
    /// Memory for the newest records of all groups. What is not written yet comes on top.
    pub tail_bytes_max: usize,
    /// Written with one fsync at most.
    pub round_bytes_max: usize,
    /// One group's share of a round while others wait (one record at least).
    pub group_bytes_max: usize,
    /// When files are made.
    pub spare: Spare,
    /// Called once, by the writer thread, before any caller hears of the failure. The default logs
    /// and aborts the process: after a failed fsync the kernel may report success for lost data.
    pub on_fatal: OnFatal,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 64 << 20,
            tail_bytes_max: 64 << 20,
            round_bytes_max: 4 << 20,
            group_bytes_max: 256 << 10,
            spare: Spare::Ahead,
            on_fatal: Arc::new(|error| {
                tracing::error!(%error, "journal write failed, the process ends");
                std::process::abort();
            }),
        }
    }
}

/// What the journal knows of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupState {
    /// The newest vote.
    pub vote: Option<Bytes>,
    /// Raft's log begins after it.
    pub purged: Option<(Term, Index)>,
    /// Log records up to here may be erased: the purge point has been written so far, too, and
    /// what is written behind it does not outlive it.
    pub erasable: Option<Index>,
    /// The last log record, or the purge point if that is beyond. The position is the last
    /// record's (of Raft's own records: the last before).
    pub last: Option<(Term, Index, Position)>,
    /// Up to here the log is on this disk. A checkpoint may not go beyond.
    pub durable: Option<Index>,
    /// The oldest log record that can be read.
    pub oldest: Option<(Index, Position)>,
    /// The greatest position ever seen, truncated records included: a new leader stamps above.
    pub greatest: Position,
}

/// Counters since open, and what there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Segments, the open one included.
    pub segments: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Fsyncs of segments.
    pub fsyncs: u64,
    /// Records written.
    pub records: u64,
    /// Records that wait for the writer.
    pub queue: u64,
    /// Bytes of records held in memory.
    pub tail_bytes: u64,
}

/// The journal of a node. Clones are handles to the same one; the last one dropped flushes and
/// closes it.
#[derive(Clone)]
pub struct Journal {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

pub(crate) struct Shared {
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    pub options: Options,
    pub state: Mutex<State>,
    /// Wakes the writer.
    pub work: Condvar,
    /// Held while the spare file is made or taken.
    pub spare: Mutex<()>,
    pub need: Need,
    /// Held while segments are released or images erased: one at a time.
    pub upkeep: Mutex<()>,
    /// The lock of the folder, until the writer has ended.
    pub lock: Mutex<Option<Lock>>,
}

#[derive(Default)]
pub(crate) struct State {
    pub groups: BTreeMap<GroupId, Group>,
    /// Groups with waiting records, in turn.
    pub turns: VecDeque<GroupId>,
    pub segments: BTreeMap<u64, Arc<Segment>>,
    /// The segment that is being written, and the end of what is in the index of it.
    pub noted: (u64, u64),
    pub evictable: VecDeque<Evictable>,
    /// At this length `evictable` is searched for what has left memory by other ways.
    pub tidy_at: usize,
    pub tail_bytes: usize,
    /// How often a log was cut, as written.
    pub truncations: u64,
    pub seq: u64,
    pub failed: Option<Arc<Error>>,
    pub closing: bool,
    pub open_erases: Vec<u64>,
    pub stats: Stats,
}

impl State {
    pub fn usable(&self) -> Result<()> {
        match &self.failed {
            Some(first) => Err(Error::Failed(first.clone())),
            None if self.closing => Err(Error::Closed),
            None => Ok(()),
        }
    }

    /// Puts a record into its group's queue.
    pub fn enqueue(&mut self, record: Record, position: Position, ticket: Option<Ticket>) -> u64 {
        self.seq += 1;
        let seq = self.seq;
        let group_id = record.group;
        let group = self.groups.entry(group_id).or_default();
        if group.queue.is_empty() {
            self.turns.push_back(group_id);
        }
        let sync = record.kind.needs_sync();
        group.queue.push_back(Waiting {
            record,
            seq,
            position,
            sync,
            ticket,
        });
        self.stats.queue += 1;
        seq
    }

    /// Takes a checked record: it can be read from now on.
    fn take(&mut self, mut record: Record, before: Option<Position>, ticket: Option<Ticket>) {
        let group = self.groups.entry(record.group).or_default();
        let mut position = record.position;
        match record.kind {
            Kind::Truncate => {
                let before = group.position_before(record.index).or(before);
                let freed = group.truncate(record.index, before.unwrap_or_default());
                self.tail_bytes -= freed;
            }
            Kind::Purge => {
                group.purge(record.term, record.index);
                // The last purge record in the file is the one that counts.
                (record.term, record.index) = group.purged.unwrap_or((record.term, record.index));
            }
            Kind::Vote => group.vote = Some(record.payload.clone()),
            _ => position = group.push(record.term, record.index, record.position),
        }
        if record.kind.is_log() {
            let held = Held {
                record: record.clone(),
                seq: self.seq + 1,
                position,
            };
            self.tail_bytes += held.bytes();
            group.tail.push_back(held);
        } else {
            record.position = group.greatest;
        }
        self.enqueue(record, position, ticket);
    }
}

/// What follows in a group, while a list of records is checked.
struct Next {
    index: Option<Index>,
    purged: Option<Index>,
}

impl Shared {
    /// May these records be appended? Answers, for truncations into what is no longer in memory,
    /// the position before them.
    fn check(&self, state: &State, records: &[Record]) -> Result<BTreeMap<usize, Position>> {
        state.usable()?;
        let mut nexts: BTreeMap<GroupId, Next> = BTreeMap::new();
        let mut befores = BTreeMap::new();
        for (at, record) in records.iter().enumerate() {
            let next = nexts.entry(record.group).or_insert_with(|| {
                let group = state.groups.get(&record.group);
                let purged = group.and_then(|g| g.purged).map(|(_, index)| index);
                Next {
                    index: group.and_then(Group::next_index),
                    purged,
                }
            });
            self.check_one(record, next)?;
            if record.kind == Kind::Truncate
                && let Some(group) = state.groups.get(&record.group)
                && group.position_before(record.index).is_none()
            {
                let before = Index(record.index.0 - 1);
                befores.insert(at, self.position_at(state, record.group, group, before)?);
            }
        }
        Ok(befores)
    }

    fn check_one(&self, record: &Record, next: &mut Next) -> Result<()> {
        let (bytes, limit) = (
            record.disk_bytes() as u64,
            self.options.segment_bytes - HEAD_BYTES,
        );
        if bytes > limit {
            return Err(Error::TooLarge { bytes, limit });
        }
        let group = record.group;
        let after = Index(record.index.0.saturating_add(1));
        match record.kind {
            Kind::Entry | Kind::Part | Kind::Raft => {
                if let Some(expected) = next.index.filter(|expected| *expected != record.index) {
                    return Err(Error::OutOfOrder {
                        group,
                        expected,
                        found: record.index,
                    });
                }
                next.index = Some(after);
            }
            // Of the whole log, purge point included: the group begins anew.
            Kind::Truncate if record.index == Index(0) => {
                (next.purged, next.index) = (None, None);
            }
            Kind::Truncate => {
                if let Some(purged) = next.purged.filter(|purged| *purged >= record.index) {
                    return Err(Error::TruncateBelowPurge {
                        group,
                        at: record.index,
                        purged,
                    });
                }
                next.index = next.index.map(|index| index.min(record.index));
            }
            Kind::Purge => {
                next.purged = next.purged.max(Some(record.index));
                next.index = next.index.max(Some(after));
            }
            Kind::Vote => {
                if !matches!(record.payload.image(0), Some(Ok(_))) {
                    return Err(Error::Invalid("a vote needs an image"));
                }
            }
            Kind::Erase | Kind::Mark | Kind::Footer => {
                return Err(Error::Invalid(
                    "only the journal writes records of this kind",
                ));
            }
        }
        Ok(())
    }

    /// Notes the first failure and runs `on_fatal`.
    pub fn fail(&self, error: Error) -> Error {
        let mut state = self.state.lock();
        if let Some(first) = &state.failed {
            return Error::Failed(first.clone());
        }
        let first = Arc::new(error);
        state.failed = Some(first.clone());
        drop(state);
        self.work.notify_one();
        (self.options.on_fatal)(&first);
        Error::Failed(first)
    }

    /// The position of a record that is in the segments.
    pub fn position_at(
        &self,
        state: &State,
        id: GroupId,
        group: &Group,
        index: Index,
    ) -> Result<Position> {
        let Some(run) = group
            .runs
            .get(group.runs.partition_point(|run| run.last < index))
        else {
            return Ok(group.last_position);
        };
        let piece = run.piece(index, index);
        let segment = state
            .segments
            .get(&run.segment)
            .expect("a run's segment is there")
            .clone();
        let mut cursor = Cursor::new(&*self.disk, None, segment, id, piece, 0)?;
        let mut position = piece.start.position;
        while let Some(found) = cursor.next()? {
            position = found.position;
        }
        Ok(position)
    }
}

impl Journal {
    /// Opens the folder, or makes it: locks it, finishes erasures, cuts a torn tail, rebuilds the
    /// index and starts the writer thread. Errors: `Locked`, `Corrupt`, `NewerVersion`, `Io`.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: Options) -> Result<Journal> {
        let (shared, active) = recover::recover(disk, dir, options)?;
        let shared = Arc::new(shared);
        let writer = Writer::new(shared.clone(), active);
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || run_writer(writer))
            .map_err(|e| Error::io("start the writer of", dir, e))?;
        Ok(Journal {
            handle: Arc::new(Handle {
                shared,
                writer: Mutex::new(Some(thread)),
            }),
        })
    }

    /// The largest payload that fits into one record, in bytes.
    pub fn payload_bytes_max(&self) -> usize {
        payload_max(self.handle.shared.options.segment_bytes - HEAD_BYTES)
    }

    /// Takes records, all or none, and returns at once; they can be read on return. `done` is
    /// called by the writer thread when they are on disk (`Truncate` and `Purge` alone: written),
    /// or, if they are refused, by the caller's. It should only pass the answer on.
    ///
    /// Log records of a group must have consecutive indexes (the first of all may have any).
    /// Memory is not bounded here: who proposes bounds what is in flight.
    pub fn append(&self, records: Vec<Record>, done: Done) {
        let shared = &self.handle.shared;
        let mut state = shared.state.lock();
        let befores = match shared.check(&state, &records) {
            Ok(befores) if !records.is_empty() => befores,
            answer => {
                drop(state);
                return done(answer.map(|_| ()));
            }
        };
        let idle = state.turns.is_empty();
        // Each group's last record of the list holds a ticket; the last one written calls `done`.
        let ticket = Ticket::new(done);
        let one_group = records
            .iter()
            .all(|record| record.group == records[0].group);
        let count = records.len();
        for (at, record) in records.into_iter().enumerate() {
            let ticket = (!one_group || at + 1 == count).then(|| ticket.clone());
            state.take(record, befores.get(&at).copied(), ticket);
        }
        // Before the writer can see them: it calls `done` when it holds the only one.
        drop(ticket);
        drop(state);
        if idle {
            shared.work.notify_one();
        }
    }

    /// `append`, and waits for the disk.
    pub fn append_wait(&self, records: Vec<Record>) -> Result<()> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.append(records, Box::new(move |answer| drop(sender.send(answer))));
        receiver.recv().unwrap_or(Err(Error::Closed))
    }

    /// The groups that have something in the journal, ascending.
    pub fn groups(&self) -> Vec<GroupId> {
        let state = self.handle.shared.state.lock();
        let known = state.groups.iter().filter(|(_, group)| {
            group.vote.is_some() || group.purged.is_some() || !group.stretches.is_empty()
        });
        known.map(|(id, _)| *id).collect()
    }

    /// What is known of a group; of an unknown one: nothing.
    pub fn state(&self, group: GroupId) -> GroupState {
        let state = self.handle.shared.state.lock();
        state
            .groups
            .get(&group)
            .map_or_else(index::unknown, Group::state)
    }

    /// How often a log was cut since the journal was opened: what was cut off is still in the segments.
    pub fn truncations(&self) -> u64 {
        self.handle.shared.state.lock().truncations
    }

    /// Up to this position no record of the group waits for this disk; `Position::MAX` if none
    /// does at all. A leader may have applied more than that.
    pub fn durable_position(&self, group: GroupId) -> Position {
        let state = self.handle.shared.state.lock();
        let known = state.groups.get(&group);
        known.map_or(Position::MAX, Group::durable_position)
    }

    /// Log records `from..to_exclusive`, as many as there are and fit into `bytes_max` of payload,
    /// one at least if there is any. Starts at the oldest retained, if `from` is below. The slices
    /// of one answer may share a buffer. Does disk reads for what is not in memory.
    pub fn read(
        &self,
        group: GroupId,
        from: Index,
        to_exclusive: Index,
        bytes_max: usize,
    ) -> Result<Vec<Record>> {
        let mut out = Vec::new();
        let mut bytes = 0;
        let mut next = from;
        while next < to_exclusive {
            match self.read_place(group, next, to_exclusive, bytes_max, &mut bytes, &mut out) {
                Ok(Some(after)) => next = after,
                Ok(None) => break,
                // Released meanwhile: what is retained begins later.
                Err(e) if e.is_not_found() && self.moved_on(group, next) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(out)
    }

    /// Is an index no longer retained?
    fn moved_on(&self, group: GroupId, index: Index) -> bool {
        self.state(group)
            .oldest
            .is_none_or(|(oldest, _)| oldest > index)
    }

    /// Reads on in the place where `next` is; answers where to go on, or `None` at the end.
    fn read_place(
        &self,
        group: GroupId,
        next: Index,
        to: Index,
        bytes_max: usize,
        bytes: &mut usize,
        out: &mut Vec<Record>,
    ) -> Result<Option<Index>> {
        let mut fits = |record_bytes: usize, out: &Vec<Record>| {
            let fits = out.is_empty() || *bytes + record_bytes <= bytes_max;
            *bytes += record_bytes;
            fits
        };
        let (segment, piece) = {
            let state = self.handle.shared.state.lock();
            let Some(known) = state.groups.get(&group) else {
                return Ok(None);
            };
            match known.locate(next, Index(to.0 - 1)) {
                None => return Ok(None),
                Some(Place::Tail(at)) => {
                    for held in known.tail.range(at..) {
                        let len = held.record.payload.len();
                        if held.record.index >= to || !fits(len, out) {
                            break;
                        }
                        out.push(held.record.clone());
                    }
                    return Ok(None);
                }
                Some(Place::Run(piece)) => (state.segments[&piece.segment].clone(), piece),
            }
        };
        let shared = &*self.handle.shared;
        let (disk, state) = (&*shared.disk, Some(&shared.state));
        let mut cursor = Cursor::new(disk, state, segment, group, piece, bytes_max)?;
        while let Some(found) = cursor.next()? {
            if found.header.index < piece.from {
                continue;
            }
            if !fits(found.header.payload as usize, out) {
                return Ok(None);
            }
            out.push(found.header.with(cursor.payload(&found)?));
        }
        Ok(Some(Index(piece.last.0 + 1)))
    }

    /// The term of a retained record, or of the purge point.
    pub fn term_at(&self, group: GroupId, index: Index) -> Option<Term> {
        self.handle
            .shared
            .state
            .lock()
            .groups
            .get(&group)?
            .term_at(index)
    }

    /// Where terms begin among the retained records, ascending.
    pub fn terms(&self, group: GroupId) -> Vec<(Index, Term)> {
        let state = self.handle.shared.state.lock();
        let stretches = state
            .groups
            .get(&group)
            .into_iter()
            .flat_map(|g| &g.stretches);
        let mut terms: Vec<(Index, Term)> = stretches.map(|s| (s.first, s.term)).collect();
        terms.dedup_by_key(|(_, term)| *term);
        terms
    }

    /// The first retained log record whose position is above `after` (the parts of one entry share
    /// theirs; Raft's own records count as their predecessors'). May read the disk.
    pub fn seek(&self, group: GroupId, after: Position) -> Result<Option<Index>> {
        let mut from = Index(0);
        loop {
            match self.seek_place(group, after, from) {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(next)) => from = next,
                Err(e) if e.is_not_found() && self.moved_on(group, from) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Looks in one place; `Err` says where to look next.
    fn seek_place(
        &self,
        group: GroupId,
        after: Position,
        from: Index,
    ) -> Result<Result<Option<Index>, Index>> {
        let (segment, piece) = {
            let state = self.handle.shared.state.lock();
            let Some(known) = state.groups.get(&group) else {
                return Ok(Ok(None));
            };
            match known.locate_position(after, from) {
                None => return Ok(Ok(None)),
                Some(Place::Tail(at)) => return Ok(Ok(Some(known.tail[at].record.index))),
                Some(Place::Run(piece)) => (state.segments[&piece.segment].clone(), piece),
            }
        };
        let shared = &*self.handle.shared;
        let (disk, state) = (&*shared.disk, Some(&shared.state));
        let mut cursor = Cursor::new(disk, state, segment, group, piece, 0)?;
        while let Some(found) = cursor.next()? {
            if found.header.index >= piece.from && found.position > after {
                return Ok(Ok(Some(found.header.index)));
            }
        }
        Ok(Err(Index(piece.last.0 + 1)))
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        let state = self.handle.shared.state.lock();
        let (segments, tail_bytes) = (state.segments.len() as u64, state.tail_bytes as u64);
        Stats {
            segments,
            tail_bytes,
            ..state.stats
        }
    }

    /// Writes what waits, marks the end as durable, ends the writer thread and unlocks the folder.
    /// Other handles answer `Closed` from now on.
    pub fn close(self) {
        self.handle.close();
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

/// A panic, in a `done` for instance, must not leave a journal that takes records and writes none.
fn run_writer(writer: Writer) {
    let shared = writer.shared().clone();
    let run = std::panic::AssertUnwindSafe(|| writer.run());
    if std::panic::catch_unwind(run).is_err() {
        let error = shared.fail(Error::Invalid("the writer thread panicked"));
        let tickets = shared.state.lock().take_tickets();
        tickets
            .into_iter()
            .for_each(|ticket| ticket.failed(error.clone()));
        shared.lock.lock().take();
    }
}

impl Handle {
    fn close(&self) {
        self.shared.state.lock().closing = true;
        self.shared.work.notify_one();
        let Some(writer) = self.writer.lock().take() else {
            return;
        };
        // The last handle may be dropped inside a `done`: the writer then ends by itself.
        if writer.thread().id() != std::thread::current().id() && writer.join().is_err() {
            tracing::error!("the journal's writer thread panicked");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}
