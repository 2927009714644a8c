//! Taking `json` texts apart without changing them: fields and elements as slices of the text.

use crate::error::Result;
use crate::types::Json;

/// The outermost form of a JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outer {
    /// `{...}`.
    Object,
    /// `[...]`.
    Array,
    /// Anything else.
    Scalar,
}

fn blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// The outermost form.
pub fn outer(text: &str) -> Outer {
    match text.bytes().find(|b| !blank(*b)) {
        Some(b'{') => Outer::Object,
        Some(b'[') => Outer::Array,
        _ => Outer::Scalar,
    }
}

/// Where the string that begins at `at` ends.
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Where the value that begins at `at` ends.
fn value_end(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0usize;
    let mut at = at;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at = string_end(bytes, at);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b',' if depth == 0 => return at,
            byte if depth == 0 && blank(byte) => return at,
            _ => {}
        }
        at += 1;
    }
    at
}

fn skip(bytes: &[u8], mut at: usize, also: &[u8]) -> usize {
    while at < bytes.len() && (blank(bytes[at]) || also.contains(&bytes[at])) {
        at += 1;
    }
    at
}

/// The elements of an array's text.
pub fn elements(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = text
        .find('[')
        .map_or(bytes.len(), |open| skip(bytes, open + 1, b""));
    while at < bytes.len() && bytes[at] != b']' {
        let end = value_end(bytes, at);
        out.push(&text[at..end]);
        at = skip(bytes, end, b"");
        if bytes.get(at) == Some(&b',') {
            at = skip(bytes, at + 1, b"");
        }
    }
    out
}

/// The fields of an object's text, in its order, repeated keys included.
///
/// # Errors
/// 22P02 when the text is not JSON.
pub fn fields(text: &str) -> Result<Vec<(String, &str)>> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = text
        .find('{')
        .map_or(bytes.len(), |open| skip(bytes, open + 1, b""));
    while bytes.get(at) == Some(&b'"') {
        let key_end = string_end(bytes, at);
        let key = match crate::types::json::parse(&text[at..key_end])? {
            Json::String(key) => key.to_string(),
            _ => String::new(),
        };
        at = skip(bytes, key_end, b":");
        let end = value_end(bytes, at);
        out.push((key, &text[at..end]));
        at = skip(bytes, end, b"");
        if bytes.get(at) == Some(&b',') {
            at = skip(bytes, at + 1, b"");
        }
    }
    Ok(out)
}

/// The last field of a name.
///
/// # Errors
/// As [`fields`].
pub fn field<'a>(text: &'a str, name: &str) -> Result<Option<&'a str>> {
    Ok(fields(text)?
        .into_iter()
        .rev()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value))
}

/// The element at an index; negative ones count from the end.
pub fn element(text: &str, index: i64) -> Option<&str> {
    let items = elements(text);
    let at = if index < 0 {
        index + items.len() as i64
    } else {
        index
    };
    usize::try_from(at)
        .ok()
        .and_then(|at| items.get(at).copied())
}

/// The text behind `->>`: a string without its quotes, nothing for null.
///
/// # Errors
/// 22P05 for `\u0000`.
pub fn plain(text: &str) -> Result<Option<String>> {
    let trimmed = text.trim();
    if trimmed == "null" {
        return Ok(None);
    }
    if trimmed.starts_with('"') {
        return Ok(match crate::types::json::parse(trimmed)? {
            Json::String(text) => Some(text.to_string()),
            other => Some(other.to_string()),
        });
    }
    Ok(Some(trimmed.to_owned()))
}
