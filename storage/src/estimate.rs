//! How much of a state is still to come while it is being copied: what an export consists of, as
//! far as the numbers of its tables' rows tell it before it is read.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::meta::Meta;
use crate::snapshot::{ROW_BYTES, WITH_POSITION};

/// Follows the bytes of an export, in pieces of any length.
pub struct Estimate {
    /// The rows that trees should have.
    rows: BTreeMap<u32, u64>,
    /// Rows and bytes of trees that have come.
    come: BTreeMap<u32, (u64, u64)>,
    /// The beginning of a row whose lengths are not known yet.
    head: Vec<u8>,
    /// What is still to come of the last row.
    rest: u64,
    bytes: u64,
}

impl Estimate {
    /// Of an export with this metadata. Of one that can't be read nothing is expected.
    pub fn new(meta: &Bytes) -> Estimate {
        let rows = Meta::decode(meta).map(|meta| meta.sums.rows());
        Estimate {
            rows: rows.unwrap_or_default(),
            come: BTreeMap::new(),
            head: Vec::with_capacity(ROW_BYTES),
            rest: 0,
            bytes: 0,
        }
    }

    /// The next bytes.
    pub fn take(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let skipped = self.rest.min(bytes.len() as u64);
            self.rest -= skipped;
            bytes = &bytes[skipped as usize..];
            let (head, rest) = bytes.split_at(bytes.len().min(ROW_BYTES - self.head.len()));
            self.head.extend_from_slice(head);
            bytes = rest;
            if let Some(&head) = self.head.first_chunk::<ROW_BYTES>() {
                self.row(head);
                self.head.clear();
            }
        }
    }

    fn row(&mut self, head: [u8; ROW_BYTES]) {
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| head[at + byte]));
        self.rest = u64::from(word(4) & !WITH_POSITION) + u64::from(word(8));
        let (rows, bytes) = self.come.entry(word(0)).or_default();
        *rows += 1;
        *bytes += ROW_BYTES as u64 + self.rest;
    }

    /// The rows that all trees together should have.
    pub fn rows(&self) -> u64 {
        self.rows.values().sum()
    }

    /// Bytes that have come.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// About how many bytes there are in all (of a table that keeps its history: at least as many as
    /// have come of it, for nobody counts its versions): what is still to come of a tree has rows as long as
    /// those before, of a tree that has not begun as long as those of all others. `None`: no row of a
    /// table has come yet.
    pub fn expected(&self) -> Option<u64> {
        let mean = |(rows, bytes): (u64, u64)| (rows > 0).then(|| bytes as f64 / rows as f64);
        let of_tables = self.rows.keys().filter_map(|tree| self.come.get(tree));
        let all = of_tables.fold((0, 0), |sum, come| (sum.0 + come.0, sum.1 + come.1));
        let mut left = 0.0;
        for (tree, rows) in &self.rows {
            let come = self.come.get(tree).copied().unwrap_or_default();
            let missing = rows.saturating_sub(come.0);
            if missing > 0 {
                left += missing as f64 * mean(come).or_else(|| mean(all))?;
            }
        }
        Some(self.bytes + left as u64)
    }
}

/// How long the rest takes if it comes as fast as what has come in the time that is over.
pub fn time_left(come: u64, expected: u64, over: Duration) -> Option<Duration> {
    let left = expected.saturating_sub(come);
    match (left, come) {
        (0, _) => Some(Duration::ZERO),
        (_, 0) => None,
        _ => Duration::try_from_secs_f64(over.as_secs_f64() * left as f64 / come as f64).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sums::Sums;
    use crate::{Change, IndexWrite};

    const TABLE: u32 = 1000;
    const INDEX: u32 = 1001;

    /// The metadata of a table with ten rows and an index.
    fn meta() -> Bytes {
        let mut sums = Sums::default();
        let change = |n: u8| Change {
            tree: TABLE,
            key: Bytes::from(vec![n]),
            new: Some(Bytes::from_static(b"value")),
            index: vec![IndexWrite {
                tree: INDEX,
                key: Bytes::from(vec![n]),
                value: Some(Bytes::new()),
            }],
            ..Change::default()
        };
        sums.note(&(0..10).map(change).collect::<Vec<_>>());
        let meta = Meta {
            sums,
            ..Meta::default()
        };
        meta.encode()
    }

    fn row(tree: u32, key: usize, value: usize) -> Vec<u8> {
        let head = [tree, key as u32, value as u32].map(u32::to_le_bytes);
        [head.concat(), vec![7; key + value]].concat()
    }

    #[test]
    fn what_has_come_says_what_is_to_come() {
        let mut estimate = Estimate::new(&meta());
        assert_eq!(estimate.expected(), None, "nothing has come");
        estimate.take(&row(2, 10, 100));
        assert_eq!(estimate.expected(), None, "no row of a table has");
        let whole = row(TABLE, 8, 80);
        estimate.take(&whole);
        // Nine more of the table, and ten of the index that are thought to be as long.
        assert_eq!(estimate.expected(), Some(122 + 20 * 100));
        for _ in 1..10 {
            estimate.take(&whole);
        }
        estimate.take(&row(INDEX, 8, 0));
        assert_eq!(estimate.expected(), Some(122 + 10 * 100 + 10 * 20));
        for _ in 1..10 {
            estimate.take(&row(INDEX, 8, 0));
        }
        assert_eq!(estimate.expected(), Some(estimate.bytes()));
    }

    #[test]
    fn pieces_may_be_cut_anywhere() {
        let bytes = [row(2, 3, 4), row(TABLE, 0, 0), row(TABLE, 20, 1)].concat();
        for length in 1..bytes.len() {
            let mut estimate = Estimate::new(&meta());
            bytes.chunks(length).for_each(|piece| estimate.take(piece));
            assert_eq!(estimate.bytes(), bytes.len() as u64);
            assert_eq!(estimate.come[&TABLE], (2, 45), "{length}");
        }
    }

    #[test]
    fn the_rest_takes_as_long_as_what_has_come() {
        let second = Duration::from_secs(1);
        assert_eq!(time_left(10, 40, second), Some(3 * second));
        assert_eq!(time_left(40, 40, second), Some(Duration::ZERO));
        assert_eq!(time_left(0, 40, second), None);
    }
}
