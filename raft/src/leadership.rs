//! When this node leads a group: once it is elected and everything before its own term is applied.
//! And what becomes of pending transactions when it no longer does.

use std::sync::{Arc, Weak};
use std::time::Duration;

use journal::{Journal, Position, Term};
use parking_lot::Mutex;
use storage::{Group, Groups};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// After this time without a decision by the new leader's log, clients are told that the outcome
/// is unknown (08007).
pub const IN_DOUBT_MAX: Duration = Duration::from_secs(5);

/// Leads the group when both are true, in either order: this replica won the election of a term,
/// and the first entry of that term is applied (so everything before it is, too).
pub struct Leadership {
    this: Weak<Leadership>,
    group: Arc<Group>,
    groups: Arc<Groups>,
    journal: Journal,
    runtime: Handle,
    /// Positions begin above it.
    floor: Position,
    /// Counts all changes of leadership that this node sees.
    changes: Arc<watch::Sender<u64>>,
    state: Mutex<Terms>,
}

#[derive(Default)]
struct Terms {
    elected: Option<u64>,
    begun: u64,
    leads: Option<u64>,
    /// The last term in which it has led. Raft may say that it leads still, when by what the log
    /// holds that is over; and what was placed in that time is in doubt, not lost.
    led: u64,
    /// How often this node has stopped to lead.
    ended: u64,
}

impl Leadership {
    /// Nobody leads yet. `floor`: nothing in this node's journal lay beyond when it was opened.
    pub fn new(
        group: Arc<Group>,
        groups: Arc<Groups>,
        journal: Journal,
        runtime: Handle,
        floor: Position,
        changes: Arc<watch::Sender<u64>>,
    ) -> Arc<Leadership> {
        Arc::new_cyclic(|this| Leadership {
            this: this.clone(),
            group,
            groups,
            journal,
            runtime,
            floor,
            changes,
            state: Mutex::default(),
        })
    }

    /// This replica won the election of `term`.
    pub fn elected(&self, term: u64) {
        let mut state = self.state.lock();
        state.elected = Some(term);
        self.lead(&mut state);
    }

    /// Another one was heard of: what is pending is in doubt now.
    pub fn deposed(&self) {
        let mut state = self.state.lock();
        state.elected = None;
        if state.leads.take().is_some() {
            state.ended += 1;
            self.group.step_down();
            self.note_change();
            self.doubt(state.ended);
        }
    }

    /// A change of members, in the log with `term`, has left this replica without a vote: if it
    /// leads in that term, that is over. One that was elected in a later term has its vote by
    /// what came later in the log, and may still be applying what was before.
    pub fn removed(&self, term: u64) {
        let leads = self.state.lock().elected == Some(term);
        if leads {
            self.deposed();
        }
    }

    /// Someone leads now, or nobody: who waits for that looks again.
    pub fn note_change(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// What the log has not decided in time can't be known here.
    fn doubt(&self, ended: u64) {
        let Some(leadership) = self.this.upgrade() else {
            return;
        };
        self.runtime.spawn(async move {
            tokio::time::sleep(IN_DOUBT_MAX).await;
            let state = leadership.state.lock();
            if state.ended == ended && state.leads.is_none() {
                leadership.group.give_up();
            }
        });
    }

    /// The first entry of `term` is applied.
    pub fn begun(&self, term: u64) {
        let mut state = self.state.lock();
        state.begun = state.begun.max(term);
        self.lead(&mut state);
    }

    fn lead(&self, state: &mut Terms) {
        if let Some(term) = state.elected
            && state.begun == term
            && state.led < term
        {
            state.leads = Some(term);
            state.led = term;
            // Readers of the feed may have passed what the others have applied.
            let applied = self.groups.all().iter().map(|group| group.applied()).max();
            let floor = self.floor.max(applied.unwrap_or_default());
            // Entries that are not committed, and those that were cut off, have positions too.
            let greatest = self.journal.state(self.group.id()).greatest;
            self.group.lead(Term(term), floor.max(greatest));
            self.note_change();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use journal::{GroupId, MemoryDisk};
    use storage::{Local, ManualClock, MemoryStore};

    use super::*;

    #[tokio::test]
    async fn changes_of_members_end_the_leadership_of_their_term_for_good() {
        let clock = Arc::new(ManualClock::new(1_700_000_000_000_000));
        let local = Local::new(MemoryStore::new(), clock);
        let group = local.groups().open(GroupId(1)).unwrap();
        let (disk, options) = (Arc::new(MemoryDisk::new()), journal::Options::default());
        let leadership = Leadership::new(
            group.clone(),
            local.groups().clone(),
            Journal::open(disk, Path::new("/journal"), options).unwrap(),
            Handle::current(),
            Position::ZERO,
            Arc::new(watch::channel(0).0),
        );
        // It is elected, and applies its log from before its restart, of a time without a vote.
        leadership.elected(2);
        leadership.removed(1);
        leadership.begun(2);
        assert_eq!(group.term(), Some(Term(2)));
        leadership.removed(2);
        assert_eq!(group.term(), None);
        // Raft ends its part a little later. A term is led once.
        leadership.elected(2);
        assert_eq!(group.term(), None);
        leadership.deposed();
        leadership.elected(4);
        leadership.begun(4);
        assert_eq!(group.term(), Some(Term(4)));
    }
}
