//! What a transaction sends: kept until COMMIT, then numbered in the order of the log. The number of
//! an outbox is locked from there until the entry has its place, which waits for no disk.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use storage::{Direction, GroupId, TxId, system};

use super::sent::{self, COUNTER_KEY, Counter};
use super::{NUMBER, SENDER, Sent};
use crate::catalog::{Column, TREE_TREES};
use crate::exec::{ExecCx, Row, Writer};
use crate::transaction::{Policy, RowMode, Stop, Transaction};
use crate::types::Datum;
use crate::{Error, state};

/// Bytes that one transaction sends: they are in memory until the commit.
const SENT_BYTES_MAX: u64 = 64 << 20;
/// Rows that one group has sent to another and that one has not taken.
const OUTBOX_MAX: u64 = 1_000_000;

/// The numbers of one transaction's commands for one receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Commands {
    pub to: GroupId,
    pub first: u64,
    pub last: u64,
}

/// What an open transaction sends.
#[derive(Default)]
pub(crate) struct Outgoing {
    sent: Vec<(GroupId, Sent)>,
    /// The numbers from which on they are given, once those are locked.
    counters: BTreeMap<GroupId, Counter>,
    bytes: u64,
    /// The commands for each receiver, once they are numbered.
    placed: Vec<Commands>,
}

impl Outgoing {
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.placed.is_empty()
    }

    /// All that it sends, which is not numbered yet.
    pub fn take(&mut self) -> Vec<(GroupId, Sent)> {
        self.bytes = 0;
        std::mem::take(&mut self.sent)
    }

    pub fn len(&self) -> usize {
        self.sent.len()
    }

    /// Takes back what was added since there were so many.
    pub fn truncate(&mut self, len: usize) {
        #[cfg(feature = "sabotage")]
        if storage::sabotage::planted("command-of-savepoint-sent") {
            return;
        }
        for (_, sent) in self.sent.drain(len.min(self.sent.len())..) {
            self.bytes -= sent.size();
        }
        self.placed.clear();
        self.counters.clear();
    }

    /// Is there nothing but commands, one or more?
    pub fn is_commands(&self) -> bool {
        let command = |(_, sent): &(GroupId, Sent)| matches!(sent, Sent::Command { .. });
        !self.sent.is_empty() && self.sent.iter().all(command)
    }
}

impl Transaction {
    /// Sends something from the group `from` to another one with this transaction.
    ///
    /// # Errors
    /// 0A000 for a second owner, 25006 in a read-only transaction, 54000 when it is too much; waits
    /// for the leader of the group.
    pub fn send(&mut self, from: GroupId, to: GroupId, sent: Sent) -> Result<(), Stop> {
        self.writes_to(from)?;
        let outgoing = self.outgoing();
        outgoing.bytes += sent.size();
        outgoing.sent.push((to, sent));
        let bytes = outgoing.bytes;
        if bytes > SENT_BYTES_MAX {
            return Err(Error::new(
                state::PROGRAM_LIMIT_EXCEEDED,
                "the transaction sends too much",
            )
            .detail(format!(
                "What it sends to other owners may have {SENT_BYTES_MAX} bytes."
            ))
            .hint("Commit in portions.")
            .into());
        }
        Ok(self.fits(bytes)?)
    }

