//! Window functions: the input is sorted by partition and order, each call is computed over its
//! partition, and its result becomes one more column.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::error::{Error, SqlState, state};
use crate::exec::sort::compare_keys;
use crate::exec::{ExecCx, Operator, Row};
use crate::expr::{
    Exclude, Frame, FrameBound, FrameUnit, SortKey, WindowCall, WindowFunction, eval_row, same,
};
use crate::functions::{Accumulator, Window as Kind};
use crate::plan::{Op, PlanNode};
use crate::transaction::Stop;
use crate::types::{Datum, compare};

/// 22014.
const INVALID_NTILE: SqlState = SqlState(*b"22014");
/// 22016.
const INVALID_NTH_VALUE: SqlState = SqlState(*b"22016");
/// 22013.
const INVALID_FRAME_OFFSET: SqlState = SqlState(*b"22013");

/// Input row ++ window results.
pub(super) struct Window {
    plan: Arc<PlanNode>,
    frame: Frame,
    input: Box<dyn Operator>,
    done: Option<std::vec::IntoIter<Row>>,
}

/// A row with the values that its window needs.
struct Placed {
    row: Row,
    partition: Vec<Datum>,
    order: Vec<Datum>,
}

/// One partition of one call.
struct Partition<'p> {
    rows: &'p [Placed],
    call: &'p WindowCall,
    /// The call's arguments per row.
    args: Vec<Vec<Datum>>,
    /// Whether FILTER lets the row in.
    passes: Vec<bool>,
    /// First row of each row's peer group.
    peer_start: Vec<usize>,
    /// One past the last row of each row's peer group.
    peer_end: Vec<usize>,
    /// Number of each row's peer group.
    group: Vec<usize>,
    /// Frame offsets, the same for all rows.
    start_offset: Option<Datum>,
    end_offset: Option<Datum>,
    /// RANGE with offset: the key at each row's bounds.
    start_keys: Vec<Datum>,
    end_keys: Vec<Datum>,
}

impl Window {
    pub(super) fn new(plan: Arc<PlanNode>, frame: Frame, input: Box<dyn Operator>) -> Window {
        Window {
            plan,
            frame,
            input,
            done: None,
        }
    }

    fn run(&mut self, calls: &[WindowCall], cx: &mut ExecCx<'_>) -> Result<Vec<Row>, Stop> {
        let mut rows: Vec<Row> = Vec::new();
        while let Some(row) = self.input.next(cx)? {
            cx.tick()?;
            rows.push(row);
        }
        let width = rows.first().map_or(0, Vec::len);
        for row in &mut rows {
            row.resize(width + calls.len(), Datum::Null);
        }
        // Calls over one window are computed in one pass.
        let mut pending: Vec<usize> = (0..calls.len()).collect();
        while let Some(first) = pending.first().copied() {
            let (together, later): (Vec<usize>, Vec<usize>) = pending
                .into_iter()
                .partition(|at| *at == first || same_window(&calls[first], &calls[*at]));
            pending = later;
            let mut placed = self.place(rows, &calls[first], cx)?;
            for at in together {
                let results = self.compute(&placed, &calls[at], cx)?;
                for (row, value) in placed.iter_mut().zip(results) {
                    row.row[width + at] = value;
                }
            }
            rows = placed.into_iter().map(|placed| placed.row).collect();
        }
        Ok(rows)
    }

    /// Sorts the rows for a window.
    fn place(
        &self,
        rows: Vec<Row>,
        call: &WindowCall,
        cx: &mut ExecCx<'_>,
    ) -> Result<Vec<Placed>, Stop> {
        let spec = &call.spec;
        let mut placed = Vec::with_capacity(rows.len());
        for row in rows {
            let partition = eval_row(&spec.partition, &row, &self.frame, cx)?;
            let mut order = Vec::with_capacity(spec.order.len());
            for key in &spec.order {
                order.push(key.expr.eval(&row, &self.frame, cx)?);
            }
            placed.push(Placed {
                row,
                partition,
                order,
            });
        }
        let by_partition = |a: &Placed, b: &Placed| {
            let mut pairs = a.partition.iter().zip(&b.partition);
            pairs
                .find_map(|(a, b)| Some(compare(a, b)).filter(|o| o.is_ne()))
                .unwrap_or(Ordering::Equal)
        };
        placed.sort_by(|a, b| {
            by_partition(a, b).then_with(|| compare_keys(&spec.order, &a.order, &b.order))
        });
        Ok(placed)
    }

