//! Several nodes: elections, replication, what becomes of transactions when leaders fall, and
//! how replicas come, go and catch up.

#![allow(clippy::unwrap_used)]

mod crashes;
#[path = "../harness/mod.rs"]
mod harness;
mod leaders;
mod members;
mod quiet;
mod snapshots;

use std::time::Duration;

use futures_util::FutureExt as _;
use harness::cluster::{Cluster, GROUP, until};
use harness::{key, outcome};
use journal::MemoryDisk;
use raft::{Error, NodeId};
use storage::{Outcome, Position};

fn nodes(numbers: impl IntoIterator<Item = u32>) -> std::collections::BTreeSet<NodeId> {
    numbers.into_iter().map(NodeId).collect()
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

/// Commits a row at the first attempt.
fn write_at_once(cluster: &Cluster, node: u32, key: u64) {
    let position = cluster.propose(node, key, "row").expect("it leads");
    assert_eq!(cluster.outcome(node, position), Some(Outcome::Applied));
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
