//! What readers of several groups are shown. An entry is shown when what it depends on is: so a
//! cut never holds an effect without its cause.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use journal::{GroupId, Position};
use parking_lot::Mutex;

use crate::group::AtomicPosition;

/// Entries of one group that wait for others; above this the oldest two are shown together.
const BLOCKED_MAX: usize = 65_536;

/// What an entry depends on, in other groups.
pub(crate) type Deps = Vec<(GroupId, Position)>;

/// The greatest dep on each group.
pub(crate) type Rests = BTreeMap<GroupId, Position>;

/// A group that is held nowhere: a dep on it asks all others to be closed.
pub(crate) const NOBODY: GroupId = GroupId(u32::MAX);

/// What is shown of one group.
#[derive(Default)]
struct Group {
    /// What single-group readers read at; set under the publish lock.
    applied: Arc<AtomicPosition>,
    shown: Position,
    /// Applied and not shown, ascending.
    blocked: VecDeque<(Position, Deps)>,
    /// What all that is applied depends on.
    rests: Rests,
    /// Several entries may be blocked as one, so that groups can wait for each other.
    coarse: bool,
}

/// What a checkpoint keeps of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub shown: Position,
    pub blocked: VecDeque<(Position, Deps)>,
    pub rests: Rests,
}

/// The publish lock and what it guards.
#[derive(Default)]
pub(crate) struct Publish {
    groups: Mutex<BTreeMap<GroupId, Group>>,
}

impl Publish {
    /// Begins to hold a group as a checkpoint left it.
    pub fn add(&self, id: GroupId, applied: Arc<AtomicPosition>, state: State) {
        let State {
            shown,
            blocked,
            rests,
        } = state;
        let group = Group {
            coarse: !blocked.is_empty(),
            applied,
            shown,
            blocked,
            rests,
        };
        self.groups.lock().insert(id, group);
    }

