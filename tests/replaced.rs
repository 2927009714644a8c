//! A node that the others have not heard for so long that they may have replaced it gives nothing
//! of what stands there, and goes on by itself if they have not.

use tests::{Cluster, SUPERUSER, Session, eventually};

use crate::http::ready;

const READ: &str = "SELECT count(*) FROM public.order_v1";
const MAY_BE: &str = "this node may have been replaced";

/// Tables of `orders` on three nodes that stand `here`, and the role `reader`, which may read
/// one of them and has none itself, so it reads wherever it is connected.
fn add_owner(cluster: &Cluster) {
    for role in ["orders", "reader"] {
        cluster.ok(1, SUPERUSER, &format!("CREATE ROLE {role} LOGIN"));
    }
    for statement in [
        "CREATE TABLE IF NOT EXISTS public.order_v1 (id int PRIMARY KEY)",
        "INSERT INTO public.order_v1 VALUES (1) ON CONFLICT DO NOTHING",
        "GRANT SELECT ON public.order_v1 TO reader",
    ] {
        cluster.settle(1, "orders", statement);
    }
    let voters = "SELECT voters FROM freehold.groups WHERE owner = 'orders'";
    let groups = |node| cluster.ask(node, SUPERUSER, voters);
    eventually("three vote", || {
        (1..=3).any(|node| groups(node) == Ok(vec!["3".into()]))
    });
}

fn await_count(cluster: &Cluster, node: usize, expected: &str) {
    cluster.until(|| match cluster.ask(node, "reader", READ)? {
        found if found == [expected] => Ok(()),
        found => Err(format!("{found:?} at node {node}")),
    });
}

/// Waits until a node refuses to read.
fn await_refusal(cluster: &Cluster, node: usize, what: &str) {
    cluster.until(|| match cluster.ask(node, "reader", READ) {
        Err(why) if why.contains("57P03") && why.contains(what) => {
            assert!(why.contains("Connect to another node."), "{why}");
            Ok(())
        }
        read => Err(format!("{read:?} at node {node}")),
    });
    let (status, reasons) = ready(cluster.program(node).http());
    assert_eq!(status, 503);
    assert!(
        reasons.iter().any(|r| r.contains("replaced")),
        "{reasons:?}"
    );
}

fn part_from_all(cluster: &Cluster, node: usize, nodes: usize) {
    for other in (1..=nodes).filter(|other| *other != node) {
        cluster.part(node, other);
    }
}

#[test]
fn a_node_that_is_not_heard_for_long_gives_nothing_and_goes_on_when_it_is() {
    let options: &[&str] = &["--replace-after=5s", "--http=127.0.0.1:0"];
    let mut cluster = Cluster::start_tapped(&[options; 3]);
    add_owner(&cluster);
    let home = cluster.leader("orders");
    let alone = if home == 3 { 2 } else { 3 };
    await_count(&cluster, alone, "1");
    let mut owner: Session = cluster.open(alone, "orders").unwrap();
    owner.ok("SET freehold.read = 'local'");
    owner.ok("BEGIN READ ONLY");
    assert_eq!(owner.value(READ), "1");
    owner.ok("COMMIT");
    part_from_all(&cluster, alone, 3);
    await_refusal(&cluster, alone, MAY_BE);
    // Nor does its owner read there.
    owner.ok("BEGIN READ ONLY");
    let failure = owner.fail(READ);
    assert_eq!(failure.sqlstate, "57P03", "{}", failure.text());
    assert!(failure.message.contains(MAY_BE), "{}", failure.text());
    // The others go on.
    cluster.settle(
        home,
        "orders",
        "INSERT INTO public.order_v1 VALUES (2) ON CONFLICT DO NOTHING",
    );
    await_count(&cluster, home, "2");
    (1..=3).for_each(|node| cluster.tap(node).release());
    await_count(&cluster, alone, "2");
    let address = cluster.program(alone).http();
    eventually("it is ready again", || ready(address) == (200, vec![]));
}

