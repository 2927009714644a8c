//! What must hold in each state, and the model as the checker wants it.

use stateright::{Model, Property};

use crate::group::{Constraint, Deps, Entry, GROUPS, Position, View, What, has};
use crate::steps::{self, Looking};
use crate::{Rule, Scenario, State, Step};

/// No reader sees a child without its parent.
pub const READERS: &str = "no cut shows a child without its parent";
/// Nor does a home, which reads its own newest state beside its cut of others.
pub const HOMES: &str = "no home shows a child without its parent";
/// 23503 has changed nothing.
pub const REFUSED: &str = "what was refused has changed nothing";
/// Blind apply takes no row that its transaction has not seen.
pub const OVERWRITTEN: &str = "what is prepared or decided meets the rows that it has seen";
/// When nothing is left to do nothing is left over.
pub const REST: &str = "at rest no fence, intent or dangling reference is left";

impl Model for Scenario {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::first(self)]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let looking = Looking::at(self, state);
        looking.protocol(steps);
        looking.will(steps);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        Some(steps::take(self, state, step))
    }

    fn properties(&self) -> Vec<Property<Scenario>> {
        vec![
            Property::always(READERS, readers),
            Property::always(HOMES, homes),
            Property::always(REFUSED, refused),
            Property::always(OVERWRITTEN, overwritten),
            Property::always(REST, rest),
        ]
    }
}

/// A group at each of its positions, and the greatest dep on another up to there.
struct Prefixes {
    views: Vec<View>,
    rests: Vec<Deps>,
}

fn prefixes(scenario: &Scenario, state: &State, group: usize) -> Prefixes {
    let parent = scenario.parent[group].unwrap_or(group);
    let mut view = scenario.start(group);
    let mut rests: Deps = Default::default();
    let mut all = Prefixes {
        views: vec![view.clone()],
        rests: vec![rests],
    };
    for (at, entry) in state.logs[group].iter().enumerate() {
        view.apply(at as Position + 1, entry.what, parent);
        for (rest, dep) in rests.iter_mut().zip(entry.deps) {
            *rest = (*rest).max(dep);
        }
        all.views.push(view.clone());
        all.rests.push(rests);
    }
    all
}

fn dangles(child: &View, parent: &View) -> bool {
    let row = child.rows[0].filter(|row| row.checked && child.constraint != Constraint::None);
    row.and_then(|row| row.to)
        .is_some_and(|to| parent.rows[to as usize].is_none())
}

/// Every closed pair of positions of a parent and a child is what some reader may be shown. Pairs
/// without a newest entry were looked at in the state before; a reader that holds more groups sees
/// fewer cuts, not others.
fn readers(scenario: &Scenario, state: &State) -> bool {
    for child in 0..GROUPS {
        let Some(parent) = scenario.parent[child] else {
            continue;
        };
        let (of_child, of_parent) = (
            prefixes(scenario, state, child),
            prefixes(scenario, state, parent),
        );
        let (end_child, end_parent) = (state.end(child), state.end(parent));
        let newest_parent = (0..=end_child).map(|c| (end_parent, c));
        let newest_child = (0..=end_parent).map(|p| (p, end_child));
        for (p, c) in newest_parent.chain(newest_child) {
            let closed =
                of_parent.rests[p as usize][child] <= c && of_child.rests[c as usize][parent] <= p;
            if closed && dangles(&of_child.views[c as usize], &of_parent.views[p as usize]) {
                return false;
            }
        }
    }
    true
}

/// The home of a child reads its newest state and its cut of the parent, and the other way round,
/// as soon as the cut has the deps of its own log. Without that rule it reads at once.
fn homes(scenario: &Scenario, state: &State) -> bool {
    if scenario.rules.has(Rule::HomeAwaitsItsDeps) {
        // Then it reads a closed pair of positions, as any reader does.
        return true;
    }
    let looking = Looking::at(scenario, state);
    let views = looking.views();
    for child in 0..GROUPS {
        let Some(parent) = scenario.parent[child] else {
            continue;
        };
        for (home, of) in [(child, parent), (parent, child)] {
            let Some(cut) = &views.cut[home][of] else {
                continue;
            };
            let own = &views.own[home];
            let (child, parent) = match home == child {
                true => (own, cut),
                false => (cut, own),
            };
            if dangles(child, parent) {
                return false;
            }
        }
    }
    true
}

fn refused(scenario: &Scenario, state: &State) -> bool {
    let commits = |entry: &Entry| matches!(entry.what, What::Commit(_));
    if !state.logs.iter().flatten().any(commits) {
        return true;
    }
    let newest = |group| state.view(scenario, group, state.end(group));
    for child in 0..GROUPS {
        let Some(parent) = scenario.parent[child] else {
            continue;
        };
        let (committed, cancelled) = (newest(child).committed, newest(parent).cancelled);
        if committed.iter().any(|name| cancelled.contains(name)) {
            return false;
        }
    }
    true
}

fn overwritten(scenario: &Scenario, state: &State) -> bool {
    let takes = |entry: &Entry| matches!(entry.what, What::Commit(_) | What::Remove { .. });
    let newest = |group| state.view(scenario, group, state.end(group));
    let mut taken = (0..GROUPS).filter(|group| state.logs[*group].last().is_some_and(takes));
    !taken.any(|group| newest(group).overwritten)
}

fn rest(scenario: &Scenario, state: &State) -> bool {
    if !Looking::all_followed(scenario, state) {
        return true;
    }
    let looking = Looking::at(scenario, state);
    let mut steps = Vec::new();
    looking.protocol(&mut steps);
    if !steps.is_empty() {
        return true;
    }
    let own = &looking.views().own;
    (0..GROUPS).all(|group| {
        let view = &own[group];
        let Some(parent) = scenario.parent[group] else {
            return view.intents.is_empty() && state.open[group].is_none();
        };
        let constrained = match view.constraint {
            Constraint::None => false,
            Constraint::Valid => true,
            Constraint::Wished | Constraint::Enforced => return false,
        };
        let registered = has(own[parent].registered, group);
        view.intents.is_empty()
            && state.open[group].is_none()
            && view.fences.is_empty()
            && constrained == registered
            && !dangles(view, &own[parent])
    })
}
