//! What DDL may not take from other owners whose foreign keys reference a table; and the index that a
//! foreign key to another owner's table needs.

use std::collections::{BTreeMap, BTreeSet};

use super::constraint::{key_of, plain};
use super::draft::{Done, Draft, Work};
use crate::catalog::{ColumnId, Index, IndexState, Registration, Table, TableId};
use crate::{Error, Result, state};

impl Draft<'_> {
    /// Nobody else references these tables; with CASCADE it does not matter who does.
    ///
    /// # Errors
    /// 2BP01, naming roles and never their tables: what is private does not exist for others.
    pub(super) fn check_unreferenced(&self, ids: &[TableId], cascade: bool) -> Done<()> {
        for id in ids {
            let table = self.table(*id)?;
            if !cascade && table.asked().next().is_some() {
                let what = format!("{} {}", crate::catalog::kind(&table), self.display(&table));
                let error = self.still_referenced(&what, table.asked());
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
        let mut of = table.asked().filter(|of| relies(of)).peekable();
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
