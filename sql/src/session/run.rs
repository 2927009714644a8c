//! Running one statement: attempts, rows, the end of its transaction, its answer.

use std::sync::Arc;

use storage::GroupId;

use super::environment::{Need, Surroundings};
use super::finish::Chain;
use super::job::{Job, Phase, Rows};
use super::prepared::{Fresh, Prepared};
use super::step::{Step, Waiting};
use super::{Output, Session, encode};
use crate::bind::row_lock_name;
use crate::catalog::{Catalog, RoleId};
use crate::exec::{self, ExecCx};
use crate::functions::Evaluation;
use crate::parse::{Statement, TransactionStatement};
use crate::plan::{self, BindCx, Planned, Tag};
use crate::session::activity::Doing;
use crate::session::plans::Key;
use crate::transaction::{EventKind, Policy, Stop, TableMode, Transaction, Wait, leader_changed};
use crate::{Error, Result, state};

/// Bytes of rows kept back until a statement is over. Above it they leave at once, and the
/// statement can't begin again.
const BUFFER_BYTES_MAX: usize = 64 << 20;

/// Whether a statement is a transaction by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// It is, unless a block is open.
    Now,
    /// Sync, COMMIT or a later statement ends it.
    Later,
}

/// How a call of `rows` ended.
enum Made {
    All,
    /// The row limit of Execute.
    Limit,
    /// The client is slow.
    Full,
    /// The source of an endless stream has nothing now.
    Pause(Wait),
}

impl Session {
    /// Runs a job until it has an answer or must wait. `max`: rows wanted, 0 = all.
    pub(super) fn run(
        &mut self,
        job: &mut Job,
        ends: Ends,
        max: u64,
        out: &mut dyn Output,
    ) -> Result<Step> {
        loop {
            let phase = std::mem::replace(&mut job.phase, Phase::Start);
            if !self.roomy && job.is_heavy(&phase) {
                job.phase = phase;
                return Ok(Step::Heavy);
            }
            let step = match phase {
                Phase::Start => match self.begin(job, out) {
                    Ok(phase) => {
                        job.phase = phase;
                        continue;
                    }
                    Err(stop) => self.stopped(job, None, stop),
                },
                Phase::Rows(rows) => self.make_rows(job, rows, max, out),
                Phase::Made(tag) => self.made(job, tag, ends),
                Phase::Flush(tag) => self.flush(job, tag, max, out),
                Phase::Holding(mut holding, result) => match self.hold_answer(job, &mut holding) {
                    Ok(Some(waiting)) => {
                        job.phase = Phase::Holding(holding, result);
                        return Ok(Step::Wait(waiting));
                    }
                    Err(error) => match self.begin_anew_after(&error) {
                        Some(group) => Some(Ok(Step::Elsewhere(group))),
                        None => {
                            self.fail_now();
                            Some(Err(error))
                        }
                    },
                    Ok(None) => {
                        self.warn_of(&mut holding, out);
                        match result {
                            Ok(tag) => {
                                job.phase = Phase::Flush(tag);
                                None
                            }
                            Err(error) => {
                                self.tell(std::mem::take(&mut job.raised), out);
                                Some(Err(error))
                            }
                        }
                    }
                },
                Phase::Announce(step, then) => {
                    job.phase = *then;
                    Some(Ok(step))
                }
                Phase::Done(tag) => {
                    job.phase = Phase::Done(tag.clone());
                    self.note_duration(job);
                    Some(Ok(Step::Done { tag }))
                }
            };
            if let Some(step) = step {
                if step.is_err() {
                    self.engine.meter().failed(self.activity.process());
                }
                return step;
            }
        }
    }

