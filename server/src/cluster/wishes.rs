//! What an owner wants of its replicas: how many, in which regions, others in place of those that
//! don't answer. The directory's leader writes it; what can't be done, or not now, is told with it.

use std::sync::Arc;

use sql::catalog::{Catalog, Change, Node, NodeState, Object, Placement};
use storage::GroupId;

use super::ask::{Remark, Weight};
use super::plan::{Load, REPLICAS, Seen, count, fill, stands_in};

/// How a lost replica can be replaced again.
const BRING_BACK: &str = "Replicas can be moved while the group has a leader and most of its voters \
    answer: bring nodes of freehold.replicas back.";
/// Where nodes come from.
const START_MORE: &str = "Start another node with --join; freehold.nodes shows where nodes stand.";

/// What is to be written for a wish, and what is to be said of it.
#[derive(Debug, PartialEq)]
pub struct Wished {
    /// Of the directory.
    pub changes: Vec<Change>,
    /// To who has the wish.
    pub remark: Option<Remark>,
}

impl Wished {
    fn refused(whose: &str, why: String, hint: &str) -> Wished {
        let message = format!("the replicas of {whose} can't be moved now");
        Wished {
            changes: Vec::new(),
            remark: Some(Remark::new(Weight::Error, message, why, hint)),
        }
    }
}

/// Other wishes for a group: how many voters, in which regions.
pub fn alter(
    catalog: &Catalog,
    group: GroupId,
    replicas: Option<u32>,
    regions: Option<Vec<String>>,
    seen: &Seen,
) -> Wished {
    let old = catalog.placement(group);
    let whose = whose(catalog, group);
    let led = seen.led.get(&group);
    let mut new = match (old, led) {
        (Some(old), _) => Placement::clone(old),
        // A node that was always alone has written nothing down.
        (None, Some(voters)) if !voters.is_empty() => Placement {
            group: group.0,
            replicas: REPLICAS,
            regions: Vec::new(),
            voters: voters.clone(),
            learners: Vec::new(),
            made: true,
            leaving: Some(Vec::new()),
        },
        (None, _) => {
            let hint = "Try again when it is: freehold.groups shows it.";
            return Wished::refused(&whose, "Its group is not made yet.".into(), hint);
        }
    };
    new.replicas = replicas.unwrap_or(new.replicas);
    new.regions = regions.unwrap_or(new.regions);
    let remark = match old {
        Some(old) if **old == new => Some(Remark::new(
            Weight::Notice,
            format!("nothing else is wanted of the replicas of {whose} than before"),
            String::new(),
            "",
        )),
        _ => obstacle(catalog, &new, &whose, seen),
    };
    let changes = match old {
        Some(old) => replaced(old, new),
        None => vec![Change::create(
            GroupId::DIRECTORY,
            Object::Placement(new.into()),
        )],
    };
    Wished { changes, remark }
}

/// Why what is wanted does not come now.
fn obstacle(catalog: &Catalog, wanted: &Placement, whose: &str, seen: &Seen) -> Option<Remark> {
    let warn = |why: String, hint| {
        let message = format!("the replicas of {whose} do not move now");
        Some(Remark::new(Weight::Warning, message, why, hint))
    };
    if let Some(why) = stuck(wanted, seen) {
        return warn(why, BRING_BACK);
    }
    let there: Vec<&Arc<Node>> = catalog
        .nodes()
        .filter(|node| node.state == NodeState::Active && seen.live.contains(&node.number))
        .collect();
    let pinned = there.iter().filter(|n| stands_in(n, &wanted.regions));
    let pinned = pinned.count();
    let (possible, in_regions) = (
        count(wanted.replicas, there.len()),
        count(wanted.replicas, pinned),
    );
    if in_regions < possible {
        let regions = wanted.regions.join(", ");
        let why = format!("In the regions wanted ({regions}) stand {pinned} nodes that answer.");
        return warn(why, "Start nodes there, with --locality region=... .");
    }
    let enough = possible >= wanted.replicas as usize || there.is_empty();
    (!enough).then(|| {
        let message = format!(
            "{possible} of {} replicas of {whose} are made now",
            wanted.replicas
        );
        let why = format!("{pinned} nodes that answer can have one.");
        Remark::new(Weight::Warning, message, why, START_MORE)
    })
}

/// Why a group that is made can't change its voters.
fn stuck(placement: &Placement, seen: &Seen) -> Option<String> {
    let silent = |voters: &[u32]| match &seen.silent(voters)[..] {
        [] => String::new(),
        [node] => format!(" Node {node} does not answer."),
        nodes => format!(" Nodes {} do not answer.", numbers(nodes)),
    };
    match seen.led.get(&GroupId(placement.group)) {
        None => Some(format!(
            "The group has no leader.{}",
            silent(&placement.voters)
        )),
        Some(voters) if !seen.has_quorum(voters) => Some(format!(
            "Most voters of the group are away.{}",
            silent(voters)
        )),
        Some(_) => None,
    }
}

