//! `to_date` and `to_timestamp`: reading a text by a template.

use super::mismatch;
use super::template::{self, Field, Node};
use super::write_date::{DAYS, MONTHS, ROMAN};
use crate::error::{Error, Result, state};
use crate::types::datetime::compute::iso_week_start;
use crate::types::datetime::{
    self, EPOCH_JULIAN, Fields, HOUR_US, MINUTE_US, SECOND_US, date_of, days_in_month, from_julian,
    is_valid_date, is_valid_timestamp,
};
use crate::types::{Datum, FormatSettings};

/// Fields as they were read; zero = not given, as in PostgreSQL.
#[derive(Default)]
struct Read {
    hour: i32,
    pm: Option<bool>,
    twelve: bool,
    minute: i32,
    second: i32,
    seconds_of_day: i32,
    day_of_week: i32,
    day: i32,
    day_of_year: i32,
    month: i32,
    millisecond: i32,
    microsecond: i32,
    year: i32,
    bc: bool,
    week_of_year: i32,
    week_of_month: i32,
    century: i32,
    julian: i32,
    year_digits: usize,
    zone_sign: i32,
    zone_hours: i32,
    zone_minutes: i32,
    iso: Option<bool>,
}

struct Input<'a> {
    text: &'a str,
    /// Bytes already read.
    at: usize,
}

impl<'a> Input<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn step(&mut self) {
        self.at += self.peek().map_or(0, char::len_utf8);
    }

    fn skip_blanks(&mut self) -> i32 {
        let mut count = 0;
        while self.peek().is_some_and(|c| c.is_ascii_whitespace()) {
            self.at += 1;
            count += 1;
        }
        count
    }
}

fn is_separator(c: char) -> bool {
    c.is_ascii_punctuation()
}

fn set(slot: &mut i32, value: i32, field: &Field) -> Result<()> {
    if *slot != 0 && *slot != value {
        return Err(mismatch(format!(
            "conflicting values for \"{}\" field in formatting string",
            field.written
        ))
        .detail("This value contradicts a previous setting for the same field type."));
    }
    *slot = value;
    Ok(())
}

/// What C's `strtol` reads: sign and digits; `None` = nothing.
fn leading_integer(text: &str) -> Option<(i64, usize)> {
    let blanks = text.len() - text.trim_start_matches([' ', '\t', '\n']).len();
    let body = &text[blanks..];
    let sign = usize::from(body.starts_with(['-', '+']));
    let digits = body[sign..].bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return None;
    }
    let end = sign + digits;
    Some((body[..end].parse().unwrap_or(i64::MAX), blanks + end))
}

struct Parser<'a> {
    input: Input<'a>,
    read: Read,
    exact: bool,
    nodes: Vec<Node>,
}

