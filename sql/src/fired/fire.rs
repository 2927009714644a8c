//! Running triggers on rows of another owner's entry, inside an entry of the reader's.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use bytes::Bytes;
use storage::{GroupId, Position, system};

use super::HOPS_MAX;
use crate::catalog::{Catalog, Table, TableId, Trigger};
use crate::changes::{FeedRow, descriptor_at};
use crate::cluster::{Reader, Writer};
use crate::exec::{self, ExecCx, Row};
use crate::functions::json::from_json;
use crate::plpgsql::{self, Firing, Operation, RowTrigger};
use crate::transaction::{Policy, RowMode, Stop, Transaction};
use crate::types::{Datum, Json, json};
use crate::{Error, Result, plan, state};

/// The triggers on the tables of one batch.
pub(crate) struct Fires {
    home: GroupId,
    source: GroupId,
    tables: BTreeMap<TableId, Option<(Arc<Table>, Vec<RowTrigger>)>>,
}

/// One trigger and the row that fires it.
pub(crate) struct Fire<'a> {
    trigger: &'a RowTrigger,
    table: &'a Arc<Table>,
    operation: Operation,
    old: Option<Row>,
    new: Option<Row>,
}

impl Fires {
    /// Of the owner of `home`, those of this [`Trigger::source`].
    pub fn new(home: GroupId, source: GroupId) -> Fires {
        Fires {
            home,
            source,
            tables: BTreeMap::new(),
        }
    }

    /// What a row of an entry of `group` fires, by name.
    ///
    /// # Errors
    /// A value that the table's columns do not take; those of WHEN.
    pub fn of(
        &mut self,
        row: &FeedRow,
        group: GroupId,
        cx: &mut ExecCx<'_>,
    ) -> std::result::Result<Vec<Fire<'_>>, Stop> {
        let Some((id, old, new)) = row.change() else {
            return Ok(Vec::new());
        };
        let (home, source) = (self.home, self.source);
        if let Entry::Vacant(unknown) = self.tables.entry(id) {
            let known = match cx.catalog.table(id).cloned() {
                Some(table) => {
                    let mut triggers = plan::followed_triggers(cx.catalog, &table, home)?;
                    triggers.retain(|of| of.trigger.source(&table) == source);
                    Some((table, triggers))
                }
                None => None,
            };
            unknown.insert(known);
        }
        let Some(Some((table, triggers))) = self.tables.get(&id) else {
            return Ok(Vec::new());
        };
        let then = then(table, (group, row.position()), cx)?;
        let read = |shown, cx: &ExecCx<'_>| row_of(table, &then, shown, cx);
        let (old, new) = (read(old, cx)?, read(new, cx)?);
        let Some(operation) = operation(&old, &new) else {
            return Ok(Vec::new());
        };
        let mut fires = Vec::new();
        for trigger in triggers {
            let begun = trigger
                .trigger
                .after
                .is_some_and(|at| at < row.position().0);
            if begun && exec::fires(trigger, operation, old.as_ref(), new.as_ref(), cx)? {
                fires.push(Fire {
                    trigger,
                    table,
                    operation,
                    old: old.clone(),
                    new: new.clone(),
                });
            }
        }
        Ok(fires)
    }
}

/// Owners' triggers and commands that lead to one another come to an end.
///
/// # Errors
/// 54001.
pub(crate) fn check_hops(hops: u16) -> Result<()> {
    match hops > HOPS_MAX {
        false => Ok(()),
        true => {
            let message = "triggers on followed tables and commands lead to one another too often";
            Err(
                Error::new(state::STATEMENT_TOO_COMPLEX, message).detail(format!(
                    "This is an effect of {hops} of them, one after the other; {HOPS_MAX} may be."
                )),
            )
        }
    }
}

impl Fires {
    /// All triggers on the table of a row that [`Fires::of`] could not read, as they are set aside.
    pub fn all(&self, row: &FeedRow, group: GroupId, hops: u16, catalog: &Catalog) -> Vec<Parked> {
        let table = row.change().and_then(|(id, ..)| catalog.table(id));
        let Some(table) = table else {
            return Vec::new();
        };
        let all = self.triggers(table, row, catalog);
        all.map(|trigger| parked(row, group, hops, trigger.id, table.id))
            .collect()
    }