    /// Begins a statement, or begins it again.
    fn begin(&mut self, job: &mut Job, out: &mut dyn Output) -> std::result::Result<Phase, Stop> {
        job.deferred = self.deferred.len();
        if job.begun == 0 {
            let spent = std::mem::take(&mut self.spent);
            job.begun = self.engine.clock().unix_micros().saturating_sub(spent);
            self.turn.begin_statement();
            if let Some(tx) = &mut self.transaction {
                tx.next_statement();
            }
            self.activity.clear();
            self.effects.borrow_mut().begin();
            self.show_query(job);
        } else {
            self.effects.borrow_mut().restart();
        }
        self.check_interrupt(job)?;
        let prepared = Arc::clone(&job.prepared);
        let statement = prepared.statement();
        if self.failed && !ends_failure(statement) {
            return Err(Stop::Error(aborted()));
        }
        if self.lost {
            self.tell_loss(statement)?;
        }
        if let Some(wait) = self.token_wait() {
            return Err(Stop::Wait(wait));
        }
        match statement {
            Statement::Query(query) => self.begin_query(job, query),
            other => self.begin_utility(job, other, out),
        }
    }

    /// The first statement in a block that was lost with another node, and each that goes back to one of its
    /// savepoints.
    ///
    /// # Errors
    /// 40001, unless it is what the client would do then.
    fn tell_loss(&mut self, statement: &Statement) -> Result<()> {
        match statement {
            Statement::Empty => Ok(()),
            Statement::Transaction(TransactionStatement::Rollback { .. }) => Ok(()),
            // It knew that it would.
            Statement::Transaction(TransactionStatement::Commit { .. }) if self.failed => Ok(()),
            Statement::Transaction(TransactionStatement::Commit { .. }) => {
                let holding = self.rollback(Chain::No);
                self.owed = Some(holding);
                Err(leader_changed().begins_anew(false))
            }
            // Of the block's other statements the client was told.
            _ => Err(leader_changed().begins_anew(false)),
        }
    }

    fn show_query(&self, job: &Job) {
        let (now, query) = (self.engine.now(), Arc::clone(&job.prepared.text));
        let begun = crate::engine::since_2000(job.begun);
        self.activity.update(|shown| {
            shown.doing = Doing::Active;
            shown.query = query;
            shown.query_started = Some(begun);
            shown.changed = now;
        });
    }

    pub(super) fn check_interrupt(&self, job: &Job) -> Result<()> {
        self.activity.check_interrupt()?;
        let timeout = self.effective.statement_timeout;
        if timeout > 0 && self.engine.clock().unix_micros() >= job.begun.saturating_add(timeout) {
            return Err(statement_timeout());
        }
        Ok(())
    }

    /// Binds, locks the tables, takes the snapshot, opens the plan.
    pub(super) fn begin_query(
        &mut self,
        job: &mut Job,
        query: &sqlparser::ast::Statement,
    ) -> std::result::Result<Phase, Stop> {
        self.ensure_transaction(false);
        let catalog = self.fresh_catalog();
        let planned = self.planned(&Arc::clone(&job.prepared), query, &catalog)?;
        if planned.sends {
            // Made with the role's first command.
            self.engine.owner_group(self.user.current)?;
            if planned.writes.is_none() {
                return Err(Stop::again());
            }
        }
        if self
            .transaction
            .as_ref()
            .is_some_and(Transaction::read_only)
            && (planned.writes.is_some() || planned.locks_rows)
        {
            return Err(super::environment::read_only(command(&planned, query)).into());
        }
        job.returns_rows = planned.returns_rows;
        job.columns = planned.columns.clone().into();
        self.lock_and_read(&planned)?;
        let buffered = planned.is_buffered();
        let tx = self
            .transaction
            .as_mut()
            .expect("a transaction was ensured");
        let mark = buffered.then(|| tx.statement_mark());
        let parameters = Arc::clone(&job.parameters);
        let opened = self.exec(job, |cx| exec::open(&planned, parameters, cx));
        let rows = |operator| Rows {
            operator,
            buffered,
            mark: mark.clone(),
            copy: None,
        };
        match opened {
            Ok(operator) => {
                job.planned = Some(planned);
                Ok(Phase::Rows(rows(operator)))
            }
            Err(stop) => {
                self.undo(mark)?;
                Err(stop)
            }
        }
    }

