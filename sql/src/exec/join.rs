//! Joins: nested loops (with a side that is opened per left row, or kept in memory) and hash
//! joins.

use std::collections::HashMap;
use std::sync::Arc;

use crate::exec::{ExecCx, Operator, Row, open_node};
use crate::expr::{Expr, Frame, eval_row, is_true};
use crate::plan::{JoinKind, Op, PlanNode, Region};
use crate::transaction::Stop;
use crate::types::Datum;

/// The right side of a nested loop for the current left row.
enum Right {
    /// Opened for this row.
    Open(Box<dyn Operator>),
    /// Read once, kept: the position within.
    Kept(usize),
}

/// For each left row, the right rows that match.
pub(super) struct NestedLoop {
    plan: Arc<PlanNode>,
    frame: Frame,
    left: Box<dyn Operator>,
    kept: Option<Vec<Row>>,
    current: Option<(Row, Right)>,
    matched: bool,
}

impl NestedLoop {
    pub(super) fn new(plan: Arc<PlanNode>, frame: Frame, left: Box<dyn Operator>) -> NestedLoop {
        NestedLoop {
            plan,
            frame,
            left,
            kept: None,
            current: None,
            matched: false,
        }
    }

    fn start(
        &mut self,
        region: &Region,
        row: Row,
        cx: &mut ExecCx<'_>,
    ) -> Result<(Row, Right), Stop> {
        if region.arguments.is_empty() {
            if self.kept.is_none() {
                let mut source = open_node(&region.node, &self.frame, cx)?;
                let mut rows = Vec::new();
                while let Some(row) = source.next(cx)? {
                    rows.push(row);
                }
                self.kept = Some(rows);
            }
            return Ok((row, Right::Kept(0)));
        }
        let arguments = eval_row(&region.arguments, &row, &self.frame, cx)?;
        let frame = self.frame.with_arguments(arguments);
        let right = open_node(&region.node, &frame, cx)?;
        Ok((row, Right::Open(right)))
    }

    /// The next left ++ right pair that meets the condition.
    fn pair(&mut self, on: &[Expr], cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        let Some((left, right)) = &mut self.current else {
            return Ok(None);
        };
        loop {
            cx.tick()?;
            let found = match right {
                Right::Open(source) => source.next(cx)?,
                Right::Kept(at) => {
                    let row = self.kept.as_ref().and_then(|rows| rows.get(*at)).cloned();
                    *at += 1;
                    row
                }
            };
            let Some(found) = found else {
                return Ok(None);
            };
            let mut row = Vec::with_capacity(left.len() + found.len());
            row.extend_from_slice(left);
            row.extend(found);
            if is_true(on, &row, &self.frame, cx)? {
                return Ok(Some(row));
            }
        }
    }
}

impl Operator for NestedLoop {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        let plan = self.plan.clone();
        let Op::NestedLoop {
            kind, right, on, ..
        } = &plan.op
        else {
            unreachable!("opened for a nested loop");
        };
        loop {
            if self.current.is_none() {
                let Some(row) = self.left.next(cx)? else {
                    return Ok(None);
                };
                self.current = Some(self.start(right, row, cx)?);
                self.matched = false;
            }
            let pair = self.pair(on, cx)?;
            match (kind, pair) {
                (JoinKind::Semi, Some(_)) => {
                    return Ok(self.current.take().map(|(left, _)| left));
                }
                (JoinKind::Anti, Some(_)) | (JoinKind::Semi | JoinKind::Inner, None) => {
                    self.current = None;
                }
                (JoinKind::Anti, None) => {
                    return Ok(self.current.take().map(|(left, _)| left));
                }
                (_, Some(row)) => {
                    self.matched = true;
                    return Ok(Some(row));
                }
                (JoinKind::Left | JoinKind::Right | JoinKind::Full, None) => {
                    let Some((mut left, _)) = self.current.take() else {
                        continue;
                    };
                    if !self.matched {
                        let width = left.len() + right.node.types.len();
                        left.resize(width, Datum::Null);
                        return Ok(Some(left));
                    }
                }
            }
        }
    }
}

/// The right side of a hash join.
struct Table {
    rows: Vec<Row>,
    /// Rows by key.
    by_key: HashMap<Vec<Datum>, Vec<u32>>,
    /// Which rows have found a partner (FULL).
    matched: Vec<bool>,
}

