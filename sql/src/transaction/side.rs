//! Entries beside a transaction, which stay whatever becomes of it: blocks of OIDs, groups of
//! owners, reserved names, ranges of sequences. Each is committed at once; what it gives is used
//! only when it is applied, so the statement waits and runs again.
//!
//! Those of the directory are its leader's to make: elsewhere a wish goes there
//! ([`crate::cluster`]), and the statement runs again when the answer is applied here.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use storage::{
    Change, Changes, Check, Commit, Direction, Group, GroupId, Meta, Outcome, Position, Refused,
};

use super::noted::Noting;
use super::{Stop, Transaction, Wait, leader_changed, snapshot};
use crate::catalog::{Catalog, RoleId, SchemaId, directory};
use crate::cluster::{Answer, Wish};
use crate::engine::{Engine, Led};
use crate::session::signal::Signal;

/// Tree numbers of tables and indexes begin here.
const FIRST_TREE: u32 = 1_000;

/// How the directory decides about names.
type Decide =
    fn(&Catalog, &[(SchemaId, String)], RoleId, u64) -> crate::Result<directory::Reserved>;

/// A row of a system tree to be written.
pub use crate::catalog::SystemWrite;

/// What the engine has in hand of the directory's blocks.
#[derive(Default)]
pub struct Allocations {
    oids: Arc<Mutex<Oids>>,
    trees: Mutex<BTreeMap<GroupId, u32>>,
    /// One decision about the directory at a time.
    deciding: Mutex<()>,
    /// Reads of contracts that are being noted.
    pub(super) noting: Noting,
}

#[derive(Default)]
struct Oids {
    free: Range<u32>,
    /// A block that is committed and perhaps not applied yet.
    pending: Option<(Range<u32>, Position)>,
    /// The directory's leader was asked for one.
    asked: Option<Signal>,
}

