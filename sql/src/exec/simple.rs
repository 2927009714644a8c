//! The plain operators: values, filter, projection, set-returning projection, LIMIT, row locks.

use std::sync::Arc;

use crate::error::{Error, state};
use crate::exec::{ExecCx, Operator, Row, open_node, sort};
use crate::expr::{Expr, Frame, SortKey, eval_row, is_true};
use crate::functions::Rows;
use crate::plan::{Op, PlanNode};
use crate::transaction::{Isolation, Locked, Stop, Wait};
use crate::types::Datum;

/// Rows of expressions.
pub(super) struct Values {
    plan: Arc<PlanNode>,
    frame: Frame,
    at: usize,
}

impl Values {
    pub(super) fn new(plan: Arc<PlanNode>, frame: Frame) -> Values {
        Values { plan, frame, at: 0 }
    }
}

impl Operator for Values {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        let Op::Values(rows) = &self.plan.op else {
            unreachable!("opened for values");
        };
        let Some(exprs) = rows.get(self.at) else {
            return Ok(None);
        };
        cx.tick()?;
        let row = eval_row(exprs, &[], &self.frame, cx)?;
        self.at += 1;
        Ok(Some(row))
    }
}

/// Rows for which conditions hold.
pub(super) struct Filter {
    plan: Arc<PlanNode>,
    frame: Frame,
    input: Box<dyn Operator>,
}

impl Filter {
    pub(super) fn new(plan: Arc<PlanNode>, frame: Frame, input: Box<dyn Operator>) -> Filter {
        Filter { plan, frame, input }
    }
}

impl Operator for Filter {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        let Op::Filter { conditions, .. } = &self.plan.op else {
            unreachable!("opened for a filter");
        };
        while let Some(row) = self.input.next(cx)? {
            if is_true(conditions, &row, &self.frame, cx)? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }
}

/// One expression per column.
pub(super) struct Project {
    plan: Arc<PlanNode>,
    frame: Frame,
    input: Box<dyn Operator>,
}

impl Project {
    pub(super) fn new(plan: Arc<PlanNode>, frame: Frame, input: Box<dyn Operator>) -> Project {
        Project { plan, frame, input }
    }
}

impl Operator for Project {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        let Op::Project { exprs, .. } = &self.plan.op else {
            unreachable!("opened for a projection");
        };
        match self.input.next(cx)? {
            Some(row) => Ok(Some(eval_row(exprs, &row, &self.frame, cx)?)),
            None => Ok(None),
        }
    }
}

/// Input row ++ the values of set-returning calls, in lockstep.
pub(super) struct ProjectSet {
    plan: Arc<PlanNode>,
    frame: Frame,
    input: Box<dyn Operator>,
    row: Row,
    running: Vec<Option<Rows>>,
}

impl ProjectSet {
    pub(super) fn new(plan: Arc<PlanNode>, frame: Frame, input: Box<dyn Operator>) -> ProjectSet {
        ProjectSet {
            plan,
            frame,
            input,
            row: Vec::new(),
            running: Vec::new(),
        }
    }

    fn start(&mut self, cx: &mut ExecCx<'_>) -> Result<bool, Stop> {
        let Op::ProjectSet { calls, .. } = &self.plan.op else {
            unreachable!("opened for set-returning calls");
        };
        let Some(row) = self.input.next(cx)? else {
            return Ok(false);
        };
        let mut running = Vec::with_capacity(calls.len());
        for call in calls {
            let Expr::SetReturning(call) = call else {
                return Err(Stop::Error(Error::internal(
                    "a set-returning call was expected",
                )));
            };
            let args = eval_row(&call.args, &row, &self.frame, cx)?;
            running.push(Some(call.resolved.rows(&mut cx.evaluation, &args)?));
        }
        self.row = row;
        self.running = running;
        Ok(true)
    }
}

impl Operator for ProjectSet {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        loop {
            cx.tick()?;
            let mut any = false;
            let mut values = Vec::with_capacity(self.running.len());
            for slot in &mut self.running {
                let value = match slot {
                    Some(rows) => rows.next().transpose()?,
                    None => None,
                };
                match value {
                    Some(value) => {
                        any = true;
                        values.push(value);
                    }
                    None => {
                        *slot = None;
                        values.push(Datum::Null);
                    }
                }
            }
            if any {
                let mut row = self.row.clone();
                row.extend(values);
                return Ok(Some(row));
            }
            if !self.start(cx)? {
                return Ok(None);
            }
        }
    }
}

/// LIMIT and OFFSET, with or without ties.
pub(super) struct Limit {
    plan: Arc<PlanNode>,
    frame: Frame,
    input: Box<dyn Operator>,
    skip: u64,
    left: Option<u64>,
    /// The sort values of the last row within the limit.
    last: Option<Vec<Datum>>,
}

