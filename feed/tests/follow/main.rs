//! Followers: a source over a real journal in memory, a sink over another table store, and every
//! way in which the stream between them can end.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod bootstrap;
mod cuts;
mod erased;
mod revoke;
#[path = "../running/mod.rs"]
mod running;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use feed::Error;
use feed::follow::{Choice, Phase, Piece, Sink, Source};
use journal::{GroupId, Index, Kind, Payload, Position, Record, Term};
use storage::{
    Change, Changes, Chosen, Commit, Direction, Durable, Event, EventKind, Group, Groups,
    IndexWrite, Looked, ManualClock, MemoryStore, Meta, Outcome, PartSource, Proposal, Propose,
    TableStore, Verdict,
};

use self::running::{NOW, Running};

/// The table that is followed, its index, and one that is nobody's business.
const TREE: u32 = 1000;
const INDEX: u32 = 1001;
const PRIVATE: u32 = 1002;
const LATER: u32 = 1003;
const CATALOG: u32 = 1;
const CHOSEN: &[u32] = &[CATALOG, TREE, INDEX];
/// In what nobody may see.
const CANARY: &str = "canary";

impl Running {
    fn source(&self, sink: &mut Sink, chosen: &Arc<Chooser>) -> Source {
        let choice: Arc<dyn Choice> = chosen.clone();
        self.feed.follow(&sink.request(), choice).unwrap()
    }
}

/// What is chosen, as the test says.
struct Chooser(Mutex<Arc<Chosen>>);

impl Chooser {
    fn of(trees: &[u32]) -> Arc<Chooser> {
        let chosen = Chosen::new(trees.iter().copied());
        Arc::new(Chooser(Mutex::new(Arc::new(chosen))))
    }

    fn set(&self, trees: &[u32]) {
        *self.0.lock().unwrap() = Arc::new(Chosen::new(trees.iter().copied()));
    }
}

impl Choice for Chooser {
    fn chosen(&self) -> Arc<Chosen> {
        self.0.lock().unwrap().clone()
    }
}

struct Nowhere;

impl Propose for Nowhere {
    fn propose(&self, _group: GroupId, _proposal: Proposal) {}

    fn create(&self, _: GroupId, _: Position, done: Box<dyn FnOnce(storage::Result<()>) + Send>) {
        done(Ok(()));
    }
}

/// The follower has no journal: nobody may wait for one.
struct NoJournal;

impl Durable for NoJournal {
    fn wait(&self, group: GroupId, _index: Index) -> storage::Result<()> {
        panic!("group {group} waits for a journal that it is not in");
    }
}

/// The node that follows.
struct Reader {
    store: Arc<MemoryStore>,
    groups: Arc<Groups>,
    clock: Arc<ManualClock>,
    asked: Arc<AtomicUsize>,
}

impl Reader {
    fn new() -> Reader {
        Reader::over(MemoryStore::new())
    }

    fn over(store: Arc<MemoryStore>) -> Reader {
        let clock = Arc::new(ManualClock::new(NOW));
        let groups = Groups::new(store.clone(), clock.clone());
        groups.attach(Arc::new(Nowhere));
        let asked = Arc::default();
        Reader {
            store,
            groups,
            clock,
            asked,
        }
    }

    fn sink(&self, id: u32) -> Sink {
        let asked = self.asked.clone();
        let ask = move || {
            asked.fetch_add(1, Ordering::Relaxed);
        };
        let group = self.groups.follow(GroupId(id), Box::new(ask)).unwrap();
        Sink::new(self.groups.clone(), group)
    }

    fn group(&self, id: u32) -> Arc<Group> {
        self.groups.get(GroupId(id)).unwrap()
    }

    fn shown(&self, id: u32) -> Position {
        self.groups.cut(&[GroupId(id)])[0].1
    }

