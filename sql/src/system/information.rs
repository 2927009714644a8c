//! `information_schema`: the SQL standard's view of what the role owns or is granted.

use std::sync::Arc;

use super::cell::{NULL, row};
use super::relation::Fill;
use super::tables::relkind;
use super::{SystemCx, SystemRow, definition};
use crate::catalog::{
    Column, Constraint, DATABASE, Generated, Privilege, ReferentialAction, RoleId, Table, TableKind,
};
use crate::types::kind::oid;
use crate::types::{Datum, Type};

pub(super) fn fill_of(name: &str) -> Option<Fill> {
    Some(match name {
        "information_schema_catalog_name" => catalog_name,
        "schemata" => schemata,
        "tables" => tables,
        "columns" => columns,
        "views" => views,
        "sequences" => sequences,
        "table_constraints" => table_constraints,
        "key_column_usage" => key_column_usage,
        "constraint_column_usage" => constraint_column_usage,
        "constraint_table_usage" => constraint_table_usage,
        "referential_constraints" => referential_constraints,
        "check_constraints" => check_constraints,
        "table_privileges" | "role_table_grants" => table_privileges,
        "column_privileges" | "role_column_grants" => column_privileges,
        "applicable_roles" | "administrable_role_authorizations" => applicable_roles,
        "enabled_roles" => enabled_roles,
        "view_table_usage" => view_table_usage,
        "character_sets" => character_sets,
        "triggers" => super::routines::triggers,
        "routines" => super::routines::routines,
        _ => return None,
    })
}

fn yes(value: bool) -> &'static str {
    if value { "YES" } else { "NO" }
}

fn schema<'a>(cx: &SystemCx<'a>, table: &Table) -> &'a str {
    cx.catalog.schema_name(table.schema)
}

/// Tables of every kind that information_schema speaks of; PostgreSQL's own included.
fn all<'a>(cx: &SystemCx<'a>) -> Vec<&'a Arc<Table>> {
    let mut tables = cx.tables(None);
    tables.retain(|t| matches!(relkind(t), b'r' | b'v'));
    tables
}

fn ordinary<'a>(cx: &SystemCx<'a>) -> Vec<&'a Arc<Table>> {
    let mut tables = cx.stored(None);
    tables.retain(|t| t.is_ordinary() && cx.sees_all(t));
    tables
}

fn catalog_name(_: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    out.push(row![DATABASE]);
}

fn schemata(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for s in cx.catalog.schemas().filter(|s| cx.acts_for(s.owner)) {
        let owner = cx.catalog.role_name(s.owner);
        out.push(row![
            DATABASE,
            s.name.as_str(),
            owner,
            NULL,
            NULL,
            NULL,
            NULL
        ]);
    }
}

fn tables(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for t in all(cx) {
        let view = relkind(t) == b'v';
        out.push(row![
            DATABASE,
            schema(cx, t),
            t.name.as_str(),
            if view { "VIEW" } else { "BASE TABLE" },
            NULL,
            NULL,
            NULL,
            NULL,
            NULL,
            yes(t.kind == TableKind::Table),
            "NO",
            NULL,
        ]);
    }
}

/// (length, octets, precision, radix, scale, datetime precision) of a type.
type Sizes = (
    Option<i32>,
    Option<i32>,
    Option<i32>,
    Option<i32>,
    Option<i32>,
    Option<i32>,
);

fn sizes(ty: Type) -> Sizes {
    let m = ty.modifier;
    match ty.oid {
        oid::VARCHAR | oid::BPCHAR if m >= 4 => (
            Some(m - 4),
            Some((m - 4).saturating_mul(4)),
            None,
            None,
            None,
            None,
        ),
        oid::TEXT | oid::VARCHAR | oid::BPCHAR => {
            (None, Some(1_073_741_824), None, None, None, None)
        }
        oid::INT2 => (None, None, Some(16), Some(2), Some(0), None),
        oid::INT4 => (None, None, Some(32), Some(2), Some(0), None),
        oid::INT8 => (None, None, Some(64), Some(2), Some(0), None),
        oid::FLOAT4 => (None, None, Some(24), Some(2), None, None),
        oid::FLOAT8 => (None, None, Some(53), Some(2), None, None),
        oid::NUMERIC if m >= 4 => {
            let (precision, scale) = (((m - 4) >> 16) & 0xffff, (m - 4) & 0x7ff);
            (None, None, Some(precision), Some(10), Some(scale), None)
        }
        oid::NUMERIC => (None, None, None, Some(10), None, None),
        oid::DATE => (None, None, None, None, None, Some(0)),
        oid::TIME | oid::TIMETZ | oid::TIMESTAMP | oid::TIMESTAMPTZ => (
            None,
            None,
            None,
            None,
            None,
            Some(if m < 0 { 6 } else { m }),
        ),
        oid::INTERVAL => {
            let precision = if m < 0 || m & 0xffff == 0xffff {
                6
            } else {
                m & 0xffff
            };
            (None, None, None, None, None, Some(precision))
        }
        _ => (None, None, None, None, None, None),
    }
}

