//! Scans over sled's map, which goes on changing under them: what is newer than the scan's
//! position is passed over, and what it needs is not removed while it is registered.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use journal::Position;
use sled::IVec;

use super::super::horizon::OpenScan;
use super::super::range::Range;
use super::database::{Database, corrupt, error};
use super::keys;
use super::trees::SledTree;
use crate::{Direction, Result, RowVersion};

/// Versions of one row that are walked before the scan seeks.
const WALK_VERSIONS_MAX: u32 = 16;

type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// A scan of a tree.
pub(super) struct SledScan {
    items: sled::Iter,
    bounds: Bounds,
    at: Position,
    direction: Direction,
    peeked: Option<(IVec, IVec)>,
    /// As of the last seek, see [`Database::removals`].
    removals: u64,
    database: Arc<Database>,
    // Held so that neither the tree's keys nor the versions of this position are removed.
    _tree: Arc<SledTree>,
    _open: OpenScan,
}

impl SledScan {
    pub fn new(
        database: Arc<Database>,
        tree: Arc<SledTree>,
        open: OpenScan,
        range: Range,
        at: Position,
        direction: Direction,
    ) -> SledScan {
        let bounds = tree.prefix.bounds(&range);
        let removals = database.removals();
        let items = database.rows().range(bounds.clone());
        SledScan {
            items,
            bounds,
            at,
            direction,
            peeked: None,
            removals,
            database,
            _tree: tree,
            _open: open,
        }
    }

    fn next_item(&mut self) -> Result<Option<(IVec, IVec)>> {
        if let Some(item) = self.peeked.take() {
            return Ok(Some(item));
        }
        let next = match self.direction {
            Direction::Forward => self.items.next(),
            Direction::Backward => self.items.next_back(),
        };
        next.transpose().map_err(error)
    }

    /// The value that the scan's position sees in the row of an item, and the items behind it.
    fn row(&mut self, item: (IVec, IVec)) -> Result<Option<RowVersion>> {
        let (row, _) = split(&item.0)?;
        let row = row.to_vec();
        let mut found: Option<(IVec, IVec)> = None;
        let mut current = item;
        for _ in 0..WALK_VERSIONS_MAX {
            let (_, position) = split(&current.0)?;
            // Forward the first that is old enough is the newest, backward the last.
            if position <= self.at && (found.is_none() || self.direction == Direction::Backward) {
                found = Some(current);
            }
            match self.next_item()? {
                Some(next) if split(&next.0)?.0 == row => current = next,
                next => {
                    if self.is_stale() {
                        return self.look_again(row);
                    }
                    self.peeked = next;
                    return version(found);
                }
            }
        }
        self.look_again(row)
    }

    /// Whether what a backward scan has walked may be of two times.
    fn is_stale(&self) -> bool {
        self.direction == Direction::Backward && self.database.removals() != self.removals
    }

    /// Reads a row in one step, and goes on behind it.
    fn look_again(&mut self, row: Vec<u8>) -> Result<Option<RowVersion>> {
        self.removals = self.database.removals();
        let newest = keys::version(&row, self.at);
        let versions = self
            .database
            .rows()
            .range(newest..=keys::oldest(row.clone()))
            .next();
        let found = versions.transpose().map_err(error)?;
        let bounds = match self.direction {
            Direction::Forward => (
                Bound::Excluded(keys::oldest(row.clone())),
                self.bounds.1.clone(),
            ),
            Direction::Backward => (self.bounds.0.clone(), Bound::Excluded(row.clone())),
        };
        self.items = self.database.rows().range(bounds);
        self.peeked = None;
        version(found)
    }

    /// The newest version of each key, of those that are deleted too.
    pub fn with_deletions(mut self) -> impl Iterator<Item = Result<RowVersion>> + Send {
        std::iter::from_fn(move || self.next_version().transpose())
    }

    fn next_version(&mut self) -> Result<Option<RowVersion>> {
        while let Some(item) = self.next_item()? {
            if let Some(version) = self.row(item)? {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }
}

impl Iterator for SledScan {
    type Item = Result<(Bytes, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.next_version() {
                Ok(None) => return None,
                Ok(Some(RowVersion { value: None, .. })) => continue,
                Ok(Some(RowVersion {
                    key,
                    value: Some(value),
                    ..
                })) => return Some(Ok((key, value))),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

fn split(stored: &[u8]) -> Result<(&[u8], Position)> {
    keys::split(stored).ok_or_else(|| corrupt("a key without a position"))
}

fn version(found: Option<(IVec, IVec)>) -> Result<Option<RowVersion>> {
    let found = found.map(|(key, value)| keys::row(&key, &value));
    found.transpose()
}
