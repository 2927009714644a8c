//! What was set aside after an error: commands, and triggers on followed tables. Never lost, never in
//! the way of others.
//!
//! ```text
//! storage::system::PARKED
//! id u64                   1, kind: 1 = command | 2 = trigger | 3 = trigger, its row erased, time u64, error,
//!                          then group u32, number u64, the command | the trigger and its row (`fired`)
//! 3, id u64                the same, of what is left where the row is erased (`removed.rs`)
//! 0                        next id, how many there are, both u64 big-endian
//! 1, trigger u32, key      how many of the trigger and the row's key, u64 big-endian
//! ```

use std::ops::Bound;

use bytes::Bytes;
use storage::{GroupId, system};

use super::sent::{Reason, damaged};
use super::{Accepting, Sent};
use crate::cluster::{Reader, Writer};
use crate::exec::ExecCx;
use crate::transaction::{Policy, RowMode, Stop, Transaction};
use crate::{Error, Result as SqlResult, fired, state};

/// The key of the next id; all ids are longer.
const NEXT_KEY: &[u8] = &[0];
/// Ids are below this: their keys begin with 0.
pub(super) const ID_MAX: u64 = (1 << 56) - 1;
/// What an owner may have parked.
const PARKED_MAX: u64 = 1_000_000;
const VERSION: u8 = 1;
const COMMAND: u8 = 1;
const TRIGGER: u8 = 2;
const ERASED_TRIGGER: u8 = 3;
/// The first byte of keys of what is left where the row is erased: in a row of its own, so that the whole
/// one could be erased.
const ERASED: u8 = 3;

/// What was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A command, by who has sent it and its number there.
    Command {
        from: u32,
        number: u64,
        command: Bytes,
    },
    /// A trigger on a followed table.
    Trigger(fired::Parked),
}

/// The same with why and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parked {
    /// In microseconds since 1970.
    pub at: u64,
    pub error: Reason,
    pub what: What,
}

impl Parked {
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.u8(VERSION);
        out.u8(match &self.what {
            What::Command { .. } => COMMAND,
            What::Trigger(row) if row.erased.is_some() => ERASED_TRIGGER,
            What::Trigger(_) => TRIGGER,
        });
        out.u64(self.at);
        self.error.write(&mut out);
        match &self.what {
            What::Command {
                from,
                number,
                command,
            } => {
                out.u32(*from);
                out.u64(*number);
                out.bytes(command);
            }
            What::Trigger(row) => row.write(&mut out),
        }
        out.0.into()
    }

    /// # Errors
    /// XX001.
    pub fn decode(bytes: &[u8]) -> SqlResult<Parked> {
        let mut r = Reader(bytes);
        let parked = (|| {
            let kind = (r.u8()? == VERSION).then(|| r.u8())??;
            let at = r.u64()?;
            let error = Reason::read(&mut r)?;
            let what = match kind {
                COMMAND => What::Command {
                    from: r.u32()?,
                    number: r.u64()?,
                    command: Bytes::copy_from_slice(r.bytes()?),
                },
                TRIGGER | ERASED_TRIGGER => {
                    What::Trigger(fired::Parked::read(&mut r, kind == ERASED_TRIGGER)?)
                }
                _ => return None,
            };
            r.is_empty().then_some(Parked { at, error, what })
        })();
        parked.ok_or_else(damaged)
    }
}

/// Sets something aside.
///
/// # Errors
/// 53100 when there is too much of it: nothing more is taken then.
pub(crate) fn park(
    home: GroupId,
    what: What,
    error: &Error,
    tx: &mut Transaction,
) -> Result<(), Stop> {
    lock(home, tx)?;
    let (id, count) = counts(home, tx)?;
    if count >= PARKED_MAX {
        let message = "too much is parked";
        return Err(Error::new(state::DISK_FULL, message).into());
    }
    if let What::Trigger(row) = &what {
        row.add(home, 1, tx)?;
    }
    let parked = Parked {
        at: tx.started(),
        error: Reason::of(error),
        what,
    };
    let key = match &parked.what {
        What::Trigger(row) if row.erased.is_some() => erased_key(id),
        What::Trigger(_) | What::Command { .. } => key(id),
    };
    tx.put_hidden(home, system::PARKED, key, Some(parked.encode()))?;
    set_counts(home, (id + 1, count + 1), tx)
}

