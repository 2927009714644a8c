//! The writer of a group: the one critical section in which a transaction gets its position, and
//! what happens to the chain when leadership or a proposal is lost.
//!
//! An *era* is the time between two losses. Each begins with an entry of its own above every
//! position of the one before, so a snapshot's position alone tells the era.

use std::sync::atomic::Ordering;

use journal::{GroupId, Position, Term};

use super::overlay::{Lookup, Overlay, Since, TreeWrite};
use super::queue::{Calls, Pending, Writer};
use super::{Check, Commit, Group, Refused, Wait};
use crate::entry::EntryBuilder;
use crate::locks::read_kept;
use crate::{
    Direction, Header, KeptLock, LockKey, Meta, PartsRef, Proposal, Proposed, RowMode, TxId, system,
};

/// Bytes of pending entries above which no new statement begins on the newest state.
const PENDING_BYTES_MAX: usize = 64 << 20;

/// What a transaction brings into the critical section, encoded but for its header.
struct Draft {
    txid: TxId,
    epoch: Term,
    base: Position,
    meta: Meta,
    deps: Vec<(GroupId, Position)>,
    checks: Vec<Check>,
    outcome: bool,
    images: EntryBuilder,
    parts: Option<PartsRef>,
    writes: Vec<TreeWrite>,
    /// Trees written without noting their keys.
    coarse: Vec<u32>,
    barrier: bool,
}

impl Group {
    /// [`Group::commit`] behind the journaling of parts; `coarse` names the trees that these
    /// write.
    pub(super) fn place_commit(
        &self,
        commit: Commit,
        mut images: EntryBuilder,
        writes: Vec<TreeWrite>,
        parts: Option<PartsRef>,
        mut coarse: Vec<u32>,
    ) -> Result<Position, Refused> {
        commit.events.iter().for_each(|event| images.event(event));
        commit
            .dropped_trees
            .iter()
            .for_each(|tree| images.drop_tree(*tree));
        coarse.extend(&commit.dropped_trees);
        let is_catalog = writes.iter().any(|write| system::is_catalog(write.tree));
        let barrier = is_catalog || !coarse.is_empty();
        let Commit {
            txid,
            epoch,
            base,
            meta,
            deps,
            checks,
            record_outcome: outcome,
            keeps_locks,
            ..
        } = commit;
        let draft = Draft {
            txid,
            epoch,
            base,
            meta,
            deps,
            checks,
            outcome,
            images,
            parts,
            writes,
            coarse,
            barrier,
        };
        let position = self.place(&mut self.writer.lock(), draft)?;
        // The entry has its place: what comes after it may be computed on it.
        if !keeps_locks {
            self.locks.release(txid);
        }
        self.propose.placed(self.shared.id);
        Ok(position)
    }

    /// The critical section.
    fn place(&self, writer: &mut Writer, mut draft: Draft) -> Result<Position, Refused> {
        if writer.term != Some(draft.epoch) || writer.mending || draft.base <= writer.discarded {
            return Err(Refused::NotLeader);
        }
        let shared = &self.shared;
        let mut overlay = shared.overlay.write();
        for check in &draft.checks {
            self.check(&overlay, draft.txid, check)?;
        }
        let position = self.stamp(writer, &draft.deps)?;
        writer
            .abandoned
            .iter()
            .for_each(|txid| draft.images.abandon(*txid));
        let prev = writer.prev;
        let header = Header {
            epoch: draft.epoch,
            prev,
            position,
            txid: draft.txid,
            meta: draft.meta,
            deps: draft.deps,
            images: 0,
            parts: draft.parts,
            outcome: draft.outcome,
        };
        let payload = draft.images.finish(header);
        self.check_record(payload.len())?;
        overlay.insert(position, draft.writes);
        for tree in draft.coarse {
            overlay.insert_coarse(position, tree);
        }
        drop(overlay);
        let (epoch, txid, bytes) = (draft.epoch, draft.txid, payload.len());
        writer.pending.push_back(Pending {
            prev,
            position,
            epoch,
            txid,
            bytes,
            refused: false,
        });
        writer.pending_bytes += bytes;
        writer.prev = position;
        if draft.barrier {
            writer.barrier = position;
        }
        // Before `placed`: who reads at the new position must know that it is a barrier.
        self.refresh(writer);
        shared.placed.set(position);
        let what = Proposed::Entry(position);
        self.propose.propose(
            shared.id,
            Proposal {
                epoch,
                txid,
                what,
                payload,
            },
        );
        Ok(position)
    }

    fn stamp(
        &self,
        writer: &mut Writer,
        deps: &[(GroupId, Position)],
    ) -> Result<Position, Refused> {
        let clock = Position::from_unix_micros(self.clock.unix_micros());
        let above = deps
            .iter()
            .map(|(_, dep)| *dep)
            .max()
            .unwrap_or_default()
            .max(writer.last);
        if above >= Position::MAX {
            let what = "the positions of this group are used up".into();
            return Err(Refused::Storage(crate::Error::Format(what)));
        }
        writer.last = clock.max(above.next());
        Ok(writer.last)
    }

