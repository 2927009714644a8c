//! ALTER TABLE: one action after the other over the draft; rows are rewritten or checked once at
//! the end.

use std::sync::Arc;

use sqlparser::ast::{
    self, AlterColumnOperation, AlterTableOperation, DropBehavior, GeneratedAs, ReplicaIdentity,
};

use super::constraint::column_named;
use super::create_table::{Numbered, column_type};
use super::draft::{Done, Draft, Use, Work};
use super::expression::{self, columns_in};
use super::name::{ident, no_column, parts, shown};
use super::sequence::identity_options;
use super::wanted::Wanted;
use crate::catalog::{
    Column, ColumnId, Constraint, IndexKey, Key, Relation, RoleId, Table, TableId, TableKind,
};
use crate::moving;
use crate::transaction::TableMode;
use crate::types::kind::oid;
use crate::{Error, Result, parse, state};

impl Draft<'_> {
    pub fn alter_table(&mut self, alter: &ast::AlterTable) -> Done<()> {
        let Some(relation) = self.find(&alter.name)? else {
            if alter.if_exists {
                self.skip_missing(&alter.name)?;
                return Ok(());
            }
            self.relation(&alter.name)?;
            return Ok(());
        };
        self.catalog.must_own(self.role, relation.table())?;
        let table = match relation {
            Relation::Table(table) => table,
            Relation::Index(table, at) => {
                return self.alter_index_as_table(&table, at, &alter.operations);
            }
        };
        if let [AlterTableOperation::OwnerTo { new_owner }] = alter.operations.as_slice() {
            let owner = self.owner_named(new_owner)?;
            return self.change_owner(&table, owner);
        }
        self.ground.lock(&table, TableMode::AccessExclusive)?;
        for operation in &alter.operations {
            self.alter(&table, operation)?;
        }
        Ok(())
    }

    /// ALTER TABLE x RESET (options): as if they had not been given. Those that are not known are
    /// passed over, as in PostgreSQL.
    pub fn reset_options(&mut self, reset: &parse::ResetOptions) -> Done<()> {
        let relation = self.relation(&reset.table)?;
        self.catalog.must_own(self.role, relation.table())?;
        let Relation::Table(table) = relation else {
            return Ok(());
        };
        if reset.options.iter().any(|name| name == "inbox") {
            return Err(fixed_inbox().into());
        }
        self.ground.lock(&table, TableMode::AccessExclusive)?;
        self.edit_table(table.id, |t| {
            t.options.retain(|name, _| !reset.options.contains(name));
        })?;
        Ok(())
    }

    /// "relation does not exist, skipping".
    pub fn skip_missing(&mut self, name: &ast::ObjectName) -> Result<()> {
        let name = shown(&parts(name)?);
        self.skips(&format!("relation \"{name}\" does not exist"));
        Ok(())
    }

    fn alter_index_as_table(
        &mut self,
        table: &Arc<Table>,
        at: usize,
        operations: &[AlterTableOperation],
    ) -> Done<()> {
        for operation in operations {
            match operation {
                AlterTableOperation::RenameTable { table_name } => {
                    let name = rename_target(table_name)?;
                    self.rename_index(table, table.indexes[at].id, name)?;
                }
                AlterTableOperation::OwnerTo { .. }
                | AlterTableOperation::SetOptionsParens { .. } => {}
                _ => {
                    return Err(Error::new(
                        state::WRONG_OBJECT_TYPE,
                        format!("\"{}\" is not a table", table.indexes[at].name),
                    )
                    .into());
                }
            }
        }
        Ok(())
    }

    fn alter(&mut self, table: &Arc<Table>, operation: &AlterTableOperation) -> Done<()> {
        let id = table.id;
        let is_table = table.kind == TableKind::Table;
        match operation {
            AlterTableOperation::RenameTable { table_name } => {
                return self.rename_relation(id, rename_target(table_name)?);
            }
            AlterTableOperation::OwnerTo { new_owner } => return self.owner_to(id, new_owner),
            AlterTableOperation::RenameColumn {
                old_column_name,
                new_column_name,
            } => {
                return self.rename_column(id, &ident(old_column_name), ident(new_column_name));
            }
            AlterTableOperation::AlterColumn {
                column_name,
                op:
                    op @ (AlterColumnOperation::SetDefault { .. } | AlterColumnOperation::DropDefault),
            } if table.projection.is_none() => {
                return self.alter_column(id, &ident(column_name), op);
            }
            _ if !is_table => {
                return Err(Error::new(
                    state::WRONG_OBJECT_TYPE,
                    format!("\"{}\" is not a table", table.name),
                )
                .into());
            }
            _ => {}
        }
        let options = matches!(
            operation,
            AlterTableOperation::SetOptionsParens { .. }
                | AlterTableOperation::ReplicaIdentity { .. }
        );
        if table.projection.is_some() && !options {
            let message = format!(
                "ALTER action {} cannot be performed on relation \"{}\"",
                action(operation),
                table.name
            );
            return Err(Error::new(state::WRONG_OBJECT_TYPE, message)
                .detail("This operation is not supported for materialized views.")
                .into());
        }
        match operation {
            AlterTableOperation::AddColumn {
                column_def,
                if_not_exists,
                ..
            } => self.add_column(id, column_def, *if_not_exists),
            AlterTableOperation::DropColumn {
                column_names,
                if_exists,
                drop_behavior,
                ..
            } => {
                let cascade = matches!(drop_behavior, Some(DropBehavior::Cascade));
                for name in column_names {
                    self.drop_column(id, &ident(name), *if_exists, cascade)?;
                }
                Ok(())
            }
            AlterTableOperation::AddConstraint {
                constraint,
                not_valid,
            } => self.add_table_constraint(id, constraint, *not_valid),
            AlterTableOperation::DropConstraint {
                name,
                if_exists,
                drop_behavior,
            } => {
                let cascade = matches!(drop_behavior, Some(DropBehavior::Cascade));
                self.drop_constraint(id, &ident(name), *if_exists, cascade)
            }
            AlterTableOperation::ValidateConstraint { name } => self.validate(id, &ident(name)),
            AlterTableOperation::RenameConstraint { old_name, new_name } => {
                self.rename_constraint(id, &ident(old_name), ident(new_name))
            }
            AlterTableOperation::AlterColumn { column_name, op } => {
                self.alter_column(id, &ident(column_name), op)
            }
            AlterTableOperation::SetOptionsParens { options } => {
                let new = self.options(options)?;
                if new.contains_key("inbox") {
                    return Err(fixed_inbox().into());
                }
                if new.contains_key("event") {
                    return Err(Error::unsupported("making a table an event table, or none")
                        .hint("Create another table WITH (event = true).")
                        .into());
                }
                self.edit_table(id, |t| t.options.extend(new))?;
                Ok(())
            }
            AlterTableOperation::ReplicaIdentity { identity } => {
                if let ReplicaIdentity::Index(name) = identity {
                    let name = ident(name);
                    if !table.indexes.iter().any(|i| i.name == name) {
                        return Err(no_index(table, &name).into());
                    }
                }
                Ok(())
            }
            AlterTableOperation::SetLogged
            | AlterTableOperation::SetUnlogged
            | AlterTableOperation::EnableTrigger { .. }
            | AlterTableOperation::DisableTrigger { .. } => Ok(()),
            AlterTableOperation::EnableRowLevelSecurity
            | AlterTableOperation::ForceRowLevelSecurity => {
                Err(Error::unsupported("row level security").into())
            }
            AlterTableOperation::DisableRowLevelSecurity
            | AlterTableOperation::NoForceRowLevelSecurity => Ok(()),
            other => Err(Error::unsupported(format!("ALTER TABLE ... {other}")).into()),
        }
    }

    fn add_column(&mut self, id: TableId, def: &ast::ColumnDef, if_not_exists: bool) -> Done<()> {
        let old = self.table(id)?;
        let name = ident(&def.name);
        if old.column(&name).is_some() {
            let message = format!(
                "column \"{name}\" of relation \"{}\" already exists",
                old.name
            );
            if if_not_exists {
                self.notice(Error::new(
                    state::DUPLICATE_COLUMN,
                    format!("{message}, skipping"),
                ));
                return Ok(());
            }
            return Err(Error::new(state::DUPLICATE_COLUMN, message).into());
        }
        let mut table = Table::clone(&old);
        let (mut wanted, mut serials) = (Vec::new(), Vec::new());
        self.column(&mut table, def, &mut wanted, &mut serials)?;
        let column = table.columns.last().cloned();
        let column = column.ok_or_else(|| Error::internal("ADD COLUMN added none"))?;
        self.replace_table(table)?;
        for (name, kind) in serials {
            self.add_sequence_named(id, &name, kind, None)?;
        }
        let table = self.table(id)?;
        let column = column_named(&table, &column.name)?.clone();
        self.check_column(&table, &column)?;
        self.fill_added(&table, &column)?;
        if column.not_null {
            self.work.push(Work::CheckNotNull {
                table: id,
                column: column.id,
            });
        }
        self.add_constraints(id, wanted, false)
    }

    /// Old rows get the new column's value: one that is the same for all stays in the
    /// descriptor, anything else is written into every row.
    fn fill_added(&mut self, table: &Arc<Table>, column: &Column) -> Done<()> {
        let constant = match (&column.default, &column.generated, column.identity) {
            (None, None, None) => return Ok(()),
            (Some(text), None, None) => {
                let catalog = Arc::clone(&self.catalog);
                self.ground.constant(&catalog, table, column, text)?
            }
            _ => None,
        };
        match constant {
            Some(value) if value.is_empty() => {}
            Some(value) => self.edit_column(table.id, column.id, |c| c.missing = Some(value))?,
            None => {
                self.work.push(Work::FillColumn {
                    table: table.id,
                    column: column.id,
                });
            }
        }
        Ok(())
    }

    fn drop_column(&mut self, id: TableId, name: &str, if_exists: bool, cascade: bool) -> Done<()> {
        let table = self.table(id)?;
        let Some(column) = table.column(name).cloned() else {
            if if_exists {
                self.skips(&no_column(&table, name).0.message);
                return Ok(());
            }
            return Err(no_column(&table, name).into());
        };
        self.drop_dependents_of_column(&table, &column, cascade)?;
        if let Some(identity) = column.identity {
            self.remove_sequence(identity.sequence)?;
        }
        for sequence in self.owned_sequences(id, Some(column.id)) {
            self.remove_sequence(sequence)?;
        }
        let table = self.table(id)?;
        let in_key = matches!(&table.key, Key::Primary(key) if key.contains(&column.id));
        if in_key {
            let primary = table.constraints.iter().find_map(|c| match c {
                Constraint::Primary { name, .. } => Some(name.clone()),
                _ => None,
            });
            if let Some(primary) = primary {
                self.drop_constraint(id, &primary, false, cascade)?;
            }
        }
        self.drop_parts_of_column(id, &column)?;
        self.edit_table(id, |t| {
            if let Some(c) = t.columns.iter_mut().find(|c| c.id == column.id) {
                c.dropped = true;
                c.not_null = false;
                c.default = None;
                c.default_id = 0;
                c.identity = None;
                c.generated = None;
                c.missing = None;
                c.acl = None;
                c.comment = None;
                c.name = format!("........pg.dropped.{}........", c.number);
            }
        })?;
        Ok(())
    }

    /// Indexes and constraints over a column go with it.
    fn drop_parts_of_column(&mut self, id: TableId, column: &Column) -> Done<()> {
        let table = self.table(id)?;
        let names: Vec<String> = table
            .constraints
            .iter()
            .filter(|c| constraint_uses(&table, c, column.id))
            .map(|c| c.name().to_owned())
            .collect();
        for name in names {
            self.drop_constraint(id, &name, true, true)?;
        }
        let table = self.table(id)?;
        let indexes: Vec<u32> = table
            .indexes
            .iter()
            .filter(|i| {
                i.include.contains(&column.id)
                    || i.columns.iter().any(|c| match &c.what {
                        IndexKey::Column(id) => *id == column.id,
                        IndexKey::Expression(text) => columns_in(&table, text).contains(&column.id),
                    })
                    || i.predicate
                        .as_deref()
                        .is_some_and(|p| columns_in(&table, p).contains(&column.id))
            })
            .map(|i| i.id)
            .collect();
        for index in indexes {
            self.remove_index(id, index)?;
        }
        Ok(())
    }

    fn add_table_constraint(
        &mut self,
        id: TableId,
        constraint: &ast::TableConstraint,
        not_valid: bool,
    ) -> Done<()> {
        let mut wanted = Wanted::of_table(constraint)?;
        if not_valid {
            match &mut wanted {
                Wanted::CheckExpr { valid, .. } => *valid = false,
                Wanted::Foreign(key) => key.valid = false,
                _ => {
                    return Err(Error::new(
                        state::FEATURE_NOT_SUPPORTED,
                        "UNIQUE constraints cannot be marked NOT VALID",
                    )
                    .into());
                }
            }
        }
        self.add_constraints(id, vec![wanted], false)
    }

    fn validate(&mut self, id: TableId, name: &str) -> Done<()> {
        let table = self.table(id)?;
        let constraint = find_constraint(&table, name)?;
        let (oid, work) = match constraint {
            Constraint::Check {
                id: oid,
                validated: false,
                ..
            } => (
                *oid,
                Work::CheckRows {
                    table: id,
                    constraint: *oid,
                },
            ),
            Constraint::Foreign(key) if !key.validated => (
                key.id,
                Work::CheckForeign {
                    table: id,
                    constraint: key.id,
                },
            ),
            _ => return Ok(()),
        };
        self.work.push(work);
        self.edit_table(id, |t| {
            for c in &mut t.constraints {
                match c {
                    Constraint::Check { id, validated, .. } if *id == oid => *validated = true,
                    Constraint::Foreign(key) if key.id == oid => key.validated = true,
                    _ => {}
                }
            }
        })?;
        Ok(())
    }

    fn rename_constraint(&mut self, id: TableId, old: &str, new: String) -> Done<()> {
        let table = self.table(id)?;
        let constraint = table
            .constraints
            .iter()
            .find(|c| c.name() == old)
            .ok_or_else(|| {
                Error::new(
                    state::UNDEFINED_OBJECT,
                    format!(
                        "constraint \"{old}\" for table \"{}\" does not exist",
                        table.name
                    ),
                )
            })?;
        super::constraint::constraint_free(&table, &new)?;
        match constraint.index() {
            Some(index) => self.rename_index(&table, index, new),
            None => {
                let oid = constraint.id();
                self.edit_table(id, |t| {
                    if let Some(c) = t.constraints.iter_mut().find(|c| c.id() == oid) {
                        c.rename(new);
                    }
                })?;
                Ok(())
            }
        }
    }

    /// Renames an index and the constraint that lives by it.
    pub fn rename_index(&mut self, table: &Table, index: u32, new: String) -> Done<()> {
        self.must_be_free(table.schema, &new)?;
        self.reserve(table.schema, &[&new], table.owner)?;
        self.edit_table(table.id, |t| {
            for c in t
                .constraints
                .iter_mut()
                .filter(|c| c.index() == Some(index))
            {
                c.rename(new.clone());
            }
            if let Some(i) = t.indexes.iter_mut().find(|i| i.id == index) {
                i.name = new;
            }
        })?;
        Ok(())
    }

    fn rename_column(&mut self, id: TableId, old: &str, new: String) -> Done<()> {
        let table = self.table(id)?;
        let Some(column) = table.column(old).cloned() else {
            let message = format!("column \"{old}\" does not exist");
            return Err(Error::new(state::UNDEFINED_COLUMN, message).into());
        };
        if table.column(&new).is_some() {
            return Err(Error::new(
                state::DUPLICATE_COLUMN,
                format!(
                    "column \"{new}\" of relation \"{}\" already exists",
                    table.name
                ),
            )
            .into());
        }
        if let Some(view) = self.view_using(id, column.id) {
            return Err(Error::new(
                state::FEATURE_NOT_SUPPORTED,
                format!(
                    "renaming a column that {} \"{}\" uses is not supported",
                    crate::catalog::kind(&view),
                    view.name
                ),
            )
            .hint("Drop the view, rename the column, and create the view again.")
            .into());
        }
        let mut next = Table::clone(&table);
        expression::rename_in_table(&mut next, old, &new)?;
        self.rename_in_triggers(&table, old, &new)?;
        if let Some(c) = next.columns.iter_mut().find(|c| c.id == column.id) {
            c.name = new;
        }
        self.replace_table(next)?;
        Ok(())
    }

    /// A view of any owner that reads the column.
    fn view_using(&self, id: TableId, column: ColumnId) -> Option<Arc<Table>> {
        let reads = |t: &&Arc<Table>| {
            t.depends_on
                .iter()
                .any(|(on, columns)| *on == id && (columns.is_empty() || columns.contains(&column)))
        };
        self.catalog.tables().find(reads).cloned()
    }

    fn alter_column(&mut self, id: TableId, name: &str, op: &AlterColumnOperation) -> Done<()> {
        let table = self.table(id)?;
        let column = column_named(&table, name)?.clone();
        match op {
            AlterColumnOperation::SetNotNull => {
                if !column.not_null {
                    self.edit_column(id, column.id, |c| c.not_null = true)?;
                    self.work.push(Work::CheckNotNull {
                        table: id,
                        column: column.id,
                    });
                }
                Ok(())
            }
            AlterColumnOperation::DropNotNull => self.drop_not_null(&table, &column),
            AlterColumnOperation::SetDefault { value } => {
                self.no_generation(&table, &column)?;
                let text = self.stored(value)?;
                let catalog = Arc::clone(&self.catalog);
                let expected = Some(&column);
                self.ground
                    .check_expression(&catalog, &table, &text, expected, Use::Default)?;
                let default_id = self.oid(table.group)?;
                let null = text.eq_ignore_ascii_case("null");
                self.edit_column(id, column.id, |c| {
                    c.default = (!null).then_some(text);
                    c.default_id = if null { 0 } else { default_id };
                })
            }
            AlterColumnOperation::DropDefault => {
                self.no_generation(&table, &column)?;
                self.edit_column(id, column.id, |c| {
                    c.default = None;
                    c.default_id = 0;
                })
            }
            AlterColumnOperation::SetDataType {
                data_type, using, ..
            } => self.set_type(&table, &column, data_type, using.as_ref()),
            AlterColumnOperation::AddGenerated {
                generated_as,
                sequence_options,
            } => {
                if column.identity.is_some() {
                    return Err(Error::new(
                        state::OBJECT_NOT_IN_PREREQUISITE_STATE,
                        format!(
                            "column \"{name}\" of relation \"{}\" is already an identity column",
                            table.name
                        ),
                    )
                    .into());
                }
                if !matches!(column.ty.oid, oid::INT2 | oid::INT4 | oid::INT8) {
                    return Err(Error::new(
                        state::INVALID_PARAMETER_VALUE,
                        "identity column type must be smallint, integer, or bigint",
                    )
                    .into());
                }
                if column.default.is_some() {
                    return Err(Error::new(
                        state::OBJECT_NOT_IN_PREREQUISITE_STATE,
                        format!(
                            "column \"{name}\" of relation \"{}\" already has a default value",
                            table.name
                        ),
                    )
                    .into());
                }
                if !column.not_null {
                    return Err(Error::new(
                        state::OBJECT_NOT_IN_PREREQUISITE_STATE,
                        format!(
                            "column \"{name}\" of relation \"{}\" must be declared NOT NULL \
                             before identity can be added",
                            table.name
                        ),
                    )
                    .into());
                }
                let always = !matches!(generated_as, Some(GeneratedAs::ByDefault));
                let options = identity_options(sequence_options.as_ref())?;
                self.add_sequence_named(id, name, Numbered::Identity { always, options }, None)
            }
        }
    }

    fn no_generation(&self, table: &Table, column: &Column) -> Result<()> {
        let what = if column.identity.is_some() {
            "an identity column"
        } else if column.generated.is_some() {
            "a generated column"
        } else {
            return Ok(());
        };
        Err(Error::new(
            state::SYNTAX_ERROR,
            format!(
                "column \"{}\" of relation \"{}\" is {what}",
                column.name, table.name
            ),
        ))
    }

    fn drop_not_null(&mut self, table: &Table, column: &Column) -> Done<()> {
        let in_key = table.primary_index().is_some_and(|i| {
            i.columns
                .iter()
                .any(|c| c.what == IndexKey::Column(column.id))
        });
        if in_key {
            return Err(Error::new(
                state::INVALID_TABLE_DEFINITION,
                format!("column \"{}\" is in a primary key", column.name),
            )
            .into());
        }
        if column.identity.is_some() {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                format!(
                    "column \"{}\" of relation \"{}\" is an identity column",
                    column.name, table.name
                ),
            )
            .into());
        }
        self.edit_column(table.id, column.id, |c| c.not_null = false)
    }

    fn set_type(
        &mut self,
        table: &Arc<Table>,
        column: &Column,
        data_type: &ast::DataType,
        using: Option<&ast::Expr>,
    ) -> Done<()> {
        let (ty, serial) = column_type(data_type, &column.name)?;
        if serial {
            return Err(Error::new(
                state::UNDEFINED_OBJECT,
                format!("type \"{data_type}\" does not exist"),
            )
            .into());
        }
        if ty == column.ty && using.is_none() {
            return Ok(());
        }
        let what = format!(
            "the type of column {} of table {}",
            column.name,
            self.display(table)
        );
        self.check_not_asked(table, &what, |of| of.columns.contains(&column.id))?;
        if column.generated.is_some() && using.is_some() {
            return Err(Error::new(
                state::INVALID_COLUMN_DEFINITION,
                "cannot specify USING when altering type of generated column",
            )
            .into());
        }
        let generated = table.live_columns().find(|c| {
            let text = c.generated.as_deref();
            text.is_some_and(|t| columns_in(table, t).contains(&column.id))
        });
        if let Some(generated) = generated {
            return Err(Error::new(
                state::FEATURE_NOT_SUPPORTED,
                "cannot alter type of a column used by a generated column",
            )
            .detail(format!(
                "Column \"{}\" is used by generated column \"{}\".",
                column.name, generated.name
            ))
            .into());
        }
        self.no_trigger_over(table, column)?;
        if let Some(view) = self.view_using(table.id, column.id) {
            return Err(Error::new(
                state::FEATURE_NOT_SUPPORTED,
                "cannot alter type of a column used by a view or rule",
            )
            .detail(format!(
                "{} {} depends on column \"{}\"",
                crate::catalog::kind(&view),
                view.name,
                column.name
            ))
            .into());
        }
        for (other, key) in self.foreign_keys_over(table, column.id) {
            let pair = key
                .columns
                .iter()
                .zip(&key.referenced_columns)
                .map(|(a, b)| (*a, *b))
                .find(|(a, b)| {
                    other == table.id && *a == column.id
                        || key.references == table.id && *b == column.id
                });
            if pair.is_some() && self.breaks(other, &key, column, ty)? {
                return Err(Error::new(
                    state::DATATYPE_MISMATCH,
                    format!(
                        "foreign key constraint \"{}\" cannot be implemented",
                        key.name
                    ),
                )
                .into());
            }
        }
        let text = match using {
            Some(expr) => self.stored(expr)?,
            None => format!("{}::{}", expression::quote(&column.name), ty.name()),
        };
        let catalog = Arc::clone(&self.catalog);
        let target = Column {
            ty,
            ..column.clone()
        };
        self.ground
            .check_expression(&catalog, table, &text, Some(&target), Use::Rewrite)?;
        if using.is_none() {
            self.ground.check_assignment(column, ty)?;
        }
        if let Some(default) = &column.default {
            let expected = Some(&target);
            self.ground
                .check_expression(&catalog, table, default, expected, Use::Default)
                .map_err(|_| {
                    Error::new(
                        state::DATATYPE_MISMATCH,
                        format!(
                            "default for column \"{}\" cannot be cast automatically to type {}",
                            column.name,
                            ty.name()
                        ),
                    )
                })?;
        }
        let old = self.table(table.id)?;
        self.edit_column(table.id, column.id, |c| {
            c.ty = ty;
            c.missing = None;
        })?;
        self.new_trees(table.id)?;
        self.rewrite(old, table.id, vec![(column.id, text)]);
        self.check_references_again(table.id, column.id)
    }

    /// The values of a column are others: what they reference is to be there.
    fn check_references_again(&mut self, id: TableId, column: ColumnId) -> Done<()> {
        let table = self.table(id)?;
        for key in table
            .foreign_keys()
            .filter(|key| key.columns.contains(&column))
        {
            if let Some(parent) = self.catalog.table(key.references)
                && parent.group != table.group
            {
                let (own, other) = (&key.columns, &key.referenced_columns);
                super::registered::alike(&table, own, parent, other, &key.name)?;
            }
            if key.validated {
                let constraint = key.id;
                self.work.push(Work::CheckForeign {
                    table: id,
                    constraint,
                });
            }
        }
        Ok(())
    }

    /// All trees of the table are replaced by new ones.
    ///
    /// # Errors
    /// 55000 if it keeps its history, which would be gone with them.
    pub fn new_trees(&mut self, id: TableId) -> Done<()> {
        let table = self.table(id)?;
        if table.history.is_some() {
            return Err(keeps_history(&table).into());
        }
        let tree = self.oid(table.group)?;
        let mut trees = Vec::new();
        for index in &table.indexes {
            trees.push(if index.tree == table.tree {
                tree
            } else {
                self.oid(table.group)?
            });
        }
        self.edit_table(id, |t| {
            t.tree = tree;
            for (index, tree) in t.indexes.iter_mut().zip(trees) {
                index.tree = tree;
            }
        })?;
        Ok(())
    }

    fn foreign_keys_over(
        &self,
        table: &Table,
        column: ColumnId,
    ) -> Vec<(TableId, crate::catalog::ForeignKey)> {
        let own = table
            .foreign_keys()
            .filter(|k| k.columns.contains(&column))
            .map(|k| (table.id, k.clone()));
        let others = table.referenced_by.iter().filter_map(|(other, oid)| {
            let child = self.catalog.table(*other)?;
            let key = child.foreign_keys().find(|k| k.id == *oid)?;
            key.referenced_columns
                .contains(&column)
                .then(|| (*other, key.clone()))
        });
        own.chain(others).collect()
    }

    fn breaks(
        &self,
        child: TableId,
        key: &crate::catalog::ForeignKey,
        column: &Column,
        ty: crate::types::Type,
    ) -> Done<bool> {
        let (child, parent) = (self.table(child)?, self.table(key.references)?);
        for (from, to) in key.columns.iter().zip(&key.referenced_columns) {
            let (Some(from), Some(to)) = (child.column_by_id(*from), parent.column_by_id(*to))
            else {
                continue;
            };
            let other = if from.id == column.id && from.name == column.name {
                to
            } else {
                from
            };
            let same = other.ty.oid == ty.oid
                || other.ty.is_number() && ty.is_number()
                || other.ty.is_string() && ty.is_string();
            if !same {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub fn edit_column(
        &mut self,
        id: TableId,
        column: ColumnId,
        edit: impl FnOnce(&mut Column),
    ) -> Done<()> {
        self.edit_table(id, |t| {
            if let Some(c) = t.columns.iter_mut().find(|c| c.id == column) {
                edit(c);
            }
        })?;
        Ok(())
    }

    fn owner_named(&self, owner: &ast::Owner) -> Result<RoleId> {
        Ok(match owner {
            ast::Owner::Ident(name) => self.catalog.find_role(&ident(name))?.id,
            ast::Owner::CurrentRole | ast::Owner::CurrentUser => self.role,
            ast::Owner::SessionUser => self.login,
        })
    }

    /// OWNER TO beside other actions.
    fn owner_to(&mut self, id: TableId, owner: &ast::Owner) -> Done<()> {
        let owner = self.owner_named(owner)?;
        if self.table(id)?.owner == owner {
            return Ok(());
        }
        Err(
            Error::unsupported("OWNER TO another owner together with other actions")
                .hint("Use an ALTER TABLE statement of its own.")
                .into(),
        )
    }

    /// OWNER TO the present owner is nothing, or ends a move; to another one it is a move, which takes
    /// more than this statement (`crate::moving`).
    pub fn change_owner(&mut self, table: &Arc<Table>, owner: RoleId) -> Done<()> {
        if table.owner == owner {
            if table.goes_to().is_none() {
                return Ok(());
            }
            if table.has_left() {
                return Err(moving::being_moved(table).into());
            }
            self.ground.lock(table, TableMode::ShareUpdateExclusive)?;
            self.edit_table(table.id, |t| t.moving = None)?;
            return Ok(());
        }
        if table.kind != TableKind::Table {
            return Err(moving::stays(&self.catalog, table).into());
        }
        moving::check(&self.catalog, self.role, table, owner)?;
        self.moved = Some((Arc::clone(table), owner));
        Ok(())
    }

    /// Renames a table, view or sequence.
    pub fn rename_relation(&mut self, id: TableId, new: String) -> Done<()> {
        let table = self.table(id)?;
        self.must_be_free(table.schema, &new)?;
        self.reserve(table.schema, &[&new], table.owner)?;
        let schema = self.catalog.schema_name(table.schema).to_owned();
        let (from, to) = (
            (schema.as_str(), table.name.as_str()),
            (schema.as_str(), new.as_str()),
        );
        self.rename_in_views(id, from, to)?;
        self.edit_table(id, |t| t.name.clone_from(&new))?;
        Ok(())
    }

    /// ALTER ... SET SCHEMA: within the owner's, private or public.
    pub fn set_schema(&mut self, id: TableId, schema: &str) -> Done<()> {
        let table = self.table(id)?;
        let target = self.schema_named(schema)?;
        if target.id == table.schema {
            return Ok(());
        }
        let owner = match self.creator(&target)? {
            // A superuser acts for the table's owner in `public`.
            _ if target.id == crate::catalog::SchemaId::PUBLIC => table.owner,
            owner => owner,
        };
        if owner != table.owner {
            return Err(Error::unsupported("moving a table to another owner's schema").into());
        }
        if table.moving.is_some() {
            return Err(moving::being_moved(&table).into());
        }
        self.ground.lock(&table, TableMode::AccessExclusive)?;
        let mut names: Vec<&str> = vec![&table.name];
        names.extend(table.indexes.iter().map(|i| i.name.as_str()));
        for name in &names {
            if self.catalog.relation_by_name(target.id, name).is_some() {
                return Err(Error::new(
                    state::DUPLICATE_TABLE,
                    format!(
                        "relation \"{name}\" already exists in schema \"{}\"",
                        target.name
                    ),
                )
                .into());
            }
        }
        self.reserve(target.id, &names, table.owner)?;
        let from_schema = self.catalog.schema_name(table.schema).to_owned();
        let (from, to) = (
            (from_schema.as_str(), table.name.as_str()),
            (target.name.as_str(), table.name.as_str()),
        );
        self.rename_in_views(id, from, to)?;
        self.edit_table(id, |t| t.schema = target.id)?;
        for sequence in self.owned_sequences(id, None) {
            let name = self.table(sequence)?.name.clone();
            self.must_be_free(target.id, &name)?;
            self.reserve(target.id, &[&name], table.owner)?;
            self.edit_table(sequence, |t| t.schema = target.id)?;
        }
        Ok(())
    }

    fn rename_in_views(&mut self, id: TableId, from: (&str, &str), to: (&str, &str)) -> Done<()> {
        let views: Vec<Arc<Table>> = self
            .catalog
            .tables()
            .filter(|t| t.depends_on.iter().any(|(on, _)| *on == id))
            .cloned()
            .collect();
        for view in views {
            let old = match (&view.kind, &view.projection) {
                (TableKind::View(old), _) => &old.definition,
                (_, Some(old)) => &old.definition,
                _ => continue,
            };
            if view.owner != self.table(id)?.owner {
                return Err(Error::new(
                    state::DEPENDENT_OBJECTS_STILL_EXIST,
                    format!(
                        "cannot rename relation \"{}\" because other owners' views use it",
                        from.1
                    ),
                )
                .into());
            }
            let definition = expression::rename_relation(old, from, to)?;
            self.edit_table(view.id, |t| match &mut t.projection {
                Some(projection) => projection.definition = definition,
                None => t.kind = TableKind::View(crate::catalog::View { definition }),
            })?;
        }
        Ok(())
    }
}

/// What PostgreSQL calls an action of ALTER TABLE: its first words.
fn action(operation: &AlterTableOperation) -> String {
    if let AlterTableOperation::AlterColumn { op, .. } = operation {
        let what = match op {
            AlterColumnOperation::SetNotNull => "SET NOT NULL",
            AlterColumnOperation::DropNotNull => "DROP NOT NULL",
            AlterColumnOperation::SetDefault { .. } => "SET DEFAULT",
            AlterColumnOperation::DropDefault => "DROP DEFAULT",
            AlterColumnOperation::SetDataType { .. } => "SET DATA TYPE",
            AlterColumnOperation::AddGenerated { .. } => "ADD IDENTITY",
        };
        return format!("ALTER COLUMN ... {what}");
    }
    if let AlterTableOperation::AddConstraint { .. } = operation {
        return "ADD CONSTRAINT".to_owned();
    }
    let text = operation.to_string();
    let words = text.split_whitespace().take(2);
    let upper = |word: &&str| word.chars().all(|c| c.is_ascii_uppercase());
    words.take_while(upper).collect::<Vec<_>>().join(" ")
}

fn rename_target(name: &ast::RenameTableNameKind) -> Result<String> {
    let (ast::RenameTableNameKind::As(name) | ast::RenameTableNameKind::To(name)) = name;
    match parts(name)?.as_slice() {
        [name] => Ok(name.clone()),
        _ => Err(Error::new(
            state::SYNTAX_ERROR,
            "the new name cannot have a schema",
        )),
    }
}

/// A constraint by name, or 42704.
pub(super) fn find_constraint<'t>(table: &'t Table, name: &str) -> Result<&'t Constraint> {
    table
        .constraints
        .iter()
        .find(|c| c.name() == name)
        .ok_or_else(|| {
            Error::new(
                state::UNDEFINED_OBJECT,
                format!(
                    "constraint \"{name}\" of relation \"{}\" does not exist",
                    table.name
                ),
            )
        })
}

