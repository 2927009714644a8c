//! The write path of one table: what holds for its rows (NOT NULL, CHECK, unique keys), where
//! they are stored, and which index entries go with them.

use std::sync::Arc;

use bytes::Bytes;
use storage::RowKey;

use super::foreign::slots;
use super::trigger::Change;
use crate::catalog::{ForeignKey, Index, Key, Registration, Table, TableId, Timing, not_known_yet};
use crate::error::{Error, Result as SqlResult, state};
use crate::exec::{ExecCx, Projected, Row, RowReader};
use crate::expr::{Expr, Frame};
use crate::plpgsql::RowTrigger;
use crate::transaction::{IndexWrite, Policy, RowChange, RowMode, Stop};
use crate::types::codec::encode_value;
use crate::types::key::encode_key;
use crate::types::{Datum, Type};

/// Bytes of one index key, as large as PostgreSQL's limit allows about.
const KEY_BYTES_MAX: usize = 8191;

/// How an index's entries are made from a row (one slot per column of the table).
#[derive(Debug)]
pub struct IndexShape {
    /// Key expressions.
    pub keys: Vec<Expr>,
    /// The conjuncts of a partial index's predicate.
    pub predicate: Vec<Expr>,
    /// Table columns that keys and predicate read.
    pub reads: Vec<usize>,
    /// The rows' own tree: no entries of its own.
    clustering: bool,
}

/// A foreign key that references this table.
#[derive(Clone, Debug)]
pub struct Referenced {
    /// The referencing table.
    pub table: Arc<Table>,
    /// Its constraint.
    pub key: Arc<ForeignKey>,
}

/// A table's write path, compiled once per catalog version.
#[derive(Debug)]
pub struct Writer {
    table: Arc<Table>,
    schema: String,
    reader: RowReader,
    /// (slot, column id, NULL is written out).
    stored: Vec<(usize, u32, bool)>,
    not_null: Vec<usize>,
    pub(super) checks: Vec<(String, Expr)>,
    pub(super) generated: Vec<(usize, Expr)>,
    pub(super) defaults: Vec<(usize, Expr)>,
    indexes: Vec<IndexShape>,
    /// Slots of the key columns with type, descending, nulls first.
    key: Option<Vec<(usize, Type, bool, bool)>>,
    key_columns: Vec<usize>,
    /// Foreign keys of this table with their parents.
    pub(super) foreign: Vec<Arc<ForeignKey>>,
    pub(super) referenced: Vec<Referenced>,
    /// Other owners' foreign keys that reference it, with their columns' slots.
    pub(super) asked: Vec<(Registration, Vec<usize>)>,
    /// Projections of this table's rows.
    projections: Vec<Arc<Projected>>,
    /// Projections that join this table, and as which of their sources.
    pub(super) joined: Vec<(Arc<Projected>, usize)>,
    /// Those that fire, by name.
    pub(super) triggers: Vec<RowTrigger>,
}

/// What a write of one row came to.
pub(super) enum Inserted {
    /// The row is in; its key (an event has none).
    Done(Vec<u8>),
    /// A unique key is taken, by the row with this key.
    Conflict(Vec<u8>),
}

/// The compiled parts that a [`Writer`] is made of.
pub struct Parts {
    /// CHECK constraints by name.
    pub checks: Vec<(String, Expr)>,
    /// Generated columns.
    pub generated: Vec<(usize, Expr)>,
    /// Defaults of the other columns (COPY, DDL).
    pub defaults: Vec<(usize, Expr)>,
    /// Key expressions and predicate conjuncts per index.
    pub indexes: Vec<(Vec<Expr>, Vec<Expr>)>,
    /// The schema's name, for errors.
    pub schema: String,
    /// Its foreign keys.
    pub foreign: Vec<Arc<ForeignKey>>,
    /// Foreign keys that reference the table.
    pub referenced: Vec<Referenced>,
    /// Projections that read the table.
    pub projections: Vec<Arc<Projected>>,
    /// The triggers that fire, by name.
    pub triggers: Vec<RowTrigger>,
}

