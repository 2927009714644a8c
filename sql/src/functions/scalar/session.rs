//! Functions that ask the session: users, schemas, settings, clocks; and small odds and ends:
//! booleans, OIDs, log positions, UUIDs, type names.

use super::arguments as arg;
use crate::error::{Error, Result, state};
use crate::functions::{Evaluation, ScalarFunction};
use crate::types::{Array, Datum, Numeric, Type};

fn name(text: &str) -> Result<Datum> {
    Ok(Datum::text(text))
}

fn unknown_setting(name: &str) -> Error {
    Error::new(
        state::UNDEFINED_OBJECT,
        format!("unrecognized configuration parameter \"{name}\""),
    )
}

fn setting(e: &Evaluation<'_>, name: &str, missing_ok: bool) -> Result<Datum> {
    match e.environment.setting(name) {
        Some(value) => Ok(Datum::from(value)),
        None if missing_ok => Ok(Datum::Null),
        None => Err(unknown_setting(name)),
    }
}

fn random_uuid(e: &Evaluation<'_>) -> Datum {
    let high = e.environment.random_bits().to_be_bytes();
    let low = e.environment.random_bits().to_be_bytes();
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high);
    bytes[8..].copy_from_slice(&low);
    // RFC 4122, version 4.
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Datum::Uuid(bytes)
}

fn lsn_numeric(value: &Numeric) -> Result<u64> {
    if !value.is_finite() {
        let word = if value.is_nan() { "NaN" } else { "infinity" };
        return Err(Error::new(
            state::FEATURE_NOT_SUPPORTED,
            format!("cannot convert {word} to pg_lsn"),
        ));
    }
    value
        .to_i128()
        .and_then(|value| u64::try_from(value).ok())
        .ok_or_else(|| Error::new(state::INVALID_PARAMETER_VALUE, "pg_lsn out of range"))
}

fn nan_operand(value: &Numeric, phrase: &str) -> Result<()> {
    if value.is_nan() {
        return Err(Error::new(
            state::FEATURE_NOT_SUPPORTED,
            format!("cannot {phrase} pg_lsn"),
        ));
    }
    Ok(())
}

fn lsn_plus(lsn: u64, by: &Numeric) -> Result<Datum> {
    let sum = Numeric::from_parts(i128::from(lsn), 0).add(by)?;
    Ok(Datum::Lsn(lsn_numeric(&sum)?))
}

/// The parts of a size in bytes.
fn pretty_size(bytes: i64) -> String {
    let mut size = i128::from(bytes);
    let limit = 10 * 1024;
    if size.abs() < limit {
        return format!("{size} bytes");
    }
    // One bit is kept for rounding at the end.
    let limit2 = limit * 2 - 1;
    size >>= 9;
    let half = |size: i128| {
        if size < 0 {
            (size - 1) / 2
        } else {
            (size + 1) / 2
        }
    };
    for unit in ["kB", "MB", "GB", "TB"] {
        if size.abs() < limit2 {
            return format!("{} {unit}", half(size));
        }
        size >>= 10;
    }
    format!("{} PB", half(size))
}

/// A size as `12 MB` says it.
fn size_bytes(text: &str) -> Result<i64> {
    let invalid = || {
        Error::new(
            state::INVALID_PARAMETER_VALUE,
            format!("invalid size: \"{text}\""),
        )
    };
    let trimmed = text.trim();
    let end = trimmed
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+')))
        .unwrap_or(trimmed.len());
    let number = Numeric::parse(&trimmed[..end]).map_err(|_| invalid())?;
    let unit = trimmed[end..].trim();
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" | "bytes" => 0,
        "kb" => 10,
        "mb" => 20,
        "gb" => 30,
        "tb" => 40,
        "pb" => 50,
        _ => {
            return Err(invalid()
                .detail(format!("Invalid size unit: \"{unit}\"."))
                .hint(
                    "Valid units are \"bytes\", \"B\", \"kB\", \"MB\", \"GB\", \"TB\", and \
                     \"PB\".",
                ));
        }
    };
    let bytes = number.mul(&Numeric::from_i64(1 << shift))?;
    bytes
        .to_i64()
        .ok_or_else(|| super::integer::out_of_range("bigint"))
}

