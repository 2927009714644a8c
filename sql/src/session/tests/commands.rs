//! Commands: an INSERT into another owner's inbox is part of the sender's own transaction and reaches
//! the inbox once, in order.

use std::sync::Arc;

use super::node::{Client, Node};
use super::pair::Pair;
use crate::session::{Courier, Taking};

/// `orders` has an inbox, into which `shop` and `web` may send.
fn node() -> Node {
    let node = Node::new();
    owners(&node);
    node
}

fn owners(node: &Node) {
    let mut root = node.client("postgres");
    root.ok("create role orders login; create role shop login; create role web login");
    let mut orders = node.client("orders");
    orders.ok("create table public.order_commands (id int primary key, \
               what text not null check (what <> 'bad'), at timestamptz default now()) \
               with (inbox = true)");
    orders.ok("grant insert on order_commands to shop, web");
}

fn courier(node: &Node, home: &str, other: &str) -> Courier {
    let (home, other) = (node.group(home), node.group(other));
    node.engine.courier(home, other).expect("led here")
}

/// Takes and removes until there is nothing to do; how many entries that made.
fn bring(courier: &mut Courier) -> usize {
    let mut entries = 0;
    for step in [Courier::take, Courier::clear] {
        loop {
            match step(courier).expect("nothing speaks against it") {
                Taking::Nothing => break,
                Taking::Placed => entries += 1,
                Taking::Wait(waiting) => assert!(waiting.ready(), "{waiting:?}"),
            }
        }
    }
    while let Some(waiting) = courier.settle().expect("they stand") {
        assert!(waiting.ready());
    }
    entries
}

/// One that sends by itself, and is answered.
fn sent(client: &mut Client, statement: &str, couriers: &mut [Courier]) -> String {
    let mut answer = client.start(statement);
    for _ in 0..4 {
        if answer.is_some() {
            break;
        }
        for courier in couriers.iter_mut() {
            bring(courier);
        }
        answer = client.go_on();
    }
    answer.expect("answered")
}

#[test]
fn a_command_is_part_of_the_senders_entry_and_comes_once() {
    let node = node();
    let mut shop = node.client("shop");
    shop.ok("create table cart (id int primary key)");
    shop.ok("begin; insert into cart values (1); insert into order_commands values (1, 'place')");
    shop.ok("insert into order_commands (what, id) values ('pay', 2), ('ship', 3)");
    let mut orders = node.client("orders");
    let all = "select id, what, sender, number, at is not null from order_commands order by number";
    shop.ok("savepoint s; insert into order_commands values (9, 'gone'); rollback to s; commit");
    assert_eq!(orders.rows(all), "");
    let mut courier = courier(&node, "orders", "shop");
    assert_eq!(bring(&mut courier), 1, "one transaction, one entry");
    assert_eq!(
        orders.rows(all),
        "1|place|shop|1|t\n2|pay|shop|2|t\n3|ship|shop|3|t"
    );
    assert_eq!(bring(&mut courier), 0);
    let mut back = self::courier(&node, "shop", "orders");
    assert_eq!(bring(&mut back), 1, "what was taken is removed");
    assert_eq!(bring(&mut courier), 0);
    assert_eq!(bring(&mut back), 0);
    // A transaction that is rolled back has sent nothing.
    shop.ok("begin; insert into order_commands values (4, 'never'); rollback");
    assert_eq!(bring(&mut courier), 0);
    orders.ok("delete from order_commands where number <= 2 returning id");
    assert_eq!(orders.rows("select id from order_commands"), "3");
}

