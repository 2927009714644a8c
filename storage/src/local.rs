//! [`Propose`] without Raft and journal, for tests: proposals are applied at once in the
//! committing thread, or held until the test delivers, refuses or loses them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use journal::{GroupId, Index, Payload, Position, Term};
use parking_lot::Mutex;

use crate::{
    Clock, Durable, Error, Group, Groups, PartSource, Proposal, Propose, Proposed, Result,
    TableStore,
};

/// A record of the log that [`Local`] would have written.
#[derive(Clone, Debug)]
pub struct LocalRecord {
    /// Term of the log.
    pub term: Term,
    /// Place in the log.
    pub index: Index,
    /// `None`: Raft's own.
    pub what: Option<Proposed>,
    /// The images.
    pub payload: Payload,
}

/// One node without Raft and journal.
pub struct Local {
    groups: Arc<Groups>,
    logs: Mutex<BTreeMap<GroupId, Log>>,
    keep_log: bool,
    payload_bytes_max: AtomicUsize,
}

#[derive(Default)]
struct Log {
    term: Term,
    index: Index,
    /// The greatest position ever proposed.
    top: Position,
    queue: VecDeque<Proposal>,
    held: bool,
    /// Some thread is applying; it takes what comes meanwhile too.
    delivering: bool,
    parts: BTreeMap<Index, Payload>,
    records: Vec<LocalRecord>,
}

impl Local {
    /// A node over a table store.
    pub fn new(store: Arc<dyn TableStore>, clock: Arc<dyn Clock>) -> Arc<Local> {
        Local::make(store, clock, false)
    }

    /// A node that remembers its log, for tests of restarts.
    pub fn journaled(store: Arc<dyn TableStore>, clock: Arc<dyn Clock>) -> Arc<Local> {
        Local::make(store, clock, true)
    }

    fn make(store: Arc<dyn TableStore>, clock: Arc<dyn Clock>, keep_log: bool) -> Arc<Local> {
        let groups = Groups::new(store, clock);
        let local = Arc::new(Local {
            groups,
            logs: Mutex::default(),
            keep_log,
            payload_bytes_max: AtomicUsize::new(usize::MAX),
        });
        local
            .groups
            .attach(Arc::new(Proposer(Arc::downgrade(&local))));
        local
    }

