//! The text forms of values, as PostgreSQL's input and output functions read and write them.

use std::sync::Arc;

use crate::error::{Error, Result, state};
use crate::types::array::{DIMENSIONS_MAX, Dimension, too_many_dimensions};
use crate::types::kind::oid;
use crate::types::{
    Array, ByteaOutput, Datum, FormatSettings, Numeric, Record, RegKind, Type, datetime, typmod,
};

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

fn float_word(text: &str) -> Option<f64> {
    let is = |other: &str| text.eq_ignore_ascii_case(other);
    if is("nan") {
        Some(f64::NAN)
    } else if is("infinity") || is("+infinity") || is("inf") || is("+inf") {
        Some(f64::INFINITY)
    } else if is("-infinity") || is("-inf") {
        Some(f64::NEG_INFINITY)
    } else {
        None
    }
}

/// Digits, point and exponent only: what Rust reads beyond that (`inf`, `nan`) is handled apart.
fn is_plain_float(text: &str) -> bool {
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    body.bytes().any(|b| b.is_ascii_digit())
        && body
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
}

/// Reads a double as `float8in` does.
pub(crate) fn read_f64(text: &str, kind: &str) -> Result<f64> {
    let trimmed = text.trim_matches(is_blank);
    if let Some(value) = float_word(trimmed) {
        return Ok(value);
    }
    let value: f64 = match trimmed.parse() {
        Ok(value) if is_plain_float(trimmed) => value,
        _ => return Err(invalid_syntax(kind, text)),
    };
    let zero = !mantissa(trimmed).bytes().any(|b| matches!(b, b'1'..=b'9'));
    if value.is_infinite() || (value == 0.0 && !zero) {
        return Err(Error::new(
            state::NUMERIC_VALUE_OUT_OF_RANGE,
            format!("\"{trimmed}\" is out of range for type {kind}"),
        ));
    }
    Ok(value)
}

fn mantissa(text: &str) -> &str {
    text.split(['e', 'E']).next().unwrap_or(text)
}

fn read_f32(text: &str) -> Result<f32> {
    let trimmed = text.trim_matches(is_blank);
    if let Some(value) = float_word(trimmed) {
        return Ok(value as f32);
    }
    let value: f32 = match trimmed.parse() {
        Ok(value) if is_plain_float(trimmed) => value,
        _ => return Err(invalid_syntax("real", text)),
    };
    let zero = !mantissa(trimmed).bytes().any(|b| matches!(b, b'1'..=b'9'));
    if value.is_infinite() || (value == 0.0 && !zero) {
        return Err(Error::new(
            state::NUMERIC_VALUE_OUT_OF_RANGE,
            format!("\"{trimmed}\" is out of range for type real"),
        ));
    }
    Ok(value)
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

/// Reads the name or number of a catalog object.
fn read_reg(text: &str, reg: RegKind, kind: Type, format: &FormatSettings) -> Result<u32> {
    if text == "-" {
        return Ok(0);
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return read_oid(text, "oid");
    }
    if let Some(names) = &format.names
        && let Some(found) = names.oid_of(reg, text)?
    {
        return Ok(found);
    }
    find_builtin(text, reg)?.ok_or_else(|| no_such_object(text, reg, kind))
}

/// The OID of a built-in object by its name; `None` = there is none.
fn find_builtin(text: &str, reg: RegKind) -> Result<Option<u32>> {
    use crate::functions::catalog;
    Ok(match reg {
        RegKind::Type => match Type::parse(text) {
            Ok(kind) => Some(kind.oid),
            Err(error) if error.state() == state::UNDEFINED_OBJECT => None,
            Err(error) => return Err(error),
        },
        RegKind::Proc => {
            let name = bare_name(text);
            let mut found = catalog::functions_named(&name);
            match (found.next(), found.next()) {
                (None, _) => None,
                (Some(one), None) => Some(one.oid),
                _ => {
                    return Err(Error::new(
                        state::AMBIGUOUS_FUNCTION,
                        format!("more than one function named \"{text}\""),
                    ));
                }
            }
        }
        RegKind::Procedure => {
            let Some((name, types)) = split_signature(text)? else {
                return Ok(None);
            };
            catalog::functions_named(&name)
                .find(|f| f.arguments == types)
                .map(|f| f.oid)
        }
        RegKind::Oper => {
            let name = text.strip_prefix("pg_catalog.").unwrap_or(text);
            let mut found = catalog::operators_named(name);
            match (found.next(), found.next()) {
                (None, _) => None,
                (Some(one), None) => Some(one.oid),
                _ => {
                    return Err(Error::new(
                        state::AMBIGUOUS_FUNCTION,
                        format!("more than one operator named {text}"),
                    ));
                }
            }
        }
        RegKind::Operator => {
            let Some((name, types)) = split_signature(text)? else {
                return Ok(None);
            };
            let (left, right) = match types[..] {
                [right] => (None, right),
                [0, right] => (None, right),
                [left, right] => (Some(left), right),
                _ => return Ok(None),
            };
            catalog::operator_exact(&name, left, right).map(|o| o.oid)
        }
        RegKind::Namespace => match bare_name(text).as_str() {
            "pg_catalog" => Some(11),
            "public" => Some(2200),
            _ => None,
        },
        RegKind::Collation => match bare_name(text).as_str() {
            "default" => Some(100),
            "C" => Some(950),
            "POSIX" => Some(951),
            _ => None,
        },
        RegKind::Class | RegKind::Role | RegKind::Config | RegKind::Dictionary => None,
    })
}

fn bare_name(text: &str) -> String {
    split_identifiers(text)
        .and_then(|parts| parts.last().cloned())
        .unwrap_or_default()
}

/// Splits `name(type, type)`; `None` when a type is unknown or the form is another.
fn split_signature(text: &str) -> Result<Option<(String, Vec<u32>)>> {
    let Some((name, rest)) = text.split_once('(') else {
        return Err(Error::new(
            state::INVALID_TEXT_REPRESENTATION,
            "expected a left parenthesis",
        ));
    };
    let Some(list) = rest.trim_end().strip_suffix(')') else {
        return Err(Error::new(
            state::INVALID_TEXT_REPRESENTATION,
            "expected a right parenthesis",
        ));
    };
    let name = name.trim();
    let is_word = name.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '"');
    let name = if is_word {
        bare_name(name)
    } else {
        name.strip_prefix("pg_catalog.").unwrap_or(name).to_owned()
    };
    let mut types = Vec::new();
    for part in list
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        if part.eq_ignore_ascii_case("none") {
            types.push(0);
            continue;
        }
        match Type::parse(part) {
            Ok(kind) => types.push(kind.oid),
            Err(error) => return Err(error),
        }
    }
    Ok(Some((name, types)))
}

