//! The connections between nodes, over loopback: what arrives, what is refused, what breaks.

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_belong_to_their_requests() {
    let listening = Listening::start(Node::new(1)).await;
    let peers = peers(Node::new(2));
    let mut rng = StdRng::seed_from_u64(1);
    let mut calls = JoinSet::new();
    for number in 0..600 {
        let bytes_max = [10, 1000, 10_000, 100_000][number % 4];
        let request = match number % 60 {
            0 => vec![number as u8; 1 << 20].into(),
            _ => Bytes::from(noise(&mut rng, bytes_max)),
        };
        let lane = Lane::ALL[number / 4 % 4];
        let answer = peers.call(&listening.address, lane, request.clone(), LONG);
        calls.spawn(async move { assert_eq!(answer.await, Ok(request)) });
    }
    while let Some(ended) = calls.join_next().await {
        ended.unwrap();
    }
    for bytes in [0, BODY_BYTES_MAX] {
        let request = Bytes::from(vec![3; bytes]);
        assert_eq!(
            ask(&peers, &listening.address, request.clone()).await,
            Ok(request)
        );
    }
}

/// Length and checksum: what is too long to be echoed.
fn summary(request: &[u8]) -> String {
    format!("{} {}", request.len(), crc32fast::hash(request))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_may_be_longer_than_a_frame() {
    let listening = Listening::start(Node::new(1)).await;
    let peers = peers(Node::new(2));
    let mut rng = StdRng::seed_from_u64(3);
    let mut long = vec![0; REQUEST_BYTES_MAX];
    rng.fill(&mut long[..]);
    let long = Bytes::from(long);
    let mut calls = JoinSet::new();
    for bytes in [
        BODY_BYTES_MAX + 1,
        long.len(),
        2 * link::PART_BYTES + 1,
        60 << 20,
    ] {
        let request = long.slice(..bytes);
        let answer = peers.call(&listening.address, Lane::Data, request.clone(), LONG);
        let expected = match bytes > BODY_BYTES_MAX {
            true => summary(&request).into(),
            false => request,
        };
        calls.spawn(async move { assert_eq!(answer.await, Ok(expected)) });
    }
    while let Some(ended) = calls.join_next().await {
        ended.unwrap();
    }
    let too_long = ask(&peers, &listening.address, vec![0; REQUEST_BYTES_MAX + 1]).await;
    assert!(matches!(too_long, Err(Unreachable::TooLong { .. })));
}

/// A small request that comes behind a long one is written among its parts.
#[tokio::test]
async fn others_pass_between_the_parts_of_a_long_request() {
    const PARTS: usize = 64;
    let link = link::Link::new(Lane::Data);
    let (near, far) = tokio::io::duplex(64 << 10);
    let writing = link.clone();
    tokio::spawn(async move { writing.write(near, LONG).await });
    let mut reader = frame::Reader::new(far, BODY_BYTES_MAX);
    let calling = |request: Bytes| {
        let link = link.clone();
        tokio::spawn(async move { link.call(request).await })
    };
    let long = calling(vec![1; PARTS * link::PART_BYTES].into());
    let mut next = async || loop {
        let frame = reader.next().await.unwrap().unwrap();
        if frame.kind != Kind::Ping {
            break frame;
        }
    };
    assert_eq!(next().await.kind, Kind::Part);
    let small = calling("x".into());
    let mut parts = 1;
    let small_id = loop {
        let frame = next().await;
        match frame.kind {
            Kind::Part => parts += 1,
            kind => {
                assert_eq!((kind, &frame.body[..]), (Kind::Request, &b"x"[..]));
                break frame.id;
            }
        }
    };
    assert!(parts < PARTS / 2, "{parts} parts went before it");
    small.abort();
    // The caller of the long one gives up: the other end is told, and the next one may begin.
    let other = calling(vec![2; 2 * link::PART_BYTES].into());
    long.abort();
    let mut abandoned = None;
    let mut rest = Vec::new();
    while rest.len() < 2 * link::PART_BYTES {
        let frame = next().await;
        match frame.kind {
            Kind::Abandon => abandoned = Some(frame.id),
            Kind::Part | Kind::Request if abandoned.is_some() => {
                assert_ne!(Some(frame.id), abandoned);
                rest.extend_from_slice(&frame.body);
            }
            kind => assert_eq!(kind, Kind::Part),
        }
    }
    assert!(abandoned.is_some_and(|id| id < small_id));
    assert!(rest.iter().all(|byte| *byte == 2));
    other.abort();
}

#[tokio::test]
async fn both_sides_know_who_they_talk_to() {
    let listening = Listening::start(Node::new(1)).await;
    let (peers, address) = (peers(Node::new(2)), &listening.address);
    assert_eq!(peers.hello_of(address), None);
    let who = peers.call(address, Lane::Control, "who".into(), LONG).await;
    assert_eq!(who.unwrap(), "node 2 on control");
    let hello = peers.hello_of(address).unwrap();
    assert_eq!(
        (hello.identity.node, &hello.claims[..]),
        (1, &b"claims"[..])
    );
    // The first ping goes out with the connection; its answer may be on the way still.
    while peers.round_trip(address).is_none() {
        let _ = peers.call(address, Lane::Control, "who".into(), LONG).await;
    }
    peers.forget(address);
    assert_eq!(
        (peers.hello_of(address), peers.round_trip(address)),
        (None, None)
    );
    echoes(&peers, address).await;
}

#[tokio::test]
async fn a_broken_connection_fails_its_calls_and_the_next_call_connects_again() {
    let listening = Listening::start(Node::new(1)).await;
    let (peers, address) = (peers(Node::new(2)), listening.address.clone());
    let waiting: Vec<_> = (0..3)
        .map(|_| tokio::spawn(peers.call(&address, Lane::Data, "wait".into(), LONG)))
        .collect();
    listening.begun(3).await;
    let begun = std::time::Instant::now();
    listening.kill().await;
    for call in waiting {
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error, Unreachable::Broken { .. }), "{error}");
        assert!(error.may_have_been_received());
    }
    assert!(begun.elapsed() < LONG / 2);
    let soon = Duration::from_millis(100);
    let error = peers.call(&address, Lane::Data, "x".into(), soon).await;
    let error = error.unwrap_err();
    assert!(matches!(error, Unreachable::Unconnected { .. }), "{error}");
    assert!(!error.may_have_been_received());
    // A call that is waiting for the node to come back gets its answer.
    let early = tokio::spawn(ask_owned(peers.clone(), address.clone()));
    let again = Listening::start_at(&address, Node::new(1), PeerTls::Plain, Options::default());
    let again = again.await;
    early.await.unwrap().unwrap();
    echoes(&peers, &again.address).await;
}