#[test]
fn a_command_by_itself_is_answered_with_the_receivers_verdict() {
    let node = node();
    let mut shop = node.client("shop");
    shop.ok("begin; insert into order_commands values (1, 'first'); commit");
    let mut couriers = [
        courier(&node, "orders", "shop"),
        courier(&node, "shop", "orders"),
    ];
    let answer = sent(
        &mut shop,
        "insert into order_commands values (2, 'x')",
        &mut couriers,
    );
    assert_eq!(answer, "INSERT 0 1");
    let twice = "insert into order_commands values (1, 'twice')";
    let answer = sent(&mut shop, twice, &mut couriers);
    assert!(answer.starts_with("ERROR 23505"), "{answer}");
    // It does not stand in the way.
    let answer = sent(
        &mut shop,
        "insert into order_commands values (5, 'x')",
        &mut couriers,
    );
    assert_eq!(answer, "INSERT 0 1");
    let mut orders = node.client("orders");
    assert_eq!(
        orders.rows("select id, number from order_commands order by number"),
        "1|1\n2|2\n5|4"
    );
    // Each sender sees its own.
    assert_eq!(
        shop.rows("select number from order_commands c order by c.id"),
        "1\n2\n4"
    );
    assert_eq!(
        node.client("web")
            .rows("select count(*), max(sender) from order_commands"),
        "0|NULL"
    );
    assert!(
        node.client("postgres")
            .ok("create role audit login")
            .contains("ROLE")
    );
    assert!(
        node.client("audit")
            .run("select * from order_commands")
            .contains("42P01")
    );
    let granted = orders.run("grant select on order_commands to shop");
    assert!(granted.contains("0LP01"), "{granted}");
    // Another sender has keys of his own.
    let mut web = node.client("web");
    let mut couriers = Vec::new();
    web.ok("begin; insert into order_commands values (1, 'mine'); commit");
    couriers.push(courier(&node, "orders", "web"));
    bring(&mut couriers[0]);
    assert_eq!(
        orders.rows("select sender, number from order_commands where id = 1 order by 1"),
        "shop|1\nweb|1"
    );
}

#[test]
fn what_was_not_accepted_is_set_aside_and_tried_again() {
    let node = node();
    let mut orders = node.client("orders");
    orders.ok("create table secret (id int primary key)");
    orders.ok(
        "create table public.to_secret (id int primary key references secret) \
               with (inbox = true); grant insert on to_secret to shop",
    );
    let mut shop = node.client("shop");
    shop.ok("begin; insert into to_secret values (7); insert into to_secret values (8); commit");
    let pending = "select sender, receiver, inbox, number, command from freehold.outbox";
    assert_eq!(
        shop.rows(pending),
        "shop|orders|to_secret|1|{\"id\": 7}\nshop|orders|to_secret|2|{\"id\": 8}"
    );
    orders.ok("insert into secret values (8)");
    let mut couriers = [
        courier(&node, "orders", "shop"),
        courier(&node, "shop", "orders"),
    ];
    bring(&mut couriers[0]);
    bring(&mut couriers[1]);
    assert_eq!(shop.rows(pending), "");
    assert_eq!(orders.rows("select id, number from to_secret"), "8|2");
    // The sender learns that it was, and nothing of what the receiver has.
    let rejected =
        "select inbox, number, command, sqlstate, message, detail from freehold.rejected";
    assert_eq!(
        shop.rows(rejected),
        "to_secret|1|{\"id\": 7}|23503|insert or update on table \"to_secret\" violates foreign key \
         constraint \"to_secret_id_fkey\"|NULL"
    );
    let parked =
        "select id, table_name, sender, number, command, sqlstate, detail from freehold.parked";
    assert_eq!(
        orders.rows(parked),
        "1|to_secret|shop|1|{\"id\": 7}|23503|Key (id)=(7) is not present in table \"secret\"."
    );
    assert_eq!(shop.rows(parked), "");
    assert!(
        orders
            .run("select * from freehold.retry(1)")
            .contains("23503")
    );
    assert!(
        shop.run("select * from freehold.retry(1)")
            .contains("42704")
    );
    orders.ok("insert into secret values (7)");
    assert_eq!(orders.rows("select freehold.retry(1)"), "1");
    assert_eq!(orders.rows(parked), "");
    assert_eq!(
        orders.rows("select id, number from to_secret order by id"),
        "7|1\n8|2"
    );
    assert!(
        orders
            .run("select * from freehold.retry(1)")
            .contains("42704")
    );
    shop.ok("begin; insert into to_secret values (9); commit");
    bring(&mut couriers[0]);
    assert_eq!(orders.rows("select id from freehold.parked"), "2");
    orders.ok("begin; select freehold.skip(2); rollback");
    assert_eq!(orders.rows("select freehold.skip(2)"), "3");
    assert_eq!(orders.rows(parked), "");
}

