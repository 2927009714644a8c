//! Splitting date and time text into fields, and the words that may stand in it (datetime.c's
//! ParseDateTime, datetktbl and deltatktbl).

/// Kinds of fields by their look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Digits, maybe with a fraction.
    Number,
    /// A word.
    String,
    /// Parts with `-`, `/` or `.` between them.
    Date,
    /// Digits with colons.
    Time,
    /// A sign and digits.
    Zone,
    /// A sign and a word (`+infinity`).
    Special,
}

/// Units of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Unit {
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    Decade,
    Century,
    Millennium,
    DayOfWeek,
    IsoDayOfWeek,
    DayOfYear,
    IsoYear,
    Julian,
    Epoch,
    Timezone,
    TimezoneHour,
    TimezoneMinute,
}

/// What a word in a date means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Says nothing (`at`, `on`).
    Ignored,
    /// `now`.
    Now,
    /// `today`, `tomorrow`, `yesterday`: days from today.
    Relative(i32),
    /// `allballs`: midnight UTC.
    AllBalls,
    /// `epoch`.
    Epoch,
    /// `infinity`, `-infinity`.
    Infinity(bool),
    /// 1 to 12.
    Month(i32),
    /// A day's name: it is ignored.
    Weekday,
    /// True for `pm`.
    AmPm(bool),
    /// True for `bc`.
    Era(bool),
    /// `dst`.
    DaylightModifier,
    /// A unit as a label (`j`, `julian`, `h`).
    Unit(Unit),
    /// The `t` of ISO 8601.
    IsoTime,
}

/// The most fields a text may have.
const FIELDS_MAX: usize = 25;

/// Longer words are compared by their first characters.
const WORD_MAX: usize = 10;

/// A field of a date and time text, in lower case where it is a word.
pub type Field = (FieldKind, String);

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    fn push(&mut self, out: &mut String) {
        out.push(self.peek().to_ascii_lowercase() as char);
        self.at += 1;
    }

    fn push_while(&mut self, out: &mut String, test: impl Fn(u8) -> bool) {
        while self.at < self.bytes.len() && test(self.peek()) {
            self.push(out);
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Splits the text; `None` when it cannot be a date, time or interval.
pub fn split(text: &str) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    let mut s = Scanner {
        bytes: text.as_bytes(),
        at: 0,
    };
    while s.at < s.bytes.len() {
        let byte = s.peek();
        if is_space(byte) {
            s.at += 1;
            continue;
        }
        let mut out = String::new();
        let kind = if byte.is_ascii_digit() {
            number_like(&mut s, &mut out)
        } else if byte == b'.' {
            s.push(&mut out);
            s.push_while(&mut out, |b| b.is_ascii_digit());
            FieldKind::Number
        } else if byte.is_ascii_alphabetic() {
            word_like(&mut s, &mut out)
        } else if byte == b'+' || byte == b'-' {
            s.push(&mut out);
            while is_space(s.peek()) {
                s.at += 1;
            }
            if s.peek().is_ascii_digit() {
                s.push_while(&mut out, |b| {
                    b.is_ascii_digit() || matches!(b, b':' | b'.' | b'-')
                });
                FieldKind::Zone
            } else if s.peek().is_ascii_alphabetic() {
                s.push_while(&mut out, |b| b.is_ascii_alphabetic());
                FieldKind::Special
            } else {
                return None;
            }
        } else if byte.is_ascii_punctuation() {
            s.at += 1;
            continue;
        } else {
            return None;
        };
        if fields.len() >= FIELDS_MAX {
            return None;
        }
        fields.push((kind, out));
    }
    Some(fields)
}

fn number_like(s: &mut Scanner<'_>, out: &mut String) -> FieldKind {
    s.push_while(out, |b| b.is_ascii_digit());
    match s.peek() {
        b':' => {
            s.push_while(out, |b| b.is_ascii_digit() || matches!(b, b':' | b'.'));
            FieldKind::Time
        }
        delimiter @ (b'-' | b'/' | b'.') => {
            s.push(out);
            if !s.peek().is_ascii_digit() {
                s.push_while(out, |b| b.is_ascii_alphanumeric() || b == delimiter);
                return FieldKind::Date;
            }
            s.push_while(out, |b| b.is_ascii_digit());
            if s.peek() == delimiter {
                s.push_while(out, |b| b.is_ascii_digit() || b == delimiter);
                return FieldKind::Date;
            }
            if delimiter == b'.' {
                FieldKind::Number
            } else {
                FieldKind::Date
            }
        }
        _ => FieldKind::Number,
    }
}

fn word_like(s: &mut Scanner<'_>, out: &mut String) -> FieldKind {
    s.push_while(out, |b| b.is_ascii_alphabetic());
    let next = s.peek();
    let is_date = matches!(next, b'-' | b'/' | b'.')
        || ((next == b'+' || next.is_ascii_digit()) && word(out).is_none());
    if !is_date {
        return FieldKind::String;
    }
    s.push_while(out, |b| {
        b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'/' | b'_' | b'.' | b':')
    });
    FieldKind::Date
}

