//! Type modifiers: reading `numeric(10,2)`, printing it, and cutting values to it.

use std::sync::Arc;

use crate::error::{Error, Result, state};
use crate::types::interval::DAY_US;
use crate::types::kind::oid;
use crate::types::{Array, Datum, Interval, Numeric, Type};

/// The longest `name`, in bytes.
pub const NAME_BYTES_MAX: usize = 63;

/// The largest length of `char`, `varchar`.
const LENGTH_MAX: i32 = 10_485_760;

const MONTH: i32 = 1 << 1;
const YEAR: i32 = 1 << 2;
const DAY: i32 = 1 << 3;
const HOUR: i32 = 1 << 10;
const MINUTE: i32 = 1 << 11;
const SECOND: i32 = 1 << 12;
const FULL_RANGE: i32 = 0x7fff;
const FULL_PRECISION: i32 = 0xffff;

/// Precision and scale of a numeric's modifier.
pub fn numeric_parts(modifier: i32) -> (i32, i32) {
    let packed = modifier - 4;
    // The scale is an 11-bit two's complement number.
    let scale = ((packed & 0x7ff) ^ 1024) - 1024;
    ((packed >> 16) & 0xffff, scale)
}

/// Cuts a name to 63 bytes, at a character.
pub fn truncate_name(text: &str) -> &str {
    let mut end = text.len().min(NAME_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn invalid(message: String) -> Error {
    Error::new(state::INVALID_PARAMETER_VALUE, message)
}

/// Gives a type the modifiers that were written in brackets.
pub(crate) fn apply_modifiers(base: Type, modifiers: &[&str]) -> Result<Type> {
    if modifiers.is_empty() {
        return Ok(base);
    }
    let numbers = modifiers
        .iter()
        .map(|text| {
            text.parse::<i32>().map_err(|_| {
                Error::new(
                    state::INVALID_PARAMETER_VALUE,
                    "type modifiers must be simple constants or identifiers",
                )
            })
        })
        .collect::<Result<Vec<i32>>>()?;
    let modifier = match base.oid {
        oid::VARCHAR | oid::BPCHAR => {
            let word = if base.oid == oid::VARCHAR {
                "varchar"
            } else {
                "char"
            };
            let length = length_modifier(word, &numbers, LENGTH_MAX)?;
            length + 4
        }
        oid::BIT => length_modifier("bit", &numbers, LENGTH_MAX * 8)?,
        oid::VARBIT => length_modifier("varbit", &numbers, LENGTH_MAX * 8)?,
        oid::NUMERIC => return numeric_modifier(&numbers),
        oid::TIME | oid::TIMETZ | oid::TIMESTAMP | oid::TIMESTAMPTZ => {
            precision_modifier(base, &numbers)?
        }
        oid::INTERVAL => return interval_type("", modifiers),
        _ => {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                format!("type modifier is not allowed for type \"{}\"", base.name()),
            ));
        }
    };
    Ok(base.with_modifier(modifier))
}

fn length_modifier(word: &str, numbers: &[i32], most: i32) -> Result<i32> {
    match numbers {
        [length] if *length < 1 => Err(invalid(format!(
            "length for type {word} must be at least 1"
        ))),
        [length] if *length > most => Err(invalid(format!(
            "length for type {word} cannot exceed {most}"
        ))),
        [length] => Ok(*length),
        _ => Err(invalid("invalid type modifier".to_owned())),
    }
}

fn numeric_modifier(numbers: &[i32]) -> Result<Type> {
    let (precision, scale) = match numbers {
        [precision] => (*precision, 0),
        [precision, scale] => (*precision, *scale),
        _ => return Err(invalid("invalid NUMERIC type modifier".to_owned())),
    };
    if !(1..=1000).contains(&precision) {
        return Err(invalid(format!(
            "NUMERIC precision {precision} must be between 1 and 1000"
        )));
    }
    if !(-1000..=1000).contains(&scale) {
        return Err(invalid(format!(
            "NUMERIC scale {scale} must be between -1000 and 1000"
        )));
    }
    Ok(Type::numeric(precision, scale))
}

