//! What names mean inside a query: relations of FROM with their aliases, merged columns of
//! USING, and the enclosing queries for correlated references.

use std::sync::Arc;

use sqlparser::ast::Ident;

use crate::catalog::Table;
use crate::error::{Error, Result, state};
use crate::expr::{ColumnRef, Expr};
use crate::plan::{Rel, RelColumn};
use crate::types::Type;

/// A relation of FROM as its columns can be named.
#[derive(Clone, Debug)]
pub struct Range {
    /// Alias, or the relation's name.
    pub alias: String,
    /// The schema, when the relation is not aliased.
    pub schema: Option<String>,
    /// Its columns.
    pub columns: Vec<RangeColumn>,
    /// The stored table behind it.
    pub table: Option<Arc<Table>>,
    /// Where uses of its columns are recorded for the privilege check.
    pub access: Option<usize>,
    /// A function in FROM whose alias also names its single column's value.
    pub scalar: bool,
    /// `OLD`-like hidden ranges (`excluded`): only qualified references.
    pub qualified_only: bool,
}

/// One column of a range.
#[derive(Clone, Debug)]
pub struct RangeColumn {
    /// Name.
    pub name: String,
    /// What it stands for.
    pub expr: Expr,
    /// Catalog column: index into `Table::columns`.
    pub origin: Option<usize>,
    /// System columns (`tableoid`, `ctid`): not in `*`.
    pub hidden: bool,
}

/// A column that an unqualified name or `*` reaches.
#[derive(Clone, Debug)]
pub struct Visible {
    /// Name.
    pub name: String,
    /// What it stands for (COALESCE for FULL JOIN USING).
    pub expr: Expr,
    /// The range and the column within, when it is one column.
    pub source: Option<(usize, usize)>,
}

/// The names of one query level, or of a part of FROM while it is being bound.
pub struct Scope<'p> {
    /// The enclosing level.
    pub parent: Option<&'p Scope<'p>>,
    /// Relations.
    pub ranges: Vec<Range>,
    /// Unqualified names.
    pub visible: Vec<Visible>,
    /// Ranges that may not be referenced from here (the left of a RIGHT or FULL JOIN LATERAL,
    /// or a FROM item without LATERAL): for the error only.
    pub forbidden: Vec<String>,
}

/// A bound FROM item.
pub struct FromItem {
    /// The relation.
    pub rel: Rel,
    /// Its ranges.
    pub ranges: Vec<Range>,
    /// Its unqualified names.
    pub visible: Vec<Visible>,
}

/// What a name was found to be.
pub enum Found<'s> {
    /// A column's expression; access to record: (access, column index in the table).
    Column(Expr, Option<(usize, Option<usize>)>),
    /// A relation: whole-row reference.
    Row(&'s Range),
}

/// Lower-cases an unquoted identifier and cuts it to 63 bytes, as PostgreSQL's lexer does.
pub fn fold(ident: &Ident) -> String {
    let mut name = if ident.quote_style.is_some() {
        ident.value.clone()
    } else {
        lower(&ident.value)
    };
    if name.len() > NAME_BYTES_MAX && !name.starts_with('\u{1}') {
        let mut end = NAME_BYTES_MAX;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
    }
    name
}

/// NAMEDATALEN - 1.
const NAME_BYTES_MAX: usize = 63;

fn lower(text: &str) -> String {
    // PostgreSQL folds ASCII only in multi-byte encodings.
    text.to_ascii_lowercase()
}

impl FromItem {
    /// A relation with one range whose columns are all visible.
    pub fn single(rel: Rel, range: Range) -> FromItem {
        let visible = range
            .columns
            .iter()
            .enumerate()
            .filter(|(_, column)| !column.hidden)
            .map(|(index, column)| Visible {
                name: column.name.clone(),
                expr: column.expr.clone(),
                source: Some((0, index)),
            })
            .collect();
        FromItem {
            rel,
            ranges: vec![range],
            visible,
        }
    }

    /// No relation at all.
    pub fn empty() -> FromItem {
        FromItem {
            rel: Rel::one_row(),
            ranges: Vec::new(),
            visible: Vec::new(),
        }
    }

    /// Puts the names of two items side by side; `rel` is left to the caller.
    pub fn beside(mut self, other: FromItem, rel: impl FnOnce(Rel, Rel) -> Rel) -> FromItem {
        let shift = self.ranges.len();
        self.ranges.extend(other.ranges);
        self.visible
            .extend(other.visible.into_iter().map(|mut visible| {
                visible.source = visible
                    .source
                    .map(|(range, column)| (range + shift, column));
                visible
            }));
        FromItem {
            rel: rel(self.rel, other.rel),
            ..self
        }
    }
}

