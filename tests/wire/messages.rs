//! The same messages to PostgreSQL and to Freehold, and the answers compared frame by frame:
//! NoData or RowDescription, row-limited Execute, Flush, pipelining, errors that skip to Sync,
//! formats, COPY that fails. And what a round trip costs the server in writes.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tests::{Oracle, Program, SUPERUSER, report, skipped};

use super::PATIENCE;
use super::raw::{Raw, Script, shown};

/// Round trips whose writes are counted.
const ROUND_TRIPS: usize = 200;

/// A script, the type of the last frame of its answer, and how often that comes.
type Scene = (&'static str, Script, u8, usize);

const INSERT: &str = "INSERT INTO t VALUES ($1, 'x')";
const SELECT: &str = "SELECT i, s FROM t WHERE i < $1 ORDER BY i";
const FAILS: &str = "SELECT 1 / (g - 1) FROM generate_series(1, 2) g";
const TYPES: &str = "SELECT i, s, i::int8, i / 4::numeric, i > 2, '{1,2}'::int[], NULL::text,
    '\\x00ff'::bytea, timestamptz '2024-02-29 12:00Z', 1.5::float8 FROM t WHERE i < $1 ORDER BY i";

fn new() -> Script {
    Script::default()
}

fn ready(name: &'static str, script: Script, count: usize) -> Scene {
    (name, script, b'Z', count)
}

fn descriptions() -> Vec<Scene> {
    let make = "CREATE TABLE t (i int PRIMARY KEY, s text)";
    let fill = "INSERT INTO t SELECT g, 's' || g FROM generate_series(1, 5) g";
    let insert = new().parse("", INSERT).describe(b'S', "");
    let insert = insert.bind("", "", &["10"], 0).describe(b'P', "");
    let delete = "DELETE FROM t WHERE i = $1 RETURNING s";
    let delete = new().parse("", delete).describe(b'S', "");
    let delete = delete.bind("", "", &["10"], 0).describe(b'P', "");
    let told = |sql| new().parse("", sql).describe(b'S', "").sync();
    let nothing = new().parse("", "").describe(b'S', "");
    let nothing = nothing.bind("", "", &[], 0).describe(b'P', "");
    vec![
        ready("a table", new().query(make), 1),
        ready("rows", new().query(fill), 1),
        ready("NoData for INSERT", insert.execute("", 0).sync(), 1),
        ready("columns for RETURNING", delete.execute("", 0).sync(), 1),
        ready("NoData for DDL", told("CREATE TABLE u (i int)"), 1),
        ready("NoData for SET", told("SET work_mem = '4MB'"), 1),
        ready("NoData for BEGIN", told("BEGIN"), 1),
        ready("NoData for nothing", nothing.execute("", 0).sync(), 1),
        ready("columns for SHOW", told("SHOW work_mem"), 1),
    ]
}

fn portals() -> Vec<Scene> {
    let steps = new().parse("s", SELECT).describe(b'S', "s");
    let steps = steps.bind("p", "s", &["10"], 0).execute("p", 2);
    let steps = steps.execute("p", 2).execute("p", 2).execute("p", 2);
    let steps = steps.close(b'P', "p").execute("p", 1).sync();
    let part = new().bind("", "s", &["3"], 1).describe(b'P', "");
    let part = part.execute("", 1).flush();
    // A constant expression would fail in PostgreSQL's planner already, a step earlier.
    let broken = "SELECT 1 / (g - 1) FROM generate_series(1, $1::int) g";
    let broken = new().parse("", broken);
    let broken = broken.bind("", "", &["2"], 0).execute("", 0);
    let broken = broken.bind("", "s", &["2"], 0).execute("", 0);
    let broken = broken.query("SELECT 'skipped, too'").sync();
    let broken = broken.bind("", "s", &["2"], 0).execute("", 0).sync();
    let twice = new().parse("", INSERT).bind("", "", &["20"], 0);
    let twice = twice.execute("", 0).bind("", "", &["20"], 0);
    let twice = twice.execute("", 0).sync();
    let twice = twice.query("SELECT count(*) FROM t WHERE i = 20");
    let binary = new().parse("", TYPES).bind("", "", &["4"], 1);
    let missing = new().bind("", "nope", &[], 0).sync();
    let missing = missing.describe(b'S', "nope").sync();
    let missing = missing.describe(b'P', "nope").sync();
    let missing = missing.execute("nope", 0).sync();
    let missing = missing.close(b'S', "nope").close(b'P', "nope").sync();
    let wrong = new().parse("s", SELECT).sync().bind("", "s", &[], 0).sync();
    let wrong = wrong.bind("", "s", &["x"], 0).sync();
    let wrong = wrong.parse("", "SELECT $1").describe(b'S', "").sync();
    let wrong = wrong.parse("", "SELECT 1; SELECT 2").sync();
    vec![
        ready("a portal in steps", steps, 1),
        ("Flush sends what there is", part, b's', 1),
        ready("and Sync the rest", new().execute("", 0).sync(), 1),
        ready("an error skips to Sync", broken, 2),
        ready("what precedes an error is undone", twice, 2),
        ready("binary results", binary.execute("", 0).sync(), 1),
        ready("what is not there", missing, 5),
        ready("names, counts and values that are wrong", wrong, 5),
    ]
}

fn queries() -> Vec<Scene> {
    let failed = new().query("BEGIN").query(FAILS);
    let failed = failed.query("SELECT 1").query("ROLLBACK");
    let several = "SELECT 1; INSERT INTO t VALUES (6, 'y'); SELECT 2; ;";
    let nothing = new().query("").query(" ; ").query("-- a comment");
    let notice = new().query("DROP TABLE IF EXISTS missing");
    let settings = new().query("SET application_name = 'raw'");
    let settings = settings.query("SET DateStyle = 'SQL, DMY'");
    let settings = settings.query("SET TimeZone = 'Europe/Berlin'");
    let settings = settings.query("SET work_mem = '8MB'").query("RESET ALL");
    vec![
        ready("the status of the transaction", failed, 4),
        ready("several statements", new().query(several), 1),
        ready("nothing", nothing, 3),
        ready("a notice before its tag", notice, 1),
        ready("settings that are reported", settings, 5),
    ]
}

fn copies() -> Vec<Scene> {
    let rows = |format: &str| {
        let rows = "SELECT * FROM t ORDER BY i";
        new().query(&format!("COPY ({rows}) TO STDOUT {format}"))
    };
    let breaks = "COPY (SELECT 10 / (3 - g) FROM generate_series(1, 5) g) TO STDOUT";
    let csv = new().query("COPY t FROM STDIN (FORMAT csv)");
    let bad = new().data(b"x\n").data(b"50\n").data(b"51\n").done();
    let left = new().query("SELECT i FROM t WHERE i >= 40");
    let portal = new().parse("", "COPY t FROM STDIN");
    let portal = portal.bind("", "", &[], 0).execute("", 0).flush();
    vec![
        ("COPY in", new().query("COPY t FROM STDIN"), b'G', 1),
        ready(
            "its data",
            new().data(b"30\tc\n31").data(b"\t\\N\n").done(),
            1,
        ),
        ("COPY that the client gives up", csv, b'G', 1),
        ready("with a reason", new().data(b"40,d\n").fail("no more"), 1),
        (
            "COPY that fails at once",
            new().query("COPY t (i) FROM STDIN"),
            b'G',
            1,
        ),
        ready("and skips the rest", bad, 1),
        ready("nothing of it is there", left, 1),
        ("COPY in as a portal", portal, b'G', 1),
        ready("its data and Sync", new().data(b"60\tf\n").done().sync(), 1),
        ready("COPY out as text", rows(""), 1),
        ready("as csv", rows("(FORMAT csv, HEADER)"), 1),
        ready("as binary", rows("(FORMAT binary)"), 1),
        // An error, never CopyFail: that one is the client's.
        ready("COPY out that fails in the middle", new().query(breaks), 1),
        ready("the end", new().query("DROP TABLE t"), 1),
    ]
}

#[test]
fn every_frame_is_postgresqls() {
    let Some(oracle) = Oracle::start() else {
        return;
    };
    let program = Program::start();
    let mut right = Raw::login(oracle.place(), SUPERUSER);
    let mut ours = Raw::login(program.place(), SUPERUSER);
    let mut failed = String::new();
    let mut compared = 0;
    let scenes = [descriptions(), portals(), queries(), copies()];
    for (name, script, end, count) in scenes.into_iter().flatten() {
        let answer = |raw: &mut Raw| {
            raw.send(&script.0);
            let frames = (0..count).flat_map(|_| raw.until(end)).collect::<Vec<_>>();
            let lines = frames
                .iter()
                .map(shown)
                .filter(|l| !l.starts_with("S freehold."));
            lines.collect::<Vec<_>>().join("\n")
        };
        let (right, ours) = (answer(&mut right), answer(&mut ours));
        compared += count;
        if right != ours {
            failed += &format!("---- {name}: PostgreSQL\n{right}\n---- Freehold\n{ours}\n");
        }
    }
    report("statements compared", compared);
    assert!(failed.is_empty(), "{failed}");
}

#[test]
fn a_login_is_told_the_same_settings() {
    let Some(oracle) = Oracle::start() else {
        return;
    };
    let program = Program::start();
    let told = |place: &tests::Place| {
        let mut parameters = place.session(SUPERUSER).parameters;
        parameters.remove("server_version");
        parameters.retain(|name, _| !name.starts_with("freehold."));
        parameters
    };
    assert_eq!(told(oracle.place()), told(program.place()));
}

/// What the kernel says of each thread of a process.
fn threads(pid: &str) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("status"));
    // One that has ended meanwhile has no file any more.
    tasks
        .flatten()
        .filter_map(|task| status(task).ok())
        .collect()
}