fn columns(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    let named = |at: usize| cx.equal(at).and_then(Datum::as_str);
    for t in all(cx) {
        if named(1).is_some_and(|s| s != schema(cx, t)) || named(2).is_some_and(|n| n != t.name) {
            continue;
        }
        for c in cx.columns(t) {
            out.push(column(cx, t, c));
        }
    }
}

fn column(cx: &SystemCx<'_>, t: &Arc<Table>, c: &Column) -> SystemRow {
    let (length, octets, precision, radix, scale, datetime) = sizes(c.ty);
    let type_name = c.ty.row().map_or("", |r| r.name);
    let data_type = if c.ty.is_array() {
        "ARRAY".to_owned()
    } else {
        Type::new(c.ty.oid).name()
    };
    let all = cx.acts_for(t.owner);
    let shown = |text: &str| {
        let tree = definition::of_column(c, text);
        let text = definition::expression_of(cx.catalog, cx.path, t, &tree, false);
        all.then_some(text)
    };
    let (default, generated) = match c.source() {
        Generated::Default(text) => (shown(text), None),
        Generated::Stored(text) => (None, shown(text)),
        Generated::Nothing | Generated::Identity(_) => (None, None),
    };
    let identity = c.identity.and_then(|i| {
        let sequence = cx.catalog.table(i.sequence)?;
        match &sequence.kind {
            TableKind::Sequence(o) => Some((i.always, o.clone())),
            _ => None,
        }
    });
    let options = identity.as_ref().map(|(_, o)| o);
    let stored = matches!(c.source(), Generated::Stored(_));
    row![
        DATABASE,
        schema(cx, t),
        t.name.as_str(),
        c.name.as_str(),
        i32::from(c.number),
        default,
        yes(!c.not_null),
        data_type,
        length,
        octets,
        precision,
        radix,
        scale,
        datetime,
        NULL,
        NULL,
        NULL,
        NULL,
        NULL,
        NULL,
        NULL,
        NULL,
        NULL,
        NULL,
        NULL,
        DATABASE,
        "pg_catalog",
        type_name,
        NULL,
        NULL,
        NULL,
        NULL,
        c.number.to_string(),
        "NO",
        yes(identity.is_some()),
        identity
            .as_ref()
            .map(|(always, _)| if *always { "ALWAYS" } else { "BY DEFAULT" }),
        options.map(|o| o.start.to_string()),
        options.map(|o| o.increment.to_string()),
        options.map(|o| o.max.to_string()),
        options.map(|o| o.min.to_string()),
        options.map_or("NO", |o| yes(o.cycle)),
        if stored { "ALWAYS" } else { "NEVER" },
        generated,
        yes(t.kind == TableKind::Table),
    ]
}

fn views(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for v in all(cx).into_iter().filter(|t| relkind(t) == b'v') {
        let text = definition::view(cx.catalog, cx.role, v).filter(|_| cx.acts_for(v.owner));
        out.push(row![
            DATABASE,
            schema(cx, v),
            v.name.as_str(),
            text,
            "NONE",
            "NO",
            "NO",
            "NO",
            "NO",
            "NO",
        ]);
    }
}

fn sequences(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for t in cx.stored(None) {
        let TableKind::Sequence(o) = &t.kind else {
            continue;
        };
        if o.identity {
            continue;
        }
        let bits = match o.ty.oid {
            oid::INT2 => 16i32,
            oid::INT4 => 32,
            _ => 64,
        };
        out.push(row![
            DATABASE,
            schema(cx, t),
            t.name.as_str(),
            o.ty.name(),
            bits,
            2i32,
            0i32,
            o.start.to_string(),
            o.min.to_string(),
            o.max.to_string(),
            o.increment.to_string(),
            yes(o.cycle),
        ]);
    }
}

