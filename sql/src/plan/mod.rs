//! From a statement's tree to a plan: `plan` binds, rewrites by rules and compiles; the result is
//! cached by the session and run by `exec`.

use std::sync::Arc;

use sqlparser::ast;
use storage::GroupId;

use crate::catalog::{Catalog, RoleId, SchemaId, TableId};
use crate::error::{Error, Result};
use crate::exec::Operator;
use crate::system::SystemRelation;
use crate::transaction::Stop;
use crate::types::{Datum, FormatSettings, Type};

/// What binding needs to know of the session. `Planned` may be cached under these and the
/// catalog's version.
pub struct BindCx<'a> {
    /// `current_user`.
    pub role: RoleId,
    /// `session_user`.
    pub login: RoleId,
    /// `search_path`, resolved by `Catalog::search_path`.
    pub path: &'a [SchemaId],
    /// The statement's text, for error positions and output names.
    pub text: &'a str,
    /// Parameter types that the client declared; OID 0 or `unknown` = to be inferred.
    pub parameter_types: &'a [Type],
    /// How literals are read (DateStyle, TimeZone, reg* names).
    pub format: &'a FormatSettings,
    /// System relations and functions.
    pub registry: &'a dyn Registry,
}

/// The system relations and table functions of this server.
pub trait Registry: Send + Sync {
    /// The relation behind a descriptor of kind `System`.
    fn relation(&self, id: TableId) -> Option<Arc<dyn SystemRelation>>;

    /// A table function by name; `schema` is `None` for an unqualified name (looked up in
    /// `pg_catalog` only).
    fn function(&self, schema: Option<&str>, name: &str) -> Option<Arc<dyn SystemFunction>>;
}

/// An argument of a system function.
#[derive(Clone, Debug)]
pub struct Argument {
    /// Its name (`after => $1`).
    pub name: &'static str,
    /// Its type.
    pub ty: Type,
    /// The value when it is left out; `None` = it must be given.
    pub default: Option<Datum>,
}

/// A table function that reads the server's state: `freehold.changes(...)`. The rows may be
/// endless and may say `Stop::Pause`.
pub trait SystemFunction: Send + Sync {
    /// Schema and name.
    fn name(&self) -> (&str, &str);

    /// Arguments in order.
    fn arguments(&self) -> &[Argument];

    /// Columns of a row.
    fn columns(&self) -> &[crate::system::SystemColumn];

    /// Starts the call.
    fn open(
        &self,
        arguments: &[Datum],
        cx: &mut crate::exec::ExecCx<'_>,
    ) -> std::result::Result<Box<dyn RowSource>, Stop>;
}

/// A running table function.
pub trait RowSource: Send {
    /// The next row.
    fn next(
        &mut self,
        cx: &mut crate::exec::ExecCx<'_>,
    ) -> std::result::Result<Option<Vec<Datum>>, Stop>;
}

/// A column of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// OID of the table that it is a plain column of, 0 if none.
    pub table: u32,
    /// `attnum` there, 0 if none.
    pub number: i16,
}

/// The kind of statement, for the command tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// `SELECT n`.
    Select,
    /// `INSERT 0 n`.
    Insert,
    /// `UPDATE n`.
    Update,
    /// `DELETE n`.
    Delete,
}

impl Tag {
    /// The command tag for a number of rows.
    pub fn text(self, rows: u64) -> String {
        match self {
            Tag::Select => format!("SELECT {rows}"),
            Tag::Insert => format!("INSERT 0 {rows}"),
            Tag::Update => format!("UPDATE {rows}"),
            Tag::Delete => format!("DELETE {rows}"),
        }
    }
}

/// A statement that is ready to run, any number of times.
#[derive(Debug)]
pub struct Planned {
    /// Columns of the answer; empty for a write without RETURNING.
    pub columns: Vec<OutputColumn>,
    /// Types of `$1`, `$2`, ...
    pub parameters: Vec<Type>,
    /// The command tag's kind.
    pub tag: Tag,
    /// True when rows are sent (SELECT, or a write with RETURNING).
    pub returns_rows: bool,
    /// Stored tables that are read or written, with their trees (table locks).
    pub tables: Vec<TableUse>,
    /// The owner's group that is written.
    pub writes: Option<GroupId>,
    /// Calls a volatile function with effects, or locks rows: not read-only.
    pub locks_rows: bool,
    /// A direct get or put by primary key: bounded work, runs inline.
    pub keyed: bool,
}

/// A stored table that a statement uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableUse {
    /// The table.
    pub table: TableId,
    /// Its group.
    pub group: GroupId,
    /// Its tree.
    pub tree: u32,
    /// Written, read under row locks, or only read.
    pub mode: crate::transaction::TableMode,
}

/// Binds and plans a query or a data-modifying statement.
///
/// # Errors
/// PostgreSQL's, with the position in `cx.text` where it is known.
pub fn plan(
    _statement: &ast::Statement,
    _catalog: &Arc<Catalog>,
    _cx: &BindCx<'_>,
) -> Result<Arc<Planned>> {
    Err(Error::internal("not merged yet"))
}

/// The rows of EXPLAIN: one `text` column (`json` for FORMAT JSON) named `QUERY PLAN`. With
/// ANALYZE the statement runs when the operator is first asked for a row.
pub fn explain(
    _planned: &Arc<Planned>,
    _options: &crate::parse::ExplainOptions,
    _parameters: Arc<[Datum]>,
) -> Box<dyn Operator> {
    unreachable!("not merged yet")
}
