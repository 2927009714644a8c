//! Scans: stored tables by key ranges and indexes, system relations, table functions.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use storage::{Direction, Position};

use crate::changes::position_at;
use crate::error::{Error, state};
use crate::exec::elsewhere::Wanted;
use crate::exec::{ExecCx, Operator, Row};
use crate::expr::{Expr, Frame, eval_row, is_true};
use crate::functions::Rows;
use crate::plan::{Access, KeyPart, Op, PlanNode, RangeAccess, RowSource, ScanPlan, TablePlan};
use crate::system::{Above, SystemCx, SystemRows};
use crate::transaction::{RowScan, Stop};
use crate::types::key::encode_key;
use crate::types::{Datum, Type};

/// A part of a tree to read.
enum Piece {
    /// One key of the rows' own tree.
    Key(Vec<u8>),
    /// A range of keys.
    Range(Bound<Bytes>, Bound<Bytes>),
}

/// A scan of a stored table.
pub(super) struct Scan {
    plan: Arc<PlanNode>,
    frame: Frame,
    pieces: VecDeque<Piece>,
    running: Option<RowScan>,
    tree: u32,
    indirect: bool,
    /// The table is read as it was there.
    as_of: Option<Position>,
}

impl Scan {
    pub(super) fn open(
        plan: Arc<PlanNode>,
        frame: Frame,
        cx: &mut ExecCx<'_>,
    ) -> Result<Scan, Stop> {
        let scan = scan_of(&plan);
        let as_of = scan.as_of.as_ref();
        let as_of = as_of.map(|at| as_of_position(at, &frame, cx)).transpose()?;
        let (pieces, tree, indirect) = match &scan.access {
            Access::Full => {
                let all = Piece::Range(Bound::Unbounded, Bound::Unbounded);
                (VecDeque::from([all]), scan.table.tree, false)
            }
            Access::Range(range) => {
                let tree = match range.index {
                    Some(index) => scan.table.indexes[index].tree,
                    None => scan.table.tree,
                };
                (pieces(range, &frame, cx)?, tree, range.indirect)
            }
        };
        let mut scan = Scan {
            plan,
            frame,
            pieces,
            running: None,
            tree,
            indirect,
            as_of,
        };
        // A range is opened at once, so that it shows the moment before this statement's writes.
        if matches!(scan.pieces.front(), Some(Piece::Range(..))) {
            scan.start(cx)?;
        }
        Ok(scan)
    }

    /// Opens the next range.
    fn start(&mut self, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
        let scan = scan_of(&self.plan);
        let group = scan.table.group;
        let direction = if scan.backward {
            Direction::Backward
        } else {
            Direction::Forward
        };
        if let Some(Piece::Range(from, to)) = self.pieces.pop_front() {
            let (table, range, cx) = (&scan.table, (from, to), &mut cx.transaction);
            let rows = match self.as_of {
                Some(at) => cx.scan_as_of(table, range, at, direction)?,
                None => cx.scan(group, self.tree, range, direction)?,
            };
            self.running = Some(rows);
        }
        Ok(())
    }

