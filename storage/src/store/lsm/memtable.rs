//! Writes in memory: an ordered map of keys, each with its chain of versions. Versions that no
//! read needs leave the chain at the next write of the key, so a hot row stays small.

use std::cell::Cell;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use crossbeam_skiplist::SkipMap;
use journal::Position;
use parking_lot::RwLock;

use crate::{Direction, RowVersion};

/// Estimated bytes of a skip list node with an empty key and one version.
const NODE_BYTES: u64 = 208;

/// Estimated bytes of one more version, without its value.
const VERSION_BYTES: u64 = 56;

/// Rows up to this size are copied, so that they don't keep a whole journal entry in memory;
/// larger values share the entry's buffer, which they mostly fill.
const COPY_BYTES_MAX: usize = 512;

/// A value as of a position; `None` is a deletion.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub position: Position,
    pub value: Option<Bytes>,
}

impl Version {
    fn bytes(&self) -> u64 {
        VERSION_BYTES + self.value.as_ref().map_or(0, |value| value.len() as u64)
    }
}

/// The versions of one key: the newest, and the older ones in ascending order.
struct Chain {
    newest: Version,
    older: Vec<Version>,
}

impl Chain {
    fn at(&self, at: Position) -> Option<&Version> {
        if self.newest.position <= at {
            return Some(&self.newest);
        }
        self.older[..self.older.partition_point(|version| version.position <= at)].last()
    }

    /// Adds a version and returns the change of the chain's bytes.
    fn push(&mut self, version: Version, line: Position) -> i64 {
        let mut change = version.bytes() as i64;
        match version.position.cmp(&self.newest.position) {
            std::cmp::Ordering::Equal => {
                change -= self.newest.bytes() as i64;
                self.newest = version;
            }
            std::cmp::Ordering::Greater => {
                self.older
                    .push(std::mem::replace(&mut self.newest, version));
                change -= self.prune(line) as i64;
            }
            // Only a caller that breaks the order of positions comes here; nothing is lost.
            std::cmp::Ordering::Less => {
                let at = self
                    .older
                    .partition_point(|v| v.position < version.position);
                match self.older.get_mut(at) {
                    Some(same) if same.position == version.position => {
                        change -= same.bytes() as i64;
                        *same = version;
                    }
                    _ => self.older.insert(at, version),
                }
            }
        }
        change
    }

    /// Drops what only reads below the line need, once that is half of the chain.
    fn prune(&mut self, line: Position) -> u64 {
        let needed = if self.newest.position <= line {
            self.older.len()
        } else {
            self.older
                .partition_point(|version| version.position <= line)
                .saturating_sub(1)
        };
        if needed == 0 || needed * 2 < self.older.len() {
            return 0;
        }
        self.older
            .drain(..needed)
            .map(|version| version.bytes())
            .sum()
    }
}

/// A memtable of one tree. One thread at a time writes; any number read, without waiting.
pub(super) struct Memtable {
    /// Ascending within the tree.
    pub id: u64,
    rows: SkipMap<Bytes, RwLock<Chain>>,
    bytes: AtomicU64,
    /// The store's total, of which this memtable's bytes are a part until it is flushed.
    total: Arc<AtomicU64>,
}

