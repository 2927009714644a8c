//! What a node does from time to time: checkpoints of all tables, and the release of what the
//! journal need not keep.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use journal::{GroupId, Index, Journal, Position};
use openraft::metrics::WaitError;
use storage::{Durable, TableStore};

use crate::leadership::IN_DOUBT_MAX;
use crate::members::ReplicaStatus;
use crate::node::{LAG_BYTES_MAX, Member, Node};
use crate::types::ReplicaId;
use crate::{Error, Result};

/// A checkpoint that stands for the log takes effect in Raft by then.
pub(crate) const PURGE_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of the journal that are kept for replicas that get a snapshot: so much may be written
/// while one is sent, installed, and caught up with.
const HELD_BYTES_MAX: u64 = 8 * LAG_BYTES_MAX;
/// Between two looks at what is to be done.
const LOOK: Duration = Duration::from_millis(200);
/// Between two looks at whether a record is on disk.
pub(crate) const DISK_POLL: Duration = Duration::from_millis(1);

impl Node {
    /// Writes a checkpoint of all tables, then lets the journal go as far as it need not be
    /// kept: for Raft up to the checkpoint, for the feed up to its retention.
    pub fn checkpoint(&self) -> BoxFuture<'_, Result<()>> {
        self.checkpoint_all().boxed()
    }

    async fn checkpoint_all(&self) -> Result<()> {
        let _one = self.upkeep.lock().await;
        let (groups, journal) = (self.groups.clone(), self.journal.clone());
        let begun = tokio::time::Instant::now();
        let written = tokio::task::spawn_blocking(move || groups.checkpoint(&OnDisk(journal)));
        written.await.map_err(|e| Error::Task(e.to_string()))??;
        self.note_checkpoint(begun.elapsed());
        self.purge().await?;
        self.release().await
    }

    /// Tells each group's Raft that the checkpoint stands for the log below it.
    async fn purge(&self) -> Result<()> {
        for checkpoint in self.groups.store().checkpoint() {
            let id = checkpoint.group;
            let alive = |member: &Arc<Member>| !member.ending.load(Ordering::Acquire);
            let Some(member) = self.member(id).filter(alive) else {
                continue;
            };
            let Some(upto) = self.purge_upto(&member, checkpoint.applied.index) else {
                continue;
            };
            match purge_one(&member, upto).await {
                // A replica that has ended meanwhile needs nothing.
                Err(_) if !alive(&member) => {}
                done => done?,
            }
        }
        Ok(())
    }

    /// How far a group's log may be purged; `None` if that is nothing new.
    pub(crate) fn purge_upto(&self, member: &Member, checkpointed: Index) -> Option<Index> {
        let needed = Index(self.needed_by_others(member));
        self.purge_most(member, checkpointed.min(needed))
    }

    /// The same, whatever others need of it.
    pub(crate) fn purge_most(&self, member: &Member, checkpointed: Index) -> Option<Index> {
        // The parts of a large transaction in progress are read back when it commits.
        let parts = member
            .group
            .parts_floor()
            .map_or(u64::MAX, |floor| floor.0.saturating_sub(1));
        let upto = checkpointed.0.min(parts);
        // At index 0 the checkpoint may hold nothing yet.
        let new = upto > 0 && self.purged(member.group.id()) < Some(Index(upto));
        new.then_some(Index(upto))
    }

    /// Raft's log of a group begins behind it.
    pub(crate) fn purged(&self, id: GroupId) -> Option<Index> {
        self.journal.state(id).purged.map(|(_, index)| index)
    }

    /// The last index that no other replica needs: what all have, or what lies so far back that
    /// who lacks it gets a snapshot. Of a group that another node leads only the latter is known.
    /// Who gets a snapshot needs what comes behind it.
    fn needed_by_others(&self, member: &Member) -> u64 {
        if member.group.is_sole() {
            return u64::MAX;
        }
        let replicas = self.replicas(member.group.id());
        let others = replicas.iter().filter(|r| r.replica != member.me);
        let matched = |r: &ReplicaStatus| r.matched.map_or(0, |matched| matched.0);
        let slowest = others.map(matched).min();
        let lag_bytes = self.lag_bytes.load(Ordering::Relaxed);
        let far = self.far(member.group.id(), lag_bytes);
        let needed = slowest.unwrap_or_default().max(far);
        let leads = member.group.term().is_some();
        let receiver = |id: ReplicaId| {
            let mut replicas = replicas.iter().filter(|_| leads);
            replicas.find(|r| r.replica == id).map(matched)
        };
        match member.under_way.needed(far, receiver) {
            Some(held) => {
                let too_far = self.far(member.group.id(), lag_bytes.max(HELD_BYTES_MAX));
                needed.min(held.max(too_far))
            }
            None => needed,
        }
    }

    /// The last index of a group that lies back by more than these bytes of the journal.
    fn far(&self, id: GroupId, bytes: u64) -> u64 {
        let mut far = self.journal.beyond(bytes).into_iter();
        let below = far.find(|(group, _)| *group == id);
        below.map_or(0, |(_, below)| below.0.saturating_sub(1))
    }

    /// Says how many bytes of the journal are kept for replicas that lag. One that lags more
    /// gets a snapshot.
    pub fn keep_for_lagging(&self, bytes: u64) {
        self.lag_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Lets segments go that neither Raft nor the feed's retention needs.
    async fn release(&self) -> Result<()> {
        let now = self.groups.clock().unix_micros();
        let oldest = now.saturating_sub(self.options.retain_time.as_micros() as u64);
        let horizon = now.saturating_sub(self.options.horizon.as_micros() as u64);
        let (groups, journal) = (self.groups.clone(), self.journal.clone());
        let retain_bytes = self.options.retain_bytes;
        let released = tokio::task::spawn_blocking(move || {
            for group in groups.all() {
                group.raise_horizon(Position::from_unix_micros(horizon))?;
            }
            release_by_time(&journal, Position::from_unix_micros(oldest))?;
            release_by_size(&journal, retain_bytes)
        });
        released.await.map_err(|e| Error::Task(e.to_string()))?
    }

    /// A leader that no quorum answers, and that hears of no other, can't say either what becomes
    /// of what it has proposed.
    fn doubt_without_quorum(&self) {
        for member in self.members() {
            let alone = member.without_quorum_for();
            if alone.is_some_and(|time| time > IN_DOUBT_MAX) {
                member.group.give_up();
            }
        }
    }

    fn give_up_idle_snapshots(&self) {
        self.members()
            .iter()
            .for_each(|member| member.give_up_idle());
    }

    /// Checkpoints for ever: when the time has come or memory asks for it.
    pub fn keep(self: Arc<Self>) -> BoxFuture<'static, Result<()>> {
        async move {
            // Who is in doubt does not wait for a checkpoint, which waits for a snapshot.
            let doubting = async {
                loop {
                    tokio::time::sleep(LOOK).await;
                    self.doubt_without_quorum();
                    self.give_up_idle_snapshots();
                }
            };
            tokio::select! {
                () = doubting => Ok(()),
                failed = self.checkpoint_in_turn() => failed,
            }
        }
        .boxed()
    }

    async fn checkpoint_in_turn(&self) -> Result<()> {
        let mut begun = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(LOOK).await;
            let store: &Arc<dyn TableStore> = self.groups.store();
            let full = store.memory() >= self.options.checkpoint_bytes;
            if full || begun.elapsed() >= self.options.checkpoint_timeout {
                self.checkpoint().await?;
                begun = tokio::time::Instant::now();
            }
        }
    }
}

