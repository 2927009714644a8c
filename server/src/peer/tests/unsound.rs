//! What no sound peer does, and peers that fall silent.

use super::*;

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
