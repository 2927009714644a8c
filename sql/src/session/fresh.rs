//! Reads see everything that was acknowledged before their statement began: where others may lead,
//! too, the group's leader proves that it still is ([`crate::transaction`]'s barriers). What is led
//! elsewhere is read as this node has it; a session's own group is not, the session goes there.

use storage::GroupId;

use super::Session;
use crate::transaction::{Proven, Stop, Wait};

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
        if self.engine.cluster().is_alone() || (only_reads && self.effective.read_local) {
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

    /// May the session go where its own group is led? Not if it has come here for another one, or
    /// would lose something.
    fn goes_home(&self, home: GroupId) -> bool {
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
