//! Rows' bytes to values: only the columns that are asked for, with the values of columns that
//! were added after the row was written.

use crate::catalog::{ColumnId, Table};
use crate::error::Result;
use crate::types::codec::decode_value;
use crate::types::{Datum, Type};

/// Decodes chosen columns of a table's rows.
#[derive(Clone, Debug)]
pub struct RowReader {
    /// Ascending ids: (id, type, slot of the output).
    columns: Vec<(ColumnId, Type, usize)>,
    /// What a row without the column has, per output slot.
    missing: Vec<Datum>,
}

impl RowReader {
    /// A reader of these columns (places in `Table::columns`), in this order.
    ///
    /// # Errors
    /// XX001 when a stored missing value is damaged.
    pub fn new(table: &Table, columns: &[usize]) -> Result<RowReader> {
        let mut missing = Vec::with_capacity(columns.len());
        let mut wanted = Vec::with_capacity(columns.len());
        for (slot, index) in columns.iter().enumerate() {
            let column = &table.columns[*index];
            wanted.push((column.id, column.ty.plain(), slot));
            missing.push(match &column.missing {
                Some(bytes) => decode_value(column.ty.plain(), bytes)?,
                None => Datum::Null,
            });
        }
        wanted.sort_unstable_by_key(|(id, _, _)| *id);
        Ok(RowReader {
            columns: wanted,
            missing,
        })
    }

    /// The values of one row.
    ///
    /// # Errors
    /// XX001 when the bytes are damaged.
    pub fn read(&self, bytes: &[u8]) -> Result<Vec<Datum>> {
        let mut row = self.missing.clone();
        if self.columns.is_empty() {
            return Ok(row);
        }
        let mut wanted = self.columns.iter().peekable();
        for (id, value) in storage::Row::new(bytes).iter() {
            while wanted.next_if(|(want, _, _)| want.0 < id.0).is_some() {}
            match wanted.peek() {
                None => break,
                Some((want, ty, slot)) if want.0 == id.0 => {
                    row[*slot] = decode_value(*ty, value)?;
                    wanted.next();
                }
                Some(_) => {}
            }
        }
        Ok(row)
    }
}
