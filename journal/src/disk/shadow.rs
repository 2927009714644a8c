//! Real files that are never written: what a writer changes stays in memory. So a stopped node's
//! journal can be opened, recovered and read while every byte on the disk stays as it was found.

use std::collections::BTreeMap;
use std::fs::{self, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, File, Lock, Open, RealDisk};

/// The unit in which changes are kept.
const PAGE_BYTES: u64 = 4096;

/// The machine's file system for reading, memory for writing. Clones share both, and a lock.
#[derive(Clone, Default)]
pub struct ShadowDisk(Arc<Mutex<Shadows>>);

#[derive(Default)]
struct Shadows {
    /// Files that were opened, made or renamed; `None` = removed.
    files: BTreeMap<PathBuf, Option<Arc<ShadowFile>>>,
    locks: BTreeMap<PathBuf, Arc<fs::File>>,
}

/// A file: what was changed in memory, the rest on the disk.
struct ShadowFile {
    base: Option<fs::File>,
    changed: Mutex<Changed>,
}

struct Changed {
    bytes: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl ShadowDisk {
    /// Nothing is changed yet.
    pub fn new() -> ShadowDisk {
        ShadowDisk::default()
    }
}

impl Shadows {
    fn find(&mut self, path: &Path) -> io::Result<Arc<ShadowFile>> {
        if let Some(known) = self.files.get(path) {
            return known.clone().ok_or_else(|| io::ErrorKind::NotFound.into());
        }
        let base = fs::File::open(path)?;
        let bytes = base.metadata()?.len();
        let file = Arc::new(ShadowFile::new(Some(base), bytes));
        self.files.insert(path.into(), Some(file.clone()));
        Ok(file)
    }
}

impl Disk for ShadowDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let mut shadows = self.0.lock();
        let found = shadows.find(path);
        if how != Open::Create {
            return Ok(found?);
        }
        match found {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = Arc::new(ShadowFile::new(None, 0));
                shadows.files.insert(path.into(), Some(file.clone()));
                Ok(file)
            }
            Err(error) => Err(error),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = RealDisk.list(dir)?;
        for (path, file) in &self.0.lock().files {
            let (Some(name), true) = (path.file_name(), path.parent() == Some(dir)) else {
                continue;
            };
            let name = name.to_string_lossy().into_owned();
            names.retain(|known| *known != name);
            if file.is_some() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut shadows = self.0.lock();
        let file = shadows.find(from)?;
        shadows.files.insert(from.into(), None);
        shadows.files.insert(to.into(), Some(file));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut shadows = self.0.lock();
        shadows.find(path)?;
        shadows.files.insert(path.into(), None);
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Locks against other processes without making the file: where there is none, nobody has
    /// the folder open.
    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let mut shadows = self.0.lock();
        if let Some(held) = shadows.locks.get(path) {
            return Ok(Box::new(held.clone()));
        }
        let file = match fs::File::open(path) {
            Ok(file) => Arc::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Box::new(())),
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        shadows.locks.insert(path.into(), file.clone());
        Ok(Box::new(file))
    }
}

impl ShadowFile {
    fn new(base: Option<fs::File>, bytes: u64) -> ShadowFile {
        let pages = BTreeMap::new();
        ShadowFile {
            base,
            changed: Mutex::new(Changed { bytes, pages }),
        }
    }

    /// Bytes of the disk; zeros behind its end.
    fn read_base(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        if let Some(base) = &self.base {
            done = super::read_at(base, buffer, offset)?;
        }
        buffer[done..].fill(0);
        Ok(())
    }
}

/// Calls `piece` with each page that a range touches: its number, where the range begins in it,
/// and the part of the range that lies in it.
fn pieces(
    offset: u64,
    length: usize,
    mut piece: impl FnMut(u64, usize, std::ops::Range<usize>) -> io::Result<()>,
) -> io::Result<()> {
    let mut done = 0;
    while done < length {
        let at = offset + done as u64;
        let start = (at % PAGE_BYTES) as usize;
        let end = (done + PAGE_BYTES as usize - start).min(length);
        piece(at / PAGE_BYTES, start, done..end)?;
        done = end;
    }
    Ok(())
}

impl File for ShadowFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let changed = self.changed.lock();
        let length = changed
            .bytes
            .saturating_sub(offset)
            .min(buffer.len() as u64) as usize;
        self.read_base(&mut buffer[..length], offset)?;
        pieces(offset, length, |number, start, range| {
            if let Some(page) = changed.pages.get(&number) {
                let bytes = range.len();
                buffer[range].copy_from_slice(&page[start..start + bytes]);
            }
            Ok(())
        })?;
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut changed = self.changed.lock();
        let Changed { bytes: size, pages } = &mut *changed;
        pieces(offset, bytes.len(), |number, start, range| {
            let page = match pages.entry(number) {
                std::collections::btree_map::Entry::Occupied(page) => page.into_mut(),
                std::collections::btree_map::Entry::Vacant(none) => {
                    let mut page = vec![0; PAGE_BYTES as usize];
                    self.read_base(&mut page, number * PAGE_BYTES)?;
                    none.insert(page)
                }
            };
            page[start..start + range.len()].copy_from_slice(&bytes[range]);
            Ok(())
        })?;
        *size = (*size).max(offset + bytes.len() as u64);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.changed.lock().bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_the_files_stay() {
        let folder = tempfile::TempDir::new().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        let content: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
        fs::write(&old, &content).unwrap();
        let disk = ShadowDisk::new();
        let file = disk.open(&old, Open::Write).unwrap();
        // Over the border of a page, and beyond the end.
        file.write_at(&[255; 200], 4000).unwrap();
        file.write_at(b"end", 12_000).unwrap();
        let mut expected = content.clone();
        expected[4000..4200].fill(255);
        expected.resize(12_000, 0);
        expected.extend(b"end");
        let mut found = vec![1; 20_000];
        let again = disk.open(&old, Open::Read).unwrap();
        assert_eq!(again.read_at(&mut found, 0).unwrap(), 12_003);
        assert_eq!(&found[..12_003], expected);
        assert_eq!(again.read_at(&mut found, 12_003).unwrap(), 0);

        disk.rename(&old, &new).unwrap();
        disk.open(&folder.path().join("made"), Open::Create)
            .unwrap();
        assert_eq!(disk.list(folder.path()).unwrap(), ["made", "new"]);
        assert!(disk.open(&new, Open::Create).is_err());
        disk.remove(&new).unwrap();
        assert!(disk.open(&old, Open::Read).is_err());

        assert_eq!(fs::read(&old).unwrap(), content);
        assert_eq!(RealDisk.list(folder.path()).unwrap(), ["old"]);
    }

    #[test]
    fn it_waits_for_no_lock_and_takes_its_own_twice() {
        let folder = tempfile::TempDir::new().unwrap();
        let lock = folder.path().join("lock");
        let disk = ShadowDisk::new();
        assert!(disk.lock(&lock).is_ok() && !lock.exists());
        let held = RealDisk.lock(&lock).unwrap();
        assert_eq!(
            disk.lock(&lock).err().unwrap().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(held);
        let first = disk.lock(&lock).unwrap();
        assert!(disk.lock(&lock).is_ok());
        assert!(RealDisk.lock(&lock).is_err());
        drop((first, disk));
        assert!(RealDisk.lock(&lock).is_ok());
    }
}
