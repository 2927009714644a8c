//! Work on rows that DDL brings: building indexes, rewriting tables, validating constraints,
//! filling new columns, tables and projections. Nothing of it is in the feed but the rows of CREATE
//! TABLE AS and CREATE MATERIALIZED VIEW.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use sqlparser::ast;
use storage::Direction;

use super::draft::Done;
use crate::catalog::{
    Catalog, Column, ColumnId, Constraint, Index, IndexKey, Key, SequenceOptions, Table, TableId,
    TableKind,
};
use crate::exec::{ExecCx, RowReader, TableWriter, Writer};
use crate::expr::{Expr, Frame};
use crate::integrity::Validating;
use crate::plan::{self, BindCx};
use crate::transaction::{IndexWrite, RowChange, RowScan, Stop};
use crate::types::key::encode_key;
use crate::types::kind::oid;
use crate::types::{CastContext, Datum};
use crate::{Error, state};

fn table_of(catalog: &Arc<Catalog>, id: TableId) -> Done<Arc<Table>> {
    let found = catalog.table(id).cloned();
    found.ok_or_else(|| Error::internal(format!("table {id} is not in the catalog")).into())
}

/// All rows of a tree, as of now.
fn scan(table: &Table, cx: &mut ExecCx<'_>) -> Done<RowScan> {
    let all = (Bound::Unbounded, Bound::Unbounded);
    cx.transaction
        .scan(table.group, table.tree, all, Direction::Forward)
}

fn all_columns(table: &Table) -> crate::Result<RowReader> {
    RowReader::new(table, &(0..table.columns.len()).collect::<Vec<_>>())
}

fn no_frame() -> Frame {
    Frame::new(Arc::from([]))
}

/// Adds an entry for every row to a new index.
pub(super) fn build_index(
    catalog: &Arc<Catalog>,
    id: TableId,
    index: u32,
    cx: &mut ExecCx<'_>,
) -> Done<()> {
    let table = table_of(catalog, id)?;
    let Some(at) = table.indexes.iter().position(|i| i.id == index) else {
        return Ok(());
    };
    let writer = plan::writer(catalog, table.id)?;
    let mut rows = scan(&table, cx)?;
    while let Some((key, bytes)) = rows.next().transpose()? {
        cx.tick()?;
        let row = writer.read(&bytes)?;
        let Some((entry, unique)) = writer.index_entry(at, &row, &key, cx)? else {
            continue;
        };
        let index = &table.indexes[at];
        put_entry(&table, index, Bytes::from(entry), unique, key, &row, cx)?;
    }
    Ok(())
}

fn put_entry(
    table: &Table,
    index: &Index,
    entry: Bytes,
    unique: bool,
    key: Bytes,
    row: &[Datum],
    cx: &mut ExecCx<'_>,
) -> Done<()> {
    if unique
        && cx
            .transaction
            .get(table.group, index.tree, &entry)?
            .is_some()
    {
        return Err(duplicate(table, index, row, cx).into());
    }
    let change = RowChange {
        key: entry,
        old: None,
        new: Some(key),
        index: Vec::new(),
        feed: false,
    };
    cx.transaction.write(table.group, index.tree, change)
}

/// `could not create unique index` (23505).
pub(super) fn duplicate(table: &Table, index: &Index, row: &[Datum], cx: &ExecCx<'_>) -> Error {
    let mut names = Vec::new();
    let mut values = Vec::new();
    for key in &index.columns {
        if let IndexKey::Column(id) = key.what
            && let Some(at) = table.column_index(id)
        {
            let column = &table.columns[at];
            names.push(column.name.clone());
            let text = row[at].to_text(column.ty, cx.evaluation.format);
            values.push(text.unwrap_or_else(|| "null".to_owned()));
        }
    }
    let error = Error::new(
        state::UNIQUE_VIOLATION,
        format!("could not create unique index \"{}\"", index.name),
    )
    .table(cx.catalog.schema_name(table.schema), table.name.clone())
    .constraint(index.name.clone());
    if names.len() == index.columns.len() {
        let (names, values) = (names.join(", "), values.join(", "));
        error.detail(format!("Key ({names})=({values}) is duplicated."))
    } else {
        error
    }
}

