//! Three nodes as their views, metrics and probes show them, and what becomes of leadership when
//! one of them drains, ends or is killed.

use rustix::process::Signal;
use tests::{Cluster, SUPERUSER, Session, eventually};

use crate::http::{Scrape, drain, ready};

fn superuser(cluster: &Cluster, number: usize) -> Session {
    cluster.program(number).place().session(SUPERUSER)
}

/// The node that leads an owner's group, as the node with this number says once it knows.
fn leader_of(cluster: &Cluster, owner: &str, asked: usize) -> usize {
    let mut session = superuser(cluster, asked);
    let query = format!("SELECT leader FROM freehold.groups WHERE owner = '{owner}'");
    let mut leader = 0;
    eventually("a leader is known", || {
        let rows = session.rows(&query);
        let known = rows.first().and_then(|leader| leader.parse().ok());
        leader = known.unwrap_or(0);
        leader != 0
    });
    leader
}

/// A role with a table, whose group all three nodes vote in; the node that leads it, which is the
/// one that should.
fn add_owner(cluster: &Cluster, owner: &str) -> usize {
    cluster.settle(
        1,
        SUPERUSER,
        &format!("SELECT 1 FROM pg_roles WHERE rolname = '{owner}'"),
    );
    cluster.ok(1, SUPERUSER, &format!("CREATE ROLE {owner} LOGIN"));
    cluster.settle(
        1,
        owner,
        "CREATE TABLE IF NOT EXISTS t (a int PRIMARY KEY, b text)",
    );
    let home = leader_of(cluster, owner, 1);
    let rows = "INSERT INTO t SELECT g, 'x' FROM generate_series(1, 100) g ON CONFLICT DO NOTHING";
    cluster.settle(home, owner, rows);
    let whole = "SELECT count(*) FROM freehold.groups WHERE voters <> 3";
    let voters = |node| superuser(cluster, node).value(whole) == "0";
    eventually("three vote everywhere", || (1..=3).all(voters));
    leader_of(cluster, owner, 1)
}

#[test]
fn the_views_show_three_nodes_and_what_they_hold() {
    let cluster = Cluster::start_with(3, &["--http", "127.0.0.1:0", "--locality", "region=eu"]);
    add_owner(&cluster, "orders");
    for number in 1..=3 {
        let mut superuser = superuser(&cluster, number);
        eventually("it hears the others", || {
            superuser.rows(
                "SELECT node, state, is_self, locality, round_trip IS NULL, address <> client_address \
                 FROM freehold.nodes ORDER BY node",
            ) == (1..=3)
                .map(|node| {
                    let me = if node == number { "t|" } else { "f|" };
                    format!("{node}|active|{me}region=eu|{me}t")
                })
                .collect::<Vec<_>>()
        });
        let seen = "SELECT bool_and(last_seen > now() - interval '1 min') FROM freehold.nodes";
        assert_eq!(superuser.value(seen), "t");
        // The client address is where clients are served.
        let own = superuser.value("SELECT client_address FROM freehold.nodes WHERE is_self");
        let port = cluster.program(number).place().port;
        assert_eq!(own, format!("127.0.0.1:{port}"));
        assert_eq!(ready(cluster.program(number).http()), (200, vec![]));
    }
}

#[test]
fn owners_see_nodes_without_addresses_and_strangers_none() {
    let cluster = Cluster::start(3);
    let home = add_owner(&cluster, "orders");
    cluster.ok(1, SUPERUSER, "CREATE ROLE stranger LOGIN");
    let mut owner = cluster.program(home).place().session("orders");
    let nodes = "SELECT count(*), count(address), count(client_address) FROM freehold.nodes";
    assert_eq!(owner.rows(nodes), ["3|0|0"]);
    let groups = "SELECT owner, leader, voters FROM freehold.groups";
    assert_eq!(owner.rows(groups), [format!("orders|{home}|3")]);
    let lag = "SELECT owner, leader FROM freehold.lag";
    assert_eq!(owner.rows(lag), [format!("orders|{home}")]);
    let mut stranger = cluster.program(home).place().session("stranger");
    for view in ["nodes", "groups", "replicas", "lag", "journal"] {
        let count = format!("SELECT count(*) FROM freehold.{view}");
        assert_eq!(stranger.value(&count), "0", "{view}");
    }
    owner.ok("GRANT SELECT (a) ON t TO stranger");
    eventually("who may read a column sees how current it is", || {
        stranger.rows(lag) == [format!("orders|{home}")]
    });
    assert_eq!(stranger.rows(groups), [""; 0]);
}

