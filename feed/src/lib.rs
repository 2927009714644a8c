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

    /// The newest position that any of the node's groups has reached: the only voter of a group
    /// can close it up to here without an entry.
    pub fn newest(&self) -> Position {
        let all = self.groups.all();
        let journaled = all.iter().filter(|group| !group.is_followed());
        let reached = journaled.map(|group| self.reached(group));
        reached.max().unwrap_or_default()
    }

    /// Up to here a group's entries can be read: they are applied on this node, and on its disk.
    /// Of a group that is followed here nothing is on the disk: so far it is known.
    pub fn reached(&self, group: &Group) -> Position {
        match group.is_followed() {
            true => group.applied(),
            false => cursor::reached(&self.log.journal, group),
        }
    }

    /// How far a group is closed, where `upto` is what [`Feed::newest`] gave: no entry at or below
    /// can come any more. It is not asked to be.
    pub fn closed(&self, group: &Group, upto: Position) -> Position {
        if group.is_followed() {
            return group.applied();
        }
        self.log.closed(group, upto)
    }

    /// The entries of `groups` after `after` (`None`: from the oldest retained on), up to
    /// `closed`, up to which all of them were found closed before they were chosen. Errors:
    /// [`Error::Behind`], [`Error::Unknown`].
    pub fn read(
        &self,
        groups: &[GroupId],
        after: Option<Position>,
        closed: Position,
    ) -> Result<Units> {
        let mut held = Vec::with_capacity(groups.len());
        for id in groups {
            let group = self.groups.get(*id);
            let group = group.filter(|group| !group.is_followed() && !group.has_ended());
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
