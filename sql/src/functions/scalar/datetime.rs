//! Functions and operators on dates, times and intervals.

use super::arguments as arg;
use crate::error::{Error, Result, state};
use crate::functions::{Evaluation, ScalarFunction};
use crate::types::datetime::compute::{self, bad_unit};
use crate::types::datetime::tokens::{Unit, extract_unit};
use crate::types::datetime::{
    self, DATE_INFINITY, DATE_NEGATIVE_INFINITY, DAY_US, Fields, MINUTE_US, SECOND_US, UNIX_US,
    date_of, date_out_of_range, date_to_timestamp, days_in_month, interval_out_of_range,
    is_infinite, is_valid_date, is_valid_timestamp, split_time, split_timestamp,
    timestamp_out_of_range, timestamp_to_date,
};
use crate::types::kind::oid;
use crate::types::{Datum, FormatSettings, Interval, Numeric, Type, Zone, typmod};

fn date(days: i64) -> Result<Datum> {
    i32::try_from(days)
        .ok()
        .filter(|days| is_valid_date(*days))
        .map(Datum::Date)
        .ok_or_else(date_out_of_range)
}

fn infinite_date(days: i32) -> bool {
    days == DATE_INFINITY || days == DATE_NEGATIVE_INFINITY
}

fn span(value: Option<Interval>) -> Result<Datum> {
    value.map(Datum::Interval).ok_or_else(interval_out_of_range)
}

fn negated(span: Interval) -> Result<Interval> {
    span.checked_neg().ok_or_else(interval_out_of_range)
}

fn plus(us: i64, span: &Interval) -> Result<Datum> {
    compute::timestamp_plus(us, span).map(Datum::Timestamp)
}

fn plus_tz(e: &Evaluation<'_>, us: i64, span: &Interval) -> Result<Datum> {
    compute::timestamptz_plus(us, span, &e.format.zone).map(Datum::Timestamptz)
}

/// Time of day, wrapped around midnight.
fn wrap(us: i64) -> i64 {
    us.rem_euclid(DAY_US)
}

fn time_plus(time: i64, span: &Interval) -> i64 {
    wrap(time + span.microseconds % DAY_US)
}

fn date_minus(a: i32, b: i32) -> Result<Datum> {
    if infinite_date(a) || infinite_date(b) {
        return Err(Error::new(
            state::DATETIME_FIELD_OVERFLOW,
            "cannot subtract infinite dates",
        ));
    }
    Ok(Datum::Int4(a.wrapping_sub(b)))
}

fn date_plus(days: i32, by: i64) -> Result<Datum> {
    if infinite_date(days) {
        Ok(Datum::Date(days))
    } else {
        date(i64::from(days) + by)
    }
}

fn zone_of(name: &str) -> Result<Zone> {
    let lower = name.to_ascii_lowercase();
    let unknown = || {
        Error::new(
            state::INVALID_PARAMETER_VALUE,
            format!("time zone \"{name}\" not recognized"),
        )
    };
    match datetime::zone::abbreviation(&lower) {
        Some(datetime::zone::Abbreviation::Fixed(east, _)) => Ok(Zone::fixed_east(east)),
        Some(datetime::zone::Abbreviation::Dynamic(zone)) => Ok(Zone::Named(zone)),
        None => Zone::by_name(name).ok_or_else(unknown),
    }
}

/// The zone of an interval of hours and minutes.
fn zone_of_interval(span: &Interval) -> Result<Zone> {
    if span.months != 0 || span.days != 0 {
        let mut text = Vec::new();
        datetime::write_interval(span, crate::types::IntervalStyle::Postgres, &mut text);
        return Err(Error::new(
            state::INVALID_PARAMETER_VALUE,
            format!(
                "interval time zone \"{}\" must not include months or days",
                String::from_utf8_lossy(&text)
            ),
        ));
    }
    Ok(Zone::fixed_east((span.microseconds / SECOND_US) as i32))
}

fn to_zone(us: i64, zone: &Zone) -> Result<Datum> {
    if is_infinite(us) {
        return Ok(Datum::Timestamp(us));
    }
    let local = us + zone.offset_at(us) * SECOND_US;
    is_valid_timestamp(local)
        .then_some(Datum::Timestamp(local))
        .ok_or_else(timestamp_out_of_range)
}

fn from_zone(us: i64, zone: &Zone) -> Result<Datum> {
    if is_infinite(us) {
        return Ok(Datum::Timestamptz(us));
    }
    let instant = us - zone.offset_of_local(us) * SECOND_US;
    is_valid_timestamp(instant)
        .then_some(Datum::Timestamptz(instant))
        .ok_or_else(timestamp_out_of_range)
}

