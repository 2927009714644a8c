//! What every table store must do, against a model: random operations with reopening, and the
//! sentences of the contract one by one. `STORE_SEEDS=n` runs n seeds instead of four.
#![allow(clippy::unwrap_used)]

mod random;
#[path = "../store_model/mod.rs"]
mod store_model;

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use storage::{
    Checkpoint, Direction, ErasedKeys, Error, GroupId, KEY_BYTES_MAX, Position, Scan, StoreKind,
    StoreOptions, TableStore, TreeId,
};
use store_model::*;

use self::random::random_operations_agree_with_the_model;

const T: TreeId = TreeId {
    group: GroupId(1),
    number: 7,
};
const ALL: Range = (Bound::Unbounded, Bound::Unbounded);

/// One test per store.
macro_rules! for_each_store {
    ($($name:ident)*) => {
        mod lsm { $(#[test] fn $name() { super::$name(storage::StoreKind::Lsm) })* }
        mod sled { $(#[test] fn $name() { super::$name(storage::StoreKind::Sled) })* }
    };
}

for_each_store! {
    random_operations_agree_with_the_model
    reads_see_their_position_only
    readers_beside_a_writer_see_one_position
    a_read_below_the_horizon_is_refused
    the_horizon_outlives_a_restart
    a_tree_keeps_what_its_group_forgets
    of_erased_keys_a_tree_keeps_nothing
    a_purge_says_what_a_reader_of_the_past_holds_back
    a_purge_says_that_replaced_files_are_still_read
    what_is_dropped_is_told_until_it_is_gone
    the_folder_remembers_its_kind_and_is_locked
    a_dropped_tree_goes_with_the_checkpoint
    one_group_is_checkpointed_alone
    generations_of_a_number_are_told_apart_after_a_crash
    open_scans_survive_everything
    one_huge_entry_stays_within_memory
    limits_of_keys_are_errors
    scratch_is_a_map
    purge_removes_the_bytes
    damage_of_the_record_is_an_error
}

fn put(store: &dyn TableStore, tree: TreeId, at: u64, key: &str, value: Option<&str>) {
    let value = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
    let write = (Bytes::copy_from_slice(key.as_bytes()), value);
    store
        .write(tree, Position(at), &mut std::iter::once(write))
        .unwrap();
}

fn get(store: &dyn TableStore, tree: TreeId, at: u64, key: &str) -> Option<String> {
    let found = store.get(tree, key.as_bytes(), Position(at)).unwrap();
    found.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

fn checkpoint(store: &dyn TableStore, index: u64) {
    store
        .begin_checkpoint(checkpoint_at(index))
        .unwrap()
        .finish()
        .unwrap();
}

fn reads_see_their_position_only(kind: StoreKind) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(kind, dir.path());
    assert_eq!(get(&*store, T, 9, "k"), None);
    put(&*store, T, 10, "k", Some("a"));
    put(&*store, T, 100, "k", Some("b"));
    put(&*store, T, 200, "k", None);
    for round in 0..3 {
        assert_eq!(get(&*store, T, 9, "k"), None, "round {round}");
        assert_eq!(get(&*store, T, 10, "k").as_deref(), Some("a"));
        assert_eq!(get(&*store, T, 99, "k").as_deref(), Some("a"));
        assert_eq!(get(&*store, T, 199, "k").as_deref(), Some("b"));
        assert_eq!(get(&*store, T, 200, "k"), None);
        assert_eq!(store.get(T, b"k", Position::MAX).unwrap(), None);
        assert_eq!(
            rows(&*store, T, &ALL, Position(150), Direction::Forward).len(),
            1
        );
        checkpoint(&*store, round);
    }
    // Between two versions of which the older one is below the horizon.
    store.set_horizon(T.group, Position(60));
    store.purge(T).unwrap();
    put(&*store, T, 300, "other", Some("c"));
    checkpoint(&*store, 9);
    store.purge(T).unwrap();
    assert_eq!(get(&*store, T, 60, "k").as_deref(), Some("a"));
    assert_eq!(get(&*store, T, 100, "k").as_deref(), Some("b"));
    assert_eq!(get(&*store, T, 250, "k"), None);
    assert_eq!(store.trees(), [T]);
}

/// A sum that every entry keeps, spread over two trees: a reader that sees two positions, or
/// loses a version, finds another sum.
fn readers_beside_a_writer_see_one_position(kind: StoreKind) {
    const ACCOUNTS: u64 = 60;
    const SUM: u64 = ACCOUNTS * 1000;
    let dir = tempfile::tempdir().unwrap();
    let store = open(kind, dir.path());
    let tree = |number| TreeId {
        number: 7 + (number % 2) as u32,
        ..T
    };
    let row = |number: u64, amount: u64| {
        let value = [&amount.to_be_bytes()[..], &[0; 100]].concat();
        (
            Bytes::copy_from_slice(&number.to_be_bytes()),
            Some(Bytes::from(value)),
        )
    };
    let mut amounts = vec![1000u64; ACCOUNTS as usize];
    for (number, &amount) in (0u64..).zip(&amounts) {
        store
            .write(
                tree(number),
                position(1),
                &mut std::iter::once(row(number, amount)),
            )
            .unwrap();
    }
    let visible = AtomicU64::new(1);
    let read_amount = |value: &Bytes| u64::from_be_bytes(value[..8].try_into().unwrap());
    let scan_sum = |at, direction| -> Result<u64, Error> {
        let mut sum = 0;
        for number in 0..2 {
            for row in store.scan(tree(number), ALL, at, direction)? {
                sum += read_amount(&row?.1);
            }
        }
        Ok(sum)
    };
    let get_sum = |at| -> Result<u64, Error> {
        let amount = |number: u64| {
            let found = store.get(tree(number), &number.to_be_bytes(), at)?;
            Ok(read_amount(&found.unwrap()))
        };
        (0..ACCOUNTS).map(amount).sum()
    };
    let reader = |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut sums = 0;
        loop {
            let newest = visible.load(Ordering::Acquire);
            if newest == u64::MAX {
                return sums;
            }
            let at = position(newest.saturating_sub(rng.random_range(0..40)).max(1));
            let sum = match rng.random_range(0..3) {
                0 => scan_sum(at, Direction::Forward),
                1 => scan_sum(at, Direction::Backward),
                _ => get_sum(at),
            };
            match sum {
                Ok(sum) => assert_eq!(sum, SUM, "at {at}"),
                Err(Error::TooOld { .. }) => continue,
                Err(error) => panic!("{error}"),
            }
            sums += 1;
        }
    };
    let sums: u64 = std::thread::scope(|scope| {
        let readers = [1, 2].map(|seed| scope.spawn(move || reader(seed)));
        let mut rng = StdRng::seed_from_u64(9);
        let mut finishing = None;
        for index in 2..env_number("STORE_STEPS", 4000) {
            let (from, to) = (rng.random_range(0..ACCOUNTS), rng.random_range(0..ACCOUNTS));
            let moved = rng.random_range(0..=amounts[from as usize]);
            amounts[from as usize] -= moved;
            amounts[to as usize] += moved;
            for number in BTreeSet::from([from, to]) {
                let row = row(number, amounts[number as usize]);
                store
                    .write(tree(number), position(index), &mut std::iter::once(row))
                    .unwrap();
            }
            visible.store(index, Ordering::Release);
            if index.is_multiple_of(10) && index > 30 {
                store.set_horizon(T.group, position(index - 30));
            }
            if index.is_multiple_of(100) {
                let begun = store.begin_checkpoint(checkpoint_at(index)).unwrap();
                finishing = Some(scope.spawn(move || begun.finish().unwrap()));
            }
            if index.is_multiple_of(1000) {
                store.purge(T).unwrap();
            }
        }
        drop(finishing);
        visible.store(u64::MAX, Ordering::Release);
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .sum()
    });
    assert!(sums > 0);
}

fn a_read_below_the_horizon_is_refused(kind: StoreKind) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(kind, dir.path());
    put(&*store, T, 10, "k", Some("a"));
    store.set_horizon(T.group, Position(10));
    store.set_horizon(T.group, Position(5));
    assert_eq!(store.horizon(T.group), Position(10));
    let old = store.get(T, b"k", Position(9)).unwrap_err();
    assert!(
        matches!(
            old,
            Error::TooOld {
                at: Position(9),
                horizon: Position(10)
            }
        ),
        "{old:?}"
    );
    let unknown = TreeId { number: 99, ..T };
    assert!(store.get(unknown, b"k", Position(9)).is_err());
    assert!(
        store
            .scan(unknown, ALL, Position(9), Direction::Forward)
            .is_err()
    );
    assert_eq!(
        get(
            &*store,
            TreeId {
                group: GroupId(0),
                ..T
            },
            1,
            "k"
        ),
        None
    );
    assert_eq!(get(&*store, T, 10, "k").as_deref(), Some("a"));
}

fn the_horizon_outlives_a_restart(kind: StoreKind) {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = open(kind, dir.path());
        put(&*store, T, 10, "k", Some("a"));
        put(&*store, T, 20, "k", Some("b"));
        store.set_horizon(T.group, Position(15));
        checkpoint(&*store, 1);
    }
    let store = open(kind, dir.path());
    assert_eq!(store.horizon(T.group), Position(15));
    assert!((15..=20).contains(&store.persisted(T.group).0));
    assert!(store.get(T, b"k", Position(14)).is_err());
    assert_eq!(get(&*store, T, 15, "k").as_deref(), Some("a"));
}

/// What a tree keeps: through flushes, compactions, purges and restarts, and as long as it is kept.
fn a_tree_keeps_what_its_group_forgets(kind: StoreKind) {
    let dir = tempfile::tempdir().unwrap();
    let other = TreeId { number: 8, ..T };
    let mut store = open(kind, dir.path());
    put(&*store, T, 5, "k", Some("gone"));
    store.set_horizon(T.group, Position(10));
    put(&*store, T, 10, "k", Some("a"));
    store.keep(T, Some(Position(12))).unwrap();
    assert_eq!(store.kept(T), Position(10));
    for tree in [T, other] {
        put(&*store, tree, 20, "k", Some("b"));
        put(&*store, tree, 30, "k", None);
        put(&*store, tree, 40, "k", Some("c"));
    }
    let pairs = |store: &dyn TableStore, from: u64| -> Vec<(u64, Option<Bytes>)> {
        let versions = store.versions(T, ALL, Position(from), Position(50));
        let versions = versions.unwrap().map(|version| version.unwrap());
        versions.map(|v| (v.position.0, v.value)).collect()
    };
    store.set_horizon(T.group, Position(50));
    for round in 0..4 {
        assert_eq!(store.kept(T), Position(12), "round {round}");
        assert_eq!(get(&*store, T, 12, "k").as_deref(), Some("a"));
        assert_eq!(get(&*store, T, 29, "k").as_deref(), Some("b"));
        assert_eq!(get(&*store, T, 30, "k"), None);
        assert_eq!(
            rows(&*store, T, &ALL, Position(20), Direction::Backward).len(),
            1
        );
        let all: Vec<u64> = pairs(&*store, 12).iter().map(|(at, _)| *at).collect();
        assert_eq!(all, [10, 20, 30, 40]);
        assert!(store.get(T, b"k", Position(11)).is_err());
        assert!(store.versions(T, ALL, Position(11), Position(50)).is_err());
        assert!(store.get(other, b"k", Position(49)).is_err());
        checkpoint(&*store, round + 1);
        store.purge(T).unwrap();
        store.purge(other).unwrap();
        if round == 1 {
            drop(store);
            store = open(kind, dir.path());
        }
    }
    store.keep(T, Some(Position(30))).unwrap();
    assert!(store.get(T, b"k", Position(29)).is_err());
    checkpoint(&*store, 9);
    store.purge(T).unwrap();
    assert_eq!(pairs(&*store, 30).len(), 1, "the deletion is not needed");
    // Kept again: from now on.
    store.keep(T, None).unwrap();
    assert_eq!(store.kept(T), Position(50));
    store.keep(T, Some(Position(30))).unwrap();
    assert_eq!(store.kept(T), Position(50));
    // A tree that comes with its history.
    let come = TreeId { number: 9, ..T };
    store.keep(come, Some(Position(15))).unwrap();
    put(&*store, come, 14, "a", Some("old"));
    put(&*store, come, 45, "a", Some("new"));
    put(&*store, come, 16, "b", Some("other"));
    checkpoint(&*store, 10);
    store.purge(come).unwrap();
    drop(store);
    let store = open(kind, dir.path());
    assert_eq!(get(&*store, come, 15, "a").as_deref(), Some("old"));
    assert_eq!(get(&*store, come, 45, "a").as_deref(), Some("new"));
    assert_eq!(get(&*store, come, 15, "b"), None);
    assert_eq!(get(&*store, come, 16, "b").as_deref(), Some("other"));
}

fn the_folder_remembers_its_kind_and_is_locked(kind: StoreKind) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(kind, dir.path());
    let again = storage::open(kind, dir.path(), small_options())
        .err()
        .unwrap();
    assert!(
        again.to_string().ends_with("are in use by another process"),
        "{again}"
    );
    drop(store);
    let other = match kind {
        StoreKind::Lsm => StoreKind::Sled,
        StoreKind::Sled => StoreKind::Lsm,
    };
    let refused = storage::open(other, dir.path(), small_options())
        .err()
        .unwrap();
    let expected = format!(
        "belong to the table store \"{}\", not \"{}\"",
        kind.name(),
        other.name()
    );
    assert!(refused.to_string().ends_with(&expected), "{refused}");
    open(kind, dir.path());
}

