//! Bytes of COPY FROM to records. Data comes in portions of any size; a record is given when all
//! of it is there.

use std::ops::Range;

use super::{Format, Kind, LINE_BYTES_MAX, SIGNATURE};
use crate::{Error, Result, state};

/// Fields of one record: places in the reader's memory.
#[derive(Default)]
pub struct Record {
    bytes: Vec<u8>,
    fields: Vec<Option<Range<usize>>>,
}

impl Record {
    /// Number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// No fields at all.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// A field's bytes; `None` = NULL.
    pub fn field(&self, at: usize) -> Option<&[u8]> {
        self.fields.get(at)?.clone().map(|range| &self.bytes[range])
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
    }

    fn end(&mut self, start: usize) {
        self.fields.push(Some(start..self.bytes.len()));
    }

    fn null(&mut self, start: usize) {
        self.bytes.truncate(start);
        self.fields.push(None);
    }
}

/// Cuts portions of data into records.
pub struct Reader {
    format: Format,
    data: Vec<u8>,
    at: usize,
    /// Where the search for the end of the line goes on, and whether within quotes.
    scanned: usize,
    quoted: bool,
    line: u64,
    /// The end of the client's data has come.
    complete: bool,
    /// `\.` or the binary trailer: what follows is passed over.
    ended: bool,
    started: bool,
    record: Record,
    /// The last line as text, for errors.
    current: Range<usize>,
}

impl Reader {
    /// A reader at the beginning.
    pub fn new(format: Format) -> Reader {
        Reader {
            format,
            data: Vec::new(),
            at: 0,
            scanned: 0,
            quoted: false,
            line: 0,
            complete: false,
            ended: false,
            started: false,
            record: Record::default(),
            current: 0..0,
        }
    }

