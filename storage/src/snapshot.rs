//! A group's state as a stream of bytes: what a replica gets that can't be brought up by the log.
//! All trees as of one position, the newest version of each row; and what a checkpoint keeps.
//!
//! ```text
//! row: tree u32 | key length u32 | value length u32 | key | value       rows: by tree and key
//! ```

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::memory::check_size;
use crate::meta::Meta;
use crate::{
    Applied, Direction, Error, Group, KEY_BYTES_MAX, POSITION_MAX, Pin, RaftState, Result, Scan,
    TableStore, TreeId, VALUE_BYTES_MAX, system,
};

/// Bytes of a row beside key and value.
pub(crate) const ROW_BYTES: usize = 12;

/// The state of a group, being read. It stays readable until this is dropped.
pub struct Export {
    applied: Applied,
    meta: Bytes,
    raft: RaftState,
    store: Arc<dyn TableStore>,
    pin: Pin,
    group: journal::GroupId,
    trees: VecDeque<u32>,
    scan: Option<(u32, Scan)>,
    encoded: BytesMut,
}

impl Export {
    /// State of a group as of what is applied, of the trees that are wanted.
    pub(crate) fn new(
        group: journal::GroupId,
        store: &Arc<dyn TableStore>,
        applied: Applied,
        meta: &Meta,
        pin: Pin,
        wanted: &dyn Fn(u32) -> bool,
    ) -> Export {
        let trees = store.trees().into_iter();
        let trees = trees.filter(|tree| tree.group == group);
        // A replica has no trees of keys alone: they are made here.
        let trees = trees.flat_map(|tree| [tree.number, system::keys_of(tree.number)]);
        let mut trees: Vec<u32> = trees.filter(|tree| wanted(*tree)).collect();
        trees.sort_unstable();
        trees.dedup();
        Export {
            applied,
            meta: meta.encode(),
            raft: meta.raft.clone(),
            store: Arc::clone(store),
            pin,
            group,
            trees: trees.into(),
            scan: None,
            encoded: BytesMut::new(),
        }
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
            let Some((tree, key, value)) = self.next()? else {
                break;
            };
            self.encoded.put_u32_le(tree);
            self.encoded.put_u32_le(key.len() as u32);
            self.encoded.put_u32_le(value.len() as u32);
            self.encoded.put_slice(&key);
            self.encoded.put_slice(&value);
        }
        let length = self.encoded.len().min(bytes_max);
        Ok(self.encoded.split_to(length).freeze())
    }

    fn next(&mut self) -> Result<Option<(u32, Bytes, Bytes)>> {
        loop {
            if let Some((tree, scan)) = &mut self.scan
                && let Some(row) = scan.next()
            {
                let (key, value) = row?;
                let value = match system::of_keys(*tree) {
                    Some(_) => Bytes::new(),
                    None => value,
                };
                return Ok(Some((*tree, key, value)));
            }
            let Some(number) = self.trees.pop_front() else {
                self.scan = None;
                return Ok(None);
            };
            let (all, group) = ((Bound::Unbounded, Bound::Unbounded), self.group);
            let at = self.pin.position();
            let tree = TreeId {
                group,
                number: system::tree_of(number),
            };
            let scan = self.store.scan(tree, all, at, Direction::Forward)?;
            self.scan = Some((number, scan));
        }
    }
}

/// The bytes of an export, in pieces of any length: each call gives the next, at the end none.
pub type Pieces<'a> = dyn FnMut() -> Result<Option<Bytes>> + 'a;

/// Reads the rows of an export back. They may come from another node: nothing is trusted.
pub(crate) struct Rows<'a> {
    pieces: &'a mut Pieces<'a>,
    read: BytesMut,
}

impl<'a> Rows<'a> {
    /// The rows in these pieces.
    pub fn new(pieces: &'a mut Pieces<'a>) -> Rows<'a> {
        let read = BytesMut::new();
        Rows { pieces, read }
    }

    /// The next row.
    pub fn next(&mut self) -> Result<Option<(u32, Bytes, Bytes)>> {
        if !self.fill(ROW_BYTES)? {
            return match self.read.is_empty() {
                true => Ok(None),
                false => Err(damaged("it is cut off")),
            };
        }
        let tree = self.read.get_u32_le();
        let (key, value) = (self.read.get_u32_le(), self.read.get_u32_le());
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
        Ok(value.map(|value| (tree, key, value)))
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

/// [`check_export`] with a look at the tree of each row.
pub(crate) fn each_row(
    applied: Applied,
    meta: &Bytes,
    pieces: &mut Pieces<'_>,
    check: &mut dyn FnMut(u32) -> Result<()>,
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
    while let Some((tree, ..)) = rows.next()? {
        check(tree)?;
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
