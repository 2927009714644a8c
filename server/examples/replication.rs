//! Measures replication: three nodes in this process, with journals on disk, that ask each other
//! over connections on loopback.
//!
//! ```text
//! replication speed [PROPOSERS [SECONDS [BYTES [MICROS]]]]
//!     commits a second, their times, CPU for each; before each commit MICROS of other work
//! replication idle [GROUPS]
//!     CPU of idle groups, awake and quiet; start-up
//! replication failover [RUNS [GROUPS]]
//!     from the leader's silence to the next commit, and until all its groups are led again
//! ```

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use journal::{GroupId, Journal, Position, RealDisk};
use raft::NodeId;
use server::peer::{BoxFuture, Hello, Identity, Lane, PeerStream, PeerTls, Peers, Service, listen};
use storage::{
    Change, Changes, Clock, Commit, Group, Groups, Meta, Outcome, StoreKind, StoreOptions,
};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

const TREE: u32 = 1000;
const NODES: u32 = 3;
const FIRST_GROUP: u32 = 7;

struct System;

impl Clock for System {
    fn unix_micros(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        since.as_micros() as u64
    }
}

/// Nodes that are cut off from all others.
#[derive(Default)]
struct Cut(Vec<AtomicBool>);

impl Cut {
    fn is(&self, node: u32) -> bool {
        self.0[node as usize].load(Ordering::Acquire)
    }

    fn set(&self, node: u32, cut: bool) {
        self.0[node as usize].store(cut, Ordering::Release);
    }
}

/// What a peer asks goes to the replicas.
struct Replicas {
    number: u32,
    cut: Arc<Cut>,
    /// It has the way to the others, and this is the way back.
    node: OnceLock<Weak<raft::Node>>,
}

impl Service for Replicas {
    fn admit(&self, _peer: &Hello) -> Result<(), String> {
        Ok(())
    }

    fn hello(&self) -> Hello {
        let identity = Identity {
            cluster: Some(Uuid::from_u128(1)),
            node: self.number,
            incarnation: Uuid::from_u128(u128::from(self.number)),
            address: String::new(),
            client_address: String::new(),
        };
        Hello::new(identity, 0, Bytes::new())
    }

    fn request(
        self: Arc<Self>,
        peer: Arc<Identity>,
        _lane: Lane,
        request: Bytes,
    ) -> BoxFuture<'static, Bytes> {
        if self.cut.is(self.number) || self.cut.is(peer.node) {
            return Box::pin(std::future::pending());
        }
        let node = self.node.get().expect("it listens when it has a node");
        match node.upgrade() {
            Some(node) => node.serve(NodeId(peer.node), request),
            None => Box::pin(std::future::pending()),
        }
    }

    fn stream(
        self: Arc<Self>,
        _peer: Arc<Identity>,
        _opening: Bytes,
        stream: PeerStream,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move { stream.reset("no streams here") })
    }
}

/// The way to the others.
struct Ways {
    me: u32,
    cut: Arc<Cut>,
    sent: Arc<AtomicU64>,
    peers: Arc<Peers>,
    addresses: BTreeMap<u32, String>,
}

