//! Where the replicas of groups should be: a pure function of the directory and of who is there.
//! The directory's leader asks it whenever something has changed, and commits what it wants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sql::catalog::{Catalog, Change, Node, NodeState, Object, Placement};
use storage::GroupId;

/// Voters of a group unless its owner wants another number.
pub const REPLICAS: u32 = 3;
/// Voters of the directory at most; on the other nodes are copies of it.
const DIRECTORY_VOTERS_MAX: u32 = 5;

/// What the directory's leader knows besides the directory.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Nodes that answer.
    pub live: BTreeSet<u32>,
    /// Nodes that have not answered for so long that their replicas are to be replaced.
    pub lost: BTreeSet<u32>,
    /// Groups that have a leader, and which nodes vote there now.
    pub led: BTreeMap<GroupId, Vec<u32>>,
}

impl Seen {
    /// Do most of these voters answer?
    pub(super) fn has_quorum(&self, voters: &[u32]) -> bool {
        let live = voters.iter().filter(|voter| self.live.contains(voter));
        voters.is_empty() || 2 * live.count() > voters.len()
    }

    /// Of these voters, those that don't answer.
    pub(super) fn silent(&self, voters: &[u32]) -> Vec<u32> {
        let silent = voters.iter().filter(|voter| !self.live.contains(voter));
        silent.copied().collect()
    }

    /// May a group need what a node has of it? Of one without a leader nobody says who votes: it
    /// may be all who were to, or have done so before.
    fn may_need(&self, placement: &Placement, node: u32) -> bool {
        let votes = self.led.get(&GroupId(placement.group));
        let may = match votes {
            Some(voters) => voters.contains(&node),
            None if placement.made => {
                let left = placement.leaving.as_ref();
                placement.learners.contains(&node) || left.is_none_or(|l| l.contains(&node))
            }
            None => false,
        };
        may || placement.voters.contains(&node)
    }

    /// Who may vote in a group with a leader beside those who shall from now on. `now`: who does.
    pub(super) fn leaving(
        &self,
        old: Option<&Placement>,
        now: &[u32],
        voters: &[u32],
    ) -> Option<Vec<u32>> {
        let mut leaving: BTreeSet<u32> = now.iter().copied().collect();
        if let Some(old) = old {
            let settled = leaving == old.voters.iter().copied().collect();
            if !settled {
                leaving.extend(&old.voters);
                leaving.extend(old.leaving.as_ref()?);
            }
        }
        leaving.retain(|node| !voters.contains(node));
        Some(leaving.into_iter().collect())
    }
}

/// What must change in the directory.
pub fn plan(catalog: &Catalog, seen: &Seen) -> Vec<Change> {
    let mut changes = Vec::new();
    let nodes: Vec<&Arc<Node>> = catalog
        .nodes()
        .filter(|node| node.state != NodeState::Gone && !node.address.is_empty())
        .collect();
    if nodes.is_empty() {
        return changes;
    }
    let mut load = Load::of(catalog);
    let groups = catalog.owners().map(|(_, group)| group);
    for group in std::iter::once(GroupId::DIRECTORY).chain(groups) {
        let old = catalog.placement(group);
        let led = seen.led.get(&group);
        let wanted = match (old, led) {
            // It is being made: its first voters stay what they are.
            (Some(old), None) if !old.made => continue,
            // Nobody knows how it is: nothing is changed blindly.
            (Some(_), None) => continue,
            (None, None) if group == GroupId::DIRECTORY => continue,
            (None, None) => first(group, &nodes, seen, &load),
            // Whoever says that he leads can't: what was written now would be done by nobody.
            (Some(_), Some(voters)) if !seen.has_quorum(voters) => continue,
            (old, Some(voters)) => next(group, old.map(|p| &**p), voters, &nodes, seen, &load),
        };
        if old.is_none_or(|old| **old != wanted) {
            load.replace(old.map(|p| &**p), &wanted);
            let new = Object::Placement(Arc::new(wanted));
            changes.push(match old {
                Some(old) => {
                    let old = Object::Placement(Arc::clone(old));
                    Change::replace(GroupId::DIRECTORY, old, new)
                }
                None => Change::create(GroupId::DIRECTORY, new),
            });
        }
    }
    // Who was replaced everywhere is gone for good: what its folder has is no longer true.
    let next = catalog.with(&changes);
    // As long as it votes somewhere, its folder may be what that group is saved by.
    let used = |number: u32| next.placements().any(|p| seen.may_need(p, number));
    let written = next.placement(GroupId::DIRECTORY).is_some();
    for node in nodes {
        if written && seen.lost.contains(&node.number) && !used(node.number) {
            let gone = Node {
                state: NodeState::Gone,
                ..Node::clone(node)
            };
            let (old, new) = (Object::Node(Arc::clone(node)), Object::Node(gone.into()));
            changes.push(Change::replace(GroupId::DIRECTORY, old, new));
        }
    }
    changes
}

