//! `freehold.call(inbox, payload, timeout)`: sends a command, in a transaction of its own, and waits for
//! its reply; `freehold.reply(sender, number, payload)`: the receiver's side, part of the caller's
//! transaction.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use storage::{GroupId, Outcome, Position};

use super::functions::One;
use super::{Commands, NUMBER, SENDER, Sent, Verdict};
use crate::catalog::{Privilege, Table, TableId};
use crate::exec::{ExecCx, Row};
use crate::functions::json::from_json;
use crate::plan::{Argument, RowSource, SystemFunction};
use crate::system::SystemColumn;
use crate::transaction::{Identity, Isolation, Locks, Signal, Stop, Transaction, Wait};
use crate::types::text::split_identifiers;
use crate::types::{Datum, Interval, Json, Type, json};
use crate::{Error, state};

/// It looks again after this time, whatever it was told, in microseconds.
const LOOK_AGAIN: u64 = 1_000_000;
/// The longest wait for a reply, in microseconds.
const DAY: i64 = 86_400_000_000;
/// A call that nobody comes back to is forgotten so long after its end, in microseconds.
const FORGET_AFTER: u64 = 60_000_000;

/// Calls that have been sent, by the statement that waits.
#[derive(Default)]
pub(crate) struct Calls(Mutex<HashMap<Key, Calling>>);

/// The session's process id, the statement's begin, which of its calls it is, and what it sends where.
type Key = (i32, i64, u32, TableId, String);

#[derive(Clone)]
struct Calling {
    from: GroupId,
    to: GroupId,
    number: u64,
    entry: Signal,
    until: u64,
    /// Kept until the statement is over: it may have to begin again for something else.
    answer: Option<String>,
}

/// Both functions.
pub(super) fn functions() -> Vec<Arc<dyn SystemFunction>> {
    let argument = |name, ty, default| Argument { name, ty, default };
    let wait = Interval {
        months: 0,
        days: 0,
        microseconds: 30_000_000,
    };
    let call = [
        argument("inbox", Type::TEXT, None),
        argument("payload", Type::JSONB, None),
        argument("timeout", Type::INTERVAL, Some(Datum::Interval(wait))),
    ];
    let reply = [
        argument("sender", Type::TEXT, None),
        argument("number", Type::INT8, None),
        argument("payload", Type::JSONB, None),
    ];
    vec![Arc::new(Call(call)), Arc::new(Reply(reply))]
}

struct Call([Argument; 3]);

impl SystemFunction for Call {
    fn name(&self) -> (&str, &str) {
        ("freehold", "call")
    }

    fn arguments(&self) -> &[Argument] {
        &self.0
    }

    fn writes(&self) -> bool {
        true
    }

    fn columns(&self) -> &[SystemColumn] {
        const COLUMNS: &[SystemColumn] = &[SystemColumn {
            name: "reply",
            ty: Type::JSONB,
            not_null: true,
        }];
        COLUMNS
    }

    fn open(&self, arguments: &[Datum], cx: &mut ExecCx<'_>) -> Result<Box<dyn RowSource>, Stop> {
        let [
            Datum::Text(inbox),
            Datum::Jsonb(payload),
            Datum::Interval(timeout),
        ] = arguments
        else {
            return Err(null("an argument of freehold.call()").into());
        };
        if cx.transaction.read_only() {
            let message = "cannot execute freehold.call() in a read-only transaction";
            return Err(Error::new(state::READ_ONLY_SQL_TRANSACTION, message).into());
        }
        if cx.transaction.in_block() || cx.transaction.is_unattended() {
            let message = "freehold.call() cannot run inside a transaction block";
            return Err(Error::new(state::ACTIVE_SQL_TRANSACTION, message)
                .detail("It waits for a reply to what is sent when it commits.")
                .hint("INSERT into the inbox, and look at freehold.replies after the COMMIT.")
                .into());
        }
        let table = inbox_of(inbox, cx)?;
        let begun = cx.evaluation.statement_start;
        let which = cx.evaluation.environment.next_call();
        let process = cx.transaction.process();
        let key = (process, begun, which, table.id, payload.to_string());
        let engine = Arc::clone(cx.transaction.engine());
        let known = engine.calls().0.lock().get(&key).cloned();
        let Some(calling) = known else {
            let calling = begin(&table, payload, timeout, cx)?;
            let now = engine.clock().unix_micros();
            let mut calls = engine.calls().0.lock();
            calls.retain(|(process, of, ..), calling| {
                let over = *process == key.0 && *of != key.1;
                !over && calling.until.saturating_add(FORGET_AFTER) > now
            });
            calls.insert(key, calling.clone());
            // Sent once more it would be another command.
            cx.transaction.act();
            return Err(Stop::Wait(Wait::Signal(calling.entry)));
        };
        let answer = match &calling.answer {
            Some(answer) => answer.clone(),
            None => {
                let answer = look(&calling, cx);
                if !matches!(answer, Err(Stop::Wait(_))) {
                    engine.forget_reply(calling.from, calling.to, calling.number);
                }
                if let Err(Stop::Error(_)) = answer {
                    engine.calls().0.lock().remove(&key);
                }
                let answer = answer?;
                if let Some(kept) = engine.calls().0.lock().get_mut(&key) {
                    kept.answer = Some(answer.clone());
                }
                answer
            }
        };
        let reply = json::parse(&answer)?;
        Ok(Box::new(One::new(Datum::jsonb(reply))))
    }
}

