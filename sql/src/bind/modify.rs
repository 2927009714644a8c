//! INSERT, UPDATE and DELETE: targets, assignments, defaults, ON CONFLICT and RETURNING.

use std::sync::Arc;

use sqlparser::ast;

use super::expression::{span_of, strip};
use super::from::name_span;
use super::scope::{FromItem, Output, Range, RangeColumn, Scope, fold};
use super::select::Target;
use super::syntax::{ARBITER, OVERRIDING_SYSTEM, OVERRIDING_USER};
use super::{Binder, BoundQuery, Clause};
use crate::catalog::{
    Column, Constraint, Generated, Index, IndexKey, Privilege, Table, TableKind, Timing,
    check_changeable,
};
use crate::error::{Error, Result, SqlState, state};
use crate::expr::{ColumnRef, Expr, same};
use crate::outbox::{NUMBER, SENDER};
use crate::plan::{Conflict, ConflictAction, JoinKind, Modify, ModifyKind, Rel, RelColumn};
use crate::transaction::TableMode;
use crate::types::{Datum, Type};

/// What INSERT says about values for identity columns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Overriding {
    Nothing,
    /// OVERRIDING SYSTEM VALUE: they count.
    System,
    /// OVERRIDING USER VALUE: they are left out.
    User,
}

/// How an error names the statement.
const INSERT: &str = "insert into";

/// 428C9.
const GENERATED_ALWAYS: SqlState = SqlState(*b"428C9");

