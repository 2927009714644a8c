//! Casts: which exist (`pg_cast`, arrays, text input and output), when they apply by themselves,
//! and what they do.

use crate::error::{Error, Result, state};
use crate::functions::{Environment, Evaluation, Function, catalog};
use crate::types::kind::oid;
use crate::types::{Datum, FormatSettings, Type, typmod};

/// When a cast is looked for: how much the statement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CastContext {
    /// Within an expression, nothing said.
    Implicit,
    /// Assigned to a column.
    Assignment,
    /// Written as `CAST(x AS t)`, `x::t`.
    Explicit,
}

/// How a cast is done.
#[derive(Clone, Copy, Debug)]
pub enum CastMethod {
    /// The representation is the same.
    Relabel,
    /// By a function of `pg_proc`.
    Function(&'static Function),
    /// By the text form.
    Text,
    /// Each element by its own cast.
    Elements,
}

/// A cast that exists.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    /// The weakest context in which it applies.
    pub context: CastContext,
    /// How it is done.
    pub method: CastMethod,
}

impl Cast {
    /// The representation stays.
    pub fn is_relabel(&self) -> bool {
        matches!(self.method, CastMethod::Relabel)
    }

    /// It goes through the text form.
    pub fn is_text_io(&self) -> bool {
        matches!(self.method, CastMethod::Text)
    }
}

/// The cast from one type to another, whatever its context; modifiers are ignored
/// (`find_coercion_pathway`). A type has a relabelling cast to itself.
pub fn cast_function(from: Type, to: Type) -> Option<Cast> {
    if from.oid == to.oid {
        return Some(Cast {
            context: CastContext::Implicit,
            method: CastMethod::Relabel,
        });
    }
    if let Some(row) = catalog::cast_row_of(from.oid, to.oid) {
        let context = match row.context {
            b'i' => CastContext::Implicit,
            b'a' => CastContext::Assignment,
            _ => CastContext::Explicit,
        };
        let method = match row.method {
            b'b' => CastMethod::Relabel,
            b'i' => CastMethod::Text,
            _ => CastMethod::Function(catalog::function(row.function)?),
        };
        return Some(Cast { context, method });
    }
    if from.oid == oid::UNKNOWN {
        return Some(Cast {
            context: CastContext::Implicit,
            method: CastMethod::Text,
        });
    }
    if !to.is_vector()
        && let (Some(a), Some(b)) = (from.element(), to.element())
        && let Some(cast) = cast_function(a, b)
    {
        let same = a.oid == b.oid;
        let method = if same {
            CastMethod::Relabel
        } else {
            CastMethod::Elements
        };
        return Some(Cast {
            context: cast.context,
            method,
        });
    }
    if to.category() == b'S' && !to.is_pseudo() {
        return Some(Cast {
            context: CastContext::Assignment,
            method: CastMethod::Text,
        });
    }
    if from.category() == b'S' && !from.is_pseudo() && !to.is_pseudo() {
        return Some(Cast {
            context: CastContext::Explicit,
            method: CastMethod::Text,
        });
    }
    None
}

/// Whether a value of `from` can become one of `to` in this context (`can_coerce_type`).
/// Polymorphic targets take anything.
pub fn can_coerce(from: Type, to: Type, context: CastContext) -> bool {
    if from.oid == to.oid || to.oid == oid::ANY || from.oid == oid::UNKNOWN || to.is_polymorphic() {
        return true;
    }
    cast_function(from, to).is_some_and(|cast| cast.context <= context)
}

/// Casts a value, with the target's modifier applied: `varchar(3)` truncates in an explicit cast
/// and raises 22001 in an assignment. NULL stays NULL. `evaluation` supplies settings and names.
///
/// # Errors
/// 42846 when there is no such cast; what the cast raises.
pub fn cast(
    value: &Datum,
    from: Type,
    to: Type,
    context: CastContext,
    evaluation: &mut Evaluation<'_>,
) -> Result<Datum> {
    if value.is_null() {
        return Ok(Datum::Null);
    }
    let converted = convert(value, from, to, context, evaluation)?;
    if to.modifier < 0 || (from.oid == to.oid && from.modifier == to.modifier) {
        return Ok(converted);
    }
    typmod::apply(converted, to, context == CastContext::Explicit)
}

/// [`cast`] where there is no session: constant folding, defaults, tests.
///
/// # Errors
/// As [`cast`].
pub fn cast_alone(
    value: &Datum,
    from: Type,
    to: Type,
    context: CastContext,
    format: &FormatSettings,
) -> Result<Datum> {
    let bare = crate::functions::evaluation::Bare::default();
    let environment: &dyn Environment = &bare;
    cast(
        value,
        from,
        to,
        context,
        &mut Evaluation::new(format, 0, environment),
    )
}

