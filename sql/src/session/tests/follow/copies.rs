//! Copies of other owners' tables: what is not here is brought, and what is here is read in the cut.

use super::Far;
use crate::session::turn::{CUT_MAX, STALLED_MAX};
use crate::{Error, state};

fn unreachable() -> Error {
    Error::new(state::OWNER_UNREACHABLE, "no node that has it answers")
}

#[test]
fn what_is_not_here_is_brought_and_never_looks_empty() {
    for sql in [
        "select count(*) from order_v1",
        "select id from order_v1 where id = 2",
        "select id from order_v1 where n = 20",
        "select sum(n) from order_v1 where n > 5",
        "select (select max(n) from order_v1)",
        "with o as (select * from order_v1) select count(*) from o",
        "select s.n, o.n from shop_v1 s join order_v1 o on o.id = s.id",
        "copy order_v1 to stdout",
        "begin; declare c cursor for select * from order_v1 order by id; fetch all from c; commit",
    ] {
        let far = Far::new();
        let mut there = far.a.client("reader");
        there.ok(sql);
        let mut client = far.b.client("reader");
        let begun = client.start(sql);
        assert_eq!(begun, None, "{sql}");
        assert!(far.wanted()[0].0 == "reader", "{sql}");
        assert_eq!(far.finish(&mut client, begun), there.shown(), "{sql}");
        assert_eq!(client.answer.copied, there.answer.copied, "{sql}");
        // Now it is here.
        client.ok(sql);
        assert_eq!(client.shown(), there.shown(), "{sql}");
    }
    let far = Far::new();
    let mut client = far.b.client("reader");
    let explained = far.read(&mut client, "explain analyze select * from order_v1");
    assert!(explained.contains("rows=3"), "{explained}");
}

#[test]
fn a_copy_says_that_it_has_no_history() {
    let far = Far::new();
    let mut owner = far.a.client("orders");
    owner.ok("alter table order_v1 set (history = 'forever')");
    let group = far.a.local.groups().get(far.a.group("orders"));
    let group = group.expect("led");
    let before = group.applied();
    owner.ok("update order_v1 set n = 11 where id = 1");
    let after = group.applied();
    let read = |at| format!("select n from order_v1 for system_time as of '{at}' where id = 1");
    assert_eq!(far.a.client("reader").rows(&read(before)), "10");
    let mut client = far.b.client("reader");
    assert_eq!(far.read(&mut client, &read(after)), "11");
    assert_eq!(
        client.run(&read(before)),
        format!(
            "ERROR 72000: snapshot too old DETAIL: This node has a copy of table \"order_v1\", \
             which does not go back to {before}. HINT: The history of a table is where its owner \
             is; copies have the last minute."
        )
    );
}

#[test]
fn the_size_of_what_is_not_here_is_not_zero() {
    let far = Far::new();
    let mut client = far.b.client("reader");
    let sizes = "select pg_table_size('order_v1'), pg_indexes_size('order_v1'), \
                 pg_relation_size('order_n'), pg_total_relation_size('order_v1')";
    assert_eq!(client.rows(sizes), "NULL|NULL|NULL|NULL");
    let count = "select reltuples from pg_class where relname = 'order_v1'";
    assert_eq!(client.rows(count), "-1");
    far.read(&mut client, "select from order_v1");
    assert_eq!(client.rows(sizes), "0|0|0|0", "it is in memory");
}

#[test]
fn an_owner_that_is_away_is_named_and_waiting_ends() {
    let far = Far::new();
    let mut client = far.b.client("reader");
    assert_eq!(client.start("select * from order_v1"), None);
    for (.., done) in std::mem::take(&mut *far.wires.wanted.lock()) {
        done(Err(unreachable()));
    }
    let told = client.go_on().expect("an answer");
    assert_eq!(told, "ERROR OW003: no node that has it answers");
    // The next one asks again; it can be cancelled, and has its time.
    assert_eq!(client.start("select * from order_v1"), None);
    assert_eq!(far.wanted(), [("reader".to_owned(), "order_v1".to_owned())]);
    client.session.activity().cancel();
    client.stop_waiting();
    let told = client.go_on().expect("an answer");
    assert!(
        told.starts_with("ERROR 57014: canceling statement due to user request"),
        "{told}"
    );
    client.ok("set statement_timeout = '1s'");
    assert_eq!(client.start("select * from order_v1"), None);
    far.clock.advance(1_000_001);
    let told = client.go_on().expect("an answer");
    assert!(
        told.starts_with("ERROR 57014: canceling statement due to statement timeout"),
        "{told}"
    );
    client.ok("reset statement_timeout");
    far.wires.wanted.lock().clear();
    assert_eq!(far.read(&mut client, "select count(*) from order_v1"), "3");
}

