//! Reads JSON text with PostgreSQL's lexer rules and its messages; `json` only validates, `jsonb`
//! builds the value.

use std::sync::Arc;

use super::{DEPTH_MAX, Json};
use crate::error::{Error, Result, state};
use crate::types::Numeric;

/// Parses JSON text into a value.
///
/// # Errors
/// 22P02 with PostgreSQL's DETAIL; 54001 when nested too deep; 22P05 for `\u0000`.
pub fn parse(text: &str) -> Result<Json> {
    let mut parser = Parser {
        text,
        at: 0,
        depth: 0,
        build: true,
    };
    let value = parser.value()?;
    parser.end()?;
    Ok(value)
}

/// Checks that `text` is JSON, as the input of type `json` does.
///
/// # Errors
/// As [`parse`].
pub fn validate(text: &str) -> Result<()> {
    let mut parser = Parser {
        text,
        at: 0,
        depth: 0,
        build: false,
    };
    parser.value()?;
    parser.end()
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    /// False = only check: no numbers, no strings are made.
    build: bool,
}

/// What was expected where something else stood.
#[derive(Clone, Copy)]
enum Expected {
    Value,
    End,
    ArrayFirst,
    ArrayNext,
    ObjectFirst,
    ObjectNext,
    ObjectLabel,
    ObjectColon,
}

