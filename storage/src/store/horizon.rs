//! Horizons: below them reads are refused and old versions may go. An open scan holds back the
//! removal, so that it sees its position to the end.
//!
//! ```text
//! line = min(horizon, oldest open scan) ; durable <= horizon ; a file loses only versions that
//! no read at or above min(line, durable) needs
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use journal::{GroupId, Position};
use parking_lot::{Mutex, RwLock};

use crate::{Error, Result};

/// One group's horizon.
#[derive(Debug, Default)]
pub(super) struct Horizon {
    horizon: AtomicU64,
    /// Reads below it are refused, too, until the store is closed.
    refused: AtomicU64,
    line: AtomicU64,
    durable: AtomicU64,
    /// What the files held when they were opened: before the replay has come so far nothing is read.
    persisted: AtomicU64,
    scans: Mutex<BTreeMap<Position, usize>>,
}

impl Horizon {
    /// A horizon as found on disk.
    fn at(position: Position) -> Horizon {
        Horizon {
            horizon: AtomicU64::new(position.0),
            refused: AtomicU64::new(0),
            line: AtomicU64::new(position.0),
            durable: AtomicU64::new(position.0),
            persisted: AtomicU64::new(position.0),
            scans: Mutex::default(),
        }
    }

    /// The oldest position that can be read.
    pub fn get(&self) -> Position {
        Position(self.horizon.load(Ordering::Acquire))
    }

    /// The replay must have come so far before anything is read.
    pub fn persisted(&self) -> Position {
        Position(self.persisted.load(Ordering::Acquire))
    }

    /// A file was found that reaches so far.
    pub fn found(&self, upto: Position) {
        self.persisted.fetch_max(upto.0, Ordering::AcqRel);
    }

    /// Refuses a read below the horizon. A point read asks before and after: versions are
    /// removed only after the horizon has moved, so a read that saw a removal is refused.
    pub fn check(&self, at: Position) -> Result<()> {
        let refused = Position(self.refused.load(Ordering::Acquire));
        let horizon = self.get().max(refused);
        if at < horizon {
            Err(Error::TooOld { at, horizon })
        } else {
            Ok(())
        }
    }

    /// Refuses reads below a position from now on, and says nothing of it to the disk.
    pub fn refuse(&self, below: Position) {
        // With the lock, so that no scan is let in by a look at the old value.
        let _scans = self.scans.lock();
        self.refused.fetch_max(below.0, Ordering::AcqRel);
    }

    /// Moves the horizon forward.
    pub fn advance(&self, to: Position) {
        let scans = self.scans.lock();
        self.horizon.fetch_max(to.0, Ordering::AcqRel);
        self.set_line(&scans);
    }

    /// Registers a scan at a position at or above the horizon.
    pub fn open_scan(self: &Arc<Self>, at: Position) -> Result<OpenScan> {
        let mut scans = self.scans.lock();
        self.check(at)?;
        *scans.entry(at).or_insert(0) += 1;
        // The line is at most the horizon, so it is not above the new scan.
        Ok(OpenScan {
            horizon: self.clone(),
            at,
        })
    }

    /// Versions that only reads below this need may leave the memory.
    pub fn line(&self) -> Position {
        Position(self.line.load(Ordering::Acquire))
    }

    /// Versions that only reads below this need may leave the files.
    pub fn durable_line(&self) -> Position {
        Position(self.durable.load(Ordering::Acquire)).min(self.line())
    }

    /// For files that nobody reads after a restart.
    pub fn assume_durable(&self) {
        self.durable.fetch_max(self.get().0, Ordering::AcqRel);
    }

    fn set_line(&self, scans: &BTreeMap<Position, usize>) {
        let oldest = scans.keys().next().map_or(u64::MAX, |at| at.0);
        let horizon = self.horizon.load(Ordering::Acquire);
        // A scan that was opened at the horizon of its time is never below the line.
        self.line.store(horizon.min(oldest), Ordering::Release);
    }
}

/// A registered scan; dropping it lets go.
#[derive(Debug)]
pub(super) struct OpenScan {
    horizon: Arc<Horizon>,
    at: Position,
}

impl Drop for OpenScan {
    fn drop(&mut self) {
        let mut scans = self.horizon.scans.lock();
        if let Some(count) = scans.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                scans.remove(&self.at);
            }
        }
        self.horizon.set_line(&scans);
    }
}

/// The horizons of all groups.
#[derive(Debug, Default)]
pub(super) struct Horizons(RwLock<BTreeMap<GroupId, Arc<Horizon>>>);

impl Horizons {
    /// The horizons of a record.
    pub fn new(recorded: &BTreeMap<GroupId, Position>) -> Horizons {
        let horizons = recorded
            .iter()
            .map(|(&group, &at)| (group, Arc::new(Horizon::at(at))));
        Horizons(RwLock::new(horizons.collect()))
    }

    /// The horizon of a group; a new group begins at zero.
    pub fn of(&self, group: GroupId) -> Arc<Horizon> {
        if let Some(horizon) = self.0.read().get(&group) {
            return horizon.clone();
        }
        self.0.write().entry(group).or_default().clone()
    }

    /// The group is gone with all its trees; if it comes again it begins at zero.
    pub fn forget(&self, group: GroupId) {
        self.0.write().remove(&group);
    }

    /// All horizons that have moved at all.
    pub fn current(&self) -> BTreeMap<GroupId, Position> {
        let horizons = self.0.read();
        let moved = horizons
            .iter()
            .map(|(&group, horizon)| (group, horizon.get()));
        moved.filter(|(_, at)| *at > Position::ZERO).collect()
    }

    /// Notes what a durable record says.
    pub fn mark_durable(&self, recorded: &BTreeMap<GroupId, Position>) {
        for (&group, at) in recorded {
            self.of(group).durable.fetch_max(at.0, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_scans_hold_back_the_line() {
        let horizon = Arc::new(Horizon::default());
        let scan = horizon.open_scan(Position(5)).unwrap();
        let twin = horizon.open_scan(Position(5)).unwrap();
        horizon.advance(Position(9));
        assert_eq!(horizon.line(), Position(5));
        assert!(horizon.check(Position(8)).is_err());
        assert!(horizon.open_scan(Position(8)).is_err());
        drop(scan);
        assert_eq!(horizon.line(), Position(5));
        drop(twin);
        assert_eq!(horizon.line(), Position(9));
        assert_eq!(horizon.durable_line(), Position(0));
    }
}
