//! How positions and versions appear in lsm-tree's sequence numbers and values.
//!
//! `seqno = position + SEQNO_BASE`: addition of a constant without overflow is injective and
//! monotone, and `POSITION_MAX` keeps the top bit zero, which lsm-tree reserves. lsm-tree stamps
//! its own manifests from the same number space, with a private counter per tree that begins at
//! zero and counts flushes and compactions: it stays below `SEQNO_BASE`, so every manifest is
//! older than every read and the newest one is always used.
//!
//! A value is prefixed by its position, whose free top bit marks a deletion. lsm-tree's own
//! rule for old versions ("drop what is below the threshold and has a newer version") would lose
//! what a read between the two needs, and its filter for compactions sees keys and values only;
//! with the position in the value and no tombstones of lsm-tree's kind, `garbage.rs` decides.

use bytes::{BufMut, Bytes, BytesMut};
use journal::Position;
use lsm_tree::{InternalValue, SeqNo, Slice, ValueType};

use super::memtable::Version;
use crate::store::POSITION_MAX;
use crate::{Error, Result};

/// Data's sequence numbers begin here; lsm-tree's own stay below.
pub(super) const SEQNO_BASE: SeqNo = 1 << 40;

const _: () = assert!(POSITION_MAX.0 + SEQNO_BASE + 1 < 1 << 63);

/// Bytes before the payload of a value.
const PREFIX_BYTES: usize = 8;

/// The bit of the prefix that says "deleted".
const DELETED: u64 = 1 << 63;

/// The sequence number of what is written at a position.
pub(super) fn seqno(position: Position) -> SeqNo {
    position.0 + SEQNO_BASE
}

/// The exclusive limit that lsm-tree wants for "at or below a position".
pub(super) fn seqno_limit(at: Position) -> SeqNo {
    seqno(at.min(POSITION_MAX)) + 1
}

/// The position of a sequence number found in a file.
pub(super) fn position_of(seqno: SeqNo) -> Position {
    Position(seqno.saturating_sub(SEQNO_BASE))
}

/// A version as it goes into a file.
pub(super) fn encode(key: Bytes, version: Version) -> InternalValue {
    let payload = version.value.as_deref().unwrap_or_default();
    let deleted = if version.value.is_none() { DELETED } else { 0 };
    let mut value = BytesMut::with_capacity(PREFIX_BYTES + payload.len());
    value.put_u64(version.position.0 | deleted);
    value.put_slice(payload);
    let (key, value) = (Slice::from(key), Slice::from(value.freeze()));
    InternalValue::from_components(key, value, seqno(version.position), ValueType::Value)
}

/// Position and deletion mark of a stored value.
pub(super) fn prefix(value: &[u8]) -> Option<(Position, bool)> {
    let word = u64::from_be_bytes(value.get(..PREFIX_BYTES)?.try_into().ok()?);
    Some((Position(word & !DELETED), word & DELETED != 0))
}

/// A version as it comes from a file; what the value says must agree with the sequence number.
pub(super) fn decode(item: InternalValue) -> Result<(Bytes, Version)> {
    let corrupt = || Error::Corrupt {
        place: "table file".into(),
        what: format!(
            "value of key {:02x?} has another position",
            &item.key.user_key[..]
        ),
    };
    let (position, deleted) = prefix(&item.value).ok_or_else(corrupt)?;
    if seqno(position) != item.key.seqno {
        return Err(corrupt());
    }
    let value = (!deleted).then(|| Bytes::from(item.value).slice(PREFIX_BYTES..));
    Ok((item.key.user_key.into(), Version { position, value }))
}

/// What the caller does next with an error of lsm-tree.
pub(super) fn error(place: &std::path::Path, error: lsm_tree::Error) -> Error {
    match error {
        lsm_tree::Error::Io(error) => Error::Disk(error),
        other => Error::Corrupt {
            place: place.display().to_string(),
            what: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seqnos_keep_the_order_and_the_top_bit() {
        let positions = [0, 1, 1023, 1 << 40, POSITION_MAX.0 - 1, POSITION_MAX.0];
        for pair in positions.windows(2) {
            let (low, high) = (seqno(Position(pair[0])), seqno(Position(pair[1])));
            assert!(low < high && low >= SEQNO_BASE && high < 1 << 63);
            assert_eq!(position_of(low), Position(pair[0]));
            assert!(seqno_limit(Position(pair[0])) <= high);
        }
        assert_eq!(seqno_limit(Position::MAX), seqno_limit(POSITION_MAX));
    }

    #[test]
    fn versions_survive() {
        for value in [None, Some(Bytes::new()), Some(Bytes::from_static(b"v"))] {
            let version = Version {
                position: Position(77),
                value: value.clone(),
            };
            let (key, back) = decode(encode(Bytes::from_static(b"k"), version)).unwrap();
            assert_eq!(
                (&key[..], back.position, back.value),
                (&b"k"[..], Position(77), value)
            );
        }
    }
}
