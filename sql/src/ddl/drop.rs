//! DROP of tables, views, indexes, sequences, schemas and constraints, with what depends on them.

use std::sync::Arc;

use sqlparser::ast::ObjectName;
use storage::GroupId;

use super::alter_table::find_constraint;
use super::draft::{Done, Draft, Work};
use super::expression::relations_in;
use super::name::{parts, shown};
use crate::catalog::{
    Change, Column, ColumnId, Constraint, ForeignKey, Key, Object, Relation, RoleId, SchemaId,
    Table, TableId, TableKind,
};
use crate::parse::{self, ObjectKind};
use crate::transaction::TableMode;
use crate::{Error, Result, state};

/// Something that goes, or stops the drop.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Dependent {
    View(TableId),
    Foreign(TableId, u32),
    Default(TableId, ColumnId),
}

impl Draft<'_> {
    pub fn drop_statement(&mut self, drop: &parse::Drop) -> Done<()> {
        match drop.kind {
            ObjectKind::Table
            | ObjectKind::View
            | ObjectKind::MaterializedView
            | ObjectKind::Sequence => self.drop_relations(drop),
            ObjectKind::Index => self.drop_indexes(drop),
            ObjectKind::Schema => self.drop_schemas(drop),
            ObjectKind::Role => Err(Error::internal("DROP ROLE has its own statement").into()),
            ObjectKind::Extension => self.drop_extensions(drop),
            ObjectKind::Database => Err(Error::unsupported("dropping the one database").into()),
            other => self.drop_nothing(other, drop),
        }
    }

    /// Kinds of objects that do not exist here: IF EXISTS is satisfied, the rest is an error.
    fn drop_nothing(&mut self, kind: ObjectKind, drop: &parse::Drop) -> Done<()> {
        for name in &drop.names {
            let (word, name) = (kind_word(kind), shown(&parts(name)?));
            let message = format!("{word} \"{name}\" does not exist");
            if !drop.if_exists {
                return Err(Error::new(state::UNDEFINED_OBJECT, message).into());
            }
            self.skips(&message);
        }
        Ok(())
    }

    fn drop_extensions(&mut self, drop: &parse::Drop) -> Done<()> {
        for name in &drop.names {
            let name = shown(&parts(name)?);
            let message = format!("extension \"{name}\" does not exist");
            if super::misc::is_builtin_extension(&name) {
                continue;
            }
            if !drop.if_exists {
                return Err(Error::new(state::UNDEFINED_OBJECT, message).into());
            }
            self.skips(&message);
        }
        Ok(())
    }

    fn drop_relations(&mut self, drop: &parse::Drop) -> Done<()> {
        let word = kind_word(drop.kind);
        let mut doomed = Vec::new();
        for name in &drop.names {
            let Some(relation) = self.find(name)? else {
                let message = format!("{word} \"{}\" does not exist", shown(&parts(name)?));
                if drop.if_exists {
                    self.skips(&message);
                    continue;
                }
                return Err(Error::new(state::UNDEFINED_TABLE, message).into());
            };
            let table = self.of_kind(relation, drop.kind)?;
            self.catalog.must_own(self.role, &table)?;
            if !doomed.contains(&table.id) {
                doomed.push(table.id);
            }
        }
        for id in &doomed {
            let table = self.table(*id)?;
            self.ground.lock(&table, TableMode::AccessExclusive)?;
            if let TableKind::Sequence(options) = &table.kind
                && options.identity
            {
                return Err(self.identity_sequence(&table)?.into());
            }
        }
        self.drop_all(&doomed, drop.cascade)
    }

    fn identity_sequence(&self, sequence: &Table) -> Result<Error> {
        let TableKind::Sequence(options) = &sequence.kind else {
            return Err(Error::internal("a sequence has no options"));
        };
        let owner = options.owned_by.and_then(|(t, c)| {
            let table = self.catalog.table(t)?;
            Some((table.name.clone(), table.column_by_id(c)?.name.clone()))
        });
        let (table, column) = owner.unwrap_or_default();
        Ok(Error::new(
            state::DEPENDENT_OBJECTS_STILL_EXIST,
            format!(
                "cannot drop sequence {} because column {column} of table {table} requires it",
                sequence.name
            ),
        )
        .hint(format!(
            "You can drop column {column} of table {table} instead."
        )))
    }

    fn of_kind(&self, relation: Relation, kind: ObjectKind) -> Result<Arc<Table>> {
        let word = kind_word(kind);
        let article = if kind == ObjectKind::Index { "an" } else { "a" };
        let wrong = |name: &str, hint: &str| {
            Error::new(
                state::WRONG_OBJECT_TYPE,
                format!("\"{name}\" is not {article} {word}"),
            )
            .hint(hint.to_owned())
        };
        let table = match relation {
            Relation::Table(table) => table,
            Relation::Index(table, at) => {
                let hint = "Use DROP INDEX to remove an index.";
                return Err(wrong(&table.indexes[at].name, hint));
            }
        };
        let (fits, hint) = match (&table.kind, kind) {
            (TableKind::Table, ObjectKind::MaterializedView) if table.projection.is_some() => {
                (true, "")
            }
            (TableKind::Table, _) if table.projection.is_some() => (
                false,
                "Use DROP MATERIALIZED VIEW to remove a materialized view.",
            ),
            (TableKind::Table | TableKind::System, ObjectKind::Table)
            | (TableKind::View(_), ObjectKind::View)
            | (TableKind::Sequence(_), ObjectKind::Sequence) => (true, ""),
            (TableKind::Table | TableKind::System, _) => {
                (false, "Use DROP TABLE to remove a table.")
            }
            (TableKind::View(_), _) => (false, "Use DROP VIEW to remove a view."),
            (TableKind::Sequence(_), _) => (false, "Use DROP SEQUENCE to remove a sequence."),
        };
        if fits {
            Ok(table)
        } else {
            Err(wrong(&table.name, hint))
        }
    }

    /// Drops relations and, with CASCADE, what depends on them.
    pub fn drop_all(&mut self, ids: &[TableId], cascade: bool) -> Done<()> {
        let mut doomed: Vec<TableId> = ids.to_vec();
        for id in ids {
            doomed.extend(self.owned_sequences(*id, None));
        }
        let mut found: Vec<(Dependent, TableId)> = Vec::new();
        let mut at = 0;
        while at < doomed.len() {
            let id = doomed[at];
            at += 1;
            for dependent in self.dependents(id) {
                let inside = match &dependent {
                    Dependent::View(t) | Dependent::Foreign(t, _) | Dependent::Default(t, _) => {
                        doomed.contains(t)
                    }
                };
                if inside || found.iter().any(|(d, _)| *d == dependent) {
                    continue;
                }
                if let Dependent::View(view) = dependent
                    && cascade
                {
                    let table = self.table(view)?;
                    if table.projection.is_some() {
                        self.ground.lock(&table, TableMode::AccessExclusive)?;
                    }
                    doomed.push(view);
                }
                found.push((dependent, id));
            }
        }
        self.check_unreferenced(&doomed, cascade)?;
        if !cascade {
            self.check_unused(ids)?;
        }
        found.sort_by_key(|(dependent, _)| self.dependent_oid(dependent));
        if !found.is_empty() {
            self.judge(ids, &found, cascade)?;
        }
        for (dependent, _) in &found {
            match dependent {
                Dependent::View(_) => {}
                Dependent::Foreign(table, constraint) => {
                    let table = self.table(*table)?;
                    let name = table.constraints.iter().find(|c| c.id() == *constraint);
                    if let Some(name) = name.map(|c| c.name().to_owned()) {
                        self.drop_constraint(table.id, &name, true, true)?;
                    }
                }
                Dependent::Default(table, column) => {
                    self.edit_column(*table, *column, |c| {
                        c.default = None;
                        c.default_id = 0;
                    })?;
                }
            }
        }
        for id in doomed {
            // A projection may have gone with its foreign key.
            if self.catalog.table(id).is_some() {
                self.remove_relation(id)?;
            }
        }
        Ok(())
    }

    /// By which PostgreSQL lists what depends.
    fn dependent_oid(&self, dependent: &Dependent) -> u32 {
        match dependent {
            Dependent::View(view) => view.0,
            Dependent::Foreign(_, constraint) => *constraint,
            Dependent::Default(table, column) => self
                .catalog
                .table(*table)
                .and_then(|t| t.column_by_id(*column))
                .map_or(0, |c| c.default_id),
        }
    }

    /// RESTRICT: the error. CASCADE: the notice, unless another owner's object is in the way.
    fn judge(
        &mut self,
        ids: &[TableId],
        found: &[(Dependent, TableId)],
        cascade: bool,
    ) -> Done<()> {
        let subject = match ids {
            [one] => {
                let table = self.table(*one)?;
                format!("{} {}", crate::catalog::kind(&table), self.display(&table))
            }
            _ => "desired object(s)".to_owned(),
        };
        let owner = ids
            .first()
            .map(|id| self.table(*id))
            .transpose()?
            .map(|t| t.owner);
        let mut lines = Vec::new();
        let mut cascades = Vec::new();
        let mut foreign = false;
        for (dependent, on) in found {
            let on = self.table(*on)?;
            let (text, of) = self.describe(dependent)?;
            if Some(of) != owner {
                foreign = true;
                // Roles are named, never their tables: what is private does not exist for others.
                let role = self.catalog.role_name(of);
                lines.push(format!(
                    "role \"{role}\" reads {} {}",
                    crate::catalog::kind(&on),
                    self.display(&on)
                ));
                continue;
            }
            lines.push(format!(
                "{text} depends on {} {}",
                crate::catalog::kind(&on),
                self.display(&on)
            ));
            cascades.push(format!("drop cascades to {text}"));
        }
        lines.dedup();
        if !cascade || foreign {
            let error = Error::new(
                state::DEPENDENT_OBJECTS_STILL_EXIST,
                format!("cannot drop {subject} because other objects depend on it"),
            )
            .detail(lines.join("\n"));
            return Err(if foreign {
                error.into()
            } else {
                error
                    .hint("Use DROP ... CASCADE to drop the dependent objects too.")
                    .into()
            });
        }
        let state = state::SUCCESSFUL_COMPLETION;
        self.notice(match cascades.as_slice() {
            [one] => Error::new(state, one.clone()),
            many => Error::new(
                state,
                format!("drop cascades to {} other objects", many.len()),
            )
            .detail(many.join("\n")),
        });
        Ok(())
    }

    fn describe(&self, dependent: &Dependent) -> Done<(String, RoleId)> {
        Ok(match dependent {
            Dependent::View(view) => {
                let view = self.table(*view)?;
                let word = crate::catalog::kind(&view);
                (format!("{word} {}", self.display(&view)), view.owner)
            }
            Dependent::Foreign(table, constraint) => {
                let table = self.table(*table)?;
                let name = table.constraints.iter().find(|c| c.id() == *constraint);
                let name = name.map_or("?", |c| c.name());
                (
                    format!("constraint {name} on table {}", self.display(&table)),
                    table.owner,
                )
            }
            Dependent::Default(table, column) => {
                let table = self.table(*table)?;
                let name = table.column_by_id(*column).map_or("?", |c| c.name.as_str());
                (
                    format!(
                        "default value for column {name} of table {}",
                        self.display(&table)
                    ),
                    table.owner,
                )
            }
        })
    }

    /// A relation's name, qualified unless it is found unqualified.
    pub fn display(&self, table: &Table) -> String {
        let found = self
            .path
            .iter()
            .find_map(|s| self.catalog.relation_by_name(*s, &table.name))
            .is_some_and(|r| r.oid() == table.id.0);
        if found {
            table.name.clone()
        } else {
            format!("{}.{}", self.catalog.schema_name(table.schema), table.name)
        }
    }

    fn dependents(&self, id: TableId) -> Vec<Dependent> {
        let mut out = Vec::new();
        let Some(table) = self.catalog.table(id) else {
            return out;
        };
        for (child, constraint) in &table.referenced_by {
            if *child != id {
                out.push(Dependent::Foreign(*child, *constraint));
            }
        }
        let is_sequence = matches!(table.kind, TableKind::Sequence(_));
        for other in self.catalog.tables() {
            if matches!(other.kind, TableKind::System) {
                continue;
            }
            if other.depends_on.iter().any(|(on, _)| *on == id) {
                out.push(Dependent::View(other.id));
            }
            if !is_sequence {
                continue;
            }
            for column in other.live_columns() {
                let uses = column
                    .default
                    .as_deref()
                    .is_some_and(|text| relations_in(text).contains(&id.0));
                if uses {
                    out.push(Dependent::Default(other.id, column.id));
                }
            }
        }
        out
    }

    /// The sequences that go with a table, or with one column of it.
    pub fn owned_sequences(&self, id: TableId, column: Option<ColumnId>) -> Vec<TableId> {
        self.catalog
            .tables()
            .filter(|t| match &t.kind {
                TableKind::Sequence(o) => o
                    .owned_by
                    .is_some_and(|(table, c)| table == id && column.is_none_or(|own| own == c)),
                _ => false,
            })
            .map(|t| t.id)
            .collect()
    }

    /// The parent forgets a foreign key that goes. Another owner's does so by itself (`crate::integrity`).
    fn unreference(&mut self, group: GroupId, key: &ForeignKey) -> Done<()> {
        let parent = self.catalog.table(key.references);
        if parent.is_some_and(|parent| parent.group == group) {
            let gone = |t: &mut Table| t.referenced_by.retain(|of| of.1 != key.id);
            self.edit_table(key.references, gone)?;
        }
        Ok(())
    }

    /// Takes a relation out, with its trees; nothing else depends on it any more.
    fn remove_relation(&mut self, id: TableId) -> Done<()> {
        let table = self.table(id)?;
        if table.moving.is_some() {
            return Err(crate::moving::being_moved(&table).into());
        }
        for key in table.foreign_keys() {
            if key.references != id {
                self.unreference(table.group, key)?;
            }
        }
        let table = self.table(id)?;
        self.touch(&table);
        self.remove_triggers_of(id);
        match &table.kind {
            TableKind::Table => {
                let group = table.group;
                let mut trees: Vec<u32> = table.indexes.iter().map(|i| i.tree).collect();
                trees.push(table.tree);
                trees.sort_unstable();
                trees.dedup();
                for tree in trees {
                    self.work.push(Work::DropTree { group, tree });
                }
            }
            TableKind::Sequence(_) => {
                self.work.push(Work::DropSequence {
                    group: table.group,
                    sequence: id,
                });
            }
            TableKind::View(_) | TableKind::System => {}
        }
        self.change(Change::drop(table.group, Object::Table(table)));
        Ok(())
    }

    /// Takes a sequence out that belongs to a column.
    pub fn remove_sequence(&mut self, id: TableId) -> Done<()> {
        if self.catalog.table(id).is_none() {
            return Ok(());
        }
        self.remove_relation(id)
    }

    fn drop_indexes(&mut self, drop: &parse::Drop) -> Done<()> {
        for name in &drop.names {
            let Some(relation) = self.find(name)? else {
                let message = format!("index \"{}\" does not exist", shown(&parts(name)?));
                if drop.if_exists {
                    self.skips(&message);
                    continue;
                }
                return Err(Error::new(state::UNDEFINED_OBJECT, message).into());
            };
            let Relation::Index(table, at) = relation else {
                return Err(Error::new(
                    state::WRONG_OBJECT_TYPE,
                    format!("\"{}\" is not an index", relation.name()),
                )
                .hint(match &relation {
                    Relation::Table(t) if matches!(t.kind, TableKind::View(_)) => {
                        "Use DROP VIEW to remove a view."
                    }
                    Relation::Table(t) if matches!(t.kind, TableKind::Sequence(_)) => {
                        "Use DROP SEQUENCE to remove a sequence."
                    }
                    Relation::Table(t) if t.projection.is_some() => {
                        "Use DROP MATERIALIZED VIEW to remove a materialized view."
                    }
                    _ => "Use DROP TABLE to remove a table.",
                })
                .into());
            };
            self.catalog.must_own(self.role, &table)?;
            self.ground.lock(&table, TableMode::AccessExclusive)?;
            let index = table.indexes[at].clone();
            if let Some(constraint) = table
                .constraints
                .iter()
                .find(|c| c.index() == Some(index.id))
            {
                return Err(Error::new(
                    state::DEPENDENT_OBJECTS_STILL_EXIST,
                    format!(
                        "cannot drop index {} because constraint {} on table {} requires it",
                        index.name,
                        constraint.name(),
                        self.display(&table)
                    ),
                )
                .hint(format!(
                    "You can drop constraint {} on table {} instead.",
                    constraint.name(),
                    self.display(&table)
                ))
                .into());
            }
            self.drop_keys_of_index(&table, index.id, drop.cascade, "index", &index.name)?;
            self.remove_index(table.id, index.id)?;
        }
        Ok(())
    }

    /// Foreign keys that rely on an index stop its drop, or go with CASCADE.
    fn drop_keys_of_index(
        &mut self,
        table: &Arc<Table>,
        index: u32,
        cascade: bool,
        word: &str,
        name: &str,
    ) -> Done<()> {
        self.check_not_asked(table, &format!("{word} {name}"), |of| of.index == index)?;
        let mut keys = Vec::new();
        for (child, constraint) in &table.referenced_by {
            let child = self.table(*child)?;
            if let Some(key) = child
                .foreign_keys()
                .find(|k| k.id == *constraint && k.referenced_index == index)
            {
                keys.push((child.clone(), key.name.clone()));
            }
        }
        if keys.is_empty() {
            return Ok(());
        }
        if !cascade {
            let lines: Vec<String> = keys
                .iter()
                .map(|(child, key)| {
                    format!(
                        "constraint {key} on table {} depends on index {name}",
                        self.display(child)
                    )
                })
                .collect();
            let subject = match word {
                "constraint" => {
                    format!("constraint {name} on table {}", self.display(table))
                }
                _ => format!("{word} {name}"),
            };
            return Err(Error::new(
                state::DEPENDENT_OBJECTS_STILL_EXIST,
                format!("cannot drop {subject} because other objects depend on it"),
            )
            .detail(lines.join("\n"))
            .hint("Use DROP ... CASCADE to drop the dependent objects too.")
            .into());
        }
        for (child, key) in keys {
            let text = format!(
                "drop cascades to constraint {key} on table {}",
                self.display(&child)
            );
            self.notice(Error::new(state::SUCCESSFUL_COMPLETION, text));
            self.drop_constraint(child.id, &key, true, true)?;
        }
        Ok(())
    }

    /// Takes an index out with its tree.
    pub fn remove_index(&mut self, id: TableId, index: u32) -> Done<()> {
        let table = self.table(id)?;
        if let Some(gone) = table.index(index)
            && gone.tree != table.tree
            && gone.tree != 0
        {
            self.work.push(Work::DropTree {
                group: table.group,
                tree: gone.tree,
            });
        }
        self.work
            .retain(|w| !matches!(w, Work::BuildIndex { index: i, .. } if *i == index));
        self.edit_table(id, |t| t.indexes.retain(|i| i.id != index))?;
        Ok(())
    }

    pub fn drop_constraint(
        &mut self,
        id: TableId,
        name: &str,
        if_exists: bool,
        cascade: bool,
    ) -> Done<()> {
        let table = self.table(id)?;
        let constraint = match find_constraint(&table, name) {
            Ok(constraint) => constraint.clone(),
            Err(error) if if_exists => {
                self.skips(&error.0.message);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let oid = constraint.id();
        self.drop_projections_of_key(&table, &constraint, cascade)?;
        match &constraint {
            Constraint::Check { .. } => {}
            Constraint::Foreign(key) => self.unreference(table.group, key)?,
            Constraint::Unique { index, name, .. } => {
                self.drop_keys_of_index(&table, *index, cascade, "constraint", name)?;
                self.remove_index(id, *index)?;
            }
            Constraint::Primary { index, name, .. } => {
                self.drop_keys_of_index(&table, *index, cascade, "constraint", name)?;
                self.remove_index(id, *index)?;
                self.rekey(id, Key::RowId)?;
            }
        }
        self.edit_table(id, |t| t.constraints.retain(|c| c.id() != oid))?;
        Ok(())
    }

    /// Views that read a column stop its drop, or go with CASCADE; keys that reference it too.
    pub fn drop_dependents_of_column(
        &mut self,
        table: &Arc<Table>,
        column: &Column,
        cascade: bool,
    ) -> Done<()> {
        let what = format!("column {} of table {}", column.name, self.display(table));
        self.check_not_asked(table, &what, |of| of.columns.contains(&column.id))?;
        let views: Vec<Arc<Table>> = self
            .catalog
            .tables()
            .filter(|t| {
                t.depends_on
                    .iter()
                    .any(|(on, columns)| *on == table.id && columns.contains(&column.id))
            })
            .cloned()
            .collect();
        let mut keys = Vec::new();
        for (child, constraint) in &table.referenced_by {
            let child = self.table(*child)?;
            let key = child
                .foreign_keys()
                .find(|k| k.id == *constraint && k.referenced_columns.contains(&column.id));
            if let Some(key) = key
                && !(child.id == table.id && key.columns.contains(&column.id))
            {
                keys.push((child.clone(), key.name.clone()));
            }
        }
        let triggers = self.triggers_over(table, column);
        if views.is_empty() && keys.is_empty() && triggers.is_empty() {
            return Ok(());
        }
        let subject = format!("column {} of table {}", column.name, self.display(table));
        let mut lines = Vec::new();
        for trigger in &triggers {
            lines.push(format!(
                "trigger {} on table {} depends on {subject}",
                trigger.name,
                self.display(table)
            ));
        }
        for view in &views {
            lines.push(if view.owner == table.owner {
                let word = crate::catalog::kind(view);
                format!("{word} {} depends on {subject}", self.display(view))
            } else {
                format!(
                    "role \"{}\" reads {subject}",
                    self.catalog.role_name(view.owner)
                )
            });
        }
        for (child, key) in &keys {
            lines.push(format!(
                "constraint {key} on table {} depends on {subject}",
                self.display(child)
            ));
        }
        if !cascade || views.iter().any(|v| v.owner != table.owner) {
            return Err(Error::new(
                state::DEPENDENT_OBJECTS_STILL_EXIST,
                format!("cannot drop {subject} because other objects depend on it"),
            )
            .detail(lines.join("\n"))
            .hint("Use DROP ... CASCADE to drop the dependent objects too.")
            .into());
        }
        for trigger in triggers {
            let text = format!(
                "drop cascades to trigger {} on table {}",
                trigger.name,
                self.display(table)
            );
            self.notice(Error::new(state::SUCCESSFUL_COMPLETION, text));
            self.remove_trigger(trigger);
        }
        for (child, key) in keys {
            self.drop_constraint(child.id, &key, true, true)?;
        }
        let views = views.iter().map(|v| v.id);
        let views: Vec<TableId> = views
            .filter(|id| self.catalog.table(*id).is_some())
            .collect();
        for view in &views {
            let view = self.table(*view)?;
            let word = crate::catalog::kind(&view);
            if view.projection.is_some() {
                self.ground.lock(&view, TableMode::AccessExclusive)?;
            }
            let text = format!("drop cascades to {word} {}", self.display(&view));
            self.notice(Error::new(state::SUCCESSFUL_COMPLETION, text));
        }
        self.drop_all(&views, true)
    }

    fn drop_schemas(&mut self, drop: &parse::Drop) -> Done<()> {
        for name in &drop.names {
            let name = shown(&parts(name)?);
            let schema = match self.schema_named(&name) {
                Ok(schema) => schema,
                Err(error) if drop.if_exists => {
                    self.skips(&error.0.message);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            self.own_schema(&schema)?;
            let private = self
                .catalog
                .role(schema.owner)
                .is_some_and(|r| r.schema == schema.id);
            if private || schema.id.0 < crate::catalog::directory::FIRST_OID {
                return Err(Error::new(
                    state::DEPENDENT_OBJECTS_STILL_EXIST,
                    format!("cannot drop schema {name} because the system requires it"),
                )
                .detail("A role's private schema is dropped with the role.")
                .into());
            }
            self.drop_schema(schema.id, drop.cascade)?;
        }
        Ok(())
    }

    fn drop_schema(&mut self, id: SchemaId, cascade: bool) -> Done<()> {
        let inside: Vec<Arc<Table>> = self
            .catalog
            .tables()
            .filter(|t| t.schema == id)
            .cloned()
            .collect();
        let schema = self.catalog.schema(id).cloned();
        let schema = schema.ok_or_else(|| Error::internal("the schema is not in the catalog"))?;
        let functions = self.catalog.routines().filter(|r| r.schema == id);
        let functions = functions.map(|r| format!("function {}", self.display_routine(r)));
        let functions: Vec<String> = functions.collect();
        let is_empty = inside.is_empty() && functions.is_empty();
        if !is_empty && !cascade {
            let depends = |what: &String| format!("{what} depends on schema {}", schema.name);
            let lines: Vec<String> = inside
                .iter()
                .map(|t| {
                    format!(
                        "{} {} depends on schema {}",
                        crate::catalog::kind(t),
                        self.display(t),
                        schema.name
                    )
                })
                .chain(functions.iter().map(depends))
                .collect();
            return Err(Error::new(
                state::DEPENDENT_OBJECTS_STILL_EXIST,
                format!(
                    "cannot drop schema {} because other objects depend on it",
                    schema.name
                ),
            )
            .detail(lines.join("\n"))
            .hint("Use DROP ... CASCADE to drop the dependent objects too.")
            .into());
        }
        let ids: Vec<TableId> = inside.iter().map(|t| t.id).collect();
        for table in &inside {
            self.ground.lock(table, TableMode::AccessExclusive)?;
        }
        let lines: Vec<String> = inside
            .iter()
            .map(|t| {
                format!(
                    "drop cascades to {} {}",
                    crate::catalog::kind(t),
                    self.display(t)
                )
            })
            .chain(functions.iter().map(|f| format!("drop cascades to {f}")))
            .collect();
        match lines.as_slice() {
            [] => {}
            [one] => self.notice(Error::new(state::SUCCESSFUL_COMPLETION, one.clone())),
            many => self.notice(
                Error::new(
                    state::SUCCESSFUL_COMPLETION,
                    format!("drop cascades to {} other objects", many.len()),
                )
                .detail(many.join("\n")),
            ),
        }
        self.drop_all(&ids, true)?;
        self.drop_routines_in(id)?;
        let group = self.ground.group_for(schema.owner)?;
        self.change(Change::drop(group, Object::Schema(schema)));
        Ok(())
    }
}

/// The word for a kind of object in errors.
pub(super) fn kind_word(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Table => "table",
        ObjectKind::View => "view",
        ObjectKind::MaterializedView => "materialized view",
        ObjectKind::Index => "index",
        ObjectKind::Sequence => "sequence",
        ObjectKind::Schema => "schema",
        ObjectKind::Role => "role",
        ObjectKind::Database => "database",
        ObjectKind::Column => "column",
        ObjectKind::Constraint => "constraint",
        ObjectKind::Function => "function",
        ObjectKind::Type => "type",
        ObjectKind::Domain => "domain",
        ObjectKind::Extension => "extension",
        ObjectKind::Language => "language",
        ObjectKind::Trigger => "trigger",
        ObjectKind::Policy => "policy",
        ObjectKind::Collation => "collation",
        ObjectKind::Tablespace => "tablespace",
    }
}

/// The last part of a name.
pub(super) fn last_part(name: &ObjectName) -> Result<String> {
    Ok(parts(name)?.pop().unwrap_or_default())
}