impl<'p> Scope<'p> {
    /// A level without relations.
    pub fn empty(parent: Option<&'p Scope<'p>>) -> Scope<'p> {
        Scope {
            parent,
            ranges: Vec::new(),
            visible: Vec::new(),
            forbidden: Vec::new(),
        }
    }

    /// The names of a FROM item below `parent`.
    pub fn of(item: &FromItem, parent: Option<&'p Scope<'p>>) -> Scope<'p> {
        Scope {
            parent,
            ranges: item.ranges.clone(),
            visible: item.visible.clone(),
            forbidden: Vec::new(),
        }
    }

    /// Finds an unqualified name, here or in an enclosing level.
    pub fn find(&self, name: &str) -> Result<Option<Found<'_>>> {
        let mut matches = self.visible.iter().filter(|visible| visible.name == name);
        if let Some(first) = matches.next() {
            if matches.next().is_some() {
                return Err(ambiguous(name));
            }
            return Ok(Some(Found::Column(
                first.expr.clone(),
                self.access_of(first.source),
            )));
        }
        if let Some(found) = self.hidden(name) {
            return Ok(Some(found));
        }
        if let Some(parent) = self.parent
            && let Some(found) = parent.find(name)?
        {
            return Ok(Some(found));
        }
        Ok(self
            .ranges
            .iter()
            .find(|range| range.alias == name)
            .map(Found::Row))
    }

    /// As [`Scope::find`], in this level only and columns only (GROUP BY's first try).
    pub fn find_here(&self, name: &str) -> Result<Option<Found<'_>>> {
        let mut matches = self.visible.iter().filter(|visible| visible.name == name);
        let Some(first) = matches.next() else {
            return Ok(None);
        };
        if matches.next().is_some() {
            return Err(ambiguous(name));
        }
        Ok(Some(Found::Column(
            first.expr.clone(),
            self.access_of(first.source),
        )))
    }

    /// System columns are reached by their bare name when one relation has them.
    fn hidden(&self, name: &str) -> Option<Found<'_>> {
        let mut found = None;
        for range in self.ranges.iter().filter(|range| !range.qualified_only) {
            for column in range.columns.iter().filter(|c| c.hidden && c.name == name) {
                if found.is_some() {
                    return None;
                }
                found = Some(Found::Column(column.expr.clone(), None));
            }
        }
        found
    }

    fn access_of(&self, source: Option<(usize, usize)>) -> Option<(usize, Option<usize>)> {
        let (range, column) = source?;
        let range = &self.ranges[range];
        Some((range.access?, range.columns[column].origin))
    }

    /// Finds a range by alias (and schema), here or in an enclosing level.
    pub fn range(&self, schema: Option<&str>, alias: &str) -> Result<Option<&Range>> {
        let mut matches = self.ranges.iter().filter(|range| {
            range.alias == alias
                && schema.is_none_or(|schema| range.schema.as_deref() == Some(schema))
        });
        if let Some(first) = matches.next() {
            if matches.next().is_some() {
                return Err(Error::new(
                    state::AMBIGUOUS_COLUMN,
                    format!("table reference \"{alias}\" is ambiguous"),
                ));
            }
            return Ok(Some(first));
        }
        match self.parent {
            Some(parent) => parent.range(schema, alias),
            None => Ok(None),
        }
    }

    /// Whether the alias exists where it cannot be referenced.
    pub fn is_forbidden(&self, alias: &str) -> bool {
        self.forbidden.iter().any(|name| name == alias)
            || self.parent.is_some_and(|parent| parent.is_forbidden(alias))
    }

    /// The alias that hides the name of a table, here or in an enclosing level.
    pub fn alias_of(&self, table: &str) -> Option<&str> {
        let hides = |range: &&Range| {
            range.alias != table && range.table.as_ref().is_some_and(|own| own.name == table)
        };
        match self.ranges.iter().find(hides) {
            Some(range) => Some(&range.alias),
            None => self.parent.and_then(|parent| parent.alias_of(table)),
        }
    }

    /// All column ids of this level.
    pub fn own_columns(&self) -> Vec<ColumnRef> {
        let mut out = Vec::new();
        for range in &self.ranges {
            for column in &range.columns {
                if let Expr::Column { column, .. } = &column.expr {
                    out.push(*column);
                }
            }
        }
        for visible in &self.visible {
            visible.expr.free_columns(&mut out);
        }
        out
    }

    /// The qualified name of an own column, for error messages.
    pub fn name_of(&self, id: ColumnRef) -> Option<String> {
        self.ranges.iter().find_map(|range| {
            range.columns.iter().find_map(|column| match &column.expr {
                Expr::Column { column: own, .. } if *own == id => {
                    Some(format!("{}.{}", range.alias, column.name))
                }
                _ => None,
            })
        })
    }
}

impl Range {
    /// A column by name, `None` when there is none.
    ///
    /// # Errors
    /// 42702 when two have that name.
    pub fn column(&self, name: &str) -> Result<Option<&RangeColumn>> {
        let mut matches = self.columns.iter().filter(|column| column.name == name);
        let first = matches.next();
        if first.is_some() && matches.next().is_some() {
            return Err(ambiguous(name));
        }
        Ok(first)
    }

    /// A range over columns of a relation.
    pub fn over(alias: &str, columns: &[RelColumn]) -> Range {
        Range {
            alias: alias.to_owned(),
            schema: None,
            columns: columns
                .iter()
                .map(|column| RangeColumn {
                    name: column.name.clone(),
                    expr: Expr::Column {
                        column: column.id,
                        ty: column.ty,
                    },
                    origin: None,
                    hidden: false,
                })
                .collect(),
            table: None,
            access: None,
            scalar: false,
            qualified_only: false,
        }
    }
}

/// 42702.
pub fn ambiguous(name: &str) -> Error {
    Error::new(
        state::AMBIGUOUS_COLUMN,
        format!("column reference \"{name}\" is ambiguous"),
    )
}

/// The columns that an output list gives, as a relation's columns.
#[derive(Clone, Debug)]
pub struct Output {
    /// The name that the client sees.
    pub name: String,
    /// The value's column.
    pub id: ColumnRef,
    /// Its type.
    pub ty: Type,
    /// Table OID and attnum when it is a plain column of a table.
    pub origin: Option<(u32, i16)>,
}
