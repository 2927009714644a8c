//! Exports and their installation, on every table store: all at once or not at all.

mod harness;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use harness::*;
use storage::{
    Applied, Change, Direction, Durable, Error, Group, GroupId, Groups, Index, Local, ManualClock,
    Observer, Position, Proposal, Propose, Result, StoreKind, StoreOptions, check_export, system,
};

struct Nowhere;

impl Propose for Nowhere {
    fn propose(&self, _group: GroupId, _proposal: Proposal) {}

    fn create(&self, _: GroupId, _: Position, done: Box<dyn FnOnce(Result<()>) + Send>) {
        done(Ok(()));
    }
}

struct OnDisk;

impl Durable for OnDisk {
    fn wait(&self, _group: GroupId, _index: Index) -> Result<()> {
        Ok(())
    }
}

/// An export, read to its end.
struct Sent {
    applied: Applied,
    meta: Bytes,
    pieces: Vec<Bytes>,
}

impl Sent {
    /// Hands the pieces out; fails after `good` of them.
    fn pieces(&self, good: usize) -> impl FnMut() -> Result<Option<Bytes>> {
        let next = Cell::new(0);
        move || {
            let at = next.replace(next.get() + 1);
            match self.pieces.get(at) {
                Some(_) if at >= good => Err(Error::Store("the test ends it".into())),
                piece => Ok(piece.cloned()),
            }
        }
    }
}

fn sender() -> (Arc<Local>, Arc<Group>) {
    let store = storage::MemoryStore::new();
    let local = Local::new(store, Arc::new(ManualClock::new(NOW)));
    let group = local.lead(GROUP).expect("leads");
    group.apply_raft(group.applied_log().0.term, Index(1), Some(bytes("members")));
    (local, group)
}

fn put(group: &Group, key: &str, value: &str) {
    let tx = Tx {
        id: group.begin(),
        base: group.newest().expect("no barrier"),
        epoch: group.term().expect("leads"),
        changes: Vec::new(),
        checks: Vec::new(),
    };
    tx.put(key, value).commit(group).expect("no conflict");
}

fn send(group: &Group) -> Sent {
    let mut export = group.export().expect("readable").expect("nothing is open");
    let mut pieces = Vec::new();
    loop {
        let piece = export.read(1000).expect("readable");
        assert!(piece.len() <= 1000);
        if piece.is_empty() {
            break;
        }
        pieces.push(piece);
    }
    let (applied, meta) = (export.applied(), export.meta().clone());
    Sent {
        applied,
        meta,
        pieces,
    }
}

/// A snapshot takes as long as it takes: an ERASE whose time is over cuts off who reads the past, but
/// not what a replica needs.
#[test]
fn an_export_that_has_begun_is_read_to_its_end() {
    for kind in [StoreKind::Lsm, StoreKind::Sled] {
        let dir = tempfile::tempdir().expect("a folder");
        let store = storage::open(kind, dir.path(), StoreOptions::default()).expect("opens");
        let local = Local::new(store, Arc::new(ManualClock::new(NOW)));
        let group = local.lead(GROUP).expect("leads");
        group.apply_raft(group.applied_log().0.term, Index(1), Some(bytes("members")));
        put(&group, "k", "old");
        let whole = send(&group).pieces.concat();
        let mut export = group.export().expect("readable").expect("nothing is open");
        put(&group, "k", "new");
        let cut = group.pin(export.applied().position);
        group.force_horizon(group.applied());
        assert!(
            group.get(TREE, b"k", cut.position()).is_err(),
            "the past is"
        );
        local.groups().checkpoint(&*local).expect("written");
        let mut read = Vec::new();
        loop {
            let piece = export.read(1000).expect("readable");
            if piece.is_empty() {
                break;
            }
            read.extend_from_slice(&piece);
        }
        assert_eq!(read, whole, "{kind:?}");
    }
}

fn open(kind: StoreKind, dir: &Path) -> Arc<Groups> {
    let store = storage::open(kind, dir, StoreOptions::default()).expect("opens");
    let groups = Groups::new(store, Arc::new(ManualClock::new(NOW)));
    groups.attach(Arc::new(Nowhere));
    groups
}

