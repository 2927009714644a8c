//! What readers of several groups are shown. An entry is shown when what it depends on is: so a
//! cut never holds an effect without its cause.
//!
//! A copy joins the cut when it has come. Until then nobody waits for it, as for any group that is
//! not here, and others are shown that rest on what it does not have yet. So it joins with so much
//! that everything is there on which those may rest (`since`), in one step:
//! ```text
//! nothing is here      since = the greatest of all
//! a copy comes         since = what the others rest on, at most; it sinks as more of them is known
//! until it has `since` a dep up to it is one on a group that is not here; a dep above waits
//! from then on         a group like the others
//! ```
//! Why it holds: no `e` that is shown has a cause `c` above `since` in a group that has not joined.
//! The way from `e` to `c` leaves the cut by a dep, on that group or on one that is not here, up to
//! some `p`, and `c <= p`. When that dep was met, `p` was not above `since`: else it had waited. And
//! where `since` sinks, it stays above every such `p` of all that is applied here (`needed`).

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

/// So much never comes of a group.
const NEVER: Position = Position(u64::MAX);

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
    /// It is in the cut once so much is shown, which it is in one step.
    since: Position,
    /// What was shown of it before it left this node and came again.
    before: Position,
}

/// What a checkpoint keeps of it. One that has not joined the cut is blocked by what must still
/// come of itself.
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
    /// What was shown of groups that have left: in what takes their place nothing older is read.
    left: Mutex<BTreeMap<GroupId, Position>>,
}

impl Publish {
    /// At a start, which is to open these groups one by one. What rests on one that is not open
    /// yet waits for it, and what it rests on itself may be anything.
    pub fn opening(ids: impl IntoIterator<Item = GroupId>) -> Publish {
        let unopened = || Group {
            rests: [(NOBODY, NEVER)].into(),
            ..Group::default()
        };
        let groups = ids.into_iter().map(|id| (id, unopened())).collect();
        Publish {
            groups: Mutex::new(groups),
            left: Mutex::default(),
        }
    }

    /// What is not open now is not held here.
    pub fn opened(&self) {
        let mut groups = self.groups.lock();
        groups.retain(|_, group| group.rests.get(&NOBODY) != Some(&NEVER));
        settle(&mut groups);
    }

    /// Begins to hold a group as a checkpoint left it. One that `joins` has nothing yet, and is to
    /// be in the cut once a copy has come.
    pub fn add(&self, id: GroupId, applied: Arc<AtomicPosition>, state: State, joins: bool) {
        let State {
            shown,
            mut blocked,
            rests,
        } = state;
        let since = match joins {
            true => NEVER,
            false => take_own(id, &mut blocked),
        };
        let group = Group {
            coarse: !blocked.is_empty(),
            applied,
            shown,
            blocked,
            rests,
            since,
            before: self.left(id).unwrap_or_default(),
        };
        let mut groups = self.groups.lock();
        groups.insert(id, group);
        settle(&mut groups);
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
        let joining = group.is_joining();
        if free && group.blocked.is_empty() && !joining {
            group.shown = position;
        } else {
            group.blocked.push_back((position, deps));
            group.coarse |= joining;
            if group.blocked.len() > if joining { 1 } else { BLOCKED_MAX } {
                coarsen(&mut group.blocked);
                group.coarse = true;
            }
        }
        if joining {
            settle(&mut groups);
        } else if groups.values().any(|group| !group.blocked.is_empty()) {
            unblock(&mut groups);
        }
    }

    /// Holds a group no more: what others wait for is not looked for here.
    pub fn remove(&self, id: GroupId) {
        let mut groups = self.groups.lock();
        if let Some(group) = groups.remove(&id) {
            self.note_left(id, group.shown.min(group.applied.get()));
        }
        settle(&mut groups);
    }

    /// So much of a group was here that is not held any more.
    pub fn note_left(&self, id: GroupId, shown: Position) {
        let mut left = self.left.lock();
        let known = left.entry(id).or_default();
        *known = shown.max(*known);
    }

