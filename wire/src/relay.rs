//! The gateway's side of a session that runs on another node: the client's bytes go there, the
//! answer's bytes come back, both unchanged.
//!
//! The client's messages stay in the input buffer until the home says that their turn is over; if
//! the home wants the turn run elsewhere, or dies, they are still in front of it. What a client sends
//! is checked up to each message's header, then passed on as it comes. Messages to the client are
//! passed on whole unless they are long, so that the death of a home seldom cuts one.
//!
//! Each direction reads only while what waits to be written is short; so a slow reader at one end
//! slows the writer at the other.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::error::Error;
use crate::field::TransactionStatus;
use crate::input::HEADER_BYTES;
use crate::link::{Link, PRIVATE, PRIVATE_BYTES_MAX, Private, malformed};
use crate::turn::KEPT_BYTES_MAX;

/// Bytes that wait for the slower side, above which the other one is not read.
const WAITING_BYTES_MAX: usize = 128 << 10;
/// A longer message is passed on before all of it has come.
const HELD_BYTES_MAX: usize = 64 << 10;
/// One read of the home's bytes.
const READ_BYTES: usize = 16 << 10;

/// Why a relay ends.
#[derive(Debug)]
pub enum Event {
    /// The home asks to run the turn at the leader of a group, or here. The turn's messages are in
    /// front of the connection's input again.
    Elsewhere {
        /// The group's number; none: here.
        group: Option<u32>,
        /// The first messages of the turn, whose answers stand.
        answered: u64,
    },
    /// The home has gone without a word.
    Broken(io::Error),
    /// The session has ended, and what it had to say was sent.
    Ended,
    /// The client has gone, or its connection broke.
    Left,
}

/// What is known of a turn whose session runs elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// ReadyForQuery's letter at its begin.
    pub status: TransactionStatus,
    /// At its begin the session held something that ends with its home.
    pub bound: bool,
    /// The first messages, which were answered on another stream before.
    pub muted: u64,
    /// A part of a message has been sent: only closing the connection is left.
    pub torn: bool,
    /// Something of its answer has been sent.
    pub answered: bool,
    /// Messages whose answers, sent or about to be, are whole on this stream; None: that is not
    /// known.
    pub replies: Option<u64>,
    /// Of the next one's answer a part is among them.
    pub halved: bool,
    /// An ErrorResponse was in its answer.
    pub failed: bool,
    /// The home has said that it commits nothing.
    pub commits_nothing: bool,
    /// All of its messages that have come are in front of the input.
    pub kept: bool,
    /// No message of it has come.
    pub idle: bool,
    /// A turn before it has ended on this stream.
    pub later: bool,
    /// The messages from its begin behind which Sync counts again, after COPY FROM STDIN began.
    pub ignored: u64,
    /// Since when the home is at what it has not answered; None: since it got the turn.
    pub since: Option<Instant>,
}

/// Takes over what changes of a session's state.
pub type Keep<'a> = &'a mut (dyn FnMut(&[u8]) -> Result<(), Error> + Send);

/// A client's connection and the stream to the home of its session.
pub struct Relay<'a> {
    connection: &'a mut Connection,
    home: Box<dyn Link>,
    keep: Keep<'a>,
    up: Up,
    down: Down,
    fate: Fate,
}

/// From the client to the home. Offsets count the client's bytes since the relay began.
#[derive(Debug)]
struct Up {
    /// Frames of ours, to be sent before the next byte of the client.
    private: BytesMut,
    /// Of the first byte of the input buffer.
    base: u64,
    /// What is before it was sent.
    sent: u64,
    /// Of the next message; it may lie behind what has arrived.
    scanned: u64,
    /// Messages scanned, and messages whose turn is over.
    count: u64,
    done: u64,
    /// The ends of messages between the two, while they are kept.
    ends: VecDeque<u64>,
    /// What is before it is not needed any more, once it is sent; None: nothing is kept.
    needed: Option<u64>,
    gate: Gate,
    /// The client sends no more.
    closed: bool,
}

