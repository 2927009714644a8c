//! Regular expressions: PostgreSQL's advanced syntax translated for the `regex` crate, and the
//! functions over it. Back references and lookaround are not translated (0A000).

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use regex::{Captures, Regex, RegexBuilder};

use super::arguments as arg;
use super::string::{length, offset};
use crate::error::{Error, Result, state};
use crate::functions::ScalarFunction;
use crate::types::{Array, Datum, Type};

/// Compiled expressions kept, by pattern and flags; the oldest half goes when full.
const CACHE_MAX: usize = 256;

/// The largest compiled expression, in bytes.
const COMPILED_BYTES_MAX: usize = 16 << 20;

/// Flags of a regular expression function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::functions) struct Flags {
    insensitive: bool,
    expanded: bool,
    literal: bool,
    /// `.` and negated classes do not match a newline.
    newline_stops: bool,
    /// `^` and `$` match at lines.
    newline_anchors: bool,
    /// `g`: all matches.
    pub global: bool,
}

fn invalid_regex(reason: &str) -> Error {
    Error::new(
        state::INVALID_REGULAR_EXPRESSION,
        format!("invalid regular expression: {reason}"),
    )
}

impl Flags {
    /// Reads an option string.
    ///
    /// # Errors
    /// 22023 for an unknown letter.
    pub fn parse(text: &str) -> Result<Flags> {
        let mut flags = Flags::default();
        for letter in text.chars() {
            match letter {
                'g' => flags.global = true,
                _ if flags.embedded(letter) => {}
                _ => {
                    return Err(Error::new(
                        state::INVALID_PARAMETER_VALUE,
                        format!("invalid regular expression option: \"{letter}\""),
                    ));
                }
            }
        }
        Ok(flags)
    }

    /// Applies one letter that may also stand inside an expression.
    fn embedded(&mut self, letter: char) -> bool {
        match letter {
            'i' => self.insensitive = true,
            'c' => self.insensitive = false,
            'x' => self.expanded = true,
            't' => self.expanded = false,
            'q' => self.literal = true,
            'n' | 'm' => {
                self.newline_stops = true;
                self.newline_anchors = true;
            }
            's' => {
                self.newline_stops = false;
                self.newline_anchors = false;
            }
            'p' => {
                self.newline_stops = true;
                self.newline_anchors = false;
            }
            'w' => {
                self.newline_stops = false;
                self.newline_anchors = true;
            }
            'b' | 'e' => {}
            _ => return false,
        }
        true
    }
}

static CACHE: Mutex<Option<HashMap<(String, Flags), (u64, Arc<Regex>)>>> = Mutex::new(None);

/// The compiled form of a pattern.
///
/// # Errors
/// 2201B for an invalid expression, 0A000 for what is not translated.
pub(in crate::functions) fn compile(pattern: &str, flags: Flags) -> Result<Arc<Regex>> {
    let key = (
        pattern.to_owned(),
        Flags {
            global: false,
            ..flags
        },
    );
    let mut guard = CACHE.lock();
    let cache = guard.get_or_insert_with(HashMap::new);
    let clock = cache.len() as u64;
    if let Some((_, regex)) = cache.get(&key) {
        return Ok(regex.clone());
    }
    let regex = Arc::new(build(pattern, key.1)?);
    if cache.len() >= CACHE_MAX {
        cache.clear();
    }
    cache.insert(key, (clock, regex.clone()));
    Ok(regex)
}

fn build(pattern: &str, mut flags: Flags) -> Result<Regex> {
    let mut body = pattern;
    if let Some(rest) = body.strip_prefix("***=") {
        body = rest;
        flags.literal = true;
    } else if let Some(rest) = body.strip_prefix("***:") {
        body = rest;
    } else if body.starts_with("***") {
        return Err(invalid_regex("invalid regexp (reg version 0.8)"));
    }
    if !flags.literal
        && let Some(rest) = body.strip_prefix("(?")
        && let Some((letters, tail)) = rest.split_once(')')
        && !letters.is_empty()
        && letters.bytes().all(|b| b.is_ascii_lowercase())
    {
        for letter in letters.chars() {
            if !flags.embedded(letter) {
                return Err(invalid_regex("invalid embedded option"));
            }
        }
        body = tail;
    }
    let translated = if flags.literal {
        regex::escape(body)
    } else {
        Translator {
            chars: body.chars().collect(),
            at: 0,
            flags,
            out: String::new(),
            depth: 0,
        }
        .run()?
    };
    RegexBuilder::new(&translated)
        .case_insensitive(flags.insensitive)
        .dot_matches_new_line(!flags.newline_stops)
        .multi_line(flags.newline_anchors)
        .size_limit(COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => invalid_regex("regular expression is too complex"),
            _ => invalid_regex("quantifier operand invalid"),
        })
}

