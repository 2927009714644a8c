//! Evaluation of compiled expressions over one row.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::catalog::Routine;
use crate::error::{Error, Result, state};
use crate::expr::subplan::Shared;
use crate::expr::{AnyArray, Case, Expr, RowCompare, RowOp, SubPlan, deep};
use crate::functions::Evaluation;
use crate::transaction::Stop;
use crate::types::{Array, Datum, Json, Record, cast, compare};

/// The values that hold for a whole plan or subquery run.
#[derive(Clone, Debug)]
pub struct Frame {
    /// `$1`, `$2`, ...
    pub parameters: Arc<[Datum]>,
    /// What the enclosing level hands in.
    pub arguments: Arc<[Datum]>,
    /// What the operators of one execution share.
    pub shared: Arc<Shared>,
}

impl Frame {
    /// The outermost frame of an execution.
    pub fn new(parameters: Arc<[Datum]>) -> Frame {
        Frame {
            parameters,
            arguments: Arc::from([]),
            shared: Arc::default(),
        }
    }

    /// The frame of a subquery.
    pub fn with_arguments(&self, arguments: Vec<Datum>) -> Frame {
        Frame {
            parameters: self.parameters.clone(),
            arguments: arguments.into(),
            shared: self.shared.clone(),
        }
    }
}

/// What evaluation needs around it: an execution, or nothing but settings (folding).
pub trait Context<'e> {
    /// Settings, times, the session.
    fn evaluation(&mut self) -> &mut Evaluation<'e>;

    /// The stack of locals of CASE, IS DISTINCT FROM and ANY.
    fn locals(&mut self) -> &mut Vec<Datum>;

    /// Runs a subquery.
    fn subplan(
        &mut self,
        plan: &SubPlan,
        row: &[Datum],
        frame: &Frame,
    ) -> std::result::Result<Datum, Stop>;

    /// Calls a user's function.
    fn routine(
        &mut self,
        routine: &Arc<Routine>,
        arguments: Vec<Datum>,
    ) -> std::result::Result<Datum, Stop>;
}

/// Evaluation without an execution: constants, defaults of DDL.
pub struct Alone<'e> {
    evaluation: Evaluation<'e>,
    locals: Vec<Datum>,
}

impl<'e> Alone<'e> {
    /// Around an evaluation.
    pub fn new(evaluation: Evaluation<'e>) -> Alone<'e> {
        Alone {
            evaluation,
            locals: Vec::new(),
        }
    }
}

impl<'e> Context<'e> for Alone<'e> {
    fn evaluation(&mut self) -> &mut Evaluation<'e> {
        &mut self.evaluation
    }

    fn locals(&mut self) -> &mut Vec<Datum> {
        &mut self.locals
    }

    fn subplan(
        &mut self,
        _plan: &SubPlan,
        _row: &[Datum],
        _frame: &Frame,
    ) -> std::result::Result<Datum, Stop> {
        Err(Stop::Error(Error::internal("a subquery cannot be folded")))
    }

    fn routine(&mut self, routine: &Arc<Routine>, _arguments: Vec<Datum>) -> Value {
        Err(Stop::Error(Error::unsupported(format!(
            "function {} here",
            routine.signature()
        ))))
    }
}

/// Evaluates expressions into a new row.
pub fn eval_row<'e, C: Context<'e>>(
    exprs: &[Expr],
    row: &[Datum],
    frame: &Frame,
    cx: &mut C,
) -> std::result::Result<Vec<Datum>, Stop> {
    exprs.iter().map(|expr| expr.eval(row, frame, cx)).collect()
}

/// Whether all conditions hold (NULL counts as no).
pub fn is_true<'e, C: Context<'e>>(
    conditions: &[Expr],
    row: &[Datum],
    frame: &Frame,
    cx: &mut C,
) -> std::result::Result<bool, Stop> {
    for condition in conditions {
        if !condition.eval(row, frame, cx)?.is_true() {
            return Ok(false);
        }
    }
    Ok(true)
}

type Value = std::result::Result<Datum, Stop>;

