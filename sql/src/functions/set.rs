//! Set-returning functions: series, array elements, parts of strings, matches.

use std::sync::Arc;

use crate::error::{Error, Result, state};
use crate::functions::scalar::{arg, regexp, string};
use crate::functions::{Evaluation, Resolved, SetFunction};
use crate::types::datetime::zone::{self, Abbreviation};
use crate::types::{Datum, FormatSettings, Interval, Numeric, Record, Shape, Zone};

/// The rows of a set-returning function: one value each, a record for several columns.
pub type Rows = Box<dyn Iterator<Item = Result<Datum>> + Send>;

/// The function behind a source name.
pub(super) fn by_source(source: &str) -> Option<SetFunction> {
    Some(match source {
        "generate_series_int4" | "generate_series_step_int4" => series_int4,
        "generate_series_int8" | "generate_series_step_int8" => series_int8,
        "generate_series_numeric" | "generate_series_step_numeric" => series_numeric,
        "generate_series_timestamp" => series_timestamp,
        "generate_series_timestamptz" => series_timestamptz,
        "array_unnest" => unnest,
        "generate_subscripts" | "generate_subscripts_nodir" => subscripts,
        "text_to_table" | "text_to_table_null" => text_to_table,
        "regexp_matches" | "regexp_matches_no_flags" => regexp_matches,
        "regexp_split_to_table" | "regexp_split_to_table_no_flags" => regexp_split,
        "_pg_expandarray" => expand_array,
        "pg_get_keywords" => keywords,
        "pg_timezone_abbrevs" => zone_abbreviations,
        "pg_timezone_names" => zone_names,
        "pg_options_to_table" => options,
        _ => return super::json::set_by_source(source),
    })
}

/// Rows that are all known.
pub(super) fn rows(values: Vec<Datum>) -> Result<Rows> {
    Ok(Box::new(values.into_iter().map(Ok)))
}

fn zero_step() -> Error {
    Error::new(
        state::INVALID_PARAMETER_VALUE,
        "step size cannot equal zero",
    )
}

/// Integers from a start by a step up to and including an end.
struct Series {
    next: Option<i64>,
    stop: i64,
    step: i64,
    /// Beyond it the series ends, as the type overflows.
    limits: (i64, i64),
}

impl Iterator for Series {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        let value = self.next?;
        let past = if self.step > 0 {
            value > self.stop
        } else {
            value < self.stop
        };
        if past {
            self.next = None;
            return None;
        }
        self.next = value
            .checked_add(self.step)
            .filter(|next| (self.limits.0..=self.limits.1).contains(next));
        Some(value)
    }
}

fn series_int4(_: &mut Evaluation<'_>, _: &Resolved, a: &[Datum]) -> Result<Rows> {
    let step = if a.len() > 2 { arg::int4(a, 2)? } else { 1 };
    if step == 0 {
        return Err(zero_step());
    }
    let series = Series {
        next: Some(i64::from(arg::int4(a, 0)?)),
        stop: i64::from(arg::int4(a, 1)?),
        step: i64::from(step),
        limits: (i64::from(i32::MIN), i64::from(i32::MAX)),
    };
    Ok(Box::new(series.map(|value| Ok(Datum::Int4(value as i32)))))
}

fn series_int8(_: &mut Evaluation<'_>, _: &Resolved, a: &[Datum]) -> Result<Rows> {
    let step = if a.len() > 2 { arg::int8(a, 2)? } else { 1 };
    if step == 0 {
        return Err(zero_step());
    }
    let series = Series {
        next: Some(arg::int8(a, 0)?),
        stop: arg::int8(a, 1)?,
        step,
        limits: (i64::MIN, i64::MAX),
    };
    Ok(Box::new(series.map(|value| Ok(Datum::Int8(value)))))
}

