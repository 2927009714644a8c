//! What was removed leaves the journal and the tables' files of a node: raw bytes are looked for in
//! its whole folder.
#![allow(clippy::unwrap_used)]

mod harness;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use harness::*;
use journal::Position;
use raft::{EraseGroup, ErasedGroup};
use storage::erase::{Copy, Erasure};
use storage::{
    Change, Changes, Commit, Event, EventKind, Group, IndexWrite, Keep, LargeChanges, Outcome,
    RowKey, system,
};

const SECRET: &str = "the secret of Mrs Miller";
const INDEX: u32 = 1001;

/// What is not there any more is none: the store removes files meanwhile.
fn there<T>(result: std::io::Result<T>) -> Option<T> {
    match result {
        Ok(found) => Some(found),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

/// Files of a folder that hold some bytes.
fn files_with(folder: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in there(std::fs::read_dir(folder)).into_iter().flatten() {
        let path = entry.unwrap().path();
        let holds = |read: Vec<u8>| read.windows(bytes.len()).any(|w| w == bytes);
        if path.is_dir() {
            found.extend(files_with(&path, bytes));
        } else if there(std::fs::read(&path)).is_some_and(holds) {
            found.push(path.display().to_string());
        }
    }
    found
}

fn index_of(value: &str, put: bool) -> IndexWrite {
    IndexWrite {
        tree: INDEX,
        key: value.as_bytes().to_vec().into(),
        value: put.then(bytes::Bytes::new),
    }
}

fn change(key: &str, old: Option<&str>, new: Option<&str>) -> Change {
    let bytes = |text: &str| bytes::Bytes::copy_from_slice(text.as_bytes());
    let index = old.iter().map(|old| index_of(old, false));
    let index = index.chain(new.iter().map(|new| index_of(new, true)));
    Change {
        tree: TREE,
        feed: true,
        key: bytes(key),
        old: old.map(bytes),
        new: new.map(bytes),
        index: index.collect(),
        ..Change::default()
    }
}

fn one(group: &Group, change: Change) -> Position {
    let (txid, base) = (group.begin(), group.newest().unwrap());
    let position = commit(group, txid, base, vec![change]).unwrap();
    assert_eq!(outcome(group, position), Outcome::Applied);
    position
}

fn round(running: &Running, group: &Group) -> ErasedGroup {
    let removals = group.removals().unwrap().unwrap();
    round_upto(running, group, removals.newest, group.applied())
}

fn round_upto(running: &Running, group: &Group, upto: Position, horizon: Position) -> ErasedGroup {
    erase(running, group, (upto, horizon), false)
}

/// Once the time is over, if `overdue`.
fn erase(
    running: &Running,
    group: &Group,
    (upto, horizon): (Position, Position),
    overdue: bool,
) -> ErasedGroup {
    let wanted = EraseGroup {
        group: group.id(),
        upto,
        keys: Position::ZERO,
        horizon,
        overdue,
    };
    let indexes = Arc::new(|_, tree| match tree {
        TREE => vec![INDEX],
        _ => Vec::new(),
    });
    let erasing = running.node.erase(vec![wanted], false, indexes);
    running.runtime.block_on(erasing).unwrap().groups[0]
}

/// What an entry of these changes is made of.
fn commit_of(group: &Group, changes: Changes) -> Commit {
    Commit {
        txid: group.begin(),
        base: group.newest().unwrap(),
        epoch: group.term().unwrap(),
        meta: storage::Meta::default(),
        changes,
        events: Vec::new(),
        dropped_trees: Vec::new(),
        deps: Vec::new(),
        checks: Vec::new(),
        record_outcome: false,
        keeps_locks: false,
    }
}

/// All replicas, which is this one, have erased.
fn say_everywhere(group: &Group) -> Position {
    let upto = group.erased();
    let copy = Copy {
        node: 1,
        followed: false,
    };
    let told = Erasure {
        upto,
        copy,
        unix_micros: 1,
    };
    let position = group.report_erasures(&[told], upto).unwrap().unwrap();
    assert_eq!(outcome(group, position), Outcome::Applied);
    assert_eq!(group.erased_everywhere().unwrap(), upto);
    assert_eq!(group.erasures().unwrap().last(), Some(&told));
    assert!(
        group.report_erasures(&[told], upto).unwrap().is_none(),
        "it is said"
    );
    upto
}

#[test]
fn a_removed_row_leaves_all_files_and_its_neighbours_stay() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path());
    let group = running.make(1);
    let (key, other) = ("Miller's key", "the neighbour");
    one(&group, change(key, None, Some("something before")));
    one(&group, change(key, Some("something before"), Some(SECRET)));
    one(&group, change("a", None, Some(other)));
    running.runtime.block_on(running.node.checkpoint()).unwrap();
    let found = files_with(folder.path(), SECRET.as_bytes());
    assert!(
        found.iter().any(|file| file.contains("journal")),
        "{found:?}"
    );
    assert!(
        found.iter().any(|file| file.contains("tables")),
        "{found:?}"
    );

    let removed = one(&group, change(key, Some(SECRET), None));
    let removals = group.removals().unwrap().unwrap();
    assert_eq!((removals.oldest, removals.newest), (Some(removed), removed));
    let left =
        || raft::not_erased(&running.journal, running.node.groups(), &|_, _| vec![INDEX]).unwrap();
    let images = || {
        raft::images_of_row(
            &running.journal,
            group.id(),
            &[TREE],
            &[(INDEX, TREE)].into(),
            key.as_bytes(),
        )
    };
    // Two of changes before it are purged for Raft; what the removal has removed is not.
    assert_eq!(left(), (2, [group.id()].into()));
    assert_eq!(
        (
            images().unwrap(),
            group.traces(TREE, key.as_bytes()).unwrap()
        ),
        (4, 2)
    );
    let erased = round(&running, &group);
    assert!(erased.done);
    for gone in [SECRET, "something before"] {
        assert_eq!(
            files_with(folder.path(), gone.as_bytes()),
            [""; 0],
            "{gone}"
        );
    }
    assert_eq!(group.removals().unwrap().unwrap().oldest, None);
    assert_eq!(left(), (0, [].into()));
    assert_eq!(images().unwrap(), 1, "the removal");
    assert!(!files_with(folder.path(), other.as_bytes()).is_empty());
    // The key is known until all replicas have erased.
    assert!(!files_with(folder.path(), key.as_bytes()).is_empty());
    // One that came again is none of it.
    one(&group, change(key, None, Some("came again")));
    let upto = say_everywhere(&group);
    let keys = round(&running, &group);
    assert_eq!((keys.keys, keys.ledger), (upto, upto));
    assert!(!files_with(folder.path(), b"came again").is_empty());
    let again = group.get(TREE, key.as_bytes(), group.applied()).unwrap();
    assert_eq!(again.unwrap(), "came again");
    // Once it is gone for good, so is the key.
    one(&group, change(key, Some("came again"), None));
    assert!(round(&running, &group).done);
    say_everywhere(&group);
    round(&running, &group);
    assert_eq!(files_with(folder.path(), key.as_bytes()), [""; 0]);
    drop(group);
    running.stop();

    let running = Running::start(folder.path());
    let group = running.group(1);
    assert_eq!(
        group.get(TREE, key.as_bytes(), group.applied()).unwrap(),
        None
    );
    assert_eq!(
        group.get(TREE, b"a", group.applied()).unwrap().unwrap(),
        other
    );
    assert_eq!(group.removals().unwrap().unwrap().oldest, None);
    running.stop();
}

