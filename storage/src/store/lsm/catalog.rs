//! The trees that exist: found by id without a lock, created with their folders, dropped in two
//! steps so that a crash before the checkpoint finds them again.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::hash::{BuildHasherDefault, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use journal::Position;
use parking_lot::Mutex;

use super::super::folder::{remove_folder, sync_folder};
use super::super::horizon::{Horizons, Recorded};
use super::super::names::{format_name, parse_name};
use super::tree::{Resources, Tree};
use crate::store::TreeId;
use crate::{Error, Result};

/// A hash for two small integers; the map's order is never shown.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u32(byte.into()));
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0.rotate_left(29) ^ u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

pub(super) type Trees = HashMap<TreeId, Arc<Tree>, BuildHasherDefault<IdHasher>>;

/// All trees of a store.
pub(super) struct Catalog {
    /// The folder that holds one folder per tree.
    pub folder: PathBuf,
    trees: ArcSwap<Trees>,
    /// Dropped since the last checkpoint; locked while a tree is created or dropped.
    dropped: Mutex<Vec<Arc<DroppedTree>>>,
}

/// A tree that is gone, with its files still there until the checkpoint that contains its drop.
pub(super) struct DroppedTree {
    /// What it was.
    pub id: TreeId,
    /// Its folder's name.
    pub name: String,
    tree: Mutex<Option<Arc<Tree>>>,
}

impl Catalog {
    /// Opens all trees of a folder, and removes what the record calls dropped.
    ///
    /// Of several generations of a number the oldest that is not dropped is the one that the
    /// checkpoint saw; younger ones come from after it, and the replay creates them again.
    pub fn open(
        folder: PathBuf,
        dropped: &[String],
        horizons: &Horizons,
        recorded: &Recorded,
        resources: &Resources,
    ) -> Result<Catalog> {
        fs::create_dir_all(&folder)?;
        let mut found: BTreeMap<TreeId, BTreeMap<u32, String>> = BTreeMap::new();
        for entry in fs::read_dir(&folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if dropped.contains(&name) {
                remove_folder(&folder.join(name))?;
                continue;
            }
            let (id, generation) = parse_name(&name).ok_or_else(|| Error::Corrupt {
                place: folder.display().to_string(),
                what: format!("folder \"{name}\" is not a tree"),
            })?;
            found.entry(id).or_default().insert(generation, name);
        }
        let mut trees = Trees::default();
        for (id, generations) in found {
            let mut generations = generations.into_iter();
            if let Some((generation, name)) = generations.next() {
                let horizon = horizons.of_tree(id, generation, Some(recorded));
                let tree = Tree::open(folder.join(name), horizon, resources)?;
                trees.insert(id, Arc::new(tree));
            }
            for (_, name) in generations {
                remove_folder(&folder.join(name))?;
            }
        }
        sync_folder(&folder)?;
        Ok(Catalog {
            folder,
            trees: ArcSwap::from_pointee(trees),
            dropped: Mutex::default(),
        })
    }

    /// All trees, without a lock.
    pub fn trees(&self) -> Guard<Arc<Trees>> {
        self.trees.load()
    }

    /// One tree.
    pub fn get(&self, id: TreeId) -> Option<Arc<Tree>> {
        self.trees.load().get(&id).cloned()
    }

    /// Creates a tree, unless it exists; what it keeps, if that is not the group's.
    pub fn create(
        &self,
        id: TreeId,
        horizons: &Horizons,
        resources: &Resources,
        keep: Option<Position>,
    ) -> Result<Arc<Tree>> {
        let _creating = self.dropped.lock();
        if let Some(tree) = self.get(id) {
            return Ok(tree);
        }
        let generation = self.next_generation(id)?;
        let path = self.folder.join(format_name(id, generation));
        let horizon = horizons.of_tree(id, generation, None);
        if let Some(from) = keep {
            horizon.begin(from);
        }
        let tree = Arc::new(Tree::open(path, horizon, resources)?);
        let mut trees = Trees::clone(&self.trees.load());
        trees.insert(id, tree.clone());
        self.trees.store(Arc::new(trees));
        Ok(tree)
    }

    /// Behind all generations that are on disk: after a crash the oldest is taken.
    fn next_generation(&self, id: TreeId) -> Result<u32> {
        let mut next = 0;
        for entry in fs::read_dir(&self.folder)? {
            match parse_name(&entry?.file_name().to_string_lossy()) {
                Some((found, generation)) if found == id => next = next.max(generation + 1),
                _ => {}
            }
        }
        Ok(next)
    }

    /// Takes a tree out, keeping its files; `None` if there is none.
    pub fn drop_tree(&self, id: TreeId) -> Option<Arc<Tree>> {
        let mut dropped = self.dropped.lock();
        let mut trees = Trees::clone(&self.trees.load());
        let tree = trees.remove(&id)?;
        self.trees.store(Arc::new(trees));
        let name = tree
            .folder
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        dropped.push(Arc::new(DroppedTree {
            id,
            name: name.unwrap_or_default(),
            tree: Mutex::new(Some(tree.clone())),
        }));
        Some(tree)
    }

    /// What has been dropped and not yet been removed by a checkpoint.
    pub fn dropped(&self) -> Vec<Arc<DroppedTree>> {
        self.dropped.lock().clone()
    }

    /// After the record that names them is durable: lets go of dropped trees. Each folder goes
    /// with the last scan of its tree.
    pub fn remove_dropped(&self, gone: &[Arc<DroppedTree>]) {
        self.dropped
            .lock()
            .retain(|dropped| !gone.iter().any(|g| Arc::ptr_eq(g, dropped)));
        for dropped in gone {
            if let Some(tree) = dropped.tree.lock().take() {
                tree.stop();
                tree.remove_when_unused();
            }
        }
    }

    /// Of the folders that an earlier record calls dropped, those that scans still hold. A name
    /// that a living tree has taken over is none of them: its folder was gone before.
    pub fn still_on_disk(&self, dropped: &[String]) -> Vec<String> {
        let trees = self.trees.load();
        let held = |name: &&String| {
            let path = self.folder.join(name);
            path.exists() && trees.values().all(|tree| tree.folder != path)
        };
        dropped.iter().filter(held).cloned().collect()
    }
}
