//! `to_char` of numbers and `to_number`, digit by digit as formatting.c's NUM_processor goes.

use super::ordinal;
use super::template::{self, Node};
use crate::error::{Error, Result, state};
use crate::functions::scalar::integer::out_of_range;
use crate::types::{Datum, Numeric};

/// A field of a number template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Nine,
    Zero,
    Point,
    Comma,
    Group,
    Currency,
    Roman,
    RomanLower,
    Ordinal,
    OrdinalLower,
    Minus,
    Plus,
    Sign,
    Silent,
    Text(char),
}

/// Where an `S` stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Anchor {
    None,
    Before,
    After,
}

/// What the whole template says.
#[derive(Debug)]
struct Picture {
    parts: Vec<Part>,
    before: i32,
    after: i32,
    anchor: Anchor,
    anchor_at: i32,
    multiply: i32,
    zero_start: i32,
    zero_end: i32,
    decimal: bool,
    zero: bool,
    fill: bool,
    minus: bool,
    plus: bool,
    bracket: bool,
    roman: bool,
    multi: bool,
    exponent: bool,
}

fn syntax(message: &str) -> Error {
    Error::new(state::SYNTAX_ERROR, message)
}

const NAMES: &[(&str, &str)] = &[
    (",", ","),
    (".", "."),
    ("0", "0"),
    ("9", "9"),
    ("B", "B"),
    ("C", "C"),
    ("c", "C"),
    ("b", "B"),
    ("D", "D"),
    ("d", "D"),
    ("EEEE", "E"),
    ("eeee", "E"),
    ("FM", "FM"),
    ("fm", "FM"),
    ("G", "G"),
    ("g", "G"),
    ("L", "L"),
    ("l", "L"),
    ("MI", "MI"),
    ("mi", "MI"),
    ("PL", "PL"),
    ("pl", "PL"),
    ("PR", "PR"),
    ("pr", "PR"),
    ("RN", "RN"),
    ("rn", "rn"),
    ("SG", "SG"),
    ("sg", "SG"),
    ("SP", "SP"),
    ("sp", "SP"),
    ("S", "S"),
    ("s", "S"),
    ("TH", "TH"),
    ("th", "th"),
    ("V", "V"),
    ("v", "V"),
];

impl Picture {
    fn parse(pattern: &str) -> Result<Picture> {
        let mut picture = Picture {
            parts: Vec::new(),
            before: 0,
            after: 0,
            anchor: Anchor::None,
            anchor_at: 0,
            multiply: 0,
            zero_start: 0,
            zero_end: 0,
            decimal: false,
            zero: false,
            fill: false,
            minus: false,
            plus: false,
            bracket: false,
            roman: false,
            multi: false,
            exponent: false,
        };
        let mut rest = pattern;
        while !rest.is_empty() {
            match NAMES.iter().find(|(name, _)| rest.starts_with(name)) {
                Some((name, key)) => {
                    picture.take(key)?;
                    rest = &rest[name.len()..];
                }
                None => {
                    let mut nodes = Vec::new();
                    rest = template::literal(rest, &mut nodes);
                    for node in nodes {
                        match node {
                            Node::Text(c) | Node::Space(c) | Node::Separator(c) => {
                                picture.parts.push(Part::Text(c));
                            }
                            Node::Field(_) => {}
                        }
                    }
                }
            }
        }
        Ok(picture)
    }

