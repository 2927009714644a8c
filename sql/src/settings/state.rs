//! The settings of one session: what was set, with the transaction's undo, and the values that
//! the engine itself reads, kept decoded.

use rpds::RedBlackTreeMapSync as Map;

use super::{Context, Setting, Settings, find, unknown, value};
use crate::transaction::Isolation;
use crate::types::{ByteaOutput, DateOrder, DateStyle, FormatSettings, IntervalStyle, Zone};
use crate::{Error, Result, state};

/// What a session has set. Cloning is cheap: a transaction and each savepoint keep a copy to go
/// back to.
#[derive(Clone, Debug, Default)]
pub struct Values {
    /// By the setting's own name, or the custom name in lower case.
    session: Map<String, String>,
    /// SET LOCAL: until the transaction ends.
    local: Map<String, String>,
    /// Given with the connection or by ALTER ROLE: what RESET goes back to.
    initial: Map<String, String>,
}

impl Values {
    /// From the pairs of [`Values::maps`].
    pub fn of(maps: [Vec<(String, String)>; 3]) -> Values {
        let [session, local, initial] = maps.map(|pairs| pairs.into_iter().collect());
        Values {
            session,
            local,
            initial,
        }
    }

    /// What was set in the session, locally, and with the connection.
    pub fn maps(&self) -> [&Map<String, String>; 3] {
        [&self.session, &self.local, &self.initial]
    }

    /// What was set with the connection alone.
    pub fn initial(&self) -> Values {
        Values {
            initial: self.initial.clone(),
            ..Values::default()
        }
    }

