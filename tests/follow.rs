//! Copies of other owners' tables on nodes that have no replica of their groups: who gets them,
//! what is in them and what is not, and what becomes of them when nodes go.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tests::{Cluster, SUPERUSER, eventually};

/// The options of nodes by where they stand.
const OWNER: &[&str] = &["--locality=region=owner"];
const READER: &[&str] = &["--locality=region=reader"];
/// What is in no file of a node where nobody may read it.
const CANARY: &str = "canary-in-a-private-table";
/// The same in a table that is readable for a while.
const REVOKED: &str = "canary-in-a-revoked-table";
/// The last node: the only one that stands elsewhere.
pub(crate) const LAST: usize = 4;

/// Nodes 1 to 3 stand in one region, the last one in another.
fn start() -> Cluster {
    let cluster = Cluster::start_each(&[OWNER, OWNER, OWNER, READER]);
    for role in ["orders", "billing"] {
        cluster.ok(1, SUPERUSER, &format!("CREATE ROLE {role} LOGIN"));
    }
    create(
        &cluster,
        "orders",
        "public.order_v1 (id int PRIMARY KEY, n int)",
    );
    create(&cluster, "orders", "secret (id int PRIMARY KEY, t text)");
    create(&cluster, "billing", "own (id int PRIMARY KEY)");
    cluster
}

/// The tables of `orders` on nodes 1 to 3, those of `billing` on the last one alone.
pub(crate) fn apart() -> Cluster {
    let cluster = start();
    cluster.pin(1, "orders", "owner", 3);
    cluster.pin(LAST, "billing", "reader", 1);
    let secret = format!("INSERT INTO secret VALUES (1, '{CANARY}') ON CONFLICT DO NOTHING");
    cluster.settle(1, "orders", &secret);
    put(&cluster, 1, 1);
    cluster.settle(1, "orders", "GRANT READ ON order_* TO billing");
    cluster
}

pub(crate) fn create(cluster: &Cluster, owner: &str, table: &str) {
    cluster.settle(1, owner, &format!("CREATE TABLE IF NOT EXISTS {table}"));
}

fn put(cluster: &Cluster, node: usize, id: u32) {
    let insert = format!("INSERT INTO public.order_v1 VALUES ({id}, 0) ON CONFLICT DO NOTHING");
    cluster.settle(node, "orders", &insert);
}

/// How many orders a role sees at a node.
fn count(cluster: &Cluster, node: usize, user: &str) -> Result<Vec<String>, String> {
    cluster.ask(node, user, "SELECT count(*) FROM public.order_v1")
}

fn await_count(cluster: &Cluster, node: usize, user: &str, expected: u32) {
    cluster.until(|| match count(cluster, node, user)? {
        found if found == [expected.to_string()] => Ok(()),
        found => Err(format!("{found:?} orders at node {node}")),
    });
}

/// Follows as the reader, as soon as the node knows of the grant.
fn follow(cluster: &Cluster, node: usize, what: &str) {
    cluster.settle(node, "billing", &format!("FOLLOW {what}"));
}

/// What a node shows of its copy of an owner's group.
fn copy(cluster: &Cluster, node: usize, owner: &str, columns: &str) -> Vec<String> {
    let query = format!(
        "SELECT {columns} FROM freehold.followers WHERE owner = '{owner}' AND node = {node}"
    );
    cluster.ask(node, SUPERUSER, &query).unwrap_or_default()
}

/// Who gives the last node its copy of `orders`. It may be about to take another one.
fn source(cluster: &Cluster) -> usize {
    cluster.until(|| {
        let found = copy(cluster, LAST, "orders", "source").concat();
        found.parse().map_err(|_| format!("no source: {found:?}"))
    })
}

pub(crate) fn await_copy(cluster: &Cluster, node: usize, owner: &str, expected: &str) {
    cluster.until(|| match copy(cluster, node, owner, "phase, tables") {
        found if found == [expected] => Ok(()),
        found => Err(format!("{found:?} at node {node}, not {expected}")),
    });
}

/// Says that something is over.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Is a text in any file below a folder?
pub(crate) fn contains(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let path = entry.path();
        let has = |bytes: Vec<u8>| bytes.windows(text.len()).any(|w| w == text.as_bytes());
        match path.is_dir() {
            true => contains(&path, text),
            // One that goes meanwhile has nothing.
            false => std::fs::read(&path).is_ok_and(has),
        }
    })
}

