//! Triggers on followed tables: once for each row, in the order of the feed, and what fails is set aside
//! with what is behind it of the same key.

use std::sync::Arc;

use storage::GroupId;

use super::feed::{log, registered};
use super::node::Node;
use crate::changes::{Interrupt, Log};
use crate::fired::Entries;
use crate::session::{Courier, Taking};

/// `billing` follows the orders of `orders` and makes invoices of them.
pub(super) fn node() -> Node {
    node_with("order_v1")
}

/// The same with another name of the table: one that is no contract may change.
pub(super) fn node_with(table: &str) -> Node {
    let named = |statement: &str| statement.replace("order_v1", table);
    let node = Node::journaled(|local| registered(local, Arc::default()));
    let mut root = node.client("postgres");
    root.ok("create role orders login; create role billing login; create role audit login");
    let mut orders = node.client("orders");
    orders.ok(&named(
        "create table public.order_v1 (id int primary key, total numeric, note jsonb)",
    ));
    orders.ok("grant read on order_* to billing");
    let mut billing = node.client("billing");
    billing
        .ok("create table invoice (id int primary key, total numeric check (total > 0), seen int)");
    billing.ok(&named("follow order_v1"));
    billing.ok(&named(
        "create function on_order() returns trigger language plpgsql as $$
        begin
            if tg_op = 'DELETE' then
                delete from invoice where id = old.id;
                return old;
            end if;
            insert into invoice values (new.id, new.total, (select count(*) from order_v1))
                on conflict (id) do update set total = excluded.total, seen = excluded.seen;
            return new;
        end $$",
    ));
    node
}

pub(super) const TRIGGER: &str = "create trigger bill after insert or delete or update of total on order_v1 \
                       for each row execute function on_order()";

pub(super) struct Runner {
    courier: Courier,
    entries: Entries,
}

pub(super) fn runner(node: &Node) -> Runner {
    runner_of(node, log(node))
}

/// Of the triggers of `billing` on tables of `orders`.
pub(super) fn runner_of(node: &Node, log: Arc<dyn Log>) -> Runner {
    Runner::new(node, log, (node.group("billing"), node.group("orders")))
}

impl Runner {
    /// Of the triggers of a group's owner with this source.
    pub(super) fn new(node: &Node, log: Arc<dyn Log>, pair: (GroupId, GroupId)) -> Runner {
        let (home, source) = pair;
        Runner {
            courier: node.engine.courier(home, source).expect("led here"),
            entries: Entries::new(log, home, source),
        }
    }

    /// Runs all there is; how many entries that made.
    pub(super) fn run(&mut self, node: &Node) -> usize {
        let interrupt: Interrupt = Arc::new(|| Ok(()));
        let mut entries = 0;
        while let Some(batch) = self.entries.next(&node.engine, &interrupt).expect("read") {
            loop {
                match self
                    .courier
                    .fire(&batch)
                    .expect("nothing speaks against it")
                {
                    Taking::Nothing => break,
                    Taking::Placed => {
                        entries += 1;
                        break;
                    }
                    Taking::Wait(waiting) => assert!(waiting.ready(), "{waiting:?}"),
                }
            }
        }
        entries
    }
}

const INVOICES: &str = "select id, total from invoice order by id";

#[test]
fn a_trigger_on_a_followed_table_runs_once_for_each_row() {
    let node = node();
    let (mut orders, mut billing) = (node.client("orders"), node.client("billing"));
    orders.ok("insert into order_v1 values (1, 10)");
    billing.ok(TRIGGER);
    orders.ok("insert into order_v1 values (2, 20.50), (3, 30)");
    orders.ok("update order_v1 set total = 31 where id = 3; update order_v1 set note = '[]'");
    orders.ok("delete from order_v1 where id = 2");
    assert_eq!(billing.rows(INVOICES), "");
    let mut runner = runner(&node);
    // What was there before is none of its business; three entries come after.
    assert_eq!(runner.run(&node), 3);
    assert_eq!(billing.rows(INVOICES), "3|31");
    assert_eq!(runner.run(&node), 0);
    // Whoever goes on begins where the last one has ended.
    let mut another = self::runner(&node);
    assert_eq!(another.run(&node), 0);
    orders.ok("insert into order_v1 values (4, 40)");
    assert_eq!(another.run(&node), 1);
    assert_eq!(runner.run(&node), 0, "it was run already");
    assert_eq!(
        billing.rows("select id, total, seen from invoice where id = 4"),
        "4|40|3"
    );
}

#[test]
fn a_projection_that_is_followed_fires_as_a_table() {
    let node = node_with("order_table");
    let (mut orders, mut billing) = (node.client("orders"), node.client("billing"));
    orders.ok("create table item (id int primary key, cents int not null, note text)");
    orders.ok("insert into item values (1, 1000)");
    orders.ok(
        "create materialized view public.order_v1 as select id, cents / 100.0 as total from item",
    );
    billing.ok("follow order_v1");
    billing.ok(TRIGGER);
    orders.ok("insert into item values (2, 2000), (3, 3000)");
    orders.ok("update item set cents = 2100 where id = 2; update item set note = 'x'");
    orders.ok("delete from item where id = 3");
    let mut runner = runner(&node);
    assert_eq!(runner.run(&node), 3);
    assert_eq!(billing.rows("select id, total::int from invoice"), "2|21");
    // On one's own it would run in the middle of one's own write.
    let own = orders.run(TRIGGER);
    assert!(
        own.starts_with("ERROR 42809: relation \"order_v1\" cannot have triggers"),
        "{own}"
    );
}

