//! Event tables: an INSERT is an event in the transaction's entry, with everything that holds for rows, and
//! no row is ever stored.

use std::sync::Arc;

use storage::{Entry, EventKind, Proposed};

use super::feed::{log, registered};
use super::fired::runner_of;
use super::node::{Client, Node};

/// `orders` says what happens to its orders, and `billing` reads it.
fn node() -> Node {
    let node = Node::journaled(|local| registered(local, Arc::default()));
    let mut root = node.client("postgres");
    root.ok("create role orders login; create role billing login");
    let mut orders = node.client("orders");
    orders.ok("create table public.order_v1 (id int primary key, total numeric)");
    orders.ok("create table public.order_placed_v1 (
            number int generated always as identity,
            order_id int not null references order_v1,
            total numeric check (total > 0),
            cents int generated always as (total * 100) stored,
            at timestamptz not null default now(),
            note text default 'none'
         ) with (event = true)");
    orders.ok("grant read on order_* to billing");
    node
}

const EVENTS: &str = "select event_type, table_name, key, event::jsonb - 'at' from freehold.feed \
                      where op = 'event' order by position, seq";

#[test]
fn a_row_of_an_event_table_is_in_the_entry_and_nowhere_else() {
    let node = node();
    let mut orders = node.client("orders");
    orders.ok("begin; insert into order_v1 values (1, 5)");
    let returned = orders.rows(
        "insert into order_placed_v1 (order_id, total) values (1, 5) returning number, cents, note",
    );
    assert_eq!(returned, "1|500|none");
    orders.ok(
        "savepoint s; insert into order_placed_v1 (order_id, total) values (1, 6); rollback to s",
    );
    orders.ok(
        "insert into order_placed_v1 (order_id, note) select id, 'copied' from order_v1; commit",
    );
    orders.ok("begin; insert into order_placed_v1 (order_id, total) values (1, 7); rollback");
    let mut billing = node.client("billing");
    let [first, second] = [
        r#"{"note": "none", "cents": 500, "total": 5, "number": 1, "order_id": 1}"#,
        r#"{"note": "copied", "cents": null, "total": null, "number": 3, "order_id": 1}"#,
    ];
    let of = r#"order_placed_v1|order_placed_v1|{"order_id": 1}"#;
    let all = format!("{of}|{first}\n{of}|{second}");
    assert_eq!(billing.rows(EVENTS), all);
    assert_eq!(orders.rows(EVENTS), all);
    // Between the changes of its transaction, with nothing in the columns of rows.
    let shape = "select op, new is null, old is null, last_in_tx, role from \
                 freehold.changes(tables => array['order_*']) where op <> 'ddl'";
    assert_eq!(
        billing.rows(shape),
        "insert|f|t|f|orders\nevent|t|t|f|orders\nevent|t|t|t|orders"
    );
    let group = node.engine.groups().get(node.group("orders")).unwrap();
    let tree = tree(&node, "order_placed_v1");
    let none = group.scan(
        tree,
        (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded),
        group.applied(),
        storage::Direction::Forward,
    );
    assert_eq!(none.unwrap().count(), 0);
    // A stranger sees nothing of it.
    node.client("postgres").ok("create role other login");
    let mut other = node.client("other");
    assert_eq!(other.rows(EVENTS), "");
    assert!(other.run("table order_placed_v1").contains("42P01"));
}

fn tree(node: &Node, name: &str) -> u32 {
    let catalog = node.engine.catalog();
    let table = catalog.tables().find(|table| table.name == name);
    table.expect("there").tree
}

#[test]
fn an_event_names_the_rows_that_it_is_about() {
    let node = node();
    let mut orders = node.client("orders");
    orders.ok("create table customer (id text primary key)");
    orders.ok("alter table order_placed_v1 add column customer text references customer");
    orders.ok("insert into order_v1 values (7, 1); insert into customer values ('ada')");
    orders.ok("insert into order_placed_v1 (order_id, customer) values (7, 'ada'), (7, null)");
    let events = events(&node);
    let about = |name: &str, row: &str| {
        let group = node.engine.groups().get(node.group("orders")).unwrap();
        let tree = tree(&node, name);
        let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        let rows = group.scan(tree, all, group.applied(), storage::Direction::Forward);
        let (key, _) = rows.unwrap().next().expect(row).unwrap();
        storage::RowKey { tree, key }
    };
    let (order, ada) = (about("order_v1", "7"), about("customer", "ada"));
    assert_eq!(events[0].about, [order.clone(), ada]);
    assert_eq!(events[1].about, [order]);
    let mut billing = node.client("billing");
    assert_eq!(
        billing.rows("select key from freehold.feed where op = 'event' order by seq"),
        "{\"customer\": \"ada\", \"order_id\": 7}\n{\"customer\": null, \"order_id\": 7}"
    );
    // It hinders nobody from changing that row, or from removing it.
    orders.ok("update order_v1 set id = 8; delete from order_v1; truncate order_v1");
    let gone = orders.run("insert into order_placed_v1 (order_id) values (7)");
    assert!(
        gone.contains("23503") && gone.contains("Key (order_id)=(7) is not present"),
        "{gone}"
    );
    orders.ok("drop table order_v1 cascade");
    orders.ok("insert into order_placed_v1 (order_id) values (7)");
}

