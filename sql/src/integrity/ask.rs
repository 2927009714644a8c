//! A transaction that removes keys which other owners reference. At the end of a statement it places an
//! intent, which asks them, in an entry of its own; the statement waits for what they say and runs again.
//! One no is its error. The transaction's own entry takes the intents away; else they are cancelled.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use storage::{GroupId, TxId, system};

use super::look::AWAY_AFTER;
use super::open::OpenIntent;
use super::rows::{
    Answer, Ask, CHUNK_MAX, Intent, Key, Of, answer_key, ask_key, decided, decision_key, intent_key,
};
use crate::catalog::{IndexKey, Registration, Table, TableId};
use crate::exec::ExecCx;
use crate::transaction::{Identity, Isolation, Kept, Stop, Transaction, Wait};
use crate::types::Datum;
use crate::types::key::encode_key;
use crate::{Error, Result, state};

/// Asks that may follow one from the other.
const DEPTH_MAX: u8 = 16;

/// A row's referenced values that are there no more.
#[derive(Clone)]
pub(crate) struct Gone {
    pub table: Arc<Table>,
    /// Whose foreign key it is.
    pub reference: Registration,
    /// In the order of its columns.
    pub values: Vec<Datum>,
    /// The row stays.
    pub changed: bool,
}

/// What a transaction has asked other owners.
#[derive(Default)]
pub(crate) struct Intents {
    all: Vec<Asked>,
    /// The other owner's intent for which it prepares changes, and of how many asks that is an effect.
    cause: Option<(GroupId, TxId, u8)>,
    /// Removed values of projected rows, about which it has not asked yet.
    gone: Vec<Gone>,
}

/// A moment to go back to.
#[derive(Clone, Default)]
pub(crate) struct IntentsMark {
    used: Vec<Arc<BTreeSet<KeyId>>>,
    gone: usize,
}

struct Asked {
    open: OpenIntent,
    home: GroupId,
    intent: Intent,
    keys: BTreeSet<KeyId>,
    /// All have said yes.
    accepted: bool,
    /// The statement in which it was asked.
    statement: u32,
    /// Those of its keys that the transaction has removed.
    used: Arc<BTreeSet<KeyId>>,
}

/// One key that is asked for: of whom, its index, and the key there; none of all keys.
type KeyId = (GroupId, u32, Option<Vec<u8>>);

/// What is to be asked.
struct Question {
    home: GroupId,
    /// Tables as a whole are emptied.
    all: bool,
    keys: BTreeMap<KeyId, (TableId, Key)>,
}

impl Intents {
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Which of them are needed by now.
    pub fn mark(&self) -> IntentsMark {
        let used = self.all.iter().map(|one| Arc::clone(&one.used));
        IntentsMark {
            used: used.collect(),
            gone: self.gone.len(),
        }
    }

    /// Goes back to a mark: what was asked since is needed no more. Where the statement may run again it
    /// is kept for that.
    pub fn undo_to(&mut self, mark: &IntentsMark, keep: bool) {
        if !keep {
            self.all.truncate(mark.used.len());
        }
        for (at, one) in self.all.iter_mut().enumerate() {
            one.used = mark.used.get(at).cloned().unwrap_or_default();
        }
        self.gone.truncate(mark.gone);
    }

    /// A projected row's values are there no more.
    pub fn push_gone(&mut self, gone: Gone) {
        self.gone.push(gone);
    }

    /// What is to be asked about.
    pub fn take_gone(&mut self) -> Vec<Gone> {
        std::mem::take(&mut self.gone)
    }

    /// Is there something to be asked about?
    pub fn has_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// Gives up what is needed no more.
    ///
    /// # Errors
    /// 40001 if of one only a part is: what others have prepared for it is for all of it.
    fn keep_needed(&mut self) -> Result<()> {
        self.all.retain(|one| one.accepted && !one.used.is_empty());
        match self.all.iter().all(|one| *one.used == one.keys) {
            true => Ok(()),
            false => Err(cancelled()),
        }
    }
}

/// Asks the owners of foreign keys for values that a statement has removed, and that are not there again
/// at its end.
///
/// # Errors
/// `Wait` until they have answered; 23503 if one says no, OW003 if one says nothing.
pub(crate) fn ask(gone: &[Gone], cx: &mut ExecCx<'_>) -> std::result::Result<(), Stop> {
    let mut keys = BTreeMap::new();
    let Some(home) = gone.first().map(|one| one.table.group) else {
        return Ok(());
    };
    for one in gone {
        cx.tick()?;
        let Some((tree, key)) = entry(&one.table, &one.reference, &one.values)? else {
            continue;
        };
        let table = &one.table;
        if cx.transaction.current(table.group, tree, &key)?.is_some() {
            continue;
        }
        let (of, index) = (one.reference.group, one.reference.index);
        let asked = Key {
            index,
            changed: one.changed,
            values: in_index_order(table, &one.reference, &one.values),
        };
        keys.insert((of, index, Some(key)), (table.id, asked));
    }
    cx.transaction.ask(Question {
        home,
        all: false,
        keys,
    })
}