/// Puts nodes that answer in place of up to `wanted` voters that don't, now; nothing changes in a
/// group that could not do it.
pub fn claim(catalog: &Catalog, group: GroupId, wanted: usize, seen: &Seen) -> Wished {
    let whose = whose(catalog, group);
    let Some(old) = catalog.placement(group).filter(|old| old.made) else {
        let hint = "Try again when it is: freehold.groups shows it.";
        return Wished::refused(&whose, "Its group is not made yet.".into(), hint);
    };
    if let Some(why) = stuck(old, seen) {
        return Wished::refused(&whose, why, BRING_BACK);
    }
    let nodes: Vec<&Arc<Node>> = catalog
        .nodes()
        .filter(|node| stands_in(node, &old.regions))
        .collect();
    let load = Load::of(catalog);
    let mut new = Placement::clone(old);
    let silent = seen.silent(&old.voters);
    let mut left = Vec::new();
    for lost in silent.iter().take(wanted) {
        let mut voters = new.voters.clone();
        voters.retain(|voter| voter != lost);
        fill(&mut voters, new.voters.len(), &nodes, seen, &load);
        if voters.len() == new.voters.len() {
            new.voters = voters;
        } else {
            left.push(*lost);
        }
    }
    let now = seen.led.get(&group).map_or(&[][..], |voters| voters);
    new.leaving = seen.leaving(Some(old), now, &new.voters);
    let none = new.voters == old.voters;
    let remark = match &left[..] {
        _ if silent.is_empty() => {
            let message = format!("all voters of {whose} answer: no node is claimed");
            Some(Remark::new(Weight::Notice, message, String::new(), ""))
        }
        [] => None,
        left => {
            let why = format!(
                "No other node {}answers that can take the place of: {}.",
                if old.regions.is_empty() {
                    ""
                } else {
                    "in its regions "
                },
                numbers(left)
            );
            if none {
                return Wished::refused(&whose, why, START_MORE);
            }
            let message = format!("fewer nodes are claimed for {whose} than voters are away");
            Some(Remark::new(Weight::Warning, message, why, START_MORE))
        }
    };
    let changes = match none {
        true => Vec::new(),
        false => replaced(old, new),
    };
    Wished { changes, remark }
}

fn replaced(old: &Arc<Placement>, new: Placement) -> Vec<Change> {
    if **old == new {
        return Vec::new();
    }
    let (old, new) = (
        Object::Placement(Arc::clone(old)),
        Object::Placement(new.into()),
    );
    vec![Change::replace(GroupId::DIRECTORY, old, new)]
}

/// The owner of a group, for a message.
fn whose(catalog: &Catalog, group: GroupId) -> String {
    match catalog.owner_of_group(group) {
        Some(owner) => format!("\"{}\"", catalog.role_name(owner)),
        None => format!("group {group}"),
    }
}

