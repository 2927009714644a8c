//! Any node takes any connection: sessions whose home is another node, what they take along when
//! that moves or falls, and that nothing is ever done twice.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustix::process::Signal;
use tests::{Answer, Cluster, Session};

use crate::wire::raw::{Raw, Script, shown};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster with an owner `app`, a member of it, and the numbers of the owner's leader and of
/// another node.
fn cluster() -> (Cluster, usize, usize) {
    let mut cluster = Cluster::start(3);
    cluster.ok(1, "postgres", "CREATE ROLE app LOGIN");
    cluster.ok(1, "postgres", "CREATE ROLE member LOGIN IN ROLE app");
    cluster.settle(
        1,
        "app",
        "CREATE TABLE IF NOT EXISTS t (n int PRIMARY KEY, v text)",
    );
    // A node knows of the table when its replica is there.
    for node in 1..=3 {
        cluster.settle(node, "postgres", "SELECT * FROM app.t");
    }
    let home = cluster.leader("app");
    let other = (1..=3).find(|node| *node != home).unwrap();
    (cluster, home, other)
}

/// The only answer to a statement.
fn one(session: &mut Session, sql: &str) -> Answer {
    let answers = session
        .try_run(sql)
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    answers.into_iter().next_back().unwrap_or_default()
}

/// A statement that must succeed: its rows.
fn ok(session: &mut Session, sql: &str) -> Vec<String> {
    let answer = one(session, sql);
    assert_eq!(answer.failure(), None, "{sql}");
    answer.lines()
}

/// The state of a statement that must fail.
fn state(session: &mut Session, sql: &str) -> String {
    one(session, sql).sqlstate().to_owned()
}

fn answers(session: &mut Session) -> Vec<Answer> {
    session
        .answers_within(PATIENCE)
        .unwrap()
        .expect("an answer in time")
}

/// Waits until a statement is at work at a node.
fn await_active(cluster: &Cluster, node: usize, text: &str) {
    let query = format!(
        "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query = '{}'",
        text.replace('\'', "''")
    );
    cluster.until(|| match cluster.ask(node, "postgres", &query)?[..] {
        [] => Err(format!("{text} is not at work at node {node}")),
        _ => Ok(()),
    });
}

#[test]
fn any_node_takes_any_connection() {
    let (cluster, _, _) = cluster();
    let mut processes = Vec::new();
    for node in 1..=3 {
        let mut session = cluster.open(node, "app").unwrap();
        ok(&mut session, &format!("INSERT INTO t VALUES ({node}, 'x')"));
        let count = ok(&mut session, "SELECT count(*) FROM t");
        assert_eq!(count, [node.to_string()], "a session reads what it wrote");
        for (name, value) in [
            ("in_hot_standby", "off"),
            ("default_transaction_read_only", "off"),
        ] {
            assert_eq!(session.parameters[name], value, "node {node}");
        }
        assert_eq!(ok(&mut session, "SHOW transaction_read_only"), ["off"]);
        let process = session.process.to_string();
        assert_eq!(ok(&mut session, "SELECT pg_backend_pid()"), [&*process]);
        processes.push(process);

        ok(&mut session, "SET application_name = 'gate'");
        assert_eq!(session.parameters["application_name"], "gate");
        ok(&mut session, "PREPARE p AS SELECT v FROM t WHERE n = $1");
        assert_eq!(ok(&mut session, &format!("EXECUTE p({node})")), ["x"]);
        let failed = one(&mut session, "INSERT INTO t VALUES (1, 'again')");
        let failure = failed.failure().unwrap();
        assert_eq!(failure.sqlstate, "23505");
        assert_eq!(failure.others[&'n'], "t_pkey");
        assert_eq!(state(&mut session, "SELECT 1/0"), "22012");
        ok(&mut session, "BEGIN");
        assert_eq!(session.status, b'T');
        assert_eq!(state(&mut session, "nonsense"), "42601");
        assert_eq!(session.status, b'E');
        ok(&mut session, "ROLLBACK");
        let noticed = session.notices.len();
        ok(&mut session, "ROLLBACK");
        assert_eq!(session.notices.len(), noticed + 1);
    }
    processes.sort();
    processes.dedup();
    assert_eq!(processes.len(), 3, "process ids are told apart");
}

