//! Several nodes: elections, replication, what becomes of transactions when leaders fall, and
//! how replicas come, go and catch up.

#![allow(clippy::unwrap_used)]

mod harness;

use std::time::Duration;

use harness::cluster::{Cluster, GROUP, until};
use harness::{key, outcome};
use raft::{Error, NodeId};
use storage::{Outcome, Position};

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
    cluster[2].node.suspect(NodeId(1));
    cluster.write(2, "undisturbed");
    assert_eq!(cluster.leader(), 1);
    cluster.kill(1, 1);
    cluster[2].node.suspect(NodeId(1));
    cluster[3].node.suspect(NodeId(1));
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
fn a_follower_that_was_away_catches_up_from_the_log() {
    let mut cluster = Cluster::start(3);
    cluster.write(0, "row");
    cluster.settle();
    let left = cluster.kill(3, 9);
    (1..100).for_each(|n| cluster.write(n, "row"));
    cluster.restart(3, left);
    assert_eq!(cluster.settle().len(), 100);
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
    let refused = cluster[2].node.read_barrier(GROUP);
    let refused = cluster.runtime.block_on(refused);
    assert!(matches!(refused, Err(Error::NotLeader(Some(NodeId(1))))));
}

#[test]
fn all_nodes_lose_power_and_nothing_acknowledged() {
    let mut cluster = Cluster::start(3);
    (0..30).for_each(|n| cluster.write(n, "row"));
    let left: Vec<_> = (1..=3)
        .map(|n| (n, cluster.kill(n, u64::from(n))))
        .collect();
    for (number, left) in left {
        cluster.restart(number, left);
    }
    cluster.write(30, "after");
    assert_eq!(cluster.settle().len(), 31);
}

#[test]
fn a_quick_restart_of_a_follower_disturbs_nobody() {
    let mut cluster = Cluster::start(3);
    for n in 0..5 {
        cluster.write(n, "row");
        let left = cluster.kill(3, n);
        cluster.restart(3, left);
    }
    cluster.write(5, "row");
    assert_eq!(cluster.settle().len(), 6);
}

fn nodes(numbers: impl IntoIterator<Item = u32>) -> std::collections::BTreeSet<NodeId> {
    numbers.into_iter().map(NodeId).collect()
}

#[test]
fn a_group_grows_from_one_to_three_while_it_is_written() {
    let cluster = Cluster::empty(3);
    cluster.make(1, &[NodeId(1)]);
    (0..20).for_each(|n| cluster.write(n, "alone"));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (20..200).for_each(|n| cluster.write(n, "growing")));
        let voters = nodes([1, 2, 3]);
        let change = cluster[1].node.change_voters(GROUP, &voters);
        cluster.runtime.block_on(change).unwrap();
        writer.join().unwrap();
    });
    let replicas = cluster[1].node.replicas(GROUP);
    assert_eq!(
        replicas.iter().filter(|r| r.voter).count(),
        3,
        "{replicas:?}"
    );
    assert_eq!(cluster.settle().len(), 200);
}

#[test]
fn a_dead_voter_is_replaced() {
    let mut cluster = Cluster::start(3);
    cluster.add(4);
    (0..20).for_each(|n| cluster.write(n, "row"));
    cluster.settle_without(4);
    cluster.kill(2, 3);
    let voters = nodes([1, 3, 4]);
    let change = cluster[1].node.change_voters(GROUP, &voters);
    cluster.runtime.block_on(change).unwrap();
    cluster.write(20, "after");
    assert_eq!(cluster.settle().len(), 21);
    // The new one counts: with it, another one may go.
    cluster.kill(3, 3);
    cluster.write(21, "after");
    assert_eq!(cluster.settle().len(), 22);
}

/// A wiped disk is a new node. Its old replica is nobody's: who asks for it is refused.
#[test]
fn a_wiped_node_joins_under_a_new_number() {
    let mut cluster = Cluster::start(3);
    (0..10).for_each(|n| cluster.write(n, "row"));
    cluster.settle();
    cluster.kill(3, 1);
    cluster.add(4);
    cluster.write(10, "row");
    assert!(cluster[4].node.groups().all().is_empty(), "nobody asks it");
    let voters = nodes([1, 2, 4]);
    let change = cluster[1].node.change_voters(GROUP, &voters);
    cluster.runtime.block_on(change).unwrap();
    let replicas = cluster[1].node.replicas(GROUP);
    let joined = replicas.iter().find(|r| r.node == NodeId(4)).unwrap();
    assert_eq!(joined.replica, 4 << 32 | 2);
    assert_eq!(cluster.settle().len(), 11);
}

