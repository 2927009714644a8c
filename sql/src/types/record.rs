//! Composite values: the fields of a row with their names and types, so that a record can be
//! printed, compared and turned into JSON without its table.

use std::sync::Arc;

use crate::types::{Datum, Type};

/// Names and types of the fields of a composite value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Field names; `f1`, `f2`, ... for `ROW(...)`.
    pub names: Vec<Arc<str>>,
    /// Field types.
    pub types: Vec<Type>,
}

impl Shape {
    /// The shape of an anonymous `ROW(...)`.
    pub fn anonymous(types: Vec<Type>) -> Shape {
        let names = (1..=types.len())
            .map(|n| Arc::from(format!("f{n}")))
            .collect();
        Shape { names, types }
    }
}

/// A composite value.
#[derive(Clone, Debug)]
pub struct Record {
    /// What the fields are.
    pub shape: Arc<Shape>,
    /// One value per field.
    pub values: Vec<Datum>,
}

impl Record {
    /// A record of a known shape; there must be one value per field.
    pub fn new(shape: Arc<Shape>, values: Vec<Datum>) -> Record {
        debug_assert_eq!(shape.types.len(), values.len());
        Record { shape, values }
    }

    /// An anonymous record (`ROW(...)`).
    pub fn anonymous(types: Vec<Type>, values: Vec<Datum>) -> Record {
        Record::new(Arc::new(Shape::anonymous(types)), values)
    }
}
