//! The session in which a node that leads a group takes what another group has sent to it, and
//! removes what was taken of its own. No client is behind it; what it waits for its caller awaits.

use std::collections::VecDeque;
use std::sync::Arc;

use storage::GroupId;

use super::finish::{Chain, Holding};
use super::job::Job;
use super::output::{Field, Output};
use super::step::Waiting;
use super::{Session, User};
use crate::engine::Engine;
use crate::outbox::{Accepting, Step};
use crate::settings::{Place, Values};
use crate::transaction::{Isolation, Locks, Mark, Stop, Wait, leader_changed};
use crate::{Error, Result, state};

/// Attempts without a wait between them before it says so.
const ATTEMPTS_MAX: u32 = 16;
/// It is called again after this time even if what it waits for did not come, in microseconds.
const AGAIN_AFTER: u64 = 1_000_000;

/// What came of a call.
#[derive(Debug)]
pub enum Taking {
    /// There was nothing to do.
    Nothing,
    /// An entry has its place. What became of it [`Courier::settle`] tells.
    Placed,
    /// Await this, and call again.
    Wait(Waiting),
}

/// Looks after what two groups send each other, for the one that is led here.
pub struct Courier {
    session: Session,
    step: Step,
    job: Job,
    /// Entries that are not known to be there for good.
    placed: VecDeque<Holding>,
    home: GroupId,
    other: GroupId,
    attempts: u32,
}

impl Engine {
    /// A courier for a group that is led here.
    ///
    /// # Errors
    /// 40001 if the group has no owner or this node does not lead it.
    pub fn courier(self: &Arc<Engine>, home: GroupId, other: GroupId) -> Result<Courier> {
        let catalog = self.catalog();
        let role = catalog.owner_of_group(home).and_then(|id| catalog.role(id));
        let role = role
            .filter(|_| self.leads(home))
            .ok_or_else(leader_changed)?;
        let user = User::new(role.id, &role.name);
        let client = ("", -1, 0);
        let mut values = Values::default();
        let name = ["freehold courier".to_owned()];
        values.set("application_name", Some(&name), Place::Initial, true)?;
        let session = self.begin(user, role.name.as_str().into(), values, client, usize::MAX)?;
        Ok(Courier {
            session,
            step: Step::default(),
            job: Job::idle(self.clock().unix_micros()),
            placed: VecDeque::new(),
            home,
            other,
            attempts: 0,
        })
    }
}

impl Courier {
    /// Takes what comes next of what the other group has sent.
    ///
    /// # Errors
    /// What speaks against it now: call again later. 40001 if this node leads no more.
    pub fn take(&mut self) -> Result<Taking> {
        let (home, other) = (self.home, self.other);
        self.run(&mut |session, step, job| session.take_sent(home, other, step, job))
    }

    /// Removes what the other group has taken.
    ///
    /// # Errors
    /// As [`Courier::take`].
    pub fn clear(&mut self) -> Result<Taking> {
        let (home, other) = (self.home, self.other);
        self.run(&mut |session, _, _| {
            let tx = session.transaction.as_mut().expect("one is open");
            crate::outbox::clear(home, other, tx)
        })
    }

    /// Entries that are not known to be there for good.
    pub fn placed(&self) -> usize {
        self.placed.len()
    }

    /// Awaits the oldest entry; `None`: there is none any more.
    ///
    /// # Errors
    /// It is lost, or not known to be there: begin with a new courier.
    pub fn settle(&mut self) -> Result<Option<Waiting>> {
        while let Some(mut holding) = self.placed.pop_front() {
            if let Some(waiting) = self.session.await_holding(&mut holding)? {
                self.placed.push_front(holding);
                return Ok(Some(waiting));
            }
        }
        Ok(None)
    }

    fn run(
        &mut self,
        what: &mut dyn FnMut(&mut Session, &mut Step, &Job) -> std::result::Result<bool, Stop>,
    ) -> Result<Taking> {
        loop {
            let attempt = self.attempt(what);
            let wait = match attempt {
                Ok(taking) => {
                    self.step = Step::default();
                    self.attempts = 0;
                    return Ok(taking);
                }
                Err(Stop::Error(error)) => {
                    self.give_up();
                    return Err(error);
                }
                Err(Stop::Wait(wait) | Stop::Pause(wait)) => wait,
            };
            if let Wait::Again = wait {
                self.attempts += 1;
                if !self.attempts.is_multiple_of(ATTEMPTS_MAX) {
                    continue;
                }
            }
            let waiting = self.session.waiting_here(wait).inspect_err(|_| {
                // What it has locked others wait for.
                drop(self.session.rollback(Chain::No));
            })?;
            let now = self.session.engine.clock().unix_micros();
            return Ok(Taking::Wait(waiting.or_at(Some(now + AGAIN_AFTER))));
        }
    }

    fn give_up(&mut self) {
        drop(self.session.rollback(Chain::No));
        self.step = Step::default();
        self.attempts = 0;
    }

