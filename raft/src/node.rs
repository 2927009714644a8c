//! All groups of this node: opening them from the journal, making new ones, and the way from
//! storage into their logs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use journal::{GroupId, Index, Journal, Position};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use openraft::{Config, Raft, ServerState, SnapshotPolicy};
use parking_lot::{Mutex, RwLock};
use storage::{Group, Groups, Proposal, Propose};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::barrier::Barrier;
use crate::codec::{Answer, Body, Request};
use crate::leadership::Leadership;
use crate::log::{GroupLog, keeps_votes};
use crate::machine::Machine;
use crate::network::Network;
use crate::quiet::{Activity, QUIET_AFTER};
use crate::repair::Repairs;
use crate::snapshot::{SENT_MAX, Staging, UnderWay};
use crate::status::{Checkpoints, Rounds};
use crate::transport::{Lane, NodeId, PAYLOAD_BYTES_MAX, Transport};
use crate::types::{Ballot, FIRST_JOIN, ReplicaId, Types, decode_ballot, node_of, replica};
use crate::upkeep::OnDisk;
use crate::writer::{self, Inbox, Waiting};
use crate::{Error, Result};

/// A replica that has not led its group by then after it was asked to will not soon.
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

/// How long the request to close a group may take.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(1);

/// Bytes of the journal that are kept for replicas that lag, unless it is said otherwise.
pub(crate) const LAG_BYTES_MAX: u64 = 128 << 20;

/// Says where the voters of a new group are, once that is known; nobody: not here.
pub type Placement = Arc<dyn Fn(GroupId) -> BoxFuture<'static, Vec<NodeId>> + Send + Sync>;

/// The node's groups over its one journal.
pub struct Node {
    pub(crate) journal: Journal,
    pub(crate) groups: Arc<Groups>,
    pub(crate) options: Options,
    pub(crate) runtime: Handle,
    pub(crate) me: NodeId,
    transport: Arc<dyn Transport>,
    members: RwLock<BTreeMap<GroupId, Arc<Member>>>,
    inboxes: Arc<Inboxes>,
    placement: RwLock<Placement>,
    /// Bytes of the journal that are kept for replicas that lag.
    pub(crate) lag_bytes: AtomicU64,
    /// Permits to send a snapshot.
    sending: Arc<Semaphore>,
    /// How far those are that are sent.
    pub(crate) repairs: Arc<Repairs>,
    /// Nothing in the journal lay beyond it at open.
    floor: Position,
    /// How far each group's log reached then, or its tables did.
    ends: BTreeMap<GroupId, Index>,
    /// Counts the changes of leadership that this node has seen.
    changes: Arc<watch::Sender<u64>>,
    /// Held by who opens or closes a replica: one at a time.
    pub(crate) opening: tokio::sync::Mutex<()>,
    /// Held by who makes a checkpoint: one at a time.
    pub(crate) upkeep: tokio::sync::Mutex<()>,
    /// The checkpoints since the start.
    pub(crate) checkpoints: Mutex<Checkpoints>,
    /// The rounds of the eraser since the start.
    pub(crate) rounds: Mutex<Rounds>,
    /// When other nodes were last heard of.
    pub(crate) heard: Mutex<BTreeMap<NodeId, tokio::time::Instant>>,
    /// A group in which nothing happens for so long may be quiet.
    pub(crate) quiet_after: Mutex<Duration>,
    /// Where replicas are named that others say were removed.
    removed: mpsc::UnboundedSender<(GroupId, ReplicaId)>,
    removals: Mutex<Option<mpsc::UnboundedReceiver<(GroupId, ReplicaId)>>>,
    /// This node stands for no election.
    pub(crate) abstains: AtomicBool,
}

