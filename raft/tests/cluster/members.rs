//! Replicas come and go.

use super::*;

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

/// Who asked for the end may give up: what was begun goes on, and what is asked for again is done.
#[test]
fn the_end_of_a_replica_does_not_need_who_asked_for_it() {
    let cluster = Cluster::start(3);
    (0..10).for_each(|n| cluster.write(n, "row"));
    cluster.settle();
    let voters = nodes([1, 2]);
    let change = cluster[1].node.change_voters(GROUP, &voters);
    cluster.runtime.block_on(change).unwrap();
    let node = &cluster[3].node;
    let begun = node.close(GROUP).now_or_never();
    assert!(begun.is_none(), "it takes a moment");
    until("it has ended", || {
        node.groups().get(GROUP).is_none() && node.replicas(GROUP).is_empty()
    });
    cluster.runtime.block_on(node.close(GROUP)).unwrap();
    cluster.write(10, "row");
    assert_eq!(cluster.settle_without(3).len(), 11);
}