impl Parser<'_> {
    /// Whether what follows the node cannot be a digit, so that a number ends by itself.
    fn ends_by_itself(&self, index: usize) -> bool {
        match &self.nodes[index] {
            Node::Field(field) if field.ordinal.is_some() => return true,
            _ => {}
        }
        match self.nodes.get(index + 1) {
            None => true,
            Some(Node::Field(field)) => !matches!(
                field.name,
                "CC" | "DDD"
                    | "DD"
                    | "D"
                    | "FF1"
                    | "FF2"
                    | "FF3"
                    | "FF4"
                    | "FF5"
                    | "FF6"
                    | "HH24"
                    | "HH12"
                    | "HH"
                    | "IDDD"
                    | "ID"
                    | "IW"
                    | "IYYY"
                    | "IYY"
                    | "IY"
                    | "I"
                    | "J"
                    | "MI"
                    | "MM"
                    | "MS"
                    | "Q"
                    | "SSSSS"
                    | "SSSS"
                    | "SS"
                    | "US"
                    | "WW"
                    | "W"
                    | "Y,YYY"
                    | "YYYY"
                    | "YYY"
                    | "YY"
                    | "Y"
            ),
            Some(Node::Text(c) | Node::Space(c) | Node::Separator(c)) => !c.is_ascii_digit(),
        }
    }

    /// Reads a number of at most `length` characters; gives it and how many it took.
    fn number(&mut self, field: &Field, index: usize, length: usize) -> Result<(i32, usize)> {
        self.input.skip_blanks();
        let rest = self.input.rest();
        let copy: String = rest.chars().take(length).collect();
        let invalid = |detail: String| {
            mismatch(format!(
                "invalid value \"{copy}\" for \"{}\"",
                field.written
            ))
            .detail(detail)
        };
        let (value, used) = if field.fill || self.ends_by_itself(index) {
            leading_integer(rest).ok_or_else(|| invalid("Value must be an integer.".to_owned()))?
        } else {
            if copy.len() < length {
                return Err(mismatch(format!(
                    "source string too short for \"{}\" formatting field",
                    field.written
                ))
                .detail(format!(
                    "Field requires {length} characters, but only {} remain.",
                    copy.len()
                ))
                .hint("If your source string is not fixed-width, try using the \"FM\" modifier."));
            }
            let (value, used) = leading_integer(&copy)
                .ok_or_else(|| invalid("Value must be an integer.".to_owned()))?;
            if used < length {
                return Err(invalid(format!(
                    "Field requires {length} characters, but only {used} could be parsed."
                )));
            }
            (value, used)
        };
        self.input.at += used;
        let value = i32::try_from(value).map_err(|_| {
            Error::new(
                state::DATETIME_FIELD_OVERFLOW,
                format!(
                    "value for \"{}\" in source string is out of range",
                    field.written
                ),
            )
            .detail("Value must be in the range -2147483648 to 2147483647.")
        })?;
        Ok((value, used))
    }

    /// Reads one of a list of words, any case; gives its index.
    fn word(&mut self, field: &Field, words: &[&str]) -> Result<i32> {
        let rest = self.input.rest();
        let found = words.iter().enumerate().filter(|(_, word)| {
            rest.get(..word.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(word))
        });
        match found.max_by_key(|(_, word)| word.len()) {
            Some((index, word)) => {
                self.input.at += word.len();
                Ok(index as i32)
            }
            None => {
                let shown: String = rest
                    .split_ascii_whitespace()
                    .next()
                    .unwrap_or("")
                    .to_owned();
                Err(mismatch(format!(
                    "invalid value \"{shown}\" for \"{}\"",
                    field.written
                ))
                .detail("The given value did not match any of the allowed values for this field."))
            }
        }
    }

    fn run(&mut self) -> Result<()> {
        let mut extra = 0i32;
        for index in 0..self.nodes.len() {
            if self.input.rest().is_empty() {
                break;
            }
            let node = self.nodes[index].clone();
            if !self.exact && (matches!(node, Node::Field(_)) || index == 0) {
                extra += self.input.skip_blanks();
            }
            match node {
                Node::Space(_) | Node::Separator(_) if self.exact => self.input.step(),
                Node::Space(_) | Node::Separator(_) => {
                    extra -= 1;
                    let next = self.input.peek();
                    if next.is_some_and(|c| c.is_ascii_whitespace() || is_separator(c)) {
                        self.input.step();
                        extra += 1;
                    }
                }
                Node::Text(_) if !self.exact && extra > 0 => extra -= 1,
                Node::Text(_) => self.input.step(),
                Node::Field(field) => {
                    self.field(&field, index, extra)?;
                    if !self.exact {
                        extra = self.input.skip_blanks();
                    }
                }
            }
        }
        Ok(())
    }

    fn iso_mode(&mut self, field: &Field) -> Result<()> {
        let mode = match field.name {
            "IYYY" | "IYY" | "IY" | "I" | "IW" | "ID" | "IDDD" => true,
            "Y,YYY" | "YYYY" | "YYY" | "YY" | "Y" | "CC" | "MM" | "MON" | "MONTH" | "RM" | "DD"
            | "DDD" | "D" | "DAY" | "DY" | "WW" | "W" => false,
            _ => return Ok(()),
        };
        match self.read.iso {
            Some(other) if other != mode => Err(mismatch(
                "invalid combination of date conventions",
            )
            .hint("Do not mix Gregorian and ISO week date conventions in a formatting template.")),
            _ => {
                self.read.iso = Some(mode);
                Ok(())
            }
        }
    }

    fn field(&mut self, field: &Field, index: usize, extra: i32) -> Result<()> {
        self.iso_mode(field)?;
        macro_rules! store {
            ($slot:ident, $length:expr) => {{
                let (value, _) = self.number(field, index, $length)?;
                set(&mut self.read.$slot, value, field)?;
            }};
        }
        match field.name {
            "FX" => self.exact = true,
            "A.M." | "P.M." => {
                let at = self.word(field, &["a.m.", "p.m."])?;
                self.read.pm = Some(at % 2 == 1);
                self.read.twelve = true;
            }
            "AM" | "PM" => {
                let at = self.word(field, &["am", "pm"])?;
                self.read.pm = Some(at % 2 == 1);
                self.read.twelve = true;
            }
            "HH" | "HH12" => {
                store!(hour, 2);
                self.read.twelve = true;
            }
            "HH24" => store!(hour, 2),
            "MI" => store!(minute, 2),
            "SS" => store!(second, 2),
            "MS" => {
                let (value, used) = self.number(field, index, 3)?;
                let scale = [100, 100, 10].get(used).copied().unwrap_or(1);
                set(&mut self.read.millisecond, value * scale, field)?;
            }
            "US" | "FF1" | "FF2" | "FF3" | "FF4" | "FF5" | "FF6" => {
                let digits = if field.name == "US" {
                    6
                } else {
                    usize::from(field.name.as_bytes()[2] - b'0')
                };
                let (value, used) = self.number(field, index, digits)?;
                let scale = 10i32.pow(6 - used.clamp(1, 6) as u32);
                set(
                    &mut self.read.microsecond,
                    value.saturating_mul(scale),
                    field,
                )?;
            }
            "SSSS" | "SSSSS" => store!(seconds_of_day, field.name.len()),
            "TZ" | "OF" => {
                return Err(Error::new(
                    state::FEATURE_NOT_SUPPORTED,
                    format!(
                        "formatting field \"{}\" is only supported in to_char",
                        field.written
                    ),
                ));
            }
            "TZH" => {
                let before = self.input.text[..self.input.at].ends_with('-');
                self.read.zone_sign = match self.input.peek() {
                    Some(c @ ('+' | '-' | ' ')) => {
                        self.input.step();
                        if c == '-' { -1 } else { 1 }
                    }
                    // A sign that was skipped as a separator still counts.
                    _ if extra > 0 && before => -1,
                    _ => 1,
                };
                store!(zone_hours, 2);
            }
            "TZM" => {
                if self.read.zone_sign == 0 {
                    self.read.zone_sign = 1;
                }
                store!(zone_minutes, 2);
            }
            "A.D." | "B.C." => self.read.bc = self.word(field, &["a.d.", "b.c."])? == 1,
            "AD" | "BC" => self.read.bc = self.word(field, &["ad", "bc"])? == 1,
            "MONTH" => {
                let at = self.word(field, &MONTHS)?;
                set(&mut self.read.month, at + 1, field)?;
            }
            "MON" => {
                let short: Vec<&str> = MONTHS.iter().map(|name| &name[..3]).collect();
                let at = self.word(field, &short)?;
                set(&mut self.read.month, at + 1, field)?;
            }
            "RM" => {
                let at = self.word(field, &ROMAN)?;
                set(&mut self.read.month, at + 1, field)?;
            }
            "MM" => store!(month, 2),
            "DAY" => {
                let at = self.word(field, &DAYS)?;
                set(&mut self.read.day_of_week, at + 1, field)?;
            }
            "DY" => {
                let short: Vec<&str> = DAYS.iter().map(|name| &name[..3]).collect();
                let at = self.word(field, &short)?;
                set(&mut self.read.day_of_week, at + 1, field)?;
            }
            "DDD" | "IDDD" => store!(day_of_year, 3),
            "DD" => store!(day, 2),
            "D" => store!(day_of_week, 1),
            "ID" => {
                let (value, _) = self.number(field, index, 1)?;
                let value = if value >= 7 { 1 } else { value + 1 };
                set(&mut self.read.day_of_week, value, field)?;
            }
            "WW" | "IW" => store!(week_of_year, 2),
            "Q" => {
                self.number(field, index, 1)?;
            }
            "CC" => store!(century, 2),
            "Y,YYY" => self.grouped_year(field)?,
            "YYYY" | "IYYY" => {
                store!(year, 4);
                self.read.year_digits = 4;
            }
            "YYY" | "IYY" => self.short_year(field, index, 3)?,
            "YY" | "IY" => self.short_year(field, index, 2)?,
            "Y" | "I" => self.short_year(field, index, 1)?,
            "W" => store!(week_of_month, 1),
            "J" => store!(julian, 1),
            _ => {}
        }
        if field.ordinal.is_some() {
            self.input.step();
            self.input.step();
        }
        Ok(())
    }

    fn short_year(&mut self, field: &Field, index: usize, digits: usize) -> Result<()> {
        let (value, used) = self.number(field, index, digits)?;
        // Two digits are near 2020.
        let value = match value {
            _ if used >= 4 => value,
            0..70 => value + 2000,
            70..100 => value + 1900,
            100..520 => value + 2000,
            520..1000 => value + 1000,
            _ => value,
        };
        set(&mut self.read.year, value, field)?;
        self.read.year_digits = digits;
        Ok(())
    }

    fn grouped_year(&mut self, field: &Field) -> Result<()> {
        let rest = self.input.rest();
        let invalid = || mismatch("invalid input string for \"Y,YYY\"");
        let (thousands, tail) = rest.split_once(',').ok_or_else(invalid)?;
        let digits = tail.bytes().take(3).take_while(u8::is_ascii_digit).count();
        let thousands: i32 = thousands.trim().parse().map_err(|_| invalid())?;
        let units: i32 = tail[..digits].parse().map_err(|_| invalid())?;
        let used = rest.len() - tail.len() + digits;
        self.input.at += used;
        let year = thousands
            .checked_mul(1000)
            .and_then(|y| y.checked_add(units));
        set(&mut self.read.year, year.ok_or_else(invalid)?, field)?;
        self.read.year_digits = 4;
        Ok(())
    }
}

