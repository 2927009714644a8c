//! What is known in memory about one group: its newest records, where the older ones lie, vote,
//! purge point and terms. Sparse: one sample per 16 KiB of segment and run.

use std::collections::VecDeque;

use crate::writer::Waiting;
use crate::{GroupId, GroupState, Index, Payload, Position, Record, Term};

/// A sample is taken when a record lies this far behind the last one of its run.
const SAMPLE_BYTES: u64 = 16 << 10;

/// Where one record of a run lies, and its position (or, of Raft's own records, the last before).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub index: Index,
    pub offset: u64,
    pub position: Position,
}

/// Live records of one group with consecutive indexes and one term, in one segment. Between the
/// first and the last lies no other log record of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub segment: u64,
    pub term: Term,
    pub first: Index,
    pub last: Index,
    /// The position of the last record; an upper bound of it after a truncation.
    pub last_position: Position,
    /// Ascending, the first record always.
    pub samples: Vec<Sample>,
    /// Nothing is added: something else of the group came behind it.
    pub ended: bool,
}

impl Run {
    /// The sample at or before an index of this run.
    pub fn sample(&self, index: Index) -> Sample {
        self.samples[self.samples.partition_point(|s| s.index <= index).max(1) - 1]
    }

    /// Its records from one index to another.
    pub fn piece(&self, from: Index, last: Index) -> Piece {
        let start = self.sample(from);
        let behind = self
            .samples
            .get(self.samples.partition_point(|s| s.index <= last));
        let end = behind.map_or(self.sample(last).offset + SAMPLE_BYTES, |s| s.offset);
        let segment = self.segment;
        Piece {
            segment,
            run: self.samples[0].offset,
            start,
            from,
            last,
            end,
        }
    }
}

/// A record in memory.
pub(crate) struct Held {
    pub record: Record,
    /// The order in which the journal took it.
    pub seq: u64,
    /// Its position, or of Raft's own records the last before.
    pub position: Position,
}

/// Live log records with consecutive indexes and one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub term: Term,
    pub first: Index,
    pub last: Index,
}

/// A piece of a run to be read.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    pub segment: u64,
    /// Where the run begins: no other one begins there.
    pub run: u64,
    /// Where to begin.
    pub start: Sample,
    /// The first index wanted, and the last (inclusive).
    pub from: Index,
    pub last: Index,
    /// About where the last one ends: how much to read at once.
    pub end: u64,
}

/// Where the records from an index on are.
pub(crate) enum Place {
    Tail(usize),
    Run(Piece),
}

/// One group.
#[derive(Default)]
pub(crate) struct Group {
    // As the callers have said it.
    pub vote: Option<Payload>,
    pub purged: Option<(Term, Index)>,
    pub stretches: VecDeque<Stretch>,
    pub last_position: Position,
    pub greatest: Position,
    pub tail: VecDeque<Held>,
    pub durable: Option<Index>,
    pub released: Index,
    pub queue: VecDeque<Waiting>,
    // As the segments have it.
    pub runs: VecDeque<Run>,
    pub vote_segment: Option<u64>,
    pub purge_segment: Option<u64>,
    /// The purge point in the file: what is written from now on never outlives it.
    pub purge_written: Option<Index>,
    /// What the open segment says.
    pub open: OpenSegment,
}

/// What the segment being written says about a group, besides the runs.
#[derive(Default)]
pub(crate) struct OpenSegment {
    pub touched: bool,
    pub truncated: Option<Index>,
    pub vote: Option<Payload>,
    pub purged: Option<(Term, Index)>,
}

impl Group {
    /// The last log record's index.
    pub fn last_index(&self) -> Option<Index> {
        self.stretches.back().map(|s| s.last)
    }

    /// The index that a new log record must have; `None` if any will do.
    pub fn next_index(&self) -> Option<Index> {
        let last = self.last_index().max(self.purged.map(|(_, index)| index))?;
        Some(Index(last.0 + 1))
    }

    /// The oldest record that can be read.
    pub fn oldest(&self) -> Option<(Index, Position)> {
        let first = self.stretches.front()?.first;
        let run = self.runs.front().filter(|run| run.first == first);
        let held = self.tail.front().filter(|held| held.record.index == first);
        let position = run
            .map(|run| run.samples[0].position)
            .or(held.map(|held| held.position));
        Some((first, position.unwrap_or(self.last_position)))
    }

    /// Records up to this position are on disk, as far as there are any.
    pub fn durable_position(&self) -> Position {
        let waits = |index: Index| self.durable.is_none_or(|durable| durable < index);
        if !self.last_index().is_some_and(waits) {
            return Position::MAX;
        }
        let first = self.tail.partition_point(|held| !waits(held.record.index));
        // What waits for the disk is in memory.
        let first = self
            .tail
            .get(first)
            .map_or(Position::MAX, |held| held.position);
        Position(first.0.saturating_sub(1))
    }

