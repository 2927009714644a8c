//! Faults that are built in on purpose, each one line at the place that it breaks: who believes the
//! tests sees them fail by name. Only with the feature `sabotage`; FREEHOLD_SABOTAGE chooses one.

use std::sync::OnceLock;

/// What can be chosen. `jepsen sabotage` demands that each is caught.
pub const FAULTS: [&str; 37] = [
    "ack-before-fsync",
    "answer-before-quorum",
    "answer-before-read",
    "apply-twice",
    "chain-check-off",
    "closing-rule-off",
    "command-accepted-unseen",
    "command-cleared-early",
    "command-of-savepoint-sent",
    "command-passed-over",
    "command-rejected-untold",
    "command-taken-twice",
    "crc-not-checked",
    "cursor-off-by-one",
    "equal-positions-split",
    "erase-leaves-files",
    "erase-skips-replicas",
    "feed-drops-deletes",
    "fence-left-out",
    "forgotten-without-dep",
    "half-a-transaction",
    "insert-without-key-lock",
    "moved-table-removed-early",
    "no-fsync",
    "pending-answered-as-failed",
    "position-reused",
    "prepared-without-dep",
    "read-without-barrier",
    "reference-below-floor",
    "reference-unchecked-at-commit",
    "reference-without-dep",
    "removal-not-in-ledger",
    "removal-without-dep",
    "retention-not-checked",
    "skip-one-entry",
    "trigger-cursor-lost",
    "vote-not-persisted",
];

/// Was this fault chosen? A choice that is no fault ends the process: it would pass for one that
/// nobody catches.
pub fn planted(fault: &str) -> bool {
    static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let chosen = std::env::var("FREEHOLD_SABOTAGE").ok()?;
        assert!(
            FAULTS.contains(&chosen.as_str()),
            "no fault is called {chosen}"
        );
        Some(chosen)
    });
    chosen.as_deref() == Some(fault)
}