#[test]
fn what_is_granted_is_read_and_followed_and_nothing_private_comes() {
    let mut cluster = apart();
    await_copy(&cluster, LAST, "orders", "following|{}");
    // Not followed: it is fetched.
    await_count(&cluster, LAST, "billing", 1);
    await_copy(&cluster, LAST, "orders", "following|{public.order_v1}");
    put(&cluster, 1, 2);
    await_count(&cluster, LAST, "billing", 2);
    let refused = cluster.ask(LAST, "billing", "SELECT * FROM orders.secret");
    assert!(refused.is_err_and(|why| why.contains("42P01")));

    follow(&cluster, LAST, "order_*");
    create(&cluster, "orders", "public.order_v2 (id int PRIMARY KEY)");
    let both = "following|{public.order_v1,public.order_v2}";
    await_copy(&cluster, LAST, "orders", both);
    let roles = copy(&cluster, LAST, "orders", "roles");
    assert_eq!(roles, ["{billing}"]);
    put(&cluster, 1, 3);
    await_count(&cluster, LAST, "billing", 3);

    // Whatever it has written by now, and what it writes at its end.
    cluster.node(LAST).restart();
    assert!(contains(&cluster.node(1).data(), CANARY));
    assert!(!contains(&cluster.node(LAST).data(), CANARY));
}

#[test]
fn what_is_revoked_or_followed_no_more_goes() {
    let mut cluster = apart();
    let long = "SELECT g, g FROM generate_series(100, 5000) g ON CONFLICT DO NOTHING";
    cluster.settle(1, "orders", &format!("INSERT INTO public.order_v1 {long}"));
    follow(&cluster, LAST, "order_*");
    await_copy(&cluster, LAST, "orders", "following|{public.order_v1}");
    await_count(&cluster, LAST, "billing", 4902);
    let bytes = || -> u64 { copy(&cluster, LAST, "orders", "bytes")[0].parse().unwrap() };
    eventually("the copy is on disk", || bytes() > 20_000);
    let with_rows = bytes();
    cluster.ok(LAST, "billing", "UNFOLLOW order_*");
    await_copy(&cluster, LAST, "orders", "following|{}");
    eventually("its space is free", || bytes() < with_rows / 2);

    // What is followed beside it stays as it is.
    create(
        &cluster,
        "orders",
        "public.item_v1 (id int PRIMARY KEY, t text)",
    );
    cluster.settle(1, "orders", "GRANT READ ON public.item_v1 TO billing");
    follow(&cluster, LAST, "public.item_v1");
    let revoked = format!("INSERT INTO public.order_v1 VALUES (99, 0, '{REVOKED}')");
    cluster.settle(
        1,
        "orders",
        "ALTER TABLE public.order_v1 ADD COLUMN IF NOT EXISTS t text",
    );
    cluster.settle(1, "orders", &format!("{revoked} ON CONFLICT DO NOTHING"));
    follow(&cluster, LAST, "public.order_v1");
    let both = "following|{public.item_v1,public.order_v1}";
    await_copy(&cluster, LAST, "orders", both);
    cluster.node(LAST).restart();
    await_copy(&cluster, LAST, "orders", both);
    assert!(contains(&cluster.node(LAST).data(), REVOKED));
    cluster.settle(1, "orders", "REVOKE READ ON order_* FROM billing");
    await_copy(&cluster, LAST, "orders", "following|{public.item_v1}");
    let bootstraps = copy(&cluster, LAST, "orders", "bootstraps");
    assert_eq!(bootstraps, ["0"], "nothing is copied again");
    let data = cluster.node(LAST).data();
    eventually("its rows are in no file", || !contains(&data, REVOKED));
    assert!(count(&cluster, LAST, "billing").is_err_and(|why| why.contains("42P01")));
    cluster.ok(LAST, "billing", "SELECT * FROM public.item_v1");
}

#[test]
fn a_follower_goes_on_after_its_own_end_and_its_sources() {
    let mut cluster = apart();
    follow(&cluster, LAST, "public.order_v1");
    let mut orders = 1;
    for kill in [false, true] {
        match kill {
            false => cluster.node(LAST).restart(),
            true => {
                cluster.node(LAST).kill();
                cluster.node(LAST).start_again();
            }
        }
        orders += 1;
        put(&cluster, 1, orders);
        await_count(&cluster, LAST, "billing", orders);
        let bootstraps = copy(&cluster, LAST, "orders", "bootstraps");
        assert_eq!(bootstraps, ["0"], "it goes on from where it was");
    }
    // Every one of its sources, one after the other.
    for _ in 0..3 {
        let source = source(&cluster);
        cluster.node(source).kill();
        let running = *cluster.running().first().unwrap();
        orders += 1;
        put(&cluster, running, orders);
        await_count(&cluster, LAST, "billing", orders);
        let next = copy(&cluster, LAST, "orders", "source, bootstraps");
        assert_ne!(next, [format!("{source}|0")]);
        assert!(next[0].ends_with("|0"), "{next:?}");
        cluster.node(source).start_again();
    }
}

