//! What a home has in memory: which intents belong to transactions that are open here, which foreign
//! keys to statements that are under way, and who waits for an answer. A new leader has none of it: what
//! belongs to nobody is taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use storage::{GroupId, Groups, Outcome, Position, TxId};

use super::low_water::LowWater;
use crate::engine::Engine;
use crate::session::signal::Signal;
use crate::transaction::Transaction;

/// What is open on this node.
#[derive(Default)]
pub(crate) struct Open {
    /// With the signal of who waits: set when one more answer is shown here.
    intents: Mutex<BTreeMap<TxId, Signal>>,
    wishes: Mutex<BTreeSet<u32>>,
    /// Transactions whose decision is placed, by their ids: who waits for their end.
    decided: Arc<Mutex<BTreeMap<TxId, Ending>>>,
    /// What is being prepared for an intent of another group, by this one and the other.
    preparing: Mutex<BTreeMap<(GroupId, GroupId, TxId), Preparing>>,
    /// Where looks at rows of other groups and of one's own begin.
    low_water: LowWater,
}

/// The end of a decided transaction.
#[derive(Clone)]
pub(crate) struct Ending {
    home: GroupId,
    signal: Signal,
    /// Where its entry is, once that has its place.
    at: Arc<Mutex<Option<Position>>>,
}

impl Ending {
    /// Is set when its entry is there for good, or lost to this node.
    pub fn signal(&self) -> &Signal {
        &self.signal
    }

    /// Where that is.
    pub fn at(&self) -> Option<(GroupId, Position)> {
        self.at.lock().map(|at| (self.home, at))
    }
}

/// Changes that are being prepared.
pub(super) struct Preparing {
    pub transaction: Box<Transaction>,
    /// When it began, in microseconds since 1970.
    pub since: u64,
}

/// An intent of an open transaction; dropping it gives the intent up.
pub(super) struct OpenIntent {
    engine: Arc<Engine>,
    id: TxId,
    home: GroupId,
    asked: Vec<GroupId>,
}

/// A foreign key that a transaction makes; dropping it gives it up, unless it is in the catalog then.
pub(super) struct OpenWish {
    engine: Arc<Engine>,
    constraint: u32,
    home: GroupId,
    other: GroupId,
}

impl Open {
    pub(super) fn has_intent(&self, id: TxId) -> bool {
        self.intents.lock().contains_key(&id)
    }

    pub(super) fn low_water(&self) -> &LowWater {
        &self.low_water
    }

    pub(super) fn has_wish(&self, constraint: u32) -> bool {
        self.wishes.lock().contains(&constraint)
    }

    /// An answer to the intent is shown here.
    pub(crate) fn answered(&self, intent: TxId) {
        let signal = self.intents.lock().get(&intent).cloned();
        if let Some(signal) = signal {
            signal.set();
        }
    }

    /// The end of a transaction whose decision is about to be placed.
    pub fn await_end(&self, home: GroupId, holder: TxId) -> Ending {
        let ending = Ending {
            home,
            signal: Signal::default(),
            at: Arc::default(),
        };
        self.decided.lock().insert(holder, ending.clone());
        ending
    }

    /// Nobody waits for it.
    pub fn forget_end(&self, holder: TxId) {
        self.decided.lock().remove(&holder);
    }

    /// Its entry has its place.
    pub fn ended(&self, holder: TxId, (group, at): (GroupId, Position), groups: &Groups) {
        let ending = self.decided.lock().get(&holder).cloned();
        let (Some(ending), Some(group)) = (ending, groups.get(group)) else {
            return;
        };
        *ending.at.lock() = Some(at);
        let (all, signal) = (Arc::clone(&self.decided), ending.signal);
        group.when(
            at,
            Box::new(move |outcome| {
                // What is lost goes forward all the same: the next one tells.
                if outcome != Outcome::Lost {
                    all.lock().remove(&holder);
                    signal.finish(outcome);
                }
            }),
        );
    }

    /// What has happened to the decided ones of the group is not known here any more; what was being
    /// prepared is gone.
    pub fn era_ended(&self, group: GroupId) {
        self.low_water.forget(group);
        let gone = self
            .decided
            .lock()
            .extract_if(.., |_, one| one.home == group)
            .collect::<Vec<_>>();
        for (_, ending) in gone {
            ending.signal.finish(Outcome::Unknown);
        }
        let key = |key: &(GroupId, GroupId, TxId)| key.0 == group;
        // It takes its locks along when no lock is held here.
        let preparing = self
            .preparing
            .lock()
            .extract_if(.., |k, _| key(k))
            .collect::<Vec<_>>();
        drop(preparing);
    }

    pub(super) fn take_preparing(
        &self,
        home: GroupId,
        other: GroupId,
        intent: TxId,
    ) -> Option<Preparing> {
        self.preparing.lock().remove(&(home, other, intent))
    }

    pub(super) fn put_preparing(
        &self,
        home: GroupId,
        other: GroupId,
        intent: TxId,
        preparing: Preparing,
    ) {
        self.preparing
            .lock()
            .insert((home, other, intent), preparing);
    }

    /// Drops what is being prepared for intents that are asked for no more.
    pub(super) fn keep_preparing(&self, home: GroupId, other: GroupId, asked: &BTreeSet<TxId>) {
        let gone = |key: &(GroupId, GroupId, TxId)| {
            (key.0, key.1) == (home, other) && !asked.contains(&key.2)
        };
        let gone = self
            .preparing
            .lock()
            .extract_if(.., |key, _| gone(key))
            .collect::<Vec<_>>();
        drop(gone);
    }
}

impl OpenIntent {
    pub fn new(engine: &Arc<Engine>, id: TxId, home: GroupId, asked: Vec<GroupId>) -> OpenIntent {
        engine.opened().intents.lock().insert(id, Signal::default());
        OpenIntent {
            engine: Arc::clone(engine),
            id,
            home,
            asked,
        }
    }

    pub fn id(&self) -> TxId {
        self.id
    }

    /// Is set when an answer comes next. Ask for it before you look.
    pub fn next_answer(&self) -> Signal {
        let mut intents = self.engine.opened().intents.lock();
        let signal = intents.entry(self.id).or_default();
        if signal.is_set() {
            *signal = Signal::default();
        }
        signal.clone()
    }
}

impl OpenWish {
    pub fn new(engine: &Arc<Engine>, constraint: u32, home: GroupId, other: GroupId) -> OpenWish {
        engine.opened().wishes.lock().insert(constraint);
        OpenWish {
            engine: Arc::clone(engine),
            constraint,
            home,
            other,
        }
    }
}

impl Drop for OpenIntent {
    fn drop(&mut self) {
        self.engine.opened().intents.lock().remove(&self.id);
        let pairs = self.asked.iter().map(|other| (self.home, *other));
        self.engine.verdicts().stir(pairs);
    }
}

impl Drop for OpenWish {
    fn drop(&mut self) {
        self.engine.opened().wishes.lock().remove(&self.constraint);
        self.engine.verdicts().stir([(self.home, self.other)]);
    }
}
