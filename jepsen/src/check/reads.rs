//! What a session that reads at its node's own cut may see: never less than before, no effect
//! without its cause, nothing that nobody has written, and what its token names.

use std::collections::BTreeMap;

use crate::finding::{Finding, Kind};

/// The counters of one snapshot, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The first owner's counters.
    pub causes: BTreeMap<i64, i64>,
    /// The second owner's: each with the first owner's as its transaction had read it.
    pub effects: BTreeMap<i64, (i64, i64)>,
}

/// What a session has seen so far.
#[derive(Debug, Default)]
pub struct Onlooker {
    last: Look,
}

impl Onlooker {
    /// Judges the next snapshot. `asked` is what writers had asked for when it had been taken, by
    /// counter; `least` what the session's token promises, counter and value.
    pub fn look(
        &mut self,
        name: &str,
        look: Look,
        asked: &BTreeMap<i64, i64>,
        least: Option<(i64, i64)>,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut complain = |what: String| {
            findings.push(Finding::new(Kind::Anomaly, format!("{name}: {what}")));
        };
        for (number, before) in &self.last.causes {
            let now = look.causes.get(number);
            if now < Some(before) {
                complain(format!("cause {number} went back from {before} to {now:?}"));
            }
        }
        for (number, before) in &self.last.effects {
            let now = look.effects.get(number);
            if now.map(|now| now.0) < Some(before.0) {
                complain(format!(
                    "effect {number} went back from {before:?} to {now:?}"
                ));
            }
        }
        for (number, (_, cause)) in &look.effects {
            let there = look.causes.get(number);
            if there < Some(cause) {
                complain(format!(
                    "effect {number} of cause {cause}, which is {there:?}"
                ));
            }
        }
        for (number, there) in &look.causes {
            if Some(there) > asked.get(number) {
                complain(format!("cause {number} is {there}, which nobody asked for"));
            }
        }
        if let Some((number, wanted)) = least
            && look.causes.get(&number) < Some(&wanted)
        {
            let there = look.causes.get(&number);
            complain(format!(
                "the token names cause {number} at {wanted}, it is {there:?}"
            ));
        }
        self.last = look;
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(cause: i64, effect: (i64, i64)) -> Look {
        Look {
            causes: BTreeMap::from([(1, cause)]),
            effects: BTreeMap::from([(1, effect)]),
        }
    }

    fn found(looks: &[Look], least: Option<(i64, i64)>) -> usize {
        let asked = BTreeMap::from([(1, 9)]);
        let mut onlooker = Onlooker::default();
        let judged = looks
            .iter()
            .map(|look| onlooker.look("a session", look.clone(), &asked, least));
        judged.map(|findings| findings.len()).sum()
    }

    #[test]
    fn a_session_that_moves_forward_has_no_finding() {
        let looks = [look(3, (1, 2)), look(3, (2, 3)), look(9, (2, 3))];
        assert_eq!(found(&looks, Some((1, 3))), 0);
    }

    #[test]
    fn going_back_is_found() {
        assert_eq!(found(&[look(3, (1, 2)), look(2, (1, 2))], None), 1);
        assert_eq!(found(&[look(3, (2, 2)), look(3, (1, 2))], None), 1);
    }

    #[test]
    fn an_effect_without_its_cause_is_found() {
        assert_eq!(found(&[look(3, (1, 4))], None), 1);
    }

    #[test]
    fn what_nobody_asked_for_is_found() {
        assert_eq!(found(&[look(10, (1, 4))], None), 1);
    }

    #[test]
    fn a_broken_token_is_found() {
        assert_eq!(found(&[look(3, (1, 2))], Some((1, 4))), 1);
        assert_eq!(found(&[look(3, (1, 2))], Some((2, 1))), 1);
    }
}
