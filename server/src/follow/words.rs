//! What a follower says to its source; what the source says are the `feed` crate's pieces.
//!
//! ```text
//! opening: 'F' | asked | the feed's Request
//! later:   'A' | asked                          other tables are asked for from now on
//!          'C'                                  someone waits until the group is closed
//! asked:   count u16 | (role u32 | table u32)*
//! ```
//! Little-endian.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use feed::follow::{HEAD_BYTES, Piece, Request, body_bytes};
use sql::catalog::{RoleId, TableId};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::ASKED_MAX;

/// The first byte of what opens a stream for a follower.
pub const FIRST_BYTE: u8 = b'F';
const ASKED: u8 = b'A';
const CLOSE: u8 = b'C';
const PAIR_BYTES: usize = 8;

const _: () = assert!(ASKED_MAX <= u16::MAX as usize);

/// Tables that roles need at the follower.
pub type Asked = Vec<(RoleId, TableId)>;

/// What opens a stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Opening {
    /// Tables beside those that are followed.
    pub asked: Asked,
    /// From where to go on.
    pub request: Request,
}

impl Opening {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::from(&[FIRST_BYTE][..]);
        put_asked(&mut out, &self.asked);
        out.put_slice(&self.request.encode());
        out.freeze()
    }

    /// The inverse of [`Opening::encode`]; `None`: it is none.
    pub fn decode(mut bytes: Bytes) -> Option<Opening> {
        if bytes.try_get_u8().ok()? != FIRST_BYTE {
            return None;
        }
        let count = usize::from(bytes.try_get_u16_le().ok()?);
        if count > ASKED_MAX || bytes.len() < count * PAIR_BYTES {
            return None;
        }
        let asked = get_asked(&mut bytes, count);
        let request = Request::decode(bytes)?;
        Some(Opening { asked, request })
    }
}

fn put_asked(out: &mut BytesMut, asked: &Asked) {
    out.put_u16_le(asked.len() as u16);
    for (role, table) in asked {
        out.put_u32_le(role.0);
        out.put_u32_le(table.0);
    }
}

fn get_asked(bytes: &mut Bytes, count: usize) -> Asked {
    let mut pair = || (RoleId(bytes.get_u32_le()), TableId(bytes.get_u32_le()));
    (0..count).map(|_| pair()).collect()
}

/// What a follower says while it follows.
#[derive(Debug, PartialEq, Eq)]
pub enum Word {
    /// These tables are asked for.
    Asked(Asked),
    /// The group is to be closed.
    Close,
}

impl Word {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Word::Asked(asked) => {
                out.put_u8(ASKED);
                put_asked(&mut out, asked);
            }
            Word::Close => out.put_u8(CLOSE),
        }
        out.freeze()
    }

    /// The next one of a stream. Errors: it has ended, or says what is not known here.
    pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Word> {
        match from.read_u8().await? {
            CLOSE => Ok(Word::Close),
            ASKED => {
                let count = usize::from(from.read_u16_le().await?);
                if count > ASKED_MAX {
                    return Err(io::Error::other("too many tables are asked for"));
                }
                let mut bytes = vec![0; count * PAIR_BYTES];
                from.read_exact(&mut bytes).await?;
                Ok(Word::Asked(get_asked(&mut bytes.into(), count)))
            }
            other => Err(io::Error::other(format!("no word begins with {other}"))),
        }
    }
}

/// The next piece of a source. Errors: the stream has ended; what came is no piece.
pub async fn read_piece(from: &mut (impl AsyncRead + Unpin)) -> Result<Piece, feed::Error> {
    let ended = |_| feed::Error::Stream("it has ended");
    let mut head = [0; HEAD_BYTES];
    from.read_exact(&mut head).await.map_err(ended)?;
    let length = body_bytes(head)?;
    // Memory is taken as the bytes come, not as the length says.
    let mut bytes = BytesMut::from(&head[..]);
    let mut body = from.take(length as u64);
    while bytes.len() < HEAD_BYTES + length {
        if body.read_buf(&mut bytes).await.map_err(ended)? == 0 {
            return Err(feed::Error::Stream("it has ended"));
        }
    }
    Piece::decode(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::{Applied, Chosen, GroupId, Position};

    fn asked() -> Asked {
        vec![(RoleId(10), TableId(20)), (RoleId(30), TableId(40))]
    }

    #[test]
    fn openings_come_back() {
        let has = (Applied::default(), Chosen::new([1, 2]));
        for asked in [Vec::new(), asked()] {
            for has in [None, Some(has.clone())] {
                let group = GroupId(7);
                let request = Request { group, has };
                let asked = asked.clone();
                let opening = Opening { asked, request };
                let bytes = opening.encode();
                assert_eq!(Opening::decode(bytes.clone()), Some(opening));
                assert_eq!(Opening::decode(bytes.slice(1..)), None);
                for length in 0..20 {
                    assert_eq!(Opening::decode(bytes.slice(..length)), None, "{length}");
                }
            }
        }
    }

    #[tokio::test]
    async fn words_come_back_and_nothing_else_is_one() {
        for word in [Word::Close, Word::Asked(asked()), Word::Asked(Vec::new())] {
            let bytes = word.encode();
            assert_eq!(Word::read(&mut &bytes[..]).await.unwrap(), word);
            let short = &bytes[..bytes.len() - 1];
            assert!(Word::read(&mut &short[..]).await.is_err());
        }
        let many = [ASKED, 255, 255];
        assert!(Word::read(&mut &many[..]).await.is_err());
        assert!(Word::read(&mut &[b'x'][..]).await.is_err());
    }

    #[tokio::test]
    async fn pieces_are_read_one_after_the_other() {
        let pieces = [Piece::End(3), Piece::Newest(Position(4)), Piece::Again];
        let bytes: Vec<u8> = pieces.iter().flat_map(|p| p.encode()).collect();
        let mut from = &bytes[..];
        for piece in pieces {
            assert_eq!(read_piece(&mut from).await.unwrap(), piece);
        }
        assert!(read_piece(&mut from).await.is_err());
        assert!(read_piece(&mut &bytes[..HEAD_BYTES + 1]).await.is_err());
    }
}
