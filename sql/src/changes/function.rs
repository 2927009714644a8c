//! `freehold.changes(after, tables, wait, max_rows)`: a page of the feed, long poll or stream.

use std::sync::Arc;

use storage::{GroupId, Groups, Position};

use super::Log;
use super::columns::{COLUMNS, FeedRow};
use super::filter::Filter;
use super::followed::Followed;
use super::page::{Page, check_vouched};
use crate::exec::ExecCx;
use crate::plan::{Argument, RowSource, SystemFunction};
use crate::system::SystemColumn;
use crate::transaction::{Stop, Wait};
use crate::types::{Datum, FormatSettings, Type};
use crate::{Error, Result, state};

/// After so long a waiting call looks again whether an owner can be reached.
const RETRY_MICROS: u64 = 500_000;

/// The function; registered by the server.
pub struct Changes {
    log: Arc<dyn Log>,
    groups: Arc<Groups>,
    arguments: [Argument; 4],
}

impl Changes {
    /// Over a log.
    pub fn new(log: Arc<dyn Log>, groups: Arc<Groups>) -> Changes {
        let argument = |name, ty, default| Argument {
            name,
            ty,
            default: Some(default),
        };
        let arguments = [
            argument("after", Type::PG_LSN, Datum::Null),
            argument(
                "tables",
                Type::TEXT.array_of().unwrap_or(Type::TEXT),
                Datum::Null,
            ),
            argument("wait", Type::TEXT, Datum::Null),
            argument("max_rows", Type::INT4, Datum::Null),
        ];
        Changes {
            log,
            groups,
            arguments,
        }
    }
}

impl SystemFunction for Changes {
    fn name(&self) -> (&str, &str) {
        ("freehold", "changes")
    }

    fn arguments(&self) -> &[Argument] {
        &self.arguments
    }

    fn columns(&self) -> &[SystemColumn] {
        COLUMNS
    }

    fn open(
        &self,
        arguments: &[Datum],
        cx: &mut ExecCx<'_>,
    ) -> std::result::Result<Box<dyn RowSource>, Stop> {
        let [after, tables, wait, max_rows] = arguments else {
            return Err(Error::internal("freehold.changes takes four arguments").into());
        };
        let after = match after {
            Datum::Lsn(position) => Some(Position(*position)),
            _ => None,
        };
        let deadline = match wait {
            Datum::Text(text) => wait_until(text, self.log.now())?,
            _ => Until::Never,
        };
        let rows_max = match max_rows {
            Datum::Int4(rows) if *rows > 0 => u64::try_from(*rows).unwrap_or(u64::MAX),
            Datum::Int4(_) => {
                return Err(invalid("max_rows must be greater than zero").into());
            }
            _ => u64::MAX,
        };
        let filter = Filter::new(cx.role, cx.path, patterns(tables)?);
        let mut followed = Followed::default();
        followed.look(&filter, cx.transaction.engine().catalog())?;
        Ok(Box::new(Running {
            log: Arc::clone(&self.log),
            groups: Arc::clone(&self.groups),
            filter,
            after,
            consumer: after.is_some(),
            deadline,
            rows_max,
            page: None,
            given: 0,
            ended: false,
            followed,
            noted: None,
        }))
    }
}

fn invalid(text: &str) -> Error {
    Error::new(state::INVALID_PARAMETER_VALUE, text)
}

fn patterns(tables: &Datum) -> Result<Option<Vec<String>>> {
    let Datum::Array(array) = tables else {
        return Ok(None);
    };
    let name = |value: &Datum| match value {
        Datum::Text(text) => Ok(text.to_string()),
        _ => Err(Error::new(
            state::NULL_VALUE_NOT_ALLOWED,
            "tables must not contain nulls",
        )),
    };
    array
        .values
        .iter()
        .map(name)
        .collect::<Result<_>>()
        .map(Some)
}

/// How long a call waits for rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Not at all.
    Never,
    /// Up to a time, in microseconds since 1970, or for the first rows.
    Time(u64),
    /// For ever: a stream.
    Always,
}

/// `30s` or any interval; `infinity` streams.
fn wait_until(text: &str, now: u64) -> Result<Until> {
    if text.trim().eq_ignore_ascii_case("infinity") {
        return Ok(Until::Always);
    }
    let interval = Datum::from_text(text, Type::INTERVAL, &FormatSettings::default())?;
    let Datum::Interval(interval) = interval else {
        return Err(invalid("wait must be an interval"));
    };
    Ok(match interval.linear() {
        ..=0 => Until::Never,
        micros => Until::Time(now.saturating_add(u64::try_from(micros).unwrap_or(u64::MAX))),
    })
}

/// So often a stream looks which contracts it reads, in microseconds.
const NOTED_EVERY: u64 = 60_000_000;

/// A call in progress.
struct Running {
    log: Arc<dyn Log>,
    groups: Arc<Groups>,
    filter: Filter,
    after: Option<Position>,
    /// It came with a position: then it is told how far it has got even without rows.
    consumer: bool,
    deadline: Until,
    rows_max: u64,
    page: Option<Page>,
    given: u64,
    ended: bool,
    /// What it may read of it.
    followed: Followed,
    /// When it was seen to that it is noted which contracts it reads.
    noted: Option<u64>,
}

