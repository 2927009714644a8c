//! The one writer thread: takes groups in turn, writes a round with one write and one fsync, then
//! answers. Nothing lingers: what waits when the disk is free goes out.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{File, Open};
use crate::index::{Evictable, OpenSegment};
use crate::journal::{Shared, Spare, State};
use crate::record::{self, Kind};
use crate::segment::{self, Footer, GroupFooter, HEAD_BYTES, Segment};
use crate::{Error, GroupId, Index, Position, Record, Result, Term, spare};

/// Called with the outcome of an append.
pub type Done = Box<dyn FnOnce(Result<()>) + Send>;

/// Shared by the records of one append; the last one written calls `done`.
#[derive(Clone)]
pub(crate) struct Ticket(Arc<Mutex<Option<Done>>>);

impl Ticket {
    pub fn new(done: Done) -> Ticket {
        Ticket(Arc::new(Mutex::new(Some(done))))
    }

    /// Answers, if this was the last record.
    fn written(self) {
        if let Some(done) = Arc::into_inner(self.0).and_then(Mutex::into_inner) {
            done(Ok(()));
        }
    }

    /// Answers at once; the others find nothing to call.
    pub fn failed(self, error: Error) {
        let done = self.0.lock().take();
        if let Some(done) = done {
            done(Err(error));
        }
    }
}

/// A record on its way to the disk.
pub(crate) struct Waiting {
    pub record: Record,
    pub seq: u64,
    /// Its position, or of Raft's own records the last before.
    pub position: Position,
    pub sync: bool,
    pub ticket: Option<Ticket>,
}

/// The segment being written.
pub(crate) struct Active {
    pub segment: Arc<Segment>,
    pub file: Arc<dyn File>,
    pub file_bytes: u64,
    pub end: u64,
    /// Everything below is on disk.
    pub synced: u64,
}