fn rows(group: &Group) -> Vec<(Bytes, Bytes)> {
    let all = (Bound::Unbounded, Bound::Unbounded);
    let rows = group.scan(TREE, all, group.applied(), Direction::Forward);
    rows.expect("readable")
        .map(|row| row.expect("readable"))
        .collect()
}

fn install(groups: &Groups, sent: &Sent) -> Result<()> {
    let mut pieces = sent.pieces(usize::MAX);
    groups.install(GROUP, sent.applied, &sent.meta, &mut pieces)
}

fn run(kind: StoreKind) {
    let dir = tempfile::tempdir().expect("a folder");
    let (_local, leader) = sender();
    for n in 0..100 {
        put(&leader, &format!("old{n}"), "value");
    }
    let first = send(&leader);
    let groups = open(kind, dir.path());
    let group = groups.open(GROUP).expect("opens");
    install(&groups, &first).expect("whole");
    let old = rows(&group);
    assert_eq!(old, rows(&leader));
    assert_eq!(group.applied_log().1, bytes("members"));
    let before = group.applied();

    for n in 0..100 {
        put(&leader, &format!("new{n}"), &"x".repeat(100));
    }
    let second = send(&leader);
    // A crash in the middle: what was there before is there again.
    let mut pieces = second.pieces(5);
    let cut = groups.install(GROUP, second.applied, &second.meta, &mut pieces);
    assert!(cut.is_err());
    let half = group.get(TREE, b"old1", before);
    assert!(half.is_err(), "nobody reads what is half there");
    groups
        .store()
        .purge(storage::TreeId {
            group: GROUP,
            number: TREE,
        })
        .expect("writes the record");
    drop((pieces, group, groups));
    let groups = open(kind, dir.path());
    let group = groups.open(GROUP).expect("opens");
    assert_eq!(group.applied_log().0, first.applied);
    assert_eq!((group.applied(), rows(&group)), (before, old.clone()));
    let all = (Bound::Unbounded, Bound::Unbounded);
    let tree = storage::TreeId {
        group: GROUP,
        number: TREE,
    };
    let found = groups
        .store()
        .scan(tree, all, second.applied.position, Direction::Forward);
    let found: Vec<_> = found
        .expect("readable")
        .map(|row| row.expect("readable"))
        .collect();
    assert_eq!(found, old, "nothing of the new one is mixed in");

    install(&groups, &second).expect("whole");
    let new = rows(&group);
    assert_eq!(new, rows(&leader));
    assert!(group.get(TREE, b"old1", before).is_err(), "below it");
    assert!(group.verify_sums().is_ok());
    drop((group, groups));
    let groups = open(kind, dir.path());
    let group = groups.open(GROUP).expect("opens");
    assert_eq!(group.applied_log().0, second.applied);
    assert_eq!(rows(&group), new);

    // A group that ends leaves nothing.
    groups.remove(GROUP, &OnDisk).expect("ends");
    drop((group, groups));
    let groups = open(kind, dir.path());
    assert!(groups.store().trees().is_empty());
    let group = groups.open(GROUP).expect("opens");
    assert_eq!(group.applied_log().0, Applied::default());
}

#[test]
fn all_or_nothing_lsm() {
    run(StoreKind::Lsm);
}

#[test]
fn all_or_nothing_sled() {
    run(StoreKind::Sled);
}

#[test]
fn what_is_damaged_on_the_way_is_refused_before_anything_changes() {
    let (_local, leader) = sender();
    for n in 0..100 {
        put(&leader, &format!("k{n}"), "value");
    }
    let sent = send(&leader);
    let check = |pieces: &[Bytes]| {
        let mut left = pieces.iter().cloned();
        check_export(sent.applied, &sent.meta, &mut || Ok(left.next()))
    };
    check(&sent.pieces).expect("whole");
    let whole: Vec<u8> = sent.pieces.concat();
    assert!(check(&[whole[..whole.len() - 1].to_vec().into()]).is_err());
    let mut long = whole.clone();
    long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(check(&[long.into()]).is_err());
    let meta = sent.meta.slice(..3);
    assert!(check_export(sent.applied, &meta, &mut || Ok(None)).is_err());
    let mut seed = 5u64;
    for _ in 0..2000 {
        let random = (0..50).map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        });
        // Whether they are rows by chance does not matter.
        let _ = check(&[random.collect::<Vec<u8>>().into()]);
    }
}

