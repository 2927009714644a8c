//! What only shows inside: how much the overlay keeps, and what pins hold.

use std::sync::Arc;

use super::overlay::{BYTES_MAX, KEEP_BYTES, Lookup, TreeWrite};
use super::*;
use crate::{Local, ManualClock, MemoryStore};

const TREE: u32 = 1000;

fn node() -> (Arc<Local>, Arc<Group>) {
    let local = Local::new(MemoryStore::new(), Arc::new(ManualClock::new(1 << 51)));
    let group = local.lead(GroupId(1)).expect("a new group");
    group.newest().expect("opens the era");
    (local, group)
}

fn put(group: &Group, key: &str, value: Bytes, checks: Vec<Check>) -> Result<Position, Refused> {
    let change = Change {
        tree: TREE,
        key: Bytes::copy_from_slice(key.as_bytes()),
        new: Some(value),
        ..Change::default()
    };
    group.commit(Commit {
        txid: group.begin(),
        epoch: group.term().expect("leads"),
        base: group.newest().expect("no barrier"),
        meta: crate::Meta::default(),
        changes: Changes::Small(vec![change]),
        events: Vec::new(),
        dropped_trees: Vec::new(),
        deps: Vec::new(),
        checks,
        record_outcome: false,
        keeps_locks: false,
    })
}

fn unchanged(key: &'static str, seen: Position) -> Vec<Check> {
    vec![Check::Key {
        tree: TREE,
        key: Bytes::from_static(key.as_bytes()),
        seen,
    }]
}

#[test]
fn the_overlay_stays_bounded_and_its_floor_rises() {
    let (_local, group) = node();
    let value = Bytes::from(vec![7; 100_000]);
    let first = put(&group, "first", Bytes::new(), Vec::new()).expect("ok");
    for n in 0..1000 {
        put(&group, &format!("k{}", n % 100), value.clone(), Vec::new()).expect("ok");
    }
    let floor = group.shared.overlay.read().floor();
    assert!(floor > first && floor < group.applied());
    assert_eq!(group.written_since(TREE, b"first", first), None);
    let refused = put(&group, "x", Bytes::new(), unchanged("first", first));
    assert!(
        matches!(refused, Err(Refused::Serialization(_))),
        "nobody knows any more"
    );
    put(&group, "x", Bytes::new(), unchanged("first", floor)).expect("unchanged since");
}

#[test]
fn a_pin_holds_the_floor_until_the_limit() {
    let (_local, group) = node();
    let value = Bytes::from(vec![7; 100_000]);
    let first = put(&group, "first", Bytes::new(), Vec::new()).expect("ok");
    let pin = group.pin(first);
    for _ in 0..500 {
        put(&group, "k", value.clone(), Vec::new()).expect("ok");
    }
    assert!(group.shared.overlay.read().floor() <= first);
    put(&group, "x", Bytes::new(), unchanged("first", first)).expect("known");
    for _ in 0..500 {
        put(&group, "k", value.clone(), Vec::new()).expect("ok");
    }
    assert!(
        group.shared.overlay.read().floor() > first,
        "memory comes first"
    );
    drop(pin);
}

/// Commits rows of one entry with an index key each, as an INSERT of a thousand rows does.
fn put_thousand(group: &Group, entry: u32) -> Position {
    let row = |seq: u32| {
        let key = Bytes::from(format!("{entry:04}-{seq:04}"));
        Change {
            seq,
            tree: TREE,
            key: key.clone(),
            new: Some(Bytes::from_static(&[7; 20])),
            index: vec![crate::IndexWrite {
                tree: TREE + 1,
                key,
                value: Some(Bytes::from_static(b"r")),
            }],
            ..Change::default()
        }
    };
    let commit = Commit {
        txid: group.begin(),
        epoch: group.term().expect("leads"),
        base: group.newest().expect("no barrier"),
        meta: crate::Meta::default(),
        changes: Changes::Small((0..1000).map(row).collect()),
        events: Vec::new(),
        dropped_trees: Vec::new(),
        deps: Vec::new(),
        checks: Vec::new(),
        record_outcome: false,
        keeps_locks: false,
    };
    group.commit(commit).expect("placed")
}

/// What leaves with one entry must keep up with what each brings, with a long transaction and
/// without.
#[test]
fn the_overlay_stays_bounded_under_entries_of_many_rows() {
    let (_local, group) = node();
    let bytes = |group: &Group| group.shared.overlay.read().bytes();
    let first = put_thousand(&group, 0);
    let entry_bytes = bytes(&group);
    let pin = group.pin(first);
    for entry in 1..210 {
        put_thousand(&group, entry);
        let bytes = bytes(&group);
        assert!(bytes <= BYTES_MAX + entry_bytes, "{bytes} after {entry}");
    }
    assert!(bytes(&group) > KEEP_BYTES + entry_bytes, "the pin holds");
    drop(pin);
    for entry in 210..390 {
        put_thousand(&group, entry);
    }
    let bytes = bytes(&group);
    assert!(bytes <= KEEP_BYTES + entry_bytes, "{bytes} with no pin");
}