    /// The next key and row bytes.
    fn fetch(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<(Bytes, Bytes)>, Stop> {
        let group = scan_of(&self.plan).table.group;
        let table_tree = scan_of(&self.plan).table.tree;
        loop {
            if let Some(running) = &mut self.running {
                match running.next().transpose()? {
                    Some((key, value)) if self.indirect => {
                        let row = cx.transaction.get(group, table_tree, &value)?;
                        match row {
                            Some(row) => return Ok(Some((value, row))),
                            // The entry belongs to a row that this statement has removed.
                            None => {
                                let _ = key;
                                continue;
                            }
                        }
                    }
                    Some(found) => return Ok(Some(found)),
                    None => self.running = None,
                }
            }
            match self.pieces.front() {
                None => return Ok(None),
                Some(Piece::Range(..)) => self.start(cx)?,
                Some(Piece::Key(_)) => {
                    let Some(Piece::Key(key)) = self.pieces.pop_front() else {
                        continue;
                    };
                    if let Some(at) = self.as_of {
                        let table = &scan_of(&self.plan).table;
                        if let Some(row) = cx.transaction.get_as_of(table, &key, at)? {
                            return Ok(Some((Bytes::from(key), row)));
                        }
                        continue;
                    }
                    if let Some(row) = cx.transaction.get(group, self.tree, &key)? {
                        if self.indirect {
                            if let Some(found) = cx.transaction.get(group, table_tree, &row)? {
                                return Ok(Some((row, found)));
                            }
                            continue;
                        }
                        return Ok(Some((Bytes::from(key), row)));
                    }
                }
            }
        }
    }
}

impl Operator for Scan {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        loop {
            cx.tick()?;
            let Some((key, bytes)) = self.fetch(cx)? else {
                return Ok(None);
            };
            let scan = scan_of(&self.plan);
            let mut row = scan.reader.read(&bytes)?;
            if scan.key {
                row.push(Datum::Bytea(Arc::from(&key[..])));
            }
            if is_true(&scan.filter, &row, &self.frame, cx)? {
                return Ok(Some(row));
            }
        }
    }
}

/// The position that FOR SYSTEM_TIME AS OF names: of a time the last one before it.
fn as_of_position(at: &Expr, frame: &Frame, cx: &mut ExecCx<'_>) -> Result<Position, Stop> {
    match at.eval(&[], frame, cx)? {
        Datum::Lsn(at) => Ok(Position(at)),
        Datum::Timestamptz(time) => Ok(position_at(time)),
        _ => {
            let message = "the position of FOR SYSTEM_TIME AS OF must not be null";
            Err(Error::new(state::NULL_VALUE_NOT_ALLOWED, message).into())
        }
    }
}

fn scan_of(plan: &PlanNode) -> &ScanPlan {
    match &plan.op {
        Op::Scan(scan) => scan,
        _ => unreachable!("opened for a scan"),
    }
}

/// Where a value stands against a key type's range.
enum Fit {
    Value(Datum),
    Below,
    Above,
}

/// A value as the key type has it; integers are converted.
fn fit(value: Datum, ty: Type) -> Fit {
    let narrow = |v: i64, min: i64, max: i64| {
        if v < min {
            Some(Fit::Below)
        } else if v > max {
            Some(Fit::Above)
        } else {
            None
        }
    };
    match (&value, ty.oid) {
        (Datum::Int2(_) | Datum::Int4(_) | Datum::Int8(_), oid)
            if [Type::INT2.oid, Type::INT4.oid, Type::INT8.oid].contains(&oid) =>
        {
            let v = value.as_i64().unwrap_or_default();
            if oid == Type::INT8.oid {
                Fit::Value(Datum::Int8(v))
            } else if oid == Type::INT4.oid {
                narrow(v, i64::from(i32::MIN), i64::from(i32::MAX))
                    .unwrap_or(Fit::Value(Datum::Int4(v as i32)))
            } else {
                narrow(v, i64::from(i16::MIN), i64::from(i16::MAX))
                    .unwrap_or(Fit::Value(Datum::Int2(v as i16)))
            }
        }
        _ => Fit::Value(value),
    }
}

/// The values that one key column takes.
fn part_values(
    part: &KeyPart,
    ty: Type,
    frame: &Frame,
    cx: &mut ExecCx<'_>,
) -> Result<Vec<Datum>, Stop> {
    Ok(match part {
        KeyPart::Null => vec![Datum::Null],
        KeyPart::One(expr) => match expr.eval(&[], frame, cx)? {
            Datum::Null => Vec::new(),
            value => match fit(value, ty) {
                Fit::Value(value) => vec![value],
                Fit::Below | Fit::Above => Vec::new(),
            },
        },
        KeyPart::Any(expr) => match expr.eval(&[], frame, cx)? {
            Datum::Array(array) => {
                let mut values: Vec<Datum> = array
                    .values
                    .iter()
                    .filter(|value| !value.is_null())
                    .filter_map(|value| match fit(value.clone(), ty) {
                        Fit::Value(value) => Some(value),
                        Fit::Below | Fit::Above => None,
                    })
                    .collect();
                values.sort_by(crate::types::compare);
                values.dedup();
                values
            }
            _ => Vec::new(),
        },
    })
}

