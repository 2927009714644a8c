//! FOLLOW and UNFOLLOW, and what they refuse.

use std::sync::atomic::Ordering;

use storage::GroupId;

use super::Far;

#[test]
fn a_role_follows_tables_and_patterns() {
    let far = Far::new();
    // It has no group yet: it gets one.
    let mut reader = far.a.client("reader");
    assert_eq!(reader.run("follow order_v1, public.shop_*"), "FOLLOW");
    let shown = "select * from freehold.follows order by what";
    let all = "reader|public.order_v1|{public.order_v1}\nreader|public.shop_*|{public.shop_v1}";
    assert_eq!(reader.rows(shown), all);
    assert_eq!(far.a.client("shop").rows(shown), "");
    assert_eq!(far.a.client("postgres").rows(shown), all);
    assert_eq!(reader.run("follow public.order_v1"), "FOLLOW");
    let notice = "NOTICE: role \"reader\" follows table \"order_v1\" already, skipping";
    assert_eq!(reader.answer.notices, [notice]);
    // Transactional, and nothing that matches yet is needed.
    reader.ok("begin; unfollow order_v1; follow nothing_*");
    let within = "reader|public.nothing_*|{}\nreader|public.shop_*|{public.shop_v1}";
    assert_eq!(reader.rows(shown), within);
    reader.ok("rollback");
    assert_eq!(reader.rows(shown), all);
    // What is taken away does not exist, and comes back with the grant.
    let mut orders = far.a.client("orders");
    orders.ok("revoke read on order_* from reader");
    assert_eq!(reader.rows(shown), "reader|public.shop_*|{public.shop_v1}");
    orders.ok("grant read on order_v1 to reader");
    assert_eq!(reader.rows(shown), all);
    orders.ok("drop table order_v1 cascade");
    assert_eq!(reader.rows(shown), "reader|public.shop_*|{public.shop_v1}");
    let follows = || far.a.engine.catalog().follows().count();
    assert_eq!(follows(), 2);
    assert_eq!(reader.run("unfollow shop_*"), "UNFOLLOW");
    assert_eq!(follows(), 0, "the dropped table's row has gone along");
    reader.ok("follow shop_v1");
    assert_eq!(follows(), 1);
    far.a.client("shop").ok("revoke read on shop_* from reader");
    far.a.client("postgres").ok("drop role reader");
    assert_eq!(follows(), 0);
}

#[test]
fn what_can_not_be_followed() {
    let far = Far::new();
    far.a.client("orders").ok(
        "create table secret (id int); create sequence public.order_s; \
         create view public.order_view as select 1 as one; \
         grant select on public.order_view, public.order_s to reader; \
         create table public.order_in (id int primary key); \
         revoke read on order_* from reader; grant read on order_v1 to reader; \
         grant insert on public.order_in to reader",
    );
    let mut reader = far.a.client("reader");
    for (sql, error) in [
        (
            "follow nothing",
            "ERROR 42P01: relation \"nothing\" does not exist",
        ),
        (
            "follow orders.secret",
            "ERROR 42P01: relation \"orders.secret\" does not exist",
        ),
        (
            "follow order_view",
            "ERROR 42809: \"order_view\" is not a table",
        ),
        ("follow order_s", "ERROR 42809: \"order_s\" is not a table"),
        ("follow order_n", "ERROR 42809: \"order_n\" is an index"),
        (
            "follow order_in",
            "ERROR 42501: permission denied for table order_in",
        ),
        (
            "follow pg_class",
            "ERROR 42501: permission denied: \"pg_class\" is a system catalog",
        ),
        (
            "follow orders.order_*",
            "ERROR 0A000: patterns cover tables in schema",
        ),
        (
            "unfollow order_v1",
            "ERROR 42704: role \"reader\" does not follow table \"order_v1\"",
        ),
        (
            "unfollow x_*",
            "ERROR 42704: role \"reader\" does not follow pattern \"x_*\"",
        ),
        (
            "begin read only; follow order_v1",
            "BEGIN; ERROR 25006: cannot execute FOLLOW in a",
        ),
    ] {
        let told = reader.run(sql);
        assert!(told.starts_with(error), "{sql}: {told}");
    }
    let told = far.a.client("orders").run("follow order_v1");
    assert!(told.starts_with("ERROR 42809: table \"order_v1\" can't be followed by its owner"));
    assert_eq!(far.a.engine.catalog().follows().count(), 0);
}

/// FOLLOW returns when the tables are here, if this node is to keep them.
#[test]
fn follow_waits_for_the_copy() {
    let far = Far::new();
    far.a
        .client("reader")
        .ok("create table own (id int primary key)");
    far.directory();
    let mut client = far.b.client("reader");
    let away = format!("ELSEWHERE {}", GroupId::DIRECTORY);
    assert_eq!(
        client.run("follow order_*"),
        away,
        "nothing is kept at this node"
    );
    client = far.b.client("reader");
    far.place("reader");
    let begun = client.start("follow order_*");
    assert_eq!(begun, None);
    assert_eq!(far.wanted(), [("reader".to_owned(), "order_v1".to_owned())]);
    far.serve();
    assert_eq!(client.go_on(), Some(away));
    client = far.b.client("reader");
    assert_eq!(client.rows("select count(*) from order_v1"), "3");
    // What is followed stays without being asked for, and what comes later comes by itself.
    far.a.client("reader").ok("follow order_*");
    far.directory();
    far.asked.lock().clear();
    far.a
        .client("orders")
        .ok("create table public.order_v2 (id int primary key); insert into order_v2 values (1)");
    far.bring("orders");
    assert_eq!(client.rows("select count(*) from order_v1, order_v2"), "3");
    far.a.client("reader").ok("unfollow order_*");
    far.bring("orders");
    assert_eq!(client.start("select count(*) from order_v2"), None);
}

/// What a node does not find may be there, until it has heard of every owner since it started.
#[test]
fn nothing_is_called_missing_before_all_is_known() {
    let far = Far::new();
    let read = "select * from public.customer_v1";
    for node in [&far.a, &far.b] {
        let mut reader = node.client("reader");
        far.wires.late.store(true, Ordering::Relaxed);
        for sql in [
            read,
            "explain select * from customer_v1",
            "table reader.customers",
        ] {
            let told = reader.run(sql);
            assert!(told.starts_with("ERROR 57P03"), "{sql}: {told}");
        }
        let prepared = reader
            .session
            .parse("", read, &[])
            .expect_err("it is not found");
        assert_eq!(prepared.state(), crate::state::CANNOT_CONNECT_NOW);
        let synced = reader.session.sync(&mut reader.answer);
        synced.expect("no wait");
        assert_eq!(reader.run("select to_regclass('customer_v1')"), "SELECT 1");
        far.wires.late.store(false, Ordering::Relaxed);
        let told = reader.run(read);
        assert!(told.starts_with("ERROR 42P01"), "{told}");
    }
}
