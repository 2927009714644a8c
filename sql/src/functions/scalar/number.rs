//! `numeric` functions.

use num_traits::ToPrimitive;

use super::arguments as arg;
use crate::error::{Error, Result, SqlState};
use crate::functions::ScalarFunction;
use crate::types::{Datum, Numeric, Type, typmod};

fn done(value: Result<Numeric>) -> Result<Datum> {
    value.map(Datum::numeric)
}

fn width_bucket(operand: &Numeric, low: &Numeric, high: &Numeric, count: i32) -> Result<Datum> {
    let failed = |message: &str| Err(Error::new(SqlState(*b"2201G"), message));
    if count <= 0 {
        return failed("count must be greater than zero");
    }
    if operand.is_nan() || low.is_nan() || high.is_nan() {
        return failed("operand, lower bound, and upper bound cannot be NaN");
    }
    if !low.is_finite() || !high.is_finite() {
        return failed("lower and upper bounds must be finite");
    }
    if low == high {
        return failed("lower bound cannot equal upper bound");
    }
    let up = low < high;
    let (below, above) = if up {
        (operand < low, operand >= high)
    } else {
        (operand > low, operand <= high)
    };
    if below {
        return Ok(Datum::Int4(0));
    }
    if above {
        return count
            .checked_add(1)
            .map(Datum::Int4)
            .ok_or_else(|| super::integer::out_of_range("integer"));
    }
    let (part, whole) = if up {
        (operand.sub(low)?, high.sub(low)?)
    } else {
        (low.sub(operand)?, low.sub(high)?)
    };
    let bucket = part.mul(&Numeric::from(count))?.div_trunc(&whole)?;
    Ok(Datum::Int4(
        bucket.unscaled().and_then(|v| v.to_i32()).unwrap_or(0) + 1,
    ))
}

/// All functions on numerics but comparison and `to_char`.
pub(super) const TABLE: &[(&str, ScalarFunction)] = &[
    ("numeric_add", |_, _, a| {
        done(arg::numeric(a, 0)?.add(arg::numeric(a, 1)?))
    }),
    ("numeric_sub", |_, _, a| {
        done(arg::numeric(a, 0)?.sub(arg::numeric(a, 1)?))
    }),
    ("numeric_mul", |_, _, a| {
        done(arg::numeric(a, 0)?.mul(arg::numeric(a, 1)?))
    }),
    ("numeric_div", |_, _, a| {
        done(arg::numeric(a, 0)?.div(arg::numeric(a, 1)?))
    }),
    ("numeric_div_trunc", |_, _, a| {
        done(arg::numeric(a, 0)?.div_trunc(arg::numeric(a, 1)?))
    }),
    ("numeric_mod", |_, _, a| {
        done(arg::numeric(a, 0)?.rem(arg::numeric(a, 1)?))
    }),
    ("numeric_inc", |_, _, a| {
        done(arg::numeric(a, 0)?.add(&Numeric::ONE))
    }),
    ("numeric_abs", |_, _, a| {
        Ok(Datum::numeric(arg::numeric(a, 0)?.abs()))
    }),
    ("numeric_uminus", |_, _, a| {
        Ok(Datum::numeric(arg::numeric(a, 0)?.neg()))
    }),
    ("numeric_uplus", |_, _, a| Ok(a[0].clone())),
    ("numeric_sign", |_, _, a| {
        Ok(Datum::numeric(arg::numeric(a, 0)?.signum()))
    }),
    ("numeric_ceil", |_, _, a| done(arg::numeric(a, 0)?.ceil())),
    ("numeric_floor", |_, _, a| done(arg::numeric(a, 0)?.floor())),
    ("numeric_round", |_, _, a| {
        done(arg::numeric(a, 0)?.round(arg::int4(a, 1)?))
    }),
    ("numeric_trunc", |_, _, a| {
        done(arg::numeric(a, 0)?.trunc(arg::int4(a, 1)?))
    }),
    // round(x) and trunc(x) are SQL functions in PostgreSQL.
    ("round@1708", |_, _, a| done(arg::numeric(a, 0)?.round(0))),
    ("trunc@1710", |_, _, a| done(arg::numeric(a, 0)?.trunc(0))),
    ("numeric_sqrt", |_, _, a| done(arg::numeric(a, 0)?.sqrt())),
    ("numeric_exp", |_, _, a| done(arg::numeric(a, 0)?.exp())),
    ("numeric_ln", |_, _, a| done(arg::numeric(a, 0)?.ln())),
    ("numeric_log", |_, _, a| {
        done(arg::numeric(a, 1)?.log(arg::numeric(a, 0)?))
    }),
    ("log@1741", |_, _, a| {
        done(arg::numeric(a, 0)?.log(&Numeric::from_i64(10)))
    }),
    ("log10@1481", |_, _, a| {
        done(arg::numeric(a, 0)?.log(&Numeric::from_i64(10)))
    }),
    ("numeric_power", |_, _, a| {
        done(arg::numeric(a, 0)?.power(arg::numeric(a, 1)?))
    }),
    ("numeric_gcd", |_, _, a| {
        done(arg::numeric(a, 0)?.gcd(arg::numeric(a, 1)?))
    }),
    ("numeric_lcm", |_, _, a| {
        done(arg::numeric(a, 0)?.lcm(arg::numeric(a, 1)?))
    }),
    ("numeric_fac", |_, _, a| {
        done(Numeric::factorial(arg::int8(a, 0)?))
    }),
    ("numeric_scale", |_, _, a| {
        let value = arg::numeric(a, 0)?;
        Ok(if value.is_finite() {
            Datum::Int4(value.scale())
        } else {
            Datum::Null
        })
    }),
    ("numeric_min_scale", |_, _, a| {
        Ok(Datum::from(arg::numeric(a, 0)?.min_scale()))
    }),
    ("numeric_trim_scale", |_, _, a| {
        Ok(Datum::numeric(arg::numeric(a, 0)?.trim_scale()))
    }),
    ("int2_numeric", |_, _, a| {
        Ok(Datum::numeric(Numeric::from(arg::int2(a, 0)?)))
    }),
    ("int4_numeric", |_, _, a| {
        Ok(Datum::numeric(Numeric::from(arg::int4(a, 0)?)))
    }),
    ("int8_numeric", |_, _, a| {
        Ok(Datum::numeric(Numeric::from(arg::int8(a, 0)?)))
    }),
    ("numeric", |_, _, a| {
        typmod::apply(
            a[0].clone(),
            Type::NUMERIC.with_modifier(arg::int4(a, 1)?),
            true,
        )
    }),
    ("width_bucket_numeric", |_, _, a| {
        width_bucket(
            arg::numeric(a, 0)?,
            arg::numeric(a, 1)?,
            arg::numeric(a, 2)?,
            arg::int4(a, 3)?,
        )
    }),
];