/// Copies all rows into the table's new trees, in its new shape.
pub(super) fn rewrite(
    catalog: &Arc<Catalog>,
    old: &Arc<Table>,
    id: TableId,
    using: &[(ColumnId, String)],
    cx: &mut ExecCx<'_>,
) -> Done<()> {
    let table = table_of(catalog, id)?;
    let writer = plan::writer(catalog, table.id)?;
    let reader = all_columns(old)?;
    let mut changed: Vec<(usize, Expr)> = Vec::new();
    for (column, text) in using {
        let Some(at) = table.column_index(*column) else {
            continue;
        };
        let target = &table.columns[at];
        let place = "transform expressions";
        let expr = plan::stored_expression(catalog, old, text, Some(target), place, false)?;
        changed.push((at, expr));
    }
    let frame = no_frame();
    let mut rows = scan(old, cx)?;
    while let Some((old_key, bytes)) = rows.next().transpose()? {
        cx.tick()?;
        let before = reader.read(&bytes)?;
        let mut row = before.clone();
        row.resize(table.columns.len(), Datum::Null);
        for (at, expr) in &changed {
            row[*at] = expr.eval(&before, &frame, cx)?;
        }
        writer.complete(&mut row, cx)?;
        let key = match (&table.key, &old.key) {
            (Key::RowId, Key::RowId) => old_key,
            (Key::RowId, Key::Primary(_)) => {
                Bytes::copy_from_slice(&cx.transaction.row_id(table.group)?)
            }
            (Key::Primary(_), _) => primary_key(&table, &writer, &row, cx)?,
        };
        put_row(&table, &writer, key, &row, false, cx)?;
    }
    drop(rows);
    let mut trees: Vec<u32> = old.indexes.iter().map(|i| i.tree).collect();
    trees.push(old.tree);
    trees.sort_unstable();
    trees.dedup();
    let kept = |tree: &u32| {
        *tree == 0 || *tree == table.tree || table.indexes.iter().any(|i| i.tree == *tree)
    };
    for tree in trees.into_iter().filter(|t| !kept(t)) {
        cx.transaction.drop_tree(old.group, tree)?;
    }
    Ok(())
}

/// The new key of a row; a key that is taken already is 23505.
fn primary_key(table: &Table, writer: &Writer, row: &[Datum], cx: &mut ExecCx<'_>) -> Done<Bytes> {
    let key = writer.primary(row);
    let key = Bytes::from(key.ok_or_else(|| Error::internal("a keyed table has no key"))?);
    if cx.transaction.get(table.group, table.tree, &key)?.is_some() {
        let index = table.primary_index();
        let index = index.ok_or_else(|| Error::internal("a keyed table has no primary key"))?;
        return Err(duplicate(table, index, row, cx).into());
    }
    Ok(key)
}

fn put_row(
    table: &Table,
    writer: &Writer,
    key: Bytes,
    row: &[Datum],
    feed: bool,
    cx: &mut ExecCx<'_>,
) -> Done<()> {
    let mut entries = Vec::new();
    for (at, index) in table.indexes.iter().enumerate() {
        if table.is_clustering(index) {
            continue;
        }
        let Some((entry, unique)) = writer.index_entry(at, row, &key, cx)? else {
            continue;
        };
        if unique
            && cx
                .transaction
                .get(table.group, index.tree, &entry)?
                .is_some()
        {
            return Err(duplicate(table, index, row, cx).into());
        }
        entries.push(IndexWrite {
            tree: index.tree,
            key: Bytes::from(entry),
            value: Some(key.clone()),
        });
    }
    let change = RowChange {
        key,
        old: None,
        new: Some(writer.encode(row)),
        index: entries,
        feed,
    };
    cx.transaction.write(table.group, table.tree, change)
}