#[test]
fn what_is_wrong_is_told_at_once() {
    let node = node();
    let mut shop = node.client("shop");
    for (statement, state) in [
        ("insert into order_commands values (1, null)", "23502"),
        ("insert into order_commands values (1, 'bad')", "23514"),
        (
            "insert into order_commands (id, what, sender) values (1, 'x', 'web')",
            "428C9",
        ),
        (
            "insert into order_commands (id, what, number) values (1, 'x', 7)",
            "428C9",
        ),
        (
            "insert into order_commands values (1, 'x') returning id",
            "0A000",
        ),
        (
            "insert into order_commands values (1, 'x') on conflict do nothing",
            "0A000",
        ),
        ("update order_commands set what = 'x'", "42501"),
        ("delete from order_commands", "42501"),
    ] {
        let error = shop.run(statement);
        assert!(error.contains(state), "{statement}: {error}");
    }
    let mut orders = node.client("orders");
    for (statement, state) in [
        ("create table inbox (id int) with (inbox = true)", "42P16"),
        (
            "create table public.c (id serial) with (inbox = true)",
            "0A000",
        ),
        (
            "create table public.c (sender text) with (inbox = true)",
            "42701",
        ),
        ("alter table order_commands set (inbox = false)", "0A000"),
        ("alter table order_commands rename sender to who", "0A000"),
        ("alter table order_commands drop column number", "0A000"),
        (
            "alter table order_commands alter what type varchar",
            "0A000",
        ),
        ("alter table order_commands set schema orders", "0A000"),
        ("alter table order_commands add unique (what)", "0A000"),
        ("create unique index on order_commands (what)", "0A000"),
    ] {
        let error = orders.run(statement);
        assert!(error.contains(state), "{statement}: {error}");
    }
    orders.ok("revoke insert on order_commands from shop");
    let error = shop.run("insert into order_commands values (1, 'x')");
    assert!(error.contains("42P01"), "{error}");
}

#[test]
fn numbers_are_in_the_order_of_commits() {
    let node = node();
    let (mut a, mut b) = (node.client("shop"), node.client("shop"));
    a.ok("begin isolation level repeatable read; insert into order_commands values (1, 'a')");
    b.ok("begin isolation level serializable; insert into order_commands values (2, 'b')");
    b.ok("commit");
    a.ok("commit");
    let mut courier = courier(&node, "orders", "shop");
    assert_eq!(bring(&mut courier), 2);
    let mut orders = node.client("orders");
    assert_eq!(
        orders.rows("select what from order_commands order by number"),
        "b\na"
    );
}

#[test]
fn a_courier_that_loses_its_leader_takes_nothing_twice() {
    let node = node();
    let mut shop = node.client("shop");
    shop.ok("begin; insert into order_commands values (1, 'a'); commit");
    let home = node.group("orders");
    let mut courier = courier(&node, "orders", "shop");
    bring(&mut courier);
    shop.ok("begin; insert into order_commands values (2, 'b'); commit");
    node.local.hold(home);
    assert!(matches!(courier.take(), Ok(Taking::Placed)));
    // It is not there for good, and the next one is based on it.
    assert!(matches!(courier.take(), Ok(Taking::Nothing)));
    node.local.refuse(home, 1);
    node.local.release(home).expect("released");
    let mut courier = self::courier(&node, "orders", "shop");
    assert_eq!(bring(&mut courier), 1);
    let mut orders = node.client("orders");
    assert_eq!(orders.rows("select count(*) from order_commands"), "2");
}

#[test]
fn a_call_waits_for_the_reply() {
    let node = node();
    let (mut shop, mut orders) = (node.client("shop"), node.client("orders"));
    shop.ok("begin; insert into order_commands values (7, 'first'); commit");
    let mut couriers = [
        courier(&node, "orders", "shop"),
        courier(&node, "shop", "orders"),
    ];
    let call = "select freehold.call('order_commands', '{\"id\": 1, \"what\": \"place\"}')";
    assert_eq!(shop.start(call), None);
    assert_eq!(shop.go_on(), None);
    bring(&mut couriers[0]);
    bring(&mut couriers[1]);
    assert_eq!(shop.go_on(), None, "it is accepted, and not answered");
    let seen =
        "select sender, number, id, what, at is not null from order_commands order by number";
    assert_eq!(orders.rows(seen), "shop|1|7|first|t\nshop|2|1|place|t");
    assert_eq!(
        orders.rows("select freehold.reply('shop', 2, '{\"price\": 5}')"),
        "2"
    );
    orders.ok("begin; select freehold.reply('shop', 1, '{}'); rollback");
    bring(&mut couriers[1]);
    let answer = shop.go_on();
    assert_eq!(answer.as_deref(), Some("SELECT 1"));
    assert_eq!(shop.shown(), "{\"price\": 5}");
    let replies = "select sender, receiver, number, reply from freehold.replies";
    assert_eq!(shop.rows(replies), "shop|orders|2|{\"price\": 5}");
    // The first reply counts.
    orders.ok("select freehold.reply('shop', 2, '{\"price\": 6}')");
    bring(&mut couriers[1]);
    assert_eq!(shop.rows(replies), "shop|orders|2|{\"price\": 5}");
    bring(&mut couriers[0]);
    assert_eq!(orders.rows("select count(*) from freehold.outbox"), "0");
    // Nobody keeps it for ever.
    assert_eq!(bring(&mut couriers[1]), 0);
    node.clock.advance(3_700_000_000);
    assert_eq!(bring(&mut couriers[1]), 1);
    assert_eq!(shop.rows(replies), "");
}

