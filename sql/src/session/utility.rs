//! Statements that are no queries: which part of the session carries out what.

use std::sync::Arc;

use storage::{GroupId, Position};

use super::finish::Chain;
use super::job::{Job, Phase, Rows};
use super::{Output, Session};
use crate::exec::{ExecCx, Operator, Row};
use crate::parse::{Ddl, Explain, LockTables, Statement, Vacuum, WaitForLsn, fold_name};
use crate::plan::OutputColumn;
use crate::transaction::{Policy, Stop, Wait, readable};
use crate::types::{Datum, Type};
use crate::{Error, Result, state};

/// Rows that are there already.
pub(super) struct Given(std::vec::IntoIter<Row>);

impl Given {
    pub fn rows(rows: Vec<Row>) -> Box<dyn Operator> {
        Box::new(Given(rows.into_iter()))
    }
}

impl Operator for Given {
    fn next(&mut self, _cx: &mut ExecCx<'_>) -> std::result::Result<Option<Row>, Stop> {
        Ok(self.0.next())
    }
}

/// A text column of a utility statement's answer.
pub(super) fn column(name: &str, ty: Type) -> OutputColumn {
    OutputColumn {
        name: name.to_owned(),
        ty,
        table: 0,
        number: 0,
    }
}

pub(super) fn text(value: impl AsRef<str>) -> Datum {
    Datum::Text(value.as_ref().into())
}

impl Session {
    /// Begins a statement that is no query.
    pub(super) fn begin_utility(
        &mut self,
        job: &mut Job,
        statement: &Statement,
        out: &mut dyn Output,
    ) -> std::result::Result<Phase, Stop> {
        let made = |tag: &str| Ok(Phase::Made(tag.to_owned()));
        match statement {
            Statement::Empty => made(""),
            Statement::Query(_) => Err(Error::internal("a query is no utility statement").into()),
            Statement::Explain(explain) => self.explain(job, explain),
            Statement::Ddl(ddl) => self.ddl(job, ddl, out),
            Statement::Copy(copy) => self.begin_copy(job, copy),
            Statement::Transaction(statement) => self.transaction_statement(statement, out),
            Statement::Setting(statement) => self.setting_statement(job, statement, out),
            Statement::Prepare(prepare) => {
                self.prepare(prepare)?;
                made("PREPARE")
            }
            Statement::Execute(execute) => self.execute_prepared(job, execute, out),
            Statement::Deallocate(None) => {
                self.drop_statements();
                made("DEALLOCATE ALL")
            }
            Statement::Deallocate(Some(name)) => {
                if !self.drop_statement(name) {
                    return Err(no_statement(name).into());
                }
                made("DEALLOCATE")
            }
            Statement::Declare(declare) => self.declare(job, declare),
            Statement::Fetch(fetch) => self.fetch(job, fetch, out),
            Statement::Close(None) => {
                self.portals.retain(|_, p| p.cursor.is_none());
                made("CLOSE CURSOR ALL")
            }
            Statement::Close(Some(name)) => {
                self.close_cursor(name)?;
                made("CLOSE CURSOR")
            }
            Statement::Listen(channel) => {
                self.ensure_transaction(false);
                super::control::check_notification(channel, "")?;
                self.listens.push((true, Some(channel.clone())));
                self.changed.state = true;
                made("LISTEN")
            }
            Statement::Unlisten(channel) => {
                self.ensure_transaction(false);
                self.listens.push((false, channel.clone()));
                self.changed.state = true;
                made("UNLISTEN")
            }
            Statement::Notify(channel, payload) => {
                self.ensure_transaction(false);
                super::control::check_notification(channel, payload)?;
                self.notifications.push(channel, payload)?;
                made("NOTIFY")
            }
            Statement::Lock(lock) => self.lock_tables(lock),
            Statement::Vacuum(vacuum) => self.vacuum(vacuum),
            Statement::Checkpoint => {
                if !self.engine.catalog().is_superuser(self.user.current) {
                    return Err(Error::new(
                        state::INSUFFICIENT_PRIVILEGE,
                        "must be superuser or have privileges of pg_checkpoint to do CHECKPOINT",
                    )
                    .into());
                }
                made("CHECKPOINT")
            }
            Statement::WaitForLsn(wait) => self.wait_for_lsn(job, wait),
            Statement::Do(block) => self.run_block(job, block, out),
            Statement::Unsupported(what, hint) => {
                let error = Error::unsupported(what);
                Err(match hint {
                    Some(hint) => error.hint(*hint),
                    None => error,
                }
                .into())
            }
        }
    }

