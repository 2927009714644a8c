//! A table store in memory, for tests: a map of versions per tree, with the same contract as the
//! stores on disk, and crashes on demand.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use journal::{GroupId, Position};
use parking_lot::{Mutex, RwLock};

use crate::{
    Checkpoint, Direction, ErasedKeys, Error, GroupCheckpoint, KEY_BYTES_MAX, Result, RowVersion,
    Scan, Scratch, TableStore, TreeId, VALUE_BYTES_MAX, Versions, Write,
};

/// Keys that a scan takes at a time.
const CHUNK_KEYS: usize = 128;

type Chain = Vec<(Position, Option<Bytes>)>;
type Tree = Arc<RwLock<BTreeMap<Bytes, Chain>>>;

/// [`TableStore`] without a disk. What a crash would leave is made by [`MemoryStore::crash`].
#[derive(Default)]
pub struct MemoryStore {
    trees: RwLock<BTreeMap<TreeId, Tree>>,
    horizons: RwLock<BTreeMap<GroupId, Position>>,
    refused: RwLock<BTreeMap<GroupId, Position>>,
    /// Of trees that keep more than their group's horizon does.
    kept: RwLock<BTreeMap<TreeId, Position>>,
    persisted: RwLock<BTreeMap<GroupId, Position>>,
    checkpoint: Arc<Mutex<Vec<GroupCheckpoint>>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Arc<MemoryStore> {
        Arc::default()
    }

    /// What is found after a crash: everything up to the last checkpoint, and of the versions
    /// that came later those for which `survives` is true.
    pub fn crash(
        &self,
        mut survives: impl FnMut(TreeId, &[u8], Position) -> bool,
    ) -> Arc<MemoryStore> {
        let checkpoint = self.checkpoint.lock().clone();
        let applied: BTreeMap<_, _> = checkpoint
            .iter()
            .map(|group| (group.group, group.applied.position))
            .collect();
        let mut after = MemoryStore::default();
        let mut reached: BTreeMap<GroupId, Position> = BTreeMap::new();
        for (id, tree) in self.trees.read().iter() {
            let kept = applied.get(&id.group).copied().unwrap_or_default();
            let mut copy = BTreeMap::new();
            for (key, versions) in tree.read().iter() {
                let mut versions = versions.clone();
                versions.retain(|(at, _)| *at <= kept || survives(*id, key, *at));
                let newest = versions.iter().map(|(at, _)| *at).max().unwrap_or_default();
                let persisted = reached.entry(id.group).or_default();
                *persisted = newest.max(*persisted);
                if !versions.is_empty() {
                    copy.insert(key.clone(), versions);
                }
            }
            after.trees.write().insert(*id, Arc::new(RwLock::new(copy)));
        }
        after.checkpoint = Arc::new(Mutex::new(checkpoint));
        // The horizon is durable before the first version is removed under it.
        let horizons = self.horizons.read().clone();
        for (group, horizon) in &horizons {
            let persisted = reached.entry(*group).or_default();
            *persisted = (*horizon).max(*persisted);
        }
        after.horizons = RwLock::new(horizons);
        after.kept = RwLock::new(self.kept.read().clone());
        after.persisted = RwLock::new(reached);
        Arc::new(after)
    }

    fn tree(&self, tree: TreeId) -> Option<Tree> {
        self.trees.read().get(&tree).cloned()
    }

    fn check_horizon(&self, tree: TreeId, at: Position) -> Result<()> {
        let refused = self.refused.read().get(&tree.group).copied();
        let horizon = match refused {
            Some(refused) if refused > self.horizon(tree.group) => refused,
            Some(_) | None => self.kept(tree),
        };
        if at < horizon {
            Err(Error::TooOld { at, horizon })
        } else {
            Ok(())
        }
    }
}

/// The limits that every store has. A transaction is checked against them before it gets its
/// place, for afterwards nothing may fail.
pub(crate) fn check_size(key: &Bytes, value: &Option<Bytes>) -> Result<()> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let what = format!(
            "a key has 1 to {KEY_BYTES_MAX} bytes, this one {}",
            key.len()
        );
        return Err(Error::Store(what));
    }
    if value
        .as_ref()
        .is_some_and(|value| value.len() > VALUE_BYTES_MAX)
    {
        return Err(Error::Store(format!(
            "a value has at most {VALUE_BYTES_MAX} bytes"
        )));
    }
    Ok(())
}

fn visible(versions: &Chain, at: Position) -> Option<&Bytes> {
    let newer = versions.partition_point(|(position, _)| *position <= at);
    versions.get(newer.checked_sub(1)?)?.1.as_ref()
}

