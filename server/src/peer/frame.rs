//! The frame, the one form of everything that nodes say to each other: length, checksum, kind,
//! number, body. Bytes of a peer never make this module panic, and a length is compared with its
//! limit before any memory is taken for it.
//!
//! ```text
//!  0        4        8  9                17
//!  | length | crc32  |k | id             | body ...
//!    u32      u32     u8  u64              length - 9 bytes
//! ```
//!
//! All numbers are little-endian. `length` counts what lies behind `crc32`, which is the checksum of
//! the same bytes. What `id` means is the kind's matter.

use std::io;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes before the body.
pub const HEADER_BYTES: usize = 17;
/// The longest body.
pub const BODY_BYTES_MAX: usize = 16 << 20;
/// The longest frame.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES + BODY_BYTES_MAX;

/// What `length` counts besides the body: kind and id.
const COUNTED_BYTES: usize = 9;
/// What lies before the counted bytes: length and checksum.
const PREFIX_BYTES: usize = HEADER_BYTES - COUNTED_BYTES;
/// Memory is taken in steps of this size while bytes come, whatever a length claims.
const READ_BYTES: usize = 64 << 10;
/// Bodies up to this length get memory of their own; longer ones keep what they were read into.
const COPY_BYTES_MAX: usize = 4 << 10;

const _: () = assert!(COUNTED_BYTES + BODY_BYTES_MAX <= u32::MAX as usize);
const _: () = assert!(COPY_BYTES_MAX < READ_BYTES);

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Handshake: who I am. Body: a [`Hello`](super::Hello).
    Hello = 1,
    /// Handshake: you may go on.
    Admit = 2,
    /// Handshake: I don't talk to you. Body: why, in words.
    Refuse = 3,
    /// A request; `id` is the caller's number for it.
    Request = 4,
    /// The answer to the request `id`.
    Answer = 5,
    /// There is no answer to the request `id`. Body: why, in words.
    Failure = 6,
    /// A stream begins; `id` is the opener's number for it. Body: the opening.
    Open = 7,
    /// Bytes of the stream `id`.
    Data = 8,
    /// The sender of the stream `id` may send more. Body: how many bytes, u32.
    Credit = 9,
    /// No more bytes of the stream `id` will come from here.
    End = 10,
    /// The stream `id` is given up in both directions. Body: why, in words.
    Reset = 11,
    /// Are you there?
    Ping = 12,
    /// I am; `id` is the ping's.
    Pong = 13,
    /// I am about to close the connection: ask nothing more of me here. Body: why, in words.
    Goodbye = 14,
    /// A part of the request `id`; the next part follows, or the last one as [`Kind::Request`].
    Part = 15,
    /// The rest of the request `id`, of which parts were sent, will not come.
    Abandon = 16,
}

impl Kind {
    fn from_code(code: u8) -> Option<Kind> {
        Some(match code {
            1 => Kind::Hello,
            2 => Kind::Admit,
            3 => Kind::Refuse,
            4 => Kind::Request,
            5 => Kind::Answer,
            6 => Kind::Failure,
            7 => Kind::Open,
            8 => Kind::Data,
            9 => Kind::Credit,
            10 => Kind::End,
            11 => Kind::Reset,
            12 => Kind::Ping,
            13 => Kind::Pong,
            14 => Kind::Goodbye,
            15 => Kind::Part,
            16 => Kind::Abandon,
            _ => return None,
        })
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// The number of the request, stream or ping that it belongs to; else 0.
    pub id: u64,
    /// At most [`BODY_BYTES_MAX`].
    pub body: Bytes,
}

impl Frame {
    /// A frame whose body is known to be within the limit.
    pub fn new(kind: Kind, id: u64, body: Bytes) -> Frame {
        assert!(body.len() <= BODY_BYTES_MAX, "the caller looks at the size");
        Frame { kind, id, body }
    }

    /// A frame without a body.
    pub fn bare(kind: Kind, id: u64) -> Frame {
        Frame::new(kind, id, Bytes::new())
    }

