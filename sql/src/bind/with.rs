//! WITH: CTEs are bound once; one that is read once and has no effects is put in place of its
//! reference, the others are computed once. RECURSIVE ones run step by step.

use sqlparser::ast;

use super::from::{range_of, rename};
use super::scope::{FromItem, Output, Scope, fold};
use super::{Binder, BoundQuery, Visible, with_ctes};
use crate::error::{Error, Result, state};
use crate::expr::{ColumnRef, Expr, Flow};
use crate::parse::{Node, walk};
use crate::plan::{Cte, Rel, RelColumn};

/// A CTE with what decides whether it is put in place.
pub(super) struct Pending {
    cte: Cte,
    materialized: Option<bool>,
}

impl Binder<'_> {
    /// Binds the CTEs; they stay visible until the caller truncates `self.visible`.
    pub(super) fn with(&mut self, with: &ast::With, scope: &Scope<'_>) -> Result<Vec<Pending>> {
        let mut out: Vec<Pending> = Vec::new();
        let mut names: Vec<String> = Vec::new();
        for cte in &with.cte_tables {
            let name = fold(&cte.alias.name);
            if names.contains(&name) {
                return Err(Error::new(
                    state::DUPLICATE_ALIAS,
                    format!("WITH query name \"{name}\" specified more than once"),
                ));
            }
            names.push(name.clone());
            let pending = self.deeper(|binder| {
                if with.recursive && mentions(&cte.query, &name) {
                    binder.recursive(cte, &name, scope)
                } else {
                    binder.plain(cte, &name, scope)
                }
            })?;
            out.push(pending);
        }
        Ok(out)
    }

    fn plain(&mut self, cte: &ast::Cte, name: &str, scope: &Scope<'_>) -> Result<Pending> {
        let modifies = matches!(
            cte.query.body.as_ref(),
            ast::SetExpr::Insert(_) | ast::SetExpr::Update(_) | ast::SetExpr::Delete(_)
        );
        let bound = if modifies {
            self.modifying_cte(&cte.query, scope)?
        } else {
            self.query(&cte.query, scope, true)?
        };
        let index = self.next_cte();
        let outputs = renamed(name, &bound.outputs, &cte.alias)?;
        let ids = outputs.iter().map(|output| output.id).collect();
        self.visible.push(Visible {
            name: name.to_owned(),
            index,
            outputs,
            working: false,
        });
        Ok(Pending {
            cte: Cte {
                index,
                name: name.to_owned(),
                rel: bound.rel,
                outputs: ids,
                recursive: None,
                modifies,
            },
            materialized: cte
                .materialized
                .as_ref()
                .map(|hint| matches!(hint, ast::CteAsMaterialized::Materialized)),
        })
    }

    fn modifying_cte(&mut self, query: &ast::Query, scope: &Scope<'_>) -> Result<BoundQuery> {
        let mark = self.visible.len();
        let ctes = match &query.with {
            Some(with) => self.with(with, scope)?,
            None => Vec::new(),
        };
        let bound = match query.body.as_ref() {
            ast::SetExpr::Insert(ast::Statement::Insert(insert)) => {
                self.insert(insert, scope, true)?
            }
            ast::SetExpr::Update(ast::Statement::Update(update)) => {
                self.update(update, scope, true)?
            }
            ast::SetExpr::Delete(ast::Statement::Delete(delete)) => {
                self.delete(delete, scope, true)?
            }
            _ => return Err(Error::internal("a data-modifying WITH of another kind")),
        };
        self.visible.truncate(mark);
        Ok(close(ctes, bound))
    }

    fn next_cte(&mut self) -> usize {
        self.ctes += 1;
        self.ctes - 1
    }

    fn recursive(&mut self, cte: &ast::Cte, name: &str, scope: &Scope<'_>) -> Result<Pending> {
        let not_union = || {
            Error::new(
                state::INVALID_RECURSION,
                format!(
                    "recursive query \"{name}\" does not have the form non-recursive-term UNION \
                     [ALL] recursive-term"
                ),
            )
        };
        let query = &cte.query;
        let ast::SetExpr::SetOperation {
            op,
            set_quantifier,
            left,
            right,
        } = query.body.as_ref()
        else {
            return Err(not_union());
        };
        if *op != ast::SetOperator::Union {
            return Err(not_union());
        }
        for (clause, present) in [
            ("ORDER BY", query.order_by.is_some()),
            (
                "LIMIT",
                query.limit_clause.is_some() || query.fetch.is_some(),
            ),
            ("FOR UPDATE/SHARE", !query.locks.is_empty()),
        ] {
            if present {
                return Err(Error::new(
                    state::FEATURE_NOT_SUPPORTED,
                    format!("{clause} in a recursive query is not implemented"),
                ));
            }
        }
        let distinct = !matches!(set_quantifier, ast::SetQuantifier::All);
        let mark = self.visible.len();
        let outer = match &query.with {
            Some(with) => self.with(with, scope)?,
            None => Vec::new(),
        };
        let start = self.set_expr(left, scope, true)?;
        let index = self.next_cte();
        let outputs = renamed(name, &start.outputs, &cte.alias)?;
        self.visible.push(Visible {
            name: name.to_owned(),
            index,
            outputs: outputs.clone(),
            working: true,
        });
        let step = self.set_expr(right, scope, false)?;
        self.visible.truncate(mark);
        let (step_rel, step_ids) = self.recursive_step(name, &outputs, step)?;
        let ids: Vec<ColumnRef> = start.outputs.iter().map(|output| output.id).collect();
        let rel = close(
            outer,
            BoundQuery {
                rel: start.rel,
                outputs: start.outputs,
            },
        )
        .rel;
        self.visible.push(Visible {
            name: name.to_owned(),
            index,
            outputs,
            working: false,
        });
        Ok(Pending {
            cte: Cte {
                index,
                name: name.to_owned(),
                rel,
                outputs: ids,
                recursive: Some((Box::new(step_rel), step_ids, distinct)),
                modifies: false,
            },
            materialized: Some(true),
        })
    }

    fn recursive_step(
        &mut self,
        name: &str,
        outputs: &[Output],
        step: BoundQuery,
    ) -> Result<(Rel, Vec<ColumnRef>)> {
        if outputs.len() != step.outputs.len() {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                "each UNION query must have the same number of columns",
            ));
        }
        let mut items = Vec::new();
        let mut ids = Vec::new();
        for (at, (want, have)) in outputs.iter().zip(&step.outputs).enumerate() {
            let column = Expr::Column {
                column: have.id,
                ty: have.ty,
            };
            if have.ty.oid == want.ty.oid {
                ids.push(have.id);
                continue;
            }
            let overall = self.common_type(&[&Expr::null(want.ty), &column], "UNION")?;
            if overall.oid != want.ty.oid {
                return Err(Error::new(
                    state::DATATYPE_MISMATCH,
                    format!(
                        "recursive query \"{name}\" column {} has type {} in non-recursive term \
                         but type {} overall",
                        at + 1,
                        want.ty.name(),
                        overall.name()
                    ),
                )
                .hint("Cast the output of the non-recursive term to the correct type."));
            }
            let expr = self.coerce(column, want.ty)?;
            let made = self.column(&want.name, want.ty);
            ids.push(made.id);
            items.push((made, expr));
        }
        let rel = if items.is_empty() {
            step.rel
        } else {
            Rel::Project {
                input: Box::new(step.rel),
                items,
            }
        };
        Ok((rel, ids))
    }

    /// A reference to a CTE in scope.
    pub(super) fn cte(
        &mut self,
        name: &str,
        alias: Option<&ast::TableAlias>,
    ) -> Result<Option<FromItem>> {
        let Some(found) = self
            .visible
            .iter()
            .rev()
            .find(|visible| visible.name == name)
        else {
            return Ok(None);
        };
        let (index, working, outputs) = (found.index, found.working, found.outputs.clone());
        let columns: Vec<(usize, RelColumn)> = outputs
            .iter()
            .enumerate()
            .map(|(at, output)| {
                let kept = Expr::Column {
                    column: output.id,
                    ty: output.ty,
                };
                (at, self.column_of(&output.name, &kept))
            })
            .collect();
        let shown = alias.map_or_else(|| name.to_owned(), |alias| fold(&alias.name));
        let fresh: Vec<Output> = outputs
            .iter()
            .zip(&columns)
            .map(|(output, (_, column))| Output {
                id: column.id,
                ..output.clone()
            })
            .collect();
        let mut range = range_of(&shown, &fresh);
        rename(&mut range, alias)?;
        let rel = Rel::Cte {
            index,
            name: name.to_owned(),
            columns,
            working,
        };
        Ok(Some(FromItem::single(rel, range)))
    }
}

