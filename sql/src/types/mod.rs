//! Values and their types: what a column, a parameter or an expression can hold, with
//! PostgreSQL's text and binary forms, casts, operators and order.

pub mod array;
pub mod binary;
pub mod cast;
pub mod codec;
pub mod datetime;
pub mod interval;
pub mod json;
pub mod key;
pub mod kind;
pub mod numeric;
pub mod order;
pub mod record;
pub mod settings;
pub mod text;
pub mod typmod;

use std::sync::Arc;

pub use array::{Array, Dimension};
pub use cast::{Cast, CastContext, cast, cast_function};
pub use interval::Interval;
pub use json::Json;
pub use kind::{Type, TypeRow};
pub use numeric::Numeric;
pub use order::{compare, equal, hash_datum};
pub use record::{Record, Shape};
pub use settings::{
    ByteaOutput, DateOrder, DateStyle, FormatSettings, IntervalStyle, Names, RegKind, Zone,
};

/// One value. The static [`Type`] says how to read the representation: `text`, `varchar`,
/// `bpchar`, `name`, `json`, `jsonpath`, `aclitem`, `pg_node_tree`, `cstring`, `refcursor` and
/// `unknown` are all `Text`; `oid`, `regclass` and its kin, `xid`, `cid` are all `Oid`.
/// Cloning is cheap (at most one reference count).
#[derive(Clone, Debug, Default)]
pub enum Datum {
    /// SQL NULL of any type.
    #[default]
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
    /// `time with time zone`: microseconds since midnight in its zone, and the zone as seconds
    /// west of Greenwich.
    Timetz(i64, i32),
    /// Microseconds since 2000-01-01 00:00, no time zone (`i64::MIN`, `i64::MAX` = infinities).
    Timestamp(i64),
    /// Microseconds since 2000-01-01 00:00 UTC (`i64::MIN`, `i64::MAX` = infinities).
    Timestamptz(i64),
    /// Months, days, microseconds.
    Interval(Interval),
    /// `uuid`.
    Uuid([u8; 16]),
    /// `jsonb`, keys sorted and unique.
    Jsonb(Arc<Json>),
    /// An array of any number of dimensions; also `int2vector` and `oidvector` (from 0).
    Array(Arc<Array>),
    /// `pg_lsn`: a position of the log.
    Lsn(u64),
    /// `oid` and all `reg*` types, `xid`, `cid`.
    Oid(u32),
    /// `"char"`.
    Char(u8),
    /// `xid8`.
    Xid8(u64),
    /// `tid`: block and offset.
    Tid(u32, u16),
    /// `bit` and `varbit`: one byte `b'0'` or `b'1'` per bit.
    Bit(Arc<str>),
    /// `void`: what a function without a result gives back. Its text form is empty.
    Void,
    /// A composite value (`record`), e.g. a whole-row reference.
    Record(Arc<Record>),
}

impl Datum {
    /// True for SQL NULL.
    #[inline]
    pub fn is_null(&self) -> bool {
        matches!(self, Datum::Null)
    }

    /// A string value.
    pub fn text(value: impl AsRef<str>) -> Datum {
        Datum::Text(Arc::from(value.as_ref()))
    }

    /// A numeric value.
    pub fn numeric(value: Numeric) -> Datum {
        Datum::Numeric(Arc::new(value))
    }

    /// A jsonb value.
    pub fn jsonb(value: Json) -> Datum {
        Datum::Jsonb(Arc::new(value))
    }

    /// An array value.
    pub fn array(value: Array) -> Datum {
        Datum::Array(Arc::new(value))
    }

    /// True when the value is TRUE (so neither FALSE nor NULL).
    #[inline]
    pub fn is_true(&self) -> bool {
        matches!(self, Datum::Bool(true))
    }

    /// The string, when this is a string value.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Datum::Text(value) => Some(value),
            _ => None,
        }
    }

    /// The value as a 64-bit integer, when this is one of the integer or OID types.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Datum::Int2(value) => Some(i64::from(*value)),
            Datum::Int4(value) => Some(i64::from(*value)),
            Datum::Int8(value) => Some(*value),
            Datum::Oid(value) => Some(i64::from(*value)),
            _ => None,
        }
    }

    /// The boolean, when this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Datum::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// Bytes of heap and stack that this value keeps alive, for memory accounting. Shared parts
    /// are counted in full for every holder.
    pub fn bytes(&self) -> usize {
        std::mem::size_of::<Datum>()
            + match self {
                Datum::Numeric(value) => value.bytes(),
                Datum::Text(value) | Datum::Bit(value) => value.len(),
                Datum::Bytea(value) => value.len(),
                Datum::Jsonb(value) => value.bytes(),
                Datum::Array(value) => value.values.iter().map(Datum::bytes).sum::<usize>() + 64,
                Datum::Record(value) => value.values.iter().map(Datum::bytes).sum::<usize>() + 32,
                Datum::Null
                | Datum::Bool(_)
                | Datum::Int2(_)
                | Datum::Int4(_)
                | Datum::Int8(_)
                | Datum::Float4(_)
                | Datum::Float8(_)
                | Datum::Date(_)
                | Datum::Time(_)
                | Datum::Timetz(..)
                | Datum::Timestamp(_)
                | Datum::Timestamptz(_)
                | Datum::Interval(_)
                | Datum::Uuid(_)
                | Datum::Lsn(_)
                | Datum::Oid(_)
                | Datum::Char(_)
                | Datum::Xid8(_)
                | Datum::Tid(..)
                | Datum::Void => 0,
            }
    }
}

impl From<&str> for Datum {
    fn from(value: &str) -> Datum {
        Datum::Text(Arc::from(value))
    }
}

impl From<String> for Datum {
    fn from(value: String) -> Datum {
        Datum::Text(Arc::from(value))
    }
}

impl From<bool> for Datum {
    fn from(value: bool) -> Datum {
        Datum::Bool(value)
    }
}

impl From<i16> for Datum {
    fn from(value: i16) -> Datum {
        Datum::Int2(value)
    }
}

impl From<i32> for Datum {
    fn from(value: i32) -> Datum {
        Datum::Int4(value)
    }
}

impl From<i64> for Datum {
    fn from(value: i64) -> Datum {
        Datum::Int8(value)
    }
}

impl From<f64> for Datum {
    fn from(value: f64) -> Datum {
        Datum::Float8(value)
    }
}

impl From<Numeric> for Datum {
    fn from(value: Numeric) -> Datum {
        Datum::numeric(value)
    }
}

impl<T: Into<Datum>> From<Option<T>> for Datum {
    fn from(value: Option<T>) -> Datum {
        value.map_or(Datum::Null, Into::into)
    }
}

/// Equality of values as the `=` operator of their type sees it, with NULL equal to NULL (what
/// DISTINCT and GROUP BY need); see [`equal`].
impl PartialEq for Datum {
    fn eq(&self, other: &Datum) -> bool {
        equal(self, other)
    }
}

impl Eq for Datum {}

impl std::hash::Hash for Datum {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        hash_datum(self, state);
    }
}
