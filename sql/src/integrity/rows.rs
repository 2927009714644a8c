//! The rows.
//!
//! ```text
//! an outbox
//!   10, intent u64, chunk u32   1, table u32, depth u8, what: 0 = keys | 1 = all of the table, keys: count,
//!                               (index u32, change: 0 = gone | 1 = another value, values: count, bytes)*
//!   11, intent u64              1, kind: 1 = yes | 2 = prepared, transaction u64 | 3 = done | 4 = no, its
//!                               error
//!   12, intent u64              1: decided
//!   13, constraint u32          1, referenced table u32, its index u32, columns: count, u32*
//!   14                          1, position u64: what was acted on of the other group
//! INTENTS
//!   intent u64                  1, since u64, table u32, transaction u64, cause: 0 | 1, group u32, intent u64;
//!                               decided u8, asked: count, (group u32, chunks u32, prepared u8)*
//! FENCED
//!   group u32, index u32, 1, key, intent u64      1
//!   group u32, index u32, 0, intent u64           1: all keys
//!   group u32, 0xffffffff, intent u64, chunk u32  1, which of those it has: count, key*
//! ```
//! Numbers in keys are big-endian, in values little-endian.

use std::ops::Bound;

use bytes::Bytes;
use storage::{GroupId, Position, TxId};

use crate::catalog::{ColumnId, TableId};
use crate::cluster::{Reader, Writer};
use crate::outbox::Reason;
use crate::types::Datum;
use crate::types::codec::{decode_next, encode_value};
use crate::{Error, Result, state};

const VERSION: u8 = 1;
/// The first of these rows in an outbox.
pub(super) const FIRST: Bytes = Bytes::from_static(&[ASK]);
const ASK: u8 = 10;
const ANSWER: u8 = 11;
const DECISION: u8 = 12;
const WISH: u8 = 13;
/// The row that says what was acted on of the other group.
pub(super) const FLOOR_KEY: &[u8] = &[14];

const YES: u8 = 1;
const PREPARED: u8 = 2;
const DONE: u8 = 3;
const NO: u8 = 4;

/// Keys in one row of an ask.
pub(super) const CHUNK_MAX: usize = 1000;

/// A range of keys.
pub(super) type Range = (Bound<Bytes>, Bound<Bytes>);

/// A referenced key that goes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    /// The unique index of the referenced table (`Index::id`).
    pub index: u32,
    /// The row stays, with other values there.
    pub changed: bool,
    /// In the order of the index's columns.
    pub values: Vec<Datum>,
}

/// What one group asks another one before it removes keys.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ask {
    pub table: TableId,
    /// Of how many asks it is an effect.
    pub depth: u8,
    /// All keys of the table go, and no action is taken for them.
    pub all: bool,
    pub keys: Vec<Key>,
}

/// What the asked group says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// Nothing references the keys, and nothing begins to.
    Yes,
    /// What references them will change with it, and nothing begins to reference them. The
    /// transaction has the changes.
    Prepared(TxId),
    /// That has changed.
    Done,
    /// It is not so.
    No(Box<Reason>),
}

/// A foreign key that is wished for, or is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// The referenced table.
    pub references: TableId,
    /// The unique index of that (`Index::id`).
    pub index: u32,
    /// The referenced columns.
    pub columns: Vec<ColumnId>,
}

/// Keys that a group is about to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Intent {
    /// When it was placed, in microseconds since 1970.
    pub since: u64,
    pub table: TableId,
    /// The transaction that removes them.
    pub holder: TxId,
    /// The other group's intent for which it is prepared.
    pub cause: Option<(GroupId, TxId)>,
    /// It goes forward, whatever happens.
    pub decided: bool,
    pub asked: Vec<Of>,
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Of {
    pub group: GroupId,
    /// Rows of the ask.
    pub chunks: u32,
    /// It has changes that wait for the decision.
    pub prepared: bool,
}

fn read<T>(bytes: &[u8], read: impl FnOnce(&mut Reader<'_>) -> Option<T>) -> Result<T> {
    let mut r = Reader(bytes);
    let value = match r.u8() {
        Some(VERSION) => read(&mut r).filter(|_| r.is_empty()),
        _ => None,
    };
    let damaged = || Error::new(state::DATA_CORRUPTED, "a row of a foreign key is damaged");
    value.ok_or_else(damaged)
}

fn with(kind: u8, number: u64) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&number.to_be_bytes());
    key
}

