//! The feed in SQL: `freehold.changes(...)` and `freehold.feed`. Entries come in order from a
//! [`Log`] that the server plugs; here they become rows that a role may see, with the names that
//! were valid at their position. Where a node has no log of an owner, another one makes the rows of
//! its entries ([`Given`]), and they are put in order here.
//!
//! Who sees what: a row's change, whoever has READ on its table; a change of the schema, likewise
//! (one without a table: superusers); an event that names a table, likewise; an event that names
//! none, whoever has READ on any table of its owner in `public`.

mod columns;
mod filter;
mod followed;
mod function;
mod given;
mod history;
mod json;
mod page;
mod position;
mod relation;
mod rows;
mod walk;

use std::sync::Arc;

use storage::{Change, Entry, GroupId, Position};

use crate::Error;
use crate::catalog::{Catalog, Table};
use crate::types::{FormatSettings, Type};

pub use columns::{COLUMNS, FeedRow};
pub use filter::Filter;
pub(crate) use filter::may_follow;
pub use function::Changes;
pub use given::{Given, Piece};
pub use history::History;
pub(crate) use json::command;
pub use json::stored_key;
pub(crate) use page::Page;
pub(crate) use position::position_at;
pub use position::{PositionAt, SnapshotPosition};
pub use relation::FeedRelation;
pub(crate) use rows::descriptor_at;

/// Called now and then by who waits for a disk or another node: an error ends the statement
/// (cancel, timeouts).
pub type Interrupt = Arc<dyn Fn() -> Result<(), Error> + Send + Sync>;

/// Whose entries a page is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// These are read: the directory, and the owners with a table that is asked for and may be
    /// read.
    pub read: Vec<GroupId>,
    /// Each of these has a table that is asked for and may not be read yet, or has taken a name for
    /// one. A page does not pass over them, either.
    pub wanted: Vec<GroupId>,
    /// Each of the others may make a table visible that would be asked for.
    pub watched: Vec<GroupId>,
}

/// How far a page may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Of the groups that are read or wanted no entry at or below can come any more.
    pub upto: Position,
    /// If one of them does not get on, for its owner can't be reached: how far each of those that
    /// are read is closed. Zero: nothing was ever known of it here.
    pub held_up: Vec<(GroupId, Position)>,
    /// Those watched that did not count, for they could not be closed for long: nothing of them may
    /// be read up to there.
    pub left_out: Vec<GroupId>,
}

/// What is read of a log.
pub struct Request<'a> {
    /// Who reads, and what.
    pub filter: &'a Filter,
    /// By this catalog it is decided what may be read.
    pub catalog: &'a Catalog,
    /// The groups.
    pub groups: &'a [GroupId],
    /// Units above it; `None`: from the oldest retained on.
    pub after: Option<Position>,
    /// Up to here.
    pub closed: Position,
}

/// Committed entries in order, from the journals of this node and of others.
pub trait Log: Send + Sync {
    /// How far the groups asked for are closed. Idle ones are closed as far as there is something
    /// in the others above `after`, and waited for, but not for long.
    ///
    /// # Errors
    /// The interrupt's.
    fn closed(
        &self,
        asked: &Asked,
        after: Option<Position>,
        interrupt: &Interrupt,
    ) -> Result<Closed, Error>;

    /// Units in order, from the groups' journals.
    ///
    /// # Errors
    /// OW001 behind retention.
    fn read(&self, request: &Request<'_>, interrupt: &Interrupt) -> Result<Box<dyn Units>, Error>;

    /// The time, in microseconds since 1970.
    fn now(&self) -> u64;
}

/// Units in order; ends where the groups were closed when it was opened.
pub trait Units: Send {
    /// Nothing at or below it is missing once all units are taken. If it can't go on, that is the
    /// last unit that was given.
    fn closed(&self) -> Position;

    /// The group whose entries can't be had now, so that the units have ended before their time.
    fn lacks(&self) -> Option<GroupId> {
        None
    }

    /// Begins the next unit: all entries of the position told. Call it when those of the last one
    /// are read.
    ///
    /// # Errors
    /// The journal can't be read.
    fn next_unit(&mut self) -> Result<Option<Position>, Error>;

    /// The next entry of the unit, by group. Call it when the last one is read to its end.
    ///
    /// # Errors
    /// Likewise.
    fn next_entry(&mut self) -> Result<Option<UnitEntry>, Error>;
}

/// An entry of a unit.
pub enum UnitEntry {
    /// From this node's journal.
    Here(Box<dyn LogEntry>),
    /// Its rows for this reader, made by another node, in order.
    Given(
        GroupId,
        Box<dyn Iterator<Item = Result<FeedRow, Error>> + Send>,
    ),
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
