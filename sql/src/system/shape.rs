//! The shapes of PostgreSQL 15's system relations, and the rows of those that never change
//! (`static/`, written by `scripts/system_rows.sh`).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::{SystemColumn, SystemRow};
use crate::functions::functions_named;
use crate::types::{Datum, FormatSettings, RegKind, Type};

/// One system relation as PostgreSQL has it.
pub(super) struct Shape {
    /// `pg_class.oid`.
    pub oid: u32,
    /// `pg_catalog` or `information_schema`.
    pub schema: &'static str,
    /// Its name.
    pub name: &'static str,
    /// `r` or `v`.
    pub kind: u8,
    /// Its columns in order.
    pub columns: Vec<SystemColumn>,
}

static SHAPES: LazyLock<Vec<Shape>> = LazyLock::new(|| {
    include_str!("static/shapes.tsv")
        .lines()
        .map(shape)
        .collect()
});

static ROWS: LazyLock<BTreeMap<&'static str, Vec<SystemRow>>> = LazyLock::new(rows);

/// All shapes, by schema and name.
pub(super) fn shapes() -> &'static [Shape] {
    &SHAPES
}

/// A shape by OID.
pub(super) fn shape_of(oid: u32) -> Option<&'static Shape> {
    SHAPES.iter().find(|s| s.oid == oid)
}

/// The rows of a `pg_catalog` relation that never change; none for the others.
pub(super) fn static_rows(name: &str) -> &'static [SystemRow] {
    ROWS.get(name).map_or(&[], Vec::as_slice)
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse()
        .unwrap_or_else(|_| panic!("generated rows hold numbers, not {text}"))
}

fn shape(line: &'static str) -> Shape {
    let fields: Vec<&'static str> = line.split('\t').collect();
    let columns = fields[4].split(' ').map(|column| {
        let parts: Vec<&'static str> = column.split(':').collect();
        SystemColumn {
            name: parts[0],
            ty: Type {
                oid: number(parts[1]),
                modifier: number(parts[2]),
            },
            not_null: parts[3] == "t",
        }
    });
    Shape {
        oid: number(fields[0]),
        schema: fields[1],
        name: fields[2],
        kind: fields[3].as_bytes()[0],
        columns: columns.collect(),
    }
}

fn rows() -> BTreeMap<&'static str, Vec<SystemRow>> {
    let mut out: BTreeMap<&'static str, Vec<SystemRow>> = BTreeMap::new();
    let format = FormatSettings::default();
    for line in include_str!("static/rows.tsv").lines() {
        let (name, rest) = line.split_once('\t').unwrap_or((line, ""));
        let shape = SHAPES
            .iter()
            .find(|s| s.schema == "pg_catalog" && s.name == name);
        let shape = shape.unwrap_or_else(|| panic!("generated rows of {name} have no shape"));
        let row = rest
            .split('\t')
            .zip(&shape.columns)
            .map(|(text, column)| value(text, column.ty, &format))
            .collect();
        out.entry(shape.name).or_default().push(row);
    }
    out
}

/// One value of `COPY TO`'s text format.
fn value(text: &str, ty: Type, format: &FormatSettings) -> Datum {
    if text == "\\N" {
        return Datum::Null;
    }
    if ty.reg_kind() == Some(RegKind::Proc) {
        // Names of functions stand for the first of that name; unknown ones are not built in.
        let found = functions_named(text).next().map_or(0, |f| f.oid);
        return Datum::Oid(found);
    }
    let text = text.replace("\\\\", "\\");
    Datum::from_text(&text, ty, format)
        .unwrap_or_else(|e| panic!("generated value {text} of {}: {e}", ty.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_text_is_readable() {
        assert_eq!(shapes().len(), 208);
        let class = shapes()
            .iter()
            .find(|s| s.name == "pg_class")
            .expect("pg_class");
        assert_eq!((class.oid, class.columns.len()), (1259, 33));
        for (name, rows) in ROWS.iter() {
            let shape = shapes().iter().find(|s| s.name == *name).expect("a shape");
            assert!(
                rows.iter().all(|r| r.len() == shape.columns.len()),
                "{name}"
            );
        }
        assert_eq!(static_rows("pg_am").len(), 7);
        assert!(static_rows("pg_class").is_empty());
    }
}
