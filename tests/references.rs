//! Foreign keys between owners, over processes: whoever is led where, and whichever node falls, no reader
//! sees a row whose parent is not there.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use rustix::process::Signal;
use tests::{Cluster, SUPERUSER, report};

/// Rounds of each writer in the race.
const ROUNDS: u32 = 60;
/// So often it is read while an owner is late, if it is answered.
const READS: usize = 10;
/// No more entries of one owner than these are on their way between two nodes.
const UNDER_WAY: u64 = 5;
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

/// How many entries of an owner have come to the third node.
fn entries(cluster: &Cluster, owner: &str) -> Result<u64, String> {
    let query = format!(
        "SELECT entries FROM freehold.followers WHERE owner = '{owner}' \
         AND node = (SELECT node FROM freehold.nodes WHERE is_self)"
    );
    let found = cluster.ask(3, SUPERUSER, &query)?;
    let first = found.first().ok_or("it is not followed")?;
    first.parse().map_err(|_| first.clone())
}

/// Customers and orders of this number, as who follows both sees them on the third node. What the catalog
/// knows, and may not be shown yet, is waited for.
fn seen(cluster: &Cluster, id: u32) -> Result<String, String> {
    let query = format!(
        "SET statement_timeout = '1s'; \
         SELECT (SELECT count(*) FROM customer_v1 WHERE id = {id}), \
         (SELECT count(*) FROM orders WHERE customer = {id})"
    );
    Ok(cluster.ask(3, "spy", &query)?.concat())
}

/// It is seen so before long.
fn comes_to(cluster: &Cluster, id: u32, wanted: &str) {
    cluster.until(|| match seen(cluster, id)? {
        found if found == wanted => Ok(()),
        found => Err(found),
    });
}

/// So many entries of an owner have come to the third node.
fn come(cluster: &Cluster, owner: &str, wanted: u64) {
    cluster.until(|| match entries(cluster, owner)? {
        now if now >= wanted => Ok(()),
        now => Err(format!("{now} entries")),
    });
}

/// What an owner has written until now has come to the third node: what it writes next comes behind.
fn all_comes(cluster: &Cluster, owner: &str, table: &str) {
    let before = cluster.until(|| entries(cluster, owner));
    for _ in 0..UNDER_WAY {
        let next = format!("INSERT INTO {table} SELECT max(id) + 1, NULL FROM {table}");
        cluster.settle(1, owner, &next);
    }
    come(cluster, owner, before + UNDER_WAY);
}

/// Does something while what the `late` node says does not come to the third one. Until then all is seen
/// there as it was, or nothing is answered, though what `other` has written has come.
fn while_late(cluster: &Cluster, late: usize, other: (&str, &str), id: u32, act: impl FnOnce()) {
    comes_to(cluster, id, "1|1");
    cluster.tap(late).hold(cluster.tap(3).port());
    act();
    all_comes(cluster, other.0, other.1);
    for _ in 0..READS {
        match seen(cluster, id) {
            Ok(found) => assert_eq!(
                found, "1|1",
                "what {} did is seen before its cause",
                other.0
            ),
            // It waits for what is late, or has lost contact.
            Err(_) => break,
        }
    }
    cluster.tap(late).release();
}

