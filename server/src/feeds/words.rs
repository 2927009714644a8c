//! What a reader of the feed and its source say to each other.
//!
//! ```text
//! opening: 'L' | version u8 = 2 | directory u64 | after u64 | upto u64
//!          count u16 | (group u32 | known u64)* | filter
//! word (peer/word.rs): kind u8 | body
//!   Row    2 group u32 | last u8 | row    Lacks  6 group u32
//!   Passed 3 position u64                 Denied 7 text
//!   End    4 position u64                 Sign   8
//!   Behind 5 (group u32 | position u64)*
//! ```
//! Little-endian.

use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use sql::changes::{FeedRow, Filter};
use storage::{GroupId, Position};
use tokio::io::AsyncRead;

use super::{FILTER_BYTES_MAX, GROUPS_MAX};
use crate::peer::word::{TooLong, WORD_BYTES_MAX, no_word, put_word, read_word};

/// The first byte of what opens a stream of the feed.
pub const FIRST_BYTE: u8 = b'L';
const VERSION: u8 = 2;

/// What opens a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Opening {
    /// So far the reader's catalog has the directory.
    pub directory: Position,
    /// Units above.
    pub after: Position,
    /// Up to here.
    pub upto: Position,
    /// The groups, and how far the reader's catalog has each of them.
    pub groups: Vec<(GroupId, Position)>,
    /// Who reads, and what.
    pub filter: Bytes,
}

impl Opening {
    /// Its bytes; `None`: it is too long.
    pub fn encode(&self) -> Option<Bytes> {
        if self.groups.len() > GROUPS_MAX || self.filter.len() > FILTER_BYTES_MAX {
            return None;
        }
        let mut out = BytesMut::from(&[FIRST_BYTE, VERSION][..]);
        out.put_u64_le(self.directory.0);
        out.put_u64_le(self.after.0);
        out.put_u64_le(self.upto.0);
        out.put_u16_le(self.groups.len() as u16);
        for (group, known) in &self.groups {
            out.put_u32_le(group.0);
            out.put_u64_le(known.0);
        }
        out.put_slice(&self.filter);
        Some(out.freeze())
    }

    /// The inverse of [`Opening::encode`]; `None`: it is none.
    pub fn decode(mut bytes: Bytes) -> Option<(Opening, Filter)> {
        if bytes.try_get_u8().ok()? != FIRST_BYTE || bytes.try_get_u8().ok()? != VERSION {
            return None;
        }
        let directory = Position(bytes.try_get_u64_le().ok()?);
        let after = Position(bytes.try_get_u64_le().ok()?);
        let upto = Position(bytes.try_get_u64_le().ok()?);
        let count = usize::from(bytes.try_get_u16_le().ok()?);
        if count > GROUPS_MAX {
            return None;
        }
        let mut groups = Vec::new();
        for _ in 0..count {
            let group = GroupId(bytes.try_get_u32_le().ok()?);
            groups.push((group, Position(bytes.try_get_u64_le().ok()?)));
        }
        let filter = Filter::decode(&bytes)?;
        let opening = Opening {
            directory,
            after,
            upto,
            groups,
            filter: bytes,
        };
        Some((opening, filter))
    }
}

/// What a source says.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// A row.
    Row {
        /// Its entry's group.
        group: GroupId,
        /// The last one of its entry.
        last: bool,
        /// The row.
        row: Box<FeedRow>,
    },
    /// Nothing at or below comes any more.
    Passed(Position),
    /// Likewise, and nothing above either: that was asked for.
    End(Position),
    /// The source retains these groups only from there on, which is not enough.
    Behind(Vec<(GroupId, Position)>),
    /// The source has no log of a group.
    Lacks(GroupId),
    /// What was read may not be read any more.
    Denied(String),
    /// It is there.
    Sign,
}

impl Word {
    fn kind(&self) -> u8 {
        match self {
            Word::Row { .. } => 2,
            Word::Passed(_) => 3,
            Word::End(_) => 4,
            Word::Behind(_) => 5,
            Word::Lacks(_) => 6,
            Word::Denied(_) => 7,
            Word::Sign => 8,
        }
    }

