//! Apply: committed records in log order become versions in the table store. Blind and
//! deterministic: no clock, no random, no constraint. Only the chain is checked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;

use bytes::Bytes;
use journal::{Index, Payload, Position, Term};
use parking_lot::MutexGuard;

use super::overlay::TreeWrite;
use super::{Group, Verdict};
use crate::sums::Sums;
use crate::{
    Applied, Change, Entry, Error, Header, Part, PartHeader, PartSource, RaftState, Result, TxId,
    erase, system,
};

/// Parts of a large transaction that is not finished.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OpenParts {
    pub epoch: Term,
    /// Where the journal has them, in order.
    pub indexes: Vec<Index>,
    pub changes: u64,
}

/// How far the log is applied, behind the apply lock.
#[derive(Default)]
pub(crate) struct LogState {
    pub applied: Applied,
    /// The greatest position in the log, broken entries included, or the greatest transaction id
    /// if that is above: ids run ahead of a clock that was set back, and begin above this after a
    /// restart.
    pub top: Position,
    pub raft: RaftState,
    pub parts: BTreeMap<TxId, OpenParts>,
    /// Dropped as of a position, but perhaps still read below it; ascending.
    pub drops: VecDeque<(Position, u32)>,
    /// What the tables hold as of `applied`.
    pub sums: Sums,
    /// The group has left this node: nothing is written any more.
    pub ended: bool,
}

/// What is known of the log without the apply lock: as [`LogState`] has it.
pub(super) struct Progress {
    pub applied: Applied,
    pub raft: RaftState,
    /// The first part of a large transaction whose entry has not come.
    pub parts: Option<Index>,
}

impl LogState {
    pub(super) fn progress(&self) -> Progress {
        let parts = self.parts.values();
        Progress {
            applied: self.applied,
            raft: self.raft.clone(),
            parts: parts
                .filter_map(|parts| parts.indexes.first().copied())
                .min(),
        }
    }

    fn raise_top(&mut self, position: Position, txid: TxId) {
        self.top = self.top.max(position).max(Position(txid.0));
    }

    /// Notes a record's place. False if it was applied before.
    fn pass(&mut self, term: Term, index: Index) -> bool {
        if index <= self.applied.index {
            return false;
        }
        if term > self.applied.term {
            self.parts.retain(|_, parts| parts.epoch >= term);
        }
        (self.applied.term, self.applied.index) = (term, index);
        true
    }
}

impl Group {
    pub(super) fn apply_entry(
        &self,
        term: Term,
        index: Index,
        payload: &Payload,
        source: &mut dyn PartSource,
    ) -> Result<Verdict> {
        let entry = Entry::decode(payload)?;
        let position = entry.header.position;
        let state = self.log.lock();
        self.check_alive(&state)?;
        if index <= state.applied.index {
            #[cfg(feature = "sabotage")]
            if journal::sabotage::planted("apply-twice") {
                self.finish_entry(state, term, index, entry, Sums::default())?;
            }
            return Ok(Verdict::Repeated);
        }
        if !continues(&state, term, &entry.header) {
            let mut state = state;
            state.pass(term, index);
            state.parts.remove(&entry.header.txid);
            state.raise_top(position, entry.header.txid);
            self.note_progress(&state);
            self.broken.write().insert(position);
            drop(state);
            self.decided(term, position, false).call();
            return Ok(Verdict::Broken(position));
        }
        let mut sums = Sums::default();
        let state = if entry.header.parts.is_some() {
            let indexes = state
                .parts
                .get(&entry.header.txid)
                .map(|parts| parts.indexes.clone());
            drop(state);
            self.write_parts(position, indexes.unwrap_or_default(), source, &mut sums)?;
            let state = self.log.lock();
            self.check_alive(&state)?;
            state
        } else {
            state
        };
        self.finish_entry(state, term, index, entry, sums)?;
        Ok(Verdict::Applied(position))
    }

    /// Nothing is written in a group that has ended. Errors: `NoGroup`.
    pub(crate) fn check_alive(&self, state: &LogState) -> Result<()> {
        match state.ended {
            false => Ok(()),
            true => Err(Error::NoGroup(self.shared.id)),
        }
    }

