//! The members of a group: who leads, how far each replica has come.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use journal::{GroupId, Index, Record};
use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{ChangeMembers, Precondition};
use storage::Outcome;

use crate::codec::{Answer, Body};
use crate::machine::decoded;
use crate::node::{Member, Node};
use crate::repair::Repair;
use crate::transport::NodeId;
use crate::types::{
    Ballot, ReplicaId, StoredMembership, Types, encode_ballot, join_of, node_of, replica,
};
use crate::upkeep::OnDisk;
use crate::{Error, Result};

/// A transfer of leadership that has not happened by then has failed: an election follows.
const TRANSFER_TIME_MAX: Duration = Duration::from_secs(5);
/// How long the next leader may take to get the last records before it is asked.
const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(1);
/// Between two looks at it.
const TRANSFER_POLL: Duration = Duration::from_millis(2);

/// A new voter may lack so many records when it begins to vote.
const CATCH_UP_LAG_MAX: u64 = 100;
/// A replica that was not heard of for so long may not be there any more.
const SILENT_AFTER: Duration = Duration::from_secs(3);
/// How long a member may take to say whether a replica was removed.
const REMOVED_TIME_MAX: Duration = Duration::from_secs(1);
/// Between two looks at how far it has come.
const CATCH_UP_POLL: Duration = Duration::from_millis(10);

/// A replica of a group as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Where it is.
    pub node: NodeId,
    /// Its id in the group.
    pub replica: ReplicaId,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it leads, as far as this node knows.
    pub leads: bool,
    /// Up to here it has the log on disk; of others only the leader knows it.
    pub matched: Option<Index>,
    /// Records of the leader's log that it does not have yet.
    pub lag: Option<u64>,
    /// How long ago it answered the leader, or its node was heard of; of others only the leader
    /// tells it.
    pub heard: Option<Duration>,
    /// The snapshot that this node sends to it.
    pub repair: Option<Repair>,
}

impl Node {
    /// Which node leads a group, as far as this node knows.
    pub fn leader(&self, group: GroupId) -> Option<NodeId> {
        self.member(group)?.leader()
    }

    /// The nodes that vote in any of the groups that have a replica here.
    pub fn voters(&self) -> BTreeSet<u32> {
        let members = self.members();
        let of = |member: &Arc<Member>| -> Vec<u32> {
            let metrics = member.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            let voters = metrics.membership_config.voter_ids();
            voters.map(|voter| node_of(voter).0).collect()
        };
        members.iter().flat_map(of).collect()
    }

    /// Voters and learners of a group, with how far each has come; empty if it is not held here.
    pub fn replicas(&self, group: GroupId) -> Vec<ReplicaStatus> {
        let Some(member) = self.member(group) else {
            return Vec::new();
        };
        let metrics = member.raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = &metrics.membership_config;
        let voters: BTreeSet<ReplicaId> = members.voter_ids().collect();
        let last = metrics.last_log_index.map_or(0, |last| last + 1);
        let status = |(id, ()): (&ReplicaId, &())| {
            let matched = match &metrics.replication {
                Some(others) => others.get(id).map(|matched| matched.map(|id| id.index)),
                None if *id == member.me => Some(metrics.last_log_index),
                None => None,
            };
            ReplicaStatus {
                node: node_of(*id),
                replica: *id,
                repair: self.repairs.find(group, *id),
                voter: voters.contains(id),
                leads: metrics.current_leader == Some(*id),
                matched: matched.flatten().map(Index),
                lag: match &metrics.replication {
                    Some(_) => matched.map(|m| last.saturating_sub(m.map_or(0, |m| m + 1))),
                    None => None,
                },
                heard: metrics.heartbeat.as_ref().and_then(|heard| {
                    if *id == member.me {
                        return Some(Duration::ZERO);
                    }
                    let answered = heard.get(id).copied().flatten();
                    let answered = answered.map(|last| last.elapsed());
                    // A quiet group has no heartbeats.
                    let node = self.heard_since(node_of(*id));
                    answered.into_iter().chain(node).min()
                }),
            }
        };
        members.nodes().map(status).collect()
    }