#[test]
fn a_follower_becomes_a_voter_and_voters_followers() {
    let cluster = apart();
    let more = "SELECT g, g FROM generate_series(2, 500) g ON CONFLICT DO NOTHING";
    cluster.settle(1, "orders", &format!("INSERT INTO public.order_v1 {more}"));
    follow(&cluster, LAST, "public.order_v1");
    await_count(&cluster, LAST, "billing", 500);
    let moving = AtomicBool::new(true);
    std::thread::scope(|scope| {
        // Whatever ends this: the readers end, too.
        let _end = Ends(&moving);
        // Nobody ever sees half of it.
        for node in [1, LAST] {
            let (cluster, moving) = (&cluster, &moving);
            scope.spawn(move || {
                while moving.load(Ordering::Relaxed) {
                    if let Ok(found) = count(cluster, node, "billing") {
                        assert_eq!(found, ["500"], "at node {node}");
                    }
                    // The nodes have other work than this.
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        }
        cluster.pin(LAST, "orders", "reader", 1);
        cluster.until(|| match copy(&cluster, 1, "orders", "phase") {
            found if found == ["following"] => Ok(()),
            found => Err(format!("{found:?} at node 1")),
        });
    });
    assert_eq!(copy(&cluster, LAST, "orders", "phase"), [""; 0]);
    put(&cluster, 1, 501);
    await_count(&cluster, LAST, "billing", 501);
    // And back again.
    cluster.pin(1, "orders", "owner", 3);
    await_copy(&cluster, LAST, "orders", "following|{public.order_v1}");
    put(&cluster, 1, 502);
    await_count(&cluster, LAST, "billing", 502);
}

#[test]
fn an_owner_that_is_away_is_read_and_nobody_else_waits_for_it() {
    let mut cluster = start();
    cluster.pin(1, "billing", "owner", 3);
    cluster.pin(LAST, "orders", "reader", 1);
    put(&cluster, 1, 1);
    cluster.settle(1, "orders", "GRANT READ ON order_* TO billing");
    follow(&cluster, 1, "order_*");
    for node in 1..=3 {
        await_copy(&cluster, node, "orders", "following|{public.order_v1}");
        await_count(&cluster, node, "billing", 1);
    }
    cluster.node(LAST).kill();
    let lag = "SELECT coalesce(max(behind_seconds), 0) FROM freehold.lag WHERE owner = 'orders'";
    let behind = |cluster: &Cluster| -> f64 {
        let found = cluster.ok(1, "billing", lag);
        found[0].parse().unwrap()
    };
    eventually("its lag shows", || behind(&cluster) > 3.0);
    let before = behind(&cluster);
    for node in 1..=3 {
        assert_eq!(
            count(&cluster, node, "billing"),
            Ok(vec!["1".into()]),
            "{node}"
        );
        let own = format!("INSERT INTO own VALUES ({node})");
        cluster.ok(node, "billing", &own);
    }
    let refused = cluster.ask(1, "orders", "INSERT INTO public.order_v1 VALUES (2, 0)");
    let why = refused.unwrap_err();
    assert!(why.contains("57P03") && why.contains("orders"), "{why}");
    eventually("its lag grows", || behind(&cluster) > before + 1.0);
    cluster.node(LAST).start_again();
    put(&cluster, 1, 2);
    for node in 1..=3 {
        await_count(&cluster, node, "billing", 2);
    }
    eventually("nothing lags", || behind(&cluster) < 2.0);
}

/// The node starts while the only node that could tell it of the table is away.
#[test]
fn a_table_that_was_made_meanwhile_is_not_called_missing() {
    let mut cluster = start();
    cluster.pin(1, "billing", "owner", 3);
    cluster.pin(LAST, "orders", "reader", 1);
    cluster.settle(1, "orders", "GRANT READ ON order_* TO billing");
    cluster.node(2).kill();
    create(&cluster, "orders", "public.order_v2 (id int PRIMARY KEY)");
    let read = "SELECT count(*) FROM public.order_v2";
    cluster.settle(1, "billing", read);
    cluster.node(LAST).kill();
    cluster.node(2).start_again();
    for read in [read, "SELECT * FROM public.nothing"] {
        let why = cluster.ask(2, "billing", read).unwrap_err();
        assert!(why.contains("57P03"), "{why}");
    }
    cluster.node(LAST).start_again();
    assert_eq!(cluster.settle(2, "billing", read), ["0"]);
    cluster.until(
        || match cluster.ask(2, "billing", "SELECT * FROM nothing") {
            Err(why) if why.contains("42P01") => Ok(()),
            found => Err(format!("{found:?}")),
        },
    );
}

#[test]
fn a_source_that_is_stopped_is_left_for_another() {
    let cluster = apart();
    follow(&cluster, LAST, "public.order_v1");
    let source = source(&cluster);
    cluster.program(source).signal(Signal::STOP);
    let other = if source == 1 { 2 } else { 1 };
    put(&cluster, other, 2);
    await_count(&cluster, LAST, "billing", 2);
    cluster.program(source).signal(Signal::CONT);
    await_copy(&cluster, LAST, "orders", "following|{public.order_v1}");
}

/// Also where the group is only followed.
#[test]
fn who_leads_an_owner_is_known_everywhere() {
    let mut cluster = apart();
    follow(&cluster, LAST, "public.order_v1");
    for kill in [true, false] {
        let leader = cluster.until(|| {
            let lag = "SELECT leader FROM freehold.lag WHERE owner = 'orders'";
            let leader = cluster.ask(LAST, SUPERUSER, lag)?.concat();
            let leader: usize = leader.parse().map_err(|_| "it knows none")?;
            let leads = "SELECT leads FROM freehold.groups WHERE owner = 'orders'";
            match &*cluster.ask(leader, SUPERUSER, leads)?.concat() {
                "t" => Ok(leader),
                _ => Err(format!("{leader} does not lead")),
            }
        });
        if kill {
            cluster.node(leader).kill();
        }
    }
}

/// What is granted and taken away again: to the role, by a pattern, by a membership.
const GRANTS: [(&str, &str, &str); 3] = [
    (
        "orders",
        "GRANT READ ON order_* TO billing",
        "REVOKE READ ON order_* FROM billing",
    ),
    (
        "orders",
        "GRANT SELECT ON public.order_v1 TO billing",
        "REVOKE SELECT ON public.order_v1 FROM billing",
    ),
    (
        SUPERUSER,
        "GRANT readers TO billing",
        "REVOKE readers FROM billing",
    ),
];

fn with_readers() -> Cluster {
    let cluster = apart();
    cluster.settle(1, "orders", "REVOKE READ ON order_* FROM billing");
    cluster.settle(1, SUPERUSER, "CREATE ROLE readers");
    cluster.settle(1, "orders", "GRANT SELECT ON public.order_v1 TO readers");
    cluster
}

/// A revoke that was answered, and has taken something away.
fn take_away(cluster: &Cluster, who: &str, grant: &str, revoke: &str) {
    cluster.until(|| {
        cluster.ask(1, who, grant)?;
        cluster.ask(1, who, revoke).map(drop)
    });
}

#[test]
fn a_revoke_counts_on_every_node_once_it_is_answered() {
    let cluster = with_readers();
    for round in 0..3 {
        for (who, grant, revoke) in GRANTS {
            cluster.settle(1, who, grant);
            await_count(&cluster, LAST, "billing", 1);
            take_away(&cluster, who, grant, revoke);
            let read = count(&cluster, LAST, "billing");
            let refused = |why: &String| why.contains("42P01") || why.contains("42501");
            assert!(
                read.as_ref().is_err_and(refused),
                "{round}, {revoke}: {read:?}"
            );
        }
    }
}

#[test]
fn a_node_that_was_stopped_gives_nothing_that_was_revoked_meanwhile() {
    let cluster = with_readers();
    for (who, grant, revoke) in GRANTS {
        cluster.settle(1, who, grant);
        await_count(&cluster, LAST, "billing", 1);
        cluster.program(LAST).signal(Signal::STOP);
        // It is answered all the same, once that node can't give anything any more.
        take_away(&cluster, who, grant, revoke);
        cluster.program(LAST).signal(Signal::CONT);
        cluster.until(|| match count(&cluster, LAST, "billing") {
            Ok(read) => panic!("{revoke}: {read:?}"),
            Err(why) if why.contains("42P01") || why.contains("42501") => Ok(()),
            Err(why) => Err(why),
        });
    }
}
