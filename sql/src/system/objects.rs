//! Schemas, comments, dependencies, and the views that list tables by name.

use std::sync::Arc;

use super::cell::{NULL, Oid, row};
use super::routines::{CLASS_PG_PROC, CLASS_PG_TRIGGER};
use super::tables::{acl, relkind};
use super::{SystemCx, SystemRow, definition};
use crate::catalog::{Constraint, IndexKey, Routine, SchemaId, Table, TableKind, Trigger};
use crate::functions::{Evaluation, Resolved, functions_named};
use crate::types::{Datum, FormatSettings, Type};

/// `pg_class`, `pg_constraint`, ... as they name themselves in `classid`.
pub(super) const CLASS_PG_CLASS: u32 = 1259;
pub(super) const CLASS_PG_CONSTRAINT: u32 = 2606;
const CLASS_PG_ATTRDEF: u32 = 2604;
const CLASS_PG_REWRITE: u32 = 2618;
pub(super) const CLASS_PG_NAMESPACE: u32 = 2615;
const CLASS_PG_AUTHID: u32 = 1260;
const CLASS_PG_DATABASE: u32 = 1262;

pub(super) fn pg_namespace(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for schema in cx
        .catalog
        .schemas()
        .filter(|s| cx.catalog.sees_schema(cx.role, s))
    {
        out.push(row![
            Oid(schema.id.0),
            schema.name.as_str(),
            Oid(schema.owner.0),
            acl(cx.catalog, schema.acl.as_ref()),
        ]);
    }
}

pub(super) fn pg_description(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    let mut put = |object: u32, class: u32, sub: i32, text: Option<&str>| {
        if let Some(text) = text {
            out.push(row![Oid(object), Oid(class), sub, text]);
        }
    };
    for schema in cx
        .catalog
        .schemas()
        .filter(|s| cx.catalog.sees_schema(cx.role, s))
    {
        put(
            schema.id.0,
            CLASS_PG_NAMESPACE,
            0,
            schema.comment.as_deref(),
        );
    }
    routine_comments(cx, &mut put);
    for table in cx.stored(None) {
        put(table.id.0, CLASS_PG_CLASS, 0, table.comment.as_deref());
        for column in cx.columns(table) {
            let number = i32::from(column.number);
            put(
                table.id.0,
                CLASS_PG_CLASS,
                number,
                column.comment.as_deref(),
            );
        }
        if !cx.sees_all(table) {
            continue;
        }
        for index in &table.indexes {
            put(index.id, CLASS_PG_CLASS, 0, index.comment.as_deref());
        }
        for constraint in &table.constraints {
            put(
                constraint.id(),
                CLASS_PG_CONSTRAINT,
                0,
                constraint.comment(),
            );
        }
    }
}

/// Comments on functions and triggers.
fn routine_comments(cx: &SystemCx<'_>, put: &mut dyn FnMut(u32, u32, i32, Option<&str>)) {
    let seen = |r: &&Arc<Routine>| cx.catalog.sees_routine(cx.role, r);
    for routine in cx.catalog.routines().filter(seen) {
        put(routine.id, CLASS_PG_PROC, 0, routine.comment.as_deref());
    }
    let seen = |t: &&Arc<Trigger>| cx.catalog.sees_trigger(cx.role, t);
    for trigger in cx.catalog.triggers().filter(seen) {
        put(trigger.id, CLASS_PG_TRIGGER, 0, trigger.comment.as_deref());
    }
}

pub(super) fn pg_shdescription(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for role in cx.catalog.roles() {
        if let Some(text) = &role.comment {
            out.push(row![Oid(role.id.0), Oid(CLASS_PG_AUTHID), text.as_str()]);
        }
    }
    out.push(row![
        Oid(crate::catalog::DATABASE_OID),
        Oid(CLASS_PG_DATABASE),
        "the one database of the cluster",
    ]);
}

/// One dependency: (class, object, column) on (class, object, column).
fn depend(object: (u32, u32, i32), on: (u32, u32, i32), kind: u8) -> SystemRow {
    row![
        Oid(object.0),
        Oid(object.1),
        object.2,
        Oid(on.0),
        Oid(on.1),
        on.2,
        kind
    ]
}

