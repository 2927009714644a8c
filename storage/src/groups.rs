//! The groups of one node: the registry, the cuts that readers see, the checkpoint of all tables.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use journal::{GroupId, Index, Position};
use parking_lot::{Mutex, RwLock};

use crate::follow::{Follower, Held, is_mark};
use crate::group::Parts;
use crate::ids::TxIds;
use crate::meta::Meta;
use crate::publish::Publish;
use crate::snapshot::Rows;
use crate::{
    Applied, Chosen, Clock, Durable, Error, Group, GroupCheckpoint, Observer, Pieces, Propose,
    RaftState, Result, TableStore, TxId,
};

/// All groups held by this node, over one table store.
pub struct Groups {
    store: Arc<dyn TableStore>,
    clock: Arc<dyn Clock>,
    ids: Arc<TxIds>,
    propose: OnceLock<Arc<dyn Propose>>,
    observer: OnceLock<Arc<dyn Observer>>,
    publish: Arc<Publish>,
    groups: RwLock<BTreeMap<GroupId, Arc<Group>>>,
    /// One checkpoint at a time.
    checkpoint: Mutex<()>,
}

impl Groups {
    /// A registry without groups. Those that the store's checkpoint has are to be opened next,
    /// until [`Groups::all_opened`].
    pub fn new(store: Arc<dyn TableStore>, clock: Arc<dyn Clock>) -> Arc<Groups> {
        let last = store.checkpoint().into_iter();
        let known = last.filter(|last| last.applied != Applied::default());
        let publish = Publish::opening(known.map(|last| last.group));
        Arc::new(Groups {
            store,
            ids: Arc::new(TxIds::new(Arc::clone(&clock))),
            clock,
            propose: OnceLock::new(),
            observer: OnceLock::new(),
            publish: Arc::new(publish),
            groups: RwLock::default(),
            checkpoint: Mutex::new(()),
        })
    }

    /// Says where proposals go. Panics if it was said before.
    pub fn attach(&self, propose: Arc<dyn Propose>) {
        assert!(
            self.propose.set(propose).is_ok(),
            "proposals go to one place"
        );
    }

