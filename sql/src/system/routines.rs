//! Users' functions and triggers in the catalogs. A trigger is seen by who acts for its owner, a
//! function also by whom it is granted to, but not its text.

use std::sync::Arc;

use super::cell::{NULL, Oid, int2vector, oidvector, row, texts};
use super::tables::acl;
use super::{SystemCx, SystemRow};
use crate::catalog::{DATABASE, Language, Routine, Table, Timing, Trigger, Volatility};
use crate::ddl::quote;
use crate::types::Datum;

/// `pg_language.oid` of plpgsql and sql.
const PLPGSQL: u32 = 13_563;
const SQL: u32 = 14;

/// Columns of `information_schema.routines`.
const ROUTINES_COLUMNS: usize = 82;

/// `pg_proc.oid` and `pg_trigger.oid` of the catalogs themselves.
pub(super) const CLASS_PG_PROC: u32 = 1255;
pub(super) const CLASS_PG_TRIGGER: u32 = 2620;

/// The functions that exist for the role.
fn seen_routines<'a>(cx: &SystemCx<'a>) -> impl Iterator<Item = &'a Arc<Routine>> {
    let (catalog, role) = (cx.catalog, cx.role);
    let all = catalog.routines();
    all.filter(move |routine| catalog.sees_routine(role, routine))
}

/// The triggers that exist for the role, with their tables.
fn seen_triggers<'a>(
    cx: &SystemCx<'a>,
) -> impl Iterator<Item = (&'a Arc<Trigger>, &'a Arc<Table>)> {
    let (catalog, role) = (cx.catalog, cx.role);
    let all = catalog.triggers();
    let seen = all.filter(move |trigger| catalog.sees_trigger(role, trigger));
    seen.filter_map(move |trigger| Some((trigger, catalog.table(trigger.table)?)))
}

/// A function by OID, if it exists for the role.
pub(super) fn routine<'a>(cx: &SystemCx<'a>, oid: u32) -> Option<&'a Arc<Routine>> {
    let found = cx.catalog.routine(oid)?;
    cx.catalog.sees_routine(cx.role, found).then_some(found)
}

/// Has a table triggers that the role sees?
pub(super) fn has_triggers(cx: &SystemCx<'_>, table: &Table) -> bool {
    let mut all = cx.catalog.triggers_of(table.id).into_iter();
    all.any(|trigger| cx.catalog.sees_trigger(cx.role, &trigger))
}

pub(super) fn pg_proc(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    super::procs::pg_proc(cx, out);
    match (cx.wanted(0), cx.equal(1)) {
        (Some(wanted), _) => out.extend(routine(cx, wanted).map(|r| proc_row(cx, r))),
        (None, Some(Datum::Text(name))) => {
            let named = seen_routines(cx).filter(|r| r.name == **name);
            out.extend(named.map(|r| proc_row(cx, r)));
        }
        (None, _) => out.extend(seen_routines(cx).map(|r| proc_row(cx, r))),
    }
}

fn proc_row(cx: &SystemCx<'_>, r: &Routine) -> SystemRow {
    let defaults = r.arguments.iter().filter(|a| a.default.is_some());
    let default_count = defaults.clone().count();
    let default_text: Vec<&str> = defaults.filter_map(|a| a.default.as_deref()).collect();
    let named = r.arguments.iter().any(|a| a.name.is_some());
    let names = r
        .arguments
        .iter()
        .map(|a| a.name.clone().unwrap_or_default());
    row![
        Oid(r.id),
        r.name.as_str(),
        Oid(r.schema.0),
        Oid(r.owner.0),
        Oid(match r.language {
            Language::Plpgsql => PLPGSQL,
            Language::Sql => SQL,
        }),
        100.0f32,
        0.0f32,
        Oid(0),
        Oid(0),
        b'f',
        false,
        false,
        r.strict,
        false,
        r.volatility.letter(),
        b'u',
        r.arguments.len() as i16,
        default_count as i16,
        Oid(r.returns.oid),
        oidvector(r.arguments.iter().map(|a| a.ty.oid)),
        NULL,
        NULL,
        named.then(|| texts(names)),
        (!default_text.is_empty()).then(|| default_text.join(", ")),
        NULL,
        cx.acts_for(r.owner).then_some(r.source.as_str()),
        NULL,
        NULL,
        NULL,
        acl(cx.catalog, r.acl.as_ref()),
    ]
}