fn a_dropped_tree_goes_with_the_checkpoint(kind: StoreKind) {
    let dir = tempfile::tempdir().unwrap();
    let other = TreeId { number: 8, ..T };
    {
        let store = open(kind, dir.path());
        put(&*store, T, 10, "k", Some("a"));
        put(&*store, other, 10, "k", Some("a"));
        checkpoint(&*store, 1);
        store.drop_tree(T).unwrap();
        store.drop_tree(T).unwrap();
        assert_eq!(store.trees(), [other]);
        assert_eq!(get(&*store, T, 10, "k"), None);
        put(&*store, T, 20, "again", Some("b"));
        assert_eq!(get(&*store, T, 20, "k"), None);
    }
    {
        // The drop came after the checkpoint: the tree is back, until the replay drops it.
        let store = open(kind, dir.path());
        assert_eq!(get(&*store, T, 20, "k").as_deref(), Some("a"));
        store.drop_tree(T).unwrap();
        put(&*store, T, 20, "again", Some("b"));
        checkpoint(&*store, 2);
        assert_eq!(get(&*store, T, 20, "again").as_deref(), Some("b"));
        store.drop_tree(T).unwrap();
        checkpoint(&*store, 3);
        put(&*store, T, 30, "third", Some("c"));
        checkpoint(&*store, 4);
        checkpoint(&*store, 5);
    }
    let store = open(kind, dir.path());
    assert_eq!(
        rows(&*store, T, &ALL, Position(30), Direction::Forward).len(),
        1
    );
    assert_eq!(get(&*store, T, 30, "third").as_deref(), Some("c"));
    store.drop_tree(T).unwrap();
    checkpoint(&*store, 6);
    assert_eq!(store.trees(), [other]);
    assert_eq!(store.disk_bytes(T), 0);
    drop(store);
    let store = open(kind, dir.path());
    assert_eq!(store.trees(), [other]);
}

