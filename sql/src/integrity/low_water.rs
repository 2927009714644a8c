//! Where the rows of a queue begin. Asks, answers and intents come and go as in a queue, in the order of
//! their intents' numbers, which grow with time; what a look would pass first are the rows that are gone,
//! for the store forgets them only after a while. So a look begins a little before the first row that the
//! last one found, and now and then one goes through all: what was missed waits for that.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use storage::{GroupId, Position, TxId};

/// From one look at all of a queue to the next one, in microseconds.
const WHOLE_EVERY: u64 = 1_000_000;
/// Intents of one leader may get their places in another order than their numbers within this time, in
/// microseconds.
const DISORDER_MAX: u64 = 100_000;

/// A queue of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Queue {
    /// What the other group asks, as this one sees it.
    Asks(GroupId),
    /// What was said to the other group.
    Answers(GroupId),
    /// The group's own intents.
    Intents,
}

/// The low-water marks of all queues of this node. None is right to the last row: who must not miss one
/// does not ask here.
#[derive(Default)]
pub(super) struct LowWater(Mutex<BTreeMap<(GroupId, Queue), Mark>>);

#[derive(Clone, Copy)]
struct Mark {
    /// Nothing that was seen lies below.
    from: TxId,
    /// When all was looked at, in microseconds since 1970.
    whole: u64,
}

/// A look at a queue that is under way.
pub(super) struct Look {
    /// Where it begins.
    pub from: TxId,
    whole: Option<u64>,
}

impl LowWater {
    /// A look at a queue begins.
    pub fn begin(&self, home: GroupId, queue: Queue, now: u64) -> Look {
        let mark = self.0.lock().get(&(home, queue)).copied();
        // A clock may have gone back.
        let recent = |mark: &Mark| now.abs_diff(mark.whole) < WHOLE_EVERY;
        match mark.filter(recent) {
            Some(mark) => Look {
                from: mark.from,
                whole: None,
            },
            None => Look {
                from: TxId(0),
                whole: Some(now),
            },
        }
    }

    /// It has found these.
    pub fn end(
        &self,
        home: GroupId,
        queue: Queue,
        look: Look,
        found: impl IntoIterator<Item = TxId>,
    ) {
        let ends = found.into_iter().fold(None, |ends, id| match ends {
            Some((first, last)) => Some((id.min(first), id.max(last))),
            None => Some((id, id)),
        });
        let mut marks = self.0.lock();
        let mark = marks.entry((home, queue)).or_insert(Mark {
            from: TxId(0),
            whole: 0,
        });
        if let Some(now) = look.whole {
            mark.whole = now;
        }
        if let Some((first, last)) = ends {
            let before = Position(last.0).unix_micros().saturating_sub(DISORDER_MAX);
            mark.from = first.min(TxId(Position::from_unix_micros(before).0));
        }
    }

    /// Another leader goes on; this node may be it again.
    pub fn forget(&self, home: GroupId) {
        self.0.lock().retain(|(of, _), _| *of != home);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: GroupId = GroupId(1);
    const QUEUE: Queue = Queue::Intents;

    fn at(micros: u64) -> TxId {
        TxId(Position::from_unix_micros(micros).0)
    }

    #[test]
    fn a_look_begins_before_what_was_found_and_at_the_beginning_now_and_then() {
        let marks = LowWater::default();
        let look = |now| marks.begin(HOME, QUEUE, now);
        let start = 1_790_000_000_000_000;
        let first = look(start);
        assert_eq!(first.from, TxId(0));
        marks.end(HOME, QUEUE, first, [at(start - 500), at(start)]);
        let second = look(start + 1);
        assert_eq!(second.from, at(start - DISORDER_MAX));
        marks.end(HOME, QUEUE, second, []);
        // What still waits is not passed, however new the others are.
        let third = look(start + 2);
        assert_eq!(third.from, at(start - DISORDER_MAX));
        let old = at(start - 900_000);
        marks.end(HOME, QUEUE, third, [old, at(start + 900_000)]);
        assert_eq!(look(start + 3).from, old);
        assert_eq!(
            marks.begin(HOME, Queue::Asks(HOME), start + 3).from,
            TxId(0)
        );
        // All is looked at when its time has come, and where a clock goes back by more.
        assert_eq!(look(start + WHOLE_EVERY).from, TxId(0));
        assert_eq!(look(start - WHOLE_EVERY).from, TxId(0));
        marks.forget(HOME);
        assert_eq!(look(start + 3).from, TxId(0));
    }

    #[test]
    fn a_leader_whose_numbers_are_lower_is_heard_from_the_next_whole_look_on() {
        let marks = LowWater::default();
        let start = 1_790_000_000_000_000;
        let look = marks.begin(HOME, QUEUE, start);
        marks.end(HOME, QUEUE, look, [at(start)]);
        let whole = marks.begin(HOME, QUEUE, start + WHOLE_EVERY);
        let lower = at(start - 10 * WHOLE_EVERY);
        marks.end(HOME, QUEUE, whole, [lower]);
        let next = marks.begin(HOME, QUEUE, start + WHOLE_EVERY + 1);
        assert!(next.from < lower);
    }
}
