//! The session in which a node that leads a group takes what another group has sent to it, removes what
//! was taken of its own, and runs its owner's triggers on the other one's tables. No client is behind
//! it; what it waits for its caller awaits.

use std::collections::VecDeque;
use std::sync::Arc;

use storage::{GroupId, Position};

use super::finish::{Chain, Holding};
use super::job::Job;
use super::output::{Field, Output};
use super::step::Waiting;
use super::{Session, User};
use crate::changes::{FeedRow, Interrupt};
use crate::engine::Engine;
use crate::exec::ExecCx;
use crate::fired::{Batch, Cursor, Fires};
use crate::integrity;
use crate::moving;
use crate::outbox::{Accepting, Gone, Step, Swept, What, park};
use crate::settings::{Place, Values};
use crate::transaction::{
    Isolation, Locks, Mark, Stop, Transaction, Wait, leader_changed, readable,
};
use crate::{Error, Result, state};

/// Attempts without a wait between them before it says so.
const ATTEMPTS_MAX: u32 = 16;
/// Errors that may pass by themselves, one after the other, before what they are about is set aside.
const FAILURES_MAX: u32 = 50;
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

/// Does for a group that is led here what another one's entries ask of it.
pub struct Courier {
    session: Session,
    step: Step,
    job: Job,
    /// Entries that are not known to be there for good.
    placed: VecDeque<Holding>,
    home: GroupId,
    other: GroupId,
    attempts: u32,
    /// Errors since something was done: what may pass by itself is not waited for without an end.
    failures: u32,
    /// How far tables have come that come from the other owner.
    rounds: moving::Rounds,
    /// Triggers of whose rows nothing is set aside that could be erased.
    swept: Swept,
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
            failures: 0,
            rounds: moving::Rounds::default(),
            swept: Swept::default(),
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

    /// Runs triggers for rows of one entry of the other group, which `home` follows.
    ///
    /// # Errors
    /// As [`Courier::take`].
    pub fn fire(&mut self, batch: &Batch) -> Result<Taking> {
        let (home, source) = (self.home, self.other);
        self.run(&mut |session, step, job| session.fire_batch(home, source, batch, step, job))
    }

    /// Erases what is set aside of rows that others have removed up to a position, and of what nobody
    /// tells any more what becomes of it. Of all owners.
    ///
    /// # Errors
    /// As [`Courier::take`].
    pub fn erase_gone(&mut self, upto: Position) -> Result<Taking> {
        let home = self.home;
        let mut swept = std::mem::take(&mut self.swept);
        let done = self.run(&mut |session, _, _| {
            let tx = session.transaction.as_mut().expect("one is open");
            crate::outbox::erase_gone(home, upto, &mut swept, tx)
        });
        self.swept = swept;
        done
    }

    /// The feed of the other owner does not tell any more what became of its rows: what is set aside of
    /// them is erased before long.
    ///
    /// # Errors
    /// As [`Courier::take`].
    pub fn lose_gone(&mut self) -> Result<Taking> {
        let (home, source) = (self.home, self.other);
        self.run(&mut |session, _, _| session.note_all_gone(home, source))
    }

    /// Answers what the other group asks about foreign keys, and lifts what it asks no more.
    ///
    /// # Errors
    /// As [`Courier::take`].
    pub fn answer(&mut self) -> Result<Taking> {
        let (home, other) = (self.home, self.other);
        self.run(&mut |session, _, job| session.exec(job, |cx| integrity::answer(home, other, cx)))
    }

    /// Ends what is decided, and cancels questions that nobody waits for.
    ///
    /// # Errors
    /// As [`Courier::take`].
    pub fn settle_references(&mut self) -> Result<Taking> {
        let (home, other) = (self.home, self.other);
        self.run(&mut |session, _, job| session.exec(job, |cx| integrity::settle(home, other, cx)))
    }

    /// Notes foreign keys of the other group, and forgets them.
    ///
    /// # Errors
    /// As [`Courier::take`].
    pub fn register(&mut self) -> Result<Taking> {
        let (home, other) = (self.home, self.other);
        self.run(&mut |session, _, job| {
            session.exec(job, |cx| integrity::register(home, other, cx))
        })
    }