    fn take(&mut self, key: &str) -> Result<()> {
        if self.exponent && key != "E" {
            return Err(syntax("\"EEEE\" must be the last pattern used"));
        }
        match key {
            "9" => {
                if self.bracket {
                    return Err(syntax("\"9\" must be ahead of \"PR\""));
                }
                if self.multi {
                    self.multiply += 1;
                } else if self.decimal {
                    self.after += 1;
                } else {
                    self.before += 1;
                }
                self.parts.push(Part::Nine);
            }
            "0" => {
                if self.bracket {
                    return Err(syntax("\"0\" must be ahead of \"PR\""));
                }
                if !self.zero && !self.decimal {
                    self.zero = true;
                    self.zero_start = self.before + 1;
                }
                if self.decimal {
                    self.after += 1;
                } else {
                    self.before += 1;
                }
                self.zero_end = self.before + self.after;
                self.parts.push(Part::Zero);
            }
            "." | "D" => {
                if self.decimal {
                    return Err(syntax("multiple decimal points"));
                }
                if self.multi {
                    return Err(syntax("cannot use \"V\" and decimal point together"));
                }
                self.decimal = true;
                self.parts.push(Part::Point);
            }
            "FM" => self.fill = true,
            "S" => {
                if self.anchor != Anchor::None {
                    return Err(syntax("cannot use \"S\" twice"));
                }
                if self.plus || self.minus || self.bracket {
                    return Err(syntax(
                        "cannot use \"S\" and \"PL\"/\"MI\"/\"SG\"/\"PR\" together",
                    ));
                }
                if self.decimal {
                    self.anchor = Anchor::After;
                } else {
                    self.anchor = Anchor::Before;
                    self.anchor_at = self.before;
                }
                self.parts.push(Part::Silent);
            }
            "MI" | "PL" | "SG" => {
                if self.anchor != Anchor::None {
                    return Err(syntax(&format!("cannot use \"S\" and \"{key}\" together")));
                }
                self.minus |= key != "PL";
                self.plus |= key != "MI";
                self.parts.push(match key {
                    "MI" => Part::Minus,
                    "PL" => Part::Plus,
                    _ => Part::Sign,
                });
            }
            "PR" => {
                if self.anchor != Anchor::None || self.plus || self.minus {
                    return Err(syntax(
                        "cannot use \"PR\" and \"S\"/\"PL\"/\"MI\"/\"SG\" together",
                    ));
                }
                self.bracket = true;
            }
            "RN" => {
                self.roman = true;
                self.parts.push(Part::Roman);
            }
            "rn" => {
                self.roman = true;
                self.parts.push(Part::RomanLower);
            }
            "V" => {
                if self.decimal {
                    return Err(syntax("cannot use \"V\" and decimal point together"));
                }
                self.multi = true;
            }
            "E" => {
                if self.exponent {
                    return Err(syntax("cannot use \"EEEE\" twice"));
                }
                let others = self.fill
                    || self.anchor != Anchor::None
                    || self.bracket
                    || self.minus
                    || self.plus
                    || self.roman
                    || self.multi;
                if others {
                    return Err(
                        syntax("\"EEEE\" is incompatible with other formats").detail(
                            "\"EEEE\" may only be used together with digit and decimal point \
                         patterns.",
                        ),
                    );
                }
                self.exponent = true;
            }
            "," => self.parts.push(Part::Comma),
            "G" => self.parts.push(Part::Group),
            "L" => self.parts.push(Part::Currency),
            "TH" => self.parts.push(Part::Ordinal),
            "th" => self.parts.push(Part::OrdinalLower),
            _ => {}
        }
        Ok(())
    }
}

/// The digits of a number, without its sign, ready for the picture.
struct Digits {
    negative: bool,
    text: String,
    /// Places of the picture before the first digit.
    lead: i32,
}

/// Aligns a printed number to the picture; too many digits become `#`.
fn align(printed: &str, picture: &Picture) -> Digits {
    let negative = printed.starts_with('-');
    let text = printed.trim_start_matches('-').to_owned();
    let whole = text.find('.').unwrap_or(text.len()) as i32;
    if whole > picture.before {
        let hashes = "#".repeat(picture.before.max(0) as usize);
        let tail = "#".repeat(picture.after.max(0) as usize);
        return Digits {
            negative,
            text: format!("{hashes}.{tail}"),
            lead: 0,
        };
    }
    Digits {
        negative,
        text,
        lead: picture.before - whole,
    }
}

/// `to_char(numeric, text)`.
pub(super) fn numeric(value: &Numeric, pattern: &str) -> Result<Datum> {
    if pattern.is_empty() {
        return Ok(Datum::Null);
    }
    let picture = Picture::parse(pattern)?;
    if picture.roman {
        let text = roman(as_integer(value)?);
        return Ok(Datum::from(write(
            &picture,
            &Digits {
                negative: false,
                text,
                lead: 0,
            },
        )?));
    }
    if picture.exponent {
        return Ok(Datum::from(scientific(value, &picture)));
    }
    let mut value = value.clone();
    let mut picture = picture;
    if picture.multi {
        value = value.mul(&Numeric::from_i64(10).power(&Numeric::from(picture.multiply))?)?;
        picture.before += picture.multiply;
    }
    let printed = value.round(picture.after)?.to_string();
    let digits = align(&printed, &picture);
    Ok(Datum::from(write(&picture, &digits)?))
}

