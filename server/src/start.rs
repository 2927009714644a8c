//! A node's life: open the journal, the tables and the groups, replay, listen, end in order.

use std::io::Write as _;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use journal::{GroupId, Journal};
use rand::Rng as _;
use sql::changes::Log;
use sql::engine::{Engine, Limits, Parts};
use sql::meter::Latencies;
use storage::{Groups, StoreOptions};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use wire::ErrorFields;

use crate::Failure;
use crate::authenticate::Login;
use crate::changes::{self, FeedMeter, MeteredFeed};
use crate::cluster::{self, Cluster};
use crate::couriers;
use crate::drain::{Control, Drain};
use crate::erase;
use crate::follow;
use crate::gateway::{self, Nodes};
use crate::http::{self, Http, Stage, Told};
use crate::peer::{self, PeerTls};
use crate::serve::Sessions;
use crate::settings::{self, Settings};
use crate::system::{SystemClock, SystemRandom};
use crate::timed::TimedDisk;
use crate::views;

/// Threads of Raft's runtime, on however many cores.
const RAFT_THREADS_MAX: usize = 4;
/// A checkpoint is written when the tables hold this much in memory.
const CHECKPOINT_BYTES: u64 = 64 << 20;
/// Parts of a tree's usual memory at which a node flushes it, each node at another one.
const FLUSH_AT: Range<f64> = 0.6..1.0;
/// Connections that are kept for superusers, as `superuser_reserved_connections` says.
const SUPERUSER_CONNECTIONS: u32 = 3;
/// Sessions that are told to end have ended by then.
const SESSIONS_END: Duration = Duration::from_secs(10);
/// Between two looks at which sessions have come to be idle.
const SESSIONS_LOOK: Duration = Duration::from_millis(10);
/// What a node says of itself before clients can connect.
const OPENS: &str = "it opens its files";
/// What it says while it is in no cluster.
const WAITS: &str = "it waits for a cluster to take it in, or for freehold init";
/// The role that the first start makes.
const SUPERUSER: &str = "postgres";
/// Between two looks at recorded outcomes that are too old.
const OUTCOMES_LOOK: Duration = Duration::from_secs(600);
/// Between two removals of one look.
const OUTCOMES_PAUSE: Duration = Duration::from_millis(200);
/// Old versions of rows stay readable for this long, beyond what open snapshots hold.
pub(crate) const HORIZON: Duration = Duration::from_secs(60);

/// Runs a server until a signal asks it to end; prints where it listens once it is ready.
pub fn main(settings: Settings) -> Result<(), Failure> {
    let runtime = runtime(settings.connections_max)?;
    runtime.block_on(async {
        let mut ending = Ending::listen()?;
        let node = tokio::select! {
            biased;
            () = ending.asked() => return Ok(()),
            node = Node::start(&settings) => node?,
        };
        let mut out = std::io::stdout();
        writeln!(out, "{}{}", cluster::local::READY, node.address)?;
        out.flush()?;
        ending.asked().await;
        tracing::info!("shutting down");
        node.stop_within(ending.asked()).await;
        Ok(())
    })
}

/// The runtime of connections and SQL. A statement that computes for long leaves its thread to
/// it (`block_in_place`), so there may be as many of those as connections.
fn runtime(connections_max: u32) -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .thread_name("sql")
        .max_blocking_threads(connections_max as usize + 64)
        .enable_all()
        .build()
}

