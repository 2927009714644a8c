//! `freehold.feed`: everything retained that the role may read, in order.

use std::sync::Arc;

use storage::{GroupId, Groups, Position};

use super::Log;
use super::columns::{COLUMNS, POSITION};
use super::filter::Filter;
use super::page::Page;
use crate::Result;
use crate::system::{Above, SystemColumn, SystemCx, SystemRelation, SystemRows};
use crate::transaction::Stop;
use crate::types::Datum;

/// The relation; registered by the server.
pub struct FeedRelation {
    log: Arc<dyn Log>,
    groups: Arc<Groups>,
}

impl FeedRelation {
    /// Over a log.
    pub fn new(log: Arc<dyn Log>, groups: Arc<Groups>) -> FeedRelation {
        FeedRelation { log, groups }
    }
}

impl SystemRelation for FeedRelation {
    fn name(&self) -> (&str, &str) {
        ("freehold", "feed")
    }

    fn columns(&self) -> &[SystemColumn] {
        COLUMNS
    }

    fn order(&self) -> Option<usize> {
        Some(POSITION)
    }

    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        let newest = || {
            let newest = cx.environment.newest_catalog();
            newest.unwrap_or_else(|| Arc::clone(cx.catalog))
        };
        let filter = Filter::new(cx.role, cx.path, None);
        let interrupt = cx.environment.interrupt();
        let after = after(cx);
        let log = &*self.log;
        let doubts = |ids: &[GroupId]| cx.environment.doubts(ids);
        let all = |_: &[GroupId]| Position::MAX;
        let page = Page::open(
            log,
            newest,
            doubts,
            &self.groups,
            filter,
            after,
            all,
            &interrupt,
        );
        let mut page = match page {
            Ok(page) => page,
            Err(Stop::Error(error)) => return Err(error),
            Err(stop) => return Ok(Box::new(std::iter::once(Err(stop)))),
        };
        let next = move || {
            let next = page.next(u64::MAX, |_| Ok(interrupt()?));
            // What it has given is whole; but nothing must not look like nothing.
            let next = match next {
                Ok(None) if page.rows() == 0 => {
                    page.check_going().map(|()| None).map_err(Into::into)
                }
                next => next,
            };
            next.transpose()
        };
        Ok(Box::new(std::iter::from_fn(next)))
    }
}

/// What lies at or before this position is not asked for, and need not be retained any more.
fn after(cx: &SystemCx<'_>) -> Option<Position> {
    let before = |position: u64| Some(Position(position.saturating_sub(1)));
    match (cx.equal(POSITION), cx.above(POSITION)) {
        (Some(Datum::Lsn(position)), _) => before(*position),
        (
            _,
            Some(Above {
                value: Datum::Lsn(position),
                inclusive,
                ..
            }),
        ) => match inclusive {
            true => before(*position),
            false => Some(Position(*position)),
        },
        _ => None,
    }
}
