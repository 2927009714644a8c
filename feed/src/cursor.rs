//! The entries of one group in order, read from the journal in small batches.

use std::collections::VecDeque;
use std::sync::Arc;

use journal::{GroupId, Index, Journal, Kind, Position, Record};
use storage::{Entry, Group};

use crate::log::Log;
use crate::{Error, FeedEntry, Result};

/// Reads one group's committed entries up to a position.
pub(crate) struct Cursor {
    log: Arc<Log>,
    group: Arc<Group>,
    next: Index,
    upto: Position,
    batch: VecDeque<Record>,
    /// Bytes read from the journal at once; a larger record comes alone.
    batch_bytes: usize,
    ended: bool,
}

impl Cursor {
    /// Begins behind `after`, ends at `upto` (inclusive).
    pub fn new(
        log: &Arc<Log>,
        group: &Arc<Group>,
        after: Position,
        upto: Position,
        batch_bytes: usize,
    ) -> Result<Cursor> {
        // All of it was found closed. A replica that has less has taken the place of that one.
        if group.succeeds() && log.closed(group, upto) < upto {
            return Err(Error::Unknown(group.id()));
        }
        // What is committed but not applied here is nobody's to see, and what this node's disk
        // does not have would be gone for a while after a restart.
        let upto = upto.min(reached(&log.journal, group));
        let start = if after < upto {
            log.journal.seek(group.id(), after)?
        } else {
            None
        };
        if start.is_none() && after < upto {
            check_alive(group)?;
        }
        #[cfg(feature = "sabotage")]
        let start = match journal::sabotage::planted("cursor-off-by-one") {
            true => start.map(|index| Index(index.0 + 1)),
            false => start,
        };
        Ok(Cursor {
            log: log.clone(),
            group: group.clone(),
            next: start.unwrap_or_default(),
            upto,
            batch: VecDeque::new(),
            batch_bytes,
            ended: start.is_none(),
        })
    }

    /// The group.
    pub fn group(&self) -> GroupId {
        self.group.id()
    }

    /// The next entry that has had its effect.
    pub fn next(&mut self) -> Result<Option<FeedEntry>> {
        while let Some(record) = self.record()? {
            if record.position > self.upto {
                self.ended = true;
                return Ok(None);
            }
            if record.kind != Kind::Entry || self.group.broken(record.position) {
                continue;
            }
            let entry = Entry::decode(&record.payload)?;
            if !entry.close {
                let (group, index) = (self.group.id(), record.index);
                return Ok(Some(FeedEntry::new(self.log.clone(), group, index, entry)));
            }
        }
        Ok(None)
    }

    fn record(&mut self) -> Result<Option<Record>> {
        if self.batch.is_empty() && !self.ended {
            let to = Index(u64::MAX);
            let read = self
                .log
                .journal
                .read(self.group.id(), self.next, to, self.batch_bytes)?;
            self.log.check_next(&self.group, self.next, read.first())?;
            match read.last() {
                Some(last) => self.next = Index(last.index.0 + 1),
                None => {
                    check_alive(&self.group)?;
                    self.ended = true;
                }
            }
            self.batch = read.into();
        }
        Ok(if self.ended {
            None
        } else {
            self.batch.pop_front()
        })
    }
}

/// A log without what is looked for may be one that was taken away.
fn check_alive(group: &Group) -> Result<()> {
    match group.has_ended() {
        false => Ok(()),
        true => Err(Error::Unknown(group.id())),
    }
}

/// Up to here the group is applied on this node and its records are on this disk. (Of several
/// voters the leader applies what the disks of the others have.)
pub(crate) fn reached(journal: &Journal, group: &Group) -> Position {
    group.applied().min(journal.durable_position(group.id()))
}
