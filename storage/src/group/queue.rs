//! What the writer of a group knows behind its mutex: the state of its era, the entries that are
//! proposed and not decided, and who waits for their outcomes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use journal::{Position, Term};

use super::{Outcome, WaiterId};
use crate::TxId;
use crate::locks::Wake;

/// Ranges of lost positions that are remembered; more than this never matter in practice, for
/// each is one change of leadership or refusal.
const LOST_MAX: usize = 1024;

/// An entry that is proposed and not yet decided.
pub(super) struct Pending {
    pub prev: Position,
    pub position: Position,
    pub epoch: Term,
    pub txid: TxId,
    pub bytes: usize,
    /// Certainly not in the log.
    pub refused: bool,
}

type Done = Box<dyn FnOnce(Outcome) + Send>;

/// Who is to be called when no lock is held.
#[derive(Default)]
pub(super) struct Calls {
    outcomes: Vec<(Done, Outcome)>,
    wakes: Vec<Wake>,
}

impl Calls {
    /// Calls them.
    pub fn call(self) {
        self.outcomes
            .into_iter()
            .for_each(|(done, outcome)| done(outcome));
        self.wakes.into_iter().for_each(|wake| wake());
    }
}

/// How far the parts of a large transaction have come.
#[derive(Default)]
pub(super) struct PartsProgress {
    pub sent: u32,
    pub applied: u32,
    pub refused: bool,
}

/// The writer's state, behind its mutex.
#[derive(Default)]
pub(super) struct Writer {
    pub term: Option<Term>,
    /// The greatest position seen, lost ones included.
    pub last: Position,
    /// The newest entry of the chain.
    pub prev: Position,
    /// The greatest position of the eras before this one.
    pub discarded: Position,
    /// The first entry of this era is placed.
    pub opened: bool,
    /// A proposal was refused: nothing is placed until nothing is in flight.
    pub mending: bool,
    /// The newest entry that must be applied before anyone reads behind it.
    pub barrier: Position,
    pub pending: VecDeque<Pending>,
    pub pending_bytes: usize,
    waiters: BTreeMap<(Position, u64), Done>,
    next_waiter: u64,
    /// Up to here nobody waits for what is in doubt: they were told so, or are when they ask.
    given_up: Position,
    /// Positions (from, to] that never committed; ascending.
    lost: VecDeque<(Position, Position)>,
    /// Positions (from, to] of this node of which a snapshot does not tell what became; ascending.
    unknown: VecDeque<(Position, Position)>,
    pub parts: HashMap<TxId, PartsProgress>,
    /// Large transactions of this term that have failed: each entry says so until one that does
    /// is applied.
    pub abandoned: BTreeSet<TxId>,
    /// Who waited for a lock of an era that is over; called with the next outcomes.
    pub wakes: Vec<Wake>,
}

impl Writer {
    /// Positions begin above `last`.
    pub fn above(last: Position) -> Writer {
        Writer {
            last,
            ..Writer::default()
        }
    }

    /// Is an entry up to the position visible, but not yet taken off the queue? Whoever hears
    /// of it earlier would find the group not closed up to there.
    pub fn holds(&self, position: Position) -> bool {
        self.pending
            .front()
            .is_some_and(|first| first.position <= position)
    }

    pub fn is_lost(&self, position: Position) -> bool {
        is_in(&self.lost, position)
    }

    pub fn is_unknown(&self, position: Position) -> bool {
        is_in(&self.unknown, position)
    }

    /// Takes the pending entries up to a position out of the queue, decided nobody knows how.
    pub fn forget_front(&mut self, upto: Position) {
        while let Some(entry) = self.pending.pop_front_if(|entry| entry.position <= upto) {
            self.pending_bytes -= entry.bytes;
            if entry.refused {
                self.lose(entry.prev, entry.position);
                continue;
            }
            match self.unknown.back_mut() {
                Some((_, end)) if *end >= entry.prev => *end = entry.position,
                _ => self.unknown.push_back((entry.prev, entry.position)),
            }
            if self.unknown.len() > LOST_MAX {
                self.unknown.pop_front();
            }
        }
    }

    /// Were those who waited for it told that its outcome is not known?
    pub fn is_given_up(&self, position: Position) -> bool {
        position <= self.given_up
    }

    pub fn lose(&mut self, from: Position, to: Position) {
        match self.lost.back_mut() {
            Some((_, end)) if *end >= from => *end = to.max(*end),
            _ => self.lost.push_back((from, to)),
        }
        if self.lost.len() > LOST_MAX {
            self.lost.pop_front();
        }
    }

    /// Takes the pending entries that `gone` names as lost out of the queue's front.
    pub fn lose_front(&mut self, gone: impl Fn(&Pending) -> bool) -> bool {
        let mut any = false;
        while let Some(entry) = self.pending.pop_front_if(|entry| gone(entry)) {
            self.pending_bytes -= entry.bytes;
            self.lose(entry.prev, entry.position);
            any = true;
        }
        any
    }

    /// Takes the entry at `position` out of the queue's front. True if that is the loss of a
    /// proposal of this node.
    pub fn decide(&mut self, position: Position, applied: bool) -> bool {
        let decided = self
            .pending
            .pop_front_if(|entry| entry.position == position);
        let Some(entry) = decided else { return false };
        self.pending_bytes -= entry.bytes;
        if !applied {
            self.lose(entry.prev, entry.position);
        }
        !applied
    }

    pub fn wait(&mut self, position: Position, done: Done) -> WaiterId {
        self.next_waiter += 1;
        self.waiters.insert((position, self.next_waiter), done);
        WaiterId(position, self.next_waiter)
    }

    pub fn forget(&mut self, waiter: WaiterId) {
        self.waiters.remove(&(waiter.0, waiter.1));
    }

    /// The waiters whose outcome is known, given what is applied.
    pub fn settle(&mut self, applied: Position) -> Calls {
        let mut calls = Calls {
            outcomes: Vec::new(),
            wakes: std::mem::take(&mut self.wakes),
        };
        let lost_to = self.lost.back().map_or(Position::ZERO, |(_, to)| *to);
        let mut later = Vec::new();
        while let Some(first) = self.waiters.first_entry()
            && first.key().0 <= applied.max(lost_to)
        {
            let (key, done) = first.remove_entry();
            if self.is_lost(key.0) {
                calls.outcomes.push((done, Outcome::Lost));
            } else if self.is_unknown(key.0) {
                calls.outcomes.push((done, Outcome::Unknown));
            } else if key.0 <= applied {
                calls.outcomes.push((done, Outcome::Applied));
            } else {
                later.push((key, done));
            }
        }
        self.waiters.extend(later);
        calls
    }

    /// Answers `Unknown` to those who wait for what is in doubt.
    pub fn abandon(&mut self) -> Calls {
        let top = self
            .pending
            .back()
            .map_or(Position::ZERO, |entry| entry.position);
        self.given_up = top.max(self.given_up);
        let mut calls = Calls::default();
        while let Some(first) = self.waiters.first_entry()
            && first.key().0 <= top
        {
            #[cfg(feature = "sabotage")]
            if journal::sabotage::planted("pending-answered-as-failed") {
                calls.outcomes.push((first.remove(), Outcome::Lost));
                continue;
            }
            calls.outcomes.push((first.remove(), Outcome::Unknown));
        }
        calls
    }
}

/// Is a position in one of these ascending ranges (from, to]?
fn is_in(ranges: &VecDeque<(Position, Position)>, position: Position) -> bool {
    let at = ranges.partition_point(|(_, to)| *to < position);
    ranges.get(at).is_some_and(|(from, _)| *from < position)
}
