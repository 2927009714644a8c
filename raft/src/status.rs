//! What is told of this node's groups: who leads, how far each is applied, and how far behind its
//! leader that may be; and of its checkpoints.

use std::sync::Arc;
use std::time::Duration;

use journal::{GroupId, Index, Position};
use openraft::Instant;
use openraft::async_runtime::WatchReceiver;

use crate::node::{Member, Node};
use crate::transport::NodeId;
use crate::types::node_of;

/// What a view shows of a group.
#[derive(Clone, Copy, Debug)]
pub struct GroupStatus {
    /// The group.
    pub group: GroupId,
    /// The term in which this node leads it; 0 if it does not.
    pub term: u64,
    /// The term that this node knows, whoever leads in it.
    pub current_term: u64,
    /// The node that leads it, as far as this one knows.
    pub leader: Option<NodeId>,
    /// How many replicas vote.
    pub voters: usize,
    /// The applied position.
    pub applied: Position,
    /// Of everything acknowledged longer ago than this, all is applied here. `None`: nothing was
    /// heard of a leader.
    pub behind: Option<Duration>,
    /// Records of the log that are not applied here.
    pub pending: u64,
    /// The last index of the log.
    pub last_index: Index,
    /// The last index on disk.
    pub durable: Index,
    /// The oldest position that can be read.
    pub oldest: Position,
    /// Whether nothing happens in it, and it has no clock.
    pub quiet: bool,
}

/// The checkpoints of the tables since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoints {
    /// How many were written.
    pub count: u64,
    /// How long that took, all together.
    pub took: Duration,
    /// When the last one was, in microseconds since 1970; before the first: the node's start.
    pub last: u64,
}

/// The rounds of the eraser since the start (`docs/erase.md`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rounds {
    /// How many there were.
    pub count: u64,
    /// How many of them have read the whole journal.
    pub passes: u64,
    /// How often logs had been cut when the last of these began: what no log needs of them is gone.
    pub truncations: Option<u64>,
    /// How long they took, all together.
    pub took: Duration,
}

impl Node {
    /// A line per group for the views.
    pub fn status(&self) -> Vec<GroupStatus> {
        let members = self.members();
        members
            .iter()
            .map(|member| self.status_of(member))
            .collect()
    }

    fn status_of(&self, member: &Arc<Member>) -> GroupStatus {
        let group = &member.group;
        let state = self.journal.state(group.id());
        let applied_index = group.applied_log().0.index;
        let last_index = state.last.map_or(Index(0), |(_, index, _)| index);
        let (current_term, leader, voters) = {
            let metrics = member.raft.metrics();
            let metrics = metrics.borrow_watched();
            let voters = metrics.membership_config.voter_ids().count();
            (metrics.current_term, metrics.current_leader, voters)
        };
        GroupStatus {
            group: group.id(),
            term: group.term().map_or(0, |term| term.0),
            current_term,
            leader: leader.map(node_of),
            voters,
            applied: group.applied(),
            behind: self.behind(member),
            pending: last_index.0.saturating_sub(applied_index.0),
            last_index,
            durable: state.durable.unwrap_or_default(),
            oldest: state
                .oldest
                .map_or(Position::ZERO, |(_, position)| position),
            quiet: member.activity.is_quiet(),
        }
    }

    /// How old what is applied here may be, compared with what its leader has committed.
    fn behind(&self, member: &Member) -> Option<Duration> {
        if member.activity.is_quiet() {
            return self.behind_while_quiet(member);
        }
        let (acked, committed) = {
            let metrics = member.raft.metrics();
            let metrics = metrics.borrow_watched();
            let committed = metrics.cluster_committed.map(|id| id.index);
            (metrics.last_quorum_acked, committed)
        };
        if member.group.term().is_some() {
            return match member.group.is_sole() {
                true => Some(Duration::ZERO),
                false => acked.map(|acked| acked.elapsed()),
            };
        }
        let heard = (*member.heard.lock())?.elapsed();
        let applied = member.group.applied_log().0;
        if committed <= Some(applied.index.0) {
            return Some(heard);
        }
        let now = self.groups.clock().unix_micros();
        let age = now.saturating_sub(member.group.applied().unix_micros());
        Some(heard.max(Duration::from_micros(age)))
    }

    /// Nothing is committed in a quiet group without those that would tell of it: what counts is
    /// when their nodes were last heard of, whatever they said.
    fn behind_while_quiet(&self, member: &Member) -> Option<Duration> {
        let heard = self.heard.lock();
        let since = |node: NodeId| heard.get(&node).map(|heard| heard.elapsed());
        if member.group.term().is_none() {
            return since(member.other_leader()?);
        }
        let metrics = member.raft.server_metrics();
        let members = metrics.borrow_watched().membership_config.clone();
        let others = members.voter_ids().filter(|voter| *voter != member.me);
        let mut others: Vec<_> = others.map(|voter| since(node_of(voter))).collect();
        others.sort_by_key(|heard| heard.unwrap_or(Duration::MAX));
        // With this one and those up to here it is a quorum.
        match others.len().div_ceil(2).checked_sub(1) {
            Some(last) => others[last],
            None => Some(Duration::ZERO),
        }
    }

    /// How long ago a node was heard of.
    pub(crate) fn heard_since(&self, node: NodeId) -> Option<Duration> {
        let heard = self.heard.lock();
        heard.get(&node).map(|heard| heard.elapsed())
    }

    /// A node was heard of, whatever it said: the connections between nodes know more of that
    /// than the groups.
    pub fn heard(&self, node: NodeId) {
        self.heard.lock().insert(node, tokio::time::Instant::now());
    }

    /// The checkpoints since the start.
    pub fn checkpoints(&self) -> Checkpoints {
        *self.checkpoints.lock()
    }

    /// The rounds of the eraser since the start.
    pub fn rounds(&self) -> Rounds {
        *self.rounds.lock()
    }

    /// Is there something in the journal that no log needs, or may there be?
    pub fn has_dead_logs(&self) -> bool {
        self.rounds().truncations != Some(self.journal.truncations())
    }

    /// `whole`: it has read the journal; how often logs had been cut when it began.
    pub(crate) fn note_round(&self, whole: Option<u64>, took: Duration) {
        let mut rounds = self.rounds.lock();
        rounds.count += 1;
        rounds.took += took;
        if whole.is_some() {
            rounds.passes += 1;
            rounds.truncations = whole;
        }
    }

    pub(crate) fn note_checkpoint(&self, took: Duration) {
        let mut checkpoints = self.checkpoints.lock();
        checkpoints.count += 1;
        checkpoints.took += took;
        checkpoints.last = self.groups.clock().unix_micros();
    }
}
