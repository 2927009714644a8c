//! `pg_xact_status`, on any node. A commit is known where it is applied. That a transaction never will
//! commit is known when its node says so, or leads no group in which it could, and all that these
//! groups have committed is applied here: entries of an older term come no more then.

use std::sync::Arc;

use storage::{Group, GroupId, Groups, TxId, TxStatus};

use super::environment::{Need, Surroundings};
use super::turn::{LEADERLESS_MAX, LOOK_PAUSE};
use crate::engine::Led;
use crate::transaction::{Answered, Proven, Wait};
use crate::types::Datum;
use crate::{Error, Result, state};

/// Transactions of other nodes for which one statement may ask.
const QUESTIONS_MAX: usize = 1000;

/// What becomes of the question.
enum Looked {
    /// This is the answer.
    Status(&'static str),
    /// There is none yet: ask again after this.
    Later(Wait),
}

impl Surroundings<'_> {
    pub(super) fn transaction_status(&self, arguments: &[Datum]) -> Result<Datum> {
        let id = match arguments.first() {
            Some(Datum::Xid8(id)) => TxId(*id),
            Some(Datum::Int8(id)) => TxId(u64::try_from(*id).unwrap_or(0)),
            _ => return Ok(Datum::Null),
        };
        let now = self.engine.clock().unix_micros();
        // Asked first: it leaves the registry after it has got its place, so that it can't be
        // missed in both.
        let open = self.engine.activities().is_open(id);
        if open || self.effects.borrow().txid == Some(id) {
            return Ok(Datum::text("in progress"));
        }
        if id < storage::outcomes_kept(now) {
            // As PostgreSQL says of ids whose outcome it no longer has.
            return Ok(Datum::Null);
        }
        let looked = match self.outcome(id)? {
            Some(status) => Looked::Status(status),
            None => self.may_come(id)?,
        };
        match looked {
            Looked::Status(status) => Ok(Datum::text(status)),
            Looked::Later(wait) => Err(self.need(Need::Wait(wait))),
        }
    }

    /// What a group held here knows of it.
    fn outcome(&self, id: TxId) -> Result<Option<&'static str>> {
        for group in self.engine.groups().all() {
            match group.outcome(id).map_err(Error::from)? {
                Some(TxStatus::Committed(_)) => return Ok(Some("committed")),
                Some(TxStatus::InProgress) => return Ok(Some("in progress")),
                None => {}
            }
        }
        Ok(None)
    }

    /// No group knows of it here: may it be open elsewhere, or committed and not applied here?
    fn may_come(&self, id: TxId) -> Result<Looked> {
        let cluster = self.engine.cluster();
        if cluster.is_alone() {
            return Ok(Looked::Status("aborted"));
        }
        let (followed, replicas): (Vec<_>, Vec<_>) = {
            let all = self.engine.groups().all().into_iter();
            all.partition(|group| group.is_followed())
        };
        if let Some(looked) = self.may_be_in(&followed) {
            return Ok(looked);
        }
        for group in &replicas {
            match self.engine.led(group.id()) {
                Led::At(node) if Groups::is_of_node(id, u64::from(node)) => {
                    if let Some(looked) = self.ask(node, id)? {
                        return Ok(looked);
                    }
                }
                Led::Here | Led::At(_) => {}
                Led::Nowhere => return Ok(self.unproven()),
            }
        }
        for group in &replicas {
            if group.is_sole() && group.term().is_some() {
                continue;
            }
            match self.proven(group.id()) {
                Proven::From(_) => {}
                Proven::Later(signal) => return Ok(Looked::Later(Wait::Signal(signal))),
                Proven::Not => return Ok(self.unproven()),
            }
        }
        // All that was ever acknowledged is applied here now.
        Ok(Looked::Status(self.outcome(id)?.unwrap_or("aborted")))
    }

    /// Asks the transaction's node. `None`: it does not commit any more, if it has not.
    fn ask(&self, node: u32, id: TxId) -> Result<Option<Looked>> {
        let mut effects = self.effects.borrow_mut();
        if effects.questions.len() > QUESTIONS_MAX {
            return Err(Error::new(
                state::PROGRAM_LIMIT_EXCEEDED,
                format!(
                    "one statement asks for more than {QUESTIONS_MAX} transactions of other nodes"
                ),
            ));
        }
        let asked = effects.questions.of(self.engine, node, id);
        if let Answered::Undecided { first: true, .. } = asked {
            // It may have committed behind those that have passed.
            effects.barriers.clear();
        }
        drop(effects);
        Ok(match asked {
            Answered::Undecided {
                undecided: false, ..
            } => None,
            Answered::Undecided {
                undecided: true, ..
            } => Some(Looked::Status("in progress")),
            Answered::Later(signal) => Some(Looked::Later(Wait::Signal(signal))),
            Answered::Not => Some(self.unproven()),
        })
    }

    fn proven(&self, group: GroupId) -> Proven {
        let mut effects = self.effects.borrow_mut();
        effects.barriers.of(self.engine, group)
    }

    /// A group has no leader that could prove anything: mostly there is one soon.
    fn unproven(&self) -> Looked {
        let now = self.engine.clock().unix_micros();
        let mut effects = self.effects.borrow_mut();
        let until = *effects.proof_until.get_or_insert(now + LEADERLESS_MAX);
        match now < until {
            true => Looked::Later(Wait::Until(now + LOOK_PAUSE)),
            false => Looked::Status("in progress"),
        }
    }

    /// Copies of other owners' tables don't tell the outcome of transactions. One of the role's own
    /// group is asked for where that is led; if it acts for more owners than this node has
    /// replicas of, it is not known here.
    fn may_be_in(&self, followed: &[Arc<Group>]) -> Option<Looked> {
        let own = self.catalog.group_of(self.user.current);
        let mut looked = None;
        for id in followed.iter().map(|group| group.id()) {
            let owner = self.catalog.owner_of_group(id);
            if own == Some(id) {
                return Some(Looked::Later(Wait::Leader(id)));
            }
            if owner.is_none_or(|owner| self.catalog.has_role(self.user.current, owner)) {
                looked = Some(Looked::Status("in progress"));
            }
        }
        looked
    }
}