impl Binder<'_> {
    fn target_table(&mut self, name: &ast::ObjectName, verb: &str) -> Result<Arc<Table>> {
        let parts = self.name_parts(name)?;
        if let [single] = parts.as_slice()
            && self.visible.iter().any(|cte| cte.name == *single)
            && self.table(name).is_err()
        {
            return Err(Error::new(
                state::UNDEFINED_TABLE,
                format!("relation \"{single}\" cannot be the target of a modifying statement"),
            ));
        }
        let table = self.table(name)?;
        match &table.kind {
            TableKind::Table if table.projection.is_some() => {
                // Others are told whose it is, as of any table.
                self.catalog
                    .may(self.role, &table, Privilege::Update, None)?;
                return Err(Error::new(
                    state::WRONG_OBJECT_TYPE,
                    format!("cannot change materialized view \"{}\"", table.name),
                ));
            }
            TableKind::Table if verb != INSERT => check_changeable(verb, &table)?,
            TableKind::Table | TableKind::System => {}
            TableKind::View(_) if self.is_written_by_trigger(&table, verb) => {}
            TableKind::View(_) => {
                return Err(Error::new(
                    state::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("cannot {verb} view \"{}\"", table.name),
                )
                .detail("Views are read-only.")
                .hint("Write the table that the view reads."));
            }
            TableKind::Sequence(_) => {
                return Err(Error::new(
                    state::WRONG_OBJECT_TYPE,
                    format!("cannot change sequence \"{}\"", table.name),
                ));
            }
        }
        Ok(table)
    }

    /// Has a view an INSTEAD OF trigger for this?
    fn is_written_by_trigger(&self, view: &Table, verb: &str) -> bool {
        let mut all = self.catalog.triggers_of(view.id).into_iter();
        all.any(|trigger| {
            let meant = match verb {
                INSERT => trigger.events.insert,
                "update" => trigger.events.update,
                _ => trigger.events.delete,
            };
            meant && trigger.timing == Timing::InsteadOf && trigger.enabled.fires()
        })
    }

    fn writes_to(&mut self, table: &Arc<Table>) {
        if table.kind == TableKind::Table {
            self.uses(table, TableMode::RowExclusive);
        }
        self.writes = Some(table.group);
    }

    /// INSERT.
    pub(super) fn insert(
        &mut self,
        insert: &ast::Insert,
        outer: &Scope<'_>,
        in_cte: bool,
    ) -> Result<BoundQuery> {
        let _ = in_cte;
        let ast::TableObject::TableName(name) = &insert.table else {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                "syntax error at or near \"FUNCTION\"",
            ));
        };
        let (name, overriding) = split_overriding(name);
        let table = self.target_table(&name, INSERT)?;
        let access = self.needs(&table, Privilege::Insert);
        let sends = table.is_inbox();
        match sends {
            true => self.sends_to(insert, &table)?,
            false => self.writes_to(&table),
        }
        let columns = self.insert_columns(insert, &table)?;
        for index in &columns {
            self.touch(access, Some(*index));
        }
        if insert.columns.is_empty() {
            self.touch_table(access);
        }
        let (source, values) = self.insert_source(insert, &table, &columns, overriding, outer)?;
        let assign = self.insert_row(&table, values, overriding)?;
        let alias = insert.table_alias.as_ref().map(|alias| fold(&alias.alias));
        let shown = alias.unwrap_or_else(|| table.name.clone());
        let (new, mut range) = self.row_range(&table, &shown);
        let conflict = match &insert.on {
            None => None,
            Some(_) if table.kind != TableKind::Table => {
                return Err(Error::unsupported("ON CONFLICT for a view"));
            }
            Some(_) if table.is_event() => {
                return Err(Error::unsupported("ON CONFLICT for an event table").detail(
                    "Events are in the feed, and never stored: none is in another's way.",
                ));
            }
            Some(ast::OnInsert::OnConflict(on)) => Some(self.conflict(on, &table, &shown, outer)?),
            Some(ast::OnInsert::DuplicateKeyUpdate(_)) => {
                return Err(Error::new(
                    state::SYNTAX_ERROR,
                    "syntax error at or near \"DUPLICATE\"",
                ));
            }
            Some(_) => return Err(Error::unsupported("this ON clause")),
        };
        if insert.returning.is_some() {
            range.access = Some(self.needs(&table, Privilege::Select));
        }
        let scope = Scope::of(&FromItem::single(Rel::one_row(), range), Some(outer));
        let (returning, outputs) = self.returning(insert.returning.as_deref(), &scope)?;
        let modify = Modify {
            kind: ModifyKind::Insert,
            table,
            alias: shown,
            source,
            key: None,
            old: Vec::new(),
            assign,
            new,
            conflict,
            sends,
            returning,
        };
        Ok(BoundQuery {
            rel: Rel::Modify(Box::new(modify)),
            outputs,
        })
    }

    /// An INSERT into an inbox: the rows are commands, part of the sender's own entry.
    ///
    /// # Errors
    /// 0A000 for what only the table's owner could do.
    fn sends_to(&mut self, insert: &ast::Insert, table: &Table) -> Result<()> {
        let refuse = |what: &str| {
            Err(
                Error::unsupported(format!("{what} in INSERT into an inbox")).detail(format!(
                    "\"{}\" is an inbox: the row is sent to its owner.",
                    table.name
                )),
            )
        };
        if insert.on.is_some() {
            return refuse("ON CONFLICT");
        }
        if insert.returning.is_some() {
            return refuse("RETURNING");
        }
        self.sends = true;
        self.writes = self.catalog.group_of(self.role);
        Ok(())
    }

    fn insert_columns(&mut self, insert: &ast::Insert, table: &Arc<Table>) -> Result<Vec<usize>> {
        if insert.columns.is_empty() {
            return Ok(live(table).map(|(index, _)| index).collect());
        }
        let mut columns = Vec::with_capacity(insert.columns.len());
        for name in &insert.columns {
            let span = name_span(name);
            let index = self
                .column_index(table, &self.single_name(name)?)
                .map_err(|error| self.at(error, span))?;
            if columns.contains(&index) {
                let error = Error::new(
                    state::DUPLICATE_COLUMN,
                    format!(
                        "column \"{}\" specified more than once",
                        table.columns[index].name
                    ),
                );
                return Err(self.at(error, span));
            }
            columns.push(index);
        }
        Ok(columns)
    }

    fn column_index(&self, table: &Table, name: &str) -> Result<usize> {
        live(table)
            .find(|(_, column)| column.name == name)
            .map(|(index, _)| index)
            .ok_or_else(|| {
                Error::new(
                    state::UNDEFINED_COLUMN,
                    format!(
                        "column \"{name}\" of relation \"{}\" does not exist",
                        table.name
                    ),
                )
            })
    }

    /// The rows to insert, and what each given column takes from them (`None` = DEFAULT).
    fn insert_source(
        &mut self,
        insert: &ast::Insert,
        table: &Arc<Table>,
        columns: &[usize],
        overriding: Overriding,
        outer: &Scope<'_>,
    ) -> Result<(Rel, Vec<(usize, Option<Expr>)>)> {
        let Some(query) = &insert.source else {
            return Ok((Rel::one_row(), Vec::new()));
        };
        let plain = query.with.is_none()
            && query.order_by.is_none()
            && query.limit_clause.is_none()
            && query.fetch.is_none();
        if let ast::SetExpr::Values(values) = query.body.as_ref()
            && plain
        {
            let rows = self.value_rows(values, outer)?;
            let listed = !insert.columns.is_empty();
            return self.insert_values(table, columns, rows, listed, overriding);
        }
        let bound = self.query(query, outer, false)?;
        let given = bound.outputs.len();
        check_width(given, columns.len(), !insert.columns.is_empty())?;
        let mut bound = bound;
        let mut values = Vec::with_capacity(given);
        for (at, index) in columns.iter().take(given).enumerate() {
            let column = &table.columns[*index];
            if bound.outputs[at].ty.oid == Type::UNKNOWN.oid {
                let mut types: Vec<Type> = bound.outputs.iter().map(|o| o.ty).collect();
                types[at] = column.ty;
                self.coerce_outputs(&mut bound, &types)?;
            }
            let output = &bound.outputs[at];
            let expr = Expr::Column {
                column: output.id,
                ty: output.ty,
            };
            values.push((*index, Some(self.assign(expr, column.ty, &column.name)?)));
        }
        Ok((bound.rel, values))
    }

    fn insert_values(
        &mut self,
        table: &Arc<Table>,
        columns: &[usize],
        rows: Vec<Vec<Expr>>,
        listed: bool,
        overriding: Overriding,
    ) -> Result<(Rel, Vec<(usize, Option<Expr>)>)> {
        let width = rows.first().map_or(0, Vec::len);
        check_width(width, columns.len(), listed)?;
        let columns = &columns[..width];
        let single = rows.len() == 1;
        let mut bound: Vec<Vec<Option<Expr>>> = Vec::with_capacity(rows.len());
        for row in rows {
            let mut out = Vec::with_capacity(width);
            for (expr, index) in row.into_iter().zip(columns) {
                let column = &table.columns[*index];
                out.push(match expr {
                    Expr::Default => None,
                    expr => Some(self.assign(expr, column.ty, &column.name)?),
                });
            }
            bound.push(out);
        }
        if single {
            let row = bound.pop().expect("there is one row");
            return Ok((Rel::one_row(), columns.iter().copied().zip(row).collect()));
        }
        let mut made = Vec::with_capacity(width);
        let mut values = Vec::with_capacity(width);
        for (at, index) in columns.iter().enumerate() {
            let column = &table.columns[*index];
            let all_default = bound.iter().all(|row| row[at].is_none());
            if all_default {
                values.push((*index, None));
            } else {
                let made_column = self.column(&column.name, column.ty);
                values.push((
                    *index,
                    Some(Expr::Column {
                        column: made_column.id,
                        ty: column.ty,
                    }),
                ));
                if let Some(row) = bound.iter().find(|row| row[at].is_some()) {
                    check_given(table, *index, row[at].is_some(), overriding)?;
                }
                made.push((at, made_column));
            }
        }
        let mut rows = Vec::with_capacity(bound.len());
        for mut row in bound {
            let mut out = Vec::with_capacity(made.len());
            for (at, _) in &made {
                out.push(match row[*at].take() {
                    Some(expr) => expr,
                    None => self.default_of(table, columns[*at])?,
                });
            }
            rows.push(out);
        }
        let columns = made.into_iter().map(|(_, column)| column).collect();
        Ok((Rel::Values { columns, rows }, values))
    }

    /// One expression per stored column: what was given, else the default. Generated columns are
    /// left to the writer.
    fn insert_row(
        &mut self,
        table: &Arc<Table>,
        values: Vec<(usize, Option<Expr>)>,
        overriding: Overriding,
    ) -> Result<Vec<(usize, Expr)>> {
        let mut given: Vec<Option<Expr>> = vec![None; table.columns.len()];
        for (index, expr) in values {
            check_given(table, index, expr.is_some(), overriding)?;
            let identity = matches!(table.columns[index].source(), Generated::Identity(_));
            if !(identity && overriding == Overriding::User) {
                given[index] = expr;
            }
        }
        let mut assign = Vec::with_capacity(given.len());
        for (index, column) in live(table) {
            if matches!(column.source(), Generated::Stored(_)) {
                continue;
            }
            let expr = match given[index].take() {
                Some(expr) => expr,
                None => self.default_of(table, index)?,
            };
            if !expr.is_null_constant() {
                assign.push((index, expr));
            }
        }
        Ok(assign)
    }

    /// The default of a column as an expression.
    pub(crate) fn default_of(&mut self, table: &Arc<Table>, index: usize) -> Result<Expr> {
        let column = &table.columns[index];
        match column.source() {
            Generated::Nothing | Generated::Stored(_) => Ok(Expr::null(column.ty)),
            Generated::Default(text) => {
                let expr = self.stored(text, None, "DEFAULT expressions")?;
                self.assign(expr, column.ty, &column.name)
            }
            Generated::Identity(identity) => {
                let sequence = Expr::constant(Datum::Oid(identity.sequence.0), Type::REGCLASS);
                let next = self.call_by_name("nextval", vec![sequence])?;
                self.assign(next, column.ty, &column.name)
            }
        }
    }

    /// Binds stored text: a default (no table), a check, a predicate or an index expression.
    pub(crate) fn stored(
        &mut self,
        text: &str,
        range: Option<&Range>,
        place: &'static str,
    ) -> Result<Expr> {
        let parsed = crate::parse::parse_expression(text)?;
        let saved = self.text.take();
        let scope = match range {
            Some(range) => Scope::of(&FromItem::single(Rel::one_row(), range.clone()), None),
            None => Scope::empty(None),
        };
        let bound = self.expr(&parsed, &scope, Clause::Stored(place));
        self.text = saved;
        bound
    }

    /// Binds stored text over several rows (WHEN of a trigger).
    pub(crate) fn stored_over(
        &mut self,
        text: &str,
        ranges: &[Range],
        place: &'static str,
    ) -> Result<Expr> {
        let parsed = crate::parse::parse_expression(text)?;
        let saved = self.text.take();
        let mut scope = Scope::empty(None);
        scope.ranges = ranges.to_vec();
        let bound = self.expr(&parsed, &scope, Clause::Stored(place));
        self.text = saved;
        bound
    }

    /// A range over a row of a table under another name.
    pub(crate) fn named_range(&mut self, table: &Arc<Table>, alias: &str) -> Range {
        self.row_range(table, alias).1
    }

    /// A condition; `what` is what errors call it.
    pub(crate) fn condition_of(&mut self, expr: Expr, what: &str) -> Result<Expr> {
        self.boolean(expr, what)
    }

    /// Fresh columns for a row of the table, and the range that names them.
    pub(super) fn row_range(
        &mut self,
        table: &Arc<Table>,
        alias: &str,
    ) -> (Vec<(usize, ColumnRef)>, Range) {
        let (scan, range) = self.scan(table, alias);
        (
            scan.columns
                .into_iter()
                .map(|(index, column)| (index, column.id))
                .collect(),
            range,
        )
    }

    fn returning(
        &mut self,
        items: Option<&[ast::SelectItem]>,
        scope: &Scope<'_>,
    ) -> Result<(Vec<(RelColumn, Expr)>, Vec<Output>)> {
        let Some(items) = items else {
            return Ok((Vec::new(), Vec::new()));
        };
        let targets = self.targets(items, scope, Clause::Returning)?;
        let mut returning = Vec::with_capacity(targets.len());
        let mut outputs = Vec::with_capacity(targets.len());
        for Target { name, expr, origin } in targets {
            let expr = self.settle_unknown(expr)?;
            if super::expression::has_set_returning(&expr) {
                return Err(super::expression::not_allowed_set("RETURNING"));
            }
            let column = self.column(&name, expr.ty());
            outputs.push(Output {
                name,
                id: column.id,
                ty: column.ty,
                origin,
            });
            returning.push((column, expr));
        }
        Ok((returning, outputs))
    }

    fn conflict(
        &mut self,
        on: &ast::OnConflict,
        table: &Arc<Table>,
        alias: &str,
        outer: &Scope<'_>,
    ) -> Result<Conflict> {
        let arbiters = self.arbiters(on.conflict_target.as_ref(), table, alias)?;
        let (existing, mut range) = self.row_range(table, alias);
        let (excluded, mut hidden) = self.row_range(table, "excluded");
        hidden.qualified_only = true;
        let action = match &on.action {
            ast::OnConflictAction::DoNothing => ConflictAction::Nothing,
            ast::OnConflictAction::DoUpdate(update) => {
                if on.conflict_target.is_none() {
                    return Err(Error::new(
                        state::SYNTAX_ERROR,
                        "ON CONFLICT DO UPDATE requires inference specification or constraint name",
                    )
                    .hint("For example, ON CONFLICT (column_name)."));
                }
                range.access = Some(self.needs(table, Privilege::Select));
                let access = self.needs(table, Privilege::Update);
                let mut item = FromItem::single(Rel::one_row(), range);
                item.ranges.push(hidden);
                let scope = Scope::of(&item, Some(outer));
                let assign = self.assignments(&update.assignments, table, &scope, access)?;
                let filter = match &update.selection {
                    Some(condition) => Some(self.condition(condition, &scope, Clause::Where)?),
                    None => None,
                };
                ConflictAction::Update { assign, filter }
            }
        };
        Ok(Conflict {
            arbiters,
            action,
            existing,
            excluded,
        })
    }

    /// The unique indexes that a conflict target names; empty = any.
    fn arbiters(
        &mut self,
        target: Option<&ast::ConflictTarget>,
        table: &Arc<Table>,
        alias: &str,
    ) -> Result<Vec<u32>> {
        match target {
            None => Ok(Vec::new()),
            Some(ast::ConflictTarget::OnConstraint(name)) => {
                let name = self.single_name(name)?;
                let index = table
                    .constraints
                    .iter()
                    .find_map(|constraint| match constraint {
                        Constraint::Unique {
                            name: own, index, ..
                        }
                        | Constraint::Primary {
                            name: own, index, ..
                        } if *own == name => Some(*index),
                        _ => None,
                    });
                index.map(|index| vec![index]).ok_or_else(|| {
                    Error::new(
                        state::UNDEFINED_OBJECT,
                        format!(
                            "constraint \"{name}\" for table \"{}\" does not exist",
                            table.name
                        ),
                    )
                })
            }
            Some(ast::ConflictTarget::Columns(columns)) => {
                let (exprs, predicate) = match columns.as_slice() {
                    [one] if one.value.starts_with(ARBITER) => {
                        parse_arbiter(&one.value[ARBITER.len()..])?
                    }
                    names => (
                        names
                            .iter()
                            .map(|name| ast::Expr::Identifier(name.clone()))
                            .collect(),
                        None,
                    ),
                };
                self.infer_arbiters(&exprs, predicate.as_ref(), table, alias)
            }
        }
    }

    fn infer_arbiters(
        &mut self,
        exprs: &[ast::Expr],
        predicate: Option<&ast::Expr>,
        table: &Arc<Table>,
        alias: &str,
    ) -> Result<Vec<u32>> {
        let (_, range) = self.row_range(table, alias);
        let scope = Scope::of(&FromItem::single(Rel::one_row(), range.clone()), None);
        let mut wanted = Vec::with_capacity(exprs.len());
        for expr in exprs {
            let expr = strip(expr);
            wanted.push(self.expr(expr, &scope, Clause::Stored("index expressions"))?);
        }
        let condition = match predicate {
            Some(predicate) => {
                let mut parts = Vec::new();
                self.condition(predicate, &scope, Clause::Where)?
                    .conjuncts(&mut parts);
                parts
            }
            None => Vec::new(),
        };
        let mut found = Vec::new();
        for index in table.indexes.iter().filter(|index| index.unique) {
            let keys = self.index_expressions(index, table, &range)?;
            let covers = keys
                .iter()
                .all(|key| wanted.iter().any(|want| same(want, key)))
                && wanted
                    .iter()
                    .all(|want| keys.iter().any(|key| same(want, key)));
            if !covers {
                continue;
            }
            let holds = match &index.predicate {
                None => true,
                Some(text) => {
                    let mut parts = Vec::new();
                    let own = self.stored(text, Some(&range), "index predicates")?;
                    own.conjuncts(&mut parts);
                    parts
                        .iter()
                        .all(|part| condition.iter().any(|have| same(have, part)))
                }
            };
            if holds {
                found.push(index.id);
            }
        }
        if found.is_empty() {
            return Err(Error::new(
                state::INVALID_COLUMN_REFERENCE,
                "there is no unique or exclusion constraint matching the ON CONFLICT specification",
            ));
        }
        Ok(found)
    }

    /// The key expressions of an index over a range of its table.
    pub(crate) fn index_expressions(
        &mut self,
        index: &Index,
        table: &Table,
        range: &Range,
    ) -> Result<Vec<Expr>> {
        index
            .columns
            .iter()
            .map(|key| match &key.what {
                IndexKey::Column(id) => {
                    let at = table.column_index(*id);
                    range
                        .columns
                        .iter()
                        .find(|column| column.origin.is_some() && column.origin == at)
                        .map(|column| column.expr.clone())
                        .ok_or_else(|| Error::internal("an index names a column that is gone"))
                }
                IndexKey::Expression(text) => self.stored(text, Some(range), "index expressions"),
            })
            .collect()
    }

    /// SET lists, in the order of the table's columns as given.
    fn assignments(
        &mut self,
        assignments: &[ast::Assignment],
        table: &Arc<Table>,
        scope: &Scope<'_>,
        access: usize,
    ) -> Result<Vec<(usize, Expr)>> {
        let mut assign: Vec<(usize, Expr)> = Vec::with_capacity(assignments.len());
        for assignment in assignments {
            let pairs = match &assignment.target {
                ast::AssignmentTarget::ColumnName(name) => {
                    let value = self.expr(&assignment.value, scope, Clause::Set)?;
                    vec![(name, value)]
                }
                ast::AssignmentTarget::Tuple(names) => {
                    let values = self.row_values(&assignment.value, names.len(), scope)?;
                    names.iter().zip(values).collect()
                }
            };
            for (name, value) in pairs {
                // Of `a.b`, `a` is the column; none has fields.
                let label = self.name_parts(name)?.swap_remove(0);
                let index = self
                    .column_index(table, &label)
                    .map_err(|error| self.at(error, name_span(name)))?;
                if assign.iter().any(|(other, _)| *other == index) {
                    return Err(Error::new(
                        state::SYNTAX_ERROR,
                        format!("multiple assignments to same column \"{label}\""),
                    ));
                }
                self.touch(access, Some(index));
                let column = &table.columns[index];
                let always = match column.source() {
                    Generated::Stored(_) => true,
                    Generated::Identity(identity) => identity.always,
                    Generated::Nothing | Generated::Default(_) => false,
                };
                let stored = matches!(column.source(), Generated::Stored(_));
                if matches!(value, Expr::Default) {
                    if !stored {
                        assign.push((index, self.default_of(table, index)?));
                    }
                    continue;
                }
                if always {
                    let what = if stored {
                        format!("Column \"{label}\" is a generated column.")
                    } else {
                        format!(
                            "Column \"{label}\" is an identity column defined as GENERATED ALWAYS."
                        )
                    };
                    return Err(Error::new(
                        GENERATED_ALWAYS,
                        format!("column \"{label}\" can only be updated to DEFAULT"),
                    )
                    .detail(what));
                }
                let value = self
                    .assign(value, column.ty, &column.name)
                    .map_err(|error| self.at(error, span_of(&assignment.value)))?;
                assign.push((index, value));
            }
        }
        Ok(assign)
    }

    /// The right side of `(a, b) = ...`.
    fn row_values(
        &mut self,
        value: &ast::Expr,
        count: usize,
        scope: &Scope<'_>,
    ) -> Result<Vec<Expr>> {
        let values = match strip(value) {
            ast::Expr::Subquery(query) => self.row_value(query, scope)?,
            ast::Expr::Tuple(items) => items
                .iter()
                .map(|item| self.expr(item, scope, Clause::Set))
                .collect::<Result<_>>()?,
            other => match self.expr(other, scope, Clause::Set)? {
                Expr::Row { items, .. } => items,
                single if count == 1 => vec![single],
                _ => {
                    return Err(Error::new(
                        state::FEATURE_NOT_SUPPORTED,
                        "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() \
                         expression",
                    ));
                }
            },
        };
        if values.len() != count {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                "number of columns does not match number of values",
            ));
        }
        Ok(values)
    }

    /// UPDATE.
    pub(super) fn update(
        &mut self,
        update: &ast::Update,
        outer: &Scope<'_>,
        in_cte: bool,
    ) -> Result<BoundQuery> {
        let _ = in_cte;
        let ast::TableFactor::Table {
            name,
            alias,
            version: None,
            ..
        } = &update.table.relation
        else {
            return Err(Error::new(state::SYNTAX_ERROR, "syntax error in UPDATE"));
        };
        if !update.table.joins.is_empty() {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                "syntax error at or near \"JOIN\"",
            ));
        }
        let from: &[ast::TableWithJoins] = match &update.from {
            None => &[],
            Some(
                ast::UpdateTableFromKind::BeforeSet(items)
                | ast::UpdateTableFromKind::AfterSet(items),
            ) => items,
        };
        let (table, shown, source) =
            self.write_source(name, alias.as_ref(), from, "update", outer)?;
        let access = self.needs(&table, Privilege::Update);
        let scope = Scope::of(&source.item, Some(outer));
        let assign = self.assignments(&update.assignments, &table, &scope, access)?;
        let rel = self.filtered(&source, update.selection.as_ref(), &scope)?;
        let (new, mut range) = self.row_range(&table, &shown);
        range.access = source.item.ranges[0].access;
        let mut item = FromItem {
            rel: Rel::one_row(),
            ..source.item
        };
        replace_range(&mut item, range);
        let scope = Scope::of(&item, Some(outer));
        let (returning, outputs) = self.returning(update.returning.as_deref(), &scope)?;
        let modify = Modify {
            kind: ModifyKind::Update,
            table,
            alias: shown,
            source: rel,
            key: source.key,
            old: source.old,
            assign,
            new,
            conflict: None,
            sends: false,
            returning,
        };
        Ok(BoundQuery {
            rel: Rel::Modify(Box::new(modify)),
            outputs,
        })
    }

    /// DELETE.
    pub(super) fn delete(
        &mut self,
        delete: &ast::Delete,
        outer: &Scope<'_>,
        in_cte: bool,
    ) -> Result<BoundQuery> {
        let _ = in_cte;
        let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) =
            &delete.from;
        let [
            ast::TableWithJoins {
                relation:
                    ast::TableFactor::Table {
                        name,
                        alias,
                        version: None,
                        ..
                    },
                joins,
            },
        ] = from.as_slice()
        else {
            return Err(Error::new(state::SYNTAX_ERROR, "syntax error in DELETE"));
        };
        if !joins.is_empty() {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                "syntax error at or near \"JOIN\"",
            ));
        }
        let using = delete.using.as_deref().unwrap_or_default();
        let verb = match is_erase(delete) {
            true => "erase from",
            false => "delete from",
        };
        let (table, shown, source) = self.write_source(name, alias.as_ref(), using, verb, outer)?;
        let access = self.needs(&table, Privilege::Delete);
        self.touch_table(access);
        let scope = Scope::of(&source.item, Some(outer));
        let rel = self.filtered(&source, delete.selection.as_ref(), &scope)?;
        let (returning, outputs) = self.returning(delete.returning.as_deref(), &scope)?;
        let modify = Modify {
            kind: match is_erase(delete) {
                true => ModifyKind::Erase,
                false => ModifyKind::Delete,
            },
            table,
            alias: shown,
            source: rel,
            key: source.key,
            old: source.old,
            assign: Vec::new(),
            new: Vec::new(),
            conflict: None,
            sends: false,
            returning,
        };
        Ok(BoundQuery {
            rel: Rel::Modify(Box::new(modify)),
            outputs,
        })
    }

    /// The target's scan, joined with FROM or USING.
    fn write_source(
        &mut self,
        name: &ast::ObjectName,
        alias: Option<&ast::TableAlias>,
        from: &[ast::TableWithJoins],
        verb: &str,
        outer: &Scope<'_>,
    ) -> Result<(Arc<Table>, String, WriteSource)> {
        let table = self.target_table(name, verb)?;
        self.writes_to(&table);
        let shown = alias.map_or_else(|| table.name.clone(), |alias| fold(&alias.name));
        let access = self.needs(&table, Privilege::Select);
        let (key, old, mut item) = self.target_rows(&table, &shown)?;
        let range = &mut item.ranges[0];
        range.access = Some(access);
        if alias.is_none() {
            range.schema = Some(self.catalog.schema_name(table.schema).to_owned());
        }
        if !from.is_empty() {
            let lateral = Scope::of(&item, Some(outer));
            let mut others: Option<FromItem> = None;
            for one in from {
                let bound = match &others {
                    None => {
                        let list = std::slice::from_ref(one);
                        let _ = &lateral;
                        self.from(list, outer)?
                    }
                    Some(left) => {
                        let beside = Scope::of(left, Some(outer));
                        self.from(std::slice::from_ref(one), &beside)?
                    }
                };
                others = Some(match others.take() {
                    None => bound,
                    Some(left) => left.beside(bound, cross),
                });
            }
            let others = others.unwrap_or_else(FromItem::empty);
            if let Some(clash) = others.ranges.iter().find(|range| range.alias == shown) {
                return Err(Error::new(
                    state::DUPLICATE_ALIAS,
                    format!("table name \"{}\" specified more than once", clash.alias),
                ));
            }
            item = item.beside(others, cross);
        }
        Ok((table, shown, WriteSource { item, key, old }))
    }

    /// The rows of a target, with their keys if they are a table's, and their columns.
    #[allow(clippy::type_complexity)]
    fn target_rows(
        &mut self,
        table: &Arc<Table>,
        alias: &str,
    ) -> Result<(Option<ColumnRef>, Vec<(usize, ColumnRef)>, FromItem)> {
        if let TableKind::View(view) = &table.kind {
            let item = self.view(table, view, alias)?;
            let columns = item.ranges[0].columns.iter();
            let old = columns.filter_map(|column| Some((column.origin?, column.id()?)));
            return Ok((None, old.collect(), item));
        }
        let (mut scan, range) = self.scan(table, alias);
        let key = self.column("ctid", Type::BYTEA).id;
        scan.key = Some(key);
        scan.target = true;
        let columns = scan.columns.iter();
        let old = columns.map(|(index, column)| (*index, column.id)).collect();
        let item = FromItem::single(Rel::Scan(Box::new(scan)), range);
        Ok((Some(key), old, item))
    }

    fn filtered(
        &mut self,
        source: &WriteSource,
        condition: Option<&ast::Expr>,
        scope: &Scope<'_>,
    ) -> Result<Rel> {
        let rel = source.item.rel.clone();
        let Some(condition) = condition else {
            // PostgreSQL asks for SELECT only on columns that are read; none is here.
            return Ok(rel);
        };
        let condition = self.condition(condition, scope, Clause::Where)?;
        let mut conditions = Vec::new();
        condition.conjuncts(&mut conditions);
        Ok(Rel::Filter {
            input: Box::new(rel),
            conditions,
        })
    }
}

