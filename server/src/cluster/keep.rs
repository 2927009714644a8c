//! Brings groups to where the directory wants them. The directory's leader writes what it wants;
//! the leader of each group changes its members, one step after the other, and hands over to the
//! voter that should lead; who is named among the first voters of a new group makes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use raft::{NodeId, ReplicaStatus};
use sql::catalog::{Catalog, NodeState, Placement};
use storage::{GroupId, Term};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::leads::{Led, Says};
use super::plan::{Seen, plan};
use super::{Cluster, Parts};

/// Between two looks if nothing is heard of a change.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Groups for which something is done at the same time.
const TASKS_MAX: usize = 8;
/// A change of voters, with the copy that it needs, may take so long; then it is looked at anew.
const TASK_TIME_MAX: Duration = Duration::from_secs(60);
/// Who should lead next may lack so many records.
const NEAR_RECORDS: u64 = 100;
/// A voter must have been there for so long before leadership goes to it.
const SETTLED_AFTER: Duration = Duration::from_secs(5);
/// A voter that did not take the leadership is not asked again for so long; each time twice as
/// long, at most [`OFFER_AGAIN_MAX`].
const OFFER_AGAIN: Duration = Duration::from_secs(10);
const OFFER_AGAIN_MAX: Duration = Duration::from_secs(300);
/// Who is not the first among a new group's voters lets the others make it for so long.
const MAKE_AFTER: Duration = Duration::from_secs(2);