/// 42846.
pub fn cannot_cast(from: Type, to: Type) -> Error {
    Error::new(
        state::CANNOT_COERCE,
        format!("cannot cast type {} to {}", from.plain(), to.plain()),
    )
}

fn convert(
    value: &Datum,
    from: Type,
    to: Type,
    context: CastContext,
    evaluation: &mut Evaluation<'_>,
) -> Result<Datum> {
    let cast = cast_function(from, to).ok_or_else(|| cannot_cast(from, to))?;
    match cast.method {
        CastMethod::Relabel => Ok(relabel(value, to)),
        CastMethod::Text => through_text(value, from, to, evaluation),
        CastMethod::Elements => elements(value, from, to, context, evaluation),
        CastMethod::Function(function) => {
            let converted = by_function(function, value, from, to, context, evaluation)?;
            Ok(relabel(&converted, to))
        }
    }
}

/// Binary-coercible values: only the integer kinds have distinct representations.
fn relabel(value: &Datum, to: Type) -> Datum {
    match (value, to.oid) {
        (Datum::Int4(value), oid::OID) => Datum::Oid(*value as u32),
        (Datum::Int4(value), _) if to.reg_kind().is_some() => Datum::Oid(*value as u32),
        (Datum::Oid(value), oid::INT4) => Datum::Int4(*value as i32),
        (Datum::Array(array), _) => match to.element() {
            Some(element) if element.oid != array.element.oid => {
                let mut copy = (**array).clone();
                copy.element = element.plain();
                Datum::array(copy)
            }
            _ => value.clone(),
        },
        _ => value.clone(),
    }
}

fn through_text(
    value: &Datum,
    from: Type,
    to: Type,
    evaluation: &mut Evaluation<'_>,
) -> Result<Datum> {
    if let Datum::Text(text) = value {
        if matches!(to.oid, oid::TEXT | oid::VARCHAR) {
            return Ok(value.clone());
        }
        return Datum::from_text(text, to.plain(), evaluation.format);
    }
    let mut out = Vec::new();
    value.write_text(from, evaluation.format, &mut out);
    let text = String::from_utf8_lossy(&out);
    Datum::from_text(&text, to.plain(), evaluation.format)
}

fn elements(
    value: &Datum,
    from: Type,
    to: Type,
    context: CastContext,
    evaluation: &mut Evaluation<'_>,
) -> Result<Datum> {
    let (Datum::Array(array), Some(a), Some(b)) = (value, from.element(), to.element()) else {
        return Err(cannot_cast(from, to));
    };
    let mut copy = (**array).clone();
    copy.element = b.plain();
    for item in &mut copy.values {
        if !item.is_null() {
            *item = convert(item, a, b, context, evaluation)?;
        }
    }
    Ok(Datum::array(copy))
}

fn by_function(
    function: &'static Function,
    value: &Datum,
    from: Type,
    to: Type,
    context: CastContext,
    evaluation: &mut Evaluation<'_>,
) -> Result<Datum> {
    if let Some(done) = fast(value, to) {
        return done;
    }
    let mut arguments = vec![value.clone()];
    if function.arguments.len() > 1 {
        arguments.push(Datum::Int4(to.modifier));
    }
    if function.arguments.len() > 2 {
        arguments.push(Datum::Bool(context == CastContext::Explicit));
    }
    let resolved = crate::functions::Resolved::direct(
        function,
        vec![from.plain(), Type::INT4, Type::BOOL],
        to.plain(),
    );
    resolved.call(evaluation, &arguments)
}

/// The casts of every arithmetic expression, without a detour.
fn fast(value: &Datum, to: Type) -> Option<Result<Datum>> {
    let done = match (value, to.oid) {
        (Datum::Int2(v), oid::INT4) => Datum::Int4(i32::from(*v)),
        (Datum::Int2(v), oid::INT8) => Datum::Int8(i64::from(*v)),
        (Datum::Int4(v), oid::INT8) => Datum::Int8(i64::from(*v)),
        (Datum::Int4(v), oid::FLOAT8) => Datum::Float8(f64::from(*v)),
        (Datum::Int8(v), oid::FLOAT8) => Datum::Float8(*v as f64),
        (Datum::Float4(v), oid::FLOAT8) => Datum::Float8(f64::from(*v)),
        (Datum::Int8(v), oid::INT4) => match i32::try_from(*v) {
            Ok(v) => Datum::Int4(v),
            Err(_) => {
                return Some(Err(Error::new(
                    state::NUMERIC_VALUE_OUT_OF_RANGE,
                    "integer out of range",
                )));
            }
        },
        _ => return None,
    };
    Some(Ok(done))
}