/// Is there any key between the bounds? `BTreeMap::range` panics on others.
pub(crate) fn is_range(range: &(Bound<Bytes>, Bound<Bytes>)) -> bool {
    match range {
        (Bound::Included(a), Bound::Included(b)) => a <= b,
        (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => a < b,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
    }
}

impl TableStore for MemoryStore {
    fn get(&self, tree: TreeId, key: &[u8], at: Position) -> Result<Option<Bytes>> {
        self.check_horizon(tree, at)?;
        let Some(tree) = self.tree(tree) else {
            return Ok(None);
        };
        let keys = tree.read();
        Ok(keys
            .get(key)
            .and_then(|versions| visible(versions, at))
            .cloned())
    }

    fn scan(
        &self,
        tree: TreeId,
        range: (Bound<Bytes>, Bound<Bytes>),
        at: Position,
        direction: Direction,
    ) -> Result<Scan> {
        self.check_horizon(tree, at)?;
        match self.tree(tree) {
            Some(tree) if is_range(&range) => Ok(Box::new(MemoryScan {
                tree,
                range,
                at,
                direction,
                chunk: Vec::new(),
                end: false,
            })),
            _ => Ok(Box::new(std::iter::empty())),
        }
    }

    fn versions(
        &self,
        tree: TreeId,
        range: (Bound<Bytes>, Bound<Bytes>),
        from: Position,
        to: Position,
    ) -> Result<Versions> {
        self.check_horizon(tree, from)?;
        let Some(tree) = self.tree(tree).filter(|_| is_range(&range)) else {
            return Ok(Box::new(std::iter::empty()));
        };
        let mut found = Vec::new();
        for (key, versions) in tree.read().range(range) {
            let first = versions.partition_point(|(at, _)| *at <= from);
            let covers = |version: &&(Position, Option<Bytes>)| version.1.is_some();
            let covering = first.checked_sub(1).map(|at| &versions[at]).filter(covers);
            let newer = versions[first..].iter().filter(|(at, _)| *at <= to);
            found.extend(covering.into_iter().chain(newer).map(|(position, value)| {
                Ok(RowVersion {
                    key: key.clone(),
                    position: *position,
                    value: value.clone(),
                })
            }));
        }
        Ok(Box::new(found.into_iter()))
    }

    fn write(
        &self,
        tree: TreeId,
        position: Position,
        writes: &mut dyn Iterator<Item = Write>,
    ) -> Result<()> {
        let horizon = self.kept(tree);
        let tree = self.trees.write().entry(tree).or_default().clone();
        let mut keys = tree.write();
        // Two handles, the map's and ours: no scan is under way that could need old versions.
        let collect = Arc::strong_count(&tree) == 2;
        for (key, value) in writes {
            check_size(&key, &value)?;
            let versions = keys.entry(key).or_default();
            match versions.binary_search_by_key(&position, |(at, _)| *at) {
                Ok(at) => versions[at].1 = value,
                Err(at) => versions.insert(at, (position, value)),
            }
            if collect {
                let newer = versions.partition_point(|(at, _)| *at <= horizon);
                versions.drain(..newer.saturating_sub(1));
            }
        }
        Ok(())
    }

    fn drop_tree(&self, tree: TreeId) -> Result<()> {
        self.trees.write().remove(&tree);
        self.kept.write().remove(&tree);
        Ok(())
    }

    fn trees(&self) -> Vec<TreeId> {
        self.trees.read().keys().copied().collect()
    }

    fn memory(&self) -> u64 {
        0
    }

    fn begin_checkpoint(&self, groups: Vec<GroupCheckpoint>) -> Result<Arc<dyn Checkpoint>> {
        Ok(Arc::new(MemoryCheckpoint {
            groups,
            last: Arc::clone(&self.checkpoint),
        }))
    }

    fn begin_checkpoint_of(&self, group: GroupCheckpoint) -> Result<Arc<dyn Checkpoint>> {
        let mut groups = self.checkpoint();
        groups.retain(|last| last.group != group.group);
        groups.push(group);
        groups.sort_by_key(|last| last.group);
        self.begin_checkpoint(groups)
    }

    fn checkpoint(&self) -> Vec<GroupCheckpoint> {
        self.checkpoint.lock().clone()
    }

    fn persisted(&self, group: GroupId) -> Position {
        let persisted = self.persisted.read().get(&group).copied();
        persisted.unwrap_or_default()
    }

    fn forget(&self, group: GroupId) {
        for of in [&self.horizons, &self.refused, &self.persisted] {
            of.write().remove(&group);
        }
    }

    fn set_horizon(&self, group: GroupId, horizon: Position) {
        let mut horizons = self.horizons.write();
        let old = horizons.entry(group).or_default();
        *old = horizon.max(*old);
    }

    fn keep(&self, tree: TreeId, from: Option<Position>) -> Result<()> {
        let (exists, oldest) = (self.tree(tree).is_some(), self.kept(tree));
        let Some(from) = from else {
            self.kept.write().remove(&tree);
            return Ok(());
        };
        let from = if exists { from.max(oldest) } else { from };
        self.kept.write().insert(tree, from);
        self.trees.write().entry(tree).or_default();
        Ok(())
    }

    fn kept(&self, tree: TreeId) -> Position {
        let kept = self.kept.read().get(&tree).copied();
        let horizon = self.horizon(tree.group);
        kept.map_or(horizon, |kept| kept.min(horizon))
    }

    fn refuse_below(&self, group: GroupId, position: Position) {
        let mut refused = self.refused.write();
        let old = refused.entry(group).or_default();
        *old = position.max(*old);
    }

    fn horizon(&self, group: GroupId) -> Position {
        self.horizons
            .read()
            .get(&group)
            .copied()
            .unwrap_or_default()
    }

    fn erase(&self, tree: TreeId, erased: &Arc<ErasedKeys>) -> Result<Position> {
        let (kept, group) = (self.kept(tree), self.horizon(tree.group));
        let Some(tree) = self.tree(tree) else {
            return Ok(Position::MAX);
        };
        tree.write().retain(|key, versions| {
            let removed = erased.get(key).filter(|removed| **removed <= group);
            let horizon = kept.max(removed.copied().unwrap_or_default());
            let newer = versions.partition_point(|(at, _)| *at <= horizon);
            versions.drain(..newer.saturating_sub(1));
            let gone = matches!(&versions[..], [(at, None)] if *at <= horizon);
            !gone
        });
        Ok(group)
    }

    fn has_dropped(&self, _: GroupId) -> bool {
        false
    }

    fn scratch(&self) -> Result<Box<dyn Scratch>> {
        Ok(Box::new(MemoryScratch::default()))
    }

    fn disk_bytes(&self, _tree: TreeId) -> u64 {
        0
    }
}

struct MemoryScan {
    tree: Tree,
    range: (Bound<Bytes>, Bound<Bytes>),
    at: Position,
    direction: Direction,
    /// In reverse order, so that the next one is popped.
    chunk: Vec<(Bytes, Bytes)>,
    end: bool,
}

impl MemoryScan {
    fn fill(&mut self) {
        let keys = self.tree.read();
        let range = keys.range((self.range.0.clone(), self.range.1.clone()));
        let at = self.at;
        let shown = |(key, versions): (&Bytes, &Chain)| {
            visible(versions, at).map(|value| (key.clone(), value.clone()))
        };
        self.chunk = match self.direction {
            Direction::Forward => range.filter_map(shown).take(CHUNK_KEYS).collect(),
            Direction::Backward => range.rev().filter_map(shown).take(CHUNK_KEYS).collect(),
        };
        self.end = self.chunk.len() < CHUNK_KEYS;
        if let Some((last, _)) = self.chunk.last() {
            match self.direction {
                Direction::Forward => self.range.0 = Bound::Excluded(last.clone()),
                Direction::Backward => self.range.1 = Bound::Excluded(last.clone()),
            }
        }
        self.end |= !is_range(&self.range);
        self.chunk.reverse();
    }
}

impl Iterator for MemoryScan {
    type Item = Result<(Bytes, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.chunk.is_empty() && !self.end {
            self.fill();
        }
        self.chunk.pop().map(Ok)
    }
}

struct MemoryCheckpoint {
    groups: Vec<GroupCheckpoint>,
    last: Arc<Mutex<Vec<GroupCheckpoint>>>,
}

impl Checkpoint for MemoryCheckpoint {
    fn finish(&self) -> Result<()> {
        self.last.lock().clone_from(&self.groups);
        Ok(())
    }
}

#[derive(Default)]
struct MemoryScratch(BTreeMap<Bytes, Bytes>);

impl Scratch for MemoryScratch {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.0
            .insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Result<()> {
        self.0.remove(key);
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, range: (Bound<Bytes>, Bound<Bytes>), direction: Direction) -> Result<Scan> {
        if !is_range(&range) {
            return Ok(Box::new(std::iter::empty()));
        }
        let copy = |(key, value): (&Bytes, &Bytes)| Ok((key.clone(), value.clone()));
        let mut rows: Vec<_> = self.0.range(range).map(copy).collect();
        if direction == Direction::Backward {
            rows.reverse();
        }
        Ok(Box::new(rows.into_iter()))
    }
}
