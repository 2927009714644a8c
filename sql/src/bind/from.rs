//! FROM: tables, views, system relations, CTEs, subqueries, functions and joins.

use std::sync::Arc;

use sqlparser::ast;

use super::expression::span_of;
use super::scope::{FromItem, Output, Range, RangeColumn, Scope, Visible, fold};
use super::{Binder, BoundQuery, Clause};
use crate::catalog::{Privilege, Table, TableKind, View};
use crate::error::{Error, Result, state};
use crate::expr::Expr;
use crate::outbox::SENDER;
use crate::parse;
use crate::plan::{JoinKind, Rel, RelColumn, ScanRel, SystemRel};
use crate::transaction::TableMode;
use crate::types::text::quote_identifier;
use crate::types::{CastContext, Datum, Type};

/// How deep views may refer to views.
const VIEWS_MAX: usize = 100;

impl Binder<'_> {
    /// The whole FROM list.
    pub(super) fn from(
        &mut self,
        items: &[ast::TableWithJoins],
        outer: &Scope<'_>,
    ) -> Result<FromItem> {
        let mut all: Option<FromItem> = None;
        for item in items {
            let bound = match &all {
                None => self.joined(item, outer, outer)?,
                Some(left) => {
                    let lateral = Scope::of(left, Some(outer));
                    self.joined(item, &lateral, outer)?
                }
            };
            all = Some(match all.take() {
                None => bound,
                Some(left) => {
                    self.no_duplicates(&left, &bound)?;
                    left.beside(bound, |left, right| Rel::Join {
                        kind: JoinKind::Inner,
                        left: Box::new(left),
                        right: Box::new(right),
                        on: Vec::new(),
                    })
                }
            });
        }
        Ok(all.unwrap_or_else(FromItem::empty))
    }

    fn no_duplicates(&self, left: &FromItem, right: &FromItem) -> Result<()> {
        for range in &right.ranges {
            let clash = left.ranges.iter().find(|other| {
                other.alias == range.alias
                    && (other.schema.is_none()
                        || range.schema.is_none()
                        || other.schema == range.schema)
            });
            if let Some(clash) = clash {
                return Err(Error::new(
                    state::DUPLICATE_ALIAS,
                    format!("table name \"{}\" specified more than once", clash.alias),
                ));
            }
        }
        Ok(())
    }

    fn joined(
        &mut self,
        item: &ast::TableWithJoins,
        lateral: &Scope<'_>,
        outer: &Scope<'_>,
    ) -> Result<FromItem> {
        let mut left = self.factor(&item.relation, lateral, outer)?;
        for join in &item.joins {
            let (kind, constraint) = join_kind(&join.join_operator)?;
            let mut beside = Scope::of(&left, Some(lateral));
            if matches!(kind, JoinKind::Right | JoinKind::Full) {
                beside.forbidden = beside.ranges.drain(..).map(|range| range.alias).collect();
                beside.visible.clear();
            }
            let right = self.factor(&join.relation, &beside, outer)?;
            self.no_duplicates(&left, &right)?;
            left = self.join(kind, left, right, constraint, lateral)?;
        }
        Ok(left)
    }

    fn join(
        &mut self,
        kind: JoinKind,
        left: FromItem,
        right: FromItem,
        constraint: &ast::JoinConstraint,
        lateral: &Scope<'_>,
    ) -> Result<FromItem> {
        let using: Option<Vec<String>> = match constraint {
            ast::JoinConstraint::Using(names) => Some(
                names
                    .iter()
                    .map(|name| self.single_name(name))
                    .collect::<Result<_>>()?,
            ),
            ast::JoinConstraint::Natural => Some(common_names(&left, &right)),
            ast::JoinConstraint::On(_) | ast::JoinConstraint::None => None,
        };
        if let Some(using) = using {
            return self.join_using(kind, left, right, &using);
        }
        let mut item = left.beside(right, |left, right| Rel::Join {
            kind,
            left: Box::new(left),
            right: Box::new(right),
            on: Vec::new(),
        });
        if let ast::JoinConstraint::On(condition) = constraint {
            let scope = Scope::of(&item, Some(lateral));
            let condition = self.condition(condition, &scope, Clause::On)?;
            if let Rel::Join { on, .. } = &mut item.rel {
                condition.conjuncts(on);
            }
        }
        Ok(item)
    }

    fn join_using(
        &mut self,
        kind: JoinKind,
        mut left: FromItem,
        mut right: FromItem,
        names: &[String],
    ) -> Result<FromItem> {
        let mut merged = Vec::with_capacity(names.len());
        let mut on = Vec::with_capacity(names.len());
        for name in names {
            let l = take_column(&mut left.visible, name, "left")?;
            let r = take_column(&mut right.visible, name, "right")?;
            for (item, visible) in [(&left, &l), (&right, &r)] {
                self.touch_visible(&item.ranges, visible);
            }
            on.push(self.operator("=", l.expr.clone(), r.expr.clone(), None)?);
            let ty = self.common_type(&[&l.expr, &r.expr], "JOIN/USING")?;
            let l_expr = self.coerce(l.expr, ty)?;
            let r_expr = self.coerce(r.expr, ty)?;
            let (expr, source) = match kind {
                JoinKind::Right => (
                    r_expr,
                    r.source.map(|(range, c)| (range + left.ranges.len(), c)),
                ),
                JoinKind::Full => (Expr::Coalesce(vec![l_expr, r_expr], ty), None),
                JoinKind::Inner | JoinKind::Left | JoinKind::Semi | JoinKind::Anti => {
                    (l_expr, l.source)
                }
            };
            merged.push(Visible {
                name: name.clone(),
                expr,
                source,
            });
        }
        let mut item = left.beside(right, |left, right| Rel::Join {
            kind,
            left: Box::new(left),
            right: Box::new(right),
            on,
        });
        merged.append(&mut item.visible);
        item.visible = merged;
        Ok(item)
    }

    fn touch_visible(&mut self, ranges: &[Range], visible: &Visible) {
        if let Some((range, column)) = visible.source
            && let Some(access) = ranges[range].access
        {
            self.touch(access, ranges[range].columns[column].origin);
        }
    }

    fn factor(
        &mut self,
        factor: &ast::TableFactor,
        lateral: &Scope<'_>,
        outer: &Scope<'_>,
    ) -> Result<FromItem> {
        match factor {
            ast::TableFactor::Table {
                name,
                alias,
                args,
                with_ordinality,
                sample,
                version,
                ..
            } => {
                if sample.is_some() {
                    return Err(Error::unsupported("TABLESAMPLE"));
                }
                match (args, version) {
                    (Some(_), Some(_)) => Err(only_tables(name)),
                    (Some(args), None) => self.table_function(
                        name,
                        &args.args,
                        *with_ordinality,
                        alias.as_ref(),
                        lateral,
                    ),
                    (None, Some(version)) => self.as_it_was(name, version, alias.as_ref()),
                    (None, None) => self.named(name, alias.as_ref()),
                }
            }
            ast::TableFactor::Derived {
                lateral: is_lateral,
                subquery,
                alias,
                ..
            } => {
                let mut fence = Scope::empty(Some(outer));
                fence.forbidden = lateral
                    .ranges
                    .iter()
                    .map(|range| range.alias.clone())
                    .collect();
                let scope = if *is_lateral { lateral } else { &fence };
                let query = self.query(subquery, scope, true)?;
                self.derived(query, alias.as_ref())
            }
            ast::TableFactor::Function {
                name,
                args,
                with_ordinality,
                alias,
                ..
            } => self.table_function(name, args, *with_ordinality, alias.as_ref(), lateral),
            ast::TableFactor::UNNEST {
                alias,
                array_exprs,
                with_ordinality,
                ..
            } => self.unnest(array_exprs, *with_ordinality, alias.as_ref(), lateral),
            ast::TableFactor::NestedJoin {
                table_with_joins,
                alias,
            } => {
                let item = self.joined(table_with_joins, lateral, outer)?;
                match alias {
                    None => Ok(item),
                    Some(alias) => self.aliased_join(item, alias),
                }
            }
            ast::TableFactor::TableFunction { .. }
            | ast::TableFactor::JsonTable { .. }
            | ast::TableFactor::OpenJsonTable { .. }
            | ast::TableFactor::Pivot { .. }
            | ast::TableFactor::Unpivot { .. }
            | ast::TableFactor::UnpivotExpr { .. }
            | ast::TableFactor::MatchRecognize { .. }
            | ast::TableFactor::XmlTable { .. }
            | ast::TableFactor::SemanticView { .. } => {
                Err(Error::unsupported("this kind of FROM item"))
            }
        }
    }

    /// `(a JOIN b ...) AS x`.
    fn aliased_join(&mut self, item: FromItem, alias: &ast::TableAlias) -> Result<FromItem> {
        let columns = item
            .visible
            .iter()
            .map(|visible| RangeColumn {
                name: visible.name.clone(),
                expr: visible.expr.clone(),
                origin: None,
                hidden: false,
            })
            .collect();
        for (index, range) in item.ranges.iter().enumerate() {
            // All columns become reachable under the alias: count them as used.
            let _ = index;
            if let Some(access) = range.access {
                self.touch(access, None);
            }
        }
        let mut range = Range {
            alias: fold(&alias.name),
            schema: None,
            columns,
            table: None,
            access: None,
            scalar: false,
            qualified_only: false,
        };
        rename(&mut range, Some(alias))?;
        Ok(FromItem::single(item.rel, range))
    }

    /// A subquery in FROM.
    pub(super) fn derived(
        &mut self,
        query: BoundQuery,
        alias: Option<&ast::TableAlias>,
    ) -> Result<FromItem> {
        let Some(alias) = alias else {
            return Err(
                Error::new(state::SYNTAX_ERROR, "subquery in FROM must have an alias")
                    .hint("For example, FROM (SELECT ...) [AS] foo."),
            );
        };
        let mut range = range_of(&fold(&alias.name), &query.outputs);
        rename(&mut range, Some(alias))?;
        Ok(FromItem::single(query.rel, range))
    }

    /// A table as it was at a position or time.
    fn as_it_was(
        &mut self,
        name: &ast::ObjectName,
        version: &ast::TableVersion,
        alias: Option<&ast::TableAlias>,
    ) -> Result<FromItem> {
        let ast::TableVersion::ForSystemTimeAsOf(expr) = version else {
            let version = version.to_string();
            return Err(Error::unsupported(&version)
                .hint("FOR SYSTEM_TIME AS OF takes a position or a time."));
        };
        let mut item = self.named(name, alias)?;
        let is_table = item.ranges[0].table.as_ref();
        let is_table = is_table.is_some_and(|table| table.kind == TableKind::Table);
        match &mut item.rel {
            Rel::Scan(scan) if is_table => scan.as_of = Some(self.as_of(expr)?),
            _ => return Err(only_tables(name)),
        }
        Ok(item)
    }

    /// A position or time that is the same for all rows.
    fn as_of(&mut self, expr: &ast::Expr) -> Result<Expr> {
        let bound = self.expr(expr, &Scope::empty(None), Clause::AsOf)?;
        if bound.has_subquery() {
            return Err(Error::unsupported("a subquery in FOR SYSTEM_TIME AS OF"));
        }
        let ty = match &bound {
            Expr::Const {
                value: Datum::Text(text),
                ty,
            } if ty.oid == Type::UNKNOWN.oid && !text.contains('/') => Type::TIMESTAMPTZ,
            bound if bound.ty().oid == Type::UNKNOWN.oid => Type::PG_LSN,
            bound if bound.ty().oid == Type::PG_LSN.oid => Type::PG_LSN,
            _ => Type::TIMESTAMPTZ,
        };
        let coerced = self.coerce_in(bound, ty, CastContext::Implicit)?;
        coerced.map_err(|bound| {
            let message = format!(
                "argument of FOR SYSTEM_TIME AS OF must be type pg_lsn or timestamp with time zone, \
                 not type {}",
                bound.ty().plain().name()
            );
            self.at(Error::new(state::DATATYPE_MISMATCH, message), span_of(expr))
        })
    }

    /// A name in FROM: CTE, table, view or system relation.
    fn named(
        &mut self,
        name: &ast::ObjectName,
        alias: Option<&ast::TableAlias>,
    ) -> Result<FromItem> {
        let parts = self.name_parts(name)?;
        if let [single] = parts.as_slice()
            && let Some(item) = self.cte(single, alias)?
        {
            return Ok(item);
        }
        let table = match self.table(name) {
            Ok(table) => table,
            Err(error) => {
                if let [single] = parts.as_slice()
                    && let Some(item) = self.keyword_item(single, alias)?
                {
                    return Ok(item);
                }
                return Err(error);
            }
        };
        let shown = match alias {
            Some(alias) => fold(&alias.name),
            None => table.name.clone(),
        };
        let own = self.catalog.sees_own_commands(self.role, &table);
        let access = self.needs(
            &table,
            match own {
                true => Privilege::Insert,
                false => Privilege::Select,
            },
        );
        let mut item = match &table.kind {
            TableKind::Table if own => self.own_commands(&table, &shown)?,
            TableKind::Table => {
                if table.is_filling() {
                    return Err(crate::catalog::unfilled(&table));
                }
                crate::catalog::check_readable(&table)?;
                self.may_come(&table)?;
                self.uses(&table, TableMode::AccessShare);
                let (scan, range) = self.scan(&table, &shown);
                FromItem::single(Rel::Scan(Box::new(scan)), range)
            }
            TableKind::System => self.system(&table, &shown)?,
            TableKind::View(view) => self.view(&table, view, &shown)?,
            TableKind::Sequence(_) => self.sequence(&table, &shown)?,
        };
        let range = &mut item.ranges[0];
        range.access = Some(access);
        if alias.is_none() {
            range.schema = Some(self.catalog.schema_name(table.schema).to_owned());
        }
        if alias.is_some_and(|alias| !alias.columns.is_empty()) {
            rename(range, alias)?;
            return Ok(FromItem::single(item.rel, item.ranges.remove(0)));
        }
        Ok(item)
    }

    /// Resolves a relation's name for the current role.
    pub(super) fn table(&self, name: &ast::ObjectName) -> Result<Arc<Table>> {
        let parts = self.name_parts(name)?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.catalog
            .resolve_table(&parts, &self.path, self.role)
            .map_err(|error| self.at(error, name_span(name)))
    }

    /// The folded parts of a name.
    pub(super) fn name_parts(&self, name: &ast::ObjectName) -> Result<Vec<String>> {
        name.0
            .iter()
            .map(|part| match part {
                ast::ObjectNamePart::Identifier(ident) => Ok(fold(ident)),
                ast::ObjectNamePart::Function(_) => {
                    Err(Error::new(state::SYNTAX_ERROR, "syntax error in a name"))
                }
            })
            .collect()
    }

    /// A name of one part.
    pub(super) fn single_name(&self, name: &ast::ObjectName) -> Result<String> {
        let mut parts = self.name_parts(name)?;
        match parts.len() {
            1 => Ok(parts.remove(0)),
            _ => Err(Error::new(
                state::SYNTAX_ERROR,
                format!("syntax error at \"{name}\""),
            )),
        }
    }

    /// A scan of a stored table with fresh columns.
    pub(super) fn scan(&mut self, table: &Arc<Table>, alias: &str) -> (ScanRel, Range) {
        let mut columns = Vec::with_capacity(table.columns.len());
        let mut named = Vec::with_capacity(table.columns.len() + 1);
        for (index, column) in table.columns.iter().enumerate().filter(|(_, c)| !c.dropped) {
            let made = self.column(&column.name, column.ty);
            named.push(RangeColumn {
                name: column.name.clone(),
                expr: Expr::Column {
                    column: made.id,
                    ty: column.ty,
                },
                origin: Some(index),
                hidden: false,
            });
            columns.push((index, made));
        }
        named.push(tableoid(table));
        let scan = ScanRel {
            table: table.clone(),
            alias: alias.to_owned(),
            columns,
            key: None,
            filter: Vec::new(),
            target: false,
            as_of: None,
        };
        let range = Range {
            alias: alias.to_owned(),
            schema: None,
            columns: named,
            table: Some(table.clone()),
            access: None,
            scalar: false,
            qualified_only: false,
        };
        (scan, range)
    }

    fn system(&mut self, table: &Arc<Table>, alias: &str) -> Result<FromItem> {
        let relation = self.cx.registry.relation(table.id).ok_or_else(|| {
            Error::internal(format!("system relation \"{}\" has no source", table.name))
        })?;
        let described: Vec<(String, Type)> = relation
            .columns()
            .iter()
            .map(|c| (c.name.to_owned(), c.ty))
            .collect();
        let columns: Vec<RelColumn> = described
            .into_iter()
            .map(|(name, ty)| self.column(name, ty))
            .collect();
        let mut range = Range::over(alias, &columns);
        for (index, column) in range.columns.iter_mut().enumerate() {
            column.origin = table.columns.get(index).map(|_| index);
            column.hidden = SYSTEM_COLUMNS.contains(&column.name.as_str());
        }
        if !range.columns.iter().any(|column| column.name == "tableoid") {
            range.columns.push(tableoid(table));
        }
        range.table = Some(table.clone());
        let (schema, name) = relation.name();
        let name = (schema.to_owned(), name.to_owned());
        let rel = Rel::System(Box::new(SystemRel {
            relation,
            name,
            alias: alias.to_owned(),
            columns,
            filter: Vec::new(),
        }));
        Ok(FromItem::single(rel, range))
    }

    /// `SELECT ... FROM a_sequence`: its state.
    fn sequence(&mut self, table: &Arc<Table>, alias: &str) -> Result<FromItem> {
        let name = Expr::constant(Datum::Oid(table.id.0), Type::REGCLASS);
        let last = self.call_by_name("pg_sequence_last_value", vec![name])?;
        let start = match &table.kind {
            TableKind::Sequence(options) => options.start,
            TableKind::Table | TableKind::View(_) | TableKind::System => 1,
        };
        let called = Expr::IsNull {
            input: Box::new(last.clone()),
            negated: true,
            row: false,
        };
        let start = Expr::constant(Datum::Int8(start), Type::INT8);
        let columns = vec![
            self.column("last_value", Type::INT8),
            self.column("log_cnt", Type::INT8),
            self.column("is_called", Type::BOOL),
        ];
        let row = vec![
            Expr::Coalesce(vec![last, start], Type::INT8),
            Expr::constant(Datum::Int8(0), Type::INT8),
            called,
        ];
        let range = Range::over(alias, &columns);
        Ok(FromItem::single(
            Rel::Values {
                columns,
                rows: vec![row],
            },
            range,
        ))
    }

    /// Expands a view with its owner's rights, unless another node does.
    pub(super) fn view(
        &mut self,
        table: &Arc<Table>,
        view: &View,
        alias: &str,
    ) -> Result<FromItem> {
        if self.views.contains(&table.id) || self.views.len() >= VIEWS_MAX {
            return Err(Error::new(
                state::INVALID_OBJECT_DEFINITION,
                format!(
                    "infinite recursion detected in rules for relation \"{}\"",
                    table.name
                ),
            ));
        }
        match self.remote_view(table, alias)? {
            Some(leaf) => Ok(leaf),
            None => self.by_owner(table, &view.definition, alias),
        }
    }

    /// The commands in an inbox that the role has sent itself.
    fn own_commands(&mut self, table: &Arc<Table>, alias: &str) -> Result<FromItem> {
        if let Some(leaf) = self.remote_commands(table, alias) {
            return Ok(leaf);
        }
        let schema = quote_identifier(self.catalog.schema_name(table.schema));
        let (name, sender) = (
            quote_identifier(&table.name),
            self.catalog.role_name(self.role),
        );
        let sender = sender.replace('\'', "''");
        // OFFSET keeps conditions of the reader's, which may fail or tell, from rows of others.
        let query = format!("SELECT * FROM {schema}.{name} WHERE {SENDER} = '{sender}' OFFSET 0");
        self.by_owner(table, &query, alias)
    }

    /// A query in the place of a relation, with its owner's rights.
    fn by_owner(&mut self, table: &Arc<Table>, query: &str, alias: &str) -> Result<FromItem> {
        let parsed = parse::parse(query)?;
        let Some(parse::Statement::Query(statement)) =
            parsed.into_iter().next().map(|p| p.statement)
        else {
            return Err(Error::internal("a view's definition is not a query"));
        };
        let ast::Statement::Query(query) = statement.as_ref() else {
            return Err(Error::internal("a view's definition is not a SELECT"));
        };
        let role = std::mem::replace(&mut self.role, table.owner);
        let text = self.text.take();
        let visible = std::mem::take(&mut self.visible);
        let windows = std::mem::take(&mut self.windows);
        self.views.push(table.id);
        let bound = self.deeper(|binder| binder.query(query, &Scope::empty(None), true));
        self.views.pop();
        self.windows = windows;
        self.visible = visible;
        self.text = text;
        self.role = role;
        let bound = bound?;
        let mut range = range_of(alias, &bound.outputs);
        for (index, column) in table.live_columns().enumerate() {
            if let Some(named) = range.columns.get_mut(index) {
                named.name = column.name.clone();
                named.origin = table.column_index(column.id);
            }
        }
        range.table = Some(table.clone());
        Ok(FromItem::single(bound.rel, range))
    }
}

