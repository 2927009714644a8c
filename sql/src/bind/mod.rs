//! The binder: names become columns, texts become typed values, and a statement becomes a
//! relation. It checks what PostgreSQL's parse analysis checks, with its errors.

mod aggregate;
mod call;
mod expression;
mod from;
mod function;
mod modify;
mod output;
mod remote;
pub mod restore;
mod routine;
pub mod scope;
mod select;
mod subquery;
pub mod syntax;
mod types;
mod variables;
mod window;
mod with;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sqlparser::ast;
use sqlparser::tokenizer::Span;
use storage::GroupId;

use crate::catalog::{Catalog, ColumnId, Privilege, RoleId, SchemaId, Table, TableId};
use crate::error::{Error, Result, state};
use crate::expr::{ColumnRef, Expr, SubqueryKind};
use crate::plan::{BindCx, Cte, Rel, RelColumn, TableUse, Tag};
use crate::transaction::TableMode;
use crate::types::Type;
pub(crate) use modify::is_erase;

use expression::composite_fields;
use scope::{Output, Scope};
pub use select::row_lock_name;
pub(crate) use variables::not_assigned;
pub use variables::{Conflict, Variables};

/// How deep expressions and queries may nest (54001 above).
pub const DEPTH_MAX: usize = 5000;
/// Entries of a target list, as in PostgreSQL.
pub const TARGETS_MAX: usize = 1664;

/// A bound statement.
pub struct Bound {
    /// The relation.
    pub rel: Rel,
    /// The columns of the answer.
    pub outputs: Vec<Output>,
    /// The kind of statement.
    pub tag: Tag,
    /// Types of the parameters.
    pub parameters: Vec<Type>,
    /// Stored tables and how they are locked.
    pub tables: Vec<TableUse>,
    /// Groups of views that other nodes evaluate.
    pub remote: Vec<GroupId>,
    /// Groups that were looked at for that, and whether this node has only copies of them.
    pub placed: Vec<(GroupId, bool)>,
    /// The group that is written.
    pub writes: Option<GroupId>,
    /// Commands are sent: the role needs a group of its own.
    pub sends: bool,
    /// A function of the system is called that writes.
    pub calls_writing: bool,
    /// FOR UPDATE and the like are in it.
    pub locks_rows: bool,
    /// One more than the greatest column id.
    pub next_column: u32,
    /// How many CTEs were numbered.
    pub ctes: usize,
}

/// A query's relation and its answer's columns.
#[derive(Clone, Debug)]
pub struct BoundQuery {
    /// The relation.
    pub rel: Rel,
    /// Its columns in order.
    pub outputs: Vec<Output>,
}

/// Where an expression stands: decides what may be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clause {
    /// Select list.
    Select,
    /// WHERE.
    Where,
    /// JOIN ... ON.
    On,
    /// GROUP BY.
    Group,
    /// HAVING.
    Having,
    /// ORDER BY.
    Order,
    /// LIMIT, OFFSET.
    Limit,
    /// VALUES.
    Values,
    /// Functions in FROM.
    From,
    /// The position of FOR SYSTEM_TIME.
    AsOf,
    /// SET of UPDATE.
    Set,
    /// RETURNING.
    Returning,
    /// DEFAULT, CHECK, index expressions: one table, no subqueries.
    Stored(&'static str),
    /// An aggregate's arguments.
    Aggregate,
    /// Window definitions and arguments.
    Window,
    /// FILTER.
    Filter,
}

impl Clause {
    /// As PostgreSQL names it in "... are not allowed in x".
    pub fn name(self) -> &'static str {
        match self {
            Clause::Select => "SELECT",
            Clause::Where => "WHERE",
            Clause::On => "JOIN conditions",
            Clause::Group => "GROUP BY",
            Clause::Having => "HAVING",
            Clause::Order => "ORDER BY",
            Clause::Limit => "LIMIT",
            Clause::AsOf => "FOR SYSTEM_TIME AS OF",
            Clause::Values => "VALUES",
            Clause::From => "functions in FROM",
            Clause::Set => "UPDATE",
            Clause::Returning => "RETURNING",
            Clause::Stored(what) => what,
            Clause::Aggregate => "aggregate functions",
            Clause::Window => "window definitions",
            Clause::Filter => "FILTER",
        }
    }
}