/// `to_char` of integers.
pub(super) fn integer(value: i64, pattern: &str, kind: &str) -> Result<Datum> {
    if pattern.is_empty() {
        return Ok(Datum::Null);
    }
    let picture = Picture::parse(pattern)?;
    if picture.roman {
        let value = i32::try_from(value).map_err(|_| out_of_range("integer"))?;
        let digits = Digits {
            negative: false,
            text: roman(i64::from(value)),
            lead: 0,
        };
        return Ok(Datum::from(write(&picture, &digits)?));
    }
    if picture.exponent {
        if kind == "integer" {
            return Ok(Datum::from(scientific_float(value as f64, &picture)));
        }
        return Ok(Datum::from(scientific(&Numeric::from_i64(value), &picture)));
    }
    let mut picture = picture;
    let mut number = Numeric::from_i64(value);
    if picture.multi {
        number = number.mul(&Numeric::from_i64(10).power(&Numeric::from(picture.multiply))?)?;
        number = number.round(0)?;
        let limit = if kind == "integer" {
            i64::from(i32::MAX)
        } else {
            i64::MAX
        };
        if number.abs() > Numeric::from_i64(limit) {
            return Err(out_of_range(kind));
        }
        picture.before += picture.multiply;
    }
    let printed = number.round(picture.after)?.to_string();
    let digits = align(&printed, &picture);
    Ok(Datum::from(write(&picture, &digits)?))
}

/// `to_char` of floats; `precision` = the digits that the type holds for sure.
pub(super) fn float(value: f64, precision: i32, pattern: &str) -> Result<Datum> {
    if pattern.is_empty() {
        return Ok(Datum::Null);
    }
    let mut picture = Picture::parse(pattern)?;
    if picture.roman {
        let rounded = value.round_ties_even();
        if !rounded.is_nan() && !(-2_147_483_648.0..2_147_483_648.0).contains(&rounded) {
            return Err(out_of_range("integer"));
        }
        let text = roman(rounded as i64);
        return Ok(Datum::from(write(
            &picture,
            &Digits {
                negative: false,
                text,
                lead: 0,
            },
        )?));
    }
    if picture.exponent {
        return Ok(Datum::from(scientific_float(value, &picture)));
    }
    let mut value = value;
    if picture.multi {
        value *= 10f64.powi(picture.multiply);
        picture.before += picture.multiply;
    }
    let whole = not_finite(value).map_or_else(|| format!("{:.0}", value.abs()), str::to_owned);
    let length = whole.len() as i32;
    if length >= precision {
        picture.after = 0;
    } else if length + picture.after > precision {
        picture.after = precision - length;
    }
    let printed = match not_finite(value) {
        Some(word) if value < 0.0 => format!("-{word}"),
        Some(word) => word.to_owned(),
        None => format!("{value:.*}", picture.after as usize),
    };
    let digits = align(&printed, &picture);
    Ok(Datum::from(write(&picture, &digits)?))
}

fn not_finite(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value.is_infinite() {
        Some("Infinity")
    } else {
        None
    }
}