/// Looks after the groups, for ever.
pub async fn keep(cluster: Arc<Cluster>) {
    let mut keeper = Keeper::default();
    loop {
        let leadership = cluster.parts().map(|parts| {
            let leadership = parts.raft.leadership();
            cluster.leads.say(led_here(parts));
            *cluster.voters.lock() = Some(parts.raft.voters());
            keeper.look(&cluster, parts);
            cluster.write_book(parts);
            leadership
        });
        let moved = async {
            match leadership {
                // The node ends when nobody tells of it any more.
                Some(mut leadership) => drop(leadership.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = cluster.changed.notified() => {}
            () = moved => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// What is remembered between two looks.
#[derive(Default)]
struct Keeper {
    /// What is under way: one thing at a time for each group.
    busy: BTreeMap<GroupId, JoinHandle<()>>,
    /// Since when groups are waited for that others should make.
    unmade: BTreeMap<GroupId, Instant>,
    /// Since when nodes have answered without a break.
    there: BTreeMap<u32, Instant>,
    /// In which term leadership was to be handed over before this node leaves the group.
    handed: BTreeMap<GroupId, Term>,
    /// To whom leadership was to go last that should lead.
    offers: BTreeMap<GroupId, Offer>,
    /// The group for which something was begun last: the others have their turn first.
    served: Option<GroupId>,
}

/// Leadership was to go to a node.
struct Offer {
    to: u32,
    at: Instant,
    /// It has failed if this node leads still, or again, before that.
    wait: Duration,
}

impl Offer {
    /// Another one to a node, unless it is too early for that.
    fn again(before: Option<&Offer>, to: u32, now: Instant) -> Option<Offer> {
        let wait = match before.filter(|before| before.to == to) {
            Some(before) if now < before.at + before.wait => return None,
            Some(before) if now < before.at + 3 * before.wait => {
                (2 * before.wait).min(OFFER_AGAIN_MAX)
            }
            _ => OFFER_AGAIN,
        };
        Some(Offer { to, at: now, wait })
    }
}

/// What this node has to do for a group.
enum Task {
    /// Make it.
    Make,
    /// Change its members.
    Change,
    /// Hand over its leadership.
    HandOver(u32),
    /// End the replica here.
    End,
}

impl Keeper {
    fn look(&mut self, cluster: &Arc<Cluster>, parts: &Parts) {
        let now = Instant::now();
        let mut live = cluster.heard.live(now);
        live.insert(cluster.me());
        self.there.retain(|node, _| live.contains(node));
        for node in &live {
            self.there.entry(*node).or_insert(now);
        }
        write_plan(cluster, parts);
        self.busy.retain(|_, task| !task.is_finished());
        let catalog = parts.engine.catalog();
        let mut placements: Vec<&Arc<Placement>> = catalog.placements().collect();
        placements.sort_by_key(|p| (Some(GroupId(p.group)) <= self.served, p.group));
        for placement in placements {
            let id = GroupId(placement.group);
            if self.busy.len() >= TASKS_MAX || self.busy.contains_key(&id) {
                continue;
            }
            if let Some(task) = self.task(cluster, parts, placement) {
                let (cluster, placement) = (cluster.clone(), placement.clone());
                let doing = async move { cluster.bring(&placement, task).await };
                self.busy.insert(id, tokio::spawn(doing));
                self.served = Some(id);
            }
        }
        self.handed.retain(|id, _| catalog.placement(*id).is_some());
        self.offers.retain(|id, _| catalog.placement(*id).is_some());
        self.unmade
            .retain(|id, _| catalog.placement(*id).is_some_and(|p| !p.made));
    }

    fn task(&mut self, cluster: &Cluster, parts: &Parts, placement: &Placement) -> Option<Task> {
        let id = GroupId(placement.group);
        let me = cluster.me();
        let group = parts.engine.groups().get(id);
        if let Some(term) = group.and_then(|group| group.term()) {
            return self.task_of_leader(cluster, parts, placement, term);
        }
        if placement.made {
            let placed = placement.is_on(me);
            let held = !parts.raft.replicas(id).is_empty();
            return (held && !placed).then_some(Task::End);
        }
        if parts.raft.leader(id).is_some() || !placement.voters.contains(&me) {
            return None;
        }
        let since = *self.unmade.entry(id).or_insert_with(Instant::now);
        let first = placement.voters.first() == Some(&me);
        (first || since.elapsed() >= MAKE_AFTER).then_some(Task::Make)
    }

    fn task_of_leader(
        &mut self,
        cluster: &Cluster,
        parts: &Parts,
        placement: &Placement,
        term: Term,
    ) -> Option<Task> {
        let id = GroupId(placement.group);
        let replicas = parts.raft.replicas(id);
        let are = |voter: bool| -> BTreeSet<NodeId> {
            let of = replicas.iter().filter(|replica| replica.voter == voter);
            of.map(|replica| replica.node).collect()
        };
        let is_near = |replica: &&ReplicaStatus| replica.lag.is_some_and(|lag| lag < NEAR_RECORDS);
        if are(true) != nodes(&placement.voters) || are(false) != nodes(&placement.learners) {
            if placement.voters.contains(&cluster.me()) {
                return Some(Task::Change);
            }
            // Who leaves hands over first, if that works at once: then what is under way is decided
            // here, and not in doubt.
            let stays = |replica: &&ReplicaStatus| {
                let node = replica.node.0;
                replica.voter && placement.voters.contains(&node) && cluster.can_lead(node)
            };
            let heir = replicas.iter().filter(stays).find(is_near);
            let tried = self.handed.insert(id, term) == Some(term);
            let heir = heir.filter(|_| !tried);
            return Some(heir.map_or(Task::Change, |heir| Task::HandOver(heir.node.0)));
        }
        let preferred = *placement.voters.first()?;
        let catalog = parts.engine.catalog();
        let active = catalog.node(preferred)?.state == NodeState::Active;
        let settled = self.there.get(&preferred)?.elapsed() >= SETTLED_AFTER;
        let of_preferred = replicas.iter().filter(|r| r.node.0 == preferred);
        let near = of_preferred.filter(is_near).count() > 0;
        let willing = active && !cluster.heard.is_draining(preferred);
        if preferred == cluster.me() || !willing || !settled || !near {
            return None;
        }
        // One whose disk stands still answers, but never leads: meanwhile nobody would.
        let offer = Offer::again(self.offers.get(&id), preferred, Instant::now())?;
        self.offers.insert(id, offer);
        Some(Task::HandOver(preferred))
    }
}

impl Cluster {
    /// Does what is to be done for a group. What fails is tried again after the next look.
    async fn bring(&self, placement: &Placement, task: Task) {
        let Some(parts) = self.parts() else { return };
        let id = GroupId(placement.group);
        let (voters, learners) = (nodes(&placement.voters), nodes(&placement.learners));
        let doing = async {
            match task {
                Task::Make => {
                    let above = parts.engine.catalog().as_of(GroupId::DIRECTORY);
                    let voters: Vec<NodeId> = voters.iter().copied().collect();
                    match parts.raft.make(id, above, &voters).await {
                        Ok(()) | Err(raft::Error::NotLeader(_)) => self.note_change(),
                        Err(error) => tracing::warn!(group = %id, %error, "not made yet"),
                    }
                }
                Task::Change => {
                    let (to, copies) = (&placement.voters, &placement.learners);
                    tracing::info!(group = %id, voters = ?to, learners = ?copies, "changing members");
                    match parts.raft.change_members(id, &voters, &learners).await {
                        Ok(()) => tracing::info!(group = %id, voters = ?to, "changed members"),
                        Err(error) => tracing::info!(group = %id, %error, "not changed yet"),
                    }
                }
                Task::HandOver(to) => match parts.raft.transfer(id, NodeId(to)).await {
                    Ok(()) => tracing::info!(group = %id, to, "handed over"),
                    Err(error) => tracing::info!(group = %id, to, %error, "not handed over"),
                },
                Task::End => match parts.raft.removed(id, &voters).await {
                    Ok(true) => tracing::info!(group = %id, "this node has it no more"),
                    Ok(false) => {}
                    Err(error) => tracing::warn!(group = %id, %error, "it does not end here"),
                },
            }
        };
        if tokio::time::timeout(TASK_TIME_MAX, doing).await.is_err() {
            tracing::info!(group = %id, voters = ?placement.voters, "not where it should be yet");
        }
    }
}

fn nodes(of: &[u32]) -> BTreeSet<NodeId> {
    of.iter().copied().map(NodeId).collect()
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
    let silent = others.iter().filter(|node| !live.contains(node));
    lost.extend(silent.filter(|node| is_succeeded(&catalog, **node)));
    let owned = catalog.owners().map(|(_, group)| group);
    let led = |id: GroupId| {
        let replicas = parts.raft.replicas(id);
        if replicas.is_empty() {
            let (_, led) = cluster.leads.leader(id, |node| live.contains(&node))?;
            return Some((id, led.voters));
        }
        parts.raft.leader(id)?;
        Some((id, voters(replicas)))
    };
    let all = std::iter::once(GroupId::DIRECTORY).chain(owned);
    let led = all.filter_map(led).collect();
    Seen { live, lost, led }
}

/// What this node leads.
fn led_here(parts: &Parts) -> Says {
    let groups = parts.engine.groups().all().into_iter();
    let led = groups.filter_map(|group| {
        let (id, term) = (group.id(), group.term()?.0);
        let voters = voters(parts.raft.replicas(id));
        Some(Led {
            group: id.0,
            term,
            voters,
        })
    });
    led.collect()
}

fn voters(replicas: Vec<ReplicaStatus>) -> Vec<u32> {
    let voters = replicas.into_iter().filter(|replica| replica.voter);
    voters.map(|replica| replica.node.0).collect()
}

/// Has another folder taken a node's address, so that it can't come back there? Its own was lost.
fn is_succeeded(catalog: &Catalog, node: u32) -> bool {
    let Some(node) = catalog.node(node) else {
        return false;
    };
    let mut later = catalog.nodes().filter(|other| other.number > node.number);
    let same = |other: &str| other == node.address && !other.is_empty();
    later.any(|other| same(&other.address) && other.state != NodeState::Gone)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_take_the_leadership_is_asked_more_and_more_seldom() {
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let first = Offer::again(None, 2, begun).unwrap();
        assert!(Offer::again(Some(&first), 2, after(9)).is_none());
        let second = Offer::again(Some(&first), 2, after(10)).unwrap();
        assert_eq!(second.wait, 2 * OFFER_AGAIN);
        assert!(Offer::again(Some(&second), 2, after(29)).is_none());
        let other = Offer::again(Some(&second), 3, after(11)).unwrap();
        assert_eq!(other.wait, OFFER_AGAIN, "another one may take it");
        let later = Offer::again(Some(&second), 2, after(1000)).unwrap();
        assert_eq!(later.wait, OFFER_AGAIN, "it has led meanwhile");
    }
}
