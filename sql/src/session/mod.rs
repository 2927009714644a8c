//! One client's session: prepared statements, portals, settings and the state of its transaction.
//!
//! The server calls one method per protocol message. A call runs until it has an answer or must
//! wait for something ([`Step`]); nothing blocks. After `Step::Wait` the server calls the same
//! method again with the same arguments once the waiting is over.

pub mod activity;
mod advisory;
mod bridge;
mod contract;
mod control;
mod copy;
mod courier;
mod cursor;
mod encode;
mod environment;
mod export;
mod extended;
mod finish;
mod fresh;
mod job;
mod news;
mod notices;
pub mod notify;
mod output;
pub(crate) mod plans;
mod portable;
mod prepared;
mod run;
pub mod sequence;
mod setting;
pub(crate) mod signal;
mod simple;
mod stand_in;
mod status;
mod step;
mod stopped;
pub(crate) mod system;
#[cfg(test)]
pub(crate) mod tests;
pub mod token;
mod turn;
mod user;
mod utility;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use activity::{Activity, Doing, Shown};
pub use courier::{Courier, Taking};
use environment::{Effects, Memory};
use export::Changed;
pub use export::Home;
use finish::Holding;
use job::Job;
pub use output::{Field, Output};
pub use portable::Portable;
use prepared::Prepared;
use simple::Simple;
pub use stand_in::{Piece, Source};
pub use step::{Step, Waiting};
use storage::GroupId;
use token::Token;
use turn::Turn;
pub use user::User;

use crate::catalog::{Catalog, DATABASE_NAMES, SchemaId, TableId};
use crate::engine::Engine;
use crate::exec::Deferred;
use crate::settings::{self, Effective, Place, Values};
use crate::transaction::Transaction;
use crate::types::Names;
use crate::{Error, Result, state};

/// Prepared statements of one session.
const STATEMENTS_MAX: usize = 10_000;
/// Portals and cursors of one session.
const PORTALS_MAX: usize = 10_000;

/// What a client says when it connects, after it has proved who it is.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// The role.
    pub user: String,
    /// The database; empty = the role's own name.
    pub database: String,
    /// Other startup parameters (`application_name`, `options`, ...), in order.
    pub parameters: Vec<(String, String)>,
    /// The client's address and port.
    pub address: String,
    /// Its port.
    pub port: i32,
    /// The process id that the client knows, if it was connected before; 0: a new one is chosen.
    pub process: i32,
}

/// The letter of ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `I`.
    Idle,
    /// `T`.
    InTransaction,
    /// `E`.
    Failed,
}

/// Settings at the begin of the transaction and at its savepoints.
#[derive(Clone)]
struct Saved {
    values: Values,
    user: User,
    /// Deferred checks.
    deferred: usize,
    /// NOTIFYs, LISTENs and UNLISTENs.
    notifications: usize,
    listens: usize,
    /// Names of the cursors that were there.
    cursors: BTreeSet<String>,
}

/// One client's session.
pub struct Session {
    engine: Arc<Engine>,
    activity: Arc<Activity>,
    user: User,
    database: Arc<str>,
    values: Values,
    effective: Arc<Effective>,
    /// Settings changed since they were last reported.
    settings_changed: bool,
    /// A commit has moved `freehold.token`, which alone is reported then.
    token_moved: bool,
    reported: BTreeMap<&'static str, String>,
    path: Path,
    token: Token,
    /// What was read, here and elsewhere: positions where it was elsewhere, and groups.
    seen: Token,
    read: Vec<GroupId>,
    /// Positions that must be applied before the next statement (SET freehold.token).
    await_token: bool,
    transaction: Option<Transaction>,
    /// Begun by BEGIN (or by a query string of several statements), not by one statement.
    block: bool,
    failed: bool,
    saved: Vec<Saved>,
    statements: HashMap<String, Arc<Prepared>>,
    portals: HashMap<String, Portal>,
    effects: RefCell<Effects>,
    memory: RefCell<Memory>,
    /// Notifications of the open transaction.
    notifications: notify::Outbox,
    /// Foreign-key checks that wait for COMMIT.
    deferred: Deferred,
    /// LISTEN (true) and UNLISTEN of the open transaction; `None` = all.
    listens: Vec<(bool, Option<String>)>,
    simple: Option<Simple>,
    /// The portal that is being executed (its job is out of the map meanwhile).
    current: Option<(String, Box<Job>)>,
    /// The end of a transaction that is being waited for (Sync).
    ending: Option<Holding>,
    /// What an error must wait for that no job carries ([`Session::settle`]).
    owed: Option<Holding>,
    copy: Option<Box<copy::CopyIn>>,
    turn: Turn,
    changed: Changed,
    /// The open block was lost with another node: the first statement but ROLLBACK is told, and whoever goes
    /// back to a savepoint.
    lost: bool,
    /// Contracts of whose end the client was told.
    sunsets: BTreeSet<TableId>,
    /// See [`Session::has_spent`].
    spent: u64,
    idle_since: u64,
    /// The present call may keep its thread busy.
    roomy: bool,
}

