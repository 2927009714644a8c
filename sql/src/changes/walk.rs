//! From units to rows: one entry after the other, the last row of each known as such.

use storage::{GroupId, Position};

use super::columns::FeedRow;
use super::rows::{EntryRows, Reading};
use super::{UnitEntry, Units};
use crate::Result;

/// Walks along units.
pub(super) struct Walk {
    pub reading: Reading,
    units: Box<dyn Units>,
    entry: Option<(GroupId, Rows)>,
    /// The row before the one just read: only the next one tells whether it is the last.
    held: Option<FeedRow>,
    /// The last unit that was begun.
    position: Option<Position>,
}

enum Rows {
    Here(Box<EntryRows>),
    Given(Box<dyn Iterator<Item = Result<FeedRow>> + Send>),
}

/// A row, and whether it is the last one of its entry.
pub(super) struct Walked {
    pub group: GroupId,
    pub row: FeedRow,
    pub last: bool,
}

impl Walk {
    pub fn new(reading: Reading, units: Box<dyn Units>) -> Walk {
        Walk {
            reading,
            units,
            entry: None,
            held: None,
            position: None,
        }
    }

    pub fn units(&self) -> &dyn Units {
        &*self.units
    }

    /// The last unit that was begun.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// The next row of the unit in progress; `None`: it is at its end.
    pub fn next_row(&mut self) -> Result<Option<Walked>> {
        loop {
            if let Some((group, rows)) = &mut self.entry {
                let row = match rows {
                    Rows::Here(rows) => rows.next()?,
                    Rows::Given(rows) => rows.next().transpose()?,
                };
                let (group, last) = (*group, row.is_none());
                let ready = std::mem::replace(&mut self.held, row);
                if last {
                    self.entry = None;
                }
                if let Some(row) = ready {
                    return Ok(Some(Walked { group, row, last }));
                }
                continue;
            }
            if self.position.is_none() {
                return Ok(None);
            }
            self.entry = match self.units.next_entry()? {
                None => return Ok(None),
                Some(UnitEntry::Given(group, rows)) => Some((group, Rows::Given(rows))),
                Some(UnitEntry::Here(entry)) => {
                    let group = entry.group();
                    let rows = EntryRows::new(&self.reading, entry)?;
                    Some((group, Rows::Here(Box::new(rows))))
                }
            };
        }
    }

    /// Begins the next unit; false: there is none.
    pub fn next_unit(&mut self) -> Result<bool> {
        let position = self.units.next_unit()?;
        self.position = position.or(self.position);
        Ok(position.is_some())
    }
}