/// 23502 if a row has NULL in the column.
pub(super) fn check_not_null(
    catalog: &Arc<Catalog>,
    id: TableId,
    column: ColumnId,
    cx: &mut ExecCx<'_>,
) -> Done<()> {
    let table = table_of(catalog, id)?;
    let Some(at) = table.column_index(column) else {
        return Ok(());
    };
    let reader = RowReader::new(&table, &[at])?;
    let mut rows = scan(&table, cx)?;
    while let Some((_, bytes)) = rows.next().transpose()? {
        cx.tick()?;
        if reader.read(&bytes)?[0].is_null() {
            let name = &table.columns[at].name;
            return Err(Error::new(
                state::NOT_NULL_VIOLATION,
                format!(
                    "column \"{name}\" of relation \"{}\" contains null values",
                    table.name
                ),
            )
            .table(catalog.schema_name(table.schema), table.name.clone())
            .column(name.clone())
            .into());
        }
    }
    Ok(())
}

/// 23514 if a row does not satisfy the check.
pub(super) fn check_rows(
    catalog: &Arc<Catalog>,
    id: TableId,
    constraint: u32,
    cx: &mut ExecCx<'_>,
) -> Done<()> {
    let table = table_of(catalog, id)?;
    let found = table.constraints.iter().find_map(|c| match c {
        Constraint::Check {
            id,
            name,
            expression,
            ..
        } if *id == constraint => Some((name.clone(), expression.clone())),
        _ => None,
    });
    let Some((name, text)) = found else {
        return Ok(());
    };
    let place = "check constraints";
    let expr = plan::stored_expression(catalog, &table, &text, None, place, true)?;
    let (reader, frame) = (all_columns(&table)?, no_frame());
    let mut rows = scan(&table, cx)?;
    while let Some((_, bytes)) = rows.next().transpose()? {
        cx.tick()?;
        if matches!(
            expr.eval(&reader.read(&bytes)?, &frame, cx)?,
            Datum::Bool(false)
        ) {
            return Err(Error::new(
                state::CHECK_VIOLATION,
                format!(
                    "check constraint \"{name}\" of relation \"{}\" is violated by some row",
                    table.name
                ),
            )
            .table(catalog.schema_name(table.schema), table.name.clone())
            .constraint(name)
            .into());
        }
    }
    Ok(())
}

/// 23503 if a row references a key that is not there.
pub(super) fn check_foreign(
    catalog: &Arc<Catalog>,
    id: TableId,
    constraint: u32,
    cx: &mut ExecCx<'_>,
) -> Done<()> {
    let table = table_of(catalog, id)?;
    let Some(key) = table.foreign_keys().find(|k| k.id == constraint).cloned() else {
        return Ok(());
    };
    let parent = table_of(catalog, key.references)?;
    let index = parent.index(key.referenced_index);
    let index = index.ok_or_else(|| Error::internal("a foreign key has no index"))?;
    let at: Vec<usize> = key
        .columns
        .iter()
        .filter_map(|c| table.column_index(*c))
        .collect();
    let reader = RowReader::new(&table, &at)?;
    // Key parts in the index's order, each as the referenced column's type encodes it.
    let mut parts = Vec::new();
    for column in &index.columns {
        let IndexKey::Column(id) = column.what else {
            continue;
        };
        let from = key.referenced_columns.iter().position(|c| *c == id);
        let (Some(from), Some(to)) = (from, parent.column_by_id(id)) else {
            return Err(Error::internal("a foreign key does not fit its index").into());
        };
        parts.push((from, table.columns[at[from]].ty, to.ty, column));
    }
    let elsewhere = match parent.group == table.group {
        true => None,
        false => {
            let tx = &mut *cx.transaction;
            Some(Validating::new(table.group, &parent, &key, tx)?)
        }
    };
    let mut rows = scan(&table, cx)?;
    while let Some((_, bytes)) = rows.next().transpose()? {
        cx.tick()?;
        let row = reader.read(&bytes)?;
        let nulls = row.iter().filter(|v| v.is_null()).count();
        if nulls > 0 && !(key.full && nulls < row.len()) {
            continue;
        }
        let mut entry = Vec::new();
        for (from, ty, to, column) in &parts {
            let value = if ty.oid == to.oid {
                row[*from].clone()
            } else {
                crate::types::cast(
                    &row[*from],
                    *ty,
                    to.plain(),
                    CastContext::Implicit,
                    &mut cx.evaluation,
                )?
            };
            encode_key(
                &value,
                to.plain(),
                column.descending,
                column.nulls_first,
                &mut entry,
            );
        }
        let (group, tx) = (parent.group, &mut *cx.transaction);
        let found = nulls == 0
            && match &elsewhere {
                Some(elsewhere) => elsewhere.has(group, &entry, tx)?,
                None => tx.get(group, index.tree, &entry)?.is_some(),
            };
        if !found {
            return Err(dangling(catalog, &table, &parent, &key, &at, &row, cx).into());
        }
    }
    Ok(())
}

