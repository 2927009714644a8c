//! Carrying out what changes the catalog: statements are decided over a draft of the catalog,
//! then written with their work on rows into the transaction.

mod alter_table;
mod build;
mod constraint;
mod contract;
mod create_table;
mod draft;
mod drop;
mod event;
mod expression;
mod follow;
mod function;
mod grant;
mod inbox;
mod index;
mod misc;
mod name;
mod projection;
mod registered;
mod role;
mod routine;
mod rows;
mod run;
mod schema;
mod script;
mod sequence;
#[cfg(test)]
pub(crate) mod tests;
mod trigger;
mod truncate;
mod view;
mod wanted;

pub(crate) use build::Progress;
use draft::{Done, Draft};
pub(crate) use expression::{columns_in, parse_query, quote, relations_in, split_name};
pub(crate) use projection::written_through;
pub use run::execute;
pub use script::catalog_of;
use sqlparser::ast;

use crate::Error;
use crate::parse::{Ddl, RoutineKind};
use crate::transaction::TableMode;

impl Draft<'_> {
    /// Decides a statement; answers its command tag.
    fn decide(&mut self, ddl: &Ddl) -> Done<&'static str> {
        let tag = self.decide_part(ddl)?;
        self.check_contracts()?;
        Ok(tag)
    }

    fn decide_part(&mut self, ddl: &Ddl) -> Done<&'static str> {
        match ddl {
            Ddl::CreateTable(create) => {
                let made = self.create_table_statement(create)?;
                return Ok(match (&create.table.query, made && create.with_data) {
                    (Some(_), true) => "SELECT",
                    (Some(_), false) => "CREATE TABLE AS",
                    (None, _) => "CREATE TABLE",
                });
            }
            Ddl::CreateSequence(create) => self.create_sequence(create)?,
            Ddl::AlterSequence(alter) => self.alter_sequence(alter)?,
            Ddl::AlterIdentity(alter) => {
                if !alter.if_exists || self.is_there(&alter.table)? {
                    self.alter_identity(&alter.table, &alter.column, &alter.change)?;
                }
            }
            Ddl::ResetOptions(reset) => {
                if !reset.if_exists || self.is_there(&reset.table)? {
                    self.reset_options(reset)?;
                }
            }
            Ddl::AlterTableParts(alter) => {
                if !alter.if_exists || self.is_there(&alter.table)? {
                    for part in &alter.parts {
                        self.decide_part(part)?;
                    }
                }
            }
            Ddl::CreateRole(create) => self.create_role(create)?,
            Ddl::AlterRole(alter) => self.alter_role(alter)?,
            Ddl::AlterRoleSet(alter) => self.alter_role_set(alter)?,
            Ddl::RenameRole(old, new) => self.rename_role(old, new)?,
            Ddl::DropRole(names, if_exists) => self.drop_roles(names, *if_exists)?,
            Ddl::Grant(grant) => self.grant(grant)?,
            Ddl::GrantRole(grant) => self.grant_role(grant)?,
            Ddl::Follow(follow) => self.follow(follow)?,
            Ddl::Comment(comment) => self.comment(comment)?,
            Ddl::AlterOwner(kind, name, owner, if_exists) => {
                if !if_exists || self.is_there(name)? {
                    self.alter_owner(*kind, name, owner)?;
                }
            }
            Ddl::Rename(kind, name, new, if_exists) => self.rename(*kind, name, new, *if_exists)?,
            Ddl::SetSchema(kind, name, schema, if_exists) => {
                self.move_to_schema(*kind, name, schema, *if_exists)?;
            }
            Ddl::Maintain(_, name) => self.maintain(name.as_ref())?,
            Ddl::Refresh(name) => self.refresh(name)?,
            Ddl::AlterMaterializedView(name, alter) => {
                self.is_projection(name)?;
                self.decide_part(alter)?;
            }
            Ddl::Drop(drop) => self.drop_statement(drop)?,
            Ddl::CreateRoutine(create) => self.create_routine(create)?,
            Ddl::DropRoutines(drop) => self.drop_routines(drop)?,
            Ddl::CreateTrigger(create) => self.create_trigger(create)?,
            Ddl::DropTrigger(drop) => self.drop_trigger(drop)?,
            Ddl::RenameTrigger(old, table, new) => self.rename_trigger(old, table, new)?,
            Ddl::EnableTrigger(enable) => self.enable_trigger(enable)?,
            Ddl::Reassign(..) => return Err(Error::unsupported("REASSIGN OWNED").into()),
            Ddl::DropOwned(..) => return Err(Error::unsupported("DROP OWNED").into()),
            Ddl::Truncate(truncate) => self.truncate(truncate)?,
            Ddl::Sql(statement) => return self.decide_sql(statement),
        }
        Ok(tag(ddl))
    }

    fn decide_sql(&mut self, statement: &ast::Statement) -> Done<&'static str> {
        match statement {
            ast::Statement::CreateIndex(create) => {
                self.create_index(create, TableMode::Share)?;
                Ok("CREATE INDEX")
            }
            ast::Statement::CreateView(create) if create.materialized => {
                let made = self.create_projection(create)?;
                if let Some(id) = made {
                    self.fill_projection(id)?;
                }
                Ok(made.map_or("CREATE MATERIALIZED VIEW", |_| "SELECT"))
            }
            ast::Statement::CreateView(create) => {
                self.create_view(create)?;
                Ok("CREATE VIEW")
            }
            ast::Statement::AlterTable(alter) => {
                self.alter_table(alter)?;
                Ok("ALTER TABLE")
            }
            ast::Statement::AlterIndex { name, operation } => {
                let ast::AlterIndexOperation::RenameIndex { index_name } = operation;
                let new = drop::last_part(index_name)?;
                self.rename(crate::parse::ObjectKind::Index, name, &new, false)?;
                Ok("ALTER INDEX")
            }
            ast::Statement::CreateSchema {
                schema_name,
                if_not_exists,
                ..
            } => {
                self.create_schema(schema_name, *if_not_exists)?;
                Ok("CREATE SCHEMA")
            }
            ast::Statement::CreateExtension(create) => {
                self.create_extension(create)?;
                Ok("CREATE EXTENSION")
            }
            ast::Statement::CreateDatabase { .. } => Err(Error::unsupported("another database")
                .detail("A cluster has one database.")
                .hint("Create a role: it comes with a private schema.")
                .into()),
            ast::Statement::CreateType { .. } => Err(Error::unsupported("CREATE TYPE")
                .hint("Use text with a CHECK constraint.")
                .into()),
            ast::Statement::CreateDomain(_) => Err(Error::unsupported("CREATE DOMAIN")
                .hint("Use the base type with a CHECK constraint.")
                .into()),
            other => {
                let text = other.to_string();
                let words: Vec<&str> = text.split_whitespace().take(2).collect();
                Err(Error::unsupported(words.join(" ").to_uppercase()).into())
            }
        }
    }
}

