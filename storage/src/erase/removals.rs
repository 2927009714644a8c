//! What a copy of a group has not erased yet, in short: when the removals in its ledger were made. They
//! are counted once, from the ledger, and noted from then on as they are applied.

use journal::Position;
use parking_lot::Mutex;

use super::{is_at_once, read};
use crate::group::TreeWrite;
use crate::{Group, Result, system};

/// Removals of so many microseconds are one span.
const SPAN_MICROS: u64 = 10_000_000;
/// Beyond so many spans neighbours become one.
const SPANS_MAX: usize = 256;

/// The removals that this copy has not erased yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removals {
    /// The first of them.
    pub oldest: Option<Position>,
    /// The last of them; of none the last that was erased.
    pub newest: Position,
    /// The first that is to be erased at once.
    pub at_once: Option<Position>,
}

/// From the first removal to the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: Position,
    last: Position,
}

impl Range {
    fn at(at: Position) -> Range {
        Range {
            first: at,
            last: at,
        }
    }

    fn with(self, other: Range) -> Range {
        Range {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }

    /// What lies above a position.
    fn above(self, upto: Position) -> Option<Range> {
        let first = self.first.max(Position(upto.0.saturating_add(1)));
        (first <= self.last).then_some(Range { first, ..self })
    }
}

fn both(one: Option<Range>, other: Option<Range>) -> Option<Range> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.with(other)),
        (one, other) => one.or(other),
    }
}

/// Removals of a short time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    all: Range,
    /// Those that are to be erased at once.
    at_once: Option<Range>,
}

impl Span {
    fn with(self, other: Span) -> Span {
        Span {
            all: self.all.with(other.all),
            at_once: both(self.at_once, other.at_once),
        }
    }
}

/// Removals by their time, ascending.
#[derive(Clone, Debug, Default)]
struct Spans(Vec<Span>);

impl Spans {
    fn note(&mut self, span: Span) {
        let Spans(spans) = self;
        let first = span.all.first;
        let next = spans.partition_point(|known| known.all.first <= first);
        let near =
            |known: &&mut Span| first.unix_micros() - known.all.first.unix_micros() <= SPAN_MICROS;
        match spans[..next].last_mut().filter(near) {
            Some(known) => *known = known.with(span),
            None => spans.insert(next, span),
        }
        if spans.len() > SPANS_MAX {
            let pairs = spans.chunks(2);
            *spans = pairs
                .map(|pair| {
                    pair[1..]
                        .iter()
                        .fold(pair[0], |one, other| one.with(*other))
                })
                .collect();
        }
    }

    /// All up to a position are erased.
    fn erased(&mut self, upto: Position) {
        let above = |span: &Span| {
            Some(Span {
                all: span.all.above(upto)?,
                at_once: span.at_once.and_then(|range| range.above(upto)),
            })
        };
        self.0 = self.0.iter().filter_map(above).collect();
    }

    fn removals(&self, done: Position) -> Removals {
        let at_once = self.0.iter().filter_map(|span| span.at_once);
        Removals {
            oldest: self.0.first().map(|span| span.all.first),
            newest: self.0.last().map_or(done, |span| span.all.last.max(done)),
            at_once: at_once.map(|range| range.first).min(),
        }
    }
}

/// What a group knows of its removals beside the ledger.
#[derive(Default)]
pub(crate) struct Erasing {
    /// This copy has erased what was removed up to here.
    pub(super) done: Position,
    /// What was removed since; of what is `counted`, and what has come after.
    since: Spans,
    /// The ledger was read as of here. It has only the last removal of each row, so that of what was
    /// removed up to there the first is not known.
    counted: Option<Position>,
    /// The ledger is being read, and `since` holds what has come meanwhile.
    counting: bool,
    /// What the parts of an entry have removed that is not applied yet, and where it will be.
    parts: Option<(Position, Span)>,
    /// How often all of the group was replaced.
    state: u64,
}

/// Held by who reads the ledger.
pub(crate) type Counting = Mutex<()>;

impl Group {
    /// The removals that this copy has not erased yet. `None` while the replay goes on. Reads the
    /// ledger the first time.
    ///
    /// # Errors
    /// The table store can't be read.
    pub fn removals(&self) -> Result<Option<Removals>> {
        if !self.ready() || self.has_ended() {
            return Ok(None);
        }
        if let Some(known) = self.known_removals() {
            return Ok(Some(known));
        }
        let _one = self.counting.lock();
        match self.known_removals() {
            Some(known) => Ok(Some(known)),
            None => self.count_removals(),
        }
    }

    fn known_removals(&self) -> Option<Removals> {
        let erasing = self.erasing.lock();
        erasing.counted?;
        Some(erasing.since.removals(erasing.done))
    }

    /// Reads the ledger while apply goes on. `None`: all of it was replaced meanwhile.
    fn count_removals(&self) -> Result<Option<Removals>> {
        let at = {
            let state = self.lock_log();
            let mut erasing = self.erasing.lock();
            erasing.counting = true;
            erasing.since = Spans::default();
            state.applied.position
        };
        let everywhere = self.erased_everywhere_at(at)?;
        let mut counted = Spans::default();
        for row in self.ledger_rows(None, at)? {
            let (key, value) = row?;
            if let Some((_, _, removed, at_once)) = read(&key, &value) {
                counted.note(span(removed, at_once));
            }
        }
        let mut erasing = self.erasing.lock();
        if !std::mem::take(&mut erasing.counting) {
            return Ok(None);
        }
        for meanwhile in std::mem::take(&mut erasing.since).0 {
            counted.note(meanwhile);
        }
        erasing.done = erasing.done.max(everywhere);
        counted.erased(erasing.done);
        let removals = counted.removals(erasing.done);
        (erasing.since, erasing.counted) = (counted, Some(at));
        Ok(Some(removals))
    }

