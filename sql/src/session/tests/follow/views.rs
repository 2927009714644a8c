//! Views over what must not come to the reader's node are read where their tables are.

use storage::{GroupId, Position};

use super::Far;
use crate::catalog::{RoleId, TableId};
use crate::remote::{Refused, Request};
use crate::session::Piece;
use crate::types::Datum;

#[test]
fn a_view_is_read_as_its_owner_reads() {
    let far = Far::new();
    far.a.client("orders").ok(
        "create table secret (id int primary key); insert into secret values (7); \
         create view public.order_view as select id from secret; \
         grant select on public.order_view to reader",
    );
    far.bring("orders");
    let mut client = far.b.client("reader");
    assert_eq!(client.rows("select * from order_view"), "7");
    assert_eq!(far.wanted(), [], "the table itself stays where it is");
    let told = client.run("select * from orders.secret");
    assert!(told.starts_with("ERROR 42P01"), "{told}");
}

/// A private table behind views, at a node that follows its owner.
fn hidden() -> Far {
    let far = Far::new();
    far.a.client("orders").ok(
        "create table secret (id int primary key, who text, amount numeric, note text); \
         insert into secret select g, case when g % 2 = 0 then 'reader' else 'shop' end, g * 1.5, \
             'note ' || g from generate_series(1, 100) g; \
         create view public.order_view as select id, who, amount from secret where id <= 50; \
         create view public.mine as select id, amount from secret where who = current_user; \
         create view public.set_by as select id from secret where note = current_setting('my.note'); \
         create view public.over_view as select id + 1000 as id from public.order_view; \
         create view public.broken as select id / (id - 50) as n from secret; \
         grant select on public.order_view, public.mine, public.set_by, public.broken to reader; \
         create view public.loud as select id, pg_notify('ids', id::text) from secret; \
         grant select on public.over_view, public.loud to reader",
    );
    far.bring("orders");
    far
}

#[test]
fn what_a_view_leaves_out_does_not_come() {
    for sql in [
        "select count(*), sum(amount) from order_view",
        "select * from order_view where id = 7",
        "select amount from order_view where id > 45 order by id",
        "select who, count(*) from order_view where id >= 10 and who = 'shop' group by who",
        "select o.n, v.amount from order_v1 o join order_view v on v.id = o.id order by 1",
        "select id, (select amount from order_view v where v.id = o.id) from order_v1 o order by id",
        "select id from order_v1 o where exists (select from order_view v where v.id = o.id + 48)",
        "with v as (select id from order_view) select count(*) from v a join v b using (id)",
        "select id from mine order by amount desc limit 3",
        "set my.note = 'note 9'; select id from set_by",
        "select max(id) from over_view",
        "select a.id from order_view a, order_view b where a.id = b.id + 49",
        "select amount::text, who is null from order_view where id = 3",
        "select from order_view where id < 3",
        "copy (select id from order_view where id < 4) to stdout",
        "begin; declare c cursor for select id from order_view order by id; fetch 2 from c; commit",
        "prepare p as select amount from order_view where id = $1; execute p (4)",
        "begin transaction read only; select count(*) from order_view; select id from mine; commit",
        "select id from order_view where id = any (array[3, 4]) order by id",
        "select id from order_view where who = 'nobody'",
        "select v from order_view v where id = 3",
        "select d.id from order_v1 d, lateral (select id from order_view where id > d.id) l limit 4",
        "with recursive r(n) as (select 1 union all select v.id from r, order_view v \
         where v.id = r.n + 1) select count(*) from r",
    ] {
        let far = hidden();
        let mut there = far.a.client("reader");
        there.ok(sql);
        let mut client = far.b.client("reader");
        let begun = client.start(sql);
        assert_eq!(far.finish(&mut client, begun), there.shown(), "{sql}");
        assert_eq!(client.answer.copied, there.answer.copied, "{sql}");
        let catalog = far.b.engine.catalog();
        let secret = catalog.tables().find(|table| table.name == "secret");
        let secret = secret.expect("its descriptor is here").tree;
        let held = far.b.local.groups().get(far.a.group("orders"));
        assert!(!held.expect("followed").holds(secret), "{sql}");
    }
}