/// The leader may be the one that goes.
#[test]
fn a_leader_that_is_removed_hands_over() {
    let mut cluster = Cluster::start(3);
    cluster.add(4);
    (0..10).for_each(|n| cluster.write(n, "row"));
    let voters = nodes([2, 3, 4]);
    let change = cluster[1].node.change_voters(GROUP, &voters);
    cluster.runtime.block_on(change).unwrap();
    until("it leads no more", || cluster[1].group().term().is_none());
    cluster.kill(1, 1);
    cluster.write(10, "after");
    assert_eq!(cluster.settle().len(), 11);
}

fn change(cluster: &Cluster, voters: &[u32], learners: &[u32]) {
    let (voters, learners) = (
        nodes(voters.iter().copied()),
        nodes(learners.iter().copied()),
    );
    let leader = cluster.leader();
    let change = cluster[leader]
        .node
        .change_members(GROUP, &voters, &learners);
    cluster.runtime.block_on(change).unwrap();
}

/// Of each node with a replica whether it votes.
fn parts(cluster: &Cluster) -> Vec<(u32, bool)> {
    let replicas = cluster[cluster.leader()].node.replicas(GROUP);
    replicas.iter().map(|r| (r.node.0, r.voter)).collect()
}

#[test]
fn learners_have_all_entries_and_no_say() {
    let mut cluster = Cluster::empty(5);
    cluster.make(1, &[NodeId(1)]);
    (0..10).for_each(|n| cluster.write(n, "alone"));
    change(&cluster, &[1], &[2]);
    cluster.write(10, "one voter");
    change(&cluster, &[1, 2, 3], &[4, 5]);
    let all = [(1, true), (2, true), (3, true), (4, false), (5, false)];
    assert_eq!(parts(&cluster), all);
    cluster.write(11, "three voters");
    assert_eq!(cluster.settle().len(), 12);
    // A learner restarts, and is one still.
    let left = cluster.kill(4, 1);
    cluster.write(12, "without it");
    cluster.restart(4, left);
    assert_eq!(cluster.settle().len(), 13);
    // They are no quorum: of the voters one is left.
    let left = [(2, cluster.kill(2, 2)), (3, cluster.kill(3, 3))];
    if let Some(position) = cluster.propose(1, 13, "pending") {
        let told = cluster.hear(1, position);
        let none = told.recv_timeout(Duration::from_millis(500));
        assert!(none.is_err(), "{none:?}");
    }
    for (number, left) in left {
        cluster.restart(number, left);
    }
    cluster.write(14, "three voters");
    // A voter may become a learner, and a learner a voter.
    change(&cluster, &[1, 2, 4], &[3, 5]);
    let all = [(1, true), (2, true), (3, false), (4, true), (5, false)];
    assert_eq!(parts(&cluster), all);
    let replicas = cluster[1].node.replicas(GROUP);
    assert!(
        replicas.iter().all(|r| r.replica as u32 <= 5),
        "nobody joins anew: {replicas:?}"
    );
    cluster.kill(1, 4);
    cluster.write(15, "after");
    assert!([2, 4].contains(&cluster.leader()));
    cluster.settle();
}

/// The others are in order without it; it asks for votes, and hears that it was removed.
#[test]
fn a_voter_that_was_away_when_it_was_removed_hears_of_it() {
    let cluster = Cluster::start(3);
    cluster.write(1, "row");
    cluster.settle();
    cluster.net.isolate(3);
    change(&cluster, &[1, 2], &[]);
    cluster.net.heal();
    until("it has ended", || {
        cluster[3].node.groups().get(GROUP).is_none()
    });
    change(&cluster, &[1, 2, 3], &[]);
    assert_eq!(cluster.settle().len(), 1);
    let replicas = cluster[1].node.replicas(GROUP);
    let joined = replicas.iter().find(|r| r.node == NodeId(3)).unwrap();
    assert_eq!(joined.replica, 3 << 32 | 2);
}

/// A learner asks for nothing: who knows the members tells it to ask.
#[test]
fn a_learner_that_was_away_when_it_was_removed_can_ask() {
    let cluster = Cluster::start(3);
    change(&cluster, &[1, 2], &[3]);
    cluster.write(1, "row");
    cluster.settle();
    let removed = |number: u32| {
        let members = nodes([1, 2]);
        let node = &cluster[number].node;
        cluster.runtime.block_on(node.removed(GROUP, &members))
    };
    assert!(!removed(3).unwrap(), "it is a member");
    assert!(!removed(2).unwrap(), "it is a member");
    cluster.net.isolate(3);
    change(&cluster, &[1, 2], &[]);
    assert!(!removed(3).unwrap(), "nobody confirms it");
    cluster.net.heal();
    assert!(removed(3).unwrap());
    assert!(cluster[3].node.groups().get(GROUP).is_none());
    cluster.write(2, "row");
}

