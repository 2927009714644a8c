//! Dates, times and intervals: the calendar, and PostgreSQL's text forms of each type.

pub mod compute;
pub mod interval_text;
pub mod parse;
pub mod tokens;
pub mod write;
pub mod zone;

use crate::error::{Error, Result, state};
use crate::types::FormatSettings;

pub use interval_text::{read_interval, write_interval};
pub use parse::{read_date, read_time, read_timestamp, read_timestamptz, read_timetz};
pub use write::{write_date, write_time, write_timestamp, write_timestamptz, write_timetz};

/// The Julian day of 2000-01-01.
pub const EPOCH_JULIAN: i64 = 2_451_545;

/// Days from 1970-01-01 to 2000-01-01.
pub const UNIX_DAYS: i64 = 10_957;

/// Microseconds from 1970-01-01 to 2000-01-01.
pub const UNIX_US: i64 = UNIX_DAYS * DAY_US;

/// Microseconds of a second, a minute, an hour and a day.
pub const SECOND_US: i64 = 1_000_000;
/// A minute.
pub const MINUTE_US: i64 = 60 * SECOND_US;
/// An hour.
pub const HOUR_US: i64 = 60 * MINUTE_US;
/// A day.
pub const DAY_US: i64 = 24 * HOUR_US;

/// The first timestamp, 4714-11-24 BC.
pub const TIMESTAMP_MIN: i64 = -211_813_488_000_000_000;
/// The first instant after the last timestamp, 294277-01-01.
pub const TIMESTAMP_END: i64 = 9_223_371_331_200_000_000;

/// `date` and timestamp values for the infinities.
pub const DATE_INFINITY: i32 = i32::MAX;
/// Minus infinity.
pub const DATE_NEGATIVE_INFINITY: i32 = i32::MIN;

/// A point in time in its parts; the year 0 is 1 BC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// Astronomical year.
    pub year: i32,
    /// 1 to 12.
    pub month: i32,
    /// 1 to 31.
    pub day: i32,
    /// 0 to 24.
    pub hour: i32,
    /// 0 to 59.
    pub minute: i32,
    /// 0 to 60.
    pub second: i32,
    /// 0 to 1000000.
    pub microsecond: i32,
}

/// The Julian day of a date of the proleptic Gregorian calendar.
pub fn to_julian(year: i32, month: i32, day: i32) -> i64 {
    let (year, month) = if month > 2 {
        (i64::from(year) + 4800, i64::from(month) + 1)
    } else {
        (i64::from(year) + 4799, i64::from(month) + 13)
    };
    let century = year.div_euclid(100);
    let mut julian = year * 365 - 32_167;
    julian += year.div_euclid(4) - century + century.div_euclid(4);
    julian + 7834 * month / 256 + i64::from(day)
}

/// Year, month and day of a Julian day.
pub fn from_julian(julian: i64) -> (i32, i32, i32) {
    // Civil-from-days on 400-year cycles that begin in March.
    let shifted = julian - 1_721_120;
    let cycle = shifted.div_euclid(146_097);
    let day_of_cycle = shifted.rem_euclid(146_097);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year =
        day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    let year = year_of_cycle + cycle * 400 + i64::from(month <= 2);
    (year as i32, month as i32, day as i32)
}

/// Days since 2000-01-01.
pub fn date_of(year: i32, month: i32, day: i32) -> i64 {
    to_julian(year, month, day) - EPOCH_JULIAN
}

/// Whether the date is one PostgreSQL can hold: 4714-11-24 BC to 5874897-12-31.
pub fn is_valid_date(days: i32) -> bool {
    let days = i64::from(days);
    (-EPOCH_JULIAN..2_147_483_494 - EPOCH_JULIAN).contains(&days)
}

/// Whether the timestamp is one PostgreSQL can hold, infinities left aside.
pub fn is_valid_timestamp(us: i64) -> bool {
    (TIMESTAMP_MIN..TIMESTAMP_END).contains(&us)
}

/// True for the values that stand for plus and minus infinity.
pub fn is_infinite(us: i64) -> bool {
    us == i64::MIN || us == i64::MAX
}

