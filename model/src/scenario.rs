//! Who references whom, with which action, how it begins and what may be asked for.

use crate::group::{Constraint, GROUPS, ROWS, Row, Set, View, only};
use crate::{Budget, Rules};

/// `ON DELETE` of a child's constraint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The key stays while it is referenced.
    Restrict,
    /// The row goes with the key.
    Cascade,
    /// The row references this key instead.
    SetDefault(u8),
}

/// What is played.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// For what is printed.
    pub name: &'static str,
    /// The group that each group references.
    pub parent: [Option<usize>; GROUPS],
    /// What it does when a key goes.
    pub action: [Action; GROUPS],
    /// Keys that a table without a parent may have.
    pub keys: usize,
    /// Rows at the beginning: what each references, if it is there.
    pub rows: [[Option<Option<u8>>; ROWS]; GROUPS],
    /// Groups that have no constraint at the beginning.
    pub unconstrained: Set,
    /// What clients and faults may do.
    pub budget: Budget,
    /// The rules in force.
    pub rules: Rules,
}

impl Scenario {
    /// The groups that reference a group.
    pub fn children(&self, group: usize) -> impl Iterator<Item = usize> {
        (0..GROUPS).filter(move |child| self.parent[*child] == Some(group))
    }

    /// Does the home of one group follow another?
    pub fn follows(&self, home: usize, of: usize) -> bool {
        self.parent[home] == Some(of) || self.parent[of] == Some(home)
    }

    /// Does a group take part?
    pub fn plays(&self, group: usize) -> bool {
        self.parent[group].is_some() || self.children(group).next().is_some()
    }

    /// The state in which a group begins.
    pub fn start(&self, group: usize) -> View {
        let mut view = View::default();
        let constrained = |group: usize| self.unconstrained & only(group) == 0;
        for (row, to) in self.rows[group].iter().enumerate() {
            view.rows[row] = to.map(|to| Row {
                to,
                version: 0,
                checked: constrained(group),
            });
        }
        if self.parent[group].is_some() && constrained(group) {
            view.constraint = Constraint::Valid;
        }
        for child in self.children(group).filter(|child| constrained(*child)) {
            view.registered |= only(child);
        }
        view
    }
}
