//! What a home has in memory: which intents belong to transactions that are open here, which foreign
//! keys to statements that are under way, and who waits for an answer. A new leader has none of it: what
//! belongs to nobody is taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use storage::{GroupId, TxId};

use crate::engine::Engine;
use crate::session::signal::Signal;

/// What is open on this node.
#[derive(Default)]
pub(crate) struct Open {
    /// With the signal of who waits: set when one more answer is shown here.
    intents: Mutex<BTreeMap<TxId, Signal>>,
    wishes: Mutex<BTreeSet<u32>>,
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