/// This node's replica of one group.
pub(crate) struct Member {
    pub raft: Raft<Types, Machine>,
    pub group: Arc<Group>,
    pub me: ReplicaId,
    pub barrier: Barrier,
    /// Held by who changes the voters: one change at a time.
    pub change: tokio::sync::Mutex<()>,
    /// A snapshot that is arriving.
    pub staging: tokio::sync::Mutex<Option<Staging>>,
    /// One that has arrived is being installed.
    pub installing: AtomicBool,
    /// Those that this replica sends.
    pub under_way: Arc<UnderWay>,
    /// An election against a suspect is under way.
    pub electing: AtomicBool,
    /// When the leader was last heard of, if that is another node.
    pub heard: Mutex<Option<tokio::time::Instant>>,
    /// What happens, and the clock that it needs.
    pub activity: Arc<Activity>,
    /// It leads, hears no quorum, and sends no heartbeats.
    pub silent: AtomicBool,
    /// The replica was removed, and all of it goes.
    pub ending: AtomicBool,
    watcher: JoinHandle<()>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl Member {
    /// Which node leads, as far as this one knows.
    pub fn leader(&self) -> Option<NodeId> {
        let metrics = self.raft.server_metrics();
        let leader = metrics.borrow_watched().current_leader;
        leader.map(node_of)
    }

    /// The replica that leads, if that is another one.
    pub fn other_replica(&self) -> Option<ReplicaId> {
        let metrics = self.raft.server_metrics();
        let leader = metrics.borrow_watched().current_leader;
        leader.filter(|leader| *leader != self.me)
    }

    /// An error of this group's Raft.
    pub fn failed(&self, error: impl std::fmt::Display) -> Error {
        Error::Raft(self.group.id(), error.to_string())
    }

    /// Waits until this node leads the group and its tables are complete.
    async fn lead(&self) -> Result<()> {
        let begun = tokio::time::Instant::now();
        let me = node_of(self.me);
        while !(self.group.term().is_some() && self.group.ready()) {
            match self.leader() {
                Some(other) if other != me => return Err(Error::NotLeader(Some(other))),
                _ if begun.elapsed() > LEAD_TIME_MAX && self.group.term().is_none() => {
                    return Err(Error::Timeout(self.group.id(), "the first election"));
                }
                _ => tokio::time::sleep(LEAD_POLL).await,
            }
        }
        Ok(())
    }
}

/// What is awaited elsewhere is boxed here: the compiler makes the body of an `async fn` anew in the
/// crate that awaits it, and ours have all of openraft in them.
impl Node {
    /// A node over its journal; proposals of `groups` come here from now on. Raft runs on the
    /// given runtime, which nothing else should keep busy: a late tick costs a leadership. `me`
    /// is this node's number, other nodes are reached through `transport`.
    pub fn new(
        journal: Journal,
        groups: Arc<Groups>,
        options: Options,
        runtime: Handle,
        me: NodeId,
        transport: Arc<dyn Transport>,
    ) -> Arc<Node> {
        let known = journal.groups().into_iter();
        let floor = known
            .map(|id| journal.state(id).greatest)
            .max()
            .unwrap_or_default();
        let (removed, removals) = mpsc::unbounded_channel();
        let ends = ends_of(&journal, &groups);
        let started = groups.clock().unix_micros();
        let node = Arc::new(Node {
            journal,
            groups,
            options,
            runtime,
            me,
            transport,
            members: RwLock::default(),
            inboxes: Arc::default(),
            placement: RwLock::new(Arc::new(move |_| ready(vec![me]).boxed())),
            sending: Arc::new(Semaphore::new(SENT_MAX)),
            repairs: Arc::default(),
            lag_bytes: AtomicU64::new(LAG_BYTES_MAX),
            floor,
            ends,
            changes: Arc::new(watch::channel(0).0),
            opening: tokio::sync::Mutex::default(),
            upkeep: tokio::sync::Mutex::default(),
            heard: Mutex::default(),
            quiet_after: Mutex::new(QUIET_AFTER),
            removed,
            removals: Mutex::new(Some(removals)),
            checkpoints: Mutex::new(Checkpoints {
                last: started,
                ..Checkpoints::default()
            }),
            rounds: Mutex::default(),
            abstains: false.into(),
        });
        node.groups.attach(node.propose());
        node
    }

