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

    /// The entries of `groups` after `after`, up to `closed`, up to which all of them were found
    /// closed before they were chosen. Errors: [`Error::Behind`], [`Error::Unknown`].
    pub fn read(&self, groups: &[GroupId], after: Position, closed: Position) -> Result<Units> {
        let mut held = Vec::with_capacity(groups.len());
        for id in groups {
            let group = self.groups.get(*id);
            let group = group.filter(|group| !group.is_followed() && !group.has_ended());
            held.push(group.ok_or(Error::Unknown(*id))?);
        }
        held.sort_by_key(|group| group.id());
        held.dedup_by_key(|group| group.id());
        let units = Units::new(&self.log, &held, after, closed);
        // Afterwards, for segments may have left meanwhile: what is there now was there then.
        for group in &held {
            self.check_retained(group, after)?;
        }
        units
    }

    /// Those of these groups of which something behind `after` is not here any more, and from which
    /// position on nothing of them is missing.
    pub fn behind(&self, groups: &[GroupId], after: Position) -> Result<Vec<(GroupId, Position)>> {
        let mut behind = Vec::new();
        for group in groups.iter().filter_map(|id| self.groups.get(*id)) {
            let oldest = match group.is_followed() {
                true => Position::ZERO,
                false => self.log.retained(&group)?,
            };
            if after < oldest {
                behind.push((group.id(), oldest));
            }
        }
        Ok(behind)
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
