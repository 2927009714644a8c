//! The logical plan: relations over named columns. Every column has an id that is unique within
//! the statement, so rules move parts about without renumbering; a reference to a column that a
//! subtree does not produce is a correlation.

use std::sync::Arc;

use crate::catalog::Table;
use crate::expr::{AggregateCall, Call, ColumnRef, Expr, SortKey, WindowCall};
use crate::plan::{Modify, SystemFunction};
use crate::system::SystemRelation;
use crate::types::Type;

/// A column that a relation produces.
#[derive(Clone, Debug)]
pub struct RelColumn {
    /// Its id.
    pub id: ColumnRef,
    /// Its name, for EXPLAIN and errors.
    pub name: String,
    /// Its type.
    pub ty: Type,
}

/// How two relations are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    /// Pairs that match.
    Inner,
    /// And left rows without a match.
    Left,
    /// And right rows without a match (turned into Left while planning).
    Right,
    /// Both.
    Full,
    /// Left rows that have a match.
    Semi,
    /// Left rows that have none.
    Anti,
}

/// UNION, INTERSECT, EXCEPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetKind {
    /// Rows of either.
    Union,
    /// Rows of both.
    Intersect,
    /// Rows of the left that are not in the right.
    Except,
}

/// A stored table as a statement reads it.
#[derive(Clone, Debug)]
pub struct ScanRel {
    /// The table.
    pub table: Arc<Table>,
    /// The alias, for EXPLAIN.
    pub alias: String,
    /// One entry per live column of the table: (index into `table.columns`, column).
    pub columns: Vec<(usize, RelColumn)>,
    /// The row's own key, when a lock or a write needs it.
    pub key: Option<ColumnRef>,
    /// Conditions on this table alone (pushed down by the rules).
    pub filter: Vec<Expr>,
    /// Row lock to take on every row that passes (FOR UPDATE, UPDATE, DELETE).
    pub target: bool,
    /// FOR SYSTEM_TIME AS OF: the position or time, which refers to no column.
    pub as_of: Option<Expr>,
}

/// The rows of a `pg_catalog`, `information_schema` or `freehold` relation.
#[derive(Clone, Debug)]
pub struct SystemRel {
    /// The relation.
    pub relation: Arc<dyn SystemRelation>,
    /// Its schema and name.
    pub name: (String, String),
    /// The alias.
    pub alias: String,
    /// All its columns, in order.
    pub columns: Vec<RelColumn>,
    /// Conditions on this relation alone.
    pub filter: Vec<Expr>,
}

/// Table functions, several for `ROWS FROM` and `unnest(a, b)`.
#[derive(Clone, Debug)]
pub struct FunctionRel {
    /// Calls and the columns that each fills.
    pub calls: Vec<(TableCall, Vec<RelColumn>)>,
    /// WITH ORDINALITY.
    pub ordinality: Option<RelColumn>,
    /// The alias.
    pub alias: String,
}

/// One table function.
#[derive(Clone, Debug)]
pub enum TableCall {
    /// A set-returning or scalar function of the function table. `true`: the result is a record
    /// whose fields are the columns.
    Function(Box<Call>, bool),
    /// A scalar expression used in FROM (one row).
    Scalar(Expr),
    /// `freehold.changes(...)` and the like.
    System(Arc<dyn SystemFunction>, Vec<Expr>),
}

/// A strength of row locks with its policy, for one table of a FOR UPDATE clause.
#[derive(Clone, Debug)]
pub struct RowLock {
    /// The table.
    pub table: Arc<Table>,
    /// The alias.
    pub alias: String,
    /// The column that carries the row's key.
    pub key: ColumnRef,
    /// FOR UPDATE ... KEY SHARE.
    pub mode: crate::transaction::RowMode,
    /// NOWAIT, SKIP LOCKED.
    pub policy: crate::transaction::Policy,
}

