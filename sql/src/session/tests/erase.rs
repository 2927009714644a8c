//! ERASE, and what becomes of what others have set aside of rows that are gone.

use storage::{Direction, Entry, Position, Proposed, system};

use super::feed::log_without;
use super::fired::{self, TRIGGER, node, node_with, runner, runner_of};
use super::node::Node;
use crate::session::Taking;

const PARKED: &str = "select id, op, key, coalesce(old->>'total', '-'), \
                      coalesce(new->>'total', '-'), sqlstate from freehold.parked order by id";

/// Erases what `billing` has set aside of rows that were deleted up to a position; how many entries.
fn erase_gone(node: &Node, upto: Position) -> usize {
    let home = node.group("billing");
    let mut courier = node.engine.courier(home, home).expect("led here");
    let mut entries = 0;
    loop {
        match courier.erase_gone(upto).expect("nothing speaks against it") {
            Taking::Nothing => return entries,
            Taking::Placed => entries += 1,
            Taking::Wait(waiting) => assert!(waiting.ready(), "{waiting:?}"),
        }
    }
}

/// Does what `billing` has set aside hold these bytes?
fn holds(node: &Node, text: &str) -> bool {
    let home = node.group("billing");
    let group = node.local.groups().get(home).expect("held");
    let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    let rows = group.scan(system::PARKED, all, group.applied(), Direction::Forward);
    let found = |bytes: &[u8]| bytes.windows(text.len()).any(|w| w == text.as_bytes());
    rows.expect("read").any(|row| {
        let (key, value) = row.expect("read");
        found(&key) || found(&value)
    })
}

/// Whether `billing` has taken rows out of what is set aside to be erased, in the order of its log.
fn taken_out(node: &Node) -> Vec<bool> {
    let records = node.local.log(node.group("billing")).into_iter();
    let entries = records.filter(|record| matches!(record.what, Some(Proposed::Entry(_))));
    let changes = entries.flat_map(|r| Entry::decode(&r.payload).expect("an entry").changes);
    let whole = |key: &[u8]| key.len() == 8;
    changes
        .filter(|c| c.tree == system::PARKED && whole(&c.key) && c.new.is_none())
        .map(|c| c.erase)
        .collect()
}

