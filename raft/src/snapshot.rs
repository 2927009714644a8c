//! Snapshots: what a replica that has fallen behind the log gets instead of it. The sender reads
//! its tables as of one position and sends them in chunks, which the receiver keeps aside until
//! all are there; then they are installed in place of everything that it had.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use journal::{GroupId, Index, Term};
use openraft::SnapshotMeta;
use openraft::alias::{SnapshotMetaOf, SnapshotOf, VoteOf};
use openraft::errors::Unreachable;
use parking_lot::Mutex;
use storage::{Applied, Export, GroupCheckpoint, Scratch, TableStore, check_export};
use tokio::time::Instant;

use crate::EraseGroup;
use crate::codec::{Answer, Body, CHUNK_BYTES_MAX, Offer, SnapshotAnswer, SnapshotRequest};
use crate::machine::decoded;
use crate::network::Peer;
use crate::node::Member;
use crate::repair::Sending;
use crate::transport::{Lane, NodeId};
use crate::types::{ReplicaId, Types, log_id, node_of, term_of};

/// Snapshots that one node sends at the same time.
pub const SENT_MAX: usize = 2;
/// How long a chunk may take.
const CHUNK_TIME_MAX: Duration = Duration::from_secs(10);
/// A message is sent so often, with a pause in between: who is dead must not keep others waiting.
const ATTEMPTS_MAX: u32 = 6;
/// The first one, to who may have been dead for long.
const OFFERS_MAX: u32 = 2;
/// Between two questions whether a snapshot is installed.
const INSTALL_POLL: Duration = Duration::from_millis(100);
/// A snapshot of which nothing more comes for so long is given up: its sender is gone, and it holds
/// rows that may be removed by now.
const STAGED_IDLE_MAX: Duration = Duration::from_secs(120);
/// The log behind a snapshot is kept for so long until its receiver has caught up.
const HELD_TIME_MAX: Duration = Duration::from_secs(3600);
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
    /// When something came of it.
    heard: Instant,
}

/// Sends a snapshot. Gives the receiver's vote.
pub async fn send(
    peer: &Peer,
    vote: VoteOf<Types>,
    snapshot: SnapshotOf<Types, Data>,
) -> Result<VoteOf<Types>, Unreachable<Types>> {
    let (Some(last), Data::Export(export)) = (snapshot.meta.last_log_id, snapshot.snapshot) else {
        return Err(peer.unreachable("nothing can be sent now"));
    };
    let held = peer.begin_snapshot(last.index);
    let offer = Offer {
        id: held.id,
        vote,
        last,
        position: export.applied().position,
        meta: export.meta().clone(),
    };
    let offered = SnapshotRequest::Offer(offer.clone());
    let vote = match peer.tell(offered, OFFERS_MAX).await? {
        SnapshotAnswer::Done(vote) => vote,
        SnapshotAnswer::Next(begin) => {
            let permit = peer.may_send().await?;
            let mut repair = peer.begin_sending(export.meta());
            let sent = peer.send_chunks(offer.id, export, begin, &mut repair);
            let chunks = sent.await?;
            drop(permit);
            peer.await_installed(&offer, chunks).await?
        }
        // What is applied by then is the better snapshot.
        SnapshotAnswer::Installing => return Err(peer.unreachable("it installs another one")),
    };
    held.arrived();
    Ok(vote)
}

impl Peer {
    /// Sends all of a snapshot from a chunk on. Gives how many there are.
    async fn send_chunks(
        &self,
        id: u64,
        mut export: Box<Export>,
        begin: u32,
        repair: &mut Sending,
    ) -> Result<u32, Unreachable<Types>> {
        let mut chunks = 0;
        loop {
            let read = tokio::task::block_in_place(|| export.read(CHUNK_BYTES_MAX));
            let bytes = read.map_err(|e| Unreachable::new(&e))?;
            if bytes.is_empty() {
                return Ok(chunks);
            }
            let number = chunks;
            chunks += 1;
            if number < begin {
                repair.had(&bytes);
                continue;
            }
            let sent = bytes.clone();
            let chunk = SnapshotRequest::Chunk { id, number, bytes };
            match self.tell(chunk, ATTEMPTS_MAX).await? {
                SnapshotAnswer::Next(next) if next == chunks => repair.sent(&sent),
                _ => return Err(self.unreachable("it has lost the snapshot")),
            }
        }
    }

    /// Says that all was sent, and waits for as long as the other one says that it installs it.
    async fn await_installed(
        &self,
        offer: &Offer,
        chunks: u32,
    ) -> Result<VoteOf<Types>, Unreachable<Types>> {
        let lacking = || self.unreachable("it lacks a part of the snapshot");
        for _ in 0..ATTEMPTS_MAX {
            let id = offer.id;
            let end = Body::Snapshot(SnapshotRequest::End { id, chunks });
            if let Ok(Answer::Snapshot(SnapshotAnswer::Done(vote))) =
                self.ask(Lane::Bulk, end, CHUNK_TIME_MAX).await
            {
                return Ok(vote);
            }
            // The end or its answer was lost, or it still installs: the offer again tells which.
            loop {
                let offer = SnapshotRequest::Offer(offer.clone());
                match self.tell(offer, ATTEMPTS_MAX).await? {
                    SnapshotAnswer::Done(vote) => return Ok(vote),
                    SnapshotAnswer::Installing => tokio::time::sleep(INSTALL_POLL).await,
                    SnapshotAnswer::Next(next) if next == chunks => break,
                    SnapshotAnswer::Next(_) => return Err(lacking()),
                }
            }
        }
        Err(lacking())
    }

