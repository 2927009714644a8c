//! Scalar functions by the names of PostgreSQL's C functions, one module per family.

pub(in crate::functions) mod arguments;
mod array;
mod binary;
mod compare;
mod datetime;
mod float;
mod format;
mod in_range;
mod integer;
pub(in crate::functions) mod like;
mod number;
pub(in crate::functions) mod regexp;
mod session;
pub(in crate::functions) mod string;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::functions::ScalarFunction;

pub(in crate::functions) use arguments as arg;
pub use like::matches as like_matches;

static TABLE: LazyLock<HashMap<&'static str, ScalarFunction>> = LazyLock::new(|| {
    let tables: &[&[(&'static str, ScalarFunction)]] = &[
        array::TABLE,
        binary::TABLE,
        datetime::TABLE,
        float::TABLE,
        format::TABLE,
        in_range::TABLE,
        integer::TABLE,
        like::TABLE,
        number::TABLE,
        regexp::TABLE,
        session::TABLE,
        string::TABLE,
    ];
    let all = tables
        .iter()
        .chain(integer::ARITHMETIC)
        .chain(float::ARITHMETIC);
    all.flat_map(|table| table.iter().copied()).collect()
});

/// The function behind a source name; `comparison` is the operator of which it is the function,
/// with its operand types.
pub(super) fn by_source(
    source: &str,
    comparison: Option<(&str, u32, u32)>,
) -> Option<ScalarFunction> {
    if let Some(function) = TABLE.get(source) {
        return Some(*function);
    }
    if let Some(function) = crate::functions::json::by_source(source) {
        return Some(function);
    }
    if let Some(function) = compare::mixed_by_source(source) {
        return Some(function);
    }
    if let Some((operator, left, right)) = comparison
        && let Some(function) = compare::by_operator(operator, left, right)
    {
        return Some(function);
    }
    compare::by_suffix(source)
}
