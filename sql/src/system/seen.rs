//! What of the catalog the asking role sees: relations, their columns, and stored expressions.

use std::sync::Arc;

use super::SystemCx;
use crate::catalog::{Column, ColumnId, RoleId, Seen, Table, TableId, TableKind};
use crate::types::Datum;

impl<'a> SystemCx<'a> {
    /// The relations that exist for the role, by OID; one of them if the query asks for one by
    /// `relation = constant` in column `key`.
    pub(super) fn tables(&self, key: Option<usize>) -> Vec<&'a Arc<Table>> {
        let wanted = key.and_then(|k| self.wanted(k));
        match wanted {
            Some(oid) => {
                let found = self.catalog.relation(oid).map(|r| r.table().id);
                let table = found.and_then(|id| self.catalog.table(id));
                table.into_iter().filter(|t| self.sees(t)).collect()
            }
            None => self.catalog.tables().filter(|t| self.sees(t)).collect(),
        }
    }

    /// The same without system relations.
    pub(super) fn stored(&self, key: Option<usize>) -> Vec<&'a Arc<Table>> {
        let mut tables = self.tables(key);
        tables.retain(|t| t.kind != TableKind::System);
        tables
    }

    /// The OID that a column must equal.
    pub(super) fn wanted(&self, column: usize) -> Option<u32> {
        match self.equal(column)? {
            Datum::Oid(oid) => Some(*oid),
            Datum::Int4(n) => u32::try_from(*n).ok(),
            Datum::Int8(n) => u32::try_from(*n).ok(),
            _ => None,
        }
    }

    /// Does the relation exist for the role?
    pub(super) fn sees(&self, table: &Table) -> bool {
        self.catalog.sees(self.role, table)
    }

    /// Does the role see everything about it (indexes, constraints, expressions)?
    pub(super) fn sees_all(&self, table: &Table) -> bool {
        self.catalog.seen(self.role, table) == Seen::All
    }

    /// The columns that exist for the role; dropped ones are not among them.
    pub(super) fn columns<'t>(&self, table: &'t Table) -> Vec<&'t Column> {
        if self.sees_all(table) {
            return table.live_columns().collect();
        }
        let of_table = !self.catalog.privileges(self.role, table).is_empty();
        let granted = |id: ColumnId| {
            !self
                .catalog
                .column_privileges(self.role, table, id)
                .is_empty()
        };
        let any = table.live_columns().any(|c| granted(c.id));
        table
            .live_columns()
            .filter(|c| granted(c.id) || of_table && !any)
            .collect()
    }

    /// A relation by OID, if it exists for the role.
    pub(super) fn table(&self, id: TableId) -> Option<&'a Arc<Table>> {
        self.catalog.table(id).filter(|t| self.sees(t))
    }

    /// May the role act for this one?
    pub fn acts_for(&self, owner: RoleId) -> bool {
        self.catalog.has_role(self.role, owner)
    }
}

/// Does everything that a stored text names exist for the role?
pub(super) fn sees_text(cx: &SystemCx<'_>, text: &str) -> bool {
    super::definition::sees_expression(cx.catalog, cx.role, text)
}
