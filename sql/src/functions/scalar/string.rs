//! Strings: length, case, parts, padding, quoting, conversion. Positions and lengths count
//! characters.

use std::sync::Arc;

use super::arguments as arg;
use crate::error::{Error, Result, state};
use crate::functions::{Evaluation, Resolved, ScalarFunction};
use crate::types::kind::oid;
use crate::types::order::trim_blanks;
use crate::types::text::{quote_identifier, split_identifiers};
use crate::types::{Array, Datum, Type, typmod};

/// The longest string a function makes (1 GB, as in PostgreSQL).
const BYTES_MAX: usize = 0x3fff_ffff;

fn too_large() -> Error {
    Error::new(state::PROGRAM_LIMIT_EXCEEDED, "requested length too large")
}

/// The byte offset of the character at `index`, the end when there is none.
pub(super) fn offset(text: &str, index: usize) -> usize {
    if text.is_ascii() {
        return index.min(text.len());
    }
    text.char_indices()
        .nth(index)
        .map_or(text.len(), |(at, _)| at)
}

/// Number of characters.
pub(super) fn length(text: &str) -> usize {
    if text.is_ascii() {
        text.len()
    } else {
        text.chars().count()
    }
}

/// `substring(text from start for length)`; without length to the end.
///
/// # Errors
/// 22011 for a negative length.
pub(super) fn substring(text: &str, start: i32, count: Option<i32>) -> Result<&str> {
    let from = i64::from(start) - 1;
    let to = match count {
        None => i64::MAX,
        Some(count) => {
            let end = from + i64::from(count);
            if end < from {
                return Err(Error::new(
                    state::SUBSTRING_ERROR,
                    "negative substring length not allowed",
                ));
            }
            end
        }
    };
    if to <= 0 {
        return Ok("");
    }
    let from = from.max(0) as usize;
    let begin = offset(text, from);
    let rest = &text[begin..];
    let wanted = usize::try_from(to).unwrap_or(usize::MAX) - from.min(to as usize);
    Ok(&rest[..offset(rest, wanted)])
}

fn upper(text: &str) -> String {
    text.chars().map(upper_char).collect()
}

fn lower(text: &str) -> String {
    text.chars().map(lower_char).collect()
}

/// One character for one, as C's `towupper`.
fn upper_char(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_uppercase();
    }
    let mut mapped = c.to_uppercase();
    match (mapped.next(), mapped.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

fn lower_char(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    let mut mapped = c.to_lowercase();
    match (mapped.next(), mapped.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

fn initcap(text: &str) -> String {
    let mut inside = false;
    text.chars()
        .map(|c| {
            let out = if inside { lower_char(c) } else { upper_char(c) };
            inside = c.is_alphanumeric();
            out
        })
        .collect()
}

fn trim_set<'a>(text: &'a str, set: &str, left: bool, right: bool) -> &'a str {
    let inside = |c: char| set.contains(c);
    let text = if left {
        text.trim_start_matches(inside)
    } else {
        text
    };
    if right {
        text.trim_end_matches(inside)
    } else {
        text
    }
}

fn pad(text: &str, width: i32, fill: &str, left: bool) -> Result<String> {
    let width = width.max(0) as usize;
    let own = length(text);
    if own >= width || fill.is_empty() {
        return Ok(text[..offset(text, width)].to_owned());
    }
    let missing = width - own;
    if missing.saturating_mul(fill.len()) > BYTES_MAX {
        return Err(too_large());
    }
    let filling: String = fill.chars().cycle().take(missing).collect();
    Ok(if left {
        filling + text
    } else {
        format!("{text}{filling}")
    })
}

fn repeat(text: &str, count: i32) -> Result<String> {
    let count = count.max(0) as usize;
    if text.len().saturating_mul(count) > BYTES_MAX {
        return Err(too_large());
    }
    Ok(text.repeat(count))
}

fn translate(text: &str, from: &str, to: &str) -> String {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    text.chars()
        .filter_map(|c| match from.iter().position(|f| *f == c) {
            None => Some(c),
            Some(at) => to.get(at).copied(),
        })
        .collect()
}

fn split_part<'a>(text: &'a str, separator: &str, field: i32) -> Result<&'a str> {
    if field == 0 {
        return Err(Error::new(
            state::INVALID_PARAMETER_VALUE,
            "field position must not be zero",
        ));
    }
    if text.is_empty() {
        return Ok("");
    }
    if separator.is_empty() {
        return Ok(if field == 1 || field == -1 { text } else { "" });
    }
    let index = field.unsigned_abs() as usize - 1;
    let part = if field > 0 {
        text.split(separator).nth(index)
    } else {
        // Counted from the end over the parts as they are found from the start.
        let parts: Vec<&str> = text.split(separator).collect();
        parts.len().checked_sub(index + 1).map(|at| parts[at])
    };
    Ok(part.unwrap_or(""))
}

