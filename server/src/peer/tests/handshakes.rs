//! Who is met: handshakes, clusters, versions, ends.

use super::*;

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
