//! Reads and prints intervals in PostgreSQL's four styles (datetime.c's DecodeInterval,
//! DecodeISO8601Interval and EncodeInterval).

use super::parse::{Failure, Step, decode_clock};
use super::tokens::{self, Field, FieldKind, Unit, Word};
use super::write::{fraction, pad};
use super::{DAY_US, HOUR_US, MINUTE_US, SECOND_US};
use crate::error::Result;
use crate::types::{FormatSettings, Interval, IntervalStyle, typmod};

/// Bits of the kinds of parts already seen.
const TIME: u32 = 1;

fn bit(unit: Unit) -> u32 {
    match unit {
        Unit::Microsecond => 1 << 1,
        Unit::Millisecond => 1 << 2,
        Unit::Second => 1 << 3,
        Unit::Minute => 1 << 4,
        Unit::Hour => 1 << 5,
        Unit::Day => 1 << 6,
        Unit::Week => 1 << 7,
        Unit::Month => 1 << 8,
        Unit::Year => 1 << 9,
        Unit::Decade => 1 << 10,
        Unit::Century => 1 << 11,
        Unit::Millennium => 1 << 12,
        _ => 0,
    }
}

const CLOCK: u32 = (1 << 3) | (1 << 4) | (1 << 5);
const SUBSECONDS: u32 = (1 << 1) | (1 << 2) | (1 << 3);

#[derive(Default)]
struct Sum {
    years: i64,
    months: i64,
    days: i64,
    us: i64,
}

impl Sum {
    fn add_us(&mut self, value: i64, scale: i64) -> Step<()> {
        let part = value.checked_mul(scale).ok_or(Failure::Overflow)?;
        self.us = self.us.checked_add(part).ok_or(Failure::Overflow)?;
        Ok(())
    }

    /// A fraction of a unit of `scale` microseconds, rounded half to nearest.
    fn add_fraction_us(&mut self, part: f64, scale: f64) -> Step<()> {
        if part == 0.0 {
            return Ok(());
        }
        let scaled = part * scale;
        let mut whole = scaled as i64;
        let rest = scaled - whole as f64;
        if rest > 0.5 {
            whole += 1;
        } else if rest < -0.5 {
            whole -= 1;
        }
        self.add_us(whole, 1)
    }

    fn add_days(&mut self, value: i64, scale: i64) -> Step<()> {
        let part = value.checked_mul(scale).ok_or(Failure::Overflow)?;
        self.days = narrow(self.days.checked_add(part).ok_or(Failure::Overflow)?)?;
        Ok(())
    }

    /// A fraction of a unit of `scale` days; what is left goes to the time.
    fn add_fraction_days(&mut self, part: f64, scale: f64) -> Step<()> {
        if part == 0.0 {
            return Ok(());
        }
        let scaled = part * scale;
        let whole = scaled as i64;
        self.add_days(whole, 1)?;
        self.add_fraction_us(scaled - whole as f64, DAY_US as f64)
    }

    fn add_months(&mut self, value: i64, scale: i64) -> Step<()> {
        let part = value.checked_mul(scale).ok_or(Failure::Overflow)?;
        self.months = narrow(self.months.checked_add(part).ok_or(Failure::Overflow)?)?;
        Ok(())
    }

    fn add_years(&mut self, value: i64, scale: i64) -> Step<()> {
        let part = value.checked_mul(scale).ok_or(Failure::Overflow)?;
        self.years = narrow(self.years.checked_add(part).ok_or(Failure::Overflow)?)?;
        Ok(())
    }

    fn add_fraction_years(&mut self, part: f64, scale: f64) -> Step<()> {
        self.add_months((part * scale * 12.0).round_ties_even() as i64, 1)
    }

