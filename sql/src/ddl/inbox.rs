//! CREATE TABLE ... WITH (inbox = true): a table into which granted roles INSERT commands. It gets the
//! columns that the database fills: who has sent a command, and its number among those of its sender,
//! in their order. Keys are unique for each sender.

use super::create_table::new_column;
use super::draft::{Done, Draft};
use super::wanted::{Wanted, WantedKey};
use crate::catalog::{Column, IndexKey, SchemaId, Table};
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

/// What an ALTER or an index may not make of an inbox.
///
/// # Errors
/// 0A000.
pub(super) fn check_changed(old: &Table, new: &Table) -> Result<()> {
    if !old.is_inbox() {
        return Ok(());
    }
    let refuse = |what: &str| {
        Err(Error::unsupported(what)
            .detail(format!("\"{}\" is an inbox.", old.name))
            .hint("Create another inbox, and drop this one when nothing comes any more."))
    };
    if new.schema != SchemaId::PUBLIC {
        return refuse("an inbox outside of public");
    }
    for name in [SENDER, NUMBER] {
        let same = old.column(name).map(|column| column.id);
        if new.column(name).map(|column| column.id) != same {
            return refuse("taking away a column that the database fills");
        }
    }
    for column in new.live_columns() {
        // Commands that are under way have the type of the day.
        let before = old.column_by_id(column.id);
        if before.is_some_and(|before| before.ty != column.ty) {
            return refuse("another type of a column of an inbox");
        }
        let numbered = |column: &Column| column.identity.is_some();
        if numbered(column) && !before.is_some_and(numbered) {
            return refuse("a serial or identity column in an inbox");
        }
    }
    let sender = new.column(SENDER).map(|column| IndexKey::Column(column.id));
    for index in new.indexes.iter().filter(|index| index.unique) {
        let of_sender = index
            .columns
            .iter()
            .any(|key| Some(&key.what) == sender.as_ref());
        if !of_sender {
            return refuse("a key of an inbox without its sender");
        }
    }
    Ok(())
}
