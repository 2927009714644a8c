//! `to_char` of timestamps and intervals.

use super::template::{self, Field, Node};
use super::{mismatch, ordinal};
use crate::error::Result;
use crate::types::Interval;
use crate::types::datetime::compute::iso_week;
use crate::types::datetime::{self, Fields, date_of, day_of_week, split_timestamp, to_julian};

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub(super) const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
pub(super) const ROMAN: [&str; 12] = [
    "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII",
];

/// What is printed.
pub(super) struct Value {
    tm: Fields,
    /// Hours of intervals go beyond a day.
    hour: i64,
    day_of_year: i64,
    interval: bool,
    /// Seconds east and abbreviation.
    zone: Option<(i64, String)>,
}

impl Value {
    /// A local time.
    pub fn of_timestamp(us: i64, zone: Option<(i64, String)>) -> Value {
        let tm = split_timestamp(us);
        let day_of_year = date_of(tm.year, tm.month, tm.day) - date_of(tm.year, 1, 1) + 1;
        Value {
            tm,
            hour: i64::from(tm.hour),
            day_of_year,
            interval: false,
            zone,
        }
    }

    /// An interval.
    pub fn of_interval(span: &Interval) -> Value {
        let p = datetime::interval_text::parts(span);
        let tm = Fields {
            year: p.years,
            month: p.months,
            day: p.days,
            hour: 0,
            minute: p.minutes,
            second: p.seconds,
            microsecond: p.us,
        };
        let day_of_year = (i64::from(p.years) * 12 + i64::from(p.months)) * 30 + i64::from(p.days);
        Value {
            tm,
            hour: p.hours,
            day_of_year,
            interval: true,
            zone: None,
        }
    }
}

fn padded(value: i64, width: usize, fill: bool) -> String {
    if fill {
        return value.to_string();
    }
    // A negative number takes one more place for its sign.
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{:0>width$}", value.unsigned_abs())
}

/// As C's `%0*d`: the sign counts for the width.
fn narrow(value: i64, width: usize, fill: bool) -> String {
    let width = if value < 0 {
        width.saturating_sub(1)
    } else {
        width
    };
    padded(value, width, fill)
}

/// A name in the case of the field's name.
fn cased(name: &str, written: &str) -> String {
    let mut letters = written.chars().filter(|c| c.is_ascii_alphabetic());
    let first = letters.next().is_some_and(|c| c.is_ascii_uppercase());
    let second = letters.next().is_some_and(|c| c.is_ascii_uppercase());
    match (first, second) {
        (true, true) => name.to_uppercase(),
        (true, false) => name.to_owned(),
        _ => name.to_lowercase(),
    }
}

fn word(name: &str, field: &Field, width: usize) -> String {
    let name = cased(name, &field.written);
    if field.fill {
        name
    } else {
        format!("{name:<width$}")
    }
}

/// Prints a value by a template.
pub(super) fn write(value: &Value, pattern: &str) -> Result<String> {
    let mut out = String::new();
    for node in template::date(pattern) {
        match node {
            Node::Text(c) | Node::Space(c) | Node::Separator(c) => out.push(c),
            Node::Field(field) => out.push_str(&write_field(value, &field)?),
        }
    }
    Ok(out)
}

fn with_ordinal(text: String, field: &Field) -> String {
    match field.ordinal {
        None => text,
        Some(upper) => {
            let ending = ordinal(&text);
            let ending = if upper {
                ending.to_uppercase()
            } else {
                ending.to_owned()
            };
            text + &ending
        }
    }
}

const NOT_FOR_INTERVALS: &[&str] = &[
    "TZ", "TZH", "TZM", "OF", "A.D.", "B.C.", "AD", "BC", "DAY", "DY", "D", "ID", "IW", "I", "IY",
    "IYY", "IYYY", "IDDD",
];