/// The rows that UPDATE or DELETE goes over.
struct WriteSource {
    item: FromItem,
    key: Option<ColumnRef>,
    old: Vec<(usize, ColumnRef)>,
}

/// Lets the target's names mean its new values.
fn replace_range(item: &mut FromItem, range: Range) {
    for visible in &mut item.visible {
        if let Some((0, column)) = visible.source {
            visible.expr = range.columns[column].expr.clone();
        }
    }
    let mut range = range;
    std::mem::swap(&mut range.schema, &mut item.ranges[0].schema);
    item.ranges[0] = range;
}

fn cross(left: Rel, right: Rel) -> Rel {
    let (left, right) = (Box::new(left), Box::new(right));
    Rel::Join {
        kind: JoinKind::Inner,
        left,
        right,
        on: Vec::new(),
    }
}

fn live(table: &Table) -> impl Iterator<Item = (usize, &Column)> {
    table
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| !column.dropped)
}

fn check_width(given: usize, wanted: usize, listed: bool) -> Result<()> {
    if given > wanted {
        return Err(Error::new(
            state::SYNTAX_ERROR,
            "INSERT has more expressions than target columns",
        ));
    }
    if given < wanted && listed {
        return Err(Error::new(
            state::SYNTAX_ERROR,
            "INSERT has more target columns than expressions",
        ));
    }
    Ok(())
}

