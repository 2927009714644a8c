//! Reads see what was acknowledged before them, though this node's leadership may be over without
//! its knowing.

use std::sync::atomic::Ordering;

use storage::GroupId;

use super::node::Client;
use super::pair::Pair;
use crate::session::Status;

/// Owner `app` has a table, `other` has one and may read it; all is led by the first node.
fn pair() -> (Pair, GroupId) {
    let pair = Pair::new();
    pair.a
        .client("postgres")
        .ok("create role app login; create role other login; create role third login");
    for owner in ["app", "other"] {
        pair.a.client(owner).ok(&format!(
            "create table {owner}.t (id int primary key, n int); insert into t values (1, 1); \
             grant usage on schema {owner} to public; grant select on t to public"
        ));
    }
    pair.sync();
    let app = pair.a.group("app");
    (pair, app)
}

/// How many barriers it takes.
fn barriers(pair: &Pair, client: &mut Client, sql: &str) -> usize {
    let before = pair.script.barriers.load(Ordering::SeqCst);
    client.ok(sql);
    pair.script.barriers.load(Ordering::SeqCst) - before
}

#[test]
fn who_must_prove_what_is_read() {
    let (pair, app) = pair();
    let mut client = pair.a.client("app");
    for (sql, count) in [
        ("select * from t where id = 1", 1),
        ("select count(*) from t", 1),
        ("select * from t, other.t as o", 2),
        ("select 1; show work_mem; select * from pg_class limit 1", 0),
        ("select * from t; select * from t", 2),
        ("insert into t values (2, 2)", 0),
        ("update t set n = 3 where id = 2", 0),
        ("update t set n = 3 where id = 9", 1),
        ("insert into t values (2, 2) on conflict do nothing", 1),
        ("select * from t where id = 1 for update", 1),
        ("begin; select * from t; select * from t", 0),
        ("commit", 1),
        (
            "begin; select * from t; update t set n = 4 where id = 2; commit",
            0,
        ),
        ("begin; select * from t; rollback", 0),
        (
            "begin read only; select * from t; select * from t; commit",
            2,
        ),
        (
            "begin read only isolation level repeatable read; select * from t",
            2,
        ),
        ("select * from t; select * from other.t; commit", 0),
        ("begin isolation level serializable; select * from t", 0),
        ("commit", 1),
        ("explain select * from t", 1),
        ("copy t to stdout", 1),
        (
            "set freehold.read = 'local'; select * from t; begin read only; select * from t; commit",
            0,
        ),
        ("begin; select * from t; commit", 1),
        ("reset freehold.read", 0),
    ] {
        assert_eq!(barriers(&pair, &mut client, sql), count, "{sql}");
    }
    for group in pair.a.local.groups().all() {
        group.set_sole(true);
    }
    for sql in [
        "select * from t",
        "begin; select * from t; commit",
        "update t set n = 1 where id = 9",
    ] {
        assert_eq!(
            barriers(&pair, &mut client, sql),
            0,
            "alone it votes: {sql}"
        );
    }
    for group in pair.a.local.groups().all() {
        group.set_sole(false);
    }
    pair.hand_over(app);
    let mut third = pair.a.client("third");
    assert_eq!(
        barriers(&pair, &mut third, "select * from app.t"),
        0,
        "it is led elsewhere"
    );
    assert_eq!(
        barriers(&pair, &mut third, "begin; select * from app.t; commit"),
        0
    );
    assert_eq!(
        barriers(&pair, &mut third, "select * from app.t, other.t as o"),
        1
    );
}

#[test]
fn a_read_sees_what_was_committed_until_its_barrier_has_passed() {
    let (pair, _) = pair();
    let (mut reader, mut writer) = (pair.a.client("app"), pair.a.client("app"));
    pair.script.held.store(true, Ordering::SeqCst);
    for (begin, n) in [
        ("", "2"),
        ("begin read only isolation level repeatable read", "3"),
    ] {
        reader.ok(begin);
        assert_eq!(reader.start("select n from t where id = 1"), None);
        writer.ok("update t set n = n + 1 where id = 1");
        pair.script.release();
        assert_eq!(reader.go_on().as_deref(), Some("SELECT 1"));
        assert_eq!(reader.shown(), n);
    }
    assert_eq!(
        reader.rows("select n from t where id = 1"),
        "3",
        "its snapshot is proven"
    );
}