    /// Numbers what the transaction sends and writes it: the commands by receiver. May be called again
    /// after it had to wait, whatever was written then.
    ///
    /// # Errors
    /// 53100 when a receiver has not taken too much already; waits for who numbers just now.
    pub(crate) fn place_sent(&mut self, trace: &str) -> Result<Vec<Commands>, Stop> {
        if self.outgoing().sent.is_empty() {
            return Ok(self.outgoing().placed.clone());
        }
        if self.waits() {
            // It is sent with its write set.
            return Ok(Vec::new());
        }
        let Some(from) = self.writing() else {
            return Err(Error::internal("something is sent by nobody").into());
        };
        let mut counts: BTreeMap<GroupId, u64> = BTreeMap::new();
        for (to, _) in &self.outgoing().sent {
            *counts.entry(*to).or_default() += 1;
        }
        let mut counters = BTreeMap::new();
        for (to, count) in counts {
            let tree = system::outbox(to);
            self.lock_row(from, tree, COUNTER_KEY, RowMode::Update, Policy::Wait)?;
            let counter = match self.newest(from, tree, COUNTER_KEY)? {
                Some(bytes) => Counter::decode(&bytes)?,
                None => Counter::NEW,
            };
            let known = self.outgoing().counters.entry(to).or_insert(counter);
            // Under the lock nobody else moves it; an attempt that had to wait may have.
            let counter = *known;
            if counter.next - counter.first + count > OUTBOX_MAX {
                return Err(full(counter).into());
            }
            counters.insert(to, counter);
        }
        let new = counters.iter().filter(|(_, c)| **c == Counter::NEW);
        for to in new.map(|(to, _)| *to).collect::<Vec<_>>() {
            self.open_outbox(from, to)?;
        }
        let mut placed: BTreeMap<GroupId, Commands> = BTreeMap::new();
        let own = self.id_if_any().unwrap_or_default();
        // It stays in memory until all is written: one row may have to wait, and all come again.
        let mut sending = std::mem::take(&mut self.outgoing().sent);
        let mut number = |tx: &mut Transaction| -> Result<(), Stop> {
            for (to, sent) in &mut sending {
                let (to, counter) = (*to, counters.get_mut(to).expect("all are counted"));
                if let Sent::Command {
                    txid,
                    trace: of,
                    hops,
                    ..
                } = sent
                {
                    *txid = own;
                    *hops = tx.hops();
                    trace.clone_into(of);
                    let (first, last) = (counter.next, counter.next);
                    let commands = placed.entry(to).or_insert(Commands { to, first, last });
                    commands.last = last;
                }
                let (key, value) = (sent::key(counter.next), sent.encode());
                tx.put_hidden(from, system::outbox(to), key, Some(value))?;
                counter.next += 1;
            }
            for (to, counter) in &counters {
                let key = Bytes::from_static(COUNTER_KEY);
                let value = Some(counter.encode());
                tx.put_hidden(from, system::outbox(*to), key, value)?;
            }
            Ok(())
        };
        let numbered = number(self);
        if let Err(stop) = numbered {
            self.outgoing().sent = sending;
            return Err(stop);
        }
        let outgoing = self.outgoing();
        outgoing.bytes = 0;
        outgoing.placed = placed.into_values().collect();
        Ok(self.outgoing().placed.clone())
    }

    /// The first that goes there, or the first word of what was taken from there: from now on there
    /// are copies of the outbox where the other group is.
    pub(crate) fn open_outbox(&mut self, from: GroupId, to: GroupId) -> Result<(), Stop> {
        let tree = Bytes::copy_from_slice(&system::outbox(to).to_be_bytes());
        self.lock_row(from, TREE_TREES, &tree, RowMode::Update, Policy::Wait)?;
        if self.newest(from, TREE_TREES, &tree)?.is_some() {
            return Ok(());
        }
        // No table's.
        let none = Bytes::copy_from_slice(&0u32.to_be_bytes());
        self.put_hidden(from, TREE_TREES, tree, Some(none))
    }

    /// What has a number of an outbox above `after`, at most so many, with their numbers.
    pub(super) fn sent_after(
        &mut self,
        from: GroupId,
        to: GroupId,
        after: u64,
        max: usize,
    ) -> Result<Vec<(u64, Bytes)>, Stop> {
        let first = Bound::Excluded(sent::key(after));
        let last = Bound::Included(sent::key(u64::MAX));
        let rows = self.scan(from, system::outbox(to), (first, last), Direction::Forward)?;
        let mut out = Vec::new();
        for row in rows.take(max) {
            let (key, value) = row?;
            let number = sent::number(&key);
            let number = number.ok_or_else(|| Error::internal("a key of an outbox is none"))?;
            out.push((number, value));
        }
        Ok(out)
    }
}

/// Sends a row to the inbox that the write path is of, once what holds for its rows is looked at.
///
/// # Errors
/// Those of the row (23502, 23514), and of [`Transaction::send`].
pub(crate) fn send(writer: &Writer, row: &mut Row, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
    let table = writer.table();
    let from = cx.transaction.engine().owner_group(cx.role)?;
    let mut set = |name: &str, value: Datum| {
        let named = |column: &Column| !column.dropped && column.name == name;
        if let Some(slot) = table.columns.iter().position(named) {
            row[slot] = value;
        }
    };
    // The receiver fills them in.
    set(SENDER, Datum::Text("".into()));
    set(NUMBER, Datum::Int8(0));
    writer.complete(row, cx)?;
    let command = Sent::Command {
        table: table.id,
        sender: cx.role,
        txid: TxId::default(),
        trace: String::new(),
        hops: 0,
        row: writer.encode(row),
    };
    cx.transaction.send(from, table.group, command)
}

/// 53100.
fn full(counter: Counter) -> Error {
    let message = "the receiver has not taken what was sent to it before";
    Error::new(state::DISK_FULL, message)
        .detail(format!(
            "{} commands and answers wait; {OUTBOX_MAX} may.",
            counter.next - counter.first
        ))
        .hint("Look at freehold.outbox and freehold.groups, and try again later.")
}