/// `(a, lower(b)) WHERE c` of ON CONFLICT.
fn parse_arbiter(text: &str) -> Result<(Vec<ast::Expr>, Option<ast::Expr>)> {
    use sqlparser::keywords::Keyword;
    use sqlparser::tokenizer::Token;
    let read = || -> std::result::Result<_, sqlparser::parser::ParserError> {
        let mut parser = super::syntax::parser(text)?;
        parser.expect_token(&Token::LParen)?;
        let mut exprs = Vec::new();
        loop {
            exprs.push(parser.parse_expr()?);
            // An operator class is accepted and means nothing here.
            if let Token::Word(word) = parser.peek_token().token
                && word.value.ends_with("_ops")
            {
                parser.next_token();
            }
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
        parser.expect_token(&Token::RParen)?;
        let predicate = if parser.parse_keyword(Keyword::WHERE) {
            Some(parser.parse_expr()?)
        } else {
            None
        };
        Ok((exprs, predicate))
    };
    read().map_err(|error| Error::new(state::SYNTAX_ERROR, error.to_string()))
}

/// Kept here because only RETURNING's ranges need it.
impl RangeColumn {
    /// The column's id, when it is a plain column.
    pub fn id(&self) -> Option<ColumnRef> {
        match self.expr {
            Expr::Column { column, .. } => Some(column),
            _ => None,
        }
    }
}

/// What `plan::writers` needs of the binder for stored expressions.
impl Binder<'_> {
    /// A range over a row of a table, for stored expressions.
    pub(crate) fn stored_range(&mut self, table: &Arc<Table>) -> Range {
        self.row_range(table, &table.name).1
    }

    /// A stored condition as a boolean.
    pub(crate) fn truth(&mut self, expr: Expr) -> Result<Expr> {
        self.boolean(expr, "CHECK")
    }

    /// A stored expression cast to its column.
    pub(crate) fn assigned(&mut self, expr: Expr, column: &Column) -> Result<Expr> {
        self.assign(expr, column.ty, &column.name)
    }
}