/// SIGTERM and Ctrl-C, from the moment that it is made.
pub struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Ending {
    /// From now on these signals are kept for [`Ending::asked`] instead of killing the process.
    pub fn listen() -> std::io::Result<Ending> {
        Ok(Ending {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Returns when one has come.
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A running node.
pub struct Node {
    /// Where clients connect.
    pub address: SocketAddr,
    journal: Journal,
    raft: Arc<raft::Node>,
    raft_runtime: RaftRuntime,
    /// What goes on for ever.
    tasks: Vec<JoinHandle<()>>,
    /// The connections of other nodes, if there can be some.
    peers: Option<JoinHandle<()>>,
    listening: JoinHandle<()>,
    ending: watch::Sender<bool>,
    /// Ends the connections of other nodes.
    parting: watch::Sender<bool>,
    http: Option<Http>,
    sessions: Arc<Sessions>,
    drain: Arc<Drain>,
    control: Option<Control>,
    drain_timeout: Duration,
}

impl Node {
    /// Starts a node; returns when clients can connect.
    pub async fn start(settings: &Settings) -> Result<Node, Failure> {
        let tls = match &settings.tls {
            Some((certificates, key)) => Some(
                wire::tls::from_files(certificates, key)
                    .map_err(|e| format!("--tls-cert, --tls-key: {e}"))?,
            ),
            None => None,
        };
        settings.usable()?;
        let listener = bind("--listen", settings.listen).await?;
        let address = listener.local_addr()?;
        let config = wire::Config {
            tls,
            connections_max: settings.connections_max as usize,
            authentication_timeout: settings.authentication_timeout,
            shutdown_grace: settings.drain_timeout + SESSIONS_END,
            ..wire::Config::default()
        };
        let early = Early::refuse(listener, config.clone());
        let http = settings.http.map(http::serve).transpose()?;
        enter(&http, Stage::Starting(OPENS));
        let raft_runtime = RaftRuntime::start()?;
        let (ending, ended) = watch::channel(false);
        let used = cluster::is_used(&settings.data);
        let (parting, parted) = watch::channel(false);
        let runtime = raft_runtime.handle().clone();
        let (cluster, peers) = connect(settings, address, used, &runtime, parted, &http).await?;
        enter(&http, Stage::Starting(OPENS));
        let fsyncs: Arc<Latencies> = Arc::default();
        let journal = open_journal(settings, &fsyncs)?;
        cluster.journal_opened()?;
        let groups = open_tables(settings, &cluster)?;
        groups.number_node(u64::from(cluster.me()));
        let raft = open_raft(settings, &journal, &groups, &cluster, &runtime);
        let feed: Arc<FeedMeter> = Arc::default();
        let (engine, log) = engine(settings, &journal, &groups, &raft, &feed, &cluster)?;
        groups.observe(Arc::new(cluster::Watcher::new(&cluster, engine.observer())));
        cluster.attach(raft.clone(), engine.clone(), journal.clone());
        raft.open(cluster.is_founding()).await?;
        if !cluster.is_reachable() && raft.replicas(GroupId::DIRECTORY).len() > 1 {
            return Err(
                "this node is one of several: give --peer-listen, so that they meet".into(),
            );
        }
        follow::open(&cluster, &groups)?;
        groups.all_opened();
        cluster::load(&cluster, &engine, &groups).await?;
        bootstrap(&engine, &groups, settings).await?;
        if cluster.is_founding() {
            cluster.founded()?;
        }

        let nodes: Arc<dyn Nodes> = match cluster.is_reachable() {
            true => cluster.clone(),
            false => Arc::new(gateway::Alone),
        };
        engine.activities().number_node(cluster.me());
        let sessions = Arc::new(Sessions::new(engine.clone(), nodes));
        let login = Arc::new(Login::new(engine.clone(), settings.insecure));
        let drain = Drain::new(raft.clone(), cluster.clone());
        let control = Control::listen(&settings.data, drain.clone());
        let keeper = raft.clone();
        let mut tasks = vec![runtime.spawn(async move {
            if let Err(error) = keeper.keep().await {
                tracing::error!(%error, "no checkpoint can be written, the process ends");
                std::process::abort();
            }
        })];
        runtime.spawn(forget_outcomes(groups));
        let couriers = couriers::keep(engine.clone(), log, settings.erase_after);
        tasks.push(runtime.spawn(couriers));
        let erasing = erase::keep(cluster.clone(), raft.clone(), settings.erase_after);
        tasks.push(tokio::spawn(erasing));
        if cluster.is_reachable() {
            tasks.push(runtime.spawn(cluster::detect(cluster.clone())));
            tasks.push(tokio::spawn(cluster::keep(cluster.clone())));
            tasks.push(tokio::spawn(follow::keep(cluster.clone())));
            tasks.push(tokio::spawn(cluster.clone().announce()));
            cluster::settled(&cluster).await;
        }
        // Whose client is connected elsewhere comes no sooner than others: what leads here may know less of
        // other owners than the node that it comes from.
        cluster.serve_sessions(&sessions);
        let listening = tokio::spawn(wire::run(
            early.end().await?,
            config,
            login,
            sessions.clone(),
            told(ended),
        ));
        let told = Told {
            journal: journal.clone(),
            fsyncs,
            raft: raft.clone(),
            engine,
            drain: drain.clone(),
            cluster,
            feed,
            connections_max: settings.connections_max,
            erase_after: settings.erase_after,
        };
        enter(&http, Stage::Serving(told));
        tracing::info!(%address, data = %settings.data.display(), "ready");
        Ok(Node {
            address,
            journal,
            raft,
            raft_runtime,
            tasks,
            peers,
            listening,
            ending,
            parting,
            http,
            sessions,
            drain,
            control,
            drain_timeout: settings.drain_timeout,
        })
    }

    /// Ends in order: hands over what it leads, lets the clients come to an end (57P01), writes a
    /// checkpoint, closes the journal.
    pub async fn stop(self) {
        self.stop_within(std::future::pending()).await;
    }

    /// The same; when `hurry` resolves, clients get no more time.
    pub async fn stop_within(mut self, hurry: impl Future<Output = ()>) {
        // Nobody asks for more from now on.
        drop(self.control.take());
        self.drain.begin().await;
        self.end_sessions(hurry).await;
        enter(&self.http, Stage::Ending);
        self.tasks.iter().for_each(JoinHandle::abort);
        if let Err(error) = self.raft.checkpoint().await {
            tracing::warn!(%error, "no checkpoint at the end; the journal will be replayed");
        }
        self.raft.shutdown().await;
        self.parting.send_replace(true);
        if let Some(peers) = self.peers.take()
            && let Err(error) = peers.await
        {
            tracing::warn!(%error, "the connections of other nodes did not end in order");
        }
        let Node {
            journal,
            raft_runtime,
            // It tells that the process lives until the journal is closed.
            http: _http,
            ..
        } = self;
        drop(raft_runtime);
        if let Err(error) = tokio::task::spawn_blocking(move || journal.close()).await {
            tracing::warn!(%error, "the journal did not close in order");
        }
    }
}

impl Node {
    /// Closes the listener and waits for the sessions: one that is idle ends at once, the others
    /// when they come to be, or when their time is over.
    async fn end_sessions(&mut self, hurry: impl Future<Output = ()>) {
        self.ending.send_replace(true);
        let sessions = self.sessions.clone();
        let retiring = async {
            loop {
                sessions.retire_idle();
                tokio::time::sleep(SESSIONS_LOOK).await;
            }
        };
        let grace = async {
            tokio::select! {
                () = retiring => {}
                () = tokio::time::sleep(self.drain_timeout) => {}
                () = hurry => {}
            }
            loop {
                sessions.terminate_all();
                tokio::time::sleep(SESSIONS_LOOK).await;
            }
        };
        tokio::select! {
            biased;
            ended = &mut self.listening => {
                if let Err(error) = ended {
                    tracing::warn!(%error, "the listener did not end in order");
                }
            }
            () = grace => {}
        }
    }
}

/// Raft's tasks are short and wake each other all the time, mostly within one group. On a second
/// thread they run sooner only where a core has nothing else to do.
fn raft_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).clamp(1, RAFT_THREADS_MAX)
}

/// The threads of Raft. Dropped, also where a start fails, they end by themselves: in the runtime
/// of SQL nobody may wait for them.
struct RaftRuntime(Option<Runtime>);

impl RaftRuntime {
    fn start() -> std::io::Result<RaftRuntime> {
        let runtime = Builder::new_multi_thread()
            .thread_name("raft")
            .worker_threads(raft_threads())
            .enable_all()
            .build()?;
        Ok(RaftRuntime(Some(runtime)))
    }

    fn handle(&self) -> &Handle {
        let runtime = self.0.as_ref();
        runtime.expect("it is there until it is dropped").handle()
    }
}

impl Drop for RaftRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Clients that come before the node is ready, and are told so. Dropped, where a start fails, it
/// leaves the port.
struct Early {
    ready: Arc<Notify>,
    refusing: JoinHandle<TcpListener>,
}

impl Early {
    fn refuse(listener: TcpListener, config: wire::Config) -> Early {
        let ready = Arc::new(Notify::new());
        let end = ready.clone();
        let refusing = tokio::spawn(async move {
            let why = ErrorFields::fatal("57P03", "the database system is starting up")
                .with_hint("Try again in a moment, or go to another node.");
            wire::refuse(listener, &config, &why, end.notified()).await
        });
        Early { ready, refusing }
    }

    /// The listener, for clients that are let in.
    async fn end(mut self) -> Result<TcpListener, Failure> {
        self.ready.notify_one();
        let listener = (&mut self.refusing).await;
        Ok(listener.map_err(|error| format!("the listener is lost: {error}"))?)
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        self.refusing.abort();
    }
}

async fn bind(flag: &str, listen: SocketAddr) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(listen).await;
    Ok(bound.map_err(|e| {
        format!("can't listen on {listen}: {e}; choose another address with {flag}")
    })?)
}

/// Who asks over HTTP is told, if anybody can ask.
fn enter(http: &Option<Http>, stage: Stage) {
    if let Some(http) = http {
        http.enter(stage);
    }
}

/// Returns when it is said that something ends.
async fn told(mut ended: watch::Receiver<bool>) {
    // An error means that the node is dropped: then it ends, too.
    let _ = ended.wait_for(|ended| *ended).await;
}

/// This node in its cluster, once it is in one, and the task that serves other nodes.
async fn connect(
    settings: &Settings,
    client_address: SocketAddr,
    used: bool,
    runtime: &Handle,
    parted: watch::Receiver<bool>,
    http: &Option<Http>,
) -> Result<(Arc<Cluster>, Option<JoinHandle<()>>), Failure> {
    let mut place = cluster::Place {
        data: settings.data.clone(),
        address: String::new(),
        client_address: client_address.to_string(),
        locality: settings.locality.clone(),
        seeds: settings.join.clone(),
        replace_after: settings.replace_after,
    };
    let Some(listen) = settings.peer_listen else {
        let cluster = Cluster::of(place, used)?;
        if cluster.member().is_none() {
            cluster.found()?;
        }
        return Ok((cluster, None));
    };
    let listener = bind("--peer-listen", listen).await?;
    let listening = listener.local_addr()?;
    let advertised = settings.peer_advertise.clone();
    place.address = advertised.unwrap_or_else(|| listening.to_string());
    let tls = match &settings.cluster_tls {
        Some((ca, certificate, key)) => PeerTls::from_files(ca, certificate, key)?,
        None => PeerTls::Plain,
    };
    tls.check(listening)?;
    tracing::info!(address = place.address, "listening for other nodes");
    let cluster = Cluster::of(place, used)?;
    let serving = peer::listen(listener, cluster.clone(), tls.clone(), told(parted));
    let peers = runtime.spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "other nodes are not served");
        }
    });
    let inside = runtime.enter();
    cluster.connect(tls);
    drop(inside);
    match cluster.member() {
        Some(_) => {}
        None if settings.join.is_empty() => cluster.found()?,
        None => {
            enter(http, Stage::Starting(WAITS));
            cluster.wait_for_member().await?;
        }
    }
    Ok((cluster, Some(peers)))
}

