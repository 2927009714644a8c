//! Which groups the nodes lead, and who votes there, as they say themselves: all that a node knows
//! of the groups that it does not hold. A ping's answer tells the version of what a node would say;
//! who has another one asks for it.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use storage::GroupId;

/// What a node says of a group that it leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Led {
    /// The group.
    pub group: u32,
    /// The term in which it does.
    pub term: u64,
    /// The nodes that vote.
    pub voters: Vec<u32>,
}

/// What a node says of all of them, by number.
pub type Says = Vec<Led>;

/// What nodes have said.
pub struct Leads {
    own: Mutex<(u64, Says)>,
    others: Mutex<BTreeMap<u32, (u64, Says)>>,
}

impl Leads {
    /// Nothing yet. Versions of another process of this node are others.
    pub fn new(run: u64) -> Leads {
        Leads {
            own: Mutex::new((run, Says::new())),
            others: Mutex::default(),
        }
    }

    /// What this node says from now on.
    pub fn say(&self, says: Says) {
        let mut own = self.own.lock();
        if own.1 != says {
            *own = (own.0.wrapping_add(1), says);
        }
    }

    /// What this node says, and the version of it.
    pub fn own(&self) -> (u64, Says) {
        self.own.lock().clone()
    }

    /// The version of what this node says.
    pub fn version(&self) -> u64 {
        self.own.lock().0
    }

    /// Is another version than this one known of a node?
    pub fn lacks(&self, node: u32, version: u64) -> bool {
        let others = self.others.lock();
        others.get(&node).is_none_or(|(known, _)| *known != version)
    }

    /// A node has said this.
    pub fn learn(&self, node: u32, version: u64, says: Says) {
        self.others.lock().insert(node, (version, says));
    }

    /// The node that leads a group, and what it says of it: of those that `count`, the one with the
    /// highest term.
    pub fn leader(&self, group: GroupId, count: impl Fn(u32) -> bool) -> Option<(u32, Led)> {
        let others = self.others.lock();
        let said = others.iter().filter(|(node, _)| count(**node));
        let of_group = |says: &Says| says.iter().find(|led| led.group == group.0).cloned();
        let said = said.filter_map(|(node, (_, says))| Some((*node, of_group(says)?)));
        said.max_by_key(|(_, led)| led.term)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(group: u32, term: u64) -> Led {
        let voters = vec![1, 2];
        Led {
            group,
            term,
            voters,
        }
    }

    #[test]
    fn the_highest_term_of_those_that_count_is_believed() {
        let leads = Leads::new(7);
        assert!(leads.lacks(2, 5));
        leads.learn(2, 5, vec![led(1, 3), led(4, 1)]);
        leads.learn(3, 9, vec![led(1, 4)]);
        assert!(!leads.lacks(2, 5) && leads.lacks(2, 6));
        let of = |group| leads.leader(GroupId(group), |_| true);
        assert_eq!(of(1), Some((3, led(1, 4))));
        assert_eq!(of(4), Some((2, led(4, 1))));
        assert_eq!(of(5), None);
        let left = leads.leader(GroupId(1), |node| node != 3);
        assert_eq!(left, Some((2, led(1, 3))));
        leads.learn(2, 6, Says::new());
        assert_eq!(of(4), None);
    }

    #[test]
    fn only_news_have_another_version() {
        let leads = Leads::new(7);
        leads.say(vec![led(1, 3)]);
        let (version, says) = leads.own();
        assert_eq!((version, says.len()), (8, 1));
        leads.say(vec![led(1, 3)]);
        assert_eq!(leads.version(), version);
        leads.say(Says::new());
        assert_ne!(leads.version(), version);
    }
}
