//! Copies whose owner is away: how stale they may be, what can't be had at all; and the folder of a
//! node that only follows.

use std::path::Path;
use std::process::Output;

use rustix::process::Signal;
use tests::{Cluster, SUPERUSER, Session, command, eventually, run};

const HERE: &[&str] = &["--locality=region=here"];
const THERE: &[&str] = &["--locality=region=there"];
/// The last node.
const LAST: usize = 4;

/// Tables of `orders` in a region, one of which the role `reader` may read. It has none itself, so
/// it reads wherever it is connected.
fn start(region: &str, replicas: u32) -> Cluster {
    let cluster = Cluster::start_each(&[HERE, HERE, HERE, THERE]);
    for role in ["orders", "reader"] {
        cluster.ok(1, SUPERUSER, &format!("CREATE ROLE {role} LOGIN"));
    }
    for table in [
        "public.order_v1 (id int PRIMARY KEY, n int)",
        "public.item_v1 (id int PRIMARY KEY, n int)",
        "secret (id int PRIMARY KEY, t text)",
    ] {
        cluster.settle(1, "orders", &format!("CREATE TABLE IF NOT EXISTS {table}"));
    }
    cluster.wish("orders", region, replicas);
    for statement in [
        "CREATE INDEX IF NOT EXISTS order_n ON public.order_v1 (n)",
        "INSERT INTO public.order_v1 SELECT g, g % 7 FROM generate_series(1, 200) g \
         ON CONFLICT DO NOTHING",
        "INSERT INTO public.item_v1 VALUES (1, 1) ON CONFLICT DO NOTHING",
        "INSERT INTO secret VALUES (1, 'private') ON CONFLICT DO NOTHING",
        "GRANT SELECT ON public.order_v1, public.item_v1 TO reader",
    ] {
        cluster.settle(1, "orders", statement);
    }
    let copies = "SELECT array_agg(node ORDER BY node) FROM freehold.followers \
                  WHERE owner = 'orders' AND phase = 'following'";
    let expected = if region == "here" { "{4}" } else { "{1,2,3}" };
    eventually("the group is where it should be", || {
        let found = cluster.ask(1, SUPERUSER, copies);
        found.is_ok_and(|found| found == [expected])
    });
    cluster
}

fn await_count(cluster: &Cluster, node: usize, table: &str, expected: &str) {
    let count = format!("SELECT count(*) FROM public.{table}");
    cluster.until(|| match cluster.ask(node, "reader", &count)? {
        found if found == [expected] => Ok(()),
        found => Err(format!("{found:?}")),
    });
}

#[test]
fn what_is_too_stale_or_not_here_is_told_while_the_owner_is_away() {
    let mut cluster = start("there", 1);
    await_count(&cluster, 1, "order_v1", "200");
    let mut reader: Session = cluster.open(1, "reader").unwrap();
    let read = "SELECT count(*) FROM public.order_v1";
    reader.ok("SET freehold.max_staleness = '2s'");
    // Its leader can be asked: what is old is the newest.
    let age = "SELECT age_seconds > 2.1 FROM freehold.lag WHERE owner = 'orders'";
    eventually("it is old", || reader.value(age) == "t");
    assert_eq!(reader.value(read), "200");
    cluster.node(LAST).kill();
    let mut failure = None;
    eventually("it is too stale", || {
        failure = reader.run(read).failure().cloned();
        failure.is_some()
    });
    let failure = failure.unwrap();
    assert_eq!(failure.sqlstate, "OW002", "{}", failure.text());
    assert!(failure.text().contains("\"orders\""), "{}", failure.text());
    // Whoever asks for less, and whoever does not ask, is answered.
    for setting in ["'1h'", "0"] {
        reader.ok(&format!("SET freehold.max_staleness = {setting}"));
        assert_eq!(reader.value(read), "200");
    }
    // Of a table that is not here nothing can be told.
    let failure = reader.fail("SELECT count(*) FROM public.item_v1");
    assert_eq!(failure.sqlstate, "OW003", "{}", failure.text());
    assert!(failure.text().contains("\"orders\""), "{}", failure.text());
    // Nor is it said of what the role may not read.
    assert_eq!(reader.fail("SELECT * FROM orders.secret").sqlstate, "42P01");

    // A node that begins anew does not know what was taken away before.
    cluster.node(2).restart();
    let refused = cluster.ask(2, "reader", read).unwrap_err();
    assert!(refused.contains("OW003"), "{refused}");

    cluster.node(LAST).start_again();
    await_count(&cluster, 1, "item_v1", "1");
    await_count(&cluster, 2, "order_v1", "200");
    reader.ok("SET freehold.max_staleness = '2s'");
    eventually("it is current again", || {
        reader.run(read).lines() == ["200"]
    });
}

fn freehold(arguments: &[&str], data: &Path) -> Output {
    let mut command = command();
    run(command.args(arguments).arg("--data").arg(data), "")
}

#[test]
fn the_folder_of_a_node_that_only_follows_is_dumped_and_right() {
    let mut cluster = start("here", 3);
    for kill in [false, true] {
        await_count(&cluster, LAST, "order_v1", "200");
        match kill {
            true => cluster.node(LAST).kill(),
            false => {
                cluster.program(LAST).signal(Signal::TERM);
                assert!(cluster.node(LAST).wait().success());
            }
        }
        let data = cluster.program(LAST).data();
        let check = freehold(&["check"], &data);
        let said = String::from_utf8_lossy(&check.stdout);
        assert_eq!(check.status.code(), Some(0), "{kill}: {said}");
        assert!(said.ends_with("nothing is wrong\n"), "{kill}: {said}");
        if !kill {
            // The checkpoint at its end has the copy.
            assert!(said.contains("1 tables with 200 rows"), "{said}");
            let rows = ["dump", "tables", "--rows", "--format", "json"];
            let dump = freehold(&rows, &data);
            assert!(dump.status.success());
            let said = String::from_utf8_lossy(&dump.stdout);
            let of = |name: &str| {
                let name = format!("\"name\":\"{name}\"");
                said.lines().filter(|line| line.contains(&name)).count()
            };
            // A line for each row, and one for the tree.
            assert_eq!(of("public.order_v1"), 201, "{said}");
            assert_eq!(of("public.order_n"), 201, "{said}");
            assert_eq!(of("public.item_v1") + of("orders.secret"), 0, "{said}");
            assert!(!said.contains("'private'"), "{said}");
        }
        for what in ["journal", "raft"] {
            let dump = freehold(&["dump", what], &data);
            assert!(dump.status.success(), "{kill}: {what}");
        }
        cluster.node(LAST).start_again();
    }
}