#[test]
fn only_what_is_needed_of_a_view_is_asked_for() {
    let far = hidden();
    let mut client = far.b.client("reader");
    client.ok("select amount from order_view where id = 7 and who > 'a' and amount < 100");
    let asked = far.wires.asked.lock();
    let [(request, None)] = asked.as_slice() else {
        panic!("{} requests", asked.len());
    };
    assert_eq!(request.columns, [0, 1, 2]);
    assert_eq!(request.conditions.len(), 2, "{:?}", request.conditions);
    assert!(!request.holds);
    drop(asked);
    far.wires.asked.lock().clear();
    client.ok("select count(*) from order_view limit 0");
    assert_eq!(
        far.wires.asked.lock().len(),
        0,
        "nobody is asked for nothing"
    );
    client.ok("select count(*) from order_view");
    assert_eq!(far.wires.asked.lock()[0].0.columns, [0; 0]);
}

/// Another node may be of another version, or not sound at all.
#[test]
fn who_asks_for_what_is_not_there_gets_no_rows() {
    let far = hidden();
    far.b
        .client("reader")
        .ok("select amount from order_view where id = 7");
    let (sound, _) = far.wires.asked.lock()[0].clone();
    let given = |change: &dyn Fn(&mut Request)| {
        let mut request = sound.clone();
        change(&mut request);
        let given = far.a.engine.give_view(&request);
        match given.and_then(|(mut source, _pin)| source.next(1 << 10)) {
            Ok(Piece::Rows(_)) => "rows".to_owned(),
            Ok(Piece::End) => "no rows".to_owned(),
            Ok(Piece::Wait(waiting)) => format!("{waiting:?}"),
            Err(Refused::Error(error)) => error.state().as_str().to_owned(),
            Err(refused) => format!("{refused:?}"),
        }
    };
    assert_eq!(given(&|_| ()), "rows");
    assert_eq!(
        given(&|r| (r.started, r.begun) = (u64::MAX, u64::MAX)),
        "rows"
    );
    assert_eq!(given(&|r| r.columns = vec![0; 1_000]), "rows");
    let of_another_type = |r: &mut Request| r.conditions[0].value = Datum::text("7");
    assert_eq!(given(&of_another_type), "XX001");
    assert_eq!(given(&|r| r.conditions[0].column = u16::MAX), "XX001");
    assert_eq!(given(&|r| r.columns = vec![3]), "XX001");
    assert_eq!(given(&|r| r.columns = vec![0; 2_000]), "54011");
    assert_eq!(given(&|r| r.asker.truncate(20)), "XX001");
    assert_eq!(given(&|r| r.asker[..12].fill(0xff)), "42704");
    assert_eq!(given(&|r| r.reader = RoleId(u32::MAX)), "42P01");
    assert_eq!(given(&|r| r.group = GroupId(77)), "NotHere");
    assert_eq!(
        given(&|r| r.known.push((GroupId(77), Position(1)))),
        "Behind"
    );
    assert_eq!(given(&|r| r.at = Position::MAX), "Behind");
    assert!(given(&|r| r.at = Position::ZERO).starts_with("Ahead"));
    assert!(given(&|r| r.view = TableId(1)).starts_with("Ahead"));
    assert!(given(&|r| r.shape.clear()).starts_with("Ahead"));
}

/// A view that is read for each outer row is asked for twice: for the first one, then as a whole.
#[test]
fn a_view_that_is_read_again_and_again_is_asked_for_as_a_whole() {
    let each = "select g, (select amount from order_view v where v.id = g and v.who > 'a') \
                from generate_series(1, 40) g";
    let lateral = "select g, v.id from generate_series(1, 40) g, \
                   lateral (select id from order_view where id > g order by id limit 2) v";
    let fails = "select g, (select n from part_view v where v.id = g) from generate_series(1, 4) g";
    let large = "select g, (select length(note) from large_view v where v.id = g) \
                 from generate_series(1, 40) g";
    for (sql, asked) in [(each, 2), (lateral, 2), (fails, 5), (large, 41)] {
        let far = hidden();
        far.a
            .client("orders")
            .ok("create view public.large_view as \
                 select id, repeat(note || ' of many', 1000) as note from secret; \
             create view public.part_view as select id, 100 / (id - 50) as n from secret; \
             grant select on public.large_view, public.part_view to reader");
        far.bring("orders");
        let mut there = far.a.client("reader");
        there.ok(sql);
        let mut client = far.b.client("reader");
        client.ok(sql);
        assert_eq!(client.shown(), there.shown(), "{sql}");
        let requests = far.wires.asked.lock();
        let conditions: Vec<_> = requests.iter().map(|(r, _)| r.conditions.len()).collect();
        assert_eq!(conditions.len(), asked, "{sql}: {conditions:?}");
        assert!(conditions[1] < conditions[0], "{sql}: {conditions:?}");
    }
}

