//! How far the groups of a page are closed. Idle ones are closed on demand, by an entry of their
//! leader's, and waited for a moment.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use feed::Feed;
use parking_lot::Mutex;
use sql::Error;
use sql::changes::{Asked, Closed, Interrupt};
use storage::{Group, GroupId, Groups, Position};
use tokio::task::block_in_place;

use super::{CLOSE_WITHIN, INTERRUPT_EVERY, LOOK_EVERY, WATCHED_CLOSE_EVERY, WATCHED_WITHIN};

/// What the readers of a node know of groups that don't get closed.
pub struct Closing {
    feed: Feed,
    groups: Arc<Groups>,
    behind: Mutex<BTreeMap<GroupId, Behind>>,
    /// When groups that are not read were asked to be closed last.
    asked: Mutex<BTreeMap<GroupId, Instant>>,
}

/// A group that is to be closed.
struct Behind {
    target: Position,
    since: Instant,
}

/// Groups at one moment.
struct Look {
    closed: Closed,
    /// Those that are not there yet, and whether they are read.
    behind: Vec<(Arc<Group>, bool)>,
    /// Those of them that may be closed soon, up to the target.
    awaited: Vec<Arc<Group>>,
    target: Position,
    /// Some are not here yet, and may be soon.
    missing: bool,
}

impl Closing {
    /// Nothing is known yet.
    pub fn new(feed: Feed, groups: Arc<Groups>) -> Closing {
        Closing {
            feed,
            groups,
            behind: Mutex::default(),
            asked: Mutex::default(),
        }
    }

    /// How far these are closed: as far as one that is read has something above `after`, if that
    /// can be had in time.
    ///
    /// # Errors
    /// The interrupt's.
    pub fn closed(
        &self,
        asked: &Asked,
        after: Option<Position>,
        interrupt: &Interrupt,
    ) -> Result<Closed, Error> {
        let begun = Instant::now();
        loop {
            let look = self.look(asked, after.unwrap_or_default());
            // Also those that nobody waits for any more: an idle group that could not be closed for
            // a while is so again only when it is asked.
            for (group, read) in &look.behind {
                if self.asks(group, *read) {
                    group.close_wanted();
                }
            }
            let over = look.awaited.is_empty() || begun.elapsed() >= CLOSE_WITHIN;
            // What is missing is so for no longer than that is known.
            if over && !look.missing {
                return Ok(look.closed);
            }
            block_in_place(|| self.wait(&look));
            interrupt()?;
        }
    }

    fn look(&self, asked: &Asked, after: Position) -> Look {
        let newest = self.feed.newest();
        let alive = |group: &Arc<Group>| !group.has_ended();
        let held = |id: &GroupId| (*id, self.groups.get(*id).filter(alive));
        let read: Vec<_> = asked.read.iter().map(held).collect();
        let content = read
            .iter()
            .filter_map(|(_, held)| Some(held.as_ref()?.content()));
        // Where there is nothing new, nothing need be closed for it.
        let target = content.max().filter(|content| *content > after);
        let target = target.unwrap_or_default();
        let mut look = Look {
            closed: Closed {
                upto: Position::MAX,
                ..Closed::default()
            },
            behind: Vec::new(),
            awaited: Vec::new(),
            target,
            missing: false,
        };
        let mut away = false;
        let mut states = Vec::new();
        for (id, held) in read {
            let at = self.closed_at(held.as_ref(), newest);
            let late = self.late(id, at, target, held.is_some());
            away |= late.is_some_and(|late| late >= within(held.as_ref()));
            look.await_one(held, late, true);
            look.closed.upto = look.closed.upto.min(at);
            states.push((id, at));
        }
        for (id, held) in asked.wanted.iter().map(held) {
            let at = self.closed_at(held.as_ref(), newest);
            let late = self.late(id, at, target, held.is_some());
            away |= late.is_some_and(|late| late >= within(held.as_ref()));
            look.await_one(held, late, false);
            look.closed.upto = look.closed.upto.min(at);
        }
        for (id, held) in asked.watched.iter().map(held) {
            let at = self.closed_at(held.as_ref(), newest);
            let late = self.late(id, at, target, held.is_some());
            let left_out = late.is_some_and(|late| late >= WATCHED_WITHIN);
            look.await_one(held, late, false);
            if left_out {
                look.closed.left_out.push(id);
                continue;
            }
            look.closed.upto = look.closed.upto.min(at);
        }
        if away {
            look.closed.held_up = states;
        }
        look
    }

