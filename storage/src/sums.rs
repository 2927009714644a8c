//! What each table must hold, kept while entries are applied: the number of its rows and a
//! checksum that does not depend on their order, so that a scan can prove the tables right.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::{Change, system};

/// The rows of one table: their number, and the wrapping sum of a hash of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableSum {
    /// Number of rows.
    pub rows: u64,
    /// Sum of XXH3(value, seed = XXH3(key)) over all rows, modulo 2^64.
    pub checksum: u64,
}

impl TableSum {
    /// Adds a row.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.put(xxh3_64(key), value);
    }

    fn put(&mut self, key_hash: u64, value: &[u8]) {
        self.rows = self.rows.wrapping_add(1);
        let hash = xxh3_64_with_seed(value, key_hash);
        self.checksum = self.checksum.wrapping_add(hash);
    }

    fn change(&mut self, change: &Change) {
        let key_hash = xxh3_64(&change.key);
        if let Some(old) = &change.old {
            self.rows = self.rows.wrapping_sub(1);
            let hash = xxh3_64_with_seed(old, key_hash);
            self.checksum = self.checksum.wrapping_sub(hash);
        }
        if let Some(new) = &change.new {
            self.put(key_hash, new);
        }
    }

    fn merge(&mut self, other: TableSum) {
        self.rows = self.rows.wrapping_add(other.rows);
        self.checksum = self.checksum.wrapping_add(other.checksum);
    }
}

impl std::fmt::Display for TableSum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rows with checksum {:016x}", self.rows, self.checksum)
    }
}

/// What is known of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Every change so far said what was there before.
    Sum(TableSum),
    /// Written through [`Change::index`], which does not say what was there before.
    Index,
}

/// The sums of a group's tables, or how some changes move them. System trees have none: apply
/// itself writes some of them. Nor have the keys of a tree that is not here: they come by
/// [`Change::index`], too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums(BTreeMap<u32, Known>);

impl Sums {
    /// Notes changes. Each of a table's rows says truly what was there before.
    pub fn note(&mut self, changes: &[Change]) {
        for change in changes {
            for write in &change.index {
                self.0.insert(write.tree, Known::Index);
            }
            if system::is_system(change.tree) || system::of_keys(change.tree).is_some() {
                continue;
            }
            let known = self.0.entry(change.tree);
            if let Known::Sum(sum) = known.or_insert(Known::Sum(TableSum::default())) {
                sum.change(change);
            }
        }
    }

    /// Adds how changes have moved the sums.
    pub fn merge(&mut self, moved: Sums) {
        for (tree, moved) in moved.0 {
            let known = self.0.entry(tree).or_insert(moved_none(moved));
            match (known, moved) {
                (Known::Sum(sum), Known::Sum(moved)) => sum.merge(moved),
                (known, Known::Index) => *known = Known::Index,
                (Known::Index, Known::Sum(_)) => {}
            }
        }
    }

    /// The tree is gone.
    pub fn forget(&mut self, tree: u32) {
        self.0.remove(&tree);
    }

    /// Those of the trees that `wanted` names.
    pub fn of(&self, wanted: impl Fn(u32) -> bool) -> Sums {
        let known = self.0.iter().filter(|(tree, _)| wanted(**tree));
        Sums(known.map(|(tree, known)| (*tree, *known)).collect())
    }

    /// The tables' sums, by tree.
    pub fn tables(&self) -> impl Iterator<Item = (u32, TableSum)> {
        self.0.iter().filter_map(|(tree, known)| match known {
            Known::Sum(sum) => Some((*tree, *sum)),
            Known::Index => None,
        })
    }

    /// The rows of each tree, of an index as many as of the table before it: it was made after its
    /// own.
    pub fn rows(&self) -> BTreeMap<u32, u64> {
        let mut last = 0;
        let rows = |(tree, known): (&u32, &Known)| {
            if let Known::Sum(sum) = known {
                last = sum.rows;
            }
            (*tree, last)
        };
        self.0.iter().map(rows).collect()
    }

    /// Is the tree one of a table, with a sum?
    pub fn has(&self, tree: u32) -> bool {
        matches!(self.0.get(&tree), Some(Known::Sum(_)))
    }

