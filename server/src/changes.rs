//! The feed crate's entries, and what other nodes give, behind the trait that SQL's feed asks for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use feed::{Feed, FeedEntry};
use sql::changes::{
    Asked, Changes, Closed, FeedRelation, History, Interrupt, Log, LogChanges, LogEntry,
    PositionAt, Request, SnapshotPosition, UnitEntry, Units,
};
use sql::{Error, state};
use storage::{Clock, Entry, GroupId, Groups, Position};

use crate::cluster::Cluster;
use crate::feeds::{self, Closing};
use crate::system::SystemClock;

/// The feed of a node, its own journal's and that of other nodes.
pub fn log(feed: &MeteredFeed, groups: &Arc<Groups>, cluster: &Arc<Cluster>) -> Arc<dyn Log> {
    Arc::new(NodeLog {
        feed: feed.clone(),
        groups: groups.clone(),
        cluster: cluster.clone(),
        closing: Closing::new(feed.feed.clone(), groups.clone()),
    })
}

/// `freehold.feed`.
pub fn relations(
    log: &Arc<dyn Log>,
    groups: &Arc<Groups>,
) -> Vec<Arc<dyn sql::system::SystemRelation>> {
    vec![Arc::new(FeedRelation::new(log.clone(), groups.clone()))]
}

/// `freehold.changes`, `freehold.snapshot_position`, `freehold.position_at`, `freehold.history`.
pub fn functions(
    log: &Arc<dyn Log>,
    groups: &Arc<Groups>,
) -> Vec<Arc<dyn sql::plan::SystemFunction>> {
    vec![
        Arc::new(Changes::new(log.clone(), groups.clone())),
        Arc::new(SnapshotPosition::new(log.clone(), groups.clone())),
        Arc::new(PositionAt::default()),
        Arc::new(History::default()),
    ]
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
    streams: AtomicU64,
    rows: AtomicU64,
}

/// What was counted.
#[derive(Clone, Copy, Debug)]
pub struct FeedCounts {
    /// Who reads at this moment.
    pub readers: u64,
    /// Reads that were begun.
    pub reads: u64,
    /// Entries that were read in this node's journal.
    pub entries: u64,
    /// Streams that were asked of other nodes.
    pub streams: u64,
    /// Rows that other nodes have given.
    pub rows: u64,
}

impl FeedMeter {
    /// What it has counted up to now.
    pub fn counts(&self) -> FeedCounts {
        FeedCounts {
            readers: self.readers.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed),
            entries: self.entries.load(Ordering::Relaxed),
            streams: self.streams.load(Ordering::Relaxed),
            rows: self.rows.load(Ordering::Relaxed),
        }
    }

    /// Entries are read.
    pub fn read(&self, entries: usize) {
        self.entries.fetch_add(entries as u64, Ordering::Relaxed);
    }

    /// Another node is asked.
    pub fn asked_elsewhere(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    /// Another node has given a row.
    pub fn given(&self) {
        self.rows.fetch_add(1, Ordering::Relaxed);
    }
}

/// Somebody reads, until this is dropped.
pub struct Reading(Arc<FeedMeter>);

impl Reading {
    /// From now on.
    pub fn begin(meter: &Arc<FeedMeter>) -> Reading {
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

/// What a reader of the feed is told.
pub fn sql_error(error: feed::Error) -> Error {
    match error {
        feed::Error::Behind { oldest, .. } => {
            behind(&format!("Entries up to {oldest} may be gone."))
        }
        feed::Error::Unknown(group) => Error::new(state::OWNER_UNREACHABLE, "the feed was cut off")
            .detail(format!("This node has no log of group {group} any more."))
            .hint("Read on behind the last whole transaction."),
        feed::Error::Stream(_) | feed::Error::Journal(_) | feed::Error::Storage(_) => Error::new(
            state::IO_ERROR,
            format!("the journal can't be read: {error}"),
        ),
    }
}

/// OW001.
pub fn behind(detail: &str) -> Error {
    Error::new(
        state::BEHIND_RETENTION,
        "the cursor is behind what the feed retains",
    )
    .detail(detail)
    .hint(
        "Read the tables in a REPEATABLE READ transaction and go on from \
         freehold.snapshot_position() of the same transaction.",
    )
}

struct NodeLog {
    feed: MeteredFeed,
    groups: Arc<Groups>,
    cluster: Arc<Cluster>,
    closing: Closing,
}

impl Log for NodeLog {
    fn closed(
        &self,
        asked: &Asked,
        after: Option<Position>,
        interrupt: &Interrupt,
    ) -> Result<Closed, Error> {
        self.closing.closed(asked, after, interrupt)
    }

    fn read(&self, request: &Request<'_>, interrupt: &Interrupt) -> Result<Box<dyn Units>, Error> {
        feeds::read(&self.feed, &self.cluster, &self.groups, request, interrupt)
    }

    fn now(&self) -> u64 {
        SystemClock.unix_micros()
    }
}

/// Units of this node's journal alone.
pub struct JournalUnits {
    units: feed::Units,
    entries: VecDeque<FeedEntry>,
}

impl JournalUnits {
    /// For who is counted elsewhere.
    pub fn unmetered(units: feed::Units) -> JournalUnits {
        JournalUnits {
            units,
            entries: VecDeque::new(),
        }
    }
}

impl Units for JournalUnits {
    fn closed(&self) -> Position {
        self.units.closed()
    }

    fn next_unit(&mut self) -> Result<Option<Position>, Error> {
        let Some(unit) = self.units.next().map_err(sql_error)? else {
            return Ok(None);
        };
        self.entries = unit.entries.into();
        Ok(Some(unit.position))
    }

    fn next_entry(&mut self) -> Result<Option<UnitEntry>, Error> {
        let entry = self.entries.pop_front();
        Ok(entry.map(|entry| UnitEntry::Here(Box::new(JournalEntry(entry)))))
    }
}

/// An entry of this node's journal.
pub struct JournalEntry(pub FeedEntry);

impl LogEntry for JournalEntry {
    fn group(&self) -> GroupId {
        self.0.group()
    }

    fn entry(&self) -> &Entry {
        self.0.entry()
    }

    fn into_changes(self: Box<Self>) -> Result<LogChanges, Error> {
        let mut changes = self.0.into_changes().map_err(sql_error)?;
        let next = move || changes.next().map_err(sql_error).transpose();
        Ok(Box::new(std::iter::from_fn(next)))
    }
}