impl Memtable {
    pub fn new(id: u64, total: Arc<AtomicU64>) -> Memtable {
        Memtable {
            id,
            rows: SkipMap::new(),
            bytes: AtomicU64::new(0),
            total,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Estimated bytes in memory.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes this memtable's bytes out of the store's total: it is in the files, or dropped.
    pub fn release(&self) {
        self.total
            .fetch_sub(self.bytes.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Writes one version. `line`: older versions may go, see [`super::super::horizon`].
    pub fn write(&self, key: Bytes, value: Option<Bytes>, position: Position, line: Position) {
        let (key, value) = compact(key, value);
        let key_bytes = key.len() as u64;
        let version = Cell::new(Some(Version { position, value }));
        let take = || {
            version
                .take()
                .expect("the version is taken once: inserted or pushed")
        };
        let added = Cell::new(0u64);
        let entry = self.rows.get_or_insert_with(key, || {
            let newest = take();
            added.set(NODE_BYTES + key_bytes + newest.bytes());
            RwLock::new(Chain {
                newest,
                older: Vec::new(),
            })
        });
        let change = match added.get() {
            0 => entry.value().write().push(take(), line),
            bytes => bytes as i64,
        };
        // Only this thread changes the counters upwards; a wrapping add is a subtraction.
        self.bytes.fetch_add(change as u64, Ordering::Relaxed);
        self.total.fetch_add(change as u64, Ordering::Relaxed);
    }

    /// The newest version of a key at or below a position.
    pub fn get(&self, key: &[u8], at: Position) -> Option<Version> {
        self.rows.get(key)?.value().read().at(at).cloned()
    }

    /// Appends up to `limit` rows of a range, in the direction's order. Returns whether the
    /// range may hold more.
    pub fn collect(
        &self,
        range: &(Bound<Bytes>, Bound<Bytes>),
        at: Position,
        direction: Direction,
        limit: usize,
        into: &mut impl Extend<RowVersion>,
    ) -> bool {
        let (lower, upper) = range;
        let bounds = (
            lower.as_ref().map(|key| &key[..]),
            upper.as_ref().map(|key| &key[..]),
        );
        let mut entries = self.rows.range::<[u8], _>(bounds);
        let mut found = 0;
        while found < limit {
            let next = match direction {
                Direction::Forward => entries.next(),
                Direction::Backward => entries.next_back(),
            };
            let Some(entry) = next else { return false };
            if let Some(version) = entry.value().read().at(at) {
                let Version { position, value } = version.clone();
                into.extend([RowVersion {
                    key: entry.key().clone(),
                    position,
                    value,
                }]);
                found += 1;
            }
        }
        true
    }

    /// All that reads at or above `line` need, in key order and newest first: the order of the
    /// files. Called on a sealed memtable.
    pub fn flush_order(&self, line: Position) -> impl Iterator<Item = (Bytes, Version)> {
        self.rows.iter().flat_map(move |entry| {
            let chain = entry.value().read();
            let newest_first = std::iter::once(&chain.newest).chain(chain.older.iter().rev());
            let mut kept = Vec::with_capacity(1);
            for version in newest_first {
                kept.push((entry.key().clone(), version.clone()));
                if version.position <= line {
                    break;
                }
            }
            kept
        })
    }
}

/// Copies small rows into one allocation of their own, and every key.
fn compact(key: Bytes, value: Option<Bytes>) -> (Bytes, Option<Bytes>) {
    let value_len = value.as_ref().map_or(0, Bytes::len);
    if key.len() + value_len > COPY_BYTES_MAX {
        return (Bytes::copy_from_slice(&key), value);
    }
    let mut both = BytesMut::with_capacity(key.len() + value_len);
    both.extend_from_slice(&key);
    both.extend_from_slice(value.as_deref().unwrap_or_default());
    let mut own_key = both.freeze();
    let own_value = own_key.split_off(key.len());
    (own_key, value.map(|_| own_value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(memtable: &Memtable, position: u64, line: u64) {
        let value = Some(Bytes::from(position.to_string()));
        memtable.write(
            Bytes::from_static(b"k"),
            value,
            Position(position),
            Position(line),
        );
    }

    #[test]
    fn reads_each_version_and_prunes_below_the_line() {
        let total = Arc::new(AtomicU64::new(0));
        let memtable = Memtable::new(0, total.clone());
        for position in [10, 20, 20, 30, 40] {
            put(&memtable, position, 0);
        }
        let at = |p| memtable.get(b"k", Position(p)).map(|v| v.position.0);
        assert_eq!(
            [at(9), at(10), at(29), at(99)],
            [None, Some(10), Some(20), Some(40)]
        );
        put(&memtable, 50, 35);
        assert_eq!([at(29), at(35), at(45)], [None, Some(30), Some(40)]);
        assert_eq!(memtable.flush_order(Position(45)).count(), 2);
        assert_eq!(total.load(Ordering::Relaxed), memtable.bytes());
        memtable.release();
        assert_eq!(total.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_hot_row_stays_small() {
        let memtable = Memtable::new(0, Arc::default());
        for position in 1..10_000 {
            put(&memtable, position, position.saturating_sub(20));
        }
        assert!(memtable.bytes() < 10_000, "{}", memtable.bytes());
    }
}
