//! Reads see everything that was acknowledged before their statement began: where others may lead,
//! too, the group's leader proves that it still is ([`crate::transaction`]'s barriers). What is led
//! elsewhere is read as this node has it; a session's own group is not, the session goes there.

use storage::{GroupId, Position};

use super::Session;
use crate::transaction::{Proven, Stop, Wait};
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
            Some(home) if self.goes_home(home) => Err(Stop::Wait(Wait::Leader(home))),
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
        let now = self.engine.clock().unix_micros();
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

    /// May the session go where its own group is led? Not if it has come here for another one, or
    /// would lose something.
    pub(super) fn goes_home(&self, home: GroupId) -> bool {
        self.turn.came_for.is_none_or(|group| group == home) && self.may_leave()
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