#[test]
fn what_was_not_there_for_good_is_run_again() {
    let node = node();
    let (mut orders, mut billing) = (node.client("orders"), node.client("billing"));
    billing.ok(TRIGGER);
    let mut runner = runner(&node);
    orders.ok("insert into order_v1 values (1, 10)");
    assert_eq!(runner.run(&node), 1);
    let home = node.group("billing");
    orders.ok("insert into order_v1 values (2, 20)");
    node.local.hold(home);
    assert_eq!(runner.run(&node), 1);
    node.local.refuse(home, 1);
    node.local.release(home).expect("released");
    let mut again = self::runner(&node);
    assert_eq!(again.run(&node), 1);
    assert_eq!(billing.rows(INVOICES), "1|10\n2|20");
}

#[test]
fn what_fails_is_set_aside_with_those_of_its_key_behind_it() {
    let node = node();
    let (mut orders, mut billing) = (node.client("orders"), node.client("billing"));
    billing.ok(TRIGGER);
    orders.ok("insert into order_v1 values (1, -1), (2, 20)");
    orders.ok("update order_v1 set total = 15 where id = 1");
    orders.ok("insert into order_v1 values (3, 30)");
    let mut runner = runner(&node);
    runner.run(&node);
    assert_eq!(billing.rows(INVOICES), "2|20\n3|30", "the others went on");
    let parked = "select id, table_name, sender, trigger, op, key, new->'total', sqlstate \
                  from freehold.parked order by id";
    assert_eq!(
        billing.rows(parked),
        "1|order_v1|orders|bill|insert|{\"id\": 1}|-1|23514\n\
         2|order_v1|orders|bill|update|{\"id\": 1}|15|55000"
    );
    assert_eq!(orders.rows(parked), "");
    let told = billing.run("select freehold.retry(2)");
    assert!(told.contains("55000"), "{told}");
    let told = billing.run("select freehold.retry(1)");
    assert!(told.contains("23514"), "{told}");
    billing.ok("alter table invoice drop constraint invoice_total_check");
    billing.ok("select freehold.retry(1)");
    assert_eq!(billing.rows("select total from invoice where id = 1"), "-1");
    billing.ok("select freehold.skip(2)");
    assert_eq!(billing.rows(parked), "");
    // The key is free again.
    orders.ok("update order_v1 set total = 16 where id = 1");
    runner.run(&node);
    assert_eq!(billing.rows("select total from invoice where id = 1"), "16");
}

#[test]
fn who_may_have_one_and_what_becomes_of_it() {
    let node = node();
    let (mut orders, mut billing) = (node.client("orders"), node.client("billing"));
    let mut audit = node.client("audit");
    audit.ok("create function f() returns trigger language plpgsql as 'begin return null; end'");
    for (role, statement, state) in [
        (
            "audit",
            "create trigger t after insert on order_v1 for each row execute function f()",
            "42P01",
        ),
        (
            "billing",
            "create trigger t before insert on order_v1 for each row execute function on_order()",
            "0A000",
        ),
        ("billing", "drop trigger bill on order_v1", "42704"),
    ] {
        let told = node.client(role).run(statement);
        assert!(told.contains(state), "{statement}: {told}");
    }
    billing.ok("unfollow order_v1");
    let told = billing.run(TRIGGER);
    assert!(told.contains("55000"), "{told}");
    billing.ok("follow order_v1");
    billing.ok(TRIGGER);
    billing.ok("alter table order_v1 disable trigger bill");
    orders.ok("insert into order_v1 values (1, 10)");
    let mut runner = runner(&node);
    runner.run(&node);
    assert_eq!(billing.rows(INVOICES), "");
    billing.ok("alter table order_v1 enable trigger bill");
    orders.ok("insert into order_v1 values (2, 20)");
    runner.run(&node);
    assert_eq!(billing.rows(INVOICES), "2|20");
    // It is its owner's alone, and no business of the table's.
    assert_eq!(orders.rows("select count(*) from pg_trigger"), "0");
    billing.ok("drop trigger bill on order_v1");
    orders.ok("insert into order_v1 values (3, 30)");
    assert_eq!(runner.run(&node), 0);
    billing.ok(TRIGGER);
    orders.ok("drop table order_v1 cascade");
    assert_eq!(runner.run(&node), 0);
}