#[test]
fn an_owner_goes_on_where_most_voters_of_the_directory_are_away() {
    let here: &[&str] = &[
        "--replace-after=5s",
        "--http=127.0.0.1:0",
        "--locality=region=here",
    ];
    let there: &[&str] = &[
        "--replace-after=5s",
        "--http=127.0.0.1:0",
        "--locality=region=there",
    ];
    let mut cluster = Cluster::start_each(&[here, here, here, there]);
    add_owner(&cluster);
    cluster.ok(1, SUPERUSER, "CREATE ROLE solo LOGIN");
    cluster.settle(
        1,
        "solo",
        "CREATE TABLE IF NOT EXISTS own (id int PRIMARY KEY)",
    );
    for (role, region, replicas) in [("orders", "here", 3), ("solo", "there", 1)] {
        let alter = format!(
            "SELECT freehold.alter_owner('{role}', replicas => {replicas}, \
             regions => ARRAY['{region}'])"
        );
        cluster.settle(1, SUPERUSER, &alter);
    }
    let copies = "SELECT owner, array_agg(node ORDER BY node) FROM freehold.followers \
                  WHERE phase = 'following' GROUP BY owner ORDER BY owner";
    eventually("groups are where they should be", || {
        let found = cluster.ask(1, SUPERUSER, copies);
        found.is_ok_and(|found| found == ["orders|{4}", "solo|{1,2,3}"])
    });
    await_count(&cluster, 1, "1");
    await_count(&cluster, 4, "1");
    let voters = "SELECT array_agg(node ORDER BY node) FROM freehold.replicas \
                  WHERE owner IS NULL AND voter";
    assert_eq!(cluster.ok(1, SUPERUSER, voters), ["{1,2,3}"]);
    for node in [2, 3] {
        cluster.node(node).kill();
    }
    // A replica and a copy.
    await_refusal(&cluster, 1, MAY_BE);
    await_refusal(&cluster, 4, MAY_BE);
    // Its leader proves that nobody else has this group.
    for id in 1..=3 {
        cluster.ok(4, "solo", &format!("INSERT INTO own VALUES ({id})"));
        assert_eq!(
            cluster.ok(4, "solo", "SELECT count(*) FROM own"),
            [id.to_string()]
        );
    }
    // How long it was away it does not know.
    cluster.node(1).restart();
    await_refusal(&cluster, 1, MAY_BE);
    for node in [2, 3] {
        cluster.node(node).start_again();
    }
    for node in 1..=4 {
        await_count(&cluster, node, "1");
    }
}

#[test]
fn a_node_that_was_replaced_gives_nothing_any_more() {
    let options: &[&str] = &["--replace-after=10s", "--http=127.0.0.1:0"];
    let mut cluster = Cluster::start_tapped(&[options; 4]);
    add_owner(&cluster);
    let home = cluster.leader("orders");
    let others = format!(
        "SELECT node FROM freehold.replicas WHERE owner = 'orders' AND voter AND node <> {home} \
         ORDER BY node DESC LIMIT 1"
    );
    let lost: usize = cluster.ok(home, SUPERUSER, &others)[0].parse().unwrap();
    await_count(&cluster, lost, "1");
    part_from_all(&cluster, lost, 4);
    let state = format!("SELECT state FROM freehold.nodes WHERE node = {lost}");
    eventually("it is given up", || {
        let state = cluster.ask(home, SUPERUSER, &state);
        state.is_ok_and(|state| state == ["gone"])
    });
    cluster.settle(
        home,
        "orders",
        "REVOKE SELECT ON public.order_v1 FROM reader",
    );
    await_refusal(&cluster, lost, "replaced");
    (1..=4).for_each(|node| cluster.tap(node).release());
    // The others speak with it no more.
    eventually("it hears that", || {
        cluster
            .program(lost)
            .log()
            .contains("was replaced while it was away")
    });
    for _ in 0..3 {
        await_refusal(&cluster, lost, "replaced");
    }
}