#[test]
fn a_call_ends_with_the_verdict_or_its_time() {
    let node = node();
    let mut shop = node.client("shop");
    shop.ok("begin; insert into order_commands values (7, 'first'); commit");
    let mut couriers = [
        courier(&node, "orders", "shop"),
        courier(&node, "shop", "orders"),
    ];
    let call = |payload: &str, more: &str| {
        format!("select freehold.call('public.order_commands', '{payload}'{more})")
    };
    let twice = call("{\"id\": 7, \"what\": \"x\"}", "");
    let answer = sent(&mut shop, &twice, &mut couriers);
    assert!(answer.contains("23505"), "{answer}");
    let late = call("{\"id\": 8, \"what\": \"x\"}", ", timeout => '2 s'");
    assert_eq!(shop.start(&late), None);
    bring(&mut couriers[0]);
    assert_eq!(shop.go_on(), None);
    node.clock.advance(3_000_000);
    let answer = shop.go_on().expect("its time is over");
    assert!(answer.contains("57014"), "{answer}");
    for (payload, state) in [
        ("{\"id\": 1}", "23502"),
        ("[1]", "22023"),
        ("{\"number\": 1}", "42703"),
        ("{\"none\": 1}", "42703"),
    ] {
        let answer = shop.run(&call(payload, ""));
        assert!(answer.contains(state), "{payload}: {answer}");
    }
    let block = format!("begin; {}", call("{\"id\": 9, \"what\": \"x\"}", ""));
    let answer = shop.run(&block);
    assert!(answer.contains("25001"), "{answer}");
    shop.ok("rollback");
    let mut orders = node.client("orders");
    for wrong in [
        "('shop', 99, '{}')",
        "('shop', 0, '{}')",
        "('web', 1, '{}')",
    ] {
        let answer = orders.run(&format!("select freehold.reply{wrong}"));
        assert!(answer.contains("22023"), "{wrong}: {answer}");
    }
    assert_eq!(
        orders.rows("select id from order_commands order by number"),
        "7\n8"
    );
}

#[test]
fn a_commit_that_waits_loses_no_command() {
    let node = node();
    let (mut a, mut b) = (node.client("shop"), node.client("shop"));
    a.ok("begin; insert into order_commands values (1, 'a'), (2, 'b')");
    let home = node.group("shop");
    node.local.hold(home);
    // Nobody reads behind a change of the schema.
    assert_eq!(b.start("create table t (id int)"), None);
    assert_eq!(a.start("commit"), None);
    node.local.release(home).expect("released");
    assert_eq!(a.go_on().as_deref(), Some("COMMIT"));
    assert_eq!(b.go_on().as_deref(), Some("CREATE TABLE"));
    let mut courier = courier(&node, "orders", "shop");
    assert_eq!(bring(&mut courier), 1);
    let mut orders = node.client("orders");
    let all = "select id, number from order_commands order by number";
    assert_eq!(orders.rows(all), "1|1\n2|2");
}

#[test]
fn what_is_not_alone_is_answered_when_it_is_committed() {
    let node = node();
    let mut shop = node.client("shop");
    shop.ok("create table own (id int primary key)");
    let many = "with c as (insert into order_commands values (1, 'x')) insert into own values (1)";
    assert_eq!(shop.ok(many), "INSERT 0 1");
    let mut couriers = [
        courier(&node, "orders", "shop"),
        courier(&node, "shop", "orders"),
    ];
    // Of several commands in one statement each counts.
    let several = "insert into order_commands values (1, 'twice'), (2, 'y')";
    let answer = sent(&mut shop, several, &mut couriers);
    assert!(answer.contains("23505"), "{answer}");
    let mut orders = node.client("orders");
    let all = "select id, number from order_commands order by number";
    assert_eq!(orders.rows(all), "1|1\n2|3");
}