/// Of the other groups the record says nothing new, and nothing of theirs goes.
fn one_group_is_checkpointed_alone(kind: StoreKind) {
    let dir = tempfile::tempdir().unwrap();
    let other = TreeId {
        group: GroupId(T.group.0 - 1),
        ..T
    };
    let next = |tree: TreeId| TreeId {
        number: tree.number + 1,
        ..tree
    };
    let store = open(kind, dir.path());
    for tree in [T, next(T), other, next(other)] {
        put(&*store, tree, 10, "k", Some("a"));
    }
    checkpoint(&*store, 1);
    for tree in [T, other] {
        put(&*store, tree, 20, "k", Some("b"));
        store.drop_tree(next(tree)).unwrap();
    }
    let of_group = |group: GroupId, index: u64| {
        let all = checkpoint_at(index).into_iter();
        all.into_iter().find(|c| c.group == group).unwrap()
    };
    let alone = store.begin_checkpoint_of(of_group(T.group, 2));
    alone.unwrap().finish().unwrap();
    drop(store);
    let store = open(kind, dir.path());
    let found: Vec<_> = store.checkpoint();
    assert!(found.contains(&of_group(T.group, 2)) && found.contains(&of_group(other.group, 1)));
    assert_eq!(store.trees(), [other, next(other), T]);
    assert_eq!(get(&*store, T, 20, "k").as_deref(), Some("b"));
    assert_eq!(get(&*store, next(other), 20, "k").as_deref(), Some("a"));
}