/// PostgreSQL's hash of bytes (Jenkins' lookup3, little-endian), for `hashtext` and its users.
fn hash_any(bytes: &[u8]) -> u32 {
    let mut a = 0x9e37_79b9u32
        .wrapping_add(bytes.len() as u32)
        .wrapping_add(3_923_095);
    let (mut b, mut c) = (a, a);
    let word = |chunk: &[u8]| {
        let mut padded = [0u8; 4];
        padded[..chunk.len()].copy_from_slice(chunk);
        u32::from_le_bytes(padded)
    };
    let mut rest = bytes;
    while rest.len() >= 12 {
        a = a.wrapping_add(word(&rest[..4]));
        b = b.wrapping_add(word(&rest[4..8]));
        c = c.wrapping_add(word(&rest[8..12]));
        mix(&mut a, &mut b, &mut c);
        rest = &rest[12..];
    }
    let part = |from: usize, to: usize| &rest[from.min(rest.len())..to.min(rest.len())];
    a = a.wrapping_add(word(part(0, 4)));
    b = b.wrapping_add(word(part(4, 8)));
    // The lowest byte of c is kept for the length.
    c = c.wrapping_add(word(part(8, 11)) << 8);
    finish(&mut a, &mut b, &mut c);
    c
}

fn mix(a: &mut u32, b: &mut u32, c: &mut u32) {
    *a = a.wrapping_sub(*c) ^ c.rotate_left(4);
    *c = c.wrapping_add(*b);
    *b = b.wrapping_sub(*a) ^ a.rotate_left(6);
    *a = a.wrapping_add(*c);
    *c = c.wrapping_sub(*b) ^ b.rotate_left(8);
    *b = b.wrapping_add(*a);
    *a = a.wrapping_sub(*c) ^ c.rotate_left(16);
    *c = c.wrapping_add(*b);
    *b = b.wrapping_sub(*a) ^ a.rotate_left(19);
    *a = a.wrapping_add(*c);
    *c = c.wrapping_sub(*b) ^ b.rotate_left(4);
    *b = b.wrapping_add(*a);
}

fn finish(a: &mut u32, b: &mut u32, c: &mut u32) {
    *c = (*c ^ *b).wrapping_sub(b.rotate_left(14));
    *a = (*a ^ *c).wrapping_sub(c.rotate_left(11));
    *b = (*b ^ *a).wrapping_sub(a.rotate_left(25));
    *c = (*c ^ *b).wrapping_sub(b.rotate_left(16));
    *a = (*a ^ *c).wrapping_sub(c.rotate_left(4));
    *b = (*b ^ *a).wrapping_sub(a.rotate_left(14));
    *c = (*c ^ *b).wrapping_sub(b.rotate_left(24));
}

fn num_nulls(call: &crate::functions::Resolved, a: &[Datum], nulls: bool) -> Result<Datum> {
    let count = |values: &[Datum]| values.iter().filter(|v| v.is_null() == nulls).count() as i32;
    if call.is_spread() {
        return Ok(match a.first() {
            Some(Datum::Array(array)) => Datum::Int4(count(&array.values)),
            _ => Datum::Null,
        });
    }
    Ok(Datum::Int4(count(a)))
}

