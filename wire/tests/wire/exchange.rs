//! Messages after authentication: framing, pipelining, errors, COPY, backpressure, writes.

use std::sync::atomic::Ordering;

use tokio_postgres::NoTls;
use wire::Config;

use crate::raw::{Raw, bind, extended, frame, query, sync};
use crate::server::Server;

async fn client(server: &Server) -> tokio_postgres::Client {
    let config = format!("host=127.0.0.1 port={} user=trusted", server.address.port());
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn a_prepared_statement_costs_one_write() {
    let server = Server::trusting().await;
    let client = client(&server).await;
    let statement = client.prepare("echo").await.unwrap();
    let before = server.echo.writes.load(Ordering::Relaxed);
    for _ in 0..10 {
        let row = client.query_one(&statement, &[&"hello"]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), "hello");
    }
    assert_eq!(server.echo.writes.load(Ordering::Relaxed) - before, 10);
}

#[tokio::test]
async fn frames_may_come_byte_by_byte_or_all_at_once() {
    let server = Server::trusting().await;
    let mut bytes = extended("drop by drop");
    bytes.extend(sync());
    bytes.extend(query("simple"));
    let mut slow = Raw::connect(server.address).await;
    for byte in wire::attack::startup("trusted").iter().chain(&bytes) {
        slow.send(&[*byte]).await;
    }
    let mut fast = Raw::connect(server.address).await;
    fast.send(&[wire::attack::startup("trusted"), bytes].concat())
        .await;
    for raw in [&mut slow, &mut fast] {
        assert_eq!(raw.types().await, "RSKZ");
        let answers = raw.until('Z').await;
        assert_eq!(answers[3].body, b"\0\x01\0\0\0\x0cdrop by drop");
        assert_eq!(raw.types().await, "TDCZ");
    }
}

#[tokio::test]
async fn a_pipeline_is_answered_in_order() {
    let server = Server::trusting().await;
    let mut raw = Raw::login(server.address, "trusted").await;
    let mut bytes = Vec::new();
    for number in 0..100 {
        bytes.extend(extended(&number.to_string()));
    }
    bytes.extend(sync());
    raw.send(&bytes).await;
    let rows: Vec<_> = raw
        .until('Z')
        .await
        .into_iter()
        .filter(|answer| answer.message_type == 'D')
        .collect();
    for (number, row) in rows.iter().enumerate() {
        assert_eq!(row.body[6..], *number.to_string().as_bytes());
    }
    assert_eq!(rows.len(), 100);
    assert_eq!(
        server.echo.writes.load(Ordering::Relaxed),
        2,
        "one write for the whole pipeline"
    );
}

#[tokio::test]
async fn flush_answers_without_ready() {
    let server = Server::trusting().await;
    let mut raw = Raw::login(server.address, "trusted").await;
    raw.send(&[frame(b'P', b"\0echo\0\0\0"), frame(b'H', b"")].concat())
        .await;
    assert_eq!(raw.answer().await.message_type, '1');
    raw.send(&[frame(b'D', b"S\0"), frame(b'H', b"")].concat())
        .await;
    assert_eq!(raw.answer().await.message_type, 't');
    assert_eq!(raw.answer().await.message_type, 'T');
    raw.send(&sync()).await;
    assert_eq!(raw.types().await, "Z");
}