fn generations_of_a_number_are_told_apart_after_a_crash(kind: StoreKind) {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = open(kind, dir.path());
        put(&*store, T, 10, "first", Some("a"));
        checkpoint(&*store, 1);
        let mut scan = store
            .scan(T, ALL, Position(10), Direction::Forward)
            .unwrap();
        store.drop_tree(T).unwrap();
        checkpoint(&*store, 2);
        put(&*store, T, 20, "second", Some("b"));
        checkpoint(&*store, 3);
        assert!(scan.next().is_some());
        drop(scan);
        checkpoint(&*store, 4);
        // The first generation is gone, the second is the checkpoint's, the third is not.
        store.drop_tree(T).unwrap();
        put(&*store, T, 30, "third", Some("c"));
        store.purge(T).unwrap();
    }
    let store = open(kind, dir.path());
    assert_eq!(get(&*store, T, 30, "second").as_deref(), Some("b"));
    assert_eq!(
        rows(&*store, T, &ALL, Position(30), Direction::Forward).len(),
        1
    );
}

fn open_scans_survive_everything(kind: StoreKind) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(kind, dir.path());
    let name = |n: u64| format!("{n:05}");
    for n in 0..2000 {
        put(&*store, T, 10, &name(n), Some(&name(n).repeat(20)));
    }
    let scan = |direction| store.scan(T, ALL, Position(15), direction).unwrap();
    let mut scans = [scan(Direction::Forward), scan(Direction::Backward)];
    let take = |scans: &mut [Scan; 2], from: u64, to: u64| {
        for n in from..to {
            assert_eq!(scans[0].next().unwrap().unwrap().0, name(n));
            assert_eq!(scans[1].next().unwrap().unwrap().0, name(1999 - n));
        }
    };
    take(&mut scans, 0, 300);
    for n in 0..2000 {
        put(&*store, T, 20, &name(n), (n % 2 == 0).then_some("new"));
    }
    store.set_horizon(T.group, Position(20));
    checkpoint(&*store, 1);
    take(&mut scans, 300, 600);
    store.purge(T).unwrap();
    checkpoint(&*store, 2);
    take(&mut scans, 600, 900);
    store.drop_tree(T).unwrap();
    checkpoint(&*store, 3);
    take(&mut scans, 900, 2000);
    assert!(scans.iter_mut().all(|scan| scan.next().is_none()));
}

