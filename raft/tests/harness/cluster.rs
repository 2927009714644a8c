//! Several nodes in one process: journals on disks in memory, a network that loses, delays and
//! cuts what the test says, by a seed that each failure prints.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use journal::{GroupId, Journal, MemoryDisk, Position};
use parking_lot::Mutex;
use raft::{Lane, Node, NodeId, Options, Transport, Unreachable};
use storage::{Direction, Group, Groups, MemoryStore, Outcome, TableStore};
use tokio::runtime::Runtime;

use super::{System, TREE, commit, put};

/// The group of these tests.
pub const GROUP: GroupId = GroupId(7);
/// What has not happened by then does not.
const TIME_MAX: Duration = Duration::from_secs(30);

/// Returns once it is so; panics if it takes too long.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < TIME_MAX, "it never was so: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The network.
#[derive(Default)]
pub struct Net(Mutex<Wires>);

#[derive(Default)]
struct Wires {
    nodes: BTreeMap<u32, Weak<Node>>,
    /// From, to.
    cut: BTreeSet<(u32, u32)>,
    /// Of a thousand messages so many are lost.
    lost: u64,
    delay_max: Duration,
    seed: u64,
    /// Messages that were sent.
    sent: u64,
    /// Snapshots wait.
    bulk_held: bool,
    /// One does.
    bulk_waits: bool,
}

impl Net {
    fn roll(wires: &mut Wires, below: u64) -> u64 {
        wires.seed = wires
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (wires.seed >> 33) % below.max(1)
    }

    /// What becomes of one message: it arrives after a time, or is lost.
    fn fate(&self, from: u32, to: u32) -> Option<Duration> {
        let mut wires = self.0.lock();
        wires.sent += 1;
        let lost = Net::roll(&mut wires, 1000) < wires.lost;
        let max = wires.delay_max.as_micros() as u64;
        let delay = Duration::from_micros(Net::roll(&mut wires, max + 1));
        (!lost && !wires.cut.contains(&(from, to))).then_some(delay)
    }

    /// How many messages were sent, lost ones too.
    pub fn sent(&self) -> u64 {
        self.0.lock().sent
    }

    /// From now on messages are lost and delayed.
    pub fn unreliable(&self, seed: u64, lost: u64, delay_max: Duration) {
        let mut wires = self.0.lock();
        (wires.seed, wires.lost, wires.delay_max) = (seed, lost, delay_max);
    }

    /// Nothing gets from one node to the other.
    pub fn cut_one_way(&self, from: u32, to: u32) {
        self.0.lock().cut.insert((from, to));
    }

    /// Nothing gets to a node or from it.
    pub fn isolate(&self, node: u32) {
        let mut wires = self.0.lock();
        let others: Vec<u32> = wires.nodes.keys().copied().collect();
        for other in others.into_iter().filter(|other| *other != node) {
            wires.cut.extend([(node, other), (other, node)]);
        }
    }

    /// Snapshots wait on their way, or go on.
    pub fn hold_bulk(&self, hold: bool) {
        let mut wires = self.0.lock();
        (wires.bulk_held, wires.bulk_waits) = (hold, false);
    }

    /// Does one wait?
    pub fn bulk_waits(&self) -> bool {
        self.0.lock().bulk_waits
    }

    async fn pass(&self, lane: Lane) {
        let waits = || {
            let mut wires = self.0.lock();
            wires.bulk_waits |= lane == Lane::Bulk && wires.bulk_held;
            lane == Lane::Bulk && wires.bulk_held
        };
        while waits() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Everything gets through again.
    pub fn heal(&self) {
        let mut wires = self.0.lock();
        wires.cut.clear();
        (wires.lost, wires.delay_max) = (0, Duration::ZERO);
    }

    fn node(&self, node: u32) -> Option<Arc<Node>> {
        self.0.lock().nodes.get(&node)?.upgrade()
    }
}

/// The way of one node to the others, until it is killed.
struct Wire {
    net: Arc<Net>,
    me: NodeId,
    alive: Arc<AtomicBool>,
}

impl Transport for Wire {
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        request: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, Unreachable>> {
        let (net, me, alive) = (self.net.clone(), self.me, self.alive.clone());
        let unreachable = move |reason: &str| Unreachable {
            node: to,
            reason: reason.into(),
        };
        let asked = async move {
            net.pass(lane).await;
            match net.fate(me.0, to.0) {
                Some(delay) if alive.load(Ordering::Acquire) => tokio::time::sleep(delay).await,
                _ => std::future::pending().await,
            }
            let node = net.node(to.0).ok_or(unreachable("it does not run"))?;
            let answer = node.serve(me, request).await;
            // Of a node that was killed meanwhile nothing is heard: what it says now it has on a
            // disk that is no more.
            let same = net.node(to.0).is_some_and(|now| Arc::ptr_eq(&now, &node));
            drop(node);
            if !same {
                return std::future::pending().await;
            }
            match net.fate(to.0, me.0) {
                Some(delay) => tokio::time::sleep(delay).await,
                None => std::future::pending().await,
            }
            match alive.load(Ordering::Acquire) {
                true => Ok(answer),
                false => std::future::pending().await,
            }
        };
        let late = move |_| Err(unreachable("no answer in time"));
        tokio::time::timeout(deadline, asked)
            .map(move |answered| answered.unwrap_or_else(late))
            .boxed()
    }
}

fn threads() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let builder = builder.worker_threads(THREADS).enable_all();
    builder.build().unwrap()
}

