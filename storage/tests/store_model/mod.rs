//! A deterministic stream of entries and the obvious model of what a table store must then
//! answer: every version of every key in a `BTreeMap`.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use storage::{
    Applied, Direction, GroupCheckpoint, GroupId, Index, Position, RowVersion, StoreKind,
    StoreOptions, TableStore, Term, TreeId, Write,
};

pub const GROUPS: u32 = 2;
pub const TREES: u32 = 4;
/// Distinct keys per tree, some prefixes of others, some with zero bytes.
pub const KEYS: u32 = 120;

pub type Range = (Bound<Bytes>, Bound<Bytes>);
pub type Rows = Vec<(Bytes, Bytes)>;

/// Limits so small that everything happens: background flushes, compactions, waiting writers.
pub fn small_options() -> StoreOptions {
    StoreOptions {
        cache_bytes: 256 << 10,
        memtable_bytes_max: 256 << 10,
        tree_memtable_bytes_max: 24 << 10,
        files_max: 16,
    }
}

pub fn open(kind: StoreKind, dir: &Path) -> Arc<dyn TableStore> {
    storage::open(kind, dir, small_options()).unwrap()
}

/// One applied entry.
#[derive(Clone, Debug)]
pub struct Entry {
    pub group: GroupId,
    pub position: Position,
    pub drop: Option<TreeId>,
    pub writes: Vec<(TreeId, Vec<Write>)>,
}

pub fn position(index: u64) -> Position {
    Position((index << 14) + (index % 3))
}

pub fn key(number: u32) -> Bytes {
    let alphabet = [0u8, 1, b'a', 0xff];
    let mut key = vec![alphabet[number as usize % 4]];
    let mut rest = number / 4;
    while rest > 0 {
        key.push(alphabet[rest as usize % 4]);
        rest /= 5;
    }
    if number.is_multiple_of(7) {
        key.extend_from_slice(&number.to_be_bytes());
    }
    key.into()
}

/// Entry `index` (from 1) of a stream: a function of seed and index alone.
pub fn entry(seed: u64, index: u64) -> Entry {
    let mut rng = StdRng::seed_from_u64(seed.wrapping_mul(0x9E37_79B9) ^ index);
    let group = GroupId(rng.random_range(0..GROUPS));
    let tree = |number| TreeId { group, number };
    let drop = (rng.random_range(0..300) == 0).then(|| tree(rng.random_range(1..TREES)));
    let mut writes = Vec::new();
    for number in 0..TREES {
        if Some(tree(number)) == drop || rng.random_bool(0.5) {
            continue;
        }
        // Tree 0 is small and hot; now and then an entry is large.
        let keys = if number == 0 { 4 } else { KEYS };
        let count = if rng.random_range(0..60) == 0 {
            KEYS
        } else {
            rng.random_range(1..6)
        };
        let mut rows = BTreeMap::new();
        for _ in 0..count {
            let delete = rng.random_bool(0.25);
            let value = vec![rng.random::<u8>(); rng.random_range(0..200)];
            rows.insert(
                key(rng.random_range(0..keys)),
                (!delete).then(|| Bytes::from(value)),
            );
        }
        writes.push((tree(number), rows.into_iter().collect()));
    }
    Entry {
        group,
        position: position(index),
        drop,
        writes,
    }
}

/// Applies an entry to a store, in several calls per tree.
pub fn apply(store: &dyn TableStore, entry: &Entry) {
    if let Some(tree) = entry.drop {
        store.drop_tree(tree).unwrap();
    }
    for (tree, rows) in &entry.writes {
        for part in rows.chunks(50) {
            store
                .write(*tree, entry.position, &mut part.iter().cloned())
                .unwrap();
        }
    }
}

/// The checkpoint of all groups after entry `index`.
pub fn checkpoint_at(index: u64) -> Vec<GroupCheckpoint> {
    let applied = Applied {
        term: Term(1),
        index: Index(index),
        position: position(index),
    };
    let raft = Bytes::from(format!("membership {index}"));
    (0..GROUPS)
        .map(|g| GroupCheckpoint {
            group: GroupId(g),
            applied,
            raft: raft.clone(),
        })
        .collect()
}

/// The index that a store's checkpoint is at (all groups together).
pub fn checkpoint_index(store: &dyn TableStore) -> u64 {
    let checkpoint = store.checkpoint();
    let index = checkpoint.first().map_or(0, |group| group.applied.index.0);
    assert!(
        index == 0 || checkpoint == checkpoint_at(index),
        "{checkpoint:?}"
    );
    index
}

/// The greatest index that some file holds a part of.
pub fn persisted_index(store: &dyn TableStore) -> u64 {
    (0..GROUPS)
        .map(|group| store.persisted(GroupId(group)).0 >> 14)
        .max()
        .unwrap()
}

/// The position from which all groups can be read.
pub fn readable_from(store: &dyn TableStore) -> Position {
    (0..GROUPS)
        .map(|group| store.horizon(GroupId(group)))
        .max()
        .unwrap()
}