    /// Brings a group to exactly these voters, without learners: see [`Node::change_members`].
    pub fn change_voters<'a>(
        &'a self,
        group: GroupId,
        voters: &'a BTreeSet<NodeId>,
    ) -> BoxFuture<'a, Result<()>> {
        self.change_group(group, voters.clone(), BTreeSet::new())
            .boxed()
    }

    /// Brings a group to exactly these voters and learners (a node that is named as both votes):
    /// adds what is missing as learners, waits until those that shall vote have caught up, and
    /// changes the voters in one joint step. A learner has all entries, and no say. One change
    /// per group at a time; one that was given up (the future dropped) goes on where it was when
    /// it is asked for again. Errors: [`Error::NotLeader`]; [`Error::Raft`] if the members were
    /// changed meanwhile.
    pub fn change_members<'a>(
        &'a self,
        group: GroupId,
        voters: &'a BTreeSet<NodeId>,
        learners: &'a BTreeSet<NodeId>,
    ) -> BoxFuture<'a, Result<()>> {
        let learners = learners - voters;
        self.change_group(group, voters.clone(), learners).boxed()
    }

    async fn change_group(
        &self,
        id: GroupId,
        voters: BTreeSet<NodeId>,
        learners: BTreeSet<NodeId>,
    ) -> Result<()> {
        let member = self.member(id).ok_or(Error::NotHeld(id))?;
        let _one = member.change.lock().await;
        if member.group.term().is_none() {
            return Err(Error::NotLeader(member.other_leader()));
        }
        member.rouse().await;
        let voters = member.add_learners(&voters).await?;
        let learners = member.add_learners(&learners).await?;
        self.catch_up(&member, &voters).await?;
        if voters != BTreeSet::from([member.me]) || !learners.is_empty() {
            member.close_promises().await?;
        }
        member.replace_members(voters, learners).await
    }

    /// Waits until these replicas have nearly all of the log, and most of them answer: with them
    /// alone the group goes on. Errors: [`Error::NotLeader`]; [`Error::Timeout`] if one that lacks
    /// more is silent.
    async fn catch_up(&self, member: &Member, wanted: &BTreeSet<ReplicaId>) -> Result<()> {
        let id = member.group.id();
        let begun = tokio::time::Instant::now();
        loop {
            if member.group.term().is_none() {
                return Err(Error::NotLeader(member.other_leader()));
            }
            let mut replicas = self.replicas(id);
            replicas.retain(|replica| wanted.contains(&replica.replica));
            let answers =
                |replica: &&ReplicaStatus| replica.heard.is_some_and(|heard| heard < SILENT_AFTER);
            let near = |replica: &&ReplicaStatus| {
                // One that has nothing waits for a snapshot, however few records there are.
                let lag = replica.matched.and(replica.lag).unwrap_or(u64::MAX);
                replica.replica == member.me || lag <= CATCH_UP_LAG_MAX
            };
            let answering = replicas.iter().filter(answers).count();
            if replicas.iter().filter(near).count() == wanted.len() && 2 * answering > wanted.len()
            {
                return Ok(());
            }
            let silent = |replica: &ReplicaStatus| !near(&replica) && !answers(&replica);
            let few = 2 * answering <= wanted.len();
            if begun.elapsed() > SILENT_AFTER && (few || replicas.iter().any(silent)) {
                return Err(Error::Timeout(
                    id,
                    "a replica that is to vote and is silent",
                ));
            }
            tokio::time::sleep(CATCH_UP_POLL).await;
        }
    }

    /// Hands the leadership of a group to the voter on another node. Errors:
    /// [`Error::NotLeader`], [`Error::NoVoter`]; [`Error::Timeout`] if it has not happened: the
    /// group is without a leader for an election then, unless the other one's log stands still.
    pub fn transfer(&self, group: GroupId, to: NodeId) -> BoxFuture<'_, Result<()>> {
        self.transfer_group(group, to).boxed()
    }

    async fn transfer_group(&self, id: GroupId, to: NodeId) -> Result<()> {
        let member = self.member(id).ok_or(Error::NotHeld(id))?;
        if member.group.term().is_none() {
            return Err(Error::NotLeader(member.other_leader()));
        }
        if to == self.me {
            return Ok(());
        }
        member.rouse().await;
        let voter = |id| {
            let replicas = self.replicas(id).into_iter();
            let mut voters = replicas.filter(|replica| replica.voter);
            let found = voters.find(|replica| replica.node == to);
            found.ok_or(Error::NoVoter(id, to))
        };
        // A transfer is not rolled back: rather wait for the other one's log before.
        let begun = tokio::time::Instant::now();
        let before = voter(id)?.matched;
        while voter(id)?.lag.is_some_and(|lag| lag > 0) && begun.elapsed() < CATCH_UP_TIME_MAX {
            tokio::time::sleep(TRANSFER_POLL).await;
        }
        let target = voter(id)?;
        if target.lag.is_some_and(|lag| lag > 0) && target.matched == before {
            return Err(Error::Timeout(id, "the log of who is to lead"));
        }
        let asked = member.raft.trigger().transfer_leader(target.replica).await;
        asked.map_err(|e| member.failed(e))?;
        loop {
            match member.leader() {
                Some(leader) if leader == to => return Ok(()),
                Some(leader) if leader != self.me => return Err(Error::NotLeader(Some(leader))),
                _ if begun.elapsed() > TRANSFER_TIME_MAX => {
                    return Err(Error::Timeout(id, "the transfer of leadership"));
                }
                _ => tokio::time::sleep(TRANSFER_POLL).await,
            }
        }
    }
}