    /// An entry is applied. `ready`: the group's reads are right, so its position is visible.
    pub fn publish(&self, id: GroupId, position: Position, deps: Deps, ready: bool) {
        let mut groups = self.groups.lock();
        let free = deps.is_empty() || Shown::now(&groups).has(id, &deps);
        let Some(group) = groups.get_mut(&id) else {
            return;
        };
        if ready {
            group.applied.set(position);
        }
        for (of, dep) in &deps {
            let rest = group.rests.entry(*of).or_default();
            *rest = (*rest).max(*dep);
        }
        if free && group.blocked.is_empty() {
            group.shown = position;
        } else {
            group.blocked.push_back((position, deps));
            if group.blocked.len() > BLOCKED_MAX {
                coarsen(&mut group.blocked);
                group.coarse = true;
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

    /// A group's state was replaced by a snapshot as of `position`: one entry, which depends on
    /// all that those in it did. Its sender may show it already and have more of the others.
    pub fn replace(&self, id: GroupId, position: Position, rests: Rests) {
        let mut groups = self.groups.lock();
        if let Some(group) = groups.get_mut(&id) {
            group.applied.set(position);
            let deps = rests.iter().map(|(of, dep)| (*of, *dep)).collect();
            group.rests = rests;
            group.blocked = [(position, deps)].into();
            group.coarse = true;
        }
        unblock(&mut groups);
    }

    /// Groups that entries of others wait for, since those depend on one that is not held here:
    /// nothing of theirs is in the way but that they are not closed so far.
    pub fn awaited(&self) -> BTreeSet<GroupId> {
        let groups = self.groups.lock();
        let mut awaited = BTreeSet::new();
        for (id, group) in groups.iter() {
            let deps = group.blocked.front().into_iter().flat_map(|(_, deps)| deps);
            for (_, position) in deps.filter(|(of, _)| !groups.contains_key(of)) {
                let others = groups.iter().filter(|(other, _)| *other != id);
                let behind = others.filter(|(_, g)| g.shown < *position && g.blocked.is_empty());
                awaited.extend(behind.map(|(other, _)| *other));
            }
        }
        awaited
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
    pub fn state(&self, id: GroupId) -> State {
        let groups = self.groups.lock();
        let state = |group: &Group| State {
            shown: group.shown,
            blocked: group.blocked.clone(),
            rests: group.rests.clone(),
        };
        groups.get(&id).map(state).unwrap_or_default()
    }

    /// What all that is applied of a group depends on.
    pub fn rests(&self, id: GroupId) -> Rests {
        let groups = self.groups.lock();
        let rests = |group: &Group| group.rests.clone();
        groups.get(&id).map(rests).unwrap_or_default()
    }

    /// What is shown of a group.
    pub fn shown(&self, id: GroupId) -> Position {
        let groups = self.groups.lock();
        groups.get(&id).map(|group| group.shown).unwrap_or_default()
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

/// How far the groups are shown, or would be.
struct Shown<'a> {
    groups: &'a BTreeMap<GroupId, Group>,
    instead: Option<&'a BTreeMap<GroupId, Position>>,
}

impl Shown<'_> {
    fn now(groups: &BTreeMap<GroupId, Group>) -> Shown<'_> {
        let instead = None;
        Shown { groups, instead }
    }

    fn of(&self, id: GroupId, group: &Group) -> Position {
        let instead = self.instead.and_then(|instead| instead.get(&id));
        instead.copied().unwrap_or(group.shown)
    }

    /// Is everything there that an entry of `id` depends on? A dep on a group that is not held
    /// here asks every held group to be closed up to it: positions grow along causality, so this
    /// bounds the whole chain behind it.
    fn has(&self, id: GroupId, deps: &Deps) -> bool {
        deps.iter()
            .filter(|(of, _)| *of != id)
            .all(|(of, position)| match self.groups.get(of) {
                Some(group) => self.of(*of, group) >= *position,
                #[cfg(feature = "sabotage")]
                None if journal::sabotage::planted("closing-rule-off") => true,
                None => {
                    let mut others = self.groups.iter().filter(|(other, _)| **other != id);
                    others.all(|(other, group)| self.of(*other, group) >= *position)
                }
            })
    }
}

/// Shows what is no longer blocked, until nothing changes.
fn unblock(groups: &mut BTreeMap<GroupId, Group>) {
    let ids: Vec<GroupId> = groups.keys().copied().collect();
    let mut changed = true;
    while changed {
        changed = false;
        for id in &ids {
            while let Some((position, deps)) = groups[id].blocked.front()
                && Shown::now(groups).has(*id, deps)
            {
                let position = *position;
                if let Some(group) = groups.get_mut(id) {
                    group.show(position);
                }
                changed = true;
            }
        }
    }
    if groups.values().any(|group| group.coarse) {
        show_together(groups);
    }
}

/// Shows what waits for nothing but each other: the greatest cut in which every entry has what it
/// depends on.
fn show_together(groups: &mut BTreeMap<GroupId, Group>) {
    let newest = |group: &Group| group.blocked.back().map_or(group.shown, |(at, _)| *at);
    let mut cut: BTreeMap<GroupId, Position> =
        groups.iter().map(|(id, g)| (*id, newest(g))).collect();
    let mut changed = true;
    while changed {
        changed = false;
        for (id, group) in groups.iter() {
            let shown = Shown {
                groups,
                instead: Some(&cut),
            };
            let wanted = cut[id];
            let fits = |(at, deps): &&(Position, Deps)| *at <= wanted && shown.has(*id, deps);
            let last = group.blocked.iter().take_while(fits).last();
            let reached = last.map_or(group.shown, |(at, _)| *at);
            changed |= reached < wanted;
            cut.insert(*id, reached);
        }
    }
    for (id, group) in groups {
        group.show(cut[id]);
    }
}

impl Group {
    /// Shows what is blocked up to a position.
    fn show(&mut self, upto: Position) {
        self.shown = self.shown.max(upto);
        while self.blocked.pop_front_if(|(at, _)| *at <= upto).is_some() {}
        self.coarse &= !self.blocked.is_empty();
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
            publish.add(*id, Arc::default(), State::default());
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
        assert_eq!(publish.rests(B), [(A, Position(10))].into());
        assert_eq!(publish.rests(A), Rests::new());
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
    fn snapshots_of_groups_that_depend_on_each_other_are_shown_together() {
        let publish = groups(&[A, B, C]);
        let rests = |of, at| [(of, Position(at))].into();
        publish.replace(A, Position(60), rests(B, 50));
        assert_eq!(shown(&publish, A), 0);
        publish.replace(B, Position(55), rests(A, 40));
        assert_eq!((shown(&publish, A), shown(&publish, B)), (60, 55));
        publish.replace(A, Position(90), rests(B, 80));
        publish.publish(B, Position(70), vec![(A, Position(65))], true);
        publish.publish(B, Position(80), vec![(C, Position(7))], true);
        assert_eq!((shown(&publish, A), shown(&publish, B)), (60, 55));
        publish.publish(C, Position(7), vec![], true);
        assert_eq!((shown(&publish, A), shown(&publish, B)), (90, 80));
    }

    #[test]
    fn a_snapshot_is_an_effect_too() {
        let publish = groups(&[A, C]);
        publish.publish(C, Position(30), vec![(A, Position(20))], true);
        let rests = publish.state(C).rests;
        assert_eq!(rests, [(A, Position(20))].into());
        let other = groups(&[A, C]);
        other.publish(A, Position(10), vec![], true);
        other.replace(C, Position(30), rests);
        assert_eq!(shown(&other, C), 0);
        other.publish(A, Position(20), vec![], true);
        assert_eq!(shown(&other, C), 30);
    }

    #[test]
    fn who_stands_in_the_way_is_named() {
        let publish = groups(&[A, C]);
        assert!(publish.awaited().is_empty());
        publish.publish(C, Position(30), vec![(B, Position(20))], true);
        assert_eq!(publish.awaited(), [A].into());
        publish.publish(A, Position(20), vec![], true);
        assert!(publish.awaited().is_empty());
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
