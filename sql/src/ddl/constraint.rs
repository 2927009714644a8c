//! Constraints: CHECK, PRIMARY KEY, UNIQUE and FOREIGN KEY, on new and on existing tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sqlparser::ast::ObjectName;

use super::draft::{Done, Draft, Use, Work};
use super::expression::columns_in;
use super::name::{compose, no_column};
use super::wanted::{Timing, Wanted, WantedForeign, WantedKey};
use crate::catalog::{
    ColumnId, Constraint, ForeignKey, Index, IndexColumn, IndexKey, IndexState, Key, Privilege,
    Relation, RoleId, Table, TableId,
};
use crate::integrity::Wanted as WantedReference;
use crate::transaction::TableMode;
use crate::{Error, Result, state};

impl Draft<'_> {
    /// Adds constraints in PostgreSQL's order: checks, primary key, other keys, foreign keys.
    /// `fresh`: the table has no rows, so nothing is validated or built.
    pub fn add_constraints(
        &mut self,
        id: TableId,
        mut wanted: Vec<Wanted>,
        fresh: bool,
    ) -> Done<()> {
        wanted.sort_by_key(Wanted::rank);
        for constraint in wanted {
            match constraint {
                Wanted::CheckExpr {
                    name,
                    column,
                    expr,
                    no_inherit,
                    valid,
                } => {
                    let expression = self.stored(&expr)?;
                    self.add_check(id, name, column, expression, (no_inherit, valid), fresh)?;
                }
                Wanted::Check {
                    name,
                    column,
                    expression,
                    comment,
                } => {
                    let added =
                        self.add_check(id, name, column, expression, (false, true), fresh)?;
                    self.edit_table(id, |t| {
                        if let Some(c) = t.constraints.iter_mut().find(|c| c.id() == added) {
                            c.set_comment(comment);
                        }
                    })?;
                }
                Wanted::Key(key) => self.add_key(id, key, fresh)?,
                Wanted::Copy { index, constraint } => self.add_copy(id, index, constraint)?,
                Wanted::Foreign(key) => self.add_foreign(id, key, fresh)?,
                Wanted::UsingIndex {
                    name,
                    index,
                    primary,
                    timing,
                } => {
                    self.add_using_index(id, name, &index, primary, timing)?;
                }
            }
        }
        Ok(())
    }

    fn add_check(
        &mut self,
        id: TableId,
        name: Option<String>,
        column: Option<String>,
        expression: String,
        (no_inherit, valid): (bool, bool),
        fresh: bool,
    ) -> Done<u32> {
        let table = self.table(id)?;
        let catalog = Arc::clone(&self.catalog);
        self.ground
            .check_expression(&catalog, &table, &expression, None, Use::Check)?;
        let name = match name {
            Some(name) => {
                if fresh && table.constraints.iter().any(|c| c.name() == name) {
                    return Err(Error::new(
                        state::DUPLICATE_OBJECT,
                        format!("check constraint \"{name}\" already exists"),
                    )
                    .into());
                }
                constraint_free(&table, &name)?;
                name
            }
            None => {
                let used = columns_in(&table, &expression);
                let single = match used.as_slice() {
                    [one] => table.column_by_id(*one).map(|c| c.name.clone()),
                    _ => None,
                };
                constraint_name(&table, &single.or(column).unwrap_or_default(), "check")
            }
        };
        let constraint = self.oid(table.group)?;
        self.edit_table(id, |t| {
            t.constraints.push(Constraint::Check {
                id: constraint,
                name,
                expression,
                validated: valid,
                no_inherit,
                comment: None,
            });
        })?;
        if valid && !fresh {
            self.work.push(Work::CheckRows {
                table: id,
                constraint,
            });
        }
        Ok(constraint)
    }

    fn add_key(&mut self, id: TableId, key: WantedKey, fresh: bool) -> Done<()> {
        let table = self.table(id)?;
        if key.primary && table.primary_index().is_some() {
            return Err(Error::new(
                state::INVALID_TABLE_DEFINITION,
                format!(
                    "multiple primary keys for table \"{}\" are not allowed",
                    table.name
                ),
            )
            .into());
        }
        let columns = self.key_ids(&table, &key.columns)?;
        let include = self.key_ids(&table, &key.include)?;
        let name = match key.name {
            Some(name) => {
                constraint_free(&table, &name)?;
                self.must_be_free(table.schema, &name)?;
                name
            }
            None if key.primary => self.free_name(table.schema, &table.name, "", "pkey", &[]),
            None => {
                let middle = key.columns.join("_");
                self.free_name(table.schema, &table.name, &middle, "key", &[])
            }
        };
        self.reserve(table.schema, &[&name], table.owner)?;
        let index = Index {
            id: self.oid(table.group)?,
            name: name.clone(),
            tree: 0,
            columns: columns.iter().map(|c| plain(*c)).collect(),
            include,
            unique: true,
            nulls_not_distinct: key.nulls_not_distinct,
            primary: key.primary,
            predicate: None,
            state: IndexState::Ready,
            method: "btree".to_owned(),
            options: BTreeMap::new(),
            comment: None,
            clustered: false,
        };
        self.put_key(id, index, key.timing, fresh)
    }

    /// Adds the index of a key and its constraint; a primary key changes how rows are keyed.
    fn put_key(&mut self, id: TableId, mut index: Index, timing: Timing, fresh: bool) -> Done<()> {
        let table = self.table(id)?;
        let constraint = self.oid(table.group)?;
        let (index_id, name, primary) = (index.id, index.name.clone(), index.primary);
        let keyed = primary.then(|| key_of(&index));
        index.tree = match (primary, fresh) {
            (true, true) => table.tree,
            // Settled by `rekey`.
            (true, false) => 0,
            (false, _) => self.oid(table.group)?,
        };
        if let Some(columns) = &keyed
            && !fresh
        {
            for column in columns {
                let null = table.column_by_id(*column).is_some_and(|c| !c.not_null);
                if null {
                    self.work.push(Work::CheckNotNull {
                        table: id,
                        column: *column,
                    });
                }
            }
        }
        self.edit_table(id, |t| {
            for column in t.columns.iter_mut() {
                if keyed.as_ref().is_some_and(|k| k.contains(&column.id)) {
                    column.not_null = true;
                }
            }
            t.indexes.push(index);
            t.constraints.push(if primary {
                Constraint::Primary {
                    id: constraint,
                    name,
                    index: index_id,
                    comment: None,
                }
            } else {
                Constraint::Unique {
                    id: constraint,
                    name,
                    index: index_id,
                    deferrable: timing.deferrable,
                    deferred: timing.deferred,
                    comment: None,
                }
            });
        })?;
        match (keyed, fresh) {
            (Some(columns), true) => {
                self.edit_table(id, |t| t.key = Key::Primary(columns))?;
            }
            (Some(columns), false) => self.rekey(id, Key::Primary(columns))?,
            (None, true) => {}
            (None, false) => self.work.push(Work::BuildIndex {
                table: id,
                index: index_id,
            }),
        }
        Ok(())
    }

    /// Gives a table with rows another key: all rows move to a new tree, all indexes follow.
    pub fn rekey(&mut self, id: TableId, key: Key) -> Done<()> {
        let old = self.table(id)?;
        self.ground.lock(&old, TableMode::AccessExclusive)?;
        let tree = self.oid(old.group)?;
        let mut trees = Vec::new();
        for index in &old.indexes {
            let clusters = index.primary && matches!(key, Key::Primary(_));
            trees.push(if clusters { tree } else { self.oid(old.group)? });
        }
        self.edit_table(id, |t| {
            t.key = key;
            t.tree = tree;
            for (index, tree) in t.indexes.iter_mut().zip(trees) {
                index.tree = tree;
            }
        })?;
        self.rewrite(old, id, Vec::new());
        Ok(())
    }

    /// All rows move from the old descriptor's trees to the new one's, once per statement.
    pub fn rewrite(&mut self, old: Arc<Table>, id: TableId, using: Vec<(ColumnId, String)>) {
        let earlier = self.work.iter_mut().find_map(|w| match w {
            Work::Rewrite { old, table, using } if *table == id => Some((old, using)),
            _ => None,
        });
        if let Some((_, all)) = earlier {
            all.extend(using);
            return;
        }
        // Indexes to be built anyway are built by the rewrite.
        self.work
            .retain(|w| !matches!(w, Work::BuildIndex { table, .. } if *table == id));
        self.work.push(Work::Rewrite {
            old,
            table: id,
            using,
        });
    }

    fn add_copy(&mut self, id: TableId, index: Index, constraint: bool) -> Done<()> {
        let table = self.table(id)?;
        let words: Vec<String> = index
            .columns
            .iter()
            .map(|c| match &c.what {
                IndexKey::Column(id) => table
                    .column_by_id(*id)
                    .map_or_else(String::new, |c| c.name.clone()),
                IndexKey::Expression(_) => "expr".to_owned(),
            })
            .collect();
        let middle = words.join("_");
        let name = match (index.primary, constraint) {
            (true, _) => self.free_name(table.schema, &table.name, "", "pkey", &[]),
            (false, true) => self.free_name(table.schema, &table.name, &middle, "key", &[]),
            (false, false) => self.free_name(table.schema, &table.name, &middle, "idx", &[]),
        };
        self.reserve(table.schema, &[&name], table.owner)?;
        let index = Index {
            id: self.oid(table.group)?,
            name,
            tree: 0,
            state: IndexState::Ready,
            clustered: false,
            ..index
        };
        if constraint {
            return self.put_key(id, index, Timing::default(), true);
        }
        let tree = self.oid(table.group)?;
        self.edit_table(id, |t| t.indexes.push(Index { tree, ..index }))?;
        Ok(())
    }

    fn add_using_index(
        &mut self,
        id: TableId,
        name: Option<String>,
        index: &str,
        primary: bool,
        timing: Timing,
    ) -> Done<()> {
        let table = self.table(id)?;
        let Some(found) = table.indexes.iter().find(|i| i.name == index) else {
            return Err(Error::new(
                state::UNDEFINED_OBJECT,
                format!("index \"{index}\" does not exist"),
            )
            .into());
        };
        let fits = found.unique
            && found.predicate.is_none()
            && found
                .columns
                .iter()
                .all(|c| matches!(c.what, IndexKey::Column(_)));
        if !fits {
            return Err(Error::new(
                state::WRONG_OBJECT_TYPE,
                format!("\"{index}\" is not a unique index over plain columns"),
            )
            .into());
        }
        if table
            .constraints
            .iter()
            .any(|c| c.index() == Some(found.id))
        {
            return Err(Error::new(
                state::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("index \"{index}\" is already associated with a constraint"),
            )
            .into());
        }
        let mut taken = found.clone();
        taken.primary = primary;
        if let Some(name) = name {
            taken.name = name;
        }
        if !primary {
            let constraint = self.oid(table.group)?;
            self.edit_table(id, |t| {
                t.constraints.push(Constraint::Unique {
                    id: constraint,
                    name: taken.name.clone(),
                    index: taken.id,
                    deferrable: timing.deferrable,
                    deferred: timing.deferred,
                    comment: None,
                });
                if let Some(i) = t.indexes.iter_mut().find(|i| i.id == taken.id) {
                    *i = taken;
                }
            })?;
            return Ok(());
        }
        if table.primary_index().is_some() {
            return Err(Error::new(
                state::INVALID_TABLE_DEFINITION,
                format!(
                    "multiple primary keys for table \"{}\" are not allowed",
                    table.name
                ),
            )
            .into());
        }
        self.edit_table(id, |t| t.indexes.retain(|i| i.id != taken.id))?;
        self.put_key(id, taken, timing, false)
    }

    fn key_ids(&self, table: &Table, names: &[String]) -> Result<Vec<ColumnId>> {
        let mut seen = BTreeSet::new();
        names
            .iter()
            .map(|name| {
                if !seen.insert(name) {
                    return Err(Error::new(
                        state::DUPLICATE_COLUMN,
                        format!("column \"{name}\" appears twice in unique constraint"),
                    ));
                }
                table.column(name).map(|c| c.id).ok_or_else(|| {
                    Error::new(
                        state::UNDEFINED_COLUMN,
                        format!("column \"{name}\" named in key does not exist"),
                    )
                })
            })
            .collect()
    }

    fn add_foreign(&mut self, id: TableId, key: WantedForeign, fresh: bool) -> Done<()> {
        let table = self.table(id)?;
        let parent = self.referenced(&key.table, table.owner)?;
        super::event::check_parent(&table, &parent)?;
        let elsewhere = parent.owner != table.owner;
        let itself = fresh && parent.id == id;
        if !(elsewhere || itself) {
            self.ground.lock(&parent, TableMode::ShareRowExclusive)?;
        }
        let mut columns = Vec::new();
        for name in &key.columns {
            let column = table.column(name).ok_or_else(|| {
                Error::new(
                    state::UNDEFINED_COLUMN,
                    format!(
                        "column \"{name}\" referenced in foreign key constraint does not exist"
                    ),
                )
            })?;
            columns.push(column.id);
        }
        let (referred, index) = referred(&parent, &key)?;
        if referred.len() != columns.len() {
            return Err(Error::new(
                state::INVALID_FOREIGN_KEY,
                "number of referencing and referenced columns for foreign key disagree",
            )
            .into());
        }
        let name = match &key.name {
            Some(name) => {
                constraint_free(&table, name)?;
                name.clone()
            }
            None => constraint_name(&table, &key.columns.join("_"), "fkey"),
        };
        let set_columns = set_columns(&table, &key, &columns)?;
        comparable(&table, &columns, &parent, &referred, &name)?;
        if elsewhere {
            super::registered::alike(&table, &columns, &parent, &referred, &name)?;
        }
        let may = Privilege::References;
        let constraint = match elsewhere {
            false => {
                self.catalog.may(self.role, &parent, may, Some(&referred))?;
                self.oid(table.group)?
            }
            true if parent.is_filling() => {
                self.catalog
                    .may(table.owner, &parent, may, Some(&referred))?;
                return Err(crate::catalog::unfilled(&parent).into());
            }
            true => {
                // Its owner's consent is for the owner of this one, whoever acts for it.
                self.catalog
                    .may(table.owner, &parent, may, Some(&referred))?;
                let actions = [key.on_delete, key.on_update];
                self.check_circle(&table, &parent, &columns, actions)?;
                self.ground.reference(&WantedReference {
                    home: table.group,
                    table: self.display(&table),
                    name: &name,
                    parent: &parent,
                    columns: &referred,
                    index,
                })?
            }
        };
        if elsewhere {
            self.index_reference(id, &columns, fresh)?;
        }
        let foreign = ForeignKey {
            id: constraint,
            name,
            columns,
            references: parent.id,
            referenced_columns: referred,
            referenced_index: index,
            on_delete: key.on_delete,
            on_update: key.on_update,
            set_columns,
            full: key.full,
            deferrable: key.timing.deferrable,
            deferred: key.timing.deferred,
            validated: key.valid,
            comment: None,
        };
        self.edit_table(id, |t| t.constraints.push(Constraint::Foreign(foreign)))?;
        if !elsewhere {
            self.edit_table(parent.id, |t| t.referenced_by.push((id, constraint)))?;
        }
        if key.valid && !fresh {
            self.work.push(Work::CheckForeign {
                table: id,
                constraint,
            });
        }
        Ok(())
    }

    /// The table that a foreign key names: an ordinary one, or another owner's projection.
    fn referenced(&mut self, name: &ObjectName, owner: RoleId) -> Result<Arc<Table>> {
        let parent = match self.relation(name)? {
            Relation::Table(parent) => parent,
            Relation::Index(parent, at) => {
                return Err(not_a_table(&parent.indexes[at].name));
            }
        };
        let projected = parent.projection.is_some() && parent.owner != owner;
        if !(parent.is_ordinary() || projected) {
            return Err(not_a_table(&parent.name));
        }
        Ok(parent)
    }
}