    /// How far a group is closed. Of what is not here nothing is known.
    fn closed_at(&self, held: Option<&Arc<Group>>, newest: Position) -> Position {
        held.map_or(Position::ZERO, |group| self.feed.closed(group, newest))
    }

    /// Is a group to be asked now to be closed? One that is read always is, and asks its leader
    /// when it was not asked just before.
    fn asks(&self, group: &Group, read: bool) -> bool {
        if read {
            return true;
        }
        let (mut asked, now) = (self.asked.lock(), Instant::now());
        let last = asked.get(&group.id());
        let due = last.is_none_or(|last| now.duration_since(*last) >= WATCHED_CLOSE_EVERY);
        if due {
            asked.insert(group.id(), now);
        }
        due
    }

    /// Waits for the first that is closed of what is awaited, or a moment.
    fn wait(&self, look: &Look) {
        let (told, tell) = mpsc::channel();
        let mut waiters = Vec::new();
        for group in &look.awaited {
            let told = told.clone();
            // Nobody hears it if another one was quicker.
            let done = move |_| told.send(()).unwrap_or_default();
            if let Some(waiter) = group.when(look.target, Box::new(done)) {
                waiters.push((group, waiter));
            }
        }
        if look.missing {
            std::thread::sleep(LOOK_EVERY);
        } else if waiters.len() == look.awaited.len() {
            // An error is a time that is over: it is looked again either way.
            let _ = tell.recv_timeout(INTERRUPT_EVERY);
        } else {
            // One is applied, and on its way to the disk.
            std::thread::sleep(LOOK_EVERY / 5);
        }
        for (group, waiter) in waiters {
            group.forget(waiter);
        }
    }

    /// How long a group has not got to where it is to be closed, or is not here; `None`: it is
    /// there. Readers share it, whatever each of them needs.
    fn late(&self, id: GroupId, at: Position, target: Position, here: bool) -> Option<Duration> {
        let mut behind = self.behind.lock();
        let known = behind.get(&id).map(|known| known.target);
        if known.is_some_and(|known| here && at >= known) {
            behind.remove(&id);
        }
        if here && at >= target {
            return None;
        }
        let now = || Behind {
            target,
            since: Instant::now(),
        };
        let known = behind.entry(id).or_insert_with(now);
        Some(known.since.elapsed())
    }
}

impl Look {
    /// Of a group that is as late as that.
    fn await_one(&mut self, held: Option<Arc<Group>>, late: Option<Duration>, read: bool) {
        let Some(late) = late else { return };
        let soon = late < within(held.as_ref());
        self.missing |= soon && held.is_none();
        self.awaited.extend(held.clone().filter(|_| soon));
        self.behind.extend(held.map(|group| (group, read)));
    }
}

