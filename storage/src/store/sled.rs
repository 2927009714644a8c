//! The table store on sled: one ordered map for all trees, versions in the key. Kept as the
//! second implementation of the contract; slower than `lsm`, and a purge copies everything.
//!
//! sled syncs none of its writes on Linux: a checkpoint does it here, and the order in between is
//! kept by an inode flag. Old versions go when their key is written again, and by a sweep with
//! every checkpoint; their bytes stay in sled's file until a purge copies what lives into a new
//! one.

mod database;
mod keys;
mod scan;
mod trees;

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use journal::{GroupId, Position};
use lsm_tree::{Cache, DescriptorTable};
use parking_lot::{Mutex, RwLock};

use super::failure::Failure;
use super::folder::{self, Folder, disk_bytes};
use super::horizon::Horizons;
use super::lsm::tree::Resources;
use super::range::{Range, clip};
use super::scratch::Scratches;
use super::versions::Walk;
use super::{
    Checkpoint, Direction, ErasedKeys, GroupCheckpoint, KEY_BYTES_MAX, POSITION_MAX, Scan, Scratch,
    StoreKind, StoreOptions, TableStore, TreeId, VALUE_BYTES_MAX, Versions, Write,
};
use crate::{Error, Result};
use database::Database;
use scan::SledScan;
use trees::{DroppedTree, SledTree, Trees};

/// Rows of one batch.
const BATCH_ROWS_MAX: usize = 1024;

/// Bytes of block cache for scratch trees, which are lsm trees here too.
const SCRATCH_CACHE_BYTES: u64 = 16 << 20;

/// The store.
pub(super) struct SledStore(Arc<Shared>);

struct Shared {
    // The database closes before the folder's lock is released.
    database: ArcSwap<Database>,
    folder: Folder,
    options: StoreOptions,
    horizons: Horizons,
    trees: Trees,
    scratches: Scratches,
    /// Read while a batch is written, written while a purge copies.
    writing: RwLock<()>,
    /// Bytes written since the last flush to the files.
    unflushed: AtomicU64,
    /// Held while a checkpoint is finished: its sequence, and where the sweep goes on.
    finishing: Mutex<(u64, Vec<u8>)>,
    checkpoints: AtomicU64,
    failure: Failure,
}

impl SledStore {
    /// Opens the store of a folder.
    pub fn open(dir: &Path, options: StoreOptions) -> Result<SledStore> {
        let folder = Folder::open(dir, StoreKind::Sled)?;
        let record = folder.record();
        let database = Database::open(folder.path(), record.generation, options.cache_bytes)?;
        let horizons = Horizons::new(&record.horizons);
        let trees = Trees::open(&database, &record.dropped, &horizons, &record.horizons)?;
        let resources = Resources {
            cache: Arc::new(Cache::with_capacity_bytes(SCRATCH_CACHE_BYTES)),
            files: Arc::new(DescriptorTable::new(options.files_max)),
            memory: Arc::default(),
        };
        Ok(SledStore(Arc::new(Shared {
            scratches: Scratches::new(folder.tmp(), &resources),
            database: ArcSwap::from_pointee(database),
            folder,
            options,
            horizons,
            trees,
            writing: RwLock::new(()),
            unflushed: AtomicU64::new(0),
            finishing: Mutex::new((0, Vec::new())),
            checkpoints: AtomicU64::new(0),
            failure: Failure::default(),
        })))
    }
}

impl Shared {
    fn write_rows(
        &self,
        tree: &SledTree,
        position: Position,
        writes: &mut dyn Iterator<Item = Write>,
    ) -> Result<()> {
        let line = tree.horizon.durable_line();
        loop {
            let rows: Vec<Write> = writes.take(BATCH_ROWS_MAX).collect();
            if rows.is_empty() {
                return Ok(());
            }
            rows.iter().try_for_each(check_sizes)?;
            let bytes: usize = rows
                .iter()
                .map(|(k, v)| k.len() + v.as_ref().map_or(0, Bytes::len))
                .sum();
            let _writing = self.writing.read();
            self.database.load().write(tree, position, &rows, line)?;
            let unflushed = self.unflushed.fetch_add(bytes as u64, Ordering::Relaxed);
            if unflushed > self.options.memtable_bytes_max {
                self.unflushed.store(0, Ordering::Relaxed);
                self.database.load().flush()?;
            }
        }
    }

    /// A scan of a tree; `None` if nothing can be in it.
    fn open_scan(
        &self,
        tree: TreeId,
        range: Range,
        at: Position,
        direction: Direction,
    ) -> Result<Option<SledScan>> {
        let Some(tree) = self.trees.get(tree) else {
            return self.horizons.of(tree.group).check(at).map(|()| None);
        };
        let open = tree.horizon.open_scan(at)?;
        let database = self.database.load_full();
        Ok(clip(range).map(|range| SledScan::new(database, tree, open, range, at, direction)))
    }