#[test]
fn who_reads_its_own_commands_meets_no_others() {
    let node = node();
    let (mut shop, mut web) = (node.client("shop"), node.client("web"));
    web.ok("begin; insert into order_commands values (1, 'canary'); commit");
    shop.ok("begin; insert into order_commands values (2, '7'); commit");
    bring(&mut courier(&node, "orders", "web"));
    bring(&mut courier(&node, "orders", "shop"));
    let cast = "select id from order_commands where what::int > 0";
    assert_eq!(shop.rows(cast), "2");
    let of_web = "select id from order_commands where sender = 'web' and what::int > 0";
    assert_eq!(shop.rows(of_web), "");
}

#[test]
fn what_does_not_pass_by_itself_is_set_aside_in_the_end() {
    let node = node();
    let mut orders = node.client("orders");
    orders.ok(
        "create function refuse() returns trigger language plpgsql as $$
        begin
            raise exception 'not now' using errcode = '40001';
        end $$",
    );
    orders.ok(
        "create trigger r before insert on order_commands for each row when (new.id = 1) \
               execute function refuse()",
    );
    let mut shop = node.client("shop");
    shop.ok("begin; insert into order_commands values (1, 'x'), (2, 'y'); commit");
    let mut courier = courier(&node, "orders", "shop");
    let mut failures = 0;
    while courier.take().is_err() {
        failures += 1;
        assert!(failures < 100);
    }
    assert!(failures > 10, "it may have passed");
    assert_eq!(orders.rows("select id from order_commands"), "2");
    let parked = "select sqlstate, message from freehold.parked";
    assert_eq!(orders.rows(parked), "40001|not now");
}

#[test]
fn commands_fire_the_inboxs_triggers_and_effects_of_what_is_refused_go() {
    let node = node();
    let mut orders = node.client("orders");
    orders.ok("create table done (id int primary key, who text)");
    orders.ok(
        "create function take() returns trigger language plpgsql as $$
        begin
            perform pg_logical_emit_message(true, 'taken', new.what);
            if new.what = 'bad luck' then
                raise exception 'no luck for %', new.id;
            end if;
            insert into done values (new.id, new.sender);
            perform freehold.reply(new.sender, new.number, jsonb_build_object('id', new.id));
            return null;
        end $$",
    );
    orders.ok(
        "create trigger take before insert on order_commands for each row execute function take()",
    );
    let mut shop = node.client("shop");
    shop.ok("begin; insert into order_commands values (1, 'a'), (2, 'bad luck'), (3, 'c'); commit");
    let mut couriers = [
        courier(&node, "orders", "shop"),
        courier(&node, "shop", "orders"),
    ];
    bring(&mut couriers[0]);
    bring(&mut couriers[1]);
    assert_eq!(
        orders.rows("select id, who from done order by id"),
        "1|shop\n3|shop"
    );
    assert_eq!(orders.rows("select count(*) from order_commands"), "0");
    assert_eq!(
        shop.rows("select number, message from freehold.rejected"),
        "2|no luck for 2"
    );
    let replies = "select number, reply from freehold.replies order by number";
    assert_eq!(shop.rows(replies), "1|{\"id\": 1}\n3|{\"id\": 3}");
}

#[test]
fn calls_of_one_statement_are_sent_once_each() {
    let node = node();
    let mut orders = node.client("orders");
    orders.ok(
        "create function answer() returns trigger language plpgsql as $$
        begin
            perform freehold.reply(new.sender, new.number, to_jsonb(new.id));
            return new;
        end $$",
    );
    orders.ok("create trigger answer after insert on order_commands for each row execute function answer()");
    let mut shop = node.client("shop");
    shop.ok("begin; insert into order_commands values (7, 'first'); commit");
    let mut couriers = [
        courier(&node, "orders", "shop"),
        courier(&node, "shop", "orders"),
    ];
    let call =
        |id: u32| format!("freehold.call('order_commands', '{{\"id\": {id}, \"what\": \"x\"}}')");
    let mut answer = shop.start(&format!("select {}, {}", call(1), call(2)));
    for _ in 0..20 {
        if answer.is_some() {
            break;
        }
        for courier in &mut couriers {
            bring(courier);
        }
        answer = shop.go_on();
    }
    assert_eq!(answer.as_deref(), Some("SELECT 1"));
    assert_eq!(shop.shown(), "1|2");
    let all = "select id, number from order_commands order by number";
    assert_eq!(orders.rows(all), "7|1\n1|2\n2|3");
}