impl Writer {
    /// Puts a write path together.
    ///
    /// # Errors
    /// XX001 when a stored missing value is damaged.
    pub fn new(table: &Arc<Table>, parts: Parts) -> SqlResult<Writer> {
        let all: Vec<usize> = (0..table.columns.len()).collect();
        let mut stored: Vec<(usize, u32, bool)> = table
            .columns
            .iter()
            .enumerate()
            .filter(|(_, column)| !column.dropped)
            .map(|(slot, column)| (slot, column.id.0, column.missing.is_some()))
            .collect();
        stored.sort_unstable_by_key(|(_, id, _)| *id);
        let key = match &table.key {
            Key::RowId => None,
            Key::Primary(ids) => Some(primary_key(table, ids)),
        };
        let indexes: Vec<IndexShape> = table
            .indexes
            .iter()
            .zip(parts.indexes)
            .map(|(index, (keys, predicate))| IndexShape {
                reads: columns_read(keys.iter().chain(&predicate)),
                keys,
                predicate,
                clustering: table.is_clustering(index),
            })
            .collect();
        let mut key_columns: Vec<usize> = key.iter().flatten().map(|(slot, ..)| *slot).collect();
        // A change of any unique key without expressions or predicate locks the row FOR UPDATE.
        for (index, shape) in table.indexes.iter().zip(&indexes) {
            if index.unique && index.predicate.is_none() {
                key_columns.extend(&shape.reads);
            }
        }
        let asked = table
            .registered
            .iter()
            .map(|of| (of.clone(), slots(table, &of.columns)));
        let asked = asked.collect();
        let joined = parts.projections.iter().flat_map(|projection| {
            let sources = projection.joins(table);
            sources.map(|source| (Arc::clone(projection), source))
        });
        let joined = joined.collect();
        let mut projections = parts.projections;
        projections.retain(|projection| projection.base().id == table.id);
        Ok(Writer {
            table: table.clone(),
            schema: parts.schema,
            reader: RowReader::new(table, &all)?,
            stored,
            not_null: not_null(table),
            checks: parts.checks,
            generated: parts.generated,
            defaults: parts.defaults,
            indexes,
            key,
            key_columns,
            foreign: parts.foreign,
            asked,
            referenced: parts.referenced,
            projections,
            joined,
            triggers: parts.triggers,
        })
    }

    /// The table.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// No foreign keys either way, no projections and no triggers: a write touches this table alone.
    pub fn is_local(&self) -> bool {
        let alone = self.foreign.is_empty() && self.referenced.is_empty();
        let alone = alone && self.asked.is_empty();
        alone && self.projections.is_empty() && self.joined.is_empty() && self.triggers.is_empty()
    }

    /// Has the projections of a row made anew that was written.
    fn project(
        &self,
        key: &[u8],
        old: Option<&[Datum]>,
        new: Option<&[Datum]>,
        cx: &mut ExecCx<'_>,
    ) -> Result<(), Stop> {
        for projection in &self.projections {
            projection.written(key, old, new, cx)?;
        }
        Ok(())
    }

    /// A key that a trigger changes needs the stronger lock.
    pub(super) fn lock_if_key_changes(
        &self,
        key: &[u8],
        old: &[Datum],
        new: &[Datum],
        cx: &mut ExecCx<'_>,
    ) -> Result<(), Stop> {
        let mut keys = self.key_columns.iter();
        if keys.any(|slot| differs(&old[*slot], &new[*slot])) {
            let (group, tree) = (self.table.group, self.table.tree);
            let mode = RowMode::Update;
            cx.transaction
                .lock_row(group, tree, key, mode, Policy::Wait)?;
        }
        Ok(())
    }

    /// How an index (its place in `Table::indexes`) is keyed.
    pub fn index_shape(&self, index: usize) -> &IndexShape {
        &self.indexes[index]
    }

    /// A row's values from its bytes: one slot per column of the table.
    ///
    /// # Errors
    /// XX001 when the bytes are damaged.
    pub fn read(&self, bytes: &[u8]) -> SqlResult<Row> {
        self.reader.read(bytes)
    }

    /// A row's bytes.
    pub fn encode(&self, row: &[Datum]) -> Bytes {
        let mut out = Vec::with_capacity(64);
        let mut writer = storage::RowWriter::new(&mut out);
        for (slot, id, explicit) in &self.stored {
            let value = &row[*slot];
            if !value.is_null() || *explicit {
                writer.put(storage::ColumnId(*id), |out| encode_value(value, out));
            }
        }
        Bytes::from(out)
    }