/// A privilege that the statement needs.
struct Access {
    table: Arc<Table>,
    role: RoleId,
    privilege: Privilege,
    columns: BTreeSet<ColumnId>,
    whole: bool,
}

/// A CTE in scope.
struct Visible {
    name: String,
    index: usize,
    outputs: Vec<Output>,
    working: bool,
}

/// The binder of one statement.
pub struct Binder<'a> {
    pub(crate) catalog: &'a Arc<Catalog>,
    pub(crate) cx: &'a BindCx<'a>,
    /// Whose rights apply: the current role, or a view's owner.
    pub(crate) role: RoleId,
    pub(crate) path: Vec<SchemaId>,
    /// The text that spans point into; `None` inside views and stored expressions.
    pub(crate) text: Option<&'a str>,
    pub(crate) parameters: Vec<Option<Type>>,
    next_column: u32,
    /// The fields of columns that hold rows.
    records: BTreeMap<ColumnRef, Vec<(String, Type)>>,
    ctes: usize,
    visible: Vec<Visible>,
    accesses: Vec<Access>,
    tables: Vec<TableUse>,
    writes: Option<GroupId>,
    sends: bool,
    calls_writing: bool,
    locks_rows: bool,
    depth: usize,
    views: Vec<TableId>,
    /// Views that other nodes evaluate, and the groups of their tables.
    remote: BTreeMap<TableId, GroupId>,
    /// Groups that were looked at for that, and whether this node has only copies of them.
    placed: BTreeMap<GroupId, bool>,
    /// Named windows of the query levels being bound.
    windows: Vec<Vec<ast::NamedWindowDefinition>>,
}

