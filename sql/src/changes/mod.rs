//! The feed in SQL: `freehold.changes(...)` and `freehold.feed`. Entries come in order from a
//! [`Log`] that the server plugs; here they become rows that a role may see, with the names that
//! were valid at their position.
//!
//! Who sees what: a row's change, whoever has READ on its table; a change of the schema, likewise
//! (one without a table: superusers); an event that names a table, likewise; an event that names
//! none, whoever has READ on any table of its owner in `public`.

mod columns;
mod filter;
mod followed;
mod function;
mod json;
mod page;
mod position;
mod relation;
mod rows;

use storage::{Change, Entry, GroupId, Position};

use crate::Error;
use crate::catalog::Table;
use crate::types::{FormatSettings, Type};

pub use columns::COLUMNS;
pub use function::Changes;
pub use position::{PositionAt, SnapshotPosition};
pub use relation::FeedRelation;

/// Committed entries in order, from the journal.
pub trait Log: Send + Sync {
    /// How far all groups are closed now, those that nobody may read included: each of them may
    /// make a table visible.
    fn closed(&self) -> Position;

    /// Units of these groups after `after` (`None`: from the oldest retained), up to `closed`.
    ///
    /// # Errors
    /// OW001 behind retention.
    fn read(
        &self,
        groups: &[GroupId],
        after: Option<Position>,
        closed: Position,
    ) -> Result<Box<dyn Units>, Error>;

    /// The time, in microseconds since 1970.
    fn now(&self) -> u64;
}

/// Units in order; ends where the groups were closed when it was opened.
pub trait Units: Send {
    /// Nothing at or below it is missing once all units are taken.
    fn closed(&self) -> Position;

    /// The next unit: all entries of one position.
    ///
    /// # Errors
    /// The journal can't be read.
    fn next(&mut self) -> Result<Option<Unit>, Error>;
}

/// All entries of one position, by group.
pub struct Unit {
    /// The position.
    pub position: Position,
    /// The entries.
    pub entries: Vec<Box<dyn LogEntry>>,
}

/// One committed entry.
pub trait LogEntry: Send {
    /// Its group.
    fn group(&self) -> GroupId;

    /// Header, events; changes too, unless they are in parts.
    fn entry(&self) -> &Entry;

    /// All changes in order of `seq`, read as they are asked for.
    ///
    /// # Errors
    /// The journal can't be read.
    fn into_changes(self: Box<Self>) -> Result<LogChanges, Error>;
}

/// Changes of one entry.
pub type LogChanges = Box<dyn Iterator<Item = Result<Change, Error>> + Send>;

/// The bytes of a row as a JSON object by column name, as the feed shows it.
///
/// # Errors
/// The bytes are no row of this table.
pub fn row_text(table: &Table, bytes: &[u8]) -> Result<String, Error> {
    let mut out = Vec::new();
    json::row(table, bytes)?.write_text(Type::JSONB, &FormatSettings::default(), &mut out);
    Ok(String::from_utf8_lossy(&out).into_owned())
}