fn numbers(nodes: &[u32]) -> String {
    let nodes: Vec<String> = nodes.iter().map(u32::to_string).collect();
    nodes.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::World;
    use super::*;

    /// One owner on three of these nodes.
    fn world(zones: &[&str]) -> World {
        let mut world = World::new(zones);
        world.seen.led.insert(GroupId::DIRECTORY, vec![1]);
        world.add_owner(1);
        world.settle();
        world
    }

    /// What is said of a wish: its weight and all its texts.
    fn said(wished: &Wished) -> (Weight, String) {
        let remark = wished.remark.clone().expect("something is said");
        let text = format!("{}|{}|{}", remark.message, remark.detail, remark.hint);
        (remark.weight, text)
    }

    #[test]
    fn an_owner_gets_more_replicas_and_fewer_in_the_regions_that_it_wants() {
        let mut world = world(&["a", "b", "c", "d", "e"]);
        let wish = |world: &mut World, replicas, regions: Option<&[&str]>| {
            let regions = regions.map(|all| all.iter().map(|r| (*r).to_owned()).collect());
            let wished = alter(&world.catalog, GroupId(1), replicas, regions, &world.seen);
            world.change(wished.changes.clone());
            world.settle();
            wished
        };
        assert_eq!(wish(&mut world, Some(5), None).remark, None);
        assert_eq!(world.voters(1), [1, 2, 3, 4, 5]);
        assert_eq!(wish(&mut world, Some(3), None).remark, None);
        assert_eq!(world.voters(1).len(), 3);
        let leader = |world: &World| world.catalog.placement(GroupId(1)).unwrap().voters[0];
        let before = leader(&world);
        wish(&mut world, Some(1), None);
        assert_eq!(world.voters(1), [before], "who leads stays");
        // Odd nodes stand in r1, even ones in r0.
        assert_eq!(wish(&mut world, Some(3), Some(&["r1"])).remark, None);
        assert_eq!(world.voters(1), [1, 3, 5]);
        for (region, there) in [("nowhere", 0), ("r0", 2)] {
            let wished = wish(&mut world, None, Some(&[region]));
            assert_eq!(world.voters(1), [1, 3, 5], "too few stand in {region}");
            assert_eq!(wished.changes.len(), 1, "it is wanted all the same");
            let (weight, text) = said(&wished);
            assert_eq!(weight, Weight::Warning);
            let why = format!("({region}) stand {there} nodes that answer");
            assert!(text.contains(&why) && text.contains("--locality"), "{text}");
        }
    }

    #[test]
    fn a_wish_that_changes_nothing_or_waits_says_so() {
        let mut world = world(&["a", "b", "c"]);
        let wish = |world: &World, group, replicas| {
            alter(
                &world.catalog,
                GroupId(group),
                Some(replicas),
                None,
                &world.seen,
            )
        };
        let same = wish(&world, 1, 3);
        assert_eq!((same.changes.len(), said(&same).0), (0, Weight::Notice));
        let more = wish(&world, 1, 5);
        let (weight, text) = said(&more);
        assert_eq!((more.changes.len(), weight), (1, Weight::Warning));
        assert!(text.contains("3 of 5 replicas") && text.contains("--join"));
        // Two of three are away, then nobody leads.
        world.seen.live = [1].into();
        let stuck = wish(&world, 1, 5);
        let (weight, text) = said(&stuck);
        assert_eq!((stuck.changes.len(), weight), (1, Weight::Warning));
        assert!(text.contains("Nodes 2, 3 do not answer"), "{text}");
        world.seen.led.remove(&GroupId(1));
        assert!(said(&wish(&world, 1, 5)).1.contains("has no leader"));
        // Nothing is written where nothing is known.
        let unmade = wish(&world, 2, 5);
        assert_eq!((unmade.changes.len(), said(&unmade).0), (0, Weight::Error));
    }

    #[test]
    fn a_claim_replaces_who_does_not_answer_at_once_or_says_why_not() {
        let mut world = world(&["a", "b", "c"]);
        let claims = |world: &World, count| claim(&world.catalog, GroupId(1), count, &world.seen);
        let refused = |world: &World, why: &str| {
            let wished = claims(world, 1);
            let (weight, text) = said(&wished);
            assert_eq!((wished.changes.len(), weight), (0, Weight::Error), "{text}");
            assert!(text.contains(why), "{text}");
        };
        let all_there = claims(&world, 1);
        assert_eq!(all_there.changes, []);
        assert_eq!(said(&all_there).0, Weight::Notice);
        world.seen.live.remove(&3);
        refused(&world, "can take the place of: 3.");
        world.add_node("d");
        let claimed = claims(&world, 1);
        assert_eq!(claimed.remark, None);
        world.change(claimed.changes);
        assert_eq!(world.voters(1), [1, 2, 4]);
        assert_eq!(said(&claims(&world, 1)).0, Weight::Notice, "it is done");
        world.add_node("e");
        world.seen.live.remove(&2);
        let voters = world.seen.led.insert(GroupId(1), vec![1, 2, 3]);
        refused(&world, "Most voters of the group are away");
        world.seen.led.remove(&GroupId(1));
        world.seen.live.extend([2]);
        refused(&world, "The group has no leader");
        world
            .seen
            .led
            .extend(voters.map(|voters| (GroupId(1), voters)));
        world.seen.live.insert(3);
        world.settle();
        assert_eq!(
            world.voters(1),
            [1, 2, 4],
            "who comes back has nothing any more"
        );
    }

    #[test]
    fn a_claim_of_more_nodes_than_there_are_says_who_is_left() {
        let mut world = world(&["a", "b", "c", "d", "e"]);
        let wished = alter(&world.catalog, GroupId(1), Some(5), None, &world.seen);
        world.change(wished.changes);
        world.settle();
        world.add_node("f");
        for lost in [4, 5] {
            world.seen.live.remove(&lost);
        }
        let claimed = claim(&world.catalog, GroupId(1), 2, &world.seen);
        let (weight, text) = said(&claimed);
        assert_eq!(weight, Weight::Warning);
        assert!(text.contains("the place of: 5."), "{text}");
        world.change(claimed.changes);
        assert_eq!(world.voters(1), [1, 2, 3, 5, 6]);
    }

    #[test]
    fn fewer_replicas_are_those_that_answer() {
        let mut world = world(&["a", "b", "c"]);
        let first = world.catalog.placement(GroupId(1)).unwrap().voters[0];
        world.seen.live.remove(&first);
        let wished = alter(&world.catalog, GroupId(1), Some(1), None, &world.seen);
        world.change(wished.changes);
        world.settle();
        assert_ne!(world.voters(1), [first]);
        assert_eq!(world.voters(1).len(), 1);
    }
}