    fn check(&self, overlay: &Overlay, txid: TxId, check: &Check) -> Result<(), Refused> {
        let changed = |what: &str| {
            let text = format!("could not serialize access due to {what}");
            Err(Refused::Serialization(text))
        };
        match check {
            Check::Range { tree, range, seen } => {
                if overlay.range_since(*tree, range, *seen) {
                    return changed("read/write dependencies among transactions");
                }
            }
            Check::Key { tree, key, seen } => match overlay.since(*tree, key, *seen) {
                Since::Unwritten => (),
                // Share keeps out whoever would write the row.
                Since::Unknown if self.holds_row(txid, *tree, key, RowMode::Share) => (),
                Since::Unknown | Since::Written { .. } => return changed("concurrent update"),
            },
            Check::Present { tree, key, seen } => {
                if !self
                    .exists(overlay, txid, *tree, key, *seen)?
                    .unwrap_or(true)
                {
                    return changed("concurrent delete");
                }
            }
            Check::Absent { tree, key, seen } => {
                if self
                    .exists(overlay, txid, *tree, key, *seen)?
                    .unwrap_or(false)
                {
                    return changed("concurrent insert");
                }
            }
        }
        Ok(())
    }

    fn holds_row(&self, txid: TxId, tree: u32, key: &bytes::Bytes, mode: RowMode) -> bool {
        self.locks.holds(
            txid,
            &LockKey::Row {
                tree,
                key: key.clone(),
            },
            mode,
        )
    }

    /// Does the key exist now? `None`: as it did at `seen`.
    fn exists(
        &self,
        overlay: &Overlay,
        txid: TxId,
        tree: u32,
        key: &bytes::Bytes,
        seen: Position,
    ) -> Result<Option<bool>, Refused> {
        match overlay.since(tree, key, seen) {
            Since::Unwritten => Ok(None),
            Since::Written { exists } => Ok(Some(exists)),
            // Any lock keeps out whoever would put the key there or remove it.
            Since::Unknown if self.holds_row(txid, tree, key, RowMode::KeyShare) => Ok(None),
            // A large entry that is not applied yet may have touched the key.
            Since::Unknown if self.large_in_flight(overlay) => Err(Refused::Serialization(
                "could not serialize access due to a concurrent large transaction".into(),
            )),
            Since::Unknown => {
                let newest = self.shared.placed.get();
                let value = match overlay.get(tree, key, newest) {
                    Lookup::Found(value) => value,
                    Lookup::Store => {
                        let tree = self.shared.tree(tree);
                        self.shared
                            .store
                            .get(tree, key, newest)
                            .map_err(Refused::Storage)?
                    }
                };
                Ok(Some(value.is_some()))
            }
        }
    }

    fn large_in_flight(&self, overlay: &Overlay) -> bool {
        overlay.coarse() > self.shared.applied.get()
    }

    /// Recomputes whether `newest` must look closer.
    pub(super) fn refresh(&self, writer: &Writer) {
        let slow = writer.term.is_none()
            || !writer.opened
            || writer.mending
            || writer.barrier > self.shared.applied.get()
            || writer.pending_bytes > PENDING_BYTES_MAX;
        self.shared.slow.store(slow, Ordering::Release);
    }

    /// [`Group::newest`] where it must look closer.
    pub(super) fn newest_slow(&self) -> Result<Position, Wait> {
        let mut writer = self.writer.lock();
        let applied = self.shared.applied.get();
        if writer.term.is_none() {
            return Ok(applied);
        }
        if writer.mending {
            return Err(Wait(self.shared.placed.get()));
        }
        if writer.barrier > applied {
            return Err(Wait(writer.barrier));
        }
        if writer.pending_bytes > PENDING_BYTES_MAX
            && let Some(first) = writer.pending.front()
        {
            return Err(Wait(first.position));
        }
        if writer.opened {
            return Ok(self.shared.placed.get());
        }
        // Only now, not at once after the loss: while proposals are refused again and again, the
        // rate is that of the clients.
        let opened = self.place_close(&mut writer);
        drop(writer);
        self.propose.placed(self.shared.id);
        Ok(opened.unwrap_or(applied))
    }

    /// Places an entry without content; the first one opens the era.
    pub(super) fn place_close(&self, writer: &mut Writer) -> Option<Position> {
        let epoch = writer.term?;
        writer.opened = true;
        let mut images = EntryBuilder::new();
        images.close();
        let draft = Draft {
            txid: TxId(0),
            epoch,
            base: Position::MAX,
            meta: Meta::default(),
            deps: Vec::new(),
            checks: Vec::new(),
            outcome: false,
            images,
            parts: None,
            writes: Vec::new(),
            coarse: Vec::new(),
            barrier: false,
        };
        self.place(writer, draft).ok()
    }

    /// Begins to place entries in a term, above `last`.
    pub(super) fn take_over(&self, term: Term, last: Position) -> Calls {
        let mut writer = self.writer.lock();
        let applied = self.shared.applied.get();
        // All that came before this term is applied; what is still pending is in no log.
        writer.lose_front(|_| true);
        writer.abandoned.clear();
        writer.last = last.max(writer.last).max(applied);
        #[cfg(feature = "sabotage")]
        if journal::sabotage::planted("position-reused") {
            writer.last = applied;
        }
        self.ids.raise(writer.last);
        writer.term = Some(term);
        self.drop_era(&mut writer);
        writer.settle(applied)
    }

