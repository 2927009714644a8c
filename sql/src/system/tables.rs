//! `pg_class`, `pg_attribute` and what describes tables beside them.

use std::sync::Arc;

use super::cell::{NULL, Oid, acl_items, int2s, int2vector, oids, oidvector, row, texts};
use super::shape::{shape_of, static_rows};
use super::{SystemCx, SystemRow, definition};
use crate::catalog::{
    Acl, Catalog, Column, Constraint, Generated, Index, IndexKey, IndexState, ReferentialAction,
    RoleId, Table, TableKind,
};
use crate::types::kind::oid;
use crate::types::{Datum, Type};

/// `pg_am`: heap and btree.
const HEAP: u32 = 2;
const BTREE: u32 = 403;
const HASH: u32 = 405;
/// `pg_collation`: the database's default.
const DEFAULT_COLLATION: u32 = 100;

/// `relacl` and its kin: NULL = the defaults.
pub(super) fn acl(catalog: &Catalog, acl: Option<&Acl>) -> Datum {
    let Some(acl) = acl else { return Datum::Null };
    let name = |role: RoleId| crate::ddl::quote(&catalog.role_name(role));
    acl_items(acl.0.iter().map(|item| item.text(name)))
}

struct Class<'a> {
    oid: u32,
    name: &'a str,
    table: &'a Table,
    access: u32,
    kind: u8,
    columns: i16,
    triggers: bool,
    acl: Datum,
    options: Datum,
}

fn class(c: Class<'_>) -> SystemRow {
    let t = c.table;
    let is_table = matches!(c.kind, b'r' | b'm');
    let checks = t
        .constraints
        .iter()
        .filter(|k| matches!(k, Constraint::Check { .. }))
        .count() as i16;
    let foreign = is_table && (t.foreign_keys().next().is_some() || !t.referenced_by.is_empty());
    row![
        Oid(c.oid),
        c.name,
        Oid(t.schema.0),
        Oid(0),
        Oid(0),
        Oid(t.owner.0),
        Oid(c.access),
        Oid(if c.kind == b'v' { 0 } else { c.oid }),
        Oid(0),
        0i32,
        if c.kind == b'v' { 0.0f32 } else { -1.0f32 },
        0i32,
        Oid(0),
        is_table && !t.indexes.is_empty(),
        false,
        b'p',
        c.kind,
        c.columns,
        if is_table { checks } else { 0i16 },
        matches!(c.kind, b'v' | b'm'),
        foreign || c.triggers,
        false,
        false,
        false,
        !t.is_filling(),
        if is_table { b'd' } else { b'n' },
        false,
        Oid(0),
        Oid(if is_table { 3 } else { 0 }),
        Oid(if is_table { 1 } else { 0 }),
        c.acl,
        c.options,
        NULL,
    ]
}

fn options(map: &std::collections::BTreeMap<String, String>) -> Datum {
    if map.is_empty() {
        return Datum::Null;
    }
    texts(map.iter().map(|(k, v)| format!("{k}={v}")))
}

/// The kind of relation as `pg_class` shows it; PostgreSQL's own views stay views.
pub(crate) fn relkind(table: &Table) -> u8 {
    match table.kind {
        TableKind::System => shape_of(table.id.0).map_or(b'v', |s| s.kind),
        _ => table.relkind(),
    }
}

pub(super) fn pg_class(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for table in cx.tables(Some(0)) {
        let kind = relkind(table);
        out.push(class(Class {
            oid: table.id.0,
            name: &table.name,
            table,
            access: if matches!(kind, b'r' | b'm') { HEAP } else { 0 },
            kind,
            columns: table.columns.len() as i16,
            triggers: super::routines::has_triggers(cx, table),
            acl: acl(cx.catalog, table.acl.as_ref()),
            options: options(&table.options),
        }));
        if !cx.sees_all(table) {
            continue;
        }
        for index in &table.indexes {
            out.push(class(Class {
                oid: index.id,
                name: &index.name,
                table,
                access: if index.method == "hash" { HASH } else { BTREE },
                kind: b'i',
                columns: (index.columns.len() + index.include.len()) as i16,
                triggers: false,
                acl: Datum::Null,
                options: options(&index.options),
            }));
        }
    }
}

/// A row of `pg_attribute` but for what only tables have.
struct Attribute<'a> {
    relation: u32,
    name: &'a str,
    ty: Type,
    number: i16,
    not_null: bool,
    column: Option<&'a Column>,
    acl: Datum,
}