    /// Says where the voters of groups are that are made from now on by those who write. Until it
    /// is said: here alone. For one group always the same ones.
    pub fn set_placement(&self, placement: Placement) {
        *self.placement.write() = placement;
    }

    /// Opens every group that the journal holds, and the directory if `directory`: then it is
    /// made if it is not there. Returns when this node leads those in which it alone votes, and
    /// has applied in the others what it knows to be committed. Observers are attached to the
    /// groups before.
    pub fn open(self: &Arc<Self>, directory: bool) -> BoxFuture<'_, Result<()>> {
        self.open_all(directory).boxed()
    }

    async fn open_all(self: &Arc<Self>, directory: bool) -> Result<()> {
        self.check_votes()?;
        let mut ids: BTreeSet<GroupId> = self.journal.groups().into_iter().collect();
        if directory {
            ids.insert(GroupId::DIRECTORY);
        }
        if let Some(removals) = self.removals.lock().take() {
            let node = Arc::downgrade(self);
            self.runtime.spawn(Node::tend(node.clone()));
            self.runtime.spawn(Node::watch_quorums(node.clone()));
            self.runtime.spawn(Node::end_removed(node, removals));
        }
        let node = self.clone();
        let opening = self.runtime.spawn(async move {
            let mut alone = Vec::new();
            for id in ids {
                let join = match node.ballot(id)? {
                    Some(Ballot::Ended(_)) => {
                        // It may follow the group since then.
                        if !node.groups.followed()?.contains(&id) {
                            node.forget_tables(id).await?;
                        }
                        continue;
                    }
                    Some(Ballot::Vote(_, join)) => join,
                    None => FIRST_JOIN,
                };
                let member = node.open_group(id, join, node.floor).await?;
                if directory && id == GroupId::DIRECTORY {
                    node.initialize(&member, &[node.me]).await?;
                }
                if node.is_alone(&member).await? {
                    member
                        .raft
                        .trigger()
                        .elect(false)
                        .await
                        .map_err(|e| member.failed(e))?;
                    alone.push(member);
                }
            }
            for member in alone {
                member.lead().await?;
            }
            node.announce();
            Ok(())
        });
        opening.await.map_err(|e| Error::Task(e.to_string()))?
    }

    /// A replica's vote is on disk before anything is in its tables. One that has forgotten it might
    /// vote twice in a term, and what it has acknowledged counts no more. Errors: `JournalLost`.
    fn check_votes(&self) -> Result<()> {
        if !keeps_votes() {
            return Ok(());
        }
        for (id, _) in self.groups.replicated()? {
            let state = self.journal.state(id);
            if state.vote.is_none() && state.purged.is_none() {
                return Err(Error::JournalLost(id));
            }
        }
        Ok(())
    }

    /// What the journal says of this node's vote in a group.
    pub(crate) fn ballot(&self, id: GroupId) -> Result<Option<Ballot>> {
        let Some(vote) = self.journal.state(id).vote else {
            return Ok(None);
        };
        let damaged = || Error::Raft(id, "damaged vote".into());
        decode_ballot(&vote).map(Some).ok_or_else(damaged)
    }

    /// The way from storage and SQL into the log.
    pub fn propose(self: &Arc<Self>) -> Arc<dyn Propose> {
        Arc::new(Way {
            inboxes: self.inboxes.clone(),
            payload_bytes_max: self.journal.payload_bytes_max().min(PAYLOAD_BYTES_MAX),
            node: Arc::downgrade(self),
        })
    }

    /// Positions of groups that are opened begin above it.
    pub(crate) fn floor(&self) -> Position {
        self.floor
    }

    /// How far each group reached on this node's disk when it began.
    pub fn ends(&self) -> &BTreeMap<GroupId, Index> {
        &self.ends
    }

    /// The groups as the rest of the program sees them.
    pub fn groups(&self) -> &Arc<Groups> {
        &self.groups
    }

    /// This node's replica of a group.
    pub(crate) fn member(&self, id: GroupId) -> Option<Arc<Member>> {
        self.members.read().get(&id).cloned()
    }

