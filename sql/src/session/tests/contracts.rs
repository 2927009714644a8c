//! What `freehold.contracts` tells of versions: when they were written, and which one stands still.

use super::feed::registered;
use super::node::Node;

const HOUR: u64 = 3_600_000_000;
const SHOWN: &str =
    "select version, last_written, warning from freehold.contracts order by version";

/// `orders` writes two versions of a contract that `billing` reads, and `audit` the first one alone.
fn node() -> Node {
    let node = Node::journaled(|local| registered(local, std::sync::Arc::default()));
    let mut root = node.client("postgres");
    root.ok("create role orders login; create role billing login; create role audit login");
    let mut orders = node.client("orders");
    orders.ok("create table public.order_v1 (id int primary key)");
    orders.ok("create table public.order_v2 (id int primary key, total int)");
    orders.ok("grant read on order_* to billing; grant read on order_v1 to audit");
    orders.ok("grant references on order_v2 to audit");
    node
}

#[test]
fn a_version_that_stands_still_while_a_later_one_moves_is_warned_of() {
    let node = node();
    let (mut orders, mut billing) = (node.client("orders"), node.client("billing"));
    let mut audit = node.client("audit");
    assert_eq!(orders.rows(SHOWN), "1|NULL|NULL\n2|NULL|NULL");
    orders.ok("insert into order_v1 values (1); insert into order_v2 values (1, 1)");
    let first = "2026-11-18 11:06:40";
    let both = orders.rows(SHOWN);
    assert_eq!(both.matches(first).count(), 2, "{both}");
    node.clock.advance(2 * HOUR);
    // Nothing moves: there is nothing to say. What changes no row is no write.
    orders.ok("update order_v1 set id = 1; delete from order_v1 where id = 9");
    billing.ok("follow order_v1");
    assert_eq!(orders.rows(SHOWN), both);
    orders.ok("insert into order_v2 values (2, 2)");
    let warned = orders.rows(SHOWN);
    let lines: Vec<&str> = warned.lines().collect();
    assert!(
        lines[0].contains(first)
            && lines[0].ends_with("|it stands still while public.order_v2 moves"),
        "{warned}"
    );
    assert!(
        lines[1].contains("2026-11-18 13:06:40") && lines[1].ends_with("|NULL"),
        "{warned}"
    );
    // Its reader is told, too; who may not read the other one hears nothing of it.
    assert_eq!(billing.rows(SHOWN), warned);
    let seen = audit.rows(SHOWN);
    assert!(seen.contains(first) && !seen.contains("moves"), "{seen}");
    assert!(seen.ends_with("\n2|NULL|NULL"), "{seen}");
    // Not when nobody reads it any more, and not when it is written again.
    billing.ok("unfollow order_v1");
    assert!(!orders.rows(SHOWN).contains("moves"));
    billing.ok("follow order_v1");
    assert!(orders.rows(SHOWN).contains("moves"));
    orders.ok("delete from order_v1");
    assert!(!orders.rows(SHOWN).contains("moves"));
    // A transaction that is rolled back is no write.
    node.clock.advance(2 * HOUR);
    orders.ok("begin; insert into order_v2 values (3, 3); rollback");
    assert!(!orders.rows(SHOWN).contains("moves"));
}

#[test]
fn events_are_writes() {
    let node = node();
    let (mut orders, mut billing) = (node.client("orders"), node.client("billing"));
    for version in [1, 2] {
        orders.ok(&format!(
            "create table public.order_paid_v{version} (id int) with (event = true)"
        ));
    }
    billing.ok("follow order_paid_v1");
    orders.ok("insert into order_paid_v1 values (1)");
    node.clock.advance(2 * HOUR);
    orders.ok("insert into order_paid_v2 values (1)");
    let warned = "select version from freehold.contracts where warning is not null";
    assert_eq!(orders.rows(warned), "1");
    orders.ok("insert into order_paid_v1 values (2)");
    assert_eq!(orders.rows(warned), "");
}
