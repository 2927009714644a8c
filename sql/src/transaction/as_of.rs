//! Reading a table as it was (FOR SYSTEM_TIME AS OF, `freehold.history`): what is committed and does
//! not change any more. So nothing is noted of it for SERIALIZABLE, and own writes are not in it.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use storage::{Direction, Group, GroupId, Looked, Position, Range, Versions};

use super::snapshot::{held, readable};
use super::{RowScan, Stop, Transaction, Wait, scan};
use crate::catalog::{self, Object, Table};
use crate::{Error, state};

/// How long what an idle group is closed up to is waited for until it is asked again, in
/// microseconds.
const CLOSED_PAUSE_MICROS: u64 = 100_000;

impl Transaction {
    /// The rows of a table as of a position.
    ///
    /// # Errors
    /// 72000 behind what is kept, 22023 in the future; `Wait` while the position is not over.
    pub fn scan_as_of(
        &mut self,
        table: &Table,
        range: Range,
        at: Position,
        direction: Direction,
    ) -> Result<RowScan, Stop> {
        let read = |group: &Group| group.scan(table.tree, range.clone(), at, direction);
        let base = self.look_back(table, at, read)?;
        Ok(scan::merged(base, None, direction))
    }

    /// One row of a table as of a position. Errors: as of [`Transaction::scan_as_of`].
    pub fn get_as_of(
        &mut self,
        table: &Table,
        key: &[u8],
        at: Position,
    ) -> Result<Option<Bytes>, Stop> {
        self.look_back(table, at, |group| group.get(table.tree, key, at))
    }

    /// All versions of one row that are kept, the oldest first, up to what is committed; and the
    /// position from which on nothing is missing. A version at or below it may have followed others.
    ///
    /// # Errors
    /// 72000 if this is a copy of a table that keeps its history; `Wait` until the table is here.
    pub fn versions(&mut self, table: &Table, key: &[u8]) -> Result<(Position, Versions), Stop> {
        let groups = self.engine.groups().clone();
        let group = self.group_of(table.group)?;
        if group.is_followed()
            && let Some(history) = table.history
        {
            return Err(not_here(table, history.since).into());
        }
        let key = Bytes::copy_from_slice(key);
        let range = || (Bound::Included(key.clone()), Bound::Included(key.clone()));
        // As new as the statement sees it, if all of that is committed.
        let to = self.position(table.group)?.min(readable(&groups, &group));
        loop {
            let from = group.oldest(table.tree).min(to);
            let read = |group: &Group| group.versions(table.tree, range(), from, to);
            match group.look(table.tree, to, read) {
                Err(storage::Error::TooOld { .. }) if group.oldest(table.tree) > from => {}
                Ok(Looked::Found(versions)) => return Ok((from, versions)),
                Ok(Looked::NotHeld) => return Err(self.wants(None, table.group, table.tree)),
                Ok(Looked::Later) => return Err(not_here(table, to).into()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn group_of(&mut self, id: GroupId) -> Result<Arc<Group>, Stop> {
        if self.snapshot.position(id).is_none() {
            self.check_vouched(&[id])?;
        }
        held(self.engine.groups(), id)
    }

    fn look_back<T>(
        &mut self,
        table: &Table,
        at: Position,
        read: impl Fn(&Group) -> storage::Result<T>,
    ) -> Result<T, Stop> {
        let group = self.group_of(table.group)?;
        if !group.holds(table.tree) {
            return Err(self.wants(None, table.group, table.tree));
        }
        self.await_over(&group, at)?;
        self.check_had_come(table, &group, at)?;
        let dep = self.deps.entry(table.group).or_insert(at);
        *dep = at.max(*dep);
        match group.look(table.tree, at, read) {
            Ok(Looked::Found(found)) => Ok(found),
            Ok(Looked::NotHeld) => Err(self.wants(None, table.group, table.tree)),
            Ok(Looked::Later) => Err(not_here(table, at).into()),
            Err(storage::Error::TooOld { .. }) => {
                Err(too_old(table, at, group.oldest(table.tree)).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What had not come from another owner yet is not read, for it may have been here in part. Its history
    /// begins later than that.
    fn check_had_come(&self, table: &Table, group: &Group, at: Position) -> Result<(), Stop> {
        let kept = table.history.is_some_and(|history| history.since <= at);
        if table.former.is_empty() || kept {
            return Ok(());
        }
        let key = table.id.0.to_be_bytes();
        let then = match group.get(catalog::TREE_DESCRIPTORS, &key, at) {
            Err(storage::Error::TooOld { .. }) => {
                return Err(too_old(table, at, group.oldest(table.tree)).into());
            }
            then => then?,
        };
        let then = then.map(|bytes| catalog::decode(&bytes)).transpose()?;
        match then {
            Some(Object::Table(then)) if !then.is_arriving() => Ok(()),
            _ => Err(anothers(table, at).into()),
        }
    }

    /// Nothing can be committed at the position any more.
    fn await_over(&self, group: &Group, at: Position) -> Result<(), Stop> {
        let groups = self.engine.groups();
        if readable(groups, group) >= at {
            return Ok(());
        }
        // An idle group closes itself up to the clock, never to what was asked for.
        let clock = groups.clock().unix_micros();
        if Position::from_unix_micros(clock) < at {
            return Err(in_the_future(at).into());
        }
        group.close_wanted();
        if readable(groups, group) >= at {
            return Ok(());
        }
        let until = self.engine.clock().unix_micros() + CLOSED_PAUSE_MICROS;
        Err(Stop::Wait(Wait::Feed(Some(until))))
    }
}

fn anothers(table: &Table, at: Position) -> Error {
    Error::new(state::SNAPSHOT_TOO_OLD, "snapshot too old").detail(format!(
        "Table \"{}\" was another owner's at {at}.",
        table.name
    ))
}

fn in_the_future(at: Position) -> Error {
    let message = format!("position {at} is in the future");
    Error::new(state::INVALID_PARAMETER_VALUE, message)
        .hint("FOR SYSTEM_TIME AS OF reads what was; without it, what is.")
}

fn too_old(table: &Table, at: Position, oldest: Position) -> Error {
    let error = Error::new(state::SNAPSHOT_TOO_OLD, "snapshot too old").detail(format!(
        "Of table \"{}\" what was there at {at} is not kept, but since {oldest}.",
        table.name
    ));
    match table.history {
        Some(_) => error.hint("Its history goes back as far as its option \"history\" says."),
        None => error.hint("ALTER TABLE ... SET (history = '30 days') keeps it from then on."),
    }
}

/// A copy begins at its bootstrap.
fn not_here(table: &Table, at: Position) -> Error {
    let message = "snapshot too old";
    Error::new(state::SNAPSHOT_TOO_OLD, message)
        .detail(format!(
            "This node has a copy of table \"{}\", which does not go back to {at}.",
            table.name
        ))
        .hint("The history of a table is where its owner is; copies have the last minute.")
}