/// The writer thread's own state.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    active: Active,
    round: VecDeque<Waiting>,
    buffer: Vec<u8>,
    staged: Vec<(u64, Waiting)>,
    filler: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    pub fn new(shared: Arc<Shared>, active: Active) -> Writer {
        let (round, buffer, staged) = (VecDeque::new(), Vec::new(), Vec::new());
        Writer {
            shared,
            active,
            round,
            buffer,
            staged,
            filler: None,
        }
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Until the journal is closed or a write fails.
    pub fn run(mut self) {
        self.fill_ahead();
        let shared = self.shared.clone();
        loop {
            let mut state = shared.state.lock();
            while state.turns.is_empty() && !state.closing && state.failed.is_none() {
                shared.work.wait(&mut state);
            }
            if let Some(first) = state.failed.clone() {
                // An erase failed, beside the writer; it has run `on_fatal`.
                drop(state);
                return self.end(first);
            }
            if state.turns.is_empty() {
                break;
            }
            self.take_round(&mut state);
            drop(state);
            if let Err(error) = self.write_round() {
                return self.fail(error);
            }
        }
        if let Err(error) = self.mark_end() {
            self.fail(error);
        }
        self.await_filler();
        self.shared.lock.lock().take();
    }

    /// Moves what the groups have waiting into the round, each up to its share.
    fn take_round(&mut self, state: &mut State) {
        let options = &self.shared.options;
        let share = match state.turns.len() {
            1 => options.round_bytes_max,
            _ => options.group_bytes_max,
        };
        let mut total = 0;
        for _ in 0..state.turns.len() {
            let Some(id) = state.turns.pop_front() else {
                break;
            };
            let group = state.groups.get_mut(&id).expect("a group in turn exists");
            let mut taken = 0;
            while let Some(waiting) = group.queue.front() {
                let bytes = waiting.record.disk_bytes();
                if taken > 0 && taken + bytes > share {
                    break;
                }
                taken += bytes;
                self.round.extend(group.queue.pop_front());
                state.stats.queue -= 1;
            }
            if !group.queue.is_empty() {
                state.turns.push_back(id);
            }
            total += taken;
            if total >= options.round_bytes_max {
                break;
            }
        }
    }

    fn write_round(&mut self) -> Result<()> {
        while let Some(waiting) = self.round.pop_front() {
            let at = self.active.end + self.buffer.len() as u64;
            let end = at + waiting.record.disk_bytes() as u64;
            if end > self.shared.options.segment_bytes && at > HEAD_BYTES {
                // The ticket must not be lost if this fails.
                self.round.push_front(waiting);
                self.flush()?;
                self.roll()?;
                continue;
            }
            let (number, synced) = (self.active.segment.number, self.active.synced);
            record::encode_into(&mut self.buffer, &waiting.record, number, at, synced);
            self.staged.push((at, waiting));
        }
        self.flush()
    }

    /// One write, one fsync if anything needs it, then the index, then the answers.
    fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.write(&self.buffer, self.active.end)?;
        self.active.end += self.buffer.len() as u64;
        self.shared.need.note(self.active.end);
        let sync = self.staged.iter().any(|(_, waiting)| waiting.sync);
        // Answers at once and syncs once in a MiB.
        #[cfg(feature = "sabotage")]
        let sync = sync
            && (!crate::sabotage::planted("ack-before-fsync")
                || self.active.end >> 20 != (self.active.end - self.buffer.len() as u64) >> 20);
        if sync {
            self.sync()?;
        }
        let tickets = self.publish(sync);
        self.buffer.clear();
        tickets.into_iter().for_each(Ticket::written);
        Ok(())
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let Active { file, segment, .. } = &self.active;
        file.write_at(bytes, offset)
            .map_err(|e| Error::io("write", &segment.path, e))
    }

    fn sync(&mut self) -> Result<()> {
        let Active { file, segment, .. } = &self.active;
        #[cfg(feature = "sabotage")]
        if crate::sabotage::planted("no-fsync") {
            return Ok(());
        }
        file.sync()
            .map_err(|e| Error::io("sync", &segment.path, e))?;
        self.active.synced = self.active.end;
        Ok(())
    }

    /// Notes in the index where everything lies.
    fn publish(&mut self, synced: bool) -> Vec<Ticket> {
        let mut state = self.shared.state.lock();
        let number = self.active.segment.number;
        state.noted = (number, self.active.end);
        state.stats.bytes += self.buffer.len() as u64;
        state.stats.records += self.staged.len() as u64;
        state.stats.fsyncs += u64::from(synced);
        let mut tickets = Vec::new();
        for (offset, waiting) in self.staged.drain(..) {
            state.written(number, offset, &waiting);
            tickets.extend(waiting.ticket);
        }
        state.evict(self.shared.options.tail_bytes_max);
        tickets
    }

    /// Seals the segment and begins the next.
    fn roll(&mut self) -> Result<()> {
        let (payload, footer_at) = (self.take_footer().encode(), self.active.end);
        let own = Record::own(Kind::Footer, GroupId(0), Term(0), Index(0));
        let record = Record { payload, ..own };
        let mut bytes = Vec::new();
        let number = self.active.segment.number;
        record::encode_into(&mut bytes, &record, number, footer_at, self.active.synced);
        let footer_end = footer_at + bytes.len() as u64;
        let trailer_at = self.active.file_bytes.max(footer_end + HEAD_BYTES) - HEAD_BYTES;
        self.write(&bytes, footer_at)?;
        self.write(&segment::trailer(number, footer_at), trailer_at)?;
        self.active.end = footer_end;
        self.sync()?;
        self.active = begin(&self.shared, number + 1)?;
        let mut state = self.shared.state.lock();
        state
            .segments
            .insert(number + 1, self.active.segment.clone());
        state.stats.fsyncs += 2;
        drop(state);
        self.fill_ahead();
        Ok(())
    }

    /// What the open segment says about its groups; they start anew.
    fn take_footer(&self) -> Footer {
        let mut state = self.shared.state.lock();
        let number = self.active.segment.number;
        let mut groups = Vec::new();
        for (id, group) in state
            .groups
            .iter_mut()
            .filter(|(_, group)| group.open.touched)
        {
            let OpenSegment {
                truncated,
                vote,
                purged,
                ..
            } = std::mem::take(&mut group.open);
            let runs = group
                .runs
                .iter()
                .filter(|run| run.segment == number)
                .cloned()
                .collect();
            let greatest = group.greatest;
            groups.push(GroupFooter {
                group: *id,
                truncated,
                vote,
                purged,
                greatest,
                runs,
            });
        }
        Footer {
            erases: std::mem::take(&mut state.open_erases),
            groups,
        }
    }

    /// What it has not filled yet is not needed.
    fn await_filler(&mut self) {
        if let Some(filler) = self.filler.take() {
            self.shared.need.end();
            let _ended = filler.join();
        }
    }

    fn fill_ahead(&mut self) {
        if self.shared.options.spare == Spare::OnDemand {
            return;
        }
        // One that came too late for the segment that begins fills the file behind it.
        if self.filler.as_ref().is_some_and(|f| !f.is_finished()) {
            return;
        }
        let shared = self.shared.clone();
        let fill = move || {
            // The writer tries again when it needs the file; only then a failure is final.
            if let Err(error) = spare::ensure(&shared) {
                tracing::warn!(%error, "could not prepare the next journal segment");
            }
        };
        self.filler = std::thread::Builder::new()
            .name("journal-spare".into())
            .spawn(fill)
            .ok();
    }

    /// A mark behind the last record: after a clean end no damage passes for a torn tail.
    fn mark_end(&mut self) -> Result<()> {
        self.sync()?;
        let mark = Record::own(Kind::Mark, GroupId(0), Term(0), Index(0));
        let at = self.active.end;
        if at + mark.disk_bytes() as u64 > self.shared.options.segment_bytes {
            return Ok(());
        }
        let mut bytes = Vec::new();
        record::encode_into(&mut bytes, &mark, self.active.segment.number, at, at);
        self.write(&bytes, at)?;
        self.active.end += bytes.len() as u64;
        self.sync()
    }

    /// The first failure is final: everyone who waits or comes later gets it.
    fn fail(&mut self, error: Error) {
        let first = match self.shared.fail(error) {
            Error::Failed(first) => first,
            other => Arc::new(other),
        };
        self.end(first);
    }

    /// Answers everyone who waits with the first failure.
    fn end(&mut self, first: Arc<Error>) {
        let written = self.staged.drain(..).map(|(_, waiting)| waiting);
        let taken = written.chain(self.round.drain(..));
        let mut tickets: Vec<Ticket> = taken.filter_map(|waiting| waiting.ticket).collect();
        tickets.extend(self.shared.state.lock().take_tickets());
        for ticket in tickets {
            ticket.failed(Error::Failed(first.clone()));
        }
        self.await_filler();
        self.shared.lock.lock().take();
    }
}