    /// The stored value of a setting.
    pub fn get<'a>(&'a self, settings: &'a Settings, setting: &'a Setting) -> &'a str {
        let found = self
            .local
            .get(&setting.name)
            .or_else(|| self.session.get(&setting.name));
        let found = found.or_else(|| self.initial.get(&setting.name));
        found.map_or_else(|| settings.default_of(setting), String::as_str)
    }

    /// As SHOW prints it.
    ///
    /// # Errors
    /// 42704.
    pub fn show(&self, settings: &Settings, name: &str) -> Result<String> {
        self.look(settings, name).ok_or_else(|| unknown(name))
    }

    /// The same, `None` if there is no such setting.
    pub fn look(&self, settings: &Settings, name: &str) -> Option<String> {
        match find(name) {
            Some(setting) => Some(value::shown(setting, self.get(settings, setting))),
            None => {
                let name = name.to_ascii_lowercase();
                let found = self.local.get(&name).or_else(|| self.session.get(&name));
                found.or_else(|| self.initial.get(&name)).cloned()
            }
        }
    }

    /// SET: the name as the setting spells it, and what to store. `superuser`: who asks is one.
    ///
    /// # Errors
    /// 42704, 22023, 42501, 55P02.
    pub fn set(
        &mut self,
        name: &str,
        values: Option<&[String]>,
        place: Place,
        superuser: bool,
    ) -> Result<()> {
        let Some(setting) = find(name) else {
            return self.set_custom(name, values, place);
        };
        match setting.context {
            Context::User => {}
            Context::Superuser if superuser => {}
            Context::Backend if place == Place::Initial => {}
            Context::Superuser => {
                return Err(Error::new(
                    state::INSUFFICIENT_PRIVILEGE,
                    format!("permission denied to set parameter \"{}\"", setting.name),
                ));
            }
            Context::Internal => return Err(fixed(setting, "cannot be changed")),
            Context::Postmaster => {
                return Err(fixed(
                    setting,
                    "cannot be changed without restarting the server",
                ));
            }
            Context::Sighup => return Err(fixed(setting, "cannot be changed now")),
            Context::Backend => {
                return Err(fixed(setting, "cannot be set after connection start"));
            }
        }
        let stored = match values {
            None => None,
            Some(values) => Some(value::canonical(setting, values)?),
        };
        if setting.name == "standard_conforming_strings" && stored.as_deref() == Some("off") {
            return Err(Error::unsupported("standard_conforming_strings = off"));
        }
        self.put(setting.name.clone(), stored, place);
        Ok(())
    }

    fn set_custom(&mut self, name: &str, values: Option<&[String]>, place: Place) -> Result<()> {
        let valid = |part: &str| {
            !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$')
                && !part.starts_with(|c: char| c.is_ascii_digit())
        };
        if !name.contains('.') {
            return Err(unknown(name));
        }
        if !name.split('.').all(valid) {
            return Err(Error::new(
                state::INVALID_NAME,
                format!("invalid configuration parameter name \"{name}\""),
            )
            .detail(
                "Custom parameter names must be two or more simple identifiers separated by dots.",
            ));
        }
        if name.to_ascii_lowercase().starts_with("freehold.") {
            return Err(unknown(name));
        }
        let stored = values.map(|v| v.join(", "));
        let stored = Some(stored.unwrap_or_default());
        self.put(name.to_ascii_lowercase(), stored, place);
        Ok(())
    }

    fn put(&mut self, name: String, stored: Option<String>, place: Place) {
        let map = match place {
            Place::Local => &mut self.local,
            Place::Session => {
                self.local.remove_mut(&name);
                &mut self.session
            }
            Place::Initial => &mut self.initial,
        };
        match stored {
            Some(stored) => map.insert_mut(name, stored),
            None => {
                map.remove_mut(&name);
            }
        }
    }

    /// RESET.
    ///
    /// # Errors
    /// 42704, 42501, 55P02.
    pub fn reset(&mut self, name: &str, superuser: bool) -> Result<()> {
        if find(name).is_none() {
            let name = name.to_ascii_lowercase();
            if self.look(&Settings::default(), &name).is_none() {
                return Err(unknown(&name));
            }
            self.session.remove_mut(&name);
            self.local.remove_mut(&name);
            return Ok(());
        }
        self.set(name, None, Place::Session, superuser)
    }

    /// RESET ALL. `role` and `session_authorization` stay, as in PostgreSQL.
    pub fn reset_all(&mut self) {
        let keep = |map: &Map<String, String>| {
            let role = map.get("role").cloned();
            let mut kept = Map::default();
            if let Some(role) = role {
                kept.insert_mut("role".to_owned(), role);
            }
            kept
        };
        self.session = keep(&self.session);
        self.local = keep(&self.local);
    }

    /// The end of a transaction: SET LOCAL is over.
    pub fn end_transaction(&mut self) {
        if !self.local.is_empty() {
            self.local = Map::default();
        }
    }

    /// Names that were set in the session, for `pg_settings.source`.
    pub fn is_set(&self, name: &str) -> bool {
        self.local.contains_key(name) || self.session.contains_key(name)
    }
}

fn fixed(setting: &Setting, why: &str) -> Error {
    Error::new(
        state::CANT_CHANGE_RUNTIME_PARAM,
        format!("parameter \"{}\" {why}", setting.name),
    )
}

/// For how long a value is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Until the transaction ends.
    Local,
    /// Until the session ends or the transaction fails.
    Session,
    /// With the connection.
    Initial,
}

/// The settings that the engine reads, decoded.
#[derive(Clone, Debug)]
pub struct Effective {
    /// What text forms depend on; `transaction_start` and `names` are filled in per statement.
    pub format: FormatSettings,
    /// `search_path`.
    pub search_path: Vec<String>,
    /// `work_mem` in bytes.
    pub work_mem: usize,
    /// `statement_timeout` in microseconds, 0 = none.
    pub statement_timeout: u64,
    /// `lock_timeout`.
    pub lock_timeout: u64,
    /// `idle_in_transaction_session_timeout`.
    pub idle_in_transaction_timeout: u64,
    /// `idle_session_timeout`.
    pub idle_timeout: u64,
    /// `default_transaction_isolation`.
    pub isolation: Isolation,
    /// `default_transaction_read_only`.
    pub read_only: bool,
    /// `default_transaction_deferrable`.
    pub deferrable: bool,
    /// `application_name`.
    pub application_name: String,
    /// `freehold.read`: what this node has is new enough.
    pub read_local: bool,
    /// `freehold.max_staleness` in microseconds, 0 = any.
    pub max_staleness: u64,
    /// `freehold.traceparent`.
    pub trace: String,
    /// `log_min_duration_statement` in microseconds, `None` = off.
    pub log_min_duration: Option<u64>,
    /// `client_min_messages`: warnings only above NOTICE.
    pub min_messages: String,
    /// Equal for equal meanings of literals: part of a plan's key.
    pub format_key: u64,
}