    fn compute(
        &self,
        placed: &[Placed],
        call: &WindowCall,
        cx: &mut ExecCx<'_>,
    ) -> Result<Vec<Datum>, Stop> {
        let mut out = Vec::with_capacity(placed.len());
        let mut from = 0;
        while from < placed.len() {
            let mut to = from + 1;
            while to < placed.len() && placed[to].partition == placed[from].partition {
                to += 1;
            }
            let partition = self.partition(&placed[from..to], call, cx)?;
            match call.function {
                WindowFunction::Window(kind) => partition.window(kind, &mut out)?,
                WindowFunction::Aggregate => partition.aggregate(&mut out, cx)?,
            }
            from = to;
        }
        Ok(out)
    }

    fn partition<'p>(
        &self,
        rows: &'p [Placed],
        call: &'p WindowCall,
        cx: &mut ExecCx<'_>,
    ) -> Result<Partition<'p>, Stop> {
        let mut args = Vec::with_capacity(rows.len());
        let mut passes = Vec::with_capacity(rows.len());
        for placed in rows {
            args.push(eval_row(&call.args, &placed.row, &self.frame, cx)?);
            passes.push(match &call.filter {
                Some(filter) => filter.eval(&placed.row, &self.frame, cx)?.is_true(),
                None => true,
            });
        }
        let (peer_start, peer_end, group) = peers(rows, &call.spec.order);
        let mut partition = Partition {
            rows,
            call,
            args,
            passes,
            peer_start,
            peer_end,
            group,
            start_offset: None,
            end_offset: None,
            start_keys: Vec::new(),
            end_keys: Vec::new(),
        };
        let frame = &call.spec.frame;
        partition.start_offset = self.offset(&frame.start, "starting", cx)?;
        partition.end_offset = self.offset(&frame.end, "ending", cx)?;
        partition.start_keys = self.bound_keys(rows, frame.start_key.as_deref(), cx)?;
        partition.end_keys = self.bound_keys(rows, frame.end_key.as_deref(), cx)?;
        Ok(partition)
    }

    fn offset(
        &self,
        bound: &FrameBound,
        which: &str,
        cx: &mut ExecCx<'_>,
    ) -> Result<Option<Datum>, Stop> {
        let (FrameBound::Preceding(expr) | FrameBound::Following(expr)) = bound else {
            return Ok(None);
        };
        let value = expr.eval(&[], &self.frame, cx)?;
        if value.is_null() {
            return Err(Stop::Error(Error::new(
                state::NULL_VALUE_NOT_ALLOWED,
                format!("frame {which} offset must not be null"),
            )));
        }
        let negative = match &value {
            Datum::Interval(interval) => interval.linear() < 0,
            other => compare(other, &zero_like(other)).is_lt(),
        };
        if negative {
            return Err(Stop::Error(Error::new(
                INVALID_FRAME_OFFSET,
                format!("frame {which} offset must not be negative"),
            )));
        }
        Ok(Some(value))
    }

    /// The key that a RANGE bound reaches to, per row.
    fn bound_keys(
        &self,
        rows: &[Placed],
        expr: Option<&crate::expr::Expr>,
        cx: &mut ExecCx<'_>,
    ) -> Result<Vec<Datum>, Stop> {
        let Some(expr) = expr else {
            return Ok(Vec::new());
        };
        let mut keys = Vec::with_capacity(rows.len());
        for placed in rows {
            let key = placed.order.first().cloned().unwrap_or(Datum::Null);
            if key.is_null() {
                keys.push(Datum::Null);
                continue;
            }
            cx.locals.push(key);
            let bound = expr.eval(&placed.row, &self.frame, cx);
            cx.locals.pop();
            keys.push(bound?);
        }
        Ok(keys)
    }
}

