//! Something that happens once, with wakers of those who wait for it; and what happens again and
//! again.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use storage::Outcome;

/// Set once; cloning shares it.
#[derive(Clone, Default)]
pub struct Signal(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    outcome: Option<Outcome>,
    wakers: Vec<Box<dyn FnOnce() + Send>>,
}

impl Signal {
    /// It happened.
    pub fn set(&self) {
        self.finish(Outcome::Applied);
    }

    /// It happened, or will never happen.
    pub fn finish(&self, outcome: Outcome) {
        let wakers = {
            let mut state = self.0.lock();
            state.outcome.get_or_insert(outcome);
            std::mem::take(&mut state.wakers)
        };
        for wake in wakers {
            wake();
        }
    }

    /// Is it over?
    pub fn is_set(&self) -> bool {
        self.0.lock().outcome.is_some()
    }

    /// How it ended.
    pub fn outcome(&self) -> Option<Outcome> {
        self.0.lock().outcome
    }

    /// Calls `wake` when it is over, at once if it is.
    pub fn on_set(&self, wake: Box<dyn FnOnce() + Send>) {
        {
            let mut state = self.0.lock();
            if state.outcome.is_none() {
                state.wakers.push(wake);
                return;
            }
        }
        wake();
    }
}

/// Something that happens again and again: each time it sets the signals of those who wait for
/// the next one. Who drops its signal no longer waits.
#[derive(Default)]
pub struct Bell(Mutex<Waiters>);

#[derive(Default)]
struct Waiters {
    signals: Vec<Weak<Mutex<State>>>,
    /// At this many it is time to look for those who have left.
    tidy_at: usize,
}

impl Bell {
    /// Sets the signal when it happens next.
    pub fn wait(&self, signal: &Signal) {
        let mut waiters = self.0.lock();
        if waiters.signals.len() >= waiters.tidy_at {
            waiters.signals.retain(|signal| signal.strong_count() > 0);
            waiters.tidy_at = 2 * waiters.signals.len() + 64;
        }
        waiters.signals.push(Arc::downgrade(&signal.0));
    }

    /// It happens.
    pub fn ring(&self) {
        let signals = std::mem::take(&mut self.0.lock().signals);
        for signal in signals.iter().filter_map(Weak::upgrade) {
            Signal(signal).set();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_wakes_who_waits_and_forgets_who_has_left() {
        let bell = Bell::default();
        let stays = Signal::default();
        bell.wait(&stays);
        for _ in 0..10_000 {
            bell.wait(&Signal::default());
        }
        assert!(bell.0.lock().signals.len() < 200);
        bell.ring();
        assert!(stays.is_set());
        let next = Signal::default();
        bell.wait(&next);
        assert!(!next.is_set(), "that one was before");
    }
}