/// `pg_trigger.tgtype`.
fn trigger_type(trigger: &Trigger) -> i16 {
    let events = trigger.events;
    let timing = match trigger.timing {
        Timing::Before => 2,
        Timing::After => 0,
        Timing::InsteadOf => 64,
    };
    1 + timing
        + if events.insert { 4 } else { 0 }
        + if events.delete { 8 } else { 0 }
        + if events.update { 16 } else { 0 }
}

pub(super) fn pg_trigger(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for (trigger, table) in seen_triggers(cx) {
        let columns = trigger.columns.iter();
        let columns = columns.filter_map(|id| table.column_by_id(*id));
        let mut arguments = Vec::new();
        for argument in &trigger.arguments {
            arguments.extend_from_slice(argument.as_bytes());
            arguments.push(0);
        }
        out.push(row![
            Oid(trigger.id),
            Oid(table.id.0),
            Oid(0),
            trigger.name.as_str(),
            Oid(trigger.routine),
            trigger_type(trigger),
            trigger.enabled.letter(),
            false,
            Oid(0),
            Oid(0),
            Oid(0),
            false,
            false,
            trigger.arguments.len() as i16,
            int2vector(columns.map(|column| column.number)),
            Datum::Bytea(arguments.into()),
            trigger.when.as_deref(),
            NULL,
            NULL,
        ]);
    }
}

/// `pg_get_triggerdef`.
pub(super) fn trigger_definition(cx: &SystemCx<'_>, oid: u32, pretty: bool) -> Option<String> {
    let trigger = cx.catalog.trigger(oid)?;
    if !cx.catalog.sees_trigger(cx.role, trigger) {
        return None;
    }
    let table = cx.catalog.table(trigger.table)?;
    let routine = cx.catalog.routine(trigger.routine)?;
    let qualified = |schema, name: &str, visible: bool| match visible {
        true => quote(name),
        false => format!("{}.{}", quote(cx.catalog.schema_name(schema)), quote(name)),
    };
    let found = cx
        .path
        .iter()
        .find_map(|s| cx.catalog.relation_by_name(*s, &table.name));
    let visible = pretty && found.is_some_and(|r| r.oid() == table.id.0);
    let on = qualified(table.schema, &table.name, visible);
    let function = qualified(
        routine.schema,
        &routine.name,
        cx.path.contains(&routine.schema),
    );
    let arguments: Vec<String> = trigger
        .arguments
        .iter()
        .map(|argument| format!("'{}'", argument.replace('\'', "''")))
        .collect();
    let when = match &trigger.when {
        Some(text) if pretty => format!("WHEN ({text}) "),
        Some(text) => format!("WHEN (({text})) "),
        None => String::new(),
    };
    Some(format!(
        "CREATE TRIGGER {} {} {} ON {on} FOR EACH ROW {when}EXECUTE FUNCTION {function}({})",
        quote(&trigger.name),
        timing(trigger),
        events(trigger, table).join(" OR "),
        arguments.join(", ")
    ))
}

fn timing(trigger: &Trigger) -> &'static str {
    match trigger.timing {
        Timing::Before => "BEFORE",
        Timing::After => "AFTER",
        Timing::InsteadOf => "INSTEAD OF",
    }
}

/// In PostgreSQL's order.
fn events(trigger: &Trigger, table: &Table) -> Vec<String> {
    let mut all = Vec::new();
    if trigger.events.insert {
        all.push("INSERT".to_owned());
    }
    if trigger.events.delete {
        all.push("DELETE".to_owned());
    }
    if trigger.events.update {
        let columns = trigger.columns.iter();
        let columns: Vec<String> = columns
            .filter_map(|id| table.column_by_id(*id))
            .map(|column| quote(&column.name))
            .collect();
        all.push(match columns.is_empty() {
            true => "UPDATE".to_owned(),
            false => format!("UPDATE OF {}", columns.join(", ")),
        });
    }
    all
}

/// `pg_get_functiondef`, for who acts for the owner.
pub(super) fn function_definition(cx: &SystemCx<'_>, oid: u32) -> Option<String> {
    let routine = routine(cx, oid).filter(|r| cx.acts_for(r.owner))?;
    let mut options = Vec::new();
    match routine.volatility {
        Volatility::Immutable => options.push("IMMUTABLE"),
        Volatility::Stable => options.push("STABLE"),
        Volatility::Volatile => {}
    }
    if routine.strict {
        options.push("STRICT");
    }
    let options = match options.is_empty() {
        true => String::new(),
        false => format!(" {}\n", options.join(" ")),
    };
    let mut tag = "$function".to_owned();
    while routine.source.contains(&format!("{tag}$")) {
        tag.push('x');
    }
    Some(format!(
        "CREATE OR REPLACE FUNCTION {}.{}({})\n RETURNS {}\n LANGUAGE {}\n{options}AS {tag}${}{tag}$\n",
        quote(cx.catalog.schema_name(routine.schema)),
        quote(&routine.name),
        arguments(routine, true),
        routine.returns.name(),
        routine.language.name(),
        routine.source,
    ))
}

