//! Keys whose bytes compare as the values do: PostgreSQL's btree order under collation C. Equal
//! values have equal bytes; what tells equal values apart (the scale of 1.0 and 1.00, the blanks
//! after a `char(n)`) is not in the key.
//!
//! Each value begins with a byte for NULL or not; a descending column has all bytes of its payload
//! inverted. Payloads end by themselves, so that keys can be put together.

use std::sync::Arc;

use num_bigint::BigInt;

use crate::error::{Error, Result, state};
use crate::types::interval::DAY_US;
use crate::types::kind::oid;
use crate::types::numeric::Normalized;
use crate::types::order::trim_blanks;
use crate::types::{Array, Datum, Dimension, Interval, Json, Numeric, Record, Type};

const NULL_FIRST: u8 = 0;
const PRESENT: u8 = 1;
const NULL_LAST: u8 = 2;

/// Appends the key form of a value of type `kind`.
pub fn encode_key(
    value: &Datum,
    kind: Type,
    descending: bool,
    nulls_first: bool,
    out: &mut Vec<u8>,
) {
    if value.is_null() {
        out.push(if nulls_first { NULL_FIRST } else { NULL_LAST });
        return;
    }
    out.push(PRESENT);
    let start = out.len();
    write(value, kind, out);
    if descending {
        for byte in &mut out[start..] {
            *byte = !*byte;
        }
    }
}

/// Reads the value of type `kind` at the head of `bytes` and moves past it. Numerics come back with
/// the fewest decimals, intervals as days and microseconds, `char(n)` padded to its modifier.
///
/// # Errors
/// XX001 when the bytes are no key of this type.
pub fn decode_key(kind: Type, descending: bool, bytes: &mut &[u8]) -> Result<Datum> {
    let (first, rest) = bytes.split_first().ok_or_else(corrupted)?;
    *bytes = rest;
    match *first {
        NULL_FIRST | NULL_LAST => Ok(Datum::Null),
        PRESENT => Reader {
            rest: bytes,
            invert: if descending { 0xff } else { 0 },
        }
        .value(kind),
        _ => Err(corrupted()),
    }
}

fn corrupted() -> Error {
    Error::new(state::DATA_CORRUPTED, "stored key is damaged")
}

fn write(value: &Datum, kind: Type, out: &mut Vec<u8>) {
    match value {
        Datum::Null | Datum::Void => {}
        Datum::Bool(value) => out.push(u8::from(*value)),
        Datum::Int2(value) => out.extend_from_slice(&(*value ^ i16::MIN).to_be_bytes()),
        Datum::Int4(value) | Datum::Date(value) => write_i32(*value, out),
        Datum::Int8(value)
        | Datum::Time(value)
        | Datum::Timestamp(value)
        | Datum::Timestamptz(value) => write_i64(*value, out),
        Datum::Float4(value) => write_f32(*value, out),
        Datum::Float8(value) => write_f64(*value, out),
        Datum::Numeric(value) => write_numeric(value, out),
        Datum::Text(value) if kind.oid == oid::BPCHAR => {
            write_bytes(trim_blanks(value).as_bytes(), out);
        }
        Datum::Text(value) | Datum::Bit(value) => write_bytes(value.as_bytes(), out),
        Datum::Bytea(value) => write_bytes(value, out),
        Datum::Timetz(time, west) => {
            write_i64(time + i64::from(*west) * 1_000_000, out);
            write_i32(*west, out);
        }
        Datum::Interval(value) => {
            out.extend_from_slice(&(value.linear() ^ i128::MIN).to_be_bytes());
        }
        Datum::Uuid(value) => out.extend_from_slice(value),
        Datum::Jsonb(value) => write_top_json(value, out),
        Datum::Array(value) => write_array(value, out),
        Datum::Lsn(value) | Datum::Xid8(value) => out.extend_from_slice(&value.to_be_bytes()),
        Datum::Oid(value) => out.extend_from_slice(&value.to_be_bytes()),
        Datum::Char(value) => out.push(*value),
        Datum::Tid(block, offset) => {
            out.extend_from_slice(&block.to_be_bytes());
            out.extend_from_slice(&offset.to_be_bytes());
        }
        Datum::Record(value) => write_record(value, out),
    }
}