#[test]
fn the_first_of_several_that_is_not_accepted_is_told() {
    let node = node();
    let mut shop = node.client("shop");
    shop.ok("begin; insert into order_commands values (1, 'first'); commit");
    let mut couriers = [
        courier(&node, "orders", "shop"),
        courier(&node, "shop", "orders"),
    ];
    for rows in [
        "(1, 'twice'), (2, 'x')",
        "(3, 'x'), (1, 'twice'), (4, 'x')",
        "(5, 'x'), (1, 'twice')",
        "(1, 'twice'), (5, 'twice')",
    ] {
        let statement = format!("insert into order_commands values {rows}");
        let answer = sent(&mut shop, &statement, &mut couriers);
        assert!(answer.starts_with("ERROR 23505"), "{rows}: {answer}");
        assert!(answer.contains("(shop, 1)"), "{rows}: {answer}");
    }
    let mut orders = node.client("orders");
    assert_eq!(
        orders.rows("select id from order_commands order by number"),
        "1\n2\n3\n4\n5"
    );
    assert_eq!(shop.rows("select count(*) from freehold.rejected"), "5");
}

#[test]
fn a_verdict_is_the_same_where_the_answer_has_gone_and_is_not_noted_yet() {
    let pair = Pair::new();
    owners(&pair.a);
    let mut shop = pair.a.client("shop");
    shop.ok("begin; insert into order_commands values (1, 'first'); commit");
    bring(&mut courier(&pair.a, "orders", "shop"));
    assert_eq!(
        shop.start("insert into order_commands values (1, 'twice')"),
        None
    );
    let groups = ["orders", "shop"].map(|name| pair.a.group(name));
    groups.iter().for_each(|group| pair.hand_over(*group));
    // At the new home of both it is refused, the sender's home notes it, and the answer is removed.
    let mut couriers =
        [("orders", "shop"), ("shop", "orders")].map(|(home, other)| courier(&pair.b, home, other));
    for at in [0, 1, 0] {
        bring(&mut couriers[at]);
    }
    // Where the statement waits, what the receiver did comes before what the sender's home did.
    let log = pair.b.local.log(groups[0]);
    pair.a.local.replay(groups[0], log).expect("applies");
    pair.clock.advance(1_100_000);
    let answer = shop.go_on().expect("it was refused");
    assert!(answer.starts_with("ERROR 23505"), "{answer}");
}

#[test]
fn a_command_takes_its_senders_trace_with_it() {
    let node = Node::journaled(|local| super::feed::registered(local, Arc::default()));
    owners(&node);
    let mut orders = node.client("orders");
    orders.ok("create table public.done_v1 (id int primary key, trace text)");
    orders.ok(
        "create function take() returns trigger language plpgsql as $$
        begin
            insert into done_v1 values (new.id, current_setting('freehold.traceparent'));
            return null;
        end $$",
    );
    orders.ok(
        "create trigger take before insert on order_commands for each row execute function take()",
    );
    let (mut shop, mut web) = (node.client("shop"), node.client("web"));
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    shop.ok("begin; insert into order_commands values (1, 'a'); commit");
    let set = format!("set freehold.traceparent = '{trace}'");
    shop.ok(&set);
    shop.ok("begin; insert into order_commands values (2, 'b'); commit");
    web.ok(&set);
    let call = "select freehold.call('order_commands', '{\"id\": 3, \"what\": \"c\"}')";
    assert_eq!(web.start(call), None);
    for sender in ["shop", "web"] {
        bring(&mut courier(&node, "orders", sender));
    }
    let done = "select new->>'id', new->>'trace', trace from freehold.changes(tables => \
                array['done_v1']) where op = 'insert'";
    assert_eq!(
        orders.rows(done),
        format!("1||NULL\n2|{trace}|{trace}\n3|{trace}|{trace}")
    );
}
