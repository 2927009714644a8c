//! The sender's side after the receiver has taken something: it goes.

use bytes::Bytes;
use storage::{GroupId, system};

use super::sent::{self, COUNTER_KEY, Counter, TAKEN_KEY, read_taken};
use crate::transaction::{Policy, RowMode, Stop, Transaction};

/// Rows that one entry removes.
const CLEARED_MAX: usize = 1000;

/// Removes what the group `other` has taken of what `home` has sent to it. False: nothing.
///
/// # Errors
/// As of any write; waits for who numbers just now.
pub(crate) fn clear(home: GroupId, other: GroupId, tx: &mut Transaction) -> Result<bool, Stop> {
    let tree = system::outbox(other);
    let taken = tx.get(other, system::outbox(home), TAKEN_KEY)?;
    let Some(taken) = taken.map(|bytes| read_taken(&bytes)).transpose()? else {
        return Ok(false);
    };
    // A rejection takes its command from here: they are taken first.
    let own = super::take::taken(home, other, tx)?;
    if !tx.sent_after(other, home, own, 1)?.is_empty() {
        return Ok(false);
    }
    let rows = tx.sent_after(home, other, 0, CLEARED_MAX)?;
    let gone: Vec<u64> = rows
        .iter()
        .map(|(n, _)| *n)
        .filter(|n| *n <= taken)
        .collect();
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