impl RowSource for Running {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> std::result::Result<Option<Vec<Datum>>, Stop> {
        while !self.ended {
            cx.tick()?;
            if let Some(row) = self.step(cx)? {
                self.given += 1;
                return Ok(Some(row));
            }
        }
        Ok(None)
    }
}

impl Running {
    /// Notes which contracts are read. A stream does not end: every now and then.
    fn note_reads(&mut self, cx: &ExecCx<'_>) {
        let now = self.log.now();
        let noted = |at: u64| now < at.saturating_add(NOTED_EVERY);
        if self.noted.is_some_and(noted) {
            return;
        }
        self.noted = Some(now);
        let engine = cx.transaction.engine();
        for contract in self.filter.contracts(&engine.catalog()) {
            engine.note_read(cx.role, contract.id);
        }
    }

    /// One row, or nothing because a page is at its end; says to wait if there is nothing yet.
    fn step(&mut self, cx: &ExecCx<'_>) -> std::result::Result<Option<Vec<Datum>>, Stop> {
        let left = self.rows_max - self.given.min(self.rows_max);
        let engine = cx.transaction.engine();
        self.followed.look(&self.filter, engine.catalog())?;
        let mut page = match self.page.take() {
            Some(page) => page,
            None => {
                self.note_reads(cx);
                self.open(cx).map_err(|stop| self.stop(stop))?
            }
        };
        // A page counts its own rows, and `left` was what remained when it began.
        let rows_max = left + page.rows();
        let next = page.next(rows_max, |ids| {
            cx.evaluation.environment.check_interrupt()?;
            check_vouched(|ids| engine.cluster().doubts(ids, None), ids)?;
            Ok(self.followed.look(&self.filter, engine.catalog())?)
        });
        match next {
            Ok(None) => {}
            Ok(row) => {
                self.page = Some(page);
                return Ok(row);
            }
            Err(stop) => {
                self.page = Some(page);
                return Err(self.stop(stop));
            }
        }
        let reached = page.reached(rows_max);
        let advanced = self.after.is_none_or(|after| reached > after);
        let reached = self.after.map_or(reached, |after| after.max(reached));
        let held_up = page.held_up();
        // Nothing was given while an owner held the page up: it still begins at the oldest.
        let nothing = reached == Position::ZERO;
        self.after = self.after.max((!nothing).then_some(reached));
        // No entry may tell that a node answers again.
        let retry = held_up.is_some().then(|| self.log.now() + RETRY_MICROS);
        match self.deadline {
            _ if self.given >= self.rows_max => self.ended = true,
            Until::Always => return Err(Stop::Pause(Wait::Feed(retry))),
            Until::Time(time) if self.given == 0 && self.log.now() < time => {
                let until = retry.map_or(time, |retry| retry.min(time));
                return Err(Stop::Pause(Wait::Feed(Some(until))));
            }
            Until::Never | Until::Time(_) => {
                self.ended = true;
                if self.given == 0 && !self.consumer {
                    // There is no position yet that it could go on from.
                    page.check_going()?;
                }
                if self.given == 0 && (held_up.is_some() || self.consumer && advanced) {
                    return Ok(Some(progress(reached, held_up)));
                }
            }
        }
        Ok(None)
    }

    /// A stream, and who has no rows yet, goes on where it is; others begin again.
    fn stop(&self, stop: Stop) -> Stop {
        match stop {
            Stop::Wait(wait) if self.deadline == Until::Always || self.given == 0 => {
                Stop::Pause(wait)
            }
            stop => stop,
        }
    }

    fn open(&self, cx: &ExecCx<'_>) -> std::result::Result<Page, Stop> {
        let engine = cx.transaction.engine();
        let newest = || engine.catalog();
        let doubts = |ids: &[GroupId]| engine.cluster().doubts(ids, None);
        let filter = self.filter.clone();
        let interrupt = cx.evaluation.environment.interrupt();
        Page::open(
            &*self.log,
            newest,
            doubts,
            &self.groups,
            filter,
            self.after,
            |_| Position::MAX,
            &interrupt,
        )
    }
}

/// Nothing for this reader up to here; and, if it can't go on, how far each owner is closed.
fn progress(position: Position, held_up: Option<String>) -> Vec<Datum> {
    let event = held_up.map(|owners| ("closed".to_owned(), owners));
    let row = FeedRow {
        event,
        ..FeedRow::bare(position, "progress")
    };
    row.values()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_takes_intervals_and_infinity() {
        assert!(wait_until("30s", 5).unwrap() == Until::Time(30_000_005));
        assert!(wait_until("200ms", 0).unwrap() == Until::Time(200_000));
        assert!(wait_until("0", 5).unwrap() == Until::Never);
        assert!(wait_until("infinity", 5).unwrap() == Until::Always);
        assert!(wait_until("-1s", 5).unwrap() == Until::Never);
        assert!(wait_until("2000000 years", 5).unwrap() == Until::Time(u64::MAX));
        assert!(wait_until("soon", 5).is_err());
    }
}
