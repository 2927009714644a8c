//! GROUP BY, HAVING and aggregates: after everything is bound over the input's columns, targets
//! are rewritten over groups and aggregate results; what is left of the input is an error.

use sqlparser::ast;

use super::scope::{Found, Scope, fold};
use super::select::{Target, ordered, ordinal};
use super::{Binder, Clause};
use crate::catalog::{Constraint, Key};
use crate::error::{Error, Result, state};
use crate::expr::{AggregateCall, ColumnRef, Expr, Flow, contains, same};
use crate::plan::{Rel, RelColumn};
use crate::types::{Array, Datum, Type};

/// Sets that GROUPING SETS may spell out.
const SETS_MAX: usize = 4096;

/// The grouping expressions and, for GROUPING SETS, which of them each set has.
pub(super) struct Groups {
    exprs: Vec<Expr>,
    sets: Option<Vec<Vec<usize>>>,
}

/// The aggregation of one SELECT.
pub(super) struct Grouping {
    groups: Groups,
    having: Option<Expr>,
    own: Vec<ColumnRef>,
    aggregates: bool,
}

impl Grouping {
    pub(super) fn new(
        level: &Scope<'_>,
        groups: Groups,
        having: Option<Expr>,
        targets: &mut [Target],
    ) -> Grouping {
        let has = |expr: &Expr| contains(expr, &mut |e| matches!(e, Expr::Aggregate(_)));
        let aggregates = targets.iter().any(|target| has(&target.expr));
        Grouping {
            groups,
            having,
            own: level.own_columns(),
            aggregates,
        }
    }

    /// Whether there is a GROUP BY.
    pub(super) fn is_grouped(&self) -> bool {
        !self.groups.exprs.is_empty() || self.groups.sets.is_some()
    }

    /// Whether the query aggregates at all.
    pub(super) fn needed(&self) -> bool {
        self.aggregates
            || self.having.is_some()
            || !self.groups.exprs.is_empty()
            || self.groups.sets.is_some()
    }
}

/// Where rewriting stands.
struct Rewrite<'r> {
    groups: Vec<(RelColumn, Expr)>,
    calls: Vec<(RelColumn, AggregateCall)>,
    set_number: Option<RelColumn>,
    sets: Option<Vec<Vec<usize>>>,
    own: &'r [ColumnRef],
}

