//! Values of system relations from Rust values, so that a row reads like its definition.

use std::sync::Arc;

use crate::types::kind::oid;
use crate::types::{Array, Datum, Type};

/// What becomes one column of a row.
pub(super) trait Cell {
    /// The value.
    fn datum(self) -> Datum;
}

/// An `oid`, `regproc`, `regtype` or `xid`.
#[derive(Clone, Copy)]
pub(super) struct Oid(pub u32);

impl Cell for Oid {
    fn datum(self) -> Datum {
        Datum::Oid(self.0)
    }
}

impl Cell for Datum {
    fn datum(self) -> Datum {
        self
    }
}

impl Cell for &str {
    fn datum(self) -> Datum {
        Datum::text(self)
    }
}

impl Cell for String {
    fn datum(self) -> Datum {
        Datum::Text(Arc::from(self))
    }
}

impl Cell for bool {
    fn datum(self) -> Datum {
        Datum::Bool(self)
    }
}

impl Cell for u8 {
    fn datum(self) -> Datum {
        Datum::Char(self)
    }
}

impl Cell for i16 {
    fn datum(self) -> Datum {
        Datum::Int2(self)
    }
}

impl Cell for i32 {
    fn datum(self) -> Datum {
        Datum::Int4(self)
    }
}

impl Cell for i64 {
    fn datum(self) -> Datum {
        Datum::Int8(self)
    }
}

impl Cell for f32 {
    fn datum(self) -> Datum {
        Datum::Float4(self)
    }
}

impl<T: Cell> Cell for Option<T> {
    fn datum(self) -> Datum {
        self.map_or(Datum::Null, Cell::datum)
    }
}

/// A row of cells.
macro_rules! row {
    ($($cell:expr),* $(,)?) => {
        vec![$($crate::system::cell::Cell::datum($cell)),*]
    };
}
pub(super) use row;

/// NULL.
pub(super) const NULL: Option<bool> = None;

/// `smallint[]`.
pub(super) fn int2s(values: impl IntoIterator<Item = i16>) -> Datum {
    let values = values.into_iter().map(Datum::Int2).collect();
    Datum::array(Array::of(Type::INT2, values))
}

/// `int2vector`: counts from 0.
pub(super) fn int2vector(values: impl IntoIterator<Item = i16>) -> Datum {
    let values = values.into_iter().map(Datum::Int2).collect();
    Datum::array(Array::starting_at(Type::INT2, 0, values))
}

/// `oidvector`: counts from 0.
pub(super) fn oidvector(values: impl IntoIterator<Item = u32>) -> Datum {
    let values = values.into_iter().map(Datum::Oid).collect();
    Datum::array(Array::starting_at(Type::OID, 0, values))
}

/// `oid[]`.
pub(super) fn oids(values: impl IntoIterator<Item = u32>) -> Datum {
    let values = values.into_iter().map(Datum::Oid).collect();
    Datum::array(Array::of(Type::OID, values))
}

/// `text[]`.
pub(super) fn texts(values: impl IntoIterator<Item = String>) -> Datum {
    let values = values.into_iter().map(Cell::datum).collect();
    Datum::array(Array::of(Type::TEXT, values))
}

/// `"char"[]`.
pub(super) fn chars(values: impl IntoIterator<Item = u8>) -> Datum {
    let values = values.into_iter().map(Datum::Char).collect();
    Datum::array(Array::of(Type::CHAR, values))
}

/// `aclitem[]`.
pub(super) fn acl_items(values: impl IntoIterator<Item = String>) -> Datum {
    let values = values.into_iter().map(Cell::datum).collect();
    Datum::array(Array::of(Type::new(oid::ACLITEM), values))
}