    /// All replicas of this node.
    pub(crate) fn members(&self) -> Vec<Arc<Member>> {
        self.members.read().values().cloned().collect()
    }

    /// Asks a replica; `None` if it does not answer in time.
    pub(crate) async fn ask(
        &self,
        to: ReplicaId,
        group: GroupId,
        body: Body,
        deadline: Duration,
    ) -> Option<Answer> {
        let request = Request { group, to, body }.encode();
        let asked = self
            .transport
            .call(node_of(to), Lane::Control, request, deadline);
        Answer::decode(asked.await.ok()?).ok()
    }

    /// Asks a node what is no single replica's matter.
    pub(crate) async fn ask_node(
        &self,
        to: NodeId,
        group: GroupId,
        body: Body,
        deadline: Duration,
    ) -> Option<Answer> {
        self.ask(replica(to, 0), group, body, deadline).await
    }

    /// Ends the replicas of which others have said that they were removed, for ever.
    async fn end_removed(
        node: Weak<Node>,
        mut removals: mpsc::UnboundedReceiver<(GroupId, ReplicaId)>,
    ) {
        while let Some((group, replica)) = removals.recv().await {
            let Some(node) = node.upgrade() else { return };
            if let Err(error) = node.close_replica(group, replica).await {
                tracing::error!(%group, %error, "a removed replica does not end");
            }
        }
    }

    /// Nothing is proposed to a replica any more.
    pub(crate) fn silence(&self, id: GroupId) {
        self.inboxes.0.write().remove(&id);
    }

    /// Takes a replica out: it gets no request any more.
    pub(crate) fn remove_member(&self, id: GroupId) {
        self.members.write().remove(&id);
    }

    /// Opens this node's replica of a group, in the runtime of Raft. Asks for nothing.
    pub(crate) async fn open_group(
        &self,
        id: GroupId,
        join: u32,
        floor: Position,
    ) -> Result<Arc<Member>> {
        // What was followed until now is removed, which takes a moment.
        let (groups, disk) = (self.groups.clone(), OnDisk(self.journal.clone()));
        let opening = tokio::task::spawn_blocking(move || groups.open_replica(id, &disk));
        let group = opening.await.map_err(|e| Error::Task(e.to_string()))??;
        let leadership = Leadership::new(
            group.clone(),
            self.groups.clone(),
            self.journal.clone(),
            self.runtime.clone(),
            floor,
            self.changes.clone(),
        );
        let me = replica(self.me, join);
        let (applied, state) = group.applied_log();
        let last = self.journal.state(id).last.map(|(_, last, _)| last);
        if !state.is_empty() && last < Some(applied.index) {
            // A snapshot was installed, and the end came before the log was cut.
            self.groups.begin_at_applied(id);
        }
        let held = self.groups.store().persisted(id);
        let log = GroupLog::new(id, self.journal.clone(), join).known(held)?;
        let machine = Machine::new(
            group.clone(),
            self.groups.clone(),
            self.journal.clone(),
            leadership.clone(),
            me,
        )?;
        let waiting: Arc<Waiting> = Arc::default();
        let under_way: Arc<UnderWay> = Arc::default();
        let network = Network {
            waiting: waiting.clone(),
            group: id,
            transport: self.transport.clone(),
            sending: self.sending.clone(),
            repairs: self.repairs.clone(),
            under_way: under_way.clone(),
            removed: self.removed.clone(),
            me,
        };
        let raft = Raft::build(me, config()?, network, log, machine)
            .await
            .map_err(|fatal| Error::Raft(id, fatal.to_string()))?;
        raft.runtime_config().elect(!self.abstains());
        raft.run();
        let activity = Activity::new(raft.clone());
        let watching = watch_leadership(raft.clone(), me, leadership, activity.clone());
        let watcher = tokio::spawn(watching);
        let inbox = writer::start(group.clone(), raft.clone(), activity.clone(), waiting);
        let member = Arc::new(Member {
            barrier: Barrier::default(),
            raft,
            group,
            me,
            change: tokio::sync::Mutex::default(),
            staging: tokio::sync::Mutex::default(),
            installing: false.into(),
            under_way,
            electing: false.into(),
            heard: Mutex::default(),
            activity,
            silent: false.into(),
            ending: false.into(),
            watcher,
        });
        self.inboxes.0.write().insert(id, inbox);
        self.members.write().insert(id, member.clone());
        Ok(member)
    }