/// Why no more is scanned.
#[derive(Debug, PartialEq, Eq)]
enum Gate {
    Open,
    /// The next message is too long to be kept besides the others: the home has to know first.
    Mark,
    /// The home has been told.
    Marked,
    /// These bytes begin no message.
    Invalid(Bytes),
    /// The home has been told that there are no more messages.
    Shut,
}

/// From the home to the client. Indexes are those of the output buffer.
#[derive(Debug, Default)]
struct Down {
    /// What is before it may be sent.
    passable: usize,
    /// Bytes of a long message behind `passable` that have not come yet.
    left: usize,
    /// Where that message begins; None once it has begun to leave.
    long_at: Option<usize>,
    /// Where the present turn's answer begins.
    answer: usize,
    /// The end of the turn, told before its ReadyForQuery.
    done: Option<(u64, bool, Option<Bytes>)>,
    ended: bool,
}

impl Fate {
    /// Of a turn of which nothing was sent; its messages, if any, are in front of the input. The
    /// first of them, `muted`, were answered before.
    pub fn new(status: TransactionStatus, muted: u64) -> Fate {
        Fate {
            status,
            bound: false,
            muted,
            torn: false,
            answered: false,
            replies: Some(0),
            halved: false,
            failed: false,
            commits_nothing: false,
            kept: true,
            idle: true,
            later: false,
            ignored: 0,
            since: None,
        }
    }
}