fn between(first: Vec<u8>, last: Vec<u8>) -> Range {
    (Bound::Included(first.into()), Bound::Included(last.into()))
}

/// The key of a part of an ask.
pub(super) fn ask_key(intent: TxId, chunk: u32) -> Bytes {
    let mut key = with(ASK, intent.0);
    key.extend_from_slice(&chunk.to_be_bytes());
    key.into()
}

/// The asks of this intent and of later ones.
pub(super) fn asks(from: TxId) -> Range {
    let mut last = with(ASK, u64::MAX);
    last.extend_from_slice(&[u8::MAX; 4]);
    between(with(ASK, from.0), last)
}

/// The intent of an ask's key.
pub(super) fn asked(key: &[u8]) -> Option<TxId> {
    let number = key.strip_prefix(&[ASK])?.first_chunk::<8>()?;
    Some(TxId(u64::from_be_bytes(*number)))
}

/// The key of the answer to an intent's ask.
pub(super) fn answer_key(intent: TxId) -> Bytes {
    with(ANSWER, intent.0).into()
}

/// The answers to this intent and to later ones.
pub(super) fn answers(from: TxId) -> Range {
    between(with(ANSWER, from.0), with(ANSWER, u64::MAX))
}

/// The intent that is answered by the row of an outbox with this key.
pub(super) fn answered(key: &[u8]) -> Option<TxId> {
    let number = key.strip_prefix(&[ANSWER])?;
    Some(TxId(u64::from_be_bytes(number.try_into().ok()?)))
}

/// The key of the decision about an intent.
pub(super) fn decision_key(intent: TxId) -> Bytes {
    with(DECISION, intent.0).into()
}

/// What stands there.
pub(super) fn decided() -> Bytes {
    Bytes::from_static(&[VERSION])
}

/// The key of a constraint's wish.
pub(super) fn wish_key(constraint: u32) -> Bytes {
    let mut key = vec![WISH];
    key.extend_from_slice(&constraint.to_be_bytes());
    key.into()
}

/// All wishes.
pub(super) fn wishes() -> Range {
    between(wish_key(0).to_vec(), wish_key(u32::MAX).to_vec())
}

/// The constraint of a wish's key.
pub(super) fn wished(key: &[u8]) -> Option<u32> {
    let number = key.strip_prefix(&[WISH])?;
    Some(u32::from_be_bytes(number.try_into().ok()?))
}

/// The key of an intent.
pub(super) fn intent_key(intent: TxId) -> Bytes {
    Bytes::copy_from_slice(&intent.0.to_be_bytes())
}

/// The intent of a row's key.
pub(super) fn intent_of(key: &[u8]) -> Option<TxId> {
    Some(TxId(u64::from_be_bytes(key.try_into().ok()?)))
}

