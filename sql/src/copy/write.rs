//! Rows of COPY TO as lines.

use super::{Format, Kind, SIGNATURE};
use crate::parse::CopyHeader;
use crate::types::{Datum, FormatSettings, Type};

/// Writes rows; remembers whether the beginning was written.
pub struct Writer {
    format: Format,
    names: Vec<String>,
    types: Vec<Type>,
    begun: bool,
    field: Vec<u8>,
}

impl Writer {
    /// A writer for these columns.
    pub fn new(format: Format, names: Vec<String>, types: Vec<Type>) -> Writer {
        Writer {
            format,
            names,
            types,
            begun: false,
            field: Vec::new(),
        }
    }

    /// Is it the binary format?
    pub fn is_binary(&self) -> bool {
        self.format.kind == Kind::Binary
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.types.len()
    }

    /// What comes before the first row: a header, a signature, or nothing.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        if self.is_binary() {
            out.extend_from_slice(SIGNATURE);
            out.extend_from_slice(&[0; 8]);
        } else if self.format.header != CopyHeader::Off {
            for (at, name) in self.names.iter().enumerate() {
                if at > 0 {
                    out.push(self.format.delimiter);
                }
                write_field(&self.format, name.as_bytes(), false, self.names.len(), out);
            }
            out.push(b'\n');
        }
    }

    /// One row.
    pub fn row(&mut self, row: &[Datum], settings: &FormatSettings, out: &mut Vec<u8>) {
        if self.is_binary() {
            self.binary(row, settings, out);
            return;
        }
        for (at, (datum, ty)) in row.iter().zip(&self.types).enumerate() {
            if at > 0 {
                out.push(self.format.delimiter);
            }
            if datum.is_null() {
                out.extend_from_slice(&self.format.null);
                continue;
            }
            self.field.clear();
            datum.write_text(*ty, settings, &mut self.field);
            let force = self.format.force_quote.get(at).copied().unwrap_or(false);
            write_field(&self.format, &self.field, force, self.types.len(), out);
        }
        out.push(b'\n');
    }

    fn binary(&mut self, row: &[Datum], settings: &FormatSettings, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.types.len() as i16).to_be_bytes());
        for (datum, ty) in row.iter().zip(&self.types) {
            if datum.is_null() {
                out.extend_from_slice(&(-1i32).to_be_bytes());
                continue;
            }
            let start = out.len();
            out.extend_from_slice(&[0; 4]);
            datum.write_binary(*ty, settings, out);
            let length = (out.len() - start - 4) as i32;
            out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        }
    }

    /// What comes after the last row.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        if self.is_binary() {
            out.extend_from_slice(&(-1i16).to_be_bytes());
        }
    }
}

fn write_field(format: &Format, field: &[u8], force: bool, columns: usize, out: &mut Vec<u8>) {
    match format.kind {
        Kind::Csv => csv(format, field, force, columns, out),
        Kind::Text | Kind::Binary => text(format, field, out),
    }
}

fn text(format: &Format, field: &[u8], out: &mut Vec<u8>) {
    for byte in field {
        let escaped = match byte {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            b'\\' => b'\\',
            b if *b == format.delimiter => *b,
            b => {
                out.push(*b);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', escaped]);
    }
}

fn csv(format: &Format, field: &[u8], force: bool, columns: usize, out: &mut Vec<u8>) {
    let special =
        |b: &u8| *b == format.delimiter || *b == format.quote || matches!(b, b'\n' | b'\r');
    let quotes = force
        || field == format.null.as_slice()
        || (columns == 1 && field == b"\\.")
        || field.iter().any(special);
    if !quotes {
        out.extend_from_slice(field);
        return;
    }
    out.push(format.quote);
    for byte in field {
        if *byte == format.quote || *byte == format.escape {
            out.push(format.escape);
        }
        out.push(*byte);
    }
    out.push(format.quote);
}