impl<'a> Relay<'a> {
    /// The client's connection is between two turns, or the messages of the turn are in front of its
    /// input. `first` opens the session at the home; `fate` is what is known of the turn; `keep` is
    /// told of changes at each turn's end.
    pub fn new(
        connection: &'a mut Connection,
        home: Box<dyn Link>,
        first: Bytes,
        fate: Fate,
        keep: Keep<'a>,
    ) -> Relay<'a> {
        let sent = std::mem::take(&mut connection.sent);
        connection.output.bytes_mut().advance(sent);
        let waiting = connection.output.len();
        let mut private = BytesMut::new();
        Private::Resume(first).encode(&mut private);
        Relay {
            connection,
            home,
            keep,
            up: Up {
                private,
                base: 0,
                sent: 0,
                scanned: 0,
                count: 0,
                done: 0,
                ends: VecDeque::new(),
                needed: Some(0),
                gate: Gate::Open,
                closed: false,
            },
            down: Down {
                passable: waiting,
                answer: waiting,
                ..Down::default()
            },
            fate,
        }
    }

    /// Passes bytes on until something else is to be done. Cancel-safe.
    pub async fn run(&mut self) -> Result<Event, Error> {
        poll_fn(|context| self.poll(context)).await
    }

    /// Ends the relay and the stream. The connection is as a session that runs here would have left
    /// it: whole messages wait in its output, and if the turn is kept, its messages in its input.
    pub fn end(self) -> Fate {
        let Relay {
            connection,
            up,
            down,
            mut fate,
            ..
        } = self;
        fate.torn = down.left > 0 && down.long_at.is_none();
        let whole = down.long_at.unwrap_or(down.passable);
        connection.output.truncate(whole);
        connection.turn.begin(down.answer.min(whole));
        fate.idle = up.done == up.count;
        fate.later = up.done > 0;
        fate.ignored = fate.ignored.saturating_sub(up.done);
        let input = connection.input.bytes_mut();
        let gone = up.needed.map(|needed| (needed - up.base) as usize);
        // Of a message that is over, a part may still be to come.
        fate.kept = gone.is_some_and(|gone| gone <= input.len());
        input.advance(gone.unwrap_or_default().min(input.len()));
        fate
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        loop {
            let mut moved = false;
            if let Poll::Ready(event) = self.poll_from_home(context) {
                match event? {
                    Some(event) => return Poll::Ready(Ok(event)),
                    None => moved = true,
                }
            }
            if let Poll::Ready(sent) = self.poll_to_client(context) {
                if sent.is_err() {
                    return Poll::Ready(Ok(Event::Left));
                }
                moved = true;
            }
            if self.down.ended && self.down.passable == 0 {
                return Poll::Ready(Ok(Event::Ended));
            }
            if let Poll::Ready(read) = self.poll_from_client(context) {
                match read {
                    Ok(0) => self.up.closed = true,
                    Ok(_) => {}
                    Err(_) => return Poll::Ready(Ok(Event::Left)),
                }
                moved = true;
            }
            self.scan_up();
            self.up.drop_front(self.connection);
            if let Poll::Ready(sent) = self.poll_to_home(context) {
                match sent {
                    Ok(()) => moved = true,
                    // What it said last may still be there to read.
                    Err(error) => return self.poll_broken(context, error).map(Ok),
                }
            }
            if self.up.closed && self.up.is_sent(self.connection) {
                // A failure means that the home has gone as well.
                let _ = Pin::new(&mut self.home).poll_shutdown(context);
                return Poll::Ready(Ok(Event::Left));
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }

    /// The home takes no more bytes: reads what it has said, up to its end.
    fn poll_broken(&mut self, context: &mut Context<'_>, error: io::Error) -> Poll<Event> {
        loop {
            match self.poll_from_home(context) {
                Poll::Ready(Ok(Some(event))) => return Poll::Ready(event),
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Err(_)) | Poll::Pending => return Poll::Ready(Event::Broken(error)),
            }
        }
    }

    /// Reads once from the home, unless the client is slow. Ready(None): something has come.
    fn poll_from_home(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Event>, Error>> {
        if self.down.ended || self.down.passable > WAITING_BYTES_MAX {
            return Poll::Pending;
        }
        let output = self.connection.output.bytes_mut();
        output.reserve(READ_BYTES);
        let read = match poll_read(&mut self.home, context, output) {
            Poll::Ready(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Poll::Ready(read) => read,
            Poll::Pending => {
                if output.is_empty() {
                    // An idle session holds no memory.
                    *output = BytesMut::new();
                }
                return Poll::Pending;
            }
        };
        match read {
            Ok(_) => Poll::Ready(self.scan_down()),
            Err(error) => Poll::Ready(Ok(Some(Event::Broken(error)))),
        }
    }

    /// Looks at what has come for the client.
    fn scan_down(&mut self) -> Result<Option<Event>, Error> {
        loop {
            let output = self.connection.output.bytes_mut();
            let arrived = output.len() - self.down.passable;
            if self.down.left > 0 {
                let some = arrived.min(self.down.left);
                self.down.passable += some;
                self.down.left -= some;
                if self.down.left > 0 {
                    return Ok(None);
                }
                self.down.long_at = None;
                continue;
            }
            let Some(mut head) = output.get(self.down.passable..self.down.passable + HEADER_BYTES)
            else {
                return Ok(None);
            };
            let message_type = head.get_u8();
            let length = head.get_u32() as usize + 1;
            if length < HEADER_BYTES {
                return Err(malformed());
            }
            if message_type == PRIVATE {
                if length > PRIVATE_BYTES_MAX {
                    return Err(malformed());
                }
                if arrived < length {
                    return Ok(None);
                }
                let frame = Private::decode(cut_out(output, self.down.passable, length))?;
                if let Some(event) = self.heed(frame)? {
                    return Ok(Some(event));
                }
            } else if length > HELD_BYTES_MAX {
                self.down.left = length;
                self.down.long_at = Some(self.down.passable);
                self.fate.replies = None;
            } else if arrived < length {
                return Ok(None);
            } else {
                let at = self.down.passable;
                let last = output[at + length - 1];
                self.down.passable += length;
                self.note(message_type, last)?;
            }
        }
    }

    /// A message to the client that the relay has to know of.
    fn note(&mut self, message_type: u8, last: u8) -> Result<(), Error> {
        match message_type {
            b'Z' => {
                let done = self.down.done.take().ok_or_else(malformed)?;
                let (frames, bound, changes) = done;
                self.up.done(frames)?;
                self.fate.bound = bound;
                if let Some(changes) = changes {
                    (self.keep)(&changes)?;
                }
                self.fate.status = TransactionStatus::from_code(last).ok_or_else(malformed)?;
                self.fate.muted = 0;
                self.fate.answered = false;
                (self.fate.replies, self.fate.halved) = (Some(0), false);
                self.fate.failed = false;
                self.fate.commits_nothing = false;
                self.fate.ignored = 0;
                self.down.answer = self.down.passable;
            }
            // ParseComplete, BindComplete, CloseComplete; RowDescription or NoData for Describe.
            b'1' | b'2' | b'3' | b'T' | b'n' => {
                self.fate.replies = self.fate.replies.map(|replies| replies + 1);
                self.fate.halved = false;
                self.fate.since = Some(Instant::now());
            }
            // CommandComplete.
            b'C' => self.fate.since = Some(Instant::now()),
            // ParameterDescription, in front of one of the latter.
            b't' => self.fate.halved = true,
            b'E' => self.fate.failed = true,
            // Sync is ignored from here until the data's end.
            b'G' => self.fate.ignored = self.up.count,
            _ => {}
        }
        Ok(())
    }

    /// What the home says for us alone.
    fn heed(&mut self, frame: Private) -> Result<Option<Event>, Error> {
        match frame {
            Private::Reached => self.up.reached()?,
            Private::CommitsNothing => self.fate.commits_nothing = true,
            Private::Done {
                frames,
                bound,
                changes,
            } => self.down.done = Some((frames, bound, changes)),
            Private::Elsewhere { group, answered } => {
                return Ok(Some(Event::Elsewhere { group, answered }));
            }
            Private::Bye => self.down.ended = true,
            Private::Resume(_) | Private::Mark | Private::Invalid(_) => return Err(malformed()),
        }
        Ok(None)
    }

    /// Writes once what may leave. Ready: something has left.
    fn poll_to_client(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = Pin::new(&mut self.connection.stream);
        let bytes = self.connection.output.bytes_mut();
        if self.up.closed {
            // Nobody reads it. What was sent last still reaches the home, as over its own socket.
            bytes.advance(std::mem::take(&mut self.down.passable));
            return Poll::Pending;
        }
        if self.down.passable == 0 {
            // TLS may hold back what it was given; a socket does nothing here.
            return match stream.poll_flush(context) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            };
        }
        let sent = match stream.poll_write(context, &bytes[..self.down.passable]) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(sent)) => sent,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        };
        bytes.advance(sent);
        self.down.passable -= sent;
        self.fate.answered |= sent > self.down.answer;
        self.down.answer = self.down.answer.saturating_sub(sent);
        self.down.long_at = self.down.long_at.and_then(|at| at.checked_sub(sent));
        Poll::Ready(Ok(()))
    }

    /// Reads once from the client, unless the home is slow.
    fn poll_from_client(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let unsent = self.up.arrived(self.connection) - self.up.sent;
        if self.up.closed || self.up.gate != Gate::Open || unsent > WAITING_BYTES_MAX as u64 {
            return Poll::Pending;
        }
        let Connection { stream, input, .. } = &mut *self.connection;
        if let Some(socket) = stream.socket()
            && matches!(stream, crate::socket::Stream::Plain(_))
            && socket.poll_readable(context)?.is_pending()
        {
            if input.is_empty() {
                input.rest();
            }
            return Poll::Pending;
        }
        let read = poll_read(stream, context, input.room());
        if let Poll::Ready(Ok(read)) = read {
            input.filled(read);
        }
        read
    }

    /// Looks at the headers of what has come from the client.
    fn scan_up(&mut self) {
        while self.up.gate == Gate::Open && self.up.scanned < self.up.arrived(self.connection) {
            let at = (self.up.scanned - self.up.base) as usize;
            let (_, body) = match self.connection.input.header(at) {
                Ok(Some(head)) => head,
                Ok(None) => return,
                Err(_) => {
                    let bytes = self.connection.input.bytes_mut();
                    let end = bytes.len().min(at + HEADER_BYTES);
                    self.up.gate = Gate::Invalid(Bytes::copy_from_slice(&bytes[at..end]));
                    return;
                }
            };
            let end = self.up.scanned + (HEADER_BYTES + body) as u64;
            if let Some(needed) = self.up.needed {
                if end - needed > KEPT_BYTES_MAX as u64 {
                    self.up.gate = Gate::Mark;
                    return;
                }
                self.up.ends.push_back(end);
            }
            if self.up.count == self.up.done && self.up.done > 0 {
                self.fate.since = Some(Instant::now());
            }
            self.up.count += 1;
            self.up.scanned = end;
        }
    }

    /// Writes once what the home is to get. Ready: something was taken.
    fn poll_to_home(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let passable = self.up.passable(self.connection);
        self.up.say_at_gate(passable);
        let home = Pin::new(&mut self.home);
        let bytes = match self.up.private.is_empty() {
            false => &self.up.private[..],
            true => {
                let sent = (self.up.sent - self.up.base) as usize;
                let end = (passable - self.up.base) as usize;
                &self.connection.input.bytes_mut()[sent..end]
            }
        };
        if bytes.is_empty() {
            return Poll::Pending;
        }
        let taken = match home.poll_write(context, bytes) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(taken)) => taken,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        };
        match self.up.private.is_empty() {
            false => self.up.private.advance(taken),
            true => self.up.sent += taken as u64,
        }
        Poll::Ready(Ok(()))
    }
}

