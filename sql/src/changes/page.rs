//! Pages: whole units up to a number of rows, the last row of each transaction marked.

use std::collections::VecDeque;
use std::sync::Arc;

use storage::{GroupId, Groups, Position};

use super::columns::{FeedRow, LAST_IN_TX};
use super::filter::Filter;
use super::rows::{EntryRows, Reading};
use super::{Log, LogEntry, Units};
use crate::catalog::Catalog;
use crate::types::Datum;
use crate::{Error, Result, state};

/// Rows in order from a position on, unit by unit.
pub(super) struct Page {
    reading: Reading,
    units: Box<dyn Units>,
    /// Entries of the unit in progress.
    entries: VecDeque<Box<dyn LogEntry>>,
    entry: Option<EntryRows>,
    /// The row before the one just read: only the next one tells whether it is the last.
    held: Option<Vec<Datum>>,
    /// The last unit that was begun.
    position: Option<Position>,
    rows: u64,
}

impl Page {
    /// Opens the feed after a position. First it is seen how far everything is closed, then which
    /// owners there are to read: one whose first table became visible up to there is not passed
    /// over, even if it was on its way to the disk a moment ago.
    pub fn open(
        log: &dyn Log,
        newest: impl FnOnce() -> Arc<Catalog>,
        groups: &Arc<Groups>,
        filter: Filter,
        after: Option<Position>,
    ) -> Result<Page> {
        let closed = log.closed();
        let reading = Reading {
            catalog: newest(),
            groups: Arc::clone(groups),
            filter,
        };
        let ids = wanted(&reading)?;
        let units = log.read(&ids, after, closed)?;
        Ok(Page {
            reading,
            units,
            entries: VecDeque::new(),
            entry: None,
            held: None,
            position: None,
            rows: 0,
        })
    }

    /// Nothing at or below is missing once the page is at its end.
    pub fn closed(&self) -> Position {
        self.units.closed()
    }

    /// Rows given so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The next row; ends between units once `rows_max` are given. `between` is called before
    /// each unit, also when none of them has a row for this reader.
    pub fn next(
        &mut self,
        rows_max: u64,
        mut between: impl FnMut() -> Result<()>,
    ) -> Result<Option<Vec<Datum>>> {
        loop {
            if let Some(entry) = &mut self.entry {
                let row = entry.next()?.map(FeedRow::values);
                let ended = row.is_none();
                let ready = std::mem::replace(&mut self.held, row);
                if ended {
                    self.entry = None;
                }
                if let Some(mut ready) = ready {
                    ready[LAST_IN_TX] = Datum::Bool(ended);
                    self.rows += 1;
                    return Ok(Some(ready));
                }
                continue;
            }
            if let Some(entry) = self.entries.pop_front() {
                self.entry = Some(EntryRows::new(&self.reading, entry)?);
                continue;
            }
            if self.rows >= rows_max {
                return Ok(None);
            }
            between()?;
            let Some(unit) = self.units.next()? else {
                return Ok(None);
            };
            self.position = Some(unit.position);
            self.entries = unit.entries.into();
        }
    }

    /// How far a consumer that has taken all rows has come: the end of what is closed, or the
    /// last unit if the page stopped at its limit.
    pub fn reached(&self, rows_max: u64) -> Position {
        match self.position {
            Some(position) if self.rows >= rows_max => position,
            _ => self.closed(),
        }
    }
}

/// The groups to read. The feed is read from this node's journal: an owner whose tables are only
/// followed here is not in it, and must not be passed over.
fn wanted(reading: &Reading) -> Result<Vec<GroupId>> {
    let catalog = &reading.catalog;
    let mut ids = Vec::new();
    for id in reading.filter.groups(catalog) {
        let replica = reading.groups.get(id).filter(|held| !held.is_followed());
        if replica.is_some() {
            ids.push(id);
        } else if catalog.tables_in(id).next().is_some() {
            return Err(not_here(catalog, id));
        }
    }
    Ok(ids)
}

fn not_here(catalog: &Catalog, group: GroupId) -> Error {
    let owner = catalog.owner_of_group(group).unwrap_or_default();
    let owner = catalog.role_name(owner);
    let message = format!("the changes of owner \"{owner}\" can't be read on this node");
    Error::new(state::FEATURE_NOT_SUPPORTED, message)
        .detail("It keeps copies of tables of that owner, and no replica of its log.")
        .hint("Read them on a node that freehold.replicas names for the owner.")
}
