//! The outgoing connections: one for each address and lane, dialled when it is first needed, kept,
//! and dialled again when somebody needs it after it broke.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::Rng as _;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::frame::Reader;
use super::link::{CallError, Ear, Incoming, Link, Over};
use super::tls::{Sink, Source};
use super::{
    BoxFuture, HELLO_BYTES_MAX, Hello, Lane, OPENING_BYTES_MAX, Options, PeerStream, PeerTls,
    REQUEST_BYTES_MAX, Service, Unreachable, hello,
};

/// Addresses that are known at the same time.
const ADDRESSES_MAX: usize = 4096;
/// A connection that lasted so long was a success: the next attempt comes without a pause.
const SOUND_AFTER: Duration = Duration::from_secs(1);

/// The peers that this node calls.
pub struct Peers {
    shared: Arc<Shared>,
    peers: Mutex<HashMap<String, Arc<Peer>>>,
}

/// What all connections need.
struct Shared {
    service: Arc<dyn Service>,
    tls: PeerTls,
    options: Options,
    /// Connections live here, whoever calls.
    runtime: Handle,
}

impl Peers {
    /// Nobody is called yet. Connections will live on the runtime that this is called on.
    pub fn new(service: Arc<dyn Service>, tls: PeerTls, options: Options) -> Arc<Peers> {
        Arc::new(Peers {
            shared: Arc::new(Shared {
                service,
                tls,
                options,
                runtime: Handle::current(),
            }),
            peers: Mutex::default(),
        })
    }

    /// Sends a request to the node at `address` (`host:port`) and waits for its answer. Attempts to
    /// connect are repeated until the deadline, unless one of the two nodes refuses the other. Once
    /// the request is sent the call fails as soon as the connection does.
    pub fn call(
        &self,
        address: &str,
        lane: Lane,
        request: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, Unreachable>> {
        let route = self.route(address, lane);
        Box::pin(async move {
            let route = route?;
            check_length(&route.address, request.len(), REQUEST_BYTES_MAX)?;
            route.call(request, deadline).await
        })
    }

    /// Opens a stream to the node at `address`. Whether the peer wants it shows when it is used.
    pub fn open(
        &self,
        address: &str,
        opening: Bytes,
    ) -> BoxFuture<'static, Result<PeerStream, Unreachable>> {
        let route = self.route(address, Lane::Sessions);
        Box::pin(async move {
            let route = route?;
            check_length(&route.address, opening.len(), OPENING_BYTES_MAX)?;
            route.open(opening).await
        })
    }

    /// What the node at an address last said of itself, on a connection that may be gone.
    pub fn hello_of(&self, address: &str) -> Option<Hello> {
        self.peers.lock().get(address)?.hello.lock().clone()
    }

    /// The time to the node and back, as last measured on a connection that there is.
    pub fn round_trip(&self, address: &str) -> Option<Duration> {
        let peer = self.peers.lock().get(address)?.clone();
        let mut links = peer.routes.iter().filter_map(|route| route.get()?.link());
        links.find_map(|link| link.round_trip())
    }

    /// Has this node opened streams to the node that have not ended?
    pub fn has_streams(&self, address: &str) -> bool {
        let peer = self.peers.lock().get(address).cloned();
        let route = |peer: &Arc<Peer>| peer.routes[Lane::Sessions as usize - 1].get().cloned();
        let link = peer.as_ref().and_then(route).and_then(|route| route.link());
        link.is_some_and(|link| link.with_streams(|streams| streams.is_any()))
    }

    /// Closes the connections to an address and forgets it: the node has left the cluster.
    pub fn forget(&self, address: &str) {
        let peer = self.peers.lock().remove(address);
        if let Some(peer) = peer {
            peer.close("this node has forgotten the peer");
        }
    }

    /// Closes all connections: this node has another name from now on.
    pub fn forget_all(&self) {
        let peers = std::mem::take(&mut *self.peers.lock());
        for peer in peers.values() {
            peer.close("this node has joined a cluster");
        }
    }

