//! The machine's disk with a watch on its fsyncs.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use journal::{Disk, File, Lock, Open, RealDisk};
use sql::meter::Latencies;

/// The machine's file system; how long the fsyncs of files take that records are written to is
/// counted (a file that is made is filled with zeros beside that).
pub struct TimedDisk(pub Arc<Latencies>);

impl Disk for TimedDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let file = RealDisk.open(path, how)?;
        match how {
            Open::Read | Open::Create => Ok(file),
            Open::Write => Ok(Arc::new(TimedFile {
                file,
                fsyncs: self.0.clone(),
            })),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        RealDisk.lock(path)
    }
}

struct TimedFile {
    file: Arc<dyn File>,
    fsyncs: Arc<Latencies>,
}

impl File for TimedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        let begun = Instant::now();
        self.file.sync()?;
        let micros = begun.elapsed().as_micros();
        self.fsyncs.note(u64::try_from(micros).unwrap_or(u64::MAX));
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
}