/// The view is read where the reader's snapshot has its owner, whatever has happened there since.
#[test]
fn a_view_of_another_node_is_read_in_the_statements_cut() {
    let far = hidden();
    let mut client = far.b.client("reader");
    let both = "select (select sum(amount) from order_view), (select n from order_v1 where id = 1)";
    assert_eq!(far.read(&mut client, both), "1912.5|10");
    let mut orders = far.a.client("orders");
    orders.ok("begin; update secret set amount = 0; update order_v1 set n = 0; commit");
    let token = orders.rows("show freehold.token");
    assert_eq!(client.rows(both), "1912.5|10", "neither is shown here yet");
    client.ok("begin isolation level repeatable read");
    assert_eq!(client.rows("select n from order_v1 where id = 1"), "10");
    let mut other = far.b.client("reader");
    let read = format!("set freehold.token = '{token}'; {both}");
    assert_eq!(other.start(&read), None, "its own write is waited for");
    far.bring("orders");
    assert_eq!(other.go_on().as_deref(), Some("SET; SELECT 1"));
    assert_eq!(other.shown(), "0|0");
    assert_eq!(client.rows(both), "1912.5|10", "its snapshot is kept");
    assert_eq!(
        client.rows("select count(*) from order_view where amount > 0"),
        "50"
    );
    let near: Vec<_> = far
        .wires
        .asked
        .lock()
        .iter()
        .map(|(_, near)| *near)
        .collect();
    assert_eq!(near.last(), Some(&Some(1)), "it is held there");
    // What is held stays readable, and goes with the transaction.
    let group = far
        .a
        .local
        .groups()
        .get(far.a.group("orders"))
        .expect("led");
    far.clock.advance(600_000_000);
    orders.ok("update secret set amount = 1");
    group.raise_horizon(Position::MAX).expect("raised");
    assert_eq!(client.rows(both), "1912.5|10");
    client.ok("commit");
    far.bring("orders");
    group.raise_horizon(Position::MAX).expect("raised");
    assert_eq!(client.rows(both), "50|0");
}

#[test]
fn a_position_that_is_not_readable_any_more_is_told() {
    let far = hidden();
    let mut client = far.b.client("reader");
    client.ok("begin isolation level repeatable read; select from pg_class limit 1");
    assert_eq!(
        far.read(&mut client, "select 1 from order_view where id = 1"),
        "1"
    );
    client.ok("rollback; begin isolation level repeatable read");
    far.read(&mut client, "select count(*) from order_v1");
    let group = far
        .a
        .local
        .groups()
        .get(far.a.group("orders"))
        .expect("led");
    far.clock.advance(600_000_000);
    far.a.client("orders").ok("update secret set amount = 1");
    group.raise_horizon(Position::MAX).expect("raised");
    let told = client.run("select sum(amount) from order_view");
    assert!(
        told.starts_with("ERROR 40001: could not serialize access: a view"),
        "{told}"
    );
    client.ok("rollback");
    // A statement by itself waits until so much is shown here.
    assert_eq!(client.start("select sum(amount) from order_view"), None);
    far.bring("orders");
    assert_eq!(client.go_on().as_deref(), Some("SELECT 1"));
    assert_eq!(client.shown(), "50");
}

#[test]
fn who_may_not_read_a_view_gets_nothing_of_it() {
    let far = hidden();
    let mut shop = far.b.client("shop");
    let told = shop.run("select * from mine");
    assert!(told.starts_with("ERROR 42P01"), "{told}");
    let mut client = far.b.client("reader");
    assert_eq!(client.rows("select count(*) from mine"), "50");
    far.a
        .client("orders")
        .ok("revoke select on public.mine from reader");
    // This node does not know it yet; the source does.
    let told = client.run("select count(*) from mine");
    assert!(told.starts_with("ERROR 42"), "{told}");
    far.bring("orders");
    let told = client.run("select count(*) from mine");
    assert!(told.starts_with("ERROR 42P01"), "{told}");
    // What stands on it has its owner's rights.
    assert_eq!(client.rows("select count(*) from over_view"), "50");
}

#[test]
fn a_view_that_is_replaced_is_waited_for() {
    let far = hidden();
    let mut client = far.b.client("reader");
    assert_eq!(client.rows("select count(*) from order_view"), "50");
    far.a.client("orders").ok(
        "create or replace view public.order_view as select id, who, amount from secret where id <= 9",
    );
    assert_eq!(client.start("select count(*) from order_view"), None);
    far.bring("orders");
    assert_eq!(client.go_on().as_deref(), Some("SELECT 1"));
    assert_eq!(client.shown(), "9");
    // A table behind it that was changed since is waited for, too.
    far.a
        .client("orders")
        .ok("drop view public.set_by; alter table secret alter column note type varchar(20)");
    assert_eq!(client.start("select count(*) from mine"), None);
    far.bring("orders");
    assert_eq!(client.go_on().as_deref(), Some("SELECT 1"));
    assert_eq!(client.shown(), "50");
}