fn attribute(a: Attribute<'_>) -> SystemRow {
    let ty = a.ty.row();
    let dropped = a.column.is_some_and(|c| c.dropped);
    let source = a.column.map_or(Generated::Nothing, Column::source);
    let identity = match source {
        Generated::Identity(i) if i.always => b'a',
        Generated::Identity(_) => b'd',
        _ => 0,
    };
    let generated = if matches!(source, Generated::Stored(_)) {
        b's'
    } else {
        0
    };
    let has_default = matches!(source, Generated::Stored(_) | Generated::Default(_));
    row![
        Oid(a.relation),
        a.name,
        Oid(if dropped { 0 } else { a.ty.oid }),
        if a.number < 0 { 0i32 } else { -1i32 },
        ty.map_or(-1i16, |t| t.length),
        a.number,
        i32::from(a.ty.is_array()),
        -1i32,
        a.ty.modifier,
        ty.is_some_and(|t| t.by_value),
        ty.map_or(b'i', |t| t.alignment),
        ty.map_or(b'p', |t| t.storage),
        0u8,
        a.not_null,
        has_default,
        a.column.is_some_and(|c| c.missing.is_some()),
        identity,
        generated,
        dropped,
        true,
        0i32,
        Oid(ty.map_or(0, |t| t.collation)),
        a.acl,
        NULL,
        NULL,
        NULL,
    ]
}

/// The system columns of stored tables, as PostgreSQL numbers them.
const SYSTEM: [(&str, u32, i16); 6] = [
    ("tableoid", oid::OID, -6),
    ("cmax", oid::CID, -5),
    ("xmax", oid::XID, -4),
    ("cmin", oid::CID, -3),
    ("xmin", oid::XID, -2),
    ("ctid", oid::TID, -1),
];

pub(super) fn pg_attribute(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    let wanted = cx.wanted(0);
    for table in cx.tables(Some(0)) {
        if wanted.is_none_or(|w| w == table.id.0) {
            table_attributes(cx, table, out);
        }
        if !cx.sees_all(table) {
            continue;
        }
        for index in table
            .indexes
            .iter()
            .filter(|i| wanted.is_none_or(|w| w == i.id))
        {
            index_attributes(cx, table, index, out);
        }
    }
}

fn table_attributes(cx: &SystemCx<'_>, table: &Table, out: &mut Vec<SystemRow>) {
    if matches!(relkind(table), b'r' | b'm') {
        for (name, ty, number) in SYSTEM {
            out.push(attribute(Attribute {
                relation: table.id.0,
                name,
                ty: Type::new(ty),
                number,
                not_null: true,
                column: None,
                acl: Datum::Null,
            }));
        }
    }
    let visible = cx.columns(table);
    let all = cx.sees_all(table);
    for column in &table.columns {
        let shown = column.dropped && all || visible.iter().any(|c| c.id == column.id);
        if shown {
            out.push(attribute(Attribute {
                relation: table.id.0,
                name: &column.name,
                ty: column.ty,
                number: column.number,
                not_null: column.not_null,
                column: Some(column),
                acl: acl(cx.catalog, column.acl.as_ref()),
            }));
        }
    }
}

fn index_attributes(
    cx: &SystemCx<'_>,
    table: &Arc<Table>,
    index: &Index,
    out: &mut Vec<SystemRow>,
) {
    let keys = index.columns.iter().map(|c| match &c.what {
        IndexKey::Column(id) => Some(*id),
        IndexKey::Expression(_) => None,
    });
    let all = keys.chain(index.include.iter().map(|id| Some(*id)));
    for (at, id) in all.enumerate() {
        let column = id.and_then(|id| table.column_by_id(id));
        let name = column.map_or_else(
            || definition::expression_column_name(index, at),
            |c| c.name.clone(),
        );
        out.push(attribute(Attribute {
            relation: index.id,
            name: &name,
            ty: column.map_or_else(|| expression_type(cx, table, index, at), |c| c.ty),
            number: at as i16 + 1,
            not_null: false,
            column: None,
            acl: Datum::Null,
        }));
    }
}

/// The type of an index column that is an expression.
fn expression_type(cx: &SystemCx<'_>, table: &Arc<Table>, index: &Index, at: usize) -> Type {
    let Some(IndexKey::Expression(text)) = index.columns.get(at).map(|c| &c.what) else {
        return Type::TEXT;
    };
    let place = "index expressions";
    crate::plan::stored_expression(cx.catalog, table, text, None, place, false)
        .map_or(Type::TEXT, |expr| expr.ty())
}