fn no_such_object(text: &str, reg: RegKind, kind: Type) -> Error {
    let (code, message) = match reg {
        RegKind::Class => (
            state::UNDEFINED_TABLE,
            format!("relation \"{}\" does not exist", unquoted(text)),
        ),
        RegKind::Type => (
            state::UNDEFINED_OBJECT,
            format!("type \"{}\" does not exist", unquoted(text)),
        ),
        RegKind::Proc | RegKind::Procedure => (
            state::UNDEFINED_FUNCTION,
            format!("function \"{text}\" does not exist"),
        ),
        RegKind::Oper | RegKind::Operator => (
            state::UNDEFINED_FUNCTION,
            format!("operator does not exist: {text}"),
        ),
        RegKind::Namespace => (
            state::INVALID_SCHEMA_NAME,
            format!("schema \"{}\" does not exist", unquoted(text)),
        ),
        RegKind::Role => (
            state::UNDEFINED_OBJECT,
            format!("role \"{}\" does not exist", unquoted(text)),
        ),
        RegKind::Collation => (
            state::UNDEFINED_OBJECT,
            format!(
                "collation \"{}\" for encoding \"UTF8\" does not exist",
                unquoted(text)
            ),
        ),
        RegKind::Config => (
            state::UNDEFINED_OBJECT,
            format!(
                "text search configuration \"{}\" does not exist",
                unquoted(text)
            ),
        ),
        RegKind::Dictionary => (
            state::UNDEFINED_OBJECT,
            format!(
                "text search dictionary \"{}\" does not exist",
                unquoted(text)
            ),
        ),
    };
    let _ = kind;
    Error::new(code, message)
}

fn unquoted(text: &str) -> String {
    split_identifiers(text).map_or_else(|| text.to_owned(), |parts| parts.join("."))
}

