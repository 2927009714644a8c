//! The btree order, equality and hash of values: what ORDER BY, indexes, joins and grouping use.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use crate::types::kind::oid;
use crate::types::{Array, Datum, Record, Type};

/// Compares two values of one type (or of two integer, two float types) in btree order. NULL is
/// above everything and equal to NULL. `bpchar` values must be compared by [`compare_as`], which
/// ignores their trailing blanks.
#[inline]
pub fn compare(a: &Datum, b: &Datum) -> Ordering {
    match (a, b) {
        (Datum::Int4(a), Datum::Int4(b)) => a.cmp(b),
        (Datum::Int8(a), Datum::Int8(b)) => a.cmp(b),
        (Datum::Text(a), Datum::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
        _ => compare_rest(a, b),
    }
}

fn compare_rest(a: &Datum, b: &Datum) -> Ordering {
    use Datum as D;
    match (a, b) {
        (D::Null, D::Null) | (D::Void, D::Void) => Ordering::Equal,
        (D::Null, _) => Ordering::Greater,
        (_, D::Null) => Ordering::Less,
        (D::Bool(a), D::Bool(b)) => a.cmp(b),
        (D::Int2(a), D::Int2(b)) => a.cmp(b),
        (D::Float4(a), D::Float4(b)) => compare_f64(f64::from(*a), f64::from(*b)),
        (D::Float8(a), D::Float8(b)) => compare_f64(*a, *b),
        (D::Numeric(a), D::Numeric(b)) => a.cmp(b),
        (D::Bit(a), D::Bit(b)) => a.as_bytes().cmp(b.as_bytes()),
        (D::Bytea(a), D::Bytea(b)) => a.cmp(b),
        (D::Date(a), D::Date(b)) => a.cmp(b),
        (D::Time(a), D::Time(b)) | (D::Timestamp(a), D::Timestamp(b)) => a.cmp(b),
        (D::Timestamptz(a), D::Timestamptz(b)) => a.cmp(b),
        (D::Timetz(a, x), D::Timetz(b, y)) => {
            (a + i64::from(*x) * 1_000_000, x).cmp(&(b + i64::from(*y) * 1_000_000, y))
        }
        (D::Interval(a), D::Interval(b)) => a.cmp(b),
        (D::Uuid(a), D::Uuid(b)) => a.cmp(b),
        (D::Jsonb(a), D::Jsonb(b)) => a.cmp(b),
        (D::Array(a), D::Array(b)) => compare_arrays(a, b),
        (D::Lsn(a), D::Lsn(b)) | (D::Xid8(a), D::Xid8(b)) => a.cmp(b),
        (D::Oid(a), D::Oid(b)) => a.cmp(b),
        (D::Char(a), D::Char(b)) => a.cmp(b),
        (D::Tid(a, x), D::Tid(b, y)) => (a, x).cmp(&(b, y)),
        (D::Record(a), D::Record(b)) => compare_records(a, b),
        _ => compare_mixed(a, b),
    }
}

/// Values of two numeric types compare by value; anything else by kind, so that the order is total.
fn compare_mixed(a: &Datum, b: &Datum) -> Ordering {
    if let (Some(a), Some(b)) = (a.as_i64(), b.as_i64()) {
        return a.cmp(&b);
    }
    match (as_f64(a), as_f64(b)) {
        (Some(a), Some(b)) => compare_f64(a, b),
        _ => kind_rank(a).cmp(&kind_rank(b)),
    }
}

fn as_f64(value: &Datum) -> Option<f64> {
    match value {
        Datum::Float4(value) => Some(f64::from(*value)),
        Datum::Float8(value) => Some(*value),
        Datum::Numeric(value) => value.to_f64(),
        other => other.as_i64().map(|value| value as f64),
    }
}

fn kind_rank(value: &Datum) -> u8 {
    match value {
        Datum::Bool(_) => 0,
        Datum::Int2(_) | Datum::Int4(_) | Datum::Int8(_) | Datum::Oid(_) => 1,
        Datum::Float4(_) | Datum::Float8(_) | Datum::Numeric(_) => 2,
        Datum::Text(_) => 3,
        Datum::Bytea(_) => 4,
        Datum::Date(_) => 5,
        Datum::Time(_) => 6,
        Datum::Timetz(..) => 7,
        Datum::Timestamp(_) => 8,
        Datum::Timestamptz(_) => 9,
        Datum::Interval(_) => 10,
        Datum::Uuid(_) => 11,
        Datum::Jsonb(_) => 12,
        Datum::Array(_) => 13,
        Datum::Lsn(_) => 14,
        Datum::Char(_) => 15,
        Datum::Xid8(_) => 16,
        Datum::Tid(..) => 17,
        Datum::Bit(_) => 18,
        Datum::Record(_) => 19,
        Datum::Void => 20,
        Datum::Null => 21,
    }
}

/// PostgreSQL's order of floats: NaN equals itself and is above infinity; -0 equals 0.
#[inline]
pub fn compare_f64(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b)
        .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// Elements first, then the number of dimensions, then the dimensions (`array_cmp`).
fn compare_arrays(a: &Array, b: &Array) -> Ordering {
    let blanks = a.element.oid == oid::BPCHAR;
    for (a, b) in a.values.iter().zip(&b.values) {
        let order = if blanks {
            compare_as(Type::BPCHAR, a, b)
        } else {
            compare(a, b)
        };
        if order.is_ne() {
            return order;
        }
    }
    a.values
        .len()
        .cmp(&b.values.len())
        .then_with(|| a.dimensions.len().cmp(&b.dimensions.len()))
        .then_with(|| {
            let lengths = |array: &Array| array.dimensions.iter().map(|d| d.length).collect();
            let lowers = |array: &Array| array.dimensions.iter().map(|d| d.lower).collect();
            let (a_lengths, b_lengths): (Vec<i32>, Vec<i32>) = (lengths(a), lengths(b));
            let (a_lowers, b_lowers): (Vec<i32>, Vec<i32>) = (lowers(a), lowers(b));
            a_lengths
                .cmp(&b_lengths)
                .then_with(|| a_lowers.cmp(&b_lowers))
        })
}

fn compare_records(a: &Record, b: &Record) -> Ordering {
    for (index, (x, y)) in a.values.iter().zip(&b.values).enumerate() {
        let order = compare_as(a.shape.types[index], x, y);
        if order.is_ne() {
            return order;
        }
    }
    a.values.len().cmp(&b.values.len())
}

/// [`compare`] for values of a known type: `bpchar` without its trailing blanks.
#[inline]
pub fn compare_as(kind: Type, a: &Datum, b: &Datum) -> Ordering {
    if kind.oid == oid::BPCHAR
        && let (Datum::Text(a), Datum::Text(b)) = (a, b)
    {
        return trim_blanks(a).as_bytes().cmp(trim_blanks(b).as_bytes());
    }
    compare(a, b)
}

/// A `bpchar` value without its trailing blanks.
pub fn trim_blanks(text: &str) -> &str {
    text.trim_end_matches(' ')
}

/// Equality as the type's `=` sees it, with NULL equal to NULL.
#[inline]
pub fn equal(a: &Datum, b: &Datum) -> bool {
    compare(a, b).is_eq()
}

/// A hash that agrees with [`equal`]: equal numbers of different scale, -0 and 0, intervals of one
/// span, and the same integer in two integer types hash alike.
pub fn hash_datum<H: Hasher>(value: &Datum, state: &mut H) {
    match value {
        Datum::Null => 0u8.hash(state),
        Datum::Bool(value) => value.hash(state),
        Datum::Int2(value) => i64::from(*value).hash(state),
        Datum::Int4(value) => i64::from(*value).hash(state),
        Datum::Int8(value) => value.hash(state),
        Datum::Oid(value) => i64::from(*value).hash(state),
        Datum::Float4(value) => hash_f64(f64::from(*value), state),
        Datum::Float8(value) => hash_f64(*value, state),
        Datum::Numeric(value) => value.hash(state),
        Datum::Text(value) | Datum::Bit(value) => value.hash(state),
        Datum::Bytea(value) => value.hash(state),
        Datum::Date(value) => value.hash(state),
        Datum::Time(value) | Datum::Timestamp(value) | Datum::Timestamptz(value) => {
            value.hash(state);
        }
        Datum::Timetz(time, zone) => (time, zone).hash(state),
        Datum::Interval(value) => value.hash(state),
        Datum::Uuid(value) => value.hash(state),
        Datum::Jsonb(value) => value.hash(state),
        Datum::Array(value) => {
            for item in &value.values {
                hash_as(value.element, item, state);
            }
        }
        Datum::Lsn(value) | Datum::Xid8(value) => value.hash(state),
        Datum::Char(value) => value.hash(state),
        Datum::Tid(block, offset) => (block, offset).hash(state),
        Datum::Void => {}
        Datum::Record(value) => {
            for (item, kind) in value.values.iter().zip(&value.shape.types) {
                hash_as(*kind, item, state);
            }
        }
    }
}

/// [`hash_datum`] for values of a known type: agrees with [`compare_as`].
pub fn hash_as<H: Hasher>(kind: Type, value: &Datum, state: &mut H) {
    match value {
        Datum::Text(text) if kind.oid == oid::BPCHAR => trim_blanks(text).hash(state),
        other => hash_datum(other, state),
    }
}

fn hash_f64<H: Hasher>(value: f64, state: &mut H) {
    let canonical = if value == 0.0 {
        0.0
    } else if value.is_nan() {
        f64::NAN
    } else {
        value
    };
    canonical.to_bits().hash(state);
}
