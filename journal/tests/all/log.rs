//! One or many groups: what is appended is there, at once and after a restart.

use std::sync::Arc;
use std::sync::mpsc::channel;

use journal::{
    Error, GroupId, Index, Journal, Kind, MemoryDisk, Options, Payload, Position, RealDisk, Record,
    Spare, Term, inspect,
};

use crate::tools::{Model, all, dir, entry, open, options, sized_entry};

const G: GroupId = GroupId(1);

#[test]
fn what_is_appended_is_there_at_once_and_after_a_restart() {
    let disk = MemoryDisk::new();
    let journal = open(&disk).expect("open");
    for index in 1..=200 {
        journal
            .append_wait(vec![entry(1, 1, index), entry(2, 1, index)])
            .expect("append");
        assert_eq!(journal.state(G).durable, Some(Index(index)));
    }
    let before = [all(&journal, 1), all(&journal, 2)];
    assert_eq!(before[0].len(), 200);
    assert!(journal.stats().segments > 5, "{:?}", journal.stats());
    let state = journal.state(G);
    journal.close();
    let journal = open(&disk).expect("open again");
    assert_eq!([all(&journal, 1), all(&journal, 2)], before);
    assert_eq!(journal.state(G), state);
    assert_eq!(journal.groups(), [GroupId(1), GroupId(2)]);
    for index in [1, 77, 200] {
        let one = journal
            .read(G, Index(index), Index(index + 1), 1)
            .expect("read");
        assert_eq!(one, [entry(1, 1, index)]);
    }
    let page = journal.read(G, Index(5), Index(100), 300).expect("read");
    let bytes: usize = page.iter().map(|record| record.payload.len()).sum();
    assert!(
        page.len() > 1 && bytes <= 300,
        "{} records, {bytes} bytes",
        page.len()
    );
    assert!(
        journal
            .read(G, Index(201), Index(300), 1)
            .expect("read")
            .is_empty()
    );
}

#[test]
fn readable_before_it_is_durable_and_done_after() {
    let disk = MemoryDisk::new();
    let journal = open(&disk).expect("open");
    let (sender, receiver) = channel();
    for index in 1..=50 {
        let sender = sender.clone();
        let done = Box::new(move |answer| sender.send((index, answer)).expect("test waits"));
        journal.append(vec![entry(1, 1, index)], done);
        let last = journal.state(G).last.expect("there");
        assert_eq!(last, (Term(1), Index(index), Position(index * 10 + 1)));
    }
    for index in 1..=50 {
        let (found, answer) = receiver.recv().expect("answered");
        assert_eq!(found, index, "in order");
        answer.expect("written");
    }
}

/// A log that begins anew behind a snapshot: what was there before is nobody's any more.
#[test]
fn a_group_begins_anew_at_any_index() {
    let disk = MemoryDisk::new();
    let journal = open(&disk).expect("open");
    for index in 1..=60 {
        let records = vec![entry(1, 1, index), entry(2, 1, index)];
        journal.append_wait(records).expect("append");
    }
    let purge = |upto| Record::purge(G, Term(1), Index(upto));
    journal.append_wait(vec![purge(30)]).expect("append");
    let anew = vec![Record::truncate(G, Index(0)), purge(99)];
    journal.append_wait(anew).expect("append");
    let check = |journal: &Journal, last: u64| {
        let state = journal.state(G);
        assert_eq!(state.purged, Some((Term(1), Index(99))));
        assert_eq!(state.durable, Some(Index(last)));
        assert_eq!(state.last.map(|(_, index, _)| index), Some(Index(last)));
        assert_eq!(state.greatest, entry(1, 2, last).position);
        let first = all(journal, 1).first().map(|record| record.index);
        assert_eq!(first, (last > 99).then_some(Index(100)));
        assert_eq!(all(journal, 2).len(), 60, "the other group stays");
    };
    let greatest = journal.state(G).greatest;
    assert_eq!((greatest, all(&journal, 1).len()), (Position(601), 0));
    journal.close();
    let journal = open(&disk).expect("open again");
    assert_eq!(journal.state(G).purged, Some((Term(1), Index(99))));
    assert!(all(&journal, 1).is_empty());
    for index in 100..=140 {
        journal
            .append_wait(vec![entry(1, 2, index)])
            .expect("append");
    }
    check(&journal, 140);
    journal.close();
    check(&open(&disk).expect("open again"), 140);
}

