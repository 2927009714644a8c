//! Settings: PostgreSQL 15's table of names, types, limits and defaults, Freehold's own, and what
//! a value must look like.

mod state;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;
use std::sync::LazyLock;

pub(crate) use state::isolation;
pub use state::{Effective, Place, Values};

use crate::{Error, Result, state as codes};

/// What a setting holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// on / off.
    Bool,
    /// A whole number in the unit.
    Integer {
        /// Least.
        min: i64,
        /// Greatest.
        max: i64,
    },
    /// A number in the unit.
    Real {
        /// Least.
        min: f64,
        /// Greatest.
        max: f64,
    },
    /// One of these words.
    Enum(Vec<String>),
    /// Any text.
    String,
}

/// Who may change a setting, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Nobody.
    Internal,
    /// Given at start.
    Postmaster,
    /// Given at start here (PostgreSQL: also by reloading its file).
    Sighup,
    /// Given with the connection.
    Backend,
    /// Superusers, at any time.
    Superuser,
    /// Everybody, at any time.
    User,
}

/// One setting.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its name as `SHOW ALL` prints it; looked up without regard to case.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// Who may change it.
    pub context: Context,
    /// `ms`, `kB`, `8kB`, ... or empty.
    pub unit: String,
    /// The default when nothing was given, in the unit.
    pub boot: String,
    /// `pg_settings.category`.
    pub category: String,
    /// `pg_settings.short_desc`.
    pub description: String,
}

/// Reported to the client when they change (GUC_REPORT), by name.
pub const REPORTED: [&str; 13] = [
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "server_encoding",
    "server_version",
    "session_authorization",
    "standard_conforming_strings",
    "TimeZone",
];

/// Reported after each commit.
pub const TOKEN: &str = "freehold.token";

/// Version that drivers and `pg_dump` are told.
pub const SERVER_VERSION: &str = concat!("15.18 (Freehold ", env!("CARGO_PKG_VERSION"), ")");
/// The same as a number.
pub const SERVER_VERSION_NUM: &str = "150018";

/// What `version()` answers: the version, and what it was built for.
pub fn version() -> String {
    let (machine, system) = (std::env::consts::ARCH, std::env::consts::OS);
    let bits = usize::BITS;
    format!("PostgreSQL {SERVER_VERSION} on {machine}-{system}, {bits}-bit")
}

static POSTGRES: &str = include_str!("postgres15.tsv");

/// What `pg_settings` hides, and Freehold's own: name, type, context, unit, default, least, greatest, words, category, text.
static OWN: &str = "\
is_superuser\tbool\tinternal\t\toff\t\t\t\tPreset Options\tShows whether the current user is a superuser.
role\tstring\tuser\t\tnone\t\t\t\tUngrouped\tSets the current role.
session_authorization\tstring\tuser\t\t\t\t\t\tUngrouped\tSets the session user name.
freehold.token\tstring\tuser\t\t\t\t\t\tFreehold\tPositions that the session must see; sent after each commit.
freehold.max_transaction\tinteger\tpostmaster\tkB\t1048576\t1\t1048576\t\tFreehold\tThe greatest size of one transaction.
freehold.traceparent\tstring\tuser\t\t\t\t\t\tFreehold\tW3C traceparent that travels with the session's entries.
freehold.read\tenum\tuser\t\thome\t\t\thome,local\tFreehold\tWhere transactions read that only read: at the leaders of groups led by this node, proven, or what this node has.
freehold.max_staleness\tinteger\tuser\tms\t0\t0\t2147483647\t\tFreehold\tFails reads that are staler than this (0 disables).
freehold.erase_after\tinteger\tpostmaster\tms\t3600000\t20000\t2147483647\t\tFreehold\tWhat was deleted is gone from every copy after this time.
freehold.max_trigger_hops\tinteger\tpostmaster\t\t16\t1\t1000\t\tFreehold\tTriggers on followed tables that one effect may pass.
";