#[test]
fn a_read_whose_barrier_fails_goes_to_the_new_leader() {
    let (pair, app) = pair();
    let mut reader = pair.a.client("app");
    pair.script.held.store(true, Ordering::SeqCst);
    assert_eq!(reader.start("select n from t"), None);
    // The first node is slow to learn that it leads no more.
    pair.script.cut.store(true, Ordering::SeqCst);
    pair.script.release();
    assert_eq!(reader.go_on(), None, "it can't prove it");
    pair.script.cut.store(false, Ordering::SeqCst);
    pair.hand_over(app);
    pair.b.client("app").start("update t set n = 7");
    pair.clock.advance(100_000);
    assert_eq!(reader.go_on(), Some(format!("ELSEWHERE {app}")));
    pair.script.held.store(false, Ordering::SeqCst);
    let exported = reader.session.export().expect("it can move");
    let mut reader = pair.b.resumed("app", &exported);
    assert_eq!(reader.rows("select n from t"), "7");
}

#[test]
fn a_read_that_nobody_can_prove_fails_in_time() {
    let (pair, _) = pair();
    let mut reader = pair.a.client("app");
    pair.script.cut.store(true, Ordering::SeqCst);
    assert_eq!(reader.start("select n from t"), None);
    pair.clock.advance(4_000_000);
    assert_eq!(reader.go_on(), None);
    pair.clock.advance(1_100_000);
    let told = reader.go_on().expect("its time is over");
    assert!(
        told.starts_with("ERROR 57P03: the tables of owner \"app\""),
        "{told}"
    );
    pair.script.cut.store(false, Ordering::SeqCst);
    assert_eq!(reader.rows("select n from t"), "1");
}

#[test]
fn a_block_that_has_only_read_is_proven_at_its_end() {
    let (pair, app) = pair();
    let mut reader = pair.a.client("app");
    reader.ok("begin; select n from t");
    pair.script.held.store(true, Ordering::SeqCst);
    assert_eq!(reader.start("commit"), None);
    pair.script.release();
    assert_eq!(reader.go_on().as_deref(), Some("COMMIT"));
    pair.script.held.store(false, Ordering::SeqCst);

    reader.ok("begin; select n from t");
    pair.script.cut.store(true, Ordering::SeqCst);
    assert!(reader.run("commit").starts_with("ERROR 40001"));
    pair.script.cut.store(false, Ordering::SeqCst);
    reader.ok("begin; select n from t");
    pair.a.local.step_down(app);
    pair.a.local.lead(app).unwrap();
    assert!(
        reader.run("commit").starts_with("ERROR 40001"),
        "it leads again, in another term"
    );

    pair.script.cut.store(true, Ordering::SeqCst);
    let told = reader.run("update t set n = 1 where id = 9");
    assert_eq!(
        told,
        format!("ELSEWHERE {app}"),
        "nothing to update, says who may be no leader"
    );
}

#[test]
fn a_commit_that_fails_for_its_leader_leaves_no_block_behind() {
    for level in ["read committed", "repeatable read", "serializable"] {
        for work in ["select n from t", "update t set n = 5 where id = 1"] {
            let (pair, app) = pair();
            let mut client = pair.a.client("app");
            client.ok(&format!("begin isolation level {level}; {work}"));
            pair.hand_over(app);
            let told = client.run("commit");
            assert!(told.starts_with("ERROR 40001"), "{level}, {work}: {told}");
            assert_eq!(client.session.status(), Status::Idle, "{level}, {work}");
        }
    }
}

#[test]
fn a_block_leaves_only_with_reads_that_are_proven() {
    let (pair, app) = pair();
    let mut root = pair.a.client("postgres");
    let insert = "insert into app.t values (2, 2)";
    root.ok("begin; select * from other.t");
    pair.hand_over(app);
    pair.script.held.store(true, Ordering::SeqCst);
    assert_eq!(root.start(insert), None);
    pair.script.release();
    assert_eq!(root.go_on(), Some(format!("ELSEWHERE {app}")));
    root.session.stay();
    root.ok("rollback; begin; select * from other.t");
    assert_eq!(root.start(insert), None);
    pair.a.local.step_down(pair.a.group("other"));
    pair.script.release();
    assert!(root.go_on().expect("told").starts_with("ERROR 40001"));
}

