//! A stream of bytes within a connection, in both directions, each with its own end. The sender may
//! have at most [`WINDOW_BYTES`] under way that the receiver has not read; so a reader that sleeps
//! holds its own sender and nobody else.
//!
//! Why not the crate yamux: it brings a frame format of its own, without checksums, and speaks the
//! traits of another runtime. It would lie as a second protocol within ours, behind two adaptors.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame::{Frame, Kind};
use super::link::Link;

/// What may be under way in one direction of a stream.
pub const WINDOW_BYTES: usize = 256 << 10;
/// Streams of one connection at the same time.
pub const STREAMS_MAX: usize = 4096;
/// The longest opening.
pub const OPENING_BYTES_MAX: usize = 256 << 10;
/// What a stream keeps of its writer's bytes until the connection takes them.
const OUTGOING_BYTES_MAX: usize = 64 << 10;
/// The receiver gives credit back when so much has been read.
const CREDIT_BYTES: usize = WINDOW_BYTES / 2;

const _: () = assert!(OUTGOING_BYTES_MAX <= WINDOW_BYTES);

/// Our side of a stream. `shutdown` ends our direction only; a drop without it tells the peer that
/// the stream was given up, which its reader sees as an error behind what had arrived.
pub struct PeerStream {
    link: Arc<Link>,
    id: u64,
}

impl PeerStream {
    pub(super) fn new(link: Arc<Link>, id: u64) -> PeerStream {
        PeerStream { link, id }
    }

    /// To learn, without reading, that the peer has gone.
    pub fn watched(&self) -> Watched {
        Watched {
            link: self.link.clone(),
            id: self.id,
        }
    }

    /// Gives the stream up in both directions, and tells the peer why.
    pub fn reset(self, why: &str) {
        self.link
            .with_streams(|streams| streams.give_up(self.id, why));
    }
}

/// A stream of which one wants to know whether the peer has gone.
#[derive(Clone)]
pub struct Watched {
    link: Arc<Link>,
    id: u64,
}

impl Watched {
    /// Resolves when the peer has ended its direction or given the stream up, even if there is still
    /// something to read.
    pub fn gone(&self) -> impl Future<Output = ()> + Send + use<> {
        let Watched { link, id } = self.clone();
        poll_fn(move |context| link.with_streams(|streams| streams.gone(id, context)))
    }
}

impl Drop for PeerStream {
    fn drop(&mut self) {
        self.link.with_streams(|streams| streams.release(self.id));
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.link
            .with_streams(|streams| streams.read(self.id, context, into))
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.link
            .with_streams(|streams| streams.write(self.id, context, bytes))
    }

    /// Nothing waits for a flush: what was written is sent as soon as the connection takes it.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.link.with_streams(|streams| streams.finish(self.id)))
    }
}

/// How far our direction of a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    /// More may be written.
    Open,
    /// The end follows what is written.
    Ending,
    /// The end was sent.
    Ended,
}

/// One stream, both directions.
struct Stream {
    /// What it begins with, until that is sent.
    opening: Option<Bytes>,
    outgoing: BytesMut,
    /// Bytes that the peer still lets us send.
    credit: usize,
    sending: Sending,
    /// Is it in the line of those that have something to send?
    in_line: bool,
    writer: Option<Waker>,
    incoming: BytesMut,
    /// Bytes read since credit was last given.
    read_bytes: usize,
    received_end: bool,
    reader: Option<Waker>,
    /// Those who wait for the peer to go.
    watchers: Vec<Waker>,
    /// Why the peer, or the end of the connection, gave it up.
    reset: Option<Arc<str>>,
    /// Nobody here holds it any more; it stays until its last bytes are sent.
    released: bool,
}

impl Stream {
    fn new(opening: Option<Bytes>) -> Stream {
        Stream {
            opening,
            outgoing: BytesMut::new(),
            credit: WINDOW_BYTES,
            sending: Sending::Open,
            in_line: false,
            writer: None,
            incoming: BytesMut::new(),
            read_bytes: 0,
            received_end: false,
            reader: None,
            watchers: Vec::new(),
            reset: None,
            released: false,
        }
    }

    fn has_something_to_send(&self) -> bool {
        self.opening.is_some()
            || match self.outgoing.is_empty() {
                true => self.sending == Sending::Ending,
                false => self.credit > 0,
            }
    }

