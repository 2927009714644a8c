//! The text forms of values, as PostgreSQL's input and output functions read and write them.

mod array;
mod float;
mod name;

use std::sync::Arc;

use crate::error::{Error, Result, state};
use crate::types::kind::oid;
use crate::types::{Array, ByteaOutput, Datum, FormatSettings, Numeric, Type, datetime, typmod};

use self::array::{read_array, write_array, write_record};
use self::float::read_f32;
pub(crate) use self::float::read_f64;
pub use self::float::{write_f32, write_f64};
pub use self::name::{quote_identifier, split_identifiers};
use self::name::{read_reg, write_oid};

/// 22P02, "invalid input syntax for type x".
pub(crate) fn invalid_syntax(kind: &str, text: &str) -> Error {
    Error::new(
        state::INVALID_TEXT_REPRESENTATION,
        format!("invalid input syntax for type {kind}: \"{text}\""),
    )
}

/// 22003, "value x is out of range for type y".
pub(crate) fn out_of_range(kind: &str, text: &str) -> Error {
    Error::new(
        state::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("value \"{text}\" is out of range for type {kind}"),
    )
}

/// Blanks as C's `isspace` sees them.
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

impl Datum {
    /// Reads the text form of a value of type `kind` and applies its modifier as an explicit
    /// cast from a literal does (`'abcd'::varchar(3)` is cut to `abc`).
    ///
    /// # Errors
    /// 22P02, 22003, 22007, 22008 and others as the type's input function raises them; 0A000 for
    /// types that are known by name only.
    pub fn from_text(text: &str, kind: Type, format: &FormatSettings) -> Result<Datum> {
        let value = read(text, kind, format)?;
        if kind.modifier < 0 {
            Ok(value)
        } else {
            typmod::apply(value, kind, true)
        }
    }

    /// As [`Datum::from_text`] for what is stored without a cast (COPY, JSON): what does not fit
    /// the modifier is refused, never cut.
    ///
    /// # Errors
    /// Those of [`Datum::from_text`], and 22001 for what is too long.
    pub fn from_input(text: &str, kind: Type, format: &FormatSettings) -> Result<Datum> {
        let value = read(text, kind, format)?;
        if kind.modifier < 0 {
            Ok(value)
        } else {
            typmod::apply(value, kind, false)
        }
    }

