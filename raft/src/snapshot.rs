//! Snapshots: what a replica that has fallen behind the log gets instead of it. The sender reads
//! its tables as of one position and sends them in chunks, which the receiver keeps aside until
//! all are there; then they are installed in place of everything that it had.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use journal::{GroupId, Index, Term};
use openraft::SnapshotMeta;
use openraft::alias::{SnapshotMetaOf, SnapshotOf, VoteOf};
use openraft::errors::Unreachable;
use storage::{Applied, Export, GroupCheckpoint, Scratch, TableStore, check_export};

use crate::codec::{Answer, Body, CHUNK_BYTES_MAX, Offer, SnapshotAnswer, SnapshotRequest};
use crate::machine::decoded;
use crate::network::Peer;
use crate::node::Member;
use crate::transport::{Lane, NodeId};
use crate::types::{Types, log_id, node_of, term_of};

/// Snapshots that one node sends at the same time.
pub const SENT_MAX: usize = 2;
/// How long a chunk may take.
const CHUNK_TIME_MAX: Duration = Duration::from_secs(10);
/// A message is sent again so often, after a pause each time.
const ATTEMPTS_MAX: u32 = 20;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(200);

/// Names the snapshots that this process sends.
static SENT: AtomicU64 = AtomicU64::new(0);

/// What a snapshot consists of besides its metadata.
pub enum Data {
    /// Only the name of the last checkpoint: it stands for the log below it.
    Checkpoint,
    /// The tables, to be read and sent.
    Export(Box<Export>),
    /// The tables of another replica, to be installed.
    Staged(Staged),
}

/// A snapshot that has arrived.
pub struct Staged {
    /// What storage keeps beside the trees.
    pub meta: Bytes,
    /// The last entry that it contains.
    pub applied: Applied,
    chunks: Box<dyn Scratch>,
    count: u32,
}

impl Staged {
    /// Calls `take` with the chunks, one after the other.
    pub fn read<T>(
        &self,
        take: impl FnOnce(&mut storage::Pieces<'_>) -> storage::Result<T>,
    ) -> storage::Result<T> {
        let mut next = 0u32;
        let mut piece = || {
            if next == self.count {
                return Ok(None);
            }
            let chunk = self.chunks.get(&next.to_be_bytes())?;
            next += 1;
            let missing = || storage::Error::Store("a chunk of a snapshot is gone".into());
            chunk.map(Some).ok_or_else(missing)
        };
        take(&mut piece)
    }
}

/// The snapshot that is arriving.
pub(crate) struct Staging {
    from: NodeId,
    offer: Offer,
    chunks: Box<dyn Scratch>,
    next: u32,
}

/// Sends a snapshot. Gives the receiver's vote.
pub async fn send(
    peer: &Peer,
    vote: VoteOf<Types>,
    snapshot: SnapshotOf<Types, Data>,
) -> Result<VoteOf<Types>, Unreachable<Types>> {
    let (Some(last), Data::Export(mut export)) = (snapshot.meta.last_log_id, snapshot.snapshot)
    else {
        return Err(peer.unreachable("nothing can be sent now"));
    };
    let _permit = peer.may_send().await;
    let id = SENT.fetch_add(1, Ordering::Relaxed);
    let offer = Offer {
        id,
        vote,
        last,
        position: export.applied().position,
        meta: export.meta().clone(),
    };
    let begin = match peer
        .tell(SnapshotRequest::Offer(offer.clone()), CHUNK_TIME_MAX)
        .await?
    {
        SnapshotAnswer::Done(vote) => return Ok(vote),
        SnapshotAnswer::Next(number) => number,
    };
    let mut chunks = 0;
    loop {
        let read = tokio::task::block_in_place(|| export.read(CHUNK_BYTES_MAX));
        let bytes = read.map_err(|e| Unreachable::new(&e))?;
        if bytes.is_empty() {
            break;
        }
        let number = chunks;
        chunks += 1;
        if number < begin {
            continue;
        }
        let chunk = SnapshotRequest::Chunk { id, number, bytes };
        match peer.tell(chunk, CHUNK_TIME_MAX).await? {
            SnapshotAnswer::Next(next) if next == chunks => {}
            _ => return Err(peer.unreachable("it has lost the snapshot")),
        }
    }
    for _ in 0..ATTEMPTS_MAX {
        let end = Body::Snapshot(SnapshotRequest::End { id, chunks });
        if let Ok(Answer::Snapshot(SnapshotAnswer::Done(vote))) =
            peer.ask(Lane::Bulk, end, CHUNK_TIME_MAX).await
        {
            return Ok(vote);
        }
        // The end or its answer was lost, or it still installs: the offer again tells which.
        let offer = SnapshotRequest::Offer(offer.clone());
        match peer.tell(offer, CHUNK_TIME_MAX).await? {
            SnapshotAnswer::Done(vote) => return Ok(vote),
            SnapshotAnswer::Next(next) if next == chunks => {}
            SnapshotAnswer::Next(_) => break,
        }
    }
    Err(peer.unreachable("it lacks a part of the snapshot"))
}

impl Peer {
    /// Sends a part of a snapshot until it is answered.
    async fn tell(
        &self,
        part: SnapshotRequest,
        deadline: Duration,
    ) -> Result<SnapshotAnswer, Unreachable<Types>> {
        let mut attempts = 1;
        loop {
            let asked = self.ask(Lane::Bulk, Body::Snapshot(part.clone()), deadline);
            match asked.await {
                Ok(Answer::Snapshot(answer)) => return Ok(answer),
                Ok(_) => return Err(self.unreachable("it answered something else")),
                Err(error) if attempts == ATTEMPTS_MAX => return Err(error),
                Err(_) => attempts += 1,
            }
            tokio::time::sleep(ATTEMPT_PAUSE).await;
        }
    }
}

/// The metadata of what is applied.
pub fn meta_of(applied: Applied, raft: &[u8]) -> std::io::Result<SnapshotMetaOf<Types>> {
    Ok(SnapshotMeta {
        last_log_id: Some(log_id(applied.term.0, applied.index.0)),
        last_membership: decoded(raft)?.members,
    })
}

impl Member {
    /// Takes a part of a snapshot of another replica. `None`: it can't be taken.
    pub async fn receive(
        &self,
        from: NodeId,
        part: SnapshotRequest,
        store: &dyn TableStore,
    ) -> Option<SnapshotAnswer> {
        let mut staging = self.staging.lock().await;
        match part {
            SnapshotRequest::Offer(offer) => self.offered(&mut staging, from, offer, store),
            SnapshotRequest::Chunk { id, number, bytes } => {
                let staged = staging.as_mut().filter(|s| s.is(from, id))?;
                if number == staged.next {
                    let key = number.to_be_bytes();
                    let kept = tokio::task::block_in_place(|| staged.chunks.put(&key, &bytes));
                    kept.ok()?;
                    staged.next += 1;
                }
                Some(SnapshotAnswer::Next(staged.next))
            }
            SnapshotRequest::End { id, chunks } => {
                let staged = staging.take_if(|s| s.is(from, id) && s.next == chunks)?;
                self.install(staged).await
            }
        }
    }