    pub fn state(&self) -> GroupState {
        let last = self
            .stretches
            .back()
            .map(|s| (s.term, s.last, self.last_position));
        let purged = self
            .purged
            .map(|(term, index)| (term, index, self.last_position));
        GroupState {
            vote: self.vote.as_ref().and_then(|vote| vote.image(0)?.ok()),
            purged: self.purged,
            erasable: self.purge_written,
            last: match (last, purged) {
                (Some(last), Some(purged)) if purged.1 > last.1 => Some(purged),
                (None, purged) => purged,
                (last, _) => last,
            },
            durable: self.durable,
            oldest: self.oldest(),
            greatest: self.greatest,
        }
    }

    /// The term of a record, or of the purge point.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if let Some((term, at)) = self.purged
            && at == index
        {
            return Some(term);
        }
        let at = self.stretches.partition_point(|s| s.last < index);
        self.stretches
            .get(at)
            .filter(|s| s.first <= index)
            .map(|s| s.term)
    }

    /// Takes a log record.
    pub fn push(&mut self, term: Term, index: Index, position: Position) -> Position {
        match self.stretches.back_mut() {
            Some(s) if s.term == term && s.last.0 + 1 == index.0 => s.last = index,
            _ => self.stretches.push_back(Stretch {
                term,
                first: index,
                last: index,
            }),
        }
        self.last_position = self.last_position.max(position);
        self.greatest = self.greatest.max(position);
        self.last_position
    }

    /// Takes a truncation; `before` is the position of the record before it. Returns the bytes
    /// that leave the tail. At index 0 the purge point goes too: the group begins anew.
    pub fn truncate(&mut self, at: Index, before: Position) -> usize {
        let mut freed = 0;
        let anew = at == Index(0);
        let before = if anew { Position::ZERO } else { before };
        if anew {
            (self.purged, self.purge_segment) = (None, None);
            self.released = Index(0);
        }
        while self.tail.back().is_some_and(|held| held.record.index >= at) {
            freed += self.tail.pop_back().map_or(0, |held| held.bytes());
        }
        while self.stretches.back().is_some_and(|s| s.first >= at) {
            self.stretches.pop_back();
        }
        if let Some(s) = self.stretches.back_mut().filter(|s| s.last >= at) {
            s.last = Index(at.0 - 1);
        }
        self.last_position = before;
        let below = at.0.checked_sub(1).map(Index);
        self.durable = self.durable.min(below);
        freed
    }

    /// The position before `at`, if the tail or the purge point tells it.
    pub fn position_before(&self, at: Index) -> Option<Position> {
        if self.last_index().is_none_or(|last| last < at) {
            return Some(self.last_position);
        }
        if self.stretches.front().is_some_and(|s| s.first >= at) {
            return Some(Position::ZERO);
        }
        let next = self.tail.partition_point(|held| held.record.index < at);
        Some(self.tail.get(next.checked_sub(1)?)?.position)
    }

    /// Takes a purge point.
    pub fn purge(&mut self, term: Term, upto: Index) {
        if self.purged.is_none_or(|(_, index)| index < upto) {
            self.purged = Some((term, upto));
        }
        if self.last_index().is_none_or(|last| last <= upto) {
            // Raft purges beyond its log only behind a snapshot that is durable.
            self.durable = self.durable.max(Some(upto));
        }
    }

    /// Notes that a purge point was written.
    pub fn purge_written(&mut self, segment: u64, upto: Index) {
        self.purge_segment = Some(segment);
        self.purge_written = self.purge_written.max(Some(upto));
    }

    /// Notes where a log record was written.
    pub fn written(
        &mut self,
        segment: u64,
        offset: u64,
        term: Term,
        index: Index,
        position: Position,
    ) {
        self.open.touched = true;
        let sample = Sample {
            index,
            offset,
            position,
        };
        match self.runs.back_mut() {
            Some(run)
                if !run.ended
                    && run.segment == segment
                    && run.term == term
                    && run.last.0 + 1 == index.0 =>
            {
                run.last = index;
                run.last_position = position;
                let sampled = run.samples.last().map_or(0, |s| s.offset);
                if offset - sampled >= SAMPLE_BYTES {
                    run.samples.push(sample);
                }
            }
            _ => self.runs.push_back(Run {
                segment,
                term,
                first: index,
                last: index,
                last_position: position,
                samples: vec![sample],
                ended: false,
            }),
        }
    }

    /// Is the record still part of the log? (A truncation may overtake it on its way to the disk.)
    pub fn holds(&self, seq: u64) -> bool {
        let at = self.tail.partition_point(|held| held.seq < seq);
        self.tail.get(at).is_some_and(|held| held.seq == seq)
    }

    /// Notes that a truncation was written: the runs end before it.
    pub fn cut_runs(&mut self, at: Index) {
        if at == Index(0) {
            self.purge_written = None;
        }
        while self.runs.back().is_some_and(|run| run.first >= at) {
            self.runs.pop_back();
        }
        if let Some(run) = self.runs.back_mut() {
            run.ended = true;
            if run.last >= at {
                run.last = Index(at.0 - 1);
                run.samples.retain(|s| s.index < at);
            }
        }
    }

    /// Forgets the runs of segments up to this one. Returns the bytes that leave the tail.
    pub fn forget(&mut self, segment: u64) -> usize {
        let mut freed = 0;
        while let Some(run) = self.runs.pop_front_if(|run| run.segment <= segment) {
            while let Some(held) = self.tail.pop_front_if(|h| h.record.index <= run.last) {
                freed += held.bytes();
            }
        }
        let run = self.runs.front().map(|run| run.first);
        let held = self.tail.front().map(|held| held.record.index);
        let Some(first) = [run, held].into_iter().flatten().min() else {
            self.stretches.clear();
            return freed;
        };
        while self.stretches.front().is_some_and(|s| s.last < first) {
            self.stretches.pop_front();
        }
        if let Some(s) = self.stretches.front_mut() {
            s.first = s.first.max(first);
        }
        freed
    }

    /// Where the first record at or after `from` is; of a run no more than up to `upto`.
    pub fn locate(&self, from: Index, upto: Index) -> Option<Place> {
        let held_from = self.tail.front().map(|held| held.record.index);
        let at = self.runs.partition_point(|run| run.last < from);
        if let Some(run) = self.runs.get(at) {
            let from = from.max(run.first);
            let last = run.last.min(self.last_index()?).min(upto);
            // What is in memory is read from there; index 0 exists, so nothing lies before it.
            let last = match held_from {
                Some(held) => held.0.checked_sub(1).map(|before| last.min(Index(before))),
                None => Some(last),
            };
            if let Some(last) = last
                && from <= last
            {
                return Some(Place::Run(run.piece(from, last)));
            }
        }
        let at = self.tail.partition_point(|held| held.record.index < from);
        (at < self.tail.len()).then_some(Place::Tail(at))
    }

    /// Where a record of a run lies, if there is a sample of it: there is if it lies
    /// [`SAMPLE_BYTES`] behind the one before it.
    pub fn sampled(&self, piece: &Piece, index: Index) -> Option<u64> {
        let run = self
            .runs
            .get(self.runs.partition_point(|run| run.last < index))?;
        if (run.segment, run.samples[0].offset) != (piece.segment, piece.run) {
            return None;
        }
        let at = run.samples.binary_search_by_key(&index, |s| s.index).ok()?;
        Some(run.samples[at].offset)
    }

    /// Where to look for the first record whose position is above `after`, at or after `from`.
    pub fn locate_position(&self, after: Position, from: Index) -> Option<Place> {
        let from = match self
            .runs
            .iter()
            .find(|r| r.last >= from && r.last_position > after)
        {
            // From the last sample that is not above, for the records behind it may be.
            Some(run) => {
                let next = run.samples.partition_point(|s| s.position <= after);
                from.max(run.samples[next.max(1) - 1].index)
            }
            None => from.max(self.tail.front()?.record.index),
        };
        match self.locate(from, Index(u64::MAX))? {
            Place::Tail(at) => {
                let at = at.max(self.tail.partition_point(|held| held.position <= after));
                (at < self.tail.len()).then_some(Place::Tail(at))
            }
            run => Some(run),
        }
    }
}

impl Held {
    /// What it costs in memory.
    pub fn bytes(&self) -> usize {
        self.record.payload.len() + size_of::<Held>()
    }
}

/// The log of a group that nothing is known of.
pub(crate) fn unknown() -> GroupState {
    Group::default().state()
}

/// Names a group's record in the queue of evictions.
#[derive(Clone, Copy)]
pub(crate) struct Evictable {
    pub group: GroupId,
    pub seq: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten million entries of 100 bytes must cost well under 200 MB of index.
    #[test]
    fn the_index_is_sparse() {
        let mut group = Group::default();
        let per_segment = (64 << 20) / 152;
        for index in 0..1_000_000_u64 {
            let (segment, offset) = (index / per_segment, index % per_segment * 152);
            let position = group.push(Term(1), Index(index), Position(index));
            group.written(segment, offset, Term(1), Index(index), position);
        }
        let samples: usize = group.runs.iter().map(|run| run.samples.capacity()).sum();
        let bytes = samples * size_of::<Sample>() + group.runs.len() * size_of::<Run>();
        assert!(bytes < 1 << 20, "{bytes} bytes for a million entries");
    }
}