    /// The key of a row keyed by its primary key.
    pub(crate) fn primary(&self, row: &[Datum]) -> Option<Vec<u8>> {
        let key = self.key.as_ref()?;
        let mut out = Vec::with_capacity(16);
        for (slot, ty, descending, nulls_first) in key {
            encode_key(&row[*slot], *ty, *descending, *nulls_first, &mut out);
        }
        Some(out)
    }

    /// Whether an UPDATE of these columns changes a key that others may reference.
    pub(super) fn changes_key(&self, columns: impl Iterator<Item = usize>) -> bool {
        columns
            .into_iter()
            .any(|column| self.key_columns.contains(&column))
    }

    /// Gives the columns that have no value their defaults.
    pub(crate) fn fill(
        &self,
        row: &mut Row,
        given: &[bool],
        cx: &mut ExecCx<'_>,
    ) -> Result<(), Stop> {
        let frame = empty_frame();
        for (slot, expr) in &self.defaults {
            if !given[*slot] {
                row[*slot] = expr.eval(&[], &frame, cx)?;
            }
        }
        Ok(())
    }

    /// Fills generated columns and checks NOT NULL and CHECK.
    pub(crate) fn complete(&self, row: &mut Row, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        let frame = empty_frame();
        for (slot, expr) in &self.generated {
            row[*slot] = expr.eval(row, &frame, cx)?;
        }
        for slot in &self.not_null {
            if row[*slot].is_null() {
                return Err(Stop::Error(self.null_violation(*slot, row, cx)));
            }
        }
        for (name, check) in &self.checks {
            if check.eval(row, &frame, cx)?.as_bool() == Some(false) {
                let error = Error::new(
                    state::CHECK_VIOLATION,
                    format!(
                        "new row for relation \"{}\" violates check constraint \"{name}\"",
                        self.table.name
                    ),
                );
                let error = error
                    .detail(self.failing_row(row, cx))
                    .table(&self.schema, &self.table.name)
                    .constraint(name);
                return Err(Stop::Error(error));
            }
        }
        Ok(())
    }

    fn null_violation(&self, slot: usize, row: &[Datum], cx: &ExecCx<'_>) -> Error {
        let column = &self.table.columns[slot].name;
        Error::new(
            state::NOT_NULL_VIOLATION,
            format!(
                "null value in column \"{column}\" of relation \"{}\" violates not-null constraint",
                self.table.name
            ),
        )
        .detail(self.failing_row(row, cx))
        .table(&self.schema, &self.table.name)
        .column(column)
    }

    fn failing_row(&self, row: &[Datum], cx: &ExecCx<'_>) -> String {
        let shown: Vec<String> = self
            .table
            .columns
            .iter()
            .zip(row)
            .filter(|(column, _)| !column.dropped)
            .map(|(column, value)| {
                let text = value
                    .to_text(column.ty, cx.evaluation.format)
                    .unwrap_or_else(|| "null".to_owned());
                clip(&text)
            })
            .collect();
        format!("Failing row contains ({}).", shown.join(", "))
    }

    /// The key of an index entry for a row, and whether it must be unique; `None` when the row is
    /// not in the index.
    fn entry(
        &self,
        at: usize,
        row: &[Datum],
        table_key: &[u8],
        cx: &mut ExecCx<'_>,
    ) -> Result<Option<(Vec<u8>, bool)>, Stop> {
        let (index, shape) = (&self.table.indexes[at], &self.indexes[at]);
        let frame = empty_frame();
        if !crate::expr::is_true(&shape.predicate, row, &frame, cx)? {
            return Ok(None);
        }
        let mut out = Vec::with_capacity(32);
        let mut null = false;
        for (key, expr) in index.columns.iter().zip(&shape.keys) {
            let value = expr.eval(row, &frame, cx)?;
            null |= value.is_null();
            encode_key(
                &value,
                expr.ty().plain(),
                key.descending,
                key.nulls_first,
                &mut out,
            );
        }
        if out.len() > KEY_BYTES_MAX {
            return Err(Stop::Error(
                Error::new(
                    state::PROGRAM_LIMIT_EXCEEDED,
                    format!(
                        "index row size {} exceeds maximum {KEY_BYTES_MAX} for index \"{}\"",
                        out.len(),
                        index.name
                    ),
                )
                .hint("Consider a function index of an MD5 hash of the value."),
            ));
        }
        let unique = index.unique && (!null || index.nulls_not_distinct);
        if !unique {
            out.extend_from_slice(table_key);
        }
        Ok(Some((out, unique)))
    }