#[tokio::test]
async fn a_message_that_makes_no_sense_is_an_error_and_the_connection_lives() {
    let server = Server::trusting().await;
    let mut raw = Raw::login(server.address, "trusted").await;
    let short = "08P01 insufficient data left in message";
    for (message, expected) in [
        (frame(b'B', b""), "08P01 invalid string in message"),
        (frame(b'B', b"\0\0"), short),
        (frame(b'B', b"\0\0\0\0\xff\xff"), short),
        (frame(b'B', b"\0\0\0\0\0\x01\0\0\0\x09x\0\0"), short),
        (frame(b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"), short),
        (
            frame(b'B', b"\0\0\0\x02\0\0\0\0\0\x01\xff\xff\xff\xff\0\0"),
            "08P01 bind message has 2 parameter formats but 1 parameters",
        ),
        (frame(b'P', b"\0echo\0\0\x01"), short),
        (
            frame(b'P', b"\0echo\0\0\0\0"),
            "08P01 invalid message format",
        ),
        (
            frame(b'D', b"X\0"),
            "08P01 invalid DESCRIBE message subtype 88",
        ),
        (
            frame(b'C', b"X\0"),
            "08P01 invalid CLOSE message subtype 88",
        ),
        (frame(b'E', b"\0\0\0\0"), short),
        (frame(b'H', b"x"), "08P01 invalid message format"),
        (
            frame(b'P', b"\0\xe4b\0\0\0"),
            "22021 invalid byte sequence for encoding \"UTF8\": 0xe4 0x62",
        ),
    ] {
        // What follows the error is skipped up to Sync, sound or not.
        raw.send(&[message, extended("skipped"), frame(b'D', b"X\0"), sync()].concat())
            .await;
        let answers = raw.until('Z').await;
        assert_eq!(answers.len(), 2, "{answers:?}");
        assert_eq!(answers[0].error(), expected);
    }
    for (message, expected) in [
        (frame(b'S', b"x"), "08P01 invalid message format"),
        (frame(b'c', b"x"), "08P01 invalid message format"),
        (frame(b'Q', b"no end"), "08P01 invalid string in message"),
        (frame(b'Q', b"one\0two\0"), "08P01 invalid message format"),
        (
            frame(b'Q', b"\xc3(\0"),
            "22021 invalid byte sequence for encoding \"UTF8\": 0xc3 0x28",
        ),
    ] {
        raw.send(&message).await;
        assert_eq!(raw.until('Z').await[0].error(), expected);
    }
    raw.send(&[extended("still here"), sync()].concat()).await;
    assert_eq!(raw.types().await, "12TDCZ");
}

#[tokio::test]
async fn a_frame_that_loses_the_thread_is_fatal() {
    let server = Server::trusting().await;
    for (bytes, expected) in [
        (
            frame(b'p', b"secret\0"),
            "08P01 invalid frontend message type 112",
        ),
        (frame(b'Z', b""), "08P01 invalid frontend message type 90"),
        (b"Q\0\0\0\x03".to_vec(), "08P01 invalid message length"),
        (
            b"Q\xff\xff\xff\xff".to_vec(),
            "08P01 invalid message length",
        ),
        (b"D\0\0\xff\xff".to_vec(), "08P01 invalid message length"),
        (b"Q\x01\0\0\x05".to_vec(), "54000 message is too long"),
    ] {
        let mut raw = Raw::login(server.address, "trusted").await;
        raw.send(&bytes).await;
        assert_eq!(raw.fatal().await, expected);
    }
}

#[tokio::test]
async fn a_bind_may_have_65_535_parameters() {
    let server = Server::trusting().await;
    let mut raw = Raw::login(server.address, "trusted").await;
    let mut body = b"\0\0\0\0\xff\xff".to_vec();
    for _ in 0..65_535 {
        body.extend([0, 0, 0, 1, b'x']);
    }
    body.extend([0, 0]);
    raw.send(&[frame(b'P', b"\0echo\0\0\0"), frame(b'B', &body), sync()].concat())
        .await;
    assert_eq!(raw.types().await, "12Z");
}

#[tokio::test]
async fn an_error_in_bind_skips_to_sync() {
    let server = Server::trusting().await;
    let mut raw = Raw::login(server.address, "trusted").await;
    raw.send(&[bind("x"), extended("skipped"), sync(), query("next")].concat())
        .await;
    assert_eq!(raw.types().await, "EZ");
    assert_eq!(raw.types().await, "TDCZ");
}

#[tokio::test]
async fn copy_data_of_any_length_arrives_in_pieces() {
    let server = Server::trusting().await;
    let mut raw = Raw::login(server.address, "trusted").await;
    raw.send(&query("copy in")).await;
    raw.until('G').await;
    let long = vec![b'x'; 3 << 20];
    raw.send(
        &[
            frame(b'd', &long),
            frame(b'd', b""),
            frame(b'd', b"end"),
            frame(b'c', b""),
        ]
        .concat(),
    )
    .await;
    assert_eq!(raw.types().await, "CZ");
    assert_eq!(server.echo.copied.load(Ordering::Relaxed), (3 << 20) + 3);
    assert!(server.echo.copy_pieces.load(Ordering::Relaxed) >= 5);

    raw.send(&[query("copy in"), frame(b'f', b"enough\0")].concat())
        .await;
    let answers = raw.until('Z').await;
    assert_eq!(answers[1].error(), "57014 COPY from stdin failed: enough");
    // What a client still sends after a failed COPY is for nobody.
    raw.send(&[frame(b'd', b"late"), frame(b'c', b""), query("copy out")].concat())
        .await;
    assert_eq!(raw.types().await, "HddcCZ");
}

#[tokio::test]
async fn rows_leave_while_they_are_made() {
    let high = 32 << 10;
    let server = Server::start(Config {
        output_bytes_high: high,
        ..Config::default()
    })
    .await;
    let mut raw = Raw::login(server.address, "trusted").await;
    raw.send(&query("rows 5000")).await;
    assert_eq!(raw.until('Z').await.len(), 5003);
    let buffered_max = server.echo.buffered_max.load(Ordering::Relaxed);
    assert!(
        (high..high + 2048).contains(&buffered_max),
        "{buffered_max}"
    );
}

#[tokio::test]
async fn a_reader_who_leaves_ends_the_statement() {
    let server = Server::trusting().await;
    let mut raw = Raw::login(server.address, "trusted").await;
    raw.send(&query("rows 1000000")).await;
    assert_eq!(raw.answer().await.message_type, 'T');
    drop(raw);
    server.stop().await;
}

#[tokio::test]
async fn a_sleeping_statement_learns_that_its_client_has_gone() {
    let server = Server::trusting().await;
    // The second client has sent more, which nobody reads.
    for more in ["", "unread"] {
        let mut raw = Raw::login(server.address, "trusted").await;
        raw.send(&query("sleep")).await;
        server.echo.asleep.notified().await;
        raw.send(more.as_bytes()).await;
        drop(raw);
        server.echo.deserted.notified().await;
    }
}

#[tokio::test]
async fn an_idle_client_is_notified_even_in_the_middle_of_a_message() {
    let server = Server::trusting().await;
    let mut raw = Raw::login(server.address, "trusted").await;
    let message = query("in two parts");
    raw.send(&message[..7]).await;
    server.echo.notifications.0.send("payload".into()).unwrap();
    let answer = raw.answer().await;
    assert_eq!(answer.message_type, 'A');
    assert_eq!(answer.body, b"\0\0\0\x01channel\0payload\0");
    raw.send(&message[7..]).await;
    assert_eq!(raw.types().await, "TDCZ");
}
