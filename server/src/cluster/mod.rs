//! The cluster as one of its nodes sees it: who this node is, where the others are, how they are
//! asked, who of them is there, where groups should be. Raft decides who leads; here is decided
//! where its replicas stand.
//!
//! ```text
//! start ── join.rs: alone, or taken in by the directory's leader ── identity.rs: the file
//!   ├── open.rs: a node's groups come to be usable
//!   ├── book.rs: where the others are
//!   ├── claims.rs: what a node says of its journal at the handshake
//!   ├── serve.rs: what other nodes ask        ask.rs: the questions that are not Raft's
//!   ├── fellows.rs: what sessions need of the others
//!   ├── transport.rs: Raft's requests to them
//!   ├── detect.rs: who answers, who is suspected, who is lost
//!   ├── leads.rs: what others say that they lead
//!   ├── revoke.rs: what is taken away is taken away on every node
//!   ├── contact.rs: whether this node may have been replaced
//!   ├── directory.rs, functions.rs, wishes.rs: wishes about where groups are
//!   ├── status.rs: what views show of all this
//!   └── keep.rs: brings groups to where the directory wants them; plan.rs: what it wants
//! ```

pub mod ask;
mod book;
mod claims;
mod clock;
mod contact;
mod detect;
mod directory;
mod fellows;
mod functions;
pub mod identity;
pub mod init;
mod join;
mod keep;
mod leads;
pub mod local;
mod open;
mod plan;
mod revoke;
mod serve;
mod status;
mod transport;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use feed::Feed;
use journal::Journal;
use parking_lot::Mutex;
use sql::catalog::Catalog;
use sql::engine::Engine;
use storage::GroupId;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use self::ask::{Ask, Told};
use self::book::Book;
use self::clock::PositionClock;
use self::contact::Contact;
use self::detect::Heard;
use self::functions::Questions;
use self::identity::{Member, Stored};
use self::leads::Leads;
use self::revoke::Vouched;
use crate::Failure;
use crate::feeds::Sources;
use crate::follow::{Everywhere, Follows};
use crate::peer::{Lane, PeerTls, Peers, Unreachable};
use crate::remote;
use crate::serve::Sessions;

pub use self::detect::detect;
pub use self::fellows::fellows;
pub use self::functions::functions;
pub use self::keep::keep;
pub use self::open::{Watcher, load, placement, settled};
pub use self::status::NodeStatus;
pub use self::transport::Way;

/// How long a question to another node may take.
pub const ASK_TIME_MAX: Duration = Duration::from_secs(5);

/// How long it may take to open a stream; who needs it looks for another node then.
const OPEN_TIME_MAX: Duration = Duration::from_millis(500);

/// What the settings say of the cluster.
#[derive(Clone)]
pub struct Place {
    /// Folder of the node.
    pub data: PathBuf,
    /// Where other nodes reach this one, `host:port`; empty: nowhere.
    pub address: String,
    /// Where clients reach it.
    pub client_address: String,
    /// Where it stands: `region`, `zone`, ...
    pub locality: BTreeMap<String, String>,
    /// Nodes that may know a cluster (`--join`).
    pub seeds: Vec<String>,
    /// After so long a node that does not answer is replaced.
    pub replace_after: Duration,
}

/// This node in its cluster.
pub struct Cluster {
    place: Place,
    stored: Mutex<Stored>,
    /// Set once this node is a member.
    member: watch::Sender<Option<Member>>,
    book: Book,
    heard: Heard,
    clock: Arc<PositionClock>,
    leads: Leads,
    /// Who votes where this node has a replica; `None` before that was looked at.
    voters: Mutex<Option<BTreeSet<u32>>>,
    vouched: Vouched,
    /// Groups whose catalog is not read yet since the start.
    unread: Mutex<BTreeSet<GroupId>>,
    /// It has had of all groups what their leaders had, at a moment since the start.
    settled: AtomicBool,
    contact: Contact,
    /// The processes that nodes were met as.
    runs: Mutex<BTreeMap<u32, Run>>,
    /// Names this process.
    run: u64,
    peers: OnceLock<Arc<Peers>>,
    parts: OnceLock<Parts>,
    /// Held by who goes over the journal for what is left of a row.
    pub(crate) verifying: Mutex<()>,
    /// Where clients of other nodes are served.
    sessions: OnceLock<Weak<Sessions>>,
    questions: Questions,
    /// The directory has changed, or who leads.
    changed: Notify,
    /// What this node has of groups that it does not hold, and what it gives of those it does.
    follows: Follows,
    /// What the others have.
    everywhere: Everywhere,
    /// What this node gives of the feed to readers elsewhere.
    sources: Sources,
    /// What this node gives of views to readers elsewhere.
    views: remote::Sources,
    /// Where SQL and what asks it run.
    sql: Handle,
}

/// A process of another node.
struct Run {
    run: u64,
    address: String,
}

/// What is there once the node's groups are open.
struct Parts {
    raft: Arc<raft::Node>,
    engine: Arc<Engine>,
    journal: Journal,
    feed: Feed,
}