impl Limit {
    pub(super) fn open(
        plan: Arc<PlanNode>,
        frame: Frame,
        cx: &mut ExecCx<'_>,
    ) -> Result<Limit, Stop> {
        let Op::Limit {
            input,
            limit,
            offset,
            ties,
        } = &plan.op
        else {
            unreachable!("opened for LIMIT");
        };
        let skip = count(offset.as_ref(), "OFFSET", &frame, cx)?.unwrap_or(0);
        let left = count(limit.as_ref(), "LIMIT", &frame, cx)?;
        let input = match (&input.op, left, ties) {
            (Op::Sort { input: below, .. }, Some(left), None) => {
                let below = open_node(below, &frame, cx)?;
                let keep = usize::try_from(left.saturating_add(skip)).ok();
                Box::new(sort::Sort::new(input.clone(), frame.clone(), below, keep))
            }
            _ => open_node(input, &frame, cx)?,
        };
        Ok(Limit {
            plan,
            frame,
            input,
            skip,
            left,
            last: None,
        })
    }
}

/// The value of a LIMIT or OFFSET; NULL = none.
fn count(
    expr: Option<&Expr>,
    word: &str,
    frame: &Frame,
    cx: &mut ExecCx<'_>,
) -> Result<Option<u64>, Stop> {
    let Some(expr) = expr else {
        return Ok(None);
    };
    match expr.eval(&[], frame, cx)?.as_i64() {
        None => Ok(None),
        Some(value) => u64::try_from(value).map(Some).map_err(|_| {
            let code = match word {
                "LIMIT" => state::INVALID_ROW_COUNT_IN_LIMIT_CLAUSE,
                _ => state::INVALID_ROW_COUNT_IN_OFFSET_CLAUSE,
            };
            Stop::Error(Error::new(code, format!("{word} must not be negative")))
        }),
    }
}

fn key_values(
    keys: &[SortKey],
    row: &[Datum],
    frame: &Frame,
    cx: &mut ExecCx<'_>,
) -> Result<Vec<Datum>, Stop> {
    keys.iter()
        .map(|key| key.expr.eval(row, frame, cx))
        .collect()
}

impl Operator for Limit {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        let Op::Limit { ties, .. } = &self.plan.op else {
            unreachable!("opened for LIMIT");
        };
        if self.left == Some(0) && (ties.is_none() || self.last.is_none()) {
            return Ok(None);
        }
        while self.skip > 0 {
            if self.input.next(cx)?.is_none() {
                return Ok(None);
            }
            self.skip -= 1;
        }
        let Some(row) = self.input.next(cx)? else {
            return Ok(None);
        };
        if let Some(keys) = ties {
            let values = key_values(keys, &row, &self.frame, cx)?;
            match self.left {
                Some(0) => {
                    if self.last.as_ref() != Some(&values) {
                        self.last = None;
                        return Ok(None);
                    }
                }
                _ => self.last = Some(values),
            }
        }
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
        }
        Ok(Some(row))
    }

    fn affected(&self) -> u64 {
        self.input.affected()
    }
}

/// SELECT ... FOR UPDATE: locks the rows behind each result row.
pub(super) struct Lock {
    plan: Arc<PlanNode>,
    input: Box<dyn Operator>,
}

impl Lock {
    pub(super) fn new(plan: Arc<PlanNode>, input: Box<dyn Operator>) -> Lock {
        Lock { plan, input }
    }
}

impl Operator for Lock {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        let Op::Lock { locks, .. } = &self.plan.op else {
            unreachable!("opened for row locks");
        };
        'rows: while let Some(row) = self.input.next(cx)? {
            for lock in locks {
                let Datum::Bytea(key) = &row[lock.key] else {
                    continue;
                };
                let (group, tree) = (lock.table.group, lock.table.tree);
                let locked = cx
                    .transaction
                    .lock_row(group, tree, key, lock.mode, lock.policy);
                let locked = locked.map_err(|stop| name_relation(stop, &lock.table.name))?;
                if locked == Locked::Skipped {
                    continue 'rows;
                }
                if !unchanged(group, tree, key, cx)? {
                    if lock.policy == crate::transaction::Policy::SkipLocked {
                        continue 'rows;
                    }
                    return Err(Stop::Wait(Wait::Again));
                }
            }
            return Ok(Some(row));
        }
        Ok(None)
    }
}

/// 55P03 names the relation.
fn name_relation(stop: Stop, table: &str) -> Stop {
    match stop {
        Stop::Error(mut error) if error.state() == state::LOCK_NOT_AVAILABLE => {
            error.0.message = format!("could not obtain lock on row in relation \"{table}\"");
            Stop::Error(error)
        }
        other => other,
    }
}

/// Whether a row that was read and is now locked is still the newest. If not, the statement
/// looks again with a fresh snapshot (READ COMMITTED); the levels above raise 40001 by
/// themselves.
pub(super) fn unchanged(
    group: storage::GroupId,
    tree: u32,
    key: &[u8],
    cx: &mut ExecCx<'_>,
) -> Result<bool, Stop> {
    let newest = cx.transaction.current(group, tree, key)?;
    let seen = cx.transaction.get(group, tree, key)?;
    let _ = Isolation::ReadCommitted;
    Ok(newest == seen)
}