/// Commits a row at the first attempt.
fn write_at_once(cluster: &Cluster, node: u32, key: u64) {
    let position = cluster.propose(node, key, "row").expect("it leads");
    assert_eq!(cluster.outcome(node, position), Some(Outcome::Applied));
}

#[test]
fn an_idle_group_costs_nothing_and_wakes_when_it_is_needed() {
    let mut cluster = Cluster::start(3);
    cluster.write(0, "row");
    cluster.hush();
    cluster.rest();
    let term = cluster[1].group().term();
    let silent = |cluster: &Cluster| {
        cluster.rest();
        let sent = cluster.net.sent();
        // Several heartbeats, and the time after which others would stand for election.
        std::thread::sleep(Duration::from_millis(2500));
        assert_eq!(cluster.net.sent(), sent, "messages of a quiet group");
        assert!(cluster.nodes.values().all(|node| node.is_quiet()));
        // That is no lag, as long as the nodes hear of each other.
        for (number, node) in &cluster.nodes {
            (1..=3).for_each(|other| node.node.heard(NodeId(other)));
            let behind = node.node.status()[0].behind;
            assert!(
                behind < Some(Duration::from_secs(2)),
                "{number}: {behind:?}"
            );
        }
    };
    silent(&cluster);
    // Its leader has no lease any more, and takes an entry all the same.
    write_at_once(&cluster, 1, 1);
    silent(&cluster);
    let barrier = cluster[1].node.read_barrier(GROUP);
    cluster.runtime.block_on(barrier).unwrap();
    cluster.rest();
    assert_eq!(cluster[1].group().term(), term);
    change(&cluster, &[1, 2], &[]);
    change(&cluster, &[1, 2, 3], &[]);
    cluster.hush();
    cluster.rest();
    let transfer = cluster[1].node.transfer(GROUP, NodeId(2));
    cluster.runtime.block_on(transfer).unwrap();
    until("it leads", || cluster[2].group().term().is_some());
    cluster.rest();
    write_at_once(&cluster, 2, 2);
    cluster.rest();
    // Somebody waits on a follower.
    let before = cluster[2].group().applied();
    let follower = cluster[3].group();
    until("it is closed further", || {
        follower.close_wanted();
        follower.close_up_to(Position::MAX) > before
    });
    // A restart of a follower wakes it, and the leader stays.
    cluster.rest();
    let term = cluster[2].group().term();
    let left = cluster.kill(3, 1);
    cluster.restart(3, left);
    cluster.hush();
    cluster.rest();
    assert_eq!(cluster[2].group().term(), term);
    assert_eq!(cluster.settle().len(), 3);
}

#[test]
fn a_voter_that_is_down_keeps_a_group_awake() {
    let mut cluster = Cluster::start(3);
    cluster.write(0, "row");
    cluster.settle();
    let left = cluster.kill(3, 1);
    cluster.hush();
    let sent = cluster.net.sent();
    until("there were many heartbeats", || {
        assert!(!cluster[1].is_quiet());
        cluster.net.sent() > sent + 40
    });
    cluster.restart(3, left);
    cluster.hush();
    cluster.rest();
}

#[test]
fn a_leader_that_dies_while_its_group_is_quiet_is_replaced_when_it_is_suspected() {
    let mut cluster = Cluster::start(3);
    cluster.write(0, "row");
    cluster.hush();
    cluster.rest();
    let left = cluster.kill(1, 1);
    assert!(cluster.nodes.values().all(|node| node.is_quiet()));
    cluster[2].node.suspect(NodeId(1));
    cluster[3].node.suspect(NodeId(1));
    // It comes back before anybody has written.
    cluster.restart(1, left);
    cluster.write(1, "row");
    cluster.hush();
    cluster.rest();
    // One node suspects it, the other one does not.
    let leader = cluster.leader();
    let other = 1 + leader % 3;
    cluster.kill(leader, 1);
    cluster[other].node.suspect(NodeId(leader));
    cluster.write(2, "row");
    assert_eq!(cluster.settle().len(), 3);
}

