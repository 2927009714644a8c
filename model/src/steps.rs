//! What may happen next. Steps of the protocol are always possible where they are useful; clients
//! and faults act as long as their budget lasts. Every step of the protocol makes a log or a
//! cursor longer or closes a transaction, so no run goes on for ever.

use crate::group::{
    Answer, Constraint, Deps, Fence, GROUPS, Intent, Name, Position, Prepared, View, What, has,
};
use crate::state::Views;
use crate::{Action, Rule, Scenario, State, Transaction};

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A home's cut of another group goes on.
    Follow {
        /// The home.
        home: usize,
        /// The other group.
        of: usize,
    },
    /// A home places an entry by itself.
    Place {
        /// The home.
        home: usize,
        /// What it does.
        what: What,
        /// What it depends on.
        deps: Deps,
    },
    /// A client's statement opens a transaction; a delete that asks places its intent.
    Begin {
        /// The home.
        home: usize,
        /// The transaction.
        transaction: Transaction,
        /// The intent.
        ask: Option<What>,
    },
    /// An open transaction ends, with an entry or with nothing.
    End {
        /// The home.
        home: usize,
        /// The entry.
        entry: Option<(What, Deps)>,
    },
    /// A client's statement that is an entry by itself.
    Alone {
        /// The home.
        home: usize,
        /// What it does.
        what: What,
        /// What it depends on.
        deps: Deps,
    },
    /// The leader of a group falls; another one leads, which follows the others from the beginning.
    Fall {
        /// The group.
        group: usize,
        /// So much of the log is left: at least what anybody has followed.
        left: Position,
    },
}

const NO_DEPS: Deps = [0; GROUPS];

/// What steps are looked for in.
pub struct Looking<'a> {
    scenario: &'a Scenario,
    state: &'a State,
    views: Views,
}

