//! Arithmetic on dates and times: adding intervals, ages, truncation, fields.

use super::tokens::{Unit, extract_unit};
use super::zone::Zone;
use super::{
    DAY_US, EPOCH_JULIAN, Fields, HOUR_US, MINUTE_US, SECOND_US, UNIX_US, date_of, days_in_month,
    interval_out_of_range, is_infinite, is_valid_timestamp, split_timestamp,
    timestamp_out_of_range, to_julian,
};
use crate::error::{Error, Result, state};
use crate::types::interval::Interval;
use crate::types::numeric::Numeric;

/// A timestamp plus an interval: months first (to the last day where there is no such day), then
/// days, then time.
///
/// # Errors
/// 22008 out of range.
pub fn timestamp_plus(us: i64, span: &Interval) -> Result<i64> {
    if is_infinite(us) {
        return Ok(us);
    }
    let mut value = us;
    if span.months != 0 {
        let mut tm = split_timestamp(value);
        add_months(&mut tm, span.months)?;
        value = tm.timestamp().ok_or_else(timestamp_out_of_range)?;
    }
    if span.days != 0 {
        value = value
            .checked_add(i64::from(span.days) * DAY_US)
            .ok_or_else(timestamp_out_of_range)?;
    }
    value
        .checked_add(span.microseconds)
        .filter(|us| is_valid_timestamp(*us))
        .ok_or_else(timestamp_out_of_range)
}

fn add_months(tm: &mut Fields, months: i32) -> Result<()> {
    let total = i64::from(tm.year) * 12 + i64::from(tm.month) - 1 + i64::from(months);
    tm.year = i32::try_from(total.div_euclid(12)).map_err(|_| timestamp_out_of_range())?;
    tm.month = total.rem_euclid(12) as i32 + 1;
    tm.day = tm.day.min(days_in_month(tm.year, tm.month));
    Ok(())
}

/// An instant plus an interval: months and days as the clock on the wall of the zone counts them.
///
/// # Errors
/// 22008 out of range.
pub fn timestamptz_plus(us: i64, span: &Interval, zone: &Zone) -> Result<i64> {
    if is_infinite(us) {
        return Ok(us);
    }
    let mut value = us;
    if span.months != 0 || span.days != 0 {
        let local = value + zone.offset_at(value) * SECOND_US;
        let mut tm = split_timestamp(local);
        if span.months != 0 {
            add_months(&mut tm, span.months)?;
            let moved = tm.timestamp().ok_or_else(timestamp_out_of_range)?;
            value = moved - zone.offset_of_local(moved) * SECOND_US;
        }
        if span.days != 0 {
            let local = value + zone.offset_at(value) * SECOND_US;
            let moved = local
                .checked_add(i64::from(span.days) * DAY_US)
                .filter(|us| is_valid_timestamp(*us))
                .ok_or_else(timestamp_out_of_range)?;
            value = moved - zone.offset_of_local(moved) * SECOND_US;
        }
    }
    value
        .checked_add(span.microseconds)
        .filter(|us| is_valid_timestamp(*us))
        .ok_or_else(timestamp_out_of_range)
}

/// The difference of two timestamps in days and time (`justify_hours` applied).
///
/// # Errors
/// 22008 for infinities.
pub fn timestamp_minus(a: i64, b: i64) -> Result<Interval> {
    if is_infinite(a) || is_infinite(b) {
        return Err(Error::new(
            state::DATETIME_FIELD_OVERFLOW,
            "cannot subtract infinite timestamps",
        ));
    }
    let us = a.checked_sub(b).ok_or_else(interval_out_of_range)?;
    Ok(justify_hours(Interval::new(0, 0, us)).unwrap_or(Interval::new(0, 0, us)))
}

/// Whole days moved from the time part; `None` on overflow.
pub fn justify_hours(span: Interval) -> Option<Interval> {
    let mut days = span
        .days
        .checked_add(i32::try_from(span.microseconds / DAY_US).ok()?)?;
    let mut us = span.microseconds % DAY_US;
    if days > 0 && us < 0 {
        us += DAY_US;
        days -= 1;
    } else if days < 0 && us > 0 {
        us -= DAY_US;
        days += 1;
    }
    Some(Interval::new(span.months, days, us))
}