impl Expr {
    /// The expression's value for a row.
    pub fn eval<'e, C: Context<'e>>(&self, row: &[Datum], frame: &Frame, cx: &mut C) -> Value {
        match self {
            Expr::Const { value, .. } => Ok(value.clone()),
            Expr::Column { column, .. } => Ok(row[column.0 as usize].clone()),
            Expr::Argument { index, .. } => Ok(frame.arguments[*index as usize].clone()),
            Expr::Parameter { index, .. } => frame
                .parameters
                .get(*index as usize)
                .cloned()
                .ok_or_else(|| {
                    Stop::Error(Error::new(
                        state::UNDEFINED_PARAMETER,
                        format!("there is no parameter ${}", index + 1),
                    ))
                }),
            other => deep(|| other.eval_inner(row, frame, cx)),
        }
    }

    fn eval_inner<'e, C: Context<'e>>(&self, row: &[Datum], frame: &Frame, cx: &mut C) -> Value {
        match self {
            Expr::Const { .. }
            | Expr::Column { .. }
            | Expr::Argument { .. }
            | Expr::Parameter { .. } => self.eval(row, frame, cx),
            Expr::Call(call) => match call.args.as_slice() {
                [] => Ok(call.resolved.call(cx.evaluation(), &[])?),
                [a] => {
                    let a = [a.eval(row, frame, cx)?];
                    Ok(call.resolved.call(cx.evaluation(), &a)?)
                }
                [a, b] => {
                    let args = [a.eval(row, frame, cx)?, b.eval(row, frame, cx)?];
                    Ok(call.resolved.call(cx.evaluation(), &args)?)
                }
                args => {
                    let args = eval_row(args, row, frame, cx)?;
                    Ok(call.resolved.call(cx.evaluation(), &args)?)
                }
            },
            Expr::Routine(call) => {
                let arguments = eval_row(&call.args, row, frame, cx)?;
                cx.routine(&call.routine, arguments)
            }
            Expr::Cast(node) => {
                let value = node.input.eval(row, frame, cx)?;
                if node.keeps || value.is_null() {
                    return Ok(value);
                }
                Ok(cast(
                    &value,
                    node.input.ty(),
                    node.ty,
                    node.context,
                    cx.evaluation(),
                )?)
            }
            Expr::And(items) => {
                let mut null = false;
                for item in items {
                    match item.eval(row, frame, cx)? {
                        Datum::Bool(false) => return Ok(Datum::Bool(false)),
                        Datum::Null => null = true,
                        _ => {}
                    }
                }
                Ok(if null { Datum::Null } else { Datum::Bool(true) })
            }
            Expr::Or(items) => {
                let mut null = false;
                for item in items {
                    match item.eval(row, frame, cx)? {
                        Datum::Bool(true) => return Ok(Datum::Bool(true)),
                        Datum::Null => null = true,
                        _ => {}
                    }
                }
                Ok(if null {
                    Datum::Null
                } else {
                    Datum::Bool(false)
                })
            }
            Expr::Not(input) => Ok(match input.eval(row, frame, cx)? {
                Datum::Bool(value) => Datum::Bool(!value),
                _ => Datum::Null,
            }),
            Expr::IsNull {
                input,
                negated,
                row: is_row,
            } => {
                let value = input.eval(row, frame, cx)?;
                Ok(Datum::Bool(is_null(&value, *negated, *is_row)))
            }
            Expr::IsBool {
                input,
                value,
                negated,
            } => {
                let holds = match (input.eval(row, frame, cx)?, value) {
                    (Datum::Bool(have), Some(want)) => have == *want,
                    (Datum::Null, None) => true,
                    _ => false,
                };
                Ok(Datum::Bool(holds != *negated))
            }
            Expr::Distinct {
                left,
                right,
                equal,
                negated,
            } => {
                let left = left.eval(row, frame, cx)?;
                let right = right.eval(row, frame, cx)?;
                let distinct = match (left.is_null(), right.is_null()) {
                    (true, true) => false,
                    (true, false) | (false, true) => true,
                    (false, false) => {
                        let depth = cx.locals().len();
                        cx.locals().push(left);
                        cx.locals().push(right);
                        let same = equal.eval(row, frame, cx);
                        cx.locals().truncate(depth);
                        !same?.is_true()
                    }
                };
                Ok(Datum::Bool(distinct != *negated))
            }
            Expr::Case(case) => eval_case(case, row, frame, cx),
            Expr::Local { depth, .. } => {
                let locals = cx.locals();
                let at = locals.len().checked_sub(1 + *depth as usize);
                at.map(|at| locals[at].clone())
                    .ok_or_else(|| Stop::Error(Error::internal("a local is not set")))
            }
            Expr::Coalesce(items, _) => {
                for item in items {
                    let value = item.eval(row, frame, cx)?;
                    if !value.is_null() {
                        return Ok(value);
                    }
                }
                Ok(Datum::Null)
            }
            Expr::Extreme { args, greatest, .. } => {
                let mut best = Datum::Null;
                for arg in args {
                    let value = arg.eval(row, frame, cx)?;
                    if value.is_null() {
                        continue;
                    }
                    let wanted = if *greatest {
                        Ordering::Greater
                    } else {
                        Ordering::Less
                    };
                    if best.is_null() || compare(&value, &best) == wanted {
                        best = value;
                    }
                }
                Ok(best)
            }
            Expr::AnyArray(any) => eval_any(any, row, frame, cx),
            Expr::Array { items, ty } => {
                let values = eval_row(items, row, frame, cx)?;
                let element = ty.element().unwrap_or(*ty).plain();
                let nested = items.iter().any(|item| item.ty().is_array());
                let array = if nested {
                    Array::stack(element, &values)?
                } else {
                    Array::of(element, values)
                };
                Ok(Datum::array(array))
            }
            Expr::Subscript { array, indexes, .. } => {
                let value = array.eval(row, frame, cx)?;
                let indexes = eval_row(indexes, row, frame, cx)?;
                Ok(subscript(&value, &indexes))
            }
            Expr::Slice { array, bounds, .. } => {
                let Datum::Array(value) = array.eval(row, frame, cx)? else {
                    return Ok(Datum::Null);
                };
                let mut limits = Vec::with_capacity(bounds.len());
                for (lower, upper) in bounds {
                    let mut read = |bound: &Option<Expr>| -> std::result::Result<_, Stop> {
                        match bound {
                            None => Ok(Some(None)),
                            Some(expr) => Ok(match expr.eval(row, frame, cx)? {
                                Datum::Int4(value) => Some(Some(value)),
                                _ => None,
                            }),
                        }
                    };
                    match (read(lower)?, read(upper)?) {
                        (Some(lower), Some(upper)) => limits.push((lower, upper)),
                        _ => return Ok(Datum::Null),
                    }
                }
                Ok(Datum::array(value.slice(&limits)))
            }
            Expr::Row {
                items,
                shape,
                whole,
            } => {
                let values = eval_row(items, row, frame, cx)?;
                if *whole && !values.is_empty() && values.iter().all(Datum::is_null) {
                    return Ok(Datum::Null);
                }
                Ok(Datum::Record(Arc::new(Record::new(shape.clone(), values))))
            }
            Expr::Field { input, index, .. } => Ok(match input.eval(row, frame, cx)? {
                Datum::Record(record) => record
                    .values
                    .get(*index as usize)
                    .cloned()
                    .unwrap_or(Datum::Null),
                _ => Datum::Null,
            }),
            Expr::RowCompare(compare) => eval_row_compare(compare, row, frame, cx),
            Expr::SubPlan(plan) => cx.subplan(plan, row, frame),
            Expr::Subquery(_)
            | Expr::Aggregate(_)
            | Expr::Window(_)
            | Expr::SetReturning(_)
            | Expr::Grouping(_)
            | Expr::Default => Err(Stop::Error(Error::internal(
                "an expression was not compiled",
            ))),
        }
    }