impl Node {
    /// The caller knows that this node is to have no replica of a group any more, and where the
    /// group's members are: if one of them confirms that this node's replica was removed, it
    /// ends. Tells whether there is none (any more). Errors: those of [`Node::close`].
    pub fn removed<'a>(
        self: &'a Arc<Self>,
        group: GroupId,
        members: &'a BTreeSet<NodeId>,
    ) -> BoxFuture<'a, Result<bool>> {
        self.ask_removed(group, members).boxed()
    }

    async fn ask_removed(
        self: &Arc<Self>,
        id: GroupId,
        members: &BTreeSet<NodeId>,
    ) -> Result<bool> {
        let Some(member) = self.member(id) else {
            return Ok(true);
        };
        for node in members.iter().filter(|node| **node != self.me) {
            let body = Body::Removed(member.me);
            let asked = self.ask_node(*node, id, body, REMOVED_TIME_MAX);
            if matches!(asked.await, Some(Answer::Removed(true))) {
                self.close_replica(id, member.me).await?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ends a replica, unless another one of this node has taken its place.
    pub(crate) async fn close_replica(
        self: &Arc<Self>,
        id: GroupId,
        replica: ReplicaId,
    ) -> Result<()> {
        let node = self.clone();
        let closing = self
            .runtime
            .spawn(async move { node.end_replica(id, replica).await });
        closing.await.map_err(|e| Error::Task(e.to_string()))?
    }

    /// Ends this node's replica of a group, from which it was removed: its tables and its log go,
    /// and its id never comes back. A later one begins with nothing. What was begun is brought to
    /// its end if nobody waits for it any more; what fails is begun again when it is asked for
    /// again.
    pub fn close<'a>(self: &'a Arc<Self>, group: GroupId) -> BoxFuture<'a, Result<()>> {
        async move {
            match self.member(group) {
                Some(member) => self.close_replica(group, member.me).await,
                None => Ok(()),
            }
        }
        .boxed()
    }

    async fn end_replica(&self, id: GroupId, replica: ReplicaId) -> Result<()> {
        let _one = self.opening.lock().await;
        // Another one may have taken its place while the lock was waited for.
        let Some(member) = self.member(id).filter(|member| member.me == replica) else {
            return Ok(());
        };
        member.ending.store(true, Ordering::Release);
        self.silence(id);
        if let Err(error) = member.raft.shutdown().await {
            tracing::warn!(group = %id, %error, "Raft did not end in order");
        }
        member.group.step_down();
        member.group.give_up();
        // Before its log goes: who reads that would take it for one without entries.
        member.group.end();
        let ended = encode_ballot(&Ballot::Ended(join_of(member.me)));
        let records = vec![Record::vote(id, &ended), Record::truncate(id, Index(0))];
        let journal = self.journal.clone();
        let written = tokio::task::spawn_blocking(move || journal.append_wait(records));
        written.await.map_err(|e| Error::Task(e.to_string()))??;
        self.forget_tables(id).await?;
        self.remove_member(id);
        Ok(())
    }

    /// Removes what the tables have of a group that has ended.
    pub(crate) async fn forget_tables(&self, id: GroupId) -> Result<()> {
        let (groups, disk) = (self.groups.clone(), OnDisk(self.journal.clone()));
        let removed = tokio::task::spawn_blocking(move || groups.remove(id, &disk));
        Ok(removed.await.map_err(|e| Error::Task(e.to_string()))??)
    }
}

