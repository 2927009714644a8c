//! The table store's contract: trees of keys with versions by position, checkpoints with the
//! applied position inside. The journal is the WAL; nothing here is synced per commit.
//!
//! ```text
//! horizon <= applied, checkpoint <= applied ; reads at p need horizon <= p <= applied
//! ```

mod failure;
mod folder;
mod horizon;
mod lsm;
mod names;
mod range;
mod record;
mod scratch;
mod shadow;
mod sled;
mod versions;

use std::collections::HashMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use journal::{GroupId, Index, Position, Term};

pub use lsm::files::{TableFile, table_files};
pub use shadow::shadow;

use crate::Result;

/// A tree: the rows of one table or the entries of one index. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeId {
    /// The group whose entries write this tree.
    pub group: GroupId,
    /// Numbered within the group; below [`TreeId::SYSTEM_MAX`] are the system trees.
    pub number: u32,
}

impl TreeId {
    /// Tree numbers up to here belong to the system (catalog, outcomes, ...).
    pub const SYSTEM_MAX: u32 = 999;
}

/// How far a group's entries are contained in the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Raft term of the last applied entry.
    pub term: Term,
    /// Raft index of the last applied entry.
    pub index: Index,
    /// Position of the last applied transaction (0 when only Raft's own entries came so far).
    pub position: Position,
}

/// What a checkpoint says of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupCheckpoint {
    /// The group.
    pub group: GroupId,
    /// Everything up to here is in the trees' files.
    pub applied: Applied,
    /// State that Raft wants to find again (last membership); opaque here.
    pub raft: Bytes,
}

/// The longest key. An empty key is refused too.
pub const KEY_BYTES_MAX: usize = 60_000;

/// The longest value: a transaction's limit is below it.
pub const VALUE_BYTES_MAX: usize = (1 << 31) - 1;

/// The greatest position that can be written: 18 minutes before the end of positions, for the
/// sake of stores that number their own files in the same space. Reads may ask for any position.
pub const POSITION_MAX: Position = Position(Position::MAX.0 - (1 << 40) - 1);

/// One write: `None` deletes.
pub type Write = (Bytes, Option<Bytes>);

/// Keys of erased rows, each with the position of its removal.
pub type ErasedKeys = HashMap<Bytes, Position>;

/// Key and value in key order.
pub type Scan = Box<dyn Iterator<Item = Result<(Bytes, Bytes)>> + Send>;

/// A row as it was from a position on, up to its next version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowVersion {
    /// Its key.
    pub key: Bytes,
    /// Where it was written.
    pub position: Position,
    /// What was; `None`: it was deleted.
    pub value: Option<Bytes>,
}

/// By key in key order, and of each key from the oldest to the newest.
pub type Versions = Box<dyn Iterator<Item = Result<RowVersion>> + Send>;

/// The direction of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Ascending keys.
    Forward,
    /// Descending keys.
    Backward,
}

/// Trees of versioned keys. Two implementations, one conformance suite.
///
/// Contract:
/// - `write` is called by one thread per group, positions never decrease within a group (but from
///   key to key in a tree that is new, while what it had elsewhere is put into it); the same (key, position) may be written again after a restart and must then change nothing.
///   Many keys of a tree may be written at one position, in any number of calls; one key at one
///   position always with the same value (an entry holds one net change per row).
/// - What was written at p is seen by reads at any q >= p at once, and by no read at q < p.
/// - Reads never block writes for long and the other way round; a `Scan` sees one position,
///   whatever is written, checkpointed, dropped or declared old while it runs: an open scan
///   holds back the removal of old versions of its group.
/// - After a crash the trees hold everything up to the last completed checkpoint and any part
///   of what came later; the caller replays the journal from there, and serves reads only at
///   positions >= [`TableStore::persisted`] of the group.
/// - A read below the horizon is refused with `Error::TooOld`, never answered wrongly. The
///   horizon outlives a restart: it is durable before the first version is removed under it.
/// - After the first failed write to disk, writes and checkpoints fail with its reason.
pub trait TableStore: Send + Sync {
    /// The newest value of `key` at or below `at`.
    fn get(&self, tree: TreeId, key: &[u8], at: Position) -> Result<Option<Bytes>>;

