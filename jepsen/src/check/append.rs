//! List-append histories: dependency cycles by `adya`, and lost or invented elements by the
//! final read of each list, which cycles don't show for elements that nobody has read.

use std::collections::{BTreeMap, BTreeSet};

use adya::{History, Opts, Valid, Workload, check};
use serde_json::{Value, json};

use crate::finding::{Finding, Kind};
use crate::history::Step;

/// Anomalies of one type beyond this many are not explained.
const EXPLAINED_MAX: usize = 3;

/// One operation within a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Micro {
    /// Puts an element at the end of a list.
    Append {
        /// Which list.
        key: i64,
        /// The element, unique in its list.
        element: i64,
    },
    /// Reads a list; `None` before it is read or if there is none.
    Read {
        /// Which list.
        key: i64,
        /// What was read.
        list: Option<Vec<i64>>,
    },
}

impl Micro {
    /// Which list it is about.
    pub fn key(&self) -> i64 {
        match self {
            Micro::Append { key, .. } | Micro::Read { key, .. } => *key,
        }
    }

    /// In the form of Elle's histories.
    pub fn json(&self) -> Value {
        match self {
            Micro::Append { key, element } => json!(["append", key, element]),
            Micro::Read { key, list } => json!(["r", key, list]),
        }
    }
}

/// The steps of all clients in the order of their events, over all runs on a folder.
#[derive(Debug, Default)]
pub struct Steps {
    lines: Vec<String>,
    acknowledged: BTreeSet<(i64, i64)>,
    failed: BTreeSet<(i64, i64)>,
    unknown: Vec<Unknown>,
}

/// A transaction that appends and whose end is unknown.
#[derive(Debug)]
struct Unknown {
    process: u64,
    micros: Vec<Micro>,
    line: usize,
}

impl Steps {
    /// Adds a step. A process asks for nothing more after [`Step::Info`].
    pub fn add(&mut self, process: u64, step: Step, micros: &[Micro]) {
        self.lines.push(line_of(process, step, micros));
        let appends = appends(micros);
        match step {
            Step::Ok => self.acknowledged.extend(appends),
            Step::Fail => self.failed.extend(appends),
            Step::Info if !appends.is_empty() => {
                let (micros, line) = (micros.to_vec(), self.lines.len() - 1);
                self.unknown.push(Unknown {
                    process,
                    micros,
                    line,
                });
            }
            Step::Invoke | Step::Info => {}
        }
    }

    /// All findings for a claimed consistency model, `last` being every list's final content.
    pub fn judge(&mut self, model: &str, last: &BTreeMap<i64, Vec<i64>>) -> Vec<Finding> {
        let mut findings = self.settle(last);
        findings.extend(self.judge_elements(last));
        findings.extend(self.judge_cycles(model));
        findings
    }

    /// An unknown transaction of which nothing is there at rest has failed: `adya` would place
    /// its elements behind all others. One that is there in part is torn.
    fn settle(&mut self, last: &BTreeMap<i64, Vec<i64>>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for Unknown {
            process,
            micros,
            line,
        } in std::mem::take(&mut self.unknown)
        {
            let appends = appends(&micros);
            let is_there = |(key, element)| {
                last.get(key)
                    .is_some_and(|list: &Vec<i64>| list.contains(element))
            };
            let there = appends
                .iter()
                .map(|(key, element)| is_there((key, element)));
            match there.filter(|is| *is).count() {
                0 => {
                    self.lines[line] = line_of(process, Step::Fail, &micros);
                    self.failed.extend(appends);
                }
                all if all == appends.len() => self.acknowledged.extend(appends),
                part => {
                    let what = format!("{part} of an unknown transaction's appends {appends:?}");
                    findings.push(Finding::new(Kind::Anomaly, what));
                }
            }
        }
        findings
    }

    fn judge_elements(&self, last: &BTreeMap<i64, Vec<i64>>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let there: BTreeSet<(i64, i64)> = last
            .iter()
            .flat_map(|(key, list)| list.iter().map(|e| (*key, *e)))
            .collect();
        for (key, element) in self.acknowledged.difference(&there) {
            let what = format!("acknowledged element {element} is not in list {key}");
            findings.push(Finding::new(Kind::Lost, what));
        }
        for (key, element) in self.failed.intersection(&there) {
            let what = format!("element {element} of a failed transaction is in list {key}");
            findings.push(Finding::new(Kind::Anomaly, what));
        }
        findings
    }

    fn judge_cycles(&self, model: &str) -> Vec<Finding> {
        let history = match History::from_json(&self.lines.join("\n")) {
            Ok(history) => history,
            Err(error) => return vec![Finding::new(Kind::Unexpected, error.to_string())],
        };
        let opts = Opts {
            models: vec![model.to_owned()],
            ..Opts::default()
        };
        let report = check(&history, Workload::ListAppend, &opts);
        if report.valid == Valid::True {
            return Vec::new();
        }
        let mut findings = Vec::new();
        for kind in &report.anomaly_types {
            let found = report.anomalies.get(kind).map(Vec::as_slice).unwrap_or(&[]);
            for anomaly in found.iter().take(EXPLAINED_MAX) {
                let what = format!("{kind}: {}", anomaly.explanation);
                findings.push(Finding::new(Kind::Anomaly, what));
            }
        }
        if findings.is_empty() {
            findings.push(Finding::new(
                Kind::Anomaly,
                format!("not {model}, without a reason"),
            ));
        }
        findings
    }
}

/// A line of Elle's JSON histories.
fn line_of(process: u64, step: Step, micros: &[Micro]) -> String {
    let value: Vec<Value> = micros.iter().map(Micro::json).collect();
    json!({ "type": step.word(), "process": process, "value": value }).to_string()
}