impl raft::Transport for Ways {
    fn call(
        &self,
        to: NodeId,
        lane: raft::Lane,
        request: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, raft::Unreachable>> {
        let lane = match lane {
            raft::Lane::Control => Lane::Control,
            raft::Lane::Data => Lane::Data,
            raft::Lane::Bulk => Lane::Bulk,
        };
        self.sent.fetch_add(1, Ordering::Relaxed);
        let unreachable = move |reason: String| raft::Unreachable { node: to, reason };
        if self.cut.is(self.me) || self.cut.is(to.0) {
            return Box::pin(async move {
                tokio::time::sleep(deadline).await;
                Err(unreachable("cut off".into()))
            });
        }
        let address = &self.addresses[&to.0];
        let answer = self.peers.call(address, lane, request, deadline);
        Box::pin(async move { answer.await.map_err(|error| unreachable(error.to_string())) })
    }
}

struct Running {
    node: Arc<raft::Node>,
    journal: Journal,
    runtime: Runtime,
    ending: tokio::sync::watch::Sender<bool>,
    folder: PathBuf,
}

struct Cluster {
    nodes: BTreeMap<u32, Running>,
    addresses: BTreeMap<u32, String>,
    cut: Arc<Cut>,
    sent: Arc<AtomicU64>,
}

impl Cluster {
    fn start(folder: &Path) -> Cluster {
        let bind = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners: Vec<_> = (0..NODES).map(|_| bind()).collect();
        let address = |listener: &std::net::TcpListener| listener.local_addr().unwrap().to_string();
        let addresses = (1..).zip(listeners.iter().map(address)).collect();
        let mut cluster = Cluster {
            nodes: BTreeMap::new(),
            addresses,
            cut: Arc::new(Cut((0..=NODES).map(|_| AtomicBool::new(false)).collect())),
            sent: Arc::default(),
        };
        for (number, listener) in (1..).zip(listeners) {
            cluster.add(number, listener, &folder.join(format!("n{number}")));
        }
        cluster
    }

    fn add(&mut self, number: u32, listener: std::net::TcpListener, folder: &Path) {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let entered = runtime.enter();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let replicas = Arc::new(Replicas {
            number,
            cut: self.cut.clone(),
            node: OnceLock::new(),
        });
        let options = server::peer::Options::default();
        let peers = Peers::new(replicas.clone(), PeerTls::Plain, options);
        let options = journal::Options::default();
        let journal = Journal::open(Arc::new(RealDisk), &folder.join("journal"), options).unwrap();
        let tables = folder.join("tables");
        let store = storage::open(StoreKind::Lsm, &tables, StoreOptions::default()).unwrap();
        let groups = Groups::new(store, Arc::new(System));
        groups.number_node(u64::from(number));
        let hour = Duration::from_secs(3600);
        let options = raft::Options {
            checkpoint_timeout: hour,
            checkpoint_bytes: u64::MAX,
            retain_time: hour,
            retain_bytes: u64::MAX,
            horizon: hour,
        };
        let node = raft::Node::new(
            journal.clone(),
            groups,
            options,
            runtime.handle().clone(),
            NodeId(number),
            Arc::new(Ways {
                me: number,
                cut: self.cut.clone(),
                sent: self.sent.clone(),
                peers,
                addresses: self.addresses.clone(),
            }),
        );
        assert!(replicas.node.set(Arc::downgrade(&node)).is_ok());
        let (ending, mut ended) = tokio::sync::watch::channel(false);
        let until = async move {
            let _ = ended.wait_for(|ended| *ended).await;
        };
        runtime.spawn(listen(listener, replicas, PeerTls::Plain, until));
        runtime.block_on(node.open(false)).unwrap();
        drop(entered);
        let folder = folder.to_owned();
        let running = Running {
            node,
            journal,
            runtime,
            ending,
            folder,
        };
        self.nodes.insert(number, running);
    }

    fn make(&self, groups: u32) {
        std::thread::scope(|scope| {
            for (number, running) in &self.nodes {
                scope.spawn(move || {
                    let voters: Vec<NodeId> = (1..=NODES).map(NodeId).collect();
                    let mine =
                        (FIRST_GROUP..FIRST_GROUP + groups).filter(|g| 1 + g % NODES == *number);
                    for group in mine {
                        let made = running.node.make(GroupId(group), Position::ZERO, &voters);
                        running.runtime.block_on(made).unwrap();
                    }
                });
            }
        });
    }

    fn group(&self, node: u32, group: u32) -> Arc<Group> {
        self.nodes[&node].node.groups().get(GroupId(group)).unwrap()
    }