/// The ledger has the last removal of each row. One that comes and goes again and again is erased all the
/// same, up to where a round looks.
#[test]
fn what_has_come_again_since_hides_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path());
    let group = running.make(1);
    let (first, second) = ("the first of Mrs Miller", "the second of Mrs Miller");
    let erase = |key: &str, old: &str| Change {
        erase: true,
        ..change(key, Some(old), None)
    };
    for key in ["k", "l"] {
        one(&group, change(key, None, Some(first)));
    }
    one(&group, change("k", Some(first), None));
    let upto = one(&group, erase("l", first));
    for key in ["k", "l"] {
        one(&group, change(key, None, Some(second)));
    }
    let still = group.pin_applied();
    one(&group, change("k", Some(second), None));
    one(&group, erase("l", second));
    assert!(round_upto(&running, &group, upto, upto).done);
    assert_eq!(files_with(folder.path(), first.as_bytes()), [""; 0]);
    assert!(group.erased() == upto);
    // What is not looked for yet can be read where it was.
    assert!(!files_with(folder.path(), second.as_bytes()).is_empty());
    for key in ["k", "l"] {
        let row = group.get(TREE, key.as_bytes(), still.position()).unwrap();
        assert_eq!(row.unwrap(), second);
    }
    drop(still);
    let left = group.removals().unwrap().unwrap();
    assert!(left.oldest > Some(upto) && left.at_once > Some(upto));
    assert!(round(&running, &group).done);
    assert_eq!(files_with(folder.path(), second.as_bytes()), [""; 0]);
    assert_eq!(group.removals().unwrap().unwrap().oldest, None);
    drop(group);
    running.stop();
}