fn cut(text: &str) -> &str {
    text.get(..WORD_MAX).unwrap_or(text)
}

/// The meaning of a lower-case word in a date or time.
pub fn word(text: &str) -> Option<Word> {
    Some(match cut(text) {
        "infinity" | "+infinity" => Word::Infinity(true),
        "-infinity" => Word::Infinity(false),
        "ad" => Word::Era(false),
        "bc" => Word::Era(true),
        "allballs" => Word::AllBalls,
        "am" => Word::AmPm(false),
        "pm" => Word::AmPm(true),
        "at" | "on" => Word::Ignored,
        "now" => Word::Now,
        "today" => Word::Relative(0),
        "tomorrow" => Word::Relative(1),
        "yesterday" => Word::Relative(-1),
        "epoch" => Word::Epoch,
        "dst" => Word::DaylightModifier,
        "t" => Word::IsoTime,
        "d" => Word::Unit(Unit::Day),
        "dow" => Word::Unit(Unit::DayOfWeek),
        "doy" => Word::Unit(Unit::DayOfYear),
        "h" => Word::Unit(Unit::Hour),
        "isodow" => Word::Unit(Unit::IsoDayOfWeek),
        "isoyear" => Word::Unit(Unit::IsoYear),
        "j" | "jd" | "julian" => Word::Unit(Unit::Julian),
        "m" => Word::Unit(Unit::Month),
        "mm" => Word::Unit(Unit::Minute),
        "s" => Word::Unit(Unit::Second),
        "y" => Word::Unit(Unit::Year),
        "jan" | "january" => Word::Month(1),
        "feb" | "february" => Word::Month(2),
        "mar" | "march" => Word::Month(3),
        "apr" | "april" => Word::Month(4),
        "may" => Word::Month(5),
        "jun" | "june" => Word::Month(6),
        "jul" | "july" => Word::Month(7),
        "aug" | "august" => Word::Month(8),
        "sep" | "sept" | "september" => Word::Month(9),
        "oct" | "october" => Word::Month(10),
        "nov" | "november" => Word::Month(11),
        "dec" | "december" => Word::Month(12),
        "sun" | "sunday" | "mon" | "monday" | "tue" | "tues" | "tuesday" | "wed" | "weds"
        | "wednesday" | "thu" | "thur" | "thurs" | "thursday" | "fri" | "friday" | "sat"
        | "saturday" => Word::Weekday,
        _ => return None,
    })
}

/// A lower-case unit's name, as intervals and `extract` spell it.
pub fn unit(text: &str) -> Option<Unit> {
    Some(match cut(text) {
        "c" | "cent" | "centuries" | "century" => Unit::Century,
        "d" | "day" | "days" => Unit::Day,
        "dec" | "decade" | "decades" | "decs" => Unit::Decade,
        "h" | "hour" | "hours" | "hr" | "hrs" => Unit::Hour,
        "m" | "min" | "mins" | "minute" | "minutes" => Unit::Minute,
        "microsecon" | "us" | "usec" | "usecond" | "useconds" | "usecs" => Unit::Microsecond,
        "mil" | "millennia" | "millennium" | "mils" => Unit::Millennium,
        "millisecon" | "ms" | "msec" | "msecond" | "mseconds" | "msecs" => Unit::Millisecond,
        "mon" | "mons" | "month" | "months" => Unit::Month,
        "qtr" | "quarter" => Unit::Quarter,
        "s" | "sec" | "second" | "seconds" | "secs" => Unit::Second,
        "timezone" => Unit::Timezone,
        "timezone_h" => Unit::TimezoneHour,
        "timezone_m" => Unit::TimezoneMinute,
        "w" | "week" | "weeks" => Unit::Week,
        "y" | "year" | "years" | "yr" | "yrs" => Unit::Year,
        _ => return None,
    })
}

/// A unit for `extract`, `date_part` and `date_trunc`: also `dow`, `epoch`, `julian` and the like.
pub fn extract_unit(text: &str) -> Option<Unit> {
    let lower = text.to_ascii_lowercase();
    unit(&lower).or_else(|| match word(&lower) {
        Some(Word::Unit(unit)) => Some(unit),
        Some(Word::Epoch) => Some(Unit::Epoch),
        _ => None,
    })
}
