//! Foreign keys between owners in DDL: what it may not take from others that reference a table, and what one to
//! another owner's table needs (an index, columns of one type, no circle of actions).

use std::collections::{BTreeMap, BTreeSet};

use super::constraint::{key_of, plain};
use super::draft::{Done, Draft, Work};
use crate::catalog::{
    ColumnId, ForeignKey, Index, IndexState, ReferentialAction, Registration, Table, TableId,
};
use crate::types::Type;
use crate::types::kind::oid;
use crate::{Error, Result, state};

impl Draft<'_> {
    /// Nobody else references these tables; with CASCADE it does not matter who does.
    ///
    /// # Errors
    /// 2BP01, naming roles and never their tables: what is private does not exist for others.
    pub(super) fn check_unreferenced(&self, ids: &[TableId], cascade: bool) -> Done<()> {
        for id in ids {
            let table = self.table(*id)?;
            if !cascade && !table.registered.is_empty() {
                let what = format!("{} {}", crate::catalog::kind(&table), self.display(&table));
                let error = self.still_referenced(&what, table.registered.iter());
                let hint = "Use DROP ... CASCADE to drop it all the same: their foreign keys are dropped, too.";
                return Err(error.hint(hint).into());
            }
        }
        Ok(())
    }

    /// Nobody else relies on the index, or on the column.
    ///
    /// # Errors
    /// 2BP01.
    pub(super) fn check_not_asked(
        &self,
        table: &Table,
        what: &str,
        relies: impl Fn(&Registration) -> bool,
    ) -> Result<()> {
        let mut of = table.registered.iter().filter(|of| relies(of)).peekable();
        match of.peek() {
            None => Ok(()),
            Some(_) => Err(self
                .still_referenced(what, of)
                .hint("Create the next version of the table, and drop this one when nobody references it.")),
        }
    }

    fn still_referenced<'a>(
        &self,
        what: &str,
        of: impl Iterator<Item = &'a Registration>,
    ) -> Error {
        let owners = of.filter_map(|of| self.catalog.owner_of_group(of.group));
        let owners: BTreeSet<_> = owners.collect();
        let line = |role| format!("role \"{}\" references it", self.catalog.role_name(role));
        let lines: Vec<String> = owners.into_iter().map(line).collect();
        let message = format!("cannot drop {what} because other objects depend on it");
        Error::new(state::DEPENDENT_OBJECTS_STILL_EXIST, message).detail(lines.join("\n"))
    }

    /// Would a row that goes come back to itself through several owners?
    ///
    /// # Errors
    /// 0A000.
    pub(super) fn check_circle(
        &self,
        table: &Table,
        parent: &Table,
        columns: &[ColumnId],
        actions: [ReferentialAction; 2],
    ) -> Result<()> {
        if !self.passes_on(table, columns, &actions) {
            return Ok(());
        }
        let (mut open, mut seen) = (vec![table.id], BTreeSet::new());
        while let Some(id) = open.pop() {
            if id == parent.id {
                return Err(Error::unsupported("a circle of foreign keys through several owners")
                    .detail(format!(
                        "What is removed from \"{}\" could remove rows of \"{}\", and these rows of \"{}\" \
                         again.",
                        parent.name, table.name, parent.name
                    ))
                    .hint("Leave out CASCADE, SET NULL and SET DEFAULT of one of them."));
            }
            if !seen.insert(id) {
                continue;
            }
            for child in self.catalog.tables() {
                let mut keys = child.foreign_keys().filter(|key| key.references == id);
                let acts = |key: &ForeignKey| {
                    self.passes_on(child, &key.columns, &[key.on_delete, key.on_update])
                };
                if keys.any(acts) {
                    open.push(child.id);
                }
            }
        }
        Ok(())
    }

    /// Can an action remove or change a key of the table that is referenced itself?
    fn passes_on(
        &self,
        table: &Table,
        columns: &[ColumnId],
        actions: &[ReferentialAction],
    ) -> bool {
        let sets = |action: &ReferentialAction| {
            matches!(
                action,
                ReferentialAction::SetNull | ReferentialAction::SetDefault
            )
        };
        let keyed = table.indexes.iter().filter(|index| index.unique);
        let mut keyed = keyed.flat_map(key_of);
        actions.contains(&ReferentialAction::Cascade)
            || actions.iter().any(sets) && keyed.any(|column| columns.contains(&column))
    }

    /// An index that begins with the referencing columns, if there is none: it is looked at whenever the
    /// other owner removes a key.
    pub(super) fn index_reference(
        &mut self,
        id: TableId,
        columns: &[ColumnId],
        fresh: bool,
    ) -> Done<()> {
        let table = self.table(id)?;
        let wanted: BTreeSet<ColumnId> = columns.iter().copied().collect();
        let begins = |index: &Index| {
            let first: BTreeSet<ColumnId> = key_of(index).into_iter().take(columns.len()).collect();
            let plain = index.columns.iter().take(columns.len());
            index.predicate.is_none() && first == wanted && plain.len() == columns.len()
        };
        if table.indexes.iter().any(begins) {
            return Ok(());
        }
        let names = columns.iter().filter_map(|id| table.column_by_id(*id));
        let names: Vec<&str> = names.map(|column| column.name.as_str()).collect();
        let name = self.free_name(table.schema, &table.name, &names.join("_"), "idx", &[]);
        self.reserve(table.schema, &[&name], table.owner)?;
        let index = Index {
            id: self.oid(table.group)?,
            name,
            tree: self.oid(table.group)?,
            columns: columns.iter().map(|column| plain(*column)).collect(),
            include: Vec::new(),
            unique: false,
            nulls_not_distinct: false,
            primary: false,
            predicate: None,
            state: IndexState::Ready,
            method: "btree".to_owned(),
            options: BTreeMap::new(),
            comment: None,
            clustered: false,
        };
        let index_id = index.id;
        self.edit_table(id, |table| table.indexes.push(index))?;
        if !fresh {
            self.work.push(Work::BuildIndex {
                table: id,
                index: index_id,
            });
        }
        Ok(())
    }
}

/// Has a key the same place in the indexes of both? The owner of the referencing table finds its rows by its
/// own index.
pub(super) fn alike(
    table: &Table,
    columns: &[ColumnId],
    parent: &Table,
    referred: &[ColumnId],
    name: &str,
) -> Result<()> {
    let integer = |ty: Type| [oid::INT2, oid::INT4, oid::INT8].contains(&ty.oid);
    let text = |ty: Type| [oid::TEXT, oid::VARCHAR].contains(&ty.oid);
    for (from, to) in columns.iter().zip(referred) {
        let (Some(from), Some(to)) = (table.column_by_id(*from), parent.column_by_id(*to)) else {
            return Err(Error::internal("a key column is missing"));
        };
        let (own, other) = (from.ty, to.ty);
        // Blanks at the end count by the length.
        let length = own.oid != oid::BPCHAR || own.modifier == other.modifier;
        let same = own.oid == other.oid && length
            || integer(own) && integer(other)
            || text(own) && text(other);
        if !same {
            let message = format!("foreign key constraint \"{name}\" cannot be implemented");
            return Err(Error::new(state::DATATYPE_MISMATCH, message)
                .detail(format!(
                    "Between owners key columns are of one type; \"{}\" is {} and \"{}\" is {}.",
                    from.name,
                    own.name(),
                    to.name,
                    other.name()
                ))
                .hint(format!("Make \"{}\" {}.", from.name, other.name())));
        }
    }
    Ok(())
}
