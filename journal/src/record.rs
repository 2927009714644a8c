//! One record: a fixed header of six 8-byte columns with its own CRC, then the payload's images.
//! The bytes are drawn in `docs/formats.md`.

use crate::{GroupId, Index, Payload, Position, Term};

/// Bytes of a record's header.
pub(crate) const HEADER_BYTES: usize = 48;
/// Records begin on multiples of this.
const ALIGN: usize = 8;
/// Version of the record format.
const VERSION: u8 = 1;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A whole transaction, or the last part of a large one.
    Entry = 1,
    /// A part of a large transaction that goes on in the next record of the group.
    Part = 2,
    /// Raft's own: blank, membership.
    Raft = 3,
    /// The group's vote; the first image is Raft's.
    Vote = 4,
    /// Everything of the group at or after the index is gone.
    Truncate = 5,
    /// Raft's log begins after the index; records below stay readable until they are released.
    Purge = 6,
    /// Images to be overwritten in place; written by the journal.
    Erase = 7,
    /// Carries nothing but the `durable` mark; written by the journal.
    Mark = 8,
    /// The index of a full segment; written by the journal.
    Footer = 9,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        use Kind::*;
        [
            Entry, Part, Raft, Vote, Truncate, Purge, Erase, Mark, Footer,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }

    /// Does it take an index of the group's log?
    pub fn is_log(self) -> bool {
        matches!(self, Kind::Entry | Kind::Part | Kind::Raft)
    }

    /// Must it be on disk before `done`? Of the others the order in the file is enough: a lost
    /// truncation only leaves a tail that nobody has acknowledged.
    pub(crate) fn needs_sync(self) -> bool {
        !matches!(self, Kind::Truncate | Kind::Purge)
    }
}

/// One record of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The group.
    pub group: GroupId,
    /// What it is.
    pub kind: Kind,
    /// Raft term.
    pub term: Term,
    /// Raft index; for `Truncate` the first index that is gone, for `Purge` the last one purged.
    pub index: Index,
    /// The commit timestamp. `Raft` records may leave it zero (they count as their predecessor's).
    /// Of `Vote`, `Truncate` and `Purge` the journal sets it: the group's greatest so far.
    pub position: Position,
    /// The images.
    pub payload: Payload,
}

impl Record {
    /// A vote with Raft's opaque bytes.
    pub fn vote(group: GroupId, vote: &[u8]) -> Record {
        Record {
            payload: Payload::of(vote),
            ..Record::own(Kind::Vote, group, Term(0), Index(0))
        }
    }

    /// A truncation: everything of the group at or after `at` is gone. At index 0 what was purged
    /// is, too, for readers of the feed as well: the log begins anew, at any index.
    pub fn truncate(group: GroupId, at: Index) -> Record {
        Record::own(Kind::Truncate, group, Term(0), at)
    }

    /// A purge: Raft's log begins after `upto`.
    pub fn purge(group: GroupId, term: Term, upto: Index) -> Record {
        Record::own(Kind::Purge, group, term, upto)
    }

    /// A record without payload and position.
    pub(crate) fn own(kind: Kind, group: GroupId, term: Term, index: Index) -> Record {
        let (position, payload) = (Position::ZERO, Payload::default());
        Record {
            group,
            kind,
            term,
            index,
            position,
            payload,
        }
    }

    /// Its size in a segment.
    pub(crate) fn disk_bytes(&self) -> usize {
        record_bytes(self.payload.len())
    }
}

/// Size in a segment of a record with such a payload: header, payload, zeros up to a column.
pub(crate) fn record_bytes(payload: usize) -> usize {
    (HEADER_BYTES + payload).next_multiple_of(ALIGN)
}

/// The largest payload of a record that has at most `record_bytes` in a segment.
pub(crate) fn payload_max(record_bytes: u64) -> usize {
    record_bytes as usize / ALIGN * ALIGN - HEADER_BYTES
}

/// The decoded header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub kind: Kind,
    pub group: GroupId,
    pub term: Term,
    pub index: Index,
    pub position: Position,
    /// Bytes of this segment that were known to be on disk when this record was written: a bad
    /// record below is damage, not a torn tail.
    pub durable: u64,
    pub payload: u32,
}

/// The CRC of a header is bound to its place, so that bytes of an earlier life of a recycled file,
/// or written astray, are never taken for a record.
fn crc(segment: u64, offset: u64, header: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&segment.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(&header[4..HEADER_BYTES]);
    hasher.finalize()
}

