//! openraft's network of one group: requests go through the node's [`Transport`], each as the
//! bytes of `codec`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{BoxStream, unfold};
use futures_util::{FutureExt, Stream, StreamExt};
use journal::GroupId;
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{RaftNetworkFactory, RaftNetworkV2};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::time::timeout;

use crate::codec::{Answer, Body, Request};
use crate::leadership::IN_DOUBT_MAX;
use crate::repair::{Repairs, Sending};
use crate::snapshot::{Data, Held, UnderWay};
use crate::transport::{Lane, REQUEST_BYTES_MAX, Transport};
use crate::types::{ReplicaId, Types, node_of};
use crate::writer::Waiting;

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

/// A snapshot waits for others so long.
const PERMIT_TIME_MAX: Duration = Duration::from_secs(3);

/// That entries are committed is told so much later, if more of them are about to come.
const NEWS_TIME_MAX: Duration = Duration::from_millis(1);

/// What a request may take longer for its length.
fn time_for(bytes: usize) -> Duration {
    Duration::from_millis((bytes / BYTES_PER_MILLISECOND) as u64)
}

/// Makes a [`Peer`] for every other replica of a group.
pub struct Network {
    /// What the group's writer task has to propose.
    pub waiting: Arc<Waiting>,
    /// The group.
    pub group: GroupId,
    /// The way to other nodes.
    pub transport: Arc<dyn Transport>,
    /// Permits to send a snapshot.
    pub sending: Arc<Semaphore>,
    /// How far those are that are sent.
    pub repairs: Arc<Repairs>,
    /// The group's snapshots that are under way.
    pub under_way: Arc<UnderWay>,
    /// Where it is told that this replica was removed.
    pub removed: mpsc::UnboundedSender<(GroupId, ReplicaId)>,
    /// This replica.
    pub me: ReplicaId,
}

/// Another replica of the group, as a lane of requests to it.
pub struct Peer {
    waiting: Arc<Waiting>,
    group: GroupId,
    to: ReplicaId,
    lane: Lane,
    transport: Arc<dyn Transport>,
    sending: Arc<Semaphore>,
    repairs: Arc<Repairs>,
    under_way: Arc<UnderWay>,
    removed: mpsc::UnboundedSender<(GroupId, ReplicaId)>,
    me: ReplicaId,
}

impl Network {
    /// A lane to another replica.
    pub fn peer(&self, to: ReplicaId, lane: Lane) -> Peer {
        Peer {
            waiting: self.waiting.clone(),
            group: self.group,
            to,
            lane,
            transport: self.transport.clone(),
            sending: self.sending.clone(),
            repairs: self.repairs.clone(),
            under_way: self.under_way.clone(),
            removed: self.removed.clone(),
            me: self.me,
        }
    }
}

#[cfg(test)]
impl Network {
    /// Nothing waits, and one snapshot may be sent at a time.
    pub(crate) fn through(transport: impl Transport, group: GroupId, me: ReplicaId) -> Network {
        Network {
            waiting: Arc::default(),
            group,
            transport: Arc::new(transport),
            sending: Arc::new(Semaphore::new(1)),
            repairs: Arc::default(),
            under_way: Arc::default(),
            removed: mpsc::unbounded_channel().0,
            me,
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

    /// Waits a moment until a snapshot may be sent: an export that waits for long holds old versions
    /// of rows, and lies further and further back.
    pub async fn may_send(&self) -> Result<SemaphorePermit<'_>, Unreachable<Types>> {
        match timeout(PERMIT_TIME_MAX, self.sending.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            // It is never closed.
            Ok(Err(_)) | Err(_) => Err(self.unreachable("other snapshots come first")),
        }
    }

    /// Notes that a snapshot up to an index is under way to the other replica.
    pub fn begin_snapshot(&self, last: u64) -> Held<'_> {
        self.under_way.begin(self.to, last)
    }

    /// A snapshot with this metadata begins to be sent.
    pub fn begin_sending(&self, meta: &bytes::Bytes) -> Sending {
        self.repairs.begin(self.group, self.to, meta)
    }

    async fn ask_vote(&self, body: Body) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self.ask(Lane::Control, body, VOTE_TIME_MAX).await? {
            Answer::Vote(vote) => Ok(vote),
            _ => Err(self.unreachable("it answered something else").into()),
        }
    }
}

/// What becomes of one request of a stream.
type Appended = Result<StreamAppendResult<Types>, RPCError<Types>>;
/// Of all of them.
type Appends<'a> = BoxStream<'a, Appended>;

