//! Any node takes any connection: sessions whose home is another node, what they take along when
//! that moves or falls, and that nothing is ever done twice.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustix::process::Signal;
use tests::{Answer, Cluster, Session, postgres_tool, run};

use crate::http::drain;
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

/// A client that is given all nodes and wants one that writes goes to the first that is there.
#[test]
fn libpq_finds_a_node_that_writes_among_several() {
    let (mut cluster, home, _) = cluster();
    let nodes = (0..3).map(|behind| (home - 1 + behind) % 3 + 1);
    let port = |node: usize| cluster.program(node).place().port.to_string();
    let ports: Vec<String> = nodes.map(port).collect();
    let ask = |cluster: &Cluster, wants: &str, sql: &str| -> Option<String> {
        let mut psql = Command::new(postgres_tool("psql")?);
        cluster.program(1).place().environment(&mut psql, "app");
        let to = format!(
            "host=127.0.0.1,127.0.0.1,127.0.0.1 port={} target_session_attrs={wants}",
            ports.join(",")
        );
        let said = run(psql.args(["-X", "-A", "-t", "-d", &to, "-c", sql]), "");
        let text = [said.stdout, said.stderr].concat();
        Some(String::from_utf8_lossy(&text).trim().to_owned())
    };
    let Some(said) = ask(&cluster, "read-write", "INSERT INTO t VALUES (1, 'x')") else {
        return;
    };
    assert_eq!(said, "INSERT 0 1");
    // One that is gone is passed over, and the others find the new home.
    cluster.node(home).kill();
    for wants in ["read-write", "primary", "prefer-standby", "any"] {
        let rows = cluster.until(|| {
            let said = ask(&cluster, wants, "SELECT n FROM t").unwrap();
            match &*said {
                "1" => Ok(said),
                _ => Err(said),
            }
        });
        assert_eq!(rows, "1", "{wants}");
    }
    let said = ask(&cluster, "read-write", "UPDATE t SET v = 'y' RETURNING v").unwrap();
    assert!(said.starts_with('y'), "{said}");
    let standby = ask(&cluster, "standby", "SELECT 1").unwrap();
    assert!(
        standby.contains("server is not in hot standby mode"),
        "{standby}"
    );
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

/// Until a statement of a client of another node is at work at its home, and what the home has said
/// of it has come: the end of the home may swallow what is still on its way.
fn await_told(cluster: &Cluster, home: usize, other: usize, text: &str) {
    await_active(cluster, home, text);
    // It comes in front of the answer to a later one.
    cluster.ok(other, "app", "SELECT count(*) FROM t");
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

/// With `freehold.read = 'local'` a session is where its client is. What it writes it writes at its
/// home, and sees it afterwards.
#[test]
fn local_reads_are_done_where_the_client_is() {
    let (mut cluster, _, other) = cluster();
    let mut session = cluster.open(other, "app").unwrap();
    ok(&mut session, "INSERT INTO t VALUES (1, '')");
    ok(&mut session, "SET freehold.read = 'local'");
    ok(&mut session, "PREPARE p AS SELECT v FROM t WHERE n = 1");
    for value in ["a", "b", "c"] {
        ok(&mut session, &format!("UPDATE t SET v = '{value}'"));
        assert_eq!(ok(&mut session, "EXECUTE p"), [value]);
    }
    ok(&mut session, "BEGIN");
    assert_eq!(ok(&mut session, "EXECUTE p"), ["c"]);
    ok(&mut session, "UPDATE t SET v = 'block'");
    assert_eq!(ok(&mut session, "EXECUTE p"), ["block"]);
    ok(&mut session, "COMMIT");
    assert_eq!(ok(&mut session, "EXECUTE p"), ["block"]);
    for node in (1..=3).filter(|node| *node != other) {
        cluster.node(node).kill();
    }
    assert_eq!(ok(&mut session, "EXECUTE p"), ["block"]);
    assert_eq!(state(&mut session, "DELETE FROM t"), "57P03");
    ok(&mut session, "BEGIN READ ONLY");
    assert_eq!(ok(&mut session, "EXECUTE p"), ["block"]);
    ok(&mut session, "COMMIT");
    ok(&mut session, "SET freehold.read = 'home'");
    assert_eq!(state(&mut session, "EXECUTE p"), "57P03");
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
        await_told(&cluster, home, other, text);
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
    await_told(&cluster, home, other, reads);
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

/// However often a statement begins anew, and wherever: its client waits for it once.
#[test]
fn a_statement_that_is_run_again_has_spent_its_time() {
    let (mut cluster, home, other) = cluster();
    let mut reader = cluster.open(other, "app").unwrap();
    ok(&mut reader, "SET statement_timeout = '50s'");
    let reads = "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b";
    reader.send(reads);
    await_told(&cluster, home, other, reads);
    // The way to another home counts as time that is left: what is told apart here is longer.
    let later = "SELECT clock_timestamp() FROM pg_sleep(2)";
    let before = cluster.ok(other, "postgres", later)[0].clone();
    cluster.node(home).kill();
    let started = format!(
        "SELECT query_start < '{before}' FROM pg_stat_activity \
         WHERE state = 'active' AND query = '{reads}'"
    );
    let running = cluster.running();
    let early = cluster.until(|| {
        if let Ok(Some(answers)) = reader.answers_within(Duration::from_millis(1)) {
            panic!("it is over: {answers:?}");
        }
        let shown = running
            .iter()
            .map(|node| cluster.ask(*node, "postgres", &started));
        let shown: Vec<String> = shown.flatten().flatten().collect();
        match shown.first() {
            Some(early) => Ok(early.clone()),
            None => Err("it is not at work again".to_owned()),
        }
    });
    assert_eq!(early, "t");
    reader.cancel();
    assert_eq!(answers(&mut reader)[0].sqlstate(), "57014");
}

/// Nor is a leader looked for longer than the statement may take.
#[test]
fn the_search_for_a_leader_ends_with_the_statements_time() {
    let (mut cluster, _, other) = cluster();
    let mut hasty = cluster.open(other, "app").unwrap();
    ok(&mut hasty, "SET statement_timeout = '1s'");
    let mut patient = cluster.open(other, "app").unwrap();
    ok(&mut patient, "SELECT count(*) FROM t");
    let others: Vec<usize> = (1..=3).filter(|node| *node != other).collect();
    others
        .iter()
        .for_each(|n| cluster.program(*n).signal(Signal::STOP));
    others.iter().for_each(|n| cluster.node(*n).kill());
    let insert = "INSERT INTO t VALUES (1, 'x')";
    assert_eq!(state(&mut hasty, insert), "57014");
    assert_eq!(state(&mut patient, insert), "57P03");
}

/// What frameworks begin a block with does not keep it where it is.
#[test]
fn a_members_block_that_has_done_nothing_goes_where_it_writes() {
    let (cluster, _, other) = cluster();
    for (at, user) in ["member", "postgres"].into_iter().enumerate() {
        let mut session = cluster.open(other, user).unwrap();
        for sql in [
            "BEGIN",
            "LISTEN news",
            "SAVEPOINT s",
            "SET LOCAL my.in = 'in'",
        ] {
            ok(&mut session, sql);
        }
        let n = 10 * at;
        ok(
            &mut session,
            &format!("INSERT INTO app.t VALUES ({n}, 'back')"),
        );
        ok(&mut session, "ROLLBACK TO s");
        let local = "SELECT coalesce(current_setting('my.in', true), '')";
        assert_eq!(ok(&mut session, local), [""]);
        ok(
            &mut session,
            &format!("INSERT INTO app.t VALUES ({n}, 'kept')"),
        );
        ok(&mut session, "RELEASE s");
        ok(&mut session, "COMMIT");
        assert_eq!(
            ok(&mut session, "SELECT * FROM pg_listening_channels()"),
            ["news"]
        );
        let kept = format!("SELECT v FROM app.t WHERE n = {n}");
        assert_eq!(ok(&mut session, &kept), ["kept"]);
    }
}

/// Every acknowledged statement is done once, every failed one never, every unknown one at most
/// once, while the home falls under load.
#[test]
fn nothing_is_done_twice() {
    let (mut cluster, home, _) = cluster();
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
    let acknowledged: [AtomicU32; 4] = Default::default();
    let counts = std::thread::scope(|scope| {
        let (over, acknowledged) = (&over, &acknowledged);
        let await_more = |cluster: &Cluster, more: u32| {
            let wanted = acknowledged
                .each_ref()
                .map(|n| n.load(Ordering::SeqCst) + more);
            cluster.until(|| {
                let there = acknowledged.each_ref().map(|n| n.load(Ordering::SeqCst));
                match there.iter().zip(wanted).all(|(n, wanted)| *n >= wanted) {
                    true => Ok(()),
                    false => Err(format!("{there:?} are done of {wanted:?}")),
                }
            });
        };
        let workers: Vec<_> = sessions
            .into_iter()
            .enumerate()
            .map(|(at, mut session)| {
                scope.spawn(move || {
                    let update = format!("UPDATE c SET n = n + 1 WHERE id = {at}");
                    let (mut done, mut unknown) = (0, 0);
                    while !over.load(Ordering::SeqCst) {
                        match one(&mut session, &update).sqlstate() {
                            "00000" => {
                                done += 1;
                                acknowledged[at].store(done, Ordering::SeqCst);
                            }
                            "08007" => unknown += 1,
                            "40001" | "57P03" => {}
                            other => panic!("{other}"),
                        }
                    }
                    (done, unknown)
                })
            })
            .collect();
        await_more(&cluster, 10);
        cluster.node(home).kill();
        await_more(&cluster, 3);
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
    }
}

/// Runs a statement that stands for itself until there is a leader to do it. Leaders may change
/// meanwhile, but that is nothing that such a statement is told: tells whether it was done, or may
/// have been.
fn done(session: &mut Session, sql: &str) -> bool {
    loop {
        match one(session, sql).failure() {
            None => return true,
            Some(failure) => match &*failure.sqlstate {
                // So busy a machine that no leader stays one.
                "57P03" => {}
                "08007" => return false,
                _ => panic!("{sql}: {}", failure.text()),
            },
        }
    }
}

/// An owner's group is made with its first table, and goes to where it should be led: whoever comes
/// first sees nothing of it.
#[test]
fn a_first_table_is_made_at_any_node() {
    let cluster = Cluster::start(3);
    for number in 0..12 {
        let at = |offset: usize| 1 + (number + offset) % 3;
        let owner = format!("owner_{number}");
        cluster.ok(at(0), "postgres", &format!("CREATE ROLE {owner} LOGIN"));
        // Other nodes hear of it in time, unless the machine is busy.
        let open = |at| cluster.until(|| cluster.open(at, &owner).map_err(|why| why.text()));
        let mut session = open(at(number / 3));
        let mut elsewhere = open(at(number / 3 + 1));
        let mut all = done(&mut session, "CREATE TABLE t (n int PRIMARY KEY)");
        all &= done(&mut session, "INSERT INTO t VALUES (1)");
        // Of an owner's first table a node hears in time, too.
        cluster.until(|| cluster.ask(at(number / 3 + 1), &owner, "SELECT FROM t"));
        all &= done(&mut elsewhere, "INSERT INTO t VALUES (2)");
        if all {
            let found = cluster.settle(at(number / 3), &owner, "SELECT count(*) FROM t");
            assert_eq!(found, ["2"], "{owner}");
        }
    }
}

/// A leader that hands over leaves no statement behind that stands for itself: what did not get into
/// its log is done by the next one, once.
#[test]
fn statements_go_on_while_leadership_is_handed_over() {
    let (mut cluster, _, _) = cluster();
    let over = AtomicBool::new(false);
    let sessions: Vec<Session> = (0..6)
        .map(|at| cluster.open(1 + at % 3, "app").unwrap())
        .collect();
    let all = std::thread::scope(|scope| {
        let over = &over;
        let insert = |at: usize, mut session: Session| {
            let (mut sure, mut unsure) = (0, 0);
            while !over.load(Ordering::SeqCst) {
                let n = at + 10 * (sure + unsure);
                match done(&mut session, &format!("INSERT INTO t VALUES ({n}, 'x')")) {
                    true => sure += 1,
                    false => unsure += 1,
                }
            }
            (sure, unsure)
        };
        let workers: Vec<_> = sessions
            .into_iter()
            .enumerate()
            .map(|(at, session)| scope.spawn(move || insert(at, session)))
            .collect();
        let handing = scope.spawn(|| {
            for _ in 0..4 {
                let home = cluster.leader("app");
                let (done, said) = drain(cluster.program(home), &[]);
                assert!(done, "{said}");
                assert_ne!(cluster.leader("app"), home);
                let (done, said) = drain(cluster.program(home), &["--cancel"]);
                assert!(done, "{said}");
            }
        });
        let handed = handing.join();
        over.store(true, Ordering::SeqCst);
        let all = workers.into_iter().map(|worker| worker.join().unwrap());
        let all: Vec<(usize, usize)> = all.collect();
        handed.unwrap();
        all
    });
    println!("{all:?}");
    let sure: usize = all.iter().map(|(sure, _)| sure).sum();
    let unsure: usize = all.iter().map(|(_, unsure)| unsure).sum();
    let found = cluster.settle(1, "app", "SELECT count(*) FROM t");
    let found: usize = found[0].parse().unwrap();
    assert!(
        (sure..=sure + unsure).contains(&found),
        "{found} of {all:?}"
    );
    assert!(sure > 10, "there was no load");
}
