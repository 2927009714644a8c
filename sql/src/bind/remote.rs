//! Views whose tables must not come to this node: what the statement's role may not read itself
//! stays where it is, and the view's rows come from there (`crate::remote`).

use std::sync::Arc;

use storage::GroupId;

use super::Binder;
use super::scope::{FromItem, Range};
use crate::catalog::{RoleId, Table, TableKind};
use crate::error::{Error, Result, state};
use crate::plan::{Rel, RelColumn, SystemRel};
use crate::remote::View;

impl Binder<'_> {
    /// The view as a leaf, if a table behind it may not come here and another node can evaluate it as
    /// a whole: all its tables are of one group, and its rows may come here.
    pub(super) fn remote_view(
        &mut self,
        view: &Arc<Table>,
        alias: &str,
    ) -> Result<Option<FromItem>> {
        let behind = self.catalog.behind(view);
        let mut hidden = false;
        for (table, owner) in &behind.tables {
            hidden |= !self.is_here(table, *owner);
        }
        let Some((first, _)) = behind.tables.first().filter(|_| hidden) else {
            return Ok(None);
        };
        let group = first.group;
        let one = behind.tables.iter().all(|(table, _)| table.group == group);
        let Some(reader) = self.reader_of(view).filter(|_| one) else {
            // What it stands on may be.
            return Ok(None);
        };
        self.remote.insert(view.id, group);
        let mut told_by = behind.told_by;
        told_by.extend([GroupId::DIRECTORY, group]);
        Ok(Some(self.leaf(
            View {
                table: Arc::clone(view),
                schema: self.catalog.schema_name(view.schema).to_owned(),
                group,
                reader,
                told_by: told_by.into_iter().collect(),
            },
            alias,
        )))
    }

    /// The commands that the role has sent to an inbox, as a leaf if they are on other nodes: copies of
    /// an inbox are nowhere.
    pub(super) fn remote_commands(&mut self, inbox: &Arc<Table>, alias: &str) -> Option<FromItem> {
        let registry = self.cx.registry;
        let group = inbox.group;
        let copied = self.placed.entry(group);
        if !*copied.or_insert_with(|| registry.is_copied(group)) {
            return None;
        }
        self.remote.insert(inbox.id, group);
        let view = View {
            table: Arc::clone(inbox),
            schema: self.catalog.schema_name(inbox.schema).to_owned(),
            group,
            reader: self.role,
            told_by: vec![GroupId::DIRECTORY, group],
        };
        Some(self.leaf(view, alias))
    }

    fn leaf(&mut self, view: View, alias: &str) -> FromItem {
        let table = Arc::clone(&view.table);
        let columns: Vec<RelColumn> = table
            .live_columns()
            .map(|column| self.column(&column.name, column.ty))
            .collect();
        let mut range = Range::over(alias, &columns);
        for (shown, column) in range.columns.iter_mut().zip(table.live_columns()) {
            shown.origin = table.column_index(column.id);
        }
        range.table = Some(table);
        let name = (view.schema.clone(), view.table.name.clone());
        let rel = Rel::System(Box::new(SystemRel {
            relation: Arc::new(view),
            name,
            alias: alias.to_owned(),
            columns,
            filter: Vec::new(),
        }));
        FromItem::single(rel, range)
    }

    /// A table within a view, which is about to be read here.
    ///
    /// # Errors
    /// 0A000 if its rows must not come to this node.
    pub(super) fn may_come(&mut self, table: &Table) -> Result<()> {
        let Some(outermost) = self.views.first().copied() else {
            return Ok(());
        };
        let owner = self.role;
        // Who may not read it is told so.
        if !self.catalog.reads_table(owner, table) || self.is_here(table, owner) {
            return Ok(());
        }
        let view = self.catalog.table(outermost);
        let name = view.map_or("", |view| view.name.as_str());
        Err(Error::new(
            state::FEATURE_NOT_SUPPORTED,
            format!("view \"{name}\" can't be read at this node"),
        )
        .detail(
            "It joins tables of several owners that the role may not read by itself, so their rows \
             must not come here.",
        )
        .hint(
            "Read it at a node that holds replicas of these owners, or let each owner give a view of \
             its own tables.",
        ))
    }

    /// Are the rows of a table here, or may they come? Where the group is held they are; else the
    /// statement's role may have a copy of what it may read itself, and the owner of a view at a node
    /// on which its own group stands.
    fn is_here(&mut self, table: &Table, owner: RoleId) -> bool {
        let registry = self.cx.registry;
        let copied = self.placed.entry(table.group);
        let copied = *copied.or_insert_with(|| registry.is_copied(table.group));
        !copied
            || self.catalog.reads_table(self.cx.role, table)
            || (self.catalog.places(owner, registry.node())
                && self.catalog.reads_table(owner, table))
    }

    /// Whose right to read the view lets its rows come here.
    fn reader_of(&self, view: &Table) -> Option<RoleId> {
        let role = self.cx.role;
        if self.role == role || self.catalog.places(self.role, self.cx.registry.node()) {
            return Some(self.role);
        }
        self.catalog.reads_table(role, view).then_some(role)
    }

    /// Row locks are taken where the rows are written.
    ///
    /// # Errors
    /// 0A000 for a view of another node.
    pub(super) fn may_lock(&self, table: &Table, words: &str) -> Result<()> {
        if table.projection.is_some() {
            return Err(Error::new(
                state::WRONG_OBJECT_TYPE,
                format!("cannot lock rows in materialized view \"{}\"", table.name),
            ));
        }
        let view = matches!(table.kind, TableKind::View(_));
        match view && self.remote.contains_key(&table.id) {
            false => Ok(()),
            true => Err(Error::new(
                state::FEATURE_NOT_SUPPORTED,
                format!("{words} is not supported for a view whose rows are on other nodes"),
            )
            .hint("Read it without a row lock.")),
        }
    }
}