/// Rows of a transaction that is journaled in parts.
struct Many(u32, bool);

impl LargeChanges for Many {
    fn next(&mut self) -> storage::Result<Option<Change>> {
        self.0 -= 1;
        let key = format!("large {:06}", 100_000 - self.0);
        let value = format!("{SECRET} {key}{}", "x".repeat(2000));
        let (old, new) = match self.1 {
            true => (None, Some(&*value)),
            false => (Some(&*value), None),
        };
        let change = Change {
            seq: 100_000 - self.0,
            ..change(&key, old, new)
        };
        Ok((self.0 > 0).then_some(change))
    }

    fn trees(&self) -> Vec<u32> {
        vec![TREE, INDEX]
    }
}

#[test]
fn rows_of_large_transactions_are_erased_too() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::retaining(folder.path(), Duration::from_secs(3600), u64::MAX);
    let group = running.make(1);
    for put in [true, false] {
        let position = group
            .commit(commit_of(&group, Changes::Large(Box::new(Many(600, put)))))
            .unwrap();
        assert_eq!(outcome(&group, position), Outcome::Applied);
        if put {
            assert!(!files_with(folder.path(), SECRET.as_bytes()).is_empty());
        }
    }
    assert!(round(&running, &group).done);
    assert_eq!(files_with(folder.path(), SECRET.as_bytes()), [""; 0]);
    assert!(!files_with(folder.path(), b"large 099500").is_empty());
    say_everywhere(&group);
    round(&running, &group);
    assert_eq!(files_with(folder.path(), b"large 099500"), [""; 0]);
    drop(group);
    running.stop();
    // What is left can be read.
    let running = Running::start(folder.path());
    let group = running.group(1);
    let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    let rows = group.scan(TREE, all, group.applied(), storage::Direction::Forward);
    assert_eq!(rows.unwrap().count(), 0);
    running.stop();
}

/// A scan above all removals needs no old version, but it reads the files that it began with.
#[test]
fn who_reads_files_that_were_replaced_holds_them_back() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path());
    let group = running.make(1);
    one(&group, change("k", None, Some(SECRET)));
    running.runtime.block_on(running.node.checkpoint()).unwrap();
    one(&group, change("k", Some(SECRET), None));
    let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    let scan = group.scan(TREE, all, group.applied(), storage::Direction::Forward);
    assert!(!round(&running, &group).done);
    let left = || files_with(folder.path(), SECRET.as_bytes());
    assert!(left().iter().all(|file| file.contains("tables")));
    assert!(!left().is_empty());
    assert_eq!(scan.unwrap().count(), 0);
    assert!(round(&running, &group).done);
    assert_eq!(left(), [""; 0]);
    running.stop();
}

/// What is read in the tables is nothing that the journal and the feed have to wait for.
#[test]
fn once_the_time_is_over_who_reads_the_past_holds_the_tables_alone() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path());
    let group = running.make(1);
    one(&group, change("k", None, Some(SECRET)));
    running.runtime.block_on(running.node.checkpoint()).unwrap();
    let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    let scan = group.scan(TREE, all, group.applied(), storage::Direction::Forward);
    let gone = one(&group, change("k", Some(SECRET), None));
    let erase = || erase(&running, &group, (gone, gone), true).done;
    assert!(!erase(), "somebody reads it");
    let left = files_with(folder.path(), SECRET.as_bytes());
    assert!(
        !left.is_empty() && left.iter().all(|file| file.contains("tables")),
        "{left:?}"
    );
    assert!(group.erased() < gone);
    assert_eq!(scan.unwrap().count(), 1);
    assert!(erase());
    assert_eq!(files_with(folder.path(), SECRET.as_bytes()), [""; 0]);
    running.stop();
}

