//! Serving the requests of other nodes.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use journal::GroupId;
use openraft::raft::{AppendEntriesResponse, VoteRequest};
use tokio::time::Instant;

use crate::codec::{Answer, Body, Request, SnapshotRequest};
use crate::node::{Member, Node};
use crate::transport::NodeId;
use crate::types::{Ballot, ReplicaId, Types, Vote, join_of, node_of};

impl Node {
    /// Serves a request of another node, which the connection has made sure to be `from`: the
    /// answer's bytes. Never fails: what can't be served is refused.
    pub fn serve(self: &Arc<Self>, from: NodeId, request: Bytes) -> BoxFuture<'static, Bytes> {
        self.heard(from);
        let node = self.clone();
        async move { node.answer(from, request).await.encode() }.boxed()
    }

    async fn answer(self: &Arc<Self>, from: NodeId, request: Bytes) -> Answer {
        let request = match Request::decode(request) {
            Ok(request) => request,
            Err(malformed) => {
                tracing::warn!(%from, %malformed, "refused a request");
                return Answer::Refused;
            }
        };
        if node_of(request.to) != self.me || !speaks_for_itself(from, &request.body) {
            return Answer::Refused;
        }
        match request.body {
            Body::Removed(replica) => {
                let member = self.member(request.group);
                Answer::Removed(member.is_some_and(|member| member.has_removed(replica)))
            }
            Body::Rest(rests) => Answer::Rest(self.rest(&rests)),
            Body::Wake(groups) => Answer::Wake(self.wake(&groups)),
            body => match self.asked(request.group, request.to).await {
                Some(member) => self.answer_for(member, from, body).await,
                None => Answer::Refused,
            },
        }
    }

    /// What is a replica's matter.
    async fn answer_for(self: &Arc<Self>, member: Arc<Member>, from: NodeId, body: Body) -> Answer {
        match body {
            Body::Vote(vote) | Body::PreVote(vote) if member.has_removed(candidate(&vote)) => {
                Answer::Removed(true)
            }
            Body::PreVote(vote) if !self.may_elect(&member, candidate(&vote)) => Answer::Refused,
            Body::Snapshot(part) => {
                member.activity.touch();
                self.receive(member, from, part).await
            }
            body => {
                let answer = member.answer(body).await;
                // After it: an append has renewed the lease by now.
                member.activity.touch();
                answer
            }
        }
    }

    /// While a group is quiet its leader is not missed: it is asked to wake up before another one
    /// may lead.
    fn may_elect(self: &Arc<Self>, member: &Arc<Member>, candidate: ReplicaId) -> bool {
        if !member.activity.is_quiet() {
            return true;
        }
        match member.other_replica() {
            Some(leader) if leader != candidate => {
                self.knock(member);
                false
            }
            // It leads no more, for it has restarted.
            Some(_) => true,
            // This one leads, or nobody does.
            None => !self.wake(&[member.group.id()])[0],
        }
    }

    /// In Raft's runtime, whose threads may wait for the disk.
    async fn receive(&self, member: Arc<Member>, from: NodeId, part: SnapshotRequest) -> Answer {
        let store = self.groups.store().clone();
        let receiving = async move { member.receive(from, part, &*store).await };
        match self.runtime.spawn(receiving).await {
            Ok(Some(answer)) => Answer::Snapshot(answer),
            Ok(None) | Err(_) => Answer::Refused,
        }
    }

    /// The replica that is asked, if it is this node's one in the group. The first request to a
    /// new one opens it, empty: it may vote, and learns the rest from the leader.
    async fn asked(self: &Arc<Self>, group: GroupId, to: ReplicaId) -> Option<Arc<Member>> {
        if let Some(member) = self.member(group) {
            if join_of(to) > join_of(member.me) {
                // Its removal was committed before another number was given to this node.
                self.end_outdated(group, member.me);
            }
            return (member.me == to).then_some(member);
        }
        let node = self.clone();
        let opened = self
            .runtime
            .spawn(async move { node.open_asked(group, to).await });
        opened.await.ok().flatten()
    }

    fn end_outdated(self: &Arc<Self>, group: GroupId, replica: ReplicaId) {
        let node = self.clone();
        self.runtime.spawn(async move {
            if let Err(error) = node.close_replica(group, replica).await {
                tracing::error!(%group, %error, "a removed replica does not end");
            }
        });
    }

    async fn open_asked(&self, group: GroupId, to: ReplicaId) -> Option<Arc<Member>> {
        let _one = self.opening.lock().await;
        if let Some(member) = self.member(group) {
            return (member.me == to).then_some(member);
        }
        let usable = match self.ballot(group).ok()? {
            None => true,
            Some(Ballot::Ended(join)) => join_of(to) > join,
            // Not opened at the start: the node is ending.
            Some(Ballot::Vote(..)) => false,
        };
        if !usable {
            return None;
        }
        let opened = self.open_group(group, join_of(to), self.floor()).await;
        opened
            .inspect_err(|error| tracing::error!(%group, %error, "a new replica does not open"))
            .ok()
    }
}

fn candidate(vote: &VoteRequest<Types>) -> ReplicaId {
    vote.vote.leader_id.voted_for
}

/// A leader or candidate speaks for its own replica only.
fn speaks_for_itself(from: NodeId, body: &Body) -> bool {
    let by = |vote: &Vote| node_of(vote.leader_id.voted_for) == from;
    match body {
        Body::Append(append) => by(&append.vote),
        Body::Vote(vote) | Body::PreVote(vote) => by(&vote.vote),
        Body::Transfer(transfer) => by(transfer.from_leader()),
        Body::Removed(replica) => node_of(*replica) == from,
        Body::Rest(rests) => rests.iter().all(|rest| by(&rest.vote)),
        Body::Snapshot(_) | Body::Close | Body::Wake(_) => true,
    }
}

impl Member {
    async fn answer(&self, body: Body) -> Answer {
        // An error means that this group's Raft has ended, which was logged.
        match body {
            Body::Append(append) => match self.raft.append_entries(append).await {
                Ok(appended) => {
                    if !matches!(appended, AppendEntriesResponse::HigherVote(_)) {
                        *self.heard.lock() = Some(Instant::now());
                    }
                    Answer::Append(appended)
                }
                Err(_) => Answer::Refused,
            },
            Body::Vote(vote) => match self.raft.vote(vote).await {
                Ok(vote) => Answer::Vote(vote),
                Err(_) => Answer::Refused,
            },
            Body::PreVote(vote) => match self.raft.pre_vote(vote).await {
                Ok(vote) => Answer::Vote(vote),
                Err(_) => Answer::Refused,
            },
            Body::Transfer(transfer) => match self.raft.handle_transfer_leader(transfer).await {
                Ok(will) => Answer::Transfer(will.is_ok()),
                Err(_) => Answer::Refused,
            },
            Body::Close if self.group.term().is_some() => {
                self.group.close_wanted();
                Answer::Close
            }
            Body::Close | Body::Snapshot(_) | Body::Removed(_) | Body::Rest(_) | Body::Wake(_) => {
                Answer::Refused
            }
        }
    }
}
