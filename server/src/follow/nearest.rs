//! From whom a follower gets a group: any node that holds it by Raft, the nearest first.

use std::collections::BTreeMap;
use std::time::Duration;

use sql::catalog::{Catalog, Placement};
use storage::GroupId;
use tokio::time::Instant;

use super::{BACK_AFTER, BETTER_EVERY, LIVELY};
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

/// Where the leader comes among those that are equally near. It knows first what is committed, and
/// has most to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leader {
    /// For little work, of which much depends on when it is done.
    First,
    /// For all other work.
    Last,
}

/// The other nodes that hold a group, as far as this node knows, in the order in which they are to
/// be asked.
pub fn holders(cluster: &Cluster, group: GroupId, leader: Leader) -> Vec<u32> {
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
    let leads = cluster.leads_elsewhere(group);
    let leads = leads.or(placement.voters.first().copied());
    let leader = (leader, leads);
    sources(&catalog, placement, cluster.me(), leader, seen)
}

/// The nodes to ask, in the order in which they are: those that answer first, of these those of
/// the same zone, then of the same region, then by the time to them and back. Among the rest
/// the leader has the place that it is given, and different followers take different ones.
fn sources(
    catalog: &Catalog,
    placement: &Placement,
    me: u32,
    (place, leads): (Leader, Option<u32>),
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
            (leads == Some(*node)) == (place == Leader::Last),
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

/// Looks, again and again, whether there is a better source than the one that a follower has.
#[derive(Debug, Default)]
pub struct Better {
    /// When it was looked last, and the entries that had come.
    looked: Option<(Instant, u64)>,
    /// What was better then.
    seen: Option<u32>,
    /// The last source that ended a stream, which it may do again.
    left: Option<(u32, Instant)>,
}

impl Better {
    /// A stream begins.
    pub fn begins(&mut self) {
        (self.looked, self.seen) = (None, None);
    }

    /// A source has ended its stream, or could not be had.
    pub fn left_by(&mut self, node: u32, now: Instant) {
        self.left = Some((node, now));
    }

    /// A source that was better at two looks. `entries`: that have come; where more come than a
    /// client makes that waits for its answers, the leader is to do other things.
    pub fn look(
        &mut self,
        now: Instant,
        entries: u64,
        from: u32,
        sources: impl FnOnce(Leader) -> Vec<u32>,
    ) -> Option<u32> {
        let Some((looked, before)) = self.looked else {
            self.looked = Some((now, entries));
            return None;
        };
        let time = now - looked;
        if time < BETTER_EVERY {
            return None;
        }
        self.looked = Some((now, entries));
        let rate = entries.saturating_sub(before) as f64 / time.as_secs_f64();
        let leader = match rate < LIVELY {
            true => Leader::First,
            false => Leader::Last,
        };
        let left = |node: u32| {
            let left = self.left.filter(|(_, at)| now - *at < BACK_AFTER);
            left.is_some_and(|(left, _)| left == node)
        };
        let best = sources(leader).first().copied();
        let best = best.filter(|best| *best != from && !left(*best));
        let before = std::mem::replace(&mut self.seen, best);
        best.filter(|_| before == best)
    }
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
    fn the_nearest_comes_first_whoever_leads() {
        let eu = |zone| [("region", "eu"), ("zone", zone)];
        let (a, b) = (eu("a"), eu("b"));
        let us = [("region", "us"), ("zone", "a")];
        let catalog = catalog(&[(1, &us), (2, &b), (3, &a), (4, &a)]);
        let placement = placement(&[3, 2, 1], &[]);
        let last = (Leader::Last, Some(3));
        assert_eq!(sources(&catalog, &placement, 4, last, near), [3, 2, 1]);
        let first = (Leader::First, Some(1));
        assert_eq!(sources(&catalog, &placement, 4, first, near), [3, 2, 1]);
        let silent = |node| Seen {
            live: node != 3,
            ..near(node)
        };
        assert_eq!(sources(&catalog, &placement, 4, last, silent), [2, 1, 3]);
    }

    #[test]
    fn without_places_times_decide_and_then_who_need_not_lead() {
        let catalog = catalog(&[(1, &[]), (2, &[]), (3, &[]), (4, &[])]);
        let placement = placement(&[1, 2], &[3, 4]);
        let far = |node| Seen {
            live: true,
            round_trip: (node != 3).then(|| Duration::from_millis(if node == 1 { 1 } else { 80 })),
        };
        let last = (Leader::Last, Some(1));
        assert_eq!(sources(&catalog, &placement, 4, last, far), [1, 2, 3]);
        let alike = sources(&catalog, &placement, 4, last, near);
        assert_eq!((alike.len(), alike[2]), (3, 1));
        for leader in [1, 2, 3] {
            let first = (Leader::First, Some(leader));
            assert_eq!(sources(&catalog, &placement, 4, first, near)[0], leader);
        }
    }

    #[test]
    fn the_leader_is_better_for_a_group_that_is_not_lively_alone() {
        let mut better = Better::default();
        let at = Instant::now();
        let look = |better: &mut Better, second: u32, entries: u64, from: u32| {
            let sources = |leader| match leader {
                Leader::First => vec![1, 2],
                Leader::Last => vec![2, 1],
            };
            better.look(at + second * BETTER_EVERY, entries, from, sources)
        };
        assert_eq!(look(&mut better, 0, 0, 2), None, "nothing is known yet");
        assert_eq!(look(&mut better, 1, 100, 2), None, "it was seen once");
        assert_eq!(look(&mut better, 2, 200, 2), Some(1));
        better.begins();
        for (second, entries) in [(3, 300), (4, 400), (5, 500)] {
            assert_eq!(look(&mut better, second, entries, 1), None, "it is there");
        }
        let busy = [(6, 10_500), (7, 20_500)].map(|(s, n)| look(&mut better, s, n, 1));
        assert_eq!(busy, [None, Some(2)]);
        better.left_by(1, at + 7 * BETTER_EVERY);
        better.begins();
        for second in 8..20 {
            let left = look(&mut better, second, 20_600, 2);
            assert_eq!(left, None, "{second}: it has ended a stream");
        }
        let later = 20 + (BACK_AFTER.as_secs() / BETTER_EVERY.as_secs()) as u32;
        let back = [later, later + 1].map(|second| look(&mut better, second, 20_600, 2));
        assert_eq!(back, [None, Some(1)]);
    }
}