    /// What was shown of a group before it left; `None`: it has not been here.
    pub fn left(&self, id: GroupId) -> Option<Position> {
        self.left.lock().get(&id).copied()
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
        settle(&mut groups);
    }

    /// Groups that entries of others wait for, since those depend on one that is not held here:
    /// nothing of theirs is in the way but that they are not closed so far. Those, too, that have
    /// too little to join the cut.
    pub fn awaited(&self) -> BTreeSet<GroupId> {
        let groups = self.groups.lock();
        let mut awaited = BTreeSet::new();
        for (id, group) in groups.iter() {
            if group.has_come() && newest(group) < group.since {
                awaited.insert(*id);
            }
            let deps = group.blocked.front().into_iter().flat_map(|(_, deps)| deps);
            let away = |of: &GroupId, at| groups.get(of).is_none_or(|of| of.is_passed_over(at));
            for (_, position) in deps.filter(|(of, at)| away(of, *at)) {
                let others = groups.iter().filter(|(other, _)| *other != id);
                let others = others.filter(|(_, g)| !g.is_passed_over(*position));
                let behind = others.filter(|(_, g)| g.shown < *position && g.blocked.is_empty());
                awaited.extend(behind.map(|(other, _)| *other));
            }
        }
        awaited
    }

    /// Looks again whether copies that have come can join the cut: what others rest on is known
    /// better the more of them is here. Gives those that have joined.
    pub fn join(&self) -> Vec<GroupId> {
        let mut groups = self.groups.lock();
        let come = groups.iter().filter(|(_, group)| group.has_come());
        let mut come: Vec<GroupId> = come.map(|(id, _)| *id).collect();
        if !come.is_empty() {
            settle(&mut groups);
            come.retain(|id| !groups[id].is_joining());
        }
        come
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
        let state = |group: &Group| {
            let mut blocked = group.blocked.clone();
            if let Some((at, deps)) = blocked.front_mut()
                && *at < group.since
            {
                deps.push((id, group.since));
            }
            State {
                shown: group.shown,
                blocked,
                rests: group.rests.clone(),
            }
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

/// What must still come of a group itself before it joins the cut, taken out of its state.
fn take_own(id: GroupId, blocked: &mut VecDeque<(Position, Deps)>) -> Position {
    let Some((at, deps)) = blocked.front_mut() else {
        return Position::ZERO;
    };
    let own = deps.iter().position(|(of, dep)| *of == id && dep > at);
    own.map_or(Position::ZERO, |own| deps.remove(own).1)
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
                Some(group) if self.of(*of, group) >= *position => true,
                #[cfg(feature = "sabotage")]
                held if journal::sabotage::planted("closing-rule-off") => {
                    let there = |group: &Group| newest(group) >= *position;
                    held.is_none_or(|group| group.is_passed_over(*position) || there(group))
                }
                Some(group) if !group.is_passed_over(*position) => false,
                Some(_) | None => {
                    let others = self.groups.iter().filter(|(other, _)| **other != id);
                    let mut others = others.filter(|(_, group)| !group.is_passed_over(*position));
                    others.all(|(other, group)| self.closed(*other, group) >= *position)
                }
            })
    }

    /// How far a group is shown, or would be, and closed: below its next entry there is nothing.
    fn closed(&self, id: GroupId, group: &Group) -> Position {
        let shown = self.of(id, group);
        if group.coarse {
            // One that is blocked may stand for many.
            return shown;
        }
        let next = group.blocked.iter().find(|(at, _)| *at > shown);
        next.map_or(shown, |(at, _)| Position(at.0 - 1).max(shown))
    }
}

/// Lets copies join the cut with no more than they need to, then shows what is no longer blocked.
fn settle(groups: &mut BTreeMap<GroupId, Group>) {
    let come = groups.iter().filter(|(_, group)| group.has_come());
    let come: Vec<GroupId> = come.map(|(id, _)| *id).collect();
    for id in come {
        let needed = needed(groups, id);
        if let Some(group) = groups.get_mut(&id) {
            group.since = group.since.min(needed);
        }
    }
    unblock(groups);
}

