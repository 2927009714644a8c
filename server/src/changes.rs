//! The feed crate's entries behind the trait that SQL's feed asks for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use feed::{Feed, FeedEntry, Unit, Units};
use sql::changes::{
    Changes, FeedRelation, Log, LogChanges, LogEntry, PositionAt, SnapshotPosition,
};
use sql::{Error, state};
use storage::{Clock, Entry, GroupId, Groups, Position};

use crate::system::SystemClock;

/// `freehold.feed`.
pub fn relations(
    feed: &MeteredFeed,
    groups: &Arc<Groups>,
) -> Vec<Arc<dyn sql::system::SystemRelation>> {
    vec![Arc::new(FeedRelation::new(log(feed), groups.clone()))]
}

/// `freehold.changes`, `freehold.snapshot_position`, `freehold.position_at`.
pub fn functions(
    feed: &MeteredFeed,
    groups: &Arc<Groups>,
) -> Vec<Arc<dyn sql::plan::SystemFunction>> {
    vec![
        Arc::new(Changes::new(log(feed), groups.clone())),
        Arc::new(SnapshotPosition),
        Arc::new(PositionAt::default()),
    ]
}

fn log(feed: &MeteredFeed) -> Arc<dyn Log> {
    Arc::new(JournalLog(feed.clone()))
}

/// The node's feed, and the count of who reads it.
#[derive(Clone)]
pub struct MeteredFeed {
    /// The feed.
    pub feed: Feed,
    /// The count.
    pub meter: Arc<FeedMeter>,
}

/// Counts the reading of the feed.
#[derive(Default)]
pub struct FeedMeter {
    readers: AtomicU64,
    reads: AtomicU64,
    entries: AtomicU64,
}

/// What was counted.
#[derive(Clone, Copy, Debug)]
pub struct FeedCounts {
    /// Who reads at this moment.
    pub readers: u64,
    /// Reads that were begun.
    pub reads: u64,
    /// Entries that were read.
    pub entries: u64,
}

impl FeedMeter {
    /// What it has counted up to now.
    pub fn counts(&self) -> FeedCounts {
        FeedCounts {
            readers: self.readers.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed),
            entries: self.entries.load(Ordering::Relaxed),
        }
    }
}

/// Somebody reads, until this is dropped.
struct Reading(Arc<FeedMeter>);

impl Reading {
    fn begin(meter: &Arc<FeedMeter>) -> Reading {
        meter.reads.fetch_add(1, Ordering::Relaxed);
        meter.readers.fetch_add(1, Ordering::Relaxed);
        Reading(meter.clone())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

struct JournalLog(MeteredFeed);

/// What a reader of the feed is told.
fn error(error: feed::Error) -> Error {
    match error {
        feed::Error::Behind { oldest, .. } => Error::new(
            state::BEHIND_RETENTION,
            "the cursor is behind what the feed retains",
        )
        .detail(format!("Entries up to {oldest} may be gone."))
        .hint(
            "Read the tables in a REPEATABLE READ transaction and go on from \
             freehold.snapshot_position() of the same transaction.",
        ),
        feed::Error::Unknown(_)
        | feed::Error::Stream(_)
        | feed::Error::Journal(_)
        | feed::Error::Storage(_) => Error::new(
            state::IO_ERROR,
            format!("the journal can't be read: {error}"),
        ),
    }
}

impl Log for JournalLog {
    fn closed(&self) -> Position {
        self.0.feed.closed()
    }

    fn read(
        &self,
        groups: &[GroupId],
        after: Option<Position>,
        closed: Position,
    ) -> Result<Box<dyn sql::changes::Units>, Error> {
        let units = self.0.feed.read(groups, after, closed).map_err(error)?;
        let reading = Reading::begin(&self.0.meter);
        Ok(Box::new(JournalUnits(units, reading)))
    }

    fn now(&self) -> u64 {
        SystemClock.unix_micros()
    }
}

struct JournalUnits(Units, Reading);

impl sql::changes::Units for JournalUnits {
    fn closed(&self) -> Position {
        self.0.closed()
    }

    fn next(&mut self) -> Result<Option<sql::changes::Unit>, Error> {
        let Some(Unit { position, entries }) = self.0.next().map_err(error)? else {
            return Ok(None);
        };
        let count = entries.len() as u64;
        self.1.0.entries.fetch_add(count, Ordering::Relaxed);
        let boxed = |entry| Box::new(JournalEntry(entry)) as Box<dyn LogEntry>;
        let entries = entries.into_iter().map(boxed).collect();
        Ok(Some(sql::changes::Unit { position, entries }))
    }
}

struct JournalEntry(FeedEntry);

impl LogEntry for JournalEntry {
    fn group(&self) -> GroupId {
        self.0.group()
    }

    fn entry(&self) -> &Entry {
        self.0.entry()
    }

    fn into_changes(self: Box<Self>) -> Result<LogChanges, Error> {
        let mut changes = self.0.into_changes().map_err(error)?;
        let next = move || changes.next().map_err(error).transpose();
        Ok(Box::new(std::iter::from_fn(next)))
    }
}