fn one_huge_entry_stays_within_memory(kind: StoreKind) {
    let dir = tempfile::tempdir().unwrap();
    let options = small_options();
    let max = options.memtable_bytes_max;
    let store = storage::open(kind, dir.path(), options).unwrap();
    let rows_max = 40_000u32;
    let mut greatest = 0;
    let mut writes = (0..rows_max).map(|n| {
        greatest = greatest.max(store.memory());
        (
            Bytes::copy_from_slice(&n.to_be_bytes()),
            Some(Bytes::from(vec![7; 60])),
        )
    });
    store.write(T, Position(10), &mut writes).unwrap();
    assert!(greatest < max * 2, "{greatest} bytes of {max}");
    let first = rows(&*store, T, &ALL, Position(10), Direction::Forward);
    assert_eq!(first.len(), rows_max as usize);
    assert!(rows(&*store, T, &ALL, Position(9), Direction::Forward).is_empty());
    checkpoint(&*store, 1);
    drop(store);
    let store = open(kind, dir.path());
    assert_eq!(
        rows(&*store, T, &ALL, Position(10), Direction::Backward).len(),
        40_000
    );
}

fn limits_of_keys_are_errors(kind: StoreKind) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(kind, dir.path());
    let long = Bytes::from(vec![b'x'; KEY_BYTES_MAX]);
    let longer = Bytes::from(vec![b'x'; KEY_BYTES_MAX + 1]);
    let value = Some(Bytes::from_static(b"v"));
    let write =
        |key: &Bytes, at| store.write(T, at, &mut std::iter::once((key.clone(), value.clone())));
    write(&long, Position(5)).unwrap();
    assert!(write(&longer, Position(5)).is_err());
    assert!(write(&Bytes::new(), Position(5)).is_err());
    assert!(write(&long, Position::MAX).is_err());
    checkpoint(&*store, 1);
    assert_eq!(store.get(T, &long, Position(5)).unwrap(), value);
    assert_eq!(store.get(T, &longer, Position(5)).unwrap(), None);
    assert_eq!(store.get(T, b"", Position(5)).unwrap(), None);
    let found = |range: Range| {
        let forward = rows(&*store, T, &range, Position(5), Direction::Forward).len();
        let backward = rows(&*store, T, &range, Position(5), Direction::Backward).len();
        assert_eq!(forward, backward);
        forward
    };
    assert_eq!(
        found((Bound::Unbounded, Bound::Included(longer.clone()))),
        1
    );
    assert_eq!(found((Bound::Included(longer), Bound::Unbounded)), 0);
    assert_eq!(
        found((Bound::Included(long.clone()), Bound::Included(long.clone()))),
        1
    );
    assert_eq!(
        found((Bound::Excluded(long.clone()), Bound::Excluded(long))),
        0
    );
    assert_eq!(found((Bound::Included(Bytes::new()), Bound::Unbounded)), 1);
}