fn open_raft(
    settings: &Settings,
    journal: &Journal,
    groups: &Arc<Groups>,
    cluster: &Arc<Cluster>,
    runtime: &Handle,
) -> Arc<raft::Node> {
    let transport: Arc<dyn raft::Transport> = match cluster.is_reachable() {
        true => Arc::new(cluster::Way(cluster.clone())),
        false => Arc::new(raft::Alone),
    };
    let raft = raft::Node::new(
        journal.clone(),
        groups.clone(),
        raft_options(settings),
        runtime.clone(),
        raft::NodeId(cluster.me()),
        transport,
    );
    if cluster.is_reachable() {
        raft.set_placement(cluster::placement(cluster));
    }
    raft
}

/// Removes the outcomes of transactions that nobody may ask for any more, for ever.
async fn forget_outcomes(groups: Arc<Groups>) {
    loop {
        tokio::time::sleep(OUTCOMES_LOOK).await;
        let before = storage::outcomes_kept(groups.clock().unix_micros());
        for group in groups.all() {
            // What can't be removed now is removed at the next look.
            while let Ok(storage::OUTCOMES_REMOVED_MAX) = group.remove_outcomes(before) {
                // The next call reads what this one has left once it is applied.
                tokio::time::sleep(OUTCOMES_PAUSE).await;
            }
        }
    }
}