#[test]
fn truncated_and_written_again() {
    let disk = MemoryDisk::new();
    let journal = open(&disk).expect("open");
    for index in 1..=60 {
        journal
            .append_wait(vec![entry(1, 1, index)])
            .expect("append");
    }
    // One append may truncate and go on; the place is long out of memory.
    journal
        .append_wait(vec![
            Record::truncate(G, Index(20)),
            entry(1, 2, 20),
            entry(1, 2, 21),
        ])
        .expect("append");
    let last = (Term(2), Index(21), Position(212));
    let check = |journal: &Journal| {
        assert_eq!(journal.state(G).last, Some(last));
        assert_eq!(
            journal.state(G).greatest,
            Position(601),
            "truncated ones count"
        );
        assert_eq!(
            journal.terms(G),
            [(Index(1), Term(1)), (Index(20), Term(2))]
        );
        assert_eq!(journal.term_at(G, Index(19)), Some(Term(1)));
        assert_eq!(journal.term_at(G, Index(21)), Some(Term(2)));
        assert_eq!(journal.term_at(G, Index(22)), None);
        let log = all(journal, 1);
        assert_eq!(log.len(), 21);
        assert_eq!(log[19], entry(1, 2, 20));
        assert_eq!(
            journal.seek(G, Position(191)).expect("seek"),
            Some(Index(20))
        );
        assert_eq!(journal.seek(G, Position(212)).expect("seek"), None);
    };
    check(&journal);
    journal.close();
    let journal = open(&disk).expect("open again");
    check(&journal);
    journal
        .append_wait(vec![Record::truncate(G, Index(5))])
        .expect("append");
    assert_eq!(
        journal.state(G).last,
        Some((Term(1), Index(4), Position(41)))
    );
    journal.append_wait(vec![entry(1, 3, 5)]).expect("append");
    let log = all(&journal, 1);
    journal.close();
    assert_eq!(all(&open(&disk).expect("open again"), 1), log);
}

#[test]
fn seeks_by_position() {
    let disk = MemoryDisk::new();
    let journal = open(&disk).expect("open");
    // Indexes 2k and 2k + 1 are parts of one entry; every tenth is Raft's own, without a position.
    let record = |index: u64| {
        let mut record = entry(1, 1, index);
        record.position = Position(index / 2 * 100 + 100);
        if index.is_multiple_of(10) {
            (record.kind, record.position) = (Kind::Raft, Position::ZERO);
        } else if index.is_multiple_of(2) {
            record.kind = Kind::Part;
        }
        record
    };
    for index in 0..300 {
        journal.append_wait(vec![record(index)]).expect("append");
    }
    let check = |journal: &Journal| {
        let mut effective = Position::ZERO;
        let positions: Vec<Position> = (0..300)
            .map(|index| {
                effective = effective.max(record(index).position);
                effective
            })
            .collect();
        for after in (0..15_200).step_by(50).map(Position) {
            let expected = positions
                .iter()
                .position(|p| *p > after)
                .map(|i| Index(i as u64));
            assert_eq!(
                journal.seek(G, after).expect("seek"),
                expected,
                "after {after:?}"
            );
        }
    };
    check(&journal);
    journal.close();
    check(&open(&disk).expect("open again"));
}

#[test]
fn purge_is_a_pointer_and_release_deletes() {
    let disk = MemoryDisk::new();
    let journal = open(&disk).expect("open");
    journal
        .append_wait(vec![Record::vote(GroupId(9), b"quiet")])
        .expect("vote");
    journal
        .append_wait(vec![Record::vote(G, b"first"), Record::vote(G, b"second")])
        .expect("vote");
    for index in 1..=100 {
        journal
            .append_wait(vec![entry(1, 1, index)])
            .expect("append");
    }
    journal.release(G, Index(90)).expect("release");
    assert_eq!(
        journal.state(G).oldest,
        Some((Index(1), Position(11))),
        "not purged"
    );
    journal
        .append_wait(vec![Record::purge(G, Term(1), Index(80))])
        .expect("purge");
    assert_eq!(all(&journal, 1).len(), 100, "still readable");
    let segments = journal.stats().segments;
    journal.release(G, Index(90)).expect("release");
    let check = |journal: &Journal| {
        let state = journal.state(G);
        let oldest = state.oldest.expect("some left").0.0;
        assert!((40..=81).contains(&oldest), "oldest {oldest}");
        assert_eq!(all(journal, 1)[0], entry(1, 1, oldest));
        assert_eq!(all(journal, 1).len() as u64, 101 - oldest);
        assert_eq!(state.vote.as_deref(), Some(&b"second"[..]));
        assert_eq!(state.purged, Some((Term(1), Index(80))));
        let quiet = journal.state(GroupId(9)).vote;
        assert_eq!(quiet.as_deref(), Some(&b"quiet"[..]), "copied forward");
        assert_eq!(journal.term_at(G, Index(oldest)), Some(Term(1)));
        assert_eq!(journal.term_at(G, Index(oldest - 1)), None);
    };
    check(&journal);
    assert!(journal.stats().segments < segments);
    journal.close();
    let journal = open(&disk).expect("open again");
    check(&journal);
    // Behind a snapshot from elsewhere the log goes on at a higher index.
    journal
        .append_wait(vec![Record::purge(G, Term(4), Index(500))])
        .expect("purge");
    assert_eq!(
        journal.state(G).last.map(|l| (l.0, l.1)),
        Some((Term(4), Index(500)))
    );
    assert_eq!(journal.term_at(G, Index(500)), Some(Term(4)));
    assert!(matches!(
        journal.append_wait(vec![entry(1, 4, 101)]),
        Err(Error::OutOfOrder {
            expected: Index(501),
            ..
        })
    ));
    journal.append_wait(vec![entry(1, 4, 501)]).expect("append");
    let log = all(&journal, 1);
    assert_eq!(log.last(), Some(&entry(1, 4, 501)));
    journal.close();
    assert_eq!(all(&open(&disk).expect("open again"), 1), log);
}

