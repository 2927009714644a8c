//! What a running call of `freehold.changes` follows: it ends once some of that is taken away,
//! as a reader that goes on without it would never learn what it has missed.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::filter::Filter;
use crate::catalog::{Catalog, TableId, TableKind};
use crate::{Error, Result, state};

/// The tables that a call has been able to read since it began.
#[derive(Default)]
pub(super) struct Followed {
    tables: BTreeSet<TableId>,
    /// The catalog of the last look.
    catalog: Option<Arc<Catalog>>,
}

impl Followed {
    /// Looks at the newest catalog. What has become readable is followed from now on, what was
    /// dropped is forgotten.
    ///
    /// # Errors
    /// 42501 naming a table that is still there and may not be read any more.
    pub fn look(&mut self, filter: &Filter, newest: Arc<Catalog>) -> Result<()> {
        if self
            .catalog
            .as_ref()
            .is_some_and(|last| Arc::ptr_eq(last, &newest))
        {
            return Ok(());
        }
        self.tables.retain(|id| newest.table(*id).is_some());
        let taken = self
            .tables
            .iter()
            .filter_map(|id| newest.table(*id))
            .find(|table| !filter.may(&newest, table));
        if let Some(table) = taken {
            return Err(Error::new(
                state::INSUFFICIENT_PRIVILEGE,
                format!("permission denied for table {}", table.name),
            ));
        }
        let read = newest
            .tables()
            .filter(|table| table.kind == TableKind::Table)
            .filter(|table| filter.wants(&newest, table) && filter.may(&newest, table));
        self.tables.extend(read.map(|table| table.id));
        self.catalog = Some(newest);
        Ok(())
    }
}
