//! What values settings take: PostgreSQL's spellings, units and limits, and how SHOW prints them.

use super::{Kind, Setting};
use crate::parse::boolean;
use crate::{Error, Result, state};

/// Units of memory in bytes and of time in microseconds, the greatest first.
const MEMORY: [(&str, i64); 5] = [
    ("TB", 1 << 40),
    ("GB", 1 << 30),
    ("MB", 1 << 20),
    ("kB", 1 << 10),
    ("B", 1),
];
const TIME: [(&str, i64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("min", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// The stored form of a value: numbers in the setting's unit, words in lower case, lists joined.
///
/// # Errors
/// 22023 with PostgreSQL's text.
pub(super) fn canonical(setting: &Setting, values: &[String]) -> Result<String> {
    let single = match values {
        [value] => value.as_str(),
        _ if is_list(&setting.name) => return list(setting, values),
        _ => {
            let message = format!("SET {} takes only one argument", setting.name);
            return Err(Error::new(state::INVALID_PARAMETER_VALUE, message));
        }
    };
    match &setting.kind {
        Kind::Bool => match prefix_boolean(single) {
            Some(true) => Ok("on".to_owned()),
            Some(false) => Ok("off".to_owned()),
            None => Err(invalid(&format!(
                "parameter \"{}\" requires a Boolean value",
                setting.name
            ))),
        },
        Kind::Integer { min, max } => {
            let value = number(setting, single)?.round();
            let value = if value.abs() < 9e18 {
                value as i64
            } else {
                i64::MAX
            };
            if value < *min || value > *max {
                return Err(out_of_range(setting, value, min, max));
            }
            Ok(value.to_string())
        }
        Kind::Real { min, max } => {
            let value = number(setting, single)?;
            if value < *min || value > *max || value.is_nan() {
                return Err(out_of_range(setting, value, min, max));
            }
            Ok(value.to_string())
        }
        Kind::Enum(words) => word(setting, words, single),
        Kind::String => string(setting, single),
    }
}

fn is_list(name: &str) -> bool {
    matches!(
        name,
        "search_path"
            | "DateStyle"
            | "temp_tablespaces"
            | "local_preload_libraries"
            | "session_preload_libraries"
            | "synchronous_standby_names"
    )
}

fn list(setting: &Setting, values: &[String]) -> Result<String> {
    if setting.name == "DateStyle" {
        return date_style(&values.join(", "));
    }
    let quoted = values.iter().map(|v| quote(v));
    Ok(quoted.collect::<Vec<_>>().join(", "))
}

/// As `search_path` keeps its elements.
fn quote(name: &str) -> String {
    let plain = name
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

fn invalid(message: &str) -> Error {
    Error::new(state::INVALID_PARAMETER_VALUE, message)
}

fn invalid_value(setting: &Setting, value: &str) -> Error {
    invalid(&format!(
        "invalid value for parameter \"{}\": \"{value}\"",
        setting.name
    ))
}

fn out_of_range(
    setting: &Setting,
    value: impl std::fmt::Display,
    min: impl std::fmt::Display,
    max: impl std::fmt::Display,
) -> Error {
    let unit = if setting.unit.is_empty() {
        String::new()
    } else {
        format!(" {}", setting.unit)
    };
    invalid(&format!(
        "{value}{unit} is outside the valid range for parameter \"{}\" ({min} .. {max})",
        setting.name
    ))
}

/// PostgreSQL takes any unique prefix of true, false, yes, no, and on, off.
fn prefix_boolean(text: &str) -> Option<bool> {
    let text = text.trim().to_ascii_lowercase();
    if let Some(value) = boolean(&text) {
        return Some(value);
    }
    let prefix = |word: &str| !text.is_empty() && word.starts_with(&text);
    match () {
        () if prefix("true") || prefix("yes") => Some(true),
        () if prefix("false") || prefix("no") => Some(false),
        () if text == "of" => Some(false),
        () => None,
    }
}

fn number(setting: &Setting, text: &str) -> Result<f64> {
    let text = text.trim();
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return match i64::from_str_radix(hex, 16) {
            Ok(value) => Ok(value as f64),
            Err(_) => Err(invalid_value(setting, text)),
        };
    }
    let end = text
        .char_indices()
        .find(|(i, c)| {
            let sign = matches!(c, '+' | '-') && (*i == 0 || text[..*i].ends_with(['e', 'E']));
            let exponent = matches!(c, 'e' | 'E')
                && text[i + 1..].starts_with(|d: char| d.is_ascii_digit() || "+-".contains(d));
            !(c.is_ascii_digit() || *c == '.' || sign || exponent)
        })
        .map_or(text.len(), |(i, _)| i);
    let (digits, unit) = (&text[..end], text[end..].trim());
    let Ok(value) = digits.parse::<f64>() else {
        return Err(invalid_value(setting, text));
    };
    if unit.is_empty() {
        return Ok(value);
    }
    let Some((base, table)) = base_unit(&setting.unit) else {
        return Err(invalid_value(setting, text));
    };
    let Some((_, factor)) = table.iter().find(|(name, _)| *name == unit) else {
        let hint = if table[0].0 == "TB" {
            "Valid units for this parameter are \"B\", \"kB\", \"MB\", \"GB\", and \"TB\"."
        } else {
            "Valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\"."
        };
        return Err(invalid_value(setting, text).hint(hint));
    };
    Ok(value * *factor as f64 / base as f64)
}

/// The unit of a setting in bytes or microseconds, and the table it belongs to.
fn base_unit(unit: &str) -> Option<(i64, &'static [(&'static str, i64)])> {
    if unit == "8kB" {
        return Some((8 << 10, &MEMORY));
    }
    let of = |table: &'static [(&'static str, i64)]| {
        table
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, factor)| (*factor, table))
    };
    of(&MEMORY).or_else(|| of(&TIME))
}