#[test]
fn refuses_what_does_not_fit_and_takes_nothing_of_it() {
    let journal = open(&MemoryDisk::new()).expect("open");
    journal
        .append_wait(vec![entry(1, 1, 5)])
        .expect("any index begins a log");
    let gap = journal.append_wait(vec![entry(2, 1, 1), entry(1, 1, 7)]);
    assert!(matches!(
        gap,
        Err(Error::OutOfOrder {
            expected: Index(6),
            found: Index(7),
            ..
        })
    ));
    assert!(all(&journal, 2).is_empty(), "all or none");
    let large = journal.append_wait(vec![sized_entry(1, 1, 6, 5000)]);
    assert!(matches!(large, Err(Error::TooLarge { .. })));
    let of_bytes = |bytes: usize| Record {
        // An image has a head of 8 bytes.
        payload: Payload::of(&vec![7; bytes - 8]),
        ..entry(1, 1, 6)
    };
    let most = journal.payload_bytes_max();
    let above = journal.append_wait(vec![of_bytes(most + 1)]);
    assert!(matches!(above, Err(Error::TooLarge { .. })));
    journal
        .append_wait(vec![of_bytes(most)])
        .expect("the largest");
    journal
        .append_wait(vec![Record::purge(G, Term(1), Index(5))])
        .expect("purge");
    let below = journal.append_wait(vec![Record::truncate(G, Index(5))]);
    assert!(matches!(below, Err(Error::TruncateBelowPurge { .. })));
    let own = Record {
        kind: Kind::Footer,
        ..entry(1, 1, 6)
    };
    assert!(matches!(
        journal.append_wait(vec![own]),
        Err(Error::Invalid(_))
    ));
}

#[test]
fn one_process_at_a_time() {
    let disk = MemoryDisk::new();
    let journal = open(&disk).expect("open");
    assert!(matches!(open(&disk), Err(Error::Locked { .. })));
    journal.close();
    open(&disk).expect("free again");
}

#[test]
fn works_on_a_real_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("journal");
    let options = Options {
        spare: Spare::Ahead,
        ..options()
    };
    let disk = Arc::new(RealDisk);
    let open = || Journal::open(disk.clone(), &dir, options.clone());
    let journal = open().expect("open");
    for index in 1..=100 {
        journal
            .append_wait(vec![entry(1, 1, index), entry(2, 1, index)])
            .expect("append");
    }
    journal
        .append_wait(vec![Record::purge(G, Term(1), Index(50))])
        .expect("purge");
    journal.release(G, Index(50)).expect("release");
    assert!(matches!(open(), Err(Error::Locked { .. })));
    let models = [Model::of(&journal, 1), Model::of(&journal, 2)];
    journal.close();
    let records = inspect(disk.clone(), &dir)
        .filter(|(_, _, record)| record.as_ref().expect("whole").kind == Kind::Entry);
    assert!(records.count() >= 100);
    let journal = open().expect("open again");
    assert_eq!([Model::of(&journal, 1), Model::of(&journal, 2)], models);
    assert_eq!(dir.join("lock").exists(), dir != crate::tools::dir());
}

#[test]
fn a_closed_journal_says_so() {
    let disk = MemoryDisk::new();
    let journal = open(&disk).expect("open");
    let other = journal.clone();
    journal.close();
    assert!(matches!(
        other.append_wait(vec![entry(1, 1, 1)]),
        Err(Error::Closed)
    ));
    let names = journal::Disk::list(&disk, dir()).expect("list");
    assert!(
        names.iter().any(|name| name.ends_with(".segment")),
        "{names:?}"
    );
}