    /// Index entries of a row, for DDL that builds an index: (key, unique) of one index.
    ///
    /// # Errors
    /// What evaluating the index's expressions raises.
    pub fn index_entry(
        &self,
        index: usize,
        row: &[Datum],
        table_key: &[u8],
        cx: &mut ExecCx<'_>,
    ) -> Result<Option<(Vec<u8>, bool)>, Stop> {
        self.entry(index, row, table_key, cx)
    }

    /// Puts a complete row into the entry as an event: with the keys of the rows that it is about.
    fn emit(&self, row: &[Datum], cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        let mut about = Vec::new();
        for key in &self.foreign {
            let values = super::foreign::reference_of(&self.table, key, row);
            if values.iter().any(Datum::is_null) {
                continue;
            }
            let parent = table_of(key.references, cx)?;
            let (tree, key, own) = super::foreign::parent_entry(&parent, key, &values, cx)?;
            if !own {
                return Err(Error::internal("an event is about a row by no primary key").into());
            }
            about.push(RowKey {
                tree,
                key: key.into(),
            });
        }
        let (group, tree) = (self.table.group, self.table.tree);
        cx.transaction
            .event_row(group, tree, self.encode(row), about)
    }

    /// Inserts a complete row. With `arbiters` (empty = all) a taken key of one of them is
    /// reported instead of raised.
    pub(super) fn insert(
        &self,
        row: &[Datum],
        arbiters: Option<&[u32]>,
        cx: &mut ExecCx<'_>,
    ) -> Result<Inserted, Stop> {
        if self.table.is_event() {
            self.emit(row, cx)?;
            return Ok(Inserted::Done(Vec::new()));
        }
        let (group, tree) = (self.table.group, self.table.tree);
        let decides = |index: Option<&Index>| {
            arbiters.is_some_and(|list| {
                list.is_empty() || index.is_some_and(|index| list.contains(&index.id))
            })
        };
        let key = match self.primary(row) {
            Some(key) => {
                let locked =
                    cx.transaction
                        .lock_row(group, tree, &key, RowMode::Update, Policy::Wait);
                #[cfg(feature = "sabotage")]
                let locked = match storage::sabotage::planted("insert-without-key-lock") {
                    true => Ok(crate::transaction::Locked::Granted),
                    false => locked,
                };
                locked?;
                if cx.transaction.current(group, tree, &key)?.is_some() {
                    let clustering = self
                        .table
                        .indexes
                        .iter()
                        .position(|i| self.table.is_clustering(i));
                    let index = clustering.map(|at| &self.table.indexes[at]);
                    if decides(index) {
                        return Ok(Inserted::Conflict(key));
                    }
                    return Err(Stop::Error(self.duplicate(clustering, row, cx)?));
                }
                key
            }
            None => {
                let key = cx.transaction.row_id(group)?.to_vec();
                // Nobody waits for it: it proves to the writer that nobody else has this key.
                cx.transaction
                    .lock_row(group, tree, &key, RowMode::Update, Policy::Wait)?;
                key
            }
        };
        let mut writes = Vec::with_capacity(self.indexes.len());
        // Arbiters first, so that a conflict is found before another index raises.
        for pass in [true, false] {
            for (at, shape) in self.indexes.iter().enumerate() {
                let index = &self.table.indexes[at];
                if shape.clustering || decides(Some(index)) != pass {
                    continue;
                }
                let Some((entry, unique)) = self.entry(at, row, &key, cx)? else {
                    continue;
                };
                if unique && let Some(other) = self.taken(index, &entry, cx)? {
                    if pass {
                        return Ok(Inserted::Conflict(other));
                    }
                    return Err(Stop::Error(self.duplicate(Some(at), row, cx)?));
                }
                writes.push(IndexWrite {
                    tree: index.tree,
                    key: Bytes::from(entry),
                    value: Some(Bytes::copy_from_slice(&key)),
                });
            }
        }
        cx.transaction.write(
            group,
            tree,
            RowChange {
                key: Bytes::copy_from_slice(&key),
                old: None,
                new: Some(self.encode(row)),
                index: writes,
                feed: true,
            },
        )?;
        self.project(&key, None, Some(row), cx)?;
        Ok(Inserted::Done(key))
    }

