//! The physical plan: what operators are opened from. Expressions refer to slots of the input row.

use std::sync::Arc;

use crate::catalog::Table;
use crate::exec::Writer;
use crate::expr::{AggregateCall, Expr, SortKey, WindowCall};
use crate::plan::{JoinKind, ModifyKind, SetKind, SystemFunction};
use crate::system::SystemRelation;
use crate::transaction::{Policy, RowMode};
use crate::types::Type;

/// A node with what the planner thought of it.
#[derive(Debug)]
pub struct PlanNode {
    /// What it does.
    pub op: Op,
    /// Names of its output columns, for EXPLAIN.
    pub names: Vec<String>,
    /// Types of its output columns.
    pub types: Vec<Type>,
    /// Estimated rows.
    pub rows: f64,
    /// Estimated cost, in PostgreSQL's arbitrary unit.
    pub cost: f64,
    /// Number within the statement, for ANALYZE.
    pub id: usize,
}

/// How a table is read.
#[derive(Clone, Debug)]
pub enum Access {
    /// All rows in key order.
    Full,
    /// A part of a tree's keys.
    Range(Box<RangeAccess>),
}

/// A part of an index or of the table's own tree.
#[derive(Clone, Debug)]
pub struct RangeAccess {
    /// The index's place in `Table::indexes`; `None` = the rows' own tree by primary key.
    pub index: Option<usize>,
    /// Type, descending, nulls first per key column.
    pub key: Vec<(Type, bool, bool)>,
    /// Values that leading columns equal (each a list for IN: one or more alternatives).
    pub equal: Vec<KeyPart>,
    /// Lower bound of the next column, and whether it is included.
    pub lower: Option<(Expr, bool)>,
    /// Upper bound of the next column.
    pub upper: Option<(Expr, bool)>,
    /// `equal` fixes a unique key: at most one row per combination.
    pub single: bool,
    /// The index shares no tree with the rows: its values are row keys to fetch.
    pub indirect: bool,
    /// Conditions as written, for EXPLAIN.
    pub shown: Vec<Expr>,
}

/// The values of one key column.
#[derive(Clone, Debug)]
pub enum KeyPart {
    /// `= expression`.
    One(Expr),
    /// `= ANY (array)`.
    Any(Expr),
    /// `IS NULL`.
    Null,
}

/// A scan of a stored table.
#[derive(Debug)]
pub struct ScanPlan {
    /// The table.
    pub table: Arc<Table>,
    /// The alias.
    pub alias: String,
    /// Columns of the table in the order of the output row: index into `Table::columns`.
    pub columns: Vec<usize>,
    /// The last output column is the row's key.
    pub key: bool,
    /// How it is read.
    pub access: Access,
    /// From the end.
    pub backward: bool,
    /// FOR SYSTEM_TIME AS OF, evaluated without a row.
    pub as_of: Option<Expr>,
    /// Conditions over the output row.
    pub filter: Vec<Expr>,
    /// Decodes rows; made once.
    pub reader: crate::exec::RowReader,
}

/// A table function with its columns.
#[derive(Debug)]
pub enum TablePlan {
    /// Function of the function table; the record's fields are columns when `true`.
    Function {
        /// The call; its arguments are evaluated without a row.
        call: crate::expr::Call,
        /// Fields become columns.
        record: bool,
        /// Number of columns.
        width: usize,
    },
    /// One value.
    Scalar(Expr),
    /// A function of the server.
    System {
        /// The function.
        function: Arc<dyn SystemFunction>,
        /// Its arguments.
        arguments: Vec<Expr>,
        /// Number of columns.
        width: usize,
    },
}

impl std::fmt::Debug for dyn SystemFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name().1)
    }
}

impl std::fmt::Debug for dyn SystemRelation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name().1)
    }
}

/// A subtree that is opened anew with values from the left side of a join.
#[derive(Debug)]
pub struct Region {
    /// The subtree.
    pub node: Arc<PlanNode>,
    /// Its arguments, evaluated over the left row.
    pub arguments: Vec<Expr>,
}

/// A row lock of FOR UPDATE.
#[derive(Debug)]
pub struct LockPlan {
    /// The table.
    pub table: Arc<Table>,
    /// The slot with the row's key (NULL on the empty side of an outer join).
    pub key: usize,
    /// Strength.
    pub mode: RowMode,
    /// NOWAIT, SKIP LOCKED.
    pub policy: Policy,
}

/// ON CONFLICT, compiled.
#[derive(Debug)]
pub struct ConflictPlan {
    /// Deciding indexes; empty = all unique ones.
    pub arbiters: Vec<u32>,
    /// DO UPDATE: assignments over existing ++ excluded; `None` = DO NOTHING.
    pub update: Option<(Vec<(usize, Expr)>, Option<Expr>)>,
}