    /// The value of an expression without columns, parameters and subqueries.
    ///
    /// # Errors
    /// What evaluation raises.
    pub fn constant_value(&self, evaluation: Evaluation<'_>) -> Result<Datum> {
        let frame = Frame::new(Arc::from([]));
        match self.eval(&[], &frame, &mut Alone::new(evaluation)) {
            Ok(value) => Ok(value),
            Err(Stop::Error(error)) => Err(error),
            Err(Stop::Wait(_) | Stop::Pause(_)) => {
                Err(Error::internal("a constant expression waits"))
            }
        }
    }
}

fn is_null(value: &Datum, negated: bool, is_row: bool) -> bool {
    match value {
        Datum::Record(record) if is_row => {
            record.values.iter().all(|field| field.is_null() != negated)
        }
        value => value.is_null() != negated,
    }
}

fn eval_case<'e, C: Context<'e>>(case: &Case, row: &[Datum], frame: &Frame, cx: &mut C) -> Value {
    let depth = cx.locals().len();
    if let Some(operand) = &case.operand {
        let value = operand.eval(row, frame, cx)?;
        cx.locals().push(value);
    }
    let result = (|| {
        for (condition, result) in &case.whens {
            if condition.eval(row, frame, cx)?.is_true() {
                return result.eval(row, frame, cx);
            }
        }
        match &case.otherwise {
            Some(otherwise) => otherwise.eval(row, frame, cx),
            None => Ok(Datum::Null),
        }
    })();
    cx.locals().truncate(depth);
    result
}

