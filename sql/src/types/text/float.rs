//! The text forms of `float4` and `float8`.

use super::{invalid_syntax, is_blank};
use crate::error::{Error, Result, state};

fn float_word(text: &str) -> Option<f64> {
    let is = |other: &str| text.eq_ignore_ascii_case(other);
    if is("nan") {
        Some(f64::NAN)
    } else if is("infinity") || is("+infinity") || is("inf") || is("+inf") {
        Some(f64::INFINITY)
    } else if is("-infinity") || is("-inf") {
        Some(f64::NEG_INFINITY)
    } else {
        None
    }
}

/// Digits, point and exponent only: what Rust reads beyond that (`inf`, `nan`) is handled apart.
fn is_plain_float(text: &str) -> bool {
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    body.bytes().any(|b| b.is_ascii_digit())
        && body
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
}

/// Reads a double as `float8in` does.
pub(crate) fn read_f64(text: &str, kind: &str) -> Result<f64> {
    let trimmed = text.trim_matches(is_blank);
    if let Some(value) = float_word(trimmed) {
        return Ok(value);
    }
    let value: f64 = match trimmed.parse() {
        Ok(value) if is_plain_float(trimmed) => value,
        _ => return Err(invalid_syntax(kind, text)),
    };
    let zero = !mantissa(trimmed).bytes().any(|b| matches!(b, b'1'..=b'9'));
    if value.is_infinite() || (value == 0.0 && !zero) {
        return Err(Error::new(
            state::NUMERIC_VALUE_OUT_OF_RANGE,
            format!("\"{trimmed}\" is out of range for type {kind}"),
        ));
    }
    Ok(value)
}

fn mantissa(text: &str) -> &str {
    text.split(['e', 'E']).next().unwrap_or(text)
}

pub(super) fn read_f32(text: &str) -> Result<f32> {
    let trimmed = text.trim_matches(is_blank);
    if let Some(value) = float_word(trimmed) {
        return Ok(value as f32);
    }
    let value: f32 = match trimmed.parse() {
        Ok(value) if is_plain_float(trimmed) => value,
        _ => return Err(invalid_syntax("real", text)),
    };
    let zero = !mantissa(trimmed).bytes().any(|b| matches!(b, b'1'..=b'9'));
    if value.is_infinite() || (value == 0.0 && !zero) {
        return Err(Error::new(
            state::NUMERIC_VALUE_OUT_OF_RANGE,
            format!("\"{trimmed}\" is out of range for type real"),
        ));
    }
    Ok(value)
}

/// Appends a double; `digits` is extra_float_digits.
pub fn write_f64(value: f64, digits: i32, out: &mut Vec<u8>) {
    if write_not_finite(value, out) {
        return;
    }
    if digits > 0 {
        write_exponent_form(&format!("{value:e}"), 15, out);
    } else {
        let precision = (15 + digits).max(1) as usize;
        write_rounded(value, precision, out);
    }
}

/// Appends a float; `digits` is extra_float_digits.
pub fn write_f32(value: f32, digits: i32, out: &mut Vec<u8>) {
    if write_not_finite(f64::from(value), out) {
        return;
    }
    if digits > 0 {
        write_exponent_form(&format!("{value:e}"), 6, out);
    } else {
        let precision = (6 + digits).max(1) as usize;
        write_rounded(f64::from(value), precision, out);
    }
}

fn write_not_finite(value: f64, out: &mut Vec<u8>) -> bool {
    let word: &[u8] = if value.is_nan() {
        b"NaN"
    } else if value == f64::INFINITY {
        b"Infinity"
    } else if value == f64::NEG_INFINITY {
        b"-Infinity"
    } else {
        return false;
    };
    out.extend_from_slice(word);
    true
}

/// C's `%.<precision>g`.
fn write_rounded(value: f64, precision: usize, out: &mut Vec<u8>) {
    let text = format!("{value:.*e}", precision - 1);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let trimmed = match mantissa.contains('.') {
        true => mantissa.trim_end_matches('0').trim_end_matches('.'),
        false => mantissa,
    };
    write_exponent_form(&format!("{trimmed}e{exponent}"), precision as i32, out);
}

/// Writes `d.ddde<exponent>` as PostgreSQL prints floats: with an exponent below -4 or from
/// `limit` digits on.
fn write_exponent_form(text: &str, limit: i32, out: &mut Vec<u8>) {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    out.extend_from_slice(sign.as_bytes());
    if exponent < -4 || exponent >= limit {
        out.extend_from_slice(mantissa.as_bytes());
        let sign = if exponent < 0 { '-' } else { '+' };
        out.extend_from_slice(format!("e{sign}{:02}", exponent.abs()).as_bytes());
        return;
    }
    let digits: Vec<u8> = mantissa.bytes().filter(|b| *b != b'.').collect();
    if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + (-exponent - 1) as usize, b'0');
        out.extend_from_slice(&digits);
        return;
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        out.extend_from_slice(&digits);
        out.resize(out.len() + whole - digits.len(), b'0');
    } else {
        out.extend_from_slice(&digits[..whole]);
        out.push(b'.');
        out.extend_from_slice(&digits[whole..]);
    }
}
