//! A session that stands in for one of another node: it gives that one the rows of a view as of a
//! position, with its roles, settings and times, and does nothing else (`crate::remote`).

use std::sync::Arc;

use parking_lot::Mutex;
use storage::{Group, GroupId, Pin};

use super::activity::{Activity, Doing};
use super::environment::Surroundings;
use super::export::{acting, read_values, write_values};
use super::job::Job;
use super::prepared::Prepared;
use super::step::Waiting;
use super::turn::Met;
use super::{Session, User};
use crate::catalog::{Catalog, RoleId, TREE_DESCRIPTORS, Table};
use crate::cluster::{Reader, Writer};
use crate::engine::Engine;
use crate::exec::{self, Operator};
use crate::parse::Statement;
use crate::plan::Planned;
use crate::remote::{Compare, Refused, Request, RowsOut, shape};
use crate::transaction::{Isolation, Stop, Wait};
use crate::types::codec::represents;
use crate::types::text::quote_identifier;
use crate::types::{Datum, Type};
use crate::{Error, Result, state};

/// What a stand-in needs to know of the session, as bytes: login, session and current role,
/// database, settings.
pub(super) fn asker(session: &Surroundings<'_>) -> Vec<u8> {
    let mut out = Writer::default();
    let user = session.user;
    for role in [user.login, user.session, user.current] {
        out.u32(role.0);
    }
    out.text(session.database);
    write_values(session.values, &mut out);
    out.0
}

/// The rows of a view on their way to another node.
pub struct Source {
    session: Session,
    job: Job,
    planned: Arc<Planned>,
    operator: Option<Box<dyn Operator>>,
    /// Some rows were given: it can't begin again.
    given: bool,
}

/// What a source gives next.
pub enum Piece {
    /// Rows, as [`crate::remote::Answer::Rows`] has them.
    Rows(bytes::Bytes),
    /// No more of them.
    End,
    /// Await this, then ask again.
    Wait(Waiting),
}

impl Engine {
    /// Begins to give the rows of a view, as of a position of a group that is held here by Raft; the
    /// position stays readable as long as the pin is kept.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn give_view(
        self: &Arc<Engine>,
        request: &Request,
    ) -> std::result::Result<(Source, Pin), Refused> {
        let group = self.source_of(request)?;
        let pin = group.pin(request.at);
        if let Err(storage::Error::TooOld { horizon, .. }) =
            group.get(TREE_DESCRIPTORS, &[], request.at)
        {
            return Err(Refused::Old(horizon));
        }
        let mut session = self.stand_in(&request.asker)?;
        session.open_transaction(Isolation::RepeatableRead, true, true);
        if let Some(tx) = session.transaction.as_mut() {
            tx.read_as_of(group, request.at, request.started);
        }
        let catalog = session.fresh_catalog();
        let view = view_of(&catalog, request)?;
        let (text, parameters, types) = query(&catalog, &view, request)?;
        let parsed = crate::parse::parse(&text)?.into_iter().next();
        let Some(Statement::Query(statement)) = parsed.map(|parsed| parsed.statement) else {
            return Err(Error::internal("a view's rows are asked for by no query").into());
        };
        let reader = request.reader;
        let planned = session.plan_as(reader, &text, &statement, &types, &catalog)?;
        session.check_source(&planned, request, &catalog)?;
        let prepared = Prepared::of_query(text, types);
        let mut job = Job::new(Arc::new(prepared), parameters.into(), Vec::new());
        job.begun = request.begun;
        session.effects.borrow_mut().begin();
        let source = Source {
            session,
            job,
            planned,
            operator: None,
            given: false,
        };
        Ok((source, pin))
    }

    /// The group, if it is held here as far as its reader has it.
    fn source_of(&self, request: &Request) -> std::result::Result<Arc<Group>, Refused> {
        let held = self.groups().get(request.group);
        let held = held.filter(|group| !group.is_followed() && !group.has_ended());
        let Some(group) = held else {
            return Err(Refused::NotHere);
        };
        // What a catalog is known to contain may be less than it does: it has all that is applied.
        let applied = |id: GroupId| self.groups().get(id).map(|group| group.applied());
        let has = |(id, at): &(GroupId, storage::Position)| applied(*id) >= Some(*at);
        let knows = request.known.iter().all(has);
        let groups: Vec<GroupId> = request.known.iter().map(|(id, _)| *id).collect();
        let vouched = self.cluster().doubts(&groups, None).is_none();
        match group.ready() && group.applied() >= request.at && knows && vouched {
            true => Ok(group),
            false => Err(Refused::Behind),
        }
    }

    fn stand_in(self: &Arc<Engine>, asker: &[u8]) -> Result<Session> {
        let mut r = Reader(asker);
        let mut read = || {
            let roles = [RoleId(r.u32()?), RoleId(r.u32()?), RoleId(r.u32()?)];
            let database: Arc<str> = r.text()?.into();
            let values = read_values(&mut r)?;
            r.is_empty().then_some((roles, database, values))
        };
        let ([login, session, current], database, values) =
            read().ok_or_else(super::portable::damaged)?;
        let catalog = self.catalog();
        let role = catalog.role(login).ok_or_else(|| {
            let message = format!("role with OID {} does not exist", login.0);
            Error::new(state::UNDEFINED_OBJECT, message)
        })?;
        let user = acting(&User::new(login, &role.name), &catalog, session, current)?;
        let mut stand_in = self.begin(user, database, values, ("", -1, 0), usize::MAX)?;
        stand_in.roomy = true;
        let now = self.now();
        stand_in.activity.update(|shown| {
            shown.doing = Doing::Active;
            shown.query_started = Some(now);
        });
        Ok(stand_in)
    }
}

