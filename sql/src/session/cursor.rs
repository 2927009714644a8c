//! PREPARE, EXECUTE and cursors.

use parking_lot::Mutex;
use std::sync::Arc;

use super::job::{Job, Phase};
use super::prepared::Prepared;
use super::utility::Given;
use super::{Field, Output, PORTALS_MAX, Portal, STATEMENTS_MAX, Session};
use crate::exec::Row;
use crate::parse::{Declare, Execute, Fetch, FetchDirection, Prepare, Statement};
use crate::transaction::Stop;
use crate::types::{Datum, Type};
use crate::{Error, Result, state};

/// Bytes of rows that a scrollable or held cursor keeps.
const KEPT_BYTES_MAX: usize = 256 << 20;

/// What a cursor is beyond its portal.
pub(super) struct Cursor {
    /// WITH HOLD.
    hold: bool,
    /// The transaction that made it has ended: `kept` has all of it.
    held: bool,
    /// SCROLL: rows that were fetched are kept.
    scroll: bool,
    /// BINARY.
    binary: bool,
    /// Its text.
    text: Arc<str>,
    kept: Vec<Row>,
    kept_bytes: usize,
    /// Rows that went by before the first one kept (WITH HOLD without SCROLL).
    skipped: usize,
    /// Rows before the present place (0 = before the first).
    at: usize,
    /// Everything was fetched from the portal.
    complete: bool,
}

impl Portal {
    /// Its row of pg_cursors.
    pub(super) fn row(&self, name: &str) -> Vec<Datum> {
        let cursor = self.cursor.as_ref();
        let text = match (cursor, &self.job) {
            (Some(cursor), _) => Arc::clone(&cursor.text),
            (None, Some(job)) => Arc::clone(&job.prepared.text),
            (None, None) => "".into(),
        };
        vec![
            Datum::text(name),
            Datum::Text(text),
            Datum::Bool(cursor.is_some_and(|c| c.hold)),
            Datum::Bool(cursor.is_some_and(|c| c.binary)),
            Datum::Bool(cursor.is_some_and(|c| c.scroll)),
            Datum::Timestamptz(self.created),
        ]
    }
}

impl Cursor {
    /// Does it outlive its transaction?
    pub fn is_held(&self) -> bool {
        self.held
    }
}

impl Session {
    /// PREPARE.
    pub(super) fn prepare(&mut self, prepare: &Prepare) -> Result<()> {
        if self.statements.contains_key(&prepare.name) {
            return Err(Error::new(
                state::DUPLICATE_PREPARED_STATEMENT,
                format!("prepared statement \"{}\" already exists", prepare.name),
            ));
        }
        if self.statements.len() >= STATEMENTS_MAX {
            return Err(Error::new(
                state::CONFIGURATION_LIMIT_EXCEEDED,
                format!("too many prepared statements (at most {STATEMENTS_MAX})"),
            ));
        }
        let mut declared = Vec::with_capacity(prepare.types.len());
        for ty in &prepare.types {
            declared.push(Type::parse(&ty.to_string())?);
        }
        let mut prepared = Prepared {
            text: prepare.text.as_str().into(),
            parsed: Arc::from([]),
            at: None,
            inner: Some(prepare.statement.clone()),
            brought: None,
            declared: declared.clone().into(),
            parameters: declared.into(),
            from_sql: true,
            created: self.engine.now(),
            promised: None,
            fresh: Mutex::new(None),
        };
        self.infer(&mut prepared)?;
        self.keep_statement(&prepare.name, Arc::new(prepared));
        Ok(())
    }

