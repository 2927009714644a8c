//! What a source and a sink say to each other, as bytes.
//!
//! ```text
//! piece:   length u32 | crc32 u32 | version u8 = 1 | kind u8 | body
//! Begin  1 term u64 | index u64 | position u64 | meta          Choose 5 mark
//! Rows   2 bytes of the export                                 Again  6
//! End    3 pieces of rows u32                                  Newest 7 position u64
//! Entry  4 term u64 | index u64 | payload              Come   8 as Begin
//!
//! request: version u8 = 1 | group u32 | term u64 | index u64 | position u64 | mark
//! ```
//! Little-endian; `length` counts what the checksum covers: version, kind and body. A request
//! without a mark asks for a bootstrap.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use journal::{GroupId, Index, Payload, Position, Term};
use storage::{Applied, Chosen};

use crate::{Error, Result};

const VERSION: u8 = 1;
/// Length and checksum.
pub const HEAD_BYTES: usize = 8;
/// Version and kind.
const KIND_BYTES: usize = 2;
/// The longest piece, its head included: an entry is at most a record of the journal.
pub const PIECE_BYTES_MAX: usize = 64 << 20;

/// One step of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A bootstrap begins: what is chosen, all of it as of one entry.
    Begin {
        /// The last entry that it contains.
        applied: Applied,
        /// What storage keeps of the group beside its trees.
        meta: Bytes,
    },
    /// The next bytes of its rows.
    Rows(Bytes),
    /// It is whole, in so many pieces of rows.
    End(u32),
    /// The next entry.
    Entry {
        /// Its term in the log.
        term: Term,
        /// Its place in the log.
        index: Index,
        /// What is in it for who follows.
        payload: Payload,
    },
    /// Of this group other trees are chosen from here on: those that come are empty, those that
    /// go are nobody's business here any more. Where rows of more trees were coming, they are not.
    Choose(Chosen),
    /// The rows of more trees begin: as of the entry that was sent last, after which no other one
    /// comes before their end.
    Come {
        /// That entry.
        applied: Applied,
        /// What storage keeps of the group beside its trees, and all that is chosen then.
        meta: Bytes,
    },
    /// It can't go on like this: ask for a bootstrap.
    Again,
    /// The source has applied up to here.
    Newest(Position),
}

impl Piece {
    fn kind(&self) -> u8 {
        match self {
            Piece::Begin { .. } => 1,
            Piece::Rows(_) => 2,
            Piece::End(_) => 3,
            Piece::Entry { .. } => 4,
            Piece::Choose(_) => 5,
            Piece::Again => 6,
            Piece::Newest(_) => 7,
            Piece::Come { .. } => 8,
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_bytes(0, HEAD_BYTES);
        out.put_slice(&[VERSION, self.kind()]);
        match self {
            Piece::Begin { applied, meta } | Piece::Come { applied, meta } => {
                put_applied(&mut out, *applied);
                out.put_slice(meta);
            }
            Piece::Rows(bytes) => out.put_slice(bytes),
            Piece::End(pieces) => out.put_u32_le(*pieces),
            Piece::Entry {
                term,
                index,
                payload,
            } => {
                out.put_u64_le(term.0);
                out.put_u64_le(index.0);
                out.put_slice(payload.as_bytes());
            }
            Piece::Choose(chosen) => out.put_slice(&chosen.encode()),
            Piece::Again => {}
            Piece::Newest(position) => out.put_u64_le(position.0),
        }
        let counted = out.len() - HEAD_BYTES;
        assert!(out.len() <= PIECE_BYTES_MAX, "the source looks at the size");
        let checksum = crc32fast::hash(&out[HEAD_BYTES..]);
        out[..4].copy_from_slice(&(counted as u32).to_le_bytes());
        out[4..HEAD_BYTES].copy_from_slice(&checksum.to_le_bytes());
        out.freeze()
    }

    /// The inverse of [`Piece::encode`]. Errors: [`Error::Stream`]; nothing is trusted.
    pub fn decode(mut bytes: Bytes) -> Result<Piece> {
        if bytes.len() < HEAD_BYTES {
            return Err(Error::Stream("a piece is cut off"));
        }
        let length = bytes.get_u32_le() as usize;
        let checksum = bytes.get_u32_le();
        if bytes.len() != length || crc32fast::hash(&bytes) != checksum {
            return Err(Error::Stream("the checksum of a piece is wrong"));
        }
        decode(bytes).ok_or(Error::Stream("a piece of no known form"))?
    }
}

/// How many bytes follow a head. Errors: [`Error::Stream`] if they are too many or too few, before
/// any memory is taken for them.
pub fn body_bytes(head: [u8; HEAD_BYTES]) -> Result<usize> {
    let [a, b, c, d, ..] = head;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    match length {
        KIND_BYTES.. if length <= PIECE_BYTES_MAX - HEAD_BYTES => Ok(length),
        _ => Err(Error::Stream("a piece has no possible length")),
    }
}

fn decode(mut body: Bytes) -> Option<Result<Piece>> {
    let (version, kind) = (body.try_get_u8().ok()?, body.try_get_u8().ok()?);
    if version != VERSION {
        return None;
    }
    Some(Ok(match kind {
        1 => Piece::Begin {
            applied: get_applied(&mut body)?,
            meta: body,
        },
        2 => Piece::Rows(body),
        3 => Piece::End(last(body.try_get_u32_le(), &body)?),
        4 => Piece::Entry {
            term: Term(body.try_get_u64_le().ok()?),
            index: Index(body.try_get_u64_le().ok()?),
            payload: match Payload::from_bytes(body) {
                Ok(payload) => payload,
                Err(error) => return Some(Err(error.into())),
            },
        },
        5 => match Chosen::decode(&body) {
            Ok(chosen) => Piece::Choose(chosen),
            Err(error) => return Some(Err(error.into())),
        },
        6 => last(Ok(Piece::Again), &body)?,
        8 => Piece::Come {
            applied: get_applied(&mut body)?,
            meta: body,
        },
        7 => Piece::Newest(Position(last(body.try_get_u64_le(), &body)?)),
        _ => return None,
    }))
}

/// A value behind which nothing comes.
fn last<T>(value: std::result::Result<T, bytes::TryGetError>, rest: &Bytes) -> Option<T> {
    value.ok().filter(|_| rest.is_empty())
}

fn put_applied(out: &mut BytesMut, applied: Applied) {
    out.put_u64_le(applied.term.0);
    out.put_u64_le(applied.index.0);
    out.put_u64_le(applied.position.0);
}

fn get_applied(body: &mut Bytes) -> Option<Applied> {
    Some(Applied {
        term: Term(body.try_get_u64_le().ok()?),
        index: Index(body.try_get_u64_le().ok()?),
        position: Position(body.try_get_u64_le().ok()?),
    })
}

/// What a sink asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The group.
    pub group: GroupId,
    /// What the sink has, and what was chosen there; `None`: nothing that it can go on from.
    pub has: Option<(Applied, Chosen)>,
}

