//! Time zones: IANA names, POSIX-like offsets, abbreviations; the offset of an instant and of a
//! local time.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Offset, TimeZone as _};
use chrono_tz::{OffsetComponents, OffsetName, TZ_VARIANTS, Tz};

use super::{SECOND_US, UNIX_US};

/// Years from here on follow the last known rules: they are looked up in a year of the same
/// calendar in the 28 years before.
const RULES_END: i32 = 2089;

/// A time zone.
#[derive(Clone, Debug, PartialEq)]
pub enum Zone {
    /// A zone of the IANA database.
    Named(Tz),
    /// Seconds west of Greenwich, and the text that names it.
    Fixed {
        /// Seconds west of Greenwich.
        west: i32,
        /// What to print as its name and abbreviation.
        name: Arc<str>,
    },
}

static BY_NAME: LazyLock<HashMap<String, Tz>> = LazyLock::new(|| {
    TZ_VARIANTS
        .iter()
        .map(|zone| (zone.name().to_ascii_lowercase(), *zone))
        .collect()
});

/// What an abbreviation means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Abbreviation {
    /// Seconds east of Greenwich, and whether it is daylight saving time.
    Fixed(i32, bool),
    /// Whatever the zone says at the time in question.
    Dynamic(Tz),
}

static ABBREVIATIONS: LazyLock<HashMap<&'static str, Abbreviation>> = LazyLock::new(|| {
    include_str!("abbreviations.txt")
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (name, value) = (words.next()?, words.next()?);
            let meaning = match value.parse() {
                Ok(east) => Abbreviation::Fixed(east, words.next() == Some("D")),
                Err(_) => Abbreviation::Dynamic(*BY_NAME.get(&value.to_ascii_lowercase())?),
            };
            Some((name, meaning))
        })
        .collect()
});

/// The meaning of a lower-case abbreviation (PostgreSQL's default set).
pub fn abbreviation(name: &str) -> Option<Abbreviation> {
    ABBREVIATIONS.get(name).copied()
}

/// All abbreviations with their meaning, by name.
pub fn abbreviations() -> Vec<(&'static str, Abbreviation)> {
    let mut all: Vec<_> = ABBREVIATIONS
        .iter()
        .map(|(name, meaning)| (*name, *meaning))
        .collect();
    all.sort_by_key(|(name, _)| *name);
    all
}

/// All zones of the IANA database, by name.
pub fn named() -> impl Iterator<Item = Zone> {
    TZ_VARIANTS.iter().map(|zone| Zone::Named(*zone))
}

impl Zone {
    /// UTC.
    pub const UTC: Zone = Zone::Named(Tz::UTC);

    /// The zone of an IANA name (any case) or a POSIX-like one (`UTC+3`, `<+05>-5`, `EST5`).
    pub fn by_name(name: &str) -> Option<Zone> {
        let lower = name.to_ascii_lowercase();
        if let Some(zone) = BY_NAME.get(&lower) {
            return Some(Zone::Named(*zone));
        }
        posix(name)
    }

    /// The zone that `SET TimeZone` takes: a name, or hours east of Greenwich (`-8`, `5.5`).
    pub fn parse(text: &str) -> Option<Zone> {
        let text = text.trim();
        if let Ok(hours) = text.parse::<f64>() {
            if !hours.is_finite() || hours.abs() > 168.0 {
                return None;
            }
            return Some(Zone::fixed_east((hours * 3600.0) as i32));
        }
        Zone::posix(text).or_else(|| Zone::by_name(text))
    }

    /// `+05:30` and the like: POSIX counts hours west of Greenwich.
    fn posix(text: &str) -> Option<Zone> {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let parts: Option<Vec<i32>> = digits.split(':').map(|part| part.parse().ok()).collect();
        let (hours, minutes, seconds) = match *parts? {
            [hours, minutes] => (hours, minutes, 0),
            [hours, minutes, seconds] => (hours, minutes, seconds),
            _ => return None,
        };
        let fits =
            (0..=24).contains(&hours) && [minutes, seconds].iter().all(|n| (0..60).contains(n));
        fits.then(|| Zone::Fixed {
            west: sign * (hours * 3600 + minutes * 60 + seconds),
            name: Arc::from(text),
        })
    }

    /// A zone of so many seconds east of Greenwich, named as PostgreSQL names it (`<+05:30>-05:30`).
    pub fn fixed_east(east: i32) -> Zone {
        if east == 0 {
            return Zone::Named(Tz::UTC);
        }
        let form = |seconds: i32| {
            let sign = if seconds < 0 { '-' } else { '+' };
            let seconds = seconds.abs();
            let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            match (minutes, rest) {
                (0, 0) => format!("{sign}{hours:02}"),
                (_, 0) => format!("{sign}{hours:02}:{minutes:02}"),
                _ => format!("{sign}{hours:02}:{minutes:02}:{rest:02}"),
            }
        };
        Zone::Fixed {
            west: -east,
            name: Arc::from(format!("<{}>{}", form(east), form(-east))),
        }
    }

