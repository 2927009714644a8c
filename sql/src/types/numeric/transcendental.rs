//! Square roots, exponentials, logarithms and powers of `numeric`: computed on fixed-point
//! integers with guard digits, and rounded to the scale that PostgreSQL chooses.

use num_bigint::BigInt;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::arithmetic::divide_rounded;
use super::{Numeric, RESULT_SCALE_MAX, SIGNIFICANT_DIGITS_MIN, overflow, power_of_ten};
use crate::error::{Error, Result, state};

/// `NUMERIC_MAX_RESULT_SCALE`.
const MAX_RESULT_SCALE: f64 = 2_000.0;

/// Digits computed beyond those wanted.
const GUARD: i64 = 12;

fn scale_for(weight: i64, inputs: &[&Numeric]) -> i32 {
    let wanted = i64::from(SIGNIFICANT_DIGITS_MIN) - weight;
    let floor = inputs
        .iter()
        .map(|value| i64::from(value.scale()))
        .max()
        .unwrap_or(0);
    wanted.max(floor).clamp(0, i64::from(RESULT_SCALE_MAX)) as i32
}

/// The value as an integer times `10^-digits`.
fn to_fixed(value: &Numeric, digits: i64) -> BigInt {
    let unscaled = value.unscaled().unwrap_or_default();
    let shift = digits - i64::from(value.scale());
    if shift >= 0 {
        unscaled * power_of_ten(shift as u32)
    } else {
        divide_rounded(&unscaled, &power_of_ten(-shift as u32))
    }
}

/// A fixed-point integer rounded to `scale` decimals.
fn from_fixed(value: &BigInt, digits: i64, scale: i32) -> Result<Numeric> {
    let drop = digits - i64::from(scale);
    if drop >= 0 {
        Numeric::from_big(divide_rounded(value, &power_of_ten(drop as u32)), scale)
    } else {
        Numeric::from_big(value * power_of_ten(-drop as u32), scale)
    }
}

/// The leading digits as a double and a power of ten: `value ~ mantissa * 10^exponent`.
fn leading(value: &Numeric) -> (f64, i64) {
    let count = value.digit_count();
    let drop = (count - 17).max(0);
    let digits = value.unscaled().unwrap_or_default() / power_of_ten(drop as u32);
    (
        digits.to_f64().unwrap_or(0.0),
        drop - i64::from(value.scale()),
    )
}

/// The power of ten of the first digit of `ln(value)`, roughly (`estimate_ln_dweight`).
fn ln_weight(value: &Numeric) -> i64 {
    if value.is_zero() || value.is_negative() {
        return 0;
    }
    let near = |tenths: i128| Numeric::from_parts(tenths, 1);
    if *value >= near(9) && *value <= near(11) {
        return value.sub(&Numeric::ONE).map_or(0, |rest| rest.exponent());
    }
    let (mantissa, exponent) = leading(value);
    let ln = mantissa.ln() + exponent as f64 * std::f64::consts::LN_10;
    ln.abs().log10() as i64
}

/// `atanh(1/n)` in fixed point.
fn atanh_inverse(n: u32, one: &BigInt) -> BigInt {
    let square = n * n;
    let mut term = one / n;
    let mut sum = term.clone();
    let mut divisor = 3u32;
    while !term.is_zero() {
        term /= square;
        sum += &term / divisor;
        divisor += 2;
    }
    sum
}

fn ln_10(one: &BigInt) -> BigInt {
    atanh_inverse(31, one) * 46 + atanh_inverse(49, one) * 34 + atanh_inverse(161, one) * 20
}

/// `ln(value)` in fixed point with so many digits; the value must be above zero.
fn ln_fixed(value: &Numeric, digits: i64) -> BigInt {
    let work = digits + GUARD + 4;
    let one = power_of_ten(work as u32);
    // value = m * 10^e with m in [0.316, 3.16).
    let mut exponent = value.exponent();
    let mut m = {
        let shift = work - i64::from(value.scale()) - exponent;
        let unscaled = value.unscaled().unwrap_or_default();
        if shift >= 0 {
            unscaled * power_of_ten(shift as u32)
        } else {
            unscaled / power_of_ten(-shift as u32)
        }
    };
    if m > &one * 3 {
        m /= 10;
        exponent += 1;
    }
    // Four square roots bring it near 1.
    for _ in 0..4 {
        m = (m * &one).sqrt();
    }
    let y = (&m - &one) * &one / (&m + &one);
    let square = &y * &y / &one;
    let mut power = y.clone();
    let mut sum = y;
    let mut divisor = 3u32;
    loop {
        power = &power * &square / &one;
        if power.is_zero() {
            break;
        }
        sum += &power / divisor;
        divisor += 2;
    }
    let ln = sum * 32 + ln_10(&one) * exponent;
    divide_rounded(&ln, &power_of_ten((work - digits) as u32))
}

