//! Leaders: elections, what becomes of transactions when one falls, and what it may answer.

use super::*;

#[test]
fn three_nodes_replicate_and_apply_the_same_rows() {
    let cluster = Cluster::start(3);
    (0..50).for_each(|n| cluster.write(n, "row"));
    assert_eq!(cluster.settle().len(), 50);
    for node in cluster.nodes.values() {
        assert_eq!(node.node.leader(GROUP), Some(NodeId(1)));
    }
    let replicas = cluster[1].node.replicas(GROUP);
    assert!(replicas.iter().all(|r| r.voter), "{replicas:?}");
    assert_eq!(replicas.iter().filter(|r| r.leads).count(), 1);
}

#[test]
fn a_lossy_network_only_takes_longer() {
    let seed = 11;
    println!("seed {seed}");
    let cluster = Cluster::start(3);
    cluster.net.unreliable(seed, 20, Duration::from_millis(3));
    (0..30).for_each(|n| cluster.write(n, "row"));
    cluster.net.heal();
    assert_eq!(cluster.settle().len(), 30);
}

#[test]
fn another_leads_when_the_leader_dies_and_has_what_was_acknowledged() {
    let mut cluster = Cluster::start(3);
    (0..20).for_each(|n| cluster.write(n, "acknowledged"));
    let left = cluster.kill(1, 5);
    assert_ne!(cluster.leader(), 1);
    cluster.write(20, "after");
    cluster.restart(1, left);
    assert_eq!(cluster.settle().len(), 21);
}

#[test]
fn a_suspected_leader_is_replaced_without_waiting_for_timeouts() {
    let mut cluster = Cluster::start(3);
    cluster.write(1, "before");
    cluster.settle();
    // A false alarm first: nobody grants a vote while the leader is heard.
    cluster[2].node.suspect(NodeId(1), Duration::ZERO);
    cluster.write(2, "undisturbed");
    assert_eq!(cluster.leader(), 1);
    cluster.kill(1, 1);
    cluster[2].node.suspect(NodeId(1), Duration::ZERO);
    cluster[3].node.suspect(NodeId(1), Duration::ZERO);
    cluster.write(3, "after");
    assert_eq!(cluster.settle().len(), 3);
}

/// The old leader hears nobody. What it took is not applied, and its clients are not told that it
/// has failed before the log says so.
#[test]
fn what_an_isolated_leader_takes_is_lost_and_said_to_be_once_that_is_known() {
    let cluster = Cluster::start(3);
    cluster.write(1, "one");
    cluster.settle();
    cluster.net.isolate(1);
    let pending = cluster.propose(1, 2, "never").expect("it still leads");
    let (told, answer) = std::sync::mpsc::channel();
    let group = cluster[1].group();
    let waiting = group.when(pending, Box::new(move |o| told.send(o).unwrap_or_default()));
    assert!(waiting.is_some(), "not decided");
    until("another one leads", || {
        [2, 3].iter().any(|n| cluster[*n].group().term().is_some())
    });
    let barrier = cluster[1].node.read_barrier(GROUP);
    let refused = cluster.runtime.block_on(barrier);
    assert!(matches!(refused, Err(Error::NotLeader(_))), "{refused:?}");
    let second = [2, 3]
        .into_iter()
        .find(|n| cluster[*n].group().term().is_some());
    let position = cluster.propose(second.unwrap(), 3, "three").unwrap();
    assert_eq!(
        outcome(&cluster[second.unwrap()].group(), position),
        Outcome::Applied
    );
    assert!(answer.try_recv().is_err(), "nobody can know yet");
    cluster.net.heal();
    let answer = answer.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!(answer, Outcome::Lost);
    let rows = cluster.settle();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|(k, _)| *k != key(2)));
}

/// Entries that have reached a quorum before the leader fell are committed by the next one. This
/// leader is heard and hears nobody.
#[test]
fn what_the_others_have_is_committed_though_the_leader_never_heard() {
    let cluster = Cluster::start(3);
    cluster.write(1, "one");
    cluster.settle();
    for other in [2, 3] {
        cluster.net.cut_one_way(other, 1);
    }
    let pending = cluster.propose(1, 2, "two").expect("it still leads");
    until("another one leads", || {
        [2, 3].iter().any(|n| cluster[*n].group().term().is_some())
    });
    cluster.net.heal();
    assert_eq!(cluster.outcome(1, pending), Some(Outcome::Applied));
    assert_eq!(cluster.settle().len(), 2);
}

#[test]
fn leadership_is_handed_over() {
    let cluster = Cluster::start(3);
    cluster.write(1, "one");
    let term = cluster[1].group().term();
    let transfer = cluster[1].node.transfer(GROUP, NodeId(3));
    cluster.runtime.block_on(transfer).unwrap();
    until("it leads", || cluster[3].group().term() > term);
    cluster.write(2, "two");
    assert_eq!(cluster.leader(), 3);
    assert_eq!(cluster.settle().len(), 2);
    let refused = cluster[1].node.transfer(GROUP, NodeId(2));
    let refused = cluster.runtime.block_on(refused);
    assert!(matches!(refused, Err(Error::NotLeader(Some(NodeId(3))))));
}

