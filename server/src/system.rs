//! The operating system's clock and randomness, behind the traits that the engine asks for.

use std::time::{SystemTime, UNIX_EPOCH};

/// The system's clock.
pub struct SystemClock;

impl storage::Clock for SystemClock {
    fn unix_micros(&self) -> u64 {
        // A clock before 1970 reads as 1970: positions then go on by counting.
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }
}

/// The system's randomness.
pub struct SystemRandom;

impl sql::engine::Random for SystemRandom {
    fn bits(&self) -> u64 {
        rand::random()
    }
}
