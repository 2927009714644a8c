//! What a node gives to another one that has no log of an owner: the rows of its entries, as far as
//! the role that reads there may see them, and nothing else.

use std::sync::Arc;

use storage::{GroupId, Groups, Position};

use super::Units;
use super::columns::FeedRow;
use super::filter::Filter;
use super::followed::Followed;
use super::rows::Reading;
use super::walk::{Walk, Walked};
use crate::Result;
use crate::catalog::Catalog;

/// A step of it.
pub enum Piece {
    /// A row.
    Row {
        /// Its entry's group.
        group: GroupId,
        /// It is the last one of its entry.
        last: bool,
        /// The row.
        row: Box<FeedRow>,
    },
    /// Nothing at or below this position comes any more.
    Passed(Position),
}

/// Rows for a reader elsewhere.
pub struct Given {
    walk: Walk,
    followed: Followed,
    over: bool,
}

impl Given {
    /// Of units of groups that this node has a log of.
    ///
    /// # Errors
    /// 42501.
    pub fn new(
        groups: &Arc<Groups>,
        catalog: Arc<Catalog>,
        filter: Filter,
        units: Box<dyn Units>,
    ) -> Result<Given> {
        let mut followed = Followed::default();
        followed.look(&filter, Arc::clone(&catalog))?;
        let reading = Reading {
            catalog,
            groups: Arc::clone(groups),
            filter,
        };
        Ok(Given {
            walk: Walk::new(reading, units),
            followed,
            over: false,
        })
    }

    /// The last unit that was begun.
    pub fn position(&self) -> Option<Position> {
        self.walk.position()
    }

    /// The next piece; the last one says that the end of the units is passed. `newest` is this
    /// node's newest catalog.
    ///
    /// # Errors
    /// 42501 once some of what is given may not be read any more; those of `newest`; the log's.
    pub fn next(&mut self, newest: impl FnOnce() -> Result<Arc<Catalog>>) -> Result<Option<Piece>> {
        if self.over {
            return Ok(None);
        }
        if let Some(Walked { group, row, last }) = self.walk.next_row()? {
            let row = Box::new(row);
            return Ok(Some(Piece::Row { group, last, row }));
        }
        self.followed.look(&self.walk.reading.filter, newest()?)?;
        let passed = self.walk.position();
        match (self.walk.next_unit()?, passed) {
            (true, Some(passed)) => Ok(Some(Piece::Passed(passed))),
            (true, None) => Ok(Some(Piece::Passed(Position::ZERO))),
            (false, _) => {
                self.over = true;
                Ok(Some(Piece::Passed(self.walk.units().closed())))
            }
        }
    }
}