    /// A number of a unit; gives the bits it takes.
    fn add(&mut self, unit: Unit, value: i64, part: f64) -> Step<u32> {
        match unit {
            Unit::Microsecond => {
                self.add_us(value, 1)?;
                self.add_fraction_us(part, 1.0)?;
            }
            Unit::Millisecond => {
                self.add_us(value, 1000)?;
                self.add_fraction_us(part, 1000.0)?;
            }
            Unit::Second => {
                self.add_us(value, SECOND_US)?;
                self.add_fraction_us(part, SECOND_US as f64)?;
                if part != 0.0 {
                    return Ok(SUBSECONDS);
                }
            }
            Unit::Minute => {
                self.add_us(value, MINUTE_US)?;
                self.add_fraction_us(part, MINUTE_US as f64)?;
            }
            Unit::Hour => {
                self.add_us(value, HOUR_US)?;
                self.add_fraction_us(part, HOUR_US as f64)?;
            }
            Unit::Day => {
                self.add_days(value, 1)?;
                self.add_fraction_us(part, DAY_US as f64)?;
            }
            Unit::Week => {
                self.add_days(value, 7)?;
                self.add_fraction_days(part, 7.0)?;
            }
            Unit::Month => {
                self.add_months(value, 1)?;
                self.add_fraction_days(part, 30.0)?;
            }
            Unit::Year | Unit::Decade | Unit::Century | Unit::Millennium => {
                let years = match unit {
                    Unit::Decade => 10,
                    Unit::Century => 100,
                    Unit::Millennium => 1000,
                    _ => 1,
                };
                self.add_years(value, years)?;
                self.add_fraction_years(part, years as f64)?;
            }
            _ => return Err(Failure::Format),
        }
        Ok(bit(unit))
    }

    fn interval(&self) -> Step<Interval> {
        Ok(Interval::new(
            i32::try_from(self.years * 12 + self.months).map_err(|_| Failure::Total)?,
            i32::try_from(self.days).map_err(|_| Failure::Overflow)?,
            self.us,
        ))
    }
}

fn narrow(value: i64) -> Step<i64> {
    if i32::try_from(value).is_ok() {
        Ok(value)
    } else {
        Err(Failure::Overflow)
    }
}

/// Reads an interval; `modifier` says what a number without a unit counts and which fields stay.
///
/// # Errors
/// 22007 for malformed text, 22015 out of range.
pub fn read_interval(text: &str, modifier: i32, format: &FormatSettings) -> Result<Interval> {
    let classic = tokens::split(text)
        .ok_or(Failure::Format)
        .and_then(|fields| decode(&fields, modifier, format.interval_style));
    let decoded = match classic {
        Err(Failure::Format) => decode_iso(text),
        other => other,
    };
    let interval = decoded.map_err(|failure| {
        let failure = match failure {
            Failure::Overflow => Failure::Interval,
            other => other,
        };
        failure.error("interval", text)
    })?;
    typmod::fit_interval(interval, modifier)
}

/// The unit of a rightmost number without one, by the type's range.
fn default_unit(modifier: i32) -> Unit {
    let (range, _) = typmod::interval_parts(modifier);
    let has = |bit: i32| range != 0x7fff && range & (1 << bit) != 0;
    if has(12) {
        Unit::Second
    } else if has(11) {
        Unit::Minute
    } else if has(10) {
        Unit::Hour
    } else if has(3) {
        Unit::Day
    } else if has(1) {
        Unit::Month
    } else if has(2) {
        Unit::Year
    } else {
        Unit::Second
    }
}

fn clock_us(text: &str, modifier: i32) -> Step<i64> {
    let minutes = typmod::interval_parts(modifier).0 == (1 << 11) | (1 << 12);
    let (hours, minute, second, us) = decode_clock(text, minutes)?;
    let rest = i64::from(minute) * MINUTE_US + i64::from(second) * SECOND_US + i64::from(us);
    hours
        .checked_mul(HOUR_US)
        .and_then(|hours| hours.checked_add(rest))
        .ok_or(Failure::Overflow)
}