    /// Gives back credit for what was read, once it is worth a frame.
    fn give_credit(&mut self, id: u64, frames: &mut Vec<Frame>) {
        if self.read_bytes >= CREDIT_BYTES && !self.received_end && self.reset.is_none() {
            let bytes = std::mem::take(&mut self.read_bytes) as u32;
            let body = Bytes::copy_from_slice(&bytes.to_le_bytes());
            frames.push(Frame::new(Kind::Credit, id, body));
        }
    }

    fn wake(&mut self) -> impl Iterator<Item = Waker> {
        let both = [self.reader.take(), self.writer.take()];
        let watchers = std::mem::take(&mut self.watchers);
        both.into_iter().flatten().chain(watchers)
    }
}

/// What a peer did that no sound peer does.
pub type Violation = &'static str;

/// All streams of a connection, under the connection's lock. Frames and wake-ups that follow from a
/// call are collected; the connection takes them before it lets go of the lock.
#[derive(Default)]
pub struct Streams {
    streams: HashMap<u64, Stream>,
    /// Those with something to send, in the order in which they get their turn.
    line: VecDeque<u64>,
    /// Frames to send besides data.
    pub(super) frames: Vec<Frame>,
    /// Tasks that can go on.
    pub(super) wakers: Vec<Waker>,
    /// Why the connection is over.
    ended: Option<Arc<str>>,
}

impl Streams {
    /// Is there any?
    pub fn is_any(&self) -> bool {
        !self.streams.is_empty()
    }

    /// Has any stream something to send?
    pub fn has_line(&self) -> bool {
        !self.line.is_empty()
    }

    /// A new stream; false if there are too many. The caller knows that the number is fresh, and
    /// gives what the stream begins with if it is the one who opens it.
    pub fn open(&mut self, id: u64, opening: Option<Bytes>) -> bool {
        let fits = self.streams.len() < STREAMS_MAX;
        if fits {
            self.streams.insert(id, Stream::new(opening));
            self.line_up(id);
        }
        fits
    }

    /// The next frame of data: each stream gets its turn.
    pub fn next_frame(&mut self) -> Option<Frame> {
        let Streams {
            streams,
            line,
            wakers,
            frames,
            ..
        } = self;
        while let Some(id) = line.pop_front() {
            let Some(stream) = streams.get_mut(&id) else {
                continue;
            };
            stream.in_line = false;
            if !stream.has_something_to_send() {
                continue;
            }
            let frame = if let Some(opening) = stream.opening.take() {
                Frame::new(Kind::Open, id, opening)
            } else if stream.outgoing.is_empty() {
                stream.sending = Sending::Ended;
                if stream.released {
                    let heard_all = stream.received_end;
                    streams.remove(&id);
                    if !heard_all {
                        frames.push(Frame::words(Kind::Reset, id, "nobody reads any more"));
                    }
                }
                return Some(Frame::bare(Kind::End, id));
            } else {
                let bytes = stream.outgoing.len().min(stream.credit);
                stream.credit -= bytes;
                wakers.extend(stream.writer.take());
                Frame::new(Kind::Data, id, stream.outgoing.split_to(bytes).freeze())
            };
            if stream.has_something_to_send() {
                stream.in_line = true;
                line.push_back(id);
            }
            return Some(frame);
        }
        None
    }

