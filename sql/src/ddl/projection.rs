//! CREATE MATERIALIZED VIEW: a projection, which is a table with rows of its own whose one writer are
//! the writes of the tables that it is made of.

use std::sync::Arc;

use sqlparser::ast;

use super::create_table::{empty_table, new_column};
use super::draft::{Done, Draft, Work};
use super::expression::parse_query;
use super::name::ident;
use super::wanted::Wanted;
use crate::catalog::{
    Catalog, Constraint, IndexState, Projection, Table, TableId, TableKind, kind,
};
use crate::plan;
use crate::transaction::TableMode;
use crate::{Error, Result, state};

impl Draft<'_> {
    /// False: IF NOT EXISTS, and it does. WITH NO DATA fills it, too: there is nothing else that
    /// would.
    pub fn create_projection(&mut self, create: &ast::CreateView) -> Done<Option<TableId>> {
        if create.or_replace {
            let message = "CREATE OR REPLACE MATERIALIZED VIEW does not exist";
            return Err(Error::new(state::SYNTAX_ERROR, message).into());
        }
        let target = self.target(&create.name)?;
        if self.exists_already(&target, create.if_not_exists)? {
            return Ok(None);
        }
        self.ground.check_query(&self.catalog, &create.query)?;
        self.only_tables(&create.query)?;
        let definition = self.stored_query(&create.query)?;
        let query = parse_query(&definition)?;
        check_text(&query)?;
        let shape = plan::projection_shape(&self.catalog, &query)?;
        if shape.base().owner != target.owner {
            return Err(Error::unsupported("another owner's table in a projection")
                .hint("CREATE VIEW reads others' tables.")
                .into());
        }
        let key = shape.key()?;
        if create.columns.len() > shape.outputs.len() {
            let message = "too many column names were specified";
            return Err(Error::new(state::SYNTAX_ERROR, message).into());
        }
        let options = self.table_options(&create.options)?;
        if options.contains_key("inbox") {
            return Err(Error::unsupported("a materialized view as an inbox").into());
        }
        if options.contains_key("event") {
            return Err(Error::unsupported("a materialized view as an event table").into());
        }
        let id = TableId(self.oid(target.group)?);
        let mut table = empty_table(&target, id, options);
        for (at, output) in shape.outputs.iter().enumerate() {
            let given = create.columns.get(at).map(|c| ident(&c.name));
            let (name, ty) = (given.unwrap_or_else(|| output.name.clone()), output.ty);
            if ty.is_pseudo() {
                let message = format!("column \"{name}\" has pseudo-type {}", ty.name());
                return Err(Error::new(state::INVALID_TABLE_DEFINITION, message).into());
            }
            let mut column = new_column(&table, name, ty)?;
            column.not_null = shape.is_not_null(output);
            table.columns.push(column);
        }
        table.depends_on = shape.depends_on();
        table.projection = Some(Projection {
            definition,
            keys: shape.keys(),
            state: IndexState::Ready,
        });
        let key = key.into_iter().map(|at| table.columns[at].name.clone());
        let key = Wanted::primary_key(key.collect());
        self.reserve(target.schema, &[&target.name], target.owner)?;
        self.create_table(table)?;
        self.add_constraints(id, vec![key], true)?;
        Ok(Some(id))
    }

    /// Its writers wait while it is filled.
    pub fn fill_projection(&mut self, id: TableId) -> Done<()> {
        let table = self.table(id)?;
        for source in written_through(&self.catalog, &table) {
            self.ground.lock(&source, TableMode::Share)?;
        }
        self.work.push(Work::FillProjection { table: id });
        Ok(())
    }

    /// A view's text may become another one, and what it reads is not all that it names.
    fn only_tables(&self, query: &ast::Query) -> Result<()> {
        for (id, _) in self.reads_of(query)? {
            let table = self.catalog.table(id);
            if let Some(table) = table.filter(|table| !table.is_ordinary()) {
                let what = match table.kind {
                    TableKind::System => "a system relation",
                    TableKind::Table => "a materialized view",
                    TableKind::View(_) => "a view",
                    TableKind::Sequence(_) => "a sequence",
                };
                return Err(Error::unsupported(format!("{what} in a projection"))
                    .hint("Select from the tables themselves."));
            }
        }
        Ok(())
    }

    /// A projection needs the primary key of its base and the foreign keys by which it joins: it
    /// stops their drop, or goes with CASCADE.
    pub fn drop_projections_of_key(
        &mut self,
        table: &Table,
        constraint: &Constraint,
        cascade: bool,
    ) -> Done<()> {
        let uses = |other: &&Arc<Table>| match (constraint, &other.projection) {
            (Constraint::Primary { .. }, Some(_)) => other.projects(table.id),
            (Constraint::Foreign(key), Some(projection)) => projection.keys.contains(&key.id),
            _ => false,
        };
        let found: Vec<Arc<Table>> = self.catalog.tables().filter(uses).cloned().collect();
        if found.is_empty() {
            return Ok(());
        }
        let key = format!(
            "constraint {} on table {}",
            constraint.name(),
            self.display(table)
        );
        let shown = |one: &Arc<Table>| format!("{} {}", kind(one), self.display(one));
        let shown: Vec<String> = found.iter().map(shown).collect();
        if !cascade {
            let lines = shown.iter().map(|one| format!("{one} depends on {key}"));
            let lines: Vec<String> = lines.collect();
            let message = format!("cannot drop {key} because other objects depend on it");
            return Err(Error::new(state::DEPENDENT_OBJECTS_STILL_EXIST, message)
                .detail(lines.join("\n"))
                .hint("Use DROP ... CASCADE to drop the dependent objects too.")
                .into());
        }
        for one in shown {
            let text = format!("drop cascades to {one}");
            self.notice(Error::new(state::SUCCESSFUL_COMPLETION, text));
        }
        for one in &found {
            self.ground.lock(one, TableMode::AccessExclusive)?;
        }
        let ids: Vec<TableId> = found.iter().map(|one| one.id).collect();
        self.drop_all(&ids, true)
    }

    /// 42809 unless the name, if it is one, is a projection's.
    pub fn is_projection(&self, name: &ast::ObjectName) -> Done<()> {
        let found = self.find(name)?;
        match found.filter(|found| found.table().projection.is_none()) {
            Some(other) => Err(Error::new(
                state::WRONG_OBJECT_TYPE,
                format!("\"{}\" is not a materialized view", other.name()),
            )
            .into()),
            None => Ok(()),
        }
    }

    /// REFRESH MATERIALIZED VIEW: it is as its tables are, always.
    pub fn refresh(&mut self, name: &ast::ObjectName) -> Done<()> {
        let relation = self.relation(name)?;
        self.catalog.must_own(self.role, relation.table())?;
        match &relation {
            crate::catalog::Relation::Table(table) if table.is_filling() => Err(Error::new(
                state::ACTIVE_SQL_TRANSACTION,
                "REFRESH MATERIALIZED VIEW of one that has not been populated cannot run inside a \
                 transaction block",
            )
            .into()),
            crate::catalog::Relation::Table(table) if table.projection.is_some() => Ok(()),
            other => Err(Error::new(
                state::FEATURE_NOT_SUPPORTED,
                format!("\"{}\" is not a materialized view", other.name()),
            )
            .into()),
        }
    }
}