/// The events of rows in the log of `orders`.
fn events(node: &Node) -> Vec<storage::Event> {
    let mut events = Vec::new();
    for record in node.local.log(node.group("orders")) {
        if let Some(Proposed::Entry(_)) = record.what {
            events.extend(Entry::decode(&record.payload).unwrap().events);
        }
    }
    events.retain(|event| event.kind == EventKind::Row);
    events
}

#[test]
fn what_holds_for_rows_holds_for_events() {
    let node = node();
    let mut orders = node.client("orders");
    orders.ok("insert into order_v1 values (1, 5)");
    orders.ok("create table seen (n int, what text)");
    orders.ok(
        "create function before() returns trigger language plpgsql as $$
         begin
            if new.note = 'skip' then return null; end if;
            new.note := upper(new.note);
            return new;
         end $$",
    );
    orders.ok(
        "create function after() returns trigger language plpgsql as $$
         begin
            insert into seen values (new.number, new.note);
            return null;
         end $$",
    );
    orders.ok("create trigger one before insert on order_placed_v1 for each row execute function before()");
    orders.ok("create trigger two after insert on order_placed_v1 for each row when (new.total > 1) execute function after()");
    for (values, error) in [
        ("(null, 1)", "23502: null value in column \"order_id\""),
        (
            "(1, -1)",
            "23514: new row for relation \"order_placed_v1\" violates check constraint",
        ),
        (
            "(2, 1)",
            "23503: insert or update on table \"order_placed_v1\" violates foreign key",
        ),
        ("(1, 'x')", "22P02: invalid input syntax for type numeric"),
    ] {
        let told = orders.run(&format!(
            "insert into order_placed_v1 (order_id, total) values {values}"
        ));
        assert!(told.contains(error), "{told}");
    }
    let tag = "insert into order_placed_v1 (order_id, total, note) values (1, 2, 'skip'), (1, 2, 'a'), (1, 1, 'b')";
    assert_eq!(orders.ok(tag), "INSERT 0 2");
    assert_eq!(
        orders.run("copy order_placed_v1 (order_id, total, note) from stdin"),
        "COPY IN"
    );
    assert_eq!(orders.copy(b"1\t9\tc\n1\t9\tskip\n1\t1\td\n", 4), "COPY 2");
    assert_eq!(
        orders.run("copy order_placed_v1 (order_id, total) from stdin"),
        "COPY IN"
    );
    assert!(orders.copy(b"1\t9\n2\t9\n", 4).contains("23503"));
    let what = "select string_agg(event::jsonb->>'note', ',' order by position, seq) from freehold.feed \
                where op = 'event'";
    assert_eq!(orders.rows(what), "A,B,C,D");
    assert_eq!(
        orders.rows("select string_agg(what, ',' order by n) from seen"),
        "A,C"
    );
    // Within functions, too.
    orders.ok("do $$ begin insert into order_placed_v1 (order_id, note) select 1, 'n' || i from generate_series(1, 2) as i; end $$");
    assert_eq!(orders.rows(what), "A,B,C,D,N1,N2");
}

