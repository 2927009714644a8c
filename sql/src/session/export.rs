//! A session leaves its node: what it takes along, and how another node makes it again
//! ([`super::portable`] has the bytes).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use storage::GroupId;

use super::portable::{
    CHANNELS, Parts, Portable, REST, SEEN, SEQUENCES, STATE, STATEMENT, TOKEN, damaged,
};
use super::prepared::Prepared;
use super::token::Token;
use super::{Login, Saved, Session, User};
use crate::catalog::{Catalog, RoleId};
use crate::cluster::{Reader, Writer};
use crate::engine::Engine;
use crate::plan::OutputColumn;
use crate::settings::{self, Effective, Values};
use crate::transaction::{Isolation, readable};
use crate::types::Type;
use crate::{Error, Result, state};

/// What has changed since somebody was told last.
#[derive(Default)]
pub(super) struct Changed {
    /// Somebody wants to be told.
    followed: bool,
    pub state: bool,
    pub token: bool,
    pub channels: bool,
    pub seen: bool,
    statements: BTreeSet<String>,
    /// Was a block open, could the session move?
    told: (bool, bool),
}

impl Changed {
    /// A prepared statement was made or dropped.
    pub fn statement(&mut self, name: &str) {
        if self.followed && !self.statements.contains(name) {
            self.statements.insert(name.to_owned());
        }
    }
}

/// An open block as it is taken along.
struct Block {
    values: Values,
    user: (RoleId, RoleId),
    isolation: Isolation,
    read_only: bool,
    deferrable: bool,
    failed: bool,
    started: u64,
}

/// Where a session belongs between two of its turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// Where it is: a transaction is open, or its role has no tables.
    Anywhere,
    /// Where its client is, for it reads that node's cut; what it writes takes it to its leader.
    Client,
    /// At the leader of its role's group.
    Leader(GroupId),
}

impl Session {
    /// Where the session's next turn belongs.
    pub fn home(&self) -> Home {
        if self.transaction.is_some() {
            return Home::Anywhere;
        }
        if self.effective.read_local {
            return Home::Client;
        }
        let group = self.engine.catalog().group_of(self.user.current);
        group.map_or(Home::Anywhere, Home::Leader)
    }

    /// Can the session go on elsewhere as it is now? After [`super::Step::Elsewhere`]: as it was
    /// when the turn began.
    fn is_portable(&self) -> bool {
        if self.turn.moving.is_some() {
            return true;
        }
        let transaction = match &self.transaction {
            None => true,
            Some(tx) => {
                self.block
                    && tx.is_untouched()
                    && !tx.keeps_snapshot()
                    && (self.failed || !self.waits_for_commit())
            }
        };
        transaction && !self.is_bound(None)
    }

    /// Everything that the session takes along; `None` while it can't move: a transaction that has
    /// locked or written, open cursors, advisory locks.
    pub fn export(&self) -> Option<Vec<u8>> {
        if !self.is_portable() {
            return None;
        }
        let mut out = Parts::default();
        out.add(STATE, b"", Some(&self.state_part()));
        if let Some(rest) = self.rest_part() {
            out.add(REST, b"", Some(&rest));
        }
        for (name, prepared) in self.statements_then() {
            out.add(STATEMENT, name.as_bytes(), Some(&statement_part(prepared)));
        }
        out.add(TOKEN, b"", Some(self.token.to_string().as_bytes()));
        out.add(SEQUENCES, b"", Some(&self.sequences_part()));
        out.add(CHANNELS, b"", Some(&self.channels_part()));
        out.add(SEEN, b"", Some(self.seen_part().to_string().as_bytes()));
        Some(out.done())
    }

    /// Would [`Session::export_changes`] tell anything new?
    pub fn is_dirty(&self) -> bool {
        let changed = &self.changed;
        let now = (self.is_in_block(), self.is_portable());
        let state = !changed.followed || changed.state;
        // While it can't move settings and roles are not told.
        (state && now.1)
            || changed.token
            || changed.channels
            || (changed.seen && now.1 && self.seen_part() != self.seen)
            || !changed.statements.is_empty()
            || self.memory.borrow().changed
            || changed.told != now
    }

    fn is_in_block(&self) -> bool {
        self.block && self.transaction.is_some()
    }

    /// From here on [`Session::export_changes`] tells what changes: all else is known.
    pub fn follow(&mut self) {
        let told = (self.is_in_block(), self.is_portable());
        self.memory.borrow_mut().changed = false;
        self.seen = self.seen_part();
        self.changed = Changed {
            followed: true,
            told,
            ..Changed::default()
        };
    }

