//! The binary forms of values, as PostgreSQL's receive and send functions read and write them.

use std::sync::Arc;

use num_bigint::BigInt;
use num_traits::{Signed, ToPrimitive, Zero};

use crate::error::{Error, Result, state};
use crate::types::array::{DIMENSIONS_MAX, too_many_dimensions};
use crate::types::kind::oid;
use crate::types::numeric::power_of_ten;
use crate::types::{
    Array, Datum, Dimension, FormatSettings, Interval, Numeric, Record, Shape, Type, typmod,
};

fn invalid(message: impl Into<String>) -> Error {
    Error::new(state::INVALID_BINARY_REPRESENTATION, message)
}

fn wrong_size() -> Error {
    invalid("incorrect binary data format")
}

impl Datum {
    /// Reads the binary form of a value of type `kind` and applies its modifier.
    ///
    /// # Errors
    /// 22P03 for malformed bytes, 22021 for text that is not UTF-8, and what the type raises.
    pub fn from_binary(bytes: &[u8], kind: Type, format: &FormatSettings) -> Result<Datum> {
        let value = receive(bytes, kind, format)?;
        if kind.modifier < 0 {
            Ok(value)
        } else {
            typmod::apply(value, kind, true)
        }
    }

    /// Appends the binary form of a value of type `kind`. NULL writes nothing.
    pub fn write_binary(&self, kind: Type, format: &FormatSettings, out: &mut Vec<u8>) {
        match self {
            Datum::Null | Datum::Void => {}
            Datum::Bool(value) => out.push(u8::from(*value)),
            Datum::Int2(value) => out.extend_from_slice(&value.to_be_bytes()),
            Datum::Int4(value) | Datum::Date(value) => {
                out.extend_from_slice(&value.to_be_bytes());
            }
            Datum::Int8(value)
            | Datum::Time(value)
            | Datum::Timestamp(value)
            | Datum::Timestamptz(value) => out.extend_from_slice(&value.to_be_bytes()),
            Datum::Float4(value) => out.extend_from_slice(&value.to_be_bytes()),
            Datum::Float8(value) => out.extend_from_slice(&value.to_be_bytes()),
            Datum::Numeric(value) => send_numeric(value, out),
            Datum::Text(value) => {
                if kind.oid == oid::JSONPATH {
                    out.push(1);
                }
                out.extend_from_slice(value.as_bytes());
            }
            Datum::Bytea(value) => out.extend_from_slice(value),
            Datum::Timetz(time, west) => {
                out.extend_from_slice(&time.to_be_bytes());
                out.extend_from_slice(&west.to_be_bytes());
            }
            Datum::Interval(value) => {
                out.extend_from_slice(&value.microseconds.to_be_bytes());
                out.extend_from_slice(&value.days.to_be_bytes());
                out.extend_from_slice(&value.months.to_be_bytes());
            }
            Datum::Uuid(value) => out.extend_from_slice(value),
            Datum::Jsonb(value) => {
                out.push(1);
                value.write(out);
            }
            Datum::Array(value) => send_array(value, kind, format, out),
            Datum::Lsn(value) | Datum::Xid8(value) => {
                out.extend_from_slice(&value.to_be_bytes());
            }
            Datum::Oid(value) => out.extend_from_slice(&value.to_be_bytes()),
            Datum::Char(value) => out.push(*value),
            Datum::Tid(block, offset) => {
                out.extend_from_slice(&block.to_be_bytes());
                out.extend_from_slice(&offset.to_be_bytes());
            }
            Datum::Bit(bits) => send_bits(bits, out),
            Datum::Record(value) => send_record(value, format, out),
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let hex: Vec<String> = bytes[at..]
            .iter()
            .take(4)
            .map(|byte| format!("0x{byte:02x}"))
            .collect();
        Error::new(
            state::CHARACTER_NOT_IN_REPERTOIRE,
            format!(
                "invalid byte sequence for encoding \"UTF8\": {}",
                hex.join(" ")
            ),
        )
    })?;
    if text.contains('\0') {
        return Err(Error::new(
            state::CHARACTER_NOT_IN_REPERTOIRE,
            "invalid byte sequence for encoding \"UTF8\": 0x00",
        ));
    }
    Ok(text)
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| {
        if bytes.len() < N {
            Error::new(
                state::PROTOCOL_VIOLATION,
                "insufficient data left in message",
            )
        } else {
            wrong_size()
        }
    })
}