    /// The node that can write now.
    fn leader(&self, group: u32) -> Option<u32> {
        let leads = |node: &u32| {
            let held = self.nodes[node].node.groups().get(GroupId(group));
            !self.cut.is(*node) && held.is_some_and(|group| group.term().is_some())
        };
        self.nodes.keys().copied().find(leads)
    }

    /// Ends all nodes; gives the time until they lead all their groups again.
    fn restart(&mut self, groups: u32) -> Duration {
        let mut folders = BTreeMap::new();
        for (number, running) in std::mem::take(&mut self.nodes) {
            running.runtime.block_on(running.node.shutdown());
            running.ending.send_replace(true);
            folders.insert(number, running.folder);
            drop(running.runtime);
            running.journal.close();
            // Tasks that are ending still hold it, and with it the tables' files.
            while Arc::strong_count(&running.node) > 1 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let begun = Instant::now();
        for (number, folder) in folders {
            let listener = std::net::TcpListener::bind(&self.addresses[&number]).unwrap();
            self.add(number, listener, &folder);
        }
        for group in FIRST_GROUP..FIRST_GROUP + groups {
            while self.leader(group).is_none() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        begun.elapsed()
    }
}

/// Proposes a row.
fn propose(group: &Group, key: u64, value: &Bytes) -> Option<Position> {
    let change = Change {
        tree: TREE,
        feed: true,
        key: Bytes::copy_from_slice(&key.to_be_bytes()),
        new: Some(value.clone()),
        ..Change::default()
    };
    let proposed = group.commit(Commit {
        txid: group.begin(),
        base: group.newest().ok()?,
        epoch: group.term()?,
        meta: Meta::default(),
        changes: Changes::Small(vec![change]),
        events: Vec::new(),
        dropped_trees: Vec::new(),
        deps: Vec::new(),
        checks: Vec::new(),
        record_outcome: false,
        keeps_locks: false,
    });
    proposed.ok()
}

fn write(group: &Group, key: u64, value: &Bytes) -> bool {
    let Some(position) = propose(group, key, value) else {
        return false;
    };
    let (told, outcome) = channel();
    group.when(
        position,
        Box::new(move |o| told.send(o).unwrap_or_default()),
    );
    outcome.recv_timeout(Duration::from_secs(10)) == Ok(Outcome::Applied)
}

/// The CPU time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn speed(folder: &Path, proposers: u64, seconds: u64, bytes: usize, work: Duration) {
    let cluster = Cluster::start(folder);
    cluster.make(1);
    let leader = cluster.leader(FIRST_GROUP).unwrap();
    let group = cluster.group(leader, FIRST_GROUP);
    let value = Bytes::from(vec![7; bytes]);
    let until = Instant::now() + Duration::from_secs(seconds);
    let (used, sent) = (cpu(), cluster.sent.load(Ordering::Relaxed));
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let propose = |number: u64| {
            let (group, value) = (&group, &value);
            scope.spawn(move || {
                let mut times = Vec::new();
                let mut key = number << 32;
                while Instant::now() < until {
                    let worked = Instant::now();
                    while worked.elapsed() < work {
                        std::hint::spin_loop();
                    }
                    let begun = Instant::now();
                    assert!(write(group, key, value));
                    times.push(begun.elapsed());
                    key += 1;
                }
                times
            })
        };
        let proposing: Vec<_> = (0..proposers).map(propose).collect();
        let times = proposing.into_iter().flat_map(|p| p.join().unwrap());
        times.collect()
    });
    times.sort_unstable();
    let count = times.len() as u32;
    let at = |part: f64| times[((count - 1) as f64 * part) as usize];
    println!(
        "{proposers} proposers of {bytes} bytes: {} commits/s, p50 {:?}, p99 {:?}, CPU {:?} and {:.2} messages a commit",
        u64::from(count) / seconds,
        at(0.5),
        at(0.99),
        (cpu() - used) / count,
        (cluster.sent.load(Ordering::Relaxed) - sent) as f64 / f64::from(count),
    );
}