fn dangling(
    catalog: &Catalog,
    table: &Table,
    parent: &Table,
    key: &crate::catalog::ForeignKey,
    at: &[usize],
    row: &[Datum],
    cx: &ExecCx<'_>,
) -> Error {
    let names: Vec<&str> = at.iter().map(|a| table.columns[*a].name.as_str()).collect();
    let values: Vec<String> = at
        .iter()
        .zip(row)
        .map(|(a, value)| {
            let text = value.to_text(table.columns[*a].ty, cx.evaluation.format);
            text.unwrap_or_else(|| "null".to_owned())
        })
        .collect();
    Error::new(
        state::FOREIGN_KEY_VIOLATION,
        format!(
            "insert or update on table \"{}\" violates foreign key constraint \"{}\"",
            table.name, key.name
        ),
    )
    .detail(format!(
        "Key ({})=({}) is not present in table \"{}\".",
        names.join(", "),
        values.join(", "),
        parent.name
    ))
    .table(catalog.schema_name(table.schema), table.name.clone())
    .constraint(key.name.clone())
}

/// Writes a new column's value into every row: its default is not the same for all.
pub(super) fn fill_column(
    catalog: &Arc<Catalog>,
    id: TableId,
    column: ColumnId,
    cx: &mut ExecCx<'_>,
) -> Done<()> {
    let table = table_of(catalog, id)?;
    let Some(at) = table.column_index(column) else {
        return Ok(());
    };
    let writer = plan::writer(catalog, table.id)?;
    let target = &table.columns[at];
    let mut numbers = numbers_of(catalog, &table, target);
    let default = match &target.default {
        Some(text) if numbers.is_none() => {
            let place = "DEFAULT expressions";
            Some(plan::stored_expression(
                catalog,
                &table,
                text,
                Some(target),
                place,
                false,
            )?)
        }
        _ => None,
    };
    let frame = no_frame();
    let mut rows = scan(&table, cx)?;
    while let Some((key, old)) = rows.next().transpose()? {
        cx.tick()?;
        let mut row = writer.read(&old)?;
        if let Some(numbers) = &mut numbers {
            row[at] = numbers.next(target)?;
        } else if let Some(default) = &default {
            row[at] = default.eval(&[], &frame, cx)?;
        }
        writer.complete(&mut row, cx)?;
        let change = RowChange {
            key,
            old: Some(old),
            new: Some(writer.encode(&row)),
            index: Vec::new(),
            feed: false,
        };
        cx.transaction.write(table.group, table.tree, change)?;
    }
    if let Some(numbers) = numbers
        && let Some(last) = numbers.last
    {
        let (group, sequence) = (numbers.sequence.group, numbers.sequence.id);
        super::run::set_sequence(group, sequence, Some((last, true)), cx)?;
    }
    Ok(())
}

