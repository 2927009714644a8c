//! Nodes become a cluster, survive the loss of one, and take one with an empty disk for a new one.

use std::process::Stdio;
use std::time::Duration;

use tests::{Cluster, Login, Program, Security, command, eventually, free_ports, run};

/// An owner with a table of `id int PRIMARY KEY`.
fn add_owner(cluster: &Cluster, name: &str) {
    cluster.ok(1, "postgres", &format!("CREATE ROLE {name} LOGIN"));
    cluster.settle(1, name, "CREATE TABLE IF NOT EXISTS t (id int PRIMARY KEY)");
}

/// The rows of an owner's table as a node shows them to the superuser, who reads what is there.
fn rows(cluster: &Cluster, node: usize, owner: &str) -> Result<Vec<String>, String> {
    let query = format!("SELECT id FROM {owner}.t ORDER BY id");
    cluster.ask(node, "postgres", &query)
}

/// Waits until a node shows these rows.
fn await_rows(cluster: &Cluster, node: usize, owner: &str, expected: &[String]) {
    cluster.until(|| match rows(cluster, node, owner)? {
        found if found == expected => Ok(()),
        found => Err(format!("{found:?} at node {node}")),
    });
}

#[test]
fn a_killed_leader_is_survived_and_comes_back() {
    let mut cluster = Cluster::start(3);
    add_owner(&cluster, "orders");
    let mut expected = Vec::new();
    for round in 0..3 {
        let id = round.to_string();
        let leader = cluster.leader("orders");
        // Acknowledged by the one that is killed next.
        cluster.settle(leader, "orders", &insert(&id));
        expected.push(id);
        cluster.node(leader).kill();
        let another = *cluster.running().first().unwrap();
        let id = (round + 100).to_string();
        cluster.settle(another, "orders", &insert(&id));
        expected.push(id);
        expected.sort_by_key(|id| id.parse::<u32>().unwrap());
        cluster.node(leader).start_again();
        for node in 1..=3 {
            await_rows(&cluster, node, "orders", &expected);
        }
    }
}

fn insert(id: &str) -> String {
    format!("INSERT INTO t VALUES ({id}) ON CONFLICT DO NOTHING")
}

#[test]
fn without_a_majority_nothing_is_acknowledged() {
    let mut cluster = Cluster::start(3);
    add_owner(&cluster, "orders");
    cluster.settle(1, "orders", &insert("1"));
    let leader = cluster.leader("orders");
    for node in (1..=3).filter(|node| *node != leader) {
        await_rows(&cluster, node, "orders", &["1".into()]);
        cluster.node(node).kill();
    }
    let mut writer = cluster.open(leader, "orders").unwrap();
    writer.send(&insert("2"));
    let answers = writer.answers_within(Duration::from_secs(2));
    let done = |answers: &[tests::Answer]| answers.iter().all(|a| a.failure().is_none());
    assert!(
        !matches!(answers, Ok(Some(answers)) if done(&answers)),
        "one of three has acknowledged a commit"
    );
    for node in (1..=3).filter(|node| *node != leader) {
        cluster.node(node).start_again();
    }
    // Whatever became of the second one: the third is acknowledged, and all nodes agree.
    cluster.settle(leader, "orders", &insert("3"));
    let found = cluster.until(|| {
        let found = rows(&cluster, 1, "orders")?;
        match found.contains(&"3".to_owned()) {
            true => Ok(found),
            false => Err(format!("{found:?}")),
        }
    });
    for node in 2..=3 {
        await_rows(&cluster, node, "orders", &found);
    }
}

#[test]
fn nodes_that_were_all_killed_serve_what_they_had_from_the_first_statement_on() {
    let mut cluster = Cluster::start(3);
    for owner in ["orders", "billing", "stock"] {
        add_owner(&cluster, owner);
        cluster.settle(1, owner, &insert("1"));
    }
    for _ in 0..2 {
        cluster.kill_all_and_start_again();
        for node in 1..=3 {
            for owner in ["orders", "billing", "stock"] {
                let query = format!("SELECT id FROM {owner}.t");
                assert_eq!(cluster.ok(node, "postgres", &query), ["1"], "node {node}");
            }
        }
    }
}

#[test]
fn an_empty_disk_is_a_new_node() {
    let mut cluster = Cluster::start(3);
    add_owner(&cluster, "orders");
    cluster.settle(1, "orders", &insert("1"));
    let data = cluster.node(3).data();
    let identity = std::fs::read_to_string(data.join("identity")).unwrap();
    cluster.node(3).kill();
    std::fs::remove_dir_all(&data).unwrap();
    cluster.node(3).start_again();
    let again = std::fs::read_to_string(data.join("identity")).unwrap();
    assert!(identity.contains("\"node\": 3"), "{identity}");
    assert!(again.contains("\"node\": 4"), "{again}");
    await_rows(&cluster, 3, "orders", &["1".into()]);
    cluster.settle(3, "orders", &insert("2"));
    for node in 1..=3 {
        await_rows(&cluster, node, "orders", &["1".into(), "2".into()]);
    }
}

