//! `real` and `double precision`: arithmetic that reports overflow and underflow, and mathematics.

use super::arguments as arg;
use super::integer::division_by_zero;
use crate::error::{Error, Result, SqlState, state};
use crate::functions::ScalarFunction;
use crate::types::{Datum, Numeric};

#[cold]
fn overflow() -> Error {
    Error::new(
        state::NUMERIC_VALUE_OUT_OF_RANGE,
        "value out of range: overflow",
    )
}

#[cold]
fn underflow() -> Error {
    Error::new(
        state::NUMERIC_VALUE_OUT_OF_RANGE,
        "value out of range: underflow",
    )
}

#[cold]
fn input_out_of_range() -> Error {
    Error::new(state::NUMERIC_VALUE_OUT_OF_RANGE, "input is out of range")
}

/// A result: infinite only if an input was, zero only if that is right.
fn checked(value: f64, infinite_input: bool, zero_allowed: bool) -> Result<Datum> {
    if value.is_infinite() && !infinite_input {
        return Err(overflow());
    }
    if value == 0.0 && !zero_allowed {
        return Err(underflow());
    }
    Ok(Datum::Float8(value))
}

fn checked4(value: f32, infinite_input: bool, zero_allowed: bool) -> Result<Datum> {
    if value.is_infinite() && !infinite_input {
        return Err(overflow());
    }
    if value == 0.0 && !zero_allowed {
        return Err(underflow());
    }
    Ok(Datum::Float4(value))
}

fn add(a: f64, b: f64) -> Result<Datum> {
    checked(a + b, a.is_infinite() || b.is_infinite(), true)
}

fn sub(a: f64, b: f64) -> Result<Datum> {
    checked(a - b, a.is_infinite() || b.is_infinite(), true)
}

fn mul(a: f64, b: f64) -> Result<Datum> {
    checked(
        a * b,
        a.is_infinite() || b.is_infinite(),
        a == 0.0 || b == 0.0,
    )
}

fn div(a: f64, b: f64) -> Result<Datum> {
    if b == 0.0 && !a.is_nan() {
        return Err(division_by_zero());
    }
    checked(a / b, a.is_infinite(), a == 0.0 || b.is_infinite())
}

