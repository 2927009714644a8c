//! The framer: bytes that have arrived, cut into whole frames. It allocates for bytes that came,
//! never for a length that is only claimed.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::{Error, ErrorFields};
use crate::frontend::{SHORT_BYTES_MAX, body_bytes_max};
use crate::link::{PRIVATE, PRIVATE_BYTES_MAX, malformed};
use crate::turn::prepares;

/// Type byte and length.
pub(crate) const HEADER_BYTES: usize = 5;
/// The room that a read gets at first, and again after small reads.
const READ_BYTES_MIN: usize = 4 << 10;
/// The room that a read gets while large messages arrive.
const READ_BYTES_MAX: usize = 64 << 10;
/// What an idle connection may keep.
const KEPT_BYTES_MAX: usize = 16 << 10;

/// One whole frame, or a piece of a long CopyData.
#[derive(Debug)]
pub(crate) struct Frame {
    pub message_type: u8,
    pub body: Bytes,
}

/// The input buffer of a connection.
#[derive(Debug)]
pub(crate) struct Input {
    bytes: BytesMut,
    /// About the size of the allocation behind `bytes`, which doesn't tell once frames were cut.
    block_bytes: usize,
    read_bytes: usize,
    /// Bytes of the current CopyData that were not handed on yet.
    copy_left: usize,
    message_bytes_max: usize,
    copy_bytes_max: usize,
    /// The other side is a node: private frames may come.
    private: bool,
    /// Messages cut so far; one that is handed on in pieces counts once, private frames don't.
    frames: u64,
}

impl Input {
    pub fn new(message_bytes_max: usize, copy_bytes_max: usize) -> Input {
        Input {
            bytes: BytesMut::new(),
            block_bytes: 0,
            read_bytes: READ_BYTES_MIN,
            copy_left: 0,
            message_bytes_max,
            copy_bytes_max: copy_bytes_max.max(1),
            private: false,
            frames: 0,
        }
    }

    /// From a node, whose private frames are let through.
    pub fn private(message_bytes_max: usize, copy_bytes_max: usize) -> Input {
        Input {
            private: true,
            ..Input::new(message_bytes_max, copy_bytes_max)
        }
    }

