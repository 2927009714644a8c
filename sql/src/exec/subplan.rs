//! Subqueries in expressions: run with the outer values, remembered by them.

use std::collections::HashSet;
use std::sync::Arc;

use crate::error::{Error, state};
use crate::exec::{ExecCx, Operator, open_node};
use crate::expr::{Expr, Frame, REMEMBERED_MAX, SubPlan, SubPlanKind, eval_row};
use crate::transaction::Stop;
use crate::types::{Array, Datum, Record, Shape};

/// The value of a subquery for an outer row.
pub(super) fn run(
    plan: &SubPlan,
    row: &[Datum],
    frame: &Frame,
    cx: &mut ExecCx<'_>,
) -> Result<Datum, Stop> {
    if let Some(key) = &plan.hashed {
        return hashed(plan, key, row, frame, cx);
    }
    let arguments = eval_row(&plan.arguments, row, frame, cx)?;
    let rows_cached = plan.cached && matches!(plan.kind, SubPlanKind::Any | SubPlanKind::All);
    if rows_cached {
        let rows = all_rows(plan, frame, cx)?;
        let inner = frame.with_arguments(arguments);
        return test_rows(
            plan,
            &mut rows.iter().map(|row| Ok(row.clone())),
            &inner,
            cx,
        );
    }
    // Numerics that are equal may print differently: such arguments are no key.
    let keyed = plan.cached && !arguments.iter().any(|a| matches!(a, Datum::Numeric(_)));
    if keyed
        && let Some(found) = frame
            .shared
            .remembered
            .lock()
            .get(&plan.index)
            .and_then(|remembered| remembered.values.get(&arguments))
    {
        return Ok(found.clone());
    }
    let inner = frame.with_arguments(arguments.clone());
    let value = evaluate(plan, &inner, cx)?;
    if keyed {
        let mut remembered = frame.shared.remembered.lock();
        let values = &mut remembered.entry(plan.index).or_default().values;
        if values.len() >= REMEMBERED_MAX {
            values.clear();
        }
        values.insert(arguments, value.clone());
    }
    Ok(value)
}

fn evaluate(plan: &SubPlan, frame: &Frame, cx: &mut ExecCx<'_>) -> Result<Datum, Stop> {
    let mut rows = open_node(&plan.plan, frame, cx)?;
    match plan.kind {
        SubPlanKind::Exists => Ok(Datum::Bool(rows.next(cx)?.is_some())),
        SubPlanKind::Scalar => match one_row(&mut *rows, cx)? {
            Some(mut row) => Ok(std::mem::take(&mut row[0])),
            None => Ok(Datum::Null),
        },
        SubPlanKind::Row => match one_row(&mut *rows, cx)? {
            Some(mut row) => {
                row.truncate(plan.width);
                let types = plan.plan.types[..plan.width].to_vec();
                let shape = Arc::new(Shape::anonymous(types));
                Ok(Datum::Record(Arc::new(Record::new(shape, row))))
            }
            None => Ok(Datum::Null),
        },
        SubPlanKind::Array => {
            let mut values = Vec::new();
            while let Some(mut row) = rows.next(cx)? {
                values.push(std::mem::take(&mut row[0]));
            }
            let element = plan.ty.element().unwrap_or(plan.ty).plain();
            let nested = plan.plan.types.first().is_some_and(|ty| ty.is_array());
            let array = if nested && !values.is_empty() {
                Array::stack(element, &values)?
            } else {
                Array::of(element, values)
            };
            Ok(Datum::array(array))
        }
        SubPlanKind::Any | SubPlanKind::All => {
            let mut null = false;
            while let Some(row) = rows.next(cx)? {
                match step(plan, &row, frame, cx)? {
                    Step::Decided(value) => return Ok(Datum::Bool(value)),
                    Step::Null => null = true,
                    Step::Next => {}
                }
            }
            Ok(if null {
                Datum::Null
            } else {
                Datum::Bool(plan.kind == SubPlanKind::All)
            })
        }
    }
}