/// The versions of a key, ascending.
type Versions = Vec<(Position, Option<Bytes>)>;

/// All versions of all keys.
#[derive(Default)]
pub struct Model {
    pub index: u64,
    trees: BTreeMap<TreeId, BTreeMap<Bytes, Versions>>,
}

impl Model {
    /// After the first `index` entries of a stream.
    pub fn at(seed: u64, index: u64) -> Model {
        let mut model = Model::default();
        (1..=index).for_each(|index| model.apply(&entry(seed, index), index));
        model
    }

    pub fn apply(&mut self, entry: &Entry, index: u64) {
        self.index = index;
        if let Some(tree) = entry.drop {
            self.trees.remove(&tree);
        }
        for (tree, rows) in &entry.writes {
            let tree = self.trees.entry(*tree).or_default();
            for (key, value) in rows {
                tree.entry(key.clone())
                    .or_default()
                    .push((entry.position, value.clone()));
            }
        }
    }

    pub fn trees(&self) -> Vec<TreeId> {
        self.trees.keys().copied().collect()
    }

    pub fn get(&self, tree: TreeId, key: &[u8], at: Position) -> Option<Bytes> {
        let versions = self.trees.get(&tree)?.get(key)?;
        versions
            .iter()
            .rev()
            .find(|(position, _)| *position <= at)?
            .1
            .clone()
    }

    pub fn versions(
        &self,
        tree: TreeId,
        range: &Range,
        from: Position,
        to: Position,
    ) -> Vec<RowVersion> {
        let mut found = Vec::new();
        for (key, versions) in self.trees.get(&tree).into_iter().flatten() {
            if !std::ops::RangeBounds::contains(range, key) {
                continue;
            }
            let first = versions.partition_point(|(at, _)| *at <= from);
            let covers = first.checked_sub(1).map(|at| &versions[at]);
            let covers = covers.filter(|(_, value)| value.is_some());
            let newer = versions[first..].iter().filter(|(at, _)| *at <= to);
            for (position, value) in covers.into_iter().chain(newer) {
                found.push(RowVersion {
                    key: key.clone(),
                    position: *position,
                    value: value.clone(),
                });
            }
        }
        found
    }

    pub fn scan(&self, tree: TreeId, range: &Range, at: Position, direction: Direction) -> Rows {
        let Some(rows) = self.trees.get(&tree) else {
            return Rows::new();
        };
        let within = |key: &Bytes| std::ops::RangeBounds::contains(range, key);
        let live = rows.keys().filter(|key| within(key));
        let row = |key: &Bytes| self.get(tree, key, at).map(|value| (key.clone(), value));
        let mut rows: Rows = live.filter_map(row).collect();
        if direction == Direction::Backward {
            rows.reverse();
        }
        rows
    }
}

pub fn rows(
    store: &dyn TableStore,
    tree: TreeId,
    range: &Range,
    at: Position,
    direction: Direction,
) -> Rows {
    let scan = store.scan(tree, range.clone(), at, direction).unwrap();
    scan.map(|row| row.unwrap()).collect()
}

/// Compares everything that can be read, at several positions.
pub fn compare(store: &dyn TableStore, model: &Model, from: Position, what: &str) {
    let (low, high) = (from.0 >> 14, model.index);
    assert!(low <= high, "{what}: readable from {low}, applied {high}");
    assert!(
        model
            .trees()
            .iter()
            .all(|tree| store.trees().contains(tree)),
        "{what}"
    );
    let everything = (Bound::Unbounded, Bound::Unbounded);
    for step in 0..=6 {
        let at = position(low + (high - low) * step / 6).max(from);
        for group in 0..GROUPS {
            for number in 0..TREES {
                let tree = TreeId {
                    group: GroupId(group),
                    number,
                };
                let what = format!("{what}: {tree:?} at {at} of {low}..{high}");
                for direction in [Direction::Forward, Direction::Backward] {
                    let expected = model.scan(tree, &everything, at, direction);
                    let found = rows(store, tree, &everything, at, direction);
                    assert_same(&found, &expected, &format!("{what} {direction:?}"));
                }
                for number in 0..KEYS {
                    let key = key(number);
                    let found = store.get(tree, &key, at).unwrap();
                    assert_eq!(found, model.get(tree, &key, at), "{what} key {key:?}");
                }
            }
        }
    }
}

pub fn assert_same(found: &Rows, expected: &Rows, what: &str) {
    if found != expected {
        let differs = found.iter().zip(expected).position(|(a, b)| a != b);
        let at = differs.unwrap_or(found.len().min(expected.len()));
        panic!(
            "{what}: {} rows instead of {}, first difference at {at}: {:?} instead of {:?}",
            found.len(),
            expected.len(),
            found.get(at),
            expected.get(at)
        );
    }
}

/// A number from the environment.
pub fn env_number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().expect("a number"))
}
