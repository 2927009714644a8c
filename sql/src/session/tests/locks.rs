//! Locks between sessions: waiting, NOWAIT, SKIP LOCKED, deadlocks, timeouts, advisory locks.

use super::node::{Client, Node};

fn three() -> (Node, Client, Client, Client) {
    let node = Node::new();
    let mut c = node.client("postgres");
    c.ok("create role app login");
    let mut owner = node.client("app");
    owner.ok(
        "create table t (id int primary key, n int); insert into t values (1, 1), (2, 2), (3, 3)",
    );
    let (a, b) = (node.client("app"), node.client("app"));
    (node, a, b, owner)
}

#[test]
fn nowait_and_skip_locked() {
    let (_node, mut a, mut b, _c) = three();
    a.ok("begin; update t set n = 0 where id = 2");
    b.ok("begin");
    let result = b.run("select * from t where id = 2 for update nowait");
    assert!(
        result.starts_with("ERROR 55P03: could not obtain lock on row"),
        "{result}"
    );
    b.ok("rollback; begin");
    assert_eq!(
        b.rows("select id from t order by id for update skip locked"),
        "1\n3"
    );
    b.ok("rollback");
    assert_eq!(
        b.rows("select id from t where id = 2"),
        "2",
        "plain reads never wait"
    );
    assert_eq!(b.start("select id from t where id = 2 for share"), None);
    a.ok("rollback");
    assert_eq!(b.go_on().as_deref(), Some("SELECT 1"));
}

#[test]
fn the_one_who_closes_the_circle_loses() {
    let (_node, mut a, mut b, _c) = three();
    a.ok("begin; update t set n = 0 where id = 1");
    b.ok("begin; update t set n = 0 where id = 2");
    assert_eq!(a.start("update t set n = 0 where id = 2"), None);
    let result = b.run("update t set n = 0 where id = 1");
    assert!(
        result.starts_with("ERROR 40P01: deadlock detected"),
        "{result}"
    );
    assert_eq!(
        a.go_on().as_deref(),
        Some("UPDATE 1"),
        "the loser's locks are free at once"
    );
    b.ok("rollback");
    a.ok("commit");
}

#[test]
fn deferred_checks_of_an_attempt_go_with_it() {
    let (_node, mut a, mut b, mut c) = three();
    c.ok(
        "create table child (id int references t deferrable initially deferred); \
         create table src (v int); insert into src values (99)",
    );
    a.ok("begin; update t set n = 0 where id = 1; update src set v = 2");
    let both = "with x as (insert into child select v from src) \
                update t set n = n + 1 where id = 1";
    assert_eq!(b.start(both), None, "99 is in, then the row is locked");
    a.ok("commit");
    assert_eq!(b.go_on().as_deref(), Some("UPDATE 1"));
    assert_eq!(c.rows("select id from child"), "2");
}

#[test]
fn lock_timeout_and_statement_timeout() {
    let (node, mut a, mut b, _c) = three();
    a.ok("begin; update t set n = 0 where id = 1");
    b.ok("set lock_timeout = '100ms'");
    assert_eq!(b.start("update t set n = 5 where id = 1"), None);
    node.clock.advance(99_000);
    assert_eq!(b.go_on(), None);
    node.clock.advance(2_000);
    let result = b.go_on().expect("timed out");
    assert_eq!(
        result,
        "ERROR 55P03: canceling statement due to lock timeout"
    );
    b.ok("set lock_timeout = 0; set statement_timeout = '1s'");
    assert_eq!(b.start("update t set n = 5 where id = 1"), None);
    node.clock.advance(1_000_001);
    let result = b.go_on().expect("timed out");
    assert_eq!(
        result,
        "ERROR 57014: canceling statement due to statement timeout"
    );
    b.ok("set statement_timeout = 0");
    a.ok("rollback");
    assert_eq!(b.run("update t set n = 5 where id = 1"), "UPDATE 1");
}

#[test]
fn cancel_and_terminate_end_a_wait() {
    let (node, mut a, mut b, _c) = three();
    a.ok("begin; update t set n = 0 where id = 1");
    assert_eq!(b.start("update t set n = 5 where id = 1"), None);
    let process = b.session.activity().process();
    node.engine
        .activities()
        .get(process)
        .expect("registered")
        .cancel();
    // The server calls again when it is told of the interrupt.
    b.stop_waiting();
    assert_eq!(
        b.go_on().as_deref(),
        Some("ERROR 57014: canceling statement due to user request")
    );
    assert_eq!(
        b.rows("select n from t where id = 1"),
        "1",
        "the session lives on"
    );
    let mut c = node.client("postgres");
    assert_eq!(
        c.rows(&format!("select pg_terminate_backend({process})")),
        "t"
    );
    let result = b.run("select 1");
    assert!(result.starts_with("ERROR 57P01"), "{result}");
    assert!(b.session.activity().is_terminated());
}

