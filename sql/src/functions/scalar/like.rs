//! LIKE and ILIKE, and the translation of SIMILAR TO patterns into regular expressions.

use super::arguments as arg;
use crate::error::{Error, Result, state};
use crate::functions::ScalarFunction;
use crate::types::Datum;

fn ends_with_escape() -> Error {
    Error::new(
        state::INVALID_ESCAPE_SEQUENCE,
        "LIKE pattern must not end with escape character",
    )
}

/// Bytes of the character that begins with this byte.
fn width(byte: u8) -> usize {
    match byte {
        0..0x80 => 1,
        0x80..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    }
}

/// Whether `text` matches the LIKE pattern, both in UTF-8 (`characters`) or as bytes.
///
/// # Errors
/// 22025 when the pattern ends with its escape.
pub fn matches(text: &[u8], pattern: &[u8], characters: bool) -> Result<bool> {
    let (mut t, mut p) = (0, 0);
    // Where to go on after the last `%`: the pattern behind it, and the text to give up next.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let matched = match pattern.get(p) {
            None if t == text.len() => return Ok(true),
            None => false,
            Some(b'%') => {
                p += 1;
                retry = Some((p, t));
                continue;
            }
            Some(b'_') if t < text.len() => {
                t += if characters { width(text[t]) } else { 1 };
                p += 1;
                true
            }
            Some(b'_') => false,
            Some(byte) => {
                let (byte, step) = if *byte == b'\\' {
                    (*pattern.get(p + 1).ok_or_else(ends_with_escape)?, 2)
                } else {
                    (*byte, 1)
                };
                if text.get(t) == Some(&byte) {
                    t += 1;
                    p += step;
                    true
                } else {
                    false
                }
            }
        };
        if matched {
            continue;
        }
        match retry {
            Some((after, from)) if from < text.len() => {
                let next = from + if characters { width(text[from]) } else { 1 };
                retry = Some((after, next));
                t = next.min(text.len());
                p = after;
            }
            _ => {
                // PostgreSQL looks at the whole pattern only as far as the text leads it.
                return Ok(false);
            }
        }
    }
}

fn fold(text: &str) -> String {
    text.chars()
        .map(|c| {
            let mut lower = c.to_lowercase();
            match (lower.next(), lower.next()) {
                (Some(one), None) => one,
                _ => c,
            }
        })
        .collect()
}

fn like(a: &[Datum]) -> Result<bool> {
    matches(
        arg::text(a, 0)?.as_bytes(),
        arg::text(a, 1)?.as_bytes(),
        true,
    )
}

fn ilike(a: &[Datum]) -> Result<bool> {
    let (text, pattern) = (fold(arg::text(a, 0)?), fold(arg::text(a, 1)?));
    matches(text.as_bytes(), pattern.as_bytes(), true)
}

/// A pattern with another escape character, rewritten to use the backslash.
fn like_escape(pattern: &str, escape: &str) -> Result<String> {
    let mut out = String::with_capacity(pattern.len() + 4);
    let mut chars = escape.chars();
    let escape = match (chars.next(), chars.next()) {
        (None, _) => {
            return Ok(pattern.replace('\\', "\\\\"));
        }
        (Some(one), None) => one,
        _ => return Err(invalid_escape()),
    };
    if escape == '\\' {
        return Ok(pattern.to_owned());
    }
    let mut after_escape = false;
    for c in pattern.chars() {
        if c == escape && !after_escape {
            out.push('\\');
            after_escape = true;
        } else if c == '\\' {
            out.push('\\');
            if !after_escape {
                out.push('\\');
            }
            after_escape = false;
        } else {
            out.push(c);
            after_escape = false;
        }
    }
    Ok(out)
}

fn invalid_escape() -> Error {
    Error::new(state::INVALID_ESCAPE_SEQUENCE, "invalid escape string")
        .hint("Escape string must be empty or one character.")
}

