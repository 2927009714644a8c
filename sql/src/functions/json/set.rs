//! Set-returning JSON functions.

use super::scan::{self, Outer};
use super::{invalid, pair, plain_text, populate};
use crate::error::Result;
use crate::functions::scalar::arguments as arg;
use crate::functions::set::{Rows, rows};
use crate::functions::{Evaluation, Resolved, SetFunction};
use crate::types::json::parse;
use crate::types::{Datum, Json, Type};

/// The set-returning function behind a source name.
pub(in crate::functions) fn by_source(source: &str) -> Option<SetFunction> {
    Some(match source {
        "jsonb_array_elements" => |_, _, a| {
            rows(
                items(arg::jsonb(a, 0)?)?
                    .iter()
                    .map(|v| Datum::jsonb(v.clone()))
                    .collect(),
            )
        },
        "jsonb_array_elements_text" => |_, _, a| {
            let items = items(arg::jsonb(a, 0)?)?;
            rows(items.iter().map(|v| Datum::from(plain_text(v))).collect())
        },
        "json_array_elements" => |_, _, a| {
            rows(
                text_items(arg::text(a, 0)?)?
                    .into_iter()
                    .map(Datum::text)
                    .collect(),
            )
        },
        "json_array_elements_text" => |_, _, a| {
            let items = text_items(arg::text(a, 0)?)?;
            rows(
                items
                    .into_iter()
                    .map(|v| Ok(Datum::from(scan::plain(v)?)))
                    .collect::<Result<_>>()?,
            )
        },
        "jsonb_each" => |_, _, a| {
            let pairs = pairs(arg::jsonb(a, 0)?, "jsonb_each")?;
            let row = |(key, value): &(std::sync::Arc<str>, Json)| {
                pair(
                    Datum::Text(key.clone()),
                    Datum::jsonb(value.clone()),
                    Type::JSONB,
                )
            };
            rows(pairs.iter().map(row).collect())
        },
        "jsonb_each_text" => |_, _, a| {
            let pairs = pairs(arg::jsonb(a, 0)?, "jsonb_each_text")?;
            let row = |(key, value): &(std::sync::Arc<str>, Json)| {
                pair(
                    Datum::Text(key.clone()),
                    Datum::from(plain_text(value)),
                    Type::TEXT,
                )
            };
            rows(pairs.iter().map(row).collect())
        },
        "json_each" => json_each,
        "json_each_text" => json_each_text,
        "jsonb_object_keys" => |_, _, a| match arg::jsonb(a, 0)? {
            Json::Object(pairs) => rows(
                pairs
                    .iter()
                    .map(|(key, _)| Datum::Text(key.clone()))
                    .collect(),
            ),
            Json::Array(_) => Err(invalid("cannot call jsonb_object_keys on an array")),
            _ => Err(invalid("cannot call jsonb_object_keys on a scalar")),
        },
        "json_object_keys" => |_, _, a| {
            let text = arg::text(a, 0)?;
            match scan::outer(text) {
                Outer::Object => rows(
                    scan::fields(text)?
                        .into_iter()
                        .map(|(key, _)| Datum::from(key))
                        .collect(),
                ),
                Outer::Array => Err(invalid("cannot call json_object_keys on an array")),
                Outer::Scalar => Err(invalid("cannot call json_object_keys on a scalar")),
            }
        },
        "json_to_recordset" => |e, call, a| {
            let json = parse(arg::text(a, 0)?)?;
            records(&json, "json_to_recordset", e, call)
        },
        "jsonb_to_recordset" => {
            |e, call, a| records(arg::jsonb(a, 0)?, "jsonb_to_recordset", e, call)
        }
        "jsonb_path_query" | "jsonb_path_query_tz" => |_, _, a| {
            rows(
                super::path::rows(a)?
                    .into_iter()
                    .map(Datum::jsonb)
                    .collect(),
            )
        },
        _ => return None,
    })
}

fn items(value: &Json) -> Result<&[Json]> {
    match value {
        Json::Array(items) => Ok(items),
        Json::Object(_) => Err(invalid("cannot extract elements from an object")),
        _ => Err(invalid("cannot extract elements from a scalar")),
    }
}

/// A record of the call's column definition list from each object of an array.
fn records(json: &Json, name: &str, e: &Evaluation<'_>, call: &Resolved) -> Result<Rows> {
    let items = match json {
        Json::Array(items) => items,
        Json::Object(_) => return Err(invalid(format!("cannot call {name} on an object"))),
        _ => return Err(invalid(format!("cannot call {name} on a scalar"))),
    };
    let shape = call.shape()?;
    let record = |item: &Json| match item {
        Json::Object(_) => populate(item, shape, e.format),
        _ => Err(invalid(format!(
            "argument of {name} must be an array of objects"
        ))),
    };
    rows(items.iter().map(record).collect::<Result<_>>()?)
}

fn text_items(text: &str) -> Result<Vec<&str>> {
    match scan::outer(text) {
        Outer::Array => Ok(scan::elements(text)),
        Outer::Object => Err(invalid("cannot call json_array_elements on a non-array")),
        Outer::Scalar => Err(invalid("cannot call json_array_elements on a scalar")),
    }
}

fn pairs<'a>(value: &'a Json, name: &str) -> Result<&'a [(std::sync::Arc<str>, Json)]> {
    match value {
        Json::Object(pairs) => Ok(pairs),
        _ => Err(invalid(format!("cannot call {name} on a non-object"))),
    }
}

fn text_fields(text: &str) -> Result<Vec<(String, &str)>> {
    match scan::outer(text) {
        Outer::Object => scan::fields(text),
        Outer::Array => Err(invalid("cannot deconstruct an array as an object")),
        Outer::Scalar => Err(invalid("cannot deconstruct a scalar")),
    }
}

fn json_each(_: &mut Evaluation<'_>, _: &Resolved, a: &[Datum]) -> Result<Rows> {
    let fields = text_fields(arg::text(a, 0)?)?;
    rows(
        fields
            .into_iter()
            .map(|(key, value)| pair(Datum::from(key), Datum::text(value), Type::JSON))
            .collect(),
    )
}

fn json_each_text(_: &mut Evaluation<'_>, _: &Resolved, a: &[Datum]) -> Result<Rows> {
    let mut out = Vec::new();
    for (key, value) in text_fields(arg::text(a, 0)?)? {
        out.push(pair(
            Datum::from(key),
            Datum::from(scan::plain(value)?),
            Type::TEXT,
        ));
    }
    rows(out)
}
