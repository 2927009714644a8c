//! The history of a table is the same when each of its replicas was replaced by one that got a
//! snapshot.

use tests::{Cluster, SUPERUSER, eventually};

use crate::http::Scrape;

const HISTORY: &str =
    "SELECT position, committed_at, op, row FROM freehold.history('public.price_v1', '1')";

/// What can be asked of the past, of the replica of one node: the reader has no home elsewhere.
fn past(cluster: &Cluster, node: usize, positions: &[String]) -> Vec<Vec<String>> {
    let mut all = vec![cluster.settle(node, "reader", HISTORY)];
    for at in positions {
        let then = format!(
            "SELECT id, amount FROM public.price_v1 FOR SYSTEM_TIME AS OF '{at}' ORDER BY id"
        );
        all.push(cluster.settle(node, "reader", &then));
    }
    all
}

/// Waits until a node has come as far.
fn await_past(cluster: &Cluster, node: usize, positions: &[String], expected: &[Vec<String>]) {
    cluster.until(|| match past(cluster, node, positions) {
        found if found == expected => Ok(()),
        found => Err(format!("at node {node}: {found:?}\nand not {expected:?}")),
    });
}

fn checkpoints(cluster: &Cluster, node: usize) -> f64 {
    Scrape::of(cluster.program(node).http()).value("freehold_checkpoints_total")
}

#[test]
fn the_history_is_the_same_when_every_voter_was_replaced_once() {
    const OLD: &[&str] = &[
        "--locality=region=old",
        "--http=127.0.0.1:0",
        "--checkpoint-timeout=1s",
    ];
    const NEW: &[&str] = &["--locality=region=new", "--http=127.0.0.1:0"];
    let mut cluster = Cluster::start_each(&[OLD, OLD, OLD, NEW, NEW, NEW]);
    for role in ["orders", "reader"] {
        cluster.ok(1, SUPERUSER, &format!("CREATE ROLE {role} LOGIN"));
    }
    let create = "CREATE TABLE IF NOT EXISTS public.price_v1 (id int PRIMARY KEY, amount int) \
                  WITH (history = 'forever')";
    cluster.settle(1, "orders", create);
    let grant = "GRANT SELECT ON public.price_v1 TO reader";
    cluster.settle(1, "orders", grant);
    cluster.pin(1, "orders", "old", 3);
    let put = |id: u32, amount: u32| {
        let put = format!(
            "INSERT INTO public.price_v1 VALUES ({id}, {amount}) \
             ON CONFLICT (id) DO UPDATE SET amount = {amount} WHERE price_v1.amount <> {amount}"
        );
        cluster.settle(1, "orders", &put);
    };
    for amount in 1..=30 {
        (1..=3).for_each(|id| put(id, 10 * amount + id));
    }
    cluster.settle(1, "orders", "DELETE FROM public.price_v1 WHERE id = 1");
    put(1, 7);
    let history = cluster.settle(1, "orders", HISTORY);
    let ops: Vec<&str> = history
        .iter()
        .filter_map(|row| row.split('|').nth(2))
        .collect();
    assert_eq!(
        (ops.len(), ops[0], ops[30], ops[31]),
        (32, "insert", "delete", "insert")
    );
    let positions: Vec<String> = (history.iter().step_by(7))
        .filter_map(|row| row.split('|').next().map(str::to_owned))
        .collect();
    let before = past(&cluster, 1, &positions);
    assert_eq!(before[0], history);
    (2..=3).for_each(|node| await_past(&cluster, node, &positions, &before));
    // As it was at the 15th: the two others had their amounts of one round before.
    let told: Vec<&str> = before[3].iter().map(String::as_str).collect();
    assert_eq!(told, ["1|151", "2|142", "3|143"]);

    // Who comes gets a snapshot, for the log begins behind what was written.
    let begun: Vec<f64> = (1..=3).map(|node| checkpoints(&cluster, node)).collect();
    eventually("the log is short", || {
        (1..=3).all(|node| checkpoints(&cluster, node) >= begun[node - 1] + 2.0)
    });
    cluster.pin(4, "orders", "new", 3);
    for node in 4..=6 {
        let log = cluster.program(node).log();
        assert!(log.contains("a snapshot is installed"), "{log}");
        await_past(&cluster, node, &positions, &before);
    }
    // Nor is it different after a restart, and it goes on.
    let home = cluster.leader("orders");
    cluster.node(home).restart();
    await_past(&cluster, home, &positions, &before);
    let put = "UPDATE public.price_v1 SET amount = 8 WHERE id = 1";
    cluster.settle(4, "orders", put);
    let after = cluster.settle(5, "orders", HISTORY);
    assert_eq!(after[..32], history);
    assert!(
        after.len() >= 33 && after[32].contains("|update|"),
        "{after:?}"
    );
}