#[test]
fn advisory_locks() {
    let (_node, mut a, mut b, _c) = three();
    assert_eq!(a.rows("select pg_try_advisory_lock(7)"), "t");
    assert_eq!(b.rows("select pg_try_advisory_lock(7)"), "f");
    assert_eq!(b.start("select pg_advisory_lock(7)"), None);
    assert_eq!(a.rows("select pg_advisory_unlock(7)"), "t");
    assert_eq!(b.go_on().as_deref(), Some("SELECT 1"));
    assert_eq!(b.rows("select pg_advisory_unlock(7)"), "t");
    assert_eq!(
        b.rows("select pg_advisory_unlock(7)"),
        "f",
        "it was counted once"
    );
    assert_eq!(
        b.answer.notices,
        ["WARNING: you don't own a lock of type ExclusiveLock"]
    );
    a.ok("begin; select pg_advisory_xact_lock(1, 2)");
    assert_eq!(b.rows("select pg_try_advisory_lock(1, 2)"), "f");
    a.ok("commit");
    assert_eq!(b.rows("select pg_try_advisory_lock(1, 2)"), "t");
    drop(b);
    assert_eq!(
        a.rows("select pg_try_advisory_lock(1, 2)"),
        "t",
        "a session's end frees them"
    );
}

#[test]
fn table_locks() {
    let (_node, mut a, mut b, _c) = three();
    assert!(a.run("lock table t").starts_with("ERROR 25P01"));
    a.ok("begin; lock table t in share mode");
    assert_eq!(b.rows("select id from t where id = 1"), "1");
    assert_eq!(b.start("update t set n = 9 where id = 1"), None);
    a.ok("commit");
    assert_eq!(b.go_on().as_deref(), Some("UPDATE 1"));
    a.ok("begin; lock table t in exclusive mode");
    let result = b.run("begin; lock table t in row exclusive mode nowait");
    assert!(
        result.contains("ERROR 55P03: could not obtain lock on relation \"t\""),
        "{result}"
    );
}

#[test]
fn savepoints_free_their_locks() {
    let (_node, mut a, mut b, _c) = three();
    a.ok("begin; savepoint s; update t set n = 0 where id = 1");
    assert_eq!(b.start("update t set n = 5 where id = 1"), None);
    a.ok("rollback to s");
    assert_eq!(b.go_on().as_deref(), Some("UPDATE 1"));
    assert_eq!(a.run("commit"), "COMMIT");
    assert_eq!(a.rows("select n from t where id = 1"), "5");
}

#[test]
fn pg_locks_and_pg_stat_activity_show_the_wait() {
    let (_node, mut a, mut b, mut c) = three();
    a.ok("begin; update t set n = 0 where id = 1");
    assert_eq!(b.start("update t set n = 5 where id = 1"), None);
    let waits =
        c.rows("select mode, granted from pg_locks where locktype = 'tuple' order by granted desc");
    assert_eq!(waits.lines().last(), Some("ForNoKeyUpdate|f"), "{waits}");
    let process = b.session.activity().process();
    let shown = c.rows(&format!(
        "select state, wait_event_type, query from pg_stat_activity where pid = {process}"
    ));
    assert_eq!(shown, "active|Lock|update t set n = 5 where id = 1");
    let mut other = c;
    other.ok("reset all");
}

#[test]
fn pg_locks_names_the_session_that_holds() {
    let (_node, mut a, mut b, _c) = three();
    let pid = a.rows("select pg_backend_pid()");
    a.ok("begin; update t set n = 0 where id = 2; select pg_advisory_lock(7)");
    let locks = "select locktype, mode, granted from pg_locks where pid = ";
    let of = |c: &mut Client, pid: &str| c.rows(&format!("{locks}{pid} order by 1, 2"));
    let held = of(&mut b, &pid);
    assert_eq!(
        held,
        "advisory|ExclusiveLock|t\nrelation|RowExclusiveLock|t\ntuple|ForNoKeyUpdate|t"
    );
    a.ok("rollback; select pg_advisory_unlock(7)");
    assert_eq!(of(&mut b, &pid), "");
    assert_eq!(
        b.rows("select count(*) from pg_locks where pid is null"),
        "0"
    );
}

#[test]
fn a_circle_through_rows_and_advisory_locks_is_one() {
    let (_node, mut a, mut b, _c) = three();
    a.ok("begin; update t set n = 0 where id = 1");
    b.ok("begin; select pg_advisory_xact_lock(1)");
    assert_eq!(b.start("update t set n = 2 where id = 1"), None);
    let result = a.run("select pg_advisory_xact_lock(1)");
    assert!(
        result.starts_with("ERROR 40P01: deadlock detected"),
        "{result}"
    );
    a.ok("rollback");
    assert_eq!(b.go_on().as_deref(), Some("UPDATE 1"));
    b.ok("commit");
    // The other way round: the row closes the circle.
    a.ok("begin; select pg_advisory_lock(2)");
    b.ok("begin; update t set n = 3 where id = 1");
    assert_eq!(b.start("select pg_advisory_xact_lock(2)"), None);
    let result = a.run("update t set n = 4 where id = 1");
    assert!(
        result.starts_with("ERROR 40P01: deadlock detected"),
        "{result}"
    );
    a.ok("rollback; select pg_advisory_unlock(2)");
    assert_eq!(b.go_on().as_deref(), Some("SELECT 1"));
}

#[test]
fn a_savepoint_takes_its_notifications_back() {
    let (_node, mut a, mut b, _c) = three();
    a.ok("listen c");
    b.ok("begin; notify c, 'kept'; savepoint s; notify c, 'gone'; listen d; rollback to s; commit");
    let arrived = a.session.activity().mailbox().take();
    let payloads: Vec<_> = arrived.iter().map(|n| n.payload.as_str()).collect();
    assert_eq!(payloads, ["kept"]);
    assert_eq!(b.rows("select count(*) from pg_listening_channels()"), "0");
}
