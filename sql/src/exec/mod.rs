//! Running plans: operators that give one row at a time, and the write path of rows with
//! constraints, indexes and foreign keys.

mod aggregate;
mod cte;
mod elsewhere;
mod foreign;
mod join;
mod modify;
mod projection;
mod reader;
mod referencing;
mod scan;
mod set;
mod simple;
mod sort;
mod subplan;
#[cfg(test)]
mod tests;
mod trigger;
mod window;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::catalog::{Catalog, RoleId, Routine, SchemaId};
use crate::error::{Error, state};
use crate::expr::{Context, Frame, Measured, Shared, SubPlan};
use crate::functions::Evaluation;
use crate::plan::{Op, PlanNode, Planned};
use crate::transaction::{Stop, Transaction};
use crate::types::Datum;

pub use cte::CteRows;
pub use elsewhere::Asked;
pub(crate) use foreign::{Acting, shown_key};
pub use foreign::{Deferred, DeferredCheck};
pub use projection::Projected;
pub use reader::RowReader;
pub(crate) use referencing::{find_reference, references_values};
pub(crate) use trigger::fires;
pub(crate) use writer::primary_key;
pub use writer::{IndexShape, Parts, Referenced, TableWriter, Writer};

/// A row: one value per column.
pub type Row = Vec<Datum>;

/// Rows between two looks at the cancel flag.
const TICKS_PER_CHECK: u32 = 256;

/// What an operator works with during one call. The session builds it for each call; a suspended
/// portal keeps only the operator.
pub struct ExecCx<'a> {
    /// Reads and writes.
    pub transaction: &'a mut Transaction,
    /// The statement's catalog.
    pub catalog: &'a Arc<Catalog>,
    /// `current_user`: whose eyes system relations are seen with.
    pub role: RoleId,
    /// `session_user`.
    pub login: RoleId,
    /// `search_path`, resolved.
    pub path: &'a [SchemaId],
    /// Set by CancelRequest and statement_timeout: 57014.
    pub cancel: &'a AtomicBool,
    /// Bytes that one sort or hash may hold before it spills (`work_mem`).
    pub work_mem: usize,
    /// Settings, times and the session, for functions.
    pub evaluation: Evaluation<'a>,
    /// The stack of locals of CASE and its kin; begins empty.
    pub locals: Vec<Datum>,
    /// Foreign-key checks that wait for COMMIT; one per transaction.
    pub deferred: &'a mut Deferred,
    /// Counts rows between two looks at the cancel flag; begins at 0.
    pub ticks: u32,
    /// The functions that are being called.
    pub calls: crate::plpgsql::Calls,
}

impl ExecCx<'_> {
    /// Called once per row by whatever may run long.
    ///
    /// # Errors
    /// 57014 when the statement was cancelled.
    #[inline]
    pub fn tick(&mut self) -> Result<(), Stop> {
        self.ticks += 1;
        if self.ticks < TICKS_PER_CHECK {
            return Ok(());
        }
        self.ticks = 0;
        if self.cancel.load(Ordering::Relaxed) {
            self.evaluation.environment.check_interrupt()?;
            return Err(Stop::Error(Error::new(
                state::QUERY_CANCELED,
                "canceling statement due to user request",
            )));
        }
        Ok(())
    }
}

impl ExecCx<'_> {
    /// Runs a piece with another catalog than the statement's, and in another transaction if one is given,
    /// with its deferred checks.
    pub(crate) fn beside<R>(
        &mut self,
        catalog: &Arc<Catalog>,
        other: Option<(&mut Transaction, &mut Deferred)>,
        run: impl FnOnce(&mut ExecCx<'_>) -> R,
    ) -> R {
        let evaluation = &self.evaluation;
        let (transaction, deferred) = match other {
            Some(other) => other,
            None => (&mut *self.transaction, &mut *self.deferred),
        };
        let mut own = ExecCx {
            transaction,
            catalog,
            role: self.role,
            login: self.login,
            path: self.path,
            cancel: self.cancel,
            work_mem: self.work_mem,
            evaluation: Evaluation::new(
                evaluation.format,
                evaluation.statement_start,
                evaluation.environment,
            ),
            locals: Vec::new(),
            deferred,
            ticks: self.ticks,
            calls: self.calls,
        };
        let result = run(&mut own);
        self.ticks = own.ticks;
        result
    }
}

impl<'a> Context<'a> for ExecCx<'a> {
    fn evaluation(&mut self) -> &mut Evaluation<'a> {
        &mut self.evaluation
    }

    fn locals(&mut self) -> &mut Vec<Datum> {
        &mut self.locals
    }

    fn subplan(&mut self, plan: &SubPlan, row: &[Datum], frame: &Frame) -> Result<Datum, Stop> {
        subplan::run(plan, row, frame, self)
    }

    fn routine(&mut self, routine: &Arc<Routine>, arguments: Vec<Datum>) -> Result<Datum, Stop> {
        crate::plpgsql::call(routine, arguments, self)
    }
}

/// A running plan.
pub trait Operator: Send {
    /// The next row, or `None` at the end (and for ever after).
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop>;

    /// Rows written so far, for the tag of a write.
    fn affected(&self) -> u64 {
        0
    }
}

/// Bytes of a row, for memory accounting.
pub(crate) fn row_bytes(row: &[Datum]) -> usize {
    row.iter().map(Datum::bytes).sum::<usize>() + 24
}