fn not_a_table(name: &str) -> Error {
    Error::new(
        state::WRONG_OBJECT_TYPE,
        format!("referenced relation \"{name}\" is not a table"),
    )
}

/// The referenced columns and the unique index that proves them.
fn referred(parent: &Table, key: &WantedForeign) -> Result<(Vec<ColumnId>, u32)> {
    if key.referred.is_empty() {
        let index = parent.primary_index().ok_or_else(|| {
            Error::new(
                state::UNDEFINED_OBJECT,
                format!(
                    "there is no primary key for referenced table \"{}\"",
                    parent.name
                ),
            )
        })?;
        return Ok((key_of(index), index.id));
    }
    let mut columns = Vec::new();
    for name in &key.referred {
        let column = parent.column(name).ok_or_else(|| no_column_in_key(name))?;
        if columns.contains(&column.id) {
            return Err(Error::new(
                state::INVALID_FOREIGN_KEY,
                "foreign key referenced-columns list must not contain duplicates",
            ));
        }
        columns.push(column.id);
    }
    let wanted: BTreeSet<ColumnId> = columns.iter().copied().collect();
    let fits = |i: &&Index| {
        i.unique
            && i.predicate.is_none()
            && i.columns.len() == columns.len()
            && key_of(i).into_iter().collect::<BTreeSet<_>>() == wanted
            && key_of(i).len() == columns.len()
    };
    let index = parent.indexes.iter().find(fits).ok_or_else(|| {
        Error::new(
            state::INVALID_FOREIGN_KEY,
            format!(
                "there is no unique constraint matching given keys for referenced table \"{}\"",
                parent.name
            ),
        )
    })?;
    Ok((columns, index.id))
}

