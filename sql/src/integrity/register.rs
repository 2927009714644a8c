//! What the home of a referenced table does without a client: it notes who references it, forgets who does
//! so no more, ends what is decided, and cancels what belongs to nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use storage::{GroupId, TxId, system};

use super::look::Cut;
use super::low_water::Queue;
use super::rows::{self, Answer, Intent, Wish, wishes};
use crate::catalog::{self, Change, Object, Privilege, Registration, Table, TableId};
use crate::exec::ExecCx;
use crate::state;
use crate::transaction::{Locked, Policy, RowMode, Stop, TableMode, Transaction, Wait};

/// Wishes of one owner at another, and intents, that one entry looks at.
const ROWS_MAX: usize = 100_000;
/// A transaction may hold an intent so long, in microseconds.
const INTENT_MAX: u64 = 10_000_000;

/// Ends what is decided, cancels what belongs to nobody, takes back wishes that are none any more: the first
/// of it that there is. False: nothing.
///
/// # Errors
/// As of any write.
pub(crate) fn settle(home: GroupId, other: GroupId, cx: &mut ExecCx<'_>) -> Result<bool, Stop> {
    let engine = Arc::clone(cx.transaction.engine());
    let (marks, queue) = (engine.opened().low_water(), Queue::Intents);
    let look = marks.begin(home, queue, engine.clock().unix_micros());
    let all = intents(home, look.from, cx.transaction)?;
    marks.end(home, queue, look, all.iter().map(|(id, _)| *id));
    if end(home, &all, cx.transaction)? || cancel(home, &all, cx.transaction)? {
        return Ok(true);
    }
    give_up(home, other, cx)
}