    /// Appends the text form of a value of type `kind`. NULL writes nothing: the caller tells it
    /// apart before. A value that is not of `kind` is written by its own representation.
    pub fn write_text(&self, kind: Type, format: &FormatSettings, out: &mut Vec<u8>) {
        match self {
            Datum::Null | Datum::Void => {}
            Datum::Bool(value) => out.push(if *value { b't' } else { b'f' }),
            Datum::Int2(value) => write_i64(i64::from(*value), out),
            Datum::Int4(value) => write_i64(i64::from(*value), out),
            Datum::Int8(value) => write_i64(*value, out),
            Datum::Float4(value) => write_f32(*value, format.extra_float_digits, out),
            Datum::Float8(value) => write_f64(*value, format.extra_float_digits, out),
            Datum::Numeric(value) => value.write(out),
            Datum::Text(value) | Datum::Bit(value) => out.extend_from_slice(value.as_bytes()),
            Datum::Bytea(value) => write_bytea(value, format.bytea_output, out),
            Datum::Date(value) => datetime::write_date(*value, format, out),
            Datum::Time(value) => datetime::write_time(*value, out),
            Datum::Timetz(value, west) => datetime::write_timetz(*value, *west, format, out),
            Datum::Timestamp(value) => datetime::write_timestamp(*value, format, out),
            Datum::Timestamptz(value) => datetime::write_timestamptz(*value, format, out),
            Datum::Interval(value) => datetime::write_interval(value, format.interval_style, out),
            Datum::Uuid(value) => write_uuid(value, out),
            Datum::Jsonb(value) => value.write(out),
            Datum::Array(value) => write_array(value, kind, format, out),
            Datum::Lsn(value) => {
                out.extend_from_slice(format!("{:X}/{:X}", value >> 32, *value as u32).as_bytes());
            }
            Datum::Oid(value) => write_oid(*value, kind, format, out),
            Datum::Char(value) => write_char(*value, out),
            Datum::Xid8(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Datum::Tid(block, offset) => {
                out.extend_from_slice(format!("({block},{offset})").as_bytes());
            }
            Datum::Record(value) => write_record(value, format, out),
        }
    }

    /// The text form as a string; `None` for NULL.
    pub fn to_text(&self, kind: Type, format: &FormatSettings) -> Option<String> {
        if self.is_null() {
            return None;
        }
        let mut out = Vec::new();
        self.write_text(kind, format, &mut out);
        Some(match String::from_utf8(out) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }
}

fn read(text: &str, kind: Type, format: &FormatSettings) -> Result<Datum> {
    Ok(match kind.oid {
        oid::BOOL => Datum::Bool(read_bool(text)?),
        oid::INT2 => Datum::Int2(read_integer(text, "smallint")?),
        oid::INT4 => Datum::Int4(read_integer(text, "integer")?),
        oid::INT8 => Datum::Int8(read_integer(text, "bigint")?),
        oid::FLOAT4 => Datum::Float4(read_f32(text)?),
        oid::FLOAT8 => Datum::Float8(read_f64(text, "double precision")?),
        oid::NUMERIC => Datum::numeric(Numeric::parse(text)?),
        oid::TEXT
        | oid::VARCHAR
        | oid::BPCHAR
        | oid::UNKNOWN
        | oid::CSTRING
        | oid::REFCURSOR
        | oid::PG_NODE_TREE
        | oid::ACLITEM => Datum::text(text),
        oid::NAME => Datum::text(typmod::truncate_name(text)),
        oid::BYTEA => Datum::Bytea(Arc::from(read_bytea(text)?)),
        oid::DATE => Datum::Date(datetime::read_date(text, format)?),
        oid::TIME => Datum::Time(datetime::read_time(text, format)?),
        oid::TIMETZ => {
            let (time, west) = datetime::read_timetz(text, format)?;
            Datum::Timetz(time, west)
        }
        oid::TIMESTAMP => Datum::Timestamp(datetime::read_timestamp(text, format)?),
        oid::TIMESTAMPTZ => Datum::Timestamptz(datetime::read_timestamptz(text, format)?),
        oid::INTERVAL => Datum::Interval(datetime::read_interval(text, kind.modifier, format)?),
        oid::UUID => Datum::Uuid(read_uuid(text)?),
        oid::JSON => {
            crate::types::json::validate(text)?;
            Datum::text(text)
        }
        oid::JSONB => Datum::Jsonb(Arc::new(crate::types::json::parse(text)?)),
        oid::JSONPATH => Datum::text(crate::types::json::path::normalize(text)?),
        oid::PG_LSN => Datum::Lsn(read_lsn(text)?),
        oid::OID => Datum::Oid(read_oid(text, "oid")?),
        oid::XID | oid::CID => Datum::Oid(read_wrapping(text) as u32),
        oid::XID8 => Datum::Xid8(read_wrapping(text)),
        oid::TID => read_tid(text)?,
        oid::CHAR => Datum::Char(read_char(text)),
        oid::BIT | oid::VARBIT => Datum::Bit(Arc::from(read_bit(text)?)),
        oid::INT2VECTOR => read_vector(text, Type::INT2, format)?,
        oid::OIDVECTOR => read_vector(text, Type::OID, format)?,
        oid::VOID => Datum::Void,
        _ => return read_other(text, kind, format),
    })
}

fn read_other(text: &str, kind: Type, format: &FormatSettings) -> Result<Datum> {
    if let Some(reg) = kind.reg_kind() {
        return Ok(Datum::Oid(read_reg(text, reg, kind, format)?));
    }
    if let Some(element) = kind.element() {
        return Ok(Datum::array(read_array(text, element, format)?));
    }
    match kind.row() {
        Some(row) if row.kind == b'p' => Err(Error::new(
            state::FEATURE_NOT_SUPPORTED,
            format!("cannot accept a value of type {}", kind.plain()),
        )),
        Some(_) => Err(Error::unsupported(format!("type {}", kind.plain()))),
        None => Ok(Datum::text(text)),
    }
}

/// Reads a boolean: any unique prefix of true, false, yes, no, on, off, 1, 0.
fn read_bool(text: &str) -> Result<bool> {
    let word = text.trim_matches(is_blank).to_ascii_lowercase();
    let prefix = |of: &str, least: usize| word.len() >= least && of.starts_with(word.as_str());
    if prefix("true", 1) || prefix("yes", 1) || word == "on" || word == "1" {
        Ok(true)
    } else if prefix("false", 1) || prefix("no", 1) || prefix("off", 2) || word == "0" {
        Ok(false)
    } else {
        Err(invalid_syntax("boolean", text))
    }
}

fn read_integer<T: TryFrom<i64>>(text: &str, kind: &str) -> Result<T> {
    let trimmed = text.trim_matches(is_blank);
    let (negative, digits) = match trimmed.as_bytes().first() {
        Some(b'-') => (true, &trimmed[1..]),
        Some(b'+') => (false, &trimmed[1..]),
        _ => (false, trimmed),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid_syntax(kind, text));
    }
    let mut value = 0i64;
    for digit in digits.bytes() {
        // Counting down reaches the smallest value, too.
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_sub(i64::from(digit - b'0')))
            .ok_or_else(|| out_of_range(kind, text))?;
    }
    let value = if negative {
        Some(value)
    } else {
        value.checked_neg()
    };
    value
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| out_of_range(kind, text))
}

