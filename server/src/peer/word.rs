//! Words on a stream between nodes: each stands behind its length, so that whoever reads takes it
//! whole and knows where the next one begins.
//!
//! ```text
//! length u32 | kind u8 | body
//! ```
//! Little-endian; `length` counts kind and body. The checksums are those of the connection's frames.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// The longest word: kind and body.
pub const WORD_BYTES_MAX: usize = 1 << 30;
const HEAD_BYTES: usize = 4;
/// Memory that is taken before anything of a word has come.
const ROOM_BYTES: usize = 4 << 10;

const _: () = assert!(WORD_BYTES_MAX <= u32::MAX as usize);

/// A word is longer than [`WORD_BYTES_MAX`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a word is longer than 1 GiB")]
pub struct TooLong;

/// Appends a word, whose body is what `write` appends. Errors: it is too long, and not there.
pub fn put_word(
    out: &mut BytesMut,
    kind: u8,
    write: impl FnOnce(&mut BytesMut),
) -> Result<(), TooLong> {
    put_within(WORD_BYTES_MAX, out, kind, write)
}

fn put_within(
    bytes_max: usize,
    out: &mut BytesMut,
    kind: u8,
    write: impl FnOnce(&mut BytesMut),
) -> Result<(), TooLong> {
    let begin = out.len();
    out.put_u32_le(0);
    out.put_u8(kind);
    write(out);
    let length = out.len() - begin - HEAD_BYTES;
    if length > bytes_max {
        out.truncate(begin);
        return Err(TooLong);
    }
    out[begin..begin + HEAD_BYTES].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(())
}

/// The next word of a stream, as kind and body, of so many bytes at the most, however long it takes:
/// as long as bytes come there is somebody. Errors: the stream is `silent` for so long
/// ([`Duration::MAX`]: it may be), has ended, or goes on with what is no word.
pub async fn read_word(
    from: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
    silent: Duration,
) -> io::Result<(u8, Bytes)> {
    let length = heard(silent, from.read_u32_le()).await? as usize;
    if length == 0 || length > bytes_max {
        return Err(no_word("a word has no possible length"));
    }
    // Memory is taken as the bytes come, not as the length says.
    let mut bytes = BytesMut::with_capacity(length.min(ROOM_BYTES));
    let mut body = from.take(length as u64);
    while bytes.len() < length {
        if heard(silent, body.read_buf(&mut bytes)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let kind = bytes.get_u8();
    Ok((kind, bytes.freeze()))
}

async fn heard<T>(silent: Duration, read: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(silent, read).await.unwrap_or_else(|_| {
        let why = format!("nothing came for {silent:?}");
        Err(io::Error::new(io::ErrorKind::TimedOut, why))
    })
}

/// What is said where a word means nothing.
pub fn no_word(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Writes all of it, however long it takes: as long as some of it is taken there is somebody.
pub async fn write_slowly(
    to: &mut (impl AsyncWrite + Unpin),
    mut bytes: &[u8],
    silent: Duration,
) -> Result<(), String> {
    while !bytes.is_empty() {
        match timeout(silent, to.write(bytes)).await {
            Ok(Ok(0)) => return Err("it takes no more".into()),
            Ok(Ok(written)) => bytes = &bytes[written..],
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err(format!("it has read nothing for {silent:?}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> BytesMut {
        let mut out = BytesMut::new();
        put_word(&mut out, 3, |out| out.put_slice(b"body")).unwrap();
        put_word(&mut out, 200, |_| ()).unwrap();
        out
    }

    #[tokio::test]
    async fn words_come_whole_and_one_after_the_other() {
        let bytes = words();
        assert_eq!(bytes[..], *b"\x05\0\0\0\x03body\x01\0\0\0\xc8");
        let mut from = &bytes[..];
        let word = read_word(&mut from, 5, Duration::MAX).await.unwrap();
        assert_eq!(word, (3, Bytes::from_static(b"body")));
        assert_eq!(
            read_word(&mut from, 5, Duration::MAX).await.unwrap(),
            (200, Bytes::new())
        );
        let ended = read_word(&mut from, 5, Duration::MAX).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn what_is_cut_off_empty_or_too_long_is_no_word() {
        let bytes = words();
        for end in 0..9 {
            let cut = read_word(&mut &bytes[..end], 5, Duration::MAX)
                .await
                .unwrap_err();
            assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof, "{end}");
        }
        for (head, bytes_max) in [(&bytes[..], 4), (&[0; 9], 5), (&[0xff; 9], WORD_BYTES_MAX)] {
            let refused = read_word(&mut &head[..], bytes_max, Duration::MAX)
                .await
                .unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{head:?}");
        }
    }

    /// A gigabyte is announced, and little comes.
    #[tokio::test]
    async fn no_memory_is_taken_for_what_is_announced() {
        struct Least<'a>(&'a [u8], usize);
        impl AsyncRead for Least<'_> {
            fn poll_read(
                mut self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
                into: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<io::Result<()>> {
                self.1 = self.1.max(into.remaining());
                let bytes = self.0.len().min(into.remaining());
                into.put_slice(&self.0[..bytes]);
                self.0 = &self.0[bytes..];
                std::task::Poll::Ready(Ok(()))
            }
        }
        let bytes = [&(WORD_BYTES_MAX as u32).to_le_bytes()[..], &[7; 100_000]].concat();
        let mut from = Least(&bytes, 0);
        let cut = read_word(&mut from, WORD_BYTES_MAX, Duration::MAX)
            .await
            .unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
        assert!(from.1 < 1 << 20, "room for {} bytes", from.1);
    }

    #[test]
    fn who_says_too_much_says_nothing() {
        let mut out = words();
        let long = put_within(4, &mut out, 1, |out| out.put_slice(b"body"));
        assert_eq!(long, Err(TooLong));
        assert_eq!(out, words());
        put_within(5, &mut out, 1, |out| out.put_slice(b"body")).unwrap();
        assert_eq!(out.len(), words().len() + 9);
    }

    #[tokio::test]
    async fn a_long_word_that_comes_slowly_is_no_silence() {
        const SILENT: Duration = Duration::from_secs(2);
        let (mut to, mut from) = tokio::io::duplex(1);
        let writing = tokio::spawn(async move {
            for byte in words() {
                tokio::time::sleep(SILENT / 7).await;
                to.write_all(&[byte]).await.unwrap();
            }
            to
        });
        let word = read_word(&mut from, 5, SILENT).await.unwrap();
        assert_eq!(word, (3, Bytes::from_static(b"body")));
        read_word(&mut from, 5, SILENT).await.unwrap();
        // It stays open, and says nothing.
        let _to = writing.await.unwrap();
        let silent = read_word(&mut from, 5, SILENT).await.unwrap_err();
        assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
    }
}
