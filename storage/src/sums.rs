//! What each table must hold, kept while entries are applied: the number of its rows and a
//! checksum that does not depend on their order, so that a scan can prove the tables right; and when
//! it was written last.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use journal::Position;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::{Change, Event, EventKind, system};

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
    /// Every change so far said what was there before; the entry with the last one of them, zero if
    /// that is not known.
    Sum(TableSum, Position),
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
            if let Known::Sum(sum, _) = known.or_insert(NOTHING) {
                sum.change(change);
            }
        }
    }

    /// Notes events: a table of theirs is written, and has no rows.
    pub fn note_events(&mut self, events: &[Event]) {
        let rows = events.iter().filter(|event| event.kind == EventKind::Row);
        for tree in rows.filter_map(|event| event.table) {
            self.0.entry(tree).or_insert(NOTHING);
        }
    }

    /// All that was noted is of the entry at this position.
    pub fn stamp(&mut self, position: Position) {
        for known in self.0.values_mut() {
            if let Known::Sum(_, written) = known {
                *written = position;
            }
        }
    }

    /// Adds how changes have moved the sums.
    pub fn merge(&mut self, moved: Sums) {
        for (tree, moved) in moved.0 {
            let known = self.0.entry(tree).or_insert(NOTHING);
            match (known, moved) {
                (Known::Sum(sum, written), Known::Sum(moved, at)) => {
                    sum.merge(moved);
                    *written = at.max(*written);
                }
                (known, Known::Index) => *known = Known::Index,
                (Known::Index, Known::Sum(..)) => {}
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
            Known::Sum(sum, _) => Some((*tree, *sum)),
            Known::Index => None,
        })
    }

    /// The entry that has written the table last; zero: it is not known.
    pub fn written(&self, tree: u32) -> Position {
        match self.0.get(&tree) {
            Some(Known::Sum(_, written)) => *written,
            Some(Known::Index) | None => Position::ZERO,
        }
    }

    /// The rows of each tree, of an index as many as of the table before it: it was made after its
    /// own.
    pub fn rows(&self) -> BTreeMap<u32, u64> {
        let mut last = 0;
        let rows = |(tree, known): (&u32, &Known)| {
            if let Known::Sum(sum, _) = known {
                last = sum.rows;
            }
            (*tree, last)
        };
        self.0.iter().map(rows).collect()
    }

    /// Is the tree one of a table, with a sum?
    pub fn has(&self, tree: u32) -> bool {
        matches!(self.0.get(&tree), Some(Known::Sum(..)))
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
            sums.0.insert(tree, Known::Sum(sum, Position::ZERO));
        }
        for _ in 0..from.try_get_u32_le()? {
            sums.0.insert(from.try_get_u32_le()?, Known::Index);
        }
        Ok(sums)
    }

    /// Writes when the tables were written: count u32, then tree u32, position u64 each.
    pub fn encode_written(&self, out: &mut BytesMut) {
        out.put_u32_le(self.tables().count() as u32);
        for (tree, _) in self.tables() {
            out.put_u32_le(tree);
            out.put_u64_le(self.written(tree).0);
        }
    }

    /// The inverse of [`Sums::encode_written`].
    pub fn decode_written(&mut self, from: &mut Bytes) -> Result<(), bytes::TryGetError> {
        for _ in 0..from.try_get_u32_le()? {
            let (tree, at) = (from.try_get_u32_le()?, from.try_get_u64_le()?);
            if let Some(Known::Sum(_, written)) = self.0.get_mut(&tree) {
                *written = Position(at);
            }
        }
        Ok(())
    }
}

/// Where a table begins.
const NOTHING: Known = Known::Sum(
    TableSum {
        rows: 0,
        checksum: 0,
    },
    Position::ZERO,
);

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
    fn a_table_was_written_by_the_last_entry_that_has_changed_it() {
        let entry = |at: u64, trees: &[u32]| {
            let mut moved = Sums::default();
            let changes = trees.iter().map(|tree| change(*tree, "a", None, "1"));
            moved.note(&changes.collect::<Vec<_>>());
            moved.stamp(Position(at));
            moved
        };
        let mut sums = entry(5, &[1000, 1001]);
        sums.merge(entry(7, &[1001]));
        let mut event = Sums::default();
        event.note_events(&[
            event_of(EventKind::Row, 1002),
            event_of(EventKind::Ddl, 1003),
        ]);
        event.stamp(Position(9));
        sums.merge(event);
        let written = |sums: &Sums| [1000, 1001, 1002, 1003].map(|tree| sums.written(tree).0);
        assert_eq!(written(&sums), [5, 7, 9, 0]);
        assert_eq!(
            sums.tables().last(),
            Some((1002, TableSum::default())),
            "nothing of it is stored"
        );
        let (mut known, mut when) = (BytesMut::new(), BytesMut::new());
        sums.encode(&mut known);
        sums.encode_written(&mut when);
        let mut read = Sums::decode(&mut known.freeze()).unwrap();
        assert_eq!(
            written(&read),
            [0; 4],
            "of an older version it is not known"
        );
        read.decode_written(&mut when.freeze()).unwrap();
        assert_eq!(read, sums);
        sums.forget(1001);
        assert_eq!(written(&sums), [5, 0, 9, 0]);
    }

    fn event_of(kind: EventKind, tree: u32) -> Event {
        Event {
            seq: 1,
            kind,
            name: String::new(),
            table: Some(tree),
            payload: Bytes::new(),
            about: Vec::new(),
        }
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
