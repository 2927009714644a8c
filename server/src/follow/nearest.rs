//! From whom a follower gets a group: any node that holds it by Raft, the nearest first.

use std::collections::BTreeMap;
use std::time::Duration;

use sql::catalog::{Catalog, Placement};
use storage::GroupId;

use crate::cluster::Cluster;

/// Round trips below this are alike.
const ALIKE: Duration = Duration::from_millis(1);

/// What is known of a node that could be a source.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// It answers.
    live: bool,
    /// The time to it and back, if it was measured.
    round_trip: Option<Duration>,
}

/// The other nodes that hold a group, as far as this node knows, in the order in which they are to
/// be asked.
pub fn holders(cluster: &Cluster, group: GroupId) -> Vec<u32> {
    let Some(catalog) = cluster.catalog() else {
        return Vec::new();
    };
    let Some(placement) = catalog.placement(group) else {
        return Vec::new();
    };
    let seen = |node| Seen {
        live: cluster.is_live(node),
        round_trip: cluster.round_trip(node),
    };
    sources(&catalog, placement, cluster.me(), seen)
}

/// The nodes to ask, in the order in which they are: those that answer first, of these those of
/// the same zone, then of the same region, then by the time to them and back. Among the rest
/// those that need not lead come first, and different followers take different ones.
fn sources(
    catalog: &Catalog,
    placement: &Placement,
    me: u32,
    seen: impl Fn(u32) -> Seen,
) -> Vec<u32> {
    let nobody = BTreeMap::new();
    let locality = |node: u32| catalog.node(node).map_or(&nobody, |node| &node.locality);
    let here = locality(me);
    let holders = placement.voters.iter().chain(&placement.learners).copied();
    let mut sources: Vec<u32> = holders.filter(|node| *node != me).collect();
    sources.sort_by_cached_key(|node| {
        let seen = seen(*node);
        (
            !seen.live,
            distance(here, locality(*node)),
            round_trip_class(seen.round_trip),
            placement.voters.first() == Some(node),
            turn(placement.group, me, *node),
        )
    });
    sources.dedup();
    sources
}

/// 0: the same zone of the same region; 1: the same region; 2: not known to be near.
fn distance(here: &BTreeMap<String, String>, there: &BTreeMap<String, String>) -> u8 {
    let same = |key: &str| match (here.get(key), there.get(key)) {
        (Some(here), Some(there)) => Some(here == there),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => Some(false),
    };
    match (same("region"), same("zone")) {
        (Some(true) | None, Some(true)) => 0,
        (Some(true), Some(false) | None) => 1,
        (Some(false), _) | (None, Some(false) | None) => 2,
    }
}

/// Times that differ by less than a factor of two are alike: they are never the same twice.
fn round_trip_class(time: Option<Duration>) -> u32 {
    let times = time.map(|time| time.as_micros() / ALIKE.as_micros());
    times.map_or(u32::MAX, |times| u128::BITS - times.leading_zeros())
}

/// Spreads followers over equals.
fn turn(group: u32, me: u32, node: u32) -> u32 {
    let bytes = [group, me, node].map(u32::to_le_bytes).concat();
    crc32fast::hash(&bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sql::catalog::{Change, Node, NodeState, Object};
    use storage::GroupId;

    use super::*;

    fn catalog(places: &[(u32, &[(&str, &str)])]) -> Catalog {
        let node = |(number, locality): &(u32, &[(&str, &str)])| {
            let of = locality.iter();
            let node = Node {
                number: *number,
                incarnation: String::new(),
                address: format!("n{number}:1"),
                client_address: String::new(),
                locality: of.map(|(k, v)| (k.to_string(), v.to_string())).collect(),
                state: NodeState::Active,
            };
            Change::create(GroupId::DIRECTORY, Object::Node(Arc::new(node)))
        };
        let changes: Vec<Change> = places.iter().map(node).collect();
        Catalog::base(&[]).with(&changes)
    }

    fn placement(voters: &[u32], learners: &[u32]) -> Placement {
        Placement {
            group: 7,
            replicas: 3,
            regions: Vec::new(),
            voters: voters.to_vec(),
            learners: learners.to_vec(),
            made: true,
            leaving: Some(Vec::new()),
        }
    }

    fn near(_: u32) -> Seen {
        Seen {
            live: true,
            round_trip: Some(Duration::from_micros(100)),
        }
    }

    #[test]
    fn the_nearest_comes_first_and_the_leader_last() {
        let eu = |zone| [("region", "eu"), ("zone", zone)];
        let (a, b) = (eu("a"), eu("b"));
        let us = [("region", "us"), ("zone", "a")];
        let catalog = catalog(&[(1, &us), (2, &b), (3, &a), (4, &a)]);
        let placement = placement(&[3, 2, 1], &[]);
        assert_eq!(sources(&catalog, &placement, 4, near), [3, 2, 1]);
        let silent = |node| Seen {
            live: node != 3,
            ..near(node)
        };
        assert_eq!(sources(&catalog, &placement, 4, silent), [2, 1, 3]);
    }

    #[test]
    fn without_places_times_decide_and_then_who_need_not_lead() {
        let catalog = catalog(&[(1, &[]), (2, &[]), (3, &[]), (4, &[])]);
        let placement = placement(&[1, 2], &[3, 4]);
        let far = |node| Seen {
            live: true,
            round_trip: (node != 3).then(|| Duration::from_millis(if node == 1 { 1 } else { 80 })),
        };
        assert_eq!(sources(&catalog, &placement, 4, far), [1, 2, 3]);
        let alike = sources(&catalog, &placement, 4, near);
        assert_eq!((alike.len(), alike[2]), (3, 1));
    }
}