fn timetz_in_zone(e: &Evaluation<'_>, time: (i64, i32), zone: &Zone) -> Datum {
    let west = -zone.offset_at(e.format.transaction_start) as i32;
    let moved = wrap(time.0 + i64::from(time.1 - west) * SECOND_US);
    Datum::Timetz(moved, west)
}

/// What `extract` and `date_part` give for infinities: infinity for growing fields, else NULL.
fn infinite_field(unit: Unit, negative: bool) -> Option<Numeric> {
    match unit {
        Unit::Year
        | Unit::Decade
        | Unit::Century
        | Unit::Millennium
        | Unit::Julian
        | Unit::IsoYear
        | Unit::Epoch => Some(if negative {
            Numeric::NegativeInfinity
        } else {
            Numeric::Infinity
        }),
        _ => None,
    }
}

fn unit_of(word: &str, kind: &str) -> Result<Unit> {
    extract_unit(word).ok_or_else(|| bad_unit(None, word, kind))
}

fn field(e: &Evaluation<'_>, a: &[Datum]) -> Result<Option<Numeric>> {
    let word = arg::text(a, 0)?.to_lowercase();
    let word = word.as_str();
    match &a[1] {
        Datum::Timestamp(us) => {
            let kind = "timestamp without time zone";
            timestamp_field(*us, unit_of(word, kind)?, None, *us)
                .map_err(|unit| bad_unit(Some(unit), word, kind))
        }
        Datum::Timestamptz(us) => {
            let kind = "timestamp with time zone";
            let unit = unit_of(word, kind)?;
            let east = e.format.zone.offset_at(*us);
            let local = us.saturating_add(east * SECOND_US);
            let local = if is_infinite(*us) { *us } else { local };
            timestamp_field(local, unit, Some(-east as i32), *us)
                .map_err(|unit| bad_unit(Some(unit), word, kind))
        }
        Datum::Date(days) => date_field(*days, word),
        Datum::Time(us) => {
            let kind = "time without time zone";
            let unit = unit_of(word, kind)?;
            time_field(*us, unit, None)
                .ok_or_else(|| bad_unit(Some(unit), word, kind))
                .map(Some)
        }
        Datum::Timetz(us, west) => {
            let kind = "time with time zone";
            let unit = unit_of(word, kind)?;
            let value = time_field(*us, unit, Some(*west));
            value
                .ok_or_else(|| bad_unit(Some(unit), word, kind))
                .map(Some)
        }
        Datum::Interval(span) => {
            let unit = unit_of(word, "interval")?;
            compute::extract_interval(span, unit)
                .ok_or_else(|| bad_unit(Some(unit), word, "interval"))
                .map(Some)
        }
        _ => Err(Error::internal("extract from an unexpected value")),
    }
}

fn timestamp_field(
    local: i64,
    unit: Unit,
    west: Option<i32>,
    instant: i64,
) -> std::result::Result<Option<Numeric>, Unit> {
    if is_infinite(local) {
        return Ok(infinite_field(unit, local < 0));
    }
    let tm = split_timestamp(local);
    compute::extract_field(&tm, unit, west, instant)
        .map(Some)
        .ok_or(unit)
}

fn date_field(days: i32, word: &str) -> Result<Option<Numeric>> {
    let unit = unit_of(word, "date")?;
    let unsupported = matches!(
        unit,
        Unit::Microsecond
            | Unit::Millisecond
            | Unit::Second
            | Unit::Minute
            | Unit::Hour
            | Unit::Timezone
            | Unit::TimezoneHour
            | Unit::TimezoneMinute
    );
    if unsupported {
        return Err(bad_unit(Some(unit), word, "date"));
    }
    if infinite_date(days) {
        return Ok(infinite_field(unit, days < 0));
    }
    let (year, month, day) = datetime::from_julian(i64::from(days) + datetime::EPOCH_JULIAN);
    if unit == Unit::Julian {
        return Ok(Some(Numeric::from_i64(
            i64::from(days) + datetime::EPOCH_JULIAN,
        )));
    }
    if unit == Unit::Epoch {
        let seconds = (i64::from(days) + datetime::UNIX_DAYS) * 86_400;
        return Ok(Some(Numeric::from_i64(seconds)));
    }
    let tm = Fields {
        year,
        month,
        day,
        ..Fields::default()
    };
    Ok(compute::extract_field(&tm, unit, None, 0))
}