type Eight = [(&'static str, ScalarFunction); 4];

macro_rules! arithmetic {
    ($pl:literal, $mi:literal, $mul:literal, $div:literal, $a:ident, $b:ident) => {
        [
            ($pl, |_, _, a| {
                add(f64::from(arg::$a(a, 0)?), f64::from(arg::$b(a, 1)?))
            }),
            ($mi, |_, _, a| {
                sub(f64::from(arg::$a(a, 0)?), f64::from(arg::$b(a, 1)?))
            }),
            ($mul, |_, _, a| {
                mul(f64::from(arg::$a(a, 0)?), f64::from(arg::$b(a, 1)?))
            }),
            ($div, |_, _, a| {
                div(f64::from(arg::$a(a, 0)?), f64::from(arg::$b(a, 1)?))
            }),
        ]
    };
}

const FLOAT8: Eight = arithmetic!(
    "float8pl",
    "float8mi",
    "float8mul",
    "float8div",
    float8,
    float8
);
const FLOAT48: Eight = arithmetic!(
    "float48pl",
    "float48mi",
    "float48mul",
    "float48div",
    float4,
    float8
);
const FLOAT84: Eight = arithmetic!(
    "float84pl",
    "float84mi",
    "float84mul",
    "float84div",
    float8,
    float4
);

/// The arithmetic of pairs with a double.
pub(super) const ARITHMETIC: &[&[(&str, ScalarFunction)]] = &[&FLOAT8, &FLOAT48, &FLOAT84];

/// A function that keeps NaN, and infinities where the result may be one.
fn plain(value: f64, function: fn(f64) -> f64) -> Result<Datum> {
    checked(function(value), value.is_infinite(), true)
}

/// Trigonometry of infinite angles has no result.
fn circular(value: f64, function: fn(f64) -> f64) -> Result<Datum> {
    if value.is_nan() {
        return Ok(Datum::Float8(f64::NAN));
    }
    if value.is_infinite() {
        return Err(input_out_of_range());
    }
    Ok(Datum::Float8(function(value)))
}

/// Inverse functions defined on [-1, 1].
fn bounded(value: f64, function: fn(f64) -> f64) -> Result<Datum> {
    if value.is_nan() {
        return Ok(Datum::Float8(f64::NAN));
    }
    if !(-1.0..=1.0).contains(&value) {
        return Err(input_out_of_range());
    }
    Ok(Datum::Float8(function(value)))
}

fn logarithm(value: f64, function: fn(f64) -> f64) -> Result<Datum> {
    let failed = |message: &str| Err(Error::new(state::INVALID_ARGUMENT_FOR_LOGARITHM, message));
    if value == 0.0 {
        return failed("cannot take logarithm of zero");
    }
    if value < 0.0 {
        return failed("cannot take logarithm of a negative number");
    }
    checked(function(value), value.is_infinite(), value == 1.0)
}

/// `power(a, b)` with the exceptions of C99 and of SQL.
pub(super) fn power(a: f64, b: f64) -> Result<f64> {
    let invalid = |message: &str| {
        Err(Error::new(
            state::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
            message,
        ))
    };
    if a.is_nan() {
        return Ok(if b == 0.0 { 1.0 } else { a });
    }
    if b.is_nan() {
        return Ok(if a == 1.0 { 1.0 } else { b });
    }
    if a == 0.0 && b < 0.0 {
        return invalid("zero raised to a negative power is undefined");
    }
    if a < 0.0 && b.floor() != b {
        return invalid("a negative number raised to a non-integer power yields a complex result");
    }
    let result = a.powf(b);
    if a.is_infinite() || b.is_infinite() {
        return Ok(result);
    }
    if result.is_infinite() {
        return Err(overflow());
    }
    if result == 0.0 && a != 0.0 {
        return Err(underflow());
    }
    Ok(result)
}

fn cot(value: f64) -> f64 {
    1.0 / value.tan()
}

// Degrees: exact at the multiples of 30 and 45, as PostgreSQL promises.

fn sind_first_quadrant(x: f64) -> f64 {
    if x <= 30.0 {
        let one_half = (30.0f64.to_radians()).sin();
        (x.to_radians().sin() / one_half) / 2.0
    } else {
        cosd_first_quadrant_high(90.0 - x)
    }
}

/// cos of 0 to 60 degrees by 1 - cos, exact at 60.
fn cosd_first_quadrant_high(x: f64) -> f64 {
    let one_minus_cos_60 = 1.0 - 60.0f64.to_radians().cos();
    let one_minus = 1.0 - x.to_radians().cos();
    1.0 - (one_minus / one_minus_cos_60) / 2.0
}

fn cosd_first_quadrant(x: f64) -> f64 {
    if x <= 60.0 {
        cosd_first_quadrant_high(x)
    } else {
        sind_first_quadrant(90.0 - x)
    }
}

/// As the C library computes it: the plain formula loses the last digit of large values.
fn acosh(value: f64) -> f64 {
    if value > (1u64 << 28) as f64 {
        return value.ln() + std::f64::consts::LN_2;
    }
    if value > 2.0 {
        let square = value * value;
        return (2.0 * value - 1.0 / (value + (square - 1.0).sqrt())).ln();
    }
    let above = value - 1.0;
    (above + (2.0 * above + above * above).sqrt()).ln_1p()
}

fn sind(value: f64) -> f64 {
    let mut x = value % 360.0;
    let mut sign = 1.0;
    if x < 0.0 {
        x = -x;
        sign = -sign;
    }
    if x > 180.0 {
        x = 360.0 - x;
        sign = -sign;
    }
    if x > 90.0 {
        x = 180.0 - x;
    }
    sign * sind_first_quadrant(x)
}

fn cosd(value: f64) -> f64 {
    let mut x = (value % 360.0).abs();
    let mut sign = 1.0;
    if x > 180.0 {
        x = 360.0 - x;
    }
    if x > 90.0 {
        x = 180.0 - x;
        sign = -sign;
    }
    sign * cosd_first_quadrant(x)
}

fn tand(value: f64) -> f64 {
    let mut x = value % 360.0;
    let mut sign = 1.0;
    if x < 0.0 {
        x = -x;
        sign = -sign;
    }
    if x > 180.0 {
        x = 360.0 - x;
        sign = -sign;
    }
    if x > 90.0 {
        x = 180.0 - x;
        sign = -sign;
    }
    let tan_45 = sind_first_quadrant(45.0) / cosd_first_quadrant(45.0);
    let result = sign * ((sind_first_quadrant(x) / cosd_first_quadrant(x)) / tan_45);
    if result == 0.0 { 0.0 } else { result }
}

fn cotd(value: f64) -> f64 {
    let mut x = value % 360.0;
    let mut sign = 1.0;
    if x < 0.0 {
        x = -x;
        sign = -sign;
    }
    if x > 180.0 {
        x = 360.0 - x;
        sign = -sign;
    }
    if x > 90.0 {
        x = 180.0 - x;
        sign = -sign;
    }
    let cot_45 = cosd_first_quadrant(45.0) / sind_first_quadrant(45.0);
    let result = sign * ((cosd_first_quadrant(x) / sind_first_quadrant(x)) / cot_45);
    if result == 0.0 { 0.0 } else { result }
}

fn asind_first_quadrant(x: f64) -> f64 {
    if x <= 0.5 {
        (x.asin() / 0.5f64.asin()) * 30.0
    } else {
        90.0 - (x.acos() / 0.5f64.acos()) * 60.0
    }
}

fn acosd_first_quadrant(x: f64) -> f64 {
    if x <= 0.5 {
        90.0 - (x.asin() / 0.5f64.asin()) * 30.0
    } else {
        (x.acos() / 0.5f64.acos()) * 60.0
    }
}

fn asind(x: f64) -> f64 {
    if x >= 0.0 {
        asind_first_quadrant(x)
    } else {
        -asind_first_quadrant(-x)
    }
}

fn acosd(x: f64) -> f64 {
    if x >= 0.0 {
        acosd_first_quadrant(x)
    } else {
        90.0 + asind_first_quadrant(-x)
    }
}

fn atand(x: f64) -> f64 {
    (x.atan() / 1.0f64.atan()) * 45.0
}

/// The bucket of an equal-width histogram.
fn width_bucket(operand: f64, low: f64, high: f64, count: i32) -> Result<Datum> {
    let failed = |message: &str| Err(Error::new(SqlState(*b"2201G"), message));
    if count <= 0 {
        return failed("count must be greater than zero");
    }
    if operand.is_nan() || low.is_nan() || high.is_nan() {
        return failed("operand, lower bound, and upper bound cannot be NaN");
    }
    if low.is_infinite() || high.is_infinite() {
        return failed("lower and upper bounds must be finite");
    }
    let over = || {
        count
            .checked_add(1)
            .ok_or_else(|| super::integer::out_of_range("integer"))
    };
    let scaled = |part: f64, whole: f64| (f64::from(count) * (part / whole)) as i32;
    let bucket = if low < high {
        if operand < low {
            0
        } else if operand >= high {
            over()?
        } else {
            scaled(operand - low, high - low) + 1
        }
    } else if low > high {
        if operand > low {
            0
        } else if operand <= high {
            over()?
        } else {
            scaled(low - operand, low - high) + 1
        }
    } else {
        return failed("lower bound cannot equal upper bound");
    };
    Ok(Datum::Int4(bucket))
}

/// Everything but the four operations.
pub(super) const TABLE: &[(&str, ScalarFunction)] = &[
    ("float4pl", |_, _, a| {
        let (x, y) = (arg::float4(a, 0)?, arg::float4(a, 1)?);
        checked4(x + y, x.is_infinite() || y.is_infinite(), true)
    }),
    ("float4mi", |_, _, a| {
        let (x, y) = (arg::float4(a, 0)?, arg::float4(a, 1)?);
        checked4(x - y, x.is_infinite() || y.is_infinite(), true)
    }),
    ("float4mul", |_, _, a| {
        let (x, y) = (arg::float4(a, 0)?, arg::float4(a, 1)?);
        checked4(
            x * y,
            x.is_infinite() || y.is_infinite(),
            x == 0.0 || y == 0.0,
        )
    }),
    ("float4div", |_, _, a| {
        let (x, y) = (arg::float4(a, 0)?, arg::float4(a, 1)?);
        if y == 0.0 && !x.is_nan() {
            return Err(division_by_zero());
        }
        checked4(x / y, x.is_infinite(), x == 0.0 || y.is_infinite())
    }),
    ("float4abs", |_, _, a| {
        Ok(Datum::Float4(arg::float4(a, 0)?.abs()))
    }),
    ("float8abs", |_, _, a| {
        Ok(Datum::Float8(arg::float8(a, 0)?.abs()))
    }),
    ("float4um", |_, _, a| Ok(Datum::Float4(-arg::float4(a, 0)?))),
    ("float8um", |_, _, a| Ok(Datum::Float8(-arg::float8(a, 0)?))),
    ("float4up", |_, _, a| Ok(a[0].clone())),
    ("float8up", |_, _, a| Ok(a[0].clone())),
    ("ftod", |_, _, a| {
        Ok(Datum::Float8(f64::from(arg::float4(a, 0)?)))
    }),
    ("dtof", |_, _, a| {
        let value = arg::float8(a, 0)?;
        checked4(value as f32, value.is_infinite(), value == 0.0)
    }),
    ("i2tof", |_, _, a| {
        Ok(Datum::Float4(f32::from(arg::int2(a, 0)?)))
    }),
    ("i2tod", |_, _, a| {
        Ok(Datum::Float8(f64::from(arg::int2(a, 0)?)))
    }),
    ("i4tof", |_, _, a| {
        Ok(Datum::Float4(arg::int4(a, 0)? as f32))
    }),
    ("i4tod", |_, _, a| {
        Ok(Datum::Float8(f64::from(arg::int4(a, 0)?)))
    }),
    ("i8tof", |_, _, a| {
        Ok(Datum::Float4(arg::int8(a, 0)? as f32))
    }),
    ("i8tod", |_, _, a| {
        Ok(Datum::Float8(arg::int8(a, 0)? as f64))
    }),
    ("numeric_float4", |_, _, a| {
        let value = arg::numeric(a, 0)?;
        Datum::from_text(
            &value.to_string(),
            crate::types::Type::FLOAT4,
            &crate::types::FormatSettings::default(),
        )
    }),
    ("numeric_float8", |_, _, a| {
        let value = arg::numeric(a, 0)?;
        value.to_f64().map(Datum::Float8).ok_or_else(|| {
            Error::new(
                state::NUMERIC_VALUE_OUT_OF_RANGE,
                format!("\"{value}\" is out of range for type double precision"),
            )
        })
    }),
    ("float4_numeric", |_, _, a| {
        Ok(Datum::numeric(Numeric::from_f32(arg::float4(a, 0)?)))
    }),
    ("float8_numeric", |_, _, a| {
        Ok(Datum::numeric(Numeric::from_f64(arg::float8(a, 0)?)))
    }),
    ("dround", |_, _, a| {
        Ok(Datum::Float8(arg::float8(a, 0)?.round_ties_even()))
    }),
    ("dceil", |_, _, a| {
        Ok(Datum::Float8(arg::float8(a, 0)?.ceil()))
    }),
    ("dfloor", |_, _, a| {
        Ok(Datum::Float8(arg::float8(a, 0)?.floor()))
    }),
    ("dtrunc", |_, _, a| {
        Ok(Datum::Float8(arg::float8(a, 0)?.trunc()))
    }),
    ("dsign", |_, _, a| {
        let value = arg::float8(a, 0)?;
        let sign = if value > 0.0 {
            1.0
        } else if value < 0.0 {
            -1.0
        } else {
            0.0
        };
        Ok(Datum::Float8(sign))
    }),
    ("dsqrt", |_, _, a| {
        let value = arg::float8(a, 0)?;
        if value < 0.0 {
            return Err(Error::new(
                state::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
                "cannot take square root of a negative number",
            ));
        }
        plain(value, f64::sqrt)
    }),
    ("dcbrt", |_, _, a| plain(arg::float8(a, 0)?, f64::cbrt)),
    ("dpow", |_, _, a| {
        Ok(Datum::Float8(power(
            arg::float8(a, 0)?,
            arg::float8(a, 1)?,
        )?))
    }),
    ("dexp", |_, _, a| {
        let value = arg::float8(a, 0)?;
        checked(value.exp(), value.is_infinite(), value == f64::NEG_INFINITY)
    }),
    ("dlog1", |_, _, a| logarithm(arg::float8(a, 0)?, f64::ln)),
    ("dlog10", |_, _, a| {
        logarithm(arg::float8(a, 0)?, f64::log10)
    }),
    ("dsin", |_, _, a| circular(arg::float8(a, 0)?, f64::sin)),
    ("dcos", |_, _, a| circular(arg::float8(a, 0)?, f64::cos)),
    ("dtan", |_, _, a| circular(arg::float8(a, 0)?, f64::tan)),
    ("dcot", |_, _, a| circular(arg::float8(a, 0)?, cot)),
    ("dasin", |_, _, a| bounded(arg::float8(a, 0)?, f64::asin)),
    ("dacos", |_, _, a| bounded(arg::float8(a, 0)?, f64::acos)),
    ("datan", |_, _, a| {
        Ok(Datum::Float8(arg::float8(a, 0)?.atan()))
    }),
    ("datan2", |_, _, a| {
        Ok(Datum::Float8(arg::float8(a, 0)?.atan2(arg::float8(a, 1)?)))
    }),
    ("dsinh", |_, _, a| {
        let value = arg::float8(a, 0)?;
        checked(value.sinh(), true, true)
    }),
    ("dcosh", |_, _, a| {
        checked(arg::float8(a, 0)?.cosh(), true, false)
    }),
    ("dtanh", |_, _, a| {
        Ok(Datum::Float8(arg::float8(a, 0)?.tanh()))
    }),
    ("dasinh", |_, _, a| {
        Ok(Datum::Float8(arg::float8(a, 0)?.asinh()))
    }),
    ("dacosh", |_, _, a| {
        let value = arg::float8(a, 0)?;
        if value < 1.0 {
            return Err(input_out_of_range());
        }
        Ok(Datum::Float8(acosh(value)))
    }),
    ("datanh", |_, _, a| bounded(arg::float8(a, 0)?, f64::atanh)),
    ("dsind", |_, _, a| circular(arg::float8(a, 0)?, sind)),
    ("dcosd", |_, _, a| circular(arg::float8(a, 0)?, cosd)),
    ("dtand", |_, _, a| circular(arg::float8(a, 0)?, tand)),
    ("dcotd", |_, _, a| circular(arg::float8(a, 0)?, cotd)),
    ("dasind", |_, _, a| bounded(arg::float8(a, 0)?, asind)),
    ("dacosd", |_, _, a| bounded(arg::float8(a, 0)?, acosd)),
    ("datand", |_, _, a| {
        Ok(Datum::Float8(atand(arg::float8(a, 0)?)))
    }),
    ("datan2d", |_, _, a| {
        let angle = arg::float8(a, 0)?.atan2(arg::float8(a, 1)?);
        Ok(Datum::Float8((angle / 1.0f64.atan()) * 45.0))
    }),
    ("degrees", |_, _, a| {
        let value = arg::float8(a, 0)?;
        div(value, std::f64::consts::PI / 180.0)
    }),
    ("radians", |_, _, a| {
        mul(arg::float8(a, 0)?, std::f64::consts::PI / 180.0)
    }),
    ("dpi", |_, _, _| Ok(Datum::Float8(std::f64::consts::PI))),
    ("drandom", |e, _, _| {
        Ok(Datum::Float8(e.environment.random()))
    }),
    ("setseed", |e, _, a| {
        let seed = arg::float8(a, 0)?;
        if !(-1.0..=1.0).contains(&seed) {
            return Err(Error::new(
                state::INVALID_PARAMETER_VALUE,
                format!("setseed parameter {seed} is out of allowed range [-1,1]"),
            ));
        }
        e.environment.set_seed(seed);
        Ok(Datum::Void)
    }),
    ("width_bucket_float8", |_, _, a| {
        width_bucket(
            arg::float8(a, 0)?,
            arg::float8(a, 1)?,
            arg::float8(a, 2)?,
            arg::int4(a, 3)?,
        )
    }),
];