    /// A frame that says why, in words.
    pub fn words(kind: Kind, id: u64, why: &str) -> Frame {
        Frame::new(kind, id, Bytes::copy_from_slice(first(why).as_bytes()))
    }

    /// What the body says, for a log or an error. Anything may have been sent.
    pub fn text(&self) -> String {
        first(&String::from_utf8_lossy(&self.body)).to_owned()
    }

    /// Its length on the wire.
    pub fn wire_bytes(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }

    /// Appends it as it goes over the wire.
    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(self.wire_bytes());
        let counted = COUNTED_BYTES + self.body.len();
        out.put_u32_le(u32::try_from(counted).expect("the body is within its limit"));
        let mut head = [0; COUNTED_BYTES];
        head[0] = self.kind as u8;
        head[1..].copy_from_slice(&self.id.to_le_bytes());
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&head);
        checksum.update(&self.body);
        out.put_u32_le(checksum.finalize());
        out.put_slice(&head);
        out.put_slice(&self.body);
    }
}

/// Words that a peer sends, or is sent, are cut at this length.
const WORDS_BYTES_MAX: usize = 1 << 10;

fn first(words: &str) -> &str {
    let mut end = words.len().min(WORDS_BYTES_MAX);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    &words[..end]
}

/// Why no frame could be read. Whichever it is: the connection is over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It ended within a frame.
    #[error("the connection ended within a frame")]
    Torn,
    /// The length is above the limit.
    #[error("a frame of {bytes} bytes was announced, {bytes_max} are allowed")]
    TooLong {
        /// What the length says.
        bytes: usize,
        /// What is allowed at this point.
        bytes_max: usize,
    },
    /// The length has no room for kind and id.
    #[error("a frame of {0} bytes was announced, which is less than its head")]
    TooShort(usize),
    /// The bytes are not those that were sent.
    #[error("the checksum of a frame is wrong")]
    Checksum,
    /// Nothing that this version knows.
    #[error("a frame of the unknown kind {0}")]
    UnknownKind(u8),
}

/// Cuts frames out of what comes from a peer.
pub struct Reader<R> {
    source: R,
    buffer: BytesMut,
    body_bytes_max: usize,
    received_bytes: u64,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// A reader that accepts bodies up to a limit.
    pub fn new(source: R, body_bytes_max: usize) -> Reader<R> {
        assert!(body_bytes_max <= BODY_BYTES_MAX);
        Reader {
            source,
            buffer: BytesMut::new(),
            body_bytes_max,
            received_bytes: 0,
        }
    }

    /// All bytes that have come, those of frames that are not whole yet too.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// From now on bodies up to [`BODY_BYTES_MAX`]: the peer has been admitted.
    pub fn admit(&mut self) {
        self.body_bytes_max = BODY_BYTES_MAX;
    }

