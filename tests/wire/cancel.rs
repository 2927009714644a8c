//! CancelRequest at any moment: while rows stream, to a client that reads and to one that does not,
//! while a lock or data of COPY is waited for; and the timeouts, which cancel by themselves.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tests::{Place, Program, SUPERUSER, Session};

use super::PATIENCE;
use super::raw::{Frame, Raw, Script, field};

/// Far more rows than anybody waits for.
const ENDLESS: &str = "SELECT g, repeat('x', 100) FROM generate_series(1, 1000000000) g";

/// A raw connection with its key.
struct Keyed {
    raw: Raw,
    process: i32,
    secret: i32,
}

fn login(place: &Place) -> Keyed {
    let mut raw = Raw::connect(place);
    raw.send(&wire::attack::startup(SUPERUSER));
    let frames = raw.until_ready();
    let (_, key) = frames
        .iter()
        .find(|(kind, _)| *kind == b'K')
        .expect("a key");
    let number = |at: usize| i32::from_be_bytes(key[at..at + 4].try_into().unwrap());
    let (process, secret) = (number(0), number(4));
    Keyed {
        raw,
        process,
        secret,
    }
}

impl Keyed {
    /// Returns when the server has closed the request's connection.
    fn cancel(&self) {
        let mut out = BytesMut::new();
        frontend::cancel_request(self.process, self.secret, &mut out);
        let mut stream = TcpStream::connect(self.raw.stream.peer_addr().unwrap()).unwrap();
        stream.write_all(&out).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }

    fn query(&mut self, sql: &str) {
        self.raw.send(&Script::default().query(sql).0);
    }

    /// Reads to ReadyForQuery, keeping the last two frames only.
    fn end(&mut self) -> (Frame, Frame) {
        let mut last = self.raw.frame();
        loop {
            let frame = self.raw.frame();
            if frame.0 == b'Z' {
                return (last, frame);
            }
            last = frame;
        }
    }
}

fn cancelled((last, ready): (Frame, Frame)) {
    assert_eq!((last.0, &*field(&last.1, b'C')), (b'E', "57014"));
    assert_eq!(
        field(&last.1, b'M'),
        "canceling statement due to user request"
    );
    assert_eq!(ready, (b'Z', b"I".to_vec()));
}

#[test]
fn rows_that_stream_are_cancelled() {
    let program = Program::start();
    let mut client = login(program.place());
    client.query(ENDLESS);
    for _ in 0..1_000 {
        client.raw.frame();
    }
    client.cancel();
    cancelled(client.end());
    // What a portal streams behind a step of another.
    let portal = Script::default().parse("", ENDLESS).bind("", "", &[], 0);
    client
        .raw
        .send(&portal.execute("", 5).execute("", 0).sync().0);
    client.raw.until(b's');
    client.cancel();
    cancelled(client.end());
    client.query("SELECT 1");
    assert_eq!(client.end().0.0, b'C');
}

#[test]
fn who_waits_for_a_lock_is_cancelled() {
    let program = Program::start();
    let mut holder = program.place().session(SUPERUSER);
    holder.ok("CREATE TABLE t (i int PRIMARY KEY, n int)");
    holder.ok("INSERT INTO t VALUES (1, 0)");
    holder.ok("BEGIN");
    holder.ok("UPDATE t SET n = 1 WHERE i = 1");
    let mut waiting = login(program.place());
    waiting.query("UPDATE t SET n = n + 10 WHERE i = 1");
    // It waits when the server says so.
    let waits = format!(
        "SELECT wait_event_type FROM pg_stat_activity WHERE pid = {}",
        waiting.process
    );
    let deadline = std::time::Instant::now() + PATIENCE;
    while holder.value(&waits) != "Lock" {
        assert!(
            std::time::Instant::now() < deadline,
            "it does not wait for a lock"
        );
    }
    waiting.cancel();
    cancelled(waiting.end());
    holder.ok("COMMIT");
    assert_eq!(holder.value("SELECT n FROM t"), "1");
}

#[test]
fn a_copy_that_waits_for_data_is_cancelled() {
    let program = Program::start();
    let mut client = login(program.place());
    client.query("CREATE TABLE t (i int)");
    client.end();
    client.query("COPY t FROM STDIN");
    client.raw.send(&Script::default().data(b"1\n").0);
    client.raw.until(b'G');
    client.cancel();
    client.raw.send(&Script::default().data(b"2\n").done().0);
    cancelled(client.end());
    let mut session = program.place().session(SUPERUSER);
    assert_eq!(session.value("SELECT count(*) FROM t"), "0");
}

#[test]
fn timeouts_are_honoured() {
    let program = Program::start();
    let place = program.place();
    let mut holder = place.session(SUPERUSER);
    holder.ok("CREATE TABLE t (i int PRIMARY KEY)");
    holder.ok("INSERT INTO t VALUES (1)");
    holder.ok("BEGIN");
    holder.ok("SELECT * FROM t WHERE i = 1 FOR UPDATE");
    let mut session = place.session(SUPERUSER);
    session.ok("SET statement_timeout = '150ms'");
    for sql in [
        "SELECT pg_sleep(600)",
        "SELECT count(*) FROM generate_series(1, 1000000000)",
        ENDLESS,
        "DELETE FROM t WHERE i = 1",
    ] {
        let failure = session.fail(sql);
        let expected = ("57014", "canceling statement due to statement timeout");
        assert_eq!((&*failure.sqlstate, &*failure.message), expected, "{sql}");
    }
    session.ok("RESET statement_timeout");
    session.ok("SET lock_timeout = '150ms'");
    let failure = session.fail("DELETE FROM t WHERE i = 1");
    let expected = ("55P03", "canceling statement due to lock timeout");
    assert_eq!((&*failure.sqlstate, &*failure.message), expected);
    let idles = |session: &mut Session, sqlstate: &str, message: &str| {
        let failure = session.last_words(PATIENCE).expect("it says why it ends");
        let said = (&*failure.severity, &*failure.sqlstate, &*failure.message);
        assert_eq!(said, ("FATAL", sqlstate, message));
    };
    session.ok("SET idle_in_transaction_session_timeout = '150ms'");
    session.ok("BEGIN");
    let message = "terminating connection due to idle-in-transaction timeout";
    idles(&mut session, "25P03", message);
    let mut session = place.session(SUPERUSER);
    session.ok("SET idle_session_timeout = '150ms'");
    idles(
        &mut session,
        "57P05",
        "terminating connection due to idle-session timeout",
    );
    holder.ok("COMMIT");
}
