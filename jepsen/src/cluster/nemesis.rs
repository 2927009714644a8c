//! What is done to a cluster under load, and to which of its nodes.

use rand::Rng;
use rand::rngs::StdRng;

use super::links::Direction;

/// The faults of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Nemesis {
    /// Nothing but load.
    None,
    /// SIGKILL to any node, which comes back after a while.
    Kill,
    /// SIGKILL to the node that leads an owner's group; how long its writers wait is measured.
    KillLeader,
    /// SIGKILL to all nodes at once.
    KillAll,
    /// A graceful end and a new start of any node.
    Restart,
    /// SIGSTOP of any node for 1 to 10 s.
    Pause,
    /// SIGSTOP of a leading node for 1 to 10 s.
    PauseLeader,
    /// One node against the others, both directions.
    PartitionHalves,
    /// A leading node alone.
    PartitionLeader,
    /// A leading node that hears the others and isn't heard, or the other way around.
    PartitionOneWay,
    /// A leading node and one of the others don't hear each other; the rest hears both.
    PartitionPair,
    /// Any of the first three partitions.
    Partition,
    /// An owner's group shrinks to one voter and grows again.
    Membership,
    /// SIGKILL to a node and a claim of the pool for an owner's group, before the node comes back:
    /// with more nodes than voters.
    Claim,
}

impl Nemesis {
    /// The word of the flag.
    pub fn word(self) -> &'static str {
        match self {
            Nemesis::None => "none",
            Nemesis::Kill => "kill",
            Nemesis::KillLeader => "kill-leader",
            Nemesis::KillAll => "kill-all",
            Nemesis::Restart => "restart",
            Nemesis::Pause => "pause",
            Nemesis::PauseLeader => "pause-leader",
            Nemesis::PartitionHalves => "partition-halves",
            Nemesis::PartitionLeader => "partition-leader",
            Nemesis::PartitionOneWay => "partition-one-way",
            Nemesis::PartitionPair => "partition-pair",
            Nemesis::Partition => "partition",
            Nemesis::Membership => "membership",
            Nemesis::Claim => "claim",
        }
    }

    /// Whether clients can't but lose their connections.
    pub fn ends_connections(&self) -> bool {
        match self {
            Nemesis::Kill
            | Nemesis::KillLeader
            | Nemesis::KillAll
            | Nemesis::Restart
            | Nemesis::Claim => true,
            Nemesis::None
            | Nemesis::Membership
            | Nemesis::Pause
            | Nemesis::PauseLeader
            | Nemesis::PartitionHalves
            | Nemesis::PartitionLeader
            | Nemesis::PartitionOneWay
            | Nemesis::PartitionPair
            | Nemesis::Partition => false,
        }
    }

    /// One strike of it on `count` nodes of which `leader` leads.
    pub fn strike(self, count: usize, leader: usize, rng: &mut StdRng) -> Strike {
        let any = rng.random_range(0..count);
        let rest = |node: usize| (0..count).filter(move |other| *other != node);
        match self {
            Nemesis::None => Strike::Nothing,
            Nemesis::Kill => Strike::Kill(vec![any]),
            Nemesis::KillLeader => Strike::Kill(vec![leader]),
            Nemesis::KillAll => Strike::Kill((0..count).collect()),
            Nemesis::Restart => Strike::Restart(any),
            Nemesis::Membership => Strike::Shrink(leader),
            Nemesis::Claim => Strike::Claim(leader),
            Nemesis::Pause => Strike::Pause(any),
            Nemesis::PauseLeader => Strike::Pause(leader),
            Nemesis::PartitionHalves => Strike::Cut(both_ways(any, rest(any))),
            Nemesis::PartitionLeader => Strike::Cut(both_ways(leader, rest(leader))),
            Nemesis::PartitionOneWay if rng.random_bool(0.5) => {
                Strike::Cut(rest(leader).map(|other| (leader, other)).collect())
            }
            Nemesis::PartitionOneWay => {
                Strike::Cut(rest(leader).map(|other| (other, leader)).collect())
            }
            Nemesis::PartitionPair => {
                let other = (leader + rng.random_range(1..count)) % count;
                Strike::Part(leader, other)
            }
            Nemesis::Partition => {
                let kinds = [
                    Nemesis::PartitionHalves,
                    Nemesis::PartitionLeader,
                    Nemesis::PartitionOneWay,
                ];
                kinds[rng.random_range(0..kinds.len())].strike(count, leader, rng)
            }
        }
    }
}

