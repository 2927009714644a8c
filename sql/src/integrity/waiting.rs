//! Rows as they will be: what is prepared or decided in a group, and not there yet, references keys, too.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use storage::{GroupId, system};

use crate::catalog::{ForeignKey, Table};
use crate::exec::{ExecCx, references_values};
use crate::transaction::{Stop, read_changes, rows_of};
use crate::types::Datum;

/// Rows of write sets that one look reads.
const ROWS_MAX: usize = 100_000;
/// Where more transactions than these hold locks, it reads all there is.
const HOLDERS_MAX: usize = 1000;

/// What waits in a group: the new rows, by tree.
pub(super) struct Waiting(Vec<(u32, Bytes)>);

impl Waiting {
    /// All of it, and nothing more when the transaction gets its place.
    pub fn of(home: GroupId, cx: &mut ExecCx<'_>) -> Result<Waiting, Stop> {
        let all = (Bound::Unbounded, Bound::Unbounded);
        let newest = cx.transaction.newest_snapshot(home)?;
        let seen = newest.position(home).unwrap_or_default();
        // What waits holds the locks of its rows; what holds them no more has ended since, which the guard
        // tells. What has ended is not gone from the tree for a while, so it is not read through.
        let held = cx.transaction.engine().groups().get(home);
        let holders = held
            .map(|group| group.locks().holders())
            .unwrap_or_default();
        let ranges = match holders.len() > HOLDERS_MAX {
            true => vec![all.clone()],
            false => holders.into_iter().map(rows_of).collect(),
        };
        let mut rows = Vec::new();
        for range in ranges {
            let most = ROWS_MAX - rows.len();
            let found = cx
                .transaction
                .own_rows(home, system::PREPARED, range, most)?;
            rows.extend(found);
            if rows.len() == ROWS_MAX {
                return Err(super::prepare::busy().into());
            }
        }
        drop(newest);
        let mut waiting = Vec::new();
        for (key, bytes) in rows {
            let Some(entry) = read_changes(&key, &bytes)? else {
                continue;
            };
            let new = entry.changes.into_iter();
            waiting.extend(new.filter_map(|change| Some((change.tree, change.new?))));
        }
        cx.transaction
            .references()
            .guard(system::PREPARED, all, seen);
        Ok(Waiting(waiting))
    }

    /// Does a row of it reference these values (`None`: any)?
    pub fn references(
        &self,
        child: &Arc<Table>,
        key: &ForeignKey,
        values: Option<&[Datum]>,
        cx: &mut ExecCx<'_>,
    ) -> Result<bool, Stop> {
        for (_, row) in self.0.iter().filter(|(tree, _)| *tree == child.tree) {
            cx.tick()?;
            if references_values(child, key, values, row, cx)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