/// What the directory's leader has done about a wish.
pub enum Granted {
    /// It is granted, or refused for what its catalog shows.
    Already,
    /// It is granted once this entry is applied.
    At(Position),
    /// These OIDs, once this entry is applied.
    Oids(Range<u32>, Position),
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
        self.side_entry_beside(group, rows, Vec::new(), seen, meta)
    }

    /// The same if nobody has written these keys either, each with its tree, which it does not write.
    ///
    /// # Errors
    /// `Wait::Again` when somebody has.
    pub(crate) fn side_entry_beside(
        &self,
        group: &Arc<Group>,
        rows: Vec<SystemWrite>,
        unwritten: Vec<(u32, Bytes)>,
        seen: Position,
        meta: Meta,
    ) -> Result<Position, Stop> {
        let Some(epoch) = group.term() else {
            return Err(Stop::Wait(Wait::Leader(group.id())));
        };
        let txid = group.begin();
        let mut changes = Vec::with_capacity(rows.len());
        let check = |(tree, key)| Check::Key { tree, key, seen };
        let mut checks: Vec<Check> = unwritten.into_iter().map(check).collect();
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
                ..Change::default()
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
            keeps_locks: false,
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
        if let Some(oid) = oids.free.next() {
            return Ok(oid);
        }
        if !self.leads(GroupId::DIRECTORY) {
            drop(oids);
            return Err(self.ask_for_oids());
        }
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
        let (block, position) = self.oid_block()?;
        oids.pending = Some((block, position));
        Err(Stop::Wait(Wait::Position(GroupId::DIRECTORY, position)))
    }

    /// Commits the next block of OIDs.
    fn oid_block(&self) -> Result<(Range<u32>, Position), Stop> {
        let (group, newest) = self.directory()?;
        let row = group.get(crate::catalog::TREE_OIDS, &directory::oid_key(), newest)?;
        let (block, write) = directory::oid_block(row.as_deref())?;
        let position = self.side_entry(&group, vec![write], newest, Meta::default())?;
        Ok((block, position))
    }

    /// One block is asked for at a time. What comes is free at once, for it is committed.
    fn ask_for_oids(&self) -> Stop {
        let hand = Arc::clone(&self.allocations().oids);
        let signal = Signal::default();
        {
            let mut oids = hand.lock();
            if let Some(asked) = oids.asked.as_ref().filter(|asked| !asked.is_set()) {
                return Stop::Wait(Wait::Wish(asked.clone()));
            }
            oids.asked = Some(signal.clone());
        }
        let told = signal.clone();
        let done = move |answer: crate::Result<Answer>| {
            told.finish(match answer {
                Ok(Answer::Oids(block)) => {
                    hand.lock().free = block;
                    Outcome::Applied
                }
                Ok(Answer::At(_)) | Err(_) => Outcome::Lost,
            });
        };
        self.cluster().ask_directory(Wish::Oids, Box::new(done));
        Stop::Wait(Wait::Wish(signal))
    }

    /// Asks the directory's leader; the signal comes when its answer is applied here.
    fn ask(&self, wish: Wish) -> Stop {
        let signal = Signal::default();
        let told = signal.clone();
        let directory = self.groups().get(GroupId::DIRECTORY);
        let done = move |answer: crate::Result<Answer>| match (answer, directory) {
            (Ok(Answer::At(position)), Some(directory)) => {
                directory.when(position, Box::new(move |outcome| told.finish(outcome)));
            }
            _ => told.finish(Outcome::Lost),
        };
        self.cluster().ask_directory(wish, Box::new(done));
        Stop::Wait(Wait::Wish(signal))
    }

    /// Does what a wish asks for, as the directory's leader.
    pub(crate) fn grant(&self, wish: &Wish) -> Result<Granted, Stop> {
        if !self.leads(GroupId::DIRECTORY) {
            return Err(Stop::Wait(Wait::Leader(GroupId::DIRECTORY)));
        }
        let placed = match wish {
            Wish::Oids => {
                let (block, position) = self.oid_block()?;
                return Ok(Granted::Oids(block, position));
            }
            Wish::Group(role) => self.place_owner(*role)?,
            Wish::Reserve(names, role) => self.place_names(names, *role, directory::reserve)?,
            Wish::Renew(names, role) => self.place_names(names, *role, directory::renew)?,
            Wish::Read(table, role) => self.place_read(*table, *role)?,
        };
        Ok(placed.map_or(Granted::Already, Granted::At))
    }

    /// The group of a role's tables; it is made with the first one.
    pub fn owner_group(&self, role: RoleId) -> Result<GroupId, Stop> {
        let id = self.have_group(role)?;
        match self.led(id) {
            Led::Here => Ok(id),
            Led::At(_) => Err(Stop::Wait(Wait::Leader(id))),
            Led::Nowhere => {
                let (_, newest) = self.directory()?;
                // One that is held here already has lost its leader, or is just being made.
                let held = self.groups().get(id);
                if held.as_ref().is_none_or(|held| !held.is_followed()) {
                    self.create_group(id, newest);
                }
                Err(Stop::Wait(match held {
                    Some(_) => Wait::Leader(id),
                    None => Wait::Group(id),
                }))
            }
        }
    }

    /// The same, wherever it is led.
    pub fn have_group(&self, role: RoleId) -> Result<GroupId, Stop> {
        if let Some(id) = self.catalog().group_of(role) {
            return Ok(id);
        }
        if !self.leads(GroupId::DIRECTORY) {
            return Err(self.ask(Wish::Group(role)));
        }
        Err(match self.place_owner(role)? {
            Some(position) => Stop::Wait(Wait::Position(GroupId::DIRECTORY, position)),
            None => Stop::again(),
        })
    }

    /// Commits a group for the role, unless it has one.
    fn place_owner(&self, role: RoleId) -> Result<Option<Position>, Stop> {
        let _deciding = self.allocations().deciding.lock();
        let (group, newest) = self.directory()?;
        let catalog = self.catalog();
        if catalog.group_of(role).is_some() {
            return Ok(None);
        }
        let (_, rows) = directory::owner(&catalog, role);
        self.place_for(&group, newest, rows, &catalog, role)
            .map(Some)
    }

    /// Reserves names (in `public`, or schema names with schema 0) for a role.
    pub fn reserve(&self, names: &[(SchemaId, String)], role: RoleId) -> Result<(), Stop> {
        self.reservation(names, role, directory::reserve, Wish::Reserve)
    }

    pub(super) fn renew(&self, names: &[(SchemaId, String)], role: RoleId) -> Result<(), Stop> {
        self.reservation(names, role, directory::renew, Wish::Renew)
    }

    fn reservation(
        &self,
        names: &[(SchemaId, String)],
        role: RoleId,
        decide: Decide,
        wish: fn(Vec<(SchemaId, String)>, RoleId) -> Wish,
    ) -> Result<(), Stop> {
        if !self.leads(GroupId::DIRECTORY) {
            let now = self.clock().unix_micros();
            return match decide(&self.catalog(), names, role, now)? {
                directory::Reserved::Held => Ok(()),
                directory::Reserved::Write(_) => Err(self.ask(wish(names.to_vec(), role))),
            };
        }
        match self.place_names(names, role, decide)? {
            None => Ok(()),
            Some(position) => Err(Stop::Wait(Wait::Position(GroupId::DIRECTORY, position))),
        }
    }

    /// Commits the reservation of names, unless they are the role's.
    fn place_names(
        &self,
        names: &[(SchemaId, String)],
        role: RoleId,
        decide: Decide,
    ) -> Result<Option<Position>, Stop> {
        let _deciding = self.allocations().deciding.lock();
        let (group, newest) = self.directory()?;
        let catalog = self.catalog();
        match decide(&catalog, names, role, self.clock().unix_micros())? {
            directory::Reserved::Held => Ok(None),
            directory::Reserved::Write(rows) => self
                .place_for(&group, newest, rows, &catalog, role)
                .map(Some),
        }
    }

    fn place_for(
        &self,
        group: &Arc<Group>,
        newest: Position,
        rows: Vec<SystemWrite>,
        catalog: &Catalog,
        role: RoleId,
    ) -> Result<Position, Stop> {
        let meta = Meta {
            role: catalog.role_name(role),
            ..Meta::default()
        };
        self.side_entry(group, rows, newest, meta)
    }

    /// A number for a new tree of a group, never handed out before.
    pub fn new_tree(&self, group: GroupId) -> Result<u32, Stop> {
        let mut trees = self.allocations().trees.lock();
        let next = match trees.get(&group) {
            Some(next) => *next,
            None => {
                let held = snapshot::held(self.groups(), group)?;
                let newest = newest(&held)?;
                // Outboxes have numbers of their own.
                let first = storage::system::outbox(GroupId(0)).to_be_bytes();
                let first = Bytes::copy_from_slice(&first);
                let tables = (Bound::Unbounded, Bound::Excluded(first));
                let tree = crate::catalog::TREE_TREES;
                let last = held
                    .scan(tree, tables, newest, Direction::Backward)?
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
