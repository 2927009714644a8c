//! The table files of a folder, checked without opening the store: which of them the newest
//! manifest of each tree names, and whether their bytes are what was written.
//!
//! A table file is an archive (sfa): sections, their directory, a trailer. All sections but one
//! byte of version are blocks: `"LSM\x03"`, kind u8, checksum u128 of the data, its length u32,
//! its length u32 before compression, and the low half of the header's own checksum, u32. The
//! manifest holds a checksum of each file as a whole; the blocks only say where it is damaged.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

use super::TREES_FOLDER;
use crate::store::folder;
use crate::store::names::parse_name;
use crate::{Error, Result};

const BLOCK_MAGIC: [u8; 4] = *b"LSM\x03";
/// Bytes of a block's header that its own checksum covers.
const BLOCK_COVERED: usize = 29;
const BLOCK_HEADER: usize = BLOCK_COVERED + 4;
/// The section that is no block.
const VERSION_SECTION: &[u8] = b"table_version";
/// Bytes of `current`: version u64, checksum of its file u128, kind of checksum u8.
const CURRENT_BYTES: usize = 25;

/// A table file that the last manifest of its tree names.
#[derive(Clone, Debug)]
pub struct TableFile {
    /// Where it is.
    pub path: PathBuf,
    checksum: u128,
}

/// All table files of the store in `dir`. Errors: `Corrupt`, `Disk`.
pub fn table_files(dir: &Path) -> Result<Vec<TableFile>> {
    let dropped = folder::read(dir)?.map_or_else(Vec::new, |record| record.dropped);
    let trees = match fs::read_dir(dir.join(TREES_FOLDER)) {
        Ok(trees) => trees,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut names = trees
        .map(|tree| Ok(tree?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    names.retain(|name| !dropped.contains(name));
    names.sort_by_key(|name| parse_name(name));
    let mut files = Vec::new();
    for name in names {
        tree_files(&dir.join(TREES_FOLDER).join(name), &mut files)?;
    }
    Ok(files)
}

/// Adds the files of one tree.
fn tree_files(tree: &Path, files: &mut Vec<TableFile>) -> Result<()> {
    let current = tree.join("current");
    let bytes = match fs::read(&current) {
        Ok(bytes) => bytes,
        // The process ended while the tree was made: nothing is in it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if bytes.len() != CURRENT_BYTES {
        return Err(damaged(&current, 0, "it is too short or too long"));
    }
    let mut from = Bytes(&bytes);
    let (version, checksum) = (from.u64(), from.u128());
    let manifest = tree.join(format!("v{}", version.unwrap_or_default()));
    let bytes = fs::read(&manifest)?;
    if Some(xxh3_128(&bytes)) != checksum {
        return Err(damaged(&manifest, 0, "checksum mismatch"));
    }
    let archive = archive(&manifest)?;
    let section = archive.toc().section(b"tables");
    let section = section.and_then(|s| bytes.get(s.pos() as usize..(s.pos() + s.len()) as usize));
    let tables = section.and_then(|section| tables(&mut Bytes(section)));
    let tables = tables.ok_or_else(|| damaged(&manifest, 0, "its list of tables is cut off"))?;
    files.extend(tables.into_iter().map(|(number, checksum)| TableFile {
        path: tree.join("tables").join(number.to_string()),
        checksum,
    }));
    Ok(())
}

/// Numbers and checksums of the tables in a manifest: levels of runs of tables.
fn tables(from: &mut Bytes<'_>) -> Option<Vec<(u64, u128)>> {
    let mut tables = Vec::new();
    for _level in 0..from.u8()? {
        for _run in 0..from.u8()? {
            for _table in 0..from.u32()? {
                let number = from.u64()?;
                let (_kind, checksum, _seqno) = (from.u8()?, from.u128()?, from.u64()?);
                tables.push((number, checksum));
            }
        }
    }
    Some(tables)
}

impl TableFile {
    /// Reads the whole file; gives its length. Errors: `Corrupt` names file and offset, `Disk`.
    pub fn verify(&self) -> Result<u64> {
        let mut file = File::open(&self.path)
            .map_err(|error| damaged(&self.path, 0, format!("it can't be opened: {error}")))?;
        let mut hasher = Xxh3Default::new();
        let mut buffer = vec![0; 1 << 20];
        let mut length = 0;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            length += read as u64;
        }
        match hasher.digest128() == self.checksum {
            true => Ok(length),
            false => Err(self.find_damage()?),
        }
    }

    /// Where the damage begins, as exactly as the file's own checksums tell.
    fn find_damage(&self) -> Result<Error> {
        let bytes = fs::read(&self.path)?;
        let archive = match archive(&self.path) {
            Ok(archive) => archive,
            Err(error) => return Ok(error),
        };
        for section in archive.toc().iter().filter(|s| s.name() != VERSION_SECTION) {
            let (mut at, end) = (section.pos() as usize, section.pos() + section.len());
            while at < end as usize {
                match block(&bytes, at) {
                    Ok(next) => at = next,
                    Err(what) => return Ok(damaged(&self.path, at as u64, what)),
                }
            }
        }
        let what = "the checksum of the file is wrong, those of its blocks are right";
        Ok(damaged(&self.path, 0, what))
    }
}

/// Checks the block at an offset; gives the offset behind it.
fn block(bytes: &[u8], at: usize) -> Result<usize, &'static str> {
    let header = bytes
        .get(at..at + BLOCK_HEADER)
        .ok_or("a block is cut off")?;
    let covered = &header[..BLOCK_COVERED];
    let own = Bytes(&header[BLOCK_COVERED..]).u32();
    if !header.starts_with(&BLOCK_MAGIC) || own != Some(xxh3_128(covered) as u32) {
        return Err("header checksum mismatch of a block");
    }
    let mut from = Bytes(&covered[BLOCK_MAGIC.len() + 1..]);
    let (checksum, length) = (from.u128(), from.u32().unwrap_or_default() as usize);
    let start = at + BLOCK_HEADER;
    let data = bytes
        .get(start..start + length)
        .ok_or("a block is cut off")?;
    match checksum == Some(xxh3_128(data)) {
        true => Ok(start + length),
        false => Err("checksum mismatch of a block"),
    }
}

/// The directory of an archive; its checksum is checked.
fn archive(path: &Path) -> Result<sfa::Reader> {
    sfa::Reader::new(path).map_err(|error| {
        let end = fs::metadata(path).map_or(0, |meta| meta.len());
        damaged(path, end, format!("its directory is damaged: {error:?}"))
    })
}

fn damaged(path: &Path, offset: u64, what: impl std::fmt::Display) -> Error {
    Error::Corrupt {
        place: format!("file \"{}\" at offset {offset}", path.display()),
        what: what.to_string(),
    }
}

/// Little-endian numbers, taken from the front.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn u128(&mut self) -> Option<u128> {
        self.take().map(u128::from_le_bytes)
    }
}