#[test]
fn nothing_but_insert_happens_to_an_event_table() {
    let node = node();
    let (mut orders, mut billing) = (node.client("orders"), node.client("billing"));
    let unread = "ERROR 0A000: cannot read event table \"order_placed_v1\" \
                  DETAIL: Events are in the feed, and never stored. \
                  HINT: Its events are in the feed: SELECT position, event FROM \
                  freehold.changes(tables => ARRAY['order_placed_v1']).";
    let read = "select count(*) from order_placed_v1";
    assert_eq!(orders.run(read), unread);
    assert_eq!(billing.run(read), unread);
    for (sql, error) in [
        (
            "table order_placed_v1 for update",
            "cannot read event table",
        ),
        (
            "create view v as select note from order_placed_v1",
            "cannot read event table",
        ),
        (
            "create materialized view m as select number from order_placed_v1",
            "cannot read event table",
        ),
        ("copy order_placed_v1 to stdout", "cannot read event table"),
        (
            "update order_placed_v1 set note = 'x'",
            "cannot update event table",
        ),
        (
            "delete from order_placed_v1",
            "cannot delete from event table",
        ),
        ("truncate order_placed_v1", "cannot truncate event table"),
        (
            "insert into order_placed_v1 (order_id) values (1) on conflict do nothing",
            "ON CONFLICT for an event table",
        ),
        (
            "create index on order_placed_v1 (note)",
            "a key or an index of an event table",
        ),
        (
            "create unique index concurrently on order_placed_v1 (note)",
            "a key or an index of an event table",
        ),
        (
            "alter table order_placed_v1 add primary key (number)",
            "a key or an index of an event table",
        ),
        (
            "create table e (id int unique) with (event = true)",
            "a key or an index of an event table",
        ),
        (
            "create table e (like order_v1 including all) with (event = true)",
            "a key or an index of an event table",
        ),
        (
            "create table c (n int references order_placed_v1 (number))",
            "a foreign key to an event table",
        ),
        (
            "alter table order_placed_v1 set (event = false)",
            "making a table an event table, or none",
        ),
        (
            "alter table order_v1 set (event = true)",
            "making a table an event table, or none",
        ),
        (
            "create table e with (event = true) as select 1 as n",
            "CREATE TABLE AS for an event table",
        ),
        (
            "create materialized view m with (event = true) as select id from order_v1",
            "a materialized view as an event table",
        ),
        (
            "create table public.e (n int) with (event = true, inbox = true)",
            "an inbox as an event table",
        ),
        (
            "create table e (id int references order_v1 on delete cascade) with (event = true)",
            "ON DELETE or ON UPDATE in an event table",
        ),
        (
            "create trigger t after update on order_placed_v1 for each row execute function f()",
            "an UPDATE or DELETE trigger on an event table",
        ),
    ] {
        let told = orders.run(sql);
        assert!(
            told.contains("0A000") && told.contains(error),
            "{sql}: {told}"
        );
    }
    orders.ok("create table own (id int primary key, code text unique)");
    let told = orders.run("create table e (code text references own (code)) with (event = true)");
    assert!(told.contains("anything but a primary key"), "{told}");
    let told = billing.run("create table e (id int references order_v1) with (event = true)");
    assert!(
        told.contains("0A000") && told.contains("another owner's table"),
        "{told}"
    );
    let told = orders.run("create table e (n int) with (event = yes)");
    assert!(told.contains("22023"), "{told}");
    let told = billing.run("insert into order_placed_v1 (order_id) values (1)");
    assert!(
        told.contains("42501") && told.contains("\"orders\""),
        "{told}"
    );
    // And it is a table in the catalogs.
    let shown =
        "select relkind, reloptions, relnatts from pg_class where relname = 'order_placed_v1'";
    assert_eq!(billing.rows(shown), "r|{event=true}|6");
}

#[test]
fn an_event_table_is_a_contract_and_wakes_those_who_listen() {
    let node = node();
    let (mut orders, mut billing) = (node.client("orders"), node.client("billing"));
    orders.ok("alter table order_placed_v1 drop column note, add column note text");
    billing.ok("follow order_placed_v1");
    let shown = "select contract, version, newest, followers from freehold.contracts where contract = 'order_placed'";
    assert_eq!(orders.rows(shown), "order_placed|1|t|{billing}");
    for change in [
        "drop column note",
        "drop constraint order_placed_v1_order_id_fkey",
        "rename to order_paid_v1",
    ] {
        let told = orders.run(&format!("alter table order_placed_v1 {change}"));
        assert!(told.contains("OW004"), "{change}: {told}");
    }
    assert!(orders.run("drop table order_placed_v1").contains("2BP01"));
    orders.ok("alter table order_placed_v1 add column currency text not null default 'EUR'");
    orders.ok("create table public.order_placed_v2 (order_id int) with (event = true)");
    // What was there before keeps its shape, whatever the table is later.
    orders.ok(
        "insert into order_v1 values (1, 5); insert into order_placed_v1 (order_id) values (1)",
    );
    orders.ok("alter table order_placed_v1 add column more int default 3");
    let events = "select event::jsonb->>'currency', event::jsonb ? 'more' from \
                  freehold.changes(tables => array['order_placed_v1']) where op = 'event'";
    assert_eq!(billing.rows(events), "EUR|f");
    billing.ok("listen order_placed_v1");
    orders.ok("insert into order_placed_v1 (order_id) values (1)");
    assert_eq!(woken(&billing), ["order_placed_v1"]);
    orders.ok("insert into order_v1 values (2, 5)");
    assert!(woken(&billing).is_empty());
}

