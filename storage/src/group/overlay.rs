//! The overlay: versions of all keys written by pending entries, and by applied ones newer than
//! the oldest open transaction, in one ordered map per tree. It serves reads above the applied
//! position, conflict checks and the validation of ranges.
//!
//! ```text
//! everything written in (floor, placed] is here; what is at or below floor is in the store
//! ```

use std::collections::btree_map::{self, BTreeMap};
use std::collections::{HashMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;
use journal::Position;

use super::Range;
use super::key::{Compare, Key, Probe};
use crate::Direction;
use crate::memory::is_range;

/// Versions are kept up to this size even if no transaction needs them: rows that are written
/// often are read from here, and a transaction that is just beginning finds its floor.
pub(super) const KEEP_BYTES: usize = 8 << 20;
/// Applied versions above this size go even if transactions need them (these get 40001 unless
/// their locks prove that nothing has changed).
pub(super) const BYTES_MAX: usize = 64 << 20;
/// What a version costs beside its key and value.
const VERSION_BYTES: usize = 160;
/// Versions that go at a time, so that the overlay's lock is held for microseconds.
const EVICT_MAX: usize = 256;
/// Keys looked at for one chunk of a scan.
const CHUNK_LOOKS_MAX: usize = 1024;

/// One value of one key.
#[derive(Clone, Debug)]
struct Version {
    position: Position,
    value: Option<Bytes>,
}

/// The versions of one key. Most keys have one.
struct Versions {
    newest: Version,
    /// Ascending.
    older: VecDeque<Version>,
}

impl Versions {
    fn at(&self, at: Position) -> Option<&Version> {
        if self.newest.position <= at {
            return Some(&self.newest);
        }
        let newer = self.older.partition_point(|version| version.position <= at);
        self.older.get(newer.checked_sub(1)?)
    }
}

#[derive(Default)]
struct Tree {
    keys: BTreeMap<Key, Versions>,
    /// The last time that the tree was written without its keys being noted here: by a large
    /// transaction, or by dropping it. Such an entry is applied before anyone reads behind it.
    coarse: Position,
    /// The last write of any kind.
    newest: Position,
}

impl Tree {
    fn key(&self, key: &[u8]) -> Option<&Versions> {
        self.keys.get(&Probe::new(key) as &dyn Compare)
    }

    fn range(&self, range: &Range) -> btree_map::Range<'_, Key, Versions> {
        let [from, to] = [&range.0, &range.1].map(|bound| bound.as_ref().map(|k| Probe::new(k)));
        let bounds = (from.as_ref().map(dynamic), to.as_ref().map(dynamic));
        self.keys.range::<dyn Compare, _>(bounds)
    }

    /// The version of a key that a read at `at` must see, unless that is in the store.
    fn visible<'a>(&self, versions: &'a Versions, at: Position) -> Option<&'a Version> {
        let version = versions.at(at)?;
        let hidden = version.position < self.coarse && self.coarse <= at;
        (!hidden).then_some(version)
    }
}

/// What the overlay knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// This is its value.
    Found(Option<Bytes>),
    /// Its value is in the store.
    Store,
}

/// What happened to a key since a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// Nothing.
    Unwritten,
    /// It was written, and exists now or not.
    Written { exists: bool },
    /// It was written, or may have been; what it is now is in the store.
    Unknown,
}

/// A key of a scan's chunk, with its value, `None` if it is deleted.
pub(super) type Row = (Bytes, Option<Bytes>);

/// One write to one tree.
pub(crate) struct TreeWrite {
    pub tree: u32,
    pub key: Bytes,
    pub value: Option<Bytes>,
}

#[derive(Default)]
pub(super) struct Overlay {
    trees: HashMap<u32, Tree>,
    /// In the order of positions; no key stands for a coarse write.
    queue: VecDeque<(Position, u32, Option<Bytes>)>,
    floor: Position,
    /// The last coarse write of any tree.
    coarse: Position,
    bytes: usize,
    /// How often everything was dropped.
    generation: u64,
}

impl Overlay {
    pub fn floor(&self) -> Position {
        self.floor
    }