impl Binder<'_> {
    /// GROUP BY: ordinals, input columns, output names, expressions.
    pub(super) fn group_by(
        &mut self,
        group_by: &ast::GroupByExpr,
        level: &Scope<'_>,
        targets: &[Target],
    ) -> Result<Groups> {
        let ast::GroupByExpr::Expressions(items, modifiers) = group_by else {
            return Err(Error::unsupported("GROUP BY ALL"));
        };
        if !modifiers.is_empty() {
            return Err(Error::unsupported("this GROUP BY modifier"));
        }
        let mut groups = Groups {
            exprs: Vec::new(),
            sets: None,
        };
        let mut sets: Vec<Vec<usize>> = vec![Vec::new()];
        let mut special = false;
        for item in items {
            let choices = match item {
                ast::Expr::GroupingSets(list) => {
                    special = true;
                    self.group_lists(list, level, targets, &mut groups)?
                }
                ast::Expr::Rollup(list) => {
                    special = true;
                    let parts = self.group_lists(list, level, targets, &mut groups)?;
                    (0..=parts.len())
                        .rev()
                        .map(|n| parts[..n].concat())
                        .collect()
                }
                ast::Expr::Cube(list) => {
                    special = true;
                    let parts = self.group_lists(list, level, targets, &mut groups)?;
                    if parts.len() > 12 {
                        return Err(Error::new(
                            state::TOO_MANY_COLUMNS,
                            "CUBE is limited to 12 elements",
                        ));
                    }
                    (0..1usize << parts.len())
                        .rev()
                        .map(|mask| {
                            let chosen = parts
                                .iter()
                                .enumerate()
                                .filter(|(index, _)| mask & (1 << (parts.len() - 1 - index)) != 0);
                            chosen.flat_map(|(_, part)| part.clone()).collect()
                        })
                        .collect()
                }
                ast::Expr::Tuple(list) if list.is_empty() => {
                    special = true;
                    vec![Vec::new()]
                }
                ast::Expr::Tuple(list) => {
                    let mut one = Vec::new();
                    for expr in list {
                        one.push(self.group_item(expr, level, targets, &mut groups)?);
                    }
                    vec![one]
                }
                expr => vec![vec![self.group_item(expr, level, targets, &mut groups)?]],
            };
            let mut product = Vec::with_capacity(sets.len() * choices.len());
            for set in &sets {
                for choice in &choices {
                    product.push([set.as_slice(), choice.as_slice()].concat());
                }
            }
            if product.len() > SETS_MAX {
                return Err(Error::new(
                    state::STATEMENT_TOO_COMPLEX,
                    format!("too many grouping sets present (maximum {SETS_MAX})"),
                ));
            }
            sets = product;
        }
        groups.sets = special.then_some(sets);
        Ok(groups)
    }

    fn group_lists(
        &mut self,
        lists: &[Vec<ast::Expr>],
        level: &Scope<'_>,
        targets: &[Target],
        groups: &mut Groups,
    ) -> Result<Vec<Vec<usize>>> {
        lists
            .iter()
            .map(|list| {
                let mut out = Vec::new();
                for expr in list {
                    match expr {
                        ast::Expr::Tuple(items) => {
                            for item in items {
                                out.push(self.group_item(item, level, targets, groups)?);
                            }
                        }
                        expr => out.push(self.group_item(expr, level, targets, groups)?),
                    }
                }
                Ok(out)
            })
            .collect()
    }

    fn group_item(
        &mut self,
        expr: &ast::Expr,
        level: &Scope<'_>,
        targets: &[Target],
        groups: &mut Groups,
    ) -> Result<usize> {
        let at = |binder: &Self, error| binder.at(error, super::expression::span_of(expr));
        let ordinal = ordinal(expr, targets.len(), "GROUP BY").map_err(|e| at(self, e))?;
        let bound = match (ordinal, expr) {
            (Some(index), _) => targets[index].expr.clone(),
            (None, ast::Expr::Identifier(ident)) => {
                let name = fold(ident);
                match level.find_here(&name).map_err(|e| at(self, e))? {
                    Some(Found::Column(expr, access)) => {
                        if let Some((access, column)) = access {
                            self.touch(access, column);
                        }
                        expr
                    }
                    Some(Found::Row(_)) | None => {
                        match targets.iter().find(|target| target.name == name) {
                            Some(target) => target.expr.clone(),
                            None => self.expr(expr, level, Clause::Group)?,
                        }
                    }
                }
            }
            (None, expr) => self.expr(expr, level, Clause::Group)?,
        };
        if contains(&bound, &mut |e| matches!(e, Expr::Aggregate(_))) {
            let error = Error::new(
                state::GROUPING_ERROR,
                "aggregate functions are not allowed in GROUP BY",
            );
            return Err(at(self, error));
        }
        let bound = self.settle_unknown(bound)?;
        ordered(bound.ty()).map_err(|mut error| {
            error.0.message = format!(
                "could not identify an equality operator for type {}",
                bound.ty().plain().name()
            );
            error.0.hint = None;
            at(self, error)
        })?;
        if let Some(index) = groups.exprs.iter().position(|other| same(other, &bound)) {
            return Ok(index);
        }
        groups.exprs.push(bound);
        Ok(groups.exprs.len() - 1)
    }

    /// Puts an aggregation on top of `rel` if the query needs one, and rewrites the targets.
    pub(super) fn aggregate(
        &mut self,
        grouping: &mut Grouping,
        rel: Rel,
        level: &Scope<'_>,
        targets: &mut [Target],
    ) -> Result<Rel> {
        if !grouping.needed() {
            return Ok(rel);
        }
        let exprs = std::mem::take(&mut grouping.groups.exprs);
        let groups = exprs
            .into_iter()
            .map(|expr| match &expr {
                Expr::Column { column, ty } => {
                    let name = level.name_of(*column).unwrap_or_default();
                    (
                        RelColumn {
                            id: *column,
                            name,
                            ty: *ty,
                        },
                        expr,
                    )
                }
                _ => (self.column_of("group", &expr), expr),
            })
            .collect();
        let sets = grouping.groups.sets.take();
        let set_number = sets.as_ref().map(|_| self.column("set", Type::INT4));
        let mut rewrite = Rewrite {
            groups,
            calls: Vec::new(),
            set_number,
            sets,
            own: &grouping.own,
        };
        for target in targets.iter_mut() {
            self.regroup(&mut target.expr, &mut rewrite, level)?;
        }
        let mut having = grouping.having.take();
        if let Some(having) = &mut having {
            self.regroup(having, &mut rewrite, level)?;
        }
        let rel = Rel::Aggregate {
            input: Box::new(rel),
            groups: rewrite.groups,
            sets: rewrite.sets,
            set_number: rewrite.set_number,
            calls: rewrite.calls,
        };
        Ok(match having {
            None => rel,
            Some(having) => {
                let mut conditions = Vec::new();
                having.conjuncts(&mut conditions);
                Rel::Filter {
                    input: Box::new(rel),
                    conditions,
                }
            }
        })
    }

    fn regroup(
        &mut self,
        expr: &mut Expr,
        rewrite: &mut Rewrite<'_>,
        level: &Scope<'_>,
    ) -> Result<()> {
        let mut failed = None;
        let mut inside = 0;
        expr.visit_mut(&mut |node| {
            if failed.is_some() {
                return Flow::Skip;
            }
            match self.regroup_node(node, rewrite, level) {
                Ok(flow) => flow,
                Err(error) => {
                    inside += 1;
                    failed = Some(error);
                    Flow::Skip
                }
            }
        });
        failed.map_or(Ok(()), Err)
    }

    fn regroup_node(
        &mut self,
        node: &mut Expr,
        rewrite: &mut Rewrite<'_>,
        level: &Scope<'_>,
    ) -> Result<Flow> {
        let matched = rewrite.groups.iter().find(|(_, group)| same(group, node));
        if let Some((column, _)) = matched {
            *node = Expr::Column {
                column: column.id,
                ty: column.ty,
            };
            return Ok(Flow::Skip);
        }
        match node {
            Expr::Aggregate(call) if self.belongs(call, rewrite.own) => {
                let known = rewrite.calls.iter().find(|(_, other)| {
                    let other = Expr::Aggregate(Box::new(other.clone()));
                    same(&other, &Expr::Aggregate(call.clone()))
                });
                let column = match known {
                    Some((column, _)) if !Expr::Aggregate(call.clone()).is_volatile() => {
                        column.clone()
                    }
                    _ => {
                        let name = call.resolved.function.name;
                        let column = self.column(name, call.resolved.result);
                        rewrite.calls.push((column.clone(), (**call).clone()));
                        column
                    }
                };
                *node = Expr::Column {
                    column: column.id,
                    ty: column.ty,
                };
                Ok(Flow::Skip)
            }
            Expr::Grouping(args) => {
                *node = grouping_value(args, rewrite)?;
                Ok(Flow::Skip)
            }
            Expr::Column { column, .. } if rewrite.own.contains(column) => {
                if self.depends_on_key(*column, rewrite, level) {
                    return Ok(Flow::Skip);
                }
                let name = level.name_of(*column).unwrap_or_else(|| "?".to_owned());
                Err(Error::new(
                    state::GROUPING_ERROR,
                    format!(
                        "column \"{name}\" must appear in the GROUP BY clause or be used in an \
                         aggregate function"
                    ),
                ))
            }
            _ => Ok(Flow::Enter),
        }
    }

    /// An aggregate inside a subquery that names only columns of this level is this level's; one
    /// with own columns or none at all is where it stands.
    fn belongs(&self, call: &AggregateCall, own: &[ColumnRef]) -> bool {
        let mut used = Vec::new();
        call.for_each_expr(&mut |expr| expr.free_columns(&mut used));
        used.is_empty() || used.iter().any(|column| own.contains(column))
    }

    /// A column of a table whose primary key is grouped by goes along with it.
    fn depends_on_key(
        &self,
        column: ColumnRef,
        rewrite: &mut Rewrite<'_>,
        level: &Scope<'_>,
    ) -> bool {
        let range = level.ranges.iter().find(|range| {
            range
                .columns
                .iter()
                .any(|own| matches!(own.expr, Expr::Column { column: id, .. } if id == column))
        });
        let Some((range, table)) = range.and_then(|r| r.table.as_ref().map(|t| (r, t))) else {
            return false;
        };
        if rewrite.sets.is_some() {
            return false;
        }
        let key = match &table.key {
            Key::Primary(key) => key.clone(),
            Key::RowId => {
                let primary = table
                    .constraints
                    .iter()
                    .find_map(|constraint| match constraint {
                        Constraint::Primary { index, .. } => table.index(*index),
                        _ => None,
                    });
                let Some(index) = primary else {
                    return false;
                };
                index
                    .columns
                    .iter()
                    .filter_map(|column| match column.what {
                        crate::catalog::IndexKey::Column(id) => Some(id),
                        crate::catalog::IndexKey::Expression(_) => None,
                    })
                    .collect()
            }
        };
        let grouped = |id: crate::catalog::ColumnId| {
            range.columns.iter().any(|own| {
                own.origin.is_some_and(|at| table.columns[at].id == id)
                    && rewrite
                        .groups
                        .iter()
                        .any(|(_, group)| same(group, &own.expr))
            })
        };
        if key.is_empty() || !key.iter().all(|id| grouped(*id)) {
            return false;
        }
        let Some(own) = range
            .columns
            .iter()
            .find(|own| matches!(own.expr, Expr::Column { column: id, .. } if id == column))
        else {
            return false;
        };
        let made = RelColumn {
            id: column,
            name: own.name.clone(),
            ty: own.expr.ty(),
        };
        rewrite.groups.push((made, own.expr.clone()));
        true
    }

    /// Set-returning calls of the targets become columns of a ProjectSet; calls inside calls
    /// take one level each.
    pub(super) fn extract_sets(&mut self, mut rel: Rel, targets: &mut [Target]) -> Result<Rel> {
        loop {
            let mut items: Vec<(RelColumn, Expr)> = Vec::new();
            for target in targets.iter_mut() {
                target.expr.visit_mut(&mut |node| {
                    if let Expr::SetReturning(call) = node {
                        let nested = call.args.iter().any(super::expression::has_set_returning);
                        if nested {
                            return Flow::Enter;
                        }
                        let name = call.resolved.function.name;
                        let column = self.column_of(name, node);
                        let taken = std::mem::replace(
                            node,
                            Expr::Column {
                                column: column.id,
                                ty: column.ty,
                            },
                        );
                        items.push((column, taken));
                        return Flow::Skip;
                    }
                    if matches!(node, Expr::Subquery(_)) {
                        Flow::Skip
                    } else {
                        Flow::Enter
                    }
                });
            }
            if items.is_empty() {
                return Ok(rel);
            }
            rel = Rel::ProjectSet {
                input: Box::new(rel),
                items,
            };
        }
    }
}

