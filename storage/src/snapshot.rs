//! A group's state as a stream of bytes: what a replica gets that can't be brought up by the log.
//! All trees as of one position, the newest version of each row; of trees that keep their history
//! every version that is kept; and what a checkpoint keeps.
//!
//! ```text
//! row:     tree u32 | key length u32          | value length u32 | key | value     by tree and key
//! version: tree u32 | key length u32, top bit | 8 and the value's| key | position u64 | value
//! kept:    tree u32 | 0, top bit              | 8                | position u64
//! ```
//! `kept` stands before the versions of a tree and says from where on they are there. Those of a key
//! come from the oldest to the newest; the top bit of a position says that the row was deleted.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::memory::check_size;
use crate::meta::Meta;
use crate::{
    Applied, Direction, Error, Group, KEY_BYTES_MAX, POSITION_MAX, Pin, Position, RaftState,
    Result, RowVersion, Scan, TableStore, TreeId, VALUE_BYTES_MAX, Versions, system,
};

/// Bytes of a row beside key and value.
pub(crate) const ROW_BYTES: usize = 12;

/// In the length of a key: the value begins with the position at which it was written.
pub(crate) const WITH_POSITION: u32 = 1 << 31;

/// Bytes of that position.
const POSITION_BYTES: usize = 8;

/// In that position: the row was deleted there.
const DELETED: u64 = 1 << 63;

const _: () = assert!(POSITION_MAX.0 < DELETED);

/// What an export consists of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A row of a tree as of the export's position.
    Row(u32, Bytes, Bytes),
    /// A tree keeps its history from here on: its versions follow.
    Kept(u32, Position),
    /// One of them.
    Version(u32, RowVersion),
}

impl Item {
    /// The tree that it belongs to.
    pub fn tree(&self) -> u32 {
        match self {
            Item::Row(tree, ..) | Item::Kept(tree, _) | Item::Version(tree, _) => *tree,
        }
    }

    fn encode(&self, to: &mut BytesMut) {
        let mut head = |tree: &u32, key: usize, flag: u32, value: usize| {
            to.put_u32_le(*tree);
            to.put_u32_le(key as u32 | flag);
            to.put_u32_le(value as u32);
        };
        match self {
            Item::Row(tree, key, value) => {
                head(tree, key.len(), 0, value.len());
                to.put_slice(key);
                to.put_slice(value);
            }
            Item::Kept(tree, from) => {
                head(tree, 0, WITH_POSITION, POSITION_BYTES);
                to.put_u64_le(from.0);
            }
            Item::Version(tree, version) => {
                let value = version.value.as_deref().unwrap_or_default();
                let deleted = if version.value.is_none() { DELETED } else { 0 };
                let length = POSITION_BYTES + value.len();
                head(tree, version.key.len(), WITH_POSITION, length);
                to.put_slice(&version.key);
                to.put_u64_le(version.position.0 | deleted);
                to.put_slice(value);
            }
        }
    }
}

/// The state of a group, being read. It stays readable until this is dropped: all is opened at the
/// beginning, so a horizon that is forced past its position meanwhile does not cut it off.
pub struct Export {
    applied: Applied,
    meta: Bytes,
    raft: RaftState,
    _pin: Pin,
    trees: VecDeque<(u32, Reading)>,
    encoded: BytesMut,
}

/// A tree that is being read.
enum Reading {
    Rows(Scan),
    /// All that it keeps; from where on, until that was said.
    Versions(Option<Position>, Versions),
}