fn precision_modifier(base: Type, numbers: &[i32]) -> Result<i32> {
    let (word, suffix) = match base.oid {
        oid::TIME => ("TIME", ""),
        oid::TIMETZ => ("TIME", " WITH TIME ZONE"),
        oid::TIMESTAMP => ("TIMESTAMP", ""),
        _ => ("TIMESTAMP", " WITH TIME ZONE"),
    };
    match numbers {
        [digits] if *digits < 0 => Err(invalid(format!(
            "{word}({digits}){suffix} precision must not be negative"
        ))),
        // PostgreSQL warns and takes the largest.
        [digits] => Ok((*digits).min(6)),
        _ => Err(invalid("invalid type modifier".to_owned())),
    }
}

/// `interval <fields>` with an optional precision.
pub(crate) fn interval_type(fields: &str, modifiers: &[&str]) -> Result<Type> {
    let range = match fields.trim() {
        "" => FULL_RANGE,
        "year" => YEAR,
        "month" => MONTH,
        "day" => DAY,
        "hour" => HOUR,
        "minute" => MINUTE,
        "second" => SECOND,
        "year to month" => YEAR | MONTH,
        "day to hour" => DAY | HOUR,
        "day to minute" => DAY | HOUR | MINUTE,
        "day to second" => DAY | HOUR | MINUTE | SECOND,
        "hour to minute" => HOUR | MINUTE,
        "hour to second" => HOUR | MINUTE | SECOND,
        "minute to second" => MINUTE | SECOND,
        other => {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                format!("syntax error at or near \"{other}\""),
            ));
        }
    };
    let precision = match modifiers {
        [] => FULL_PRECISION,
        [digits] => match digits.parse::<i32>() {
            Ok(digits) if digits >= 0 => digits.min(6),
            Ok(digits) => {
                return Err(invalid(format!(
                    "INTERVAL({digits}) precision must not be negative"
                )));
            }
            Err(_) => return Err(invalid("invalid INTERVAL type modifier".to_owned())),
        },
        _ => return Err(invalid("invalid INTERVAL type modifier".to_owned())),
    };
    if range == FULL_RANGE && precision == FULL_PRECISION {
        return Ok(Type::INTERVAL);
    }
    Ok(Type::INTERVAL.with_modifier((range << 16) | precision))
}

/// The field mask and the precision (`None` = full) of an interval's modifier.
pub(crate) fn interval_parts(modifier: i32) -> (i32, Option<i32>) {
    if modifier < 0 {
        return (FULL_RANGE, None);
    }
    let precision = modifier & FULL_PRECISION;
    (
        (modifier >> 16) & FULL_RANGE,
        (precision != FULL_PRECISION).then_some(precision),
    )
}

/// What `format_type` prints after `interval`.
pub(crate) fn interval_suffix(modifier: i32) -> String {
    let (range, precision) = interval_parts(modifier);
    const NAMES: &[(i32, &str)] = &[
        (YEAR, " year"),
        (MONTH, " month"),
        (DAY, " day"),
        (HOUR, " hour"),
        (MINUTE, " minute"),
        (SECOND, " second"),
        (YEAR | MONTH, " year to month"),
        (DAY | HOUR, " day to hour"),
        (DAY | HOUR | MINUTE, " day to minute"),
        (DAY | HOUR | MINUTE | SECOND, " day to second"),
        (HOUR | MINUTE, " hour to minute"),
        (HOUR | MINUTE | SECOND, " hour to second"),
        (MINUTE | SECOND, " minute to second"),
    ];
    let name = NAMES
        .iter()
        .find(|(mask, _)| *mask == range)
        .map_or("", |(_, name)| name);
    match precision {
        Some(precision) => format!("{name}({precision})"),
        None => name.to_owned(),
    }
}