/// Splits `schema."Name"` into its identifiers, folded to lower case where they are not quoted.
/// `None` when the text is no such list.
pub fn split_identifiers(text: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut chars = text.trim().chars().peekable();
    loop {
        let mut part = String::new();
        if chars.peek() == Some(&'"') {
            chars.next();
            loop {
                match chars.next()? {
                    '"' if chars.peek() == Some(&'"') => {
                        chars.next();
                        part.push('"');
                    }
                    '"' => break,
                    c => part.push(c),
                }
            }
        } else {
            while let Some(c) = chars.peek().copied().filter(|c| *c != '.' && *c != '"') {
                part.push(if c.is_ascii() {
                    c.to_ascii_lowercase()
                } else {
                    c
                });
                chars.next();
            }
            part = part.trim().to_owned();
        }
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        match chars.next() {
            None => return Some(parts),
            Some('.') => {}
            Some(_) => return None,
        }
    }
}

fn write_oid(value: u32, kind: Type, format: &FormatSettings, out: &mut Vec<u8>) {
    let Some(reg) = kind.reg_kind() else {
        return write_i64(i64::from(value), out);
    };
    if value == 0 {
        out.push(b'-');
        return;
    }
    let name = format
        .names
        .as_ref()
        .and_then(|names| names.name_of(reg, value));
    match name.or_else(|| builtin_name(reg, value)) {
        Some(name) => out.extend_from_slice(name.as_bytes()),
        None => write_i64(i64::from(value), out),
    }
}

fn builtin_name(reg: RegKind, value: u32) -> Option<String> {
    use crate::functions::catalog;
    match reg {
        RegKind::Type => Type::new(value).row().map(|_| Type::new(value).name()),
        RegKind::Proc => {
            let function = catalog::function(value)?;
            let unique = catalog::functions_named(function.name).count() == 1;
            let name = quote_identifier(function.name);
            Some(if unique && function.schema == "pg_catalog" {
                name
            } else {
                format!("{}.{name}", function.schema)
            })
        }
        RegKind::Procedure => {
            let function = catalog::function(value)?;
            let types: Vec<String> = function
                .arguments
                .iter()
                .map(|oid| Type::new(*oid).name())
                .collect();
            Some(format!(
                "{}({})",
                quote_identifier(function.name),
                types.join(",")
            ))
        }
        RegKind::Oper => {
            let operator = catalog::operator(value)?;
            let unique = catalog::operators_named(operator.name).count() == 1;
            Some(if unique {
                operator.name.to_owned()
            } else {
                format!("pg_catalog.{}", operator.name)
            })
        }
        RegKind::Operator => {
            let operator = catalog::operator(value)?;
            let left = operator
                .left
                .map_or("NONE".to_owned(), |left| Type::new(left).name());
            Some(format!(
                "{}({left},{})",
                operator.name,
                Type::new(operator.right)
            ))
        }
        RegKind::Namespace => match value {
            11 => Some("pg_catalog".to_owned()),
            2200 => Some("public".to_owned()),
            _ => None,
        },
        RegKind::Collation => match value {
            100 => Some("\"default\"".to_owned()),
            950 => Some("\"C\"".to_owned()),
            951 => Some("\"POSIX\"".to_owned()),
            _ => None,
        },
        RegKind::Class | RegKind::Role | RegKind::Config | RegKind::Dictionary => None,
    }
}

