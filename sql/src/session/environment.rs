//! What functions ask of the session: who and when, settings, sequences, advisory locks, sleeping,
//! notifications. A function that must wait says so in [`Effects`]; the statement then runs again
//! from its start and finds the answer remembered.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use storage::{GroupId, TxId};

use super::activity::Activity;
use super::advisory::Advisory;
use super::notify::Outbox;
use super::prepared::Prepared;
use super::token::Token;
use super::user::User;
use super::{Portal, sequence};
use crate::catalog::{Catalog, RoleId, SchemaId};
use crate::engine::Engine;
use crate::functions::evaluation::Left;
use crate::functions::{Environment, Evaluation, Resolved, Rows, System};
use crate::settings::Values;
use crate::transaction::{self, Barriers, EVENTS_BYTES_MAX, Questions, Stop, Wait};
use crate::types::Datum;
use crate::types::datetime::compute::timestamptz_plus;
use crate::{Error, Result, state};

/// Bytes of notices that one statement may raise: they are kept until it is over.
const RAISED_BYTES_MAX: usize = 16 << 20;
/// What a notice costs beside its texts.
const NOTICE_OVERHEAD: usize = 256;
/// Calls with effects remembered per statement.
const MEMOS_MAX: usize = 100_000;

/// What functions want from the session, and what they have done.
#[derive(Default)]
pub(super) struct Effects {
    /// Why the statement must stop and run again.
    pub need: Option<Need>,
    /// Answers of calls that must not be made twice, in order of the calls.
    memos: Vec<Memo>,
    at: usize,
    /// `set_config`: name, value, local.
    pub settings: Vec<(String, String, bool)>,
    /// `pg_notify`.
    pub notifications: Outbox,
    /// `pg_logical_emit_message`: type, payload.
    pub messages: Vec<(String, Bytes)>,
    message_bytes: u64,
    /// The transaction's id, once it was asked for.
    pub txid: Option<TxId>,
    /// Warnings.
    pub notices: Vec<Error>,
    /// What functions have raised, with its severity.
    pub raised: Vec<(&'static str, Error)>,
    raised_bytes: usize,
    /// Triggers' functions under way.
    trigger_depth: i32,
    /// Calls of functions that must not be called twice.
    calls: u32,
    /// Eras in which the transaction has taken advisory locks.
    pub stands_on: Vec<(GroupId, storage::Position)>,
    /// Proofs for `pg_xact_status`.
    pub barriers: Barriers,
    /// What other nodes say of their transactions.
    pub questions: Questions,
    /// Until when it waits for one that there is no leader for.
    pub proof_until: Option<u64>,
    /// The turn has done what stands whatever becomes of its transaction (`setval`).
    pub lasting: bool,
    /// Positions that the answer waits for (ranges of sequences).
    pub hold: Vec<(GroupId, storage::Position)>,
}

/// What the session does before the statement runs again.
pub(super) enum Need {
    /// Await.
    Wait(Wait),
    /// Give the transaction an id.
    Id,
}

#[derive(Clone)]
pub(super) enum Memo {
    /// A sleep that ends then.
    Until(u64),
    /// A place in a lock's queue.
    Queued,
    /// Answered.
    Done(Datum),
}

impl Effects {
    /// The statement runs (again) from its start.
    pub fn restart(&mut self) {
        self.need = None;
        self.at = 0;
        self.settings.clear();
        self.notifications.clear();
        self.messages.clear();
        self.message_bytes = 0;
        self.notices.clear();
        self.raised.clear();
        self.raised_bytes = 0;
        self.trigger_depth = 0;
        self.calls = 0;
        self.stands_on.clear();
    }

    /// What functions have left so far.
    pub fn left(&self) -> Left {
        Left {
            settings: self.settings.len(),
            notifications: self.notifications.len(),
            messages: self.messages.len(),
            raised: self.raised.len(),
        }
    }

