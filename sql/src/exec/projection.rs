//! Keeping projections: whatever writes a row of a projection's base table, or of a table that it
//! joins, makes the projected row anew in the same transaction, from the newest state of all of them.
//!
//! Who makes a projected row anew has its key locked before reading what it is made of, so of two
//! transactions the later one sees what the earlier one did. That is enough where each finds the row.
//! A row that only begins to reference a parent is not found by who changes that parent at the same
//! time: so a *fresh* link holds its parent, and what lies behind it, with a SHARE lock.

use std::sync::Arc;

use bytes::Bytes;

use super::foreign::{gone, parent_entry, slots};
use super::referencing::referencing;
use super::writer::{Inserted, Writer, differs, empty_frame};
use crate::catalog::{ForeignKey, Table};
use crate::error::{Error, Result as SqlResult};
use crate::exec::{ExecCx, Row, RowReader};
use crate::expr::{eval_row, is_true};
use crate::plan::{Shape, Source};
use crate::transaction::{Locked, Policy, RowMode, Stop};
use crate::types::Datum;

/// A projection with all that it takes to keep it, compiled once per catalog version.
#[derive(Debug)]
pub struct Projected {
    shape: Shape,
    /// The projection's own write path.
    writer: Arc<Writer>,
    /// Of each source, what is read of it.
    readers: Vec<RowReader>,
}

/// Links that a transaction has made: a bit for each source whose row they lead to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fresh(u32);

impl Projected {
    /// Of a projection's query and its own write path.
    ///
    /// # Errors
    /// XX001 when a stored missing value is damaged.
    pub fn new(shape: Shape, writer: Arc<Writer>) -> SqlResult<Projected> {
        let reader = |source: &Source| RowReader::new(&source.table, &source.reads);
        Ok(Projected {
            readers: shape.sources.iter().map(reader).collect::<SqlResult<_>>()?,
            shape,
            writer,
        })
    }

    /// The base table.
    pub fn base(&self) -> &Arc<Table> {
        self.shape.base()
    }

    /// The projection's own write path.
    pub fn writer(&self) -> &Arc<Writer> {
        &self.writer
    }

    /// The sources that are this table, but for the base.
    pub fn joins(&self, table: &Table) -> impl Iterator<Item = usize> {
        let id = table.id;
        let sources = self.shape.sources.iter().enumerate().skip(1);
        sources
            .filter(move |(_, source)| source.table.id == id)
            .map(|(at, _)| at)
    }

    /// The base's row with this key was inserted, replaced or removed.
    pub(super) fn written(
        &self,
        key: &[u8],
        old: Option<&[Datum]>,
        new: Option<&[Datum]>,
        cx: &mut ExecCx<'_>,
    ) -> Result<(), Stop> {
        let base = &self.shape.sources[0];
        if let (Some(old), Some(new)) = (old, new)
            && !base.reads.iter().any(|at| differs(&old[*at], &new[*at]))
        {
            return Ok(());
        }
        let joined = new.map(|new| {
            let mut joined = self.empty();
            for at in &base.reads {
                joined[*at] = new[*at].clone();
            }
            joined
        });
        if let (Some(joined), Some(new)) = (&joined, new) {
            self.hold(joined.clone(), self.fresh(0, old, new), cx)?;
        }
        self.lock(key, Policy::Wait, cx)?;
        self.put(key, joined, cx).map(drop)
    }

    /// Makes the row of a base row anew. Is there one now? `None`: somebody has it locked.
    ///
    /// # Errors
    /// Those of the query's expressions and of the projection's indexes.
    pub fn refresh(
        &self,
        key: &[u8],
        policy: Policy,
        cx: &mut ExecCx<'_>,
    ) -> Result<Option<bool>, Stop> {
        if self.lock(key, policy, cx)? == Locked::Skipped {
            return Ok(None);
        }
        let base = self.base();
        let joined = match cx.transaction.current(base.group, base.tree, key)? {
            Some(bytes) => Some(self.beside(0, &bytes, self.empty())?),
            None => None,
        };
        self.put(key, joined, cx).map(Some)
    }

    /// The projected row of a base row.
    ///
    /// # Errors
    /// As [`Projected::refresh`].
    pub fn row_of(&self, base: &Bytes, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        let joined = self.beside(0, base, self.empty())?;
        self.project(joined, cx).map_err(|stop| self.told(stop, cx))
    }

    /// Which links out of a source's row lead elsewhere than before.
    pub(super) fn fresh(&self, source: usize, old: Option<&[Datum]>, new: &[Datum]) -> Fresh {
        let table = &self.shape.sources[source].table;
        let mut fresh = Fresh::default();
        for (at, key) in self.links(source) {
            let changed = |slot: &usize| old.is_none_or(|old| differs(&old[*slot], &new[*slot]));
            if slots(table, &key.columns).iter().any(changed) {
                fresh.0 |= 1 << at;
            }
        }
        fresh
    }

