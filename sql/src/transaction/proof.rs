//! Proof that what was read at this node was the newest: its leader was still the leader. A replica
//! that alone votes needs none; what is led elsewhere is read as this node has it and proves nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use storage::{GroupId, Outcome, Position, Term, TxId};

use super::{Stop, Transaction, Wait, leader_changed};
use crate::engine::Engine;
use crate::session::signal::Signal;

/// One group's barrier, under way or passed.
struct Barrier {
    group: GroupId,
    over: Signal,
    /// Everything acknowledged before it began is applied up to there.
    passed: Arc<OnceLock<Position>>,
}

/// How a barrier stands.
pub(crate) enum Proven {
    /// Passed: what is at or above the position is new enough.
    From(Position),
    /// Under way.
    Later(Signal),
    /// This node could not prove that it leads.
    Not,
}

/// The barriers of one statement, or of one COMMIT.
#[derive(Default)]
pub(crate) struct Barriers(Vec<Barrier>);

impl Barriers {
    /// Begins anew.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// How the group's barrier stands; it begins if there is none.
    pub fn of(&mut self, engine: &Engine, group: GroupId) -> Proven {
        let at = match self.0.iter().position(|barrier| barrier.group == group) {
            Some(at) => at,
            None => {
                self.begin(engine, group);
                self.0.len() - 1
            }
        };
        let Barrier { over, passed, .. } = &self.0[at];
        match (passed.get(), over.is_set()) {
            (Some(position), _) => Proven::From(*position),
            (None, false) => Proven::Later(over.clone()),
            (None, true) => {
                self.0.remove(at);
                Proven::Not
            }
        }
    }

    fn begin(&mut self, engine: &Engine, group: GroupId) {
        let (over, passed) = (Signal::default(), Arc::new(OnceLock::new()));
        let (told, tells) = (over.clone(), Arc::clone(&passed));
        let done = move |result: crate::Result<Position>| {
            let outcome = match result {
                Ok(position) => {
                    let _ = tells.set(position);
                    Outcome::Applied
                }
                Err(_) => Outcome::Lost,
            };
            told.finish(outcome);
        };
        engine.cluster().barrier(group, Box::new(done));
        self.0.push(Barrier {
            group,
            over,
            passed,
        });
    }
}

/// Whether transactions of other nodes may still commit, as these say: of each that a statement has
/// asked for, until it ends.
#[derive(Default)]
pub(crate) struct Questions(BTreeMap<(u32, TxId), Question>);

struct Question {
    over: Signal,
    answer: Arc<OnceLock<bool>>,
    taken: bool,
}

/// How one stands.
pub(crate) enum Answered {
    /// It may, or not. `first`: this is told for the first time, so that what was proven by a
    /// barrier before says nothing of it.
    Undecided { undecided: bool, first: bool },
    /// Await this.
    Later(Signal),
    /// The node does not say.
    Not,
}

impl Questions {
    /// Begins anew.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Asks, unless it has been asked.
    pub fn of(&mut self, engine: &Engine, node: u32, id: TxId) -> Answered {
        let asked = self.0.entry((node, id)).or_insert_with(|| {
            let (over, answer) = (Signal::default(), Arc::new(OnceLock::new()));
            let (told, tells) = (over.clone(), Arc::clone(&answer));
            let done = move |result: crate::Result<bool>| {
                if let Ok(undecided) = result {
                    let _ = tells.set(undecided);
                }
                told.finish(Outcome::Applied);
            };
            engine.cluster().ask_undecided(node, id, Box::new(done));
            Question {
                over,
                answer,
                taken: false,
            }
        });
        match (asked.answer.get(), asked.over.is_set()) {
            (Some(undecided), _) => Answered::Undecided {
                undecided: *undecided,
                first: !std::mem::replace(&mut asked.taken, true),
            },
            (None, false) => Answered::Later(asked.over.clone()),
            (None, true) => {
                self.0.remove(&(node, id));
                Answered::Not
            }
        }
    }
}

/// What a transaction has read that is to be proven when it ends.
#[derive(Default)]
pub(super) struct Unproven {
    /// The terms in which it was read.
    groups: BTreeMap<GroupId, Term>,
    /// Of all groups of the snapshot that others may lead, the term in which this node led them
    /// when it was taken.
    kept: BTreeMap<GroupId, Option<Term>>,
    barriers: Barriers,
}

impl Transaction {
    /// Is there a group in the snapshot that others may lead?
    pub fn is_unsure(&self) -> bool {
        self.snapshot.iter().any(|(_, at)| !at.group.is_sole())
    }

    /// Those groups, and the term in which this node leads each.
    pub fn unsure(&self) -> Vec<(GroupId, Option<Term>)> {
        let unsure = self.snapshot.iter().filter(|(_, at)| !at.group.is_sole());
        unsure.map(|(id, at)| (id, at.group.term())).collect()
    }

    /// Does a statement that writes these groups only read, so that nothing it does will prove it
    /// later?
    pub fn only_reads(&self, writes: Option<GroupId>) -> bool {
        self.read_only || (!self.block && writes.is_none() && self.writing.is_none())
    }

    /// The snapshot was taken when this node led groups in these terms.
    pub fn keep_terms(&mut self, unsure: &[(GroupId, Option<Term>)]) {
        self.unproven.kept = unsure.iter().copied().collect();
    }

    /// The term in which this node led a group when the snapshot was taken. `None`: no proof is
    /// asked for.
    pub fn kept_term(&self, group: GroupId) -> Option<Option<Term>> {
        self.unproven.kept.get(&group).copied()
    }

    /// What was read of the group in this term is proven at the end: by the transaction's entry, or
    /// by a barrier at COMMIT.
    pub fn prove_later(&mut self, group: GroupId, term: Term) {
        self.unproven.groups.entry(group).or_insert(term);
    }

    /// The statement begins again: its snapshot is not used.
    pub fn take_back_snapshot(&mut self) {
        self.snapshot = super::Snapshot::default();
        self.statements -= u32::from(std::mem::take(&mut self.begun));
    }

    /// What was read until now was the newest and will stay.
    ///
    /// # Errors
    /// `Wait` while it is being proven; 40001 if it can't be.
    pub fn prove_reads(&mut self) -> Result<(), Stop> {
        if let Some((id, at)) = self.held().into_iter().next() {
            let stands = self.engine.groups().get(id).is_some_and(|g| g.alive(at));
            return Err(match stands {
                true => Stop::Wait(Wait::Position(id, at)),
                false => Stop::Error(leader_changed()),
            });
        }
        self.prove_leaders()
    }

    /// This node has led the groups that were read.
    ///
    /// # Errors
    /// As [`Transaction::prove_reads`].
    pub(super) fn prove_leaders(&mut self) -> Result<(), Stop> {
        let engine = Arc::clone(&self.engine);
        let mut waits = None;
        for (group, term) in &self.unproven.groups {
            let proven = self.unproven.barriers.of(&engine, *group);
            // Looked at behind the barrier: who leads again, leads in another term.
            let held = engine.groups().get(*group);
            if held.and_then(|group| group.term()) != Some(*term) {
                return Err(Stop::Error(leader_changed()));
            }
            match proven {
                Proven::From(_) => {}
                Proven::Later(signal) => waits = Some(signal),
                Proven::Not => return Err(Stop::Error(leader_changed())),
            }
        }
        match waits {
            Some(signal) => Err(Stop::Wait(Wait::Signal(signal))),
            None => Ok(()),
        }
    }
}