/// Nobody else sets something aside, or takes it out, until the transaction has its place.
pub(super) fn lock(home: GroupId, tx: &mut Transaction) -> Result<(), Stop> {
    let (tree, key) = (system::PARKED, NEXT_KEY);
    tx.lock_row(home, tree, key, RowMode::Update, Policy::Wait)?;
    Ok(())
}

/// A command, as it is set aside.
pub(super) fn command(from: GroupId, number: u64, sent: &Sent) -> What {
    What::Command {
        from: from.0,
        number,
        command: sent.encode(),
    }
}

impl What {
    /// Does it after all.
    ///
    /// # Errors
    /// What speaks against it; 55000 if others of the row's key come first.
    pub fn again(&self, home: GroupId, id: u64, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        match self {
            What::Command {
                from,
                number,
                command,
            } => {
                let sent = Sent::decode(command)?;
                match Accepting::of(GroupId(*from), *number, &sent) {
                    Some(accepting) => accepting.insert(cx),
                    None => Ok(()),
                }
            }
            What::Trigger(row) => {
                if let Some(first) = earlier(home, id, row, cx.transaction)? {
                    let message = "other rows of the same key come first";
                    let state = state::OBJECT_NOT_IN_PREREQUISITE_STATE;
                    return Err(Error::new(state, message)
                        .hint(format!("Begin with freehold.retry({first})."))
                        .into());
                }
                row.run(home, cx)
            }
        }
    }
}

/// The first of the same trigger and key that was set aside before.
fn earlier(
    home: GroupId,
    id: u64,
    row: &fired::Parked,
    tx: &mut Transaction,
) -> Result<Option<u64>, Stop> {
    // The one itself is taken out already.
    if row.count(home, tx)? == 0 {
        return Ok(None);
    }
    let mut first: Option<u64> = None;
    for key in [key, erased_key] {
        let range = (Bound::Included(key(1)), Bound::Excluded(key(id)));
        for found in tx.scan(home, system::PARKED, range, storage::Direction::Forward)? {
            let (found, bytes) = found?;
            if let What::Trigger(other) = Parked::decode(&bytes)?.what
                && (other.trigger, &other.key) == (row.trigger, &row.key)
            {
                first = self::id(&found).into_iter().chain(first).min();
                break;
            }
        }
    }
    Ok(first)
}

/// Takes out what is set aside under an id; `None`: there is nothing.
pub(super) fn unpark(home: GroupId, id: u64, tx: &mut Transaction) -> Result<Option<What>, Stop> {
    if id == 0 || id > ID_MAX {
        return Ok(None);
    }
    lock(home, tx)?;
    let mut found = None;
    for key in [key(id), erased_key(id)] {
        if let Some(bytes) = tx.newest(home, system::PARKED, &key)? {
            found = Some((key, bytes));
        }
    }
    let Some((key, bytes)) = found else {
        return Ok(None);
    };
    let parked = Parked::decode(&bytes)?;
    tx.put_hidden(home, system::PARKED, key, None)?;
    let (next, count) = counts(home, tx)?;
    set_counts(home, (next, count.saturating_sub(1)), tx)?;
    if let What::Trigger(row) = &parked.what {
        row.add(home, -1, tx)?;
    }
    Ok(Some(parked.what))
}

/// The next id, and how many are parked.
pub(super) fn counts(home: GroupId, tx: &mut Transaction) -> Result<(u64, u64), Stop> {
    let row = tx.newest(home, system::PARKED, NEXT_KEY)?;
    let read = |bytes: &[u8]| Some((be(bytes.get(..8)?)?, be(bytes.get(8..)?)?));
    Ok(row.as_deref().and_then(read).unwrap_or((1, 0)))
}

fn set_counts(home: GroupId, (next, count): (u64, u64), tx: &mut Transaction) -> Result<(), Stop> {
    let mut value = next.to_be_bytes().to_vec();
    value.extend_from_slice(&count.to_be_bytes());
    let next = Bytes::from_static(NEXT_KEY);
    tx.put_hidden(home, system::PARKED, next, Some(value.into()))
}

/// The key of an id.
pub(super) fn key(id: u64) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

/// The key of what is left under an id where the row is erased.
pub(super) fn erased_key(id: u64) -> Bytes {
    [&[ERASED], &key(id)[..]].concat().into()
}

/// The id in either key of it.
pub(super) fn id(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|id| u64::from_be_bytes(*id))
}

fn be(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}
