//! The feed over a real journal: units, order, what is closed, what is retained.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod running;

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use feed::{Error, FeedEntry, Units};
use journal::{GroupId, Index, Kind, Payload, Position, Record, Term};
use storage::{
    Change, Changes, Clock, Commit, EntryBuilder, Group, Header, LargeChanges, Meta, Outcome, TxId,
};

use self::running::{NOW, Running};

const TREE: u32 = 1000;

impl Running {
    /// How far all groups are closed.
    fn closed(&self) -> Position {
        let newest = self.feed.newest();
        let all = self.node.groups().all();
        let closed = all.iter().map(|group| self.feed.closed(group, newest));
        closed.min().unwrap()
    }

    fn read(&self, groups: &[u32], after: Option<Position>) -> Result<Units, Error> {
        let closed = self.closed();
        let ids: Vec<GroupId> = groups.iter().map(|id| GroupId(*id)).collect();
        let behind = self.feed.behind(&ids, Position::ZERO).unwrap();
        let oldest = behind.iter().map(|(_, oldest)| *oldest).max();
        let after = after.or(oldest).unwrap_or_default();
        self.feed.read(&ids, after, closed)
    }

    /// The entries of these groups as `(position, group, changes)`, by unit.
    fn units(&self, groups: &[u32], after: Option<Position>) -> Vec<Vec<(Position, u32, usize)>> {
        let mut units = self.read(groups, after).unwrap();
        let mut out = Vec::new();
        while let Some(unit) = units.next().unwrap() {
            let shown = |entry: FeedEntry| {
                assert_eq!(entry.entry().header.position, unit.position);
                (unit.position, entry.group().0, count(entry))
            };
            out.push(unit.entries.into_iter().map(shown).collect());
        }
        out
    }
}

/// Changes of an entry, whose `seq` must ascend.
fn count(entry: FeedEntry) -> usize {
    let mut changes = entry.into_changes().unwrap();
    let (mut count, mut last) = (0, None);
    while let Some(change) = changes.next().unwrap() {
        assert!(last < Some(change.seq), "{last:?} {}", change.seq);
        last = Some(change.seq);
        count += 1;
    }
    count
}

/// Writes so many rows of so many bytes in one transaction.
fn write(group: &Group, rows: u32, bytes: usize) -> Position {
    let change = |seq: u32| Change {
        seq,
        tree: TREE,
        feed: true,
        key: Bytes::copy_from_slice(&seq.to_be_bytes()),
        new: Some(Bytes::from(vec![7; bytes])),
        ..Change::default()
    };
    place(group, Changes::Small((0..rows).map(change).collect()))
}

/// Commits these and waits for the outcome.
fn place(group: &Group, changes: Changes) -> Position {
    let position = group
        .commit(Commit {
            txid: group.begin(),
            base: group.newest().unwrap(),
            epoch: group.term().unwrap(),
            meta: Meta::default(),
            changes,
            events: Vec::new(),
            dropped_trees: Vec::new(),
            deps: Vec::new(),
            checks: Vec::new(),
            record_outcome: false,
            keeps_locks: false,
        })
        .unwrap();
    let (done, told) = channel();
    group.when(
        position,
        Box::new(move |outcome| done.send(outcome).unwrap()),
    );
    let outcome = told.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(outcome, Outcome::Applied);
    position
}

#[test]
fn entries_at_one_position_are_one_unit() {
    let node = Running::start();
    let (a, b) = (node.make(1), node.make(2));
    // Beyond what either group has used, and the same for both.
    node.clock.advance(1_000_000);
    let shared = write(&a, 3, 10);
    assert_eq!(write(&b, 2, 10), shared);
    node.clock.advance(1_000_000);
    let later = write(&b, 1, 10);
    let both = vec![(shared, 1, 3), (shared, 2, 2)];
    // By group, whatever order is asked for.
    for groups in [[1, 2], [2, 1]] {
        let units = node.units(&groups, None);
        assert_eq!(units, [both.clone(), vec![(later, 2, 1)]]);
    }
    assert_eq!(node.units(&[1, 2], Some(shared)), [vec![(later, 2, 1)]]);
    let before = Position(shared.0 - 1);
    assert_eq!(node.units(&[1, 2], Some(before)).len(), 2);
}

