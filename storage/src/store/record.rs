//! The checkpoint record: which position of each group the files hold, how far old versions may
//! be gone, and which folders of dropped trees are still to be removed. `docs/formats.md` draws it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use journal::{GroupId, Index, Position, Term};
use std::collections::BTreeMap;

use super::horizon::Recorded;
use super::{Applied, GroupCheckpoint, StoreKind};
use crate::{Error, Result};

/// The first eight bytes of the file.
const MAGIC: &[u8; 8] = b"FHTABLES";

/// The version of this format.
const FORMAT: u16 = 2;

/// The first version, without trees that are kept. It is read, too.
const FORMAT_WITHOUT_KEPT: u16 = 1;

/// Magic, format, kind, reserved, payload length, payload CRC.
const HEADER_BYTES: usize = 24;

/// The longest payload: some hundred bytes for each of a hundred thousand groups.
const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// What the folder remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The implementation that owns the folder.
    pub kind: StoreKind,
    /// Counts the records written; for people who look at two copies.
    pub sequence: u64,
    /// The generation of the files, where they are rewritten as a whole (sled).
    pub generation: u32,
    /// The last completed checkpoint.
    pub groups: BTreeMap<GroupId, GroupCheckpoint>,
    /// No version that a read at or above its group's horizon needs has been removed, nor one that
    /// a read at or above the position from which on its tree is kept needs.
    pub horizons: Recorded,
    /// Names of trees that are dropped as of the checkpoint and may still be on the disk.
    pub dropped: Vec<String>,
}

impl Record {
    /// The record of an empty folder.
    pub fn new(kind: StoreKind) -> Record {
        Record {
            kind,
            sequence: 0,
            generation: 0,
            groups: BTreeMap::new(),
            horizons: Recorded::default(),
            dropped: Vec::new(),
        }
    }

    /// The file's bytes.
    pub fn encode(&self) -> Bytes {
        let mut payload = BytesMut::new();
        payload.put_u64_le(self.sequence);
        payload.put_u32_le(self.generation);
        payload.put_u32_le(self.groups.len() as u32);
        for checkpoint in self.groups.values() {
            payload.put_u32_le(checkpoint.group.0);
            payload.put_u64_le(checkpoint.applied.term.0);
            payload.put_u64_le(checkpoint.applied.index.0);
            payload.put_u64_le(checkpoint.applied.position.0);
            put_bytes(&mut payload, &checkpoint.raft);
        }
        payload.put_u32_le(self.horizons.groups.len() as u32);
        for (group, horizon) in &self.horizons.groups {
            payload.put_u32_le(group.0);
            payload.put_u64_le(horizon.0);
        }
        payload.put_u32_le(self.dropped.len() as u32);
        for name in &self.dropped {
            put_bytes(&mut payload, name.as_bytes());
        }
        payload.put_u32_le(self.horizons.kept.len() as u32);
        for (name, kept) in &self.horizons.kept {
            put_bytes(&mut payload, name.as_bytes());
            payload.put_u64_le(kept.0);
        }
        assert!(
            payload.len() <= PAYLOAD_BYTES_MAX,
            "checkpoint record is bounded by the groups"
        );
        let mut file = BytesMut::with_capacity(HEADER_BYTES + payload.len());
        file.put_slice(MAGIC);
        file.put_u16_le(FORMAT);
        file.put_u16_le(kind_code(self.kind));
        file.put_u32_le(payload.len() as u32);
        file.put_u32_le(crc32fast::hash(&payload));
        let header_crc = crc32fast::hash(&file);
        file.put_u32_le(header_crc);
        file.put_slice(&payload);
        file.freeze()
    }

    /// Reads a file's bytes; `place` names the file in errors.
    pub fn decode(file: &[u8], place: &str) -> Result<Record> {
        let corrupt = |what: &str| Error::Corrupt {
            place: place.into(),
            what: what.into(),
        };
        if file.len() < HEADER_BYTES || &file[..8] != MAGIC {
            return Err(corrupt("not a checkpoint record"));
        }
        let (mut header, mut payload) = file.split_at(HEADER_BYTES);
        let header_crc = crc32fast::hash(&header[..HEADER_BYTES - 4]);
        header.advance(8);
        let format = header.get_u16_le();
        let kind = header.get_u16_le();
        let length = header.get_u32_le() as usize;
        let crc = header.get_u32_le();
        if header.get_u32_le() != header_crc {
            return Err(corrupt("header checksum mismatch"));
        }
        if ![FORMAT, FORMAT_WITHOUT_KEPT].contains(&format) {
            return Err(Error::Format(format!(
                "{place} has format {format}, this program reads format {FORMAT}"
            )));
        }
        if payload.len() != length || crc32fast::hash(payload) != crc {
            return Err(corrupt("payload checksum mismatch"));
        }
        let kind = kind_from(kind).ok_or_else(|| corrupt("unknown store"))?;
        decode_payload(&mut payload, kind, format).ok_or_else(|| corrupt("payload is cut short"))
    }
}

