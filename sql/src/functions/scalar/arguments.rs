//! Typed access to the arguments of a call. A value of another representation than declared is a
//! mistake of the caller and is reported as such (XX000), never a panic.

use crate::error::{Error, Result};
use crate::types::{Array, Datum, Interval, Json, Numeric};

#[cold]
fn unexpected(arguments: &[Datum], index: usize, wanted: &str) -> Error {
    match arguments.get(index) {
        Some(value) => Error::internal(format!(
            "argument {} is not {wanted} but {value:?}",
            index + 1
        )),
        None => Error::internal(format!("argument {} is missing", index + 1)),
    }
}

macro_rules! accessors {
    ($($name:ident: $variant:ident -> $t:ty, $what:literal;)*) => {
        $(
            #[doc = concat!("The argument at `index` as ", $what, ".")]
            #[inline]
            pub fn $name(arguments: &[Datum], index: usize) -> Result<$t> {
                match arguments.get(index) {
                    Some(Datum::$variant(value)) => Ok(*value),
                    _ => Err(unexpected(arguments, index, $what)),
                }
            }
        )*
    };
}

accessors! {
    boolean: Bool -> bool, "a boolean";
    int2: Int2 -> i16, "a smallint";
    int4: Int4 -> i32, "an integer";
    int8: Int8 -> i64, "a bigint";
    float4: Float4 -> f32, "a real";
    float8: Float8 -> f64, "a double";
    date: Date -> i32, "a date";
    time: Time -> i64, "a time";
    timestamp: Timestamp -> i64, "a timestamp";
    timestamptz: Timestamptz -> i64, "a timestamptz";
    interval: Interval -> Interval, "an interval";
    lsn: Lsn -> u64, "a pg_lsn";
    oid: Oid -> u32, "an oid";
    char: Char -> u8, "a \"char\"";
    xid8: Xid8 -> u64, "an xid8";
}

macro_rules! references {
    ($($name:ident: $variant:ident -> $t:ty, $what:literal;)*) => {
        $(
            #[doc = concat!("The argument at `index` as ", $what, ".")]
            #[inline]
            pub fn $name(arguments: &[Datum], index: usize) -> Result<&$t> {
                match arguments.get(index) {
                    Some(Datum::$variant(value)) => Ok(value),
                    _ => Err(unexpected(arguments, index, $what)),
                }
            }
        )*
    };
}

references! {
    numeric: Numeric -> Numeric, "a numeric";
    text: Text -> str, "a text";
    bytes: Bytea -> [u8], "a bytea";
    bits: Bit -> str, "a bit string";
    jsonb: Jsonb -> Json, "a jsonb";
    array: Array -> Array, "an array";
}

/// Time of day and seconds west of Greenwich.
pub fn timetz(arguments: &[Datum], index: usize) -> Result<(i64, i32)> {
    match arguments.get(index) {
        Some(Datum::Timetz(time, west)) => Ok((*time, *west)),
        _ => Err(unexpected(arguments, index, "a timetz")),
    }
}
