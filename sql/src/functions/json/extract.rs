//! Taking parts out of JSON: `->`, `->>`, `#>`, `#>>`, `?`, `@>`, lengths, types and casts.

use std::sync::Arc;

use super::scan::{self, Outer};
use super::{invalid, path_of, plain_text};
use crate::error::Result;
use crate::functions::ScalarFunction;
use crate::functions::scalar::arguments as arg;
use crate::types::{Datum, Json, Numeric, Type};

fn jsonb(value: Option<&Json>) -> Result<Datum> {
    Ok(value.map_or(Datum::Null, |value| Datum::jsonb(value.clone())))
}

fn jsonb_text(value: Option<&Json>) -> Result<Datum> {
    Ok(Datum::from(value.and_then(plain_text)))
}

fn json(value: Option<&str>) -> Result<Datum> {
    Ok(value.map_or(Datum::Null, Datum::text))
}

fn json_text(value: Option<&str>) -> Result<Datum> {
    Ok(match value {
        None => Datum::Null,
        Some(text) => Datum::from(scan::plain(text)?),
    })
}

/// The element at an index; a scalar counts as an array of itself.
fn element(value: &Json, index: i32) -> Option<&Json> {
    if value.is_scalar() {
        return matches!(index, 0 | -1).then_some(value);
    }
    value.index(i64::from(index))
}

fn array_index(text: &str) -> Option<i64> {
    let trimmed = text.trim_start();
    let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    let valid = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if valid { trimmed.parse().ok() } else { None }
}

/// The value at a path.
fn walk<'a>(mut value: &'a Json, path: &[Arc<str>]) -> Option<&'a Json> {
    for step in path {
        value = match value {
            Json::Object(_) => value.get(step)?,
            Json::Array(_) => value.index(array_index(step)?)?,
            _ => return None,
        };
    }
    Some(value)
}

fn walk_text<'a>(text: &'a str, path: &[Arc<str>]) -> Result<Option<&'a str>> {
    let mut value = text.trim();
    for step in path {
        let next = match scan::outer(value) {
            Outer::Object => scan::field(value, step)?,
            Outer::Array => array_index(step).and_then(|index| scan::element(value, index)),
            Outer::Scalar => None,
        };
        match next {
            Some(next) => value = next,
            None => return Ok(None),
        }
    }
    Ok(Some(value))
}

fn field_text(a: &[Datum]) -> Result<Option<&str>> {
    let text = arg::text(a, 0)?;
    match scan::outer(text) {
        Outer::Object => scan::field(text, arg::text(a, 1)?),
        _ => Ok(None),
    }
}

fn element_text(a: &[Datum]) -> Result<Option<&str>> {
    let text = arg::text(a, 0)?;
    match scan::outer(text) {
        Outer::Array => Ok(scan::element(text, i64::from(arg::int4(a, 1)?))),
        _ => Ok(None),
    }
}

fn exists(value: &Json, key: &str) -> bool {
    match value {
        Json::Object(_) => value.get(key).is_some(),
        Json::Array(items) => items
            .iter()
            .any(|item| matches!(item, Json::String(text) if &**text == key)),
        Json::String(text) => &**text == key,
        _ => false,
    }
}

fn keys(a: &[Datum]) -> Result<Vec<&str>> {
    Ok(arg::array(a, 1)?
        .values
        .iter()
        .filter_map(Datum::as_str)
        .collect())
}

/// The number in a jsonb argument that is cast to a numeric type.
fn number<'a>(a: &'a [Datum], kind: &str) -> Result<&'a Numeric> {
    match arg::jsonb(a, 0)? {
        Json::Number(number) => Ok(number),
        other => Err(cast_error(other, kind)),
    }
}

fn cast_error(value: &Json, kind: &str) -> crate::Error {
    let what = match value {
        Json::Number(_) => "numeric",
        other => other.type_name(),
    };
    invalid(format!("cannot cast jsonb {what} to type {kind}"))
}

fn by_number(e: &mut crate::functions::Evaluation<'_>, a: &[Datum], kind: Type) -> Result<Datum> {
    let number = Datum::numeric(number(a, &kind.name())?.clone());
    crate::types::cast(
        &number,
        Type::NUMERIC,
        kind,
        crate::types::CastContext::Explicit,
        e,
    )
}

fn strip(value: &Json) -> Json {
    match value {
        Json::Array(items) => Json::Array(items.iter().map(strip).collect()),
        Json::Object(pairs) => Json::Object(
            pairs
                .iter()
                .filter(|(_, value)| !matches!(value, Json::Null))
                .map(|(key, value)| (key.clone(), strip(value)))
                .collect(),
        ),
        scalar => scalar.clone(),
    }
}