/// The parts of the tree that an access reads, in key order.
fn pieces(
    range: &RangeAccess,
    frame: &Frame,
    cx: &mut ExecCx<'_>,
) -> Result<VecDeque<Piece>, Stop> {
    let mut prefixes: Vec<Vec<u8>> = vec![Vec::with_capacity(32)];
    for (part, (ty, descending, nulls_first)) in range.equal.iter().zip(&range.key) {
        let values = part_values(part, *ty, frame, cx)?;
        if let ([value], [prefix]) = (values.as_slice(), prefixes.as_mut_slice()) {
            encode_key(value, *ty, *descending, *nulls_first, prefix);
            continue;
        }
        let mut next = Vec::with_capacity(prefixes.len() * values.len());
        for prefix in &prefixes {
            for value in &values {
                let mut key = prefix.clone();
                encode_key(value, *ty, *descending, *nulls_first, &mut key);
                next.push(key);
            }
        }
        prefixes = next;
    }
    if range.single {
        let mut keys = prefixes;
        keys.sort_unstable();
        return Ok(keys.into_iter().map(Piece::Key).collect());
    }
    let bounds = if range.lower.is_some() || range.upper.is_some() {
        match limits(range, frame, cx)? {
            Some(bounds) => Some(bounds),
            None => return Ok(VecDeque::new()),
        }
    } else {
        None
    };
    prefixes.sort_unstable();
    let mut out = VecDeque::with_capacity(prefixes.len());
    for prefix in prefixes {
        let (from, to) = match &bounds {
            None => (Bound::Included(prefix.clone()), after(&prefix)),
            Some((low, high)) => {
                let join = |tail: &[u8]| [prefix.as_slice(), tail].concat();
                let from = match low {
                    Bound::Unbounded => Bound::Included(prefix.clone()),
                    Bound::Included(tail) => Bound::Included(join(tail)),
                    Bound::Excluded(tail) => match after(&join(tail)) {
                        Bound::Excluded(next) => Bound::Included(next),
                        _ => continue,
                    },
                };
                let to = match high {
                    Bound::Unbounded => after(&prefix),
                    Bound::Included(tail) => after(&join(tail)),
                    Bound::Excluded(tail) => Bound::Excluded(join(tail)),
                };
                (from, to)
            }
        };
        let empty = matches!((&from, &to), (Bound::Included(a), Bound::Excluded(b)) if a >= b);
        if !empty {
            out.push_back(Piece::Range(bytes_bound(from), bytes_bound(to)));
        }
    }
    Ok(out)
}