#[test]
fn barriers_are_shared_and_see_what_was_acknowledged() {
    let cluster = Cluster::start(3);
    cluster.write(1, "one");
    let applied = cluster[1].group().applied();
    let node = &cluster[1].node;
    let barriers = (0..50).map(|_| node.read_barrier(GROUP));
    let passed = cluster
        .runtime
        .block_on(futures_util::future::join_all(barriers));
    assert!(
        passed
            .into_iter()
            .all(|position| position.unwrap() >= applied)
    );
    // The other one may not have heard of its leader before.
    cluster.settle();
    let refused = cluster[2].node.read_barrier(GROUP);
    let refused = cluster.runtime.block_on(refused);
    assert!(matches!(refused, Err(Error::NotLeader(Some(NodeId(1))))));
}

/// The old leader is cut off while it is quiet: it neither answers a barrier nor commits.
#[test]
fn a_quiet_leader_that_is_cut_off_leads_no_more() {
    let cluster = Cluster::start(3);
    cluster.write(0, "row");
    cluster.hush();
    cluster.rest();
    cluster.net.isolate(1);
    cluster[2].node.suspect(NodeId(1), Duration::ZERO);
    cluster[3].node.suspect(NodeId(1), Duration::ZERO);
    until("another one leads", || {
        [2, 3].iter().any(|n| cluster[*n].group().term().is_some())
    });
    let leads = |n: &u32| cluster[*n].group().term().is_some();
    let second = [2, 3].into_iter().find(leads).unwrap();
    write_at_once(&cluster, second, 1);
    assert!(cluster[1].is_quiet(), "it has not heard of it");
    let barrier = cluster[1].node.read_barrier(GROUP);
    let refused = cluster.runtime.block_on(barrier);
    assert!(matches!(refused, Err(Error::NotLeader(_))), "{refused:?}");
    if let Some(position) = cluster.propose(1, 2, "never") {
        cluster.net.heal();
        assert_eq!(cluster.outcome(1, position), Some(Outcome::Lost));
    }
    cluster.net.heal();
    let rows = cluster.settle();
    assert!(rows.iter().all(|(k, _)| *k != key(2)));
    cluster.rest();
}

/// It was stopped while it led, and goes on as if no time had passed.
#[test]
fn a_leader_that_was_stopped_neither_answers_a_barrier_nor_commits() {
    let cluster = Cluster::start(3);
    cluster.write(0, "row");
    cluster.settle();
    let frozen = cluster[1].freeze();
    until("another one leads", || {
        [2, 3].iter().any(|n| cluster[*n].group().term().is_some())
    });
    let leads = |n: &u32| cluster[*n].group().term().is_some();
    let second = [2, 3].into_iter().find(leads).unwrap();
    write_at_once(&cluster, second, 1);
    // The others can't tell it yet.
    cluster.net.isolate(1);
    assert!(
        cluster[1].group().term().is_some(),
        "it takes itself for the leader"
    );
    let pending = cluster.propose(1, 2, "never").expect("it takes it");
    let barrier = cluster[1].node.read_barrier(GROUP);
    drop(frozen);
    let refused = cluster.runtime.block_on(barrier);
    assert!(matches!(refused, Err(Error::NotLeader(_))), "{refused:?}");
    cluster.net.heal();
    assert_eq!(cluster.outcome(1, pending), Some(Outcome::Lost));
    let rows = cluster.settle();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|(k, _)| *k != key(2)));
}

/// An idle group of several voters is closed by an entry, on demand, wherever the demand is.
#[test]
fn an_idle_group_is_closed_for_who_waits_on_a_follower() {
    let cluster = Cluster::start(3);
    cluster.write(1, "one");
    cluster.settle();
    let before = cluster[1].group().applied();
    let follower = cluster[3].group();
    until("it is closed further", || {
        follower.close_wanted();
        follower.close_up_to(Position::MAX) > before
    });
    assert_eq!(cluster.settle().len(), 1);
}

/// It hears of no other leader either: its clients are told that it can't know.
#[test]
fn a_leader_without_a_quorum_says_that_it_does_not_know() {
    let cluster = Cluster::start(3);
    cluster.write(1, "one");
    let keeping = cluster.runtime.spawn(cluster[1].node.clone().keep());
    cluster.net.isolate(1);
    let pending = cluster.propose(1, 2, "two").expect("it still leads");
    assert_eq!(cluster.outcome(1, pending), Some(Outcome::Unknown));
    keeping.abort();
    cluster.net.heal();
    cluster.settle();
}
