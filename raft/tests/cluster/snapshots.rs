//! Who lacks what is no longer in the log gets a snapshot.

use super::*;

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

/// Whatever is written while a snapshot is on its way stays in the log until the receiver has it:
/// otherwise the next snapshot would be due at once, for ever.
#[test]
fn the_log_behind_a_snapshot_stays_until_it_has_arrived() {
    let mut cluster = Cluster::empty(1);
    cluster.make(1, &[NodeId(1)]);
    fill_and_purge(&cluster, 0..10, &[1]);
    cluster.add(2);
    cluster.net.hold_bulk(true);
    let node = cluster[1].node.clone();
    let changing = cluster.runtime.spawn(async move {
        let voters = nodes([1, 2]);
        node.change_voters(GROUP, &voters).await
    });
    until("a snapshot is under way", || cluster.net.bulk_waits());
    let begun = cluster[1].group().applied_log().0.index;
    let purged = || {
        let state = cluster[1].journal.state(GROUP);
        state.purged.map(|(_, purged)| purged)
    };
    fill_and_purge(&cluster, 10..22, &[1]);
    // What was asked of Raft before it is done.
    cluster.write(22, "row");
    assert!(purged() <= Some(begun), "{:?} > {begun:?}", purged());
    cluster.net.hold_bulk(false);
    let changed = cluster.runtime.block_on(changing).unwrap();
    changed.unwrap();
    assert_eq!(cluster.settle().len(), 23);
    until("the log goes then", || {
        let node = &cluster[1].node;
        cluster.runtime.block_on(node.checkpoint()).unwrap();
        purged() > Some(begun)
    });
}

/// The tables of a snapshot are durable before its log says so: if the power goes in between, the
/// node has lost nothing that it has acknowledged.
#[test]
fn what_a_snapshot_has_brought_counts_without_its_log() {
    let mut cluster = Cluster::start(3);
    (0..5).for_each(|n| cluster.write(n, "before"));
    cluster.settle();
    let left = cluster.kill(3, 2);
    let journal = left.copy().into_journal();
    fill_and_purge(&cluster, 5..20, &[1, 2]);
    cluster.restart(3, left);
    assert_eq!(cluster.settle().len(), 20);
    let applied = cluster[3].group().applied_log().0.index;
    cluster
        .runtime
        .block_on(cluster[3].node.checkpoint())
        .unwrap();
    let left = cluster.kill(3, 3).with_journal(journal);
    cluster.restart(3, left);
    let end = cluster[3].node.ends().get(&GROUP).copied();
    assert!(
        end >= Some(applied),
        "{end:?}, {applied:?} was acknowledged"
    );
    cluster.write(20, "after");
    assert_eq!(cluster.settle().len(), 21);
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