#[test]
fn an_idle_group_is_closed_and_holds_nobody_up() {
    let node = Running::start();
    let (busy, idle) = (node.make(1), node.make(2));
    node.clock.advance(1_000);
    let first = write(&busy, 1, 10);
    let records = node.journal.stats().records;
    assert_eq!(node.units(&[1, 2], None), [vec![(first, 1, 1)]]);
    let units = node.read(&[1, 2], None).unwrap();
    assert_eq!(units.closed(), first);
    assert_eq!(node.journal.stats().records, records, "by no entry");
    // The promise holds though the clock stands: what comes lies above.
    assert!(write(&idle, 1, 10) > first);
}

#[test]
fn a_new_group_begins_above_what_readers_have_passed() {
    let node = Running::start();
    let first = write(&node.make(1), 1, 10);
    let closed = node.closed();
    assert_eq!(closed, first);
    // The clock steps back before somebody's first table makes a group.
    node.clock.set(NOW - 60_000_000);
    assert!(write(&node.make(2), 1, 10) > closed);
}

#[test]
fn who_asks_beyond_the_end_moves_no_clock() {
    let node = Running::start();
    let group = node.make(1);
    let first = write(&group, 1, 10);
    assert!(node.units(&[1], Some(Position::MAX)).is_empty());
    assert!(node.units(&[1], Some(Position(u64::MAX))).is_empty());
    node.clock.advance(1_000);
    let next = write(&group, 1, 10);
    assert!(first < next && next <= Position::from_unix_micros(node.clock.unix_micros()));
}

#[test]
fn what_comes_while_one_reads_is_for_the_next() {
    let node = Running::start();
    let (a, b) = (node.make(1), node.make(2));
    node.clock.advance(1_000);
    let first = write(&a, 1, 10);
    let mut units = node.read(&[1, 2], None).unwrap();
    assert_eq!(units.closed(), first);
    node.clock.advance(1_000);
    let second = write(&b, 1, 10);
    assert_eq!(units.next().unwrap().unwrap().position, first);
    assert!(units.next().unwrap().is_none());
    assert_eq!(node.units(&[1, 2], Some(first)), [vec![(second, 2, 1)]]);
}

#[test]
fn a_large_transaction_is_one_entry_among_others() {
    const ROWS: u32 = 5_000;
    let node = Running::start();
    let (a, b) = (node.make(1), node.make(2));
    let mut expected = Vec::new();
    for rows in [1, ROWS, 2] {
        node.clock.advance(1_000);
        let of_a = write(&a, rows, 1_000);
        node.clock.advance(1_000);
        let of_b = write(&b, 1, 10);
        expected.extend([vec![(of_a, 1, rows as usize)], vec![(of_b, 2, 1)]]);
    }
    assert_eq!(node.units(&[1, 2], None), expected);
}

#[test]
fn a_cursor_behind_retention_is_told() {
    let node = Running::start();
    let group = node.make(1);
    let mut written = Vec::new();
    for _ in 0..40 {
        node.clock.advance(1_000);
        written.push(write(&group, 1, 256 << 10));
    }
    // Nothing is missing before anything has left.
    assert_eq!(node.units(&[1], Some(Position::ZERO)).len(), 40);
    node.clock.advance(1_000);
    node.cut(&group);
    written.push(write(&group, 1, 10));
    let read = node.read(&[1], Some(written[0])).map(|_| ());
    let Err(Error::Behind { group: id, oldest }) = read else {
        panic!("a cursor behind retention went on: {read:?}");
    };
    assert_eq!(id, GroupId(1));
    assert!(oldest > written[0]);
    // From the oldest on nothing is missing; who has no cursor begins there.
    let left: Vec<Position> = written.iter().copied().filter(|p| *p > oldest).collect();
    for after in [Some(oldest), None] {
        let units = node.units(&[1], after);
        let given: Vec<Position> = units.iter().map(|unit| unit[0].0).collect();
        assert_eq!(given, left, "after {after:?}");
    }
}