impl<'a> Binder<'a> {
    /// A binder for one statement.
    pub fn new(catalog: &'a Arc<Catalog>, cx: &'a BindCx<'a>) -> Binder<'a> {
        let parameters = cx
            .parameter_types
            .iter()
            .map(|ty| (ty.oid != 0 && ty.oid != Type::UNKNOWN.oid).then_some(*ty))
            .collect();
        Binder {
            catalog,
            cx,
            role: cx.role,
            path: cx.path.to_vec(),
            text: Some(cx.text),
            parameters,
            next_column: 0,
            records: BTreeMap::new(),
            ctes: 0,
            visible: Vec::new(),
            accesses: Vec::new(),
            tables: Vec::new(),
            writes: None,
            sends: false,
            calls_writing: false,
            locks_rows: false,
            depth: 0,
            views: Vec::new(),
            remote: BTreeMap::new(),
            placed: BTreeMap::new(),
            windows: Vec::new(),
        }
    }

    /// Binds a statement.
    pub fn bind(mut self, statement: &ast::Statement) -> Result<Bound> {
        let variables = self.cx.variables.map(Variables::scope);
        let root = variables.unwrap_or_else(|| Scope::empty(None));
        let (query, tag) = self.statement(statement, &root)?;
        let parameters = self.finish_parameters()?;
        self.check_access()?;
        let groups: BTreeSet<GroupId> = self.remote.into_values().collect();
        Ok(Bound {
            rel: query.rel,
            outputs: query.outputs,
            tag,
            parameters,
            tables: self.tables,
            remote: groups.into_iter().collect(),
            placed: self.placed.into_iter().collect(),
            writes: self.writes,
            sends: self.sends,
            calls_writing: self.calls_writing,
            locks_rows: self.locks_rows,
            next_column: self.next_column,
            ctes: self.ctes,
        })
    }

    /// A stored query, whose names are qualified.
    pub(crate) fn stored_query(&mut self, query: &ast::Query) -> Result<BoundQuery> {
        self.text = None;
        self.query(query, &Scope::empty(None), true)
    }

    fn statement(
        &mut self,
        statement: &ast::Statement,
        scope: &Scope<'_>,
    ) -> Result<(BoundQuery, Tag)> {
        match statement {
            ast::Statement::Query(query) => self.top_query(query, scope),
            ast::Statement::Insert(insert) => Ok((self.insert(insert, scope, false)?, Tag::Insert)),
            ast::Statement::Update(update) => Ok((self.update(update, scope, false)?, Tag::Update)),
            ast::Statement::Delete(delete) => {
                let tag = match is_erase(delete) {
                    true => Tag::Erase,
                    false => Tag::Delete,
                };
                Ok((self.delete(delete, scope, false)?, tag))
            }
            ast::Statement::Merge(_) => Err(Error::unsupported("MERGE")),
            _ => Err(Error::internal(
                "plan was called for a statement that is not a query",
            )),
        }
    }

    /// A query, or a data-modifying statement behind WITH.
    fn top_query(&mut self, query: &ast::Query, scope: &Scope<'_>) -> Result<(BoundQuery, Tag)> {
        let tag = match query.body.as_ref() {
            ast::SetExpr::Insert(_) => Tag::Insert,
            ast::SetExpr::Update(_) => Tag::Update,
            ast::SetExpr::Delete(ast::Statement::Delete(delete)) if is_erase(delete) => Tag::Erase,
            ast::SetExpr::Delete(_) => Tag::Delete,
            ast::SetExpr::Merge(_) => return Err(Error::unsupported("MERGE")),
            _ => return Ok((self.query(query, scope, true)?, Tag::Select)),
        };
        let mark = self.visible.len();
        let ctes = match &query.with {
            Some(with) => self.with(with, scope)?,
            None => Vec::new(),
        };
        let bound = match query.body.as_ref() {
            ast::SetExpr::Insert(ast::Statement::Insert(insert)) => {
                self.insert(insert, scope, false)?
            }
            ast::SetExpr::Update(ast::Statement::Update(update)) => {
                self.update(update, scope, false)?
            }
            ast::SetExpr::Delete(ast::Statement::Delete(delete)) => {
                self.delete(delete, scope, false)?
            }
            _ => {
                return Err(Error::internal(
                    "a data-modifying statement of another kind",
                ));
            }
        };
        self.visible.truncate(mark);
        Ok((with::close(ctes, bound), tag))
    }

    /// A fresh column.
    pub(crate) fn column(&mut self, name: impl Into<String>, ty: Type) -> RelColumn {
        let id = ColumnRef(self.next_column);
        self.next_column += 1;
        RelColumn {
            id,
            name: name.into(),
            ty,
        }
    }

    /// A fresh column for an expression's values. One of rows remembers their fields, so that
    /// `(column).field` finds them.
    pub(crate) fn column_of(&mut self, name: impl Into<String>, expr: &Expr) -> RelColumn {
        let column = self.column(name, expr.ty());
        if let Some(fields) = self.fields_of(expr) {
            self.records.insert(column.id, fields);
        }
        column
    }

    /// The names and types of the fields of a row, if they are known.
    pub(crate) fn fields_of(&self, expr: &Expr) -> Option<Vec<(String, Type)>> {
        match expr {
            Expr::Column { column, .. } => self.records.get(column).cloned(),
            Expr::Subquery(subquery) => match (&subquery.kind, subquery.outputs.as_slice()) {
                (SubqueryKind::Scalar, [(column, _)]) => self.records.get(column).cloned(),
                _ => None,
            },
            Expr::Coalesce(items, _) => self.fields_of(items.first()?),
            Expr::Case(case) => self.fields_of(&case.whens.first()?.1),
            _ => composite_fields(expr),
        }
    }

    /// Runs `f` one level deeper; 54001 when that is too deep.
    pub(crate) fn deeper<R>(&mut self, f: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        if self.depth >= DEPTH_MAX {
            return Err(too_deep());
        }
        self.depth += 1;
        let result = crate::expr::deep(|| f(self));
        self.depth -= 1;
        result
    }

    /// Adds the position of a span to an error that has none.
    pub(crate) fn at(&self, error: Error, span: Span) -> Error {
        if error.0.position.is_some() || span.start.line == 0 {
            return error;
        }
        match self.text.and_then(|text| offset(text, span)) {
            Some(position) => error.at(position),
            None => error,
        }
    }

    fn finish_parameters(&self) -> Result<Vec<Type>> {
        self.parameters
            .iter()
            .enumerate()
            .map(|(index, ty)| {
                ty.ok_or_else(|| {
                    Error::new(
                        state::INDETERMINATE_DATATYPE,
                        format!("could not determine data type of parameter ${}", index + 1),
                    )
                })
            })
            .collect()
    }

    /// Remembers that a table is used, with the strongest lock.
    pub(crate) fn uses(&mut self, table: &Table, mode: TableMode) {
        let found = self.tables.iter_mut().find(|found| found.table == table.id);
        match found {
            Some(found) => found.mode = found.mode.max(mode),
            None => self.tables.push(TableUse {
                table: table.id,
                group: table.group,
                tree: table.tree,
                role: self.role,
                mode,
            }),
        }
    }

    /// Opens a privilege to check; columns are added as they are named.
    pub(crate) fn needs(&mut self, table: &Arc<Table>, privilege: Privilege) -> usize {
        self.accesses.push(Access {
            table: table.clone(),
            role: self.role,
            privilege,
            columns: BTreeSet::new(),
            whole: false,
        });
        self.accesses.len() - 1
    }

    /// Records that a column (all, when `None`) is used under an access.
    pub(crate) fn touch(&mut self, access: usize, column: Option<usize>) {
        let access = &mut self.accesses[access];
        match column {
            Some(index) => {
                access.columns.insert(access.table.columns[index].id);
            }
            None => {
                let all: Vec<ColumnId> = access.table.live_columns().map(|c| c.id).collect();
                access.columns.extend(all);
            }
        }
    }

    /// The access counts for the table as a whole (DELETE).
    pub(crate) fn touch_table(&mut self, access: usize) {
        self.accesses[access].whole = true;
    }

    fn check_access(&self) -> Result<()> {
        for access in &self.accesses {
            let columns: Vec<ColumnId> = access.columns.iter().copied().collect();
            let columns = (!access.whole).then_some(columns.as_slice());
            self.catalog
                .may(access.role, &access.table, access.privilege, columns)?;
        }
        Ok(())
    }

    /// The name of an expression's type for messages.
    pub(crate) fn type_name(&self, expr: &Expr) -> String {
        expr.ty().plain().name()
    }
}

/// 54001 with PostgreSQL's words.
pub fn too_deep() -> Error {
    Error::new(state::STATEMENT_TOO_COMPLEX, "stack depth limit exceeded").hint(
        "Increase the configuration parameter \"max_stack_depth\" (currently 2048kB), after \
         ensuring the platform's stack depth limit is adequate.",
    )
}

/// The 1-based character offset of a span's start.
pub fn offset(text: &str, span: Span) -> Option<u32> {
    let (line, column) = (span.start.line as usize, span.start.column as usize);
    if line == 0 || column == 0 {
        return None;
    }
    let before: usize = text
        .split('\n')
        .take(line - 1)
        .map(|line| line.chars().count() + 1)
        .sum();
    u32::try_from(before + column).ok()
}

/// Closes a WITH around a bound query.
pub(crate) fn with_ctes(ctes: Vec<Cte>, rel: Rel) -> Rel {
    if ctes.is_empty() {
        rel
    } else {
        Rel::With {
            ctes,
            body: Box::new(rel),
        }
    }
}
