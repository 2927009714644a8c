//! A connection after authentication: messages in, messages out, one write per flush.

use std::io;
use std::ops::{Deref, DerefMut};

use tokio::io::AsyncWriteExt;

use crate::config::Config;
use crate::error::{Error, ErrorFields};
use crate::field::TransactionStatus;
use crate::frontend::Frontend;
use crate::input::{Frame, Input};
use crate::link::{Link, PRIVATE, Private, malformed};
use crate::output::Output;
use crate::socket::{PeerWatch, Stream};
use crate::turn::{Keeping, Turn};

/// What an idle connection may keep.
const KEPT_BYTES_MAX: usize = 16 << 10;

/// Owns the socket and both buffers. It is an [`Output`] too: the encoders append to its buffer,
/// and nothing leaves before [`Connection::flush`] (at Sync and Flush) or [`Connection::relieve`]
/// (while rows stream).
#[derive(Debug)]
pub struct Connection {
    pub(crate) stream: Stream,
    pub(crate) input: Input,
    pub(crate) output: Output,
    /// How much of the output a cancelled flush has sent already.
    pub(crate) sent: usize,
    output_bytes_high: usize,
    skipping: bool,
    /// The gateway waits for an answer of the connection itself.
    owes_flush: bool,
    pub(crate) turn: Turn,
}

impl Deref for Connection {
    type Target = Output;

    fn deref(&self) -> &Output {
        &self.output
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Output {
        &mut self.output
    }
}

impl Connection {
    pub(crate) fn new(stream: Stream, config: &Config) -> Connection {
        Connection {
            stream,
            input: Input::new(config.message_bytes_max, config.copy_bytes_max),
            output: Output::new(),
            sent: 0,
            output_bytes_high: config.output_bytes_high,
            skipping: false,
            owes_flush: false,
            turn: Turn::new(Keeping::Nothing),
        }
    }

    /// The home's side of a session whose client is connected to another node: that node has
    /// authenticated it, and begins with [`Private::Resume`] ([`Connection::resume`]).
    pub fn over(link: Box<dyn Link>, config: &Config) -> Connection {
        Connection {
            input: Input::private(config.message_bytes_max, config.copy_bytes_max),
            turn: Turn::new(Keeping::Numbers),
            ..Connection::new(Stream::Link(link), config)
        }
    }

    /// The next message; None when the peer has closed between two messages. Cancel-safe: bytes
    /// that were read stay in the buffer, so it can be raced against notifications.
    pub async fn next(&mut self) -> Result<Option<Frontend>, Error> {
        loop {
            if self.owes_flush {
                self.flush().await?;
                self.owes_flush = false;
            }
            while let Some(frame) = self.input.cut()? {
                if frame.message_type == PRIVATE {
                    self.heed(Private::decode(frame.body)?)?;
                    // If this is cut off, the next call goes on with it.
                    self.owes_flush = true;
                    self.flush().await?;
                    self.owes_flush = false;
                    continue;
                }
                self.turn.take(&frame);
                if !self.skipping {
                    return Frontend::decode(frame.message_type, frame.body).map(Some);
                }
                if matches!(frame.message_type, b'S' | b'X') {
                    self.skipping = false;
                    return Frontend::decode(frame.message_type, frame.body).map(Some);
                }
            }
            self.rest();
            if !self.fill().await? {
                return self.end_of_input().map(|()| None);
            }
        }
    }

    /// True if [`Connection::next`] would return at once: the client pipelines.
    pub fn buffered(&self) -> bool {
        self.input.has_frame()
    }

    /// From here on [`Connection::next`] drops every message until Sync (or Terminate), which it
    /// returns: what the protocol asks for after an error in an extended message.
    pub fn skip_to_sync(&mut self) {
        self.skipping = true;
        self.turn.stay();
    }

    /// Appends ReadyForQuery, with which the next turn begins.
    pub fn ready(&mut self, status: TransactionStatus) {
        self.output.ready(status);
        self.turn.begin(self.output.len());
    }