    /// Takes back what was left since.
    pub fn take_back(&mut self, left: Left) {
        self.settings.truncate(left.settings);
        self.notifications.truncate(left.notifications);
        self.messages.truncate(left.messages);
        self.raised.truncate(left.raised);
    }

    /// Another statement begins.
    pub fn begin(&mut self) {
        self.restart();
        self.memos.clear();
        self.barriers.clear();
        self.questions.clear();
        self.proof_until = None;
    }
}

/// What a session remembers between statements for functions.
#[derive(Default)]
pub(super) struct Memory {
    /// `currval` by sequence.
    pub current: BTreeMap<u32, i64>,
    /// `lastval`.
    pub last: Option<u32>,
    /// One of them has changed since it was told ([`super::export`]).
    pub changed: bool,
    /// Sequences made by the open transaction: their state until it commits.
    pub own_sequences: BTreeMap<u32, sequence::Position>,
    /// `random()`'s generator.
    pub random: Option<u64>,
    /// Advisory locks.
    pub advisory: Advisory,
}

/// The environment of one statement.
pub(super) struct Surroundings<'a> {
    pub engine: &'a Arc<Engine>,
    pub catalog: &'a Arc<Catalog>,
    pub user: &'a User,
    pub values: &'a Values,
    pub path: &'a [SchemaId],
    pub effects: &'a RefCell<Effects>,
    pub memory: &'a RefCell<Memory>,
    pub activity: &'a Arc<Activity>,
    pub database: &'a str,
    pub token: &'a Token,
    pub text: &'a str,
    /// In a read-only transaction: no sequences, no notifications.
    pub read_only: bool,
    /// The group that it writes.
    pub writing: Option<GroupId>,
    /// The transaction's isolation level, as `SHOW transaction_isolation` prints it.
    pub isolation: &'static str,
    pub statements: &'a HashMap<String, Arc<Prepared>>,
    pub portals: &'a HashMap<String, Portal>,
}

/// The error that carries a need out of an expression; the session never shows it.
fn stopped() -> Error {
    Error::internal("the statement runs again")
}