fn time_field(us: i64, unit: Unit, west: Option<i32>) -> Option<Numeric> {
    match unit {
        Unit::Microsecond | Unit::Millisecond | Unit::Second | Unit::Minute | Unit::Hour => {
            compute::extract_field(&split_time(us), unit, west, 0)
        }
        Unit::Epoch => {
            let utc = us + i64::from(west.unwrap_or(0)) * SECOND_US;
            Some(Numeric::from_parts(i128::from(utc), 6))
        }
        Unit::Timezone | Unit::TimezoneHour | Unit::TimezoneMinute if west.is_some() => {
            compute::extract_field(&split_time(us), unit, west, 0)
        }
        _ => None,
    }
}

fn extract(e: &Evaluation<'_>, a: &[Datum]) -> Result<Datum> {
    Ok(field(e, a)?.map_or(Datum::Null, Datum::numeric))
}

fn part(e: &Evaluation<'_>, a: &[Datum]) -> Result<Datum> {
    // A date is taken as the timestamp at its midnight.
    let value = match &a[1] {
        Datum::Date(days) => Datum::Timestamp(date_to_timestamp(*days)?),
        other => other.clone(),
    };
    let found = field(e, &[a[0].clone(), value])?;
    Ok(found.map_or(Datum::Null, |number| {
        Datum::Float8(number.to_f64().unwrap_or(f64::INFINITY))
    }))
}

/// Days since 2000-01-01 of a date in its parts; negative years are BC.
fn make_date(given: i32, month: i32, day: i32) -> Result<i64> {
    let shown = given;
    let year = if shown < 0 {
        shown.saturating_add(1)
    } else {
        shown
    };
    // In messages 1 BC is the year 0, unless the year has no opposite.
    let shown = if shown < 0 && shown > i32::MIN {
        year
    } else {
        shown
    };
    let refused = |what: &str| {
        Err(Error::new(
            state::DATETIME_FIELD_OVERFLOW,
            format!("{what} out of range: {shown}-{month:02}-{day:02}"),
        ))
    };
    let valid = given != 0
        && given != i32::MIN
        && (1..=12).contains(&month)
        && day >= 1
        && day <= days_in_month(year, month);
    if !valid {
        return refused("date field value");
    }
    if !(Fields {
        year,
        month,
        day,
        ..Fields::default()
    })
    .is_julian()
    {
        return refused("date");
    }
    Ok(date_of(year, month, day))
}

fn make_time(hour: i32, minute: i32, second: f64) -> Result<i64> {
    let us = (second * 1_000_000.0).round_ties_even();
    let valid = (0..=24).contains(&hour)
        && (0..60).contains(&minute)
        && (0.0..=60.0).contains(&second)
        && i64::from(hour) * datetime::HOUR_US + i64::from(minute) * MINUTE_US + us as i64
            <= DAY_US;
    if !valid {
        let mut shown = Vec::new();
        // C's %02g: six digits, at least two characters.
        crate::types::text::write_f64(second, -9, &mut shown);
        let shown = String::from_utf8_lossy(&shown);
        return Err(Error::new(
            state::DATETIME_FIELD_OVERFLOW,
            format!("time field value out of range: {hour}:{minute:02}:{shown:0>2}"),
        ));
    }
    Ok(i64::from(hour) * datetime::HOUR_US + i64::from(minute) * MINUTE_US + us as i64)
}

fn make_timestamp(a: &[Datum]) -> Result<i64> {
    let days = make_date(arg::int4(a, 0)?, arg::int4(a, 1)?, arg::int4(a, 2)?)?;
    let time = make_time(arg::int4(a, 3)?, arg::int4(a, 4)?, arg::float8(a, 5)?)?;
    days.checked_mul(DAY_US)
        .and_then(|us| us.checked_add(time))
        .filter(|us| is_valid_timestamp(*us))
        .ok_or_else(timestamp_out_of_range)
}

/// Parts that do not fit wrap around, as they do in PostgreSQL 15.
fn make_interval(a: &[Datum]) -> Result<Datum> {
    let months = arg::int4(a, 0)?
        .wrapping_mul(12)
        .wrapping_add(arg::int4(a, 1)?);
    let days = arg::int4(a, 2)?
        .wrapping_mul(7)
        .wrapping_add(arg::int4(a, 3)?);
    let seconds = arg::float8(a, 6)?;
    if !seconds.is_finite() {
        return Err(interval_out_of_range());
    }
    let us = (seconds * 1_000_000.0).round_ties_even();
    let us = if us.abs() < 9.223_372_036_854_775e18 {
        us as i64
    } else {
        i64::MIN
    };
    let time = (i64::from(arg::int4(a, 4)?) * datetime::HOUR_US)
        .wrapping_add(i64::from(arg::int4(a, 5)?) * MINUTE_US)
        .wrapping_add(us);
    Ok(Datum::Interval(Interval::new(months, days, time)))
}

