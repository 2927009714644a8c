//! One lock: who holds it, who waits for it in which order, and whom a request waits for.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::modes::Modes;
use super::{LockKey, LockMode};
use crate::TxId;

/// Where requests meet: a key, or all rows of a tree (a transaction that has escalated).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Place {
    Key(LockKey),
    Rows(u32),
}

/// A transaction's share in one lock.
pub(super) struct Holder {
    pub tx: TxId,
    pub actor: TxId,
    pub modes: Modes,
}

/// A place in a queue.
pub(super) struct Request {
    pub id: u64,
    pub tx: TxId,
    pub actor: TxId,
    pub mode: LockMode,
    pub waiter: Arc<Waiter>,
}

/// One lock that is held or waited for.
#[derive(Default)]
pub(super) struct Lock {
    pub holders: Vec<Holder>,
    pub queue: VecDeque<Request>,
}

/// The end of a ticket that the table holds.
#[derive(Default)]
pub(super) struct Waiter(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// Some(granted) when the waiting is over.
    done: Option<bool>,
    ready: Option<Wake>,
}

/// To be called when no lock is held.
pub(crate) type Wake = Box<dyn FnOnce() + Send>;

impl Waiter {
    pub fn done(&self) -> Option<bool> {
        self.0.lock().done
    }

    /// Keeps `ready` for later, or hands it back if the waiting is over.
    pub fn on_ready(&self, ready: Wake) -> Option<Wake> {
        let mut waiting = self.0.lock();
        if waiting.done.is_some() {
            return Some(ready);
        }
        waiting.ready = Some(ready);
        None
    }

    pub fn finish(&self, granted: bool, wakes: &mut Vec<Wake>) {
        let mut waiting = self.0.lock();
        waiting.done = Some(granted);
        wakes.extend(waiting.ready.take());
    }
}

impl Lock {
    /// What others than `actor` hold.
    pub fn held_by_others(&self, actor: TxId) -> Modes {
        let others = self.holders.iter().filter(|holder| holder.actor != actor);
        others.fold(0, |modes, holder| modes | holder.modes)
    }

    pub fn held_by_actor(&self, actor: TxId) -> Modes {
        let own = self.holders.iter().filter(|holder| holder.actor == actor);
        own.fold(0, |modes, holder| modes | holder.modes)
    }

    pub fn held_by(&self, tx: TxId) -> Modes {
        self.holders
            .iter()
            .find(|holder| holder.tx == tx)
            .map_or(0, |holder| holder.modes)
    }

    pub fn hold(&mut self, tx: TxId, actor: TxId, mode: LockMode) {
        match self.holders.iter_mut().find(|holder| holder.tx == tx) {
            Some(holder) => holder.modes |= mode.bit(),
            None => self.holders.push(Holder {
                tx,
                actor,
                modes: mode.bit(),
            }),
        }
    }

    pub fn let_go(&mut self, tx: TxId, modes: Modes) {
        if let Some(at) = self.holders.iter().position(|holder| holder.tx == tx) {
            self.holders[at].modes &= !modes;
            if self.holders[at].modes == 0 {
                self.holders.swap_remove(at);
            }
        }
    }

    /// Where in the queue a request belongs: behind all, but before the first waiter that is
    /// kept waiting by what the requester holds already (an upgrade would deadlock behind it).
    pub fn entry(&self, actor: TxId) -> usize {
        let held = self.held_by_actor(actor);
        let blocked = |request: &Request| request.mode.conflicts() & held != 0;
        self.queue
            .iter()
            .position(blocked)
            .unwrap_or(self.queue.len())
    }

    /// Could the request be granted now if it stood at `at` in the queue?
    pub fn is_free(&self, actor: TxId, mode: LockMode, at: usize) -> bool {
        let conflicts = mode.conflicts();
        let mut ahead = self.queue.iter().take(at);
        conflicts & self.held_by_others(actor) == 0
            && !ahead.any(|other| other.actor != actor && conflicts & other.mode.bit() != 0)
    }

    /// The actors for which the request `id` waits, but for those that one of these waits for
    /// here just as well: behind an exclusive request the rest of the queue is its affair.
    pub fn blockers(&self, place: &Place, id: u64) -> Vec<TxId> {
        let Some(at) = self.queue.iter().position(|request| request.id == id) else {
            return Vec::new();
        };
        let request = &self.queue[at];
        let conflicts = request.mode.conflicts();
        let mut actors = Vec::new();
        let ahead = match place {
            Place::Key(_) => at,
            // Who waits for a whole tree has no order among themselves.
            Place::Rows(_) => 0,
        };
        for ahead in self.queue.iter().take(ahead).rev() {
            if ahead.actor != request.actor && conflicts & ahead.mode.bit() != 0 {
                actors.push(ahead.actor);
                if ahead.mode.is_exclusive() {
                    return actors;
                }
            }
        }
        let holders = self
            .holders
            .iter()
            .filter(|holder| conflicts & holder.modes != 0);
        let others = holders
            .map(|holder| holder.actor)
            .filter(|actor| *actor != request.actor);
        actors.extend(others);
        actors
    }
}
