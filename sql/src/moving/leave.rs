//! What the home of a table's owner does for a move without a client: once its rows are at the new
//! owner but for the newest ones it lets nobody write it any more, and when it has arrived there it
//! removes what it had.

use std::sync::Arc;

use storage::GroupId;

use super::{check_movable, matches, owner, put, sequences, take_away, tell};
use crate::catalog::{Acl, Catalog, Moving, Privileges, RoleId, SchemaId, TREE_SEQUENCES, Table};
use crate::exec::ExecCx;
use crate::session::sequence;
use crate::transaction::{Policy, Stop, TableMode};

/// Does what is next for tables of `home` that go to `other`'s owner: the first of it that there is. False:
/// nothing.
///
/// # Errors
/// As of any write; `Wait` for the table's lock.
pub(crate) fn leave(home: GroupId, other: GroupId, cx: &mut ExecCx<'_>) -> Result<bool, Stop> {
    let catalog = Arc::clone(cx.catalog);
    let to = owner(&catalog, other)?;
    let going = catalog.tables_in(home);
    let going: Vec<_> = going.filter(|t| t.goes_to() == Some(to)).cloned().collect();
    for table in going {
        let theirs = catalog.table_in(other, table.id).cloned();
        match (table.moving, theirs) {
            (Some(Moving::Leaving { .. }), theirs) => {
                let full = theirs.filter(|theirs| is_full(theirs) && matches(&table, theirs));
                let gone = catalog.role(to).is_none();
                match (check_movable(&catalog, &table), full) {
                    (Err(_), _) => give_up(home, &table, cx)?,
                    _ if gone => give_up(home, &table, cx)?,
                    (Ok(()), Some(_)) => freeze(&table, (to, other), cx)?,
                    (Ok(()), None) => continue,
                }
            }
            (Some(Moving::Left { .. }), Some(theirs)) if has_come(&theirs) => {
                remove(&table, other, cx)?;
            }
            _ => continue,
        }
        return Ok(true);
    }
    Ok(false)
}

/// Is it read there?
fn has_come(theirs: &Table) -> bool {
    #[cfg(feature = "sabotage")]
    if storage::sabotage::planted("moved-table-removed-early") {
        return true;
    }
    !theirs.is_arriving()
}

fn is_full(table: &Table) -> bool {
    table.moving == Some(Moving::Arriving { full: true })
}

/// Something has come that it can't be moved with: its owner goes on with it.
fn give_up(home: GroupId, table: &Arc<Table>, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
    let stays = Table {
        moving: None,
        ..Table::clone(table)
    };
    put(home, Some(table), Some(stays), cx)
}

/// Nobody writes it from here on. Whoever has read it may go on.
fn freeze(
    table: &Arc<Table>,
    (to, other): (RoleId, GroupId),
    cx: &mut ExecCx<'_>,
) -> Result<(), Stop> {
    let home = table.group;
    let mode = TableMode::Exclusive;
    let tx = &mut cx.transaction;
    tx.lock_table(home, table.tree, mode, Policy::Wait)?;
    // So does ALTER SEQUENCE; `nextval` and `setval` look whether the descriptor is what it was.
    let numbers = sequences(cx.catalog, home, table.id);
    for of in &numbers {
        tx.lock_table(home, of.id.0, mode, Policy::Wait)?;
    }
    // The copy that this rests on.
    tx.position(other)?;
    let mut left = Table {
        moving: Some(Moving::Left { to }),
        ..Table::clone(table)
    };
    fix_grants(cx.catalog, &mut left);
    put(home, Some(table), Some(left), cx)?;
    for of in numbers {
        let left = Table {
            moving: Some(Moving::Left { to }),
            ..Table::clone(&of)
        };
        put(home, Some(&of), Some(left), cx)?;
    }
    tell(table, cx)
}

/// Patterns cover their grantor's own tables: what they give on this one it keeps by itself, as of now.
fn fix_grants(catalog: &Catalog, table: &mut Table) {
    if table.schema != SchemaId::PUBLIC {
        return;
    }
    let patterns = catalog.patterns().filter(|p| p.owner == table.owner);
    for pattern in patterns.filter(|pattern| pattern.covers(&table.name)) {
        let own = || Acl::of_owner(table.owner, Privileges::TABLE);
        let acl = table.acl.get_or_insert_with(own);
        acl.grant(pattern.grantee, table.owner, pattern.privileges, false);
    }
}

/// It has arrived: what was here goes, with its rows.
fn remove(table: &Arc<Table>, other: GroupId, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
    let home = table.group;
    cx.transaction.position(other)?;
    for of in sequences(cx.catalog, home, table.id) {
        put(home, Some(&of), None, cx)?;
        let key = sequence::key(of.id.0);
        let tx = &mut cx.transaction;
        tx.write_system(home, TREE_SEQUENCES, key, None)?;
        tx.engine().sequences().forget(home, of.id.0);
    }
    take_away(table, cx)
}
