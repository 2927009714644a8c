//! The clock that positions are made of: the system's, as long as it is not far ahead of the other
//! nodes'. A leader whose clock is wrong would push the positions of all that depend on it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use storage::Clock;

use crate::system::SystemClock;

/// So far a clock may be ahead of most others.
const AHEAD_MAX: Duration = Duration::from_millis(500);

/// No position is made ahead of what most nodes take for the present, and half a second.
pub struct PositionClock {
    /// What others said is remembered by this one, which never jumps.
    begun: Instant,
    /// How far each was ahead of `begun` when it was heard last, in microseconds since 1970: two
    /// clocks of that kind don't part for long, and a node that is away counts still.
    others: Mutex<BTreeMap<u32, i64>>,
    /// [`present`] of the others; `i64::MAX`: too few of them are known.
    present: AtomicI64,
    /// It was too far ahead when it was looked last.
    held: AtomicBool,
}

impl Default for PositionClock {
    fn default() -> PositionClock {
        PositionClock {
            begun: Instant::now(),
            others: Mutex::default(),
            present: AtomicI64::new(i64::MAX),
            held: AtomicBool::new(false),
        }
    }
}

impl PositionClock {
    /// Another node's clock showed `micros` between these moments. Tells by how much this node's
    /// own is too far ahead, when that begins and when it is over.
    pub fn note(
        &self,
        node: u32,
        micros: u64,
        asked: Instant,
        answered: Instant,
    ) -> Option<Duration> {
        let between = asked + (answered - asked) / 2;
        let since = i64::try_from((between - self.begun).as_micros()).unwrap_or(i64::MAX);
        let ahead = i64::try_from(micros)
            .unwrap_or(i64::MAX)
            .saturating_sub(since);
        let mut others = self.others.lock();
        others.insert(node, ahead);
        self.judge(&others);
        drop(others);
        let ahead = SystemClock.unix_micros().saturating_sub(self.latest());
        let changes = self.held.swap(ahead > 0, Ordering::Relaxed) != (ahead > 0);
        changes.then(|| Duration::from_micros(ahead))
    }

    /// These are the other nodes; what was heard of more counts no longer.
    pub fn keep(&self, nodes: &[u32]) {
        let mut others = self.others.lock();
        others.retain(|node, _| nodes.contains(node));
        self.judge(&others);
    }

    fn judge(&self, others: &BTreeMap<u32, i64>) {
        let present = present(others.values().copied());
        self.present
            .store(present.unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// The latest time that it shows, in microseconds since 1970.
    fn latest(&self) -> u64 {
        let present = self.present.load(Ordering::Relaxed);
        let since = i64::try_from(self.begun.elapsed().as_micros()).unwrap_or(i64::MAX);
        let latest = present.saturating_add(since.saturating_add(AHEAD_MAX.as_micros() as i64));
        u64::try_from(latest).unwrap_or_default()
    }
}

impl Clock for PositionClock {
    fn unix_micros(&self) -> u64 {
        SystemClock.unix_micros().min(self.latest())
    }
}

/// The median of these clocks and of one that is ahead of them all: with it, no single clock that is
/// wrong decides. `None`: that one does.
fn present(others: impl Iterator<Item = i64>) -> Option<i64> {
    let mut others: Vec<i64> = others.collect();
    others.sort_unstable();
    others.get(others.len().div_ceil(2)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_single_clock_decides() {
        let present = |others: &[i64]| present(others.iter().copied());
        assert_eq!(present(&[]), None);
        assert_eq!(present(&[7]), None, "who of two is wrong nobody knows");
        assert_eq!(
            present(&[7, 9]),
            Some(9),
            "one that is behind holds nobody back"
        );
        assert_eq!(present(&[7, 8, 9]), Some(9));
        assert_eq!(present(&[9, 6, 8, 7]), Some(8));
    }

    #[test]
    fn a_clock_that_is_ahead_of_most_is_held_back() {
        let clock = PositionClock::default();
        let hour = 3_600_000_000;
        let behind = SystemClock.unix_micros() - hour;
        let now = Instant::now();
        assert_eq!(clock.note(2, behind, now, now), None);
        assert!(
            clock.unix_micros() > behind + hour / 2,
            "one alone proves nothing"
        );
        let ahead = clock.note(3, behind, now, now);
        assert!(ahead > Some(Duration::from_secs(3590)), "{ahead:?}");
        assert_eq!(clock.note(3, behind, now, now), None, "it was told");
        assert!(clock.unix_micros() < behind + hour / 2);
        clock.keep(&[2, 4]);
        assert!(
            clock.unix_micros() > behind + hour / 2,
            "who has left holds nobody back"
        );
        assert_eq!(clock.note(4, behind + hour, now, now), Some(Duration::ZERO));
        assert!(
            clock.unix_micros() > behind + hour / 2,
            "two of three agree"
        );
    }
}
