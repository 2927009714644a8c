//! Constant folding: immutable calls over constants are computed once, AND and OR lose what is
//! decided. Errors are left for the execution, where they may never come up.

use crate::expr::{Expr, Flow};
use crate::functions::evaluation::Bare;
use crate::functions::{Evaluation, Volatility};
use crate::plan::Rel;
use crate::types::{CastContext, Datum, FormatSettings, Type, cast_function};

/// Folds every expression of a relation.
pub fn fold(rel: &mut Rel, format: &FormatSettings) {
    rel.for_each_expr_mut(&mut |expr| fold_expr(expr, format));
    rel.for_each_input_mut(&mut |input| fold(input, format));
}

fn fold_expr(expr: &mut Expr, format: &FormatSettings) {
    crate::expr::deep(|| {
        expr.for_each_child_mut(&mut |child| fold_expr(child, format));
        if let Expr::Subquery(subquery) = expr {
            fold(&mut subquery.rel, format);
        }
        simplify(expr, format);
    });
}

fn is_const(expr: &Expr) -> bool {
    matches!(expr, Expr::Const { .. })
}

fn simplify(expr: &mut Expr, format: &FormatSettings) {
    let foldable = match expr {
        Expr::Call(call) => {
            call.resolved.function.volatility == Volatility::Immutable
                && call.args.iter().all(is_const)
        }
        Expr::Cast(cast) => is_const(&cast.input) && immutable_cast(cast.input.ty(), cast.ty),
        Expr::Not(input) | Expr::IsNull { input, .. } | Expr::IsBool { input, .. } => {
            is_const(input)
        }
        Expr::Coalesce(items, _)
        | Expr::Extreme { args: items, .. }
        | Expr::Array { items, .. } => items.iter().all(is_const),
        Expr::And(_) | Expr::Or(_) => {
            junction(expr);
            return;
        }
        Expr::Case(_) => {
            case(expr);
            return;
        }
        _ => false,
    };
    if !foldable {
        return;
    }
    let bare = Bare::default();
    if let Ok(value) = expr.constant_value(Evaluation::new(format, 0, &bare)) {
        *expr = Expr::Const {
            value,
            ty: expr.ty(),
        };
    }
}

/// Whether a cast gives the same under all settings.
fn immutable_cast(from: Type, to: Type) -> bool {
    let stable = |ty: Type| {
        let element = ty.element().unwrap_or(ty);
        element.reg_kind().is_some()
            || [
                Type::TIMESTAMPTZ,
                Type::TIMETZ,
                Type::DATE,
                Type::TIMESTAMP,
                Type::INTERVAL,
            ]
            .iter()
            .any(|t| t.oid == element.oid)
    };
    let _ = CastContext::Explicit;
    cast_function(from, to).is_some() && !stable(from) && !stable(to)
}

fn junction(expr: &mut Expr) {
    let (is_and, items) = match expr {
        Expr::And(items) => (true, std::mem::take(items)),
        Expr::Or(items) => (false, std::mem::take(items)),
        _ => return,
    };
    let mut kept = Vec::with_capacity(items.len());
    for item in items {
        match (&item, is_and) {
            (
                Expr::Const {
                    value: Datum::Bool(value),
                    ..
                },
                _,
            ) => {
                if *value != is_and {
                    *expr = Expr::bool(*value);
                    return;
                }
            }
            (Expr::And(_), true) | (Expr::Or(_), false) => {
                if let Expr::And(inner) | Expr::Or(inner) = item {
                    kept.extend(inner);
                }
            }
            _ => kept.push(item),
        }
    }
    *expr = match kept.len() {
        0 => Expr::bool(is_and),
        1 => kept.remove(0),
        _ if is_and => Expr::And(kept),
        _ => Expr::Or(kept),
    };
}

/// Drops branches that are decided; a simple CASE keeps its operand.
fn case(expr: &mut Expr) {
    let Expr::Case(node) = expr else {
        return;
    };
    if node.operand.is_some() {
        return;
    }
    let mut kept = Vec::with_capacity(node.whens.len());
    for (condition, result) in std::mem::take(&mut node.whens) {
        match condition {
            Expr::Const {
                value: Datum::Bool(true),
                ..
            } => {
                node.otherwise = Some(result);
                break;
            }
            Expr::Const { .. } => {}
            condition => kept.push((condition, result)),
        }
    }
    node.whens = kept;
    if node.whens.is_empty() {
        *expr = node.otherwise.take().unwrap_or_else(|| Expr::null(node.ty));
    }
}

/// Whether an expression has nothing that changes from row to row of its own level.
pub(super) fn is_fixed(expr: &Expr) -> bool {
    let mut fixed = true;
    expr.visit(&mut |node| {
        fixed &= !matches!(node, Expr::Column { .. } | Expr::Subquery(_));
        Flow::Enter
    });
    fixed && !expr.is_volatile()
}
