//! Answers are held until what they rest on is committed: nothing unproven ends a transaction.

use super::node::{Client, Node};

fn node() -> (Node, storage::GroupId, Client, Client) {
    let node = Node::new();
    node.client("postgres").ok("create role app login");
    let mut owner = node.client("app");
    owner.ok("create table t (id int primary key, n int); insert into t values (1, 1)");
    let group = node.group("app");
    let other = node.client("app");
    (node, group, owner, other)
}

#[test]
fn a_commit_is_told_when_it_is_applied() {
    let (node, group, mut a, mut b) = node();
    node.local.hold(group);
    assert_eq!(a.start("update t set n = 2 where id = 1"), None);
    assert_eq!(
        b.rows("select n from t"),
        "1",
        "autocommit reads see committed state, at once"
    );
    node.local.release(group).unwrap();
    assert_eq!(a.go_on().as_deref(), Some("UPDATE 1"));
    assert_eq!(b.rows("select n from t"), "2");
}

#[test]
fn a_hot_row_does_not_wait_for_the_disk_between_transactions() {
    let (node, group, mut a, mut b) = node();
    node.local.hold(group);
    assert_eq!(a.start("update t set n = n + 1 where id = 1"), None);
    // The second one is based on the first, which is pending: placed at once, told later.
    assert_eq!(
        b.start("update t set n = n + 1 where id = 1 returning n"),
        None
    );
    assert_eq!(node.local.held(group), 2);
    node.local.release(group).unwrap();
    assert_eq!(a.go_on().as_deref(), Some("UPDATE 1"));
    assert_eq!(b.go_on().as_deref(), Some("UPDATE 1"));
    assert_eq!(b.shown(), "3");
}

#[test]
fn an_error_caused_by_a_pending_row_is_held() {
    let (node, group, mut a, mut b) = node();
    node.local.hold(group);
    assert_eq!(a.start("insert into t values (5, 5)"), None);
    assert_eq!(
        b.start("insert into t values (5, 6)"),
        None,
        "the duplicate may vanish"
    );
    node.local.release(group).unwrap();
    assert_eq!(a.go_on().as_deref(), Some("INSERT 0 1"));
    assert!(b.go_on().expect("told").starts_with("ERROR 23505"));
}

#[test]
fn a_rollback_waits_for_what_was_read() {
    let (node, group, mut a, mut b) = node();
    b.ok("begin");
    node.local.hold(group);
    assert_eq!(a.start("update t set n = 7 where id = 1"), None);
    assert_eq!(
        b.rows("select n from t where id = 1"),
        "7",
        "rows of an open transaction leave at once"
    );
    assert_eq!(b.start("rollback"), None);
    node.local.release(group).unwrap();
    assert_eq!(b.go_on().as_deref(), Some("ROLLBACK"));
    assert_eq!(a.go_on().as_deref(), Some("UPDATE 1"));
}

#[test]
fn the_end_of_a_failed_block_waits_for_nothing() {
    for end in ["rollback", "commit"] {
        let (node, group, mut a, mut b) = node();
        b.ok("begin");
        node.local.hold(group);
        assert_eq!(a.start("update t set n = 7 where id = 1"), None);
        assert_eq!(b.rows("select n from t where id = 1"), "7");
        assert_eq!(b.start("select 1 / 0"), None);
        node.local.refuse(group, 1);
        node.local.release(group).unwrap();
        assert!(a.go_on().expect("told").starts_with("ERROR 40001"));
        // It rests on what is lost, which it says; a block that has failed ends whatever was lost.
        assert!(b.go_on().expect("told").starts_with("ERROR 40001"));
        assert_eq!(b.run(end), "ROLLBACK");
        assert_eq!(b.rows("select n from t where id = 1"), "1");
    }
}