    /// Rows that are there already, under a tag of their own.
    pub(super) fn given(
        &mut self,
        job: &mut Job,
        columns: Vec<OutputColumn>,
        rows: Vec<Row>,
        tag: &str,
    ) -> Phase {
        self.ensure_transaction(false);
        job.columns = columns.into();
        job.returns_rows = true;
        job.utility_tag = Some(tag.to_owned());
        let operator = Given::rows(rows);
        Phase::Rows(Rows {
            operator,
            buffered: false,
            mark: None,
            copy: None,
        })
    }

    fn explain(&mut self, job: &mut Job, explain: &Explain) -> std::result::Result<Phase, Stop> {
        let query = match &explain.statement {
            Statement::Query(query) => Arc::new((**query).clone()),
            Statement::Declare(declare) => Arc::new((*declare.query).clone()),
            Statement::Ddl(ddl) => match ddl.as_ref() {
                Ddl::CreateTable(create) if create.table.query.is_some() => {
                    let query = create.table.query.clone().expect("it was just seen");
                    Arc::new(sqlparser::ast::Statement::Query(query))
                }
                _ => return Err(Error::unsupported("EXPLAIN of this statement").into()),
            },
            Statement::Execute(execute) => {
                let prepared = self.find_statement(&execute.name)?;
                match prepared.statement() {
                    Statement::Query(query) => Arc::new((**query).clone()),
                    _ => return Err(Error::unsupported("EXPLAIN of this statement").into()),
                }
            }
            _ => return Err(Error::unsupported("EXPLAIN of this statement").into()),
        };
        self.ensure_transaction(false);
        let catalog = self.fresh_catalog();
        let text = Arc::clone(&job.prepared.text);
        let types = Arc::clone(&job.prepared.parameters);
        let planned = self.plan_text(&text, &query, &types, &catalog)?;
        self.lock_and_read(&planned)?;
        let operator =
            crate::plan::explain(&planned, &explain.options, Arc::clone(&job.parameters));
        let json = explain.options.format == crate::parse::ExplainFormat::Json;
        let ty = if json { Type::JSON } else { Type::TEXT };
        job.columns = vec![column("QUERY PLAN", ty)].into();
        job.returns_rows = true;
        job.utility_tag = Some("EXPLAIN".to_owned());
        let tx = self
            .transaction
            .as_mut()
            .expect("a transaction was ensured");
        let mark = Some(tx.statement_mark());
        Ok(Phase::Rows(Rows {
            operator,
            buffered: true,
            mark,
            copy: None,
        }))
    }

    /// DDL: decided and written by `ddl` within the transaction.
    fn ddl(
        &mut self,
        job: &mut Job,
        ddl: &Ddl,
        out: &mut dyn Output,
    ) -> std::result::Result<Phase, Stop> {
        if let Ddl::Sql(sqlparser::ast::Statement::CreateIndex(create)) = ddl
            && create.concurrently
            && self.block
        {
            return Err(not_in_block("CREATE INDEX CONCURRENTLY").into());
        }
        self.ensure_transaction(false);
        let catalog = self.fresh_catalog();
        let own = catalog.group_of(self.user.current);
        let reader = self.own_role();
        let tx = self
            .transaction
            .as_mut()
            .expect("a transaction was ensured");
        if tx.read_only() {
            let command = ddl_name(&job.prepared.text);
            return Err(super::environment::read_only(&command).into());
        }
        let own = own.filter(|id| self.engine.groups().get(*id).is_some());
        // What it will write shows itself; only what is led here can be read at its newest.
        let home = tx.writing().or(own.filter(|id| tx.leads(*id)));
        let groups: Vec<GroupId> = std::iter::once(GroupId::DIRECTORY)
            .chain(home.or(own))
            .collect();
        tx.begin_statement(reader, &groups, home)?;
        let mark = tx.statement_mark();
        let format = self.format();
        let engine = Arc::clone(&self.engine);
        let path = Arc::clone(&self.path.schemas);
        let text = Arc::clone(&job.prepared.text);
        let bind = crate::plan::BindCx {
            role: self.user.current,
            login: self.user.session,
            path: &path,
            text: &text,
            parameter_types: &[],
            format: &format,
            registry: engine.as_ref(),
            variables: None,
        };
        let done = self.exec(job, |cx| crate::ddl::execute(ddl, &bind, cx));
        match done {
            Ok(tag) => {
                self.carry_out_effects(out)?;
                if let Some(tx) = self.transaction.as_mut() {
                    tx.unmark();
                }
                Ok(Phase::Made(tag))
            }
            Err(stop) => {
                self.undo(Some(mark))?;
                Err(stop)
            }
        }
    }