/// `search_path` as the present catalog resolves it.
struct Path {
    catalog: u64,
    schemas: Arc<[SchemaId]>,
    names: Option<Arc<dyn Names>>,
}

/// A portal: a bound statement, or a cursor.
struct Portal {
    /// `None` while it is being executed.
    job: Option<Box<Job>>,
    /// Made by DECLARE.
    cursor: Option<cursor::Cursor>,
    created: i64,
}

impl Engine {
    /// Opens a session for a role that has proved who it is.
    ///
    /// # Errors
    /// 28000 for a role that may not log in, 3D000 for a database that is not there, 53300 above
    /// the role's connection limit, 22023 for settings.
    pub fn session(self: &Arc<Engine>, login: &Login) -> Result<Session> {
        self.open(login, None)
    }

    /// The same with the settings that another node has found for the connection.
    fn open(self: &Arc<Engine>, login: &Login, initial: Option<Values>) -> Result<Session> {
        let catalog = self.catalog();
        let role = catalog
            .role_by_name(&login.user)
            .filter(|r| r.login)
            .ok_or_else(|| {
                Error::new(
                    state::INVALID_AUTHORIZATION_SPECIFICATION,
                    format!("role \"{}\" is not permitted to log in", login.user),
                )
            })?;
        let database = match login.database.as_str() {
            "" => login.user.as_str(),
            name => name,
        };
        if !DATABASE_NAMES.contains(&database) && database != login.user {
            return Err(Error::new(
                state::INVALID_CATALOG_NAME,
                format!("database \"{database}\" does not exist"),
            ));
        }
        // Negative: there is none.
        let limit = usize::try_from(role.connection_limit).ok();
        if !role.superuser && limit.is_some_and(|max| self.activities().count(role.id) >= max) {
            return Err(Error::new(
                state::TOO_MANY_CONNECTIONS,
                format!("too many connections for role \"{}\"", login.user),
            ));
        }
        let values = match initial {
            Some(values) => values,
            None => initial_values(role.superuser, &role.settings, &login.parameters)?,
        };
        let places = match role.superuser {
            true => usize::MAX,
            false => self.limits().sessions_max,
        };
        let user = User::new(role.id, &role.name);
        let client = (login.address.as_str(), login.port, login.process);
        self.begin(user, database.into(), values, client, places)
    }

    /// A session of a client that is known by address, port and process id, among at most so many.
    fn begin(
        self: &Arc<Engine>,
        user: User,
        database: Arc<str>,
        values: Values,
        (address, port, process): (&str, i32, i32),
        places: usize,
    ) -> Result<Session> {
        let effective = Arc::new(Effective::new(self.settings(), &values)?);
        let now = self.now();
        let shown = Shown {
            role: user.session,
            role_name: user.session_name.to_string(),
            application_name: effective.application_name.clone(),
            address: address.to_owned(),
            port,
            started: now,
            changed: now,
            ..Shown::default()
        };
        let activity = self
            .activities()
            .add(process, shown, self.limits().notifications_max, places)
            .ok_or_else(|| {
                Error::new(
                    state::TOO_MANY_CONNECTIONS,
                    "remaining connection slots are reserved for non-replication superuser \
                     connections",
                )
            })?;
        Ok(Session {
            engine: Arc::clone(self),
            activity,
            user,
            database,
            values,
            effective,
            settings_changed: true,
            token_moved: false,
            reported: BTreeMap::new(),
            path: Path {
                catalog: u64::MAX,
                schemas: Arc::from([]),
                names: None,
            },
            token: Token::default(),
            seen: Token::default(),
            read: Vec::new(),
            await_token: false,
            transaction: None,
            block: false,
            failed: false,
            saved: Vec::new(),
            statements: HashMap::new(),
            portals: HashMap::new(),
            effects: RefCell::default(),
            memory: RefCell::default(),
            notifications: notify::Outbox::default(),
            deferred: Deferred::default(),
            listens: Vec::new(),
            simple: None,
            current: None,
            ending: None,
            owed: None,
            copy: None,
            turn: Turn::default(),
            changed: Changed::default(),
            lost: false,
            sunsets: BTreeSet::new(),
            spent: 0,
            idle_since: self.clock().unix_micros(),
            roomy: false,
        })
    }