/// A running node.
pub struct Running {
    pub node: Arc<Node>,
    pub journal: Journal,
    disk: MemoryDisk,
    store: Arc<MemoryStore>,
    /// Its Raft runs here.
    runtime: Option<Runtime>,
    /// It is heard.
    alive: Arc<AtomicBool>,
}

/// Threads of one node.
const THREADS: usize = 2;

/// A stopped process: no thread of its Raft goes on until the value is dropped.
pub struct Frozen(#[allow(dead_code)] Vec<std::sync::mpsc::Sender<()>>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Running {
    /// Stops its threads, as a signal does.
    pub fn freeze(&self) -> Frozen {
        let runtime = self.runtime.as_ref().expect("it runs");
        let (stopped, all) = std::sync::mpsc::channel();
        let stop = |_| {
            let (go, gone) = std::sync::mpsc::channel::<()>();
            let stopped = stopped.clone();
            runtime.spawn(async move {
                stopped.send(()).expect("it is waited for");
                // Until the sender is gone.
                let _ = gone.recv();
            });
            go
        };
        let frozen = Frozen((0..THREADS).map(stop).collect());
        (0..THREADS).for_each(|_| all.recv().expect("a thread stops"));
        frozen
    }

    pub fn is_quiet(&self) -> bool {
        let status = self.node.status().into_iter();
        status.into_iter().any(|s| s.group == GROUP && s.quiet)
    }

    pub fn group(&self) -> Arc<Group> {
        self.node.groups().get(GROUP).expect("it is held")
    }

    /// All rows as of what is applied.
    pub fn rows(&self) -> Vec<(Bytes, Bytes)> {
        let group = self.group();
        let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        let rows = group.scan(TREE, all, group.applied(), Direction::Forward);
        rows.unwrap().map(Result::unwrap).collect()
    }
}

/// What is left of a node that has stopped.
pub struct Stopped {
    disk: MemoryDisk,
    store: Arc<MemoryStore>,
}

impl Stopped {
    /// The same once more.
    pub fn copy(&self) -> Stopped {
        Stopped {
            disk: self.disk.copy(),
            store: self.store.crash(|_, _, _| true),
        }
    }

    /// Its tables, beside this journal.
    pub fn with_journal(self, disk: MemoryDisk) -> Stopped {
        Stopped { disk, ..self }
    }

    /// Its journal alone.
    pub fn into_journal(self) -> MemoryDisk {
        self.disk
    }
}

/// The nodes, numbered from 1.
pub struct Cluster {
    pub net: Arc<Net>,
    pub nodes: BTreeMap<u32, Running>,
    pub runtime: Runtime,
}

impl Cluster {
    /// Nodes that hold nothing yet.
    pub fn empty(nodes: u32) -> Cluster {
        let runtime = threads();
        let mut cluster = Cluster {
            net: Arc::default(),
            nodes: BTreeMap::new(),
            runtime,
        };
        (1..=nodes).for_each(|node| cluster.add(node));
        cluster
    }

    /// Nodes with voters of the group on all of them; the first one leads.
    pub fn start(nodes: u32) -> Cluster {
        let cluster = Cluster::empty(nodes);
        let voters: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
        cluster.make(1, &voters);
        cluster
    }

    pub fn make(&self, node: u32, voters: &[NodeId]) {
        let node = self[node].node.clone();
        let made = node.make(GROUP, Position::ZERO, voters);
        self.runtime.block_on(made).unwrap();
    }

    /// Starts a node with an empty disk.
    pub fn add(&mut self, number: u32) {
        let (disk, store) = (MemoryDisk::new(), MemoryStore::new());
        self.restart(number, Stopped { disk, store });
    }

    /// Starts a node on what is left of it.
    pub fn restart(&mut self, number: u32, left: Stopped) {
        self.try_restart(number, left).unwrap();
    }

