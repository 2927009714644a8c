//! Requests and their answers: whose they are, how long, how many, how late.

use super::*;

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