/// What CREATE INDEX writes for rows that stand there already is in no change of theirs.
#[test]
fn entries_of_an_index_that_was_built_later_go_with_their_row() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path());
    let group = running.make(1);
    one(&group, change("k", None, Some("a row")));
    one(&group, change("other", None, Some("its neighbour")));
    for (entry, row) in [(SECRET, "k"), ("the neighbour's value", "other")] {
        let built = Change {
            tree: INDEX,
            feed: false,
            index: Vec::new(),
            ..change(entry, None, Some(row))
        };
        one(&group, built);
    }
    one(
        &group,
        Change {
            index: vec![IndexWrite {
                tree: INDEX,
                key: SECRET.as_bytes().into(),
                value: None,
            }],
            ..change("k", Some("a row"), None)
        },
    );
    let indexes = [(INDEX, TREE)].into();
    let left = || raft::images_of_row(&running.journal, group.id(), &[TREE], &indexes, b"k");
    assert_eq!(left().unwrap(), 4);
    assert!(round(&running, &group).done);
    assert_eq!(files_with(folder.path(), SECRET.as_bytes()), [""; 0]);
    assert_eq!(left().unwrap(), 1, "the removal's key");
    assert!(!files_with(folder.path(), b"the neighbour's value").is_empty());
    running.stop();
}

#[test]
fn a_dropped_tree_is_gone_when_its_round_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path());
    let group = running.make(1);
    one(&group, change("k", None, Some(SECRET)));
    running.runtime.block_on(running.node.checkpoint()).unwrap();
    let dropped = group.commit(Commit {
        dropped_trees: vec![TREE, INDEX],
        ..commit_of(&group, Changes::Small(Vec::new()))
    });
    assert_eq!(outcome(&group, dropped.unwrap()), Outcome::Applied);
    assert!(round(&running, &group).done);
    assert_eq!(files_with(folder.path(), SECRET.as_bytes()), [""; 0]);
    running.stop();
}

/// A follower that would meet an erased image would begin anew.
#[test]
fn what_a_stream_has_not_read_is_left_until_the_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::retaining(folder.path(), Duration::from_secs(3600), u64::MAX);
    let group = running.make(1);
    let first = one(&group, change("a", None, Some("another")));
    let images = || {
        raft::images_of_row(
            &running.journal,
            group.id(),
            &[TREE],
            &[(INDEX, TREE)].into(),
            b"k",
        )
        .unwrap()
    };
    let (late, other) = (group.stream(first), group.stream(first));
    assert_eq!(group.streamed(), first);
    for overdue in [false, true] {
        let put = one(&group, change("k", None, Some(SECRET)));
        let gone = one(&group, change("k", Some(SECRET), None));
        other.read(gone);
        let erase = || erase(&running, &group, (gone, gone), overdue).done;
        if !overdue {
            assert!(!erase(), "a stream is behind it");
            late.read(put);
            assert!(!erase(), "it has not seen that the row is gone");
            assert_eq!(
                images(),
                2,
                "of the removal, its key and what it has removed"
            );
            late.read(gone);
        }
        assert!(erase());
        assert_eq!(images(), 1, "the key of the last removal");
    }
    drop((late, other));
    assert_eq!(group.streamed(), Position::MAX);
    running.stop();
}

/// Rows of a transaction that fails when some of its parts are in the journal.
struct Failing(u32);

impl LargeChanges for Failing {
    fn next(&mut self) -> storage::Result<Option<Change>> {
        let left = self.0.checked_sub(1);
        self.0 = left.ok_or_else(|| storage::Error::Store("the spool is full".into()))?;
        let value = format!("never committed {}", "x".repeat(2000));
        let change = Change {
            seq: 10_000 - self.0,
            ..change(&format!("failed {}", 10_000 - self.0), None, Some(&value))
        };
        Ok(Some(change))
    }

    fn trees(&self) -> Vec<u32> {
        vec![TREE, INDEX]
    }
}