/// Columns that `*` leaves out.
const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "ctid", "xmin", "xmax", "cmin", "cmax"];

fn tableoid(table: &Table) -> RangeColumn {
    RangeColumn {
        name: "tableoid".to_owned(),
        expr: Expr::constant(Datum::Oid(table.id.0), Type::OID),
        origin: None,
        hidden: true,
    }
}

/// A range over a query's outputs.
pub(super) fn range_of(alias: &str, outputs: &[Output]) -> Range {
    Range {
        alias: alias.to_owned(),
        schema: None,
        columns: outputs
            .iter()
            .map(|output| RangeColumn {
                name: output.name.clone(),
                expr: Expr::Column {
                    column: output.id,
                    ty: output.ty,
                },
                origin: None,
                hidden: false,
            })
            .collect(),
        table: None,
        access: None,
        scalar: false,
        qualified_only: false,
    }
}

/// Applies the column names of an alias.
pub(super) fn rename(range: &mut Range, alias: Option<&ast::TableAlias>) -> Result<()> {
    let Some(alias) = alias else {
        return Ok(());
    };
    let available = range.columns.iter().filter(|column| !column.hidden).count();
    if alias.columns.len() > available {
        return Err(Error::new(
            state::INVALID_COLUMN_REFERENCE,
            format!(
                "table \"{}\" has {available} columns available but {} columns specified",
                range.alias,
                alias.columns.len()
            ),
        ));
    }
    let shown = range.columns.iter_mut().filter(|column| !column.hidden);
    for (column, name) in shown.zip(&alias.columns) {
        column.name = fold(&name.name);
    }
    Ok(())
}

