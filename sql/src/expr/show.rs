//! Compiled expressions as text, the way EXPLAIN shows them.

use crate::expr::{Expr, RowOp, SubPlanKind, deep};
use crate::types::{Datum, FormatSettings, Type};

/// Names that an expression's slots and arguments stand for.
pub struct Names<'n> {
    /// By slot of the input row.
    pub columns: &'n [String],
    /// By argument of the enclosing level.
    pub arguments: &'n [String],
}

/// An expression as text.
pub fn show(expr: &Expr, names: &Names<'_>) -> String {
    deep(|| show_inner(expr, names, &mut Vec::new()))
}

fn list(items: &[Expr], names: &Names<'_>, locals: &mut Vec<String>) -> String {
    items
        .iter()
        .map(|item| show_inner(item, names, locals))
        .collect::<Vec<_>>()
        .join(", ")
}

fn show_inner(expr: &Expr, names: &Names<'_>, locals: &mut Vec<String>) -> String {
    match expr {
        Expr::Const { value, ty } => literal(value, *ty),
        Expr::Column { column, .. } => names
            .columns
            .get(column.0 as usize)
            .cloned()
            .unwrap_or_else(|| "?".to_owned()),
        Expr::Argument { index, .. } => names
            .arguments
            .get(*index as usize)
            .cloned()
            .unwrap_or_else(|| format!("${index}")),
        Expr::Parameter { index, .. } => format!("${}", index + 1),
        Expr::Call(call) | Expr::SetReturning(call) => {
            match (call.operator, call.args.as_slice()) {
                (Some(op), [left, right]) => {
                    let left = show_inner(left, names, locals);
                    format!("({left} {op} {})", show_inner(right, names, locals))
                }
                (Some(op), [one]) => format!("({op} {})", show_inner(one, names, locals)),
                _ => {
                    format!(
                        "{}({})",
                        call.resolved.function.name,
                        list(&call.args, names, locals)
                    )
                }
            }
        }
        Expr::Routine(call) => {
            format!("{}({})", call.routine.name, list(&call.args, names, locals))
        }
        Expr::Cast(cast) => {
            format!(
                "({})::{}",
                show_inner(&cast.input, names, locals),
                cast.ty.name()
            )
        }
        Expr::And(items) | Expr::Or(items) => {
            let word = if matches!(expr, Expr::And(_)) {
                " AND "
            } else {
                " OR "
            };
            let items: Vec<String> = items
                .iter()
                .map(|item| show_inner(item, names, locals))
                .collect();
            format!("({})", items.join(word))
        }
        Expr::Not(input) => format!("(NOT {})", show_inner(input, names, locals)),
        Expr::IsNull { input, negated, .. } => {
            let word = if *negated { "IS NOT NULL" } else { "IS NULL" };
            format!("({} {word})", show_inner(input, names, locals))
        }
        Expr::IsBool {
            input,
            value,
            negated,
        } => {
            let not = if *negated { "NOT " } else { "" };
            let word = match value {
                Some(true) => "TRUE",
                Some(false) => "FALSE",
                None => "UNKNOWN",
            };
            format!("({} IS {not}{word})", show_inner(input, names, locals))
        }
        Expr::Distinct {
            left,
            right,
            negated,
            ..
        } => {
            let not = if *negated { "NOT " } else { "" };
            let left = show_inner(left, names, locals);
            format!(
                "({left} IS {not}DISTINCT FROM {})",
                show_inner(right, names, locals)
            )
        }
        Expr::Case(case) => {
            let mut out = "CASE".to_owned();
            if let Some(operand) = &case.operand {
                let text = show_inner(operand, names, locals);
                out.push_str(&format!(" {text}"));
                locals.push(text);
            }
            for (condition, result) in &case.whens {
                let condition = show_inner(condition, names, locals);
                let result = show_inner(result, names, locals);
                out.push_str(&format!(" WHEN {condition} THEN {result}"));
            }
            if let Some(otherwise) = &case.otherwise {
                out.push_str(&format!(" ELSE {}", show_inner(otherwise, names, locals)));
            }
            if case.operand.is_some() {
                locals.pop();
            }
            out + " END"
        }
        Expr::Local { depth, .. } => locals
            .len()
            .checked_sub(1 + *depth as usize)
            .and_then(|at| locals.get(at).cloned())
            .unwrap_or_else(|| "?".to_owned()),
        Expr::Coalesce(items, _) => format!("COALESCE({})", list(items, names, locals)),
        Expr::Extreme { args, greatest, .. } => {
            let word = if *greatest { "GREATEST" } else { "LEAST" };
            format!("{word}({})", list(args, names, locals))
        }
        Expr::AnyArray(any) => {
            let left = show_inner(&any.left, names, locals);
            let op = match &any.test {
                Expr::Call(call) => call.operator.unwrap_or("="),
                _ => "=",
            };
            let word = if any.all { "ALL" } else { "ANY" };
            format!(
                "({left} {op} {word} ({}))",
                show_inner(&any.array, names, locals)
            )
        }
        Expr::Array { items, .. } => format!("ARRAY[{}]", list(items, names, locals)),
        Expr::Subscript { array, indexes, .. } => {
            format!(
                "{}[{}]",
                show_inner(array, names, locals),
                list(indexes, names, locals)
            )
        }
        Expr::Slice { array, .. } => format!("{}[:]", show_inner(array, names, locals)),
        Expr::Row { items, .. } => format!("ROW({})", list(items, names, locals)),
        Expr::Field { input, index, .. } => {
            format!("({}).f{}", show_inner(input, names, locals), index + 1)
        }
        Expr::RowCompare(compare) => {
            let op = match compare.op {
                RowOp::Less => "<",
                RowOp::LessEqual => "<=",
                RowOp::Greater => ">",
                RowOp::GreaterEqual => ">=",
            };
            let left = list(&compare.left, names, locals);
            format!(
                "(ROW({left}) {op} ROW({}))",
                list(&compare.right, names, locals)
            )
        }
        Expr::SubPlan(plan) => {
            let number = plan.index + 1;
            let name = if plan.hashed.is_some() {
                format!("hashed SubPlan {number}")
            } else if plan.arguments.is_empty() {
                return match plan.kind {
                    SubPlanKind::Any | SubPlanKind::All => format!("(SubPlan {number})"),
                    _ => format!("$SubPlan {number}"),
                };
            } else {
                format!("SubPlan {number}")
            };
            format!("({name})")
        }
        Expr::Aggregate(_)
        | Expr::Window(_)
        | Expr::Subquery(_)
        | Expr::Grouping(_)
        | Expr::Default => "?".to_owned(),
    }
}

/// A constant with its type, quoted unless it is a number or a truth value.
fn literal(value: &Datum, ty: Type) -> String {
    match value {
        Datum::Null => return format!("NULL::{}", ty.name()),
        Datum::Bool(value) => return value.to_string(),
        Datum::Int4(value) => {
            return if *value < 0 {
                format!("'{value}'::integer")
            } else {
                value.to_string()
            };
        }
        _ => {}
    }
    let text = value
        .to_text(ty, &FormatSettings::default())
        .unwrap_or_default();
    format!("'{}'::{}", text.replace('\'', "''"), ty.name())
}
