//! Reads dates, times and timestamps in all the forms that PostgreSQL takes (datetime.c's
//! DecodeDateTime and DecodeTimeOnly).

use chrono_tz::Tz;

use super::tokens::{self, Field, FieldKind, Unit, Word};
use super::zone::{Abbreviation, Zone, abbreviation};
use super::{
    DATE_INFINITY, DATE_NEGATIVE_INFINITY, DAY_US, EPOCH_JULIAN, Fields, SECOND_US, UNIX_DAYS,
    date_of, days_in_month, from_julian, is_valid_date, is_valid_timestamp, split_time,
    split_timestamp, to_local,
};
use crate::error::{Error, Result, state};
use crate::types::{DateOrder, FormatSettings};

/// Why a text is refused; the caller adds the type's name and the text.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// 22007.
    Format,
    /// 22008.
    Overflow,
    /// 22008, with a hint about DateStyle.
    MonthDay,
    /// 22015.
    Interval,
    /// 22008, an interval whose months do not fit together.
    Total,
    /// 22009.
    Displacement,
    /// 22023, a zone that is not known.
    UnknownZone(String),
}

pub(super) type Step<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(super) fn error(self, kind: &str, text: &str) -> Error {
        let overflow = |word: &str| format!("{word} value out of range: \"{text}\"");
        match self {
            Failure::Format => Error::new(
                state::INVALID_DATETIME_FORMAT,
                format!("invalid input syntax for type {kind}: \"{text}\""),
            ),
            Failure::Overflow => {
                Error::new(state::DATETIME_FIELD_OVERFLOW, overflow("date/time field"))
            }
            Failure::MonthDay => {
                Error::new(state::DATETIME_FIELD_OVERFLOW, overflow("date/time field"))
                    .hint("Perhaps you need a different \"datestyle\" setting.")
            }
            Failure::Interval => {
                Error::new(state::INTERVAL_FIELD_OVERFLOW, overflow("interval field"))
            }
            Failure::Total => super::interval_out_of_range(),
            Failure::Displacement => Error::new(
                state::INVALID_TIME_ZONE_DISPLACEMENT,
                format!("time zone displacement out of range: \"{text}\""),
            ),
            Failure::UnknownZone(name) => Error::new(
                state::INVALID_PARAMETER_VALUE,
                format!("time zone \"{name}\" not recognized"),
            ),
        }
    }
}

const YEAR: u32 = 1;
const MONTH: u32 = 2;
const DAY: u32 = 4;
const HOUR: u32 = 8;
const MINUTE: u32 = 16;
const SECOND: u32 = 32;
const ZONE: u32 = 64;
const DAY_OF_YEAR: u32 = 128;
const DAYLIGHT: u32 = 256;
const WEEKDAY: u32 = 512;
const AM_PM: u32 = 1024;
const ERA: u32 = 2048;
const DATE: u32 = YEAR | MONTH | DAY;
const TIME: u32 = HOUR | MINUTE | SECOND;

/// What the text turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Fields,
    Epoch,
    Infinity(bool),
}

/// A zone that cannot be turned into an offset before the date is known.
#[derive(Clone, Debug)]
enum Pending {
    Zone(Zone),
    Abbreviation(Tz, String),
}

struct Decoder<'a> {
    format: &'a FormatSettings,
    /// A time is wanted: dates are only let through.
    time_only: bool,
    tm: Fields,
    day_of_year: i32,
    /// Seconds west of Greenwich, once known.
    west: i32,
    found: u32,
    text_month: bool,
    two_digits: bool,
    bc: bool,
    julian: bool,
    /// `Some(true)` = pm.
    half: Option<bool>,
    /// A label that waits for its number.
    prefix: Option<Label>,
    pending: Option<Pending>,
    meaning: Meaning,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    IsoTime,
    Unit(Unit),
}

/// The number at the head of `text`, and what follows.
fn leading(text: &str) -> Step<(i32, &str)> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    if end == 0 {
        return Err(Failure::Format);
    }
    let value = text[..end].parse().map_err(|_| Failure::Overflow)?;
    Ok((value, &text[end..]))
}