pub(super) fn pg_depend(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for table in cx.stored(None) {
        let class = (CLASS_PG_CLASS, table.id.0, 0);
        out.push(depend(class, (CLASS_PG_NAMESPACE, table.schema.0, 0), b'n'));
        if !cx.sees_all(table) {
            continue;
        }
        match &table.kind {
            TableKind::Sequence(options) => {
                if let Some((owner, column)) = options.owned_by
                    && let Some(owner) = cx.table(owner)
                    && let Some(column) = owner.column_by_id(column)
                {
                    let on = (CLASS_PG_CLASS, owner.id.0, i32::from(column.number));
                    out.push(depend(
                        class,
                        on,
                        if options.identity { b'i' } else { b'a' },
                    ));
                }
            }
            TableKind::View(_) => view_depends(cx, table, out),
            TableKind::Table | TableKind::System => {
                // What a projection is made of is its owner's alone.
                if table.projection.is_some() && cx.acts_for(table.owner) {
                    view_depends(cx, table, out);
                }
                table_depends(cx, table, out);
            }
        }
    }
}

fn view_depends(cx: &SystemCx<'_>, view: &Table, out: &mut Vec<SystemRow>) {
    let rule = (CLASS_PG_REWRITE, view.id.0, 0);
    out.push(depend(rule, (CLASS_PG_CLASS, view.id.0, 0), b'i'));
    for (on, columns) in &view.depends_on {
        let Some(on) = cx.table(*on) else { continue };
        if columns.is_empty() {
            out.push(depend(rule, (CLASS_PG_CLASS, on.id.0, 0), b'n'));
        }
        for column in columns.iter().filter_map(|c| on.column_by_id(*c)) {
            let number = i32::from(column.number);
            out.push(depend(rule, (CLASS_PG_CLASS, on.id.0, number), b'n'));
        }
    }
}

fn table_depends(cx: &SystemCx<'_>, table: &Table, out: &mut Vec<SystemRow>) {
    for column in table.live_columns().filter(|c| c.default_id != 0) {
        let object = (CLASS_PG_ATTRDEF, column.default_id, 0);
        let on = (CLASS_PG_CLASS, table.id.0, i32::from(column.number));
        out.push(depend(object, on, b'a'));
        for sequence in column
            .default
            .iter()
            .flat_map(|d| crate::ddl::relations_in(d))
        {
            out.push(depend(object, (CLASS_PG_CLASS, sequence, 0), b'n'));
        }
    }
    for constraint in &table.constraints {
        let object = (CLASS_PG_CONSTRAINT, constraint.id(), 0);
        for id in definition::constraint_columns(table, constraint) {
            let number = table.column_by_id(id).map_or(0, |c| i32::from(c.number));
            out.push(depend(object, (CLASS_PG_CLASS, table.id.0, number), b'a'));
        }
        if let Constraint::Foreign(key) = constraint
            && let Some(parent) = cx.table(key.references)
        {
            for id in &key.referenced_columns {
                let number = parent.column_by_id(*id).map_or(0, |c| i32::from(c.number));
                out.push(depend(object, (CLASS_PG_CLASS, parent.id.0, number), b'n'));
            }
        }
    }
    for index in &table.indexes {
        let object = (CLASS_PG_CLASS, index.id, 0);
        let by = table
            .constraints
            .iter()
            .find(|c| c.index() == Some(index.id));
        if let Some(constraint) = by {
            out.push(depend(
                object,
                (CLASS_PG_CONSTRAINT, constraint.id(), 0),
                b'i',
            ));
            continue;
        }
        for column in &index.columns {
            if let IndexKey::Column(id) = column.what {
                let number = table.column_by_id(id).map_or(0, |c| i32::from(c.number));
                out.push(depend(object, (CLASS_PG_CLASS, table.id.0, number), b'a'));
            }
        }
    }
}

pub(super) fn pg_tables(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for table in cx.tables(None).into_iter().filter(|t| relkind(t) == b'r') {
        out.push(row![
            cx.catalog.schema_name(table.schema),
            table.name.as_str(),
            cx.catalog.role_name(table.owner),
            NULL,
            !table.indexes.is_empty(),
            false,
            table.foreign_keys().next().is_some() || !table.referenced_by.is_empty(),
            false,
        ]);
    }
}

pub(super) fn pg_views(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for view in cx.tables(None).into_iter().filter(|t| relkind(t) == b'v') {
        out.push(row![
            cx.catalog.schema_name(view.schema),
            view.name.as_str(),
            cx.catalog.role_name(view.owner),
            definition::view(cx.catalog, cx.role, view),
        ]);
    }
}

