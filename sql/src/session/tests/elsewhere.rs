//! Statements that need a group which is led on another node, or on none.

use std::sync::atomic::Ordering;

use storage::GroupId;

use super::node::Client;
use super::pair::Pair;
use crate::session::{Portable, Session, Status, Step};

/// Two owners with a table each, everything led by the first node.
fn pair() -> (Pair, GroupId, GroupId) {
    let pair = Pair::new();
    pair.a
        .client("postgres")
        .ok("create role app login; create role other login");
    for owner in ["app", "other"] {
        pair.a
            .client(owner)
            .ok("create table t (id int primary key, n int); insert into t values (1, 1)");
    }
    pair.a.client("app").ok("create sequence s");
    pair.sync();
    let (app, other) = (pair.a.group("app"), pair.a.group("other"));
    (pair, app, other)
}

fn elsewhere(group: GroupId) -> String {
    format!("ELSEWHERE {group}")
}

/// Runs the turn again at the second node.
fn again(pair: &Pair, user: &str, client: Client, sql: &str) -> (Client, String) {
    let exported = client.session.export().expect("it can move");
    drop(client);
    let mut client = pair.b.resumed(user, &exported);
    let result = client.run(sql);
    pair.sync();
    (client, result)
}

#[test]
fn what_needs_the_leader_goes_there_and_is_run_again() {
    let (pair, app, _) = pair();
    pair.hand_over(app);
    for (sql, answer, rows) in [
        ("insert into t values (2, 2)", "INSERT 0 1", ""),
        (
            "update t set n = n + 1 where id = 1 returning n",
            "UPDATE 1",
            "2",
        ),
        ("delete from t where id = 2", "DELETE 1", ""),
        ("select n from t where id = 1 for update", "SELECT 1", "2"),
        ("select nextval('s')", "SELECT 1", "1"),
        ("select setval('s', 40)", "SELECT 1", "40"),
        (
            "select pg_logical_emit_message(true, 'e', 'x')",
            "SELECT 1",
            "0/0",
        ),
        ("create table u (id int)", "CREATE TABLE", ""),
        ("alter table t add column x int", "ALTER TABLE", ""),
        (
            "begin; lock table t; commit",
            "BEGIN; LOCK TABLE; COMMIT",
            "",
        ),
        ("truncate u", "TRUNCATE TABLE", ""),
    ] {
        let mut client = pair.a.client("app");
        assert_eq!(client.run(sql), elsewhere(app), "{sql}");
        let (client, told) = again(&pair, "app", client, sql);
        assert_eq!(
            (told.as_str(), client.shown().as_str()),
            (answer, rows),
            "{sql}"
        );
    }
    let mut client = pair.a.client("app");
    assert_eq!(client.run("copy t from stdin"), elsewhere(app));
    pair.hand_over(GroupId::DIRECTORY);
    let mut root = pair.a.client("postgres");
    let sql = "create role third";
    assert_eq!(root.run(sql), elsewhere(GroupId::DIRECTORY));
    let (_, told) = again(&pair, "postgres", root, sql);
    assert_eq!(told, "CREATE ROLE");
}

#[test]
fn a_member_that_writes_its_owner_goes_there_and_reads_the_others_where_it_is() {
    let (pair, app, _) = pair();
    let mut root = pair.a.client("postgres");
    root.ok("grant app to other");
    pair.sync();
    pair.hand_over(app);
    let mut other = pair.a.client("other");
    assert_eq!(other.rows("select n from app.t"), "1");
    assert_eq!(other.run("insert into app.t values (3, 3)"), elsewhere(app));
    assert_eq!(other.ok("insert into t values (2, 2)"), "INSERT 0 1");
}