fn decode(fields: &[Field], modifier: i32, style: IntervalStyle) -> Step<Interval> {
    let signed = |field: &Field| field.1.starts_with(['-', '+']);
    // In the SQL standard's form one leading sign counts for all fields.
    let all_negative = style == IntervalStyle::SqlStandard
        && fields.first().is_some_and(|field| field.1.starts_with('-'))
        && !fields[1..].iter().any(signed);
    let negate = |value: i64| {
        if all_negative && value > 0 {
            -value
        } else {
            value
        }
    };
    let mut sum = Sum::default();
    let mut unit: Option<Unit> = None;
    let mut found = 0u32;
    let mut ago = false;
    for (kind, text) in fields.iter().rev() {
        let mask = match kind {
            FieldKind::Time => {
                sum.add_us(negate(clock_us(text, modifier)?), 1)?;
                unit = Some(Unit::Day);
                CLOCK | TIME
            }
            FieldKind::Zone
                if text[1..].contains(':') && clock_us(&text[1..], modifier).is_ok() =>
            {
                let us = clock_us(&text[1..], modifier)?;
                let us = if text.starts_with('-') { -us } else { us };
                sum.add_us(negate(us), 1)?;
                unit = Some(Unit::Day);
                CLOCK | TIME
            }
            FieldKind::Zone | FieldKind::Date | FieldKind::Number => {
                let wanted = unit.unwrap_or_else(|| default_unit(modifier));
                let (mut value, mut part, wanted) = number(text, wanted)?;
                if all_negative {
                    value = negate(value);
                    part = -part.abs();
                }
                let mask = sum.add(wanted, value, part)?;
                unit = Some(if wanted == Unit::Hour {
                    Unit::Day
                } else {
                    wanted
                });
                mask
            }
            FieldKind::String | FieldKind::Special => {
                match tokens::unit(text) {
                    Some(named) => unit = Some(named),
                    None if text == "ago" => ago = true,
                    None if text == "@" => {}
                    None => match tokens::word(text) {
                        Some(Word::Ignored) => {}
                        Some(Word::Unit(named)) => unit = Some(named),
                        _ => return Err(Failure::Format),
                    },
                }
                continue;
            }
        };
        if mask & found != 0 {
            return Err(Failure::Format);
        }
        found |= mask;
    }
    if found == 0 {
        return Err(Failure::Format);
    }
    let interval = sum.interval()?;
    if ago {
        interval.checked_neg().ok_or(Failure::Overflow)
    } else {
        Ok(interval)
    }
}

/// A number with fraction, or the standard's `years-months`.
fn number(text: &str, unit: Unit) -> Step<(i64, f64, Unit)> {
    let negative = text.starts_with('-');
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    let end = body.bytes().take_while(u8::is_ascii_digit).count();
    let digits = if end == 0 { "0" } else { &body[..end] };
    let value: i64 = digits.parse().map_err(|_| Failure::Overflow)?;
    let value = if negative { -value } else { value };
    let rest = &body[end..];
    if rest.is_empty() {
        return Ok((value, 0.0, unit));
    }
    if let Some(months) = rest.strip_prefix('-') {
        if months.is_empty() || !months.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Failure::Format);
        }
        let months: i64 = months.parse().map_err(|_| Failure::Overflow)?;
        if months >= 12 {
            return Err(Failure::Overflow);
        }
        let months = if negative { -months } else { months };
        let total = value.checked_mul(12).and_then(|v| v.checked_add(months));
        return Ok((total.ok_or(Failure::Overflow)?, 0.0, Unit::Month));
    }
    if !rest.starts_with('.') || !rest[1..].bytes().all(|b| b.is_ascii_digit()) {
        return Err(Failure::Format);
    }
    let part: f64 = format!("0{rest}0").parse().map_err(|_| Failure::Format)?;
    Ok((value, if negative { -part } else { part }, unit))
}

/// `P1Y2M3DT4H5M6S`, `P1W` and `P0001-02-03T04:05:06`.
fn decode_iso(text: &str) -> Step<Interval> {
    let body = text.strip_prefix('P').ok_or(Failure::Format)?;
    if body.is_empty() {
        return Err(Failure::Format);
    }
    let mut sum = Sum::default();
    let mut rest = body;
    let mut in_time = false;
    let mut any = false;
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('T') {
            if in_time {
                return Err(Failure::Format);
            }
            in_time = true;
            any = false;
            rest = tail;
            continue;
        }
        let (value, part, tail) = iso_number(rest)?;
        let Some(letter) = tail.chars().next() else {
            return iso_rest_alternative(&mut sum, rest, in_time);
        };
        if matches!(letter, '-' | ':') || (letter == 'T' && !in_time) || letter.is_ascii_digit() {
            return iso_rest_alternative(&mut sum, rest, in_time);
        }
        let unit = match (in_time, letter) {
            (false, 'Y') => Unit::Year,
            (false, 'M') => Unit::Month,
            (false, 'W') => Unit::Week,
            (false, 'D') => Unit::Day,
            (true, 'H') => Unit::Hour,
            (true, 'M') => Unit::Minute,
            (true, 'S') => Unit::Second,
            _ => return Err(Failure::Format),
        };
        sum.add(unit, value, part)?;
        any = true;
        rest = &tail[1..];
    }
    if !any && !in_time {
        return Err(Failure::Format);
    }
    sum.interval()
}

