//! What is taken away while some nodes don't hear each other, and what REVOKE says of that.

use std::time::Duration;

use rustix::process::Signal;
use tests::{Cluster, SUPERUSER, eventually};

const OWNER: &[&str] = &["--locality=region=owner"];
const READER: &[&str] = &["--locality=region=reader"];
/// The last node: it has a copy of what it reads.
const LAST: usize = 4;
const REVOKE: &str = "REVOKE READ ON order_* FROM billing";
const READ: &str = "SELECT count(*) FROM public.order_v1";

/// The tables of `orders` on nodes 1 to 3, `billing` at home on the last one, where it reads them.
fn start() -> Cluster {
    let cluster = Cluster::start_tapped(&[OWNER, OWNER, OWNER, READER]);
    for (role, region, replicas) in [("orders", "owner", 3), ("billing", "reader", 1)] {
        cluster.ok(1, SUPERUSER, &format!("CREATE ROLE {role} LOGIN"));
        let own = "CREATE TABLE IF NOT EXISTS own (id int PRIMARY KEY)";
        cluster.settle(1, role, own);
        cluster.wish(role, region, replicas);
    }
    let table = "CREATE TABLE IF NOT EXISTS public.order_v1 (id int PRIMARY KEY, n int)";
    cluster.settle(1, "orders", table);
    let row = "INSERT INTO public.order_v1 VALUES (1, 0) ON CONFLICT DO NOTHING";
    cluster.settle(1, "orders", row);
    for role in ["orders", "billing"] {
        let copies = format!(
            "SELECT array_agg(node ORDER BY node) FROM freehold.followers \
             WHERE owner = '{role}' AND phase = 'following'"
        );
        let expected = if role == "orders" { "{4}" } else { "{1,2,3}" };
        eventually("groups are where they should be", || {
            let found = cluster.ask(1, SUPERUSER, &copies);
            found.is_ok_and(|found| found == [expected])
        });
    }
    cluster
}

/// The reader may read, and does.
fn grant(cluster: &Cluster) {
    cluster.settle(1, "orders", "GRANT READ ON order_* TO billing");
    cluster.until(|| match cluster.ask(LAST, "billing", READ)? {
        found if found == ["1"] => Ok(()),
        found => Err(format!("{found:?} orders")),
    });
}

/// Whoever of the owner's nodes the reader's node does not hear: what is taken away there is taken
/// away here, too, once that is said.
#[test]
fn a_revoke_counts_on_a_node_that_hears_only_some_others() {
    let cluster = start();
    let leads = "SELECT leader FROM freehold.groups WHERE owner = 'orders'";
    for alone in [false, true] {
        grant(&cluster);
        let leader: usize = cluster.settle(1, SUPERUSER, leads)[0].parse().unwrap();
        cluster.part(leader, LAST);
        let third = (1..LAST).rfind(|node| *node != leader).unwrap();
        if alone {
            cluster.part(third, LAST);
        }
        cluster.settle(leader, "orders", REVOKE);
        let read = cluster.ask(LAST, "billing", READ);
        let refused = |why: &String| ["42P01", "42501", "OW003"].iter().any(|s| why.contains(s));
        assert!(read.as_ref().is_err_and(refused), "{alone}: {read:?}");
        (1..=LAST).for_each(|node| cluster.tap(node).release());
        cluster.until(|| match cluster.ask(LAST, "billing", READ) {
            Ok(read) => panic!("{alone}: {read:?}"),
            Err(why) if why.contains("42P01") || why.contains("42501") => Ok(()),
            Err(why) => Err(why),
        });
    }
}

