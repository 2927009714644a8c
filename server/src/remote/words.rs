//! What a reader of a view and its source say to each other.
//!
//! ```text
//! opening: 'V' | version u8 = 1 | request (sql/src/remote/codec.rs)
//! word (peer/word.rs): kind u8 | body
//!   Rows  1 rows                     Old    4 position u64
//!   End   2                          Lacks  5 text
//!   Ahead 3 group u32, position u64  Failed 6 error   Sign 7
//! ```
//! Little-endian.

use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use sql::remote::{Request, decode_error, encode_error};
use storage::{GroupId, Position};
use tokio::io::AsyncRead;

use crate::peer::OPENING_BYTES_MAX;
use crate::peer::word::{TooLong, WORD_BYTES_MAX, no_word, put_word, read_word};

/// The first byte of what opens a stream of a view.
pub const FIRST_BYTE: u8 = b'V';
const VERSION: u8 = 1;

/// What opens a stream; `None`: it is too long.
pub fn opening(request: &Request) -> Option<Bytes> {
    let bytes = |request: &Request| {
        let mut out = BytesMut::from(&[FIRST_BYTE, VERSION][..]);
        out.put_slice(&request.encode());
        (out.len() <= OPENING_BYTES_MAX).then(|| out.freeze())
    };
    // The conditions only spare rows: the reader looks at them again.
    bytes(request).or_else(|| {
        let mut all = request.clone();
        all.conditions.clear();
        bytes(&all)
    })
}

/// The inverse; `None`: it is none.
pub fn request(opening: &[u8]) -> Option<Request> {
    let request = opening.strip_prefix(&[FIRST_BYTE, VERSION])?;
    Request::decode(request).ok()
}

/// What a source says.
#[derive(Debug)]
pub enum Word {
    /// Rows.
    Rows(Bytes),
    /// No more.
    End,
    /// Its catalog of the group is ahead of the reader's.
    Ahead(GroupId, Position),
    /// Nothing before this position can be read there.
    Old(Position),
    /// Another node may have what it has not.
    Lacks(String),
    /// The statement fails.
    Failed(sql::Error),
    /// It is there.
    Sign,
}

impl Word {
    fn kind(&self) -> u8 {
        match self {
            Word::Rows(_) => 1,
            Word::End => 2,
            Word::Ahead(..) => 3,
            Word::Old(_) => 4,
            Word::Lacks(_) => 5,
            Word::Failed(_) => 6,
            Word::Sign => 7,
        }
    }

    /// Appends its bytes. Errors: it is too long.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), TooLong> {
        put_word(out, self.kind(), |out| match self {
            Word::Rows(rows) => out.put_slice(rows),
            Word::Ahead(group, at) => {
                out.put_u32_le(group.0);
                out.put_u64_le(at.0);
            }
            Word::Old(at) => out.put_u64_le(at.0),
            Word::Lacks(why) => out.put_slice(why.as_bytes()),
            Word::Failed(error) => out.put_slice(&encode_error(error)),
            Word::End | Word::Sign => {}
        })
    }

    /// Reads one. Errors: the stream's, if it is silent for so long, too; what is no word.
    pub async fn read(from: &mut (impl AsyncRead + Unpin), silent: Duration) -> io::Result<Word> {
        let (kind, body) = read_word(from, WORD_BYTES_MAX, silent).await?;
        Word::decode(kind, body).ok_or_else(|| no_word("no word of a view's source"))
    }

    fn decode(kind: u8, mut body: Bytes) -> Option<Word> {
        let word = match kind {
            1 => return Some(Word::Rows(body)),
            2 => Word::End,
            3 => {
                let group = GroupId(body.try_get_u32_le().ok()?);
                Word::Ahead(group, Position(body.try_get_u64_le().ok()?))
            }
            4 => Word::Old(Position(body.try_get_u64_le().ok()?)),
            5 => return Some(Word::Lacks(String::from_utf8(body.into()).ok()?)),
            6 => return Some(Word::Failed(decode_error(&body).ok()?)),
            7 => Word::Sign,
            _ => return None,
        };
        body.is_empty().then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use sql::catalog::{RoleId, TableId};
    use sql::remote::{Compare, Condition};
    use sql::types::Datum;

    use super::*;

    fn asks(shape: usize, value: usize) -> Request {
        Request {
            group: GroupId(7),
            at: Position(70),
            known: vec![(GroupId(7), Position(60))],
            view: TableId(16_500),
            shape: vec![b'x'; shape],
            reader: RoleId(16_400),
            columns: vec![0],
            conditions: vec![Condition {
                column: 0,
                compare: Compare::Equal,
                value: Datum::text("y".repeat(value)),
            }],
            asker: Vec::new(),
            started: 5,
            begun: 6,
            holds: false,
        }
    }

    #[test]
    fn a_condition_that_is_too_long_is_looked_at_by_the_reader_alone() {
        let short = asks(10, 10);
        assert_eq!(request(&opening(&short).unwrap()).unwrap(), short);
        let sent = request(&opening(&asks(10, OPENING_BYTES_MAX)).unwrap()).unwrap();
        assert_eq!(sent.conditions, []);
        assert_eq!(sent.columns, [0]);
        assert_eq!(opening(&asks(OPENING_BYTES_MAX, 10)), None);
    }

    #[test]
    fn what_is_no_opening_opens_nothing() {
        let bytes = opening(&asks(10, 10)).unwrap();
        for length in 0..bytes.len() {
            assert_eq!(request(&bytes[..length]), None, "{length}");
        }
        for at in [0, 1, 2] {
            let mut other = bytes.to_vec();
            other[at] += 1;
            assert_eq!(request(&other), None, "{at}: another kind or version");
        }
    }

    #[tokio::test]
    async fn words_come_back_and_damaged_ones_do_not() {
        let words = [
            Word::Rows(Bytes::from_static(b"rows")),
            Word::End,
            Word::Ahead(GroupId(3), Position(4)),
            Word::Old(Position(5)),
            Word::Lacks("why".into()),
            Word::Failed(sql::Error::new(sql::state::DIVISION_BY_ZERO, "no")),
            Word::Sign,
        ];
        let mut bytes = BytesMut::new();
        for word in &words {
            word.encode(&mut bytes).unwrap();
        }
        let mut from = &bytes[..];
        for word in &words {
            let read = Word::read(&mut from, Duration::MAX).await.unwrap();
            assert_eq!(format!("{read:?}"), format!("{word:?}"));
        }
        assert!(
            Word::read(&mut from, Duration::MAX).await.is_err(),
            "nothing more"
        );
        for damaged in [
            &[0, 0, 0, 0][..],
            &[1, 0, 0, 0, 9],
            &[2, 0, 0, 0, 2, 2],
            &[9, 0, 0, 0, 1],
            &[3, 0, 0, 0, 6, b'2', b'2'],
            &[2, 0, 0, 0, 5, 0xff],
        ] {
            let mut from = damaged;
            assert!(
                Word::read(&mut from, Duration::MAX).await.is_err(),
                "{damaged:?}"
            );
        }
    }
}
