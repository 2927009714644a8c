//! System relations of sessions: pg_stat_activity, pg_locks, pg_settings, pg_prepared_statements,
//! pg_cursors, pg_timezone_names.

use std::sync::{Arc, Weak};

use storage::{LockInfo, LockKey, LockMode, RowMode, TableMode};

use super::activity::{Activity, Doing};
use crate::Result;
use crate::catalog::{DATABASE, DATABASE_OID};
use crate::engine::Engine;
use crate::settings::{self, Context, Kind, Setting};
use crate::system::{SystemColumn, SystemCx, SystemRelation, SystemRow, SystemRows, columns_of};
use crate::types::{Array, Datum, Interval, Type};

type Fill = fn(&Engine, &SystemCx<'_>) -> Vec<SystemRow>;

struct Relation {
    name: &'static str,
    oid: u32,
    columns: &'static [SystemColumn],
    engine: Weak<Engine>,
    fill: Fill,
}

impl SystemRelation for Relation {
    fn oid(&self) -> u32 {
        self.oid
    }

    fn name(&self) -> (&str, &str) {
        ("pg_catalog", self.name)
    }

    fn columns(&self) -> &[SystemColumn] {
        self.columns
    }

    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        let rows = match self.engine.upgrade() {
            Some(engine) => (self.fill)(&engine, cx),
            None => Vec::new(),
        };
        Ok(Box::new(rows.into_iter().map(Ok)))
    }
}

