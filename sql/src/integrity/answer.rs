//! What the home of a referencing table does without a client: it answers what other owners ask before
//! they remove keys, and lifts its fences when the question is gone.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use storage::{GroupId, TxId, system};

use super::ask::index_entry;
use super::look::Cut;
use super::rows::{
    self, Answer, Ask, Key, answer_key, answers, ask_key, asks, fence_key, fenced,
};
use crate::catalog::{Catalog, ForeignKey, IndexKey, Privilege, Table};
use crate::exec::{ExecCx, find_reference};
use crate::outbox::Reason;
use crate::transaction::{Policy, Stop, TableMode, Transaction};
use crate::types::Datum;
use crate::{Error, state};

/// Rows of asks that one entry looks at.
const ASKS_MAX: usize = 256;
/// Answers and fences that one entry looks at.
const FENCES_MAX: usize = 100_000;
/// Of more keys than these the whole table is fenced, if it is empty.
const KEYS_MAX: usize = 1000;

/// Answers what `other` asks `home`, and lifts what it asks no more. False: nothing.
///
/// # Errors
/// As of any write; `Wait` while what is shown of `other` is too old.
pub(crate) fn answer(home: GroupId, other: GroupId, cx: &mut ExecCx<'_>) -> Result<bool, Stop> {
    let engine = Arc::clone(cx.transaction.engine());
    let asked = system::outbox(home);
    let Some(held) = engine.groups().get(other).filter(|group| group.holds(asked)) else {
        return Ok(false);
    };
    drop(held);
    let cut = cx.transaction.cut_for(home, other)?;
    let own = system::outbox(other);
    let answered = cx.transaction.own_rows(home, own, answers(), FENCES_MAX)?;
    let answered = answered.iter().filter_map(|(key, _)| rows::answered(key));
    let answered: BTreeSet<TxId> = answered.collect();
    let mut ended = BTreeSet::new();
    for intent in &answered {
        if cut.get(&engine, asked, &ask_key(*intent, 0))?.is_none() {
            ended.insert(*intent);
        }
    }
    lift(home, other, &ended, cx.transaction)?;
    let mut open: Vec<(TxId, Vec<Ask>)> = Vec::new();
    for intent in unanswered(&cut, asked, &answered, cx)? {
        open.push((intent, parts(&cut, asked, intent, cx)?));
    }
    for (intent, parts) in &open {
        let said = judge(home, other, *intent, parts, cx)?;
        let key = answer_key(*intent);
        cx.transaction.put_hidden(home, own, key, Some(said.encode()))?;
    }
    if ended.is_empty() && open.is_empty() {
        return Ok(false);
    }
    cx.transaction.raise_floor(home, other, &cut)?;
    Ok(true)
}

/// The first intents that were not answered yet.
fn unanswered(
    cut: &Cut,
    asked: u32,
    answered: &BTreeSet<TxId>,
    cx: &ExecCx<'_>,
) -> Result<Vec<TxId>, Stop> {
    let engine = cx.transaction.engine();
    let (mut from, last) = asks();
    let mut found = Vec::new();
    loop {
        let rows = cut.rows(engine, asked, &(from, last.clone()), ASKS_MAX)?;
        let Some((end, _)) = rows.last() else {
            return Ok(found);
        };
        let whole = rows.len() < ASKS_MAX;
        for intent in rows.iter().filter_map(|(key, _)| rows::asked(key)) {
            if !answered.contains(&intent) && found.last() != Some(&intent) {
                found.push(intent);
            }
        }
        if whole || !found.is_empty() {
            return Ok(found);
        }
        from = Bound::Excluded(end.clone());
    }
}

/// All parts of an ask.
fn parts(cut: &Cut, asked: u32, intent: TxId, cx: &ExecCx<'_>) -> Result<Vec<Ask>, Stop> {
    let range = (
        Bound::Included(ask_key(intent, 0)),
        Bound::Included(ask_key(intent, u32::MAX)),
    );
    let rows = cut.rows(cx.transaction.engine(), asked, &range, usize::MAX)?;
    Ok(rows
        .iter()
        .map(|(_, bytes)| Ask::decode(bytes))
        .collect::<crate::Result<_>>()?)
}

/// Takes the answers to these away, and their fences.
fn lift(
    home: GroupId,
    other: GroupId,
    ended: &BTreeSet<TxId>,
    tx: &mut Transaction,
) -> Result<(), Stop> {
    if ended.is_empty() {
        return Ok(());
    }
    for intent in ended {
        tx.put_hidden(home, system::outbox(other), answer_key(*intent), None)?;
    }
    let of_other = rows::fences_of(other);
    for (key, _) in tx.own_rows(home, system::FENCED, of_other, usize::MAX)? {
        if rows::fenced_for(&key).is_some_and(|intent| ended.contains(&intent)) {
            tx.put_hidden(home, system::FENCED, key, None)?;
        }
    }
    Ok(())
}

