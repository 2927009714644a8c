//! All groups of this node: opening them from the journal, making new ones, checkpoints, and
//! the release of what the journal need not keep.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use journal::{GroupId, Index, Journal, Position};
use openraft::{Config, Raft, SnapshotPolicy};
use parking_lot::RwLock;
use storage::{Durable, Group, Groups, Proposal, Propose, TableStore};
use tokio::runtime::Handle;

use crate::log::GroupLog;
use crate::machine::{Leadership, Machine};
use crate::network::NoNetwork;
use crate::types::{ReplicaId, Types};
use crate::writer::{self, Inbox};
use crate::{Error, Result};

/// This node's replica of every group: node 1, first join.
const REPLICA: ReplicaId = 1 << 32;
/// A replica that has not led its group by then after it alone was asked to never will.
const LEAD_TIME_MAX: Duration = Duration::from_secs(60);
/// Between two looks at whether a group leads.
const LEAD_POLL: Duration = Duration::from_millis(1);

/// How a node keeps its groups.
#[derive(Clone, Debug)]
pub struct Options {
    /// A checkpoint at the latest after this time.
    pub checkpoint_timeout: Duration,
    /// A checkpoint as soon as the table store holds this much in memory, in bytes.
    pub checkpoint_bytes: u64,
    /// Entries stay readable for this long.
    pub retain_time: Duration,
    /// The journal's segments take at most this much, in bytes, as far as checkpoints allow.
    pub retain_bytes: u64,
    /// Old versions of rows stay readable for this long.
    pub horizon: Duration,
}

/// The node's groups over its one journal.
pub struct Node {
    journal: Journal,
    groups: Arc<Groups>,
    options: Options,
    runtime: Handle,
    members: RwLock<BTreeMap<GroupId, Member>>,
    inboxes: Arc<Inboxes>,
    /// Nothing in the journal lay beyond it at open.
    floor: Position,
    /// Held by who makes a group or a checkpoint: one at a time.
    upkeep: tokio::sync::Mutex<()>,
}

/// One group's Raft.
struct Member {
    raft: Raft<Types, Machine>,
    _leadership: openraft::WatchChangeHandle<Types>,
}

/// What is awaited elsewhere is boxed here: the compiler makes the body of an `async fn` anew in the
/// crate that awaits it, and ours have all of openraft in them.
impl Node {
    /// A node over its journal; proposals of `groups` come here from now on. Raft runs on the
    /// given runtime, which nothing else should keep busy: a late tick costs a leadership.
    pub fn new(
        journal: Journal,
        groups: Arc<Groups>,
        options: Options,
        runtime: Handle,
    ) -> Arc<Node> {
        let known = journal.groups().into_iter();
        let floor = known
            .map(|id| journal.state(id).greatest)
            .max()
            .unwrap_or_default();
        let node = Arc::new(Node {
            journal,
            groups,
            options,
            runtime,
            members: RwLock::default(),
            inboxes: Arc::default(),
            floor,
            upkeep: tokio::sync::Mutex::default(),
        });
        node.groups.attach(node.propose());
        node
    }