fn table_constraints(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    let mut put = |t: &Table, name: &str, kind: &str, timing: (bool, bool), nulls: Option<bool>| {
        let s = cx.catalog.schema_name(t.schema);
        out.push(row![
            DATABASE,
            s,
            name,
            DATABASE,
            s,
            t.name.as_str(),
            kind,
            yes(timing.0),
            yes(timing.1),
            "YES",
            nulls.map(yes),
        ]);
    };
    for t in ordinary(cx) {
        for c in &t.constraints {
            match c {
                Constraint::Check { name, .. } => put(t, name, "CHECK", (false, false), None),
                Constraint::Primary { name, .. } => {
                    put(t, name, "PRIMARY KEY", (false, false), None);
                }
                Constraint::Unique {
                    name,
                    index,
                    deferrable,
                    deferred,
                    ..
                } => {
                    let distinct = t.index(*index).is_none_or(|i| !i.nulls_not_distinct);
                    put(t, name, "UNIQUE", (*deferrable, *deferred), Some(distinct));
                }
                Constraint::Foreign(k) => {
                    put(t, &k.name, "FOREIGN KEY", (k.deferrable, k.deferred), None);
                }
            }
        }
        for c in t.live_columns().filter(|c| c.not_null) {
            put(t, &not_null_name(t, c), "CHECK", (false, false), None);
        }
    }
}

/// How PostgreSQL 15's information_schema names NOT NULL.
fn not_null_name(t: &Table, c: &Column) -> String {
    format!("{}_{}_{}_not_null", t.schema.0, t.id.0, c.number)
}

fn key_column_usage(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for t in ordinary(cx) {
        for c in &t.constraints {
            if matches!(c, Constraint::Check { .. }) {
                continue;
            }
            let columns = definition::constraint_columns(t, c);
            for (at, id) in columns.iter().enumerate() {
                let Some(column) = t.column_by_id(*id) else {
                    continue;
                };
                let position = match c {
                    Constraint::Foreign(k) => position_in_unique(cx, k, at),
                    _ => None,
                };
                out.push(row![
                    DATABASE,
                    schema(cx, t),
                    c.name(),
                    DATABASE,
                    schema(cx, t),
                    t.name.as_str(),
                    column.name.as_str(),
                    at as i32 + 1,
                    position,
                ]);
            }
        }
    }
}

fn position_in_unique(
    cx: &SystemCx<'_>,
    key: &crate::catalog::ForeignKey,
    at: usize,
) -> Option<i32> {
    let parent = cx.table(key.references)?;
    let index = parent.index(key.referenced_index)?;
    let id = key.referenced_columns.get(at)?;
    let found = index
        .columns
        .iter()
        .position(|c| c.what == crate::catalog::IndexKey::Column(*id))?;
    Some(found as i32 + 1)
}

fn constraint_column_usage(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for t in ordinary(cx) {
        for c in &t.constraints {
            let (on, columns) = match c {
                Constraint::Foreign(k) => match cx.table(k.references) {
                    Some(parent) => (&**parent, k.referenced_columns.clone()),
                    None => continue,
                },
                _ => (&**t, definition::constraint_columns(t, c)),
            };
            if !cx.acts_for(on.owner) {
                continue;
            }
            for column in columns.iter().filter_map(|id| on.column_by_id(*id)) {
                out.push(row![
                    DATABASE,
                    schema(cx, on),
                    on.name.as_str(),
                    column.name.as_str(),
                    DATABASE,
                    schema(cx, t),
                    c.name(),
                ]);
            }
        }
    }
}

fn constraint_table_usage(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for t in ordinary(cx) {
        for c in &t.constraints {
            let on = match c {
                Constraint::Check { .. } => continue,
                Constraint::Foreign(k) => match cx.table(k.references) {
                    Some(parent) => &**parent,
                    None => continue,
                },
                _ => &**t,
            };
            if cx.acts_for(on.owner) {
                out.push(row![
                    DATABASE,
                    schema(cx, on),
                    on.name.as_str(),
                    DATABASE,
                    schema(cx, t),
                    c.name(),
                ]);
            }
        }
    }
}

fn rule(action: ReferentialAction) -> &'static str {
    match action {
        ReferentialAction::NoAction => "NO ACTION",
        ReferentialAction::Restrict => "RESTRICT",
        ReferentialAction::Cascade => "CASCADE",
        ReferentialAction::SetNull => "SET NULL",
        ReferentialAction::SetDefault => "SET DEFAULT",
    }
}

fn referential_constraints(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for t in ordinary(cx) {
        for k in t.foreign_keys() {
            let unique = cx.table(k.references).and_then(|parent| {
                let constraint = parent
                    .constraints
                    .iter()
                    .find(|c| c.index() == Some(k.referenced_index))?;
                Some((schema(cx, parent), constraint.name()))
            });
            out.push(row![
                DATABASE,
                schema(cx, t),
                k.name.as_str(),
                unique.map(|_| DATABASE),
                unique.map(|u| u.0),
                unique.map(|u| u.1),
                if k.full { "FULL" } else { "NONE" },
                rule(k.on_update),
                rule(k.on_delete),
            ]);
        }
    }
}