fn fence(group: GroupId, index: u32) -> Vec<u8> {
    let mut key = group.0.to_be_bytes().to_vec();
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// Where the fences of a key stand (`None`: those of all keys), without the intent.
pub(super) fn fences(group: GroupId, index: u32, key: Option<&[u8]>) -> Range {
    let (first, last) = (
        fence_key(group, index, key, TxId(0)),
        fence_key(group, index, key, TxId(u64::MAX)),
    );
    (Bound::Included(first), Bound::Included(last))
}

/// Where all fences of an index's keys stand.
pub(super) fn all_fences(group: GroupId, index: u32) -> Range {
    let (first, mut last) = (fence(group, index), fence(group, index));
    last.push(2);
    (Bound::Included(first.into()), Bound::Excluded(last.into()))
}

fn fence_list_key(group: GroupId, intent: TxId, chunk: u32) -> Bytes {
    let mut key = fence(group, u32::MAX);
    key.extend_from_slice(&intent.0.to_be_bytes());
    key.extend_from_slice(&chunk.to_be_bytes());
    key.into()
}

/// The rows that say which fences an intent has, however many others there are.
pub(super) fn fence_list(group: GroupId, intent: TxId, fences: &[Bytes]) -> Vec<(Bytes, Bytes)> {
    let row = |(chunk, fences): (usize, &[Bytes])| {
        let mut out = Writer::default();
        out.u8(VERSION);
        out.count(fences.len());
        fences.iter().for_each(|key| out.bytes(key));
        let key = fence_list_key(group, intent, chunk as u32);
        (key, out.0.into())
    };
    fences.chunks(CHUNK_MAX).enumerate().map(row).collect()
}

/// Where they stand.
pub(super) fn fence_lists(group: GroupId, intent: TxId) -> Range {
    (
        Bound::Included(fence_list_key(group, intent, 0)),
        Bound::Included(fence_list_key(group, intent, u32::MAX)),
    )
}

/// # Errors
/// XX001.
pub(super) fn read_fence_list(bytes: &[u8]) -> Result<Vec<Bytes>> {
    read(bytes, |r| {
        r.list(|r| Some(Bytes::copy_from_slice(r.bytes()?)))
    })
}

/// The key of a fence.
pub(super) fn fence_key(group: GroupId, index: u32, key: Option<&[u8]>, intent: TxId) -> Bytes {
    let mut all = fence(group, index);
    all.push(u8::from(key.is_some()));
    all.extend_from_slice(key.unwrap_or_default());
    all.extend_from_slice(&intent.0.to_be_bytes());
    all.into()
}

/// What stands there.
pub(super) fn fenced() -> Bytes {
    Bytes::from_static(&[VERSION])
}

/// The bytes of a floor.
pub(super) fn floor(at: Position) -> Bytes {
    let mut out = Writer::default();
    out.u8(VERSION);
    out.u64(at.0);
    out.0.into()
}

/// # Errors
/// XX001.
pub(super) fn read_floor(bytes: &[u8]) -> Result<Position> {
    read(bytes, |r| Some(Position(r.u64()?)))
}

impl Ask {
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.u8(VERSION);
        out.u32(self.table.0);
        out.u8(self.depth);
        out.u8(u8::from(self.all));
        out.count(self.keys.len());
        for key in &self.keys {
            out.u32(key.index);
            out.u8(u8::from(key.changed));
            out.count(key.values.len());
            for value in &key.values {
                let mut bytes = Vec::new();
                encode_value(value, &mut bytes);
                out.bytes(&bytes);
            }
        }
        out.0.into()
    }

    /// # Errors
    /// XX001.
    pub fn decode(bytes: &[u8]) -> Result<Ask> {
        read(bytes, |r| {
            Some(Ask {
                table: TableId(r.u32()?),
                depth: r.u8()?,
                all: r.flag()?,
                keys: r.list(|r| {
                    Some(Key {
                        index: r.u32()?,
                        changed: r.flag()?,
                        values: r.list(|r| decode_next(&mut r.bytes()?).ok())?,
                    })
                })?,
            })
        })
    }
}

impl Answer {
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.u8(VERSION);
        match self {
            Answer::Yes => out.u8(YES),
            Answer::Prepared(holder) => {
                out.u8(PREPARED);
                out.u64(holder.0);
            }
            Answer::Done => out.u8(DONE),
            Answer::No(reason) => {
                out.u8(NO);
                reason.write(&mut out);
            }
        }
        out.0.into()
    }

    /// # Errors
    /// XX001.
    pub fn decode(bytes: &[u8]) -> Result<Answer> {
        read(bytes, |r| match r.u8()? {
            YES => Some(Answer::Yes),
            PREPARED => Some(Answer::Prepared(TxId(r.u64()?))),
            DONE => Some(Answer::Done),
            NO => Some(Answer::No(Box::new(Reason::read(r)?))),
            _ => None,
        })
    }
}

impl Wish {
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.u8(VERSION);
        out.u32(self.references.0);
        out.u32(self.index);
        out.count(self.columns.len());
        self.columns.iter().for_each(|column| out.u32(column.0));
        out.0.into()
    }

    /// # Errors
    /// XX001.
    pub fn decode(bytes: &[u8]) -> Result<Wish> {
        read(bytes, |r| {
            Some(Wish {
                references: TableId(r.u32()?),
                index: r.u32()?,
                columns: r.list(|r| Some(ColumnId(r.u32()?)))?,
            })
        })
    }
}

