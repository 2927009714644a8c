//! COPY between the client and a table or query.

use std::sync::Arc;

use super::job::{Job, Phase, Rows};
use super::run::Ends;
use super::step::{Step, Waiting};
use super::{Output, Session};
use crate::catalog::{ColumnId, Privilege, RoleId, Table, TableKind};
use crate::copy::{Format, Kind, Reader, Record, Writer};
use crate::exec::{Row, TableWriter};
use crate::expr::Expr;
use crate::parse::{self, Copy, CopyHeader, CopySource, fold_name};
use crate::transaction::{Policy, Stop, TableMode, Wait};
use crate::types::text::quote_identifier;
use crate::types::{Datum, FormatSettings, Type};
use crate::{Error, Result, state};
use storage::GroupId;

/// Rows between two fresh snapshots of a long COPY, so that it does not hold old versions.
const ROWS_PER_SNAPSHOT: u64 = 4_096;

/// COPY TO under way: rows become lines.
pub(super) struct CopyOut {
    writer: Writer,
}

impl CopyOut {
    /// The header line before the first row: a message of its own, as PostgreSQL sends it.
    pub fn head(&mut self) -> Option<Vec<u8>> {
        let mut head = Vec::new();
        if !self.writer.is_binary() {
            self.writer.begin(&mut head);
        }
        (!head.is_empty()).then_some(head)
    }

    /// Appends a row, the beginning before the first.
    pub fn row(&mut self, row: &Row, settings: &FormatSettings, out: &mut Vec<u8>) {
        self.writer.begin(out);
        self.writer.row(row, settings, out);
    }

    /// What comes after the last row.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        self.writer.end(out);
    }
}

/// COPY FROM under way.
pub(super) struct CopyIn {
    job: Option<Box<Job>>,
    ends: Ends,
    table: Arc<Table>,
    writer: TableWriter,
    reader: Reader,
    format: Format,
    names: Vec<String>,
    /// Slots of the row, and types, by field.
    slots: Vec<usize>,
    types: Vec<Type>,
    given: Vec<bool>,
    condition: Option<Arc<Expr>>,
    /// Header lines still to come.
    header: bool,
    /// A row that waits for a lock.
    waiting: Option<Row>,
    count: u64,
    since_snapshot: u64,
    /// All data has come.
    done: bool,
    /// The rows are in; the end of the transaction is under way.
    finishing: bool,
}

impl CopyIn {
    /// Grows with each row that is in and each check that is made.
    fn progress(&self) -> u64 {
        self.count + self.writer.checked()
    }

    /// The job whose statement this is.
    pub fn take_job(&mut self, job: Box<Job>, ends: Ends) {
        self.job = Some(job);
        self.ends = ends;
    }
}

impl Session {
    /// Begins COPY in either direction.
    pub(super) fn begin_copy(
        &mut self,
        job: &mut Job,
        copy: &Copy,
    ) -> std::result::Result<Phase, Stop> {
        if !copy.standard {
            return Err(Error::new(
                state::INSUFFICIENT_PRIVILEGE,
                "COPY to or from a file or program is not allowed",
            )
            .hint("Use COPY ... FROM STDIN or TO STDOUT, or psql's \\copy.")
            .into());
        }
        self.ensure_transaction(false);
        match copy.from {
            true => self.begin_copy_in(copy),
            false => self.begin_copy_out(job, copy),
        }
    }