    /// The stored SCRAM verifier of a role, also of one that may not log in: it is told so by
    /// [`Engine::session`], once it has shown its password. `None` also for unknown roles, which
    /// the server must treat alike.
    pub fn verifier(&self, user: &str) -> Option<String> {
        let catalog = self.catalog();
        let role = catalog.role_by_name(user)?;
        let valid = role.valid_until.is_none_or(|until| self.now() < until);
        role.verifier.clone().filter(|_| valid)
    }
}

/// Settings by ALTER ROLE, then those of the startup message (`options` included).
fn initial_values(
    superuser: bool,
    role: &[(String, String)],
    parameters: &[(String, String)],
) -> Result<Values> {
    let mut values = Values::default();
    for (name, value) in role {
        // A setting that has become wrong must not lock its role out.
        let _ = values.set(
            name,
            Some(std::slice::from_ref(value)),
            Place::Initial,
            true,
        );
    }
    for (name, value) in parameters {
        match name.as_str() {
            "user" | "database" | "replication" => {}
            "options" => {
                for (name, value) in options(value)? {
                    values.set(&name, Some(&[value]), Place::Initial, superuser)?;
                }
            }
            name if name.starts_with("_pq_.") => {}
            name => {
                let value = value.trim_matches('\'').to_owned();
                values.set(name, Some(&[value]), Place::Initial, superuser)?;
            }
        }
    }
    Ok(values)
}

/// `-c name=value --name=value` with backslashes before spaces.
fn options(text: &str) -> Result<Vec<(String, String)>> {
    let mut words: Vec<String> = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => words.last_mut().expect("never empty").extend(chars.next()),
            c if c.is_whitespace() => words.push(String::new()),
            c => words.last_mut().expect("never empty").push(c),
        }
    }
    let invalid = |word: &str| {
        Error::new(
            state::INVALID_PARAMETER_VALUE,
            format!("invalid command-line argument for server process: {word}"),
        )
    };
    let mut all = Vec::new();
    let mut words = words.into_iter().filter(|w| !w.is_empty());
    while let Some(word) = words.next() {
        let pair = match word.strip_prefix("--") {
            Some(pair) => pair.to_owned(),
            None => match word.strip_prefix("-c") {
                Some("") => words.next().ok_or_else(|| invalid(&word))?,
                Some(pair) => pair.to_owned(),
                None => return Err(invalid(&word)),
            },
        };
        let (name, value) = pair.split_once('=').ok_or_else(|| invalid(&pair))?;
        all.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(all)
}

impl Session {
    /// The entry in the registry: process id, cancel, terminate, notifications.
    pub fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// The letter of ReadyForQuery.
    pub fn status(&self) -> Status {
        match (self.failed, self.block && self.transaction.is_some()) {
            (true, _) => Status::Failed,
            (false, true) => Status::InTransaction,
            (false, false) => Status::Idle,
        }
    }

    /// When an idle session must be ended, in microseconds since 1970, and with which error
    /// (`idle_in_transaction_session_timeout`, `idle_session_timeout`). Asked after
    /// ReadyForQuery.
    pub fn idle_deadline(&self) -> Option<(u64, Error)> {
        let (timeout, state, what) = match self.status() {
            Status::Idle => (
                self.effective.idle_timeout,
                state::IDLE_SESSION_TIMEOUT,
                "idle-session",
            ),
            _ => (
                self.effective.idle_in_transaction_timeout,
                state::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                "idle-in-transaction",
            ),
        };
        (timeout > 0).then(|| {
            let error = Error::new(
                state,
                format!("terminating connection due to {what} timeout"),
            );
            (self.idle_since + timeout, error)
        })
    }

    /// When the running statement, or the one that begins now, must be timed out, in microseconds
    /// since 1970: the server calls `Activity::time_out` then.
    pub fn statement_deadline(&self, now: u64) -> Option<u64> {
        let timeout = self.effective.statement_timeout;
        let portal = self.current.as_ref().map(|(_, job)| &**job);
        let query = self.simple.as_ref().and_then(|simple| simple.job());
        let begun = portal.or(query).map(|job| job.begun).filter(|at| *at > 0);
        let begun = begun.unwrap_or(now.saturating_sub(self.spent));
        (timeout > 0).then(|| begun.saturating_add(timeout))
    }

    /// The statement that begins next has taken so long already, in microseconds, where it was
    /// before.
    pub fn has_spent(&mut self, micros: u64) {
        self.spent = micros;
    }

