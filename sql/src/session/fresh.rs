//! Reads see everything that was acknowledged before their statement began: where others may lead,
//! too, the group's leader proves that it still is ([`crate::transaction`]'s barriers). What is led
//! elsewhere is read as this node has it; a session's own group is not, the session goes there.

use storage::{GroupId, Position};

use super::Session;
use crate::engine::Led;
use crate::transaction::{Proven, Stop, Wait, leader_changed};
use crate::{Error, state};

impl Session {
    /// The snapshot that was just taken is new enough, or will be proven when the transaction ends.
    /// `groups` are the statement's own; it writes or locks rows of `writes`.
    pub(super) fn prove_snapshot(
        &mut self,
        groups: &[GroupId],
        writes: Option<GroupId>,
    ) -> Result<(), Stop> {
        let Some(tx) = self.transaction.as_mut().filter(|tx| tx.is_unsure()) else {
            return Ok(());
        };
        let only_reads = tx.only_reads(writes);
        if self.engine.cluster().is_alone() {
            return Ok(());
        }
        if let Err(stop) = self.bound_staleness(groups) {
            if let Some(tx) = self.transaction.as_mut() {
                tx.take_back_snapshot();
            }
            return Err(stop);
        }
        let Some(tx) = self.transaction.as_mut() else {
            return Ok(());
        };
        if only_reads && self.effective.read_local {
            return Ok(());
        }
        let unsure = tx.unsure();
        tx.keep_terms(&unsure);
        if !only_reads {
            for (group, term) in &unsure {
                if let (Some(term), true) = (term, groups.contains(group)) {
                    tx.prove_later(*group, *term);
                }
            }
        }
        let home = self.engine.catalog().group_of(self.user.current);
        let own = home.filter(|id| groups.contains(id) && writes.is_none());
        let away = own.filter(|id| {
            unsure
                .iter()
                .any(|(group, term)| group == id && term.is_none())
        });
        let proven = match away {
            // If it would lose something by going it fails: here, nothing proves what it has read.
            Some(home) if !self.acts_for_another(home) => Err(Stop::Wait(Wait::Leader(home))),
            _ if only_reads => {
                let led = unsure.into_iter().filter(|(_, term)| term.is_some());
                let led = led.map(|(group, _)| group).collect();
                self.pass_barriers(groups, led)
            }
            _ => Ok(()),
        };
        if let (Err(_), Some(tx)) = (&proven, self.transaction.as_mut()) {
            tx.take_back_snapshot();
        }
        proven
    }

    /// The snapshot of the transaction is kept, and its first statement may have read nothing of
    /// these groups: what is read of them now is proven when the transaction ends.
    ///
    /// # Errors
    /// 40001 if nothing can prove it: the session's own group was led elsewhere.
    pub(super) fn prove_kept(
        &mut self,
        groups: &[GroupId],
        writes: Option<GroupId>,
    ) -> Result<(), Stop> {
        let home = self.engine.catalog().group_of(self.user.current);
        let away = home.filter(|home| writes.is_none() && !self.acts_for_another(*home));
        let Some(tx) = self.transaction.as_mut() else {
            return Ok(());
        };
        let only_reads = tx.only_reads(writes);
        for group in groups {
            match tx.kept_term(*group) {
                Some(None) if away == Some(*group) => return Err(Stop::Error(leader_changed())),
                Some(Some(term)) if !only_reads => tx.prove_later(*group, term),
                Some(_) | None => {}
            }
        }
        Ok(())
    }