    fn begin_copy_out(&mut self, job: &mut Job, copy: &Copy) -> std::result::Result<Phase, Stop> {
        let catalog = self.fresh_catalog();
        let (query_text, query) = match &copy.source {
            CopySource::Query(query) => (Arc::clone(&job.prepared.text), (**query).clone()),
            CopySource::Table(name, columns) => {
                let table = self.resolve_table(&catalog, name)?;
                if matches!(table.kind, TableKind::View(_)) || table.projection.is_some() {
                    return Err(Error::new(
                        state::WRONG_OBJECT_TYPE,
                        format!(
                            "cannot copy from {} \"{}\"",
                            crate::catalog::kind(&table),
                            table.name
                        ),
                    )
                    .hint("Try the COPY (SELECT ...) TO variant.")
                    .into());
                }
                let parts = fold_name(name)?;
                let name: Vec<String> = parts.iter().map(|p| quote_identifier(p)).collect();
                let copied = columns;
                let columns: Vec<String> = match columns.is_empty() {
                    true => table
                        .live_columns()
                        .filter(|c| c.generated.is_none())
                        .map(|c| quote_identifier(&c.name))
                        .collect(),
                    false => columns.iter().map(|c| quote_identifier(c)).collect(),
                };
                let generated = |name: &&String| {
                    let column = table.column(name);
                    column.is_some_and(|c| c.generated.is_some())
                };
                if let Some(name) = copied.iter().find(generated) {
                    return Err(generated_column(name).into());
                }
                let text = format!("SELECT {} FROM {}", columns.join(", "), name.join("."));
                let parsed = parse::parse(&text)?.pop().map(|p| p.statement);
                let Some(parse::Statement::Query(query)) = parsed else {
                    return Err(Error::internal("COPY's query can't be read").into());
                };
                (text.into(), *query)
            }
        };
        let types = Arc::from([]);
        let planned = self.plan_text(&query_text, &query, &types, &catalog)?;
        if !planned.returns_rows {
            return Err(Error::new(
                state::FEATURE_NOT_SUPPORTED,
                "COPY query must have a RETURNING clause",
            )
            .into());
        }
        let names: Vec<String> = planned.columns.iter().map(|c| c.name.clone()).collect();
        let types = planned.columns.iter().map(|c| c.ty).collect();
        let format = Format::new(&copy.options, &names, false)?;
        self.lock_and_read(&planned)?;
        let writer = Writer::new(format, names, types);
        let (binary, columns) = (writer.is_binary(), writer.columns() as u16);
        let buffered = planned.is_buffered();
        let tx = self
            .transaction
            .as_mut()
            .expect("a transaction was ensured");
        let mark = buffered.then(|| tx.statement_mark());
        let opened = self.exec(job, |cx| crate::exec::open(&planned, Arc::from([]), cx));
        match opened {
            Ok(operator) => {
                job.columns = planned.columns.clone().into();
                job.planned = Some(planned);
                let copy = Some(Box::new(CopyOut { writer }));
                let rows = Rows {
                    operator,
                    buffered,
                    mark,
                    copy,
                };
                let step = Step::CopyOut { binary, columns };
                Ok(Phase::Announce(step, Box::new(Phase::Rows(rows))))
            }
            Err(stop) => {
                self.undo(mark)?;
                Err(stop)
            }
        }
    }