    /// Copies all that lives into the next generation and switches to it. `erased`: of that tree.
    fn rewrite(&self, tree: TreeId, erased: &ErasedKeys) -> Result<Position> {
        let finishing = self.finishing.lock();
        self.folder.persist_horizons(&self.horizons)?;
        let writing = self.writing.write();
        let old = self.database.load_full();
        let generation = self.folder.record().generation + 1;
        let new = Database::open(self.folder.path(), generation, self.options.cache_bytes)?;
        let line = old.copy_into(&new, &self.trees, tree, erased)?;
        new.sync()?;
        self.folder
            .update(&self.horizons, |record| record.generation = generation)?;
        self.database.store(Arc::new(new));
        drop((writing, finishing));
        old.remove_when_unused();
        drop(old);
        let of_before = || self.database.load().has_others();
        Ok(match folder::is_held(|| of_before().unwrap_or(true)) {
            true => Position::ZERO,
            false => line,
        })
    }

    fn keep_failure<T>(&self, done: Result<T>) -> Result<T> {
        done.inspect_err(|error| self.failure.keep(error))
    }
}

impl TableStore for SledStore {
    fn get(&self, tree: TreeId, key: &[u8], at: Position) -> Result<Option<Bytes>> {
        let Some(tree) = self.0.trees.get(tree) else {
            return self.0.horizons.of(tree.group).check(at).map(|()| None);
        };
        tree.horizon.check(at)?;
        let found = match key.len() <= KEY_BYTES_MAX {
            true => self.0.database.load().find(tree.prefix, key, at)?,
            false => None,
        };
        tree.horizon.check(at)?;
        Ok(found.and_then(|version| version.value))
    }

    fn scan(
        &self,
        tree: TreeId,
        range: (Bound<Bytes>, Bound<Bytes>),
        at: Position,
        direction: Direction,
    ) -> Result<Scan> {
        match self.0.open_scan(tree, range, at, direction)? {
            Some(scan) => Ok(Box::new(scan)),
            None => Ok(Box::new(std::iter::empty())),
        }
    }

    fn versions(
        &self,
        tree: TreeId,
        range: (Bound<Bytes>, Bound<Bytes>),
        from: Position,
        to: Position,
    ) -> Result<Versions> {
        let Some(found) = self.0.trees.get(tree) else {
            self.0.horizons.of(tree.group).check(from)?;
            return Ok(Box::new(std::iter::empty()));
        };
        let held = found.horizon.open_scan(from)?;
        let Some(keys) = self.0.open_scan(tree, range, to, Direction::Forward)? else {
            return Ok(Box::new(std::iter::empty()));
        };
        let (database, prefix) = (self.0.database.load_full(), found.prefix);
        let find = move |key: &[u8], at: Position| database.find(prefix, key, at);
        Ok(Walk::begin(
            keys.with_deletions(),
            Box::new(find),
            from,
            held,
        ))
    }

    fn write(
        &self,
        tree: TreeId,
        position: Position,
        writes: &mut dyn Iterator<Item = Write>,
    ) -> Result<()> {
        self.0.failure.check()?;
        if position > POSITION_MAX {
            return Err(Error::Store(format!(
                "position {position} is beyond the last one"
            )));
        }
        let tree = match self.0.trees.get(tree) {
            Some(tree) => tree,
            None => {
                let _writing = self.0.writing.read();
                let database = self.0.database.load();
                (self.0.trees).create(tree, &database, &self.0.horizons, None)?
            }
        };
        self.0.write_rows(&tree, position, writes)
    }

    fn drop_tree(&self, tree: TreeId) -> Result<()> {
        self.0.trees.drop_tree(tree);
        Ok(())
    }

    fn trees(&self) -> Vec<TreeId> {
        self.0.trees.ids()
    }

    fn memory(&self) -> u64 {
        self.0.unflushed.load(Ordering::Relaxed)
    }

    fn begin_checkpoint(&self, groups: Vec<GroupCheckpoint>) -> Result<Arc<dyn Checkpoint>> {
        self.begin(groups, self.0.trees.dropped())
    }

    fn begin_checkpoint_of(&self, group: GroupCheckpoint) -> Result<Arc<dyn Checkpoint>> {
        let mut dropped = self.0.trees.dropped();
        dropped.retain(|dropped| dropped.id().group == group.group);
        self.begin(vec![group], dropped)
    }

    fn checkpoint(&self) -> Vec<GroupCheckpoint> {
        self.0.folder.checkpoint()
    }

