//! From one version of a contract to the next by a projection, with readers and writers that go on;
//! and what becomes of one whose filling is cut off.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tests::{Cluster, SUPERUSER};

/// More rows than are filled within one entry.
const ROWS: u32 = 12_000;
/// The query of the next version.
const NEXT: &str = "SELECT p.id, p.cents, c.name AS customer FROM orders.purchase p \
                    JOIN orders.customer c ON c.id = p.customer WHERE p.open";
/// Readers of each version.
const READERS: usize = 5;

fn shop() -> Cluster {
    let cluster = Cluster::start(3);
    for role in ["orders", "billing"] {
        cluster.ok(1, SUPERUSER, &format!("CREATE ROLE {role} LOGIN"));
    }
    for sql in [
        "CREATE TABLE customer (id int PRIMARY KEY, name text NOT NULL)",
        "CREATE TABLE purchase (id int PRIMARY KEY, customer int NOT NULL REFERENCES customer, \
         cents int NOT NULL, open boolean NOT NULL)",
        "CREATE INDEX ON purchase (customer)",
        "INSERT INTO customer SELECT i, 'customer ' || i FROM generate_series(1, 100) i",
        &format!(
            "INSERT INTO purchase SELECT i, 1 + i % 100, i, i % 4 > 0 \
             FROM generate_series(1, {ROWS}) i"
        ),
        "CREATE MATERIALIZED VIEW public.purchase_v1 AS SELECT id, cents FROM purchase WHERE open",
        "GRANT READ ON purchase_* TO billing",
    ] {
        cluster.settle(1, "orders", sql);
    }
    cluster.settle(1, "billing", "CREATE TABLE own (id int PRIMARY KEY)");
    cluster.settle(1, "billing", "FOLLOW purchase_*");
    cluster
}

/// Rows that are in one of two queries only.
fn diff(one: &str, other: &str) -> String {
    format!(
        "SELECT count(*) FROM (({one} EXCEPT ALL {other}) UNION ALL ({other} EXCEPT ALL {one})) d"
    )
}

/// Writes the tables behind the versions until told to stop.
fn write(cluster: &Cluster, stop: &AtomicBool, which: u64) {
    let mut session = cluster.open(1, "orders").expect("a writer");
    let mut dice = which;
    while !stop.load(Ordering::Relaxed) {
        dice = dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(99_991);
        let (row, customer) = ((dice >> 33) % u64::from(ROWS) + 1, (dice >> 20) % 100 + 1);
        let sql = match (dice >> 50) % 6 {
            0 => format!("UPDATE customer SET name = name || '.' WHERE id = {customer}"),
            1 => format!("UPDATE purchase SET customer = {customer} WHERE id = {row}"),
            2 => {
                format!("UPDATE purchase SET open = NOT open, cents = {customer} WHERE id = {row}")
            }
            3 => format!("DELETE FROM purchase WHERE id = {row}"),
            4 => format!(
                "INSERT INTO purchase VALUES ({row}, {customer}, 7, true) \
                 ON CONFLICT (id) DO UPDATE SET cents = purchase.cents + 1"
            ),
            _ => format!("UPDATE purchase SET id = id + {ROWS} WHERE id = {row}"),
        };
        let answer = session.run(&sql);
        // Two that write a row, or a customer and what is made of its rows, may wait in a circle.
        let known = ["00000", "40P01", "23505"].contains(&answer.sqlstate());
        assert!(known, "{sql}: {}", answer.text());
    }
}

/// Reads a version until told to stop: no error, and no row twice or without a value.
fn read(cluster: &Cluster, stop: &AtomicBool, version: u32, at: usize, reads: &AtomicU64) {
    let mut session = cluster.open(at % 3 + 1, "billing").expect("a reader");
    let sql = format!(
        "SELECT count(*) - count(DISTINCT id), count(*) - count(cents), count(*) > {} \
         FROM purchase_v{version}",
        ROWS / 4
    );
    while !stop.load(Ordering::Relaxed) {
        assert_eq!(
            session.rows(&sql),
            ["0|0|t"],
            "version {version}, node {}",
            at % 3 + 1
        );
        reads.fetch_add(1, Ordering::Relaxed);
    }
}

