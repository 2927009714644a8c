//! All versions of a range of keys, made of what every store has: a scan that shows deletions, and
//! the newest version of a key at or below a position. In memory are positions of one key at most.

use std::collections::VecDeque;

use bytes::Bytes;
use journal::Position;

use super::horizon::OpenScan;
use super::{RowVersion, Versions};
use crate::Result;

/// Positions of one key that are remembered at a time. Of a key with more versions the newer ones
/// are looked up again for each so many.
const POSITIONS_MAX: usize = 1 << 16;

/// The newest version of a key at or below a position, deletions included.
type Find = Box<dyn Fn(&[u8], Position) -> Result<Option<RowVersion>> + Send>;

/// Goes through the versions of a range: see [`super::TableStore::versions`].
pub(super) struct Walk<K> {
    /// The newest version of each key.
    keys: K,
    find: Find,
    /// Versions that only reads below it need are left out.
    from: Position,
    /// The key that is gone through, as of its newest version.
    newest: Option<RowVersion>,
    /// Positions of its older versions that come next, the oldest at the back.
    older: VecDeque<Position>,
    /// There are versions between those and the newest.
    more: bool,
    positions_max: usize,
    // What is gone through is not removed meanwhile.
    _held: Option<OpenScan>,
}

impl<K: Iterator<Item = Result<RowVersion>> + Send + 'static> Walk<K> {
    /// `held` is registered at `from`.
    pub fn begin(keys: K, find: Find, from: Position, held: OpenScan) -> Versions {
        Box::new(Walk {
            keys,
            find,
            from,
            newest: None,
            older: VecDeque::new(),
            more: false,
            positions_max: POSITIONS_MAX,
            _held: Some(held),
        })
    }
}

impl<K: Iterator<Item = Result<RowVersion>>> Walk<K> {
    fn step(&mut self) -> Result<Option<RowVersion>> {
        loop {
            if let Some(newest) = &self.newest {
                let key = newest.key.clone();
                if let Some(position) = self.older.pop_back() {
                    if self.older.is_empty() && self.more {
                        self.look(&key, position)?;
                    }
                    match (self.find)(&key, position)? {
                        Some(version) => return Ok(Some(version)),
                        None => continue,
                    }
                }
                return Ok(self.newest.take());
            }
            let Some(newest) = self.keys.next().transpose()? else {
                return Ok(None);
            };
            if newest.position > self.from {
                let key = newest.key.clone();
                self.newest = Some(newest);
                self.look(&key, Position::ZERO)?;
            } else if newest.value.is_some() {
                return Ok(Some(newest));
            }
        }
    }

    /// Finds the oldest versions above a position, and whether there are more below the newest.
    fn look(&mut self, key: &Bytes, above: Position) -> Result<()> {
        self.more = false;
        let mut newer = self.newest.as_ref().map(|newest| newest.position);
        while let Some(below) = newer.filter(|newer| *newer > Position::ZERO) {
            let Some(found) = (self.find)(key, Position(below.0 - 1))? else {
                return Ok(());
            };
            let covers = found.position <= self.from;
            if found.position <= above && above > Position::ZERO {
                return Ok(());
            }
            if !covers || found.value.is_some() {
                self.older.push_back(found.position);
            }
            if self.older.len() > self.positions_max {
                self.older.pop_front();
                self.more = true;
            }
            newer = (!covers).then_some(found.position);
        }
        Ok(())
    }
}

impl<K: Iterator<Item = Result<RowVersion>>> Iterator for Walk<K> {
    type Item = Result<RowVersion>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The versions of key `k` at these positions, as a walk with so little memory finds them.
    fn walked(at: &'static [(u64, bool)], from: u64, positions_max: usize) -> Vec<(u64, bool)> {
        let version = |(position, deleted): (u64, bool)| RowVersion {
            key: Bytes::from_static(b"k"),
            position: Position(position),
            value: (!deleted).then(|| Bytes::from(position.to_string())),
        };
        let newest = at.last().map(|last| Ok(version(*last)));
        let find = move |_: &[u8], below: Position| {
            let found = at.iter().rfind(|(position, _)| *position <= below.0);
            Ok(found.map(|found| version(*found)))
        };
        let walk = Walk {
            keys: newest.into_iter(),
            find: Box::new(find),
            from: Position(from),
            newest: None,
            older: VecDeque::new(),
            more: false,
            positions_max,
            _held: None,
        };
        let shown = walk.map(|version| version.expect("no disk"));
        shown.map(|v| (v.position.0, v.value.is_none())).collect()
    }

    #[test]
    fn oldest_first_beginning_with_what_covers_the_first_position() {
        const AT: &[(u64, bool)] = &[(1, false), (3, false), (5, true), (6, false), (9, false)];
        for memory in 1..6 {
            assert_eq!(walked(AT, 0, memory), AT, "{memory}");
            assert_eq!(walked(AT, 4, memory), AT[1..], "{memory}");
            assert_eq!(walked(AT, 3, memory), AT[1..], "{memory}");
            assert_eq!(walked(AT, 5, memory), AT[3..], "{memory}");
            assert_eq!(walked(AT, 9, memory), AT[4..], "{memory}");
        }
        assert_eq!(walked(&[(4, true)], 4, 1), []);
        assert_eq!(walked(&[(4, true)], 3, 1), [(4, true)]);
    }
}