/// Quotes an identifier when it must be (`quote_ident`).
pub fn quote_identifier(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !crate::types::kind::is_reserved(name);
    if plain {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
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

/// Appends a double; `digits` is extra_float_digits.
pub fn write_f64(value: f64, digits: i32, out: &mut Vec<u8>) {
    if write_not_finite(value, out) {
        return;
    }
    if digits > 0 {
        write_exponent_form(&format!("{value:e}"), 15, out);
    } else {
        let precision = (15 + digits).max(1) as usize;
        write_rounded(value, precision, out);
    }
}

/// Appends a float; `digits` is extra_float_digits.
pub fn write_f32(value: f32, digits: i32, out: &mut Vec<u8>) {
    if write_not_finite(f64::from(value), out) {
        return;
    }
    if digits > 0 {
        write_exponent_form(&format!("{value:e}"), 6, out);
    } else {
        let precision = (6 + digits).max(1) as usize;
        write_rounded(f64::from(value), precision, out);
    }
}

fn write_not_finite(value: f64, out: &mut Vec<u8>) -> bool {
    let word: &[u8] = if value.is_nan() {
        b"NaN"
    } else if value == f64::INFINITY {
        b"Infinity"
    } else if value == f64::NEG_INFINITY {
        b"-Infinity"
    } else {
        return false;
    };
    out.extend_from_slice(word);
    true
}

/// C's `%.<precision>g`.
fn write_rounded(value: f64, precision: usize, out: &mut Vec<u8>) {
    let text = format!("{value:.*e}", precision - 1);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let trimmed = match mantissa.contains('.') {
        true => mantissa.trim_end_matches('0').trim_end_matches('.'),
        false => mantissa,
    };
    write_exponent_form(&format!("{trimmed}e{exponent}"), precision as i32, out);
}

/// Writes `d.ddde<exponent>` as PostgreSQL prints floats: with an exponent below -4 or from
/// `limit` digits on.
fn write_exponent_form(text: &str, limit: i32, out: &mut Vec<u8>) {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    out.extend_from_slice(sign.as_bytes());
    if exponent < -4 || exponent >= limit {
        out.extend_from_slice(mantissa.as_bytes());
        let sign = if exponent < 0 { '-' } else { '+' };
        out.extend_from_slice(format!("e{sign}{:02}", exponent.abs()).as_bytes());
        return;
    }
    let digits: Vec<u8> = mantissa.bytes().filter(|b| *b != b'.').collect();
    if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + (-exponent - 1) as usize, b'0');
        out.extend_from_slice(&digits);
        return;
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        out.extend_from_slice(&digits);
        out.resize(out.len() + whole - digits.len(), b'0');
    } else {
        out.extend_from_slice(&digits[..whole]);
        out.push(b'.');
        out.extend_from_slice(&digits[whole..]);
    }
}

// Arrays and records.

fn malformed_array(text: &str, detail: &str) -> Error {
    Error::new(
        state::INVALID_TEXT_REPRESENTATION,
        format!("malformed array literal: \"{text}\""),
    )
    .detail(detail)
}

/// Reads `{1,2,{...}}`, with optional `[l:u]=` before it.
fn read_array(text: &str, element: Type, format: &FormatSettings) -> Result<Array> {
    let mut rest = text.trim_start_matches(is_blank);
    let mut declared: Vec<Dimension> = Vec::new();
    while let Some(inner) = rest.strip_prefix('[') {
        if declared.len() >= DIMENSIONS_MAX {
            return Err(too_many_dimensions(declared.len() + 1));
        }
        let close = inner
            .find(']')
            .ok_or_else(|| malformed_array(text, "Missing \"]\" after array dimensions."))?;
        declared.push(read_dimension(&inner[..close], text)?);
        rest = inner[close + 1..].trim_start_matches(is_blank);
    }
    if !declared.is_empty() {
        rest = rest
            .strip_prefix('=')
            .ok_or_else(|| malformed_array(text, "Missing \"=\" after array dimensions."))?
            .trim_start_matches(is_blank);
        if !rest.starts_with('{') {
            return Err(malformed_array(
                text,
                "Array contents must start with \"{\".",
            ));
        }
    } else if !rest.starts_with('{') {
        return Err(malformed_array(
            text,
            "Array value must start with \"{\" or dimension information.",
        ));
    }
    let mut parser = ArrayParser {
        text,
        rest: rest.as_bytes(),
        source: rest,
        at: 0,
        element,
        format,
        delimiter: element.row().map_or(b',', |row| row.delimiter),
        lengths: Vec::new(),
        values: Vec::new(),
    };
    parser.level(0)?;
    parser.skip_blanks();
    if parser.at < parser.rest.len() {
        return Err(malformed_array(text, "Junk after closing right brace."));
    }
    let ArrayParser {
        lengths, values, ..
    } = parser;
    if values.is_empty() {
        return Ok(Array::empty(element.plain()));
    }
    let dimensions: Vec<Dimension> = if declared.is_empty() {
        lengths
            .iter()
            .map(|length| Dimension {
                length: *length,
                lower: 1,
            })
            .collect()
    } else {
        let same = declared.len() == lengths.len()
            && declared
                .iter()
                .zip(&lengths)
                .all(|(d, length)| d.length == *length);
        if !same {
            return Err(malformed_array(
                text,
                "Specified array dimensions do not match array contents.",
            ));
        }
        declared
    };
    Ok(Array {
        element: element.plain(),
        dimensions,
        values,
    })
}