    /// The newest catalog, with `search_path` resolved in it.
    pub(super) fn fresh_catalog(&mut self) -> Arc<Catalog> {
        let tx = self
            .transaction
            .as_mut()
            .expect("a transaction was ensured");
        tx.refresh_catalog();
        let (catalog, own_ddl) = (Arc::clone(tx.catalog()), tx.has_ddl());
        self.resolve_path(&catalog, own_ddl);
        catalog
    }

    /// The role whose own tables nothing that is said elsewhere takes away from this session. Who
    /// acts for another role may not be allowed to any more.
    pub(super) fn own_role(&self) -> Option<RoleId> {
        let user = &self.user;
        (user.login == user.current).then_some(user.current)
    }

    /// Locks the tables that a plan uses, then takes the snapshot that belongs to the catalog.
    pub(super) fn lock_and_read(&mut self, planned: &Planned) -> std::result::Result<(), Stop> {
        let (autocommit, role) = (!self.block, self.user.current);
        let tx = self
            .transaction
            .as_mut()
            .expect("a transaction was ensured");
        let mut groups: Vec<GroupId> = Vec::with_capacity(planned.tables.len());
        for table in &planned.tables {
            if !groups.contains(&table.group) {
                groups.push(table.group);
            }
            // A keyed read by itself is over before a DROP could matter to it.
            let bare = table.mode == TableMode::AccessShare && autocommit && planned.keyed;
            let leads = tx.leads(table.group);
            if table.mode != TableMode::AccessShare && !leads {
                tx.may_write(planned.writes)?;
                return Err(Stop::Wait(Wait::Leader(table.group)));
            }
            if !bare && leads {
                tx.lock_table(table.group, table.tree, table.mode, Policy::Wait)?;
            }
            let reader = match leads {
                true => role,
                false => tx.reader(role, table),
            };
            if !leads && let Err(wait) = tx.bring(reader, table.group, table.tree) {
                // Own tables are not brought: the session goes where they are.
                let own = self.engine.catalog().group_of(role) == Some(table.group);
                return Err(match own && self.goes_home(table.group) {
                    true => Stop::Wait(Wait::Leader(table.group)),
                    false => wait,
                });
            }
        }
        let elsewhere = planned.remote.iter().filter(|id| !groups.contains(id));
        let elsewhere: Vec<GroupId> = elsewhere.copied().collect();
        groups.extend(elsewhere);
        let writes = planned.writes.or_else(|| match planned.locks_rows {
            true => groups.first().copied(),
            false => None,
        });
        self.take_snapshot(groups, writes, &planned.tables)?;
        self.note_reads(planned);
        self.tell_sunsets(planned);
        Ok(())
    }

    /// Takes the snapshot of a statement that reads these groups, writes (or locks rows of) one, and
    /// uses these tables; with what its functions were found to use.
    pub(super) fn take_snapshot(
        &mut self,
        mut groups: Vec<GroupId>,
        writes: Option<GroupId>,
        tables: &[plan::TableUse],
    ) -> std::result::Result<(), Stop> {
        let own = self.own_role();
        let tx = self
            .transaction
            .as_mut()
            .expect("a transaction was ensured");
        let (also, also_writes) = tx.also_used();
        let also = also.iter().filter(|id| !groups.contains(id));
        let also: Vec<GroupId> = also.copied().collect();
        groups.extend(also);
        let writes = writes.or(also_writes);
        let fresh = !tx.keeps_snapshot();
        tx.begin_statement(own, &groups, writes)?;
        if !fresh {
            for table in tables {
                tx.check_unchanged(table.group, table.table)?;
            }
        }
        match fresh {
            true => self.prove_snapshot(&groups, writes)?,
            false => self.prove_kept(&groups, writes)?,
        }
        self.has_read(&groups);
        Ok(())
    }

