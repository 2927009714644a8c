//! How one side sees the other: at the node's cut, never beyond it and never below what it has acted on
//! before.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use storage::{Direction, Group, GroupId, Looked, Pin, Position, TxId, system};

use super::rows::{self, FLOOR_KEY, Range};
use crate::catalog::Table;
use crate::engine::Engine;
use crate::outbox::Pairs;
use crate::transaction::{Stop, Transaction, Wait};
use crate::{Error, state};

/// What is not here yet is looked for again after this time, in microseconds.
pub(super) const LOOK_AGAIN: u64 = 10_000;
/// Who does not answer in this time is away, in microseconds.
pub(super) const AWAY_AFTER: u64 = 5_000_000;

/// What the node shows of another group; its versions stay while this does.
pub(super) struct Cut {
    group: Arc<Group>,
    pin: Pin,
}

impl Cut {
    /// What is shown, if it is not below what `home` has acted on or rests on.
    ///
    /// # Errors
    /// `Wait` until it is; OW003 if the node has nothing of the group.
    pub fn of(
        engine: &Engine,
        home: GroupId,
        other: GroupId,
        floor: Position,
    ) -> Result<Cut, Stop> {
        let groups = engine.groups();
        let group = groups.get(other).ok_or_else(|| not_here(other))?;
        // The horizon can't pass a cut that is taken after it.
        let before = group.pin_applied();
        let shown = groups.cut(&[other]).first().map(|(_, at)| *at);
        let at = shown.unwrap_or(Position::ZERO);
        let pin = group.pin(at);
        drop(before);
        let rests = groups.rests(home).get(&other).copied();
        #[cfg(feature = "sabotage")]
        let floor = match storage::sabotage::planted("reference-below-floor") {
            true => Position::ZERO,
            false => floor,
        };
        match at < floor.max(rests.unwrap_or_default()) {
            true => Err(Stop::Wait(Wait::Cut(other))),
            false => Ok(Cut { group, pin }),
        }
    }

    pub fn position(&self) -> Position {
        self.pin.position()
    }

    /// Is the tree here?
    pub fn holds(&self, tree: u32) -> bool {
        self.group.holds(tree)
    }

    /// # Errors
    /// `Wait` while the tree is not here.
    pub fn get(&self, engine: &Engine, tree: u32, key: &[u8]) -> Result<Option<Bytes>, Stop> {
        let at = self.position();
        match self
            .group
            .look(tree, at, |group| group.get(tree, key, at))?
        {
            Looked::Found(value) => Ok(value),
            Looked::NotHeld | Looked::Later => Err(later(engine)),
        }
    }

    /// At most so many rows.
    ///
    /// # Errors
    /// `Wait` while the tree is not here.
    pub fn rows(
        &self,
        engine: &Engine,
        tree: u32,
        range: &Range,
        max: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Stop> {
        let at = self.position();
        let read = |group: &Group| {
            let rows = group.scan(tree, range.clone(), at, Direction::Forward)?;
            rows.take(max).collect::<storage::Result<Vec<_>>>()
        };
        match self.group.look(tree, at, read)? {
            Looked::Found(rows) => Ok(rows),
            Looked::NotHeld | Looked::Later => Err(later(engine)),
        }
    }

    /// The tree in which this node has the keys of an index: of what it follows only those. As the newest
    /// catalog knows it, for what was emptied or rewritten stays where it was.
    ///
    /// # Errors
    /// `Wait` while less is shown than that catalog is of.
    pub fn tree(&self, engine: &Engine, table: &Table, index: u32) -> Result<Option<u32>, Stop> {
        let catalog = engine.catalog();
        if self.position() < catalog.as_of(table.group) {
            return Err(Stop::Wait(Wait::Cut(table.group)));
        }
        let index = catalog.table(table.id).and_then(|table| table.index(index));
        Ok(index.map(|index| match self.group.is_followed() {
            true => system::keys_of(index.tree),
            false => index.tree,
        }))
    }
}

/// OW003.
pub(super) fn not_here(group: GroupId) -> Stop {
    let message = format!("group {group} is not held by this node");
    Error::new(state::OWNER_UNREACHABLE, message).into()
}

/// It comes before long.
pub(super) fn later(engine: &Engine) -> Stop {
    Stop::Wait(Wait::Until(engine.clock().unix_micros() + LOOK_AGAIN))
}

/// Is a row of an outbox with this key about foreign keys?
pub(crate) fn refers(key: &[u8]) -> bool {
    key >= &rows::FIRST[..]
}

/// The intent that is answered by a row of an outbox with this key.
pub(crate) fn told_of_answer(key: &[u8]) -> Option<TxId> {
    rows::answered(key)
}

impl Engine {
    /// All pairs of groups of which one is led here and that have foreign keys between them, or had, or
    /// are to have.
    ///
    /// # Errors
    /// The tables can't be read.
    pub fn referring(&self) -> crate::Result<Pairs> {
        let catalog = self.catalog();
        let mut pairs = BTreeSet::new();
        for group in self.groups().all() {
            let from = group.id();
            for to in catalog.outboxes(from) {
                let tree = system::outbox(to);
                if !(self.leads(from) || self.leads(to)) || !group.holds(tree) {
                    continue;
                }
                let range = (Bound::Included(rows::FIRST), Bound::Unbounded);
                let mut rows = group.scan(tree, range, group.applied(), Direction::Forward)?;
                if rows.next().transpose()?.is_some() {
                    let both = [(from, to), (to, from)].into_iter();
                    pairs.extend(both.filter(|(home, _)| self.leads(*home)));
                }
            }
        }
        Ok(pairs)
    }
}

impl Transaction {
    /// What the node shows of `other`, for `home`, whose newest state says how far it has come.
    pub(super) fn cut_for(&mut self, home: GroupId, other: GroupId) -> Result<Cut, Stop> {
        let floor = self.newest(home, system::outbox(other), FLOOR_KEY)?;
        let floor = floor.map(|bytes| rows::read_floor(&bytes)).transpose()?;
        Cut::of(self.engine(), home, other, floor.unwrap_or_default())
    }

    /// What removes keys is shown only where what an asked group has said or done about them is.
    pub(super) fn removes_after(&mut self, other: GroupId, at: Position) {
        #[cfg(feature = "sabotage")]
        if storage::sabotage::planted("removal-without-dep") {
            return;
        }
        self.follows_from(other, at, 0);
    }

    /// From here on `home` looks at nothing of `other` that is older than this.
    pub(super) fn raise_floor(
        &mut self,
        home: GroupId,
        other: GroupId,
        cut: &Cut,
    ) -> Result<(), Stop> {
        let key = Bytes::from_static(FLOOR_KEY);
        let value = Some(rows::floor(cut.position()));
        self.put_hidden(home, system::outbox(other), key, value)
    }
}
