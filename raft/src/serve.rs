//! Serving the requests of other nodes.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use journal::GroupId;

use crate::codec::{Answer, Body, Request};
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
        match self.asked(request.group, request.to).await {
            Some(member) => member.answer(request.body).await,
            None => Answer::Refused,
        }
    }

    /// The replica that is asked, if it is this node's one in the group. The first request to a
    /// new one opens it, empty: it may vote, and learns the rest from the leader.
    async fn asked(self: &Arc<Self>, group: GroupId, to: ReplicaId) -> Option<Arc<Member>> {
        if let Some(member) = self.member(group) {
            return (member.me == to).then_some(member);
        }
        let node = self.clone();
        let opened = self
            .runtime
            .spawn(async move { node.open_asked(group, to).await });
        opened.await.ok().flatten()
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
        Body::Snapshot(_) => true,
    }
}

impl Member {
    async fn answer(&self, body: Body) -> Answer {
        // An error means that this group's Raft has ended, which was logged.
        match body {
            Body::Append(append) => match self.raft.append_entries(append).await {
                Ok(appended) => Answer::Append(appended),
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
            Body::Snapshot(_) => Answer::Refused,
        }
    }
}