    /// Adds data.
    ///
    /// # Errors
    /// 54000 for a line that is too long.
    pub fn push(&mut self, data: &[u8]) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        if self.at > 0 {
            self.data.drain(..self.at);
            self.scanned = self.scanned.saturating_sub(self.at);
            self.at = 0;
            self.current = 0..0;
        }
        if self.data.len() + data.len() > LINE_BYTES_MAX {
            return Err(Error::new(
                state::PROGRAM_LIMIT_EXCEEDED,
                "COPY line is too long",
            ));
        }
        self.data.extend_from_slice(data);
        Ok(())
    }

    /// No more data comes.
    pub fn finish(&mut self) {
        self.complete = true;
    }

    /// The number of the present line (record, in the binary format), from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The present line's text, for CONTEXT.
    pub fn text(&self) -> String {
        let bytes = self.data.get(self.current.clone()).unwrap_or_default();
        String::from_utf8_lossy(&bytes[..bytes.len().min(1_000)]).into_owned()
    }

    /// The next record; `None` = more data is needed, or (after `finish`) there is none.
    ///
    /// # Errors
    /// 22P04.
    pub fn record(&mut self) -> Result<Option<&Record>> {
        if self.ended {
            return Ok(None);
        }
        let found = match self.format.kind {
            Kind::Binary => self.next_binary()?,
            Kind::Text => self.next_text()?,
            Kind::Csv => self.next_csv()?,
        };
        Ok(found.then_some(&self.record))
    }

    /// The next line without its end; `None` = it is not whole yet.
    fn take_line(&mut self) -> Option<Range<usize>> {
        let csv = self.format.kind == Kind::Csv;
        let (quote, escape) = (self.format.quote, self.format.escape);
        let mut i = self.scanned.max(self.at);
        while i < self.data.len() {
            let byte = self.data[i];
            if csv {
                if self.quoted && byte == escape && escape != quote {
                    // The escaped byte may not be there yet.
                    if i + 1 >= self.data.len() && !self.complete {
                        self.scanned = i;
                        return None;
                    }
                    i += 2;
                    continue;
                }
                if byte == quote {
                    self.quoted = !self.quoted;
                }
                if self.quoted {
                    i += 1;
                    continue;
                }
            } else if byte == b'\\' {
                if i + 1 >= self.data.len() && !self.complete {
                    self.scanned = i;
                    return None;
                }
                // A backslash before a newline makes it data; but `\.` must be seen as a line.
                i += 2;
                continue;
            }
            if byte == b'\n' || byte == b'\r' {
                let mut end = i + 1;
                if byte == b'\r' {
                    if end >= self.data.len() && !self.complete {
                        self.scanned = i;
                        return None;
                    }
                    if self.data.get(end) == Some(&b'\n') {
                        end += 1;
                    }
                }
                let line = self.at..i;
                self.at = end;
                self.scanned = end;
                return Some(line);
            }
            i += 1;
        }
        self.scanned = i.min(self.data.len());
        if self.complete && self.at < self.data.len() {
            let line = self.at..self.data.len();
            self.at = self.data.len();
            self.scanned = self.at;
            return Some(line);
        }
        None
    }

    fn take_data_line(&mut self) -> Option<Range<usize>> {
        let line = self.take_line()?;
        self.line += 1;
        self.current = line.clone();
        if &self.data[line.clone()] == b"\\." {
            self.ended = true;
            return None;
        }
        Some(line)
    }

    fn next_text(&mut self) -> Result<bool> {
        let Some(line) = self.take_data_line() else {
            return Ok(false);
        };
        self.record.clear();
        let Format {
            delimiter, null, ..
        } = &self.format;
        let bytes = &self.data[line];
        for field in split(bytes, *delimiter) {
            let start = self.record.bytes.len();
            if field == null.as_slice() {
                self.record.null(start);
                continue;
            }
            unescape(field, &mut self.record.bytes);
            self.record.end(start);
        }
        Ok(true)
    }

    fn next_csv(&mut self) -> Result<bool> {
        let Some(line) = self.take_data_line() else {
            if self.complete && self.quoted {
                return Err(bad("unterminated CSV quoted field"));
            }
            return Ok(false);
        };
        if self.quoted {
            return Err(bad("unterminated CSV quoted field"));
        }
        self.record.clear();
        let Format {
            delimiter,
            quote,
            escape,
            null,
            ..
        } = &self.format;
        let bytes = &self.data[line];
        let mut i = 0;
        loop {
            let start = self.record.bytes.len();
            let (mut quoted, mut inside) = (false, false);
            while i < bytes.len() {
                let byte = bytes[i];
                if inside {
                    let next = bytes.get(i + 1);
                    if byte == *escape && next.is_some_and(|n| n == quote || n == escape) {
                        self.record.bytes.push(bytes[i + 1]);
                        i += 2;
                        continue;
                    }
                    if byte == *quote {
                        inside = false;
                    } else {
                        self.record.bytes.push(byte);
                    }
                } else if byte == *quote {
                    (quoted, inside) = (true, true);
                } else if byte == *delimiter {
                    break;
                } else {
                    self.record.bytes.push(byte);
                }
                i += 1;
            }
            let column = self.record.fields.len();
            let is_null = self.record.bytes[start..] == null[..];
            let flag = |flags: &[bool]| flags.get(column).copied().unwrap_or(false);
            let null_here = match quoted {
                false => is_null && !flag(&self.format.force_not_null),
                true => is_null && flag(&self.format.force_null),
            };
            if null_here {
                self.record.null(start);
            } else {
                self.record.end(start);
            }
            if i >= bytes.len() {
                return Ok(true);
            }
            i += 1;
        }
    }

    fn next_binary(&mut self) -> Result<bool> {
        if !self.started {
            let Some(header) = self.data.get(self.at..self.at + 19) else {
                return self.short("COPY file signature not recognized");
            };
            if &header[..11] != SIGNATURE {
                return Err(bad("COPY file signature not recognized"));
            }
            let flags = u32::from_be_bytes([header[11], header[12], header[13], header[14]]);
            if flags & 0xffff_0000 != 0 {
                return Err(bad("unrecognized critical flags in COPY file header"));
            }
            let extra = u32::from_be_bytes([header[15], header[16], header[17], header[18]]);
            let end = self.at + 19 + extra as usize;
            if self.data.len() < end {
                return self.short("invalid COPY file header (wrong length)");
            }
            self.at = end;
            self.started = true;
        }
        let Some(count) = self.data.get(self.at..self.at + 2) else {
            if self.complete && self.at < self.data.len() {
                return Err(bad("unexpected EOF in COPY data"));
            }
            return Ok(false);
        };
        let count = i16::from_be_bytes([count[0], count[1]]);
        if count == -1 {
            self.ended = true;
            return Ok(false);
        }
        let Ok(count) = usize::try_from(count) else {
            return Err(bad("invalid field count in COPY data"));
        };
        let mut i = self.at + 2;
        self.record.clear();
        for _ in 0..count {
            let Some(length) = self.data.get(i..i + 4) else {
                return self.short("unexpected EOF in COPY data");
            };
            let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
            i += 4;
            let start = self.record.bytes.len();
            if length == -1 {
                self.record.null(start);
                continue;
            }
            let Ok(length) = usize::try_from(length) else {
                return Err(bad("invalid field size"));
            };
            let Some(bytes) = self.data.get(i..i + length) else {
                return self.short("unexpected EOF in COPY data");
            };
            self.record.bytes.extend_from_slice(bytes);
            self.record.end(start);
            i += length;
        }
        self.at = i;
        self.scanned = i;
        self.line += 1;
        Ok(true)
    }

    fn short(&self, message: &str) -> Result<bool> {
        if self.complete && (self.at < self.data.len() || !self.started) {
            return Err(bad(message));
        }
        Ok(false)
    }
}

fn bad(message: &str) -> Error {
    Error::new(state::BAD_COPY_FILE_FORMAT, message)
}

/// Fields between delimiters that no backslash precedes.
fn split(line: &[u8], delimiter: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let mut i = 0;
        while i < line.len() {
            if line[i] == b'\\' {
                i += 2;
                continue;
            }
            if line[i] == delimiter {
                rest = Some(&line[i + 1..]);
                return Some(&line[..i]);
            }
            i += 1;
        }
        rest = None;
        Some(line)
    })
}

/// Appends a field of the text format without its backslashes.
fn unescape(field: &[u8], out: &mut Vec<u8>) {
    let mut i = 0;
    while i < field.len() {
        let byte = field[i];
        if byte != b'\\' || i + 1 >= field.len() {
            out.push(byte);
            i += 1;
            continue;
        }
        let next = field[i + 1];
        i += 2;
        match next {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'0'..=b'7' => {
                let mut value = u32::from(next - b'0');
                for _ in 0..2 {
                    match field.get(i) {
                        Some(d @ b'0'..=b'7') => {
                            value = value * 8 + u32::from(d - b'0');
                            i += 1;
                        }
                        _ => break,
                    }
                }
                out.push(value as u8);
            }
            b'x' => {
                let hex = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16));
                match hex(field.get(i)) {
                    None => out.push(b'x'),
                    Some(high) => {
                        i += 1;
                        let mut value = high;
                        if let Some(low) = hex(field.get(i)) {
                            value = value * 16 + low;
                            i += 1;
                        }
                        out.push(value as u8);
                    }
                }
            }
            other => out.push(other),
        }
    }
}
