//! Comparison: the functions behind `=`, `<>`, `<`, `<=`, `>`, `>=`, the btree support functions,
//! and the larger or smaller of two.

use std::cmp::Ordering;

use super::arguments as arg;
use crate::error::Result;
use crate::functions::{Evaluation, ScalarFunction};
use crate::types::datetime::{self, DAY_US};
use crate::types::order::{compare, compare_as};
use crate::types::{Datum, FormatSettings, Type};

macro_rules! by_operator {
    ($operator:expr, $compare:expr) => {
        match $operator {
            "=" => Some(|_, _, a| Ok(Datum::Bool($compare(a).is_eq()))),
            "<>" => Some(|_, _, a| Ok(Datum::Bool($compare(a).is_ne()))),
            "<" => Some(|_, _, a| Ok(Datum::Bool($compare(a).is_lt()))),
            "<=" => Some(|_, _, a| Ok(Datum::Bool($compare(a).is_le()))),
            ">" => Some(|_, _, a| Ok(Datum::Bool($compare(a).is_gt()))),
            ">=" => Some(|_, _, a| Ok(Datum::Bool($compare(a).is_ge()))),
            _ => None,
        }
    };
}

#[inline]
fn plain(a: &[Datum]) -> Ordering {
    compare(&a[0], &a[1])
}

fn blanks(a: &[Datum]) -> Ordering {
    compare_as(Type::BPCHAR, &a[0], &a[1])
}

/// The function behind a comparison operator over these operand types; `None` for operators that
/// are not one of the six, or for mixed date types (see [`mixed_by_source`]).
pub(super) fn by_operator(operator: &str, left: u32, right: u32) -> Option<ScalarFunction> {
    use crate::types::kind::oid;
    let mixed = left != right
        && [left, right]
            .iter()
            .any(|kind| matches!(*kind, oid::DATE | oid::TIMESTAMP | oid::TIMESTAMPTZ));
    if mixed {
        return None;
    }
    if left == oid::BPCHAR && right == oid::BPCHAR {
        return by_operator!(operator, blanks);
    }
    by_operator!(operator, plain)
}

fn larger(a: &[Datum]) -> Datum {
    if compare(&a[0], &a[1]).is_ge() {
        a[0].clone()
    } else {
        a[1].clone()
    }
}

fn smaller(a: &[Datum]) -> Datum {
    if compare(&a[0], &a[1]).is_le() {
        a[0].clone()
    } else {
        a[1].clone()
    }
}

/// `text_larger`, `int4smaller`, `btint4cmp`, `numeric_cmp` and their kin.
pub(super) fn by_suffix(source: &str) -> Option<ScalarFunction> {
    if source.ends_with("larger") {
        return Some(|_, _, a| Ok(larger(a)));
    }
    if source.ends_with("smaller") {
        return Some(|_, _, a| Ok(smaller(a)));
    }
    if source == "bpcharcmp" {
        return Some(|_, _, a| Ok(Datum::Int4(blanks(a) as i32)));
    }
    let is_cmp = source.ends_with("cmp") && !source.contains("pattern");
    is_cmp.then_some(|_, _, a| Ok(Datum::Int4(plain(a) as i32)))
}

/// A date against a timestamp: beyond the timestamps' range dates still compare rightly.
fn date_timestamp(date: i32, timestamp: i64) -> Ordering {
    match date {
        datetime::DATE_INFINITY => i64::MAX.cmp(&timestamp),
        datetime::DATE_NEGATIVE_INFINITY => i64::MIN.cmp(&timestamp),
        _ if timestamp == i64::MAX => Ordering::Less,
        _ if timestamp == i64::MIN => Ordering::Greater,
        date => (i128::from(date) * i128::from(DAY_US)).cmp(&i128::from(timestamp)),
    }
}

/// A local time against an instant, in the session's zone.
fn local_instant(local: i64, instant: i64, format: &FormatSettings) -> Ordering {
    match datetime::from_local(local, format) {
        Ok(own) => own.cmp(&instant),
        Err(_) if local < 0 => Ordering::Less,
        Err(_) => Ordering::Greater,
    }
}

fn date_instant(date: i32, instant: i64, format: &FormatSettings) -> Ordering {
    match datetime::date_to_timestamp(date) {
        Ok(local) => local_instant(local, instant, format),
        Err(_) => date_timestamp(date, instant),
    }
}

fn mixed(e: &Evaluation<'_>, a: &[Datum]) -> Result<Ordering> {
    Ok(match (&a[0], &a[1]) {
        (Datum::Date(x), Datum::Timestamp(y)) => date_timestamp(*x, *y),
        (Datum::Timestamp(x), Datum::Date(y)) => date_timestamp(*y, *x).reverse(),
        (Datum::Date(x), Datum::Timestamptz(y)) => date_instant(*x, *y, e.format),
        (Datum::Timestamptz(x), Datum::Date(y)) => date_instant(*y, *x, e.format).reverse(),
        (Datum::Timestamp(x), Datum::Timestamptz(y)) => local_instant(*x, *y, e.format),
        (Datum::Timestamptz(x), Datum::Timestamp(y)) => local_instant(*y, *x, e.format).reverse(),
        _ => {
            // Not reached with resolved types; says which argument is wrong.
            arg::date(a, 0)?;
            Ordering::Equal
        }
    })
}

/// The comparison of mixed date and time types by source name: `date_lt_timestamptz`, ...
pub(super) fn mixed_by_source(source: &str) -> Option<ScalarFunction> {
    const TYPES: [&str; 3] = ["date", "timestamp", "timestamptz"];
    let (left, rest) = source.split_once('_')?;
    let (operator, right) = rest.split_once('_')?;
    if !TYPES.contains(&left) || !TYPES.contains(&right) || left == right {
        return None;
    }
    match operator {
        "eq" => Some(|e, _, a| Ok(Datum::Bool(mixed(e, a)?.is_eq()))),
        "ne" => Some(|e, _, a| Ok(Datum::Bool(mixed(e, a)?.is_ne()))),
        "lt" => Some(|e, _, a| Ok(Datum::Bool(mixed(e, a)?.is_lt()))),
        "le" => Some(|e, _, a| Ok(Datum::Bool(mixed(e, a)?.is_le()))),
        "gt" => Some(|e, _, a| Ok(Datum::Bool(mixed(e, a)?.is_gt()))),
        "ge" => Some(|e, _, a| Ok(Datum::Bool(mixed(e, a)?.is_ge()))),
        "cmp" => Some(|e, _, a| Ok(Datum::Int4(mixed(e, a)? as i32))),
        _ => None,
    }
}
