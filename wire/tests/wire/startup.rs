//! The beginning of a connection: versions, requests for encryption, cancel, limits, the end.

use std::time::Duration;

use wire::Config;

use crate::raw::{Raw, frame, query, request, startup};
use crate::server::Server;

const V3_0: u32 = 3 << 16;

#[tokio::test]
async fn a_trusted_user_is_let_in_with_one_write() {
    let server = Server::trusting().await;
    let mut raw = Raw::connect(server.address).await;
    let parameters = [
        "user",
        "trusted",
        "application_name",
        "t",
        "options",
        "-c a.b=c\\ d --e-f=g -cx=y",
    ];
    raw.send(&startup(V3_0, &parameters)).await;
    let answers = raw.until('Z').await;
    let types: String = answers.iter().map(|answer| answer.message_type).collect();
    assert_eq!(types, "RSKZ");
    assert_eq!(answers[0].body, [0, 0, 0, 0]);
    assert_eq!(answers[3].body, b"I");
    raw.send(&query("hello")).await;
    assert_eq!(raw.types().await, "TDCZ");
    assert_eq!(
        server
            .echo
            .writes
            .load(std::sync::atomic::Ordering::Relaxed),
        2
    );

    let seen = server.echo.startup.lock().unwrap().take().unwrap();
    assert_eq!(
        (seen.user.as_str(), seen.database.as_str()),
        ("trusted", "trusted")
    );
    assert_eq!(seen.application_name(), "t");
    assert!(!seen.tls && seen.peer.ip().is_loopback());
    let settings = [("a.b", "c d"), ("e_f", "g"), ("x", "y")];
    assert_eq!(
        seen.settings().unwrap(),
        settings.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}

#[tokio::test]
async fn options_that_are_not_settings_are_refused() {
    let server = Server::trusting().await;
    for bad in ["-x", "-c", "-c a", "--a", "a=b"] {
        let mut raw = Raw::connect(server.address).await;
        raw.send(&startup(V3_0, &["user", "trusted", "options", bad]))
            .await;
        raw.until('Z').await;
        let seen = server.echo.startup.lock().unwrap().take().unwrap();
        assert_eq!(
            seen.settings().unwrap_err().sqlstate.as_str(),
            "42601",
            "{bad}"
        );
    }
}

#[tokio::test]
async fn newer_versions_and_unknown_options_are_negotiated() {
    let server = Server::trusting().await;
    for (version, option, expected) in [
        (V3_0 + 2, None, &b"\0\x03\0\0\0\0\0\0"[..]),
        (
            V3_0 + 9999,
            Some("_pq_.x"),
            &b"\0\x03\0\0\0\0\0\x01_pq_.x\0"[..],
        ),
        (V3_0, Some("_pq_.x"), &b"\0\x03\0\0\0\0\0\x01_pq_.x\0"[..]),
    ] {
        let mut parameters = vec!["user", "trusted"];
        parameters.extend(option.into_iter().flat_map(|name| [name, "1"]));
        let mut raw = Raw::connect(server.address).await;
        raw.send(&startup(version, &parameters)).await;
        let answers = raw.until('Z').await;
        assert_eq!(answers[0].message_type, 'v');
        assert_eq!(answers[0].body, expected);
        assert_eq!(answers[1].message_type, 'R');
    }
}

#[tokio::test]
async fn what_is_no_startup_packet_is_refused_in_postgresql_s_words() {
    let server = Server::trusting().await;
    let mut cut = startup(V3_0, &["user", "trusted"]);
    cut.pop();
    cut[3] -= 1;
    let mut trailing = startup(V3_0, &["user", "trusted"]);
    trailing.push(b'x');
    trailing[3] += 1;
    let mut not_utf8 = startup(V3_0, &["user", "trusted"]);
    not_utf8[14] = 0xff;
    let layout = "08P01 invalid startup packet layout: expected terminator as last byte";
    for (packet, expected) in [
        (
            startup(2 << 16, &[]),
            "0A000 unsupported frontend protocol 2.0: server supports 3.0 to 3.0",
        ),
        (
            startup(4 << 16, &[]),
            "0A000 unsupported frontend protocol 4.0: server supports 3.0 to 3.0",
        ),
        (
            startup(V3_0, &[]),
            "28000 no PostgreSQL user name specified in startup packet",
        ),
        (
            startup(V3_0, &["user", ""]),
            "28000 no PostgreSQL user name specified in startup packet",
        ),
        (
            startup(V3_0, &["user", "banned"]),
            "28000 role \"banned\" is banned",
        ),
        (cut, layout),
        (trailing, layout),
        (startup(V3_0, &["user"]), layout),
        (
            not_utf8,
            "22021 invalid byte sequence for encoding \"UTF8\": 0xff",
        ),
    ] {
        let mut raw = Raw::connect(server.address).await;
        raw.send(&packet).await;
        assert_eq!(raw.fatal().await, expected);
    }
}

#[tokio::test]
async fn encryption_is_refused_once_each() {
    let server = Server::trusting().await;
    for order in [[5679, 5680], [5680, 5679]] {
        let mut raw = Raw::connect(server.address).await;
        for code in order {
            raw.send(&request(code)).await;
            assert_eq!(raw.byte().await, b'N');
        }
        raw.send(&startup(V3_0, &["user", "trusted"])).await;
        assert_eq!(raw.types().await, "RSKZ");
    }
    for code in [5679, 5680] {
        let mut raw = Raw::connect(server.address).await;
        raw.send(&request(code)).await;
        assert_eq!(raw.byte().await, b'N');
        raw.send(&request(code)).await;
        let expected =
            format!("0A000 unsupported frontend protocol 1234.{code}: server supports 3.0 to 3.0");
        assert_eq!(raw.fatal().await, expected);
    }
}

fn cancel(pid: &[u8], secret: &[u8]) -> Vec<u8> {
    let mut packet = request(5678);
    packet[3] = 16;
    packet.extend(pid);
    packet.extend(secret);
    packet
}

#[tokio::test]
async fn only_the_right_key_cancels() {
    let config = Config {
        connections_max: 1,
        ..Config::default()
    };
    let server = Server::start(config).await;
    let mut raw = Raw::connect(server.address).await;
    raw.send(&startup(V3_0, &["user", "trusted"])).await;
    let key = raw.until('Z').await[2].body.clone();
    raw.send(&query("sleep")).await;
    server.echo.asleep.notified().await;

    // All places are taken: cancelling needs none.
    let mut wrong = key[4..].to_vec();
    wrong[3] ^= 1;
    for packet in [cancel(&key[..4], &wrong), cancel(&[0, 0, 0, 9], &key[4..])] {
        let mut canceller = Raw::connect(server.address).await;
        canceller.send(&packet).await;
        assert_eq!(canceller.rest().await, b"");
    }
    let mut canceller = Raw::connect(server.address).await;
    canceller.send(&cancel(&key[..4], &key[4..])).await;
    assert_eq!(canceller.rest().await, b"");
    let answers = raw.until('Z').await;
    assert_eq!(
        answers[0].error(),
        "57014 canceling statement due to user request"
    );
    // The wrong ones came first and would have cancelled this one too.
    raw.send(&query("still here")).await;
    assert_eq!(raw.types().await, "TDCZ");
}

#[tokio::test]
async fn a_cancel_request_of_another_length_is_refused() {
    let server = Server::trusting().await;
    let mut packet = cancel(&[0; 4], &[0; 8]);
    packet[3] = 20;
    let mut raw = Raw::connect(server.address).await;
    raw.send(&packet).await;
    assert_eq!(raw.fatal().await, "08P01 invalid length of startup packet");
}

#[tokio::test]
async fn connections_above_the_limit_are_told_so() {
    let server = Server::start(Config {
        connections_max: 2,
        ..Config::default()
    })
    .await;
    let _first = Raw::login(server.address, "trusted").await;
    let mut second = Raw::login(server.address, "trusted").await;
    let mut third = Raw::connect(server.address).await;
    third.send(&wire::attack::startup("trusted")).await;
    assert_eq!(third.fatal().await, "53300 sorry, too many clients already");
    second.send(&frame(b'X', b"")).await;
    assert_eq!(second.rest().await, b"");
    Raw::login(server.address, "trusted").await;
}

#[tokio::test]
async fn strangers_have_an_allowance_of_their_own() {
    let config = Config {
        unauthenticated_max: 2,
        ..Config::default()
    };
    let server = Server::start(config).await;
    let _user = Raw::login(server.address, "trusted").await;
    let first = Raw::connect(server.address).await;
    let mut second = Raw::connect(server.address).await;
    second.send(&request(5679)).await;
    assert_eq!(second.byte().await, b'N');
    // Accepted in order: when the second has its answer, both have their permits.
    let mut third = Raw::connect(server.address).await;
    assert_eq!(third.fatal().await, "53300 sorry, too many clients already");
    second.send(&wire::attack::startup("trusted")).await;
    second.until('Z').await;
    Raw::login(server.address, "trusted").await;
    drop(first);
}

#[tokio::test]
async fn who_does_not_authenticate_in_time_is_dropped() {
    let authentication_timeout = Duration::from_millis(50);
    let server = Server::start(Config {
        authentication_timeout,
        ..Config::default()
    })
    .await;
    let mut silent = Raw::connect(server.address).await;
    let mut halfway = Raw::connect(server.address).await;
    halfway.send(&startup(V3_0, &["user", "alice"])[..9]).await;
    let mut unproven = Raw::connect(server.address).await;
    unproven.send(&startup(V3_0, &["user", "alice"])).await;
    assert_eq!(silent.rest().await, b"");
    assert_eq!(halfway.rest().await, b"");
    assert_eq!(unproven.answer().await.message_type, 'R');
    assert_eq!(unproven.rest().await, b"");
    // The clock stops with authentication.
    let mut user = Raw::login(server.address, "trusted").await;
    tokio::time::sleep(authentication_timeout * 2).await;
    user.send(&query("still here")).await;
    assert_eq!(user.types().await, "TDCZ");
}

#[tokio::test]
async fn shutdown_ends_users_with_a_reason_and_strangers_without() {
    let server = Server::trusting().await;
    let mut user = Raw::login(server.address, "trusted").await;
    let mut stranger = Raw::connect(server.address).await;
    stranger.send(&request(5679)).await;
    assert_eq!(stranger.byte().await, b'N');
    let address = server.address;
    server.stop().await;
    assert_eq!(
        user.fatal().await,
        "57P01 terminating connection due to administrator command"
    );
    assert_eq!(stranger.rest().await, b"");
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn shutdown_waits_no_longer_than_its_grace() {
    let config = Config {
        shutdown_grace: Duration::from_millis(20),
        ..Config::default()
    };
    let server = Server::start(config).await;
    let mut user = Raw::login(server.address, "trusted").await;
    user.send(&query("sleep")).await;
    server.echo.asleep.notified().await;
    server.stop().await;
    assert_eq!(user.rest().await, b"");
}

#[tokio::test]
async fn a_panic_ends_one_connection_only() {
    let server = Server::trusting().await;
    let mut other = Raw::login(server.address, "trusted").await;
    let mut user = Raw::login(server.address, "trusted").await;
    user.send(&query("panic")).await;
    assert_eq!(user.rest().await, b"");
    other.send(&query("still here")).await;
    assert_eq!(other.types().await, "TDCZ");
}