impl<'a> Looking<'a> {
    /// Looks at a state.
    pub fn at(scenario: &'a Scenario, state: &'a State) -> Looking<'a> {
        let views = Views::of(scenario, state);
        Looking {
            scenario,
            state,
            views,
        }
    }

    /// The views of the state.
    pub fn views(&self) -> &Views {
        &self.views
    }

    fn rule(&self, rule: Rule) -> bool {
        self.scenario.rules.has(rule)
    }

    /// Can no home follow any further?
    pub fn all_followed(scenario: &Scenario, state: &State) -> bool {
        let pairs = (0..GROUPS).flat_map(|home| (0..GROUPS).map(move |of| (home, of)));
        let mut pairs = pairs.filter(|(home, of)| scenario.follows(*home, *of));
        pairs.all(|(home, of)| next(scenario, state, home, of).is_none())
    }

    /// What groups do by themselves, and how transactions end.
    pub fn protocol(&self, steps: &mut Vec<Step>) {
        for home in 0..GROUPS {
            for of in (0..GROUPS).filter(|of| self.scenario.follows(home, *of)) {
                if next(self.scenario, self.state, home, of).is_some() {
                    steps.push(Step::Follow { home, of });
                }
            }
            self.ends(home, steps);
            self.intents(home, steps);
            self.registers(home, steps);
            if let Some(parent) = self.scenario.parent[home] {
                self.consumes(home, parent, steps);
            }
        }
    }

    /// What clients and faults do.
    pub fn will(&self, steps: &mut Vec<Step>) {
        let budget = &self.state.budget;
        for home in 0..GROUPS {
            let own = &self.views.own[home];
            if self.state.open[home].is_none() {
                self.puts(home, steps);
                self.deletes(home, steps);
            }
            if budget.wishes[home] > 0 && own.constraint == Constraint::None {
                let what = What::Wish;
                steps.push(alone(home, what));
            }
            // What is decided because of the constraint goes first.
            let bound = |intent: &Intent| intent.decided && intent.cause.is_some();
            let free = !own.intents.iter().any(bound) || !self.rule(Rule::DropAwaitsDecisions);
            if budget.drops[home] > 0 && own.constraint != Constraint::None && free {
                steps.push(alone(home, What::Drop));
            }
            if budget.falls > 0 && self.scenario.plays(home) {
                let group = home;
                let left = self.state.committed[group]..=self.state.end(group);
                steps.extend(left.map(|left| Step::Fall { group, left }));
            }
        }
        self.messages(steps);
    }

    /// Does a home act on what it has of another group?
    fn acts_on(&self, home: usize, of: usize) -> bool {
        let floor = self.views.own[home].floor[of];
        !self.rule(Rule::Floor) || self.state.follow[home][of] >= floor
    }

    /// Is a row locked by what is prepared or decided?
    fn is_locked(&self, home: usize, row: u8) -> bool {
        let own = &self.views.own[home];
        let held = |at: Position| at > self.state.forgotten[home];
        let intent = |intent: &Intent| {
            intent.key == row && held(intent.at) && (intent.decided || intent.cause.is_some())
        };
        let prepared = |fence: &Fence| row == 0 && fence.prepared.is_some() && held(fence.at);
        own.intents.iter().any(intent) || own.fences.iter().any(prepared)
    }

    fn puts(&self, home: usize, steps: &mut Vec<Step>) {
        if self.state.budget.puts[home] == 0 {
            return;
        }
        let own = &self.views.own[home];
        let Some(parent) = self.scenario.parent[home] else {
            let keys = (0..self.scenario.keys).map(|row| row as u8);
            let free = |row: &u8| own.rows[*row as usize].is_none() && !self.is_locked(home, *row);
            for row in keys.filter(free) {
                let (to, checked) = (None, true);
                steps.push(alone(home, What::Put { row, to, checked }));
            }
            return;
        };
        if own.rows[0].is_some() || self.is_locked(home, 0) {
            return;
        }
        let keys = match self.scenario.parent[parent] {
            None => self.scenario.keys,
            Some(_) => 1,
        };
        for to in (0..keys).map(|key| key as u8) {
            match own.constraint {
                Constraint::None => {
                    let (row, checked, to) = (0, false, Some(to));
                    steps.push(alone(home, What::Put { row, to, checked }));
                }
                Constraint::Wished => {}
                Constraint::Enforced | Constraint::Valid => {
                    if let Some((seen, version)) = self.check(home, parent, to)
                        && !own.is_fenced(to)
                    {
                        let ask = None;
                        let transaction = Transaction::Insert { to, seen, version };
                        steps.push(Step::Begin {
                            home,
                            transaction,
                            ask,
                        });
                    }
                }
            }
        }
    }

    /// Looks for a key of the parent: the position it was looked for at, and the version found.
    fn check(&self, home: usize, parent: usize, key: u8) -> Option<(Position, Position)> {
        if !self.acts_on(home, parent) {
            return None;
        }
        let cut = self.views.cut[home][parent].as_ref()?;
        let seen = self.state.follow[home][parent];
        let (view, seen) = match self.rule(Rule::ChecksReadTheCut) {
            true => (cut, seen),
            false => (&self.views.own[parent], self.state.end(parent)),
        };
        view.rows[key as usize].map(|row| (seen, row.version))
    }

    fn deletes(&self, home: usize, steps: &mut Vec<Step>) {
        if self.state.budget.deletes[home] == 0 {
            return;
        }
        let own = &self.views.own[home];
        for (row, found) in own.rows.iter().enumerate() {
            let Some(found) = found else { continue };
            let row = row as u8;
            if self.is_locked(home, row) {
                continue;
            }
            let (asked, version) = (own.registered, found.version);
            if self.scenario.children(home).next().is_none() {
                // Nobody can register: the statement is an entry by itself.
                let name = None;
                steps.push(alone(home, What::Remove { name, row, version }));
                continue;
            }
            let name = self.state.next_name(home);
            let ask = (asked != 0).then_some(What::Ask {
                name,
                row,
                version,
                asked,
                cause: None,
            });
            let name = ask.map(|_| name);
            let transaction = Transaction::Delete { row, version, name };
            steps.push(Step::Begin {
                home,
                transaction,
                ask,
            });
        }
    }

    /// How the open transaction of a home may end.
    fn ends(&self, home: usize, steps: &mut Vec<Step>) {
        let mut end = |entry| steps.push(Step::End { home, entry });
        let own = &self.views.own[home];
        match self.state.open[home] {
            None => {}
            Some(Transaction::Insert { to, seen, version }) => {
                end(None);
                if let Some(parent) = self.scenario.parent[home]
                    && let Some(version) = self.again(home, parent, to, seen, version)
                {
                    let (row, to, checked) = (0, Some(to), true);
                    let deps = self.references(parent, version);
                    end(Some((What::Put { row, to, checked }, deps)));
                }
            }
            Some(Transaction::Delete { row, version, name }) => {
                let registered = match name {
                    None => own.registered,
                    Some(name) => match own.intent(name) {
                        Some(intent) => own.registered & !intent.asked,
                        None => return,
                    },
                };
                let look = self.rule(Rule::RegistrationsLookedAtAgain);
                let Some(of) = name else {
                    end(None);
                    if registered == 0 || !look {
                        end(Some((What::Remove { name, row, version }, NO_DEPS)));
                    }
                    return;
                };
                end(Some((What::Cancel(of), NO_DEPS)));
                if (registered == 0 || !look)
                    && let Some(intent) = own.intent(of)
                {
                    match self.round_two(home, intent) {
                        Some(Two::Decide) => end(Some((What::Decide(of), NO_DEPS))),
                        Some(Two::End(deps)) => {
                            end(Some((What::Remove { name, row, version }, deps)));
                        }
                        None => {}
                    }
                }
            }
        }
    }

    /// Checks a reference in the critical section: the version that its entry depends on.
    fn again(
        &self,
        home: usize,
        parent: usize,
        to: u8,
        seen: Position,
        version: Position,
    ) -> Option<Position> {
        let own = &self.views.own[home];
        if own.rows[0].is_some()
            || ![Constraint::Enforced, Constraint::Valid].contains(&own.constraint)
        {
            return None;
        }
        if !self.rule(Rule::CheckedAtPosition) {
            return Some(version);
        }
        if own.is_fenced(to) {
            return None;
        }
        if seen >= own.floor[parent] || !self.rule(Rule::Floor) {
            return Some(version);
        }
        self.check(home, parent, to).map(|(_, version)| version)
    }

    fn references(&self, parent: usize, version: Position) -> Deps {
        let mut deps = NO_DEPS;
        if self.rule(Rule::ReferencesDepend) {
            deps[parent] = version;
        }
        deps
    }

    /// A child's answer to an intent, as the home of the parent sees it.
    fn answer(&self, home: usize, child: usize, intent: &Intent) -> Option<&Fence> {
        let view = match self.rule(Rule::AnswersAreCommitted) {
            true => self.views.cut[home][child].as_ref()?,
            false => &self.views.own[child],
        };
        let named = view.fence(intent.name);
        if named.is_none() && !self.rule(Rule::AnswersNameTheIntent) {
            return view.fences.iter().find(|fence| fence.key == intent.key);
        }
        named
    }

    /// What COMMIT does, if all have said yes.
    fn round_two(&self, home: usize, intent: &Intent) -> Option<Two> {
        let asked = (0..GROUPS).filter(|child| has(intent.asked, *child));
        let answers: Vec<Option<&Fence>> = asked
            .map(|child| self.answer(home, child, intent))
            .collect();
        let said = |answer: &&Option<&Fence>| answer.is_some_and(|f| f.answer != Answer::No);
        let yes = answers.iter().filter(said).count();
        let no = answers.iter().flatten().any(|f| f.answer == Answer::No);
        let enough = match self.rule(Rule::AllYes) {
            true => yes == answers.len(),
            false => yes > 0 && !no,
        };
        if !enough {
            return None;
        }
        if answers.iter().flatten().any(|fence| fence.acts) && !intent.decided {
            return Some(Two::Decide);
        }
        self.done(home, intent).map(Two::End)
    }

    /// The deps of the entry that ends an intent, if all that was prepared is committed.
    fn done(&self, home: usize, intent: &Intent) -> Option<Deps> {
        let mut deps = NO_DEPS;
        for child in (0..GROUPS).filter(|child| has(intent.asked, *child)) {
            let Some(fence) = self.answer(home, child, intent) else {
                // A new leader's cut may not have it yet.
                if self.rule(Rule::AllYes) {
                    return None;
                }
                continue;
            };
            if fence.acts && fence.answer != Answer::Done && self.rule(Rule::ChildrenFirst) {
                return None;
            }
            if self.rule(Rule::RemovalDepends) {
                deps[child] = fence.at;
            }
        }
        Some(deps)
    }

    /// Intents whose transaction is gone: what is decided goes on, the others are cancelled.
    fn intents(&self, home: usize, steps: &mut Vec<Step>) {
        let own = &self.views.own[home];
        for intent in own.intents.iter().filter(|intent| intent.cause.is_none()) {
            let of = Some(intent.name);
            let open = matches!(self.state.open[home],
                Some(Transaction::Delete { name, .. }) if name == of);
            if open {
                continue;
            }
            let cancel = match intent.decided {
                true => !self.rule(Rule::ForwardOnly),
                false => self.rule(Rule::OrphansAreCancelled),
            };
            if cancel {
                steps.push(place(home, What::Cancel(intent.name), NO_DEPS));
            }
            if intent.decided
                && let Some(deps) = self.done(home, intent)
            {
                let (row, version) = (intent.key, intent.version);
                let name = of;
                steps.push(place(home, What::Remove { name, row, version }, deps));
            }
        }
    }

    /// A parent registers what its children wish, and forgets what they have dropped.
    fn registers(&self, home: usize, steps: &mut Vec<Step>) {
        let own = &self.views.own[home];
        for child in self.scenario.children(home) {
            let Some(view) = &self.views.cut[home][child] else {
                continue;
            };
            if !self.acts_on(home, child) {
                continue;
            }
            let seen = self.state.follow[home][child];
            let (of, child) = (child, child as u8);
            match (view.constraint, has(own.registered, of)) {
                (Constraint::None, true) => {
                    let mut deps = NO_DEPS;
                    if self.rule(Rule::ForgettingDepends) {
                        deps[of] = seen;
                    }
                    steps.push(place(home, What::Unregister { child, seen }, deps));
                }
                (Constraint::Wished | Constraint::Enforced | Constraint::Valid, false) => {
                    steps.push(place(home, What::Register { child, seen }, NO_DEPS));
                }
                _ => {}
            }
        }
    }

    /// A child acts on what its cut shows of the parent.
    fn consumes(&self, home: usize, parent: usize, steps: &mut Vec<Step>) {
        let own = &self.views.own[home];
        if own.constraint == Constraint::Wished && !self.rule(Rule::RegisteredFirst) {
            let seen = self.state.follow[home][parent];
            steps.push(place(home, What::Enforce { seen }, NO_DEPS));
        }
        if !self.acts_on(home, parent) {
            return;
        }
        let seen = self.state.follow[home][parent];
        let Some(cut) = &self.views.cut[home][parent] else {
            return;
        };
        let told = |intent: &&Intent| {
            let rule = match intent.decided {
                true => Rule::NewcomerFencesDecided,
                false => Rule::NewcomerFencesPromised,
            };
            has(intent.asked, home) || (has(intent.told, home) && self.rule(rule))
        };
        let asks = cut.intents.iter().filter(told);
        let work = match self.rule(Rule::WorkRaisesTheFloor) {
            true => seen,
            false => 0,
        };
        let mut all_answered = true;
        for ask in asks {
            let Some(fence) = own.fence(ask.name) else {
                all_answered = false;
                let unasked = !has(ask.asked, home);
                if let Some((what, deps)) = self.respond(home, ask.name, ask.key, work, unasked) {
                    steps.push(place(home, what, deps));
                }
                continue;
            };
            let go = ask.decided || !self.rule(Rule::PreparedWaits);
            if go && let Some((what, deps)) = self.commits(home, parent, fence, ask.at) {
                steps.push(place(home, what, deps));
            }
        }
        let ended = |name: Name| !cut.intents.iter().any(|ask| ask.name == name);
        for fence in own.fences.iter().filter(|fence| ended(fence.name)) {
            let removed = !cut.cancelled.contains(&fence.name);
            if !self.rule(Rule::ChildrenFirst)
                && removed
                && let Some((what, deps)) = self.commits(home, parent, fence, seen)
            {
                steps.push(place(home, what, deps));
                continue;
            }
            let name = fence.name;
            steps.push(place(home, What::Lift { name, seen }, NO_DEPS));
        }
        for intent in &own.intents {
            if let Some(name) = intent.cause
                && ended(name)
                && own.fence(name).is_none()
            {
                steps.push(place(home, What::Lift { name, seen }, NO_DEPS));
            }
        }
        self.becomes_valid(home, parent, cut, all_answered, steps);
    }

    fn becomes_valid(
        &self,
        home: usize,
        parent: usize,
        cut: &View,
        all_answered: bool,
        steps: &mut Vec<Step>,
    ) {
        let own = &self.views.own[home];
        let seen = self.state.follow[home][parent];
        match own.constraint {
            Constraint::Wished if has(cut.registered, home) && all_answered => {
                steps.push(place(home, What::Enforce { seen }, NO_DEPS));
            }
            Constraint::Enforced => match own.rows[0].filter(|row| !row.checked) {
                None => steps.push(place(home, What::Valid, NO_DEPS)),
                Some(row) => {
                    let Some(to) = row.to else { return };
                    // What is fenced may be about to go: the look waits for the end.
                    if own.is_fenced(to) {
                        return;
                    }
                    match cut.rows[to as usize] {
                        None => steps.push(place(home, What::Drop, NO_DEPS)),
                        Some(found) => {
                            let mut deps = NO_DEPS;
                            if self.rule(Rule::ValidationDepends) {
                                deps[parent] = found.version;
                            }
                            steps.push(place(home, What::Valid, deps));
                        }
                    }
                }
            },
            _ => {}
        }
    }

    /// A child's next entry on the way to its answer. `unasked`: it has registered since.
    fn respond(
        &self,
        home: usize,
        name: Name,
        key: u8,
        seen: Position,
        unasked: bool,
    ) -> Option<(What, Deps)> {
        let own = &self.views.own[home];
        let yes = |prepared| What::Fence {
            name,
            key,
            prepared,
            own: None,
            seen,
        };
        let no = What::Refuse { name, key, seen };
        if unasked {
            return Some((yes(None), NO_DEPS));
        }
        let will_reference = |fence: &Fence| {
            let to = fence.prepared.and_then(|prepared| prepared.to);
            to == Some(key)
        };
        if self.rule(Rule::PreparedCounts) && own.fences.iter().any(will_reference) {
            return Some((no, NO_DEPS));
        }
        let row = own.rows[0].filter(|row| row.to == Some(key));
        let Some(row) = row.filter(|_| own.constraint != Constraint::None) else {
            return Some((yes(None), NO_DEPS));
        };
        let version = row.version;
        let to = match self.scenario.action[home] {
            Action::Restrict => return Some((no, NO_DEPS)),
            Action::SetDefault(default) if default == key => return Some((no, NO_DEPS)),
            Action::SetDefault(default) => Some(default),
            Action::Cascade => None,
        };
        let following = own.caused_by(name);
        if following.is_none() && self.is_taken(home) {
            return None;
        }
        if let Some(default) = to {
            // The default is a reference like any other. Its version lies below the decision, on
            // which the entry that commits it depends.
            let parent = self.scenario.parent[home]?;
            if self.check(home, parent, default).is_none() || own.is_fenced(default) {
                return Some((no, NO_DEPS));
            }
        }
        let prepared = Some(Prepared { version, to });
        if to.is_some() || (own.registered == 0 && following.is_none()) {
            let what = What::Fence {
                name,
                key,
                prepared,
                own: self
                    .scenario
                    .children(home)
                    .next()
                    .map(|_| self.state.next_name(home)),
                seen,
            };
            return Some((what, NO_DEPS));
        }
        let Some(intent) = following else {
            let what = What::Ask {
                name: self.state.next_name(home),
                row: 0,
                version,
                asked: own.registered,
                cause: Some((name, seen)),
            };
            return Some((what, NO_DEPS));
        };
        let asked = (0..GROUPS).filter(|child| has(intent.asked, *child));
        let answers: Vec<_> = asked
            .map(|child| self.answer(home, child, intent))
            .collect();
        if answers.iter().flatten().any(|f| f.answer == Answer::No) {
            return Some((no, NO_DEPS));
        }
        if own.registered & !intent.asked != 0 && self.rule(Rule::RegistrationsLookedAtAgain) {
            return Some((no, NO_DEPS));
        }
        let all = answers.iter().all(Option::is_some);
        (all || !self.rule(Rule::AllYes)).then_some((yes(prepared), NO_DEPS))
    }

    /// Has a row lock of the child's row been given to an open transaction or something prepared?
    fn is_taken(&self, home: usize) -> bool {
        let open = matches!(
            self.state.open[home],
            Some(Transaction::Delete { row: 0, .. })
        );
        open || self.is_locked(home, 0)
    }

    /// A child's next entry after the decision.
    fn commits(
        &self,
        home: usize,
        parent: usize,
        fence: &Fence,
        decided: Position,
    ) -> Option<(What, Deps)> {
        if !fence.acts || fence.answer == Answer::Done {
            return None;
        }
        let own = &self.views.own[home];
        let mut deps = NO_DEPS;
        if let Some(intent) = own.caused_by(fence.name) {
            match self.round_two(home, intent)? {
                Two::Decide => return Some((What::Decide(intent.name), NO_DEPS)),
                Two::End(of) => deps = of,
            }
        }
        deps[parent] = decided;
        Some((What::Commit(fence.name), deps))
    }

    /// Asks that come as messages, late and again, where messages carry something.
    fn messages(&self, steps: &mut Vec<Step>) {
        if self.rule(Rule::MessagesCarryNothing) {
            return;
        }
        for (name, key, asked) in &self.state.sent {
            for home in (0..GROUPS).filter(|home| has(*asked, *home)) {
                let log = &self.state.logs[home];
                let made = |what: &What| matches!(what, What::Fence { name: of, .. } if of == name);
                let parent = self.scenario.parent[home].unwrap_or(home);
                let seen = self.state.follow[home][parent];
                if !log.iter().any(|entry| made(&entry.what))
                    && let Some((what, deps)) = self.respond(home, *name, *key, seen, false)
                {
                    steps.push(place(home, what, deps));
                }
            }
        }
    }
}