    /// Sends all that waits. Cancel-safe: what was not sent stays in the buffer.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.turn.leaves(self.output.len());
        while let Some(rest @ [_, ..]) = self.output.as_bytes().get(self.sent..) {
            match self.stream.write(rest).await? {
                0 => return Err(Error::Io(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        self.output.truncate(0);
        self.sent = 0;
        self.turn.left();
        self.stream.flush().await?;
        Ok(())
    }

    /// Sends what waits if it is more than `output_bytes_high`. Called between rows, it keeps the
    /// buffer bounded and lets a slow reader slow the statement down.
    pub async fn relieve(&mut self) -> Result<(), Error> {
        if self.output.len() <= self.output_bytes_high {
            return Ok(());
        }
        self.flush().await
    }

    /// Appends a FATAL, sends all that waits and closes: the way to end a connection with a reason
    /// (57P01 `terminating connection due to administrator command`, ...).
    pub async fn end(mut self, fields: &ErrorFields) -> Result<(), Error> {
        self.output.error(fields);
        self.close().await
    }

    /// Sends all that waits and closes, with TLS's close_notify if there is TLS.
    pub async fn close(mut self) -> Result<(), Error> {
        self.flush().await?;
        self.stream.shutdown().await?;
        Ok(())
    }

    /// Learns that the peer has gone while a statement runs; needs no borrow of the connection.
    pub fn watch_peer(&self) -> PeerWatch {
        self.stream.watch()
    }

    /// True if the bytes are encrypted on the way.
    pub fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// Writes to the socket so far. PostgreSQL's bar is one per round trip.
    pub fn socket_writes(&self) -> u64 {
        self.stream.socket().map_or(0, |socket| socket.writes())
    }

    /// From now on the messages of a turn are kept until some of its answer leaves, or until they
    /// are more than 1 MiB; so the turn can be run on another node ([`Connection::give_up_turn`]).
    /// Called between two turns.
    pub fn keep_turns(&mut self) {
        self.turn.keep(Keeping::Frames);
    }

    /// Messages of the present turn that were read.
    pub fn turn_messages(&self) -> u64 {
        self.turn.count()
    }

    /// True if nothing but what prepares was answered, and all messages are still there.
    pub fn turn_may_go(&self) -> bool {
        self.turn.may_go()
    }

    /// From here on the turn stays: something of it has been done.
    pub fn turn_stays(&mut self) {
        self.turn.stay();
    }

    /// The first messages of the turn that begins were answered on another connection.
    pub fn answered_before(&mut self, messages: u64) {
        self.turn.answered_before(messages);
    }

    /// True if messages are dropped until Sync.
    pub fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Takes the turn back: its messages are in front of the input again, unless the other side
    /// keeps them, and what was not sent of its answer is dropped. Tells how many of the messages
    /// were answered before, with answers that stand; None if the turn may not go.
    pub fn give_up_turn(&mut self) -> Option<u64> {
        let (frames, answered, mark) = self.turn.give_up()?;
        self.input.put_back(&frames);
        self.output.truncate(mark);
        Some(answered)
    }

    /// True if the message that was read last is all that the turn runs, as far as to its end.
    pub fn turn_runs_only_this(&self) -> bool {
        match self.turn.runs() {
            (1, true) => true,
            (1, false) => self.input.prepares_to_sync(),
            _ => false,
        }
    }

    /// The messages that have arrived and were not read, as far as they are whole: type and body.
    pub fn unread(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.input.unread()
    }

    /// Drops what waits of the present turn's answer.
    pub fn retract(&mut self) {
        self.output.truncate(self.turn.mark());
    }

    /// Reads the rest of the turn and drops it: it is answered without being run. A Sync among the
    /// first `ignored` messages does not count. False if the client has left meanwhile.
    pub async fn skip_turn(&mut self, ignored: u64) -> Result<bool, Error> {
        let from = self.input.frames();
        loop {
            match self.input.cut()? {
                Some(Frame { message_type, .. }) => match message_type {
                    b'S' if self.input.frames() - from <= ignored => {}
                    b'Q' | b'F' | b'S' => return Ok(true),
                    b'X' => return Ok(false),
                    _ => {}
                },
                None if self.fill().await? => {}
                None => return self.end_of_input().map(|()| false),
            }
        }
    }

    /// True if the other side is a node.
    pub fn is_link(&self) -> bool {
        matches!(self.stream, Stream::Link(_))
    }

    /// Home: what the stream was opened for. None if the gateway has given it up.
    pub async fn resume(&mut self) -> Result<Option<bytes::Bytes>, Error> {
        loop {
            match self.input.cut()? {
                Some(frame) if frame.message_type == PRIVATE => {
                    return match Private::decode(frame.body)? {
                        Private::Resume(body) => Ok(Some(body)),
                        _ => Err(malformed()),
                    };
                }
                Some(_) => return Err(malformed()),
                None if self.fill().await? => {}
                None => return self.end_of_input().map(|()| None),
            }
        }
    }

    /// Home: appends a private frame. No client ever gets one.
    pub fn tell(&mut self, frame: &Private) {
        assert!(self.is_link(), "private frames are between nodes");
        frame.encode(self.output.bytes_mut());
    }

    /// Home: sends a private frame before what waits, without sending that.
    pub async fn tell_at_once(&mut self, frame: &Private) -> Result<(), Error> {
        assert!(self.is_link(), "private frames are between nodes");
        if self.sent > 0 {
            // The last flush was cut off, perhaps within a message.
            self.flush().await?;
        }
        let mut bytes = bytes::BytesMut::new();
        frame.encode(&mut bytes);
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Home: the client's messages that were read so far.
    pub fn messages(&self) -> u64 {
        self.input.frames()
    }

    /// Home: what the gateway says between the client's messages.
    fn heed(&mut self, frame: Private) -> Result<(), Error> {
        match frame {
            Private::Mark => {
                self.turn.stay();
                self.tell(&Private::Reached);
                Ok(())
            }
            Private::Invalid(head) => Err(self.input.judge(&head)),
            _ => Err(malformed()),
        }
    }

    /// Gives large buffers back before an idle wait.
    fn rest(&mut self) {
        self.input.rest();
        if self.output.is_empty() && self.output.bytes_mut().capacity() > KEPT_BYTES_MAX {
            self.output = Output::new();
        }
    }

    /// Reads once. False at the end of input.
    pub(crate) async fn fill(&mut self) -> Result<bool, Error> {
        let read = self.stream.read(&mut self.input).await?;
        self.input.filled(read);
        Ok(read > 0)
    }

    /// Ok if the peer has closed between two messages.
    pub(crate) fn end_of_input(&self) -> Result<(), Error> {
        if self.input.is_between_messages() {
            return Ok(());
        }
        Err(Error::Io(io::ErrorKind::UnexpectedEof.into()))
    }
}