/// A value for a generated column, unless the statement says that it counts.
fn check_given(table: &Table, index: usize, given: bool, overriding: Overriding) -> Result<()> {
    let column = &table.columns[index];
    if !given {
        return Ok(());
    }
    if table.is_inbox() && [SENDER, NUMBER].contains(&column.name.as_str()) {
        let message = format!(
            "cannot insert a non-DEFAULT value into column \"{}\"",
            column.name
        );
        return Err(Error::new(GENERATED_ALWAYS, message)
            .detail("Who sends a command, and its number, can't be chosen."));
    }
    let refuse = |detail: String| {
        Error::new(
            GENERATED_ALWAYS,
            format!(
                "cannot insert a non-DEFAULT value into column \"{}\"",
                column.name
            ),
        )
        .detail(detail)
    };
    match column.source() {
        Generated::Identity(_) if overriding != Overriding::Nothing => Ok(()),
        Generated::Identity(identity) if identity.always => Err(refuse(format!(
            "Column \"{}\" is an identity column defined as GENERATED ALWAYS.",
            column.name
        ))
        .hint("Use OVERRIDING SYSTEM VALUE to override.")),
        Generated::Stored(_) => Err(refuse(format!(
            "Column \"{}\" is a generated column.",
            column.name
        ))),
        _ => Ok(()),
    }
}

/// The target of INSERT without the mark that `syntax` puts before it for OVERRIDING.
fn split_overriding(name: &ast::ObjectName) -> (ast::ObjectName, Overriding) {
    let first = name.0.first().and_then(|part| part.as_ident());
    let overriding = match first.map(|ident| ident.value.as_str()) {
        Some(OVERRIDING_SYSTEM) => Overriding::System,
        Some(OVERRIDING_USER) => Overriding::User,
        _ => return (name.clone(), Overriding::Nothing),
    };
    (ast::ObjectName(name.0[1..].to_vec()), overriding)
}

/// Does a DELETE say that it is an ERASE? The parser has put that word where DELETE stands.
pub(crate) fn is_erase(delete: &ast::Delete) -> bool {
    let word = match &delete.delete_token.0.token {
        sqlparser::tokenizer::Token::Word(word) => word,
        _ => return false,
    };
    word.value.eq_ignore_ascii_case("ERASE")
}
