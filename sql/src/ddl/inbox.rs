//! CREATE TABLE ... WITH (inbox = true): a table into which granted roles INSERT commands. It gets the
//! columns that the database fills: who has sent a command, and its number among those of its sender,
//! in their order. Keys are unique for each sender.

use super::constraint::{Wanted, WantedKey};
use super::create_table::new_column;
use super::draft::{Done, Draft};
use crate::catalog::{SchemaId, Table};
use crate::outbox::{NUMBER, SENDER};
use crate::types::Type;
use crate::{Error, Result, state};

impl Draft<'_> {
    /// Can the table be an inbox?
    pub(super) fn check_inbox(&self, table: &Table, unnumbered: bool) -> Result<()> {
        if table.schema != SchemaId::PUBLIC {
            return Err(Error::new(
                state::INVALID_TABLE_DEFINITION,
                format!("inbox \"{}\" must be in schema public", table.name),
            )
            .hint("Others can't send commands to a private table."));
        }
        if !unnumbered {
            return Err(Error::unsupported("a serial or identity column in an inbox").hint(format!(
                "Commands have a column \"{NUMBER}\" already: their number among those of their \
                 sender."
            )));
        }
        Ok(())
    }

    /// The columns that the database fills.
    pub(super) fn inbox_columns(&self, table: &mut Table) -> Done<()> {
        for (name, ty) in [(SENDER, Type::NAME), (NUMBER, Type::INT8)] {
            let mut column = new_column(table, name.to_owned(), ty)?;
            column.not_null = true;
            table.columns.push(column);
        }
        Ok(())
    }
}

impl Wanted {
    /// The keys of an inbox: its own are unique for each sender; without one it has the number.
    pub(super) fn of_inbox(wanted: &mut Vec<Wanted>) {
        let mut primary = false;
        for key in wanted.iter_mut().filter_map(Wanted::as_key) {
            primary |= key.primary;
            if !key.columns.iter().any(|column| column == SENDER) {
                key.columns.insert(0, SENDER.to_owned());
            }
        }
        if !primary {
            wanted.push(Wanted::Key(WantedKey::primary(&[SENDER, NUMBER])));
        }
    }
}
