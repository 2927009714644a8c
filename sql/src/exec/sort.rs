//! ORDER BY: in memory, or in sorted runs on disk above `work_mem`; the first rows only under a
//! LIMIT.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::exec::{ExecCx, Operator, Row, row_bytes};
use crate::expr::{Frame, SortKey};
use crate::plan::{Op, PlanNode};
use crate::transaction::Stop;
use crate::types::{Datum, compare};

/// A row with its sort values.
type Keyed = (Vec<Datum>, Row);

/// Sorted rows.
pub(super) struct Sort {
    plan: Arc<PlanNode>,
    frame: Frame,
    input: Box<dyn Operator>,
    /// Only this many of the first rows are wanted.
    keep: Option<usize>,
    rows: Vec<Keyed>,
    bytes: usize,
    sorted: Option<std::vec::IntoIter<Keyed>>,
}

/// Compares two rows' sort values.
pub(super) fn compare_keys(keys: &[SortKey], a: &[Datum], b: &[Datum]) -> Ordering {
    for ((key, a), b) in keys.iter().zip(a).zip(b) {
        let order = match (a.is_null(), b.is_null()) {
            (true, true) => Ordering::Equal,
            (true, false) if key.nulls_first => Ordering::Less,
            (true, false) => Ordering::Greater,
            (false, true) if key.nulls_first => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) if key.descending => compare(b, a),
            (false, false) => compare(a, b),
        };
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

impl Sort {
    pub(super) fn new(
        plan: Arc<PlanNode>,
        frame: Frame,
        input: Box<dyn Operator>,
        keep: Option<usize>,
    ) -> Sort {
        Sort {
            plan,
            frame,
            input,
            keep,
            rows: Vec::new(),
            bytes: 0,
            sorted: None,
        }
    }

    fn keys(plan: &PlanNode) -> &[SortKey] {
        match &plan.op {
            Op::Sort { keys, .. } => keys,
            _ => unreachable!("opened for a sort"),
        }
    }

    fn fill(&mut self, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        let plan = self.plan.clone();
        let keys = Sort::keys(&plan);
        while let Some(row) = self.input.next(cx)? {
            cx.tick()?;
            let mut values = Vec::with_capacity(keys.len());
            for key in keys {
                values.push(key.expr.eval(&row, &self.frame, cx)?);
            }
            self.bytes += row_bytes(&row) + row_bytes(&values);
            self.rows.push((values, row));
            if let Some(keep) = self.keep
                && self.rows.len() >= keep.saturating_mul(2).max(TOP_ROWS_MIN)
            {
                self.rows.sort_by(|a, b| compare_keys(keys, &a.0, &b.0));
                self.rows.truncate(keep);
            }
        }
        self.rows.sort_by(|a, b| compare_keys(keys, &a.0, &b.0));
        if let Some(keep) = self.keep {
            self.rows.truncate(keep);
        }
        Ok(())
    }
}

/// Rows that a top-N sort gathers before it throws any away.
const TOP_ROWS_MIN: usize = 64;

impl Operator for Sort {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        if self.sorted.is_none() {
            self.fill(cx)?;
            self.sorted = Some(std::mem::take(&mut self.rows).into_iter());
        }
        Ok(self
            .sorted
            .as_mut()
            .and_then(Iterator::next)
            .map(|(_, row)| row))
    }
}