/// The relations, over an engine that is being made.
pub(crate) fn relations(engine: &Weak<Engine>) -> Vec<Arc<dyn SystemRelation>> {
    let all: [(&'static str, Fill); 6] = [
        ("pg_settings", pg_settings),
        ("pg_stat_activity", pg_stat_activity),
        ("pg_locks", pg_locks),
        ("pg_prepared_statements", |_, cx| {
            cx.environment.session_rows("pg_prepared_statements")
        }),
        ("pg_cursors", |_, cx| {
            cx.environment.session_rows("pg_cursors")
        }),
        ("pg_timezone_names", pg_timezone_names),
    ];
    let relation = |(name, fill): (&'static str, Fill)| {
        let (oid, columns) = columns_of(name)?;
        let engine = engine.clone();
        Some(Arc::new(Relation {
            name,
            oid,
            columns,
            engine,
            fill,
        }) as Arc<dyn SystemRelation>)
    };
    all.into_iter().filter_map(relation).collect()
}

fn text(value: impl AsRef<str>) -> Datum {
    Datum::Text(value.as_ref().into())
}

fn or_null<T>(value: Option<T>, make: impl FnOnce(T) -> Datum) -> Datum {
    value.map_or(Datum::Null, make)
}

fn pg_settings(engine: &Engine, cx: &SystemCx<'_>) -> Vec<SystemRow> {
    let hidden = ["role", "session_authorization", "is_superuser"];
    let all = settings::all()
        .iter()
        .filter(|s| !hidden.contains(&s.name.as_str()));
    all.map(|setting| setting_row(engine, cx, setting))
        .collect()
}

fn setting_row(engine: &Engine, cx: &SystemCx<'_>, setting: &Setting) -> SystemRow {
    let (vartype, min, max, words) = match &setting.kind {
        Kind::Bool => ("bool", None, None, None),
        Kind::Integer { min, max } => (
            "integer",
            Some(min.to_string()),
            Some(max.to_string()),
            None,
        ),
        Kind::Real { min, max } => ("real", Some(min.to_string()), Some(max.to_string()), None),
        Kind::Enum(words) => ("enum", None, None, Some(words)),
        Kind::String => ("string", None, None, None),
    };
    let context = match setting.context {
        Context::Internal => "internal",
        Context::Postmaster => "postmaster",
        Context::Sighup => "sighup",
        Context::Backend => "backend",
        Context::Superuser => "superuser",
        Context::User => "user",
    };
    let default = engine.settings().default_of(setting);
    let value = cx.environment.raw_setting(&setting.name);
    let value = value.unwrap_or_else(|| default.to_owned());
    let source = if value != default {
        "session"
    } else if engine.settings().is_given(&setting.name) {
        "command line"
    } else {
        "default"
    };
    let words = words.map(|w| Datum::array(Array::of(Type::TEXT, w.iter().map(text).collect())));
    vec![
        text(&setting.name),
        text(value),
        if setting.unit.is_empty() {
            Datum::Null
        } else {
            text(&setting.unit)
        },
        text(&setting.category),
        text(&setting.description),
        Datum::Null,
        text(context),
        text(vartype),
        text(source),
        or_null(min, text),
        or_null(max, text),
        words.unwrap_or(Datum::Null),
        text(&setting.boot),
        text(default),
        Datum::Null,
        Datum::Null,
        Datum::Bool(false),
    ]
}

fn pg_stat_activity(engine: &Engine, cx: &SystemCx<'_>) -> Vec<SystemRow> {
    engine
        .activities()
        .all()
        .iter()
        .map(|a| activity_row(a, cx))
        .collect()
}

fn activity_row(activity: &Activity, cx: &SystemCx<'_>) -> SystemRow {
    let shown = activity.shown();
    let may = cx.catalog.has_role(cx.role, shown.role);
    let time = |at: i64| {
        if may {
            Datum::Timestamptz(at)
        } else {
            Datum::Null
        }
    };
    let mine = |datum: Datum| if may { datum } else { Datum::Null };
    let waiting = shown.waiting && shown.doing == Doing::Active;
    let (wait_type, wait_event) = match (waiting, shown.doing) {
        (true, _) => (text("Lock"), text("tuple")),
        (false, Doing::Active) => (Datum::Null, Datum::Null),
        _ => (text("Client"), text("ClientRead")),
    };
    let address = if shown.address.is_empty() {
        Datum::Null
    } else {
        text(&shown.address)
    };
    vec![
        Datum::Oid(DATABASE_OID),
        text(DATABASE),
        Datum::Int4(activity.process()),
        Datum::Null,
        Datum::Oid(shown.role.0),
        text(&shown.role_name),
        mine(text(&shown.application_name)),
        mine(address),
        Datum::Null,
        mine(Datum::Int4(shown.port)),
        time(shown.started),
        or_null(shown.transaction_started, time),
        or_null(shown.query_started, time),
        time(shown.changed),
        mine(wait_type),
        mine(wait_event),
        mine(text(shown.doing.name())),
        mine(or_null(shown.txid, |id| Datum::Oid(id.0 as u32))),
        Datum::Null,
        Datum::Null,
        if may {
            text(&shown.query)
        } else {
            text("<insufficient privilege>")
        },
        text("client backend"),
    ]
}

fn pg_locks(engine: &Engine, cx: &SystemCx<'_>) -> Vec<SystemRow> {
    let mut rows = Vec::new();
    for group in engine.groups().all() {
        for lock in group.locks().list() {
            rows.extend(lock_row(engine, cx, group.id(), &lock));
        }
    }
    rows
}

/// A lock, unless it is on a table that does not exist for the role.
fn lock_row(
    engine: &Engine,
    cx: &SystemCx<'_>,
    group: storage::GroupId,
    lock: &LockInfo,
) -> Option<SystemRow> {
    let table = |tree: u32| {
        let id = cx.catalog.table_of_tree(group, tree)?;
        let table = cx
            .catalog
            .table(id)
            .filter(|t| cx.catalog.sees(cx.role, t))?;
        Some(Datum::Oid(table.id.0))
    };
    let (kind, relation, class, object, sub) = match &lock.key {
        LockKey::Table(tree) => (
            "relation",
            table(*tree)?,
            Datum::Null,
            Datum::Null,
            Datum::Null,
        ),
        LockKey::Row { tree, .. } if lock.whole_tree => (
            "relation",
            table(*tree)?,
            Datum::Null,
            Datum::Null,
            Datum::Null,
        ),
        LockKey::Row { tree, .. } => (
            "tuple",
            table(*tree)?,
            Datum::Null,
            Datum::Null,
            Datum::Null,
        ),
        LockKey::Advisory(key) => {
            let (high, low) = ((*key as u64 >> 32) as u32, *key as u32);
            (
                "advisory",
                Datum::Null,
                Datum::Oid(high),
                Datum::Oid(low),
                Datum::Int2(1),
            )
        }
        LockKey::Advisory2(a, b) => {
            let (a, b) = (Datum::Oid(*a as u32), Datum::Oid(*b as u32));
            ("advisory", Datum::Null, a, b, Datum::Int2(2))
        }
        LockKey::Object { .. } if !cx.catalog.is_superuser(cx.role) => return None,
        LockKey::Object { class, .. } => (
            "object",
            Datum::Null,
            Datum::Oid(*class),
            Datum::Null,
            Datum::Null,
        ),
    };
    let process = engine.activities().process_of(lock.tx);
    Some(vec![
        text(kind),
        Datum::Oid(DATABASE_OID),
        relation,
        Datum::Null,
        Datum::Null,
        Datum::Null,
        Datum::Null,
        class,
        object,
        sub,
        text(format!("{}/{}", group, lock.tx)),
        or_null(process, Datum::Int4),
        text(mode(lock.mode)),
        Datum::Bool(lock.granted),
        Datum::Bool(false),
        Datum::Null,
    ])
}

fn mode(mode: LockMode) -> &'static str {
    match mode {
        LockMode::Shared => "ShareLock",
        LockMode::Exclusive => "ExclusiveLock",
        LockMode::Row(RowMode::KeyShare) => "ForKeyShare",
        LockMode::Row(RowMode::Share) => "ForShare",
        LockMode::Row(RowMode::NoKeyUpdate) => "ForNoKeyUpdate",
        LockMode::Row(RowMode::Update) => "ForUpdate",
        LockMode::Table(TableMode::AccessShare) => "AccessShareLock",
        LockMode::Table(TableMode::RowShare) => "RowShareLock",
        LockMode::Table(TableMode::RowExclusive) => "RowExclusiveLock",
        LockMode::Table(TableMode::ShareUpdateExclusive) => "ShareUpdateExclusiveLock",
        LockMode::Table(TableMode::Share) => "ShareLock",
        LockMode::Table(TableMode::ShareRowExclusive) => "ShareRowExclusiveLock",
        LockMode::Table(TableMode::Exclusive) => "ExclusiveLock",
        LockMode::Table(TableMode::AccessExclusive) => "AccessExclusiveLock",
    }
}

fn pg_timezone_names(engine: &Engine, _cx: &SystemCx<'_>) -> Vec<SystemRow> {
    let now = engine.now();
    let row = |tz: &chrono_tz::Tz| {
        let zone = crate::types::Zone::Named(*tz);
        let seconds = zone.offset_at(now);
        let offset = Interval {
            months: 0,
            days: 0,
            microseconds: seconds * 1_000_000,
        };
        // Summer time is what differs from the lesser offset of the year.
        let half_year = 182 * 86_400_000_000;
        let standard = zone
            .offset_at(now - half_year)
            .min(zone.offset_at(now + half_year));
        vec![
            text(tz.name()),
            text(zone.abbreviation_at(now)),
            Datum::Interval(offset),
            Datum::Bool(seconds > standard),
        ]
    };
    chrono_tz::TZ_VARIANTS.iter().map(row).collect()
}