/// The columns of ON DELETE SET ... (columns), each once.
fn set_columns(table: &Table, key: &WantedForeign, own: &[ColumnId]) -> Result<Vec<ColumnId>> {
    let mut set = Vec::new();
    for name in &key.set {
        let column = table.column(name).ok_or_else(|| no_column_in_key(name))?;
        if !own.contains(&column.id) {
            return Err(Error::new(
                state::INVALID_COLUMN_REFERENCE,
                format!(
                    "column \"{name}\" referenced in ON DELETE SET action must be part of foreign key"
                ),
            ));
        }
        if !set.contains(&column.id) {
            set.push(column.id);
        }
    }
    Ok(set)
}

fn no_column_in_key(name: &str) -> Error {
    Error::new(
        state::UNDEFINED_COLUMN,
        format!("column \"{name}\" referenced in foreign key constraint does not exist"),
    )
}

/// Can the columns be compared with `=`?
fn comparable(
    table: &Table,
    columns: &[ColumnId],
    parent: &Table,
    referred: &[ColumnId],
    name: &str,
) -> Result<()> {
    for (from, to) in columns.iter().zip(referred) {
        let (Some(from), Some(to)) = (table.column_by_id(*from), parent.column_by_id(*to)) else {
            return Err(Error::internal("a key column is missing"));
        };
        let same = from.ty.oid == to.ty.oid
            || from.ty.is_string() && to.ty.is_string()
            || from.ty.is_number() && to.ty.is_number()
            || from.ty.category() == b'D' && to.ty.category() == b'D';
        if !same {
            return Err(Error::new(
                state::DATATYPE_MISMATCH,
                format!("foreign key constraint \"{name}\" cannot be implemented"),
            )
            .detail(format!(
                "Key columns \"{}\" and \"{}\" are of incompatible types: {} and {}.",
                from.name,
                to.name,
                from.ty.name(),
                to.ty.name()
            )));
        }
    }
    Ok(())
}