    /// The triggers that fire on a table, if they have begun at a row.
    fn triggers(
        &self,
        table: &Table,
        row: &FeedRow,
        catalog: &Catalog,
    ) -> impl Iterator<Item = Arc<Trigger>> {
        let (home, at) = (self.home, row.position().0);
        let (source, from) = (self.source, table.clone());
        let all = catalog.triggers_of(table.id).into_iter();
        all.filter(move |trigger| {
            let fires = trigger.is_on_followed() && trigger.enabled.fires();
            let ours = trigger.group == home && trigger.source(&from) == source;
            fires && ours && trigger.after.is_some_and(|after| after < at)
        })
    }

    /// What can't run on an erase that does not say what is gone, as it is set aside, and why.
    pub fn untold(
        &self,
        row: &FeedRow,
        source: GroupId,
        hops: u16,
        catalog: &Catalog,
    ) -> Vec<(Parked, Error)> {
        let Some((id, None)) = row.removed().filter(|_| row.is_erase()) else {
            return Vec::new();
        };
        let Some(table) = catalog.table(id) else {
            return Vec::new();
        };
        let all = self.triggers(table, row, catalog);
        // The row that is gone from a table without a primary key is a row that is gone.
        let meant = all.filter(|trigger| row.is_lost() || trigger.events.delete);
        let untold = |trigger: Arc<Trigger>| Parked {
            erased: Some("erase"),
            ..parked(row, source, hops, trigger.id, id)
        };
        let error = why_untold(row.is_lost());
        meant
            .map(|trigger| (untold(trigger), error.clone()))
            .collect()
    }
}

/// OW001 if what was there is lost, 55000 if it is not known which row is gone.
fn why_untold(lost: bool) -> Error {
    let error = match lost {
        true => Error::new(
            state::BEHIND_RETENTION,
            "what the trigger was to run on has been erased",
        )
        .detail("The trigger has not run for longer than freehold.erase_after allows."),
        false => Error::new(
            state::OBJECT_NOT_IN_PREREQUISITE_STATE,
            "a row was erased of which nothing is told",
        )
        .detail("Its table has no primary key."),
    };
    error.hint(
        "Compare what the trigger keeps with the table as it is, and forget this with \
         freehold.skip(id).",
    )
}

fn operation(old: &Option<Row>, new: &Option<Row>) -> Option<Operation> {
    match (old, new) {
        (None, Some(_)) => Some(Operation::Insert),
        (Some(_), Some(_)) => Some(Operation::Update),
        (Some(_), None) => Some(Operation::Delete),
        (None, None) => None,
    }
}

/// The table as it was in a group at a position: columns had other names.
fn then(
    table: &Arc<Table>,
    (group, at): (GroupId, Position),
    cx: &ExecCx<'_>,
) -> Result<Arc<Table>> {
    let groups = cx.transaction.engine().groups();
    let found = descriptor_at(cx.catalog, groups, (group, table.id), at)?;
    Ok(found.unwrap_or_else(|| Arc::clone(table)))
}

/// A row of the table, as the feed has told it of the table as it was then.
fn row_of(table: &Table, then: &Table, shown: &Datum, cx: &ExecCx<'_>) -> Result<Option<Row>> {
    let Datum::Jsonb(shown) = shown else {
        return Ok(None);
    };
    let mut row = vec![Datum::Null; table.columns.len()];
    for (slot, column) in table.columns.iter().enumerate() {
        let named = then.column_by_id(column.id).unwrap_or(column);
        match shown.get(&named.name).filter(|_| !column.dropped) {
            None | Some(Json::Null) => {}
            Some(value) => row[slot] = from_json(value, column.ty, cx.evaluation.format)?,
        }
    }
    Ok(Some(row))
}

impl Fire<'_> {
    /// Runs it.
    ///
    /// # Errors
    /// What the function raises, and 54001 where triggers lead to triggers without an end.
    pub fn run(&self, hops: u16, cx: &mut ExecCx<'_>) -> std::result::Result<(), Stop> {
        check_hops(hops)?;
        let firing = Firing {
            trigger: &self.trigger.trigger,
            routine: &self.trigger.routine,
            table: self.table,
            operation: self.operation,
            old: self.old.as_ref(),
            new: self.new.as_ref(),
        };
        plpgsql::fire(&firing, cx).map(drop)
    }

    /// As it is set aside.
    pub fn parked(&self, row: &FeedRow, group: GroupId, hops: u16) -> Parked {
        parked(row, group, hops, self.trigger.trigger.id, self.table.id)
    }
}

