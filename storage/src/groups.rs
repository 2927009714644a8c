//! The groups of one node: the registry, the cuts that readers see, the checkpoint of all tables.

use std::sync::Arc;

use journal::{GroupId, Position};

use crate::{Clock, Durable, Group, Observer, Propose, Result, TableStore};

/// All groups held by this node, over one table store.
pub struct Groups {}

impl Groups {
    /// A registry without groups.
    pub fn new(_store: Arc<dyn TableStore>, _clock: Arc<dyn Clock>) -> Arc<Groups> {
        todo!()
    }

    /// Says where proposals go. Once, before the first [`Groups::open`].
    pub fn attach(&self, _propose: Arc<dyn Propose>) {
        todo!()
    }

    /// Says who sees entries as they are applied. Once, before the first [`Groups::open`].
    pub fn observe(&self, _observer: Arc<dyn Observer>) {
        todo!()
    }

    /// The table store.
    pub fn store(&self) -> &Arc<dyn TableStore> {
        todo!()
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        todo!()
    }

    /// Begins to hold a group: as the last checkpoint left it, or empty. The caller then replays
    /// the journal from [`Group::applied_log`]. The same group again if it is held already.
    pub fn open(&self, _id: GroupId) -> Result<Arc<Group>> {
        todo!()
    }

    /// A group that is held here.
    pub fn get(&self, _id: GroupId) -> Option<Arc<Group>> {
        todo!()
    }

    /// All groups held here, by number.
    pub fn all(&self) -> Vec<Arc<Group>> {
        todo!()
    }

    /// Positions of several groups at one moment, causally closed: never an effect without its
    /// cause. Groups that are not held are left out. Never goes back.
    pub fn cut(&self, _groups: &[GroupId]) -> Vec<(GroupId, Position)> {
        todo!()
    }

    /// Writes the tables of all groups durably, with their applied positions inside, and never
    /// more than what this node's journal has on disk. Applies go on while it runs.
    pub fn checkpoint(&self, _durable: &dyn Durable) -> Result<()> {
        todo!()
    }
}