fn hashes(picture: &Picture) -> String {
    let before = picture.before.max(0) as usize;
    let after = picture.after.max(0) as usize;
    let mut text: Vec<u8> = vec![b'#'; before + after + 6];
    text[0] = b' ';
    if let Some(place) = text.get_mut(before + 1) {
        *place = b'.';
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn scientific_float(value: f64, picture: &Picture) -> String {
    if !value.is_finite() {
        return hashes(picture);
    }
    let text = format!("{value:.*e}", picture.after.max(0) as usize);
    exponent_form(&text)
}

/// `1.5e7` as C prints it: a sign or a blank first, two digits of exponent.
fn exponent_form(text: &str) -> String {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    let lead = if mantissa.starts_with('-') { "" } else { " " };
    format!("{lead}{mantissa}e{sign}{digits:0>2}")
}

fn scientific(value: &Numeric, picture: &Picture) -> String {
    if !value.is_finite() {
        return hashes(picture);
    }
    let after = picture.after.max(0);
    // The exponent of the value as it stands; rounding may carry into one digit more.
    let exponent = value.exponent();
    let shift = i64::from(after) - exponent;
    let power = |shift: i64| crate::types::numeric::power_of_ten(shift.unsigned_abs() as u32);
    let scaled = if shift >= 0 {
        Numeric::from_big(power(shift), 0).and_then(|unit| value.mul(&unit))
    } else {
        Numeric::from_big(power(shift), 0).and_then(|unit| value.div_at_scale(&unit, 0))
    };
    let digits = scaled
        .and_then(|scaled| scaled.round(0))
        .map_or_else(|_| "0".to_owned(), |rounded| rounded.abs().to_string());
    // A carry gives a digit more, which PostgreSQL keeps in front of the point.
    let split = digits.len().saturating_sub(after as usize).max(1);
    let padded = format!("{digits:0>width$}", width = after as usize + 1);
    let split = if digits.len() <= after as usize {
        padded.len() - after as usize
    } else {
        split
    };
    let (whole, part) = padded.split_at(split);
    let sign = if value.is_negative() { "-" } else { "" };
    let mantissa = if after > 0 {
        format!("{sign}{whole}.{part}")
    } else {
        format!("{sign}{whole}")
    };
    exponent_form(&format!("{mantissa}e{exponent}"))
}

/// Roman numerals from 1 to 3999.
fn roman(value: i64) -> String {
    if !(1..=3999).contains(&value) {
        return "#".repeat(15);
    }
    const STEPS: &[(i64, &str)] = &[
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    let mut rest = value;
    let mut out = String::new();
    for (step, letters) in STEPS {
        while rest >= *step {
            out.push_str(letters);
            rest -= step;
        }
    }
    out
}

/// The run through a picture.
struct Writer<'a> {
    picture: &'a Picture,
    digits: &'a [u8],
    at: usize,
    negative: bool,
    lead: i32,
    current: i32,
    count: i32,
    zero_start: i32,
    anchor: Anchor,
    bracket: bool,
    sign_written: bool,
    inside: bool,
    /// The last digit that matters in fill mode.
    relevant: Option<usize>,
    out: String,
    /// Where the digits ended before the picture did: what follows is not shown.
    cut: Option<usize>,
}

fn last_relevant(digits: &[u8]) -> Option<usize> {
    let point = digits.iter().position(|b| *b == b'.')?;
    let last = digits[point..].iter().rposition(|b| *b != b'0')?;
    Some(point + last)
}

fn write(picture: &Picture, digits: &Digits) -> Result<String> {
    let text = digits.text.as_bytes();
    let mut writer = Writer {
        picture,
        digits: text,
        at: 0,
        negative: digits.negative,
        lead: digits.lead,
        current: 0,
        count: picture.after + picture.before - 1,
        zero_start: (picture.zero_start - 1).max(0),
        anchor: picture.anchor,
        bracket: picture.bracket,
        sign_written: false,
        inside: false,
        relevant: None,
        out: String::new(),
        cut: None,
    };
    writer.prepare();
    for part in &picture.parts {
        writer.part(*part)?;
    }
    if let Some(cut) = writer.cut {
        writer.out.truncate(cut);
    }
    Ok(writer.out)
}

impl Writer<'_> {
    fn prepare(&mut self) {
        let picture = self.picture;
        if picture.roman {
            self.sign_written = true;
            return;
        }
        if picture.plus || picture.minus {
            self.sign_written = !picture.plus || picture.minus;
        } else {
            if !self.negative && picture.fill {
                self.bracket = false;
            }
            self.sign_written = !self.negative && picture.fill && self.anchor == Anchor::None;
            if self.anchor == Anchor::Before && picture.before == picture.anchor_at {
                self.anchor = Anchor::After;
            }
        }
        if picture.fill && picture.decimal {
            self.relevant = last_relevant(self.digits);
            if let Some(relevant) = self.relevant
                && picture.zero_end > self.lead
            {
                let zero = (picture.zero_end - self.lead) as usize;
                self.relevant = Some(relevant.max(zero.min(self.digits.len() - 1)));
            }
        }
        if !self.sign_written && self.lead == 0 {
            self.count += 1;
        }
    }

    fn part(&mut self, part: Part) -> Result<()> {
        let fill = self.picture.fill;
        match part {
            Part::Nine | Part::Zero | Part::Point => self.digit(part),
            Part::Comma | Part::Group => {
                if self.inside {
                    self.out.push(',');
                } else if !fill {
                    self.out.push(' ');
                }
            }
            Part::Currency => self.out.push(' '),
            Part::Roman | Part::RomanLower => {
                let text = String::from_utf8_lossy(self.digits).into_owned();
                let text = if part == Part::RomanLower {
                    text.to_lowercase()
                } else {
                    text
                };
                if fill {
                    self.out.push_str(&text);
                } else {
                    self.out.push_str(&format!("{text:>15}"));
                }
            }
            Part::Ordinal | Part::OrdinalLower => {
                let skipped = self.picture.roman
                    || self.digits.first() == Some(&b'#')
                    || self.negative
                    || self.picture.decimal;
                if !skipped {
                    let last = self.digits.last().copied().unwrap_or(b'0');
                    if !last.is_ascii_digit() {
                        let text = String::from_utf8_lossy(self.digits);
                        return Err(Error::new(
                            state::INVALID_TEXT_REPRESENTATION,
                            format!("\"{text}\" is not a number"),
                        ));
                    }
                    let ending = ordinal(&String::from_utf8_lossy(self.digits));
                    if part == Part::Ordinal {
                        self.out.push_str(&ending.to_uppercase());
                    } else {
                        self.out.push_str(ending);
                    }
                }
            }
            Part::Minus if self.negative => self.out.push('-'),
            Part::Plus if !self.negative => self.out.push('+'),
            Part::Minus | Part::Plus => {
                if !fill {
                    self.out.push(' ');
                }
            }
            Part::Sign => self.out.push(if self.negative { '-' } else { '+' }),
            Part::Silent => {}
            Part::Text(c) => self.out.push(c),
        }
        Ok(())
    }

    /// A leading `0` that `9.9` prints as a blank.
    fn is_blank_zero(&self) -> bool {
        !self.picture.zero
            && self.at == 0
            && self.digits.first() == Some(&b'0')
            && self.picture.after != 0
    }

    fn relevant_is_point(&self) -> bool {
        self.relevant.is_some_and(|at| self.digits[at] == b'.')
    }

    fn sign(&mut self) {
        let fill = self.picture.fill;
        match self.anchor {
            Anchor::Before => {
                self.out.push(if self.negative { '-' } else { '+' });
                self.sign_written = true;
            }
            Anchor::After => {}
            Anchor::None if self.bracket => {
                self.out.push(if self.negative { '<' } else { ' ' });
                self.sign_written = true;
            }
            Anchor::None => {
                if self.negative {
                    self.out.push('-');
                } else if !fill {
                    self.out.push(' ');
                }
                self.sign_written = true;
            }
        }
    }

    fn digit(&mut self, part: Part) {
        if self.picture.roman {
            return;
        }
        let (picture, fill) = (self.picture, self.picture.fill);
        self.inside = false;
        let starts = self.current >= self.lead || (picture.zero && self.zero_start == self.current);
        if !self.sign_written && starts && (!self.is_blank_zero() || self.relevant_is_point()) {
            self.sign();
        }
        if self.current < self.lead && (self.zero_start > self.current || !picture.zero) {
            if !fill {
                self.out.push(' ');
            }
        } else if picture.zero && self.current < self.lead && self.zero_start <= self.current {
            self.out.push('0');
            self.inside = true;
        } else {
            self.number(part);
        }
        let mut end = self.count + i32::from(self.lead != 0) + i32::from(picture.decimal);
        if self.relevant.is_some_and(|relevant| relevant == self.at) {
            end = self.current;
        }
        if self.current + 1 == end {
            if self.sign_written && self.bracket {
                self.out.push(if self.negative { '>' } else { ' ' });
            } else if self.anchor == Anchor::After {
                self.out.push(if self.negative { '-' } else { '+' });
            }
        }
        self.current += 1;
    }

    fn number(&mut self, part: Part) {
        let fill = self.picture.fill;
        let Some(digit) = self.digits.get(self.at).copied() else {
            let past = self.relevant.is_some_and(|relevant| self.at > relevant);
            if !past || part == Part::Zero {
                self.cut.get_or_insert(self.out.len());
            }
            return;
        };
        if digit == b'.' {
            if !self.relevant_is_point() || fill {
                self.out.push('.');
            }
        } else {
            let past = self.relevant.is_some_and(|relevant| self.at > relevant);
            if past && part != Part::Zero {
                // Trailing zeros are left out in fill mode.
            } else if self.is_blank_zero() {
                if !fill {
                    self.out.push(' ');
                } else if self.relevant_is_point() {
                    self.out.push('0');
                }
            } else {
                self.out.push(char::from(digit));
                self.inside = true;
            }
        }
        self.at += 1;
    }
}

/// `to_number(text, text)`.
pub(super) fn parse(text: &str, pattern: &str) -> Result<Datum> {
    if pattern.is_empty() {
        return Ok(Datum::Null);
    }
    let picture = Picture::parse(pattern)?;
    if picture.exponent {
        return Err(Error::new(
            state::FEATURE_NOT_SUPPORTED,
            "\"EEEE\" not supported for input",
        ));
    }
    if picture.roman {
        return Err(Error::new(
            state::FEATURE_NOT_SUPPORTED,
            "\"RN\" not supported for input",
        ));
    }
    let reader = Reader {
        text: text.as_bytes(),
        at: 0,
        picture: &picture,
        negative: false,
        signed: false,
        before: 0,
        after: 0,
        point: false,
        out: String::new(),
    };
    let number = reader.run();
    let mut value = Numeric::parse(&number)?;
    if picture.multi {
        let unit = Numeric::from_i64(10).power(&Numeric::from(-picture.multiply))?;
        value = value.mul(&unit)?;
    }
    Ok(Datum::numeric(value))
}

/// The value as PostgreSQL casts it to `integer`.
fn as_integer(value: &Numeric) -> Result<i64> {
    if !value.is_finite() {
        let word = if value.is_nan() { "NaN" } else { "infinity" };
        return Err(Error::new(
            state::FEATURE_NOT_SUPPORTED,
            format!("cannot convert {word} to integer"),
        ));
    }
    let integer = value.to_i64().filter(|value| i32::try_from(*value).is_ok());
    integer.ok_or_else(|| out_of_range("integer"))
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    picture: &'a Picture,
    negative: bool,
    signed: bool,
    before: i32,
    after: i32,
    point: bool,
    out: String,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn run(mut self) -> String {
        for part in &self.picture.parts {
            if self.at >= self.text.len() {
                break;
            }
            match part {
                Part::Nine | Part::Zero | Part::Point => self.digit(*part),
                Part::Comma | Part::Group => {
                    if self.peek() == Some(b',') {
                        self.at += 1;
                    }
                }
                Part::Currency | Part::Text(_) => self.skip_other(),
                Part::Minus | Part::Plus | Part::Sign | Part::Silent => self.sign(),
                Part::Ordinal | Part::OrdinalLower => {
                    self.skip_other();
                    self.skip_other();
                }
                Part::Roman | Part::RomanLower => {}
            }
        }
        self.sign();
        let sign = if self.negative { "-" } else { "" };
        let digits = self.out.trim_end_matches('.');
        // PostgreSQL keeps a place for the sign.
        if digits.is_empty() {
            " ".to_owned()
        } else {
            format!("{sign}{digits}")
        }
    }

    /// Skips a character that cannot be part of a number.
    fn skip_other(&mut self) {
        let data = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b',' | b'+' | b'-');
        if self.peek().is_some_and(|b| !data(b)) {
            let rest = std::str::from_utf8(&self.text[self.at..]).unwrap_or("");
            self.at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }

    fn sign(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'-') if !self.signed => {
                self.negative = true;
                self.signed = true;
                self.at += 1;
            }
            Some(b'+') if !self.signed => {
                self.signed = true;
                self.at += 1;
            }
            Some(b'<') if self.picture.bracket && !self.signed => {
                self.negative = true;
                self.signed = true;
                self.at += 1;
            }
            _ => {}
        }
    }

    fn digit(&mut self, part: Part) {
        if self.peek() == Some(b' ') {
            self.at += 1;
        }
        if self.before + self.after == 0 {
            self.sign();
        }
        match self.peek() {
            Some(digit @ b'0'..=b'9') if part != Part::Point => {
                if self.point && self.after >= self.picture.after {
                    return;
                }
                self.out.push(char::from(digit));
                self.at += 1;
                if self.point {
                    self.after += 1;
                } else {
                    self.before += 1;
                }
            }
            Some(b'.') if self.picture.decimal && !self.point => {
                self.out.push('.');
                self.point = true;
                self.at += 1;
            }
            _ => {}
        }
    }
}
