//! CREATE TABLE ... WITH (event = true): a table of whose rows none is stored has no keys and no indexes,
//! and its references say which rows an event is about.

use crate::catalog::{Catalog, ForeignKey, ReferentialAction, Table};
use crate::parse::CreateTrigger;
use crate::{Error, Result, state};

/// Can the table be what it says?
///
/// # Errors
/// 0A000, and 54000 for too many references.
pub(super) fn check(catalog: &Catalog, table: &Table) -> Result<()> {
    if !table.is_event() {
        return Ok(());
    }
    if table.is_inbox() {
        return refuse(table, "an inbox as an event table", INBOX);
    }
    if !table.indexes.is_empty() {
        return check_unindexed(table);
    }
    for key in table.foreign_keys() {
        check_reference(catalog, table, key)?;
    }
    if table.foreign_keys().count() > storage::ABOUT_MAX {
        let message = format!("cannot have more than {} references", storage::ABOUT_MAX);
        return Err(Error::new(state::PROGRAM_LIMIT_EXCEEDED, message));
    }
    Ok(())
}

const INBOX: &str = "Commands are stored until they are taken, and events never.";

/// # Errors
/// 0A000 for an event table.
pub(super) fn check_unindexed(table: &Table) -> Result<()> {
    match table.is_event() {
        false => Ok(()),
        true => refuse(
            table,
            "a key or an index of an event table",
            "There are no rows that it could find. What must be unique belongs to a table that the \
             same transaction writes.",
        ),
    }
}

/// What it is about is a row that is found by its key.
fn check_reference(catalog: &Catalog, table: &Table, key: &ForeignKey) -> Result<()> {
    let Some(parent) = catalog.table(key.references) else {
        return Ok(());
    };
    let by_key = parent.primary_index().map(|index| index.id) == Some(key.referenced_index);
    if !by_key {
        return refuse(
            table,
            "a reference of an event to anything but a primary key",
            "Reference the row's primary key.",
        );
    }
    let acts = |action| action != ReferentialAction::NoAction;
    if acts(key.on_delete) || acts(key.on_update) {
        return refuse(
            table,
            "ON DELETE or ON UPDATE in an event table",
            "Leave it out: an event hinders nobody from changing the row that it is about.",
        );
    }
    Ok(())
}

/// Nothing references what is not stored, and an event is about rows of its own owner.
///
/// # Errors
/// 0A000.
pub(super) fn check_parent(table: &Table, parent: &Table) -> Result<()> {
    if parent.is_event() {
        return refuse(
            parent,
            "a foreign key to an event table",
            "Reference the row that the event is about.",
        );
    }
    match table.is_event() && parent.owner != table.owner {
        false => Ok(()),
        true => refuse(
            table,
            "a reference of an event to another owner's table",
            "Leave REFERENCES out: the column is enough.",
        ),
    }
}

/// Nothing but INSERT happens to an event table.
///
/// # Errors
/// 0A000.
pub(super) fn check_trigger(table: &Table, create: &CreateTrigger) -> Result<()> {
    let inserts = !create.events.update && !create.events.delete;
    match !table.is_event() || inserts {
        true => Ok(()),
        false => refuse(
            table,
            "an UPDATE or DELETE trigger on an event table",
            "Nothing but INSERT happens to it.",
        ),
    }
}

fn refuse(table: &Table, what: &str, hint: &str) -> Result<()> {
    let detail = format!(
        "\"{}\" is an event table: its rows are never stored.",
        table.name
    );
    Err(Error::unsupported(what).detail(detail).hint(hint))
}