    /// This copy has erased what was removed up to here.
    pub fn erased(&self) -> Position {
        self.erasing.lock().done
    }

    /// The same, and of which state of the group that is true: it may be replaced as a whole.
    pub fn erased_of_state(&self) -> (Position, u64) {
        let erasing = self.erasing.lock();
        (erasing.done, erasing.state)
    }

    /// How far it has erased, or further, if it has nothing of what was removed since. `None`: it is a
    /// follower's copy that holds no rows, or not yet.
    pub fn nothing_left(&self) -> Option<Position> {
        if self.chosen().is_some_and(|chosen| !chosen.leaves_bytes()) {
            return None;
        }
        // What is applied later is noted before it is shown.
        let applied = self.applied_log().0.position;
        let ready = self.ready() && !self.has_ended();
        let erasing = self.erasing.lock();
        // The eraser counts it.
        if !ready || erasing.counted.is_none() {
            return Some(erasing.done);
        }
        let removals = erasing.since.removals(erasing.done);
        let below = |oldest: Position| Position(oldest.0.saturating_sub(1));
        let far = match removals.oldest {
            None => applied,
            Some(oldest) if erasing.counted <= Some(erasing.done) => below(oldest).min(applied),
            Some(_) => erasing.done,
        };
        Some(far.max(erasing.done))
    }

    /// Notes that it has, unless the state that was looked at was replaced.
    pub fn note_erased(&self, upto: Position, state: u64) {
        let mut erasing = self.erasing.lock();
        if erasing.state != state {
            return;
        }
        erasing.done = erasing.done.max(upto);
        erasing.since.erased(upto);
    }

    /// Notes what an entry has removed, beside the ledger, and its parts.
    pub(crate) fn note_ledger(&self, writes: &[TreeWrite], position: Position) {
        let own = removed(writes, position);
        let mut erasing = self.erasing.lock();
        let parts = erasing.parts.take().filter(|(at, _)| *at == position);
        let all = own.into_iter().chain(parts.map(|(_, span)| span));
        if erasing.counting || erasing.counted.is_some() {
            all.for_each(|span| erasing.since.note(span));
        }
    }

    /// Notes what a part removes of an entry that is to come.
    pub(crate) fn note_parts(&self, writes: &[TreeWrite], position: Position) {
        let Some(span) = removed(writes, position) else {
            return;
        };
        let mut erasing = self.erasing.lock();
        let before = erasing.parts.filter(|(at, _)| *at == position);
        let all = before.map_or(span, |(_, before)| before.with(span));
        erasing.parts = Some((position, all));
    }

    /// All was replaced: what is removed has to be read again.
    pub(crate) fn forget_removals(&self) {
        let mut erasing = self.erasing.lock();
        *erasing = Erasing {
            state: erasing.state + 1,
            ..Erasing::default()
        };
    }
}

fn span(at: Position, at_once: bool) -> Span {
    Span {
        all: Range::at(at),
        at_once: at_once.then(|| Range::at(at)),
    }
}

/// The removals among the writes of apply.
fn removed(writes: &[TreeWrite], position: Position) -> Option<Span> {
    let rows = writes.iter().filter(|w| w.tree == system::LEDGER);
    rows.map(|write| span(position, is_at_once(&write.key)))
        .reduce(Span::with)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Position {
        Position::from_unix_micros(1_767_225_600_000_000 + seconds * 1_000_000)
    }

    fn known(spans: &Spans) -> (Option<Position>, Position, Option<Position>) {
        let removals = spans.removals(Position(7));
        (removals.oldest, removals.newest, removals.at_once)
    }

    #[test]
    fn the_first_one_is_known_in_whatever_order_they_come() {
        let mut spans = Spans::default();
        assert_eq!(known(&spans), (None, Position(7), None));
        for (seconds, at_once) in [(500, false), (100, false), (300, true), (301, true)] {
            spans.note(span(at(seconds), at_once));
        }
        assert_eq!(known(&spans), (Some(at(100)), at(500), Some(at(300))));
        // Of those that are to be erased at once the first counts: later ones must not put it off.
        spans.note(span(at(600), true));
        assert_eq!(known(&spans), (Some(at(100)), at(600), Some(at(300))));
        spans.erased(at(200));
        assert_eq!(known(&spans), (Some(at(300)), at(600), Some(at(300))));
        spans.erased(at(301));
        assert_eq!(known(&spans), (Some(at(500)), at(600), Some(at(600))));
        spans.erased(at(600));
        assert_eq!(known(&spans), (None, Position(7), None));
    }

    #[test]
    fn spans_are_bounded_and_lose_no_end() {
        let mut spans = Spans::default();
        for second in 0..100_000 {
            spans.note(span(at(second), second == 50_000));
        }
        assert!(spans.0.len() <= SPANS_MAX);
        assert_eq!(known(&spans), (Some(at(0)), at(99_999), Some(at(50_000))));
        spans.erased(at(50_001));
        let (oldest, newest, at_once) = known(&spans);
        assert!(oldest.is_some_and(|oldest| oldest > at(50_001) && oldest <= at(51_000)));
        assert_eq!((newest, at_once), (at(99_999), None));
    }
}
