//! ORDER BY, DISTINCT ON, LIMIT and OFFSET.

use sqlparser::ast;

use super::Target;
use crate::bind::expression::{span_of, strip};
use crate::bind::scope::{Output, Scope, fold};
use crate::bind::{Binder, Clause};
use crate::error::{Error, Result, state};
use crate::expr::{ColumnRef, Expr, SortKey, same};
use crate::plan::Rel;
use crate::types::{CastContext, Datum, Type};

impl Binder<'_> {
    pub(super) fn distinct_on(
        &mut self,
        distinct: Option<&ast::Distinct>,
        level: &Scope<'_>,
        targets: &mut Vec<Target>,
    ) -> Result<Option<Vec<usize>>> {
        let Some(ast::Distinct::On(exprs)) = distinct else {
            return Ok(None);
        };
        let shown = targets.len();
        exprs
            .iter()
            .map(|expr| self.find_target(expr, level, targets, shown, "DISTINCT ON"))
            .collect::<Result<Vec<_>>>()
            .map(Some)
    }

    pub(super) fn check_distinct_on(
        &self,
        on: &[usize],
        keys: &[SortKey],
        ids: &[(ColumnRef, Type)],
    ) -> Result<()> {
        let is_on = |key: &SortKey| {
            on.iter().any(|index| {
                matches!(&key.expr, Expr::Column { column, .. } if *column == ids[*index].0)
            })
        };
        let distinct: std::collections::BTreeSet<_> = on.iter().map(|i| ids[*i].0).collect();
        let prefix = keys.iter().take_while(|key| is_on(key)).count();
        let later = keys[prefix..].iter().any(is_on);
        let seen: std::collections::BTreeSet<_> = keys[..prefix]
            .iter()
            .filter_map(|key| match &key.expr {
                Expr::Column { column, .. } => Some(*column),
                _ => None,
            })
            .collect();
        if later || (prefix < keys.len() && seen.len() < distinct.len()) {
            return Err(Error::new(
                state::INVALID_COLUMN_REFERENCE,
                "SELECT DISTINCT ON expressions must match initial ORDER BY expressions",
            ));
        }
        Ok(())
    }

    /// ORDER BY of a SELECT: (target, options); expressions that are not in the list are added
    /// behind it.
    pub(super) fn order_by(
        &mut self,
        order: &[ast::OrderByExpr],
        level: &Scope<'_>,
        targets: &mut Vec<Target>,
        shown: usize,
        distinct: bool,
    ) -> Result<Vec<(usize, SortKey)>> {
        let mut keys = Vec::with_capacity(order.len());
        for item in order {
            let index = self.find_target(&item.expr, level, targets, shown, "ORDER BY")?;
            if distinct && index >= shown {
                let error = Error::new(
                    state::INVALID_COLUMN_REFERENCE,
                    "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
                );
                return Err(self.at(error, span_of(&item.expr)));
            }
            let ty = targets[index].expr.ty();
            keys.push((index, self.sort_options(item, ty)?));
        }
        Ok(keys)
    }

    /// What an item of ORDER BY or DISTINCT ON refers to: an ordinal, an output name, or an
    /// expression.
    pub(super) fn find_target(
        &mut self,
        expr: &ast::Expr,
        level: &Scope<'_>,
        targets: &mut Vec<Target>,
        shown: usize,
        place: &str,
    ) -> Result<usize> {
        if let Some(index) = ordinal(expr, shown, place).map_err(|e| self.at(e, span_of(expr)))? {
            return Ok(index);
        }
        if let ast::Expr::Identifier(ident) = expr {
            let name = fold(ident);
            let mut found: Option<usize> = None;
            for (index, target) in targets.iter().take(shown).enumerate() {
                if target.name != name {
                    continue;
                }
                match found {
                    Some(first) if !same(&targets[first].expr, &target.expr) => {
                        let error = Error::new(
                            state::AMBIGUOUS_COLUMN,
                            format!("{place} \"{name}\" is ambiguous"),
                        );
                        return Err(self.at(error, ident.span));
                    }
                    Some(_) => {}
                    None => found = Some(index),
                }
            }
            if let Some(found) = found {
                return Ok(found);
            }
        }
        let bound = self.expr(expr, level, Clause::Order)?;
        let bound = self.settle_unknown(bound)?;
        if let Some(index) = targets.iter().position(|target| same(&target.expr, &bound)) {
            return Ok(index);
        }
        targets.push(Target {
            name: String::new(),
            expr: bound,
            origin: None,
        });
        Ok(targets.len() - 1)
    }

    /// Direction and place of NULLs; the expression is filled in later.
    pub(in crate::bind) fn sort_options(
        &self,
        item: &ast::OrderByExpr,
        ty: Type,
    ) -> Result<SortKey> {
        let descending = match &item.options.sort {
            None | Some(ast::OrderBySort::Asc) => false,
            Some(ast::OrderBySort::Desc) => true,
            Some(ast::OrderBySort::Using(op)) => match op.to_string().as_str() {
                "<" | "pg_catalog.<" => false,
                ">" | "pg_catalog.>" => true,
                other => {
                    return Err(Error::new(
                        state::WRONG_OBJECT_TYPE,
                        format!("operator {other} is not a valid ordering operator"),
                    ));
                }
            },
        };
        ordered(ty).map_err(|error| self.at(error, span_of(&item.expr)))?;
        Ok(SortKey {
            expr: Expr::Default,
            descending,
            nulls_first: item.options.nulls_first.unwrap_or(descending),
        })
    }

    /// ORDER BY inside an aggregate or a window.
    pub(in crate::bind) fn sort_keys(
        &mut self,
        order: &[ast::OrderByExpr],
        scope: &Scope<'_>,
        clause: Clause,
    ) -> Result<Vec<SortKey>> {
        order
            .iter()
            .map(|item| {
                let expr = self.expr(&item.expr, scope, clause)?;
                let expr = self.settle_unknown(expr)?;
                let options = self.sort_options(item, expr.ty())?;
                Ok(SortKey { expr, ..options })
            })
            .collect()
    }

    /// ORDER BY of a set operation or VALUES: only ordinals and output names.
    pub(super) fn order_outputs(
        &mut self,
        order: &[ast::OrderByExpr],
        outputs: &[Output],
    ) -> Result<Vec<SortKey>> {
        let mut keys = Vec::with_capacity(order.len());
        for item in order {
            let index = match ordinal(&item.expr, outputs.len(), "ORDER BY")? {
                Some(index) => index,
                None => {
                    let ast::Expr::Identifier(ident) = strip(&item.expr) else {
                        return Err(Error::new(
                            state::FEATURE_NOT_SUPPORTED,
                            "invalid UNION/INTERSECT/EXCEPT ORDER BY clause",
                        )
                        .detail(
                            "Only result column names can be used, not expressions or functions.",
                        )
                        .hint(
                            "Add the expression/function to every SELECT, or move the UNION into \
                             a FROM clause.",
                        ));
                    };
                    let name = fold(ident);
                    outputs
                        .iter()
                        .position(|output| output.name == name)
                        .ok_or_else(|| {
                            let error = Error::new(
                                state::UNDEFINED_COLUMN,
                                format!("column \"{name}\" does not exist"),
                            );
                            self.at(error, ident.span)
                        })?
                }
            };
            let output = &outputs[index];
            let expr = Expr::Column {
                column: output.id,
                ty: output.ty,
            };
            keys.push(SortKey {
                expr,
                ..self.sort_options(item, output.ty)?
            });
        }
        Ok(keys)
    }

    /// LIMIT, OFFSET and FETCH around a sorted relation.
    pub(super) fn limited(
        &mut self,
        rel: Rel,
        query: &ast::Query,
        keys: Vec<SortKey>,
        scope: &Scope<'_>,
    ) -> Result<Rel> {
        let (mut limit, mut offset) = (None, None);
        match &query.limit_clause {
            Some(ast::LimitClause::LimitOffset {
                limit: l,
                offset: o,
                ..
            }) => {
                limit = l.as_ref();
                offset = o.as_ref().map(|o| &o.value);
            }
            Some(ast::LimitClause::OffsetCommaLimit { .. }) => {
                return Err(
                    Error::new(state::SYNTAX_ERROR, "LIMIT #,# syntax is not supported")
                        .hint("Use separate LIMIT and OFFSET clauses."),
                );
            }
            None => {}
        }
        let mut ties = None;
        let mut one = None;
        if let Some(fetch) = &query.fetch {
            match &fetch.quantity {
                Some(quantity) => limit = Some(quantity),
                None => one = Some(Expr::constant(Datum::Int8(1), Type::INT8)),
            }
            if fetch.with_ties {
                if keys.is_empty() {
                    return Err(Error::new(
                        state::SYNTAX_ERROR,
                        "WITH TIES cannot be specified without ORDER BY clause",
                    ));
                }
                ties = Some(keys);
            }
        }
        let all =
            |expr: &ast::Expr| matches!(expr, ast::Expr::Value(v) if v.value == ast::Value::Null);
        let limit = match (one, limit) {
            (Some(one), _) => Some(one),
            (None, Some(expr)) if !all(expr) => Some(self.row_count(expr, "LIMIT", scope)?),
            _ => None,
        };
        let offset = match offset {
            Some(expr) => Some(self.row_count(expr, "OFFSET", scope)?),
            None => None,
        };
        if limit.is_none() && offset.is_none() {
            return Ok(rel);
        }
        Ok(Rel::Limit {
            input: Box::new(rel),
            limit,
            offset,
            ties,
        })
    }

    pub(super) fn row_count(
        &mut self,
        expr: &ast::Expr,
        word: &str,
        scope: &Scope<'_>,
    ) -> Result<Expr> {
        let own = Scope::empty(Some(scope));
        let bound = self.expr(expr, &own, Clause::Limit)?;
        let mut used = Vec::new();
        bound.free_columns(&mut used);
        let columns = scope.own_columns();
        if used.iter().any(|column| columns.contains(column)) {
            let error = Error::new(
                state::INVALID_COLUMN_REFERENCE,
                format!("argument of {word} must not contain variables"),
            );
            return Err(self.at(error, span_of(expr)));
        }
        let assigned = self.coerce_in(bound, Type::INT8, CastContext::Assignment)?;
        assigned.map_err(|bound| {
            Error::new(
                state::DATATYPE_MISMATCH,
                format!(
                    "argument of {word} must be type bigint, not type {}",
                    bound.ty().plain().name()
                ),
            )
        })
    }
}