fn zero_like(value: &Datum) -> Datum {
    match value {
        Datum::Int2(_) => Datum::Int2(0),
        Datum::Int4(_) => Datum::Int4(0),
        Datum::Int8(_) => Datum::Int8(0),
        Datum::Float4(_) => Datum::Float4(0.0),
        Datum::Float8(_) => Datum::Float8(0.0),
        other => {
            let zero = crate::types::FormatSettings::default();
            Datum::from_text("0", crate::types::Type::NUMERIC, &zero)
                .unwrap_or_else(|_| other.clone())
        }
    }
}

fn same_window(a: &WindowCall, b: &WindowCall) -> bool {
    let key = |x: &SortKey, y: &SortKey| {
        same(&x.expr, &y.expr) && x.descending == y.descending && x.nulls_first == y.nulls_first
    };
    let (a, b) = (&a.spec, &b.spec);
    a.partition.len() == b.partition.len()
        && a.order.len() == b.order.len()
        && a.partition
            .iter()
            .zip(&b.partition)
            .all(|(x, y)| same(x, y))
        && a.order.iter().zip(&b.order).all(|(x, y)| key(x, y))
}

fn peers(rows: &[Placed], keys: &[SortKey]) -> (Vec<usize>, Vec<usize>, Vec<usize>) {
    let count = rows.len();
    let (mut starts, mut ends, mut groups) = (vec![0; count], vec![count; count], vec![0; count]);
    let mut from = 0;
    let mut number = 0;
    while from < count {
        let mut to = from + 1;
        while to < count && compare_keys(keys, &rows[from].order, &rows[to].order).is_eq() {
            to += 1;
        }
        for at in from..to {
            starts[at] = from;
            ends[at] = to;
            groups[at] = number;
        }
        number += 1;
        from = to;
    }
    (starts, ends, groups)
}

