//! Array functions and operators.

use super::arguments as arg;
use crate::error::{Error, Result, state};
use crate::functions::ScalarFunction;
use crate::types::array::{Dimension, ELEMENTS_MAX};
use crate::types::order::compare_as;
use crate::types::{Array, Datum, Type};

fn array(value: Array) -> Result<Datum> {
    Ok(Datum::array(value))
}

/// Equality that does not see NULL equal to anything.
fn same(kind: Type, a: &Datum, b: &Datum) -> bool {
    !a.is_null() && !b.is_null() && compare_as(kind, a, b).is_eq()
}

/// Equality as IS NOT DISTINCT FROM.
fn not_distinct(kind: Type, a: &Datum, b: &Datum) -> bool {
    compare_as(kind, a, b).is_eq()
}

fn contains(outer: &Array, inner: &Array) -> bool {
    inner.values.iter().all(|wanted| {
        outer
            .values
            .iter()
            .any(|own| same(outer.element, own, wanted))
    })
}

fn overlaps(a: &Array, b: &Array) -> bool {
    a.values
        .iter()
        .any(|x| b.values.iter().any(|y| same(a.element, x, y)))
}

fn optional(a: &[Datum], index: usize) -> Option<&Array> {
    match a.get(index) {
        Some(Datum::Array(array)) => Some(array),
        _ => None,
    }
}

fn too_large() -> Error {
    Error::new(
        state::PROGRAM_LIMIT_EXCEEDED,
        format!("array size exceeds the maximum allowed ({ELEMENTS_MAX})"),
    )
}

/// Adds one element at the end or the beginning of a one-dimensional array.
fn push(base: Option<&Array>, element: Type, value: Datum, front: bool) -> Result<Datum> {
    let Some(base) = base else {
        return array(Array::of(element, vec![value]));
    };
    if base.dimensions.len() > 1 {
        return Err(Error::new(
            crate::SqlState(*b"22000"),
            "argument must be empty or one-dimensional array",
        ));
    }
    if base.len() >= ELEMENTS_MAX {
        return Err(too_large());
    }
    let lower = base.dimensions.first().map_or(1, |d| d.lower);
    let mut values = Vec::with_capacity(base.len() + 1);
    if front {
        values.push(value);
        values.extend_from_slice(&base.values);
    } else {
        values.extend_from_slice(&base.values);
        values.push(value);
    }
    array(Array::starting_at(base.element, lower, values))
}

fn incompatible(detail: String) -> Error {
    Error::new(
        state::ARRAY_SUBSCRIPT_ERROR,
        "cannot concatenate incompatible arrays",
    )
    .detail(detail)
}

/// Joins two arrays: of one shape, or one with an element of the other's shape.
fn concatenate(a: &Array, b: &Array) -> Result<Array> {
    if a.is_empty() {
        return Ok(b.clone());
    }
    if b.is_empty() {
        return Ok(a.clone());
    }
    let (da, db) = (&a.dimensions, &b.dimensions);
    let lengths =
        |dimensions: &[Dimension]| -> Vec<i32> { dimensions.iter().map(|d| d.length).collect() };
    let mismatch = || {
        incompatible(
            "Arrays with differing dimensions are not compatible for concatenation.".to_owned(),
        )
    };
    let mut dimensions;
    if da.len() == db.len() {
        if lengths(&da[1..]) != lengths(&db[1..]) {
            return Err(incompatible(
                "Arrays with differing element dimensions are not compatible for concatenation."
                    .to_owned(),
            ));
        }
        dimensions = da.clone();
        dimensions[0].length += db[0].length;
    } else if da.len() == db.len() + 1 {
        if lengths(&da[1..]) != lengths(db) {
            return Err(mismatch());
        }
        dimensions = da.clone();
        dimensions[0].length += 1;
    } else if db.len() == da.len() + 1 {
        if lengths(&db[1..]) != lengths(da) {
            return Err(mismatch());
        }
        dimensions = db.clone();
        dimensions[0].length += 1;
    } else {
        return Err(incompatible(format!(
            "Arrays of {} and {} dimensions are not compatible for concatenation.",
            da.len(),
            db.len()
        )));
    }
    if a.len() + b.len() > ELEMENTS_MAX {
        return Err(too_large());
    }
    let mut values = a.values.clone();
    values.extend_from_slice(&b.values);
    Array::shaped(a.element, dimensions, values)
}

fn one_dimension(base: &Array, message: &str) -> Result<()> {
    if base.dimensions.len() > 1 {
        return Err(Error::new(state::FEATURE_NOT_SUPPORTED, message));
    }
    Ok(())
}