/// A logical relation.
#[derive(Clone, Debug)]
pub enum Rel {
    /// Rows of expressions (one row without columns for a SELECT without FROM).
    Values {
        /// The columns.
        columns: Vec<RelColumn>,
        /// The rows.
        rows: Vec<Vec<Expr>>,
    },
    /// A stored table.
    Scan(Box<ScanRel>),
    /// A system relation.
    System(Box<SystemRel>),
    /// Table functions.
    Function(Box<FunctionRel>),
    /// The rows of a CTE that is computed once.
    Cte {
        /// Which.
        index: usize,
        /// Its name.
        name: String,
        /// (position in the CTE's output, column).
        columns: Vec<(usize, RelColumn)>,
        /// The rows of the running step of a recursive CTE.
        working: bool,
    },
    /// A join. `right` may refer to columns of `left` (LATERAL) for Inner and Left.
    Join {
        /// How.
        kind: JoinKind,
        /// Left side.
        left: Box<Rel>,
        /// Right side.
        right: Box<Rel>,
        /// The condition.
        on: Vec<Expr>,
    },
    /// Rows for which all conditions hold.
    Filter {
        /// Input.
        input: Box<Rel>,
        /// The conditions.
        conditions: Vec<Expr>,
    },
    /// Computed columns besides the input's.
    Project {
        /// Input.
        input: Box<Rel>,
        /// The computed columns.
        items: Vec<(RelColumn, Expr)>,
    },
    /// Set-returning calls of a select list, in lockstep.
    ProjectSet {
        /// Input.
        input: Box<Rel>,
        /// The calls.
        items: Vec<(RelColumn, Expr)>,
    },
    /// Groups and aggregates.
    Aggregate {
        /// Input.
        input: Box<Rel>,
        /// Grouping expressions.
        groups: Vec<(RelColumn, Expr)>,
        /// GROUPING SETS: indices into `groups` per set.
        sets: Option<Vec<Vec<usize>>>,
        /// The column that numbers the set, for GROUPING().
        set_number: Option<RelColumn>,
        /// Aggregates.
        calls: Vec<(RelColumn, AggregateCall)>,
    },
    /// Window functions.
    Window {
        /// Input.
        input: Box<Rel>,
        /// The calls.
        calls: Vec<(RelColumn, WindowCall)>,
    },
    /// ORDER BY.
    Sort {
        /// Input.
        input: Box<Rel>,
        /// Keys.
        keys: Vec<SortKey>,
    },
    /// DISTINCT over the given columns; ON keeps the first row of each.
    Distinct {
        /// Input.
        input: Box<Rel>,
        /// What must differ.
        on: Vec<Expr>,
    },
    /// LIMIT, OFFSET, WITH TIES.
    Limit {
        /// Input.
        input: Box<Rel>,
        /// LIMIT, bigint.
        limit: Option<Expr>,
        /// OFFSET, bigint.
        offset: Option<Expr>,
        /// WITH TIES: the sort keys.
        ties: Option<Vec<SortKey>>,
    },
    /// A set operation over columns by position.
    Set {
        /// Which.
        kind: SetKind,
        /// ALL.
        all: bool,
        /// Left side and its columns.
        left: Box<Rel>,
        /// Left columns.
        left_columns: Vec<ColumnRef>,
        /// Right side.
        right: Box<Rel>,
        /// Right columns.
        right_columns: Vec<ColumnRef>,
        /// Output.
        columns: Vec<RelColumn>,
    },
    /// WITH: CTEs that are computed once, and the query that reads them.
    With {
        /// The CTEs.
        ctes: Vec<Cte>,
        /// The query.
        body: Box<Rel>,
    },
    /// SELECT ... FOR UPDATE.
    Lock {
        /// Input.
        input: Box<Rel>,
        /// The locks, in order.
        locks: Vec<RowLock>,
    },
    /// INSERT, UPDATE, DELETE.
    Modify(Box<Modify>),
}

/// A CTE that is computed once (or step by step when recursive).
#[derive(Clone, Debug)]
pub struct Cte {
    /// Its number within the statement.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// The query, or the non-recursive term.
    pub rel: Rel,
    /// Output columns of `rel`.
    pub outputs: Vec<ColumnRef>,
    /// The recursive term with its output columns; `true` = UNION (distinct).
    pub recursive: Option<(Box<Rel>, Vec<ColumnRef>, bool)>,
    /// A data-modifying CTE: runs to its end even when nobody reads it.
    pub modifies: bool,
}

impl Rel {
    /// One row without columns.
    pub fn one_row() -> Rel {
        Rel::Values {
            columns: Vec::new(),
            rows: vec![Vec::new()],
        }
    }