    fn route(&self, address: &str, lane: Lane) -> Result<Arc<Route>, Unreachable> {
        let mut peers = self.peers.lock();
        let peer = match peers.get(address) {
            Some(peer) => peer,
            None if peers.len() >= ADDRESSES_MAX => {
                return Err(Unreachable::Unconnected {
                    address: address.to_owned(),
                    why: format!("{ADDRESSES_MAX} addresses are known already"),
                });
            }
            None => peers.entry(address.to_owned()).or_default(),
        };
        let route = peer.routes[lane as usize - 1].get_or_init(|| {
            Arc::new(Route {
                shared: self.shared.clone(),
                address: address.to_owned(),
                lane,
                way: watch::Sender::new(Way::Closed),
                past: Mutex::default(),
                hello: peer.hello.clone(),
            })
        });
        Ok(route.clone())
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        for peer in self.peers.get_mut().values() {
            peer.close("this node closes its connections");
        }
    }
}

fn check_length(address: &str, bytes: usize, bytes_max: usize) -> Result<(), Unreachable> {
    match bytes <= bytes_max {
        true => Ok(()),
        false => Err(Unreachable::TooLong {
            address: address.to_owned(),
            bytes,
            bytes_max,
        }),
    }
}

/// One address.
#[derive(Default)]
struct Peer {
    hello: Arc<Mutex<Option<Hello>>>,
    /// By lane.
    routes: [OnceLock<Arc<Route>>; Lane::ALL.len()],
}

impl Peer {
    fn close(&self, why: &str) {
        for route in self.routes.iter().filter_map(OnceLock::get) {
            route.close(why);
        }
    }
}

/// The connection to an address on a lane, or the attempts to make it.
struct Route {
    shared: Arc<Shared>,
    address: String,
    lane: Lane,
    way: watch::Sender<Way>,
    past: Mutex<Past>,
    hello: Arc<Mutex<Option<Hello>>>,
}

/// Where a connection stands.
#[derive(Clone)]
enum Way {
    /// There is none, and nobody dials.
    Closed,
    /// Somebody dials.
    Opening,
    /// There is one; it may have ended.
    Open(Arc<Link>),
    /// The last attempt ended with a refusal, and nobody dials.
    Refused(String),
    /// There will be none any more.
    Forgotten,
}

/// What happened before.
#[derive(Default)]
struct Past {
    /// Failures since the last sound connection.
    failures: u32,
    /// When the last attempt or connection began.
    begun: Option<Instant>,
    /// Not before this the next attempt begins.
    pause_until: Option<Instant>,
    /// Why the last one failed, or ended.
    why: Option<String>,
    /// The failure that was logged last: the same one again is no news.
    logged: Option<String>,
}

impl Route {
    fn link(&self) -> Option<Arc<Link>> {
        match &*self.way.borrow() {
            Way::Open(link) if link.is_usable() => Some(link.clone()),
            Way::Open(_) | Way::Closed | Way::Opening | Way::Refused(_) | Way::Forgotten => None,
        }
    }

