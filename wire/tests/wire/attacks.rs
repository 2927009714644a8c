//! What broke others must not break this: each known defect of a PostgreSQL server loop is tried.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncReadExt;
use wire::{Config, attack};

use crate::login::self_signed;
use crate::raw::{Raw, frame, query, request, startup};
use crate::server::Server;

const V3_0: u32 = 3 << 16;

#[tokio::test]
async fn clear_bytes_behind_a_request_for_encryption_close_the_connection() {
    let (tls, _) = self_signed();
    let encrypted = Server::start(Config {
        tls: Some(tls),
        ..Config::default()
    })
    .await;
    let clear = Server::trusting().await;
    for server in [&encrypted, &clear] {
        for code in [5679, 5680] {
            let mut raw = Raw::connect(server.address).await;
            raw.send(&[request(code), attack::startup("trusted"), query("injected")].concat())
                .await;
            assert_eq!(raw.rest().await, b"", "not even an answer to the request");
            assert!(server.echo.startup.lock().unwrap().is_none());
        }
    }
    // Bytes that come after the answer are no TLS handshake and get nowhere either.
    let mut raw = Raw::connect(encrypted.address).await;
    raw.send(&request(5679)).await;
    assert_eq!(raw.byte().await, b'S');
    raw.send(&[attack::startup("trusted"), query("injected")].concat())
        .await;
    let rest = raw.rest().await;
    assert!(
        rest.first().is_none_or(|&byte| byte == 0x15),
        "at most a TLS alert: {rest:02x?}"
    );
    assert!(encrypted.echo.startup.lock().unwrap().is_none());
}

#[tokio::test]
async fn five_bytes_before_authentication() {
    let server = Server::trusting().await;
    let five = [0x70, 0, 0, 0, 0];
    let mut first = Raw::connect(server.address).await;
    first.send(&five).await;
    assert_eq!(
        first.fatal().await,
        "08P01 invalid length of startup packet"
    );
    let mut unproven = Raw::connect(server.address).await;
    unproven
        .send(&[&startup(V3_0, &["user", "alice"]), &five[..]].concat())
        .await;
    unproven.answer().await;
    assert_eq!(unproven.fatal().await, "08P01 invalid message length");
    let mut proven = Raw::login(server.address, "trusted").await;
    proven.send(&five).await;
    assert_eq!(
        proven.fatal().await,
        "08P01 invalid frontend message type 112"
    );
}

#[tokio::test]
async fn before_authentication_10_kb_are_enough() {
    let server = Server::trusting().await;
    for claim in [10_001_u32, 0x3fff_ffff, u32::MAX] {
        let mut first = Raw::connect(server.address).await;
        first.send(&claim.to_be_bytes()).await;
        assert_eq!(
            first.fatal().await,
            "08P01 invalid length of startup packet"
        );
        let mut unproven = Raw::connect(server.address).await;
        let mut bytes = startup(V3_0, &["user", "alice"]);
        bytes.push(b'p');
        bytes.extend((claim | 0x4000).to_be_bytes());
        unproven.send(&bytes).await;
        unproven.answer().await;
        assert_eq!(unproven.fatal().await, "08P01 invalid message length");
    }
    let mut other = Raw::connect(server.address).await;
    other
        .send(&[startup(V3_0, &["user", "alice"]), query("select 1")].concat())
        .await;
    other.answer().await;
    assert_eq!(
        other.fatal().await,
        "08P01 expected SASL response, got message type 81"
    );
}

/// Resident memory of this process in bytes. Other tests run beside: compare generously.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test]
async fn a_claimed_length_takes_no_memory() {
    let server = Server::start(Config {
        connections_max: 1000,
        ..Config::default()
    })
    .await;
    let mut claimants = Vec::new();
    let before = resident();
    for number in 0..200 {
        let mut raw = Raw::login(server.address, "trusted").await;
        let claim: &[u8] = if number % 2 == 0 {
            b"Q\0\xff\xff\xff"
        } else {
            b"d\x3f\xff\xff\xff"
        };
        raw.send(claim).await;
        raw.send(&[b'x'; 1000]).await;
        claimants.push(raw);
    }
    // 1.6 GB of queries and 100 GB of COPY are claimed, 200 kB were sent.
    let mut other = Raw::login(server.address, "trusted").await;
    other.send(&query("still here")).await;
    assert_eq!(other.types().await, "TDCZ");
    let grown = resident().saturating_sub(before);
    assert!(grown < 128 << 20, "{grown} bytes");
}

/// Panics on the threads of this name; other tests may panic as they like.
const ATTACKED: &str = "attacked";
static PANICS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn twenty_thousand_random_frames() {
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().name() == Some(ATTACKED) {
            PANICS.fetch_add(1, Ordering::Relaxed);
        }
        default_hook(info);
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(ATTACKED)
        .enable_all()
        .build()
        .unwrap();
    let attacked = runtime.spawn(async {
        let server = Server::trusting().await;
        let seed = 20_000;
        println!("seed {seed}");
        let report = attack::assault(server.address, "attacker", seed, 20_000)
            .await
            .unwrap();
        println!("{report:?}");
        let mut raw = Raw::login(server.address, "trusted").await;
        raw.send(&query("still here")).await;
        assert_eq!(raw.types().await, "TDCZ");
        report
    });
    let report = runtime.block_on(attacked).unwrap();
    assert_eq!(report.frames, 20_000);
    // The logins alone are answered with some 80,000 bytes: frames must get that far, too.
    assert!(report.answered_bytes > 300_000, "{report:?}");
    assert_eq!(PANICS.load(Ordering::Relaxed), 0);
}

#[test]
fn a_seed_gives_the_same_frames() {
    let frames = |seed| attack::Frames::new(seed).take(1000).collect::<Vec<_>>();
    assert_eq!(frames(1), frames(1));
    assert_ne!(frames(1), frames(2));
}

#[tokio::test]
async fn a_peer_that_closes_in_the_middle_of_anything_is_forgotten() {
    let server = Server::start(Config {
        connections_max: 1,
        ..Config::default()
    })
    .await;
    let whole = [
        attack::startup("trusted"),
        query("hello"),
        frame(b'd', &[0; 10]),
    ]
    .concat();
    for cut in 0..whole.len() {
        let mut tcp = Raw::connect(server.address).await;
        tcp.send(&whole[..cut]).await;
        let mut tcp = tcp.into_tcp();
        tokio::io::AsyncWriteExt::shutdown(&mut tcp).await.unwrap();
        tcp.read_to_end(&mut Vec::new()).await.unwrap();
    }
}
