//! Values of several: rows and their fields, arrays and their subscripts.

use std::sync::Arc;

use sqlparser::ast;

use super::{missing_table, strip};
use crate::bind::scope::{Range, Scope, fold};
use crate::bind::syntax::{FIELDS, expansion};
use crate::bind::{Binder, Clause, from};
use crate::error::{Error, Result, state};
use crate::expr::Expr;
use crate::types::{Datum, Shape, Type};

impl Binder<'_> {
    /// `t.f` for a function f of a whole row is not offered; kept as the place to say so.
    pub(super) fn functional_notation(
        &mut self,
        range: &Range,
        name: &str,
    ) -> Result<Option<Expr>> {
        let _ = (range, name);
        Ok(None)
    }

    /// A whole-row reference.
    pub(in crate::bind) fn whole_row(&mut self, range: &Range) -> Expr {
        if let Some(access) = range.access {
            self.touch(access, None);
        }
        let columns: Vec<_> = range
            .columns
            .iter()
            .filter(|column| !column.hidden)
            .collect();
        if range.scalar && !columns.is_empty() {
            return columns[0].expr.clone();
        }
        let shape = Arc::new(Shape {
            names: columns
                .iter()
                .map(|column| Arc::from(column.name.as_str()))
                .collect(),
            types: columns.iter().map(|column| column.expr.ty()).collect(),
        });
        let items = columns.iter().map(|column| column.expr.clone()).collect();
        Expr::Row {
            items,
            shape,
            whole: true,
        }
    }

    /// `t.*` where one value is wanted: the whole row.
    pub(super) fn whole_row_named(
        &mut self,
        name: &ast::ObjectName,
        scope: &Scope<'_>,
    ) -> Result<Expr> {
        let parts = self.name_parts(name)?;
        let (schema, alias) = match parts.as_slice() {
            [alias] => (None, alias.as_str()),
            [.., schema, alias] => (Some(schema.as_str()), alias.as_str()),
            [] => return Err(Error::internal("an empty name")),
        };
        match scope.range(schema, alias)?.cloned() {
            Some(range) => Ok(self.whole_row(&range)),
            None => Err(self.at(missing_table(alias, scope), from::name_span(name))),
        }
    }

    /// The fields of a row by name, each an expression: `(row).*`.
    pub(in crate::bind) fn fields(&mut self, row: Expr) -> Result<Vec<(String, Expr)>> {
        if let Expr::Row { items, shape, .. } = row {
            let names = shape.names.iter().map(ToString::to_string);
            return Ok(names.zip(items).collect());
        }
        let Some(fields) = self.fields_of(&row) else {
            return Err(Error::new(
                state::WRONG_OBJECT_TYPE,
                format!("type {} is not composite", self.type_name(&row)),
            ));
        };
        let field = |(index, (name, ty)): (usize, (String, Type))| {
            let expr = Expr::Field {
                input: Box::new(row.clone()),
                index: u32::try_from(index).unwrap_or(u32::MAX),
                ty,
            };
            (name, expr)
        };
        Ok(fields.into_iter().enumerate().map(field).collect())
    }

    /// `(row).field`.
    pub(in crate::bind) fn field(&mut self, input: Expr, name: &str) -> Result<Expr> {
        if let Expr::Row { items, shape, .. } = &input {
            if let Some(at) = shape.names.iter().position(|field| &**field == name) {
                return Ok(items[at].clone());
            }
        } else if let Some(fields) = self.fields_of(&input) {
            if let Some(at) = fields.iter().position(|(field, _)| field == name) {
                let ty = fields[at].1;
                let index = u32::try_from(at).unwrap_or(u32::MAX);
                return Ok(Expr::Field {
                    input: Box::new(input),
                    index,
                    ty,
                });
            }
        } else {
            return Err(Error::new(
                state::WRONG_OBJECT_TYPE,
                format!(
                    "column notation .{name} applied to type {}, which is not a composite type",
                    self.type_name(&input)
                ),
            ));
        }
        Err(Error::new(
            state::UNDEFINED_COLUMN,
            format!("could not identify column \"{name}\" in record data type"),
        ))
    }

    /// `ROW(...)`, `(a, b)`.
    pub(in crate::bind) fn row(
        &mut self,
        items: &[ast::Expr],
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let mut bound = Vec::with_capacity(items.len());
        for item in items {
            if let ast::Expr::QualifiedWildcard(name, _) = item {
                match self.whole_row_named(name, scope)? {
                    Expr::Row { items, .. } => bound.extend(items),
                    scalar => bound.push(scalar),
                }
                continue;
            }
            if let Some(row) = expansion(item) {
                let row = self.expr(&row, scope, clause)?;
                bound.extend(self.fields(row)?.into_iter().map(|(_, field)| field));
                continue;
            }
            bound.push(self.expr(item, scope, clause)?);
        }
        Ok(make_row(bound))
    }

    pub(super) fn array(
        &mut self,
        items: &[ast::Expr],
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let items = items
            .iter()
            .map(|item| self.expr(item, scope, clause))
            .collect::<Result<Vec<_>>>()?;
        self.make_array(items)
    }

    /// `ARRAY[...]` of bound items.
    pub(in crate::bind) fn make_array(&mut self, items: Vec<Expr>) -> Result<Expr> {
        if items.is_empty() {
            return Err(Error::new(
                state::INDETERMINATE_DATATYPE,
                "cannot determine type of empty array",
            )
            .hint("Explicitly cast to the desired type, for example ARRAY[]::integer[]."));
        }
        let element = self.common_type(&items.iter().collect::<Vec<_>>(), "ARRAY")?;
        let ty = array_over(element)?;
        let items = items
            .into_iter()
            .map(|item| self.coerce(item, element))
            .collect::<Result<_>>()?;
        Ok(Expr::Array {
            items,
            ty: ty.plain(),
        })
    }

    pub(super) fn array_of(
        &mut self,
        items: &[ast::Expr],
        element: Type,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let ty = element.array_of().unwrap_or(element);
        let mut bound = Vec::with_capacity(items.len());
        for item in items {
            if let ast::Expr::Array(inner) = strip(item) {
                bound.push(self.array_of(&inner.elem, element, scope, clause)?);
                continue;
            }
            let item = self.expr(item, scope, clause)?;
            let target = if item.ty().is_array() { ty } else { element };
            bound.push(self.cast(item, target)?);
        }
        Ok(Expr::Array { items: bound, ty })
    }

    pub(super) fn access(
        &mut self,
        root: &ast::Expr,
        chain: &[ast::AccessExpr],
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        // `t.col[1]` may come as a chain of dots before the subscript.
        let mut value = None;
        let mut rest = chain;
        if let ast::Expr::Identifier(first) = root {
            let dots: Vec<ast::Ident> = chain
                .iter()
                .map_while(|access| match access {
                    ast::AccessExpr::Dot(ast::Expr::Identifier(ident)) => Some(ident.clone()),
                    _ => None,
                })
                .collect();
            if !dots.is_empty() {
                rest = &chain[dots.len()..];
                let parts: Vec<ast::Ident> = std::iter::once(first.clone()).chain(dots).collect();
                value = Some(self.compound(&parts, scope)?);
            }
        }
        let mut value = match value {
            Some(value) => value,
            None => self.expr(root, scope, clause)?,
        };
        let mut at = 0;
        while at < rest.len() {
            match &rest[at] {
                ast::AccessExpr::Dot(ast::Expr::Identifier(name)) if name.value == FIELDS => {
                    return Err(Error::new(
                        state::FEATURE_NOT_SUPPORTED,
                        "row expansion via \"*\" is not supported here",
                    ));
                }
                ast::AccessExpr::Dot(ast::Expr::Identifier(name)) => {
                    value = self.field(value, &fold(name))?;
                    at += 1;
                }
                ast::AccessExpr::Dot(_) => {
                    return Err(Error::new(state::SYNTAX_ERROR, "syntax error at \".\""));
                }
                ast::AccessExpr::Subscript(_) => {
                    let subscripts: Vec<&ast::Subscript> = rest[at..]
                        .iter()
                        .map_while(|access| match access {
                            ast::AccessExpr::Subscript(subscript) => Some(subscript),
                            ast::AccessExpr::Dot(_) => None,
                        })
                        .collect();
                    at += subscripts.len();
                    value = self.subscripts(value, &subscripts, scope, clause)?;
                }
            }
        }
        Ok(value)
    }

    pub(super) fn subscripts(
        &mut self,
        array: Expr,
        subscripts: &[&ast::Subscript],
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let ty = array.ty();
        let Some(element) = ty.subscript() else {
            return Err(Error::new(
                state::DATATYPE_MISMATCH,
                format!(
                    "cannot subscript type {} because it does not support subscripting",
                    ty.name()
                ),
            ));
        };
        let json = ty.oid == Type::JSONB.oid;
        let slices = subscripts
            .iter()
            .any(|s| matches!(s, ast::Subscript::Slice { .. }));
        if slices {
            let mut bounds = Vec::new();
            for subscript in subscripts {
                bounds.push(match subscript {
                    ast::Subscript::Index { index } => {
                        let one = Expr::constant(Datum::Int4(1), Type::INT4);
                        (Some(one), Some(self.index(index, scope, clause)?))
                    }
                    ast::Subscript::Slice {
                        lower_bound,
                        upper_bound,
                        ..
                    } => {
                        let lower = match lower_bound {
                            Some(bound) => Some(self.index(bound, scope, clause)?),
                            None => None,
                        };
                        let upper = match upper_bound {
                            Some(bound) => Some(self.index(bound, scope, clause)?),
                            None => None,
                        };
                        (lower, upper)
                    }
                });
            }
            return Ok(Expr::Slice {
                array: Box::new(array),
                bounds,
                ty,
            });
        }
        let mut indexes = Vec::new();
        for subscript in subscripts {
            let ast::Subscript::Index { index } = subscript else {
                continue;
            };
            let index = if json {
                let index = self.expr(index, scope, clause)?;
                self.settle_unknown(index)?
            } else {
                self.index(index, scope, clause)?
            };
            indexes.push(index);
        }
        Ok(Expr::Subscript {
            array: Box::new(array),
            indexes,
            ty: element,
        })
    }

    pub(super) fn index(
        &mut self,
        index: &ast::Expr,
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Expr> {
        let index = self.expr(index, scope, clause)?;
        let assigned = self.coerce_in(index, Type::INT4, crate::types::CastContext::Assignment)?;
        assigned.map_err(|_| {
            Error::new(
                state::DATATYPE_MISMATCH,
                "array subscript must have type integer",
            )
        })
    }
}

