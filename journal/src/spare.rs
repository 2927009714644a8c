//! The next segment's file: full of zeros and synced before it is needed, because an fsync into a
//! written file costs less than one that grows it. It is filled while records are being written that
//! somebody waits for, so no faster than it is needed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use crate::disk::{File, Open};
use crate::journal::Shared;
use crate::{Error, Result};

/// A file of zeros, ready to become a segment.
pub(crate) const SPARE: &str = "spare";
/// Not yet full of zeros.
pub(crate) const UNFINISHED: &str = "spare.new";
/// Zeros are written in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;
/// The file is filled so many times as fast as the segment before it.
const AHEAD: u64 = 2;
/// Between two looks at how far that segment is.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Looks between two pieces: where nothing is written it is there within ten seconds.
const LOOKS_MAX: u32 = 15;

/// What decides how fast the file is filled.
#[derive(Default)]
pub(crate) struct Need {
    /// Bytes of the segment that is being written.
    written: AtomicU64,
    /// Somebody waits for the file.
    now: AtomicBool,
    /// Nobody will.
    ended: AtomicBool,
}

impl Need {
    /// So much of the segment is written.
    pub fn note(&self, written: u64) {
        self.written.store(written, Ordering::Relaxed);
    }

    /// The file is waited for from now on.
    pub fn hurry(&self) {
        self.now.store(true, Ordering::Release);
    }

    /// The journal ends: what is not filled yet is not needed.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// It is the segment that is being written, and another one is needed when it is full.
    fn taken(&self) {
        self.note(0);
        self.now.store(false, Ordering::Release);
    }

    /// Has a file time of which so much is filled?
    fn has_time(&self, filled: u64) -> bool {
        let written = self.written.load(Ordering::Relaxed);
        let waited_for = self.now.load(Ordering::Acquire) || self.has_ended();
        !waited_for && filled > AHEAD.saturating_mul(written)
    }
}

fn path(shared: &Shared) -> PathBuf {
    shared.dir.join(SPARE)
}

fn exists(shared: &Shared) -> Result<bool> {
    let names = shared.disk.list(&shared.dir);
    let names = names.map_err(|e| Error::io("list", &shared.dir, e))?;
    Ok(names.iter().any(|name| name == SPARE))
}

pub(crate) fn sync_dir(shared: &Shared) -> Result<()> {
    shared
        .disk
        .sync_dir(&shared.dir)
        .map_err(|e| Error::io("sync", &shared.dir, e))
}

pub(crate) fn rename(shared: &Shared, from: &Path, to: &Path) -> Result<()> {
    shared
        .disk
        .rename(from, to)
        .map_err(|e| Error::io("rename", from, e))
}

pub(crate) fn remove(shared: &Shared, path: &Path) -> Result<()> {
    shared
        .disk
        .remove(path)
        .map_err(|e| Error::io("remove", path, e))
}

/// Sees to it that there is a spare file.
pub(crate) fn ensure(shared: &Shared) -> Result<()> {
    let _one = shared.spare.lock();
    make(shared)
}

/// Gives the spare file the name of a segment, durably.
pub(crate) fn take(shared: &Shared, name: &Path) -> Result<()> {
    shared.need.hurry();
    let _one = shared.spare.lock();
    make(shared)?;
    rename(shared, &path(shared), name)?;
    sync_dir(shared)?;
    shared.need.taken();
    Ok(())
}

fn make(shared: &Shared) -> Result<()> {
    if exists(shared)? {
        return Ok(());
    }
    let unfinished = shared.dir.join(UNFINISHED);
    let file = match shared.disk.open(&unfinished, Open::Create) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            shared.disk.open(&unfinished, Open::Write)
        }
        file => file,
    };
    finish(
        shared,
        &*file.map_err(|e| Error::io("create", &unfinished, e))?,
    )
}

/// Fills the file with zeros and names it, unless the journal ends meanwhile.
fn finish(shared: &Shared, file: &dyn File) -> Result<()> {
    let unfinished = shared.dir.join(UNFINISHED);
    let size = file.size().map_err(|e| Error::io("read", &unfinished, e))?;
    let bytes = size.max(shared.options.segment_bytes);
    let zeros = vec![0; PIECE_BYTES.min(bytes as usize)];
    let mut at = 0;
    while at < bytes {
        if shared.need.has_ended() {
            return Ok(());
        }
        let piece = &zeros[..zeros.len().min((bytes - at) as usize)];
        file.write_at(piece, at)
            .map_err(|e| Error::io("write", &unfinished, e))?;
        at += piece.len() as u64;
        if at < bytes && shared.need.has_time(at) {
            // Little by little: an fsync of all of it holds up those of the records.
            file.sync().map_err(|e| Error::io("sync", &unfinished, e))?;
            for _ in 0..LOOKS_MAX {
                sleep(LOOK_EVERY);
                if !shared.need.has_time(at) {
                    break;
                }
            }
        }
    }
    file.sync().map_err(|e| Error::io("sync", &unfinished, e))?;
    rename(shared, &unfinished, &path(shared))?;
    sync_dir(shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_filled_no_faster_than_it_is_needed() {
        let need = Need::default();
        assert!(need.has_time(1), "nothing is written");
        need.note(100);
        assert!(need.has_time(201));
        assert!(!need.has_time(200), "it is as far as it has to be");
        need.note(u64::MAX);
        assert!(!need.has_time(u64::MAX));
        need.note(0);
        need.hurry();
        assert!(!need.has_time(u64::MAX), "it is waited for");
        need.taken();
        assert!(need.has_time(1), "the next one is not");
        need.end();
        assert!(need.has_ended() && !need.has_time(1));
    }
}
