//! Reading what is held here only in part: copies of other owners' tables. A tree that is not here
//! is brought first, and one that came after the snapshot is not read in it: never does it look as
//! if there were nothing.

use std::sync::Arc;

use storage::{Group, GroupId, Looked, Position};

use super::{Stop, Transaction, Wait};
use crate::catalog::{self, Object, RoleId, TableId};
use crate::plan::TableUse;
use crate::{Error, state};

impl Transaction {
    /// Are the rows of a table here, as far as that can be told before a snapshot is taken? `role`
    /// reads it.
    ///
    /// # Errors
    /// `Wait` until they are.
    ///
    /// The owner of a view may have a copy where its own group stands; else nobody gets by a view what
    /// he may not read himself (`crate::remote`).
    pub fn bring(&self, role: RoleId, id: GroupId, tree: u32) -> Result<(), Stop> {
        let held = self.engine.groups().get(id);
        match held.is_some_and(|group| group.holds(tree)) {
            true => Ok(()),
            false => Err(self.wants(Some(role), id, tree)),
        }
    }

    /// Who reads a table that is a copy here: the session's role, or the owner of a view.
    pub fn reader(&mut self, role: RoleId, used: &TableUse) -> RoleId {
        let table = self.catalog.table(used.table);
        if used.role == role || table.is_some_and(|table| self.catalog.reads_table(role, table)) {
            return role;
        }
        self.read_by.insert(used.table, used.role);
        used.role
    }

    /// Reads a tree of a group at the snapshot's position.
    ///
    /// # Errors
    /// `Wait` until it is here, and the snapshot can be one in which it was; 40001 under a
    /// snapshot that is kept and older.
    pub(super) fn look<T>(
        &mut self,
        (group, position): &(Arc<Group>, Position),
        tree: u32,
        read: impl Fn(&Group) -> storage::Result<T>,
    ) -> Result<T, Stop> {
        match group.look(tree, *position, read)? {
            Looked::Found(found) => Ok(found),
            Looked::NotHeld if group.has_ended() && self.keeps_snapshot() => Err(too_late()),
            Looked::NotHeld => Err(self.wants(None, group.id(), tree)),
            Looked::Later if self.keeps_snapshot() && self.statements > 1 => Err(too_late()),
            Looked::Later => {
                // What is shown of the group reaches it soon.
                self.take_back_snapshot();
                Err(Stop::Wait(Wait::Cut(group.id())))
            }
        }
    }

    /// Under a snapshot that is kept: does a followed table still look as it did there? What it was
    /// bound with is newer, and says where its rows are now.
    ///
    /// # Errors
    /// 40001 if it was made, changed or moved since.
    pub fn check_unchanged(&mut self, group: GroupId, table: TableId) -> Result<(), Stop> {
        let Some(at) = self.snapshot.position(group) else {
            return Ok(());
        };
        if self.base_catalog.as_of(group) <= at {
            return Ok(());
        }
        let followed = self.engine.groups().get(group);
        let followed = followed.is_some_and(|group| group.is_followed());
        let same = match followed {
            true => self.is_unchanged(group, table)?,
            false => self.had_come(group, table)?,
        };
        match same {
            true => Ok(()),
            false => Err(Error::new(
                state::SERIALIZATION_FAILURE,
                "could not serialize access: a table was changed after the transaction's snapshot",
            )
            .hint("Run the transaction again.")
            .into()),
        }
    }

    /// Does a table look in the snapshot as it does now?
    pub(crate) fn is_unchanged(&mut self, group: GroupId, table: TableId) -> Result<bool, Stop> {
        let now = self.base_catalog.table(table);
        let now = now.map(|table| catalog::encode(&Object::Table(Arc::clone(table))));
        let key = table.0.to_be_bytes();
        Ok(self.get(group, catalog::TREE_DESCRIPTORS, &key)? == now)
    }

    /// Was a table that has come from another owner this one's in the snapshot?
    fn had_come(&mut self, group: GroupId, table: TableId) -> Result<bool, Stop> {
        let now = self.base_catalog.table(table);
        if now.is_none_or(|now| now.former.is_empty() || now.group != group) {
            return Ok(true);
        }
        let key = table.0.to_be_bytes();
        let then = self.get(group, catalog::TREE_DESCRIPTORS, &key)?;
        let then = then.map(|bytes| catalog::decode(&bytes)).transpose()?;
        Ok(match then {
            Some(Object::Table(then)) => !then.is_arriving(),
            _ => false,
        })
    }

    /// The wait for a tree's table.
    pub(super) fn wants(&self, role: Option<RoleId>, group: GroupId, tree: u32) -> Stop {
        let table = self.catalog.table_of_tree(group, tree);
        let Some(table) = table.and_then(|id| self.catalog.table(id)) else {
            let message = format!("group {group} is not held by this node");
            return Error::new(state::OWNER_UNREACHABLE, message).into();
        };
        Stop::Wait(Wait::Table {
            role: role.or_else(|| self.read_by.get(&table.id).copied()),
            group,
            table: table.id,
        })
    }

    /// Rows of these groups are given only by a node that knows what may be read of them.
    ///
    /// # Errors
    /// `Wait` until it does.
    pub(super) fn check_vouched(&self, groups: &[GroupId]) -> Result<(), Stop> {
        let own = self
            .reader
            .and_then(|role| self.base_catalog.group_of(role));
        match self.engine.cluster().doubts(groups, own) {
            None => Ok(()),
            Some(group) => Err(Stop::Wait(Wait::Doubt(group))),
        }
    }

    /// The snapshot must not lie before the catalog that the statement was bound with: a table
    /// that is made or moved by an entry not yet shown would look empty.
    ///
    /// # Errors
    /// `Wait` until these groups are shown so far.
    pub(super) fn await_catalog(&mut self, named: &[GroupId]) -> Result<(), Stop> {
        let catalog = &self.base_catalog;
        let behind = |id: GroupId, at: Position| at < catalog.as_of(id);
        let at = |id: &GroupId| self.snapshot.position(*id);
        let late = named
            .iter()
            .find(|id| at(id).is_some_and(|at| behind(**id, at)));
        if let Some(late) = late {
            return Err(Stop::Wait(Wait::Cut(*late)));
        }
        // Of a snapshot that is kept for others: they are not in it.
        self.snapshot.leave_out(|id, at| {
            !named.contains(&id) && at.group.is_followed() && behind(id, at.pin.position())
        });
        Ok(())
    }
}

/// 40001: what is read is here, but not as the transaction's snapshot has it.
pub(super) fn too_late() -> Stop {
    Error::new(
        state::SERIALIZATION_FAILURE,
        "could not serialize access: a table has come to this node after the transaction's snapshot",
    )
    .hint("Run the transaction again: the table is here now.")
    .into()
}