fn decode_payload(payload: &mut &[u8], kind: StoreKind, format: u16) -> Option<Record> {
    let mut record = Record::new(kind);
    record.sequence = payload.try_get_u64_le().ok()?;
    record.generation = payload.try_get_u32_le().ok()?;
    for _ in 0..payload.try_get_u32_le().ok()? {
        let group = GroupId(payload.try_get_u32_le().ok()?);
        let applied = Applied {
            term: Term(payload.try_get_u64_le().ok()?),
            index: Index(payload.try_get_u64_le().ok()?),
            position: Position(payload.try_get_u64_le().ok()?),
        };
        let raft = get_bytes(payload)?;
        record.groups.insert(
            group,
            GroupCheckpoint {
                group,
                applied,
                raft,
            },
        );
    }
    for _ in 0..payload.try_get_u32_le().ok()? {
        let group = GroupId(payload.try_get_u32_le().ok()?);
        let groups = &mut record.horizons.groups;
        groups.insert(group, Position(payload.try_get_u64_le().ok()?));
    }
    for _ in 0..payload.try_get_u32_le().ok()? {
        record
            .dropped
            .push(String::from_utf8(get_bytes(payload)?.to_vec()).ok()?);
    }
    if format == FORMAT_WITHOUT_KEPT {
        return payload.is_empty().then_some(record);
    }
    for _ in 0..payload.try_get_u32_le().ok()? {
        let name = String::from_utf8(get_bytes(payload)?.to_vec()).ok()?;
        let kept = Position(payload.try_get_u64_le().ok()?);
        record.horizons.kept.insert(name, kept);
    }
    payload.is_empty().then_some(record)
}

fn put_bytes(to: &mut BytesMut, bytes: &[u8]) {
    to.put_u32_le(bytes.len() as u32);
    to.put_slice(bytes);
}

fn get_bytes(from: &mut &[u8]) -> Option<Bytes> {
    let length = from.try_get_u32_le().ok()? as usize;
    (from.len() >= length).then(|| from.copy_to_bytes(length))
}

fn kind_code(kind: StoreKind) -> u16 {
    match kind {
        StoreKind::Lsm => 1,
        StoreKind::Sled => 2,
    }
}

fn kind_from(code: u16) -> Option<StoreKind> {
    match code {
        1 => Some(StoreKind::Lsm),
        2 => Some(StoreKind::Sled),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Record {
        let mut record = Record::new(StoreKind::Lsm);
        record.sequence = 7;
        record.generation = 2;
        let group = GroupId(3);
        let applied = Applied {
            term: Term(2),
            index: Index(9),
            position: Position(0x0102_0304),
        };
        let raft = Bytes::from_static(b"r");
        record.groups.insert(
            group,
            GroupCheckpoint {
                group,
                applied,
                raft,
            },
        );
        record.horizons.groups.insert(group, Position(5));
        record.horizons.kept.insert("3-1001".into(), Position(4));
        record.dropped.push("3-1000".into());
        record
    }

    #[test]
    fn golden_bytes() {
        let hex: String = example()
            .encode()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let golden = concat!("46485441424c4553", "0200010065000000",);
        assert!(hex.starts_with(golden), "{hex}");
        let format_1 = concat!(
            "0700000000000000",
            "02000000",
            "01000000",
            "03000000",
            "0200000000000000",
            "0900000000000000",
            "0403020100000000",
            "0100000072",
            "01000000",
            "03000000",
            "0500000000000000",
            "01000000",
            "06000000332d31303030",
        );
        let kept = "0100000006000000332d313030310400000000000000";
        assert_eq!(&hex[48..], format!("{format_1}{kept}"));
    }

    #[test]
    fn format_1_keeps_no_trees() {
        let whole = example().encode();
        let payload = &whole[HEADER_BYTES..HEADER_BYTES + 0x4f];
        let mut old = BytesMut::from(&whole[..8]);
        old.put_u16_le(FORMAT_WITHOUT_KEPT);
        old.put_slice(&whole[10..12]);
        old.put_u32_le(0x4f);
        old.put_u32_le(crc32fast::hash(payload));
        old.put_u32_le(crc32fast::hash(&old.clone()));
        old.put_slice(payload);
        let mut expected = example();
        expected.horizons.kept.clear();
        assert_eq!(Record::decode(&old, "x").unwrap(), expected);
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let bytes = example().encode();
        assert_eq!(Record::decode(&bytes, "x").unwrap(), example());
        for at in 0..bytes.len() {
            let mut copy = bytes.to_vec();
            copy[at] ^= 1;
            assert!(Record::decode(&copy, "x").is_err(), "byte {at}");
            assert!(Record::decode(&bytes[..at], "x").is_err(), "cut at {at}");
        }
    }
}
