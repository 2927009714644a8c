//! A row's bytes: pairs of column id and value, NULLs absent, so that ADD COLUMN touches no row.
//! What the value's bytes mean is known only to `sql`.
//!
//! ```text
//! per column, ascending ids:  id varint | length varint | value
//! ```

use crate::{Error, Result};

/// A column within its table: stable over renames, never reused after DROP COLUMN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnId(pub u32);

/// Writes one row. Columns come in ascending order of their ids.
pub struct RowWriter<'a> {
    out: &'a mut Vec<u8>,
    last: Option<ColumnId>,
}

impl<'a> RowWriter<'a> {
    /// Appends a row to `out`.
    pub fn new(out: &'a mut Vec<u8>) -> RowWriter<'a> {
        RowWriter { out, last: None }
    }

    /// Adds a column whose value is what `value` appends to the buffer. A NULL is not put.
    /// Panics if the ids do not ascend.
    pub fn put(&mut self, column: ColumnId, value: impl FnOnce(&mut Vec<u8>)) {
        assert!(
            self.last < Some(column),
            "columns are put in ascending order"
        );
        self.last = Some(column);
        put_varint(self.out, column.0);
        let start = self.out.len();
        // Most values are shorter than 128 bytes: one byte is kept free for the length, and a
        // longer value is moved once.
        self.out.push(0);
        value(self.out);
        let length = u32::try_from(self.out.len() - start - 1).expect("a value is below 4 GiB");
        if length < 0x80 {
            self.out[start] = length as u8;
            return;
        }
        let mut head = Vec::with_capacity(5);
        put_varint(&mut head, length);
        self.out.splice(start..=start, head);
    }
}

/// Reads one row.
#[derive(Clone, Copy)]
pub struct Row<'a>(&'a [u8]);

impl<'a> Row<'a> {
    /// The row in `bytes`. Nothing is checked yet; see [`Row::check`].
    pub fn new(bytes: &'a [u8]) -> Row<'a> {
        Row(bytes)
    }

    /// The value of a column, `None` if it is NULL (or was added after the row was written).
    pub fn get(&self, column: ColumnId) -> Option<&'a [u8]> {
        self.iter()
            .take_while(|(id, _)| *id <= column)
            .find(|(id, _)| *id == column)
            .map(|c| c.1)
    }

    /// The columns that are not NULL, ascending. Ends early where the bytes are no row.
    pub fn iter(&self) -> Columns<'a> {
        Columns(self.0)
    }

    /// Errors: `Corrupt` if the bytes are not a whole row.
    pub fn check(&self) -> Result<()> {
        let mut columns = self.iter();
        let mut last = None;
        for (id, _) in columns.by_ref() {
            if last >= Some(id) {
                return Err(corrupt("column ids do not ascend"));
            }
            last = Some(id);
        }
        if columns.0.is_empty() {
            Ok(())
        } else {
            Err(corrupt("a column is cut off"))
        }
    }
}

fn corrupt(what: &str) -> Error {
    Error::Corrupt {
        place: "row".into(),
        what: what.into(),
    }
}

/// Iterator over the columns of a row.
#[derive(Clone)]
pub struct Columns<'a>(&'a [u8]);

impl<'a> Iterator for Columns<'a> {
    type Item = (ColumnId, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = self.0;
        let id = take_varint(&mut rest)?;
        let length = take_varint(&mut rest)? as usize;
        if rest.len() < length {
            return None;
        }
        let (value, rest) = rest.split_at(length);
        self.0 = rest;
        Some((ColumnId(id), value))
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0u32;
    for (at, byte) in bytes.iter().enumerate().take(5) {
        if at == 4 && *byte > 0x0f {
            return None;
        }
        value |= u32::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn columns_come_back_and_nulls_are_absent() {
        let mut bytes = Vec::new();
        let mut row = RowWriter::new(&mut bytes);
        row.put(ColumnId(1), |buf| buf.extend(b"one"));
        row.put(ColumnId(3), |_| ());
        row.put(ColumnId(200), |buf| buf.extend([7; 300]));
        let row = Row::new(&bytes);
        assert_eq!(row.get(ColumnId(1)), Some(&b"one"[..]));
        assert_eq!(row.get(ColumnId(2)), None, "NULL");
        assert_eq!(row.get(ColumnId(3)), Some(&b""[..]), "empty is not NULL");
        assert_eq!(row.get(ColumnId(200)), Some(&[7; 300][..]));
        assert_eq!(row.get(ColumnId(201)), None, "added later");
        row.check().expect("a row");
    }

    #[test]
    fn golden_bytes() {
        let mut bytes = Vec::new();
        let mut row = RowWriter::new(&mut bytes);
        row.put(ColumnId(1), |buf| buf.extend(b"ab"));
        row.put(ColumnId(300), |buf| buf.push(9));
        assert_eq!(bytes, [1, 2, b'a', b'b', 0xac, 2, 1, 9]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let row = Row::new(&bytes);
            let _ = (row.check().is_ok(), row.iter().count(), row.get(ColumnId(1)));
        }

        #[test]
        fn round_trip(columns in proptest::collection::btree_map(any::<u32>(), proptest::collection::vec(any::<u8>(), 0..200), 0..20)) {
            let mut bytes = Vec::new();
            let mut row = RowWriter::new(&mut bytes);
            for (id, value) in &columns {
                row.put(ColumnId(*id), |buf| buf.extend(value));
            }
            let read: Vec<_> = Row::new(&bytes).iter().map(|(id, v)| (id.0, v.to_vec())).collect();
            prop_assert_eq!(read, columns.into_iter().collect::<Vec<_>>());
            Row::new(&bytes).check().expect("a row");
        }
    }
}
