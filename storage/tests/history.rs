//! Tables that keep their history: beside a horizon that moves, through restarts, and through
//! snapshots from replica to replica until none of the first ones is left.

mod harness;

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use harness::*;
use storage::{
    Applied, Error, Group, GroupId, Groups, Index, Keep, Local, ManualClock, Position, Proposal,
    Propose, Result, StoreKind, StoreOptions, check_export, system,
};

/// Beside [`TREE`], which keeps its history: one that does not.
const FORGETS: u32 = 1002;

struct Nowhere;

impl Propose for Nowhere {
    fn propose(&self, _group: GroupId, _proposal: Proposal) {}

    fn create(&self, _: GroupId, _: Position, done: Box<dyn FnOnce(Result<()>) + Send>) {
        done(Ok(()));
    }
}

fn leader() -> (Arc<Local>, Arc<Group>) {
    let store = storage::MemoryStore::new();
    let local = Local::new(store, Arc::new(ManualClock::new(NOW)));
    let group = local.lead(GROUP).expect("leads");
    group.apply_raft(group.applied_log().0.term, Index(1), Some(bytes("members")));
    (local, group)
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

/// Both tables get the value, in one entry.
fn put(group: &Group, key: &str, value: Option<&str>) -> Position {
    let tx = begin(group).write(TREE, key, value);
    let mut tx = tx.write(FORGETS, key, value);
    for change in &mut tx.changes {
        let old = group.get(change.tree, &change.key, tx.base);
        change.old = old.expect("readable");
    }
    tx.commit(group).expect("no conflict")
}

fn keep(group: &Group, micros: Option<Option<u64>>) -> Position {
    let since = group.newest().expect("no barrier");
    let keep = micros.map(|micros| Keep { since, micros });
    let (key, value) = Keep::row(TREE, keep);
    let mut tx = begin(group);
    tx.changes.push(storage::Change {
        tree: system::KEPT_TREES,
        key,
        new: value,
        ..storage::Change::default()
    });
    tx.commit(group).expect("no conflict")
}

/// (key, position, value) of all that a tree keeps.
fn versions(group: &Group, tree: u32) -> Vec<(String, u64, Option<String>)> {
    let all = (Bound::Unbounded, Bound::Unbounded);
    let found = group.versions(tree, all, group.oldest(tree), group.applied());
    let found = found.expect("readable").map(|v| v.expect("readable"));
    found
        .map(|v| {
            (
                text(Some(v.key)).expect("some"),
                v.position.0,
                text(v.value),
            )
        })
        .collect()
}

#[test]
fn a_table_keeps_its_history_for_as_long_as_it_says() {
    let (_local, group) = leader();
    put(&group, "k", Some("gone"));
    group.raise_horizon(Position::MAX).expect("raised");
    let first = put(&group, "k", Some("first"));
    let on = keep(&group, Some(None));
    let second = put(&group, "k", Some("second"));
    let removed = put(&group, "k", None);
    let last = put(&group, "k", Some("last"));
    let horizon = group.raise_horizon(Position::MAX).expect("raised");
    assert_eq!(horizon, last);
    // In memory old versions go when their key is written again.
    let newest = put(&group, "k", Some("newest"));
    let get = |tree, at| group.get(tree, b"k", at).map(text);
    assert_eq!(get(TREE, on).expect("kept"), Some("first".into()));
    assert_eq!(get(TREE, second).expect("kept"), Some("second".into()));
    assert_eq!(get(TREE, removed).expect("kept"), None);
    assert!(matches!(get(FORGETS, removed), Err(Error::TooOld { .. })));
    let at = |(_, at, _): (String, u64, Option<String>)| at;
    let kept: Vec<u64> = versions(&group, TREE).into_iter().map(at).collect();
    assert_eq!(kept, [first, second, removed, last, newest].map(|p| p.0));
    let all = (Bound::Unbounded, Bound::Unbounded);
    let beyond = group.versions(TREE, all, on, newest.next());
    assert!(matches!(beyond.err(), Some(Error::NotReached { .. })));

    // For a time: what is older than that goes.
    keep(&group, Some(Some(0)));
    group.raise_horizon(Position::MAX).expect("raised");
    assert!(matches!(get(TREE, second), Err(Error::TooOld { .. })));
    assert_eq!(
        get(TREE, group.applied()).expect("new"),
        Some("newest".into())
    );
    keep(&group, None);
    let after = put(&group, "k", Some("after"));
    group.raise_horizon(Position::MAX).expect("raised");
    assert_eq!(group.oldest(TREE), after);
}

/// An export, read to its end.
fn send(group: &Group) -> (Applied, Bytes, Bytes) {
    let mut export = group.export().expect("readable").expect("nothing is open");
    let mut sent = Vec::new();
    loop {
        let piece = export.read(100).expect("readable");
        if piece.is_empty() {
            break;
        }
        sent.extend_from_slice(&piece);
    }
    (export.applied(), export.meta().clone(), sent.into())
}

fn pieces(sent: &Bytes) -> impl FnMut() -> Result<Option<Bytes>> {
    let mut left = sent
        .chunks(7)
        .map(Bytes::copy_from_slice)
        .collect::<Vec<_>>();
    left.reverse();
    move || Ok(left.pop())
}

fn open(kind: StoreKind, dir: &Path) -> Arc<Groups> {
    let store = storage::open(kind, dir, StoreOptions::default()).expect("opens");
    let groups = Groups::new(store, Arc::new(ManualClock::new(NOW)));
    groups.attach(Arc::new(Nowhere));
    groups
}

/// A replica that gets all of another one, and is restarted.
fn replica(kind: StoreKind, dir: &Path, of: &Group) -> (Arc<Groups>, Arc<Group>) {
    let (applied, meta, sent) = send(of);
    check_export(applied, &meta, &mut pieces(&sent)).expect("whole");
    {
        let groups = open(kind, dir);
        groups.open(GROUP).expect("opens");
        let installed = groups.install(GROUP, applied, &meta, &mut pieces(&sent));
        installed.expect("whole");
    }
    let groups = open(kind, dir);
    let group = groups.open(GROUP).expect("opens");
    group.raise_horizon(Position::MAX).expect("raised");
    for tree in groups.store().trees() {
        groups.store().purge(tree).expect("rewritten");
    }
    (groups, group)
}

#[test]
fn the_history_is_the_same_when_every_replica_was_replaced() {
    let (_local, first) = leader();
    put(&first, "gone", Some("before"));
    first.raise_horizon(Position::MAX).expect("raised");
    keep(&first, Some(None));
    for n in 0..40 {
        put(&first, &format!("k{}", n % 7), Some(&format!("v{n}")));
        put(&first, &format!("k{}", n % 3), None);
    }
    put(&first, "gone", None);
    first.raise_horizon(Position::MAX).expect("raised");
    let history = versions(&first, TREE);
    assert!(history.len() > 60, "{}", history.len());

    let dirs = [(); 3].map(|()| tempfile::tempdir().expect("a folder"));
    let kinds = [StoreKind::Lsm, StoreKind::Sled, StoreKind::Lsm];
    let mut last = (None, first.clone());
    for (kind, dir) in kinds.into_iter().zip(&dirs) {
        let (groups, group) = replica(kind, dir.path(), &last.1);
        assert_eq!(versions(&group, TREE), history, "{kind:?}");
        assert_eq!(group.oldest(TREE), first.oldest(TREE));
        assert_eq!(group.oldest(FORGETS), first.applied());
        for (key, at, value) in &history {
            let found = group.get(TREE, key.as_bytes(), Position(*at));
            // The oldest may lie before what is kept.
            if Position(*at) >= first.oldest(TREE) {
                assert_eq!(text(found.expect("kept")), *value);
            }
        }
        group.verify_sums().expect("as they were");
        last = (Some(groups), group);
    }
}

#[test]
fn a_history_that_is_damaged_on_the_way_is_refused() {
    let (_local, group) = leader();
    keep(&group, Some(None));
    let first = put(&group, "k", Some("a"));
    put(&group, "k", Some("b"));
    let (applied, meta, sent) = send(&group);
    let check = |sent: Bytes| check_export(applied, &meta, &mut pieces(&sent));
    check(sent.clone()).expect("whole");
    let at = |of: Position| {
        let bytes = of.0.to_le_bytes();
        let found = sent.windows(8).position(|w| w == bytes);
        found.expect("it is in there")
    };
    let begin = at(first);
    let mut swapped = sent.to_vec();
    swapped[begin..begin + 8].copy_from_slice(&applied.position.0.to_le_bytes());
    assert!(
        check(swapped.into()).is_err(),
        "two versions at one position"
    );
    let mut beyond = sent.to_vec();
    let last = at(applied.position);
    beyond[last..last + 8].copy_from_slice(&applied.position.next().0.to_le_bytes());
    assert!(
        check(beyond.into()).is_err(),
        "a version that is not applied"
    );
    // Without what says since when versions are there.
    let tree = TREE.to_le_bytes();
    let kept = sent.windows(4).position(|w| w == tree).expect("there");
    let without = [&sent[..kept], &sent[kept + 20..]].concat();
    assert!(check(without.into()).is_err());
    for length in 0..8 {
        let mut short = sent.to_vec();
        short[kept + 8..kept + 12].copy_from_slice(&u32::to_le_bytes(length));
        assert!(check(short.into()).is_err(), "{length}");
    }
}
