//! SELECT, VALUES and set operations.

use sqlparser::ast;

use super::aggregate::Grouping;
use super::expression::{missing_table, span_of, strip};
use super::output::output_name;
use super::scope::{FromItem, Output, Range, Scope, fold};
use super::syntax::{LOCK, expansion};
use super::{Binder, BoundQuery, Clause, TARGETS_MAX};
use crate::catalog::{Privilege, TableKind};
use crate::error::{Error, Result, state};
use crate::expr::{ColumnRef, Expr, SortKey, contains, same};
use crate::plan::{Rel, RelColumn, RowLock, SetKind};
use crate::transaction::{Policy, RowMode, TableMode};
use crate::types::{CastContext, Datum, Type};

/// One entry of a select list (hidden ones carry ORDER BY expressions).
pub(super) struct Target {
    pub(super) name: String,
    pub(super) expr: Expr,
    pub(super) origin: Option<(u32, i16)>,
}

/// A row lock clause, read.
struct LockSpec {
    mode: RowMode,
    policy: Policy,
    tables: Vec<String>,
}

impl LockSpec {
    /// As written.
    fn words(&self) -> &'static str {
        match self.mode {
            RowMode::KeyShare => "FOR KEY SHARE",
            RowMode::Share => "FOR SHARE",
            RowMode::NoKeyUpdate => "FOR NO KEY UPDATE",
            RowMode::Update => "FOR UPDATE",
        }
    }
}

/// `SELECT FOR UPDATE` and its kin, by the strength of the first FOR clause.
pub fn row_lock_name(locks: &[ast::LockClause]) -> &'static str {
    let Some(lock) = locks.first() else {
        return "SELECT";
    };
    let first = lock.of.as_ref().and_then(|name| name.0.first());
    let mark = first.and_then(|part| part.as_ident());
    match mark.and_then(|ident| ident.value.strip_prefix(LOCK)) {
        Some("no key update") => "SELECT FOR NO KEY UPDATE",
        Some("key share") => "SELECT FOR KEY SHARE",
        Some("share") => "SELECT FOR SHARE",
        _ => "SELECT FOR UPDATE",
    }
}

