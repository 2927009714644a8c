//! The merge of several groups: units of equal position, in order, up to where all are closed.

use std::sync::Arc;

use journal::Position;
use storage::Group;

use crate::cursor::Cursor;
use crate::log::Log;
use crate::{FeedEntry, Result};

/// Bytes of the journal that one reader holds, shared by its groups.
const READER_BYTES_MAX: usize = 8 << 20;
/// Bytes read at once of one group, at most and at least.
const BATCH_BYTES: std::ops::RangeInclusive<usize> = 4 << 10..=256 << 10;

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
        log: &Arc<Log>,
        groups: &[Arc<Group>],
        after: Position,
        closed: Position,
    ) -> Result<Units> {
        let mut cursors = Vec::with_capacity(groups.len());
        let share = READER_BYTES_MAX / groups.len().max(1);
        let batch_bytes = share.clamp(*BATCH_BYTES.start(), *BATCH_BYTES.end());
        for group in groups {
            let mut cursor = Cursor::new(log, group, after, closed, batch_bytes)?;
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
                #[cfg(feature = "sabotage")]
                if journal::sabotage::planted("equal-positions-split") {
                    break;
                }
            }
        }
        Ok(Some(Unit { position, entries }))
    }
}
