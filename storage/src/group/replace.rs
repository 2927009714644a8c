//! A group's state leaves and comes as a whole: exports, and their installation in place of all
//! that was there.

use std::collections::{BTreeSet, HashSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use journal::Position;

use super::Group;
use super::log::LogState;
use super::queue::Calls;
use crate::follow::Held;
use crate::meta::Meta;
use crate::snapshot::{Export, Item, Rows};
use crate::{Applied, Change, Chosen, Direction, Result, system};

/// Rows written to the store at once, and their bytes.
const BATCH_ROWS_MAX: usize = 1024;
const BATCH_BYTES_MAX: usize = 4 << 20;

impl Group {
    pub(crate) fn export_applied(&self) -> Result<Option<Export>> {
        let state = self.log.lock();
        if !self.ready() || !state.parts.is_empty() || state.raft.is_empty() {
            return Ok(None);
        }
        let (applied, meta) = (state.applied, self.meta(&state));
        let pin = self.pin(applied.position);
        let kept: BTreeSet<u32> = self.keeps.lock().keys().copied().collect();
        drop(state);
        let dropped = self.dropped_trees(applied.position)?;
        let (id, store) = (self.shared.id, &self.shared.store);
        let sent = |tree: u32| system::of_keys(tree).is_none() && !dropped.contains(&tree);
        Export::new(id, store, applied, &meta, pin, &sent, &kept)
    }

    /// The trees that are dropped as of a position.
    pub(crate) fn dropped_trees(&self, at: Position) -> Result<BTreeSet<u32>> {
        let tree = self.shared.tree(system::DROPPED_TREES);
        let all = (Bound::Unbounded, Bound::Unbounded);
        let rows = self.shared.store.scan(tree, all, at, Direction::Forward)?;
        let mut dropped = BTreeSet::new();
        for row in rows {
            dropped.extend(<[u8; 4]>::try_from(&*row?.0).map(u32::from_be_bytes));
        }
        Ok(dropped)
    }

    /// Puts an export in place of all that is there, in memory and in the store's files, but not
    /// in its checkpoint: until that is written, a restart finds what was there before.
    pub(crate) fn replace(&self, applied: Applied, meta: Meta, rows: &mut Rows<'_>) -> Result<()> {
        let mut state = self.log.lock();
        self.check_alive(&state)?;
        let held = match &self.follower {
            Some(follower) => Some((follower, Held::all(Chosen::decode(&meta.raft)?))),
            None => None,
        };
        let (id, store) = (self.shared.id, &self.shared.store);
        let mut changes = self.observed(state.applied.position)?;
        if self.follower.is_some() {
            self.since.set(applied.position);
        }
        // Nobody reads what is half there: below this position reads are refused from now on,
        // and at it none begins before it is published. The copy of a follower may lie there.
        if let Some((follower, _)) = &held {
            *follower.held.write() = Arc::default();
        }
        store.refuse_below(id, applied.position);
        for tree in store.trees().into_iter().filter(|tree| tree.group == id) {
            store.drop_tree(tree)?;
        }
        let seen = self.write_rows(applied.position, rows)?;
        let come: HashSet<(u32, &[u8])> = seen.iter().map(|c| (c.tree, &c.key[..])).collect();
        changes.retain(|change| !come.contains(&(change.tree, &change.key[..])));
        changes.extend_from_slice(&seen);
        *state = LogState {
            applied,
            top: meta.top.max(applied.position),
            raft: meta.raft,
            parts: meta.parts,
            drops: [].into(),
            sums: meta.sums,
            ended: false,
        };
        self.load_keeps(applied.position)?;
        self.note_progress(&state);
        self.forget_removals();
        if let Some((follower, held)) = held {
            *follower.held.write() = held;
        }
        self.ids.raise(state.top);
        self.chain.set(applied.position);
        self.content.set(applied.position);
        *self.broken.write() = meta.broken;
        self.ready.store(true, Ordering::Release);
        let top = state.top;
        if let Some(observer) = &self.observer
            && !changes.is_empty()
        {
            observer.system(id, applied.position, &changes);
        }
        self.publish.replace(id, applied.position, meta.rests);
        drop(state);
        self.leap(applied.position, top).call();
        Ok(())
    }

    /// What is installed and durable has no older versions.
    pub(crate) fn begin_at_applied(&self) {
        self.shared
            .store
            .set_horizon(self.shared.id, self.log.lock().applied.position);
    }

    /// Tells who waits for entries.
    pub(crate) fn tell_published(&self) {
        if let Some(observer) = &self.observer {
            observer.published(self.shared.id, self.applied());
        }
    }

    /// The rows that observers know, as of what was applied before: to be told that they are
    /// gone, unless they come again. Of a replay that is not far enough to be read there are none.
    fn observed(&self, at: Position) -> Result<Vec<Change>> {
        let (id, store) = (self.shared.id, &self.shared.store);
        let mut gone = Vec::new();
        if self.observer.is_none() || at < store.horizon(id) {
            return Ok(gone);
        }
        let trees = store.trees().into_iter();
        for tree in trees.filter(|tree| tree.group == id && is_observed(tree.number)) {
            let all = (Bound::Unbounded, Bound::Unbounded);
            for row in store.scan(tree, all, at, Direction::Forward)? {
                gone.push(Change {
                    tree: tree.number,
                    key: row?.0,
                    ..Change::default()
                });
            }
        }
        Ok(gone)
    }

    /// Writes all rows. Gives those that observers want.
    pub(crate) fn write_rows(
        &self,
        position: Position,
        rows: &mut Rows<'_>,
    ) -> Result<Vec<Change>> {
        let mut seen = Vec::new();
        let mut batch: Vec<(Bytes, Option<Bytes>)> = Vec::new();
        let (mut tree, mut bytes) = (0, 0);
        loop {
            let item = rows.next()?;
            let full = batch.len() >= BATCH_ROWS_MAX || bytes >= BATCH_BYTES_MAX;
            let other = item.as_ref().is_none_or(|item| item.tree() != tree);
            if !batch.is_empty() && (full || other) {
                let mut writes = batch.drain(..);
                let of = self.shared.tree(tree);
                self.shared.store.write(of, position, &mut writes)?;
                bytes = 0;
            }
            let (number, key, value) = match item {
                None => return Ok(seen),
                Some(Item::Row(number, key, value)) => (number, key, value),
                Some(Item::Kept(number, from)) => {
                    self.shared
                        .store
                        .keep(self.shared.tree(number), Some(from))?;
                    continue;
                }
                Some(Item::Version(number, version)) => {
                    let mut write = std::iter::once((version.key, version.value));
                    let of = self.shared.tree(number);
                    self.shared.store.write(of, version.position, &mut write)?;
                    continue;
                }
            };
            if self.observer.is_some() && is_observed(number) {
                seen.push(Change {
                    tree: number,
                    key: key.clone(),
                    new: Some(value.clone()),
                    ..Change::default()
                });
            }
            tree = number;
            bytes += key.len() + value.len();
            batch.push((key, Some(value)));
        }
    }

    /// What was pending up to a position is decided, and nobody here knows how: the entries
    /// between were not seen.
    fn leap(&self, applied: Position, top: Position) -> Calls {
        let mut writer = self.writer.lock();
        writer.last = top.max(writer.last);
        writer.forget_front(applied);
        self.drop_era(&mut writer);
        writer.settle(applied)
    }
}

/// What observers are told of: not the outcomes of transactions, of which there are many.
fn is_observed(tree: u32) -> bool {
    let unobserved = [system::OUTCOMES, system::LEDGER, system::DROPPED_TREES];
    system::is_system(tree) && !unobserved.contains(&tree)
}
