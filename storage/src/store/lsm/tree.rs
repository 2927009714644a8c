//! One tree: memtables of ours over table files of lsm-tree. Readers load an immutable view and
//! never wait for a lock that a flush or a compaction holds while it syncs files.
//!
//! lsm-tree gets no memtables: it writes, lists, merges and removes table files. A point read
//! asks memtables and files from the newest to the oldest, and the first version at or below
//! its position is the answer, because within a tree positions only grow: what is newer in that
//! order holds no smaller position of the same key than what lies below it. (Not so between a
//! crash and the end of the replay: files hold positions that are replayed above them. Replay
//! writes every version after the checkpoint again, in order, so the rule holds again once it
//! has passed `persisted`, and reads are not served before.)

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use journal::Position;
use lsm_tree::compaction::Leveled;
use lsm_tree::table::filter::standard_bloom;
use lsm_tree::{
    AbstractTree, AnyTree, Cache, Config, DescriptorTable, SequenceNumberCounter, Table,
};
use parking_lot::{Mutex, RwLock};

use super::super::folder::{self, disk_bytes, remove_folder};
use super::super::horizon::TreeHorizon;
use super::super::range::Range;
use super::super::versions::Walk;
use super::codec::{self, SEQNO_BASE};
use super::garbage::{Erasing, GarbageFactory};
use super::memtable::{Memtable, Version};
use super::scan::TreeScan;
use crate::store::{ErasedKeys, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::{Direction, Error, Result, RowVersion, Scan, Versions, Write};

/// Writes under one hold of the tree's lock.
const BATCH_WRITES_MAX: usize = 1024;

/// Table files of level 0 that call for a compaction.
const LEVEL_0_TABLES: usize = 4;

/// Runs of level 0 above which a flush compacts first: reads look into every run.
const LEVEL_0_RUNS_MAX: usize = 32;

/// The size at which a compaction begins the next table file.
const TABLE_BYTES: u64 = 64 << 20;

/// Table files above which a tree is rewritten, if they are small: this many, and
/// [`SMALL_TABLES_RATIO`] more for each full-sized table, so that the work stays in proportion.
const SMALL_TABLES_MAX: u64 = 64;
const SMALL_TABLES_RATIO: u64 = 8;

/// Disjoint table files in key order.
pub(super) type Run = Arc<Vec<Table>>;

/// What a reader sees of a tree; memtables and runs from the newest to the oldest.
#[derive(Clone)]
pub(super) struct View {
    pub active: Arc<Memtable>,
    pub sealed: Vec<Arc<Memtable>>,
    pub runs: Vec<Run>,
    /// The version of lsm-tree's manifest that `runs` was read from.
    version: u64,
}

/// What all trees share.
#[derive(Clone)]
pub(in crate::store) struct Resources {
    pub cache: Arc<Cache>,
    pub files: Arc<DescriptorTable>,
    /// Bytes in memtables that are not flushed, over all trees.
    pub memory: Arc<AtomicU64>,
}

/// A tree.
pub(in crate::store) struct Tree {
    pub folder: PathBuf,
    pub horizon: Arc<TreeHorizon>,
    lsm: lsm_tree::Tree,
    view: ArcSwap<View>,
    /// Files that have left the view, each until it is gone from the disk: who reads an earlier
    /// view still holds it.
    replaced: Mutex<Vec<Arc<PathBuf>>>,
    memory: Arc<AtomicU64>,
    /// Held while the view is exchanged and while the active memtable is written.
    change: Mutex<u64>,
    /// Held while sealed memtables are flushed, oldest first.
    flush: Mutex<()>,
    /// Read by a step of compaction, written while all files are rewritten, which may take an hour:
    /// nobody but another rewrite waits for that.
    rewriting: RwLock<()>,
    erasing: Arc<Erasing>,
    stop: Arc<AtomicBool>,
    remove: AtomicBool,
}

impl Tree {
    /// Opens or creates the tree of a folder.
    pub fn open(folder: PathBuf, horizon: Arc<TreeHorizon>, shared: &Resources) -> Result<Tree> {
        remove_leftovers(&folder)?;
        let stop = Arc::new(AtomicBool::new(false));
        let erasing = Arc::<Erasing>::default();
        let garbage = GarbageFactory {
            horizon: horizon.clone(),
            erasing: erasing.clone(),
            stop: stop.clone(),
        };
        let counter = SequenceNumberCounter::default;
        let config = Config::new(&folder, counter(), counter())
            .use_cache(shared.cache.clone())
            .use_descriptor_table(Some(shared.files.clone()))
            .with_compaction_filter_factory(Some(Arc::new(garbage)));
        let lsm = match config
            .open()
            .map_err(|error| codec::error(&folder, error))?
        {
            AnyTree::Standard(lsm) => lsm,
            AnyTree::Blob(_) => return Err(Error::Store("unexpected kind of lsm tree".into())),
        };
        let active = Arc::new(Memtable::new(0, shared.memory.clone()));
        let (version, runs) = runs(&lsm);
        let view = View {
            active,
            sealed: Vec::new(),
            runs,
            version,
        };
        Ok(Tree {
            folder,
            horizon,
            lsm,
            view: ArcSwap::from_pointee(view),
            replaced: Mutex::default(),
            memory: shared.memory.clone(),
            change: Mutex::new(0),
            flush: Mutex::new(()),
            rewriting: RwLock::default(),
            erasing,
            stop,
            remove: AtomicBool::new(false),
        })
    }

    /// The greatest position in the files.
    pub fn persisted(&self) -> Position {
        self.lsm
            .get_highest_persisted_seqno()
            .map_or(Position::ZERO, codec::position_of)
    }

    /// The current view.
    pub(super) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The newest value of a key at or below a position.
    pub fn get(&self, key: &[u8], at: Position) -> Result<Option<Bytes>> {
        self.horizon.check(at)?;
        let found = self.find(key, at)?;
        self.horizon.check(at)?;
        Ok(found.and_then(|version| version.value))
    }

    fn find(&self, key: &[u8], at: Position) -> Result<Option<Version>> {
        if key.len() > KEY_BYTES_MAX {
            return Ok(None);
        }
        let view = self.view.load();
        if let Some(version) = view.active.get(key, at) {
            return Ok(Some(version));
        }
        for memtable in &view.sealed {
            if let Some(version) = memtable.get(key, at) {
                return Ok(Some(version));
            }
        }
        if view.runs.is_empty() {
            return Ok(None);
        }
        let (limit, hash) = (codec::seqno_limit(at), key_hash(key));
        for run in &view.runs {
            let Some(table) = table_of(run, key) else {
                continue;
            };
            let found = table
                .get(key, limit, hash)
                .map_err(|e| codec::error(&self.folder, e))?;
            if let Some(item) = found {
                return Ok(Some(codec::decode(item)?.1));
            }
        }
        Ok(None)
    }

    /// The rows of a range as of a position.
    pub fn scan(
        self: &Arc<Self>,
        range: (std::ops::Bound<Bytes>, std::ops::Bound<Bytes>),
        at: Position,
        direction: Direction,
    ) -> Result<Scan> {
        let open = self.horizon.open_scan(at)?;
        Ok(Box::new(TreeScan::new(
            self.clone(),
            open,
            range,
            at,
            direction,
        )))
    }

    /// All versions of a range that reads between two positions find.
    pub fn versions(
        self: &Arc<Self>,
        range: Range,
        from: Position,
        to: Position,
    ) -> Result<Versions> {
        let (held, open) = (self.horizon.open_scan(from)?, self.horizon.open_scan(to)?);
        let forward = Direction::Forward;
        let keys = TreeScan::new(self.clone(), open, range, to, forward).with_deletions();
        let tree = self.clone();
        let find = move |key: &[u8], at: Position| {
            let found = tree.find(key, at)?;
            Ok(found.map(|Version { position, value }| RowVersion {
                key: Bytes::copy_from_slice(key),
                position,
                value,
            }))
        };
        Ok(Walk::begin(keys, Box::new(find), from, held))
    }

    /// Writes a batch of versions; returns whether the iterator may hold more.
    pub fn write(
        &self,
        position: Position,
        writes: &mut dyn Iterator<Item = Write>,
    ) -> Result<bool> {
        let line = self.horizon.line();
        let _change = self.change.lock();
        let view = self.view.load();
        for _ in 0..BATCH_WRITES_MAX {
            let Some((key, value)) = writes.next() else {
                return Ok(false);
            };
            check_sizes(&key, value.as_ref())?;
            view.active.write(key, value, position, line);
        }
        Ok(true)
    }

    /// Bytes of the memtable that is written to.
    pub fn active_bytes(&self) -> u64 {
        self.view.load().active.bytes()
    }

    /// Seals the active memtable. Returns the newest memtable that waits to be flushed.
    pub fn rotate(&self) -> Option<u64> {
        let mut last_id = self.change.lock();
        let view = self.view.load();
        if !view.active.is_empty() {
            *last_id += 1;
            let mut next = View::clone(&view);
            next.active = Arc::new(Memtable::new(*last_id, self.memory.clone()));
            next.sealed.insert(0, view.active.clone());
            self.view.store(Arc::new(next));
        }
        self.view.load().sealed.first().map(|memtable| memtable.id)
    }

    /// Flushes sealed memtables up to one, oldest first; their files are durable on return.
    ///
    /// A memtable may end in the middle of an entry: its file then holds a part of it. That is
    /// what a crash may leave anyway; `persisted` is the entry's position then, replay begins
    /// at the checkpoint, which is before it, and completes it before reads are served. No
    /// version is lost for it either: the line is at most the applied position, which is below
    /// the entry's, so nothing of an unfinished entry covers an older version.
    pub fn flush_until(&self, id: u64) -> Result<()> {
        let _flush = self.flush.lock();
        loop {
            let oldest = self
                .view
                .load()
                .sealed
                .last()
                .filter(|m| m.id <= id)
                .cloned();
            let Some(memtable) = oldest else {
                return Ok(());
            };
            self.flush_one(&memtable)?;
        }
    }

    fn flush_one(&self, memtable: &Arc<Memtable>) -> Result<()> {
        let place = |error| codec::error(&self.folder, error);
        let versions = memtable.flush_order(self.horizon.durable_line());
        let stream = versions.map(|(key, version)| Ok(codec::encode(key, version)));
        if let Some((tables, _)) = self.lsm.flush_to_tables(stream).map_err(place)? {
            self.lsm
                .register_tables(&tables, None, None, &[], SEQNO_BASE)
                .map_err(place)?;
        }
        self.install(Some(memtable.id));
        memtable.release();
        Ok(())
    }

    /// Shows the newest files, in place of a memtable that is in them now.
    fn install(&self, flushed: Option<u64>) {
        let (version, runs) = runs(&self.lsm);
        let _change = self.change.lock();
        let mut next = View::clone(&self.view.load());
        // Flush and compaction may come here in either order: the newer list holds both.
        if version >= next.version {
            let stay: HashSet<u64> = tables(&runs).map(Table::id).collect();
            let gone = tables(&next.runs).filter(|table| !stay.contains(&table.id()));
            let mut replaced = self.replaced.lock();
            replaced.retain(|file| file.exists());
            replaced.extend(gone.map(|table| table.path.clone()));
            (next.version, next.runs) = (version, runs);
        }
        next.sealed.retain(|memtable| Some(memtable.id) != flushed);
        self.view.store(Arc::new(next));
    }

    /// Are files that were replaced still on the disk? Waits a moment for point reads to let go.
    fn holds_replaced(&self) -> bool {
        folder::is_held(|| {
            let mut replaced = self.replaced.lock();
            replaced.retain(|file| file.exists());
            !replaced.is_empty()
        })
    }

    /// Whether level 0 is so full that a flush should wait for a compaction.
    pub fn is_crowded(&self) -> bool {
        self.lsm.l0_run_count() > LEVEL_0_RUNS_MAX
    }

    /// One step of compaction; returns whether there may be more to do. None while all files are
    /// rewritten.
    pub fn compact(&self) -> Result<bool> {
        let before = self.lsm.current_version().id();
        let tables = self.lsm.table_count() as u64;
        let full_tables = self.lsm.disk_space().div_ceil(TABLE_BYTES);
        let done = if tables > SMALL_TABLES_MAX + SMALL_TABLES_RATIO * full_tables {
            let Some(_alone) = self.rewriting.try_write() else {
                return Ok(false);
            };
            self.lsm.major_compact(TABLE_BYTES, SEQNO_BASE)
        } else if self.lsm.level_table_count(0).unwrap_or(0) >= LEVEL_0_TABLES
            || self.lsm.level_table_count(0) == Some(0)
        {
            let Some(_step) = self.rewriting.try_read() else {
                return Ok(false);
            };
            self.lsm.compact(Arc::new(Leveled::default()), SEQNO_BASE)
        } else {
            return Ok(false);
        };
        self.finish_compaction(done)?;
        Ok(self.lsm.current_version().id() != before)
    }

    /// Rewrites all files of the tree without erased keys, as [`crate::TableStore::erase`]. All that is
    /// to be rewritten must be flushed.
    pub fn compact_all(&self, erased: &Arc<ErasedKeys>) -> Result<Position> {
        let alone = self.rewriting.write();
        self.erasing.begin(erased);
        let done = self.finish_compaction(self.lsm.major_compact(TABLE_BYTES, SEQNO_BASE));
        let line = self.erasing.end();
        drop(alone);
        done?;
        // What they hold is whatever was there before, be they replaced by this or earlier.
        Ok(match self.holds_replaced() {
            true => Position::ZERO,
            false => line,
        })
    }

    fn finish_compaction(&self, done: lsm_tree::Result<()>) -> Result<()> {
        match done {
            Err(_) if self.stop.load(Ordering::Relaxed) => return Ok(()),
            done => done.map_err(|error| codec::error(&self.folder, error))?,
        }
        self.install(None);
        Ok(())
    }

    /// As if a rewrite went on until this is dropped.
    #[cfg(test)]
    pub fn pretend_rewriting(&self) -> parking_lot::RwLockWriteGuard<'_, ()> {
        self.rewriting.write()
    }

    /// Ends a running compaction early: the store closes.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Gives the memory back that only a flush would free: nobody will flush a dropped tree.
    pub fn release_memory(&self) {
        let view = self.view.load();
        view.active.release();
        view.sealed.iter().for_each(|memtable| memtable.release());
    }

    /// Removes the folder as soon as the last scan has ended.
    pub fn remove_when_unused(&self) {
        self.remove.store(true, Ordering::Release);
    }

    /// Bytes on disk.
    pub fn disk_bytes(&self) -> u64 {
        disk_bytes(&self.folder)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if self.remove.load(Ordering::Acquire)
            && let Err(error) = remove_folder(&self.folder)
        {
            // The record still names the folder, so the next open removes it.
            tracing::warn!(folder = %self.folder.display(), %error, "dropped tree not removed");
        }
    }
}