type Tails = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Key bounds of the column behind the equal ones; `None` = nothing can match. NULLs are left
/// out, as no comparison holds for them.
fn limits(range: &RangeAccess, frame: &Frame, cx: &mut ExecCx<'_>) -> Result<Option<Tails>, Stop> {
    let (ty, descending, nulls_first) = range.key[range.equal.len()];
    let mut read = |bound: &Option<(crate::expr::Expr, bool)>| -> Result<_, Stop> {
        Ok(match bound {
            None => None,
            Some((expr, inclusive)) => Some((expr.eval(&[], frame, cx)?, *inclusive)),
        })
    };
    let (lower, upper) = (read(&range.lower)?, read(&range.upper)?);
    let mut low = Bound::Unbounded;
    let mut high = Bound::Unbounded;
    let encode = |value: &Datum| {
        let mut out = Vec::with_capacity(16);
        encode_key(value, ty, descending, nulls_first, &mut out);
        out
    };
    let bound = |tail: Vec<u8>, inclusive: bool| {
        if inclusive {
            Bound::Included(tail)
        } else {
            Bound::Excluded(tail)
        }
    };
    if let Some((value, inclusive)) = lower {
        if value.is_null() {
            return Ok(None);
        }
        match fit(value, ty) {
            Fit::Value(value) => low = bound(encode(&value), inclusive),
            Fit::Above => return Ok(None),
            Fit::Below => {}
        }
    }
    if let Some((value, inclusive)) = upper {
        if value.is_null() {
            return Ok(None);
        }
        match fit(value, ty) {
            Fit::Value(value) => high = bound(encode(&value), inclusive),
            Fit::Below => return Ok(None),
            Fit::Above => {}
        }
    }
    if descending {
        std::mem::swap(&mut low, &mut high);
    }
    // NULLs stand at one end of the column.
    let null = encode(&Datum::Null);
    if nulls_first && matches!(low, Bound::Unbounded) {
        low = Bound::Excluded(null);
    } else if !nulls_first && matches!(high, Bound::Unbounded) {
        high = Bound::Excluded(null);
    }
    Ok(Some((low, high)))
}

/// The end of all keys that begin with a prefix.
pub(super) fn after(prefix: &[u8]) -> Bound<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Bound::Excluded(end);
        }
    }
    Bound::Unbounded
}

pub(super) fn bytes_bound(bound: Bound<Vec<u8>>) -> Bound<Bytes> {
    match bound {
        Bound::Included(key) => Bound::Included(Bytes::from(key)),
        Bound::Excluded(key) => Bound::Excluded(Bytes::from(key)),
        Bound::Unbounded => Bound::Unbounded,
    }
}

/// A scan of a system relation. Its rows may have to be waited for: so they are computed by the first
/// call for one, on a thread that others don't need.
pub(super) struct SystemScan {
    plan: Arc<PlanNode>,
    frame: Frame,
    rows: Option<SystemRows>,
}

impl SystemScan {
    pub(super) fn open(plan: Arc<PlanNode>, frame: Frame) -> SystemScan {
        let rows = None;
        SystemScan { plan, frame, rows }
    }

    fn compute(&self, cx: &mut ExecCx<'_>) -> Result<SystemRows, Stop> {
        let Op::System {
            relation,
            columns,
            equal,
            above,
            ..
        } = &self.plan.op
        else {
            unreachable!("opened for a system relation");
        };
        let mut values = Vec::with_capacity(equal.len());
        for (column, expr) in equal {
            values.push((*column, expr.eval(&[], &self.frame, cx)?));
        }
        let mut bounds = Vec::with_capacity(above.len());
        for bound in above {
            bounds.push(Above {
                column: bound.column,
                value: bound.value.eval(&[], &self.frame, cx)?,
                inclusive: bound.inclusive,
            });
        }
        let begun = cx.evaluation.statement_start;
        if let Some(group) = relation.group() {
            let wanted = Wanted {
                relation: &**relation,
                place: self.plan.id,
                columns,
                equal: values,
                above: bounds,
                ground: cx.transaction.remote_ground(group, begun)?,
            };
            return wanted.rows(&self.frame.shared, cx);
        }
        let rows = relation.rows(&SystemCx {
            catalog: cx.catalog,
            role: cx.role,
            login: cx.login,
            path: cx.path,
            equal: &values,
            above: &bounds,
            columns,
            ground: None,
            environment: cx.evaluation.environment,
        })?;
        Ok(rows)
    }
}

impl Operator for SystemScan {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        let rows = match &mut self.rows {
            Some(rows) => rows,
            None => {
                let rows = self.compute(cx)?;
                self.rows.insert(rows)
            }
        };
        let Op::System {
            columns, filter, ..
        } = &self.plan.op
        else {
            unreachable!("opened for a system relation");
        };
        loop {
            cx.tick()?;
            let Some(mut full) = rows.next().transpose()? else {
                return Ok(None);
            };
            let row: Row = columns
                .iter()
                .map(|at| std::mem::take(&mut full[*at]))
                .collect();
            if is_true(filter, &row, &self.frame, cx)? {
                return Ok(Some(row));
            }
        }
    }
}