impl Surroundings<'_> {
    pub(super) fn need(&self, need: Need) -> Error {
        self.effects.borrow_mut().need = Some(need);
        stopped()
    }

    pub(super) fn wait(&self, stop: Stop) -> Error {
        match stop {
            Stop::Error(error) => error,
            Stop::Wait(wait) | Stop::Pause(wait) => self.need(Need::Wait(wait)),
        }
    }

    /// Runs a call with an effect once per statement, however often the statement runs again.
    pub(super) fn once(
        &self,
        run: impl FnOnce(Option<&Memo>) -> std::result::Result<Datum, (Memo, Need)>,
    ) -> Result<Datum> {
        let (at, memo) = {
            let mut effects = self.effects.borrow_mut();
            let at = effects.at;
            effects.at += 1;
            if at >= MEMOS_MAX {
                return Err(Error::new(
                    state::PROGRAM_LIMIT_EXCEEDED,
                    "too many waiting function calls in one statement",
                ));
            }
            (at, effects.memos.get(at).cloned())
        };
        if let Some(Memo::Done(value)) = memo {
            return Ok(value);
        }
        let (memo, result) = match run(memo.as_ref()) {
            Ok(value) => (Memo::Done(value.clone()), Ok(value)),
            Err((memo, need)) => (memo, Err(need)),
        };
        {
            let mut effects = self.effects.borrow_mut();
            if at < effects.memos.len() {
                effects.memos[at] = memo;
            } else {
                effects.memos.push(memo);
            }
        }
        result.map_err(|need| self.need(need))
    }

    /// Sleeps for microseconds; `u64::MAX` is for ever.
    fn sleep(&self, micros: u64) -> Result<Datum> {
        let now = self.engine.clock().unix_micros();
        self.once(|memo| match memo {
            Some(Memo::Until(until)) if now >= *until => Ok(Datum::Void),
            Some(Memo::Until(until)) => Err((Memo::Until(*until), Need::Wait(Wait::Until(*until)))),
            _ if micros == 0 => Ok(Datum::Void),
            _ => {
                let until = now.saturating_add(micros);
                Err((Memo::Until(until), Need::Wait(Wait::Until(until))))
            }
        })
    }

    fn set_config(&self, arguments: &[Datum]) -> Result<Datum> {
        let (Some(name), Some(value)) = (text(arguments, 0), text(arguments, 1)) else {
            return match text(arguments, 0) {
                None => Err(Error::new(
                    state::NULL_VALUE_NOT_ALLOWED,
                    "SET requires parameter name",
                )),
                Some(_) => Ok(Datum::Null),
            };
        };
        let local = matches!(arguments.get(2), Some(Datum::Bool(true)));
        // Checked here, carried out when the statement succeeds.
        let mut trial = self.values.clone();
        let superuser = self.catalog.is_superuser(self.user.session);
        let place = crate::settings::Place::Session;
        trial.set(name, Some(&[value.to_owned()]), place, superuser)?;
        let shown = trial.show(self.engine.settings(), name)?;
        let mut effects = self.effects.borrow_mut();
        effects
            .settings
            .push((name.to_owned(), value.to_owned(), local));
        Ok(Datum::Text(shown.into()))
    }

    fn session_setting(&self, name: &str) -> Option<String> {
        match name.to_ascii_lowercase().as_str() {
            "role" => {
                let none = self.user.current == self.user.session;
                return Some(if none {
                    "none".into()
                } else {
                    self.user.current_name.to_string()
                });
            }
            "session_authorization" => return Some(self.user.session_name.to_string()),
            "freehold.token" => return Some(self.token.to_string()),
            "transaction_isolation" => return Some(self.isolation.to_owned()),
            "transaction_read_only" => {
                return Some(if self.read_only { "on" } else { "off" }.to_owned());
            }
            "is_superuser" => {
                let superuser = self.catalog.is_superuser(self.user.session);
                return Some(if superuser { "on" } else { "off" }.to_owned());
            }
            _ => {}
        }
        let effects = self.effects.borrow();
        if let Some((n, value, local)) = effects
            .settings
            .iter()
            .rev()
            .find(|(n, ..)| n.eq_ignore_ascii_case(name))
        {
            let mut trial = self.values.clone();
            let place = if *local {
                crate::settings::Place::Local
            } else {
                crate::settings::Place::Session
            };
            if trial
                .set(n, Some(std::slice::from_ref(value)), place, true)
                .is_ok()
            {
                return trial.look(self.engine.settings(), name);
            }
        }
        drop(effects);
        self.values.look(self.engine.settings(), name)
    }

    fn notify(&self, arguments: &[Datum]) -> Result<Datum> {
        let channel = text(arguments, 0).unwrap_or_default();
        let payload = text(arguments, 1).unwrap_or_default();
        super::control::check_notification(channel, payload)?;
        let mut effects = self.effects.borrow_mut();
        effects.notifications.push(channel, payload)?;
        Ok(Datum::Void)
    }

    /// What functions have done besides, of a statement whose effects wait: the messages. Nobody is told of
    /// the rest.
    fn messages(&self) -> Vec<(String, Bytes)> {
        let mut effects = self.effects.borrow_mut();
        effects.notifications.clear();
        effects.notices.clear();
        effects.settings.clear();
        effects.raised.clear();
        effects.raised_bytes = 0;
        effects.message_bytes = 0;
        std::mem::take(&mut effects.messages)
    }

    fn emit_message(&self, arguments: &[Datum]) -> Result<Datum> {
        if !matches!(arguments.first(), Some(Datum::Bool(true))) {
            return Err(Error::unsupported("a non-transactional logical message")
                .hint("Pass true: the message becomes an event of the transaction's entry."));
        }
        let kind = text(arguments, 1).unwrap_or_default();
        if kind.is_empty() || kind.len() > crate::parse::NAME_BYTES_MAX * 4 {
            return Err(Error::new(
                state::INVALID_PARAMETER_VALUE,
                "an event's type must have 1 to 252 bytes",
            ));
        }
        if self.read_only {
            return Err(read_only("pg_logical_emit_message()"));
        }
        if self.writing.is_none_or(|group| group == GroupId::DIRECTORY) {
            // Before rows leave: the statement may have to begin again elsewhere.
            self.stopping(self.engine.owner_group(self.user.current))?;
        }
        let payload = match arguments.get(2) {
            Some(Datum::Bytea(bytes)) => Bytes::copy_from_slice(bytes),
            Some(Datum::Text(text)) => Bytes::copy_from_slice(text.as_bytes()),
            _ => Bytes::new(),
        };
        let mut effects = self.effects.borrow_mut();
        effects.message_bytes += transaction::event_bytes(kind, &payload);
        // The statement's own, as they arrive; the transaction counts them all at its end.
        if effects.message_bytes > EVENTS_BYTES_MAX {
            return Err(transaction::too_many_events());
        }
        let max = self.engine.limits().transaction_bytes_max;
        if effects.message_bytes > max {
            return Err(transaction::too_large(max));
        }
        effects.messages.push((kind.to_owned(), payload));
        // The position is known at commit only; PostgreSQL gives the place of the record.
        Ok(Datum::Lsn(0))
    }

    fn txid(&self, name: &str) -> Result<Datum> {
        let txid = self.effects.borrow().txid;
        let make = |id: TxId| match name.starts_with("txid") {
            true => Datum::Int8(i64::try_from(id.0).unwrap_or(i64::MAX)),
            false => Datum::Xid8(id.0),
        };
        match txid {
            Some(id) => Ok(make(id)),
            None if name.ends_with("if_assigned") => Ok(Datum::Null),
            None => Err(self.need(Need::Id)),
        }
    }

    fn wal_position(&self) -> Datum {
        let newest = self
            .engine
            .groups()
            .all()
            .iter()
            .map(|g| g.applied().0)
            .max();
        Datum::Lsn(newest.unwrap_or(0))
    }

    fn signal(&self, arguments: &[Datum], terminate: bool) -> Result<Datum> {
        let Some(Datum::Int4(process)) = arguments.first() else {
            return Ok(Datum::Null);
        };
        let Some(other) = self.engine.activities().get(*process) else {
            self.effects.borrow_mut().notices.push(Error::new(
                state::WARNING,
                format!("PID {process} is not a PostgreSQL backend process"),
            ));
            return Ok(Datum::Bool(false));
        };
        let me = self.user.current;
        let theirs = other.role();
        if self.catalog.is_superuser(theirs) && !self.catalog.is_superuser(me) {
            return Err(Error::new(
                state::INSUFFICIENT_PRIVILEGE,
                "must be a superuser to terminate superuser process",
            ));
        }
        if !self.catalog.has_role(me, theirs) {
            return Err(Error::new(
                state::INSUFFICIENT_PRIVILEGE,
                "must be a member of the role whose process is being terminated or member of \
                 pg_signal_backend",
            ));
        }
        if terminate {
            other.terminate();
        } else {
            other.cancel();
        }
        Ok(Datum::Bool(true))
    }
}

