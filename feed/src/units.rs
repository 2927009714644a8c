//! The merge of several groups: units of equal position, in order, up to where all are closed.

use std::sync::Arc;

use journal::{Journal, Position};
use storage::Group;

use crate::cursor::Cursor;
use crate::{FeedEntry, Result};

/// All entries of one position. Never split by a page or a cursor.
pub struct Unit {
    /// The position that a consumer may store once it has taken the whole unit.
    pub position: Position,
    /// By group.
    pub entries: Vec<FeedEntry>,
}

/// Units in order; ends where the groups are closed.
pub struct Units {
    cursors: Vec<(Cursor, Option<FeedEntry>)>,
    closed: Position,
}

impl Units {
    pub(crate) fn new(
        journal: &Journal,
        groups: &[Arc<Group>],
        after: Position,
        closed: Position,
    ) -> Result<Units> {
        let mut cursors = Vec::with_capacity(groups.len());
        for group in groups {
            let mut cursor = Cursor::new(journal, group, after, closed)?;
            let first = cursor.next()?;
            cursors.push((cursor, first));
        }
        cursors.sort_by_key(|(cursor, _)| cursor.group());
        Ok(Units { cursors, closed })
    }

    /// No entry at or below this position is missing once the units are taken.
    pub fn closed(&self) -> Position {
        self.closed
    }

    /// The next unit.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Unit>> {
        let position_of = |entry: &FeedEntry| entry.entry().header.position;
        let heads = self.cursors.iter().filter_map(|(_, head)| head.as_ref());
        let Some(position) = heads.map(position_of).min() else {
            return Ok(None);
        };
        let mut entries = Vec::new();
        for (cursor, head) in &mut self.cursors {
            if head.as_ref().map(position_of) == Some(position) {
                let following = cursor.next()?;
                entries.extend(std::mem::replace(head, following));
            }
        }
        Ok(Some(Unit { position, entries }))
    }
}
