//! From a statement's tree to a plan: `plan` binds, rewrites by rules and compiles; the result is
//! cached by the session and run by `exec`.

mod build;
mod explain;
mod modify;
mod node;
mod projection;
mod rel;
mod writers;

use std::sync::Arc;

use sqlparser::ast;
use storage::GroupId;

use crate::bind::Binder;
use crate::catalog::{Catalog, RoleId, SchemaId, TableId};
use crate::error::Result;
use crate::expr::ColumnRef;
use crate::rules::{self, Statistics};
use crate::system::SystemRelation;
use crate::transaction::Stop;
use crate::types::{Datum, FormatSettings, Type};

pub use explain::explain;
pub use modify::{Conflict, ConflictAction, Modify, ModifyKind};
pub use node::{
    Access, ConflictPlan, CtePlan, KeyPart, LockPlan, LowerBound, ModifyPlan, Op, PlanNode,
    RangeAccess, Region, ScanPlan, TablePlan,
};
pub use projection::{Shape, Source};
pub use rel::{
    Cte, FunctionRel, JoinKind, Rel, RelColumn, RowLock, ScanRel, SetKind, SystemRel, TableCall,
};
pub use writers::{
    check_trigger_condition, followed_triggers, projection, projection_shape, stored_expression,
    writer,
};

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
    /// The variables of the function that the statement stands in.
    pub variables: Option<&'a crate::bind::Variables>,
}

/// The system relations and table functions of this server.
pub trait Registry: Send + Sync {
    /// The relation behind a descriptor of kind `System`.
    fn relation(&self, id: TableId) -> Option<Arc<dyn SystemRelation>>;

    /// Has this node not more of a group than a copy of what its roles may read?
    fn is_copied(&self, group: GroupId) -> bool {
        let _ = group;
        false
    }

    /// This node's number.
    fn node(&self) -> u32 {
        0
    }

    /// A table function by name; `schema` is `None` for an unqualified name (looked up in
    /// `pg_catalog` only).
    fn function(&self, schema: Option<&str>, name: &str) -> Option<Arc<dyn SystemFunction>>;

    /// About how many rows a table has; `None` = unknown.
    fn row_estimate(&self, table: TableId) -> Option<f64> {
        let _ = table;
        None
    }
}

impl Statistics for &dyn Registry {
    fn rows(&self, table: TableId) -> Option<f64> {
        self.row_estimate(table)
    }
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

    /// Does a call write, so that it is no read, and its statement goes back to where it began when it
    /// has to begin again?
    fn writes(&self) -> bool {
        false
    }

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
    /// `ERASE n`.
    Erase,
}

impl Tag {
    /// The command tag for a number of rows.
    pub fn text(self, rows: u64) -> String {
        match self {
            Tag::Select => format!("SELECT {rows}"),
            Tag::Insert => format!("INSERT 0 {rows}"),
            Tag::Update => format!("UPDATE {rows}"),
            Tag::Delete => format!("DELETE {rows}"),
            Tag::Erase => format!("ERASE {rows}"),
        }
    }
}

/// A statement that is ready to run, any number of times.
#[derive(Debug)]
pub struct Planned {
    /// The operators.
    pub plan: Arc<PlanNode>,
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
    /// Other owners' contracts that are read, and by whom.
    pub contracts: Vec<(RoleId, TableId)>,
    /// Groups of views that other nodes evaluate.
    pub remote: Vec<GroupId>,
    /// Groups by which it was decided who evaluates views, and whether this node had only copies of
    /// them: the plan is good as long as that is so.
    pub placed: Vec<(GroupId, bool)>,
    /// The owner's group that is written.
    pub writes: Option<GroupId>,
    /// Commands are sent: the role needs a group of its own.
    pub sends: bool,
    /// FOR UPDATE and its kin: not read-only.
    pub locks_rows: bool,
    /// A direct get or put by primary key: bounded work, runs inline.
    pub keyed: bool,
    /// It calls volatile functions.
    pub volatile: bool,
    /// It calls functions of users, which may do anything.
    pub routines: bool,
}

impl Planned {
    /// Is it certain that it writes nothing, however often it runs?
    pub fn only_reads(&self) -> bool {
        self.writes.is_none() && !self.sends && !self.locks_rows && !self.volatile
    }