fn receive(bytes: &[u8], kind: Type, format: &FormatSettings) -> Result<Datum> {
    Ok(match kind.oid {
        oid::BOOL => Datum::Bool(fixed::<1>(bytes)?[0] != 0),
        oid::INT2 => Datum::Int2(i16::from_be_bytes(fixed(bytes)?)),
        oid::INT4 => Datum::Int4(i32::from_be_bytes(fixed(bytes)?)),
        oid::INT8 => Datum::Int8(i64::from_be_bytes(fixed(bytes)?)),
        oid::FLOAT4 => Datum::Float4(f32::from_be_bytes(fixed(bytes)?)),
        oid::FLOAT8 => Datum::Float8(f64::from_be_bytes(fixed(bytes)?)),
        oid::NUMERIC => Datum::numeric(receive_numeric(bytes)?),
        oid::BYTEA => Datum::Bytea(Arc::from(bytes)),
        oid::DATE => Datum::Date(in_date_range(i32::from_be_bytes(fixed(bytes)?))?),
        oid::TIME => Datum::Time(time_of_day(i64::from_be_bytes(fixed(bytes)?))?),
        oid::TIMETZ => {
            let bytes: [u8; 12] = fixed(bytes)?;
            let time = time_of_day(i64::from_be_bytes(fixed(&bytes[..8])?))?;
            Datum::Timetz(time, i32::from_be_bytes(fixed(&bytes[8..])?))
        }
        oid::TIMESTAMP => Datum::Timestamp(i64::from_be_bytes(fixed(bytes)?)),
        oid::TIMESTAMPTZ => Datum::Timestamptz(i64::from_be_bytes(fixed(bytes)?)),
        oid::INTERVAL => {
            let bytes: [u8; 16] = fixed(bytes)?;
            Datum::Interval(Interval {
                microseconds: i64::from_be_bytes(fixed(&bytes[..8])?),
                days: i32::from_be_bytes(fixed(&bytes[8..12])?),
                months: i32::from_be_bytes(fixed(&bytes[12..])?),
            })
        }
        oid::UUID => Datum::Uuid(fixed(bytes)?),
        oid::JSONB => match bytes.split_first() {
            Some((1, body)) => Datum::jsonb(crate::types::json::parse(text(body)?)?),
            Some((version, _)) => {
                return Err(Error::internal(format!(
                    "unsupported jsonb version number {version}"
                )));
            }
            None => {
                return Err(fixed::<1>(bytes)
                    .map(|_| ())
                    .err()
                    .unwrap_or_else(wrong_size));
            }
        },
        oid::JSONPATH => match bytes.split_first() {
            Some((1, body)) => Datum::from_text(text(body)?, kind, format)?,
            _ => return Err(Error::internal("unsupported jsonpath version number")),
        },
        oid::PG_LSN => Datum::Lsn(u64::from_be_bytes(fixed(bytes)?)),
        oid::XID8 => Datum::Xid8(u64::from_be_bytes(fixed(bytes)?)),
        oid::OID | oid::XID | oid::CID => Datum::Oid(u32::from_be_bytes(fixed(bytes)?)),
        oid::CHAR => Datum::Char(fixed::<1>(bytes)?[0]),
        oid::TID => {
            let bytes: [u8; 6] = fixed(bytes)?;
            let block = u32::from_be_bytes(fixed(&bytes[..4])?);
            Datum::Tid(block, u16::from_be_bytes(fixed(&bytes[4..])?))
        }
        oid::BIT | oid::VARBIT => receive_bits(bytes)?,
        oid::VOID => Datum::Void,
        oid::RECORD => receive_record(bytes, format)?,
        _ if kind.reg_kind().is_some() => Datum::Oid(u32::from_be_bytes(fixed(bytes)?)),
        _ => match kind.element() {
            Some(element) => Datum::array(receive_array(bytes, element, format)?),
            // All others travel as their text.
            None => Datum::from_text(text(bytes)?, kind.plain(), format)?,
        },
    })
}

fn in_date_range(days: i32) -> Result<i32> {
    let infinite = days == i32::MIN || days == i32::MAX;
    if infinite || crate::types::datetime::is_valid_date(days) {
        return Ok(days);
    }
    Err(Error::new(
        state::DATETIME_FIELD_OVERFLOW,
        "date out of range",
    ))
}

fn time_of_day(us: i64) -> Result<i64> {
    if (0..=crate::types::interval::DAY_US).contains(&us) {
        return Ok(us);
    }
    Err(Error::new(
        state::DATETIME_FIELD_OVERFLOW,
        "time out of range",
    ))
}

