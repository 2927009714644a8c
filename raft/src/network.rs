//! openraft's network of one group: requests go through the node's [`Transport`], each as the
//! bytes of `codec`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use journal::GroupId;
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{RaftNetworkFactory, RaftNetworkV2};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

use crate::codec::{Answer, Body, Request};
use crate::leadership::IN_DOUBT_MAX;
use crate::snapshot::Data;
use crate::transport::{Lane, REQUEST_BYTES_MAX, Transport};
use crate::types::{ReplicaId, Types, node_of};

/// How long entries may take. An fsync of the other node may take longer once in a while: then
/// they are sent again. What is in doubt waits for them, so this is well below
/// [`IN_DOUBT_MAX`](crate::leadership::IN_DOUBT_MAX), for the largest request too.
const APPEND_TIME_MAX: Duration = Duration::from_millis(1500);
/// So many bytes may take a millisecond more.
const BYTES_PER_MILLISECOND: usize = 32 << 10;
const _: () = assert!(
    APPEND_TIME_MAX.as_millis() + ((REQUEST_BYTES_MAX / BYTES_PER_MILLISECOND) as u128)
        < IN_DOUBT_MAX.as_millis()
);
/// How long a vote may take, which includes an fsync.
const VOTE_TIME_MAX: Duration = Duration::from_secs(2);

/// What a request may take longer for its length.
fn time_for(bytes: usize) -> Duration {
    Duration::from_millis((bytes / BYTES_PER_MILLISECOND) as u64)
}

/// Makes a [`Peer`] for every other replica of a group.
pub struct Network {
    /// The group.
    pub group: GroupId,
    /// The way to other nodes.
    pub transport: Arc<dyn Transport>,
    /// Permits to send a snapshot.
    pub sending: Arc<Semaphore>,
    /// Where it is told that this replica was removed.
    pub removed: mpsc::UnboundedSender<(GroupId, ReplicaId)>,
    /// This replica.
    pub me: ReplicaId,
}

/// Another replica of the group, as a lane of requests to it.
pub struct Peer {
    group: GroupId,
    to: ReplicaId,
    lane: Lane,
    transport: Arc<dyn Transport>,
    sending: Arc<Semaphore>,
    removed: mpsc::UnboundedSender<(GroupId, ReplicaId)>,
    me: ReplicaId,
}

impl Network {
    fn peer(&self, to: ReplicaId, lane: Lane) -> Peer {
        Peer {
            group: self.group,
            to,
            lane,
            transport: self.transport.clone(),
            sending: self.sending.clone(),
            removed: self.removed.clone(),
            me: self.me,
        }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: ReplicaId, _node: &()) -> Peer {
        self.peer(target, Lane::Data)
    }

    async fn new_heartbeat_client(&mut self, target: ReplicaId, _node: &()) -> Peer {
        self.peer(target, Lane::Control)
    }

    async fn new_snapshot_client(&mut self, target: ReplicaId, _node: &()) -> Peer {
        self.peer(target, Lane::Bulk)
    }
}

impl Peer {
    /// Asks the other replica. A refusal and a malformed answer count as no answer.
    pub async fn ask(
        &self,
        lane: Lane,
        body: Body,
        deadline: Duration,
    ) -> Result<Answer, Unreachable<Types>> {
        let (group, to) = (self.group, self.to);
        let request = Request { group, to, body }.encode();
        let deadline = match lane {
            Lane::Control => deadline,
            Lane::Data | Lane::Bulk => deadline + time_for(request.len()),
        };
        let called = self.transport.call(node_of(to), lane, request, deadline);
        let answer = called.await.map_err(|error| Unreachable::new(&error))?;
        match Answer::decode(answer) {
            Ok(Answer::Refused) => Err(self.unreachable("it refused")),
            Ok(Answer::Removed(true)) => {
                // Nobody hears it only if the node is ending.
                let _ = self.removed.send((self.group, self.me));
                Err(self.unreachable("this replica was removed"))
            }
            Ok(answer) => Ok(answer),
            Err(malformed) => Err(Unreachable::new(&malformed)),
        }
    }

    /// The other replica can't be reached, for this reason.
    pub fn unreachable(&self, what: &str) -> Unreachable<Types> {
        let (to, group) = (self.to, self.group);
        Unreachable::from_string(format!("replica {to} of group {group}: {what}"))
    }

    /// Waits until a snapshot may be sent.
    pub async fn may_send(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.sending.acquire().await.ok()
    }

    async fn ask_vote(&self, body: Body) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self.ask(Lane::Control, body, VOTE_TIME_MAX).await? {
            Answer::Vote(vote) => Ok(vote),
            _ => Err(self.unreachable("it answered something else").into()),
        }
    }
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = Data;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        // openraft gives up a heartbeat by itself; entries may take longer than its default.
        let deadline = match self.lane {
            Lane::Control => option.hard_ttl(),
            Lane::Data | Lane::Bulk => APPEND_TIME_MAX,
        };
        let asked = self.ask(self.lane, Body::Append(request), deadline);
        match asked.await? {
            Answer::Append(append) => Ok(append),
            _ => Err(self.unreachable("it answered something else").into()),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(Body::Vote(request)).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(Body::PreVote(request)).await
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        // The others would forget the leader at once and compete with the one that is meant; its
        // request for their votes says itself that the leader has asked for it.
        if *request.to_node_id() != self.to {
            return Ok(Ok(()));
        }
        let last = request.last_log_id().copied();
        let asked = self.ask(Lane::Control, Body::Transfer(request), VOTE_TIME_MAX);
        match asked.await? {
            Answer::Transfer(true) => Ok(Ok(())),
            Answer::Transfer(false) => Ok(Err(TransferLeaderError::LogNotFlushed {
                expected: last,
                actual: None,
            })),
            _ => Err(self.unreachable("it answered something else").into()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Types>,
        snapshot: SnapshotOf<Types, Data>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let sending = crate::snapshot::send(self, vote, snapshot);
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            sent = sending => Ok(SnapshotResponse::new(sent?)),
        }
    }
}