fn woken(client: &Client) -> Vec<String> {
    let notes = client.session.activity().mailbox().take();
    notes.into_iter().map(|note| note.channel).collect()
}

#[test]
fn a_trigger_runs_once_for_each_event_and_belongs_to_its_trace() {
    let node = node();
    let (mut orders, mut billing) = (node.client("orders"), node.client("billing"));
    orders.ok("insert into order_v1 values (1, 5), (2, 6)");
    billing.ok("create table due (number int primary key, order_id int, total numeric check (total < 100), trace text)");
    billing.ok(
        "create function on_placed() returns trigger language plpgsql as $$
         begin
            insert into due values (new.number, new.order_id, new.total,
                current_setting('freehold.traceparent'));
            return null;
         end $$",
    );
    billing.ok("follow order_placed_v1");
    billing.ok("create trigger bill after insert on order_placed_v1 for each row execute function on_placed()");
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    orders.ok(&format!(
        "begin; set local freehold.traceparent = '{trace}'; \
         insert into order_placed_v1 (order_id, total) values (1, 5), (2, 6); commit"
    ));
    orders.ok("insert into order_placed_v1 (order_id, total) values (1, 500)");
    orders.ok("insert into order_placed_v1 (order_id, total) values (2, 7), (1, 8)");
    let mut runner = runner_of(&node, log(&node));
    assert_eq!(
        runner.run(&node),
        3,
        "an entry for each of those that say something"
    );
    let due = "select number, order_id, total, trace from due order by number";
    assert_eq!(
        billing.rows(due),
        format!("1|1|5|{trace}\n2|2|6|{trace}\n4|2|7|")
    );
    let traces = "select distinct trace from freehold.changes(tables => array['due']) where op = 'insert' and trace is not null";
    assert_eq!(billing.rows(traces), trace);
    assert_eq!(runner.run(&node), 0);
    assert_eq!(
        runner_of(&node, log(&node)).run(&node),
        0,
        "whoever goes on"
    );
    // What is about the same order waits behind the one that failed.
    let parked =
        "select id, table_name, op, key, new->>'total', sqlstate from freehold.parked order by id";
    assert_eq!(
        billing.rows(parked),
        "1|order_placed_v1|insert|{\"order_id\": 1}|500|23514\n\
         2|order_placed_v1|insert|{\"order_id\": 1}|8|55000"
    );
    billing.ok("select freehold.skip(1); select freehold.retry(2)");
    assert_eq!(
        billing.rows("select number, total from due where order_id = 1 order by 1"),
        "1|5\n5|8"
    );
}

#[test]
fn an_event_stays_what_it_was_whatever_becomes_of_its_table() {
    let node = node();
    let (mut orders, mut billing) = (node.client("orders"), node.client("billing"));
    let insert = "insert into order_placed_v1 (order_id, total) values (1, 5)";
    orders.ok("insert into order_v1 values (1, 5)");
    orders.ok(insert);
    orders.ok("alter table order_placed_v1 drop column cents, drop constraint order_placed_v1_total_check");
    orders.ok("alter table order_placed_v1 alter column total type text");
    orders.ok("alter table order_placed_v1 rename column note to remark");
    orders.ok("insert into order_placed_v1 (order_id, total) values (1, 'five')");
    orders.ok("begin; create table public.order_paid_v1 (id int) with (event = true)");
    orders.ok("insert into order_paid_v1 values (7); commit");
    orders.ok("drop table order_placed_v1");
    let seen = [
        r#"order_placed_v1|{"order_id": 1}|{"note": "none", "cents": 500, "total": 5, "number": 1, "order_id": 1}"#,
        r#"order_placed_v1|{"order_id": 1}|{"total": "five", "number": 2, "remark": "none", "order_id": 1}"#,
        r#"order_paid_v1|NULL|{"id": 7}"#,
    ];
    let events =
        "select table_name, key, event::jsonb - 'at' from freehold.feed where op = 'event'";
    assert_eq!(billing.rows(events), seen.join("\n"));
}
