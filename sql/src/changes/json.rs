//! Rows as jsonb objects by column name.

use std::sync::Arc;

use crate::Result;
use crate::catalog::{Column, Key, Table};
use crate::outbox::{NUMBER, SENDER};
use crate::types::{Datum, FormatSettings, Json, Type, codec::decode_value, json};

/// The whole row, dropped columns left out.
pub(super) fn row(table: &Table, bytes: &[u8]) -> Result<Datum> {
    object(table.live_columns(), bytes)
}

/// A command on its way to an inbox: without what is filled in there.
pub(crate) fn command(table: &Table, bytes: &[u8]) -> Result<Datum> {
    let filled = |column: &&Column| [SENDER, NUMBER].contains(&column.name.as_str());
    object(table.live_columns().filter(|column| !filled(column)), bytes)
}

/// The primary key's columns; NULL for a table without one.
pub(super) fn key(table: &Table, bytes: &[u8]) -> Result<Datum> {
    match &table.key {
        Key::Primary(ids) => object(
            table
                .live_columns()
                .filter(|column| ids.contains(&column.id)),
            bytes,
        ),
        Key::RowId => Ok(Datum::Null),
    }
}

/// The columns that say what an event is about; NULL if it is about nothing.
pub(super) fn about(table: &Table, bytes: &[u8]) -> Result<Datum> {
    let ids = table.about_columns();
    match ids.is_empty() {
        true => Ok(Datum::Null),
        false => object(
            table
                .live_columns()
                .filter(|column| ids.contains(&column.id)),
            bytes,
        ),
    }
}

/// Some columns of a row.
pub(super) fn object<'a>(columns: impl Iterator<Item = &'a Column>, bytes: &[u8]) -> Result<Datum> {
    let row = storage::Row::new(bytes);
    let mut pairs = Vec::new();
    for column in columns {
        let stored = row
            .get(storage::ColumnId(column.id.0))
            .or(column.missing.as_deref());
        let value = match stored {
            Some(bytes) => of(&decode_value(column.ty, bytes)?, column.ty)?,
            None => Json::Null,
        };
        pairs.push((Arc::from(column.name.as_str()), value));
    }
    Ok(Datum::Jsonb(Arc::new(Json::object(pairs))))
}

/// A value as `to_jsonb` gives it: numbers and booleans as such, JSON as it is, times in ISO 8601,
/// everything else as its text.
fn of(value: &Datum, ty: Type) -> Result<Json> {
    Ok(match value {
        Datum::Null => Json::Null,
        Datum::Bool(value) => Json::Bool(*value),
        Datum::Jsonb(json) => (**json).clone(),
        Datum::Int2(_)
        | Datum::Int4(_)
        | Datum::Int8(_)
        | Datum::Float4(_)
        | Datum::Float8(_)
        | Datum::Numeric(_) => {
            let text = text(value, ty);
            // NaN and the infinities are no JSON numbers.
            json::parse(&text).unwrap_or_else(|_| Json::string(text))
        }
        Datum::Text(json) if ty == Type::JSON => json::parse(json)?,
        Datum::Timestamp(_) | Datum::Timestamptz(_) => {
            Json::string(text(value, ty).replacen(' ', "T", 1))
        }
        Datum::Array(array) => {
            let element = ty.element().unwrap_or(Type::TEXT);
            let values = array.values.iter().map(|value| of(value, element));
            Json::Array(values.collect::<Result<_>>()?)
        }
        _ => Json::string(text(value, ty)),
    })
}

fn text(value: &Datum, ty: Type) -> String {
    let mut out = Vec::new();
    value.write_text(ty, &FormatSettings::default(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}