/// Rows of 16 KiB; other entries of the group come between the parts.
struct Mixed {
    group: Arc<Group>,
    seq: u32,
    between: Arc<Mutex<Vec<Position>>>,
}

impl LargeChanges for Mixed {
    fn next(&mut self) -> storage::Result<Option<Change>> {
        if self.seq % 100 == 99 {
            self.between.lock().unwrap().push(write(&self.group, 1, 10));
        }
        self.seq += 1;
        Ok((self.seq < 500).then(|| Change {
            seq: self.seq,
            tree: TREE + 1,
            feed: true,
            key: Bytes::copy_from_slice(&self.seq.to_be_bytes()),
            new: Some(Bytes::from(vec![7; 16 << 10])),
            ..Change::default()
        }))
    }

    fn trees(&self) -> Vec<u32> {
        vec![TREE + 1]
    }
}

/// A large entry with others between its parts. Returns their positions and its own.
fn write_mixed(group: &Arc<Group>) -> (Vec<Position>, Position) {
    let between = Arc::default();
    let mixed = Mixed {
        group: group.clone(),
        seq: 0,
        between: Arc::clone(&between),
    };
    let position = place(group, Changes::Large(Box::new(mixed)));
    let between = between.lock().unwrap().clone();
    (between, position)
}

#[test]
fn a_large_entry_that_has_lost_parts_is_behind_retention() {
    let node = Running::start();
    let group = node.make(1);
    let before = write(&group, 1, 10);
    let (between, large) = write_mixed(&group);
    let after = write(&group, 1, 10);
    assert_eq!(between.len(), 5);
    assert_eq!(node.units(&[1], None).len(), 8);
    node.cut(&group);
    let (index, oldest) = node.journal.state(group.id()).oldest.unwrap();
    assert!(
        index.0 > 1 && oldest < large,
        "{index:?} is among the parts"
    );
    for cursor in [before, oldest, Position(large.0 - 1)] {
        let read = node.read(&[1], Some(cursor)).map(|_| ());
        let Err(Error::Behind { oldest, .. }) = read else {
            panic!("a cursor before lost parts went on: {read:?}");
        };
        assert_eq!(oldest, large, "from there on all is whole");
    }
    for cursor in [None, Some(large)] {
        assert_eq!(node.units(&[1], cursor), [vec![(after, 1, 1)]]);
    }
}

