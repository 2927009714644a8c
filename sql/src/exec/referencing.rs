//! Rows that reference given values: found by an index that begins with the referencing columns, or by
//! looking through the table, in the newest state.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use storage::Direction;

use super::foreign::{convert, pick, slots};
use super::scan;
use crate::catalog::{ForeignKey, IndexKey, IndexState, Table};
use crate::error::state;
use crate::exec::ExecCx;
use crate::transaction::{Range, Stop};
use crate::types::Datum;
use crate::types::key::encode_key;

/// The keys of rows that reference these values, newest state, at most `max`. Not as of the
/// statement's snapshot: the lock on the referenced key keeps new references out, and those that
/// came in before it count, seen or not.
pub(super) fn referencing(
    child: &Arc<Table>,
    key: &ForeignKey,
    values: &[Datum],
    max: usize,
    cx: &mut ExecCx<'_>,
) -> Result<Vec<Vec<u8>>, Stop> {
    let mut newest = cx.transaction.newest_snapshot(child.group)?;
    cx.transaction.swap_snapshot(&mut newest);
    let found = find_referencing(child, key, values, max, cx);
    cx.transaction.swap_snapshot(&mut newest);
    found
}

/// What the referencing columns have where they reference these values; `None`: they can't.
fn referencing_values(
    child: &Table,
    columns: &[usize],
    values: &[Datum],
    cx: &mut ExecCx<'_>,
) -> Result<Option<Vec<Datum>>, Stop> {
    let mut wanted = Vec::with_capacity(values.len());
    for (value, slot) in values.iter().zip(columns) {
        match convert(value, child.columns[*slot].ty.plain(), cx) {
            Ok(value) => wanted.push(value),
            Err(Stop::Error(error)) if error.state() == state::NUMERIC_VALUE_OUT_OF_RANGE => {
                return Ok(None);
            }
            Err(stop) => return Err(stop),
        }
    }
    Ok(Some(wanted))
}

/// Does a row reference these values (`None`: any), in the newest state? If not, none does when the
/// transaction gets its place.
pub(crate) fn find_reference(
    child: &Arc<Table>,
    key: &ForeignKey,
    values: Option<&[Datum]>,
    cx: &mut ExecCx<'_>,
) -> Result<bool, Stop> {
    let mut newest = cx.transaction.newest_snapshot(child.group)?;
    let seen = newest.position(child.group).unwrap_or_default();
    cx.transaction.swap_snapshot(&mut newest);
    let found = match values {
        Some(values) => find_referencing(child, key, values, 1, cx).map(|found| !found.is_empty()),
        None => any_row(child, cx),
    };
    cx.transaction.swap_snapshot(&mut newest);
    if found? {
        return Ok(true);
    }
    let columns = slots(child, &key.columns);
    let wanted = match values {
        Some(values) => match referencing_values(child, &columns, values, cx)? {
            Some(wanted) => Some(wanted),
            None => return Ok(false),
        },
        None => None,
    };
    let (tree, range) = place(child, &columns, wanted.as_deref());
    cx.transaction.references().guard(tree, range, seen);
    Ok(false)
}

/// Does a row, given by its bytes, reference these values (`None`: any)?
pub(crate) fn references_values(
    child: &Arc<Table>,
    key: &ForeignKey,
    values: Option<&[Datum]>,
    row: &[u8],
    cx: &mut ExecCx<'_>,
) -> Result<bool, Stop> {
    let writer = crate::plan::writer(cx.catalog, child.id)?;
    let columns = slots(child, &key.columns);
    let row = pick(&writer.read(row)?, &columns);
    let Some(values) = values else {
        return Ok(!row.iter().any(Datum::is_null));
    };
    let wanted = referencing_values(child, &columns, values, cx)?;
    Ok(wanted.is_some_and(|wanted| row == wanted))
}

fn any_row(table: &Table, cx: &mut ExecCx<'_>) -> Result<bool, Stop> {
    let all = (Bound::Unbounded, Bound::Unbounded);
    let mut rows = cx
        .transaction
        .scan(table.group, table.tree, all, Direction::Forward)?;
    Ok(rows.next().transpose()?.is_some())
}

fn find_referencing(
    child: &Arc<Table>,
    key: &ForeignKey,
    values: &[Datum],
    max: usize,
    cx: &mut ExecCx<'_>,
) -> Result<Vec<Vec<u8>>, Stop> {
    let writer = crate::plan::writer(cx.catalog, child.id)?;
    let columns = slots(child, &key.columns);
    // What the referencing column can't hold nobody references.
    let Some(wanted) = referencing_values(child, &columns, values, cx)? else {
        return Ok(Vec::new());
    };
    let matches = |row: &[Datum]| {
        columns
            .iter()
            .zip(&wanted)
            .all(|(slot, want)| !row[*slot].is_null() && row[*slot] == *want)
    };
    let (tree, range) = place(child, &columns, Some(&wanted));
    let indirect = tree != child.tree;
    let rows = cx
        .transaction
        .scan(child.group, tree, range, Direction::Forward)?;
    let mut found = Vec::new();
    for row in rows {
        cx.tick()?;
        let (row_key, bytes) = row?;
        let (row_key, bytes) = if indirect {
            match cx.transaction.current(child.group, child.tree, &bytes)? {
                Some(row) => (bytes, row),
                None => continue,
            }
        } else {
            (row_key, bytes)
        };
        if matches(&writer.read(&bytes)?) {
            found.push(row_key.to_vec());
            if found.len() >= max {
                break;
            }
        }
    }
    Ok(found)
}

/// Where the rows are found that have these values there: a range of an index, or the table.
fn place(table: &Table, columns: &[usize], values: Option<&[Datum]>) -> (u32, Range) {
    let prefix = values.and_then(|values| index_prefix(table, columns, values));
    match prefix {
        Some((tree, prefix)) => {
            let to = scan::bytes_bound(scan::after(&prefix));
            (tree, (Bound::Included(Bytes::from(prefix)), to))
        }
        None => (table.tree, (Bound::Unbounded, Bound::Unbounded)),
    }
}

/// The tree and key prefix of an index that begins with the referencing columns.
fn index_prefix(table: &Table, columns: &[usize], values: &[Datum]) -> Option<(u32, Vec<u8>)> {
    for index in &table.indexes {
        if index.predicate.is_some() || index.state != IndexState::Ready {
            continue;
        }
        let mut prefix = Vec::with_capacity(16);
        let mut matched = 0;
        for part in &index.columns {
            let IndexKey::Column(id) = part.what else {
                break;
            };
            let slot = table.column_index(id);
            let Some(at) = columns.iter().position(|own| Some(*own) == slot) else {
                break;
            };
            let ty = table.columns[columns[at]].ty.plain();
            encode_key(
                &values[at],
                ty,
                part.descending,
                part.nulls_first,
                &mut prefix,
            );
            matched += 1;
        }
        if matched == columns.len() {
            return Some((index.tree, prefix));
        }
    }
    None
}