/// Reads a date or a timestamp; an empty text gives 0001-01-01 BC, as PostgreSQL does.
pub(super) fn parse(
    text: &str,
    pattern: &str,
    as_date: bool,
    format: &FormatSettings,
) -> Result<Datum> {
    let mut parser = Parser {
        input: Input { text, at: 0 },
        read: Read::default(),
        exact: false,
        nodes: template::date(pattern),
    };
    parser.run()?;
    let read = parser.read;
    let tm = assemble(&read, text)?;
    let out_of_range = |word: &str| {
        Error::new(
            state::DATETIME_FIELD_OVERFLOW,
            format!("{word} out of range: \"{text}\""),
        )
    };
    if as_date {
        let days = date_of(tm.year, tm.month, tm.day);
        return i32::try_from(days)
            .ok()
            .filter(|days| tm.is_julian() && is_valid_date(*days))
            .map(Datum::Date)
            .ok_or_else(|| out_of_range("date"));
    }
    let local = tm.timestamp().ok_or_else(|| out_of_range("timestamp"))?;
    let instant = if read.zone_sign != 0 {
        if read.zone_hours > 15 || read.zone_minutes > 59 {
            return Err(Error::new(
                state::INVALID_TIME_ZONE_DISPLACEMENT,
                format!("time zone displacement out of range: \"{text}\""),
            ));
        }
        let east = i64::from(read.zone_sign)
            * (i64::from(read.zone_hours) * 3600 + i64::from(read.zone_minutes) * 60);
        local - east * SECOND_US
    } else {
        return datetime::from_local(local, format).map(Datum::Timestamptz);
    };
    is_valid_timestamp(instant)
        .then_some(Datum::Timestamptz(instant))
        .ok_or_else(|| out_of_range("timestamp"))
}

