//! A state of the whole: the logs, how far homes follow each other, what is in the memory of homes,
//! and how much may still be asked for.

use crate::Scenario;
use crate::group::{Entry, GROUPS, Name, Position, Set, View, What};

/// What is open in the memory of a home. It goes with its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transaction {
    /// A row is to go.
    Delete {
        /// Which.
        row: u8,
        /// Its version.
        version: Position,
        /// The intent, if anybody was asked.
        name: Option<Name>,
    },
    /// The row of a child is to come.
    Insert {
        /// What it references.
        to: u8,
        /// The cut at which the parent was looked for.
        seen: Position,
        /// The version of the parent that was seen.
        version: Position,
    },
}

/// What clients and faults may still do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Rows put, by group.
    pub puts: [u8; GROUPS],
    /// Rows deleted, by group.
    pub deletes: [u8; GROUPS],
    /// Constraints declared, by group.
    pub wishes: [u8; GROUPS],
    /// Constraints dropped, by group.
    pub drops: [u8; GROUPS],
    /// Leaders that fall.
    pub falls: u8,
}

/// A state of all groups.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The logs.
    pub logs: [Vec<Entry>; GROUPS],
    /// `follow[home][of]`: the cut that a group's home has of another.
    pub follow: [[Position; GROUPS]; GROUPS],
    /// How far each log has been followed by anybody: so much is never lost.
    pub committed: [Position; GROUPS],
    /// How many leaders of a group have fallen.
    pub fallen: [u8; GROUPS],
    /// Locks that entries up to here have taken are not held: only without `LocksAreRebuilt`.
    pub forgotten: [Position; GROUPS],
    /// What is open at each home.
    pub open: [Option<Transaction>; GROUPS],
    /// Asks that were sent as messages: only without `MessagesCarryNothing`.
    pub sent: Vec<(Name, u8, Set)>,
    /// What may still be asked for.
    pub budget: Budget,
}

impl State {
    /// The beginning of a scenario.
    pub fn first(scenario: &Scenario) -> State {
        State {
            logs: Default::default(),
            follow: Default::default(),
            committed: Default::default(),
            fallen: Default::default(),
            forgotten: Default::default(),
            open: Default::default(),
            sent: Vec::new(),
            budget: scenario.budget,
        }
    }

    /// The end of a group's log.
    pub fn end(&self, group: usize) -> Position {
        self.logs[group].len() as Position
    }

    /// A group at a position.
    pub fn view(&self, scenario: &Scenario, group: usize, upto: Position) -> View {
        let mut view = scenario.start(group);
        let parent = scenario.parent[group].unwrap_or(group);
        for (at, entry) in self.logs[group][..upto as usize].iter().enumerate() {
            view.apply(at as Position + 1, entry.what, parent);
        }
        view
    }

    /// The name of an intent that is placed next: never given twice, though positions of lost
    /// entries are.
    pub fn next_name(&self, group: usize) -> Name {
        self.fallen[group] * 32 + self.end(group) + 1
    }

    /// Places an entry.
    pub fn place(&mut self, group: usize, what: What, deps: crate::group::Deps) {
        self.logs[group].push(Entry { what, deps });
    }
}

/// All groups, newest and as each home sees them.
pub struct Views {
    /// What each home has itself.
    pub own: [View; GROUPS],
    /// `cut[home][of]`: what it has of another group.
    pub cut: [[Option<View>; GROUPS]; GROUPS],
}

impl Views {
    /// Looks at a state.
    pub fn of(scenario: &Scenario, state: &State) -> Views {
        let own = std::array::from_fn(|group| state.view(scenario, group, state.end(group)));
        let cut = std::array::from_fn(|home| {
            std::array::from_fn(|of| {
                let upto = state.follow[home][of];
                let follows = scenario.follows(home, of);
                follows.then(|| state.view(scenario, of, upto))
            })
        });
        Views { own, cut }
    }
}