impl Up {
    /// The offset behind what has arrived.
    fn arrived(&self, connection: &mut Connection) -> u64 {
        self.base + connection.input.bytes_mut().len() as u64
    }

    /// The offset behind what may be sent.
    fn passable(&self, connection: &mut Connection) -> u64 {
        self.scanned.min(self.arrived(connection))
    }

    /// Does the home have all that it will get?
    fn is_sent(&self, connection: &mut Connection) -> bool {
        let passes = !matches!(self.gate, Gate::Mark | Gate::Marked);
        passes && self.private.is_empty() && self.sent == self.passable(connection)
    }

    /// At the gate the home is told why no message follows.
    fn say_at_gate(&mut self, passable: u64) {
        if self.sent != passable || self.sent != self.scanned || !self.private.is_empty() {
            return;
        }
        match std::mem::replace(&mut self.gate, Gate::Shut) {
            Gate::Mark => {
                Private::Mark.encode(&mut self.private);
                self.gate = Gate::Marked;
            }
            Gate::Invalid(head) => Private::Invalid(head).encode(&mut self.private),
            other => self.gate = other,
        }
    }

    /// The home has read as far as the mark: nothing is kept until all is done.
    fn reached(&mut self) -> Result<(), Error> {
        if self.gate != Gate::Marked {
            return Err(malformed());
        }
        self.gate = Gate::Open;
        self.needed = None;
        self.ends.clear();
        Ok(())
    }

