//! One generation of sled's files, with what sled leaves to its user: syncing them, removing
//! half-written snapshots before it opens, and removing old versions.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use journal::Position;
use sled::{Batch, Tree};

use super::super::folder::{remove_folder, sync_folder};
use super::keys::{self, TreePrefix};
use super::trees::{SledTree, Trees};
use crate::store::{ErasedKeys, TreeId, Write};
use crate::{Error, Result, RowVersion};

/// The folder of all generations.
const SLED_FOLDER: &str = "sled";

/// Stored versions that one checkpoint looks at for old ones.
const SWEEP_VERSIONS_MAX: usize = 50_000;

/// How long an open waits for sled's threads to let go of the files of the same process's last
/// handle: the folder's own lock is ours already.
const OPEN_ATTEMPTS_MAX: u32 = 1000;
const OPEN_PAUSE: Duration = Duration::from_millis(10);

/// Changes of one batch in a sweep or a copy.
const BATCH_CHANGES_MAX: usize = 1024;

/// An open generation.
pub(super) struct Database {
    pub folder: PathBuf,
    // Taken out on drop, so that sled is closed when the files are removed.
    open: Option<(sled::Db, Tree)>,
    remove: AtomicBool,
    removals: AtomicU64,
}

impl Database {
    /// Opens a generation and removes the others: what a crash left of a rewrite.
    pub fn open(store: &Path, generation: u32, cache_bytes: u64) -> Result<Database> {
        let all = store.join(SLED_FOLDER);
        let folder = all.join(generation.to_string());
        fs::create_dir_all(&all)?;
        let current = generation.to_string();
        for entry in fs::read_dir(&all)? {
            let name = entry?.file_name();
            // While a rewrite runs, or scans go on, generations before are still open.
            if name != *current && !is_open(&all.join(&name)) {
                remove_folder(&all.join(name))?;
            }
        }
        fs::create_dir_all(&folder)?;
        remove_half_snapshots(&folder)?;
        keep_order_of_writes(&folder);
        let config = sled::Config::new()
            .path(&folder)
            .cache_capacity(cache_bytes)
            // Nothing needs to be in the files before a checkpoint.
            .flush_every_ms(None);
        let db = open_patiently(&config)?;
        let rows = Tree::clone(&db);
        sync_folder(&all)?;
        sync_folder(store)?;
        Ok(Database {
            folder,
            open: Some((db, rows)),
            remove: AtomicBool::new(false),
            removals: AtomicU64::new(0),
        })
    }

    /// The map.
    pub fn rows(&self) -> &Tree {
        &self.open.as_ref().expect("open until dropped").1
    }

    /// Counts batches that removed old versions, each before it is applied. sled's iterators keep
    /// the node that they are in: a backward scan could find an old version in it and miss the
    /// deletion above, removed together with it from another node. So it looks again when this
    /// has changed.
    pub fn removals(&self) -> u64 {
        self.removals.load(Ordering::SeqCst)
    }

    fn apply_removals(&self, batch: Batch) -> Result<()> {
        self.removals.fetch_add(1, Ordering::SeqCst);
        self.rows().apply_batch(batch).map_err(error)
    }

    /// The newest version of a key at or below a position.
    pub fn find(&self, tree: TreePrefix, key: &[u8], at: Position) -> Result<Option<RowVersion>> {
        let row = tree.row(key);
        let newest = keys::version(&row, at);
        let found = self.rows().range(newest..=keys::oldest(row)).next();
        let found = found.transpose().map_err(error)?;
        found
            .map(|(key, value)| keys::row(&key, &value))
            .transpose()
    }

    /// Writes rows at a position as one batch, and removes versions of them below the line.
    pub fn write(
        &self,
        tree: &SledTree,
        position: Position,
        rows: &[Write],
        line: Position,
    ) -> Result<()> {
        let (mut batch, mut removed) = (Batch::default(), false);
        for (key, value) in rows {
            let row = tree.prefix.row(key);
            if line > Position::ZERO {
                removed |= self.remove_old(&mut batch, &row, line)?;
            }
            batch.insert(
                keys::version(&row, position),
                keys::encode_value(value.as_ref()),
            );
        }
        if removed {
            return self.apply_removals(batch);
        }
        self.rows().apply_batch(batch).map_err(error)
    }

