//! How versions appear in sled's one map.
//!
//! ```text
//! 1 group number generation                            -> nothing: the tree exists
//! 1 group number generation  key, escaped, 0 0  !position -> 0 (deleted) or 1 and the value
//! ```
//! Numbers are big-endian. A zero byte of a key is written as `0 ff`, so that `0 0` ends the key
//! and the order is that of the keys; the inverted position puts the newest version first.

use std::ops::Bound;

use bytes::Bytes;
use journal::{GroupId, Position};

use super::super::range::Range;
use super::database::corrupt;
use crate::Result;
use crate::store::{RowVersion, TreeId};

/// The first byte of all keys; others are free.
const ROWS: u8 = 1;
const PREFIX_BYTES: usize = 13;
const POSITION_BYTES: usize = 8;

/// What all keys of a generation of a tree begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TreePrefix {
    pub id: TreeId,
    pub generation: u32,
}

impl TreePrefix {
    /// The key that says that the tree exists.
    pub fn marker(self) -> Vec<u8> {
        let mut key = vec![ROWS];
        key.extend_from_slice(&self.id.group.0.to_be_bytes());
        key.extend_from_slice(&self.id.number.to_be_bytes());
        key.extend_from_slice(&self.generation.to_be_bytes());
        key
    }

    /// The first key behind all of the tree's.
    pub fn end(self) -> Vec<u8> {
        let mut end = self.marker();
        for byte in end.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
        end
    }

    /// The prefix of a stored key; `None` for another kind of key.
    pub fn of(stored: &[u8]) -> Option<TreePrefix> {
        let number = |at: usize| {
            stored
                .get(at..at + 4)?
                .try_into()
                .ok()
                .map(u32::from_be_bytes)
        };
        if stored.first() != Some(&ROWS) {
            return None;
        }
        let id = TreeId {
            group: GroupId(number(1)?),
            number: number(5)?,
        };
        Some(TreePrefix {
            id,
            generation: number(9)?,
        })
    }

    /// What all versions of a key begin with.
    pub fn row(self, key: &[u8]) -> Vec<u8> {
        let mut row = self.marker();
        row.reserve(key.len() + 2 + POSITION_BYTES);
        for &byte in key {
            row.push(byte);
            if byte == 0 {
                row.push(0xff);
            }
        }
        row.extend_from_slice(&[0, 0]);
        row
    }

    /// A range of rows as stored bounds, without the marker.
    pub fn bounds(self, (lower, upper): &Range) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        let lower = match lower {
            Bound::Unbounded => Bound::Excluded(self.marker()),
            Bound::Included(key) => Bound::Included(self.row(key)),
            Bound::Excluded(key) => Bound::Excluded(oldest(self.row(key))),
        };
        let upper = match upper {
            Bound::Unbounded => Bound::Excluded(self.end()),
            Bound::Included(key) => Bound::Included(oldest(self.row(key))),
            Bound::Excluded(key) => Bound::Excluded(self.row(key)),
        };
        (lower, upper)
    }
}

/// The first key of all trees.
pub(super) fn rows_begin() -> Vec<u8> {
    vec![ROWS]
}

/// The first key behind all trees.
pub(super) fn rows_end() -> Vec<u8> {
    vec![ROWS + 1]
}

/// The stored key of a row's version at a position.
pub(super) fn version(row: &[u8], position: Position) -> Vec<u8> {
    let mut key = row.to_vec();
    key.extend_from_slice(&(!position.0).to_be_bytes());
    key
}

/// The last possible key of a row's versions.
pub(super) fn oldest(mut row: Vec<u8>) -> Vec<u8> {
    row.extend_from_slice(&[0xff; POSITION_BYTES]);
    row
}

/// Row and position of a stored key; `None` for a marker.
pub(super) fn split(stored: &[u8]) -> Option<(&[u8], Position)> {
    if stored.len() <= PREFIX_BYTES + POSITION_BYTES {
        return None;
    }
    let (row, position) = stored.split_last_chunk::<POSITION_BYTES>()?;
    Some((row, Position(!u64::from_be_bytes(*position))))
}

/// A stored version. Errors: `Corrupt` for a marker.
pub(super) fn row(stored: &[u8], value: &[u8]) -> Result<RowVersion> {
    let (row, position) = split(stored).ok_or_else(|| corrupt("a key without a position"))?;
    Ok(RowVersion {
        key: key(row),
        position,
        value: decode_value(value),
    })
}

/// The key of a row.
pub(super) fn key(row: &[u8]) -> Bytes {
    let escaped = &row[PREFIX_BYTES..row.len() - 2];
    let mut key = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(&byte) = bytes.next() {
        key.push(byte);
        if byte == 0 {
            bytes.next();
        }
    }
    key.into()
}

/// A stored value.
pub(super) fn encode_value(value: Option<&Bytes>) -> Vec<u8> {
    match value {
        None => vec![0],
        Some(value) => [&[1], &value[..]].concat(),
    }
}

/// The value of a stored one.
pub(super) fn decode_value(stored: &[u8]) -> Option<Bytes> {
    match stored.split_first() {
        Some((1, value)) => Some(Bytes::copy_from_slice(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_stored_keys_is_that_of_keys_then_newest_first() {
        let prefix = TreePrefix {
            id: TreeId {
                group: GroupId(1),
                number: u32::MAX,
            },
            generation: u32::MAX,
        };
        let keys: [&[u8]; 7] = [
            b"\0",
            b"\0\0",
            b"\0\x01",
            b"\x01",
            b"a",
            b"a\0",
            b"\xff\xff",
        ];
        let mut stored = vec![prefix.marker()];
        for name in keys {
            for position in [9, 8, 0] {
                let version = version(&prefix.row(name), Position(position));
                let (row, at) = split(&version).unwrap();
                assert_eq!((&key(row)[..], at), (name, Position(position)));
                assert_eq!(TreePrefix::of(&version), Some(prefix));
                stored.push(version);
            }
        }
        stored.push(prefix.end());
        assert!(stored.is_sorted(), "{stored:x?}");
        assert_eq!(split(&prefix.marker()), None);
    }
}
