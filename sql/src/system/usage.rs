//! Statistics views: one row per relation that the role sees. Nothing is counted per table, so
//! the counters are zero.

use super::cell::{NULL, Oid, row};
use super::{SystemCx, SystemRow};
use crate::catalog::{DATABASE, DATABASE_OID, Table, TableKind};
use crate::types::Datum;

fn named(cx: &SystemCx<'_>, table: &Table) -> SystemRow {
    row![
        Oid(table.id.0),
        cx.catalog.schema_name(table.schema),
        table.name.as_str()
    ]
}

fn zeros(row: &mut SystemRow, count: usize) {
    row.extend(std::iter::repeat_n(Datum::Int8(0), count));
}

fn tables<'a>(cx: &SystemCx<'a>) -> Vec<&'a std::sync::Arc<Table>> {
    let mut tables = cx.stored(Some(0));
    tables.retain(|t| t.kind == TableKind::Table);
    tables
}

pub(super) fn pg_stat_tables(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for table in tables(cx) {
        let mut row = named(cx, table);
        zeros(&mut row, 12);
        row.extend(row![NULL, NULL, NULL, NULL]);
        zeros(&mut row, 4);
        out.push(row);
    }
}

pub(super) fn pg_stat_xact_tables(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for table in tables(cx) {
        let mut row = named(cx, table);
        zeros(&mut row, 8);
        out.push(row);
    }
}

pub(super) fn pg_stat_indexes(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    index_rows(cx, out, 3);
}

pub(super) fn pg_statio_indexes(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    index_rows(cx, out, 2);
}

fn index_rows(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>, counters: usize) {
    for table in tables(cx).into_iter().filter(|t| cx.sees_all(t)) {
        for index in &table.indexes {
            let mut row = row![
                Oid(table.id.0),
                Oid(index.id),
                cx.catalog.schema_name(table.schema),
                table.name.as_str(),
                index.name.as_str(),
            ];
            zeros(&mut row, counters);
            out.push(row);
        }
    }
}

pub(super) fn pg_statio_tables(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for table in tables(cx) {
        let mut row = named(cx, table);
        zeros(&mut row, 8);
        out.push(row);
    }
}

pub(super) fn pg_statio_sequences(cx: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    for table in cx.stored(Some(0)) {
        if matches!(table.kind, TableKind::Sequence(_)) {
            let mut row = named(cx, table);
            zeros(&mut row, 2);
            out.push(row);
        }
    }
}

pub(super) fn pg_stat_database(_: &SystemCx<'_>, out: &mut Vec<SystemRow>) {
    let mut row = row![Oid(DATABASE_OID), DATABASE, 0i32];
    zeros(&mut row, 13);
    row.extend(row![0i64, NULL]);
    row.extend(std::iter::repeat_n(Datum::Float8(0.0), 5));
    zeros(&mut row, 4);
    row.push(Datum::Null);
    out.push(row);
}