/// No ledger names them.
#[test]
fn parts_of_a_transaction_that_has_failed_are_erased() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::retaining(folder.path(), Duration::from_secs(3600), u64::MAX);
    let group = running.make(1);
    one(&group, change("k", None, Some(SECRET)));
    let failed = group.commit(commit_of(&group, Changes::Large(Box::new(Failing(2000)))));
    assert!(failed.is_err());
    let left = || files_with(folder.path(), b"never committed");
    assert!(left()[0].contains("journal"));
    one(&group, change("k", Some(SECRET), None));
    assert!(round(&running, &group).done);
    assert_eq!(left(), [""; 0]);
    running.stop();
}

#[test]
fn an_open_snapshot_is_waited_for_until_the_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path());
    let group = running.make(1);
    one(&group, change("k", None, Some(SECRET)));
    let pin = group.pin_applied();
    one(&group, change("k", Some(SECRET), None));
    assert!(!round(&running, &group).done, "somebody may read it");
    let row = group.get(TREE, b"k", pin.position()).unwrap();
    assert_eq!(row.unwrap(), SECRET);
    let removals = group.removals().unwrap().unwrap();
    let upto = (removals.newest, removals.newest);
    assert!(erase(&running, &group, upto, true).done);
    assert_eq!(files_with(folder.path(), SECRET.as_bytes()), [""; 0]);
    let read = group.get(TREE, b"k", pin.position());
    assert!(
        matches!(read, Err(storage::Error::TooOld { .. })),
        "{read:?}"
    );
    drop(pin);
    running.stop();
}

#[test]
fn what_no_log_needs_any_more_is_erased_in_any_round() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path());
    let group = running.make(1);
    one(&group, change("k", None, Some("stays")));
    // A log whose replica has left this node.
    let gone = journal::GroupId(9);
    let entry = journal::Record {
        group: gone,
        kind: journal::Kind::Entry,
        term: journal::Term(1),
        index: journal::Index(1),
        position: Position(7),
        payload: storage::Entry {
            changes: vec![change("k", None, Some(SECRET))],
            ..storage::Entry::default()
        }
        .encode(),
    };
    running.journal.append_wait(vec![entry]).unwrap();
    let end = journal::Record::truncate(gone, journal::Index(0));
    running.journal.append_wait(vec![end]).unwrap();
    assert!(!files_with(folder.path(), SECRET.as_bytes()).is_empty());
    // Of no group anything is to be erased.
    let indexes = Arc::new(|_, _| Vec::new());
    let erasing = running.node.erase(Vec::new(), true, indexes);
    assert!(running.runtime.block_on(erasing).unwrap().whole);
    assert_eq!(files_with(folder.path(), SECRET.as_bytes()), [""; 0]);
    assert!(round(&running, &group).done);
    running.stop();
}

/// All bytes of a snapshot.
fn exported(group: &Group) -> Vec<u8> {
    let mut export = group.export().unwrap().unwrap();
    let mut sent = Vec::new();
    loop {
        let piece = export.read(1000).unwrap();
        if piece.is_empty() {
            return sent;
        }
        sent.extend_from_slice(&piece);
    }
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|w| w == text.as_bytes())
}

/// The history of a table is no place where an erased row stays; of a deleted one it is.
#[test]
fn an_erased_row_has_no_history() {
    const DELETED: &str = "the past of Mr Smith";
    const AGAIN: &str = "what came after the erase";
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path());
    let group = running.make(1);
    let since = group.newest().unwrap();
    let keep = Keep {
        since,
        micros: None,
    };
    let (row, new) = Keep::row(TREE, Some(keep));
    one(
        &group,
        Change {
            tree: system::KEPT_TREES,
            key: row,
            new,
            ..Change::default()
        },
    );
    let (key, gone) = ("Miller's key", "all of Mrs Green");
    one(&group, change(key, None, Some(SECRET)));
    one(&group, change(key, Some(SECRET), Some("between")));
    one(&group, change("Smith", None, Some(DELETED)));
    one(&group, change("Green's key", None, Some(gone)));
    let erase = |change: Change| Change {
        erase: true,
        ..change
    };
    one(&group, change("Smith", Some(DELETED), None));
    one(&group, erase(change("Green's key", Some(gone), None)));
    one(&group, erase(change(key, Some("between"), None)));
    // What comes and goes before the round does not take the erase back.
    one(&group, change(key, None, Some(AGAIN)));
    one(&group, change(key, Some(AGAIN), None));
    assert!(has(&exported(&group), SECRET));
    assert!(group.traces(TREE, b"Green's key").unwrap() > 0);

    assert!(round(&running, &group).done);
    for canary in [SECRET, "between", gone] {
        assert_eq!(
            files_with(folder.path(), canary.as_bytes()),
            [""; 0],
            "{canary}"
        );
        assert!(!has(&exported(&group), canary), "{canary}");
    }
    for stays in [DELETED, AGAIN] {
        // Files are compressed, so it need not be found in them.
        let found = files_with(folder.path(), stays.as_bytes());
        assert!(
            found.iter().all(|file| file.contains("tables")),
            "{found:?}"
        );
        assert!(has(&exported(&group), stays), "{stays}");
    }
    let past = group.get(TREE, b"Smith", since).unwrap();
    assert_eq!(past, None);
    say_everywhere(&group);
    assert!(round(&running, &group).done);
    assert_eq!(files_with(folder.path(), b"Green's key"), [""; 0]);
    assert_eq!(group.traces(TREE, b"Green's key").unwrap(), 0);
    drop(group);
    running.stop();
}

