//! Changing jsonb: `||`, `-`, `#-`, `jsonb_set`, `jsonb_insert`.

use std::sync::Arc;

use super::invalid;
use crate::error::{Error, Result, state};
use crate::functions::ScalarFunction;
use crate::functions::scalar::arguments as arg;
use crate::types::{Datum, Json};

fn concatenate(a: &Json, b: &Json) -> Json {
    match (a, b) {
        (Json::Object(x), Json::Object(y)) => Json::object(x.iter().chain(y).cloned().collect()),
        _ => {
            let items = |value: &Json| match value {
                Json::Array(items) => items.clone(),
                other => vec![other.clone()],
            };
            let mut all = items(a);
            all.extend(items(b));
            Json::Array(all)
        }
    }
}

fn delete_key(value: &Json, keys: &[&str]) -> Result<Json> {
    match value {
        Json::Object(pairs) => Ok(Json::Object(
            pairs
                .iter()
                .filter(|(key, _)| !keys.contains(&&**key))
                .cloned()
                .collect(),
        )),
        Json::Array(items) => Ok(Json::Array(
            items
                .iter()
                .filter(|item| !matches!(item, Json::String(text) if keys.contains(&&**text)))
                .cloned()
                .collect(),
        )),
        _ => Err(invalid("cannot delete from scalar")),
    }
}

fn delete_index(value: &Json, index: i32) -> Result<Json> {
    match value {
        Json::Array(items) => {
            let length = items.len() as i64;
            let at = if index < 0 {
                i64::from(index) + length
            } else {
                i64::from(index)
            };
            Ok(Json::Array(
                items
                    .iter()
                    .enumerate()
                    .filter(|(own, _)| *own as i64 != at)
                    .map(|(_, item)| item.clone())
                    .collect(),
            ))
        }
        Json::Object(_) => Err(invalid("cannot delete from object using integer index")),
        _ => Err(invalid("cannot delete from scalar")),
    }
}

/// What is done at the end of a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edit {
    Delete,
    /// Replaces; creates when told so.
    Set {
        create: bool,
    },
    Insert {
        after: bool,
    },
}

/// The steps of a path; one may be NULL as long as it is not reached.
type Path = [Option<Arc<str>>];

fn path(value: &Datum) -> Result<Vec<Option<Arc<str>>>> {
    let array = arg::array(std::slice::from_ref(value), 0)?;
    if array.dimensions.len() > 1 {
        return Err(wrong_subscripts());
    }
    let step = |item: &Datum| match item {
        Datum::Text(text) => Some(text.clone()),
        _ => None,
    };
    Ok(array.values.iter().map(step).collect())
}

fn wrong_subscripts() -> Error {
    Error::new(
        state::ARRAY_SUBSCRIPT_ERROR,
        "wrong number of array subscripts",
    )
}

fn step_at(path: &Path, level: usize) -> Result<&Arc<str>> {
    path[level].as_ref().ok_or_else(|| {
        Error::new(
            state::NULL_VALUE_NOT_ALLOWED,
            format!("path element at position {} is null", level + 1),
        )
    })
}

fn is_empty(value: &Json) -> bool {
    match value {
        Json::Array(items) => items.is_empty(),
        Json::Object(pairs) => pairs.is_empty(),
        _ => false,
    }
}

fn edit(value: &Json, path: &Path, level: usize, new: &Json, how: Edit) -> Result<Json> {
    let last = level + 1 == path.len();
    let step = step_at(path, level)?;
    match value {
        Json::Object(pairs) => {
            let mut pairs = pairs.clone();
            let at = pairs.iter().position(|(key, _)| key == step);
            match (at, last) {
                (Some(at), true) => match how {
                    Edit::Delete => {
                        pairs.remove(at);
                    }
                    Edit::Set { .. } => pairs[at].1 = new.clone(),
                    Edit::Insert { .. } => {
                        return Err(invalid("cannot replace existing key")
                            .hint("Try using the function jsonb_set to replace key value."));
                    }
                },
                (Some(at), false) => {
                    pairs[at].1 = edit(&pairs[at].1, path, level + 1, new, how)?;
                }
                (None, true) if matches!(how, Edit::Set { create: true } | Edit::Insert { .. }) => {
                    pairs.push((step.clone(), new.clone()));
                    return Ok(Json::object(pairs));
                }
                (None, _) => {}
            }
            Ok(Json::Object(pairs))
        }
        Json::Array(items) => edit_array(items, path, level, new, how),
        scalar => Ok(scalar.clone()),
    }
}