#[test]
fn a_turn_is_run_again_from_its_beginning() {
    let (pair, app, _) = pair();
    pair.hand_over(app);
    let mut client = pair.a.client("app");
    client.ok("set my.before = 'a'; prepare kept as select 1");
    let sql = "set my.turn = 'x'; prepare p as select 7; deallocate kept; select id from t; \
               insert into t values (9, 9)";
    assert_eq!(client.run(sql), elsewhere(app));
    let (mut client, told) = again(&pair, "app", client, sql);
    assert_eq!(told, "SET; PREPARE; DEALLOCATE; SELECT 1; INSERT 0 1");
    assert_eq!(client.rows("execute p"), "7");
    assert_eq!(client.rows("show my.turn"), "x");
    assert_eq!(client.rows("show my.before"), "a");
    assert!(client.run("execute kept").starts_with("ERROR 26000"));
}

/// Parse, Bind and Execute of one statement.
fn execute(session: &mut Session, sql: &str, client: &mut super::node::Answer) -> Step {
    session.parse("s", sql, &[]).expect("parses");
    let none: [Option<&[u8]>; 0] = [];
    session
        .bind("", "s", &[], none.into_iter(), &[])
        .expect("binds");
    session.execute("", 0, client).expect("no error")
}

#[test]
fn a_turn_of_the_extended_protocol_is_run_again_from_its_beginning() {
    let (pair, app, _) = pair();
    pair.hand_over(app);
    let mut client = pair.a.client("app");
    let mut out = super::node::Answer::default();
    let sql = "insert into t values (5, 5)";
    let step = execute(&mut client.session, sql, &mut out);
    assert!(
        matches!(step, Step::Elsewhere(group) if group == app),
        "{step:?}"
    );
    let exported = client.session.export().expect("it can move");
    let mut client = pair.b.resumed("app", &exported);
    let step = execute(&mut client.session, sql, &mut out);
    assert!(matches!(step, Step::Done { .. }), "{step:?}");
    assert!(matches!(client.session.sync(&mut out), Ok(Step::End)));
}

#[test]
fn an_open_block_that_has_only_read_goes_along() {
    let (pair, app, _) = pair();
    let mut root = pair.a.client("postgres");
    root.ok("set my.out = 'out'");
    root.ok("begin; set local my.in = 'in'; select * from other.t; set role app");
    let now = root.rows("select now()");
    pair.hand_over(app);
    pair.clock.advance(5_000_000);
    let sql = "insert into t values (2, 2)";
    assert_eq!(root.run(sql), elsewhere(app));
    let (mut root, told) = again(&pair, "postgres", root, sql);
    assert_eq!(told, "INSERT 0 1");
    assert_eq!(root.session.status(), Status::InTransaction);
    assert_eq!(root.rows("select now()"), now, "it is the same transaction");
    assert_eq!(root.rows("show my.in"), "in");
    assert_eq!(root.rows("select current_user"), "app");
    assert_eq!(root.ok("rollback"), "ROLLBACK");
    assert_eq!(root.rows("select current_user"), "postgres");
    assert_eq!(root.rows("select current_setting('my.in', true)"), "NULL");
    assert_eq!(root.rows("show my.out"), "out");
    pair.sync();
    let mut root = pair.a.client("postgres");
    assert_eq!(root.rows("select count(*) from app.t"), "1");
}