fn read_dimension(text: &str, whole: &str) -> Result<Dimension> {
    let invalid = || {
        malformed_array(
            whole,
            "\"[\" must introduce explicitly-specified array dimensions.",
        )
    };
    let number = |text: &str| text.trim().parse::<i32>().map_err(|_| invalid());
    let (lower, upper) = match text.split_once(':') {
        Some((lower, upper)) => (number(lower)?, number(upper)?),
        None => (1, number(text)?),
    };
    if upper < lower {
        return Err(Error::new(
            state::ARRAY_SUBSCRIPT_ERROR,
            "upper bound cannot be less than lower bound",
        ));
    }
    let length = upper
        .checked_sub(lower)
        .and_then(|d| d.checked_add(1))
        .ok_or_else(|| {
            Error::new(
                state::PROGRAM_LIMIT_EXCEEDED,
                "array size exceeds the maximum allowed",
            )
        })?;
    Ok(Dimension { length, lower })
}

struct ArrayParser<'a> {
    text: &'a str,
    rest: &'a [u8],
    source: &'a str,
    at: usize,
    element: Type,
    format: &'a FormatSettings,
    delimiter: u8,
    /// Length of each dimension, as the first of its kind had it.
    lengths: Vec<i32>,
    values: Vec<Datum>,
}

impl ArrayParser<'_> {
    fn skip_blanks(&mut self) {
        while self.rest.get(self.at).is_some_and(|b| is_blank(*b as char)) {
            self.at += 1;
        }
    }

    fn ragged(&self) -> Error {
        malformed_array(
            self.text,
            "Multidimensional arrays must have sub-arrays with matching dimensions.",
        )
    }

    fn ended(&self) -> Error {
        malformed_array(self.text, "Unexpected end of input.")
    }

    fn unexpected(&self, byte: u8) -> Error {
        malformed_array(
            self.text,
            &format!("Unexpected \"{}\" character.", byte as char),
        )
    }

    /// Reads one `{...}` at nesting `depth`.
    fn level(&mut self, depth: usize) -> Result<()> {
        if depth >= DIMENSIONS_MAX {
            return Err(too_many_dimensions(depth + 1));
        }
        self.at += 1;
        let mut count = 0;
        let mut nested = None;
        self.skip_blanks();
        if self.rest.get(self.at) == Some(&b'}') {
            self.at += 1;
            return if depth == 0 {
                Ok(())
            } else {
                Err(self.unexpected(b'}'))
            };
        }
        loop {
            self.skip_blanks();
            let here = match self.rest.get(self.at) {
                None => return Err(self.ended()),
                Some(b'{') => true,
                Some(_) => false,
            };
            if nested.is_some_and(|nested| nested != here) {
                return Err(if here {
                    self.unexpected(b'{')
                } else {
                    self.ragged()
                });
            }
            nested = Some(here);
            if here {
                self.level(depth + 1)?;
            } else {
                self.item()?;
            }
            count += 1;
            self.skip_blanks();
            match self.rest.get(self.at) {
                None => return Err(self.ended()),
                Some(b'}') => {
                    self.at += 1;
                    return self.close(depth, count);
                }
                Some(byte) if *byte == self.delimiter => self.at += 1,
                Some(b'"') => {
                    return Err(malformed_array(self.text, "Unexpected array element."));
                }
                Some(byte) => return Err(self.unexpected(*byte)),
            }
        }
    }

    fn close(&mut self, depth: usize, count: i32) -> Result<()> {
        if self.lengths.len() <= depth {
            self.lengths.resize(depth + 1, -1);
        }
        match self.lengths[depth] {
            -1 => self.lengths[depth] = count,
            length if length != count => return Err(self.ragged()),
            _ => {}
        }
        Ok(())
    }

    /// Reads one element up to its delimiter.
    fn item(&mut self) -> Result<()> {
        let mut out: Vec<u8> = Vec::new();
        let mut quoted = false;
        // Trailing blanks of an unquoted element do not count; escaped ones do.
        let mut kept = 0;
        loop {
            let Some(byte) = self.rest.get(self.at).copied() else {
                return Err(self.ended());
            };
            match byte {
                b'"' => {
                    if quoted || !out.is_empty() {
                        return Err(malformed_array(self.text, "Unexpected array element."));
                    }
                    quoted = true;
                    self.quoted(&mut out)?;
                    kept = out.len();
                }
                b'\\' => {
                    self.at += 1;
                    let Some(next) = self.rest.get(self.at).copied() else {
                        return Err(self.ended());
                    };
                    out.push(next);
                    self.at += 1;
                    kept = out.len();
                    // An escape makes the word never mean NULL.
                    quoted |= out.len() == 4;
                }
                b'{' => return Err(self.unexpected(b'{')),
                b'}' => break,
                byte if byte == self.delimiter => break,
                byte => {
                    let blank = is_blank(byte as char);
                    if quoted && !blank && kept == out.len() && self.rest[self.at - 1] == b'"' {
                        return Err(malformed_array(self.text, "Unexpected array element."));
                    }
                    self.at += 1;
                    if !(quoted && blank) {
                        out.push(byte);
                        if !blank {
                            kept = out.len();
                        }
                    }
                }
            }
        }
        out.truncate(kept);
        if out.is_empty() && !quoted {
            let byte = self.rest.get(self.at).copied().unwrap_or(b'}');
            return Err(self.unexpected(byte));
        }
        let word = std::str::from_utf8(&out).unwrap_or(self.source);
        let value = if !quoted && word.eq_ignore_ascii_case("null") {
            Datum::Null
        } else {
            Datum::from_text(word, self.element, self.format)?
        };
        self.values.push(value);
        Ok(())
    }

    fn quoted(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.at += 1;
        loop {
            match self.rest.get(self.at).copied() {
                None => return Err(self.ended()),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    let Some(next) = self.rest.get(self.at).copied() else {
                        return Err(self.ended());
                    };
                    out.push(next);
                }
                Some(byte) => out.push(byte),
            }
            self.at += 1;
        }
    }
}

