//! What the checkers found, by kind, and the counts of a whole call with their closing table.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Findings of one kind beyond this many are counted and not written out.
const WRITTEN_MAX: usize = 20;

/// The promises that can be seen to break from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An acknowledged effect is gone, or one that another session has read.
    Lost,
    /// Something is there that may not be: an isolation anomaly, a failed transaction's effect, a
    /// torn or doubled transaction, a wrong status.
    Anomaly,
    /// The feed skipped, doubled, reordered, tore or invented something.
    Feed,
    /// `freehold check` found damage, the server didn't come back, or it panicked.
    Damage,
    /// A client waited beyond the limit, or got an error that isn't on the list of its workload.
    Unexpected,
}

impl Kind {
    const ALL: [Kind; 5] = [
        Kind::Lost,
        Kind::Anomaly,
        Kind::Feed,
        Kind::Damage,
        Kind::Unexpected,
    ];

    /// The word in histories and closing lines.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Lost => "lost",
            Kind::Anomaly => "anomaly",
            Kind::Feed => "feed",
            Kind::Damage => "damage",
            Kind::Unexpected => "unexpected",
        }
    }
}

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which promise.
    pub kind: Kind,
    /// What was expected and what was seen.
    pub what: String,
}

impl Finding {
    /// A finding of this kind.
    pub fn new(kind: Kind, what: impl Into<String>) -> Finding {
        Finding {
            kind,
            what: what.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.word(), self.what)
    }
}

/// Where all tasks of a run put what they find: counted all, kept the first of each kind.
#[derive(Clone, Default)]
pub struct Findings(Arc<Mutex<(Vec<Finding>, BTreeMap<Kind, u64>)>>);

impl Findings {
    /// Adds one.
    pub fn add(&self, kind: Kind, what: impl Into<String>) {
        let mut inner = self
            .0
            .lock()
            .expect("no task panics while it holds the findings");
        let count = inner.1.entry(kind).or_default();
        *count += 1;
        if *count as usize <= WRITTEN_MAX {
            inner.0.push(Finding::new(kind, what));
        }
    }

    /// Adds what a checker gave.
    pub fn extend(&self, found: Vec<Finding>) {
        for finding in found {
            self.add(finding.kind, finding.what);
        }
    }

    /// Whether nothing was found so far.
    pub fn is_empty(&self) -> bool {
        self.0
            .lock()
            .expect("no task panics while it holds the findings")
            .1
            .is_empty()
    }

    /// Takes them all; how many there were of each kind, and the first ones.
    pub fn take(&self) -> (Vec<Finding>, BTreeMap<Kind, u64>) {
        let mut inner = self
            .0
            .lock()
            .expect("no task panics while it holds the findings");
        std::mem::take(&mut *inner)
    }
}

/// The counts of a whole call.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Runs that count: their fault bit and their load was there.
    pub runs: u64,
    /// Runs that count for nothing.
    pub invalid: u64,
    /// Processes ended by SIGKILL, power cuts not included.
    pub kills: u64,
    /// File systems shut down, or writes replayed without the unsynced ones.
    pub power_cuts: u64,
    /// Nodes of a cluster stopped for a while.
    pub pauses: u64,
    /// Times that the nodes of a cluster could not all reach each other.
    pub partitions: u64,
    /// Times from the kill of a leading node to the next acknowledged write of its owner.
    pub failovers: Vec<Duration>,
    /// Calls of `freehold check` on a stopped server's folder.
    pub checks: u64,
    /// Transactions acknowledged to a client.
    pub acknowledged: u64,
    /// Findings by kind.
    pub found: BTreeMap<Kind, u64>,
    /// Why something could not be played on this machine.
    pub skipped: Vec<String>,
}

impl Tally {
    /// Adds another call's counts.
    pub fn add(&mut self, other: &Tally) {
        self.runs += other.runs;
        self.invalid += other.invalid;
        self.kills += other.kills;
        self.power_cuts += other.power_cuts;
        self.pauses += other.pauses;
        self.partitions += other.partitions;
        self.failovers.extend(&other.failovers);
        self.checks += other.checks;
        self.acknowledged += other.acknowledged;
        for (kind, count) in &other.found {
            *self.found.entry(*kind).or_default() += count;
        }
        self.skipped.extend(other.skipped.iter().cloned());
    }

    /// How many findings of this kind.
    pub fn of(&self, kind: Kind) -> u64 {
        self.found.get(&kind).copied().unwrap_or(0)
    }

    /// Whether any promise was seen to break.
    pub fn is_broken(&self) -> bool {
        Kind::ALL.iter().any(|kind| self.of(*kind) > 0)
    }

    /// Whether what was found can be a planted fault's doing: more than a wrong error.
    pub fn is_caught(&self) -> bool {
        Kind::ALL
            .iter()
            .any(|kind| *kind != Kind::Unexpected && self.of(*kind) > 0)
    }

    /// The closing table, in Markdown.
    pub fn table(&self) -> String {
        let head = "| runs | kills | power cuts | pauses | partitions | checks | acknowledged | lost | anomalies | feed faults \
                    | damage | unexpected | invalid |";
        let rule = "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|";
        format!(
            "{head}\n{rule}\n| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            self.runs,
            self.kills,
            self.power_cuts,
            self.pauses,
            self.partitions,
            self.checks,
            self.acknowledged,
            self.of(Kind::Lost),
            self.of(Kind::Anomaly),
            self.of(Kind::Feed),
            self.of(Kind::Damage),
            self.of(Kind::Unexpected),
            self.invalid,
        )
    }

    /// The closing line for machines: `name=value` pairs.
    pub fn line(&self, result: &str) -> String {
        let kinds: Vec<String> = Kind::ALL
            .iter()
            .map(|kind| format!("{}={}", kind.word(), self.of(*kind)))
            .collect();
        format!(
            "jepsen: result={result} runs={} kills={} power_cuts={} pauses={} partitions={} checks={} \
             acknowledged={} {} invalid={} skipped={}",
            self.runs,
            self.kills,
            self.power_cuts,
            self.pauses,
            self.partitions,
            self.checks,
            self.acknowledged,
            kinds.join(" "),
            self.invalid,
            self.skipped.len(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_beyond_the_limit_are_counted() {
        let findings = Findings::default();
        for number in 0..50 {
            findings.add(Kind::Lost, format!("row {number}"));
        }
        let (written, counts) = findings.take();
        assert_eq!(written.len(), WRITTEN_MAX);
        assert_eq!(counts[&Kind::Lost], 50);
    }

    #[test]
    fn one_finding_of_any_kind_breaks_the_tally() {
        for kind in Kind::ALL {
            let mut tally = Tally::default();
            assert!(!tally.is_broken());
            tally.found.insert(kind, 1);
            assert!(tally.is_broken());
        }
    }
}
