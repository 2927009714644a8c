//! `pg_xact_status`, on any node. A commit is known where it is applied. That a transaction never will
//! commit is known when it is open nowhere and every group in which it could is proven to be led by
//! another node than its own: entries of an older term come no more then.

use std::sync::Arc;

use storage::{Group, Groups, TxId, TxStatus};

use super::environment::{Need, Surroundings};
use crate::engine::Led;
use crate::transaction::{Proven, Wait};
use crate::types::Datum;
use crate::{Error, Result};

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
                // Its sessions know whether it is open.
                Led::At(node) if Groups::is_of_node(id, u64::from(node)) => {
                    return Ok(Looked::Later(Wait::Leader(group.id())));
                }
                Led::Here | Led::At(_) => {}
                Led::Nowhere => return Ok(Looked::Status("in progress")),
            }
        }
        for group in &replicas {
            if group.is_sole() && group.term().is_some() {
                continue;
            }
            let barriers = &mut self.effects.borrow_mut().barriers;
            match barriers.of(self.engine, group.id()) {
                Proven::From(_) => {}
                Proven::Later(signal) => return Ok(Looked::Later(Wait::Signal(signal))),
                Proven::Not => return Ok(Looked::Status("in progress")),
            }
        }
        // All that was ever acknowledged is applied here now.
        Ok(Looked::Status(self.outcome(id)?.unwrap_or("aborted")))
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
