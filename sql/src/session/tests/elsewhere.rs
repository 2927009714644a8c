//! Statements that need a group which is led on another node, or on none.

use std::sync::atomic::Ordering;

use storage::GroupId;

use super::node::Client;
use super::pair::Pair;
use crate::session::{Session, Status, Step};

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
        ("begin; savepoint s", "a savepoint"),
        ("begin; declare c cursor for select 1", "a cursor"),
        ("declare c cursor with hold for select 1", "a held cursor"),
        ("select pg_advisory_lock(1)", "an advisory lock"),
        (
            "begin; select pg_advisory_xact_lock(1)",
            "an advisory lock of the transaction",
        ),
        ("begin; select pg_current_xact_id()", "an id that was told"),
        ("begin; listen c", "a LISTEN"),
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
        told.starts_with("ERROR 57P03: the tables of owner \"app\" can't be written now")
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