#[test]
fn a_snapshot_that_is_older_than_the_copy_does_not_read_it() {
    let far = Far::new();
    let mut client = far.b.client("reader");
    far.read(&mut client, "select count(*) from shop_v1");
    client.ok("begin isolation level repeatable read");
    assert_eq!(client.rows("select n from shop_v1"), "1");
    far.a.client("orders").ok("delete from public.order_v1");
    far.a.client("shop").ok("update public.shop_v1 set n = 2");
    far.bring("shop");
    assert_eq!(
        client.rows("select n from shop_v1"),
        "1",
        "its snapshot is kept"
    );
    let told = far.read(&mut client, "select count(*) from order_v1");
    assert_eq!(
        told,
        "ERROR 40001: could not serialize access: a table has come to this node after the \
         transaction's snapshot HINT: Run the transaction again: the table is here now."
    );
    client.ok("rollback; begin isolation level repeatable read");
    assert_eq!(client.rows("select count(*) from order_v1"), "0");
    assert_eq!(client.rows("select n from shop_v1"), "2");
    client.ok("commit");
    // One that needs the table at once takes its snapshot when it is there.
    let far = Far::new();
    let mut client = far.b.client("reader");
    client.ok("begin isolation level repeatable read");
    assert_eq!(far.read(&mut client, "select count(*) from order_v1"), "3");
}

#[test]
fn a_table_that_came_empty_is_not_read_below() {
    let far = Far::new();
    let mut client = far.b.client("reader");
    far.read(&mut client, "select count(*) from shop_v1");
    // Rows that were there, and are not any more when the table is chosen.
    let mut orders = far.a.client("orders");
    orders.ok("delete from public.order_v1");
    let id = far.a.group("orders");
    client.ok("begin isolation level repeatable read; select from shop_v1");
    far.bring("orders");
    let table = far.a.engine.catalog();
    let table = table.tables().find(|t| t.name == "order_v1").cloned();
    let role = far
        .a
        .engine
        .catalog()
        .find_role("reader")
        .expect("a role")
        .id;
    far.asked.lock().insert((role, table.expect("a table").id));
    let asked: Vec<_> = far.asked.lock().iter().copied().collect();
    let chosen = far.a.engine.catalog().chosen(2, id, &asked);
    far.b.local.groups().choose(id, chosen).expect("chosen");
    let told = far.read(&mut client, "select count(*) from order_v1");
    assert!(
        told.starts_with("ERROR 40001: could not serialize access: a table"),
        "{told}"
    );
    client.ok("rollback");
    assert_eq!(client.rows("select count(*) from order_v1"), "0");
}

/// `shop` reads `order_v1` and writes what rests on it: a node that has only `shop`'s entry yet does
/// not show it, whatever it reads and however it asks.
#[test]
fn one_table_alone_is_read_at_the_cut() {
    let far = Far::new();
    let mut client = far.b.client("reader");
    let both = "select (select sum(n) from order_v1), (select n from shop_v1)";
    assert_eq!(far.read(&mut client, both), "60|1");
    far.a
        .client("orders")
        .ok("update public.order_v1 set n = 11 where id = 1");
    let copied = "update public.shop_v1 set n = (select n from public.order_v1 where id = 1)";
    let mut shop = far.a.client("shop");
    shop.ok(copied);
    let token = shop.rows("show freehold.token");
    far.bring("shop");
    assert_eq!(
        client.rows("select n from shop_v1"),
        "1",
        "an effect before its cause"
    );
    assert_eq!(client.rows(both), "60|1");
    client.ok("begin isolation level repeatable read");
    assert_eq!(client.rows("select n from shop_v1"), "1");
    client.ok("commit");
    // A token and WAIT FOR LSN ask for what is shown, not for what has arrived.
    let mut waits = far.b.client("reader");
    let read = format!("set freehold.token = '{token}'; select n from shop_v1");
    assert_eq!(waits.start(&read), None);
    let mut waiter = far.b.client("reader");
    let position = token.split(':').next_back().expect("a position");
    let lsn = format!("wait for lsn '{position}' with (timeout '5s')");
    assert_eq!(waiter.start(&lsn), None);
    far.clock.advance(200_000);
    assert_eq!((waits.go_on(), waiter.go_on()), (None, None));
    far.bring("orders");
    assert_eq!(client.rows(both), "61|11");
    assert_eq!(waits.go_on().as_deref(), Some("SET; SELECT 1"));
    assert_eq!(waits.shown(), "11");
}