impl Export {
    /// State of a group as of what is applied, of the trees that are wanted; with the history of
    /// those that are `kept`. `None`, if the horizon was forced past it just now.
    ///
    /// # Errors
    /// The table store can't be read.
    pub(crate) fn new(
        group: journal::GroupId,
        store: &Arc<dyn TableStore>,
        applied: Applied,
        meta: &Meta,
        pin: Pin,
        wanted: &dyn Fn(u32) -> bool,
        kept: &BTreeSet<u32>,
    ) -> Result<Option<Export>> {
        let trees = store.trees().into_iter();
        let trees = trees.filter(|tree| tree.group == group);
        // A replica has no trees of keys alone: they are made here.
        let trees = trees.flat_map(|tree| [tree.number, system::keys_of(tree.number)]);
        let mut trees: Vec<u32> = trees.filter(|tree| wanted(*tree)).collect();
        trees.sort_unstable();
        trees.dedup();
        let at = pin.position();
        let open = |number: u32| {
            let tree = TreeId {
                group,
                number: system::tree_of(number),
            };
            let reading = match kept.contains(&number) {
                true => Reading::versions(&**store, tree, at)?,
                false => Reading::rows(&**store, tree, at)?,
            };
            Ok((number, reading))
        };
        let trees = match trees.into_iter().map(open).collect() {
            Err(Error::TooOld { .. }) => return Ok(None),
            trees => trees?,
        };
        Ok(Some(Export {
            applied,
            meta: meta.encode(),
            raft: meta.raft.clone(),
            _pin: pin,
            trees,
            encoded: BytesMut::new(),
        }))
    }

    /// The last entry that it contains.
    pub fn applied(&self) -> Applied {
        self.applied
    }

    /// What storage keeps of the group beside its trees.
    pub fn meta(&self) -> &Bytes {
        &self.meta
    }

    /// What Raft keeps.
    pub fn raft_state(&self) -> &RaftState {
        &self.raft
    }

    /// The next bytes of the rows, `bytes_max` at most; none at the end.
    pub fn read(&mut self, bytes_max: usize) -> Result<Bytes> {
        while self.encoded.len() < bytes_max {
            let Some(item) = self.next()? else {
                break;
            };
            item.encode(&mut self.encoded);
        }
        let length = self.encoded.len().min(bytes_max);
        Ok(self.encoded.split_to(length).freeze())
    }

    fn next(&mut self) -> Result<Option<Item>> {
        while let Some((tree, reading)) = self.trees.front_mut() {
            if let Some(item) = reading.next(*tree)? {
                return Ok(Some(item));
            }
            self.trees.pop_front();
        }
        Ok(None)
    }
}

impl Reading {
    fn rows(store: &dyn TableStore, tree: TreeId, at: Position) -> Result<Reading> {
        let all = (Bound::Unbounded, Bound::Unbounded);
        let scan = store.scan(tree, all, at, Direction::Forward)?;
        Ok(Reading::Rows(scan))
    }

    fn versions(store: &dyn TableStore, tree: TreeId, at: Position) -> Result<Reading> {
        loop {
            let (all, from) = ((Bound::Unbounded, Bound::Unbounded), store.kept(tree));
            match store.versions(tree, all, from, at) {
                // It keeps less than it did a moment ago.
                Err(Error::TooOld { .. }) if store.kept(tree) > from => continue,
                versions => return Ok(Reading::Versions(Some(from), versions?)),
            }
        }
    }

    fn next(&mut self, tree: u32) -> Result<Option<Item>> {
        match self {
            Reading::Rows(rows) => {
                let row = rows.next().transpose()?;
                Ok(row.map(|(key, value)| match system::of_keys(tree) {
                    Some(_) => Item::Row(tree, key, Bytes::new()),
                    None => Item::Row(tree, key, value),
                }))
            }
            Reading::Versions(from, versions) => {
                if let Some(from) = from.take() {
                    return Ok(Some(Item::Kept(tree, from)));
                }
                let version = versions.next().transpose()?;
                Ok(version.map(|version| Item::Version(tree, version)))
            }
        }
    }
}

/// The bytes of an export, in pieces of any length: each call gives the next, at the end none.
pub type Pieces<'a> = dyn FnMut() -> Result<Option<Bytes>> + 'a;

/// Reads the rows of an export back. They may come from another node: nothing is trusted.
pub(crate) struct Rows<'a> {
    pieces: &'a mut Pieces<'a>,
    read: BytesMut,
    /// The last tree whose history has begun.
    kept: Option<u32>,
}