/// Equal keys through a hash table over the right side.
pub(super) struct HashJoin {
    plan: Arc<PlanNode>,
    frame: Frame,
    left: Box<dyn Operator>,
    right: Box<dyn Operator>,
    table: Option<Table>,
    /// The current left row, its candidates and how far they are done.
    current: Option<(Row, Vec<Datum>, usize, bool)>,
    /// FULL: where the unmatched right rows are being given.
    rest: Option<usize>,
}

impl HashJoin {
    pub(super) fn new(
        plan: Arc<PlanNode>,
        frame: Frame,
        left: Box<dyn Operator>,
        right: Box<dyn Operator>,
    ) -> HashJoin {
        HashJoin {
            plan,
            frame,
            left,
            right,
            table: None,
            current: None,
            rest: None,
        }
    }

    fn build(&mut self, keys: &[Expr], kind: JoinKind, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        let mut table = Table {
            rows: Vec::new(),
            by_key: HashMap::new(),
            matched: Vec::new(),
        };
        while let Some(row) = self.right.next(cx)? {
            let key = eval_row(keys, &row, &self.frame, cx)?;
            if key.iter().any(Datum::is_null) && kind != JoinKind::Full {
                continue;
            }
            let at = u32::try_from(table.rows.len()).unwrap_or(u32::MAX);
            if !key.iter().any(Datum::is_null) {
                table.by_key.entry(key).or_default().push(at);
            }
            table.rows.push(row);
        }
        table.matched = vec![
            false;
            if kind == JoinKind::Full {
                table.rows.len()
            } else {
                0
            }
        ];
        self.table = Some(table);
        Ok(())
    }

    /// The next match of the current left row.
    fn pair(&mut self, on: &[Expr], cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        let (Some(table), Some((left, key, at, matched))) = (&mut self.table, &mut self.current)
        else {
            return Ok(None);
        };
        let Some(candidates) = table.by_key.get(key) else {
            return Ok(None);
        };
        while let Some(index) = candidates.get(*at) {
            cx.tick()?;
            *at += 1;
            let right = &table.rows[*index as usize];
            let mut row = Vec::with_capacity(left.len() + right.len());
            row.extend_from_slice(left);
            row.extend_from_slice(right);
            if on.is_empty() || is_true(on, &row, &self.frame, cx)? {
                *matched = true;
                if let Some(flag) = table.matched.get_mut(*index as usize) {
                    *flag = true;
                }
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// FULL: right rows without a partner.
    fn unmatched(&mut self, left_width: usize) -> Option<Row> {
        let table = self.table.as_ref()?;
        let at = self.rest.as_mut()?;
        while *at < table.rows.len() {
            let index = *at;
            *at += 1;
            if !table.matched[index] {
                let mut row = vec![Datum::Null; left_width];
                row.extend_from_slice(&table.rows[index]);
                return Some(row);
            }
        }
        None
    }
}

impl Operator for HashJoin {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        let plan = self.plan.clone();
        let Op::HashJoin {
            kind,
            left,
            right,
            left_keys,
            right_keys,
            on,
        } = &plan.op
        else {
            unreachable!("opened for a hash join");
        };
        if self.table.is_none() {
            self.build(right_keys, *kind, cx)?;
        }
        loop {
            if self.rest.is_some() {
                return Ok(self.unmatched(left.types.len()));
            }
            if self.current.is_none() {
                let Some(row) = self.left.next(cx)? else {
                    if *kind == JoinKind::Full {
                        self.rest = Some(0);
                        continue;
                    }
                    return Ok(None);
                };
                let key = eval_row(left_keys, &row, &self.frame, cx)?;
                self.current = Some((row, key, 0, false));
            }
            let pair = self.pair(on, cx)?;
            match (kind, pair) {
                (JoinKind::Semi, Some(_)) => {
                    return Ok(self.current.take().map(|(left, ..)| left));
                }
                (JoinKind::Anti, Some(_)) | (JoinKind::Semi | JoinKind::Inner, None) => {
                    self.current = None;
                }
                (JoinKind::Anti, None) => {
                    return Ok(self.current.take().map(|(left, ..)| left));
                }
                (_, Some(row)) => return Ok(Some(row)),
                (JoinKind::Left | JoinKind::Right | JoinKind::Full, None) => {
                    let Some((mut row, _, _, matched)) = self.current.take() else {
                        continue;
                    };
                    if !matched {
                        row.resize(row.len() + right.types.len(), Datum::Null);
                        return Ok(Some(row));
                    }
                }
            }
        }
    }
}
