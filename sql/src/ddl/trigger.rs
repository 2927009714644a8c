//! CREATE, ALTER and DROP TRIGGER, and what becomes of triggers with their tables, columns and
//! functions.

use std::ops::ControlFlow;
use std::sync::Arc;

use storage::GroupId;

use super::constraint::column_named;
use super::draft::{Done, Draft};
use super::name::{parts, shown};
use crate::catalog::{
    Change, Column, Object, Relation, RoleId, Routine, Table, TableId, TableKind, Timing, Trigger,
};
use crate::parse::{self, CreateTrigger, DropTrigger, EnableTrigger};
use crate::transaction::TableMode;
use crate::{Error, Result, plan, state};

impl Draft<'_> {
    pub fn create_trigger(&mut self, create: &CreateTrigger) -> Done<()> {
        if let Some(what) = create.unsupported {
            return Err(Error::unsupported(what).into());
        }
        let table = self.trigger_table(create)?;
        super::event::check_trigger(&table, create)?;
        let place = self.trigger_place(&table, create.timing)?;
        let mut columns = Vec::with_capacity(create.columns.len());
        for name in &create.columns {
            let column = column_named(&table, name)?.id;
            if columns.contains(&column) {
                let message = format!("column \"{name}\" specified more than once");
                return Err(Error::new(state::DUPLICATE_COLUMN, message).into());
            }
            columns.push(column);
        }
        if let Some(when) = &create.when {
            check_condition(create, when)?;
            plan::check_trigger_condition(&self.catalog, &table, when)?;
        }
        let routine = self.trigger_function(create)?;
        let named = self.catalog.triggers_of(table.id).into_iter();
        let old = named
            .filter(|t| t.group == place.group)
            .find(|t| t.name == create.name);
        if old.is_some() && !create.or_replace {
            let message = format!(
                "trigger \"{}\" for relation \"{}\" already exists",
                create.name, table.name
            );
            return Err(Error::new(state::DUPLICATE_OBJECT, message).into());
        }
        place.lock(&table, TableMode::ShareRowExclusive, self)?;
        let trigger = Trigger {
            id: match &old {
                Some(old) => old.id,
                None => self.oid(place.group)?,
            },
            owner: place.owner,
            group: place.group,
            table: table.id,
            name: create.name.clone(),
            routine: routine.id,
            timing: create.timing,
            events: create.events,
            columns,
            when: create.when.clone(),
            arguments: create.arguments.clone(),
            enabled: crate::catalog::Enabled::Origin,
            comment: None,
            // One in another's place goes on where that one is.
            after: old.as_ref().map_or(place.after, |old| old.after),
            source: match &old {
                Some(old) => old.source,
                None => place.after.map(|_| table.group.0),
            },
        };
        self.put_trigger(old, trigger);
        Ok(())
    }

    /// Where a trigger on the table belongs: with the table, or with the role that follows it.
    fn trigger_place(&mut self, table: &Table, timing: Timing) -> Done<TriggerPlace> {
        if self.catalog.has_role(self.role, table.owner) {
            return Ok(TriggerPlace {
                owner: table.owner,
                group: table.group,
                after: None,
            });
        }
        if timing != Timing::After {
            return Err(Error::unsupported("a BEFORE trigger on a followed table")
                .hint("Its rows are there already: create an AFTER trigger.")
                .into());
        }
        let mut follows = self.catalog.follows_of(self.role);
        if !follows.any(|follow| follow.covers(table)) {
            let message = format!("table \"{}\" is not followed", table.name);
            let state = state::OBJECT_NOT_IN_PREREQUISITE_STATE;
            return Err(Error::new(state, message)
                .hint(format!("FOLLOW {} first.", table.name))
                .into());
        }
        let group = self.ground.group_for(self.role)?;
        Ok(TriggerPlace {
            owner: self.role,
            group,
            after: Some(self.ground.position(table.group)?.0),
        })
    }

    /// The table, and where a trigger of this role on it is.
    fn placed_relation(
        &mut self,
        name: &sqlparser::ast::ObjectName,
    ) -> Done<(Arc<Table>, TriggerPlace)> {
        if let Relation::Table(table) = self.relation(name)?
            && !self.catalog.has_role(self.role, table.owner)
            && self.catalog.reads_table(self.role, &table)
            && let Some(group) = self.catalog.group_of(self.role)
        {
            let place = TriggerPlace {
                owner: self.role,
                group,
                after: Some(0),
            };
            return Ok((table, place));
        }
        let table = self.own_relation(name)?;
        let place = TriggerPlace {
            owner: table.owner,
            group: table.group,
            after: None,
        };
        Ok((table, place))
    }

    /// The table or view of a new trigger: the role's own.
    fn trigger_table(&self, create: &CreateTrigger) -> Result<Arc<Table>> {
        let table = match self.relation(&create.table)? {
            Relation::Table(table) => table,
            Relation::Index(table, at) => {
                let name = &table.indexes[at].name;
                let message = format!("\"{name}\" is not a table or view");
                return Err(Error::new(state::WRONG_OBJECT_TYPE, message));
            }
        };
        let followed = table.kind == TableKind::Table && !table.is_inbox();
        if !followed || !self.catalog.reads_table(self.role, &table) {
            self.catalog.must_own(self.role, &table)?;
        }
        let wrong = |message: String, detail: &str| {
            Err(Error::new(state::WRONG_OBJECT_TYPE, message).detail(detail))
        };
        // The rows of another's projection come in the feed as those of any table do.
        if table.projection.is_some() && self.catalog.has_role(self.role, table.owner) {
            let message = format!("relation \"{}\" cannot have triggers", table.name);
            return wrong(
                message,
                "This operation is not supported for materialized views.",
            );
        }
        match (&table.kind, create.timing) {
            (TableKind::Table, Timing::Before | Timing::After)
            | (TableKind::View(_), Timing::InsteadOf) => {}
            (TableKind::Table, Timing::InsteadOf) => {
                return wrong(
                    format!("\"{}\" is a table", table.name),
                    "Tables cannot have INSTEAD OF triggers.",
                );
            }
            (TableKind::View(_), Timing::Before | Timing::After) => {
                return wrong(
                    format!("\"{}\" is a view", table.name),
                    "Views cannot have row-level BEFORE or AFTER triggers.",
                );
            }
            (TableKind::Sequence(_) | TableKind::System, _) => {
                let message = format!("relation \"{}\" cannot have triggers", table.name);
                return wrong(message, "This operation is not supported for sequences.");
            }
        }
        if create.timing == Timing::InsteadOf {
            let refused = match (create.when.is_some(), create.columns.is_empty()) {
                (true, _) => "INSTEAD OF triggers cannot have WHEN conditions",
                (_, false) => "INSTEAD OF triggers cannot have column lists",
                _ => return Ok(table),
            };
            return Err(Error::new(state::FEATURE_NOT_SUPPORTED, refused));
        }
        Ok(table)
    }

    fn trigger_function(&self, create: &CreateTrigger) -> Result<Arc<Routine>> {
        let names = parts(&create.routine)?;
        let schemas = match names.as_slice() {
            [.., schema, _] => vec![self.schema_named(schema)?.id],
            _ => self.path.clone(),
        };
        let name = names.last().cloned().unwrap_or_default();
        let found = schemas.iter().find_map(|schema| {
            let mut named = self.catalog.routines_named(*schema, &name);
            named.find(|r| r.arguments.is_empty() && self.catalog.sees_routine(self.role, r))
        });
        let Some(routine) = found else {
            let message = format!("function {}() does not exist", shown(&names));
            return Err(Error::new(state::UNDEFINED_FUNCTION, message));
        };
        match routine.is_trigger() {
            true => Ok(Arc::clone(routine)),
            false => Err(Error::new(
                state::INVALID_OBJECT_DEFINITION,
                format!("function {} must return type trigger", shown(&names)),
            )),
        }
    }

    fn put_trigger(&mut self, old: Option<Arc<Trigger>>, new: Trigger) {
        let group = new.group;
        let new = Object::Trigger(Arc::new(new));
        self.change(match old {
            Some(old) => Change::replace(group, Object::Trigger(old), new),
            None => Change::create(group, new),
        });
    }

    /// A trigger by name; 42704 if there is none.
    pub fn trigger_named(&self, table: &Table, name: &str) -> Result<Arc<Trigger>> {
        self.trigger_in(table, table.group, name)
    }

    fn trigger_in(&self, table: &Table, group: GroupId, name: &str) -> Result<Arc<Trigger>> {
        let mut all = self.catalog.triggers_of(table.id).into_iter();
        let found = all.find(|t| t.name == name && t.group == group);
        found.ok_or_else(|| {
            let message = format!(
                "trigger \"{name}\" for table \"{}\" does not exist",
                table.name
            );
            Error::new(state::UNDEFINED_OBJECT, message)
        })
    }

    pub fn drop_trigger(&mut self, drop: &DropTrigger) -> Done<()> {
        if self.find(&drop.table)?.is_none() && drop.if_exists {
            let name = shown(&parts(&drop.table)?);
            self.skips(&format!("relation \"{name}\" does not exist"));
            return Ok(());
        }
        let (table, place) = self.placed_relation(&drop.table)?;
        let trigger = match self.trigger_in(&table, place.group, &drop.name) {
            Ok(trigger) => trigger,
            Err(error) if drop.if_exists => {
                let message = error.0.message.replacen("for table", "for relation", 1);
                self.skips(&message);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        place.lock(&table, TableMode::AccessExclusive, self)?;
        self.remove_trigger(trigger);
        Ok(())
    }

    pub fn remove_trigger(&mut self, trigger: Arc<Trigger>) {
        self.change(Change::drop(trigger.group, Object::Trigger(trigger)));
    }

    /// The triggers of a relation that is dropped.
    pub fn remove_triggers_of(&mut self, table: TableId) {
        // Those of its readers are none of its owner's entries.
        let mut own = self.catalog.triggers_of(table);
        own.retain(|trigger| !trigger.is_on_followed());
        for trigger in own {
            self.remove_trigger(trigger);
        }
    }

    pub fn rename_trigger(
        &mut self,
        old: &str,
        table: &sqlparser::ast::ObjectName,
        new: &str,
    ) -> Done<()> {
        let (table, place) = self.placed_relation(table)?;
        let trigger = self.trigger_in(&table, place.group, old)?;
        if self.trigger_in(&table, place.group, new).is_ok() {
            let message = format!(
                "trigger \"{new}\" for relation \"{}\" already exists",
                table.name
            );
            return Err(Error::new(state::DUPLICATE_OBJECT, message).into());
        }
        place.lock(&table, TableMode::AccessExclusive, self)?;
        let mut renamed = Trigger::clone(&trigger);
        renamed.name = new.to_owned();
        self.put_trigger(Some(trigger), renamed);
        Ok(())
    }

    pub fn enable_trigger(&mut self, enable: &EnableTrigger) -> Done<()> {
        if enable.if_exists && !self.is_there(&enable.table)? {
            return Ok(());
        }
        let (table, place) = self.placed_relation(&enable.table)?;
        let all = match &enable.name {
            Some(name) => vec![self.trigger_in(&table, place.group, name)?],
            None => self.catalog.triggers_of(table.id),
        };
        place.lock(&table, TableMode::ShareRowExclusive, self)?;
        for trigger in all {
            if trigger.enabled == enable.enabled || trigger.group != place.group {
                continue;
            }
            let mut changed = Trigger::clone(&trigger);
            changed.enabled = enable.enabled;
            self.put_trigger(Some(trigger), changed);
        }
        Ok(())
    }

    /// COMMENT ON TRIGGER.
    pub fn comment_trigger(&mut self, comment: &parse::Comment, text: Option<String>) -> Done<()> {
        let on = comment.on.as_ref();
        let on = on.ok_or_else(|| Error::new(state::SYNTAX_ERROR, "syntax error"))?;
        let table = self.own_relation(on)?;
        let trigger = self.trigger_named(&table, &shown(&parts(&comment.name)?))?;
        let mut changed = Trigger::clone(&trigger);
        changed.comment = text;
        self.put_trigger(Some(trigger), changed);
        Ok(())
    }

    /// The triggers of a table that name a column.
    pub fn triggers_over(&self, table: &Table, column: &Column) -> Vec<Arc<Trigger>> {
        let names = |trigger: &Arc<Trigger>| {
            let when = trigger.when.as_deref();
            trigger.columns.contains(&column.id)
                || when.is_some_and(|text| names_column(text, &column.name))
        };
        let all = self.catalog.triggers_of(table.id).into_iter();
        all.filter(|t| t.group == table.group)
            .filter(names)
            .collect()
    }

    /// A column gets another name: WHEN conditions name it so.
    pub fn rename_in_triggers(&mut self, table: &Table, old: &str, new: &str) -> Done<()> {
        for trigger in self.catalog.triggers_of(table.id) {
            let Some(when) = trigger.when.as_ref().filter(|_| !trigger.is_on_followed()) else {
                continue;
            };
            if !names_column(when, old) {
                continue;
            }
            let mut changed = Trigger::clone(&trigger);
            changed.when = Some(renamed(when, old, new)?);
            self.put_trigger(Some(trigger), changed);
        }
        Ok(())
    }

    /// A column that a trigger names keeps its type.
    pub fn no_trigger_over(&self, table: &Table, column: &Column) -> Result<()> {
        match self.triggers_over(table, column).first() {
            None => Ok(()),
            Some(trigger) => Err(Error::new(
                state::FEATURE_NOT_SUPPORTED,
                "cannot alter type of a column used in a trigger definition",
            )
            .detail(format!(
                "trigger {} on table {} depends on column \"{}\"",
                trigger.name,
                self.display(table),
                column.name
            ))),
        }
    }
}

/// Whose a trigger is.
struct TriggerPlace {
    owner: RoleId,
    group: GroupId,
    /// On a followed table: the position from which on it fires.
    after: Option<u64>,
}

impl TriggerPlace {
    /// Locks the table and says in the feed that it changes, where that is its owner's doing.
    fn lock(&self, table: &Table, mode: TableMode, draft: &mut Draft<'_>) -> Done<()> {
        if self.after.is_none() {
            draft.ground.lock(table, mode)?;
            draft.touch(table);
        }
        Ok(())
    }
}

/// `new.c` or `old.c`.
fn is_row(name: &str) -> bool {
    ["new", "old"].contains(&name)
}

/// Does a WHEN name a column, or a row as a whole?
fn names_column(text: &str, column: &str) -> bool {
    use sqlparser::ast::Expr;
    let Ok(parsed) = parse::parse_expression(text) else {
        return false;
    };
    let mut found = false;
    let _ = parse::walk(&parsed, &mut |node| {
        if let parse::Node::Expr(Expr::CompoundIdentifier(names)) = node
            && let [row, name] = names.as_slice()
        {
            found |= is_row(&parse::fold(row)) && parse::fold(name) == column;
        }
        ControlFlow::Continue(())
    });
    found
}

/// A WHEN with another name for a column.
fn renamed(text: &str, old: &str, new: &str) -> Result<String> {
    use sqlparser::ast::{Expr, Ident};
    let mut parsed = parse::parse_expression(text)?;
    parse::walk_mut(&mut parsed, &mut |node| {
        if let parse::NodeMut::Expr(Expr::CompoundIdentifier(names)) = node
            && let [row, name] = names.as_mut_slice()
            && is_row(&parse::fold(row))
            && parse::fold(name) == old
        {
            *name = Ident::with_quote('"', new);
        }
        Ok(())
    })?;
    Ok(parsed.to_string())
}

/// A WHEN names only rows that there are.
fn check_condition(create: &CreateTrigger, when: &str) -> Result<()> {
    use sqlparser::ast::Expr;
    let parsed = parse::parse_expression(when)?;
    let (mut old, mut new) = (false, false);
    let _ = parse::walk(&parsed, &mut |node| {
        let first = match node {
            parse::Node::Expr(Expr::CompoundIdentifier(names)) => names.first(),
            parse::Node::Expr(Expr::Identifier(name)) => Some(name),
            _ => None,
        };
        let name = first.map(parse::fold).unwrap_or_default();
        old |= name == "old";
        new |= name == "new";
        ControlFlow::Continue(())
    });
    let (event, row) = match create.events {
        events if events.insert && old => ("INSERT", "OLD"),
        events if events.delete && new => ("DELETE", "NEW"),
        _ => return Ok(()),
    };
    Err(Error::new(
        state::INVALID_OBJECT_DEFINITION,
        format!("{event} trigger's WHEN condition cannot reference {row} values"),
    ))
}
