//! Rows that are set aside lose what they hold of another owner's rows once those are gone: with an
//! ERASE of one's own, so that one's own log and copies lose it, too. `docs/erase.md` says when.
//!
//! ```text
//! storage::system::PARKED
//! 2, due u64, position u64, group u32, seq u32
//!                                       table u32, 1 and the key as JSON, or 0: any row of the table.
//!                                       It was gone there; what was set aside of it before is due then
//! 3, id u64                             what was set aside under this id, without what was erased of it
//! ```
//! Numbers in keys are big-endian.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use storage::{Direction, GroupId, Position, system};

use super::parked::{self, ID_MAX, Parked, What};
use super::sent::damaged;
use crate::Result as SqlResult;
use crate::catalog::{Catalog, Key, Table, TableId, Trigger};
use crate::changes::{descriptor_at, may_follow};
use crate::cluster::{Reader, Writer};
use crate::engine::Engine;
use crate::fired::{self, Cursor};
use crate::transaction::{Stop, Transaction, readable};
use crate::types::Type;

/// The first byte of keys of rows that are gone.
const GONE: u8 = 2;
/// Such rows that one entry sees to.
const GONE_MAX: usize = 1000;
/// Rows set aside from which one entry erases.
const ERASED_MAX: usize = 1000;
/// Rows set aside that are read at once.
const READ_MAX: usize = 1000;

/// Rows that are gone from a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    /// OID of the table.
    pub table: u32,
    /// The key as JSON; `None`: any row may have been one.
    pub key: Option<String>,
    /// Where they were removed. What was set aside of them later is of others.
    pub at: Cursor,
    /// What is set aside of them goes at once, rather than with what is removed then.
    pub at_once: bool,
}

impl Gone {
    fn key(&self) -> Bytes {
        let due = if self.at_once { 0 } else { self.at.position.0 };
        let mut key = vec![GONE];
        key.extend_from_slice(&due.to_be_bytes());
        key.extend_from_slice(&self.at.position.0.to_be_bytes());
        key.extend_from_slice(&self.at.group.0.to_be_bytes());
        key.extend_from_slice(&self.at.seq.to_be_bytes());
        key.into()
    }

    fn value(&self) -> Bytes {
        let mut out = Writer::default();
        out.u32(self.table);
        out.u8(u8::from(self.key.is_some()));
        self.key.iter().for_each(|key| out.text(key));
        out.0.into()
    }

    fn read(key: &[u8], value: &[u8]) -> SqlResult<(Place, u32, Option<String>)> {
        let mut r = Reader(value);
        let read = (|| {
            let position = u64::from_be_bytes(key.get(9..17)?.try_into().ok()?);
            let seq = u32::from_be_bytes(key.get(21..25)?.try_into().ok()?);
            let table = r.u32()?;
            let key = match r.flag()? {
                true => Some(r.text()?.to_owned()),
                false => None,
            };
            Some(((position, seq), table, key))
        })();
        read.filter(|_| r.is_empty()).ok_or_else(damaged)
    }
}

/// Is anything set aside?
///
/// # Errors
/// As of any read.
pub(crate) fn any_parked(home: GroupId, tx: &mut Transaction) -> Result<bool, Stop> {
    Ok(parked::counts(home, tx)?.1 > 0)
}

/// Notes that rows are gone of which something may be set aside.
///
/// # Errors
/// As of any write.
pub(crate) fn note_gone(home: GroupId, gone: &Gone, tx: &mut Transaction) -> Result<(), Stop> {
    let mine = |t: &Arc<Trigger>| t.group == home && t.is_on_followed();
    let table = TableId(gone.table);
    let catalog = Arc::clone(tx.catalog());
    for trigger in catalog.triggers_of(table).into_iter().filter(mine) {
        let parked = match &gone.key {
            Some(key) => {
                let key = fired::index_key(trigger.id, key);
                tx.newest(home, system::PARKED, &key)?.is_some()
            }
            None => first_counted(home, trigger.id, tx)? == Some(trigger.id),
        };
        if parked {
            let (key, value) = (gone.key(), gone.value());
            return tx.put_hidden(home, system::PARKED, key, Some(value));
        }
    }
    Ok(())
}

