//! Names in DDL: what an object name stands for, where a new object goes, and whose it will be.

use std::sync::Arc;

use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};
use storage::GroupId;

use super::draft::{Done, Draft};
use crate::catalog::{Relation, RoleId, Schema, SchemaId, Table, TableKind};
use crate::parse::{RoleName, fold};
use crate::{Error, Result, state};

/// Bytes of an identifier, as in PostgreSQL (`NAMEDATALEN` - 1).
pub(super) const NAME_MAX: usize = 63;

/// An identifier as it is stored: folded unless quoted, cut to [`NAME_MAX`] bytes.
pub(super) fn ident(ident: &Ident) -> String {
    clip(fold(ident))
}

/// Cuts a name to [`NAME_MAX`] bytes at a character's boundary.
pub(super) fn clip(mut name: String) -> String {
    if name.len() > NAME_MAX {
        let mut end = NAME_MAX;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
    }
    name
}

/// The parts of an object name.
pub(super) fn parts(name: &ObjectName) -> Result<Vec<String>> {
    name.0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(i) => Ok(ident(i)),
            ObjectNamePart::Function(_) => Err(Error::new(
                state::SYNTAX_ERROR,
                "a function call is no name",
            )),
        })
        .collect()
}

/// A name as errors show it.
pub(super) fn shown(name: &[String]) -> String {
    name.join(".")
}

/// Makes a name out of parts that fits, as PostgreSQL's `makeObjectName`: the longer of the first
/// two parts is shortened first.
pub(super) fn compose(name1: &str, name2: &str, label: &str) -> String {
    let overhead = label.len() + 1 + usize::from(!name2.is_empty());
    let room = NAME_MAX.saturating_sub(overhead);
    let (mut one, mut two) = (name1.len(), name2.len());
    while one + two > room {
        if one > two { one -= 1 } else { two -= 1 }
    }
    let cut = |s: &str, mut n: usize| {
        while !s.is_char_boundary(n) {
            n -= 1;
        }
        s[..n].to_owned()
    };
    let mut out = cut(name1, one);
    if !name2.is_empty() {
        out.push('_');
        out.push_str(&cut(name2, two));
    }
    out.push('_');
    out.push_str(label);
    out
}

/// Where a new relation goes and whose it is.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub schema: SchemaId,
    pub name: String,
    pub owner: RoleId,
    pub group: GroupId,
}