    fn offered(
        &self,
        staging: &mut Option<Staging>,
        from: NodeId,
        offer: Offer,
        store: &dyn TableStore,
    ) -> Option<SnapshotAnswer> {
        let vote = &offer.vote;
        if node_of(vote.leader_id.voted_for) != from || term_of(&offer.last) > vote.leader_id.term {
            return None;
        }
        let (applied, raft) = self.group.applied_log();
        if !raft.is_empty() && applied.index.0 >= offer.last.index {
            return Some(SnapshotAnswer::Done(offer.vote));
        }
        if let Some(staged) = staging
            .as_ref()
            .filter(|s| s.from == from && s.offer == offer)
        {
            return Some(SnapshotAnswer::Next(staged.next));
        }
        tracing::info!(group = %self.group.id(), %from, position = %offer.position, "a snapshot comes");
        *staging = None;
        *staging = Some(Staging {
            from,
            offer,
            chunks: store.scratch().ok()?,
            next: 0,
        });
        Some(SnapshotAnswer::Next(0))
    }

    /// Installs what has arrived, if it is whole.
    async fn install(&self, staging: Staging) -> Option<SnapshotAnswer> {
        let group = self.group.id();
        let vote = staging.offer.vote;
        let staged = Staged {
            applied: Applied {
                term: Term(term_of(&staging.offer.last)),
                index: Index(staging.offer.last.index),
                position: staging.offer.position,
            },
            meta: staging.offer.meta,
            chunks: staging.chunks,
            count: staging.next,
        };
        let checked = tokio::task::block_in_place(|| check(group, &staged));
        let meta = checked
            .inspect_err(|error| tracing::warn!(%group, %error, "refused a snapshot"))
            .ok()?;
        let snapshot = openraft::alias::SnapshotOf::<Types, Data> {
            meta,
            snapshot: Data::Staged(staged),
        };
        let installed = self.raft.install_full_snapshot(vote, snapshot).await;
        Some(SnapshotAnswer::Done(installed.ok()?.vote))
    }
}

impl Staging {
    fn is(&self, from: NodeId, id: u64) -> bool {
        self.from == from && self.offer.id == id
    }
}

/// Reads all of it before anything is changed.
fn check(group: GroupId, staged: &Staged) -> std::io::Result<SnapshotMetaOf<Types>> {
    let (applied, raft) = (staged.applied, staged.meta.clone());
    let checked = staged.read(|pieces| check_export(applied, &staged.meta, pieces));
    checked.map_err(std::io::Error::other)?;
    let checkpoint = GroupCheckpoint {
        group,
        applied,
        raft,
    };
    let raft = checkpoint.raft_state().map_err(std::io::Error::other)?;
    meta_of(applied, &raft)
}
