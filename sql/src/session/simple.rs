//! The simple protocol: a query string of any number of statements. Statements that are not in a
//! block of their own are one implicit transaction, as in PostgreSQL.

use parking_lot::Mutex;
use std::sync::Arc;

use super::job::Job;
use super::prepared::Prepared;
use super::run::Ends;
use super::step::Step;
use super::{Output, Session};
use crate::Result;
use crate::parse::{self, Parsed};

/// A query string under way.
pub(super) struct Simple {
    parsed: Arc<[Parsed]>,
    next: usize,
    job: Option<Box<Job>>,
    /// EmptyQueryResponse was sent.
    empty: bool,
}

impl Simple {
    /// The statement that is under way.
    pub fn job(&self) -> Option<&Job> {
        self.job.as_deref()
    }

    /// The same, if it is the only one of the query string.
    pub fn only_job(&self) -> Option<&Job> {
        self.job().filter(|_| self.parsed.len() == 1)
    }
}

impl Session {
    /// Begins a query string (a Query message); then [`Session::next`] until `Step::End` or an
    /// error.
    ///
    /// # Errors
    /// 42601, 54001: nothing was run.
    pub fn query(&mut self, sql: &str) -> Result<()> {
        self.portals.remove("");
        self.current = None;
        self.copy = None;
        self.simple = None;
        let parsed = match self.parsed(sql) {
            Ok(parsed) => parsed,
            Err(error) => {
                self.fail_now();
                return Err(error);
            }
        };
        self.simple = Some(Simple {
            parsed,
            next: 0,
            job: None,
            empty: false,
        });
        Ok(())
    }

    /// The statements of a query string, from the node's cache if it knows them.
    pub(super) fn parsed(&self, sql: &str) -> Result<Arc<[Parsed]>> {
        if let Some(parsed) = self.engine.plans().parsed(sql) {
            return Ok(parsed);
        }
        let parsed: Arc<[Parsed]> = parse::parse(sql)?.into();
        self.engine.plans().put_parsed(sql, &parsed);
        Ok(parsed)
    }

    /// Runs the query string on: one `Step::Done` per statement, then `Step::End`.
    ///
    /// # Errors
    /// The statement's error; the rest of the query string is gone.
    pub fn next(&mut self, out: &mut dyn Output) -> Result<Step> {
        let Some(mut simple) = self.simple.take() else {
            return Ok(Step::End);
        };
        let Some(mut job) = simple.job.take().or_else(|| self.next_job(&mut simple)) else {
            if simple.parsed.is_empty() && !simple.empty {
                simple.empty = true;
                self.simple = Some(simple);
                return Ok(Step::Done { tag: String::new() });
            }
            return Ok(Step::End);
        };
        let last = simple.next >= simple.parsed.len();
        let ends = if last { Ends::Now } else { Ends::Later };
        let step = self.run(&mut job, ends, 0, out)?;
        match step {
            Step::Done { .. } => {}
            Step::CopyIn { .. } => {
                if let Some(copy) = self.copy.as_mut() {
                    copy.take_job(job, ends);
                }
            }
            // It begins again elsewhere, or fails here.
            Step::Elsewhere(_) => return Ok(step),
            _ => simple.job = Some(job),
        }
        self.simple = Some(simple);
        Ok(step)
    }

    fn next_job(&mut self, simple: &mut Simple) -> Option<Box<Job>> {
        let at = simple.next;
        let parsed = simple.parsed.get(at)?;
        simple.next += 1;
        let prepared = Prepared {
            text: parsed.text.as_str().into(),
            parsed: Arc::clone(&simple.parsed),
            at: Some(at),
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
        job.announce = true;
        Some(Box::new(job))
    }
}