    /// The keys of a range as of `at`. An unknown tree is empty.
    fn scan(
        &self,
        tree: TreeId,
        range: (Bound<Bytes>, Bound<Bytes>),
        at: Position,
        direction: Direction,
    ) -> Result<Scan>;

    /// All versions that reads at `from` up to `to` find: of each key the one that `from` finds,
    /// and those written behind it. Both positions as for a scan.
    fn versions(
        &self,
        tree: TreeId,
        range: (Bound<Bytes>, Bound<Bytes>),
        from: Position,
        to: Position,
    ) -> Result<Versions>;

    /// Writes versions at `position`; creates the tree if need be. Memory speed, no fsync
    /// (but for a tree's creation); waits for the disk only when
    /// [`StoreOptions::memtable_bytes_max`] is used up.
    fn write(
        &self,
        tree: TreeId,
        position: Position,
        writes: &mut dyn Iterator<Item = Write>,
    ) -> Result<()>;

    /// Drops a tree (its table or index is gone as of an applied entry). Open scans finish;
    /// the files leave the disk at the latest with the next checkpoint after them. Idempotent.
    fn drop_tree(&self, tree: TreeId) -> Result<()>;

    /// All existing trees, in order.
    fn trees(&self) -> Vec<TreeId>;

    /// Bytes in memory that only a checkpoint would free.
    fn memory(&self) -> u64;

    /// First half of a checkpoint: called while nothing is being applied; fast. Marks what the
    /// checkpoint will contain (rotates memtables).
    fn begin_checkpoint(&self, groups: Vec<GroupCheckpoint>) -> Result<Arc<dyn Checkpoint>>;

    /// The same of one group alone: its trees and what was dropped of them. What the last
    /// checkpoint says of the others still holds.
    fn begin_checkpoint_of(&self, group: GroupCheckpoint) -> Result<Arc<dyn Checkpoint>>;

    /// The last completed checkpoint.
    fn checkpoint(&self) -> Vec<GroupCheckpoint>;

    /// No reads of the group are served until replay has *completed* the entry at this
    /// position: files hold a part of it, or versions below it are gone.
    fn persisted(&self, group: GroupId) -> Position;

    /// Versions that only reads below `horizon` would need may be dropped. Never goes back.
    /// Must not pass the group's applied position.
    fn set_horizon(&self, group: GroupId, horizon: Position);

    /// What a tree keeps beyond the group's horizon, its history: versions that reads at or above
    /// `from` need stay, however far the group's horizon moves, and these reads are served. `None`:
    /// it goes with the group. `from` moves forward only, and what is gone stays refused; but a tree
    /// that does not exist is created, and keeps exactly that. Outlives a restart as the horizon
    /// does. To be called before the group's horizon moves beyond `from`.
    fn keep(&self, tree: TreeId, from: Option<Position>) -> Result<()>;

    /// The oldest position at which a tree can be read: the group's horizon, or what it keeps.
    fn kept(&self, tree: TreeId) -> Position;

    /// Refuses reads below `position` from now on, as the horizon does, but only until the store
    /// is closed or the group's horizon has come there: all of the group is about to be replaced as of
    /// there, and if that is cut off, the next start finds what was there before.
    fn refuse_below(&self, group: GroupId, position: Position);

    /// The group is gone and all its trees are dropped: if it comes again, it begins at position
    /// zero, and neither horizon nor [`TableStore::persisted`] is what it was.
    fn forget(&self, group: GroupId);

    /// The current horizon.
    fn horizon(&self, group: GroupId) -> Position;

    /// Rewrites a tree so that none of its files holds a version that only reads below the
    /// horizon would need: what was deleted before the horizon has left the disk when this
    /// returns (for erase; takes as long as copying the tree). Scans that are open meanwhile
    /// keep what they read until they end. Answers how far: versions that only reads below that
    /// position need are gone from the disk. Below the horizon if a scan was open that may need what
    /// is left, and zero while one, at whatever position, reads files that were replaced.
    fn purge(&self, tree: TreeId) -> Result<Position> {
        self.erase(tree, &Arc::default())
    }