    /// The next frame; None if the peer closed the connection behind a whole one. Cancel-safe: what
    /// has been read stays in the buffer.
    pub async fn next(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            if let Some(frame) = self.cut()? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(READ_BYTES);
            let bytes = self.source.read_buf(&mut self.buffer).await?;
            if bytes == 0 {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(Error::Torn),
                };
            }
            self.received_bytes += bytes as u64;
        }
    }

    /// A frame from the buffer, if one is there in whole.
    fn cut(&mut self) -> Result<Option<Frame>, Error> {
        let Some(&length) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let counted = u32::from_le_bytes(length) as usize;
        if counted < COUNTED_BYTES {
            return Err(Error::TooShort(counted));
        }
        if counted - COUNTED_BYTES > self.body_bytes_max {
            return Err(Error::TooLong {
                bytes: counted,
                bytes_max: COUNTED_BYTES + self.body_bytes_max,
            });
        }
        if self.buffer.len() < PREFIX_BYTES + counted {
            return Ok(None);
        }
        let mut bytes = self.buffer.split_to(PREFIX_BYTES + counted);
        bytes.advance(4);
        let checksum = bytes.get_u32_le();
        if crc32fast::hash(&bytes) != checksum {
            return Err(Error::Checksum);
        }
        let code = bytes.get_u8();
        let id = bytes.get_u64_le();
        let kind = Kind::from_code(code).ok_or(Error::UnknownKind(code))?;
        let body = match bytes.len() {
            ..=COPY_BYTES_MAX => Bytes::copy_from_slice(&bytes),
            _ => bytes.freeze(),
        };
        Ok(Some(Frame { kind, id, body }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(frame: &Frame) -> BytesMut {
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes);
        bytes
    }

    async fn read(bytes: &[u8], body_bytes_max: usize) -> Result<Option<Frame>, Error> {
        Reader::new(bytes, body_bytes_max).next().await
    }

    #[tokio::test]
    async fn frames_come_back_as_they_were() {
        for bytes in [0, 1, 17, COPY_BYTES_MAX, COPY_BYTES_MAX + 1, 300_000] {
            let body: Vec<u8> = (0..bytes).map(|n| n as u8).collect();
            let frame = Frame::new(Kind::Request, u64::MAX - 7, body.into());
            let wire = encoded(&frame);
            assert_eq!(wire.len(), frame.wire_bytes());
            let back = read(&wire, BODY_BYTES_MAX).await.unwrap().unwrap();
            assert_eq!(back, frame);
        }
    }

    #[tokio::test]
    async fn the_bytes_of_version_one() {
        let frame = Frame::new(Kind::Data, 0x0102, Bytes::from_static(b"abc"));
        let wire = encoded(&frame);
        assert_eq!(wire[..4], [12, 0, 0, 0]);
        assert_eq!(wire[4..8], crc32fast::hash(&wire[8..]).to_le_bytes());
        assert_eq!(wire[8..], *b"\x08\x02\x01\0\0\0\0\0\0abc");
    }

    #[tokio::test]
    async fn every_flipped_bit_is_found() {
        let wire = encoded(&Frame::new(Kind::Answer, 9, Bytes::from_static(b"body")));
        for bit in 0..wire.len() * 8 {
            let mut wire = wire.clone();
            wire[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&wire, 1 << 10).await.is_err(), "bit {bit}");
        }
    }

    #[tokio::test]
    async fn a_length_above_the_limit_takes_no_memory() {
        let mut reader = Reader::new(&[255; 4][..], BODY_BYTES_MAX);
        assert!(matches!(reader.next().await, Err(Error::TooLong { .. })));
        assert!(reader.buffer.capacity() <= 2 * READ_BYTES);
        // Nor does one within it, until the bytes come.
        let announced = (BODY_BYTES_MAX as u32).to_le_bytes();
        let mut reader = Reader::new(&announced[..], BODY_BYTES_MAX);
        assert!(matches!(reader.next().await, Err(Error::Torn)));
        assert!(reader.buffer.capacity() <= 2 * READ_BYTES);
        let exact = encoded(&Frame::new(Kind::Data, 1, vec![7; 100].into()));
        assert!(read(&exact, 100).await.is_ok());
        assert!(matches!(read(&exact, 99).await, Err(Error::TooLong { .. })));
    }

    #[tokio::test]
    async fn short_and_unknown_frames_are_errors() {
        assert!(matches!(
            read(&[8, 0, 0, 0, 0, 0, 0, 0], 10).await,
            Err(Error::TooShort(8))
        ));
        assert!(matches!(read(&[9, 0], 10).await, Err(Error::Torn)));
        assert!(matches!(read(&[], 10).await, Ok(None)));
        let mut wire = encoded(&Frame::bare(Kind::Ping, 1));
        wire[8] = 200;
        let checksum = crc32fast::hash(&wire[8..]);
        wire[4..8].copy_from_slice(&checksum.to_le_bytes());
        assert!(matches!(
            read(&wire, 10).await,
            Err(Error::UnknownKind(200))
        ));
    }

    #[test]
    fn words_are_cut_at_a_letter() {
        let frame = Frame::words(Kind::Refuse, 0, &"ä".repeat(2000));
        assert_eq!(frame.body.len(), WORDS_BYTES_MAX);
        assert_eq!(frame.text(), "ä".repeat(512));
        let noise = Frame::new(Kind::Refuse, 0, vec![0xff; 5000].into());
        assert!(noise.text().len() <= WORDS_BYTES_MAX);
    }
}
