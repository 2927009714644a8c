//! The text forms of arrays and records.

use super::is_blank;
use crate::error::{Error, Result, state};
use crate::types::array::{DIMENSIONS_MAX, Dimension, too_many_dimensions};
use crate::types::{Array, Datum, FormatSettings, Record, Type};

fn malformed_array(text: &str, detail: &str) -> Error {
    Error::new(
        state::INVALID_TEXT_REPRESENTATION,
        format!("malformed array literal: \"{text}\""),
    )
    .detail(detail)
}

/// Reads `{1,2,{...}}`, with optional `[l:u]=` before it.
pub(super) fn read_array(text: &str, element: Type, format: &FormatSettings) -> Result<Array> {
    let mut rest = text.trim_start_matches(is_blank);
    let mut declared: Vec<Dimension> = Vec::new();
    while let Some(inner) = rest.strip_prefix('[') {
        if declared.len() >= DIMENSIONS_MAX {
            return Err(too_many_dimensions(declared.len() + 1));
        }
        let close = inner
            .find(']')
            .ok_or_else(|| malformed_array(text, "Missing \"]\" after array dimensions."))?;
        declared.push(read_dimension(&inner[..close], text)?);
        rest = inner[close + 1..].trim_start_matches(is_blank);
    }
    if !declared.is_empty() {
        rest = rest
            .strip_prefix('=')
            .ok_or_else(|| malformed_array(text, "Missing \"=\" after array dimensions."))?
            .trim_start_matches(is_blank);
        if !rest.starts_with('{') {
            return Err(malformed_array(
                text,
                "Array contents must start with \"{\".",
            ));
        }
    } else if !rest.starts_with('{') {
        return Err(malformed_array(
            text,
            "Array value must start with \"{\" or dimension information.",
        ));
    }
    let mut parser = ArrayParser {
        text,
        rest: rest.as_bytes(),
        source: rest,
        at: 0,
        element,
        format,
        delimiter: element.row().map_or(b',', |row| row.delimiter),
        lengths: Vec::new(),
        values: Vec::new(),
    };
    parser.level(0)?;
    parser.skip_blanks();
    if parser.at < parser.rest.len() {
        return Err(malformed_array(text, "Junk after closing right brace."));
    }
    let ArrayParser {
        lengths, values, ..
    } = parser;
    if values.is_empty() {
        return Ok(Array::empty(element.plain()));
    }
    let dimensions: Vec<Dimension> = if declared.is_empty() {
        lengths
            .iter()
            .map(|length| Dimension {
                length: *length,
                lower: 1,
            })
            .collect()
    } else {
        let same = declared.len() == lengths.len()
            && declared
                .iter()
                .zip(&lengths)
                .all(|(d, length)| d.length == *length);
        if !same {
            return Err(malformed_array(
                text,
                "Specified array dimensions do not match array contents.",
            ));
        }
        declared
    };
    Ok(Array {
        element: element.plain(),
        dimensions,
        values,
    })
}

fn read_dimension(text: &str, whole: &str) -> Result<Dimension> {
    let invalid = || {
        malformed_array(
            whole,
            "\"[\" must introduce explicitly-specified array dimensions.",
        )
    };
    let number = |text: &str| text.trim().parse::<i32>().map_err(|_| invalid());
    let (lower, upper) = match text.split_once(':') {
        Some((lower, upper)) => (number(lower)?, number(upper)?),
        None => (1, number(text)?),
    };
    if upper < lower {
        return Err(Error::new(
            state::ARRAY_SUBSCRIPT_ERROR,
            "upper bound cannot be less than lower bound",
        ));
    }
    let length = upper
        .checked_sub(lower)
        .and_then(|d| d.checked_add(1))
        .ok_or_else(|| {
            Error::new(
                state::PROGRAM_LIMIT_EXCEEDED,
                "array size exceeds the maximum allowed",
            )
        })?;
    Ok(Dimension { length, lower })
}