#[test]
fn only_the_leader_knows_how_far_the_others_are() {
    let cluster = Cluster::start_with(3, &["--http", "127.0.0.1:0"]);
    let home = add_owner(&cluster, "orders");
    let lag = "SELECT bool_and(lag_entries = 0 AND lag_seconds = 0), count(matched), \
               count(heard_seconds) FROM freehold.replicas WHERE owner = 'orders'";
    let others = "SELECT count(lag_entries), count(lag_seconds) FROM freehold.replicas \
                  WHERE owner = 'orders' AND node <> (SELECT node FROM freehold.nodes WHERE is_self)";
    for number in 1..=3 {
        let mut superuser = superuser(&cluster, number);
        if number == home {
            eventually("nobody lags", || superuser.rows(lag)[0].starts_with("t|3|"));
            assert_eq!(superuser.rows(others), ["2|2"]);
        } else {
            assert_eq!(superuser.rows(others), ["0|0"]);
        }
        eventually("what is acknowledged is here", || {
            let behind =
                "SELECT behind_seconds < 5, leader FROM freehold.lag WHERE owner = 'orders'";
            superuser.rows(behind) == [format!("t|{home}")]
        });
        let scrape = Scrape::of(cluster.program(number).http());
        let labels = "group=\"1\",owner=\"orders\"";
        let value = |name: &str| scrape.value(&format!("{name}{{{labels}}}"));
        assert_eq!(value("freehold_group_voters"), 3.0);
        assert_eq!(value("freehold_group_leader"), home as f64);
        assert_eq!(value("freehold_group_leads") == 1.0, number == home);
        let of_another = if home == 1 { 2 } else { 1 };
        let sample = format!("freehold_replica_lag_entries{{{labels},node=\"{of_another}\"}}");
        assert_eq!(scrape.try_value(&sample).is_some(), number == home);
    }
}

#[test]
fn a_drained_node_leads_nothing_until_it_may_again() {
    let cluster = Cluster::start_with(3, &["--http", "127.0.0.1:0"]);
    let home = add_owner(&cluster, "orders");
    let witness = if home == 1 { 2 } else { 1 };
    let (done, said) = drain(cluster.program(home), &[]);
    assert!(done, "{said}");
    assert!(said.contains("handed over: "), "{said}");
    assert!(!said.contains("still led here"), "{said}");
    assert_eq!(
        ready(cluster.program(home).http()),
        (503, vec!["the node is draining".into()])
    );
    let mut there = superuser(&cluster, home);
    assert_eq!(
        there.value("SELECT count(*) FROM freehold.groups WHERE leads"),
        "0"
    );
    assert_ne!(leader_of(&cluster, "orders", witness), home);
    let mut elsewhere = superuser(&cluster, witness);
    eventually("the others know", || {
        let state = format!("SELECT state FROM freehold.nodes WHERE node = {home}");
        elsewhere.value(&state) == "draining"
    });
    // The owner goes on where its group is led now.
    let leader = leader_of(&cluster, "orders", witness);
    let mut owner = cluster.program(leader).place().session("orders");
    owner.ok("INSERT INTO t VALUES (1001, 'after')");
    assert_eq!(ready(cluster.program(leader).http()).0, 200);

    let (done, said) = drain(cluster.program(home), &["--cancel"]);
    assert!(done, "{said}");
    eventually("the preferred node leads again", || {
        leader_of(&cluster, "orders", witness) == home
    });
    assert_eq!(ready(cluster.program(home).http()), (200, vec![]));
}

