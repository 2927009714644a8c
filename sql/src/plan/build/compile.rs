//! Expressions over slots, and the subplans in them.

use std::sync::Arc;

use super::join::{hash_key_outside, trimmed};
use super::{Builder, is_volatile, reads_cte};
use crate::error::{Error, Result};
use crate::expr::{ColumnRef, Expr, SortKey, SubPlan, SubPlanKind, Subquery, SubqueryKind, deep};
use crate::plan::node::PlanNode;
use crate::types::Type;

impl<'a> Builder<'a> {
    pub(super) fn compile_pairs(
        &mut self,
        pairs: &[(usize, Expr)],
        layout: &[ColumnRef],
    ) -> Result<Vec<(usize, Expr)>> {
        pairs
            .iter()
            .map(|(index, expr)| Ok((*index, self.compile(expr, layout)?)))
            .collect()
    }

    pub(super) fn compile_option(
        &mut self,
        expr: Option<&Expr>,
        layout: &[ColumnRef],
    ) -> Result<Option<Expr>> {
        expr.map(|expr| self.compile(expr, layout)).transpose()
    }

    pub(super) fn compile_all(
        &mut self,
        exprs: &[Expr],
        layout: &[ColumnRef],
    ) -> Result<Vec<Expr>> {
        exprs
            .iter()
            .map(|expr| self.compile(expr, layout))
            .collect()
    }

    pub(super) fn compile_keys(
        &mut self,
        keys: &[SortKey],
        layout: &[ColumnRef],
    ) -> Result<Vec<SortKey>> {
        keys.iter()
            .map(|key| {
                let mut expr = self.compile(&key.expr, layout)?;
                if expr.ty().oid == Type::BPCHAR.oid {
                    expr = trimmed(expr);
                }
                Ok(SortKey {
                    expr,
                    ..key.clone()
                })
            })
            .collect()
    }

    /// A copy of an expression with its columns as slots and its subqueries compiled.
    pub(super) fn compile(&mut self, expr: &Expr, layout: &[ColumnRef]) -> Result<Expr> {
        let mut expr = expr.clone();
        self.compile_mut(&mut expr, layout)?;
        Ok(expr)
    }

    pub(super) fn compile_mut(&mut self, expr: &mut Expr, layout: &[ColumnRef]) -> Result<()> {
        deep(|| match expr {
            Expr::Column { column, ty } => {
                if let Some(slot) = layout.iter().position(|id| id == column) {
                    *column = slot_ref(slot);
                    return Ok(());
                }
                let index = self
                    .arguments
                    .iter()
                    .position(|id| id == column)
                    .ok_or_else(|| {
                        Error::internal(format!("column {} is not in reach of its use", column.0))
                    })?;
                let index = u32::try_from(index).unwrap_or(u32::MAX);
                *expr = Expr::Argument { index, ty: *ty };
                Ok(())
            }
            Expr::Subquery(subquery) => {
                let plan = self.subplan(subquery, layout)?;
                *expr = Expr::SubPlan(Arc::new(plan));
                Ok(())
            }
            other => {
                let mut result = Ok(());
                other.for_each_child_mut(&mut |child| {
                    if result.is_ok() {
                        result = self.compile_mut(child, layout);
                    }
                });
                result
            }
        })
    }

    pub(super) fn subplan(&mut self, subquery: &Subquery, layout: &[ColumnRef]) -> Result<SubPlan> {
        let outputs: Vec<ColumnRef> = subquery.outputs.iter().map(|(id, _)| *id).collect();
        let mut free = Vec::new();
        subquery.rel.free_columns(&mut free);
        let correlated = !free.is_empty();
        let (kind, test) = match &subquery.kind {
            SubqueryKind::Scalar => (SubPlanKind::Scalar, None),
            SubqueryKind::Exists => (SubPlanKind::Exists, None),
            SubqueryKind::Array => (SubPlanKind::Array, None),
            SubqueryKind::Row => (SubPlanKind::Row, None),
            SubqueryKind::Any { test, all: false } => (SubPlanKind::Any, Some(&**test)),
            SubqueryKind::Any { test, all: true } => (SubPlanKind::All, Some(&**test)),
        };
        let hashed = match test {
            Some(test) if !correlated && kind == SubPlanKind::Any => {
                match hash_key_outside(test, &outputs) {
                    Some(key) => Some(self.compile(&key, layout)?),
                    None => None,
                }
            }
            _ => None,
        };
        if let Some(test) = test {
            let mut used = Vec::new();
            test.free_columns(&mut used);
            free.extend(used.into_iter().filter(|id| !outputs.contains(id)));
            free.sort_unstable();
            free.dedup();
        }
        let arguments = free
            .iter()
            .map(|id| {
                self.compile(
                    &Expr::Column {
                        column: *id,
                        ty: Type::UNKNOWN,
                    },
                    layout,
                )
            })
            .collect::<Result<Vec<_>>>()?;
        let nested = !self.arguments.is_empty();
        let saved = std::mem::replace(&mut self.arguments, free);
        let built = self.subplan_body(subquery, &outputs, test);
        self.arguments = saved;
        let (plan, test) = built?;
        self.subplans += 1;
        let working = reads_cte(&subquery.rel, nested);
        let tested = matches!(kind, SubPlanKind::Any | SubPlanKind::All);
        Ok(SubPlan {
            index: self.subplans - 1,
            kind,
            plan: Arc::new(plan),
            width: outputs.len(),
            arguments,
            test,
            hashed: hashed.filter(|_| !working),
            ty: subquery.ty,
            cached: !(working || correlated && (tested || is_volatile(&subquery.rel))),
        })
    }

    pub(super) fn subplan_body(
        &mut self,
        subquery: &Subquery,
        outputs: &[ColumnRef],
        test: Option<&Expr>,
    ) -> Result<(PlanNode, Option<Expr>)> {
        let plan = if matches!(subquery.kind, SubqueryKind::Exists) {
            self.build(&subquery.rel, None)?.node
        } else {
            self.outputs(&subquery.rel, &subquery.outputs)?
        };
        let test = match test {
            Some(test) => Some(self.compile(test, outputs)?),
            None => None,
        };
        Ok((plan, test))
    }
}

pub(super) fn slot_ref(slot: usize) -> ColumnRef {
    ColumnRef(u32::try_from(slot).expect("a row has fewer than 2^32 columns"))
}

pub(super) fn slot_of(layout: &[ColumnRef], id: ColumnRef) -> Result<usize> {
    layout
        .iter()
        .position(|other| *other == id)
        .ok_or_else(|| Error::internal(format!("column {} is not in its input", id.0)))
}
