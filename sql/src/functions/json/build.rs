//! Making JSON out of values.

use std::sync::Arc;

use super::{invalid, key_text, kind_of, populate, to_json, write_json, write_key};
use crate::error::{Error, Result, state};
use crate::functions::scalar::arguments as arg;
use crate::functions::{Evaluation, Resolved, ScalarFunction};
use crate::types::json::{parse, write_string};
use crate::types::{Array, Datum, Json, Type};

fn text(out: Vec<u8>) -> Result<Datum> {
    Ok(Datum::from(String::from_utf8_lossy(&out).into_owned()))
}

/// The arguments of a `VARIADIC "any"` call with their types; `None` for a NULL array.
fn spread(call: &Resolved, a: &[Datum]) -> Option<Vec<(Datum, Type)>> {
    if call.is_spread() {
        return match a.first() {
            Some(Datum::Array(array)) => Some(
                array
                    .values
                    .iter()
                    .map(|v| (v.clone(), array.element))
                    .collect(),
            ),
            _ => None,
        };
    }
    Some(
        a.iter()
            .enumerate()
            .map(|(i, v)| (v.clone(), kind_of(call, i)))
            .collect(),
    )
}

fn odd(name: &str) -> Error {
    invalid("argument list must have even number of elements").hint(format!(
        "The arguments of {name}() must consist of alternating keys and values."
    ))
}

fn build_object(e: &mut Evaluation<'_>, call: &Resolved, a: &[Datum]) -> Result<Datum> {
    let Some(values) = spread(call, a) else {
        return Ok(Datum::Null);
    };
    if values.len() % 2 != 0 {
        return Err(odd("json_build_object"));
    }
    let mut out = vec![b'{'];
    for (index, pair) in values.chunks(2).enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        if pair[0].0.is_null() {
            return Err(
                invalid(format!("argument {} cannot be null", index * 2 + 1))
                    .hint("Object keys should be text."),
            );
        }
        write_key(&pair[0].0, pair[0].1, e.format, &mut out)?;
        out.extend_from_slice(b" : ");
        write_json(&pair[1].0, pair[1].1, e.format, &mut out)?;
    }
    out.push(b'}');
    text(out)
}

fn build_array(e: &mut Evaluation<'_>, call: &Resolved, a: &[Datum]) -> Result<Datum> {
    let Some(values) = spread(call, a) else {
        return Ok(Datum::Null);
    };
    let mut out = vec![b'['];
    for (index, (value, kind)) in values.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        write_json(value, *kind, e.format, &mut out)?;
    }
    out.push(b']');
    text(out)
}

fn jsonb_build_object(e: &mut Evaluation<'_>, call: &Resolved, a: &[Datum]) -> Result<Datum> {
    let Some(values) = spread(call, a) else {
        return Ok(Datum::Null);
    };
    if values.len() % 2 != 0 {
        return Err(odd("jsonb_build_object"));
    }
    let mut pairs = Vec::with_capacity(values.len() / 2);
    for (index, pair) in values.chunks(2).enumerate() {
        if pair[0].0.is_null() {
            return Err(invalid(format!(
                "argument {}: key must not be null",
                index * 2 + 1
            )));
        }
        let key = key_text(&pair[0].0, pair[0].1, e.format)?;
        pairs.push((Arc::from(key), to_json(&pair[1].0, pair[1].1, e.format)?));
    }
    Ok(Datum::jsonb(Json::object(pairs)))
}

fn jsonb_build_array(e: &mut Evaluation<'_>, call: &Resolved, a: &[Datum]) -> Result<Datum> {
    let Some(values) = spread(call, a) else {
        return Ok(Datum::Null);
    };
    let items: Result<Vec<Json>> = values
        .iter()
        .map(|(value, kind)| to_json(value, *kind, e.format))
        .collect();
    Ok(Datum::jsonb(Json::Array(items?)))
}

