//! Users' functions, DO blocks and row triggers: PL/pgSQL (and functions of plain SQL), as in
//! PostgreSQL 15, chapter 43.
//!
//! 1. `lex` cuts a body into tokens, `parse` and `statements` make its tree; variables are slots,
//!    and pieces of SQL are parsed by the parser of all statements.
//! 2. `compile` does that once for each function, table and version of the catalog.
//! 3. `run` walks the tree. SQL is planned when it first runs (`query`), its variables being the
//!    parameters of the plan, and runs by the ordinary operators inside the client's statement
//!    (`nested`): with its snapshot, its locks, its role.
//!
//! What must wait stops the whole statement ([`Stop::Wait`]), which runs again from its start; no
//! EXCEPTION block sees it. So whatever a function does beside its transaction is kept back until
//! the statement is over (notices, `set_config`), or done once however often it runs (sequences
//! may skip numbers).

mod compile;
mod conditions;
mod frame;
mod lex;
mod nested;
mod parse;
mod query;
mod raise;
mod run;
mod statements;
mod tree;
mod trigger;

use std::sync::Arc;

use frame::{Frame, coerce};
use run::Flow;
use tree::{Code, Returns};

use crate::bind::too_deep;
use crate::catalog::{Language, Routine, Volatility};
use crate::exec::ExecCx;
use crate::transaction::Stop;
use crate::types::Datum;
use crate::{Error, Result, state};

pub use compile::check;
pub use trigger::{Fired, Firing, Operation, RowTrigger, fire};

/// How deep functions may call one another, triggers included.
const DEPTH_MAX: u32 = 400;

/// The functions that are being called.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calls {
    depth: u32,
    /// One of them has promised to write nothing.
    only_reads: bool,
    /// Equal for equal meanings of literals (`Effective::format_key`).
    format: u64,
}

impl Calls {
    /// None yet, in a session with these settings.
    pub fn new(format: u64) -> Calls {
        Calls {
            format,
            ..Calls::default()
        }
    }

    fn may_write(self) -> bool {
        !self.only_reads
    }
}

/// Calls a function.
///
/// # Errors
/// What it raises; 54001 when functions call one another too deeply.
pub fn call(
    routine: &Arc<Routine>,
    arguments: Vec<Datum>,
    cx: &mut ExecCx<'_>,
) -> std::result::Result<Datum, Stop> {
    if routine.strict && arguments.iter().any(Datum::is_null) {
        return Ok(Datum::Null);
    }
    let code = compile::of_routine(routine, None, cx)?;
    let only_reads = routine.volatility != Volatility::Volatile;
    let mut frame = Frame::new(&code, arguments);
    deeper(only_reads, cx, |cx| {
        let flow = run::run(&mut frame, cx)?;
        result(&code, &mut frame, flow, cx).map_err(|stop| located(&frame, stop))
    })
}

/// Runs a DO block.
///
/// # Errors
/// What it raises; 42704 for another language.
pub fn run_block(
    block: &crate::parse::Block,
    cx: &mut ExecCx<'_>,
) -> std::result::Result<(), Stop> {
    let code = compile::of_block(block, cx)?;
    let mut frame = Frame::new(&code, Vec::new());
    deeper(false, cx, |cx| run::run(&mut frame, cx)).map(drop)
}

/// Runs one call more deeply.
fn deeper<R>(
    only_reads: bool,
    cx: &mut ExecCx<'_>,
    run: impl FnOnce(&mut ExecCx<'_>) -> std::result::Result<R, Stop>,
) -> std::result::Result<R, Stop> {
    let before = cx.calls;
    if before.depth >= DEPTH_MAX {
        return Err(too_deep().into());
    }
    cx.tick()?;
    cx.calls.depth += 1;
    cx.calls.only_reads |= only_reads;
    let locals = std::mem::take(&mut cx.locals);
    let result = crate::expr::deep(|| run(cx));
    cx.locals = locals;
    cx.calls = before;
    result
}

/// What a function gives back.
fn result(
    code: &Code,
    frame: &mut Frame<'_>,
    flow: Flow,
    cx: &mut ExecCx<'_>,
) -> std::result::Result<Datum, Stop> {
    match (code.returns, flow) {
        (Returns::Nothing, _) if code.language == Language::Sql => Ok(Datum::Null),
        (Returns::Nothing, _) => Ok(Datum::Void),
        (Returns::Value(to), Flow::Return(value, from)) => {
            frame.at = (0, "while casting return value to function's return type");
            Ok(coerce(value, from, to, cx)?)
        }
        (Returns::Row, Flow::Return(value, _)) => Ok(value),
        _ => {
            frame.at = (0, "");
            let message = match code.returns {
                Returns::Row => "control reached end of trigger procedure without RETURN",
                _ => "control reached end of function without RETURN",
            };
            Err(Error::new(state::NO_RETURN_STATEMENT, message).into())
        }
    }
}

fn located(frame: &Frame<'_>, stop: Stop) -> Stop {
    match stop {
        Stop::Error(error) => Stop::Error(frame.located(error)),
        other => other,
    }
}

/// 42704.
fn no_language(name: &str) -> Error {
    let message = format!("language \"{name}\" does not exist");
    Error::new(state::UNDEFINED_OBJECT, message)
}

/// The language of a DO block or function by its name.
///
/// # Errors
/// 42704; 0A000 for those of the server's own.
pub fn language(name: &str) -> Result<crate::catalog::Language> {
    match name.to_ascii_lowercase().as_str() {
        "plpgsql" => Ok(crate::catalog::Language::Plpgsql),
        "sql" => Ok(crate::catalog::Language::Sql),
        "c" | "internal" => Err(Error::unsupported(format!("language {name}"))),
        _ => Err(no_language(name)),
    }
}