/// Begins a segment: a file of zeros gets its name, durably, and a head, durably, before any
/// record.
pub(crate) fn begin(shared: &Shared, number: u64) -> Result<Active> {
    let segment = Segment::new(&shared.dir, number);
    spare::take(shared, &segment.path)?;
    let file = segment.open(&*shared.disk, Open::Write)?;
    write_head(segment, file)
}

/// Writes the head and syncs it.
pub(crate) fn write_head(segment: Arc<Segment>, file: Arc<dyn File>) -> Result<Active> {
    let file_bytes = segment.size(&*file)?;
    let head = segment::head(segment.number, file_bytes);
    file.write_at(&head, 0)
        .map_err(|e| Error::io("write", &segment.path, e))?;
    file.sync()
        .map_err(|e| Error::io("sync", &segment.path, e))?;
    Ok(Active {
        segment,
        file,
        file_bytes,
        end: HEAD_BYTES,
        synced: HEAD_BYTES,
    })
}

impl State {
    /// Empties the queues: nothing in them will be written.
    pub fn take_tickets(&mut self) -> Vec<Ticket> {
        self.turns.clear();
        self.stats.queue = 0;
        let queues = self
            .groups
            .values_mut()
            .flat_map(|group| group.queue.drain(..));
        queues.filter_map(|waiting| waiting.ticket).collect()
    }

    /// Notes that a record was written at a place.
    pub fn written(&mut self, segment: u64, offset: u64, waiting: &Waiting) {
        let Waiting {
            ref record,
            seq,
            position,
            ..
        } = *waiting;
        if matches!(record.kind, Kind::Erase | Kind::Mark | Kind::Footer) {
            if record.kind == Kind::Erase {
                self.open_erases.push(offset);
            }
            return;
        }
        let group = self
            .groups
            .get_mut(&record.group)
            .expect("a written record's group exists");
        group.open.touched = true;
        match record.kind {
            Kind::Truncate => {
                let least = group
                    .open
                    .truncated
                    .map_or(record.index, |at| at.min(record.index));
                group.open.truncated = Some(least);
                if record.index == Index(0) {
                    group.open.purged = None;
                }
                group.cut_runs(record.index);
                self.truncations += 1;
            }
            Kind::Vote => {
                group.vote_segment = Some(segment);
                group.open.vote = Some(record.payload.clone());
            }
            Kind::Purge => {
                group.purge_written(segment, record.index);
                group.open.purged = Some((record.term, record.index));
            }
            _ => {
                group.written(segment, offset, record.term, record.index, position);
                if group.holds(seq) {
                    group.durable = group.durable.max(Some(record.index));
                    self.evictable.push_back(Evictable {
                        group: record.group,
                        seq,
                    });
                }
            }
        }
    }

    /// Drops the oldest written records from memory until the rest fits.
    fn evict(&mut self, tail_bytes_max: usize) {
        if self.evictable.len() > self.tidy_at {
            let groups = &self.groups;
            self.evictable.retain(|Evictable { group, seq }| {
                let held = groups.get(group).and_then(|group| group.tail.front());
                held.is_some_and(|held| held.seq <= *seq)
            });
            self.tidy_at = 2 * self.evictable.len() + 1024;
        }
        while self.tail_bytes > tail_bytes_max {
            let Some(Evictable { group, seq }) = self.evictable.pop_front() else {
                break;
            };
            let Some(group) = self.groups.get_mut(&group) else {
                continue;
            };
            while let Some(held) = group.tail.pop_front_if(|held| held.seq <= seq) {
                self.tail_bytes -= held.bytes();
            }
        }
    }
}
