//! What the home of a referencing table does without a client: it answers what other owners ask before
//! they remove keys, does what it has prepared when they have decided, and lifts its fences when the
//! question is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use storage::{GroupId, TxId, system};

use super::ask::index_entry;
use super::look::Cut;
use super::low_water::Queue;
use super::prepare::{Found, all_empty, find, refused};
use super::register::{intents_of, is_done};
use super::rows::{
    self, Answer, Ask, answer_key, answers, ask_key, asks, decision_key, fence_key, fenced,
};
use crate::exec::ExecCx;
use crate::outbox::Reason;
use crate::transaction::{Stop, Transaction};

/// Rows of asks that one entry looks at.
const ASKS_MAX: usize = 256;
/// Answers that one entry looks at.
const ANSWERS_MAX: usize = 100_000;
/// Of more keys than these the whole table is fenced, if it is empty.
const KEYS_MAX: usize = 1000;

/// Answers what `other` asks `home`, does what that has decided, and lifts what it asks no more. False:
/// nothing.
///
/// # Errors
/// As of any write; `Wait` while what is shown of `other` is too old, or an answer can't be told yet.
pub(crate) fn answer(home: GroupId, other: GroupId, cx: &mut ExecCx<'_>) -> Result<bool, Stop> {
    let engine = Arc::clone(cx.transaction.engine());
    let asked = system::outbox(home);
    let held = engine.groups().get(other);
    if !held.is_some_and(|group| group.holds(asked)) {
        return Ok(false);
    }
    let cut = cx.transaction.cut_for(home, other)?;
    let own = system::outbox(other);
    let answered = answered(home, other, cx.transaction)?;
    let mut ended = BTreeMap::new();
    for (intent, said) in &answered {
        if cut.get(&engine, asked, &ask_key(*intent, 0))?.is_none() {
            let with_changes = matches!(said, Answer::Prepared(_));
            ended.insert(*intent, said.clone());
            if with_changes {
                // What it has prepared may be large.
                break;
            }
        } else if let Answer::Prepared(holder) = said
            && cut.get(&engine, asked, &decision_key(*intent))?.is_some()
            && commit(home, other, *intent, *holder, &cut, cx)?
        {
            return done(home, other, &cut, cx);
        }
    }
    if !ended.is_empty() {
        lift(home, other, &ended, cx.transaction)?;
        return done(home, other, &cut, cx);
    }
    let open = unanswered(home, other, &cut, &answered, cx)?;
    engine
        .opened()
        .keep_preparing(home, other, &open.iter().copied().collect());
    let mut waits = None;
    for intent in open {
        let key = answer_key(intent);
        if cx.transaction.newest(home, own, &key)?.is_some() {
            // One of very many.
            continue;
        }
        let parts = parts(&cut, asked, intent, cx)?;
        let found = match find(home, other, intent, &parts, cx) {
            Ok(found) => Ok(found),
            Err(Stop::Error(error)) if !error.0.begins_anew => Err(refused(error, &parts, cx)),
            // The others need not wait.
            Err(Stop::Wait(wait) | Stop::Pause(wait)) => {
                waits.get_or_insert(wait);
                continue;
            }
            Err(stop) => return Err(stop),
        };
        // One at a time: the next one is to see what is fenced and prepared here.
        let said = say(home, other, intent, &parts, found, cx)?;
        cx.transaction
            .put_hidden(home, own, key, Some(said.encode()))?;
        return done(home, other, &cut, cx);
    }
    match waits {
        Some(wait) => Err(Stop::Wait(wait)),
        None => Ok(false),
    }
}

/// Something was done for what is shown of the other group.
fn done(home: GroupId, other: GroupId, cut: &Cut, cx: &mut ExecCx<'_>) -> Result<bool, Stop> {
    cx.transaction.raise_floor(home, other, cut)?;
    // Tables and foreign keys are those that were looked at.
    cx.transaction.check_catalog()?;
    Ok(true)
}

/// What was said and is still asked, or is to be lifted.
fn answered(
    home: GroupId,
    other: GroupId,
    tx: &mut Transaction,
) -> Result<BTreeMap<TxId, Answer>, Stop> {
    let engine = Arc::clone(tx.engine());
    let (marks, queue) = (engine.opened().low_water(), Queue::Answers(other));
    let look = marks.begin(home, queue, engine.clock().unix_micros());
    let range = answers(look.from);
    let mut found: BTreeMap<TxId, Answer> = BTreeMap::new();
    for (key, bytes) in tx.own_rows(home, system::outbox(other), range, ANSWERS_MAX)? {
        if let Some(intent) = rows::answered(&key) {
            found.insert(intent, Answer::decode(&bytes)?);
        }
    }
    marks.end(home, queue, look, found.keys().copied());
    Ok(found)
}

/// The first intents that were not answered yet.
fn unanswered(
    home: GroupId,
    other: GroupId,
    cut: &Cut,
    answered: &BTreeMap<TxId, Answer>,
    cx: &ExecCx<'_>,
) -> Result<Vec<TxId>, Stop> {
    let engine = cx.transaction.engine();
    let (marks, queue) = (engine.opened().low_water(), Queue::Asks(other));
    let look = marks.begin(home, queue, engine.clock().unix_micros());
    let (mut from, last) = asks(look.from);
    let mut found = Vec::new();
    let mut seen: Vec<TxId> = Vec::new();
    loop {
        let rows = cut.rows(
            engine,
            system::outbox(home),
            &(from, last.clone()),
            ASKS_MAX,
        )?;
        for intent in rows.iter().filter_map(|(key, _)| rows::asked(key)) {
            seen.push(intent);
            if !answered.contains_key(&intent) && found.last() != Some(&intent) {
                found.push(intent);
            }
        }
        match rows.last() {
            Some((end, _)) if rows.len() == ASKS_MAX && found.len() < ASKS_MAX => {
                from = Bound::Excluded(end.clone());
            }
            _ => break,
        }
    }
    marks.end(home, queue, look, seen);
    Ok(found)
}