/// `e^x` for a fixed-point `x` of `digits` digits, with as many digits.
fn exp_fixed(x: &BigInt, digits: i64, extra: i64) -> (BigInt, i64) {
    // Squaring 12 times and the size of the result cost digits.
    let work = digits + extra.max(0) + GUARD + 8;
    let one = power_of_ten(work as u32);
    let scaled = x * power_of_ten((work - digits) as u32);
    // Halved until it is below 1/256.
    let bits = x.bits() as f64 - digits as f64 * std::f64::consts::LOG2_10;
    let halvings = (bits.ceil() as i64 + 8).max(8) as usize;
    let reduced: BigInt = scaled >> halvings;
    let mut term = one.clone();
    let mut sum = one.clone();
    let mut n = 1u32;
    loop {
        term = &term * &reduced / &one / n;
        if term.is_zero() || (term.is_negative() && -&term <= BigInt::one()) {
            break;
        }
        sum += &term;
        n += 1;
    }
    for _ in 0..halvings {
        sum = &sum * &sum / &one;
    }
    (sum, work)
}

impl Numeric {
    /// Square root.
    ///
    /// # Errors
    /// 2201F below zero.
    pub fn sqrt(&self) -> Result<Numeric> {
        if self.is_negative() {
            return Err(Error::new(
                state::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
                "cannot take square root of a negative number",
            ));
        }
        if !self.is_finite() {
            return Ok(self.clone());
        }
        let weight = (self.weight() + 1) * 2 - 1;
        self.sqrt_at_scale(scale_for(weight, &[self]))
    }

    /// Square root of a finite value not below zero, rounded to so many decimals.
    ///
    /// # Errors
    /// 22003 when the result has too many digits.
    pub fn sqrt_at_scale(&self, scale: i32) -> Result<Numeric> {
        // One digit more decides the rounding; the rest cannot make it exactly a half.
        let digits = i64::from(scale) + 1;
        let shift = 2 * digits - i64::from(self.scale());
        let unscaled = self.unscaled().unwrap_or_default();
        let radicand = if shift >= 0 {
            unscaled * power_of_ten(shift as u32)
        } else {
            unscaled / power_of_ten(-shift as u32)
        };
        from_fixed(&radicand.sqrt(), digits, scale)
    }

    /// `e` to this power.
    ///
    /// # Errors
    /// 22003 when the result is too large.
    pub fn exp(&self) -> Result<Numeric> {
        match self {
            Numeric::NegativeInfinity => return Ok(Numeric::ZERO),
            Numeric::NaN | Numeric::Infinity => return Ok(self.clone()),
            Numeric::Small { .. } | Numeric::Big { .. } => {}
        }
        let value = self
            .to_f64()
            .unwrap_or(if self.is_negative() { -1e9 } else { 1e9 });
        let weight = (value * std::f64::consts::LOG10_E).clamp(-MAX_RESULT_SCALE, MAX_RESULT_SCALE);
        let scale = scale_for(weight as i64, &[self]);
        exp_at_scale(self, scale)
    }

    /// Natural logarithm.
    ///
    /// # Errors
    /// 2201E for zero and below.
    pub fn ln(&self) -> Result<Numeric> {
        check_logarithm(self)?;
        if !self.is_finite() {
            return Ok(self.clone());
        }
        let scale = scale_for(ln_weight(self), &[self]);
        let digits = i64::from(scale) + GUARD;
        from_fixed(&ln_fixed(self, digits), digits, scale)
    }

    /// Logarithm of `self` to a base.
    ///
    /// # Errors
    /// 2201E for zero and below, 22012 for base 1.
    pub fn log(&self, base: &Numeric) -> Result<Numeric> {
        if self.is_nan() || base.is_nan() {
            return Ok(Numeric::NaN);
        }
        check_logarithm(base)?;
        check_logarithm(self)?;
        match (base.is_finite(), self.is_finite()) {
            (false, false) => return Ok(Numeric::NaN),
            (false, true) => return Ok(Numeric::ZERO),
            (true, false) => return Ok(Numeric::Infinity),
            (true, true) => {}
        }
        if *base == Numeric::ONE {
            return Err(super::arithmetic::division_by_zero());
        }
        let (own, other) = (ln_weight(self), ln_weight(base));
        let scale = scale_for(own - other, &[base, self]);
        let digits = i64::from(scale) + own.abs() + other.abs() + GUARD * 2;
        let numerator = ln_fixed(self, digits) * power_of_ten(digits as u32);
        let quotient = divide_rounded(&numerator, &ln_fixed(base, digits));
        from_fixed(&quotient, digits, scale)
    }

