//! `numeric`: an integer of any size and a display scale, with NaN and the infinities. Results
//! carry the display scale that PostgreSQL's would carry.

mod arithmetic;
mod conversion;
mod transcendental;

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use num_bigint::{BigInt, Sign};
use num_traits::{Signed, ToPrimitive, Zero};

use crate::error::{Error, Result, state};

pub use arithmetic::select_division_scale;

/// The largest display scale of a stored value (`NUMERIC_DSCALE_MAX`).
pub const SCALE_MAX: i32 = 16_383;

/// The largest scale that division and transcendental functions choose.
pub const RESULT_SCALE_MAX: i32 = 1_000;

/// Significant digits that division and transcendental functions give at least.
pub const SIGNIFICANT_DIGITS_MIN: i32 = 16;

/// Decimal digits before the point that a value may have.
pub const INTEGER_DIGITS_MAX: i64 = 131_072;

/// A decimal number: `unscaled * 10^-scale`, where `scale` is the number of printed decimals.
#[derive(Clone, Debug)]
pub enum Numeric {
    /// A value whose digits fit into 128 bits: no allocation of its own.
    Small {
        /// The digits as an integer.
        unscaled: i128,
        /// Printed decimals.
        scale: u16,
    },
    /// Any other finite value. Constructors never make one that would fit `Small`.
    Big {
        /// The digits as an integer.
        unscaled: BigInt,
        /// Printed decimals.
        scale: u16,
    },
    /// Not a number: equal to itself and above everything.
    NaN,
    /// Above all finite values.
    Infinity,
    /// Below all finite values.
    NegativeInfinity,
}

pub(crate) use arithmetic::power_of_ten;

/// 22003, "value overflows numeric format".
pub fn overflow() -> Error {
    Error::new(
        state::NUMERIC_VALUE_OUT_OF_RANGE,
        "value overflows numeric format",
    )
}

impl Numeric {
    /// Zero without decimals.
    pub const ZERO: Numeric = Numeric::Small {
        unscaled: 0,
        scale: 0,
    };

    /// One without decimals.
    pub const ONE: Numeric = Numeric::Small {
        unscaled: 1,
        scale: 0,
    };

    /// An integer.
    pub const fn from_i64(value: i64) -> Numeric {
        Numeric::Small {
            unscaled: value as i128,
            scale: 0,
        }
    }

    /// `unscaled * 10^-scale`.
    pub const fn from_parts(unscaled: i128, scale: u16) -> Numeric {
        Numeric::Small { unscaled, scale }
    }

    /// `unscaled * 10^-scale` for any size of integer, with PostgreSQL's limits.
    ///
    /// # Errors
    /// 22003 beyond 131072 digits before the point or 16383 after it.
    pub fn from_big(unscaled: BigInt, scale: i32) -> Result<Numeric> {
        let scale16 = u16::try_from(scale)
            .ok()
            .filter(|s| i32::from(*s) <= SCALE_MAX);
        let Some(scale) = scale16 else {
            return Err(overflow());
        };
        if let Some(unscaled) = unscaled.to_i128() {
            return Ok(Numeric::Small { unscaled, scale });
        }
        let value = Numeric::Big { unscaled, scale };
        if value.exponent() >= INTEGER_DIGITS_MAX {
            return Err(overflow());
        }
        Ok(value)
    }

    /// The digits as an integer; `None` for NaN and the infinities.
    pub fn unscaled(&self) -> Option<BigInt> {
        match self {
            Numeric::Small { unscaled, .. } => Some(BigInt::from(*unscaled)),
            Numeric::Big { unscaled, .. } => Some(unscaled.clone()),
            Numeric::NaN | Numeric::Infinity | Numeric::NegativeInfinity => None,
        }
    }

    /// Printed decimals; 0 for NaN and the infinities.
    pub fn scale(&self) -> i32 {
        match self {
            Numeric::Small { scale, .. } | Numeric::Big { scale, .. } => i32::from(*scale),
            Numeric::NaN | Numeric::Infinity | Numeric::NegativeInfinity => 0,
        }
    }

    /// Neither NaN nor infinite.
    pub fn is_finite(&self) -> bool {
        matches!(self, Numeric::Small { .. } | Numeric::Big { .. })
    }

    /// Not a number.
    pub fn is_nan(&self) -> bool {
        matches!(self, Numeric::NaN)
    }

    /// Equal to zero at any scale.
    pub fn is_zero(&self) -> bool {
        matches!(self, Numeric::Small { unscaled: 0, .. })
    }

    /// Below zero.
    pub fn is_negative(&self) -> bool {
        match self {
            Numeric::Small { unscaled, .. } => *unscaled < 0,
            Numeric::Big { unscaled, .. } => unscaled.is_negative(),
            Numeric::NegativeInfinity => true,
            Numeric::NaN | Numeric::Infinity => false,
        }
    }

    /// Decimal digits of the unscaled integer; 0 for zero.
    pub(crate) fn digit_count(&self) -> i64 {
        match self {
            Numeric::Small { unscaled: 0, .. } => 0,
            Numeric::Small { unscaled, .. } => i64::from(unscaled.unsigned_abs().ilog10()) + 1,
            Numeric::Big { unscaled, .. } => big_digit_count(unscaled),
            Numeric::NaN | Numeric::Infinity | Numeric::NegativeInfinity => 0,
        }
    }