#[test]
fn rows_and_copies_pass_in_any_amount() {
    let (cluster, _, other) = cluster();
    let mut session = cluster.open(other, "app").unwrap();
    let mut data = Vec::new();
    for number in 0..20_000 {
        writeln!(data, "{number}\t{number:0100}").unwrap();
    }
    assert!(data.len() > 2 << 20);
    session.give_copy_data(&data);
    assert_eq!(one(&mut session, "COPY t FROM STDIN").tag(), "COPY 20000");
    let copied = one(&mut session, "COPY (SELECT * FROM t ORDER BY n) TO STDOUT");
    assert_eq!(copied.tag(), "COPY 20000");
    let lines: Vec<u8> = copied.lines().concat().into_bytes();
    assert!(lines == data, "COPY gives back what it was given");
    assert_eq!(ok(&mut session, "SELECT * FROM t").len(), 20_000);
    // One value of 4 MB each way, beyond what is kept or held back.
    let long = "y".repeat(4 << 20);
    ok(
        &mut session,
        &format!("UPDATE t SET v = '{long}' WHERE n = 7"),
    );
    assert_eq!(ok(&mut session, "SELECT v FROM t WHERE n = 7"), [long]);
    // A COPY that fails leaves the connection in step.
    session.give_copy_data(b"1\tagain\n");
    assert_eq!(state(&mut session, "COPY t FROM STDIN"), "23505");
    assert_eq!(ok(&mut session, "SELECT count(*) FROM t"), ["20000"]);
}