/// Frameworks begin so: the member's block goes where its owner is led, and all that it can go back
/// to goes along.
#[test]
fn a_block_that_has_done_nothing_goes_along_with_its_savepoints() {
    let (pair, app, _) = pair();
    pair.hand_over(app);
    let insert = "insert into app.t values (2, 2)";
    let listens = "select * from pg_listening_channels()";
    for (back, inner, channels) in [("t", "2", "c"), ("s", "1", "")] {
        let mut root = pair.a.client("postgres");
        root.ok("begin; set local my.in = '1'; savepoint s");
        root.ok("set local my.in = '2'; listen c; savepoint t");
        root.ok("set local my.in = '3'; select * from other.t; set role app");
        assert_eq!(root.run(insert), elsewhere(app));
        let (mut root, told) = again(&pair, "postgres", root, insert);
        assert_eq!(told, "INSERT 0 1");
        assert_eq!(root.rows("show my.in"), "3");
        assert_eq!(root.rows("select count(*) from t"), "2");
        root.ok(&format!("rollback to {back}"));
        assert_eq!(root.rows("show my.in"), inner);
        assert_eq!(root.rows("select current_user"), "postgres");
        assert_eq!(root.rows("select count(*) from app.t"), "1");
        assert_eq!(root.ok("commit"), "COMMIT");
        assert_eq!(root.rows(listens), channels);
    }
    // Where the turn itself has made it, it is made again.
    let mut root = pair.a.client("postgres");
    root.ok("begin");
    let sql = "savepoint s; insert into app.t values (3, 3); release s; commit";
    assert_eq!(root.run(sql), elsewhere(app));
    let (_, told) = again(&pair, "postgres", root, sql);
    assert_eq!(told, "SAVEPOINT; INSERT 0 1; RELEASE; COMMIT");
}

/// What was done since is lost with its home: nobody goes back behind it.
#[test]
fn savepoints_of_a_block_that_has_fallen_are_gone() {
    let (pair, _, _) = pair();
    let mut client = pair.a.client("app");
    let known = client.session.export_changes().expect("it can move");
    let mut known = Portable::new(&known).unwrap();
    client.ok("begin; savepoint s");
    known
        .merge(&client.session.export_changes().expect("it can move"))
        .unwrap();
    client.ok("insert into t values (9, 9); savepoint u");
    assert_eq!(client.session.export_changes(), None);
    let mut client = pair.b.resumed("app", &known.encode());
    client.session.fallen(Status::InTransaction);
    assert!(client.run("rollback to u").starts_with("ERROR 40001"));
    assert!(client.run("rollback to s").starts_with("ERROR 40001"));
    assert!(client.run("select 1").starts_with("ERROR 25P02"));
    assert_eq!(client.ok("commit"), "ROLLBACK");
    assert_eq!(
        client.run("begin; rollback to s; commit"),
        "BEGIN; ERROR 3B001: savepoint \"s\" does not exist"
    );
    // What was told first was another statement, or the end of the savepoint.
    for first in ["select 1", "insert into t values (8, 8)", "release s"] {
        let mut client = pair.b.resumed("app", &known.encode());
        client.session.fallen(Status::InTransaction);
        assert!(client.run(first).starts_with("ERROR 40001"), "{first}");
        for then in ["rollback to s", "rollback to s"] {
            assert!(client.run(then).starts_with("ERROR 40001"), "{first}");
        }
        assert!(client.run("release s").starts_with("ERROR 25P02"));
        assert_eq!(client.ok("rollback"), "ROLLBACK");
        assert_eq!(client.run("select 1"), "SELECT 1");
    }
    // One that had failed before, too.
    for (then, told) in [("rollback to s", "ERROR 40001"), ("commit", "ROLLBACK")] {
        let mut client = pair.b.resumed("app", &known.encode());
        client.session.fallen(Status::Failed);
        assert!(client.run("select 1").starts_with("ERROR 25P02"));
        assert!(client.run(then).starts_with(told), "{then}");
    }
}

#[test]
fn a_block_that_begins_in_the_turn_begins_again() {
    let (pair, app, _) = pair();
    pair.hand_over(app);
    let mut client = pair.a.client("app");
    let sql = "begin isolation level repeatable read; select * from t; insert into t values (2, 2)";
    assert_eq!(client.run(sql), elsewhere(app));
    let (mut client, told) = again(&pair, "app", client, sql);
    assert_eq!(told, "BEGIN; SELECT 1; INSERT 0 1");
    assert!(
        client.answer.notices.is_empty(),
        "{:?}",
        client.answer.notices
    );
    assert_eq!(client.ok("commit"), "COMMIT");
}