    /// What has changed since the last call that told something; everything the first time. To be
    /// merged into what was told before ([`Portable::merge`]). While the session can't move, settings
    /// and roles are not told: at the home's fall they would be as they were before the block.
    pub fn export_changes(&mut self) -> Option<Vec<u8>> {
        let told @ (in_block, portable) = (self.is_in_block(), self.is_portable());
        if !self.changed.followed {
            let all = self.export();
            if all.is_some() {
                self.follow();
            }
            return all;
        }
        let state = self.changed.state || self.changed.told.0 || in_block;
        if portable {
            self.seen = self.seen_part();
        }
        let next = Changed {
            followed: true,
            state: state && !portable,
            seen: self.changed.seen && !portable,
            told,
            ..Changed::default()
        };
        let changed = std::mem::replace(&mut self.changed, next);
        let sequences = std::mem::take(&mut self.memory.borrow_mut().changed);
        let mut out = Parts::default();
        if state && portable {
            out.add(STATE, b"", Some(&self.state_part()));
            out.add(REST, b"", self.rest_part().as_deref());
        }
        for name in &changed.statements {
            let body = self.statements.get(name).map(|p| statement_part(p));
            out.add(STATEMENT, name.as_bytes(), body.as_deref());
        }
        if changed.token {
            out.add(TOKEN, b"", Some(self.token.to_string().as_bytes()));
        }
        if sequences {
            out.add(SEQUENCES, b"", Some(&self.sequences_part()));
        }
        if changed.channels {
            out.add(CHANNELS, b"", Some(&self.channels_part()));
        }
        if changed.seen && portable {
            out.add(SEEN, b"", Some(self.seen.to_string().as_bytes()));
        }
        out.done_if_any()
    }

    /// Does the session hold something that would be lost with its node, be a transaction open or
    /// not: advisory locks, cursors WITH HOLD?
    pub fn is_held(&self) -> bool {
        let held = |portal: &super::Portal| portal.cursor.as_ref().is_some_and(|c| c.is_held());
        let locked = self.memory.borrow().advisory.groups().next().is_some();
        locked || self.portals.values().any(held)
    }

    /// The session was resumed after its home has fallen, in which it had this status. What a block
    /// had done is gone: only ROLLBACK ends it as it should, anything else is told so (40001).
    pub fn fallen(&mut self, was: super::Status) {
        if was == super::Status::Idle {
            // The block ended in an unknown way.
            let _ = self.rollback(super::finish::Chain::No);
            return;
        }
        if self.transaction.is_none() {
            let (isolation, read_only) = (self.effective.isolation, self.effective.read_only);
            self.open_transaction(isolation, read_only, true);
        }
        // What they went back to is lost, too.
        if let Some(tx) = self.transaction.as_mut() {
            tx.forget_savepoints();
        }
        self.saved.truncate(1);
        self.listens.clear();
        self.failed = was == super::Status::Failed;
        self.lost = true;
    }

    /// Is the statement under way a query that writes nothing, calls nothing that might, and stands
    /// for itself?
    pub fn only_reads(&self) -> bool {
        let portal = self.current.as_ref().map(|(_, job)| &**job);
        let query = self.simple.as_ref().and_then(|simple| simple.only_job());
        let Some(job) = portal.or(query) else {
            return false;
        };
        let fresh = job.prepared.fresh.lock();
        let untouched = self.transaction.as_ref().is_none_or(|tx| tx.is_untouched());
        untouched
            && fresh
                .as_ref()
                .is_some_and(|fresh| fresh.planned.only_reads())
    }

    /// Settings and roles at the moment that is told.
    fn standing(&self) -> (&Values, &User) {
        match (&self.turn.block, self.saved.first()) {
            (Some(open), _) if self.turn.moving.is_some() => (&open.values, &open.user),
            (None, Some(saved)) if self.turn.moving.is_some() => (&saved.values, &saved.user),
            _ => (&self.values, &self.user),
        }
    }

    /// The open block at that moment.
    fn open_block(&self) -> Option<Block> {
        let tx = self.transaction.as_ref()?;
        let open = match self.turn.moving.is_some() {
            true => self.turn.block.is_some(),
            false => self.block,
        };
        let saved = self.saved.first().filter(|_| open)?;
        Some(Block {
            values: saved.values.clone(),
            user: (saved.user.session, saved.user.current),
            isolation: tx.isolation(),
            read_only: tx.read_only(),
            deferrable: tx.deferrable(),
            failed: self.failed,
            started: tx.started(),
        })
    }