fn word(setting: &Setting, words: &[String], value: &str) -> Result<String> {
    let found = words.iter().find(|w| w.eq_ignore_ascii_case(value.trim()));
    if let Some(word) = found {
        return Ok(word.clone());
    }
    // Enums that grew out of booleans take their other spellings.
    if let Some(on) = prefix_boolean(value) {
        let word = if on { "on" } else { "off" };
        if words.iter().any(|w| w == word) {
            return Ok(word.to_owned());
        }
    }
    Err(invalid_value(setting, value).hint(format!("Available values: {}.", words.join(", "))))
}

fn string(setting: &Setting, value: &str) -> Result<String> {
    match setting.name.as_str() {
        "client_encoding" => encoding(setting, value),
        "DateStyle" => date_style(value),
        "TimeZone" => {
            super::state::zone(value)?;
            Ok(zone_name(value))
        }
        "application_name" => {
            // PostgreSQL cuts to 63 bytes and replaces what is not printable ASCII.
            let clean = value.chars().map(|c| {
                if c.is_ascii_graphic() || c == ' ' {
                    c
                } else {
                    '?'
                }
            });
            Ok(clean.take(63).collect())
        }
        "search_path" => match split_list(value) {
            Some(_) => Ok(value.to_owned()),
            None => Err(invalid_value(setting, value).detail("List syntax is invalid.")),
        },
        "freehold.token" => {
            crate::session::token::Token::parse(value)?;
            Ok(value.to_owned())
        }
        "freehold.traceparent" => match value.is_empty() || is_traceparent(value) {
            true => Ok(value.to_owned()),
            false => Err(invalid_value(setting, value).hint(
                "It is a W3C traceparent, as \
                 '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', or ''.",
            )),
        },
        _ => Ok(value.to_owned()),
    }
}

/// Bytes of a `traceparent` of a version to come: of it only the beginning is known, and each entry
/// has all of it.
const TRACEPARENT_BYTES_MAX: usize = 256;

/// Version, trace, parent and flags, as W3C's Trace Context (section 3.2) has them.
fn is_traceparent(value: &str) -> bool {
    let hex = |part: &str, length: usize| {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        part.len() == length && part.bytes().all(digit)
    };
    let id = |part: &str, length| hex(part, length) && part.bytes().any(|byte| byte != b'0');
    let mut parts = value.splitn(5, '-');
    let mut next = || parts.next().unwrap_or_default();
    let (version, trace, parent, flags) = (next(), next(), next(), next());
    let known = hex(version, 2) && version != "ff";
    let more = parts.next();
    let fits = match version {
        "00" => more.is_none(),
        _ => value.len() <= TRACEPARENT_BYTES_MAX && value.bytes().all(|b| b.is_ascii_graphic()),
    };
    known && id(trace, 32) && id(parent, 16) && hex(flags, 2) && fits
}

