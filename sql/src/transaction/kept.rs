//! Write sets that wait: what a transaction would have committed, as rows of its group, with its locks,
//! until another owner has decided (`crate::integrity`). From then on it needs nobody's memory.
//!
//! ```text
//! PREPARED   transaction u64, 0      1, outcome u8, role u32, login, application_name, trace, hops u32,
//!                                    deps: count, (group u32, position u64)*; sent: count, (group u32, bytes)*
//!            transaction u64, n u32  changes and events, as an entry has them
//! LOCKS      transaction u64, n u32  its locks (`storage::kept_locks`)
//! ```

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use storage::{
    Change, Check, Entry, GroupId, LockKey, LockMode, Payload, Position, TxId, kept_locks,
    kept_locks_key, system,
};

use super::{
    Identity, Isolation, Policy, RowChange, RowMode, Stop, TableMode, Transaction, writes,
};
use crate::catalog::RoleId;
use crate::cluster::{Reader, Writer};
use crate::outbox::Sent;
use crate::{Error, Result as SqlResult, state};

const VERSION: u8 = 1;
/// Bytes of changes in one row, about.
const CHUNK_BYTES: usize = 256 << 10;
/// Bytes of a write set that waits: it is in memory when it is taken up.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// A write set that waits, as rows of another entry.
pub(crate) struct Kept {
    rows: Vec<(u32, Bytes, Bytes)>,
    /// Changes of hidden rows, which are not to wait.
    at_once: Vec<Change>,
    /// What that entry must look at.
    checks: Vec<Check>,
    /// Is there anything in it?
    pub is_empty: bool,
}

/// What an entry has taken up of others, beside itself.
#[derive(Default)]
pub(super) struct Taken {
    /// Transactions whose write sets wait once this one has its place: their locks stay.
    keeps: Vec<Transaction>,
    /// Transactions whose locks go then.
    releases: Vec<(GroupId, TxId)>,
    /// The transaction that it is the end of, if its outcome is asked for, and who it was.
    ends: Option<(TxId, Identity, bool)>,
    /// Its own write set waits.
    waits: bool,
    checks: Vec<Check>,
}

fn key(holder: TxId, chunk: u32) -> Bytes {
    let mut key = holder.0.to_be_bytes().to_vec();
    key.extend_from_slice(&chunk.to_be_bytes());
    key.into()
}

/// Where the rows of a write set stand.
pub(crate) fn rows_of(holder: TxId) -> (Bound<Bytes>, Bound<Bytes>) {
    (
        Bound::Included(key(holder, 0)),
        Bound::Included(key(holder, u32::MAX)),
    )
}

fn damaged() -> Error {
    Error::new(
        state::DATA_CORRUPTED,
        "a transaction that waits can't be read",
    )
}

fn encode(changes: Vec<Change>, events: Vec<storage::Event>) -> Bytes {
    let entry = Entry {
        changes,
        events,
        ..Entry::default()
    };
    entry.encode().as_bytes().clone()
}

/// Changes and events of a row of PREPARED; `None`: it has none.
///
/// # Errors
/// XX001.
pub(crate) fn read_changes(key: &[u8], bytes: &Bytes) -> SqlResult<Option<Entry>> {
    if key.ends_with(&[0; 4]) {
        return Ok(None);
    }
    let payload = Payload::from_bytes(bytes.clone()).map_err(|_| damaged())?;
    Ok(Some(Entry::decode(&payload)?))
}

/// Rows that no table has, and that other owners see: they are not part of what waits.
fn is_hidden(tree: u32) -> bool {
    tree == system::INTENTS || system::outbox_to(tree).is_some()
}

impl Kept {
    /// What the entry of the transaction itself has instead of its write set, and what it must look at.
    pub(super) fn into_changes(self) -> (Vec<Change>, Vec<Check>) {
        let mut changes = self.at_once;
        for (tree, key, value) in self.rows {
            changes.push(Change {
                tree,
                key,
                new: Some(value),
                ..Change::default()
            });
        }
        for (at, change) in changes.iter_mut().enumerate() {
            change.seq = at as u32 + 1;
        }
        (changes, self.checks)
    }

    /// With more rows.
    pub fn with(mut self, rows: impl IntoIterator<Item = (u32, Bytes, Bytes)>) -> Kept {
        self.rows.extend(rows);
        self
    }
}