    fn attempt(
        &mut self,
        what: &mut dyn FnMut(&mut Session, &mut Step, &Job) -> std::result::Result<bool, Stop>,
    ) -> std::result::Result<Taking, Stop> {
        let (session, home) = (&mut self.session, self.home);
        session.activity.check_interrupt()?;
        if !session.engine.leads(home) {
            return Err(leader_changed().into());
        }
        let begins = session.transaction.is_none();
        if begins {
            session.open_transaction(Isolation::ReadCommitted, false, false);
            session.effects.borrow_mut().begin();
            self.job = Job::idle(session.engine.clock().unix_micros());
        } else {
            session.effects.borrow_mut().restart();
        }
        session.fresh_catalog();
        let mark = session.mark_statement();
        let done = session.one(home, self.other, &mut self.step, &self.job, what);
        match done {
            Ok(true) => {}
            Ok(false) => {
                drop(session.rollback(Chain::No));
                return Ok(Taking::Nothing);
            }
            Err(stop) => {
                session.undo(Some(mark))?;
                return Err(stop);
            }
        }
        Arc::make_mut(&mut session.effective)
            .trace
            .clone_from(&self.step.trace);
        match session.commit(Chain::No) {
            Ok(holding) => {
                self.placed.push_back(holding.without_verdicts());
                Ok(Taking::Placed)
            }
            Err(stop) => {
                session.undo(Some(mark))?;
                Err(stop)
            }
        }
    }
}

impl Session {
    fn mark_statement(&mut self) -> Mark {
        let tx = self.transaction.as_mut().expect("one is open");
        tx.statement_mark()
    }

    fn one(
        &mut self,
        home: GroupId,
        other: GroupId,
        step: &mut Step,
        job: &Job,
        what: &mut dyn FnMut(&mut Session, &mut Step, &Job) -> std::result::Result<bool, Stop>,
    ) -> std::result::Result<bool, Stop> {
        let tx = self.transaction.as_mut().expect("one is open");
        tx.begin_statement(None, &[home, other], Some(home))?;
        let done = what(self, step, job)?;
        self.carry_out_effects(&mut Silent)?;
        Ok(done)
    }

    /// Takes what comes next, of one transaction of the other group: with the cursor, in one entry.
    fn take_sent(
        &mut self,
        home: GroupId,
        other: GroupId,
        step: &mut Step,
        job: &Job,
    ) -> std::result::Result<bool, Stop> {
        let tx = self.transaction.as_mut().expect("one is open");
        let Some(next) = crate::outbox::next(home, other, tx)? else {
            return Ok(false);
        };
        step.trace = next.trace().to_owned();
        for (number, sent) in &next.sent {
            if let Some(accepting) = Accepting::of(other, *number, sent) {
                self.accept(home, &accepting, job)?;
            } else {
                let tx = self.transaction.as_mut().expect("one is open");
                crate::outbox::note(home, other, sent, tx)?;
            }
        }
        let tx = self.transaction.as_mut().expect("one is open");
        crate::outbox::pass(home, other, next.last(), tx)?;
        Ok(true)
    }

    /// One command, in a savepoint of its own: what fails is parked, and its sender told.
    fn accept(
        &mut self,
        home: GroupId,
        accepting: &Accepting<'_>,
        job: &Job,
    ) -> std::result::Result<(), Stop> {
        let tx = self.transaction.as_mut().expect("one is open");
        let mark = tx.mark();
        let deferred = self.deferred.len();
        let inserted = self
            .exec(job, |cx| accepting.insert(cx))
            .and_then(|()| self.run_deferred(true));
        let error = match inserted {
            Ok(()) => {
                let tx = self.transaction.as_mut().expect("one is open");
                tx.unmark();
                return Ok(());
            }
            Err(Stop::Error(error)) if !is_passing(&error) => error,
            Err(stop) => {
                let tx = self.transaction.as_mut().expect("one is open");
                tx.unmark();
                return Err(stop);
            }
        };
        self.deferred.truncate(deferred);
        let tx = self.transaction.as_mut().expect("one is open");
        tx.undo_to(&mark, Locks::Release)?;
        tx.unmark();
        accepting.refuse(home, &error, tx)
    }
}

/// Will it be gone before long, whatever the command says?
fn is_passing(error: &Error) -> bool {
    let state = error.state();
    let class = &state.as_str()[..2];
    ["40", "53", "57", "58", "XX", "OW"].contains(&class) || state == state::LOCK_NOT_AVAILABLE
}

/// Nobody hears it.
struct Silent;

impl Output for Silent {
    fn columns(&mut self, _fields: &[Field]) {}

    fn row(&mut self, _write: &mut dyn FnMut(&mut Vec<u8>)) {}

    fn notice(&mut self, _severity: &'static str, _notice: &Error) {}

    fn parameter(&mut self, _name: &str, _value: &str) {}

    fn full(&self) -> bool {
        false
    }
}