/// `ROW(...)` of bound items.
pub(in crate::bind) fn make_row(items: Vec<Expr>) -> Expr {
    let items: Vec<Expr> = items
        .into_iter()
        .map(|item| match item {
            Expr::Const { value, ty } if ty.oid == Type::UNKNOWN.oid => Expr::Const {
                value,
                ty: Type::UNKNOWN,
            },
            other => other,
        })
        .collect();
    let shape = Arc::new(Shape::anonymous(items.iter().map(Expr::ty).collect()));
    Expr::Row {
        items,
        shape,
        whole: false,
    }
}

/// Field names and types of a composite value, when they are known.
pub(in crate::bind) fn composite_fields(expr: &Expr) -> Option<Vec<(String, Type)>> {
    match expr {
        Expr::Row { shape, .. } => Some(
            shape
                .names
                .iter()
                .map(ToString::to_string)
                .zip(shape.types.iter().copied())
                .collect(),
        ),
        Expr::Call(call) | Expr::SetReturning(call) => {
            let columns = call.resolved.columns();
            (!columns.is_empty()).then_some(columns)
        }
        _ => None,
    }
}

/// The array of these elements; arrays of an array's elements are of its own type.
pub(in crate::bind) fn array_over(element: Type) -> Result<Type> {
    let ty = match element.is_array() {
        true => Some(element),
        false => element.array_of(),
    };
    ty.ok_or_else(|| {
        Error::new(
            state::UNDEFINED_OBJECT,
            format!("could not find array type for data type {}", element.name()),
        )
    })
}
