//! CREATE VIEW: the query is kept as text with qualified names; what it reads is recorded.

use std::collections::BTreeMap;

use sqlparser::ast;
use storage::Position;

use super::create_table::new_column;
use super::draft::{Done, Draft};
use super::name::{Target, ident};
use crate::catalog::{Key, Relation, Table, TableId, TableKind, View};
use crate::transaction::TableMode;
use crate::types::Type;
use crate::types::kind::oid;
use crate::{Error, Result, state};

impl Draft<'_> {
    pub fn create_view(&mut self, create: &ast::CreateView) -> Done<()> {
        if create.temporary {
            return Err(Error::unsupported("a temporary view").into());
        }
        let target = self.target(&create.name)?;
        let existing = self.catalog.relation_by_name(target.schema, &target.name);
        let replaced = match existing {
            Some(Relation::Table(view))
                if create.or_replace && matches!(view.kind, TableKind::View(_)) =>
            {
                self.catalog.must_own(self.role, &view)?;
                Some(view)
            }
            Some(other) if create.or_replace => {
                return Err(Error::new(
                    state::WRONG_OBJECT_TYPE,
                    format!("\"{}\" is not a view", other.name()),
                )
                .into());
            }
            Some(_) => {
                self.must_be_free(target.schema, &target.name)?;
                None
            }
            None => None,
        };
        let described = self.ground.describe_query(&self.catalog, &create.query)?;
        if described.routines {
            return Err(Error::unsupported("a user's function in a view").into());
        }
        if create.columns.len() > described.columns.len() {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                "CREATE VIEW specifies more column names than columns",
            )
            .into());
        }
        let definition = self.stored_query(&create.query)?;
        let id = match &replaced {
            Some(view) => view.id,
            None => TableId(self.oid(target.group)?),
        };
        let mut view = empty_view(&target, id, definition);
        for (at, (name, ty)) in described.columns.into_iter().enumerate() {
            let name = create.columns.get(at).map_or(name, |c| ident(&c.name));
            let ty = if ty.oid == oid::UNKNOWN {
                Type::TEXT
            } else {
                ty
            };
            let column = new_column(&view, name, ty)?;
            view.columns.push(column);
        }
        view.depends_on = self.reads_of(&create.query)?;
        view.options = self.view_options(&create.options)?;
        match replaced {
            None => {
                self.reserve(target.schema, &[&target.name], target.owner)?;
                self.create_table(view)?;
            }
            Some(old) => {
                self.ground.lock(&old, TableMode::AccessExclusive)?;
                check_replacement(&old, &view)?;
                view.acl.clone_from(&old.acl);
                view.comment.clone_from(&old.comment);
                for (new, old) in view.columns.iter_mut().zip(&old.columns) {
                    new.comment.clone_from(&old.comment);
                    new.default.clone_from(&old.default);
                    new.acl.clone_from(&old.acl);
                }
                self.replace_table(view)?;
            }
        }
        Ok(())
    }

    fn view_options(&self, options: &ast::CreateTableOptions) -> Result<BTreeMap<String, String>> {
        let list = match options {
            ast::CreateTableOptions::With(list) => list,
            _ => return Ok(BTreeMap::new()),
        };
        let mut out = BTreeMap::new();
        for option in list {
            let (key, value) = match option {
                ast::SqlOption::KeyValue { key, value } => (ident(key), value.to_string()),
                ast::SqlOption::Ident(key) => (ident(key), "true".to_owned()),
                other => (other.to_string(), String::new()),
            };
            match key.as_str() {
                "security_barrier" | "security_invoker" => out.insert(key, value),
                _ => {
                    return Err(Error::new(
                        state::INVALID_PARAMETER_VALUE,
                        format!("unrecognized parameter \"{key}\""),
                    ));
                }
            };
        }
        Ok(out)
    }
}

fn empty_view(target: &Target, id: TableId, definition: String) -> Table {
    Table {
        id,
        owner: target.owner,
        group: target.group,
        schema: target.schema,
        name: target.name.clone(),
        kind: TableKind::View(View { definition }),
        tree: 0,
        key: Key::RowId,
        columns: Vec::new(),
        indexes: Vec::new(),
        constraints: Vec::new(),
        referenced_by: Vec::new(),
        registered: Vec::new(),
        acl: None,
        options: BTreeMap::new(),
        comment: None,
        depends_on: Vec::new(),
        projection: None,
        history: None,
        former: Vec::new(),
        moving: None,
        since: Position::ZERO,
    }
}

/// OR REPLACE may only add columns at the end.
fn check_replacement(old: &Table, new: &Table) -> Result<()> {
    let invalid = |message: String| Err(Error::new(state::INVALID_TABLE_DEFINITION, message));
    if new.columns.len() < old.columns.len() {
        return invalid("cannot drop columns from view".to_owned());
    }
    for (old, new) in old.columns.iter().zip(&new.columns) {
        if old.name != new.name {
            return invalid(format!(
                "cannot change name of view column \"{}\" to \"{}\"",
                old.name, new.name
            ))
            .map_err(|e: Error| {
                e.hint(
                    "Use ALTER VIEW ... RENAME COLUMN ... to change name of view column instead.",
                )
            });
        }
        if old.ty != new.ty {
            return invalid(format!(
                "cannot change data type of view column \"{}\" from {} to {}",
                old.name,
                old.ty.name(),
                new.ty.name()
            ));
        }
    }
    Ok(())
}