#[test]
fn several_empty_nodes_begin_a_cluster_once() {
    let (peers, ports) = (free_ports(3), free_ports(3));
    let address = |at: usize| format!("127.0.0.1:{}", peers[at]);
    let all: Vec<String> = (0..3).map(address).collect();
    let folder = tempfile::tempdir().unwrap();
    let start = |at: usize| {
        let mut start = command();
        start
            .args(["start", "--insecure"])
            .arg(format!("--listen=127.0.0.1:{}", ports[at]))
            .arg("--data")
            .arg(folder.path().join(format!("n{at}")))
            .arg(format!("--peer-listen={}", address(at)))
            .arg(format!("--join={}", all.join(",")))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        Waiting(start.spawn().unwrap())
    };
    let mut nodes: Vec<Waiting> = (0..3).map(start).collect();
    // Whoever comes before there is a cluster is told so, and not left waiting.
    for port in &ports {
        eventually("a client is refused", || {
            match Login::new(*port, "postgres", "").open() {
                Ok(_) => panic!("there is nothing to be let into"),
                Err(failure) => failure.sqlstate == "57P03",
            }
        });
    }
    let init = |at: usize| {
        let mut init = command();
        init.args(["init", "--insecure", "--peer", &address(at)]);
        run(&mut init, "")
    };
    let mut said = String::new();
    eventually("it listens", || {
        let output = init(1);
        said = String::from_utf8_lossy(&output.stdout).into_owned();
        let why = String::from_utf8_lossy(&output.stderr);
        let refused = !output.status.success() && !why.contains("can't reach");
        assert!(!refused, "{why}");
        output.status.success()
    });
    assert!(said.contains("begins with node 1 at"), "{said}");
    for (node, port) in nodes.iter_mut().zip(ports) {
        node.await_ready();
        let let_in = Login::new(port, "postgres", "").open();
        assert!(let_in.is_ok(), "{:?}", let_in.err());
    }
    for at in 0..3 {
        let again = init(at);
        let said = String::from_utf8_lossy(&again.stderr).into_owned();
        assert!(
            !again.status.success() && said.contains("is in cluster"),
            "{said}"
        );
    }
}

/// A round trip of 300 ms: from one end of the earth to the other.
#[test]
fn nodes_that_are_far_from_each_other_keep_their_leaders_and_replace_them() {
    let mut cluster = Cluster::start_far(3, Duration::from_millis(150));
    add_owner(&cluster, "orders");
    let terms = "SELECT owner, leader, term FROM freehold.groups ORDER BY owner";
    cluster.until(|| {
        let owners = "SELECT count(*) FROM freehold.replicas WHERE owner = 'orders' AND voter";
        match cluster.ask(1, "postgres", owners)?.first() {
            Some(count) if count == "3" => Ok(()),
            found => Err(format!("{found:?}")),
        }
    });
    // Nothing but heartbeats keeps a lease of a second: it is time that has to pass. A machine that stands
    // still for a second may cost a leader, but not each time.
    let keeps_its_leaders = (1..=4).any(|turn| {
        let before = cluster.ok(1, "postgres", terms);
        for id in 1..=3 {
            cluster.ok(1, "orders", &insert(&(10 * turn + id).to_string()));
            std::thread::sleep(Duration::from_secs(3));
        }
        cluster.ok(1, "postgres", terms) == before
    });
    assert!(keeps_its_leaders, "leaders come and go");
    let leader = cluster.leader("orders");
    cluster.node(leader).kill();
    let other = if leader == 1 { 2 } else { 1 };
    cluster.settle(other, "orders", &insert("9"));
}

/// A node that is not ready yet, ended when it is dropped.
struct Waiting(std::process::Child);