/// Was the key of a table made of other columns, names or types before a change of it? What is set aside
/// is known by the key as it was shown.
///
/// # Errors
/// The history of the catalog can't be read.
pub(crate) fn is_key_altered(
    source: GroupId,
    table: TableId,
    at: Position,
    tx: &Transaction,
) -> SqlResult<bool> {
    let groups = tx.engine().groups();
    let then = |at| descriptor_at(tx.catalog(), groups, (source, table), at);
    let Some(after) = then(at.next())? else {
        return Ok(false);
    };
    // A descriptor holds for entries above it.
    let before = then(after.since)?;
    Ok(before.is_some_and(|before| shape(&before) != shape(&after)))
}

/// The columns of a table's key: their names and types.
fn shape(table: &Table) -> Vec<Option<(&str, Type)>> {
    let column = |id| {
        let column = table.column_by_id(id)?;
        Some((column.name.as_str(), column.ty))
    };
    match &table.key {
        Key::Primary(ids) => ids.iter().map(|id| column(*id)).collect(),
        Key::RowId => Vec::new(),
    }
}

/// The first trigger, from this OID on, of which something is counted.
fn first_counted(home: GroupId, from: u32, tx: &mut Transaction) -> Result<Option<u32>, Stop> {
    let first = Bound::Included(Bytes::from(fired::index_of(from)));
    let range = (first, Bound::Excluded(Bytes::from_static(&[GONE])));
    let rows = tx.own_rows(home, system::PARKED, range, 1)?;
    let trigger = rows
        .first()
        .and_then(|(key, _)| key.get(1..5)?.try_into().ok());
    Ok(trigger.map(u32::from_be_bytes))
}

/// A row of the feed: its position, and its number in the entry.
type Place = (u64, u32);

/// Why rows that are set aside are to lose what they hold.
#[derive(Default)]
struct Due {
    /// The keys of what says so.
    notes: Vec<Bytes>,
    /// By table and key, up to where.
    rows: BTreeMap<(u32, String), Place>,
    /// By table, up to where.
    tables: BTreeMap<u32, Place>,
    /// Of these triggers all: nobody tells any more what becomes of their rows.
    triggers: BTreeSet<u32>,
    /// The tables of these triggers are gone, where it is known that they have not yet to come.
    without_table: BTreeSet<u32>,
}

impl Due {
    fn read(home: GroupId, upto: Position, tx: &mut Transaction) -> Result<Due, Stop> {
        let mut due = Due::default();
        let last = [&[GONE][..], &upto.0.to_be_bytes(), &[u8::MAX; 16]].concat();
        let first = Bound::Included(Bytes::from_static(&[GONE]));
        let range = (first, Bound::Included(Bytes::from(last)));
        for (key, value) in tx.own_rows(home, system::PARKED, range, GONE_MAX)? {
            let (at, table, of) = Gone::read(&key, &value)?;
            let upto = match of {
                Some(of) => due.rows.entry((table, of)).or_default(),
                None => due.tables.entry(table).or_default(),
            };
            *upto = at.max(*upto);
            due.notes.push(key);
        }
        Ok(due)
    }

    fn is_empty(&self) -> bool {
        self.notes.is_empty() && self.triggers.is_empty() && self.without_table.is_empty()
    }

    /// Does nobody tell any more what becomes of the rows of a trigger?
    fn look_at(&mut self, home: GroupId, id: u32, catalog: &Catalog, tx: &Transaction) {
        // It is the home's own: of its triggers everything is known here.
        let Some(trigger) = catalog.trigger(id).filter(|t| t.group == home) else {
            self.triggers.insert(id);
            return;
        };
        let Some(table) = catalog.table(trigger.table) else {
            self.without_table.insert(id);
            return;
        };
        let in_doubt = tx.engine().cluster().doubts(&[table.group], None);
        let role = catalog.owner_of_group(home);
        let read = role.is_some_and(|role| may_follow(catalog, role, table));
        if in_doubt.is_none() && !read {
            self.triggers.insert(id);
        }
    }

    fn has(&self, row: &fired::Parked, tx: &Transaction) -> bool {
        let of_row = self.rows.get(&(row.table, row.key.clone()));
        let upto = of_row.max(self.tables.get(&row.table));
        self.triggers.contains(&row.trigger)
            || upto.is_some_and(|upto| (row.position, row.seq) <= *upto)
            || (self.without_table.contains(&row.trigger) && has_read(row, tx))
    }
}

/// Is it known here what has become of a row's table since?
fn has_read(row: &fired::Parked, tx: &Transaction) -> bool {
    let (engine, source) = (tx.engine(), GroupId(row.source));
    let held = engine.groups().get(source);
    let read = held.is_some_and(|held| readable(engine.groups(), &held).0 >= row.position);
    read && engine.cluster().doubts(&[source], None).is_none()
}