    /// Does what is next for tables that go to the other owner.
    ///
    /// # Errors
    /// As [`Courier::take`].
    pub fn leave(&mut self) -> Result<Taking> {
        let (home, other) = (self.home, self.other);
        self.run(&mut |session, _, job| session.exec(job, |cx| moving::leave(home, other, cx)))
    }

    /// Does what is next for tables that come from the other owner. What it has placed is to be settled
    /// before it is called again: a table is shown by who knows that all of it was copied.
    ///
    /// # Errors
    /// As [`Courier::take`].
    pub fn arrive(&mut self) -> Result<Taking> {
        let (home, other) = (self.home, self.other);
        let mut rounds = std::mem::take(&mut self.rounds);
        let done = self.run(&mut |session, _, job| {
            session.exec(job, |cx| moving::arrive(home, other, &mut rounds, cx))
        });
        match &done {
            Ok(Taking::Placed) => rounds.confirm(),
            Ok(_) => {}
            // Another leader may have come and gone, and with it what was placed.
            Err(_) => rounds = moving::Rounds::default(),
        }
        self.rounds = rounds;
        done
    }

    /// Who interrupts it.
    pub fn interrupt(&self) -> Interrupt {
        let activity = Arc::clone(&self.session.activity);
        Arc::new(move || activity.check_interrupt())
    }

