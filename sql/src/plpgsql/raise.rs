//! RAISE, ASSERT and GET DIAGNOSTICS.

use super::conditions::{self, Condition};
use super::frame::Frame;
use super::query::Query;
use super::tree::{Item, Level, Raise, RaiseOption, Target};
use crate::exec::ExecCx;
use crate::transaction::Stop;
use crate::types::{Datum, Type};
use crate::{Error, Result, SqlState, state};

type Done<T> = std::result::Result<T, Stop>;

/// What an error or notice says, as it is put together.
#[derive(Default)]
struct Said {
    state: Option<SqlState>,
    /// The name of the condition, which is the message if there is none.
    condition: Option<String>,
    message: Option<String>,
    detail: Option<String>,
    hint: Option<String>,
    column: Option<String>,
    constraint: Option<String>,
    datatype: Option<String>,
    table: Option<String>,
    schema: Option<String>,
}

/// RAISE: a notice to the client, or an error.
///
/// # Errors
/// The error that it raises; 42601 for what makes no sense.
pub(super) fn raise(raise: &Raise, frame: &mut Frame<'_>, cx: &mut ExecCx<'_>) -> Done<()> {
    let Some(level) = raise.level else {
        return Err(match frame.caught.last() {
            Some(error) => thrown_again(error.clone(), frame),
            None => Error::new(
                state::NO_ACTIVE_HANDLER,
                "RAISE without parameters cannot be used outside an exception handler",
            ),
        }
        .into());
    };
    let mut said = Said {
        condition: raise.condition_text.clone(),
        state: raise.condition.and_then(code),
        ..Said::default()
    };
    if let Some(message) = &raise.message {
        said.message = Some(formatted(message, &raise.arguments, frame, cx)?);
    }
    for (option, query) in &raise.options {
        let Some(value) = frame.text(query, cx)? else {
            let message = "RAISE statement option cannot be null";
            return Err(Error::new(state::NULL_VALUE_NOT_ALLOWED, message).into());
        };
        said.set(*option, value)?;
    }
    let error = said.into_error(level);
    if level == Level::Exception {
        return Err(error.into());
    }
    let notice = frame.located(error);
    cx.evaluation.environment.raise(level.severity(), notice)?;
    Ok(())
}

/// The error as it was when it was caught: its CONTEXT gets this function's line anew.
fn thrown_again(mut error: Error, frame: &Frame<'_>) -> Error {
    let own = format!("PL/pgSQL function {} ", frame.code.name);
    if let Some(context) = &mut error.0.context {
        let kept: Vec<&str> = context.lines().collect();
        if let Some((last, rest)) = kept.split_last()
            && last.starts_with(&own)
        {
            error.0.context = (!rest.is_empty()).then(|| rest.join("\n"));
        }
    }
    error
}

fn code(condition: Condition) -> Option<SqlState> {
    match condition {
        Condition::State(state) => Some(state),
        Condition::Others => None,
    }
}

/// Puts the arguments in place of the percent signs.
fn formatted(
    message: &str,
    arguments: &[Query],
    frame: &mut Frame<'_>,
    cx: &mut ExecCx<'_>,
) -> Done<String> {
    let mut out = String::with_capacity(message.len());
    let mut arguments = arguments.iter();
    let mut characters = message.chars().peekable();
    while let Some(c) = characters.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if characters.next_if_eq(&'%').is_some() {
            out.push('%');
            continue;
        }
        let Some(query) = arguments.next() else {
            let message = "too few parameters specified for RAISE";
            return Err(Error::new(state::SYNTAX_ERROR, message).into());
        };
        match frame.text(query, cx)? {
            Some(text) => out.push_str(&text),
            None => out.push_str("<NULL>"),
        }
    }
    Ok(out)
}