/// Cuts a value to its type's modifier. `explicit` = written as a cast: strings and bits that are
/// too long are cut instead of refused.
///
/// # Errors
/// 22001 for a string too long, 22003 for a number out of range, 22026 for bits of wrong length.
pub fn apply(value: Datum, kind: Type, explicit: bool) -> Result<Datum> {
    let sized = matches!(kind.oid, oid::VARCHAR | oid::BPCHAR | oid::NUMERIC);
    // Modifiers of these types carry 4 on top; below that there is none.
    if kind.modifier < 0 || value.is_null() || (sized && kind.modifier < 4) {
        return Ok(value);
    }
    match (value, kind.oid) {
        (Datum::Text(text), oid::VARCHAR) => varchar(text, kind.modifier - 4, explicit),
        (Datum::Text(text), oid::BPCHAR) => bpchar(&text, kind.modifier - 4, explicit),
        (Datum::Numeric(number), oid::NUMERIC) => {
            let (precision, scale) = numeric_parts(kind.modifier);
            Ok(Datum::numeric(fit_numeric(&number, precision, scale)?))
        }
        (Datum::Timestamp(us), oid::TIMESTAMP) => {
            Ok(Datum::Timestamp(round_timestamp(us, kind.modifier)?))
        }
        (Datum::Timestamptz(us), oid::TIMESTAMPTZ) => {
            Ok(Datum::Timestamptz(round_timestamp(us, kind.modifier)?))
        }
        (Datum::Time(us), oid::TIME) => Ok(Datum::Time(round_us(us, kind.modifier))),
        (Datum::Timetz(us, west), oid::TIMETZ) => {
            Ok(Datum::Timetz(round_us(us, kind.modifier), west))
        }
        (Datum::Interval(interval), oid::INTERVAL) => {
            Ok(Datum::Interval(fit_interval(interval, kind.modifier)?))
        }
        (Datum::Bit(bits), oid::BIT) => bit(&bits, kind.modifier as usize, explicit),
        (Datum::Bit(bits), oid::VARBIT) => varbit(&bits, kind.modifier as usize, explicit),
        (Datum::Array(array), _) => match kind.element() {
            Some(element) => {
                let values: Result<Vec<Datum>> = array
                    .values
                    .iter()
                    .map(|v| apply(v.clone(), element, explicit))
                    .collect();
                Ok(Datum::array(Array {
                    element: array.element,
                    dimensions: array.dimensions.clone(),
                    values: values?,
                }))
            }
            None => Ok(Datum::Array(array)),
        },
        (value, _) => Ok(value),
    }
}

/// The byte offset after `count` characters; `None` when the text has no more than that.
fn cut_at(text: &str, count: usize) -> Option<usize> {
    if text.len() <= count {
        return None;
    }
    text.char_indices().nth(count).map(|(at, _)| at)
}

fn too_long(word: &str, length: i32) -> Error {
    Error::new(
        state::STRING_DATA_RIGHT_TRUNCATION,
        format!("value too long for type {word}({length})"),
    )
}

fn varchar(text: Arc<str>, length: i32, explicit: bool) -> Result<Datum> {
    match cut_at(&text, length.max(0) as usize) {
        None => Ok(Datum::Text(text)),
        Some(at) => {
            if !explicit && text[at..].bytes().any(|b| b != b' ') {
                return Err(too_long("character varying", length));
            }
            Ok(Datum::text(&text[..at]))
        }
    }
}

fn bpchar(text: &str, length: i32, explicit: bool) -> Result<Datum> {
    let length_chars = length.max(0) as usize;
    match cut_at(text, length_chars) {
        None => {
            let missing = length_chars - text.chars().count();
            let mut padded = String::with_capacity(text.len() + missing);
            padded.push_str(text);
            padded.extend(std::iter::repeat_n(' ', missing));
            Ok(Datum::from(padded))
        }
        Some(at) => {
            if !explicit && text[at..].bytes().any(|b| b != b' ') {
                return Err(too_long("character", length));
            }
            Ok(Datum::text(&text[..at]))
        }
    }
}

