//! The end of a transaction: its place in the log, or nothing; and what its answer waits for.

use std::collections::BTreeMap;

use storage::{
    Changes, Check, Commit, EventKind, GroupId, LockKey, Meta, Position, Refused, RowMode,
};

use super::{Stop, Transaction, Wait, leader_changed, too_large};
use crate::catalog::{Change, RoleId, SchemaId};
use crate::integrity::Ending;
use crate::{Error, state};

/// Keys that a commit asks the writer to look at once more.
const CHECKS_MAX: usize = 4_096;

/// Who commits; travels with the entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The role acted as (`current_user`).
    pub role: RoleId,
    /// The role that logged in.
    pub login: String,
    /// `application_name`.
    pub application_name: String,
    /// W3C `traceparent`, or empty.
    pub trace: String,
}

/// What a commit did, and what its answer waits for.
#[derive(Clone, Default)]
pub struct Committed {
    /// The entry's place, if one was made.
    pub entry: Option<(GroupId, Position)>,
    /// The answer is held until these are applied.
    pub hold: Vec<(GroupId, Position)>,
    /// Tables' trees that were written, for LISTEN.
    pub trees: Vec<u32>,
    /// Some role may read less than before.
    pub takes_away: bool,
    /// It is decided; its own entry comes when other owners have changed their rows.
    pub(crate) ending: Option<Ending>,
}

impl Transaction {
    /// Gives the transaction its place in the log. Locks are released when it has it (or when
    /// there was nothing to commit); on an error the caller drops the transaction.
    ///
    /// # Errors
    /// 40001 when what it relied on has changed or the leader has; `Wait` when a name that it
    /// uses must be reserved again first, and while what it has read is being proven.
    pub fn commit(&mut self, identity: &Identity) -> Result<Committed, Stop> {
        self.check_eras()?;
        if !self.has_written() {
            self.prove_leaders()?;
            let hold = self.held();
            self.release_all();
            return Ok(Committed {
                entry: None,
                hold,
                ..Committed::default()
            });
        }
        self.renew_names()?;
        let Some(home) = self.writing else {
            return Err(Stop::Error(Error::internal("writes without an owner")));
        };
        let Some(member) = self.members.get(&home).cloned() else {
            return Err(Stop::Error(leader_changed()));
        };
        self.await_others(home)?;
        let mut checks = self.read_checks(home);
        checks.extend(self.references.checks());
        checks.extend(self.taken.checks());
        let waits = self.waits();
        let ends = self.taken.ends().cloned();
        let identity = ends.as_ref().map_or(identity, |(_, identity, _)| identity);
        let (changes, checks, mut trees) = match waits {
            false => self.take_changes(home, checks)?,
            true => {
                let (changes, more) = self.keep(home, identity)?.into_changes();
                checks.extend(more);
                (Changes::Small(changes), checks, Vec::new())
            }
        };
        let of_rows = self.events.iter().filter(|e| e.kind == EventKind::Row);
        trees.extend(of_rows.filter_map(|event| event.table));
        trees.sort_unstable();
        trees.dedup();
        let deps = self
            .deps
            .iter()
            .filter(|(id, at)| **id != home && **at > Position::ZERO);
        let commit = Commit {
            txid: ends.as_ref().map_or(member.txid, |(txid, ..)| *txid),
            epoch: member.epoch,
            base: {
                let own = member.base.unwrap_or(Position::ZERO);
                self.taken.base(home).map_or(own, |base| base.min(own))
            },
            meta: self.meta(home, identity),
            changes,
            events: std::mem::take(&mut self.events),
            dropped_trees: std::mem::take(&mut self.dropped_trees),
            deps: deps.map(|(id, at)| (*id, *at)).collect(),
            checks,
            record_outcome: match &ends {
                Some((_, _, outcome)) => *outcome,
                // What it does comes later.
                None => self.record_outcome && !waits,
            },
            keeps_locks: waits,
        };
        // Before anybody can end it.
        let ending = waits.then(|| self.engine.opened().await_end(home, member.txid));
        let position = member.group.commit(commit).map_err(|refused| {
            if waits {
                self.engine.opened().forget_end(member.txid);
            }
            Stop::Error(refusal(
                refused,
                self.engine().limits().transaction_bytes_max,
            ))
        })?;
        self.hold.remove(&home);
        let mut hold = self.held();
        hold.push((home, position));
        let engine = std::sync::Arc::clone(&self.engine);
        self.taken.placed(home, &engine);
        if let Some((holder, ..)) = ends {
            engine
                .opened()
                .ended(holder, (home, position), engine.groups());
        }
        match waits {
            true => self.leave_locks(home),
            false => self.release_all(),
        }
        Ok(Committed {
            entry: Some((home, position)),
            hold,
            trees,
            takes_away: self.changes.iter().any(Change::takes_away),
            ending,
        })
    }

    /// Another owner's pending entry that was read must be there for good before this one gets its
    /// place: the two logs reach the disk on their own, and an effect without its cause would
    /// stay after a crash.
    fn await_others(&self, home: GroupId) -> Result<(), Stop> {
        let other = self.held().into_iter().find(|(id, _)| *id != home);
        let Some((id, at)) = other else {
            return Ok(());
        };
        let stands = self.engine.groups().get(id).is_some_and(|g| g.alive(at));
        Err(match stands {
            true => Stop::Wait(Wait::Position(id, at)),
            false => Stop::Error(leader_changed()),
        })
    }