fn scratch_is_a_map(kind: StoreKind) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(kind, dir.path());
    let mut scratch = store.scratch().unwrap();
    let mut model = std::collections::BTreeMap::new();
    let mut rng = StdRng::seed_from_u64(5);
    for _ in 0..30_000 {
        let key = rng.random_range(0..20_000u32).to_be_bytes();
        if rng.random_bool(0.2) {
            scratch.remove(&key).unwrap();
            model.remove(&key[..]);
        } else {
            let value = vec![rng.random::<u8>(); 700];
            scratch.put(&key, &value).unwrap();
            model.insert(key.to_vec(), value);
        }
    }
    let range = (
        Bound::Unbounded,
        Bound::Included(Bytes::from_static(b"\0\0\x10")),
    );
    for direction in [Direction::Forward, Direction::Backward] {
        let scan = scratch.scan(range.clone(), direction).unwrap();
        let found: Vec<_> = scan.map(|row| row.unwrap()).collect();
        let within = model.iter().filter(|(key, _)| key[..] <= b"\0\0\x10"[..]);
        let mut expected: Vec<_> = within.collect();
        if direction == Direction::Backward {
            expected.reverse();
        }
        assert!(
            found
                .iter()
                .map(|(k, v)| (&k[..], &v[..]))
                .eq(expected.iter().map(|(k, v)| (&k[..], &v[..])))
        );
    }
    for key in (0..20_000u32).map(u32::to_be_bytes) {
        let expected = model.get(&key[..]).map(|value| Bytes::from(value.clone()));
        assert_eq!(scratch.get(&key).unwrap(), expected);
    }
    let mut scan = scratch.scan(ALL, Direction::Forward).unwrap();
    assert!(scan.next().is_some());
    drop(scratch);
    assert!(scan.next().is_some());
    drop(scan);
    assert_eq!(
        std::fs::read_dir(dir.path().join("tmp")).unwrap().count(),
        0
    );
    // What a crash leaves behind is gone after the next open.
    std::fs::create_dir(dir.path().join("tmp/left")).unwrap();
    drop(store);
    open(kind, dir.path());
    assert_eq!(
        std::fs::read_dir(dir.path().join("tmp")).unwrap().count(),
        0
    );
}