impl Intent {
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.u8(VERSION);
        out.u64(self.since);
        out.u32(self.table.0);
        out.u64(self.holder.0);
        out.u8(u8::from(self.cause.is_some()));
        if let Some((group, intent)) = self.cause {
            out.u32(group.0);
            out.u64(intent.0);
        }
        out.u8(u8::from(self.decided));
        out.count(self.asked.len());
        for of in &self.asked {
            out.u32(of.group.0);
            out.u32(of.chunks);
            out.u8(u8::from(of.prepared));
        }
        out.0.into()
    }

    /// # Errors
    /// XX001.
    pub fn decode(bytes: &[u8]) -> Result<Intent> {
        read(bytes, |r| {
            Some(Intent {
                since: r.u64()?,
                table: TableId(r.u32()?),
                holder: TxId(r.u64()?),
                cause: match r.flag()? {
                    true => Some((GroupId(r.u32()?), TxId(r.u64()?))),
                    false => None,
                },
                decided: r.flag()?,
                asked: r.list(|r| {
                    Some(Of {
                        group: GroupId(r.u32()?),
                        chunks: r.u32()?,
                        prepared: r.flag()?,
                    })
                })?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_and_damaged_ones_are_told() {
        let ask = Ask {
            table: TableId(7),
            depth: 1,
            all: false,
            keys: vec![Key {
                index: 9,
                changed: true,
                values: vec![Datum::Int4(1), Datum::Text("a".into())],
            }],
        };
        let bytes = ask.encode();
        assert_eq!(Ask::decode(&bytes).expect("whole"), ask);
        let reason = Reason::of(&Error::new(state::FOREIGN_KEY_VIOLATION, "no").detail("d"));
        let (prepared, no) = (Answer::Prepared(TxId(8)), Answer::No(Box::new(reason)));
        for answer in [Answer::Yes, prepared, Answer::Done, no] {
            assert_eq!(Answer::decode(&answer.encode()).expect("whole"), answer);
        }
        let wish = Wish {
            references: TableId(2),
            index: 3,
            columns: vec![ColumnId(4)],
        };
        assert_eq!(Wish::decode(&wish.encode()).expect("whole"), wish);
        let intent = Intent {
            since: 5,
            table: TableId(6),
            holder: TxId(7),
            cause: Some((GroupId(9), TxId(10))),
            decided: true,
            asked: vec![Of {
                group: GroupId(8),
                chunks: 2,
                prepared: true,
            }],
        };
        assert_eq!(Intent::decode(&intent.encode()).expect("whole"), intent);
        for cut in 0..bytes.len() {
            assert!(Ask::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        assert_eq!(asked(&ask_key(TxId(3), 1)), Some(TxId(3)));
        assert_eq!(answered(&answer_key(TxId(4))), Some(TxId(4)));
        assert_eq!(answered(&ask_key(TxId(4), 0)), None);
        assert_eq!(wished(&wish_key(5)), Some(5));
        assert_eq!(intent_of(&intent_key(TxId(6))), Some(TxId(6)));
        let fence = |n: u32| fence_key(GroupId(3), 9, Some(&n.to_be_bytes()), TxId(7));
        let fences: Vec<Bytes> = (0..CHUNK_MAX as u32 + 1).map(fence).collect();
        let list = fence_list(GroupId(3), TxId(7), &fences);
        let read = list.iter().map(|(_, bytes)| read_fence_list(bytes));
        let read: Vec<Vec<Bytes>> = read.collect::<Result<_>>().expect("whole");
        assert_eq!((read.len(), read.concat()), (2, fences));
    }

    #[test]
    fn the_fences_of_a_key_are_its_own_and_those_of_an_index_are_all() {
        let within = |range: &Range, key: &Bytes| {
            let above = match &range.0 {
                Bound::Included(first) => first <= key,
                Bound::Excluded(_) | Bound::Unbounded => false,
            };
            above
                && match &range.1 {
                    Bound::Included(last) => key <= last,
                    Bound::Excluded(last) => key < last,
                    Bound::Unbounded => true,
                }
        };
        let (group, other) = (GroupId(3), GroupId(4));
        let own = fence_key(group, 9, Some(b"k"), TxId(77));
        let all = fence_key(group, 9, None, TxId(77));
        assert!(within(&fences(group, 9, Some(b"k")), &own));
        assert!(!within(&fences(group, 9, Some(b"j")), &own));
        assert!(!within(&fences(group, 9, None), &own));
        assert!(within(&fences(group, 9, None), &all));
        let index = all_fences(group, 9);
        assert!(within(&index, &own) && within(&index, &all));
        assert!(!within(&all_fences(group, 10), &own) && !within(&all_fences(other, 9), &own));
        for (key, _) in fence_list(group, TxId(77), &[own]) {
            assert!(within(&fence_lists(group, TxId(77)), &key) && !within(&index, &key));
            assert!(!within(&fence_lists(group, TxId(78)), &key));
            assert!(!within(&fence_lists(other, TxId(77)), &key));
        }
    }
}