pub(super) fn pg_matviews(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for view in cx.tables(None).into_iter().filter(|t| relkind(t) == b'm') {
        out.push(row![
            cx.catalog.schema_name(view.schema),
            view.name.as_str(),
            cx.catalog.role_name(view.owner),
            NULL,
            !view.indexes.is_empty(),
            !view.is_filling(),
            definition::view(cx.catalog, cx.role, view),
        ]);
    }
}

pub(super) fn pg_indexes(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for table in cx.stored(None).into_iter().filter(|t| cx.sees_all(t)) {
        for index in &table.indexes {
            out.push(row![
                cx.catalog.schema_name(table.schema),
                table.name.as_str(),
                index.name.as_str(),
                NULL,
                definition::index(cx.catalog, &[], table, index, None, false),
            ]);
        }
    }
}

pub(super) fn pg_sequences(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for table in cx.stored(None) {
        let TableKind::Sequence(o) = &table.kind else {
            continue;
        };
        out.push(row![
            cx.catalog.schema_name(table.schema),
            table.name.as_str(),
            cx.catalog.role_name(table.owner),
            Oid(o.ty.oid),
            o.start,
            o.min,
            o.max,
            o.increment,
            o.cycle,
            o.cache,
            last_value(cx, table.id.0),
        ]);
    }
}

/// Where a sequence stands, which is in its owner's group: the session reads it. NULL for who may
/// not know.
fn last_value(cx: &SystemCx<'_>, sequence: u32) -> Datum {
    let Some(function) = functions_named("pg_sequence_last_value").next() else {
        return Datum::Null;
    };
    let call = Resolved::direct(function, vec![Type::REGCLASS], Type::INT8);
    let format = FormatSettings::default();
    let mut evaluation = Evaluation::new(&format, 0, cx.environment);
    let answer = call.call(&mut evaluation, &[Datum::Oid(sequence)]);
    answer.unwrap_or_default()
}

/// The comment of an object, as `obj_description` and `col_description` give it.
pub(super) fn comment(cx: &SystemCx<'_>, class: u32, object: u32, sub: i32) -> Option<String> {
    let wanted = row![Oid(object), Oid(class), sub];
    let matches = |row: &SystemRow| {
        row[..3].iter().zip(&wanted).all(|(a, b)| match (a, b) {
            (Datum::Oid(a), Datum::Oid(b)) => a == b,
            (Datum::Int4(a), Datum::Int4(b)) => a == b,
            _ => false,
        })
    };
    if object < crate::catalog::directory::FIRST_OID {
        let found = super::shape::static_rows("pg_description")
            .iter()
            .find(|r| matches(r));
        if let Some(row) = found {
            return row[3].as_str().map(str::to_owned);
        }
    }
    match class {
        CLASS_PG_PROC => super::routines::routine(cx, object)?.comment.clone(),
        CLASS_PG_TRIGGER => {
            let trigger = cx.catalog.trigger(object)?;
            let seen = cx.catalog.sees_trigger(cx.role, trigger);
            seen.then(|| trigger.comment.clone())?
        }
        CLASS_PG_NAMESPACE => {
            let schema = cx.catalog.schema(SchemaId(object))?;
            cx.catalog
                .sees_schema(cx.role, schema)
                .then(|| schema.comment.clone())?
        }
        CLASS_PG_CLASS => {
            let relation = cx.catalog.relation(object)?;
            let table = relation.table();
            if !cx.sees(table) {
                return None;
            }
            match relation {
                crate::catalog::Relation::Index(ref table, at) => table.indexes[at].comment.clone(),
                crate::catalog::Relation::Table(ref table) if sub == 0 => table.comment.clone(),
                crate::catalog::Relation::Table(ref table) => cx
                    .columns(table)
                    .into_iter()
                    .find(|c| i32::from(c.number) == sub)
                    .and_then(|c| c.comment.clone()),
            }
        }
        CLASS_PG_CONSTRAINT => {
            let table = cx.catalog.constraint_table(object)?;
            if !cx.sees_all(table) {
                return None;
            }
            let constraint = table.constraints.iter().find(|c| c.id() == object)?;
            constraint.comment().map(str::to_owned)
        }
        _ => None,
    }
}
