//! Relations whose rows are computed: `pg_catalog`, `information_schema` and `freehold`, each
//! filtered by what the asking role may see.

mod cell;
#[cfg(test)]
mod clients;
pub(crate) mod contracts;
mod database;
pub(crate) mod definition;
mod deparse;
mod information;
pub(crate) mod moves;
mod names;
mod objects;
mod own;
mod privileges;
mod procs;
pub(crate) mod projections;
mod query;
mod relation;
mod roles;
mod routines;
mod seen;
mod shape;
mod tables;
#[cfg(test)]
mod tests;
mod usage;

use std::sync::Arc;

pub use names::CatalogNames;
pub use query::{TreeBytes, call, call_rows};
pub use relation::{columns_of, relations};
pub(crate) use tables::relkind;

use crate::catalog::{Catalog, RoleId};
use crate::types::{Datum, Type};
use crate::{Result, transaction};

/// One row of a system relation: a value per column.
pub type SystemRow = Vec<Datum>;

/// The rows of a system relation. May stop to wait (`freehold.feed`).
pub type SystemRows =
    Box<dyn Iterator<Item = std::result::Result<SystemRow, transaction::Stop>> + Send>;

/// A column of a system relation.
#[derive(Clone, Debug, PartialEq)]
pub struct SystemColumn {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub ty: Type,
    /// Never NULL.
    pub not_null: bool,
}

/// Who asks, and what is known of the rows wanted.
pub struct SystemCx<'a> {
    /// The statement's catalog.
    pub catalog: &'a Arc<Catalog>,
    /// Whose eyes the rows are seen with (the current role).
    pub role: RoleId,
    /// The session's role (`session_user`).
    pub login: RoleId,
    /// The schemas in which unqualified names are looked up.
    pub path: &'a [crate::catalog::SchemaId],
    /// `column = value` of the query's conjunction, by column number from 0: the relation may use
    /// it to compute fewer rows, and may ignore it.
    pub equal: &'a [(usize, Datum)],
    /// `column > value` or `column >= value`, likewise.
    pub above: &'a [Above],
    /// The columns that are read, ascending; the others may be left NULL.
    pub columns: &'a [usize],
    /// What a relation of a group ([`SystemRelation::group`]) is read on.
    pub ground: Option<&'a crate::remote::Ground>,
    /// The asking session: its settings, prepared statements and cursors.
    pub environment: &'a dyn crate::functions::Environment,
}

impl SystemCx<'_> {
    /// The value that a column must equal, if the query says so.
    pub fn equal(&self, column: usize) -> Option<&Datum> {
        self.equal
            .iter()
            .find(|(c, _)| *c == column)
            .map(|(_, value)| value)
    }
}

impl SystemCx<'_> {
    /// What a column must be above, if the query says so.
    pub fn above(&self, column: usize) -> Option<&Above> {
        self.above.iter().find(|above| above.column == column)
    }
}

/// A lower bound of a column.
#[derive(Clone, Debug, PartialEq)]
pub struct Above {
    /// Its number, from 0.
    pub column: usize,
    /// The bound.
    pub value: Datum,
    /// `>=`.
    pub inclusive: bool,
}

/// A relation whose rows are computed when it is read. Registered in a list of the engine; its
/// descriptor (`TableKind::System`) is made from this.
pub trait SystemRelation: Send + Sync {
    /// `pg_class.oid`: PostgreSQL's own where it has one; 0 = the next free one of the system's
    /// range, in the order of registration.
    fn oid(&self) -> u32 {
        0
    }

    /// Schema and name.
    fn name(&self) -> (&str, &str);

    /// The columns, in order.
    fn columns(&self) -> &[SystemColumn];

    /// The column by which the rows come in ascending order, if there is one: an ORDER BY of it
    /// needs no sort, and a LIMIT stops the reading.
    fn order(&self) -> Option<usize> {
        None
    }

    /// The group as of whose position in the statement's snapshot the rows are; `None`: they are as
    /// they are now.
    fn group(&self) -> Option<storage::GroupId> {
        None
    }

    /// Is the column for superusers' eyes (passwords)? A relation of such columns alone may not be
    /// read by others at all.
    fn is_confidential(&self, _column: &str) -> bool {
        false
    }

    /// The rows that the asking role may see; in any order, unless `order` names one.
    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows>;
}