/// The appended elements with their lists.
fn appends(micros: &[Micro]) -> Vec<(i64, i64)> {
    let append = |micro: &Micro| match micro {
        Micro::Append { key, element } => Some((*key, *element)),
        Micro::Read { .. } => None,
    };
    micros.iter().filter_map(append).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(key: i64, element: i64) -> Micro {
        Micro::Append { key, element }
    }

    fn read(key: i64, list: &[i64]) -> Micro {
        Micro::Read {
            key,
            list: Some(list.to_vec()),
        }
    }

    /// Each transaction: process, what it did. They are all asked for before any is answered.
    fn concurrent(transactions: &[(u64, Vec<Micro>)]) -> Steps {
        let mut steps = Steps::default();
        for (process, micros) in transactions {
            steps.add(*process, Step::Invoke, micros);
        }
        for (process, micros) in transactions {
            steps.add(*process, Step::Ok, micros);
        }
        steps
    }

    /// One after the other.
    fn in_turn(transactions: &[(u64, Vec<Micro>)]) -> Steps {
        let mut steps = Steps::default();
        for (process, micros) in transactions {
            steps.add(*process, Step::Invoke, micros);
            steps.add(*process, Step::Ok, micros);
        }
        steps
    }

    fn lists(content: &[(i64, &[i64])]) -> BTreeMap<i64, Vec<i64>> {
        content
            .iter()
            .map(|(key, list)| (*key, list.to_vec()))
            .collect()
    }

    #[test]
    fn a_serial_history_has_no_finding() {
        let mut steps = in_turn(&[
            (0, vec![append(1, 1), append(2, 1)]),
            (1, vec![read(1, &[1]), append(2, 2)]),
            (0, vec![read(1, &[1]), read(2, &[1, 2])]),
        ]);
        assert_eq!(
            steps.judge("strict-serializable", &lists(&[(1, &[1]), (2, &[1, 2])])),
            vec![]
        );
    }

    fn anomalies(mut steps: Steps, last: &BTreeMap<i64, Vec<i64>>) -> String {
        let found = steps.judge("strict-serializable", last);
        let found = found.iter().filter(|finding| finding.kind == Kind::Anomaly);
        found
            .map(|finding| finding.what.clone())
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn write_skew_is_found() {
        let steps = concurrent(&[
            (0, vec![read(1, &[]), read(2, &[]), append(1, 1)]),
            (1, vec![read(1, &[]), read(2, &[]), append(2, 1)]),
            (2, vec![read(1, &[1]), read(2, &[1])]),
        ]);
        assert!(anomalies(steps, &lists(&[(1, &[1]), (2, &[1])])).contains("G2-item"));
    }

    #[test]
    fn a_torn_transaction_is_found() {
        let steps = concurrent(&[
            (0, vec![append(1, 1), append(2, 1)]),
            (1, vec![read(1, &[1]), read(2, &[])]),
            (2, vec![read(2, &[1])]),
        ]);
        assert!(anomalies(steps, &lists(&[(1, &[1]), (2, &[1])])).contains("G-single"));
    }

    #[test]
    fn a_stale_read_is_found() {
        let steps = in_turn(&[
            (0, vec![append(1, 1)]),
            (1, vec![read(1, &[])]),
            (2, vec![read(1, &[1])]),
        ]);
        assert!(anomalies(steps, &lists(&[(1, &[1])])).contains("realtime"));
    }

    #[test]
    fn a_lost_update_is_found() {
        let steps = concurrent(&[
            (0, vec![read(1, &[]), append(1, 1)]),
            (1, vec![read(1, &[]), append(1, 2)]),
            (2, vec![read(1, &[1, 2])]),
        ]);
        assert!(!anomalies(steps, &lists(&[(1, &[1, 2])])).is_empty());
    }

    #[test]
    fn an_acknowledged_element_that_nobody_reads_any_more_is_lost() {
        let steps = in_turn(&[(0, vec![append(1, 1)]), (0, vec![append(1, 2)])]);
        let found = steps.judge_elements(&lists(&[(1, &[1])]));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].kind, Kind::Lost);
    }

    #[test]
    fn an_unknown_transaction_is_there_whole_or_not_at_all() {
        let unknown = || {
            let mut steps = Steps::default();
            let micros = [append(1, 7), append(2, 8)];
            steps.add(0, Step::Invoke, &micros);
            steps.add(0, Step::Info, &micros);
            steps.add(1, Step::Invoke, &[append(1, 9)]);
            steps.add(1, Step::Ok, &[append(1, 9)]);
            steps
        };
        let judge = |last| unknown().settle(&last).len();
        assert_eq!(judge(lists(&[(1, &[9])])), 0);
        assert_eq!(judge(lists(&[(1, &[7, 9]), (2, &[8])])), 0);
        assert_eq!(judge(lists(&[(1, &[7, 9])])), 1);
        // What was not there at rest may not come later.
        let mut late = unknown();
        assert_eq!(late.settle(&lists(&[(1, &[9])])), vec![]);
        assert_eq!(
            late.judge_elements(&lists(&[(1, &[9, 7]), (2, &[8])]))
                .len(),
            2
        );
    }

    #[test]
    fn a_failed_element_is_found() {
        let mut steps = Steps::default();
        steps.add(0, Step::Invoke, &[append(1, 7)]);
        steps.add(0, Step::Fail, &[append(1, 7)]);
        let found = steps.judge_elements(&lists(&[(1, &[7])]));
        assert_eq!(found[0].kind, Kind::Anomaly);
    }
}
