//! SELECT, VALUES and set operations.

mod lock;
mod order;
mod set;

use sqlparser::ast;

use self::lock::LockSpec;
pub use self::lock::row_lock_name;
use self::order::order_list;
pub(super) use self::order::{ordered, ordinal, sorted};
use super::aggregate::Grouping;
use super::expression::missing_table;
use super::output::output_name;
use super::scope::{FromItem, Output, Scope, fold};
use super::syntax::expansion;
use super::{Binder, BoundQuery, Clause, TARGETS_MAX};
use crate::error::{Error, Result, state};
use crate::expr::{ColumnRef, Expr, SortKey, contains};
use crate::plan::Rel;
use crate::types::Type;

/// One entry of a select list (hidden ones carry ORDER BY expressions).
pub(super) struct Target {
    pub(super) name: String,
    pub(super) expr: Expr,
    pub(super) origin: Option<(u32, i16)>,
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