/// What is committed is not undone by giving up the wait for others.
#[test]
fn a_revoke_that_waits_no_longer_has_happened() {
    let cluster = start();
    grant(&cluster);
    let mut owner = cluster.open(1, "orders").unwrap();
    owner.ok("SET statement_timeout = '1s'");
    cluster.program(LAST).signal(Signal::STOP);
    // Its own connections say nothing for a while: who was stopped is waited for 6 seconds.
    let answers = owner.try_run(REVOKE).unwrap();
    assert!(answers[0].failure().is_none(), "{}", answers[0].text());
    assert_eq!(answers[0].tag(), "REVOKE");
    let heard = |s: &tests::Session| !s.notices.is_empty();
    assert!(owner.listen(Duration::from_secs(10), heard));
    let warning = owner.notices[0].text();
    for part in [
        "WARNING",
        "01000",
        "is committed",
        "node 4",
        "statement timeout",
    ] {
        assert!(warning.contains(part), "{warning}");
    }
    let none = "SELECT count(*) FROM freehold.pattern_grants";
    assert_eq!(owner.value(none), "0");
    cluster.program(LAST).signal(Signal::CONT);
    cluster.until(|| match cluster.ask(LAST, "billing", READ) {
        Ok(read) => Err(format!("{read:?}")),
        Err(why) if why.contains("42P01") || why.contains("42501") => Ok(()),
        Err(why) => Err(why),
    });
}

/// A node joins of which the directory's copy at the owner's home has not heard.
#[test]
fn a_revoke_is_not_answered_before_its_home_knows_all_nodes() {
    let mut cluster = Cluster::start_tapped_but_last(&[&[][..]; 4]);
    // Leaders are spread: one of these is not led where the directory is.
    let owners = ["ant", "bee"];
    cluster.ok(1, SUPERUSER, "CREATE ROLE reader LOGIN");
    for owner in owners {
        cluster.ok(1, SUPERUSER, &format!("CREATE ROLE {owner} LOGIN"));
        for statement in [
            &format!("CREATE TABLE IF NOT EXISTS public.{owner}_v1 (id int PRIMARY KEY)"),
            &format!("GRANT SELECT ON public.{owner}_v1 TO reader"),
        ] {
            cluster.settle(1, owner, statement);
        }
    }
    let led = "SELECT g.owner, g.leader, d.leader FROM freehold.groups g, freehold.groups d \
               WHERE g.owner IN ('ant', 'bee') AND d.owner IS NULL AND g.leader <> d.leader \
               AND g.voters = 3 AND d.voters = 3 ORDER BY g.owner LIMIT 1";
    let found = cluster.until(|| match &cluster.ask(1, SUPERUSER, led)?[..] {
        [found] => Ok(found.clone()),
        none => Err(format!("{none:?}")),
    });
    let parts: Vec<&str> = found.split('|').collect();
    let owner = parts[0];
    let (home, directory): (usize, usize) = (parts[1].parse().unwrap(), parts[2].parse().unwrap());
    cluster.part(home, directory);
    cluster.start_last();
    let read = format!("SELECT count(*) FROM public.{owner}_v1");
    cluster.until(|| match cluster.ask(LAST, "reader", &read)? {
        found if found == ["0"] => Ok(()),
        found => Err(format!("{found:?}")),
    });
    let known = format!("SELECT count(*) FROM freehold.nodes WHERE node = {LAST}");
    assert_eq!(cluster.ok(home, SUPERUSER, &known), ["0"]);
    let mut session = cluster.open(home, owner).unwrap();
    session.ok("SET statement_timeout = '3s'");
    session.ok(&format!("REVOKE SELECT ON public.{owner}_v1 FROM reader"));
    let heard = |s: &tests::Session| !s.notices.is_empty();
    assert!(session.listen(Duration::from_secs(10), heard));
    let warning = session.notices[0].text();
    for part in ["WARNING", "01000", "is committed", "joined lately"] {
        assert!(warning.contains(part), "{warning}");
    }
    (1..=LAST).for_each(|node| cluster.tap(node).release());
    // With it, all are known, and told.
    session.ok("SET statement_timeout = 0");
    session.ok(&format!("GRANT SELECT ON public.{owner}_v1 TO reader"));
    session.notices.clear();
    session.ok(&format!("REVOKE SELECT ON public.{owner}_v1 FROM reader"));
    let said: Vec<String> = session.notices.iter().map(tests::Failure::text).collect();
    assert_eq!(said, [""; 0]);
    let read = cluster.ask(LAST, "reader", &read);
    let refused = |why: &String| ["42P01", "42501", "OW003"].iter().any(|s| why.contains(s));
    assert!(read.as_ref().is_err_and(refused), "{read:?}");
}