    /// Messages cut so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// What has arrived and was not cut.
    pub fn bytes_mut(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// True if the messages that have arrived go as far as Sync, and none before it runs anything.
    pub fn prepares_to_sync(&self) -> bool {
        let mut at = 0;
        while self.copy_left == 0
            && let Ok(Some((message_type, body))) = self.header(at)
        {
            match message_type {
                b'S' => return true,
                PRIVATE => {}
                other if prepares(other) => {}
                _ => return false,
            }
            at += HEADER_BYTES + body;
        }
        false
    }

    /// What is wrong with these bytes, with which a client wanted to begin a message.
    pub fn judge(&self, head: &[u8]) -> Error {
        let mut judge = Input::new(self.message_bytes_max, self.copy_bytes_max);
        judge.bytes.extend_from_slice(head);
        judge.cut().err().unwrap_or_else(malformed)
    }

    /// The whole messages that have arrived: type and body.
    pub fn unread(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (message_type, body) = self.header(at).ok().flatten()?;
            let start = at + HEADER_BYTES;
            at = start + body;
            Some((message_type, self.bytes.get(start..at)?))
        })
    }

    /// Puts messages back in front; they will be cut again.
    pub fn put_back(&mut self, frames: &[Frame]) {
        let bytes: usize = frames.iter().map(|f| HEADER_BYTES + f.body.len()).sum();
        let mut all = BytesMut::with_capacity(bytes + self.bytes.len());
        for frame in frames {
            all.put_u8(frame.message_type);
            let length = frame.body.len() + 4;
            all.put_u32(u32::try_from(length).expect("a message is below 1 GB"));
            all.extend_from_slice(&frame.body);
        }
        all.extend_from_slice(&self.bytes);
        self.block_bytes = all.capacity();
        self.bytes = all;
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// True if the peer may close here without cutting a message.
    pub fn is_between_messages(&self) -> bool {
        self.bytes.is_empty() && self.copy_left == 0
    }

    /// The buffer with room for the next read. Doubles its reads while they come back full.
    pub fn room(&mut self) -> &mut BytesMut {
        self.bytes.reserve(self.read_bytes);
        self.block_bytes = self.block_bytes.max(self.bytes.capacity());
        &mut self.bytes
    }

    /// Gives a large buffer back when there is nothing in it.
    pub fn rest(&mut self) {
        if self.bytes.is_empty() && self.block_bytes > KEPT_BYTES_MAX {
            self.bytes = BytesMut::new();
            self.block_bytes = 0;
        }
    }

    /// Tells how much the last read brought.
    pub fn filled(&mut self, read: usize) {
        if read >= self.read_bytes {
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
        } else if read < self.read_bytes / 8 {
            self.read_bytes = READ_BYTES_MIN;
        }
    }

    /// True if [`Input::cut`] would give something other than None.
    pub fn has_frame(&self) -> bool {
        if self.copy_left > 0 {
            return !self.bytes.is_empty();
        }
        match self.header(0) {
            Ok(None) => false,
            Ok(Some((message_type, body))) => {
                let piecewise = message_type == b'd' && body > self.copy_bytes_max;
                self.bytes.len() >= HEADER_BYTES + if piecewise { 1 } else { body }
            }
            Err(_) => true,
        }
    }

    /// The next whole frame after authentication, if it has arrived.
    pub fn cut(&mut self) -> Result<Option<Frame>, Error> {
        if self.copy_left > 0 {
            return Ok(self.cut_copy());
        }
        let Some((message_type, body)) = self.header(0)? else {
            return Ok(None);
        };
        if message_type == b'd' && body > self.copy_bytes_max {
            self.bytes.advance(HEADER_BYTES);
            self.copy_left = body;
            self.frames += 1;
            return Ok(self.cut_copy());
        }
        let frame = self.cut_whole(message_type, body);
        self.frames += u64::from(frame.is_some() && message_type != PRIVATE);
        Ok(frame)
    }

    /// The next whole frame of type `p`, the only one before AuthenticationOk.
    pub fn cut_password(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(&message_type) = self.bytes.first() else {
            return Ok(None);
        };
        if message_type != b'p' {
            let message = format!("expected SASL response, got message type {message_type}");
            return Err(Error::protocol("08P01", message));
        }
        let Some(body) = self.claimed(0, SHORT_BYTES_MAX)? else {
            return Ok(None);
        };
        Ok(self.cut_whole(message_type, body).map(|frame| frame.body))
    }

    /// The next packet without a type byte: what a connection begins with. Its body, with the four
    /// bytes of the code in front.
    pub fn cut_startup(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(mut head) = self.bytes.get(..4) else {
            return Ok(None);
        };
        let len = head.get_u32() as usize;
        if !(8..=SHORT_BYTES_MAX).contains(&len) {
            return Err(Error::protocol("08P01", "invalid length of startup packet"));
        }
        if self.bytes.len() < len {
            return Ok(None);
        }
        let mut packet = self.bytes.split_to(len).freeze();
        packet.advance(4);
        Ok(Some(packet))
    }

    /// Type and body length of the frame at this place, judged before its body is waited for.
    pub fn header(&self, at: usize) -> Result<Option<(u8, usize)>, Error> {
        let Some(&message_type) = self.bytes.get(at) else {
            return Ok(None);
        };
        let bytes_max = match message_type {
            PRIVATE if self.private => Some(PRIVATE_BYTES_MAX),
            _ => body_bytes_max(message_type, self.message_bytes_max),
        };
        let Some(bytes_max) = bytes_max else {
            let message = format!("invalid frontend message type {message_type}");
            return Err(Error::protocol("08P01", message));
        };
        let claimed = self.claimed(at, bytes_max)?;
        Ok(claimed.map(|body| (message_type, body)))
    }

    /// The body length that the header at this place claims, if the header is whole.
    fn claimed(&self, at: usize, bytes_max: usize) -> Result<Option<usize>, Error> {
        let Some(mut head) = self.bytes.get(at + 1..at + HEADER_BYTES) else {
            return Ok(None);
        };
        let len = head.get_i32();
        let Some(body) = usize::try_from(len).ok().and_then(|len| len.checked_sub(4)) else {
            return Err(Error::protocol("08P01", "invalid message length"));
        };
        if body > bytes_max {
            return Err(too_long(body, bytes_max));
        }
        Ok(Some(body))
    }

    fn cut_whole(&mut self, message_type: u8, body: usize) -> Option<Frame> {
        if self.bytes.len() < HEADER_BYTES + body {
            return None;
        }
        self.bytes.advance(HEADER_BYTES);
        Some(Frame {
            message_type,
            body: self.bytes.split_to(body).freeze(),
        })
    }

    fn cut_copy(&mut self) -> Option<Frame> {
        let piece = self
            .bytes
            .len()
            .min(self.copy_left)
            .min(self.copy_bytes_max);
        if piece == 0 {
            return None;
        }
        self.copy_left -= piece;
        Some(Frame {
            message_type: b'd',
            body: self.bytes.split_to(piece).freeze(),
        })
    }
}