fn write_field(value: &Value, field: &Field) -> Result<String> {
    let tm = &value.tm;
    if value.interval && NOT_FOR_INTERVALS[..13].contains(&field.name) && field.name != "IW" {
        return Err(
            mismatch("invalid format specification for an interval value")
                .hint("Intervals are not tied to specific calendar dates."),
        );
    }
    let number = |n: i64, width: usize| with_ordinal(padded(n, width, field.fill), field);
    let small = |n: i32, width: usize| number(i64::from(n), width);
    // 1 BC is the year 0.
    let shown = |year: i32| {
        if value.interval || year > 0 {
            year
        } else {
            1 - year
        }
    };
    let hour12 = || {
        let hour = value.hour % 12;
        if hour == 0 { 12 } else { hour }
    };
    Ok(match field.name {
        "A.M." | "P.M." | "AM" | "PM" => {
            let pm = value.hour % 24 >= 12;
            let dotted = field.name.contains('.');
            let text = match (pm, dotted) {
                (false, false) => "AM",
                (true, false) => "PM",
                (false, true) => "A.M.",
                (true, true) => "P.M.",
            };
            cased(text, &field.written)
        }
        "A.D." | "B.C." | "AD" | "BC" => {
            let dotted = field.name.contains('.');
            let text = match (tm.year <= 0, dotted) {
                (false, false) => "AD",
                (true, false) => "BC",
                (false, true) => "A.D.",
                (true, true) => "B.C.",
            };
            cased(text, &field.written)
        }
        "HH" | "HH12" => number(hour12(), 2),
        "HH24" => number(value.hour, 2),
        "MI" => small(tm.minute, 2),
        "SS" => small(tm.second, 2),
        "MS" => number(i64::from(tm.microsecond / 1000), 3),
        "US" => small(tm.microsecond, 6),
        "FF1" | "FF2" | "FF3" | "FF4" | "FF5" | "FF6" => {
            let digits = (field.name.as_bytes()[2] - b'0') as usize;
            let scaled = tm.microsecond / 10i32.pow(6 - digits as u32);
            with_ordinal(padded(i64::from(scaled), digits, false), field)
        }
        "SSSS" | "SSSSS" => {
            let seconds = value.hour * 3600 + i64::from(tm.minute) * 60 + i64::from(tm.second);
            with_ordinal(seconds.to_string(), field)
        }
        "TZ" => match &value.zone {
            Some((_, name)) => cased(name, &format!("{0}{0}", &field.written[..1])),
            None => String::new(),
        },
        "TZH" => {
            let east = value.zone.as_ref().map_or(0, |(east, _)| *east);
            let sign = if east >= 0 { '+' } else { '-' };
            format!("{sign}{:02}", east.abs() / 3600)
        }
        "TZM" => {
            let east = value.zone.as_ref().map_or(0, |(east, _)| *east);
            format!("{:02}", east.abs() % 3600 / 60)
        }
        "OF" => {
            let east = value.zone.as_ref().map_or(0, |(east, _)| *east);
            let sign = if east >= 0 { '+' } else { '-' };
            let minutes = east.abs() % 3600 / 60;
            let hours = padded(east.abs() / 3600, 2, field.fill);
            if minutes == 0 {
                format!("{sign}{hours}")
            } else {
                format!("{sign}{hours}:{minutes:02}")
            }
        }
        "MONTH" | "MON" if value.interval => {
            return Err(
                mismatch("invalid format specification for an interval value")
                    .hint("Intervals are not tied to specific calendar dates."),
            );
        }
        "MONTH" => word(MONTHS[tm.month as usize - 1], field, 9),
        "MON" => cased(&MONTHS[tm.month as usize - 1][..3], &field.written),
        "MM" => small(tm.month, 2),
        "DAY" => word(DAYS[weekday(tm)], field, 9),
        "DY" => cased(&DAYS[weekday(tm)][..3], &field.written),
        "DDD" => with_ordinal(narrow(value.day_of_year, 3, field.fill), field),
        "IDDD" => {
            let (year, week) = iso_week(tm.year, tm.month, tm.day);
            let _ = year;
            let day = i64::from(week - 1) * 7 + iso_weekday(tm) as i64;
            number(day, 3)
        }
        "DD" => with_ordinal(narrow(i64::from(tm.day), 2, field.fill), field),
        "D" => with_ordinal((weekday(tm) + 1).to_string(), field),
        "ID" => with_ordinal(iso_weekday(tm).to_string(), field),
        "WW" => number((value.day_of_year - 1) / 7 + 1, 2),
        "IW" => small(iso_week(tm.year, tm.month, tm.day).1, 2),
        "Q" if tm.month == 0 => String::new(),
        "Q" => with_ordinal(((tm.month - 1) / 3 + 1).to_string(), field),
        "CC" => {
            let century = if value.interval {
                tm.year / 100
            } else if tm.year > 0 {
                (tm.year - 1) / 100 + 1
            } else {
                tm.year / 100 - 1
            };
            small(century, 2)
        }
        "Y,YYY" => {
            let year = shown(tm.year);
            with_ordinal(format!("{},{:03}", year / 1000, year % 1000), field)
        }
        "YYYY" => small(shown(tm.year), 4),
        "IYYY" => small(shown(iso_year(tm)), 4),
        "YYY" => small(shown(tm.year) % 1000, 3),
        "IYY" => small(shown(iso_year(tm)) % 1000, 3),
        "YY" => small(shown(tm.year) % 100, 2),
        "IY" => small(shown(iso_year(tm)) % 100, 2),
        "Y" => small(shown(tm.year) % 10, 1),
        "I" => small(shown(iso_year(tm)) % 10, 1),
        "RM" => roman(value, field),
        "W" => with_ordinal(((tm.day - 1) / 7 + 1).to_string(), field),
        "J" => with_ordinal(to_julian(tm.year, tm.month, tm.day).to_string(), field),
        _ => String::new(),
    })
}

fn roman(value: &Value, field: &Field) -> String {
    let tm = &value.tm;
    // Intervals count months from zero, and backwards below it.
    if tm.month == 0 && (!value.interval || tm.year == 0) {
        return String::new();
    }
    let month = if tm.month == 0 {
        12
    } else if tm.month < 0 {
        tm.month + 13
    } else {
        tm.month
    };
    let name = cased(ROMAN[(month - 1).clamp(0, 11) as usize], &field.written);
    if field.fill {
        name
    } else {
        format!("{name:<4}")
    }
}

fn weekday(tm: &Fields) -> usize {
    day_of_week(to_julian(tm.year, tm.month, tm.day)) as usize
}

fn iso_weekday(tm: &Fields) -> usize {
    match weekday(tm) {
        0 => 7,
        day => day,
    }
}

fn iso_year(tm: &Fields) -> i32 {
    iso_week(tm.year, tm.month, tm.day).0
}
