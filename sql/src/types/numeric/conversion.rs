//! `numeric` to and from text, floating point and 128-bit integers.

use num_bigint::BigInt;
use num_traits::ToPrimitive;

use super::{Numeric, SCALE_MAX, overflow};
use crate::error::{Error, Result, state};

fn invalid(text: &str) -> Error {
    Error::new(
        state::INVALID_TEXT_REPRESENTATION,
        format!("invalid input syntax for type numeric: \"{text}\""),
    )
}

fn special(text: &str) -> Option<Numeric> {
    let equals = |other: &str| text.eq_ignore_ascii_case(other);
    if equals("nan") {
        Some(Numeric::NaN)
    } else if ["infinity", "+infinity", "inf", "+inf"]
        .into_iter()
        .any(equals)
    {
        Some(Numeric::Infinity)
    } else if ["-infinity", "-inf"].into_iter().any(equals) {
        Some(Numeric::NegativeInfinity)
    } else {
        None
    }
}

/// Splits `[+-]digits[.digits][e[+-]digits]` into negative, whole, fraction, exponent.
fn split(text: &str) -> Option<(bool, &str, &str, &str)> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let bare = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let valid = digits(whole)
        && digits(fraction)
        && whole.len() + fraction.len() > 0
        && digits(bare)
        && !bare.is_empty();
    valid.then_some((negative, whole, fraction, exponent))
}

impl Numeric {
    /// Reads a numeric as PostgreSQL's input function does; blanks around it are allowed.
    ///
    /// # Errors
    /// 22P02 for malformed text, 22003 beyond the format.
    pub fn parse(text: &str) -> Result<Numeric> {
        let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
        let Some((negative, whole, fraction, exponent)) = split(trimmed) else {
            return special(trimmed).ok_or_else(|| invalid(text));
        };
        let exponent: i64 = exponent.parse().map_err(|_| overflow())?;
        if exponent.abs() > i64::from(i32::MAX / 2) {
            return Err(overflow());
        }
        let scale = fraction.len() as i64 - exponent;
        let significant = (whole.len() + fraction.len()) as i64;
        if scale > i64::from(SCALE_MAX) || significant - scale > super::INTEGER_DIGITS_MAX * 2 {
            return Err(overflow());
        }
        let shift = (-scale).max(0) as u32;
        let scale = scale.max(0) as i32;
        if significant + i64::from(shift) <= 38 {
            let mut unscaled = 0i128;
            for digit in whole.bytes().chain(fraction.bytes()) {
                unscaled = unscaled * 10 + i128::from(digit - b'0');
            }
            unscaled *= super::arithmetic::small_power(shift as u16).unwrap_or(1);
            let unscaled = if negative { -unscaled } else { unscaled };
            return Ok(Numeric::Small {
                unscaled,
                scale: scale as u16,
            });
        }
        let digits = format!("{whole}{fraction}");
        let unscaled: BigInt = digits.parse().map_err(|_| invalid(text))?;
        let unscaled = unscaled * super::power_of_ten(shift);
        Numeric::from_big(if negative { -unscaled } else { unscaled }, scale)
    }

    /// Appends the text form: all digits, as many decimals as the scale says.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Numeric::Small { unscaled, scale } => write_small(*unscaled, usize::from(*scale), out),
            Numeric::Big { unscaled, scale } => {
                if self.is_negative() {
                    out.push(b'-');
                }
                let digits = unscaled.magnitude().to_string();
                write_digits(digits.as_bytes(), usize::from(*scale), out);
            }
            Numeric::NaN => out.extend_from_slice(b"NaN"),
            Numeric::Infinity => out.extend_from_slice(b"Infinity"),
            Numeric::NegativeInfinity => out.extend_from_slice(b"-Infinity"),
        }
    }

    /// The nearest double; beyond its range `None`.
    pub fn to_f64(&self) -> Option<f64> {
        let value = match self {
            Numeric::NaN => return Some(f64::NAN),
            Numeric::Infinity => return Some(f64::INFINITY),
            Numeric::NegativeInfinity => return Some(f64::NEG_INFINITY),
            Numeric::Small { unscaled, scale: 0 } => *unscaled as f64,
            finite => finite.to_string().parse().ok()?,
        };
        value.is_finite().then_some(value)
    }

    /// A double with its first 15 significant digits, as PostgreSQL casts it.
    pub fn from_f64(value: f64) -> Numeric {
        from_float(value, 15)
    }

    /// A float with its first 6 significant digits, as PostgreSQL casts it.
    pub fn from_f32(value: f32) -> Numeric {
        from_float(f64::from(value), 6)
    }

    /// The value as a 128-bit integer, rounded; `None` when it is not finite or does not fit.
    pub fn to_i128(&self) -> Option<i128> {
        if !self.is_finite() || self.exponent() > 39 {
            return None;
        }
        self.round(0).ok()?.unscaled()?.to_i128()
    }
}

fn from_float(value: f64, digits: usize) -> Numeric {
    if value.is_nan() {
        return Numeric::NaN;
    }
    if value.is_infinite() {
        return if value > 0.0 {
            Numeric::Infinity
        } else {
            Numeric::NegativeInfinity
        };
    }
    // %.15g prints without trailing zeros, so the scale is that of the trimmed digits.
    let text = format!("{value:.*e}", digits - 1);
    Numeric::parse(&text).map_or(Numeric::ZERO, |exact| {
        let trimmed = exact.trim_scale();
        if trimmed.is_zero() {
            Numeric::ZERO
        } else {
            trimmed
        }
    })
}

fn write_small(unscaled: i128, scale: usize, out: &mut Vec<u8>) {
    if unscaled < 0 {
        out.push(b'-');
    }
    let mut buffer = [0u8; 40];
    let mut at = buffer.len();
    let mut rest = unscaled.unsigned_abs();
    while rest > u128::from(u64::MAX) {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let mut rest = rest as u64;
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    write_digits(&buffer[at..], scale, out);
}

fn write_digits(digits: &[u8], scale: usize, out: &mut Vec<u8>) {
    if scale == 0 {
        out.extend_from_slice(digits);
    } else if digits.len() > scale {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        out.extend_from_slice(whole);
        out.push(b'.');
        out.extend_from_slice(fraction);
    } else {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + scale - digits.len(), b'0');
        out.extend_from_slice(digits);
    }
}