fn field_range(text: &str) -> Error {
    Error::new(
        state::DATETIME_FIELD_OVERFLOW,
        format!("date/time field value out of range: \"{text}\""),
    )
}

/// Puts the fields together (`do_to_timestamp`).
fn assemble(read: &Read, text: &str) -> Result<Fields> {
    let mut tm = Fields {
        year: 0,
        month: 1,
        day: 1,
        ..Fields::default()
    };
    if read.seconds_of_day != 0 {
        tm.hour = read.seconds_of_day / 3600;
        tm.minute = read.seconds_of_day / 60 % 60;
        tm.second = read.seconds_of_day % 60;
    }
    if read.second != 0 {
        tm.second = read.second;
    }
    if read.minute != 0 {
        tm.minute = read.minute;
    }
    if read.hour != 0 {
        tm.hour = read.hour;
    }
    if read.twelve {
        if tm.hour < 1 || tm.hour > 12 {
            return Err(mismatch(format!(
                "hour \"{}\" is invalid for the 12-hour clock",
                tm.hour
            ))
            .hint("Use the 24-hour clock, or give an hour between 1 and 12."));
        }
        match read.pm {
            Some(true) if tm.hour < 12 => tm.hour += 12,
            Some(false) | None if tm.hour == 12 => tm.hour = 0,
            _ => {}
        }
    }
    year(read, &mut tm);
    let mut day_of_year = read.day_of_year;
    date(read, &mut tm, &mut day_of_year, text)?;
    tm.microsecond = read.millisecond * 1000 + read.microsecond;
    let valid = (1..=12).contains(&tm.month)
        && tm.day >= 1
        && tm.day <= days_in_month(tm.year, tm.month)
        && (0..24).contains(&tm.hour)
        && (0..60).contains(&tm.minute)
        && (0..60).contains(&tm.second)
        && (0..1_000_000).contains(&tm.microsecond);
    if !valid {
        return Err(field_range(text));
    }
    debug_assert!(tm.time() < 24 * HOUR_US && MINUTE_US > 0);
    Ok(tm)
}

