//! The rows of an outbox.
//!
//! ```text
//! key              value
//! 0                1, next number u64, number of the first that is kept u64
//! 1, number u64    1, kind: 1 = command | 2 = rejection | 3 = reply, then its fields
//! 2                1, number of the last that was taken of what the other group sends u64
//! 3, number u64    1, time u64, error, the command: one that was rejected
//! 4, number u64    1, time u64, jsonb: the reply to one
//! ```
//! What is set aside is drawn in `parked.rs`.
//! Numbers in keys are big-endian, in values little-endian; they begin with 1.

use bytes::Bytes;
use storage::TxId;

use crate::catalog::{RoleId, TableId};
use crate::cluster::{Reader, Writer};
use crate::error::SqlState;
use crate::{Error, Result, state};

const VERSION: u8 = 1;
const COUNTER: u8 = 0;
const SENT: u8 = 1;
const TAKEN: u8 = 2;
const REJECTED_BY: u8 = 3;
const REPLIED: u8 = 4;
const COMMAND: u8 = 1;
const REJECTED: u8 = 2;
const REPLY: u8 = 3;

/// Something that one group sends to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A row for an inbox.
    Command {
        /// The inbox.
        table: TableId,
        /// The role that sends it.
        sender: RoleId,
        /// The sender's transaction.
        txid: TxId,
        /// The sender's `traceparent`.
        trace: String,
        /// Triggers on followed tables and commands that have led to it.
        hops: u16,
        /// The row, as the sender found it to be right.
        row: Bytes,
    },
    /// A command was not accepted.
    Rejected {
        /// Its number among what the other one has sent.
        number: u64,
        /// Why.
        error: Box<Reason>,
    },
    /// The receiver's reply to a command.
    Reply {
        /// Its number among what the other one has sent.
        number: u64,
        /// JSON.
        payload: String,
    },
}

/// An error that travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// SQLSTATE.
    pub state: SqlState,
    /// The primary message.
    pub message: String,
    /// DETAIL.
    pub detail: Option<String>,
    /// HINT.
    pub hint: Option<String>,
}

impl Sent {
    /// Bytes that it takes, about.
    pub fn size(&self) -> u64 {
        match self {
            Sent::Command { trace, row, .. } => (row.len() + trace.len() + 64) as u64,
            Sent::Rejected { error, .. } => (error.message.len() + 128) as u64,
            Sent::Reply { payload, .. } => (payload.len() + 64) as u64,
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.u8(VERSION);
        match self {
            Sent::Command {
                table,
                sender,
                txid,
                trace,
                hops,
                row,
            } => {
                out.u8(COMMAND);
                out.u32(table.0);
                out.u32(sender.0);
                out.u64(txid.0);
                out.text(trace);
                out.u32(u32::from(*hops));
                out.bytes(row);
            }
            Sent::Rejected { number, error } => {
                out.u8(REJECTED);
                out.u64(*number);
                error.write(&mut out);
            }
            Sent::Reply { number, payload } => {
                out.u8(REPLY);
                out.u64(*number);
                out.text(payload);
            }
        }
        out.0.into()
    }

    /// # Errors
    /// XX001.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Sent> {
        let mut r = Reader(bytes);
        let sent = (|| {
            let sent = match (r.u8()?, r.u8()?) {
                (VERSION, COMMAND) => Sent::Command {
                    table: TableId(r.u32()?),
                    sender: RoleId(r.u32()?),
                    txid: TxId(r.u64()?),
                    trace: r.text()?.to_owned(),
                    hops: u16::try_from(r.u32()?).ok()?,
                    row: Bytes::copy_from_slice(r.bytes()?),
                },
                (VERSION, REJECTED) => Sent::Rejected {
                    number: r.u64()?,
                    error: Box::new(Reason::read(&mut r)?),
                },
                (VERSION, REPLY) => Sent::Reply {
                    number: r.u64()?,
                    payload: r.text()?.to_owned(),
                },
                _ => return None,
            };
            r.is_empty().then_some(sent)
        })();
        sent.ok_or_else(damaged)
    }
}

impl Reason {
    /// What of an error travels.
    pub(crate) fn of(error: &Error) -> Reason {
        Reason {
            state: error.state(),
            message: error.0.message.clone(),
            detail: error.0.detail.clone(),
            hint: error.0.hint.clone(),
        }
    }

    /// What may stay of it where the row that it is about is erased: it may name the row's values.
    pub(crate) fn erase(&mut self) {
        self.message = "the row was erased at its owner, and with it what was said here".to_owned();
        (self.detail, self.hint) = (None, None);
    }

    /// The error again.
    pub(crate) fn error(&self) -> Error {
        let mut error = Error::new(self.state, self.message.clone());
        if let Some(detail) = &self.detail {
            error = error.detail(detail.clone());
        }
        if let Some(hint) = &self.hint {
            error = error.hint(hint.clone());
        }
        error
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.text(self.state.as_str());
        out.text(&self.message);
        for text in [&self.detail, &self.hint] {
            out.u8(u8::from(text.is_some()));
            out.text(text.as_deref().unwrap_or_default());
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Option<Reason> {
        let state = SqlState(r.text()?.as_bytes().try_into().ok()?);
        let message = r.text()?.to_owned();
        let mut text = || {
            let there = r.flag()?;
            let text = r.text()?.to_owned();
            Some(there.then_some(text))
        };
        Some(Reason {
            state,
            message,
            detail: text()?,
            hint: text()?,
        })
    }
}

/// A command that was rejected, as its sender keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// When it was heard, in microseconds since 1970.
    pub at: u64,
    pub error: Reason,
    /// What was sent.
    pub command: Bytes,
}

impl Kept {
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.u8(VERSION);
        out.u64(self.at);
        self.error.write(&mut out);
        out.bytes(&self.command);
        out.0.into()
    }

