//! The storage form of values: one tag byte, then the payload. It describes itself, so that a row
//! can be read without its table's definition and a damaged one is refused, not misread.
//!
//! | tag | payload |
//! |---|---|
//! | 0, 1, 2 | NULL, false, true |
//! | 3, 4, 5 | `int2`, `int4`, `int8`: zigzag varint |
//! | 6, 7 | `float4`, `float8`: little-endian bits |
//! | 8 | numeric: varint scale, zigzag varint digits |
//! | 9 | numeric: varint scale, length, little-endian two's complement digits |
//! | 10, 11, 12 | numeric NaN, Infinity, -Infinity |
//! | 13, 14, 15 | text, bytea, bits: length, bytes |
//! | 16 ... 20 | date, time, timetz (and zone), timestamp, timestamptz: zigzag varint |
//! | 21 | interval: months, days, microseconds as zigzag varints |
//! | 22 | uuid: 16 bytes |
//! | 23 | jsonb: see `write_json` |
//! | 24 | array: element OID, number of dimensions, (length, lower)*, values |
//! | 25 ... 31 | pg_lsn, oid, "char", xid8, tid, void, record |

use std::sync::Arc;

use num_bigint::BigInt;

use crate::error::{Error, Result, state};
use crate::expr::deep;
use crate::types::array::{DIMENSIONS_MAX, Dimension};
use crate::types::{Array, Datum, Interval, Json, Numeric, Record, Shape, Type};

#[cfg(test)]
mod tests;

/// How deep stored values may nest (arrays in records in arrays, JSON).
const DEPTH_MAX: usize = 1_100;

/// Elements for which room is made before they are read: damaged bytes may announce any number, at
/// every depth.
const ROOM_MAX: usize = 256;

