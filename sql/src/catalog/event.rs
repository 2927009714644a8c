//! Event tables, `WITH (event = true)`: an INSERT puts an event into the transaction's entry, and no row
//! is ever stored. What they can't be is refused here and in `ddl/event.rs`.

use super::{Catalog, ColumnId, Table};
use crate::error::{Error, Result, state};

impl Table {
    /// Is it an event table?
    pub fn is_event(&self) -> bool {
        self.options.get("event").is_some_and(|v| v == "true")
    }

    /// The columns that say which rows an event is about.
    pub fn about_columns(&self) -> Vec<ColumnId> {
        let keys = self.foreign_keys().flat_map(|key| &key.columns);
        keys.copied().collect()
    }
}

impl Catalog {
    /// Is it an event table?
    pub(crate) fn is_event(&self, id: super::TableId) -> bool {
        self.table(id).is_some_and(|table| table.is_event())
    }
}

/// No row of it is stored, so there is none to be read.
///
/// # Errors
/// 0A000 for an event table.
pub(crate) fn check_readable(table: &Table) -> Result<()> {
    match table.is_event() {
        false => Ok(()),
        true => Err(refused("read", table).hint(format!(
            "Its events are in the feed: SELECT position, event FROM freehold.changes(tables => \
             ARRAY['{}']).",
            table.name
        ))),
    }
}

/// What has happened stays as it was.
///
/// # Errors
/// 0A000 for an event table.
pub(crate) fn check_changeable(verb: &str, table: &Table) -> Result<()> {
    match table.is_event() {
        false => Ok(()),
        true => Err(refused(verb, table).hint("INSERT another event that says what is different.")),
    }
}

/// 0A000.
fn refused(verb: &str, table: &Table) -> Error {
    Error::new(
        state::FEATURE_NOT_SUPPORTED,
        format!("cannot {verb} event table \"{}\"", table.name),
    )
    .detail("Events are in the feed, and never stored.")
}