/// What can be read otherwise later: a `*` that is not written out would take new columns in.
fn check_text(query: &ast::Query) -> Result<()> {
    if query.with.is_some() {
        return Err(Error::unsupported("WITH in a projection").hint("Write the query without it."));
    }
    let ast::SetExpr::Select(select) = query.body.as_ref() else {
        return Ok(());
    };
    let star = |item: &ast::SelectItem| {
        use ast::SelectItem::{QualifiedWildcard, Wildcard};
        matches!(item, Wildcard(_) | QualifiedWildcard(..))
    };
    match select.projection.iter().any(star) {
        true => {
            Err(Error::unsupported("* over this FROM in a projection").hint("Name the columns."))
        }
        false => Ok(()),
    }
}

/// The tables whose writers may write the projection: those that it reads, and those of the same owner
/// from which foreign keys' actions reach them.
pub(crate) fn written_through(catalog: &Catalog, projection: &Table) -> Vec<Arc<Table>> {
    let mut ids: Vec<TableId> = projection.depends_on.iter().map(|(id, _)| *id).collect();
    let mut out: Vec<Arc<Table>> = Vec::new();
    let mut at = 0;
    while at < ids.len() {
        let own = |table: &&Arc<Table>| table.group == projection.group;
        if let Some(table) = catalog.table(ids[at]).filter(own) {
            for key in table.foreign_keys() {
                if !ids.contains(&key.references) {
                    ids.push(key.references);
                }
            }
            out.push(Arc::clone(table));
        }
        at += 1;
    }
    out
}