    pub fn coarse(&self) -> Position {
        self.coarse
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Notes the writes of an entry. Positions ascend.
    pub fn insert(&mut self, position: Position, writes: Vec<TreeWrite>) {
        for TreeWrite {
            tree: number,
            key,
            value,
        } in writes
        {
            self.bytes += cost(&key, &value);
            self.queue.push_back((position, number, Some(key.clone())));
            let tree = self.trees.entry(number).or_default();
            tree.newest = position;
            let version = Version { position, value };
            match tree.keys.entry(Key::new(key)) {
                btree_map::Entry::Occupied(mut versions) => {
                    let versions = versions.get_mut();
                    let older = std::mem::replace(&mut versions.newest, version);
                    versions.older.push_back(older);
                }
                btree_map::Entry::Vacant(place) => {
                    place.insert(Versions {
                        newest: version,
                        older: VecDeque::new(),
                    });
                }
            }
        }
    }

    /// Notes that a tree was written as a whole.
    pub fn insert_coarse(&mut self, position: Position, number: u32) {
        let tree = self.trees.entry(number).or_default();
        (tree.coarse, tree.newest) = (position, position);
        self.coarse = position;
        self.bytes += VERSION_BYTES;
        self.queue.push_back((position, number, None));
    }

    /// The value of a key at `at`.
    pub fn get(&self, tree: u32, key: &[u8], at: Position) -> Lookup {
        let Some(tree) = self.trees.get(&tree) else {
            return Lookup::Store;
        };
        let Some(versions) = tree.key(key) else {
            return Lookup::Store;
        };
        match tree.visible(versions, at) {
            Some(version) => Lookup::Found(version.value.clone()),
            None => Lookup::Store,
        }
    }

    /// What happened to a key after `since`.
    pub fn since(&self, tree: u32, key: &[u8], since: Position) -> Since {
        let unknown = if since < self.floor {
            Since::Unknown
        } else {
            Since::Unwritten
        };
        let Some(tree) = self.trees.get(&tree) else {
            return unknown;
        };
        let newest = tree.key(key).map(|versions| &versions.newest);
        match newest {
            Some(newest) if newest.position > since && newest.position > tree.coarse => {
                Since::Written {
                    exists: newest.value.is_some(),
                }
            }
            _ if tree.coarse > since => Since::Unknown,
            _ => unknown,
        }
    }

    /// Was any key of the range written after `since`? True too if that can't be known.
    pub fn range_since(&self, tree: u32, range: &Range, since: Position) -> bool {
        if since < self.floor {
            return true;
        }
        let Some(tree) = self.trees.get(&tree) else {
            return false;
        };
        if tree.newest <= since || !is_range(range) {
            return false;
        }
        tree.coarse > since
            || tree
                .range(range)
                .any(|(_, keys)| keys.newest.position > since)
    }

    /// The next keys of a range, in the scan's direction, that a read at `at` must take from
    /// here. Takes them off `range`; false when nothing is left.
    pub fn chunk(
        &self,
        tree: u32,
        range: &mut Range,
        at: Position,
        direction: Direction,
        rows: &mut VecDeque<Row>,
    ) -> bool {
        let Some(tree) = self.trees.get(&tree) else {
            return false;
        };
        if !is_range(range) {
            return false;
        }
        let mut keys = tree.range(range);
        let mut last = None;
        let mut looks = 0;
        let mut look = |(key, versions): (&Key, &Versions)| {
            let key = key.bytes();
            if let Some(version) = tree.visible(versions, at) {
                rows.push_back((key.clone(), version.value.clone()));
            }
            looks += 1;
            last = Some(key.clone());
            looks < CHUNK_LOOKS_MAX
        };
        let end = match direction {
            Direction::Forward => keys.all(&mut look),
            Direction::Backward => keys.rev().all(&mut look),
        };
        if let Some(last) = last {
            match direction {
                Direction::Forward => range.0 = Bound::Excluded(last),
                Direction::Backward => range.1 = Bound::Excluded(last),
            }
        }
        !end
    }

    /// Forgets versions that are applied and that no transaction at or above `needed` asks for,
    /// some at a time. Returns how many bytes they had: 0 when none can go.
    pub fn evict(&mut self, applied: Position, needed: Position) -> usize {
        let before = self.bytes;
        for _ in 0..EVICT_MAX {
            let can_go = |position: Position, bytes: usize| {
                let spare = bytes > KEEP_BYTES && position <= needed;
                position <= applied && (spare || bytes > BYTES_MAX)
            };
            let bytes = self.bytes;
            let oldest = self.queue.pop_front_if(|(at, ..)| can_go(*at, bytes));
            let Some((position, number, key)) = oldest else {
                break;
            };
            self.floor = position;
            self.forget(number, key);
        }
        before - self.bytes
    }

    /// What all versions cost.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn forget(&mut self, number: u32, key: Option<Bytes>) {
        if key.is_none() {
            // Whether or not its tree is still here: keys of the same entry leave before it.
            self.bytes -= VERSION_BYTES;
        }
        let Some(tree) = self.trees.get_mut(&number) else {
            return;
        };
        if let Some(key) = key {
            let place = tree.keys.entry(Key::new(key.clone()));
            let btree_map::Entry::Occupied(mut versions) = place else {
                return;
            };
            let gone = match versions.get_mut().older.pop_front() {
                Some(version) => version,
                None => versions.remove().newest,
            };
            self.bytes -= cost(&key, &gone.value);
        }
        if tree.keys.is_empty() && tree.newest <= self.floor {
            self.trees.remove(&number);
        }
    }

    /// Drops everything: nothing at or below `floor` is known any more.
    pub fn clear(&mut self, floor: Position) {
        let generation = self.generation + 1;
        *self = Overlay {
            floor,
            generation,
            ..Overlay::default()
        };
    }
}

impl TreeWrite {
    /// What its version costs in the overlay.
    pub fn bytes(&self) -> usize {
        cost(&self.key, &self.value)
    }
}

fn cost(key: &Bytes, value: &Option<Bytes>) -> usize {
    key.len() + value.as_ref().map_or(0, Bytes::len) + VERSION_BYTES
}

fn dynamic<'a>(probe: &'a Probe<'a>) -> &'a dyn Compare {
    probe
}
