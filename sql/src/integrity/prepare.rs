//! What an owner does about rows of its own that reference keys which another one is about to remove: it
//! looks for them, or prepares what ON DELETE and ON UPDATE say, in a transaction of its own that is
//! not committed before the other one has decided.

use std::collections::BTreeSet;
use std::sync::Arc;

use storage::{GroupId, TxId, system};

use super::open::Preparing;
use super::rows::{Ask, Key};
use crate::catalog::{Catalog, ForeignKey, IndexKey, Privilege, ReferentialAction, Table, TableId};
use crate::exec::{Acting, Deferred, ExecCx, find_reference, shown_key};
use crate::transaction::{
    EventKind, Identity, Isolation, Kept, Locks, Policy, Stop, TableMode, Transaction, Wait,
};
use crate::types::Datum;
use crate::{Error, state};

/// It waits so long for locks of rows, and what that removes for other owners' answers, in microseconds.
const LOCKS_MAX: u64 = 1_000_000;
const ANSWERS_MAX: u64 = 4_000_000;
/// Attempts without a wait between them.
const ATTEMPTS_MAX: u32 = 16;

/// What was found.
pub(super) enum Found {
    /// Nothing references the keys.
    Nothing,
    /// These changes, of a transaction that holds their locks.
    Changes(Kept, Box<Transaction>),
}

/// The foreign keys of a group that reference a table.
fn referencing<'a>(
    catalog: &'a Catalog,
    home: GroupId,
    ask: &'a Ask,
) -> impl Iterator<Item = (&'a Arc<Table>, &'a ForeignKey)> {
    let tables = catalog.tables_in(home);
    let keys = tables.flat_map(|table| table.foreign_keys().map(move |key| (table, key)));
    keys.filter(|(_, key)| key.references == ask.table)
}

/// What is done with rows that reference the key. ON UPDATE CASCADE is NO ACTION between owners: no order of
/// two entries shows the row and its parent at all times.
fn action(key: &ForeignKey, asked: &Key, all: bool) -> Option<ReferentialAction> {
    let action = match asked.changed {
        true if key.on_update == ReferentialAction::Cascade => return None,
        true => key.on_update,
        false => key.on_delete,
    };
    match action {
        _ if all => None,
        ReferentialAction::NoAction | ReferentialAction::Restrict => None,
        ReferentialAction::Cascade | ReferentialAction::SetNull | ReferentialAction::SetDefault => {
            Some(action)
        }
    }
}

/// Looks for rows that reference what is asked for, and prepares what is to be done with them.
///
/// # Errors
/// Why the answer is no; `Wait` while it can't be told.
pub(super) fn find(
    home: GroupId,
    other: GroupId,
    intent: TxId,
    parts: &[Ask],
    cx: &mut ExecCx<'_>,
) -> Result<Found, Stop> {
    let catalog = Arc::clone(cx.catalog);
    let comes = |ask: &Ask| catalog.table(ask.table).is_none() && !catalog.was_dropped(ask.table);
    if parts.iter().any(comes) {
        // After a start the other owner's catalog may be late.
        return Err(super::look::later(cx.transaction.engine()));
    }
    not_being_made(home, parts, cx)?;
    let acts = |ask: &Ask| {
        referencing(&catalog, home, ask).any(|(_, key)| {
            let mut asked = ask.keys.iter();
            asked.any(|asked| action(key, asked, ask.all).is_some())
        })
    };
    if !parts.iter().any(acts) {
        look(home, parts, cx)?;
        return Ok(Found::Nothing);
    }
    let engine = Arc::clone(cx.transaction.engine());
    let now = engine.clock().unix_micros();
    let opened = engine.opened();
    let mut preparing = opened
        .take_preparing(home, other, intent)
        .unwrap_or_else(|| {
            let depth = parts.first().map_or(0, |ask| ask.depth);
            let mut transaction = Box::new(Transaction::new(
                &engine,
                Isolation::ReadCommitted,
                false,
                false,
            ));
            transaction.set_unattended();
            transaction.set_process(cx.transaction.process());
            transaction.intents().prepare_for(other, intent, depth + 1);
            let since = now;
            Preparing { transaction, since }
        });
    for _ in 0..ATTEMPTS_MAX {
        if !Arc::ptr_eq(&engine.catalog(), &catalog) {
            // The courier begins anew with that one.
            opened.put_preparing(home, other, intent, preparing);
            return Err(Stop::again());
        }
        match attempt(home, parts, &mut preparing.transaction, cx) {
            Ok(kept) => {
                // What is looked at holds when this entry gets its place.
                return Ok(match kept.is_empty {
                    true => {
                        look(home, parts, cx)?;
                        Found::Nothing
                    }
                    false => Found::Changes(kept, preparing.transaction),
                });
            }
            Err(Stop::Wait(Wait::Again)) => {}
            Err(Stop::Wait(wait) | Stop::Pause(wait)) => {
                let most = match &wait {
                    Wait::Lock(_) => LOCKS_MAX,
                    _ => ANSWERS_MAX,
                };
                if now > preparing.since.saturating_add(most) {
                    return Err(busy().into());
                }
                opened.put_preparing(home, other, intent, preparing);
                return Err(Stop::Wait(wait));
            }
            Err(stop) => return Err(stop),
        }
    }
    Err(busy().into())
}