    fn state_part(&self) -> Vec<u8> {
        let (values, user) = self.standing();
        let mut out = Writer::default();
        out.u32(user.session.0);
        out.u32(user.current.0);
        write_values(values, &mut out);
        let reported = self.reported.iter();
        let reported: Vec<_> = reported
            .filter(|(name, _)| **name != settings::TOKEN)
            .collect();
        out.count(reported.len());
        for (name, value) in reported {
            out.text(name);
            out.text(value);
        }
        let block = self.open_block();
        let group = self.turn.moving;
        out.u8(u8::from(group.is_some()));
        if let Some(group) = group {
            out.u32(group.0);
        }
        out.u8(u8::from(block.is_some()));
        if let Some(block) = block {
            out.u32(block.user.0.0);
            out.u32(block.user.1.0);
            write_values(&block.values, &mut out);
            out.text(block.isolation.name());
            for flag in [block.read_only, block.deferrable, block.failed] {
                out.u8(u8::from(flag));
            }
            out.u64(block.started);
        }
        out.0
    }

    /// Savepoints and LISTENs of the open block at that moment, if it has any.
    fn rest_part(&self) -> Option<Vec<u8>> {
        self.open_block()?;
        let now;
        let open = match self
            .turn
            .block
            .as_ref()
            .filter(|_| self.turn.moving.is_some())
        {
            Some(then) => then,
            None => {
                now = self.opened();
                &now
            }
        };
        if open.savepoints.is_empty() && open.listens.is_empty() {
            return None;
        }
        let mut out = Writer::default();
        out.count(open.savepoints.len());
        for (name, saved) in &open.savepoints {
            out.text(name);
            out.u32(saved.user.session.0);
            out.u32(saved.user.current.0);
            write_values(&saved.values, &mut out);
            out.u32(saved.listens as u32);
        }
        out.count(open.listens.len());
        for (listens, channel) in &open.listens {
            out.u8(u8::from(*listens));
            out.u8(u8::from(channel.is_some()));
            if let Some(channel) = channel {
                out.text(channel);
            }
        }
        Some(out.0)
    }

    /// The prepared statements at that moment.
    fn statements_then(&self) -> BTreeMap<&str, &Arc<Prepared>> {
        let now = self.statements.iter();
        let mut all: BTreeMap<&str, &Arc<Prepared>> = now
            .map(|(name, prepared)| (name.as_str(), prepared))
            .collect();
        if self.turn.moving.is_some() {
            for (name, former) in self.turn.statements.iter().rev() {
                match former {
                    Some(former) => all.insert(name, former),
                    None => all.remove(name.as_str()),
                };
            }
        }
        all
    }

    fn sequences_part(&self) -> Vec<u8> {
        let memory = self.memory.borrow();
        let mut out = Writer::default();
        out.count(memory.current.len());
        for (id, value) in &memory.current {
            out.u32(*id);
            out.u64(*value as u64);
        }
        out.u8(u8::from(memory.last.is_some()));
        if let Some(last) = memory.last {
            out.u32(last);
        }
        out.0
    }

    /// What the session may have read: where it goes on, it sees that, too.
    fn seen_part(&self) -> Token {
        let mut seen = self.seen.clone();
        if !self.changed.seen {
            return seen;
        }
        for id in &self.read {
            if let Some(group) = self.engine.groups().get(*id) {
                seen.add(*id, readable(self.engine.groups(), &group));
            }
        }
        seen
    }

    fn channels_part(&self) -> Vec<u8> {
        let channels = self.activity.channels();
        let mut out = Writer::default();
        out.count(channels.len());
        channels.iter().for_each(|channel| out.text(channel));
        out.0
    }
}

pub(super) fn write_values(values: &Values, out: &mut Writer) {
    for map in values.maps() {
        out.count(map.size());
        for (name, value) in map {
            out.text(name);
            out.text(value);
        }
    }
}

fn write_types(types: &[Type], out: &mut Writer) {
    out.count(types.len());
    for ty in types {
        out.u32(ty.oid);
        out.u32(ty.modifier as u32);
    }
}

fn statement_part(prepared: &Prepared) -> Vec<u8> {
    let mut out = Writer::default();
    out.text(&prepared.text);
    out.u8(u8::from(prepared.from_sql));
    out.u64(prepared.created as u64);
    write_types(&prepared.declared, &mut out);
    write_types(&prepared.parameters, &mut out);
    out.u8(u8::from(prepared.promised.is_some()));
    if let Some(columns) = &prepared.promised {
        out.count(columns.len());
        for column in columns.iter() {
            out.text(&column.name);
            write_types(&[column.ty], &mut out);
            out.u32(column.table);
            out.u32(column.number as u32);
        }
    }
    out.0
}