/// strace over all threads of the program; its lines go to a file of the program's folder.
fn trace(program: &Program) -> Option<Child> {
    let mut strace = Command::new(tests::tool("strace")?);
    let pid = program.pid().as_raw_nonzero().to_string();
    strace.args([
        "-f",
        "-qq",
        "-p",
        &pid,
        "-y",
        "-e",
        "trace=write,writev,sendto,sendmsg",
        "-o",
    ]);
    let file = program.folder().join("trace");
    let mut child = strace.arg(&file).stderr(Stdio::null()).spawn().unwrap();
    // It is there when the kernel says so, of every thread.
    let tracer = format!("TracerPid:\t{}\n", child.id());
    let deadline = Instant::now() + PATIENCE;
    while !threads(&pid).iter().all(|status| status.contains(&tracer)) {
        if Instant::now() > deadline || child.try_wait().unwrap().is_some() {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::yield_now();
    }
    Some(child)
}

#[test]
fn a_round_trip_of_a_prepared_statement_is_one_write() {
    let program = Program::start();
    let mut raw = Raw::login(program.place(), SUPERUSER);
    raw.send(
        &Script::default()
            .parse("s", "SELECT $1::int + 1, 'x' || $2")
            .sync()
            .0,
    );
    raw.until_ready();
    let Some(mut strace) = trace(&program) else {
        return skipped("strace that may trace");
    };
    let step = Script::default()
        .bind("", "s", &["1", "y"], 0)
        .describe(b'P', "")
        .execute("", 0);
    let step = step.sync().0;
    for _ in 0..ROUND_TRIPS {
        raw.send(&step);
        assert_eq!(raw.until_ready().len(), 5);
    }
    let pid = Pid::from_child(&strace);
    kill_process(pid, Signal::INT).unwrap();
    strace.wait().unwrap();
    let log = std::fs::read_to_string(program.folder().join("trace")).unwrap();
    let sent = |line: &&str| line.contains("<socket:[") || line.contains("<TCP");
    // A call that another thread's line cuts in two is `resumed` later.
    let writes = log
        .lines()
        .filter(|line| !line.contains("resumed>"))
        .filter(sent)
        .count();
    assert_eq!(writes, ROUND_TRIPS, "{log}");
}