/// The inbox of a name, into which the role may send.
fn inbox_of(name: &str, cx: &ExecCx<'_>) -> crate::Result<Arc<Table>> {
    let parts = split_identifiers(name);
    let parts = parts.ok_or_else(|| Error::new(state::INVALID_NAME, "invalid name syntax"))?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let table = cx.catalog.resolve_table(&parts, cx.path, cx.role)?;
    if !table.is_inbox() {
        let message = format!("\"{}\" is not an inbox", table.name);
        return Err(Error::new(state::WRONG_OBJECT_TYPE, message));
    }
    cx.catalog.may(cx.role, &table, Privilege::Insert, None)?;
    Ok(table)
}

/// Sends the command, in a transaction of its own.
fn begin(
    table: &Arc<Table>,
    payload: &Json,
    timeout: &Interval,
    cx: &mut ExecCx<'_>,
) -> Result<Calling, Stop> {
    let engine = Arc::clone(cx.transaction.engine());
    let from = engine.owner_group(cx.role)?;
    let mut own = Transaction::new(&engine, Isolation::ReadCommitted, false, false);
    own.set_hops(cx.transaction.hops());
    own.begin_statement(None, &[], Some(from))?;
    std::mem::swap(cx.transaction, &mut own);
    let sent = command(table, payload, cx);
    std::mem::swap(cx.transaction, &mut own);
    sent?;
    let setting = |name| cx.evaluation.environment.setting(name).unwrap_or_default();
    let identity = Identity {
        role: cx.role,
        login: cx.catalog.role_name(cx.login),
        application_name: setting("application_name"),
        trace: setting("freehold.traceparent"),
    };
    let placed = own.place_sent(&identity.trace)?;
    let (Some(commands), Some((_, position))) =
        (placed.first().copied(), own.commit(&identity)?.entry)
    else {
        return Err(Error::internal("a call sends nothing").into());
    };
    let (to, number) = (commands.to, commands.last);
    let days = i64::from(timeout.months) * 30 + i64::from(timeout.days);
    let wait = days
        .saturating_mul(DAY)
        .saturating_add(timeout.microseconds)
        .min(DAY);
    let now = engine.clock().unix_micros();
    Ok(Calling {
        from,
        to,
        number,
        entry: entry(&engine, from, position),
        until: now.saturating_add(u64::try_from(wait).unwrap_or(0)),
        answer: None,
    })
}

fn entry(engine: &crate::engine::Engine, group: GroupId, position: Position) -> Signal {
    let signal = Signal::default();
    match engine.groups().get(group) {
        None => signal.finish(Outcome::Unknown),
        Some(held) => {
            let done = signal.clone();
            held.when(position, Box::new(move |outcome| done.finish(outcome)));
        }
    }
    signal
}

/// The row that an object says, by column names.
fn command(table: &Arc<Table>, payload: &Json, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
    let Json::Object(fields) = payload else {
        let message = "the payload of freehold.call() must be a JSON object";
        return Err(Error::new(state::INVALID_PARAMETER_VALUE, message).into());
    };
    let mut row: Row = vec![Datum::Null; table.columns.len()];
    let mut given = vec![false; table.columns.len()];
    for (name, value) in fields {
        let filled = [SENDER, NUMBER].contains(&&**name);
        let slot = table
            .columns
            .iter()
            .position(|c| !c.dropped && *c.name == **name);
        let Some(slot) = slot.filter(|_| !filled) else {
            let message = format!(
                "column \"{name}\" of inbox \"{}\" can't be given",
                table.name
            );
            return Err(Error::new(state::UNDEFINED_COLUMN, message).into());
        };
        let ty = table.columns[slot].ty;
        row[slot] = from_json(value, ty, cx.evaluation.format)?;
        given[slot] = true;
    }
    let writer = crate::plan::writer(cx.catalog, table.id)?;
    writer.fill(&mut row, &given, cx)?;
    super::send(&writer, &mut row, cx)
}