    /// Appends its bytes. Errors: it is too long.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), TooLong> {
        put_word(out, self.kind(), |out| match self {
            Word::Passed(at) | Word::End(at) => out.put_u64_le(at.0),
            Word::Row { group, last, row } => {
                out.put_u32_le(group.0);
                out.put_u8(u8::from(*last));
                let mut bytes = Vec::new();
                row.encode(&mut bytes);
                out.put_slice(&bytes);
            }
            Word::Behind(retained) => {
                for (group, oldest) in retained {
                    out.put_u32_le(group.0);
                    out.put_u64_le(oldest.0);
                }
            }
            Word::Lacks(group) => out.put_u32_le(group.0),
            Word::Denied(why) => out.put_slice(why.as_bytes()),
            Word::Sign => {}
        })
    }

    /// The next one of a stream. Errors: it is silent for so
    /// long, has ended, or says what is not known here.
    pub async fn read(from: &mut (impl AsyncRead + Unpin), silent: Duration) -> io::Result<Word> {
        let (kind, body) = read_word(from, WORD_BYTES_MAX, silent).await?;
        Word::decode(kind, body).ok_or_else(|| no_word("no word of a source of the feed"))
    }

    fn decode(kind: u8, mut body: Bytes) -> Option<Word> {
        let word = match kind {
            2 => {
                let group = GroupId(body.try_get_u32_le().ok()?);
                let last = match body.try_get_u8().ok()? {
                    0 => false,
                    1 => true,
                    _ => return None,
                };
                let row = Box::new(FeedRow::decode(&body)?);
                return Some(Word::Row { group, last, row });
            }
            3 => Word::Passed(Position(body.try_get_u64_le().ok()?)),
            4 => Word::End(Position(body.try_get_u64_le().ok()?)),
            5 => {
                let mut retained = Vec::new();
                while body.has_remaining() {
                    let group = GroupId(body.try_get_u32_le().ok()?);
                    retained.push((group, Position(body.try_get_u64_le().ok()?)));
                }
                Word::Behind(retained)
            }
            6 => Word::Lacks(GroupId(body.try_get_u32_le().ok()?)),
            7 => return Some(Word::Denied(String::from_utf8(body.into()).ok()?)),
            8 => Word::Sign,
            _ => return None,
        };
        body.is_empty().then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use sql::catalog::RoleId;

    use super::*;

    #[test]
    fn openings_come_back() {
        let filter = Filter::new(RoleId(7), &[], Some(vec!["order_*".into()]));
        let opening = Opening {
            directory: Position(3),
            after: Position(5),
            upto: Position(9),
            groups: vec![(GroupId(1), Position(2)), (GroupId(4), Position(0))],
            filter: filter.encode(),
        };
        let bytes = opening.encode().unwrap();
        assert_eq!(Opening::decode(bytes.clone()), Some((opening, filter)));
        for length in 0..bytes.len() {
            assert_eq!(Opening::decode(bytes.slice(..length)), None, "{length}");
        }
    }

    #[tokio::test]
    async fn words_come_back_and_nothing_else_is_one() {
        let at = Position(7);
        let words = [
            Word::Passed(at),
            Word::End(at),
            Word::Behind(vec![(GroupId(1), at), (GroupId(2), at)]),
            Word::Lacks(GroupId(1)),
            Word::Denied("permission denied".into()),
            Word::Sign,
        ];
        let mut all = BytesMut::new();
        for word in &words {
            let mut bytes = BytesMut::new();
            word.encode(&mut bytes).unwrap();
            all.extend_from_slice(&bytes);
            for length in 0..bytes.len() {
                assert!(
                    Word::read(&mut &bytes[..length], Duration::MAX)
                        .await
                        .is_err()
                );
            }
        }
        let mut from = &all[..];
        for word in words {
            assert_eq!(Word::read(&mut from, Duration::MAX).await.unwrap(), word);
        }
        for kind in [0, 1, 2, 3, 4, 6, 9] {
            assert!(
                Word::read(&mut &[1, 0, 0, 0, kind][..], Duration::MAX)
                    .await
                    .is_err()
            );
        }
        assert!(Word::read(&mut &[255; 8][..], Duration::MAX).await.is_err());
    }
}