    /// Has the group no other replica than this one?
    async fn is_alone(&self, member: &Member) -> Result<bool> {
        let me = member.me;
        let alone = member.raft.with_raft_state(move |state| {
            let members = state.membership_state.effective();
            members.voter_ids().eq([me]) && members.nodes().count() == 1
        });
        alone.await.map_err(|e| member.failed(e))
    }

    /// Gives a new group its voters, unless it has some.
    async fn initialize(&self, member: &Member, voters: &[NodeId]) -> Result<()> {
        let failed = |e: String| member.failed(e);
        let initialized = member.raft.is_initialized().await;
        if initialized.map_err(|e| failed(e.to_string()))? {
            return Ok(());
        }
        let voters: BTreeMap<ReplicaId, ()> = voters
            .iter()
            .map(|node| (replica(*node, FIRST_JOIN), ()))
            .collect();
        match member.raft.initialize(voters).await {
            Ok(()) => Ok(()),
            // Another of the voters was quicker, and has asked this one for its vote.
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Makes a group with voters on these nodes (this one among them), whose positions begin
    /// above `above`, and leads it. A group that was made before keeps its voters. Errors:
    /// [`Error::NotLeader`] if another of the voters has come to lead it.
    pub fn make<'a>(
        self: &'a Arc<Self>,
        id: GroupId,
        above: Position,
        voters: &'a [NodeId],
    ) -> BoxFuture<'a, Result<()>> {
        let (node, voters) = (self.clone(), voters.to_vec());
        let making = self
            .runtime
            .spawn(async move { node.make_group(id, above, &voters).await });
        async { making.await.map_err(|e| Error::Task(e.to_string()))? }.boxed()
    }