fn from_epoch(seconds: f64) -> Result<Datum> {
    if seconds.is_nan() {
        return Err(Error::new(
            state::DATETIME_FIELD_OVERFLOW,
            "timestamp cannot be NaN",
        ));
    }
    if seconds.is_infinite() {
        return Ok(Datum::Timestamptz(if seconds > 0.0 {
            i64::MAX
        } else {
            i64::MIN
        }));
    }
    let out_of_range = || {
        let mut text = Vec::new();
        crate::types::text::write_f64(seconds, 1, &mut text);
        Error::new(
            state::DATETIME_FIELD_OVERFLOW,
            format!(
                "timestamp out of range: \"{}\"",
                String::from_utf8_lossy(&text)
            ),
        )
    };
    let shifted = seconds - (UNIX_US / SECOND_US) as f64;
    let us = (shifted * 1_000_000.0).round_ties_even();
    if us.abs() >= 9.3e18 {
        return Err(out_of_range());
    }
    let us = us as i64;
    if is_valid_timestamp(us) {
        Ok(Datum::Timestamptz(us))
    } else {
        Err(out_of_range())
    }
}

fn bin(stride: &Interval, us: i64, origin: i64) -> Result<i64> {
    let invalid = |message: &str| Err(Error::new(state::DATETIME_FIELD_OVERFLOW, message));
    if is_infinite(us) {
        return Ok(us);
    }
    if is_infinite(origin) {
        return invalid("origin out of range");
    }
    if stride.months != 0 {
        return Err(Error::new(
            state::FEATURE_NOT_SUPPORTED,
            "timestamps cannot be binned into intervals containing months or years",
        ));
    }
    let width = i64::from(stride.days)
        .checked_mul(DAY_US)
        .and_then(|days| days.checked_add(stride.microseconds))
        .ok_or_else(interval_out_of_range)?;
    if width <= 0 {
        return invalid("stride must be greater than zero");
    }
    let difference = us.checked_sub(origin).ok_or_else(interval_out_of_range)?;
    origin
        .checked_add(difference.div_euclid(width) * width)
        .ok_or_else(timestamp_out_of_range)
}

/// `OVERLAPS` over comparable values; `None` = NULL.
fn overlaps(a: &[Datum]) -> Datum {
    use std::cmp::Ordering;

    use crate::types::order::compare;
    let ordered = |x: &Datum, y: &Datum| -> Option<(Datum, Datum)> {
        match (x.is_null(), y.is_null()) {
            (true, true) => None,
            (true, false) => Some((y.clone(), Datum::Null)),
            (false, true) => Some((x.clone(), Datum::Null)),
            (false, false) if compare(x, y).is_gt() => Some((y.clone(), x.clone())),
            (false, false) => Some((x.clone(), y.clone())),
        }
    };
    let (Some((start1, end1)), Some((start2, end2))) =
        (ordered(&a[0], &a[1]), ordered(&a[2], &a[3]))
    else {
        return Datum::Null;
    };
    match compare(&start1, &start2) {
        Ordering::Greater => {
            if end2.is_null() {
                return Datum::Null;
            }
            if compare(&start1, &end2).is_lt() {
                return Datum::Bool(true);
            }
            if end1.is_null() {
                Datum::Null
            } else {
                Datum::Bool(false)
            }
        }
        Ordering::Less => {
            if end1.is_null() {
                return Datum::Null;
            }
            if compare(&start2, &end1).is_lt() {
                return Datum::Bool(true);
            }
            if end2.is_null() {
                Datum::Null
            } else {
                Datum::Bool(false)
            }
        }
        Ordering::Equal => {
            if end1.is_null() || end2.is_null() {
                Datum::Null
            } else {
                Datum::Bool(true)
            }
        }
    }
}

/// The end of a period given by its length.
fn period_end(e: &Evaluation<'_>, start: &Datum, span: &Datum) -> Result<Datum> {
    match (start, span) {
        (Datum::Timestamp(us), Datum::Interval(span)) => plus(*us, span),
        (Datum::Timestamptz(us), Datum::Interval(span)) => plus_tz(e, *us, span),
        (Datum::Time(us), Datum::Interval(span)) => Ok(Datum::Time(time_plus(*us, span))),
        (_, Datum::Interval(_)) => Ok(Datum::Null),
        (_, end) => Ok(end.clone()),
    }
}