/// What is waited for comes and comes, and is never there: the statement has its time, can be
/// cancelled, and gives up by itself.
#[test]
fn waiting_for_what_is_shown_has_an_end() {
    let far = Far::new();
    let mut client = far.b.client("reader");
    let both = "select (select sum(n) from order_v1), (select n from shop_v1)";
    assert_eq!(far.read(&mut client, both), "60|1");
    // All that `shop` does from now on rests on what does not come.
    far.a
        .client("orders")
        .ok("update public.order_v1 set n = 11 where id = 1");
    let mut shop = far.a.client("shop");
    shop.ok("update public.shop_v1 set n = (select n from public.order_v1 where id = 1)");
    let token = shop.rows("show freehold.token");
    let mut more = || {
        shop.ok("update public.shop_v1 set n = n + 1");
        far.bring("shop");
    };
    more();
    let read = format!("set freehold.token = '{token}'; select n from shop_v1");
    assert_eq!(client.start(&read), None);
    client.session.activity().cancel();
    client.stop_waiting();
    let told = client.go_on().expect("an answer");
    let cancelled = "SET; ERROR 57014: canceling statement due to";
    assert!(
        told.starts_with(&format!("{cancelled} user request")),
        "{told}"
    );
    let mut hurried = far.b.client("reader");
    hurried.ok("set statement_timeout = '1s'");
    assert_eq!(hurried.start(&read), None);
    far.clock.advance(1_000_001);
    let told = hurried.go_on().expect("an answer");
    assert!(
        told.starts_with(&format!("{cancelled} statement timeout")),
        "{told}"
    );
    let mut client = far.b.client("reader");
    assert_eq!(client.start(&read), None);
    for _ in 0..CUT_MAX / 20_000_000 - 1 {
        far.clock.advance(20_000_000);
        more();
        assert_eq!(client.go_on(), None);
    }
    far.clock.advance(20_000_000);
    let told = client.go_on().expect("an answer");
    let expected =
        "SET; ERROR OW002: the tables of owner \"shop\" are staler here than the statement needs";
    assert!(told.starts_with(expected), "{told}");
    // Nothing comes any more.
    let mut client = far.b.client("reader");
    assert_eq!(client.start(&read), None);
    // It is woken a little late.
    far.clock.advance(STALLED_MAX + 1_000);
    let told = client.go_on().expect("an answer");
    let expected = "SET; ERROR OW003: the tables of owner \"shop\" are not shown here as far as";
    assert!(told.starts_with(expected), "{told}");
    far.bring("orders");
    assert_ne!(client.rows("select n from shop_v1"), "1");
}

/// A table that is moved by an entry that is not shown yet is not looked for in its new place.
#[test]
fn the_catalog_is_not_ahead_of_what_is_read() {
    let far = Far::new();
    let mut client = far.b.client("reader");
    let both = "select (select sum(n) from order_v1), (select n from shop_v1)";
    assert_eq!(far.read(&mut client, both), "60|1");
    client.ok("begin isolation level repeatable read");
    assert_eq!(client.rows(both), "60|1");
    let mut other = far.b.client("reader");
    far.a
        .client("orders")
        .ok("update public.order_v1 set n = 11 where id = 1");
    let mut shop = far.a.client("shop");
    shop.ok("update public.shop_v1 set n = (select n from public.order_v1 where id = 1)");
    for sql in [
        "begin",
        "truncate public.shop_v1",
        "insert into public.shop_v1 values (1, 12)",
        "commit",
    ] {
        shop.ok(sql);
    }
    far.bring("shop");
    assert_eq!(other.start("select n from shop_v1"), None, "it looks empty");
    far.bring("orders");
    far.serve();
    assert_eq!(other.go_on().as_deref(), Some("SELECT 1"));
    assert_eq!(other.shown(), "12");
    let told = client.run("select n from shop_v1");
    assert!(
        told.starts_with("ERROR 40001: could not serialize access: a table"),
        "{told}"
    );
    client.ok("rollback");
    assert_eq!(client.rows("select n from shop_v1"), "12");
}