enum Step {
    Decided(bool),
    Null,
    Next,
}

fn step(plan: &SubPlan, row: &[Datum], frame: &Frame, cx: &mut ExecCx<'_>) -> Result<Step, Stop> {
    let Some(test) = &plan.test else {
        return Err(Stop::Error(Error::internal("ANY has a test")));
    };
    let decides = plan.kind == SubPlanKind::Any;
    Ok(match test.eval(row, frame, cx)? {
        Datum::Bool(value) if value == decides => Step::Decided(value),
        Datum::Null => Step::Null,
        _ => Step::Next,
    })
}

fn test_rows(
    plan: &SubPlan,
    rows: &mut dyn Iterator<Item = Result<Vec<Datum>, Stop>>,
    frame: &Frame,
    cx: &mut ExecCx<'_>,
) -> Result<Datum, Stop> {
    let mut null = false;
    for row in rows {
        cx.tick()?;
        match step(plan, &row?, frame, cx)? {
            Step::Decided(value) => return Ok(Datum::Bool(value)),
            Step::Null => null = true,
            Step::Next => {}
        }
    }
    Ok(if null {
        Datum::Null
    } else {
        Datum::Bool(plan.kind == SubPlanKind::All)
    })
}

fn one_row(rows: &mut dyn Operator, cx: &mut ExecCx<'_>) -> Result<Option<Vec<Datum>>, Stop> {
    let Some(row) = rows.next(cx)? else {
        return Ok(None);
    };
    if rows.next(cx)?.is_some() {
        return Err(Stop::Error(Error::new(
            state::CARDINALITY_VIOLATION,
            "more than one row returned by a subquery used as an expression",
        )));
    }
    Ok(Some(row))
}

/// The rows of an uncorrelated ANY or ALL, read once.
fn all_rows(
    plan: &SubPlan,
    frame: &Frame,
    cx: &mut ExecCx<'_>,
) -> Result<Arc<Vec<Vec<Datum>>>, Stop> {
    if let Some(rows) = frame
        .shared
        .remembered
        .lock()
        .get(&plan.index)
        .and_then(|r| r.rows.clone())
    {
        return Ok(rows);
    }
    let mut source = open_node(&plan.plan, frame, cx)?;
    let mut rows = Vec::new();
    while let Some(row) = source.next(cx)? {
        rows.push(row);
    }
    let rows = Arc::new(rows);
    frame
        .shared
        .remembered
        .lock()
        .entry(plan.index)
        .or_default()
        .rows = Some(rows.clone());
    Ok(rows)
}

/// `x = ANY (uncorrelated)` by a set of its values.
fn hashed(
    plan: &SubPlan,
    key: &Expr,
    row: &[Datum],
    frame: &Frame,
    cx: &mut ExecCx<'_>,
) -> Result<Datum, Stop> {
    let known = frame
        .shared
        .remembered
        .lock()
        .get(&plan.index)
        .and_then(|r| r.keys.clone());
    let keys = match known {
        Some(keys) => keys,
        None => {
            let mut source = open_node(&plan.plan, frame, cx)?;
            let mut keys = HashSet::new();
            let mut null = false;
            while let Some(mut row) = source.next(cx)? {
                match std::mem::take(&mut row[0]) {
                    Datum::Null => null = true,
                    value => {
                        keys.insert(value);
                    }
                }
            }
            let keys = Arc::new((keys, null));
            frame
                .shared
                .remembered
                .lock()
                .entry(plan.index)
                .or_default()
                .keys = Some(keys.clone());
            keys
        }
    };
    let (set, null) = &*keys;
    let value = key.eval(row, frame, cx)?;
    Ok(if value.is_null() {
        if set.is_empty() && !null {
            Datum::Bool(false)
        } else {
            Datum::Null
        }
    } else if set.contains(&value) {
        Datum::Bool(true)
    } else if *null {
        Datum::Null
    } else {
        Datum::Bool(false)
    })
}