fn position(base: &Array, value: &Datum, start: Option<i32>) -> Result<Datum> {
    one_dimension(
        base,
        "searching for elements in multidimensional arrays is not supported",
    )?;
    let lower = base.dimensions.first().map_or(1, |d| d.lower);
    let skip = start.map_or(0, |start| {
        (i64::from(start) - i64::from(lower)).max(0) as usize
    });
    let found = base
        .values
        .iter()
        .enumerate()
        .skip(skip)
        .find(|(_, item)| not_distinct(base.element, item, value));
    Ok(found.map_or(Datum::Null, |(index, _)| Datum::Int4(lower + index as i32)))
}

fn dimension(a: &[Datum]) -> Result<Option<Dimension>> {
    let base = arg::array(a, 0)?;
    let index = arg::int4(a, 1)?;
    Ok(usize::try_from(index)
        .ok()
        .and_then(|index| index.checked_sub(1))
        .and_then(|index| base.dimensions.get(index).copied()))
}

fn fill(value: &Datum, element: Type, a: &[Datum]) -> Result<Datum> {
    let null = || {
        Error::new(
            state::NULL_VALUE_NOT_ALLOWED,
            "dimension array or low bound array cannot be null",
        )
    };
    let lengths = optional(a, 1).ok_or_else(null)?;
    let lowers = match a.get(2) {
        None => None,
        Some(Datum::Array(lowers)) => Some(lowers),
        Some(_) => return Err(null()),
    };
    let no_null = || {
        Error::new(
            state::NULL_VALUE_NOT_ALLOWED,
            "dimension values cannot be null",
        )
    };
    for bounds in std::iter::once(lengths).chain(lowers.map(|lowers| &**lowers)) {
        if bounds.dimensions.len() > 1 {
            return Err(Error::new(
                state::ARRAY_SUBSCRIPT_ERROR,
                "wrong number of array subscripts",
            )
            .detail("Dimension array must be one dimensional."));
        }
    }
    if lengths.values.iter().any(Datum::is_null) {
        return Err(no_null());
    }
    if lowers.is_some_and(|lowers| {
        lowers.len() != lengths.len() && !lowers.values.iter().any(Datum::is_null)
    }) {
        return Err(Error::new(
            state::ARRAY_SUBSCRIPT_ERROR,
            "wrong number of array subscripts",
        )
        .detail("Low bound array has different size than dimensions array."));
    }
    let mut dimensions = Vec::new();
    let mut total = 1usize;
    for (index, length) in lengths.values.iter().enumerate() {
        let length = length.as_i64().ok_or_else(no_null)? as i32;
        let lower = match lowers {
            None => 1,
            Some(lowers) => match lowers.values.get(index) {
                Some(lower) => lower.as_i64().ok_or_else(no_null)? as i32,
                None => 1,
            },
        };
        total = usize::try_from(length)
            .ok()
            .and_then(|length| total.checked_mul(length))
            .filter(|total| *total <= ELEMENTS_MAX)
            .ok_or_else(too_large)?;
        dimensions.push(Dimension { length, lower });
    }
    if dimensions.is_empty() || total == 0 {
        return array(Array::empty(element));
    }
    array(Array::shaped(
        element,
        dimensions,
        vec![value.clone(); total],
    )?)
}

fn trim(base: &Array, count: i32) -> Result<Datum> {
    let length = base.dimensions.first().map_or(0, |d| d.length);
    if count < 0 || count > length {
        return Err(Error::new(
            state::ARRAY_SUBSCRIPT_ERROR,
            format!("number of elements to trim must be between 0 and {length}"),
        ));
    }
    let Some(first) = base.dimensions.first() else {
        return array(base.clone());
    };
    array(base.slice(&[(Some(first.lower), Some(first.upper() - count))]))
}

fn replace(base: &Array, from: &Datum, to: &Datum) -> Array {
    let mut copy = base.clone();
    for item in &mut copy.values {
        if not_distinct(base.element, item, from) {
            *item = to.clone();
        }
    }
    copy
}

fn remove(base: &Array, value: &Datum) -> Result<Array> {
    one_dimension(
        base,
        "removing elements from multidimensional arrays is not supported",
    )?;
    let lower = base.dimensions.first().map_or(1, |d| d.lower);
    let values: Vec<Datum> = base
        .values
        .iter()
        .filter(|item| !not_distinct(base.element, item, value))
        .cloned()
        .collect();
    Ok(Array::starting_at(base.element, lower, values))
}

