//! A group over the table stores on disk: large and small transactions, a checkpoint in the
//! middle, and a restart that replays the rest of the log.

mod harness;

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use harness::*;
use storage::{
    Change, Changes, Commit, Direction, Group, GroupId, IndexWrite, LargeChanges, Local,
    ManualClock, Position, Result, StoreKind, StoreOptions, TableStore, system,
};

fn open(kind: StoreKind, dir: &Path) -> Arc<dyn TableStore> {
    storage::open(kind, dir, StoreOptions::default()).expect("opens")
}

struct Rows(u32);

impl LargeChanges for Rows {
    fn next(&mut self) -> Result<Option<Change>> {
        if self.0 == 0 {
            return Ok(None);
        }
        self.0 -= 1;
        let key = Bytes::from(format!("large{:06}", 100_000 - self.0));
        let index = IndexWrite {
            tree: INDEX,
            key: Bytes::from(format!("i{}", self.0)),
            value: Some(key.clone()),
        };
        let new = Some(Bytes::from(vec![b'x'; 2000]));
        Ok(Some(Change {
            tree: TREE,
            key,
            new,
            index: vec![index],
            ..Change::default()
        }))
    }

    fn trees(&self) -> Vec<u32> {
        vec![TREE, INDEX]
    }
}

fn begin(group: &Group) -> Tx {
    Tx {
        id: group.begin(),
        base: group.newest().expect("no barrier"),
        epoch: group.term().expect("leads"),
        changes: Vec::new(),
        checks: Vec::new(),
    }
}

fn rows(group: &Group, tree: u32, at: Position) -> Vec<(Bytes, Bytes)> {
    let all = (Bound::Unbounded, Bound::Unbounded);
    let scan = group
        .scan(tree, all, at, Direction::Forward)
        .expect("readable");
    scan.map(|row| row.expect("readable")).collect()
}

fn run(kind: StoreKind) {
    let dir = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(ManualClock::new(NOW));
    let other = GroupId(2);
    let (logs, expected, applied) = {
        let local = Local::journaled(open(kind, dir.path()), clock.clone());
        let group = local.lead(GROUP).expect("leads");
        let second = local.lead(other).expect("leads");
        for n in 0..300 {
            begin(&group)
                .put(&format!("k{}", n % 50), &n.to_string())
                .commit(&group)
                .expect("ok");
            begin(&second)
                .put("n", &n.to_string())
                .commit(&second)
                .expect("ok");
        }
        let changes = Changes::Large(Box::new(Rows(2000)));
        group
            .commit(Commit {
                changes,
                ..begin(&group).into_commit()
            })
            .expect("placed");
        local.groups().checkpoint(&*local).expect("written");
        for n in 0..50 {
            begin(&group)
                .remove(&format!("k{n}"))
                .put("last", "1")
                .commit(&group)
                .expect("ok");
        }
        let changes = Changes::Large(Box::new(Rows(1500)));
        let mut commit = Commit {
            changes,
            ..begin(&group).into_commit()
        };
        commit.dropped_trees = vec![7];
        commit.record_outcome = true;
        group.commit(commit).expect("placed");
        group.raise_horizon(Position::MAX).expect("raised");
        let at = group.applied();
        let expected = [TREE, INDEX, system::OUTCOMES].map(|tree| rows(&group, tree, at));
        assert_eq!(expected[0].len(), 2001);
        ([local.log(GROUP), local.log(other)], expected, at)
    };
    let local = Local::new(open(kind, dir.path()), clock);
    for (id, log) in [GROUP, other].into_iter().zip(logs) {
        let group = local.groups().open(id).expect("opens");
        assert!(group.applied_log().0.index.0 > 300);
        local.replay(id, log).expect("replayed");
    }
    let group = local.groups().get(GROUP).expect("held");
    assert!(group.ready());
    assert_eq!(group.applied(), applied);
    assert_eq!(
        [TREE, INDEX, system::OUTCOMES].map(|tree| rows(&group, tree, applied)),
        expected
    );
    let second = local.lead(other).expect("leads");
    let value = second.get(TREE, b"n", second.applied()).expect("readable");
    assert_eq!(text(value).as_deref(), Some("299"));
    begin(&second)
        .put("n", "300")
        .commit(&second)
        .expect("goes on");
}

#[test]
fn on_lsm_tree() {
    run(StoreKind::Lsm);
}

#[test]
fn on_sled() {
    run(StoreKind::Sled);
}
