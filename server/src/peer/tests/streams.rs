//! Streams: both directions, windows, ends.

use super::*;

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
    drop(refused);
    assert!(!peers.has_streams(&address));

    let mut stream = peers.open(&address, "echo 1".into()).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    stream.read_exact(&mut [0]).await.unwrap();
    assert!(peers.has_streams(&address));
    drop(stream);
    let fate = listening.node.fate("echo 1").await;
    assert!(fate.contains("dropped at the other end"), "{fate}");
    assert!(!peers.has_streams(&address));

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