#[test]
fn a_leader_that_ends_hands_over_first() {
    let mut cluster = Cluster::start_with(3, &["--http", "127.0.0.1:0"]);
    let home = add_owner(&cluster, "orders");
    let witness = if home == 1 { 2 } else { 1 };
    cluster.program(home).signal(Signal::TERM);
    let status = cluster.node(home).wait();
    assert!(status.success(), "{status}");
    let log = cluster.program(home).log();
    let drained = log.lines().find(|line| line.contains("drained"));
    let drained = drained.expect("it says what it handed over");
    assert!(drained.contains("kept=0"), "{drained}");
    assert!(!drained.contains("groups=0"), "{drained}");
    let leader = leader_of(&cluster, "orders", witness);
    assert_ne!(leader, home);
    let mut owner = cluster.program(leader).place().session("orders");
    owner.ok("INSERT INTO t VALUES (1001, 'after')");
    // It comes back, and leads again when it has caught up.
    cluster.node(home).start_again();
    eventually("the preferred node leads again", || {
        leader_of(&cluster, "orders", witness) == home
    });
    let mut owner = cluster.program(home).place().session("orders");
    assert_eq!(owner.value("SELECT count(*) FROM t"), "101");
}

#[test]
fn a_killed_node_is_silent_and_without_a_quorum_nobody_is_ready() {
    let mut cluster = Cluster::start_with(3, &["--http", "127.0.0.1:0"]);
    add_owner(&cluster, "orders");
    cluster.node(3).kill();
    let mut witness = superuser(&cluster, 1);
    eventually("it is missed", || {
        witness.value("SELECT state FROM freehold.nodes WHERE node = 3") == "silent"
    });
    for number in [1, 2] {
        eventually("two of three serve", || {
            ready(cluster.program(number).http()).0 == 200
        });
    }
    cluster.node(2).kill();
    eventually("one of three does not", || {
        ready(cluster.program(1).http()).0 == 503
    });
    for number in [2, 3] {
        cluster.node(number).start_again();
    }
    cluster.until(|| {
        let reasons = |number| ready(cluster.program(number).http()).1;
        let all: Vec<Vec<String>> = (1..=3).map(reasons).collect();
        match all.concat().is_empty() {
            true => Ok(()),
            false => Err(format!("not all serve again: {all:?}")),
        }
    });
    eventually("they are heard again", || {
        let active = "SELECT count(*) FROM freehold.nodes WHERE state = 'active'";
        superuser(&cluster, 1).value(active) == "3"
    });
}

/// The options of nodes by where they stand.
const HERE: &[&str] = &["--http=127.0.0.1:0", "--locality=region=here"];
const THERE: &[&str] = &["--http=127.0.0.1:0", "--locality=region=there"];

/// Rows of some 1000 bytes each, at the owner's home.
fn fill(cluster: &Cluster, from: u32, to: u32) {
    let rows = format!("SELECT g, repeat('x', 1000) FROM generate_series({from}, {to}) g");
    let insert = format!("INSERT INTO t {rows} ON CONFLICT DO NOTHING");
    cluster.settle(1, "orders", &insert);
}

/// A number that a query gives.
fn number(cluster: &Cluster, node: usize, query: &str) -> Option<f64> {
    let rows = cluster.ask(node, SUPERUSER, query).ok()?;
    rows.first()?.parse().ok()
}

