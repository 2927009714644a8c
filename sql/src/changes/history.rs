//! `freehold.history(table, key)`: what is kept of one row, version by version, as far as the reader
//! may see it.

use std::sync::Arc;

use bytes::Bytes;
use storage::{Position, RowVersion, Versions};

use super::json;
use crate::catalog::{Column, ColumnId, Privilege, Table, TableKind};
use crate::exec::{ExecCx, primary_key};
use crate::plan::{Argument, RowSource, SystemFunction};
use crate::system::SystemColumn;
use crate::transaction::Stop;
use crate::types::key::encode_key;
use crate::types::text::split_identifiers;
use crate::types::{Datum, FormatSettings, Json, Type};
use crate::{Error, state};

type Result<T, E = Error> = std::result::Result<T, E>;

/// Microseconds from 1970 to 2000.
const EPOCH_2000: i64 = 946_684_800_000_000;

/// The function.
pub struct History([Argument; 2]);

impl Default for History {
    fn default() -> History {
        let argument = |name, ty| Argument {
            name,
            ty,
            default: None,
        };
        History([argument("table", Type::TEXT), argument("key", Type::JSONB)])
    }
}

impl SystemFunction for History {
    fn name(&self) -> (&str, &str) {
        ("freehold", "history")
    }

    fn arguments(&self) -> &[Argument] {
        &self.0
    }

    fn columns(&self) -> &[SystemColumn] {
        const fn column(name: &'static str, ty: Type) -> SystemColumn {
            SystemColumn {
                name,
                ty,
                not_null: false,
            }
        }
        const COLUMNS: &[SystemColumn] = &[
            column("position", Type::PG_LSN),
            column("committed_at", Type::TIMESTAMPTZ),
            column("op", Type::TEXT),
            column("row", Type::JSONB),
        ];
        COLUMNS
    }

    fn open(&self, arguments: &[Datum], cx: &mut ExecCx<'_>) -> Result<Box<dyn RowSource>, Stop> {
        let [Datum::Text(name), Datum::Jsonb(key)] = arguments else {
            return Ok(Box::new(Nothing));
        };
        let table = table(name, cx)?;
        let columns = readable(&table, cx)?;
        let key = key_of(&table, key)?;
        cx.transaction.also(&[table.group], None)?;
        let (from, versions) = cx.transaction.versions(&table, &key)?;
        let all = columns.len() == table.live_columns().count();
        Ok(Box::new(Told {
            columns,
            all,
            from,
            versions,
            before: None,
            is_first: true,
        }))
    }
}

/// The table that is meant, if there is one for the reader.
fn table(name: &str, cx: &ExecCx<'_>) -> Result<Arc<Table>> {
    let parts = split_identifiers(name).ok_or_else(|| {
        let message = format!("invalid name syntax: \"{name}\"");
        Error::new(state::INVALID_NAME, message)
    })?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let table = cx.catalog.resolve_table(&parts, cx.path, cx.role)?;
    if table.kind != TableKind::Table {
        let message = format!("\"{}\" is not a table", table.name);
        return Err(Error::new(state::WRONG_OBJECT_TYPE, message));
    }
    Ok(table)
}

/// The columns that the reader may read; the key must be among them, for he names it.
fn readable(table: &Table, cx: &ExecCx<'_>) -> Result<Vec<Column>> {
    let may = |ids: &[ColumnId]| {
        let catalog = cx.catalog;
        catalog.may(cx.role, table, Privilege::Select, Some(ids))
    };
    may(table.key_columns())?;
    let columns = table
        .live_columns()
        .filter(|column| may(&[column.id]).is_ok());
    Ok(columns.cloned().collect())
}

/// The key of a row, from an object with the columns of the primary key as the feed has it, or, if
/// that is one column, its value.
fn key_of(table: &Table, key: &Json) -> Result<Bytes> {
    let parts = primary_key(table, table.key_columns());
    if parts.is_empty() {
        let message = format!("table \"{}\" has no primary key", table.name);
        return Err(Error::new(state::WRONG_OBJECT_TYPE, message)
            .hint("FOR SYSTEM_TIME AS OF reads all of its rows as they were."));
    }
    let invalid = |what: String| {
        let names = parts.iter().map(|part| table.columns[part.0].name.as_str());
        let names = names.collect::<Vec<_>>().join(", ");
        Error::new(state::INVALID_PARAMETER_VALUE, what).detail(format!(
            "The primary key of \"{}\" is ({names}).",
            table.name
        ))
    };
    let mut encoded = Vec::new();
    for (slot, ty, descending, nulls_first) in &parts {
        let name = &table.columns[*slot].name;
        let value = match key {
            Json::Object(pairs) => {
                let found = pairs.iter().find(|(of, _)| **of == **name);
                found.map(|(_, value)| value)
            }
            value if parts.len() == 1 => Some(value),
            _ => None,
        };
        let text = match value {
            None => return Err(invalid(format!("the key lacks column \"{name}\""))),
            Some(Json::Null) => return Err(invalid(format!("column \"{name}\" of a key is null"))),
            Some(Json::String(text)) => text.to_string(),
            Some(other) => other.to_string(),
        };
        let value = Datum::from_text(&text, *ty, &FormatSettings::default())?;
        encode_key(&value, *ty, *descending, *nulls_first, &mut encoded);
    }
    match key {
        Json::Object(pairs) if pairs.len() > parts.len() => {
            Err(invalid("the key has columns of no key".to_owned()))
        }
        _ => Ok(encoded.into()),
    }
}

/// Of an argument that is NULL nothing is kept.
struct Nothing;

impl RowSource for Nothing {
    fn next(&mut self, _: &mut ExecCx<'_>) -> Result<Option<Vec<Datum>>, Stop> {
        Ok(None)
    }
}

/// The versions, told one by one.
struct Told {
    columns: Vec<Column>,
    /// Those are all that the table has.
    all: bool,
    /// A version that is not behind it may have followed others.
    from: Position,
    versions: Versions,
    /// The row before, as it was told.
    before: Option<Datum>,
    is_first: bool,
}

impl Told {
    fn tell(&mut self, version: RowVersion) -> Result<Option<Vec<Datum>>> {
        let row = match &version.value {
            Some(bytes) => Some(json::object(self.columns.iter(), bytes)?),
            None => None,
        };
        let first = std::mem::replace(&mut self.is_first, false);
        // Nothing tells that columns have changed which the reader may not read.
        if !self.all && !first && row == self.before {
            return Ok(None);
        }
        let op = match (&self.before, &row) {
            (None, Some(_)) if first && version.position <= self.from => None,
            (None, _) => Some("insert"),
            (Some(_), Some(_)) => Some("update"),
            (Some(_), None) => Some("delete"),
        };
        self.before.clone_from(&row);
        let committed = version.position.unix_micros() as i64 - EPOCH_2000;
        Ok(Some(vec![
            Datum::Lsn(version.position.0),
            Datum::Timestamptz(committed),
            op.map_or(Datum::Null, |op| Datum::Text(Arc::from(op))),
            row.unwrap_or(Datum::Null),
        ]))
    }
}

impl RowSource for Told {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> Result<Option<Vec<Datum>>, Stop> {
        while let Some(version) = self.versions.next().transpose().map_err(Error::from)? {
            cx.tick()?;
            if let Some(row) = self.tell(version)? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }
}