impl Transaction {
    /// Takes the write set out of the transaction. Its locks stay as long as it does, or as rows.
    ///
    /// # Errors
    /// 54000 when it is too large; 0A000 for DDL.
    pub(crate) fn keep(&mut self, home: GroupId, identity: &Identity) -> Result<Kept, Stop> {
        if self.has_ddl() || !self.dropped_trees.is_empty() {
            return Err(Error::unsupported(
                "DDL in a transaction whose removed keys change rows of other owners",
            )
            .hint("Commit it by itself.")
            .into());
        }
        self.lock_reads(home)?;
        let holder = self.own_id(home)?;
        let mut checks = self.read_checks(home);
        checks.extend(self.references.checks());
        let (mut changes, mut at_once) = (Vec::new(), Vec::new());
        let mut add = |change: Change| match is_hidden(change.tree) {
            true => at_once.push(change),
            false => changes.push(change),
        };
        match self.writes.is_spilled() {
            true => {
                let (mut large, mut bytes) = (self.writes.take_large()?, 0);
                while let Some(change) = large.next()? {
                    bytes += bytes_of(&change);
                    if bytes > KEPT_BYTES_MAX {
                        return Err(too_large());
                    }
                    add(change);
                }
            }
            false => {
                for (change, seen) in self.writes.take_small() {
                    self.check_change(home, &change, seen, &mut checks);
                    add(change);
                }
            }
        }
        let memory = self.engine.limits().write_memory_bytes;
        self.writes = writes::Writes::new(memory);
        let events = std::mem::take(&mut self.events);
        self.event_bytes = 0;
        let sent = self.outgoing().take();
        let is_empty = changes.is_empty() && events.is_empty() && sent.is_empty();
        let deps = self.deps.iter().filter(|(id, _)| **id != home);
        let deps: Vec<(GroupId, Position)> = deps.map(|(id, at)| (*id, *at)).collect();
        let mut rows = vec![(
            system::PREPARED,
            key(holder, 0),
            self.header(identity, &deps, &sent),
        )];
        let mut chunk = Vec::new();
        let (mut size, mut events) = (0, Some(events));
        let mut put = |chunk: &mut Vec<Change>, events: Vec<storage::Event>| {
            let at = rows.len() as u32;
            rows.push((
                system::PREPARED,
                key(holder, at),
                encode(std::mem::take(chunk), events),
            ));
        };
        for change in changes {
            size += bytes_of(&change);
            chunk.push(change);
            if size > CHUNK_BYTES {
                put(&mut chunk, events.take().unwrap_or_default());
                size = 0;
            }
        }
        put(&mut chunk, events.take().unwrap_or_default());
        let locks = self.members.get(&home);
        let locks = locks.map(|member| member.group.locks().held(holder));
        let locks = kept_locks(holder, &locks.unwrap_or_default());
        rows.extend(
            locks
                .into_iter()
                .map(|(key, value)| (system::LOCKS, key, value)),
        );
        Ok(Kept {
            rows,
            at_once,
            checks,
            is_empty,
        })
    }

    /// What a SERIALIZABLE transaction has read nobody overwrites before its write set is there: that is
    /// where it is serialized. It waits for nobody.
    ///
    /// # Errors
    /// 40001 if somebody writes there just now.
    fn lock_reads(&mut self, home: GroupId) -> Result<(), Stop> {
        if self.isolation != Isolation::Serializable {
            return Ok(());
        }
        let catalog = Arc::clone(&self.catalog);
        let table = |tree| catalog.table(catalog.table_of_tree(home, tree)?);
        let mut locks: Vec<(LockKey, LockMode)> = Vec::new();
        for (tree, key) in self
            .reads
            .all_keys()
            .filter(|(tree, _)| table(*tree).is_some())
        {
            let key = key.clone();
            locks.push((LockKey::Row { tree, key }, RowMode::Share.into()));
        }
        for table in self.reads.ranged().filter_map(table) {
            let key = LockKey::Table(table.tree);
            locks.push((key, TableMode::Share.into()));
        }
        for (key, mode) in locks {
            let locked = self.lock(home, key, mode, Policy::NoWait, String::new);
            locked.map_err(|stop| match stop {
                Stop::Error(error) if error.state() == state::LOCK_NOT_AVAILABLE => Error::new(
                    state::SERIALIZATION_FAILURE,
                    "could not serialize access due to read/write dependencies among transactions",
                )
                .hint("The transaction might succeed if retried.")
                .into(),
                stop => stop,
            })?;
        }
        Ok(())
    }

    fn header(
        &self,
        identity: &Identity,
        deps: &[(GroupId, Position)],
        sent: &[(GroupId, Sent)],
    ) -> Bytes {
        let mut out = Writer::default();
        out.u8(VERSION);
        out.u8(u8::from(self.record_outcome));
        out.u32(identity.role.0);
        out.text(&identity.login);
        out.text(&identity.application_name);
        out.text(&identity.trace);
        out.u32(u32::from(self.hops));
        out.count(deps.len());
        for (group, position) in deps {
            out.u32(group.0);
            out.u64(position.0);
        }
        out.count(sent.len());
        for (group, sent) in sent {
            out.u32(group.0);
            out.bytes(&sent.encode());
        }
        out.0.into()
    }

    /// This entry brings the write set of another transaction, to wait; that one's locks stay when it has
    /// its place.
    pub(crate) fn put_kept(
        &mut self,
        home: GroupId,
        kept: Kept,
        of: Transaction,
    ) -> Result<(), Stop> {
        for (tree, key, value) in kept.rows {
            self.put_hidden(home, tree, key, Some(value))?;
        }
        // It tells other owners nothing before it is taken up.
        debug_assert!(kept.at_once.is_empty());
        self.taken.checks.extend(kept.checks);
        self.taken.keeps.push(of);
        Ok(())
    }