/// `.123` to microseconds.
fn fraction(text: &str) -> Step<i32> {
    let digits = text.strip_prefix('.').ok_or(Failure::Format)?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Failure::Format);
    }
    if digits.is_empty() {
        return Ok(0);
    }
    let value: f64 = format!("0.{digits}").parse().map_err(|_| Failure::Format)?;
    Ok((value * 1_000_000.0).round_ties_even() as i32)
}

/// Seconds west of Greenwich of `+hh[:mm[:ss]]` or `+hhmm`.
pub(super) fn decode_zone(text: &str) -> Step<i32> {
    let sign = match text.as_bytes().first() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return Err(Failure::Format),
    };
    let (mut hours, mut rest) = leading(&text[1..])?;
    let (mut minutes, mut seconds) = (0, 0);
    if let Some(tail) = rest.strip_prefix(':') {
        (minutes, rest) = leading(tail)?;
        if let Some(tail) = rest.strip_prefix(':') {
            (seconds, rest) = leading(tail)?;
        }
    } else if rest.is_empty() && text.len() > 3 {
        minutes = hours % 100;
        hours /= 100;
    }
    if hours > 15 || minutes > 59 || seconds > 59 {
        return Err(Failure::Displacement);
    }
    if !rest.is_empty() {
        return Err(Failure::Format);
    }
    Ok(-sign * ((hours * 60 + minutes) * 60 + seconds))
}

/// The parts of `hh:mm[:ss[.fff]]`; `mm:ss.fff` when `minutes` (an interval of that range).
pub(super) fn decode_clock(text: &str, minutes: bool) -> Step<(i64, i32, i32, i32)> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    let hours: i64 = text[..end].parse().map_err(|_| Failure::Overflow)?;
    let rest = text[end..].strip_prefix(':').ok_or(Failure::Format)?;
    let (middle, rest) = leading(rest)?;
    let narrow = |hours: i64| i32::try_from(hours).map_err(|_| Failure::Overflow);
    let (hours, middle, seconds, us) = if rest.is_empty() {
        if minutes {
            (0, narrow(hours)?, middle, 0)
        } else {
            (hours, middle, 0, 0)
        }
    } else if rest.starts_with('.') {
        (0, narrow(hours)?, middle, fraction(rest)?)
    } else {
        let (seconds, rest) = leading(rest.strip_prefix(':').ok_or(Failure::Format)?)?;
        let us = if rest.is_empty() { 0 } else { fraction(rest)? };
        (hours, middle, seconds, us)
    };
    if middle > 59 || seconds > 60 {
        return Err(Failure::Overflow);
    }
    Ok((hours, middle, seconds, us))
}

/// More than 24:00:00.
fn overflows(tm: &Fields) -> bool {
    tm.hour > 24 || tm.time() > DAY_US
}