fn series_numeric(_: &mut Evaluation<'_>, _: &Resolved, a: &[Datum]) -> Result<Rows> {
    let step = if a.len() > 2 {
        arg::numeric(a, 2)?.clone()
    } else {
        Numeric::ONE
    };
    let (start, stop) = (arg::numeric(a, 0)?.clone(), arg::numeric(a, 1)?.clone());
    for (value, name) in [(&start, "start"), (&stop, "stop"), (&step, "step")] {
        if !value.is_finite() {
            let word = if value.is_nan() { "NaN" } else { "infinity" };
            let name = if name == "step" {
                "step size".to_owned()
            } else {
                format!("{name} value")
            };
            return Err(Error::new(
                state::INVALID_PARAMETER_VALUE,
                format!("{name} cannot be {word}"),
            ));
        }
    }
    if step.is_zero() {
        return Err(zero_step());
    }
    let down = step.is_negative();
    let mut next = Some(start);
    Ok(Box::new(std::iter::from_fn(move || {
        let value = next.take()?;
        if (down && value < stop) || (!down && value > stop) {
            return None;
        }
        match value.add(&step) {
            Ok(following) => next = Some(following),
            Err(error) => return Some(Err(error)),
        }
        Some(Ok(Datum::numeric(value)))
    })))
}

/// A series of timestamps; `add` puts the step on a timestamp.
fn series_of_times(
    start: i64,
    stop: i64,
    step: Interval,
    add: impl Fn(i64, &Interval) -> Result<i64> + Send + 'static,
    wrap: fn(i64) -> Datum,
) -> Result<Rows> {
    let direction = step.signum();
    if direction == 0 {
        return Err(zero_step());
    }
    let mut next = Some(start);
    Ok(Box::new(std::iter::from_fn(move || {
        let value = next.take()?;
        if (direction > 0 && value > stop) || (direction < 0 && value < stop) {
            return None;
        }
        match add(value, &step) {
            Ok(following) => next = Some(following),
            Err(error) => return Some(Err(error)),
        }
        Some(Ok(wrap(value)))
    })))
}

fn series_timestamp(_: &mut Evaluation<'_>, _: &Resolved, a: &[Datum]) -> Result<Rows> {
    series_of_times(
        arg::timestamp(a, 0)?,
        arg::timestamp(a, 1)?,
        arg::interval(a, 2)?,
        crate::types::datetime::compute::timestamp_plus,
        Datum::Timestamp,
    )
}

fn series_timestamptz(e: &mut Evaluation<'_>, _: &Resolved, a: &[Datum]) -> Result<Rows> {
    let format: Arc<FormatSettings> = Arc::new(e.format.clone());
    series_of_times(
        arg::timestamptz(a, 0)?,
        arg::timestamptz(a, 1)?,
        arg::interval(a, 2)?,
        move |us, step| crate::types::datetime::compute::timestamptz_plus(us, step, &format.zone),
        Datum::Timestamptz,
    )
}

fn unnest(_: &mut Evaluation<'_>, _: &Resolved, a: &[Datum]) -> Result<Rows> {
    let array = match a.first() {
        Some(Datum::Array(array)) => array.clone(),
        _ => return rows(Vec::new()),
    };
    Ok(Box::new(
        (0..array.len()).map(move |index| Ok(array.values[index].clone())),
    ))
}

fn subscripts(_: &mut Evaluation<'_>, _: &Resolved, a: &[Datum]) -> Result<Rows> {
    let array = arg::array(a, 0)?;
    let wanted = arg::int4(a, 1)?;
    let reverse = a.len() > 2 && arg::boolean(a, 2)?;
    let dimension = usize::try_from(wanted)
        .ok()
        .and_then(|wanted| wanted.checked_sub(1))
        .and_then(|index| array.dimensions.get(index).copied());
    let Some(dimension) = dimension else {
        return rows(Vec::new());
    };
    let range = dimension.lower..=dimension.upper();
    if reverse {
        Ok(Box::new(range.rev().map(|value| Ok(Datum::Int4(value)))))
    } else {
        Ok(Box::new(range.map(|value| Ok(Datum::Int4(value)))))
    }
}

fn text_at(a: &[Datum], index: usize) -> Option<&str> {
    a.get(index).and_then(Datum::as_str)
}

fn text_to_table(_: &mut Evaluation<'_>, _: &Resolved, a: &[Datum]) -> Result<Rows> {
    let Some(text) = text_at(a, 0) else {
        return rows(Vec::new());
    };
    let null = text_at(a, 2).map(str::to_owned);
    let parts = string::split_all(text, text_at(a, 1));
    rows(
        parts
            .into_iter()
            .map(|part| {
                if Some(&part) == null.as_ref() {
                    Datum::Null
                } else {
                    Datum::from(part)
                }
            })
            .collect(),
    )
}

