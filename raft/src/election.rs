//! Elections that do not wait for a group's own timeouts: the node-level failure detector
//! suspects a leader's node.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use crate::node::{Member, Node};
use crate::transport::NodeId;
use crate::types::node_of;

/// How much later the next voter begins, so that they do not split the votes; it is a round trip
/// if that takes longer.
const STAGGER: Duration = Duration::from_millis(150);
/// Between two attempts: the followers refuse until the leader's lease is over. One is answered
/// after a round trip.
const RETRY: Duration = Duration::from_millis(25);
/// Attempts end after this time; the group's own timeouts go on.
const ATTEMPTS_TIME_MAX: Duration = Duration::from_secs(3);

impl Node {
    /// The failure detector suspects a node: the groups that it leads elect another now. A false
    /// alarm does no harm, for no voter that hears the leader grants a vote. `round_trip`: to the
    /// farthest of the others.
    pub fn suspect(&self, node: NodeId, round_trip: Duration) {
        if self.abstains() {
            return;
        }
        for member in self.members() {
            let suspected = member.leader() == Some(node) && node != self.me;
            if suspected && !member.electing.swap(true, Ordering::AcqRel) {
                self.runtime.spawn(elect(member, node, round_trip));
            }
        }
    }
}

impl Node {
    /// This node stands for no election from now on, or does again. It votes for others, goes on
    /// to lead what it leads, and takes what is handed to it: a group whose leader has begun to
    /// hand over can't go on with the old one.
    pub fn abstain(&self, abstains: bool) {
        self.abstains.store(abstains, Ordering::Release);
        for member in self.members() {
            member.raft.runtime_config().elect(!abstains);
        }
    }

    /// Does it stand for no election?
    pub fn abstains(&self) -> bool {
        self.abstains.load(Ordering::Acquire)
    }
}

async fn elect(member: Arc<Member>, suspect: NodeId, round_trip: Duration) {
    if let Some(rank) = rank(&member, suspect) {
        // From now on it grants votes, and begins itself when its turn has come.
        member.activity.stir();
        tokio::time::sleep(STAGGER.max(round_trip) * rank).await;
        member.activity.touch();
        let begun = tokio::time::Instant::now();
        while member.leader() == Some(suspect) && begun.elapsed() < ATTEMPTS_TIME_MAX {
            if member.raft.trigger().elect(true).await.is_err() {
                break;
            }
            tokio::time::sleep(RETRY.max(round_trip)).await;
        }
    }
    member.electing.store(false, Ordering::Release);
}

/// How many voters come before this one; `None` if it is none.
fn rank(member: &Member, suspect: NodeId) -> Option<u32> {
    let metrics = member.raft.server_metrics();
    let members = metrics.borrow_watched().membership_config.clone();
    let mut voters: Vec<_> = members.voter_ids().collect();
    voters.retain(|voter| node_of(*voter) != suspect);
    voters.sort_unstable();
    let rank = voters.iter().position(|voter| *voter == member.me)?;
    Some(rank as u32)
}
