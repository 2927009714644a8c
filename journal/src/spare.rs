//! The next segment's file: full of zeros and synced before it is needed, because an fsync into a
//! written file costs less than one that grows it.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{File, Open};
use crate::journal::Shared;
use crate::{Error, Result};

/// A file of zeros, ready to become a segment.
pub(crate) const SPARE: &str = "spare";
/// Not yet full of zeros.
pub(crate) const UNFINISHED: &str = "spare.new";
/// Zeros are written in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

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
    let _one = shared.spare.lock();
    make(shared)?;
    rename(shared, &path(shared), name)?;
    sync_dir(shared)
}

/// Makes a retired segment's file the spare one, or removes it.
pub(crate) fn retire(shared: &Shared, retired: &Path) -> Result<()> {
    let _one = shared.spare.lock();
    if exists(shared)? {
        remove(shared, retired)?;
        return sync_dir(shared);
    }
    rename(shared, retired, &shared.dir.join(UNFINISHED))?;
    sync_dir(shared)?;
    let unfinished = shared.dir.join(UNFINISHED);
    let file = shared.disk.open(&unfinished, Open::Write);
    finish(
        shared,
        &*file.map_err(|e| Error::io("open", &unfinished, e))?,
    )
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

/// Fills the file with zeros and names it.
fn finish(shared: &Shared, file: &dyn File) -> Result<()> {
    let unfinished = shared.dir.join(UNFINISHED);
    let size = file.size().map_err(|e| Error::io("read", &unfinished, e))?;
    let bytes = size.max(shared.options.segment_bytes);
    let zeros = vec![0; PIECE_BYTES.min(bytes as usize)];
    let mut at = 0;
    while at < bytes {
        let piece = &zeros[..zeros.len().min((bytes - at) as usize)];
        file.write_at(piece, at)
            .map_err(|e| Error::io("write", &unfinished, e))?;
        at += piece.len() as u64;
    }
    file.sync().map_err(|e| Error::io("sync", &unfinished, e))?;
    rename(shared, &unfinished, &path(shared))?;
    sync_dir(shared)
}
