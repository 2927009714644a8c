//! The sums that apply keeps of each table: right after random transactions, restarts, large
//! transactions and drops, and wrong as soon as a table is changed behind the group's back.

mod harness;

use std::sync::Arc;

use harness::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use storage::{
    Change, Changes, Commit, Error, Group, Local, PART_BYTES_MAX, Proposed, TableStore, TreeId,
};

const OTHER_TREE: u32 = 1002;

/// A change that says what was there before, as sql's changes do.
fn change(group: &Group, tree: u32, key: &str, new: Option<String>) -> Change {
    let newest = group.newest().expect("no barrier");
    Change {
        tree,
        feed: true,
        key: bytes(key),
        old: group.get(tree, key.as_bytes(), newest).expect("readable"),
        new: new.map(|new| bytes(&new)),
        ..Change::default()
    }
}

fn commit(group: &Group, node: &Node, changes: Vec<Change>, dropped_trees: Vec<u32>) {
    let numbered = changes
        .into_iter()
        .zip(0..)
        .map(|(change, seq)| Change { seq, ..change });
    let mut tx = node.begin();
    (tx.id, tx.base, tx.epoch) = (
        group.begin(),
        group.newest().expect("no barrier"),
        group.term().expect("leads"),
    );
    let changes = Changes::Small(numbered.collect());
    group
        .commit(Commit {
            changes,
            dropped_trees,
            ..tx.into_commit()
        })
        .expect("no conflict");
}

/// A few rows of random keys, put or removed, some of them with an index write.
fn random_changes(group: &Group, random: &mut StdRng) -> Vec<Change> {
    let mut keys: Vec<(u32, u32)> = Vec::new();
    for _ in 0..random.random_range(1..6) {
        let tree = [TREE, OTHER_TREE][random.random_range(0..2)];
        keys.push((tree, random.random_range(0..40)));
    }
    keys.sort_unstable();
    keys.dedup();
    let row = |(tree, n): (u32, u32)| {
        let put = random.random_range(0..4) > 0;
        let value = put.then(|| format!("v{}", random.random_range(0..1000)));
        let mut change = change(group, tree, &format!("k{n}"), value.clone());
        if tree == TREE {
            change.index.push(storage::IndexWrite {
                tree: INDEX,
                key: bytes(&format!("i{n}")),
                value: value.map(|_| bytes(&format!("k{n}"))),
            });
        }
        change
    };
    let changes = keys.into_iter().map(row);
    // A row that was not there and is not there now is no change.
    changes
        .filter(|change| change.old.is_some() || change.new.is_some())
        .collect()
}

/// The store after a crash: everything of the checkpoint, and any part of what came later.
fn restart(node: &Node, random: &mut StdRng) -> (Arc<Local>, Arc<Group>) {
    let store = node.store.crash(|_, _, _| random.random());
    let local = Local::journaled(store as Arc<dyn TableStore>, node.clock.clone());
    let group = local.groups().open(GROUP).expect("opens");
    (local, group)
}

#[test]
fn sums_are_right_after_random_transactions_and_at_every_restart() {
    for seed in 0..30 {
        let random = &mut StdRng::seed_from_u64(seed);
        let node = Node::new();
        for step in 0..60 {
            let changes = random_changes(&node.group, random);
            commit(&node.group, &node, changes, Vec::new());
            if random.random_range(0..20) == 0 {
                node.local
                    .groups()
                    .checkpoint(&*node.local)
                    .expect("written");
            }
            let sums = node.group.verify_sums();
            sums.unwrap_or_else(|error| panic!("seed {seed}, step {step}: {error}"));
        }
        let expected = node.group.verify_sums().expect("checked");
        let (local, group) = restart(&node, random);
        group
            .verify_sums()
            .unwrap_or_else(|e| panic!("seed {seed}, at the checkpoint: {e}"));
        let group = local
            .replay(GROUP, node.local.log(GROUP))
            .expect("replayed");
        let again = group.verify_sums();
        let again = again.unwrap_or_else(|e| panic!("seed {seed}, replayed: {e}"));
        assert_eq!(again, expected, "seed {seed}");
        assert_eq!(again.tables, 2, "seed {seed}: an index has no sum");
        let written = |group: &Group| [TREE, OTHER_TREE, INDEX].map(|tree| group.written(tree));
        assert_eq!(written(&group), written(&node.group), "seed {seed}");
        let [table, _, index] = written(&group);
        assert!(table.is_some() && index.is_none(), "seed {seed}");
    }
}

