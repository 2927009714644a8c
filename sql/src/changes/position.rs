//! `freehold.snapshot_position()` and `freehold.position_at(timestamptz)`: where a cursor begins.

use std::sync::Arc;

use storage::{Groups, Position};

use super::page::check_vouched;
use super::{Filter, Log};
use crate::exec::ExecCx;
use crate::plan::{Argument, RowSource, SystemFunction};
use crate::system::SystemColumn;
use crate::transaction::Stop;
use crate::types::{Datum, Type};

/// Microseconds from 1970 to 2000.
const EPOCH_2000: i64 = 946_684_800_000_000;

/// One position, as one row.
struct One(Option<Datum>);

impl RowSource for One {
    fn next(&mut self, _cx: &mut ExecCx<'_>) -> Result<Option<Vec<Datum>>, Stop> {
        Ok(self.0.take().map(|value| vec![value]))
    }
}

const fn position(name: &'static str) -> SystemColumn {
    SystemColumn {
        name,
        ty: Type::PG_LSN,
        not_null: false,
    }
}

/// The position of the transaction's snapshot: what a SELECT of the same REPEATABLE READ
/// transaction shows and `freehold.changes(after => this)` are complete and don't overlap.
///
/// It is as new as all owners allow whose tables the role may read: idle ones are closed on demand,
/// as for the feed; of one that can't be reached nothing newer is known.
pub struct SnapshotPosition {
    log: Arc<dyn Log>,
    groups: Arc<Groups>,
}

impl SnapshotPosition {
    /// Over a log.
    pub fn new(log: Arc<dyn Log>, groups: Arc<Groups>) -> SnapshotPosition {
        SnapshotPosition { log, groups }
    }
}

impl SystemFunction for SnapshotPosition {
    fn name(&self) -> (&str, &str) {
        ("freehold", "snapshot_position")
    }

    fn arguments(&self) -> &[Argument] {
        &[]
    }

    fn columns(&self) -> &[SystemColumn] {
        const COLUMNS: &[SystemColumn] = &[position("snapshot_position")];
        COLUMNS
    }

    fn open(&self, _arguments: &[Datum], cx: &mut ExecCx<'_>) -> Result<Box<dyn RowSource>, Stop> {
        let filter = Filter::new(cx.role, cx.path, None);
        let interrupt = cx.evaluation.environment.interrupt();
        let engine = cx.transaction.engine();
        let asked = filter.asked(&engine.catalog(), &self.groups);
        check_vouched(|ids| engine.cluster().doubts(ids, None), &asked.read)?;
        let closed = || Ok(self.log.closed(&asked, None, &interrupt)?.upto);
        let at = cx.transaction.snapshot_position(closed)?;
        Ok(Box::new(One(Some(Datum::Lsn(at.0)))))
    }
}

/// The last position before a time, which is in microseconds since 2000.
pub(crate) fn position_at(time: i64) -> Position {
    let micros = u64::try_from(time.saturating_add(EPOCH_2000)).unwrap_or(0);
    let first = Position::from_unix_micros(micros);
    Position(first.0.saturating_sub(1))
}

/// The last position before a time: `changes(after => this)` begins with what was committed then.
pub struct PositionAt([Argument; 1]);

impl Default for PositionAt {
    fn default() -> PositionAt {
        PositionAt([Argument {
            name: "time",
            ty: Type::TIMESTAMPTZ,
            default: None,
        }])
    }
}

impl SystemFunction for PositionAt {
    fn name(&self) -> (&str, &str) {
        ("freehold", "position_at")
    }

    fn arguments(&self) -> &[Argument] {
        &self.0
    }

    fn columns(&self) -> &[SystemColumn] {
        const COLUMNS: &[SystemColumn] = &[position("position_at")];
        COLUMNS
    }

    fn open(&self, arguments: &[Datum], _cx: &mut ExecCx<'_>) -> Result<Box<dyn RowSource>, Stop> {
        let value = match arguments {
            [Datum::Timestamptz(time)] => Datum::Lsn(position_at(*time).0),
            _ => Datum::Null,
        };
        Ok(Box::new(One(Some(value))))
    }
}
