//! The table store on lsm-tree: one tree per table or index, in a folder of its own
//! (`trees/<group>-<number>`, with `.<generation>` when a dropped number is used again).

mod background;
mod catalog;
mod codec;
pub(in crate::store) mod files;
mod garbage;
mod memtable;
mod scan;
pub(super) mod tree;

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use journal::{GroupId, Position};
use lsm_tree::{Cache, DescriptorTable};
use parking_lot::Mutex;

use super::folder::{Folder, sync_folder};
use super::horizon::Horizons;
use super::names::parse_name;
use super::record::Record;
use super::scratch::Scratches;
use super::{
    Checkpoint, Direction, ErasedKeys, GroupCheckpoint, POSITION_MAX, Scan, Scratch, StoreKind,
    StoreOptions, TableStore, TreeId, Versions, Write,
};
use crate::{Error, Result};
use background::Background;
use catalog::{Catalog, DroppedTree};
use tree::{Resources, Tree};

/// The folder of the trees' folders.
const TREES_FOLDER: &str = "trees";

/// The store.
pub(super) struct LsmStore {
    shared: Arc<Shared>,
    background: Background,
}

/// What the store, its background threads and its checkpoints share.
struct Shared {
    folder: Folder,
    options: StoreOptions,
    resources: Resources,
    horizons: Horizons,
    catalog: Catalog,
    scratches: Arc<Scratches>,
    work: background::Work,
    /// Held while a checkpoint is finished; the sequence of the last one that was.
    finishing: Mutex<u64>,
    checkpoints: AtomicU64,
}

impl LsmStore {
    /// Opens the store of a folder.
    pub fn open(dir: &Path, options: StoreOptions) -> Result<LsmStore> {
        let folder = Folder::open(dir, StoreKind::Lsm)?;
        let record = folder.record();
        let resources = Resources {
            cache: Arc::new(Cache::with_capacity_bytes(options.cache_bytes)),
            files: Arc::new(DescriptorTable::new(options.files_max)),
            memory: Arc::default(),
        };
        let horizons = Horizons::new(&record.horizons);
        let trees = folder.path().join(TREES_FOLDER);
        let catalog = Catalog::open(
            trees,
            &record.dropped,
            &horizons,
            &record.horizons,
            &resources,
        )?;
        for (id, tree) in catalog.trees().iter() {
            horizons.of(id.group).found(tree.persisted());
        }
        let scratches = Scratches::new(folder.tmp(), &resources);
        let shared = Arc::new(Shared {
            folder,
            options,
            resources,
            horizons,
            catalog,
            scratches: Arc::new(scratches),
            work: background::Work::default(),
            finishing: Mutex::new(0),
            checkpoints: AtomicU64::new(0),
        });
        let background = Background::start(&shared)?;
        Ok(LsmStore { shared, background })
    }
}

impl LsmStore {
    /// A checkpoint of these groups, whose trees are `of`.
    fn begin(
        &self,
        groups: Vec<GroupCheckpoint>,
        of: impl Fn(TreeId) -> bool,
    ) -> Result<Arc<dyn Checkpoint>> {
        self.shared.work.check()?;
        let mut sealed = Vec::new();
        for (&id, tree) in self.shared.catalog.trees().iter() {
            if let Some(until) = of(id).then(|| tree.rotate()).flatten() {
                sealed.push((id, tree.clone(), until));
            }
        }
        sealed.sort_unstable_by_key(|(id, ..)| *id);
        let mut dropped = self.shared.catalog.dropped();
        dropped.retain(|dropped| of(dropped.id));
        Ok(Arc::new(LsmCheckpoint {
            sequence: self.shared.checkpoints.fetch_add(1, Ordering::Relaxed) + 1,
            groups,
            sealed,
            dropped,
            shared: self.shared.clone(),
        }))
    }
}

impl Shared {
    fn tree_or_create(&self, id: TreeId) -> Result<Arc<Tree>> {
        match self.catalog.get(id) {
            Some(tree) => Ok(tree),
            None => self
                .catalog
                .create(id, &self.horizons, &self.resources, None),
        }
    }

    /// After some writes: flush in the background, or wait while memory is used up.
    fn make_room(&self, id: TreeId, tree: &Tree) -> Result<()> {
        if tree.active_bytes() > self.options.tree_memtable_bytes_max {
            tree.rotate();
            self.work.flush_soon(id);
        }
        let bytes = self.resources.memory.load(Ordering::Relaxed);
        if bytes > self.options.memtable_bytes_max / 2 {
            self.work.relieve();
        }
        if bytes > self.options.memtable_bytes_max {
            self.work.wait_while(|| {
                self.resources.memory.load(Ordering::Relaxed) > self.options.memtable_bytes_max
            })?;
        }
        Ok(())
    }