#[test]
fn what_is_set_aside_of_a_row_goes_with_it() {
    let node = node();
    let (mut orders, mut billing) = (node.client("orders"), node.client("billing"));
    billing.ok(TRIGGER);
    orders.ok("insert into order_v1 values (1, -111), (2, -222)");
    orders.ok("update order_v1 set total = -112 where id = 1");
    orders.ok("delete from order_v1 where id = 2");
    orders.ok("insert into order_v1 values (2, -223)");
    let mut runner = runner(&node);
    runner.run(&node);
    let before = "1|insert|{\"id\": 1}|-|-111|23514\n\
                  2|insert|{\"id\": 2}|-|-222|23514\n\
                  3|update|{\"id\": 1}|-111|-112|55000\n\
                  4|delete|{\"id\": 2}|-222|-|55000\n\
                  5|insert|{\"id\": 2}|-|-223|55000";
    assert_eq!(billing.rows(PARKED), before);
    assert_eq!(
        erase_gone(&node, Position::ZERO),
        0,
        "its time has not come"
    );
    orders.ok("erase from order_v1 where id = 1");
    runner.run(&node);
    assert_eq!(erase_gone(&node, Position::ZERO), 1);
    let erased = "1|insert|{\"id\": 1}|-|-|23514\n\
                  2|insert|{\"id\": 2}|-|-222|23514\n\
                  3|update|{\"id\": 1}|-|-|55000\n\
                  4|delete|{\"id\": 2}|-222|-|55000\n\
                  5|insert|{\"id\": 2}|-|-223|55000\n\
                  6|delete|{\"id\": 1}|-|-|55000";
    assert_eq!(billing.rows(PARKED), erased);
    assert_eq!(taken_out(&node), [true; 3]);
    assert!(!holds(&node, "-111") && !holds(&node, "-112"));
    assert_eq!(erase_gone(&node, Position::ZERO), 0);
    // What was deleted, once its time has come. What has the key since stays.
    assert_eq!(erase_gone(&node, Position::MAX), 1);
    assert!(!holds(&node, "-222"));
    assert!(holds(&node, "-223"));
    assert_eq!(erase_gone(&node, Position::MAX), 0);
    // Why it was set aside may have told of it.
    let said = "select distinct message, detail from freehold.parked where id < 5";
    assert_eq!(
        billing.rows(said),
        "the row was erased at its owner, and with it what was said here|NULL"
    );
    // Nothing can be done with it; but that it is gone is known.
    for (id, why) in [(1, "nothing is left"), (6, "come first"), (3, "come first")] {
        let told = billing.run(&format!("select freehold.retry({id})"));
        assert!(told.contains("55000") && told.contains(why), "{id}: {told}");
    }
    billing.ok("select freehold.skip(1); select freehold.skip(3)");
    billing.ok("insert into invoice values (1, 5), (2, 5)");
    billing.ok("select freehold.retry(6)");
    assert_eq!(billing.rows("select id from invoice"), "2");
    billing.ok("select freehold.skip(2); select freehold.retry(4)");
    assert_eq!(billing.rows("select id from invoice"), "");
    billing.ok("alter table invoice drop constraint invoice_total_check");
    billing.ok("select freehold.retry(5)");
    assert_eq!(billing.rows("select total from invoice"), "-223");
    assert_eq!(billing.rows(PARKED), "");
    // And the key is free.
    orders.ok("insert into order_v1 values (1, 1)");
    runner.run(&node);
    assert_eq!(billing.rows("select count(*) from invoice"), "2");
}

/// What nobody tells about any more must not stay either.
#[test]
fn what_is_set_aside_goes_with_its_trigger_its_table_and_the_right_to_read_it() {
    let ends: [(&str, &str, Position); 6] = [
        ("billing", "drop trigger bill on order_rows", Position::ZERO),
        (
            "orders",
            "revoke read on order_* from billing",
            Position::ZERO,
        ),
        ("orders", "drop table order_rows cascade", Position::ZERO),
        ("orders", "truncate order_rows", Position::MAX),
        // It is known by the key as it was.
        (
            "orders",
            "alter table order_rows rename id to number",
            Position::MAX,
        ),
        (
            "orders",
            "alter table order_rows alter id type text",
            Position::MAX,
        ),
    ];
    for (who, end, due) in ends {
        let node = node_with("order_rows");
        node.client("billing")
            .ok(&TRIGGER.replace("order_v1", "order_rows"));
        node.client("orders")
            .ok("insert into order_rows values (1, -111)");
        let mut runner = runner(&node);
        runner.run(&node);
        assert_eq!(erase_gone(&node, Position::MAX), 0, "{end}");
        assert!(holds(&node, "-111"));
        node.client(who).ok(end);
        if due == Position::MAX {
            runner.run(&node);
            assert_eq!(erase_gone(&node, Position::ZERO), 0, "{end}: at its time");
        }
        assert_eq!(erase_gone(&node, due), 1, "{end}");
        assert!(!holds(&node, "-111"), "{end}");
        assert_eq!(erase_gone(&node, due), 0, "{end}");
        let left = "select id, op from freehold.parked";
        assert_eq!(node.client("billing").rows(left), "1|insert", "{end}");
    }
}