    /// Ends it: what was applied until now was all. Who ends its log says so before. Nobody reads
    /// it any more, and it does not count as held: what rests on more of it than came here is not
    /// hidden until its tables have gone.
    pub fn end(&self) {
        let mut state = self.log.lock();
        if !std::mem::replace(&mut state.ended, true) {
            // Seen before its tables go.
            self.gone.store(true, Ordering::SeqCst);
            self.publish.remove(self.shared.id);
        }
    }

    /// The last entry applied here that has written a table, by its tree (a tree that took another's
    /// place, by TRUNCATE or a rewrite, begins anew). `None`: it is not known, or there was none; of
    /// event tables a follower knows nothing.
    pub fn written(&self, tree: u32) -> Option<Position> {
        let written = self.log.lock().sums.written(tree);
        (written > Position::ZERO).then_some(written)
    }

    /// Writes the parts of a large transaction. Nobody sees them yet: reads are below their
    /// position. The apply lock is held per part, so that a checkpoint can come between them; it
    /// then says that the entry before this one is the last.
    fn write_parts(
        &self,
        position: Position,
        indexes: Vec<Index>,
        source: &mut dyn PartSource,
        sums: &mut Sums,
    ) -> Result<()> {
        for index in indexes {
            let part = Part::decode(&source.part(index)?)?;
            sums.note(&part.changes);
            let state = self.log.lock();
            self.check_alive(&state)?;
            let mut own = Vec::new();
            erase::note_removals(&part.changes, position, &mut own);
            self.note_parts(&own, position);
            self.write(position, tree_writes(part.changes, own))?;
        }
        Ok(())
    }

    /// Writes what is in the entry itself and makes the whole of it visible. `sums`: what its
    /// parts have moved.
    fn finish_entry(
        &self,
        mut state: MutexGuard<'_, LogState>,
        term: Term,
        index: Index,
        entry: Entry,
        mut sums: Sums,
    ) -> Result<()> {
        sums.note(&entry.changes);
        sums.note_events(&entry.events);
        sums.stamp(entry.header.position);
        self.note_keeps(&entry.changes, entry.header.position)?;
        #[cfg(feature = "sabotage")]
        let mut entry = entry;
        #[cfg(feature = "sabotage")]
        if journal::sabotage::planted("skip-one-entry") && index.0 % 50 == 49 {
            entry.changes.clear();
        }
        let Header {
            position,
            txid,
            deps,
            outcome,
            ..
        } = entry.header;
        let mut own = Vec::new();
        if outcome {
            let (key, value) = (number(txid.0), number(position.0));
            own.push(TreeWrite {
                tree: system::OUTCOMES,
                key,
                value: Some(value),
            });
        }
        for tree in &entry.dropped_trees {
            let key = Bytes::copy_from_slice(&tree.to_be_bytes());
            let value = Some(number(position.0));
            own.push(TreeWrite {
                tree: system::DROPPED_TREES,
                key,
                value,
            });
            state.drops.push_back((position, *tree));
            own.push(erase::note_dropped(*tree, position));
        }
        erase::note_removals(&entry.changes, position, &mut own);
        self.note_ledger(&own, position);
        let catalog: Vec<Change> = match &self.observer {
            Some(_) => {
                let system = |change: &&Change| system::is_system(change.tree);
                entry.changes.iter().filter(system).cloned().collect()
            }
            None => Vec::new(),
        };
        let sent = |change: &&Change| system::outbox_to(change.tree).is_some();
        let sent: Vec<Change> = entry.changes.iter().filter(sent).cloned().collect();
        let writes = tree_writes(entry.changes, own);
        let written = writes.iter().map(TreeWrite::bytes).sum();
        self.write(position, writes)?;
        state.pass(term, index);
        state.parts.remove(&txid);
        state
            .parts
            .retain(|txid, _| !entry.abandoned.contains(txid));
        state.applied.position = position;
        state.sums.merge(sums);
        entry
            .dropped_trees
            .iter()
            .for_each(|tree| state.sums.forget(*tree));
        state.raise_top(position, txid);
        self.note_progress(&state);
        self.chain.set(position);
        if let Some(observer) = &self.observer
            && !catalog.is_empty()
        {
            observer.system(self.shared.id, position, &catalog);
        }
        if !entry.close {
            self.content.set(position);
        }
        let ready = self.check_ready(position)?;
        // During a replay nobody is told that it is shown, either.
        if let Some(observer) = &self.observer
            && ready
            && !sent.is_empty()
        {
            observer.sent(self.shared.id, &sent);
        }
        self.publish.publish(self.shared.id, position, deps, ready);
        drop(state);
        if !entry.abandoned.is_empty() {
            let mut writer = self.writer.lock();
            writer
                .abandoned
                .retain(|txid| !entry.abandoned.contains(txid));
        }
        self.decided(term, position, true).call();
        self.shared.evict(written);
        if let Some(observer) = &self.observer
            && ready
        {
            observer.published(self.shared.id, position);
        }
        Ok(())
    }

