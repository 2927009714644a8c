//! Foreign keys between owners, over processes: whoever is led where, and whichever node falls, no reader
//! sees a row whose parent is not there.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use rustix::process::Signal;
use tests::{Cluster, SUPERUSER, report};

/// Rounds of each writer in the race.
const ROUNDS: u32 = 60;
/// Keys that they race for.
const KEYS: u32 = 6;

/// Rows whose parent is not there.
const DANGLING: &str = "SELECT 'order', o.id FROM order_v1 o LEFT JOIN customer_v1 c ON c.id = o.customer \
                        WHERE o.customer IS NOT NULL AND c.id IS NULL \
                        UNION ALL \
                        SELECT 'invoice', i.id FROM billing.invoices i LEFT JOIN order_v1 o ON o.id = i.of \
                        WHERE i.of IS NOT NULL AND o.id IS NULL";

fn owners(cluster: &Cluster) {
    for role in ["crm", "shop", "billing", "spy"] {
        cluster.ok(1, SUPERUSER, &format!("CREATE ROLE {role} LOGIN"));
    }
    for sql in [
        "CREATE TABLE IF NOT EXISTS public.customer_v1 (id int PRIMARY KEY, name text)",
        "INSERT INTO customer_v1 SELECT i, 'c' FROM generate_series(1, 9) i ON CONFLICT DO NOTHING",
        "GRANT REFERENCES ON customer_v1 TO shop",
    ] {
        cluster.settle(1, "crm", sql);
    }
    for role in ["shop", "billing"] {
        let own = "CREATE TABLE IF NOT EXISTS other (id int PRIMARY KEY)";
        cluster.settle(1, role, own);
    }
}

/// The error of a statement that must fail.
fn refused(cluster: &Cluster, node: usize, user: &str, sql: &str) -> String {
    cluster.until(|| match cluster.ask(node, user, sql) {
        Ok(found) => panic!("{sql} gave {found:?}"),
        // A leader that moves, or a question that was given up.
        Err(why) if why.contains("40001") || why.contains("57P03") => Err(why),
        Err(why) => Ok(why),
    })
}

fn orders(cluster: &Cluster, node: usize, table: &str, action: &str) {
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS {table} \
         (id int PRIMARY KEY, customer int DEFAULT 1 REFERENCES customer_v1 {action})"
    );
    cluster.settle(node, "shop", &sql);
}

/// Orders of shop, and invoices of billing for them.
fn invoices(cluster: &Cluster, of_customers: &str, of_orders: &str) {
    orders(cluster, 1, "public.order_v1", of_customers);
    cluster.settle(1, "shop", "GRANT REFERENCES ON order_v1 TO billing");
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS invoices \
         (id int PRIMARY KEY, of int REFERENCES order_v1 {of_orders})"
    );
    cluster.settle(1, "billing", &sql);
}

/// Nobody asks anybody any more.
fn at_rest(cluster: &Cluster) {
    for owner in ["crm", "shop", "billing"] {
        let left = "SELECT state FROM freehold.intents";
        cluster.until(|| match cluster.ask(1, owner, left)? {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?} are left")),
        });
    }
}