impl<'a> Decoder<'a> {
    fn new(format: &'a FormatSettings, time_only: bool) -> Decoder<'a> {
        Decoder {
            format,
            time_only,
            tm: Fields::default(),
            day_of_year: 0,
            west: 0,
            found: 0,
            text_month: false,
            two_digits: false,
            bc: false,
            julian: false,
            half: None,
            prefix: None,
            pending: None,
            meaning: Meaning::Fields,
        }
    }

    fn run(&mut self, fields: &[Field]) -> Step<()> {
        for index in 0..fields.len() {
            let (kind, text) = &fields[index];
            let mask = match kind {
                FieldKind::Date => self.date_field(index, fields)?,
                FieldKind::Time => self.time_field(text)?,
                FieldKind::Zone => {
                    self.west = decode_zone(text)?;
                    ZONE
                }
                FieldKind::Number => self.number_field(index, fields)?,
                FieldKind::String | FieldKind::Special => match self.word_field(text)? {
                    Some(mask) => mask,
                    None => continue,
                },
            };
            if mask & self.found != 0 {
                return Err(Failure::Format);
            }
            self.found |= mask;
        }
        if self.prefix.is_some() {
            return Err(Failure::Format);
        }
        Ok(())
    }

    /// `20040101-08` and the like: digits that run into a zone.
    fn digits_with_zone(&mut self, text: &str) -> Step<u32> {
        if self.found & TIME == TIME {
            return Err(Failure::Format);
        }
        let at = text.find('-').ok_or(Failure::Format)?;
        self.west = decode_zone(&text[at..])?;
        let found = if self.time_only {
            self.found | DATE
        } else {
            self.found
        };
        Ok(self.run_together(&text[..at], found)? | ZONE)
    }

    fn date_field(&mut self, index: usize, fields: &[Field]) -> Step<u32> {
        let text = fields[index].1.as_str();
        if self.prefix == Some(Label::Unit(Unit::Julian)) {
            let (value, rest) = leading(text)?;
            self.set_julian(i64::from(value));
            self.west = decode_zone(rest)?;
            self.prefix = None;
            return Ok(DATE | TIME | ZONE);
        }
        let digit = text.starts_with(|c: char| c.is_ascii_digit());
        let zone_like = if self.time_only {
            let (last, second) = (fields[fields.len() - 1].0, fields.get(1).map(|f| f.0));
            !(index == 0
                && fields.len() >= 2
                && (last == FieldKind::Date || second == Some(FieldKind::Time)))
        } else {
            self.found & DATE == DATE || self.prefix.is_some()
        };
        if !zone_like {
            return self.decode_date(text);
        }
        if digit || self.prefix.is_some() {
            if self.prefix.is_some_and(|label| label != Label::IsoTime) {
                return Err(Failure::Format);
            }
            self.prefix = None;
            return self.digits_with_zone(text);
        }
        let zone = Zone::by_name(text).ok_or_else(|| Failure::UnknownZone(text.to_owned()))?;
        self.pending = Some(Pending::Zone(zone));
        Ok(ZONE)
    }

    fn time_field(&mut self, text: &str) -> Step<u32> {
        if let Some(label) = self.prefix.take()
            && label != Label::IsoTime
        {
            return Err(Failure::Format);
        }
        let (hour, minute, second, us) = decode_clock(text, false)?;
        self.tm.hour = i32::try_from(hour).map_err(|_| Failure::Overflow)?;
        self.tm.minute = minute;
        self.tm.second = second;
        self.tm.microsecond = us;
        if overflows(&self.tm) {
            return Err(Failure::Overflow);
        }
        Ok(TIME)
    }

    fn set_julian(&mut self, day: i64) {
        (self.tm.year, self.tm.month, self.tm.day) = from_julian(day);
        self.julian = true;
    }

    fn labelled_number(&mut self, label: Label, text: &str) -> Step<u32> {
        match label {
            Label::IsoTime => {
                let mask = self.run_together(text, self.found | DATE)?;
                if mask == TIME {
                    Ok(mask)
                } else {
                    Err(Failure::Format)
                }
            }
            Label::Unit(Unit::Julian) => {
                let (value, rest) = leading(text)?;
                self.set_julian(i64::from(value));
                if rest.is_empty() {
                    return Ok(DATE);
                }
                let part: f64 = format!("0{rest}").parse().map_err(|_| Failure::Format)?;
                let clock = split_time((part * DAY_US as f64) as i64);
                self.tm.hour = clock.hour;
                self.tm.minute = clock.minute;
                self.tm.second = clock.second;
                self.tm.microsecond = clock.microsecond;
                Ok(DATE | TIME)
            }
            Label::Unit(_) => Err(Failure::Format),
        }
    }

    fn number_field(&mut self, index: usize, fields: &[Field]) -> Step<u32> {
        let text = fields[index].1.as_str();
        if let Some(label) = self.prefix.take() {
            return self.labelled_number(label, text);
        }
        let point = text.find('.');
        if self.time_only {
            let with_date = self.found | DATE;
            return match point {
                Some(_)
                    if index == 0
                        && fields.len() >= 2
                        && fields[fields.len() - 1].0 == FieldKind::Date =>
                {
                    self.decode_date(text)
                }
                Some(at) if at > 2 => self.run_together(text, with_date),
                Some(_) => Err(Failure::Format),
                None if text.len() > 4 => self.run_together(text, with_date),
                None => self.number(text, false, with_date),
            };
        }
        match point {
            Some(_) if self.found & DATE == 0 => self.decode_date(text),
            Some(at) if at > 2 => self.run_together(text, self.found),
            None if text.len() >= 6 && (self.found & DATE == 0 || self.found & TIME == 0) => {
                self.run_together(text, self.found)
            }
            _ => {
                let found = self.found;
                self.number(text, self.text_month, found)
            }
        }
    }

    fn now(&self) -> Fields {
        split_timestamp(to_local(self.format.transaction_start, self.format))
    }

    fn session_west(&self) -> i32 {
        -self.format.zone.offset_at(self.format.transaction_start) as i32
    }

    /// `None` = the word is ignored.
    fn word_field(&mut self, text: &str) -> Step<Option<u32>> {
        if let Some(meaning) = abbreviation(text) {
            match meaning {
                Abbreviation::Fixed(east, _) => self.west = -east,
                Abbreviation::Dynamic(zone) => {
                    self.pending = Some(Pending::Abbreviation(zone, text.to_owned()));
                }
            }
            return Ok(Some(ZONE));
        }
        let Some(word) = tokens::word(text) else {
            let zone = Zone::by_name(text).ok_or(Failure::Format)?;
            self.pending = Some(Pending::Zone(zone));
            return Ok(Some(ZONE));
        };
        let mask = match word {
            Word::Ignored => return Ok(None),
            Word::Now => {
                self.tm = self.now();
                self.west = self.session_west();
                if self.time_only {
                    TIME
                } else {
                    DATE | TIME | ZONE
                }
            }
            Word::AllBalls => {
                self.tm = Fields {
                    year: self.tm.year,
                    month: self.tm.month,
                    day: self.tm.day,
                    ..Fields::default()
                };
                self.west = 0;
                TIME | ZONE
            }
            Word::Relative(_) | Word::Epoch | Word::Infinity(_) if self.time_only => {
                return Err(Failure::Format);
            }
            Word::Relative(days) => {
                let now = self.now();
                let julian = date_of(now.year, now.month, now.day) + EPOCH_JULIAN;
                let (year, month, day) = from_julian(julian + i64::from(days));
                self.tm.year = year;
                self.tm.month = month;
                self.tm.day = day;
                DATE
            }
            Word::Epoch => {
                self.meaning = Meaning::Epoch;
                DATE | TIME | ZONE
            }
            Word::Infinity(up) => {
                self.meaning = Meaning::Infinity(up);
                DATE | TIME | ZONE
            }
            Word::Month(_) if self.time_only => return Err(Failure::Format),
            Word::Month(month) => {
                let mut mask = MONTH;
                // "12 jan 2001": the number was the day.
                if self.found & MONTH != 0
                    && !self.text_month
                    && self.found & DAY == 0
                    && (1..=31).contains(&self.tm.month)
                {
                    self.tm.day = self.tm.month;
                    mask = DAY;
                }
                self.text_month = true;
                self.tm.month = month;
                mask
            }
            Word::Weekday if self.time_only => return Err(Failure::Format),
            Word::Weekday => WEEKDAY,
            Word::AmPm(pm) => {
                self.half = Some(pm);
                AM_PM
            }
            Word::Era(bc) => {
                self.bc = bc;
                ERA
            }
            Word::DaylightModifier => {
                self.west -= 3600;
                DAYLIGHT
            }
            Word::Unit(unit) => {
                if self.prefix.is_some() {
                    return Err(Failure::Format);
                }
                self.prefix = Some(Label::Unit(unit));
                0
            }
            Word::IsoTime => {
                let early = !self.time_only && self.found & DATE != DATE;
                if early || self.prefix.is_some() {
                    return Err(Failure::Format);
                }
                self.prefix = Some(Label::IsoTime);
                0
            }
        };
        Ok(Some(mask))
    }

    /// DecodeDate: three parts in one field.
    fn decode_date(&mut self, text: &str) -> Step<u32> {
        let mut parts: Vec<&str> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            rest = rest.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
            let first = rest.bytes().next().ok_or(Failure::Format)?;
            let end = if first.is_ascii_digit() {
                rest.bytes().take_while(u8::is_ascii_digit).count()
            } else {
                rest.bytes().take_while(u8::is_ascii_alphabetic).count()
            };
            parts.push(&rest[..end]);
            rest = &rest[end..];
            // One character after a part is dropped, whatever it is.
            rest = rest.get(1..).unwrap_or("");
        }
        let mut found = self.found;
        let mut mask = 0;
        let mut text_month = false;
        for part in &parts {
            if !part.starts_with(|c: char| c.is_ascii_alphabetic()) {
                continue;
            }
            match tokens::word(part) {
                Some(Word::Ignored) => continue,
                Some(Word::Month(month)) => self.tm.month = month,
                _ => return Err(Failure::Format),
            }
            if found & MONTH != 0 {
                return Err(Failure::Format);
            }
            text_month = true;
            found |= MONTH;
            mask |= MONTH;
        }
        for part in &parts {
            if part.starts_with(|c: char| c.is_ascii_alphabetic()) {
                continue;
            }
            let own = self.number(part, text_month, found)?;
            if own & found != 0 {
                return Err(Failure::Format);
            }
            found |= own;
            mask |= own;
        }
        if found & !(DAY_OF_YEAR | ZONE) & (DATE | TIME | WEEKDAY | AM_PM | ERA | DAYLIGHT) != DATE
        {
            return Err(Failure::Format);
        }
        Ok(mask)
    }