    /// The columns that this relation produces, in order.
    pub fn columns(&self) -> Vec<RelColumn> {
        match self {
            Rel::Values { columns, .. } | Rel::Set { columns, .. } => columns.clone(),
            Rel::Scan(scan) => {
                let mut out: Vec<_> = scan.columns.iter().map(|(_, c)| c.clone()).collect();
                if let Some(id) = scan.key {
                    out.push(RelColumn {
                        id,
                        name: "ctid".into(),
                        ty: Type::BYTEA,
                    });
                }
                out
            }
            Rel::System(system) => system.columns.clone(),
            Rel::Function(function) => {
                let mut out: Vec<RelColumn> = function
                    .calls
                    .iter()
                    .flat_map(|(_, columns)| columns.clone())
                    .collect();
                out.extend(function.ordinality.clone());
                out
            }
            Rel::Cte { columns, .. } => columns.iter().map(|(_, c)| c.clone()).collect(),
            Rel::Join {
                kind, left, right, ..
            } => {
                let mut out = left.columns();
                if !matches!(kind, JoinKind::Semi | JoinKind::Anti) {
                    out.extend(right.columns());
                }
                out
            }
            Rel::Filter { input, .. }
            | Rel::Sort { input, .. }
            | Rel::Distinct { input, .. }
            | Rel::Limit { input, .. }
            | Rel::Lock { input, .. } => input.columns(),
            Rel::Project { input, items } | Rel::ProjectSet { input, items } => {
                let mut out = input.columns();
                out.extend(items.iter().map(|(column, _)| column.clone()));
                out
            }
            Rel::Aggregate {
                groups,
                set_number,
                calls,
                ..
            } => {
                let mut out: Vec<_> = groups.iter().map(|(c, _)| c.clone()).collect();
                out.extend(set_number.clone());
                out.extend(calls.iter().map(|(c, _)| c.clone()));
                out
            }
            Rel::Window { input, calls } => {
                let mut out = input.columns();
                out.extend(calls.iter().map(|(c, _)| c.clone()));
                out
            }
            Rel::With { body, .. } => body.columns(),
            Rel::Modify(modify) => modify.returning.iter().map(|(c, _)| c.clone()).collect(),
        }
    }

    /// Calls `f` on each input relation (CTEs included).
    pub fn for_each_input<'a>(&'a self, f: &mut dyn FnMut(&'a Rel)) {
        match self {
            Rel::Values { .. }
            | Rel::Scan(_)
            | Rel::System(_)
            | Rel::Function(_)
            | Rel::Cte { .. } => {}
            Rel::Join { left, right, .. } | Rel::Set { left, right, .. } => {
                f(left);
                f(right);
            }
            Rel::Filter { input, .. }
            | Rel::Project { input, .. }
            | Rel::ProjectSet { input, .. }
            | Rel::Aggregate { input, .. }
            | Rel::Window { input, .. }
            | Rel::Sort { input, .. }
            | Rel::Distinct { input, .. }
            | Rel::Limit { input, .. }
            | Rel::Lock { input, .. } => f(input),
            Rel::With { ctes, body } => {
                for cte in ctes {
                    f(&cte.rel);
                    if let Some((rel, _, _)) = &cte.recursive {
                        f(rel);
                    }
                }
                f(body);
            }
            Rel::Modify(modify) => f(&modify.source),
        }
    }

    /// As [`Rel::for_each_input`], to change them.
    pub fn for_each_input_mut(&mut self, f: &mut dyn FnMut(&mut Rel)) {
        match self {
            Rel::Values { .. }
            | Rel::Scan(_)
            | Rel::System(_)
            | Rel::Function(_)
            | Rel::Cte { .. } => {}
            Rel::Join { left, right, .. } | Rel::Set { left, right, .. } => {
                f(left);
                f(right);
            }
            Rel::Filter { input, .. }
            | Rel::Project { input, .. }
            | Rel::ProjectSet { input, .. }
            | Rel::Aggregate { input, .. }
            | Rel::Window { input, .. }
            | Rel::Sort { input, .. }
            | Rel::Distinct { input, .. }
            | Rel::Limit { input, .. }
            | Rel::Lock { input, .. } => f(input),
            Rel::With { ctes, body } => {
                for cte in ctes {
                    f(&mut cte.rel);
                    if let Some((rel, _, _)) = &mut cte.recursive {
                        f(rel);
                    }
                }
                f(body);
            }
            Rel::Modify(modify) => f(&mut modify.source),
        }
    }