/// How much each node has.
pub(super) struct Load {
    replicas: BTreeMap<u32, i64>,
    leads: BTreeMap<u32, i64>,
}

impl Load {
    pub(super) fn of(catalog: &Catalog) -> Load {
        let mut load = Load {
            replicas: BTreeMap::new(),
            leads: BTreeMap::new(),
        };
        for placement in catalog.placements() {
            load.count(placement, 1);
        }
        load
    }

    fn count(&mut self, placement: &Placement, sign: i64) {
        if placement.group == GroupId::DIRECTORY.0 {
            return;
        }
        for node in &placement.voters {
            *self.replicas.entry(*node).or_default() += sign;
        }
        if let Some(leader) = placement.voters.first() {
            *self.leads.entry(*leader).or_default() += sign;
        }
    }

    fn replace(&mut self, old: Option<&Placement>, new: &Placement) {
        if let Some(old) = old {
            self.count(old, -1);
        }
        self.count(new, 1);
    }

    fn replicas(&self, node: u32) -> i64 {
        self.replicas.get(&node).copied().unwrap_or_default()
    }

    fn leads(&self, node: u32) -> i64 {
        self.leads.get(&node).copied().unwrap_or_default()
    }
}

/// The first voters of a new group.
fn first(group: GroupId, nodes: &[&Arc<Node>], seen: &Seen, load: &Load) -> Placement {
    let replicas = REPLICAS;
    let mut voters = Vec::new();
    fill(&mut voters, count(replicas, nodes.len()), nodes, seen, load);
    prefer(&mut voters, seen, load);
    Placement {
        group: group.0,
        replicas,
        regions: Vec::new(),
        voters,
        learners: Vec::new(),
        made: false,
        leaving: Some(Vec::new()),
    }
}

