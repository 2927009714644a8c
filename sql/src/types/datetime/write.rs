//! The text forms of dates, times and timestamps in the four date styles.

use super::{
    DATE_INFINITY, DATE_NEGATIVE_INFINITY, EPOCH_JULIAN, Fields, SECOND_US, day_of_week,
    from_julian, split_time, split_timestamp, to_julian,
};
use crate::types::{DateOrder, DateStyle, FormatSettings};

pub(crate) const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
pub(crate) const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// Appends a number with at least `width` digits.
pub(super) fn pad(value: i32, width: usize, out: &mut Vec<u8>) {
    let mut buffer = [b'0'; 12];
    let mut at = buffer.len();
    let mut rest = value.unsigned_abs();
    while rest > 0 || buffer.len() - at < width {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&buffer[at..]);
}

/// Appends `.123` without trailing zeros; nothing for zero.
pub(super) fn fraction(us: i32, out: &mut Vec<u8>) {
    if us == 0 {
        return;
    }
    out.push(b'.');
    let start = out.len();
    pad(us, 6, out);
    while out.len() > start && out.last() == Some(&b'0') {
        out.pop();
    }
}

fn clock(tm: &Fields, out: &mut Vec<u8>) {
    pad(tm.hour, 2, out);
    out.push(b':');
    pad(tm.minute, 2, out);
    out.push(b':');
    pad(tm.second, 2, out);
    fraction(tm.microsecond, out);
}

/// Appends `+hh[:mm[:ss]]`; `west` in seconds.
pub(crate) fn offset(west: i32, out: &mut Vec<u8>) {
    out.push(if west <= 0 { b'+' } else { b'-' });
    let seconds = west.abs();
    pad(seconds / 3600, 2, out);
    if seconds % 3600 != 0 {
        out.push(b':');
        pad(seconds / 60 % 60, 2, out);
        if seconds % 60 != 0 {
            out.push(b':');
            pad(seconds % 60, 2, out);
        }
    }
}

/// The year as printed: 1 BC for the year 0.
fn shown_year(year: i32) -> i32 {
    if year > 0 { year } else { 1 - year }
}

fn era(year: i32, out: &mut Vec<u8>) {
    if year <= 0 {
        out.extend_from_slice(b" BC");
    }
}

fn iso_date(tm: &Fields, out: &mut Vec<u8>) {
    pad(shown_year(tm.year), 4, out);
    out.push(b'-');
    pad(tm.month, 2, out);
    out.push(b'-');
    pad(tm.day, 2, out);
}

/// Day and month, in the order of DateOrder, with a separator.
fn day_month(tm: &Fields, order: DateOrder, separator: u8, out: &mut Vec<u8>) {
    let (first, second) = if order == DateOrder::Dmy {
        (tm.day, tm.month)
    } else {
        (tm.month, tm.day)
    };
    pad(first, 2, out);
    out.push(separator);
    pad(second, 2, out);
}

/// Appends a date.
pub fn write_date(value: i32, format: &FormatSettings, out: &mut Vec<u8>) {
    match value {
        DATE_INFINITY => return out.extend_from_slice(b"infinity"),
        DATE_NEGATIVE_INFINITY => return out.extend_from_slice(b"-infinity"),
        _ => {}
    }
    let (year, month, day) = from_julian(i64::from(value) + EPOCH_JULIAN);
    let tm = Fields {
        year,
        month,
        day,
        ..Fields::default()
    };
    match format.date_style {
        DateStyle::Iso => iso_date(&tm, out),
        DateStyle::Sql => {
            day_month(&tm, format.date_order, b'/', out);
            out.push(b'/');
            pad(shown_year(year), 4, out);
        }
        DateStyle::German => {
            pad(day, 2, out);
            out.push(b'.');
            pad(month, 2, out);
            out.push(b'.');
            pad(shown_year(year), 4, out);
        }
        DateStyle::Postgres => {
            day_month(&tm, format.date_order, b'-', out);
            out.push(b'-');
            pad(shown_year(year), 4, out);
        }
    }
    era(year, out);
}

/// Appends a time of day.
pub fn write_time(value: i64, out: &mut Vec<u8>) {
    clock(&split_time(value), out);
}

/// Appends a time of day with its zone.
pub fn write_timetz(value: i64, west: i32, format: &FormatSettings, out: &mut Vec<u8>) {
    let _ = format;
    clock(&split_time(value), out);
    offset(west, out);
}

/// Appends a timestamp.
pub fn write_timestamp(value: i64, format: &FormatSettings, out: &mut Vec<u8>) {
    if !write_infinity(value, out) {
        write_fields(&split_timestamp(value), None, format, out);
    }
}

/// Appends a timestamp with the session's zone.
pub fn write_timestamptz(value: i64, format: &FormatSettings, out: &mut Vec<u8>) {
    if write_infinity(value, out) {
        return;
    }
    let east = format.zone.offset_at(value);
    let tm = split_timestamp(value.saturating_add(east * SECOND_US));
    write_fields(&tm, Some((-east as i32, value)), format, out);
}

fn write_infinity(value: i64, out: &mut Vec<u8>) -> bool {
    match value {
        i64::MAX => out.extend_from_slice(b"infinity"),
        i64::MIN => out.extend_from_slice(b"-infinity"),
        _ => return false,
    }
    true
}

/// `zone`: seconds west, and the instant (for the abbreviation).
fn write_fields(tm: &Fields, zone: Option<(i32, i64)>, format: &FormatSettings, out: &mut Vec<u8>) {
    // The other styles name the zone by its abbreviation.
    let named = |out: &mut Vec<u8>| {
        if let Some((_, instant)) = zone {
            out.push(b' ');
            out.extend_from_slice(format.zone.abbreviation_at(instant).as_bytes());
        }
    };
    match format.date_style {
        DateStyle::Iso => {
            iso_date(tm, out);
            out.push(b' ');
            clock(tm, out);
            if let Some((west, _)) = zone {
                offset(west, out);
            }
        }
        DateStyle::Sql => {
            day_month(tm, format.date_order, b'/', out);
            out.push(b'/');
            pad(shown_year(tm.year), 4, out);
            out.push(b' ');
            clock(tm, out);
            named(out);
        }
        DateStyle::German => {
            pad(tm.day, 2, out);
            out.push(b'.');
            pad(tm.month, 2, out);
            out.push(b'.');
            pad(shown_year(tm.year), 4, out);
            out.push(b' ');
            clock(tm, out);
            named(out);
        }
        DateStyle::Postgres => {
            let weekday = day_of_week(to_julian(tm.year, tm.month, tm.day));
            out.extend_from_slice(DAYS[weekday as usize].as_bytes());
            out.push(b' ');
            let month = MONTHS[(tm.month - 1) as usize].as_bytes();
            if format.date_order == DateOrder::Dmy {
                pad(tm.day, 2, out);
                out.push(b' ');
                out.extend_from_slice(month);
            } else {
                out.extend_from_slice(month);
                out.push(b' ');
                pad(tm.day, 2, out);
            }
            out.push(b' ');
            clock(tm, out);
            out.push(b' ');
            pad(shown_year(tm.year), 4, out);
            named(out);
        }
    }
    era(tm.year, out);
}