/// `cannot execute x in a read-only transaction` (25006).
pub(super) fn read_only(what: &str) -> Error {
    Error::new(
        state::READ_ONLY_SQL_TRANSACTION,
        format!("cannot execute {what} in a read-only transaction"),
    )
}

fn text(arguments: &[Datum], at: usize) -> Option<&str> {
    match arguments.get(at) {
        Some(Datum::Text(text)) => Some(text),
        _ => None,
    }
}

/// Microseconds from `now` to a time; 0 if it is past, `u64::MAX` to infinity.
fn micros_to(at: i64, now: i64) -> u64 {
    match at {
        i64::MAX => u64::MAX,
        at => u64::try_from(at.saturating_sub(now)).unwrap_or(0),
    }
}

fn oid(arguments: &[Datum], at: usize) -> Option<u32> {
    match arguments.get(at) {
        Some(Datum::Oid(oid)) => Some(*oid),
        _ => None,
    }
}

impl System for Surroundings<'_> {
    fn system(
        &self,
        evaluation: &mut Evaluation<'_>,
        resolved: &Resolved,
        arguments: &[Datum],
    ) -> Result<Datum> {
        let name = resolved.function.name;
        match name {
            "nextval" | "currval" | "setval" | "lastval" => self.sequence(name, arguments),
            "pg_sequence_last_value" => match oid(arguments, 0) {
                Some(id) => sequence::last_value(self, id),
                None => Ok(Datum::Null),
            },
            "set_config" => self.set_config(arguments),
            "current_setting" => {
                let name = text(arguments, 0).unwrap_or_default();
                match self.session_setting(name) {
                    Some(value) => Ok(Datum::Text(value.into())),
                    None if matches!(arguments.get(1), Some(Datum::Bool(true))) => Ok(Datum::Null),
                    None => Err(crate::settings::unknown(name)),
                }
            }
            "pg_sleep" => match arguments.first() {
                // Nothing for what is negative or no number, and no end for what is infinite.
                Some(Datum::Float8(seconds)) => self.sleep((seconds * 1e6) as u64),
                _ => Ok(Datum::Void),
            },
            "pg_sleep_for" => match arguments.first() {
                Some(Datum::Interval(span)) => {
                    let (now, zone) = (self.engine.now(), &evaluation.format.zone);
                    self.sleep(micros_to(timestamptz_plus(now, span, zone)?, now))
                }
                _ => Ok(Datum::Void),
            },
            "pg_sleep_until" => match arguments.first() {
                Some(Datum::Timestamptz(at)) => self.sleep(micros_to(*at, self.engine.now())),
                _ => Ok(Datum::Void),
            },
            "pg_notify" => self.notify(arguments),
            "pg_listening_channels" => Ok(Datum::Null),
            "pg_notification_queue_usage" => Ok(Datum::Float8(0.0)),
            "pg_logical_emit_message" => self.emit_message(arguments),
            "txid_current"
            | "txid_current_if_assigned"
            | "pg_current_xact_id"
            | "pg_current_xact_id_if_assigned" => self.txid(name),
            "txid_status" | "pg_xact_status" => self.transaction_status(arguments),
            "pg_current_wal_lsn"
            | "pg_current_wal_insert_lsn"
            | "pg_current_wal_flush_lsn"
            | "pg_last_wal_receive_lsn"
            | "pg_last_wal_replay_lsn" => Ok(self.wal_position()),
            "pg_is_in_recovery" => Ok(Datum::Bool(false)),
            "pg_cancel_backend" => self.signal(arguments, false),
            "pg_terminate_backend" => self.signal(arguments, true),
            "pg_backend_pid" => Ok(Datum::Int4(self.activity.process())),
            "pg_postmaster_start_time" | "pg_conf_load_time" => {
                Ok(Datum::Timestamptz(self.engine.activities().started()))
            }
            "version" => Ok(Datum::from(crate::settings::version())),
            "current_query" => Ok(Datum::Text(self.text.into())),
            "pg_trigger_depth" => Ok(Datum::Int4(self.effects.borrow().trigger_depth)),
            "pg_jit_available" => Ok(Datum::Bool(false)),
            // No replay, and as over a Unix socket: the wire is none of SQL's business.
            "pg_last_xact_replay_timestamp"
            | "inet_server_addr"
            | "inet_server_port"
            | "inet_client_addr"
            | "inet_client_port" => Ok(Datum::Null),
            "pg_safe_snapshot_blocking_pids" | "pg_blocking_pids" => Ok(Datum::array(
                crate::types::Array::empty(crate::types::Type::INT4),
            )),
            _ if name.starts_with("pg_advisory") || name.starts_with("pg_try_advisory") => {
                if name == "pg_advisory_unlock_all" {
                    super::control::unlock_all(self.engine, self.memory);
                    return Ok(Datum::Void);
                }
                self.advisory(name, arguments)
            }
            _ => super::bridge::call(self, resolved, arguments),
        }
    }

    fn system_rows(
        &self,
        _evaluation: &mut Evaluation<'_>,
        resolved: &Resolved,
        arguments: &[Datum],
    ) -> Result<Rows> {
        match resolved.function.name {
            "pg_listening_channels" => {
                let channels = self.activity.channels();
                Ok(Box::new(
                    channels.into_iter().map(|c| Ok(Datum::Text(c.into()))),
                ))
            }
            _ => super::bridge::call_rows(self, resolved, arguments),
        }
    }
}