    /// Locks a unique key and gives the row that has it.
    fn taken(
        &self,
        index: &Index,
        entry: &[u8],
        cx: &mut ExecCx<'_>,
    ) -> Result<Option<Vec<u8>>, Stop> {
        let group = self.table.group;
        cx.transaction
            .lock_row(group, index.tree, entry, RowMode::Update, Policy::Wait)?;
        Ok(cx
            .transaction
            .current(group, index.tree, entry)?
            .map(|key| key.to_vec()))
    }

    /// Replaces a row; the caller holds its lock. A changed primary key moves the row.
    pub(super) fn update(
        &self,
        key: &[u8],
        old_bytes: &Bytes,
        old: &[Datum],
        new: &[Datum],
        cx: &mut ExecCx<'_>,
    ) -> Result<Vec<u8>, Stop> {
        let (group, tree) = (self.table.group, self.table.tree);
        let new_key = match self.primary(new) {
            Some(new_key) if new_key != key => new_key,
            _ => key.to_vec(),
        };
        let moved = new_key != key;
        if moved {
            cx.transaction
                .lock_row(group, tree, &new_key, RowMode::Update, Policy::Wait)?;
            if cx.transaction.current(group, tree, &new_key)?.is_some() {
                let clustering = self
                    .table
                    .indexes
                    .iter()
                    .position(|i| self.table.is_clustering(i));
                return Err(Stop::Error(self.duplicate(clustering, new, cx)?));
            }
        }
        let mut removed = Vec::new();
        let mut added = Vec::new();
        for (at, shape) in self.indexes.iter().enumerate() {
            if shape.clustering {
                continue;
            }
            let touched = moved
                || shape
                    .reads
                    .iter()
                    .any(|slot| differs(&old[*slot], &new[*slot]));
            if !touched {
                continue;
            }
            let index = &self.table.indexes[at];
            let before = self.entry(at, old, key, cx)?;
            let after = self.entry(at, new, &new_key, cx)?;
            let same = matches!((&before, &after), (Some((a, _)), Some((b, _))) if a == b);
            if same && !moved {
                continue;
            }
            if let Some((entry, unique)) = &after {
                if *unique && !same && self.taken(index, entry, cx)?.is_some() {
                    return Err(Stop::Error(self.duplicate(Some(at), new, cx)?));
                }
                added.push(IndexWrite {
                    tree: index.tree,
                    key: Bytes::copy_from_slice(entry),
                    value: Some(Bytes::copy_from_slice(&new_key)),
                });
            }
            if let Some((entry, unique)) = before
                && !same
            {
                if unique {
                    // Others must not take the old key before this transaction ends.
                    let mode = RowMode::Update;
                    cx.transaction
                        .lock_row(group, index.tree, &entry, mode, Policy::Wait)?;
                }
                removed.push(IndexWrite {
                    tree: index.tree,
                    key: entry.into(),
                    value: None,
                });
            }
        }
        let bytes = self.encode(new);
        if moved {
            cx.transaction.write(
                group,
                tree,
                RowChange {
                    key: Bytes::copy_from_slice(key),
                    old: Some(old_bytes.clone()),
                    new: None,
                    index: removed,
                    feed: true,
                },
            )?;
            cx.transaction.write(
                group,
                tree,
                RowChange {
                    key: Bytes::copy_from_slice(&new_key),
                    old: None,
                    new: Some(bytes),
                    index: added,
                    feed: true,
                },
            )?;
            self.project(key, Some(old), None, cx)?;
            self.project(&new_key, None, Some(new), cx)?;
        } else {
            removed.extend(added);
            cx.transaction.write(
                group,
                tree,
                RowChange {
                    key: Bytes::copy_from_slice(key),
                    old: Some(old_bytes.clone()),
                    new: Some(bytes),
                    index: removed,
                    feed: true,
                },
            )?;
            self.project(key, Some(old), Some(new), cx)?;
        }
        Ok(new_key)
    }