/// Applies the column names of a CTE's alias.
fn renamed(name: &str, outputs: &[Output], alias: &ast::TableAlias) -> Result<Vec<Output>> {
    if alias.columns.len() > outputs.len() {
        return Err(Error::new(
            state::INVALID_COLUMN_REFERENCE,
            format!(
                "WITH query \"{name}\" has {} columns available but {} columns specified",
                outputs.len(),
                alias.columns.len()
            ),
        ));
    }
    let mut outputs = outputs.to_vec();
    for (output, column) in outputs.iter_mut().zip(&alias.columns) {
        output.name = fold(&column.name);
    }
    Ok(outputs)
}

/// Puts CTEs that are read once in place and wraps the query in the others.
pub(super) fn close(ctes: Vec<Pending>, mut query: BoundQuery) -> BoundQuery {
    let mut kept: Vec<Cte> = Vec::new();
    let mut ctes = ctes;
    while let Some(pending) = ctes.pop() {
        let index = pending.cte.index;
        let mut count = references(&query.rel, index);
        for later in &kept {
            count += references(&later.rel, index);
            if let Some((step, _, _)) = &later.recursive {
                // A recursive step reads it again and again.
                count += 2 * references(step, index);
            }
        }
        if count == 0 && !pending.cte.modifies {
            continue;
        }
        let inline = match pending.materialized {
            Some(materialized) => !materialized,
            None => count == 1 && !is_volatile(&pending.cte.rel),
        };
        if inline && !pending.cte.modifies && pending.cte.recursive.is_none() && count == 1 {
            substitute(&mut query.rel, &pending.cte);
            for later in &mut kept {
                substitute(&mut later.rel, &pending.cte);
            }
            continue;
        }
        kept.push(pending.cte);
    }
    kept.reverse();
    query.rel = with_ctes(kept, query.rel);
    query
}