/// Where the cut of a home goes on: entries that have nothing to do with it are passed over.
fn next(scenario: &Scenario, state: &State, home: usize, of: usize) -> Option<Position> {
    let log = &state.logs[of];
    let from = state.follow[home][of];
    let concerns = |what: &What| match what {
        What::Put { .. } | What::Remove { .. } => scenario.parent[home] == Some(of),
        What::Ask { asked, .. } => has(*asked, home),
        What::Decide(_) | What::Cancel(_) => scenario.parent[home] == Some(of),
        What::Register { child, .. } => *child as usize == home,
        What::Fence { .. } => scenario.parent[of] == Some(home),
        What::Refuse { .. } | What::Commit(_) => true,
        // It may end what it has asked of its own children.
        What::Lift { .. } => scenario.parent[home] == Some(of),
        What::Wish => scenario.parent[of] == Some(home),
        // It ends what it has asked of its own children.
        What::Drop => true,
        What::Enforce { .. } | What::Valid | What::Unregister { .. } => false,
    };
    let mut rest = log.iter().zip(1..).skip(from as usize);
    rest.find(|(entry, _)| concerns(&entry.what))
        .map(|(_, at)| at)
}

/// What COMMIT does with an intent.
enum Two {
    /// It is decided.
    Decide,
    /// It ends, with these deps.
    End(Deps),
}