/// Whole months (of 30 days) moved from the day part; `None` on overflow.
pub fn justify_days(span: Interval) -> Option<Interval> {
    let mut months = span.months.checked_add(span.days / 30)?;
    let mut days = span.days % 30;
    if months > 0 && days < 0 {
        days += 30;
        months -= 1;
    } else if months < 0 && days > 0 {
        days -= 30;
        months += 1;
    }
    Some(Interval::new(months, days, span.microseconds))
}

/// Both justifications, all parts of one sign; `None` on overflow.
pub fn justify_interval(span: Interval) -> Option<Interval> {
    let Interval {
        mut months,
        mut days,
        microseconds: mut us,
    } = span;
    // Days of one sign with the time first, so that they cannot overflow on the way.
    if (days > 0 && us > 0) || (days < 0 && us < 0) {
        months = months.checked_add(days / 30)?;
        days %= 30;
    }
    days = days.checked_add(i32::try_from(us / DAY_US).ok()?)?;
    us %= DAY_US;
    months = months.checked_add(days / 30)?;
    days %= 30;
    if months > 0 && (days < 0 || (days == 0 && us < 0)) {
        days += 30;
        months -= 1;
    } else if months < 0 && (days > 0 || (days == 0 && us > 0)) {
        days -= 30;
        months += 1;
    }
    if days > 0 && us < 0 {
        us += DAY_US;
        days -= 1;
    } else if days < 0 && us > 0 {
        us -= DAY_US;
        days += 1;
    }
    Some(Interval::new(months, days, us))
}

/// `age(a, b)` on local times: years, months, days and time between them.
///
/// # Errors
/// 22008 for infinities.
pub fn age(a: i64, b: i64) -> Result<Interval> {
    if is_infinite(a) || is_infinite(b) {
        return Err(Error::new(
            state::DATETIME_FIELD_OVERFLOW,
            "timestamp out of range",
        ));
    }
    let (x, y) = (split_timestamp(a), split_timestamp(b));
    let mut d = Fields {
        year: x.year - y.year,
        month: x.month - y.month,
        day: x.day - y.day,
        hour: x.hour - y.hour,
        minute: x.minute - y.minute,
        second: x.second - y.second,
        microsecond: x.microsecond - y.microsecond,
    };
    let negative = a < b;
    if negative {
        d = negated(d);
    }
    while d.microsecond < 0 {
        d.microsecond += 1_000_000;
        d.second -= 1;
    }
    while d.second < 0 {
        d.second += 60;
        d.minute -= 1;
    }
    while d.minute < 0 {
        d.minute += 60;
        d.hour -= 1;
    }
    while d.hour < 0 {
        d.hour += 24;
        d.day -= 1;
    }
    while d.day < 0 {
        // The month that was not finished lends its days.
        let lender = if negative { x } else { y };
        d.day += days_in_month(lender.year, lender.month);
        d.month -= 1;
    }
    while d.month < 0 {
        d.month += 12;
        d.year -= 1;
    }
    if negative {
        d = negated(d);
    }
    Ok(Interval::new(d.year * 12 + d.month, d.day, d.time()))
}

fn negated(d: Fields) -> Fields {
    Fields {
        year: -d.year,
        month: -d.month,
        day: -d.day,
        hour: -d.hour,
        minute: -d.minute,
        second: -d.second,
        microsecond: -d.microsecond,
    }
}

/// An interval times a factor: what months and days lose in fractions goes to the smaller parts.
///
/// # Errors
/// 22008 out of range.
pub fn interval_times(span: &Interval, factor: f64) -> Result<Interval> {
    spread(
        f64::from(span.months) * factor,
        f64::from(span.days) * factor,
        span,
        factor,
    )
}

/// An interval divided by a number.
///
/// # Errors
/// 22012 by zero, 22008 out of range.
pub fn interval_divided(span: &Interval, divisor: f64) -> Result<Interval> {
    if divisor == 0.0 {
        return Err(Error::new(state::DIVISION_BY_ZERO, "division by zero"));
    }
    spread_with(
        f64::from(span.months) / divisor,
        f64::from(span.days) / divisor,
        span.microseconds as f64 / divisor,
    )
}

fn spread(months: f64, days: f64, span: &Interval, factor: f64) -> Result<Interval> {
    spread_with(months, days, span.microseconds as f64 * factor)
}

