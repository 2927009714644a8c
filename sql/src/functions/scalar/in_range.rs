//! The `in_range` support functions behind `RANGE` frames with an offset: whether a value is within
//! base plus or minus offset.

use std::cmp::Ordering;

use super::arguments as arg;
use crate::error::{Error, Result, SqlState};
use crate::functions::{Evaluation, ScalarFunction};
use crate::types::datetime::{self, compute};
use crate::types::order::{compare, compare_f64};
use crate::types::{Datum, Interval, Numeric};

fn invalid_size() -> Error {
    Error::new(
        SqlState(*b"22013"),
        "invalid preceding or following size in window function",
    )
}

/// The last two arguments: subtract the offset, and whether the value must be below the sum.
fn direction(a: &[Datum]) -> Result<(bool, bool)> {
    Ok((arg::boolean(a, 3)?, arg::boolean(a, 4)?))
}

fn answer(order: Ordering, less: bool) -> Result<Datum> {
    Ok(Datum::Bool(if less {
        order.is_le()
    } else {
        order.is_ge()
    }))
}

fn integers(_: &mut Evaluation<'_>, a: &[Datum]) -> Result<Datum> {
    let part = |index: usize| {
        a[index]
            .as_i64()
            .map(i128::from)
            .ok_or_else(|| Error::internal("in_range of no integer"))
    };
    let (value, base, offset) = (part(0)?, part(1)?, part(2)?);
    if offset < 0 {
        return Err(invalid_size());
    }
    let (sub, less) = direction(a)?;
    let sum = if sub { base - offset } else { base + offset };
    answer(value.cmp(&sum), less)
}

fn floats(_: &mut Evaluation<'_>, a: &[Datum]) -> Result<Datum> {
    let part = |index: usize| match &a[index] {
        Datum::Float4(value) => Ok(f64::from(*value)),
        Datum::Float8(value) => Ok(*value),
        _ => Err(Error::internal("in_range of no float")),
    };
    let (value, base, offset) = (part(0)?, part(1)?, part(2)?);
    if offset.is_nan() || offset < 0.0 {
        return Err(invalid_size());
    }
    let (sub, less) = direction(a)?;
    // NaN is in range of NaN only.
    if value.is_nan() || base.is_nan() {
        return answer(compare_f64(value, base), less);
    }
    // An infinite base less an infinite offset reaches everything.
    let opposite = if sub {
        base == f64::INFINITY
    } else {
        base == f64::NEG_INFINITY
    };
    if offset.is_infinite() && opposite {
        return Ok(Datum::Bool(true));
    }
    let sum = if sub { base - offset } else { base + offset };
    answer(compare_f64(value, sum), less)
}

fn numerics(_: &mut Evaluation<'_>, a: &[Datum]) -> Result<Datum> {
    let (value, base, offset) = (
        arg::numeric(a, 0)?,
        arg::numeric(a, 1)?,
        arg::numeric(a, 2)?,
    );
    if offset.is_nan() || offset.is_negative() {
        return Err(invalid_size());
    }
    let (sub, less) = direction(a)?;
    if value.is_nan() || base.is_nan() {
        return answer(value.cmp(base), less);
    }
    let sum: Numeric = if sub {
        base.sub(offset)?
    } else {
        base.add(offset)?
    };
    if sum.is_nan() {
        return Ok(Datum::Bool(true));
    }
    answer(value.cmp(&sum), less)
}

fn offset_of(a: &[Datum], sub: bool) -> Result<Interval> {
    let offset = arg::interval(a, 2)?;
    if offset.signum() < 0 {
        return Err(invalid_size());
    }
    if sub {
        offset
            .checked_neg()
            .ok_or_else(datetime::interval_out_of_range)
    } else {
        Ok(offset)
    }
}

fn instants(e: &mut Evaluation<'_>, a: &[Datum]) -> Result<Datum> {
    let (sub, less) = direction(a)?;
    let offset = offset_of(a, sub)?;
    let us = |value: &Datum| match value {
        Datum::Date(days) => datetime::date_to_timestamp(*days),
        Datum::Timestamp(us) | Datum::Timestamptz(us) => Ok(*us),
        _ => Err(Error::internal("in_range of no timestamp")),
    };
    let (value, base) = (us(&a[0])?, us(&a[1])?);
    let sum = match &a[1] {
        Datum::Timestamptz(_) => compute::timestamptz_plus(base, &offset, &e.format.zone)?,
        _ => compute::timestamp_plus(base, &offset)?,
    };
    answer(value.cmp(&sum), less)
}

fn intervals(_: &mut Evaluation<'_>, a: &[Datum]) -> Result<Datum> {
    let (sub, less) = direction(a)?;
    let sum = arg::interval(a, 1)?
        .checked_add(offset_of(a, sub)?)
        .ok_or_else(datetime::interval_out_of_range)?;
    answer(arg::interval(a, 0)?.cmp(&sum), less)
}

/// Times of day do not wrap around here.
fn times(_: &mut Evaluation<'_>, a: &[Datum]) -> Result<Datum> {
    let (sub, less) = direction(a)?;
    let shift = offset_of(a, sub)?.microseconds;
    let order = match (&a[0], &a[1]) {
        (Datum::Time(value), Datum::Time(base)) => value.cmp(&base.saturating_add(shift)),
        (value @ Datum::Timetz(..), Datum::Timetz(base, west)) => {
            compare(value, &Datum::Timetz(base.saturating_add(shift), *west))
        }
        _ => return Err(Error::internal("in_range of no time")),
    };
    answer(order, less)
}

/// The support functions.
pub(super) const TABLE: &[(&str, ScalarFunction)] = &[
    ("in_range_int2_int2", |e, _, a| integers(e, a)),
    ("in_range_int2_int4", |e, _, a| integers(e, a)),
    ("in_range_int2_int8", |e, _, a| integers(e, a)),
    ("in_range_int4_int2", |e, _, a| integers(e, a)),
    ("in_range_int4_int4", |e, _, a| integers(e, a)),
    ("in_range_int4_int8", |e, _, a| integers(e, a)),
    ("in_range_int8_int8", |e, _, a| integers(e, a)),
    ("in_range_float4_float8", |e, _, a| floats(e, a)),
    ("in_range_float8_float8", |e, _, a| floats(e, a)),
    ("in_range_numeric_numeric", |e, _, a| numerics(e, a)),
    ("in_range_date_interval", |e, _, a| instants(e, a)),
    ("in_range_timestamp_interval", |e, _, a| instants(e, a)),
    ("in_range_timestamptz_interval", |e, _, a| instants(e, a)),
    ("in_range_interval_interval", |e, _, a| intervals(e, a)),
    ("in_range_time_interval", |e, _, a| times(e, a)),
    ("in_range_timetz_interval", |e, _, a| times(e, a)),
];