fn is_volatile(rel: &Rel) -> bool {
    let mut volatile = matches!(rel, Rel::Lock { .. });
    rel.visit(&mut |expr| {
        volatile |= matches!(expr, Expr::Call(call)
            if call.resolved.function.volatility == crate::functions::Volatility::Volatile);
        Flow::Enter
    });
    volatile
}

fn each_rel(rel: &Rel, f: &mut dyn FnMut(&Rel)) {
    f(rel);
    rel.for_each_input(&mut |input| each_rel(input, f));
    rel.for_each_expr(&mut |expr| {
        expr.visit(&mut |inner| {
            if let Expr::Subquery(subquery) = inner {
                each_rel(&subquery.rel, f);
                // Its own expressions were visited by `each_rel`; the test has none below.
                return Flow::Skip;
            }
            Flow::Enter
        });
    });
}

fn references(rel: &Rel, index: usize) -> usize {
    let mut count = 0;
    each_rel(rel, &mut |rel| {
        count += usize::from(matches!(rel, Rel::Cte { index: i, .. } if *i == index));
    });
    count
}

fn substitute(rel: &mut Rel, cte: &Cte) {
    if let Rel::Cte { index, columns, .. } = rel
        && *index == cte.index
    {
        let items = columns
            .drain(..)
            .map(|(at, column)| {
                let expr = Expr::Column {
                    column: cte.outputs[at],
                    ty: column.ty,
                };
                (column, expr)
            })
            .collect();
        *rel = Rel::Project {
            input: Box::new(cte.rel.clone()),
            items,
        };
        return;
    }
    rel.for_each_input_mut(&mut |input| substitute(input, cte));
    rel.for_each_expr_mut(&mut |expr| {
        expr.visit_mut(&mut |inner| {
            if let Expr::Subquery(subquery) = inner {
                substitute(&mut subquery.rel, cte);
                return Flow::Skip;
            }
            Flow::Enter
        });
    });
}

/// Whether a query's text mentions a relation name (a cheap test for real recursion).
fn mentions(query: &ast::Query, name: &str) -> bool {
    use std::ops::ControlFlow;
    walk(query, &mut |node| match node {
        Node::Relation(relation)
            if matches!(relation.0.as_slice(),
            [ast::ObjectNamePart::Identifier(ident)] if fold(ident) == name) =>
        {
            ControlFlow::Break(())
        }
        Node::Relation(_) | Node::Expr(_) => ControlFlow::Continue(()),
    })
    .is_break()
}