/// Rewrites PostgreSQL's syntax for the `regex` crate.
struct Translator {
    chars: Vec<char>,
    at: usize,
    flags: Flags,
    out: String,
    depth: usize,
}

impl Translator {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn run(mut self) -> Result<String> {
        // Whether something stands before that a quantifier can count.
        let mut operand = false;
        while let Some(c) = self.peek(0) {
            self.at += 1;
            match c {
                '\\' => operand = self.escape()?,
                '[' => {
                    self.bracket()?;
                    operand = true;
                }
                '(' => {
                    self.open()?;
                    operand = false;
                }
                ')' if self.depth > 0 => {
                    self.depth -= 1;
                    self.out.push(')');
                    operand = true;
                }
                ')' => return Err(invalid_regex("parentheses () not balanced")),
                '|' => {
                    self.out.push('|');
                    operand = false;
                }
                '^' | '$' => {
                    self.out.push(c);
                    operand = false;
                }
                '*' | '+' | '?' => {
                    if !operand {
                        return Err(invalid_regex("quantifier operand invalid"));
                    }
                    self.out.push(c);
                    self.lazy();
                    operand = false;
                }
                '{' if self.peek(0).is_some_and(|c| c.is_ascii_digit()) => {
                    if !operand {
                        return Err(invalid_regex("quantifier operand invalid"));
                    }
                    self.bounds()?;
                    operand = false;
                }
                '#' if self.flags.expanded => {
                    while self.peek(0).is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                c if self.flags.expanded && c.is_whitespace() => {}
                '.' => {
                    self.out.push('.');
                    operand = true;
                }
                c => {
                    self.literal(c);
                    operand = true;
                }
            }
        }
        if self.depth > 0 {
            return Err(invalid_regex("parentheses () not balanced"));
        }
        Ok(self.out)
    }

    fn literal(&mut self, c: char) {
        let mut buffer = [0; 4];
        self.out
            .push_str(&regex::escape(c.encode_utf8(&mut buffer)));
    }

    fn lazy(&mut self) {
        if self.peek(0) == Some('?') {
            self.at += 1;
            self.out.push('?');
        }
    }

    fn bounds(&mut self) -> Result<()> {
        let mut body = String::new();
        loop {
            match self.peek(0) {
                Some('}') => {
                    self.at += 1;
                    break;
                }
                Some(c) if c.is_ascii_digit() || c == ',' => {
                    body.push(c);
                    self.at += 1;
                }
                _ => return Err(invalid_regex("invalid repetition count(s)")),
            }
        }
        let parts: Vec<&str> = body.split(',').collect();
        let number = |text: &str| text.parse::<u32>().ok().filter(|count| *count <= 255);
        let valid = match parts[..] {
            [low] => number(low).is_some(),
            [low, ""] => number(low).is_some(),
            [low, high] => {
                matches!((number(low), number(high)), (Some(low), Some(high)) if low <= high)
            }
            _ => false,
        };
        if !valid {
            return Err(invalid_regex("invalid repetition count(s)"));
        }
        self.out.push('{');
        self.out.push_str(&body);
        self.out.push('}');
        self.lazy();
        Ok(())
    }

    fn open(&mut self) -> Result<()> {
        self.depth += 1;
        if self.peek(0) != Some('?') {
            self.out.push('(');
            return Ok(());
        }
        match self.peek(1) {
            Some(':') => {
                self.at += 2;
                self.out.push_str("(?:");
                Ok(())
            }
            Some('=' | '!' | '<') => Err(Error::unsupported("lookaround in regular expressions")),
            Some('#') => {
                while self.peek(0).is_some_and(|c| c != ')') {
                    self.at += 1;
                }
                self.at += 1;
                self.depth -= 1;
                Ok(())
            }
            _ => Err(invalid_regex("quantifier operand invalid")),
        }
    }