fn no_index(table: &Table, name: &str) -> Error {
    Error::new(
        state::UNDEFINED_OBJECT,
        format!(
            "index \"{name}\" for table \"{}\" does not exist",
            table.name
        ),
    )
}

/// Does a constraint of the table name the column?
pub(super) fn constraint_uses(table: &Table, constraint: &Constraint, column: ColumnId) -> bool {
    match constraint {
        Constraint::Check { expression, .. } => columns_in(table, expression).contains(&column),
        Constraint::Foreign(key) => {
            key.columns.contains(&column)
                || key.references == table.id && key.referenced_columns.contains(&column)
        }
        Constraint::Unique { index, .. } | Constraint::Primary { index, .. } => {
            table.index(*index).is_some_and(|i| {
                i.include.contains(&column)
                    || i.columns.iter().any(|c| c.what == IndexKey::Column(column))
            })
        }
    }
}

/// 0A000: what senders rely on.
fn fixed_inbox() -> Error {
    Error::unsupported("making a table an inbox, or no inbox")
        .hint("Create another table WITH (inbox = true).")
}

fn keeps_history(table: &Table) -> Error {
    let message = format!("cannot rewrite table \"{}\"", table.name);
    Error::new(state::OBJECT_NOT_IN_PREREQUISITE_STATE, message)
        .detail("It keeps its history, which is in the rows as they were written.")
        .hint(
            "DELETE removes rows and keeps their history, a new column can take over from an old \
             one, and ALTER TABLE ... RESET (history) gives the history up.",
        )
}
