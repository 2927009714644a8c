//! Descriptors as they were: what an old entry of the feed is read with.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use storage::{GroupId, Position};

use super::codec::{self, TREE_HISTORY};
use super::{Catalog, Object, Rows, Table, TableId};
use crate::Result;

/// The descriptor of a table that an entry at `position` was written with: the present one, or
/// the newest of the history that was valid there. `scan` gives rows of the table's group as of
/// its newest position.
pub fn table_at<'a>(
    catalog: &Catalog,
    (group, table): (GroupId, TableId),
    position: Position,
    scan: impl FnOnce(u32, (Bound<Bytes>, Bound<Bytes>)) -> Result<Rows<'a>>,
) -> Result<Option<Arc<Table>>> {
    let present = catalog.table_in(group, table);
    if let Some(present) = present.filter(|t| t.since < position) {
        return Ok(Some(Arc::clone(present)));
    }
    let Some(last) = position.0.checked_sub(1) else {
        return Ok(None);
    };
    let from = codec::history_key(table.0, Position(last));
    let to = codec::history_key(table.0, Position::ZERO);
    let mut rows = scan(TREE_HISTORY, (Bound::Included(from), Bound::Included(to)))?;
    let Some(row) = rows.next() else {
        return Ok(None);
    };
    match codec::decode(&row?.1)? {
        Object::Table(table) => Ok(Some(table)),
        _ => Ok(None),
    }
}