    /// A code of up to `most` hexadecimal digits; at least one.
    fn hex(&mut self, exact: bool, most: usize) -> Result<char> {
        let start = self.at;
        while self.at - start < most && self.peek(0).is_some_and(|c| c.is_ascii_hexdigit()) {
            self.at += 1;
        }
        let digits: String = self.chars[start..self.at].iter().collect();
        let fits = !digits.is_empty() && (!exact || digits.len() == most);
        u32::from_str_radix(&digits, 16)
            .ok()
            .filter(|_| fits)
            .and_then(char::from_u32)
            .ok_or_else(|| invalid_regex("invalid escape \\ sequence"))
    }

    /// A character named by an escape; `None` = the escape is no character.
    fn escaped_char(&mut self, c: char) -> Result<Option<char>> {
        Ok(Some(match c {
            'a' => '\x07',
            'b' => '\x08',
            'e' => '\x1b',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            'B' => '\\',
            'c' => {
                let next = self
                    .peek(0)
                    .ok_or_else(|| invalid_regex("invalid escape \\ sequence"))?;
                self.at += 1;
                char::from((next as u32 as u8) & 0x1f)
            }
            'u' => self.hex(true, 4)?,
            'U' => self.hex(true, 8)?,
            'x' => self.hex(false, 255)?,
            '0' => {
                let mut code = 0;
                let mut count = 0;
                while count < 2 && self.peek(0).is_some_and(|c| c.is_digit(8)) {
                    code = code * 8 + self.peek(0).and_then(|c| c.to_digit(8)).unwrap_or(0);
                    self.at += 1;
                    count += 1;
                }
                char::from_u32(code).unwrap_or('\0')
            }
            c if !c.is_ascii_alphanumeric() => c,
            _ => return Ok(None),
        }))
    }

    /// True when the escape is something a quantifier can count.
    fn escape(&mut self) -> Result<bool> {
        let Some(c) = self.peek(0) else {
            return Err(invalid_regex("invalid escape \\ sequence"));
        };
        self.at += 1;
        let (class, operand) = match c {
            'd' => ("[0-9]", true),
            'D' => ("[^0-9]", true),
            's' => (r"\s", true),
            'S' => (r"\S", true),
            'w' => (r"[\p{L}\p{Nd}_]", true),
            'W' => (r"[^\p{L}\p{Nd}_]", true),
            'A' => (r"\A", false),
            'Z' => (r"\z", false),
            'm' => (r"\b{start}", false),
            'M' => (r"\b{end}", false),
            'y' => (r"\b", false),
            'Y' => (r"\B", false),
            '1'..='9' => {
                return Err(Error::unsupported("back references in regular expressions"));
            }
            _ => {
                let plain = self
                    .escaped_char(c)?
                    .ok_or_else(|| invalid_regex("invalid escape \\ sequence"))?;
                self.literal(plain);
                return Ok(true);
            }
        };
        self.out.push_str(class);
        Ok(operand)
    }

    /// A bracket expression; the `[` is behind.
    fn bracket(&mut self) -> Result<()> {
        let rest: String = self.chars[self.at..].iter().take(7).collect();
        if rest.starts_with("[:<:]]") {
            self.at += 6;
            self.out.push_str(r"\b{start}");
            return Ok(());
        }
        if rest.starts_with("[:>:]]") {
            self.at += 6;
            self.out.push_str(r"\b{end}");
            return Ok(());
        }
        let unbalanced = || invalid_regex("brackets [] not balanced");
        self.out.push('[');
        let negated = self.peek(0) == Some('^');
        if negated {
            self.at += 1;
            self.out.push('^');
            if self.flags.newline_stops {
                self.out.push_str("\\n");
            }
        }
        let mut first = true;
        loop {
            let c = self.peek(0).ok_or_else(unbalanced)?;
            self.at += 1;
            match c {
                ']' if !first => break,
                '[' if self.peek(0) == Some(':') => self.named_class()?,
                '\\' if self.peek(0).is_some_and(|c| "dswDSW".contains(c)) => {
                    let class = self.peek(0).unwrap_or('d');
                    self.at += 1;
                    self.out.push_str(match class {
                        'd' => "0-9",
                        's' => r"\s",
                        'w' => r"\p{L}\p{Nd}_",
                        _ => return Err(invalid_regex("invalid escape \\ sequence")),
                    });
                }
                c => {
                    let low = self.member(c)?;
                    self.class_char(low);
                    let range = self.peek(0) == Some('-') && self.peek(1) != Some(']');
                    if range {
                        self.at += 1;
                        let next = self.peek(0).ok_or_else(unbalanced)?;
                        self.at += 1;
                        let high = self.member(next)?;
                        if high < low {
                            return Err(invalid_regex("invalid character range"));
                        }
                        self.out.push('-');
                        self.class_char(high);
                    }
                }
            }
            first = false;
        }
        self.out.push(']');
        Ok(())
    }