    /// A statement's plan: its own last one, one of the cache, or a new one.
    ///
    /// # Errors
    /// What binding finds, and 0A000 if it would answer with other columns than promised.
    pub(super) fn planned(
        &mut self,
        prepared: &Prepared,
        query: &sqlparser::ast::Statement,
        catalog: &Arc<Catalog>,
    ) -> Result<Arc<Planned>> {
        let (role, login) = (self.user.current, self.user.session);
        let format = self.effective.format_key;
        if let Some(fresh) = prepared.fresh.lock().as_ref()
            && Arc::ptr_eq(&fresh.catalog, catalog)
            && Arc::ptr_eq(&fresh.path, &self.path.schemas)
            && (fresh.role, fresh.login, fresh.format) == (role, login, format)
            && fresh.planned.is_placed(self.engine.as_ref())
        {
            return Ok(Arc::clone(&fresh.planned));
        }
        let text = Arc::clone(&prepared.text);
        let types = Arc::clone(&prepared.parameters);
        let planned = self.plan_text(&text, query, &types, catalog)?;
        prepared.keeps_promise(&planned)?;
        *prepared.fresh.lock() = Some(Fresh {
            catalog: Arc::clone(catalog),
            role,
            login,
            path: Arc::clone(&self.path.schemas),
            format,
            planned: Arc::clone(&planned),
        });
        Ok(planned)
    }

    /// Plans a text for the present role, path and settings, with the node's cache.
    pub(super) fn plan_text(
        &mut self,
        text: &Arc<str>,
        query: &sqlparser::ast::Statement,
        types: &Arc<[crate::types::Type]>,
        catalog: &Arc<Catalog>,
    ) -> Result<Arc<Planned>> {
        self.plan_as(self.user.current, text, query, types, catalog)
    }

    /// The same with another role's rights.
    pub(super) fn plan_as(
        &mut self,
        role: RoleId,
        text: &Arc<str>,
        query: &sqlparser::ast::Statement,
        types: &Arc<[crate::types::Type]>,
        catalog: &Arc<Catalog>,
    ) -> Result<Arc<Planned>> {
        let key = Key {
            text: Arc::clone(text),
            role,
            login: self.user.session,
            path: Arc::clone(&self.path.schemas),
            types: Arc::clone(types),
            format: self.effective.format_key,
        };
        let own_ddl = self.transaction.as_ref().is_some_and(|tx| tx.has_ddl());
        if !own_ddl
            && let Some(planned) = self.engine.plans().get(&key, catalog)
            && planned.is_placed(self.engine.as_ref())
        {
            return Ok(planned);
        }
        let format = self.format();
        let cx = BindCx {
            role,
            login: self.user.session,
            path: &self.path.schemas,
            text,
            parameter_types: types,
            format: &format,
            registry: self.engine.as_ref(),
            variables: None,
        };
        let planned = plan::plan(query, catalog, &cx)?;
        if !own_ddl {
            self.engine.plans().put(key, catalog, &planned);
        }
        Ok(planned)
    }

    /// What text forms depend on, now.
    pub(super) fn format(&self) -> crate::types::FormatSettings {
        let started = self.transaction.as_ref().map(|tx| tx.started());
        let started = started.unwrap_or_else(|| self.engine.clock().unix_micros());
        crate::types::FormatSettings {
            transaction_start: crate::engine::since_2000(started),
            names: self.path.names.clone(),
            ..self.effective.format.clone()
        }
    }

