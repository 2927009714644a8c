//! Releasing: whole segments leave, oldest first, when no group needs anything in them. Votes and
//! purge points that only they hold are copied forward first.

use crate::index::Group;
use crate::journal::{Journal, State};
use crate::record::Kind;
use crate::writer::Ticket;
use crate::{Error, GroupId, Index, Record, Result, segment, spare};

impl Journal {
    /// Nothing of the group below `below` is needed any more: checkpointed, purged for Raft (what
    /// is not stays anyway) and out of retention. Deletes the segments that no group needs; that
    /// may take some fsyncs, so call it from a thread that may wait.
    pub fn release(&self, group: GroupId, below: Index) -> Result<()> {
        let shared = self.shared();
        let _one = shared.upkeep.lock();
        let (sender, receiver) = std::sync::mpsc::channel();
        let mut state = shared.state.lock();
        state.usable()?;
        if let Some(known) = state.groups.get_mut(&group) {
            known.release(below);
        }
        let Some(upto) = state.releasable() else {
            return Ok(());
        };
        let done = Ticket::new(Box::new(move |answer| drop(sender.send(answer))));
        let copies = state.copy_forward(upto, done);
        drop(state);
        shared.work.notify_one();
        if copies > 0 {
            receiver.recv().unwrap_or(Err(Error::Closed))?;
        }
        // A file that stays while later ones go would be a hole for the next open: final, too.
        self.remove_segments(upto)
            .map_err(|error| shared.fail(error))
    }

    fn remove_segments(&self, upto: u64) -> Result<()> {
        let shared = self.shared();
        let mut state = shared.state.lock();
        let kept = state.segments.split_off(&(upto + 1));
        let gone = std::mem::replace(&mut state.segments, kept);
        let freed: usize = state
            .groups
            .values_mut()
            .map(|group| group.forget(upto))
            .sum();
        state.tail_bytes -= freed;
        drop(state);
        for number in gone.into_keys() {
            // One at a time and durably, so that a crash leaves no hole between segments.
            spare::remove(shared, &shared.dir.join(segment::name(number)))?;
            spare::sync_dir(shared)?;
        }
        Ok(())
    }
}

impl Group {
    /// Notes the floor: never above the purge point.
    fn release(&mut self, below: Index) {
        let purged = self
            .purged
            .map_or(Index(0), |(_, index)| Index(index.0 + 1));
        self.released = self.released.max(below.min(purged));
    }

    /// The oldest segment that holds something still needed.
    fn needs(&self) -> Option<u64> {
        self.runs
            .iter()
            .find(|run| run.last >= self.released)
            .map(|run| run.segment)
    }
}

impl State {
    /// The newest segment of those that can go.
    fn releasable(&self) -> Option<u64> {
        let open = *self.segments.keys().next_back()?;
        let needed = self.groups.values().filter_map(Group::needs).min();
        let first_kept = needed.map_or(open, |needed| needed.min(open));
        self.segments
            .range(..first_kept)
            .next_back()
            .map(|(number, _)| *number)
    }

    /// Queues copies of what only the leaving segments hold: votes and purge points, and a purge
    /// point for each group with records there, which may not be on disk yet. Answers how many.
    fn copy_forward(&mut self, upto: u64, done: Ticket) -> usize {
        let leaving = |segment: Option<u64>| segment.is_some_and(|segment| segment <= upto);
        let mut copies = Vec::new();
        for (id, group) in &self.groups {
            let records = group.runs.front().is_some_and(|run| run.segment <= upto);
            if let Some((term, upto)) = group.purged
                && (records || leaving(group.purge_segment))
            {
                let copy = Record::purge(*id, term, upto);
                copies.push(Record {
                    position: group.greatest,
                    ..copy
                });
            }
            if let Some(vote) = &group.vote
                && leaving(group.vote_segment)
            {
                let copy = Record::own(Kind::Vote, *id, crate::Term(0), Index(0));
                let (position, payload) = (group.greatest, vote.clone());
                copies.push(Record {
                    position,
                    payload,
                    ..copy
                });
            }
        }
        let count = copies.len();
        for copy in copies {
            let (id, position) = (copy.group, copy.position);
            self.enqueue(copy, position, Some(done.clone()));
            let queued = self
                .groups
                .get_mut(&id)
                .and_then(|group| group.queue.back_mut());
            queued.expect("it was just queued").sync = true;
        }
        count
    }
}