/// Without repetitions, so that compression leaves them as they are.
const MARK_KEY: &str = "jH4$kM8";
const MARK_VALUE: &str = "Zq7#xW9!pL2";

/// Whether any file below a folder holds these bytes.
fn on_disk(dir: &std::path::Path, needle: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return on_disk(&path, needle);
        }
        let content = std::fs::read(&path).unwrap();
        content.windows(needle.len()).any(|window| window == needle)
    })
}

fn of_erased_keys_a_tree_keeps_nothing(kind: StoreKind) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(kind, dir.path());
    store.keep(T, Some(Position(5))).unwrap();
    // Keys with the byte that sled escapes, too.
    let keys = ["gone", "came\0again", "stays"];
    for key in keys {
        put(&*store, T, 10, key, Some(&format!("{MARK_VALUE} {key}")));
        put(&*store, T, 20, key, None);
    }
    put(&*store, T, 30, keys[1], Some("new"));
    store.set_horizon(T.group, Position(20));
    checkpoint(&*store, 1);
    let removed = |keys: &[&'static str], at: u64| -> Arc<ErasedKeys> {
        let key = |key: &&'static str| (Bytes::from_static(key.as_bytes()), Position(at));
        Arc::new(keys.iter().map(key).collect())
    };
    let found = |store: &dyn TableStore, key: &str| {
        let only = Bound::Included(Bytes::copy_from_slice(key.as_bytes()));
        let versions = store.versions(T, (only.clone(), only), Position(5), Position(40));
        let at = |v: storage::Result<storage::RowVersion>| v.unwrap().position.0;
        versions.unwrap().map(at).collect::<Vec<_>>()
    };
    // A removal above the horizon has to wait.
    assert!(store.erase(T, &removed(&keys, 21)).unwrap() >= Position(20));
    for key in keys {
        assert_eq!(found(&*store, key)[..2], [10, 20], "{key}");
    }
    store.erase(T, &removed(&keys[..2], 20)).unwrap();
    for round in 0..3 {
        assert_eq!(found(&*store, keys[0]), [0; 0], "round {round}");
        assert_eq!(found(&*store, keys[1]), [30]);
        assert_eq!(found(&*store, keys[2]), [10, 20]);
        assert_eq!(get(&*store, T, 15, keys[0]), None);
        assert!(get(&*store, T, 15, keys[2]).is_some());
        for key in &keys[..2] {
            assert!(!on_disk(
                dir.path(),
                format!("{MARK_VALUE} {key}").as_bytes()
            ));
        }
        match round {
            0 => drop(store.purge(T).unwrap()),
            _ => {
                drop(store);
                store = open(kind, dir.path());
            }
        }
    }
}

fn a_purge_says_what_a_reader_of_the_past_holds_back(kind: StoreKind) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(kind, dir.path());
    let other = TreeId { number: 8, ..T };
    store.keep(T, Some(Position(5))).unwrap();
    for tree in [T, other] {
        put(&*store, tree, 10, "k", Some("a"));
        put(&*store, tree, 20, "k", None);
    }
    store.set_horizon(T.group, Position(30));
    let past = store
        .scan(T, ALL, Position(12), Direction::Forward)
        .unwrap();
    checkpoint(&*store, 1);
    assert!(store.purge(other).unwrap() < Position(20));
    drop(past);
    assert!(store.purge(other).unwrap() >= Position(20));
}