    /// DO: what it reads and writes shows while it runs, and then it begins again with that.
    fn run_block(
        &mut self,
        job: &mut Job,
        block: &crate::parse::Block,
        out: &mut dyn Output,
    ) -> std::result::Result<Phase, Stop> {
        self.ensure_transaction(false);
        self.fresh_catalog();
        self.take_snapshot(Vec::new(), None, &[])?;
        let tx = self
            .transaction
            .as_mut()
            .expect("a transaction was ensured");
        let mark = tx.statement_mark();
        match self.exec(job, |cx| crate::plpgsql::run_block(block, cx)) {
            Ok(()) => {
                self.carry_out_effects(out)?;
                if let Some(tx) = self.transaction.as_mut() {
                    tx.unmark();
                }
                Ok(Phase::Made("DO".to_owned()))
            }
            Err(stop) => {
                self.undo(Some(mark))?;
                Err(stop)
            }
        }
    }

    fn lock_tables(&mut self, lock: &LockTables) -> std::result::Result<Phase, Stop> {
        if !self.block {
            return Err(Error::new(
                state::NO_ACTIVE_SQL_TRANSACTION,
                "LOCK TABLE can only be used in transaction blocks",
            )
            .into());
        }
        let catalog = self.fresh_catalog();
        let policy = if lock.no_wait {
            Policy::NoWait
        } else {
            Policy::Wait
        };
        for name in &lock.tables {
            let table = self.resolve_table(&catalog, name)?;
            let privilege = match lock.mode {
                crate::transaction::TableMode::AccessShare => crate::catalog::Privilege::Select,
                crate::transaction::TableMode::RowExclusive => crate::catalog::Privilege::Insert,
                _ => crate::catalog::Privilege::Update,
            };
            let role = self.user.current;
            if !catalog.has_role(role, table.owner) {
                catalog.may(role, &table, privilege, None)?;
            }
            let tx = self.transaction.as_mut().expect("a block is open");
            if table.tree != 0 {
                tx.lock_table(table.group, table.tree, lock.mode, policy)
                    .map_err(|stop| match stop {
                        Stop::Error(e) if e.state() == state::LOCK_NOT_AVAILABLE => Error::new(
                            state::LOCK_NOT_AVAILABLE,
                            format!("could not obtain lock on relation \"{}\"", table.name),
                        )
                        .into(),
                        other => other,
                    })?;
            }
        }
        Ok(Phase::Made("LOCK TABLE".to_owned()))
    }

    pub(super) fn resolve_table(
        &self,
        catalog: &crate::catalog::Catalog,
        name: &sqlparser::ast::ObjectName,
    ) -> Result<Arc<crate::catalog::Table>> {
        let parts = fold_name(name)?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        catalog.resolve_table(&parts, &self.path.schemas, self.user.current)
    }

    /// VACUUM and ANALYZE: the storage tidies itself and plans need no statistics, but the tables
    /// must be there.
    fn vacuum(&mut self, vacuum: &Vacuum) -> std::result::Result<Phase, Stop> {
        if !vacuum.analyze_only && self.block {
            return Err(not_in_block("VACUUM").into());
        }
        self.ensure_transaction(false);
        let catalog = self.fresh_catalog();
        for name in &vacuum.tables {
            self.resolve_table(&catalog, name)?;
        }
        let tag = if vacuum.analyze_only {
            "ANALYZE"
        } else {
            "VACUUM"
        };
        Ok(Phase::Made(tag.to_owned()))
    }

