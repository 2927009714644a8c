//! Triggers on followed tables over processes: whoever leads, each row's effect is there once.

use tests::{Cluster, SUPERUSER};

/// Orders that are written while leaders fall.
const ORDERS: u32 = 200;
/// One of the leaders falls after so many.
const KILL_EVERY: u32 = 60;

const INVOICES: &str = "CREATE TABLE IF NOT EXISTS invoice (id int, total int)";
/// Without a key: what is done twice is there twice.
const FUNCTION: &str =
    "CREATE OR REPLACE FUNCTION on_order() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO invoice VALUES (NEW.id, NEW.total);
        RETURN NEW;
    END $$";
const TRIGGER: &str = "CREATE OR REPLACE TRIGGER bill AFTER INSERT ON order_v1 FOR EACH ROW \
                       EXECUTE FUNCTION on_order()";

fn roles(cluster: &Cluster) {
    for role in ["orders", "billing"] {
        cluster.ok(1, SUPERUSER, &format!("CREATE ROLE {role} LOGIN"));
    }
    let table = "CREATE TABLE IF NOT EXISTS public.order_v1 (id int PRIMARY KEY, total int)";
    cluster.settle(1, "orders", table);
    cluster.settle(1, "orders", "GRANT READ ON order_* TO billing");
    cluster.settle(1, "billing", INVOICES);
    cluster.settle(1, "billing", "FOLLOW order_v1");
    cluster.settle(1, "billing", FUNCTION);
    cluster.settle(1, "billing", TRIGGER);
}

fn await_invoices(cluster: &Cluster, node: usize, count: u32) {
    let all = "SELECT count(*), count(DISTINCT id), sum(total) FROM invoice";
    let expected = [format!("{count}|{count}|{}", 10 * count)];
    cluster.until(|| match cluster.ask(node, "billing", all)? {
        found if found == expected => Ok(()),
        found => Err(format!("{found:?}, not {expected:?}")),
    });
}

/// The reader's home has no log of the owner: another node makes the rows of its entries.
#[test]
fn a_reader_on_another_node_runs_its_triggers() {
    let places: [&[&str]; 2] = [
        &["--locality=region=orders"],
        &["--locality=region=billing"],
    ];
    let cluster = Cluster::start_each(&places);
    roles(&cluster);
    cluster.pin(1, "orders", "orders", 1);
    cluster.pin(2, "billing", "billing", 1);
    for id in 1..=20 {
        let insert = format!("INSERT INTO order_v1 VALUES ({id}, 10) ON CONFLICT DO NOTHING");
        cluster.settle(2, "orders", &insert);
    }
    await_invoices(&cluster, 1, 20);
    let parked = cluster.settle(1, "billing", "SELECT count(*) FROM freehold.parked");
    assert_eq!(parked, ["0"]);
}

#[test]
fn each_effect_is_there_once_while_leaders_fall() {
    let mut cluster = Cluster::start(3);
    roles(&cluster);
    let mut fallen = 0;
    for id in 1..=ORDERS {
        let mut down = None;
        if id % KILL_EVERY == 0 {
            let leader = cluster.leader(["billing", "orders"][fallen % 2]);
            cluster.node(leader).kill();
            fallen += 1;
            down = Some(leader);
        }
        let node = *cluster.running().first().unwrap();
        let insert = format!("INSERT INTO order_v1 VALUES ({id}, 10) ON CONFLICT DO NOTHING");
        cluster.settle(node, "orders", &insert);
        if let Some(node) = down {
            cluster.node(node).start_again();
        }
    }
    await_invoices(&cluster, 1, ORDERS);
}
