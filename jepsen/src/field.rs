//! What all tasks of one run share: where the server is, when to stop, where to write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use crate::finding::{Findings, Kind};
use crate::history::{History, Step};
use crate::link::{Address, Failure, Link, Outcome, Protocol};
use crate::seed::Seed;

/// SQLSTATEs that any load may meet: the ends of connections.
const EXPECTED: [&str; 2] = ["08006", "08007"];

/// SQLSTATEs of conflicts, for loads that cause them: no READ COMMITTED transaction that only
/// touches rows of its own may see one.
pub const CONFLICTS: [&str; 2] = ["40001", "40P01"];

/// What any transaction may end with when its owner's leadership moves.
const MOVED: &str = "40001";

/// Pause before a client that no node lets in tries again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(30);

/// Numbers of processes that took another's place begin here.
const NEXT_PROCESS: u64 = 1_000_000;

/// The load's own measure, from which a run is judged valid.
#[derive(Default)]
pub struct Progress {
    /// Transactions acknowledged in this run.
    pub acknowledged: AtomicU64,
    /// Transactions that failed or were rolled back.
    pub failed: AtomicU64,
    /// Clients that lost their connection: the fault has reached them.
    pub lost: AtomicU64,
    /// What the workload measured beside, such as the pages of pollers.
    pub observed: AtomicU64,
    /// Commands between owners whose transactions were acknowledged.
    pub commands: AtomicU64,
}

/// The shared state of one run. Cloning gives another handle of the same.
#[derive(Clone)]
pub struct Field {
    /// Where the server listens.
    pub address: Address,
    /// The run's seed.
    pub seed: Seed,
    /// Its number in this folder, from 0.
    pub run: u64,
    /// Whether to play at a weaker isolation level than is claimed.
    pub weaken: bool,
    /// Where events go.
    pub history: History,
    /// Where broken promises go.
    pub findings: Findings,
    /// The load's measure.
    pub progress: Arc<Progress>,
    stop: Arc<AtomicBool>,
    dark: Arc<AtomicBool>,
    /// Whether there are several nodes, so that clients go on when one is lost.
    is_cluster: bool,
    next_process: Arc<AtomicU64>,
}

impl Field {
    /// The field of one run.
    pub fn new(
        address: Address,
        seed: Seed,
        run: u64,
        weaken: bool,
        history: History,
        findings: Findings,
    ) -> Field {
        let progress = Arc::default();
        Field {
            address,
            seed,
            run,
            weaken,
            history,
            findings,
            progress,
            stop: Arc::default(),
            dark: Arc::default(),
            is_cluster: false,
            next_process: Arc::new(AtomicU64::new(NEXT_PROCESS)),
        }
    }

    /// The same with several nodes: clients go on with another one when they lose theirs.
    pub fn of_cluster(self) -> Field {
        Field {
            is_cluster: true,
            ..self
        }
    }

    /// Whether there are several nodes.
    pub fn is_cluster(&self) -> bool {
        self.is_cluster
    }

    /// Whether a client that has lost its connection goes on with another one.
    pub fn goes_on(&self) -> bool {
        self.is_cluster && !self.is_stopped()
    }

    /// A process whose last operation is unknown asks for nothing more: its client goes on under
    /// this number.
    pub fn next_process(&self) -> u64 {
        self.next_process.fetch_add(1, Ordering::Relaxed)
    }

    /// A client's connection; to a cluster it is tried for until the load ends. Without one the
    /// client ends.
    pub async fn connect(&self, user: &str, protocol: Protocol) -> Option<Link> {
        loop {
            let failure = match Link::open(&self.address, user, protocol).await {
                Ok(link) => return Some(link),
                Err(failure) => failure,
            };
            // That one node of several says nothing is what the fault is.
            if !self.is_cluster || matches!(failure, Failure::Refused { .. }) {
                self.judge(&failure, "connect", &[]);
            }
            if !self.goes_on() {
                return None;
            }
            sleep(RECONNECT_PAUSE).await;
        }
    }

    /// After a statement that did not succeed: judges it; `None` if the client ends, else whether
    /// its connection can still be used.
    pub async fn survives(&self, failure: &Failure, what: &str, expected: &[&str]) -> Option<bool> {
        self.judge(failure, what, expected);
        let is_usable = !failure.is_end();
        if !is_usable && !self.goes_on() {
            return None;
        }
        if self.is_cluster {
            sleep(RECONNECT_PAUSE).await;
        }
        Some(is_usable)
    }

    /// The same run, the server being elsewhere after a restart.
    pub fn at(&self, address: Address) -> Field {
        Field {
            address,
            ..self.clone()
        }
    }

    /// The power is about to go while the server runs: it may complain of its disk as it likes.
    pub fn darken(&self) {
        self.dark.store(true, Ordering::SeqCst);
    }

    /// Asks all clients to end after what they are doing.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Whether clients are asked to end.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Counts and writes down the end of a transaction; errors beside the expected ones are
    /// findings. Returns the time of the event.
    pub fn ended(
        &self,
        process: u64,
        what: &str,
        outcome: &Outcome,
        expected: &[&str],
        value: serde_json::Value,
    ) -> u64 {
        let step = match outcome {
            Outcome::Acknowledged => Step::Ok,
            Outcome::Failed(_) => Step::Fail,
            Outcome::Unknown(_) => Step::Info,
        };
        let counter = match outcome {
            Outcome::Acknowledged => &self.progress.acknowledged,
            Outcome::Failed(_) | Outcome::Unknown(_) => &self.progress.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let error = outcome.failure().map(ToString::to_string);
        if let Some(failure) = outcome.failure() {
            self.progress
                .lost
                .fetch_add(u64::from(failure.is_end()), Ordering::Relaxed);
            self.judge(failure, what, expected);
        }
        self.history.step(
            process,
            step,
            what,
            json!({ "value": value, "error": error }),
        )
    }

    /// Ends a block that has not failed. What it was shown may be lost, of which it is told here.
    pub async fn change_mind(&self, link: &Link) {
        if let Err(failure) = link.run("ROLLBACK").await {
            self.judge(&failure, "ROLLBACK", &[]);
        }
    }

    /// Ends a block that has failed. Whatever was the matter, that works while the connection does.
    pub async fn roll_back(&self, link: &Link) {
        if let Err(failure) = link.run("ROLLBACK").await
            && !failure.is_end()
        {
            let what = format!("ROLLBACK: {failure}");
            self.findings.add(Kind::Unexpected, what);
        }
    }

    /// Errors that nobody expects, and silence, are findings.
    pub fn judge(&self, failure: &Failure, what: &str, expected: &[&str]) {
        match failure {
            Failure::Refused { .. } if self.dark.load(Ordering::SeqCst) => {}
            Failure::Refused { state, .. } => {
                let listed = EXPECTED.contains(&state.as_str())
                    || expected.contains(&state.as_str())
                    || self.is_cluster && state == MOVED
                    || state.starts_with("57P");
                if !listed {
                    self.findings
                        .add(Kind::Unexpected, format!("{what}: {failure}"));
                }
            }
            Failure::Silent(_) => self
                .findings
                .add(Kind::Unexpected, format!("{what}: {failure}")),
            Failure::Lost(_) => {}
        }
    }

    /// How many transactions were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.progress.acknowledged.load(Ordering::Relaxed)
    }
}