    /// Runs a piece of execution with the session's surroundings.
    pub(super) fn exec<R>(
        &mut self,
        job: &Job,
        run: impl FnOnce(&mut ExecCx<'_>) -> std::result::Result<R, Stop>,
    ) -> std::result::Result<R, Stop> {
        let format = self.format();
        let text = Arc::clone(&job.prepared.text);
        let begun = crate::engine::since_2000(job.begun);
        let result = {
            let tx = self.transaction.as_mut().expect("a transaction is open");
            let catalog = Arc::clone(tx.catalog());
            let surroundings = Surroundings {
                engine: &self.engine,
                catalog: &catalog,
                user: &self.user,
                values: &self.values,
                path: &self.path.schemas,
                effects: &self.effects,
                memory: &self.memory,
                activity: &self.activity,
                database: &self.database,
                token: &self.token,
                text: &text,
                read_only: tx.read_only(),
                writing: tx.writing(),
                isolation: tx.isolation().name(),
                statements: &self.statements,
                portals: &self.portals,
            };
            let mut cx = ExecCx {
                transaction: tx,
                catalog: &catalog,
                role: self.user.current,
                login: self.user.session,
                path: &self.path.schemas,
                cancel: self.activity.cancel_flag(),
                work_mem: self.effective.work_mem,
                evaluation: Evaluation::new(&format, begun, &surroundings),
                locals: Vec::new(),
                deferred: &mut self.deferred,
                ticks: 0,
                calls: crate::plpgsql::Calls::new(self.effective.format_key),
            };
            run(&mut cx)
        };
        match result {
            Err(Stop::Error(error)) => Err(self.needed(error)),
            other => other,
        }
    }

    /// An error may be a function's way of saying that it must wait.
    fn needed(&mut self, error: Error) -> Stop {
        let need = self.effects.borrow_mut().need.take();
        match need {
            None => Stop::Error(error),
            Some(Need::Wait(wait)) => Stop::Wait(wait),
            Some(Need::Id) => match self.give_id() {
                Ok(()) => Stop::again(),
                Err(stop) => stop,
            },
        }
    }

    fn give_id(&mut self) -> std::result::Result<(), Stop> {
        let tx = self.transaction.as_mut().expect("a transaction is open");
        let id = tx.id()?;
        self.effects.borrow_mut().txid = Some(id);
        self.activity.update(|shown| shown.txid = Some(id));
        Ok(())
    }

    /// Makes rows until the statement is over, the limit is reached or the client is full.
    fn make_rows(
        &mut self,
        job: &mut Job,
        mut rows: Rows,
        max: u64,
        out: &mut dyn Output,
    ) -> Option<Result<Step>> {
        if job.announce && !rows.buffered && job.returns_rows && rows.copy.is_none() {
            job.announce = false;
            out.columns(&encode::fields(&job.columns, |at| job.format(at)));
        }
        match self.pull(job, &mut rows, max, out) {
            Ok(Made::All) => {
                let affected = rows.operator.affected();
                job.affected.get_or_insert(affected);
                match self.finish_statement(job, &mut rows, out) {
                    Ok(phase) => {
                        job.phase = phase;
                        None
                    }
                    Err(stop) => self.stopped(job, Some(rows), stop),
                }
            }
            Ok(Made::Limit) => {
                // Each Execute counts its own; calls that only go on count on.
                job.sent = 0;
                job.phase = Phase::Rows(rows);
                Some(Ok(Step::Suspended))
            }
            Ok(Made::Full) => {
                job.phase = Phase::Rows(rows);
                Some(Ok(Step::More))
            }
            Ok(Made::Pause(wait)) => {
                job.phase = Phase::Rows(rows);
                if let Err(error) = self.check_interrupt(job) {
                    return self.fail(job, error);
                }
                let wait = match self.meet_here(wait) {
                    Ok(wait) => wait,
                    Err(error) => return self.fail(job, error),
                };
                let until = self.deadline(job, &wait);
                let waiting = Waiting::new(&self.engine, wait, until);
                Some(Ok(Step::Wait(waiting.within_stream())))
            }
            Err(stop) => self.stopped(job, Some(rows), stop),
        }
    }

    fn pull(
        &mut self,
        job: &mut Job,
        rows: &mut Rows,
        max: u64,
        out: &mut dyn Output,
    ) -> std::result::Result<Made, Stop> {
        // Time goes on while the client reads what a statement has said so far.
        self.check_interrupt(job)?;
        let activity = Arc::clone(&self.activity);
        let format = self.format();
        let columns = Arc::clone(&job.columns);
        let mut buffer = std::mem::take(&mut job.buffer);
        let mut sent = job.sent;
        let returns = job.returns_rows;
        let formats = job.formats.clone();
        let format_of = |at: usize| match formats.as_slice() {
            [] => 0,
            [one] => *one,
            many => many.get(at).copied().unwrap_or(0),
        };
        let Rows {
            operator,
            buffered,
            copy,
            ..
        } = rows;
        let result = self.exec(job, |cx| {
            loop {
                if !*buffered && max > 0 && sent >= max {
                    return Ok(Made::Limit);
                }
                if !*buffered && out.full() {
                    return Ok(Made::Full);
                }
                activity.check_interrupt()?;
                let row = match operator.next(cx) {
                    Ok(Some(row)) => row,
                    Ok(None) => return Ok(Made::All),
                    Err(Stop::Pause(wait)) => return Ok(Made::Pause(wait)),
                    Err(stop) => return Err(stop),
                };
                sent += 1;
                if !returns && copy.is_none() {
                    continue;
                }
                if let Some(head) = copy.as_mut().and_then(|copy| copy.head()) {
                    match *buffered {
                        true => buffer.push(|bytes| bytes.extend_from_slice(&head)),
                        false => out.row(&mut |bytes| bytes.extend_from_slice(&head)),
                    }
                }
                let mut write = |bytes: &mut Vec<u8>| match copy {
                    Some(copy) => copy.row(&row, &format, bytes),
                    None => encode::row(&row, &columns, format_of, &format, bytes),
                };
                if *buffered {
                    buffer.push(write);
                    if buffer.len_bytes() > BUFFER_BYTES_MAX {
                        return Err(Stop::Error(
                            Error::new(
                                state::CONFIGURATION_LIMIT_EXCEEDED,
                                "the statement returns too many rows at once",
                            )
                            .detail(format!(
                                "Rows of a writing or locking statement are kept until it is \
                                 over, at most {BUFFER_BYTES_MAX} bytes."
                            ))
                            .hint("Return fewer columns, or work in portions."),
                        ));
                    }
                } else {
                    out.row(&mut write);
                }
            }
        });
        job.buffer = buffer;
        job.sent = sent;
        result
    }

    /// The rows are made: what functions have asked for takes effect, the savepoint goes.
    fn finish_statement(
        &mut self,
        job: &mut Job,
        rows: &mut Rows,
        out: &mut dyn Output,
    ) -> std::result::Result<Phase, Stop> {
        self.carry_out_effects(out)?;
        if let (Some(_), Some(tx)) = (rows.mark.take(), self.transaction.as_mut()) {
            tx.unmark();
        }
        let count = match job.returns_rows || rows.copy.is_some() {
            true => job.sent,
            false => job.affected.unwrap_or(job.sent),
        };
        if let Some(copy) = &mut rows.copy {
            let mut end = Vec::new();
            copy.end(&mut end);
            if !end.is_empty() {
                match rows.buffered {
                    true => job.buffer.push(|bytes| bytes.extend_from_slice(&end)),
                    false => out.row(&mut |bytes| bytes.extend_from_slice(&end)),
                }
            }
        }
        let tag = match (&rows.copy, &job.planned) {
            (Some(_), _) => format!("COPY {count}"),
            (None, Some(planned)) => {
                let affected = job.affected.filter(|n| *n > 0).unwrap_or(count);
                match planned.tag {
                    plan::Tag::Select => planned.tag.text(count),
                    _ => planned.tag.text(affected),
                }
            }
            (None, None) => job
                .utility_tag
                .clone()
                .unwrap_or_else(|| format!("SELECT {count}")),
        };
        Ok(Phase::Made(tag))
    }

    /// Settings, messages, notifications and notices that functions left.
    pub(super) fn carry_out_effects(
        &mut self,
        out: &mut dyn Output,
    ) -> std::result::Result<(), Stop> {
        let messages = std::mem::take(&mut self.effects.borrow_mut().messages);
        if !messages.is_empty() {
            let tx = self.transaction.as_mut().expect("a transaction is open");
            let group = match tx.writing() {
                Some(group) if group != GroupId::DIRECTORY => group,
                _ => tx.owner_group(self.user.current)?,
            };
            for (kind, payload) in messages {
                tx.event(group, EventKind::Message, &kind, None, payload)?;
            }
        }
        let hold = std::mem::take(&mut self.effects.borrow_mut().hold);
        let eras = std::mem::take(&mut self.effects.borrow_mut().stands_on);
        if let Some(tx) = self.transaction.as_mut() {
            eras.into_iter().for_each(|era| tx.stand_on(era));
            for (group, position) in hold {
                tx.hold_until(group, position);
            }
        }
        let (settings, notifications, notices) = {
            self.send_raised(out);
            let mut effects = self.effects.borrow_mut();
            (
                std::mem::take(&mut effects.settings),
                std::mem::take(&mut effects.notifications),
                std::mem::take(&mut effects.notices),
            )
        };
        for (name, value, local) in settings {
            self.set(&name, Some(&[value]), local)?;
        }
        self.notifications.append(notifications)?;
        for notice in notices {
            out.notice("WARNING", &notice);
        }
        self.send_notices(out);
        Ok(())
    }

    /// The statement is over; perhaps its transaction, too.
    fn made(&mut self, job: &mut Job, tag: String, ends: Ends) -> Option<Result<Step>> {
        if ends == Ends::Later || self.block || self.transaction.is_none() {
            job.phase = Phase::Flush(tag);
            return None;
        }
        match self.commit(Chain::No) {
            Ok(holding) => {
                job.phase = Phase::Holding(holding, Ok(tag));
                None
            }
            Err(Stop::Error(error)) => self.fail(job, error),
            Err(Stop::Wait(wait) | Stop::Pause(wait)) => {
                job.phase = Phase::Made(tag);
                match self.meet_here(wait) {
                    Ok(wait) => {
                        let until = self.deadline(job, &wait);
                        Some(Ok(Step::Wait(Waiting::new(&self.engine, wait, until))))
                    }
                    Err(error) => self.fail(job, error),
                }
            }
        }
    }

    /// Sends buffered rows, then the tag.
    fn flush(
        &mut self,
        job: &mut Job,
        tag: String,
        max: u64,
        out: &mut dyn Output,
    ) -> Option<Result<Step>> {
        if job.announce && job.returns_rows {
            job.announce = false;
            out.columns(&encode::fields(&job.columns, |at| job.format(at)));
        }
        let mut sent = 0;
        while !job.buffer.is_empty() {
            if max > 0 && sent >= max {
                job.phase = Phase::Flush(tag);
                return Some(Ok(Step::Suspended));
            }
            if out.full() {
                job.phase = Phase::Flush(tag);
                return Some(Ok(Step::More));
            }
            if let Some(row) = job.buffer.take() {
                out.row(&mut |bytes| bytes.extend_from_slice(row));
                sent += 1;
            }
        }
        job.phase = Phase::Done(tag);
        None
    }

    /// Counts how long a statement took, and logs one that was slow.
    fn note_duration(&self, job: &Job) {
        let duration = self.engine.clock().unix_micros().saturating_sub(job.begun);
        let process = self.activity.process();
        self.engine.meter().answered(process, duration);
        if self
            .effective
            .log_min_duration
            .is_some_and(|min| duration >= min)
        {
            tracing::info!(
                duration_ms = duration as f64 / 1_000.0,
                role = %self.user.current_name,
                process,
                statement = %job.prepared.text,
                "slow statement"
            );
        }
    }
}

/// Statements that a failed transaction still takes.
pub(super) fn ends_failure(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Empty
            | Statement::Transaction(
                TransactionStatement::Commit { .. }
                    | TransactionStatement::Rollback { .. }
                    | TransactionStatement::RollbackTo(_)
            )
    )
}

/// 25P02.
pub(super) fn aborted() -> Error {
    Error::new(
        state::IN_FAILED_SQL_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

/// 57014.
fn statement_timeout() -> Error {
    Error::new(
        state::QUERY_CANCELED,
        "canceling statement due to statement timeout",
    )
}

/// What a read-only transaction refuses.
fn command(planned: &Planned, query: &sqlparser::ast::Statement) -> &'static str {
    match planned.tag {
        Tag::Insert => "INSERT",
        Tag::Update => "UPDATE",
        Tag::Delete => "DELETE",
        Tag::Erase => "ERASE",
        Tag::Select => match query {
            sqlparser::ast::Statement::Query(query) => row_lock_name(&query.locks),
            _ => "SELECT",
        },
    }
}