/// Notes the first foreign key of `other` that is wished for, or forgets the first that is no more.
/// False: there is none.
///
/// # Errors
/// As of any write; `Wait` for the table's lock.
pub(crate) fn register(home: GroupId, other: GroupId, cx: &mut ExecCx<'_>) -> Result<bool, Stop> {
    let engine = Arc::clone(cx.transaction.engine());
    let theirs = system::outbox(home);
    let held = engine.groups().get(other);
    if !held.is_some_and(|group| group.holds(theirs)) {
        return Ok(false);
    }
    let cut = cx.transaction.cut_for(home, other)?;
    let mut wanted: BTreeMap<u32, Wish> = BTreeMap::new();
    for (key, bytes) in cut.rows(&engine, theirs, &wishes(), ROWS_MAX)? {
        wanted.extend(
            rows::wished(&key)
                .map(|id| Ok::<_, Stop>((id, Wish::decode(&bytes)?)))
                .transpose()?,
        );
    }
    let catalog = Arc::clone(cx.catalog);
    let registered = catalog.tables_in(home);
    let registered = registered.flat_map(|table| table.registered.iter().map(|of| (table.id, of)));
    let registered = registered.filter(|(_, of)| of.group == other);
    let registered: BTreeMap<u32, TableId> =
        registered.map(|(id, of)| (of.constraint, id)).collect();
    for (constraint, wish) in &wanted {
        if !registered.contains_key(constraint) && note(home, other, *constraint, wish, &cut, cx)? {
            return Ok(true);
        }
    }
    for (constraint, table) in &registered {
        if !wanted.contains_key(constraint) {
            forget(home, other, *constraint, *table, &cut, cx)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Notes a foreign key, if its owner may have it: from now on it is asked.
fn note(
    home: GroupId,
    other: GroupId,
    constraint: u32,
    wish: &Wish,
    cut: &Cut,
    cx: &mut ExecCx<'_>,
) -> Result<bool, Stop> {
    let catalog = Arc::clone(cx.catalog);
    let (Some(table), Some(owner)) = (
        catalog.table(wish.references),
        catalog.owner_of_group(other),
    ) else {
        return Ok(false);
    };
    let may = catalog.sees(owner, table)
        && catalog.has_privilege(owner, table, Privilege::References, Some(&wish.columns));
    if table.group != home || table.index(wish.index).is_none_or(|index| !index.unique) || !may {
        return Ok(false);
    }
    // Nobody has removed keys without asking, and has not committed yet.
    lock(table, cx.transaction)?;
    let registration = Registration {
        group: other,
        constraint,
        index: wish.index,
        columns: wish.columns.clone(),
    };
    cx.transaction.open_outbox(home, other)?;
    edit(table, |table| table.registered.push(registration), cx)?;
    cx.transaction.raise_floor(home, other, cut)?;
    Ok(true)
}

/// Forgets a foreign key that is there no more. Who has not seen that it is gone still sees all keys.
fn forget(
    home: GroupId,
    other: GroupId,
    constraint: u32,
    table: TableId,
    cut: &Cut,
    cx: &mut ExecCx<'_>,
) -> Result<(), Stop> {
    let catalog = Arc::clone(cx.catalog);
    let Some(table) = catalog.table(table) else {
        return Ok(());
    };
    lock(table, cx.transaction)?;
    #[cfg(feature = "sabotage")]
    let at = match storage::sabotage::planted("forgotten-without-dep") {
        true => storage::Position::ZERO,
        false => cut.position(),
    };
    #[cfg(not(feature = "sabotage"))]
    let at = cut.position();
    cx.transaction.follows_from(other, at, 0);
    edit(
        table,
        |table| table.registered.retain(|of| of.constraint != constraint),
        cx,
    )?;
    cx.transaction.raise_floor(home, other, cut)
}

/// Nobody writes the table, and it is as the catalog says.
fn lock(table: &Table, tx: &mut Transaction) -> Result<(), Stop> {
    let mode = TableMode::ShareRowExclusive;
    tx.lock_table(table.group, table.tree, mode, Policy::Wait)?;
    if table.projection.is_some() {
        // It is written without a lock of its own.
        let catalog = Arc::clone(tx.catalog());
        for source in crate::ddl::written_through(&catalog, table) {
            tx.lock_table(source.group, source.tree, mode, Policy::Wait)?;
        }
    }
    Ok(())
}

/// Puts another descriptor in a table's place.
fn edit(
    table: &Arc<Table>,
    edit: impl FnOnce(&mut Table),
    cx: &mut ExecCx<'_>,
) -> Result<(), Stop> {
    let group = table.group;
    let mut new = Table::clone(table);
    edit(&mut new);
    new.since = cx.transaction.position(group)?;
    let (old, new) = (
        Object::Table(Arc::clone(table)),
        Object::Table(Arc::new(new)),
    );
    let change = Change::replace(group, old, new);
    for row in catalog::rows(&change) {
        cx.transaction
            .write_system(group, row.tree, row.key, row.value)?;
    }
    cx.transaction.change_catalog(vec![change]);
    Ok(())
}

/// The intents of a transaction, newest state. Their numbers are above its own.
pub(super) fn intents_of(
    home: GroupId,
    holder: TxId,
    tx: &mut Transaction,
) -> Result<Vec<(TxId, Intent)>, Stop> {
    let mut found = intents(home, holder, tx)?;
    found.retain(|(_, intent)| intent.holder == holder);
    Ok(found)
}

/// The intents of a group from this number on, newest state.
fn intents(home: GroupId, from: TxId, tx: &mut Transaction) -> Result<Vec<(TxId, Intent)>, Stop> {
    let range = (Bound::Included(rows::intent_key(from)), Bound::Unbounded);
    let mut found = Vec::new();
    for (key, bytes) in tx.own_rows(home, system::INTENTS, range, ROWS_MAX)? {
        if let Some(id) = rows::intent_of(&key) {
            found.push((id, Intent::decode(&bytes)?));
        }
    }
    Ok(found)
}

/// Cancels intents whose transaction is gone, or takes too long. One that was made for another owner's
/// lives as long as the answer to that.
fn cancel(home: GroupId, all: &[(TxId, Intent)], tx: &mut Transaction) -> Result<bool, Stop> {
    let engine = Arc::clone(tx.engine());
    let now = engine.clock().unix_micros();
    let mut any = false;
    for (id, intent) in all {
        let old = intent.since.saturating_add(INTENT_MAX) < now;
        let open = engine.opened().has_intent(*id);
        let stays = match intent.cause {
            _ if intent.decided => true,
            None => open && !old,
            Some((group, cause)) => {
                let said = tx.newest(home, system::outbox(group), &rows::answer_key(cause))?;
                said.is_some() || open
            }
        };
        if !stays {
            // What was decided while its transaction was there is to be seen by now.
            tx.take_away(home, *id, intent)?;
            any = true;
        }
    }
    Ok(any)
}

/// Have all who had prepared changes for an intent made them, as far as it is shown here?
pub(super) fn is_done(
    home: GroupId,
    id: TxId,
    intent: &Intent,
    tx: &mut Transaction,
) -> Result<bool, Stop> {
    let engine = Arc::clone(tx.engine());
    for of in intent.asked.iter().filter(|of| of.prepared) {
        // What is not here, or too old, holds up nobody else's.
        let cut = match tx.cut_for(home, of.group) {
            Ok(cut) => cut,
            Err(Stop::Wait(Wait::Cut(_))) => return Ok(false),
            Err(Stop::Error(error)) if error.state() == state::OWNER_UNREACHABLE => {
                return Ok(false);
            }
            Err(stop) => return Err(stop),
        };
        if !cut.holds(system::outbox(home)) {
            return Ok(false);
        }
        let said = cut.get(&engine, system::outbox(home), &rows::answer_key(id))?;
        let said = said.map(|bytes| Answer::decode(&bytes)).transpose()?;
        if said != Some(Answer::Done) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Ends the first decided transaction whose children have followed: its write set is there now.
fn end(home: GroupId, all: &[(TxId, Intent)], tx: &mut Transaction) -> Result<bool, Stop> {
    let decided = all.iter().map(|(_, intent)| intent);
    let decided = decided.filter(|intent| intent.decided && intent.cause.is_none());
    let holders: BTreeSet<TxId> = decided.map(|intent| intent.holder).collect();
    for holder in holders {
        // None of them may be missed.
        let mut all = intents_of(home, holder, tx)?;
        all.retain(|(_, intent)| intent.decided);
        if all.is_empty() {
            continue;
        }
        let mut done = true;
        for (id, intent) in &all {
            done &= is_done(home, *id, intent, tx)?;
        }
        if !done {
            continue;
        }
        // The couriers of all whom it has asked may be here.
        let key = rows::intent_key(all[0].0);
        let (mode, policy) = (RowMode::Update, Policy::SkipLocked);
        if tx.lock_row(home, system::INTENTS, &key, mode, policy)? == Locked::Skipped
            || tx.newest(home, system::INTENTS, &key)?.is_none()
        {
            continue;
        }
        for (id, intent) in &all {
            super::answer::rest_on(home, intent, tx)?;
            tx.take_away(home, *id, intent)?;
        }
        tx.take_up(home, holder, true)?;
        return Ok(true);
    }
    Ok(false)
}

/// Takes the wishes of `home` back whose transaction is gone: there is no such foreign key, or no more.
fn give_up(home: GroupId, other: GroupId, cx: &mut ExecCx<'_>) -> Result<bool, Stop> {
    let engine = Arc::clone(cx.transaction.engine());
    if !engine.cluster().knows_all() {
        return Ok(false);
    }
    let own = system::outbox(other);
    let wished = cx.transaction.own_rows(home, own, wishes(), ROWS_MAX)?;
    let open = |key: &[u8]| rows::wished(key).is_none_or(|id| engine.opened().has_wish(id));
    let wished = wished.into_iter().filter(|(key, _)| !open(key));
    let wished: Vec<(Bytes, Bytes)> = wished.collect();
    if wished.is_empty() {
        return Ok(false);
    }
    // What has its place by now is in the catalog that comes after it.
    drop(cx.transaction.newest_snapshot(home)?);
    let catalog = engine.catalog();
    let tables = catalog.tables_in(home);
    let there = tables.flat_map(|table| table.foreign_keys().map(move |key| (key.id, table)));
    let there: BTreeMap<u32, &Arc<Table>> = there.collect();
    let mut any = false;
    for (key, bytes) in wished {
        let Some(id) = rows::wished(&key) else {
            continue;
        };
        match there.get(&id) {
            None => {
                cx.transaction.put_hidden(home, own, key, None)?;
                any = true;
            }
            // The other owner has dropped its table all the same.
            Some(table) if catalog.was_dropped(Wish::decode(&bytes)?.references) => {
                let mode = TableMode::AccessExclusive;
                cx.transaction
                    .lock_table(home, table.tree, mode, Policy::Wait)?;
                edit(
                    table,
                    |table| table.constraints.retain(|of| of.id() != id),
                    cx,
                )?;
                return Ok(true);
            }
            Some(_) => {}
        }
    }
    Ok(any)
}