/// Other changes of a table take nothing.
#[test]
fn what_is_set_aside_of_a_row_that_lives_stays() {
    let node = node_with("order_rows");
    let (mut orders, mut billing) = (node.client("orders"), node.client("billing"));
    billing.ok(&TRIGGER.replace("order_v1", "order_rows"));
    orders.ok("insert into order_rows values (1, -111), (2, 2), (3, 3)");
    let mut runner = runner(&node);
    runner.run(&node);
    orders.ok("alter table order_rows rename note to remark");
    orders.ok("alter table order_rows add column more int");
    orders.ok("alter table order_rows alter more type bigint");
    orders.ok("erase from order_rows where id = 2; delete from order_rows where id = 3");
    runner.run(&node);
    assert_eq!(erase_gone(&node, Position::MAX), 0);
    assert_eq!(billing.rows(PARKED), "1|insert|{\"id\": 1}|-|-111|23514");
}

/// All that was there is gone, and what came behind it in the same entry is not.
#[test]
fn what_is_set_aside_of_a_row_behind_a_truncate_stays() {
    let node = node_with("order_rows");
    let (mut orders, mut billing) = (node.client("orders"), node.client("billing"));
    billing.ok(&TRIGGER.replace("order_v1", "order_rows"));
    orders.ok("insert into order_rows values (1, -111)");
    orders.ok("begin; truncate order_rows; insert into order_rows values (2, -222); commit");
    let mut runner = runner(&node);
    runner.run(&node);
    assert_eq!(erase_gone(&node, Position::MAX), 1);
    assert_eq!(
        billing.rows(PARKED),
        "1|insert|{\"id\": 1}|-|-|23514\n2|insert|{\"id\": 2}|-|-222|23514"
    );
}

/// What a trigger of an ERASE removes elsewhere and puts back is a row that lives; what it puts back in the
/// table itself would not be erased.
#[test]
fn a_trigger_of_an_erase_puts_rows_back() {
    let node = node();
    let mut orders = node.client("orders");
    orders.ok("create table totals (c int primary key, n bigint)");
    orders.ok("create table sums (id int primary key, c int)");
    orders.ok(
        "create function again() returns trigger language plpgsql as $$ begin \
         delete from totals where c = old.c; \
         insert into totals select old.c, count(*) from sums where c = old.c; \
         return old; end $$",
    );
    orders.ok("create trigger again after delete on sums for each row execute function again()");
    orders.ok("insert into sums values (1, 7), (2, 7); insert into totals values (7, 2)");
    orders.ok("erase from sums where id = 1");
    assert_eq!(orders.rows("select c, n from totals"), "7|1");
    orders.ok(
        "create or replace function again() returns trigger language plpgsql as $$ begin \
         insert into sums values (old.id, old.c); return old; end $$",
    );
    let told = orders.run("erase from sums where id = 2");
    assert!(told.contains("55000"), "{told}");
    assert_eq!(orders.rows("select id, c from sums"), "2|7");
}

#[test]
fn an_erase_that_does_not_say_which_row_sets_a_trigger_aside() {
    let node = node_with("order_rows");
    let (mut orders, mut billing) = (node.client("orders"), node.client("billing"));
    orders.ok("create table public.order_lines (id int, total int)");
    billing.ok("follow order_lines");
    let trigger = TRIGGER.replace("order_v1", "order_lines");
    let trigger = trigger.replace(" or update of total", "");
    billing.ok(&trigger);
    billing.ok(&trigger
        .replace("bill", "new_ones")
        .replace("or delete ", ""));
    orders.ok("insert into order_lines values (1, -111), (2, 22)");
    let mut runner = runner(&node);
    runner.run(&node);
    assert!(holds(&node, "-111"));
    orders.ok("erase from order_lines where id = 2");
    runner.run(&node);
    assert_eq!(erase_gone(&node, Position::ZERO), 1);
    let parked = "select id, trigger, op, key, sqlstate from freehold.parked order by id";
    assert_eq!(
        billing.rows(parked),
        "1|bill|insert|NULL|23514\n2|new_ones|insert|NULL|23514\n3|bill|erase|NULL|55000"
    );
    // Of which row it was is not known, so what is set aside of any of them is gone.
    assert!(!holds(&node, "-111"));
    let told = billing.run("select freehold.retry(3)");
    assert!(told.contains("55000"), "{told}");
    billing.ok("select freehold.skip(id) from freehold.parked");
    assert_eq!(billing.rows(parked), "");
}