/// So long a page waits for a group: one that is not here may just have been made.
fn within(held: Option<&Arc<Group>>) -> Duration {
    match held {
        Some(_) => CLOSE_WITHIN,
        None => WATCHED_WITHIN,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use journal::{Journal, MemoryDisk};
    use storage::{Change, Changes, Commit, Local, ManualClock, MemoryStore, Meta};

    use super::*;

    const GROUP: GroupId = GroupId(7);

    fn closing() -> Closing {
        closing_of(&Local::new(
            MemoryStore::new(),
            Arc::new(ManualClock::new(1)),
        ))
    }

    fn closing_of(local: &Local) -> Closing {
        let disk = Arc::new(MemoryDisk::new());
        let journal = Journal::open(disk, "/journal".as_ref(), journal::Options::default());
        let groups = local.groups().clone();
        let feed = Feed::new(journal.expect("opened"), groups.clone());
        Closing::new(feed, groups)
    }

    /// As if all that is behind had been so for as long as a group that is watched may be.
    fn grow_old(closing: &Closing) {
        for behind in closing.behind.lock().values_mut() {
            let since = behind.since.checked_sub(WATCHED_WITHIN);
            behind.since = since.expect("the machine runs for longer");
        }
    }

    #[test]
    fn who_needs_less_leaves_the_time_of_who_waits() {
        let closing = closing();
        let late = |at, target| closing.late(GROUP, Position(at), Position(target), true);
        assert!(late(5, 10).is_some());
        grow_old(&closing);
        assert_eq!(late(5, 0), None);
        assert!(late(5, 10).is_some_and(|late| late >= WATCHED_WITHIN));
        // Once it is there, the next one waits from the beginning.
        assert_eq!(late(10, 10), None);
        assert!(late(10, 20).is_some_and(|late| late < WATCHED_WITHIN));
    }

    #[test]
    fn a_group_that_has_not_come_yet_holds_the_page_up() {
        let closing = closing();
        let watched = Asked {
            watched: vec![GROUP],
            ..Asked::default()
        };
        let look = closing.look(&watched, Position(100));
        assert!(look.missing);
        assert_eq!(look.closed.upto, Position::ZERO);
        grow_old(&closing);
        let look = closing.look(&watched, Position(100));
        assert!(!look.missing);
        assert_eq!(look.closed.upto, Position::MAX);
        assert_eq!(look.closed.left_out, [GROUP]);
        // One that is read is not left out.
        let read = Asked {
            read: vec![GROUP],
            ..Asked::default()
        };
        let look = closing.look(&read, Position(100));
        assert!(!look.missing);
        assert_eq!(look.closed.held_up, [(GROUP, Position::ZERO)]);
        assert_eq!(look.closed.upto, Position::ZERO);
    }

    #[test]
    fn one_that_is_known_to_be_asked_for_is_never_passed_over() {
        let closing = closing();
        let wanted = Asked {
            wanted: vec![GROUP],
            ..Asked::default()
        };
        assert!(closing.look(&wanted, Position(100)).missing);
        grow_old(&closing);
        let look = closing.look(&wanted, Position(100));
        assert!(!look.missing);
        assert_eq!(look.closed.upto, Position::ZERO);
        assert_eq!(look.closed.left_out, []);
    }

    #[test]
    fn who_is_not_read_is_asked_now_and_then() {
        let local = Local::new(MemoryStore::new(), Arc::new(ManualClock::new(1)));
        let closing = closing_of(&local);
        let group = local.lead(GROUP).expect("made");
        assert!(closing.asks(&group, false));
        assert!(!closing.asks(&group, false), "whoever reads");
        assert!(closing.asks(&group, true));
        let before = closing.asked.lock().values().copied().next();
        let before = before.and_then(|last| last.checked_sub(WATCHED_CLOSE_EVERY));
        let before = before.expect("the machine runs for longer");
        closing.asked.lock().insert(GROUP, before);
        assert!(closing.asks(&group, false));
    }

    /// An entry with one change.
    fn write(group: &Group) {
        let change = Change {
            key: bytes::Bytes::from_static(b"k"),
            ..Change::default()
        };
        let commit = Commit {
            txid: group.begin(),
            base: group.newest().expect("read"),
            epoch: group.term().expect("led"),
            meta: Meta::default(),
            changes: Changes::Small(vec![change]),
            events: Vec::new(),
            dropped_trees: Vec::new(),
            deps: Vec::new(),
            checks: Vec::new(),
            record_outcome: false,
            keeps_locks: false,
        };
        group.commit(commit).expect("placed");
    }

    /// An idle group whose leader was away for a while stood still for good: nobody asked any more.
    #[test]
    fn who_is_late_is_asked_again() {
        let clock = Arc::new(ManualClock::new(1_700_000_000_000_000));
        let local = Local::new(MemoryStore::new(), clock.clone());
        let closing = closing_of(&local);
        let written = GroupId(8);
        write(&local.lead(written).expect("made"));
        let told = Arc::new(AtomicUsize::new(0));
        let tell = told.clone();
        let ask_close = move || {
            tell.fetch_add(1, Ordering::Relaxed);
        };
        let followed = local.groups().follow(GROUP, Box::new(ask_close));
        followed.expect("followed");
        let interrupt: Interrupt = Arc::new(|| Ok(()));
        let read = Asked {
            read: vec![GROUP, written],
            ..Asked::default()
        };
        let watched = Asked {
            read: vec![written],
            watched: vec![GROUP],
            ..Asked::default()
        };
        for asked in [read, watched] {
            closing.look(&asked, Position::ZERO);
            grow_old(&closing);
            closing.asked.lock().clear();
            clock.advance(1_000_000);
            let before = told.load(Ordering::Relaxed);
            let closed = closing.closed(&asked, None, &interrupt);
            closed.expect("nobody interrupts");
            assert!(told.load(Ordering::Relaxed) > before);
        }
    }

    #[test]
    fn a_group_that_has_ended_is_not_here() {
        let local = Local::new(MemoryStore::new(), Arc::new(ManualClock::new(1)));
        let closing = closing_of(&local);
        let group = local.lead(GROUP).expect("made");
        let read = Asked {
            read: vec![GROUP],
            ..Asked::default()
        };
        assert!(!closing.look(&read, Position::ZERO).missing);
        group.end();
        assert!(closing.look(&read, Position::ZERO).missing);
    }
}