    /// Bytes have come. Streams that are no more are the peer's past: it will hear of it.
    pub fn data(&mut self, id: u64, body: &[u8]) -> Result<(), Violation> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        if stream.received_end {
            return Err("data behind the end of a stream");
        }
        if stream.incoming.len() + stream.read_bytes + body.len() > WINDOW_BYTES {
            return Err("more data than the credit of a stream allows");
        }
        if stream.released || stream.reset.is_some() {
            // Nobody will read it. Credit is given all the same: the peer may have to get rid of it
            // before it reads what we still have for it.
            stream.read_bytes += body.len();
            stream.give_credit(id, &mut self.frames);
            return Ok(());
        }
        stream.incoming.extend_from_slice(body);
        self.wakers.extend(stream.reader.take());
        Ok(())
    }

    /// The peer has read.
    pub fn credit(&mut self, id: u64, mut body: &[u8]) -> Result<(), Violation> {
        let bytes = body.try_get_u32_le().map_err(|_| "credit of no size")? as usize;
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        if bytes > WINDOW_BYTES - stream.credit {
            return Err("more credit than was used");
        }
        stream.credit += bytes;
        self.line_up(id);
        Ok(())
    }

    /// The peer's direction has ended.
    pub fn end(&mut self, id: u64) -> Result<(), Violation> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        if std::mem::replace(&mut stream.received_end, true) {
            return Err("two ends of a stream");
        }
        self.wakers.extend(stream.reader.take());
        self.wakers.append(&mut stream.watchers);
        Ok(())
    }

    /// The peer has given it up.
    pub fn reset(&mut self, id: u64, why: &str) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.reset.get_or_insert_with(|| why.into());
        stream.outgoing.clear();
        self.wakers.extend(stream.wake());
        if stream.released {
            self.streams.remove(&id);
        }
    }

    /// The connection is over, and with it every stream. What has arrived can still be read.
    pub fn end_all(&mut self, why: &Arc<str>) {
        self.ended = Some(why.clone());
        self.line.clear();
        for stream in self.streams.values_mut() {
            stream.reset.get_or_insert_with(|| why.clone());
            stream.outgoing.clear();
            stream.in_line = false;
            self.wakers.extend(stream.wake());
        }
        self.streams.retain(|_, stream| !stream.released);
    }

    fn read(
        &mut self,
        id: u64,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Poll::Ready(Err(given_up("the stream is over")));
        };
        if !stream.incoming.is_empty() {
            let bytes = stream.incoming.len().min(into.remaining());
            into.put_slice(&stream.incoming[..bytes]);
            stream.incoming.advance(bytes);
            stream.read_bytes += bytes;
            if stream.incoming.is_empty() {
                // An idle stream holds no memory.
                stream.incoming = BytesMut::new();
            }
            stream.give_credit(id, &mut self.frames);
            return Poll::Ready(Ok(()));
        }
        if stream.received_end {
            return Poll::Ready(Ok(()));
        }
        if let Some(why) = &stream.reset {
            return Poll::Ready(Err(given_up(why)));
        }
        stream.reader = Some(context.waker().clone());
        Poll::Pending
    }

    fn gone(&mut self, id: u64, context: &mut Context<'_>) -> Poll<()> {
        match self.streams.get_mut(&id) {
            Some(stream) if !stream.received_end && stream.reset.is_none() => {
                let waker = context.waker();
                if !stream.watchers.iter().any(|known| known.will_wake(waker)) {
                    stream.watchers.push(waker.clone());
                }
                Poll::Pending
            }
            Some(_) | None => Poll::Ready(()),
        }
    }

    fn write(
        &mut self,
        id: u64,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Poll::Ready(Err(given_up("the stream is over")));
        };
        if let Some(why) = &stream.reset {
            return Poll::Ready(Err(given_up(why)));
        }
        if stream.sending != Sending::Open {
            let error = io::Error::new(io::ErrorKind::BrokenPipe, "the stream was shut down");
            return Poll::Ready(Err(error));
        }
        let room = OUTGOING_BYTES_MAX - stream.outgoing.len();
        if room == 0 && !bytes.is_empty() {
            stream.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let taken = bytes.len().min(room);
        stream.outgoing.extend_from_slice(&bytes[..taken]);
        self.line_up(id);
        Poll::Ready(Ok(taken))
    }

    fn finish(&mut self, id: u64) -> io::Result<()> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Err(given_up("the stream is over"));
        };
        if let Some(why) = &stream.reset {
            return Err(given_up(why));
        }
        if stream.sending == Sending::Open {
            stream.sending = Sending::Ending;
            self.line_up(id);
        }
        Ok(())
    }

    /// Our side gives it up, with a word to the peer.
    fn give_up(&mut self, id: u64, why: &str) {
        if let Some(stream) = self.streams.remove(&id)
            && stream.reset.is_none()
        {
            self.frames.push(Frame::words(Kind::Reset, id, why));
        }
    }

    /// Nobody here holds it any more.
    fn release(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        match stream.sending {
            _ if stream.reset.is_some() => drop(self.streams.remove(&id)),
            Sending::Open => self.give_up(id, "the stream was dropped at the other end"),
            Sending::Ending => {
                stream.released = true;
                stream.read_bytes += stream.incoming.len();
                stream.incoming = BytesMut::new();
                stream.give_credit(id, &mut self.frames);
            }
            Sending::Ended => match stream.received_end {
                true => drop(self.streams.remove(&id)),
                false => self.give_up(id, "nobody reads any more"),
            },
        }
    }

    fn line_up(&mut self, id: u64) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.in_line
            && stream.has_something_to_send()
        {
            stream.in_line = true;
            self.line.push_back(id);
        }
    }
}

fn given_up(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, why)
}