    /// Writes: tables (count u32, then tree u32, rows u64, checksum u64 each), indexes (count
    /// u32, then tree u32 each).
    pub fn encode(&self, out: &mut BytesMut) {
        let tables = self.tables().count();
        out.put_u32_le(tables as u32);
        for (tree, sum) in self.tables() {
            out.put_u32_le(tree);
            out.put_u64_le(sum.rows);
            out.put_u64_le(sum.checksum);
        }
        out.put_u32_le((self.0.len() - tables) as u32);
        let indexes = self.0.keys().filter(|tree| !self.has(**tree));
        indexes.for_each(|tree| out.put_u32_le(*tree));
    }

    /// The inverse of [`Sums::encode`].
    pub fn decode(from: &mut Bytes) -> Result<Sums, bytes::TryGetError> {
        let mut sums = Sums::default();
        for _ in 0..from.try_get_u32_le()? {
            let tree = from.try_get_u32_le()?;
            let sum = TableSum {
                rows: from.try_get_u64_le()?,
                checksum: from.try_get_u64_le()?,
            };
            sums.0.insert(tree, Known::Sum(sum));
        }
        for _ in 0..from.try_get_u32_le()? {
            sums.0.insert(from.try_get_u32_le()?, Known::Index);
        }
        Ok(sums)
    }
}

/// Where a tree begins that is first seen in a move.
fn moved_none(moved: Known) -> Known {
    match moved {
        Known::Sum(_) => Known::Sum(TableSum::default()),
        Known::Index => Known::Index,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IndexWrite;

    fn change(
        tree: u32,
        key: &'static str,
        old: Option<&'static str>,
        new: &'static str,
    ) -> Change {
        let value = |text: &'static str| Bytes::from_static(text.as_bytes());
        Change {
            tree,
            key: value(key),
            old: old.map(value),
            new: Some(value(new)),
            ..Change::default()
        }
    }

    #[test]
    fn golden_checksum_of_one_row() {
        let mut sum = TableSum::default();
        sum.add(b"key", b"value");
        assert_eq!((sum.rows, sum.checksum), (1, 0xb19f_cf79_2e11_118e));
    }

    #[test]
    fn key_and_value_do_not_flow_into_each_other() {
        let sum = |key: &[u8], value: &[u8]| {
            let mut sum = TableSum::default();
            sum.add(key, value);
            sum
        };
        assert_ne!(sum(b"ab", b"c"), sum(b"a", b"bc"));
        assert_ne!(sum(b"ab", b""), sum(b"", b"ab"));
    }

    #[test]
    fn order_and_ways_do_not_count() {
        let mut straight = Sums::default();
        straight.note(&[change(1000, "a", None, "2"), change(1000, "b", None, "1")]);
        let (mut around, mut moved) = (Sums::default(), Sums::default());
        around.note(&[change(1000, "b", None, "1"), change(1000, "a", None, "1")]);
        moved.note(&[change(1000, "a", Some("1"), "2")]);
        around.merge(moved);
        assert_eq!(around, straight);
    }

    #[test]
    fn an_index_has_no_sum_once_it_is_written_with_its_table() {
        let mut sums = Sums::default();
        sums.note(&[
            change(1001, "built", None, "row"),
            change(3, "system", None, "x"),
        ]);
        assert!(sums.has(1001) && !sums.has(3));
        let write = IndexWrite {
            tree: 1001,
            ..IndexWrite::default()
        };
        let row = Change {
            index: vec![write],
            ..change(1000, "a", None, "1")
        };
        let mut moved = Sums::default();
        moved.note(&[row, change(1001, "again", None, "row")]);
        sums.merge(moved);
        assert_eq!(
            sums.tables().map(|(tree, _)| tree).collect::<Vec<_>>(),
            [1000]
        );
        let mut later = Sums::default();
        later.note(&[change(1001, "once more", None, "row")]);
        sums.merge(later);
        assert!(!sums.has(1001));
        let mut bytes = BytesMut::new();
        sums.encode(&mut bytes);
        assert_eq!(Sums::decode(&mut bytes.freeze()), Ok(sums));
    }
}
