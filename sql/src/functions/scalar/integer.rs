//! Integers: arithmetic, bits and casts of `smallint`, `integer` and `bigint`.

use super::arguments as arg;
use crate::error::{Error, Result, state};
use crate::functions::ScalarFunction;
use crate::types::{Datum, Numeric};

/// 22003 for an integer type.
#[cold]
pub(super) fn out_of_range(kind: &str) -> Error {
    Error::new(
        state::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("{kind} out of range"),
    )
}

/// 22012.
#[cold]
pub(super) fn division_by_zero() -> Error {
    Error::new(state::DIVISION_BY_ZERO, "division by zero")
}

fn narrow2(value: i64) -> Result<Datum> {
    i16::try_from(value)
        .map(Datum::Int2)
        .map_err(|_| out_of_range("smallint"))
}

fn narrow4(value: i64) -> Result<Datum> {
    i32::try_from(value)
        .map(Datum::Int4)
        .map_err(|_| out_of_range("integer"))
}

fn some8(value: Option<i64>) -> Result<Datum> {
    value.map(Datum::Int8).ok_or_else(|| out_of_range("bigint"))
}

/// Division that never traps: by -1 it negates.
fn divide(a: i64, b: i64) -> Result<Option<i64>> {
    if b == 0 {
        Err(division_by_zero())
    } else {
        Ok(a.checked_div(b))
    }
}

fn remainder(a: i64, b: i64) -> Result<i64> {
    if b == 0 {
        Err(division_by_zero())
    } else {
        Ok(a.checked_rem(b).unwrap_or(0))
    }
}

macro_rules! small_arithmetic {
    ($pl:literal, $mi:literal, $mul:literal, $div:literal, $a:ident, $b:ident, $narrow:ident) => {
        [
            ($pl, |_, _, a| {
                $narrow(i64::from(arg::$a(a, 0)?) + i64::from(arg::$b(a, 1)?))
            }),
            ($mi, |_, _, a| {
                $narrow(i64::from(arg::$a(a, 0)?) - i64::from(arg::$b(a, 1)?))
            }),
            ($mul, |_, _, a| {
                $narrow(i64::from(arg::$a(a, 0)?) * i64::from(arg::$b(a, 1)?))
            }),
            ($div, |_, _, a| {
                let quotient = divide(i64::from(arg::$a(a, 0)?), i64::from(arg::$b(a, 1)?))?;
                $narrow(quotient.unwrap_or(i64::MAX))
            }),
        ]
    };
}

macro_rules! wide_arithmetic {
    ($pl:literal, $mi:literal, $mul:literal, $div:literal, $a:ident, $b:ident) => {
        [
            ($pl, |_, _, a| {
                some8(i64::from(arg::$a(a, 0)?).checked_add(i64::from(arg::$b(a, 1)?)))
            }),
            ($mi, |_, _, a| {
                some8(i64::from(arg::$a(a, 0)?).checked_sub(i64::from(arg::$b(a, 1)?)))
            }),
            ($mul, |_, _, a| {
                some8(i64::from(arg::$a(a, 0)?).checked_mul(i64::from(arg::$b(a, 1)?)))
            }),
            ($div, |_, _, a| {
                some8(divide(
                    i64::from(arg::$a(a, 0)?),
                    i64::from(arg::$b(a, 1)?),
                )?)
            }),
        ]
    };
}