    /// One member of a bracket expression.
    fn member(&mut self, c: char) -> Result<char> {
        match c {
            '\\' => {
                let next = self
                    .peek(0)
                    .ok_or_else(|| invalid_regex("invalid escape \\ sequence"))?;
                self.at += 1;
                self.escaped_char(next)?
                    .ok_or_else(|| invalid_regex("invalid escape \\ sequence"))
            }
            '[' if matches!(self.peek(0), Some('.' | '=')) => {
                let kind = self.peek(0);
                let named = self
                    .peek(1)
                    .ok_or_else(|| invalid_regex("brackets [] not balanced"))?;
                if self.peek(2) != kind || self.peek(3) != Some(']') {
                    return Err(invalid_regex("invalid collating element"));
                }
                self.at += 4;
                Ok(named)
            }
            c => Ok(c),
        }
    }

    fn class_char(&mut self, c: char) {
        if !c.is_alphanumeric() && !c.is_whitespace() && c.is_ascii() && !c.is_ascii_control() {
            self.out.push('\\');
            self.out.push(c);
        } else {
            self.literal(c);
        }
    }

    fn named_class(&mut self) -> Result<()> {
        let start = self.at + 1;
        let mut end = start;
        while self.chars.get(end).is_some_and(char::is_ascii_alphabetic) {
            end += 1;
        }
        let name: String = self.chars[start..end].iter().collect();
        if self.chars.get(end) != Some(&':') || self.chars.get(end + 1) != Some(&']') {
            return Err(invalid_regex("brackets [] not balanced"));
        }
        self.at = end + 2;
        self.out.push_str(match name.as_str() {
            "alpha" => r"\p{L}",
            "alnum" => r"\p{L}\p{Nd}",
            "digit" => "0-9",
            "upper" => r"\p{Lu}",
            "lower" => r"\p{Ll}",
            "space" => r"\s",
            "blank" => r"\x20\t",
            "punct" => r"!-/:-@\[-`{-~\p{P}",
            "cntrl" => r"\x00-\x1f\x7f",
            "graph" => r"!-~\p{L}\p{N}\p{P}\p{S}",
            "print" => r"\x20-~\p{L}\p{N}\p{P}\p{S}",
            "xdigit" => "0-9A-Fa-f",
            "word" => r"\p{L}\p{Nd}_",
            "ascii" => r"\x00-\x7f",
            _ => return Err(invalid_regex("invalid character class")),
        });
        Ok(())
    }
}

fn is_match(a: &[Datum], insensitive: bool) -> Result<bool> {
    let flags = Flags {
        insensitive,
        ..Flags::default()
    };
    Ok(compile(arg::text(a, 1)?, flags)?.is_match(arg::text(a, 0)?))
}

/// The groups of a match as a text array; without groups the whole match.
pub(in crate::functions) fn groups(captures: &Captures<'_>) -> Datum {
    let value = |index: usize| {
        captures
            .get(index)
            .map_or(Datum::Null, |m| Datum::text(m.as_str()))
    };
    let values = if captures.len() == 1 {
        vec![value(0)]
    } else {
        (1..captures.len()).map(value).collect()
    };
    Datum::array(Array::of(Type::TEXT, values))
}

fn not_global(name: &str) -> Error {
    Error::new(
        state::INVALID_PARAMETER_VALUE,
        format!("{name}() does not support the \"global\" option"),
    )
}

/// Flags for functions that find one match.
fn single(text: &str, name: &str) -> Result<Flags> {
    let flags = Flags::parse(text)?;
    if flags.global {
        return Err(match name {
            "regexp_match" => not_global(name).hint("Use the regexp_matches function instead."),
            _ => not_global(name),
        });
    }
    Ok(flags)
}

fn regexp_match(text: &str, pattern: &str, flags: &str) -> Result<Datum> {
    let regex = compile(pattern, single(flags, "regexp_match")?)?;
    Ok(regex
        .captures(text)
        .map_or(Datum::Null, |captures| groups(&captures)))
}

/// Appends a replacement with `\1`, `\&` and `\\` filled in.
fn expand(replacement: &str, captures: &Captures<'_>, out: &mut String) {
    let mut chars = replacement.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some(digit @ '1'..='9') => {
                let index = digit as usize - '0' as usize;
                out.push_str(captures.get(index).map_or("", |m| m.as_str()));
            }
            Some('&') => out.push_str(captures.get(0).map_or("", |m| m.as_str())),
            Some('\\') => out.push('\\'),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
}

/// Replaces the `n`th match from a character position on; `n` = 0 = all.
fn replace(text: &str, regex: &Regex, replacement: &str, start: i32, n: i32) -> Result<String> {
    let from = offset(text, start as usize - 1);
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for (index, captures) in matches_from(regex, text, from).enumerate() {
        if n != 0 && index + 1 < n as usize {
            continue;
        }
        let whole = captures.get(0).expect("a match has a whole");
        out.push_str(&text[copied..whole.start()]);
        expand(replacement, &captures, &mut out);
        copied = whole.end();
        if n != 0 {
            break;
        }
    }
    out.push_str(&text[copied..]);
    Ok(out)
}

/// All matches from a byte offset on; what stands before still counts for `^` and `\b`.
fn matches_from<'t>(
    regex: &'t Regex,
    text: &'t str,
    from: usize,
) -> impl Iterator<Item = Captures<'t>> {
    let mut at = Some(from);
    let mut last_end = None;
    std::iter::from_fn(move || {
        loop {
            let here = at?;
            let captures = regex.captures_at(text, here)?;
            let whole = captures.get(0)?;
            let empty = whole.start() == whole.end();
            at = if empty {
                let step = text[whole.end()..].chars().next().map(char::len_utf8);
                step.map(|step| whole.end() + step)
            } else {
                Some(whole.end())
            };
            // An empty match right behind the last one does not count.
            if empty && last_end == Some(whole.end()) {
                continue;
            }
            last_end = Some(whole.end());
            return Some(captures);
        }
    })
}

