//! Values and their types: what a column, a parameter or an expression can hold, with
//! PostgreSQL's text and binary forms, casts, operators and order.

use std::sync::Arc;

/// A type as PostgreSQL names it: its OID and its modifier (`-1` = none; `varchar(10)` and
/// `numeric(12,2)` carry theirs in PostgreSQL's encoding).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Type {
    /// `pg_type.oid`.
    pub oid: u32,
    /// `atttypmod`.
    pub modifier: i32,
}

/// One value. The static [`Type`] says how to read the representation: `text`, `varchar`,
/// `bpchar`, `name`, `json` and `unknown` are all `Text`; `oid`, `regclass`, `xid` are all `Oid`.
/// Cloning is cheap (at most one reference count).
#[derive(Clone, Debug)]
pub enum Datum {
    /// SQL NULL of any type.
    Null,
    /// `boolean`.
    Bool(bool),
    /// `smallint`.
    Int2(i16),
    /// `integer`.
    Int4(i32),
    /// `bigint`.
    Int8(i64),
    /// `real`.
    Float4(f32),
    /// `double precision`.
    Float8(f64),
    /// `numeric` of any precision, with NaN and the infinities.
    Numeric(Arc<Numeric>),
    /// Every string type.
    Text(Arc<str>),
    /// `bytea`.
    Bytea(Arc<[u8]>),
    /// Days since 2000-01-01 (`i32::MIN`, `i32::MAX` = the infinities).
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since 2000-01-01 00:00, no time zone.
    Timestamp(i64),
    /// Microseconds since 2000-01-01 00:00 UTC.
    Timestamptz(i64),
    /// Months, days, microseconds.
    Interval(Interval),
    /// `uuid`.
    Uuid([u8; 16]),
    /// `jsonb`, keys sorted and unique.
    Jsonb(Arc<Json>),
    /// A one-dimensional array.
    Array(Arc<Array>),
    /// `pg_lsn`: a position of the log.
    Lsn(u64),
    /// `oid` and all `reg*` types, `xid`, `cid`.
    Oid(u32),
    /// `"char"`.
    Char(u8),
    /// `xid8`.
    Xid8(u64),
    /// A composite value (`record`), e.g. a whole-row reference.
    Record(Arc<[Datum]>),
}