/// A scan above the horizon needs nothing of what goes, but it holds the files that it began with.
fn a_purge_says_that_replaced_files_are_still_read(kind: StoreKind) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(kind, dir.path());
    put(&*store, T, 10, "other", Some("a"));
    put(&*store, T, 11, MARK_KEY, Some(MARK_VALUE));
    checkpoint(&*store, 1);
    put(&*store, T, 20, MARK_KEY, None);
    store.set_horizon(T.group, Position(30));
    let scan = |at| {
        store
            .scan(T, ALL, Position(at), Direction::Forward)
            .unwrap()
    };
    let mut open = scan(30);
    let secret_is_there = || on_disk(dir.path(), MARK_VALUE.as_bytes());
    assert_eq!(store.purge(T).unwrap(), Position::ZERO);
    assert!(secret_is_there(), "in the file that the scan reads");
    // Nor does it hide behind a later one.
    assert_eq!(store.purge(T).unwrap(), Position::ZERO);
    let later = scan(31);
    assert_eq!(open.next().unwrap().unwrap().0, "other");
    drop(open);
    assert!(!secret_is_there());
    put(&*store, T, 40, "more", Some("b"));
    assert_eq!(store.purge(T).unwrap(), Position::ZERO, "another is open");
    drop(later);
    assert_eq!(store.purge(T).unwrap(), Position(30));
}

fn what_is_dropped_is_told_until_it_is_gone(kind: StoreKind) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(kind, dir.path());
    let living = TreeId { number: 8, ..T };
    put(&*store, T, 10, MARK_KEY, Some(MARK_VALUE));
    put(&*store, living, 10, "k", Some("a"));
    checkpoint(&*store, 1);
    assert!(!store.has_dropped(T.group));
    let scan = store
        .scan(T, ALL, Position(10), Direction::Forward)
        .unwrap();
    store.drop_tree(T).unwrap();
    assert!(store.has_dropped(T.group));
    assert!(!store.has_dropped(GroupId(2)));
    checkpoint(&*store, 2);
    assert!(store.has_dropped(T.group), "it is being read");
    drop(scan);
    checkpoint(&*store, 3);
    assert!(!store.has_dropped(T.group));
    store.set_horizon(T.group, Position(10));
    store.purge(living).unwrap();
    assert!(!on_disk(dir.path(), MARK_VALUE.as_bytes()));
}

fn purge_removes_the_bytes(kind: StoreKind) {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        memtable_bytes_max: 8 << 20,
        ..small_options()
    };
    let store = storage::open(kind, dir.path(), options).unwrap();
    let other = TreeId { number: 8, ..T };
    for n in 0..500 {
        put(
            &*store,
            T,
            10,
            &format!("{n:03}"),
            Some(&format!("other value {n}")),
        );
        put(&*store, other, 10, &format!("{n:03}"), Some("beside"));
    }
    put(&*store, T, 11, MARK_KEY, Some(MARK_VALUE));
    checkpoint(&*store, 1);
    store.purge(T).unwrap();
    assert!(on_disk(dir.path(), MARK_VALUE.as_bytes()));
    put(&*store, T, 20, MARK_KEY, None);
    store.set_horizon(T.group, Position(20));
    checkpoint(&*store, 2);
    store.purge(T).unwrap();
    assert!(
        !on_disk(dir.path(), MARK_VALUE.as_bytes()),
        "the value is still in a file"
    );
    assert!(
        !on_disk(dir.path(), MARK_KEY.as_bytes()),
        "the key is still in a file"
    );
    let names = |tree| -> BTreeSet<_> {
        let rows = rows(&*store, tree, &ALL, Position(20), Direction::Forward);
        rows.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(names(T).len(), 500);
    assert_eq!(names(other).len(), 500);
    put(&*store, T, 30, MARK_KEY, Some("new"));
    assert_eq!(get(&*store, T, 30, MARK_KEY).as_deref(), Some("new"));
}

fn damage_of_the_record_is_an_error(kind: StoreKind) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(kind, dir.path());
    put(&*store, T, 10, "k", Some("a"));
    checkpoint(&*store, 1);
    drop(store);
    let path = dir.path().join("checkpoint");
    let good = std::fs::read(&path).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &bad).unwrap();
    let error = storage::open(kind, dir.path(), small_options())
        .err()
        .unwrap();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    std::fs::remove_file(&path).unwrap();
    let error = storage::open(kind, dir.path(), small_options())
        .err()
        .unwrap();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    std::fs::write(&path, &good).unwrap();
    open(kind, dir.path());
}