#[test]
fn every_node_shows_every_copy_and_how_far_it_is_behind() {
    let cluster = Cluster::start_tapped(&[HERE, HERE, HERE, THERE]);
    cluster.ok(1, SUPERUSER, "CREATE ROLE orders LOGIN");
    cluster.settle(
        1,
        "orders",
        "CREATE TABLE IF NOT EXISTS t (a int PRIMARY KEY, b text)",
    );
    cluster.wish("orders", "here", 3);
    fill(&cluster, 1, 10);
    let copy = "SELECT node, phase, lag_bytes FROM freehold.followers WHERE owner = 'orders'";
    for node in 1..=4 {
        let shown = || cluster.ask(node, SUPERUSER, copy);
        eventually("every node shows it", || {
            shown().is_ok_and(|rows| rows == ["4|following|0"])
        });
    }
    // Who has nothing to do with it sees nothing of it.
    cluster.ok(1, SUPERUSER, "CREATE ROLE stranger LOGIN");
    let all = "SELECT count(*) FROM freehold.followers";
    assert_eq!(cluster.settle(2, "stranger", all), ["0"]);
    let home = leader_of(&cluster, "orders", 1);
    assert_eq!(cluster.settle(home, "orders", all), ["1"]);

    let lag = |what: &'static str| {
        let copy = "FROM freehold.followers WHERE owner = 'orders' AND node = 4";
        move |cluster: &Cluster| number(cluster, 1, &format!("SELECT {what} {copy}"))
    };
    let (bytes, seconds) = (lag("lag_bytes"), lag("lag_seconds"));
    let scraped = |name: &str| {
        let scrape = Scrape::of(cluster.program(home).http());
        scrape.try_value(&format!(
            "{name}{{group=\"1\",owner=\"orders\",node=\"4\"}}"
        ))
    };
    // It answers, and hears nothing.
    for node in 1..=3 {
        let copies = cluster.tap(4).port();
        cluster.tap(node).hold(copies);
    }
    for (from, less) in [(100, 100_000.0), (300, 200_000.0)] {
        fill(&cluster, from, from + 99);
        eventually("it lacks more", || {
            bytes(&cluster).is_some_and(|bytes| bytes >= less)
                && scraped("freehold_follower_lag_bytes").is_some_and(|bytes| bytes >= less)
        });
    }
    for least in [2.0, 4.0] {
        eventually("its age grows", || {
            seconds(&cluster).is_some_and(|age| age >= least)
                && scraped("freehold_follower_lag_seconds").is_some_and(|age| age >= least)
        });
    }
    assert_eq!(scraped("freehold_follower_answers"), Some(1.0));
    (1..=3).for_each(|node| cluster.tap(node).release());
    eventually("it has all of it again", || bytes(&cluster) == Some(0.0));

    // One that does not answer is shown as such, with what it lacks of what it had.
    cluster.program(4).signal(Signal::STOP);
    fill(&cluster, 500, 599);
    let silent = "SELECT phase, position IS NULL FROM freehold.followers \
                  WHERE owner = 'orders' AND node = 4";
    eventually("it is silent", || {
        let shown = cluster.ask(1, SUPERUSER, silent);
        shown.is_ok_and(|rows| rows == ["silent|t"])
    });
    eventually("and lags", || {
        seconds(&cluster).is_some_and(|age| age >= 4.0)
            && bytes(&cluster).is_some_and(|bytes| bytes >= 100_000.0)
            && scraped("freehold_follower_answers") == Some(0.0)
    });
    cluster.program(4).signal(Signal::CONT);
    eventually("it follows again", || {
        let shown = cluster.ask(2, SUPERUSER, copy);
        shown.is_ok_and(|rows| rows == ["4|following|0"])
    });
}

#[test]
fn a_replica_that_is_stopped_lags_by_time_and_bytes() {
    let cluster = Cluster::start_with(3, &["--http", "127.0.0.1:0"]);
    let home = add_owner(&cluster, "orders");
    let stopped = if home == 3 { 2 } else { 3 };
    cluster.program(stopped).signal(Signal::STOP);
    let of_it = format!("FROM freehold.replicas WHERE owner = 'orders' AND node = {stopped}");
    let labels = format!("{{group=\"1\",owner=\"orders\",node=\"{stopped}\"}}");
    for (from, least) in [(1000, 100_000.0), (2000, 200_000.0)] {
        let rows =
            format!("SELECT g, repeat('x', 1000) FROM generate_series({from}, {from} + 99) g");
        let insert = format!("INSERT INTO t {rows} ON CONFLICT DO NOTHING");
        cluster.settle(home, "orders", &insert);
        let scrape = Scrape::of(cluster.program(home).http());
        for what in ["lag_bytes", "lag_seconds"] {
            let least = if what == "lag_bytes" { least } else { 1.0 };
            let query = format!("SELECT {what} {of_it}");
            eventually("it lags", || {
                number(&cluster, home, &query).is_some_and(|lag| lag >= least)
            });
        }
        let scraped = scrape.value(&format!("freehold_replica_lag_bytes{labels}"));
        assert!(scraped >= least, "{scraped}");
    }
    cluster.program(stopped).signal(Signal::CONT);
    let query = format!("SELECT lag_bytes + lag_seconds {of_it}");
    eventually("it has all of it again", || {
        number(&cluster, home, &query) == Some(0.0)
    });
}

/// The leader of `orders`, for as long as it leads without a break.
struct Reign {
    home: usize,
    led: String,
}