/// What of an error the removing owner may hear: the words of this module are chosen for it, those of checks,
/// triggers and of others that were asked in turn tell of rows that it may not see.
pub(super) fn refused(error: Error, parts: &[Ask], cx: &ExecCx<'_>) -> Error {
    let asks = parts.first().and_then(|ask| cx.catalog.table(ask.table));
    if error.0.for_other_owner || asks.is_some_and(|asks| asks.owner == cx.role) {
        return error;
    }
    Error::new(error.state(), "the removal is refused by another owner")
        .detail("What references the removed keys can't be changed as its foreign key says.")
}

/// Prepares all, in a transaction of its own.
fn attempt(
    home: GroupId,
    parts: &[Ask],
    tx: &mut Transaction,
    cx: &mut ExecCx<'_>,
) -> Result<Kept, Stop> {
    let owner = cx.catalog.role_name(cx.role);
    let identity = Identity {
        role: cx.role,
        login: owner,
        application_name: "freehold courier".to_owned(),
        trace: String::new(),
    };
    tx.refresh_catalog();
    let catalog = Arc::clone(cx.catalog);
    lock_tables(home, parts, &catalog, tx)?;
    let mark = tx.statement_mark();
    let mut deferred = Deferred::default();
    let done = tx
        .begin_statement(None, &[home], Some(home))
        .and_then(|()| match tx.is_of(&catalog) {
            true => Ok(()),
            false => Err(Stop::again()),
        })
        .and_then(|()| {
            let done = cx.beside(&catalog, Some((&mut *tx, &mut deferred)), |cx| {
                act(home, parts, cx)?;
                for check in cx.deferred.take(true) {
                    check.run(cx)?;
                }
                look(home, parts, cx)
            });
            // What its triggers have said is part of it, and nobody else hears of it.
            let messages = cx.evaluation.environment.take_messages();
            done?;
            for (kind, payload) in messages {
                tx.event(home, EventKind::Message, &kind, None, payload)?;
            }
            Ok(())
        });
    let done = done.and_then(|()| tx.end_prepared(home, &identity));
    if done.is_err() {
        tx.undo_to(&mark, Locks::Keep)?;
    }
    done
}

/// What ON DELETE and ON UPDATE say.
fn act(home: GroupId, parts: &[Ask], cx: &mut ExecCx<'_>) -> Result<(), Stop> {
    let catalog = Arc::clone(cx.catalog);
    let mut acting = Acting::default();
    for ask in parts {
        let Some(parent) = catalog.table(ask.table) else {
            continue;
        };
        let keys: Vec<_> = referencing(&catalog, home, ask).collect();
        for asked in &ask.keys {
            for (child, key) in keys.iter().copied() {
                let (Some(action), Some(values)) =
                    (action(key, asked, ask.all), values_of(parent, key, asked))
                else {
                    continue;
                };
                if asked.index == key.referenced_index {
                    acting.add(parent, child, key, action, values, asked.changed);
                }
            }
        }
    }
    acting.run(cx)
}

/// The tables that actions may write, as a statement of the owner would.
fn lock_tables(
    home: GroupId,
    parts: &[Ask],
    catalog: &Catalog,
    tx: &mut Transaction,
) -> Result<(), Stop> {
    let mut open: Vec<TableId> = Vec::new();
    for ask in parts {
        open.extend(referencing(catalog, home, ask).map(|(table, _)| table.id));
    }
    let mut seen = BTreeSet::new();
    while let Some(table) = open.pop().and_then(|id| catalog.table(id)) {
        if seen.insert(table.id) {
            tx.lock_table(home, table.tree, TableMode::RowExclusive, Policy::Wait)?;
            open.extend(table.referenced_by.iter().map(|(child, _)| *child));
        }
    }
    Ok(())
}