fn read_bytea(text: &str) -> Result<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("\\x") {
        return read_hex(hex);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        match bytes.get(at + 1..) {
            Some([b'\\', ..]) => {
                out.push(b'\\');
                at += 2;
            }
            Some([a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                out.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                at += 4;
            }
            _ => {
                return Err(Error::new(
                    state::INVALID_TEXT_REPRESENTATION,
                    "invalid input syntax for type bytea",
                ));
            }
        }
    }
    Ok(out)
}

/// Pairs of hexadecimal digits; blanks between pairs are skipped.
pub(crate) fn read_hex(text: &str) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 2);
    let mut chars = text
        .chars()
        .filter(|c| !matches!(c, ' ' | '\n' | '\t' | '\r'));
    let digit = |c: char| {
        c.to_digit(16).map(|digit| digit as u8).ok_or_else(|| {
            Error::new(
                state::INVALID_PARAMETER_VALUE,
                format!("invalid hexadecimal digit: \"{c}\""),
            )
        })
    };
    while let Some(high) = chars.next() {
        let high = digit(high)?;
        let low = chars.next().ok_or_else(|| {
            Error::new(
                state::INVALID_PARAMETER_VALUE,
                "invalid hexadecimal data: odd number of digits",
            )
        })?;
        out.push((high << 4) | digit(low)?);
    }
    Ok(out)
}

fn write_bytea(value: &[u8], style: ByteaOutput, out: &mut Vec<u8>) {
    match style {
        ByteaOutput::Hex => {
            out.reserve(2 + value.len() * 2);
            out.extend_from_slice(b"\\x");
            write_hex(value, out);
        }
        ByteaOutput::Escape => {
            for byte in value {
                match byte {
                    b'\\' => out.extend_from_slice(b"\\\\"),
                    0x20..0x7f => out.push(*byte),
                    _ => out.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
                }
            }
        }
    }
}

/// Appends lower-case hexadecimal digits.
pub(crate) fn write_hex(value: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in value {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

fn read_uuid(text: &str) -> Result<[u8; 16]> {
    let invalid = || invalid_syntax("uuid", text);
    let body = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}').ok_or_else(invalid)?,
        None => text,
    };
    let bytes = body.as_bytes();
    let mut out = [0u8; 16];
    let mut at = 0;
    for (index, slot) in out.iter_mut().enumerate() {
        let pair = bytes.get(at..at + 2).ok_or_else(invalid)?;
        let digit = |b: u8| {
            (b as char)
                .to_digit(16)
                .map(|d| d as u8)
                .ok_or_else(invalid)
        };
        *slot = (digit(pair[0])? << 4) | digit(pair[1])?;
        at += 2;
        // A hyphen may follow each group of four digits, but not the last.
        if index % 2 == 1 && index < 15 && bytes.get(at) == Some(&b'-') {
            at += 1;
        }
    }
    if at == bytes.len() {
        Ok(out)
    } else {
        Err(invalid())
    }
}