    fn begin_copy_in(&mut self, copy: &Copy) -> std::result::Result<Phase, Stop> {
        let catalog = self.fresh_catalog();
        let CopySource::Table(name, columns) = &copy.source else {
            return Err(Error::internal("COPY FROM needs a table").into());
        };
        let table = self.resolve_table(&catalog, name)?;
        if !table.is_ordinary() {
            let message = match table.kind {
                TableKind::Table => format!("cannot copy to materialized view \"{}\"", table.name),
                TableKind::View(_) => format!("cannot copy to view \"{}\"", table.name),
                _ => format!("cannot copy to non-table relation \"{}\"", table.name),
            };
            return Err(Error::new(state::WRONG_OBJECT_TYPE, message).into());
        }
        if table.is_inbox() {
            return Err(Error::unsupported("COPY into an inbox")
                .hint("INSERT the commands.")
                .into());
        }
        let target = Target::new(&table, columns)?;
        catalog.may(
            self.user.current,
            &table,
            Privilege::Insert,
            Some(&target.ids),
        )?;
        let format = Format::new(&copy.options, &target.names, true)?;
        let condition = match &copy.condition {
            None => None,
            Some(expr) => {
                let expr = crate::plan::compile_expression(&expr.to_string(), &table, &catalog)?;
                Some(expr)
            }
        };
        let writer = TableWriter::new(crate::plan::writer(&catalog, table.id)?);
        let (group, own) = (table.group, self.own_role());
        let tx = self
            .transaction
            .as_mut()
            .expect("a transaction was ensured");
        if tx.read_only() {
            return Err(super::environment::read_only("COPY FROM").into());
        }
        tx.lock_table(group, table.tree, TableMode::RowExclusive, Policy::Wait)?;
        tx.begin_statement(own, &[group], Some(group))?;
        let binary = format.kind == Kind::Binary;
        let step = Step::CopyIn {
            binary,
            columns: target.slots.len() as u16,
        };
        self.copy = Some(Box::new(CopyIn {
            job: None,
            ends: Ends::Later,
            writer,
            reader: Reader::new(format.clone()),
            header: format.header != CopyHeader::Off && !binary,
            format,
            names: target.names,
            given: target.given,
            slots: target.slots,
            types: target.types,
            table,
            condition,
            waiting: None,
            count: 0,
            since_snapshot: 0,
            done: false,
            finishing: false,
        }));
        Ok(Phase::Announce(step, Box::new(Phase::Start)))
    }

    /// CopyData. `Step::More`: give the next message. After `Step::Wait` call again with no data.
    ///
    /// # Errors
    /// The statement's; the rest of the client's data is to be passed over.
    pub fn copy_data(&mut self, data: &[u8]) -> Result<Step> {
        let Some(mut copy) = self.copy.take() else {
            return Err(not_copying());
        };
        match self.copy_rows(&mut copy, data) {
            Ok(None) => {
                self.copy = Some(copy);
                Ok(Step::More)
            }
            Ok(Some(waiting)) => {
                self.copy = Some(copy);
                Ok(Step::Wait(waiting))
            }
            Err(error) => {
                self.fail_now();
                self.simple = None;
                Err(error)
            }
        }
    }

    /// CopyDone. Call again after `Step::Wait`.
    ///
    /// # Errors
    /// The statement's.
    pub fn copy_done(&mut self, out: &mut dyn Output) -> Result<Step> {
        let Some(mut copy) = self.copy.take() else {
            return Err(not_copying());
        };
        let step = self.copy_end(&mut copy, out);
        match &step {
            Ok(Step::Wait(_)) => self.copy = Some(copy),
            Ok(_) => {}
            Err(_) => self.simple = None,
        }
        step
    }

    /// CopyFail.
    ///
    /// # Errors
    /// Always: 57014.
    pub fn copy_fail(&mut self, message: &str) -> Result<Step> {
        self.copy_abort(Error::new(
            state::QUERY_CANCELED,
            format!("COPY from stdin failed: {message}"),
        ))
    }

    /// The COPY ends with this error (an interrupt came while its data was waited for).
    ///
    /// # Errors
    /// That one.
    pub fn copy_abort(&mut self, error: Error) -> Result<Step> {
        let copy = self.copy.take();
        self.simple = None;
        self.fail_now();
        Err(match copy {
            Some(copy) => {
                let (table, line) = (&copy.table.name, copy.reader.line() + 1);
                error.context(format!("COPY {table}, line {line}"))
            }
            None => error,
        })
    }