#[test]
fn what_is_revoked_or_removed_here_is_not_read_as_empty() {
    let far = Far::new();
    let mut client = far.b.client("reader");
    let count = "select count(*) from order_v1";
    assert_eq!(far.read(&mut client, count), "3");
    client.ok("begin isolation level repeatable read");
    assert_eq!(client.rows(count), "3");
    let id = far.a.group("orders");
    let groups = far.b.local.groups();
    groups.unfollow(id, &*far.b.local).expect("removed");
    assert!(far.read(&mut client, count).starts_with("ERROR 40001"));
    client.ok("rollback");
    // It begins again, behind what the catalog had from before: nothing is lost by that.
    assert_eq!(far.read(&mut client, count), "3");
    far.a
        .client("orders")
        .ok("create table public.order_v2 (id int primary key)");
    groups.unfollow(id, &*far.b.local).expect("removed");
    far.a
        .client("orders")
        .ok("drop table public.order_v1 cascade");
    far.bring("orders");
    assert!(client.run(count).starts_with("ERROR 42P01"));
    assert_eq!(far.read(&mut client, "select count(*) from order_v2"), "0");
    far.b.engine.load(id).expect("once more");
    assert_eq!(client.rows("select count(*) from order_v2"), "0");
    far.a
        .client("orders")
        .ok("revoke read on order_* from reader");
    far.bring("orders");
    assert!(
        client
            .run("select count(*) from order_v2")
            .starts_with("ERROR 42P01")
    );
}

#[test]
fn a_followed_group_is_led_elsewhere() {
    let far = Far::new();
    let id = far.a.group("orders");
    let mut client = far.b.client("orders");
    for sql in [
        "insert into order_v1 values (4, 40)",
        "select * from order_v1 for update",
        "alter table order_v1 add column c int",
        "create table more (id int)",
        "select * from order_v1",
    ] {
        assert_eq!(client.run(sql), format!("ELSEWHERE {id}"), "{sql}");
        client = far.b.client("orders");
    }
    let mut writer = far.a.client("orders");
    writer.ok("begin");
    let done = writer.rows("select pg_current_xact_id()");
    writer.ok("insert into order_v1 values (4, 40); commit");
    far.bring("orders");
    // The copy does not tell what became of transactions: the owner's leader does.
    let status = format!("select pg_xact_status('{done}')");
    assert_eq!(client.run(&status), format!("ELSEWHERE {id}"));
    assert_eq!(far.b.client("postgres").rows(&status), "in progress");
}

#[test]
fn staleness_is_bounded_by_proof() {
    let far = Far::new();
    let mut client = far.b.client("reader");
    let sum = "select sum(n) from order_v1";
    assert_eq!(far.read(&mut client, sum), "60");
    client.ok("set freehold.max_staleness = '1s'");
    far.clock.advance(2_000_000);
    assert_eq!(client.rows(sum), "60", "idle, and proven to be the newest");
    far.a
        .client("orders")
        .ok("update public.order_v1 set n = 11 where id = 1");
    let told = client.run(sum);
    let expected = "ERROR OW002: the tables of owner \"orders\" may be staler here than \
                    freehold.max_staleness allows";
    assert!(told.starts_with(expected), "{told}");
    client.ok("set freehold.max_staleness = 0");
    assert_eq!(client.rows(sum), "60");
    client.ok("set freehold.max_staleness = '1s'");
    far.bring("orders");
    assert_eq!(client.rows(sum), "61");
}

/// The feed is read from a log: if there is none here, and no other node has it, its owner is named.
#[test]
fn the_feed_names_the_owner_whose_log_is_nowhere() {
    let far = Far::new();
    let changes = "select position, op, event from freehold.changes(after => '0/0')";
    let feed = "select count(*) from freehold.feed where position > '0/0'";
    for user in ["reader", "postgres"] {
        let mut client = far.b.client(user);
        let told = client.rows(changes);
        assert!(told.starts_with("0/0|progress|{"), "{user}: {told}");
        assert!(told.contains("\"orders\": \"0/0\""), "{user}: {told}");
        let expected = "ERROR OW003: the changes of owner \"orders\" can't be read now";
        let told = client.run(feed);
        assert!(told.starts_with(expected), "{user}: {told}");
        far.a.client(user).ok(feed);
    }
    far.a.client("postgres").ok("create role stranger login");
    far.directory();
    far.b.client("stranger").ok(feed);
}