    /// The name that `SHOW TimeZone` prints.
    pub fn name(&self) -> &str {
        match self {
            Zone::Named(zone) => zone.name(),
            Zone::Fixed { name, .. } => name,
        }
    }

    /// Seconds east of Greenwich at an instant (microseconds since 2000-01-01 UTC).
    pub fn offset_at(&self, us: i64) -> i64 {
        match self {
            Zone::Fixed { west, .. } => -i64::from(*west),
            Zone::Named(Tz::UTC) => 0,
            Zone::Named(zone) => {
                let utc = naive(us);
                i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc())
            }
        }
    }

    /// Seconds east of Greenwich that a local time (microseconds since 2000-01-01, as the clock on
    /// the wall shows it) has. In a gap the offset before it counts, in an overlap the one after.
    pub fn offset_of_local(&self, us: i64) -> i64 {
        match self {
            Zone::Fixed { west, .. } => -i64::from(*west),
            Zone::Named(Tz::UTC) => 0,
            Zone::Named(zone) => {
                let local = naive(us);
                let seconds = |offset: &<Tz as chrono::TimeZone>::Offset| {
                    i64::from(offset.fix().local_minus_utc())
                };
                match zone.offset_from_local_datetime(&local) {
                    chrono::LocalResult::Single(offset) => seconds(&offset),
                    chrono::LocalResult::Ambiguous(_, latest) => seconds(&latest),
                    chrono::LocalResult::None => self.offset_at(us - 86_400 * SECOND_US),
                }
            }
        }
    }

    /// Whether daylight saving time is on at an instant.
    pub fn is_summer(&self, us: i64) -> bool {
        match self {
            Zone::Fixed { .. } => false,
            Zone::Named(zone) => {
                let offset = zone.offset_from_utc_datetime(&naive(us));
                !offset.dst_offset().is_zero()
            }
        }
    }

    /// The abbreviation at an instant (`CET`, `+03`).
    pub fn abbreviation_at(&self, us: i64) -> String {
        match self {
            Zone::Fixed { name, .. } => {
                match name.strip_prefix('<').and_then(|n| n.split_once('>')) {
                    Some((short, _)) => short.to_owned(),
                    None => name.to_string(),
                }
            }
            Zone::Named(zone) => {
                let offset = zone.offset_from_utc_datetime(&naive(us));
                offset
                    .abbreviation()
                    .map_or_else(|| zone.name().to_owned(), str::to_owned)
            }
        }
    }

    /// The offset east of Greenwich that a dynamic abbreviation of this zone means at a local time.
    pub(crate) fn offset_of_abbreviation(&self, name: &str, us: i64) -> i64 {
        let guess = self.offset_of_local(us);
        // The abbreviation may name the other half of the year.
        for probe in [0, 180, -180] {
            let at = us.saturating_add(probe * 86_400 * SECOND_US);
            let offset = self.offset_of_local(at);
            let instant = at.saturating_sub(offset * SECOND_US);
            if self.abbreviation_at(instant).eq_ignore_ascii_case(name) {
                return offset;
            }
        }
        guess
    }
}

/// The date and time for the zone tables; years after their end become ones of the same calendar.
fn naive(us: i64) -> NaiveDateTime {
    let unix = us.saturating_add(UNIX_US).div_euclid(SECOND_US);
    // 9999 is far beyond the tables and well within chrono's range.
    let limit = 253_402_300_800;
    let seconds = if unix > limit {
        // The calendar repeats every 400 years.
        let cycle = 146_097 * 86_400;
        unix - (unix - limit).div_euclid(cycle) * cycle - cycle
    } else {
        unix.max(-210_000_000_000)
    };
    let utc = DateTime::from_timestamp(seconds, 0)
        .unwrap_or_default()
        .naive_utc();
    if utc.year() < RULES_END {
        return utc;
    }
    let year = utc.year();
    let first = |year: i32| NaiveDate::from_ymd_opt(year, 1, 1).map(|d| d.weekday());
    let leap = super::is_leap(year);
    let same = (RULES_END - 28..RULES_END)
        .find(|other| super::is_leap(*other) == leap && first(*other) == first(year));
    same.and_then(|same| utc.with_year(same)).unwrap_or(utc)
}

/// `STD[+-]hh[:mm[:ss]]` with the POSIX sign: positive is west.
fn posix(text: &str) -> Option<Zone> {
    let (short, rest) = match text.strip_prefix('<') {
        Some(inner) => inner.split_once('>')?,
        None => {
            let end = text.bytes().take_while(u8::is_ascii_alphabetic).count();
            text.split_at(end)
        }
    };
    if short.is_empty() || rest.is_empty() {
        return None;
    }
    let (sign, digits) = match rest.as_bytes()[0] {
        b'-' => (-1, &rest[1..]),
        b'+' => (1, &rest[1..]),
        _ => (1, rest),
    };
    let mut west = 0;
    let mut unit = 3600;
    for part in digits.split(':') {
        if unit == 0 || part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        west += part.parse::<i32>().ok()? * unit;
        unit /= 60;
    }
    (west <= 167 * 3600).then(|| Zone::Fixed {
        west: sign * west,
        name: Arc::from(text),
    })
}