    /// May it have to begin again, so that its rows are kept until it is over?
    pub fn is_buffered(&self) -> bool {
        self.writes.is_some() || self.locks_rows || self.routines
    }

    /// Are the groups where they were when it was made?
    pub fn is_placed(&self, registry: &dyn Registry) -> bool {
        let same = |(group, copied): &(GroupId, bool)| registry.is_copied(*group) == *copied;
        self.placed.iter().all(same)
    }
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
    /// Who reads it: the session's role, or the owner of a view.
    pub role: RoleId,
    /// Written, read under row locks, or only read.
    pub mode: crate::transaction::TableMode,
}

/// Binds and plans a query or a data-modifying statement.
///
/// # Errors
/// PostgreSQL's, with the position in `cx.text` where it is known.
pub fn plan(
    statement: &ast::Statement,
    catalog: &Arc<Catalog>,
    cx: &BindCx<'_>,
) -> Result<Arc<Planned>> {
    let bound = Binder::new(catalog, cx).bind(statement)?;
    let mut rel = bound.rel;
    rules::fold(&mut rel, cx.format);
    let statistics: &dyn Statistics = &cx.registry;
    let rel = rules::place(rel, statistics);
    let volatile = bound.calls_writing || build::is_volatile(&rel);
    let routines = bound.calls_writing || build::calls_routines(&rel);
    let outputs: Vec<(ColumnRef, Type)> = bound
        .outputs
        .iter()
        .map(|output| (output.id, output.ty))
        .collect();
    let ids: Vec<ColumnRef> = outputs.iter().map(|(id, _)| *id).collect();
    let mut writers = writers::OfCatalog { catalog };
    let mut builder = build::Builder::new(&mut writers, statistics, &rel, &ids);
    let plan = builder.outputs(&rel, &outputs)?;
    let columns: Vec<OutputColumn> = bound
        .outputs
        .into_iter()
        .map(|output| {
            let (table, number) = output.origin.unwrap_or((0, 0));
            OutputColumn {
                name: output.name,
                ty: output.ty,
                table,
                number,
            }
        })
        .collect();
    // Who asks another node waits on a thread that others don't need.
    let keyed = bound.remote.is_empty() && !routines && is_keyed(&plan);
    Ok(Arc::new(Planned {
        plan: Arc::new(plan),
        returns_rows: bound.tag == Tag::Select || !columns.is_empty(),
        columns,
        parameters: bound.parameters,
        tag: bound.tag,
        contracts: contracts(catalog, &bound.tables),
        tables: bound.tables,
        remote: bound.remote,
        placed: bound.placed,
        writes: bound.writes,
        sends: bound.sends,
        locks_rows: bound.locks_rows,
        keyed,
        volatile,
        routines,
    }))
}

/// Other owners' contracts among these tables, and who reads them.
fn contracts(catalog: &Catalog, tables: &[TableUse]) -> Vec<(RoleId, TableId)> {
    let mut contracts = Vec::new();
    for used in tables {
        let table = catalog.table(used.table);
        let uses = table.is_some_and(|table| catalog.can_use(used.role, table));
        let read = (used.role, used.table);
        if uses && !contracts.contains(&read) {
            contracts.push(read);
        }
    }
    contracts
}

/// Whether the plan does a bounded number of gets and puts.
fn is_keyed(node: &PlanNode) -> bool {
    match &node.op {
        Op::Scan(scan) if scan.as_of.is_some() => false,
        Op::Scan(scan) => matches!(&scan.access, Access::Range(range) if range.single
            && !range.equal.iter().any(|part| matches!(part, KeyPart::Any(_)))),
        Op::Values(rows) => rows.len() <= 1,
        Op::Project { input, .. }
        | Op::Filter { input, .. }
        | Op::Limit { input, .. }
        | Op::Lock { input, .. } => is_keyed(input),
        Op::Modify(modify) => is_keyed(&modify.source) && modify.writer.is_local(),
        _ => false,
    }
}

/// Binds an expression of stored text (a default, a check, an index expression) over a table's
/// row: in the result, columns are places in `Table::columns`.
///
/// # Errors
/// What binding raises.
pub fn compile_expression(
    text: &str,
    table: &Arc<crate::catalog::Table>,
    catalog: &Arc<Catalog>,
) -> Result<Arc<crate::expr::Expr>> {
    writers::compile(text, table, catalog).map(Arc::new)
}