impl Effective {
    /// Decodes the present values.
    ///
    /// # Errors
    /// None in practice: values were checked when they were set.
    pub fn new(settings: &Settings, values: &Values) -> Result<Effective> {
        let text = |name: &str| find(name).map_or("", |setting| values.get(settings, setting));
        let millis = |name: &str| text(name).parse::<u64>().unwrap_or(0).saturating_mul(1_000);
        let (date_style, date_order) = styles(text("DateStyle"));
        let format = FormatSettings {
            date_style,
            date_order,
            interval_style: match text("IntervalStyle") {
                "postgres_verbose" => IntervalStyle::PostgresVerbose,
                "sql_standard" => IntervalStyle::SqlStandard,
                "iso_8601" => IntervalStyle::Iso8601,
                _ => IntervalStyle::Postgres,
            },
            zone: zone(text("TimeZone"))?,
            extra_float_digits: text("extra_float_digits").parse().unwrap_or(1),
            bytea_output: match text("bytea_output") {
                "escape" => ByteaOutput::Escape,
                _ => ByteaOutput::Hex,
            },
            ..FormatSettings::default()
        };
        Ok(Effective {
            format,
            search_path: value::split_list(text("search_path")).unwrap_or_default(),
            work_mem: text("work_mem")
                .parse::<usize>()
                .unwrap_or(4_096)
                .saturating_mul(1_024),
            statement_timeout: millis("statement_timeout"),
            lock_timeout: millis("lock_timeout"),
            idle_in_transaction_timeout: millis("idle_in_transaction_session_timeout"),
            idle_timeout: millis("idle_session_timeout"),
            isolation: isolation(text("default_transaction_isolation")),
            read_only: text("default_transaction_read_only") == "on",
            deferrable: text("default_transaction_deferrable") == "on",
            application_name: text("application_name").to_owned(),
            read_local: text("freehold.read") == "local",
            max_staleness: millis("freehold.max_staleness"),
            trace: text("freehold.traceparent").to_owned(),
            log_min_duration: text("log_min_duration_statement")
                .parse::<i64>()
                .ok()
                .and_then(|ms| u64::try_from(ms).ok())
                .map(|ms| ms.saturating_mul(1_000)),
            min_messages: text("client_min_messages").to_owned(),
            format_key: {
                use std::hash::{DefaultHasher, Hash, Hasher};
                let mut hasher = DefaultHasher::new();
                ["DateStyle", "TimeZone", "IntervalStyle"]
                    .map(text)
                    .hash(&mut hasher);
                hasher.finish()
            },
        })
    }
}

/// An isolation level by its name.
pub(crate) fn isolation(name: &str) -> Isolation {
    match name {
        "serializable" => Isolation::Serializable,
        "repeatable read" => Isolation::RepeatableRead,
        _ => Isolation::ReadCommitted,
    }
}

fn styles(text: &str) -> (DateStyle, DateOrder) {
    let (style, order) = text.split_once(", ").unwrap_or((text, "MDY"));
    let style = match style {
        "SQL" => DateStyle::Sql,
        "Postgres" => DateStyle::Postgres,
        "German" => DateStyle::German,
        _ => DateStyle::Iso,
    };
    let order = match order {
        "DMY" => DateOrder::Dmy,
        "YMD" => DateOrder::Ymd,
        _ => DateOrder::Mdy,
    };
    (style, order)
}

/// A time zone by name: of the IANA database in any case, or hours east of Greenwich.
///
/// # Errors
/// 22023.
pub(super) fn zone(name: &str) -> Result<Zone> {
    Zone::parse(name.trim()).ok_or_else(|| {
        Error::new(
            state::INVALID_PARAMETER_VALUE,
            format!("invalid value for parameter \"TimeZone\": \"{name}\""),
        )
    })
}