    /// Every group held here of which the role may read something is closed at the position, or
    /// the time is over.
    fn wait_for_lsn(
        &mut self,
        job: &mut Job,
        wait: &WaitForLsn,
    ) -> std::result::Result<Phase, Stop> {
        let invalid = |what: &str, value: &str| {
            Error::new(
                state::INVALID_PARAMETER_VALUE,
                format!("invalid {what}: \"{value}\""),
            )
        };
        let position = Position::parse(&wait.position)
            .ok_or_else(|| invalid("input for type pg_lsn", &wait.position))?;
        let timeout = match &wait.timeout {
            None => None,
            Some(text) => Some(millis(text).ok_or_else(|| invalid("timeout value", text))?),
        };
        let deadline = timeout
            .filter(|ms| *ms > 0)
            .map(|ms| job.begun.saturating_add(ms * 1_000));
        let now = self.engine.clock().unix_micros();
        let (catalog, role) = (self.engine.catalog(), self.user.current);
        let behind = self.engine.groups().all().into_iter().find(|g| {
            readable(self.engine.groups(), g) < position && catalog.reads_group(role, g.id())
        });
        let status = match behind {
            None => "success",
            Some(_) if deadline.is_some_and(|d| now >= d) => {
                if !wait.no_throw {
                    return Err(Error::new(
                        state::QUERY_CANCELED,
                        format!("timed out while waiting for target LSN {position}"),
                    )
                    .into());
                }
                "timeout"
            }
            Some(group) => {
                // An idle group closes itself up to the clock, never to what was asked for.
                let clock = self.engine.groups().clock().unix_micros();
                let clock = Position::from_unix_micros(clock);
                if clock >= position {
                    match group.term() {
                        Some(_) => group.close(),
                        None => group.close_wanted(),
                    }
                    if readable(self.engine.groups(), &group) < position {
                        let until = deadline.unwrap_or(u64::MAX).min(now + 100_000);
                        return Err(Stop::Wait(Wait::Feed(Some(until))));
                    }
                    return Err(Stop::again());
                }
                let until = position.unix_micros() + 1;
                return Err(Stop::Wait(Wait::Until(
                    until.min(deadline.unwrap_or(u64::MAX)),
                )));
            }
        };
        let columns = vec![column("status", Type::TEXT)];
        Ok(self.given(job, columns, vec![vec![text(status)]], "WAIT"))
    }

    /// Ends the transaction that a statement must not run in, or refuses it in a block.
    pub(super) fn alone(&mut self, what: &str) -> std::result::Result<(), Stop> {
        if self.block {
            return Err(not_in_block(what).into());
        }
        if self.transaction.is_some() {
            let _ = self.rollback(Chain::No);
        }
        Ok(())
    }
}

/// `100ms`, `2s`, `5` (ms).
fn millis(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..end].parse().ok()?;
    let factor = match text[end..].trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// 25001.
pub(super) fn not_in_block(what: &str) -> Error {
    Error::new(
        state::ACTIVE_SQL_TRANSACTION,
        format!("{what} cannot run inside a transaction block"),
    )
}

/// 26000.
pub(super) fn no_statement(name: &str) -> Error {
    Error::new(
        state::INVALID_SQL_STATEMENT_NAME,
        format!("prepared statement \"{name}\" does not exist"),
    )
}

/// The command's name by its first words: `CREATE TABLE` of `create unlogged table ...`.
fn ddl_name(text: &str) -> String {
    const MODIFIERS: [&str; 9] = [
        "CONCURRENTLY",
        "LOCAL",
        "OR",
        "RECURSIVE",
        "REPLACE",
        "TEMP",
        "TEMPORARY",
        "UNIQUE",
        "UNLOGGED",
    ];
    let mut words = text.split_whitespace().map(str::to_uppercase);
    let first = words.next().unwrap_or_default();
    match first.as_str() {
        "CREATE" | "ALTER" | "DROP" => {
            let kind = words.find(|word| !MODIFIERS.contains(&word.as_str()));
            format!("{first} {}", kind.unwrap_or_default())
        }
        "TRUNCATE" => "TRUNCATE TABLE".to_owned(),
        _ => first,
    }
}