fn overlay(text: &str, new: &str, start: i32, count: i32) -> Result<String> {
    if start <= 0 {
        return Err(Error::new(
            state::SUBSTRING_ERROR,
            "negative substring length not allowed",
        ));
    }
    let after = start
        .checked_add(count)
        .ok_or_else(|| super::integer::out_of_range("integer"))?;
    let head = substring(text, 1, Some(start - 1))?;
    let tail = substring(text, after, None)?;
    Ok(format!("{head}{new}{tail}"))
}

fn chr(code: i32) -> Result<Datum> {
    let limit = |message: String| Err(Error::new(state::PROGRAM_LIMIT_EXCEEDED, message));
    if code < 0 {
        return Err(Error::new(
            state::INVALID_PARAMETER_VALUE,
            "character number must be positive",
        ));
    }
    if code == 0 {
        return limit("null character not permitted".to_owned());
    }
    if code > 0x10_ffff {
        return limit(format!(
            "requested character too large for encoding: {code}"
        ));
    }
    match char::from_u32(code as u32) {
        Some(c) => Ok(Datum::text(c.encode_utf8(&mut [0; 4]))),
        None => limit(format!(
            "requested character not valid for encoding: {code}"
        )),
    }
}

/// `quote_literal`: with `E''` when a backslash is inside.
pub(super) fn quote_literal(text: &str) -> String {
    let escape = if text.contains('\\') { " E" } else { "" };
    let escape = escape.trim_start();
    let mut out = String::with_capacity(text.len() + 3);
    out.push_str(escape);
    out.push('\'');
    for c in text.chars() {
        if matches!(c, '\'' | '\\') {
            out.push(c);
        }
        out.push(c);
    }
    out.push('\'');
    out
}

/// The text of any value, for `concat`, `format`, `||`; `None` for NULL.
pub(super) fn text_of(value: &Datum, kind: Type, evaluation: &Evaluation<'_>) -> Option<Arc<str>> {
    match value {
        Datum::Null => None,
        Datum::Text(text) => Some(text.clone()),
        other => other.to_text(kind, evaluation.format).map(Arc::from),
    }
}

/// The text that a cast gives: a boolean in full.
fn cast_text(value: &Datum, kind: Type, evaluation: &Evaluation<'_>) -> Arc<str> {
    match value {
        Datum::Bool(value) => Arc::from(if *value { "true" } else { "false" }),
        other => text_of(other, kind, evaluation).unwrap_or_else(|| Arc::from("")),
    }
}

/// The values of a `VARIADIC "any"` call from `first` on, with their types; an explicit VARIADIC
/// array gives its elements.
fn spread(call: &Resolved, a: &[Datum], first: usize) -> Option<Vec<(Datum, Type)>> {
    if call.is_spread() {
        return match a.get(first) {
            Some(Datum::Array(array)) => Some(
                array
                    .values
                    .iter()
                    .map(|v| (v.clone(), array.element))
                    .collect(),
            ),
            _ => None,
        };
    }
    Some(
        a.iter()
            .enumerate()
            .skip(first)
            .map(|(index, value)| (value.clone(), call.parameter(index)))
            .collect(),
    )
}

fn concat(e: &mut Evaluation<'_>, call: &Resolved, a: &[Datum]) -> Result<Datum> {
    let Some(values) = spread(call, a, 0) else {
        return Ok(Datum::Null);
    };
    let mut out = String::new();
    for (value, kind) in &values {
        if let Some(text) = text_of(value, *kind, e) {
            out.push_str(&text);
        }
    }
    Ok(Datum::from(out))
}

