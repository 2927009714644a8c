//! `bytea` and bit strings: parts, bits, digests, and the text encodings of bytes.

use std::sync::Arc;

use base64::Engine as _;
use sha2::Digest as _;

use super::arguments as arg;
use crate::error::{Error, Result, state};
use crate::functions::ScalarFunction;
use crate::types::text::{read_hex, write_hex};
use crate::types::{ByteaOutput, Datum, FormatSettings, Type, typmod};

fn bytea(bytes: impl AsRef<[u8]>) -> Result<Datum> {
    Ok(Datum::Bytea(Arc::from(bytes.as_ref())))
}

fn bits(text: String) -> Result<Datum> {
    Ok(Datum::Bit(Arc::from(text)))
}

fn negative_length() -> Error {
    Error::new(
        state::SUBSTRING_ERROR,
        "negative substring length not allowed",
    )
}

/// The range of `substring` in bytes or bits.
fn range(total: usize, start: i32, count: Option<i32>) -> Result<std::ops::Range<usize>> {
    let from = i64::from(start) - 1;
    let to = match count {
        None => total as i64,
        Some(count) if count < 0 => return Err(negative_length()),
        Some(count) => from + i64::from(count),
    };
    let clamp = |value: i64| value.clamp(0, total as i64) as usize;
    Ok(clamp(from)..clamp(to).max(clamp(from)))
}

fn overlay<T: Clone>(text: &[T], new: &[T], start: i32, count: i32) -> Result<Vec<T>> {
    if start <= 0 {
        return Err(negative_length());
    }
    let after = start
        .checked_add(count)
        .ok_or_else(|| super::integer::out_of_range("integer"))?;
    let mut out = text[range(text.len(), 1, Some(start - 1))?].to_vec();
    out.extend_from_slice(new);
    out.extend_from_slice(&text[range(text.len(), after, None)?]);
    Ok(out)
}

fn position(text: &[u8], part: &[u8]) -> i32 {
    if part.is_empty() {
        return 1;
    }
    text.windows(part.len())
        .position(|window| window == part)
        .map_or(0, |at| at as i32 + 1)
}

fn trim<'a>(bytes: &'a [u8], set: &[u8], left: bool, right: bool) -> &'a [u8] {
    let mut out = bytes;
    while left && out.first().is_some_and(|b| set.contains(b)) {
        out = &out[1..];
    }
    while right && out.last().is_some_and(|b| set.contains(b)) {
        out = &out[..out.len() - 1];
    }
    out
}

fn index_error(index: i64, length: usize) -> Error {
    let last = length as i64 - 1;
    Error::new(
        state::ARRAY_SUBSCRIPT_ERROR,
        format!("index {index} out of valid range, 0..{last}"),
    )
}

fn byte_at(bytes: &[u8], index: i64) -> Result<usize> {
    usize::try_from(index)
        .ok()
        .filter(|at| *at < bytes.len())
        .ok_or_else(|| index_error(index, bytes.len()))
}

fn bit_at(bytes: &[u8], index: i64) -> Result<(usize, u8)> {
    let total = bytes.len() * 8;
    let at = usize::try_from(index).ok().filter(|at| *at < total);
    // Bits count from the lowest of each byte.
    at.map(|at| (at / 8, (at % 8) as u8))
        .ok_or_else(|| index_error(index, total))
}

/// The index of a bit in a bit string.
fn bit_index(length: usize, index: i32) -> Result<usize> {
    usize::try_from(index)
        .ok()
        .filter(|at| *at < length)
        .ok_or_else(|| {
            Error::new(
                state::ARRAY_SUBSCRIPT_ERROR,
                format!(
                    "bit index {index} out of valid range (0..{})",
                    length as i64 - 1
                ),
            )
        })
}

fn new_bit(value: i32) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Error::new(
            state::INVALID_PARAMETER_VALUE,
            "new bit must be 0 or 1",
        )),
    }
}

fn hex_text(bytes: &[u8]) -> Datum {
    let mut out = Vec::with_capacity(bytes.len() * 2);
    write_hex(bytes, &mut out);
    Datum::text(String::from_utf8_lossy(&out))
}