/// `GROUPING(a, b)`: a constant per grouping set, chosen by the set's number.
fn grouping_value(args: &[Expr], rewrite: &Rewrite<'_>) -> Result<Expr> {
    let mut indexes = Vec::with_capacity(args.len());
    for arg in args {
        let index = rewrite
            .groups
            .iter()
            .position(|(_, group)| same(group, arg));
        indexes.push(index.ok_or_else(|| {
            Error::new(
                state::GROUPING_ERROR,
                "arguments to GROUPING must be grouping expressions of the associated query level",
            )
        })?);
    }
    let (Some(sets), Some(number)) = (&rewrite.sets, &rewrite.set_number) else {
        return Ok(Expr::constant(Datum::Int4(0), Type::INT4));
    };
    let masks = sets
        .iter()
        .map(|set| {
            let mask = indexes.iter().fold(0, |mask, index| {
                (mask << 1) | i32::from(!set.contains(index))
            });
            Datum::Int4(mask)
        })
        .collect();
    let array = Datum::array(Array::of(Type::INT4, masks));
    Ok(Expr::Subscript {
        array: Box::new(Expr::constant(array, Type::INT4_ARRAY)),
        indexes: vec![Expr::Column {
            column: number.id,
            ty: Type::INT4,
        }],
        ty: Type::INT4,
    })
}