/// Rounds to the scale and checks the precision.
pub(crate) fn fit_numeric(number: &Numeric, precision: i32, scale: i32) -> Result<Numeric> {
    if number.is_nan() {
        return Ok(Numeric::NaN);
    }
    let field_overflow = |detail: String| {
        Error::new(state::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow").detail(detail)
    };
    if !number.is_finite() {
        return Err(field_overflow(format!(
            "A field with precision {precision}, scale {scale} cannot hold an infinite value."
        )));
    }
    let rounded = number.round(scale)?;
    if !rounded.is_zero() && rounded.exponent() >= i64::from(precision - scale) {
        let digits = precision - scale;
        let bound = if digits == 0 {
            "1".to_owned()
        } else {
            format!("10^{digits}")
        };
        return Err(field_overflow(format!(
            "A field with precision {precision}, scale {scale} must round to an absolute value \
             less than {bound}."
        )));
    }
    Ok(rounded)
}

/// Microseconds rounded to this many decimals of a second, half away from zero.
pub(crate) fn round_us(us: i64, digits: i32) -> i64 {
    if !(0..6).contains(&digits) {
        return us;
    }
    let unit = 10i64.pow((6 - digits) as u32);
    let half = unit / 2;
    if us >= 0 {
        us.saturating_add(half) / unit * unit
    } else {
        -(us.saturating_neg().saturating_add(half) / unit * unit)
    }
}

pub(crate) fn round_timestamp(us: i64, digits: i32) -> Result<i64> {
    if us == i64::MIN || us == i64::MAX {
        return Ok(us);
    }
    Ok(round_us(us, digits))
}

/// Drops the fields an interval type does not have and rounds its seconds.
pub(crate) fn fit_interval(value: Interval, modifier: i32) -> Result<Interval> {
    let (range, precision) = interval_parts(modifier);
    let hour = 3_600_000_000;
    let minute = 60_000_000;
    let mut v = value;
    match range {
        YEAR => {
            v = Interval::new(v.months / 12 * 12, 0, 0);
        }
        r if r == MONTH || r == YEAR | MONTH => v = Interval::new(v.months, 0, 0),
        DAY => v.microseconds = 0,
        r if r == HOUR || r == DAY | HOUR => v.microseconds = v.microseconds / hour * hour,
        r if r == MINUTE || r == HOUR | MINUTE || r == DAY | HOUR | MINUTE => {
            v.microseconds = v.microseconds / minute * minute;
        }
        _ => {}
    }
    debug_assert!(DAY_US % hour == 0);
    if let Some(precision) = precision {
        v.microseconds = round_us(v.microseconds, precision);
    }
    Ok(v)
}

fn bit(bits: &str, length: usize, explicit: bool) -> Result<Datum> {
    if bits.len() == length {
        return Ok(Datum::Bit(Arc::from(bits)));
    }
    if !explicit {
        return Err(Error::new(
            crate::SqlState(*b"22026"),
            format!(
                "bit string length {} does not match type bit({length})",
                bits.len()
            ),
        ));
    }
    let mut out: String = bits.chars().take(length).collect();
    while out.len() < length {
        out.push('0');
    }
    Ok(Datum::Bit(Arc::from(out)))
}

fn varbit(bits: &str, length: usize, explicit: bool) -> Result<Datum> {
    if bits.len() <= length {
        return Ok(Datum::Bit(Arc::from(bits)));
    }
    if !explicit {
        return Err(Error::new(
            state::STRING_DATA_RIGHT_TRUNCATION,
            format!("bit string too long for type bit varying({length})"),
        ));
    }
    Ok(Datum::Bit(Arc::from(&bits[..length])))
}