/// What a group that has a leader should come to. `now`: who votes.
fn next(
    group: GroupId,
    old: Option<&Placement>,
    now: &[u32],
    nodes: &[&Arc<Node>],
    seen: &Seen,
    load: &Load,
) -> Placement {
    let replicas = old.map_or(REPLICAS, |old| old.replicas);
    let regions = old.map_or_else(Vec::new, |old| old.regions.clone());
    let mut pinned: Vec<&Arc<Node>> = nodes
        .iter()
        .copied()
        .filter(|node| stands_in(node, &regions))
        .collect();
    if count(replicas, pinned.len()) < count(replicas, nodes.len()) {
        // Rather elsewhere than on fewer nodes than there could be.
        pinned = nodes.to_vec();
    }
    let mut voters = old.map_or_else(|| now.to_vec(), |old| old.voters.clone());
    let wanted = match group {
        GroupId::DIRECTORY => count(DIRECTORY_VOTERS_MAX, nodes.len()),
        _ => count(replicas, pinned.len()),
    };
    // Who is lost, or not where it should be, goes when there is another one to come.
    let there = |voter: &u32| pinned.iter().any(|node| node.number == *voter);
    let lost = |voter: &u32| seen.lost.contains(voter) || !there(voter);
    let kept: Vec<u32> = voters.iter().copied().filter(|v| !lost(v)).collect();
    if kept.len() < voters.len() {
        let mut replaced = kept;
        fill(&mut replaced, wanted, &pinned, seen, load);
        if wanted > 0 && replaced.len() >= voters.len().min(wanted) {
            voters = replaced;
        }
    }
    let before = voters.clone();
    fill(&mut voters, wanted, &pinned, seen, load);
    if voters.len() > before.len() && voters.len().is_multiple_of(2) {
        // Of those that are wanted only some answer yet.
        voters.pop();
    }
    if wanted > 0 && voters.len() > wanted {
        drop_some(&mut voters, wanted, seen, load);
    }
    if voters != before || old.is_none() {
        prefer(&mut voters, seen, load);
    }
    let learners = match group {
        GroupId::DIRECTORY => others(&voters, nodes),
        // A second node alone can't vote, but it can have a copy.
        _ if voters.len() == 1 && pinned.len() == 2 && replicas > 1 => others(&voters, &pinned),
        _ => Vec::new(),
    };
    Placement {
        group: group.0,
        replicas,
        regions,
        leaving: seen.leaving(old, now, &voters),
        voters,
        learners,
        made: true,
    }
}

/// The nodes that do not vote.
fn others(voters: &[u32], nodes: &[&Arc<Node>]) -> Vec<u32> {
    let numbers = nodes.iter().map(|node| node.number);
    numbers.filter(|node| !voters.contains(node)).collect()
}

/// How many voters: an odd number, since a second one alone makes it only worse.
pub(super) fn count(replicas: u32, nodes: usize) -> usize {
    let possible = nodes.min(replicas as usize);
    possible - usize::from(possible > 0 && possible.is_multiple_of(2))
}

/// Adds nodes until there are enough: those that answer, in a zone that has none yet, with the
/// fewest replicas.
pub(super) fn fill(
    voters: &mut Vec<u32>,
    wanted: usize,
    nodes: &[&Arc<Node>],
    seen: &Seen,
    load: &Load,
) {
    while voters.len() < wanted {
        let zones: BTreeSet<_> = nodes
            .iter()
            .filter(|node| voters.contains(&node.number))
            .filter_map(|node| node.locality.get("zone"))
            .collect();
        let free = nodes.iter().filter(|node| {
            node.state == NodeState::Active
                && seen.live.contains(&node.number)
                && !voters.contains(&node.number)
        });
        let rank = |node: &&&Arc<Node>| {
            let zone = node.locality.get("zone");
            let crowded = zone.is_some_and(|zone| zones.contains(zone));
            (crowded, load.replicas(node.number), node.number)
        };
        match free.min_by_key(rank) {
            Some(node) => voters.push(node.number),
            None => return,
        }
    }
}

/// Takes voters away until there are as few as wanted: first those that don't answer, then those
/// with the most replicas; the one that should lead stays if it answers.
fn drop_some(voters: &mut Vec<u32>, wanted: usize, seen: &Seen, load: &Load) {
    while voters.len() > wanted.max(1) {
        let rank = |at: &usize| {
            let node = voters[*at];
            (!seen.live.contains(&node), load.replicas(node), node)
        };
        let first = usize::from(seen.live.contains(&voters[0]));
        match (first..voters.len()).max_by_key(rank) {
            Some(at) => voters.remove(at),
            None => return,
        };
    }
}

/// Does a node stand in one of these regions (none: anywhere)?
pub(super) fn stands_in(node: &Node, regions: &[String]) -> bool {
    let region = node.locality.get("region");
    regions.is_empty() || region.is_some_and(|region| regions.contains(region))
}