impl Engine {
    /// The groups that are led here and have set rows aside, or noted that some are gone.
    ///
    /// # Errors
    /// XX001.
    pub fn parking(&self) -> SqlResult<BTreeSet<GroupId>> {
        let mut found = BTreeSet::new();
        for group in self.groups().all() {
            if !self.leads(group.id()) {
                continue;
            }
            let first = Bound::Included(Bytes::from(fired::index_of(0)));
            let range = (first, Bound::Excluded(Bytes::from_static(&[GONE + 1])));
            let at = group.applied();
            let mut rows = group.scan(system::PARKED, range, at, Direction::Forward)?;
            if rows.next().transpose()?.is_some() {
                found.insert(group.id());
            }
        }
        Ok(found)
    }
}

/// Triggers that run no more, and of which nothing is left that could be erased.
pub(crate) type Swept = BTreeSet<u32>;

/// Erases what is due of what is set aside: of rows that were removed up to a position; and all of
/// triggers that are gone, with their table or by themselves, or whose table may not be read any
/// more. False: nothing.
///
/// # Errors
/// As of any write.
pub(crate) fn erase_gone(
    home: GroupId,
    upto: Position,
    swept: &mut Swept,
    tx: &mut Transaction,
) -> Result<bool, Stop> {
    let mut due = Due::read(home, upto, tx)?;
    let catalog = Arc::clone(tx.catalog());
    let mut from = 0;
    // What is not in the catalog may be there all the same, before all of it was read.
    let knows_all = tx.engine().cluster().knows_all();
    while let Some(id) = first_counted(home, from, tx)?.filter(|_| knows_all) {
        due.look_at(home, id, &catalog, tx);
        let Some(next) = id.checked_add(1) else { break };
        from = next;
    }
    swept.retain(|id| due.triggers.contains(id));
    due.triggers.retain(|id| !swept.contains(id));
    if due.is_empty() {
        return Ok(false);
    }
    parked::lock(home, tx)?;
    let before = tx.erasing(Some(system::PARKED));
    let erased = erase(home, &due, tx);
    tx.erasing(before);
    let erased = erased?;
    if erased == 0 {
        swept.append(&mut due.triggers);
    }
    Ok(erased > 0 || !due.notes.is_empty())
}

/// Had the table a primary key then? Without one the row itself was what told which one it is.
fn had_key(row: &fired::Parked, tx: &Transaction) -> SqlResult<bool> {
    let groups = tx.engine().groups();
    let of = (GroupId(row.source), TableId(row.table));
    let then = descriptor_at(tx.catalog(), groups, of, Position(row.position))?;
    Ok(match then {
        Some(table) => matches!(table.key, Key::Primary(_)),
        None => ![&row.old, &row.new].contains(&&Some(row.key.clone())),
    })
}

/// Erases what is due, at most so many rows; then what said so. How many rows.
fn erase(home: GroupId, due: &Due, tx: &mut Transaction) -> Result<usize, Stop> {
    let mut erased = 0;
    let mut from = Bound::Included(parked::key(1));
    loop {
        let range = (from, Bound::Included(parked::key(ID_MAX)));
        let rows = tx.own_rows(home, system::PARKED, range, READ_MAX)?;
        let Some((last, _)) = rows.last() else { break };
        from = Bound::Excluded(last.clone());
        for (key, value) in rows {
            let mut parked = Parked::decode(&value)?;
            match parked.what {
                What::Trigger(row) if row.erased.is_none() && due.has(&row, tx) => {
                    let has_key = had_key(&row, tx)?;
                    if !has_key {
                        row.add(home, -1, tx)?;
                    }
                    let row = row.erase(has_key);
                    if !has_key {
                        row.add(home, 1, tx)?;
                    }
                    parked.what = What::Trigger(row);
                }
                _ => continue,
            }
            parked.error.erase();
            let id = parked::id(&key).ok_or_else(damaged)?;
            tx.put_hidden(home, system::PARKED, key, None)?;
            let (key, left) = (parked::erased_key(id), parked.encode());
            tx.put_hidden(home, system::PARKED, key, Some(left))?;
            erased += 1;
        }
        if erased >= ERASED_MAX {
            // The others come with the next entry.
            return Ok(erased);
        }
    }
    for note in &due.notes {
        tx.put_hidden(home, system::PARKED, note.clone(), None)?;
    }
    Ok(erased)
}