/// `pg_get_function_arguments`; without defaults also `pg_get_function_identity_arguments`.
pub(super) fn arguments(routine: &Routine, defaults: bool) -> String {
    let all: Vec<String> = routine
        .arguments
        .iter()
        .map(|argument| {
            let mut text = match &argument.name {
                Some(name) => format!("{} {}", quote(name), argument.ty.name()),
                None => argument.ty.name(),
            };
            if let Some(default) = argument.default.as_ref().filter(|_| defaults) {
                text.push_str(" DEFAULT ");
                text.push_str(default);
                // As PostgreSQL shows constants of unknown type.
                if default.starts_with('\'') || default.eq_ignore_ascii_case("null") {
                    text.push_str("::");
                    text.push_str(&argument.ty.name());
                }
            }
            text
        })
        .collect();
    all.join(", ")
}

/// `information_schema.triggers`: a row for each event.
pub(super) fn triggers(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for (trigger, table) in seen_triggers(cx) {
        let schema = cx.catalog.schema_name(table.schema);
        let definition = trigger_definition(cx, trigger.id, false).unwrap_or_default();
        let statement = definition
            .find("EXECUTE FUNCTION")
            .map(|at| definition[at..].to_owned());
        let given = trigger.events;
        for (event, fires) in [
            ("INSERT", given.insert),
            ("DELETE", given.delete),
            ("UPDATE", given.update),
        ] {
            if !fires {
                continue;
            }
            let before = cx
                .catalog
                .triggers_of(table.id)
                .into_iter()
                .filter(|other| {
                    let same = match event {
                        "INSERT" => other.events.insert,
                        "DELETE" => other.events.delete,
                        _ => other.events.update,
                    };
                    let seen = cx.catalog.sees_trigger(cx.role, other);
                    let before = other.timing == trigger.timing && other.name <= trigger.name;
                    same && before && seen
                });
            out.push(row![
                DATABASE,
                schema,
                trigger.name.as_str(),
                event,
                DATABASE,
                schema,
                table.name.as_str(),
                before.count() as i32,
                trigger.when.as_ref().map(|text| format!("({text})")),
                statement.clone(),
                "ROW",
                timing(trigger),
                NULL,
                NULL,
                NULL,
                NULL,
                NULL,
            ]);
        }
    }
}

/// `information_schema.routines`, without what only the standard asks for.
pub(super) fn routines(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for routine in seen_routines(cx) {
        let schema = cx.catalog.schema_name(routine.schema);
        let specific = format!("{}_{}", routine.name, routine.id);
        let udt = routine.returns.row().map_or("", |row| row.name);
        let mut row = row![
            DATABASE,
            schema,
            specific,
            DATABASE,
            schema,
            routine.name.as_str(),
            "FUNCTION"
        ];
        row.resize(13, Datum::Null);
        row.push(Datum::text(match routine.returns.is_array() {
            true => "ARRAY".to_owned(),
            false => routine.returns.name(),
        }));
        row.resize(28, Datum::Null);
        row.extend(row![DATABASE, "pg_catalog", udt]);
        row.resize(35, Datum::Null);
        row.push(Datum::text("0"));
        let body = match routine.language {
            Language::Sql => "SQL",
            Language::Plpgsql => "EXTERNAL",
        };
        let text = cx
            .acts_for(routine.owner)
            .then_some(routine.source.as_str());
        let deterministic = match routine.volatility {
            Volatility::Immutable => "YES",
            Volatility::Stable | Volatility::Volatile => "NO",
        };
        row.extend(row![
            body,
            text,
            NULL,
            routine.language.name().to_uppercase(),
            "GENERAL",
            deterministic,
            "MODIFIES",
            if routine.strict { "YES" } else { "NO" },
            NULL,
            "YES",
            0i32,
            NULL,
            NULL,
            "INVOKER"
        ]);
        row.resize(ROUTINES_COLUMNS, Datum::Null);
        out.push(row);
    }
}