#[test]
fn a_lock_proves_what_the_overlay_has_forgotten() {
    let (_local, group) = node();
    let seen = put(&group, "old", Bytes::new(), Vec::new()).expect("ok");
    let txid = group.begin();
    let key = Bytes::from_static(b"old");
    let row = crate::LockKey::Row {
        tree: TREE,
        key: key.clone(),
    };
    let locked = group
        .locks()
        .lock(txid, row, crate::RowMode::Share, crate::Policy::Wait);
    assert!(matches!(locked, crate::Locked::Granted));
    let value = Bytes::from(vec![7; 100_000]);
    for _ in 0..1000 {
        put(&group, "k", value.clone(), Vec::new()).expect("ok");
    }
    let epoch = group.term().expect("leads");
    let checks = vec![
        Check::Key {
            tree: TREE,
            key: key.clone(),
            seen,
        },
        Check::Present {
            tree: TREE,
            key: Bytes::from_static(b"k"),
            seen,
        },
        Check::Absent {
            tree: TREE,
            key: Bytes::from_static(b"none"),
            seen,
        },
    ];
    let commit = Commit {
        txid,
        epoch,
        base: seen,
        meta: crate::Meta::default(),
        changes: Changes::Small(Vec::new()),
        events: Vec::new(),
        dropped_trees: Vec::new(),
        deps: Vec::new(),
        checks,
        record_outcome: false,
        keeps_locks: false,
    };
    group
        .commit(commit)
        .expect("the lock, and the store, prove it");
}

#[test]
fn much_that_is_pending_holds_new_statements_back() {
    let (local, group) = node();
    let id = group.id();
    local.hold(id);
    let value = Bytes::from(vec![7; 1_000_000]);
    let mut first = None;
    let wait = loop {
        match group.newest() {
            Ok(_) => {
                let position = put(&group, "k", value.clone(), Vec::new()).expect("placed");
                first.get_or_insert(position);
            }
            Err(wait) => break wait,
        }
    };
    assert_eq!(Some(wait.0), first);
    assert!(local.held(id) < 80);
    local.release(id).expect("applied");
    group.newest().expect("room again");
}

#[test]
fn a_coarse_write_hides_what_was_noted_before_it() {
    let mut overlay = overlay::Overlay::default();
    let key = Bytes::from_static(b"k");
    let write = |value: &'static [u8]| {
        let value = Some(Bytes::from_static(value));
        vec![TreeWrite {
            tree: TREE,
            key: Bytes::from_static(b"k"),
            value,
        }]
    };
    overlay.insert(Position(10), write(b"1"));
    overlay.insert_coarse(Position(20), TREE);
    let found = |value: &'static [u8]| Lookup::Found(Some(Bytes::from_static(value)));
    assert_eq!(overlay.get(TREE, &key, Position(15)), found(b"1"));
    assert_eq!(overlay.get(TREE, &key, Position(25)), Lookup::Store);
    assert_eq!(overlay.since(TREE, &key, Position(15)), Since::Unknown);
    assert!(overlay.range_since(TREE, &(Bound::Unbounded, Bound::Unbounded), Position(15)));
    overlay.insert(Position(30), write(b"2"));
    assert_eq!(overlay.get(TREE, &key, Position(30)), found(b"2"));
    assert_eq!(
        overlay.since(TREE, &key, Position(15)),
        Since::Written { exists: true }
    );
    assert_eq!(overlay.get(TREE, &key, Position(29)), Lookup::Store);
}

#[test]
fn what_has_left_the_overlay_costs_nothing() {
    let mut overlay = overlay::Overlay::default();
    let write = |tree: u32, value: Vec<u8>| {
        vec![TreeWrite {
            tree,
            key: Bytes::from_static(b"k"),
            value: Some(value.into()),
        }]
    };
    // A dropped tree: its key leaves first, and the tree with it.
    overlay.insert(Position(10), write(TREE, vec![7]));
    overlay.insert_coarse(Position(10), TREE);
    overlay.insert(Position(20), write(TREE + 1, vec![7; KEEP_BYTES]));
    while overlay.evict(Position(20), Position(20)) > 0 {}
    assert_eq!((overlay.bytes(), overlay.floor()), (0, Position(20)));
}

#[test]
fn an_open_scan_finds_what_the_overlay_has_forgotten_meanwhile() {
    for direction in [Direction::Forward, Direction::Backward] {
        let (local, group) = node();
        let id = group.id();
        local.hold(id);
        // More keys than one chunk, pending when the scan begins.
        let keys: Vec<String> = (0..5000).map(|n| format!("k{n:05}")).collect();
        for key in &keys {
            put(&group, key, Bytes::from_static(b"new"), Vec::new()).expect("placed");
        }
        let at = group.newest().expect("no barrier");
        let all = (Bound::Unbounded, Bound::Unbounded);
        let mut scan = group.scan(TREE, all, at, direction).expect("readable");
        let mut found = vec![scan.next().expect("a row").expect("readable")];
        local.release(id).expect("applied");
        let value = Bytes::from(vec![7; 1_000_000]);
        while group.shared.overlay.read().floor() < at {
            put(&group, "z", value.clone(), Vec::new()).expect("placed");
        }
        found.extend(scan.map(|row| row.expect("readable")));
        if direction == Direction::Backward {
            found.reverse();
        }
        let found: Vec<_> = found.into_iter().map(|(key, _)| key).collect();
        assert_eq!(found, keys);
    }
}