    /// Flushes a tree's sealed memtables up to one.
    fn flush(&self, id: TreeId, tree: &Tree, until: u64) -> Result<()> {
        self.folder.persist_horizons(&self.horizons)?;
        tree.flush_until(until)?;
        self.work.compact_soon(id);
        self.work.relieved();
        Ok(())
    }
}

impl TableStore for LsmStore {
    fn get(&self, tree: TreeId, key: &[u8], at: Position) -> Result<Option<Bytes>> {
        match self.shared.catalog.trees().get(&tree) {
            Some(tree) => tree.get(key, at),
            None => self.shared.horizons.of(tree.group).check(at).map(|()| None),
        }
    }

    fn scan(
        &self,
        tree: TreeId,
        range: (Bound<Bytes>, Bound<Bytes>),
        at: Position,
        direction: Direction,
    ) -> Result<Scan> {
        match self.shared.catalog.get(tree) {
            Some(tree) => tree.scan(range, at, direction),
            None => {
                self.shared.horizons.of(tree.group).check(at)?;
                Ok(Box::new(std::iter::empty()))
            }
        }
    }

    fn versions(
        &self,
        tree: TreeId,
        range: (Bound<Bytes>, Bound<Bytes>),
        from: Position,
        to: Position,
    ) -> Result<Versions> {
        match self.shared.catalog.get(tree) {
            Some(tree) => tree.versions(range, from, to),
            None => {
                self.shared.horizons.of(tree.group).check(from)?;
                Ok(Box::new(std::iter::empty()))
            }
        }
    }

    fn write(
        &self,
        tree: TreeId,
        position: Position,
        writes: &mut dyn Iterator<Item = Write>,
    ) -> Result<()> {
        self.shared.work.check()?;
        if position > POSITION_MAX {
            return Err(Error::Store(format!(
                "position {position} is beyond the last one"
            )));
        }
        let (id, tree) = (tree, self.shared.tree_or_create(tree)?);
        loop {
            let more = tree.write(position, writes)?;
            self.shared.make_room(id, &tree)?;
            if !more {
                return Ok(());
            }
        }
    }

    fn drop_tree(&self, tree: TreeId) -> Result<()> {
        if let Some(tree) = self.shared.catalog.drop_tree(tree) {
            tree.release_memory();
            self.shared.work.relieved();
        }
        Ok(())
    }