fn eval_any<'e, C: Context<'e>>(any: &AnyArray, row: &[Datum], frame: &Frame, cx: &mut C) -> Value {
    let left = any.left.eval(row, frame, cx)?;
    let Datum::Array(array) = any.array.eval(row, frame, cx)? else {
        return Ok(Datum::Null);
    };
    if array.values.is_empty() {
        return Ok(Datum::Bool(any.all));
    }
    let depth = cx.locals().len();
    cx.locals().push(left);
    cx.locals().push(Datum::Null);
    let mut null = false;
    let mut decided = None;
    for element in &array.values {
        cx.locals()[depth + 1] = element.clone();
        match any.test.eval(row, frame, cx) {
            Ok(Datum::Bool(value)) if value != any.all => {
                decided = Some(Ok(Datum::Bool(value)));
                break;
            }
            Ok(Datum::Null) => null = true,
            Ok(_) => {}
            Err(stop) => {
                decided = Some(Err(stop));
                break;
            }
        }
    }
    cx.locals().truncate(depth);
    decided.unwrap_or(Ok(if null {
        Datum::Null
    } else {
        Datum::Bool(any.all)
    }))
}

fn eval_row_compare<'e, C: Context<'e>>(
    node: &RowCompare,
    row: &[Datum],
    frame: &Frame,
    cx: &mut C,
) -> Value {
    let mut order = Ordering::Equal;
    for (left, right) in node.left.iter().zip(&node.right) {
        let kind = left.ty();
        let left = left.eval(row, frame, cx)?;
        let right = right.eval(row, frame, cx)?;
        if left.is_null() || right.is_null() {
            return Ok(Datum::Null);
        }
        order = crate::types::order::compare_as(kind, &left, &right);
        if order.is_ne() {
            break;
        }
    }
    Ok(Datum::Bool(match node.op {
        RowOp::Less => order.is_lt(),
        RowOp::LessEqual => order.is_le(),
        RowOp::Greater => order.is_gt(),
        RowOp::GreaterEqual => order.is_ge(),
    }))
}

/// `value[i][j]` of arrays, vectors, jsonb and name.
fn subscript(value: &Datum, indexes: &[Datum]) -> Datum {
    if indexes.iter().any(Datum::is_null) {
        return Datum::Null;
    }
    match value {
        Datum::Array(array) => {
            let indexes: Vec<i32> = indexes
                .iter()
                .filter_map(|index| match index {
                    Datum::Int4(value) => Some(*value),
                    _ => None,
                })
                .collect();
            array.get(&indexes)
        }
        Datum::Jsonb(json) => {
            let mut at: &Json = json;
            for index in indexes {
                match json_step(at, index) {
                    Some(next) => at = next,
                    None => return Datum::Null,
                }
            }
            Datum::jsonb(at.clone())
        }
        Datum::Text(name) => match indexes {
            [Datum::Int4(index)] => usize::try_from(*index)
                .ok()
                .and_then(|index| name.as_bytes().get(index))
                .map_or(Datum::Null, |byte| Datum::Char(*byte)),
            _ => Datum::Null,
        },
        _ => Datum::Null,
    }
}

fn json_step<'j>(json: &'j Json, index: &Datum) -> Option<&'j Json> {
    let text;
    let (key, number) = match index {
        Datum::Text(key) => (&**key, key.parse::<i64>().ok()),
        Datum::Int4(value) => {
            text = value.to_string();
            (text.as_str(), Some(i64::from(*value)))
        }
        _ => return None,
    };
    match json {
        Json::Object(_) => json.get(key),
        Json::Array(items) => {
            let number = number?;
            let length = i64::try_from(items.len()).ok()?;
            let at = if number < 0 { length + number } else { number };
            items.get(usize::try_from(at).ok()?)
        }
        _ => None,
    }
}
