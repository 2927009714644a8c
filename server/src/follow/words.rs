//! What a follower says to its source; what the source says are the `feed` crate's pieces.
//!
//! ```text
//! opening: 'F' | version u8 = 1 | asked | the feed's Request
//! word (peer/word.rs): kind u8 | body
//!   Asked  1 asked           other tables are asked for from now on
//!   Close  2                 someone waits until the group is closed
//! asked:   count u16 | (role u32 | table u32)*
//! ```
//! Little-endian.

use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use feed::follow::{HEAD_BYTES, Piece, Request, body_bytes};
use sql::catalog::{RoleId, TableId};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

use super::ASKED_MAX;
use crate::peer::word::{TooLong, no_word, put_word, read_word};

/// The first byte of what opens a stream for a follower.
pub const FIRST_BYTE: u8 = b'F';
const VERSION: u8 = 1;
const PAIR_BYTES: usize = 8;
/// The longest word: kind, count and pairs.
const WORD_BYTES_MAX: usize = 3 + ASKED_MAX * PAIR_BYTES;

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
        let mut out = BytesMut::from(&[FIRST_BYTE, VERSION][..]);
        put_asked(&mut out, &self.asked);
        out.put_slice(&self.request.encode());
        out.freeze()
    }

    /// The inverse of [`Opening::encode`]; `None`: it is none.
    pub fn decode(mut bytes: Bytes) -> Option<Opening> {
        if bytes.try_get_u8().ok()? != FIRST_BYTE || bytes.try_get_u8().ok()? != VERSION {
            return None;
        }
        let asked = get_asked(&mut bytes)?;
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

fn get_asked(bytes: &mut Bytes) -> Option<Asked> {
    let count = usize::from(bytes.try_get_u16_le().ok()?);
    if count > ASKED_MAX || bytes.len() < count * PAIR_BYTES {
        return None;
    }
    let mut pair = || (RoleId(bytes.get_u32_le()), TableId(bytes.get_u32_le()));
    Some((0..count).map(|_| pair()).collect())
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
    /// Appends its bytes. Errors: it is too long.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), TooLong> {
        match self {
            Word::Asked(asked) => put_word(out, 1, |out| put_asked(out, asked)),
            Word::Close => put_word(out, 2, |_| ()),
        }
    }

    /// The next one of a stream. Errors: it has ended, or says what is not known here.
    pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Word> {
        let (kind, body) = read_word(from, WORD_BYTES_MAX, Duration::MAX).await?;
        Word::decode(kind, body).ok_or_else(|| no_word("no word of a follower"))
    }

    fn decode(kind: u8, mut body: Bytes) -> Option<Word> {
        let word = match kind {
            1 => Word::Asked(get_asked(&mut body)?),
            2 => Word::Close,
            _ => return None,
        };
        body.is_empty().then_some(word)
    }
}

/// The next piece of a source, however long it takes: as long as bytes `come` there is somebody.
/// Errors: the stream has ended, or is `silent` for so long; what came is no piece.
pub async fn read_piece(
    from: &mut (impl AsyncRead + Unpin),
    silent: Duration,
    come: impl Fn(u64),
) -> Result<Piece, feed::Error> {
    let mut bytes = BytesMut::new();
    let mut wanted = HEAD_BYTES;
    loop {
        // Memory is taken as the bytes come, not as the length says.
        let mut rest = (&mut *from).take((wanted - bytes.len()) as u64);
        let read = match timeout(silent, rest.read_buf(&mut bytes)).await {
            Ok(Ok(read)) => read,
            Ok(Err(_)) => 0,
            Err(_) => return Err(feed::Error::Stream("nothing has come for long")),
        };
        if read == 0 {
            return Err(feed::Error::Stream("it has ended"));
        }
        come(read as u64);
        if bytes.len() < wanted {
            continue;
        }
        match bytes.first_chunk::<HEAD_BYTES>() {
            Some(head) if wanted == HEAD_BYTES => wanted += body_bytes(*head)?,
            _ => return Piece::decode(bytes.freeze()),
        }
    }
}

