//! The extended protocol: Parse, Bind, Describe, Execute, Close, Sync. After an error the server
//! skips to Sync.

use parking_lot::Mutex;
use std::sync::Arc;

use super::finish::Chain;
use super::job::{Job, Phase};
use super::prepared::Prepared;
use super::run::{Ends, aborted, ends_failure};
use super::step::Step;
use super::utility::{column, no_statement};
use super::{Field, Output, PORTALS_MAX, Portal, STATEMENTS_MAX, Session, encode};
use crate::catalog::Catalog;
use crate::parse::{ExplainFormat, SettingStatement, Statement};
use crate::plan::OutputColumn;
use crate::transaction::Stop;
use crate::types::{Datum, Type};
use crate::{Error, Result, settings, state};

/// The answer to Describe of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// OIDs of the parameters' types.
    pub parameters: Vec<u32>,
    /// The columns; `None` = NoData.
    pub columns: Option<Vec<Field>>,
}

impl Session {
    /// Parse.
    ///
    /// # Errors
    /// 42601 for more than one statement, 42P05 for a name in use, and everything that binding
    /// finds.
    pub fn parse(&mut self, name: &str, sql: &str, types: &[u32]) -> Result<()> {
        let result = self.parse_inner(name, sql, types);
        self.failing(result)
    }

