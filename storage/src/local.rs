//! [`Propose`] without Raft, for tests: proposals are applied at once in the committing thread,
//! or held until the test delivers, refuses or loses them.

use std::sync::Arc;

use journal::{GroupId, Position};

use crate::{Clock, Group, Groups, Proposal, Propose, Result, TableStore};

/// One node without Raft and journal.
pub struct Local {}

impl Local {
    /// A node over a table store.
    pub fn new(_store: Arc<dyn TableStore>, _clock: Arc<dyn Clock>) -> Arc<Local> {
        todo!()
    }

    /// Its groups.
    pub fn groups(&self) -> &Arc<Groups> {
        todo!()
    }

    /// Opens a group and leads it in term 1, or in the next one.
    pub fn lead(&self, _id: GroupId) -> Result<Arc<Group>> {
        todo!()
    }

    /// From now on proposals of the group wait for `deliver`, `refuse` or `lose`.
    pub fn hold(&self, _id: GroupId) {
        todo!()
    }

    /// Delivers everything held and goes on at once.
    pub fn release(&self, _id: GroupId) -> Result<()> {
        todo!()
    }

    /// Proposals held.
    pub fn held(&self, _id: GroupId) -> usize {
        todo!()
    }

    /// Applies the first `count` proposals held.
    pub fn deliver(&self, _id: GroupId, _count: usize) -> Result<()> {
        todo!()
    }

    /// Refuses the first `count` proposals held, as Raft does with a lapsed lease.
    pub fn refuse(&self, _id: GroupId, _count: usize) {
        todo!()
    }

    /// Takes away the first `count` proposals held without a word.
    pub fn lose(&self, _id: GroupId, _count: usize) {
        todo!()
    }

    /// The leader falls; what is held can still be delivered.
    pub fn step_down(&self, _id: GroupId) {
        todo!()
    }
}

impl Propose for Local {
    fn propose(&self, _group: GroupId, _proposal: Proposal) {
        todo!()
    }

    fn create(&self, _group: GroupId, _above: Position, _done: Box<dyn FnOnce(Result<()>) + Send>) {
        todo!()
    }
}
