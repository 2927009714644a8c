//! UNION and its kin, VALUES, and one list of types for several queries.

use sqlparser::ast;

use crate::bind::scope::{Output, Scope};
use crate::bind::{Binder, BoundQuery, Clause};
use crate::error::{Error, Result, state};
use crate::expr::{ColumnRef, Expr};
use crate::plan::{Rel, RelColumn, SetKind};
use crate::types::Type;

impl Binder<'_> {
    pub(super) fn set_operation(
        &mut self,
        left: &ast::SetExpr,
        op: ast::SetOperator,
        quantifier: ast::SetQuantifier,
        right: &ast::SetExpr,
        scope: &Scope<'_>,
        settle: bool,
    ) -> Result<BoundQuery> {
        let (kind, word) = match op {
            ast::SetOperator::Union => (SetKind::Union, "UNION"),
            ast::SetOperator::Intersect => (SetKind::Intersect, "INTERSECT"),
            ast::SetOperator::Except => (SetKind::Except, "EXCEPT"),
            ast::SetOperator::Minus => {
                return Err(Error::new(
                    state::SYNTAX_ERROR,
                    "syntax error at or near \"MINUS\"",
                ));
            }
        };
        let all = matches!(quantifier, ast::SetQuantifier::All);
        let mut left = self.set_expr(left, scope, false)?;
        let mut right = self.set_expr(right, scope, false)?;
        if left.outputs.len() != right.outputs.len() {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                format!("each {word} query must have the same number of columns"),
            ));
        }
        let mut types = Vec::with_capacity(left.outputs.len());
        for (l, r) in left.outputs.iter().zip(&right.outputs) {
            let (l, r) = (Expr::null(l.ty), Expr::null(r.ty));
            let unknown = l.ty().oid == Type::UNKNOWN.oid && r.ty().oid == Type::UNKNOWN.oid;
            types.push(if unknown && !settle {
                Type::UNKNOWN
            } else {
                self.common_type(&[&l, &r], word)?
            });
        }
        // An unknown pair stays open for an enclosing INSERT only as text.
        let types: Vec<Type> = types
            .into_iter()
            .map(|ty| {
                if ty.oid == Type::UNKNOWN.oid {
                    Type::TEXT
                } else {
                    ty
                }
            })
            .collect();
        self.coerce_outputs(&mut left, &types)?;
        self.coerce_outputs(&mut right, &types)?;
        let columns: Vec<RelColumn> = left
            .outputs
            .iter()
            .zip(&types)
            .map(|(output, ty)| self.column(&output.name, *ty))
            .collect();
        let outputs = outputs_of(&columns);
        let ids = |query: &BoundQuery| query.outputs.iter().map(|output| output.id).collect();
        let rel = Rel::Set {
            kind,
            all,
            left_columns: ids(&left),
            right_columns: ids(&right),
            left: Box::new(left.rel),
            right: Box::new(right.rel),
            columns,
        };
        Ok(BoundQuery { rel, outputs })
    }

    /// Casts a query's outputs to given types. Literals of a VALUES or select list are read as
    /// the target type.
    pub(in crate::bind) fn coerce_outputs(
        &mut self,
        query: &mut BoundQuery,
        types: &[Type],
    ) -> Result<()> {
        let mut items = Vec::new();
        for (output, ty) in query.outputs.iter_mut().zip(types) {
            if output.ty.oid == ty.oid && (ty.modifier < 0 || ty.modifier == output.ty.modifier) {
                continue;
            }
            if output.ty.oid == Type::UNKNOWN.oid && self.retype(&mut query.rel, output.id, *ty)? {
                output.ty = *ty;
                continue;
            }
            let from = if output.ty.oid == Type::UNKNOWN.oid {
                Type::TEXT
            } else {
                output.ty
            };
            let column = Expr::Column {
                column: output.id,
                ty: from,
            };
            let expr = self.cast(column, *ty)?;
            let made = self.column(&output.name, *ty);
            output.id = made.id;
            output.ty = *ty;
            items.push((made, expr));
        }
        if !items.is_empty() {
            let input = Box::new(std::mem::replace(&mut query.rel, Rel::one_row()));
            query.rel = Rel::Project { input, items };
        }
        Ok(())
    }

    /// Gives the literals behind an untyped output column a type. False when the column is not
    /// made of literals.
    pub(super) fn retype(&mut self, rel: &mut Rel, id: ColumnRef, ty: Type) -> Result<bool> {
        match rel {
            Rel::Project { input, items } => {
                if let Some((column, expr)) = items.iter_mut().find(|(c, _)| c.id == id) {
                    let taken = std::mem::replace(expr, Expr::Default);
                    *expr = self.coerce(taken, ty)?;
                    column.ty = ty;
                    return Ok(true);
                }
                self.retype(input, id, ty)
            }
            Rel::Values { columns, rows } => {
                let Some(index) = columns.iter().position(|column| column.id == id) else {
                    return Ok(false);
                };
                columns[index].ty = ty;
                for row in rows {
                    let taken = std::mem::replace(&mut row[index], Expr::Default);
                    row[index] = self.coerce(taken, ty)?;
                }
                Ok(true)
            }
            Rel::Sort { input, .. } | Rel::Limit { input, .. } | Rel::Filter { input, .. } => {
                self.retype(input, id, ty)
            }
            Rel::With { body, .. } => self.retype(body, id, ty),
            _ => Ok(false),
        }
    }

    pub(super) fn values(
        &mut self,
        values: &ast::Values,
        scope: &Scope<'_>,
        settle: bool,
    ) -> Result<BoundQuery> {
        let rows = self.value_rows(values, scope)?;
        let width = rows.first().map_or(0, Vec::len);
        let mut rows = rows;
        if rows
            .iter()
            .flatten()
            .any(|expr| matches!(expr, Expr::Default))
        {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                "DEFAULT is not allowed in this context",
            ));
        }
        let mut columns = Vec::with_capacity(width);
        for index in 0..width {
            let exprs: Vec<&Expr> = rows.iter().map(|row| &row[index]).collect();
            let unknown = exprs.iter().all(|expr| expr.ty().oid == Type::UNKNOWN.oid);
            let ty = if unknown && !settle {
                Type::UNKNOWN
            } else {
                self.common_type(&exprs, "VALUES")?
            };
            if ty.oid != Type::UNKNOWN.oid {
                for row in &mut rows {
                    let taken = std::mem::replace(&mut row[index], Expr::Default);
                    row[index] = self.coerce(taken, ty)?;
                }
            }
            columns.push(self.column(format!("column{}", index + 1), ty));
        }
        let outputs = outputs_of(&columns);
        Ok(BoundQuery {
            rel: Rel::Values { columns, rows },
            outputs,
        })
    }

    /// The rows of a VALUES list; DEFAULT is left in place.
    pub(in crate::bind) fn value_rows(
        &mut self,
        values: &ast::Values,
        scope: &Scope<'_>,
    ) -> Result<Vec<Vec<Expr>>> {
        let own = Scope::empty(Some(scope));
        let mut rows: Vec<Vec<Expr>> = Vec::with_capacity(values.rows.len());
        for row in &values.rows {
            let Expr::Row { items: row, .. } = self.row(&row.content, &own, Clause::Values)? else {
                return Err(Error::internal("a row of VALUES is no row"));
            };
            if rows.first().is_some_and(|first| first.len() != row.len()) {
                return Err(Error::new(
                    state::SYNTAX_ERROR,
                    "VALUES lists must all be the same length",
                ));
            }
            rows.push(row);
        }
        Ok(rows)
    }
}

/// The same columns, as a query gives them.
fn outputs_of(columns: &[RelColumn]) -> Vec<Output> {
    let output = |column: &RelColumn| Output {
        name: column.name.clone(),
        id: column.id,
        ty: column.ty,
        origin: None,
    };
    columns.iter().map(output).collect()
}
