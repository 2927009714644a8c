//! The receiver's side: what comes next, and what becomes of it.

use bytes::Bytes;
use storage::{GroupId, TxId, system};

use super::Sent;
use super::sent::{self, Reason, Replied, TAKEN_KEY, rejected_key, replied_key};
use crate::catalog::{RoleId, TableId};
use crate::exec::{ExecCx, TableWriter};
use crate::transaction::{Policy, RowMode, Stop, TableMode, Transaction};
use crate::types::Datum;
use crate::{Error, state};

/// What one entry takes, at most.
const TAKEN_MAX: usize = 1000;

/// What a courier keeps of what it does.
#[derive(Default)]
pub(crate) struct Step {
    /// The sender's `traceparent`.
    pub trace: String,
    /// Errors that may pass by themselves are waited for.
    pub patient: bool,
}

/// What comes next.
pub(crate) struct Next {
    /// With their numbers, in order; never empty.
    pub sent: Vec<(u64, Sent)>,
}

impl Next {
    /// The number of the last.
    pub fn last(&self) -> u64 {
        self.sent.last().map_or(0, |(number, _)| *number)
    }

    /// Triggers and commands that lead to what is done with it.
    pub fn hops(&self) -> u16 {
        match self.sent.first() {
            Some((_, Sent::Command { hops, .. })) => hops.saturating_add(1),
            _ => 0,
        }
    }

    /// The sender's `traceparent`, or empty.
    pub fn trace(&self) -> &str {
        match self.sent.first() {
            Some((_, Sent::Command { trace, .. })) => trace,
            _ => "",
        }
    }
}

/// How far `home` has taken what `other` sends, locked until the entry has its place.
pub(super) fn taken(home: GroupId, other: GroupId, tx: &mut Transaction) -> Result<u64, Stop> {
    let tree = system::outbox(other);
    tx.lock_row(home, tree, TAKEN_KEY, RowMode::Update, Policy::Wait)?;
    read_taken(home, other, tx)
}

/// The same, as far as it has come by now.
pub(super) fn read_taken(home: GroupId, other: GroupId, tx: &mut Transaction) -> Result<u64, Stop> {
    match tx.newest(home, system::outbox(other), TAKEN_KEY)? {
        Some(bytes) => Ok(sent::read_taken(&bytes)?),
        None => Ok(0),
    }
}

/// What `other` has sent next to `home`: all of one transaction, if that is not too much.
///
/// # Errors
/// XX001 if something is missing: nothing is passed over.
pub(crate) fn next(
    home: GroupId,
    other: GroupId,
    tx: &mut Transaction,
) -> Result<Option<Next>, Stop> {
    let held = tx.engine().groups().get(other);
    if !held.is_some_and(|held| held.holds(system::outbox(home))) {
        return Ok(None);
    }
    let after = taken(home, other, tx)?;
    let mut sent: Vec<(u64, Sent)> = Vec::new();
    let mut of: Option<Option<TxId>> = None;
    for (number, bytes) in tx.sent_after(other, home, after, TAKEN_MAX)? {
        let expected = sent.last().map_or(after, |(last, _)| *last) + 1;
        if number != expected {
            let message = format!("what group {other} has sent under {expected} is missing");
            return Err(Error::new(state::DATA_CORRUPTED, message).into());
        }
        let one = Sent::decode(&bytes)?;
        let txid = match &one {
            Sent::Command { txid, .. } => Some(*txid),
            Sent::Rejected { .. } | Sent::Reply { .. } => None,
        };
        if *of.get_or_insert(txid) != txid {
            break;
        }
        sent.push((number, one));
    }
    Ok((!sent.is_empty()).then_some(Next { sent }))
}

/// `home` has taken what `other` sends up to this number.
pub(crate) fn pass(
    home: GroupId,
    other: GroupId,
    last: u64,
    tx: &mut Transaction,
) -> Result<(), Stop> {
    tx.open_outbox(home, other)?;
    #[cfg(feature = "sabotage")]
    // Now and then, for else the same is taken for ever.
    if tx.started().is_multiple_of(20) && storage::sabotage::planted("command-taken-twice") {
        return Ok(());
    }
    let key = Bytes::from_static(TAKEN_KEY);
    tx.put_hidden(home, system::outbox(other), key, Some(sent::taken(last)))
}