/// Key and value texts of `json_object`, from one array or two.
fn object_pairs(a: &[Datum]) -> Result<Vec<(Arc<str>, Option<Arc<str>>)>> {
    let subscripts = |message: &str| Error::new(state::ARRAY_SUBSCRIPT_ERROR, message);
    let item = |value: &Datum| match value {
        Datum::Text(text) => Some(text.clone()),
        _ => None,
    };
    let null_key = || {
        Error::new(
            state::NULL_VALUE_NOT_ALLOWED,
            "null value not allowed for object key",
        )
    };
    let first = arg::array(a, 0)?;
    let mut pairs = Vec::new();
    if a.len() > 1 {
        let second = arg::array(a, 1)?;
        if first.dimensions.len() > 1 || first.dimensions.len() != second.dimensions.len() {
            return Err(subscripts("wrong number of array subscripts"));
        }
        if first.len() != second.len() {
            return Err(subscripts("mismatched array dimensions"));
        }
        for (key, value) in first.values.iter().zip(&second.values) {
            pairs.push((item(key).ok_or_else(null_key)?, item(value)));
        }
        return Ok(pairs);
    }
    check_pairs_shape(first)?;
    for pair in first.values.chunks(2) {
        pairs.push((item(&pair[0]).ok_or_else(null_key)?, item(&pair[1])));
    }
    Ok(pairs)
}

fn check_pairs_shape(array: &Array) -> Result<()> {
    let subscripts = |message: &str| Err(Error::new(state::ARRAY_SUBSCRIPT_ERROR, message));
    match array.dimensions.as_slice() {
        [] => Ok(()),
        [one] if one.length % 2 != 0 => subscripts("array must have even number of elements"),
        [_] => Ok(()),
        [_, two] if two.length != 2 => subscripts("array must have two columns"),
        [_, _] => Ok(()),
        _ => subscripts("wrong number of array subscripts"),
    }
}

fn object(a: &[Datum]) -> Result<Datum> {
    let mut out = vec![b'{'];
    for (index, (key, value)) in object_pairs(a)?.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        write_string(key, &mut out);
        out.extend_from_slice(b" : ");
        match value {
            Some(value) => write_string(value, &mut out),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
    text(out)
}

fn jsonb_object(a: &[Datum]) -> Result<Datum> {
    let pairs = object_pairs(a)?
        .into_iter()
        .map(|(key, value)| (key, value.map_or(Json::Null, Json::String)))
        .collect();
    Ok(Datum::jsonb(Json::object(pairs)))
}

fn lines(e: &mut Evaluation<'_>, call: &Resolved, a: &[Datum], pretty: bool) -> Result<Datum> {
    let mut out = Vec::new();
    match &a[0] {
        Datum::Record(record) if pretty => super::write_record(record, true, e.format, &mut out)?,
        Datum::Array(array) if pretty && !array.dimensions.is_empty() => {
            let element = kind_of(call, 0).element().unwrap_or(array.element);
            super::write_level(array, element, 0, &mut 0, true, e.format, &mut out)?;
        }
        value => write_json(value, kind_of(call, 0), e.format, &mut out)?,
    }
    text(out)
}

/// `to_json`, `json_build_object`, `row_to_json` and their kin.
pub(super) const TABLE: &[(&str, ScalarFunction)] = &[
    ("to_json", |e, call, a| lines(e, call, a, false)),
    ("to_jsonb", |e, call, a| {
        Ok(Datum::jsonb(to_json(&a[0], kind_of(call, 0), e.format)?))
    }),
    ("row_to_json", |e, call, a| lines(e, call, a, false)),
    ("row_to_json_pretty", |e, call, a| {
        let pretty = arg::boolean(a, 1)?;
        lines(e, call, a, pretty)
    }),
    ("array_to_json", |e, call, a| lines(e, call, a, false)),
    ("array_to_json_pretty", |e, call, a| {
        let pretty = arg::boolean(a, 1)?;
        lines(e, call, a, pretty)
    }),
    ("json_build_object", build_object),
    ("json_build_object_noargs", build_object),
    ("json_build_array", build_array),
    ("json_build_array_noargs", build_array),
    ("jsonb_build_object", jsonb_build_object),
    ("jsonb_build_object_noargs", jsonb_build_object),
    ("jsonb_build_array", jsonb_build_array),
    ("jsonb_build_array_noargs", jsonb_build_array),
    ("json_object", |_, _, a| object(a)),
    ("json_object_two_arg", |_, _, a| object(a)),
    ("json_to_record", |e, call, a| {
        let json = parse(arg::text(a, 0)?)?;
        populate(&json, call.shape()?, e.format)
    }),
    ("jsonb_to_record", |e, call, a| {
        populate(arg::jsonb(a, 0)?, call.shape()?, e.format)
    }),
    ("jsonb_object", |_, _, a| jsonb_object(a)),
    ("jsonb_object_two_arg", |_, _, a| jsonb_object(a)),
];