    /// `self` to the power of `exponent`.
    ///
    /// # Errors
    /// 2201F for zero to a negative power and roots of negative numbers; 22003 when the result is
    /// too large.
    pub fn power(&self, exponent: &Numeric) -> Result<Numeric> {
        let invalid = |message: &str| {
            Err(Error::new(
                state::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
                message,
            ))
        };
        if let Some(special) = self.power_special(exponent) {
            return special;
        }
        if self.is_zero() && exponent.is_negative() {
            return invalid("zero raised to a negative power is undefined");
        }
        if self.is_negative() && !exponent.is_integral() {
            return invalid(
                "a negative number raised to a non-integer power yields a complex result",
            );
        }
        if exponent.is_integral()
            && let Some(n) = exponent.to_i64().and_then(|n| i32::try_from(n).ok())
        {
            return self.power_integer(n);
        }
        if self.is_zero() {
            return Ok(Numeric::zero_at(SIGNIFICANT_DIGITS_MIN));
        }
        self.power_by_logarithm(exponent)
    }

    /// Results where NaN or an infinity takes part; `None` = both finite.
    fn power_special(&self, exponent: &Numeric) -> Option<Result<Numeric>> {
        if self.is_finite() && exponent.is_finite() {
            return None;
        }
        if self.is_nan() {
            let one = exponent.is_zero();
            return Some(Ok(if one { Numeric::ONE } else { Numeric::NaN }));
        }
        if exponent.is_nan() {
            let one = *self == Numeric::ONE;
            return Some(Ok(if one { Numeric::ONE } else { Numeric::NaN }));
        }
        if self.is_zero() && exponent.is_negative() {
            return Some(Err(Error::new(
                state::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
                "zero raised to a negative power is undefined",
            )));
        }
        if self.is_negative() && exponent.is_finite() && !exponent.is_integral() {
            return Some(Err(Error::new(
                state::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
                "a negative number raised to a non-integer power yields a complex result",
            )));
        }
        if *self == Numeric::ONE || exponent.is_zero() {
            return Some(Ok(Numeric::ONE));
        }
        if self.is_zero() {
            return Some(Ok(Numeric::ZERO));
        }
        let large = self.abs();
        if !exponent.is_finite() {
            let shrinks = (large > Numeric::ONE) == exponent.is_negative();
            return Some(Ok(if large == Numeric::ONE {
                Numeric::ONE
            } else if shrinks {
                Numeric::ZERO
            } else {
                Numeric::Infinity
            }));
        }
        if exponent.is_negative() {
            return Some(Ok(Numeric::ZERO));
        }
        let odd = exponent
            .rem(&Numeric::from_i64(2))
            .is_ok_and(|rest| !rest.is_zero());
        Some(Ok(if self.is_negative() && odd {
            Numeric::NegativeInfinity
        } else {
            Numeric::Infinity
        }))
    }

    fn power_integer(&self, n: i32) -> Result<Numeric> {
        let (mantissa, shift) = leading(self);
        let weight = if self.is_zero() {
            0.0
        } else {
            f64::from(n) * (mantissa.abs().log10() + shift as f64)
        };
        // PostgreSQL 15 gives powers by integers at least 16 decimals.
        let scale = SIGNIFICANT_DIGITS_MIN
            .max(self.scale())
            .min(RESULT_SCALE_MAX);
        match n {
            0 => return Numeric::ONE.round(scale),
            1 => return self.round(scale),
            -1 => return Numeric::ONE.div_at_scale(self, scale),
            2 => return self.mul(self)?.round(scale),
            _ => {}
        }
        if self.is_zero() {
            return Ok(Numeric::zero_at(scale));
        }
        if weight > 3.0 * 32_767.0 * 4.0 {
            return Err(overflow());
        }
        if weight + 1.0 < -f64::from(scale) {
            return Ok(Numeric::zero_at(scale));
        }
        let digits = weight.max(0.0) as i64 + i64::from(scale) + GUARD * 2;
        let (mantissa, exponent) = raise(self, n.unsigned_abs(), digits.max(40));
        if n > 0 {
            return from_fixed_exponent(&mantissa, exponent, scale);
        }
        // 1 / (m * 10^e) at the scale: 10^(scale + guard - e) / m.
        let places = i64::from(scale) + GUARD - exponent;
        let one = power_of_ten(places.max(0) as u32);
        from_fixed(&(one / mantissa), i64::from(scale) + GUARD, scale)
    }