/// The reply, once it has come.
fn look(calling: &Calling, cx: &ExecCx<'_>) -> Result<String, Stop> {
    let engine = cx.transaction.engine();
    let now = engine.clock().unix_micros();
    match calling.entry.outcome() {
        Some(Outcome::Applied) => {}
        None => return Err(Stop::Wait(Wait::Signal(calling.entry.clone()))),
        Some(Outcome::Lost) => return Err(crate::transaction::leader_changed().into()),
        Some(Outcome::Unknown) => {
            let message = "it is not known whether the command was sent";
            return Err(Error::new(state::TRANSACTION_RESOLUTION_UNKNOWN, message)
                .hint("Look at freehold.outbox and freehold.replies.")
                .into());
        }
    }
    let Calling {
        from, to, number, ..
    } = *calling;
    let (first, last) = (number, number);
    let verdict = engine.verdict(from, Commands { to, first, last })?;
    let signal = match verdict {
        Verdict::Rejected(error) => return Err(error.into()),
        Verdict::Awaited(signal) => signal,
        Verdict::Accepted => match engine.reply(from, to, number)? {
            Ok(reply) => return Ok(reply),
            Err(signal) => signal,
        },
    };
    if now >= calling.until {
        let message = "the reply has not come in time";
        return Err(Error::new(state::QUERY_CANCELED, message)
            .detail(format!(
                "The command has the number {number}, and stays sent."
            ))
            .hint("When the reply comes, it is in freehold.replies.")
            .into());
    }
    let look = now.saturating_add(LOOK_AGAIN).min(calling.until);
    Err(Stop::Wait(Wait::SignalOr(signal, look)))
}

struct Reply([Argument; 3]);

impl SystemFunction for Reply {
    fn name(&self) -> (&str, &str) {
        ("freehold", "reply")
    }

    fn arguments(&self) -> &[Argument] {
        &self.0
    }

    fn writes(&self) -> bool {
        true
    }

    fn columns(&self) -> &[SystemColumn] {
        const COLUMNS: &[SystemColumn] = &[SystemColumn {
            name: "number",
            ty: Type::INT8,
            not_null: true,
        }];
        COLUMNS
    }

    fn open(&self, arguments: &[Datum], cx: &mut ExecCx<'_>) -> Result<Box<dyn RowSource>, Stop> {
        let [
            Datum::Text(sender),
            Datum::Int8(number),
            Datum::Jsonb(payload),
        ] = arguments
        else {
            return Err(null("an argument of freehold.reply()").into());
        };
        let home = cx.transaction.engine().owner_group(cx.role)?;
        let role = cx.catalog.find_role(sender)?.id;
        let to = cx.catalog.group_of(role);
        let mark = cx.transaction.statement_mark();
        let sent = match to {
            Some(to) => reply(home, to, *number, payload, cx.transaction),
            None => Ok(false),
        };
        if !matches!(sent, Ok(true)) {
            cx.transaction.undo_to(&mark, Locks::Keep)?;
        }
        cx.transaction.unmark();
        if !sent? {
            let message = format!("\"{sender}\" has sent no command with the number {number}");
            return Err(Error::new(state::INVALID_PARAMETER_VALUE, message).into());
        }
        Ok(Box::new(One::new(Datum::Int8(*number))))
    }
}

fn reply(
    home: GroupId,
    to: GroupId,
    number: i64,
    payload: &Json,
    tx: &mut Transaction,
) -> Result<bool, Stop> {
    tx.writes_to(home)?;
    let taken = super::take::read_taken(home, to, tx)?;
    let number = u64::try_from(number).unwrap_or(0);
    if number == 0 || number > taken {
        return Ok(false);
    }
    let payload = payload.to_string();
    tx.send(home, to, Sent::Reply { number, payload })?;
    Ok(true)
}

fn null(what: &str) -> Error {
    Error::new(
        state::NULL_VALUE_NOT_ALLOWED,
        format!("{what} must not be null"),
    )
}