    /// # Errors
    /// XX001.
    pub fn decode(bytes: &[u8]) -> Result<Kept> {
        let mut r = Reader(bytes);
        let kept = (|| {
            let at = (r.u8()? == VERSION).then(|| r.u64())??;
            let error = Reason::read(&mut r)?;
            let command = Bytes::copy_from_slice(r.bytes()?);
            r.is_empty().then_some(Kept { at, error, command })
        })();
        kept.ok_or_else(damaged)
    }
}

/// A reply, as the sender of the command keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replied {
    /// When it came, in microseconds since 1970.
    pub at: u64,
    /// JSON.
    pub payload: String,
}

impl Replied {
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.u8(VERSION);
        out.u64(self.at);
        out.text(&self.payload);
        out.0.into()
    }

    /// # Errors
    /// XX001.
    pub fn decode(bytes: &[u8]) -> Result<Replied> {
        let mut r = Reader(bytes);
        let replied = (|| {
            let at = (r.u8()? == VERSION).then(|| r.u64())??;
            let payload = r.text()?.to_owned();
            r.is_empty().then_some(Replied { at, payload })
        })();
        replied.ok_or_else(damaged)
    }
}

/// The numbers of an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counter {
    /// The next one to be given.
    pub next: u64,
    /// The first that was not removed.
    pub first: u64,
}

impl Counter {
    /// Where nothing was ever sent.
    pub const NEW: Counter = Counter { next: 1, first: 1 };

    pub fn encode(self) -> Bytes {
        let mut out = Writer::default();
        out.u8(VERSION);
        out.u64(self.next);
        out.u64(self.first);
        out.0.into()
    }

    /// # Errors
    /// XX001.
    pub fn decode(bytes: &[u8]) -> Result<Counter> {
        let mut r = Reader(bytes);
        let counter = (|| {
            let version = r.u8()?;
            let (next, first) = (r.u64()?, r.u64()?);
            let fits = version == VERSION && r.is_empty() && 1 <= first && first <= next;
            fits.then_some(Counter { next, first })
        })();
        counter.ok_or_else(damaged)
    }
}

/// The value that says how far was taken.
pub(super) fn taken(number: u64) -> Bytes {
    let mut out = Writer::default();
    out.u8(VERSION);
    out.u64(number);
    out.0.into()
}

/// # Errors
/// XX001.
pub(super) fn read_taken(bytes: &[u8]) -> Result<u64> {
    let mut r = Reader(bytes);
    let number = (|| {
        let number = (r.u8()? == VERSION).then(|| r.u64())??;
        r.is_empty().then_some(number)
    })();
    number.ok_or_else(damaged)
}

/// The key of the numbers.
pub(super) const COUNTER_KEY: &[u8] = &[COUNTER];
/// The key of how far was taken.
pub(super) const TAKEN_KEY: &[u8] = &[TAKEN];

/// The key of what has a number.
pub(super) fn key(number: u64) -> Bytes {
    numbered(SENT, number)
}

/// The key of a command that was rejected.
pub(super) fn rejected_key(number: u64) -> Bytes {
    numbered(REJECTED_BY, number)
}

/// The key of the reply to a command.
pub(super) fn replied_key(number: u64) -> Bytes {
    numbered(REPLIED, number)
}

fn numbered(kind: u8, number: u64) -> Bytes {
    let mut key = vec![kind];
    key.extend_from_slice(&number.to_be_bytes());
    key.into()
}

/// The number of a key of what was sent.
pub(super) fn number(key: &[u8]) -> Option<u64> {
    number_of(SENT, key)
}

/// The number of a key of a reply.
pub(super) fn replied_to(key: &[u8]) -> Option<u64> {
    number_of(REPLIED, key)
}

fn number_of(kind: u8, key: &[u8]) -> Option<u64> {
    let (first, number) = key.split_first()?;
    (*first == kind).then(|| number.try_into().ok().map(u64::from_be_bytes))?
}

pub(super) fn damaged() -> Error {
    Error::new(state::DATA_CORRUPTED, "a row of an outbox can't be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_they_were_written() {
        let command = Sent::Command {
            table: TableId(7),
            sender: RoleId(8),
            txid: TxId(9),
            trace: "00-1".to_owned(),
            hops: 2,
            row: Bytes::from_static(b"row"),
        };
        let error = Error::new(state::UNIQUE_VIOLATION, "twice").hint("Once.");
        let rejected = Sent::Rejected {
            number: 3,
            error: Box::new(Reason::of(&error)),
        };
        let reply = Sent::Reply {
            number: 4,
            payload: "{}".to_owned(),
        };
        for sent in [command, rejected, reply] {
            let bytes = sent.encode();
            assert_eq!(Sent::decode(&bytes), Ok(sent));
            for cut in 0..bytes.len() {
                assert!(Sent::decode(&bytes[..cut]).is_err());
            }
        }
        let counter = Counter { next: 5, first: 2 };
        assert_eq!(Counter::decode(&counter.encode()), Ok(counter));
        assert!(Counter::decode(&Counter { next: 1, first: 2 }.encode()).is_err());
        assert_eq!(read_taken(&taken(4)), Ok(4));
        assert_eq!(number(&key(6)), Some(6));
        assert_eq!(number(COUNTER_KEY), None);
        assert_eq!(Reason::of(&error).error(), error);
    }
}