    fn persisted(&self, group: GroupId) -> Position {
        // Versions are found by their position here, whatever was written after them: as soon as
        // the replay has completed a position that is not below the horizon, it can be read.
        self.0.horizons.of(group).persisted()
    }

    fn set_horizon(&self, group: GroupId, horizon: Position) {
        self.0.horizons.of(group).advance(horizon);
    }

    fn keep(&self, tree: TreeId, from: Option<Position>) -> Result<()> {
        self.0.failure.check()?;
        match (self.0.trees.get(tree), from) {
            (Some(tree), from) => tree.horizon.keep(from),
            (None, Some(_)) => {
                let _writing = self.0.writing.read();
                let database = self.0.database.load();
                (self.0.trees).create(tree, &database, &self.0.horizons, from)?;
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn kept(&self, tree: TreeId) -> Position {
        match self.0.trees.get(tree) {
            Some(tree) => tree.horizon.get(),
            None => self.horizon(tree.group),
        }
    }

    fn refuse_below(&self, group: GroupId, position: Position) {
        self.0.horizons.of(group).refuse(position);
    }

    fn forget(&self, group: GroupId) {
        self.0.horizons.forget(group);
    }

    fn horizon(&self, group: GroupId) -> Position {
        self.0.horizons.of(group).get()
    }

    fn erase(&self, tree: TreeId, erased: &Arc<ErasedKeys>) -> Result<Position> {
        self.0.failure.check()?;
        match self.0.trees.get(tree) {
            Some(_) => self.0.keep_failure(self.0.rewrite(tree, erased)),
            None => Ok(Position::MAX),
        }
    }

    fn has_dropped(&self, group: GroupId) -> bool {
        let (dropped, condemned) = (self.0.trees.dropped(), self.0.trees.condemned());
        let mut all = dropped.iter().chain(&condemned);
        all.any(|dropped| dropped.id().group == group)
    }

    fn scratch(&self) -> Result<Box<dyn Scratch>> {
        self.0.scratches.create()
    }

    /// sled does not tell which of its bytes belong to whom: each tree is given the same share.
    fn disk_bytes(&self, tree: TreeId) -> u64 {
        let trees = self.0.trees.ids();
        match trees.contains(&tree) {
            true => disk_bytes(&self.0.database.load().folder) / trees.len() as u64,
            false => 0,
        }
    }
}

impl SledStore {
    fn begin(
        &self,
        groups: Vec<GroupCheckpoint>,
        dropped: Vec<Arc<DroppedTree>>,
    ) -> Result<Arc<dyn Checkpoint>> {
        self.0.failure.check()?;
        Ok(Arc::new(SledCheckpoint {
            sequence: self.0.checkpoints.fetch_add(1, Ordering::Relaxed) + 1,
            groups,
            dropped,
            shared: self.0.clone(),
        }))
    }
}

/// A begun checkpoint. sled has no memtables to rotate: what is written after the beginning is
/// in the files too, which replay does not mind.
struct SledCheckpoint {
    sequence: u64,
    groups: Vec<GroupCheckpoint>,
    dropped: Vec<Arc<DroppedTree>>,
    shared: Arc<Shared>,
}

impl Checkpoint for SledCheckpoint {
    fn finish(&self) -> Result<()> {
        self.shared.failure.check()?;
        self.shared.keep_failure(self.write())
    }
}

impl SledCheckpoint {
    fn write(&self) -> Result<()> {
        let shared = &self.shared;
        let mut finishing = shared.finishing.lock();
        if finishing.0 >= self.sequence {
            return Ok(());
        }
        shared.folder.persist_horizons(&shared.horizons)?;
        let database = shared.database.load_full();
        finishing.1 = database.sweep(&shared.trees, std::mem::take(&mut finishing.1))?;
        shared.unflushed.store(0, Ordering::Relaxed);
        database.sync()?;
        let condemned = shared.trees.condemned();
        shared.folder.update(&shared.horizons, |record| {
            for checkpoint in &self.groups {
                record.groups.insert(checkpoint.group, checkpoint.clone());
            }
            let names = condemned
                .iter()
                .chain(&self.dropped)
                .map(|dropped| dropped.name());
            record.dropped = names.collect();
        })?;
        finishing.0 = self.sequence;
        shared.trees.condemn(&self.dropped);
        shared.trees.remove_condemned(&database)
    }
}

fn check_sizes((key, value): &Write) -> Result<()> {
    let value_len = value.as_ref().map_or(0, Bytes::len);
    if key.is_empty() || key.len() > KEY_BYTES_MAX || value_len > VALUE_BYTES_MAX {
        return Err(Error::Store(format!(
            "row of {} key bytes and {value_len} value bytes is outside the limits",
            key.len()
        )));
    }
    Ok(())
}