    /// Says whether the next calls may keep their thread busy ([`Step::Heavy`]).
    pub fn give_room(&mut self, roomy: bool) {
        self.roomy = roomy;
    }

    /// May the next call keep its thread busy or block it (a large commit)?
    pub fn is_heavy(&self) -> bool {
        self.transaction.as_ref().is_some_and(Transaction::is_large)
    }

    /// Reports changed settings. Called by the server before ReadyForQuery, and once after login.
    pub fn report(&mut self, out: &mut dyn Output) {
        let token_moved = std::mem::take(&mut self.token_moved);
        if std::mem::take(&mut self.settings_changed) {
            for name in settings::REPORTED {
                let value = self.shown_setting(name).unwrap_or_default();
                self.report_one(name, value, out);
            }
        }
        if token_moved {
            self.report_one(settings::TOKEN, self.token.to_string(), out);
        }
    }

    fn report_one(&mut self, name: &'static str, value: String, out: &mut dyn Output) {
        if self.reported.get(name) != Some(&value) {
            out.parameter(name, &value);
            self.reported.insert(name, value);
            self.changed.state |= name != settings::TOKEN;
        }
    }

    /// The session waits for its client now.
    pub fn idle(&mut self) {
        self.next_turn();
        self.idle_since = self.engine.clock().unix_micros();
        self.stand_with_leaders();
        let doing = match self.status() {
            Status::Idle => Doing::Idle,
            Status::InTransaction => Doing::IdleInTransaction,
            Status::Failed => Doing::IdleAborted,
        };
        let now = self.engine.now();
        let open = self.transaction.is_some();
        self.activity.update(|shown| {
            shown.doing = doing;
            shown.waiting = false;
            shown.changed = now;
            if !open {
                shown.transaction_started = None;
                shown.txid = None;
            }
        });
    }

    fn catalog(&self) -> Arc<Catalog> {
        match &self.transaction {
            Some(tx) => Arc::clone(tx.catalog()),
            None => self.engine.catalog(),
        }
    }

    /// Brings `search_path` up to date with the catalog.
    fn resolve_path(&mut self, catalog: &Arc<Catalog>, own_ddl: bool) {
        if self.path.catalog == catalog.version() && !own_ddl {
            return;
        }
        let schemas = catalog.search_path(&self.effective.search_path, self.user.current);
        let names = bridge::names(catalog, &schemas, self.user.current);
        self.path = Path {
            catalog: if own_ddl { u64::MAX } else { catalog.version() },
            schemas: schemas.into(),
            names: Some(names),
        };
    }

    /// Settings or roles have changed: what is derived from them is made again.
    fn settings_touched(&mut self) -> Result<()> {
        self.effective = Arc::new(Effective::new(self.engine.settings(), &self.values)?);
        self.settings_changed = true;
        self.changed.state = true;
        self.path.catalog = u64::MAX;
        let (role, name) = (self.user.session, self.user.session_name.to_string());
        let application = self.effective.application_name.clone();
        self.activity.update(|shown| {
            shown.role = role;
            shown.role_name = name;
            shown.application_name = application;
        });
        Ok(())
    }

    /// As SHOW prints a setting, the session's own ones included.
    fn shown_setting(&self, name: &str) -> Option<String> {
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "role" => Some(match self.user.current == self.user.session {
                true => "none".to_owned(),
                false => self.user.current_name.to_string(),
            }),
            "session_authorization" => Some(self.user.session_name.to_string()),
            "is_superuser" => {
                let superuser = self.engine.catalog().is_superuser(self.user.session);
                Some(if superuser { "on" } else { "off" }.to_owned())
            }
            "freehold.token" => Some(self.token.to_string()),
            "transaction_isolation" => Some(match &self.transaction {
                Some(tx) => tx.isolation().name().to_owned(),
                None => self.effective.isolation.name().to_owned(),
            }),
            "transaction_read_only" => {
                let on = self
                    .transaction
                    .as_ref()
                    .map_or(self.effective.read_only, |tx| tx.read_only());
                Some(if on { "on" } else { "off" }.to_owned())
            }
            "transaction_deferrable" => {
                let on = self
                    .transaction
                    .as_ref()
                    .is_some_and(Transaction::deferrable);
                Some(if on { "on" } else { "off" }.to_owned())
            }
            _ => self.values.look(self.engine.settings(), name),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.transaction = None;
        control::unlock_all(&self.engine, &self.memory);
        self.engine
            .notifier()
            .unlisten(None, self.activity.process());
        self.engine.activities().remove(&self.activity);
    }
}
