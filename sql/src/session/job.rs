//! One execution of one statement, from its first attempt to its tag.

use crate::parse::Statement;
use parking_lot::Mutex;
use std::sync::Arc;

use super::finish::Holding;
use super::prepared::Prepared;
use super::step::Step;
use crate::Error;
use crate::exec::Operator;
use crate::plan::{OutputColumn, Planned};
use crate::transaction::{Mark, Snapshot};
use crate::types::Datum;

/// One execution of one statement.
pub(super) struct Job {
    pub prepared: Arc<Prepared>,
    pub parameters: Arc<[Datum]>,
    /// Result formats as the client gave them: none, one for all, or one per column.
    pub formats: Vec<i16>,
    pub planned: Option<Arc<Planned>>,
    pub columns: Arc<[OutputColumn]>,
    pub phase: Phase,
    /// Positions that a suspended portal reads at.
    pub snapshot: Snapshot,
    /// Rows sent in this job.
    pub sent: u64,
    /// Rows counted for the tag, where they are not those sent.
    pub affected: Option<u64>,
    pub buffer: Buffer,
    /// The turn of the session in which it was bound.
    pub turn: u64,
    /// When it began, in microseconds since 1970 (0 = not yet).
    pub begun: u64,
    /// When it gives up waiting for a lock.
    pub lock_deadline: Option<u64>,
    /// Foreign-key checks that waited for COMMIT before the present attempt.
    pub deferred: usize,
    /// Attempts without a wait between them.
    pub attempts: u32,
    /// Columns are to be announced before the rows (simple protocol).
    pub announce: bool,
    /// The answer is made of rows.
    pub returns_rows: bool,
    /// The tag of a utility statement that returns rows.
    pub utility_tag: Option<String>,
    /// What functions had raised before the statement failed.
    pub raised: Vec<(&'static str, Error)>,
    /// A cursor's rows that were fetched by an attempt that had to wait.
    pub stash: Vec<crate::exec::Row>,
}

/// Where a job stands.
pub(super) enum Phase {
    /// Not begun, or to be begun again.
    Start,
    /// Rows are being made.
    Rows(Rows),
    /// The statement is over: its tag; the transaction may end now.
    Made(String),
    /// Buffered rows are to be sent, then the tag.
    Flush(String),
    /// The client is told that COPY begins.
    Announce(Step, Box<Phase>),
    /// The end of the transaction is waited for; then this is the answer.
    Holding(Holding, Result<String, Error>),
    /// Answered.
    Done(String),
}

/// A running operator.
pub(super) struct Rows {
    pub operator: Box<dyn Operator>,
    /// Rows are kept until the statement is over: it may have to begin again.
    pub buffered: bool,
    /// To go back to when it begins again.
    pub mark: Option<Mark>,
    /// COPY TO: rows become lines.
    pub copy: Option<Box<super::copy::CopyOut>>,
}

impl Job {
    pub fn new(prepared: Arc<Prepared>, parameters: Arc<[Datum]>, formats: Vec<i16>) -> Job {
        Job {
            prepared,
            parameters,
            formats,
            planned: None,
            columns: Arc::from([]),
            phase: Phase::Start,
            snapshot: Snapshot::default(),
            sent: 0,
            affected: None,
            buffer: Buffer::default(),
            turn: 0,
            begun: 0,
            lock_deadline: None,
            deferred: 0,
            attempts: 0,
            announce: false,
            returns_rows: false,
            utility_tag: None,
            raised: Vec::new(),
            stash: Vec::new(),
        }
    }

    /// Has it given its answer?
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Done(_))
    }

    /// May the next phase take long? Statements by key never do; whoever computes over tables,
    /// changes the schema or copies may.
    pub fn is_heavy(&self, phase: &Phase) -> bool {
        match phase {
            Phase::Start => matches!(
                self.prepared.statement(),
                Statement::Ddl(_)
                    | Statement::Explain(_)
                    | Statement::Copy(_)
                    | Statement::Execute(_)
                    | Statement::Declare(_)
                    | Statement::Fetch(_)
                    | Statement::Vacuum(_)
                    | Statement::Do(_)
            ),
            Phase::Rows(_) => !self.planned.as_ref().is_some_and(|planned| planned.keyed),
            Phase::Made(_)
            | Phase::Flush(_)
            | Phase::Announce(..)
            | Phase::Holding(..)
            | Phase::Done(_) => false,
        }
    }

    /// A job of the session itself (checks at COMMIT).
    pub fn idle(now: u64) -> Job {
        let prepared = Prepared {
            text: "".into(),
            parsed: Arc::from([]),
            at: None,
            inner: None,
            brought: None,
            declared: Arc::from([]),
            parameters: Arc::from([]),
            from_sql: false,
            created: 0,
            promised: None,
            fresh: Mutex::new(None),
        };
        let mut job = Job::new(Arc::new(prepared), Arc::from([]), Vec::new());
        job.begun = now;
        job
    }

    /// The format of a result column.
    pub fn format(&self, column: usize) -> i16 {
        match self.formats.as_slice() {
            [] => 0,
            [one] => *one,
            many => many.get(column).copied().unwrap_or(0),
        }
    }
}

/// Encoded rows that are not sent yet.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    next: usize,
}

impl Buffer {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.next = 0;
    }

    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Adds what `write` appends as one row.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// The next row that was not taken yet.
    pub fn take(&mut self) -> Option<&[u8]> {
        let end = *self.ends.get(self.next)?;
        let start = match self.next {
            0 => 0,
            next => self.ends[next - 1],
        };
        self.next += 1;
        Some(&self.bytes[start..end])
    }

    /// Everything is sent.
    pub fn is_empty(&self) -> bool {
        self.next >= self.ends.len()
    }
}