fn idle(folder: &Path, groups: u32) {
    const MEASURED: Duration = Duration::from_secs(5);
    let mut cluster = Cluster::start(folder);
    let after = |cluster: &Cluster, time| {
        for running in cluster.nodes.values() {
            running.node.quiet_after(time);
        }
    };
    after(&cluster, Duration::from_secs(3600));
    let begun = Instant::now();
    cluster.make(groups);
    println!("{groups} groups made in {:?}", begun.elapsed());
    let measure = |cluster: &Cluster, what: &str| {
        let (used, sent) = (cpu(), cluster.sent.load(Ordering::Relaxed));
        std::thread::sleep(MEASURED);
        let used = (cpu() - used).as_secs_f64() / MEASURED.as_secs_f64() / f64::from(NODES);
        let sent = cluster.sent.load(Ordering::Relaxed) - sent;
        println!(
            "{what}: {:.1} % of a core on each node, {} messages/s in all",
            used * 100.0,
            sent / MEASURED.as_secs()
        );
    };
    measure(&cluster, "awake");
    after(&cluster, Duration::from_secs(1));
    let begun = Instant::now();
    let quiet = |running: &Running| running.node.status().iter().all(|group| group.quiet);
    while !cluster.nodes.values().all(quiet) {
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("all quiet after {:?}", begun.elapsed());
    measure(&cluster, "quiet");
    println!("all led again {:?} after a start", cluster.restart(groups));
    after(&cluster, Duration::from_secs(5));
    measure(&cluster, "after the start");
}

fn failover(folder: &Path, runs: u64, groups: u32) {
    const NOTICED: Duration = Duration::from_millis(300);
    let cluster = Cluster::start(folder);
    cluster.make(groups);
    let value = Bytes::from_static(b"row");
    let mut all_led = Vec::new();
    let mut times: Vec<Duration> = (0..runs)
        .map(|run| {
            let leader = loop {
                if let Some(leader) = cluster.leader(FIRST_GROUP)
                    && write(&cluster.group(leader, FIRST_GROUP), run * 2, &value)
                {
                    break leader;
                }
            };
            // At any time between two heartbeats.
            std::thread::sleep(Duration::from_millis(700 + run * 37 % 200));
            let begun = Instant::now();
            cluster.cut.set(leader, true);
            std::thread::sleep(NOTICED);
            for (number, running) in &cluster.nodes {
                if *number != leader {
                    running.node.suspect(NodeId(leader), Duration::ZERO);
                }
            }
            loop {
                if let Some(next) = cluster.leader(FIRST_GROUP)
                    && write(&cluster.group(next, FIRST_GROUP), run * 2 + 1, &value)
                {
                    break;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            let took = begun.elapsed();
            for group in FIRST_GROUP..FIRST_GROUP + groups {
                while cluster.leader(group).is_none() {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            all_led.push(begun.elapsed());
            cluster.cut.set(leader, false);
            std::thread::sleep(Duration::from_millis(500));
            took
        })
        .collect();
    times.sort_unstable();
    all_led.sort_unstable();
    let of = |times: &[Duration]| (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{runs} runs, suspected after {NOTICED:?}: the next commit after (median, worst) {:?}, all of {groups} groups led after {:?}",
        of(&times),
        of(&all_led)
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| {
        let given = arguments.get(at);
        given.map_or(default, |given| given.parse().expect("a number"))
    };
    let folder = std::env::temp_dir().join(format!("replication-{}", std::process::id()));
    match arguments.first().map(String::as_str) {
        Some("speed") => {
            let (bytes, work) = (number(3, 100) as usize, Duration::from_micros(number(4, 0)));
            speed(&folder, number(1, 32), number(2, 5), bytes, work);
        }
        Some("idle") => idle(&folder, number(1, 500) as u32),
        Some("failover") => failover(&folder, number(1, 30), number(2, 1) as u32),
        _ => eprintln!("speed, idle or failover"),
    }
    std::fs::remove_dir_all(&folder).unwrap_or_default();
}
