//! The trees in sled's map, and those dropped whose keys are still there.

use std::collections::BTreeMap;
use std::sync::Arc;

use journal::Position;
use parking_lot::{Mutex, RwLock};

use super::super::horizon::{Horizons, Recorded, TreeHorizon};
use super::super::names::{format_name, parse_name};
use super::database::{Database, corrupt, error};
use super::keys::{self, TreePrefix};
use crate::Result;
use crate::store::TreeId;

/// A tree; open scans hold it.
pub(super) struct SledTree {
    pub prefix: TreePrefix,
    pub horizon: Arc<TreeHorizon>,
}

/// A tree that is gone, with its keys still there until a checkpoint contains the drop and no
/// scan is open.
pub(super) struct DroppedTree(Arc<SledTree>);

impl DroppedTree {
    /// What it was.
    pub fn id(&self) -> TreeId {
        self.0.prefix.id
    }

    /// Its name in the record.
    pub fn name(&self) -> String {
        format_name(self.0.prefix.id, self.0.prefix.generation)
    }
}

/// All trees of a store.
pub(super) struct Trees {
    living: RwLock<BTreeMap<TreeId, Arc<SledTree>>>,
    /// Dropped since the last checkpoint.
    dropped: Mutex<Vec<Arc<DroppedTree>>>,
    /// Dropped as of the last checkpoint.
    condemned: Mutex<Vec<Arc<DroppedTree>>>,
}

impl Trees {
    /// Finds all trees, and removes what the record calls dropped. Of several generations the
    /// oldest is the checkpoint's; the replay makes the others again.
    pub fn open(
        database: &Database,
        dropped: &[String],
        horizons: &Horizons,
        recorded: &Recorded,
    ) -> Result<Trees> {
        for name in dropped {
            let (id, generation) = parse_name(name).ok_or_else(|| corrupt("name of a tree"))?;
            database.remove_tree(TreePrefix { id, generation })?;
        }
        let mut living = BTreeMap::new();
        let mut from = keys::rows_begin();
        while let Some(found) = database.rows().range(from..keys::rows_end()).next() {
            let (key, _) = found.map_err(error)?;
            let prefix = TreePrefix::of(&key).ok_or_else(|| corrupt("key without a tree"))?;
            from = prefix.end();
            if living.contains_key(&prefix.id) {
                database.remove_tree(prefix)?;
                continue;
            }
            let horizon = horizons.of_tree(prefix.id, prefix.generation, Some(recorded));
            living.insert(prefix.id, Arc::new(SledTree { prefix, horizon }));
        }
        let (dropped, condemned) = (Mutex::default(), Mutex::default());
        Ok(Trees {
            living: RwLock::new(living),
            dropped,
            condemned,
        })
    }

    /// One tree.
    pub fn get(&self, id: TreeId) -> Option<Arc<SledTree>> {
        self.living.read().get(&id).cloned()
    }

    /// All ids, in order.
    pub fn ids(&self) -> Vec<TreeId> {
        self.living.read().keys().copied().collect()
    }

    /// Creates a tree in the generation behind all that are there, unless it exists; what it keeps,
    /// if that is not the group's.
    pub fn create(
        &self,
        id: TreeId,
        database: &Database,
        horizons: &Horizons,
        keep: Option<Position>,
    ) -> Result<Arc<SledTree>> {
        let mut living = self.living.write();
        if let Some(tree) = living.get(&id) {
            return Ok(tree.clone());
        }
        let behind = TreePrefix {
            id,
            generation: u32::MAX,
        }
        .end();
        let first = TreePrefix { id, generation: 0 }.marker();
        let last = database
            .rows()
            .range(first..behind)
            .next_back()
            .transpose()
            .map_err(error)?;
        let last = last.and_then(|(key, _)| TreePrefix::of(&key));
        let generation = last.map_or(0, |prefix| prefix.generation + 1);
        let prefix = TreePrefix { id, generation };
        database
            .rows()
            .insert(prefix.marker(), &[])
            .map_err(error)?;
        let horizon = horizons.of_tree(id, generation, None);
        if let Some(from) = keep {
            horizon.begin(from);
        }
        let tree = Arc::new(SledTree { prefix, horizon });
        living.insert(id, tree.clone());
        Ok(tree)
    }

    /// Takes a tree out, keeping its keys.
    pub fn drop_tree(&self, id: TreeId) {
        if let Some(tree) = self.living.write().remove(&id) {
            self.dropped.lock().push(Arc::new(DroppedTree(tree)));
        }
    }

    /// What has been dropped since the last checkpoint.
    pub fn dropped(&self) -> Vec<Arc<DroppedTree>> {
        self.dropped.lock().clone()
    }

    /// What earlier checkpoints call dropped and is still there.
    pub fn condemned(&self) -> Vec<Arc<DroppedTree>> {
        self.condemned.lock().clone()
    }

    /// After the record that names them is durable.
    pub fn condemn(&self, trees: &[Arc<DroppedTree>]) {
        self.dropped
            .lock()
            .retain(|dropped| !trees.iter().any(|t| Arc::ptr_eq(t, dropped)));
        self.condemned.lock().extend(trees.iter().cloned());
    }

    /// Removes the keys of condemned trees that no scan reads.
    pub fn remove_condemned(&self, database: &Database) -> Result<()> {
        let mut condemned = self.condemned.lock();
        let mut held = Vec::new();
        for dropped in condemned.drain(..) {
            if Arc::strong_count(&dropped.0) > 1 {
                held.push(dropped);
            } else {
                database.remove_tree(dropped.0.prefix)?;
            }
        }
        *condemned = held;
        Ok(())
    }

    /// Versions at or below this cover the older ones, in the files of a tree. What is dropped
    /// stays as it is: scans may be open, and it goes as a whole.
    pub fn line(&self, prefix: TreePrefix) -> Position {
        match self.get(prefix.id) {
            Some(tree) if tree.prefix == prefix => tree.horizon.durable_line(),
            _ => Position::ZERO,
        }
    }

    /// What a tree's group keeps and where its horizon is: its durable line, and the horizon.
    pub fn of_group(&self, tree: TreeId) -> (Position, Position) {
        self.get(tree).map_or_else(Default::default, |tree| {
            let group = tree.horizon.group();
            (group.durable_line(), group.get())
        })
    }
}