/// A member and a superuser have no home; they go where what they write is led, and take settings,
/// roles and prepared statements along.
#[test]
fn a_session_goes_where_it_writes() {
    let (cluster, _, other) = cluster();
    for user in ["member", "postgres"] {
        let mut session = cluster.open(other, user).unwrap();
        ok(&mut session, "SET my.setting = 'kept'");
        ok(
            &mut session,
            "PREPARE p AS SELECT current_user, current_setting('my.setting')",
        );
        assert_eq!(
            ok(
                &mut session,
                "INSERT INTO app.t VALUES (1, 'x') RETURNING n"
            ),
            ["1"]
        );
        assert_eq!(ok(&mut session, "EXECUTE p"), [format!("{user}|kept")]);
        ok(&mut session, "SET ROLE app");
        assert_eq!(ok(&mut session, "EXECUTE p"), ["app|kept"]);
        ok(&mut session, "DELETE FROM t");
        assert_eq!(ok(&mut session, "EXECUTE p"), ["app|kept"]);
    }
    // In a block that has done nothing yet, too, and DDL, which needs the directory.
    let mut session = cluster.open(other, "postgres").unwrap();
    ok(&mut session, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    ok(&mut session, "INSERT INTO app.t VALUES (2, 'y')");
    assert_eq!(
        ok(&mut session, "SHOW transaction_isolation"),
        ["repeatable read"]
    );
    ok(&mut session, "COMMIT");
    for node in 1..=3 {
        cluster.ok(
            node,
            "postgres",
            &format!("CREATE ROLE made_at_{node} LOGIN"),
        );
    }
    assert_eq!(ok(&mut session, "SELECT * FROM app.t"), ["2|y"]);
}

/// CancelRequest by itself: returns when the node has closed the connection.
fn cancel(port: u16, session: &Session) {
    let mut out = BytesMut::new();
    frontend::cancel_request(session.process, session.secret, &mut out);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(&out).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_statement_is_cancelled_over_any_node() {
    let (mut cluster, home, other) = cluster();
    let mut session = cluster.open(other, "app").unwrap();
    for over in 1..=3 {
        let text = format!("SELECT pg_sleep(600), {over}");
        session.send(&text);
        await_active(&cluster, home, &text);
        let port = cluster.node(over).place().port;
        cancel(port, &session);
        let cancelled = answers(&mut session);
        assert_eq!(cancelled[0].sqlstate(), "57014", "over node {over}");
    }
    // A wrong key does nothing.
    session.send("SELECT pg_sleep(0.2)");
    session.secret ^= 1;
    cancel(cluster.node(other).place().port, &session);
    assert_eq!(answers(&mut session)[0].sqlstate(), "00000");
}

#[test]
fn notifications_reach_a_client_of_another_node() {
    let (cluster, home, other) = cluster();
    let mut session = cluster.open(other, "app").unwrap();
    ok(&mut session, "LISTEN news");
    cluster.ok(home, "app", "NOTIFY news, 'first'");
    session.listen(PATIENCE, |session| !session.notifications.is_empty());
    assert_eq!(
        session.notifications,
        [("news".to_owned(), "first".to_owned())]
    );
}

#[test]
fn sessions_survive_the_fall_of_their_home() {
    let (mut cluster, home, other) = cluster();
    ok(
        &mut cluster.open(other, "app").unwrap(),
        "INSERT INTO t VALUES (1, 'one')",
    );
    let open = |cluster: &Cluster| cluster.open(other, "app").unwrap();
    let mut idle = open(&cluster);
    ok(&mut idle, "SET my.setting = 'kept'");
    ok(
        &mut idle,
        "PREPARE p AS SELECT current_setting('my.setting'), v FROM t WHERE n = $1",
    );
    let mut block = open(&cluster);
    ok(&mut block, "BEGIN");
    ok(&mut block, "PREPARE q AS SELECT 'within the block'");
    ok(&mut block, "INSERT INTO t VALUES (2, 'two')");
    let mut commits = open(&cluster);
    ok(&mut commits, "BEGIN");
    ok(&mut commits, "INSERT INTO t VALUES (3, 'three')");
    let mut rolls_back = open(&cluster);
    ok(&mut rolls_back, "BEGIN");
    ok(&mut rolls_back, "INSERT INTO t VALUES (4, 'four')");
    let mut failed = open(&cluster);
    ok(&mut failed, "BEGIN");
    assert_eq!(state(&mut failed, "nonsense"), "42601");
    let mut held = open(&cluster);
    ok(
        &mut held,
        "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT",
    );

    cluster.node(home).kill();

    let read = cluster.until(|| {
        let answer = one(&mut idle, "EXECUTE p(1)");
        match answer.failure() {
            None => Ok(answer.lines()),
            Some(failure) => Err(failure.text()),
        }
    });
    assert_eq!(read, ["kept|one"]);
    assert_eq!(state(&mut block, "SELECT 1"), "40001");
    assert_eq!(block.status, b'E');
    assert_eq!(state(&mut block, "SELECT 1"), "25P02");
    ok(&mut block, "ROLLBACK");
    assert_eq!(ok(&mut block, "EXECUTE q"), ["within the block"]);
    assert_eq!(state(&mut commits, "COMMIT"), "40001");
    assert_eq!(commits.status, b'I');
    ok(&mut rolls_back, "ROLLBACK");
    assert_eq!(rolls_back.status, b'I');
    assert_eq!(state(&mut failed, "SELECT 1"), "25P02");
    assert_eq!(one(&mut failed, "COMMIT").tag(), "ROLLBACK");
    for session in [
        &mut idle,
        &mut block,
        &mut commits,
        &mut rolls_back,
        &mut failed,
    ] {
        assert_eq!(ok(session, "SELECT n FROM t"), ["1"]);
    }
    let closed = held.try_run("SELECT 1");
    let told = closed.ok().and_then(|answers| answers.last().cloned());
    assert_eq!(told.unwrap().sqlstate(), "57P01");
}

/// Turns that were sent and not answered: what may have been committed is unknown, the rest is run
/// again or fails.
#[test]
fn turns_survive_the_fall_of_their_home() {
    let (mut cluster, home, other) = cluster();
    let mut session = cluster.open(other, "app").unwrap();
    ok(&mut session, "INSERT INTO t VALUES (1, 'one')");
    let mut lock = cluster.open(home, "app").unwrap();
    ok(&mut lock, "BEGIN; UPDATE t SET v = 'locked' WHERE n = 1");

    let reads = "SELECT count(*) FROM generate_series(1, 2000) a, generate_series(1, 1000) b";
    let mut reader = cluster.open(other, "app").unwrap();
    reader.send(reads);
    let writes = "UPDATE t SET v = 'alone' WHERE n = 1";
    let mut writer = cluster.open(other, "app").unwrap();
    writer.send(writes);
    let within = "UPDATE t SET v = 'in a block' WHERE n = 1";
    let mut block = cluster.open(other, "app").unwrap();
    ok(&mut block, "BEGIN");
    block.send(within);
    for text in [reads, writes, within] {
        await_active(&cluster, home, text);
    }

    cluster.node(home).kill();

    assert_eq!(answers(&mut writer)[0].sqlstate(), "08007");
    assert_eq!(writer.status, b'I');
    assert_eq!(answers(&mut block)[0].sqlstate(), "40001");
    assert_eq!(block.status, b'E');
    ok(&mut block, "ROLLBACK");
    assert_eq!(answers(&mut reader)[0].lines(), ["2000000"]);
    let rows = cluster.settle(other, "app", "SELECT * FROM t");
    assert_eq!(rows, ["1|one"]);
}

/// What drivers send on their own, and whose end they don't look at: closing a statement, preparing
/// the next one. A block's loss is told to the statement behind it, which they wait for.
#[test]
fn pipelined_turns_survive_the_fall_of_their_home() {
    let (mut cluster, home, other) = cluster();
    let mut raw = Raw::login(cluster.program(other).place(), "app");
    let told = |raw: &mut Raw, script: Script, frames: usize| -> Vec<String> {
        raw.send(&script.0);
        (0..frames).map(|_| shown(&raw.frame())).collect()
    };
    let turn = |raw: &mut Raw, script: Script| -> Vec<String> {
        raw.send(&script.0);
        raw.until_ready().iter().map(shown).collect()
    };
    let whole = |name: &str, sql: &str| {
        let prepared = Script::default().parse(name, sql).describe(b'S', name);
        prepared.bind("", name, &[], 1).execute("", 0).sync()
    };
    turn(&mut raw, whole("begin", "BEGIN"));
    let first = turn(&mut raw, whole("first", "SELECT n FROM t"));
    assert_eq!(first.last().unwrap(), "Z T");
    let begun = Script::default()
        .close(b'S', "first")
        .sync()
        .parse("next", "SELECT v FROM t")
        .flush();
    assert_eq!(told(&mut raw, begun, 3), ["3 ", "Z T", "1 "]);
    cluster.program(home).signal(Signal::STOP);
    // The answer can't come before the end of the home, which is stopped.
    let rest = Script::default().describe(b'S', "next").sync();
    let fallen = std::thread::scope(|scope| {
        let answered = scope.spawn(|| told(&mut raw, rest, 3));
        cluster.node(home).kill();
        answered.join().unwrap()
    });
    assert_eq!(fallen, ["t \\x00\\x00", "T 1 columns", "Z T"]);
    let run = Script::default().bind("", "next", &[], 1).execute("", 0);
    assert_eq!(turn(&mut raw, run.sync()), ["2 ", "E 40001", "Z E"]);
    let rollback = turn(&mut raw, whole("end", "ROLLBACK"));
    assert_eq!(rollback.last().unwrap(), "Z I", "{rollback:?}");
}

/// A place is looked for as long as it may take, however long the session has been at the last one;
/// what needs no leader does not wait for one.
#[test]
fn each_turn_has_its_time_to_find_a_leader() {
    let (mut cluster, home, other) = cluster();
    let third = (1..=3).find(|node| ![home, other].contains(node)).unwrap();
    let mut failed = cluster.open(other, "app").unwrap();
    ok(&mut failed, "BEGIN");
    assert_eq!(state(&mut failed, "SELECT 1 / 0"), "22012");
    let mut open = cluster.open(other, "app").unwrap();
    ok(&mut open, "BEGIN; INSERT INTO t VALUES (1, 'lost')");
    let mut reader = cluster.open(other, "app").unwrap();
    // It stays there for almost as long as a place is looked for.
    ok(&mut reader, "SELECT pg_sleep(4.7)");
    let reads = "SELECT count(*) FROM generate_series(1, 2000) a, generate_series(1, 1000) b";
    reader.send(reads);
    await_active(&cluster, home, reads);
    for node in [home, third] {
        cluster.program(node).signal(Signal::STOP);
    }
    failed.send("ROLLBACK");
    open.send("SELECT 1");
    cluster.node(home).kill();
    // Two thirds are away: nobody leads.
    assert_eq!(answers(&mut failed)[0].tag(), "ROLLBACK");
    assert_eq!(answers(&mut open)[0].sqlstate(), "40001");
    ok(&mut open, "ROLLBACK");
    let early = reader.answers_within(Duration::from_secs(1)).unwrap();
    assert_eq!(early, None);
    cluster.program(third).signal(Signal::CONT);
    assert_eq!(answers(&mut reader)[0].lines(), ["2000000"]);
}

/// Every acknowledged statement is done once, every failed one never, every unknown one at most
/// once, while the home falls under load.
#[test]
fn nothing_is_done_twice() {
    let (mut cluster, home, _) = cluster();
    cluster.settle(
        home,
        "app",
        "INSERT INTO t VALUES (0, '') ON CONFLICT DO NOTHING",
    );
    cluster.settle(
        home,
        "app",
        "CREATE TABLE IF NOT EXISTS c (id int PRIMARY KEY, n int)",
    );
    cluster.settle(
        home,
        "app",
        "INSERT INTO c VALUES (0, 0), (1, 0), (2, 0), (3, 0) ON CONFLICT DO NOTHING",
    );
    let others: Vec<usize> = (1..=3).filter(|node| *node != home).collect();
    let sessions: Vec<Session> = (0..4)
        .map(|at| cluster.open(others[at % 2], "app").unwrap())
        .collect();
    let over = AtomicBool::new(false);
    let counts = std::thread::scope(|scope| {
        let over = &over;
        let workers: Vec<_> = sessions
            .into_iter()
            .enumerate()
            .map(|(at, mut session)| {
                scope.spawn(move || {
                    let update = format!("UPDATE c SET n = n + 1 WHERE id = {at}");
                    let (mut done, mut unknown) = (0, 0);
                    while !over.load(Ordering::SeqCst) {
                        match one(&mut session, &update).sqlstate() {
                            "00000" => done += 1,
                            "08007" => unknown += 1,
                            "40001" | "57P03" => {}
                            other => panic!("{other}"),
                        }
                    }
                    (done, unknown)
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(500));
        cluster.node(home).kill();
        // Long enough for a new leader.
        cluster.settle(others[0], "app", "UPDATE t SET v = 'led again'");
        std::thread::sleep(Duration::from_millis(500));
        over.store(true, Ordering::SeqCst);
        let all = workers.into_iter().map(|worker| worker.join().unwrap());
        all.collect::<Vec<(u32, u32)>>()
    });
    let found = cluster.settle(others[1], "app", "SELECT n FROM c ORDER BY id");
    for (found, (done, unknown)) in found.iter().zip(&counts) {
        let found: u32 = found.parse().unwrap();
        println!("{found} found, {done} done, {unknown} unknown");
        assert!(
            (*done..=done + unknown).contains(&found),
            "{found} {done} {unknown}"
        );
        assert!(*done > 10, "there was no load");
    }
}