    fn power_by_logarithm(&self, exponent: &Numeric) -> Result<Numeric> {
        let weight = ln_weight(&self.abs());
        let rough_digits = (8 - weight).max(8);
        let ln = ln_fixed(&self.abs(), rough_digits);
        let rough = Numeric::from_big(ln, rough_digits as i32)?.mul(exponent)?;
        let value = rough
            .to_f64()
            .unwrap_or(if rough.is_negative() { -1e9 } else { 1e9 });
        if value.abs() > MAX_RESULT_SCALE * 3.01 {
            if value > 0.0 {
                return Err(overflow());
            }
            return Ok(Numeric::zero_at(RESULT_SCALE_MAX));
        }
        let result_weight = value * std::f64::consts::LOG10_E;
        let scale = scale_for(result_weight as i64, &[self, exponent]);
        let digits = i64::from(scale)
            + result_weight.max(0.0) as i64
            + exponent.exponent().max(0)
            + i64::from(exponent.scale())
            + GUARD * 2;
        let product = ln_fixed(&self.abs(), digits) * exponent.unscaled().unwrap_or_default();
        let x = divide_rounded(&product, &power_of_ten(exponent.scale() as u32));
        let (result, places) = exp_fixed(&x, digits, result_weight as i64);
        let result = from_fixed(&result, places, scale)?;
        let odd = exponent
            .rem(&Numeric::from_i64(2))
            .is_ok_and(|rest| !rest.is_zero());
        Ok(if self.is_negative() && odd {
            result.neg()
        } else {
            result
        })
    }
}

fn check_logarithm(value: &Numeric) -> Result<()> {
    let failed = |message: &str| Err(Error::new(state::INVALID_ARGUMENT_FOR_LOGARITHM, message));
    if value.is_negative() {
        return failed("cannot take logarithm of a negative number");
    }
    if value.is_zero() {
        return failed("cannot take logarithm of zero");
    }
    Ok(())
}

fn exp_at_scale(value: &Numeric, scale: i32) -> Result<Numeric> {
    let rough = value
        .to_f64()
        .unwrap_or(if value.is_negative() { -1e9 } else { 1e9 });
    if rough.abs() >= MAX_RESULT_SCALE * 3.0 {
        if rough > 0.0 {
            return Err(overflow());
        }
        return Ok(Numeric::zero_at(scale));
    }
    let weight = (rough * std::f64::consts::LOG10_E) as i64;
    let digits = i64::from(scale.max(value.scale())) + weight.max(0) + GUARD;
    let (result, places) = exp_fixed(&to_fixed(value, digits), digits, weight);
    from_fixed(&result, places, scale)
}

/// `value^n` as mantissa and power of ten, the mantissa cut to so many digits.
fn raise(value: &Numeric, n: u32, digits: i64) -> (BigInt, i64) {
    let cut = |mantissa: BigInt, exponent: i64| {
        // Bits tell the number of digits closely enough.
        let count = (mantissa.bits() as f64 * std::f64::consts::LOG10_2) as i64 + 1;
        let drop = count - digits - 10;
        if drop > 0 {
            (mantissa / power_of_ten(drop as u32), exponent + drop)
        } else {
            (mantissa, exponent)
        }
    };
    let mut base = (
        value.unscaled().unwrap_or_default(),
        -i64::from(value.scale()),
    );
    let mut result = (BigInt::one(), 0i64);
    let mut left = n;
    while left > 0 {
        if left & 1 == 1 {
            result = cut(&result.0 * &base.0, result.1 + base.1);
        }
        left >>= 1;
        if left > 0 {
            base = cut(&base.0 * &base.0, base.1 * 2);
        }
    }
    result
}

fn from_fixed_exponent(mantissa: &BigInt, exponent: i64, scale: i32) -> Result<Numeric> {
    if exponent >= 0 {
        if exponent > super::INTEGER_DIGITS_MAX {
            return Err(overflow());
        }
        return from_fixed(&(mantissa * power_of_ten(exponent as u32)), 0, scale);
    }
    from_fixed(mantissa, -exponent, scale)
}
