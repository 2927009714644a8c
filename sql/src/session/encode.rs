//! Parameters in, rows out: text and binary forms on the wire.

use crate::exec::Row;
use crate::plan::OutputColumn;
use crate::types::{Datum, FormatSettings, Type};
use crate::{Error, Result, state};

use super::output::Field;

/// Appends the body of a DataRow.
pub(super) fn row(
    row: &Row,
    columns: &[OutputColumn],
    format_of: impl Fn(usize) -> i16,
    settings: &FormatSettings,
    out: &mut Vec<u8>,
) {
    let count = columns.len().min(row.len()) as i16;
    out.extend_from_slice(&count.to_be_bytes());
    for (at, (datum, column)) in row.iter().zip(columns).enumerate() {
        if datum.is_null() {
            out.extend_from_slice(&(-1i32).to_be_bytes());
            continue;
        }
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        if format_of(at) == 1 {
            datum.write_binary(column.ty, settings, out);
        } else {
            datum.write_text(column.ty, settings, out);
        }
        let length = (out.len() - start - 4) as i32;
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}

/// The fields of RowDescription.
pub(super) fn fields(columns: &[OutputColumn], format_of: impl Fn(usize) -> i16) -> Vec<Field> {
    let field = |(at, column): (usize, &OutputColumn)| Field {
        name: column.name.clone(),
        table: column.table,
        number: column.number,
        type_oid: wire_type(column.ty).oid,
        type_length: wire_type(column.ty).length(),
        modifier: column.ty.modifier,
        format: format_of(at),
    };
    columns.iter().enumerate().map(field).collect()
}

/// `unknown` is sent as text.
fn wire_type(ty: Type) -> Type {
    if ty.oid == Type::UNKNOWN.oid || ty.oid == 0 {
        Type::TEXT
    } else {
        ty
    }
}

/// Reads the parameters of Bind.
///
/// # Errors
/// 08P01 for a wrong number, 22P02 / 22P03 and the like for their contents.
pub(super) fn parameters<'a>(
    types: &[Type],
    formats: &[i16],
    values: impl ExactSizeIterator<Item = Option<&'a [u8]>>,
    statement: &str,
    settings: &FormatSettings,
) -> Result<Vec<Datum>> {
    let given = values.len();
    if given != types.len() {
        return Err(Error::new(
            state::PROTOCOL_VIOLATION,
            format!(
                "bind message supplies {given} parameters, but prepared statement \"{statement}\" \
                 requires {}",
                types.len()
            ),
        ));
    }
    if formats.len() > 1 && formats.len() != given {
        return Err(Error::new(
            state::PROTOCOL_VIOLATION,
            format!(
                "bind message has {} parameter formats but {given} parameters",
                formats.len()
            ),
        ));
    }
    let mut all = Vec::with_capacity(given);
    for (at, value) in values.enumerate() {
        let format = match formats {
            [] => 0,
            [one] => *one,
            many => many[at],
        };
        all.push(match value {
            None => Datum::Null,
            Some(bytes) => parameter(bytes, types[at], format, settings)
                .map_err(|e| e.context(format!("unnamed portal parameter ${}", at + 1)))?,
        });
    }
    Ok(all)
}

fn parameter(bytes: &[u8], ty: Type, format: i16, settings: &FormatSettings) -> Result<Datum> {
    match format {
        1 => Datum::from_binary(bytes, ty, settings),
        0 => {
            let text = std::str::from_utf8(bytes).map_err(|_| {
                Error::new(
                    state::CHARACTER_NOT_IN_REPERTOIRE,
                    "invalid byte sequence for encoding \"UTF8\"",
                )
            })?;
            if text.contains('\0') {
                return Err(Error::new(
                    state::CHARACTER_NOT_IN_REPERTOIRE,
                    "invalid byte sequence for encoding \"UTF8\": 0x00",
                ));
            }
            Datum::from_text(text, ty, settings)
        }
        other => Err(Error::new(
            state::INVALID_PARAMETER_VALUE,
            format!("unsupported format code: {other}"),
        )),
    }
}

/// Checks the result formats of Bind against the columns.
///
/// # Errors
/// 08P01, 22023.
pub(super) fn check_formats(formats: &[i16], columns: usize) -> Result<()> {
    if let Some(other) = formats.iter().find(|f| !matches!(f, 0 | 1)) {
        let message = format!("unsupported format code: {other}");
        return Err(Error::new(state::INVALID_PARAMETER_VALUE, message));
    }
    if formats.len() > 1 && formats.len() != columns {
        return Err(Error::new(
            state::PROTOCOL_VIOLATION,
            format!(
                "bind message has {} result formats but query has {columns} columns",
                formats.len()
            ),
        ));
    }
    Ok(())
}
