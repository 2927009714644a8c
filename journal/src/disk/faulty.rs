//! A disk that fails on purpose: at the n-th call, for want of space, by dying, or by losing what
//! it said was synced.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, File, Lock, MemoryDisk, Open};

/// A memory disk with faults. Clones share it. Calls are numbered from 1; every call of `Disk` and
/// `File` counts, so a test can first count the calls of a run and then fail each of them.
#[derive(Clone, Default)]
pub struct FaultyDisk {
    memory: MemoryDisk,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Default)]
struct Faults {
    calls: u64,
    /// This call fails once.
    fail_at: Option<(u64, io::ErrorKind)>,
    /// From this call on nothing works; if it is a write, half of it is done.
    crash_at: Option<u64>,
    /// Bytes that may still be written.
    space: Option<u64>,
    /// Syncs answer well and do nothing.
    syncs_lost: bool,
}

/// What becomes of one call.
enum Fate {
    Works,
    Fails(io::Error),
    /// A write of which only a part is done before the error.
    Halves(io::Error),
}

impl FaultyDisk {
    /// Faults over the given disk.
    pub fn new(memory: MemoryDisk) -> FaultyDisk {
        FaultyDisk {
            memory,
            faults: Arc::default(),
        }
    }

    /// The disk below.
    pub fn memory(&self) -> &MemoryDisk {
        &self.memory
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.faults.lock().calls
    }

    /// The call of this number fails with this kind of error (a write is half done).
    pub fn fail_at(&self, call: u64, kind: io::ErrorKind) {
        self.faults.lock().fail_at = Some((call, kind));
    }

    /// The machine dies in the call of this number: it and all later ones fail.
    pub fn crash_at(&self, call: u64) {
        self.faults.lock().crash_at = Some(call);
    }

    /// Only so many bytes can still be written (ENOSPC afterwards).
    pub fn limit_space(&self, bytes: u64) {
        self.faults.lock().space = Some(bytes);
    }

    /// From now on syncs of files answer well and do nothing.
    pub fn lose_syncs(&self) {
        self.faults.lock().syncs_lost = true;
    }

    fn fate(&self, written: usize) -> Fate {
        let mut faults = self.faults.lock();
        faults.calls += 1;
        let call = faults.calls;
        if faults.crash_at.is_some_and(|at| call >= at) {
            let dead = io::Error::other("the machine has crashed");
            let now = faults.crash_at == Some(call);
            return if now {
                Fate::Halves(dead)
            } else {
                Fate::Fails(dead)
            };
        }
        if let Some((_, kind)) = faults.fail_at.filter(|(at, _)| *at == call) {
            return Fate::Halves(kind.into());
        }
        if let Some(space) = &mut faults.space {
            match space.checked_sub(written as u64) {
                Some(rest) => *space = rest,
                None => return Fate::Halves(io::ErrorKind::StorageFull.into()),
            }
        }
        Fate::Works
    }

    fn plain(&self) -> io::Result<()> {
        match self.fate(0) {
            Fate::Works => Ok(()),
            Fate::Fails(e) | Fate::Halves(e) => Err(e),
        }
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        self.plain()?;
        let file = self.memory.open(path, how)?;
        Ok(Arc::new(FaultyFile {
            disk: self.clone(),
            file,
        }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.plain()?;
        self.memory.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.plain()?;
        self.memory.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.plain()?;
        self.memory.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.plain()?;
        self.memory.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        self.plain()?;
        self.memory.lock(path)
    }
}

struct FaultyFile {
    disk: FaultyDisk,
    file: Arc<dyn File>,
}

impl File for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.plain()?;
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.disk.fate(bytes.len()) {
            Fate::Works => self.file.write_at(bytes, offset),
            Fate::Fails(e) => Err(e),
            Fate::Halves(e) => {
                self.file.write_at(&bytes[..bytes.len() / 2], offset)?;
                Err(e)
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.plain()?;
        if self.disk.faults.lock().syncs_lost {
            return Ok(());
        }
        self.file.sync()
    }

    fn size(&self) -> io::Result<u64> {
        self.disk.plain()?;
        self.file.size()
    }
}