impl Cluster {
    /// Of a node that is not connected yet. `used`: its journal has something. Call it in the
    /// runtime of SQL.
    pub fn of(place: Place, used: bool) -> Result<Arc<Cluster>, Failure> {
        let stored = Stored::of(&place.data, used).map_err(|error| {
            let file = identity::path(&place.data);
            format!("{}: {error}", file.display())
        })?;
        let run = rand::random();
        Ok(Arc::new(Cluster {
            member: watch::Sender::new(stored.member),
            stored: Mutex::new(stored),
            book: Book::of(&place.data),
            place,
            heard: Heard::default(),
            clock: Arc::default(),
            leads: Leads::new(run),
            voters: Mutex::default(),
            vouched: Vouched::default(),
            unread: Mutex::default(),
            settled: AtomicBool::new(false),
            contact: Contact::new(),
            runs: Mutex::default(),
            run,
            peers: OnceLock::new(),
            parts: OnceLock::new(),
            verifying: Mutex::new(()),
            sessions: OnceLock::new(),
            questions: Questions::default(),
            changed: Notify::new(),
            follows: Follows::default(),
            everywhere: Everywhere::default(),
            sources: Sources::default(),
            views: remote::Sources::default(),
            sql: Handle::current(),
        }))
    }

    /// Gets the way to other nodes; connections live on the runtime that this is called on.
    pub fn connect(self: &Arc<Cluster>, tls: PeerTls) {
        let peers = Peers::new(self.clone(), tls, crate::peer::Options::default());
        assert!(self.peers.set(peers).is_ok(), "a node connects once");
    }

    /// Gets what serves the clients of other nodes.
    pub fn serve_sessions(&self, sessions: &Arc<Sessions>) {
        let given = self.sessions.set(Arc::downgrade(sessions));
        assert!(given.is_ok(), "a node serves its sessions in one place");
    }

    fn sessions(&self) -> Option<Arc<Sessions>> {
        self.sessions.get()?.upgrade()
    }

    /// Gets what answers other nodes' requests.
    pub fn attach(&self, raft: Arc<raft::Node>, engine: Arc<Engine>, journal: Journal) {
        let feed = Feed::new(journal.clone(), engine.groups().clone());
        let parts = Parts {
            raft,
            engine,
            journal,
            feed,
        };
        assert!(self.parts.set(parts).is_ok(), "a node has one engine");
    }

    /// The clock that positions are made of here.
    pub fn clock(&self) -> &Arc<PositionClock> {
        &self.clock
    }

    /// The cluster and this node's number in it, once there is one.
    pub fn member(&self) -> Option<Member> {
        *self.member.borrow()
    }

    /// This node's number; 0 while it has none.
    pub fn me(&self) -> u32 {
        self.member().map_or(0, |member| member.node)
    }

    /// Is this node about to write the directory of a new cluster?
    pub fn is_founding(&self) -> bool {
        self.stored.lock().founding
    }

    /// The directory is written.
    pub fn founded(&self) -> std::io::Result<()> {
        self.stored.lock().founded(&self.place.data)
    }

    /// The journal is open. Said before other nodes are answered: nothing is voted before.
    pub fn journal_opened(&self) -> std::io::Result<()> {
        self.stored.lock().opened(&self.place.data)
    }

    /// Can other nodes reach this one?
    pub fn is_reachable(&self) -> bool {
        !self.place.address.is_empty()
    }

    /// Something has changed that placements may depend on.
    pub fn note_change(&self) {
        self.changed.notify_one();
    }

    /// Becomes a member, durably. Others hear the new name: old connections end.
    fn become_member(&self, member: Member, founding: bool) -> std::io::Result<()> {
        let mut stored = self.stored.lock();
        if stored.member.is_some() {
            // Somebody else was quicker.
            return Ok(());
        }
        stored.join(&self.place.data, member, founding)?;
        drop(stored);
        self.member.send_replace(Some(member));
        // The leader of the directory, too, has met this node as a stranger, and would go on to
        // refuse it what only nodes of the cluster may ask.
        if let Some(peers) = self.peers.get() {
            peers.forget_all();
        }
        Ok(())
    }

    fn parts(&self) -> Option<&Parts> {
        self.parts.get()
    }

    /// The node's replicas, once they are open.
    pub(crate) fn raft(&self) -> Option<&Arc<raft::Node>> {
        Some(&self.parts()?.raft)
    }

    /// What sessions share, once the node's groups are open.
    pub fn engine(&self) -> Option<&Arc<Engine>> {
        Some(&self.parts()?.engine)
    }

    /// The journal, likewise.
    pub fn journal(&self) -> Option<&Journal> {
        Some(&self.parts()?.journal)
    }

    /// What the journal has for others, likewise.
    pub fn feed(&self) -> Option<&Feed> {
        Some(&self.parts()?.feed)
    }

    /// Copies of groups, here and elsewhere.
    pub fn follows(&self) -> &Follows {
        &self.follows
    }