impl Reign {
    const LED: &'static str = "SELECT leads, term FROM freehold.groups WHERE owner = 'orders'";

    fn now(cluster: &mut Cluster) -> Reign {
        let home = cluster.leader("orders");
        let led = cluster.settle(home, SUPERUSER, Reign::LED).remove(0);
        Reign { home, led }
    }

    /// Looks until it holds. False: the leader is another one by now.
    fn eventually(&self, cluster: &Cluster, what: &str, mut holds: impl FnMut() -> bool) -> bool {
        let mut held = false;
        eventually(what, || {
            held = holds();
            let led = cluster.ask(self.home, SUPERUSER, Reign::LED);
            held || led.is_ok_and(|led| led != [self.led.as_str()])
        });
        held
    }
}

#[test]
fn the_repair_of_a_wiped_node_shows_how_far_it_is() {
    let options: &[&str] = &["--http=127.0.0.1:0", "--checkpoint-timeout=1s"];
    let mut cluster = Cluster::start_tapped(&[options; 3]);
    add_owner(&cluster, "orders");
    fill(&cluster, 1000, 9999);
    // The log is short where the leader is: another one may have all of it, and needs no snapshot.
    // Then it is begun again.
    let shown = (0..10).any(|_| {
        let reign = Reign::now(&mut cluster);
        let shown = repairs_and_shows_it(&mut cluster, &reign);
        (1..=3).for_each(|node| cluster.tap(node).release());
        let whole = "SELECT count(*), max(lag_entries), count(repair_bytes) \
                     FROM freehold.replicas WHERE owner = 'orders' AND voter";
        eventually("it is repaired", || {
            let whole = |node| cluster.ask(node, SUPERUSER, whole);
            (1..=3).any(|node| whole(node).is_ok_and(|rows| rows == ["3|0|0"]))
        });
        shown
    });
    assert!(shown, "the leader was another one again and again");
}

/// Wipes a voter: what its leader shows of that. False: the leader is another one by now.
fn repairs_and_shows_it(cluster: &mut Cluster, reign: &Reign) -> bool {
    /// Of its snapshot so much comes before it is held back.
    const BYTES: usize = 3 << 20;
    let home = reign.home;
    let wiped = if home == 3 { 2 } else { 3 };
    let checkpoints = |cluster: &Cluster| {
        Scrape::of(cluster.program(home).http()).value("freehold_checkpoints_total")
    };
    // What all have leaves the log after the next checkpoint that begins.
    let lag = "SELECT max(lag_entries) FROM freehold.replicas WHERE owner = 'orders'";
    let all_have = || number(cluster, home, lag) == Some(0.0);
    if !reign.eventually(cluster, "all have it", all_have) {
        return false;
    }
    let before = checkpoints(cluster);
    let is_short = || checkpoints(cluster) >= before + 3.0;
    if !reign.eventually(cluster, "the log is short", is_short) {
        return false;
    }
    let caller = cluster.tap(home).port();
    cluster.tap(wiped).hold_behind(caller, BYTES);
    cluster.node(wiped).kill();
    std::fs::remove_dir_all(cluster.program(wiped).data()).unwrap();
    cluster.node(wiped).start_again();
    let node = "SELECT node FROM freehold.nodes WHERE is_self";
    let node = cluster.settle(wiped, SUPERUSER, node).remove(0);

    let repair = format!(
        "SELECT repair_bytes >= 1000000 AND repair_bytes < 9000000, \
         repair_bytes_expected BETWEEN 8000000 AND 12000000, repair_seconds_left > 0 \
         FROM freehold.replicas WHERE owner = 'orders' AND node = {node}"
    );
    let labels = format!("{{group=\"1\",owner=\"orders\",node=\"{node}\"}}");
    let names = ["bytes", "expected_bytes", "seconds_left"];
    reign.eventually(cluster, "its repair is shown", || {
        let shown = cluster.ask(home, SUPERUSER, &repair);
        let scrape = Scrape::of(cluster.program(home).http());
        let value =
            |name: &&str| scrape.try_value(&format!("freehold_replica_repair_{name}{labels}"));
        let positive = names.iter().filter_map(value).filter(|v| *v > 0.0).count();
        shown.is_ok_and(|shown| shown == ["t|t|t"]) && positive == names.len()
    })
}