/// Gregorian leap year.
pub fn is_leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days of a month.
pub fn days_in_month(year: i32, month: i32) -> i32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// 0 = Sunday.
pub fn day_of_week(julian: i64) -> i32 {
    (julian + 1).rem_euclid(7) as i32
}

/// The parts of a timestamp without zone.
pub fn split_timestamp(us: i64) -> Fields {
    let days = us.div_euclid(DAY_US);
    let (year, month, day) = from_julian(days + EPOCH_JULIAN);
    Fields {
        year,
        month,
        day,
        ..split_time(us.rem_euclid(DAY_US))
    }
}

/// The parts of a time of day; the date is zero.
pub fn split_time(us: i64) -> Fields {
    Fields {
        year: 0,
        month: 0,
        day: 0,
        hour: (us / HOUR_US) as i32,
        minute: (us / MINUTE_US % 60) as i32,
        second: (us / SECOND_US % 60) as i32,
        microsecond: (us % SECOND_US) as i32,
    }
}

impl Fields {
    /// Microseconds since midnight.
    pub fn time(&self) -> i64 {
        i64::from(self.hour) * HOUR_US
            + i64::from(self.minute) * MINUTE_US
            + i64::from(self.second) * SECOND_US
            + i64::from(self.microsecond)
    }

    /// Microseconds since 2000-01-01 as these fields read; `None` out of range.
    pub fn timestamp(&self) -> Option<i64> {
        if !self.is_julian() {
            return None;
        }
        let days = date_of(self.year, self.month, self.day);
        let us = days.checked_mul(DAY_US)?.checked_add(self.time())?;
        is_valid_timestamp(us).then_some(us)
    }

    /// Within the Julian calendar that PostgreSQL computes with.
    pub fn is_julian(&self) -> bool {
        let (year, month) = (self.year, self.month);
        (year > -4713 || (year == -4713 && month >= 11))
            && (year < 5_874_898 || (year == 5_874_898 && month < 6))
    }
}

/// 22008, "timestamp out of range".
pub fn timestamp_out_of_range() -> Error {
    Error::new(state::DATETIME_FIELD_OVERFLOW, "timestamp out of range")
}

/// 22008, "date out of range".
pub fn date_out_of_range() -> Error {
    Error::new(state::DATETIME_FIELD_OVERFLOW, "date out of range")
}

/// 22008, "interval out of range".
pub fn interval_out_of_range() -> Error {
    Error::new(state::DATETIME_FIELD_OVERFLOW, "interval out of range")
}

/// Local time of an instant in the session's zone.
pub fn to_local(us: i64, format: &FormatSettings) -> i64 {
    if is_infinite(us) {
        us
    } else {
        us.saturating_add(format.zone.offset_at(us) * SECOND_US)
    }
}

/// The instant of a local time in the session's zone.
///
/// # Errors
/// 22008 when it is out of range.
pub fn from_local(us: i64, format: &FormatSettings) -> Result<i64> {
    if is_infinite(us) {
        return Ok(us);
    }
    let instant = us.checked_sub(format.zone.offset_of_local(us) * SECOND_US);
    instant
        .filter(|us| is_valid_timestamp(*us))
        .ok_or_else(timestamp_out_of_range)
}

/// The timestamp at midnight of a date.
///
/// # Errors
/// 22008 when it is out of range.
pub fn date_to_timestamp(days: i32) -> Result<i64> {
    match days {
        DATE_INFINITY => Ok(i64::MAX),
        DATE_NEGATIVE_INFINITY => Ok(i64::MIN),
        days => i64::from(days)
            .checked_mul(DAY_US)
            .filter(|us| is_valid_timestamp(*us))
            .ok_or_else(|| {
                Error::new(
                    state::DATETIME_FIELD_OVERFLOW,
                    "date out of range for timestamp",
                )
            }),
    }
}

/// The date of a timestamp.
pub fn timestamp_to_date(us: i64) -> i32 {
    match us {
        i64::MIN => DATE_NEGATIVE_INFINITY,
        i64::MAX => DATE_INFINITY,
        us => us.div_euclid(DAY_US) as i32,
    }
}