    fn copy_end(&mut self, copy: &mut CopyIn, out: &mut dyn Output) -> Result<Step> {
        if !copy.finishing {
            if !copy.done {
                copy.reader.finish();
                copy.done = true;
            }
            match self.copy_rows(copy, &[]) {
                Ok(None) => {}
                Ok(Some(waiting)) => return Ok(Step::Wait(waiting)),
                Err(error) => {
                    self.fail_now();
                    return Err(error);
                }
            }
            let Some(job) = copy.job.as_mut() else {
                return Err(not_copying());
            };
            let (group, own) = (copy.table.group, self.own_role());
            let CopyIn {
                writer,
                since_snapshot,
                ..
            } = copy;
            let before = writer.checked();
            let finished = self
                .renew_snapshot(group, own, since_snapshot)
                .and_then(|()| self.exec(job, |cx| writer.finish(cx)));
            if writer.checked() != before {
                job.lock_deadline = None;
            }
            match finished {
                Ok(()) => {}
                Err(Stop::Error(error)) => {
                    self.fail_now();
                    return Err(error);
                }
                Err(Stop::Wait(wait) | Stop::Pause(wait)) => {
                    if let Wait::Again = wait {
                        *since_snapshot = ROWS_PER_SNAPSHOT;
                    }
                    let waiting = self.waiting(job, wait);
                    if waiting.is_err() {
                        self.fail_now();
                    }
                    return waiting.map(Step::Wait);
                }
            }
            if let Err(Stop::Error(error)) = self.carry_out_effects(out) {
                self.fail_now();
                return Err(error);
            }
            copy.finishing = true;
            job.phase = Phase::Made(format!("COPY {}", copy.count));
        }
        let ends = copy.ends;
        let Some(job) = copy.job.as_mut() else {
            return Err(not_copying());
        };
        self.run(job, ends, 0, out)
    }

    /// Takes data in and writes all whole rows.
    fn copy_rows(&mut self, copy: &mut CopyIn, data: &[u8]) -> Result<Option<Waiting>> {
        copy.reader.push(data).map_err(|e| located(copy, e))?;
        let Some(mut job) = copy.job.take() else {
            return Err(not_copying());
        };
        let before = copy.progress();
        let result = self.write_rows(copy, &job);
        if copy.progress() != before {
            // The lock that was waited for is held; another row waits for another one.
            job.lock_deadline = None;
        }
        let answer = match result {
            Ok(()) => Ok(None),
            Err(Stop::Error(error)) => Err(error),
            Err(Stop::Wait(wait) | Stop::Pause(wait)) => {
                let waiting = self.waiting(&mut job, wait);
                // The line itself may have left the reader's buffer.
                let (table, line) = (&copy.table.name, copy.reader.line());
                waiting
                    .map(Some)
                    .map_err(|error| error.context(format!("COPY {table}, line {line}")))
            }
        };
        copy.job = Some(job);
        answer
    }

    fn write_rows(&mut self, copy: &mut CopyIn, job: &Job) -> std::result::Result<(), Stop> {
        let format = self.format();
        loop {
            self.activity.check_interrupt()?;
            self.copy_snapshot(copy)?;
            // Many rows per set of surroundings.
            let more = self.exec(job, |cx| {
                copy.writer.check(cx)?;
                for _ in 0..256 {
                    let row = match copy.waiting.take() {
                        Some(row) => row,
                        None => match next_row(copy, &format)? {
                            Some(row) => row,
                            None => return Ok(false),
                        },
                    };
                    if let Some(condition) = &copy.condition {
                        let frame = crate::expr::Frame::new(Arc::from([]));
                        let value = condition.eval(&row, &frame, cx)?;
                        if !matches!(value, Datum::Bool(true)) {
                            continue;
                        }
                    }
                    let mark = cx.transaction.statement_mark();
                    let left = cx.evaluation.environment.left();
                    let mut full = row.clone();
                    let written = copy.writer.insert(&mut full, &copy.given, cx);
                    match written {
                        Ok(inserted) => {
                            cx.transaction.unmark();
                            copy.count += u64::from(inserted);
                        }
                        Err(stop) => {
                            cx.evaluation.environment.take_back(left);
                            cx.transaction
                                .undo_to(&mark, crate::transaction::Locks::Keep)?;
                            cx.transaction.unmark();
                            return Err(match stop {
                                Stop::Error(error) => located(copy, error).into(),
                                Stop::Wait(wait) | Stop::Pause(wait) => {
                                    copy.waiting = Some(row);
                                    Stop::Wait(wait)
                                }
                            });
                        }
                    }
                    copy.since_snapshot += 1;
                }
                Ok(true)
            });
            match more {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                // What its functions have turned out to read is in the next snapshot.
                Err(Stop::Wait(Wait::Again)) => copy.since_snapshot = ROWS_PER_SNAPSHOT,
                Err(stop) => return Err(stop),
            }
        }
    }