fn unknown_encoding(name: &str) -> Error {
    Error::new(
        state::INVALID_PARAMETER_VALUE,
        format!("unrecognized encoding: \"{name}\""),
    )
}

fn encode(bytes: &[u8], encoding: &str) -> Result<Datum> {
    match encoding.to_ascii_lowercase().as_str() {
        "hex" => Ok(hex_text(bytes)),
        "base64" => {
            let text = base64::engine::general_purpose::STANDARD.encode(bytes);
            let lines: Vec<&str> = text
                .as_bytes()
                .chunks(76)
                .map(|line| std::str::from_utf8(line).expect("base64 is ASCII"))
                .collect();
            Ok(Datum::from(lines.join("\n")))
        }
        "escape" => {
            let mut out = String::new();
            for byte in bytes {
                match byte {
                    b'\\' => out.push_str("\\\\"),
                    0 | 0x80.. => out.push_str(&format!("\\{byte:03o}")),
                    byte => out.push(char::from(*byte)),
                }
            }
            Ok(Datum::from(out))
        }
        _ => Err(unknown_encoding(encoding)),
    }
}

fn decode(text: &str, encoding: &str) -> Result<Datum> {
    match encoding.to_ascii_lowercase().as_str() {
        "hex" => bytea(read_hex(text)?),
        "base64" => bytea(decode_base64(text)?),
        "escape" => {
            let mut out = Vec::new();
            let bytes = text.as_bytes();
            let mut at = 0;
            while at < bytes.len() {
                match &bytes[at..] {
                    [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                        out.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                        at += 4;
                    }
                    [b'\\', b'\\', ..] => {
                        out.push(b'\\');
                        at += 2;
                    }
                    [b'\\', ..] => {
                        return Err(Error::new(
                            state::INVALID_TEXT_REPRESENTATION,
                            "invalid input syntax for type bytea",
                        ));
                    }
                    [byte, ..] => {
                        out.push(*byte);
                        at += 1;
                    }
                    [] => break,
                }
            }
            bytea(out)
        }
        _ => Err(unknown_encoding(encoding)),
    }
}

fn decode_base64(text: &str) -> Result<Vec<u8>> {
    let invalid = |message: String| Error::new(state::INVALID_PARAMETER_VALUE, message);
    let mut out = Vec::new();
    let (mut buffer, mut position, mut end) = (0u32, 0, 0);
    for c in text.chars() {
        let value = match c {
            ' ' | '\t' | '\n' | '\r' => continue,
            '=' => {
                if end == 0 {
                    end = match position {
                        2 => 1,
                        3 => 2,
                        _ => {
                            return Err(invalid(
                                "unexpected \"=\" while decoding base64 sequence".to_owned(),
                            ));
                        }
                    };
                }
                0
            }
            'A'..='Z' => c as u32 - 'A' as u32,
            'a'..='z' => c as u32 - 'a' as u32 + 26,
            '0'..='9' => c as u32 - '0' as u32 + 52,
            '+' => 62,
            '/' => 63,
            other => {
                return Err(invalid(format!(
                    "invalid symbol \"{other}\" found while decoding base64 sequence"
                )));
            }
        };
        buffer = (buffer << 6) | value;
        position += 1;
        if position == 4 {
            out.push((buffer >> 16) as u8);
            if end == 0 || end > 1 {
                out.push((buffer >> 8) as u8);
            }
            if end == 0 || end > 2 {
                out.push(buffer as u8);
            }
            (buffer, position) = (0, 0);
        }
    }
    if position != 0 {
        return Err(invalid("invalid base64 end sequence".to_owned())
            .hint("Input data is missing padding, is truncated, or is otherwise corrupted."));
    }
    Ok(out)
}

fn combine(x: &str, y: &str, word: &str, op: fn(bool, bool) -> bool) -> Result<Datum> {
    if x.len() != y.len() {
        return Err(Error::new(
            crate::SqlState(*b"22026"),
            format!("cannot {word} bit strings of different sizes"),
        ));
    }
    bits(
        x.bytes()
            .zip(y.bytes())
            .map(|(x, y)| digit(op(x == b'1', y == b'1')))
            .collect(),
    )
}