pub(super) fn pg_attrdef(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for table in cx.stored(Some(1)).into_iter().filter(|t| cx.sees_all(t)) {
        for column in table.live_columns() {
            let text = match column.source() {
                Generated::Default(text) | Generated::Stored(text) => text,
                Generated::Nothing | Generated::Identity(_) => continue,
            };
            let shown = definition::sees_expression(cx.catalog, cx.role, text);
            out.push(row![
                Oid(column.default_id),
                Oid(table.id.0),
                column.number,
                if shown {
                    definition::of_column(column, text)
                } else {
                    String::new()
                },
            ]);
        }
    }
}

/// The default btree operator class of a type.
fn operator_class(ty: Type) -> u32 {
    let ty = match ty.oid {
        oid::VARCHAR => oid::TEXT,
        other => other,
    };
    let wanted = if Type::new(ty).is_array() {
        oid::ANYARRAY
    } else {
        ty
    };
    static_rows("pg_opclass")
        .iter()
        .find(|r| {
            let oid = |at: usize| match r[at] {
                Datum::Oid(oid) => oid,
                _ => 0,
            };
            oid(1) == BTREE && oid(6) == wanted && r[7].is_true()
        })
        .map_or(0, |r| match r[0] {
            Datum::Oid(oid) => oid,
            _ => 0,
        })
}

pub(super) fn pg_index(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    let tables = if cx.wanted(0).is_some() {
        cx.stored(Some(0))
    } else {
        cx.stored(Some(1))
    };
    for table in tables.into_iter().filter(|t| cx.sees_all(t)) {
        for index in &table.indexes {
            out.push(index_row(cx, table, index));
        }
    }
}

fn index_row(cx: &SystemCx<'_>, table: &Arc<Table>, index: &Index) -> SystemRow {
    let column = |key: &IndexKey| match key {
        IndexKey::Column(id) => table.column_by_id(*id),
        IndexKey::Expression(_) => None,
    };
    let keys = index
        .columns
        .iter()
        .map(|c| column(&c.what).map_or(0, |c| c.number));
    let included = index
        .include
        .iter()
        .map(|id| table.column_by_id(*id).map_or(0, |c| c.number));
    let types: Vec<Type> = index
        .columns
        .iter()
        .enumerate()
        .map(|(at, c)| {
            column(&c.what).map_or_else(|| expression_type(cx, table, index, at), |c| c.ty)
        })
        .collect();
    let collation = |ty: &Type| {
        if ty.row().is_some_and(|t| t.collation == DEFAULT_COLLATION) {
            DEFAULT_COLLATION
        } else {
            0
        }
    };
    let expressions: Vec<&str> = index
        .columns
        .iter()
        .filter_map(|c| match &c.what {
            IndexKey::Expression(text) => Some(text.as_str()),
            IndexKey::Column(_) => None,
        })
        .collect();
    let ready = index.state == IndexState::Ready;
    let immediate = !table.constraints.iter().any(
        |c| matches!(c, Constraint::Unique { index: i, deferrable: true, .. } if *i == index.id),
    );
    row![
        Oid(index.id),
        Oid(table.id.0),
        (index.columns.len() + index.include.len()) as i16,
        index.columns.len() as i16,
        index.unique,
        index.nulls_not_distinct,
        index.primary,
        false,
        immediate,
        index.clustered,
        ready,
        false,
        true,
        true,
        false,
        int2vector(keys.chain(included)),
        oidvector(types.iter().map(collation)),
        oidvector(types.iter().map(|ty| operator_class(*ty))),
        int2vector(
            index
                .columns
                .iter()
                .map(|c| i16::from(c.descending) | i16::from(c.nulls_first) << 1)
        ),
        (!expressions.is_empty()).then(|| expressions.join(", ")),
        index.predicate.clone(),
    ]
}

fn action(action: ReferentialAction) -> u8 {
    match action {
        ReferentialAction::NoAction => b'a',
        ReferentialAction::Restrict => b'r',
        ReferentialAction::Cascade => b'c',
        ReferentialAction::SetNull => b'n',
        ReferentialAction::SetDefault => b'd',
    }
}