impl Member {
    /// Was this replica removed from the group, for ever? Join numbers only grow: what has one
    /// that was given out, and is no member of what is committed, never will be.
    pub fn has_removed(&self, replica: ReplicaId) -> bool {
        match decoded(&self.group.applied_log().1) {
            Ok(state) => {
                let mut members = state.members.nodes();
                state.members.log_id().is_some()
                    && join_of(replica) <= state.joins
                    && members.all(|(id, ())| *id != replica)
            }
            Err(_) => false,
        }
    }

    /// Adds a learner for each node that has no replica yet. Gives the replicas of all nodes.
    async fn add_learners(&self, nodes: &BTreeSet<NodeId>) -> Result<BTreeSet<ReplicaId>> {
        let members = self.members().await?;
        let state = decoded(&self.group.applied_log().1)?;
        let mut joins = state.then(members.clone()).joins;
        let mut wanted = BTreeSet::new();
        for node in nodes {
            let known = members.nodes().map(|(id, ())| *id);
            // Of several of one node only the last can be alive.
            let known = known.filter(|id| node_of(*id) == *node).max();
            let id = match known {
                Some(id) => id,
                None => {
                    joins += 1;
                    let id = replica(*node, joins);
                    let added = self.raft.add_learner(id, (), false).await;
                    added.map_err(|e| self.refusal(e))?;
                    id
                }
            };
            wanted.insert(id);
        }
        Ok(wanted)
    }

    /// The members that are in effect, committed or not.
    async fn members(&self) -> Result<StoredMembership> {
        let members = |state: &openraft::RaftState<Types>| {
            let members = state.membership_state.effective();
            StoredMembership::new(*members.log_id(), members.membership().clone())
        };
        let asked = self.raft.with_raft_state(members);
        asked.await.map_err(|e| self.failed(e))
    }

    /// A sole voter closes positions in its memory alone. Before others may lead, an entry says
    /// it: theirs begin above.
    async fn close_promises(&self) -> Result<()> {
        if self.members().await?.voter_ids().count() > 1 {
            return Ok(());
        }
        self.group.set_sole(false);
        let newest = self.group.close_above();
        let (told, decided) = tokio::sync::oneshot::channel();
        let Some(newest) = newest else {
            return Err(Error::NotLeader(self.other_leader()));
        };
        // Who asked has given up if nobody hears it.
        let tell = move |outcome| told.send(outcome).unwrap_or_default();
        self.group.when(newest, Box::new(tell));
        match decided.await {
            Ok(Outcome::Applied) => Ok(()),
            Ok(Outcome::Lost | Outcome::Unknown) | Err(_) => {
                Err(Error::NotLeader(self.other_leader()))
            }
        }
    }

    /// Changes the voters, and removes what is neither voter nor learner.
    async fn replace_members(
        &self,
        voters: BTreeSet<ReplicaId>,
        learners: BTreeSet<ReplicaId>,
    ) -> Result<()> {
        let members = self.members().await?;
        let unchanged = Precondition::LastMembershipLogId {
            last_membership_log_id: *members.log_id(),
        };
        let joint = members.get_joint_config().len() > 1;
        if joint || !members.voter_ids().eq(voters.iter().copied()) {
            // Who voted and is to learn from now on keeps its replica.
            let retain = members.voter_ids().any(|voter| learners.contains(&voter));
            let change = ChangeMembers::ReplaceAllVoters(voters.clone());
            let changed = self.raft.change_membership_if(change, retain, [unchanged]);
            changed.await.map_err(|e| self.refusal(e))?;
        }
        let members = self.members().await?;
        let others = members.nodes().map(|(id, ())| *id);
        let others: BTreeSet<ReplicaId> = others
            .filter(|id| !voters.contains(id) && !learners.contains(id))
            .collect();
        if !others.is_empty() {
            let change = ChangeMembers::RemoveNodes(others);
            let removed = self.raft.change_membership(change, false).await;
            removed.map_err(|e| self.refusal(e))?;
        }
        Ok(())
    }

    /// What a refused change means.
    fn refusal(&self, error: RaftError<Types, ClientWriteError<Types>>) -> Error {
        match error.forward_to_leader() {
            Some(to) => Error::NotLeader(to.leader_id.map(node_of)),
            None => self.failed(error),
        }
    }
}