fn write_array(array: &Array, kind: Type, format: &FormatSettings, out: &mut Vec<u8>) {
    if kind.is_vector() {
        for (index, item) in array.values.iter().enumerate() {
            if index > 0 {
                out.push(b' ');
            }
            item.write_text(array.element, format, out);
        }
        return;
    }
    if array.is_empty() {
        out.extend_from_slice(b"{}");
        return;
    }
    if array
        .dimensions
        .iter()
        .any(|dimension| dimension.lower != 1)
    {
        for dimension in &array.dimensions {
            let bounds = format!("[{}:{}]", dimension.lower, dimension.upper());
            out.extend_from_slice(bounds.as_bytes());
        }
        out.push(b'=');
    }
    // The static type knows better what the elements are (varchar over text and the like).
    let element = kind.element().unwrap_or(array.element);
    let delimiter = element.row().map_or(b',', |row| row.delimiter);
    let mut scratch = Vec::new();
    write_level(
        array,
        element,
        delimiter,
        0,
        &mut 0,
        format,
        &mut scratch,
        out,
    );
}

#[allow(clippy::too_many_arguments)]
fn write_level(
    array: &Array,
    element: Type,
    delimiter: u8,
    depth: usize,
    next: &mut usize,
    format: &FormatSettings,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
    out.push(b'{');
    for index in 0..array.dimensions[depth].length {
        if index > 0 {
            out.push(delimiter);
        }
        if depth + 1 < array.dimensions.len() {
            write_level(
                array,
                element,
                delimiter,
                depth + 1,
                next,
                format,
                scratch,
                out,
            );
            continue;
        }
        let item = &array.values[*next];
        *next += 1;
        if item.is_null() {
            out.extend_from_slice(b"NULL");
            continue;
        }
        scratch.clear();
        item.write_text(element, format, scratch);
        write_array_item(scratch, delimiter, out);
    }
    out.push(b'}');
}

fn write_array_item(text: &[u8], delimiter: u8, out: &mut Vec<u8>) {
    let special =
        |b: &u8| *b == delimiter || matches!(b, b'"' | b'\\' | b'{' | b'}') || is_blank(*b as char);
    let quote = text.is_empty() || text.eq_ignore_ascii_case(b"null") || text.iter().any(special);
    if !quote {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

fn write_record(record: &Record, format: &FormatSettings, out: &mut Vec<u8>) {
    out.push(b'(');
    let mut scratch = Vec::new();
    for (index, (value, kind)) in record.values.iter().zip(&record.shape.types).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        if value.is_null() {
            continue;
        }
        scratch.clear();
        value.write_text(*kind, format, &mut scratch);
        let special =
            |b: &u8| matches!(b, b'"' | b'\\' | b'(' | b')' | b',') || is_blank(*b as char);
        if !scratch.is_empty() && !scratch.iter().any(special) {
            out.extend_from_slice(&scratch);
            continue;
        }
        out.push(b'"');
        for byte in &scratch {
            if matches!(byte, b'"' | b'\\') {
                out.push(*byte);
            }
            out.push(*byte);
        }
        out.push(b'"');
    }
    out.push(b')');
}
