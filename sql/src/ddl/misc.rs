//! COMMENT ON, renames and moves of what is no table, extensions, and statements that are
//! accepted because nothing is to be done.

use sqlparser::ast::{self, ObjectName};

use super::alter_table::find_constraint;
use super::constraint::column_named;
use super::draft::{Done, Draft};
use super::name::{parts, shown};
use crate::catalog::{Change, Object, Relation, Role, Routine, Table, TableKind};
use crate::parse::{self, ObjectKind, RoleName};
use crate::transaction::TableMode;
use crate::{Error, Result, state};
use std::sync::Arc;
use storage::GroupId;

/// Extensions whose functions are built in.
const EXTENSIONS: [&str; 3] = ["plpgsql", "pgcrypto", "uuid-ossp"];

/// Is it one of the extensions whose functions are built in?
pub(super) fn is_builtin_extension(name: &str) -> bool {
    EXTENSIONS.contains(&name)
}

impl Draft<'_> {
    pub fn create_extension(&mut self, create: &ast::CreateExtension) -> Result<()> {
        let name = super::name::ident(&create.name);
        if !is_builtin_extension(&name) {
            return Err(Error::new(
                state::FEATURE_NOT_SUPPORTED,
                format!("extension \"{name}\" is not available"),
            )
            .detail("Extensions cannot be loaded; the names of built-in ones are accepted."));
        }
        if name == "plpgsql" || create.if_not_exists {
            self.notice(Error::new(
                state::DUPLICATE_OBJECT,
                format!("extension \"{name}\" already exists, skipping"),
            ));
        }
        Ok(())
    }

    pub fn comment(&mut self, comment: &parse::Comment) -> Done<()> {
        let text = comment.text.clone().filter(|t| !t.is_empty());
        match comment.kind {
            ObjectKind::Table
            | ObjectKind::View
            | ObjectKind::MaterializedView
            | ObjectKind::Sequence => {
                let table = self.own_relation(&comment.name)?;
                expect_kind(&table, comment.kind)?;
                self.ground.lock(&table, TableMode::ShareUpdateExclusive)?;
                self.edit_table(table.id, |t| t.comment = text)?;
            }
            ObjectKind::Index => {
                let (table, index) = self.own_index(&comment.name)?;
                self.ground.lock(&table, TableMode::ShareUpdateExclusive)?;
                self.edit_table(table.id, |t| {
                    if let Some(i) = t.indexes.iter_mut().find(|i| i.id == index) {
                        i.comment = text;
                    }
                })?;
            }
            ObjectKind::Column => {
                let mut names = comment.name.0.clone();
                let Some(last) = names.pop() else {
                    return Err(
                        Error::new(state::SYNTAX_ERROR, "column name must be qualified").into(),
                    );
                };
                if names.is_empty() {
                    return Err(
                        Error::new(state::SYNTAX_ERROR, "column name must be qualified").into(),
                    );
                }
                let column = shown(&parts(&ObjectName(vec![last]))?);
                let table = self.own_relation(&ObjectName(names))?;
                let id = column_named(&table, &column)?.id;
                self.ground.lock(&table, TableMode::ShareUpdateExclusive)?;
                self.edit_column(table.id, id, |c| c.comment = text)?;
            }
            ObjectKind::Constraint => {
                let on = comment.on.as_ref();
                let on = on.ok_or_else(|| Error::new(state::SYNTAX_ERROR, "syntax error"))?;
                let table = self.own_relation(on)?;
                let name = shown(&parts(&comment.name)?);
                let id = find_constraint(&table, &name)
                    .map_err(|mut error| {
                        error.0.message = error.0.message.replace("of relation", "for table");
                        error
                    })?
                    .id();
                self.ground.lock(&table, TableMode::ShareUpdateExclusive)?;
                self.edit_table(table.id, |t| {
                    if let Some(c) = t.constraints.iter_mut().find(|c| c.id() == id) {
                        c.set_comment(text);
                    }
                })?;
            }
            ObjectKind::Schema => {
                let schema = self.schema_named(&shown(&parts(&comment.name)?))?;
                self.own_schema(&schema)?;
                self.edit_schema(&schema, |s| s.comment = text)?;
            }
            ObjectKind::Role => {
                let name = shown(&parts(&comment.name)?);
                let role = Arc::clone(self.catalog.find_role(&name)?);
                let may = self.catalog.is_superuser(self.role)
                    || role.id == self.role
                    || self.catalog.role(self.role).is_some_and(|r| r.create_role);
                if !may {
                    return Err(Error::new(
                        state::INSUFFICIENT_PRIVILEGE,
                        format!("must be member of role \"{name}\""),
                    )
                    .into());
                }
                let new = Role {
                    comment: text,
                    ..Role::clone(&role)
                };
                self.change(Change::replace(
                    GroupId::DIRECTORY,
                    Object::Role(role),
                    Object::Role(Arc::new(new)),
                ));
            }
            ObjectKind::Database | ObjectKind::Extension => {}
            ObjectKind::Trigger => self.comment_trigger(comment, text)?,
            ObjectKind::Function if let Some(routine) = &comment.routine => {
                let found = self.routine_to_change(routine)?;
                self.own_routine(&found)?;
                let mut changed = Routine::clone(&found);
                changed.comment = text;
                self.replace_routine(found, changed);
            }
            other => {
                let (word, name) = (super::drop::kind_word(other), shown(&parts(&comment.name)?));
                return Err(Error::new(
                    state::UNDEFINED_OBJECT,
                    format!("{word} \"{name}\" does not exist"),
                )
                .into());
            }
        }
        Ok(())
    }

    fn own_index(&self, name: &ObjectName) -> Result<(Arc<Table>, u32)> {
        match self.relation(name)? {
            Relation::Index(table, at) => {
                self.catalog.must_own(self.role, &table)?;
                let id = table.indexes[at].id;
                Ok((table, id))
            }
            Relation::Table(table) => Err(Error::new(
                state::WRONG_OBJECT_TYPE,
                format!("\"{}\" is not an index", table.name),
            )),
        }
    }

    pub fn rename(
        &mut self,
        kind: ObjectKind,
        name: &ObjectName,
        new: &str,
        if_exists: bool,
    ) -> Done<()> {
        let new = super::name::clip(new.to_owned());
        match kind {
            ObjectKind::Schema => self.rename_schema(name, &new),
            ObjectKind::Role => {
                let old = shown(&parts(name)?);
                self.rename_role(&old, &new)
            }
            ObjectKind::Database => Err(Error::unsupported("renaming the database").into()),
            _ => {
                let Some(relation) = self.find(name)? else {
                    if if_exists {
                        return Ok(self.skip_missing(name)?);
                    }
                    self.relation(name)?;
                    return Ok(());
                };
                self.catalog.must_own(self.role, relation.table())?;
                self.ground
                    .lock(relation.table(), TableMode::AccessExclusive)?;
                match relation {
                    Relation::Index(table, at) => {
                        self.rename_index(&table, table.indexes[at].id, new)
                    }
                    Relation::Table(table) => {
                        expect_kind(&table, kind)?;
                        self.rename_relation(table.id, new)
                    }
                }
            }
        }
    }

    pub fn move_to_schema(
        &mut self,
        kind: ObjectKind,
        name: &ObjectName,
        schema: &str,
        if_exists: bool,
    ) -> Done<()> {
        if self.find(name)?.is_none() && if_exists {
            return Ok(self.skip_missing(name)?);
        }
        let table = self.own_relation(name)?;
        expect_kind(&table, kind)?;
        if let TableKind::Sequence(options) = &table.kind
            && options.owned_by.is_some()
        {
            return Err(Error::new(
                state::FEATURE_NOT_SUPPORTED,
                "cannot move an owned sequence into another schema",
            )
            .into());
        }
        self.set_schema(table.id, schema)
    }

    pub fn alter_owner(
        &mut self,
        kind: ObjectKind,
        name: &ObjectName,
        owner: &RoleName,
    ) -> Done<()> {
        let owner = self.role_named(owner)?;
        let present = match kind {
            ObjectKind::Schema => {
                let schema = self.schema_named(&shown(&parts(name)?))?;
                self.own_schema(&schema)?;
                schema.owner
            }
            ObjectKind::Database => return Ok(()),
            ObjectKind::Index => self.own_index(name)?.0.owner,
            ObjectKind::Table
            | ObjectKind::View
            | ObjectKind::MaterializedView
            | ObjectKind::Sequence => {
                let relation = self.own_relation(name)?;
                return self.change_owner(&relation, owner);
            }
            other => {
                let word = super::drop::kind_word(other);
                return Err(Error::unsupported(format!("a {word}")).into());
            }
        };
        if present == owner {
            return Ok(());
        }
        Err(
            Error::unsupported("changing the owner of a schema or an index")
                .detail("Whatever is in a schema is its owner's, and an index its table's.")
                .hint("ALTER TABLE ... OWNER TO moves a table with its indexes.")
                .into(),
        )
    }

    /// REINDEX, CLUSTER: nothing to do on this storage, but the object must be the role's.
    pub fn maintain(&mut self, name: Option<&ObjectName>) -> Result<()> {
        let Some(name) = name else { return Ok(()) };
        if let Ok(relation) = self.relation(name) {
            return self.catalog.must_own(self.role, relation.table());
        }
        if parts(name)?.len() == 1 && self.schema_named(&shown(&parts(name)?)).is_ok() {
            return Ok(());
        }
        self.relation(name).map(|_| ())
    }
}

/// ALTER TABLE may name views and sequences too; the others are exact.
fn expect_kind(table: &Table, kind: ObjectKind) -> Result<()> {
    if kind == ObjectKind::MaterializedView && table.projection.is_some() {
        return Ok(());
    }
    let fits = matches!(
        (&table.kind, kind),
        (_, ObjectKind::Table)
            | (TableKind::View(_), ObjectKind::View)
            | (TableKind::Sequence(_), ObjectKind::Sequence)
    );
    if fits {
        return Ok(());
    }
    let word = super::drop::kind_word(kind);
    let article = if word.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    Err(Error::new(
        state::WRONG_OBJECT_TYPE,
        format!("\"{}\" is not {article} {word}", table.name),
    ))
}
