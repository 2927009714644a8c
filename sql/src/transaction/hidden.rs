//! Rows that no table has: system trees, outboxes, cursors; and what a transaction knows of other
//! owners' transactions that it follows from or sends to.

use std::sync::Arc;

use bytes::Bytes;
use storage::{Direction, Group, GroupId, Position, TxId};

use super::{Range, RowChange, Stop, Transaction, Wait};
use crate::catalog::Catalog;
use crate::integrity::{Intents, References, Wished};
use crate::outbox::Outgoing;

impl Transaction {
    /// What is read of entries that are not applied the end of the transaction waits for.
    pub(super) fn hold_newest(&mut self, held: &Group, newest: Position) {
        if newest > held.applied() {
            let hold = self.hold.entry(held.id()).or_insert(newest);
            *hold = (*hold).max(newest);
        }
    }

    /// Writes a row of a system tree (catalog, sequences); `None` deletes.
    pub fn write_system(
        &mut self,
        group: GroupId,
        tree: u32,
        key: Bytes,
        new: Option<Bytes>,
    ) -> Result<(), Stop> {
        let old = self.current(group, tree, &key)?;
        self.write(group, tree, unseen(key, old, new))
    }

    /// The newest placed value under a lock, whatever the snapshot: of what is counted on.
    pub(crate) fn newest(
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
        let wait = |wait: storage::Wait| Stop::Wait(Wait::Position(group, wait.0));
        let newest = held.newest().map_err(wait)?.max(snapshot);
        let value = held.get(tree, key, newest)?;
        self.seen
            .insert((tree, Bytes::copy_from_slice(key)), newest);
        self.hold_newest(&held, newest);
        Ok(value)
    }

    /// As of when it has last been read so.
    pub(crate) fn seen_at(&self, tree: u32, key: &Bytes) -> Position {
        let seen = self.seen.get(&(tree, key.clone()));
        seen.copied().unwrap_or_default()
    }

    /// Writes a row that no table has; what was there is read by [`Transaction::newest`].
    pub(crate) fn put_hidden(
        &mut self,
        group: GroupId,
        tree: u32,
        key: Bytes,
        new: Option<Bytes>,
    ) -> Result<(), Stop> {
        let old = self.newest(group, tree, &key)?;
        self.write(group, tree, unseen(key, old, new))
    }

    /// The same where that has been read: nobody may have written it since.
    pub(crate) fn replace_hidden(
        &mut self,
        group: GroupId,
        tree: u32,
        key: Bytes,
        old: Option<Bytes>,
        new: Option<Bytes>,
    ) -> Result<(), Stop> {
        self.write(group, tree, unseen(key, old, new))
    }

    /// Rows of a hidden tree of the group's own, newest state, own writes too, at most so many.
    pub(crate) fn own_rows(
        &mut self,
        group: GroupId,
        tree: u32,
        range: Range,
        max: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Stop> {
        let mut newest = self.newest_snapshot(group)?;
        self.swap_snapshot(&mut newest);
        let rows = self.scan(group, tree, range, Direction::Forward);
        self.swap_snapshot(&mut newest);
        rows?.take(max).collect()
    }

    /// Triggers on followed tables and commands that have led to it.
    pub(crate) fn hops(&self) -> u16 {
        self.hops
    }

    /// No client waits for it: it may be done again at any time.
    pub(crate) fn set_unattended(&mut self) {
        self.unattended = true;
    }

    /// Does no client wait for it?
    pub(crate) fn is_unattended(&self) -> bool {
        self.unattended
    }

    /// So many have.
    pub(crate) fn set_hops(&mut self, hops: u16) {
        self.hops = hops;
    }

    /// It is an effect of another group's entry, through so many triggers.
    pub(crate) fn follows_from(&mut self, group: GroupId, position: Position, hops: u16) {
        let dep = self.deps.entry(group).or_insert(position);
        *dep = (*dep).max(position);
        self.hops = self.hops.max(hops);
    }

    /// Does it send commands, and nothing else?
    pub(crate) fn only_sends(&self) -> bool {
        let writes = !self.writes.is_empty() || !self.events.is_empty();
        self.outgoing.is_commands() && !writes && self.dropped_trees.is_empty()
    }

    /// What it has asked other owners.
    pub(crate) fn intents(&mut self) -> &mut Intents {
        &mut self.intents
    }

    /// Keys of other owners' tables that it references.
    pub(crate) fn references(&mut self) -> &mut References {
        &mut self.references
    }

    /// Foreign keys to other owners' tables that it makes.
    pub(crate) fn wished(&mut self) -> &mut Vec<Wished> {
        &mut self.wished
    }

    /// Its statements so far, the present one included.
    pub(crate) fn statement(&self) -> u32 {
        self.statements
    }

    /// Its id, in whichever group.
    pub(crate) fn own_id(&mut self, group: GroupId) -> Result<TxId, Stop> {
        Ok(self.member(group)?.txid)
    }

    /// Has it written this row itself?
    pub(crate) fn has_put(&mut self, group: GroupId, tree: u32, key: &[u8]) -> Result<bool, Stop> {
        Ok(self.writing == Some(group) && self.writes.get(tree, key)?.is_some())
    }

    /// Is the catalog still the newest one?
    ///
    /// # Errors
    /// `Wait::Again` if it is not.
    pub(crate) fn check_catalog(&self) -> Result<(), Stop> {
        match self.is_of(&self.engine.catalog()) {
            true => Ok(()),
            false => Err(Stop::again()),
        }
    }

    /// Was the statement bound with what has its place by now?
    ///
    /// # Errors
    /// `Wait` if it was not, or that is not known.
    pub(crate) fn check_newest_catalog(&self, home: GroupId) -> Result<(), Stop> {
        self.await_placed(home)?;
        self.check_catalog()
    }

    /// The same of what the group itself says of its tables: other owners' changes go on meanwhile, and a
    /// long statement would begin again for each.
    pub(super) fn check_newest_of(&self, home: GroupId) -> Result<(), Stop> {
        self.await_placed(home)?;
        match self.engine.catalog().as_of(home) == self.base_catalog.as_of(home) {
            true => Ok(()),
            false => Err(Stop::again()),
        }
    }

    /// Until what has its place in a group by now is known to be there or not.
    fn await_placed(&self, home: GroupId) -> Result<(), Stop> {
        let Some(group) = self.engine.groups().get(home) else {
            return Ok(());
        };
        let wait = |wait: storage::Wait| Stop::Wait(Wait::Position(home, wait.0));
        group.newest().map_err(wait).map(drop)
    }

    /// Is this the catalog that it stands on?
    pub(crate) fn is_of(&self, catalog: &Arc<Catalog>) -> bool {
        Arc::ptr_eq(&self.base_catalog, catalog)
    }

    /// Entries of its own stand beside it: it can't be begun again elsewhere.
    pub(crate) fn act_beside(&mut self) {
        self.touched = true;
    }

    /// What it sends.
    pub(crate) fn outgoing(&mut self) -> &mut Outgoing {
        &mut self.outgoing
    }
}

/// A change that the feed does not show.
fn unseen(key: Bytes, old: Option<Bytes>, new: Option<Bytes>) -> RowChange {
    RowChange {
        key,
        old,
        new,
        index: Vec::new(),
        feed: false,
    }
}