    /// A long COPY under READ COMMITTED reads at a newer snapshot now and then.
    fn copy_snapshot(&mut self, copy: &mut CopyIn) -> std::result::Result<(), Stop> {
        let (group, own) = (copy.table.group, self.own_role());
        self.renew_snapshot(group, own, &mut copy.since_snapshot)
    }

    fn renew_snapshot(
        &mut self,
        group: GroupId,
        own: Option<RoleId>,
        since_snapshot: &mut u64,
    ) -> std::result::Result<(), Stop> {
        if *since_snapshot < ROWS_PER_SNAPSHOT {
            return Ok(());
        }
        *since_snapshot = 0;
        if self.transaction.is_none() {
            return Ok(());
        }
        // Its own table is locked; tables that keys and triggers come to are as they are now.
        self.fresh_catalog();
        let Some(tx) = self.transaction.as_mut() else {
            return Ok(());
        };
        match tx.begin_statement(own, &[group], Some(group)) {
            // The table is locked: other tables' DDL is none of its business.
            Ok(()) | Err(Stop::Wait(Wait::Again)) => Ok(()),
            Err(stop) => Err(stop),
        }
    }
}

/// The columns that COPY FROM fills.
struct Target {
    names: Vec<String>,
    ids: Vec<ColumnId>,
    slots: Vec<usize>,
    types: Vec<Type>,
    given: Vec<bool>,
}

fn generated_column(name: &str) -> Error {
    Error::new(
        state::INVALID_COLUMN_REFERENCE,
        format!("column \"{name}\" is a generated column"),
    )
    .detail("Generated columns cannot be used in COPY.")
}

impl Target {
    fn new(table: &Table, columns: &[String]) -> Result<Target> {
        let mut target = Target {
            names: Vec::new(),
            ids: Vec::new(),
            slots: Vec::new(),
            types: Vec::new(),
            given: vec![false; table.columns.len()],
        };
        let live = table.columns.iter().enumerate().filter(|(_, c)| !c.dropped);
        let chosen: Vec<usize> = if columns.is_empty() {
            live.filter(|(_, c)| c.generated.is_none())
                .map(|(at, _)| at)
                .collect()
        } else {
            let find = |name: &String| {
                let found = table
                    .columns
                    .iter()
                    .position(|c| !c.dropped && c.name == *name);
                found.ok_or_else(|| {
                    Error::new(
                        state::UNDEFINED_COLUMN,
                        format!(
                            "column \"{name}\" of relation \"{}\" does not exist",
                            table.name
                        ),
                    )
                })
            };
            columns.iter().map(find).collect::<Result<_>>()?
        };
        for at in chosen {
            let column = &table.columns[at];
            if column.generated.is_some() {
                return Err(generated_column(&column.name));
            }
            if std::mem::replace(&mut target.given[at], true) {
                return Err(Error::new(
                    state::DUPLICATE_COLUMN,
                    format!("column \"{}\" specified more than once", column.name),
                ));
            }
            target.names.push(column.name.clone());
            target.ids.push(column.id);
            target.slots.push(at);
            target.types.push(column.ty);
        }
        Ok(target)
    }
}