#[test]
fn a_reader_whom_retention_overtakes_is_told() {
    let node = Running::start();
    let group = node.make(1);
    let first = write(&group, 1, 10);
    let large = write(&group, 500, 16 << 10);
    let small: Vec<Position> = (0..20).map(|_| write(&group, 1, 128 << 10)).collect();
    let behind = |result: Result<(), Error>| match result {
        Err(Error::Behind { oldest, .. }) => assert!(oldest >= large, "{oldest}"),
        other => panic!("what has left was skipped: {other:?}"),
    };
    let entry = || {
        let mut units = node.read(&[1], Some(first)).unwrap();
        let mut unit = units.next().unwrap().unwrap();
        assert_eq!(unit.position, large);
        (unit.entries.remove(0), units)
    };
    let (unread, mut units) = entry();
    let mut changes = entry().0.into_changes().unwrap();
    changes.next().unwrap().unwrap();
    node.cut(&group);
    assert!(node.journal.state(group.id()).oldest.unwrap().1 > large);
    behind(unread.into_changes().map(|_| ()));
    behind(loop {
        match changes.next() {
            Ok(Some(_)) => continue,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    });
    behind(loop {
        match units.next() {
            Ok(Some(unit)) if unit.position < small[10] => continue,
            Ok(_) => break Ok(()),
            Err(error) => break Err(error),
        }
    });
}

/// A log that goes on behind a snapshot: what the snapshot holds is in no record.
#[test]
fn what_lies_before_a_snapshot_is_behind() {
    let node = Running::start();
    let id = GroupId(9);
    node.node.groups().open(id).unwrap();
    let record = |kind, index, position, payload| Record {
        group: id,
        kind,
        term: Term(1),
        index: Index(index),
        position,
        payload,
    };
    let blank = record(Kind::Raft, 51, Position::ZERO, Payload::of(&[0]));
    let begin = vec![
        Record::truncate(id, Index(0)),
        Record::purge(id, Term(1), Index(50)),
        blank,
    ];
    node.journal.append_wait(begin).unwrap();
    let entry = {
        let mut images = EntryBuilder::new();
        images.close();
        images.finish(Header {
            epoch: Term(1),
            prev: Position(60),
            position: Position(77),
            txid: TxId(0),
            meta: Meta::default(),
            deps: Vec::new(),
            images: 0,
            parts: None,
            outcome: false,
        })
    };
    let first = record(Kind::Entry, 52, Position(77), entry);
    node.journal.append_wait(vec![first]).unwrap();
    let behind = node.feed.behind(&[id], Position(60)).unwrap();
    assert_eq!(behind, [(id, Position(77))]);
    assert_eq!(node.feed.behind(&[id], Position(77)).unwrap(), []);
    let behind = node.feed.read(&[id], Position(60), Position(77));
    assert!(matches!(behind, Err(Error::Behind { .. })));
}

#[test]
fn a_group_that_is_not_held_is_named() {
    let node = Running::start();
    let unknown = node.read(&[9], None).map(|_| ());
    assert!(matches!(unknown, Err(Error::Unknown(GroupId(9)))));
}

#[test]
fn a_log_that_is_being_taken_away_is_not_one_without_entries() {
    let node = Running::start();
    let (ending, other) = (node.make(1), node.make(2));
    let first = write(&ending, 1, 10);
    node.clock.advance(1_000);
    write(&ending, 1, 10);
    let closed = write(&other, 1, 10);
    // As a replica leaves: its log is gone, and it is not forgotten yet.
    ending.end();
    let cut = vec![Record::truncate(GroupId(1), Index(0))];
    node.journal.append_wait(cut).unwrap();
    assert!(node.node.groups().get(GroupId(1)).is_some());
    for after in [Position::ZERO, first] {
        let read = node.feed.read(&[GroupId(1), GroupId(2)], after, closed);
        let unknown = read.map(|_| ());
        assert!(
            matches!(unknown, Err(Error::Unknown(GroupId(1)))),
            "{after}"
        );
    }
}

#[test]
fn a_replica_that_has_less_does_not_pass_for_the_one_that_was_counted() {
    let node = Running::start();
    let (group, other) = (node.make(1), node.make(2));
    write(&group, 1, 10);
    let closed = write(&other, 1, 10);
    let ids = [GroupId(1), GroupId(2)];
    assert_eq!(node.feed.closed(&group, closed), closed);
    assert!(node.feed.read(&ids, Position::ZERO, closed).is_ok());
    // It leaves, and comes again without a log: what it had is not known here.
    node.runtime.block_on(node.node.close(GroupId(1))).unwrap();
    let again = node.node.groups().open(GroupId(1)).unwrap();
    assert!(!again.has_ended() && again.applied() < closed);
    let unknown = node.feed.read(&ids, Position::ZERO, closed).map(|_| ());
    assert!(matches!(unknown, Err(Error::Unknown(GroupId(1)))));
}

#[test]
fn a_reader_whose_group_leaves_is_told() {
    let node = Running::start();
    let ending = node.make(1);
    // More than is read at once.
    for _ in 0..20 {
        write(&ending, 1, 50 << 10);
    }
    let mut units = node.read(&[1], None).unwrap();
    node.runtime.block_on(node.node.close(GroupId(1))).unwrap();
    let told = (0..20).find_map(|_| match units.next() {
        Ok(unit) => unit.is_none().then_some(None),
        Err(error) => Some(Some(error)),
    });
    let told = told
        .expect("not all of it is there")
        .expect("it has not come to its end");
    assert!(matches!(told, Error::Unknown(GroupId(1))), "{told}");
}