    /// The power of ten of the first significant digit (`d.ddd * 10^exponent`); 0 for zero.
    pub(crate) fn exponent(&self) -> i64 {
        if self.is_zero() {
            0
        } else {
            self.digit_count() - 1 - i64::from(self.scale())
        }
    }

    /// PostgreSQL's weight: the power of 10000 of the first base-10000 digit; 0 for zero.
    pub(crate) fn weight(&self) -> i64 {
        self.exponent().div_euclid(4)
    }

    /// Heap and stack bytes of the value.
    pub fn bytes(&self) -> usize {
        std::mem::size_of::<Numeric>()
            + match self {
                Numeric::Big { unscaled, .. } => (unscaled.bits() / 8) as usize,
                _ => 0,
            }
    }

    /// The digits without trailing zeros, and the power of ten of the last of them: equal values
    /// give equal parts. `None` for NaN and the infinities.
    pub(crate) fn normalized(&self) -> Option<(Normalized, i64)> {
        match self {
            Numeric::Small { unscaled: 0, .. } => Some((Normalized::Small(0), 0)),
            Numeric::Small { unscaled, scale } => {
                let mut digits = *unscaled;
                let mut exponent = -i64::from(*scale);
                while digits % 10 == 0 {
                    digits /= 10;
                    exponent += 1;
                }
                Some((Normalized::Small(digits), exponent))
            }
            Numeric::Big { unscaled, scale } => {
                let text = unscaled.magnitude().to_string();
                let kept = text.trim_end_matches('0');
                let exponent = (text.len() - kept.len()) as i64 - i64::from(*scale);
                let negative = unscaled.sign() == Sign::Minus;
                match kept.parse::<i128>() {
                    Ok(digits) => {
                        let digits = if negative { -digits } else { digits };
                        Some((Normalized::Small(digits), exponent))
                    }
                    Err(_) => Some((Normalized::Big(negative, kept.to_owned()), exponent)),
                }
            }
            Numeric::NaN | Numeric::Infinity | Numeric::NegativeInfinity => None,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Numeric::NegativeInfinity => 0,
            Numeric::Small { .. } | Numeric::Big { .. } => 1,
            Numeric::Infinity => 2,
            Numeric::NaN => 3,
        }
    }
}

/// Digits without trailing zeros.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum Normalized {
    /// They fit into 128 bits.
    Small(i128),
    /// They do not: sign and decimal digits.
    Big(bool, String),
}

fn big_digit_count(value: &BigInt) -> i64 {
    if value.is_zero() {
        return 0;
    }
    // log10(2) gives the count but for one; the comparison settles it.
    let bits = value.bits();
    let estimate = ((bits - 1) as f64 * std::f64::consts::LOG10_2) as u64;
    let floor = estimate.saturating_sub(1);
    let mut count = floor;
    let mut bound = power_of_ten(floor as u32);
    while value.magnitude() >= bound.magnitude() {
        bound *= 10;
        count += 1;
    }
    count as i64
}

impl PartialEq for Numeric {
    fn eq(&self, other: &Numeric) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Numeric {}

impl PartialOrd for Numeric {
    fn partial_cmp(&self, other: &Numeric) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// PostgreSQL's order: -Infinity, finite values, Infinity, NaN.
impl Ord for Numeric {
    fn cmp(&self, other: &Numeric) -> Ordering {
        use Numeric::Small;
        if let (
            Small {
                unscaled: a,
                scale: s,
            },
            Small {
                unscaled: b,
                scale: t,
            },
        ) = (self, other)
        {
            if s == t {
                return a.cmp(b);
            }
            if a.signum() != b.signum() {
                return a.signum().cmp(&b.signum());
            }
            let (x, y) = if s < t {
                (arithmetic::shifted(*a, t - s), Some(*b))
            } else {
                (Some(*a), arithmetic::shifted(*b, s - t))
            };
            if let (Some(x), Some(y)) = (x, y) {
                return x.cmp(&y);
            }
        }
        if !self.is_finite() || !other.is_finite() {
            return self.rank().cmp(&other.rank());
        }
        arithmetic::compare_finite(self, other)
    }
}

impl Hash for Numeric {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.normalized() {
            Some(parts) => parts.hash(state),
            None => self.rank().hash(state),
        }
    }
}

impl From<i64> for Numeric {
    fn from(value: i64) -> Numeric {
        Numeric::from_i64(value)
    }
}

impl From<i32> for Numeric {
    fn from(value: i32) -> Numeric {
        Numeric::from_i64(i64::from(value))
    }
}

impl From<i16> for Numeric {
    fn from(value: i16) -> Numeric {
        Numeric::from_i64(i64::from(value))
    }
}

impl std::fmt::Display for Numeric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = Vec::new();
        self.write(&mut out);
        f.write_str(std::str::from_utf8(&out).expect("digits are ASCII"))
    }
}

impl std::str::FromStr for Numeric {
    type Err = Error;

    fn from_str(text: &str) -> Result<Numeric> {
        Numeric::parse(text)
    }
}