#[test]
fn a_leader_that_dies_while_its_group_is_quiet_is_replaced_when_it_is_needed() {
    let mut cluster = Cluster::start(3);
    cluster.write(0, "row");
    cluster.hush();
    cluster.rest();
    cluster.kill(1, 1);
    let barrier = cluster[2].node.read_barrier(GROUP);
    let refused = cluster.runtime.block_on(barrier);
    assert!(matches!(refused, Err(Error::NotLeader(Some(NodeId(1))))));
    cluster.write(1, "row");
    assert_eq!(cluster.settle().len(), 2);
}

/// Nobody has noticed that it was away.
#[test]
fn a_leader_that_restarts_while_its_group_is_quiet_is_replaced() {
    let mut cluster = Cluster::start(3);
    cluster.write(0, "row");
    cluster.hush();
    cluster.rest();
    let left = cluster.kill(1, 1);
    cluster.restart(1, left);
    cluster.write(1, "row");
    assert_eq!(cluster.settle().len(), 2);
}

/// The old leader is cut off while it is quiet: it neither answers a barrier nor commits.
#[test]
fn a_quiet_leader_that_is_cut_off_leads_no_more() {
    let cluster = Cluster::start(3);
    cluster.write(0, "row");
    cluster.hush();
    cluster.rest();
    cluster.net.isolate(1);
    cluster[2].node.suspect(NodeId(1));
    cluster[3].node.suspect(NodeId(1));
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

/// Writes more than a segment of the journal holds, then lets it go on these nodes.
fn fill_and_purge(cluster: &Cluster, keys: std::ops::Range<u64>, on: &[u32]) {
    let large = "x".repeat(200 << 10);
    keys.for_each(|n| cluster.write(n, &large));
    for number in on {
        let node = &cluster[*number].node;
        node.keep_for_lagging(0);
        cluster.runtime.block_on(node.checkpoint()).unwrap();
        // A leader waits until nothing of it is on the way to a follower.
        let journal = &cluster[*number].journal;
        until("the log is purged", || {
            journal.state(GROUP).purged.is_some()
        });
    }
}

#[test]
fn a_follower_behind_the_log_gets_a_snapshot() {
    let mut cluster = Cluster::start(3);
    (0..5).for_each(|n| cluster.write(n, "before"));
    cluster.settle();
    let old = cluster[3].group().applied();
    let left = cluster.kill(3, 2);
    fill_and_purge(&cluster, 5..20, &[1, 2]);
    let purged = cluster[1].journal.state(GROUP).purged;
    cluster.restart(3, left);
    assert_eq!(cluster.settle().len(), 20);
    // openraft purges behind the installation.
    let journal = &cluster[3].journal;
    until("its log is purged", || {
        journal.state(GROUP).purged >= purged
    });
    let group = cluster[3].group();
    assert!(group.get(harness::TREE, &key(1), old).is_err(), "below it");
    // What was installed is durable, and the log goes on behind it.
    cluster.write(20, "after");
    cluster.settle();
    let left = cluster.kill(3, 3);
    cluster.write(21, "while it was away");
    cluster.restart(3, left);
    assert_eq!(cluster.settle().len(), 22);
    // It counts like any other.
    cluster.kill(1, 1);
    cluster.write(22, "after");
    assert_eq!(cluster.settle().len(), 23);
}

#[test]
fn a_new_voter_begins_with_a_snapshot_over_a_lossy_network() {
    let seed = 3;
    println!("seed {seed}");
    let mut cluster = Cluster::empty(1);
    cluster.make(1, &[NodeId(1)]);
    fill_and_purge(&cluster, 0..20, &[1]);
    fill_and_purge(&cluster, 20..25, &[1]);
    assert!(cluster[1].journal.state(GROUP).purged.is_some());
    cluster.add(2);
    cluster.add(3);
    cluster.net.unreliable(seed, 10, Duration::from_millis(2));
    let voters = nodes([1, 2, 3]);
    let change = cluster[1].node.change_voters(GROUP, &voters);
    cluster.runtime.block_on(change).unwrap();
    cluster.net.heal();
    cluster.write(25, "after");
    assert_eq!(cluster.settle().len(), 26);
}

/// What the isolated leader has pending is passed over by a snapshot: nobody can tell any more.
#[test]
fn what_a_snapshot_passes_over_is_unknown() {
    let cluster = Cluster::start(3);
    cluster.write(1, "one");
    cluster.settle();
    cluster.net.isolate(1);
    let pending = cluster.propose(1, 2, "never").expect("it still leads");
    until("another one leads", || {
        [2, 3].iter().any(|n| cluster[*n].group().term().is_some())
    });
    let leads = |n: &u32| cluster[*n].group().term().is_some();
    let second = [2, 3].into_iter().find(leads).unwrap();
    let large = "x".repeat(200 << 10);
    for n in 10..30 {
        let position = cluster.propose(second, n, &large).unwrap();
        assert_eq!(cluster.outcome(second, position), Some(Outcome::Applied));
    }
    let node = &cluster[second].node;
    node.keep_for_lagging(0);
    cluster.runtime.block_on(node.checkpoint()).unwrap();
    cluster.net.heal();
    assert_eq!(cluster.outcome(1, pending), Some(Outcome::Unknown));
    assert_eq!(cluster.settle().len(), 21);
}

/// A removed replica ends with all that it had. Its node may come back, as a new one.
#[test]
fn a_removed_replica_ends_and_its_node_may_join_again() {
    let mut cluster = Cluster::start(3);
    (0..10).for_each(|n| cluster.write(n, "row"));
    cluster.settle();
    let change = |cluster: &Cluster, voters: &[u32]| {
        let voters = nodes(voters.iter().copied());
        let change = cluster[1].node.change_voters(GROUP, &voters);
        cluster.runtime.block_on(change).unwrap();
    };
    change(&cluster, &[1, 2]);
    cluster
        .runtime
        .block_on(cluster[3].node.close(GROUP))
        .unwrap();
    assert!(cluster[3].node.groups().get(GROUP).is_none());
    cluster.write(10, "row");
    // The end is remembered.
    let left = cluster.kill(3, 1);
    cluster.restart(3, left);
    assert!(cluster[3].node.groups().get(GROUP).is_none());
    change(&cluster, &[1, 2, 3]);
    let replicas = cluster[1].node.replicas(GROUP);
    let joined = replicas.iter().find(|r| r.node == NodeId(3)).unwrap();
    assert_eq!(joined.replica, 3 << 32 | 2);
    assert_eq!(cluster.settle().len(), 11);
    let left = cluster.kill(3, 1);
    cluster.restart(3, left);
    assert_eq!(cluster.settle().len(), 11);
    // The same without being told of its end: the next number says it.
    change(&cluster, &[1, 2]);
    change(&cluster, &[1, 2, 3]);
    assert_eq!(cluster.settle().len(), 11);
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

/// Kills, partitions and a bad network, as a seed says, while clients write. What was
/// acknowledged is there, what was said to be lost is not, and all replicas are the same.
#[test]
fn nothing_acknowledged_is_lost_whatever_happens() {
    for seed in 1..=3 {
        println!("seed {seed}");
        shake(seed);
    }
}

fn shake(seed: u64) {
    const STEPS: u64 = 12;
    const WRITES: u64 = 8;
    let mut cluster = Cluster::start(3);
    let mut dice = seed;
    let mut roll = move |below: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (dice >> 33) % below
    };
    let mut told = Vec::new();
    let mut key = 0;
    for step in 0..STEPS {
        let victim = 1 + roll(3) as u32;
        let mut down = None;
        match roll(4) {
            0 => down = Some((victim, cluster.kill(victim, seed * 100 + step))),
            1 => cluster.net.isolate(victim),
            2 => cluster.net.cut_one_way(victim, 1 + victim % 3),
            _ => cluster
                .net
                .unreliable(seed + step, 30, Duration::from_millis(2)),
        }
        for _ in 0..WRITES {
            key += 1;
            let running: Vec<u32> = cluster.nodes.keys().copied().collect();
            for node in running {
                if let Some(position) = cluster.propose(node, key, "row") {
                    told.push((key, cluster.hear(node, position)));
                    break;
                }
            }
            std::thread::sleep(Duration::from_millis(roll(60)));
        }
        cluster.net.heal();
        if let Some((node, left)) = down {
            cluster.restart(node, left);
        }
        if roll(3) == 0 {
            let node = &cluster[victim].node;
            node.keep_for_lagging(0);
            cluster.runtime.block_on(node.checkpoint()).unwrap();
        }
    }
    cluster.write(0, "the end");
    let rows = cluster.settle();
    let has = |n: u64| rows.iter().any(|(k, _)| *k == harness::key(n));
    let (mut applied, mut lost) = (0, 0);
    for (key, heard) in told {
        match heard.try_recv() {
            Ok(Outcome::Applied) => {
                applied += 1;
                assert!(has(key), "row {key} was acknowledged");
            }
            Ok(Outcome::Lost) => {
                lost += 1;
                assert!(!has(key), "row {key} was said to be lost");
            }
            Ok(Outcome::Unknown) | Err(_) => {}
        }
    }
    println!("{applied} acknowledged, {lost} lost");
    assert!(applied > 0);
}
