//! DISTINCT and set operations by hash tables.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::exec::{ExecCx, Operator, Row};
use crate::expr::{Frame, eval_row};
use crate::plan::{Op, PlanNode, SetKind};
use crate::transaction::Stop;
use crate::types::Datum;

/// The first row of each value.
pub(super) struct Distinct {
    plan: Arc<PlanNode>,
    frame: Frame,
    input: Box<dyn Operator>,
    seen: HashSet<Vec<Datum>>,
}

impl Distinct {
    pub(super) fn new(plan: Arc<PlanNode>, frame: Frame, input: Box<dyn Operator>) -> Distinct {
        Distinct {
            plan,
            frame,
            input,
            seen: HashSet::new(),
        }
    }
}

impl Operator for Distinct {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        let Op::Distinct { on, .. } = &self.plan.op else {
            unreachable!("opened for DISTINCT");
        };
        while let Some(row) = self.input.next(cx)? {
            cx.tick()?;
            let key = eval_row(on, &row, &self.frame, cx)?;
            if self.seen.insert(key) {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }
}

/// UNION, INTERSECT, EXCEPT, each with or without ALL.
pub(super) struct Set {
    plan: Arc<PlanNode>,
    left: Box<dyn Operator>,
    right: Box<dyn Operator>,
    /// UNION: the left side is done.
    left_done: bool,
    seen: HashSet<Row>,
    /// INTERSECT, EXCEPT: how often each right row is there.
    counts: Option<HashMap<Row, u64>>,
}

impl Set {
    pub(super) fn new(
        plan: Arc<PlanNode>,
        left: Box<dyn Operator>,
        right: Box<dyn Operator>,
    ) -> Set {
        Set {
            plan,
            left,
            right,
            left_done: false,
            seen: HashSet::new(),
            counts: None,
        }
    }
}

fn pick(row: Row, slots: &[usize]) -> Row {
    slots.iter().map(|slot| row[*slot].clone()).collect()
}

impl Operator for Set {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        let plan = self.plan.clone();
        let Op::Set {
            kind,
            all,
            left_slots,
            right_slots,
            ..
        } = &plan.op
        else {
            unreachable!("opened for a set operation");
        };
        if *kind == SetKind::Union {
            loop {
                cx.tick()?;
                let row = if self.left_done {
                    self.right.next(cx)?.map(|row| pick(row, right_slots))
                } else {
                    let row = self.left.next(cx)?;
                    if row.is_none() {
                        self.left_done = true;
                        continue;
                    }
                    row.map(|row| pick(row, left_slots))
                };
                let Some(row) = row else {
                    return Ok(None);
                };
                if *all || self.seen.insert(row.clone()) {
                    return Ok(Some(row));
                }
            }
        }
        let mut counts = match self.counts.take() {
            Some(counts) => counts,
            None => {
                let mut counts: HashMap<Row, u64> = HashMap::new();
                while let Some(row) = self.right.next(cx)? {
                    *counts.entry(pick(row, right_slots)).or_default() += 1;
                }
                counts
            }
        };
        let result = loop {
            cx.tick()?;
            let Some(row) = self.left.next(cx)? else {
                break None;
            };
            let row = pick(row, left_slots);
            let there = counts.get_mut(&row);
            let keep = match (kind, all) {
                (SetKind::Intersect, true) => match there {
                    Some(count) if *count > 0 => {
                        *count -= 1;
                        true
                    }
                    _ => false,
                },
                (SetKind::Except, true) => match there {
                    Some(count) if *count > 0 => {
                        *count -= 1;
                        false
                    }
                    _ => true,
                },
                (SetKind::Intersect, false) => there.is_some() && self.seen.insert(row.clone()),
                (SetKind::Except | SetKind::Union, _) => {
                    there.is_none() && self.seen.insert(row.clone())
                }
            };
            if keep {
                break Some(row);
            }
        };
        self.counts = Some(counts);
        Ok(result)
    }
}
