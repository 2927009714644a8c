//! GROUP BY and aggregates: group by group when the input is ordered, else by a hash table.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::exec::{ExecCx, Operator, Row, sort::compare_keys};
use crate::expr::{AggregateCall, Expr, Frame, eval_row};
use crate::functions::Accumulator;
use crate::plan::{Op, PlanNode};
use crate::transaction::Stop;
use crate::types::Datum;

/// One aggregate of one group.
struct Cell {
    state: Box<dyn Accumulator>,
    /// DISTINCT: argument values seen.
    seen: HashSet<Vec<Datum>>,
    /// ORDER BY: sort values and arguments, fed at the end.
    rows: Vec<(Vec<Datum>, Vec<Datum>)>,
}

/// The aggregates of one group.
struct Group {
    values: Vec<Datum>,
    set: usize,
    cells: Vec<Cell>,
}

/// Groups ++ aggregates.
pub(super) struct Aggregate {
    plan: Arc<PlanNode>,
    frame: Frame,
    input: Box<dyn Operator>,
    done: Option<std::vec::IntoIter<Group>>,
    /// Ordered input: the group that is being filled, and whether the input has ended.
    current: Option<Group>,
    ended: bool,
}

impl Aggregate {
    pub(super) fn new(plan: Arc<PlanNode>, frame: Frame, input: Box<dyn Operator>) -> Aggregate {
        Aggregate {
            plan,
            frame,
            input,
            done: None,
            current: None,
            ended: false,
        }
    }

    /// Reads all input into groups.
    fn fill(
        &mut self,
        groups: &[Expr],
        sets: Option<&[Vec<usize>]>,
        calls: &[AggregateCall],
        cx: &mut ExecCx<'_>,
    ) -> Result<Vec<Group>, Stop> {
        let all: Vec<usize> = (0..groups.len()).collect();
        let plain = [all];
        let sets = sets.unwrap_or(&plain);
        let mut table: HashMap<(usize, Vec<Datum>), usize> = HashMap::new();
        let mut out: Vec<Group> = Vec::new();
        for (number, set) in sets.iter().enumerate() {
            if set.is_empty() {
                // A set without columns has its one group even without rows.
                let values = vec![Datum::Null; groups.len()];
                table.insert((number, values.clone()), out.len());
                out.push(new_group(values, number, calls)?);
            }
        }
        while let Some(row) = self.input.next(cx)? {
            cx.tick()?;
            let full = eval_row(groups, &row, &self.frame, cx)?;
            for (number, set) in sets.iter().enumerate() {
                let values: Vec<Datum> = if set.len() == groups.len() {
                    full.clone()
                } else {
                    (0..groups.len())
                        .map(|at| {
                            if set.contains(&at) {
                                full[at].clone()
                            } else {
                                Datum::Null
                            }
                        })
                        .collect()
                };
                let at = match table.get(&(number, values.clone())) {
                    Some(at) => *at,
                    None => {
                        table.insert((number, values.clone()), out.len());
                        out.push(new_group(values, number, calls)?);
                        out.len() - 1
                    }
                };
                feed(&mut out[at], calls, &row, &self.frame, cx)?;
            }
        }
        Ok(out)
    }

    /// The next group of ordered input.
    fn next_sorted(
        &mut self,
        groups: &[Expr],
        calls: &[AggregateCall],
        cx: &mut ExecCx<'_>,
    ) -> Result<Option<Group>, Stop> {
        if self.ended {
            return Ok(self.current.take());
        }
        while let Some(row) = self.input.next(cx)? {
            cx.tick()?;
            let values = eval_row(groups, &row, &self.frame, cx)?;
            let finished = match &self.current {
                Some(group) if group.values == values => None,
                Some(_) => self.current.take(),
                None => None,
            };
            if self.current.is_none() {
                self.current = Some(new_group(values, 0, calls)?);
            }
            if let Some(group) = &mut self.current {
                feed(group, calls, &row, &self.frame, cx)?;
            }
            if finished.is_some() {
                return Ok(finished);
            }
        }
        self.ended = true;
        Ok(self.current.take())
    }
}

fn new_group(values: Vec<Datum>, set: usize, calls: &[AggregateCall]) -> Result<Group, Stop> {
    let mut cells = Vec::with_capacity(calls.len());
    for call in calls {
        cells.push(Cell {
            state: call.resolved.accumulator()?,
            seen: HashSet::new(),
            rows: Vec::new(),
        });
    }
    Ok(Group { values, set, cells })
}

fn feed(
    group: &mut Group,
    calls: &[AggregateCall],
    row: &[Datum],
    frame: &Frame,
    cx: &mut ExecCx<'_>,
) -> Result<(), Stop> {
    for (cell, call) in group.cells.iter_mut().zip(calls) {
        if let Some(filter) = &call.filter
            && !filter.eval(row, frame, cx)?.is_true()
        {
            continue;
        }
        let args = eval_row(&call.args, row, frame, cx)?;
        if call.distinct && !cell.seen.insert(args.clone()) {
            continue;
        }
        if call.order.is_empty() {
            add(cell, call, &args, cx)?;
            continue;
        }
        let mut keys = Vec::with_capacity(call.order.len());
        for key in &call.order {
            keys.push(key.expr.eval(row, frame, cx)?);
        }
        cell.rows.push((keys, args));
    }
    Ok(())
}

fn add(
    cell: &mut Cell,
    call: &AggregateCall,
    args: &[Datum],
    cx: &mut ExecCx<'_>,
) -> Result<(), Stop> {
    if call.resolved.is_packed() {
        let args = call.resolved.arrange(args);
        return Ok(cell.state.add(&mut cx.evaluation, &args)?);
    }
    Ok(cell.state.add(&mut cx.evaluation, args)?)
}

/// The output row of a group.
fn finish(
    mut group: Group,
    calls: &[AggregateCall],
    numbered: bool,
    cx: &mut ExecCx<'_>,
) -> Result<Row, Stop> {
    let mut row = group.values;
    if numbered {
        // GROUPING() subscripts an array from 1 by this.
        let number = i32::try_from(group.set + 1).unwrap_or(i32::MAX);
        row.push(Datum::Int4(number));
    }
    for (cell, call) in group.cells.iter_mut().zip(calls) {
        let mut rows = std::mem::take(&mut cell.rows);
        rows.sort_by(|a, b| compare_keys(&call.order, &a.0, &b.0));
        for (_, args) in rows {
            add(cell, call, &args, cx)?;
        }
        row.push(cell.state.finish(&mut cx.evaluation)?);
    }
    Ok(row)
}

impl Operator for Aggregate {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        let plan = self.plan.clone();
        let Op::Aggregate {
            groups,
            sets,
            calls,
            sorted,
            ..
        } = &plan.op
        else {
            unreachable!("opened for an aggregation");
        };
        if *sorted && sets.is_none() {
            return match self.next_sorted(groups, calls, cx)? {
                Some(group) => Ok(Some(finish(group, calls, false, cx)?)),
                None => Ok(None),
            };
        }
        if self.done.is_none() {
            let filled = self.fill(groups, sets.as_deref(), calls, cx)?;
            self.done = Some(filled.into_iter());
        }
        match self.done.as_mut().and_then(Iterator::next) {
            Some(group) => Ok(Some(finish(group, calls, sets.is_some(), cx)?)),
            None => Ok(None),
        }
    }
}