impl Binder<'_> {
    /// A whole query expression.
    pub(super) fn query(
        &mut self,
        query: &ast::Query,
        scope: &Scope<'_>,
        settle: bool,
    ) -> Result<BoundQuery> {
        self.deeper(|binder| binder.query_inner(query, scope, settle))
    }

    fn query_inner(
        &mut self,
        query: &ast::Query,
        scope: &Scope<'_>,
        settle: bool,
    ) -> Result<BoundQuery> {
        let mark = self.visible.len();
        let ctes = match &query.with {
            Some(with) => self.with(with, scope)?,
            None => Vec::new(),
        };
        let order = order_list(query.order_by.as_ref())?;
        let locks = self.lock_specs(&query.locks)?;
        let bound = match query.body.as_ref() {
            ast::SetExpr::Select(select) => {
                self.select(select, order, query, locks, scope, settle)?
            }
            body => {
                if !locks.is_empty() {
                    let what = match body {
                        ast::SetExpr::Values(_) => "VALUES",
                        _ => "UNION/INTERSECT/EXCEPT",
                    };
                    return Err(Error::new(
                        state::FEATURE_NOT_SUPPORTED,
                        format!("FOR UPDATE is not allowed with {what}"),
                    ));
                }
                let bound = self.set_expr(body, scope, settle)?;
                let keys = self.order_outputs(order, &bound.outputs)?;
                let rel = sorted(bound.rel, keys.clone());
                let rel = self.limited(rel, query, keys, scope)?;
                BoundQuery {
                    rel,
                    outputs: bound.outputs,
                }
            }
        };
        self.visible.truncate(mark);
        Ok(super::with::close(ctes, bound))
    }

    /// A body without ORDER BY and LIMIT of its own.
    pub(super) fn set_expr(
        &mut self,
        body: &ast::SetExpr,
        scope: &Scope<'_>,
        settle: bool,
    ) -> Result<BoundQuery> {
        self.deeper(|binder| match body {
            ast::SetExpr::Select(select) => {
                binder.select(select, &[], &NO_CLAUSES, Vec::new(), scope, settle)
            }
            ast::SetExpr::Query(query) => binder.query(query, scope, settle),
            ast::SetExpr::Values(values) => binder.values(values, scope, settle),
            ast::SetExpr::SetOperation {
                left,
                op,
                set_quantifier,
                right,
            } => binder.set_operation(left, *op, *set_quantifier, right, scope, settle),
            ast::SetExpr::Table(table) => {
                let parts: Vec<ast::Ident> = table
                    .schema_name
                    .iter()
                    .chain(&table.table_name)
                    .map(|name| ast::Ident::new(name.clone()))
                    .collect();
                let text = parts
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(".");
                let statement = super::syntax::parser(&format!("SELECT * FROM {text}"))
                    .and_then(|mut parser| parser.parse_query())
                    .map_err(|error| Error::new(state::SYNTAX_ERROR, error.to_string()))?;
                binder.query(&statement, scope, settle)
            }
            ast::SetExpr::Insert(_)
            | ast::SetExpr::Update(_)
            | ast::SetExpr::Delete(_)
            | ast::SetExpr::Merge(_) => Err(Error::new(
                state::FEATURE_NOT_SUPPORTED,
                "WITH clause containing a data-modifying statement must be at the top level",
            )),
        })
    }

    fn select(
        &mut self,
        select: &ast::Select,
        order: &[ast::OrderByExpr],
        query: &ast::Query,
        locks: Vec<LockSpec>,
        scope: &Scope<'_>,
        settle: bool,
    ) -> Result<BoundQuery> {
        let item = self.from(&select.from, scope)?;
        let level = Scope::of(&item, Some(scope));
        let FromItem { mut rel, .. } = item;
        self.windows.push(select.named_window.clone());
        let mut targets = self.targets(&select.projection, &level, Clause::Select)?;
        if settle {
            for target in &mut targets {
                let expr = std::mem::replace(&mut target.expr, Expr::Default);
                target.expr = self.settle_unknown(expr)?;
            }
        }
        let shown = targets.len();
        if let Some(condition) = &select.selection {
            let condition = self.condition(condition, &level, Clause::Where)?;
            let mut conditions = Vec::new();
            condition.conjuncts(&mut conditions);
            rel = Rel::Filter {
                input: Box::new(rel),
                conditions,
            };
        }
        let having = match &select.having {
            Some(having) => Some(self.condition(having, &level, Clause::Having)?),
            None => None,
        };
        let distinct_on = self.distinct_on(select.distinct.as_ref(), &level, &mut targets)?;
        let distinct = matches!(select.distinct, Some(ast::Distinct::Distinct));
        let keys = self.order_by(order, &level, &mut targets, shown, distinct)?;
        let groups = self.group_by(&select.group_by, &level, &targets[..shown])?;
        self.windows.pop();
        let mut grouping = Grouping::new(&level, groups, having, &mut targets);
        let (plain, grouped) = (!grouping.needed(), grouping.is_grouped());
        let windowed = targets
            .iter()
            .any(|target| contains(&target.expr, &mut |e| matches!(e, Expr::Window(_))));
        rel = self.aggregate(&mut grouping, rel, &level, &mut targets)?;
        rel = self.extract_windows(rel, &mut targets)?;
        rel = self.extract_sets(rel, &mut targets)?;
        let (mut rel, ids) = self.project(rel, &mut targets);
        let column = |index: usize| Expr::Column {
            column: ids[index].0,
            ty: ids[index].1,
        };
        let keys: Vec<SortKey> = keys
            .into_iter()
            .map(|(index, options)| SortKey {
                expr: column(index),
                ..options
            })
            .collect();
        if distinct {
            let on = (0..shown).map(column).collect();
            rel = Rel::Distinct {
                input: Box::new(rel),
                on,
            };
        }
        rel = sorted(rel, keys.clone());
        if let Some(on) = distinct_on {
            self.check_distinct_on(&on, &keys, &ids)?;
            let on = on.into_iter().map(column).collect();
            rel = Rel::Distinct {
                input: Box::new(rel),
                on,
            };
        }
        if !locks.is_empty() {
            let refused = if select.distinct.is_some() {
                Some("DISTINCT clause")
            } else if grouped {
                Some("GROUP BY clause")
            } else if select.having.is_some() {
                Some("HAVING clause")
            } else if !plain {
                Some("aggregate functions")
            } else if windowed {
                Some("window functions")
            } else {
                None
            };
            rel = self.locked(rel, locks, &level, refused)?;
        }
        rel = self.limited(rel, query, keys, &level)?;
        let outputs = targets
            .into_iter()
            .take(shown)
            .zip(&ids)
            .map(|(target, (id, ty))| Output {
                name: target.name,
                id: *id,
                ty: *ty,
                origin: target.origin,
            })
            .collect();
        Ok(BoundQuery { rel, outputs })
    }

    /// The entries of a select list or RETURNING, stars expanded.
    pub(super) fn targets(
        &mut self,
        items: &[ast::SelectItem],
        level: &Scope<'_>,
        clause: Clause,
    ) -> Result<Vec<Target>> {
        let mut targets = Vec::new();
        for item in items {
            match item {
                ast::SelectItem::UnnamedExpr(expr) => match expansion(expr) {
                    Some(row) => self.expand_row(&row, level, clause, &mut targets)?,
                    None => {
                        let name = output_name(expr);
                        targets.push(self.target(expr, name, level, clause)?);
                    }
                },
                ast::SelectItem::ExprWithAlias { alias, .. } if alias.quote_style == Some('\'') => {
                    let error = Error::new(
                        state::SYNTAX_ERROR,
                        format!("syntax error at or near \"'{}'\"", alias.value),
                    );
                    return Err(self.at(error, alias.span));
                }
                // An alias of `(row).*` names nothing.
                ast::SelectItem::ExprWithAlias { expr, alias } => match expansion(expr) {
                    Some(row) => self.expand_row(&row, level, clause, &mut targets)?,
                    None => targets.push(self.target(expr, fold(alias), level, clause)?),
                },
                ast::SelectItem::ExprWithAliases { .. } => {
                    return Err(Error::new(
                        state::SYNTAX_ERROR,
                        "syntax error at or near \"(\"",
                    ));
                }
                ast::SelectItem::Wildcard(_) => self.star(level, &mut targets)?,
                ast::SelectItem::QualifiedWildcard(kind, _) => match kind {
                    ast::SelectItemQualifiedWildcardKind::ObjectName(name) => {
                        self.qualified_star(name, level, &mut targets)?;
                    }
                    ast::SelectItemQualifiedWildcardKind::Expr(expr) => {
                        self.expand_row(expr, level, clause, &mut targets)?;
                    }
                },
            }
            if targets.len() > TARGETS_MAX {
                return Err(Error::new(
                    state::TOO_MANY_COLUMNS,
                    format!("target lists can have at most {TARGETS_MAX} entries"),
                ));
            }
        }
        Ok(targets)
    }

    fn target(
        &mut self,
        expr: &ast::Expr,
        name: String,
        level: &Scope<'_>,
        clause: Clause,
    ) -> Result<Target> {
        let bound = self.expr(expr, level, clause)?;
        let origin = self.origin(&bound, level);
        Ok(Target {
            name,
            expr: bound,
            origin,
        })
    }

    /// Table and attnum of a plain column.
    fn origin(&self, expr: &Expr, level: &Scope<'_>) -> Option<(u32, i16)> {
        let Expr::Column { column, .. } = expr else {
            return None;
        };
        level.ranges.iter().find_map(|range| {
            let table = range.table.as_ref()?;
            let found = range
                .columns
                .iter()
                .find(|own| matches!(&own.expr, Expr::Column { column: id, .. } if id == column))?;
            Some((table.id.0, table.columns.get(found.origin?)?.number))
        })
    }

    fn star(&mut self, level: &Scope<'_>, targets: &mut Vec<Target>) -> Result<()> {
        if level.ranges.is_empty() {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                "SELECT * with no tables specified is not valid",
            ));
        }
        for visible in &level.visible {
            if let Some((range, column)) = visible.source
                && let Some(access) = level.ranges[range].access
            {
                self.touch(access, level.ranges[range].columns[column].origin);
            }
            let origin = self.origin(&visible.expr, level);
            targets.push(Target {
                name: visible.name.clone(),
                expr: visible.expr.clone(),
                origin,
            });
        }
        Ok(())
    }

    fn qualified_star(
        &mut self,
        name: &ast::ObjectName,
        level: &Scope<'_>,
        targets: &mut Vec<Target>,
    ) -> Result<()> {
        let parts = self.name_parts(name)?;
        let (schema, alias) = match parts.as_slice() {
            [alias] => (None, alias.as_str()),
            [.., schema, alias] => (Some(schema.as_str()), alias.as_str()),
            [] => return Err(Error::internal("an empty name")),
        };
        let range = level.range(schema, alias)?.cloned();
        let Some(range) = range else {
            let error = missing_table(alias, level);
            return Err(self.at(error, super::from::name_span(name)));
        };
        if let Some(access) = range.access {
            self.touch(access, None);
        }
        for column in range.columns.iter().filter(|column| !column.hidden) {
            let origin = self.origin(&column.expr, level);
            targets.push(Target {
                name: column.name.clone(),
                expr: column.expr.clone(),
                origin,
            });
        }
        Ok(())
    }

    fn expand_row(
        &mut self,
        row: &ast::Expr,
        level: &Scope<'_>,
        clause: Clause,
        targets: &mut Vec<Target>,
    ) -> Result<()> {
        let row = self.expr(row, level, clause)?;
        for (name, expr) in self.fields(row)? {
            let origin = self.origin(&expr, level);
            targets.push(Target { name, expr, origin });
        }
        Ok(())
    }

    fn distinct_on(
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

    fn check_distinct_on(
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
    fn order_by(
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
    fn find_target(
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
    pub(super) fn sort_options(&self, item: &ast::OrderByExpr, ty: Type) -> Result<SortKey> {
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
    pub(super) fn sort_keys(
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
    fn order_outputs(
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
    fn limited(
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

    fn row_count(&mut self, expr: &ast::Expr, word: &str, scope: &Scope<'_>) -> Result<Expr> {
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

    fn set_operation(
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
        let outputs = columns
            .iter()
            .map(|column| Output {
                name: column.name.clone(),
                id: column.id,
                ty: column.ty,
                origin: None,
            })
            .collect();
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
    pub(super) fn coerce_outputs(&mut self, query: &mut BoundQuery, types: &[Type]) -> Result<()> {
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
    fn retype(&mut self, rel: &mut Rel, id: ColumnRef, ty: Type) -> Result<bool> {
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

    fn values(
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
        let outputs = columns
            .iter()
            .map(|column| Output {
                name: column.name.clone(),
                id: column.id,
                ty: column.ty,
                origin: None,
            })
            .collect();
        Ok(BoundQuery {
            rel: Rel::Values { columns, rows },
            outputs,
        })
    }

    /// The rows of a VALUES list; DEFAULT is left in place.
    pub(super) fn value_rows(
        &mut self,
        values: &ast::Values,
        scope: &Scope<'_>,
    ) -> Result<Vec<Vec<Expr>>> {
        let own = Scope::empty(Some(scope));
        let mut rows: Vec<Vec<Expr>> = Vec::with_capacity(values.rows.len());
        for row in &values.rows {
            let row: Vec<Expr> = row
                .content
                .iter()
                .map(|expr| self.expr(expr, &own, Clause::Values))
                .collect::<Result<_>>()?;
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

    /// Gives every target a column: plain columns keep theirs, others are computed.
    pub(super) fn project(
        &mut self,
        rel: Rel,
        targets: &mut [Target],
    ) -> (Rel, Vec<(ColumnRef, Type)>) {
        let mut items = Vec::new();
        let mut ids = Vec::with_capacity(targets.len());
        for target in targets {
            if let Expr::Column { column, ty } = &target.expr {
                ids.push((*column, *ty));
                continue;
            }
            let ty = target.expr.ty();
            let made = self.column_of(&target.name, &target.expr);
            ids.push((made.id, ty));
            items.push((made, std::mem::replace(&mut target.expr, Expr::Default)));
        }
        let rel = if items.is_empty() {
            rel
        } else {
            Rel::Project {
                input: Box::new(rel),
                items,
            }
        };
        (rel, ids)
    }

    fn lock_specs(&self, locks: &[ast::LockClause]) -> Result<Vec<LockSpec>> {
        locks
            .iter()
            .map(|lock| {
                let mut mode = match lock.lock_type {
                    ast::LockType::Share => RowMode::Share,
                    ast::LockType::Update => RowMode::Update,
                };
                let mut tables = match &lock.of {
                    Some(name) => self.name_parts(name)?,
                    None => Vec::new(),
                };
                if let Some(strength) = tables.first().and_then(|name| name.strip_prefix(LOCK)) {
                    mode = match strength {
                        "no key update" => RowMode::NoKeyUpdate,
                        "key share" => RowMode::KeyShare,
                        "share" => RowMode::Share,
                        _ => RowMode::Update,
                    };
                    tables.remove(0);
                }
                let policy = match lock.nonblock {
                    None => Policy::Wait,
                    Some(ast::NonBlock::Nowait) => Policy::NoWait,
                    Some(ast::NonBlock::SkipLocked) => Policy::SkipLocked,
                };
                Ok(LockSpec {
                    mode,
                    policy,
                    tables,
                })
            })
            .collect()
    }

    fn locked(
        &mut self,
        mut rel: Rel,
        specs: Vec<LockSpec>,
        level: &Scope<'_>,
        refused: Option<&str>,
    ) -> Result<Rel> {
        if let Some(place) = refused {
            return Err(Error::new(
                state::FEATURE_NOT_SUPPORTED,
                format!("{} is not allowed with {place}", specs[0].words()),
            ));
        }
        self.locks_rows = true;
        let mut locks: Vec<RowLock> = Vec::new();
        for spec in &specs {
            for name in &spec.tables {
                if !level.ranges.iter().any(|range| range.alias == *name) {
                    return Err(Error::new(
                        state::UNDEFINED_TABLE,
                        format!(
                            "relation \"{name}\" in FOR UPDATE clause not found in FROM clause"
                        ),
                    ));
                }
            }
            for range in &level.ranges {
                let named = spec.tables.contains(&range.alias);
                if !spec.tables.is_empty() && !named {
                    continue;
                }
                if let Some(lock) = self.lock_range(&mut rel, range, spec)?
                    && !locks.iter().any(|other| other.key == lock.key)
                {
                    locks.push(lock);
                }
            }
        }
        Ok(Rel::Lock {
            input: Box::new(rel),
            locks,
        })
    }

    fn lock_range(
        &mut self,
        rel: &mut Rel,
        range: &Range,
        spec: &LockSpec,
    ) -> Result<Option<RowLock>> {
        let Some(table) = range
            .table
            .clone()
            .filter(|table| table.kind == TableKind::Table)
        else {
            return Ok(None);
        };
        let access = self.needs(&table, Privilege::Update);
        self.touch_table(access);
        self.uses(&table, TableMode::RowShare);
        let own: Vec<ColumnRef> = range
            .columns
            .iter()
            .filter_map(|column| match column.expr {
                Expr::Column { column, .. } => Some(column),
                _ => None,
            })
            .collect();
        let key = self.column("ctid", Type::BYTEA).id;
        let mut found = None;
        key_of_scan(rel, &own, key, &mut found);
        Ok(found.map(|key| RowLock {
            table,
            alias: range.alias.clone(),
            key,
            mode: spec.mode,
            policy: spec.policy,
        }))
    }
}

/// Makes the scan that produces one of `own` give its row key too.
fn key_of_scan(rel: &mut Rel, own: &[ColumnRef], key: ColumnRef, found: &mut Option<ColumnRef>) {
    if let Rel::Scan(scan) = rel {
        if scan
            .columns
            .iter()
            .any(|(_, column)| own.contains(&column.id))
        {
            *found = Some(*scan.key.get_or_insert(key));
        }
        return;
    }
    rel.for_each_input_mut(&mut |input| key_of_scan(input, own, key, found));
}

/// Wraps in a Sort unless there is nothing to sort by.
pub(super) fn sorted(rel: Rel, keys: Vec<SortKey>) -> Rel {
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
pub(super) fn ordinal(expr: &ast::Expr, count: usize, place: &str) -> Result<Option<usize>> {
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
pub(super) fn ordered(ty: Type) -> Result<()> {
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

fn order_list(order: Option<&ast::OrderBy>) -> Result<&[ast::OrderByExpr]> {
    match order.map(|order| &order.kind) {
        None => Ok(&[]),
        Some(ast::OrderByKind::Expressions(items)) => Ok(items),
        Some(ast::OrderByKind::All(_)) => Err(Error::new(
            state::SYNTAX_ERROR,
            "syntax error at or near \"ALL\"",
        )),
    }
}

static NO_CLAUSES: std::sync::LazyLock<ast::Query> = std::sync::LazyLock::new(|| ast::Query {
    with: None,
    body: Box::new(ast::SetExpr::Values(ast::Values {
        explicit_row: false,
        value_keyword: false,
        rows: Vec::new(),
    })),
    order_by: None,
    limit_clause: None,
    fetch: None,
    locks: Vec::new(),
    for_clause: None,
    settings: None,
    format_clause: None,
    pipe_operators: Vec::new(),
});