fn send_numeric(value: &Numeric, out: &mut Vec<u8>) {
    let header = |count: u16, weight: i16, sign: u16, scale: u16, out: &mut Vec<u8>| {
        out.extend_from_slice(&count.to_be_bytes());
        out.extend_from_slice(&weight.to_be_bytes());
        out.extend_from_slice(&sign.to_be_bytes());
        out.extend_from_slice(&scale.to_be_bytes());
    };
    match value {
        Numeric::NaN => return header(0, 0, 0xC000, 0, out),
        Numeric::Infinity => return header(0, 0, 0xD000, 0, out),
        Numeric::NegativeInfinity => return header(0, 0, 0xF000, 0, out),
        Numeric::Small { .. } | Numeric::Big { .. } => {}
    }
    let scale = value.scale();
    let padding = (4 - scale % 4) % 4;
    let unscaled = value.unscaled().unwrap_or_default().abs() * power_of_ten(padding as u32);
    let mut digits: Vec<u16> = Vec::new();
    let mut rest = unscaled;
    let base = BigInt::from(10_000);
    while !rest.is_zero() {
        let (quotient, digit) = num_integer::Integer::div_rem(&rest, &base);
        digits.push(digit.to_u16().unwrap_or(0));
        rest = quotient;
    }
    let fraction_groups = (scale + padding) / 4;
    let weight = digits.len() as i32 - fraction_groups - 1;
    digits.reverse();
    while digits.last() == Some(&0) {
        digits.pop();
    }
    let weight = if digits.is_empty() { 0 } else { weight };
    let sign = if value.is_negative() { 0x4000 } else { 0 };
    header(digits.len() as u16, weight as i16, sign, scale as u16, out);
    for digit in digits {
        out.extend_from_slice(&digit.to_be_bytes());
    }
}

fn receive_numeric(bytes: &[u8]) -> Result<Numeric> {
    let short = || {
        Error::new(
            state::PROTOCOL_VIOLATION,
            "insufficient data left in message",
        )
    };
    let word = |index: usize| {
        bytes
            .get(index * 2..index * 2 + 2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .ok_or_else(short)
    };
    let (count, weight, sign, scale) = (word(0)?, word(1)? as i16, word(2)?, word(3)?);
    if bytes.len() != 8 + usize::from(count) * 2 {
        return Err(if bytes.len() < 8 + usize::from(count) * 2 {
            short()
        } else {
            wrong_size()
        });
    }
    match sign {
        0xC000 => return Ok(Numeric::NaN),
        0xD000 => return Ok(Numeric::Infinity),
        0xF000 => return Ok(Numeric::NegativeInfinity),
        0 | 0x4000 => {}
        _ => return Err(invalid("invalid sign in external \"numeric\" value")),
    }
    if scale > 0x3fff {
        return Err(invalid("invalid scale in external \"numeric\" value"));
    }
    let mut digits = BigInt::zero();
    for index in 0..usize::from(count) {
        let digit = word(4 + index)?;
        if digit >= 10_000 {
            return Err(invalid("invalid digit in external \"numeric\" value"));
        }
        digits = digits * 10_000 + digit;
    }
    // The value is digits * 10000^(weight - count + 1); digits beyond the scale are cut off.
    let exponent = (i32::from(weight) - i32::from(count) + 1) * 4;
    let shift = exponent + i32::from(scale);
    let digits = if shift >= 0 {
        digits * power_of_ten(shift as u32)
    } else {
        digits / power_of_ten(-shift as u32)
    };
    Numeric::from_big(if sign == 0 { digits } else { -digits }, i32::from(scale))
}

fn send_bits(bits: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(bits.len() as i32).to_be_bytes());
    for chunk in bits.as_bytes().chunks(8) {
        let byte = chunk.iter().enumerate().fold(0u8, |byte, (index, bit)| {
            byte | (u8::from(*bit == b'1') << (7 - index))
        });
        out.push(byte);
    }
}

fn receive_bits(bytes: &[u8]) -> Result<Datum> {
    let count = i32::from_be_bytes(fixed(bytes.get(..4).unwrap_or_default())?);
    let data = &bytes[4..];
    let valid = usize::try_from(count)
        .ok()
        .filter(|count| count.div_ceil(8) == data.len());
    let count = valid.ok_or_else(|| invalid("invalid length in external bit string"))?;
    let bits: String = (0..count)
        .map(|index| {
            if data[index / 8] >> (7 - index % 8) & 1 == 1 {
                '1'
            } else {
                '0'
            }
        })
        .collect();
    Ok(Datum::Bit(Arc::from(bits)))
}

