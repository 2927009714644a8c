//! Something that happens once, with wakers of those who wait for it.

use std::sync::Arc;

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