fn regexp_matches(_: &mut Evaluation<'_>, _: &Resolved, a: &[Datum]) -> Result<Rows> {
    rows(regexp::all_groups(
        arg::text(a, 0)?,
        arg::text(a, 1)?,
        text_at(a, 2).unwrap_or(""),
    )?)
}

fn regexp_split(_: &mut Evaluation<'_>, _: &Resolved, a: &[Datum]) -> Result<Rows> {
    let parts = regexp::split(
        arg::text(a, 0)?,
        arg::text(a, 1)?,
        text_at(a, 2).unwrap_or(""),
    )?;
    rows(parts.into_iter().map(Datum::from).collect())
}

/// Rows of several columns, named as the function's OUT parameters.
fn records(call: &Resolved, values: Vec<Vec<Datum>>) -> Result<Rows> {
    let (names, types) = call
        .columns()
        .into_iter()
        .map(|(name, kind)| (Arc::from(name), kind))
        .unzip();
    let shape = Arc::new(Shape { names, types });
    rows(
        values
            .into_iter()
            .map(|row| Datum::Record(Arc::new(Record::new(shape.clone(), row))))
            .collect(),
    )
}

/// `information_schema._pg_expandarray`: elements with their positions from 1 on.
fn expand_array(_: &mut Evaluation<'_>, call: &Resolved, a: &[Datum]) -> Result<Rows> {
    let array = arg::array(a, 0)?;
    let row = |(index, value): (usize, &Datum)| vec![value.clone(), Datum::Int4(index as i32 + 1)];
    records(call, array.values.iter().enumerate().map(row).collect())
}

fn keywords(_: &mut Evaluation<'_>, call: &Resolved, _: &[Datum]) -> Result<Rows> {
    let row = |keyword: &crate::types::kind::Keyword| {
        vec![
            Datum::text(keyword.word),
            Datum::Char(keyword.category),
            Datum::Bool(keyword.bare_label),
            Datum::text(keyword.description),
            Datum::text(keyword.label_description),
        ]
    };
    records(
        call,
        crate::types::kind::keywords().iter().map(row).collect(),
    )
}

fn seconds(east: i64) -> Datum {
    Datum::Interval(Interval::new(0, 0, east * 1_000_000))
}

fn zone_abbreviations(e: &mut Evaluation<'_>, call: &Resolved, _: &[Datum]) -> Result<Rows> {
    let now = e.format.transaction_start;
    let row = |(name, meaning): (&'static str, Abbreviation)| {
        let (east, summer) = match meaning {
            Abbreviation::Fixed(east, summer) => (i64::from(east), summer),
            Abbreviation::Dynamic(zone) => {
                let zone = Zone::Named(zone);
                (zone.offset_at(now), zone.is_summer(now))
            }
        };
        vec![
            Datum::from(name.to_uppercase()),
            seconds(east),
            Datum::Bool(summer),
        ]
    };
    records(call, zone::abbreviations().into_iter().map(row).collect())
}

fn zone_names(e: &mut Evaluation<'_>, call: &Resolved, _: &[Datum]) -> Result<Rows> {
    let now = e.format.transaction_start;
    let row = |zone: Zone| {
        vec![
            Datum::text(zone.name()),
            Datum::from(zone.abbreviation_at(now)),
            seconds(zone.offset_at(now)),
            Datum::Bool(zone.is_summer(now)),
        ]
    };
    records(call, zone::named().map(row).collect())
}

/// `{name=value, ...}` as rows.
fn options(_: &mut Evaluation<'_>, call: &Resolved, a: &[Datum]) -> Result<Rows> {
    let array = arg::array(a, 0)?;
    let row = |option: &str| match option.split_once('=') {
        Some((name, value)) => vec![Datum::text(name), Datum::text(value)],
        None => vec![Datum::text(option), Datum::Null],
    };
    records(
        call,
        array
            .values
            .iter()
            .filter_map(Datum::as_str)
            .map(row)
            .collect(),
    )
}