impl Surroundings<'_> {
    fn sequence(&self, name: &str, arguments: &[Datum]) -> Result<Datum> {
        if name == "lastval" {
            let memory = self.memory.borrow();
            let last = memory.last.and_then(|id| memory.current.get(&id).copied());
            return last.map(Datum::Int8).ok_or_else(|| {
                Error::new(
                    state::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    "lastval is not yet defined in this session",
                )
            });
        }
        let Some(id) = oid(arguments, 0) else {
            return Ok(Datum::Null);
        };
        match name {
            "nextval" => sequence::next(self, id),
            "currval" => sequence::current(self, id),
            _ => {
                let Some(Datum::Int8(value)) = arguments.get(1) else {
                    return Ok(Datum::Null);
                };
                let called = !matches!(arguments.get(2), Some(Datum::Bool(false)));
                sequence::set(self, id, *value, called)
            }
        }
    }

    /// Runs a piece of a sequence's work that may have to wait.
    pub(super) fn stopping<T>(&self, result: std::result::Result<T, Stop>) -> Result<T> {
        result.map_err(|stop| self.wait(stop))
    }

    /// A call that waits for one position after it has done its work.
    pub(super) fn after(
        &self,
        run: impl FnOnce() -> std::result::Result<(Datum, GroupId, storage::Position), Stop>,
    ) -> Result<Datum> {
        let mut failed = None;
        let value = self.once(|memo| match memo {
            Some(Memo::Done(value)) => Ok(value.clone()),
            _ => match run() {
                Ok((value, group, position)) => Err((
                    Memo::Done(value),
                    Need::Wait(Wait::Position(group, position)),
                )),
                Err(Stop::Error(error)) => {
                    failed = Some(error);
                    Ok(Datum::Null)
                }
                Err(Stop::Wait(wait) | Stop::Pause(wait)) => {
                    Err((Memo::Until(0), Need::Wait(wait)))
                }
            },
        })?;
        match failed {
            Some(error) => Err(error),
            None => Ok(value),
        }
    }

    /// The role whose privileges count.
    pub(super) fn role(&self) -> RoleId {
        self.user.current
    }
}