    /// What a wait of reading is.
    ///
    /// # Errors
    /// It can't be waited for here.
    pub fn await_reading(&mut self, stop: Stop) -> Result<Waiting> {
        match stop {
            Stop::Error(error) => Err(error),
            Stop::Wait(wait) | Stop::Pause(wait) => self.session.waiting_here(wait),
        }
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
            match self.session.await_holding(&mut holding) {
                Ok(None) => {}
                Ok(Some(waiting)) => {
                    self.placed.push_front(holding);
                    return Ok(Some(waiting));
                }
                Err(error) => {
                    // What it has copied may be lost with it.
                    self.rounds = moving::Rounds::default();
                    return Err(error);
                }
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
                    self.failures = 0;
                    return Ok(taking);
                }
                Err(Stop::Error(error)) => {
                    self.give_up();
                    self.failures = self.failures.saturating_add(1);
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
            if let Some(tx) = &mut session.transaction {
                tx.set_unattended();
            }
            session.effects.borrow_mut().begin();
            self.job = Job::idle(session.engine.clock().unix_micros());
        } else {
            session.effects.borrow_mut().restart();
        }
        session.fresh_catalog();
        let mark = session.mark_statement();
        let deferred = session.deferred.len();
        self.step.patient = self.failures < FAILURES_MAX;
        let done = session.one(home, self.other, &mut self.step, &self.job, what);
        match done {
            Ok(true) => {}
            Ok(false) => {
                drop(session.rollback(Chain::No));
                return Ok(Taking::Nothing);
            }
            Err(stop) => {
                session.deferred.truncate(deferred);
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

    /// What is done now belongs to another session's trace: so does its entry, and functions see it.
    fn carry(&mut self, trace: &str, step: &mut Step) {
        trace.clone_into(&mut step.trace);
        let value = [trace.to_owned()];
        let name = "freehold.traceparent";
        // One that is none (an older version took any text) stays in the entries alone.
        if self
            .values
            .set(name, Some(&value), Place::Local, true)
            .is_err()
        {
            tracing::debug!(trace, "not a traceparent");
        }
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
        self.carry(next.trace(), step);
        let tx = self.transaction.as_mut().expect("one is open");
        tx.set_hops(next.hops());
        // First, for a trigger may reply.
        crate::outbox::pass(home, other, next.last(), tx)?;
        for (number, sent) in &next.sent {
            if let Some(accepting) = Accepting::of(other, *number, sent) {
                self.accept(home, &accepting, step.patient, job)?;
            } else {
                let tx = self.transaction.as_mut().expect("one is open");
                crate::outbox::note(home, other, sent, tx)?;
            }
        }
        Ok(true)
    }

    /// The triggers on the rows of a batch, each in a savepoint of its own, and the cursor behind them.
    fn fire_batch(
        &mut self,
        home: GroupId,
        source: GroupId,
        batch: &Batch,
        step: &mut Step,
        job: &Job,
    ) -> std::result::Result<bool, Stop> {
        let tx = self.transaction.as_mut().expect("one is open");
        let stored = Cursor::lock(home, source, tx)?;
        if stored.is_some_and(|stored| stored >= batch.cursor) {
            return Ok(false);
        }
        // What was given before is lost: it is read again.
        if stored < batch.behind {
            return Err(leader_changed().into());
        }
        let groups = self.engine.groups();
        let catalog = Arc::clone(tx.catalog());
        // One whose table has gone to another owner since the trigger was made is of that one's.
        let group = |row: &FeedRow| row.group(&catalog).unwrap_or(source);
        for from in batch.rows.iter().map(group) {
            let held = groups.get(from);
            if held.is_some_and(|held| readable(groups, &held) < batch.position) {
                return Err(Stop::Wait(self.until_readable(from, batch.position)));
            }
        }
        let mut fires = Fires::new(home, source);
        let done = |row: &FeedRow| {
            let at = Cursor {
                position: row.position(),
                group: group(row),
                seq: row.seq(),
            };
            stored.is_some_and(|stored| at <= stored)
        };
        for row in batch.rows.iter().filter(|row| !done(row)) {
            let from = group(row);
            let hops = row.meta().map_or(0, |meta| meta.hops).saturating_add(1);
            if let Some(meta) = row.meta() {
                self.carry(&meta.trace, step);
            }
            let tx = self.transaction.as_mut().expect("one is open");
            tx.follows_from(from, batch.position, hops);
            let catalog = Arc::clone(tx.catalog());
            for (parked, error) in fires.untold(row, from, hops, &catalog) {
                let tx = self.transaction.as_mut().expect("one is open");
                // One says it for all.
                if parked.count(home, tx)? == 0 {
                    park(home, What::Trigger(parked), &error, tx)?;
                }
            }
            let all = match self.exec(job, |cx| fires.of(row, from, cx)) {
                Ok(all) => all,
                Err(Stop::Error(error)) if !self.is_passing(&error, step.patient) => {
                    // A row of a day when the table was another one.
                    let tx = self.transaction.as_mut().expect("one is open");
                    for parked in fires.all(row, from, hops, &catalog) {
                        park(home, What::Trigger(parked), &error, tx)?;
                    }
                    continue;
                }
                Err(stop) => return Err(stop),
            };
            for fire in all {
                let parked = fire.parked(row, from, hops);
                let tx = self.transaction.as_mut().expect("one is open");
                let error = match parked.count(home, tx)? {
                    0 => self.in_savepoint(step.patient, job, |cx| fire.run(hops, cx))?,
                    _ => Some(Error::new(
                        state::OBJECT_NOT_IN_PREREQUISITE_STATE,
                        "a row of the same key is set aside",
                    )),
                };
                if let Some(error) = error {
                    let tx = self.transaction.as_mut().expect("one is open");
                    park(home, What::Trigger(parked), &error, tx)?;
                }
            }
        }
        let tx = self.transaction.as_mut().expect("one is open");
        if crate::outbox::any_parked(home, tx)? {
            for row in batch.rows.iter().filter(|row| !done(row)) {
                note_gone(home, group(row), row, tx)?;
            }
        }
        #[cfg(feature = "sabotage")]
        if tx.started().is_multiple_of(20) && storage::sabotage::planted("trigger-cursor-lost") {
            return Ok(true);
        }
        batch.cursor.put(home, source, tx)?;
        Ok(true)
    }

    /// All rows of the tables of the other owner that have triggers are as good as gone. False: nothing
    /// is set aside.
    fn note_all_gone(&mut self, home: GroupId, source: GroupId) -> std::result::Result<bool, Stop> {
        let tx = self.transaction.as_mut().expect("one is open");
        if !crate::outbox::any_parked(home, tx)? {
            return Ok(false);
        }
        let catalog = Arc::clone(tx.catalog());
        let triggers = catalog.triggers_on_followed(home).into_iter();
        for (seq, (_, trigger)) in (0..).zip(triggers.filter(|(of, _)| *of == source)) {
            let gone = Gone {
                table: trigger.table.0,
                key: None,
                at: Cursor {
                    position: Position::MAX,
                    group: source,
                    seq,
                },
                at_once: true,
            };
            crate::outbox::note_gone(home, &gone, tx)?;
        }
        Ok(true)
    }

    /// Runs something in a savepoint: the error for which it was taken back.
    fn in_savepoint(
        &mut self,
        patient: bool,
        job: &Job,
        run: impl FnOnce(&mut ExecCx<'_>) -> std::result::Result<(), Stop>,
    ) -> std::result::Result<Option<Error>, Stop> {
        let tx = self.transaction.as_mut().expect("one is open");
        let mark = tx.mark();
        let deferred = self.deferred.len();
        let left = self.effects.borrow().left();
        let done = self.exec(job, run).and_then(|()| self.run_deferred(true));
        let passes = matches!(&done, Err(Stop::Error(error)) if self.is_passing(error, patient));
        let tx = self.transaction.as_mut().expect("one is open");
        match done {
            Ok(()) => {
                tx.unmark();
                Ok(None)
            }
            Err(Stop::Error(error)) if !passes => {
                tx.undo_to(&mark, Locks::Release)?;
                tx.unmark();
                self.deferred.truncate(deferred);
                self.effects.borrow_mut().take_back(left);
                Ok(Some(error))
            }
            Err(stop) => {
                tx.unmark();
                Err(stop)
            }
        }
    }

    /// Will an error be gone before long, whatever the command says? What is not found may be there all the
    /// same while this node has not heard of all owners.
    fn is_passing(&self, error: &Error, patient: bool) -> bool {
        let unknown = [state::UNDEFINED_TABLE, state::CANNOT_CONNECT_NOW].contains(&error.state());
        is_passing(error, patient) || patient && unknown && !self.engine.cluster().knows_all()
    }

    /// One command, in a savepoint of its own: what fails is parked, and its sender told.
    fn accept(
        &mut self,
        home: GroupId,
        accepting: &Accepting<'_>,
        patient: bool,
        job: &Job,
    ) -> std::result::Result<(), Stop> {
        let error = self.in_savepoint(patient, job, |cx| accepting.insert(cx))?;
        let Some(error) = error else {
            return Ok(());
        };
        let tx = self.transaction.as_mut().expect("one is open");
        accepting.refuse(home, &error, tx)
    }
}

/// Notes what a row of a group's feed says of rows that are gone.
fn note_gone(
    home: GroupId,
    group: GroupId,
    row: &FeedRow,
    tx: &mut Transaction,
) -> std::result::Result<(), Stop> {
    let at = Cursor {
        position: row.position(),
        group,
        seq: row.seq(),
    };
    // Who is told that an event is lost is told nothing of those before it.
    let id = row.removed().map(|(id, _)| id);
    if row.is_lost() && id.is_some_and(|id| tx.catalog().is_event(id)) {
        return Ok(());
    }
    let gone = match (row.removed(), row.altered()) {
        (Some((table, key)), _) => Gone {
            table: table.0,
            key: key.map(ToString::to_string),
            at,
            at_once: row.is_erase(),
        },
        (None, Some(table)) if crate::outbox::is_key_altered(group, table, at.position, tx)? => {
            Gone {
                table: table.0,
                key: None,
                at,
                at_once: false,
            }
        }
        (None, _) => return Ok(()),
    };
    crate::outbox::note_gone(home, &gone, tx)
}

/// Will it be gone before long, whatever the command says?
fn is_passing(error: &Error, patient: bool) -> bool {
    let state = error.state();
    let class = &state.as_str()[..2];
    let passes = ["40", "53", "57", "58", "OW"].contains(&class);
    // The node's own: nothing can be set aside either.
    let whole = error.0.begins_anew || state == state::ADMIN_SHUTDOWN;
    whole || (patient && (passes || state == state::LOCK_NOT_AVAILABLE))
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
