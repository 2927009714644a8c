//! What a table can't be moved with, and what is refused while it moves.

use crate::catalog::{Catalog, IndexState, Moving, Table, TableId, TableKind, kind};
use crate::{Error, Result, state};

/// May the table become another owner's? What depends on it, or it on, has to be of one owner.
///
/// # Errors
/// 0A000 for kinds of tables that stay, 55000 and 55006 for what has to end first, 2BP01 for what has to
/// go first.
pub(crate) fn check_movable(catalog: &Catalog, table: &Table) -> Result<()> {
    if table.projection.is_some() {
        return Err(
            Error::unsupported("moving a materialized view to another owner")
                .detail("It is made of its owner's tables, in the same entries.")
                .hint("Create it as the other role, of that role's tables."),
        );
    }
    if table.is_inbox() {
        return Err(Error::unsupported("moving an inbox to another owner")
            .detail("Commands may be on their way to its owner.")
            .hint("Create another inbox as the other role."));
    }
    if table.is_event() {
        return Err(Error::unsupported("moving an event table to another owner")
            .detail("Its events are in the log of its owner, and nowhere else.")
            .hint("Create another one as the other role."));
    }
    if table.history.is_some() {
        let message = format!("cannot move table \"{}\" to another owner", table.name);
        return Err(Error::new(state::OBJECT_NOT_IN_PREREQUISITE_STATE, message)
            .detail("It keeps its history, which is in the log of its owner.")
            .hint("ALTER TABLE ... RESET (history) gives the history up."));
    }
    if table
        .indexes
        .iter()
        .any(|i| i.state == IndexState::Building)
    {
        let message = format!(
            "cannot move table \"{}\" to another owner because an index of it is being built",
            table.name
        );
        return Err(Error::new(state::OBJECT_IN_USE, message)
            .hint("Wait for CREATE INDEX, or drop an index that was left."));
    }
    let mut lines = references(catalog, table);
    lines.extend(readers(catalog, table));
    lines.extend(sequences(catalog, table));
    lines.sort();
    lines.dedup();
    if lines.is_empty() {
        return Ok(());
    }
    let message = format!(
        "cannot move table \"{}\" to another owner because other objects depend on it",
        table.name
    );
    Err(Error::new(state::DEPENDENT_OBJECTS_STILL_EXIST, message)
        .detail(lines.join("\n"))
        .hint("Drop them first; the new owner can make them again."))
}

/// Foreign keys from it and to it, but for its own to itself. Of another owner's only the role is named.
fn references(catalog: &Catalog, table: &Table) -> Vec<String> {
    let mut lines = Vec::new();
    for key in table
        .foreign_keys()
        .filter(|key| key.references != table.id)
    {
        lines.push(format!(
            "constraint {} on table {} is a foreign key",
            key.name, table.name
        ));
    }
    for (child, id) in table.referenced_by.iter().filter(|(id, _)| *id != table.id) {
        if let Some(child) = catalog.table(*child) {
            let key = child.foreign_keys().find(|key| key.id == *id);
            let name = key.map_or("?", |key| key.name.as_str());
            lines.push(format!(
                "constraint {name} on table {} depends on table {}",
                child.name, table.name
            ));
        }
    }
    for of in &table.registered {
        if let Some(role) = catalog.owner_of_group(of.group) {
            let role = catalog.role_name(role);
            lines.push(format!(
                "a foreign key of role {role} depends on table {}",
                table.name
            ));
        }
    }
    lines
}

/// Views and projections of its owner, and triggers. Others' views read what they are granted, from
/// whomever.
fn readers(catalog: &Catalog, table: &Table) -> Vec<String> {
    let mut lines = Vec::new();
    let reads = |other: &Table| other.depends_on.iter().any(|(on, _)| *on == table.id);
    let own = catalog.tables().filter(|other| other.owner == table.owner);
    for other in own.filter(|other| reads(other)) {
        let (kind, name) = (kind(other), &other.name);
        lines.push(format!("{kind} {name} depends on table {}", table.name));
    }
    for trigger in catalog.triggers_of(table.id) {
        let what = match trigger.owner == table.owner {
            true => format!("trigger {}", trigger.name),
            false => format!("a trigger of role {}", catalog.role_name(trigger.owner)),
        };
        lines.push(format!("{what} depends on table {}", table.name));
    }
    lines
}

/// Sequences that stay while a default takes numbers of them: those of the owner that do not go with
/// the table, and those of the table that others take numbers of.
fn sequences(catalog: &Catalog, table: &Table) -> Vec<String> {
    let goes = |id: TableId| {
        let found = catalog.table(id).map(|found| &found.kind);
        match found {
            Some(TableKind::Sequence(options)) => {
                Some(options.owned_by.is_some_and(|(owner, _)| owner == table.id))
            }
            _ => None,
        }
    };
    let own = catalog.tables().filter(|other| other.owner == table.owner);
    let mut lines = Vec::new();
    for other in own {
        for column in other.live_columns() {
            let text = column.default.as_deref().unwrap_or_default();
            if !text.contains("nextval") {
                continue;
            }
            let used = crate::ddl::relations_in(text).into_iter();
            let stays =
                |id: u32| goes(TableId(id)).is_some_and(|goes| goes != (other.id == table.id));
            for sequence in used.filter(|id| stays(*id)) {
                let name = catalog
                    .table(TableId(sequence))
                    .map_or("?", |s| s.name.as_str());
                lines.push(format!(
                    "default value for column {} of table {} depends on sequence {name}",
                    column.name, other.name
                ));
            }
        }
    }
    lines
}

/// 55006: it is on its way to another owner.
pub(crate) fn being_moved(table: &Table) -> Error {
    let message = format!(
        "{} \"{}\" is being moved to another owner",
        kind(table),
        table.name
    );
    let error = Error::new(state::OBJECT_IN_USE, message);
    match table.moving {
        Some(Moving::Leaving { .. }) => {
            error.hint("ALTER TABLE ... OWNER TO the present owner ends the move.")
        }
        _ => error.hint("Try again when freehold.moves does not show it any more."),
    }
}