/// The same for all keys of a table at once (TRUNCATE).
///
/// # Errors
/// As [`ask`].
pub(crate) fn ask_all(table: &Arc<Table>, tx: &mut Transaction) -> std::result::Result<(), Stop> {
    let mut keys = BTreeMap::new();
    for reference in &table.registered {
        let (of, index) = (reference.group, reference.index);
        let asked = Key {
            index,
            changed: false,
            values: Vec::new(),
        };
        keys.insert((of, index, None), (table.id, asked));
    }
    tx.ask(Question {
        home: table.group,
        all: true,
        keys,
    })
}

impl Question {
    /// What each is asked, in parts.
    fn into_asks(self, depth: u8) -> BTreeMap<GroupId, Vec<Ask>> {
        let mut keys: BTreeMap<(GroupId, TableId), Vec<Key>> = BTreeMap::new();
        for ((of, ..), (table, key)) in self.keys {
            keys.entry((of, table)).or_default().push(key);
        }
        let all = self.all;
        let mut asks: BTreeMap<GroupId, Vec<Ask>> = BTreeMap::new();
        for ((of, table), keys) in keys {
            let parts = keys.chunks(CHUNK_MAX).map(|keys| Ask {
                table,
                depth,
                all,
                keys: keys.to_vec(),
            });
            asks.entry(of).or_default().extend(parts);
        }
        asks
    }
}

/// Values in the order of the index's columns.
fn in_index_order(table: &Table, reference: &Registration, values: &[Datum]) -> Vec<Datum> {
    let index = table.index(reference.index);
    let columns = index.into_iter().flat_map(|index| &index.columns);
    let value = |what: &IndexKey| {
        let IndexKey::Column(id) = what else {
            return None;
        };
        let at = reference.columns.iter().position(|own| own == id)?;
        values.get(at).cloned()
    };
    columns.filter_map(|column| value(&column.what)).collect()
}

/// Where the index has the values: its tree, and the key.
///
/// # Errors
/// XX000 if it is gone.
fn entry(
    table: &Table,
    reference: &Registration,
    values: &[Datum],
) -> Result<Option<(u32, Vec<u8>)>> {
    match values.iter().any(Datum::is_null) {
        true => Ok(None),
        false => index_entry(
            table,
            reference.index,
            &in_index_order(table, reference, values),
        )
        .map(Some),
    }
}

/// The tree of an index and the key of these values, which are in the order of its columns.
///
/// # Errors
/// XX000 if it is gone or another one.
pub(super) fn index_entry(table: &Table, index: u32, values: &[Datum]) -> Result<(u32, Vec<u8>)> {
    let gone = || Error::internal("the index of a referenced key is gone");
    let index = table.index(index).ok_or_else(gone)?;
    let mut key = Vec::with_capacity(16);
    if index.columns.len() != values.len() {
        return Err(gone());
    }
    for (part, value) in index.columns.iter().zip(values) {
        let IndexKey::Column(id) = part.what else {
            return Err(gone());
        };
        let ty = table.column_by_id(id).ok_or_else(gone)?.ty.plain();
        encode_key(value, ty, part.descending, part.nulls_first, &mut key);
    }
    Ok((index.tree, key))
}

impl Transaction {
    fn ask(&mut self, mut question: Question) -> std::result::Result<(), Stop> {
        let statement = self.statement();
        for asked in &mut self.intents().all {
            if asked.accepted {
                let (keys, used) = (&asked.keys, &mut asked.used);
                question.keys.retain(|key, _| {
                    let asked = keys.contains(key);
                    if asked && !used.contains(key) {
                        Arc::make_mut(used).insert(key.clone());
                    }
                    !asked
                });
            }
        }
        if question.keys.is_empty() {
            return Ok(());
        }
        // What was asked for and is needed no more is given up.
        let pending = |one: &Asked| !one.accepted && one.statement == statement;
        let same = |one: &Asked| one.keys.iter().eq(question.keys.keys());
        self.intents().all.retain(|one| !pending(one) || same(one));
        if let Some(at) = self.intents().all.iter().position(pending) {
            return self.hear(at);
        }
        let asked = self.place(question, statement)?;
        self.intents().all.push(asked);
        let at = self.intents().len() - 1;
        self.hear(at)
    }