/// One fault with those that it strikes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strike {
    /// Nothing happens.
    Nothing,
    /// SIGKILL, and a start after a while.
    Kill(Vec<usize>),
    /// SIGTERM, and a start after a while.
    Restart(usize),
    /// SIGSTOP, and SIGCONT after a while.
    Pause(usize),
    /// These directions let nothing through for a while.
    Cut(Vec<Direction>),
    /// A leading node and this one let nothing through to each other for a while.
    Part(usize, usize),
    /// The group that this node leads shrinks, and grows again after a while.
    Shrink(usize),
    /// SIGKILL, another node in its place, and a start after that.
    Claim(usize),
}

impl Strike {
    /// The nodes that others can't count on meanwhile.
    pub fn struck(&self, count: usize) -> Vec<usize> {
        match self {
            Strike::Nothing => Vec::new(),
            Strike::Kill(nodes) => nodes.clone(),
            Strike::Restart(node)
            | Strike::Pause(node)
            | Strike::Part(node, _)
            | Strike::Shrink(node)
            | Strike::Claim(node) => vec![*node],
            // The one that has lost a direction to everybody else.
            Strike::Cut(directions) => {
                let is_cut = |one, other| {
                    directions.contains(&(one, other)) || directions.contains(&(other, one))
                };
                let is_alone =
                    |node: &usize| (0..count).all(|other| other == *node || is_cut(*node, other));
                (0..count).filter(is_alone).collect()
            }
        }
    }
}

fn both_ways(node: usize, others: impl Iterator<Item = usize>) -> Vec<Direction> {
    others
        .flat_map(|other| [(node, other), (other, node)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    #[test]
    fn a_strike_on_the_leader_names_it() {
        let mut rng = Seed(1).rng();
        for nemesis in [
            Nemesis::KillLeader,
            Nemesis::PauseLeader,
            Nemesis::PartitionLeader,
            Nemesis::PartitionOneWay,
        ] {
            for _ in 0..20 {
                assert_eq!(nemesis.strike(3, 1, &mut rng).struck(3), [1], "{nemesis:?}");
            }
        }
    }

    #[test]
    fn a_one_way_partition_leaves_the_other_way() {
        let mut rng = Seed(1).rng();
        let mut seen = [false; 2];
        for _ in 0..40 {
            let Strike::Cut(mut cut) = Nemesis::PartitionOneWay.strike(3, 0, &mut rng) else {
                panic!("a partition");
            };
            cut.sort_unstable();
            match cut[..] {
                [(0, 1), (0, 2)] => seen[0] = true,
                [(1, 0), (2, 0)] => seen[1] = true,
                _ => panic!("{cut:?}"),
            }
        }
        assert_eq!(seen, [true; 2]);
    }

    #[test]
    fn a_pair_is_the_leading_node_and_any_other() {
        let mut rng = Seed(1).rng();
        let mut seen = [false; 3];
        for _ in 0..40 {
            let Strike::Part(1, other) = Nemesis::PartitionPair.strike(3, 1, &mut rng) else {
                panic!("a pair with the leading node");
            };
            seen[other] = true;
        }
        assert_eq!(seen, [true, false, true]);
    }

    #[test]
    fn all_directions_of_the_lonely_one_are_cut() {
        let mut cut = both_ways(2, 0..2);
        cut.sort_unstable();
        assert_eq!(cut, [(0, 2), (1, 2), (2, 0), (2, 1)]);
    }
}