async fn ask_owned(peers: Arc<Peers>, address: String) -> Result<Bytes, Unreachable> {
    ask(&peers, &address, "x").await
}

#[tokio::test]
async fn a_late_answer_is_late_for_its_call_only() {
    let listening = Listening::start(Node::new(1)).await;
    let (peers, address) = (peers(Node::new(2)), &listening.address);
    let soon = Duration::from_millis(50);
    echoes(&peers, address).await;
    let late = peers.call(address, Lane::Data, "wait".into(), soon).await;
    assert!(matches!(late, Err(Unreachable::Late { .. })));
    listening.node.go.notify_one();
    echoes(&peers, address).await;
}

#[tokio::test]
async fn a_request_that_fails_says_so() {
    let listening = Listening::start(Node::new(1)).await;
    let (peers, address) = (peers(Node::new(2)), &listening.address);
    let error = ask(&peers, address, "panic").await.unwrap_err();
    assert!(matches!(error, Unreachable::Failed { .. }), "{error}");
    let error = ask(&peers, address, "too long").await.unwrap_err();
    assert!(matches!(error, Unreachable::Failed { .. }), "{error}");
    echoes(&peers, address).await;
}

#[tokio::test]
async fn more_calls_than_run_at_once_wait_for_their_turn() {
    let listening = Listening::start(Node::new(1)).await;
    let (peers, address) = (peers(Node::new(2)), &listening.address);
    let mut calls = JoinSet::new();
    for _ in 0..REQUESTS_MAX + 10 {
        calls.spawn(peers.call(address, Lane::Data, "wait".into(), LONG));
    }
    listening.begun(REQUESTS_MAX as u32).await;
    assert_eq!(listening.node.begun.available_permits(), 0);
    // Another lane is not concerned.
    let who = peers.call(address, Lane::Control, "who".into(), LONG).await;
    assert!(who.is_ok());
    while !calls.is_empty() {
        listening.node.go.notify_waiters();
        if let Ok(Some(ended)) = timeout(Duration::from_millis(1), calls.join_next()).await {
            ended.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn nodes_of_two_clusters_refuse_each_other() {
    let listening = Listening::start(Node::new(1)).await;
    let stranger = peers(Node::of_cluster(2, Some(Uuid::from_u128(2))));
    let error = ask(&stranger, &listening.address, "x").await.unwrap_err();
    let why = "the peer refuses: it belongs to another cluster";
    assert!(matches!(&error, Unreachable::Refused { .. }), "{error}");
    assert!(error.to_string().contains(why), "{error}");

    // And the one who connects has a say, too: this one is admitted by everybody.
    struct Tolerant(Arc<Node>);
    impl Service for Tolerant {
        fn admit(&self, _peer: &Hello) -> Result<(), String> {
            Ok(())
        }
        fn hello(&self) -> Hello {
            self.0.hello()
        }
        fn request(
            self: Arc<Self>,
            _: Arc<Identity>,
            _: Lane,
            request: Bytes,
        ) -> BoxFuture<'static, Bytes> {
            Box::pin(async move { request })
        }
        fn stream(
            self: Arc<Self>,
            _: Arc<Identity>,
            _: Bytes,
            _: PeerStream,
        ) -> BoxFuture<'static, ()> {
            Box::pin(async {})
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let tolerant = Arc::new(Tolerant(Node::new(1)));
    let task = tokio::spawn(listen(
        listener,
        tolerant,
        PeerTls::Plain,
        std::future::pending(),
    ));
    let error = ask(&stranger, &address, "x").await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the peer is refused: it belongs"),
        "{error}"
    );
    task.abort();
}

#[tokio::test]
async fn programs_without_a_common_version_say_so_on_both_sides() {
    let listening = Listening::start(Node::new(1)).await;
    let newer = Node::new(2);
    newer.hello.lock().versions = 2..=4;
    let newer = peers(newer);
    let error = ask(&newer, &listening.address, "x").await.unwrap_err();
    assert!(matches!(&error, Unreachable::Refused { .. }), "{error}");
    assert!(error.to_string().contains("versions 2 to 4"), "{error}");

    let both = Node::new(3);
    both.hello.lock().versions = 1..=4;
    echoes(&peers(both), &listening.address).await;
}

/// A connection whose handshake was done by hand.
async fn raw_connection(listening: &Listening, lane: Lane) -> TcpStream {
    let mut tcp = listening.raw().await;
    let (reader, mut writer) = tcp.split();
    let mut reader = frame::Reader::new(reader, HELLO_BYTES_MAX);
    hello::initiate(&mut reader, &mut writer, &*Node::new(2), lane)
        .await
        .unwrap();
    tcp
}

fn encoded(frame: &Frame) -> BytesMut {
    let mut bytes = BytesMut::new();
    frame.encode(&mut bytes);
    bytes
}

/// What a peer says before it closes the connection, but for pings.
async fn last_words(tcp: TcpStream) -> Vec<Frame> {
    let mut reader = frame::Reader::new(tcp, BODY_BYTES_MAX);
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = timeout(LONG, reader.next()).await.unwrap() {
        if frame.kind != Kind::Ping {
            frames.push(frame);
        }
    }
    frames
}

async fn last_word(tcp: TcpStream) -> String {
    let frames = last_words(tcp).await;
    let last = frames.last().unwrap();
    assert_eq!(last.kind, Kind::Goodbye);
    last.text()
}

#[tokio::test]
async fn what_no_sound_peer_sends_ends_its_connection_with_a_word() {
    let listening = Listening::start(Node::new(1)).await;
    let mut damaged = encoded(&Frame::new(Kind::Request, 1, Bytes::from_static(b"body")));
    *damaged.last_mut().unwrap() ^= 1;
    let mut unknown = encoded(&Frame::bare(Kind::Ping, 1));
    unknown[8] = 99;
    let checksum = crc32fast::hash(&unknown[8..]);
    unknown[4..8].copy_from_slice(&checksum.to_le_bytes());
    let too_long = (FRAME_BYTES_MAX as u32).to_le_bytes().repeat(2);
    let open = encoded(&Frame::new(Kind::Open, 1, Bytes::from_static(b"sleep")));
    let end = encoded(&Frame::bare(Kind::End, 1));
    let credit = encoded(&Frame::new(
        Kind::Credit,
        1,
        Bytes::from_static(&[1, 0, 0, 0]),
    ));
    let much = encoded(&Frame::new(Kind::Data, 1, vec![0; WINDOW_BYTES + 1].into()));
    let part = |id| encoded(&Frame::new(Kind::Part, id, Bytes::from_static(b"part")));
    let parts = Frame::new(Kind::Part, 1, vec![0; BODY_BYTES_MAX].into());
    let too_many = REQUEST_BYTES_MAX / BODY_BYTES_MAX + 1;
    let cases: [(Lane, Vec<u8>, &str); 11] = [
        (
            Lane::Data,
            [&part(1)[..], &part(2)[..]].concat(),
            "two requests in parts",
        ),
        (
            Lane::Data,
            encoded(&parts).repeat(too_many),
            "longer than allowed",
        ),
        (Lane::Data, damaged.to_vec(), "checksum"),
        (Lane::Data, unknown.to_vec(), "unknown kind 99"),
        (Lane::Data, too_long, "was announced, 16777225 are allowed"),
        (Lane::Data, vec![0; 8], "less than its head"),
        (
            Lane::Data,
            encoded(&Frame::bare(Kind::Admit, 0)).to_vec(),
            "handshake",
        ),
        (Lane::Data, open.to_vec(), "a stream on the lane data"),
        (Lane::Sessions, [&open[..], &open[..]].concat(), "not fresh"),
        (
            Lane::Sessions,
            [&open[..], &much[..]].concat(),
            "than the credit",
        ),
        (
            Lane::Sessions,
            [&open[..], &credit[..]].concat(),
            "more credit",
        ),
    ];
    for (lane, bytes, why) in cases {
        let mut tcp = raw_connection(&listening, lane).await;
        tcp.write_all(&bytes).await.unwrap();
        let word = last_word(tcp).await;
        assert!(word.contains(why), "{word:?} does not say {why:?}");
        listening.node.go.notify_waiters();
    }
    let mut tcp = raw_connection(&listening, Lane::Sessions).await;
    tcp.write_all(&[&open[..], &end[..], &end[..]].concat())
        .await
        .unwrap();
    assert!(last_word(tcp).await.contains("two ends"));
    listening.node.go.notify_waiters();
    echoes(&peers(Node::new(2)), &listening.address).await;
}

/// What is given up gives its room back: without it the last request here would have none.
#[tokio::test]
async fn an_abandoned_request_takes_no_room() {
    let listening = Listening::start(Node::new(1)).await;
    let tcp = raw_connection(&listening, Lane::Data).await;
    let (reader, mut writer) = tcp.into_split();
    let writing = tokio::spawn(async move {
        let most = vec![0; BODY_BYTES_MAX];
        for (id, parts) in [(1, 4), (2, 4)] {
            let part = encoded(&Frame::new(Kind::Part, id, most.clone().into()));
            for _ in 0..parts {
                writer.write_all(&part).await.unwrap();
            }
            let last = match id {
                1 => Frame::bare(Kind::Abandon, id),
                _ => Frame::new(Kind::Request, id, most.clone().into()),
            };
            writer.write_all(&encoded(&last)).await.unwrap();
        }
        writer
    });
    let mut reader = frame::Reader::new(reader, BODY_BYTES_MAX);
    let answer = async {
        loop {
            let frame = reader.next().await.unwrap().unwrap();
            if frame.kind != Kind::Ping {
                break frame;
            }
        }
    };
    let answer = timeout(LONG, answer).await.unwrap();
    assert_eq!((answer.kind, answer.id), (Kind::Answer, 2));
    assert_eq!(answer.text(), summary(&vec![0; 5 * BODY_BYTES_MAX]));
    drop(writing.await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_random_frames_leave_the_listener_up() {
    let listening = Listening::start(Node::new(1)).await;
    let mut rng = StdRng::seed_from_u64(7);
    let usual = [
        Kind::Request,
        Kind::Open,
        Kind::Data,
        Kind::Credit,
        Kind::End,
        Kind::Reset,
        Kind::Answer,
        Kind::Failure,
        Kind::Ping,
        Kind::Pong,
        Kind::Goodbye,
    ];
    let rare = [Kind::Hello, Kind::Admit, Kind::Refuse];
    let mut frames = 0;
    while frames < 10_000 {
        let strange = rng.random_ratio(1, 8);
        let mut tcp = match strange {
            true => listening.raw().await,
            false => raw_connection(&listening, Lane::ALL[frames % 4]).await,
        };
        let mut bytes = Vec::new();
        for _ in 0..32 {
            frames += 1;
            let body = noise(&mut rng, 60).into();
            let kind = match rng.random_range(0..32) {
                0 => rare[rng.random_range(0..rare.len())],
                _ => usual[rng.random_range(0..usual.len())],
            };
            let mut frame = encoded(&Frame::new(kind, rng.random_range(0..6), body));
            if rng.random_ratio(1, 16) {
                let at = rng.random_range(0..frame.len());
                frame[at] ^= 1 << rng.random_range(0..8);
            }
            bytes.extend_from_slice(&frame);
        }
        // It may close in the middle: that is its right.
        let _ = tcp.write_all(&bytes).await;
        let _ = tcp.shutdown().await;
        let mut said = Vec::new();
        let ended = timeout(LONG, tcp.read_to_end(&mut said)).await;
        assert!(ended.is_ok(), "the listener hangs");
    }
    echoes(&peers(Node::new(2)), &listening.address).await;
}

#[tokio::test]
async fn a_peer_that_does_not_say_who_it_is_is_dropped() {
    let options = Options {
        handshake_timeout: Duration::from_millis(50),
        strangers_max: 1,
        ..Options::default()
    };
    let listening = Listening::start_at("127.0.0.1:0", Node::new(1), PeerTls::Plain, options).await;
    let mut silent = listening.raw().await;
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    let mut announces = listening.raw().await;
    let long = (HELLO_BYTES_MAX as u32 + 10).to_le_bytes();
    announces.write_all(&long).await.unwrap();
    assert_eq!(announces.read(&mut [0]).await.unwrap_or(0), 0);
    echoes(&peers(Node::new(2)), &listening.address).await;
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_gone() {
    // Accepts, shakes hands, and never says anything again.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let silent = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let (reader, mut writer) = tcp.split();
        let mut reader = frame::Reader::new(reader, HELLO_BYTES_MAX);
        hello::accept(&mut reader, &mut writer, &*Node::new(1))
            .await
            .unwrap();
        std::future::pending::<()>().await;
    });
    let options = Options {
        ping_every: Duration::from_millis(20),
        ..Options::default()
    };
    let peers = Peers::new(Node::new(2), PeerTls::Plain, options);
    let error = ask(&peers, &address, "x").await.unwrap_err();
    assert!(error.to_string().contains("silent for 60ms"), "{error}");
    silent.abort();
}

#[tokio::test]
async fn a_peer_that_holds_back_is_not_taken_for_dead() {
    let options = Options {
        ping_every: Duration::from_millis(20),
        ..Options::default()
    };
    let listening =
        Listening::start_at("127.0.0.1:0", Node::new(1), PeerTls::Plain, options.clone()).await;
    let peers = Peers::new(Node::new(2), PeerTls::Plain, options);
    // Requests whose callers have lost interest keep their places at the peer, which reads no more.
    let mut calls = JoinSet::new();
    for _ in 0..REQUESTS_MAX {
        calls.spawn(peers.call(&listening.address, Lane::Data, "wait".into(), LONG));
    }
    listening.begun(REQUESTS_MAX as u32).await;
    calls.shutdown().await;
    let mut waiting = peers.call(&listening.address, Lane::Data, "x".into(), LONG);
    let many_pings = Duration::from_millis(300);
    assert!(timeout(many_pings, &mut waiting).await.is_err(), "it waits");
    let other = peers.call(&listening.address, Lane::Control, "x".into(), LONG);
    other.await.unwrap();
    listening.node.go.notify_waiters();
    waiting.await.unwrap();
}

#[tokio::test]
async fn a_listener_ends_in_order() {
    let listening = Listening::start(Node::new(1)).await;
    let (peers, address) = (peers(Node::new(2)), listening.address.clone());
    let waiting = tokio::spawn(peers.call(&address, Lane::Data, "wait".into(), LONG));
    listening.begun(1).await;
    let node = listening.node.clone();
    let ending = tokio::spawn(listening.end());
    // What was under way is answered.
    node.go.notify_one();
    assert_eq!(waiting.await.unwrap().unwrap(), "wait");
    ending.await.unwrap();
    let soon = Duration::from_millis(100);
    let error = peers.call(&address, Lane::Data, "x".into(), soon).await;
    assert!(matches!(error, Err(Unreachable::Unconnected { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_carry_bytes_both_ways() {
    let listening = Listening::start(Node::new(1)).await;
    let peers = peers(Node::new(2));
    let mut streams = JoinSet::new();
    for number in 0..40_u64 {
        let stream = peers.open(&listening.address, "echo".into()).await.unwrap();
        streams.spawn(async move {
            let mut rng = StdRng::seed_from_u64(number);
            let sent = noise(&mut rng, 2 * WINDOW_BYTES);
            let (mut from, mut to) = tokio::io::split(stream);
            let writing = async {
                for chunk in sent.chunks(rng.random_range(500..100_000)) {
                    to.write_all(chunk).await.unwrap();
                }
                to.shutdown().await.unwrap();
            };
            let mut back = Vec::new();
            let (_, read) = tokio::join!(writing, from.read_to_end(&mut back));
            read.unwrap();
            assert!(back == sent, "stream {number}");
        });
    }
    while let Some(ended) = streams.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn a_slow_reader_holds_its_writer_and_nobody_else() {
    let listening = Listening::start(Node::new(1)).await;
    let (peers, address) = (peers(Node::new(2)), &listening.address);
    let mut slow = peers.open(address, "sleep".into()).await.unwrap();
    let mut written = 0;
    // Until nothing more is taken: the window, and what our side keeps.
    while let Ok(bytes) = timeout(Duration::from_millis(200), slow.write(&[1; 10_000])).await {
        written += bytes.unwrap();
        assert!(written <= WINDOW_BYTES + (64 << 10), "nothing holds it");
    }
    assert!(written >= WINDOW_BYTES);
    // Requests and other streams on the same connection go on.
    let who = peers
        .call(address, Lane::Sessions, "who".into(), LONG)
        .await;
    assert_eq!(who.unwrap(), "node 2 on sessions");
    let mut quick = peers.open(address, "echo".into()).await.unwrap();
    quick.write_all(&[2; 300]).await.unwrap();
    let mut back = [0; 300];
    quick.read_exact(&mut back).await.unwrap();
    // And when it reads, the writer goes on.
    listening.node.go.notify_one();
    slow.write_all(&vec![1; 1 << 20]).await.unwrap();
    slow.shutdown().await.unwrap();
    let fate = listening.node.fate("sleep").await;
    assert_eq!(fate, format!("Ok({})", written + (1 << 20)));
}

#[tokio::test]
async fn each_direction_of_a_stream_has_its_own_end() {
    let listening = Listening::start(Node::new(1)).await;
    let peers = peers(Node::new(2));
    let mut stream = peers
        .open(&listening.address, "sleep".into())
        .await
        .unwrap();
    stream.write_all(b"abc").await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(stream.write_all(b"d").await.is_err(), "it was shut down");
    listening.node.go.notify_one();
    assert_eq!(listening.node.fate("sleep").await, "Ok(3)");
    // The other end dropped its side without an end: that is no ordinary end here.
    let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    // All that was written before an end arrives, though the writer has gone and we are writing.
    let mut stream = peers.open(&listening.address, "tell".into()).await.unwrap();
    assert_eq!(listening.node.fate("tell").await, "Ok(()) Ok(())");
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    assert_eq!(all.len(), 100_000);
    loop {
        // It is told that nobody reads.
        if stream.write_all(&[0; 50_000]).await.is_err() {
            break;
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_given_up_ends_at_both_sides() {
    let listening = Listening::start(Node::new(1)).await;
    let (peers, address) = (peers(Node::new(2)), listening.address.clone());
    let mut refused = peers.open(&address, "refuse".into()).await.unwrap();
    let error = refused.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.to_string(), "no such session");

    let mut stream = peers.open(&address, "echo 1".into()).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    stream.read_exact(&mut [0]).await.unwrap();
    drop(stream);
    let fate = listening.node.fate("echo 1").await;
    assert!(fate.contains("dropped at the other end"), "{fate}");

    // With the connection all its streams end.
    let mut stream = peers.open(&address, "echo 2".into()).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    stream.read_exact(&mut [0]).await.unwrap();
    listening.kill().await;
    let error = stream.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let long = peers.open(&address, vec![0; OPENING_BYTES_MAX + 1].into());
    assert!(matches!(long.await, Err(Unreachable::TooLong { .. })));
}

#[tokio::test]
async fn without_tls_nobody_leaves_loopback() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let node = Node::new(1);
    let refused = listen(listener, node, PeerTls::Plain, std::future::pending());
    let error = refused.await.unwrap_err().to_string();
    assert!(
        error.contains("freehold cert") && error.contains("--insecure"),
        "{error}"
    );
    let peers = peers(Node::new(2));
    let soon = Duration::from_millis(100);
    // An address of documentation (RFC 5737): no packet goes there.
    let call = peers.call("192.0.2.1:7432", Lane::Control, "x".into(), soon);
    let error = call.await.unwrap_err().to_string();
    assert!(error.contains("freehold cert"), "{error}");
}

/// Authorities and nodes, made by `freehold cert`.
struct Certificates(crate::temporary::Temporary);

impl Certificates {
    fn new() -> Certificates {
        let folder = crate::temporary::Temporary::make("cert").unwrap();
        crate::cert::authority(folder.path()).unwrap();
        Certificates(folder)
    }

    fn node(&self, name: &str, hosts: &[&str]) -> PeerTls {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        crate::cert::node(self.0.path(), name, &hosts).unwrap();
        let file = |name: String| self.0.path().join(name);
        PeerTls::from_files(
            &file("ca.crt".into()),
            &file(format!("{name}.crt")),
            &file(format!("{name}.key")),
        )
        .unwrap()
    }
}

async fn answer(tls: PeerTls, address: &str) -> Result<Bytes, Unreachable> {
    let peers = Peers::new(Node::new(2), tls, Options::default());
    let while_ = Duration::from_secs(2);
    peers.call(address, Lane::Data, "who".into(), while_).await
}

#[tokio::test]
async fn both_sides_show_certificates_of_one_authority() {
    let ours = Certificates::new();
    let tls = ours.node("n1", &["localhost", "127.0.0.1"]);
    let listening = Listening::start_at("127.0.0.1:0", Node::new(1), tls, Options::default()).await;
    let port = listening.address.parse::<SocketAddr>().unwrap().port();
    let client = ours.node("n2", &["n2.example"]);
    for host in ["127.0.0.1", "localhost"] {
        let who = answer(client.clone(), &format!("{host}:{port}")).await;
        assert_eq!(who.unwrap(), "node 2 on data");
    }

    let foreign = Certificates::new();
    let tls = foreign.node("n3", &["127.0.0.1"]);
    let error = answer(tls, &listening.address).await.unwrap_err();
    assert!(matches!(error, Unreachable::Unconnected { .. }), "{error}");
    let error = answer(PeerTls::Plain, &listening.address)
        .await
        .unwrap_err();
    assert!(matches!(error, Unreachable::Unconnected { .. }), "{error}");

    // The right authority, the wrong host.
    let tls = ours.node("n4", &["elsewhere.example"]);
    let elsewhere = Listening::start_at("127.0.0.1:0", Node::new(1), tls, Options::default()).await;
    let error = answer(client, &elsewhere.address).await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn a_client_without_a_certificate_of_the_authority_is_not_heard() {
    let ours = Certificates::new();
    let tls = ours.node("n1", &["127.0.0.1"]);
    let listening = Listening::start_at("127.0.0.1:0", Node::new(1), tls, Options::default()).await;
    // It trusts our authority, and has a certificate of another one, or none.
    let foreign = Certificates::new();
    foreign.node("n2", &["127.0.0.1"]);
    let read =
        |folder: &Certificates, name: &str| std::fs::read(folder.0.path().join(name)).unwrap();
    let mixed = PeerTls::from_pem(
        &read(&ours, "ca.crt"),
        &read(&foreign, "n2.crt"),
        &read(&foreign, "n2.key"),
    );
    let error = answer(mixed.unwrap(), &listening.address)
        .await
        .unwrap_err();
    assert!(matches!(error, Unreachable::Unconnected { .. }), "{error}");
    let error = error.to_string();
    assert!(
        error.contains("alert") || error.contains("closed"),
        "{error}"
    );

    let mut roots = rustls::RootCertStore::empty();
    use rustls::pki_types::pem::PemObject as _;
    let ca = rustls::pki_types::CertificateDer::from_pem_slice(&read(&ours, "ca.crt")).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = "127.0.0.1".try_into().unwrap();
    let heard = async {
        let mut tls = connector.connect(name, listening.raw().await).await?;
        tls.read(&mut [0]).await
    };
    let error = heard.await.unwrap_err().to_string();
    assert!(error.contains("CertificateRequired"), "{error}");
}
