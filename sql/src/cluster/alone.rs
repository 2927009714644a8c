//! A node without others.

use std::sync::Arc;

use storage::{GroupId, Groups, Position, TxId};

use super::{Answer, Asking, Cluster, Done, News, Wish};
use crate::catalog::{RoleId, TableId};
use crate::transaction::leader_changed;
use crate::{Error, state};

/// The number of a node that is alone.
const NODE: u32 = 1;

/// A node that is alone: what nobody leads here, nobody leads.
pub struct Alone(Arc<Groups>);

impl Alone {
    /// The node of these groups.
    pub fn new(groups: Arc<Groups>) -> Arc<Alone> {
        Arc::new(Alone(groups))
    }
}

impl Cluster for Alone {
    fn node(&self) -> u32 {
        NODE
    }

    fn leader(&self, group: GroupId) -> Option<u32> {
        self.0.get(group)?.term().map(|_| NODE)
    }

    fn barrier(&self, group: GroupId, done: Done<Position>) {
        let led = self.0.get(group).filter(|group| group.term().is_some());
        done(led.map(|group| group.applied()).ok_or_else(leader_changed));
    }

    fn ask_undecided(&self, _node: u32, _id: TxId, done: Done<bool>) {
        done(Err(leader_changed()));
    }

    fn ask_directory(&self, _wish: Wish, done: Done<Answer>) {
        // Asked only while this node does not lead the directory, so nobody does.
        done(Err(leader_changed()));
    }

    fn want(&self, _role: RoleId, group: GroupId, _table: TableId, done: Done<()>) -> Asking {
        let held = self.0.get(group);
        done(held.map(drop).ok_or_else(|| {
            let message = format!("group {group} is not held by this node, and there is no other");
            Error::new(state::OWNER_UNREACHABLE, message)
        }));
        Box::new(())
    }

    fn has_listeners(&self) -> bool {
        false
    }

    fn notify(&self, _news: &News) {}

    fn is_alone(&self) -> bool {
        true
    }
}