fn iso_number(text: &str) -> Step<(i64, f64, &str)> {
    let negative = text.starts_with('-');
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    let end = body
        .bytes()
        .take_while(|b| b.is_ascii_digit() || *b == b'.')
        .count();
    let digits = &body[..end];
    if !digits.bytes().any(|b| b.is_ascii_digit()) || digits.matches('.').count() > 1 {
        return Err(Failure::Format);
    }
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = if whole.is_empty() { "0" } else { whole };
    let value: i64 = whole.parse().map_err(|_| Failure::Overflow)?;
    let part: f64 = format!("0.{part}0").parse().map_err(|_| Failure::Format)?;
    if negative {
        Ok((-value, -part, &body[end..]))
    } else {
        Ok((value, part, &body[end..]))
    }
}

/// The rest in the alternative form: `0001-02-03T04:05:06`, `20040506T070809`.
fn iso_rest_alternative(sum: &mut Sum, text: &str, in_time: bool) -> Step<Interval> {
    let (date, time) = match (in_time, text.split_once('T')) {
        (true, _) => ("", text),
        (false, Some((date, time))) => (date, time),
        (false, None) => (text, ""),
    };
    let numbers = |text: &str, separator: char, widths: [usize; 3]| -> Step<Vec<f64>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        if text.trim_start_matches('-').contains(separator) {
            return text
                .split(separator)
                .map(|part| part.parse::<f64>().map_err(|_| Failure::Format))
                .collect();
        }
        let whole: usize = widths.iter().sum();
        if text.len() < whole || !text.is_char_boundary(whole) {
            return Ok(vec![text.parse().map_err(|_| Failure::Format)?]);
        }
        let (a, rest) = text.split_at(widths[0]);
        let (b, c) = rest.split_at(widths[1]);
        [a, b, c]
            .iter()
            .map(|part| part.parse::<f64>().map_err(|_| Failure::Format))
            .collect()
    };
    let units = [Unit::Year, Unit::Month, Unit::Day];
    for (value, unit) in numbers(date, '-', [4, 2, 2])?.iter().zip(units) {
        sum.add(unit, *value as i64, value.fract())?;
    }
    let units = [Unit::Hour, Unit::Minute, Unit::Second];
    for (value, unit) in numbers(time, ':', [2, 2, 2])?.iter().zip(units) {
        sum.add(unit, *value as i64, value.fract())?;
    }
    sum.interval()
}

/// The fields of an interval as they are printed.
pub(crate) struct Parts {
    pub years: i32,
    pub months: i32,
    pub days: i32,
    pub hours: i64,
    pub minutes: i32,
    pub seconds: i32,
    pub us: i32,
}

pub(crate) fn parts(value: &Interval) -> Parts {
    let us = value.microseconds;
    Parts {
        years: value.months / 12,
        months: value.months % 12,
        days: value.days,
        hours: us / HOUR_US,
        minutes: (us / MINUTE_US % 60) as i32,
        seconds: (us / SECOND_US % 60) as i32,
        us: (us % SECOND_US) as i32,
    }
}

fn text(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    out.write_fmt(text).expect("a vector takes all bytes");
}

/// `:ss[.fff]` or `ss[.fff]`, both without sign.
fn seconds(parts: &Parts, width: usize, out: &mut Vec<u8>) {
    pad(parts.seconds, width, out);
    fraction(parts.us.abs(), out);
}

/// Appends an interval.
pub fn write_interval(value: &Interval, style: IntervalStyle, out: &mut Vec<u8>) {
    let p = parts(value);
    match style {
        IntervalStyle::Postgres => write_postgres(&p, out),
        IntervalStyle::PostgresVerbose => write_verbose(&p, out),
        IntervalStyle::SqlStandard => write_standard(p, out),
        IntervalStyle::Iso8601 => write_iso(&p, out),
    }
}

fn write_postgres(p: &Parts, out: &mut Vec<u8>) {
    let mut first = true;
    let mut before = false;
    for (value, unit) in [(p.years, "year"), (p.months, "mon"), (p.days, "day")] {
        if value == 0 {
            continue;
        }
        let blank = if first { "" } else { " " };
        let plus = if before && value > 0 { "+" } else { "" };
        let plural = if value == 1 { "" } else { "s" };
        text(out, format_args!("{blank}{plus}{value} {unit}{plural}"));
        before = value < 0;
        first = false;
    }
    let clock = p.hours != 0 || p.minutes != 0 || p.seconds != 0 || p.us != 0;
    if first || clock {
        let negative = p.hours < 0 || p.minutes < 0 || p.seconds < 0 || p.us < 0;
        let blank = if first { "" } else { " " };
        let sign = if negative {
            "-"
        } else if before {
            "+"
        } else {
            ""
        };
        text(
            out,
            format_args!("{blank}{sign}{:02}:{:02}:", p.hours.abs(), p.minutes.abs()),
        );
        seconds(p, 2, out);
    }
}