    /// EXECUTE: the prepared statement runs in this job's place.
    pub(super) fn execute_prepared(
        &mut self,
        job: &mut Job,
        execute: &Execute,
        out: &mut dyn Output,
    ) -> std::result::Result<Phase, Stop> {
        let prepared = self.find_statement(&execute.name)?;
        if execute.arguments.len() != prepared.parameters.len() {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                format!(
                    "wrong number of parameters for prepared statement \"{}\"",
                    execute.name
                ),
            )
            .detail(format!(
                "Expected {} parameters but got {}.",
                prepared.parameters.len(),
                execute.arguments.len()
            ))
            .into());
        }
        if !execute.arguments.is_empty() {
            job.parameters = self.arguments(job, execute, &prepared)?.into();
        }
        job.prepared = Arc::clone(&prepared);
        match prepared.statement() {
            Statement::Query(query) => self.begin_query(job, query),
            other => self.begin_utility(job, other, out),
        }
    }

    /// Evaluates the arguments of EXECUTE as a query without a table.
    fn arguments(
        &mut self,
        job: &Job,
        execute: &Execute,
        prepared: &Prepared,
    ) -> std::result::Result<Vec<Datum>, Stop> {
        let pairs = execute.arguments.iter().zip(prepared.parameters.iter());
        let columns: Vec<String> = pairs
            .map(|(e, ty)| format!("CAST(({e}) AS {})", ty.name()))
            .collect();
        let text: Arc<str> = format!("SELECT {}", columns.join(", ")).into();
        let mut statements = crate::parse::parse(&text)?;
        let Some(Statement::Query(query)) = statements.pop().map(|p| p.statement) else {
            return Err(Error::internal("arguments are no query").into());
        };
        self.ensure_transaction(false);
        let catalog = self.fresh_catalog();
        let types = Arc::clone(&job.prepared.parameters);
        let planned = self.plan_text(&text, &query, &types, &catalog)?;
        self.lock_and_read(&planned)?;
        let parameters = Arc::clone(&job.parameters);
        self.exec(job, |cx| {
            let mut operator = crate::exec::open(&planned, parameters, cx)?;
            operator
                .next(cx)?
                .ok_or_else(|| Error::internal("no row of arguments").into())
        })
    }

    /// DECLARE.
    pub(super) fn declare(
        &mut self,
        job: &mut Job,
        declare: &Declare,
    ) -> std::result::Result<Phase, Stop> {
        if !declare.hold && !self.block {
            return Err(Error::new(
                state::NO_ACTIVE_SQL_TRANSACTION,
                "DECLARE CURSOR can only be used in transaction blocks",
            )
            .into());
        }
        if self.portals.contains_key(&declare.name) {
            return Err(Error::new(
                state::DUPLICATE_CURSOR,
                format!("cursor \"{}\" already exists", declare.name),
            )
            .into());
        }
        if self.portals.len() >= PORTALS_MAX {
            let message = format!("too many portals (at most {PORTALS_MAX})");
            return Err(Error::new(state::CONFIGURATION_LIMIT_EXCEEDED, message).into());
        }
        let prepared = Prepared {
            text: declare.text.as_str().into(),
            parsed: Arc::from([]),
            at: None,
            inner: Some(Statement::Query(declare.query.clone())),
            brought: None,
            declared: Arc::clone(&job.prepared.declared),
            parameters: Arc::clone(&job.prepared.parameters),
            from_sql: true,
            created: self.engine.now(),
            promised: None,
            fresh: Mutex::new(None),
        };
        let formats = if declare.binary { vec![1] } else { Vec::new() };
        let mut inner = Job::new(Arc::new(prepared), Arc::clone(&job.parameters), formats);
        inner.begun = job.begun;
        // It opens here, so that it reads at this statement's snapshot.
        inner.phase = self.begin_query(&mut inner, &declare.query)?;
        if let Phase::Rows(rows) = &mut inner.phase
            && rows.mark.take().is_some()
            && let Some(tx) = self.transaction.as_mut()
        {
            tx.unmark();
        }
        // A function that must wait runs again with its statement, which a cursor can't.
        if inner.planned.as_ref().is_some_and(|p| p.routines) {
            let what = "a cursor over a query that calls functions of users";
            return Err(Error::unsupported(what).into());
        }
        self.suspend_snapshot(&mut inner);
        let cursor = Cursor {
            hold: declare.hold,
            held: false,
            scroll: declare.scroll == Some(true),
            binary: declare.binary,
            text: declare.text.as_str().into(),
            kept: Vec::new(),
            kept_bytes: 0,
            skipped: 0,
            at: 0,
            complete: false,
        };
        let created = self.engine.now();
        let portal = Portal {
            job: Some(Box::new(inner)),
            cursor: Some(cursor),
            created,
        };
        self.portals.insert(declare.name.clone(), portal);
        if !self.block {
            self.hold_cursors()?;
        }
        Ok(Phase::Made("DECLARE CURSOR".to_owned()))
    }

    /// CLOSE.
    pub(super) fn close_cursor(&mut self, name: &str) -> Result<()> {
        self.portals
            .remove(name)
            .map(|_| ())
            .ok_or_else(|| no_cursor(name))
    }

    /// FETCH and MOVE.
    pub(super) fn fetch(
        &mut self,
        job: &mut Job,
        fetch: &Fetch,
        out: &mut dyn Output,
    ) -> std::result::Result<Phase, Stop> {
        let Some(mut portal) = self.portals.remove(&fetch.cursor) else {
            return Err(no_cursor(&fetch.cursor).into());
        };
        self.ensure_transaction(false);
        let result = self.fetch_from(&mut portal, fetch, out);
        if let Some(inner) = portal.job.as_ref() {
            job.columns = Arc::clone(&inner.columns);
            if job.formats.is_empty() {
                job.formats = inner.formats.clone();
            }
        }
        self.portals.insert(fetch.cursor.clone(), portal);
        let rows = result?;
        if fetch.discard {
            return Ok(Phase::Made(format!("MOVE {}", rows.len())));
        }
        job.returns_rows = true;
        job.utility_tag = Some(format!("FETCH {}", rows.len()));
        let operator = Given::rows(rows);
        let rows = super::job::Rows {
            operator,
            buffered: false,
            mark: None,
            copy: None,
        };
        Ok(Phase::Rows(rows))
    }

    fn fetch_from(
        &mut self,
        portal: &mut Portal,
        fetch: &Fetch,
        out: &mut dyn Output,
    ) -> std::result::Result<Vec<Row>, Stop> {
        use FetchDirection as D;
        let cursor = portal.cursor.get_or_insert_with(|| Cursor {
            hold: false,
            held: false,
            scroll: false,
            binary: false,
            text: "".into(),
            kept: Vec::new(),
            kept_bytes: 0,
            skipped: 0,
            at: 0,
            complete: false,
        });
        let at = cursor.at as i64;
        let forward_only = !cursor.scroll && !cursor.held;
        match fetch.direction {
            D::Forward(count) if count >= 0 && forward_only => {
                if count == 0 {
                    return Err(scan_forward().into());
                }
                self.forward(portal, count as u64, out)
            }
            D::ForwardAll if forward_only => self.forward(portal, u64::MAX, out),
            D::Relative(count) if count > 0 && forward_only => {
                let mut rows = self.forward(portal, count as u64, out)?;
                let full = rows.len() as i64 == count;
                Ok(rows.pop().filter(|_| full).into_iter().collect())
            }
            D::Absolute(place) if place > at && forward_only => {
                let wanted = place - at;
                let mut rows = self.forward(portal, wanted as u64, out)?;
                let full = rows.len() as i64 == wanted;
                Ok(rows.pop().filter(|_| full).into_iter().collect())
            }
            _ if forward_only => Err(scan_forward().into()),
            direction => self.scroll(portal, direction, out),
        }
    }

    /// Moves over a cursor whose rows are kept.
    fn scroll(
        &mut self,
        portal: &mut Portal,
        direction: FetchDirection,
        out: &mut dyn Output,
    ) -> std::result::Result<Vec<Row>, Stop> {
        use FetchDirection as D;
        let skipped = portal.cursor.as_ref().map_or(0, |c| c.skipped) as i64;
        let direction = match direction {
            D::Absolute(n) if n > 0 => D::Absolute((n - skipped).max(0)),
            other => other,
        };
        let at = portal.cursor.as_ref().map_or(0, |c| c.at) as i64;
        let need = match direction {
            D::Forward(n) | D::Relative(n) if n > 0 => at.saturating_add(n),
            D::Absolute(n) if n > 0 => n,
            D::ForwardAll => i64::MAX,
            D::Absolute(n) if n < 0 => i64::MAX,
            _ => 0,
        };
        self.keep_until(portal, usize::try_from(need).unwrap_or(0), out)?;
        let Some(cursor) = portal.cursor.as_mut() else {
            return Ok(Vec::new());
        };
        let len = cursor.kept.len() as i64;
        let row = |cursor: &Cursor, place: i64| -> Vec<Row> {
            let index = usize::try_from(place - 1).ok();
            index
                .and_then(|i| cursor.kept.get(i).cloned())
                .into_iter()
                .collect()
        };
        let clamp = |place: i64| usize::try_from(place.clamp(0, len + 1)).unwrap_or(0);
        Ok(match direction {
            D::Forward(0) | D::Relative(0) => row(cursor, at),
            D::Forward(n) if n > 0 => {
                let end = at.saturating_add(n).min(len);
                let rows = cursor.kept[clamp(at).min(cursor.kept.len())..clamp(end)].to_vec();
                cursor.at = clamp(at.saturating_add(n));
                rows
            }
            D::ForwardAll => {
                let from = clamp(at).min(cursor.kept.len());
                cursor.at = clamp(len + 1);
                cursor.kept[from..].to_vec()
            }
            D::Forward(n) => backward(cursor, at, n.saturating_neg()),
            D::BackwardAll => backward(cursor, at, i64::MAX),
            D::Relative(n) => {
                let place = at.saturating_add(n);
                cursor.at = clamp(place);
                row(cursor, place)
            }
            D::Absolute(n) => {
                let place = if n < 0 { len + 1 + n } else { n };
                cursor.at = clamp(place);
                row(cursor, place)
            }
        })
    }

    /// Fetches into the cursor's memory until it has this many rows.
    fn keep_until(
        &mut self,
        portal: &mut Portal,
        rows: usize,
        out: &mut dyn Output,
    ) -> std::result::Result<(), Stop> {
        loop {
            let Some(cursor) = portal.cursor.as_ref() else {
                return Ok(());
            };
            if cursor.complete || cursor.kept.len() >= rows {
                return Ok(());
            }
            let wanted = (rows - cursor.kept.len()).min(1_000) as u64;
            let (at, got) = (cursor.at, self.forward(portal, wanted, out)?);
            let Some(cursor) = portal.cursor.as_mut() else {
                return Ok(());
            };
            cursor.at = at;
            cursor.complete = (got.len() as u64) < wanted;
            cursor.kept_bytes += got.iter().map(|row| row.len() * 32).sum::<usize>();
            if cursor.kept_bytes > KEPT_BYTES_MAX {
                return Err(Error::new(
                    state::CONFIGURATION_LIMIT_EXCEEDED,
                    "the cursor holds too many rows",
                )
                .hint("Declare it without SCROLL and without HOLD.")
                .into());
            }
            cursor.kept.extend(got);
        }
    }

    /// The next rows of a portal.
    fn forward(
        &mut self,
        portal: &mut Portal,
        count: u64,
        _out: &mut dyn Output,
    ) -> std::result::Result<Vec<Row>, Stop> {
        let Some(mut inner) = portal.job.take() else {
            return Ok(Vec::new());
        };
        self.resume_snapshot(&mut inner);
        let result = self.take_rows(&mut inner, count);
        if matches!(inner.phase, Phase::Rows(_)) {
            self.suspend_snapshot(&mut inner);
        }
        portal.job = Some(inner);
        let rows = result?;
        if let Some(cursor) = portal.cursor.as_mut() {
            cursor.at += rows.len();
        }
        Ok(rows)
    }

    fn take_rows(&mut self, job: &mut Job, count: u64) -> std::result::Result<Vec<Row>, Stop> {
        let Phase::Rows(mut rows) = std::mem::replace(&mut job.phase, Phase::Start) else {
            job.phase = Phase::Done(String::new());
            return Ok(Vec::new());
        };
        let mut all = std::mem::take(&mut job.stash);
        let mut ended = false;
        let activity = Arc::clone(&self.activity);
        let result = self.exec(job, |cx| {
            while (all.len() as u64) < count {
                activity.check_interrupt()?;
                match rows.operator.next(cx)? {
                    Some(row) => all.push(row),
                    None => {
                        ended = true;
                        break;
                    }
                }
            }
            Ok(())
        });
        job.phase = if ended {
            Phase::Done(String::new())
        } else {
            Phase::Rows(rows)
        };
        result.map(|()| all)
    }

    /// COMMIT: holdable cursors keep the rest of their rows.
    pub(super) fn hold_cursors(&mut self) -> std::result::Result<(), Stop> {
        let names: Vec<String> = self
            .portals
            .iter()
            .filter(|(_, p)| p.cursor.as_ref().is_some_and(|c| c.hold && !c.held))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let Some(mut portal) = self.portals.remove(&name) else {
                continue;
            };
            if let Some(cursor) = portal.cursor.as_mut()
                && !cursor.scroll
            {
                cursor.skipped = std::mem::take(&mut cursor.at);
            }
            let result = self.keep_until(&mut portal, usize::MAX, &mut Silent);
            if let Some(cursor) = portal.cursor.as_mut() {
                cursor.held = true;
                cursor.complete = true;
            }
            if let Some(job) = portal.job.as_mut() {
                job.phase = Phase::Done(String::new());
                job.snapshot = crate::transaction::Snapshot::default();
            }
            self.portals.insert(name, portal);
            result?;
        }
        Ok(())
    }
}