    /// Its own write set, but for hidden rows, is to wait for what other owners do: its entry brings it as
    /// rows.
    pub(crate) fn wait_for_others(&mut self) {
        self.taken.waits = true;
    }

    /// Does its own write set wait?
    pub(crate) fn waits(&self) -> bool {
        self.taken.waits
    }

    /// Does what a transaction would have done whose write set has waited. `ends`: it is told as that
    /// transaction.
    ///
    /// # Errors
    /// XX001.
    pub(crate) fn take_up(&mut self, home: GroupId, holder: TxId, ends: bool) -> Result<(), Stop> {
        let rows = self.own_rows(home, system::PREPARED, rows_of(holder), usize::MAX)?;
        let (_, header) = rows.first().ok_or_else(damaged)?;
        let read = |r: &mut Reader<'_>| {
            let (version, outcome) = (r.u8()?, r.flag()?);
            let identity = Identity {
                role: RoleId(r.u32()?),
                login: r.text()?.to_owned(),
                application_name: r.text()?.to_owned(),
                trace: r.text()?.to_owned(),
            };
            let hops = u16::try_from(r.u32()?).ok()?;
            let deps = r.list(|r| Some((GroupId(r.u32()?), Position(r.u64()?))))?;
            let sent = r.list(|r| Some((GroupId(r.u32()?), r.bytes()?)))?;
            let sent = sent
                .into_iter()
                .map(|(to, sent)| Some((to, Sent::decode(sent).ok()?)));
            let sent = sent.collect::<Option<Vec<_>>>()?;
            (version == VERSION).then_some((outcome, identity, hops, deps, sent))
        };
        let (outcome, identity, hops, deps, sent) =
            read(&mut Reader(header)).ok_or_else(damaged)?;
        self.hops = self.hops.max(hops);
        for (group, position) in deps {
            self.follows_from(group, position, 0);
        }
        for (key, bytes) in &rows {
            let Some(entry) = read_changes(key, bytes)? else {
                continue;
            };
            for change in entry.changes {
                let erasing = self.erasing(change.erase.then_some(change.tree));
                let made = RowChange {
                    key: change.key,
                    old: change.old,
                    new: change.new,
                    index: change.index,
                    feed: change.feed,
                };
                let written = self.write(home, change.tree, made);
                self.erasing(erasing);
                written?;
            }
            for event in entry.events {
                self.push_event(home, event)?;
            }
        }
        for (to, sent) in sent {
            self.send(home, to, sent)?;
        }
        self.forget_kept(home, holder)?;
        if ends {
            self.taken.ends = Some((holder, identity, outcome));
        }
        Ok(())
    }

    /// Takes a write set away that has waited; its locks go when this entry has its place.
    pub(crate) fn forget_kept(&mut self, home: GroupId, holder: TxId) -> Result<(), Stop> {
        for (key, _) in self.own_rows(home, system::PREPARED, rows_of(holder), usize::MAX)? {
            self.put_hidden(home, system::PREPARED, key, None)?;
        }
        let locks = (
            Bound::Included(kept_locks_key(holder, 0)),
            Bound::Included(kept_locks_key(holder, u32::MAX)),
        );
        for (key, _) in self.own_rows(home, system::LOCKS, locks, usize::MAX)? {
            self.put_hidden(home, system::LOCKS, key, None)?;
        }
        self.taken.releases.push((home, holder));
        Ok(())
    }
}

impl Taken {
    /// What the commit must look at besides.
    pub fn checks(&mut self) -> Vec<Check> {
        std::mem::take(&mut self.checks)
    }

    /// The first position on which a write set stands that waits with this entry.
    pub fn base(&self, home: GroupId) -> Option<Position> {
        let bases = self
            .keeps
            .iter()
            .filter_map(|kept| kept.members.get(&home)?.base);
        bases.min()
    }

    /// The transaction that the entry is told as, who that was, and is its outcome asked for?
    pub fn ends(&self) -> Option<&(TxId, Identity, bool)> {
        self.ends.as_ref()
    }

    /// Nothing of it is to be done.
    pub fn clear(&mut self) {
        self.keeps.clear();
        self.releases.clear();
        self.ends = None;
        self.waits = false;
        self.checks.clear();
    }

    /// The entry has its place.
    pub fn placed(&mut self, home: GroupId, engine: &crate::engine::Engine) {
        for mut kept in self.keeps.drain(..) {
            kept.leave_locks(home);
        }
        for (group, holder) in self.releases.drain(..) {
            if let Some(group) = engine.groups().get(group) {
                group.locks().release(holder);
            }
        }
    }
}

fn bytes_of(change: &Change) -> usize {
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let index = change.index.iter().map(|w| w.key.len() + length(&w.value));
    change.key.len() + length(&change.old) + length(&change.new) + index.sum::<usize>() + 64
}

/// 54000.
fn too_large() -> Stop {
    Error::new(
        state::PROGRAM_LIMIT_EXCEEDED,
        "the transaction changes too many rows for what other owners must decide with it",
    )
    .detail(format!("It may have {KEPT_BYTES_MAX} bytes."))
    .hint("Remove fewer keys at once.")
    .into()
}