struct ArrayParser<'a> {
    text: &'a str,
    rest: &'a [u8],
    source: &'a str,
    at: usize,
    element: Type,
    format: &'a FormatSettings,
    delimiter: u8,
    /// Length of each dimension, as the first of its kind had it.
    lengths: Vec<i32>,
    values: Vec<Datum>,
}

impl ArrayParser<'_> {
    fn skip_blanks(&mut self) {
        while self.rest.get(self.at).is_some_and(|b| is_blank(*b as char)) {
            self.at += 1;
        }
    }

    fn ragged(&self) -> Error {
        malformed_array(
            self.text,
            "Multidimensional arrays must have sub-arrays with matching dimensions.",
        )
    }

    fn ended(&self) -> Error {
        malformed_array(self.text, "Unexpected end of input.")
    }

    fn unexpected(&self, byte: u8) -> Error {
        malformed_array(
            self.text,
            &format!("Unexpected \"{}\" character.", byte as char),
        )
    }

    /// Reads one `{...}` at nesting `depth`.
    fn level(&mut self, depth: usize) -> Result<()> {
        if depth >= DIMENSIONS_MAX {
            return Err(too_many_dimensions(depth + 1));
        }
        self.at += 1;
        let mut count = 0;
        let mut nested = None;
        self.skip_blanks();
        if self.rest.get(self.at) == Some(&b'}') {
            self.at += 1;
            return if depth == 0 {
                Ok(())
            } else {
                Err(self.unexpected(b'}'))
            };
        }
        loop {
            self.skip_blanks();
            let here = match self.rest.get(self.at) {
                None => return Err(self.ended()),
                Some(b'{') => true,
                Some(_) => false,
            };
            if nested.is_some_and(|nested| nested != here) {
                return Err(if here {
                    self.unexpected(b'{')
                } else {
                    self.ragged()
                });
            }
            nested = Some(here);
            if here {
                self.level(depth + 1)?;
            } else {
                self.item()?;
            }
            count += 1;
            self.skip_blanks();
            match self.rest.get(self.at) {
                None => return Err(self.ended()),
                Some(b'}') => {
                    self.at += 1;
                    return self.close(depth, count);
                }
                Some(byte) if *byte == self.delimiter => self.at += 1,
                Some(b'"') => {
                    return Err(malformed_array(self.text, "Unexpected array element."));
                }
                Some(byte) => return Err(self.unexpected(*byte)),
            }
        }
    }

    fn close(&mut self, depth: usize, count: i32) -> Result<()> {
        if self.lengths.len() <= depth {
            self.lengths.resize(depth + 1, -1);
        }
        match self.lengths[depth] {
            -1 => self.lengths[depth] = count,
            length if length != count => return Err(self.ragged()),
            _ => {}
        }
        Ok(())
    }

    /// Reads one element up to its delimiter.
    fn item(&mut self) -> Result<()> {
        let mut out: Vec<u8> = Vec::new();
        let mut quoted = false;
        // Trailing blanks of an unquoted element do not count; escaped ones do.
        let mut kept = 0;
        loop {
            let Some(byte) = self.rest.get(self.at).copied() else {
                return Err(self.ended());
            };
            match byte {
                b'"' => {
                    if quoted || !out.is_empty() {
                        return Err(malformed_array(self.text, "Unexpected array element."));
                    }
                    quoted = true;
                    self.quoted(&mut out)?;
                    kept = out.len();
                }
                b'\\' => {
                    self.at += 1;
                    let Some(next) = self.rest.get(self.at).copied() else {
                        return Err(self.ended());
                    };
                    out.push(next);
                    self.at += 1;
                    kept = out.len();
                    // An escape makes the word never mean NULL.
                    quoted |= out.len() == 4;
                }
                b'{' => return Err(self.unexpected(b'{')),
                b'}' => break,
                byte if byte == self.delimiter => break,
                byte => {
                    let blank = is_blank(byte as char);
                    if quoted && !blank && kept == out.len() && self.rest[self.at - 1] == b'"' {
                        return Err(malformed_array(self.text, "Unexpected array element."));
                    }
                    self.at += 1;
                    if !(quoted && blank) {
                        out.push(byte);
                        if !blank {
                            kept = out.len();
                        }
                    }
                }
            }
        }
        out.truncate(kept);
        if out.is_empty() && !quoted {
            let byte = self.rest.get(self.at).copied().unwrap_or(b'}');
            return Err(self.unexpected(byte));
        }
        let word = std::str::from_utf8(&out).unwrap_or(self.source);
        let value = if !quoted && word.eq_ignore_ascii_case("null") {
            Datum::Null
        } else {
            Datum::from_text(word, self.element, self.format)?
        };
        self.values.push(value);
        Ok(())
    }

    fn quoted(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.at += 1;
        loop {
            match self.rest.get(self.at).copied() {
                None => return Err(self.ended()),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    let Some(next) = self.rest.get(self.at).copied() else {
                        return Err(self.ended());
                    };
                    out.push(next);
                }
                Some(byte) => out.push(byte),
            }
            self.at += 1;
        }
    }
}