    /// The same, and of these keys what stood there before their removal goes also from what the
    /// tree keeps beyond the horizon: reads below find nothing there, those that are under way
    /// perhaps still the row. A removal above the horizon has to wait.
    fn erase(&self, tree: TreeId, erased: &Arc<ErasedKeys>) -> Result<Position>;

    /// Is something of the group on the disk that belongs to trees that were dropped? Until the
    /// checkpoint after the drop, and until the last scan of it has ended.
    fn has_dropped(&self, group: GroupId) -> bool;

    /// A private tree for one large transaction, in a folder for temporary files that is
    /// emptied on open. Dropping it removes its files.
    fn scratch(&self) -> Result<Box<dyn Scratch>>;

    /// Disk bytes per tree, for the views.
    fn disk_bytes(&self, tree: TreeId) -> u64;
}

/// The second half of a checkpoint.
pub trait Checkpoint: Send + Sync {
    /// Flushes and fsyncs the trees, then writes the checkpoint record durably as the last
    /// step. May take seconds; applies and reads go on.
    fn finish(&self) -> Result<()>;
}

/// A private ordered map on disk without versions.
pub trait Scratch: Send + Sync {
    /// Sets a key.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()>;
    /// Forgets a key.
    fn remove(&mut self, key: &[u8]) -> Result<()>;
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>>;
    /// The keys of a range.
    fn scan(&self, range: (Bound<Bytes>, Bound<Bytes>), direction: Direction) -> Result<Scan>;
}

/// Which implementation holds the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// lsm-tree, the default.
    Lsm,
    /// sled.
    Sled,
}

impl StoreKind {
    /// The name in the command line and in errors.
    pub fn name(self) -> &'static str {
        match self {
            StoreKind::Lsm => "lsm",
            StoreKind::Sled => "sled",
        }
    }
}

/// The store's limits.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Bytes of table blocks cached in memory, over all trees.
    pub cache_bytes: u64,
    /// Bytes of unflushed writes over all trees: flushing begins at half of it, at all of it
    /// writers wait for the disk.
    pub memtable_bytes_max: u64,
    /// Bytes of unflushed writes of one tree before they are flushed in the background.
    pub tree_memtable_bytes_max: u64,
    /// Open table files, over all trees.
    pub files_max: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            cache_bytes: 256 << 20,
            memtable_bytes_max: 64 << 20,
            tree_memtable_bytes_max: 16 << 20,
            files_max: 512,
        }
    }
}

/// Which implementation the tables in `dir` belong to; `None` if there are none yet. Reads one
/// file, takes no lock and writes nothing. Errors: `Corrupt`, `Format`, `Disk`.
pub fn kind_of(dir: &Path) -> Result<Option<StoreKind>> {
    Ok(folder::read(dir)?.map(|record| record.kind))
}

/// The last completed checkpoint of the tables in `dir`, by group; empty if there is none yet.
/// Reads one file, takes no lock and writes nothing. Errors: `Corrupt`, `Format`, `Disk`.
pub fn read_checkpoint(dir: &Path) -> Result<Vec<GroupCheckpoint>> {
    let groups = folder::read(dir)?.map(|record| record.groups);
    Ok(groups.unwrap_or_default().into_values().collect())
}

/// Opens the tables in `dir`, creating them in an empty folder. The folder remembers its kind
/// and is locked while it is open; the other kind or a second opener gets `Error::Format`.
pub fn open(kind: StoreKind, dir: &Path, options: StoreOptions) -> Result<Arc<dyn TableStore>> {
    Ok(match kind {
        StoreKind::Lsm => Arc::new(lsm::LsmStore::open(dir, options)?),
        StoreKind::Sled => Arc::new(sled::SledStore::open(dir, options)?),
    })
}
