//! Limits that keep one peer's greed from the others: connections, readers that don't read, ten
//! thousand that only sit there.

use std::net::TcpStream;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::{Program, SUPERUSER, Security, Session, skipped};

use super::PATIENCE;
use super::raw::{Raw, Script};

/// How many are connected.
const CLIENTS: &str = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'";
/// Memory that slow readers may cost together.
const GROWTH_BYTES_MAX: u64 = 64 << 20;
/// Connections that do nothing.
const IDLE: usize = 10_000;
/// Files that a process needs beside its connections.
const FILES_BESIDE: u64 = 500;
/// Memory that an idle connection may cost.
const IDLE_BYTES_MAX: u64 = 64 << 10;

#[test]
fn connections_are_limited_and_the_last_are_the_superusers() {
    let program = Program::start_with(Security::Trust, &["--max-connections=5"]);
    program.place().add_owner("guest");
    let open = |user: &str| program.place().login(user).open();
    let mut superuser = open(SUPERUSER).unwrap();
    assert_eq!(superuser.value("SHOW max_connections"), "5");
    assert_eq!(superuser.value("SHOW superuser_reserved_connections"), "3");
    let refused = |user: &str, message: &str| {
        let failure = open(user).expect_err("there is no place");
        let said = (&*failure.severity, &*failure.sqlstate, &*failure.message);
        assert_eq!(said, ("FATAL", "53300", message));
    };
    let reserved =
        "remaining connection slots are reserved for non-replication superuser connections";
    // A place becomes free a moment after its client has heard the end.
    let soon = |user: &str| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match open(user) {
                Ok(session) => return session,
                Err(failure) => assert!(Instant::now() < deadline, "{}", failure.text()),
            }
        }
    };
    let guest = soon("guest");
    refused("guest", reserved);
    let others: Vec<Session> = (0..3).map(|_| soon(SUPERUSER)).collect();
    refused(SUPERUSER, "sorry, too many clients already");
    refused("guest", "sorry, too many clients already");
    drop((guest, others));
    soon("guest");
}

#[test]
fn readers_that_do_not_read_cost_little() {
    let program = Program::start();
    let mut witness = program.place().session(SUPERUSER);
    let begin = |copy: bool| {
        let rows = "SELECT g, repeat('x', 1000) FROM generate_series(1, 100000000) g";
        let sql = match copy {
            false => rows.to_owned(),
            true => format!("COPY ({rows}) TO STDOUT"),
        };
        let mut raw = Raw::login(program.place(), SUPERUSER);
        raw.send(&Script::default().query(&sql).0);
        // From here on it reads nothing.
        raw.frame();
        raw
    };
    // What the first ones cost is the program's own: its code comes into memory, its threads begin.
    let first = [begin(false), begin(true)];
    for _ in 0..50 {
        assert_eq!(witness.value("SELECT 1"), "1");
    }
    let before = program.resident_bytes();
    let mut slow = Vec::from(first);
    for copy in [false, true] {
        slow.extend((0..7).map(|_| begin(copy)));
    }
    // 1.6 TB wait to be read; others are served meanwhile.
    let mut peak = 0;
    for _ in 0..500 {
        assert_eq!(witness.value("SELECT 1"), "1");
        peak = peak.max(program.resident_bytes());
    }
    let grown = peak.saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "{} MiB more", grown >> 20);
    // Who goes away while the server waits for him is forgotten, and who stays can be ended.
    slow.truncate(8);
    let wait = |witness: &mut Session, left: &str| {
        let deadline = Instant::now() + PATIENCE;
        while witness.value(CLIENTS) != left {
            assert!(Instant::now() < deadline, "more than {left} sessions");
        }
    };
    wait(&mut witness, "9");
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    assert_eq!(witness.value(end), "8");
    wait(&mut witness, "1");
}

/// Raises the limit of open files, which the program inherits, to what the system allows.
fn raise_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[test]
fn ten_thousand_may_sit_idle() {
    if raise_files() < IDLE as u64 + FILES_BESIDE {
        return skipped("a limit of 10,500 open files");
    }
    let program = Program::start_with(Security::Trust, &["--max-connections=10100"]);
    let mut first = program.place().session(SUPERUSER);
    let before = program.resident_bytes();
    let idle: Vec<TcpStream> = (0..IDLE)
        .map(|_| Raw::login(program.place(), SUPERUSER).stream)
        .collect();
    let each = program.resident_bytes().saturating_sub(before) / IDLE as u64;
    assert!(each < IDLE_BYTES_MAX, "{each} bytes for one");
    assert_eq!(first.value("SELECT 1"), "1");
    // The last of them works as the first.
    let mut last = Raw {
        stream: idle.last().unwrap().try_clone().unwrap(),
    };
    last.send(&Script::default().query("SELECT 1").0);
    assert_eq!(last.until_ready().len(), 4);
    assert_eq!(first.value(CLIENTS), (IDLE + 1).to_string());
    drop(program.place().session(SUPERUSER));
}
