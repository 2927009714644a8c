//! Rows as jsonb objects by column name.

use std::sync::Arc;

use crate::catalog::{Column, Key, Table};
use crate::outbox::{NUMBER, SENDER};
use crate::types::key::{decode_key, encode_key};
use crate::types::{Datum, FormatSettings, Json, Type, codec::decode_value, json};
use crate::{Error, Result, state};

/// The whole row, dropped columns left out.
pub(super) fn row(table: &Table, bytes: &[u8]) -> Result<Datum> {
    object(table.live_columns(), bytes)
}

/// A command on its way to an inbox: without what is filled in there.
pub(crate) fn command(table: &Table, bytes: &[u8]) -> Result<Datum> {
    let filled = |column: &&Column| [SENDER, NUMBER].contains(&column.name.as_str());
    object(table.live_columns().filter(|column| !filled(column)), bytes)
}

/// The key under which a row is stored, from its primary key's columns as the feed shows them.
///
/// # Errors
/// 42809: the table has no primary key; 22023: a column of it is missing; 22P02 and its kin: a
/// value is none of its type.
pub fn stored_key(table: &Table, shown: &Json) -> Result<Vec<u8>> {
    let Key::Primary(ids) = &table.key else {
        return Err(Error::new(
            state::WRONG_OBJECT_TYPE,
            format!("table \"{}\" has no primary key", table.name),
        ));
    };
    let mut stored = Vec::new();
    for id in ids {
        let column = table.live_columns().find(|column| column.id == *id);
        let column = column.ok_or_else(|| Error::internal("a key of a dropped column"))?;
        let Some(value) = shown.get(&column.name) else {
            return Err(Error::new(
                state::INVALID_PARAMETER_VALUE,
                format!("key has no column \"{}\"", column.name),
            ));
        };
        let text = match value {
            Json::String(text) => text.to_string(),
            other => other.to_string(),
        };
        let value = Datum::from_text(&text, column.ty, &FormatSettings::default())?;
        encode_key(&value, column.ty.plain(), false, false, &mut stored);
    }
    Ok(stored)
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

/// The same of a stored key; NULL also where the key is erased.
pub(super) fn key_of(table: &Table, mut stored: &[u8]) -> Result<Datum> {
    let Key::Primary(ids) = &table.key else {
        return Ok(Datum::Null);
    };
    if stored.is_empty() {
        return Ok(Datum::Null);
    }
    let mut pairs = Vec::new();
    for id in ids {
        let column = table.live_columns().find(|column| column.id == *id);
        let column = column.ok_or_else(|| Error::internal("a key of a dropped column"))?;
        let value = decode_key(column.ty, false, &mut stored)?;
        pairs.push((Arc::from(column.name.as_str()), of(&value, column.ty)?));
    }
    Ok(Datum::Jsonb(Arc::new(Json::object(pairs))))
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
