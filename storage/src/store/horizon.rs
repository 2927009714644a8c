//! Horizons: below them reads are refused and old versions may go. An open scan holds back the
//! removal, so that it sees its position to the end. A tree that keeps its history has a horizon of
//! its own, below that of its group.
//!
//! ```text
//! line = min(horizon, oldest open scan) ; durable <= horizon ; a file loses only versions that
//! no read at or above min(line, durable) needs      of a tree: min(its group's, kept) in all three
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use journal::{GroupId, Position};
use parking_lot::{Mutex, RwLock};

use super::TreeId;
use super::names::format_name;
use crate::{Error, Result};

/// No horizon of its own: the group's.
const WITH_THE_GROUP: u64 = u64::MAX;

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
        self.check_with(at, Position(WITH_THE_GROUP))
    }

    /// The same of a tree that is kept from a position on. What is refused until the group has been
    /// replaced can be read afterwards: then the horizon is there.
    fn check_with(&self, at: Position, kept: Position) -> Result<()> {
        let (group, refused) = (self.get(), self.refused.load(Ordering::Acquire));
        let horizon = match Position(refused) {
            refused if refused > group => refused,
            _ => group.min(kept),
        };
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

    /// Registers a scan at a position at or above the horizon, or that from which on a tree is kept.
    fn open_scan(self: &Arc<Self>, at: Position, kept: &AtomicU64) -> Result<OpenScan> {
        let mut scans = self.scans.lock();
        self.check_with(at, Position(kept.load(Ordering::Acquire)))?;
        *scans.entry(at).or_insert(0) += 1;
        // One below the horizon takes the line back: what is still there then stays there.
        self.set_line(&scans);
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

    fn set_line(&self, scans: &BTreeMap<Position, usize>) {
        let oldest = scans.keys().next().map_or(u64::MAX, |at| at.0);
        let horizon = self.horizon.load(Ordering::Acquire);
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

/// One tree's horizon: its group's, or from where on it is kept if that is below.
#[derive(Debug)]
pub(super) struct TreeHorizon {
    group: Arc<Horizon>,
    kept: AtomicU64,
    /// What the record says of `kept`.
    durable: AtomicU64,
}

impl Default for TreeHorizon {
    fn default() -> TreeHorizon {
        TreeHorizon::new(Arc::default(), None)
    }
}

impl TreeHorizon {
    fn new(group: Arc<Horizon>, kept: Option<Position>) -> TreeHorizon {
        let kept = kept.map_or(WITH_THE_GROUP, |kept| kept.0);
        TreeHorizon {
            group,
            kept: AtomicU64::new(kept),
            durable: AtomicU64::new(kept),
        }
    }

    /// That of its group.
    pub fn group(&self) -> &Arc<Horizon> {
        &self.group
    }

    fn kept(&self) -> Position {
        Position(self.kept.load(Ordering::Acquire))
    }

    /// The oldest position that can be read.
    pub fn get(&self) -> Position {
        self.group.get().min(self.kept())
    }

    /// As [`Horizon::check`].
    pub fn check(&self, at: Position) -> Result<()> {
        self.group.check_with(at, self.kept())
    }

    /// Registers a scan at a position at or above the horizon.
    pub fn open_scan(&self, at: Position) -> Result<OpenScan> {
        self.group.open_scan(at, &self.kept)
    }

    /// Versions that only reads below this need may leave the memory.
    pub fn line(&self) -> Position {
        self.group.line().min(self.kept())
    }

    /// Versions that only reads below this need may leave the files: neither what is read now
    /// needs them, nor what could be after a crash, by what the record says.
    pub fn durable_line(&self) -> Position {
        let durable = Position(self.durable.load(Ordering::Acquire));
        self.group.durable_line().min(self.line()).min(durable)
    }

    /// It is kept from a position on, or goes with its group again. What is gone stays refused.
    pub fn keep(&self, from: Option<Position>) {
        // With the lock, so that no scan is let in by a look at the old value.
        let _scans = self.group.scans.lock();
        let kept = from.map_or(WITH_THE_GROUP, |from| from.max(self.get()).0);
        self.kept.store(kept, Ordering::Release);
    }

    /// The tree is empty: nothing is gone from it yet.
    pub fn begin(&self, from: Position) {
        let _scans = self.group.scans.lock();
        self.kept.store(from.0, Ordering::Release);
    }

    /// For files that nobody reads after a restart.
    pub fn assume_durable(&self) {
        (self.group.durable).fetch_max(self.group.get().0, Ordering::AcqRel);
    }
}

/// What a record says of horizons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Recorded {
    /// Of groups, those that have moved at all.
    pub groups: BTreeMap<GroupId, Position>,
    /// From where on trees are kept, by name: of generations that are dropped, too, for a crash may
    /// find them again.
    pub kept: BTreeMap<String, Position>,
}

/// The horizons of all groups and trees.
#[derive(Debug, Default)]
pub(super) struct Horizons {
    groups: RwLock<BTreeMap<GroupId, Arc<Horizon>>>,
    trees: Mutex<BTreeMap<String, Weak<TreeHorizon>>>,
}

impl Horizons {
    /// The horizons of a record.
    pub fn new(recorded: &Recorded) -> Horizons {
        let horizons = (recorded.groups.iter())
            .map(|(&group, &at)| (group, Arc::new(Horizon::at(at))))
            .collect();
        Horizons {
            groups: RwLock::new(horizons),
            trees: Mutex::default(),
        }
    }

    /// The horizon of a group; a new group begins at zero.
    pub fn of(&self, group: GroupId) -> Arc<Horizon> {
        if let Some(horizon) = self.groups.read().get(&group) {
            return horizon.clone();
        }
        self.groups.write().entry(group).or_default().clone()
    }

    /// The horizon of a tree that was found, with what the record says of it, or of a new one.
    pub fn of_tree(
        &self,
        id: TreeId,
        generation: u32,
        recorded: Option<&Recorded>,
    ) -> Arc<TreeHorizon> {
        let name = format_name(id, generation);
        let kept = recorded.and_then(|recorded| recorded.kept.get(&name));
        let horizon = Arc::new(TreeHorizon::new(self.of(id.group), kept.copied()));
        let mut trees = self.trees.lock();
        trees.retain(|_, tree| tree.strong_count() > 0);
        trees.insert(name, Arc::downgrade(&horizon));
        horizon
    }

    /// The group is gone with all its trees; if it comes again it begins at zero.
    pub fn forget(&self, group: GroupId) {
        self.groups.write().remove(&group);
    }

    /// What a record is to say now.
    pub fn current(&self) -> Recorded {
        // Groups first: when a tree is kept meanwhile, the record must not say that it goes with a
        // horizon that has moved on since.
        let groups = self.groups.read();
        let moved = groups
            .iter()
            .map(|(&group, horizon)| (group, horizon.get()));
        let groups = moved.filter(|(_, at)| *at > Position::ZERO).collect();
        let trees = self.trees.lock();
        let kept = trees.iter().filter_map(|(name, tree)| {
            let kept = tree.upgrade()?.kept();
            (kept.0 != WITH_THE_GROUP).then(|| (name.clone(), kept))
        });
        let kept = kept.collect();
        Recorded { groups, kept }
    }

    /// Notes what a durable record says.
    pub fn mark_durable(&self, recorded: &Recorded) {
        for (name, tree) in self.trees.lock().iter() {
            let kept = recorded.kept.get(name);
            if let Some(tree) = tree.upgrade() {
                let kept = kept.map_or(WITH_THE_GROUP, |kept| kept.0);
                tree.durable.store(kept, Ordering::Release);
            }
        }
        for (&group, at) in &recorded.groups {
            self.of(group).durable.fetch_max(at.0, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_scans_hold_back_the_line() {
        let horizon = TreeHorizon::default();
        let scan = horizon.open_scan(Position(5)).unwrap();
        let twin = horizon.open_scan(Position(5)).unwrap();
        horizon.group.advance(Position(9));
        assert_eq!(horizon.line(), Position(5));
        assert!(horizon.check(Position(8)).is_err());
        assert!(horizon.open_scan(Position(8)).is_err());
        drop(scan);
        assert_eq!(horizon.line(), Position(5));
        drop(twin);
        assert_eq!(horizon.line(), Position(9));
        assert_eq!(horizon.durable_line(), Position(0));
    }

    #[test]
    fn a_tree_that_is_kept_is_read_below_its_group() {
        let tree = TreeHorizon::default();
        tree.keep(Some(Position(5)));
        tree.group.advance(Position(9));
        assert_eq!((tree.get(), tree.line()), (Position(5), Position(5)));
        assert!(tree.check(Position(5)).is_ok() && tree.check(Position(4)).is_err());
        let scan = tree.open_scan(Position(6)).unwrap();
        assert_eq!(tree.group.line(), Position(6));
        tree.keep(Some(Position(8)));
        assert_eq!((tree.get(), tree.line()), (Position(8), Position(6)));
        drop(scan);
        tree.keep(Some(Position(2)));
        assert_eq!(tree.get(), Position(8), "what is gone stays refused");
        tree.keep(None);
        tree.keep(Some(Position(2)));
        assert_eq!(tree.get(), Position(9));
    }

    #[test]
    fn what_is_refused_until_it_is_replaced_is_read_afterwards() {
        let tree = TreeHorizon::default();
        tree.begin(Position(5));
        tree.group.refuse(Position(9));
        assert!(tree.check(Position(6)).is_err());
        tree.group.advance(Position(9));
        assert!(tree.check(Position(6)).is_ok());
    }
}