    fn trees(&self) -> Vec<TreeId> {
        let mut ids: Vec<_> = self.shared.catalog.trees().keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    fn memory(&self) -> u64 {
        self.shared.resources.memory.load(Ordering::Relaxed)
    }

    fn begin_checkpoint(&self, groups: Vec<GroupCheckpoint>) -> Result<Arc<dyn Checkpoint>> {
        self.begin(groups, |_| true)
    }

    fn begin_checkpoint_of(&self, group: GroupCheckpoint) -> Result<Arc<dyn Checkpoint>> {
        let id = group.group;
        self.begin(vec![group], |tree| tree.group == id)
    }

    fn checkpoint(&self) -> Vec<GroupCheckpoint> {
        self.shared.folder.checkpoint()
    }

    fn persisted(&self, group: GroupId) -> Position {
        self.shared.horizons.of(group).persisted()
    }

    fn set_horizon(&self, group: GroupId, horizon: Position) {
        self.shared.horizons.of(group).advance(horizon);
    }

    fn keep(&self, tree: TreeId, from: Option<Position>) -> Result<()> {
        self.shared.work.check()?;
        match (self.shared.catalog.get(tree), from) {
            (Some(tree), from) => tree.horizon.keep(from),
            (None, Some(_)) => {
                let Shared {
                    catalog, horizons, ..
                } = &*self.shared;
                catalog.create(tree, horizons, &self.shared.resources, from)?;
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn kept(&self, tree: TreeId) -> Position {
        match self.shared.catalog.get(tree) {
            Some(tree) => tree.horizon.get(),
            None => self.horizon(tree.group),
        }
    }

    fn refuse_below(&self, group: GroupId, position: Position) {
        self.shared.horizons.of(group).refuse(position);
    }

    fn forget(&self, group: GroupId) {
        self.shared.horizons.forget(group);
    }

    fn horizon(&self, group: GroupId) -> Position {
        self.shared.horizons.of(group).get()
    }

    fn erase(&self, tree: TreeId, erased: &Arc<ErasedKeys>) -> Result<Position> {
        self.shared.work.check()?;
        let Some((id, tree)) = self.shared.catalog.get(tree).map(|found| (tree, found)) else {
            return Ok(Position::MAX);
        };
        let done = (|| {
            if let Some(until) = tree.rotate() {
                self.shared.flush(id, &tree, until)?;
            }
            self.shared.folder.persist_horizons(&self.shared.horizons)?;
            let line = tree.compact_all(erased)?;
            // What has come meanwhile was not compacted.
            self.shared.work.compact_soon(id);
            Ok(line)
        })();
        done.inspect_err(|error| self.shared.work.fail(error))
    }

    fn has_dropped(&self, group: GroupId) -> bool {
        let Shared {
            catalog, folder, ..
        } = &*self.shared;
        let mut waiting = catalog.dropped().into_iter();
        let names = catalog.still_on_disk(&folder.record().dropped);
        let mut held = names.iter().filter_map(|name| parse_name(name));
        waiting.any(|dropped| dropped.id.group == group) || held.any(|(id, _)| id.group == group)
    }

    fn scratch(&self) -> Result<Box<dyn Scratch>> {
        self.shared.scratches.create()
    }

    fn disk_bytes(&self, tree: TreeId) -> u64 {
        self.shared
            .catalog
            .get(tree)
            .map_or(0, |tree| tree.disk_bytes())
    }
}

impl Drop for LsmStore {
    fn drop(&mut self) {
        for tree in self.shared.catalog.trees().values() {
            tree.stop();
        }
        self.background.stop(&self.shared);
    }
}

/// A begun checkpoint.
struct LsmCheckpoint {
    sequence: u64,
    groups: Vec<GroupCheckpoint>,
    sealed: Vec<(TreeId, Arc<Tree>, u64)>,
    dropped: Vec<Arc<DroppedTree>>,
    shared: Arc<Shared>,
}

impl Checkpoint for LsmCheckpoint {
    fn finish(&self) -> Result<()> {
        self.shared.work.check()?;
        let done = self.write();
        done.inspect_err(|error| self.shared.work.fail(error))
    }
}

impl LsmCheckpoint {
    fn write(&self) -> Result<()> {
        let mut finished = self.shared.finishing.lock();
        if *finished >= self.sequence {
            return Ok(());
        }
        for (id, tree, until) in &self.sealed {
            self.shared.flush(*id, tree, *until)?;
        }
        // The trees' own folders and files are durable; their names in the parent follow here.
        sync_folder(&self.shared.catalog.folder)?;
        self.shared
            .folder
            .update(&self.shared.horizons, |record: &mut Record| {
                for checkpoint in &self.groups {
                    record.groups.insert(checkpoint.group, checkpoint.clone());
                }
                record.dropped = self.shared.catalog.still_on_disk(&record.dropped);
                record
                    .dropped
                    .extend(self.dropped.iter().map(|dropped| dropped.name.clone()));
            })?;
        *finished = self.sequence;
        self.shared.catalog.remove_dropped(&self.dropped);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The node has one thread that flushes, and while it waits all groups' entries do.
    #[test]
    fn a_flush_waits_for_no_rewrite() {
        let dir = tempfile::tempdir().unwrap();
        let store = LsmStore::open(dir.path(), StoreOptions::default()).unwrap();
        let id = TreeId {
            group: GroupId(1),
            number: 7,
        };
        let put = |at: u64| {
            let row = (Bytes::from_static(b"k"), Some(Bytes::from_static(b"v")));
            let written = store.write(id, Position(at), &mut std::iter::once(row));
            written.unwrap();
        };
        put(1);
        let tree = store.shared.catalog.get(id).unwrap();
        let rewriting = tree.pretend_rewriting();
        let mut at = 1;
        while !tree.is_crowded() {
            at += 1;
            put(at);
            let until = tree.rotate().unwrap();
            store.shared.flush(id, &tree, until).unwrap();
        }
        assert!(!tree.compact().unwrap(), "that would wait");
        put(at + 1);
        tree.rotate().unwrap();
        background::flush_tree(&store.shared, id).unwrap();
        assert!(tree.view().sealed.is_empty());
        drop(rewriting);
        store.erase(id, &Arc::default()).unwrap();
        assert!(!tree.is_crowded());
    }
}
