//! A disk in memory that knows what was synced: after a crash everything else is lost, whole or
//! torn, as a seed decides.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, File, Lock, Open};

/// The unit that a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

/// A disk in memory. Clones share it.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<Volume>>);

#[derive(Default)]
struct Volume {
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names since the last `sync_dir`, in order.
    renames: Vec<NameChange>,
    files: BTreeMap<u64, Content>,
    next_file: u64,
    locks: BTreeSet<PathBuf>,
}

#[derive(Clone)]
enum NameChange {
    Create(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            NameChange::Create(path, file) => {
                names.insert(path.clone(), *file);
            }
            NameChange::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            NameChange::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

#[derive(Clone, Default)]
struct Content {
    current: Vec<u8>,
    durable: Vec<u8>,
    /// Writes since the last sync, in order.
    unsynced: Vec<(u64, Vec<u8>)>,
}

/// Writes into a buffer as into a file: growing it with zeros.
fn put(buffer: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let start = offset as usize;
    if buffer.len() < start + bytes.len() {
        buffer.resize(start + bytes.len(), 0);
    }
    buffer[start..start + bytes.len()].copy_from_slice(bytes);
}

/// A small generator (splitmix64): the same seed tears the same bytes on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }
}

impl Content {
    /// What is found after a crash: for each file nothing, all, or any sectors of what was not
    /// synced, one of them cut in the middle now and then.
    fn after_crash(&self, dice: &mut Dice) -> Vec<u8> {
        let mut found = self.durable.clone();
        let mood = dice.roll(4);
        for (offset, bytes) in &self.unsynced {
            let mut at = 0;
            while at < bytes.len() {
                let room = SECTOR_BYTES - (*offset as usize + at) % SECTOR_BYTES;
                let piece = &bytes[at..(at + room).min(bytes.len())];
                let kept = match mood {
                    0 => 0,
                    1 => piece.len(),
                    _ => match dice.roll(8) {
                        0..=2 => 0,
                        3 => dice.roll(piece.len() as u64 + 1) as usize,
                        _ => piece.len(),
                    },
                };
                put(&mut found, *offset + at as u64, &piece[..kept]);
                at += piece.len();
            }
        }
        found
    }
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    /// The disk as it is found after the power went: synced bytes and names are there; of the rest
    /// the seed chooses. Handles of the old disk do not reach the new one.
    pub fn after_crash(&self, seed: u64) -> MemoryDisk {
        let volume = self.0.lock();
        let mut dice = Dice(seed);
        // Names go through a file system's own journal: a prefix of the changes survives.
        let mut names = volume.durable_names.clone();
        let kept = dice.roll(volume.renames.len() as u64 + 1) as usize;
        volume.renames[..kept]
            .iter()
            .for_each(|change| change.apply(&mut names));
        let files = volume
            .files
            .iter()
            .map(|(id, content)| {
                let found = content.after_crash(&mut dice);
                (
                    *id,
                    Content {
                        current: found.clone(),
                        durable: found,
                        unsynced: Vec::new(),
                    },
                )
            })
            .collect();
        MemoryDisk(Arc::new(Mutex::new(Volume {
            durable_names: names.clone(),
            names,
            renames: Vec::new(),
            files,
            next_file: volume.next_file,
            locks: BTreeSet::new(),
        })))
    }

    /// An independent copy of the disk as it is now, everything synced: what a later process sees
    /// after kill -9.
    pub fn copy(&self) -> MemoryDisk {
        let volume = self.0.lock();
        let files = volume
            .files
            .iter()
            .map(|(id, c)| {
                let (current, durable) = (c.current.clone(), c.current.clone());
                (
                    *id,
                    Content {
                        current,
                        durable,
                        unsynced: Vec::new(),
                    },
                )
            })
            .collect();
        MemoryDisk(Arc::new(Mutex::new(Volume {
            names: volume.names.clone(),
            durable_names: volume.names.clone(),
            renames: Vec::new(),
            files,
            next_file: volume.next_file,
            locks: BTreeSet::new(),
        })))
    }

    /// The bytes of a file, if there is one.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let volume = self.0.lock();
        let file = volume.names.get(path)?;
        Some(volume.files[file].current.clone())
    }

    /// Changes the bytes of a file behind everyone's back, durably: bit flips, truncation.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut volume = self.0.lock();
        let Some(file) = volume.names.get(path).copied() else {
            return;
        };
        let content = volume.files.get_mut(&file).expect("a name has its file");
        change(&mut content.current);
        content.durable = content.current.clone();
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let mut volume = self.0.lock();
        let id = match (volume.names.get(path).copied(), how) {
            (Some(_), Open::Create) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(id), _) => id,
            (None, Open::Create) => {
                let id = volume.next_file;
                volume.next_file += 1;
                volume.files.insert(id, Content::default());
                volume.names.insert(path.to_owned(), id);
                volume.renames.push(NameChange::Create(path.to_owned(), id));
                id
            }
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(MemoryFile {
            volume: self.0.clone(),
            id,
        }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let volume = self.0.lock();
        let inside = volume
            .names
            .keys()
            .filter(|path| path.parent() == Some(dir));
        let names = inside.filter_map(|path| path.file_name());
        Ok(names
            .map(|name| name.to_string_lossy().into_owned())
            .collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut volume = self.0.lock();
        if !volume.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        change.apply(&mut volume.names);
        volume.renames.push(change);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut volume = self.0.lock();
        if !volume.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let change = NameChange::Remove(path.to_owned());
        change.apply(&mut volume.names);
        volume.renames.push(change);
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut volume = self.0.lock();
        volume.durable_names = volume.names.clone();
        volume.renames.clear();
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        if !self.0.lock().locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemoryLock {
            volume: self.0.clone(),
            path: path.to_owned(),
        }))
    }
}

struct MemoryLock {
    volume: Arc<Mutex<Volume>>,
    path: PathBuf,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.volume.lock().locks.remove(&self.path);
    }
}

struct MemoryFile {
    volume: Arc<Mutex<Volume>>,
    id: u64,
}

impl MemoryFile {
    fn with<T>(&self, f: impl FnOnce(&mut Content) -> T) -> T {
        f(self
            .volume
            .lock()
            .files
            .get_mut(&self.id)
            .expect("files are kept"))
    }
}

impl File for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|content| {
            let rest = content.current.get(offset as usize..).unwrap_or_default();
            let n = rest.len().min(buffer.len());
            buffer[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|content| {
            put(&mut content.current, offset, bytes);
            content.unsynced.push((offset, bytes.to_vec()));
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|content| {
            for (offset, bytes) in std::mem::take(&mut content.unsynced) {
                put(&mut content.durable, offset, &bytes);
            }
            Ok(())
        })
    }

    fn size(&self) -> io::Result<u64> {
        self.with(|content| Ok(content.current.len() as u64))
    }
}