    /// Removes a row; the caller holds its lock.
    pub(super) fn delete(
        &self,
        key: &[u8],
        old_bytes: &Bytes,
        old: &[Datum],
        cx: &mut ExecCx<'_>,
    ) -> Result<(), Stop> {
        let (group, tree) = (self.table.group, self.table.tree);
        let mut index = Vec::with_capacity(self.indexes.len());
        for (at, shape) in self.indexes.iter().enumerate() {
            if shape.clustering {
                continue;
            }
            if let Some((entry, unique)) = self.entry(at, old, key, cx)? {
                let tree = self.table.indexes[at].tree;
                if unique {
                    let mode = RowMode::Update;
                    cx.transaction
                        .lock_row(group, tree, &entry, mode, Policy::Wait)?;
                }
                index.push(IndexWrite {
                    tree,
                    key: entry.into(),
                    value: None,
                });
            }
        }
        cx.transaction.write(
            group,
            tree,
            RowChange {
                key: Bytes::copy_from_slice(key),
                old: Some(old_bytes.clone()),
                new: None,
                index,
                feed: true,
            },
        )?;
        self.project(key, Some(old), None, cx)
    }

    /// 23505 with PostgreSQL's words.
    fn duplicate(
        &self,
        at: Option<usize>,
        row: &[Datum],
        cx: &mut ExecCx<'_>,
    ) -> Result<Error, Stop> {
        let Some(at) = at else {
            return Ok(Error::new(state::UNIQUE_VIOLATION, "duplicate key value"));
        };
        let (index, shape) = (&self.table.indexes[at], &self.indexes[at]);
        let mut names = Vec::new();
        let mut values = Vec::new();
        let frame = empty_frame();
        for (key, expr) in index.columns.iter().zip(&shape.keys) {
            names.push(match &key.what {
                crate::catalog::IndexKey::Column(id) => self
                    .table
                    .column_by_id(*id)
                    .map_or_else(String::new, |c| c.name.clone()),
                crate::catalog::IndexKey::Expression(text) => text.clone(),
            });
            let value = expr.eval(row, &frame, cx)?;
            let text = value.to_text(expr.ty(), cx.evaluation.format);
            values.push(text.unwrap_or_else(|| "null".to_owned()));
        }
        Ok(Error::new(
            state::UNIQUE_VIOLATION,
            format!(
                "duplicate key value violates unique constraint \"{}\"",
                index.name
            ),
        )
        .detail(format!(
            "Key ({})=({}) already exists.",
            names.join(", "),
            values.join(", ")
        ))
        .table(&self.schema, &self.table.name)
        .constraint(&index.name))
    }
}

/// How rows are keyed by these columns: place in `Table::columns`, type, descending, nulls first.
pub(crate) fn primary_key(
    table: &Table,
    ids: &[crate::catalog::ColumnId],
) -> Vec<(usize, Type, bool, bool)> {
    let clustering = table
        .indexes
        .iter()
        .find(|index| table.is_clustering(index));
    ids.iter()
        .filter_map(|id| {
            let slot = table.column_index(*id)?;
            let part = clustering.and_then(|index| {
                let wanted = crate::catalog::IndexKey::Column(*id);
                index.columns.iter().find(|key| key.what == wanted)
            });
            Some((
                slot,
                table.columns[slot].ty.plain(),
                part.is_some_and(|part| part.descending),
                part.is_some_and(|part| part.nulls_first),
            ))
        })
        .collect()
}

fn not_null(table: &Table) -> Vec<usize> {
    let primary: Vec<crate::catalog::ColumnId> = match &table.key {
        Key::Primary(ids) => ids.clone(),
        Key::RowId => Vec::new(),
    };
    table
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| !column.dropped && (column.not_null || primary.contains(&column.id)))
        .map(|(slot, _)| slot)
        .collect()
}

fn columns_read<'e>(exprs: impl Iterator<Item = &'e Expr>) -> Vec<usize> {
    let mut used = Vec::new();
    exprs.for_each(|expr| expr.free_columns(&mut used));
    used.into_iter().map(|column| column.0 as usize).collect()
}

/// Whether a value changed in any way that its bytes would show.
pub(super) fn differs(old: &Datum, new: &Datum) -> bool {
    match (old, new) {
        (Datum::Null, Datum::Null) => false,
        (Datum::Null, _) | (_, Datum::Null) => true,
        // Of these, equal values have equal bytes.
        (Datum::Bool(_) | Datum::Int2(_) | Datum::Int4(_) | Datum::Int8(_) | Datum::Text(_), _) => {
            old != new
        }
        (old, new) => {
            let bytes = |value: &Datum| {
                let mut out = Vec::new();
                encode_value(value, &mut out);
                out
            };
            old != new || bytes(old) != bytes(new)
        }
    }
}