/// The next record as a row of the table; `None` = more data is needed, or the end.
fn next_row(copy: &mut CopyIn, settings: &FormatSettings) -> Result<Option<Row>> {
    loop {
        let CopyIn {
            reader,
            format,
            names,
            slots,
            types,
            table,
            header,
            ..
        } = copy;
        let result = reader.record();
        let record = match result {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(None),
            Err(error) => return Err(located(copy, error)),
        };
        if std::mem::take(header) {
            if format.header == CopyHeader::Match
                && let Err(error) = match_header(record, names)
            {
                return Err(located(copy, error));
            }
            continue;
        }
        let wide = table.columns.len();
        match decode(record, format, names, slots, types, wide, settings) {
            Ok(row) => return Ok(Some(row)),
            Err((error, field)) => {
                let context = match field {
                    None => return Err(located(copy, error)),
                    Some((name, None)) => format!(", column {name}"),
                    Some((name, Some(value))) => format!(", column {name}: \"{value}\""),
                };
                let (table, line) = (&copy.table.name, copy.reader.line());
                return Err(error.context(format!("COPY {table}, line {line}{context}")));
            }
        }
    }
}

type Misread = (Error, Option<(String, Option<String>)>);

fn decode(
    record: &Record,
    format: &Format,
    names: &[String],
    slots: &[usize],
    types: &[Type],
    wide: usize,
    settings: &FormatSettings,
) -> std::result::Result<Row, Misread> {
    let bad = |message: String| Error::new(state::BAD_COPY_FILE_FORMAT, message);
    if record.len() > slots.len() {
        let message = match format.kind {
            Kind::Binary => {
                format!(
                    "row field count is {}, expected {}",
                    record.len(),
                    slots.len()
                )
            }
            _ => "extra data after last expected column".to_owned(),
        };
        return Err((bad(message), None));
    }
    let mut row: Row = vec![Datum::Null; wide];
    for (at, slot) in slots.iter().enumerate() {
        if at >= record.len() {
            let message = match format.kind {
                Kind::Binary => {
                    format!(
                        "row field count is {}, expected {}",
                        record.len(),
                        slots.len()
                    )
                }
                _ => format!("missing data for column \"{}\"", names[at]),
            };
            return Err((bad(message), None));
        }
        let Some(bytes) = record.field(at) else {
            continue;
        };
        let value = match format.kind {
            Kind::Binary => Datum::from_binary(bytes, types[at], settings)
                .map_err(|e| (e, Some((names[at].clone(), None))))?,
            Kind::Text | Kind::Csv => {
                let field = std::str::from_utf8(bytes)
                    .ok()
                    .filter(|t| !t.contains('\0'));
                let Some(field) = field else {
                    let error = Error::new(
                        state::CHARACTER_NOT_IN_REPERTOIRE,
                        "invalid byte sequence for encoding \"UTF8\"",
                    );
                    return Err((error, None));
                };
                let shown = || Some(field.chars().take(100).collect::<String>());
                Datum::from_input(field, types[at], settings)
                    .map_err(|e| (e, Some((names[at].clone(), shown()))))?
            }
        };
        row[*slot] = value;
    }
    Ok(row)
}

fn match_header(record: &Record, names: &[String]) -> Result<()> {
    let bad = |message: String| Err(Error::new(state::BAD_COPY_FILE_FORMAT, message));
    if record.len() != names.len() {
        return bad(format!(
            "wrong number of fields in header line: got {}, expected {}",
            record.len(),
            names.len()
        ));
    }
    for (at, name) in names.iter().enumerate() {
        if record.field(at) != Some(name.as_bytes()) {
            let found = record
                .field(at)
                .map(String::from_utf8_lossy)
                .unwrap_or_default();
            return bad(format!(
                "column name mismatch in header line field {}: got \"{found}\", expected \
                 \"{name}\"",
                at + 1
            ));
        }
    }
    Ok(())
}

/// Adds the place in the data to an error.
fn located(copy: &CopyIn, error: Error) -> Error {
    if error.0.context.is_some() {
        return error;
    }
    let (table, line) = (&copy.table.name, copy.reader.line());
    let context = match copy.format.kind {
        Kind::Binary => format!("COPY {table}, line {line}"),
        _ => format!("COPY {table}, line {line}: \"{}\"", copy.reader.text()),
    };
    error.context(context)
}

fn not_copying() -> Error {
    Error::new(state::PROTOCOL_VIOLATION, "no COPY is in progress")
}