fn positive(value: i32, name: &str) -> Result<i32> {
    if value > 0 {
        return Ok(value);
    }
    Err(Error::new(
        state::INVALID_PARAMETER_VALUE,
        format!("invalid value for parameter \"{name}\": {value}"),
    ))
}

fn not_negative(value: i32, name: &str) -> Result<i32> {
    if value == 0 {
        Ok(0)
    } else {
        positive(value, name)
    }
}

fn text_or<'a>(a: &'a [Datum], index: usize, default: &'a str) -> &'a str {
    a.get(index).and_then(Datum::as_str).unwrap_or(default)
}

fn int_or(a: &[Datum], index: usize, default: i32) -> i32 {
    a.get(index)
        .and_then(Datum::as_i64)
        .map_or(default, |value| value as i32)
}

fn count(a: &[Datum]) -> Result<Datum> {
    let text = arg::text(a, 0)?;
    let start = positive(int_or(a, 2, 1), "start")?;
    let flags = Flags::parse(text_or(a, 3, ""))?;
    if flags.global {
        return Err(not_global("regexp_count"));
    }
    let regex = compile(arg::text(a, 1)?, flags)?;
    if start as usize > length(text) + 1 {
        return Ok(Datum::Int4(0));
    }
    let found = matches_from(&regex, text, offset(text, start as usize - 1)).count();
    Ok(Datum::Int4(found as i32))
}

fn instr(a: &[Datum]) -> Result<Datum> {
    let text = arg::text(a, 0)?;
    let start = positive(int_or(a, 2, 1), "start")?;
    let n = positive(int_or(a, 3, 1), "n")?;
    let end = int_or(a, 4, 0);
    if end != 0 && end != 1 {
        return Err(Error::new(
            state::INVALID_PARAMETER_VALUE,
            format!("invalid value for parameter \"endoption\": {end}"),
        ));
    }
    let flags = single(text_or(a, 5, ""), "regexp_instr")?;
    let group = not_negative(int_or(a, 6, 0), "subexpr")?;
    let regex = compile(arg::text(a, 1)?, flags)?;
    if start as usize > length(text) + 1 {
        return Ok(Datum::Int4(0));
    }
    let from = offset(text, start as usize - 1);
    let found = matches_from(&regex, text, from)
        .nth(n as usize - 1)
        .and_then(|captures| captures.get(group as usize));
    Ok(Datum::Int4(found.map_or(0, |m| {
        let at = if end == 0 { m.start() } else { m.end() };
        length(&text[..at]) as i32 + 1
    })))
}