    /// What the others have.
    pub(crate) fn everywhere(&self) -> &Everywhere {
        &self.everywhere
    }

    /// Where SQL and what asks it run.
    pub(crate) fn sql(&self) -> &Handle {
        &self.sql
    }

    /// What this node gives of the feed to readers elsewhere.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// What this node gives of views to readers elsewhere.
    pub fn view_sources(&self) -> &remote::Sources {
        &self.views
    }

    /// The newest catalog, likewise.
    pub fn catalog(&self) -> Option<Arc<Catalog>> {
        Some(self.parts()?.engine.catalog())
    }

    /// Where a node is reached.
    fn address(&self, node: u32) -> Option<String> {
        if let Some(known) = self.book.find(node) {
            return Some(known);
        }
        let catalog = self.catalog()?;
        let node = catalog.node(node)?;
        (!node.address.is_empty()).then(|| node.address.clone())
    }

    /// The other nodes that are not gone.
    pub(crate) fn others(&self) -> Vec<u32> {
        let me = self.me();
        let Some(catalog) = self.catalog() else {
            return Vec::new();
        };
        let there = |node: &&Arc<sql::catalog::Node>| {
            node.number != me && node.state != sql::catalog::NodeState::Gone
        };
        catalog
            .nodes()
            .filter(there)
            .map(|node| node.number)
            .collect()
    }

    /// Which node leads a group, as far as this one knows.
    pub fn leader(&self, group: GroupId) -> Option<u32> {
        self.parts()?.raft.leader(group).map(|node| node.0)
    }

    /// Which node says that it leads a group that is not held here.
    pub(crate) fn leads_elsewhere(&self, group: GroupId) -> Option<u32> {
        let said = self.leads.leader(group, |node| self.is_live(node));
        said.map(|(node, _)| node)
    }

    /// Sends a request to a node.
    pub async fn call(
        &self,
        node: u32,
        lane: Lane,
        request: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, Unreachable> {
        let unknown = || Unreachable::Unconnected {
            address: format!("node {node}"),
            why: "its address is not known".into(),
        };
        let peers = self.peers.get().ok_or_else(unknown)?;
        let address = self.address(node).ok_or_else(unknown)?;
        peers.call(&address, lane, request, deadline).await
    }

    /// Opens a stream to a node.
    pub async fn open(
        &self,
        node: u32,
        opening: Bytes,
    ) -> Result<crate::peer::PeerStream, Unreachable> {
        let unknown = || Unreachable::Unconnected {
            address: format!("node {node}"),
            why: "its address is not known".into(),
        };
        let peers = self.peers.get().ok_or_else(unknown)?;
        let address = self.address(node).ok_or_else(unknown)?;
        let opened = tokio::time::timeout(OPEN_TIME_MAX, peers.open(&address, opening));
        opened.await.unwrap_or_else(|_| {
            Err(Unreachable::Unconnected {
                address,
                why: format!("no connection was made within {OPEN_TIME_MAX:?}"),
            })
        })
    }

    /// Asks the node at an address.
    async fn ask_at(&self, address: &str, ask: &Ask, deadline: Duration) -> Result<Told, String> {
        let peers = self.peers.get().ok_or("this node has no --peer-listen")?;
        let called = peers.call(address, Lane::Control, ask.encode(), deadline);
        let answer = called.await.map_err(|error| error.to_string())?;
        Told::decode(&answer).ok_or_else(|| format!("the node at {address} gave no answer"))
    }

    /// Asks a node.
    pub(crate) async fn ask(
        &self,
        node: u32,
        ask: &Ask,
        deadline: Duration,
    ) -> Result<Told, String> {
        match self.address(node) {
            Some(address) => self.ask_at(&address, ask, deadline).await,
            None => Err(format!("the address of node {node} is not known")),
        }
    }

    /// The time to a node and back, as last measured.
    pub fn round_trip(&self, node: u32) -> Option<Duration> {
        self.peers.get()?.round_trip(&self.address(node)?)
    }

    /// Has this node streams to a node: sessions that run there, copies that come from there?
    fn has_streams(&self, node: u32) -> bool {
        let peers = self.peers.get();
        peers.is_some_and(|peers| self.address(node).is_some_and(|at| peers.has_streams(&at)))
    }

    /// How long a node has not answered; `None`: never since the start.
    pub fn unproven(&self, node: u32) -> Option<Duration> {
        self.heard.unproven(node)
    }

    /// How long a node has not been heard; `None`: never since the start.
    pub fn silence(&self, node: u32) -> Option<Duration> {
        self.heard.silence(node)
    }
}

/// Has anything been written to a data folder's journal?
pub fn is_used(data: &Path) -> bool {
    let journal = crate::start::journal_folder(data);
    let is_written = |file: std::io::Result<std::fs::DirEntry>| {
        file.is_ok_and(|file| file.file_name() != "lock")
    };
    std::fs::read_dir(journal).is_ok_and(|mut files| files.any(is_written))
}