#[test]
fn errors_of_a_view_say_what_not_where() {
    let far = hidden();
    let mut client = far.b.client("reader");
    let told = client.run("select * from broken");
    assert_eq!(told, "ERROR 22012: division by zero");
    let told = client.run("select * from order_view for update");
    assert!(
        told.starts_with("ERROR 0A000: FOR UPDATE is not supported for a view"),
        "{told}"
    );
    let told = client.run("select * from loud");
    assert!(
        told.starts_with("ERROR 0A000: a view whose rows are on other nodes"),
        "what it notifies would be lost: {told}"
    );
    let explained = far.read(
        &mut client,
        "explain (costs off) select * from order_view where id = 3",
    );
    assert!(!explained.contains("secret"), "{explained}");
}

#[test]
fn a_view_of_another_node_waits_for_locks_as_long_as_its_reader_may() {
    let far = hidden();
    let mut owner = far.a.client("orders");
    owner.ok("begin; lock table secret in access exclusive mode");
    let mut client = far.b.client("reader");
    client.ok("set lock_timeout = '100ms'");
    let told = client.run("select count(*) from order_view");
    assert_eq!(told, "ERROR 55P03: canceling statement due to lock timeout");
    owner.ok("rollback");
    assert_eq!(
        far.read(&mut client, "select count(*) from order_view"),
        "50"
    );
}

#[test]
fn a_view_of_another_node_is_not_read_in_doubt() {
    let far = hidden();
    let mut client = far.b.client("reader");
    *far.wires.doubted.lock() = Some(far.a.group("orders"));
    assert_eq!(client.start("select count(*) from order_view"), None);
    *far.wires.doubted.lock() = None;
    assert_eq!(far.wires.asked.lock().len(), 0);
    for (_, done) in std::mem::take(&mut *far.wires.vouching.lock()) {
        done(Ok(()));
    }
    far.clock.advance(20_000);
    assert_eq!(client.go_on().as_deref(), Some("SELECT 1"));
    assert_eq!(client.shown(), "50");
}

/// A view over private tables of two owners can't be evaluated at one of them.
#[test]
fn private_tables_of_two_owners_are_not_joined_elsewhere() {
    let far = hidden();
    far.a
        .client("orders")
        .ok("grant select on orders.secret to shop; grant usage on schema orders to shop");
    far.a.client("shop").ok(
        "create table own (id int primary key); insert into own values (1), (2); \
         create view public.joined as select o.id, s.amount from own o join orders.secret s using (id); \
         create view public.halves as select o.id from own o; \
         create view public.through as select id, note from orders.secret where id < 3; \
         create view public.stacked as select o.id, v.amount from own o join order_view v using (id); \
         grant select on public.joined, public.halves, public.through to reader; \
         grant select on public.stacked to reader",
    );
    far.bring("orders");
    far.bring("shop");
    let mut client = far.b.client("reader");
    let told = client.run("select * from joined");
    assert!(
        told.starts_with("ERROR 0A000: view \"joined\" can't be read at this node"),
        "{told}"
    );
    assert!(!told.contains("secret"), "{told}");
    let told = client.run("select * from stacked");
    assert!(told.starts_with("ERROR 0A000: view \"stacked\""), "{told}");
    // One whose tables are all of one owner, who is not the view's, and several views.
    assert_eq!(
        client.rows("select note from through where id = 2"),
        "note 2"
    );
    let both = "select h.id, v.amount from halves h join order_view v using (id) order by 1";
    assert_eq!(client.rows(both), "1|1.5\n2|3.0");
    // Where the view's owner stands, he may have what he may read himself.
    far.place("shop");
    let begun = client.start("select * from joined order by 1");
    assert_eq!(begun, None);
    assert!(
        far.wanted().iter().all(|(role, _)| role == "shop"),
        "{:?}",
        far.wanted()
    );
    assert_eq!(far.finish(&mut client, begun), "1|1.5\n2|3.0");
    let stacked = far.read(&mut client, "select * from stacked order by 1");
    assert_eq!(stacked, "1|1.5\n2|3.0");
    let asked = far.wires.asked.lock();
    let shop = far.a.engine.catalog().find_role("shop").expect("a role").id;
    assert_eq!(asked.last().expect("a request").0.reader, shop);
}