/// Session, clock and identity functions; booleans, `pg_lsn`, sizes, hashes.
pub(super) const TABLE: &[(&str, ScalarFunction)] = &[
    ("current_user", |e, _, _| name(e.environment.current_user())),
    ("session_user", |e, _, _| name(e.environment.session_user())),
    ("current_database", |e, _, _| {
        name(e.environment.current_database())
    }),
    ("current_schema", |e, _, _| {
        Ok(Datum::from(
            e.environment.current_schemas(false).into_iter().next(),
        ))
    }),
    ("current_schemas", |e, _, a| {
        let schemas = e.environment.current_schemas(arg::boolean(a, 0)?);
        let values = schemas.into_iter().map(Datum::from).collect();
        Ok(Datum::array(Array::of(Type::NAME, values)))
    }),
    ("show_config_by_name", |e, _, a| {
        setting(e, arg::text(a, 0)?, false)
    }),
    ("show_config_by_name_missing_ok", |e, _, a| {
        setting(e, arg::text(a, 0)?, arg::boolean(a, 1)?)
    }),
    ("now", |e, _, _| {
        Ok(Datum::Timestamptz(e.format.transaction_start))
    }),
    ("statement_timestamp", |e, _, _| {
        Ok(Datum::Timestamptz(e.statement_start))
    }),
    ("clock_timestamp", |e, _, _| {
        Ok(Datum::Timestamptz(e.environment.clock()))
    }),
    ("gen_random_uuid", |e, _, _| Ok(random_uuid(e))),
    ("pg_typeof", |_, call, _| {
        Ok(Datum::Oid(call.parameter(0).oid))
    }),
    ("pg_num_nulls", |_, call, a| num_nulls(call, a, true)),
    ("pg_num_nonnulls", |_, call, a| num_nulls(call, a, false)),
    ("text_regclass", |e, _, a| {
        Datum::from_text(arg::text(a, 0)?, Type::REGCLASS, e.format)
    }),
    ("booland_statefunc", |_, _, a| {
        Ok(Datum::Bool(arg::boolean(a, 0)? && arg::boolean(a, 1)?))
    }),
    ("boolor_statefunc", |_, _, a| {
        Ok(Datum::Bool(arg::boolean(a, 0)? || arg::boolean(a, 1)?))
    }),
    ("pg_lsn_mi", |_, _, a| {
        let difference = i128::from(arg::lsn(a, 0)?) - i128::from(arg::lsn(a, 1)?);
        Ok(Datum::numeric(Numeric::from_parts(difference, 0)))
    }),
    ("pg_wal_lsn_diff", |_, _, a| {
        let difference = i128::from(arg::lsn(a, 0)?) - i128::from(arg::lsn(a, 1)?);
        Ok(Datum::numeric(Numeric::from_parts(difference, 0)))
    }),
    ("pg_lsn_pli", |_, _, a| {
        nan_operand(arg::numeric(a, 1)?, "add NaN to")?;
        lsn_plus(arg::lsn(a, 0)?, arg::numeric(a, 1)?)
    }),
    ("numeric_pl_pg_lsn@5023", |_, _, a| {
        nan_operand(arg::numeric(a, 0)?, "add NaN to")?;
        lsn_plus(arg::lsn(a, 1)?, arg::numeric(a, 0)?)
    }),
    ("pg_lsn_mii", |_, _, a| {
        nan_operand(arg::numeric(a, 1)?, "subtract NaN from")?;
        lsn_plus(arg::lsn(a, 0)?, &arg::numeric(a, 1)?.neg())
    }),
    ("numeric_pg_lsn", |_, _, a| {
        Ok(Datum::Lsn(lsn_numeric(arg::numeric(a, 0)?)?))
    }),
    ("xid8toxid", |_, _, a| {
        Ok(Datum::Oid(arg::xid8(a, 0)? as u32))
    }),
    ("pg_size_pretty", |_, _, a| {
        Ok(Datum::from(pretty_size(arg::int8(a, 0)?)))
    }),
    ("pg_size_pretty_numeric", |_, _, a| {
        let bytes = arg::numeric(a, 0)?.to_i64();
        let bytes = bytes.ok_or_else(|| super::integer::out_of_range("bigint"))?;
        Ok(Datum::from(pretty_size(bytes)))
    }),
    ("pg_size_bytes", |_, _, a| {
        Ok(Datum::Int8(size_bytes(arg::text(a, 0)?)?))
    }),
    ("hashtext", |_, _, a| {
        Ok(Datum::Int4(hash_any(arg::text(a, 0)?.as_bytes()) as i32))
    }),
    ("pg_encoding_max_length_sql", |_, _, a| {
        Ok(Datum::Int4(if arg::int4(a, 0)? == 6 { 4 } else { 1 }))
    }),
    ("PG_encoding_to_char", |_, _, a| {
        Ok(Datum::text(match arg::int4(a, 0)? {
            0 => "SQL_ASCII",
            6 => "UTF8",
            8 => "LATIN1",
            _ => "",
        }))
    }),
    ("PG_char_to_encoding", |_, _, a| {
        let name = arg::text(a, 0)?
            .to_ascii_lowercase()
            .replace(['-', '_'], "");
        Ok(Datum::Int4(match name.as_str() {
            "sqlascii" => 0,
            "utf8" | "unicode" => 6,
            "latin1" | "iso88591" => 8,
            _ => -1,
        }))
    }),
    ("getdatabaseencoding", |_, _, _| name("UTF8")),
    ("pg_client_encoding", |_, _, _| name("UTF8")),
    ("pg_column_size", |_, _, a| {
        Ok(Datum::Int4(a[0].bytes() as i32))
    }),
];
