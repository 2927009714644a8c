//! Advisory locks and open cursors: where they are, and that they end with their leader.

use storage::GroupId;

use super::node::Client;
use super::pair::Pair;
use crate::session::Status;

fn pair() -> (Pair, GroupId) {
    let pair = Pair::new();
    pair.a.client("postgres").ok(
        "create role app login; create role other login; create role guest login; grant app to guest",
    );
    for owner in ["app", "other"] {
        pair.a
            .client(owner)
            .ok("create table t (id int primary key, n int); insert into t values (1, 1)");
    }
    pair.sync();
    let app = pair.a.group("app");
    (pair, app)
}

fn tries(client: &mut Client, key: u32) -> String {
    client.rows(&format!("select pg_try_advisory_lock({key})"))
}

#[test]
fn advisory_locks_belong_to_a_service() {
    let (pair, _) = pair();
    let [mut a, mut b, mut other, mut none] =
        ["app", "app", "other", "guest"].map(|user| pair.a.client(user));
    assert_eq!(tries(&mut a, 1), "t");
    assert_eq!(tries(&mut b, 1), "f", "the same service");
    assert_eq!(tries(&mut other, 1), "t", "another one");
    assert_eq!(tries(&mut none, 1), "t", "nobody's");
    none.ok("set role app");
    assert_eq!(tries(&mut none, 1), "f", "it acts for that service now");
    assert_eq!(
        none.rows("select pg_advisory_unlock(1)"),
        "t",
        "what it took before"
    );
    assert_eq!(a.rows("select pg_advisory_unlock(1)"), "t");
    assert_eq!(a.rows("select pg_advisory_unlock(1)"), "f");
    assert_eq!(tries(&mut none, 1), "t");
    assert_eq!(b.start("select pg_advisory_lock(1)"), None);
    none.ok("select pg_advisory_unlock(1)");
    assert_eq!(b.go_on().as_deref(), Some("SELECT 1"));
}

#[test]
fn they_are_taken_at_the_leader() {
    let (pair, app) = pair();
    pair.hand_over(app);
    let away = format!("ELSEWHERE {app}");
    for sql in [
        "select pg_advisory_lock(1)",
        "select pg_try_advisory_lock(1)",
        "select pg_advisory_xact_lock(1, 2)",
    ] {
        assert_eq!(pair.a.client("app").run(sql), away, "{sql}");
    }
    let mut none = pair.a.client("guest");
    none.ok("select pg_advisory_lock(1)");
    pair.a.local.step_down(GroupId::DIRECTORY);
    assert!(none.session.activity().is_terminated());
}

#[test]
fn a_session_that_holds_some_ends_with_their_leader() {
    let (pair, app) = pair();
    let mut holder = pair.a.client("app");
    holder.ok("select pg_advisory_lock(1), pg_advisory_lock(1)");
    let mut gave_back = pair.a.client("app");
    gave_back.ok("select pg_advisory_lock(2); select pg_advisory_unlock(2)");
    let mut idle = pair.a.client("app");
    idle.ok("select * from t");
    holder.ok("select pg_advisory_unlock(1)");
    assert_eq!(holder.session.export(), None, "it can't move");
    assert!(gave_back.session.export().is_some());
    pair.depose(app);
    assert!(holder.session.activity().is_terminated());
    let error = holder.session.activity().interrupted();
    assert_eq!(error.state(), crate::state::ADMIN_SHUTDOWN);
    assert!(!gave_back.session.activity().is_terminated());
    assert!(!idle.session.activity().is_terminated());
    pair.a.local.lead(app).unwrap();
    assert_eq!(
        tries(&mut gave_back, 2),
        "t",
        "it takes them in the new era"
    );
    drop(holder);
    assert_eq!(tries(&mut idle, 1), "t");
}

#[test]
fn a_refused_proposal_ends_them_too() {
    let (pair, app) = pair();
    let mut holder = pair.a.client("app");
    holder.ok("select pg_advisory_lock(1)");
    pair.a.local.hold(app);
    let mut writer = pair.a.client("app");
    assert_eq!(writer.start("insert into t values (5, 5)"), None);
    pair.a.local.refuse(app, 1);
    pair.a.local.release(app).unwrap();
    assert!(
        holder.session.activity().is_terminated(),
        "the lock is gone"
    );
}

#[test]
fn a_transaction_that_has_taken_some_fails_with_their_leader() {
    let (pair, app) = pair();
    let mut client = pair.a.client("app");
    for last in ["commit", "select 1", "insert into t values (7, 7)"] {
        client.ok("begin; select pg_advisory_xact_lock(1)");
        pair.depose(app);
        pair.a.local.lead(app).unwrap();
        let told = client.run(last);
        assert!(told.starts_with("ERROR 40001"), "{last}: {told}");
        client.run("rollback");
    }
    assert_eq!(
        client.ok("begin; select pg_advisory_xact_lock(1); commit"),
        "BEGIN; SELECT 1; COMMIT"
    );
    assert!(
        client.session.export().is_some(),
        "they are gone with the transaction"
    );
}

#[test]
fn open_cursors_end_with_the_home() {
    let (pair, app) = pair();
    let [mut open, mut held, mut closed] = ["app"; 3].map(|user| pair.a.client(user));
    open.ok("begin; declare c cursor for select * from t");
    held.ok("declare c cursor with hold for select * from t");
    closed.ok("begin; declare c cursor for select * from t; commit");
    let mut other = pair.a.client("other");
    other.ok("begin; declare c cursor for select * from t");
    pair.depose(app);
    assert!(open.session.activity().is_terminated());
    assert!(held.session.activity().is_terminated());
    assert!(!closed.session.activity().is_terminated());
    assert!(!other.session.activity().is_terminated());
    assert_eq!(other.session.status(), Status::InTransaction);
}