/// A reader who hears of one owner late sees nothing of the other that rests on it.
#[test]
fn nothing_is_seen_before_what_it_rests_on_when_one_owner_is_late() {
    let places: &[&[&str]] = &[
        &["--locality=region=crm"],
        &["--locality=region=shop"],
        &["--locality=region=else"],
    ];
    let cluster = Cluster::start_tapped(places);
    owners(&cluster);
    cluster.pin(1, "crm", "crm", 1);
    cluster.pin(2, "shop", "shop", 1);
    orders(&cluster, 2, "public.orders", "ON DELETE CASCADE");
    cluster.settle(
        2,
        "shop",
        "INSERT INTO orders VALUES (1, 1), (2, 2) ON CONFLICT DO NOTHING",
    );
    cluster.settle(2, "shop", "GRANT READ ON orders TO spy");
    cluster.settle(1, "crm", "GRANT READ ON customer_* TO spy");
    cluster.settle(
        3,
        "spy",
        "CREATE TABLE IF NOT EXISTS own (id int PRIMARY KEY)",
    );
    cluster.pin(3, "spy", "else", 1);
    for followed in ["customer_v1", "orders"] {
        cluster.settle(3, "spy", &format!("FOLLOW {followed}"));
    }
    // What a child does rests on its parent's decision.
    while_late(&cluster, 1, ("shop", "orders"), 1, || {
        cluster.settle(2, "crm", "DELETE FROM customer_v1 WHERE id = 1");
    });
    comes_to(&cluster, 1, "0|0");
    // What is removed without asking rests on the end of the foreign key.
    while_late(&cluster, 2, ("crm", "customer_v1"), 2, || {
        let before = cluster.until(|| entries(&cluster, "crm"));
        let drop = "ALTER TABLE orders DROP CONSTRAINT IF EXISTS orders_customer_fkey";
        cluster.settle(2, "shop", drop);
        // It is forgotten.
        come(&cluster, "crm", before + 1);
        cluster.settle(1, "crm", "DELETE FROM customer_v1 WHERE id = 2");
    });
    comes_to(&cluster, 2, "0|1");
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

/// What an error says.
fn says(cluster: &Cluster, user: &str, sql: &str, state: &str) -> String {
    let why = refused(cluster, 1, user, sql);
    assert!(why.contains(state), "{sql}: {why}");
    why
}

/// On one node, what holds for whoever references and whoever is referenced.
#[test]
fn a_foreign_key_between_owners_holds_whatever_is_done_to_it() {
    let cluster = Cluster::start(1);
    owners(&cluster);
    for sql in [
        "CREATE TABLE public.part_v1 (a int PRIMARY KEY, b int NOT NULL UNIQUE, c text, d numeric UNIQUE, \
         UNIQUE (c, b))",
        "CREATE UNIQUE INDEX part_down ON part_v1 (b DESC, a)",
        "INSERT INTO part_v1 SELECT i, i + 100, 't' || i, i FROM generate_series(1, 9) i",
        "GRANT REFERENCES ON part_v1 TO shop, billing",
    ] {
        cluster.settle(1, "crm", sql);
    }
    let shop = |sql: &str| cluster.settle(1, "shop", sql);
    let crm = |sql: &str| cluster.settle(1, "crm", sql);

    // Composite keys, in another order than their index has them; NULLs reference nothing.
    shop("CREATE TABLE pair (x int, y int, FOREIGN KEY (x, y) REFERENCES part_v1 (a, b))");
    shop("INSERT INTO pair VALUES (1, 101), (2, NULL), (NULL, NULL)");
    says(
        &cluster,
        "shop",
        "INSERT INTO pair VALUES (1, 102)",
        "23503",
    );
    says(
        &cluster,
        "crm",
        "UPDATE part_v1 SET b = 0 WHERE a = 1",
        "23503",
    );
    says(&cluster, "crm", "DELETE FROM part_v1 WHERE a = 1", "23503");
    crm("UPDATE part_v1 SET b = 202 WHERE a = 2");
    crm("UPDATE part_v1 SET c = 'other', d = 77 WHERE a = 1");
    shop("DROP TABLE pair");
    let full = "CREATE TABLE whole (x int, y int, \
                FOREIGN KEY (y, x) REFERENCES part_v1 (b, a) MATCH FULL)";
    shop(full);
    says(
        &cluster,
        "shop",
        "INSERT INTO whole VALUES (1, NULL)",
        "23503",
    );
    shop("INSERT INTO whole VALUES (NULL, NULL), (3, 103)");
    says(&cluster, "crm", "DELETE FROM part_v1 WHERE a = 3", "23503");
    says(&cluster, "crm", "TRUNCATE part_v1", "23503");
    shop("DROP TABLE whole");

    // One name, twice in one transaction, for another key.
    shop("CREATE TABLE item (id int PRIMARY KEY, x bigint)");
    shop("INSERT INTO item VALUES (1, 104)");
    cluster.settle(
        1,
        "shop",
        "BEGIN; ALTER TABLE item ADD CONSTRAINT f FOREIGN KEY (x) REFERENCES part_v1 (a) NOT VALID; \
         ALTER TABLE item DROP CONSTRAINT f; \
         ALTER TABLE item ADD CONSTRAINT f FOREIGN KEY (x) REFERENCES part_v1 (b); COMMIT",
    );
    says(
        &cluster,
        "crm",
        "UPDATE part_v1 SET b = 0 WHERE a = 4",
        "23503",
    );
    says(
        &cluster,
        "crm",
        "DELETE FROM part_v1 WHERE b = 104",
        "23503",
    );
    crm("UPDATE part_v1 SET a = 44 WHERE a = 4");

    // What would take keys away behind it.
    says(
        &cluster,
        "crm",
        "ALTER TABLE part_v1 ALTER b TYPE bigint USING b + 1",
        "2BP01",
    );
    says(
        &cluster,
        "crm",
        "ALTER TABLE part_v1 DROP COLUMN b CASCADE",
        "2BP01",
    );
    says(
        &cluster,
        "crm",
        "ALTER TABLE part_v1 DROP CONSTRAINT part_v1_b_key",
        "2BP01",
    );
    let kinds = "ALTER TABLE item ADD CONSTRAINT g FOREIGN KEY (x) REFERENCES part_v1 (d)";
    says(&cluster, "shop", kinds, "42804");

    // Rows that were there before are looked at, or are not promised.
    shop("ALTER TABLE item DROP CONSTRAINT f");
    shop("INSERT INTO item VALUES (2, 999)");
    let again = "ALTER TABLE item ADD CONSTRAINT f FOREIGN KEY (x) REFERENCES part_v1 (b)";
    says(&cluster, "shop", again, "23503");
    shop(&format!("{again} NOT VALID"));
    says(
        &cluster,
        "shop",
        "INSERT INTO item VALUES (3, 998)",
        "23503",
    );
    says(
        &cluster,
        "shop",
        "ALTER TABLE item VALIDATE CONSTRAINT f",
        "23503",
    );
    shop("DELETE FROM item WHERE x = 999");
    shop("ALTER TABLE item VALIDATE CONSTRAINT f");

    // Many keys at once, of a table without rows too.
    crm("INSERT INTO part_v1 SELECT i, i + 100000, 't' || i, i FROM generate_series(1000, 4999) i");
    shop("INSERT INTO item SELECT i, i + 100000 FROM generate_series(1000, 2999) i");
    says(
        &cluster,
        "crm",
        "DELETE FROM part_v1 WHERE a >= 1000",
        "23503",
    );
    crm("DELETE FROM part_v1 WHERE a >= 3000");
    shop("DELETE FROM item");
    crm("DELETE FROM part_v1 WHERE a >= 1000");
    shop("DROP TABLE item");
    at_rest(&cluster);
    crm("TRUNCATE part_v1");
    crm("DROP TABLE part_v1");
}

/// A projected row is referenced like any, and goes with what it is made of.
#[test]
fn a_projected_row_is_a_parent_too() {
    let cluster = Cluster::start(1);
    owners(&cluster);
    let shop = |sql: &str| cluster.settle(1, "shop", sql);
    let crm = |sql: &str| cluster.settle(1, "crm", sql);
    crm("CREATE TABLE items (id int PRIMARY KEY, shown bool DEFAULT true, code int)");
    crm("INSERT INTO items SELECT i, true, i + 10 FROM generate_series(1, 9) i");
    crm("CREATE MATERIALIZED VIEW public.item_v1 AS SELECT id, code FROM crm.items WHERE shown");
    crm("CREATE UNIQUE INDEX item_code ON item_v1 (code)");
    crm("GRANT REFERENCES ON item_v1 TO shop");
    shop(
        "CREATE TABLE uses (id int PRIMARY KEY, x int REFERENCES item_v1, \
         y int REFERENCES item_v1 (code) ON DELETE CASCADE ON UPDATE SET NULL)",
    );
    shop("INSERT INTO uses VALUES (1, 1, NULL), (2, NULL, 12), (3, NULL, 13), (4, NULL, 14)");
    for sql in [
        "UPDATE items SET shown = false WHERE id = 1",
        "DELETE FROM items WHERE id = 1",
        "TRUNCATE items",
        "DO $$ BEGIN UPDATE items SET shown = false; END $$",
    ] {
        says(&cluster, "crm", sql, "23503");
    }
    let uses = "SELECT string_agg(concat(id, ':', x, y), ' ' ORDER BY id) FROM uses";
    assert_eq!(shop(uses), ["1:1 2:12 3:13 4:14"]);
    crm("UPDATE items SET shown = false WHERE id = 2");
    crm("UPDATE items SET code = 33 WHERE id = 3");
    crm("DELETE FROM items WHERE id = 4");
    assert_eq!(shop(uses), ["1:1 3:"]);
    says(
        &cluster,
        "shop",
        "INSERT INTO uses VALUES (5, 2, NULL)",
        "23503",
    );
    crm("UPDATE items SET shown = true WHERE id = 2");
    shop("INSERT INTO uses VALUES (5, 2, 33)");
    says(&cluster, "crm", "DROP MATERIALIZED VIEW item_v1", "2BP01");
    at_rest(&cluster);
}

/// What is prepared is for what the transaction does in the end, and tells nobody of others' rows.
#[test]
fn what_children_do_is_for_what_is_done_in_the_end() {
    let cluster = Cluster::start(1);
    owners(&cluster);
    let shop = |sql: &str| cluster.settle(1, "shop", sql);
    let crm = |sql: &str| cluster.settle(1, "crm", sql);
    shop(
        "CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customer_v1 ON DELETE CASCADE)",
    );
    shop("INSERT INTO orders SELECT i, i FROM generate_series(1, 9) i");

    // A block that is gone back to has removed nothing.
    crm("DO $$ BEGIN \
           BEGIN DELETE FROM customer_v1 WHERE id = 1; RAISE EXCEPTION 'no'; \
           EXCEPTION WHEN OTHERS THEN NULL; END; \
           DELETE FROM customer_v1 WHERE id = 2; \
         END $$");
    let orders = "SELECT string_agg(id::text, ',' ORDER BY id) FROM orders";
    assert_eq!(shop(orders), ["1,3,4,5,6,7,8,9"]);
    crm("BEGIN; SAVEPOINT s; DELETE FROM customer_v1 WHERE id = 3; ROLLBACK TO s; COMMIT");
    assert_eq!(shop(orders), ["1,3,4,5,6,7,8,9"]);
    // A key that comes back within the statement was never away.
    crm("WITH gone AS (DELETE FROM customer_v1 WHERE id = 4 RETURNING id) SELECT * FROM gone");
    assert_eq!(shop(orders), ["1,3,5,6,7,8,9"]);
    crm("UPDATE customer_v1 SET id = id WHERE id = 5");
    assert_eq!(shop(orders), ["1,3,5,6,7,8,9"]);

    // Triggers and checks are the child's, and so is what they say.
    shop(
        "CREATE TABLE secret_4711 (id int PRIMARY KEY, note text, customer int NOT NULL \
          REFERENCES customer_v1 ON DELETE SET NULL)",
    );
    shop("INSERT INTO secret_4711 VALUES (1, 'canary-4711', 9)");
    let told = says(
        &cluster,
        "crm",
        "DELETE FROM customer_v1 WHERE id = 9",
        "23502",
    );
    assert!(
        !told.contains("4711") && !told.contains("customer\""),
        "{told}"
    );
    assert_eq!(shop(orders), ["1,3,5,6,7,8,9"], "nothing has happened");
    shop("DROP TABLE secret_4711");
    shop("CREATE TABLE log (id int)");
    shop(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
          INSERT INTO log VALUES (OLD.id); RETURN OLD; END $$",
    );
    shop("CREATE TRIGGER noted AFTER DELETE ON orders FOR EACH ROW EXECUTE FUNCTION note()");
    crm("DELETE FROM customer_v1 WHERE id IN (5, 6)");
    assert_eq!(shop("SELECT id FROM log ORDER BY id"), ["5", "6"]);
    assert_eq!(shop(orders), ["1,3,7,8,9"]);

    // At each isolation level.
    crm(
        "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM customer_v1; \
         DELETE FROM customer_v1 WHERE id = 3; COMMIT",
    );
    assert_eq!(shop(orders), ["1,7,8,9"]);
    crm("BEGIN ISOLATION LEVEL REPEATABLE READ; DELETE FROM customer_v1 WHERE id = 7; COMMIT");
    assert_eq!(shop(orders), ["1,8,9"]);
    // What can't be done is said.
    cluster.settle(
        1,
        "shop",
        "CREATE TABLE IF NOT EXISTS public.circle_v1 \
         (id int PRIMARY KEY, customer int REFERENCES customer_v1 ON DELETE CASCADE)",
    );
    shop("GRANT REFERENCES ON circle_v1 TO crm");
    says(
        &cluster,
        "crm",
        "ALTER TABLE customer_v1 ADD back int REFERENCES circle_v1 ON DELETE CASCADE",
        "0A000",
    );
    shop("DROP TABLE circle_v1");

    // The parent goes all the same, and with it what references it.
    at_rest(&cluster);
    cluster.until(|| cluster.ask(1, "crm", "DROP TABLE customer_v1 CASCADE"));
    shop("INSERT INTO orders VALUES (99, 99)");
    cluster.until(|| {
        let left = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid = 'orders'::regclass";
        match cluster.ask(1, "shop", left)? {
            left if left == ["0"] => Ok(()),
            left => Err(format!("{left:?} are left")),
        }
    });
}