    /// What the asked ones say.
    fn hear(&mut self, at: usize) -> std::result::Result<(), Stop> {
        let engine = Arc::clone(self.engine());
        let one = &self.intents().all[at];
        let (id, home, since) = (one.open.id(), one.home, one.intent.since);
        // What comes from here on is not missed.
        let signal = one.open.next_answer();
        let groups: Vec<GroupId> = one.intent.asked.iter().map(|of| of.group).collect();
        let mut seen = Vec::new();
        let mut prepared = Vec::new();
        for other in groups {
            let cut = self.cut_for(home, other)?;
            let answer = match cut.holds(system::outbox(home)) {
                true => cut.get(&engine, system::outbox(home), &answer_key(id))?,
                false => None,
            };
            match answer.map(|bytes| Answer::decode(&bytes)).transpose()? {
                Some(Answer::Yes) => seen.push((other, cut.position())),
                // What it depends on is there when that is done.
                Some(Answer::Prepared(_) | Answer::Done) => prepared.push(other),
                Some(Answer::No(reason)) => {
                    self.intents().all.remove(at);
                    return Err(reason.error().into());
                }
                None => {
                    let until = since.saturating_add(AWAY_AFTER);
                    if engine.clock().unix_micros() < until {
                        return Err(Stop::Wait(Wait::SignalOr(signal, until)));
                    }
                    self.intents().all.remove(at);
                    return Err(silent().into());
                }
            }
        }
        for (other, position) in seen {
            self.removes_after(other, position);
        }
        let one = &mut self.intents().all[at];
        one.accepted = true;
        one.used = Arc::new(one.keys.clone());
        for of in &mut one.intent.asked {
            of.prepared = prepared.contains(&of.group);
        }
        Ok(())
    }

    /// Places an intent and its asks, in an entry of their own.
    fn place(&mut self, question: Question, statement: u32) -> std::result::Result<Asked, Stop> {
        let home = question.home;
        let tables = question.keys.values().map(|(table, _)| *table);
        let table = tables.min().unwrap_or_default();
        let keys: BTreeSet<KeyId> = question.keys.keys().cloned().collect();
        let cause = self.intents().cause;
        let depth = cause.map_or(0, |(_, _, depth)| depth);
        if depth > DEPTH_MAX {
            return Err(too_deep().into());
        }
        let asks = question.into_asks(depth);
        let engine = Arc::clone(self.engine());
        let holder = self.own_id(home)?;
        let mut side = Transaction::new(&engine, Isolation::ReadCommitted, false, false);
        side.set_unattended();
        let id = side.own_id(home)?;
        let of = |(of, asks): (&GroupId, &Vec<Ask>)| Of {
            group: *of,
            chunks: asks.len() as u32,
            prepared: false,
        };
        let intent = Intent {
            since: engine.clock().unix_micros(),
            table,
            holder,
            cause: cause.map(|(group, intent, _)| (group, intent)),
            decided: false,
            asked: asks.iter().map(of).collect(),
        };
        for (of, asks) in &asks {
            for (chunk, ask) in asks.iter().enumerate() {
                let key = ask_key(id, chunk as u32);
                side.put_hidden(home, system::outbox(*of), key, Some(ask.encode()))?;
            }
        }
        side.put_hidden(home, system::INTENTS, intent_key(id), Some(intent.encode()))?;
        // Before anybody can see that it belongs to nobody.
        let groups = intent.asked.iter().map(|of| of.group).collect();
        let open = OpenIntent::new(&engine, id, home, groups);
        side.commit(&Identity::default())?;
        Ok(Asked {
            open,
            home,
            intent,
            keys,
            accepted: false,
            statement,
            used: Arc::default(),
        })
    }

    /// What was asked ends with the transaction's own entry, or, where others have prepared changes,
    /// that is the decision; what was not needed in the end is given up. Called before COMMIT; may be
    /// called again after it had to wait.
    ///
    /// # Errors
    /// 40001 if one has been cancelled; those of [`Transaction::keep`].
    pub(crate) fn end_intents(&mut self) -> std::result::Result<(), Stop> {
        if self.intents().all.is_empty() {
            return Ok(());
        }
        self.intents().keep_needed()?;
        let Some(home) = self.writing() else {
            self.intents().all.clear();
            return Ok(());
        };
        let all = self.intents().all.iter();
        let all = all.map(|one| (one.open.id(), one.intent.clone()));
        let all: Vec<(TxId, Intent)> = all.collect();
        let prepared = |(_, intent): &(TxId, Intent)| intent.asked.iter().any(|of| of.prepared);
        let waits = all.iter().any(prepared);
        for (id, intent) in all {
            if self.has_put(home, system::INTENTS, &intent_key(id))? {
                continue;
            }
            match waits {
                false => self.take_away(home, id, &intent)?,
                true => self.decide(home, id, intent)?,
            }
        }
        if waits {
            self.wait_for_others();
        }
        Ok(())
    }