pub(super) fn write_array(array: &Array, kind: Type, format: &FormatSettings, out: &mut Vec<u8>) {
    if kind.is_vector() {
        for (index, item) in array.values.iter().enumerate() {
            if index > 0 {
                out.push(b' ');
            }
            item.write_text(array.element, format, out);
        }
        return;
    }
    if array.is_empty() {
        out.extend_from_slice(b"{}");
        return;
    }
    if array
        .dimensions
        .iter()
        .any(|dimension| dimension.lower != 1)
    {
        for dimension in &array.dimensions {
            let bounds = format!("[{}:{}]", dimension.lower, dimension.upper());
            out.extend_from_slice(bounds.as_bytes());
        }
        out.push(b'=');
    }
    // The static type knows better what the elements are (varchar over text and the like).
    let element = kind.element().unwrap_or(array.element);
    let delimiter = element.row().map_or(b',', |row| row.delimiter);
    let mut scratch = Vec::new();
    write_level(
        array,
        element,
        delimiter,
        0,
        &mut 0,
        format,
        &mut scratch,
        out,
    );
}

#[allow(clippy::too_many_arguments)]
fn write_level(
    array: &Array,
    element: Type,
    delimiter: u8,
    depth: usize,
    next: &mut usize,
    format: &FormatSettings,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
    out.push(b'{');
    for index in 0..array.dimensions[depth].length {
        if index > 0 {
            out.push(delimiter);
        }
        if depth + 1 < array.dimensions.len() {
            write_level(
                array,
                element,
                delimiter,
                depth + 1,
                next,
                format,
                scratch,
                out,
            );
            continue;
        }
        let item = &array.values[*next];
        *next += 1;
        if item.is_null() {
            out.extend_from_slice(b"NULL");
            continue;
        }
        scratch.clear();
        item.write_text(element, format, scratch);
        write_array_item(scratch, delimiter, out);
    }
    out.push(b'}');
}

fn write_array_item(text: &[u8], delimiter: u8, out: &mut Vec<u8>) {
    let special =
        |b: &u8| *b == delimiter || matches!(b, b'"' | b'\\' | b'{' | b'}') || is_blank(*b as char);
    let quote = text.is_empty() || text.eq_ignore_ascii_case(b"null") || text.iter().any(special);
    if !quote {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

pub(super) fn write_record(record: &Record, format: &FormatSettings, out: &mut Vec<u8>) {
    out.push(b'(');
    let mut scratch = Vec::new();
    for (index, (value, kind)) in record.values.iter().zip(&record.shape.types).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        if value.is_null() {
            continue;
        }
        scratch.clear();
        value.write_text(*kind, format, &mut scratch);
        let special =
            |b: &u8| matches!(b, b'"' | b'\\' | b'(' | b')' | b',') || is_blank(*b as char);
        if !scratch.is_empty() && !scratch.iter().any(special) {
            out.extend_from_slice(&scratch);
            continue;
        }
        out.push(b'"');
        for byte in &scratch {
            if matches!(byte, b'"' | b'\\') {
                out.push(*byte);
            }
            out.push(*byte);
        }
        out.push(b'"');
    }
    out.push(b')');
}
