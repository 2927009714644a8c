//! The options of COPY, checked against the format and the columns.

use crate::parse::{CopyFormat, CopyHeader, CopyOptions};
use crate::{Error, Result, state};

/// The three formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Tab-separated lines with backslashes.
    Text,
    /// Comma-separated lines with quotes.
    Csv,
    /// PostgreSQL's binary form.
    Binary,
}

/// Everything that reading and writing lines needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// Which format.
    pub kind: Kind,
    /// Between fields.
    pub delimiter: u8,
    /// What NULL looks like.
    pub null: Vec<u8>,
    /// The first line names the columns.
    pub header: CopyHeader,
    /// csv: the quote.
    pub quote: u8,
    /// csv: what stands before a quote within quotes.
    pub escape: u8,
    /// csv, writing: by column, always quote.
    pub force_quote: Vec<bool>,
    /// csv, reading: by column, an unquoted NULL text is text.
    pub force_not_null: Vec<bool>,
    /// csv, reading: by column, a quoted NULL text is NULL.
    pub force_null: Vec<bool>,
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(state::INVALID_PARAMETER_VALUE, message)
}

fn only(option: &str, what: &str) -> Error {
    Error::new(
        state::FEATURE_NOT_SUPPORTED,
        format!("COPY {option} available only {what}"),
    )
}

/// PostgreSQL has two orders of words.
fn only_available(option: &str) -> Error {
    Error::new(
        state::FEATURE_NOT_SUPPORTED,
        format!("COPY {option} only available using COPY FROM"),
    )
}

impl Format {
    /// The format that options ask for, with PostgreSQL's defaults and refusals. `from`: COPY
    /// FROM.
    ///
    /// # Errors
    /// 22023, 0A000, 42601, 42P10.
    pub fn new(options: &CopyOptions, columns: &[String], from: bool) -> Result<Format> {
        let kind = match options.format {
            None | Some(CopyFormat::Text) => Kind::Text,
            Some(CopyFormat::Csv) => Kind::Csv,
            Some(CopyFormat::Binary) => Kind::Binary,
        };
        if kind == Kind::Binary {
            for (given, name) in [
                (options.delimiter.is_some(), "DELIMITER"),
                (options.null.is_some(), "NULL"),
                (options.header.is_some(), "HEADER"),
            ] {
                if given {
                    let message = format!("cannot specify {name} in BINARY mode");
                    return Err(Error::new(state::SYNTAX_ERROR, message));
                }
            }
        }
        let csv = kind == Kind::Csv;
        for (given, name) in [
            (options.quote.is_some(), "quote"),
            (options.escape.is_some(), "escape"),
            (options.force_quote.is_some(), "force quote"),
            (options.force_not_null.is_some(), "force not null"),
            (options.force_null.is_some(), "force null"),
        ] {
            if given && !csv {
                return Err(only(name, "in CSV mode"));
            }
        }
        if options.force_quote.is_some() && from {
            return Err(only("force quote", "using COPY TO"));
        }
        if options.force_not_null.is_some() && !from {
            return Err(only_available("force not null"));
        }
        if options.force_null.is_some() && !from {
            return Err(only_available("force null"));
        }
        let header = options.header.unwrap_or(CopyHeader::Off);
        if header == CopyHeader::Match && !from {
            return Err(Error::new(
                state::FEATURE_NOT_SUPPORTED,
                "cannot use \"match\" with HEADER in COPY TO",
            ));
        }
        encoding(options)?;
        let format = Format {
            kind,
            delimiter: delimiter(options, csv)?,
            null: match &options.null {
                Some(null) => null_text(null)?,
                None if csv => Vec::new(),
                None => b"\\N".to_vec(),
            },
            header,
            quote: single(options.quote.as_deref(), b'"', "quote")?,
            escape: single(
                options.escape.as_deref().or(options.quote.as_deref()),
                b'"',
                "escape",
            )?,
            force_quote: flags(options.force_quote.as_deref(), columns, "FORCE_QUOTE")?,
            force_not_null: flags(options.force_not_null.as_deref(), columns, "FORCE_NOT_NULL")?,
            force_null: flags(options.force_null.as_deref(), columns, "FORCE_NULL")?,
        };
        format.check(csv)?;
        Ok(format)
    }

    fn check(&self, csv: bool) -> Result<()> {
        if csv && self.delimiter == self.quote {
            return Err(invalid("COPY delimiter and quote must be different"));
        }
        if self.null.contains(&self.delimiter) {
            return Err(invalid(
                "COPY delimiter must not appear in the NULL specification",
            ));
        }
        if csv && self.null.contains(&self.quote) {
            return Err(invalid(
                "CSV quote character must not appear in the NULL specification",
            ));
        }
        Ok(())
    }
}

fn encoding(options: &CopyOptions) -> Result<()> {
    let Some(encoding) = &options.encoding else {
        return Ok(());
    };
    let plain: String = encoding
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    match plain.to_ascii_lowercase().as_str() {
        "utf8" | "unicode" | "sqlascii" => Ok(()),
        _ => Err(invalid(
            "argument to option \"encoding\" must be a valid encoding name",
        )),
    }
}

fn delimiter(options: &CopyOptions, csv: bool) -> Result<u8> {
    let Some(text) = &options.delimiter else {
        return Ok(if csv { b',' } else { b'\t' });
    };
    let [byte] = text.as_bytes() else {
        return Err(Error::new(
            state::FEATURE_NOT_SUPPORTED,
            "COPY delimiter must be a single one-byte character",
        ));
    };
    if matches!(byte, b'\r' | b'\n') {
        return Err(invalid(
            "COPY delimiter cannot be newline or carriage return",
        ));
    }
    if !csv && b"\\.abcdefghijklmnopqrstuvwxyz0123456789".contains(byte) {
        return Err(invalid(format!("COPY delimiter cannot be \"{text}\"")));
    }
    Ok(*byte)
}

fn null_text(null: &str) -> Result<Vec<u8>> {
    if null.contains(['\r', '\n']) {
        return Err(invalid(
            "COPY null representation cannot use newline or carriage return",
        ));
    }
    Ok(null.as_bytes().to_vec())
}

fn single(text: Option<&str>, default: u8, what: &str) -> Result<u8> {
    match text.map(str::as_bytes) {
        None => Ok(default),
        Some([byte]) => Ok(*byte),
        Some(_) => Err(Error::new(
            state::FEATURE_NOT_SUPPORTED,
            format!("COPY {what} must be a single one-byte character"),
        )),
    }
}

/// One flag per column; an empty list is `*`.
fn flags(given: Option<&[String]>, columns: &[String], option: &str) -> Result<Vec<bool>> {
    let Some(given) = given else {
        return Ok(vec![false; columns.len()]);
    };
    if given.is_empty() {
        return Ok(vec![true; columns.len()]);
    }
    for name in given {
        if !columns.contains(name) {
            return Err(Error::new(
                state::INVALID_COLUMN_REFERENCE,
                format!("{option} column \"{name}\" not referenced by COPY"),
            ));
        }
    }
    Ok(columns.iter().map(|c| given.contains(c)).collect())
}