    /// What a rollback's answer waits for.
    pub fn rollback(&mut self) -> Vec<(GroupId, Position)> {
        self.release_all();
        self.held()
    }

    /// Pending positions that were read and are not applied yet.
    pub fn held(&self) -> Vec<(GroupId, Position)> {
        let pending = |(id, at): (&GroupId, &Position)| {
            let group = self.engine.groups().get(*id)?;
            (group.applied() < *at).then_some((*id, *at))
        };
        self.hold.iter().filter_map(pending).collect()
    }

    fn meta(&self, home: GroupId, identity: &Identity) -> Meta {
        let owner = self.catalog.owner_of_group(home).unwrap_or(identity.role);
        Meta {
            role: self.catalog.role_name(owner),
            login: identity.login.clone(),
            application_name: identity.application_name.clone(),
            trace: identity.trace.clone(),
            hops: self.hops,
        }
    }

    /// What a SERIALIZABLE transaction has read must still hold.
    pub(super) fn read_checks(&self, home: GroupId) -> Vec<Check> {
        match self.snapshot.position(home) {
            Some(seen) => self.reads.checks(seen),
            None => Vec::new(),
        }
    }

    fn take_changes(
        &mut self,
        home: GroupId,
        mut checks: Vec<Check>,
    ) -> Result<(Changes, Vec<Check>, Vec<u32>), Stop> {
        if self.writes.is_spilled() {
            let large = self.writes.take_large()?;
            let trees = large.trees();
            return Ok((Changes::Large(large), checks, trees));
        }
        let small = self.writes.take_small();
        let trees: Vec<u32> = small.iter().map(|(change, _)| change.tree).collect();
        for (change, seen) in small.iter().take(CHECKS_MAX) {
            self.check_change(home, change, *seen, &mut checks);
        }
        let changes = small.into_iter().map(|(change, _)| change).collect();
        Ok((Changes::Small(changes), checks, trees))
    }

    /// The writer asserts once more that nobody else wrote these keys: where the overlay reaches
    /// back, or a lock proves it.
    pub(super) fn check_change(
        &self,
        home: GroupId,
        change: &storage::Change,
        seen: Position,
        checks: &mut Vec<Check>,
    ) {
        let Some(member) = self.members.get(&home) else {
            return;
        };
        let pinned = self.snapshot.position(home).unwrap_or(Position::MAX);
        let provable = |tree: u32, key: &bytes::Bytes, seen: Position| {
            if seen >= pinned || member.group.written_since(tree, key, seen).is_some() {
                return true;
            }
            let lock = LockKey::Row {
                tree,
                key: key.clone(),
            };
            member
                .group
                .locks()
                .holds(member.txid, &lock, RowMode::NoKeyUpdate)
        };
        if provable(change.tree, &change.key, seen) {
            let (tree, key) = (change.tree, change.key.clone());
            checks.push(match change.old {
                None => Check::Absent { tree, key, seen },
                Some(_) => Check::Key { tree, key, seen },
            });
        }
        for write in change.index.iter().filter(|w| w.value.is_some()) {
            let found = self.seen.get(&(write.tree, write.key.clone()));
            let seen = found.copied().unwrap_or(seen);
            if provable(write.tree, &write.key, seen) {
                checks.push(Check::Key {
                    tree: write.tree,
                    key: write.key.clone(),
                    seen,
                });
            }
        }
    }

    /// Reserved names that this transaction uses must still be its owner's at commit.
    fn renew_names(&mut self) -> Result<(), Stop> {
        let names: Vec<(SchemaId, String)> = self.names.keys().cloned().collect();
        if names.is_empty() {
            return Ok(());
        }
        let mut by_role: BTreeMap<RoleId, Vec<(SchemaId, String)>> = BTreeMap::new();
        for (name, role) in &self.names {
            by_role.entry(*role).or_default().push(name.clone());
        }
        let engine = std::sync::Arc::clone(&self.engine);
        for (role, names) in by_role {
            engine.renew(&names, role)?;
        }
        Ok(())
    }
}

fn refusal(refused: Refused, max: u64) -> Error {
    match refused {
        Refused::Serialization(what) => Error::new(
            state::SERIALIZATION_FAILURE,
            "could not serialize access due to read/write dependencies among transactions",
        )
        .detail(format!("{what}."))
        .hint("The transaction might succeed if retried."),
        Refused::NotLeader => leader_changed(),
        Refused::TooLarge => too_large(max),
        Refused::RecordTooLarge(bytes_max) => Error::new(
            state::PROGRAM_LIMIT_EXCEEDED,
            "transaction is too large",
        )
        .detail(format!(
            "A row before and after its change, or all messages and changes of the catalog, may \
             have {bytes_max} bytes."
        ))
        .hint("The limit is that of a journal segment (--segment-size), 64MB at most."),
        Refused::Storage(error) => error.into(),
    }
}
