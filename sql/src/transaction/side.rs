//! Entries beside a transaction, which stay whatever becomes of it: blocks of OIDs, groups of
//! owners, reserved names, ranges of sequences. Each is committed at once; what it gives is used
//! only when it is applied, so the statement waits and runs again.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use storage::{Change, Changes, Check, Commit, Direction, Group, GroupId, Meta, Position, Refused};

use super::{Stop, Transaction, Wait, leader_changed, snapshot};
use crate::catalog::{RoleId, SchemaId, directory};
use crate::engine::Engine;

/// Tree numbers of tables and indexes begin here.
const FIRST_TREE: u32 = 1_000;

/// A row of a system tree to be written.
pub use crate::catalog::SystemWrite;

/// What the engine has in hand of the directory's blocks.
#[derive(Default)]
pub struct Allocations {
    oids: Mutex<Oids>,
    trees: Mutex<BTreeMap<GroupId, u32>>,
    /// One decision about the directory at a time.
    deciding: Mutex<()>,
}

#[derive(Default)]
struct Oids {
    free: Range<u32>,
    /// A block that is committed and perhaps not applied yet.
    pending: Option<(Range<u32>, Position)>,
}

impl Engine {
    /// Commits rows in an entry of their own, if nobody has written them since `seen`.
    ///
    /// # Errors
    /// `Wait::Again` when somebody has.
    pub(crate) fn side_entry(
        &self,
        group: &Arc<Group>,
        rows: Vec<SystemWrite>,
        seen: Position,
        meta: Meta,
    ) -> Result<Position, Stop> {
        let Some(epoch) = group.term() else {
            return Err(Stop::Error(leader_changed()));
        };
        let txid = group.begin();
        let mut changes = Vec::with_capacity(rows.len());
        let mut checks = Vec::with_capacity(rows.len());
        for (at, row) in rows.into_iter().enumerate() {
            let old = group.get(row.tree, &row.key, seen)?;
            checks.push(Check::Key {
                tree: row.tree,
                key: row.key.clone(),
                seen,
            });
            changes.push(Change {
                seq: at as u32 + 1,
                tree: row.tree,
                feed: false,
                key: row.key,
                old,
                new: row.value,
                index: Vec::new(),
            });
        }
        let commit = Commit {
            txid,
            epoch,
            base: seen,
            meta,
            changes: Changes::Small(changes),
            events: Vec::new(),
            dropped_trees: Vec::new(),
            deps: Vec::new(),
            checks,
            record_outcome: false,
        };
        group.commit(commit).map_err(|refused| match refused {
            Refused::Serialization(_) => Stop::again(),
            Refused::Storage(error) => error.into(),
            Refused::NotLeader | Refused::TooLarge | Refused::RecordTooLarge(_) => {
                Stop::Error(leader_changed())
            }
        })
    }

    fn directory(&self) -> Result<(Arc<Group>, Position), Stop> {
        let group = snapshot::held(self.groups(), GroupId::DIRECTORY)?;
        let newest = newest(&group)?;
        Ok((group, newest))
    }

    /// Commits what `decide` wants of the newest catalog into the directory, in an entry of its
    /// own: nodes and placements. The position is to be awaited; `None` if it wants nothing.
    ///
    /// # Errors
    /// `Wait` while the newest state can't be read; 40001 where the directory is not led.
    pub fn change_directory(
        &self,
        decide: impl FnOnce(&crate::catalog::Catalog) -> Vec<crate::catalog::Change>,
    ) -> Result<Option<Position>, Stop> {
        let _deciding = self.allocations().deciding.lock();
        let (group, newest) = self.directory()?;
        let changes = decide(&self.catalog());
        if changes.is_empty() {
            return Ok(None);
        }
        let rows = changes.iter().flat_map(crate::catalog::rows).collect();
        self.side_entry(&group, rows, newest, Meta::default())
            .map(Some)
    }

    /// A new OID, from a block that the directory has given out.
    pub fn new_oid(&self) -> Result<u32, Stop> {
        let mut oids = self.allocations().oids.lock();
        let (group, newest) = self.directory()?;
        if oids.free.is_empty()
            && let Some((block, position)) = oids.pending.take()
        {
            if group.applied() < position {
                oids.pending = Some((block, position));
                return Err(Stop::Wait(Wait::Position(GroupId::DIRECTORY, position)));
            }
            // Lost with its leader, or applied: the row tells.
            let row = group.get(crate::catalog::TREE_OIDS, &directory::oid_key(), newest)?;
            if row
                .and_then(|r| be_u32(&r))
                .is_some_and(|next| next >= block.end)
            {
                oids.free = block;
            }
        }
        if let Some(oid) = oids.free.next() {
            return Ok(oid);
        }
        let row = group.get(crate::catalog::TREE_OIDS, &directory::oid_key(), newest)?;
        let (block, write) = directory::oid_block(row.as_deref())?;
        let position = self.side_entry(&group, vec![write], newest, Meta::default())?;
        oids.pending = Some((block, position));
        Err(Stop::Wait(Wait::Position(GroupId::DIRECTORY, position)))
    }

