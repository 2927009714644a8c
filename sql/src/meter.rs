//! Counts what the sessions of a node do, for the node's metrics: statements with their latency,
//! ends of transactions. Sessions count in shards, so that they do not share a cache line.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the buckets of latencies, in microseconds; what is above the last counts in one
/// bucket more.
pub const LATENCY_BOUNDS_MICROS: [u64; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000,
];
/// Buckets of latencies.
const BUCKETS: usize = LATENCY_BOUNDS_MICROS.len() + 1;
/// A session counts in the shard that its process id names.
const SHARDS: usize = 16;

/// A histogram of latencies that many threads add to.
#[derive(Default)]
pub struct Latencies {
    buckets: [AtomicU64; BUCKETS],
    micros: AtomicU64,
}

/// What a histogram has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How many fell into each bucket (not added up), the one beyond all bounds last.
    pub buckets: [u64; BUCKETS],
    /// All latencies together, in microseconds.
    pub micros: u64,
}

impl Latencies {
    /// Counts one of so many microseconds.
    pub fn note(&self, micros: u64) {
        let bucket = LATENCY_BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// What it has counted up to now.
    pub fn counted(&self) -> Counted {
        let mut counted = Counted::default();
        self.add_to(&mut counted);
        counted
    }

    fn add_to(&self, sum: &mut Counted) {
        for (sum, bucket) in sum.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.load(Ordering::Relaxed);
        }
        sum.micros += self.micros.load(Ordering::Relaxed);
    }
}

/// How a transaction has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Committed, and it had written nothing.
    Read,
    /// Its entry is committed.
    Written,
    /// By ROLLBACK or an error; also one whose outcome this node could not learn.
    Aborted,
}

/// What the sessions of a node have done since it started.
#[derive(Default)]
pub struct Meter {
    shards: [Shard; SHARDS],
}

/// Two cache lines and more for itself: neighbours are fetched together.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    statements: Latencies,
    failed: AtomicU64,
    read: AtomicU64,
    written: AtomicU64,
    aborted: AtomicU64,
}

/// A sum over all sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Statements that were answered, with their latency from begin to answer.
    pub statements: Counted,
    /// Statements that ended with an error.
    pub failed: u64,
    /// Transactions by their end.
    pub read: u64,
    /// The same.
    pub written: u64,
    /// The same.
    pub aborted: u64,
}

impl Meter {
    fn shard(&self, process: i32) -> &Shard {
        &self.shards[process as u32 as usize % SHARDS]
    }

    /// A statement of a session was answered.
    pub(crate) fn answered(&self, process: i32, micros: u64) {
        self.shard(process).statements.note(micros);
    }

    /// A statement of a session ended with an error.
    pub(crate) fn failed(&self, process: i32) {
        self.shard(process).failed.fetch_add(1, Ordering::Relaxed);
    }

    /// A transaction of a session has ended.
    pub(crate) fn ended(&self, process: i32, how: Ended) {
        let shard = self.shard(process);
        let counter = match how {
            Ended::Read => &shard.read,
            Ended::Written => &shard.written,
            Ended::Aborted => &shard.aborted,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Everything up to now. What happens meanwhile may be in one number and not yet in another.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for shard in &self.shards {
            shard.statements.add_to(&mut totals.statements);
            totals.failed += shard.failed.load(Ordering::Relaxed);
            totals.read += shard.read.load(Ordering::Relaxed);
            totals.written += shard.written.load(Ordering::Relaxed);
            totals.aborted += shard.aborted.load(Ordering::Relaxed);
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_falls_into_the_first_bucket_that_holds_it() {
        let latencies = Latencies::default();
        for micros in [0, 50, 51, 10_000_000, 10_000_001] {
            latencies.note(micros);
        }
        let counted = latencies.counted();
        assert_eq!(counted.buckets[0], 2);
        assert_eq!(counted.buckets[1], 1);
        assert_eq!(counted.buckets[BUCKETS - 2..], [1, 1]);
        assert_eq!(counted.micros, 20_000_102);
    }

    #[test]
    fn all_sessions_are_summed_whatever_their_number() {
        let meter = Meter::default();
        for process in [1, 2, 17, i32::MAX] {
            meter.answered(process, 7);
            meter.ended(process, Ended::Written);
        }
        meter.ended(3, Ended::Aborted);
        meter.failed(3);
        let totals = meter.totals();
        assert_eq!(totals.statements.buckets[0], 4);
        assert_eq!(totals.statements.micros, 28);
        assert_eq!(
            (totals.written, totals.read, totals.aborted, totals.failed),
            (4, 0, 1, 1)
        );
    }
}