    fn remove_old(&self, batch: &mut Batch, row: &[u8], line: Position) -> Result<bool> {
        let covered = keys::version(row, line)..=keys::oldest(row.to_vec());
        let mut removed = false;
        for (at, item) in self.rows().range(covered).enumerate() {
            let (key, value) = item.map_err(error)?;
            // The first one covers the rest; if it is a deletion, nothing is as good as it.
            if at > 0 || keys::decode_value(&value).is_none() {
                batch.remove(key);
                removed = true;
            }
        }
        Ok(removed)
    }

    /// Removes old versions from a part of the map, beginning at a key; returns where the next
    /// sweep begins.
    pub fn sweep(&self, trees: &Trees, from: Vec<u8>) -> Result<Vec<u8>> {
        let from = from.max(keys::rows_begin());
        let end = keys::rows_end();
        let mut garbage = Garbage::new(trees);
        let (mut batch, mut changes, mut last) = (Batch::default(), 0, None);
        for item in self
            .rows()
            .range(from.clone()..end)
            .take(SWEEP_VERSIONS_MAX)
        {
            let (key, value) = item.map_err(error)?;
            if !garbage.keeps(&key, &value) {
                batch.remove(&key);
                changes += 1;
            }
            last = Some(key);
            if changes == BATCH_CHANGES_MAX {
                self.apply_removals(std::mem::take(&mut batch))?;
                changes = 0;
            }
        }
        if changes > 0 {
            self.apply_removals(batch)?;
        }
        if garbage.seen < SWEEP_VERSIONS_MAX {
            return Ok(Vec::new());
        }
        // Versions of the last row may continue, so the next sweep begins with that row; unless
        // it did already, and all of them are too new.
        let row = last
            .as_deref()
            .and_then(keys::split)
            .map(|(row, _)| row.to_vec());
        Ok(row
            .map(|row| if row == from { keys::oldest(row) } else { row })
            .unwrap_or_default())
    }

    /// Copies all that lives into an empty database; of a tree what is not erased. Answers that
    /// tree's group's line.
    pub fn copy_into(
        &self,
        new: &Database,
        trees: &Trees,
        tree: TreeId,
        erased: &ErasedKeys,
    ) -> Result<Position> {
        let mut garbage = Garbage::new(trees);
        garbage.erased = Some((tree, erased));
        let (mut batch, mut changes) = (Batch::default(), 0);
        for item in self.rows().iter() {
            let (key, value) = item.map_err(error)?;
            if garbage.keeps(&key, &value) {
                batch.insert(key, value);
                changes += 1;
            }
            if changes == BATCH_CHANGES_MAX {
                new.rows()
                    .apply_batch(std::mem::take(&mut batch))
                    .map_err(error)?;
                changes = 0;
            }
        }
        new.rows().apply_batch(batch).map_err(error)?;
        Ok(garbage.group_line)
    }

    /// Removes all keys of a tree.
    pub fn remove_tree(&self, tree: TreePrefix) -> Result<()> {
        loop {
            let (mut batch, mut changes) = (Batch::default(), 0);
            let keys = self.rows().range(tree.marker()..tree.end()).keys();
            for key in keys.take(BATCH_CHANGES_MAX) {
                batch.remove(key.map_err(error)?);
                changes += 1;
            }
            if changes == 0 {
                return Ok(());
            }
            self.rows().apply_batch(batch).map_err(error)?;
        }
    }

    /// Hands what is buffered to the files.
    pub fn flush(&self) -> Result<()> {
        self.rows().flush().map_err(error).map(|_| ())
    }

    /// Makes everything written so far durable.
    pub fn sync(&self) -> Result<()> {
        self.flush()?;
        sync_all(&self.folder)
    }

    /// Are there files of other generations?
    pub fn has_others(&self) -> Result<bool> {
        let all = self.folder.parent().expect("it lies in the folder of all");
        for entry in fs::read_dir(all)? {
            if Some(&*entry?.file_name()) != self.folder.file_name() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes the files once nothing reads them.
    pub fn remove_when_unused(&self) {
        self.remove.store(true, Ordering::Release);
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.open = None;
        if self.remove.load(Ordering::Acquire)
            && let Err(error) = remove_folder(&self.folder)
        {
            // The next open removes what is not the record's generation.
            tracing::warn!(folder = %self.folder.display(), %error, "old files not removed");
        }
    }
}

/// Decides over versions in stored order: newest first within a row.
struct Garbage<'a> {
    trees: &'a Trees,
    tree: Option<(TreePrefix, Position)>,
    row: Vec<u8>,
    /// The line of the present row.
    covers: Position,
    covered: bool,
    seen: usize,
    /// Keys of a tree that are erased.
    erased: Option<(TreeId, &'a ErasedKeys)>,
    /// The line of that tree's group, and its horizon.
    group_line: Position,
    horizon: Position,
}

impl Garbage<'_> {
    fn new(trees: &Trees) -> Garbage<'_> {
        Garbage {
            trees,
            tree: None,
            row: Vec::new(),
            covers: Position::ZERO,
            covered: false,
            seen: 0,
            erased: None,
            group_line: Position::MAX,
            horizon: Position::ZERO,
        }
    }

