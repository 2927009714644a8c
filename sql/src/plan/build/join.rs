//! The method of a join: hash, index or nested loop.

use std::sync::Arc;

use super::{Builder, Built, columns_of, ids};
use crate::error::Result;
use crate::expr::{ColumnRef, Expr};
use crate::plan::node::{Op, Region};
use crate::plan::{JoinKind, Rel};
use crate::rules::{Wanted, choose};
use crate::types::{CastContext, Type};

impl<'a> Builder<'a> {
    pub(super) fn join(
        &mut self,
        kind: JoinKind,
        left: &Rel,
        right: &Rel,
        on: &[Expr],
        wanted: Option<Wanted<'_>>,
    ) -> Result<Built> {
        let keeps_left = matches!(
            kind,
            JoinKind::Inner | JoinKind::Left | JoinKind::Semi | JoinKind::Anti
        );
        let left_ids = ids(&left.columns());
        let wanted = wanted.filter(|wanted| {
            keeps_left
                && wanted.keys.iter().all(|key| {
                    let mut used = Vec::new();
                    key.expr.free_columns(&mut used);
                    used.iter().all(|id| left_ids.contains(id))
                })
        });
        let left = self.build(left, wanted)?;
        let mut free = Vec::new();
        right.free_columns(&mut free);
        let lateral = free.iter().any(|id| left.layout.contains(id));
        if lateral {
            return self.nested_loop(kind, left, right, on);
        }
        if keeps_left && let Some(pushed) = self.index_join(kind, &left, right, on)? {
            let (right, rest) = pushed;
            return self.nested_loop(kind, left, &right, &rest);
        }
        let right_ids = ids(&right.columns());
        let mut keys = Vec::new();
        let mut rest = Vec::new();
        for condition in on {
            match hash_key(condition, &left_ids, &right_ids) {
                Some(pair) => keys.push(pair),
                None => rest.push(condition.clone()),
            }
        }
        if keys.is_empty() && kind != JoinKind::Full {
            return self.nested_loop(kind, left, right, on);
        }
        let right = self.build(right, None)?;
        let mut left_keys = Vec::with_capacity(keys.len());
        let mut right_keys = Vec::with_capacity(keys.len());
        for (l, r) in keys {
            left_keys.push(self.compile(&l, &left.layout)?);
            right_keys.push(self.compile(&r, &right.layout)?);
        }
        let both: Vec<ColumnRef> = left.layout.iter().chain(&right.layout).copied().collect();
        let on = self.compile_all(&rest, &both)?;
        let semi = matches!(kind, JoinKind::Semi | JoinKind::Anti);
        let mut columns = columns_of(&left.node);
        if !semi {
            columns.extend(columns_of(&right.node));
        }
        let rows = if semi {
            left.node.rows * 0.5
        } else {
            left.node.rows.max(right.node.rows)
        };
        let cost =
            left.node.cost + right.node.cost + left.node.rows * 0.015 + right.node.rows * 0.02;
        let op = Op::HashJoin {
            kind,
            left: Arc::new(left.node),
            right: Arc::new(right.node),
            left_keys,
            right_keys,
            on,
        };
        let node = self.node(op, columns, rows, cost);
        let layout = if semi { left.layout } else { both };
        Ok(Built {
            node,
            layout,
            ordered: left.ordered && keeps_left,
        })
    }

    /// Whether looking up the right side by an index per left row is cheaper; gives the right
    /// side with the join conditions put into its scan.
    pub(super) fn index_join(
        &mut self,
        kind: JoinKind,
        left: &Built,
        right: &Rel,
        on: &[Expr],
    ) -> Result<Option<(Rel, Vec<Expr>)>> {
        let Rel::Scan(scan) = right else {
            return Ok(None);
        };
        let _ = kind;
        let writer = self.writers.writer(scan.table.id)?;
        let table_rows = self
            .statistics
            .rows(scan.table.id)
            .unwrap_or(crate::rules::TABLE_ROWS);
        let alone = choose(scan, &writer, table_rows, None);
        let mut pushed = (**scan).clone();
        let mut rest = Vec::new();
        let first = pushed.filter.len();
        for condition in on {
            if condition.has_subquery() || condition.is_volatile() {
                rest.push(condition.clone());
            } else {
                pushed.filter.push(condition.clone());
            }
        }
        let chosen = choose(&pushed, &writer, table_rows, None);
        if !chosen.enforced.iter().any(|at| *at >= first) {
            return Ok(None);
        }
        let looped = left.node.rows * (chosen.cost + 0.1);
        let hashed = alone.cost + alone.rows * 0.02 + left.node.rows * 0.015;
        Ok((looped < hashed).then(|| (Rel::Scan(Box::new(pushed)), rest)))
    }