fn open_journal(settings: &Settings, fsyncs: &Arc<Latencies>) -> Result<Journal, Failure> {
    let options = journal::Options {
        segment_bytes: settings.segment_bytes,
        ..journal::Options::default()
    };
    Ok(Journal::open(
        Arc::new(TimedDisk(fsyncs.clone())),
        &journal_folder(&settings.data),
        options,
    )?)
}

fn open_tables(settings: &Settings, cluster: &Cluster) -> Result<Arc<Groups>, Failure> {
    let usual = StoreOptions::default();
    // All replicas and copies get the same writes: they are not to flush at the same moment.
    let share = rand::rng().random_range(FLUSH_AT);
    let options = StoreOptions {
        cache_bytes: settings.cache_bytes,
        tree_memtable_bytes_max: (usual.tree_memtable_bytes_max as f64 * share) as u64,
        ..usual
    };
    let store = storage::open(
        settings.table_store,
        &tables_folder(&settings.data),
        options,
    )?;
    Ok(Groups::new(store, cluster.clock().clone()))
}

/// The journal within a node's folder.
pub fn journal_folder(data: &Path) -> std::path::PathBuf {
    data.join("journal")
}

/// The tables within a node's folder.
pub fn tables_folder(data: &Path) -> std::path::PathBuf {
    data.join("tables")
}