#[test]
fn what_is_refused_is_told_as_40001_and_nothing_of_it_is_there() {
    let (node, group, mut a, mut b) = node();
    node.local.hold(group);
    assert_eq!(a.start("update t set n = 7 where id = 1"), None);
    assert_eq!(b.start("update t set n = n + 1 where id = 1"), None);
    node.local.refuse(group, 1);
    node.local.release(group).unwrap();
    assert!(a.go_on().expect("told").starts_with("ERROR 40001"));
    assert!(
        b.go_on().expect("told").starts_with("ERROR 40001"),
        "it was computed on the lost one"
    );
    assert_eq!(a.rows("select n from t"), "1");
    assert_eq!(a.run("update t set n = 3 where id = 1"), "UPDATE 1");
}

#[test]
fn an_unknown_outcome_is_08007() {
    let (node, group, mut a, _b) = node();
    node.local.hold(group);
    assert_eq!(a.start("update t set n = 7 where id = 1"), None);
    node.local.step_down(group);
    node.local.groups().get(group).unwrap().give_up();
    let result = a.go_on().expect("told");
    assert!(result.starts_with("ERROR 08007"), "{result}");
}

#[test]
fn an_open_transaction_ends_with_its_leader() {
    let (node, group, mut a, mut b) = node();
    a.ok("begin; update t set n = 7 where id = 1");
    node.local.step_down(group);
    node.local.lead(group).unwrap();
    let result = a.run("update t set n = 8 where id = 1");
    assert!(result.starts_with("ERROR 40001"), "{result}");
    assert_eq!(a.run("commit"), "ROLLBACK");
    assert_eq!(
        b.run("update t set n = 9 where id = 1"),
        "UPDATE 1",
        "its locks are gone"
    );
}

#[test]
fn a_read_only_transaction_reads_committed_state() {
    let (node, group, mut a, mut b) = node();
    b.ok("begin read only");
    node.local.hold(group);
    assert_eq!(a.start("update t set n = 7 where id = 1"), None);
    assert_eq!(b.rows("select n from t"), "1");
    assert_eq!(b.run("commit"), "COMMIT");
    assert!(
        b.run("begin read only; update t set n = 0")
            .contains("ERROR 25006")
    );
    node.local.release(group).unwrap();
    assert_eq!(a.go_on().as_deref(), Some("UPDATE 1"));
}

#[test]
fn a_commit_that_fails_leaves_no_block_behind() {
    let (_, _, mut a, mut b) = node();
    a.ok("create table child (id int references t (id) deferrable initially deferred)");
    // Write skew, found by the writer; a reference, found by the check at the end.
    a.ok("begin isolation level serializable; select * from t; insert into t values (2, 0)");
    b.ok("begin isolation level serializable; select * from t; insert into t values (3, 0)");
    a.ok("commit");
    assert!(b.run("commit").starts_with("ERROR 40001"));
    assert!(b.session.status() == crate::session::Status::Idle);
    assert_eq!(
        b.run("begin"),
        "BEGIN",
        "what follows is another transaction"
    );
    b.ok("insert into child values (9)");
    assert!(b.run("commit and chain").starts_with("ERROR 23503"));
    assert!(b.session.status() == crate::session::Status::Idle);
    assert_eq!(b.rows("select count(*) from child"), "0");
}

#[test]
fn a_row_without_a_key_is_not_refused_beside_a_large_transaction() {
    let (node, group, mut a, mut b) = node();
    a.ok("create table trail (note text)");
    b.ok("begin; insert into trail values ('small')");
    let large = "insert into trail select repeat('x', 1000) from generate_series(1, 3000)";
    node.local.hold(group);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| a.start(large));
        // Its parts one by one, until its entry has its place; that one stays in flight.
        let placed = || node.local.groups().get(group).unwrap().newest().is_err();
        loop {
            let part = node.local.held(group) > 0;
            if placed() {
                break;
            }
            if part {
                node.local.deliver(group, 1).unwrap();
            }
            std::thread::yield_now();
        }
        assert_eq!(writing.join().unwrap(), None);
    });
    assert_eq!(b.start("commit"), None, "it waits like any other");
    node.local.release(group).unwrap();
    assert_eq!(a.go_on().as_deref(), Some("INSERT 0 3000"));
    assert_eq!(b.go_on().as_deref(), Some("COMMIT"));
}

