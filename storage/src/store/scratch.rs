//! Private trees of large transactions: the lsm store's tree without versions, in `tmp`.

use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use journal::Position;

use super::lsm::tree::{Resources, Tree};
use super::{Direction, Scan, Scratch};
use crate::Result;

/// Bytes of a scratch tree in memory before they go to its files.
const SCRATCH_MEMTABLE_BYTES_MAX: u64 = 8 << 20;

/// Makes scratch trees.
pub(super) struct Scratches {
    folder: PathBuf,
    resources: Resources,
    created: AtomicU64,
}

impl Scratches {
    /// Scratch trees below a folder that is emptied on open. They share caches with the tables,
    /// and have a bound on memory of their own.
    pub fn new(folder: PathBuf, shared: &Resources) -> Scratches {
        let resources = Resources {
            memory: Arc::default(),
            ..shared.clone()
        };
        Scratches {
            folder,
            resources,
            created: AtomicU64::new(0),
        }
    }

    /// A new, empty one.
    pub fn create(&self) -> Result<Box<dyn Scratch>> {
        let number = self.created.fetch_add(1, Ordering::Relaxed);
        let folder = self.folder.join(number.to_string());
        let tree = Arc::new(Tree::open(folder, Arc::default(), &self.resources)?);
        tree.remove_when_unused();
        Ok(Box::new(TreeScratch {
            tree,
            position: Position::ZERO,
        }))
    }
}

/// Each write has a position of its own, with the horizon close behind: so no old version is
/// kept but for an open scan, which sees the map as it was.
struct TreeScratch {
    tree: Arc<Tree>,
    position: Position,
}

impl TreeScratch {
    fn write(&mut self, key: &[u8], value: Option<Bytes>) -> Result<()> {
        self.position = self.position.next();
        let mut write = std::iter::once((Bytes::copy_from_slice(key), value));
        self.tree.write(self.position, &mut write)?;
        self.tree.horizon.group().advance(self.position);
        if self.tree.active_bytes() > SCRATCH_MEMTABLE_BYTES_MAX {
            self.spill()?;
        }
        Ok(())
    }

    fn spill(&self) -> Result<()> {
        // A scratch tree does not outlive the process, so its horizon is durable as it is.
        self.tree.horizon.assume_durable();
        if let Some(until) = self.tree.rotate() {
            self.tree.flush_until(until)?;
        }
        while self.tree.compact()? {}
        Ok(())
    }
}

impl Scratch for TreeScratch {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(key, Some(Bytes::copy_from_slice(value)))
    }

    fn remove(&mut self, key: &[u8]) -> Result<()> {
        self.write(key, None)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.tree.get(key, self.position)
    }

    fn scan(&self, range: (Bound<Bytes>, Bound<Bytes>), direction: Direction) -> Result<Scan> {
        self.tree.scan(range, self.position, direction)
    }
}