    /// DecodeNumber: one number by what is known so far.
    fn number(&mut self, text: &str, text_month: bool, found: u32) -> Step<u32> {
        let (value, rest) = leading(text)?;
        if !rest.is_empty() {
            if !rest.starts_with('.') {
                return Err(Failure::Format);
            }
            if text.len() - rest.len() > 2 {
                return self.run_together(text, found | DATE);
            }
            self.tm.microsecond = fraction(rest)?;
        }
        let length = text.len();
        if length == 3 && found & DATE == YEAR && (1..=366).contains(&value) {
            self.day_of_year = value;
            return Ok(DAY_OF_YEAR | MONTH | DAY);
        }
        let year_first = self.format.date_order == DateOrder::Ymd;
        let long = length >= 3;
        let mask = match found & DATE {
            0 if long || year_first => YEAR,
            0 if self.format.date_order == DateOrder::Dmy => DAY,
            0 => MONTH,
            YEAR => MONTH,
            MONTH if text_month && (long || year_first) => YEAR,
            MONTH => DAY,
            m if m == YEAR | MONTH => {
                if text_month && long && self.two_digits {
                    // The first number was the day, after all.
                    self.tm.day = self.tm.year;
                    self.tm.year = value;
                    self.two_digits = false;
                    return Ok(DAY);
                }
                DAY
            }
            DAY => MONTH,
            m if m == MONTH | DAY => YEAR,
            DATE => return self.run_together(text, found),
            _ => return Err(Failure::Format),
        };
        match mask {
            YEAR => {
                self.tm.year = value;
                self.two_digits = length <= 2;
            }
            MONTH => self.tm.month = value,
            _ => self.tm.day = value,
        }
        Ok(mask)
    }