#[test]
fn parts_count_with_their_entry_even_if_a_checkpoint_comes_between() {
    let node = Node::new();
    let big = "x".repeat(PART_BYTES_MAX / 3);
    let put = |n: u32, value: String| change(&node.group, TREE, &format!("k{n}"), Some(value));
    commit(
        &node.group,
        &node,
        vec![put(3, "before".into())],
        Vec::new(),
    );
    let changes = (0..10).map(|n| put(n, format!("{n}{big}"))).collect();
    commit(&node.group, &node, changes, Vec::new());
    assert_eq!(node.group.verify_sums().expect("right").rows, 10);
    let log = node.local.log(GROUP);
    let parts = log
        .iter()
        .filter(|record| record.what == Some(Proposed::Part))
        .count();
    assert!(parts > 2, "{parts} parts");

    // Another node applies the same log and writes a checkpoint after each record.
    let mut store = storage::MemoryStore::new();
    for upto in 1..=log.len() {
        let local = Local::journaled(store.clone() as Arc<dyn TableStore>, node.clock.clone());
        let group = local.replay(GROUP, log[..upto].to_vec()).expect("replayed");
        group.verify_sums().expect("right");
        local.groups().checkpoint(&*local).expect("written");
        store = store.crash(|_, _, _| true);
    }
    let local = Local::journaled(store as Arc<dyn TableStore>, node.clock.clone());
    let group = local.groups().open(GROUP).expect("opens");
    let expected = node.group.verify_sums().expect("right");
    assert_eq!(group.verify_sums().expect("right"), expected);
    // The parts are written by their entry, the last one.
    assert_eq!(group.written(TREE), Some(node.group.applied()));
}

#[test]
fn a_dropped_tree_has_no_sum_any_more() {
    let node = Node::new();
    let put = |tree| change(&node.group, tree, "a", Some("1".into()));
    commit(
        &node.group,
        &node,
        vec![put(TREE), put(OTHER_TREE)],
        Vec::new(),
    );
    assert_eq!(node.group.verify_sums().expect("right").tables, 2);
    let last = change(&node.group, OTHER_TREE, "b", Some("2".into()));
    commit(&node.group, &node, vec![last], vec![OTHER_TREE]);
    assert_eq!(node.group.verify_sums().expect("right").tables, 1);
    assert_eq!(node.group.written(OTHER_TREE), None);
    node.local
        .groups()
        .checkpoint(&*node.local)
        .expect("written");
    let tables = node.store.checkpoint()[0].tables().expect("whole");
    assert_eq!(
        tables.iter().map(|(tree, _)| *tree).collect::<Vec<_>>(),
        [TREE]
    );
    let (_, group) = restart(&node, &mut StdRng::seed_from_u64(0));
    assert_eq!(group.verify_sums().expect("right").tables, 1);
}

#[test]
fn a_value_changed_behind_the_groups_back_is_found() {
    for value in [Some(bytes("x")), None] {
        let node = Node::new();
        let put = |key| change(&node.group, TREE, key, Some("1".into()));
        commit(&node.group, &node, vec![put("a"), put("b")], Vec::new());
        node.local
            .groups()
            .checkpoint(&*node.local)
            .expect("written");
        let tree = TreeId {
            group: GROUP,
            number: TREE,
        };
        let at = node.group.applied().next();
        node.store
            .write(tree, at, &mut [(bytes("b"), value)].into_iter())
            .expect("written");
        node.group.verify_sums().expect("not yet visible");
        commit(&node.group, &node, vec![put("c")], Vec::new());
        match node.group.verify_sums() {
            Err(Error::Corrupt { place, what }) => {
                assert!(place.ends_with("tree 1000"), "{place}");
                assert!(what.starts_with("expected 3 rows with checksum"), "{what}");
            }
            other => panic!("{other:?}"),
        }
    }
}