/// Rewrites an SQL regular expression (SIMILAR TO) as a POSIX one; `escape` of `None` is the
/// backslash, `Some("")` is none.
pub(super) fn similar_escape(pattern: &str, escape: Option<&str>) -> Result<String> {
    let escape = match escape {
        None => Some('\\'),
        Some(text) => {
            let mut chars = text.chars();
            match (chars.next(), chars.next()) {
                (None, _) => None,
                (Some(one), None) => Some(one),
                _ => return Err(invalid_escape()),
            }
        }
    };
    let mut out = String::from("^(?:");
    let mut after_escape = false;
    let mut in_class = false;
    let mut quotes = 0;
    for c in pattern.chars() {
        if after_escape {
            if c == '"' && !in_class {
                // Escape-quote separates the parts of SUBSTRING ... SIMILAR.
                match quotes {
                    0 => out.push_str("){1,1}?("),
                    1 => out.push_str("){1,1}(?:"),
                    _ => {
                        return Err(Error::new(
                            crate::SqlState(*b"2200C"),
                            "SQL regular expression may not contain more than two escape-double-\
                             quote separators",
                        ));
                    }
                }
                quotes += 1;
            } else {
                out.push('\\');
                out.push(c);
            }
            after_escape = false;
        } else if Some(c) == escape {
            after_escape = true;
        } else if in_class {
            if c == '\\' {
                out.push('\\');
            }
            out.push(c);
            if c == ']' {
                in_class = false;
            }
        } else {
            match c {
                '[' => {
                    out.push('[');
                    in_class = true;
                }
                '%' => out.push_str(".*"),
                '_' => out.push('.'),
                '(' => out.push_str("(?:"),
                '\\' | '.' | '^' | '$' => {
                    out.push('\\');
                    out.push(c);
                }
                c => out.push(c),
            }
        }
    }
    out.push_str(")$");
    Ok(out)
}

/// LIKE, ILIKE and their escapes.
pub(super) const TABLE: &[(&str, ScalarFunction)] = &[
    ("textlike", |_, _, a| Ok(Datum::Bool(like(a)?))),
    ("textnlike", |_, _, a| Ok(Datum::Bool(!like(a)?))),
    ("namelike", |_, _, a| Ok(Datum::Bool(like(a)?))),
    ("namenlike", |_, _, a| Ok(Datum::Bool(!like(a)?))),
    ("texticlike", |_, _, a| Ok(Datum::Bool(ilike(a)?))),
    ("texticnlike", |_, _, a| Ok(Datum::Bool(!ilike(a)?))),
    ("nameiclike", |_, _, a| Ok(Datum::Bool(ilike(a)?))),
    ("nameicnlike", |_, _, a| Ok(Datum::Bool(!ilike(a)?))),
    ("bytealike", |_, _, a| {
        Ok(Datum::Bool(matches(
            arg::bytes(a, 0)?,
            arg::bytes(a, 1)?,
            false,
        )?))
    }),
    ("byteanlike", |_, _, a| {
        Ok(Datum::Bool(!matches(
            arg::bytes(a, 0)?,
            arg::bytes(a, 1)?,
            false,
        )?))
    }),
    ("like_escape", |_, _, a| {
        Ok(Datum::from(like_escape(
            arg::text(a, 0)?,
            arg::text(a, 1)?,
        )?))
    }),
    ("similar_to_escape_1", |_, _, a| {
        Ok(Datum::from(similar_escape(arg::text(a, 0)?, None)?))
    }),
    ("similar_to_escape_2", |_, _, a| {
        Ok(Datum::from(similar_escape(
            arg::text(a, 0)?,
            Some(arg::text(a, 1)?),
        )?))
    }),
    ("similar_escape", |_, _, a| {
        if a[0].is_null() {
            return Ok(Datum::Null);
        }
        Ok(Datum::from(similar_escape(
            arg::text(a, 0)?,
            a[1].as_str(),
        )?))
    }),
];