#[test]
fn what_would_be_lost_stays_and_fails() {
    let (pair, app, _) = pair();
    pair.hand_over(app);
    let insert = "insert into app.t values (2, 2)";
    for (before, how) in [
        (
            "begin; update other.t set n = 2 where id = 1; rollback; begin; lock table other.t",
            "a lock",
        ),
        ("begin; select * from other.t for update", "locked rows"),
        ("begin; declare c cursor for select 1", "a cursor"),
        ("declare c cursor with hold for select 1", "a held cursor"),
        ("select pg_advisory_lock(1)", "an advisory lock"),
        (
            "begin; select pg_advisory_xact_lock(1)",
            "an advisory lock of the transaction",
        ),
        ("begin; select pg_current_xact_id()", "an id that was told"),
        ("begin; notify c", "a NOTIFY"),
        (
            "begin isolation level repeatable read; select * from other.t",
            "a snapshot",
        ),
        (
            "begin isolation level serializable; select * from other.t",
            "a snapshot",
        ),
    ] {
        let mut root = pair.a.client("postgres");
        root.ok(before);
        let told = root.run(insert);
        assert!(told.starts_with("ERROR 40001"), "{how}: {told}");
    }
    let mut root = pair.a.client("postgres");
    let told =
        root.run("update other.t set n = 3 where id = 1; commit; insert into app.t values (2, 2)");
    assert!(
        told.contains("COMMIT; ERROR 40001"),
        "what is done is not done again: {told}"
    );
    let told =
        root.run("begin; update other.t set n = 3 where id = 1; insert into app.t values (2, 2)");
    assert!(told.contains("ERROR 0A000"), "another owner's: {told}");
}

#[test]
fn a_server_that_cannot_move_a_session_fails_its_turn() {
    let (pair, app, _) = pair();
    pair.hand_over(app);
    let mut client = pair.a.client("app");
    client.ok("begin");
    assert_eq!(client.run("insert into t values (2, 2)"), elsewhere(app));
    let error = client.session.stay();
    assert_eq!(error.state(), crate::state::SERIALIZATION_FAILURE);
    assert!(matches!(client.session.settle(), Ok(None)));
    assert_eq!(client.session.status(), Status::Failed);
    assert_eq!(client.ok("rollback"), "ROLLBACK");
    assert_eq!(client.run("insert into t values (2, 2)"), elsewhere(app));
}

#[test]
fn without_a_leader_a_statement_waits_for_one() {
    let (pair, app, _) = pair();
    let mut client = pair.a.client("app");
    let insert = "insert into t values (2, 2)";
    pair.depose(app);
    assert_eq!(client.start(insert), None);
    pair.clock.advance(1_000_000);
    assert_eq!(client.go_on(), None);
    pair.a.local.lead(app).unwrap();
    pair.clock.advance(1_000_000);
    assert_eq!(client.go_on().as_deref(), Some("INSERT 0 1"));

    pair.depose(app);
    assert_eq!(client.start("delete from t where id = 2"), None);
    pair.hand_over(app);
    pair.clock.advance(1_000_000);
    assert_eq!(client.go_on(), Some(elsewhere(app)));
}

#[test]
fn without_a_leader_for_long_it_fails_and_names_the_owner() {
    let (pair, app, _) = pair();
    let mut client = pair.a.client("app");
    pair.depose(app);
    assert_eq!(client.start("insert into t values (2, 2)"), None);
    pair.clock.advance(4_900_000);
    assert_eq!(client.go_on(), None);
    pair.clock.advance(200_000);
    let told = client.go_on().expect("its time is over");
    assert!(
        told.starts_with("ERROR 57P03: the tables of owner \"app\" can't be reached now")
            && told.contains(" HINT: "),
        "{told}"
    );
    assert_eq!(
        client.start("insert into t values (2, 2)"),
        None,
        "the next one has its own time"
    );
    client.session.activity().cancel();
    client.stop_waiting();
    assert!(client.go_on().expect("told").starts_with("ERROR 57014"));
    client.ok("set statement_timeout = '1s'");
    assert_eq!(client.start("insert into t values (2, 2)"), None);
    pair.clock.advance(1_100_000);
    assert!(client.go_on().expect("told").starts_with("ERROR 57014"));
    pair.script.cut.store(true, Ordering::SeqCst);
    pair.a.local.step_down(GroupId::DIRECTORY);
    let mut root = pair.a.client("postgres");
    assert_eq!(root.start("create role third"), None);
    pair.clock.advance(5_100_000);
    let told = root.go_on().expect("its time is over");
    assert!(
        told.starts_with("ERROR 57P03: roles, memberships"),
        "{told}"
    );
}