impl Engine {
    /// `statement_timeout` of a session that is under way.
    pub fn statement_timeout(&self, portable: &Portable) -> Option<Duration> {
        let state = portable.part(STATE).and_then(read_state)?;
        let effective = Effective::new(self.settings(), &state.values).ok()?;
        let micros = effective.statement_timeout;
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// Opens a session that was exported elsewhere, or at its node's fall known of elsewhere. Who
    /// logged in is known from the node to which its client is connected.
    ///
    /// # Errors
    /// Those of [`Engine::session`]; 42704 for a role that is gone; XX001 for damaged bytes.
    pub fn resume(self: &Arc<Engine>, login: &Login, bytes: &[u8]) -> Result<Session> {
        let portable = Portable::new(bytes)?;
        let state = portable
            .part(STATE)
            .and_then(read_state)
            .ok_or_else(damaged)?;
        let mut session = self.open(login, Some(state.initial()))?;
        let came_for = state.came_for;
        let rest = match portable.part(REST) {
            Some(rest) => read_rest(rest).ok_or_else(damaged)?,
            None => Rest::default(),
        };
        session.take_state(state, rest)?;
        for (name, body) in portable.keyed(STATEMENT) {
            let name = std::str::from_utf8(name).map_err(|_| damaged())?;
            let prepared = read_statement(body).ok_or_else(damaged)?;
            session
                .statements
                .insert(name.to_owned(), Arc::new(prepared));
        }
        let part = |kind| portable.part(kind).ok_or_else(damaged);
        let token = std::str::from_utf8(part(TOKEN)?).map_err(|_| damaged())?;
        session.token = Token::parse(token)?;
        session.await_token = true;
        if !token.is_empty() {
            session.reported.insert(settings::TOKEN, token.to_owned());
        }
        let sequences = part(SEQUENCES)?;
        session.take_sequences(sequences).ok_or_else(damaged)?;
        let channels = part(CHANNELS)?;
        session.take_channels(channels).ok_or_else(damaged)?;
        let seen = std::str::from_utf8(part(SEEN)?).map_err(|_| damaged())?;
        session.seen = Token::parse(seen)?;
        session.read = session.seen.iter().map(|(group, _)| group).collect();
        session.idle();
        session.turn.came_for = came_for;
        Ok(session)
    }
}

/// The part [`STATE`].
struct State {
    user: (RoleId, RoleId),
    values: Values,
    reported: Vec<(String, String)>,
    came_for: Option<GroupId>,
    block: Option<Block>,
}

impl State {
    /// Settings that came with the connection.
    fn initial(&self) -> Values {
        self.values.initial()
    }
}

fn read_pairs(r: &mut Reader<'_>) -> Option<Vec<(String, String)>> {
    r.list(|r| Some((r.text()?.to_owned(), r.text()?.to_owned())))
}

pub(super) fn read_values(r: &mut Reader<'_>) -> Option<Values> {
    Some(Values::of([read_pairs(r)?, read_pairs(r)?, read_pairs(r)?]))
}

fn read_types(r: &mut Reader<'_>) -> Option<Vec<Type>> {
    r.list(|r| {
        let (oid, modifier) = (r.u32()?, r.u32()? as i32);
        Some(Type { oid, modifier })
    })
}

fn read_state(bytes: &[u8]) -> Option<State> {
    let mut r = Reader(bytes);
    let user = (RoleId(r.u32()?), RoleId(r.u32()?));
    let values = read_values(&mut r)?;
    let reported = read_pairs(&mut r)?;
    let came_for = match r.flag()? {
        true => Some(GroupId(r.u32()?)),
        false => None,
    };
    let block = match r.flag()? {
        false => None,
        true => Some(Block {
            user: (RoleId(r.u32()?), RoleId(r.u32()?)),
            values: read_values(&mut r)?,
            isolation: settings::isolation(r.text()?),
            read_only: r.flag()?,
            deferrable: r.flag()?,
            failed: r.flag()?,
            started: r.u64()?,
        }),
    };
    r.is_empty().then_some(State {
        user,
        values,
        reported,
        came_for,
        block,
    })
}

/// The part [`REST`].
#[derive(Default)]
struct Rest {
    savepoints: Vec<Point>,
    listens: Vec<(bool, Option<String>)>,
}

/// A savepoint.
struct Point {
    name: String,
    user: (RoleId, RoleId),
    values: Values,
    listens: usize,
}

fn read_rest(bytes: &[u8]) -> Option<Rest> {
    let mut r = Reader(bytes);
    let savepoints = r.list(|r| {
        Some(Point {
            name: r.text()?.to_owned(),
            user: (RoleId(r.u32()?), RoleId(r.u32()?)),
            values: read_values(r)?,
            listens: r.u32()? as usize,
        })
    })?;
    let listens = r.list(|r| {
        let listens = r.flag()?;
        let channel = match r.flag()? {
            true => Some(r.text()?.to_owned()),
            false => None,
        };
        Some((listens, channel))
    })?;
    r.is_empty().then_some(Rest {
        savepoints,
        listens,
    })
}

fn read_statement(bytes: &[u8]) -> Option<Prepared> {
    let mut r = Reader(bytes);
    let text = r.text()?.into();
    let from_sql = r.flag()?;
    let created = r.u64()? as i64;
    let declared = read_types(&mut r)?.into();
    let parameters = read_types(&mut r)?.into();
    let promised = match r.flag()? {
        false => None,
        true => Some(r.list(|r| {
            let name = r.text()?.to_owned();
            let ty = *read_types(r)?.first()?;
            let (table, number) = (r.u32()?, r.u32()? as i16);
            Some(OutputColumn {
                name,
                ty,
                table,
                number,
            })
        })?),
    };
    r.is_empty().then(|| Prepared {
        text,
        parsed: Arc::from([]),
        at: None,
        inner: None,
        brought: Some(Box::new(OnceLock::new())),
        declared,
        parameters,
        from_sql,
        created,
        promised: promised.map(Into::into),
        fresh: Mutex::new(None),
    })
}

impl Session {
    fn take_state(&mut self, state: State, rest: Rest) -> Result<()> {
        let catalog = self.engine.catalog();
        let user = self.user.clone();
        let roles = |(session, current)| acting(&user, &catalog, session, current);
        let acts_as = roles(state.user)?;
        if let Some(block) = state.block {
            self.values = block.values;
            self.user = roles(block.user)?;
            self.settings_touched()?;
            self.open_transaction(block.isolation, block.read_only, true);
            if let Some(tx) = self.transaction.as_mut() {
                tx.began(block.started);
                tx.set_modes(&crate::parse::Modes {
                    deferrable: Some(block.deferrable),
                    ..crate::parse::Modes::default()
                })?;
            }
            self.failed = block.failed;
            for point in rest.savepoints {
                self.values = point.values;
                self.user = roles(point.user)?;
                let saved = Saved {
                    listens: point.listens,
                    ..self.save()
                };
                if let Some(tx) = self.transaction.as_mut() {
                    tx.savepoint(&point.name);
                }
                self.saved.push(saved);
            }
            self.listens = rest.listens;
        }
        self.values = state.values;
        self.user = acts_as;
        self.settings_touched()?;
        for (name, value) in state.reported {
            if let Some(name) = settings::REPORTED.iter().find(|known| **known == name) {
                self.reported.insert(name, value);
            }
        }
        Ok(())
    }

