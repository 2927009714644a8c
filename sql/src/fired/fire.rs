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
    /// Of the owner of this group.
    pub fn new(home: GroupId) -> Fires {
        Fires {
            home,
            tables: BTreeMap::new(),
        }
    }

    /// What a row fires, by name.
    ///
    /// # Errors
    /// A value that the table's columns do not take; those of WHEN.
    pub fn of(
        &mut self,
        row: &FeedRow,
        cx: &mut ExecCx<'_>,
    ) -> std::result::Result<Vec<Fire<'_>>, Stop> {
        let Some((id, old, new)) = row.change() else {
            return Ok(Vec::new());
        };
        let home = self.home;
        if let Entry::Vacant(unknown) = self.tables.entry(id) {
            let known = match cx.catalog.table(id).cloned() {
                Some(table) => {
                    let triggers = plan::followed_triggers(cx.catalog, &table, home)?;
                    Some((table, triggers))
                }
                None => None,
            };
            unknown.insert(known);
        }
        let Some(Some((table, triggers))) = self.tables.get(&id) else {
            return Ok(Vec::new());
        };
        let then = then(table, row.position(), cx)?;
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
    pub fn all(&self, row: &FeedRow, source: GroupId, hops: u16, catalog: &Catalog) -> Vec<Parked> {
        let Some((table, ..)) = row.change() else {
            return Vec::new();
        };
        let begun = |at: Option<u64>| at.is_some_and(|at| at < row.position().0);
        let mine = |trigger: &Arc<Trigger>| {
            let fires = trigger.is_on_followed() && trigger.enabled.fires();
            fires && trigger.group == self.home && begun(trigger.after)
        };
        let all = catalog.triggers_of(table).into_iter().filter(mine);
        all.map(|trigger| parked(row, source, hops, trigger.id, table))
            .collect()
    }
}

fn operation(old: &Option<Row>, new: &Option<Row>) -> Option<Operation> {
    match (old, new) {
        (None, Some(_)) => Some(Operation::Insert),
        (Some(_), Some(_)) => Some(Operation::Update),
        (Some(_), None) => Some(Operation::Delete),
        (None, None) => None,
    }
}

/// The table as it was at a position: columns had other names.
fn then(table: &Arc<Table>, at: Position, cx: &ExecCx<'_>) -> Result<Arc<Table>> {
    let groups = cx.transaction.engine().groups();
    let found = descriptor_at(cx.catalog, groups, (table.group, table.id), at)?;
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
    pub fn parked(&self, row: &FeedRow, source: GroupId, hops: u16) -> Parked {
        parked(row, source, hops, self.trigger.trigger.id, self.table.id)
    }
}

fn parked(row: &FeedRow, source: GroupId, hops: u16, trigger: u32, table: TableId) -> Parked {
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
        source: source.0,
        position: row.position().0,
        seq: row.seq(),
        hops,
        trigger,
        table: table.0,
        key: key.unwrap_or_default(),
        old,
        new,
    }
}

/// A row whose trigger was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parked {
    /// The group of the table.
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
}

impl Parked {
    pub fn write(&self, out: &mut Writer) {
        out.u32(self.source);
        out.u64(self.position);
        out.u32(self.seq);
        out.u32(u32::from(self.hops));
        out.u32(self.trigger);
        out.u32(self.table);
        out.text(&self.key);
        for text in [&self.old, &self.new] {
            out.u8(u8::from(text.is_some()));
            out.text(text.as_deref().unwrap_or_default());
        }
    }

    pub fn read(r: &mut Reader<'_>) -> Option<Parked> {
        let (source, position, seq) = (r.u32()?, r.u64()?, r.u32()?);
        let hops = u16::try_from(r.u32()?).ok()?;
        let (trigger, table) = (r.u32()?, r.u32()?);
        let key = r.text()?.to_owned();
        let mut text = || {
            let there = r.flag()?;
            let text = r.text()?.to_owned();
            Some(there.then_some(text))
        };
        Some(Parked {
            source,
            position,
            seq,
            hops,
            trigger,
            table,
            key,
            old: text()?,
            new: text()?,
        })
    }

    /// `insert`, `update` or `delete`.
    pub fn op(&self) -> &'static str {
        match (&self.old, &self.new) {
            (None, _) => "insert",
            (Some(_), Some(_)) => "update",
            (Some(_), None) => "delete",
        }
    }

    /// Runs the trigger after all.
    ///
    /// # Errors
    /// 42704 if it or its table is gone; what the function raises.
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
        let shown = |text: &Option<String>| -> Result<Datum> {
            let parsed = text.as_deref().map(json::parse).transpose()?;
            Ok(parsed.map_or(Datum::Null, Datum::jsonb))
        };
        let then = then(table, Position(self.position), cx)?;
        let old = row_of(table, &then, &shown(&self.old)?, cx)?;
        let new = row_of(table, &then, &shown(&self.new)?, cx)?;
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
        let (source, position) = (GroupId(self.source), Position(self.position));
        cx.transaction.follows_from(source, position, self.hops);
        fire.run(self.hops, cx)
    }

    fn index_key(&self) -> Bytes {
        let mut key = vec![INDEX];
        key.extend_from_slice(&self.trigger.to_be_bytes());
        match self.key.len() <= KEY_BYTES {
            true => key.extend_from_slice(self.key.as_bytes()),
            // A row without a primary key may be longer than a key may be.
            false => {
                let hash = xxhash_rust::xxh3::xxh3_128(self.key.as_bytes());
                key.extend_from_slice(&hash.to_be_bytes());
            }
        }
        key.into()
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

/// Bytes of a key that is counted as it is.
const KEY_BYTES: usize = 1000;
/// The first byte of keys of what is counted by key; those of ids begin with 0.
const INDEX: u8 = 1;
