//! Who may follow: committed entries of several groups in one order.
//!
//! The order is (position, group, seq); entries of different groups that share a position are one
//! unit. What is given is closed: no entry at or below it can come any more. Who may see which
//! entry is not decided here.

mod cursor;
mod entry;
mod error;
pub mod follow;
mod log;
mod units;

use std::sync::Arc;

use journal::{GroupId, Journal, Position};
use storage::{Group, Groups};

use crate::log::Log;

pub use entry::FeedEntry;
pub use error::{Error, Result};
pub use units::{Unit, Units};

/// How often a reader without a cursor begins anew because segments leave under it.
const TRIES: usize = 3;

/// The feed of a node: its journal's committed entries.
#[derive(Clone)]
pub struct Feed {
    log: Arc<Log>,
    groups: Arc<Groups>,
}

impl Feed {
    /// The feed over a node's journal and groups.
    pub fn new(journal: Journal, groups: Arc<Groups>) -> Feed {
        let log = Arc::new(Log::new(journal));
        Feed { log, groups }
    }

    /// How far all groups of this node are closed: what comes later, a group that is only being
    /// made included, lies above.
    pub fn closed(&self) -> Position {
        closed(&self.log.journal, &self.journaled())
    }

    /// The entries of `groups` after `after` (`None`: from the oldest retained on), up to
    /// `closed`, which [`Feed::closed`] gave before the groups were chosen. Errors:
    /// [`Error::Behind`], [`Error::Unknown`].
    pub fn read(
        &self,
        groups: &[GroupId],
        after: Option<Position>,
        closed: Position,
    ) -> Result<Units> {
        let mut held = Vec::with_capacity(groups.len());
        for id in groups {
            let group = self.groups.get(*id).filter(|group| !group.is_followed());
            held.push(group.ok_or(Error::Unknown(*id))?);
        }
        held.sort_by_key(|group| group.id());
        held.dedup_by_key(|group| group.id());
        for _ in 0..TRIES {
            let from = match after {
                Some(after) => after,
                None => self.oldest(&held)?,
            };
            let units = Units::new(&self.log, &held, from, closed);
            // Afterwards, for segments may have left meanwhile: what is there now was there then.
            let retained = held
                .iter()
                .try_for_each(|group| self.check_retained(group, from));
            match retained {
                Ok(()) => return units,
                Err(Error::Behind { .. }) if after.is_none() => (),
                Err(error) => return Err(error),
            }
        }
        Units::new(&self.log, &held, self.oldest(&held)?, closed)
    }

    /// The position from which on nothing of these groups is missing.
    pub fn oldest_of(&self, groups: &[GroupId]) -> Result<Position> {
        let held: Vec<_> = groups
            .iter()
            .filter_map(|id| self.groups.get(*id))
            .filter(|group| !group.is_followed())
            .collect();
        self.oldest(&held)
    }

    /// The groups whose entries this node's journal has.
    fn journaled(&self) -> Vec<Arc<Group>> {
        let mut groups = self.groups.all();
        groups.retain(|group| !group.is_followed());
        groups
    }

    fn oldest(&self, groups: &[Arc<Group>]) -> Result<Position> {
        let mut oldest = Position::ZERO;
        for group in groups {
            oldest = oldest.max(self.log.retained(group)?);
        }
        Ok(oldest)
    }

    fn check_retained(&self, group: &Group, after: Position) -> Result<()> {
        let oldest = self.log.retained(group)?;
        #[cfg(feature = "sabotage")]
        let oldest = match journal::sabotage::planted("retention-not-checked") {
            true => Position::ZERO,
            false => oldest,
        };
        if after < oldest {
            return Err(Error::Behind {
                group: group.id(),
                oldest,
            });
        }
        Ok(())
    }
}

/// The least position up to which all of these groups are closed. An idle one is closed up to
/// where the others are: on demand, only while someone reads.
fn closed(journal: &Journal, groups: &[Arc<Group>]) -> Position {
    let reached = |group: &Arc<Group>| cursor::reached(journal, group);
    let newest = groups.iter().map(reached).max().unwrap_or_default();
    let closed = |group: &Arc<Group>| {
        let closed = group.close_up_to(newest);
        let closed = closed.min(journal.durable_position(group.id()));
        if closed < newest && !group.is_sole() {
            // Of several voters none can promise it by itself: an entry must say it.
            group.close_wanted();
        }
        closed
    };
    groups.iter().map(closed).min().unwrap_or_default()
}
