//! The clock that positions are made of. Storage never reads one by itself: the server hands in
//! the machine's, tests hand in [`ManualClock`].

use std::sync::atomic::{AtomicU64, Ordering};

/// Microseconds since 1970. May stand still or go back: positions grow all the same.
pub trait Clock: Send + Sync {
    /// The time now, in microseconds since 1970-01-01 UTC.
    fn unix_micros(&self) -> u64;
}

/// A clock that goes only when it is told to.
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows `unix_micros`.
    pub fn new(unix_micros: u64) -> ManualClock {
        ManualClock(AtomicU64::new(unix_micros))
    }

    /// Sets the time, backwards too.
    pub fn set(&self, unix_micros: u64) {
        self.0.store(unix_micros, Ordering::SeqCst);
    }

    /// Moves the time forward.
    pub fn advance(&self, micros: u64) {
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn unix_micros(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}