/// Each owner has its one replica on a node of its own: what they know of each other they follow. The
/// third node belongs to neither.
#[test]
fn owners_on_nodes_of_their_own_reference_each_other() {
    let places: [&[&str]; 3] = [
        &["--locality=region=crm"],
        &["--locality=region=shop"],
        &["--locality=region=else"],
    ];
    let cluster = Cluster::start_each(&places);
    owners(&cluster);
    cluster.pin(1, "crm", "crm", 1);
    cluster.pin(2, "shop", "shop", 1);
    let spy = refused(
        &cluster,
        3,
        "spy",
        "CREATE TABLE own (id int REFERENCES customer_v1)",
    );
    assert!(spy.contains("42P01"), "{spy}");
    cluster.settle(3, "crm", "UPDATE customer_v1 SET name = 'canary-4711'");
    orders(&cluster, 3, "orders", "");
    cluster.settle(1, "shop", "INSERT INTO orders VALUES (1, 1), (2, NULL)");
    let absent = refused(&cluster, 2, "shop", "INSERT INTO orders VALUES (3, 99)");
    assert!(absent.contains("23503"), "{absent}");
    // What the other one has is none of the parent's business.
    let kept = refused(&cluster, 3, "crm", "DELETE FROM customer_v1 WHERE id = 1");
    assert!(kept.contains("23503") && !kept.contains("orders"), "{kept}");
    let moved = refused(
        &cluster,
        3,
        "crm",
        "UPDATE customer_v1 SET id = 77 WHERE id = 1",
    );
    assert!(moved.contains("23503"), "{moved}");
    let emptied = refused(&cluster, 3, "crm", "TRUNCATE customer_v1");
    assert!(emptied.contains("23503"), "{emptied}");
    let dropped = refused(&cluster, 3, "crm", "DROP TABLE customer_v1");
    assert!(
        dropped.contains("2BP01") && dropped.contains("shop") && !dropped.contains("orders"),
        "{dropped}"
    );
    let gone = cluster.settle(
        3,
        "crm",
        "DELETE FROM customer_v1 WHERE id IN (2, 3) RETURNING id",
    );
    assert_eq!(gone, ["2", "3"]);
    let absent = refused(&cluster, 2, "shop", "INSERT INTO orders VALUES (3, 2)");
    assert!(absent.contains("23503"), "{absent}");
    // A key that comes back can be referenced again, as soon as it is shown there.
    cluster.settle(1, "crm", "INSERT INTO customer_v1 VALUES (2, 'again')");
    cluster.settle(1, "shop", "INSERT INTO orders VALUES (3, 2)");
    // It is the key alone that came to the other one's node.
    assert!(cluster.holds(1, b"canary-4711"));
    assert!(!cluster.holds(2, b"canary-4711"));
    assert!(!cluster.holds(3, b"canary-4711"));
    // Once it is dropped nobody is asked.
    cluster.settle(
        2,
        "shop",
        "ALTER TABLE orders DROP CONSTRAINT orders_customer_fkey",
    );
    cluster.settle(1, "crm", "DELETE FROM customer_v1 WHERE id = 1");
    let left = cluster.settle(2, "shop", "SELECT id, customer FROM orders ORDER BY id");
    assert_eq!(left, ["1|1", "2|NULL", "3|2"]);
    // And with a row that has no parent it does not come back, until that is mended.
    let add = "ALTER TABLE orders ADD FOREIGN KEY (customer) REFERENCES customer_v1";
    let broken = refused(&cluster, 3, "shop", add);
    assert!(broken.contains("23503"), "{broken}");
    cluster.settle(3, "shop", "DELETE FROM orders WHERE id = 1");
    cluster.settle(3, "shop", add);
    let kept = refused(&cluster, 1, "crm", "DELETE FROM customer_v1 WHERE id = 2");
    assert!(kept.contains("23503"), "{kept}");
    at_rest(&cluster);
}

/// What the children of removed keys do, and their children's, each on a node of its own.
#[test]
fn children_follow_what_their_parents_do() {
    let places: [&[&str]; 3] = [
        &["--locality=region=crm"],
        &["--locality=region=shop"],
        &["--locality=region=billing"],
    ];
    let cluster = Cluster::start_each(&places);
    owners(&cluster);
    for (node, owner) in [(1, "crm"), (2, "shop"), (3, "billing")] {
        cluster.pin(node, owner, owner, 1);
    }
    invoices(
        &cluster,
        "ON DELETE CASCADE ON UPDATE SET NULL",
        "ON DELETE SET NULL",
    );
    orders(&cluster, 2, "later", "ON DELETE SET DEFAULT");
    cluster.settle(
        1,
        "shop",
        "INSERT INTO order_v1 VALUES (1, 1), (2, 2), (3, 3), (4, 3)",
    );
    cluster.settle(1, "shop", "INSERT INTO later VALUES (1, 2), (2, 4)");
    cluster.settle(1, "billing", "INSERT INTO invoices VALUES (1, 2), (2, 3)");
    let orders = "SELECT id, customer FROM order_v1 ORDER BY id";
    let later = "SELECT id, customer FROM later ORDER BY id";
    let invoices = "SELECT id, of FROM invoices ORDER BY id";
    // All of it, or none.
    let taken_back = "BEGIN; DELETE FROM customer_v1 WHERE id = 2; ROLLBACK";
    cluster.settle(2, "crm", taken_back);
    let gone = cluster.settle(
        2,
        "crm",
        "DELETE FROM customer_v1 WHERE id = 2 RETURNING id",
    );
    assert_eq!(gone, ["2"]);
    assert_eq!(cluster.settle(1, "shop", orders), ["1|1", "3|3", "4|3"]);
    assert_eq!(cluster.settle(1, "shop", later), ["1|1", "2|4"]);
    assert_eq!(cluster.settle(1, "billing", invoices), ["1|NULL", "2|3"]);
    // The default is a reference, too.
    let kept = refused(&cluster, 3, "crm", "DELETE FROM customer_v1 WHERE id = 1");
    assert!(kept.contains("23503"), "{kept}");
    let moved = "UPDATE customer_v1 SET id = 33 WHERE id = 3 RETURNING id";
    assert_eq!(cluster.settle(3, "crm", moved), ["33"]);
    assert_eq!(
        cluster.settle(3, "shop", orders),
        ["1|1", "3|NULL", "4|NULL"]
    );
    // Two statements of one transaction, the second one in a savepoint that is gone back to.
    cluster.settle(
        1,
        "shop",
        "INSERT INTO order_v1 VALUES (5, 5), (6, 6), (7, 7)",
    );
    cluster.settle(
        3,
        "crm",
        "BEGIN; DELETE FROM customer_v1 WHERE id = 5; SAVEPOINT s; \
         DELETE FROM customer_v1 WHERE id = 6; ROLLBACK TO s; \
         DELETE FROM customer_v1 WHERE id = 7; COMMIT",
    );
    assert_eq!(
        cluster.settle(3, "shop", "SELECT id, customer FROM order_v1 WHERE id > 4"),
        ["6|6"]
    );
    at_rest(&cluster);
    // What is fenced no more can be changed.
    cluster.settle(1, "shop", "INSERT INTO order_v1 VALUES (8, 6)");
    cluster.settle(1, "shop", "UPDATE order_v1 SET customer = 1 WHERE id = 8");
    assert_eq!(cluster.settle(2, SUPERUSER, DANGLING), Vec::<String>::new());
}