impl Waiting {
    fn await_ready(&mut self) {
        use std::io::BufRead as _;
        let out = self.0.stdout.take().unwrap();
        let first = std::io::BufReader::new(out).lines().next();
        let line = first.unwrap().unwrap();
        assert!(line.starts_with("freehold is ready on "), "{line}");
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn nodes_of_two_clusters_do_not_meet() {
    let ports = free_ports(2);
    let peer = |at: usize| format!("--peer-listen=127.0.0.1:{}", ports[at]);
    let one = Program::start_with(Security::Trust, &[&peer(0)]);
    let mut two = Program::start_with(Security::Trust, &[&peer(1)]);
    two.signal(rustix::process::Signal::TERM);
    two.wait();
    // It is in a cluster of its own, whatever it is told to join.
    let mut start = command();
    start
        .args(["start", "--insecure", "--listen", "127.0.0.1:0", &peer(1)])
        .arg("--data")
        .arg(two.data())
        .arg(format!("--join=127.0.0.1:{}", ports[0]))
        .stdout(Stdio::piped());
    let mut node = Waiting(start.spawn().unwrap());
    node.await_ready();
    assert!(!one.log().contains("changing members"), "{}", one.log());
}

/// The directory's leader knows how groups are that it does not hold, and any node where they are.
#[test]
fn groups_grow_again_from_one_replica_wherever_it_is() {
    let cluster = Cluster::start(3);
    let owners = ["ant", "bee", "cat"];
    for owner in owners {
        cluster.ok(1, "postgres", &format!("CREATE ROLE {owner} LOGIN"));
        cluster.settle(1, owner, "CREATE TABLE IF NOT EXISTS t (n int PRIMARY KEY)");
    }
    // With one replica each, two of three leaders are not the directory's: leaders are spread.
    for (replicas, n) in [(1, 1), (3, 2)] {
        for owner in owners {
            let alter = format!("SELECT freehold.alter_owner('{owner}', replicas => {replicas})");
            cluster.settle(1, "postgres", &alter);
        }
        for owner in owners {
            let voters = format!(
                "SELECT count(*) FROM freehold.replicas r JOIN freehold.nodes n USING (node) \
                 WHERE r.owner = '{owner}' AND r.voter \
                 GROUP BY r.owner HAVING bool_or(r.leads AND n.is_self)"
            );
            let expected = vec![replicas.to_string()];
            cluster.until(|| {
                let told: Vec<_> = (1..=3)
                    .map(|node| cluster.ask(node, "postgres", &voters))
                    .collect();
                match told.contains(&Ok(expected.clone())) {
                    true => Ok(()),
                    false => Err(format!(
                        "{owner} has other voters than {replicas}: {told:?}"
                    )),
                }
            });
            // From wherever: the home is found.
            for node in 1..=3 {
                let n = 10 * n + node;
                cluster.settle(node, owner, &format!("INSERT INTO t VALUES ({n})"));
            }
        }
    }
    for owner in owners {
        assert_eq!(cluster.ok(2, owner, "SELECT count(*) FROM t"), ["6"]);
    }
}

/// What can't be done, or changes nothing, is said.
#[test]
fn a_wish_for_replicas_says_why_nothing_comes_of_it() {
    let mut cluster = Cluster::start(3);
    add_owner(&cluster, "orders");
    let voters = "SELECT voters FROM freehold.groups WHERE owner = 'orders'";
    cluster.until(|| match cluster.ask(1, "postgres", voters)? {
        found if found == ["3"] => Ok(()),
        found => Err(format!("{found:?}")),
    });
    let mut owner = cluster.open(1, "orders").unwrap();
    let mut said = |statement: &str| {
        let mut done = owner.run(statement);
        // The directory's leader may have changed.
        let begun = std::time::Instant::now();
        let not_now = |done: &tests::Answer| done.failure().is_some_and(|f| f.sqlstate == "57P03");
        while not_now(&done) && begun.elapsed() < Duration::from_secs(60) {
            done = owner.run(statement);
        }
        let failure = done.failure().map(tests::Failure::text);
        let notices = std::mem::take(&mut owner.notices);
        let notices = notices.iter().map(tests::Failure::text);
        notices.chain(failure).collect::<Vec<_>>().join("\n")
    };
    let same = said("SELECT freehold.alter_owner('orders', replicas => 3)");
    assert!(
        same.starts_with("NOTICE: 00000 nothing else is wanted"),
        "{same}"
    );
    let more = said("SELECT freehold.alter_owner('orders', replicas => 5)");
    assert!(more.starts_with("WARNING: 01000 3 of 5 replicas"), "{more}");
    assert!(more.contains("Start another node"), "{more}");
    let elsewhere = said("SELECT freehold.alter_owner('orders', 3, ARRAY['mars'])");
    assert!(elsewhere.contains("WARNING: 01000") && elsewhere.contains("(mars)"));
    said("SELECT freehold.alter_owner('orders', 3, ARRAY[]::text[])");
    let claim = "SELECT freehold.claim('orders')";
    let all = said(claim);
    assert!(
        all.starts_with("NOTICE: 00000 all voters of \"orders\" answer"),
        "{all}"
    );
    cluster.node(3).kill();
    let mut none = String::new();
    eventually("it is missed", || {
        none = said(claim);
        !none.starts_with("NOTICE")
    });
    for part in [
        "ERROR: 55000",
        "take the place of: 3.",
        "Start another node",
    ] {
        assert!(none.contains(part), "{none}");
    }
}