/// An error if a row references one of the keys, of whatever is prepared too.
fn look(home: GroupId, parts: &[Ask], cx: &mut ExecCx<'_>) -> Result<(), Stop> {
    let catalog = Arc::clone(cx.catalog);
    let waiting = super::waiting::Waiting::of(home, cx)?;
    for ask in parts {
        let Some(parent) = catalog.table(ask.table) else {
            continue;
        };
        for (child, key) in referencing(&catalog, home, ask) {
            let keys = ask
                .keys
                .iter()
                .filter(|asked| asked.index == key.referenced_index);
            for asked in keys {
                cx.tick()?;
                let values = values_of(parent, key, asked);
                if waiting.references(child, key, values.as_deref(), cx)? {
                    return Err(busy().into());
                }
                if !find_reference(child, key, values.as_deref(), cx)? {
                    continue;
                }
                return Err(match action(key, asked, ask.all) {
                    // It has come meanwhile.
                    Some(ReferentialAction::Cascade | ReferentialAction::SetNull) => Stop::again(),
                    _ => still_referenced(parent, child, key, values.as_deref(), asked, cx).into(),
                });
            }
        }
    }
    Ok(())
}

/// In the order of the referenced columns; `None`: any.
fn values_of(parent: &Table, key: &ForeignKey, asked: &Key) -> Option<Vec<Datum>> {
    let index = parent.index(asked.index)?;
    if index.columns.len() != asked.values.len() {
        return None;
    }
    let value = |id| {
        let mut columns = index.columns.iter();
        let at = columns.position(|part| part.what == IndexKey::Column(id))?;
        asked.values.get(at).cloned()
    };
    key.referenced_columns.iter().map(|id| value(*id)).collect()
}

/// Has no table that references the asked one any row? None has when the entry gets its place.
pub(super) fn all_empty(home: GroupId, parts: &[Ask], cx: &mut ExecCx<'_>) -> Result<bool, Stop> {
    let catalog = Arc::clone(cx.catalog);
    for ask in parts {
        for (child, key) in referencing(&catalog, home, ask) {
            if find_reference(child, key, None, cx)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// 40001 while a foreign key to one of the indexes is being made.
fn not_being_made(home: GroupId, parts: &[Ask], cx: &mut ExecCx<'_>) -> Result<(), Stop> {
    let indexes = parts.iter().flat_map(|ask| &ask.keys).map(|key| key.index);
    for index in indexes.collect::<BTreeSet<_>>() {
        let (tree, mode) = (system::keys_of(index), TableMode::RowExclusive);
        let locked = cx.transaction.lock_table(home, tree, mode, Policy::NoWait);
        locked.map_err(|stop| match stop {
            Stop::Error(error) if error.state() == state::LOCK_NOT_AVAILABLE => busy().into(),
            stop => stop,
        })?;
    }
    Ok(())
}

/// 40001.
pub(super) fn busy() -> Error {
    Error::new(
        state::SERIALIZATION_FAILURE,
        "could not serialize access: another owner is at work on what references the removed keys",
    )
    .hint(
        "Run the transaction again. If it has removed a parent of the same row before, remove both in one \
         statement.",
    )
    .for_other_owner()
}

/// 23503, with the words that the removing owner may read.
fn still_referenced(
    parent: &Table,
    child: &Table,
    key: &ForeignKey,
    values: Option<&[Datum]>,
    asked: &Key,
    cx: &ExecCx<'_>,
) -> Error {
    let asks = parent.owner;
    let shown = cx.catalog.sees(asks, child)
        && cx
            .catalog
            .has_privilege(asks, child, Privilege::Select, Some(&[]));
    let what = match values {
        Some(values) => {
            let key = shown_key(parent, &key.referenced_columns, values, cx);
            format!("Key {key} is")
        }
        None => "Keys are".to_owned(),
    };
    let does = format!("update or delete on table \"{}\" violates", parent.name);
    let state = state::FOREIGN_KEY_VIOLATION;
    let error = match shown {
        true => Error::new(
            state,
            format!(
                "{does} foreign key constraint \"{}\" on table \"{}\"",
                key.name, child.name
            ),
        )
        .detail(format!(
            "{what} still referenced from table \"{}\" of owner \"{}\".",
            child.name,
            cx.catalog.role_name(child.owner)
        )),
        false => Error::new(state, format!("{does} a foreign key of another owner"))
            .detail(format!("{what} still referenced by another owner.")),
    };
    let error = error.for_other_owner();
    match asked.changed && key.on_update == ReferentialAction::Cascade {
        true => error.hint(
            "Between owners ON UPDATE CASCADE is NO ACTION. Insert the new key, have the references moved, \
             and delete the old one.",
        ),
        false => error,
    }
}