/// Ten readers, five of each version, and writers all the while: nobody notices but by what is new.
#[test]
fn readers_move_to_the_next_version_while_all_go_on() {
    let cluster = shop();
    let (stop, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    let (cluster, stop, reads) = (&cluster, &stop, &reads);
    std::thread::scope(|scope| {
        for which in 0..3 {
            scope.spawn(move || write(cluster, stop, which));
        }
        for at in 0..READERS {
            scope.spawn(move || read(cluster, stop, 1, at, reads));
        }
        let _ends = Ends(stop);
        let create = format!("CREATE MATERIALIZED VIEW public.purchase_v2 AS {NEXT}");
        cluster.ok(1, "orders", &create);
        // What is told at one node is soon known at the others.
        for node in 1..=3 {
            let there = "SELECT ispopulated FROM pg_matviews WHERE matviewname = 'purchase_v2'";
            cluster.until(|| match cluster.ask(node, "billing", there)? {
                found if found == ["t"] => Ok(()),
                found => Err(format!("{found:?} at node {node}")),
            });
        }
        for at in 0..READERS {
            scope.spawn(move || read(cluster, stop, 2, at, reads));
        }
        let before = reads.load(Ordering::Relaxed);
        for round in 0..10 {
            // In one snapshot, at the owner's and in what follows it.
            for node in 1..=3 {
                let versions = diff(
                    "SELECT id, cents FROM public.purchase_v1",
                    "SELECT id, cents FROM public.purchase_v2",
                );
                let differ = cluster.ask(node, "billing", &versions);
                assert_eq!(
                    differ,
                    Ok(vec!["0".to_owned()]),
                    "round {round}, node {node}"
                );
            }
            let source = diff("SELECT * FROM public.purchase_v2", NEXT);
            assert_eq!(cluster.ok(1, "orders", &source), ["0"], "round {round}");
        }
        cluster.until(|| match reads.load(Ordering::Relaxed) - before {
            few if few < 100 => Err(format!("{few} reads")),
            _ => Ok(()),
        });
    });
    // v1 ends; v2 goes on.
    let sunset = "ALTER MATERIALIZED VIEW public.purchase_v1 SET (sunset = '2031-12-31')";
    cluster.settle(1, "orders", sunset);
    let shown =
        "SELECT version, newest, sunset, followers FROM freehold.contracts ORDER BY version";
    assert_eq!(
        cluster.settle(1, "orders", shown),
        ["1|f|2031-12-31|{billing}", "2|t|NULL|{billing}"]
    );
    cluster.settle(
        1,
        "orders",
        "DROP MATERIALIZED VIEW public.purchase_v1 CASCADE",
    );
    cluster.settle(
        1,
        "orders",
        "UPDATE customer SET name = 'last' WHERE id = 7",
    );
    let source = diff("SELECT * FROM public.purchase_v2", NEXT);
    assert_eq!(cluster.settle(1, "orders", &source), ["0"]);
    let definition = "SELECT pg_get_viewdef('purchase_v2'::regclass)";
    assert_eq!(cluster.settle(2, "billing", definition), ["NULL"]);
}

/// Tells everybody when a test ends, also by a panic.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The leader dies before it is filled: it is kept and unread until it is.
#[test]
fn a_projection_that_is_cut_off_is_filled_later() {
    let mut cluster = shop();
    let leader = cluster.leader("orders");
    let create = format!("CREATE MATERIALIZED VIEW public.purchase_v2 AS {NEXT}");
    // A writer that does not know of it yet holds it up, however fast it would be filled.
    let mut writer = cluster.open(leader, "orders").unwrap();
    writer.ok("BEGIN");
    writer.ok("UPDATE customer SET name = 'lost' WHERE id = 100");
    let mut session = cluster.open(leader, "orders").unwrap();
    session.send(&create);
    let state = "SELECT state FROM freehold.projections WHERE table_name = 'public.purchase_v2'";
    cluster.until(|| match cluster.ask(leader, "orders", state)? {
        found if found == ["filling"] => Ok(()),
        found => Err(format!("{found:?}")),
    });
    cluster.node(leader).kill();
    let other = leader % 3 + 1;
    assert_eq!(cluster.settle(other, "orders", state), ["not populated"]);
    let told = cluster.ask(other, "orders", "SELECT * FROM public.purchase_v2");
    assert!(
        told.clone().is_err_and(|told| told.contains("55000")),
        "{told:?}"
    );
    cluster.settle(
        other,
        "orders",
        "UPDATE customer SET name = 'new' WHERE id < 50",
    );
    cluster.settle(other, "orders", "DELETE FROM purchase WHERE id % 3 = 0");
    cluster.settle(
        other,
        "orders",
        "REFRESH MATERIALIZED VIEW public.purchase_v2",
    );
    assert_eq!(cluster.settle(other, "orders", state), ["ready"]);
    let source = diff("SELECT * FROM public.purchase_v2", NEXT);
    assert_eq!(cluster.settle(other, "orders", &source), ["0"]);
    cluster.node(leader).start_again();
    let rows = "SELECT count(*) FROM public.purchase_v2";
    let right = cluster.settle(other, "billing", rows);
    cluster.until(|| match cluster.ask(leader, "billing", rows)? {
        found if found == right => Ok(()),
        found => Err(format!("{found:?}, not {right:?}")),
    });
}