fn parked(row: &FeedRow, group: GroupId, hops: u16, trigger: u32, table: TableId) -> Parked {
    let text = |value: &Datum| match value {
        Datum::Jsonb(json) => Some(json.to_string()),
        _ => None,
    };
    let change = row.change();
    let (old, new) = change.map_or((None, None), |(_, old, new)| (text(old), text(new)));
    // Without a primary key the row itself tells which one it is.
    let key = text(row.key())
        .or_else(|| old.clone())
        .or_else(|| new.clone());
    Parked {
        source: group.0,
        position: row.position().0,
        seq: row.seq(),
        hops,
        trigger,
        table: table.0,
        key: key.unwrap_or_default(),
        old,
        new,
        erased: None,
    }
}

/// A row whose trigger was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parked {
    /// The group of the entry.
    pub source: u32,
    /// The entry.
    pub position: u64,
    /// The row's number there.
    pub seq: u32,
    /// With the effect of this one.
    pub hops: u16,
    /// OID of the trigger.
    pub trigger: u32,
    /// OID of the table.
    pub table: u32,
    /// The row's key as JSON.
    pub key: String,
    /// The row before.
    pub old: Option<String>,
    /// The row after.
    pub new: Option<String>,
    /// Where nothing is there of the row but its key, or not even that: what was done with it.
    pub erased: Option<&'static str>,
}

/// What may have been done with a row that is erased, by their numbers.
const ERASED: [&str; 4] = ["insert", "update", "delete", "erase"];

impl Parked {
    /// What may stay of it once the row is erased where it comes from. Where the table `has_key`s its
    /// key stays.
    pub fn erase(self, has_key: bool) -> Parked {
        Parked {
            erased: Some(self.op()),
            key: if has_key { self.key } else { String::new() },
            old: None,
            new: None,
            ..self
        }
    }

    pub fn write(&self, out: &mut Writer) {
        out.u32(self.source);
        out.u64(self.position);
        out.u32(self.seq);
        out.u32(u32::from(self.hops));
        out.u32(self.trigger);
        out.u32(self.table);
        out.text(&self.key);
        if let Some(erased) = self.erased {
            let number = ERASED.iter().position(|op| *op == erased);
            return out.u8(number.expect("every operation has a number") as u8);
        }
        for text in [&self.old, &self.new] {
            out.u8(u8::from(text.is_some()));
            out.text(text.as_deref().unwrap_or_default());
        }
    }

    /// `is_erased` is said elsewhere.
    pub fn read(r: &mut Reader<'_>, is_erased: bool) -> Option<Parked> {
        let (source, position, seq) = (r.u32()?, r.u64()?, r.u32()?);
        let hops = u16::try_from(r.u32()?).ok()?;
        let (trigger, table) = (r.u32()?, r.u32()?);
        let key = r.text()?.to_owned();
        let (mut old, mut new, mut erased) = (None, None, None);
        if is_erased {
            erased = Some(*ERASED.get(usize::from(r.u8()?))?);
        } else {
            for image in [&mut old, &mut new] {
                let there = r.flag()?;
                let text = r.text()?.to_owned();
                *image = there.then_some(text);
            }
        }
        Some(Parked {
            source,
            position,
            seq,
            hops,
            trigger,
            table,
            key,
            old,
            new,
            erased,
        })
    }