/// How much of a group others may rest on that are shown. A dep on one of which enough is here leads
/// on to what that one depends on; behind any other may be everything up to it.
fn needed(groups: &BTreeMap<GroupId, Group>, id: GroupId) -> Position {
    let leads_on = |of: GroupId, at| groups.get(&of).is_some_and(|of| newest(of) >= at);
    let others = groups.iter().filter(|(other, _)| **other != id);
    let rests = others.flat_map(|(_, group)| &group.rests);
    let ends = rests.filter(|(of, at)| **of == id || !leads_on(**of, **at));
    let needed = ends.map(|(_, at)| *at).max().unwrap_or_default();
    needed.max(groups[&id].before)
}

/// Shows what is no longer blocked, until nothing changes.
fn unblock(groups: &mut BTreeMap<GroupId, Group>) {
    let ids: Vec<GroupId> = groups.keys().copied().collect();
    let mut changed = true;
    while changed {
        changed = false;
        for id in &ids {
            while let Some((position, deps)) = groups[id].blocked.front()
                && *position >= groups[id].since
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

/// What is applied of a group, shown or not.
fn newest(group: &Group) -> Position {
    group.blocked.back().map_or(group.shown, |(at, _)| *at)
}

/// Shows what waits for nothing but each other: the greatest cut in which every entry has what it
/// depends on.
fn show_together(groups: &mut BTreeMap<GroupId, Group>) {
    let most = |group: &Group| match newest(group) {
        newest if newest < group.since => group.shown,
        newest => newest,
    };
    let mut cut: BTreeMap<GroupId, Position> = groups
        .iter()
        .map(|(id, group)| (*id, most(group)))
        .collect();
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
    /// It is not in the cut yet.
    fn is_joining(&self) -> bool {
        self.shown < self.since
    }

    /// The same, but a copy has come.
    fn has_come(&self) -> bool {
        self.is_joining() && !self.blocked.is_empty()
    }

    /// Will it have so much at once when it joins the cut, and does nobody wait for it until then?
    fn is_passed_over(&self, at: Position) -> bool {
        self.shown < at && at <= self.since
    }

    /// Shows what is blocked up to a position.
    fn show(&mut self, upto: Position) {
        self.shown = self.shown.max(upto);
        while self.blocked.pop_front_if(|(at, _)| *at <= upto).is_some() {}
        self.coarse &= !self.blocked.is_empty();
    }
}

#[cfg(test)]
mod joins;

#[cfg(test)]
mod tests {
    use super::*;

    const A: GroupId = GroupId(1);
    const B: GroupId = GroupId(2);
    const C: GroupId = GroupId(3);

    fn groups(ids: &[GroupId]) -> Publish {
        let publish = Publish::default();
        for id in ids {
            publish.add(*id, Arc::default(), State::default(), false);
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

    /// Each waits for the other to be closed, and is, for the next entry of both lies beyond.
    #[test]
    fn what_is_blocked_behind_a_group_not_held_here_closes_the_time_before() {
        let publish = groups(&[A, C]);
        publish.publish(A, Position(90), vec![], true);
        publish.publish(C, Position(95), vec![], true);
        publish.publish(A, Position(118), vec![(B, Position(115))], true);
        assert_eq!(shown(&publish, A), 90);
        publish.publish(C, Position(120), vec![(B, Position(110))], true);
        assert_eq!((shown(&publish, A), shown(&publish, C)), (118, 120));
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
    fn what_has_left_stands_in_nobodys_way() {
        let publish = groups(&[A, B, C]);
        publish.publish(B, Position(15), vec![], true);
        publish.publish(A, Position(30), vec![], true);
        publish.publish(C, Position(30), vec![(B, Position(20))], true);
        assert_eq!(shown(&publish, C), 0);
        publish.remove(B);
        assert_eq!(shown(&publish, C), 30, "all others are closed so far");
        assert_eq!(publish.left(B), Some(Position(15)));
        assert_eq!(publish.left(A), None);
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
