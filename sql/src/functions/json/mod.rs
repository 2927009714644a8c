//! JSON functions: turning values into JSON, taking JSON apart, changing it.

mod build;
mod change;
mod extract;
mod path;
pub mod scan;
mod set;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use crate::error::{Error, Result, state};
use crate::functions::{Resolved, ScalarFunction};
use crate::types::datetime;
use crate::types::json::write_string;
use crate::types::kind::oid;
use crate::types::{Array, Datum, FormatSettings, Json, Record, Shape, Type};

pub(super) use set::by_source as set_by_source;

static TABLE: LazyLock<HashMap<&'static str, ScalarFunction>> = LazyLock::new(|| {
    let tables: [&[(&'static str, ScalarFunction)]; 4] =
        [build::TABLE, change::TABLE, extract::TABLE, path::TABLE];
    tables
        .iter()
        .flat_map(|table| table.iter().copied())
        .collect()
});

/// The scalar function behind a source name.
pub(super) fn by_source(source: &str) -> Option<ScalarFunction> {
    TABLE.get(source).copied()
}

/// 22023, as most JSON functions refuse.
fn invalid(message: impl Into<String>) -> Error {
    Error::new(state::INVALID_PARAMETER_VALUE, message)
}

/// The ISO 8601 text of a date or time, as JSON writes it; `None` for other types.
fn iso_text(value: &Datum, format: &FormatSettings) -> Option<Vec<u8>> {
    let iso = FormatSettings {
        date_style: crate::types::DateStyle::Iso,
        ..format.clone()
    };
    let mut out = Vec::new();
    match value {
        Datum::Date(days) => datetime::write_date(*days, &iso, &mut out),
        Datum::Timestamp(us) => datetime::write_timestamp(*us, &iso, &mut out),
        Datum::Timestamptz(us) => {
            datetime::write_timestamptz(*us, &iso, &mut out);
            // The zone always has its minutes.
            let sign = out.iter().rposition(|b| matches!(b, b'+' | b'-'));
            let bc = out.ends_with(b" BC");
            if let Some(sign) = sign.filter(|_| !datetime::is_infinite(*us)) {
                let end = if bc { out.len() - 3 } else { out.len() };
                if end - sign == 3 {
                    out.splice(end..end, *b":00");
                }
            }
        }
        _ => return None,
    }
    if !matches!(value, Datum::Date(_))
        && let Some(blank) = out.iter().position(|b| *b == b' ')
    {
        out[blank] = b'T';
    }
    Some(out)
}

/// Whether a text is a JSON number as it stands.
fn is_number(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    digits.first().is_some_and(u8::is_ascii_digit)
        && digits
            .iter()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
}

/// Appends the JSON text of any value, as `to_json` makes it.
///
/// # Errors
/// 22P02 for a `json` value that is not JSON.
pub fn write_json(
    value: &Datum,
    kind: Type,
    format: &FormatSettings,
    out: &mut Vec<u8>,
) -> Result<()> {
    match value {
        Datum::Null => out.extend_from_slice(b"null"),
        Datum::Bool(true) => out.extend_from_slice(b"true"),
        Datum::Bool(false) => out.extend_from_slice(b"false"),
        Datum::Int2(_)
        | Datum::Int4(_)
        | Datum::Int8(_)
        | Datum::Float4(_)
        | Datum::Float8(_)
        | Datum::Numeric(_) => {
            let start = out.len();
            value.write_text(kind, format, out);
            if !is_number(&out[start..]) {
                out.insert(start, b'"');
                out.push(b'"');
            }
        }
        Datum::Text(text) if kind.oid == oid::JSON => out.extend_from_slice(text.as_bytes()),
        Datum::Jsonb(json) => json.write(out),
        Datum::Array(array) => {
            let element = kind.element().unwrap_or(array.element);
            if kind.is_vector() || array.dimensions.is_empty() {
                out.push(b'[');
                write_items(&array.values, element, false, format, out)?;
                out.push(b']');
            } else {
                write_level(array, element, 0, &mut 0, false, format, out)?;
            }
        }
        Datum::Record(record) => write_record(record, false, format, out)?,
        other => {
            let text = iso_text(other, format)
                .or_else(|| other.to_text(kind, format).map(String::into_bytes))
                .unwrap_or_default();
            write_string(&String::from_utf8_lossy(&text), out);
        }
    }
    Ok(())
}

fn write_items(
    items: &[Datum],
    element: Type,
    lines: bool,
    format: &FormatSettings,
    out: &mut Vec<u8>,
) -> Result<()> {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(if lines { b",\n " } else { b"," });
        }
        write_json(item, element, format, out)?;
    }
    Ok(())
}