fn substr(a: &[Datum]) -> Result<Datum> {
    let text = arg::text(a, 0)?;
    let start = positive(int_or(a, 2, 1), "start")?;
    let n = positive(int_or(a, 3, 1), "n")?;
    let flags = single(text_or(a, 4, ""), "regexp_substr")?;
    let group = not_negative(int_or(a, 5, 0), "subexpr")?;
    let regex = compile(arg::text(a, 1)?, flags)?;
    if start as usize > length(text) + 1 {
        return Ok(Datum::Null);
    }
    let from = offset(text, start as usize - 1);
    let found = matches_from(&regex, text, from)
        .nth(n as usize - 1)
        .and_then(|captures| captures.get(group as usize));
    Ok(found.map_or(Datum::Null, |m| Datum::text(m.as_str())))
}

/// The parts between matches; an empty match splits only inside.
pub(in crate::functions) fn split(text: &str, pattern: &str, flags: &str) -> Result<Vec<String>> {
    let regex = compile(pattern, single(flags, "regexp_split_to_table")?)?;
    let mut parts = Vec::new();
    let mut from = 0;
    for found in regex.find_iter(text) {
        let empty = found.start() == found.end();
        if empty && (found.start() == from || found.start() >= text.len()) {
            if found.start() >= text.len() || found.start() == 0 {
                continue;
            }
            // One character between two empty matches is a part of its own.
            if found.start() == from {
                continue;
            }
        }
        parts.push(text[from..found.start()].to_owned());
        from = found.end();
    }
    parts.push(text[from..].to_owned());
    Ok(parts)
}

/// All matches of `regexp_matches`.
pub(in crate::functions) fn all_groups(
    text: &str,
    pattern: &str,
    flags: &str,
) -> Result<Vec<Datum>> {
    let flags = Flags::parse(flags)?;
    let regex = compile(pattern, flags)?;
    let limit = if flags.global { usize::MAX } else { 1 };
    Ok(matches_from(&regex, text, 0)
        .take(limit)
        .map(|captures| groups(&captures))
        .collect())
}

fn split_array(a: &[Datum]) -> Result<Datum> {
    let parts = split(arg::text(a, 0)?, arg::text(a, 1)?, text_or(a, 2, ""))?;
    let values = parts.into_iter().map(Datum::from).collect();
    Ok(Datum::array(Array::of(Type::TEXT, values)))
}

/// `substring(text from pattern)`: the first group, else the whole.
fn substring(text: &str, pattern: &str) -> Result<Datum> {
    let regex = compile(pattern, Flags::default())?;
    Ok(match regex.captures(text) {
        None => Datum::Null,
        Some(captures) => {
            let index = usize::from(captures.len() > 1);
            captures
                .get(index)
                .map_or(Datum::Null, |m| Datum::text(m.as_str()))
        }
    })
}

fn replace_plain(a: &[Datum], flags: &str) -> Result<Datum> {
    // A digit where flags are expected is a mistaken start position.
    if flags.starts_with(|c: char| c.is_ascii_digit()) {
        let letter = flags.chars().next().unwrap_or('0');
        return Err(Error::new(
            state::INVALID_PARAMETER_VALUE,
            format!("invalid regular expression option: \"{letter}\""),
        )
        .hint(
            "If you meant to use regexp_replace() with a start parameter, cast the fourth \
             argument to integer explicitly.",
        ));
    }
    let flags = Flags::parse(flags)?;
    let regex = compile(arg::text(a, 1)?, flags)?;
    let n = if flags.global { 0 } else { 1 };
    Ok(Datum::from(replace(
        arg::text(a, 0)?,
        &regex,
        arg::text(a, 2)?,
        1,
        n,
    )?))
}