impl Peer {
    /// Sends the next request of a stream. Gives what becomes of it, and whether the stream ends.
    async fn append_next<S>(
        &mut self,
        requests: &mut S,
        option: RPCOption,
    ) -> Option<(Appended, bool)>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Unpin,
    {
        let mut request = requests.next().await?;
        let mut ends = false;
        if request.entries.is_empty() && self.lane == Lane::Data && self.waiting.any() {
            // It only says that entries are committed, which the next one says, too. Whoever asks
            // learns of both by the answer to the later one.
            match timeout(NEWS_TIME_MAX, requests.next()).await {
                Ok(Some(next)) => request = next,
                Ok(None) => ends = true,
                Err(_) => {}
            }
        }
        let before = request.prev_log_id;
        let last = request.entries.last().map(|entry| entry.log_id).or(before);
        match self.append_entries(request, option).await {
            Ok(answer) => {
                let in_part =
                    matches!(&answer, AppendEntriesResponse::PartialSuccess(upto) if *upto != last);
                let appended = answer.into_stream_result(before, last);
                ends |= in_part || appended.is_err();
                Some((Ok(appended), ends))
            }
            Err(error) => Some((Err(error), true)),
        }
    }
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = Data;

    /// One request after the other, each with what has come meanwhile.
    fn stream_append<'s, S>(
        &'s mut self,
        requests: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<Appends<'s>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        let appends = unfold(Some((self, requests)), move |state| {
            let option = option.clone();
            async move {
                let (peer, mut requests) = state?;
                let (appended, ends) = peer.append_next(&mut requests, option).await?;
                Some((appended, (!ends).then_some((peer, requests))))
            }
        });
        ready(Ok(appends.boxed())).boxed()
    }

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

#[cfg(test)]
mod tests {
    use futures_util::stream::iter;
    use journal::{Kind, Payload, Position};
    use openraft::impls::leader_id_std::LeaderId;
    use parking_lot::Mutex;

    use super::*;
    use crate::transport::Played;
    use crate::types::{Command, RaftEntry, Vote, log_id};

    fn append(before: u64, entries: &[u64], committed: u64) -> AppendEntriesRequest<Types> {
        let leader_id = LeaderId {
            term: 3,
            voted_for: 1,
        };
        let entry = |index: &u64| RaftEntry {
            log_id: log_id(3, *index),
            payload: openraft::EntryPayload::Normal(Command {
                kind: Kind::Entry,
                position: Position(*index),
                payload: Payload::of(b"image"),
            }),
        };
        AppendEntriesRequest {
            vote: Vote {
                leader_id,
                committed: true,
            },
            prev_log_id: Some(log_id(3, before)),
            leader_commit: Some(log_id(3, committed)),
            entries: entries.iter().map(entry).collect(),
        }
    }

    /// What a replica is sent of some requests, as (entries, committed), and what it has then.
    async fn sent(
        proposals: usize,
        requests: Vec<AppendEntriesRequest<Types>>,
    ) -> (Vec<(usize, u64)>, Option<u64>) {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let takes_all = {
            let taken = taken.clone();
            Played(move |body| {
                let Body::Append(append) = body else {
                    panic!("something else was asked");
                };
                taken.lock().push(append);
                Some(Answer::Append(AppendEntriesResponse::Success))
            })
        };
        let network = Network {
            waiting: Arc::new(Waiting::of(proposals)),
            ..Network::through(takes_all, GroupId(7), 1)
        };
        let mut peer = network.peer(2, Lane::Data);
        let option = RPCOption::new(Duration::from_secs(1));
        let appends = peer.stream_append(iter(requests), option).await.unwrap();
        let appended: Vec<Appended> = appends.collect().await;
        let last = appended.into_iter().last().unwrap().unwrap().unwrap();
        let taken = taken.lock();
        let told = taken.iter().map(|r: &AppendEntriesRequest<Types>| {
            (r.entries.len(), r.leader_commit.unwrap().index)
        });
        (told.collect(), last.map(|id| id.index))
    }

    #[tokio::test]
    async fn a_commit_is_told_with_the_entries_that_are_about_to_come() {
        let news = || append(8, &[], 8);
        let more = || append(8, &[9, 10], 8);
        assert_eq!(
            sent(2, vec![news(), more()]).await,
            (vec![(2, 8)], Some(10))
        );
        // Nothing waits, or what waits does not come: it is told at once, or soon.
        assert_eq!(
            sent(0, vec![news(), more()]).await,
            (vec![(0, 8), (2, 8)], Some(10))
        );
        assert_eq!(sent(2, vec![news()]).await, (vec![(0, 8)], Some(8)));
    }
}
