//! `freehold.feed`: everything retained that the role may read, in order.

use std::sync::Arc;

use storage::{Groups, Position};

use super::Log;
use super::columns::{COLUMNS, POSITION};
use super::filter::Filter;
use super::page::Page;
use super::rows::Reading;
use crate::Result;
use crate::system::{SystemColumn, SystemCx, SystemRelation, SystemRows};
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

    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        let reading = Reading {
            catalog: Arc::clone(cx.catalog),
            groups: Arc::clone(&self.groups),
            filter: Filter::new(cx.role, cx.path, None),
        };
        // `position = x` and `position > x` need not read what lies before.
        let after = match cx.equal(POSITION).or(cx.above(POSITION)) {
            Some(Datum::Lsn(position)) => Some(Position(position.saturating_sub(1))),
            _ => None,
        };
        let mut page = Page::open(&*self.log, reading, after)?;
        let next = move || page.next(u64::MAX).map_err(Into::into).transpose();
        Ok(Box::new(std::iter::from_fn(next)))
    }
}