/// lsm-tree leaves temporary files behind when it is killed while it renames one.
fn remove_leftovers(folder: &std::path::Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(".tmp") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn check_sizes(key: &Bytes, value: Option<&Bytes>) -> Result<()> {
    let value_len = value.map_or(0, Bytes::len);
    if key.is_empty() || key.len() > KEY_BYTES_MAX || value_len > VALUE_BYTES_MAX {
        return Err(Error::Store(format!(
            "row of {} key bytes and {value_len} value bytes is outside the limits",
            key.len()
        )));
    }
    Ok(())
}

/// All table files of runs.
fn tables(runs: &[Run]) -> impl Iterator<Item = &Table> {
    runs.iter().flat_map(|run| run.iter())
}

fn runs(lsm: &lsm_tree::Tree) -> (u64, Vec<Run>) {
    let version = lsm.current_version();
    let levels = version.iter_levels().flat_map(|level| level.iter());
    let runs = levels
        .map(|run| Arc::new(run.iter().cloned().collect::<Vec<_>>()))
        .collect();
    (version.id(), runs)
}

/// The hash that the tables' filters want.
pub(super) fn key_hash(key: &[u8]) -> u64 {
    standard_bloom::Builder::get_hash(key)
}

/// The table of a run whose range holds a key.
fn table_of<'a>(run: &'a Run, key: &[u8]) -> Option<&'a Table> {
    let at = run.partition_point(|table| &table.metadata.key_range.max()[..] < key);
    run.get(at)
        .filter(|table| &table.metadata.key_range.min()[..] <= key)
}