    fn take_sequences(&mut self, bytes: &[u8]) -> Option<()> {
        let mut r = Reader(bytes);
        let current = r.list(|r| Some((r.u32()?, r.u64()? as i64)))?;
        let last = match r.flag()? {
            true => Some(r.u32()?),
            false => None,
        };
        let memory = self.memory.get_mut();
        memory.current = current.into_iter().collect();
        memory.last = last;
        r.is_empty().then_some(())
    }

    fn take_channels(&mut self, bytes: &[u8]) -> Option<()> {
        let mut r = Reader(bytes);
        let channels = r.list(|r| r.text().map(str::to_owned))?;
        for channel in &channels {
            let (process, mailbox) = (self.activity.process(), self.activity.mailbox());
            self.engine.notifier().listen(channel, process, mailbox);
        }
        self.activity
            .update(|shown| shown.channels.extend(channels));
        r.is_empty().then_some(())
    }
}

/// The user with the roles that it acts as.
pub(super) fn acting(
    user: &User,
    catalog: &Catalog,
    session: RoleId,
    current: RoleId,
) -> Result<User> {
    let name = |id: RoleId| {
        catalog
            .role(id)
            .map(|role| Arc::from(role.name.as_str()))
            .ok_or_else(|| {
                let message = format!("role with OID {} does not exist", id.0);
                Error::new(state::UNDEFINED_OBJECT, message)
            })
    };
    Ok(User {
        session,
        session_name: name(session)?,
        current,
        current_name: name(current)?,
        ..user.clone()
    })
}
