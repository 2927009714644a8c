//! A transaction that removes keys which other owners reference. At the end of a statement it places an
//! intent, which asks them, in an entry of its own; the statement waits for what they say and runs again.
//! One no is its error. The transaction's own entry takes the intents away; else they are cancelled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use storage::{GroupId, TxId, system};

use super::look::AWAY_AFTER;
use super::open::OpenIntent;
use super::rows::{Answer, Ask, CHUNK_MAX, Intent, Key, answer_key, ask_key, intent_key};
use crate::catalog::{IndexKey, Registration, Table, TableId};
use crate::exec::ExecCx;
use crate::transaction::{Identity, Isolation, Stop, Transaction, Wait};
use crate::types::Datum;
use crate::types::key::encode_key;
use crate::{Error, Result, state};

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
pub(crate) struct Intents(Vec<Asked>);

struct Asked {
    open: OpenIntent,
    home: GroupId,
    intent: Intent,
    keys: BTreeSet<KeyId>,
    /// All have said yes.
    accepted: bool,
    /// The statement in which it was asked, and whether that has needed it when it ran to its end.
    statement: u32,
    used: bool,
}

/// One key that is asked for: of whom, its index, and the key there; none of all keys.
type KeyId = (GroupId, u32, Option<Vec<u8>>);

/// What is to be asked.
struct Question {
    home: GroupId,
    table: TableId,
    /// The table as a whole is emptied.
    all: bool,
    keys: BTreeMap<KeyId, Key>,
}

impl Intents {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Gives up what was asked since there were so many.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// The statement begins once more.
    pub fn restart(&mut self, statement: u32) {
        let own = self.0.iter_mut().filter(|one| one.statement == statement);
        own.for_each(|one| one.used = false);
    }
}

/// Asks the owners of foreign keys for values that a statement has removed, and that are not there again
/// at its end.
///
/// # Errors
/// `Wait` until they have answered; 23503 if one says no, OW003 if one says nothing.
pub(crate) fn ask(gone: &[Gone], cx: &mut ExecCx<'_>) -> std::result::Result<(), Stop> {
    let mut questions: BTreeMap<TableId, Question> = BTreeMap::new();
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
        let question = question(&mut questions, table, false);
        question.keys.insert((of, index, Some(key)), asked);
    }
    let mut questions = questions.into_values();
    questions.try_for_each(|question| cx.transaction.ask(question))
}

/// The same for all keys of a table at once (TRUNCATE).
///
/// # Errors
/// As [`ask`].
pub(crate) fn ask_all(table: &Arc<Table>, tx: &mut Transaction) -> std::result::Result<(), Stop> {
    let mut questions = BTreeMap::new();
    for reference in table.asked() {
        let (of, index) = (reference.group, reference.index);
        let asked = Key {
            index,
            changed: false,
            values: Vec::new(),
        };
        let question = question(&mut questions, table, true);
        question.keys.insert((of, index, None), asked);
    }
    let mut questions = questions.into_values();
    questions.try_for_each(|question| tx.ask(question))
}

fn question<'a>(
    questions: &'a mut BTreeMap<TableId, Question>,
    table: &Table,
    all: bool,
) -> &'a mut Question {
    questions.entry(table.id).or_insert_with(|| Question {
        home: table.group,
        table: table.id,
        all,
        keys: BTreeMap::new(),
    })
}

impl Question {
    /// What each is asked, in parts.
    fn into_asks(self) -> BTreeMap<GroupId, Vec<Ask>> {
        let mut keys: BTreeMap<GroupId, Vec<Key>> = BTreeMap::new();
        for ((of, ..), key) in self.keys {
            keys.entry(of).or_default().push(key);
        }
        let (table, all) = (self.table, self.all);
        let part = |keys: &[Key]| Ask {
            table,
            all,
            keys: keys.to_vec(),
        };
        let parts = |keys: Vec<Key>| keys.chunks(CHUNK_MAX).map(part).collect();
        keys.into_iter().map(|(of, keys)| (of, parts(keys))).collect()
    }
}