/// The bucket of a sorted list of thresholds.
fn width_bucket(value: &Datum, thresholds: &Array) -> Result<Datum> {
    if thresholds.dimensions.len() > 1 {
        return Err(Error::new(
            state::ARRAY_SUBSCRIPT_ERROR,
            "thresholds must be one-dimensional array",
        ));
    }
    if thresholds.values.iter().any(Datum::is_null) {
        return Err(Error::new(
            state::NULL_VALUE_NOT_ALLOWED,
            "thresholds array must not contain NULLs",
        ));
    }
    let at = thresholds
        .values
        .partition_point(|threshold| compare_as(thresholds.element, threshold, value).is_le());
    Ok(Datum::Int4(at as i32))
}

/// All functions on arrays but comparison and set-returning ones.
pub(super) const TABLE: &[(&str, ScalarFunction)] = &[
    ("arraycontains", |_, _, a| {
        Ok(Datum::Bool(contains(arg::array(a, 0)?, arg::array(a, 1)?)))
    }),
    ("arraycontained", |_, _, a| {
        Ok(Datum::Bool(contains(arg::array(a, 1)?, arg::array(a, 0)?)))
    }),
    ("arrayoverlap", |_, _, a| {
        Ok(Datum::Bool(overlaps(arg::array(a, 0)?, arg::array(a, 1)?)))
    }),
    ("array_append", |_, call, a| {
        push(optional(a, 0), call.parameter(1), a[1].clone(), false)
    }),
    ("array_prepend", |_, call, a| {
        push(optional(a, 1), call.parameter(0), a[0].clone(), true)
    }),
    ("array_cat", |_, _, a| {
        match (optional(a, 0), optional(a, 1)) {
            (None, _) => Ok(a[1].clone()),
            (_, None) => Ok(a[0].clone()),
            (Some(x), Some(y)) => array(concatenate(x, y)?),
        }
    }),
    ("array_ndims", |_, _, a| {
        let count = arg::array(a, 0)?.dimensions.len();
        Ok(if count == 0 {
            Datum::Null
        } else {
            Datum::Int4(count as i32)
        })
    }),
    ("array_dims", |_, _, a| {
        let base = arg::array(a, 0)?;
        if base.dimensions.is_empty() {
            return Ok(Datum::Null);
        }
        let text: String = base
            .dimensions
            .iter()
            .map(|d| format!("[{}:{}]", d.lower, d.upper()))
            .collect();
        Ok(Datum::from(text))
    }),
    ("array_length", |_, _, a| {
        Ok(Datum::from(dimension(a)?.map(|d| d.length)))
    }),
    ("array_lower", |_, _, a| {
        Ok(Datum::from(dimension(a)?.map(|d| d.lower)))
    }),
    ("array_upper", |_, _, a| {
        Ok(Datum::from(dimension(a)?.map(|d| d.upper())))
    }),
    ("array_cardinality", |_, _, a| {
        Ok(Datum::Int4(arg::array(a, 0)?.len() as i32))
    }),
    ("array_position", |_, _, a| match optional(a, 0) {
        None => Ok(Datum::Null),
        Some(base) => position(base, &a[1], None),
    }),
    ("array_position_start", |_, _, a| match optional(a, 0) {
        None => Ok(Datum::Null),
        Some(base) => {
            let start = a[2].as_i64().ok_or_else(|| {
                Error::new(
                    state::NULL_VALUE_NOT_ALLOWED,
                    "initial position must not be null",
                )
            })?;
            position(base, &a[1], Some(start as i32))
        }
    }),
    ("array_positions", |_, _, a| {
        let Some(base) = optional(a, 0) else {
            return Ok(Datum::Null);
        };
        one_dimension(
            base,
            "searching for elements in multidimensional arrays is not supported",
        )?;
        let lower = base.dimensions.first().map_or(1, |d| d.lower);
        let values = base
            .values
            .iter()
            .enumerate()
            .filter(|(_, item)| not_distinct(base.element, item, &a[1]))
            .map(|(index, _)| Datum::Int4(lower + index as i32))
            .collect();
        array(Array::of(Type::INT4, values))
    }),
    ("array_remove", |_, _, a| match optional(a, 0) {
        None => Ok(Datum::Null),
        Some(base) => array(remove(base, &a[1])?),
    }),
    ("array_replace", |_, _, a| match optional(a, 0) {
        None => Ok(Datum::Null),
        Some(base) => array(replace(base, &a[1], &a[2])),
    }),
    ("array_fill", |_, call, a| fill(&a[0], call.parameter(0), a)),
    ("array_fill_with_lower_bounds", |_, call, a| {
        fill(&a[0], call.parameter(0), a)
    }),
    ("trim_array", |_, _, a| {
        trim(arg::array(a, 0)?, arg::int4(a, 1)?)
    }),
    ("width_bucket_array", |_, _, a| {
        width_bucket(&a[0], arg::array(a, 1)?)
    }),
];