impl Said {
    fn set(&mut self, option: RaiseOption, value: String) -> Result<()> {
        if option == RaiseOption::Errcode {
            if self.state.is_some() {
                return Err(twice(option));
            }
            let found = match conditions::parse(&value) {
                Some(state) => Some(state),
                None => conditions::named(&value)?.first().copied().and_then(code),
            };
            if conditions::parse(&value).is_none() {
                self.condition = Some(value);
            }
            self.state = found;
            return Ok(());
        }
        let place = match option {
            RaiseOption::Message => &mut self.message,
            RaiseOption::Detail => &mut self.detail,
            RaiseOption::Hint => &mut self.hint,
            RaiseOption::Column => &mut self.column,
            RaiseOption::Constraint => &mut self.constraint,
            RaiseOption::Datatype => &mut self.datatype,
            RaiseOption::Table => &mut self.table,
            RaiseOption::Schema | RaiseOption::Errcode => &mut self.schema,
        };
        match place.replace(value) {
            None => Ok(()),
            Some(_) => Err(twice(option)),
        }
    }

    fn into_error(self, level: Level) -> Error {
        let usual = match level {
            Level::Exception => state::RAISE_EXCEPTION,
            Level::Warning => state::WARNING,
            Level::Debug | Level::Log | Level::Info | Level::Notice => state::SUCCESSFUL_COMPLETION,
        };
        let state = self.state.unwrap_or(usual);
        let message = self.message.or(self.condition);
        let message = message.unwrap_or_else(|| state.as_str().to_owned());
        let mut error = Error::new(state, message);
        error.0.detail = self.detail;
        error.0.hint = self.hint;
        error.0.column = self.column;
        error.0.constraint = self.constraint;
        error.0.data_type = self.datatype;
        error.0.table = self.table;
        error.0.schema = self.schema;
        error
    }
}

fn twice(option: RaiseOption) -> Error {
    Error::new(
        state::SYNTAX_ERROR,
        format!("RAISE option already specified: {}", option.name()),
    )
}

/// ASSERT.
///
/// # Errors
/// P0004 if the condition is not true.
pub(super) fn assert(
    condition: &Query,
    message: Option<&Query>,
    frame: &mut Frame<'_>,
    cx: &mut ExecCx<'_>,
) -> Done<()> {
    if frame.truth(condition, cx)? {
        return Ok(());
    }
    let text = match message {
        Some(query) => frame.text(query, cx)?,
        None => None,
    };
    let text = text.unwrap_or_else(|| "assertion failed".to_owned());
    Err(Error::new(state::ASSERT_FAILURE, text).into())
}

/// GET [STACKED] DIAGNOSTICS.
///
/// # Errors
/// 0Z002 outside of a handler.
pub(super) fn diagnostics(
    stacked: bool,
    items: &[(Target, Item)],
    frame: &mut Frame<'_>,
    cx: &mut ExecCx<'_>,
) -> Done<()> {
    if stacked && frame.caught.is_empty() {
        let message = "GET STACKED DIAGNOSTICS cannot be used outside an exception handler";
        return Err(Error::new(state::NO_ACTIVE_HANDLER, message).into());
    }
    for (target, item) in items {
        let (value, ty) = match item {
            Item::RowCount => (
                Datum::Int8(i64::try_from(frame.rows).unwrap_or(i64::MAX)),
                Type::INT8,
            ),
            Item::Context => {
                let here = frame.located(Error::internal(""));
                (here.0.context.into(), Type::TEXT)
            }
            other => (stacked_item(*other, frame), Type::TEXT),
        };
        frame.assign_to(target, value, ty, cx)?;
    }
    Ok(())
}

fn stacked_item(item: Item, frame: &Frame<'_>) -> Datum {
    let Some(error) = frame.caught.last() else {
        return Datum::Null;
    };
    let report = &error.0;
    let text = match item {
        Item::State => Some(report.state.as_str()),
        Item::Message => Some(report.message.as_str()),
        Item::Detail => report.detail.as_deref(),
        Item::Hint => report.hint.as_deref(),
        Item::ErrorContext => report.context.as_deref(),
        Item::Column => report.column.as_deref(),
        Item::Constraint => report.constraint.as_deref(),
        Item::Datatype => report.data_type.as_deref(),
        Item::Table => report.table.as_deref(),
        Item::Schema => report.schema.as_deref(),
        Item::RowCount | Item::Context => None,
    };
    Datum::text(text.unwrap_or_default())
}