/// The view, as its reader knows it.
fn view_of(catalog: &Catalog, request: &Request) -> std::result::Result<Arc<Table>, Refused> {
    let view = catalog.table(request.view);
    match view.filter(|view| shape(view) == request.shape) {
        Some(view) => Ok(Arc::clone(view)),
        None => Err(ahead(catalog, request)),
    }
}

/// The catalog here is ahead of the reader's, in which the view is another one.
fn ahead(catalog: &Catalog, request: &Request) -> Refused {
    let ahead = |(id, at): &&(GroupId, storage::Position)| catalog.as_of(*id) > *at;
    let own = (request.group, catalog.as_of(request.group));
    let found = request.known.iter().find(ahead);
    let (group, at) = found.map_or(own, |(id, _)| (*id, catalog.as_of(*id)));
    Refused::Ahead(group, at)
}

/// What is asked for, in SQL: the values of the conditions are parameters.
#[allow(clippy::type_complexity)]
fn query(
    catalog: &Catalog,
    view: &Table,
    request: &Request,
) -> Result<(Arc<str>, Vec<Datum>, Arc<[Type]>)> {
    let columns: Vec<_> = view.live_columns().collect();
    let column = |number: u16| {
        let column = columns.get(usize::from(number)).copied();
        column.ok_or_else(super::portable::damaged)
    };
    let named = |number: u16| Ok(quote_identifier(&column(number)?.name));
    let wanted = request.columns.iter().map(|number| named(*number));
    let wanted = wanted.collect::<Result<Vec<_>>>()?.join(", ");
    let schema = quote_identifier(catalog.schema_name(view.schema));
    let name = quote_identifier(&view.name);
    let mut text = format!("SELECT {wanted} FROM {schema}.{name}");
    let (mut parameters, mut types) = (Vec::new(), Vec::new());
    for (at, condition) in request.conditions.iter().enumerate() {
        let before = if at == 0 { "WHERE" } else { "AND" };
        let operator = match condition.compare {
            Compare::Equal => "=",
            Compare::Above => ">",
            Compare::From => ">=",
        };
        let column = named(condition.column)?;
        text.push_str(&format!(" {before} {column} {operator} ${}", at + 1));
        parameters.push(condition.value.clone());
    }
    for condition in &request.conditions {
        let ty = column(condition.column)?.ty.plain();
        if !represents(ty, &condition.value) {
            return Err(super::portable::damaged());
        }
        types.push(ty);
    }
    Ok((text.into(), parameters, types.into()))
}