    async fn make_group(&self, id: GroupId, above: Position, voters: &[NodeId]) -> Result<()> {
        let one = self.opening.lock().await;
        let member = match self.member(id) {
            Some(member) => member,
            None => {
                if let Some(Ballot::Ended(_)) = self.ballot(id)? {
                    // This node was a member and is none any more: others have the group.
                    return Err(Error::NotHeld(id));
                }
                let floor = self.floor.max(above);
                self.open_group(id, FIRST_JOIN, floor).await?
            }
        };
        drop(one);
        self.initialize(&member, voters).await?;
        member.lead().await?;
        if voters.len() > 1 && member.group.applied() < above {
            // Another one may lead next, and knows nothing of `above`: an entry tells it.
            member.group.close();
        }
        Ok(())
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

    /// Tells of every change of leadership that this node sees: a number that grows.
    pub fn leadership(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// How far each group has come on the disk: in the log, which may have nothing behind a snapshot, or
/// in the tables, where a snapshot is durable before the log says so.
fn ends_of(journal: &Journal, groups: &Groups) -> BTreeMap<GroupId, Index> {
    let last = |id| {
        let state = journal.state(id);
        let last = state.last.map(|(_, last, _)| last);
        let end = last.max(state.purged.map(|(_, purged)| purged));
        Some((id, end?))
    };
    let mut ends: BTreeMap<_, _> = journal.groups().into_iter().filter_map(last).collect();
    // What can't be read ends the start where the groups are opened.
    for (id, applied) in groups.replicated().unwrap_or_default() {
        let end = ends.entry(id).or_default();
        *end = applied.max(*end);
    }
    ends
}

/// Tells the group who leads it, until Raft ends.
async fn watch_leadership(
    raft: Raft<Types, Machine>,
    me: ReplicaId,
    leadership: Arc<Leadership>,
    activity: Arc<Activity>,
) {
    let mut metrics = raft.server_metrics();
    let (mut known, mut led) = (None, None);
    loop {
        let (vote, state, leader, voter, others) = {
            let now = metrics.borrow_watched();
            let members = &now.membership_config;
            let voter = members.voter_ids().any(|voter| voter == me);
            let others = members.nodes().any(|(id, ())| *id != me);
            (now.vote, now.state, now.current_leader, voter, others)
        };
        let leads = state == ServerState::Leader;
        activity.set_part(match leads {
            true => others,
            false => voter,
        });
        let elected = vote.committed && vote.leader_id.voted_for == me;
        if elected && leads {
            let term = vote.leader_id.term;
            if led.replace(term) != Some(term) {
                activity.begin_term();
            }
            leadership.elected(term);
        } else {
            leadership.deposed();
        }
        if leader != known {
            known = leader;
            leadership.note_change();
        }
        if metrics.changed().await.is_err() {
            return leadership.deposed();
        }
    }
}

/// The writer tasks of all groups.
#[derive(Default)]
struct Inboxes(RwLock<BTreeMap<GroupId, Inbox>>);

/// The way from storage into the log. It does not keep the node alive, which keeps storage.
struct Way {
    inboxes: Arc<Inboxes>,
    payload_bytes_max: usize,
    node: Weak<Node>,
}

impl Propose for Way {
    fn propose(&self, group: GroupId, proposal: Proposal) {
        let (what, txid) = (proposal.what, proposal.txid);
        let sent = match self.inboxes.0.read().get(&group) {
            Some(inbox) => inbox.send(proposal),
            None => false,
        };
        if !sent {
            // Whoever waits for it is told when the group steps down.
            tracing::warn!(%group, %txid, ?what, "proposed while the group is ending");
        }
    }

    fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max
    }

    fn ask_close(&self, group: GroupId) {
        let node = self.node.upgrade();
        let Some((node, member)) = node.and_then(|node| {
            let member = node.member(group)?;
            Some((node, member))
        }) else {
            return;
        };
        let Some(to) = member.other_replica() else {
            return;
        };
        node.runtime.clone().spawn(async move {
            let asked = node.ask(to, group, Body::Close, CLOSE_TIME_MAX).await;
            // Who waits asks again; if the leader is gone, someone has to notice.
            if asked.is_none() && member.activity.is_quiet() {
                node.knock(&member);
            }
        });
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
        let placed = node.placement.read().clone()(group);
        node.runtime.clone().spawn(async move {
            let voters = placed.await;
            let made = match voters.contains(&node.me) {
                true => match node.make_group(group, above, &voters).await {
                    // Another of the voters was quicker: who asked looks for it.
                    Err(Error::NotLeader(Some(_))) => Ok(()),
                    made => made,
                },
                // It is made elsewhere, and led there.
                false => Ok(()),
            };
            done(made.map_err(|e| storage::Error::Store(e.to_string())));
        });
    }
}

/// Milliseconds between two signs of life of a leader. A sign that was not answered by then is
/// given up: a round trip may take this long. Who is killed is noticed by the failure detector.
pub(crate) const HEARTBEAT_INTERVAL: u64 = 400;
/// Milliseconds that a voter waits at least before it stands for election, once the lease is over.
const ELECTION_TIMEOUT_MIN: u64 = 600;
/// At most; and for so long a quorum's answer is a lease: who has given it elects nobody else.
const ELECTION_TIMEOUT_MAX: u64 = 1000;
/// The same.
pub(crate) const LEASE: Duration = Duration::from_millis(ELECTION_TIMEOUT_MAX);

/// Raft's times and limits. Snapshots are taken by [`Node::checkpoint`] only.
fn config() -> Result<Arc<Config>> {
    let config = Config {
        cluster_name: "freehold".into(),
        heartbeat_interval: HEARTBEAT_INTERVAL,
        election_timeout_min: ELECTION_TIMEOUT_MIN,
        election_timeout_max: ELECTION_TIMEOUT_MAX,
        heartbeat_min_interval: Some(100),
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        allow_log_reversion: Some(false),
        // The replica's activity says whether it needs a clock, and when it has to be silent.
        enable_tick: false,
        quorum_loss_probe_interval: None,
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
