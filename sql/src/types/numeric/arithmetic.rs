//! Arithmetic on `numeric` with PostgreSQL's result scales: exact sums and products, quotients of
//! at least 16 significant digits, rounding half away from zero.

use std::cmp::Ordering;

use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::{One, Signed, ToPrimitive};

use super::{Numeric, RESULT_SCALE_MAX, SCALE_MAX, SIGNIFICANT_DIGITS_MIN, overflow};
use crate::error::{Error, Result, state};

const POWERS: [i128; 39] = {
    let mut powers = [1i128; 39];
    let mut index = 1;
    while index < 39 {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};

/// `10^exponent`, where it fits.
pub(super) fn small_power(exponent: u16) -> Option<i128> {
    POWERS.get(usize::from(exponent)).copied()
}

/// `value * 10^exponent`, where it fits.
pub(super) fn shifted(value: i128, exponent: u16) -> Option<i128> {
    value.checked_mul(small_power(exponent)?)
}

/// `10^exponent`.
pub(crate) fn power_of_ten(exponent: u32) -> BigInt {
    match POWERS.get(exponent as usize) {
        Some(power) => BigInt::from(*power),
        None => num_traits::pow(BigInt::from(10), exponent as usize),
    }
}

/// 22012.
pub(crate) fn division_by_zero() -> Error {
    Error::new(state::DIVISION_BY_ZERO, "division by zero")
}

/// Finite values only.
pub(super) fn compare_finite(a: &Numeric, b: &Numeric) -> Ordering {
    let (x, y) = aligned(a, b);
    x.cmp(&y)
}

/// Both digits at the larger scale. Finite values only; others count as zero.
fn aligned(a: &Numeric, b: &Numeric) -> (BigInt, BigInt) {
    let scale = a.scale().max(b.scale());
    (at_scale(a, scale), at_scale(b, scale))
}

/// The digits at a scale not below the value's own.
fn at_scale(value: &Numeric, scale: i32) -> BigInt {
    let digits = value.unscaled().unwrap_or_default();
    let shift = scale - value.scale();
    if shift > 0 {
        digits * power_of_ten(shift as u32)
    } else {
        digits
    }
}

/// `numerator / denominator` rounded half away from zero.
pub(super) fn divide_rounded(numerator: &BigInt, denominator: &BigInt) -> BigInt {
    let (quotient, remainder) = numerator.div_rem(denominator);
    if remainder.abs() * 2u8 >= denominator.abs() {
        let negative = numerator.is_negative() != denominator.is_negative();
        if negative { quotient - 1 } else { quotient + 1 }
    } else {
        quotient
    }
}

/// The first base-10000 digit of a finite value, as PostgreSQL stores it; 0 for zero.
fn first_digit(value: &Numeric) -> i64 {
    if value.is_zero() {
        return 0;
    }
    let kept = value.exponent().rem_euclid(4) + 1;
    let drop = value.digit_count() - kept;
    let digits = value.unscaled().unwrap_or_default().abs();
    let first = if drop >= 0 {
        digits / power_of_ten(drop as u32)
    } else {
        digits * power_of_ten(-drop as u32)
    };
    first.to_i64().unwrap_or(0)
}

/// The scale of a quotient: at least 16 significant digits and both inputs' scales
/// (`select_div_scale` of numeric.c).
pub fn select_division_scale(a: &Numeric, b: &Numeric) -> i32 {
    let mut weight = a.weight() - b.weight();
    if first_digit(a) <= first_digit(b) {
        weight -= 1;
    }
    let scale = i64::from(SIGNIFICANT_DIGITS_MIN) - weight * 4;
    let scale = scale.clamp(0, i64::from(RESULT_SCALE_MAX)) as i32;
    scale.max(a.scale()).max(b.scale()).min(RESULT_SCALE_MAX)
}

impl Numeric {
    /// Sum.
    ///
    /// # Errors
    /// 22003 when the result has too many digits.
    pub fn add(&self, other: &Numeric) -> Result<Numeric> {
        use Numeric::{Infinity, NaN, NegativeInfinity, Small};
        match (self, other) {
            (
                Small {
                    unscaled: a,
                    scale: s,
                },
                Small {
                    unscaled: b,
                    scale: t,
                },
            ) => {
                let (x, y) = if s >= t {
                    (Some(*a), shifted(*b, s - t))
                } else {
                    (shifted(*a, t - s), Some(*b))
                };
                if let (Some(x), Some(y)) = (x, y)
                    && let Some(unscaled) = x.checked_add(y)
                {
                    return Ok(Small {
                        unscaled,
                        scale: *s.max(t),
                    });
                }
            }
            (NaN, _) | (_, NaN) => return Ok(NaN),
            (Infinity, NegativeInfinity) | (NegativeInfinity, Infinity) => return Ok(NaN),
            (Infinity, _) | (_, Infinity) => return Ok(Infinity),
            (NegativeInfinity, _) | (_, NegativeInfinity) => return Ok(NegativeInfinity),
            _ => {}
        }
        let (x, y) = aligned(self, other);
        Numeric::from_big(x + y, self.scale().max(other.scale()))
    }

    /// Difference.
    ///
    /// # Errors
    /// 22003 when the result has too many digits.
    pub fn sub(&self, other: &Numeric) -> Result<Numeric> {
        self.add(&other.neg())
    }

    /// The opposite.
    pub fn neg(&self) -> Numeric {
        match self {
            Numeric::Small { unscaled, scale } => match unscaled.checked_neg() {
                Some(unscaled) => Numeric::Small {
                    unscaled,
                    scale: *scale,
                },
                None => Numeric::Big {
                    unscaled: -BigInt::from(*unscaled),
                    scale: *scale,
                },
            },
            Numeric::Big { unscaled, scale } => {
                let unscaled = -unscaled;
                match unscaled.to_i128() {
                    Some(unscaled) => Numeric::Small {
                        unscaled,
                        scale: *scale,
                    },
                    None => Numeric::Big {
                        unscaled,
                        scale: *scale,
                    },
                }
            }
            Numeric::NaN => Numeric::NaN,
            Numeric::Infinity => Numeric::NegativeInfinity,
            Numeric::NegativeInfinity => Numeric::Infinity,
        }
    }

    /// The absolute value.
    pub fn abs(&self) -> Numeric {
        if self.is_negative() {
            self.neg()
        } else {
            self.clone()
        }
    }

    /// -1, 0, 1 or NaN.
    pub fn signum(&self) -> Numeric {
        match self {
            Numeric::NaN => Numeric::NaN,
            value if value.is_zero() => Numeric::ZERO,
            value if value.is_negative() => Numeric::from_i64(-1),
            _ => Numeric::ONE,
        }
    }

    /// Product, exact up to 16383 decimals.
    ///
    /// # Errors
    /// 22003 when the result has too many digits.
    pub fn mul(&self, other: &Numeric) -> Result<Numeric> {
        if let (
            Numeric::Small {
                unscaled: a,
                scale: s,
            },
            Numeric::Small {
                unscaled: b,
                scale: t,
            },
        ) = (self, other)
            && i32::from(*s) + i32::from(*t) <= SCALE_MAX
            && let Some(unscaled) = a.checked_mul(*b)
        {
            return Ok(Numeric::Small {
                unscaled,
                scale: s + t,
            });
        }
        if self.is_nan() || other.is_nan() {
            return Ok(Numeric::NaN);
        }
        if !self.is_finite() || !other.is_finite() {
            if self.is_zero() || other.is_zero() {
                return Ok(Numeric::NaN);
            }
            let negative = self.is_negative() != other.is_negative();
            return Ok(if negative {
                Numeric::NegativeInfinity
            } else {
                Numeric::Infinity
            });
        }
        let product = self.unscaled().unwrap_or_default() * other.unscaled().unwrap_or_default();
        let scale = self.scale() + other.scale();
        if scale <= SCALE_MAX {
            return Numeric::from_big(product, scale);
        }
        let dropped = power_of_ten((scale - SCALE_MAX) as u32);
        Numeric::from_big(divide_rounded(&product, &dropped), SCALE_MAX)
    }

    /// Handles NaN, infinities and zero divisors; `None` = both finite and the divisor not zero.
    fn divide_special(&self, other: &Numeric) -> Result<Option<Numeric>> {
        if self.is_nan() || other.is_nan() {
            return Ok(Some(Numeric::NaN));
        }
        if !self.is_finite() {
            if !other.is_finite() {
                return Ok(Some(Numeric::NaN));
            }
            if other.is_zero() {
                return Err(division_by_zero());
            }
            let same = self.is_negative() == other.is_negative();
            return Ok(Some(if same {
                Numeric::Infinity
            } else {
                Numeric::NegativeInfinity
            }));
        }
        if !other.is_finite() {
            return Ok(Some(Numeric::ZERO));
        }
        if other.is_zero() {
            return Err(division_by_zero());
        }
        Ok(None)
    }

    /// Quotient with PostgreSQL's scale.
    ///
    /// # Errors
    /// 22012 by zero; 22003 when the result has too many digits.
    pub fn div(&self, other: &Numeric) -> Result<Numeric> {
        if let Some(special) = self.divide_special(other)? {
            return Ok(special);
        }
        self.div_at_scale(other, select_division_scale(self, other))
    }

    /// Quotient of finite values, rounded to `scale` decimals.
    ///
    /// # Errors
    /// 22012 by zero; 22003 when the result has too many digits.
    pub fn div_at_scale(&self, other: &Numeric, scale: i32) -> Result<Numeric> {
        if other.is_zero() {
            return Err(division_by_zero());
        }
        // a/10^s / (b/10^t) at scale r = a * 10^(r - s + t) / b
        let shift = scale - self.scale() + other.scale();
        if let (Numeric::Small { unscaled: a, .. }, Numeric::Small { unscaled: b, .. }) =
            (self, other)
            && shift >= 0
            && let Some(numerator) = shifted(*a, shift.min(99) as u16)
            && let Ok(scale) = u16::try_from(scale)
            && b.unsigned_abs() < i128::MAX as u128 / 2
        {
            let (quotient, remainder) = (numerator / b, numerator % b);
            let round = remainder.unsigned_abs() * 2 >= b.unsigned_abs();
            let step = if (numerator < 0) == (*b < 0) { 1 } else { -1 };
            let unscaled = if round { quotient + step } else { quotient };
            return Ok(Numeric::Small { unscaled, scale });
        }
        let mut numerator = self.unscaled().unwrap_or_default();
        let mut denominator = other.unscaled().unwrap_or_default();
        if shift >= 0 {
            numerator *= power_of_ten(shift as u32);
        } else {
            denominator *= power_of_ten(-shift as u32);
        }
        Numeric::from_big(divide_rounded(&numerator, &denominator), scale)
    }

    /// Quotient truncated to an integer (`div(a, b)`).
    ///
    /// # Errors
    /// 22012 by zero; 22003 when the result has too many digits.
    pub fn div_trunc(&self, other: &Numeric) -> Result<Numeric> {
        if let Some(special) = self.divide_special(other)? {
            return Ok(special);
        }
        let (x, y) = aligned(self, other);
        Numeric::from_big(x / y, 0)
    }

    /// Remainder with the sign of the dividend.
    ///
    /// # Errors
    /// 22012 by zero.
    pub fn rem(&self, other: &Numeric) -> Result<Numeric> {
        if self.is_nan() || other.is_nan() {
            return Ok(Numeric::NaN);
        }
        if !self.is_finite() {
            return if other.is_zero() {
                Err(division_by_zero())
            } else {
                Ok(Numeric::NaN)
            };
        }
        if !other.is_finite() {
            return Ok(self.clone());
        }
        if other.is_zero() {
            return Err(division_by_zero());
        }
        let (x, y) = aligned(self, other);
        Numeric::from_big(x % y, self.scale().max(other.scale()))
    }

    /// Rounded half away from zero to `scale` decimals; a negative scale rounds before the point.
    ///
    /// # Errors
    /// 22003 when the result has too many digits.
    pub fn round(&self, scale: i32) -> Result<Numeric> {
        self.rescale(scale, divide_rounded)
    }

    /// Truncated to `scale` decimals.
    ///
    /// # Errors
    /// 22003 when the result has too many digits.
    pub fn trunc(&self, scale: i32) -> Result<Numeric> {
        self.rescale(scale, |digits, unit| digits / unit)
    }

    fn rescale(&self, scale: i32, cut: fn(&BigInt, &BigInt) -> BigInt) -> Result<Numeric> {
        if !self.is_finite() {
            return Ok(self.clone());
        }
        let scale = scale.clamp(-(super::INTEGER_DIGITS_MAX as i32), SCALE_MAX);
        let own = self.scale();
        if scale == own {
            return Ok(self.clone());
        }
        if scale > own {
            if let Numeric::Small { unscaled, .. } = self
                && let Some(unscaled) = shifted(*unscaled, (scale - own) as u16)
            {
                return Ok(Numeric::Small {
                    unscaled,
                    scale: scale as u16,
                });
            }
            return Numeric::from_big(at_scale(self, scale), scale);
        }
        let drop = (own - scale) as u32;
        if i64::from(drop) > self.digit_count() {
            return Ok(Numeric::Small {
                unscaled: 0,
                scale: scale.max(0) as u16,
            });
        }
        let kept = cut(&self.unscaled().unwrap_or_default(), &power_of_ten(drop));
        if scale >= 0 {
            Numeric::from_big(kept, scale)
        } else {
            Numeric::from_big(kept * power_of_ten(-scale as u32), 0)
        }
    }

    /// The smallest integer not below.
    ///
    /// # Errors
    /// 22003 when the result has too many digits.
    pub fn ceil(&self) -> Result<Numeric> {
        self.integer_toward(|digits, unit| digits.div_ceil(unit))
    }

    /// The largest integer not above.
    ///
    /// # Errors
    /// 22003 when the result has too many digits.
    pub fn floor(&self) -> Result<Numeric> {
        self.integer_toward(|digits, unit| digits.div_floor(unit))
    }

    fn integer_toward(&self, divide: fn(&BigInt, &BigInt) -> BigInt) -> Result<Numeric> {
        if !self.is_finite() {
            return Ok(self.clone());
        }
        let unit = power_of_ten(self.scale() as u32);
        Numeric::from_big(divide(&self.unscaled().unwrap_or_default(), &unit), 0)
    }

    /// The value with the fewest decimals that lose nothing (`trim_scale`).
    pub fn trim_scale(&self) -> Numeric {
        let minimum = self.min_scale().unwrap_or(0);
        self.trunc(minimum).unwrap_or_else(|_| self.clone())
    }

    /// The fewest decimals that lose nothing; `None` for NaN and the infinities.
    pub fn min_scale(&self) -> Option<i32> {
        let (_, exponent) = self.normalized()?;
        Some((-exponent).max(0) as i32)
    }

    /// Greatest common divisor.
    ///
    /// # Errors
    /// 22003 when the result has too many digits.
    pub fn gcd(&self, other: &Numeric) -> Result<Numeric> {
        if !self.is_finite() || !other.is_finite() {
            return Ok(Numeric::NaN);
        }
        let (x, y) = aligned(self, other);
        Numeric::from_big(x.gcd(&y), self.scale().max(other.scale()))
    }

    /// Least common multiple.
    ///
    /// # Errors
    /// 22003 when the result has too many digits.
    pub fn lcm(&self, other: &Numeric) -> Result<Numeric> {
        if !self.is_finite() || !other.is_finite() {
            return Ok(Numeric::NaN);
        }
        let (x, y) = aligned(self, other);
        Numeric::from_big(x.lcm(&y).abs(), self.scale().max(other.scale()))
    }

    /// `n!`.
    ///
    /// # Errors
    /// 22003 below zero or beyond the format.
    pub fn factorial(n: i64) -> Result<Numeric> {
        if n < 0 {
            return Err(Error::new(
                state::NUMERIC_VALUE_OUT_OF_RANGE,
                "factorial of a negative number is undefined",
            ));
        }
        if n > 32_177 {
            return Err(overflow());
        }
        let mut product = BigInt::one();
        for factor in 2..=n {
            product *= factor;
        }
        Numeric::from_big(product, 0)
    }

    /// The value rounded to an integer, when it is finite and fits.
    pub fn to_i64(&self) -> Option<i64> {
        if let Numeric::Small { unscaled, scale: 0 } = self {
            return i64::try_from(*unscaled).ok();
        }
        if !self.is_finite() || self.exponent() > 19 {
            return None;
        }
        match self.round(0).ok()? {
            Numeric::Small { unscaled, .. } => i64::try_from(unscaled).ok(),
            _ => None,
        }
    }

    /// True when the value is a whole number.
    pub fn is_integral(&self) -> bool {
        self.is_finite() && self.min_scale() == Some(0)
    }

    /// Zero at a scale.
    pub fn zero_at(scale: i32) -> Numeric {
        Numeric::Small {
            unscaled: 0,
            scale: scale.clamp(0, SCALE_MAX) as u16,
        }
    }
}