/// The table of settings, sorted by lower-case name.
static TABLE: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let mut all: Vec<Setting> = POSTGRES
        .lines()
        .chain(OWN.lines())
        .filter_map(row)
        .collect();
    for setting in &mut all {
        adapt(setting);
    }
    all.sort_by_key(|s| s.name.to_ascii_lowercase());
    all
});

static INDEX: LazyLock<BTreeMap<String, usize>> = LazyLock::new(|| {
    TABLE
        .iter()
        .enumerate()
        .map(|(i, s)| (s.name.to_ascii_lowercase(), i))
        .collect()
});

fn row(line: &str) -> Option<Setting> {
    let mut fields = line.split('\t');
    let mut next = || fields.next();
    let (name, kind, context) = (next()?, next()?, next()?);
    let (unit, boot, min, max) = (next()?, next()?, next()?, next()?);
    let (words, category, description) = (next()?, next()?, next()?);
    let kind = match kind {
        "bool" => Kind::Bool,
        "integer" => Kind::Integer {
            min: min.parse().ok()?,
            max: max.parse().ok()?,
        },
        "real" => Kind::Real {
            min: min.parse().ok()?,
            max: max.parse().ok()?,
        },
        "enum" => Kind::Enum(words.split(',').map(str::to_owned).collect()),
        _ => Kind::String,
    };
    let context = match context {
        "internal" => Context::Internal,
        "postmaster" => Context::Postmaster,
        "sighup" => Context::Sighup,
        "backend" | "superuser-backend" => Context::Backend,
        "superuser" => Context::Superuser,
        _ => Context::User,
    };
    let boot = if boot == "\\N" { "" } else { boot };
    Some(Setting {
        name: name.to_owned(),
        kind,
        context,
        unit: unit.to_owned(),
        boot: boot.to_owned(),
        category: category.to_owned(),
        description: description.to_owned(),
    })
}

/// Where Freehold is not PostgreSQL.
fn adapt(setting: &mut Setting) {
    let boot = match setting.name.as_str() {
        "server_version" => SERVER_VERSION,
        "server_version_num" => SERVER_VERSION_NUM,
        "server_encoding" | "client_encoding" => "UTF8",
        "lc_collate" | "lc_ctype" | "lc_messages" | "lc_monetary" | "lc_numeric" | "lc_time" => {
            "C.UTF-8"
        }
        "TimeZone" | "log_timezone" => "UTC",
        "wal_level" => "logical",
        "fsync" | "full_page_writes" => "on",
        "jit" => "off",
        "default_text_search_config" => "pg_catalog.english",
        "search_path" => "\"$user\", public",
        _ => return,
    };
    setting.boot = boot.to_owned();
}

/// All settings by name.
pub fn all() -> &'static [Setting] {
    &TABLE
}

/// A setting by name, in any case.
pub fn find(name: &str) -> Option<&'static Setting> {
    let index = match INDEX.get(name) {
        Some(index) => *index,
        None => *INDEX.get(&name.to_ascii_lowercase())?,
    };
    TABLE.get(index)
}

/// `unrecognized configuration parameter "x"` (42704).
pub fn unknown(name: &str) -> Error {
    Error::new(
        codes::UNDEFINED_OBJECT,
        format!("unrecognized configuration parameter \"{name}\""),
    )
}

/// The defaults of one server: PostgreSQL's, and what was given at start.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    given: BTreeMap<String, String>,
}

impl Settings {
    /// Checks what was given at start.
    ///
    /// # Errors
    /// 42704, 22023.
    pub fn new(given: &[(String, String)]) -> Result<Settings> {
        let mut settings = Settings::default();
        for (name, value) in given {
            let Some(setting) = find(name) else {
                return Err(unknown(name));
            };
            let value = value::canonical(setting, std::slice::from_ref(value))?;
            settings.given.insert(setting.name.clone(), value);
        }
        Ok(settings)
    }

    /// The default of a setting, in its unit.
    pub fn default_of<'a>(&'a self, setting: &'a Setting) -> &'a str {
        self.given
            .get(&setting.name)
            .map_or(setting.boot.as_str(), String::as_str)
    }

    /// Was it given at start?
    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }
}