fn alone(home: usize, what: What) -> Step {
    let deps = NO_DEPS;
    Step::Alone { home, what, deps }
}

fn place(home: usize, what: What, deps: Deps) -> Step {
    Step::Place { home, what, deps }
}

/// Takes a step.
pub fn take(scenario: &Scenario, state: &State, step: Step) -> State {
    let mut after = state.clone();
    match step {
        Step::Follow { home, of } => {
            if let Some(at) = next(scenario, state, home, of) {
                after.follow[home][of] = at;
                after.committed[of] = after.committed[of].max(at);
            }
        }
        Step::Place { home, what, deps } => after.place(home, what, deps),
        Step::Begin {
            home,
            transaction,
            ask,
        } => {
            after.open[home] = Some(transaction);
            if let Some(what) = ask {
                after.place(home, what, NO_DEPS);
            }
            match transaction {
                Transaction::Insert { .. } => after.budget.puts[home] -= 1,
                Transaction::Delete { .. } => after.budget.deletes[home] -= 1,
            }
        }
        Step::End { home, entry } => {
            after.open[home] = None;
            if let Some((what, deps)) = entry {
                after.place(home, what, deps);
            }
        }
        Step::Alone { home, what, deps } => {
            after.place(home, what, deps);
            let budget = &mut after.budget;
            let spent = match what {
                What::Put { .. } => &mut budget.puts,
                What::Wish => &mut budget.wishes,
                What::Drop => &mut budget.drops,
                _ => &mut budget.deletes,
            };
            spent[home] -= 1;
        }
        Step::Fall { group, left } => fall(scenario, &mut after, group, left),
    }
    if !scenario.rules.has(Rule::MessagesCarryNothing)
        && let Step::Begin {
            ask: Some(What::Ask {
                name, row, asked, ..
            }),
            ..
        } = step
    {
        after.sent.push((name, row, asked));
    }
    after
}

fn fall(scenario: &Scenario, next: &mut State, group: usize, left: Position) {
    next.logs[group].truncate(left as usize);
    next.committed[group] = next.end(group);
    next.open[group] = None;
    next.follow[group] = [0; GROUPS];
    next.fallen[group] += 1;
    next.budget.falls -= 1;
    if !scenario.rules.has(Rule::LocksAreRebuilt) {
        next.forgotten[group] = next.end(group);
    }
}