impl Header {
    /// The header that `record` gets.
    pub fn of(record: &Record, durable: u64) -> Header {
        let Record {
            group,
            kind,
            term,
            index,
            position,
            ref payload,
        } = *record;
        Header {
            kind,
            group,
            term,
            index,
            position,
            durable,
            payload: payload.len() as u32,
        }
    }

    /// Its bytes at a place.
    pub fn encode(&self, segment: u64, offset: u64) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[4..8].copy_from_slice(&self.payload.to_le_bytes());
        out[8] = VERSION;
        out[9] = self.kind as u8;
        out[12..16].copy_from_slice(&self.group.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.term.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.index.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.position.0.to_le_bytes());
        out[40..48].copy_from_slice(&self.durable.to_le_bytes());
        let crc = crc(segment, offset, &out);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the header at a place, or says what is wrong with it. Nothing in it, its length
    /// included, is looked at before the CRC is right.
    pub fn decode(bytes: &[u8], segment: u64, offset: u64) -> Result<Header, &'static str> {
        let bytes = bytes
            .get(..HEADER_BYTES)
            .ok_or("the file ends within a record header")?;
        let u32_at = |at: usize| {
            u32::from_le_bytes(
                bytes[at..at + 4]
                    .try_into()
                    .expect("four bytes of the header"),
            )
        };
        let u64_at = |at: usize| {
            u64::from_le_bytes(
                bytes[at..at + 8]
                    .try_into()
                    .expect("eight bytes of the header"),
            )
        };
        // Two bytes that must have these values spare the scan for later records most CRCs.
        let kind = Kind::from_byte(bytes[9]).ok_or("record header checksum mismatch")?;
        if u32_at(0) != crc(segment, offset, bytes) {
            return Err("record header checksum mismatch");
        }
        if bytes[8] != VERSION {
            return Err("unknown record version");
        }
        Ok(Header {
            kind,
            group: GroupId(u32_at(12)),
            term: Term(u64_at(16)),
            index: Index(u64_at(24)),
            position: Position(u64_at(32)),
            durable: u64_at(40),
            payload: u32_at(4),
        })
    }

    /// Size of the whole record in the segment.
    pub fn disk_bytes(&self) -> u64 {
        record_bytes(self.payload as usize) as u64
    }

    /// The record, with its payload.
    pub fn with(&self, payload: Payload) -> Record {
        let Header {
            kind,
            group,
            term,
            index,
            position,
            ..
        } = *self;
        Record {
            group,
            kind,
            term,
            index,
            position,
            payload,
        }
    }
}

/// Appends the record's bytes to a buffer that will be written at `offset` of a segment.
pub(crate) fn encode_into(
    out: &mut Vec<u8>,
    record: &Record,
    segment: u64,
    offset: u64,
    durable: u64,
) {
    out.extend_from_slice(&Header::of(record, durable).encode(segment, offset));
    out.extend_from_slice(record.payload.as_bytes());
    out.resize(out.len().next_multiple_of(ALIGN), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden bytes: a change here is a change of the format, and needs a new version.
    #[test]
    fn golden_record() {
        let record = Record {
            group: GroupId(7),
            kind: Kind::Entry,
            term: Term(3),
            index: Index(42),
            position: Position(0x16_B374_D848),
            payload: Payload::builder().push(b"ab").push(b"c").finish(),
        };
        let mut out = Vec::new();
        encode_into(&mut out, &record, 5, 4096, 64);
        let columns: Vec<String> = out
            .chunks(8)
            .map(|c| {
                c.iter()
                    .map(|b| format!("{b:02x}"))
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        assert_eq!(columns, GOLDEN);
        let drawn = include_str!("../../docs/formats.md");
        assert!(
            drawn.contains(&GOLDEN.join("\n")),
            "docs/formats.md shows these bytes"
        );
        let header = Header::decode(&out, 5, 4096).expect("whole");
        assert_eq!(header, Header::of(&record, 64));
        assert!(
            Header::decode(&out, 5, 4104).is_err(),
            "bound to its offset"
        );
        assert!(
            Header::decode(&out, 6, 4096).is_err(),
            "bound to its segment"
        );
    }

    const GOLDEN: [&str; 9] = [
        "96 eb 2b 07 13 00 00 00",
        "01 01 00 00 07 00 00 00",
        "03 00 00 00 00 00 00 00",
        "2a 00 00 00 00 00 00 00",
        "48 d8 74 b3 16 00 00 00",
        "40 00 00 00 00 00 00 00",
        "3a 5a 50 23 02 00 00 00",
        "61 62 4f ee f9 2f 01 00",
        "00 00 63 00 00 00 00 00",
    ];
}