fn edit_array(items: &[Json], path: &Path, level: usize, new: &Json, how: Edit) -> Result<Json> {
    let step = step_at(path, level)?;
    let index: i32 = step.trim().parse().map_err(|_| {
        Error::new(
            state::INVALID_TEXT_REPRESENTATION,
            format!(
                "path element at position {} is not an integer: \"{step}\"",
                level + 1
            ),
        )
    })?;
    let mut items = items.to_vec();
    let length = items.len() as i64;
    let at = if index < 0 {
        i64::from(index) + length
    } else {
        i64::from(index)
    };
    let inside = (0..length).contains(&at);
    if level + 1 < path.len() {
        if inside {
            let at = at as usize;
            items[at] = edit(&items[at], path, level + 1, new, how)?;
        }
        return Ok(Json::Array(items));
    }
    match how {
        Edit::Delete => {
            if inside {
                items.remove(at as usize);
            }
        }
        Edit::Set { create } => {
            if inside {
                items[at as usize] = new.clone();
            } else if create && at < 0 {
                items.insert(0, new.clone());
            } else if create {
                items.push(new.clone());
            }
        }
        Edit::Insert { after } => {
            let at = if inside {
                at + i64::from(after)
            } else {
                at.clamp(0, length)
            };
            items.insert(at as usize, new.clone());
        }
    }
    Ok(Json::Array(items))
}

fn set(a: &[Datum], how: Edit) -> Result<Datum> {
    let value = arg::jsonb(a, 0)?;
    let steps = path(&a[1])?;
    if value.is_scalar() {
        return Err(invalid("cannot set path in scalar"));
    }
    let empty = is_empty(value);
    if steps.is_empty() || (empty && how == (Edit::Set { create: false })) {
        return Ok(a[0].clone());
    }
    Ok(Datum::jsonb(edit(
        value,
        &steps,
        0,
        arg::jsonb(a, 2)?,
        how,
    )?))
}

fn set_lax(a: &[Datum]) -> Result<Datum> {
    if a[0].is_null() || a[1].is_null() || a[3].is_null() {
        return Ok(Datum::Null);
    }
    let treatment = a[4].as_str();
    let refused = || {
        Err(invalid(
            "null_value_treatment must be \"delete_key\", \"return_target\", \
             \"use_json_null\", or \"raise_exception\"",
        ))
    };
    if treatment.is_none() {
        return refused();
    }
    let create = arg::boolean(a, 3)?;
    if !a[2].is_null() {
        return set(a, Edit::Set { create });
    }
    match treatment {
        Some("raise_exception") => Err(Error::new(
            state::NULL_VALUE_NOT_ALLOWED,
            "JSON value must not be null",
        )
        .detail("Exception was raised because null_value_treatment is \"raise_exception\".")
        .hint(
            "To avoid, either change the null_value_treatment argument or ensure that an SQL \
             NULL is not passed.",
        )),
        Some("return_target") => Ok(a[0].clone()),
        Some("delete_key") => delete_path(a),
        Some("use_json_null") => {
            let with_null = [a[0].clone(), a[1].clone(), Datum::jsonb(Json::Null)];
            set(&with_null, Edit::Set { create })
        }
        _ => refused(),
    }
}

fn delete_path(a: &[Datum]) -> Result<Datum> {
    let value = arg::jsonb(a, 0)?;
    let steps = path(&a[1])?;
    if value.is_scalar() {
        return Err(invalid("cannot delete path in scalar"));
    }
    if steps.is_empty() || is_empty(value) {
        return Ok(a[0].clone());
    }
    Ok(Datum::jsonb(edit(
        value,
        &steps,
        0,
        &Json::Null,
        Edit::Delete,
    )?))
}

/// Functions that make changed copies.
pub(super) const TABLE: &[(&str, ScalarFunction)] = &[
    ("jsonb_concat", |_, _, a| {
        Ok(Datum::jsonb(concatenate(
            arg::jsonb(a, 0)?,
            arg::jsonb(a, 1)?,
        )))
    }),
    ("jsonb_delete", |_, _, a| {
        Ok(Datum::jsonb(delete_key(
            arg::jsonb(a, 0)?,
            &[arg::text(a, 1)?],
        )?))
    }),
    ("jsonb_delete_array", |_, _, a| {
        let array = arg::array(a, 1)?;
        if array.dimensions.len() > 1 {
            return Err(wrong_subscripts());
        }
        let keys: Vec<&str> = array.values.iter().filter_map(Datum::as_str).collect();
        Ok(Datum::jsonb(delete_key(arg::jsonb(a, 0)?, &keys)?))
    }),
    ("jsonb_delete_idx", |_, _, a| {
        Ok(Datum::jsonb(delete_index(
            arg::jsonb(a, 0)?,
            arg::int4(a, 1)?,
        )?))
    }),
    ("jsonb_delete_path", |_, _, a| delete_path(a)),
    ("jsonb_set", |_, _, a| {
        set(
            a,
            Edit::Set {
                create: arg::boolean(a, 3)?,
            },
        )
    }),
    ("jsonb_set_lax", |_, _, a| set_lax(a)),
    ("jsonb_insert", |_, _, a| {
        set(
            a,
            Edit::Insert {
                after: arg::boolean(a, 3)?,
            },
        )
    }),
];
