//! Replicas that ask each other over connections between nodes, on loopback.

use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use journal::{GroupId, Journal, MemoryDisk, Position};
use raft::NodeId;
use storage::{Change, Changes, Commit, Groups, MemoryStore, Meta, Outcome};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::*;

const GROUP: GroupId = GroupId(7);
const TREE: u32 = 1000;
const LONG: Duration = Duration::from_secs(60);
/// How long a row may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(1);

/// What a peer asks goes to the replicas.
struct Replicas {
    number: u32,
    address: String,
    node: OnceLock<Arc<raft::Node>>,
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
            address: self.address.clone(),
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
        let node = self.node.get().expect("it listens when it has a node");
        node.serve(NodeId(peer.node), request)
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

/// The way to the others, whose addresses do not change.
struct Ways {
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
        let answer = self
            .peers
            .call(&self.addresses[&to.0], lane, request, deadline);
        Box::pin(async move {
            answer.await.map_err(|error| raft::Unreachable {
                node: to,
                reason: error.to_string(),
            })
        })
    }
}

/// Nodes that listen on loopback, with journals and tables in memory.
struct Cluster {
    nodes: Vec<Arc<raft::Node>>,
    journals: Vec<Journal>,
    /// Their listeners.
    _tasks: JoinSet<Result<(), TlsError>>,
}

impl Cluster {
    async fn start(nodes: u32) -> Cluster {
        let mut listeners = Vec::new();
        for _ in 0..nodes {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let addresses: BTreeMap<u32, String> = (1..).zip(listeners.iter().map(address)).collect();
        let mut cluster = Cluster {
            nodes: Vec::new(),
            journals: Vec::new(),
            _tasks: JoinSet::new(),
        };
        for (number, listener) in (1..).zip(listeners) {
            cluster.add(number, listener, &addresses).await;
        }
        cluster
    }

    async fn add(&mut self, number: u32, listener: TcpListener, addresses: &BTreeMap<u32, String>) {
        let replicas = Arc::new(Replicas {
            number,
            address: addresses[&number].clone(),
            node: OnceLock::new(),
        });
        let peers = Peers::new(replicas.clone(), PeerTls::Plain, super::Options::default());
        let disk = Arc::new(MemoryDisk::new());
        let journal = Journal::open(disk, "/journal".as_ref(), journal::Options::default());
        let journal = journal.unwrap();
        let groups = Groups::new(MemoryStore::new(), Arc::new(crate::system::SystemClock));
        groups.number_node(u64::from(number));
        let options = raft::Options {
            checkpoint_timeout: LONG,
            checkpoint_bytes: u64::MAX,
            retain_time: LONG,
            retain_bytes: u64::MAX,
            horizon: LONG,
        };
        let node = raft::Node::new(
            journal.clone(),
            groups,
            options,
            tokio::runtime::Handle::current(),
            NodeId(number),
            Arc::new(Ways {
                peers,
                addresses: addresses.clone(),
            }),
        );
        node.open(false).await.unwrap();
        assert!(replicas.node.set(node.clone()).is_ok());
        let listening = listen(listener, replicas, PeerTls::Plain, std::future::pending());
        self._tasks.spawn(listening);
        self.nodes.push(node);
        self.journals.push(journal);
    }

    async fn end(self) {
        for (node, journal) in self.nodes.into_iter().zip(self.journals) {
            node.shutdown().await;
            journal.close();
        }
    }
}

/// Commits a row through the replica on a node and waits until it is on all. `None`: the leadership
/// has moved meanwhile.
fn replicate(cluster: &Cluster, leader: usize, key: &'static [u8], row: &Bytes) -> Option<()> {
    let group = cluster.nodes[leader].groups().get(GROUP)?;
    let epoch = group.term()?;
    let change = Change {
        tree: TREE,
        feed: true,
        key: Bytes::from_static(key),
        new: Some(row.clone()),
        ..Change::default()
    };
    let position = group.commit(Commit {
        txid: group.begin(),
        base: group.newest().ok()?,
        epoch,
        meta: Meta::default(),
        changes: Changes::Small(vec![change]),
        events: Vec::new(),
        dropped_trees: Vec::new(),
        deps: Vec::new(),
        checks: Vec::new(),
        record_outcome: false,
        keeps_locks: false,
    });
    let position = position.ok()?;
    let (told, outcome) = channel();
    group.when(position, Box::new(move |o| told.send(o).unwrap()));
    if outcome.recv_timeout(PATIENCE).unwrap() != Outcome::Applied {
        return None;
    }
    for node in &cluster.nodes {
        let group = node.groups().get(GROUP).unwrap();
        let begun = std::time::Instant::now();
        while group.applied() < position {
            assert!(begun.elapsed() < PATIENCE, "it never came");
            std::thread::sleep(PAUSE);
        }
        assert!(group.get(TREE, key, position).unwrap() == Some(row.clone()));
    }
    let number = NodeId(leader as u32 + 1);
    let same = |node: &Arc<raft::Node>| node.leader(GROUP) == Some(number);
    (group.term() == Some(epoch) && cluster.nodes.iter().all(same)).then_some(())
}

/// The largest row of a client, as good as: one record, which no frame holds.
#[test]
fn a_row_of_sixty_mebibytes_is_replicated() {
    const BYTES: usize = 60 << 20;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let cluster = runtime.block_on(Cluster::start(3));
    let voters: Vec<NodeId> = (1..=3).map(NodeId).collect();
    let made = cluster.nodes[0].make(GROUP, Position::ZERO, &voters);
    runtime.block_on(made).unwrap();
    let row = Bytes::from(vec![7; BYTES]);
    let leads = |node: &Arc<raft::Node>| {
        let group = node.groups().get(GROUP);
        group.is_some_and(|group| group.term().is_some())
    };
    // On a machine that has no time for this process a leader may fall silent whatever it does;
    // taking the time that a row takes for silence would end each of them.
    let keys: [&[u8]; 5] = [b"a", b"b", b"c", b"d", b"e"];
    let kept = keys.into_iter().any(|key| {
        let begun = std::time::Instant::now();
        let leader = loop {
            match cluster.nodes.iter().position(leads) {
                Some(leader) => break leader,
                None => std::thread::sleep(PAUSE),
            }
            assert!(begun.elapsed() < PATIENCE, "nobody leads");
        };
        replicate(&cluster, leader, key, &row).is_some()
    });
    assert!(kept, "each time another one leads when the row has come");
    runtime.block_on(cluster.end());
}
