//! The connections between nodes, over loopback: what arrives, what is refused, what breaks.

mod certificates;
mod handshakes;
mod requests;
mod streams;
mod unsound;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use uuid::Uuid;

use super::frame::{FRAME_BYTES_MAX, Frame, Kind};
use super::*;

/// Longer than anything here takes; a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(30);

/// A node that echoes requests and streams, and does a few odd things when told.
struct Node {
    hello: Mutex<Hello>,
    /// Clusters whose nodes are admitted.
    cluster: Option<Uuid>,
    /// Requests that have begun.
    begun: Semaphore,
    /// Lets waiting requests and streams go on.
    go: Notify,
    /// Names and their streams' fates.
    fates: Mutex<BTreeMap<String, String>>,
    told: Notify,
}

impl Node {
    fn new(number: u32) -> Arc<Node> {
        let cluster = Some(Uuid::from_u128(1));
        Node::of_cluster(number, cluster)
    }

    fn of_cluster(number: u32, cluster: Option<Uuid>) -> Arc<Node> {
        let identity = Identity {
            cluster,
            node: number,
            incarnation: Uuid::from_u128(u128::from(number)),
            address: format!("n{number}:7432"),
            client_address: format!("n{number}:5432"),
        };
        Arc::new(Node {
            hello: Mutex::new(Hello::new(identity, 5, Bytes::from_static(b"claims"))),
            cluster,
            begun: Semaphore::new(0),
            go: Notify::new(),
            fates: Mutex::default(),
            told: Notify::new(),
        })
    }

    /// The fate of the stream with a name.
    async fn fate(&self, name: &str) -> String {
        loop {
            let told = self.told.notified();
            if let Some(fate) = self.fates.lock().remove(name) {
                return fate;
            }
            told.await;
        }
    }

    fn tell(&self, name: &str, fate: String) {
        self.fates.lock().insert(name.to_owned(), fate);
        self.told.notify_waiters();
    }
}

impl Service for Node {
    fn admit(&self, peer: &Hello) -> Result<(), String> {
        match peer.identity.cluster == self.cluster {
            true => Ok(()),
            false => Err("it belongs to another cluster".into()),
        }
    }

    fn hello(&self) -> Hello {
        self.hello.lock().clone()
    }

    fn request(
        self: Arc<Self>,
        peer: Arc<Identity>,
        lane: Lane,
        request: Bytes,
    ) -> BoxFuture<'static, Bytes> {
        Box::pin(async move {
            self.begun.add_permits(1);
            match &request[..] {
                b"who" => format!("node {} on {lane}", peer.node).into(),
                b"wait" => {
                    self.go.notified().await;
                    request
                }
                b"panic" => panic!("a request panics, as this test wants"),
                b"too long" => vec![0; BODY_BYTES_MAX + 1].into(),
                _ if request.len() > BODY_BYTES_MAX => summary(&request).into(),
                _ => request,
            }
        })
    }

    fn stream(
        self: Arc<Self>,
        _peer: Arc<Identity>,
        opening: Bytes,
        mut stream: PeerStream,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let name = String::from_utf8_lossy(&opening).into_owned();
            let fate = match name.split(' ').next().unwrap() {
                "echo" => {
                    let (mut from, mut to) = tokio::io::split(stream);
                    let echoed = tokio::io::copy(&mut from, &mut to).await;
                    let ended = to.shutdown().await;
                    format!("{echoed:?} {ended:?}")
                }
                "sleep" => {
                    self.go.notified().await;
                    let mut all = Vec::new();
                    let read = stream.read_to_end(&mut all).await;
                    format!("{read:?}")
                }
                "refuse" => {
                    stream.reset("no such session");
                    "refused".to_owned()
                }
                // Says something, and does not listen.
                "tell" => {
                    let told = stream.write_all(&vec![7; 100_000]).await;
                    let ended = stream.shutdown().await;
                    format!("{told:?} {ended:?}")
                }
                other => format!("no stream {other}"),
            };
            self.tell(&name, fate);
        })
    }
}

/// A listening node; ends with the value.
struct Listening {
    node: Arc<Node>,
    address: String,
    ending: watch::Sender<bool>,
    task: JoinHandle<Result<(), TlsError>>,
}

impl Listening {
    async fn start(node: Arc<Node>) -> Listening {
        Listening::start_at("127.0.0.1:0", node, PeerTls::Plain, Options::default()).await
    }

    async fn start_at(at: &str, node: Arc<Node>, tls: PeerTls, options: Options) -> Listening {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (ending, mut ended) = watch::channel(false);
        let until = async move {
            let _ = ended.wait_for(|ended| *ended).await;
        };
        let task = tokio::spawn(listen_with(listener, node.clone(), tls, options, until));
        Listening {
            node,
            address,
            ending,
            task,
        }
    }

    /// As if its process was killed.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    async fn end(self) {
        self.ending.send_replace(true);
        self.task.await.unwrap().unwrap();
    }

    async fn begun(&self, count: u32) {
        self.node.begun.acquire_many(count).await.unwrap().forget();
    }

    async fn raw(&self) -> TcpStream {
        let tcp = TcpStream::connect(&self.address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp
    }
}

fn peers(node: Arc<Node>) -> Arc<Peers> {
    Peers::new(node, PeerTls::Plain, Options::default())
}

async fn ask(
    peers: &Peers,
    address: &str,
    request: impl Into<Bytes>,
) -> Result<Bytes, Unreachable> {
    peers.call(address, Lane::Data, request.into(), LONG).await
}

async fn echoes(peers: &Peers, address: &str) {
    assert_eq!(ask(peers, address, "x").await, Ok(Bytes::from_static(b"x")));
}

/// Random bytes of a random length.
fn noise(rng: &mut StdRng, bytes_max: usize) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(0..=bytes_max)];
    rng.fill(&mut bytes[..]);
    bytes
}

/// Length and checksum: what is too long to be echoed.
fn summary(request: &[u8]) -> String {
    format!("{} {}", request.len(), crc32fast::hash(request))
}

async fn ask_owned(peers: Arc<Peers>, address: String) -> Result<Bytes, Unreachable> {
    ask(&peers, &address, "x").await
}