    /// Any error of the extended protocol fails the transaction.
    fn failing<T>(&mut self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.current = None;
            self.fail_now();
        }
        result.map_err(|error| self.known(error))
    }

    fn parse_inner(&mut self, name: &str, sql: &str, types: &[u32]) -> Result<()> {
        if !name.is_empty() && self.statements.contains_key(name) {
            return Err(Error::new(
                state::DUPLICATE_PREPARED_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            ));
        }
        if self.statements.len() >= STATEMENTS_MAX && !self.statements.contains_key(name) {
            return Err(Error::new(
                state::CONFIGURATION_LIMIT_EXCEEDED,
                format!("too many prepared statements (at most {STATEMENTS_MAX})"),
            ));
        }
        let parsed = self.parsed(sql)?;
        if parsed.len() > 1 {
            return Err(Error::new(
                state::SYNTAX_ERROR,
                "cannot insert multiple commands into a prepared statement",
            ));
        }
        let at = (!parsed.is_empty()).then_some(0);
        let text: Arc<str> = at.map_or("", |at: usize| parsed[at].text.as_str()).into();
        let declared: Vec<Type> = types.iter().map(|oid| Type::new(*oid)).collect();
        let mut prepared = Prepared {
            text,
            parsed,
            at,
            inner: None,
            brought: None,
            declared: declared.clone().into(),
            parameters: declared.into(),
            from_sql: false,
            created: self.engine.now(),
            promised: None,
            fresh: Mutex::new(None),
        };
        if self.failed && !ends_failure(prepared.statement()) {
            return Err(aborted());
        }
        self.infer(&mut prepared)?;
        self.keep_statement(name, Arc::new(prepared));
        Ok(())
    }

    /// Finds the types of the parameters by planning.
    pub(super) fn infer(&mut self, prepared: &mut Prepared) -> Result<()> {
        let query = match prepared.statement() {
            Statement::Query(query) => (**query).clone(),
            Statement::Explain(explain) => match &explain.statement {
                Statement::Query(query) => (**query).clone(),
                _ => return Ok(()),
            },
            Statement::Declare(declare) => (*declare.query).clone(),
            _ => return Ok(()),
        };
        let catalog = self.present_catalog();
        let text = Arc::clone(&prepared.text);
        let declared = Arc::clone(&prepared.declared);
        let planned = self.plan_text(&text, &query, &declared, &catalog)?;
        prepared.parameters = planned.parameters.clone().into();
        if matches!(prepared.statement(), Statement::Query(_)) {
            prepared.promised = Some(planned.columns.clone().into());
            *prepared.fresh.lock() = Some(super::prepared::Fresh {
                catalog,
                role: self.user.current,
                login: self.user.session,
                path: Arc::clone(&self.path.schemas),
                format: self.effective.format_key,
                planned,
            });
        }
        Ok(())
    }

    /// The newest catalog, in a transaction or without one, with `search_path` resolved in it.
    fn present_catalog(&mut self) -> Arc<Catalog> {
        if self.transaction.is_some() {
            return self.fresh_catalog();
        }
        let catalog = self.engine.catalog();
        self.resolve_path(&catalog, false);
        catalog
    }

    pub(super) fn find_statement(&self, name: &str) -> Result<Arc<Prepared>> {
        let prepared = self
            .statements
            .get(name)
            .cloned()
            .ok_or_else(|| match name {
                "" => Error::new(
                    state::INVALID_SQL_STATEMENT_NAME,
                    "unnamed prepared statement does not exist",
                ),
                name => no_statement(name),
            })?;
        prepared.read()?;
        Ok(prepared)
    }

    /// Describe of a statement.
    ///
    /// # Errors
    /// 26000, and what binding finds if the catalog has changed.
    pub fn describe_statement(&mut self, name: &str) -> Result<Described> {
        let result = self.describe_inner(name);
        self.failing(result)
    }

    fn describe_inner(&mut self, name: &str) -> Result<Described> {
        let prepared = self.find_statement(name)?;
        if self.failed && !ends_failure(prepared.statement()) {
            return Err(aborted());
        }
        let columns = self.columns_of(&prepared)?;
        Ok(Described {
            parameters: prepared.parameters.iter().map(|t| t.oid).collect(),
            columns: columns.map(|c| encode::fields(&c, |_| 0)),
        })
    }

    /// The columns that a statement answers with; `None` if it answers without rows.
    pub(super) fn columns_of(&mut self, prepared: &Prepared) -> Result<Option<Vec<OutputColumn>>> {
        let text = |names: &[&str]| {
            let columns = names
                .iter()
                .map(|n| column(n, Type::TEXT))
                .collect::<Vec<_>>();
            Ok(Some(columns))
        };
        match prepared.statement() {
            Statement::Query(query) => {
                let catalog = self.present_catalog();
                let planned = self.planned(prepared, query, &catalog)?;
                Ok(planned.returns_rows.then(|| planned.columns.clone()))
            }
            Statement::Explain(explain) => {
                let json = explain.options.format == ExplainFormat::Json;
                let ty = if json { Type::JSON } else { Type::TEXT };
                Ok(Some(vec![column("QUERY PLAN", ty)]))
            }
            Statement::Setting(SettingStatement::Show(name)) => {
                let name = settings::find(name).map_or(name.as_str(), |s| s.name.as_str());
                text(&[name])
            }
            Statement::Setting(SettingStatement::ShowAll) => {
                text(&["name", "setting", "description"])
            }
            Statement::WaitForLsn(_) => text(&["status"]),
            Statement::Fetch(fetch) if !fetch.discard => {
                let portal = self.portals.get(&fetch.cursor);
                Ok(portal
                    .and_then(|p| p.job.as_ref())
                    .map(|job| job.columns.to_vec()))
            }
            Statement::Execute(execute) => {
                let prepared = self.find_statement(&execute.name)?;
                self.columns_of(&prepared)
            }
            _ => Ok(None),
        }
    }

    /// Bind: `parameters` in the client's format.
    ///
    /// # Errors
    /// 26000, 42P03, 08P01, and what is wrong with the parameters.
    pub fn bind<'a>(
        &mut self,
        portal: &str,
        statement: &str,
        parameter_formats: &[i16],
        parameters: impl ExactSizeIterator<Item = Option<&'a [u8]>>,
        result_formats: &[i16],
    ) -> Result<()> {
        let job = self.bound(statement, parameter_formats, parameters, result_formats);
        let result = job.and_then(|job| self.add_portal(portal, job));
        self.failing(result)
    }

    fn bound<'a>(
        &mut self,
        statement: &str,
        formats: &[i16],
        parameters: impl ExactSizeIterator<Item = Option<&'a [u8]>>,
        result_formats: &[i16],
    ) -> Result<Box<Job>> {
        let prepared = self.find_statement(statement)?;
        if self.failed && !ends_failure(prepared.statement()) {
            return Err(aborted());
        }
        let types = &prepared.parameters;
        let values: Vec<Datum> = match parameters.len() {
            0 if types.is_empty() => Vec::new(),
            _ => {
                let format = self.format();
                encode::parameters(types, formats, parameters, statement, &format)?
            }
        };
        if let Statement::Query(query) = prepared.statement() {
            // What has become of its tables is said here, as the client takes in no row then.
            let catalog = self.present_catalog();
            self.planned(&prepared, query, &catalog)?;
        }
        if let Some(other) = result_formats.iter().find(|f| !matches!(f, 0 | 1)) {
            let message = format!("unsupported format code: {other}");
            return Err(Error::new(state::INVALID_PARAMETER_VALUE, message));
        }
        if result_formats.len() > 1 {
            let columns = self.columns_of(&prepared)?.map_or(0, |c| c.len());
            encode::check_formats(result_formats, columns)?;
        }
        let mut job = Job::new(prepared, values.into(), result_formats.to_vec());
        job.turn = self.turn.number;
        Ok(Box::new(job))
    }

    fn add_portal(&mut self, name: &str, job: Box<Job>) -> Result<()> {
        if !name.is_empty() && self.portals.contains_key(name) {
            return Err(Error::new(
                state::DUPLICATE_CURSOR,
                format!("cursor \"{name}\" already exists"),
            ));
        }
        if let Some(portal) = self.portals.get_mut(name) {
            *portal = Portal {
                job: Some(job),
                cursor: None,
                created: 0,
            };
            return Ok(());
        }
        if self.portals.len() >= PORTALS_MAX {
            return Err(Error::new(
                state::CONFIGURATION_LIMIT_EXCEEDED,
                format!("too many portals (at most {PORTALS_MAX})"),
            ));
        }
        let created = self.engine.now();
        self.portals.insert(
            name.to_owned(),
            Portal {
                job: Some(job),
                cursor: None,
                created,
            },
        );
        Ok(())
    }

    /// Describe of a portal; `None` = NoData.
    ///
    /// # Errors
    /// 34000.
    pub fn describe_portal(&mut self, name: &str) -> Result<Option<Vec<Field>>> {
        let result = self.describe_portal_inner(name);
        self.failing(result)
    }

    fn describe_portal_inner(&mut self, name: &str) -> Result<Option<Vec<Field>>> {
        let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
        let Some(job) = portal.job.as_ref() else {
            return Err(no_portal(name));
        };
        let (prepared, formats) = (Arc::clone(&job.prepared), job.formats.clone());
        if self.failed && !ends_failure(prepared.statement()) {
            return Err(aborted());
        }
        let format_of = |at: usize| match formats.as_slice() {
            [] => 0,
            [one] => *one,
            many => many.get(at).copied().unwrap_or(0),
        };
        Ok(self
            .columns_of(&prepared)?
            .map(|c| encode::fields(&c, format_of)))
    }

    /// Execute. `max` = 0: all rows. An empty tag is EmptyQueryResponse.
    ///
    /// # Errors
    /// 34000, and the statement's.
    pub fn execute(&mut self, name: &str, max: u64, out: &mut dyn Output) -> Result<Step> {
        let mut job = match self.current.take() {
            Some((current, job)) if current == name => job,
            _ => {
                let portal = self.portals.get_mut(name);
                match portal.and_then(|p| p.job.take()) {
                    Some(job) => job,
                    None => {
                        let error = no_portal(name);
                        return self.failing(Err(error));
                    }
                }
            }
        };
        // A portal of an earlier turn can't be made again elsewhere.
        self.turn.acted |= job.turn != self.turn.number;
        self.resume_snapshot(&mut job);
        if let Phase::Done(tag) = &job.phase {
            // A portal that is at its end gives no more rows.
            let tag = rerun_tag(tag);
            self.put_back(name, job);
            return Ok(Step::Done { tag });
        }
        let step = match self.run(&mut job, Ends::Later, max, out) {
            Ok(step) => step,
            Err(error) => {
                self.current = None;
                return Err(error);
            }
        };
        match &step {
            Step::Wait(_) | Step::More | Step::Heavy | Step::CopyOut { .. } => {
                self.current = Some((name.to_owned(), job));
            }
            Step::CopyIn { .. } => {
                if let Some(copy) = self.copy.as_mut() {
                    copy.take_job(job, Ends::Later);
                }
            }
            Step::Suspended => {
                self.suspend_snapshot(&mut job);
                self.put_back(name, job);
            }
            Step::Elsewhere(_) => {}
            Step::Done { .. } | Step::End => self.put_back(name, job),
        }
        Ok(step)
    }

    fn put_back(&mut self, name: &str, job: Box<Job>) {
        if let Some(portal) = self.portals.get_mut(name) {
            portal.job = Some(job);
        }
    }

    /// A portal reads at its own positions while it is suspended.
    pub(super) fn suspend_snapshot(&mut self, job: &mut Job) {
        if let Some(tx) = self.transaction.as_mut() {
            tx.swap_snapshot(&mut job.snapshot);
        }
    }

    pub(super) fn resume_snapshot(&mut self, job: &mut Job) {
        if let (Phase::Rows(_), Some(tx)) = (&job.phase, self.transaction.as_mut())
            && !job.snapshot.is_empty()
        {
            tx.swap_snapshot(&mut job.snapshot);
            job.snapshot = crate::transaction::Snapshot::default();
        }
    }

    /// Close of a statement. Closing what is not there is no error.
    pub fn close_statement(&mut self, name: &str) {
        self.drop_statement(name);
    }

    /// Close of a portal.
    pub fn close_portal(&mut self, name: &str) {
        self.portals.remove(name);
    }

    /// Sync: ends the implicit transaction. `Step::End`: ReadyForQuery.
    ///
    /// # Errors
    /// The commit's; ReadyForQuery follows all the same.
    pub fn sync(&mut self, out: &mut dyn Output) -> Result<Step> {
        self.current = None;
        self.copy = None;
        let mut holding = match self.ending.take() {
            Some(holding) => holding,
            None => {
                if self.block || self.transaction.is_none() {
                    return Ok(Step::End);
                }
                match self.commit(Chain::No) {
                    Ok(holding) => holding,
                    Err(Stop::Error(error)) => return self.not_committed(error),
                    Err(Stop::Wait(wait) | Stop::Pause(wait)) => {
                        return match self.waiting_here(wait) {
                            Ok(waiting) => Ok(Step::Wait(waiting)),
                            Err(error) => self.not_committed(error),
                        };
                    }
                }
            }
        };
        match self.await_holding(&mut holding) {
            Ok(Some(waiting)) => {
                if let Err(interrupt) = self.activity.check_interrupt() {
                    self.give_up(&mut holding, interrupt)?;
                    self.warn_of(&mut holding, out);
                    return Ok(Step::End);
                }
                self.ending = Some(holding);
                Ok(Step::Wait(waiting))
            }
            Ok(None) => {
                self.warn_of(&mut holding, out);
                Ok(Step::End)
            }
            Err(error) => match self.begin_anew_after(&error) {
                Some(group) => Ok(Step::Elsewhere(group)),
                None => Err(error),
            },
        }
    }

    /// The implicit transaction can't be committed.
    fn not_committed(&mut self, error: Error) -> Result<Step> {
        match self.begin_anew(&error) {
            Some(group) => Ok(Step::Elsewhere(group)),
            None => {
                self.fail_now();
                Err(error)
            }
        }
    }
}

/// What Execute says of a portal that is at its end.
fn rerun_tag(tag: &str) -> String {
    match tag.split(' ').next() {
        Some(word @ ("SELECT" | "FETCH" | "UPDATE" | "DELETE" | "MOVE")) => format!("{word} 0"),
        Some("INSERT") => "INSERT 0 0".to_owned(),
        _ => tag.to_owned(),
    }
}

fn no_portal(name: &str) -> Error {
    Error::new(
        state::INVALID_CURSOR_NAME,
        format!("portal \"{name}\" does not exist"),
    )
}