/// What has happened to a row is told as long as the row is there.
#[test]
fn events_about_an_erased_row_are_erased_with_it() {
    const EVENTS: u32 = 1005;
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path());
    let group = running.make(1);
    let emit = |about: &[&str], payload: &str, changes: Vec<Change>| {
        let about = about.iter().map(|key| RowKey {
            tree: TREE,
            key: key.as_bytes().to_vec().into(),
        });
        let event = Event {
            seq: changes.len() as u32 + 1,
            kind: EventKind::Row,
            name: String::new(),
            table: Some(EVENTS),
            payload: payload.as_bytes().to_vec().into(),
            about: about.collect(),
        };
        let position = group
            .commit(Commit {
                events: vec![event],
                ..commit_of(&group, Changes::Small(changes))
            })
            .unwrap();
        assert_eq!(outcome(&group, position), Outcome::Applied);
    };
    one(&group, change("k", None, Some("row")));
    one(&group, change("other", None, Some("row")));
    emit(&["k"], "told of k", vec![]);
    emit(&["other", "k", "k"], "told of both", vec![]);
    emit(&["other"], "told of the other", vec![]);
    let images = || {
        raft::images_of_row(
            &running.journal,
            group.id(),
            &[TREE],
            &[(INDEX, TREE)].into(),
            b"k",
        )
        .unwrap()
    };
    assert_eq!(images(), 3);
    emit(
        &["k"],
        "told at the end",
        vec![change("k", Some("row"), None)],
    );
    assert!(round(&running, &group).done);
    for told in ["told of k", "told of both", "told at the end"] {
        assert_eq!(
            files_with(folder.path(), told.as_bytes()),
            [""; 0],
            "{told}"
        );
    }
    assert_eq!(images(), 1, "the removal");
    assert!(!files_with(folder.path(), b"told of the other").is_empty());
    // One that comes again has its own.
    one(&group, change("k", None, Some("again")));
    emit(&["k"], "told of another k", vec![]);
    round(&running, &group);
    assert!(!files_with(folder.path(), b"told of another k").is_empty());
    drop(group);
    running.stop();
    let running = Running::start(folder.path());
    assert!(running.group(1).ready());
    running.stop();
}

/// Rows in which the system keeps keys and write sets while owners decide.
#[test]
fn what_waited_for_a_decision_is_erased() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path());
    let group = running.make(1);
    let hidden = [
        system::PREPARED,
        system::INTENTS,
        system::FENCED,
        system::LOCKS,
        system::outbox(journal::GroupId(2)),
    ];
    let change = |tree: u32, put: bool| {
        let value = Some(format!("{SECRET} in {tree}").into_bytes().into());
        Change {
            tree,
            key: b"transaction"[..].into(),
            old: value.clone().filter(|_| !put),
            new: value.filter(|_| put),
            ..Change::default()
        }
    };
    for put in [true, false] {
        for tree in hidden {
            one(&group, change(tree, put));
        }
        running.runtime.block_on(running.node.checkpoint()).unwrap();
        assert!(!files_with(folder.path(), SECRET.as_bytes()).is_empty());
    }
    assert!(round(&running, &group).done);
    assert_eq!(files_with(folder.path(), SECRET.as_bytes()), [""; 0]);
    drop(group);
    running.stop();
}
