//! Subqueries in expressions: scalar, EXISTS, IN, ANY, ALL, ARRAY and rows.

use std::cmp::Ordering;

use sqlparser::ast;

use super::expression::{array_over, span_of, strip};
use super::scope::Scope;
use super::{Binder, Clause};
use crate::error::{Error, Result, state};
use crate::expr::{Expr, Subquery, SubqueryKind};
use crate::types::Type;

/// Whether an expression is a row written out: `(a, b)` or `ROW(a)`.
pub(super) fn is_row(expr: &ast::Expr) -> bool {
    match strip(expr) {
        ast::Expr::Tuple(_) => true,
        ast::Expr::Function(function) => row_items(function).is_some(),
        _ => false,
    }
}

/// The items of `ROW(...)`.
pub(super) fn row_items(function: &ast::Function) -> Option<Vec<ast::Expr>> {
    let [ast::ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else {
        return None;
    };
    if name.quote_style.is_some() || !name.value.eq_ignore_ascii_case("row") {
        return None;
    }
    let ast::FunctionArguments::List(list) = &function.args else {
        return None;
    };
    let item = |arg: &ast::FunctionArg| match arg {
        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::QualifiedWildcard(table)) => {
            let star = ast::helpers::attached_token::AttachedToken::empty();
            Some(ast::Expr::QualifiedWildcard(table.clone(), star))
        }
        _ => None,
    };
    list.args.iter().map(item).collect()
}

impl Binder<'_> {
    fn no_subquery_in_stored(&self, clause: Clause) -> Result<()> {
        match clause {
            Clause::Stored(place) => Err(Error::new(
                state::FEATURE_NOT_SUPPORTED,
                format!("cannot use subquery in {place}"),
            )),
            _ => Ok(()),
        }
    }

    /// `(SELECT ...)` as a value.
    pub(super) fn scalar_subquery(
        &mut self,
        query: &ast::Query,
        scope: &Scope<'_>,
    ) -> Result<Expr> {
        let bound = self.query(query, scope, true)?;
        if bound.outputs.len() != 1 {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                "subquery must return only one column",
            ));
        }
        let ty = bound.outputs[0].ty;
        Ok(Expr::Subquery(Box::new(Subquery {
            kind: SubqueryKind::Scalar,
            rel: bound.rel,
            outputs: vec![(bound.outputs[0].id, ty)],
            ty,
        })))
    }

    /// `EXISTS (SELECT ...)`.
    pub(super) fn exists(&mut self, query: &ast::Query, scope: &Scope<'_>) -> Result<Expr> {
        let bound = self.query(query, scope, true)?;
        Ok(Expr::Subquery(Box::new(Subquery {
            kind: SubqueryKind::Exists,
            rel: bound.rel,
            outputs: Vec::new(),
            ty: Type::BOOL,
        })))
    }

    /// `ARRAY(SELECT ...)`.
    pub(super) fn array_subquery(&mut self, query: &ast::Query, scope: &Scope<'_>) -> Result<Expr> {
        let bound = self.query(query, scope, true)?;
        if bound.outputs.len() != 1 {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                "subquery must return only one column",
            ));
        }
        let element = bound.outputs[0].ty;
        let ty = array_over(element)?;
        Ok(Expr::Subquery(Box::new(Subquery {
            kind: SubqueryKind::Array,
            rel: bound.rel,
            outputs: vec![(bound.outputs[0].id, element)],
            ty: ty.plain(),
        })))
    }

    /// `left [NOT] IN (SELECT ...)`.
    pub(super) fn in_subquery(
        &mut self,
        left: &ast::Expr,
        query: &ast::Query,
        negated: bool,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let any = self.any_subquery(left, "=", query, false, scope, clause)?;
        Ok(if negated {
            Expr::Not(Box::new(any))
        } else {
            any
        })
    }

    /// `left op ANY (SELECT ...)`, `left op ALL (SELECT ...)`.
    pub(super) fn any_subquery(
        &mut self,
        left: &ast::Expr,
        op: &str,
        query: &ast::Query,
        all: bool,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        self.no_subquery_in_stored(clause)?;
        let span = span_of(left);
        let is_row = is_row(left);
        let left = self.expr(left, scope, clause)?;
        let bound = self.query(query, scope, true)?;
        let columns: Vec<Expr> = bound
            .outputs
            .iter()
            .map(|output| Expr::Column {
                column: output.id,
                ty: output.ty,
            })
            .collect();
        let left = match left {
            Expr::Row { items, .. } if is_row => items,
            other => vec![other],
        };
        if left.len() != columns.len() {
            let message = if left.len() < columns.len() {
                "subquery has too many columns"
            } else {
                "subquery has too few columns"
            };
            return Err(self.at(Error::new(state::SYNTAX_ERROR, message), span));
        }
        let outputs = bound
            .outputs
            .iter()
            .map(|output| (output.id, output.ty))
            .collect();
        let test = if left.len() == 1 {
            let left = left.into_iter().next().expect("one operand");
            let right = columns.into_iter().next().expect("one column");
            self.operator(op, left, right, Some(span))?
        } else {
            self.compare_rows(op, left, columns)?
        };
        if test.ty().oid != Type::BOOL.oid {
            return Err(Error::new(
                state::DATATYPE_MISMATCH,
                "row comparison operator must yield type boolean",
            ));
        }
        let kind = SubqueryKind::Any {
            test: Box::new(test),
            all,
        };
        Ok(Expr::Subquery(Box::new(Subquery {
            kind,
            rel: bound.rel,
            outputs,
            ty: Type::BOOL,
        })))
    }

    /// `(a, b) op (SELECT x, y)`.
    pub(super) fn row_subquery(
        &mut self,
        left: &ast::Expr,
        op: &str,
        query: &ast::Query,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        self.no_subquery_in_stored(clause)?;
        let Expr::Row { items, .. } = self.expr(left, scope, clause)? else {
            return Err(Error::internal("a row was expected"));
        };
        let row = self.row_value(query, scope)?;
        let message = match items.len().cmp(&row.len()) {
            Ordering::Equal => return self.compare_rows(op, items, row),
            Ordering::Less => "subquery has too many columns",
            Ordering::Greater => "subquery has too few columns",
        };
        Err(self.at(Error::new(state::SYNTAX_ERROR, message), span_of(left)))
    }

    /// A subquery of one row as its fields (computed once per use of each field; the executor
    /// caches by correlated values).
    pub(super) fn row_value(&mut self, query: &ast::Query, scope: &Scope<'_>) -> Result<Vec<Expr>> {
        let bound = self.query(query, scope, true)?;
        let outputs: Vec<_> = bound
            .outputs
            .iter()
            .map(|output| (output.id, output.ty))
            .collect();
        let row = Expr::Subquery(Box::new(Subquery {
            kind: SubqueryKind::Row,
            rel: bound.rel,
            outputs: outputs.clone(),
            ty: Type::RECORD,
        }));
        Ok(outputs
            .iter()
            .enumerate()
            .map(|(index, (_, ty))| Expr::Field {
                input: Box::new(row.clone()),
                index: u32::try_from(index).unwrap_or(u32::MAX),
                ty: *ty,
            })
            .collect())
    }
}