/// Wraps in a Sort unless there is nothing to sort by.
pub(in crate::bind) fn sorted(rel: Rel, keys: Vec<SortKey>) -> Rel {
    if keys.is_empty() {
        rel
    } else {
        Rel::Sort {
            input: Box::new(rel),
            keys,
        }
    }
}

/// An ordinal of the select list.
pub(in crate::bind) fn ordinal(
    expr: &ast::Expr,
    count: usize,
    place: &str,
) -> Result<Option<usize>> {
    let ast::Expr::Value(value) = expr else {
        return Ok(None);
    };
    match &value.value {
        ast::Value::Number(text, _) => match text.parse::<usize>() {
            Ok(number) if (1..=count).contains(&number) => Ok(Some(number - 1)),
            Ok(number) => Err(Error::new(
                state::INVALID_COLUMN_REFERENCE,
                format!("{place} position {number} is not in select list"),
            )),
            Err(_) => Err(Error::new(
                state::SYNTAX_ERROR,
                format!("non-integer constant in {place}"),
            )),
        },
        ast::Value::SingleQuotedString(_) => Err(Error::new(
            state::SYNTAX_ERROR,
            format!("non-integer constant in {place}"),
        )),
        _ => Ok(None),
    }
}

/// 42883 for types without an order.
pub(in crate::bind) fn ordered(ty: Type) -> Result<()> {
    if ty.is_ordered() {
        return Ok(());
    }
    Err(Error::new(
        state::UNDEFINED_FUNCTION,
        format!(
            "could not identify an ordering operator for type {}",
            ty.plain().name()
        ),
    )
    .hint("Use an explicit ordering operator or modify the query."))
}

pub(super) fn order_list(order: Option<&ast::OrderBy>) -> Result<&[ast::OrderByExpr]> {
    match order.map(|order| &order.kind) {
        None => Ok(&[]),
        Some(ast::OrderByKind::Expressions(items)) => Ok(items),
        Some(ast::OrderByKind::All(_)) => Err(Error::new(
            state::SYNTAX_ERROR,
            "syntax error at or near \"ALL\"",
        )),
    }
}