    /// Opens every group that the journal holds, and the directory. Returns when this node leads
    /// them all and their tables contain everything that was committed. Observers are attached
    /// to the groups before.
    pub fn open(self: &Arc<Self>) -> BoxFuture<'_, Result<()>> {
        self.open_all().boxed()
    }

    async fn open_all(self: &Arc<Self>) -> Result<()> {
        let mut ids: BTreeSet<GroupId> = self.journal.groups().into_iter().collect();
        ids.insert(GroupId::DIRECTORY);
        let node = self.clone();
        let opening = self.runtime.spawn(async move {
            let mut opened = Vec::new();
            for id in ids {
                opened.push(node.open_group(id, node.floor).await?);
            }
            for group in opened {
                lead(&group).await?;
            }
            Ok(())
        });
        opening.await.map_err(|e| Error::Task(e.to_string()))?
    }

    /// The way from storage and SQL into the log.
    pub fn propose(self: &Arc<Self>) -> Arc<dyn Propose> {
        Arc::new(Way {
            inboxes: self.inboxes.clone(),
            node: Arc::downgrade(self),
        })
    }

    /// The groups as the rest of the program sees them.
    pub fn groups(&self) -> &Arc<Groups> {
        &self.groups
    }

    /// Opens a group's Raft and asks for its leadership; does not wait for it.
    async fn open_group(&self, id: GroupId, floor: Position) -> Result<Arc<Group>> {
        let group = self.groups.open(id)?;
        let leadership = Arc::new(Leadership::new(group.clone(), self.groups.clone(), floor));
        let log = GroupLog::new(id, self.journal.clone());
        let store = self.groups.store().clone();
        let machine = Machine::new(
            group.clone(),
            store,
            self.journal.clone(),
            leadership.clone(),
        )?;
        let raft = Raft::build(REPLICA, config()?, NoNetwork, log, machine)
            .await
            .map_err(|fatal| Error::Raft(id, fatal.to_string()))?;
        let (elected, deposed) = (leadership.clone(), leadership);
        let watch = raft.on_leader_change(
            move |leader| {
                elected.elected(leader.term);
                async {}
            },
            move |_| {
                deposed.deposed();
                async {}
            },
        );
        raft.run();
        let failed = |e: String| Error::Raft(id, e);
        if raft
            .is_initialized()
            .await
            .map_err(|e| failed(e.to_string()))?
        {
            raft.trigger()
                .elect(false)
                .await
                .map_err(|e| failed(e.to_string()))?;
        } else {
            let voters = BTreeMap::from([(REPLICA, ())]);
            raft.initialize(voters)
                .await
                .map_err(|e| failed(e.to_string()))?;
        }
        // One voter needs no clock: nobody else can lead, and an idle group costs nothing.
        raft.runtime_config().tick(false);
        let inbox = writer::start(group.clone(), raft.clone());
        self.inboxes.0.write().insert(id, inbox);
        let member = Member {
            raft,
            _leadership: watch,
        };
        self.members.write().insert(id, member);
        Ok(group)
    }

    /// Makes a group whose positions begin above `above`, and leads it.
    pub async fn make(&self, id: GroupId, above: Position) -> Result<()> {
        let _one = self.upkeep.lock().await;
        if !self.members.read().contains_key(&id) {
            let group = self.open_group(id, self.floor.max(above)).await?;
            lead(&group).await?;
        }
        Ok(())
    }

    /// Writes a checkpoint of all tables, then lets the journal go as far as it need not be
    /// kept: for Raft up to the checkpoint, for the feed up to its retention.
    pub fn checkpoint(&self) -> BoxFuture<'_, Result<()>> {
        self.checkpoint_all().boxed()
    }

    async fn checkpoint_all(&self) -> Result<()> {
        let _one = self.upkeep.lock().await;
        let (groups, journal) = (self.groups.clone(), self.journal.clone());
        let written = tokio::task::spawn_blocking(move || groups.checkpoint(&OnDisk(journal)));
        written.await.map_err(|e| Error::Task(e.to_string()))??;
        self.purge().await?;
        self.release().await
    }

    /// Tells each group's Raft that the checkpoint stands for the log below it.
    async fn purge(&self) -> Result<()> {
        for checkpoint in self.groups.store().checkpoint() {
            let id = checkpoint.group;
            let raft = self
                .members
                .read()
                .get(&id)
                .map(|member| member.raft.clone());
            let Some(raft) = raft else { continue };
            let failed = |e: openraft::errors::Fatal<Types>| Error::Raft(id, e.to_string());
            let upto = self.purge_upto(id, checkpoint.applied.index);
            let Some(upto) = upto else { continue };
            raft.trigger().snapshot().await.map_err(failed)?;
            let waiting = raft.wait(Some(LEAD_TIME_MAX));
            let seen = waiting.metrics(
                |m| m.snapshot.as_ref().is_some_and(|s| s.index >= upto.0),
                "the checkpoint stands for the log",
            );
            seen.await.map_err(|e| Error::Raft(id, e.to_string()))?;
            raft.trigger().purge_log(upto.0).await.map_err(failed)?;
        }
        Ok(())
    }

    /// How far a group's log may be purged; `None` if that is nothing new.
    fn purge_upto(&self, id: GroupId, checkpointed: Index) -> Option<Index> {
        let group = self.groups.get(id)?;
        // The parts of a large transaction in progress are read back when it commits.
        let parts = group
            .parts_floor()
            .map_or(u64::MAX, |floor| floor.0.saturating_sub(1));
        let upto = Index(checkpointed.0.min(parts));
        let purged = self.journal.state(id).purged.map(|(_, index)| index);
        (purged < Some(upto)).then_some(upto)
    }

    /// Lets segments go that neither Raft nor the feed's retention needs.
    async fn release(&self) -> Result<()> {
        let now = self.groups.clock().unix_micros();
        let oldest = now.saturating_sub(self.options.retain_time.as_micros() as u64);
        let horizon = now.saturating_sub(self.options.horizon.as_micros() as u64);
        for group in self.groups.all() {
            group.raise_horizon(Position::from_unix_micros(horizon))?;
        }
        let (journal, retain_bytes) = (self.journal.clone(), self.options.retain_bytes);
        let released = tokio::task::spawn_blocking(move || {
            release_by_time(&journal, Position::from_unix_micros(oldest))?;
            release_by_size(&journal, retain_bytes)
        });
        released.await.map_err(|e| Error::Task(e.to_string()))?
    }

    /// Checkpoints for ever: when the time has come or memory asks for it.
    pub fn keep(self: Arc<Self>) -> BoxFuture<'static, Result<()>> {
        self.checkpoint_in_turn().boxed()
    }

    async fn checkpoint_in_turn(self: Arc<Self>) -> Result<()> {
        const LOOK: Duration = Duration::from_millis(200);
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

    /// Ends Raft of every group; the journal is the caller's to close.
    pub fn shutdown(&self) -> BoxFuture<'_, ()> {
        self.shutdown_all().boxed()
    }

    async fn shutdown_all(&self) {
        let members = std::mem::take(&mut *self.members.write());
        self.inboxes.0.write().clear();
        for (id, member) in members {
            if let Err(error) = member.raft.shutdown().await {
                tracing::warn!(group = %id, %error, "Raft did not end in order");
            }
        }
    }

    /// A line per group for the views: number, term, whether this node leads it.
    pub fn status(&self) -> Vec<GroupStatus> {
        let members = self.members.read();
        let status = |(id, _): (&GroupId, &Member)| {
            let group = self.groups.get(*id)?;
            let state = self.journal.state(*id);
            Some(GroupStatus {
                group: *id,
                term: group.term().map_or(0, |term| term.0),
                applied: group.applied(),
                last_index: state.last.map_or(Index(0), |(_, index, _)| index),
                durable: state.durable.unwrap_or_default(),
                oldest: state
                    .oldest
                    .map_or(Position::ZERO, |(_, position)| position),
            })
        };
        members.iter().filter_map(status).collect()
    }
}

