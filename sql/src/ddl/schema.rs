//! CREATE and ALTER SCHEMA.

use std::sync::Arc;

use sqlparser::ast::{self, ObjectName, SchemaName};

use super::draft::{Done, Draft};
use super::name::{ident, parts, shown};
use crate::catalog::{Change, Object, Schema, SchemaId};
use crate::parse::RoleName;
use crate::{Error, Result, state};

impl Draft<'_> {
    pub fn create_schema(&mut self, name: &SchemaName, if_not_exists: bool) -> Done<()> {
        let (name, owner) = match name {
            SchemaName::Simple(name) => (shown(&parts(name)?), self.role),
            SchemaName::UnnamedAuthorization(role) => {
                let role = self.authorization(role)?;
                (self.catalog.role_name(role), role)
            }
            SchemaName::NamedAuthorization(name, role) => {
                (shown(&parts(name)?), self.authorization(role)?)
            }
        };
        if !self.catalog.is_member(self.role, owner) {
            let owner = self.catalog.role_name(owner);
            return Err(Error::new(
                state::INSUFFICIENT_PRIVILEGE,
                format!("must be member of role \"{owner}\""),
            )
            .into());
        }
        if name.starts_with("pg_") {
            return Err(Error::new(
                state::RESERVED_NAME,
                format!("unacceptable schema name \"{name}\""),
            )
            .detail("The prefix \"pg_\" is reserved for system schemas.")
            .into());
        }
        if let Some(found) = self.catalog.schema_by_name(&name) {
            let message = format!("schema \"{name}\" already exists");
            if if_not_exists || found.owner == owner && self.private(found) {
                self.notice(Error::new(
                    state::DUPLICATE_SCHEMA,
                    format!("{message}, skipping"),
                ));
                return Ok(());
            }
            return Err(Error::new(state::DUPLICATE_SCHEMA, message).into());
        }
        self.ground.reserve(&[(SchemaId(0), name.clone())], owner)?;
        let group = self.ground.group_for(owner)?;
        let id = SchemaId(self.oid(group)?);
        let schema = Schema {
            id,
            name,
            owner,
            acl: None,
            comment: None,
        };
        self.change(Change::create(group, Object::Schema(Arc::new(schema))));
        Ok(())
    }

    /// A role's own schema: migrations that begin with `CREATE SCHEMA x` find it made.
    fn private(&self, schema: &Schema) -> bool {
        self.catalog
            .role(schema.owner)
            .is_some_and(|r| r.schema == schema.id)
    }

    fn authorization(&self, role: &ast::Ident) -> Result<crate::catalog::RoleId> {
        let name = ident(role);
        if role.quote_style.is_none() {
            match name.as_str() {
                "current_user" | "current_role" => return Ok(self.role),
                "session_user" => return Ok(self.login),
                _ => {}
            }
        }
        self.role_named(&RoleName::Name(name))
    }

    /// 42501 unless the role acts for the schema's owner.
    pub fn own_schema(&self, schema: &Schema) -> Result<()> {
        let system = schema.id == SchemaId::PG_CATALOG
            || schema.id == SchemaId::INFORMATION
            || schema.id == SchemaId::FREEHOLD;
        if !system && self.catalog.has_role(self.role, schema.owner) {
            return Ok(());
        }
        Err(Error::new(
            state::INSUFFICIENT_PRIVILEGE,
            format!("must be owner of schema {}", schema.name),
        ))
    }

    pub fn rename_schema(&mut self, name: &ObjectName, new: &str) -> Done<()> {
        let schema = self.schema_named(&shown(&parts(name)?))?;
        self.own_schema(&schema)?;
        if self.private(&schema) || schema.id.0 < crate::catalog::directory::FIRST_OID {
            return Err(Error::unsupported("renaming a role's private schema")
                .hint("It is renamed with the role.")
                .into());
        }
        if self.catalog.schema_by_name(new).is_some() {
            return Err(Error::new(
                state::DUPLICATE_SCHEMA,
                format!("schema \"{new}\" already exists"),
            )
            .into());
        }
        let views = self.catalog.tables().any(|t| {
            t.depends_on.iter().any(|(on, _)| {
                self.catalog
                    .table(*on)
                    .is_some_and(|t| t.schema == schema.id)
            })
        });
        if views {
            return Err(Error::unsupported("renaming a schema whose relations views use").into());
        }
        self.ground
            .reserve(&[(SchemaId(0), new.to_owned())], schema.owner)?;
        self.edit_schema(&schema, |s| new.clone_into(&mut s.name))
    }

    /// Writes a schema's descriptor into its owner's group.
    pub fn edit_schema(
        &mut self,
        schema: &Arc<Schema>,
        edit: impl FnOnce(&mut Schema),
    ) -> Done<()> {
        let group = self.ground.group_for(schema.owner)?;
        let mut new = Schema::clone(schema);
        edit(&mut new);
        if new != **schema {
            self.change(Change::replace(
                group,
                Object::Schema(Arc::clone(schema)),
                Object::Schema(Arc::new(new)),
            ));
        }
        Ok(())
    }
}