fn concat_ws(e: &mut Evaluation<'_>, call: &Resolved, a: &[Datum]) -> Result<Datum> {
    if a[0].is_null() {
        return Ok(Datum::Null);
    }
    let separator = arg::text(a, 0)?;
    let Some(values) = spread(call, a, 1) else {
        return Ok(Datum::Null);
    };
    let parts: Vec<Arc<str>> = values
        .iter()
        .filter_map(|(value, kind)| text_of(value, *kind, e))
        .collect();
    Ok(Datum::from(parts.join(separator)))
}

/// One `%` directive of `format`.
struct Directive {
    position: Option<usize>,
    left: bool,
    /// A fixed width, or the argument that holds it (`None` inside = the next one).
    width: Width,
    kind: char,
}

enum Width {
    None,
    Fixed(i32),
    Argument(Option<usize>),
}

fn format_error(message: &str) -> Error {
    Error::new(state::INVALID_PARAMETER_VALUE, message)
}

fn read_number(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Option<i32>> {
    let mut value: Option<i32> = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        let next = value
            .unwrap_or(0)
            .checked_mul(10)
            .and_then(|v| v.checked_add(digit as i32));
        value = Some(next.ok_or_else(|| format_error("number is out of range"))?);
    }
    Ok(value)
}

fn unterminated() -> Error {
    format_error("unterminated format() type specifier").hint("For a single \"%\" use \"%%\".")
}

fn read_directive(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Directive> {
    let zero = || format_error("format specifies argument 0, but arguments are numbered from 1");
    let mut directive = Directive {
        position: None,
        left: false,
        width: Width::None,
        kind: ' ',
    };
    let mut number = read_number(chars)?;
    if number.is_some() && chars.peek() == Some(&'$') {
        chars.next();
        let position = number.take().unwrap_or(0);
        if position == 0 {
            return Err(zero());
        }
        directive.position = Some(position as usize);
    }
    if number.is_none() {
        while chars.peek() == Some(&'-') {
            chars.next();
            directive.left = true;
        }
        if chars.peek() == Some(&'*') {
            chars.next();
            let argument = read_number(chars)?;
            if let Some(index) = argument {
                if chars.next() != Some('$') {
                    return Err(format_error(
                        "width argument position must be ended by \"$\"",
                    ));
                }
                if index == 0 {
                    return Err(zero());
                }
            }
            directive.width = Width::Argument(argument.map(|index| index as usize));
        } else {
            number = read_number(chars)?;
        }
    }
    if let Some(width) = number {
        directive.width = Width::Fixed(width);
    }
    directive.kind = chars.next().ok_or_else(unterminated)?;
    Ok(directive)
}

fn format(e: &mut Evaluation<'_>, call: &Resolved, a: &[Datum]) -> Result<Datum> {
    if a[0].is_null() {
        return Ok(Datum::Null);
    }
    let pattern = arg::text(a, 0)?;
    let values = spread(call, a, 1).unwrap_or_default();
    let mut out = String::new();
    let mut next = 0;
    let mut chars = pattern.chars().peekable();
    let few = || format_error("too few arguments for format()");
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.peek().is_none() {
            return Err(unterminated());
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            out.push('%');
            continue;
        }
        let mut directive = read_directive(&mut chars)?;
        if !matches!(directive.kind, 's' | 'I' | 'L') {
            let kind = directive.kind;
            return Err(
                format_error(&format!("unrecognized format() type specifier \"{kind}\""))
                    .hint("For a single \"%\" use \"%%\"."),
            );
        }
        let mut width = 0i32;
        match directive.width {
            Width::None => {}
            Width::Fixed(fixed) => width = fixed,
            Width::Argument(index) => {
                let at = index.map_or(next, |index| index - 1);
                next = at + 1;
                let (value, _) = values.get(at).ok_or_else(few)?;
                width = value
                    .as_i64()
                    .and_then(|w| i32::try_from(w).ok())
                    .unwrap_or(0);
            }
        }
        if width < 0 {
            directive.left = true;
            width = width
                .checked_neg()
                .ok_or_else(|| format_error("number is out of range"))?;
        }
        let at = directive.position.map_or(next, |position| position - 1);
        next = at + 1;
        let (value, kind) = values.get(at).ok_or_else(few)?;
        let text = directive_text(directive.kind, text_of(value, *kind, e))?;
        push_padded(&text, width as usize, directive.left, &mut out);
    }
    Ok(Datum::from(out))
}