    /// `insert`, `update` or `delete`; `erase` where it is not known.
    pub fn op(&self) -> &'static str {
        match (self.erased, &self.old, &self.new) {
            (Some(op), ..) => op,
            (None, None, _) => "insert",
            (None, Some(_), Some(_)) => "update",
            (None, Some(_), None) => "delete",
        }
    }

    /// The row before and after, for its trigger.
    ///
    /// # Errors
    /// 55000 if nothing is left of it.
    fn images(&self) -> Result<(Option<&String>, Option<&String>)> {
        match self.erased {
            None => Ok((self.old.as_ref(), self.new.as_ref())),
            // As the feed tells of a removal that was erased.
            Some("delete") if !self.key.is_empty() => Ok((Some(&self.key), None)),
            Some(_) => {
                let message = "nothing is left of the row: it was erased at its owner";
                Err(Error::new(state::OBJECT_NOT_IN_PREREQUISITE_STATE, message)
                    .hint("Forget it with freehold.skip(id)."))
            }
        }
    }

    /// Runs the trigger after all.
    ///
    /// # Errors
    /// 42704 if it or its table is gone; 55000 if the row is; what the function raises.
    pub fn run(&self, home: GroupId, cx: &mut ExecCx<'_>) -> std::result::Result<(), Stop> {
        let catalog: Arc<Catalog> = Arc::clone(cx.catalog);
        let gone = || {
            Error::new(
                state::UNDEFINED_OBJECT,
                "the trigger that was set aside, or its table, is gone",
            )
            .hint("Forget it with freehold.skip(id).")
        };
        let table = catalog.table(TableId(self.table)).ok_or_else(gone)?;
        let all = plan::followed_triggers(&catalog, table, home)?;
        let trigger = all.iter().find(|t| t.trigger.id == self.trigger);
        let shown = |text: Option<&String>| -> Result<Datum> {
            let parsed = text.map(|text| json::parse(text)).transpose()?;
            Ok(parsed.map_or(Datum::Null, Datum::jsonb))
        };
        let (source, position) = (GroupId(self.source), Position(self.position));
        let then = then(table, (source, position), cx)?;
        let (old, new) = self.images()?;
        let old = row_of(table, &then, &shown(old)?, cx)?;
        let new = row_of(table, &then, &shown(new)?, cx)?;
        let operation = operation(&old, &new).ok_or_else(gone)?;
        let fire = Fire {
            trigger: trigger.ok_or_else(gone)?,
            table,
            operation,
            old,
            new,
        };
        // It was set aside before it was known whether it is meant.
        if !exec::fires(
            fire.trigger,
            operation,
            fire.old.as_ref(),
            fire.new.as_ref(),
            cx,
        )? {
            return Ok(());
        }
        cx.transaction.follows_from(source, position, self.hops);
        fire.run(self.hops, cx)
    }

    fn index_key(&self) -> Bytes {
        index_key(self.trigger, &self.key)
    }

    /// How many rows of the same key are set aside for the same trigger.
    pub fn count(&self, home: GroupId, tx: &mut Transaction) -> std::result::Result<u64, Stop> {
        let row = tx.newest(home, system::PARKED, &self.index_key())?;
        let count = row.as_deref().and_then(|row| row.try_into().ok());
        Ok(count.map_or(0, u64::from_be_bytes))
    }

    /// There is one more of them, or one less.
    pub fn add(
        &self,
        home: GroupId,
        more: i64,
        tx: &mut Transaction,
    ) -> std::result::Result<(), Stop> {
        let key = self.index_key();
        tx.lock_row(home, system::PARKED, &key, RowMode::Update, Policy::Wait)?;
        let count = self.count(home, tx)?.saturating_add_signed(more);
        let value = (count > 0).then(|| Bytes::copy_from_slice(&count.to_be_bytes()));
        tx.put_hidden(home, system::PARKED, key, value)
    }
}

/// The key of how many rows of a key are set aside for a trigger.
pub(crate) fn index_key(trigger: u32, key: &str) -> Bytes {
    let mut out = index_of(trigger);
    match key.len() <= KEY_BYTES {
        true => out.extend_from_slice(key.as_bytes()),
        // A row without a primary key may be longer than a key may be.
        false => {
            let hash = xxhash_rust::xxh3::xxh3_128(key.as_bytes());
            out.extend_from_slice(&hash.to_be_bytes());
        }
    }
    out.into()
}

/// What all of these keys of a trigger begin with.
pub(crate) fn index_of(trigger: u32) -> Vec<u8> {
    let mut key = vec![INDEX];
    key.extend_from_slice(&trigger.to_be_bytes());
    key
}

/// Bytes of a key that is counted as it is.
const KEY_BYTES: usize = 1000;
/// The first byte of keys of what is counted by key; those of ids begin with 0.
const INDEX: u8 = 1;