/// What was executed and has come to nothing is executed once more, if its client was told nothing.
#[test]
fn what_was_refused_begins_anew() {
    let (pair, app, _) = pair();
    for (id, sql, done) in [
        (5, "insert into t values (5, 5)", "INSERT 0 1"),
        (
            6,
            "set my.turn = 'x'; insert into t values (6, 6)",
            "SET; INSERT 0 1",
        ),
        (
            7,
            "begin; insert into t values (7, 7); commit",
            "BEGIN; INSERT 0 1; COMMIT",
        ),
    ] {
        let mut client = pair.a.client("app");
        pair.a.local.hold(app);
        assert_eq!(client.start(sql), None);
        assert_eq!(pair.a.local.refuse(app, 1), 1);
        pair.a.local.release(app).expect("nothing is left");
        assert_eq!(client.go_on().as_deref(), Some(&*elsewhere(app)), "{sql}");
        let exported = client.session.export().expect("as it was");
        drop(client);
        // The same node leads.
        let mut client = pair.a.resumed("app", &exported);
        assert_eq!(
            client.rows("select current_setting('my.turn', true)"),
            "NULL"
        );
        assert_eq!(
            client.rows(&format!("select count(*) from t where id = {id}")),
            "0"
        );
        assert_eq!(client.ok(sql), done);
        assert_eq!(
            client.rows(&format!("select count(*) from t where id = {id}")),
            "1"
        );
    }
}

#[test]
fn what_began_under_a_leader_that_has_changed_begins_anew() {
    let (pair, app, _) = pair();
    let mut blocker = pair.a.client("app");
    blocker.ok("begin; update t set n = 7 where id = 1");
    let mut writer = pair.a.client("app");
    let sql = "update t set n = n + 1 where id = 1";
    assert_eq!(writer.start(sql), None, "it waits for the row");
    let mut ddl = pair.a.client("app");
    assert_eq!(ddl.start("alter table t add column x int"), None);
    pair.hand_over(app);
    let told = writer.go_on();
    assert_eq!(told.as_deref(), Some(&*elsewhere(app)));
    let (_, told) = again(&pair, "app", writer, sql);
    assert_eq!(told, "UPDATE 1");
    assert_eq!(ddl.go_on().as_deref(), Some(&*elsewhere(app)));
    assert!(blocker.run("commit").starts_with("ERROR 40001"));
    assert_eq!(pair.b.client("app").rows("select n from t"), "2");
}

#[test]
fn a_turn_of_the_extended_protocol_begins_anew_at_its_sync() {
    let (pair, app, _) = pair();
    let mut client = pair.a.client("app");
    let mut out = super::node::Answer::default();
    let sql = "insert into t values (5, 5)";
    let step = execute(&mut client.session, sql, &mut out);
    assert!(matches!(step, Step::Done { .. }), "{step:?}");
    pair.a.local.hold(app);
    assert!(matches!(client.session.sync(&mut out), Ok(Step::Wait(_))));
    assert_eq!(pair.a.local.refuse(app, 1), 1);
    pair.a.local.release(app).expect("nothing is left");
    let step = client.session.sync(&mut out);
    assert!(matches!(step, Ok(Step::Elsewhere(group)) if group == app));
    let exported = client.session.export().expect("as it was");
    let mut client = pair.a.resumed("app", &exported);
    let step = execute(&mut client.session, sql, &mut out);
    assert!(matches!(step, Step::Done { .. }), "{step:?}");
    assert!(matches!(client.session.sync(&mut out), Ok(Step::End)));
    assert_eq!(pair.a.client("app").rows("select count(*) from t"), "2");
}