fn year(read: &Read, tm: &mut Fields) {
    if read.year != 0 {
        let mut year = read.year;
        if read.century != 0 && read.year_digits <= 2 {
            // The two digits count within the century.
            let century = if read.bc { -read.century } else { read.century };
            year = read.year % 100;
            if year != 0 {
                year += if century >= 0 {
                    (century - 1) * 100
                } else {
                    (century + 1) * 100 - year * 2
                };
            } else {
                year = if century >= 0 {
                    century * 100
                } else {
                    century * 100 + 99
                };
            }
            tm.year = if century < 0 && year > 0 {
                1 - year
            } else {
                year
            };
            return;
        }
        if read.bc {
            year = -year;
        }
        // There is no year zero: -1 is 1 BC.
        if year < 0 {
            year += 1;
        }
        tm.year = year;
    } else if read.century != 0 {
        let century = if read.bc { -read.century } else { read.century };
        tm.year = if century >= 0 {
            (century - 1) * 100 + 1
        } else {
            century * 100 + 1
        };
    }
}

fn date(read: &Read, tm: &mut Fields, day_of_year: &mut i32, text: &str) -> Result<()> {
    if read.julian != 0 {
        (tm.year, tm.month, tm.day) = from_julian(i64::from(read.julian));
    }
    let mut day = read.day;
    if read.week_of_year != 0 {
        if read.iso == Some(true) {
            // Without a day it is the week's Monday.
            let weekday = if read.day_of_week != 0 {
                (read.day_of_week + 5) % 7
            } else {
                0
            };
            let days = iso_week_start(tm.year, read.week_of_year) + i64::from(weekday);
            (tm.year, tm.month, tm.day) = from_julian(days + EPOCH_JULIAN);
            return Ok(());
        }
        *day_of_year = (read.week_of_year - 1) * 7 + 1;
    }
    if read.week_of_month != 0 {
        day = (read.week_of_month - 1) * 7 + 1;
    }
    if day != 0 {
        tm.day = day;
    }
    if read.month != 0 {
        tm.month = read.month;
    }
    if *day_of_year != 0 && (read.month == 0 || day == 0) && read.julian == 0 {
        if read.year == 0 && read.century == 0 && tm.year == 0 && read.iso != Some(true) {
            return Err(mismatch(
                "cannot calculate day of year without year information",
            ));
        }
        let _ = text;
        let first = if read.iso == Some(true) {
            iso_week_start(tm.year, 1)
        } else {
            date_of(tm.year, 1, 1)
        };
        let days = first + i64::from(*day_of_year) - 1;
        (tm.year, tm.month, tm.day) = from_julian(days + EPOCH_JULIAN);
    }
    Ok(())
}