/// One running table function.
enum Running {
    Rows {
        rows: Rows,
        record: bool,
        width: usize,
    },
    Scalar(Option<Datum>),
    Source {
        source: Box<dyn RowSource>,
        width: usize,
    },
}

impl Running {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Vec<Datum>>, Stop> {
        match self {
            Running::Rows {
                rows,
                record,
                width,
            } => match rows.next().transpose()? {
                None => Ok(None),
                Some(value) if *record => Ok(Some(fields(value, *width))),
                Some(value) => Ok(Some(vec![value])),
            },
            Running::Scalar(value) => Ok(value.take().map(|value| vec![value])),
            Running::Source { source, width } => {
                let row = source.next(cx)?;
                debug_assert!(row.as_ref().is_none_or(|row| row.len() == *width));
                Ok(row)
            }
        }
    }

    fn width(&self) -> usize {
        match self {
            Running::Rows { width, .. } | Running::Source { width, .. } => *width,
            Running::Scalar(_) => 1,
        }
    }
}

fn fields(value: Datum, width: usize) -> Vec<Datum> {
    let mut row = match value {
        Datum::Record(record) => record.values.clone(),
        Datum::Null => Vec::new(),
        other => vec![other],
    };
    row.resize(width, Datum::Null);
    row
}

/// Table functions in lockstep: shorter ones are filled with NULL.
pub(super) struct FunctionScan {
    calls: Vec<Option<Running>>,
    widths: Vec<usize>,
    ordinality: Option<i64>,
}

impl FunctionScan {
    pub(super) fn open(
        plan: Arc<PlanNode>,
        frame: Frame,
        cx: &mut ExecCx<'_>,
    ) -> Result<FunctionScan, Stop> {
        let Op::Function {
            calls, ordinality, ..
        } = &plan.op
        else {
            unreachable!("opened for a function");
        };
        let mut running = Vec::with_capacity(calls.len());
        let mut widths = Vec::with_capacity(calls.len());
        for call in calls {
            let started = match call {
                TablePlan::Function {
                    call,
                    record,
                    width,
                } => {
                    let args = eval_row(&call.args, &[], &frame, cx)?;
                    let rows = call.resolved.rows(&mut cx.evaluation, &args)?;
                    Running::Rows {
                        rows,
                        record: *record,
                        width: *width,
                    }
                }
                TablePlan::Scalar(expr) => Running::Scalar(Some(expr.eval(&[], &frame, cx)?)),
                TablePlan::System {
                    function,
                    arguments,
                    width,
                } => {
                    let args = eval_row(arguments, &[], &frame, cx)?;
                    Running::Source {
                        source: function.open(&args, cx)?,
                        width: *width,
                    }
                }
            };
            widths.push(started.width());
            running.push(Some(started));
        }
        Ok(FunctionScan {
            calls: running,
            widths,
            ordinality: ordinality.then_some(0),
        })
    }
}

impl Operator for FunctionScan {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Row>, Stop> {
        cx.tick()?;
        let mut row = Vec::with_capacity(self.widths.iter().sum::<usize>() + 1);
        let mut any = false;
        for (call, width) in self.calls.iter_mut().zip(&self.widths) {
            let values = match call {
                Some(running) => running.next(cx)?,
                None => None,
            };
            match values {
                Some(values) => {
                    any = true;
                    row.extend(values);
                }
                None => {
                    *call = None;
                    row.resize(row.len() + width, Datum::Null);
                }
            }
        }
        if !any {
            return Ok(None);
        }
        if let Some(number) = &mut self.ordinality {
            *number += 1;
            row.push(Datum::Int8(*number));
        }
        Ok(Some(row))
    }
}