#[test]
fn what_stands_whatever_becomes_of_the_turn_is_not_done_twice() {
    let (pair, app, _) = pair();
    let mut client = pair.a.client("app");
    pair.a.local.hold(app);
    let sql = "select setval('s', 100); insert into t values (5, 5)";
    assert_eq!(client.start(sql), None);
    pair.a.local.release(app).expect("the number is set");
    pair.a.local.hold(app);
    assert_eq!(client.go_on(), None);
    assert_eq!(pair.a.local.refuse(app, 1), 1);
    pair.a.local.release(app).expect("nothing is left");
    let told = client.go_on().expect("told");
    assert!(told.contains("ERROR 40001"), "{told}");
    assert_eq!(client.rows("select nextval('s')"), "101");
}

#[test]
fn what_may_be_there_or_was_told_does_not_begin_anew() {
    let (pair, app, _) = pair();
    let refused = |before: &str, sql: &str| {
        let mut client = pair.a.client("app");
        client.ok(before);
        pair.a.local.hold(app);
        assert_eq!(client.start(sql), None);
        assert_eq!(pair.a.local.refuse(app, 1), 1);
        pair.a.local.release(app).expect("nothing is left");
        client.go_on().expect("told")
    };
    for (before, sql) in [
        ("begin; insert into t values (5, 5)", "commit"),
        ("select pg_advisory_lock(1)", "insert into t values (5, 5)"),
        (
            "declare c cursor with hold for select 1",
            "insert into t values (5, 5)",
        ),
    ] {
        let told = refused(before, sql);
        assert!(told.starts_with("ERROR 40001"), "{before}: {told}");
    }
    let mut client = pair.a.client("app");
    client.ok("begin; insert into t values (6, 6)");
    pair.a.local.hold(app);
    assert_eq!(client.start("commit; insert into t values (7, 7)"), None);
    pair.a.local.release(app).expect("it is committed");
    pair.a.local.hold(app);
    assert_eq!(client.go_on(), None);
    assert_eq!(pair.a.local.refuse(app, 1), 1);
    pair.a.local.release(app).expect("nothing is left");
    let told = client.go_on().expect("told");
    assert!(told.contains("COMMIT; ERROR 40001"), "{told}");

    let mut unknown = pair.a.client("app");
    pair.a.local.hold(app);
    assert_eq!(unknown.start("insert into t values (8, 8)"), None);
    pair.a.local.step_down(app);
    pair.a.local.groups().get(app).expect("held").give_up();
    let told = unknown.go_on().expect("told");
    assert!(told.starts_with("ERROR 08007"), "{told}");
}

#[test]
fn a_turn_that_can_not_begin_anew_leaves_nothing_behind() {
    let (pair, app, _) = pair();
    let mut client = pair.a.client("app");
    client.ok("set my.turn = 'before'");
    pair.a.local.hold(app);
    let sql = "set my.turn = 'within'; insert into t values (5, 5)";
    assert_eq!(client.start(sql), None);
    assert_eq!(pair.a.local.refuse(app, 1), 1);
    pair.a.local.release(app).expect("nothing is left");
    assert_eq!(client.go_on().as_deref(), Some(&*elsewhere(app)));
    // The client has some of its answer.
    let error = client.session.stay();
    assert_eq!(error.state(), crate::state::SERIALIZATION_FAILURE);
    assert!(matches!(client.session.settle(), Ok(None)));
    assert_eq!(client.session.status(), Status::Idle);
    client.session.idle();
    assert_eq!(client.rows("show my.turn"), "before");
    assert_eq!(client.rows("select count(*) from t"), "1");
}