/// Tells a group's Raft that a checkpoint stands for the log up to an index.
pub(crate) async fn purge_one(member: &Member, upto: Index) -> Result<()> {
    let raft = &member.raft;
    let asked = raft.trigger().snapshot().await;
    asked.map_err(|e| member.failed(e))?;
    let waiting = raft.wait(Some(PURGE_TIME_MAX));
    let seen = waiting.metrics(
        |m| m.snapshot.as_ref().is_some_and(|s| s.index >= upto.0),
        "the checkpoint stands for the log",
    );
    match seen.await {
        Ok(_) => {}
        Err(WaitError::Timeout(_, _)) => {
            // It installs a snapshot, for instance: the next checkpoint comes.
            tracing::warn!(group = %member.group.id(), "the log is not purged this time");
            return Ok(());
        }
        Err(WaitError::ShuttingDown) => return Err(member.failed("Raft has ended")),
    }
    let asked = raft.trigger().purge_log(upto.0).await;
    asked.map_err(|e| member.failed(e))
}

/// The record before the first one that retention asks for stays, too: it says up to which
/// position nothing is missing.
fn release_by_time(journal: &Journal, oldest: Position) -> Result<()> {
    for id in journal.groups() {
        let keep = match journal.seek(id, oldest)? {
            Some(index) => index,
            None => match journal.state(id).last {
                Some((_, index, _)) => index,
                None => continue,
            },
        };
        journal.release(id, Index(keep.0.saturating_sub(1)))?;
    }
    Ok(())
}

fn release_by_size(journal: &Journal, retain_bytes: u64) -> Result<()> {
    for (id, below) in journal.beyond(retain_bytes) {
        journal.release(id, below)?;
    }
    Ok(())
}

/// A checkpoint waits until this node's journal has on disk what the tables contain.
pub struct OnDisk(pub Journal);

impl Durable for OnDisk {
    fn wait(&self, group: GroupId, index: Index) -> storage::Result<()> {
        // Of one voter this is true at once; of several, a leader may be ahead of its disk by one
        // fsync: the others have it. A log that ends before it was cut, for the replica ends here:
        // its tables go next, and wait for this checkpoint.
        loop {
            let state = self.0.state(group);
            let cut = state.last.is_none_or(|(_, last, _)| last < index);
            if cut || state.durable >= Some(index) {
                return Ok(());
            }
            std::thread::sleep(DISK_POLL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use journal::{Kind, MemoryDisk, Options, Payload, Record, Term};

    use super::*;

    #[test]
    fn a_checkpoint_waits_for_no_log_that_was_cut() {
        let disk = Arc::new(MemoryDisk::default());
        let journal = Journal::open(disk, "/journal".as_ref(), Options::default()).unwrap();
        let group = GroupId(1);
        let entry = |index: u64| Record {
            group,
            kind: Kind::Entry,
            term: Term(1),
            index: Index(index),
            position: Position(index),
            payload: Payload::of(b"entry"),
        };
        journal.append_wait((0..3).map(entry).collect()).unwrap();
        let (told, hears) = channel();
        let wait = |journal: &Journal| {
            let (disk, told) = (OnDisk(journal.clone()), told.clone());
            std::thread::spawn(move || told.send(disk.wait(group, Index(2)).is_ok()));
            hears.recv_timeout(Duration::from_secs(20))
        };
        assert_eq!(wait(&journal), Ok(true), "it is on the disk");
        // The replica ends, and its tables are still there.
        journal
            .append_wait(vec![Record::truncate(group, Index(0))])
            .unwrap();
        assert_eq!(wait(&journal), Ok(true), "nothing more comes");
    }
}