/// The frame of expressions over a row alone.
pub(super) fn empty_frame() -> Frame {
    thread_local! {
        static FRAME: Frame = Frame::new(Arc::from([]));
    }
    FRAME.with(Clone::clone)
}

/// A value in a message is cut after 64 characters, as PostgreSQL does.
fn clip(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// Single rows in, with everything that holds for the table: COPY and DDL use it; statements go
/// through the plan.
pub struct TableWriter {
    writer: Arc<Writer>,
    after: super::foreign::After,
}

impl TableWriter {
    /// For a table, by its compiled write path (`plan::writer`).
    pub fn new(writer: Arc<Writer>) -> TableWriter {
        TableWriter {
            writer,
            after: super::foreign::After::default(),
        }
    }

    /// Inserts a row (one slot per column of the table) whose `given` columns have their values;
    /// the others get their defaults. False if a trigger keeps it from being inserted.
    ///
    /// # Errors
    /// Constraint violations; waits for locks.
    pub fn insert(
        &mut self,
        row: &mut Row,
        given: &[bool],
        cx: &mut ExecCx<'_>,
    ) -> Result<bool, Stop> {
        self.writer.fill(row, given, cx)?;
        if self.writer.has_before_triggers() {
            let change = Change::insert(row);
            match self.writer.fire_first(Timing::Before, change, cx)? {
                Some(given) => *row = given,
                None => return Ok(false),
            }
        }
        self.writer.complete(row, cx)?;
        if let Inserted::Done(_) = self.writer.insert(row, None, cx)? {
            self.after.inserted(&self.writer, row, cx)?;
        }
        Ok(true)
    }

    /// Inserts a complete row that was found right before (a command).
    ///
    /// # Errors
    /// A key that is taken; waits for locks.
    pub fn accept(&mut self, mut row: Row, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        if self.writer.has_before_triggers() {
            let change = Change::insert(&row);
            match self.writer.fire_first(Timing::Before, change, cx)? {
                Some(given) => row = given,
                None => return Ok(()),
            }
            self.writer.complete(&mut row, cx)?;
        }
        if let Inserted::Done(_) = self.writer.insert(&row, None, cx)? {
            self.after.inserted(&self.writer, &row, cx)?;
        }
        Ok(())
    }

    /// Replaces a row whose lock is held.
    ///
    /// # Errors
    /// As [`TableWriter::insert`].
    pub fn update(
        &mut self,
        key: &[u8],
        old: &Bytes,
        new: &mut Row,
        cx: &mut ExecCx<'_>,
    ) -> Result<(), Stop> {
        let before = self.writer.read(old)?;
        self.writer.complete(new, cx)?;
        self.writer.update(key, old, &before, new, cx)?;
        self.after.updated(&self.writer, &before, new, &[], cx)
    }

    /// Removes a row whose lock is held.
    ///
    /// # Errors
    /// As [`TableWriter::insert`].
    pub fn delete(&mut self, key: &[u8], old: &Bytes, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        let before = self.writer.read(old)?;
        self.writer.delete(key, old, &before, cx)?;
        self.after.deleted(&self.writer, &before, cx)
    }

    /// Between two rows: runs the checks that have come together, if they are many, but for those
    /// that a later row may still satisfy.
    ///
    /// # Errors
    /// 23503, and 54000 when those that are left are too many.
    pub fn check(&mut self, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        self.after.run_ahead(cx)
    }

    /// Checks that were made.
    pub fn checked(&self) -> u64 {
        self.after.done()
    }

    /// Runs the checks that wait for the end of the statement (foreign keys).
    ///
    /// # Errors
    /// 23503.
    pub fn finish(&mut self, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        self.after.run(cx)
    }
}

/// A referenced table by its OID in the statement's catalog.
///
/// # Errors
/// 57P03 if it is another owner's, and not known here yet.
pub(super) fn table_of(id: TableId, cx: &ExecCx<'_>) -> Result<Arc<Table>, Stop> {
    let table = cx.catalog.table(id).cloned();
    table.ok_or_else(|| Stop::Error(not_known_yet()))
}