fn overlaps_spans(e: &Evaluation<'_>, a: &[Datum]) -> Result<Datum> {
    let first = period_end(e, &a[0], &a[1])?;
    let second = period_end(e, &a[2], &a[3])?;
    Ok(overlaps(&[a[0].clone(), first, a[2].clone(), second]))
}

fn scaled(a: &[Datum], kind: u32) -> Result<Datum> {
    typmod::apply(
        a[0].clone(),
        Type::new(kind).with_modifier(arg::int4(a, 1)?),
        true,
    )
}

fn local_to_instant(e: &Evaluation<'_>, us: i64) -> Result<Datum> {
    datetime::from_local(us, e.format).map(Datum::Timestamptz)
}

fn local(us: i64, format: &FormatSettings) -> i64 {
    datetime::to_local(us, format)
}

fn today(e: &Evaluation<'_>) -> i64 {
    local(e.format.transaction_start, e.format).div_euclid(DAY_US) * DAY_US
}

/// Midnight of today, as an instant.
fn today_instant(e: &Evaluation<'_>) -> Result<i64> {
    datetime::from_local(today(e), e.format)
}

fn age_tz(e: &Evaluation<'_>, a: i64, b: i64) -> Result<Datum> {
    let (a, b) = (local(a, e.format), local(b, e.format));
    compute::age(a, b).map(Datum::Interval)
}

fn date_and_time(days: i32, time: i64) -> Result<i64> {
    let start = date_to_timestamp(days)?;
    if is_infinite(start) {
        return Ok(start);
    }
    start
        .checked_add(time)
        .filter(|us| is_valid_timestamp(*us))
        .ok_or_else(timestamp_out_of_range)
}

fn with_timetz(days: i32, time: (i64, i32)) -> Result<Datum> {
    let start = date_to_timestamp(days)?;
    if is_infinite(start) {
        return Ok(Datum::Timestamptz(start));
    }
    let us = start + time.0 + i64::from(time.1) * SECOND_US;
    is_valid_timestamp(us)
        .then_some(Datum::Timestamptz(us))
        .ok_or_else(timestamp_out_of_range)
}