fn raft_options(settings: &Settings) -> raft::Options {
    raft::Options {
        checkpoint_timeout: settings.checkpoint_timeout,
        checkpoint_bytes: CHECKPOINT_BYTES,
        retain_time: settings.retain_time,
        retain_bytes: settings.retain_bytes,
        horizon: HORIZON,
    }
}

fn engine(
    settings: &Settings,
    journal: &Journal,
    groups: &Arc<Groups>,
    raft: &Arc<raft::Node>,
    meter: &Arc<FeedMeter>,
    cluster: &Arc<Cluster>,
) -> Result<(Arc<Engine>, Arc<dyn Log>), Failure> {
    // At least one place is for everybody.
    let reserved = SUPERUSER_CONNECTIONS.min(settings.connections_max - 1);
    let feed = MeteredFeed {
        feed: feed::Feed::new(journal.clone(), groups.clone()),
        meter: meter.clone(),
    };
    let log = changes::log(&feed, groups, cluster);
    let mut relations = changes::relations(&log, groups);
    relations.extend(views::relations(raft, journal, cluster));
    let mut functions = changes::functions(&log, groups);
    functions.extend(cluster::functions(cluster));
    functions.push(erase::function(cluster));
    let engine = Engine::new(Parts {
        groups: groups.clone(),
        propose: raft.propose(),
        cluster: cluster::fellows(cluster, groups),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        relations,
        functions,
        settings: shown(settings, reserved),
        limits: Limits {
            sessions_max: (settings.connections_max - reserved) as usize,
            ..Limits::default()
        },
    })?;
    Ok((engine, log))
}

/// What `SHOW` tells of the settings that this node was started with.
fn shown(settings: &Settings, reserved: u32) -> Vec<(String, String)> {
    let given = [
        (
            "log_min_duration_statement",
            settings.log_min_duration_ms.to_string(),
        ),
        ("max_connections", settings.connections_max.to_string()),
        ("superuser_reserved_connections", reserved.to_string()),
        ("ssl", settings.tls.is_some().to_string()),
        (
            "freehold.erase_after",
            format!("{}ms", settings.erase_after.as_millis()),
        ),
    ];
    given.map(|(name, value)| (name.into(), value)).into()
}

/// Reads the catalogs of all groups, the directory's first. All of them are replayed, but for
/// copies that only their sources could continue.
pub fn load(engine: &Engine, groups: &Groups) -> Result<(), Failure> {
    engine.load(GroupId::DIRECTORY)?;
    for group in groups.all() {
        if group.id() != GroupId::DIRECTORY && group.ready() {
            engine.load(group.id())?;
        }
    }
    Ok(())
}

/// On the first start: the superuser, with its password if one is given.
async fn bootstrap(engine: &Engine, groups: &Groups, settings: &Settings) -> Result<(), Failure> {
    let directory = groups.get(GroupId::DIRECTORY);
    if directory.is_none_or(|directory| directory.term().is_none()) {
        // Others have begun this cluster.
        return Ok(());
    }
    let verifier = settings
        .superuser_password
        .as_deref()
        .map(|password| wire::scram::Verifier::from_password(password).to_string());
    let exists = engine.catalog().role_by_name(SUPERUSER).is_some();
    if !exists && verifier.is_none() && !settings.insecure {
        return Err(settings::no_password().into());
    }
    if exists && verifier.is_some() {
        tracing::warn!(
            "--superuser-password is for the first start and changes nothing now; \
             ALTER ROLE postgres PASSWORD '...' does"
        );
    }
    let first = engine
        .bootstrap(verifier)
        .map_err(|stop| format!("{stop:?}"))?;
    let Some(position) = first else { return Ok(()) };
    let directory = groups
        .get(GroupId::DIRECTORY)
        .ok_or("there is no directory")?;
    let (done, told) = tokio::sync::oneshot::channel();
    let tell = move |outcome| {
        // Nobody waits any more: the start has failed elsewhere.
        let _ = done.send(outcome);
    };
    directory.when(position, Box::new(tell));
    match told.await? {
        storage::Outcome::Applied => Ok(()),
        outcome => Err(format!("the first entry was not committed: {outcome:?}").into()),
    }
}