fn directive_text(kind: char, text: Option<Arc<str>>) -> Result<String> {
    match (kind, text) {
        ('s', text) => Ok(text.map(|text| text.to_string()).unwrap_or_default()),
        ('I', Some(text)) => Ok(quote_identifier(&text)),
        ('I', None) => Err(Error::new(
            state::NULL_VALUE_NOT_ALLOWED,
            "null values cannot be formatted as an SQL identifier",
        )),
        (_, Some(text)) => Ok(quote_literal(&text)),
        (_, None) => Ok("NULL".to_owned()),
    }
}

fn push_padded(text: &str, width: usize, left: bool, out: &mut String) {
    let missing = width.saturating_sub(length(text));
    let blanks = std::iter::repeat_n(' ', missing);
    if left {
        out.push_str(text);
        out.extend(blanks);
    } else {
        out.extend(blanks);
        out.push_str(text);
    }
}

fn to_array(text: Option<&str>, separator: Option<&str>, null: Option<&str>) -> Datum {
    let Some(text) = text else {
        return Datum::Null;
    };
    let values: Vec<Datum> = split_all(text, separator)
        .into_iter()
        .map(|part| {
            if null == Some(part.as_str()) {
                Datum::Null
            } else {
                Datum::from(part)
            }
        })
        .collect();
    Datum::array(Array::of(Type::TEXT, values))
}

/// Parts by a separator: `None` = single characters, empty = one part.
pub(in crate::functions) fn split_all(text: &str, separator: Option<&str>) -> Vec<String> {
    match separator {
        _ if text.is_empty() => Vec::new(),
        None => text.chars().map(String::from).collect(),
        Some("") => vec![text.to_owned()],
        Some(separator) => text.split(separator).map(str::to_owned).collect(),
    }
}

fn optional(a: &[Datum], index: usize) -> Option<&str> {
    a.get(index).and_then(Datum::as_str)
}

fn array_to_string(e: &Evaluation<'_>, a: &[Datum], null: Option<&str>) -> Result<Datum> {
    let array = arg::array(a, 0)?;
    let separator = arg::text(a, 1)?;
    let mut out = String::new();
    let mut first = true;
    for value in &array.values {
        let text = text_of(value, array.element, e);
        let Some(text) = text.as_deref().or(null) else {
            continue;
        };
        if !first {
            out.push_str(separator);
        }
        first = false;
        out.push_str(text);
    }
    Ok(Datum::from(out))
}

fn parse_ident(text: &str, strict: bool) -> Result<Datum> {
    let malformed = |detail: &str| {
        let error = Error::new(
            state::INVALID_PARAMETER_VALUE,
            format!("string is not a valid identifier: \"{text}\""),
        );
        if detail.is_empty() {
            error
        } else {
            error.detail(detail)
        }
    };
    let mut candidate = text.trim();
    loop {
        if let Some(parts) = split_identifiers(candidate) {
            let plain = |part: &String| {
                part.starts_with(|c: char| c.is_alphabetic() || c == '_')
                    && part
                        .chars()
                        .all(|c| c.is_alphanumeric() || c == '_' || c == '$')
            };
            let quoted = candidate.contains('"');
            if quoted || parts.iter().all(plain) {
                let values = parts.into_iter().map(Datum::from).collect();
                return Ok(Datum::array(Array::of(Type::TEXT, values)));
            }
        }
        if strict || candidate.is_empty() {
            return Err(malformed(""));
        }
        // Without strictness what follows the identifier is ignored.
        let mut shorter = candidate.chars();
        shorter.next_back();
        candidate = shorter.as_str().trim_end();
    }
}