/// Rounds to microseconds what a fraction left over (`TSROUND`).
fn ts_round(value: f64) -> f64 {
    (value * 1_000_000.0).round_ties_even() / 1_000_000.0
}

fn spread_with(months: f64, days: f64, us: f64) -> Result<Interval> {
    let fits = |value: f64| {
        let inside = value >= f64::from(i32::MIN) && value < 2_147_483_648.0;
        if inside {
            Ok(value as i32)
        } else {
            Err(interval_out_of_range())
        }
    };
    let whole_months = fits(months)?;
    let mut whole_days = fits(days)?;
    let month_rest = ts_round((months - f64::from(whole_months)) * 30.0);
    let month_days = month_rest as i32;
    let mut seconds =
        (days - f64::from(whole_days) + month_rest - f64::from(month_days)) * 86_400.0;
    seconds = ts_round(seconds);
    // Might be a whole day by rounding.
    if seconds.abs() >= 86_400.0 {
        let extra = (seconds / 86_400.0) as i32;
        whole_days = whole_days
            .checked_add(extra)
            .ok_or_else(interval_out_of_range)?;
        seconds -= f64::from(extra) * 86_400.0;
    }
    let whole_days = whole_days
        .checked_add(month_days)
        .ok_or_else(interval_out_of_range)?;
    let total = (us + seconds * 1_000_000.0).round_ties_even();
    if !(-9.223_372_036_854_776e18..9.223_372_036_854_776e18).contains(&total) {
        return Err(interval_out_of_range());
    }
    Ok(Interval::new(whole_months, whole_days, total as i64))
}

/// 22023 for a word that is no unit; 0A000 for a unit that the type has not.
pub(crate) fn bad_unit(unit: Option<Unit>, word: &str, kind: &str) -> Error {
    match unit {
        Some(_) => Error::new(
            state::FEATURE_NOT_SUPPORTED,
            format!("unit \"{word}\" not supported for type {kind}"),
        ),
        None => Error::new(
            state::INVALID_PARAMETER_VALUE,
            format!("unit \"{word}\" not recognized for type {kind}"),
        ),
    }
}

/// The Julian day of the Monday of the first ISO week of a year.
fn iso_year_start(year: i32) -> i64 {
    let fourth = to_julian(year, 1, 4);
    fourth - fourth.rem_euclid(7)
}

/// ISO year and week of a date.
pub fn iso_week(year: i32, month: i32, day: i32) -> (i32, i32) {
    let julian = to_julian(year, month, day);
    let mut iso_year = year;
    let mut start = iso_year_start(year);
    if julian < start {
        iso_year -= 1;
        start = iso_year_start(iso_year);
    } else {
        let next = iso_year_start(year + 1);
        if julian >= next {
            iso_year += 1;
            start = next;
        }
    }
    (iso_year, ((julian - start) / 7 + 1) as i32)
}

/// The date of the Monday of an ISO week.
pub fn iso_week_start(year: i32, week: i32) -> i64 {
    iso_year_start(year) + i64::from(week - 1) * 7 - EPOCH_JULIAN
}

