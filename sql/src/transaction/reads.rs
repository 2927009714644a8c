//! What a SERIALIZABLE transaction has read of its owner's group: keys and ranges, to be
//! validated at commit. Above a limit reads of a tree become one range over all of it, which only
//! ever refuses more.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use storage::{Check, Position};

/// Keys and ranges remembered per transaction.
const READS_MAX: usize = 10_000;

type Range = (Bound<Bytes>, Bound<Bytes>);

#[derive(Default)]
pub(super) struct Reads {
    keys: BTreeMap<u32, BTreeSet<Bytes>>,
    ranges: BTreeMap<u32, Vec<Range>>,
    count: usize,
}

impl Reads {
    pub fn key(&mut self, tree: u32, key: &[u8]) {
        if self.covers(tree, key) {
            return;
        }
        if self
            .keys
            .entry(tree)
            .or_default()
            .insert(Bytes::copy_from_slice(key))
        {
            self.grew(tree);
        }
    }

    pub fn range(&mut self, tree: u32, range: &Range) {
        let ranges = self.ranges.entry(tree).or_default();
        if !ranges.contains(range) {
            ranges.push(range.clone());
            self.grew(tree);
        }
    }

    fn covers(&self, tree: u32, key: &[u8]) -> bool {
        let within = |range: &Range| {
            let low = match &range.0 {
                Bound::Included(from) => key >= from.as_ref(),
                Bound::Excluded(from) => key > from.as_ref(),
                Bound::Unbounded => true,
            };
            let high = match &range.1 {
                Bound::Included(to) => key <= to.as_ref(),
                Bound::Excluded(to) => key < to.as_ref(),
                Bound::Unbounded => true,
            };
            low && high
        };
        // A few ranges are looked at; many are not worth it.
        self.ranges
            .get(&tree)
            .is_some_and(|r| r.iter().take(8).any(within))
    }

    fn grew(&mut self, tree: u32) {
        self.count += 1;
        if self.count > READS_MAX {
            let keys = self.keys.remove(&tree).map_or(0, |k| k.len());
            let all = vec![(Bound::Unbounded, Bound::Unbounded)];
            let ranges = self.ranges.insert(tree, all).map_or(0, |r| r.len());
            self.count = (self.count + 1).saturating_sub(keys + ranges);
        }
    }

    /// The keys, with their trees.
    pub fn all_keys(&self) -> impl Iterator<Item = (u32, &Bytes)> {
        let trees = self.keys.iter();
        trees.flat_map(|(tree, keys)| keys.iter().map(move |key| (*tree, key)))
    }

    /// The trees of which ranges were read.
    pub fn ranged(&self) -> impl Iterator<Item = u32> {
        self.ranges.keys().copied()
    }

    /// The checks that a commit carries.
    pub fn checks(&self, seen: Position) -> Vec<Check> {
        let mut all = Vec::with_capacity(self.count);
        for (tree, keys) in &self.keys {
            let key = |key: &Bytes| Check::Key {
                tree: *tree,
                key: key.clone(),
                seen,
            };
            all.extend(keys.iter().map(key));
        }
        for (tree, ranges) in &self.ranges {
            let range = |range: &Range| Check::Range {
                tree: *tree,
                range: range.clone(),
                seen,
            };
            all.extend(ranges.iter().map(range));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_keys_become_one_range() {
        let mut reads = Reads::default();
        for i in 0..READS_MAX as u32 + 10 {
            reads.key(1000, &i.to_be_bytes());
        }
        reads.key(1001, b"x");
        let checks = reads.checks(Position(5));
        assert_eq!(checks.len(), 2);
        assert!(matches!(checks[1], Check::Range { tree: 1000, .. }));
    }
}