impl Session {
    /// Does the plan read nothing but the group, whose tables are what they were at the position?
    fn check_source(
        &mut self,
        planned: &Planned,
        request: &Request,
        catalog: &Catalog,
    ) -> std::result::Result<(), Refused> {
        if !planned.remote.is_empty() {
            return Err(Refused::NotHere);
        }
        let inside = planned
            .tables
            .iter()
            .all(|used| used.group == request.group);
        if !inside || planned.writes.is_some() || planned.locks_rows {
            return Err(ahead(catalog, request));
        }
        let Some(tx) = self.transaction.as_mut() else {
            return Err(Refused::Behind);
        };
        for used in &planned.tables {
            match tx.is_unchanged(request.group, used.table) {
                Ok(true) => {}
                Ok(false) => {
                    let at = catalog.as_of(request.group);
                    return Err(Refused::Ahead(request.group, at));
                }
                Err(Stop::Error(error)) => return Err(error.into()),
                Err(Stop::Wait(_) | Stop::Pause(_)) => return Err(Refused::Behind),
            }
        }
        Ok(())
    }
}

impl Source {
    /// The stand-in's entry in the registry of sessions: to interrupt it.
    pub fn activity(&self) -> &Arc<Activity> {
        self.session.activity()
    }

    /// The next rows, about so many bytes of them. It may keep its thread busy.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn next(&mut self, bytes: usize) -> std::result::Result<Piece, Refused> {
        match self.make(bytes) {
            Ok(Some(rows)) => {
                self.given = true;
                Ok(Piece::Rows(rows))
            }
            Ok(None) => self.check_effects().map(|()| Piece::End),
            Err(Stop::Error(error)) => Err(error.into()),
            Err(Stop::Pause(wait)) => self.wait(wait),
            Err(Stop::Wait(_)) if self.given => Err(begins_again().into()),
            Err(Stop::Wait(wait)) => {
                self.operator = None;
                self.wait(wait)
            }
        }
    }

    fn make(&mut self, bytes: usize) -> std::result::Result<Option<bytes::Bytes>, Stop> {
        let Source {
            session,
            job,
            planned,
            operator,
            ..
        } = self;
        let running = match operator {
            Some(running) => running,
            None => {
                session.activity.check_interrupt()?;
                session.effects.borrow_mut().restart();
                session.lock_and_read(planned)?;
                let parameters = Arc::clone(&job.parameters);
                operator.insert(session.exec(job, |cx| exec::open(planned, parameters, cx))?)
            }
        };
        let mut rows = RowsOut::default();
        let made = session.exec(job, |cx| {
            while !rows.is_full(bytes) {
                cx.evaluation.environment.check_interrupt()?;
                match running.next(cx)? {
                    Some(row) => rows.push(&row),
                    None => break,
                }
            }
            Ok(())
        });
        match made {
            // What is there goes first; the source is asked again.
            Err(Stop::Pause(_)) if !rows.is_empty() => Ok(rows.done()),
            Err(stop) => Err(stop),
            Ok(()) => Ok(rows.done()),
        }
    }

    fn wait(&mut self, wait: Wait) -> std::result::Result<Piece, Refused> {
        match self.session.meet(wait)? {
            Met::Wait(wait) => {
                // How long the statement may take is the reader's to see.
                self.session.begin_lock_timeout(&mut self.job, &wait)?;
                let until = self.job.lock_deadline;
                Ok(Piece::Wait(Waiting::new(&self.session.engine, wait, until)))
            }
            Met::Elsewhere(_) => Err(Refused::NotHere),
        }
    }

    /// What the stand-in does beside reading would not be done by the session.
    fn check_effects(&self) -> std::result::Result<(), Refused> {
        let effects = self.session.effects.borrow();
        let advisory = self.session.memory.borrow().advisory.is_free();
        let says = effects.notifications.len() > 0 || !effects.messages.is_empty();
        match effects.settings.is_empty() && advisory && !says {
            true => Ok(()),
            false => Err(Error::unsupported(
                "a view whose rows are on other nodes and that changes settings, takes advisory \
                 locks, notifies or emits messages",
            )
            .hint("Read it at a node that has a replica of its owner's group: freehold.groups shows which.")
            .into()),
        }
    }
}

/// 40001.
fn begins_again() -> Error {
    Error::new(
        state::SERIALIZATION_FAILURE,
        "the statement would have to begin again after rows were sent",
    )
    .hint("Run it again.")
}

impl Prepared {
    /// A query that was planned already.
    fn of_query(text: Arc<str>, types: Arc<[Type]>) -> Prepared {
        Prepared {
            text,
            parsed: Arc::from([]),
            at: None,
            inner: None,
            brought: None,
            declared: Arc::clone(&types),
            parameters: types,
            from_sql: false,
            created: 0,
            promised: None,
            fresh: Mutex::new(None),
        }
    }
}