/// The compact text of JSON text without its null fields, order kept.
fn strip_text(text: &str, out: &mut Vec<u8>) -> Result<()> {
    let text = text.trim();
    match scan::outer(text) {
        Outer::Scalar => out.extend_from_slice(text.as_bytes()),
        Outer::Array => {
            out.push(b'[');
            for (index, item) in scan::elements(text).into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                strip_text(item, out)?;
            }
            out.push(b']');
        }
        Outer::Object => {
            out.push(b'{');
            let mut first = true;
            for (key, value) in scan::fields(text)? {
                if value.trim() == "null" {
                    continue;
                }
                if !first {
                    out.push(b',');
                }
                first = false;
                crate::types::json::write_string(&key, out);
                out.push(b':');
                strip_text(value, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

/// Operators and functions that read.
pub(super) const TABLE: &[(&str, ScalarFunction)] = &[
    ("jsonb_object_field", |_, _, a| {
        jsonb(arg::jsonb(a, 0)?.get(arg::text(a, 1)?))
    }),
    ("jsonb_object_field_text", |_, _, a| {
        jsonb_text(arg::jsonb(a, 0)?.get(arg::text(a, 1)?))
    }),
    ("jsonb_array_element", |_, _, a| {
        jsonb(element(arg::jsonb(a, 0)?, arg::int4(a, 1)?))
    }),
    ("jsonb_array_element_text", |_, _, a| {
        jsonb_text(element(arg::jsonb(a, 0)?, arg::int4(a, 1)?))
    }),
    ("jsonb_extract_path", |_, _, a| match path_of(&a[1]) {
        None => Ok(Datum::Null),
        Some(path) => jsonb(walk(arg::jsonb(a, 0)?, &path)),
    }),
    ("jsonb_extract_path_text", |_, _, a| match path_of(&a[1]) {
        None => Ok(Datum::Null),
        Some(path) => jsonb_text(walk(arg::jsonb(a, 0)?, &path)),
    }),
    ("json_object_field", |_, _, a| json(field_text(a)?)),
    ("json_object_field_text", |_, _, a| {
        json_text(field_text(a)?)
    }),
    ("json_array_element", |_, _, a| json(element_text(a)?)),
    ("json_array_element_text", |_, _, a| {
        json_text(element_text(a)?)
    }),
    ("json_extract_path", |_, _, a| match path_of(&a[1]) {
        None => Ok(Datum::Null),
        Some(path) => json(walk_text(arg::text(a, 0)?, &path)?),
    }),
    ("json_extract_path_text", |_, _, a| match path_of(&a[1]) {
        None => Ok(Datum::Null),
        Some(path) => json_text(walk_text(arg::text(a, 0)?, &path)?),
    }),
    ("jsonb_contains", |_, _, a| {
        Ok(Datum::Bool(arg::jsonb(a, 0)?.contains(arg::jsonb(a, 1)?)))
    }),
    ("jsonb_contained", |_, _, a| {
        Ok(Datum::Bool(arg::jsonb(a, 1)?.contains(arg::jsonb(a, 0)?)))
    }),
    ("jsonb_exists", |_, _, a| {
        Ok(Datum::Bool(exists(arg::jsonb(a, 0)?, arg::text(a, 1)?)))
    }),
    ("jsonb_exists_any", |_, _, a| {
        let value = arg::jsonb(a, 0)?;
        Ok(Datum::Bool(
            keys(a)?.into_iter().any(|key| exists(value, key)),
        ))
    }),
    ("jsonb_exists_all", |_, _, a| {
        let value = arg::jsonb(a, 0)?;
        Ok(Datum::Bool(
            keys(a)?.into_iter().all(|key| exists(value, key)),
        ))
    }),
    ("jsonb_typeof", |_, _, a| {
        Ok(Datum::text(arg::jsonb(a, 0)?.type_name()))
    }),
    ("json_typeof", |_, _, a| {
        let text = arg::text(a, 0)?.trim();
        Ok(Datum::text(match text.as_bytes().first() {
            Some(b'{') => "object",
            Some(b'[') => "array",
            Some(b'"') => "string",
            Some(b't' | b'f') => "boolean",
            Some(b'n') => "null",
            _ => "number",
        }))
    }),
    ("jsonb_array_length", |_, _, a| match arg::jsonb(a, 0)? {
        Json::Array(items) => Ok(Datum::Int4(items.len() as i32)),
        Json::Object(_) => Err(invalid("cannot get array length of a non-array")),
        _ => Err(invalid("cannot get array length of a scalar")),
    }),
    ("json_array_length", |_, _, a| {
        let text = arg::text(a, 0)?;
        match scan::outer(text) {
            Outer::Array => Ok(Datum::Int4(scan::elements(text).len() as i32)),
            Outer::Object => Err(invalid("cannot get array length of a non-array")),
            Outer::Scalar => Err(invalid("cannot get array length of a scalar")),
        }
    }),
    ("jsonb_pretty", |_, _, a| {
        let mut out = Vec::new();
        arg::jsonb(a, 0)?.write_pretty(0, &mut out);
        Ok(Datum::from(String::from_utf8_lossy(&out).into_owned()))
    }),
    ("jsonb_strip_nulls", |_, _, a| {
        Ok(Datum::jsonb(strip(arg::jsonb(a, 0)?)))
    }),
    ("json_strip_nulls", |_, _, a| {
        let mut out = Vec::new();
        strip_text(arg::text(a, 0)?, &mut out)?;
        Ok(Datum::from(String::from_utf8_lossy(&out).into_owned()))
    }),
    ("jsonb_bool", |_, _, a| match arg::jsonb(a, 0)? {
        Json::Bool(value) => Ok(Datum::Bool(*value)),
        other => Err(cast_error(other, "boolean")),
    }),
    ("jsonb_numeric", |_, _, a| {
        Ok(Datum::numeric(number(a, "numeric")?.clone()))
    }),
    ("jsonb_int2", |e, _, a| by_number(e, a, Type::INT2)),
    ("jsonb_int4", |e, _, a| by_number(e, a, Type::INT4)),
    ("jsonb_int8", |e, _, a| by_number(e, a, Type::INT8)),
    ("jsonb_float4", |e, _, a| by_number(e, a, Type::FLOAT4)),
    ("jsonb_float8", |e, _, a| by_number(e, a, Type::FLOAT8)),
];
