//! What was set aside after an error: never lost, never in the way of others.

use bytes::Bytes;
use storage::{GroupId, system};

use super::sent::{Parked, Reason};
use super::{Accepting, Sent};
use crate::exec::ExecCx;
use crate::transaction::{Policy, RowMode, Stop, Transaction};
use crate::{Error, state};

/// The key of the next id; all ids are longer.
const NEXT_KEY: &[u8] = &[0];
/// What an owner may have parked.
const PARKED_MAX: u64 = 1_000_000;

/// Sets a command aside.
///
/// # Errors
/// 53100 when there is too much of it: nothing more is taken then.
pub(super) fn park(
    home: GroupId,
    from: GroupId,
    number: u64,
    sent: &Sent,
    error: &Error,
    tx: &mut Transaction,
) -> Result<(), Stop> {
    tx.lock_row(
        home,
        system::PARKED,
        NEXT_KEY,
        RowMode::Update,
        Policy::Wait,
    )?;
    let (id, count) = counts(home, tx)?;
    if count >= PARKED_MAX {
        let message = "too many commands are parked";
        return Err(Error::new(state::DISK_FULL, message).into());
    }
    let parked = Parked {
        at: tx.started(),
        from: from.0,
        number,
        error: Reason::of(error),
        command: sent.encode(),
    };
    let value = Some(parked.encode());
    tx.put_hidden(home, system::PARKED, key(id), value)?;
    set_counts(home, (id + 1, count + 1), tx)
}

/// A command that is set aside no more.
pub(super) struct Unparked {
    /// Who has sent it.
    pub from: GroupId,
    /// Its number there.
    pub number: u64,
    sent: Sent,
}

impl Unparked {
    /// Puts it into its inbox.
    ///
    /// # Errors
    /// What speaks against it.
    pub fn accept(&self, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        match Accepting::of(self.from, self.number, &self.sent) {
            Some(accepting) => accepting.insert(cx),
            None => Ok(()),
        }
    }
}

/// Takes out what is set aside under an id; `None`: there is nothing.
pub(super) fn unpark(
    home: GroupId,
    id: u64,
    tx: &mut Transaction,
) -> Result<Option<Unparked>, Stop> {
    tx.lock_row(
        home,
        system::PARKED,
        NEXT_KEY,
        RowMode::Update,
        Policy::Wait,
    )?;
    let Some(bytes) = tx.newest(home, system::PARKED, &key(id))? else {
        return Ok(None);
    };
    let parked = Parked::decode(&bytes)?;
    tx.put_hidden(home, system::PARKED, key(id), None)?;
    let (next, count) = counts(home, tx)?;
    set_counts(home, (next, count.saturating_sub(1)), tx)?;
    Ok(Some(Unparked {
        from: GroupId(parked.from),
        number: parked.number,
        sent: Sent::decode(&parked.command)?,
    }))
}

/// The next id, and how many are parked.
fn counts(home: GroupId, tx: &mut Transaction) -> Result<(u64, u64), Stop> {
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

fn be(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}