/// Writes a length word for what `write` appends.
fn with_length(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = (out.len() - at - 4) as i32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

fn send_array(array: &Array, kind: Type, format: &FormatSettings, out: &mut Vec<u8>) {
    let element = kind.element().unwrap_or(array.element);
    let nulls = array.values.iter().any(Datum::is_null);
    out.extend_from_slice(&(array.dimensions.len() as i32).to_be_bytes());
    out.extend_from_slice(&i32::from(nulls).to_be_bytes());
    out.extend_from_slice(&element.oid.to_be_bytes());
    for dimension in &array.dimensions {
        out.extend_from_slice(&dimension.length.to_be_bytes());
        out.extend_from_slice(&dimension.lower.to_be_bytes());
    }
    for value in &array.values {
        if value.is_null() {
            out.extend_from_slice(&(-1i32).to_be_bytes());
        } else {
            with_length(out, |out| value.write_binary(element, format, out));
        }
    }
}

/// Takes 32-bit words and counted parts from the front of a message.
struct Parts<'a> {
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    fn word(&mut self) -> Result<i32> {
        let (head, rest) = self.rest.split_at_checked(4).ok_or_else(|| {
            Error::new(
                state::PROTOCOL_VIOLATION,
                "insufficient data left in message",
            )
        })?;
        self.rest = rest;
        Ok(i32::from_be_bytes(fixed(head)?))
    }

    /// A counted part; `None` for length -1.
    fn part(&mut self) -> Result<Option<&'a [u8]>> {
        let length = self.word()?;
        if length == -1 {
            return Ok(None);
        }
        let (head, rest) = usize::try_from(length)
            .ok()
            .and_then(|length| self.rest.split_at_checked(length))
            .ok_or_else(|| {
                Error::new(
                    state::INVALID_BINARY_REPRESENTATION,
                    "insufficient data left in message",
                )
            })?;
        self.rest = rest;
        Ok(Some(head))
    }
}

fn receive_array(bytes: &[u8], element: Type, format: &FormatSettings) -> Result<Array> {
    let mut parts = Parts { rest: bytes };
    let count = parts.word()?;
    if count < 0 {
        return Err(invalid(format!("invalid number of dimensions: {count}")));
    }
    if count as usize > DIMENSIONS_MAX {
        return Err(too_many_dimensions(count as usize));
    }
    let flags = parts.word()?;
    if flags != 0 && flags != 1 {
        return Err(invalid("invalid array flags"));
    }
    let sent = parts.word()? as u32;
    if sent != element.oid {
        return Err(Error::new(
            state::DATATYPE_MISMATCH,
            format!(
                "binary data has array element type {sent} ({}) instead of expected {} ({})",
                Type::new(sent).name(),
                element.oid,
                element.plain()
            ),
        ));
    }
    let mut dimensions = Vec::new();
    let mut total = usize::from(count > 0);
    for _ in 0..count {
        let length = parts.word()?;
        let lower = parts.word()?;
        total = usize::try_from(length)
            .ok()
            .and_then(|length| total.checked_mul(length))
            // Each element takes at least its length word.
            .filter(|total| *total <= bytes.len() / 4)
            .ok_or_else(|| invalid("array size exceeds the maximum allowed"))?;
        dimensions.push(Dimension { length, lower });
    }
    let mut values = Vec::with_capacity(total);
    for _ in 0..total {
        values.push(match parts.part()? {
            None => Datum::Null,
            Some(part) => Datum::from_binary(part, element, format)?,
        });
    }
    if !parts.rest.is_empty() {
        return Err(wrong_size());
    }
    Array::shaped(element.plain(), dimensions, values)
}

fn send_record(record: &Record, format: &FormatSettings, out: &mut Vec<u8>) {
    out.extend_from_slice(&(record.values.len() as i32).to_be_bytes());
    for (value, kind) in record.values.iter().zip(&record.shape.types) {
        out.extend_from_slice(&kind.oid.to_be_bytes());
        if value.is_null() {
            out.extend_from_slice(&(-1i32).to_be_bytes());
        } else {
            with_length(out, |out| value.write_binary(*kind, format, out));
        }
    }
}

fn receive_record(bytes: &[u8], format: &FormatSettings) -> Result<Datum> {
    let mut parts = Parts { rest: bytes };
    let count = parts.word()?;
    let mut types = Vec::new();
    let mut values = Vec::new();
    for _ in 0..count {
        let kind = Type::new(parts.word()? as u32);
        types.push(kind);
        values.push(match parts.part()? {
            None => Datum::Null,
            Some(part) => Datum::from_binary(part, kind, format)?,
        });
    }
    let shape = Shape::anonymous(types);
    Ok(Datum::Record(Arc::new(Record::new(
        Arc::new(shape),
        values,
    ))))
}