    /// From now on its log takes no larger payloads, as a journal of small segments.
    pub fn limit_payloads(&self, bytes_max: usize) {
        self.payload_bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// Its groups.
    pub fn groups(&self) -> &Arc<Groups> {
        &self.groups
    }

    /// Opens a group and leads it in a new term.
    pub fn lead(&self, id: GroupId) -> Result<Arc<Group>> {
        self.lead_above(id, Position::ZERO)
    }

    fn lead_above(&self, id: GroupId, above: Position) -> Result<Arc<Group>> {
        let group = self.groups.open(id)?;
        let (term, index, top) = {
            let mut logs = self.logs.lock();
            let log = logs.entry(id).or_default();
            let applied = group.applied_log().0;
            log.term = Term(log.term.max(applied.term).0 + 1);
            log.index = Index(log.index.max(applied.index).0 + 1);
            if self.keep_log {
                let (term, index) = (log.term, log.index);
                let payload = Payload::default();
                log.records.push(LocalRecord {
                    term,
                    index,
                    what: None,
                    payload,
                });
            }
            (log.term, log.index, log.top)
        };
        group.apply_raft(term, index, None);
        group.lead(term, top.max(above));
        Ok(group)
    }

    /// From now on proposals of the group wait for `deliver`, `refuse` or `lose`.
    pub fn hold(&self, id: GroupId) {
        self.logs.lock().entry(id).or_default().held = true;
    }

    /// Delivers everything held; from now on proposals are applied at once again.
    pub fn release(&self, id: GroupId) -> Result<()> {
        self.logs.lock().entry(id).or_default().held = false;
        self.apply_queue(id, usize::MAX)
    }

    /// Proposals held.
    pub fn held(&self, id: GroupId) -> usize {
        self.logs.lock().get(&id).map_or(0, |log| log.queue.len())
    }

    /// Applies the first `count` proposals held.
    pub fn deliver(&self, id: GroupId, count: usize) -> Result<()> {
        self.apply_queue(id, count)
    }

    /// Refuses the first `count` proposals held, as Raft does when its lease has lapsed. Returns
    /// how many there were.
    pub fn refuse(&self, id: GroupId, count: usize) -> usize {
        let refused = self.take(id, count);
        let number = refused.len();
        let Some(group) = self.groups.get(id) else {
            return number;
        };
        let mut positions = Vec::new();
        for proposal in refused {
            match proposal.what {
                Proposed::Entry(position) => positions.push(position),
                Proposed::Part => group.part_refused(proposal.txid),
            }
        }
        group.refused(&positions);
        number
    }

    /// Takes away the first `count` proposals held without a word.
    pub fn lose(&self, id: GroupId, count: usize) {
        self.take(id, count);
    }

    /// The leader falls. What is held can still be delivered, in its old term.
    pub fn step_down(&self, id: GroupId) {
        if let Some(group) = self.groups.get(id) {
            group.step_down();
        }
    }

    /// The group's log so far ([`Local::journaled`]).
    pub fn log(&self, id: GroupId) -> Vec<LocalRecord> {
        self.logs
            .lock()
            .get(&id)
            .map(|log| log.records.clone())
            .unwrap_or_default()
    }

    /// Opens a group and applies what a log has beyond the store's checkpoint, as a node does
    /// when it starts. It does not lead yet.
    pub fn replay(&self, id: GroupId, records: Vec<LocalRecord>) -> Result<Arc<Group>> {
        let group = self.groups.open(id)?;
        let mut logs = self.logs.lock();
        let log = logs.entry(id).or_default();
        for record in &records {
            (log.term, log.index) = (record.term, record.index);
            match record.what {
                Some(Proposed::Part) => {
                    log.parts.insert(record.index, record.payload.clone());
                }
                Some(Proposed::Entry(position)) => log.top = position.max(log.top),
                None => (),
            }
        }
        log.records = records.clone();
        drop(logs);
        for record in records {
            self.apply(&group, record)?;
        }
        Ok(group)
    }

    fn take(&self, id: GroupId, count: usize) -> Vec<Proposal> {
        let mut logs = self.logs.lock();
        let queue = &mut logs.entry(id).or_default().queue;
        let count = count.min(queue.len());
        queue.drain(..count).collect()
    }

    fn apply_queue(&self, id: GroupId, mut count: usize) -> Result<()> {
        let Some(group) = self.groups.get(id) else {
            return Ok(());
        };
        if std::mem::replace(
            &mut self.logs.lock().entry(id).or_default().delivering,
            true,
        ) {
            return Ok(());
        }
        loop {
            let next = {
                let mut logs = self.logs.lock();
                let log = logs.entry(id).or_default();
                let next = if count == 0 {
                    None
                } else {
                    log.queue.pop_front()
                };
                let Some(proposal) = next else {
                    log.delivering = false;
                    return Ok(());
                };
                log.append(proposal, self.keep_log)
            };
            count -= 1;
            if let Err(error) = self.apply(&group, next) {
                self.logs.lock().entry(id).or_default().delivering = false;
                return Err(error);
            }
        }
    }

    fn apply(&self, group: &Group, record: LocalRecord) -> Result<()> {
        let LocalRecord {
            term,
            index,
            what,
            payload,
        } = record;
        match what {
            Some(Proposed::Entry(_)) => {
                let mut source = LocalParts {
                    local: self,
                    id: group.id(),
                };
                group.apply(term, index, &payload, &mut source).map(|_| ())
            }
            Some(Proposed::Part) => group.apply_part(term, index, &payload).map(|_| ()),
            None => {
                group.apply_raft(term, index, None);
                Ok(())
            }
        }
    }
}

impl Log {
    /// Gives a proposal its place.
    fn append(&mut self, proposal: Proposal, keep: bool) -> LocalRecord {
        self.index = Index(self.index.0 + 1);
        let (term, index) = (self.term, self.index);
        if proposal.what == Proposed::Part {
            self.parts.insert(index, proposal.payload.clone());
        }
        let (what, payload) = (Some(proposal.what), proposal.payload);
        let record = LocalRecord {
            term,
            index,
            what,
            payload,
        };
        if keep {
            self.records.push(record.clone());
        }
        record
    }
}

/// Nothing is ever on a disk here, so nothing has to be waited for.
impl Durable for Local {
    fn wait(&self, _group: GroupId, _index: Index) -> Result<()> {
        Ok(())
    }
}

struct LocalParts<'a> {
    local: &'a Local,
    id: GroupId,
}

impl PartSource for LocalParts<'_> {
    fn part(&mut self, index: Index) -> Result<Payload> {
        let logs = self.local.logs.lock();
        let part = logs
            .get(&self.id)
            .and_then(|log| log.parts.get(&index))
            .cloned();
        part.ok_or_else(|| Error::Corrupt {
            place: format!("local log of group {}", self.id),
            what: format!("part {} is missing", index.0),
        })
    }
}

/// The groups know the node only weakly, for the node owns them.
struct Proposer(Weak<Local>);

impl Propose for Proposer {
    fn propose(&self, group: GroupId, proposal: Proposal) {
        if let Some(local) = self.0.upgrade() {
            local.propose(group, proposal);
        }
    }

    fn payload_bytes_max(&self) -> usize {
        self.0
            .upgrade()
            .map_or(usize::MAX, |local| local.payload_bytes_max())
    }

    fn placed(&self, group: GroupId) {
        if let Some(local) = self.0.upgrade() {
            local.placed(group);
        }
    }

    fn create(&self, group: GroupId, above: Position, done: Box<dyn FnOnce(Result<()>) + Send>) {
        if let Some(local) = self.0.upgrade() {
            local.create(group, above, done);
        }
    }
}

impl Propose for Local {
    fn propose(&self, group: GroupId, proposal: Proposal) {
        let bytes = proposal.payload.len();
        assert!(
            bytes <= self.payload_bytes_max(),
            "a journal ends the group over a record of {bytes} bytes"
        );
        let mut logs = self.logs.lock();
        let log = logs.entry(group).or_default();
        if let Proposed::Entry(position) = proposal.what {
            log.top = position.max(log.top);
        }
        log.queue.push_back(proposal);
    }

    fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max.load(Ordering::Relaxed)
    }

    fn placed(&self, group: GroupId) {
        let held = self.logs.lock().get(&group).is_none_or(|log| log.held);
        if !held {
            self.apply_queue(group, usize::MAX)
                .expect("a test's store takes every entry");
        }
    }

    fn create(&self, group: GroupId, above: Position, done: Box<dyn FnOnce(Result<()>) + Send>) {
        done(self.lead_above(group, above).map(|_| ()));
    }
}
