//! `freehold.projections`: the projections of the roles that the session's role acts for, and how far
//! those have come that are being filled on this node.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

use super::cell::row;
use super::{SystemColumn, SystemCx, SystemRelation, SystemRows};
use crate::Result;
use crate::catalog::TableId;
use crate::types::{Datum, Type};

/// How far a projection, or a table on its way to another owner, has come that is filled on this node.
#[derive(Clone, Copy, Debug)]
pub struct Filled {
    /// Rows of the base table that were looked at.
    pub done: u64,
    /// Rows that there were of them in the projection.
    pub made: u64,
    /// About how many there are.
    pub total: Option<u64>,
}

/// What is being filled on this node.
#[derive(Clone, Debug, Default)]
pub struct Fills(Arc<Mutex<BTreeMap<TableId, Filled>>>);

/// Shows how far one of them has come, as long as it is kept.
#[derive(Debug)]
pub struct Showing(Fills, TableId);

impl Fills {
    /// To show how far it comes.
    pub fn showing(&self, table: TableId) -> Showing {
        Showing(self.clone(), table)
    }

    pub(super) fn get(&self, table: TableId) -> Option<Filled> {
        self.0.lock().get(&table).copied()
    }
}

impl Showing {
    /// So far it has come.
    pub fn show(&self, filled: Filled) {
        self.0.0.lock().insert(self.1, filled);
    }
}

impl Drop for Showing {
    fn drop(&mut self) {
        self.0.0.lock().remove(&self.1);
    }
}

struct Projections(Fills);

static COLUMNS: LazyLock<[SystemColumn; 6]> = LazyLock::new(|| {
    let column = |name, ty, not_null| SystemColumn { name, ty, not_null };
    [
        column("table_name", Type::TEXT, true),
        column("owner", Type::NAME, true),
        column("base", Type::TEXT, true),
        column("state", Type::TEXT, true),
        column("rows_done", Type::INT8, false),
        column("rows_total", Type::INT8, false),
    ]
});

impl SystemRelation for Projections {
    fn name(&self) -> (&str, &str) {
        ("freehold", "projections")
    }

    fn columns(&self) -> &[SystemColumn] {
        &*COLUMNS
    }

    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        let catalog = cx.catalog;
        let shown = |id: TableId| {
            let table = catalog.table(id)?;
            let schema = catalog.schema_name(table.schema);
            Some(format!("{schema}.{}", table.name))
        };
        let own = catalog.tables().filter(|t| cx.acts_for(t.owner));
        let own = own.filter(|table| table.projection.is_some());
        let number = |n: u64| Datum::Int8(i64::try_from(n).unwrap_or(i64::MAX));
        let rows = own.map(|table| {
            let filled = self.0.get(table.id).filter(|_| table.is_filling());
            let state = match (table.is_filling(), filled) {
                (false, _) => "ready",
                (true, Some(_)) => "filling",
                (true, None) => "not populated",
            };
            let base = table.depends_on.first().and_then(|(id, _)| shown(*id));
            row![
                shown(table.id),
                catalog.role_name(table.owner),
                base,
                state,
                filled.map(|filled| number(filled.done)),
                filled.and_then(|filled| filled.total).map(number),
            ]
        });
        let rows: Vec<_> = rows.collect();
        Ok(Box::new(rows.into_iter().map(Ok)))
    }
}

/// The relation over what is being filled.
pub(crate) fn relation(fills: &Fills) -> Arc<dyn SystemRelation> {
    Arc::new(Projections(fills.clone()))
}