fn check_constraints(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for t in ordinary(cx).into_iter().filter(|t| cx.acts_for(t.owner)) {
        for c in &t.constraints {
            if let Constraint::Check { name, .. } = c {
                let text = definition::constraint(cx.catalog, cx.path, t, c, false);
                let clause = text
                    .strip_prefix("CHECK (")
                    .and_then(|t| t.strip_suffix(')'))
                    .map(str::to_owned);
                out.push(row![DATABASE, schema(cx, t), name.as_str(), clause]);
            }
        }
        for c in t.live_columns().filter(|c| c.not_null) {
            out.push(row![
                DATABASE,
                schema(cx, t),
                not_null_name(t, c),
                format!("{} IS NOT NULL", c.name),
            ]);
        }
    }
}

fn grantee(cx: &SystemCx<'_>, role: RoleId) -> String {
    match role {
        RoleId::PUBLIC => "PUBLIC".to_owned(),
        role => cx.catalog.role_name(role),
    }
}

fn concerns(cx: &SystemCx<'_>, item: &crate::catalog::AclItem) -> bool {
    item.grantee == RoleId::PUBLIC || cx.acts_for(item.grantee) || cx.acts_for(item.grantor)
}

fn table_privileges(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    use crate::catalog::{Acl, Privileges};
    for t in cx.stored(None) {
        if matches!(t.kind, TableKind::Sequence(_)) {
            continue;
        }
        let default;
        let acl = match &t.acl {
            Some(acl) => acl,
            None => {
                default = Acl::of_owner(t.owner, Privileges::TABLE);
                &default
            }
        };
        for item in acl.0.iter().filter(|i| concerns(cx, i)) {
            for privilege in item.privileges.iter() {
                let grantable = item.options.has(privilege) || item.grantee == t.owner;
                out.push(row![
                    cx.catalog.role_name(item.grantor),
                    grantee(cx, item.grantee),
                    DATABASE,
                    schema(cx, t),
                    t.name.as_str(),
                    privilege.name(),
                    yes(grantable),
                    yes(privilege == Privilege::Select),
                ]);
            }
        }
    }
}

fn column_privileges(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    use crate::catalog::{Acl, Privileges};
    for t in cx.stored(None) {
        if matches!(t.kind, TableKind::Sequence(_)) {
            continue;
        }
        let default;
        let whole = match &t.acl {
            Some(acl) => acl,
            None => {
                default = Acl::of_owner(t.owner, Privileges::TABLE);
                &default
            }
        };
        for c in cx.columns(t) {
            let own = c.acl.iter().flat_map(|a| a.0.iter());
            for item in whole.0.iter().chain(own).filter(|i| concerns(cx, i)) {
                for privilege in item.privileges.and(Privileges::COLUMN).iter() {
                    out.push(row![
                        cx.catalog.role_name(item.grantor),
                        grantee(cx, item.grantee),
                        DATABASE,
                        schema(cx, t),
                        t.name.as_str(),
                        c.name.as_str(),
                        privilege.name(),
                        yes(item.options.has(privilege) || item.grantee == t.owner),
                    ]);
                }
            }
        }
    }
}

fn applicable_roles(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for m in cx
        .catalog
        .memberships()
        .filter(|m| cx.catalog.inherits(cx.role, m.member))
    {
        out.push(row![
            cx.catalog.role_name(m.member),
            cx.catalog.role_name(m.role),
            yes(m.admin),
        ]);
    }
}

fn enabled_roles(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for r in cx
        .catalog
        .roles()
        .filter(|r| cx.catalog.has_role(cx.role, r.id))
    {
        out.push(row![r.name.as_str()]);
    }
}

fn view_table_usage(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for v in cx.stored(None) {
        for (on, _) in &v.depends_on {
            let Some(on) = cx.table(*on).filter(|t| cx.acts_for(t.owner)) else {
                continue;
            };
            out.push(row![
                DATABASE,
                schema(cx, v),
                v.name.as_str(),
                DATABASE,
                schema(cx, on),
                on.name.as_str(),
            ]);
        }
    }
}

fn character_sets(_: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    out.push(row![
        NULL, NULL, "UTF8", "UCS", "UTF8", DATABASE, NULL, NULL
    ]);
}