/// Raft and what watches a node ask how far a group is, on threads that must not wait: not for an
/// installation, which takes as long as its tables are large.
#[test]
fn how_far_a_group_is_can_be_asked_while_a_snapshot_is_installed() {
    let (_local, leader) = sender();
    put(&leader, "first", "value");
    let sent = send(&leader);
    let dir = tempfile::tempdir().expect("a folder");
    let groups = open(StoreKind::Lsm, dir.path());
    let group = groups.open(GROUP).expect("opens");
    let before = group.applied_log();
    let mut pieces = sent.pieces(usize::MAX);
    let mut asked = 0;
    let mut piece = || {
        let (group, (told, hears)) = (group.clone(), std::sync::mpsc::channel());
        std::thread::spawn(move || told.send((group.applied_log(), group.parts_floor())));
        let answer = hears.recv_timeout(std::time::Duration::from_secs(20));
        assert_eq!(answer, Ok((before.clone(), None)), "in the middle");
        asked += 1;
        pieces()
    };
    groups
        .install(GROUP, sent.applied, &sent.meta, &mut piece)
        .expect("whole");
    assert!(asked > 0);
    assert_eq!(group.applied_log(), (sent.applied, bytes("members")));
}

#[test]
fn nothing_is_exported_that_is_not_whole() {
    let (_local, group) = sender();
    put(&group, "k", "value");
    assert!(group.export().expect("readable").is_some());
    let part = {
        let mut images = storage::EntryBuilder::new();
        images.change(&storage::Change::default());
        images.finish_part(storage::PartHeader {
            epoch: group.term().expect("leads"),
            txid: group.begin(),
            number: 0,
            images: 0,
        })
    };
    let applied = group.applied_log().0;
    let next = Index(applied.index.0 + 1);
    group.apply_part(applied.term, next, &part).expect("a part");
    assert!(group.export().expect("readable").is_none());
}

/// What the observer was told of a system tree, by key.
#[derive(Default)]
struct Catalog(Mutex<BTreeMap<Bytes, Bytes>>);

impl Observer for Catalog {
    fn system(&self, _group: GroupId, _position: Position, changes: &[Change]) {
        let mut rows = self.0.lock().expect("not poisoned");
        for change in changes.iter().filter(|c| c.tree == system::CATALOG) {
            match change.new.clone() {
                Some(new) => rows.insert(change.key.clone(), new),
                None => rows.remove(&change.key),
            };
        }
    }
}

#[test]
fn observers_are_told_what_a_snapshot_changes() {
    let catalog = |group: &Group, key: &str, value: Option<&str>| {
        let tx = Tx {
            id: group.begin(),
            base: group.newest().expect("no barrier"),
            epoch: group.term().expect("leads"),
            changes: Vec::new(),
            checks: Vec::new(),
        };
        let tx = tx.write(system::CATALOG, key, value);
        tx.commit(group).expect("no conflict");
    };
    let (_local, leader) = sender();
    catalog(&leader, "goes", Some("1"));
    catalog(&leader, "changes", Some("1"));
    let first = send(&leader);
    catalog(&leader, "goes", None);
    catalog(&leader, "changes", Some("2"));
    catalog(&leader, "comes", Some("1"));
    let second = send(&leader);

    let seen = Arc::new(Catalog::default());
    let store = storage::MemoryStore::new();
    let groups = Groups::new(store, Arc::new(ManualClock::new(NOW)));
    groups.attach(Arc::new(Nowhere));
    groups.observe(seen.clone());
    groups.open(GROUP).expect("opens");
    let rows = || seen.0.lock().expect("not poisoned").clone();
    install(&groups, &first).expect("whole");
    let row = |key: &str, value: &str| (bytes(key), bytes(value));
    assert_eq!(rows(), [row("changes", "1"), row("goes", "1")].into());
    install(&groups, &second).expect("whole");
    assert_eq!(rows(), [row("changes", "2"), row("comes", "1")].into());
}