    /// The group of a role's tables; it is made with the first one.
    pub fn owner_group(&self, role: RoleId) -> Result<GroupId, Stop> {
        let _deciding = self.allocations().deciding.lock();
        let (directory_group, newest) = self.directory()?;
        let catalog = self.catalog();
        let Some(id) = catalog.group_of(role) else {
            let (_, rows) = directory::owner(&catalog, role);
            let meta = Meta {
                role: catalog.role_name(role),
                ..Meta::default()
            };
            let position = self.side_entry(&directory_group, rows, newest, meta)?;
            return Err(Stop::Wait(Wait::Position(GroupId::DIRECTORY, position)));
        };
        if self.groups().get(id).is_some_and(|g| g.term().is_some()) {
            return Ok(id);
        }
        self.create_group(id, newest);
        Err(Stop::Wait(Wait::Group(id)))
    }

    /// Reserves names (in `public`, or schema names with schema 0) for a role.
    pub fn reserve(&self, names: &[(SchemaId, String)], role: RoleId) -> Result<(), Stop> {
        self.reservation(names, role, directory::reserve)
    }

    pub(super) fn renew(&self, names: &[(SchemaId, String)], role: RoleId) -> Result<(), Stop> {
        self.reservation(names, role, directory::renew)
    }

    fn reservation(
        &self,
        names: &[(SchemaId, String)],
        role: RoleId,
        decide: fn(
            &crate::catalog::Catalog,
            &[(SchemaId, String)],
            RoleId,
            u64,
        ) -> crate::Result<directory::Reserved>,
    ) -> Result<(), Stop> {
        let _deciding = self.allocations().deciding.lock();
        let (group, newest) = self.directory()?;
        let catalog = self.catalog();
        match decide(&catalog, names, role, self.clock().unix_micros())? {
            directory::Reserved::Held => Ok(()),
            directory::Reserved::Write(rows) => {
                let meta = Meta {
                    role: catalog.role_name(role),
                    ..Meta::default()
                };
                let position = self.side_entry(&group, rows, newest, meta)?;
                Err(Stop::Wait(Wait::Position(GroupId::DIRECTORY, position)))
            }
        }
    }

    /// A number for a new tree of a group, never handed out before.
    pub fn new_tree(&self, group: GroupId) -> Result<u32, Stop> {
        let mut trees = self.allocations().trees.lock();
        let next = match trees.get(&group) {
            Some(next) => *next,
            None => {
                let held = snapshot::held(self.groups(), group)?;
                let newest = newest(&held)?;
                let all = (Bound::Unbounded, Bound::Unbounded);
                let tree = crate::catalog::TREE_TREES;
                let last = held
                    .scan(tree, all, newest, Direction::Backward)?
                    .next()
                    .transpose()?;
                let last = last
                    .and_then(|(key, _)| be_u32(&key))
                    .unwrap_or(FIRST_TREE - 1);
                last.max(FIRST_TREE - 1) + 1
            }
        };
        trees.insert(group, next + 1);
        Ok(next)
    }
}

impl Transaction {
    /// A new OID. See [`Engine::new_oid`].
    pub fn new_oid(&mut self) -> Result<u32, Stop> {
        self.engine.new_oid()
    }

    /// The group of a role's tables, made with the first one.
    pub fn owner_group(&mut self, role: RoleId) -> Result<GroupId, Stop> {
        self.engine.owner_group(role)
    }

    /// A number for a new tree.
    pub fn new_tree(&mut self, group: GroupId) -> Result<u32, Stop> {
        self.engine.new_tree(group)
    }

    /// Reserves names for a role before this transaction uses them; they are renewed at commit if
    /// need be.
    pub fn reserve(&mut self, names: &[(SchemaId, String)], role: RoleId) -> Result<(), Stop> {
        self.engine.reserve(names, role)?;
        for name in names {
            self.names.insert(name.clone(), role);
        }
        Ok(())
    }
}

fn newest(group: &Arc<Group>) -> Result<Position, Stop> {
    let id = group.id();
    group
        .newest()
        .map_err(|wait| Stop::Wait(Wait::Position(id, wait.0)))
}

fn be_u32(bytes: &Bytes) -> Option<u32> {
    bytes
        .get(..4)
        .and_then(|b| b.try_into().ok())
        .map(u32::from_be_bytes)
}