fn backward(cursor: &mut Cursor, at: i64, count: i64) -> Vec<Row> {
    let first = at.saturating_sub(count).max(1);
    let mut rows = Vec::new();
    for place in (first..at).rev() {
        if let Some(row) = usize::try_from(place - 1)
            .ok()
            .and_then(|i| cursor.kept.get(i))
        {
            rows.push(row.clone());
        }
    }
    cursor.at = usize::try_from(at.saturating_sub(count).max(0)).unwrap_or(0);
    rows
}

fn scan_forward() -> Error {
    Error::new(
        state::OBJECT_NOT_IN_PREREQUISITE_STATE,
        "cursor can only scan forward",
    )
    .hint("Declare it with SCROLL option to enable backward scan.")
}

fn no_cursor(name: &str) -> Error {
    Error::new(
        state::INVALID_CURSOR_NAME,
        format!("cursor \"{name}\" does not exist"),
    )
}

/// Nobody listens.
struct Silent;

impl Output for Silent {
    fn columns(&mut self, _fields: &[Field]) {}
    fn row(&mut self, _write: &mut dyn FnMut(&mut Vec<u8>)) {}
    fn notice(&mut self, _severity: &'static str, _notice: &Error) {}
    fn parameter(&mut self, _name: &str, _value: &str) {}
    fn full(&self) -> bool {
        false
    }
}