/// What a view shows of a group.
#[derive(Clone, Copy, Debug)]
pub struct GroupStatus {
    /// The group.
    pub group: GroupId,
    /// The term in which this node leads it; 0 if it does not.
    pub term: u64,
    /// The applied position.
    pub applied: Position,
    /// The last index of the log.
    pub last_index: Index,
    /// The last index on disk.
    pub durable: Index,
    /// The oldest position that can be read.
    pub oldest: Position,
}

/// Waits until this node leads the group and its tables are complete.
async fn lead(group: &Group) -> Result<()> {
    let begun = tokio::time::Instant::now();
    while !(group.term().is_some() && group.ready()) {
        if begun.elapsed() > LEAD_TIME_MAX && group.term().is_none() {
            return Err(Error::Raft(group.id(), "no leader".into()));
        }
        tokio::time::sleep(LEAD_POLL).await;
    }
    Ok(())
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
struct OnDisk(Journal);

impl Durable for OnDisk {
    fn wait(&self, group: GroupId, index: Index) -> storage::Result<()> {
        // One voter applies only what its own journal has on disk, so this is true at once; with
        // more of them a leader may be ahead of its disk by one fsync.
        while self.0.state(group).durable < Some(index) {
            std::thread::sleep(LEAD_POLL);
        }
        Ok(())
    }
}

/// The writer tasks of all groups.
#[derive(Default)]
struct Inboxes(RwLock<BTreeMap<GroupId, Inbox>>);

/// The way from storage into the log. It does not keep the node alive, which keeps storage.
struct Way {
    inboxes: Arc<Inboxes>,
    node: Weak<Node>,
}

impl Propose for Way {
    fn propose(&self, group: GroupId, proposal: Proposal) {
        let (what, txid) = (proposal.what, proposal.txid);
        let sent = match self.inboxes.0.read().get(&group) {
            Some(inbox) => inbox.send(proposal).is_ok(),
            None => false,
        };
        if !sent {
            // Whoever waits for it is told when the group steps down.
            tracing::warn!(%group, %txid, ?what, "proposed while the group is ending");
        }
    }

    fn create(
        &self,
        group: GroupId,
        above: Position,
        done: Box<dyn FnOnce(storage::Result<()>) + Send>,
    ) {
        let Some(node) = self.node.upgrade() else {
            return done(Err(storage::Error::Store("the node is ending".into())));
        };
        node.runtime.clone().spawn(async move {
            let made = node.make(group, above).await;
            done(made.map_err(|e| storage::Error::Store(e.to_string())));
        });
    }
}

/// Raft's times and limits. Snapshots are taken by [`Node::checkpoint`] only.
fn config() -> Result<Arc<Config>> {
    let config = Config {
        cluster_name: "freehold".into(),
        heartbeat_interval: 200,
        election_timeout_min: 500,
        election_timeout_max: 1000,
        heartbeat_min_interval: Some(100),
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        allow_log_reversion: Some(false),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX >> 1,
        purge_batch_size: 1024,
        max_payload_entries: 1024,
        install_snapshot_timeout: 600_000,
        ..Config::default()
    };
    Ok(Arc::new(
        config
            .validate()
            .map_err(|e| Error::Config(e.to_string()))?,
    ))
}
