//! What the functions of a statement have turned out to read and write, beside what its own text
//! names. The statement begins again with it.

use storage::GroupId;

use super::{Stop, Transaction};

/// Beside the statement's own groups.
#[derive(Default)]
pub(super) struct Also {
    groups: Vec<GroupId>,
    writes: Option<GroupId>,
    /// The group whose newest state the statement's snapshot has.
    pub home: Option<GroupId>,
}

impl Also {
    /// Nothing beside.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.writes.is_none()
    }
}

impl Transaction {
    /// A function reads these groups and writes (or locks rows of) one. If the statement has begun
    /// without, it begins again.
    ///
    /// # Errors
    /// `Wait`.
    pub fn also(&mut self, groups: &[GroupId], writes: Option<GroupId>) -> Result<(), Stop> {
        let mut anew = false;
        for group in groups {
            if self.snapshot.position(*group).is_none() && !self.also.groups.contains(group) {
                self.also.groups.push(*group);
                anew = !self.keeps_snapshot();
            }
        }
        if let Some(group) = writes
            && self.also.writes.is_none()
        {
            self.also.writes = Some(group);
            anew |= self.also.home != writes && !self.keeps_snapshot();
        }
        match anew {
            true => Err(Stop::again()),
            false => Ok(()),
        }
    }

    /// The groups beside the statement's own, and the one that functions write.
    pub fn also_used(&self) -> (&[GroupId], Option<GroupId>) {
        (&self.also.groups, self.also.writes)
    }

    /// A statement's groups with those of its functions.
    pub(super) fn with_also(
        &self,
        groups: &[GroupId],
        writes: Option<GroupId>,
    ) -> (Vec<GroupId>, Option<GroupId>) {
        let writes = writes.or(self.also.writes);
        let mut all = groups.to_vec();
        let more = self.also.groups.iter().chain(&writes);
        for group in more {
            if !all.contains(group) {
                all.push(*group);
            }
        }
        (all, writes)
    }
}