/// A write, compiled.
#[derive(Debug)]
pub struct ModifyPlan {
    /// Its kind.
    pub kind: ModifyKind,
    /// The table.
    pub table: Arc<Table>,
    /// The write path of the table.
    pub writer: Arc<Writer>,
    /// The alias.
    pub alias: String,
    /// The rows.
    pub source: Arc<PlanNode>,
    /// Slot of the row's key in the source.
    pub key: Option<usize>,
    /// (column of the table, slot of the source) of the old row.
    pub old: Vec<(usize, usize)>,
    /// New values over the source's row.
    pub assign: Vec<(usize, Expr)>,
    /// ON CONFLICT.
    pub conflict: Option<ConflictPlan>,
    /// The rows are sent to the table's owner, not written.
    pub sends: bool,
    /// RETURNING over source ++ new row (one slot per column of the table).
    pub returning: Vec<Expr>,
    /// The source must be read to its end before anything is written.
    pub spool: bool,
}

/// A CTE, compiled.
#[derive(Debug)]
pub struct CtePlan {
    /// Its number.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// The query, or the non-recursive term.
    pub node: Arc<PlanNode>,
    /// Slots of the outputs.
    pub outputs: Vec<usize>,
    /// The recursive term, its output slots, and whether rows are distinct.
    pub recursive: Option<(Arc<PlanNode>, Vec<usize>, bool)>,
    /// Runs to its end even if nobody reads it.
    pub modifies: bool,
}

/// `column > value`, or `column >= value`.
#[derive(Debug)]
pub struct LowerBound {
    /// The column's number in its relation.
    pub column: usize,
    /// The value.
    pub value: Expr,
    /// `>=`.
    pub inclusive: bool,
}

/// The operators.
#[derive(Debug)]
pub enum Op {
    /// Rows of expressions.
    Values(Vec<Vec<Expr>>),
    /// A stored table.
    Scan(Box<ScanPlan>),
    /// A system relation: columns of the relation in output order.
    System {
        /// The relation.
        relation: Arc<dyn SystemRelation>,
        /// Schema and name.
        name: (String, String),
        /// The alias.
        alias: String,
        /// Which of its columns are given.
        columns: Vec<usize>,
        /// `column = value` that the relation may use.
        equal: Vec<(usize, Expr)>,
        /// Lower bounds that it may use.
        above: Vec<LowerBound>,
        /// Conditions over the output row.
        filter: Vec<Expr>,
    },
    /// Table functions in lockstep.
    Function {
        /// The calls.
        calls: Vec<TablePlan>,
        /// WITH ORDINALITY.
        ordinality: bool,
        /// The alias.
        alias: String,
    },
    /// Rows of a CTE.
    Cte {
        /// Which.
        index: usize,
        /// Its name.
        name: String,
        /// Positions of its outputs.
        columns: Vec<usize>,
        /// The running step's rows.
        working: bool,
    },
    /// For each left row, the right side.
    NestedLoop {
        /// Inner, Left, Semi or Anti.
        kind: JoinKind,
        /// Left side.
        left: Arc<PlanNode>,
        /// Right side; kept in memory when it takes nothing from the left.
        right: Region,
        /// Condition over left ++ right.
        on: Vec<Expr>,
    },
    /// Equal keys by a hash table over the right side.
    HashJoin {
        /// How.
        kind: JoinKind,
        /// Left (probing) side.
        left: Arc<PlanNode>,
        /// Right (hashed) side.
        right: Arc<PlanNode>,
        /// Keys over left rows.
        left_keys: Vec<Expr>,
        /// Keys over right rows.
        right_keys: Vec<Expr>,
        /// Further conditions over left ++ right.
        on: Vec<Expr>,
    },
    /// Rows for which the conditions hold.
    Filter {
        /// Input.
        input: Arc<PlanNode>,
        /// Conditions.
        conditions: Vec<Expr>,
    },
    /// One expression per output column.
    Project {
        /// Input.
        input: Arc<PlanNode>,
        /// Expressions.
        exprs: Vec<Expr>,
    },
    /// Input row ++ one value of each call, in lockstep.
    ProjectSet {
        /// Input.
        input: Arc<PlanNode>,
        /// The calls.
        calls: Vec<Expr>,
    },
    /// Groups ++ aggregates.
    Aggregate {
        /// Input.
        input: Arc<PlanNode>,
        /// Grouping expressions.
        groups: Vec<Expr>,
        /// Grouping sets as indices into `groups`.
        sets: Option<Vec<Vec<usize>>>,
        /// The aggregates.
        calls: Vec<AggregateCall>,
        /// Input comes ordered by the groups.
        sorted: bool,
    },
    /// Input row ++ window results.
    Window {
        /// Input.
        input: Arc<PlanNode>,
        /// The calls.
        calls: Vec<WindowCall>,
    },
    /// Sorted rows.
    Sort {
        /// Input.
        input: Arc<PlanNode>,
        /// Keys.
        keys: Vec<SortKey>,
    },
    /// The first rows of each value.
    Distinct {
        /// Input.
        input: Arc<PlanNode>,
        /// The values.
        on: Vec<Expr>,
    },
    /// LIMIT and OFFSET. Over a `Sort` it keeps only as many rows as it needs.
    Limit {
        /// Input.
        input: Arc<PlanNode>,
        /// LIMIT.
        limit: Option<Expr>,
        /// OFFSET.
        offset: Option<Expr>,
        /// WITH TIES.
        ties: Option<Vec<SortKey>>,
    },
    /// UNION, INTERSECT, EXCEPT.
    Set {
        /// Which.
        kind: SetKind,
        /// ALL.
        all: bool,
        /// Left side and its slots.
        left: Arc<PlanNode>,
        /// Left slots.
        left_slots: Vec<usize>,
        /// Right side.
        right: Arc<PlanNode>,
        /// Right slots.
        right_slots: Vec<usize>,
    },
    /// WITH.
    With {
        /// The CTEs.
        ctes: Vec<Arc<CtePlan>>,
        /// The query.
        body: Arc<PlanNode>,
    },
    /// FOR UPDATE.
    Lock {
        /// Input.
        input: Arc<PlanNode>,
        /// The locks.
        locks: Vec<LockPlan>,
    },
    /// INSERT, UPDATE, DELETE.
    Modify(Box<ModifyPlan>),
}