/// All parts of an ask.
fn parts(cut: &Cut, asked: u32, intent: TxId, cx: &ExecCx<'_>) -> Result<Vec<Ask>, Stop> {
    let range = (
        Bound::Included(ask_key(intent, 0)),
        Bound::Included(ask_key(intent, u32::MAX)),
    );
    let rows = cut.rows(cx.transaction.engine(), asked, &range, usize::MAX)?;
    let parts = rows.iter().map(|(_, bytes)| Ask::decode(bytes));
    Ok(parts.collect::<crate::Result<_>>()?)
}

/// Takes the answers to these away, with their fences and what was prepared and not done.
fn lift(
    home: GroupId,
    other: GroupId,
    ended: &BTreeMap<TxId, Answer>,
    tx: &mut Transaction,
) -> Result<(), Stop> {
    for (intent, said) in ended {
        tx.put_hidden(home, system::outbox(other), answer_key(*intent), None)?;
        let lists = rows::fence_lists(other, *intent);
        for (key, list) in tx.own_rows(home, system::FENCED, lists, usize::MAX)? {
            tx.put_hidden(home, system::FENCED, key, None)?;
            for fence in rows::read_fence_list(&list)? {
                tx.put_hidden(home, system::FENCED, fence, None)?;
            }
        }
        let Answer::Prepared(holder) = said else {
            continue;
        };
        tx.forget_kept(home, *holder)?;
        for (id, own) in intents_of(home, *holder, tx)? {
            if own.cause == Some((other, *intent)) {
                tx.take_away(home, id, &own)?;
            }
        }
    }
    Ok(())
}

/// Does what was prepared for a decided intent; its own children first, if it has asked any.
fn commit(
    home: GroupId,
    other: GroupId,
    intent: TxId,
    holder: TxId,
    cut: &Cut,
    cx: &mut ExecCx<'_>,
) -> Result<bool, Stop> {
    let tx = &mut *cx.transaction;
    let own = intents_of(home, holder, tx)?.into_iter();
    let own = own.filter(|(_, own)| own.cause == Some((other, intent)));
    let own: Vec<_> = own.collect();
    let mut waits = false;
    let mut decided = false;
    for (id, mine) in &own {
        let prepared = mine.asked.iter().any(|of| of.prepared);
        match (prepared, mine.decided) {
            (false, _) => {}
            (true, false) => {
                tx.decide(home, *id, mine.clone())?;
                decided = true;
            }
            (true, true) => waits |= !is_done(home, *id, mine, tx)?,
        }
    }
    if decided || waits {
        return Ok(decided);
    }
    #[cfg(feature = "sabotage")]
    let at = match storage::sabotage::planted("prepared-without-dep") {
        true => storage::Position::ZERO,
        false => cut.position(),
    };
    #[cfg(not(feature = "sabotage"))]
    let at = cut.position();
    tx.follows_from(other, at, 0);
    for (id, mine) in own {
        rest_on(home, &mine, tx)?;
        tx.take_away(home, id, &mine)?;
    }
    tx.take_up(home, holder, false)?;
    let key = answer_key(intent);
    tx.put_hidden(
        home,
        system::outbox(other),
        key,
        Some(Answer::Done.encode()),
    )?;
    Ok(true)
}

/// What removes keys is shown where what the asked ones have done about it is.
pub(super) fn rest_on(
    home: GroupId,
    intent: &rows::Intent,
    tx: &mut Transaction,
) -> Result<(), Stop> {
    for of in &intent.asked {
        let at = tx.cut_for(home, of.group)?.position();
        tx.removes_after(of.group, at);
    }
    Ok(())
}

/// What is said about keys, and fences them unless it is no.
fn say(
    home: GroupId,
    other: GroupId,
    intent: TxId,
    parts: &[Ask],
    found: crate::Result<Found>,
    cx: &mut ExecCx<'_>,
) -> Result<Answer, Stop> {
    let said = match found {
        Ok(Found::Nothing) => Answer::Yes,
        Ok(Found::Changes(kept, mut of)) => {
            let holder = of.own_id(home)?;
            cx.transaction.put_kept(home, kept, *of)?;
            Answer::Prepared(holder)
        }
        Err(error) => return Ok(Answer::No(Box::new(Reason::of(&error)))),
    };
    #[cfg(feature = "sabotage")]
    if storage::sabotage::planted("fence-left-out") {
        return Ok(said);
    }
    let count: usize = parts.iter().map(|part| part.keys.len()).sum();
    let whole = count > KEYS_MAX && said == Answer::Yes && all_empty(home, parts, cx)?;
    let mut keys: BTreeSet<Bytes> = BTreeSet::new();
    for part in parts {
        // One that is gone has gone with all that references it.
        let Some(parent) = cx.catalog.table(part.table) else {
            continue;
        };
        for key in &part.keys {
            let entry = match whole || key.values.is_empty() {
                true => None,
                false => Some(index_entry(parent, key.index, &key.values)?.1),
            };
            keys.insert(fence_key(other, key.index, entry.as_deref(), intent));
        }
    }
    let keys: Vec<Bytes> = keys.into_iter().collect();
    let lists = rows::fence_list(other, intent, &keys);
    let fences = keys.into_iter().map(|key| (key, fenced()));
    for (key, value) in fences.chain(lists) {
        cx.transaction
            .put_hidden(home, system::FENCED, key, Some(value))?;
    }
    Ok(said)
}