/// A trigger that was away while what it was to run on was erased with its key does not go on as if
/// there had been nothing.
#[test]
fn a_trigger_is_set_aside_for_what_is_not_told_any_more() {
    let node = node();
    let (mut orders, mut billing) = (node.client("orders"), node.client("billing"));
    billing.ok(TRIGGER);
    orders.ok("insert into order_v1 values (1, -111)");
    runner(&node).run(&node);
    orders.ok("insert into order_v1 values (2, 20)");
    let group = node.local.groups().get(node.group("orders")).expect("held");
    let lost = group.applied();
    orders.ok("insert into order_v1 values (3, 30)");
    let mut late = runner_of(&node, log_without(&node, lost));
    late.run(&node);
    assert_eq!(billing.rows("select id from invoice"), "3", "it goes on");
    let parked = "select id, trigger, op, key, sqlstate from freehold.parked order by id";
    assert_eq!(
        billing.rows(parked),
        "1|bill|insert|{\"id\": 1}|23514\n2|bill|erase|NULL|OW001"
    );
    // It may have been the end of that one.
    assert_eq!(erase_gone(&node, Position::ZERO), 1);
    assert!(!holds(&node, "-111"));
}

/// The two would be one change of a row that lives, whose old image stays.
#[test]
fn a_row_that_is_erased_is_not_put_back_in_the_same_transaction() {
    let node = node();
    let mut orders = node.client("orders");
    orders.ok("insert into order_v1 values (1, 10)");
    for back in [
        "insert into order_v1 values (1, 11)",
        "insert into order_v1 values (1, 11) on conflict (id) do update set total = 12",
        "update order_v1 set id = 1 where id = 2",
    ] {
        orders.ok("insert into order_v1 values (2, 20) on conflict do nothing");
        orders.ok("begin; erase from order_v1 where id = 1");
        let told = orders.run(back);
        assert!(told.contains("55000"), "{back}: {told}");
        orders.ok("rollback");
    }
    // What the transaction has brought itself is in no log, and what is deleted may come again.
    orders.ok(
        "begin; insert into order_v1 values (3, 30); erase from order_v1 where id = 3; \
         insert into order_v1 values (3, 31); delete from order_v1 where id = 1; \
         insert into order_v1 values (1, 13); commit",
    );
    let rows = "select id, total from order_v1 order by id";
    assert_eq!(orders.rows(rows), "1|13\n2|20\n3|31");
    orders.ok("erase from order_v1 where id = 1");
    orders.ok("insert into order_v1 values (1, 14)");
    assert_eq!(orders.rows(rows), "1|14\n2|20\n3|31");
}

#[test]
fn an_erase_may_stand_in_a_with_and_behind_it() {
    let node = fired::node();
    let mut orders = node.client("orders");
    orders.ok("insert into order_v1 values (1, 10), (2, 20), (3, 30), (4, 40)");
    let moved = "with gone as (erase from order_v1 where id = 1 returning id) select id from gone";
    assert_eq!(orders.rows(moved), "1");
    let behind = "with few as (select 2 as id) erase from order_v1 o using few \
                  where o.id = few.id";
    assert_eq!(orders.run(behind), "ERASE 1");
    let deleted =
        "with gone as (erase from order_v1 where id = 3) delete from order_v1 where id = 4";
    assert_eq!(orders.run(deleted), "DELETE 1");
    let ops = "select op, key->>'id' from freehold.changes(tables => array['order_v1']) \
               where op in ('erase', 'delete')";
    assert_eq!(orders.rows(ops), "erase|1\nerase|2\nerase|3\ndelete|4");
}