    async fn call(
        self: &Arc<Route>,
        request: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, Unreachable> {
        let until = Instant::now() + deadline;
        loop {
            let link = self.link_until(until).await?;
            match timeout_at(until, link.call(request.clone())).await {
                Ok(Ok(answer)) => return Ok(answer),
                // It ended before the request was on its way: another one will do.
                Ok(Err(CallError::Unsent)) => {}
                Ok(Err(CallError::Broken(why))) => {
                    return Err(Unreachable::Broken {
                        address: self.address.clone(),
                        why: why.to_string(),
                    });
                }
                Ok(Err(CallError::Failed(why))) => {
                    return Err(Unreachable::Failed {
                        address: self.address.clone(),
                        why,
                    });
                }
                Err(_) => {
                    return Err(Unreachable::Late {
                        address: self.address.clone(),
                        deadline,
                    });
                }
            }
        }
    }

    async fn open(self: &Arc<Route>, opening: Bytes) -> Result<PeerStream, Unreachable> {
        let until = Instant::now() + self.shared.options.handshake_timeout;
        loop {
            let link = self.link_until(until).await?;
            match link.open(opening.clone()) {
                Some(stream) => return Ok(stream),
                None if link.is_usable() => {
                    return Err(self.unconnected("it has as many streams as there may be".into()));
                }
                None => {}
            }
        }
    }

    async fn link_until(self: &Arc<Route>, until: Instant) -> Result<Arc<Link>, Unreachable> {
        match timeout_at(until, self.link_or_dial()).await {
            Ok(link) => link,
            Err(_) => {
                let why = self.past.lock().why.clone();
                let why = why.unwrap_or_else(|| "no connection was made in time".into());
                Err(self.unconnected(why))
            }
        }
    }

    /// A usable connection, dialled if there is none. Each caller sees to it that somebody dials,
    /// and one does; it goes on when the callers have given up, so that short deadlines don't keep a
    /// far peer out of reach.
    async fn link_or_dial(self: &Arc<Route>) -> Result<Arc<Link>, Unreachable> {
        let mut ways = self.way.subscribe();
        loop {
            if let Some(link) = self.link() {
                return Ok(link);
            }
            self.dial();
            match ways
                .wait_for(|way| !matches!(way, Way::Opening))
                .await
                .as_deref()
            {
                Ok(Way::Open(_) | Way::Closed | Way::Opening) => {}
                Ok(Way::Refused(why)) => {
                    return Err(Unreachable::Refused {
                        address: self.address.clone(),
                        why: why.clone(),
                    });
                }
                Ok(Way::Forgotten) | Err(_) => {
                    return Err(self.unconnected("this node has forgotten the peer".into()));
                }
            }
        }
    }

    fn unconnected(&self, why: String) -> Unreachable {
        Unreachable::Unconnected {
            address: self.address.clone(),
            why,
        }
    }

    /// Lets somebody dial unless one does, or there is a connection.
    fn dial(self: &Arc<Route>) {
        let ours = self.way.send_if_modified(|way| {
            let dials = match way {
                Way::Closed | Way::Refused(_) => true,
                Way::Open(link) => !link.is_usable(),
                Way::Opening | Way::Forgotten => false,
            };
            if dials {
                *way = Way::Opening;
            }
            dials
        });
        if ours {
            let route = self.clone();
            self.shared
                .runtime
                .spawn(async move { route.attempt().await });
        }
    }

    /// One attempt, after the pause that earlier failures ask for.
    async fn attempt(self: &Arc<Route>) {
        let pause_until = self.past.lock().pause_until;
        if let Some(at) = pause_until {
            sleep_until(at).await;
        }
        self.past.lock().begun = Some(Instant::now());
        let options = &self.shared.options;
        let way = match timeout(options.handshake_timeout, self.connect()).await {
            Ok(Ok((hello, reader, writer))) => Way::Open(self.establish(hello, reader, writer)),
            Ok(Err(error)) => {
                let (why, refused) = (error.to_string(), error.is_refusal());
                self.failed(&why);
                match refused {
                    true => Way::Refused(why),
                    false => Way::Closed,
                }
            }
            Err(_) => {
                let within = options.handshake_timeout;
                self.failed(&format!("no connection within {within:?}"));
                Way::Closed
            }
        };
        self.way.send_if_modified(|now| match (&*now, way) {
            (Way::Forgotten, Way::Open(link)) => {
                link.end("this node has forgotten the peer");
                false
            }
            (Way::Forgotten, _) => false,
            (_, way) => {
                *now = way;
                true
            }
        });
    }

    /// A connection to where the name leads now, with its handshake.
    async fn connect(&self) -> Result<(Hello, Reader<Source>, Sink), hello::Error> {
        let Shared { service, tls, .. } = &*self.shared;
        let addresses: Vec<_> = tokio::net::lookup_host(&self.address).await?.collect();
        for address in &addresses {
            tls.check(*address).map_err(std::io::Error::other)?;
        }
        let tcp = TcpStream::connect(&addresses[..]).await?;
        tcp.set_nodelay(true)?;
        let (reader, mut writer) = tls.connect(tcp, host(&self.address)).await?;
        let mut reader = Reader::new(reader, HELLO_BYTES_MAX);
        let hello = hello::initiate(&mut reader, &mut writer, &**service, self.lane).await?;
        Ok((hello, reader, writer))
    }

    /// Starts the two tasks of a new connection.
    fn establish(
        self: &Arc<Route>,
        hello: Hello,
        reader: Reader<Source>,
        writer: Sink,
    ) -> Arc<Link> {
        let Route { address, lane, .. } = &**self;
        tracing::debug!(peer = address, %lane, node = hello.identity.node, "connected");
        *self.hello.lock() = Some(hello);
        self.past.lock().logged = None;
        let link = Link::new(*lane);
        let options = &self.shared.options;
        let ping_every = options.ping_every;
        let ear = Ear::new(reader, ping_every, options.silent_pings_max);
        let writing = link.clone();
        self.shared
            .runtime
            .spawn(async move { writing.write(writer, ping_every).await });
        let (route, reading) = (self.clone(), link.clone());
        self.shared
            .runtime
            .spawn(async move { route.attend(&reading, ear).await });
        link
    }

    /// Reads until the connection is over.
    async fn attend(&self, link: &Arc<Link>, mut ear: Ear<Source>) {
        let over = tokio::select! {
            biased;
            why = link.over() => Over { why: why.to_string(), fault: false },
            over = answers(link, &mut ear) => over,
        };
        link.end(&over.why);
        let Route { address, lane, .. } = self;
        match over.fault {
            true => tracing::warn!(peer = address, %lane, why = over.why, "connection closed"),
            false => tracing::info!(peer = address, %lane, why = over.why, "connection lost"),
        }
        let mut past = self.past.lock();
        let lasted = past
            .begun
            .is_some_and(|begun| begun.elapsed() >= SOUND_AFTER);
        if lasted {
            past.failures = 0;
            past.pause_until = None;
        } else {
            past.pause(&self.shared.options);
        }
        past.why = Some(over.why);
    }

    fn failed(&self, why: &str) {
        let mut past = self.past.lock();
        past.pause(&self.shared.options);
        past.why = Some(why.to_owned());
        if past.logged.as_deref() != Some(why) {
            past.logged = Some(why.to_owned());
            tracing::info!(peer = self.address, lane = %self.lane, why, "can't connect");
        }
    }

    fn close(&self, why: &str) {
        if let Way::Open(link) = self.way.send_replace(Way::Forgotten) {
            link.end(why);
        }
    }
}

impl Past {
    /// One more failure: the next attempt waits, the longer the more there were, and never as long
    /// as another node's.
    fn pause(&mut self, options: &Options) {
        let doubled = options.backoff_min * 2_u32.pow(self.failures.min(16));
        let most = doubled.min(options.backoff_max);
        self.failures = self.failures.saturating_add(1);
        let pause = most.mul_f64(rand::rng().random_range(0.5..=1.0));
        self.pause_until = Some(Instant::now() + pause);
    }
}

/// Deals with what comes; a peer that was called asks nothing itself.
async fn answers(link: &Arc<Link>, ear: &mut Ear<Source>) -> Over {
    let mut goodbye = None;
    loop {
        match link.next(ear).await {
            Ok(Incoming::Goodbye(why)) => {
                link.leave();
                goodbye = Some(format!("the peer said goodbye: {why}"));
            }
            Ok(
                Incoming::Request(..)
                | Incoming::Part(..)
                | Incoming::Abandon(_)
                | Incoming::Stream(..),
            ) => {
                return Over::fault("a request from a peer that was called");
            }
            Err(Over { why, fault }) => {
                let why = goodbye.unwrap_or(why);
                return Over { why, fault };
            }
        }
    }
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}