    /// DecodeNumberField: `yyyymmdd`, `hhmmss[.fff]`, `hhmm`.
    fn run_together(&mut self, text: &str, found: u32) -> Step<u32> {
        let mut digits = text;
        let mut point = false;
        if let Some(at) = text.find('.') {
            self.tm.microsecond = fraction(&text[at..])?;
            digits = &text[..at];
            point = true;
        }
        let number = |text: &str| text.parse::<i32>().map_err(|_| Failure::Overflow);
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Failure::Format);
        }
        let length = digits.len();
        if !point && found & DATE != DATE && length >= 6 {
            self.tm.day = number(&digits[length - 2..])?;
            self.tm.month = number(&digits[length - 4..length - 2])?;
            self.tm.year = number(&digits[..length - 4])?;
            if length - 4 == 2 {
                self.two_digits = true;
            }
            return Ok(DATE);
        }
        if found & TIME != TIME && (length == 6 || length == 4) {
            self.tm.hour = number(&digits[..2])?;
            self.tm.minute = number(&digits[2..4])?;
            self.tm.second = if length == 6 {
                number(&digits[4..])?
            } else {
                0
            };
            return Ok(TIME);
        }
        Err(Failure::Format)
    }

    /// ValidateDate.
    fn validate(&mut self) -> Step<()> {
        if self.found & YEAR != 0 && !self.julian {
            let year = self.tm.year;
            if self.bc {
                if year <= 0 {
                    return Err(Failure::Overflow);
                }
                self.tm.year = 1 - year;
            } else if self.two_digits {
                self.tm.year = match year {
                    0..70 => year + 2000,
                    70..100 => year + 1900,
                    _ => year,
                };
            } else if year <= 0 {
                return Err(Failure::Overflow);
            }
        }
        if self.found & DAY_OF_YEAR != 0 {
            let first = date_of(self.tm.year, 1, 1) + EPOCH_JULIAN;
            let day = first + i64::from(self.day_of_year) - 1;
            (self.tm.year, self.tm.month, self.tm.day) = from_julian(day);
        }
        if self.found & MONTH != 0 && !(1..=12).contains(&self.tm.month) {
            return Err(Failure::MonthDay);
        }
        if self.found & DAY != 0 && !(1..=31).contains(&self.tm.day) {
            return Err(Failure::MonthDay);
        }
        if self.found & DATE == DATE && self.tm.day > days_in_month(self.tm.year, self.tm.month) {
            return Err(Failure::Overflow);
        }
        Ok(())
    }

    fn apply_half(&mut self) -> Step<()> {
        let Some(pm) = self.half else {
            return Ok(());
        };
        match (pm, self.tm.hour) {
            (_, 13..) => Err(Failure::Overflow),
            (false, 12) => {
                self.tm.hour = 0;
                Ok(())
            }
            (true, 0..=11) => {
                self.tm.hour += 12;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn local(&self) -> i64 {
        self.tm.timestamp().unwrap_or(0)
    }

    /// Turns a zone into an offset, now that the date is known.
    fn settle_zone(&mut self) -> Step<()> {
        let local = self.local();
        match self.pending.take() {
            Some(Pending::Zone(zone)) => {
                if self.found & DAYLIGHT != 0 {
                    return Err(Failure::Format);
                }
                self.west = -zone.offset_of_local(local) as i32;
            }
            Some(Pending::Abbreviation(zone, name)) => {
                self.west = -Zone::Named(zone).offset_of_abbreviation(&name, local) as i32;
            }
            None if self.found & ZONE == 0 => {
                if self.found & DAYLIGHT != 0 {
                    return Err(Failure::Format);
                }
                self.west = -self.format.zone.offset_of_local(local) as i32;
            }
            None => {}
        }
        Ok(())
    }

    fn date_and_time(&mut self, text: &str) -> Step<()> {
        let fields = tokens::split(text).ok_or(Failure::Format)?;
        self.run(&fields)?;
        if self.meaning != Meaning::Fields {
            return Ok(());
        }
        self.validate()?;
        self.apply_half()?;
        if self.found & DATE != DATE {
            return Err(Failure::Format);
        }
        self.settle_zone()
    }
}

/// Reads a `date`.
///
/// # Errors
/// 22007, 22008, 22009 as `date_in` raises them.
pub fn read_date(text: &str, format: &FormatSettings) -> Result<i32> {
    if let Some(days) = plain_date(text) {
        return Ok(days);
    }
    let mut decoder = Decoder::new(format, false);
    decoder
        .date_and_time(text)
        .map_err(|failure| failure.error("date", text))?;
    match decoder.meaning {
        Meaning::Epoch => Ok(-UNIX_DAYS as i32),
        Meaning::Infinity(true) => Ok(DATE_INFINITY),
        Meaning::Infinity(false) => Ok(DATE_NEGATIVE_INFINITY),
        Meaning::Fields => {
            let tm = decoder.tm;
            let out_of_range = || {
                Error::new(
                    state::DATETIME_FIELD_OVERFLOW,
                    format!("date out of range: \"{text}\""),
                )
            };
            if !tm.is_julian() {
                return Err(out_of_range());
            }
            let days = date_of(tm.year, tm.month, tm.day);
            i32::try_from(days)
                .ok()
                .filter(|days| is_valid_date(*days))
                .ok_or_else(out_of_range)
        }
    }
}

/// `yyyy-mm-dd` without detours.
fn plain_date(text: &str) -> Option<i32> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let digits = |from: usize, to: usize| {
        bytes[from..to].iter().try_fold(0i32, |value, byte| {
            byte.is_ascii_digit()
                .then(|| value * 10 + i32::from(byte - b'0'))
        })
    };
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    let valid =
        year > 0 && (1..=12).contains(&month) && day >= 1 && day <= days_in_month(year, month);
    valid.then(|| date_of(year, month, day) as i32)
}

fn read_instant(text: &str, kind: &str, format: &FormatSettings, zoned: bool) -> Result<i64> {
    let mut decoder = Decoder::new(format, false);
    decoder
        .date_and_time(text)
        .map_err(|failure| failure.error(kind, text))?;
    match decoder.meaning {
        Meaning::Epoch => Ok(-super::UNIX_US),
        Meaning::Infinity(true) => Ok(i64::MAX),
        Meaning::Infinity(false) => Ok(i64::MIN),
        Meaning::Fields => {
            let shift = if zoned {
                i64::from(decoder.west) * SECOND_US
            } else {
                0
            };
            let tm = decoder.tm;
            // The zone may bring a local time back into range.
            let local = tm.is_julian().then(|| {
                i128::from(date_of(tm.year, tm.month, tm.day)) * i128::from(DAY_US)
                    + i128::from(tm.time())
                    + i128::from(shift)
            });
            local
                .and_then(|us| i64::try_from(us).ok())
                .filter(|us| is_valid_timestamp(*us))
                .ok_or_else(|| {
                    Error::new(
                        state::DATETIME_FIELD_OVERFLOW,
                        format!("timestamp out of range: \"{text}\""),
                    )
                })
        }
    }
}

/// Reads a `timestamp`; a zone in the text is ignored.
///
/// # Errors
/// 22007, 22008, 22009 as `timestamp_in` raises them.
pub fn read_timestamp(text: &str, format: &FormatSettings) -> Result<i64> {
    read_instant(text, "timestamp", format, false)
}

/// Reads a `timestamptz`; without a zone the text is local time of the session.
///
/// # Errors
/// 22007, 22008, 22009, 22023 as `timestamptz_in` raises them.
pub fn read_timestamptz(text: &str, format: &FormatSettings) -> Result<i64> {
    read_instant(text, "timestamp with time zone", format, true)
}

fn decode_time<'a>(text: &str, format: &'a FormatSettings) -> Step<Decoder<'a>> {
    let fields = tokens::split(text).ok_or(Failure::Format)?;
    let mut decoder = Decoder::new(format, true);
    decoder.run(&fields)?;
    decoder.validate()?;
    decoder.apply_half()?;
    if overflows(&decoder.tm) {
        return Err(Failure::Overflow);
    }
    if decoder.found & TIME != TIME {
        return Err(Failure::Format);
    }
    let dated = decoder.found & DATE == DATE;
    if !dated {
        // The zone's offset is that of today.
        let needs_date = matches!(decoder.pending, Some(Pending::Zone(Zone::Named(_))));
        if needs_date && !is_fixed(&decoder.pending) {
            return Err(Failure::Format);
        }
        let now = decoder.now();
        decoder.tm.year = now.year;
        decoder.tm.month = now.month;
        decoder.tm.day = now.day;
    }
    decoder.settle_zone()?;
    Ok(decoder)
}

/// A zone without changes of its offset, such as UTC.
fn is_fixed(pending: &Option<Pending>) -> bool {
    match pending {
        Some(Pending::Zone(zone)) => {
            let year = 365 * DAY_US;
            let offsets: Vec<i64> = (0..8)
                .map(|quarter| zone.offset_at(20 * year + quarter * year / 4))
                .collect();
            offsets.iter().all(|offset| *offset == offsets[0])
        }
        _ => true,
    }
}

/// Reads a `time`; a zone in the text is ignored.
///
/// # Errors
/// 22007, 22008 as `time_in` raises them.
pub fn read_time(text: &str, format: &FormatSettings) -> Result<i64> {
    decode_time(text, format)
        .map(|decoder| decoder.tm.time())
        .map_err(|failure| failure.error("time", text))
}

/// Reads a `timetz`: microseconds, and seconds west of Greenwich.
///
/// # Errors
/// 22007, 22008, 22009 as `timetz_in` raises them.
pub fn read_timetz(text: &str, format: &FormatSettings) -> Result<(i64, i32)> {
    decode_time(text, format)
        .map(|decoder| (decoder.tm.time(), decoder.west))
        .map_err(|failure| failure.error("time with time zone", text))
}
