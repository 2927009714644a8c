//! What views and metrics show of the copies on this node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use feed::follow::{Phase, Progress};
use storage::{Chosen, GroupId, Index, Position, time_left};

use crate::cluster::Cluster;

/// A followed group.
pub struct Copy {
    /// The group.
    pub group: GroupId,
    /// What is held of it.
    pub chosen: Arc<Chosen>,
    /// How far it is.
    pub progress: Progress,
    /// When the bootstrap began that is arriving, or arrived last.
    pub begun: Option<SystemTime>,
    /// The node that gives it.
    pub source: Option<u32>,
    /// What is applied: its place in the owner's log.
    pub applied: Index,
    /// What readers are shown.
    pub shown: Position,
    /// Bytes of its files.
    pub bytes: u64,
    /// Of what its source had longer ago than this, all is here. `None`: nothing was ever heard.
    pub behind: Option<Duration>,
}

impl Copy {
    /// How long it takes until the bootstrap has come that is arriving, if it goes on like this.
    pub fn left(&self) -> Option<Duration> {
        let (begun, expected) = (self.begun?, self.progress.expected?);
        let over = begun.elapsed().unwrap_or_default();
        time_left(self.progress.bytes, expected, over)
    }

    /// Is a bootstrap arriving?
    pub fn is_arriving(&self) -> bool {
        self.progress.phase == Phase::Bootstrap
    }
}

impl Cluster {
    /// The copies on this node, by group.
    pub fn copies(&self) -> Vec<Copy> {
        let Some(engine) = self.engine() else {
            return Vec::new();
        };
        let followers = self.follows().all();
        if followers.is_empty() {
            return Vec::new();
        }
        let mut bytes: BTreeMap<GroupId, u64> = BTreeMap::new();
        let store = engine.groups().store();
        for tree in store.trees() {
            *bytes.entry(tree.group).or_default() += store.disk_bytes(tree);
        }
        let copy = |follower: Arc<super::Follower>| {
            let group = engine.groups().get(follower.group)?;
            let chosen = group.chosen()?;
            let state = follower.state.lock().clone();
            let behind = match (state.source, state.current) {
                // What it has more it would have said; that it is heard proves nothing if it only asks.
                (Some(source), true) => self.unproven(source),
                _ => state.fresh.map(|fresh| fresh.elapsed()),
            };
            let shown = engine.groups().cut(&[follower.group]);
            Some(Copy {
                group: follower.group,
                chosen,
                progress: state.progress,
                begun: state.begun,
                source: state.source,
                applied: group.applied_log().0.index,
                bytes: bytes.get(&follower.group).copied().unwrap_or_default(),
                shown: shown.first().map_or(Position::ZERO, |(_, shown)| *shown),
                behind,
            })
        };
        followers.into_iter().filter_map(copy).collect()
    }
}