/// `date_trunc` on the fields of a local time. True when the unit is a day or larger.
///
/// # Errors
/// 22023, 0A000 for units that cannot be.
pub fn truncate(tm: &mut Fields, word: &str, kind: &str) -> Result<bool> {
    let unit = extract_unit(word);
    let Some(known) = unit else {
        return Err(bad_unit(None, word, kind));
    };
    let mut large = true;
    match known {
        Unit::Week => {
            let (year, week) = iso_week(tm.year, tm.month, tm.day);
            let (y, m, d) = super::from_julian(iso_week_start(year, week) + EPOCH_JULIAN);
            *tm = Fields {
                year: y,
                month: m,
                day: d,
                ..Fields::default()
            };
        }
        Unit::Millennium => {
            let year = if tm.year > 0 {
                (tm.year + 999) / 1000 * 1000 - 999
            } else {
                -((999 - (tm.year - 1)) / 1000) * 1000 + 1
            };
            *tm = first_of(year, 1);
        }
        Unit::Century => {
            let year = if tm.year > 0 {
                (tm.year + 99) / 100 * 100 - 99
            } else {
                -((99 - (tm.year - 1)) / 100) * 100 + 1
            };
            *tm = first_of(year, 1);
        }
        Unit::Decade => {
            let year = if tm.year > 0 {
                tm.year / 10 * 10
            } else {
                -((8 - (tm.year - 1)) / 10) * 10
            };
            *tm = first_of(year, 1);
        }
        Unit::Year => *tm = first_of(tm.year, 1),
        Unit::Quarter => *tm = first_of(tm.year, 3 * ((tm.month - 1) / 3) + 1),
        Unit::Month => *tm = first_of(tm.year, tm.month),
        Unit::Day => {
            *tm = Fields {
                year: tm.year,
                month: tm.month,
                day: tm.day,
                ..Fields::default()
            };
        }
        Unit::Hour => {
            large = false;
            (tm.minute, tm.second, tm.microsecond) = (0, 0, 0);
        }
        Unit::Minute => {
            large = false;
            (tm.second, tm.microsecond) = (0, 0);
        }
        Unit::Second => {
            large = false;
            tm.microsecond = 0;
        }
        Unit::Millisecond => {
            large = false;
            tm.microsecond = tm.microsecond / 1000 * 1000;
        }
        Unit::Microsecond => large = false,
        _ => return Err(bad_unit(unit, word, kind)),
    }
    Ok(large)
}

fn first_of(year: i32, month: i32) -> Fields {
    Fields {
        year,
        month,
        day: 1,
        ..Fields::default()
    }
}

/// `date_trunc` on a timestamp.
///
/// # Errors
/// As [`truncate`].
pub fn truncate_timestamp(us: i64, word: &str) -> Result<i64> {
    if is_infinite(us) {
        return Ok(us);
    }
    let mut tm = split_timestamp(us);
    truncate(&mut tm, word, "timestamp without time zone")?;
    tm.timestamp().ok_or_else(timestamp_out_of_range)
}

/// `date_trunc` on an instant, in a zone.
///
/// # Errors
/// As [`truncate`].
pub fn truncate_timestamptz(us: i64, word: &str, zone: &Zone) -> Result<i64> {
    if is_infinite(us) {
        return Ok(us);
    }
    let offset = zone.offset_at(us);
    let mut tm = split_timestamp(us + offset * SECOND_US);
    let large = truncate(&mut tm, word, "timestamp with time zone")?;
    let local = tm.timestamp().ok_or_else(timestamp_out_of_range)?;
    // From a day up the offset is that of the new local time.
    let offset = if large {
        zone.offset_of_local(local)
    } else {
        offset
    };
    Ok(local - offset * SECOND_US)
}

/// `date_trunc` on an interval.
///
/// # Errors
/// 22023, 0A000 for units that cannot be.
pub fn truncate_interval(span: &Interval, word: &str) -> Result<Interval> {
    let unit = extract_unit(word);
    let years = |count: i32| Interval::new(span.months / (12 * count) * (12 * count), 0, 0);
    let time =
        |scale: i64| Interval::new(span.months, span.days, span.microseconds / scale * scale);
    Ok(match unit {
        Some(Unit::Millennium) => years(1000),
        Some(Unit::Century) => years(100),
        Some(Unit::Decade) => years(10),
        Some(Unit::Year) => years(1),
        Some(Unit::Quarter) => Interval::new(span.months / 3 * 3, 0, 0),
        Some(Unit::Month) => Interval::new(span.months, 0, 0),
        Some(Unit::Day) => Interval::new(span.months, span.days, 0),
        Some(Unit::Hour) => time(HOUR_US),
        Some(Unit::Minute) => time(MINUTE_US),
        Some(Unit::Second) => time(SECOND_US),
        Some(Unit::Millisecond) => time(1000),
        Some(Unit::Microsecond) => *span,
        Some(Unit::Week) => {
            return Err(
                bad_unit(unit, word, "interval").detail("Months usually have fractional weeks.")
            );
        }
        _ => return Err(bad_unit(unit, word, "interval")),
    })
}

fn decimals(value: i64, scale: u16) -> Numeric {
    Numeric::from_parts(i128::from(value), scale)
}

/// The seconds, milliseconds and microseconds fields of a time.
fn subseconds(unit: Unit, second: i32, us: i32) -> Numeric {
    let total = i64::from(second) * SECOND_US + i64::from(us);
    match unit {
        Unit::Microsecond => decimals(total, 0),
        Unit::Millisecond => decimals(total, 3),
        _ => decimals(total, 6),
    }
}

