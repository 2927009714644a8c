//! What becomes of a statement that stops before its end: it waits and begins again, or it fails, and its
//! transaction with it.

use super::Session;
use super::finish::{Chain, Holding};
use super::job::{Job, Phase, Rows};
use super::step::{Step, Waiting};
use super::turn::Met;
use crate::catalog::not_known_yet;
use crate::transaction::{Locks, Stop, Wait};
use crate::{Error, Result, state};

/// Attempts of one statement without a wait between them, before others get their turn.
const ATTEMPTS_MAX: u32 = 16;

impl Session {
    /// A statement has stopped before its end.
    pub(super) fn stopped(
        &mut self,
        job: &mut Job,
        rows: Option<Rows>,
        stop: Stop,
    ) -> Option<Result<Step>> {
        let mark = rows.as_ref().and_then(|r| r.mark.clone());
        let streamed = rows.is_some_and(|r| !r.buffered) && job.sent > 0;
        let wait = match stop {
            Stop::Error(error) => return self.fail(job, error),
            Stop::Wait(wait) | Stop::Pause(wait) => wait,
        };
        if streamed {
            let error = Error::new(
                state::SERIALIZATION_FAILURE,
                "the statement would have to begin again after rows were sent",
            )
            .hint("Run it again.");
            return self.fail(job, error);
        }
        if mark.is_some() {
            self.deferred.truncate(job.deferred);
        }
        if let Err(error) = self.undo(mark) {
            return self.fail(job, error);
        }
        job.buffer.clear();
        job.sent = 0;
        job.affected = None;
        job.phase = Phase::Start;
        if let Err(error) = self.check_interrupt(job) {
            return self.fail(job, error);
        }
        let wait = match self.meet(wait) {
            Ok(Met::Wait(wait)) => wait,
            Ok(Met::Elsewhere(group)) => match self.leave(group) {
                Ok(()) => return Some(Ok(Step::Elsewhere(group))),
                Err(Stop::Wait(wait) | Stop::Pause(wait)) => wait,
                Err(Stop::Error(error)) => return self.fail(job, error),
            },
            Err(error) => return self.fail(job, error),
        };
        if let Wait::Again = wait {
            job.attempts += 1;
            if !job.attempts.is_multiple_of(ATTEMPTS_MAX) {
                return None;
            }
        }
        match self.waiting(job, wait) {
            Ok(waiting) => Some(Ok(Step::Wait(waiting))),
            Err(error) => self.fail(job, error),
        }
    }

    /// What a statement awaits; for a lock `lock_timeout` begins.
    ///
    /// # Errors
    /// 55P03 when it has been waited for that long.
    pub(super) fn waiting(&mut self, job: &mut Job, wait: Wait) -> Result<Waiting> {
        let wait = self.meet_here(wait)?;
        self.begin_lock_timeout(job, &wait)?;
        let until = self.deadline(job, &wait);
        Ok(Waiting::new(&self.engine, wait, until))
    }

    /// For a lock `lock_timeout` begins.
    ///
    /// # Errors
    /// 55P03 when it has been waited for that long.
    pub(super) fn begin_lock_timeout(&self, job: &mut Job, wait: &Wait) -> Result<()> {
        let Wait::Lock(_) = wait else {
            job.lock_deadline = None;
            return Ok(());
        };
        let now = self.engine.clock().unix_micros();
        if job.lock_deadline.is_some_and(|deadline| now >= deadline) {
            let message = "canceling statement due to lock timeout";
            return Err(Error::new(state::LOCK_NOT_AVAILABLE, message));
        }
        let timeout = self.effective.lock_timeout;
        job.lock_deadline = (timeout > 0).then(|| now.saturating_add(timeout));
        self.activity.update(|shown| shown.waiting = true);
        Ok(())
    }

    /// When the session must be called again although nothing happened.
    pub(super) fn deadline(&self, job: &Job, wait: &Wait) -> Option<u64> {
        let timeout = self.effective.statement_timeout;
        let statement = (timeout > 0).then(|| job.begun.saturating_add(timeout));
        let lock = job.lock_deadline.filter(|_| matches!(wait, Wait::Lock(_)));
        match (statement, lock) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    pub(super) fn undo(&mut self, mark: Option<crate::transaction::Mark>) -> Result<()> {
        let (Some(mark), Some(tx)) = (mark, self.transaction.as_mut()) else {
            return Ok(());
        };
        let undone = tx.undo_to(&mark, Locks::Keep);
        tx.unmark();
        match undone {
            Err(Stop::Error(error)) => Err(error),
            Err(_) | Ok(()) => Ok(()),
        }
    }

    /// The statement has failed; the answer is held like any other that may rest on what is not
    /// committed yet. Nobody has to know if its turn begins anew.
    pub(super) fn fail(&mut self, job: &mut Job, error: Error) -> Option<Result<Step>> {
        let error = self.known(error);
        if let Some(group) = self.begin_anew(&error) {
            return Some(Ok(Step::Elsewhere(group)));
        }
        job.raised = std::mem::take(&mut self.effects.borrow_mut().raised);
        let holding = self.fail_transaction();
        job.buffer.clear();
        job.phase = Phase::Holding(holding, Err(error));
        None
    }

    /// What is not found here is not there, if this node knows what there is.
    pub(super) fn known(&self, error: Error) -> Error {
        match error.state() == state::UNDEFINED_TABLE && !self.engine.cluster().knows_all() {
            true => not_known_yet(),
            false => error,
        }
    }

    /// The open transaction has failed: a block waits for ROLLBACK, anything else is over.
    pub(super) fn fail_transaction(&mut self) -> Holding {
        self.effects.borrow_mut().restart();
        if self.block
            && let Some(tx) = self.transaction.as_mut()
        {
            let hold = tx.held();
            tx.fail();
            self.failed = true;
            return self.hold(hold, None);
        }
        self.rollback(Chain::No)
    }

    /// [`Session::fail_transaction`] where no job carries the answer: it is held by
    /// [`Session::settle`].
    pub(super) fn fail_now(&mut self) {
        let holding = self.fail_transaction();
        self.owed = Some(holding);
    }

    /// An answer waits no longer than its statement may take.
    pub(super) fn hold_answer(
        &mut self,
        job: &Job,
        holding: &mut Holding,
    ) -> Result<Option<Waiting>> {
        let waiting = self.await_holding(holding)?;
        let Some(waiting) = waiting else {
            return Ok(None);
        };
        match self.check_interrupt(job) {
            Ok(()) => Ok(Some(waiting.or_at(self.deadline(job, &Wait::Again)))),
            Err(error) => self.give_up(holding, error).map(|()| None),
        }
    }
}
