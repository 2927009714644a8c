//! `to_char`, `to_date`, `to_timestamp`, `to_number`: Oracle's templates as PostgreSQL reads them
//! (formatting.c).

mod number;
mod parse_date;
mod template;
mod write_date;

use super::arguments as arg;
use crate::error::{Error, Result, state};
use crate::functions::{Evaluation, ScalarFunction};
use crate::types::datetime::{self, is_infinite};
use crate::types::{Datum, FormatSettings};

/// 22007, as templates and texts that do not fit are refused.
fn mismatch(message: impl Into<String>) -> Error {
    Error::new(state::INVALID_DATETIME_FORMAT, message)
}

/// The English ending of a number: `st`, `nd`, `rd`, `th`.
fn ordinal(number: &str) -> &'static str {
    let digits: Vec<u8> = number.bytes().filter(u8::is_ascii_digit).collect();
    let last = digits.last().copied().unwrap_or(b'0');
    let teen = digits.len() > 1 && digits[digits.len() - 2] == b'1';
    match (teen, last) {
        (false, b'1') => "st",
        (false, b'2') => "nd",
        (false, b'3') => "rd",
        _ => "th",
    }
}

fn timestamp(a: &[Datum], zone: Option<&FormatSettings>) -> Result<Datum> {
    let (us, local) = match &a[0] {
        Datum::Timestamp(us) => (*us, *us),
        Datum::Timestamptz(us) => (
            *us,
            zone.map_or(*us, |format| datetime::to_local(*us, format)),
        ),
        _ => return Err(Error::internal("to_char of another value")),
    };
    let pattern = arg::text(a, 1)?;
    if is_infinite(us) || pattern.is_empty() {
        return Ok(Datum::Null);
    }
    let zone = zone.map(|format| (format.zone.offset_at(us), format.zone.abbreviation_at(us)));
    let value = write_date::Value::of_timestamp(local, zone);
    write_date::write(&value, pattern).map(Datum::from)
}

fn parse(e: &Evaluation<'_>, a: &[Datum], as_date: bool) -> Result<Datum> {
    parse_date::parse(arg::text(a, 0)?, arg::text(a, 1)?, as_date, e.format)
}

/// The formatting functions.
pub(super) const TABLE: &[(&str, ScalarFunction)] = &[
    ("timestamp_to_char", |_, _, a| timestamp(a, None)),
    ("timestamptz_to_char", |e, _, a| {
        timestamp(a, Some(e.format))
    }),
    ("interval_to_char", |_, _, a| {
        let pattern = arg::text(a, 1)?;
        if pattern.is_empty() {
            return Ok(Datum::Null);
        }
        let value = write_date::Value::of_interval(&arg::interval(a, 0)?);
        write_date::write(&value, pattern).map(Datum::from)
    }),
    ("to_date", |e, _, a| parse(e, a, true)),
    ("to_timestamp", |e, _, a| parse(e, a, false)),
    ("numeric_to_char", |_, _, a| {
        number::numeric(arg::numeric(a, 0)?, arg::text(a, 1)?)
    }),
    ("int4_to_char", |_, _, a| {
        number::integer(i64::from(arg::int4(a, 0)?), arg::text(a, 1)?, "integer")
    }),
    ("int8_to_char", |_, _, a| {
        number::integer(arg::int8(a, 0)?, arg::text(a, 1)?, "bigint")
    }),
    ("float4_to_char", |_, _, a| {
        number::float(f64::from(arg::float4(a, 0)?), 6, arg::text(a, 1)?)
    }),
    ("float8_to_char", |_, _, a| {
        number::float(arg::float8(a, 0)?, 15, arg::text(a, 1)?)
    }),
    ("numeric_to_number", |_, _, a| {
        number::parse(arg::text(a, 0)?, arg::text(a, 1)?)
    }),
];