fn join_kind(operator: &ast::JoinOperator) -> Result<(JoinKind, &ast::JoinConstraint)> {
    Ok(match operator {
        ast::JoinOperator::Join(constraint) | ast::JoinOperator::Inner(constraint) => {
            (JoinKind::Inner, constraint)
        }
        ast::JoinOperator::CrossJoin(constraint) => (JoinKind::Inner, constraint),
        ast::JoinOperator::Left(constraint) | ast::JoinOperator::LeftOuter(constraint) => {
            (JoinKind::Left, constraint)
        }
        ast::JoinOperator::Right(constraint) | ast::JoinOperator::RightOuter(constraint) => {
            (JoinKind::Right, constraint)
        }
        ast::JoinOperator::FullOuter(constraint) => (JoinKind::Full, constraint),
        _ => return Err(Error::unsupported("this kind of join")),
    })
}

fn common_names(left: &FromItem, right: &FromItem) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for visible in &left.visible {
        let shared = right.visible.iter().any(|other| other.name == visible.name);
        if shared && !names.contains(&visible.name) {
            names.push(visible.name.clone());
        }
    }
    names
}

fn take_column(visible: &mut Vec<Visible>, name: &str, side: &str) -> Result<Visible> {
    let mut found = visible
        .iter()
        .enumerate()
        .filter(|(_, column)| column.name == name);
    let Some((index, _)) = found.next() else {
        return Err(Error::new(
            state::UNDEFINED_COLUMN,
            format!("column \"{name}\" specified in USING clause does not exist in {side} table"),
        ));
    };
    if found.next().is_some() {
        return Err(Error::new(
            state::AMBIGUOUS_COLUMN,
            format!("common column name \"{name}\" appears more than once in {side} table"),
        ));
    }
    Ok(visible.remove(index))
}

/// The span of a name's first part.
pub(super) fn name_span(name: &ast::ObjectName) -> sqlparser::tokenizer::Span {
    match name.0.first() {
        Some(ast::ObjectNamePart::Identifier(ident)) => ident.span,
        _ => sqlparser::tokenizer::Span::empty(),
    }
}

/// 42809: something else than a table has no past of its own.
fn only_tables(name: &ast::ObjectName) -> Error {
    let message = format!("\"{name}\" is not a table");
    Error::new(state::WRONG_OBJECT_TYPE, message)
        .detail("FOR SYSTEM_TIME AS OF reads a table as it was.")
        .hint("A query, or the text of a view, can name the tables that it reads as they were.")
}