impl Draft<'_> {
    /// The role that a statement names.
    pub fn role_named(&self, name: &RoleName) -> Result<RoleId> {
        match name {
            RoleName::Name(name) => Ok(self.catalog.find_role(name)?.id),
            RoleName::CurrentUser => Ok(self.role),
            RoleName::SessionUser => Ok(self.login),
            RoleName::Public => Err(Error::new(
                state::UNDEFINED_OBJECT,
                "role \"public\" does not exist",
            )),
        }
    }

    /// The same for grantees, where PUBLIC is everybody.
    pub fn grantee(&self, name: &RoleName) -> Result<RoleId> {
        match name {
            RoleName::Public => Ok(RoleId::PUBLIC),
            other => self.role_named(other),
        }
    }

    /// A schema by name; 3F000 if there is none or the role may not see it.
    pub fn schema_named(&self, name: &str) -> Result<Arc<Schema>> {
        self.catalog
            .schema_by_name(name)
            .filter(|s| self.catalog.sees_schema(self.role, s))
            .cloned()
            .ok_or_else(|| {
                Error::new(
                    state::INVALID_SCHEMA_NAME,
                    format!("schema \"{name}\" does not exist"),
                )
            })
    }

    /// Schema, name and owner of a new relation: in a private schema it belongs to the schema's
    /// owner, in `public` to the current role.
    pub fn target(&mut self, name: &ObjectName) -> Done<Target> {
        let parts = parts(name)?;
        let (schema, name) = match parts.as_slice() {
            [name] => (self.creation_schema()?, name.clone()),
            [schema, name] => (self.schema_named(schema)?, name.clone()),
            [_, schema, name] => (self.schema_named(schema)?, name.clone()),
            _ => {
                return Err(Error::new(
                    state::SYNTAX_ERROR,
                    format!(
                        "improper qualified name (too many dotted names): {}",
                        shown(&parts)
                    ),
                )
                .into());
            }
        };
        let owner = self.creator(&schema)?;
        let group = self.ground.group_for(owner)?;
        Ok(Target {
            schema: schema.id,
            name,
            owner,
            group,
        })
    }

    fn creation_schema(&self) -> Result<Arc<Schema>> {
        let implicit = self.path.first() == Some(&SchemaId::PG_CATALOG);
        let first = self.path.get(usize::from(implicit)).or_else(|| {
            // `SET search_path = pg_catalog` alone: refused below as a system schema.
            self.path.first().filter(|_| false)
        });
        first
            .and_then(|id| self.catalog.schema(*id))
            .cloned()
            .ok_or_else(|| {
                Error::new(
                    state::INVALID_SCHEMA_NAME,
                    "no schema has been selected to create in",
                )
            })
    }

    /// Who will own an object made in the schema, or 42501.
    pub fn creator(&self, schema: &Schema) -> Result<RoleId> {
        let denied = || {
            Error::new(
                state::INSUFFICIENT_PRIVILEGE,
                format!("permission denied for schema {}", schema.name),
            )
        };
        match schema.id {
            SchemaId::PUBLIC => {
                let own = self.catalog.schema_privileges(self.role, schema);
                if own.has(crate::catalog::Privilege::Create) {
                    Ok(self.role)
                } else {
                    Err(denied())
                }
            }
            SchemaId::PG_CATALOG | SchemaId::INFORMATION | SchemaId::FREEHOLD => Err(denied()),
            _ if self.catalog.has_role(self.role, schema.owner) => Ok(schema.owner),
            _ => {
                let owner = self.catalog.role_name(schema.owner);
                Err(denied().detail(format!("The schema belongs to \"{owner}\".")))
            }
        }
    }

    /// 42P07 if the name is taken, whoever may see the one who has it.
    pub fn must_be_free(&self, schema: SchemaId, name: &str) -> Result<()> {
        if self.catalog.relation_by_name(schema, name).is_some() {
            return Err(Error::new(
                state::DUPLICATE_TABLE,
                format!("relation \"{name}\" already exists"),
            ));
        }
        Ok(())
    }

    /// A name that is free in the schema: `base`, or `base` with a number behind it.
    pub fn free_name(
        &self,
        schema: SchemaId,
        name1: &str,
        name2: &str,
        label: &str,
        taken: &[String],
    ) -> String {
        let mut name = compose(name1, name2, label);
        let mut n = 0u32;
        while self.catalog.relation_by_name(schema, &name).is_some() || taken.contains(&name) {
            n += 1;
            name = compose(name1, name2, &format!("{label}{n}"));
        }
        name
    }

    /// Two transactions that take one name wait for each other. Names in `public` are reserved in
    /// the directory before the commit that uses them.
    pub fn reserve(&mut self, schema: SchemaId, names: &[&str], owner: RoleId) -> Done<()> {
        if let Some(group) = self.catalog.group_of(owner) {
            for name in names {
                self.ground.lock_name(group, schema, name)?;
            }
        }
        if schema != SchemaId::PUBLIC || names.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = names.iter().map(|n| (schema, (*n).to_owned())).collect();
        self.ground.reserve(&names, owner)?;
        self.reserved = Some((names, owner));
        Ok(())
    }

    /// A relation of any kind.
    pub fn relation(&self, name: &ObjectName) -> Result<Relation> {
        let parts = parts(name)?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.catalog.resolve(&parts, &self.path, self.role)
    }

    /// A relation of any kind, or nothing.
    pub fn find(&self, name: &ObjectName) -> Result<Option<Relation>> {
        let parts = parts(name)?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.catalog.lookup(&parts, &self.path, self.role)
    }

    /// An ordinary table that the role acts for: 42P01, 42501 or 42809 otherwise.
    pub fn own_table(&self, name: &ObjectName) -> Result<Arc<Table>> {
        let table = self.own_relation(name)?;
        if table.kind == TableKind::Table {
            return Ok(table);
        }
        Err(Error::new(
            state::WRONG_OBJECT_TYPE,
            format!("\"{}\" is not a table", table.name),
        ))
    }

    /// Whether ALTER TABLE IF EXISTS has something to alter; a notice if not.
    pub fn is_there(&mut self, name: &ObjectName) -> Result<bool> {
        let there = self.find(name)?.is_some();
        if !there {
            self.skip_missing(name)?;
        }
        Ok(there)
    }

    /// A table, view or sequence that the role acts for.
    pub fn own_relation(&self, name: &ObjectName) -> Result<Arc<Table>> {
        match self.relation(name)? {
            Relation::Table(table) => {
                self.catalog.must_own(self.role, &table)?;
                Ok(table)
            }
            Relation::Index(table, at) => {
                self.catalog.must_own(self.role, &table)?;
                Err(Error::new(
                    state::WRONG_OBJECT_TYPE,
                    format!("\"{}\" is not a table", table.indexes[at].name),
                ))
            }
        }
    }
}

/// `column "x" of relation "t" does not exist` (42703).
pub(super) fn no_column(table: &Table, column: &str) -> Error {
    Error::new(
        state::UNDEFINED_COLUMN,
        format!(
            "column \"{column}\" of relation \"{}\" does not exist",
            table.name
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composed_names_fit() {
        assert_eq!(compose("orders", "", "pkey"), "orders_pkey");
        assert_eq!(compose("orders", "id", "key"), "orders_id_key");
        let long = compose(&"t".repeat(60), &"c".repeat(40), "key");
        assert_eq!(long.len(), NAME_MAX);
        assert!(long.ends_with("_key"));
        assert_eq!(clip("ä".repeat(40)).len(), 62);
    }
}