    /// `freehold.max_staleness`: what this node has of the groups that others lead is from within
    /// that time, or is proven to be the newest that there is.
    ///
    /// # Errors
    /// `Wait` while it is being proven; OW002 if it can't be.
    fn bound_staleness(&mut self, groups: &[GroupId]) -> Result<(), Stop> {
        let max = self.effective.max_staleness;
        let Some(tx) = self.transaction.as_ref().filter(|_| max > 0) else {
            return Ok(());
        };
        let now = self.engine.groups().clock().unix_micros();
        let mut wait = None;
        for (group, _) in tx.unsure().into_iter().filter(|(_, term)| term.is_none()) {
            let at = tx.snapshot().position(group).unwrap_or_default();
            if !groups.contains(&group) || at.unix_micros().saturating_add(max) >= now {
                continue;
            }
            match self.turn.barriers.of(&self.engine, group) {
                Proven::From(position) if at < position => {
                    wait.get_or_insert(self.until_readable(group, position));
                }
                Proven::From(_) => {}
                Proven::Later(signal) => wait = Some(Wait::Signal(signal)),
                Proven::Not => return Err(self.too_stale(group, at, now).into()),
            }
        }
        wait.map_or(Ok(()), |wait| Err(Stop::Wait(wait)))
    }

    fn too_stale(&self, group: GroupId, at: Position, now: u64) -> Error {
        let (catalog, role) = (self.engine.catalog(), self.user.current);
        let owner = catalog.owner_of_group(group);
        let whose = match owner.filter(|_| catalog.reads_group(role, group)) {
            Some(owner) => format!("the tables of owner \"{}\"", catalog.role_name(owner)),
            None => "the tables of another owner".to_owned(),
        };
        let age = now.saturating_sub(at.unix_micros()) / 1_000;
        let message = format!("{whose} may be staler here than freehold.max_staleness allows");
        Error::new(state::STALER_THAN_MAX_STALENESS, message)
            .detail(format!(
                "What this node shows of them is {age} ms old, and their owner's leader can't be asked."
            ))
            .hint("Raise freehold.max_staleness, or try again when the owner can be reached.")
    }

    /// May the session go where its own group is led? Not if it is here for another one, or would
    /// lose something.
    pub(super) fn goes_home(&self, home: GroupId) -> bool {
        !self.acts_for_another(home) && self.may_leave()
    }

    /// Is the session here because another group than its own is led here?
    fn acts_for_another(&self, home: GroupId) -> bool {
        let writing = self.transaction.as_ref().and_then(|tx| tx.writing());
        let mut here_for = self.turn.came_for.into_iter().chain(writing);
        here_for.any(|group| group != home)
    }

    /// Where a block belongs that may write: one that reads this node's cut is still where its client
    /// is when it begins, and would lose its savepoints later.
    pub(super) fn home_of_block(&self) -> Option<GroupId> {
        if !self.effective.read_local || self.engine.cluster().is_alone() {
            return None;
        }
        let home = self.engine.catalog().group_of(self.user.current);
        let away = |home: &GroupId| matches!(self.engine.led(*home), Led::At(_));
        home.filter(away).filter(|home| self.goes_home(*home))
    }

    fn pass_barriers(&mut self, groups: &[GroupId], led: Vec<GroupId>) -> Result<(), Stop> {
        let (catalog, role) = (self.engine.catalog(), self.user.current);
        let Some(tx) = self.transaction.as_ref() else {
            return Ok(());
        };
        let mut wait = None;
        for group in led {
            // A snapshot that is kept has more groups than its first statement.
            let may_be_read = group != GroupId::DIRECTORY && catalog.reads_group(role, group);
            if !groups.contains(&group) && !may_be_read {
                continue;
            }
            match self.turn.barriers.of(&self.engine, group) {
                Proven::From(position) => {
                    if tx.snapshot().position(group) < Some(position) {
                        wait.get_or_insert(Wait::Again);
                    }
                }
                Proven::Later(signal) => wait = Some(Wait::Signal(signal)),
                Proven::Not => {
                    self.turn.unproven = true;
                    return Err(Stop::Wait(Wait::Leader(group)));
                }
            }
        }
        wait.map_or(Ok(()), |wait| Err(Stop::Wait(wait)))
    }

    /// The session has read these groups: where it goes on, they must be as new.
    pub(super) fn has_read(&mut self, groups: &[GroupId]) {
        for group in groups {
            if !self.read.contains(group) {
                self.read.push(*group);
            }
        }
        self.changed.seen |= !groups.is_empty();
    }
}
