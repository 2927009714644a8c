//! EXISTS and IN as semi-joins, when the subquery's correlation can be lifted out of it.

use crate::expr::{ColumnRef, Expr, Subquery, SubqueryKind};
use crate::plan::{JoinKind, Rel};
use crate::types::Datum;

/// Joins `rel` with the subquery of a condition, or gives both back.
pub(super) fn join(rel: Rel, condition: Expr) -> Result<Rel, Box<(Rel, Expr)>> {
    let keep = |rel: Rel, condition: Expr| Err(Box::new((rel, condition)));
    let (kind, subquery) = match condition {
        Expr::Subquery(subquery) => (JoinKind::Semi, subquery),
        Expr::Not(inner) => match *inner {
            Expr::Subquery(subquery) if matches!(subquery.kind, SubqueryKind::Exists) => {
                (JoinKind::Anti, subquery)
            }
            other => return keep(rel, Expr::Not(Box::new(other))),
        },
        other => return keep(rel, other),
    };
    let again = |kind: JoinKind, subquery: Box<Subquery>| match kind {
        JoinKind::Anti => Expr::Not(Box::new(Expr::Subquery(subquery))),
        _ => Expr::Subquery(subquery),
    };
    let test = match &subquery.kind {
        SubqueryKind::Exists => None,
        SubqueryKind::Any { test, all: false } if !test.has_subquery() => Some((**test).clone()),
        _ => return keep(rel, again(kind, subquery)),
    };
    let exists = test.is_none();
    let mut on = Vec::new();
    if let Some(test) = test {
        test.conjuncts(&mut on);
    }
    let Some(right) = lift(subquery.rel.clone(), exists, &mut on) else {
        return keep(rel, again(kind, subquery));
    };
    let left: Vec<ColumnRef> = rel.columns().iter().map(|column| column.id).collect();
    let mut free = Vec::new();
    right.free_columns(&mut free);
    if free.iter().any(|column| left.contains(column)) {
        return keep(rel, again(kind, subquery));
    }
    Ok(Rel::Join {
        kind,
        left: Box::new(rel),
        right: Box::new(right),
        on,
    })
}

/// Takes correlated conditions out of the top of a subquery; `None` when that changes its
/// meaning.
fn lift(rel: Rel, exists: bool, on: &mut Vec<Expr>) -> Option<Rel> {
    match rel {
        Rel::Filter { input, conditions } => {
            let input = lift(*input, exists, on)?;
            let own: Vec<ColumnRef> = input.columns().iter().map(|c| c.id).collect();
            let mut kept = Vec::new();
            for condition in conditions {
                let mut used = Vec::new();
                condition.free_columns(&mut used);
                let outer = used.iter().any(|column| !own.contains(column));
                if outer && !condition.has_subquery() && !condition.is_volatile() {
                    on.push(condition);
                } else {
                    kept.push(condition);
                }
            }
            Some(if kept.is_empty() {
                input
            } else {
                Rel::Filter {
                    input: Box::new(input),
                    conditions: kept,
                }
            })
        }
        Rel::Project { input, items } => {
            if exists && items.iter().all(|(_, expr)| !expr.is_volatile()) {
                return lift(*input, exists, on);
            }
            let input = Box::new(lift(*input, exists, on)?);
            Some(Rel::Project { input, items })
        }
        Rel::Sort { input, .. } => lift(*input, exists, on),
        Rel::Limit {
            input,
            limit: Some(Expr::Const { value, .. }),
            offset: None,
            ..
        } if exists && matches!(value, Datum::Int8(n) if n > 0) => lift(*input, exists, on),
        other => Some(other),
    }
}