pub(super) fn pg_constraint(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    let tables = match (cx.wanted(0), cx.wanted(7)) {
        (Some(constraint), _) => {
            let table = cx.catalog.constraint_table(constraint);
            table.into_iter().filter(|t| cx.sees(t)).collect()
        }
        (None, Some(_)) => cx.stored(Some(7)),
        (None, None) => cx.stored(None),
    };
    for table in tables.into_iter().filter(|t| cx.sees_all(t)) {
        for constraint in &table.constraints {
            out.push(constraint_row(cx, table, constraint));
        }
    }
}

fn constraint_row(cx: &SystemCx<'_>, table: &Table, constraint: &Constraint) -> SystemRow {
    let numbers = |of: &Table, ids: &[crate::catalog::ColumnId]| {
        int2s(
            ids.iter()
                .filter_map(|id| of.column_by_id(*id))
                .map(|c| c.number),
        )
    };
    let (kind, deferrable, deferred, validated, no_inherit) = match constraint {
        Constraint::Check {
            validated,
            no_inherit,
            ..
        } => (b'c', false, false, *validated, *no_inherit),
        Constraint::Unique {
            deferrable,
            deferred,
            ..
        } => (b'u', *deferrable, *deferred, true, true),
        Constraint::Primary { .. } => (b'p', false, false, true, true),
        Constraint::Foreign(key) => (b'f', key.deferrable, key.deferred, key.validated, true),
    };
    let columns = match constraint {
        Constraint::Check { expression, .. } => {
            let ids = crate::ddl::columns_in(table, expression);
            if ids.is_empty() {
                Datum::Null
            } else {
                numbers(table, &ids)
            }
        }
        Constraint::Unique { index, .. } | Constraint::Primary { index, .. } => {
            let ids: Vec<_> = table.index(*index).map_or_else(Vec::new, |i| {
                i.columns
                    .iter()
                    .filter_map(|c| match c.what {
                        IndexKey::Column(id) => Some(id),
                        IndexKey::Expression(_) => None,
                    })
                    .collect()
            });
            numbers(table, &ids)
        }
        Constraint::Foreign(key) => numbers(table, &key.columns),
    };
    let foreign = match constraint {
        Constraint::Foreign(key) => Some(key),
        _ => None,
    };
    let parent = foreign.and_then(|k| cx.table(k.references));
    let equal = |ty: Type| {
        crate::functions::operators_named("=")
            .find(|o| o.left == Some(ty.oid) && o.right == ty.oid)
            .map_or(98, |o| o.oid)
    };
    let operators = foreign.map(|key| {
        oids(
            key.columns
                .iter()
                .filter_map(|id| table.column_by_id(*id))
                .map(|c| {
                    let ty = if c.ty.oid == oid::VARCHAR {
                        Type::TEXT
                    } else {
                        c.ty
                    };
                    equal(ty)
                }),
        )
    });
    row![
        Oid(constraint.id()),
        constraint.name(),
        Oid(table.schema.0),
        kind,
        deferrable,
        deferred,
        validated,
        Oid(table.id.0),
        Oid(0),
        Oid(constraint
            .index()
            .or(foreign.map(|k| k.referenced_index))
            .unwrap_or(0)),
        Oid(0),
        Oid(foreign.map_or(0, |k| k.references.0)),
        foreign.map_or(b' ', |k| action(k.on_update)),
        foreign.map_or(b' ', |k| action(k.on_delete)),
        foreign.map_or(b' ', |k| if k.full { b'f' } else { b's' }),
        true,
        0i32,
        no_inherit,
        columns,
        foreign.and_then(|k| Some(numbers(parent?, &k.referenced_columns))),
        operators.clone(),
        operators.clone(),
        operators,
        foreign
            .filter(|k| !k.set_columns.is_empty())
            .map(|k| numbers(table, &k.set_columns)),
        NULL,
        match constraint {
            Constraint::Check { expression, .. } => Some(expression.as_str()),
            _ => None,
        },
    ]
}

pub(super) fn pg_sequence(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for table in cx.stored(Some(0)) {
        if let TableKind::Sequence(o) = &table.kind {
            out.push(row![
                Oid(table.id.0),
                Oid(o.ty.oid),
                o.start,
                o.increment,
                o.max,
                o.min,
                o.cache,
                o.cycle,
            ]);
        }
    }
}

pub(super) fn pg_rewrite(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for view in cx.stored(Some(2)) {
        if matches!(view.relkind(), b'v' | b'm') {
            out.push(row![
                Oid(view.id.0),
                "_RETURN",
                Oid(view.id.0),
                b'1',
                b'O',
                true,
                "<>",
                "<>",
            ]);
        }
    }
}