impl PlanNode {
    /// Calls `f` on each input (not on subqueries in expressions).
    pub fn for_each_input<'a>(&'a self, f: &mut dyn FnMut(&'a PlanNode)) {
        match &self.op {
            Op::Values(_)
            | Op::Scan(_)
            | Op::System { .. }
            | Op::Function { .. }
            | Op::Cte { .. } => {}
            Op::NestedLoop { left, right, .. } => {
                f(left);
                f(&right.node);
            }
            Op::HashJoin { left, right, .. } | Op::Set { left, right, .. } => {
                f(left);
                f(right);
            }
            Op::Filter { input, .. }
            | Op::Project { input, .. }
            | Op::ProjectSet { input, .. }
            | Op::Aggregate { input, .. }
            | Op::Window { input, .. }
            | Op::Sort { input, .. }
            | Op::Distinct { input, .. }
            | Op::Limit { input, .. }
            | Op::Lock { input, .. } => f(input),
            Op::With { ctes, body } => {
                for cte in ctes {
                    f(&cte.node);
                    if let Some((step, _, _)) = &cte.recursive {
                        f(step);
                    }
                }
                f(body);
            }
            Op::Modify(modify) => f(&modify.source),
        }
    }

    /// Calls `f` on each subquery of this node's own expressions.
    pub fn for_each_subplan(&self, f: &mut dyn FnMut(&Arc<crate::expr::SubPlan>)) {
        let mut visit = |expr: &Expr| {
            expr.visit(&mut |node| {
                if let Expr::SubPlan(plan) = node {
                    f(plan);
                }
                crate::expr::Flow::Enter
            });
        };
        match &self.op {
            Op::Values(rows) => rows.iter().flatten().for_each(visit),
            Op::Scan(scan) => scan.filter.iter().chain(&scan.as_of).for_each(visit),
            Op::System { filter, .. } => filter.iter().for_each(visit),
            Op::Function { calls, .. } => {
                for call in calls {
                    match call {
                        TablePlan::Function { call, .. } => call.args.iter().for_each(&mut visit),
                        TablePlan::Scalar(expr) => visit(expr),
                        TablePlan::System { arguments, .. } => {
                            arguments.iter().for_each(&mut visit);
                        }
                    }
                }
            }
            Op::NestedLoop { on, .. } | Op::HashJoin { on, .. } => on.iter().for_each(visit),
            Op::Filter { conditions, .. } => conditions.iter().for_each(visit),
            Op::Project { exprs, .. } => exprs.iter().for_each(visit),
            Op::ProjectSet { calls, .. } => calls.iter().for_each(visit),
            Op::Aggregate { groups, calls, .. } => {
                groups.iter().for_each(&mut visit);
                for call in calls {
                    call.for_each_expr(&mut visit);
                }
            }
            Op::Window { calls, .. } => {
                for call in calls {
                    call.for_each_expr(&mut visit);
                }
            }
            Op::Sort { keys, .. } => keys.iter().for_each(|key| visit(&key.expr)),
            Op::Distinct { on, .. } => on.iter().for_each(visit),
            Op::Limit { limit, offset, .. } => limit.iter().chain(offset).for_each(visit),
            Op::Modify(modify) => {
                modify.assign.iter().for_each(|(_, expr)| visit(expr));
                modify.returning.iter().for_each(visit);
            }
            Op::Cte { .. } | Op::Set { .. } | Op::With { .. } | Op::Lock { .. } => {}
        }
    }

    /// One more than the greatest node number at or below this node.
    pub fn node_count(&self) -> usize {
        let mut count = self.id + 1;
        self.for_each_input(&mut |input| count = count.max(input.node_count()));
        self.for_each_subplan(&mut |plan| count = count.max(plan.plan.node_count()));
        count
    }
}