fn write_verbose(p: &Parts, out: &mut Vec<u8>) {
    out.push(b'@');
    let mut first = true;
    let mut ago = false;
    let units = [
        (i64::from(p.years), "year"),
        (i64::from(p.months), "mon"),
        (i64::from(p.days), "day"),
        (p.hours, "hour"),
        (i64::from(p.minutes), "min"),
    ];
    for (value, unit) in units {
        if value == 0 {
            continue;
        }
        let shown = if first {
            ago = value < 0;
            value.abs()
        } else if ago {
            -value
        } else {
            value
        };
        let plural = if shown == 1 { "" } else { "s" };
        text(out, format_args!(" {shown} {unit}{plural}"));
        first = false;
    }
    if p.seconds != 0 || p.us != 0 {
        out.push(b' ');
        let negative = p.seconds < 0 || (p.seconds == 0 && p.us < 0);
        if negative {
            if first {
                ago = true;
            } else if !ago {
                out.push(b'-');
            }
        } else if ago {
            out.push(b'-');
        }
        seconds(p, 1, out);
        let plural = p.seconds.abs() != 1 || p.us != 0;
        out.extend_from_slice(if plural { b" secs" } else { b" sec" });
        first = false;
    }
    if first {
        out.extend_from_slice(b" 0");
    }
    if ago {
        out.extend_from_slice(b" ago");
    }
}

fn write_standard(p: Parts, out: &mut Vec<u8>) {
    let all = [
        i64::from(p.years),
        i64::from(p.months),
        i64::from(p.days),
        p.hours,
        i64::from(p.minutes),
        i64::from(p.seconds),
        i64::from(p.us),
    ];
    let negative = all.iter().any(|value| *value < 0);
    let positive = all.iter().any(|value| *value > 0);
    let year_month = p.years != 0 || p.months != 0;
    let day_time = all[2..].iter().any(|value| *value != 0);
    let standard = !(negative && positive || year_month && day_time);
    let clock = |hours: i64, out: &mut Vec<u8>| {
        text(out, format_args!("{}:{:02}:", hours.abs(), p.minutes.abs()));
        seconds(&p, 2, out);
    };
    if !negative && !positive {
        out.push(b'0');
    } else if !standard {
        let sign = |negative: bool| if negative { '-' } else { '+' };
        let years = sign(p.years < 0 || p.months < 0);
        let days = sign(p.days < 0);
        let time = sign(p.hours < 0 || p.minutes < 0 || p.seconds < 0 || p.us < 0);
        text(
            out,
            format_args!(
                "{years}{}-{} {days}{} {time}",
                p.years.abs(),
                p.months.abs(),
                p.days.unsigned_abs()
            ),
        );
        clock(p.hours, out);
    } else {
        if negative {
            out.push(b'-');
        }
        if year_month {
            text(out, format_args!("{}-{}", p.years.abs(), p.months.abs()));
        } else {
            if p.days != 0 {
                text(out, format_args!("{} ", p.days.unsigned_abs()));
            }
            clock(p.hours, out);
        }
    }
}

fn write_iso(p: &Parts, out: &mut Vec<u8>) {
    let clock = p.hours != 0 || p.minutes != 0 || p.seconds != 0 || p.us != 0;
    if p.years == 0 && p.months == 0 && p.days == 0 && !clock {
        return out.extend_from_slice(b"PT0S");
    }
    out.push(b'P');
    let part = |value: i64, letter: char, out: &mut Vec<u8>| {
        if value != 0 {
            text(out, format_args!("{value}{letter}"));
        }
    };
    part(i64::from(p.years), 'Y', out);
    part(i64::from(p.months), 'M', out);
    part(i64::from(p.days), 'D', out);
    if clock {
        out.push(b'T');
        part(p.hours, 'H', out);
        part(i64::from(p.minutes), 'M', out);
        if p.seconds != 0 || p.us != 0 {
            if p.seconds < 0 || p.us < 0 {
                out.push(b'-');
            }
            seconds(p, 1, out);
            out.push(b'S');
        }
    }
}