/// The command tag of a statement without one of its own.
fn tag(ddl: &Ddl) -> &'static str {
    use crate::parse::ObjectKind;
    match ddl {
        Ddl::CreateTable(_) => "CREATE TABLE",
        Ddl::CreateSequence(_) => "CREATE SEQUENCE",
        Ddl::AlterSequence(_) => "ALTER SEQUENCE",
        Ddl::AlterIdentity(_) | Ddl::AlterTableParts(_) | Ddl::ResetOptions(_) => "ALTER TABLE",
        Ddl::CreateRole(_) => "CREATE ROLE",
        Ddl::AlterRole(_) | Ddl::AlterRoleSet(_) | Ddl::RenameRole(..) => "ALTER ROLE",
        Ddl::DropRole(..) => "DROP ROLE",
        Ddl::Grant(grant) if grant.revoke => "REVOKE",
        Ddl::GrantRole(grant) if grant.revoke => "REVOKE ROLE",
        Ddl::Grant(_) => "GRANT",
        Ddl::GrantRole(_) => "GRANT ROLE",
        Ddl::Follow(follow) if follow.ends => "UNFOLLOW",
        Ddl::Follow(_) => "FOLLOW",
        Ddl::Comment(_) => "COMMENT",
        Ddl::AlterOwner(kind, ..) | Ddl::Rename(kind, ..) | Ddl::SetSchema(kind, ..) => {
            match kind {
                ObjectKind::View => "ALTER VIEW",
                ObjectKind::MaterializedView => "ALTER MATERIALIZED VIEW",
                ObjectKind::Index => "ALTER INDEX",
                ObjectKind::Sequence => "ALTER SEQUENCE",
                ObjectKind::Schema => "ALTER SCHEMA",
                ObjectKind::Role => "ALTER ROLE",
                ObjectKind::Database => "ALTER DATABASE",
                ObjectKind::Function => "ALTER FUNCTION",
                ObjectKind::Type => "ALTER TYPE",
                ObjectKind::Domain => "ALTER DOMAIN",
                ObjectKind::Extension => "ALTER EXTENSION",
                _ => "ALTER TABLE",
            }
        }
        Ddl::Maintain(tag, _) => tag,
        Ddl::AlterMaterializedView(..) => "ALTER MATERIALIZED VIEW",
        Ddl::Refresh(_) => "REFRESH MATERIALIZED VIEW",
        Ddl::Drop(drop) => match drop.kind {
            ObjectKind::Table => "DROP TABLE",
            ObjectKind::View => "DROP VIEW",
            ObjectKind::MaterializedView => "DROP MATERIALIZED VIEW",
            ObjectKind::Index => "DROP INDEX",
            ObjectKind::Sequence => "DROP SEQUENCE",
            ObjectKind::Schema => "DROP SCHEMA",
            ObjectKind::Role => "DROP ROLE",
            ObjectKind::Database => "DROP DATABASE",
            ObjectKind::Type => "DROP TYPE",
            ObjectKind::Domain => "DROP DOMAIN",
            ObjectKind::Extension => "DROP EXTENSION",
            ObjectKind::Trigger => "DROP TRIGGER",
            ObjectKind::Policy => "DROP POLICY",
            _ => "DROP",
        },
        Ddl::CreateRoutine(_) => "CREATE FUNCTION",
        Ddl::CreateTrigger(_) => "CREATE TRIGGER",
        Ddl::DropTrigger(_) => "DROP TRIGGER",
        Ddl::RenameTrigger(..) => "ALTER TRIGGER",
        Ddl::EnableTrigger(_) => "ALTER TABLE",
        Ddl::DropRoutines(drop) => match drop.kind {
            RoutineKind::Function => "DROP FUNCTION",
            RoutineKind::Procedure => "DROP PROCEDURE",
            RoutineKind::Routine => "DROP ROUTINE",
            RoutineKind::Aggregate => "DROP AGGREGATE",
        },
        Ddl::Reassign(..) => "REASSIGN OWNED",
        Ddl::DropOwned(..) => "DROP OWNED",
        Ddl::Truncate(_) => "TRUNCATE TABLE",
        Ddl::Sql(_) => "",
    }
}