/// A field of a local time; `west` is the zone's displacement in seconds where there is one.
/// `None` = the type has no such field.
pub fn extract_field(tm: &Fields, unit: Unit, west: Option<i32>, instant: i64) -> Option<Numeric> {
    let integer = |value: i64| Some(Numeric::from_i64(value));
    let year = tm.year;
    match unit {
        Unit::Microsecond | Unit::Millisecond | Unit::Second => {
            Some(subseconds(unit, tm.second, tm.microsecond))
        }
        Unit::Minute => integer(i64::from(tm.minute)),
        Unit::Hour => integer(i64::from(tm.hour)),
        Unit::Day => integer(i64::from(tm.day)),
        Unit::Month => integer(i64::from(tm.month)),
        Unit::Quarter => integer(i64::from((tm.month - 1) / 3 + 1)),
        Unit::Week => integer(i64::from(iso_week(year, tm.month, tm.day).1)),
        // There is no year 0: 1 BC is -1.
        Unit::Year => integer(i64::from(if year > 0 { year } else { year - 1 })),
        Unit::IsoYear => {
            let iso = iso_week(year, tm.month, tm.day).0;
            integer(i64::from(if iso > 0 { iso } else { iso - 1 }))
        }
        Unit::Decade => integer(i64::from(if year >= 0 {
            year / 10
        } else {
            -((8 - (year - 1)) / 10)
        })),
        Unit::Century => integer(i64::from(if year > 0 {
            (year + 99) / 100
        } else {
            -((99 - (year - 1)) / 100)
        })),
        Unit::Millennium => integer(i64::from(if year > 0 {
            (year + 999) / 1000
        } else {
            -((999 - (year - 1)) / 1000)
        })),
        Unit::DayOfWeek | Unit::IsoDayOfWeek => {
            let day = super::day_of_week(to_julian(year, tm.month, tm.day));
            let day = if unit == Unit::IsoDayOfWeek && day == 0 {
                7
            } else {
                day
            };
            integer(i64::from(day))
        }
        Unit::DayOfYear => integer(date_of(year, tm.month, tm.day) - date_of(year, 1, 1) + 1),
        Unit::Julian => {
            let day = Numeric::from_i64(to_julian(year, tm.month, tm.day));
            let part = decimals(tm.time(), 0)
                .div(&Numeric::from_i64(DAY_US))
                .ok()?;
            day.add(&part).ok()
        }
        Unit::Epoch => {
            let us = i128::from(instant) + i128::from(UNIX_US);
            Some(Numeric::from_parts(us, 6))
        }
        Unit::Timezone => integer(-i64::from(west?)),
        Unit::TimezoneHour => integer(-i64::from(west?) / 3600),
        Unit::TimezoneMinute => integer(-i64::from(west?) / 60 % 60),
    }
}

/// A field of an interval; `None` = intervals have no such field.
pub fn extract_interval(span: &Interval, unit: Unit) -> Option<Numeric> {
    let p = super::interval_text::parts(span);
    let integer = |value: i64| Some(Numeric::from_i64(value));
    match unit {
        Unit::Microsecond | Unit::Millisecond | Unit::Second => {
            Some(subseconds(unit, p.seconds, p.us))
        }
        Unit::Minute => integer(i64::from(p.minutes)),
        Unit::Hour => integer(p.hours),
        Unit::Day => integer(i64::from(p.days)),
        Unit::Month => integer(i64::from(p.months)),
        Unit::Quarter => integer(i64::from(p.months / 3 + 1)),
        Unit::Year => integer(i64::from(p.years)),
        Unit::Decade => integer(i64::from(p.years / 10)),
        Unit::Century => integer(i64::from(p.years / 100)),
        Unit::Millennium => integer(i64::from(p.years / 1000)),
        Unit::Epoch => {
            // A year counts 365.25 days here, a month 30.
            let hours =
                i128::from(p.years) * 8766 + (i128::from(p.months) * 30 + i128::from(p.days)) * 24;
            let us = hours * i128::from(HOUR_US) + i128::from(span.microseconds);
            Some(Numeric::from_parts(us, 6))
        }
        _ => None,
    }
}