/// Both reference and remove the same few keys, leaders fall, and readers on every node look.
#[test]
fn no_reader_sees_a_row_without_its_parent_while_leaders_fall() {
    races("", "");
}

/// The same where the children follow.
#[test]
fn no_reader_sees_a_row_without_its_parent_where_children_follow() {
    races("ON DELETE CASCADE", "ON DELETE SET NULL");
}

fn races(of_customers: &str, of_orders: &str) {
    let mut cluster = Cluster::start(3);
    owners(&cluster);
    invoices(&cluster, of_customers, of_orders);
    let mut looks = 0;
    for falls in [None, Some("crm"), Some("shop")] {
        let falls = falls.map(|owner| cluster.leader(owner));
        looks += race(&cluster, falls);
        if let Some(node) = falls {
            cluster.node(node).wait();
            cluster.node(node).start_again();
        }
    }
    assert!(looks > 0);
    report("looks for rows without a parent", looks);
    for node in 1..=3 {
        assert_eq!(
            cluster.settle(node, SUPERUSER, DANGLING),
            Vec::<String>::new()
        );
    }
    at_rest(&cluster);
    // Nothing is fenced that is there.
    for key in 1..=KEYS {
        let there = format!("INSERT INTO customer_v1 VALUES ({key}) ON CONFLICT DO NOTHING");
        cluster.settle(1, "crm", &there);
        let put = format!(
            "INSERT INTO order_v1 VALUES ({key}, {key}) \
             ON CONFLICT (id) DO UPDATE SET customer = {key}"
        );
        cluster.settle(2, "shop", &put);
    }
}

/// All owners write at all nodes; one of them falls in the middle. How often readers have looked.
fn race(cluster: &Cluster, falls: Option<usize>) -> usize {
    let (over, looks) = (AtomicBool::new(false), AtomicU32::new(0));
    // What fails is as good as what does not, but for what readers see.
    let try_all = |node: usize, user: &str, all: [String; 2]| {
        for sql in all {
            let _ = cluster.ask(node, user, &sql);
        }
    };
    thread::scope(|scope| {
        for node in 1..=3 {
            let (over, looks) = (&over, &looks);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    if let Ok(found) = cluster.ask(node, SUPERUSER, DANGLING) {
                        assert_eq!(found, Vec::<String>::new(), "dangling at node {node}");
                        looks.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let orders = scope.spawn(|| {
            for round in 1..=ROUNDS {
                let (id, key) = (round % (2 * KEYS), round % KEYS + 1);
                let put = format!(
                    "INSERT INTO order_v1 VALUES ({id}, {key}) \
                     ON CONFLICT (id) DO UPDATE SET customer = {key}"
                );
                let take = format!(
                    "DELETE FROM order_v1 WHERE id = {}",
                    (round + 5) % (2 * KEYS)
                );
                try_all((round % 3 + 1) as usize, "shop", [put, take]);
            }
        });
        let invoices = scope.spawn(|| {
            for round in 1..=ROUNDS {
                let (id, key) = (round % KEYS, (round + 1) % (2 * KEYS));
                let put = format!(
                    "INSERT INTO invoices VALUES ({id}, {key}) \
                     ON CONFLICT (id) DO UPDATE SET of = {key}"
                );
                let take = format!(
                    "UPDATE invoices SET of = NULL WHERE id = {}",
                    (round + 3) % KEYS
                );
                try_all((round % 3 + 1) as usize, "billing", [put, take]);
            }
        });
        let customers = scope.spawn(|| {
            for round in 1..=ROUNDS {
                if let Some(node) = falls.filter(|_| round == ROUNDS / 2) {
                    cluster.program(node).signal(Signal::KILL);
                }
                let key = (round * 5) % KEYS + 1;
                let take = format!("DELETE FROM customer_v1 WHERE id = {key}");
                let put = format!("INSERT INTO customer_v1 VALUES ({key}) ON CONFLICT DO NOTHING");
                try_all((round % 3 + 1) as usize, "crm", [take, put]);
            }
        });
        let ended = [orders.join(), invoices.join(), customers.join()];
        over.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
    });
    looks.load(Ordering::Relaxed) as usize
}
