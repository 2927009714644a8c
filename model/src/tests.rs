//! The check: the protocol holds in each scenario, and each rule is missed when it is gone.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use crate::group::only;
use crate::{Action, Budget, Rule, Rules, Scenario};

const P: usize = 0;
const C: usize = 1;
const D: usize = 2;

/// One parent, two children that differ in what they do when a key goes.
fn star() -> Scenario {
    Scenario {
        name: "star",
        parent: [None, Some(P), Some(P)],
        action: [Action::Restrict, Action::Cascade, Action::Restrict],
        keys: 1,
        rows: [[Some(None), None], [Some(Some(0)), None], [None; 2]],
        unconstrained: 0,
        budget: Budget {
            puts: [0, 0, 1],
            deletes: [2, 0, 0],
            falls: 1,
            ..Budget::default()
        },
        rules: Rules::all(),
    }
}

/// One child that holds the key, and more falls.
fn pair() -> Scenario {
    Scenario {
        name: "pair",
        parent: [None, Some(P), None],
        action: [Action::Restrict; 3],
        rows: [[Some(None), None], [None; 2], [None; 2]],
        budget: Budget {
            puts: [1, 2, 0],
            deletes: [2, 1, 0],
            falls: 2,
            ..Budget::default()
        },
        ..star()
    }
}

/// One child, two keys; a row whose key goes references the other one.
fn defaults() -> Scenario {
    Scenario {
        name: "defaults",
        parent: [None, Some(P), None],
        action: [Action::Restrict, Action::SetDefault(0), Action::Restrict],
        keys: 2,
        rows: [[Some(None), Some(None)], [Some(Some(1)), None], [None; 2]],
        budget: Budget {
            puts: [1, 1, 0],
            deletes: [2, 1, 0],
            falls: 1,
            ..Budget::default()
        },
        ..star()
    }
}

/// A key whose removal takes a row with it that is a key itself.
fn chain() -> Scenario {
    Scenario {
        name: "chain",
        parent: [None, Some(P), Some(C)],
        action: [Action::Restrict, Action::Cascade, Action::Cascade],
        rows: [
            [Some(None), None],
            [Some(Some(0)), None],
            [Some(Some(0)), None],
        ],
        budget: Budget {
            puts: [0, 0, 1],
            deletes: [2, 0, 1],
            falls: 1,
            ..Budget::default()
        },
        ..star()
    }
}

/// A child declares its constraint while keys go, and drops it again.
fn registration() -> Scenario {
    Scenario {
        name: "registration",
        parent: [None, Some(P), Some(P)],
        action: [Action::Restrict, Action::Cascade, Action::Restrict],
        rows: [
            [Some(None), None],
            [Some(Some(0)), None],
            [Some(Some(0)), None],
        ],
        unconstrained: only(D),
        budget: Budget {
            puts: [0, 0, 1],
            deletes: [1, 0, 1],
            wishes: [0, 0, 1],
            drops: [0, 0, 1],
            falls: 1,
        },
        ..star()
    }
}

/// A child declares its constraint over a row that is there, and the parent of that has just come.
fn validation() -> Scenario {
    Scenario {
        name: "validation",
        parent: [None, Some(P), None],
        rows: [[None; 2], [Some(Some(0)), None], [None; 2]],
        unconstrained: only(C),
        budget: Budget {
            puts: [2, 0, 0],
            deletes: [1, 1, 0],
            wishes: [0, 1, 0],
            drops: [0, 1, 0],
            falls: 1,
        },
        ..star()
    }
}

/// A constraint is declared on a row that goes because its parent does.
fn newcomer() -> Scenario {
    Scenario {
        name: "newcomer",
        action: [Action::Restrict, Action::Cascade, Action::Restrict],
        unconstrained: only(D),
        budget: Budget {
            puts: [0, 0, 1],
            deletes: [1, 0, 1],
            wishes: [0, 0, 1],
            falls: 1,
            ..Budget::default()
        },
        ..chain()
    }
}

/// The middle of a chain drops its constraint while it is asked.
fn retreat() -> Scenario {
    Scenario {
        name: "retreat",
        budget: Budget {
            puts: [0, 0, 1],
            deletes: [1, 0, 1],
            drops: [0, 1, 0],
            falls: 1,
            ..Budget::default()
        },
        ..chain()
    }
}

const SCENARIOS: [fn() -> Scenario; 8] = [
    star,
    pair,
    defaults,
    chain,
    registration,
    validation,
    newcomer,
    retreat,
];

/// A scenario in which a rule is missed.
fn where_missed(rule: Rule) -> Scenario {
    match rule {
        Rule::RegisteredFirst
        | Rule::RegistrationsLookedAtAgain
        | Rule::NewcomerFencesDecided
        | Rule::ForgettingDepends => registration(),
        Rule::ValidationDepends => validation(),
        Rule::NewcomerFencesPromised => newcomer(),
        Rule::DropAwaitsDecisions => retreat(),
        Rule::PreparedCounts | Rule::LocksAreRebuilt => defaults(),
        Rule::Floor
        | Rule::WorkRaisesTheFloor
        | Rule::MessagesCarryNothing
        | Rule::CheckedAtPosition
        | Rule::ChecksReadTheCut
        | Rule::ReferencesDepend
        | Rule::HomeAwaitsItsDeps
        | Rule::AnswersNameTheIntent
        | Rule::AnswersAreCommitted
        | Rule::RemovalDepends
        | Rule::OrphansAreCancelled => pair(),
        Rule::AllYes | Rule::PreparedWaits | Rule::ChildrenFirst | Rule::ForwardOnly => star(),
    }
}

#[test]
fn the_protocol_holds_in_every_state() {
    for scenario in SCENARIOS {
        let mut scenario = scenario();
        let wanted = |variable| std::env::var(variable).ok();
        if wanted("FREEHOLD_MODEL").is_some_and(|name| name != scenario.name) {
            continue;
        }
        if let Some(falls) = wanted("FREEHOLD_MODEL_FALLS") {
            scenario.budget.falls = falls.parse().unwrap();
        }
        let (name, falls, began) = (scenario.name, scenario.budget.falls, Instant::now());
        let checker = scenario.checker().threads(1).spawn_bfs().join();
        println!(
            "{name}: {} states, {} steps deep, {falls} falls, {:.1?}",
            checker.unique_state_count(),
            checker.max_depth(),
            began.elapsed()
        );
        checker.assert_properties();
    }
}

#[test]
fn each_rule_is_missed_when_it_is_gone() {
    for rule in Rule::ALL {
        let mut scenario = where_missed(rule);
        scenario.rules = Rules::without(rule);
        let (name, began) = (scenario.name, Instant::now());
        let any = HasDiscoveries::AnyFailures;
        let checker = scenario.checker().threads(1).finish_when(any);
        let checker = checker.spawn_bfs().join();
        let found = checker.discoveries().into_iter();
        let found = found.map(|(promise, path)| (path.into_actions(), promise));
        let Some((steps, promise)) = found.min_by_key(|(steps, promise)| (steps.len(), *promise))
        else {
            panic!("nothing is wrong without {rule:?}");
        };
        println!(
            "without {rule:?}: {promise}: {} steps, {name}, {} states, {:.1?}",
            steps.len(),
            checker.unique_state_count(),
            began.elapsed()
        );
        if std::env::var_os("FREEHOLD_MODEL_STEPS").is_some() {
            steps.iter().for_each(|step| println!("    {step:?}"));
        }
    }
}