    fn write(&self, position: Position, writes: Vec<TreeWrite>) -> Result<()> {
        let mut writes = writes.into_iter().peekable();
        while let Some(number) = writes.peek().map(|write| write.tree) {
            let mut of_tree = std::iter::from_fn(|| {
                writes
                    .next_if(|write| write.tree == number)
                    .map(|write| (write.key, write.value))
            });
            self.shared
                .store
                .write(self.shared.tree(number), position, &mut of_tree)?;
        }
        Ok(())
    }

    pub(super) fn apply_part_record(
        &self,
        term: Term,
        index: Index,
        payload: &Payload,
    ) -> Result<PartHeader> {
        let part = Part::decode(payload)?;
        let header = part.header;
        let mut state = self.log.lock();
        if state.pass(term, index) && header.epoch == term {
            let open = state.parts.entry(header.txid).or_default();
            open.epoch = header.epoch;
            open.indexes.push(index);
            open.changes += part.changes_ever();
        }
        self.note_progress(&state);
        drop(state);
        let mut writer = self.writer.lock();
        if let Some(progress) = writer.parts.get_mut(&header.txid) {
            progress.applied += 1;
            self.parts_moved.notify_all();
        }
        Ok(header)
    }

    pub(super) fn apply_raft_record(&self, term: Term, index: Index, raft: Option<RaftState>) {
        let mut state = self.log.lock();
        // A group's first record has index 0, which is also what "nothing applied" looks like.
        let new = state.pass(term, index);
        if let Some(raft) = raft
            && (new || index >= state.applied.index)
        {
            state.raft = raft;
        }
        self.note_progress(&state);
        if !new {
            return;
        }
        drop(state);
        self.passed_term(term).call();
    }

    /// Removes trees that nobody can read any more.
    pub(super) fn drop_trees(&self, horizon: Position) -> Result<()> {
        loop {
            let next = self
                .log
                .lock()
                .drops
                .pop_front_if(|(position, _)| *position <= horizon);
            let Some((_, tree)) = next else { return Ok(()) };
            self.shared.store.drop_tree(self.shared.tree(tree))?;
        }
    }
}

/// The chain: computed in this term, on the entry that is the last applied one, and all parts are
/// there.
fn continues(state: &LogState, term: Term, header: &Header) -> bool {
    #[cfg(feature = "sabotage")]
    if journal::sabotage::planted("chain-check-off") {
        return true;
    }
    let parts = state.parts.get(&header.txid);
    let whole = header.parts.is_none_or(|wanted| {
        parts.is_some_and(|parts| {
            parts.indexes.len() == wanted.parts as usize && parts.changes == wanted.changes
        })
    });
    header.epoch == term && header.prev == state.applied.position && whole
}

fn number(value: u64) -> Bytes {
    Bytes::copy_from_slice(&value.to_be_bytes())
}

/// All writes of some changes to tables and indexes, by tree and key, one per key: where one row
/// gives an index key up and another takes it, the put holds.
pub(super) fn tree_writes(changes: Vec<Change>, mut writes: Vec<TreeWrite>) -> Vec<TreeWrite> {
    for change in changes {
        writes.push(TreeWrite {
            tree: change.tree,
            key: change.key,
            value: change.new,
        });
        let index = change.index.into_iter();
        writes.extend(index.map(|w| TreeWrite {
            tree: w.tree,
            key: w.key,
            value: w.value,
        }));
    }
    writes.sort_by(|a, b| {
        (a.tree, &a.key, a.value.is_none()).cmp(&(b.tree, &b.key, b.value.is_none()))
    });
    writes.dedup_by(|later, first| later.tree == first.tree && later.key == first.key);
    writes
}