    /// Does the query read something of this source that has changed?
    pub(super) fn reads_change(&self, source: usize, old: &[Datum], new: &[Datum]) -> bool {
        let reads = &self.shape.sources[source].reads;
        reads.iter().any(|at| differs(&old[*at], &new[*at]))
    }

    /// The foreign key by which a source is joined.
    pub(super) fn key(&self, source: usize) -> Option<&Arc<ForeignKey>> {
        let join = self.shape.sources[source].join.as_ref();
        join.map(|join| &join.key)
    }

    /// May there be rows that reference a row of this source before it is there?
    pub(super) fn may_precede(&self, source: usize) -> bool {
        let Some(join) = &self.shape.sources[source].join else {
            return false;
        };
        let child = &self.shape.sources[join.from].table;
        let own = child.id == self.shape.sources[source].table.id;
        own || join.key.deferrable || !join.key.validated
    }

    /// Makes all rows anew that are made of a row of this source, found by its referenced values.
    pub(super) fn parent_changed(
        &self,
        source: usize,
        values: &[Datum],
        fresh: Fresh,
        cx: &mut ExecCx<'_>,
    ) -> Result<(), Stop> {
        for key in self.dependents(source, values, cx)? {
            cx.tick()?;
            let base = self.base();
            if fresh.0 != 0
                && let Some(bytes) = cx.transaction.current(base.group, base.tree, &key)?
            {
                let joined = self.beside(0, &bytes, self.empty())?;
                self.hold(joined, fresh, cx)?;
            }
            self.refresh(&key, Policy::Wait, cx)?;
        }
        Ok(())
    }

    /// The keys of the base rows that reach a row of this source.
    fn dependents(
        &self,
        source: usize,
        values: &[Datum],
        cx: &mut ExecCx<'_>,
    ) -> Result<Vec<Vec<u8>>, Stop> {
        let Some(join) = &self.shape.sources[source].join else {
            return Ok(Vec::new());
        };
        let child = &self.shape.sources[join.from];
        let keys = referencing(&child.table, &join.key, values, usize::MAX, cx)?;
        let Some(next) = &child.join else {
            return Ok(keys);
        };
        let mut found = Vec::new();
        for key in keys {
            cx.tick()?;
            let (group, tree) = (child.table.group, child.table.tree);
            let Some(bytes) = cx.transaction.current(group, tree, &key)? else {
                continue;
            };
            let row = self.beside(join.from, &bytes, self.empty())?;
            let slots = slots(&child.table, &next.key.referenced_columns);
            let values: Vec<Datum> = slots.iter().map(|s| row[child.start + s].clone()).collect();
            if !values.iter().any(Datum::is_null) {
                found.extend(self.dependents(join.from, &values, cx)?);
            }
        }
        Ok(found)
    }

    /// A joined row without values.
    fn empty(&self) -> Row {
        let last = self.shape.sources.last();
        let width = last.map_or(0, |last| last.start + last.table.columns.len());
        vec![Datum::Null; width]
    }

    /// Puts the values of a source's row in their places.
    fn beside(&self, source: usize, bytes: &Bytes, mut joined: Row) -> Result<Row, Stop> {
        let values = self.readers[source].read(bytes)?;
        let source = &self.shape.sources[source];
        for (at, value) in source.reads.iter().zip(values) {
            joined[source.start + at] = value;
        }
        Ok(joined)
    }

    /// Foreign keys of a source's row by which others are joined.
    fn links(&self, from: usize) -> impl Iterator<Item = (usize, &Arc<ForeignKey>)> {
        let sources = self.shape.sources.iter().enumerate();
        sources.filter_map(move |(at, source)| {
            let join = source.join.as_ref()?;
            (join.from == from).then_some((at, &join.key))
        })
    }

    /// The values of the foreign key that leads to a source; `None`: one is NULL.
    fn reference(&self, source: usize, joined: &[Datum]) -> Option<(Arc<ForeignKey>, Vec<Datum>)> {
        let join = self.shape.sources[source].join.as_ref()?;
        let from = &self.shape.sources[join.from];
        let slots = slots(&from.table, &join.key.columns);
        let values: Vec<Datum> = slots
            .iter()
            .map(|slot| joined[from.start + slot].clone())
            .collect();
        let whole = !values.iter().any(Datum::is_null);
        whole.then(|| (Arc::clone(&join.key), values))
    }

    /// Adds the row of a source that is joined; false if there is none.
    fn join(&self, source: usize, joined: &mut Row, cx: &mut ExecCx<'_>) -> Result<bool, Stop> {
        let Some((key, values)) = self.reference(source, joined) else {
            return Ok(false);
        };
        let table = &self.shape.sources[source].table;
        let (tree, entry, own) = parent_entry(table, &key, &values, cx)?;
        let found = cx.transaction.current(table.group, tree, &entry)?;
        let bytes = match found {
            Some(row_key) if !own => cx.transaction.current(table.group, table.tree, &row_key)?,
            other => other,
        };
        if let Some(bytes) = &bytes {
            *joined = self.beside(source, bytes, std::mem::take(joined))?;
        }
        Ok(bytes.is_some())
    }