/// Appends the storage form of a value.
pub fn encode_value(value: &Datum, out: &mut Vec<u8>) {
    match value {
        Datum::Null => out.push(0),
        Datum::Bool(value) => out.push(1 + u8::from(*value)),
        Datum::Int2(value) => tagged_signed(3, i64::from(*value), out),
        Datum::Int4(value) => tagged_signed(4, i64::from(*value), out),
        Datum::Int8(value) => tagged_signed(5, *value, out),
        Datum::Float4(value) => {
            out.push(6);
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
        Datum::Float8(value) => {
            out.push(7);
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
        Datum::Numeric(value) => write_numeric(value, out),
        Datum::Text(value) => tagged_bytes(13, value.as_bytes(), out),
        Datum::Bytea(value) => tagged_bytes(14, value, out),
        Datum::Bit(value) => tagged_bytes(15, value.as_bytes(), out),
        Datum::Date(value) => tagged_signed(16, i64::from(*value), out),
        Datum::Time(value) => tagged_signed(17, *value, out),
        Datum::Timetz(value, west) => {
            tagged_signed(18, *value, out);
            write_signed(i128::from(*west), out);
        }
        Datum::Timestamp(value) => tagged_signed(19, *value, out),
        Datum::Timestamptz(value) => tagged_signed(20, *value, out),
        Datum::Interval(value) => {
            tagged_signed(21, i64::from(value.months), out);
            write_signed(i128::from(value.days), out);
            write_signed(i128::from(value.microseconds), out);
        }
        Datum::Uuid(value) => {
            out.push(22);
            out.extend_from_slice(value);
        }
        Datum::Jsonb(value) => {
            out.push(23);
            write_json(value, out);
        }
        Datum::Array(value) => write_array(value, out),
        Datum::Lsn(value) => tagged_unsigned(25, *value, out),
        Datum::Oid(value) => tagged_unsigned(26, u64::from(*value), out),
        Datum::Char(value) => out.extend_from_slice(&[27, *value]),
        Datum::Xid8(value) => tagged_unsigned(28, *value, out),
        Datum::Tid(block, offset) => {
            tagged_unsigned(29, u64::from(*block), out);
            write_unsigned(u128::from(*offset), out);
        }
        Datum::Void => out.push(30),
        Datum::Record(value) => write_record(value, out),
    }
}

/// Reads a whole storage form back. `kind` is what the column says the value is; a form of another
/// representation is refused.
///
/// # Errors
/// XX001 when the bytes are no value, are not of this type, or do not end with it.
pub fn decode_value(kind: Type, bytes: &[u8]) -> Result<Datum> {
    let mut rest = bytes;
    let value = decode_next_as(kind, &mut rest)?;
    match rest.is_empty() {
        true => Ok(value),
        false => Err(corrupted()),
    }
}

/// Like [`decode_next`], of what must be a value of this type.
///
/// # Errors
/// XX001 when the bytes are no value, or not of this type.
pub fn decode_next_as(kind: Type, bytes: &mut &[u8]) -> Result<Datum> {
    let value = decode_next(bytes)?;
    match represents(kind, &value) {
        true => Ok(value),
        false => Err(corrupted()),
    }
}

/// Reads the storage form at the head of `bytes` and moves past it.
///
/// # Errors
/// XX001 when the bytes are no value.
pub fn decode_next(bytes: &mut &[u8]) -> Result<Datum> {
    Reader {
        rest: bytes,
        depth: 0,
    }
    .value()
}

/// Whether a value has the representation that the type's values have.
pub(crate) fn represents(kind: Type, value: &Datum) -> bool {
    use crate::types::kind::oid;
    match (kind.oid, value) {
        (_, Datum::Null) => true,
        (oid::BOOL, value) => matches!(value, Datum::Bool(_)),
        (oid::INT2, value) => matches!(value, Datum::Int2(_)),
        (oid::INT4, value) => matches!(value, Datum::Int4(_)),
        (oid::INT8, value) => matches!(value, Datum::Int8(_)),
        (oid::FLOAT4, value) => matches!(value, Datum::Float4(_)),
        (oid::FLOAT8, value) => matches!(value, Datum::Float8(_)),
        (oid::NUMERIC, value) => matches!(value, Datum::Numeric(_)),
        (oid::BYTEA, value) => matches!(value, Datum::Bytea(_)),
        (oid::DATE, value) => matches!(value, Datum::Date(_)),
        (oid::TIMESTAMP, value) => matches!(value, Datum::Timestamp(_)),
        (oid::TIMESTAMPTZ, value) => matches!(value, Datum::Timestamptz(_)),
        (oid::UUID, value) => matches!(value, Datum::Uuid(_)),
        (oid::JSONB, value) => matches!(value, Datum::Jsonb(_)),
        (oid::TEXT | oid::VARCHAR | oid::BPCHAR, value) => matches!(value, Datum::Text(_)),
        _ => true,
    }
}

fn corrupted() -> Error {
    Error::new(state::DATA_CORRUPTED, "stored value is damaged")
}

fn tagged_signed(tag: u8, value: i64, out: &mut Vec<u8>) {
    out.push(tag);
    write_signed(i128::from(value), out);
}

fn tagged_unsigned(tag: u8, value: u64, out: &mut Vec<u8>) {
    out.push(tag);
    write_unsigned(u128::from(value), out);
}

fn tagged_bytes(tag: u8, value: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    write_bytes(value, out);
}

fn write_bytes(value: &[u8], out: &mut Vec<u8>) {
    write_unsigned(value.len() as u128, out);
    out.extend_from_slice(value);
}

fn write_signed(value: i128, out: &mut Vec<u8>) {
    write_unsigned(((value << 1) ^ (value >> 127)) as u128, out);
}

fn write_unsigned(mut value: u128, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn write_numeric(value: &Numeric, out: &mut Vec<u8>) {
    match value {
        Numeric::Small { unscaled, scale } => {
            out.push(8);
            write_unsigned(u128::from(*scale), out);
            write_signed(*unscaled, out);
        }
        Numeric::Big { unscaled, scale } => {
            out.push(9);
            write_unsigned(u128::from(*scale), out);
            write_bytes(&unscaled.to_signed_bytes_le(), out);
        }
        Numeric::NaN => out.push(10),
        Numeric::Infinity => out.push(11),
        Numeric::NegativeInfinity => out.push(12),
    }
}

/// 0 null, 1 false, 2 true, 3 string, 4 number, 5 array (count, items), 6 object (count, pairs).
fn write_json(value: &Json, out: &mut Vec<u8>) {
    match value {
        Json::Null => out.push(0),
        Json::Bool(value) => out.push(1 + u8::from(*value)),
        Json::String(text) => tagged_bytes(3, text.as_bytes(), out),
        Json::Number(number) => {
            out.push(4);
            write_numeric(number, out);
        }
        Json::Array(items) => {
            tagged_unsigned(5, items.len() as u64, out);
            for item in items {
                write_json(item, out);
            }
        }
        Json::Object(pairs) => {
            tagged_unsigned(6, pairs.len() as u64, out);
            for (key, value) in pairs {
                write_bytes(key.as_bytes(), out);
                write_json(value, out);
            }
        }
    }
}

fn write_array(array: &Array, out: &mut Vec<u8>) {
    tagged_unsigned(24, u64::from(array.element.oid), out);
    write_unsigned(array.dimensions.len() as u128, out);
    for dimension in &array.dimensions {
        write_unsigned(dimension.length as u128, out);
        write_signed(i128::from(dimension.lower), out);
    }
    for value in &array.values {
        encode_value(value, out);
    }
}

fn write_record(record: &Record, out: &mut Vec<u8>) {
    tagged_unsigned(31, record.values.len() as u64, out);
    for (index, value) in record.values.iter().enumerate() {
        write_bytes(record.shape.names[index].as_bytes(), out);
        write_unsigned(u128::from(record.shape.types[index].oid), out);
        write_signed(i128::from(record.shape.types[index].modifier), out);
        encode_value(value, out);
    }
}

struct Reader<'a, 'b> {
    rest: &'a mut &'b [u8],
    depth: usize,
}

impl<'b> Reader<'_, 'b> {
    fn byte(&mut self) -> Result<u8> {
        let (first, rest) = self.rest.split_first().ok_or_else(corrupted)?;
        *self.rest = rest;
        Ok(*first)
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8]> {
        if length > self.rest.len() {
            return Err(corrupted());
        }
        let (head, rest) = self.rest.split_at(length);
        *self.rest = rest;
        Ok(head)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| corrupted())
    }

    fn unsigned(&mut self) -> Result<u128> {
        let mut value = 0u128;
        let mut shift = 0;
        loop {
            let byte = self.byte()?;
            if shift > 126 || (shift == 126 && byte > 3) {
                return Err(corrupted());
            }
            value |= u128::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    fn signed(&mut self) -> Result<i128> {
        let value = self.unsigned()?;
        Ok((value >> 1) as i128 ^ -((value & 1) as i128))
    }

    fn number<T: TryFrom<i128>>(&mut self) -> Result<T> {
        T::try_from(self.signed()?).map_err(|_| corrupted())
    }

    fn count<T: TryFrom<u128>>(&mut self) -> Result<T> {
        T::try_from(self.unsigned()?).map_err(|_| corrupted())
    }

    fn bytes(&mut self) -> Result<&'b [u8]> {
        let length = self.count()?;
        self.take(length)
    }

    fn string(&mut self) -> Result<&'b str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| corrupted())
    }

    /// Reads what may nest, as deep as that may be.
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == DEPTH_MAX {
            return Err(corrupted());
        }
        self.depth += 1;
        let read = deep(|| read(self));
        self.depth -= 1;
        read
    }

    fn value(&mut self) -> Result<Datum> {
        Ok(match self.byte()? {
            0 => Datum::Null,
            1 => Datum::Bool(false),
            2 => Datum::Bool(true),
            3 => Datum::Int2(self.number()?),
            4 => Datum::Int4(self.number()?),
            5 => Datum::Int8(self.number()?),
            6 => Datum::Float4(f32::from_bits(u32::from_le_bytes(self.fixed()?))),
            7 => Datum::Float8(f64::from_bits(u64::from_le_bytes(self.fixed()?))),
            tag @ 8..=12 => Datum::numeric(self.numeric(tag)?),
            13 => Datum::Text(Arc::from(self.string()?)),
            14 => Datum::Bytea(Arc::from(self.bytes()?)),
            15 => Datum::Bit(Arc::from(self.string()?)),
            16 => Datum::Date(self.number()?),
            17 => Datum::Time(self.number()?),
            18 => Datum::Timetz(self.number()?, self.number()?),
            19 => Datum::Timestamp(self.number()?),
            20 => Datum::Timestamptz(self.number()?),
            21 => Datum::Interval(Interval::new(
                self.number()?,
                self.number()?,
                self.number()?,
            )),
            22 => Datum::Uuid(self.fixed()?),
            23 => Datum::jsonb(self.json()?),
            24 => Datum::array(self.nested(Self::array)?),
            25 => Datum::Lsn(self.count()?),
            26 => Datum::Oid(self.count()?),
            27 => Datum::Char(self.byte()?),
            28 => Datum::Xid8(self.count()?),
            29 => Datum::Tid(self.count()?, self.count()?),
            30 => Datum::Void,
            31 => Datum::Record(Arc::new(self.nested(Self::record)?)),
            _ => return Err(corrupted()),
        })
    }

    fn numeric(&mut self, tag: u8) -> Result<Numeric> {
        Ok(match tag {
            8 => {
                let scale = self.count()?;
                Numeric::Small {
                    unscaled: self.signed()?,
                    scale,
                }
            }
            9 => {
                let scale: u16 = self.count()?;
                let unscaled = BigInt::from_signed_bytes_le(self.bytes()?);
                Numeric::from_big(unscaled, i32::from(scale)).map_err(|_| corrupted())?
            }
            10 => Numeric::NaN,
            11 => Numeric::Infinity,
            12 => Numeric::NegativeInfinity,
            _ => return Err(corrupted()),
        })
    }

    fn json(&mut self) -> Result<Json> {
        Ok(match self.byte()? {
            0 => Json::Null,
            1 => Json::Bool(false),
            2 => Json::Bool(true),
            3 => Json::String(Arc::from(self.string()?)),
            4 => {
                let tag = self.byte()?;
                Json::Number(self.numeric(tag)?)
            }
            5 => Json::Array(self.nested(Self::json_items)?),
            6 => Json::Object(self.nested(Self::json_pairs)?),
            _ => return Err(corrupted()),
        })
    }

    fn json_items(&mut self) -> Result<Vec<Json>> {
        let count: usize = self.count()?;
        let mut items = Vec::with_capacity(count.min(ROOM_MAX));
        for _ in 0..count {
            items.push(self.json()?);
        }
        Ok(items)
    }

    fn json_pairs(&mut self) -> Result<Vec<(Arc<str>, Json)>> {
        let count: usize = self.count()?;
        let mut pairs = Vec::with_capacity(count.min(ROOM_MAX));
        for _ in 0..count {
            let key = Arc::from(self.string()?);
            pairs.push((key, self.json()?));
        }
        Ok(pairs)
    }

    fn array(&mut self) -> Result<Array> {
        let element = Type::new(self.count()?);
        let count: usize = self.count()?;
        if count > DIMENSIONS_MAX {
            return Err(corrupted());
        }
        let mut dimensions = Vec::with_capacity(count);
        let mut total = usize::from(count > 0);
        for _ in 0..count {
            let length: i32 = self.count()?;
            let lower: i32 = self.number()?;
            // Whoever asks for its last subscript adds them.
            lower.checked_add(length).ok_or_else(corrupted)?;
            dimensions.push(Dimension { length, lower });
            total = total.checked_mul(length as usize).ok_or_else(corrupted)?;
        }
        if total > self.rest.len() {
            return Err(corrupted());
        }
        if total == 0 {
            dimensions.clear();
        }
        let values: Result<Vec<Datum>> = (0..total).map(|_| self.value()).collect();
        Ok(Array {
            element,
            dimensions,
            values: values?,
        })
    }

    fn record(&mut self) -> Result<Record> {
        let count: usize = self.count()?;
        let mut shape = Shape {
            names: Vec::new(),
            types: Vec::new(),
        };
        let mut values = Vec::new();
        for _ in 0..count {
            shape.names.push(Arc::from(self.string()?));
            shape.types.push(Type {
                oid: self.count()?,
                modifier: self.number()?,
            });
            values.push(self.value()?);
        }
        Ok(Record::new(Arc::new(shape), values))
    }
}
