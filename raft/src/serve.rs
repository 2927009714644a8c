//! Serving the requests of other nodes.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use journal::GroupId;
use openraft::raft::AppendEntriesResponse;
use tokio::time::Instant;

use crate::codec::{Answer, Body, Request, SnapshotRequest};
use crate::node::{Member, Node};
use crate::transport::NodeId;
use crate::types::{Ballot, ReplicaId, Vote, join_of, node_of};

impl Node {
    /// Serves a request of another node, which the connection has made sure to be `from`: the
    /// answer's bytes. Never fails: what can't be served is refused.
    pub fn serve(self: &Arc<Self>, from: NodeId, request: Bytes) -> BoxFuture<'static, Bytes> {
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
        let Some(member) = self.asked(request.group, request.to).await else {
            return Answer::Refused;
        };
        match request.body {
            Body::Snapshot(part) => self.receive(member, from, part).await,
            body => member.answer(body).await,
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
                self.end_outdated(group);
            }
            return (member.me == to).then_some(member);
        }
        let node = self.clone();
        let opened = self
            .runtime
            .spawn(async move { node.open_asked(group, to).await });
        opened.await.ok().flatten()
    }

    fn end_outdated(self: &Arc<Self>, group: GroupId) {
        let node = self.clone();
        self.runtime.spawn(async move {
            if let Err(error) = node.close(group).await {
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

/// A leader or candidate speaks for its own replica only.
fn speaks_for_itself(from: NodeId, body: &Body) -> bool {
    let by = |vote: &Vote| node_of(vote.leader_id.voted_for) == from;
    match body {
        Body::Append(append) => by(&append.vote),
        Body::Vote(vote) | Body::PreVote(vote) => by(&vote.vote),
        Body::Transfer(transfer) => by(transfer.from_leader()),
        Body::Snapshot(_) | Body::Close => true,
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
            Body::Close | Body::Snapshot(_) => Answer::Refused,
        }
    }
}