    pub(super) fn nested_loop(
        &mut self,
        kind: JoinKind,
        left: Built,
        right: &Rel,
        on: &[Expr],
    ) -> Result<Built> {
        let mut free = Vec::new();
        right.free_columns(&mut free);
        let arguments = free
            .iter()
            .map(|id| {
                self.compile(
                    &Expr::Column {
                        column: *id,
                        ty: Type::UNKNOWN,
                    },
                    &left.layout,
                )
            })
            .collect::<Result<Vec<_>>>()?;
        let uses_left = free.iter().any(|id| left.layout.contains(id));
        let saved = if uses_left {
            Some(std::mem::replace(&mut self.arguments, free))
        } else {
            None
        };
        let right = self.build(right, None);
        if let Some(saved) = saved {
            self.arguments = saved;
        }
        let right = right?;
        let both: Vec<ColumnRef> = left.layout.iter().chain(&right.layout).copied().collect();
        let on = self.compile_all(on, &both)?;
        let semi = matches!(kind, JoinKind::Semi | JoinKind::Anti);
        let mut columns = columns_of(&left.node);
        if !semi {
            columns.extend(columns_of(&right.node));
        }
        let rows = if semi {
            left.node.rows * 0.5
        } else {
            left.node.rows * right.node.rows
        };
        let cost = left.node.cost + left.node.rows * right.node.cost.max(0.1);
        let region = Region {
            node: Arc::new(right.node),
            arguments: if uses_left { arguments } else { Vec::new() },
        };
        let ordered = left.ordered;
        let op = Op::NestedLoop {
            kind,
            left: Arc::new(left.node),
            right: region,
            on,
        };
        let node = self.node(op, columns, rows, cost);
        Ok(Built {
            node,
            layout: if semi { left.layout } else { both },
            ordered,
        })
    }
}

/// The two sides of an equality that can be hashed.
fn hash_key(condition: &Expr, left: &[ColumnRef], right: &[ColumnRef]) -> Option<(Expr, Expr)> {
    let Expr::Call(call) = condition else {
        return None;
    };
    let [a, b] = call.args.as_slice() else {
        return None;
    };
    if call.operator != Some("=") || !hashable(a.ty(), b.ty()) {
        return None;
    }
    let side = |expr: &Expr, own: &[ColumnRef], other: &[ColumnRef]| {
        let mut used = Vec::new();
        expr.free_columns(&mut used);
        used.iter().any(|id| own.contains(id))
            && !used.iter().any(|id| other.contains(id))
            && !expr.has_subquery()
            && !expr.is_volatile()
    };
    if side(a, left, right) && side(b, right, left) {
        return Some((trimmed(a.clone()), trimmed(b.clone())));
    }
    if side(b, left, right) && side(a, right, left) {
        return Some((trimmed(b.clone()), trimmed(a.clone())));
    }
    None
}

/// `char(n)` compares without trailing blanks: as text.
pub(super) fn trimmed(expr: Expr) -> Expr {
    if expr.ty().oid != Type::BPCHAR.oid {
        return expr;
    }
    Expr::Cast(Box::new(crate::expr::Cast {
        input: expr,
        ty: Type::TEXT,
        context: CastContext::Implicit,
        keeps: false,
    }))
}

fn hashable(a: Type, b: Type) -> bool {
    let integer = |ty: Type| [Type::INT2.oid, Type::INT4.oid, Type::INT8.oid].contains(&ty.oid);
    a.oid == b.oid || (integer(a) && integer(b)) || (a.is_string() && b.is_string())
}

/// The outer side of `x = output` in an uncorrelated ANY.
pub(super) fn hash_key_outside(test: &Expr, outputs: &[ColumnRef]) -> Option<Expr> {
    let Expr::Call(call) = test else {
        return None;
    };
    let ([a, b], [output]) = (call.args.as_slice(), outputs) else {
        return None;
    };
    if call.operator != Some("=") || !hashable(a.ty(), b.ty()) || a.ty().oid == Type::BPCHAR.oid {
        return None;
    }
    let is_output = |expr: &Expr| matches!(expr, Expr::Column { column, .. } if column == output);
    let outside = |expr: &Expr| {
        let mut used = Vec::new();
        expr.free_columns(&mut used);
        !used.contains(output)
    };
    if is_output(b) && outside(a) {
        return Some(a.clone());
    }
    (is_output(a) && outside(b)).then(|| b.clone())
}
