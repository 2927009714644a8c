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

/// Rows of orders whose customer is not there.
const DANGLING: &str = "SELECT o.id FROM shop.orders o LEFT JOIN customer_v1 c ON c.id = o.customer \
                        WHERE o.customer IS NOT NULL AND c.id IS NULL";

fn owners(cluster: &Cluster) {
    for role in ["crm", "shop", "spy"] {
        cluster.ok(1, SUPERUSER, &format!("CREATE ROLE {role} LOGIN"));
    }
    for sql in [
        "CREATE TABLE IF NOT EXISTS public.customer_v1 (id int PRIMARY KEY, name text)",
        "INSERT INTO customer_v1 SELECT i, 'c' FROM generate_series(1, 9) i ON CONFLICT DO NOTHING",
        "GRANT REFERENCES ON customer_v1 TO shop",
    ] {
        cluster.settle(1, "crm", sql);
    }
    let own = "CREATE TABLE IF NOT EXISTS other (id int PRIMARY KEY)";
    cluster.settle(1, "shop", own);
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

fn orders(cluster: &Cluster, node: usize, action: &str) {
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS orders (id int PRIMARY KEY, customer int REFERENCES customer_v1 {action})"
    );
    cluster.settle(node, "shop", &sql);
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
    orders(&cluster, 3, "");
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
    let none = cluster.settle(1, "crm", "SELECT count(*) FROM freehold.intents");
    assert_eq!(none, ["0"]);
}

/// Both reference and remove the same few keys, leaders fall, and readers on every node look.
#[test]
fn no_reader_sees_a_row_without_its_parent_while_leaders_fall() {
    let mut cluster = Cluster::start(3);
    owners(&cluster);
    orders(&cluster, 1, "");
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
    cluster.until(
        || match cluster.ask(1, "crm", "SELECT state FROM freehold.intents")? {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?} are left")),
        },
    );
}

/// Both owners write at all nodes; one of them falls in the middle. How often readers have looked.
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
        let child = scope.spawn(|| {
            for round in 1..=ROUNDS {
                let (id, key) = (round % (2 * KEYS), round % KEYS + 1);
                let put = format!(
                    "INSERT INTO orders VALUES ({id}, {key}) \
                     ON CONFLICT (id) DO UPDATE SET customer = {key}"
                );
                let take = format!("DELETE FROM orders WHERE id = {}", (round + 5) % (2 * KEYS));
                try_all((round % 3 + 1) as usize, "shop", [put, take]);
            }
        });
        let parent = scope.spawn(|| {
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
        let ended = (child.join(), parent.join());
        over.store(true, Ordering::Relaxed);
        assert!(ended.0.is_ok() && ended.1.is_ok());
    });
    looks.load(Ordering::Relaxed) as usize
}