impl Partition<'_> {
    /// The frame of a row: first row, and one past the last.
    fn bounds(&self, at: usize) -> (usize, usize) {
        let frame = &self.call.spec.frame;
        let start = self.bound(
            at,
            &frame.start,
            self.start_offset.as_ref(),
            &self.start_keys,
            false,
        );
        let end = self.bound(
            at,
            &frame.end,
            self.end_offset.as_ref(),
            &self.end_keys,
            true,
        );
        (start.min(end), end.max(start.min(end)))
    }

    /// The frame without what EXCLUDE leaves out: at most three stretches of rows, in order.
    fn stretches(&self, at: usize) -> [std::ops::Range<usize>; 3] {
        let (start, end) = self.bounds(at);
        let within = |from: usize, to: usize| from.max(start)..to.min(end);
        let (peers, peers_end) = (self.peer_start[at], self.peer_end[at]);
        match self.call.spec.frame.exclude {
            Exclude::NoOthers => [start..end, end..end, end..end],
            Exclude::CurrentRow => [within(start, at), within(at + 1, end), end..end],
            Exclude::Group => [within(start, peers), within(peers_end, end), end..end],
            Exclude::Ties => [
                within(start, peers),
                within(at, at + 1),
                within(peers_end, end),
            ],
        }
    }

    fn bound(
        &self,
        at: usize,
        bound: &FrameBound,
        offset: Option<&Datum>,
        keys: &[Datum],
        is_end: bool,
    ) -> usize {
        let count = self.rows.len();
        let unit = self.call.spec.frame.unit;
        match bound {
            FrameBound::Start => 0,
            FrameBound::End => count,
            FrameBound::Current => match (unit, is_end) {
                (FrameUnit::Rows, false) => at,
                (FrameUnit::Rows, true) => at + 1,
                (_, false) => self.peer_start[at],
                (_, true) => self.peer_end[at],
            },
            FrameBound::Preceding(_) | FrameBound::Following(_) => {
                let back = matches!(bound, FrameBound::Preceding(_));
                match unit {
                    FrameUnit::Range => self.range_bound(at, &keys[at], is_end),
                    FrameUnit::Rows | FrameUnit::Groups => {
                        let offset = offset.and_then(Datum::as_i64).unwrap_or(0);
                        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                        if unit == FrameUnit::Rows {
                            rows_bound(at, offset, back, is_end, count)
                        } else {
                            self.groups_bound(at, offset, back, is_end)
                        }
                    }
                }
            }
        }
    }

    fn range_bound(&self, at: usize, key: &Datum, is_end: bool) -> usize {
        if self.rows[at].order.first().is_none_or(Datum::is_null) {
            return if is_end {
                self.peer_end[at]
            } else {
                self.peer_start[at]
            };
        }
        let spec = &self.call.spec.order;
        let probe = std::slice::from_ref(key);
        let before = |placed: &Placed| {
            let order = compare_keys(spec, &placed.order, probe);
            if is_end { order.is_le() } else { order.is_lt() }
        };
        self.rows.partition_point(before)
    }

    fn groups_bound(&self, at: usize, offset: usize, back: bool, is_end: bool) -> usize {
        let groups = self.group.last().map_or(0, |last| last + 1);
        let target = if back {
            self.group[at].checked_sub(offset)
        } else {
            self.group[at]
                .checked_add(offset)
                .filter(|group| *group < groups)
        };
        match target {
            None if back => 0,
            None => self.rows.len(),
            Some(group) if is_end => self.group.partition_point(|own| *own <= group),
            Some(group) => self.group.partition_point(|own| *own < group),
        }
    }

    fn window(&self, kind: Kind, out: &mut Vec<Datum>) -> Result<(), Stop> {
        let count = self.rows.len();
        for at in 0..count {
            let rank = self.peer_start[at] + 1;
            out.push(match kind {
                Kind::RowNumber => Datum::Int8(as_i64(at + 1)),
                Kind::Rank => Datum::Int8(as_i64(rank)),
                Kind::DenseRank => Datum::Int8(as_i64(self.group[at] + 1)),
                Kind::PercentRank if count == 1 => Datum::Float8(0.0),
                Kind::PercentRank => Datum::Float8((rank - 1) as f64 / (count - 1) as f64),
                Kind::CumeDist => Datum::Float8(self.peer_end[at] as f64 / count as f64),
                Kind::Ntile => self.ntile(at, count)?,
                Kind::Lag => self.shifted(at, true),
                Kind::Lead => self.shifted(at, false),
                Kind::FirstValue => self.value_in(self.stretches(at).into_iter().flatten(), 0),
                Kind::LastValue => {
                    let backwards = self.stretches(at).into_iter().flatten().rev();
                    self.value_in(backwards, 0)
                }
                Kind::NthValue => match self.args[at].get(1).and_then(Datum::as_i64) {
                    None => Datum::Null,
                    Some(nth) if nth >= 1 => {
                        let skip = usize::try_from(nth - 1).unwrap_or(usize::MAX);
                        self.value_in(self.stretches(at).into_iter().flatten(), skip)
                    }
                    Some(_) => {
                        return Err(Stop::Error(Error::new(
                            INVALID_NTH_VALUE,
                            "argument of nth_value must be greater than zero",
                        )));
                    }
                },
            });
        }
        Ok(())
    }

    /// The value of the row behind `skip` others, or NULL.
    fn value_in(&self, mut rows: impl Iterator<Item = usize>, skip: usize) -> Datum {
        rows.nth(skip)
            .map_or(Datum::Null, |row| self.args[row][0].clone())
    }

    fn ntile(&self, at: usize, count: usize) -> Result<Datum, Stop> {
        let Some(buckets) = self.args[0].first().and_then(Datum::as_i64) else {
            return Ok(Datum::Null);
        };
        if buckets < 1 {
            return Err(Stop::Error(Error::new(
                INVALID_NTILE,
                "argument of ntile must be greater than zero",
            )));
        }
        let buckets = usize::try_from(buckets).unwrap_or(usize::MAX);
        let (size, extra) = (count / buckets, count % buckets);
        let large = (size + 1) * extra;
        let bucket = if at < large {
            at / (size + 1)
        } else {
            extra + (at - large) / size.max(1)
        };
        Ok(Datum::Int4(i32::try_from(bucket + 1).unwrap_or(i32::MAX)))
    }

    fn shifted(&self, at: usize, back: bool) -> Datum {
        let offset = match self.args[at].get(1) {
            None => 1,
            Some(Datum::Null) => return Datum::Null,
            Some(value) => value.as_i64().unwrap_or(1),
        };
        let target = i64::try_from(at).unwrap_or(0) + if back { -offset } else { offset };
        match usize::try_from(target)
            .ok()
            .and_then(|index| self.args.get(index))
        {
            Some(args) => args[0].clone(),
            None => self.args[at].get(2).cloned().unwrap_or(Datum::Null),
        }
    }

    /// An aggregate over each row's frame: rows are added (and taken out, where the aggregate
    /// can) as the frame moves.
    fn aggregate(&self, out: &mut Vec<Datum>, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        if self.call.spec.frame.exclude != Exclude::NoOthers {
            return self.aggregate_apart(out, cx);
        }
        let mut state = self.call.resolved.accumulator()?;
        let (mut from, mut to) = (0, 0);
        let mut last: Option<Datum> = None;
        for at in 0..self.rows.len() {
            cx.tick()?;
            let (start, end) = self.bounds(at);
            if let Some(value) = &last
                && (start, end) == (from, to)
            {
                out.push(value.clone());
                continue;
            }
            let mut fits = start >= from && end >= to && start <= to;
            while fits && from < start {
                fits = !self.passes[from] || self.remove(&mut *state, from, cx)?;
                from += 1;
            }
            if !fits {
                state = self.call.resolved.accumulator()?;
                (from, to) = (start, start);
            }
            while to < end {
                if self.passes[to] {
                    self.add(&mut *state, to, cx)?;
                }
                to += 1;
            }
            let value = state.finish(&mut cx.evaluation)?;
            last = Some(value.clone());
            out.push(value);
        }
        Ok(())
    }

    /// An aggregate over frames with holes: each is computed anew, as PostgreSQL does.
    fn aggregate_apart(&self, out: &mut Vec<Datum>, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        for at in 0..self.rows.len() {
            let mut state = self.call.resolved.accumulator()?;
            for row in self.stretches(at).into_iter().flatten() {
                cx.tick()?;
                if self.passes[row] {
                    self.add(&mut *state, row, cx)?;
                }
            }
            out.push(state.finish(&mut cx.evaluation)?);
        }
        Ok(())
    }

    fn add(&self, state: &mut dyn Accumulator, at: usize, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        let arranged;
        let mut args = &self.args[at];
        if self.call.resolved.is_packed() {
            arranged = self.call.resolved.arrange(args);
            args = &arranged;
        }
        Ok(state.add(&mut cx.evaluation, args)?)
    }

    fn remove(
        &self,
        state: &mut dyn Accumulator,
        at: usize,
        cx: &mut ExecCx<'_>,
    ) -> Result<bool, Stop> {
        if self.call.resolved.is_packed() {
            return Ok(false);
        }
        Ok(state.remove(&mut cx.evaluation, &self.args[at])?)
    }
}

fn rows_bound(at: usize, offset: usize, back: bool, is_end: bool, count: usize) -> usize {
    let row = if back {
        at.checked_sub(offset)
    } else {
        at.checked_add(offset)
    };
    match (row, is_end) {
        (None, _) if !back => count,
        (None, _) => 0,
        (Some(row), false) => row.min(count),
        (Some(row), true) => (row + 1).min(count),
    }
}

fn as_i64(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Operator for Window {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        if self.done.is_none() {
            let plan = self.plan.clone();
            let Op::Window { calls, .. } = &plan.op else {
                unreachable!("opened for window functions");
            };
            let rows = self.run(calls, cx)?;
            self.done = Some(rows.into_iter());
        }
        Ok(self.done.as_mut().and_then(Iterator::next))
    }
}