fn zone_name(value: &str) -> String {
    match value.to_ascii_lowercase().as_str() {
        "utc" | "gmt" | "zulu" => value.to_ascii_uppercase(),
        _ => value.to_owned(),
    }
}

fn encoding(setting: &Setting, value: &str) -> Result<String> {
    let plain: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
    match plain.to_ascii_lowercase().as_str() {
        "utf8" | "unicode" => Ok("UTF8".to_owned()),
        "sqlascii" => Ok("SQL_ASCII".to_owned()),
        "latin1" | "iso88591" | "win1252" | "windows1252" | "latin9" | "win1251" | "koi8r"
        | "eucjp" | "sjis" | "big5" | "gbk" | "euckr" => Err(Error::new(
            state::FEATURE_NOT_SUPPORTED,
            format!("conversion between {value} and UTF8 is not supported"),
        )
        .hint("Set client_encoding to UTF8.")),
        _ => Err(invalid_value(setting, value)),
    }
}

/// `ISO, MDY`.
fn date_style(value: &str) -> Result<String> {
    let (mut style, mut order) = ("ISO", "MDY");
    for part in value.split(',').map(|p| p.trim().to_ascii_lowercase()) {
        match part.as_str() {
            "iso" => style = "ISO",
            "sql" => style = "SQL",
            "german" => {
                style = "German";
                order = "DMY";
            }
            p if p.starts_with("postgres") => style = "Postgres",
            "ymd" => order = "YMD",
            "dmy" | "euro" | "european" => order = "DMY",
            "mdy" | "us" | "noneuro" | "noneuropean" => order = "MDY",
            "default" => (style, order) = ("ISO", "MDY"),
            other => {
                return Err(invalid(&format!(
                    "invalid value for parameter \"DateStyle\": \"{value}\""
                ))
                .detail(format!("Unrecognized key word: \"{other}\".")));
            }
        }
    }
    Ok(format!("{style}, {order}"))
}

/// The elements of a list of identifiers (`search_path`); `None` if it is none.
pub(super) fn split_list(text: &str) -> Option<Vec<String>> {
    let mut all = Vec::new();
    let mut rest = text.trim();
    if rest.is_empty() {
        return Some(all);
    }
    loop {
        let (name, tail) = if let Some(quoted) = rest.strip_prefix('"') {
            let mut name = String::new();
            let mut chars = quoted.char_indices().peekable();
            let end = loop {
                match chars.next()? {
                    (_, '"') if chars.peek().is_some_and(|(_, c)| *c == '"') => {
                        chars.next();
                        name.push('"');
                    }
                    (i, '"') => break i + 1,
                    (_, c) => name.push(c),
                }
            };
            (name, quoted[end..].trim_start())
        } else {
            let end = rest
                .find(|c: char| c == ',' || c.is_whitespace())
                .unwrap_or(rest.len());
            (rest[..end].to_lowercase(), rest[end..].trim_start())
        };
        if name.is_empty() && !rest.starts_with('"') {
            return None;
        }
        all.push(name);
        if tail.is_empty() {
            return Some(all);
        }
        rest = tail.strip_prefix(',')?.trim_start();
    }
}

/// As SHOW prints a stored value: numbers with the largest unit that divides them.
pub(super) fn shown(setting: &Setting, value: &str) -> String {
    let Some((base, table)) = base_unit(&setting.unit) else {
        return value.to_owned();
    };
    match &setting.kind {
        Kind::Integer { .. } => {
            let Ok(number) = value.parse::<i64>() else {
                return value.to_owned();
            };
            if number <= 0 {
                return value.to_owned();
            }
            let total = i128::from(number) * i128::from(base);
            let fits = |factor: i64| total % i128::from(factor) == 0;
            match table.iter().find(|(_, factor)| fits(*factor)) {
                Some((name, factor)) => format!("{}{name}", total / i128::from(*factor)),
                None => value.to_owned(),
            }
        }
        _ => match value.parse::<f64>() {
            Ok(number) if number > 0.0 => format!("{number}{}", setting.unit),
            _ => value.to_owned(),
        },
    }
}