fn too_long(body: usize, bytes_max: usize) -> Error {
    if bytes_max <= SHORT_BYTES_MAX {
        return Error::protocol("08P01", "invalid message length");
    }
    let fields = ErrorFields::fatal("54000", "message is too long").with_detail(format!(
        "The message has {body} bytes; the limit is {bytes_max} bytes."
    ));
    Error::Protocol(Box::new(fields))
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::attack::Frames;
    use crate::frontend::Frontend;

    fn arrive(input: &mut Input, bytes: &[u8]) {
        input.room().extend_from_slice(bytes);
        input.filled(bytes.len());
    }

    #[test]
    fn any_bytes_give_messages_or_errors() {
        let seed = 1;
        println!("seed {seed}");
        let mut split = StdRng::seed_from_u64(seed);
        let mut frames = Frames::new(seed);
        let (mut understood, mut refused, mut lost) = (0, 0, 0);
        for _ in 0..20_000 {
            let mut input = Input::new(1000, 50);
            let bytes = [frames.frame(), frames.frame(), frames.frame()].concat();
            let (first, second) = bytes.split_at(split.random_range(0..=bytes.len()));
            'connection: for part in [first, second] {
                arrive(&mut input, part);
                loop {
                    let expected = input.has_frame();
                    match input.cut() {
                        Ok(None) => {
                            assert!(!expected);
                            break;
                        }
                        Ok(Some(frame)) => {
                            assert!(expected && frame.body.len() <= 10_000);
                            match Frontend::decode(frame.message_type, frame.body) {
                                Ok(_) => understood += 1,
                                Err(error) => {
                                    assert!(!error.is_fatal());
                                    refused += 1;
                                }
                            }
                        }
                        Err(error) => {
                            assert!(expected && error.is_fatal());
                            lost += 1;
                            break 'connection;
                        }
                    }
                }
            }
        }
        println!("{understood} understood, {refused} refused, {lost} lost the thread");
        assert!(understood > 20_000 && refused > 5_000 && lost > 500);
    }

    #[test]
    fn any_opening_gives_a_packet_or_an_error() {
        let mut frames = Frames::new(2);
        for _ in 0..20_000 {
            crate::attack::feed(&frames.opening());
        }
    }

    #[test]
    fn a_claim_takes_no_room() {
        for claim in [*b"Q\0\xff\xff\xff", *b"d\x3f\xff\xff\xff"] {
            let mut input = Input::new(16 << 20, 1 << 20);
            arrive(&mut input, &claim);
            for _ in 0..10 {
                // COPY is handed on in pieces; a query waits for its end.
                let _ = input.cut().unwrap();
                arrive(&mut input, b"a few bytes");
                assert!(input.room().capacity() <= 2 * READ_BYTES_MAX);
            }
        }
    }

    #[test]
    fn reads_grow_and_the_buffer_shrinks() {
        let mut input = Input::new(16 << 20, 1 << 20);
        let mut frame = b"Q\0\x80\0\x04".to_vec();
        frame.resize(5 + (8 << 20), b'x');
        for part in frame.chunks(READ_BYTES_MAX) {
            assert!(input.cut().unwrap().is_none());
            arrive(&mut input, part);
            if part.len() == READ_BYTES_MAX {
                assert!(input.read_bytes > READ_BYTES_MIN);
            }
        }
        assert_eq!(input.cut().unwrap().unwrap().body.len(), 8 << 20);
        assert!(input.is_between_messages());
        assert!(input.block_bytes > 8 << 20);
        input.rest();
        assert_eq!(input.bytes.capacity(), 0);
        input.room();
        input.filled(1);
        assert_eq!(input.read_bytes, READ_BYTES_MIN);
        assert!(input.room().capacity() <= 2 * READ_BYTES_MAX);
    }
}
