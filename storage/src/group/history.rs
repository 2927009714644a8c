//! Which trees of a group keep their history: told to the store as soon as the log says so, and
//! again whenever the horizon moves.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use journal::Position;

use super::Group;
use crate::{Change, Direction, Keep, Result, Versions, system};

/// Trees that keep their history, with how much.
pub(super) type Keeps = BTreeMap<u32, Keep>;

impl Group {
    /// Trees that keep their history from a position on, as of what is applied.
    pub(super) fn load_keeps(&self, at: Position) -> Result<()> {
        let tree = self.shared.tree(system::KEPT_TREES);
        let all = (Bound::Unbounded, Bound::Unbounded);
        let mut keeps = Keeps::new();
        for row in self.shared.store.scan(tree, all, at, Direction::Forward)? {
            let (key, value) = row?;
            let (tree, keep) = Keep::read(&key, &value)?;
            self.keep(tree, Some(keep.from(at)))?;
            keeps.insert(tree, keep);
        }
        *self.keeps.lock() = keeps;
        Ok(())
    }

    /// An entry at a position may say what trees keep.
    pub(super) fn note_keeps(&self, changes: &[Change], at: Position) -> Result<()> {
        for change in changes.iter().filter(|c| c.tree == system::KEPT_TREES) {
            let Some(value) = &change.new else {
                if let Ok(key) = <[u8; 4]>::try_from(&*change.key) {
                    let tree = u32::from_be_bytes(key);
                    self.keeps.lock().remove(&tree);
                    self.keep(tree, None)?;
                }
                continue;
            };
            let (tree, keep) = Keep::read(&change.key, value)?;
            self.keep(tree, Some(keep.from(at)))?;
            self.keeps.lock().insert(tree, keep);
        }
        Ok(())
    }

    fn keep(&self, tree: u32, from: Option<Position>) -> Result<()> {
        self.shared.store.keep(self.shared.tree(tree), from)
    }

    /// The oldest position at which a tree can be read here: the horizon, or what it keeps. What is
    /// read below the horizon is committed and does not change, and no pin is needed: a scan that
    /// is open holds what it reads, and a read of what has gone meanwhile is refused.
    pub fn oldest(&self, tree: u32) -> Position {
        self.shared.store.kept(self.shared.tree(tree))
    }

    /// The versions of keys that reads at `from` up to `to` find, the oldest of each key first: see
    /// [`crate::TableStore::versions`]. Committed ones: `to` is at most what is applied. Errors:
    /// `NotReached`, `TooOld`.
    pub fn versions(
        &self,
        tree: u32,
        range: (Bound<Bytes>, Bound<Bytes>),
        from: Position,
        to: Position,
    ) -> Result<Versions> {
        let applied = self.applied();
        if to > applied {
            return Err(crate::Error::NotReached { at: to, applied });
        }
        let tree = self.shared.tree(tree);
        self.shared.store.versions(tree, range, from, to)
    }
}