    /// Locks the rows, there or not, to which fresh links lead, and those behind them.
    fn hold(&self, mut joined: Row, fresh: Fresh, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        let mut held = fresh.0;
        if held == 0 {
            return Ok(());
        }
        for (at, source) in self.shape.sources.iter().enumerate().skip(1) {
            let from = source.join.as_ref().map_or(0, |join| join.from);
            if held & (1 << at | 1 << from) == 0 {
                self.join(at, &mut joined, cx)?;
                continue;
            }
            held |= 1 << at;
            let Some((key, values)) = self.reference(at, &joined) else {
                continue;
            };
            let group = source.table.group;
            let (tree, entry, own) = parent_entry(&source.table, &key, &values, cx)?;
            let mode = RowMode::Share;
            cx.transaction
                .lock_row(group, tree, &entry, mode, Policy::Wait)?;
            if !own && let Some(row) = cx.transaction.current(group, tree, &entry)? {
                let tree = source.table.tree;
                cx.transaction
                    .lock_row(group, tree, &row, mode, Policy::Wait)?;
            }
            self.join(at, &mut joined, cx)?;
        }
        Ok(())
    }

    /// The projected row of a joined row in which only the base's values stand.
    fn project(&self, mut joined: Row, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        let frame = empty_frame();
        for (at, source) in self.shape.sources.iter().enumerate().skip(1) {
            let Some(join) = &source.join else { continue };
            if self.join(at, &mut joined, cx)? && is_true(&join.on, &joined, &frame, cx)? {
                continue;
            }
            if !join.outer {
                return Ok(None);
            }
            joined[source.start..source.start + source.table.columns.len()].fill(Datum::Null);
        }
        if !is_true(&self.shape.filter, &joined, &frame, cx)? {
            return Ok(None);
        }
        let exprs = self.shape.outputs.iter().map(|output| &output.expr);
        let mut row = Vec::with_capacity(self.shape.outputs.len());
        for expr in exprs {
            row.extend(eval_row(std::slice::from_ref(expr), &joined, &frame, cx)?);
        }
        self.writer.complete(&mut row, cx)?;
        Ok(Some(row))
    }

    fn lock(&self, key: &[u8], policy: Policy, cx: &mut ExecCx<'_>) -> Result<Locked, Stop> {
        let table = self.writer.table();
        let mode = RowMode::Update;
        cx.transaction
            .lock_row(table.group, table.tree, key, mode, policy)
    }

    /// Writes what has become of the projected row, if it is another one; is there one? Its key is
    /// locked.
    fn put(&self, key: &[u8], joined: Option<Row>, cx: &mut ExecCx<'_>) -> Result<bool, Stop> {
        self.replace(key, joined, cx)
            .map_err(|stop| self.told(stop, cx))
    }

    fn replace(&self, key: &[u8], joined: Option<Row>, cx: &mut ExecCx<'_>) -> Result<bool, Stop> {
        let table = Arc::clone(self.writer.table());
        let new = match joined {
            Some(joined) => self.project(joined, cx)?,
            None => None,
        };
        let old = cx.transaction.current(table.group, table.tree, key)?;
        let there = new.is_some();
        match (old, new) {
            (None, None) => {}
            (None, Some(new)) => match self.writer.insert(&new, None, cx)? {
                // The one key names both rows: it is locked, and found again, by the base's.
                Inserted::Done(own) if own == key => {}
                Inserted::Done(_) => {
                    return Err(Error::internal("a projected row has another key").into());
                }
                Inserted::Conflict(_) => {
                    return Err(Error::internal("a conflict without ON CONFLICT").into());
                }
            },
            (Some(bytes), None) => {
                let old = self.writer.read(&bytes)?;
                self.writer.delete(key, &bytes, &old, cx)?;
                gone(&self.writer, &old, None, cx);
            }
            // The feed does not show what has not changed.
            (Some(bytes), Some(new)) if self.writer.encode(&new) == bytes => {}
            (Some(bytes), Some(new)) => {
                let old = self.writer.read(&bytes)?;
                self.writer.update(key, &bytes, &old, &new, cx)?;
                gone(&self.writer, &old, Some(&new), cx);
            }
        }
        Ok(there)
    }

    /// Says of which projection an error is; nothing of what it holds to who may not see it.
    fn told(&self, stop: Stop, cx: &ExecCx<'_>) -> Stop {
        let Stop::Error(error) = stop else {
            return stop;
        };
        let table = self.writer.table();
        if cx.catalog.has_role(cx.role, table.owner) {
            let schema = cx.catalog.schema_name(table.schema);
            let context = format!("materialized view \"{schema}.{}\"", table.name);
            return Stop::Error(error.context(context));
        }
        // What is wrong with a value (class 22) or a row (class 23) would show it.
        match error.state().as_str().starts_with("22") || error.state().as_str().starts_with("23") {
            true => Stop::Error(Error::new(
                error.state(),
                "the row can't be accepted by its owner",
            )),
            false => Stop::Error(error),
        }
    }
}
