//! How long an owner's writers wait after a fault: small writes of clients that come anew to the
//! nodes that are left, one every few milliseconds, until the first is acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::error::Result;
use crate::field::Field;
use crate::finding::Kind;
use crate::link::{Address, Link, Protocol, integer};

/// Pause between two clients that try.
const EVERY: Duration = Duration::from_millis(20);

/// Clients that try at the same time, at most.
const TRYING_MAX: usize = 40;

/// What was written and acknowledged.
#[derive(Default)]
pub struct Probes {
    next: Arc<AtomicI64>,
    told: BTreeMap<String, BTreeSet<i64>>,
}

impl Probes {
    /// Makes each owner's table.
    pub async fn prepare(&mut self, address: &Address, owners: &[&str]) -> Result<()> {
        for owner in owners {
            let link = Link::demand(address, owner).await?;
            link.must("CREATE TABLE probe (id bigint PRIMARY KEY)")
                .await?;
            self.told.entry((*owner).to_owned()).or_default();
        }
        Ok(())
    }

    /// The time from `began` to the first acknowledgement of a write that was asked for after it;
    /// `None` if there is none within `limit`.
    pub async fn first_write(
        &mut self,
        address: &Address,
        owner: &str,
        began: Instant,
        limit: Duration,
    ) -> Option<Duration> {
        let mut trying = JoinSet::new();
        let acknowledged = loop {
            if trying.len() < TRYING_MAX {
                let id = self.next.fetch_add(1, Ordering::Relaxed);
                trying.spawn(write(address.clone(), owner.to_owned(), id));
            }
            let next = sleep(EVERY);
            tokio::pin!(next);
            let acknowledged = loop {
                tokio::select! {
                    biased;
                    Some(done) = trying.join_next() => {
                        if let Ok(Some(id)) = done {
                            break Some(id);
                        }
                    }
                    () = &mut next => break None,
                }
            };
            if acknowledged.is_some() || began.elapsed() > limit {
                break acknowledged;
            }
        };
        let elapsed = began.elapsed();
        let id = acknowledged?;
        self.told.entry(owner.to_owned()).or_default().insert(id);
        Some(elapsed)
    }

    /// Everything acknowledged must be there.
    pub async fn verify(&self, field: &Field) -> Result<()> {
        for (owner, told) in &self.told {
            let link = Link::demand(&field.address, owner).await?;
            let rows = link.must("SELECT id FROM probe").await?;
            let there: BTreeSet<i64> = rows.iter().filter_map(|row| integer(row, 0)).collect();
            for id in told.difference(&there) {
                let what = format!("{owner}: the acknowledged first write {id} after a fault");
                field.findings.add(Kind::Lost, what);
            }
        }
        Ok(())
    }
}

/// One client's only write; its number if it was acknowledged.
async fn write(address: Address, owner: String, id: i64) -> Option<i64> {
    let link = Link::open(&address, &owner, Protocol::Simple).await.ok()?;
    let sql = format!("INSERT INTO probe VALUES ({id})");
    link.run(&sql).await.ok().map(|_| id)
}

/// The times of all faults of a call, as a line.
pub fn summary(waits: &[Duration]) -> Option<String> {
    let mut sorted = waits.to_vec();
    sorted.sort_unstable();
    let (worst, median) = (sorted.last()?, sorted[(sorted.len() - 1) / 2]);
    let seconds = |wait: &Duration| format!("{:.3}", wait.as_secs_f64());
    let all: Vec<String> = waits.iter().map(seconds).collect();
    Some(format!(
        "failover: kills={} median={} worst={} (seconds from the leading node's kill to the next \
         acknowledged write; all: {})",
        waits.len(),
        seconds(&median),
        seconds(worst),
        all.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_median_and_worst() {
        let waits = [700, 3_100, 800].map(Duration::from_millis);
        let line = summary(&waits).unwrap();
        assert!(line.contains("kills=3 median=0.800 worst=3.100"), "{line}");
        assert!(line.contains("all: 0.700 3.100 0.800"), "{line}");
        assert_eq!(summary(&[]), None);
    }
}