/// Keeps an answer for the command's sender to see: a rejection, with the command, or the first reply.
pub(crate) fn note(
    home: GroupId,
    other: GroupId,
    sent: &Sent,
    tx: &mut Transaction,
) -> Result<(), Stop> {
    let tree = system::outbox(other);
    let (number, error) = match sent {
        Sent::Rejected { number, error } => (number, error),
        Sent::Reply { number, payload } => {
            let key = replied_key(*number);
            if tx.newest(home, tree, &key)?.is_some() {
                return Ok(());
            }
            let replied = Replied {
                at: tx.started(),
                payload: payload.clone(),
            };
            return tx.put_hidden(home, tree, key, Some(replied.encode()));
        }
        Sent::Command { .. } => return Ok(()),
    };
    let command = tx.newest(home, tree, &sent::key(*number))?;
    let kept = sent::Kept {
        at: tx.started(),
        error: (**error).clone(),
        command: command.unwrap_or_default(),
    };
    tx.put_hidden(home, tree, rejected_key(*number), Some(kept.encode()))
}

/// A command that is to be put into its inbox.
pub(crate) struct Accepting<'a> {
    from: GroupId,
    number: u64,
    table: TableId,
    sender: RoleId,
    row: &'a Bytes,
    sent: &'a Sent,
}

impl<'a> Accepting<'a> {
    /// If it is a command.
    pub fn of(from: GroupId, number: u64, sent: &'a Sent) -> Option<Accepting<'a>> {
        let Sent::Command {
            table, sender, row, ..
        } = sent
        else {
            return None;
        };
        #[cfg(feature = "sabotage")]
        if number % 50 == 49 && storage::sabotage::planted("command-passed-over") {
            return None;
        }
        Some(Accepting {
            from,
            number,
            table: *table,
            sender: *sender,
            row,
            sent,
        })
    }

    /// Puts the row in. What its sender has found right is not looked at again.
    ///
    /// # Errors
    /// What speaks against it: a key that is taken, a reference, a trigger.
    pub fn insert(&self, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        let table = cx
            .catalog
            .table(self.table)
            .filter(|t| t.is_inbox())
            .cloned();
        let table = table.ok_or_else(|| {
            Error::new(state::UNDEFINED_TABLE, "the inbox was dropped")
                .hint("Ask its owner where commands go now.")
        })?;
        crate::fired::check_hops(cx.transaction.hops())?;
        // Like a statement: no change of the table passes it by.
        let (group, tree) = (table.group, table.tree);
        cx.transaction
            .lock_table(group, tree, TableMode::RowExclusive, Policy::Wait)?;
        let writer = crate::plan::writer(cx.catalog, table.id)?;
        let mut row = writer.read(self.row)?;
        let mut set = |name: &str, value: Datum| {
            let slot = table
                .columns
                .iter()
                .position(|c| !c.dropped && c.name == name);
            if let Some(slot) = slot {
                row[slot] = value;
            }
        };
        let sender = cx.catalog.role_name(self.sender);
        set(SENDER, Datum::Text(sender.into()));
        set(NUMBER, Datum::Int8(self.number as i64));
        let mut writer = TableWriter::new(writer);
        writer.accept(row, cx)?;
        writer.finish(cx)
    }

    /// Sets it aside with the error, and tells the sender.
    pub fn refuse(&self, home: GroupId, error: &Error, tx: &mut Transaction) -> Result<(), Stop> {
        let what = super::parked::command(self.from, self.number, self.sent);
        super::park(home, what, error, tx)?;
        #[cfg(feature = "sabotage")]
        if storage::sabotage::planted("command-rejected-untold") {
            return Ok(());
        }
        let name = tx.catalog().table(self.table).map(|t| t.name.clone());
        let error = told(error, name.as_deref());
        let rejected = Sent::Rejected {
            number: self.number,
            error: Box::new(error),
        };
        tx.send(home, self.from, rejected)
    }
}

/// The column with the sender's name.
pub(crate) const SENDER: &str = "sender";
/// The column with the command's number among those of its sender.
pub(crate) const NUMBER: &str = "number";

/// What the sender is told of an error at the receiver: what is about the inbox itself, or was said
/// on purpose (RAISE). The receiver's own tables are nobody's business.
fn told(error: &Error, inbox: Option<&str>) -> Reason {
    let raised = error.state().as_str() == "P0001";
    let public = error.0.schema.as_deref() == Some("public");
    let of_inbox = public
        && error
            .0
            .table
            .as_deref()
            .is_some_and(|table| Some(table) == inbox);
    let mut reason = Reason::of(error);
    if raised || inbox.is_none() {
        return reason;
    }
    if error.state() == state::FOREIGN_KEY_VIOLATION || !of_inbox {
        reason.detail = None;
        reason.hint = None;
    }
    if !of_inbox {
        reason.message = "the command was not accepted".to_owned();
        reason.hint = Some("Its receiver has set it aside and sees why in freehold.parked.".into());
    }
    reason
}