    fn keeps(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.seen += 1;
        let (Some(prefix), Some((row, position))) = (TreePrefix::of(key), keys::split(key)) else {
            return true;
        };
        let line = match self.tree {
            Some((tree, line)) if tree == prefix => line,
            _ => {
                let mut line = self.trees.line(prefix);
                if self.erased.is_some_and(|(tree, _)| tree == prefix.id) {
                    let (group, horizon) = self.trees.of_group(prefix.id);
                    (self.group_line, self.horizon) = (self.group_line.min(group), horizon);
                    line = line.min(group);
                }
                self.tree = Some((prefix, line));
                line
            }
        };
        if row != self.row {
            self.row = row.to_vec();
            self.covered = false;
            self.covers = line.max(self.removed(prefix, row));
        } else if self.covered {
            return false;
        }
        self.covered = position <= self.covers;
        !(self.covered && keys::decode_value(value).is_none())
    }
}

impl Garbage<'_> {
    /// Where the row was removed, if it is erased. Removals above the horizon have to wait.
    fn removed(&self, prefix: TreePrefix, row: &[u8]) -> Position {
        let Some((tree, erased)) = self.erased.filter(|(_, erased)| !erased.is_empty()) else {
            return Position::ZERO;
        };
        let removed = (tree == prefix.id).then(|| erased.get(&keys::key(row)).copied());
        let removed = removed.flatten().filter(|removed| *removed <= self.horizon);
        removed.unwrap_or_default()
    }
}

fn open_patiently(config: &sled::Config) -> Result<sled::Db> {
    for _ in 0..OPEN_ATTEMPTS_MAX {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("acquire lock") => {
                std::thread::sleep(OPEN_PAUSE);
            }
            opened => return opened.map_err(error),
        }
    }
    config.open().map_err(error)
}

/// Whether another handle of this process has the database open: sled holds a lock on it.
fn is_open(folder: &Path) -> bool {
    File::open(folder.join("db")).is_ok_and(|file| file.try_lock().is_err())
}

/// sled writes over segments whose content it has moved elsewhere, without a sync in between:
/// after a power cut both may be gone, whatever a checkpoint has synced before (seen in 2 of 60
/// simulated cuts). With the inode flag for synchronous writes, which new files inherit from the
/// folder, its writes reach the disk one after the other. sled writes whole buffers, so it costs
/// little. A file system without the flag leaves this risk.
fn keep_order_of_writes(folder: &Path) {
    let set = |path: &Path| -> rustix::io::Result<()> {
        let file = File::open(path).map_err(|_| rustix::io::Errno::IO)?;
        let flags = rustix::fs::ioctl_getflags(&file)?;
        let wanted = flags | rustix::fs::IFlags::SYNC | rustix::fs::IFlags::DIRSYNC;
        if wanted == flags {
            Ok(())
        } else {
            rustix::fs::ioctl_setflags(&file, wanted)
        }
    };
    if let Err(error) = set(folder) {
        let folder = folder.display();
        tracing::warn!(%folder, %error, "no synchronous writes: a power cut may damage sled's files");
    }
}

/// A crash while sled writes a snapshot leaves a file that keeps it from opening ever again.
fn remove_half_snapshots(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn sync_all(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
            continue;
        }
        match File::open(entry.path()) {
            Ok(file) => file.sync_all()?,
            // sled removes old snapshots whenever it likes.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    sync_folder(folder)
}

/// What the caller does next with an error of sled.
pub(super) fn error(error: sled::Error) -> Error {
    match error {
        sled::Error::Io(error) => Error::Disk(error),
        sled::Error::Corruption { .. } => corrupt(&error.to_string()),
        other => Error::Store(other.to_string()),
    }
}

/// Bytes in sled's map that are not what was written.
pub(super) fn corrupt(what: &str) -> Error {
    Error::Corrupt {
        place: "sled".into(),
        what: what.into(),
    }
}