impl Parser<'_> {
    fn skip_blanks(&mut self) {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&mut self) -> Option<u8> {
        self.skip_blanks();
        self.text.as_bytes().get(self.at).copied()
    }

    fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected(Expected::End)),
        }
    }

    fn value(&mut self) -> Result<Json> {
        self.value_where(Expected::Value)
    }

    fn value_where(&mut self, expected: Expected) -> Result<Json> {
        match self.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => self.string().map(|s| Json::String(Arc::from(s))),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => self.word(expected),
            None => Err(self.unexpected(expected)),
        }
    }

    fn descend(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(
                Error::new(state::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded")
                    .hint("Reduce the nesting of the JSON value."),
            );
        }
        Ok(())
    }

    fn array(&mut self) -> Result<Json> {
        self.descend()?;
        self.at += 1;
        let mut items = Vec::new();
        if self.peek() == Some(b']') {
            self.at += 1;
        } else {
            let mut expected = Expected::ArrayFirst;
            loop {
                let item = self.value_where(expected)?;
                if self.build {
                    items.push(item);
                }
                expected = Expected::Value;
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b']') => {
                        self.at += 1;
                        break;
                    }
                    _ => return Err(self.unexpected(Expected::ArrayNext)),
                }
            }
        }
        self.depth -= 1;
        Ok(Json::Array(items))
    }

    fn object(&mut self) -> Result<Json> {
        self.descend()?;
        self.at += 1;
        let mut pairs = Vec::new();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            let mut expected = Expected::ObjectFirst;
            loop {
                if self.peek() != Some(b'"') {
                    return Err(self.unexpected(expected));
                }
                expected = Expected::ObjectLabel;
                let key = self.string()?;
                if self.peek() != Some(b':') {
                    return Err(self.unexpected(Expected::ObjectColon));
                }
                self.at += 1;
                let value = self.value()?;
                if self.build {
                    pairs.push((Arc::from(key), value));
                }
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b'}') => {
                        self.at += 1;
                        break;
                    }
                    _ => return Err(self.unexpected(Expected::ObjectNext)),
                }
            }
        }
        self.depth -= 1;
        Ok(if self.build {
            Json::object(pairs)
        } else {
            Json::Null
        })
    }

    fn number(&mut self) -> Result<Json> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let digits = |mut at: usize| {
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            at
        };
        let mut at = start + usize::from(bytes[start] == b'-');
        let whole = at;
        at = digits(at);
        let mut valid = at > whole && (bytes[whole] != b'0' || at == whole + 1);
        if bytes.get(at) == Some(&b'.') {
            let fraction = at + 1;
            at = digits(fraction);
            valid &= at > fraction;
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            at += 1;
            if matches!(bytes.get(at), Some(b'+' | b'-')) {
                at += 1;
            }
            let exponent = at;
            at = digits(exponent);
            valid &= at > exponent;
        }
        let tail = self.word_end(at);
        if !valid || tail > at {
            self.at = start;
            return Err(self.invalid_token(tail));
        }
        self.at = at;
        if !self.build {
            return Ok(Json::Null);
        }
        Ok(Json::Number(Numeric::parse(&self.text[start..at])?))
    }

    /// Where the run of letters, digits, underscores and non-ASCII characters at `at` ends.
    fn word_end(&self, mut at: usize) -> usize {
        let bytes = self.text.as_bytes();
        while bytes
            .get(at)
            .is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80)
        {
            at += 1;
        }
        at
    }

    fn word(&mut self, expected: Expected) -> Result<Json> {
        let end = self.word_end(self.at);
        let value = match &self.text[self.at..end] {
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            "null" => Json::Null,
            _ => return Err(self.unexpected(expected)),
        };
        self.at = end;
        Ok(value)
    }

    fn string(&mut self) -> Result<String> {
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        let mut at = start;
        let mut out = String::new();
        let mut copied = start;
        loop {
            match bytes.get(at) {
                None => return Err(self.invalid_token(self.text.len())),
                Some(b'"') => {
                    if self.build {
                        out.push_str(&self.text[copied..at]);
                    }
                    self.at = at + 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    if self.build {
                        out.push_str(&self.text[copied..at]);
                    }
                    at = self.escape(at, &mut out)?;
                    copied = at;
                }
                Some(byte) if *byte < 0x20 => {
                    let detail = format!("Character with value 0x{byte:02x} must be escaped.");
                    return Err(self.error(detail, at));
                }
                Some(_) => at += 1,
            }
        }
    }

    /// Reads the escape at `at` (a backslash) into `out`; gives where it ends.
    fn escape(&self, at: usize, out: &mut String) -> Result<usize> {
        let Some(code) = self.text[at + 1..].chars().next() else {
            return Err(self.invalid_token(self.text.len()));
        };
        let plain = match code {
            '"' | '\\' | '/' => code,
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => return self.unicode_escape(at, out),
            _ => {
                let end = at + 1 + code.len_utf8();
                let detail = format!("Escape sequence \"\\{code}\" is invalid.");
                return Err(self.error(detail, end));
            }
        };
        out.push(plain);
        Ok(at + 2)
    }

    fn hex4(&self, at: usize) -> Result<u32> {
        self.text
            .get(at..at + 4)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| {
                let detail = "\"\\u\" must be followed by four hexadecimal digits.".to_owned();
                let bytes = self.text.as_bytes();
                let mut end = at;
                while end < at + 4 && bytes.get(end).is_some_and(u8::is_ascii_hexdigit) {
                    end += 1;
                }
                let wide = self.text[end..].chars().next().map_or(0, char::len_utf8);
                self.error(detail, end + wide)
            })
    }

    fn unicode_escape(&self, at: usize, out: &mut String) -> Result<usize> {
        let unit = self.hex4(at + 2)?;
        let first = at + 6;
        let mut end = first;
        if !self.build {
            return Ok(end);
        }
        let low_missing = || {
            self.error(
                "Unicode low surrogate must follow a high surrogate.".to_owned(),
                first,
            )
        };
        let code = match unit {
            0 => {
                return Err(Error::new(
                    state::UNTRANSLATABLE_CHARACTER,
                    "unsupported Unicode escape sequence",
                )
                .detail("\\u0000 cannot be converted to text.")
                .context(self.context(end)));
            }
            0xD800..0xDC00 => {
                if self.text.as_bytes().get(end..end + 2) != Some(b"\\u") {
                    return Err(low_missing());
                }
                let low = self.hex4(end + 2)?;
                if !(0xDC00..0xE000).contains(&low) {
                    if (0xD800..0xDC00).contains(&low) {
                        let detail = "Unicode high surrogate must not follow a high surrogate.";
                        return Err(self.error(detail.to_owned(), end + 6));
                    }
                    return Err(low_missing());
                }
                end += 6;
                0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)
            }
            0xDC00..0xE000 => return Err(low_missing()),
            unit => unit,
        };
        out.push(char::from_u32(code).ok_or_else(low_missing)?);
        Ok(end)
    }

    /// The token that stands at the current place, for messages.
    fn token(&mut self) -> (usize, usize) {
        self.skip_blanks();
        let start = self.at;
        let first = self.text[start..].chars().next().map_or(0, char::len_utf8);
        let end = match self.text.as_bytes().get(start) {
            Some(b'"') => {
                let mut at = start + 1;
                while at < self.text.len() && self.text.as_bytes()[at] != b'"' {
                    at += 1;
                }
                (at + 1).min(self.text.len())
            }
            Some(b'{' | b'}' | b'[' | b']' | b',' | b':') => start + 1,
            _ => self.word_end(start).max(start + first),
        };
        (start, end)
    }

    fn unexpected(&mut self, expected: Expected) -> Error {
        let (start, end) = self.token();
        let token = self.text[start..end].to_owned();
        if token.is_empty() {
            return self.error("The input string ended unexpectedly.".to_owned(), end);
        }
        let bytes = token.as_bytes();
        let known = matches!(bytes[0], b'{' | b'}' | b'[' | b']' | b',' | b':')
            || matches!(token.as_str(), "true" | "false" | "null");
        if bytes[0] == b'"' {
            // A string that does not end or has a wrong escape is reported as such.
            if let Err(error) = self.string() {
                return error;
            }
        } else if matches!(bytes[0], b'-' | b'0'..=b'9') {
            self.at = start;
            if let Err(error) = self.number() {
                return error;
            }
        } else if !known {
            return self.invalid_token(end);
        }
        let end = if known { end } else { self.at.max(end) };
        let token = &self.text[start..end];
        let detail = match expected {
            Expected::Value => format!("Expected JSON value, but found \"{token}\"."),
            Expected::End => format!("Expected end of input, but found \"{token}\"."),
            Expected::ArrayFirst => {
                format!("Expected array element or \"]\", but found \"{token}\".")
            }
            Expected::ArrayNext => format!("Expected \",\" or \"]\", but found \"{token}\"."),
            Expected::ObjectFirst => format!("Expected string or \"}}\", but found \"{token}\"."),
            Expected::ObjectNext => format!("Expected \",\" or \"}}\", but found \"{token}\"."),
            Expected::ObjectLabel => format!("Expected string, but found \"{token}\"."),
            Expected::ObjectColon => format!("Expected \":\", but found \"{token}\"."),
        };
        self.error(detail, end)
    }

    fn invalid_token(&self, end: usize) -> Error {
        let token = &self.text[self.at..end];
        self.error(format!("Token \"{token}\" is invalid."), end)
    }

    fn error(&self, detail: String, end: usize) -> Error {
        Error::new(
            state::INVALID_TEXT_REPRESENTATION,
            "invalid input syntax for type json",
        )
        .detail(detail)
        .context(self.context(end))
    }

    /// `JSON data, line 1: {"a": b...` up to `end`.
    fn context(&self, end: usize) -> String {
        let line = self.text[..end].matches('\n').count() + 1;
        let mut start = self.text[..end].rfind('\n').map_or(0, |at| at + 1);
        let mut prefix = "";
        if end - start >= 50 {
            start = end - 50;
            while !self.text.is_char_boundary(start) {
                start += 1;
            }
            prefix = "...";
        }
        let more = end < self.text.len() && !self.text[end..].starts_with(['\n', '\r']);
        let suffix = if more { "..." } else { "" };
        format!(
            "JSON data, line {line}: {prefix}{}{suffix}",
            &self.text[start..end]
        )
    }
}
