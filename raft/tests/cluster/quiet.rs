//! Idle groups cost nothing, and wake when they are needed.

use super::*;

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
    cluster[2].node.suspect(NodeId(1), Duration::ZERO);
    cluster[3].node.suspect(NodeId(1), Duration::ZERO);
    // It comes back before anybody has written.
    cluster.restart(1, left);
    cluster.write(1, "row");
    cluster.hush();
    cluster.rest();
    // One node suspects it, the other one does not.
    let leader = cluster.leader();
    let other = 1 + leader % 3;
    cluster.kill(leader, 1);
    cluster[other].node.suspect(NodeId(leader), Duration::ZERO);
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