/// Numbers for old rows out of the sequence that came with a new column.
struct Numbers {
    sequence: Arc<Table>,
    options: SequenceOptions,
    last: Option<i64>,
}

fn numbers_of(catalog: &Catalog, table: &Table, column: &Column) -> Option<Numbers> {
    let sequence = catalog.tables().find(|t| match &t.kind {
        TableKind::Sequence(o) => o.owned_by == Some((table.id, column.id)),
        _ => false,
    })?;
    match &sequence.kind {
        TableKind::Sequence(options) => Some(Numbers {
            sequence: Arc::clone(sequence),
            options: options.clone(),
            last: None,
        }),
        _ => None,
    }
}

impl Numbers {
    fn next(&mut self, column: &Column) -> Done<Datum> {
        let next = match self.last {
            None => self.options.start,
            Some(last) => last
                .checked_add(self.options.increment)
                .filter(|n| (self.options.min..=self.options.max).contains(n))
                .ok_or_else(|| {
                    Error::new(
                        state::SEQUENCE_LIMIT_EXCEEDED,
                        format!(
                            "nextval: reached end of sequence \"{}\"",
                            self.sequence.name
                        ),
                    )
                })?,
        };
        self.last = Some(next);
        let out_of_range = || Error::new(state::NUMERIC_VALUE_OUT_OF_RANGE, "integer out of range");
        Ok(match column.ty.oid {
            oid::INT2 => Datum::Int2(i16::try_from(next).map_err(|_| out_of_range())?),
            oid::INT4 => Datum::Int4(i32::try_from(next).map_err(|_| out_of_range())?),
            _ => Datum::Int8(next),
        })
    }
}

/// The rows of CREATE MATERIALIZED VIEW; how many. Nobody else knows it yet, and its writers wait.
pub(super) fn fill_projection(
    catalog: &Arc<Catalog>,
    id: TableId,
    cx: &mut ExecCx<'_>,
) -> Result<u64, Stop> {
    let table = table_of(catalog, id)?;
    let projection = plan::projection(catalog, id)?;
    let mut rows = scan(projection.base(), cx)?;
    let mut count = 0;
    while let Some((key, bytes)) = rows.next().transpose()? {
        cx.tick()?;
        if let Some(row) = projection.row_of(&bytes, cx)? {
            put_row(&table, projection.writer(), key, &row, true, cx)?;
            count += 1;
        }
    }
    Ok(count)
}

/// The rows of CREATE TABLE AS; how many.
pub(super) fn fill(
    catalog: &Arc<Catalog>,
    id: TableId,
    query: &ast::Query,
    bind: &BindCx<'_>,
    cx: &mut ExecCx<'_>,
) -> Result<u64, Stop> {
    let table = table_of(catalog, id)?;
    let statement = ast::Statement::Query(Box::new(query.clone()));
    let planned = plan::plan(&statement, catalog, bind)?;
    for used in &planned.tables {
        let reader = cx.transaction.reader(cx.role, used);
        cx.transaction.bring(reader, used.group, used.tree)?;
    }
    let mut source = crate::exec::open(&planned, Arc::from([]), cx)?;
    let mut writer = TableWriter::new(plan::writer(catalog, table.id)?);
    let given = vec![true; table.columns.len()];
    let mut count = 0;
    while let Some(mut row) = source.next(cx)? {
        cx.tick()?;
        for ((value, column), output) in row.iter_mut().zip(&table.columns).zip(&planned.columns) {
            if output.ty != column.ty {
                *value = crate::types::cast(
                    value,
                    output.ty,
                    column.ty,
                    CastContext::Assignment,
                    &mut cx.evaluation,
                )?;
            }
        }
        writer.insert(&mut row, &given, cx)?;
        count += 1;
    }
    writer.finish(cx)?;
    Ok(count)
}
