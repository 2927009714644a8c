//! Brings groups to where the directory wants them. The directory's leader writes what it wants;
//! the leader of each group changes its voters, one group after the other, and hands over to the
//! voter that should lead; who is named among the first voters of a new group makes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use raft::NodeId;
use sql::catalog::{Catalog, NodeState, Placement};
use storage::GroupId;
use tokio::time::Instant;

use super::plan::{Seen, plan};
use super::{Cluster, Parts};

/// Between two looks if nothing is heard of a change.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A change of voters, with the copy that it needs, may take so long; then others have a turn.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(30);
/// A voter must have been there for so long before leadership goes to it.
const SETTLED_AFTER: Duration = Duration::from_secs(5);
/// Who is not the first among a new group's voters lets the others make it for so long.
const MAKE_AFTER: Duration = Duration::from_secs(2);

/// Looks after the groups, for ever.
pub async fn keep(cluster: Arc<Cluster>) {
    let mut keeper = Keeper::default();
    loop {
        if let Some(parts) = cluster.parts() {
            keeper.look(&cluster, parts).await;
            cluster.write_book(parts);
        }
        tokio::select! {
            () = cluster.changed.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// What is remembered between two looks.
#[derive(Default)]
struct Keeper {
    /// Since when groups are waited for that others should make.
    unmade: BTreeMap<GroupId, Instant>,
    /// Since when nodes have answered without a break.
    there: BTreeMap<u32, Instant>,
}

impl Keeper {
    async fn look(&mut self, cluster: &Arc<Cluster>, parts: &Parts) {
        let now = Instant::now();
        let mut live = cluster.heard.live(now);
        live.insert(cluster.me());
        self.there.retain(|node, _| live.contains(node));
        for node in &live {
            self.there.entry(*node).or_insert(now);
        }
        write_plan(cluster, parts);
        let catalog = parts.engine.catalog();
        for placement in catalog.placements() {
            let id = GroupId(placement.group);
            let leads = parts
                .engine
                .groups()
                .get(id)
                .is_some_and(|g| g.term().is_some());
            if leads {
                self.change(cluster, parts, placement).await;
            } else if !placement.made && parts.raft.leader(id).is_none() {
                self.make(cluster, parts, placement).await;
            } else if placement.made {
                end_removed(cluster, parts, placement).await;
            }
        }
        self.unmade
            .retain(|id, _| catalog.placement(*id).is_some_and(|p| !p.made));
    }

    /// Makes a new group, if this node should.
    async fn make(&mut self, cluster: &Cluster, parts: &Parts, placement: &Placement) {
        let id = GroupId(placement.group);
        let me = cluster.me();
        if !placement.voters.contains(&me) {
            return;
        }
        let since = *self.unmade.entry(id).or_insert_with(Instant::now);
        if placement.voters.first() != Some(&me) && since.elapsed() < MAKE_AFTER {
            return;
        }
        let above = parts.engine.catalog().as_of(GroupId::DIRECTORY);
        let voters: Vec<NodeId> = placement.voters.iter().copied().map(NodeId).collect();
        let making = parts.raft.make(id, above, &voters);
        match tokio::time::timeout(CHANGE_TIME_MAX, making).await {
            Ok(Ok(()) | Err(raft::Error::NotLeader(_))) => cluster.note_change(),
            Ok(Err(error)) => tracing::warn!(group = %id, %error, "a group could not be made"),
            Err(_) => tracing::warn!(group = %id, "a new group has no leader yet"),
        }
    }

    /// Brings a group that this node leads to its placement.
    async fn change(&mut self, cluster: &Cluster, parts: &Parts, placement: &Placement) {
        let id = GroupId(placement.group);
        let replicas = parts.raft.replicas(id);
        let are = |voter: bool| -> BTreeSet<u32> {
            let of = replicas.iter().filter(|replica| replica.voter == voter);
            of.map(|replica| replica.node.0).collect()
        };
        let (voters, learners) = (nodes(&placement.voters), nodes(&placement.learners));
        if are(true) != numbers(&voters) || are(false) != numbers(&learners) {
            let (from, to) = (are(true), numbers(&voters));
            tracing::info!(group = %id, ?from, ?to, "changing the voters");
            let changing = parts.raft.change_members(id, &voters, &learners);
            match tokio::time::timeout(CHANGE_TIME_MAX, changing).await {
                Ok(Ok(())) => tracing::info!(group = %id, voters = ?to, "changed the voters"),
                Ok(Err(error)) => {
                    tracing::info!(group = %id, %error, "the voters are not changed yet");
                }
                Err(_) => tracing::info!(group = %id, "the new voters are not ready yet"),
            }
            return;
        }
        let Some(preferred) = placement.voters.first().copied() else {
            return;
        };
        let catalog = parts.engine.catalog();
        let active = catalog
            .node(preferred)
            .is_some_and(|node| node.state == NodeState::Active);
        let settled = self
            .there
            .get(&preferred)
            .is_some_and(|since| since.elapsed() >= SETTLED_AFTER);
        let near = replicas
            .iter()
            .any(|r| r.node.0 == preferred && r.lag.is_some_and(|lag| lag < 100));
        if preferred != cluster.me() && active && settled && near {
            match parts.raft.transfer(id, NodeId(preferred)).await {
                Ok(()) => tracing::info!(group = %id, to = preferred, "handed over"),
                Err(error) => tracing::info!(group = %id, %error, "not handed over"),
            }
        }
    }
}

/// Ends this node's replica of a group that is placed elsewhere, once a member confirms it.
async fn end_removed(cluster: &Cluster, parts: &Parts, placement: &Placement) {
    let id = GroupId(placement.group);
    let me = cluster.me();
    let placed = placement.voters.contains(&me) || placement.learners.contains(&me);
    if placed || parts.raft.replicas(id).is_empty() {
        return;
    }
    match parts.raft.removed(id, &nodes(&placement.voters)).await {
        Ok(true) => tracing::info!(group = %id, "this node has it no more"),
        Ok(false) => {}
        Err(error) => tracing::warn!(group = %id, %error, "a removed replica does not end"),
    }
}

fn nodes(of: &[u32]) -> BTreeSet<NodeId> {
    of.iter().copied().map(NodeId).collect()
}

fn numbers(of: &BTreeSet<NodeId>) -> BTreeSet<u32> {
    of.iter().map(|node| node.0).collect()
}

/// The directory's leader writes what it wants.
fn write_plan(cluster: &Cluster, parts: &Parts) {
    let directory = parts.engine.groups().get(GroupId::DIRECTORY);
    if directory.is_none_or(|directory| directory.term().is_none()) {
        return;
    }
    let seen = seen(cluster, parts);
    // It waits while the directory changes, and is asked again.
    let _ = parts
        .engine
        .change_directory(|catalog| plan(catalog, &seen));
}

/// Who is there, and how the groups are.
pub fn seen(cluster: &Cluster, parts: &Parts) -> Seen {
    let now = Instant::now();
    let mut live = cluster.heard.live(now);
    live.insert(cluster.me());
    let others = cluster.others();
    let after = cluster.place.replace_after;
    let mut lost = cluster.heard.lost(&others, after, now);
    lost.retain(|node| !live.contains(node));
    let catalog = parts.engine.catalog();
    lost.extend(others.iter().filter(|node| is_succeeded(&catalog, **node)));
    let owned = catalog.owners().map(|(_, group)| group);
    let led = |id: GroupId| {
        parts.raft.leader(id)?;
        let replicas = parts.raft.replicas(id).into_iter();
        let voters = replicas.filter(|r| r.voter).map(|r| r.node.0).collect();
        Some((id, voters))
    };
    let all = std::iter::once(GroupId::DIRECTORY).chain(owned);
    Seen {
        live,
        lost,
        led: all.filter_map(led).collect(),
    }
}

/// Has another folder taken a node's address, so that it can't come back there? Its own was lost.
fn is_succeeded(catalog: &Catalog, node: u32) -> bool {
    let Some(node) = catalog.node(node) else {
        return false;
    };
    let mut later = catalog.nodes().filter(|other| other.number > node.number);
    later.any(|other| other.address == node.address && other.state != NodeState::Gone)
}

impl Cluster {
    /// Keeps the addresses for a start at which the directory can't be read.
    fn write_book(&self, parts: &Parts) {
        let catalog = parts.engine.catalog();
        let me = self.me();
        let there = |node: &&Arc<sql::catalog::Node>| {
            node.state != NodeState::Gone && node.number != me && !node.address.is_empty()
        };
        let nodes = catalog.nodes().filter(there);
        let nodes = nodes
            .map(|node| (node.number, node.address.clone()))
            .collect();
        if let Err(error) = self.book.keep(&self.place.data, &nodes) {
            tracing::warn!(%error, "the addresses of the other nodes are not kept");
        }
    }
}