/// Starts a plan.
///
/// # Errors
/// Those of evaluating what must be known first (LIMIT, keys).
pub fn open(
    planned: &Arc<Planned>,
    parameters: Arc<[Datum]>,
    cx: &mut ExecCx<'_>,
) -> Result<Box<dyn Operator>, Stop> {
    let frame = Frame::new(parameters);
    open_node(&planned.plan, &frame, cx)
}

/// Starts a node of a plan.
pub(crate) fn open_node(
    node: &Arc<PlanNode>,
    frame: &Frame,
    cx: &mut ExecCx<'_>,
) -> Result<Box<dyn Operator>, Stop> {
    crate::expr::deep(|| open_inner(node, frame, cx))
}

/// Runs a plan to its end and gives what each node did (EXPLAIN ANALYZE).
///
/// # Errors
/// Those of the statement.
pub fn open_measured(
    planned: &Arc<Planned>,
    parameters: Arc<[Datum]>,
    cx: &mut ExecCx<'_>,
) -> Result<Vec<Measured>, Stop> {
    let counts = vec![Measured::default(); planned.plan.node_count()];
    let shared = Shared {
        measured: Some(Mutex::new(counts)),
        ..Shared::default()
    };
    let frame = Frame {
        shared: Arc::new(shared),
        ..Frame::new(parameters)
    };
    let mut operator = open_node(&planned.plan, &frame, cx)?;
    while operator.next(cx)?.is_some() {}
    Ok(frame
        .shared
        .measured
        .as_ref()
        .map_or_else(Vec::new, |counts| counts.lock().clone()))
}

/// Counts what an operator does.
struct Counted {
    id: usize,
    frame: Frame,
    inner: Box<dyn Operator>,
}

impl Operator for Counted {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        let start = cx.evaluation.environment.clock();
        let row = self.inner.next(cx)?;
        let spent = cx.evaluation.environment.clock() - start;
        if let Some(counts) = &self.frame.shared.measured {
            let count = &mut counts.lock()[self.id];
            count.total_us += spent;
            if row.is_some() {
                if count.rows == 0 {
                    count.first_us = count.total_us;
                }
                count.rows += 1;
            }
        }
        Ok(row)
    }

    fn affected(&self) -> u64 {
        self.inner.affected()
    }
}

fn open_inner(
    node: &Arc<PlanNode>,
    frame: &Frame,
    cx: &mut ExecCx<'_>,
) -> Result<Box<dyn Operator>, Stop> {
    let inner = open_plain(node, frame, cx)?;
    let Some(counts) = &frame.shared.measured else {
        return Ok(inner);
    };
    counts.lock()[node.id].loops += 1;
    Ok(Box::new(Counted {
        id: node.id,
        frame: frame.clone(),
        inner,
    }))
}

fn open_plain(
    node: &Arc<PlanNode>,
    frame: &Frame,
    cx: &mut ExecCx<'_>,
) -> Result<Box<dyn Operator>, Stop> {
    let (plan, frame) = (node.clone(), frame.clone());
    Ok(match &node.op {
        Op::Values(_) => Box::new(simple::Values::new(plan, frame)),
        Op::Scan(_) => Box::new(scan::Scan::open(plan, frame, cx)?),
        Op::System { .. } => Box::new(scan::SystemScan::open(plan, frame)),
        Op::Function { .. } => Box::new(scan::FunctionScan::open(plan, frame, cx)?),
        Op::Cte { .. } => Box::new(cte::CteScan::new(plan, frame)),
        Op::NestedLoop { left, .. } => {
            let left = open_node(left, &frame, cx)?;
            Box::new(join::NestedLoop::new(plan, frame, left))
        }
        Op::HashJoin { left, right, .. } => {
            let left = open_node(left, &frame, cx)?;
            let right = open_node(right, &frame, cx)?;
            Box::new(join::HashJoin::new(plan, frame, left, right))
        }
        Op::Filter { input, .. } => {
            let input = open_node(input, &frame, cx)?;
            Box::new(simple::Filter::new(plan, frame, input))
        }
        Op::Project { input, .. } => {
            let input = open_node(input, &frame, cx)?;
            Box::new(simple::Project::new(plan, frame, input))
        }
        Op::ProjectSet { input, .. } => {
            let input = open_node(input, &frame, cx)?;
            Box::new(simple::ProjectSet::new(plan, frame, input))
        }
        Op::Aggregate { input, .. } => {
            let input = open_node(input, &frame, cx)?;
            Box::new(aggregate::Aggregate::new(plan, frame, input))
        }
        Op::Window { input, .. } => {
            let input = open_node(input, &frame, cx)?;
            Box::new(window::Window::new(plan, frame, input))
        }
        Op::Sort { input, .. } => {
            let input = open_node(input, &frame, cx)?;
            Box::new(sort::Sort::new(plan, frame, input, None))
        }
        Op::Distinct { input, .. } => {
            let input = open_node(input, &frame, cx)?;
            Box::new(set::Distinct::new(plan, frame, input))
        }
        Op::Limit { .. } => Box::new(simple::Limit::open(plan, frame, cx)?),
        Op::Set { left, right, .. } => {
            let left = open_node(left, &frame, cx)?;
            let right = open_node(right, &frame, cx)?;
            Box::new(set::Set::new(plan, left, right))
        }
        Op::With { .. } => Box::new(cte::With::open(plan, frame, cx)?),
        Op::Lock { input, .. } => {
            let input = open_node(input, &frame, cx)?;
            Box::new(simple::Lock::new(plan, input))
        }
        Op::Modify(modify) => {
            let source = open_node(&modify.source, &frame, cx)?;
            Box::new(modify::Modify::new(plan, frame, source))
        }
    })
}