    /// Every byte of it, keys and values.
    fn everything(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for tree in self.store.trees() {
            let all = (Bound::Unbounded, Bound::Unbounded);
            let at = self.groups.get(tree.group).unwrap().applied();
            for row in self.store.scan(tree, all, at, Direction::Forward).unwrap() {
                let (key, value) = row.unwrap();
                out.extend([&key[..], b"|", &value[..], b"|"].concat());
            }
        }
        for last in self.store.checkpoint() {
            out.extend(last.raft);
        }
        out
    }
}

fn rows(group: &Group, tree: u32) -> BTreeMap<Bytes, Bytes> {
    let all = (Bound::Unbounded, Bound::Unbounded);
    let rows = group.scan(tree, all, group.applied(), Direction::Forward);
    rows.unwrap().map(|row| row.unwrap()).collect()
}

/// Sends until there is nothing more for now. False: the sink must come again.
fn pump(source: &mut Source, sink: &mut Sink) -> bool {
    while let Some(piece) = source.next().unwrap() {
        let piece = Piece::decode(piece.encode()).unwrap();
        if !sink.take(piece).unwrap() {
            return false;
        }
    }
    true
}

/// Comes again until it is at the end.
fn catch_up(node: &Running, sink: &mut Sink, chosen: &Arc<Chooser>) -> Source {
    for _ in 0..5 {
        let mut source = node.source(sink, chosen);
        if pump(&mut source, sink) {
            return source;
        }
    }
    panic!("it never gets there");
}

fn same(reader: &Reader, group: &Group, trees: &[u32]) {
    let follower = reader.group(group.id().0);
    assert_eq!(follower.applied(), group.applied());
    for tree in trees {
        assert!(follower.holds(*tree));
        assert_eq!(rows(&follower, *tree), rows(group, *tree), "tree {tree}");
    }
    follower.verify_sums().unwrap();
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// A change of a table, with one of its index if it is the followed one.
fn change(group: &Group, seq: u32, tree: u32, key: &str, new: Option<&str>) -> Change {
    let old = group.get(tree, key.as_bytes(), group.applied()).unwrap();
    let index = IndexWrite {
        tree: INDEX,
        key: text(&format!("by-{key}")),
        value: new.map(|_| text(key)),
    };
    Change {
        seq,
        tree,
        feed: true,
        key: text(key),
        old,
        new: new.map(text),
        index: Vec::from_iter((tree == TREE).then_some(index)),
        ..Change::default()
    }
}

fn write(group: &Group, tree: u32, key: &str, new: Option<&str>) -> Position {
    place(group, vec![change(group, 0, tree, key, new)], Vec::new())
}

fn place(group: &Group, changes: Vec<Change>, deps: Vec<(GroupId, Position)>) -> Position {
    let event = Event {
        seq: u32::MAX,
        kind: EventKind::Message,
        name: CANARY.into(),
        table: None,
        payload: text(CANARY),
        about: Vec::new(),
    };
    commit(group, |commit| {
        commit.changes = Changes::Small(changes);
        commit.deps = deps;
        commit.events = vec![event];
    })
}

/// Commits and waits for the outcome.
fn commit(group: &Group, fill: impl FnOnce(&mut Commit)) -> Position {
    let mut commit = Commit {
        txid: group.begin(),
        base: group.newest().unwrap(),
        epoch: group.term().unwrap(),
        meta: Meta {
            role: CANARY.into(),
            login: CANARY.into(),
            application_name: CANARY.into(),
            ..Meta::default()
        },
        changes: Changes::Small(Vec::new()),
        events: Vec::new(),
        dropped_trees: Vec::new(),
        deps: Vec::new(),
        checks: Vec::new(),
        record_outcome: true,
        keeps_locks: false,
    };
    fill(&mut commit);
    let position = group.commit(commit).unwrap();
    until_applied(group, position);
    position
}

fn until_applied(group: &Group, position: Position) {
    let (done, told) = channel();
    let tell = move |outcome| done.send(outcome).unwrap();
    group.when(position, Box::new(tell));
    let outcome = told.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(outcome, Outcome::Applied);
}