/// Are the keys referenced? If not, nothing begins to reference them.
fn judge(
    home: GroupId,
    other: GroupId,
    intent: TxId,
    parts: &[Ask],
    cx: &mut ExecCx<'_>,
) -> Result<Answer, Stop> {
    let looked = parts.iter().try_for_each(|part| look(home, part, cx));
    match looked {
        Ok(()) => {}
        Err(Stop::Error(error)) if !error.0.begins_anew => {
            return Ok(Answer::No(Box::new(Reason::of(&error))));
        }
        Err(stop) => return Err(stop),
    }
    #[cfg(feature = "sabotage")]
    if storage::sabotage::planted("fence-left-out") {
        return Ok(Answer::Yes);
    }
    let count: usize = parts.iter().map(|part| part.keys.len()).sum();
    let whole = count > KEYS_MAX && all_empty(home, parts, cx)?;
    let Some(parent) = parts.first().and_then(|part| cx.catalog.table(part.table)).cloned() else {
        // It is gone with all that references it.
        return Ok(Answer::Yes);
    };
    let mut keys: BTreeSet<Bytes> = BTreeSet::new();
    for key in parts.iter().flat_map(|part| &part.keys) {
        let entry = match whole || key.values.is_empty() {
            true => None,
            false => Some(index_entry(&parent, key.index, &key.values)?.1),
        };
        keys.insert(fence_key(other, key.index, entry.as_deref(), intent));
    }
    for key in keys {
        cx.transaction.put_hidden(home, system::FENCED, key, Some(fenced()))?;
    }
    Ok(Answer::Yes)
}

/// The foreign keys of a group that reference a table.
fn referencing<'a>(
    catalog: &'a Catalog,
    home: GroupId,
    ask: &'a Ask,
) -> impl Iterator<Item = (&'a Arc<Table>, &'a ForeignKey)> {
    let tables = catalog.tables().filter(move |table| table.group == home);
    let keys = tables.flat_map(|table| table.foreign_keys().map(move |key| (table, key)));
    keys.filter(|(_, key)| key.references == ask.table)
}

/// An error if a row references one of the keys.
fn look(home: GroupId, ask: &Ask, cx: &mut ExecCx<'_>) -> Result<(), Stop> {
    let catalog = Arc::clone(cx.catalog);
    for index in ask.keys.iter().map(|key| key.index).collect::<BTreeSet<_>>() {
        let (tree, mode) = (system::keys_of(index), TableMode::RowExclusive);
        cx.transaction.lock_table(home, tree, mode, Policy::NoWait).map_err(busy)?;
    }
    let parent = catalog.table(ask.table);
    let Some(parent) = parent else { return Ok(()) };
    for (child, key) in referencing(&catalog, home, ask) {
        for asked in ask.keys.iter().filter(|asked| asked.index == key.referenced_index) {
            cx.tick()?;
            let values = values_of(parent, key, asked);
            if find_reference(child, key, values.as_deref(), cx)? {
                return Err(still_referenced(parent, child, key, values.as_deref(), cx).into());
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
        let at = index.columns.iter().position(|part| part.what == IndexKey::Column(id))?;
        asked.values.get(at).cloned()
    };
    key.referenced_columns.iter().map(|id| value(*id)).collect()
}

/// Has no table that references the asked one any row?
fn all_empty(home: GroupId, parts: &[Ask], cx: &mut ExecCx<'_>) -> Result<bool, Stop> {
    let catalog = Arc::clone(cx.catalog);
    let Some(first) = parts.first() else {
        return Ok(false);
    };
    for (child, key) in referencing(&catalog, home, first) {
        if find_reference(child, key, None, cx)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn busy(stop: Stop) -> Stop {
    match stop {
        Stop::Error(error) if error.state() == state::LOCK_NOT_AVAILABLE => Error::new(
            state::SERIALIZATION_FAILURE,
            "could not serialize access: a foreign key to the table is being made",
        )
        .hint("Run the transaction again.")
        .into(),
        stop => stop,
    }
}

/// 23503, with the words that the removing owner may read.
fn still_referenced(
    parent: &Table,
    child: &Table,
    key: &ForeignKey,
    values: Option<&[Datum]>,
    cx: &ExecCx<'_>,
) -> Error {
    let asks = parent.owner;
    let shown = cx.catalog.sees(asks, child)
        && cx.catalog.has_privilege(asks, child, Privilege::Select, Some(&[]));
    let key_text = match values {
        Some(values) => format!("Key {} is", crate::exec::shown_key(parent, &key.referenced_columns, values, cx)),
        None => "Keys are".to_owned(),
    };
    let parent_name = &parent.name;
    match shown {
        true => Error::new(
            state::FOREIGN_KEY_VIOLATION,
            format!(
                "update or delete on table \"{parent_name}\" violates foreign key constraint \"{}\" on \
                 table \"{}\"",
                key.name, child.name
            ),
        )
        .detail(format!(
            "{key_text} still referenced from table \"{}\" of owner \"{}\".",
            child.name,
            cx.catalog.role_name(child.owner)
        )),
        false => Error::new(
            state::FOREIGN_KEY_VIOLATION,
            format!(
                "update or delete on table \"{parent_name}\" violates a foreign key of another owner"
            ),
        )
        .detail(format!("{key_text} still referenced by another owner.")),
    }
}