    /// Ends leadership. What is pending stays in doubt.
    pub(super) fn retire(&self) -> Calls {
        let mut writer = self.writer.lock();
        writer.term = None;
        self.drop_era(&mut writer);
        writer.lose_front(|entry| entry.refused);
        writer.settle(self.shared.applied.get())
    }

    /// Forgets all that was computed on what is not applied: overlay, locks, transactions.
    pub(super) fn drop_era(&self, writer: &mut Writer) {
        let applied = self.shared.applied.get();
        writer.mending = false;
        writer.opened = false;
        writer.discarded = writer.last;
        writer.barrier = Position::ZERO;
        writer.prev = self.chain.get();
        self.refresh(writer);
        let mut overlay = self.shared.overlay.write();
        self.shared.placed.set(applied);
        // What was looked at in the era that ends must not be taken for unwritten: the next one begins above.
        overlay.clear(writer.last.next());
        drop(overlay);
        self.parts_moved.notify_all();
        let gone = TxId(self.entered.load(Ordering::Acquire));
        // A leader that does not know what is locked must not lead.
        let kept = match (writer.term, self.kept_locks(applied)) {
            (None, _) => Vec::new(),
            (Some(_), Ok(kept)) => kept,
            (Some(_), Err(_)) => {
                writer.term = None;
                Vec::new()
            }
        };
        writer.wakes.extend(self.locks.clear(gone, &kept));
        if let Some(observer) = self.observer.clone() {
            let id = self.shared.id;
            writer.wakes.push(Box::new(move || observer.era_ended(id)));
        }
    }

    /// Locks that outlive their leader. Errors: `Corrupt`, `Store`.
    fn kept_locks(&self, applied: Position) -> crate::Result<Vec<(TxId, Vec<KeptLock>)>> {
        let (tree, all) = (
            self.shared.tree(system::LOCKS),
            (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded),
        );
        let rows = self
            .shared
            .store
            .scan(tree, all, applied, Direction::Forward)?;
        let read = |row: crate::Result<(bytes::Bytes, bytes::Bytes)>| {
            let (key, value) = row?;
            read_kept(&key, &value)
        };
        rows.map(read).collect()
    }

    /// Proposals that are certainly not in the log.
    pub(super) fn refuse(&self, positions: &[Position]) -> Calls {
        let mut writer = self.writer.lock();
        for entry in &mut writer.pending {
            entry.refused |= positions.contains(&entry.position);
        }
        let any = writer.pending.iter().any(|entry| entry.refused);
        if any && writer.term.is_some() {
            writer.mending = true;
            self.refresh(&writer);
        }
        self.mend(&mut writer);
        writer.settle(self.shared.applied.get())
    }

    /// Ends the mending once nothing is in flight.
    pub(super) fn mend(&self, writer: &mut Writer) {
        if writer.term.is_none() {
            writer.lose_front(|entry| entry.refused);
            return;
        }
        if writer.mending && writer.pending.iter().all(|entry| entry.refused) {
            writer.lose_front(|_| true);
            self.drop_era(writer);
        }
    }

    /// An entry of the log was applied, or found to break the chain.
    pub(super) fn decided(&self, term: Term, position: Position, applied: bool) -> Calls {
        let mut writer = self.writer.lock();
        writer.last = position.max(writer.last);
        // Positions and terms ascend along the log: what was proposed before this entry and has
        // not come will not come.
        let skipped = writer.lose_front(|e| e.position < position || e.epoch < term);
        let broken = writer.decide(position, applied);
        if writer.term.is_some() && (skipped || broken) {
            writer.mending = true;
        }
        if writer.term.is_none() {
            self.shared.placed.set(self.shared.applied.get());
        }
        self.mend(&mut writer);
        self.refresh(&writer);
        writer.settle(self.shared.applied.get())
    }

    /// Places nothing at or below `upto` from now on; answers how far that is true of what is
    /// placed already.
    pub(super) fn promise(&self, upto: Position) -> Position {
        let mut writer = self.writer.lock();
        if writer.term.is_none() || writer.mending {
            return Position::ZERO;
        }
        writer.last = upto.max(writer.last);
        match writer.pending.front() {
            Some(oldest) => upto.min(Position(oldest.position.0 - 1)),
            None => upto,
        }
    }

    /// A record of Raft's own of this term was applied.
    pub(super) fn passed_term(&self, term: Term) -> Calls {
        let mut writer = self.writer.lock();
        writer.lose_front(|entry| entry.epoch < term);
        writer.settle(self.shared.applied.get())
    }

    pub(super) fn abandon(&self) -> Calls {
        self.writer.lock().abandon()
    }

    pub(super) fn is_alive(&self, base: Position) -> bool {
        let writer = self.writer.lock();
        writer.term.is_some() && base > writer.discarded && !writer.mending
    }
}
