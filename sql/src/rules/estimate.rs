//! Row estimates by simple rules; there are no histograms.

use crate::catalog::{Table, TableId};
use crate::expr::{ColumnRef, Expr};
use crate::plan::{JoinKind, Rel};
use crate::types::Datum;

/// How many rows tables have, as far as anybody knows.
pub trait Statistics {
    /// The table's rows; `None` = unknown.
    fn rows(&self, table: TableId) -> Option<f64>;
}

/// What an unknown table is taken to have.
pub const TABLE_ROWS: f64 = 10_000.0;
/// What a system relation is taken to have.
const SYSTEM_ROWS: f64 = 500.0;
/// What a table function is taken to give, as in PostgreSQL.
const FUNCTION_ROWS: f64 = 100.0;

/// The estimated rows of a relation.
pub fn rows(rel: &Rel, statistics: &dyn Statistics) -> f64 {
    let estimate = match rel {
        Rel::Values { rows, .. } => rows.len() as f64,
        Rel::Scan(scan) => {
            let all = statistics.rows(scan.table.id).unwrap_or(TABLE_ROWS);
            if unique_match(&scan.table, &scan.filter, &|id| {
                scan.columns
                    .iter()
                    .find(|(_, c)| c.id == id)
                    .map(|(index, _)| *index)
            }) {
                return 1.0;
            }
            all * selectivity(&scan.filter)
        }
        Rel::System(system) => SYSTEM_ROWS * selectivity(&system.filter),
        Rel::Function(_) | Rel::Cte { .. } => FUNCTION_ROWS,
        Rel::Join {
            kind,
            left,
            right,
            on,
        } => {
            let (l, r) = (rows(left, statistics), rows(right, statistics));
            match kind {
                JoinKind::Inner => join_rows(l, r, on),
                JoinKind::Left => join_rows(l, r, on).max(l),
                JoinKind::Right => join_rows(l, r, on).max(r),
                JoinKind::Full => join_rows(l, r, on).max(l + r),
                JoinKind::Semi | JoinKind::Anti => (l * 0.5).max(1.0),
            }
        }
        Rel::Filter { input, conditions } => rows(input, statistics) * selectivity(conditions),
        Rel::Project { input, .. }
        | Rel::Window { input, .. }
        | Rel::Sort { input, .. }
        | Rel::Lock { input, .. } => rows(input, statistics),
        Rel::ProjectSet { input, .. } => rows(input, statistics) * 10.0,
        Rel::Aggregate { input, groups, .. } => {
            if groups.is_empty() {
                1.0
            } else {
                (rows(input, statistics) * 0.1).max(1.0)
            }
        }
        Rel::Distinct { input, .. } => (rows(input, statistics) * 0.2).max(1.0),
        Rel::Limit { input, limit, .. } => {
            let all = rows(input, statistics);
            match limit {
                Some(Expr::Const { value, .. }) => value
                    .as_i64()
                    .map_or(all, |limit| all.min(limit.max(0) as f64)),
                Some(_) => all * 0.1,
                None => all,
            }
        }
        Rel::Set { left, right, .. } => rows(left, statistics) + rows(right, statistics),
        Rel::With { body, .. } => rows(body, statistics),
        Rel::Modify(modify) => rows(&modify.source, statistics),
    };
    estimate.max(1.0)
}

/// Rows of an inner join.
pub(super) fn join_rows(left: f64, right: f64, on: &[Expr]) -> f64 {
    let equalities = on.iter().filter(|expr| is_equality(expr)).count();
    if equalities > 0 {
        // As if the smaller side's key were unique.
        let mut rows = left.max(right);
        for _ in 1..equalities {
            rows *= 0.5;
        }
        return rows.max(1.0);
    }
    left * right * selectivity(on)
}

/// Whether the conditions fix all columns of a unique index.
pub(super) fn unique_match(
    table: &Table,
    filter: &[Expr],
    column_of: &dyn Fn(ColumnRef) -> Option<usize>,
) -> bool {
    use crate::catalog::IndexKey;
    let fixed: Vec<usize> = filter
        .iter()
        .filter_map(|condition| {
            let Expr::Call(call) = condition else {
                return None;
            };
            if call.operator != Some("=") {
                return None;
            }
            call.args.iter().find_map(|arg| match arg {
                Expr::Column { column, .. } => column_of(*column),
                _ => None,
            })
        })
        .collect();
    table
        .indexes
        .iter()
        .filter(|index| index.unique && index.predicate.is_none())
        .any(|index| {
            index.columns.iter().all(|key| match &key.what {
                IndexKey::Column(id) => table
                    .column_index(*id)
                    .is_some_and(|column| fixed.contains(&column)),
                IndexKey::Expression(_) => false,
            })
        })
}

/// The part of rows for which conditions hold.
pub(super) fn selectivity(conditions: &[Expr]) -> f64 {
    conditions.iter().map(one).product()
}

fn one(condition: &Expr) -> f64 {
    match condition {
        Expr::Const {
            value: Datum::Bool(true),
            ..
        } => 1.0,
        Expr::Const { .. } => 0.0,
        Expr::Call(call) => match call.operator {
            Some("=") => 0.005,
            Some("<>") => 0.995,
            Some("<" | "<=" | ">" | ">=") => 0.333,
            Some("~~" | "~~*" | "~" | "~*") => 0.1,
            _ => 0.333,
        },
        Expr::AnyArray(any) => {
            let count = match &any.array {
                Expr::Const {
                    value: Datum::Array(array),
                    ..
                } => array.values.len(),
                Expr::Array { items, .. } => items.len(),
                _ => 10,
            };
            (0.005 * count as f64).min(0.5)
        }
        Expr::And(items) => selectivity(items),
        Expr::Or(items) => items.iter().map(one).sum::<f64>().min(1.0),
        Expr::Not(input) => 1.0 - one(input),
        Expr::IsNull { negated, .. } => {
            if *negated {
                0.995
            } else {
                0.005
            }
        }
        _ => 0.5,
    }
}

/// `a = b`.
pub(super) fn is_equality(expr: &Expr) -> bool {
    matches!(expr, Expr::Call(call) if call.operator == Some("="))
}