impl<'a> Rows<'a> {
    /// The rows in these pieces.
    pub fn new(pieces: &'a mut Pieces<'a>) -> Rows<'a> {
        let read = BytesMut::new();
        Rows {
            pieces,
            read,
            kept: None,
        }
    }

    /// The next row, or version of one.
    pub fn next(&mut self) -> Result<Option<Item>> {
        if !self.fill(ROW_BYTES)? {
            return match self.read.is_empty() {
                true => Ok(None),
                false => Err(damaged("it is cut off")),
            };
        }
        let tree = self.read.get_u32_le();
        let (key, value) = (self.read.get_u32_le(), self.read.get_u32_le());
        if key & WITH_POSITION != 0 {
            return self.version(tree, key & !WITH_POSITION, value).map(Some);
        }
        let (key, value) = (key as usize, value as usize);
        if key > KEY_BYTES_MAX || value > VALUE_BYTES_MAX {
            return Err(damaged("a row is too long"));
        }
        if !self.fill(key + value)? {
            return Err(damaged("it is cut off"));
        }
        let (key, value) = (self.read.split_to(key), self.read.split_to(value));
        let (key, value) = (key.freeze(), Some(value.freeze()));
        check_size(&key, &value)?;
        Ok(value.map(|value| Item::Row(tree, key, value)))
    }

    /// A version, or what stands before those of a tree.
    fn version(&mut self, tree: u32, key: u32, value: u32) -> Result<Item> {
        let (key, value) = (key as usize, value as usize);
        let length = value.checked_sub(POSITION_BYTES);
        let length = length.ok_or_else(|| damaged("a version has no position"))?;
        if key > KEY_BYTES_MAX || length > VALUE_BYTES_MAX {
            return Err(damaged("a version is too long"));
        }
        if !self.fill(key + value)? {
            return Err(damaged("it is cut off"));
        }
        let key = self.read.split_to(key).freeze();
        let position = self.read.get_u64_le();
        let value = self.read.split_to(length).freeze();
        if key.is_empty() {
            self.kept = Some(tree);
            return Ok(Item::Kept(tree, Position(position)));
        }
        if self.kept != Some(tree) {
            return Err(damaged("it does not say since when versions are there"));
        }
        let value = (position & DELETED == 0).then_some(value);
        check_size(&key, &value)?;
        let version = RowVersion {
            key,
            position: Position(position & !DELETED),
            value,
        };
        Ok(Item::Version(tree, version))
    }

    /// Reads on until so many bytes are there; false if there are fewer.
    fn fill(&mut self, bytes: usize) -> Result<bool> {
        while self.read.len() < bytes {
            match (self.pieces)()? {
                Some(piece) => self.read.put_slice(&piece),
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// Looks whether an export that came from elsewhere can be installed, before anything is changed.
/// Errors: `Corrupt`, `Format`, `Store`.
pub fn check_export(applied: Applied, meta: &Bytes, pieces: &mut Pieces<'_>) -> Result<()> {
    each_row(applied, meta, pieces, &mut |_| Ok(()))
}

/// [`check_export`] with a look at each item.
pub(crate) fn each_row(
    applied: Applied,
    meta: &Bytes,
    pieces: &mut Pieces<'_>,
    check: &mut dyn FnMut(&Item) -> Result<()>,
) -> Result<()> {
    if applied.position > POSITION_MAX {
        return Err(damaged("its position is beyond the last one"));
    }
    let meta = Meta::decode(meta)?;
    if !meta.parts.is_empty() {
        return Err(damaged("a large transaction is in progress"));
    }
    let mut pieces = || pieces();
    let mut rows = Rows::new(&mut pieces);
    let mut last: Option<(u32, RowVersion)> = None;
    while let Some(item) = rows.next()? {
        check(&item)?;
        let Item::Version(tree, version) = item else {
            last = None;
            continue;
        };
        // The store relies on it.
        let follows = last.is_none_or(|(of, last)| {
            of != tree || (&last.key, last.position) < (&version.key, version.position)
        });
        if !follows || version.position > applied.position {
            return Err(damaged("versions are not in order"));
        }
        last = Some((tree, version));
    }
    Ok(())
}

pub(crate) fn damaged(what: &str) -> Error {
    Error::Corrupt {
        place: "snapshot of another replica".into(),
        what: what.into(),
    }
}

impl Group {
    /// The state of the group as of what is applied, to be sent to another replica. `None` while
    /// it can't be: the replay goes on, or a large transaction is in progress.
    pub fn export(&self) -> Result<Option<Export>> {
        self.export_applied()
    }
}
