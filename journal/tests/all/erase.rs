//! Erasing in place: the bytes are gone from disk and memory, the neighbours whole, and a crash in
//! between is finished on open.

use std::sync::Arc;

use bytes::Bytes;
use journal::{
    Disk, Erasure, Error, Fate, FaultyDisk, GroupId, Index, Journal, Kind, MemoryDisk, Options,
    Payload, Record, Remains, Term, inspect,
};

use crate::tools::{all, dir, entry, open, options};

const SECRET: &[u8] = b"the secret of Mrs Miller";
/// What is left in its place.
const LEFT: &[u8] = b"gone at 7";

fn secret_entry(index: u64) -> Record {
    let payload = Payload::builder()
        .push(b"public")
        .push(SECRET)
        .push(b"also public")
        .finish();
    Record {
        payload,
        ..entry(1, 1, index)
    }
}

/// Records 1 to 40, every fifth with the secret; purged up to 30.
fn fill(disk: &(impl Disk + Clone + 'static)) -> Journal {
    let journal = open(disk).expect("open");
    for index in 1..=40_u64 {
        let record = if index.is_multiple_of(5) {
            secret_entry(index)
        } else {
            entry(1, 1, index)
        };
        journal.append_wait(vec![record]).expect("append");
    }
    journal
        .append_wait(vec![Record::purge(GroupId(1), Term(1), Index(40))])
        .expect("purge");
    journal.append_wait(vec![entry(1, 1, 41)]).expect("append");
    journal
}

fn erasures(disk: &(impl Disk + Clone + 'static)) -> Vec<Erasure> {
    inspect(Arc::new(disk.clone()), dir())
        .filter_map(|(segment, offset, record)| {
            let payload = record.expect("whole").payload;
            let secret = payload
                .image(1)
                .is_some_and(|i| i.is_ok_and(|i| i == SECRET));
            secret.then(|| Erasure {
                segment,
                offset,
                images: vec![(1, Bytes::from_static(LEFT))],
            })
        })
        .collect()
}

fn has_secret(disk: &MemoryDisk) -> bool {
    let names = disk.list(dir()).expect("list");
    names.iter().any(|name| {
        let bytes = disk.bytes(&dir().join(name)).unwrap_or_default();
        bytes.windows(SECRET.len()).any(|window| window == SECRET)
    })
}

fn check_erased(journal: &Journal) {
    let log = all(journal, 1);
    assert_eq!(log.len(), 41);
    for record in &log {
        if !record.index.0.is_multiple_of(5) {
            assert_eq!(record, &entry(1, 1, record.index.0));
            continue;
        }
        assert_eq!(record.position, secret_entry(record.index.0).position);
        let images: Vec<_> = record.payload.images().collect();
        assert_eq!(images[0].as_ref().expect("whole"), &b"public"[..]);
        let Err(Error::Erased { left }) = &images[1] else {
            panic!("{:?}", images[1]);
        };
        assert_eq!(left.len(), SECRET.len());
        assert_eq!(left.strip_prefix(LEFT).expect("left"), [0; 15]);
        assert_eq!(images[2].as_ref().expect("whole"), &b"also public"[..]);
    }
}

#[test]
fn erased_bytes_are_gone_and_neighbours_whole() {
    let disk = MemoryDisk::new();
    let journal = fill(&disk);
    assert!(has_secret(&disk));
    let found = erasures(&disk);
    assert_eq!(found.len(), 8);
    journal.erase(&found).expect("erased");
    assert!(!has_secret(&disk));
    assert!(!has_secret(&disk.after_crash(1)), "durably");
    check_erased(&journal);
    journal.close();
    check_erased(&open(&disk).expect("open again"));
    assert!(inspect(Arc::new(disk), dir()).all(|(_, _, record)| record.is_ok()));
}

#[test]
fn only_purged_or_dead_records_can_be_erased() {
    let disk = MemoryDisk::new();
    let journal = open(&disk).expect("open");
    journal.append_wait(vec![secret_entry(1)]).expect("append");
    let found = erasures(&disk);
    assert!(
        matches!(journal.erase(&found), Err(Error::Invalid(_))),
        "not purged"
    );
    journal
        .append_wait(vec![Record::truncate(GroupId(1), Index(1)), entry(1, 2, 1)])
        .expect("append");
    journal
        .erase(&found)
        .expect("a truncated record has no reader");
    assert!(!has_secret(&disk));
    assert_eq!(all(&journal, 1), [entry(1, 2, 1)]);
    let vote = Erasure {
        images: vec![(0, Bytes::new())],
        ..found[0].clone()
    };
    let nowhere = Erasure {
        offset: vote.offset + 8,
        ..vote
    };
    assert!(matches!(
        journal.erase(&[nowhere]),
        Err(Error::Corrupt { .. })
    ));
}

/// A purge is known when it is appended, and written in its group's turn: an erase record, which is
/// of another group, could be on disk before it.
#[test]
fn nothing_is_erased_before_its_purge_is_in_the_file() {
    let disk = MemoryDisk::new();
    let one_by_one = Options {
        group_bytes_max: 1,
        ..options()
    };
    let journal = Journal::open(Arc::new(disk.clone()), dir(), one_by_one).expect("open");
    journal.append_wait(vec![secret_entry(1)]).expect("append");
    let found = erasures(&disk);
    // The writer waits in its answer to another group, and then takes two in turn.
    let (go, gate) = std::sync::mpsc::sync_channel::<()>(0);
    let (told, hears) = std::sync::mpsc::channel();
    let held = move |_| {
        told.send(()).expect("the test waits");
        let _ = gate.recv();
    };
    journal.append(vec![entry(2, 1, 1)], Box::new(held));
    hears.recv().expect("the writer is held");
    let mut waiting: Vec<Record> = (2..=20).map(|index| entry(1, 1, index)).collect();
    waiting.push(Record::purge(GroupId(1), Term(1), Index(1)));
    journal.append(waiting, Box::new(|_| ()));
    assert_eq!(
        journal.state(GroupId(1)).purged,
        Some((Term(1), Index(1))),
        "Raft's log begins behind it"
    );
    assert_eq!(journal.state(GroupId(1)).erasable, None);
    let fates = || -> Vec<Fate> {
        let segments = journal.segments().into_iter();
        let all = segments.flat_map(|s| journal.remains(s).expect("whole"));
        let first = all.filter(|r| r.record == secret_entry(1));
        first.map(|r| r.fate).collect()
    };
    assert_eq!(fates(), [Fate::Live]);
    assert!(matches!(journal.erase(&found), Err(Error::Invalid(_))));
    for seed in 0..8 {
        let after = open(&disk.after_crash(seed)).expect("open after a crash");
        assert_eq!(after.state(GroupId(1)).purged, None, "it was not written");
        assert_eq!(after.state(GroupId(1)).erasable, None);
        assert_eq!(all(&after, 1)[..1], [secret_entry(1)]);
    }
    drop(go);
    journal.append_wait(vec![entry(1, 1, 21)]).expect("append");
    assert_eq!(journal.state(GroupId(1)).erasable, Some(Index(1)));
    assert_eq!(fates(), [Fate::Purged]);
    journal.erase(&found).expect("erased");
    journal.close();
    let journal = open(&disk).expect("open again");
    assert_eq!(journal.state(GroupId(1)).erasable, Some(Index(1)));
    assert!(!has_secret(&disk));
}

#[test]
fn what_the_segments_hold_is_told_by_who_needs_it() {
    let disk = MemoryDisk::new();
    let journal = fill(&disk);
    let two = |term, index| entry(2, term, index);
    journal
        .append_wait(vec![two(1, 1), two(1, 2)])
        .expect("append");
    journal
        .append_wait(vec![Record::truncate(GroupId(2), Index(2)), two(2, 2)])
        .expect("append");
    journal.append_wait(vec![entry(3, 1, 1)]).expect("append");
    journal
        .append_wait(vec![Record::truncate(GroupId(3), Index(0))])
        .expect("the log ends");
    let check = |journal: &Journal| {
        let all = journal.segments().into_iter();
        let all: Vec<Remains> = all
            .flat_map(|s| journal.remains(s).expect("whole"))
            .collect();
        let fates = |group| -> Vec<(u64, u64, Fate)> {
            let of = all.iter().filter(|r| r.record.group == GroupId(group));
            of.map(|r| (r.record.term.0, r.record.index.0, r.fate))
                .collect()
        };
        let one = fates(1);
        assert_eq!(one.len(), 41);
        assert!(one[..40].iter().all(|(_, _, fate)| *fate == Fate::Purged));
        assert_eq!(one[40], (1, 41, Fate::Live));
        let two = [(1, 1, Fate::Live), (1, 2, Fate::Dead), (2, 2, Fate::Live)];
        assert_eq!(fates(2), two);
        assert_eq!(fates(3), [(1, 1, Fate::Dead)]);
    };
    check(&journal);
    journal.close();
    check(&open(&disk).expect("open again"));
}

/// Years of erasures are no work and no memory at a start: only what was not finished is.
#[test]
fn an_open_looks_at_no_erasure_that_is_finished() {
    const SEGMENTS: usize = 40;
    let calls = |erases: bool| {
        let disk = FaultyDisk::new(MemoryDisk::new());
        let journal = fill(&disk);
        if erases {
            journal.erase(&erasures(disk.memory())).expect("erased");
            assert!(!has_secret(disk.memory()));
        }
        // Until a segment was just begun.
        for index in 42.. {
            journal
                .append_wait(vec![entry(1, 1, index)])
                .expect("append");
            if journal.segments().len() == SEGMENTS {
                break;
            }
        }
        journal.close();
        let before = disk.calls();
        open(&disk).expect("open again").close();
        let after = disk.calls();
        assert_eq!(has_secret(disk.memory()), !erases);
        after - before
    };
    assert_eq!(calls(true), calls(false));
}

#[test]
fn many_images_are_erased_by_several_records() {
    const IMAGES: u32 = 90;
    let disk = MemoryDisk::new();
    let journal = open(&disk).expect("open");
    let mut images = Payload::builder();
    for number in 0..IMAGES {
        images.push(format!("Miller {number:03}").as_bytes());
    }
    let record = Record {
        payload: images.finish(),
        ..entry(1, 1, 1)
    };
    journal.append_wait(vec![record]).expect("append");
    journal
        .append_wait(vec![Record::purge(GroupId(1), Term(1), Index(1))])
        .expect("purge");
    journal.append_wait(vec![entry(1, 1, 2)]).expect("append");
    let found = Erasure {
        segment: 1,
        offset: journal.remains(1).expect("whole")[0].offset,
        images: (0..IMAGES).map(|n| (n, Bytes::from_static(LEFT))).collect(),
    };
    journal.erase(&[found]).expect("erased");
    journal.close();
    let written = inspect(Arc::new(disk.clone()), dir());
    let written: Vec<_> = written.map(|(_, _, r)| r.expect("whole").kind).collect();
    let of_erase = written.iter().filter(|kind| **kind == Kind::Erase);
    assert!(of_erase.count() > 1, "none is larger than a segment");
    let journal = open(&disk).expect("open again");
    let log = all(&journal, 1);
    assert_eq!(log.len(), 2);
    let erased = log[0].payload.images();
    assert!(
        erased
            .into_iter()
            .all(|image| matches!(image, Err(Error::Erased { .. })))
    );
}

#[test]
fn a_crash_while_erasing_is_finished_on_open() {
    let calls = |disk: &FaultyDisk| {
        let journal = fill(disk);
        let before = disk.calls();
        let result = journal.erase(&erasures(disk.memory()));
        (before, disk.calls(), result)
    };
    let (before, after, result) = calls(&FaultyDisk::new(MemoryDisk::new()));
    result.expect("erased");
    let mut finished = 0;
    for call in before + 1..=after {
        for tear in 0..4 {
            let disk = FaultyDisk::new(MemoryDisk::new());
            disk.crash_at(call);
            let (_, _, result) = calls(&disk);
            assert!(result.is_err());
            let found = disk.memory().after_crash(tear);
            // `check` on the stopped node shows no damage either.
            let inspected: Vec<_> = inspect(Arc::new(found.clone()), dir()).collect();
            let whole = |record: &journal::Result<Record>| {
                matches!(record, Ok(_) | Err(Error::Torn { .. }))
            };
            assert!(
                inspected.iter().all(|(_, _, r)| whole(r)),
                "call {call}, tear {tear}"
            );
            let recorded = inspected
                .iter()
                .any(|(_, _, r)| r.as_ref().is_ok_and(|r| r.kind == Kind::Erase));
            let journal = open(&found).unwrap_or_else(|e| panic!("call {call}: {e}"));
            assert_eq!(all(&journal, 1).len(), 41);
            assert_eq!(has_secret(&found), !recorded, "call {call}, tear {tear}");
            if recorded {
                check_erased(&journal);
                finished += 1;
            }
        }
    }
    assert!(
        finished > 10,
        "{finished} crashes came after the erase record"
    );
}