#[test]
fn a_copy_that_fails_on_a_pending_row_owes_its_error() {
    let (node, group, mut a, mut b) = node();
    node.local.hold(group);
    assert_eq!(a.start("insert into t values (5, 5)"), None);
    assert_eq!(b.run("copy t from stdin"), "COPY IN");
    let failed = b.copy(b"5\t6\n", 100);
    assert!(failed.starts_with("ERROR 23505"), "{failed}");
    let owed = b.session.settle().expect("not lost");
    assert!(!owed.expect("held").ready(), "the duplicate may vanish");
    node.local.release(group).unwrap();
    assert!(b.session.settle().expect("not lost").is_none());
    assert_eq!(a.go_on().as_deref(), Some("INSERT 0 1"));
}

#[test]
fn a_commit_waits_for_the_other_owner_whose_pending_row_it_has_read() {
    let (node, group, mut a, _b) = node();
    let mut root = node.client("postgres");
    root.ok("create role other login; create role both login; grant app, other to both");
    let mut other = node.client("other");
    other.ok("create table copies (n int primary key)");
    let mut both = node.client("both");
    both.ok("begin");
    node.local.hold(group);
    assert_eq!(a.start("update app.t set n = 9 where id = 1"), None);
    assert_eq!(both.rows("select n from app.t where id = 1"), "9");
    both.ok("insert into other.copies values (9)");
    assert_eq!(both.start("commit"), None);
    assert_eq!(
        other.rows("select n from copies"),
        "",
        "no effect before its cause is there for good"
    );
    node.local.release(group).unwrap();
    assert_eq!(both.go_on().as_deref(), Some("COMMIT"));
    assert_eq!(other.rows("select n from copies"), "9");
}

#[test]
fn and_fails_if_that_row_is_lost() {
    let (node, group, mut a, _b) = node();
    let mut root = node.client("postgres");
    root.ok("create role other login; create role both login; grant app, other to both");
    let mut other = node.client("other");
    other.ok("create table copies (n int primary key)");
    let mut both = node.client("both");
    both.ok("begin");
    node.local.hold(group);
    assert_eq!(a.start("update app.t set n = 9 where id = 1"), None);
    assert_eq!(both.rows("select n from app.t where id = 1"), "9");
    both.ok("insert into other.copies values (9)");
    assert_eq!(both.start("commit"), None);
    node.local.refuse(group, 1);
    node.local.release(group).unwrap();
    let result = both.go_on().expect("told");
    assert!(result.starts_with("ERROR 40001"), "{result}");
    assert_eq!(other.rows("select n from copies"), "");
}

#[test]
fn a_cancel_ends_the_waiting_and_takes_nothing_back() {
    let (node, group, mut a, mut b) = node();
    node.local.hold(group);
    assert_eq!(a.start("update t set n = 7 where id = 1"), None);
    a.session.activity().cancel();
    a.stop_waiting();
    let result = a.go_on().expect("told");
    assert!(
        result.starts_with("ERROR 08007: the outcome of the transaction is unknown"),
        "{result}"
    );
    node.local.release(group).unwrap();
    assert_eq!(b.rows("select n from t"), "7");
    assert_eq!(a.rows("select n from t"), "7", "the session lives on");
}

#[test]
fn the_id_asked_for_is_that_of_the_owner_who_is_written() {
    let (node, _group, _a, _b) = node();
    let mut root = node.client("postgres");
    root.ok("begin");
    let id = root.rows("select pg_current_xact_id()");
    root.ok("insert into app.t values (8, 8)");
    let status = format!("select pg_xact_status('{id}')");
    assert_eq!(root.rows(&status), "in progress");
    root.ok("commit");
    assert_eq!(root.rows(&status), "committed");
    root.ok("begin");
    let id = root.rows("select pg_current_xact_id()");
    root.ok("insert into app.t values (9, 9); rollback");
    let status = format!("select pg_xact_status('{id}')");
    assert_eq!(root.rows(&status), "aborted");
    node.clock.advance((24 * 60 * 60 + 1) * 1_000_000);
    assert_eq!(root.rows(&status), "NULL", "as for any id of yesterday");
}