fn digit(bit: bool) -> char {
    if bit { '1' } else { '0' }
}

fn shift(text: &str, by: i64) -> String {
    let length = text.len();
    let distance = usize::try_from(by.unsigned_abs())
        .unwrap_or(usize::MAX)
        .min(length);
    let zeros = "0".repeat(distance);
    if by >= 0 {
        format!("{}{zeros}", &text[distance..])
    } else {
        format!("{zeros}{}", &text[..length - distance])
    }
}

fn from_integer(value: i64, own: usize, length: i32) -> Result<Datum> {
    // bit(n) of an integer: its lowest n bits, sign extended.
    let length = if length <= 0 { 1 } else { length as usize };
    let mut out = String::with_capacity(length);
    for index in (0..length).rev() {
        out.push(digit(value >> index.min(63).min(own.max(64) - 1) & 1 == 1));
    }
    bits(out)
}

fn to_integer(text: &str, width: usize, kind: &str) -> Result<i64> {
    if text.len() > width {
        return Err(super::integer::out_of_range(kind));
    }
    let value = text
        .bytes()
        .fold(0u64, |value, bit| (value << 1) | u64::from(bit == b'1'));
    Ok(value as i64)
}

/// All functions on bytes and bits but comparison.
pub(super) const TABLE: &[(&str, ScalarFunction)] = &[
    ("byteaoctetlen", |_, _, a| {
        Ok(Datum::Int4(arg::bytes(a, 0)?.len() as i32))
    }),
    ("bit_length@1810", |_, _, a| {
        Ok(Datum::Int4(arg::bytes(a, 0)?.len() as i32 * 8))
    }),
    ("byteacat", |_, _, a| {
        bytea([arg::bytes(a, 0)?, arg::bytes(a, 1)?].concat())
    }),
    ("bytea_substr", |_, _, a| {
        let bytes = arg::bytes(a, 0)?;
        bytea(&bytes[range(bytes.len(), arg::int4(a, 1)?, Some(arg::int4(a, 2)?))?])
    }),
    ("bytea_substr_no_len", |_, _, a| {
        let bytes = arg::bytes(a, 0)?;
        bytea(&bytes[range(bytes.len(), arg::int4(a, 1)?, None)?])
    }),
    ("byteaoverlay", |_, _, a| {
        bytea(overlay(
            arg::bytes(a, 0)?,
            arg::bytes(a, 1)?,
            arg::int4(a, 2)?,
            arg::int4(a, 3)?,
        )?)
    }),
    ("byteaoverlay_no_len", |_, _, a| {
        let new = arg::bytes(a, 1)?;
        bytea(overlay(
            arg::bytes(a, 0)?,
            new,
            arg::int4(a, 2)?,
            new.len() as i32,
        )?)
    }),
    ("byteapos", |_, _, a| {
        Ok(Datum::Int4(position(arg::bytes(a, 0)?, arg::bytes(a, 1)?)))
    }),
    ("byteatrim", |_, _, a| {
        bytea(trim(arg::bytes(a, 0)?, arg::bytes(a, 1)?, true, true))
    }),
    ("bytealtrim", |_, _, a| {
        bytea(trim(arg::bytes(a, 0)?, arg::bytes(a, 1)?, true, false))
    }),
    ("byteartrim", |_, _, a| {
        bytea(trim(arg::bytes(a, 0)?, arg::bytes(a, 1)?, false, true))
    }),
    ("byteaGetByte", |_, _, a| {
        let bytes = arg::bytes(a, 0)?;
        Ok(Datum::Int4(i32::from(
            bytes[byte_at(bytes, i64::from(arg::int4(a, 1)?))?],
        )))
    }),
    ("byteaSetByte", |_, _, a| {
        let mut bytes = arg::bytes(a, 0)?.to_vec();
        let at = byte_at(&bytes, i64::from(arg::int4(a, 1)?))?;
        bytes[at] = arg::int4(a, 2)? as u8;
        bytea(bytes)
    }),
    ("byteaGetBit", |_, _, a| {
        let bytes = arg::bytes(a, 0)?;
        let (at, bit) = bit_at(bytes, arg::int8(a, 1)?)?;
        Ok(Datum::Int4(i32::from(bytes[at] >> bit & 1)))
    }),
    ("byteaSetBit", |_, _, a| {
        let mut bytes = arg::bytes(a, 0)?.to_vec();
        let (at, bit) = bit_at(&bytes, arg::int8(a, 1)?)?;
        if new_bit(arg::int4(a, 2)?)? {
            bytes[at] |= 1 << bit;
        } else {
            bytes[at] &= !(1 << bit);
        }
        bytea(bytes)
    }),
    ("bytea_bit_count", |_, _, a| {
        Ok(Datum::Int8(
            arg::bytes(a, 0)?
                .iter()
                .map(|b| i64::from(b.count_ones()))
                .sum(),
        ))
    }),
    ("binary_encode", |_, _, a| {
        encode(arg::bytes(a, 0)?, arg::text(a, 1)?)
    }),
    ("binary_decode", |_, _, a| {
        decode(arg::text(a, 0)?, arg::text(a, 1)?)
    }),
    ("md5_text", |_, _, a| {
        Ok(hex_text(&md5::compute(arg::text(a, 0)?.as_bytes()).0))
    }),
    ("md5_bytea", |_, _, a| {
        Ok(hex_text(&md5::compute(arg::bytes(a, 0)?).0))
    }),
    ("sha224_bytea", |_, _, a| {
        bytea(sha2::Sha224::digest(arg::bytes(a, 0)?))
    }),
    ("sha256_bytea", |_, _, a| {
        bytea(sha2::Sha256::digest(arg::bytes(a, 0)?))
    }),
    ("sha384_bytea", |_, _, a| {
        bytea(sha2::Sha384::digest(arg::bytes(a, 0)?))
    }),
    ("sha512_bytea", |_, _, a| {
        bytea(sha2::Sha512::digest(arg::bytes(a, 0)?))
    }),
    ("pg_convert_from", |_, _, a| {
        // Encodings: the database is UTF-8; others are refused by name.
        let name = arg::text(a, 1)?
            .to_ascii_lowercase()
            .replace(['-', '_'], "");
        if name != "utf8" && name != "unicode" {
            return Err(Error::unsupported(format!(
                "encoding \"{}\"",
                arg::text(a, 1)?
            )));
        }
        let format = FormatSettings {
            bytea_output: ByteaOutput::Hex,
            ..FormatSettings::default()
        };
        Datum::from_binary(arg::bytes(a, 0)?, Type::TEXT, &format)
    }),
    ("pg_convert_to", |_, _, a| {
        let name = arg::text(a, 1)?
            .to_ascii_lowercase()
            .replace(['-', '_'], "");
        if name != "utf8" && name != "unicode" {
            return Err(Error::unsupported(format!(
                "encoding \"{}\"",
                arg::text(a, 1)?
            )));
        }
        bytea(arg::text(a, 0)?.as_bytes())
    }),
    ("bitlength", |_, _, a| {
        Ok(Datum::Int4(arg::bits(a, 0)?.len() as i32))
    }),
    ("bit_length@1812", |_, _, a| {
        Ok(Datum::Int4(arg::bits(a, 0)?.len() as i32))
    }),
    ("bitoctetlength", |_, _, a| {
        Ok(Datum::Int4(arg::bits(a, 0)?.len().div_ceil(8) as i32))
    }),
    ("bitcat", |_, _, a| {
        bits(format!("{}{}", arg::bits(a, 0)?, arg::bits(a, 1)?))
    }),
    ("bit_and", |_, _, a| {
        combine(arg::bits(a, 0)?, arg::bits(a, 1)?, "AND", |x, y| x & y)
    }),
    ("bit_or", |_, _, a| {
        combine(arg::bits(a, 0)?, arg::bits(a, 1)?, "OR", |x, y| x | y)
    }),
    ("bitxor", |_, _, a| {
        combine(arg::bits(a, 0)?, arg::bits(a, 1)?, "XOR", |x, y| x ^ y)
    }),
    ("bitnot", |_, _, a| {
        bits(
            arg::bits(a, 0)?
                .bytes()
                .map(|bit| digit(bit == b'0'))
                .collect(),
        )
    }),
    ("bitshiftleft", |_, _, a| {
        bits(shift(arg::bits(a, 0)?, i64::from(arg::int4(a, 1)?)))
    }),
    ("bitshiftright", |_, _, a| {
        bits(shift(arg::bits(a, 0)?, -i64::from(arg::int4(a, 1)?)))
    }),
    ("bitsubstr", |_, _, a| {
        let text = arg::bits(a, 0)?;
        let range = range(text.len(), arg::int4(a, 1)?, Some(arg::int4(a, 2)?))?;
        bits(text[range].to_owned())
    }),
    ("bitsubstr_no_len", |_, _, a| {
        let text = arg::bits(a, 0)?;
        bits(text[range(text.len(), arg::int4(a, 1)?, None)?].to_owned())
    }),
    ("bitposition", |_, _, a| {
        Ok(Datum::Int4(position(
            arg::bits(a, 0)?.as_bytes(),
            arg::bits(a, 1)?.as_bytes(),
        )))
    }),
    ("bitoverlay", |_, _, a| {
        let (x, y) = (arg::bits(a, 0)?.as_bytes(), arg::bits(a, 1)?.as_bytes());
        let out = overlay(x, y, arg::int4(a, 2)?, arg::int4(a, 3)?)?;
        bits(String::from_utf8_lossy(&out).into_owned())
    }),
    ("bitoverlay_no_len", |_, _, a| {
        let (x, y) = (arg::bits(a, 0)?.as_bytes(), arg::bits(a, 1)?.as_bytes());
        let out = overlay(x, y, arg::int4(a, 2)?, y.len() as i32)?;
        bits(String::from_utf8_lossy(&out).into_owned())
    }),
    ("bitgetbit", |_, _, a| {
        let text = arg::bits(a, 0)?.as_bytes();
        let at = bit_index(text.len(), arg::int4(a, 1)?)?;
        Ok(Datum::Int4(i32::from(text[at] == b'1')))
    }),
    ("bitsetbit", |_, _, a| {
        let mut text = arg::bits(a, 0)?.as_bytes().to_vec();
        let at = bit_index(text.len(), arg::int4(a, 1)?)?;
        text[at] = if new_bit(arg::int4(a, 2)?)? {
            b'1'
        } else {
            b'0'
        };
        bits(String::from_utf8_lossy(&text).into_owned())
    }),
    ("bit_bit_count", |_, _, a| {
        Ok(Datum::Int8(
            arg::bits(a, 0)?.bytes().filter(|bit| *bit == b'1').count() as i64,
        ))
    }),
    ("bit", |_, _, a| {
        let kind = Type::BIT.with_modifier(arg::int4(a, 1)?);
        typmod::apply(a[0].clone(), kind, arg::boolean(a, 2)?)
    }),
    ("varbit", |_, _, a| {
        let kind = Type::VARBIT.with_modifier(arg::int4(a, 1)?);
        typmod::apply(a[0].clone(), kind, arg::boolean(a, 2)?)
    }),
    ("bitfromint4", |_, _, a| {
        from_integer(i64::from(arg::int4(a, 0)?), 32, arg::int4(a, 1)?)
    }),
    ("bitfromint8", |_, _, a| {
        from_integer(arg::int8(a, 0)?, 64, arg::int4(a, 1)?)
    }),
    ("bittoint4", |_, _, a| {
        Ok(Datum::Int4(
            to_integer(arg::bits(a, 0)?, 32, "integer")? as i32
        ))
    }),
    ("bittoint8", |_, _, a| {
        Ok(Datum::Int8(to_integer(arg::bits(a, 0)?, 64, "bigint")?))
    }),
];
