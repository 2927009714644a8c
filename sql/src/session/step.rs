//! What a call of the session ends with: an answer, or something the server must do first.

use std::sync::Arc;

use storage::{GroupId, Outcome, Ticket};

use super::signal::Signal;
use crate::engine::Engine;
use crate::transaction::Wait;

/// The end of one call.
#[derive(Debug)]
pub enum Step {
    /// The statement is done: the CommandComplete tag (empty = EmptyQueryResponse).
    Done {
        /// `SELECT 3`, `INSERT 0 1`, ...
        tag: String,
    },
    /// The row limit of Execute is reached.
    Suspended,
    /// Await this, then call again with the same arguments.
    Wait(Waiting),
    /// Flush the output, then call again.
    More,
    /// What follows may keep its thread busy for long: call again after
    /// [`super::Session::give_room`], on a thread that others don't need.
    Heavy,
    /// COPY FROM STDIN begins: send CopyInResponse, then give the data to `copy_data`.
    CopyIn {
        /// Overall format.
        binary: bool,
        /// Number of columns.
        columns: u16,
    },
    /// COPY TO STDOUT begins: send CopyOutResponse; call again for its data (rows are CopyData)
    /// until `Done` (send CopyDone first).
    CopyOut {
        /// Overall format.
        binary: bool,
        /// Number of columns.
        columns: u16,
    },
    /// The query string is at its end: ReadyForQuery.
    End,
    /// The statement needs the leader of this group, which is another node. Nothing of the turn is
    /// lost if its messages (since ReadyForQuery) are given again to a session there, made of
    /// [`super::Session::export`]: this one tells the state at the turn's beginning now. If that
    /// can't be (an answer has left), [`super::Session::stay`] tells the error to send.
    Elsewhere(GroupId),
}

/// Something to await before the session is called again.
pub struct Waiting {
    what: What,
    until: Option<u64>,
    streams: bool,
}

enum What {
    Lock(Ticket),
    Signal(Signal),
    /// Until the time only.
    Time,
    /// The next applied entry.
    Entry(Arc<Engine>, Signal),
    /// Nothing.
    Now,
}

impl Waiting {
    /// Turns a stop of the engine into something with a waker. `until`: the session wants to be
    /// called then at the latest (a timeout), in microseconds since 1970.
    pub(super) fn new(engine: &Arc<Engine>, wait: Wait, until: Option<u64>) -> Waiting {
        let (what, time) = match wait {
            Wait::Lock(ticket) => (What::Lock(ticket), None),
            Wait::Position(group, position) => {
                let signal = Signal::default();
                match engine.groups().get(group) {
                    None => signal.finish(Outcome::Unknown),
                    Some(held) => {
                        let done = signal.clone();
                        held.when(position, Box::new(move |outcome| done.finish(outcome)));
                    }
                }
                (What::Signal(signal), None)
            }
            Wait::Until(time) => (What::Time, Some(time)),
            Wait::Feed(time) => (What::Entry(Arc::clone(engine), Signal::default()), time),
            Wait::Signal(signal) | Wait::Wish(signal) => (What::Signal(signal), None),
            Wait::SignalOr(signal, time) => (What::Signal(signal), Some(time)),
            // Looked for before ([`super::Session::meet`]).
            Wait::Again | Wait::Leader(_) | Wait::Table { .. } | Wait::Cut(_) | Wait::Doubt(_) => {
                (What::Now, None)
            }
            Wait::Group(group) => match engine.group_signal(group) {
                Some(signal) => (What::Signal(signal), None),
                None => (What::Now, None),
            },
        };
        let until = match (until, time) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Waiting {
            what,
            until,
            streams: false,
        }
    }

    /// More rows of a stream are waited for.
    pub(super) fn within_stream(self) -> Waiting {
        Waiting {
            streams: true,
            ..self
        }
    }

    /// Is the client to have now what a stream has given so far?
    pub fn streams(&self) -> bool {
        self.streams
    }

    /// A wait for a signal.
    pub(super) fn signal(signal: Signal) -> Waiting {
        Waiting {
            what: What::Signal(signal),
            until: None,
            streams: false,
        }
    }

    /// The same, but at this time at the latest.
    pub(super) fn or_at(self, until: Option<u64>) -> Waiting {
        let until = match (self.until, until) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Waiting { until, ..self }
    }

    /// Call the session again at this time even if nothing happened (microseconds since 1970).
    pub fn until(&self) -> Option<u64> {
        self.until
    }

    /// Is the waiting over (the time apart)?
    pub fn ready(&self) -> bool {
        match &self.what {
            What::Lock(ticket) => ticket.ready(),
            What::Signal(signal) | What::Entry(_, signal) => signal.is_set(),
            What::Time => false,
            What::Now => true,
        }
    }

    /// Must the session be called once more after [`Waiting::on_ready`], because what it waits for
    /// may have come in between? Only new entries are like that.
    pub fn rechecks(&self) -> bool {
        matches!(self.what, What::Entry(..))
    }

    /// What became of what was awaited, where that matters.
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.what {
            What::Signal(signal) => signal.outcome(),
            _ => None,
        }
    }

    /// Calls `wake` when the waiting is over, at once if it is. Keep the `Waiting` meanwhile:
    /// dropping it leaves a lock's queue and the feed's.
    pub fn on_ready(&self, wake: Box<dyn FnOnce() + Send>) {
        match &self.what {
            What::Lock(ticket) => ticket.on_ready(wake),
            What::Signal(signal) => signal.on_set(wake),
            What::Entry(engine, signal) => {
                signal.on_set(wake);
                engine.on_entry(signal);
            }
            What::Now => wake(),
            What::Time => {}
        }
    }
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match &self.what {
            What::Lock(_) => "lock",
            What::Signal(_) => "signal",
            What::Time => "time",
            What::Entry(..) => "entry",
            What::Now => "now",
        };
        write!(f, "Waiting({what}, {:?})", self.until)
    }
}