    /// The same; it may refuse.
    pub fn try_restart(&mut self, number: u32, left: Stopped) -> raft::Result<()> {
        let Stopped { disk, store } = left;
        let options = journal::Options {
            segment_bytes: 1 << 20,
            ..journal::Options::default()
        };
        let journal = Journal::open(Arc::new(disk.clone()), "/journal".as_ref(), options).unwrap();
        let tables: Arc<dyn TableStore> = store.clone();
        let groups = Groups::new(tables, Arc::new(System));
        groups.number_node(u64::from(number));
        let options = Options {
            checkpoint_timeout: Duration::from_secs(3600),
            checkpoint_bytes: u64::MAX,
            retain_time: Duration::ZERO,
            retain_bytes: 2 << 20,
            horizon: Duration::ZERO,
        };
        let (runtime, alive) = (threads(), Arc::new(AtomicBool::new(true)));
        let node = Node::new(
            journal.clone(),
            groups,
            options,
            runtime.handle().clone(),
            NodeId(number),
            Arc::new(Wire {
                net: self.net.clone(),
                me: NodeId(number),
                alive: alive.clone(),
            }),
        );
        if let Err(refused) = self.runtime.block_on(node.open(false)) {
            runtime.shutdown_background();
            journal.close();
            return Err(refused);
        }
        let mut wires = self.net.0.lock();
        wires.nodes.insert(number, Arc::downgrade(&node));
        drop(wires);
        let running = Running {
            node,
            journal,
            disk,
            store,
            runtime: Some(runtime),
            alive,
        };
        self.nodes.insert(number, running);
        Ok(())
    }

    /// Ends a node as a power cut would: what is not synced is lost.
    pub fn kill(&mut self, number: u32, seed: u64) -> Stopped {
        let running = self.nodes.remove(&number).expect("it runs");
        // Whatever it still does, nobody hears of it: its disk is that of this moment.
        running.alive.store(false, Ordering::Release);
        self.net.0.lock().nodes.remove(&number);
        let left = Stopped {
            disk: running.disk.after_crash(seed),
            store: running.store.crash(|_, _, _| false),
        };
        self.runtime.block_on(running.node.shutdown());
        running.journal.clone().close();
        left
    }

    /// Lets groups be quiet soon.
    pub fn hush(&self) {
        for running in self.nodes.values() {
            running.node.quiet_after(Duration::from_millis(100));
        }
    }

    /// Waits until the group is quiet on all nodes.
    pub fn rest(&self) {
        until("the group is quiet", || {
            self.nodes.values().all(|running| running.is_quiet())
        });
    }

    /// The node that can write now, of those that run; waits for one.
    pub fn leader(&self) -> u32 {
        let mut leader = None;
        until("someone leads", || {
            let leads = |(_, node): &(&u32, &Running)| {
                let group = node.node.groups().get(GROUP);
                group.is_some_and(|group| group.term().is_some())
            };
            let mut leaders = self.nodes.iter().filter(leads);
            leader = leaders.next().map(|(number, _)| *number);
            leader.is_some() && leaders.next().is_none()
        });
        leader.expect("it was waited for")
    }

    /// Commits a row on a node without waiting; `None` if it is refused.
    pub fn propose(&self, node: u32, key: u64, value: &str) -> Option<Position> {
        let group = self[node].group();
        let newest = group.newest().ok()?;
        group.term()?;
        let change = put(key, value.to_owned());
        commit(&group, group.begin(), newest, vec![change]).ok()
    }

    /// Commits a row, wherever it can be; tries until it is acknowledged.
    pub fn write(&self, key: u64, value: &str) {
        until("a row is written", || {
            let leader = self.leader();
            let Some(position) = self.propose(leader, key, value) else {
                return false;
            };
            self.outcome(leader, position) == Some(Outcome::Applied)
        });
    }

    /// What became of a position, once it is known; `None` if that takes too long.
    pub fn outcome(&self, node: u32, position: Position) -> Option<Outcome> {
        self.hear(node, position).recv_timeout(TIME_MAX).ok()
    }

    /// Where it will be told what became of a position.
    pub fn hear(&self, node: u32, position: Position) -> Receiver<Outcome> {
        let (done, told) = std::sync::mpsc::channel();
        let group = self[node].group();
        // The test may no longer listen.
        let tell = move |outcome| done.send(outcome).unwrap_or_default();
        group.when(position, Box::new(tell));
        told
    }

    /// Waits until all nodes that run have the same rows, and gives them.
    pub fn settle(&self) -> Vec<(Bytes, Bytes)> {
        self.settle_without(0)
    }

    /// The same, but for a node that has nothing of the group.
    pub fn settle_without(&self, number: u32) -> Vec<(Bytes, Bytes)> {
        let leader = self.leader();
        let applied = self[leader].group().applied();
        let nodes = || self.nodes.iter().filter(|(n, _)| **n != number);
        until("everyone has applied it", || {
            let mut groups = nodes().map(|(_, node)| node.node.groups().get(GROUP));
            groups.all(|g| g.is_some_and(|g| g.applied() >= applied && g.ready()))
        });
        let rows = self[leader].rows();
        for (number, node) in nodes() {
            assert_eq!(node.rows(), rows, "node {number}");
        }
        rows
    }
}

impl std::ops::Index<u32> for Cluster {
    type Output = Running;

    fn index(&self, node: u32) -> &Running {
        &self.nodes[&node]
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for running in std::mem::take(&mut self.nodes).into_values() {
            self.runtime.block_on(running.node.shutdown());
            running.journal.clone().close();
        }
    }
}
