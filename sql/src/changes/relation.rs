//! `freehold.feed`: everything retained that the role may read, in order.

use std::sync::Arc;

use storage::{Groups, Position};

use super::Log;
use super::columns::{COLUMNS, POSITION};
use super::filter::Filter;
use super::page::Page;
use crate::Result;
use crate::system::{Above, SystemColumn, SystemCx, SystemRelation, SystemRows};
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
        let mut page = Page::open(&*self.log, newest, &self.groups, filter, after(cx))?;
        let next = move || {
            page.next(u64::MAX, || Ok(()))
                .map_err(Into::into)
                .transpose()
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