impl Request {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        out.put_u32_le(self.group.0);
        let (applied, mark) = match &self.has {
            Some((applied, chosen)) => (*applied, chosen.encode()),
            None => Default::default(),
        };
        put_applied(&mut out, applied);
        out.put_slice(&mark);
        out.freeze()
    }

    /// The inverse of [`Request::encode`]; `None`: it is none.
    pub fn decode(mut bytes: Bytes) -> Option<Request> {
        if bytes.try_get_u8().ok()? != VERSION {
            return None;
        }
        let group = GroupId(bytes.try_get_u32_le().ok()?);
        let applied = get_applied(&mut bytes)?;
        let has = match bytes.is_empty() {
            true => None,
            false => Some((applied, Chosen::decode(&bytes).ok()?)),
        };
        Some(Request { group, has })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces() -> Vec<Piece> {
        let applied = Applied {
            term: Term(3),
            index: Index(4),
            position: Position(5),
        };
        let meta = Bytes::from_static(b"meta");
        let payload = storage::Entry::default().encode();
        vec![
            Piece::Begin {
                applied,
                meta: meta.clone(),
            },
            Piece::Come { applied, meta },
            Piece::Rows(Bytes::from_static(b"rows")),
            Piece::End(7),
            Piece::Entry {
                term: Term(3),
                index: Index(9),
                payload,
            },
            Piece::Choose(Chosen::new([1, 1000])),
            Piece::Again,
            Piece::Newest(Position(11)),
        ]
    }

    #[test]
    fn pieces_come_back_and_every_flipped_bit_is_found() {
        for piece in pieces() {
            let bytes = piece.encode();
            let head = *bytes.first_chunk::<HEAD_BYTES>().expect("a head");
            assert_eq!(body_bytes(head).expect("sound"), bytes.len() - HEAD_BYTES);
            assert_eq!(Piece::decode(bytes.clone()).expect("whole"), piece);
            for bit in 0..bytes.len() * 8 {
                let mut wrong = bytes.to_vec();
                wrong[bit / 8] ^= 1 << (bit % 8);
                assert!(Piece::decode(wrong.into()).is_err(), "{piece:?}, bit {bit}");
            }
            for length in 0..bytes.len() {
                assert!(Piece::decode(bytes.slice(..length)).is_err());
            }
        }
    }

    #[test]
    fn the_bytes_of_version_1() {
        let bytes = Piece::End(7).encode();
        assert_eq!(bytes[..4], [6, 0, 0, 0]);
        assert_eq!(bytes[8..], [1, 3, 7, 0, 0, 0]);
        let asks = Request {
            group: GroupId(2),
            has: None,
        };
        assert_eq!(asks.encode()[..5], [1, 2, 0, 0, 0]);
        assert_eq!(asks.encode().len(), 29);
    }

    #[test]
    fn what_is_no_piece_is_an_error_whatever_it_says() {
        let sealed = |body: &[u8]| {
            let length = (body.len() as u32).to_le_bytes();
            let checksum = crc32fast::hash(body).to_le_bytes();
            Bytes::from([&length[..], &checksum, body].concat())
        };
        for kind in 0..=9 {
            // Whole on the way, and yet no piece of this version.
            assert!(Piece::decode(sealed(&[2, kind])).is_err());
            if ![2, 6].contains(&kind) {
                assert!(Piece::decode(sealed(&[1, kind])).is_err(), "{kind}");
            }
            let _ = Piece::decode(sealed(&[&[1, kind][..], &[0xff; 40]].concat()));
        }
        assert!(Piece::decode(sealed(&[1, 6, 0])).is_err());
        for length in [0, 1, PIECE_BYTES_MAX as u32, u32::MAX] {
            let [a, b, c, d] = length.to_le_bytes();
            assert!(body_bytes([a, b, c, d, 0, 0, 0, 0]).is_err(), "{length}");
        }
    }

    #[test]
    fn requests_come_back() {
        let group = GroupId(9);
        let applied = Applied {
            term: Term(1),
            index: Index(2),
            position: Position(3),
        };
        for has in [None, Some((applied, Chosen::new([1])))] {
            let request = Request { group, has };
            let bytes = request.encode();
            assert_eq!(Request::decode(bytes.clone()), Some(request));
            for length in (0..bytes.len()).filter(|length| *length != 29) {
                assert_eq!(Request::decode(bytes.slice(..length)), None, "{length}");
            }
        }
    }
}