fn write_uuid(value: &[u8; 16], out: &mut Vec<u8>) {
    for (index, byte) in value.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        write_hex(&[*byte], out);
    }
}

fn read_lsn(text: &str) -> Result<u64> {
    let part = |digits: &str| {
        let valid =
            (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
        if valid {
            u64::from_str_radix(digits, 16).ok()
        } else {
            None
        }
    };
    text.split_once('/')
        .and_then(|(high, low)| Some((part(high)? << 32) | part(low)?))
        .ok_or_else(|| invalid_syntax("pg_lsn", text))
}

/// Reads an OID: unsigned, or negative as C's `strtoul` wraps it.
pub(crate) fn read_oid(text: &str, kind: &str) -> Result<u32> {
    let trimmed = text.trim_matches(is_blank);
    let (negative, digits) = match trimmed.as_bytes().first() {
        Some(b'-') => (true, &trimmed[1..]),
        Some(b'+') => (false, &trimmed[1..]),
        _ => (false, trimmed),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid_syntax(kind, text));
    }
    let value: u64 = digits.parse().map_err(|_| out_of_range(kind, text))?;
    let fits = if negative {
        value <= 1 << 31
    } else {
        value <= u64::from(u32::MAX)
    };
    if !fits {
        return Err(out_of_range(kind, text));
    }
    Ok(if negative {
        (value as u32).wrapping_neg()
    } else {
        value as u32
    })
}

/// xid and cid read what digits there are (`strtoul`).
fn read_wrapping(text: &str) -> u64 {
    let trimmed = text.trim_start_matches(is_blank);
    let end = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    trimmed[..end].parse().unwrap_or(0)
}

fn read_tid(text: &str) -> Result<Datum> {
    let parts = text
        .trim()
        .strip_prefix('(')
        .and_then(|t| t.strip_suffix(')'));
    parts
        .and_then(|parts| parts.split_once(','))
        .and_then(|(block, offset)| Some(Datum::Tid(block.parse().ok()?, offset.parse().ok()?)))
        .ok_or_else(|| invalid_syntax("tid", text))
}

fn read_char(text: &str) -> u8 {
    let bytes = text.as_bytes();
    if let [b'\\', a @ b'0'..=b'7', b @ b'0'..=b'7', c @ b'0'..=b'7'] = bytes {
        return ((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0');
    }
    bytes.first().copied().unwrap_or(0)
}

fn write_char(value: u8, out: &mut Vec<u8>) {
    match value {
        0 => {}
        1..0x80 => out.push(value),
        _ => out.extend_from_slice(format!("\\{value:03o}").as_bytes()),
    }
}

fn read_bit(text: &str) -> Result<String> {
    let (digits, hex) = match text.as_bytes().first() {
        Some(b'b' | b'B') => (&text[1..], false),
        Some(b'x' | b'X') => (&text[1..], true),
        _ => (text, false),
    };
    let mut out = String::with_capacity(digits.len());
    for c in digits.chars() {
        if !hex {
            if !matches!(c, '0' | '1') {
                return Err(Error::new(
                    state::INVALID_TEXT_REPRESENTATION,
                    format!("\"{c}\" is not a valid binary digit"),
                ));
            }
            out.push(c);
            continue;
        }
        let digit = c.to_digit(16).ok_or_else(|| {
            Error::new(
                state::INVALID_TEXT_REPRESENTATION,
                format!("\"{c}\" is not a valid hexadecimal digit"),
            )
        })?;
        out.push_str(&format!("{digit:04b}"));
    }
    Ok(out)
}

fn read_vector(text: &str, element: Type, format: &FormatSettings) -> Result<Datum> {
    let values: Result<Vec<Datum>> = text
        .split_whitespace()
        .map(|word| read(word, element, format))
        .collect();
    Ok(Datum::array(Array::starting_at(element, 0, values?)))
}

/// Appends an integer.
#[inline]
pub fn write_i64(value: i64, out: &mut Vec<u8>) {
    let mut buffer = [0u8; 20];
    let mut at = buffer.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    out.extend_from_slice(&buffer[at..]);
}