    /// Takes what was prepared for another owner's intent out of the transaction; what that has asked stays
    /// with it.
    pub(super) fn end_prepared(
        &mut self,
        home: GroupId,
        identity: &Identity,
    ) -> std::result::Result<Kept, Stop> {
        self.intents().keep_needed()?;
        let kept = self.keep(home, identity)?;
        let all = self.intents().all.iter();
        let all = all.map(|one| (one.open.id(), one.intent.clone()));
        let all: Vec<(TxId, Intent)> = all.collect();
        // Who of them has prepared something is told to whoever leads next.
        let rows = all
            .iter()
            .map(|(id, intent)| (system::INTENTS, intent_key(*id), intent.encode()));
        Ok(kept.with(rows))
    }

    /// From here on it goes forward.
    ///
    /// # Errors
    /// 40001 if it has been cancelled.
    pub(super) fn decide(
        &mut self,
        home: GroupId,
        id: TxId,
        intent: Intent,
    ) -> std::result::Result<(), Stop> {
        let old = self.undecided(home, id, &intent)?;
        for of in &intent.asked {
            let tree = system::outbox(of.group);
            self.put_hidden(home, tree, decision_key(id), Some(decided()))?;
        }
        let intent = Intent {
            decided: true,
            ..intent
        };
        let new = Some(intent.encode());
        self.replace_hidden(home, system::INTENTS, intent_key(id), Some(old), new)
    }

    /// Removes an intent and its asks with this transaction.
    ///
    /// # Errors
    /// 40001 if it has been cancelled or decided meanwhile.
    pub(super) fn take_away(
        &mut self,
        home: GroupId,
        id: TxId,
        intent: &Intent,
    ) -> std::result::Result<(), Stop> {
        let old = self.undecided(home, id, intent)?;
        for of in &intent.asked {
            let tree = system::outbox(of.group);
            for chunk in 0..of.chunks {
                self.put_hidden(home, tree, ask_key(id, chunk), None)?;
            }
            if intent.decided {
                self.put_hidden(home, tree, decision_key(id), None)?;
            }
        }
        self.replace_hidden(home, system::INTENTS, intent_key(id), Some(old), None)
    }

    /// The row of an intent, if it is as far as is thought: what becomes of it is written over this one.
    fn undecided(
        &mut self,
        home: GroupId,
        id: TxId,
        intent: &Intent,
    ) -> std::result::Result<bytes::Bytes, Stop> {
        let key = intent_key(id);
        let row = self.newest(home, system::INTENTS, &key)?;
        let row = row.ok_or_else(cancelled)?;
        // However much the transaction writes.
        let seen = self.seen_at(system::INTENTS, &key);
        let only = (Bound::Included(key.clone()), Bound::Included(key));
        self.references().guard(system::INTENTS, only, seen);
        match Intent::decode(&row)?.decided == intent.decided {
            true => Ok(row),
            false => Err(cancelled().into()),
        }
    }
}

impl Intents {
    /// What it does is prepared for another owner's intent.
    pub(super) fn prepare_for(&mut self, group: GroupId, intent: TxId, depth: u8) {
        self.cause = Some((group, intent, depth));
    }
}

/// OW003.
fn silent() -> Error {
    Error::new(
        state::OWNER_UNREACHABLE,
        "an owner whose tables reference the removed keys does not answer",
    )
    .detail(format!(
        "It was asked {} seconds ago.",
        AWAY_AFTER / 1_000_000
    ))
    .hint("Look at freehold.intents and freehold.groups, and try again later.")
}

/// 0A000.
fn too_deep() -> Error {
    Error::unsupported("a removal that goes through so many owners").detail(format!(
        "{DEPTH_MAX} owners have foreign keys one after the other, or in a circle."
    ))
}

/// 40001.
fn cancelled() -> Error {
    Error::new(
        state::SERIALIZATION_FAILURE,
        "could not serialize access: the question whether removed keys are referenced was given up",
    )
    .hint("Run the transaction again.")
}
