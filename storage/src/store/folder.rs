//! The store's folder: locked while open, with the checkpoint record as its one durable switch
//! and a `tmp` folder that is emptied on open.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;

use super::horizon::Horizons;
use super::record::Record;
use super::{GroupCheckpoint, StoreKind};
use crate::{Error, Result};

const RECORD_FILE: &str = "checkpoint";
const RECORD_FILE_NEW: &str = "checkpoint.new";
const LOCK_FILE: &str = "lock";
/// The folder that is emptied on open.
pub(super) const TMP_FOLDER: &str = "tmp";

/// How long files that were replaced are waited for, while point reads let go of them. A scan that
/// holds one goes on for longer than that.
const HELD_LOOKS_MAX: u32 = 100;
const HELD_PAUSE: Duration = Duration::from_millis(10);

/// An open folder.
pub(super) struct Folder {
    path: PathBuf,
    record: Mutex<Record>,
    _lock: File,
}

impl Folder {
    /// Locks the folder, creating it if need be, reads its record and empties `tmp`.
    pub fn open(path: &Path, kind: StoreKind) -> Result<Folder> {
        fs::create_dir_all(path)?;
        let lock = File::create(path.join(LOCK_FILE))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Format(format!(
                    "tables in {} are in use by another process",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let record = read_or_create(path, kind)?;
        let tmp = path.join(TMP_FOLDER);
        remove_folder(&tmp)?;
        fs::create_dir(&tmp)?;
        Ok(Folder {
            path: path.into(),
            record: Mutex::new(record),
            _lock: lock,
        })
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where temporary files go.
    pub fn tmp(&self) -> PathBuf {
        self.path.join(TMP_FOLDER)
    }

    /// A copy of the last durable record.
    pub fn record(&self) -> Record {
        self.record.lock().clone()
    }

    /// The checkpoints of the last durable record.
    pub fn checkpoint(&self) -> Vec<GroupCheckpoint> {
        self.record.lock().groups.values().cloned().collect()
    }

    /// Changes the record durably and marks the group horizons in it as durable.
    pub fn update(&self, horizons: &Horizons, change: impl FnOnce(&mut Record)) -> Result<()> {
        let mut record = self.record.lock();
        let mut next = record.clone();
        next.horizons = horizons.current();
        change(&mut next);
        next.sequence += 1;
        write_record(&self.path, &next)?;
        horizons.mark_durable(&next.horizons);
        *record = next;
        Ok(())
    }

    /// Makes the horizons durable, if one has moved: to be called between the last use of a
    /// horizon in memory and the flush or compaction that removes versions by it.
    pub fn persist_horizons(&self, horizons: &Horizons) -> Result<()> {
        if self.record.lock().horizons == horizons.current() {
            return Ok(());
        }
        self.update(horizons, |_| {})
    }
}

/// The record of a folder; `None` if there is none. Writes nothing.
pub(super) fn read(path: &Path) -> Result<Option<Record>> {
    let file = path.join(RECORD_FILE);
    match fs::read(&file) {
        Ok(bytes) => Record::decode(&bytes, &file.display().to_string()).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn read_or_create(path: &Path, kind: StoreKind) -> Result<Record> {
    let file = path.join(RECORD_FILE);
    if let Some(record) = read(path)? {
        if record.kind != kind {
            return Err(Error::Format(format!(
                "tables in {} belong to the table store \"{}\", not \"{}\"",
                path.display(),
                record.kind.name(),
                kind.name()
            )));
        }
        return Ok(record);
    }
    // The record is written before anything else, so data without it is damage.
    for data in ["trees", "sled"] {
        if path.join(data).exists() {
            return Err(Error::Corrupt {
                place: file.display().to_string(),
                what: "the checkpoint record is missing".into(),
            });
        }
    }
    let record = Record::new(kind);
    write_record(path, &record)?;
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        sync_folder(parent)?;
    }
    Ok(record)
}

/// New name, fsync, rename, fsync of the folder: after a power cut there is the old or the new.
fn write_record(path: &Path, record: &Record) -> Result<()> {
    let new = path.join(RECORD_FILE_NEW);
    let mut file = File::create(&new)?;
    file.write_all(&record.encode())?;
    file.sync_all()?;
    fs::rename(&new, path.join(RECORD_FILE))?;
    sync_folder(path)
}

/// Makes names created in and removed from a folder durable.
pub(super) fn sync_folder(path: &Path) -> Result<()> {
    Ok(File::open(path)?.sync_all()?)
}

/// Does somebody hold what was replaced, for longer than a moment?
pub(super) fn is_held(held: impl Fn() -> bool) -> bool {
    for _ in 0..HELD_LOOKS_MAX {
        if !held() {
            return false;
        }
        std::thread::sleep(HELD_PAUSE);
    }
    held()
}

/// Removes a folder and all in it; one that is not there is fine.
pub(super) fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Bytes of all files below a path; what vanishes meanwhile counts nothing.
pub(super) fn disk_bytes(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}