/// Values in the order of the index's columns.
fn in_index_order(table: &Table, reference: &Registration, values: &[Datum]) -> Vec<Datum> {
    let index = table.index(reference.index);
    let columns = index.into_iter().flat_map(|index| &index.columns);
    let value = |what: &IndexKey| {
        let IndexKey::Column(id) = what else { return None };
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
        false => index_entry(table, reference.index, &in_index_order(table, reference, values)).map(Some),
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
        for asked in &mut self.intents().0 {
            if asked.accepted && asked.intent.table == question.table {
                let before = question.keys.len();
                question.keys.retain(|key, _| !asked.keys.contains(key));
                asked.used |= before != question.keys.len();
            }
        }
        if question.keys.is_empty() {
            return Ok(());
        }
        // What was asked for and is needed no more is given up.
        let pending = |one: &Asked| !one.accepted && one.statement == statement;
        let same = |one: &Asked| one.keys.iter().eq(question.keys.keys());
        self.intents().0.retain(|one| !pending(one) || same(one));
        if let Some(at) = self.intents().0.iter().position(pending) {
            return self.hear(at);
        }
        let asked = self.place(question, statement)?;
        self.intents().0.push(asked);
        let at = self.intents().len() - 1;
        self.hear(at)
    }

    /// What the asked ones say.
    fn hear(&mut self, at: usize) -> std::result::Result<(), Stop> {
        let engine = Arc::clone(self.engine());
        let one = &self.intents().0[at];
        let (id, home, since) = (one.open.id(), one.home, one.intent.since);
        // What comes from here on is not missed.
        let signal = one.open.next_answer();
        let groups: Vec<GroupId> = one.intent.asked.iter().map(|(group, _)| *group).collect();
        let mut seen = Vec::new();
        for other in groups {
            let cut = self.cut_for(home, other)?;
            let answer = match cut.holds(system::outbox(home)) {
                true => cut.get(&engine, system::outbox(home), &answer_key(id))?,
                false => None,
            };
            match answer.map(|bytes| Answer::decode(&bytes)).transpose()? {
                Some(Answer::Yes) => seen.push((other, cut.position())),
                Some(Answer::No(reason)) => {
                    self.intents().0.remove(at);
                    return Err(reason.error().into());
                }
                None => {
                    let until = since.saturating_add(AWAY_AFTER);
                    if engine.clock().unix_micros() < until {
                        return Err(Stop::Wait(Wait::SignalOr(signal, until)));
                    }
                    self.intents().0.remove(at);
                    return Err(silent().into());
                }
            }
        }
        #[cfg(feature = "sabotage")]
        if storage::sabotage::planted("removal-without-dep") {
            seen.clear();
        }
        for (other, position) in seen {
            self.follows_from(other, position, 0);
        }
        let one = &mut self.intents().0[at];
        (one.accepted, one.used) = (true, true);
        Ok(())
    }

    /// Places an intent and its asks, in an entry of their own.
    fn place(
        &mut self,
        question: Question,
        statement: u32,
    ) -> std::result::Result<Asked, Stop> {
        let (home, table) = (question.home, question.table);
        let keys: BTreeSet<KeyId> = question.keys.keys().cloned().collect();
        let asks = question.into_asks();
        let engine = Arc::clone(self.engine());
        let holder = self.own_id(home)?;
        let mut side = Transaction::new(&engine, Isolation::ReadCommitted, false, false);
        side.set_unattended();
        let id = side.own_id(home)?;
        let count = |(of, asks): (&GroupId, &Vec<Ask>)| (*of, asks.len() as u32);
        let intent = Intent {
            since: engine.clock().unix_micros(),
            table,
            holder,
            asked: asks.iter().map(count).collect(),
        };
        for (of, asks) in &asks {
            for (chunk, ask) in asks.iter().enumerate() {
                let key = ask_key(id, chunk as u32);
                side.put_hidden(home, system::outbox(*of), key, Some(ask.encode()))?;
            }
        }
        side.put_hidden(home, system::INTENTS, intent_key(id), Some(intent.encode()))?;
        // Before anybody can see that it belongs to nobody.
        let groups = intent.asked.iter().map(|(of, _)| *of).collect();
        let open = OpenIntent::new(&engine, id, home, groups);
        side.commit(&Identity::default())?;
        Ok(Asked {
            open,
            home,
            intent,
            keys,
            accepted: false,
            statement,
            used: false,
        })
    }

    /// What was asked ends with the transaction's own entry; what was not needed in the end is given
    /// up. Called before COMMIT; may be called again after it had to wait.
    ///
    /// # Errors
    /// 40001 if one has been cancelled.
    pub(crate) fn end_intents(&mut self) -> std::result::Result<(), Stop> {
        if self.intents().0.is_empty() {
            return Ok(());
        }
        self.intents().0.retain(|one| one.used && one.accepted);
        let all = self.intents().0.iter();
        let all = all.map(|one| (one.open.id(), one.home, one.intent.asked.clone()));
        let all: Vec<(TxId, GroupId, Vec<(GroupId, u32)>)> = all.collect();
        for (id, home, asked) in all {
            let key = intent_key(id);
            if self.has_put(home, system::INTENTS, &key)? {
                continue;
            }
            if self.newest(home, system::INTENTS, &key)?.is_none() {
                return Err(cancelled().into());
            }
            self.take_away(home, id, &asked)?;
        }
        Ok(())
    }

    /// Removes an intent and its asks with this transaction.
    pub(super) fn take_away(
        &mut self,
        home: GroupId,
        id: TxId,
        asked: &[(GroupId, u32)],
    ) -> std::result::Result<(), Stop> {
        for (of, chunks) in asked {
            for chunk in 0..*chunks {
                self.put_hidden(home, system::outbox(*of), ask_key(id, chunk), None)?;
            }
        }
        self.put_hidden(home, system::INTENTS, intent_key(id), None)
    }
}

/// OW003.
fn silent() -> Error {
    Error::new(
        state::OWNER_UNREACHABLE,
        "an owner whose tables reference the removed keys does not answer",
    )
    .detail(format!("It was asked {} seconds ago.", AWAY_AFTER / 1_000_000))
    .hint("Look at freehold.intents and freehold.groups, and try again later.")
}

/// 40001.
fn cancelled() -> Error {
    Error::new(
        state::SERIALIZATION_FAILURE,
        "could not serialize access: the question whether removed keys are referenced was given up",
    )
    .hint("Run the transaction again.")
}