/// A key column without decoration.
pub(super) fn plain(column: ColumnId) -> IndexColumn {
    IndexColumn {
        what: IndexKey::Column(column),
        descending: false,
        nulls_first: false,
        class: None,
    }
}

/// The plain columns of an index.
pub(super) fn key_of(index: &Index) -> Vec<ColumnId> {
    index
        .columns
        .iter()
        .filter_map(|c| match c.what {
            IndexKey::Column(id) => Some(id),
            IndexKey::Expression(_) => None,
        })
        .collect()
}

/// 42710 if the table has a constraint of that name.
pub(super) fn constraint_free(table: &Table, name: &str) -> Result<()> {
    if table.constraints.iter().any(|c| c.name() == name) {
        return Err(Error::new(
            state::DUPLICATE_OBJECT,
            format!(
                "constraint \"{name}\" for relation \"{}\" already exists",
                table.name
            ),
        ));
    }
    Ok(())
}

fn constraint_name(table: &Table, column: &str, label: &str) -> String {
    let mut name = compose(&table.name, column, label);
    let mut n = 0u32;
    while table.constraints.iter().any(|c| c.name() == name) {
        n += 1;
        name = compose(&table.name, column, &format!("{label}{n}"));
    }
    name
}

/// A column by name, or 42703.
pub(super) fn column_named<'t>(table: &'t Table, name: &str) -> Result<&'t crate::catalog::Column> {
    table.column(name).ok_or_else(|| no_column(table, name))
}
