//! The tables of a killed node, replayed and compared without Raft: right as they are, and found
//! wrong after each kind of damage.

#![allow(clippy::unwrap_used)]

mod harness;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use harness::{Running, System, TREE, commit, key, outcome, put, read, write};
use journal::{GroupId, Journal, Position, RealDisk};
use storage::{
    Change, Group, Groups, Outcome, Proposal, Propose, StoreKind, StoreOptions, Sums, TableStore,
    TreeId,
};
use tempfile::TempDir;

const GROUP: GroupId = GroupId(1);

/// Nobody proposes anything to a stopped node.
struct Nowhere;

impl Propose for Nowhere {
    fn propose(&self, _group: GroupId, _proposal: Proposal) {}

    fn create(
        &self,
        _group: GroupId,
        _above: Position,
        done: Box<dyn FnOnce(storage::Result<()>) + Send>,
    ) {
        done(Err(storage::Error::Store("stopped".into())));
    }
}

/// The parts of a stopped node.
struct Stopped {
    journal: Journal,
    store: Arc<dyn TableStore>,
    group: Arc<Group>,
}

fn open(folder: &Path) -> Stopped {
    let options = journal::Options::default();
    let journal = Journal::open(Arc::new(RealDisk), &folder.join("journal"), options).unwrap();
    let tables = folder.join("tables");
    assert_eq!(storage::kind_of(&tables).unwrap(), Some(StoreKind::Lsm));
    let store = storage::open(StoreKind::Lsm, &tables, StoreOptions::default()).unwrap();
    assert_eq!(
        storage::read_checkpoint(&tables).unwrap(),
        store.checkpoint()
    );
    let groups = Groups::new(store.clone(), Arc::new(System));
    groups.attach(Arc::new(Nowhere));
    let group = groups.open(GROUP).unwrap();
    Stopped {
        journal,
        store,
        group,
    }
}

/// Files as `kill -9` leaves them: a copy of the folder of a node that is running and idle.
fn killed(folder: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    copy_folder(folder, copy.path());
    copy
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.metadata().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Rows 0..20 in a checkpoint; 20..30, a new value of 5, the removal of 6 and a transaction in
/// parts behind it.
fn node() -> (TempDir, Running) {
    let folder = TempDir::new().unwrap();
    let node = Running::start(folder.path());
    let group = node.make(1);
    for n in 0..20 {
        write(&group, n, format!("value {n}"));
    }
    node.runtime.block_on(node.node.checkpoint()).unwrap();
    for n in 20..30 {
        write(&group, n, format!("value {n}"));
    }
    change(&group, 5, Some("changed"));
    change(&group, 6, None);
    let large = (100..150)
        .map(|n| put(n, vec![n as u8; 64 << 10]))
        .collect();
    let position = commit(&group, group.begin(), group.newest().unwrap(), large).unwrap();
    assert_eq!(outcome(&group, position), Outcome::Applied);
    (folder, node)
}

fn change(group: &Group, number: u64, new: Option<&'static str>) {
    let change = Change {
        old: read(group, number),
        new: new.map(Bytes::from),
        ..put(number, "")
    };
    let base = group.newest().unwrap();
    let position = commit(group, group.begin(), base, vec![change]).unwrap();
    assert_eq!(outcome(group, position), Outcome::Applied);
}

#[test]
fn a_killed_nodes_tables_are_right_at_the_checkpoint_and_after_the_replay() {
    let (folder, node) = node();
    let copy = killed(folder.path());
    let stopped = open(copy.path());
    let sums = |tables, rows, others| Sums {
        tables,
        rows,
        others,
    };
    assert_eq!(stopped.group.verify_sums().unwrap(), sums(1, 20, 0));
    raft::replay(&stopped.journal, &stopped.group).unwrap();
    assert_eq!(
        stopped.group.verify_sums().unwrap(),
        sums(1, 79, 1),
        "the ledger has one"
    );
    assert_eq!(stopped.group.applied(), node.group(1).applied());
    assert_eq!(read(&stopped.group, 5).unwrap(), "changed");
    drop(stopped);

    // Looking did no harm.
    let again = Running::start(copy.path());
    assert_eq!(read(&again.group(1), 6), None);
    write(&again.group(1), 200, "on it goes");
    assert_eq!(again.group(1).verify_sums().unwrap(), sums(1, 80, 1));
    again.stop();
    node.stop();
}

/// Writes a value into the table's files without an entry.
fn plant(folder: &Path, number: u64, at: impl Fn(Position) -> Position) {
    let Stopped {
        store,
        group,
        journal,
    } = open(folder);
    let tree = TreeId {
        group: GROUP,
        number: TREE,
    };
    let at = at(group.applied_log().0.position);
    let mut row = [(key(number), Some(Bytes::from("planted")))].into_iter();
    store.write(tree, at, &mut row).unwrap();
    store
        .begin_checkpoint(store.checkpoint())
        .unwrap()
        .finish()
        .unwrap();
    journal.close();
}

#[test]
fn a_changed_row_is_found_at_the_checkpoint() {
    let (folder, node) = node();
    let copy = killed(folder.path());
    plant(copy.path(), 7, |applied| applied);
    let error = open(copy.path())
        .group
        .verify_sums()
        .unwrap_err()
        .to_string();
    let place = "corruption in tables of group 1, tree 1000: expected 20 rows with checksum ";
    assert!(error.starts_with(place), "{error}");
    node.stop();
}

#[test]
fn a_row_that_no_entry_wrote_is_found_after_the_replay() {
    let (folder, node) = node();
    let copy = killed(folder.path());
    plant(copy.path(), 1000, Position::next);
    let stopped = open(copy.path());
    stopped.group.verify_sums().unwrap();
    raft::replay(&stopped.journal, &stopped.group).unwrap();
    let error = stopped.group.verify_sums().unwrap_err().to_string();
    assert!(
        error.contains("expected 79 rows") && error.contains("found 80 rows"),
        "{error}"
    );
    node.stop();
}

#[test]
fn tables_ahead_of_the_journal_are_found() {
    let (folder, node) = node();
    node.runtime.block_on(node.node.checkpoint()).unwrap();
    let copy = killed(folder.path());
    plant(copy.path(), 1000, |applied| {
        Position(applied.0 + 1_000_000_000)
    });
    let stopped = open(copy.path());
    let error = raft::replay(&stopped.journal, &stopped.group)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "group 1: the tables hold entries that the journal does not have"
    );
    node.stop();
}

#[test]
fn rafts_own_records_are_told_in_words() {
    let (folder, node) = node();
    let mut told = Vec::new();
    for (_, _, record) in journal::inspect(Arc::new(RealDisk), &folder.path().join("journal")) {
        let record = record.unwrap();
        told.extend(raft::describe(&record).filter(|_| record.group == GROUP));
    }
    assert!(
        told.contains(&"voters node 1 (join 1)".to_owned()),
        "{told:?}"
    );
    assert!(told.contains(&"a leader begins".to_owned()), "{told:?}");
    assert!(
        told.iter()
            .any(|t| t.starts_with("vote in term 1 for node 1 (join 1)")),
        "{told:?}"
    );
    let checkpoint = &storage::read_checkpoint(&folder.path().join("tables")).unwrap();
    let of_group = checkpoint.iter().find(|c| c.group == GROUP).unwrap();
    let state = raft::describe_state(&of_group.raft_state().unwrap());
    assert_eq!(state, "voters node 1 (join 1) since index 0 of term 0");
    assert_eq!(raft::describe_state(b"x"), "damaged");
    node.stop();
}