#[test]
fn a_session_reads_its_own_group_where_it_is_led() {
    let (pair, app) = pair();
    pair.hand_over(app);
    let away = format!("ELSEWHERE {app}");
    let mut client = pair.a.client("app");
    for sql in [
        "select n from t",
        "begin; select n from t",
        "begin read only; select n from t",
    ] {
        assert_eq!(client.run(sql), away, "{sql}");
        client.session.stay();
        client.run("rollback");
    }
    assert_eq!(client.rows("select n from other.t"), "1");
    client.ok("set freehold.read = 'local'");
    assert_eq!(client.rows("select n from t"), "1");
    assert_eq!(client.rows("begin read only; select n from t"), "1");
    client.ok("commit");
    assert_eq!(client.run("begin; select n from t"), away);
    client.session.stay();
    client.run("rollback");
    assert_eq!(
        client.run("begin"),
        away,
        "it may write, after a savepoint, too"
    );
}

/// The first statement of a block reads no table, but takes the snapshot that all of it keeps.
#[test]
fn what_a_kept_snapshot_is_read_for_later_is_proven_too() {
    let (pair, app) = pair();
    let mut client = pair.a.client("app");
    for isolation in ["serializable", "repeatable read"] {
        for statement in ["select n from t", "update t set n = 9 where n = 7"] {
            let begin = format!("begin isolation level {isolation}; select pg_current_xact_id()");
            client.ok(&begin);
            client.ok(statement);
            assert_eq!(barriers(&pair, &mut client, "commit"), 1, "{statement}");
            client.ok(&begin);
            client.ok(statement);
            // This node does not know yet that it leads no more.
            pair.script.cut.store(true, Ordering::SeqCst);
            let told = client.run("commit");
            pair.script.cut.store(false, Ordering::SeqCst);
            assert!(told.starts_with("ERROR 40001"), "{statement}: {told}");
        }
    }
    client.ok("begin isolation level serializable; select pg_current_xact_id()");
    pair.hand_over(app);
    let told = client.run("select n from t; commit");
    assert!(told.contains("ERROR 40001"), "{told}");
}

/// Leadership goes between BEGIN and the first statement: what is read here then, nothing proves.
#[test]
fn a_block_whose_group_has_gone_reads_nothing_old() {
    for (begin, goes) in [
        ("begin", true),
        ("begin isolation level repeatable read", true),
        ("begin isolation level serializable", true),
        ("begin isolation level serializable read only", true),
        ("begin; savepoint s", true),
        ("begin isolation level serializable; savepoint s", true),
        ("begin; select pg_advisory_xact_lock(1)", false),
    ] {
        let (pair, app) = pair();
        let mut client = pair.a.client("app");
        client.ok(begin);
        pair.hand_over(app);
        pair.b.client("app").ok("update t set n = 2");
        let told = client.run("select n from t");
        match goes {
            true => assert_eq!(told, format!("ELSEWHERE {app}"), "{begin}"),
            false => assert!(told.starts_with("ERROR 40001"), "{begin}: {told}"),
        }
    }
}

#[test]
fn a_turn_does_not_go_to_and_fro() {
    let (pair, app) = pair();
    pair.a.client("postgres").ok("grant app to other");
    pair.sync();
    pair.hand_over(app);
    let mut other = pair.a.client("other");
    let sql = "select n from t; insert into app.t values (2, 2)";
    assert_eq!(other.run(sql), format!("ELSEWHERE {app}"));
    let exported = other.session.export().expect("it can move");
    let mut other = pair.b.resumed("other", &exported);
    assert_eq!(other.run(sql), "SELECT 1; INSERT 0 1");
    let home = format!("ELSEWHERE {}", pair.a.group("other"));
    assert_eq!(
        other.run("select n from t"),
        home,
        "the next turn goes home"
    );
}

#[test]
fn what_was_read_is_there_where_the_session_goes_on() {
    let (pair, _) = pair();
    pair.a.client("app").ok("update t set n = 2");
    let mut third = pair.a.client("third");
    assert_eq!(third.rows("select n from app.t"), "2");
    let exported = third.session.export().expect("it can move");
    let mut third = pair.b.resumed("third", &exported);
    assert_eq!(
        third.start("select n from app.t"),
        None,
        "it must not go back"
    );
    pair.sync();
    assert_eq!(third.go_on().as_deref(), Some("SELECT 1"));
    assert_eq!(third.shown(), "2");
}
