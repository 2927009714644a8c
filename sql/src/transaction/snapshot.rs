//! The positions that a statement reads at: one per group, pinned, causally closed.
//!
//! Committed reads take a cut of applied positions. Reads of a transaction that writes take the
//! newest placed entry of its own group *first* and the cut of the others after it: what the own
//! group's pending entries depend on was applied before they were placed, so the cut has it.

use std::sync::Arc;

use storage::{Group, GroupId, Groups, Pin, Position};

use super::{Stop, Wait};
use crate::{Error, state};

/// A pinned position of one group.
pub(super) struct At {
    pub group: Arc<Group>,
    pub pin: Pin,
    /// Pending entries are in it: what ends the transaction waits for them.
    pub pending: bool,
}

/// The snapshot of a statement, or of a transaction under REPEATABLE READ and above. A suspended
/// portal takes its own along.
#[derive(Default)]
pub struct Snapshot {
    at: Vec<(GroupId, At)>,
}

impl Snapshot {
    /// A pinned position of one group.
    pub(super) fn of(group: Arc<Group>, pin: Pin) -> Snapshot {
        let id = group.id();
        let pending = false;
        let at = At {
            group,
            pin,
            pending,
        };
        Snapshot { at: vec![(id, at)] }
    }

    /// Applied positions of the groups given.
    pub(super) fn applied(groups: &Groups, ids: &[GroupId]) -> Result<Snapshot, Stop> {
        if let [id] = ids
            && let group = held(groups, *id)?
            && !group.is_followed()
        {
            let pin = group.pin_applied();
            return Ok(Snapshot::of(group, pin));
        }
        let mut snapshot = Snapshot::default();
        snapshot.add_cut(groups, ids)?;
        Ok(snapshot)
    }

    /// The newest placed position of `home`, applied positions of the others.
    pub(super) fn newest(
        groups: &Groups,
        home: GroupId,
        others: &[GroupId],
    ) -> Result<Snapshot, Stop> {
        let group = held(groups, home)?;
        let wait = |wait: storage::Wait| Stop::Wait(Wait::Position(home, wait.0));
        let mut pin = group.pin_newest().map_err(wait)?;
        let mut snapshot = Snapshot::default();
        if others.iter().any(|id| *id != home) {
            snapshot.add_cut(groups, others)?;
            // A new leader's copies may lack causes of entries that are in its own log already.
            let rests = groups.rests(home);
            let lacks = |(id, at): &(GroupId, At)| {
                let rest = rests.get(id).filter(|_| *id != home);
                rest.is_some_and(|rest| at.pin.position() < *rest)
            };
            if let Some((late, _)) = snapshot.at.iter().find(|at| lacks(at)) {
                return Err(Stop::Wait(Wait::Cut(*late)));
            }
            // Entries of the others may depend on what this group has applied meanwhile.
            let applied = group.pin_applied();
            if applied.position() > pin.position() {
                pin = applied;
            }
            snapshot.at.retain(|(id, _)| *id != home);
        }
        let pending = pin.position() > group.applied();
        snapshot.at.push((
            home,
            At {
                group,
                pin,
                pending,
            },
        ));
        Ok(snapshot)
    }

    fn add_cut(&mut self, groups: &Groups, ids: &[GroupId]) -> Result<(), Stop> {
        // Pins first: the horizon cannot pass the cut that is taken after them.
        let mut held_pins = Vec::with_capacity(ids.len());
        for id in ids {
            let group = held(groups, *id)?;
            held_pins.push(group.pin_applied());
        }
        for (id, position) in groups.cut(ids) {
            let group = held(groups, id)?;
            let pin = group.pin(position);
            if !self.at.iter().any(|(seen, _)| *seen == id) {
                self.at.push((
                    id,
                    At {
                        group,
                        pin,
                        pending: false,
                    },
                ));
            }
        }
        Ok(())
    }

    /// Every group as of one position, up to which those that will be read are closed.
    pub(super) fn closed(groups: &Groups, at: Position) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for group in groups.all() {
            // A group that is closed beyond what it has applied has nothing in between.
            let pin = group.pin(group.applied().min(at));
            let id = group.id();
            let pending = false;
            snapshot.at.push((
                id,
                At {
                    group,
                    pin,
                    pending,
                },
            ));
        }
        snapshot
    }

    /// Adds a group that the statement did not name beforehand, as of now: what is followed here
    /// only if the snapshot is not `kept`, for its cut may have what the others have not.
    ///
    /// # Errors
    /// 40001 if it is.
    pub(super) fn ensure(&mut self, groups: &Groups, id: GroupId, kept: bool) -> Result<&At, Stop> {
        let seen = |at: &[(GroupId, At)]| at.iter().position(|(seen, _)| *seen == id);
        if seen(&self.at).is_none() {
            let group = held(groups, id)?;
            if !group.is_followed() {
                let pin = group.pin_applied();
                let pending = false;
                self.at.push((
                    id,
                    At {
                        group,
                        pin,
                        pending,
                    },
                ));
            } else if kept && !self.at.is_empty() {
                return Err(super::held::too_late());
            } else {
                self.add_cut(groups, &[id])?;
            }
        }
        let index = seen(&self.at).ok_or_else(|| not_held(id))?;
        Ok(&self.at[index].1)
    }

    /// Takes groups out.
    pub(super) fn leave_out(&mut self, out: impl Fn(GroupId, &At) -> bool) {
        self.at.retain(|(id, at)| !out(*id, at));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (GroupId, &At)> {
        self.at.iter().map(|(id, at)| (*id, at))
    }

    /// The position of a group, if it is in the snapshot.
    pub fn position(&self, id: GroupId) -> Option<Position> {
        self.at
            .iter()
            .find(|(seen, _)| *seen == id)
            .map(|(_, at)| at.pin.position())
    }

    /// No group is in it.
    pub fn is_empty(&self) -> bool {
        self.at.is_empty()
    }
}

/// A group of this node.
pub(super) fn held(groups: &Groups, id: GroupId) -> Result<Arc<Group>, Stop> {
    groups.get(id).ok_or_else(|| not_held(id))
}

fn not_held(id: GroupId) -> Stop {
    let message = format!("group {id} is not held by this node");
    Stop::Error(Error::new(state::OWNER_UNREACHABLE, message))
}

/// How far a group can be read here: what is followed only as far as it is shown with all that it
/// rests on.
pub(crate) fn readable(groups: &Groups, group: &Group) -> Position {
    match group.is_followed() {
        false => group.applied(),
        true => groups
            .cut(&[group.id()])
            .first()
            .map_or(Position::ZERO, |(_, at)| *at),
    }
}