/// Functions but comparison and `to_char`.
pub(super) const TABLE: &[(&str, ScalarFunction)] = &[
    ("date_pli", |_, _, a| {
        date_plus(arg::date(a, 0)?, i64::from(arg::int4(a, 1)?))
    }),
    ("integer_pl_date@2550", |_, _, a| {
        date_plus(arg::date(a, 1)?, i64::from(arg::int4(a, 0)?))
    }),
    ("date_mii", |_, _, a| {
        date_plus(arg::date(a, 0)?, -i64::from(arg::int4(a, 1)?))
    }),
    ("date_mi", |_, _, a| {
        date_minus(arg::date(a, 0)?, arg::date(a, 1)?)
    }),
    ("date_pl_interval", |_, _, a| {
        plus(date_to_timestamp(arg::date(a, 0)?)?, &arg::interval(a, 1)?)
    }),
    ("interval_pl_date@2546", |_, _, a| {
        plus(date_to_timestamp(arg::date(a, 1)?)?, &arg::interval(a, 0)?)
    }),
    ("date_mi_interval", |_, _, a| {
        plus(
            date_to_timestamp(arg::date(a, 0)?)?,
            &negated(arg::interval(a, 1)?)?,
        )
    }),
    ("timestamp_pl_interval", |_, _, a| {
        plus(arg::timestamp(a, 0)?, &arg::interval(a, 1)?)
    }),
    ("interval_pl_timestamp@2548", |_, _, a| {
        plus(arg::timestamp(a, 1)?, &arg::interval(a, 0)?)
    }),
    ("timestamp_mi_interval", |_, _, a| {
        plus(arg::timestamp(a, 0)?, &negated(arg::interval(a, 1)?)?)
    }),
    ("timestamptz_pl_interval", |e, _, a| {
        plus_tz(e, arg::timestamptz(a, 0)?, &arg::interval(a, 1)?)
    }),
    ("interval_pl_timestamptz@2549", |e, _, a| {
        plus_tz(e, arg::timestamptz(a, 1)?, &arg::interval(a, 0)?)
    }),
    ("timestamptz_mi_interval", |e, _, a| {
        plus_tz(e, arg::timestamptz(a, 0)?, &negated(arg::interval(a, 1)?)?)
    }),
    ("timestamp_mi", |_, _, a| match (&a[0], &a[1]) {
        (Datum::Timestamp(x), Datum::Timestamp(y))
        | (Datum::Timestamptz(x), Datum::Timestamptz(y)) => {
            compute::timestamp_minus(*x, *y).map(Datum::Interval)
        }
        _ => Err(Error::internal("timestamp_mi of other values")),
    }),
    ("time_pl_interval", |_, _, a| {
        Ok(Datum::Time(time_plus(
            arg::time(a, 0)?,
            &arg::interval(a, 1)?,
        )))
    }),
    ("interval_pl_time@1848", |_, _, a| {
        Ok(Datum::Time(time_plus(
            arg::time(a, 1)?,
            &arg::interval(a, 0)?,
        )))
    }),
    ("time_mi_interval", |_, _, a| {
        Ok(Datum::Time(time_plus(
            arg::time(a, 0)?,
            &negated(arg::interval(a, 1)?)?,
        )))
    }),
    ("time_mi_time", |_, _, a| {
        Ok(Datum::Interval(Interval::new(
            0,
            0,
            arg::time(a, 0)? - arg::time(a, 1)?,
        )))
    }),
    ("timetz_pl_interval", |_, _, a| {
        let (time, west) = arg::timetz(a, 0)?;
        Ok(Datum::Timetz(time_plus(time, &arg::interval(a, 1)?), west))
    }),
    ("interval_pl_timetz@2547", |_, _, a| {
        let (time, west) = arg::timetz(a, 1)?;
        Ok(Datum::Timetz(time_plus(time, &arg::interval(a, 0)?), west))
    }),
    ("timetz_mi_interval", |_, _, a| {
        let (time, west) = arg::timetz(a, 0)?;
        Ok(Datum::Timetz(
            time_plus(time, &negated(arg::interval(a, 1)?)?),
            west,
        ))
    }),
    ("datetime_timestamp", |_, _, a| {
        date_and_time(arg::date(a, 0)?, arg::time(a, 1)?).map(Datum::Timestamp)
    }),
    ("timedate_pl@1296", |_, _, a| {
        date_and_time(arg::date(a, 1)?, arg::time(a, 0)?).map(Datum::Timestamp)
    }),
    ("datetimetz_timestamptz", |_, _, a| {
        with_timetz(arg::date(a, 0)?, arg::timetz(a, 1)?)
    }),
    ("timetzdate_pl@1298", |_, _, a| {
        with_timetz(arg::date(a, 1)?, arg::timetz(a, 0)?)
    }),
    ("timestamptz@1176", |e, _, a| {
        local_to_instant(e, date_and_time(arg::date(a, 0)?, arg::time(a, 1)?)?)
    }),
    ("interval_pl", |_, _, a| {
        span(arg::interval(a, 0)?.checked_add(arg::interval(a, 1)?))
    }),
    ("interval_mi", |_, _, a| {
        span(arg::interval(a, 0)?.checked_sub(arg::interval(a, 1)?))
    }),
    ("interval_um", |_, _, a| {
        negated(arg::interval(a, 0)?).map(Datum::Interval)
    }),
    ("interval_mul", |_, _, a| {
        compute::interval_times(&arg::interval(a, 0)?, arg::float8(a, 1)?).map(Datum::Interval)
    }),
    ("mul_d_interval", |_, _, a| {
        compute::interval_times(&arg::interval(a, 1)?, arg::float8(a, 0)?).map(Datum::Interval)
    }),
    ("interval_div", |_, _, a| {
        compute::interval_divided(&arg::interval(a, 0)?, arg::float8(a, 1)?).map(Datum::Interval)
    }),
    ("interval_justify_hours", |_, _, a| {
        span(compute::justify_hours(arg::interval(a, 0)?))
    }),
    ("interval_justify_days", |_, _, a| {
        span(compute::justify_days(arg::interval(a, 0)?))
    }),
    ("interval_justify_interval", |_, _, a| {
        span(compute::justify_interval(arg::interval(a, 0)?))
    }),
    ("timestamp_age", |_, _, a| {
        compute::age(arg::timestamp(a, 0)?, arg::timestamp(a, 1)?).map(Datum::Interval)
    }),
    ("timestamptz_age", |e, _, a| {
        age_tz(e, arg::timestamptz(a, 0)?, arg::timestamptz(a, 1)?)
    }),
    ("age@2059", |e, _, a| {
        compute::age(today(e), arg::timestamp(a, 0)?).map(Datum::Interval)
    }),
    ("age@1386", |e, _, a| {
        age_tz(e, today_instant(e)?, arg::timestamptz(a, 0)?)
    }),
    ("timestamp_trunc", |_, _, a| {
        let word = arg::text(a, 0)?.to_lowercase();
        compute::truncate_timestamp(arg::timestamp(a, 1)?, &word).map(Datum::Timestamp)
    }),
    ("timestamptz_trunc", |e, _, a| {
        let word = arg::text(a, 0)?.to_lowercase();
        let us = arg::timestamptz(a, 1)?;
        compute::truncate_timestamptz(us, &word, &e.format.zone).map(Datum::Timestamptz)
    }),
    ("timestamptz_trunc_zone", |_, _, a| {
        let word = arg::text(a, 0)?.to_lowercase();
        let us = arg::timestamptz(a, 1)?;
        if is_infinite(us) {
            return Ok(Datum::Timestamptz(us));
        }
        let zone = zone_of(arg::text(a, 2)?)?;
        compute::truncate_timestamptz(us, &word, &zone).map(Datum::Timestamptz)
    }),
    ("interval_trunc", |_, _, a| {
        let word = arg::text(a, 0)?.to_lowercase();
        compute::truncate_interval(&arg::interval(a, 1)?, &word).map(Datum::Interval)
    }),
    ("extract_date", |e, _, a| extract(e, a)),
    ("extract_time", |e, _, a| extract(e, a)),
    ("extract_timetz", |e, _, a| extract(e, a)),
    ("extract_timestamp", |e, _, a| extract(e, a)),
    ("extract_timestamptz", |e, _, a| extract(e, a)),
    ("extract_interval", |e, _, a| extract(e, a)),
    ("date_part@1384", |e, _, a| part(e, a)),
    ("time_part", |e, _, a| part(e, a)),
    ("timetz_part", |e, _, a| part(e, a)),
    ("timestamp_part", |e, _, a| part(e, a)),
    ("timestamptz_part", |e, _, a| part(e, a)),
    ("interval_part", |e, _, a| part(e, a)),
    ("timestamp_bin", |_, _, a| {
        bin(
            &arg::interval(a, 0)?,
            arg::timestamp(a, 1)?,
            arg::timestamp(a, 2)?,
        )
        .map(Datum::Timestamp)
    }),
    ("timestamptz_bin", |_, _, a| {
        bin(
            &arg::interval(a, 0)?,
            arg::timestamptz(a, 1)?,
            arg::timestamptz(a, 2)?,
        )
        .map(Datum::Timestamptz)
    }),
    ("date_finite", |_, _, a| {
        Ok(Datum::Bool(!infinite_date(arg::date(a, 0)?)))
    }),
    ("timestamp_finite", |_, _, a| match &a[0] {
        Datum::Timestamp(us) | Datum::Timestamptz(us) => Ok(Datum::Bool(!is_infinite(*us))),
        _ => Err(Error::internal("timestamp_finite of another value")),
    }),
    ("interval_finite", |_, _, _| Ok(Datum::Bool(true))),
    ("make_date", |_, _, a| {
        date(make_date(
            arg::int4(a, 0)?,
            arg::int4(a, 1)?,
            arg::int4(a, 2)?,
        )?)
    }),
    ("make_time", |_, _, a| {
        make_time(arg::int4(a, 0)?, arg::int4(a, 1)?, arg::float8(a, 2)?).map(Datum::Time)
    }),
    ("make_timestamp", |_, _, a| {
        make_timestamp(a).map(Datum::Timestamp)
    }),
    ("make_timestamptz", |e, _, a| {
        local_to_instant(e, make_timestamp(a)?)
    }),
    ("make_timestamptz_at_timezone", |_, _, a| {
        from_zone(make_timestamp(a)?, &zone_of(arg::text(a, 6)?)?)
    }),
    ("make_interval", |_, _, a| make_interval(a)),
    ("float8_timestamptz", |_, _, a| {
        from_epoch(arg::float8(a, 0)?)
    }),
    ("timestamptz_zone", |_, _, a| {
        let us = arg::timestamptz(a, 1)?;
        if is_infinite(us) {
            return Ok(Datum::Timestamp(us));
        }
        to_zone(us, &zone_of(arg::text(a, 0)?)?)
    }),
    ("timestamptz_izone", |_, _, a| {
        let us = arg::timestamptz(a, 1)?;
        if is_infinite(us) {
            return Ok(Datum::Timestamp(us));
        }
        to_zone(us, &zone_of_interval(&arg::interval(a, 0)?)?)
    }),
    ("timestamp_zone", |_, _, a| {
        let us = arg::timestamp(a, 1)?;
        if is_infinite(us) {
            return Ok(Datum::Timestamptz(us));
        }
        from_zone(us, &zone_of(arg::text(a, 0)?)?)
    }),
    ("timestamp_izone", |_, _, a| {
        let us = arg::timestamp(a, 1)?;
        if is_infinite(us) {
            return Ok(Datum::Timestamptz(us));
        }
        from_zone(us, &zone_of_interval(&arg::interval(a, 0)?)?)
    }),
    ("timetz_zone", |e, _, a| {
        let zone = zone_of(arg::text(a, 0)?)?;
        Ok(timetz_in_zone(e, arg::timetz(a, 1)?, &zone))
    }),
    ("timetz_izone", |e, _, a| {
        let zone = zone_of_interval(&arg::interval(a, 0)?)?;
        Ok(timetz_in_zone(e, arg::timetz(a, 1)?, &zone))
    }),
    ("overlaps_timestamp", |_, _, a| Ok(overlaps(a))),
    ("overlaps_time", |_, _, a| Ok(overlaps(a))),
    ("overlaps_timetz", |_, _, a| Ok(overlaps(a))),
    ("overlaps@1305", |e, _, a| overlaps_spans(e, a)),
    ("overlaps@1306", |e, _, a| overlaps_spans(e, a)),
    ("overlaps@1307", |e, _, a| overlaps_spans(e, a)),
    ("overlaps@1309", |e, _, a| overlaps_spans(e, a)),
    ("overlaps@1310", |e, _, a| overlaps_spans(e, a)),
    ("overlaps@1311", |e, _, a| overlaps_spans(e, a)),
    ("overlaps@2042", |e, _, a| overlaps_spans(e, a)),
    ("overlaps@2043", |e, _, a| overlaps_spans(e, a)),
    ("overlaps@2044", |e, _, a| overlaps_spans(e, a)),
    ("time_scale", |_, _, a| scaled(a, oid::TIME)),
    ("timetz_scale", |_, _, a| scaled(a, oid::TIMETZ)),
    ("timestamp_scale", |_, _, a| scaled(a, oid::TIMESTAMP)),
    ("timestamptz_scale", |_, _, a| scaled(a, oid::TIMESTAMPTZ)),
    ("interval_scale", |_, _, a| scaled(a, oid::INTERVAL)),
    ("date_timestamp", |_, _, a| {
        date_to_timestamp(arg::date(a, 0)?).map(Datum::Timestamp)
    }),
    ("date_timestamptz", |e, _, a| {
        local_to_instant(e, date_to_timestamp(arg::date(a, 0)?)?)
    }),
    ("timestamp_date", |_, _, a| {
        Ok(Datum::Date(timestamp_to_date(arg::timestamp(a, 0)?)))
    }),
    ("timestamptz_date", |e, _, a| {
        Ok(Datum::Date(timestamp_to_date(local(
            arg::timestamptz(a, 0)?,
            e.format,
        ))))
    }),
    ("timestamp_timestamptz", |e, _, a| {
        local_to_instant(e, arg::timestamp(a, 0)?)
    }),
    ("timestamptz_timestamp", |e, _, a| {
        Ok(Datum::Timestamp(local(arg::timestamptz(a, 0)?, e.format)))
    }),
    ("timestamp_time", |_, _, a| {
        let us = arg::timestamp(a, 0)?;
        Ok(if is_infinite(us) {
            Datum::Null
        } else {
            Datum::Time(wrap(us))
        })
    }),
    ("timestamptz_time", |e, _, a| {
        let us = arg::timestamptz(a, 0)?;
        Ok(if is_infinite(us) {
            Datum::Null
        } else {
            Datum::Time(wrap(local(us, e.format)))
        })
    }),
    ("timestamptz_timetz", |e, _, a| {
        let us = arg::timestamptz(a, 0)?;
        if is_infinite(us) {
            return Ok(Datum::Null);
        }
        let east = e.format.zone.offset_at(us);
        Ok(Datum::Timetz(wrap(us + east * SECOND_US), -east as i32))
    }),
    ("time_timetz", |e, _, a| {
        let us = today(e) + arg::time(a, 0)?;
        let east = e.format.zone.offset_of_local(us);
        Ok(Datum::Timetz(arg::time(a, 0)?, -east as i32))
    }),
    ("timetz_time", |_, _, a| {
        Ok(Datum::Time(arg::timetz(a, 0)?.0))
    }),
    ("time_interval", |_, _, a| {
        Ok(Datum::Interval(Interval::new(0, 0, arg::time(a, 0)?)))
    }),
    ("interval_time", |_, _, a| {
        Ok(Datum::Time(wrap(arg::interval(a, 0)?.microseconds)))
    }),
];
