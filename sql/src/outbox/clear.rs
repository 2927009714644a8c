//! The sender's side after the receiver has taken something: it goes. Answers that nobody has come for
//! go after their time.

use std::ops::Bound;

use bytes::Bytes;
use storage::{Direction, GroupId, system};

use super::Sent;
use super::sent::{
    self, COUNTER_KEY, Counter, Kept, Replied, TAKEN_KEY, read_taken, rejected_key, replied_key,
};
use crate::Result as SqlResult;
use crate::transaction::{Policy, RowMode, Stop, Transaction};

/// Rows that one entry removes.
const CLEARED_MAX: usize = 1000;
/// A reply is kept for so long, in microseconds.
const REPLY_KEPT: u64 = 3_600_000_000;
/// A rejection is kept for so long, in microseconds.
const REJECTION_KEPT: u64 = 7 * 86_400_000_000;

/// Removes what the group `other` has taken of what `home` has sent to it, and old answers. False:
/// nothing.
///
/// # Errors
/// As of any write; waits for who numbers just now.
pub(crate) fn clear(home: GroupId, other: GroupId, tx: &mut Transaction) -> Result<bool, Stop> {
    let replies = [replied_key(0), replied_key(u64::MAX)];
    let reply_at = |bytes: &[u8]| Ok(Replied::decode(bytes)?.at);
    let rejections = [rejected_key(0), rejected_key(u64::MAX)];
    let rejected_at = |bytes: &[u8]| Ok(Kept::decode(bytes)?.at);
    let old = forget(home, other, replies, REPLY_KEPT, reply_at, tx)?
        | forget(home, other, rejections, REJECTION_KEPT, rejected_at, tx)?;
    Ok(clear_taken(home, other, tx)? | old)
}

fn clear_taken(home: GroupId, other: GroupId, tx: &mut Transaction) -> Result<bool, Stop> {
    let tree = system::outbox(other);
    let groups = tx.engine().groups();
    let held = groups.get(other);
    if !held.is_some_and(|held| held.holds(system::outbox(home))) {
        return Ok(false);
    }
    let taken = tx.get(other, system::outbox(home), TAKEN_KEY)?;
    let Some(taken) = taken.map(|bytes| read_taken(&bytes)).transpose()? else {
        return Ok(false);
    };
    #[cfg(feature = "sabotage")]
    let taken = match storage::sabotage::planted("command-cleared-early") {
        true => u64::MAX,
        false => taken,
    };
    // A rejection takes its command from here: they are taken first.
    let own = super::take::taken(home, other, tx)?;
    let untaken = tx.sent_after(other, home, own, CLEARED_MAX)?;
    let mut answers = false;
    for (_, bytes) in &untaken {
        answers |= !matches!(Sent::decode(bytes)?, Sent::Command { .. });
    }
    if answers || untaken.len() == CLEARED_MAX {
        return Ok(false);
    }
    let rows = tx.sent_after(home, other, 0, CLEARED_MAX)?;
    let numbers = rows.iter().map(|(number, _)| *number);
    let gone: Vec<u64> = numbers.filter(|number| *number <= taken).collect();
    let Some(last) = gone.last().copied() else {
        return Ok(false);
    };
    tx.lock_row(home, tree, COUNTER_KEY, RowMode::Update, Policy::Wait)?;
    for number in gone {
        tx.put_hidden(home, tree, sent::key(number), None)?;
    }
    if let Some(bytes) = tx.newest(home, tree, COUNTER_KEY)? {
        let counter = Counter::decode(&bytes)?;
        let first = counter.first.max(last + 1);
        let value = Counter { first, ..counter }.encode();
        tx.put_hidden(home, tree, Bytes::from_static(COUNTER_KEY), Some(value))?;
    }
    Ok(true)
}

/// Removes the oldest of these rows of the outbox, up to the first whose time is not over.
fn forget(
    home: GroupId,
    other: GroupId,
    [first, last]: [Bytes; 2],
    kept: u64,
    at: impl Fn(&[u8]) -> SqlResult<u64>,
    tx: &mut Transaction,
) -> Result<bool, Stop> {
    let tree = system::outbox(other);
    let range = (Bound::Included(first), Bound::Included(last));
    let rows = tx.scan(home, tree, range, Direction::Forward)?;
    let mut old = Vec::new();
    for row in rows.take(CLEARED_MAX) {
        let (key, value) = row?;
        if at(&value)?.saturating_add(kept) > tx.started() {
            break;
        }
        old.push(key);
    }
    let any = !old.is_empty();
    for key in old {
        tx.put_hidden(home, tree, key, None)?;
    }
    Ok(any)
}