fn write_i32(value: i32, out: &mut Vec<u8>) {
    out.extend_from_slice(&(value ^ i32::MIN).to_be_bytes());
}

fn write_i64(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&(value ^ i64::MIN).to_be_bytes());
}

fn write_f32(value: f32, out: &mut Vec<u8>) {
    let value = if value == 0.0 { 0.0 } else { value };
    let bits = if value.is_nan() {
        f32::NAN.to_bits() & 0x7fff_ffff
    } else {
        value.to_bits()
    };
    let flip = if bits >> 31 == 1 { u32::MAX } else { 1 << 31 };
    out.extend_from_slice(&(bits ^ flip).to_be_bytes());
}

fn write_f64(value: f64, out: &mut Vec<u8>) {
    let value = if value == 0.0 { 0.0 } else { value };
    let bits = if value.is_nan() {
        f64::NAN.to_bits() & (u64::MAX >> 1)
    } else {
        value.to_bits()
    };
    let flip = if bits >> 63 == 1 { u64::MAX } else { 1 << 63 };
    out.extend_from_slice(&(bits ^ flip).to_be_bytes());
}

/// `00` becomes `00 FF`; `00 00` ends.
fn write_bytes(value: &[u8], out: &mut Vec<u8>) {
    for byte in value {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// A class byte; then for finite values the exponent and the digits in pairs (each plus one,
/// ended by zero), inverted for negative values.
fn write_numeric(value: &Numeric, out: &mut Vec<u8>) {
    let Some((digits, _)) = value.normalized() else {
        out.push(match value {
            Numeric::NegativeInfinity => 0,
            Numeric::Infinity => 4,
            _ => 5,
        });
        return;
    };
    if value.is_zero() {
        out.push(2);
        return;
    }
    let negative = value.is_negative();
    out.push(if negative { 1 } else { 3 });
    let start = out.len();
    write_i32(value.exponent() as i32, out);
    let text = match digits {
        Normalized::Small(digits) => digits.unsigned_abs().to_string(),
        Normalized::Big(_, digits) => digits,
    };
    for pair in text.as_bytes().chunks(2) {
        let low = pair.get(1).map_or(0, |digit| digit - b'0');
        out.push((pair[0] - b'0') * 10 + low + 1);
    }
    out.push(0);
    if negative {
        for byte in &mut out[start..] {
            *byte = !*byte;
        }
    }
}

/// The empty array alone sorts below everything but objects, see `Json::cmp`.
fn write_top_json(value: &Json, out: &mut Vec<u8>) {
    match value {
        Json::Array(items) if items.is_empty() => out.push(0),
        value => write_json(value, out),
    }
}

fn write_json(value: &Json, out: &mut Vec<u8>) {
    match value {
        Json::Null => out.push(1),
        Json::String(text) => {
            out.push(2);
            write_bytes(text.as_bytes(), out);
        }
        Json::Number(number) => {
            out.push(3);
            write_numeric(number, out);
        }
        Json::Bool(value) => out.extend_from_slice(&[4, u8::from(*value)]),
        Json::Array(items) => {
            out.push(5);
            out.extend_from_slice(&(items.len() as u32).to_be_bytes());
            for item in items {
                write_json(item, out);
            }
        }
        Json::Object(pairs) => {
            out.push(6);
            out.extend_from_slice(&(pairs.len() as u32).to_be_bytes());
            for (key, value) in pairs {
                write_bytes(key.as_bytes(), out);
                write_json(value, out);
            }
        }
    }
}

/// Elements, each behind a `01`; a `00`; then dimensions, lengths and lower bounds.
fn write_array(array: &Array, out: &mut Vec<u8>) {
    for value in &array.values {
        out.push(1);
        encode_key(value, array.element, false, false, out);
    }
    out.push(0);
    out.push(array.dimensions.len() as u8);
    for dimension in &array.dimensions {
        write_i32(dimension.length, out);
    }
    for dimension in &array.dimensions {
        write_i32(dimension.lower, out);
    }
}

fn write_record(record: &Record, out: &mut Vec<u8>) {
    for (value, kind) in record.values.iter().zip(&record.shape.types) {
        out.push(1);
        encode_key(value, *kind, false, false, out);
    }
    out.push(0);
}

struct Reader<'a, 'b> {
    rest: &'a mut &'b [u8],
    invert: u8,
}

impl Reader<'_, '_> {
    fn byte(&mut self) -> Result<u8> {
        let (first, rest) = self.rest.split_first().ok_or_else(corrupted)?;
        *self.rest = rest;
        Ok(*first ^ self.invert)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        for slot in &mut out {
            *slot = self.byte()?;
        }
        Ok(out)
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.fixed()?) ^ i32::MIN)
    }

    fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.fixed()?) ^ i64::MIN)
    }

    fn f64(&mut self) -> Result<f64> {
        let bits = u64::from_be_bytes(self.fixed()?);
        let flip = if bits >> 63 == 1 { 1 << 63 } else { u64::MAX };
        Ok(f64::from_bits(bits ^ flip))
    }

    fn f32(&mut self) -> Result<f32> {
        let bits = u32::from_be_bytes(self.fixed()?);
        let flip = if bits >> 31 == 1 { 1 << 31 } else { u32::MAX };
        Ok(f32::from_bits(bits ^ flip))
    }

    fn bytes(&mut self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        loop {
            match self.byte()? {
                0 => match self.byte()? {
                    0 => return Ok(out),
                    0xff => out.push(0),
                    _ => return Err(corrupted()),
                },
                byte => out.push(byte),
            }
        }
    }

    fn string(&mut self) -> Result<Arc<str>> {
        String::from_utf8(self.bytes()?)
            .map(Arc::from)
            .map_err(|_| corrupted())
    }

    fn value(&mut self, kind: Type) -> Result<Datum> {
        Ok(match kind.oid {
            oid::BOOL => Datum::Bool(self.byte()? != 0),
            oid::INT2 => Datum::Int2(i16::from_be_bytes(self.fixed()?) ^ i16::MIN),
            oid::INT4 => Datum::Int4(self.i32()?),
            oid::INT8 => Datum::Int8(self.i64()?),
            oid::FLOAT4 => Datum::Float4(self.f32()?),
            oid::FLOAT8 => Datum::Float8(self.f64()?),
            oid::NUMERIC => Datum::numeric(self.numeric()?),
            oid::BYTEA => Datum::Bytea(Arc::from(self.bytes()?)),
            oid::BIT | oid::VARBIT => Datum::Bit(self.string()?),
            oid::DATE => Datum::Date(self.i32()?),
            oid::TIME => Datum::Time(self.i64()?),
            oid::TIMETZ => {
                let utc = self.i64()?;
                let west = self.i32()?;
                Datum::Timetz(utc - i64::from(west) * 1_000_000, west)
            }
            oid::TIMESTAMP => Datum::Timestamp(self.i64()?),
            oid::TIMESTAMPTZ => Datum::Timestamptz(self.i64()?),
            oid::INTERVAL => {
                let linear = i128::from_be_bytes(self.fixed()?) ^ i128::MIN;
                Datum::Interval(from_linear(linear)?)
            }
            oid::UUID => Datum::Uuid(self.fixed()?),
            oid::JSONB => Datum::jsonb(self.json()?),
            oid::PG_LSN => Datum::Lsn(u64::from_be_bytes(self.fixed()?)),
            oid::XID8 => Datum::Xid8(u64::from_be_bytes(self.fixed()?)),
            oid::OID | oid::XID | oid::CID => Datum::Oid(u32::from_be_bytes(self.fixed()?)),
            oid::CHAR => Datum::Char(self.byte()?),
            oid::TID => {
                let block = u32::from_be_bytes(self.fixed()?);
                Datum::Tid(block, u16::from_be_bytes(self.fixed()?))
            }
            oid::VOID => Datum::Void,
            oid::BPCHAR => {
                let text = Datum::Text(self.string()?);
                crate::types::typmod::apply(text, kind, true)?
            }
            oid::RECORD => return Err(Error::unsupported("reading a record from a key")),
            _ if kind.reg_kind().is_some() => Datum::Oid(u32::from_be_bytes(self.fixed()?)),
            _ => match kind.element() {
                Some(element) => Datum::array(self.array(element)?),
                None => Datum::Text(self.string()?),
            },
        })
    }

    fn numeric(&mut self) -> Result<Numeric> {
        let negative = match self.byte()? {
            0 => return Ok(Numeric::NegativeInfinity),
            1 => true,
            2 => return Ok(Numeric::ZERO),
            3 => false,
            4 => return Ok(Numeric::Infinity),
            5 => return Ok(Numeric::NaN),
            _ => return Err(corrupted()),
        };
        let before = self.invert;
        if negative {
            self.invert = !self.invert;
        }
        let parts = self.digits();
        self.invert = before;
        let (exponent, mut digits) = parts?;
        if digits.ends_with('0') {
            digits.pop();
        }
        let scale = digits.len() as i64 - 1 - exponent;
        let mut unscaled: BigInt = digits.parse().map_err(|_| corrupted())?;
        if scale < 0 {
            unscaled *= crate::types::numeric::power_of_ten((-scale) as u32);
        }
        if negative {
            unscaled = -unscaled;
        }
        Numeric::from_big(unscaled, scale.max(0) as i32).map_err(|_| corrupted())
    }

    fn digits(&mut self) -> Result<(i64, String)> {
        let exponent = i64::from(self.i32()?);
        let mut digits = String::new();
        loop {
            match self.byte()? {
                0 => return Ok((exponent, digits)),
                pair @ 1..=100 => {
                    digits.push(char::from(b'0' + (pair - 1) / 10));
                    digits.push(char::from(b'0' + (pair - 1) % 10));
                }
                _ => return Err(corrupted()),
            }
        }
    }

    fn json(&mut self) -> Result<Json> {
        Ok(match self.byte()? {
            0 => Json::Array(Vec::new()),
            1 => Json::Null,
            2 => Json::String(self.string()?),
            3 => Json::Number(self.numeric()?),
            4 => Json::Bool(self.byte()? != 0),
            5 => {
                let count = u32::from_be_bytes(self.fixed()?);
                Json::Array(
                    (0..count)
                        .map(|_| self.json())
                        .collect::<Result<Vec<Json>>>()?,
                )
            }
            6 => {
                let count = u32::from_be_bytes(self.fixed()?);
                let mut pairs = Vec::new();
                for _ in 0..count {
                    let key = self.string()?;
                    pairs.push((key, self.json()?));
                }
                Json::Object(pairs)
            }
            _ => return Err(corrupted()),
        })
    }

    fn array(&mut self, element: Type) -> Result<Array> {
        let mut values = Vec::new();
        loop {
            match self.byte()? {
                0 => break,
                1 => values.push(match self.byte()? {
                    PRESENT => self.value(element)?,
                    NULL_LAST => Datum::Null,
                    _ => return Err(corrupted()),
                }),
                _ => return Err(corrupted()),
            }
        }
        let count = self.byte()?;
        let mut lengths = Vec::new();
        for _ in 0..count {
            lengths.push(self.i32()?);
        }
        let mut dimensions = Vec::new();
        for length in lengths {
            dimensions.push(Dimension {
                length,
                lower: self.i32()?,
            });
        }
        Array::shaped(element.plain(), dimensions, values).map_err(|_| corrupted())
    }
}

fn from_linear(linear: i128) -> Result<Interval> {
    let day = i128::from(DAY_US);
    let days = linear / day;
    // Beyond the range of days the months take the rest.
    let limit = i128::from(i32::MAX) / 2;
    let months = if days.abs() > limit { days / 30 } else { 0 };
    let days = days - months * 30;
    let part = |value: i128| i32::try_from(value).map_err(|_| corrupted());
    Ok(Interval::new(
        part(months)?,
        part(days)?,
        (linear % day) as i64,
    ))
}