    /// The first messages on this stream, so many, are done.
    fn done(&mut self, frames: u64) -> Result<(), Error> {
        if frames < self.done || frames > self.count {
            return Err(malformed());
        }
        for _ in self.done..frames {
            if let Some(end) = self.ends.pop_front() {
                self.needed = Some(end);
            }
        }
        self.done = frames;
        if frames == self.count && self.gate != Gate::Marked {
            self.needed = Some(self.scanned);
        }
        if self.gate == Gate::Mark {
            // There may be room again.
            self.gate = Gate::Open;
        }
        Ok(())
    }

    /// Drops what is not needed any more.
    fn drop_front(&mut self, connection: &mut Connection) {
        let to = self.needed.unwrap_or(u64::MAX).min(self.sent);
        if to > self.base {
            connection
                .input
                .bytes_mut()
                .advance((to - self.base) as usize);
            self.base = to;
        }
    }
}

/// Takes a frame out of the middle of a buffer; its body.
fn cut_out(bytes: &mut BytesMut, at: usize, length: usize) -> Bytes {
    let behind = bytes.split_off(at + length);
    let mut frame = bytes.split_off(at);
    frame.advance(HEADER_BYTES);
    bytes.unsplit(behind);
    frame.freeze()
}

/// Reads once into the room of a buffer.
fn poll_read<S: AsyncRead + Unpin>(
    stream: &mut S,
    context: &mut Context<'_>,
    into: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    // It holds nothing from one poll to the next.
    pin!(stream.read_buf(into)).poll(context)
}