/// Puts the voter first that leads the fewest groups.
fn prefer(voters: &mut [u32], seen: &Seen, load: &Load) {
    let rank = |at: &usize| {
        let node = voters[*at];
        (!seen.live.contains(&node), load.leads(node), node)
    };
    if let Some(best) = (0..voters.len()).min_by_key(rank) {
        voters.swap(0, best);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use sql::catalog::{Owner, RoleId};

    use super::*;

    /// A directory with nodes in zones and owners, and what is made of it step by step.
    pub struct World {
        pub catalog: Catalog,
        pub seen: Seen,
    }

    impl World {
        pub fn new(zones: &[&str]) -> World {
            let mut world = World {
                catalog: Catalog::default(),
                seen: Seen::default(),
            };
            for zone in zones {
                world.add_node(zone);
            }
            world
        }

        pub fn add_node(&mut self, zone: &str) {
            let number = self.catalog.nodes().count() as u32 + 1;
            let node = Node {
                number,
                incarnation: String::new(),
                address: format!("n{number}:1"),
                client_address: String::new(),
                locality: [
                    ("zone".to_owned(), zone.to_owned()),
                    ("region".to_owned(), format!("r{}", number % 2)),
                ]
                .into(),
                state: NodeState::Active,
            };
            self.seen.live.insert(number);
            self.change(vec![Change::create(
                GroupId::DIRECTORY,
                Object::Node(node.into()),
            )]);
        }

        pub fn add_owner(&mut self, group: u32) {
            let role = RoleId(1000 + group);
            let owner = Object::Owner(Owner { role, group });
            self.change(vec![Change::create(GroupId::DIRECTORY, owner)]);
        }

        pub fn change(&mut self, changes: Vec<Change>) {
            self.catalog = self.catalog.with(&changes);
        }

        /// Plans, and lets every group become what was planned.
        pub fn settle(&mut self) {
            for _ in 0..4 {
                let changes = plan(&self.catalog, &self.seen);
                self.change(changes);
                for placement in self.catalog.placements() {
                    let voters = placement.voters.clone();
                    self.seen.led.insert(GroupId(placement.group), voters);
                }
            }
            assert_eq!(plan(&self.catalog, &self.seen), [], "it comes to rest");
        }

        pub fn voters(&self, group: u32) -> Vec<u32> {
            let placement = self.catalog.placement(GroupId(group)).unwrap();
            let mut voters = placement.voters.clone();
            voters.sort_unstable();
            voters
        }
    }

    #[test]
    fn groups_grow_from_one_replica_to_three_as_nodes_join() {
        let mut world = World::new(&["a"]);
        world.seen.led.insert(GroupId::DIRECTORY, vec![1]);
        world.add_owner(1);
        world.settle();
        assert_eq!((world.voters(0), world.voters(1)), (vec![1], vec![1]));
        world.add_node("b");
        world.settle();
        assert_eq!(
            (world.voters(0), world.voters(1)),
            (vec![1], vec![1]),
            "two voters stop when one of them does"
        );
        for group in [0, 1] {
            let placement = world.catalog.placement(GroupId(group)).unwrap();
            assert_eq!(placement.learners, [2], "it has a copy");
        }
        world.add_node("c");
        world.seen.live.remove(&3);
        world.settle();
        assert_eq!(world.voters(0), [1], "the third one does not answer yet");
        world.seen.live.insert(3);
        world.settle();
        assert_eq!(
            (world.voters(0), world.voters(1)),
            (vec![1, 2, 3], vec![1, 2, 3])
        );
        world.add_node("a");
        world.settle();
        assert_eq!(world.voters(0).len(), 3);
        let directory = world.catalog.placement(GroupId::DIRECTORY).unwrap();
        assert_eq!(directory.learners, [4], "every node has the directory");
        world.add_node("b");
        world.settle();
        assert_eq!(world.voters(0), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn replicas_spread_over_zones_and_leaders_over_nodes() {
        let mut world = World::new(&["a", "a", "b", "b", "c", "c"]);
        world.seen.led.insert(GroupId::DIRECTORY, vec![1]);
        for group in 1..=12 {
            world.add_owner(group);
        }
        world.settle();
        let mut leads = BTreeMap::<u32, u32>::new();
        let mut replicas = BTreeMap::<u32, u32>::new();
        for group in 1..=12 {
            let voters = world.voters(group);
            let zones: BTreeSet<u32> = voters.iter().map(|node| (node - 1) / 2).collect();
            assert_eq!(zones.len(), 3, "group {group} on {voters:?}");
            let placement = world.catalog.placement(GroupId(group)).unwrap();
            *leads.entry(placement.voters[0]).or_default() += 1;
            for node in voters {
                *replicas.entry(node).or_default() += 1;
            }
        }
        assert_eq!(replicas.values().max(), Some(&6), "{replicas:?}");
        assert_eq!(replicas.values().min(), Some(&6), "{replicas:?}");
        assert_eq!(leads.values().max(), Some(&2), "{leads:?}");
    }

    #[test]
    fn a_lost_node_is_replaced_only_if_there_is_another_one() {
        let mut world = World::new(&["a", "b", "c"]);
        world.seen.led.insert(GroupId::DIRECTORY, vec![1]);
        world.add_owner(1);
        world.settle();
        world.seen.live.remove(&2);
        world.seen.lost.insert(2);
        world.settle();
        assert_eq!(world.voters(1), [1, 2, 3], "it may come back");
        world.add_node("b");
        world.settle();
        assert_eq!(world.voters(1), [1, 3, 4]);
        assert_eq!(world.voters(0), [1, 3, 4]);
        let state = |number| world.catalog.node(number).map(|node| node.state);
        assert_eq!(state(2), Some(NodeState::Gone));
        assert_eq!(state(3), Some(NodeState::Active));
    }

    #[test]
    fn a_group_that_is_being_made_keeps_its_first_voters() {
        let mut world = World::new(&["a", "b", "c"]);
        world.seen.led.insert(GroupId::DIRECTORY, vec![1]);
        world.add_owner(1);
        let changes = plan(&world.catalog, &world.seen);
        world.change(changes);
        let made = |world: &World| world.catalog.placement(GroupId(1)).unwrap().made;
        assert!(!made(&world));
        world.seen.lost.insert(3);
        world.add_node("d");
        let changes = plan(&world.catalog, &world.seen);
        world.change(changes);
        assert_eq!(world.voters(1), [1, 2, 3]);
        world.seen.led.insert(GroupId(1), vec![1, 2, 3]);
        world.settle();
        assert!(made(&world));
        assert_eq!(world.voters(1), [1, 2, 4]);
    }

    #[test]
    fn without_a_quorum_nobody_is_replaced_and_who_still_votes_is_not_gone() {
        let mut world = World::new(&["a", "b", "c", "d", "e", "f"]);
        world.seen.led.insert(GroupId::DIRECTORY, vec![1]);
        world.settle();
        world.add_owner(1);
        world.settle();
        let voters = world.voters(1);
        let state = |world: &World, number| world.catalog.node(number).unwrap().state;
        // Two of its three: the third one may still think that it leads.
        for node in &voters[1..] {
            world.seen.live.remove(node);
            world.seen.lost.insert(*node);
        }
        let changes = plan(&world.catalog, &world.seen);
        world.change(changes);
        assert_eq!(world.voters(1), voters);
        // One of them is back, so the other one can be replaced, and is gone when it votes no more.
        world.seen.live.insert(voters[1]);
        world.seen.lost.remove(&voters[1]);
        for _ in 0..3 {
            let changes = plan(&world.catalog, &world.seen);
            world.change(changes);
        }
        assert!(!world.voters(1).contains(&voters[2]));
        assert_ne!(state(&world, voters[2]), NodeState::Gone);
        world.settle();
        assert_eq!(state(&world, voters[2]), NodeState::Gone);
    }

    #[test]
    fn nobody_is_gone_while_a_group_has_no_leader() {
        let mut world = World::new(&["a", "b", "c", "d"]);
        world.seen.led.insert(GroupId::DIRECTORY, vec![4]);
        world.add_owner(1);
        world.settle();
        let voters = world.voters(1);
        let lost = voters[0];
        world.seen.live.remove(&lost);
        world.seen.lost.insert(lost);
        let changes = plan(&world.catalog, &world.seen);
        world.change(changes);
        assert!(!world.voters(1).contains(&lost), "another one is to come");
        // The leader that was copying to the other one falls.
        world.seen.led.remove(&GroupId(1));
        let state = |world: &World| world.catalog.node(lost).unwrap().state;
        for _ in 0..3 {
            let changes = plan(&world.catalog, &world.seen);
            world.change(changes);
        }
        assert_eq!(state(&world), NodeState::Active, "its vote is needed");
        world.seen.led.insert(GroupId(1), voters);
        world.settle();
        assert_eq!(state(&world), NodeState::Gone);
    }

    /// Two groups, of which nobody leads the second one any more.
    #[test]
    fn a_group_without_a_leader_keeps_only_the_nodes_that_it_may_need() {
        let mut world = World::new(&["a", "b", "c"]);
        world.seen.led.insert(GroupId::DIRECTORY, vec![1]);
        world.add_owner(1);
        world.add_owner(2);
        world.settle();
        for number in 4..=12 {
            world.add_node(&format!("z{number}"));
        }
        world.settle();
        let state = |world: &World, number| world.catalog.node(number).unwrap().state;
        let lose = |world: &mut World, node| {
            world.seen.live.remove(&node);
            world.seen.lost.insert(node);
        };
        // All but the second group become what is planned.
        let go_on = |world: &mut World| {
            for _ in 0..4 {
                let changes = plan(&world.catalog, &world.seen);
                world.change(changes);
                for group in [GroupId::DIRECTORY, GroupId(1)] {
                    let voters = world.catalog.placement(group).unwrap().voters.clone();
                    world.seen.led.insert(group, voters);
                }
            }
        };
        // One of its voters is to be replaced; before that is done its leader falls.
        lose(&mut world, 3);
        go_on(&mut world);
        let shall = world.voters(2);
        assert!(!shall.contains(&3), "another one is to come");
        assert_eq!(state(&world, 3), NodeState::Active, "it votes still");
        world.seen.led.remove(&GroupId(2));
        let other = world.voters(1);
        let free = |node: &u32| !shall.contains(node) && !other.contains(node);
        let mut free = (4..=12).filter(free);
        let (free, another) = (free.next().unwrap(), free.next().unwrap());
        let voter = shall[2];
        lose(&mut world, voter);
        lose(&mut world, free);
        go_on(&mut world);
        for group in [0, 1] {
            let voters = world.voters(group);
            let lost = voters.iter().any(|node| world.seen.lost.contains(node));
            assert!(!lost, "group {group} on {voters:?}");
        }
        assert_eq!(state(&world, free), NodeState::Gone, "it has nothing");
        for node in [3, voter] {
            let may = "its vote may be needed";
            assert_eq!(state(&world, node), NodeState::Active, "{may}");
        }
        // Of a row that is older than this nobody knows.
        let old = world.catalog.placement(GroupId(2)).unwrap().clone();
        let older = Placement {
            leaving: None,
            ..Placement::clone(&old)
        };
        let (old, older) = (Object::Placement(old), Object::Placement(older.into()));
        world.change(vec![Change::replace(GroupId::DIRECTORY, old, older)]);
        lose(&mut world, another);
        go_on(&mut world);
        assert_eq!(state(&world, another), NodeState::Active);
        // It is led again.
        world.seen.led.insert(GroupId(2), shall.clone());
        world.settle();
        for node in [3, voter, another] {
            assert_eq!(state(&world, node), NodeState::Gone, "{node}");
        }
    }
}