    /// Calls `f` on each expression of this node (not of its inputs).
    pub fn for_each_expr<'a>(&'a self, f: &mut dyn FnMut(&'a Expr)) {
        match self {
            Rel::Values { rows, .. } => rows.iter().flatten().for_each(f),
            Rel::Scan(scan) => scan.filter.iter().chain(&scan.as_of).for_each(f),
            Rel::System(system) => system.filter.iter().for_each(f),
            Rel::Function(function) => {
                for (call, _) in &function.calls {
                    match call {
                        TableCall::Function(call, _) => call.args.iter().for_each(&mut *f),
                        TableCall::Scalar(expr) => f(expr),
                        TableCall::System(_, args) => args.iter().for_each(&mut *f),
                    }
                }
            }
            Rel::Cte { .. } | Rel::Set { .. } | Rel::With { .. } | Rel::Lock { .. } => {}
            Rel::Join { on, .. } => on.iter().for_each(f),
            Rel::Filter { conditions, .. } => conditions.iter().for_each(f),
            Rel::Project { items, .. } | Rel::ProjectSet { items, .. } => {
                items.iter().for_each(|(_, expr)| f(expr));
            }
            Rel::Aggregate { groups, calls, .. } => {
                groups.iter().for_each(|(_, expr)| f(expr));
                calls.iter().for_each(|(_, call)| call.for_each_expr(f));
            }
            Rel::Window { calls, .. } => {
                calls.iter().for_each(|(_, call)| call.for_each_expr(f));
            }
            Rel::Sort { keys, .. } => keys.iter().for_each(|key| f(&key.expr)),
            Rel::Distinct { on, .. } => on.iter().for_each(f),
            Rel::Limit {
                limit,
                offset,
                ties,
                ..
            } => {
                limit.iter().chain(offset).for_each(&mut *f);
                ties.iter().flatten().for_each(|key| f(&key.expr));
            }
            Rel::Modify(modify) => modify.for_each_expr(f),
        }
    }

    /// As [`Rel::for_each_expr`], to change them.
    pub fn for_each_expr_mut(&mut self, f: &mut dyn FnMut(&mut Expr)) {
        match self {
            Rel::Values { rows, .. } => rows.iter_mut().flatten().for_each(f),
            Rel::Scan(scan) => scan.filter.iter_mut().chain(&mut scan.as_of).for_each(f),
            Rel::System(system) => system.filter.iter_mut().for_each(f),
            Rel::Function(function) => {
                for (call, _) in &mut function.calls {
                    match call {
                        TableCall::Function(call, _) => call.args.iter_mut().for_each(&mut *f),
                        TableCall::Scalar(expr) => f(expr),
                        TableCall::System(_, args) => args.iter_mut().for_each(&mut *f),
                    }
                }
            }
            Rel::Cte { .. } | Rel::Set { .. } | Rel::With { .. } | Rel::Lock { .. } => {}
            Rel::Join { on, .. } => on.iter_mut().for_each(f),
            Rel::Filter { conditions, .. } => conditions.iter_mut().for_each(f),
            Rel::Project { items, .. } | Rel::ProjectSet { items, .. } => {
                items.iter_mut().for_each(|(_, expr)| f(expr));
            }
            Rel::Aggregate { groups, calls, .. } => {
                groups.iter_mut().for_each(|(_, expr)| f(expr));
                calls
                    .iter_mut()
                    .for_each(|(_, call)| call.for_each_expr_mut(f));
            }
            Rel::Window { calls, .. } => {
                calls
                    .iter_mut()
                    .for_each(|(_, call)| call.for_each_expr_mut(f));
            }
            Rel::Sort { keys, .. } => keys.iter_mut().for_each(|key| f(&mut key.expr)),
            Rel::Distinct { on, .. } => on.iter_mut().for_each(f),
            Rel::Limit {
                limit,
                offset,
                ties,
                ..
            } => {
                limit.iter_mut().chain(offset).for_each(&mut *f);
                ties.iter_mut().flatten().for_each(|key| f(&mut key.expr));
            }
            Rel::Modify(modify) => modify.for_each_expr_mut(f),
        }
    }
}