    /// Says who sees entries as they are applied in groups opened from now on. Panics if it was
    /// said before.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        assert!(self.observer.set(observer).is_ok(), "there is one observer");
    }

    /// The table store.
    pub fn store(&self) -> &Arc<dyn TableStore> {
        &self.store
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// What the last checkpoint had is open by now, or is not held any more: what rests on the
    /// latter waits for it no longer.
    pub fn all_opened(&self) {
        self.publish.opened();
    }

    /// Says which node of its cluster this is (0 until then), so that no two nodes give out one
    /// transaction id. Of the number the ten lowest bits are used.
    pub fn number_node(&self, node: u64) {
        self.ids.number_node(node);
    }

    /// Was the id given out by this node?
    pub fn is_of_node(id: TxId, node: u64) -> bool {
        TxIds::is_of_node(id, node)
    }

    /// Begins to hold a group: as the last checkpoint left it, or empty. The caller then replays
    /// the journal from [`Group::applied_log`]. The same group again if it is held already.
    /// Panics before [`Groups::attach`].
    pub fn open(&self, id: GroupId) -> Result<Arc<Group>> {
        if let Some(group) = self.get(id) {
            return match group.is_followed() {
                false => Ok(group),
                true => Err(Error::Format(format!("group {id} is followed here"))),
            };
        }
        self.open_as(id, None)
    }

    /// Begins to follow a group, or goes on with what the last checkpoint has of it. Nothing of
    /// it is in this node's journal. `ask_close` is called when someone waits until it is closed;
    /// it must not block. The same group again if it is followed already. Errors: `Format` if it
    /// is held by Raft.
    pub fn follow(
        &self,
        id: GroupId,
        ask_close: Box<dyn Fn() + Send + Sync>,
    ) -> Result<Arc<Group>> {
        // So that nobody opens it for Raft meanwhile.
        let _one = self.checkpoint.lock();
        let by_raft = || Error::Format(format!("group {id} is held by Raft here"));
        if let Some(group) = self.get(id) {
            return group.is_followed().then_some(group).ok_or_else(by_raft);
        }
        let last = self.last_state(id)?;
        if !last.is_empty() && !is_mark(&last) {
            return Err(by_raft());
        }
        let held = match last.is_empty() {
            true => Held::all(Chosen::default()),
            false => Held::decode(&last)?,
        };
        let held = RwLock::new(held);
        let group = self.open_as(id, Some(Follower { held, ask_close }))?;
        group.drop_unchosen()?;
        Ok(group)
    }

    /// The groups of which the last checkpoint has a follower's copy.
    pub fn followed(&self) -> Result<Vec<GroupId>> {
        let mut followed = Vec::new();
        for last in self.store.checkpoint() {
            if is_mark(&last.raft_state()?) {
                followed.push(last.group);
            }
        }
        Ok(followed)
    }

    /// The groups of which the last checkpoint has a replica's state, and how far each is applied.
    pub fn replicated(&self) -> Result<Vec<(GroupId, Index)>> {
        let mut replicated = Vec::new();
        for last in self.store.checkpoint() {
            let state = last.raft_state()?;
            if !state.is_empty() && !is_mark(&state) {
                replicated.push((last.group, last.applied.index));
            }
        }
        Ok(replicated)
    }

    /// Begins to hold a group for Raft, which may have been followed until now: then what was
    /// there is removed, durably, and it begins empty.
    pub fn open_replica(&self, id: GroupId, durable: &dyn Durable) -> Result<Arc<Group>> {
        let _one = self.checkpoint.lock();
        let followed = self.get(id).is_some_and(|group| group.is_followed());
        if followed || is_mark(&self.last_state(id)?) {
            self.remove_all(id, durable)?;
        }
        self.open(id)
    }

    /// Ends the following of a group, as [`Groups::remove`]; a replica is left alone.
    pub fn unfollow(&self, id: GroupId, durable: &dyn Durable) -> Result<()> {
        let _one = self.checkpoint.lock();
        match self.get(id) {
            Some(group) if !group.is_followed() => Ok(()),
            None if !is_mark(&self.last_state(id)?) => Ok(()),
            _ => self.remove_all(id, durable),
        }
    }

    /// What all that is applied in a group depends on: the greatest position of each other group.
    pub fn rests(&self, id: GroupId) -> BTreeMap<GroupId, Position> {
        self.publish.rests(id)
    }

    /// Asks for the closing of groups for which entries of others wait that depend on groups
    /// which are not held here, and of copies that have too little to be shown. Call it every now
    /// and then.
    pub fn close_awaited(&self) {
        for id in self.publish.join() {
            if let Some(group) = self.get(id) {
                group.tell_published();
            }
        }
        for id in self.publish.awaited() {
            if let Some(group) = self.get(id) {
                group.close_wanted();
            }
        }
    }

    /// What the last checkpoint keeps for Raft, or a follower's mark; empty if there is none.
    fn last_state(&self, id: GroupId) -> Result<RaftState> {
        let mut last = self.store.checkpoint().into_iter();
        let last = last.find(|last| last.group == id);
        last.map_or(Ok(RaftState::new()), |last| last.raft_state())
    }

    fn open_as(&self, id: GroupId, follower: Option<Follower>) -> Result<Arc<Group>> {
        let mut groups = self.groups.write();
        if let Some(group) = groups.get(&id) {
            return Ok(Arc::clone(group));
        }
        let propose = self.propose.get().expect("attach comes before open");
        let parts = Parts {
            id,
            store: Arc::clone(&self.store),
            clock: Arc::clone(&self.clock),
            ids: Arc::clone(&self.ids),
            propose: Arc::clone(propose),
            observer: self.observer.get().cloned(),
            publish: Arc::clone(&self.publish),
            follower,
            since: self.publish.left(id),
        };
        let last = self
            .store
            .checkpoint()
            .into_iter()
            .find(|last| last.group == id);
        let (applied, meta) = match last {
            Some(last) => (last.applied, Meta::decode(&last.raft)?),
            None => (Applied::default(), Meta::default()),
        };
        let group = Arc::new(Group::open(parts, applied, meta)?);
        groups.insert(id, Arc::clone(&group));
        Ok(group)
    }

    /// A group that is held here.
    pub fn get(&self, id: GroupId) -> Option<Arc<Group>> {
        self.groups.read().get(&id).cloned()
    }

    /// All groups held here, by number.
    pub fn all(&self) -> Vec<Arc<Group>> {
        self.groups.read().values().cloned().collect()
    }

    /// Positions of several groups at one moment, causally closed: never an effect without its
    /// cause. Groups that are not held are left out. Never goes back.
    pub fn cut(&self, groups: &[GroupId]) -> Vec<(GroupId, Position)> {
        self.publish.cut(groups)
    }

    /// Writes the tables of all groups durably, with their applied positions inside, and never
    /// more than what this node's journal has on disk. Applies go on while it runs, but for the
    /// moment in which it begins.
    pub fn checkpoint(&self, durable: &dyn Durable) -> Result<()> {
        let _one = self.checkpoint.lock();
        self.write_checkpoint(durable, None)
    }

    fn get_followed(&self, id: GroupId) -> Result<Arc<Group>> {
        let group = self.get(id).filter(|group| group.is_followed());
        group.ok_or(Error::NoGroup(id))
    }

    /// A follower holds these trees of a group from now on: of those that come it lacks nothing, as
    /// they are empty as of what is applied; those that go have left the disk on return, but for
    /// scans that are open. After a crash in between there is what was there before. Errors:
    /// `NoGroup` if it is not followed.
    pub fn choose(&self, id: GroupId, chosen: Chosen) -> Result<()> {
        let _one = self.checkpoint.lock();
        let group = self.get_followed(id)?;
        match group.choose(chosen)? {
            true => self.write_checkpoint_of(&group),
            false => Ok(()),
        }
    }

    /// A follower holds more trees of a group from now on, with the rows of an export that
    /// [`check_chosen`] has found whole, as of what is applied; on return that is durable. Nothing
    /// else of the group changes. After a crash in between there is what was there before. Errors:
    /// `NoGroup` if it is not followed, `Corrupt` if something else is applied.
    ///
    /// [`check_chosen`]: crate::check_chosen
    pub fn extend(
        &self,
        id: GroupId,
        applied: Applied,
        meta: &Bytes,
        pieces: &mut Pieces<'_>,
    ) -> Result<()> {
        let meta = Meta::decode(meta)?;
        let _one = self.checkpoint.lock();
        let group = self.get_followed(id)?;
        let mut pieces = || pieces();
        group.extend(applied, meta, &mut Rows::new(&mut pieces))?;
        self.write_checkpoint_of(&group)
    }

    /// Replaces all of a group by an export of another replica, which [`check_export`] has found
    /// whole; on return that is durable. Reads below its position are refused from the beginning
    /// on; after a crash in between there is what was there before. The journal's log of the
    /// group does not continue the new state: it is the caller's to cut, afterwards.
    ///
    /// The horizon is durable a little later: at a start that finds the tables ahead of the log,
    /// [`Groups::begin_at_applied`] says it again.
    ///
    /// [`check_export`]: crate::check_export
    pub fn install(
        &self,
        id: GroupId,
        applied: Applied,
        meta: &Bytes,
        pieces: &mut Pieces<'_>,
    ) -> Result<()> {
        let meta = Meta::decode(meta)?;
        let one = self.checkpoint.lock();
        // A copy may have become a replica while its export was coming, or the other way round.
        let fits = |group: &Arc<Group>| group.is_followed() == is_mark(&meta.raft);
        let group = self.get(id).filter(fits).ok_or(Error::NoGroup(id))?;
        let mut pieces = || pieces();
        group.replace(applied, meta, &mut Rows::new(&mut pieces))?;
        self.write_checkpoint_of(&group)?;
        group.begin_at_applied();
        drop(one);
        group.tell_published();
        Ok(())
    }

    /// Nothing below what is applied can be read in a group: it was installed.
    pub fn begin_at_applied(&self, id: GroupId) {
        if let Some(group) = self.get(id) {
            group.begin_at_applied();
        }
    }

    /// Ends a group: its tables go, durably, and what it was is forgotten. Who still has it
    /// reads nothing there any more. One that has nothing is left alone.
    pub fn remove(&self, id: GroupId, durable: &dyn Durable) -> Result<()> {
        let _one = self.checkpoint.lock();
        self.remove_all(id, durable)
    }

    fn remove_all(&self, id: GroupId, durable: &dyn Durable) -> Result<()> {
        let mut last = self.store.checkpoint().into_iter();
        let last = last.find(|last| last.group == id);
        let held = self.groups.write().remove(&id);
        match (held, &last) {
            (Some(group), _) => group.end(),
            (None, Some(last)) => {
                self.publish.remove(id);
                self.publish.note_left(id, last.applied.position);
            }
            (None, None) => {}
        }
        let trees = self.store.trees().into_iter();
        let trees: Vec<_> = trees.filter(|tree| tree.group == id).collect();
        let nothing = trees.is_empty();
        for tree in trees {
            self.store.drop_tree(tree)?;
        }
        self.store.forget(id);
        if nothing && last.is_none_or(|last| last.applied == Applied::default()) {
            return Ok(());
        }
        self.write_checkpoint(durable, Some(id))
    }

    /// A checkpoint of one group, of which nothing is in this node's journal: all of it has come
    /// from elsewhere.
    fn write_checkpoint_of(&self, group: &Group) -> Result<()> {
        let state = group.lock_log();
        let mut meta = group.meta(&state);
        meta.rest_on_others();
        let checkpoint = self.store.begin_checkpoint_of(GroupCheckpoint {
            group: group.id(),
            applied: state.applied,
            raft: meta.encode(),
        })?;
        drop(state);
        checkpoint.finish()?;
        group.keep_parts(None);
        Ok(())
    }

    /// Of all groups. Of the one that is `removed` nothing is left.
    fn write_checkpoint(&self, durable: &dyn Durable, removed: Option<GroupId>) -> Result<()> {
        let groups = self.all();
        let wait = |group: &Group, index| match group.is_followed() {
            true => Ok(()),
            false => durable.wait(group.id(), index),
        };
        // Most of the waiting is done here; under the locks there is little left to wait for.
        for group in &groups {
            wait(group, group.applied_log().0.index)?;
        }
        let states = groups.iter().map(|group| (group, group.lock_log()));
        // One that has ended and is not removed yet stays as it was.
        let states: Vec<_> = states.filter(|(group, _)| !group.has_ended()).collect();
        let mut checkpoints = Vec::with_capacity(states.len());
        let mut parts: Vec<(&Arc<Group>, Option<Index>)> = Vec::with_capacity(states.len());
        for (group, state) in &states {
            wait(group, state.applied.index)?;
            let raft = group.meta(state).encode();
            checkpoints.push(GroupCheckpoint {
                group: group.id(),
                applied: state.applied,
                raft,
            });
            let first = |parts: &crate::group::OpenParts| parts.indexes.first().copied();
            parts.push((group, state.parts.values().filter_map(first).min()));
        }
        // Groups that this run has not opened stay as they were.
        let held = |last: &GroupCheckpoint| parts.iter().any(|(group, _)| group.id() == last.group);
        checkpoints.extend(
            self.store
                .checkpoint()
                .into_iter()
                .filter(|last| !held(last)),
        );
        for checkpoint in &mut checkpoints {
            if removed == Some(checkpoint.group) {
                checkpoint.applied = Applied::default();
                checkpoint.raft = Meta::default().encode();
            }
        }
        checkpoints.sort_by_key(|checkpoint| checkpoint.group);
        let checkpoint = self.store.begin_checkpoint(checkpoints)?;
        drop(states);
        // Until it is done the last one counts, then this one: keep what either needs.
        for (group, first) in &parts {
            group.keep_parts(group.parts_kept().into_iter().chain(*first).min());
        }
        checkpoint.finish()?;
        for (group, first) in parts {
            group.keep_parts(first);
        }
        Ok(())
    }
}