impl Environment for Surroundings<'_> {
    fn take_messages(&self) -> Vec<(String, Bytes)> {
        self.messages()
    }

    fn newest_catalog(&self) -> Option<Arc<Catalog>> {
        Some(self.engine.catalog())
    }

    fn doubts(&self, groups: &[GroupId]) -> Option<GroupId> {
        self.engine.cluster().doubts(groups, None)
    }

    fn go_home(&self, group: GroupId) -> Result<()> {
        match self.engine.leads(group) {
            true => Ok(()),
            false => Err(self.need(Need::Wait(Wait::Leader(group)))),
        }
    }

    fn asker(&self) -> Vec<u8> {
        super::stand_in::asker(self)
    }

    fn clock(&self) -> i64 {
        self.engine.now()
    }

    fn random_bits(&self) -> u64 {
        self.engine.random().bits()
    }

    fn random(&self) -> f64 {
        let mut memory = self.memory.borrow_mut();
        let seed = match memory.random {
            Some(seed) => seed,
            None => self.engine.random().bits(),
        };
        let step = 0x9E37_79B9_7F4A_7C15u64;
        let next = seed.wrapping_add(step);
        memory.random = Some(next);
        let mut z = next;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 11) as f64 / (1u64 << 53) as f64
    }

    fn set_seed(&self, seed: f64) {
        self.memory.borrow_mut().random = Some(seed.to_bits());
    }

    fn current_user(&self) -> &str {
        &self.user.current_name
    }

    fn session_user(&self) -> &str {
        &self.user.session_name
    }

    fn current_database(&self) -> &str {
        self.database
    }

    fn current_schemas(&self, implicit: bool) -> Vec<String> {
        let named = self
            .values
            .look(self.engine.settings(), "search_path")
            .unwrap_or_default();
        let explicit = named.to_lowercase().contains("pg_catalog");
        self.path
            .iter()
            .filter(|id| implicit || explicit || **id != SchemaId::PG_CATALOG)
            .map(|id| self.catalog.schema_name(*id).to_owned())
            .collect()
    }

    fn setting(&self, name: &str) -> Option<String> {
        self.session_setting(name)
    }

    fn raw_setting(&self, name: &str) -> Option<String> {
        let special = ["transaction_isolation", "transaction_read_only"];
        match crate::settings::find(name) {
            Some(setting) if !special.contains(&name) => {
                Some(self.values.get(self.engine.settings(), setting).to_owned())
            }
            _ => self.session_setting(name),
        }
    }

    fn session_rows(&self, relation: &str) -> Vec<Vec<Datum>> {
        match relation {
            "pg_prepared_statements" => {
                let mut names: Vec<&String> = self.statements.keys().collect();
                names.retain(|name| !name.is_empty());
                names.sort();
                names
                    .into_iter()
                    .map(|name| self.statements[name].row(name))
                    .collect()
            }
            "pg_cursors" => {
                let mut names: Vec<&String> = self.portals.keys().collect();
                names.retain(|name| !name.is_empty());
                names.sort();
                names
                    .into_iter()
                    .map(|name| self.portals[name].row(name))
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    fn check_interrupt(&self) -> Result<()> {
        self.activity.check_interrupt()
    }

    fn raise(&self, severity: &'static str, notice: Error) -> Result<()> {
        let mut effects = self.effects.borrow_mut();
        let report = &notice.0;
        let texts = [&report.detail, &report.hint, &report.context];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        effects.raised_bytes += report.message.len() + texts + NOTICE_OVERHEAD;
        if effects.raised_bytes > RAISED_BYTES_MAX {
            let message = "too many messages raised in one statement";
            return Err(
                Error::new(state::PROGRAM_LIMIT_EXCEEDED, message).detail(format!(
                    "They are kept until the statement is over, at most {RAISED_BYTES_MAX} bytes."
                )),
            );
        }
        effects.raised.push((severity, notice));
        Ok(())
    }

    fn left(&self) -> Left {
        self.effects.borrow().left()
    }

    fn take_back(&self, left: Left) {
        self.effects.borrow_mut().take_back(left);
    }

    fn is_stopping(&self) -> bool {
        self.effects.borrow().need.is_some()
    }

    fn next_call(&self) -> u32 {
        let mut effects = self.effects.borrow_mut();
        effects.calls += 1;
        effects.calls - 1
    }

    fn trigger_depth(&self, change: i32) {
        self.effects.borrow_mut().trigger_depth += change;
    }

    fn interrupt(&self) -> crate::changes::Interrupt {
        let activity = Arc::clone(self.activity);
        Arc::new(move || activity.check_interrupt())
    }
}