type Four = [(&'static str, ScalarFunction); 4];
const INT2: Four = small_arithmetic!(
    "int2pl", "int2mi", "int2mul", "int2div", int2, int2, narrow2
);
const INT4: Four = small_arithmetic!(
    "int4pl", "int4mi", "int4mul", "int4div", int4, int4, narrow4
);
const INT24: Four = small_arithmetic!(
    "int24pl", "int24mi", "int24mul", "int24div", int2, int4, narrow4
);
const INT42: Four = small_arithmetic!(
    "int42pl", "int42mi", "int42mul", "int42div", int4, int2, narrow4
);
const INT8: Four = wide_arithmetic!("int8pl", "int8mi", "int8mul", "int8div", int8, int8);
const INT28: Four = wide_arithmetic!("int28pl", "int28mi", "int28mul", "int28div", int2, int8);
const INT82: Four = wide_arithmetic!("int82pl", "int82mi", "int82mul", "int82div", int8, int2);
const INT48: Four = wide_arithmetic!("int48pl", "int48mi", "int48mul", "int48div", int4, int8);
const INT84: Four = wide_arithmetic!("int84pl", "int84mi", "int84mul", "int84div", int8, int4);

/// The arithmetic of all pairs of widths.
pub(super) const ARITHMETIC: &[&[(&str, ScalarFunction)]] = &[
    &INT2, &INT4, &INT24, &INT42, &INT8, &INT28, &INT82, &INT48, &INT84,
];

fn gcd(a: i64, b: i64) -> u64 {
    num_integer::gcd(a.unsigned_abs(), b.unsigned_abs())
}

fn lcm(a: i64, b: i64) -> Option<u64> {
    if a == 0 || b == 0 {
        return Some(0);
    }
    (a.unsigned_abs() / gcd(a, b)).checked_mul(b.unsigned_abs())
}

fn fits<T: TryFrom<u64>>(value: Option<u64>, kind: &str) -> Result<T> {
    value
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| out_of_range(kind))
}

/// Rounds half to even, as `rint` does, and checks the range.
fn float_to_integer(value: f64, low: f64, high: f64, kind: &str) -> Result<i64> {
    let rounded = value.round_ties_even();
    if rounded.is_nan() || rounded < low || rounded >= high {
        return Err(out_of_range(kind));
    }
    Ok(rounded as i64)
}

fn numeric_to_integer(value: &Numeric, kind: &str) -> Result<i64> {
    let word = match value {
        Numeric::NaN => "NaN",
        Numeric::Infinity | Numeric::NegativeInfinity => "infinity",
        _ => return value.to_i64().ok_or_else(|| out_of_range(kind)),
    };
    Err(Error::new(
        state::FEATURE_NOT_SUPPORTED,
        format!("cannot convert {word} to {kind}"),
    ))
}

const TWO_15: f64 = 32_768.0;
const TWO_31: f64 = 2_147_483_648.0;
const TWO_63: f64 = 9_223_372_036_854_775_808.0;

/// Everything but the four operations.
pub(super) const TABLE: &[(&str, ScalarFunction)] = &[
    ("int2mod", |_, _, a| {
        narrow2(remainder(
            i64::from(arg::int2(a, 0)?),
            i64::from(arg::int2(a, 1)?),
        )?)
    }),
    ("int4mod", |_, _, a| {
        narrow4(remainder(
            i64::from(arg::int4(a, 0)?),
            i64::from(arg::int4(a, 1)?),
        )?)
    }),
    ("int8mod", |_, _, a| {
        Ok(Datum::Int8(remainder(arg::int8(a, 0)?, arg::int8(a, 1)?)?))
    }),
    ("int2abs", |_, _, a| {
        narrow2(i64::from(arg::int2(a, 0)?).abs())
    }),
    ("int4abs", |_, _, a| {
        narrow4(i64::from(arg::int4(a, 0)?).abs())
    }),
    ("int8abs", |_, _, a| some8(arg::int8(a, 0)?.checked_abs())),
    ("int2um", |_, _, a| narrow2(-i64::from(arg::int2(a, 0)?))),
    ("int4um", |_, _, a| narrow4(-i64::from(arg::int4(a, 0)?))),
    ("int8um", |_, _, a| some8(arg::int8(a, 0)?.checked_neg())),
    ("int2up", |_, _, a| Ok(a[0].clone())),
    ("int4up", |_, _, a| Ok(a[0].clone())),
    ("int8up", |_, _, a| Ok(a[0].clone())),
    ("int4inc", |_, _, a| {
        narrow4(i64::from(arg::int4(a, 0)?) + 1)
    }),
    ("int8inc", |_, _, a| some8(arg::int8(a, 0)?.checked_add(1))),
    ("int8dec", |_, _, a| some8(arg::int8(a, 0)?.checked_sub(1))),
    ("int2and", |_, _, a| {
        Ok(Datum::Int2(arg::int2(a, 0)? & arg::int2(a, 1)?))
    }),
    ("int4and", |_, _, a| {
        Ok(Datum::Int4(arg::int4(a, 0)? & arg::int4(a, 1)?))
    }),
    ("int8and", |_, _, a| {
        Ok(Datum::Int8(arg::int8(a, 0)? & arg::int8(a, 1)?))
    }),
    ("int2or", |_, _, a| {
        Ok(Datum::Int2(arg::int2(a, 0)? | arg::int2(a, 1)?))
    }),
    ("int4or", |_, _, a| {
        Ok(Datum::Int4(arg::int4(a, 0)? | arg::int4(a, 1)?))
    }),
    ("int8or", |_, _, a| {
        Ok(Datum::Int8(arg::int8(a, 0)? | arg::int8(a, 1)?))
    }),
    ("int2xor", |_, _, a| {
        Ok(Datum::Int2(arg::int2(a, 0)? ^ arg::int2(a, 1)?))
    }),
    ("int4xor", |_, _, a| {
        Ok(Datum::Int4(arg::int4(a, 0)? ^ arg::int4(a, 1)?))
    }),
    ("int8xor", |_, _, a| {
        Ok(Datum::Int8(arg::int8(a, 0)? ^ arg::int8(a, 1)?))
    }),
    ("int2not", |_, _, a| Ok(Datum::Int2(!arg::int2(a, 0)?))),
    ("int4not", |_, _, a| Ok(Datum::Int4(!arg::int4(a, 0)?))),
    ("int8not", |_, _, a| Ok(Datum::Int8(!arg::int8(a, 0)?))),
    // C shifts an int2 as an int and cuts it off.
    ("int2shl", |_, _, a| {
        Ok(Datum::Int2(
            i32::from(arg::int2(a, 0)?).wrapping_shl(arg::int4(a, 1)? as u32) as i16,
        ))
    }),
    ("int2shr", |_, _, a| {
        Ok(Datum::Int2(
            i32::from(arg::int2(a, 0)?).wrapping_shr(arg::int4(a, 1)? as u32) as i16,
        ))
    }),
    ("int4shl", |_, _, a| {
        Ok(Datum::Int4(
            arg::int4(a, 0)?.wrapping_shl(arg::int4(a, 1)? as u32),
        ))
    }),
    ("int4shr", |_, _, a| {
        Ok(Datum::Int4(
            arg::int4(a, 0)?.wrapping_shr(arg::int4(a, 1)? as u32),
        ))
    }),
    ("int8shl", |_, _, a| {
        Ok(Datum::Int8(
            arg::int8(a, 0)?.wrapping_shl(arg::int4(a, 1)? as u32),
        ))
    }),
    ("int8shr", |_, _, a| {
        Ok(Datum::Int8(
            arg::int8(a, 0)?.wrapping_shr(arg::int4(a, 1)? as u32),
        ))
    }),
    ("int4gcd", |_, _, a| {
        let value = gcd(i64::from(arg::int4(a, 0)?), i64::from(arg::int4(a, 1)?));
        Ok(Datum::Int4(fits(Some(value), "integer")?))
    }),
    ("int8gcd", |_, _, a| {
        Ok(Datum::Int8(fits(
            Some(gcd(arg::int8(a, 0)?, arg::int8(a, 1)?)),
            "bigint",
        )?))
    }),
    ("int4lcm", |_, _, a| {
        let value = lcm(i64::from(arg::int4(a, 0)?), i64::from(arg::int4(a, 1)?));
        Ok(Datum::Int4(fits(value, "integer")?))
    }),
    ("int8lcm", |_, _, a| {
        Ok(Datum::Int8(fits(
            lcm(arg::int8(a, 0)?, arg::int8(a, 1)?),
            "bigint",
        )?))
    }),
    ("i2toi4", |_, _, a| {
        Ok(Datum::Int4(i32::from(arg::int2(a, 0)?)))
    }),
    ("int28", |_, _, a| {
        Ok(Datum::Int8(i64::from(arg::int2(a, 0)?)))
    }),
    ("i4toi2", |_, _, a| narrow2(i64::from(arg::int4(a, 0)?))),
    ("int48", |_, _, a| {
        Ok(Datum::Int8(i64::from(arg::int4(a, 0)?)))
    }),
    ("int82", |_, _, a| narrow2(arg::int8(a, 0)?)),
    ("int84", |_, _, a| narrow4(arg::int8(a, 0)?)),
    ("i8tooid", |_, _, a| {
        let value = u32::try_from(arg::int8(a, 0)?);
        value.map(Datum::Oid).map_err(|_| out_of_range("OID"))
    }),
    ("oidtoi8", |_, _, a| {
        Ok(Datum::Int8(i64::from(arg::oid(a, 0)?)))
    }),
    ("int4_bool", |_, _, a| {
        Ok(Datum::Bool(arg::int4(a, 0)? != 0))
    }),
    ("bool_int4", |_, _, a| {
        Ok(Datum::Int4(i32::from(arg::boolean(a, 0)?)))
    }),
    ("chartoi4", |_, _, a| {
        Ok(Datum::Int4(i32::from(arg::char(a, 0)? as i8)))
    }),
    ("i4tochar", |_, _, a| {
        let value = i8::try_from(arg::int4(a, 0)?);
        value
            .map(|value| Datum::Char(value as u8))
            .map_err(|_| out_of_range("\"char\""))
    }),
    ("dtoi2", |_, _, a| {
        Ok(Datum::Int2(
            float_to_integer(arg::float8(a, 0)?, -TWO_15, TWO_15, "smallint")? as i16,
        ))
    }),
    ("dtoi4", |_, _, a| {
        Ok(Datum::Int4(
            float_to_integer(arg::float8(a, 0)?, -TWO_31, TWO_31, "integer")? as i32,
        ))
    }),
    ("dtoi8", |_, _, a| {
        Ok(Datum::Int8(float_to_integer(
            arg::float8(a, 0)?,
            -TWO_63,
            TWO_63,
            "bigint",
        )?))
    }),
    ("ftoi2", |_, _, a| {
        let value = f64::from(arg::float4(a, 0)?);
        Ok(Datum::Int2(
            float_to_integer(value, -TWO_15, TWO_15, "smallint")? as i16,
        ))
    }),
    ("ftoi4", |_, _, a| {
        let value = f64::from(arg::float4(a, 0)?);
        Ok(Datum::Int4(
            float_to_integer(value, -TWO_31, TWO_31, "integer")? as i32,
        ))
    }),
    ("ftoi8", |_, _, a| {
        let value = f64::from(arg::float4(a, 0)?);
        Ok(Datum::Int8(float_to_integer(
            value, -TWO_63, TWO_63, "bigint",
        )?))
    }),
    ("numeric_int2", |_, _, a| {
        narrow2(numeric_to_integer(arg::numeric(a, 0)?, "smallint")?)
    }),
    ("numeric_int4", |_, _, a| {
        narrow4(numeric_to_integer(arg::numeric(a, 0)?, "integer")?)
    }),
    ("numeric_int8", |_, _, a| {
        Ok(Datum::Int8(numeric_to_integer(
            arg::numeric(a, 0)?,
            "bigint",
        )?))
    }),
    ("to_hex32", |_, _, a| {
        Ok(Datum::from(format!("{:x}", arg::int4(a, 0)?)))
    }),
    ("to_hex64", |_, _, a| {
        Ok(Datum::from(format!("{:x}", arg::int8(a, 0)?)))
    }),
];