fn replace_extended(a: &[Datum]) -> Result<Datum> {
    let text = arg::text(a, 0)?;
    let start = positive(int_or(a, 3, 1), "start")?;
    let given = match a.get(4) {
        Some(_) => Some(not_negative(int_or(a, 4, 1), "n")?),
        None => None,
    };
    let flags = Flags::parse(text_or(a, 5, ""))?;
    let n = given.unwrap_or(i32::from(!flags.global));
    let regex = compile(arg::text(a, 1)?, flags)?;
    if start as usize > length(text) + 1 {
        return Ok(a[0].clone());
    }
    Ok(Datum::from(replace(
        text,
        &regex,
        arg::text(a, 2)?,
        start,
        n,
    )?))
}

/// The operators `~`, `~*`, `!~`, `!~*` and the `regexp_*` functions.
pub(super) const TABLE: &[(&str, ScalarFunction)] = &[
    ("textregexeq", |_, _, a| {
        Ok(Datum::Bool(is_match(a, false)?))
    }),
    ("textregexne", |_, _, a| {
        Ok(Datum::Bool(!is_match(a, false)?))
    }),
    ("texticregexeq", |_, _, a| {
        Ok(Datum::Bool(is_match(a, true)?))
    }),
    ("texticregexne", |_, _, a| {
        Ok(Datum::Bool(!is_match(a, true)?))
    }),
    ("nameregexeq", |_, _, a| {
        Ok(Datum::Bool(is_match(a, false)?))
    }),
    ("nameregexne", |_, _, a| {
        Ok(Datum::Bool(!is_match(a, false)?))
    }),
    ("nameicregexeq", |_, _, a| {
        Ok(Datum::Bool(is_match(a, true)?))
    }),
    ("nameicregexne", |_, _, a| {
        Ok(Datum::Bool(!is_match(a, true)?))
    }),
    ("regexp_match_no_flags", |_, _, a| {
        regexp_match(arg::text(a, 0)?, arg::text(a, 1)?, "")
    }),
    ("regexp_match", |_, _, a| {
        regexp_match(arg::text(a, 0)?, arg::text(a, 1)?, arg::text(a, 2)?)
    }),
    ("regexp_like_no_flags", |_, _, a| {
        Ok(Datum::Bool(is_match(a, false)?))
    }),
    ("regexp_like", |_, _, a| {
        let flags = single(arg::text(a, 2)?, "regexp_like")?;
        Ok(Datum::Bool(
            compile(arg::text(a, 1)?, flags)?.is_match(arg::text(a, 0)?),
        ))
    }),
    ("regexp_count", |_, _, a| count(a)),
    ("regexp_count_no_start", |_, _, a| count(a)),
    ("regexp_count_no_flags", |_, _, a| count(a)),
    ("regexp_instr", |_, _, a| instr(a)),
    ("regexp_instr_no_start", |_, _, a| instr(a)),
    ("regexp_instr_no_n", |_, _, a| instr(a)),
    ("regexp_instr_no_endoption", |_, _, a| instr(a)),
    ("regexp_instr_no_flags", |_, _, a| instr(a)),
    ("regexp_instr_no_subexpr", |_, _, a| instr(a)),
    ("regexp_substr", |_, _, a| substr(a)),
    ("regexp_substr_no_start", |_, _, a| substr(a)),
    ("regexp_substr_no_n", |_, _, a| substr(a)),
    ("regexp_substr_no_flags", |_, _, a| substr(a)),
    ("regexp_substr_no_subexpr", |_, _, a| substr(a)),
    ("regexp_split_to_array", |_, _, a| split_array(a)),
    ("regexp_split_to_array_no_flags", |_, _, a| split_array(a)),
    ("textregexsubstr", |_, _, a| {
        substring(arg::text(a, 0)?, arg::text(a, 1)?)
    }),
    ("substring@2074", |_, _, a| {
        let pattern = super::like::similar_escape(arg::text(a, 1)?, Some(arg::text(a, 2)?))?;
        substring(arg::text(a, 0)?, &pattern)
    }),
    ("textregexreplace_noopt", |_, _, a| replace_plain(a, "")),
    ("textregexreplace", |_, _, a| {
        replace_plain(a, arg::text(a, 3)?)
    }),
    ("textregexreplace_extended", |_, _, a| replace_extended(a)),
    ("textregexreplace_extended_no_flags", |_, _, a| {
        replace_extended(a)
    }),
    ("textregexreplace_extended_no_n", |_, _, a| {
        replace_extended(a)
    }),
];