#[test]
fn triggers_that_lead_to_one_another_come_to_an_end() {
    let node = node();
    let (mut orders, mut billing) = (node.client("orders"), node.client("billing"));
    billing.ok(
        "create table public.invoice_v1 (id int primary key, n int); \
                grant read on invoice_* to orders",
    );
    orders.ok("follow invoice_v1");
    billing.ok("create function pass() returns trigger language plpgsql as $$
        begin
            insert into invoice_v1 values (new.id, 1) on conflict (id) do update set n = invoice_v1.n + 1;
            return new;
        end $$");
    orders.ok(
        "create function pass() returns trigger language plpgsql as $$
        begin
            update order_v1 set total = total + 1 where id = new.id;
            return new;
        end $$",
    );
    billing.ok("create trigger pass after insert or update on order_v1 for each row execute function pass()");
    orders.ok("create trigger pass after insert or update on invoice_v1 for each row execute function pass()");
    orders.ok("insert into order_v1 values (1, 1)");
    let mut there = runner(&node);
    let mut back = Runner {
        courier: node
            .engine
            .courier(node.group("orders"), node.group("billing"))
            .expect("led here"),
        entries: Entries::new(log(&node), node.group("orders"), node.group("billing")),
    };
    let mut rounds = 0;
    while there.run(&node) + back.run(&node) > 0 {
        rounds += 1;
        assert!(rounds < 40, "it has no end");
    }
    assert_eq!(billing.rows("select n from invoice_v1"), "8");
    let parked = "select sqlstate, count(*) from freehold.parked group by 1";
    assert_eq!(billing.rows(parked), "54001|1");
}

/// The same courier goes on after its entry was refused: it must not pass the lost one over.
#[test]
fn what_was_lost_is_not_passed_over_by_what_comes_behind_it() {
    let node = node();
    let (mut orders, mut billing) = (node.client("orders"), node.client("billing"));
    billing.ok(TRIGGER);
    let mut runner = runner(&node);
    orders.ok("insert into order_v1 values (1, 10)");
    assert_eq!(runner.run(&node), 1);
    let home = node.group("billing");
    orders.ok("insert into order_v1 values (2, 20)");
    node.local.hold(home);
    assert_eq!(runner.run(&node), 1);
    node.local.refuse(home, 1);
    node.local.release(home).expect("released");
    orders.ok("insert into order_v1 values (3, 30)");
    let interrupt: Interrupt = Arc::new(|| Ok(()));
    let batch = runner
        .entries
        .next(&node.engine, &interrupt)
        .expect("read")
        .expect("a row");
    assert!(
        runner.courier.fire(&batch).is_err(),
        "the one before is lost"
    );
    let mut again = self::runner(&node);
    assert_eq!(again.run(&node), 2);
    assert_eq!(billing.rows(INVOICES), "1|10\n2|20\n3|30");
}

#[test]
fn a_backlog_is_run_as_it_was_whatever_becomes_of_the_table() {
    let node = node_with("order_rows");
    let (mut orders, mut billing) = (node.client("orders"), node.client("billing"));
    let trigger = TRIGGER.replace("order_v1", "order_rows");
    billing.ok(&trigger);
    orders.ok("insert into order_rows values (1, 10)");
    // Put in again, it goes on where it was.
    billing.ok(&trigger.replace("create trigger", "create or replace trigger"));
    orders.ok("insert into order_rows values (2, 20)");
    orders.ok("alter table order_rows rename note to remark");
    orders.ok("alter table order_rows rename to order_lines");
    orders.ok("insert into order_lines values (3, 30)");
    billing.ok(
        "create or replace function on_order() returns trigger language plpgsql as $$
        begin
            insert into invoice values (new.id, new.total);
            return new;
        end $$",
    );
    runner(&node).run(&node);
    assert_eq!(billing.rows(INVOICES), "1|10\n2|20\n3|30");
    // What may not be read for a while is not passed over.
    let mut runner = runner(&node);
    runner.run(&node);
    orders.ok("revoke read on order_* from billing");
    orders.ok("insert into order_lines values (4, 40)");
    let interrupt: Interrupt = Arc::new(|| Ok(()));
    assert!(runner.entries.next(&node.engine, &interrupt).is_err());
    orders.ok("grant read on order_* to billing");
    runner.run(&node);
    assert_eq!(billing.rows("select count(*) from invoice"), "4");
    // Of a table that is gone the trigger is none's any more.
    orders.ok("drop table order_lines cascade");
    billing.ok("drop function on_order()");
}

#[test]
fn a_row_that_a_condition_does_not_take_any_more_is_set_aside() {
    let node = node_with("order_rows");
    let (mut orders, mut billing) = (node.client("orders"), node.client("billing"));
    let trigger = TRIGGER.replace("order_v1", "order_rows");
    let trigger = trigger.replace("or delete ", "");
    billing.ok(&trigger.replace("for each row", "for each row when (new.total > 0)"));
    orders.ok("insert into order_rows values (1, 10)");
    orders.ok("alter table order_rows rename total to amount");
    orders.ok("insert into order_rows values (2, 20)");
    runner(&node).run(&node);
    assert_eq!(billing.rows(INVOICES), "");
    let parked = "select id, trigger, key, sqlstate from freehold.parked order by id";
    assert_eq!(
        billing.rows(parked),
        "1|bill|{\"id\": 1}|42703\n2|bill|{\"id\": 2}|42703"
    );
}
