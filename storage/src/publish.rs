//! What readers of several groups are shown. An entry is shown when what it depends on is: so a
//! cut never holds an effect without its cause.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use journal::{GroupId, Position};
use parking_lot::Mutex;

use crate::group::AtomicPosition;

/// Entries of one group that wait for others; above this the oldest two are shown together.
const BLOCKED_MAX: usize = 65_536;

/// What an entry depends on, in other groups.
pub(crate) type Deps = Vec<(GroupId, Position)>;

/// What is shown of one group.
#[derive(Default)]
struct Group {
    /// What single-group readers read at; set under the publish lock.
    applied: Arc<AtomicPosition>,
    shown: Position,
    /// Applied and not shown, ascending.
    blocked: VecDeque<(Position, Deps)>,
}

/// The publish lock and what it guards.
#[derive(Default)]
pub(crate) struct Publish {
    groups: Mutex<BTreeMap<GroupId, Group>>,
}

impl Publish {
    /// Begins to hold a group as a checkpoint left it.
    pub fn add(
        &self,
        id: GroupId,
        applied: Arc<AtomicPosition>,
        shown: Position,
        blocked: VecDeque<(Position, Deps)>,
    ) {
        self.groups.lock().insert(
            id,
            Group {
                applied,
                shown,
                blocked,
            },
        );
    }

    /// An entry is applied. `ready`: the group's reads are right, so its position is visible.
    pub fn publish(&self, id: GroupId, position: Position, deps: Deps, ready: bool) {
        let mut groups = self.groups.lock();
        let free = deps.is_empty() || satisfied(&groups, id, &deps);
        let Some(group) = groups.get_mut(&id) else {
            return;
        };
        if ready {
            group.applied.set(position);
        }
        if free && group.blocked.is_empty() {
            group.shown = position;
        } else {
            group.blocked.push_back((position, deps));
            if group.blocked.len() > BLOCKED_MAX {
                coarsen(&mut group.blocked);
            }
        }
        if groups.values().any(|group| !group.blocked.is_empty()) {
            unblock(&mut groups);
        }
    }

    /// Holds a group no more.
    pub fn remove(&self, id: GroupId) {
        let mut groups = self.groups.lock();
        groups.remove(&id);
        unblock(&mut groups);
    }

    /// A group's state was replaced by a snapshot as of `position`. What its sender was shown is
    /// shown here: between two nodes that follow the same groups cuts may differ for a moment.
    pub fn replace(
        &self,
        id: GroupId,
        position: Position,
        shown: Position,
        mut blocked: VecDeque<(Position, Deps)>,
    ) {
        let mut groups = self.groups.lock();
        if let Some(group) = groups.get_mut(&id) {
            group.applied.set(position);
            group.shown = shown.max(group.shown);
            blocked.retain(|(position, _)| *position > group.shown);
            group.blocked = blocked;
        }
        unblock(&mut groups);
    }

    /// Positions of several groups at one moment.
    pub fn cut(&self, ids: &[GroupId]) -> Vec<(GroupId, Position)> {
        let groups = self.groups.lock();
        let held = ids
            .iter()
            .filter_map(|id| groups.get(id).map(|group| (*id, group)));
        held.map(|(id, group)| (id, group.shown.min(group.applied.get())))
            .collect()
    }

    /// What a checkpoint must keep of a group.
    pub fn state(&self, id: GroupId) -> (Position, VecDeque<(Position, Deps)>) {
        let groups = self.groups.lock();
        groups
            .get(&id)
            .map(|group| (group.shown, group.blocked.clone()))
            .unwrap_or_default()
    }
}

/// Of the oldest two blocked entries makes one.
fn coarsen(blocked: &mut VecDeque<(Position, Deps)>) {
    if let Some((_, deps)) = blocked.pop_front()
        && let Some((_, next)) = blocked.front_mut()
    {
        next.extend(deps);
        next.sort_unstable();
        next.reverse();
        next.dedup_by_key(|(group, _)| *group);
    }
}

/// Is everything shown that an entry of `id` depends on? A dep on a group that is not held here
/// asks every held group to be closed up to it: positions grow along causality, so this bounds
/// the whole chain behind it.
fn satisfied(groups: &BTreeMap<GroupId, Group>, id: GroupId, deps: &Deps) -> bool {
    deps.iter()
        .filter(|(of, _)| *of != id)
        .all(|(of, position)| match groups.get(of) {
            Some(group) => group.shown >= *position,
            None => {
                let mut others = groups.iter().filter(|(other, _)| **other != id);
                others.all(|(_, group)| group.shown >= *position)
            }
        })
}

/// Shows what is no longer blocked, until nothing changes.
fn unblock(groups: &mut BTreeMap<GroupId, Group>) {
    let ids: Vec<GroupId> = groups.keys().copied().collect();
    let mut changed = true;
    while changed {
        changed = false;
        for id in &ids {
            while let Some((position, deps)) = groups[id].blocked.front()
                && satisfied(groups, *id, deps)
            {
                let position = *position;
                if let Some(group) = groups.get_mut(id) {
                    group.shown = position;
                    group.blocked.pop_front();
                }
                changed = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: GroupId = GroupId(1);
    const B: GroupId = GroupId(2);
    const C: GroupId = GroupId(3);

    fn groups(ids: &[GroupId]) -> Publish {
        let publish = Publish::default();
        for id in ids {
            publish.add(*id, Arc::default(), Position::ZERO, VecDeque::new());
        }
        publish
    }

    fn shown(publish: &Publish, id: GroupId) -> u64 {
        publish.cut(&[id])[0].1.0
    }

    #[test]
    fn an_effect_is_shown_with_its_cause() {
        let publish = groups(&[A, B]);
        publish.publish(B, Position(20), vec![(A, Position(10))], true);
        publish.publish(B, Position(21), vec![], true);
        assert_eq!(shown(&publish, B), 0, "applied first, by chance");
        publish.publish(A, Position(9), vec![], true);
        assert_eq!(shown(&publish, B), 0);
        publish.publish(A, Position(10), vec![], true);
        assert_eq!(publish.cut(&[A, B]), [(A, Position(10)), (B, Position(21))]);
    }

    #[test]
    fn chains_are_followed() {
        let publish = groups(&[A, B, C]);
        publish.publish(C, Position(30), vec![(B, Position(20))], true);
        publish.publish(B, Position(20), vec![(A, Position(10))], true);
        assert_eq!((shown(&publish, B), shown(&publish, C)), (0, 0));
        publish.publish(A, Position(10), vec![], true);
        assert_eq!((shown(&publish, B), shown(&publish, C)), (20, 30));
    }

    #[test]
    fn a_dep_on_a_group_not_held_here_closes_all_held_groups() {
        let publish = groups(&[A, C]);
        publish.publish(C, Position(30), vec![(B, Position(20))], true);
        publish.publish(A, Position(19), vec![], true);
        assert_eq!(
            shown(&publish, C),
            0,
            "B may rest on something of A up to 20"
        );
        publish.publish(A, Position(20), vec![], true);
        assert_eq!(shown(&publish, C), 30);
    }

    #[test]
    fn nothing_is_visible_before_the_replay_is_through() {
        let publish = groups(&[A]);
        publish.publish(A, Position(10), vec![], false);
        assert_eq!(shown(&publish, A), 0);
        publish.publish(A, Position(11), vec![], true);
        assert_eq!(shown(&publish, A), 11);
    }
}