#[cfg(test)]
mod tests {
    use storage::{Applied, Chosen, GroupId, Position};
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::peer::word::write_slowly;

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
                for at in [0, 1] {
                    let mut other = bytes.to_vec();
                    other[at] += 1;
                    assert_eq!(
                        Opening::decode(other.into()),
                        None,
                        "another kind or version"
                    );
                }
                for length in 0..20 {
                    assert_eq!(Opening::decode(bytes.slice(..length)), None, "{length}");
                }
            }
        }
    }

    #[tokio::test]
    async fn words_come_back_and_nothing_else_is_one() {
        let most = vec![(RoleId(1), TableId(2)); ASKED_MAX];
        for word in [
            Word::Close,
            Word::Asked(asked()),
            Word::Asked(Vec::new()),
            Word::Asked(most),
        ] {
            let mut bytes = BytesMut::new();
            word.encode(&mut bytes).unwrap();
            assert_eq!(Word::read(&mut &bytes[..]).await.unwrap(), word);
            let short = &bytes[..bytes.len() - 1];
            assert!(Word::read(&mut &short[..]).await.is_err());
        }
        for (kind, body) in [
            (0, &[][..]),
            (1, &[]),
            (1, &[1, 0]),
            (1, &[0, 0, 0]),
            (1, &[0xff, 0xff]),
            (2, &[0]),
            (3, &[]),
        ] {
            let mut bytes = BytesMut::new();
            put_word(&mut bytes, kind, |out| out.put_slice(body)).unwrap();
            assert!(
                Word::read(&mut &bytes[..]).await.is_err(),
                "{kind} {body:?}"
            );
        }
        let many = vec![(RoleId(1), TableId(2)); ASKED_MAX + 1];
        let mut bytes = BytesMut::new();
        Word::Asked(many).encode(&mut bytes).unwrap();
        assert!(Word::read(&mut &bytes[..]).await.is_err());
    }

    #[tokio::test]
    async fn pieces_are_read_one_after_the_other() {
        let pieces = [Piece::End(3), Piece::Newest(Position(4)), Piece::Again];
        let bytes: Vec<u8> = pieces.iter().flat_map(|p| p.encode()).collect();
        let mut from = &bytes[..];
        let silent = Duration::from_secs(1);
        for piece in pieces {
            assert_eq!(read_piece(&mut from, silent, |_| ()).await.unwrap(), piece);
        }
        assert!(read_piece(&mut from, silent, |_| ()).await.is_err());
        let mut cut = &bytes[..HEAD_BYTES + 1];
        assert!(read_piece(&mut cut, silent, |_| ()).await.is_err());
    }

    /// A link that lets a few bytes through at a time: the piece takes much longer than anybody may
    /// be silent, and comes all the same; one that says nothing is left.
    #[tokio::test]
    async fn a_slow_link_is_no_silence() {
        let piece = Piece::Rows(Bytes::from(vec![7; 10_000]));
        let silent = Duration::from_secs(3);
        let (mut near, mut far) = tokio::io::duplex(100);
        let begun = tokio::time::Instant::now();
        let bytes = piece.encode();
        let sent = tokio::spawn(async move {
            write_slowly(&mut near, &bytes, silent).await.unwrap();
            near
        });
        let (mut slow, mut end) = tokio::io::duplex(100);
        let link = tokio::spawn(async move {
            let mut some = [0; 100];
            loop {
                tokio::time::sleep(Duration::from_millis(40)).await;
                match far.read(&mut some).await.unwrap() {
                    0 => std::future::pending::<()>().await,
                    read => slow.write_all(&some[..read]).await.unwrap(),
                }
            }
        });
        let come = std::cell::Cell::new(0);
        let count = |bytes| come.set(come.get() + bytes);
        assert_eq!(read_piece(&mut end, silent, count).await.unwrap(), piece);
        assert_eq!(come.get(), piece.encode().len() as u64);
        assert!(begun.elapsed() > silent, "{:?}", begun.elapsed());
        drop(sent.await.unwrap());
        let silent = Duration::from_millis(50);
        assert!(read_piece(&mut end, silent, |_| ()).await.is_err());
        link.abort();
        let (mut full, _kept) = tokio::io::duplex(100);
        assert!(write_slowly(&mut full, &[0; 101], silent).await.is_err());
    }
}
