//! Built-in types, functions, operators, casts and aggregates, from the tables that the engine
//! itself works with.

use super::cell::{NULL, Oid, chars, oids, oidvector, row, texts};
use super::{SystemCx, SystemRow};
use crate::catalog::SchemaId;
use crate::functions::{Function, Volatility, catalog, function, functions_named};
use crate::types::kind::oid;
use crate::types::{Datum, Type, TypeRow};

const SCHEMA: Oid = Oid(SchemaId::PG_CATALOG.0);
const OWNER: Oid = Oid(crate::catalog::RoleId::POSTGRES.0);

pub(super) fn pg_type(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    match cx.wanted(0) {
        Some(wanted) => out.extend(Type::new(wanted).row().map(type_row)),
        None => out.extend(Type::rows().iter().map(type_row)),
    }
}

fn subscript(t: &TypeRow) -> u32 {
    let name = match (t.element != 0, t.length) {
        (true, -1) => "array_subscript_handler",
        (true, _) => "raw_array_subscript_handler",
        (false, _) if t.oid == oid::JSONB => "jsonb_subscript_handler",
        (false, _) => return 0,
    };
    functions_named(name).next().map_or(0, |f| f.oid)
}

fn type_row(t: &TypeRow) -> SystemRow {
    let [input, output, receive, send, modifier_in, modifier_out] = t.functions;
    row![
        Oid(t.oid),
        t.name,
        SCHEMA,
        OWNER,
        t.length,
        t.by_value,
        t.kind,
        t.category,
        t.preferred,
        true,
        t.delimiter,
        Oid(0),
        Oid(subscript(t)),
        Oid(t.element),
        Oid(t.array),
        Oid(input),
        Oid(output),
        Oid(receive),
        Oid(send),
        Oid(modifier_in),
        Oid(modifier_out),
        Oid(0),
        t.alignment,
        t.storage,
        false,
        Oid(0),
        -1i32,
        0i32,
        Oid(t.collation),
        NULL,
        NULL,
        NULL,
    ]
}

pub(super) fn pg_proc(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    match (cx.wanted(0), cx.equal(1)) {
        (Some(wanted), _) => out.extend(function(wanted).map(proc_row)),
        (None, Some(Datum::Text(name))) => out.extend(functions_named(name).map(proc_row)),
        (None, _) => out.extend(catalog::functions().iter().map(proc_row)),
    }
}

/// The schema of a function.
pub(super) fn schema_of(function: &Function) -> SchemaId {
    match function.schema {
        "information_schema" => SchemaId::INFORMATION,
        "freehold" => SchemaId::FREEHOLD,
        _ => SchemaId::PG_CATALOG,
    }
}

fn proc_row(f: &Function) -> SystemRow {
    let language = match f.language {
        "internal" => 12,
        "c" => 13,
        _ => 14,
    };
    row![
        Oid(f.oid),
        f.name,
        Oid(schema_of(f).0),
        OWNER,
        Oid(language),
        f.cost,
        f.rows,
        Oid(f.variadic),
        Oid(0),
        f.prokind,
        false,
        f.leakproof,
        f.strict,
        f.returns_set,
        match f.volatility {
            Volatility::Immutable => b'i',
            Volatility::Stable => b's',
            Volatility::Volatile => b'v',
        },
        f.parallel,
        f.arguments.len() as i16,
        f.defaults as i16,
        Oid(f.result),
        oidvector(f.arguments.iter().copied()),
        (!f.all_arguments.is_empty()).then(|| oids(f.all_arguments.iter().copied())),
        (!f.modes.is_empty()).then(|| chars(f.modes.bytes())),
        (!f.argument_names.is_empty())
            .then(|| texts(f.argument_names.iter().map(|n| (*n).to_owned()))),
        (!f.default_text.is_empty()).then_some(f.default_text),
        NULL,
        f.source,
        NULL,
        NULL,
        NULL,
        NULL,
    ]
}

pub(super) fn pg_operator(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    let wanted = cx.wanted(0);
    for o in catalog::operators()
        .iter()
        .filter(|o| wanted.is_none_or(|w| w == o.oid))
    {
        out.push(row![
            Oid(o.oid),
            o.name,
            SCHEMA,
            OWNER,
            if o.left.is_some() { b'b' } else { b'l' },
            o.can_merge,
            o.can_hash,
            Oid(o.left.unwrap_or(0)),
            Oid(o.right),
            Oid(o.result),
            Oid(o.commutator),
            Oid(o.negator),
            Oid(o.function),
            Oid(o.estimators[0]),
            Oid(o.estimators[1]),
        ]);
    }
}

pub(super) fn pg_cast(_: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for c in catalog::casts() {
        out.push(row![
            Oid(c.oid),
            Oid(c.source),
            Oid(c.target),
            Oid(c.function),
            c.context,
            c.method,
        ]);
    }
}

pub(super) fn pg_aggregate(_: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for a in catalog::aggregates() {
        let [transition, last, state] = a.parts;
        out.push(row![
            Oid(a.function),
            a.kind,
            a.direct as i16,
            Oid(transition),
            Oid(last),
            Oid(0),
            Oid(0),
            Oid(0),
            Oid(0),
            Oid(0),
            Oid(0),
            false,
            false,
            b'r',
            b'r',
            Oid(0),
            Oid(state),
            0i32,
            Oid(0),
            0i32,
            (!a.initial.is_empty()).then_some(a.initial),
            NULL,
        ]);
    }
}