fn write_level(
    array: &Array,
    element: Type,
    depth: usize,
    next: &mut usize,
    lines: bool,
    format: &FormatSettings,
    out: &mut Vec<u8>,
) -> Result<()> {
    out.push(b'[');
    let length = array.dimensions[depth].length as usize;
    if depth + 1 == array.dimensions.len() {
        let items = &array.values[*next..*next + length];
        *next += length;
        write_items(items, element, lines, format, out)?;
    } else {
        for index in 0..length {
            if index > 0 {
                out.extend_from_slice(if lines { b",\n " } else { b"," });
            }
            write_level(array, element, depth + 1, next, false, format, out)?;
        }
    }
    out.push(b']');
    Ok(())
}

fn write_record(
    record: &Record,
    lines: bool,
    format: &FormatSettings,
    out: &mut Vec<u8>,
) -> Result<()> {
    out.push(b'{');
    for (index, value) in record.values.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(if lines { b",\n " } else { b"," });
        }
        write_string(&record.shape.names[index], out);
        out.push(b':');
        write_json(value, record.shape.types[index], format, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// The text of an object's key made of any scalar value.
///
/// # Errors
/// 22023 for arrays, records and JSON.
pub fn key_text(value: &Datum, kind: Type, format: &FormatSettings) -> Result<String> {
    let composite = matches!(value, Datum::Array(_) | Datum::Record(_) | Datum::Jsonb(_));
    if composite || kind.oid == oid::JSON {
        return Err(invalid(
            "key value must be scalar, not array, composite, or json",
        ));
    }
    if let Some(text) = iso_text(value, format) {
        return Ok(String::from_utf8_lossy(&text).into_owned());
    }
    if let Datum::Bool(value) = value {
        return Ok(value.to_string());
    }
    Ok(value.to_text(kind, format).unwrap_or_default())
}

/// Appends an object's key.
///
/// # Errors
/// As [`key_text`].
pub fn write_key(
    value: &Datum,
    kind: Type,
    format: &FormatSettings,
    out: &mut Vec<u8>,
) -> Result<()> {
    write_string(&key_text(value, kind, format)?, out);
    Ok(())
}

/// The jsonb value of any value, as `to_jsonb` makes it.
///
/// # Errors
/// 22P02 for a `json` value that is not JSON.
pub fn to_json(value: &Datum, kind: Type, format: &FormatSettings) -> Result<Json> {
    Ok(match value {
        Datum::Null => Json::Null,
        Datum::Bool(value) => Json::Bool(*value),
        Datum::Jsonb(json) => (**json).clone(),
        Datum::Numeric(number) if number.is_finite() => Json::Number((**number).clone()),
        Datum::Int2(_) | Datum::Int4(_) | Datum::Int8(_) | Datum::Float4(_) | Datum::Float8(_) => {
            let text = value.to_text(kind, format).unwrap_or_default();
            if is_number(text.as_bytes()) {
                Json::Number(text.parse()?)
            } else {
                Json::string(text)
            }
        }
        Datum::Text(text) if kind.oid == oid::JSON => crate::types::json::parse(text)?,
        Datum::Text(text) => Json::String(text.clone()),
        Datum::Array(array) => {
            let element = kind.element().unwrap_or(array.element);
            if array.dimensions.is_empty() {
                Json::Array(Vec::new())
            } else {
                array_level(array, element, 0, &mut 0, format)?
            }
        }
        Datum::Record(record) => {
            let mut pairs = Vec::with_capacity(record.values.len());
            for (index, value) in record.values.iter().enumerate() {
                let json = to_json(value, record.shape.types[index], format)?;
                pairs.push((record.shape.names[index].clone(), json));
            }
            Json::object(pairs)
        }
        other => {
            let text = iso_text(other, format)
                .map(|text| String::from_utf8_lossy(&text).into_owned())
                .or_else(|| other.to_text(kind, format))
                .unwrap_or_default();
            Json::string(text)
        }
    })
}

fn array_level(
    array: &Array,
    element: Type,
    depth: usize,
    next: &mut usize,
    format: &FormatSettings,
) -> Result<Json> {
    let mut items = Vec::new();
    for _ in 0..array.dimensions[depth].length {
        if depth + 1 < array.dimensions.len() {
            items.push(array_level(array, element, depth + 1, next, format)?);
        } else {
            items.push(to_json(&array.values[*next], element, format)?);
            *next += 1;
        }
    }
    Ok(Json::Array(items))
}

/// A record of the given columns from a JSON object, as `jsonb_to_record`, `jsonb_to_recordset`
/// and their kin make it; missing fields are NULL.
///
/// # Errors
/// 22023 when the value is no object; what the columns' input functions raise.
fn populate(json: &Json, shape: &Arc<Shape>, format: &FormatSettings) -> Result<Datum> {
    let Json::Object(_) = json else {
        let what = if matches!(json, Json::Array(_)) {
            "an array"
        } else {
            "a scalar"
        };
        return Err(invalid(format!("cannot call populate_composite on {what}")));
    };
    let mut values = Vec::with_capacity(shape.types.len());
    for (name, kind) in shape.names.iter().zip(&shape.types) {
        values.push(match json.get(name) {
            None => Datum::Null,
            Some(field) => from_json(field, *kind, format)?,
        });
    }
    Ok(Datum::Record(Arc::new(Record::new(shape.clone(), values))))
}

/// The value of a type that a JSON value says: strings and numbers by their text, arrays by
/// elements, `json` and `jsonb` as they are.
///
/// # Errors
/// What the type's input function raises; 22P02 for a scalar where an array is needed.
pub(crate) fn from_json(json: &Json, kind: Type, format: &FormatSettings) -> Result<Datum> {
    match (json, kind.oid) {
        (json, oid::JSONB) => Ok(Datum::jsonb(json.clone())),
        (json, oid::JSON) => Ok(Datum::from(json.to_string())),
        (Json::Null, _) => Ok(Datum::Null),
        (Json::Array(items), _) if kind.is_array() => {
            let element = kind.element().unwrap_or(Type::TEXT);
            let nested = items.iter().all(|item| matches!(item, Json::Array(_)));
            if nested && !items.is_empty() && element.oid != oid::JSONB && element.oid != oid::JSON
            {
                let parts: Result<Vec<Datum>> = items
                    .iter()
                    .map(|item| from_json(item, kind, format))
                    .collect();
                return Ok(Datum::array(Array::stack(element, &parts?)?));
            }
            let values: Result<Vec<Datum>> = items
                .iter()
                .map(|item| from_json(item, element, format))
                .collect();
            Ok(Datum::array(Array::of(element, values?)))
        }
        (Json::String(text), _) => Datum::from_input(text, kind, format),
        (_, _) if kind.is_array() => Err(Error::new(
            state::INVALID_TEXT_REPRESENTATION,
            "expected JSON array",
        )),
        (json, _) => Datum::from_input(&json.to_string(), kind, format),
    }
}

/// A pair of an object as a two-column record.
fn pair(key: Datum, value: Datum, kind: Type) -> Datum {
    static NAMES: LazyLock<Vec<Arc<str>>> =
        LazyLock::new(|| vec![Arc::from("key"), Arc::from("value")]);
    let shape = Shape {
        names: NAMES.clone(),
        types: vec![Type::TEXT, kind],
    };
    Datum::Record(Arc::new(Record::new(Arc::new(shape), vec![key, value])))
}

/// The path elements of a `text[]` argument; `None` when one is NULL.
fn path_of(value: &Datum) -> Option<Vec<Arc<str>>> {
    match value {
        Datum::Array(array) => array
            .values
            .iter()
            .map(|item| match item {
                Datum::Text(text) => Some(text.clone()),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

/// The text of a JSON value for `->>`; `None` for JSON null.
fn plain_text(json: &Json) -> Option<String> {
    match json {
        Json::Null => None,
        Json::String(text) => Some(text.to_string()),
        other => Some(other.to_string()),
    }
}

/// The declared type of an argument.
fn kind_of(call: &Resolved, index: usize) -> Type {
    call.parameter(index)
}