    /// Sends a part of a snapshot until it is answered, a few times.
    async fn tell(
        &self,
        part: SnapshotRequest,
        attempts: u32,
    ) -> Result<SnapshotAnswer, Unreachable<Types>> {
        let mut attempt = 1;
        loop {
            let asked = self.ask(Lane::Bulk, Body::Snapshot(part.clone()), CHUNK_TIME_MAX);
            match asked.await {
                Ok(Answer::Snapshot(answer)) => return Ok(answer),
                Ok(_) => return Err(self.unreachable("it answered something else")),
                Err(error) if attempt == attempts => return Err(error),
                Err(_) => attempt += 1,
            }
            tokio::time::sleep(ATTEMPT_PAUSE).await;
        }
    }
}

/// The snapshots of a group that this replica sends or has sent: the log behind each is kept until
/// its receiver goes on with it like any other, or the next snapshot would be due before this one
/// is installed, for ever.
#[derive(Default)]
pub struct UnderWay(Mutex<BTreeMap<ReplicaId, Sent>>);

/// A snapshot that is under way.
struct Sent {
    id: u64,
    last: u64,
    begun: Instant,
    /// The receiver has it, and needs what comes behind it.
    arrived: bool,
}

/// Notes that a snapshot is under way until it is dropped.
pub struct Held<'a> {
    all: &'a UnderWay,
    id: u64,
    to: ReplicaId,
    arrived: bool,
}

impl Held<'_> {
    /// The receiver has it.
    fn arrived(mut self) {
        self.arrived = true;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        // Another one to the same replica may have begun meanwhile.
        let mine = all.get_mut(&self.to).filter(|sent| sent.id == self.id);
        match mine {
            Some(sent) if self.arrived => sent.arrived = true,
            // It was given up: the next one begins with what is applied then.
            Some(_) => drop(all.remove(&self.to)),
            None => {}
        }
    }
}

impl UnderWay {
    /// Notes a snapshot up to an index.
    pub fn begin(&self, to: ReplicaId, last: u64) -> Held<'_> {
        let id = SENT.fetch_add(1, Ordering::Relaxed);
        let sent = Sent {
            id,
            last,
            begun: Instant::now(),
            arrived: false,
        };
        self.0.lock().insert(to, sent);
        Held {
            all: self,
            id,
            to,
            arrived: false,
        }
    }

    /// The last index that none of the receivers needs; `None` if there are none. `matched` says how
    /// far a replica has come, `None` of one that is none any more; who has come beyond `far`
    /// needs nothing more than others do.
    pub fn needed(&self, far: u64, matched: impl Fn(ReplicaId) -> Option<u64>) -> Option<u64> {
        let mut all = self.0.lock();
        all.retain(|to, sent| {
            let caught_up = match matched(*to) {
                Some(matched) => matched >= sent.last.max(far),
                None => true,
            };
            sent.begun.elapsed() < HELD_TIME_MAX && !(sent.arrived && caught_up)
        });
        let needed = |(to, sent): (&ReplicaId, &Sent)| match matched(*to) {
            Some(matched) if sent.arrived => matched.max(sent.last),
            _ => sent.last,
        };
        all.iter().map(needed).min()
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
        if let Some(staged) = staging.as_mut() {
            staged.heard = Instant::now();
        }
        if self.installing.load(Ordering::Acquire) {
            let offered = matches!(part, SnapshotRequest::Offer(_));
            return offered.then_some(SnapshotAnswer::Installing);
        }
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
                // Who asks meanwhile is told so.
                let _installing = Installing::begin(&self.installing);
                drop(staging);
                self.install(staged).await
            }
        }
    }

    /// Gives up a snapshot that no longer comes.
    pub fn give_up_idle(&self) {
        // Who holds it has just heard of it.
        if let Ok(mut staging) = self.staging.try_lock() {
            staging.take_if(|staged| staged.heard.elapsed() >= STAGED_IDLE_MAX);
        }
    }

    /// Does half a snapshot lie here from before what is to be erased? It has rows that were removed
    /// later, and when it is installed the removals come behind it. When their time is over it is
    /// given up: the sender begins anew.
    pub async fn stages(&self, wanted: &EraseGroup) -> bool {
        let mut staging = self.staging.lock().await;
        let before = |staged: &Staging| staged.offer.position < wanted.upto;
        if wanted.overdue {
            staging.take_if(|staged| before(staged));
        }
        self.installing.load(Ordering::Acquire) || staging.as_ref().is_some_and(before)
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
            heard: Instant::now(),
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

/// Says that a snapshot is being installed until it is dropped.
struct Installing<'a>(&'a AtomicBool);

impl Installing<'_> {
    fn begin(installing: &AtomicBool) -> Installing<'_> {
        installing.store(true, Ordering::Release);
        Installing(installing)
    }
}

impl Drop for Installing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
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
