//! A transaction's locks: rows, tables, advisory keys, named objects.

use std::collections::BTreeMap;

use bytes::Bytes;
use storage::{GroupId, LockKey, LockMode, Locked as Answer};

use super::{Locked, Mark, Policy, RowMode, Stop, TableMode, Transaction, Wait, leader_changed};
use crate::moving::being_moved;
use crate::{Error, state};

/// Whoever wants to write a table that is about to be another owner's waits so long, in microseconds.
const MOVE_WAIT_MAX: u64 = 10_000_000;
/// It is looked so often whether it is, in microseconds.
const MOVE_LOOK_EVERY: u64 = 10_000;

impl Transaction {
    /// Locks one key, existing or not, of a table's tree or of a unique index's.
    pub fn lock_row(
        &mut self,
        group: GroupId,
        tree: u32,
        key: &[u8],
        mode: RowMode,
        policy: Policy,
    ) -> Result<Locked, Stop> {
        if self.read_only {
            return Err(Stop::Error(Error::new(
                state::READ_ONLY_SQL_TRANSACTION,
                "cannot lock rows in a read-only transaction",
            )));
        }
        self.ground(group)?;
        let key = LockKey::Row {
            tree,
            key: Bytes::copy_from_slice(key),
        };
        self.lock(group, key, mode.into(), policy, || "row".to_owned())
    }

    /// Locks a table (by its tree). Statements take the modes of PostgreSQL's table 13.2. From then on
    /// the table is as the transaction's catalog says, but for readers (ACCESS SHARE): these see it as of
    /// their snapshot.
    ///
    /// # Errors
    /// `Wait::Again` if that catalog has not the newest that the group says of its tables.
    pub fn lock_table(
        &mut self,
        group: GroupId,
        tree: u32,
        mode: TableMode,
        policy: Policy,
    ) -> Result<Locked, Stop> {
        let known = (group, tree, mode);
        if self.described.contains(&known) {
            return Ok(Locked::Granted);
        }
        if mode != TableMode::AccessShare {
            self.await_move(group, tree)?;
        }
        let what = || format!("relation {tree}");
        let locked = self.lock(group, LockKey::Table(tree), mode.into(), policy, what)?;
        if mode != TableMode::AccessShare && locked == Locked::Granted {
            // Whoever had it before may have given it another tree, by an entry that is not applied yet.
            self.check_newest_of(group)?;
            self.described.insert(known);
        }
        Ok(locked)
    }

    /// Nobody writes a table that is about to be another owner's.
    ///
    /// # Errors
    /// `Wait` for the end of the move; 55006 if it does not come.
    fn await_move(&mut self, group: GroupId, tree: u32) -> Result<(), Stop> {
        let id = self.catalog.table_of_tree(group, tree);
        let table = id.and_then(|id| self.catalog.table_in(group, id));
        let Some(table) = table.filter(|table| table.has_left()) else {
            return Ok(());
        };
        let now = self.engine.clock().unix_micros();
        let since = *self.waits_for_move.get_or_insert(now);
        if now >= since + MOVE_WAIT_MAX {
            return Err(being_moved(table).into());
        }
        Err(Stop::Wait(Wait::Until(now + MOVE_LOOK_EVERY)))
    }

    /// Locks a named object: a relation's name in its schema, a role, ... `class` is numbered by
    /// the caller.
    pub fn lock_object(
        &mut self,
        group: GroupId,
        class: u32,
        name: &[u8],
        policy: Policy,
    ) -> Result<Locked, Stop> {
        let key = LockKey::Object {
            class,
            name: Bytes::copy_from_slice(name),
        };
        self.lock(group, key, LockMode::Exclusive, policy, || {
            "object".to_owned()
        })
    }

    pub(crate) fn lock(
        &mut self,
        group: GroupId,
        key: LockKey,
        mode: LockMode,
        policy: Policy,
        what: impl Fn() -> String,
    ) -> Result<Locked, Stop> {
        self.member(group)?;
        let touched = self.touched;
        self.touched |= mode != LockMode::Table(TableMode::AccessShare);
        let member = self.member(group)?;
        match member.group.locks().lock(member.txid, key, mode, policy) {
            Answer::Granted => Ok(Locked::Granted),
            Answer::Queued(ticket) => match self.engine.deadlocked(self.process) {
                Some(count) => Err(Stop::Error(deadlock(count))),
                None => Err(Stop::Wait(Wait::Lock(ticket))),
            },
            Answer::Busy if policy == Policy::SkipLocked => Ok(Locked::Skipped),
            Answer::Busy => Err(Stop::Error(Error::new(
                state::LOCK_NOT_AVAILABLE,
                format!("could not obtain lock on {}", what()),
            ))),
            Answer::Deadlock(cycle) => Err(Stop::Error(deadlock(cycle.len()))),
            Answer::Gone if touched => Err(Stop::Error(leader_changed())),
            Answer::Gone => {
                // Nothing is lost but its id, which nobody knows.
                self.release_all();
                self.txid = None;
                self.touched = false;
                Err(Stop::Wait(Wait::Leader(group)))
            }
            Answer::TooMany => Err(Stop::Error(
                Error::new(state::OUT_OF_MEMORY, "out of memory for locks")
                    .detail("The transaction holds too many locks."),
            )),
        }
    }

    pub(super) fn lock_marks(&self) -> BTreeMap<GroupId, storage::Mark> {
        let mark = |m: &super::Member| m.group.locks().mark(m.txid);
        self.members.iter().map(|(id, m)| (*id, mark(m))).collect()
    }

    pub(super) fn release_to(&mut self, mark: &Mark) {
        for (id, member) in &self.members {
            match mark.locks.get(id) {
                Some(mark) => member.group.locks().release_to(member.txid, *mark),
                // The group was first used after the mark.
                None => member.group.locks().release(member.txid),
            }
        }
        let members = &self.members;
        self.described.retain(|(group, tree, mode)| {
            members.get(group).is_some_and(|member| {
                let locks = member.group.locks();
                locks.holds(member.txid, &LockKey::Table(*tree), *mode)
            })
        });
    }

    /// Its locks in this group stay when it ends: rows say whose they are.
    pub(super) fn leave_locks(&mut self, home: GroupId) {
        self.members.remove(&home);
        self.release_all();
    }

    pub(super) fn release_all(&mut self) {
        self.described.clear();
        for member in std::mem::take(&mut self.members).into_values() {
            member.group.locks().release(member.txid);
        }
        if let Some(txid) = self.txid {
            self.engine.activities().release(txid);
        }
    }
}

/// 40P01. The detail says how many wait in the circle, never for whose rows: processes and rows
/// of others may be none of the client's business.
pub(crate) fn deadlock(count: usize) -> Error {
    Error::new(state::DEADLOCK_DETECTED, "deadlock detected")
        .detail(format!(
            "{count} transactions wait for each other in a circle."
        ))
        .hint("Run the transaction again; lock rows in the same order everywhere.")
}