fn unistr(text: &str) -> Result<String> {
    let invalid = || {
        Error::new(state::SYNTAX_ERROR, "invalid Unicode escape")
            .hint("Unicode escapes must be \\XXXX, \\+XXXXXX, \\uXXXX, or \\UXXXXXXXX.")
    };
    let mut out = String::new();
    let mut high: Option<u32> = None;
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        if let Some(after) = tail.strip_prefix('\\') {
            out.push('\\');
            rest = after;
            continue;
        }
        let (digits, skip) = match tail.chars().next() {
            Some('+') => (6, 1),
            Some('u') => (4, 1),
            Some('U') => (8, 1),
            _ => (4, 0),
        };
        let code = tail
            .get(skip..skip + digits)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(invalid)?;
        rest = &tail[skip + digits..];
        match (high.take(), code) {
            (None, 0xD800..0xDC00) => high = Some(code),
            (Some(high), 0xDC00..0xE000) => {
                let joined = 0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00);
                out.push(char::from_u32(joined).ok_or_else(invalid)?);
            }
            (None, code) => {
                let c = char::from_u32(code).filter(|c| *c != '\0');
                out.push(c.ok_or_else(|| {
                    Error::new(state::SYNTAX_ERROR, "invalid Unicode escape value")
                })?);
            }
            (Some(_), _) => {
                return Err(Error::new(
                    state::SYNTAX_ERROR,
                    "invalid Unicode surrogate pair",
                ));
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn string_type(a: &[Datum], kind: u32) -> Result<Datum> {
    let kind = Type::new(kind).with_modifier(arg::int4(a, 1)?);
    typmod::apply(a[0].clone(), kind, arg::boolean(a, 2)?)
}

fn clip(text: &str, count: i32, from_left: bool) -> &str {
    // The smallest integer has no opposite: PostgreSQL then gives all of it from the right.
    if count == i32::MIN && !from_left {
        return text;
    }
    let total = length(text) as i64;
    let count = i64::from(count);
    let keep = if count >= 0 {
        count.min(total)
    } else {
        (total + count).max(0)
    } as usize;
    if from_left {
        &text[..offset(text, keep)]
    } else {
        &text[offset(text, total as usize - keep)..]
    }
}

fn count_of(value: usize) -> Result<Datum> {
    Ok(Datum::Int4(i32::try_from(value).unwrap_or(i32::MAX)))
}

/// All functions on strings but patterns and `to_char`.
pub(super) const TABLE: &[(&str, ScalarFunction)] = &[
    ("textlen", |_, _, a| count_of(length(arg::text(a, 0)?))),
    ("bpcharlen", |_, _, a| {
        count_of(length(trim_blanks(arg::text(a, 0)?)))
    }),
    ("textoctetlen", |_, _, a| count_of(arg::text(a, 0)?.len())),
    ("bpcharoctetlen", |_, _, a| count_of(arg::text(a, 0)?.len())),
    ("bit_length@1811", |_, _, a| {
        count_of(arg::text(a, 0)?.len() * 8)
    }),
    ("textcat", |_, _, a| {
        let (x, y) = (arg::text(a, 0)?, arg::text(a, 1)?);
        let mut out = String::with_capacity(x.len() + y.len());
        out.push_str(x);
        out.push_str(y);
        Ok(Datum::from(out))
    }),
    ("textanycat@2003", |e, call, a| {
        let right = cast_text(&a[1], call.parameter(1), e);
        Ok(Datum::from(format!("{}{right}", arg::text(a, 0)?)))
    }),
    ("anytextcat@2004", |e, call, a| {
        let left = cast_text(&a[0], call.parameter(0), e);
        Ok(Datum::from(format!("{left}{}", arg::text(a, 1)?)))
    }),
    ("text_concat", concat),
    ("text_concat_ws", concat_ws),
    ("text_format", format),
    ("text_format_nv", format),
    ("lower", |_, _, a| Ok(Datum::from(lower(arg::text(a, 0)?)))),
    ("upper", |_, _, a| Ok(Datum::from(upper(arg::text(a, 0)?)))),
    ("initcap", |_, _, a| {
        Ok(Datum::from(initcap(arg::text(a, 0)?)))
    }),
    ("text_substr", |_, _, a| {
        Ok(Datum::text(substring(
            arg::text(a, 0)?,
            arg::int4(a, 1)?,
            Some(arg::int4(a, 2)?),
        )?))
    }),
    ("text_substr_no_len", |_, _, a| {
        Ok(Datum::text(substring(
            arg::text(a, 0)?,
            arg::int4(a, 1)?,
            None,
        )?))
    }),
    ("textpos", |_, _, a| {
        let text = arg::text(a, 0)?;
        count_of(
            text.find(arg::text(a, 1)?)
                .map_or(0, |at| length(&text[..at]) + 1),
        )
    }),
    ("text_starts_with", |_, _, a| {
        Ok(Datum::Bool(arg::text(a, 0)?.starts_with(arg::text(a, 1)?)))
    }),
    ("btrim", |_, _, a| {
        Ok(Datum::text(trim_set(
            arg::text(a, 0)?,
            arg::text(a, 1)?,
            true,
            true,
        )))
    }),
    ("btrim1", |_, _, a| {
        Ok(Datum::text(trim_set(arg::text(a, 0)?, " ", true, true)))
    }),
    ("ltrim", |_, _, a| {
        Ok(Datum::text(trim_set(
            arg::text(a, 0)?,
            arg::text(a, 1)?,
            true,
            false,
        )))
    }),
    ("ltrim1", |_, _, a| {
        Ok(Datum::text(trim_set(arg::text(a, 0)?, " ", true, false)))
    }),
    ("rtrim", |_, _, a| {
        Ok(Datum::text(trim_set(
            arg::text(a, 0)?,
            arg::text(a, 1)?,
            false,
            true,
        )))
    }),
    ("rtrim1", |_, _, a| {
        Ok(Datum::text(trim_set(arg::text(a, 0)?, " ", false, true)))
    }),
    ("lpad", |_, _, a| {
        Ok(Datum::from(pad(
            arg::text(a, 0)?,
            arg::int4(a, 1)?,
            arg::text(a, 2)?,
            true,
        )?))
    }),
    ("lpad@879", |_, _, a| {
        Ok(Datum::from(pad(
            arg::text(a, 0)?,
            arg::int4(a, 1)?,
            " ",
            true,
        )?))
    }),
    ("rpad", |_, _, a| {
        Ok(Datum::from(pad(
            arg::text(a, 0)?,
            arg::int4(a, 1)?,
            arg::text(a, 2)?,
            false,
        )?))
    }),
    ("rpad@880", |_, _, a| {
        Ok(Datum::from(pad(
            arg::text(a, 0)?,
            arg::int4(a, 1)?,
            " ",
            false,
        )?))
    }),
    ("repeat", |_, _, a| {
        Ok(Datum::from(repeat(arg::text(a, 0)?, arg::int4(a, 1)?)?))
    }),
    ("text_reverse", |_, _, a| {
        Ok(Datum::from(
            arg::text(a, 0)?.chars().rev().collect::<String>(),
        ))
    }),
    ("text_left", |_, _, a| {
        Ok(Datum::text(clip(arg::text(a, 0)?, arg::int4(a, 1)?, true)))
    }),
    ("text_right", |_, _, a| {
        Ok(Datum::text(clip(arg::text(a, 0)?, arg::int4(a, 1)?, false)))
    }),
    ("replace_text", |_, _, a| {
        let (text, from, to) = (arg::text(a, 0)?, arg::text(a, 1)?, arg::text(a, 2)?);
        if from.is_empty() {
            return Ok(a[0].clone());
        }
        Ok(Datum::from(text.replace(from, to)))
    }),
    ("translate", |_, _, a| {
        Ok(Datum::from(translate(
            arg::text(a, 0)?,
            arg::text(a, 1)?,
            arg::text(a, 2)?,
        )))
    }),
    ("split_part", |_, _, a| {
        Ok(Datum::text(split_part(
            arg::text(a, 0)?,
            arg::text(a, 1)?,
            arg::int4(a, 2)?,
        )?))
    }),
    ("textoverlay", |_, _, a| {
        let (start, count) = (arg::int4(a, 2)?, arg::int4(a, 3)?);
        Ok(Datum::from(overlay(
            arg::text(a, 0)?,
            arg::text(a, 1)?,
            start,
            count,
        )?))
    }),
    ("textoverlay_no_len", |_, _, a| {
        let new = arg::text(a, 1)?;
        let count = length(new) as i32;
        Ok(Datum::from(overlay(
            arg::text(a, 0)?,
            new,
            arg::int4(a, 2)?,
            count,
        )?))
    }),
    ("ascii", |_, _, a| {
        Ok(Datum::Int4(
            arg::text(a, 0)?.chars().next().map_or(0, |c| c as i32),
        ))
    }),
    ("chr", |_, _, a| chr(arg::int4(a, 0)?)),
    ("quote_ident", |_, _, a| {
        Ok(Datum::from(quote_identifier(arg::text(a, 0)?)))
    }),
    ("quote_literal", |_, _, a| {
        Ok(Datum::from(quote_literal(arg::text(a, 0)?)))
    }),
    ("quote_literal@1285", |e, call, a| {
        let text = text_of(&a[0], call.parameter(0), e).unwrap_or_default();
        Ok(Datum::from(quote_literal(&text)))
    }),
    ("quote_nullable", |_, _, a| {
        Ok(Datum::from(
            a[0].as_str().map_or("NULL".to_owned(), quote_literal),
        ))
    }),
    ("quote_nullable@1290", |e, call, a| {
        let text = text_of(&a[0], call.parameter(0), e);
        Ok(Datum::from(
            text.map_or("NULL".to_owned(), |text| quote_literal(&text)),
        ))
    }),
    ("text_to_array", |_, _, a| {
        Ok(to_array(optional(a, 0), optional(a, 1), None))
    }),
    ("text_to_array_null", |_, _, a| {
        Ok(to_array(optional(a, 0), optional(a, 1), optional(a, 2)))
    }),
    ("array_to_text", |e, _, a| array_to_string(e, a, None)),
    ("array_to_text_null", |e, _, a| {
        if a[0].is_null() || a[1].is_null() {
            return Ok(Datum::Null);
        }
        array_to_string(e, a, optional(a, 2))
    }),
    ("parse_ident", |_, _, a| {
        parse_ident(arg::text(a, 0)?, arg::boolean(a, 1)?)
    }),
    ("unistr", |_, _, a| {
        Ok(Datum::from(unistr(arg::text(a, 0)?)?))
    }),
    ("varchar", |_, _, a| string_type(a, oid::VARCHAR)),
    ("bpchar", |_, _, a| string_type(a, oid::BPCHAR)),
    ("name_text", |_, _, a| Ok(a[0].clone())),
    ("name_bpchar", |_, _, a| Ok(a[0].clone())),
    ("text_name", |_, _, a| {
        Ok(Datum::text(typmod::truncate_name(arg::text(a, 0)?)))
    }),
    ("bpchar_name", |_, _, a| {
        Ok(Datum::text(trim_blanks(typmod::truncate_name(arg::text(
            a, 0,
        )?))))
    }),
    ("nameconcatoid", |_, _, a| {
        let suffix = format!("_{}", arg::oid(a, 1)?);
        let name = arg::text(a, 0)?;
        let room = typmod::NAME_BYTES_MAX - suffix.len();
        let mut end = name.len().min(room);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        Ok(Datum::from(format!("{}{suffix}", &name[..end])))
    }),
    ("char_text", |_, _, a| {
        let mut out = Vec::new();
        Datum::Char(arg::char(a, 0)?).write_text(
            Type::CHAR,
            &crate::types::FormatSettings::default(),
            &mut out,
        );
        Ok(Datum::text(String::from_utf8_lossy(&out)))
    }),
    ("char_bpchar", |_, _, a| match arg::char(a, 0)? {
        0 => Ok(Datum::text("")),
        byte => Ok(Datum::text(char::from(byte).encode_utf8(&mut [0; 4]))),
    }),
    ("text_char", |_, _, a| {
        Datum::from_text(
            arg::text(a, 0)?,
            Type::CHAR,
            &crate::types::FormatSettings::default(),
        )
    }),
    ("booltext", |_, _, a| {
        Ok(Datum::text(if arg::boolean(a, 0)? {
            "true"
        } else {
            "false"
        }))
    }),
    ("oidvectortypes", |_, _, a| {
        let names: Vec<String> = arg::array(a, 0)?
            .values
            .iter()
            .map(|value| Type::new(value.as_i64().unwrap_or(0) as u32).name())
            .collect();
        Ok(Datum::from(names.join(", ")))
    }),
];
