//! A connection after authentication: messages in, messages out, one write per flush.

use std::io;
use std::ops::{Deref, DerefMut};

use tokio::io::AsyncWriteExt;

use crate::config::Config;
use crate::error::{Error, ErrorFields};
use crate::frontend::Frontend;
use crate::input::Input;
use crate::output::Output;
use crate::socket::{PeerWatch, Stream};

/// What an idle connection may keep.
const KEPT_BYTES_MAX: usize = 16 << 10;

/// Owns the socket and both buffers. It is an [`Output`] too: the encoders append to its buffer,
/// and nothing leaves before [`Connection::flush`] (at Sync and Flush) or [`Connection::relieve`]
/// (while rows stream).
#[derive(Debug)]
pub struct Connection {
    pub(crate) stream: Stream,
    pub(crate) input: Input,
    output: Output,
    /// How much of the output a cancelled flush has sent already.
    sent: usize,
    output_bytes_high: usize,
    skipping: bool,
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
        }
    }

    /// The next message; None when the peer has closed between two messages. Cancel-safe: bytes
    /// that were read stay in the buffer, so it can be raced against notifications.
    pub async fn next(&mut self) -> Result<Option<Frontend>, Error> {
        loop {
            while let Some(frame) = self.input.cut()? {
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
    }

    /// Sends all that waits. Cancel-safe: what was not sent stays in the buffer.
    pub async fn flush(&mut self) -> Result<(), Error> {
        while let Some(rest @ [_, ..]) = self.output.as_bytes().get(self.sent..) {
            match self.stream.write(rest).await? {
                0 => return Err(Error::Io(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        self.output.truncate(0);
        self.sent = 0;
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
        self.stream.socket().watch()
    }

    /// True if the bytes are encrypted on the way.
    pub fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// Writes to the socket so far. PostgreSQL's bar is one per round trip.
    pub fn socket_writes(&self) -> u64 {
        self.stream.socket().writes()
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
