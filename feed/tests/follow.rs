//! Followers: a source over a real journal in memory, a sink over another table store, and every
//! way in which the stream between them can end.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use feed::follow::{Choice, Phase, Piece, Sink, Source};
use feed::{Error, Feed};
use journal::{GroupId, Index, Journal, MemoryDisk, Position};
use raft::{Alone, Node, NodeId, Options};
use storage::{
    Change, Changes, Chosen, Commit, Direction, Durable, Event, EventKind, Group, Groups,
    IndexWrite, Looked, ManualClock, MemoryStore, Meta, Outcome, Proposal, Propose, TableStore,
};
use tokio::runtime::Runtime;

/// The table that is followed, its index, and one that is nobody's business.
const TREE: u32 = 1000;
const INDEX: u32 = 1001;
const PRIVATE: u32 = 1002;
const LATER: u32 = 1003;
const CATALOG: u32 = 1;
const NOW: u64 = 1_767_225_600_000_000;
const SEGMENT_BYTES: u64 = 1 << 20;
/// In what nobody may see.
const CANARY: &str = "canary";

/// A node in memory.
struct Running {
    node: Arc<Node>,
    clock: Arc<ManualClock>,
    feed: Feed,
    runtime: Runtime,
    journal: Journal,
}

impl Running {
    fn start() -> Running {
        let runtime = Runtime::new().unwrap();
        let options = journal::Options {
            segment_bytes: SEGMENT_BYTES,
            ..journal::Options::default()
        };
        let disk = Arc::new(MemoryDisk::new());
        let journal = Journal::open(disk, "/journal".as_ref(), options).unwrap();
        let clock = Arc::new(ManualClock::new(NOW));
        let groups = Groups::new(MemoryStore::new(), clock.clone());
        let options = Options {
            checkpoint_timeout: Duration::from_secs(3600),
            checkpoint_bytes: u64::MAX,
            retain_time: Duration::ZERO,
            retain_bytes: 2 * SEGMENT_BYTES,
            horizon: Duration::from_secs(3600),
        };
        let handle = runtime.handle().clone();
        let (me, alone) = (NodeId(1), Arc::new(Alone));
        let node = Node::new(journal.clone(), groups.clone(), options, handle, me, alone);
        runtime.block_on(node.open(true)).unwrap();
        Running {
            node,
            clock,
            feed: Feed::new(journal.clone(), groups),
            runtime,
            journal,
        }
    }

    fn make(&self, id: u32) -> Arc<Group> {
        let made = self.node.make(GroupId(id), Position::ZERO, &[NodeId(1)]);
        self.runtime.block_on(made).unwrap();
        self.node.groups().get(GroupId(id)).unwrap()
    }

    /// Checkpoints until records of the group have left.
    fn cut(&self, group: &Group) {
        let oldest = || self.journal.state(group.id()).oldest.unwrap().0.0;
        let cut = (0..1000).any(|_| {
            self.runtime.block_on(self.node.checkpoint()).unwrap();
            oldest() > 1
        });
        assert!(cut, "nothing leaves");
    }

    fn source(&self, sink: &mut Sink, chosen: &Arc<Chooser>) -> Source {
        let choice: Arc<dyn Choice> = chosen.clone();
        self.feed.follow(&sink.request(), choice).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.runtime.block_on(self.node.shutdown());
        self.journal.clone().close();
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
        Sink::new(self.groups.clone(), group, Arc::new(NoJournal))
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
    };
    fill(&mut commit);
    let position = group.commit(commit).unwrap();
    let (done, told) = channel();
    let tell = move |outcome| done.send(outcome).unwrap();
    group.when(position, Box::new(tell));
    let outcome = told.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(outcome, Outcome::Applied);
    position
}

const CHOSEN: &[u32] = &[CATALOG, TREE, INDEX];

#[test]
fn a_bootstrap_then_every_entry_and_nothing_private() {
    let node = Running::start();
    let group = node.make(1);
    for n in 0..50 {
        write(&group, TREE, &format!("k{n}"), Some("before"));
        write(&group, PRIVATE, &format!("{CANARY}{n}"), Some(CANARY));
    }
    let chosen = Chooser::of(CHOSEN);
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    let mut source = node.source(&mut sink, &chosen);
    assert!(pump(&mut source, &mut sink));
    same(&reader, &group, CHOSEN);
    let before = reader.group(1).applied();

    write(&group, CATALOG, "table", Some("descriptor"));
    write(&group, TREE, "k1", Some("after"));
    write(&group, TREE, "k2", None);
    let mixed = [(TREE, "k3"), (PRIVATE, CANARY)];
    let mixed = (0..).zip(mixed);
    let mixed = mixed.map(|(seq, (tree, key))| change(&group, seq, tree, key, Some(key)));
    place(&group, mixed.collect(), Vec::new());
    write(&group, PRIVATE, CANARY, None);
    group.close();
    assert!(pump(&mut source, &mut sink));
    same(&reader, &group, CHOSEN);
    let follower = reader.group(1);
    let old = follower.get(TREE, b"k1", before).unwrap();
    assert_eq!(old, Some(text("before")), "versions, as at home");
    assert_eq!(sink.progress().phase, Phase::Following);
    assert_eq!(sink.progress().bootstraps, 1);
    assert_eq!(reader.shown(1), group.applied());

    assert!(!follower.holds(PRIVATE));
    reader.groups.checkpoint(&NoJournal).unwrap();
    let everything = reader.everything();
    assert!(
        !everything
            .windows(CANARY.len())
            .any(|w| w == CANARY.as_bytes())
    );
    assert!(follower.is_followed() && follower.term().is_none());
}

#[test]
fn it_goes_on_from_its_checkpoint() {
    let node = Running::start();
    let group = node.make(1);
    let chosen = Chooser::of(CHOSEN);
    let store = MemoryStore::new();
    let mut written = 0;
    for restart in 0..4 {
        let reader = Reader::over(store.clone());
        assert_eq!(reader.groups.followed().unwrap().len(), restart.min(1));
        let mut sink = reader.sink(1);
        let source = &mut catch_up(&node, &mut sink, &chosen);
        for checkpoint in [true, false] {
            for _ in 0..3 {
                written += 1;
                write(
                    &group,
                    TREE,
                    &format!("k{}", written % 5),
                    Some(&written.to_string()),
                );
            }
            assert!(pump(source, &mut sink));
            if checkpoint {
                reader.groups.checkpoint(&NoJournal).unwrap();
            }
        }
        same(&reader, &group, CHOSEN);
        // A restart loses what came after the checkpoint, and nothing else is sent again.
        let expected = if restart == 0 { 1 } else { 0 };
        assert_eq!(sink.progress().bootstraps, expected, "restart {restart}");
    }
}

#[test]
fn a_stream_may_be_cut_anywhere() {
    let node = Running::start();
    let group = node.make(1);
    let chosen = Chooser::of(CHOSEN);
    // Rows of several pieces.
    let long = "x".repeat(100 << 10);
    for n in 0..6 {
        write(&group, TREE, &format!("k{n}"), Some(&long));
    }
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    let mut cut = 0;
    let mut ended = false;
    while !ended {
        let mut source = node.source(&mut sink, &chosen);
        for _ in 0..cut {
            match source.next().unwrap() {
                Some(piece) => assert!(sink.take(piece).unwrap()),
                None => ended = true,
            }
        }
        cut += 1;
        let follower = reader.group(1);
        if follower.applied() > Position::ZERO {
            follower.verify_sums().unwrap();
            write(&group, TREE, "more", Some(&cut.to_string()));
            ended |= cut > 20;
        } else {
            assert!(rows(&follower, TREE).is_empty(), "all or nothing");
        }
    }
    catch_up(&node, &mut sink, &chosen);
    same(&reader, &group, CHOSEN);
    assert_eq!(sink.progress().bootstraps, 1);
}

#[test]
fn what_is_chosen_may_change() {
    let node = Running::start();
    let group = node.make(1);
    write(&group, TREE, "k", Some("1"));
    write(&group, PRIVATE, "p", Some("1"));
    let chosen = Chooser::of(&[CATALOG, TREE, INDEX]);
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    let mut source = catch_up(&node, &mut sink, &chosen);

    // A table that comes is followed from its creation on, in the same stream.
    write(&group, CATALOG, "later", Some("descriptor"));
    chosen.set(&[CATALOG, TREE, INDEX, LATER]);
    write(&group, LATER, "first", Some("1"));
    assert!(pump(&mut source, &mut sink));
    same(&reader, &group, &[CATALOG, TREE, INDEX, LATER]);
    assert_eq!(sink.progress().bootstraps, 1);

    // One that has rows needs a bootstrap, and so does one that goes.
    for trees in [
        &[CATALOG, TREE, INDEX, LATER, PRIVATE][..],
        &[CATALOG, LATER],
    ] {
        chosen.set(trees);
        assert!(!pump(&mut source, &mut sink));
        source = catch_up(&node, &mut sink, &chosen);
        same(&reader, &group, trees);
    }
    let follower = reader.group(1);
    assert!(!follower.holds(TREE) && !follower.holds(PRIVATE));
    let trees: Vec<u32> = reader.store.trees().iter().map(|t| t.number).collect();
    assert_eq!(
        trees,
        [CATALOG, LATER],
        "what is not chosen any more is gone"
    );
    assert_eq!(sink.progress().bootstraps, 3);

    // A dropped one leaves with its entry.
    commit(&group, |commit| commit.dropped_trees = vec![LATER, TREE]);
    chosen.set(&[CATALOG]);
    write(&group, CATALOG, "later", None);
    assert!(pump(&mut source, &mut sink));
    assert_eq!(sink.progress().bootstraps, 3);
    let applied = follower.applied();
    assert_eq!(applied, group.applied());
    follower.raise_horizon(applied).unwrap();
    let trees: Vec<u32> = reader.store.trees().iter().map(|t| t.number).collect();
    assert!(!trees.contains(&LATER), "{trees:?}");
}

#[test]
fn after_a_restart_it_knows_what_was_chosen_meanwhile() {
    let node = Running::start();
    let group = node.make(1);
    let chosen = Chooser::of(&[CATALOG]);
    let store = MemoryStore::new();
    let reader = Reader::over(store.clone());
    let mut sink = reader.sink(1);
    let mut source = catch_up(&node, &mut sink, &chosen);
    chosen.set(CHOSEN);
    write(&group, TREE, "k", Some("1"));
    assert!(pump(&mut source, &mut sink));
    reader.groups.checkpoint(&NoJournal).unwrap();
    drop((sink, reader));
    let reader = Reader::over(store);
    let mut sink = reader.sink(1);
    assert!(reader.group(1).holds(TREE));
    write(&group, TREE, "k", Some("2"));
    catch_up(&node, &mut sink, &chosen);
    same(&reader, &group, CHOSEN);
    assert_eq!(sink.progress().bootstraps, 0);
}

/// Rows of 16 KiB.
fn large(group: &Group, tree: u32, rows: u32) -> Position {
    let long = "x".repeat(16 << 10);
    let changes = (0..rows).map(|n| change(group, n, tree, &format!("large{n:04}"), Some(&long)));
    place(group, changes.collect(), Vec::new())
}

#[test]
fn large_entries_come_whole() {
    let node = Running::start();
    let group = node.make(1);
    let chosen = Chooser::of(CHOSEN);
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    let mut source = catch_up(&node, &mut sink, &chosen);
    // In parts in the journal; as one entry here.
    large(&group, PRIVATE, 500);
    large(&group, TREE, 300);
    write(&group, TREE, "k", Some("behind it"));
    assert!(pump(&mut source, &mut sink));
    same(&reader, &group, CHOSEN);
    assert_eq!(sink.progress().bootstraps, 1);
    // Too large for that.
    large(&group, TREE, 1200);
    write(&group, TREE, "k", Some("behind it, too"));
    assert!(!pump(&mut source, &mut sink));
    catch_up(&node, &mut sink, &chosen);
    same(&reader, &group, CHOSEN);
    assert_eq!(sink.progress().bootstraps, 2);
}

#[test]
fn who_is_behind_retention_begins_anew() {
    let node = Running::start();
    let group = node.make(1);
    let chosen = Chooser::of(CHOSEN);
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    let mut source = catch_up(&node, &mut sink, &chosen);
    let long = "x".repeat(256 << 10);
    for n in 0..40 {
        node.clock.advance(1_000);
        write(&group, TREE, &format!("k{}", n % 7), Some(&long));
    }
    node.clock.advance(1_000);
    node.cut(&group);
    write(&group, TREE, "k", Some("last"));
    assert!(!pump(&mut source, &mut sink), "entries are missing");
    catch_up(&node, &mut sink, &chosen);
    same(&reader, &group, CHOSEN);
}

#[test]
fn an_entry_that_is_missing_is_noticed() {
    let node = Running::start();
    let group = node.make(1);
    let chosen = Chooser::of(CHOSEN);
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    let mut source = catch_up(&node, &mut sink, &chosen);
    // Even one that has nothing for this follower.
    write(&group, PRIVATE, "p", Some("1"));
    write(&group, TREE, "k", Some("1"));
    assert!(matches!(source.next().unwrap(), Some(Piece::Entry { .. })));
    let second = source.next().unwrap().unwrap();
    assert!(matches!(sink.take(second), Err(Error::Stream(_))));
    assert!(rows(&reader.group(1), TREE).is_empty());
    assert!(sink.request().has.is_none(), "it can't go on from there");
    catch_up(&node, &mut sink, &chosen);
    same(&reader, &group, CHOSEN);
}

#[test]
fn rows_that_were_not_chosen_are_refused() {
    let node = Running::start();
    let group = node.make(1);
    write(&group, PRIVATE, CANARY, Some(CANARY));
    write(&group, TREE, "k", Some("1"));
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    // What a source of its own mind would send: all rows under a mark that names one table.
    let honest = Chooser::of(CHOSEN);
    let mut source = node.source(&mut sink, &honest);
    let begin = source.next().unwrap().unwrap();
    let all = Chooser::of(&[CATALOG, TREE, INDEX, PRIVATE]);
    let mut other = node.source(&mut sink, &all);
    assert!(matches!(other.next().unwrap(), Some(Piece::Begin { .. })));
    assert!(sink.take(begin).unwrap());
    let mut taken = Ok(true);
    while let (Ok(true), Some(piece)) = (&taken, other.next().unwrap()) {
        taken = sink.take(piece);
    }
    assert!(taken.is_err());
    assert!(rows(&reader.group(1), TREE).is_empty());
    let mut source = node.source(&mut sink, &honest);
    assert!(pump(&mut source, &mut sink));
    same(&reader, &group, CHOSEN);
}

#[test]
fn a_follower_that_has_ended_writes_nothing() {
    let node = Running::start();
    let group = node.make(1);
    let chosen = Chooser::of(CHOSEN);
    write(&group, TREE, "k", Some("1"));
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    let mut source = catch_up(&node, &mut sink, &chosen);
    reader.groups.checkpoint(&NoJournal).unwrap();
    reader.groups.unfollow(GroupId(1), &NoJournal).unwrap();
    assert!(reader.store.trees().is_empty());
    write(&group, TREE, "k", Some("2"));
    let piece = source.next().unwrap().unwrap();
    let ended = sink.take(piece);
    let no_group = |e: &Error| matches!(e, Error::Storage(storage::Error::NoGroup(_)));
    assert!(ended.as_ref().is_err_and(no_group), "{ended:?}");
    assert!(reader.store.trees().is_empty());
    // Raft takes it over: it is empty, and nobody follows it.
    let replica = reader.groups.open_replica(GroupId(1), &NoJournal).unwrap();
    assert!(!replica.is_followed());
    assert!(
        !replica.holds(PRIVATE) && !replica.holds(TREE),
        "what was shown is not here yet"
    );
    assert!(reader.groups.follow(GroupId(1), Box::new(|| ())).is_err());
    assert_eq!(reader.groups.followed().unwrap(), []);
}

#[test]
fn a_bootstrap_that_ends_after_raft_took_over_writes_nothing() {
    let node = Running::start();
    let group = node.make(1);
    write(&group, TREE, "k", Some("1"));
    let reader = Reader::new();
    let mut sink = reader.sink(1);
    let mut source = node.source(&mut sink, &Chooser::of(CHOSEN));
    loop {
        let piece = source.next().unwrap().unwrap();
        if !matches!(piece, Piece::End(_)) {
            assert!(sink.take(piece).unwrap());
            continue;
        }
        let replica = reader.groups.open_replica(GroupId(1), &NoJournal).unwrap();
        let before = replica.applied_log();
        let ended = sink.take(piece);
        let no_group = |e: &Error| matches!(e, Error::Storage(storage::Error::NoGroup(_)));
        assert!(ended.as_ref().is_err_and(no_group), "{ended:?}");
        assert_eq!(replica.applied_log(), before);
        assert!(reader.store.trees().is_empty());
        break;
    }
}

#[test]
fn raft_gets_an_empty_group_from_a_follower() {
    let node = Running::start();
    let group = node.make(1);
    write(&group, TREE, "k", Some("1"));
    let store = MemoryStore::new();
    for restart in [false, true] {
        let reader = Reader::over(store.clone());
        let mut sink = reader.sink(1);
        catch_up(&node, &mut sink, &Chooser::of(CHOSEN));
        reader.groups.checkpoint(&NoJournal).unwrap();
        assert!(reader.groups.open(GroupId(1)).is_err());
        // Held, or only on disk.
        let reader = match restart {
            true => Reader::over(store.clone()),
            false => reader,
        };
        let replica = reader.groups.open_replica(GroupId(1), &NoJournal).unwrap();
        assert_eq!(replica.applied_log().0, storage::Applied::default());
        assert!(store.trees().is_empty());
    }
}

/// Three owners, each reading the one before; the last reader holds the first and the third. What
/// the first has done comes late.
#[test]
fn an_effect_is_not_seen_before_its_cause_across_an_owner_that_is_not_here() {
    let node = Running::start();
    let [a, b, c] = [1, 2, 3].map(|id| node.make(id));
    let chosen = Chooser::of(CHOSEN);
    let reader = Reader::new();
    let (mut sink_a, mut sink_c) = (reader.sink(1), reader.sink(3));
    write(&a, TREE, "cause", Some("0"));
    write(&c, TREE, "effect", Some("0"));
    let mut of_a = catch_up(&node, &mut sink_a, &chosen);
    let mut of_c = catch_up(&node, &mut sink_c, &chosen);
    let seen = |id: u32, key: &str| {
        let shown = reader.shown(id);
        let value = reader.group(id).get(TREE, key.as_bytes(), shown).unwrap();
        String::from_utf8(value.unwrap().to_vec()).unwrap()
    };
    for round in 1..10 {
        let value = round.to_string();
        node.clock.advance(1_000);
        let cause = write(&a, TREE, "cause", Some(&value));
        let next = vec![change(&b, 0, TREE, "between", Some(&value))];
        let between = place(&b, next, vec![(GroupId(1), cause)]);
        let last = vec![change(&c, 0, TREE, "effect", Some(&value))];
        place(&c, last, vec![(GroupId(2), between)]);
        assert!(pump(&mut of_c, &mut sink_c), "the effect arrives first");
        assert_eq!(rows(&reader.group(3), TREE)[&text("effect")], text(&value));
        let before = (round - 1).to_string();
        assert_eq!(seen(1, "cause"), before);
        assert_eq!(seen(3, "effect"), before, "an effect before its cause");
        assert!(pump(&mut of_a, &mut sink_a));
        assert_eq!(seen(1, "cause"), value);
        // Nothing says yet that no more of `a` lies before what the effect rests on: it is idle.
        let asked = reader.asked.load(Ordering::Relaxed);
        if seen(3, "effect") != value {
            reader.clock.advance(storage::CLOSE_PAUSE_MICROS);
            reader.groups.close_awaited();
            assert_eq!(reader.asked.load(Ordering::Relaxed), asked + 1);
            node.clock.advance(storage::CLOSE_PAUSE_MICROS);
            a.close_wanted();
            wait_for_close(&a, between);
            assert!(pump(&mut of_a, &mut sink_a));
        }
        assert_eq!(seen(3, "effect"), value);
        reader.groups.close_awaited();
        assert!(reader.asked.load(Ordering::Relaxed) <= asked + 1);
    }
}

fn wait_for_close(group: &Group, position: Position) {
    let (done, told) = channel();
    let tell = move |outcome| done.send(outcome).unwrap();
    group.when(position, Box::new(tell));
    let outcome = told.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(outcome, Outcome::Applied);
}

/// A bootstrap holds effects whose causes may not have come here.
#[test]
fn a_bootstrap_is_not_seen_before_what_it_rests_on() {
    let node = Running::start();
    let [a, c] = [1, 3].map(|id| node.make(id));
    let chosen = Chooser::of(CHOSEN);
    write(&a, TREE, "cause", Some("0"));
    let reader = Reader::new();
    let (mut sink_a, mut sink_c) = (reader.sink(1), reader.sink(3));
    let mut of_a = catch_up(&node, &mut sink_a, &chosen);
    let cause = write(&a, TREE, "cause", Some("1"));
    let effect = vec![change(&c, 0, TREE, "effect", Some("1"))];
    place(&c, effect, vec![(GroupId(1), cause)]);
    write(&c, TREE, "other", Some("1"));
    catch_up(&node, &mut sink_c, &chosen);
    assert_eq!(reader.shown(3), Position::ZERO);
    // Nor after a restart in between.
    reader.groups.checkpoint(&NoJournal).unwrap();
    assert!(pump(&mut of_a, &mut sink_a));
    assert_eq!(reader.shown(3), c.applied());
    let again = Reader::over(reader.store.clone());
    let mut sink_a = again.sink(1);
    again.sink(3);
    assert_eq!(again.shown(3), Position::ZERO);
    catch_up(&node, &mut sink_a, &chosen);
    assert_eq!(again.shown(3), c.applied());
}

/// The feed of a node reads its journal: of a group that is only followed there it has nothing.
#[test]
fn the_feed_does_not_pass_over_a_followed_group() {
    let node = Running::start();
    let group = node.make(1);
    write(&group, TREE, "k", Some("1"));
    let closed = node.feed.closed();
    let groups = node.node.groups();
    let followed = groups.follow(GroupId(9), Box::new(|| ())).unwrap();
    assert!(followed.is_followed());
    assert_eq!(node.feed.closed(), closed, "it holds nobody up");
    let read = node.feed.read(&[GroupId(1), GroupId(9)], None, closed);
    assert!(matches!(read.map(|_| ()), Err(Error::Unknown(GroupId(9)))));
    let request = feed::follow::Request {
        group: GroupId(9),
        has: None,
    };
    let source = node.feed.follow(&request, Chooser::of(CHOSEN));
    assert!(matches!(source.map(|_| ()), Err(Error::Unknown(_))));
}

/// What is not held, or not as of a position, is told: never does it look empty. A copy may be put in
/// the place of another one as of the same position, while somebody reads.
#[test]
fn what_is_not_here_never_looks_empty() {
    let node = Running::start();
    let group = node.make(1);
    write(&group, TREE, "k", Some("1"));
    let (reader, chosen) = (Reader::new(), Chooser::of(&[CATALOG]));
    let mut sink = reader.sink(1);
    catch_up(&node, &mut sink, &chosen);
    let copy = reader.group(1);
    let at = copy.applied();
    let get = |at: Position| copy.look(TREE, at, |group| group.get(TREE, b"k", at));
    assert_eq!(get(at).unwrap(), Looked::NotHeld);
    chosen.set(CHOSEN);
    catch_up(&node, &mut sink, &chosen);
    assert_eq!(get(at).unwrap(), Looked::Found(Some(text("1"))));
    // Below the copy nothing is known.
    assert_eq!(get(Position(at.0 - 1)).unwrap(), Looked::Later);
    let over = Arc::new(AtomicUsize::new(0));
    let reading = {
        let (copy, over) = (copy.clone(), over.clone());
        std::thread::spawn(move || {
            let mut found = 0;
            while over.load(Ordering::Relaxed) == 0 {
                match copy
                    .look(TREE, at, |group| group.get(TREE, b"k", at))
                    .unwrap()
                {
                    Looked::Found(value) => assert_eq!(value, Some(text("1"))),
                    Looked::NotHeld => {}
                    Looked::Later => panic!("it was there before"),
                }
                found += 1;
            }
            found
        })
    };
    for round in 0..200 {
        chosen.set(if round % 2 == 0 {
            &[CATALOG, TREE]
        } else {
            CHOSEN
        });
        catch_up(&node, &mut sink, &chosen);
    }
    over.store(1, Ordering::Relaxed);
    assert!(reading.join().unwrap() > 0);
    assert_eq!(
        (copy.applied(), sink.progress().bootstraps > 100),
        (at, true)
    );
    // One that came empty is not known below, though it had rows there.
    write(&group, LATER, "gone", Some("1"));
    write(&group, LATER, "gone", None);
    let mut source = catch_up(&node, &mut sink, &chosen);
    chosen.set(&[CATALOG, TREE, INDEX, LATER]);
    assert!(pump(&mut source, &mut sink), "it needs no bootstrap");
    let gone = |at: Position| copy.look(LATER, at, |group| group.get(LATER, b"gone", at));
    assert_eq!(gone(copy.applied()).unwrap(), Looked::Found(None));
    assert_eq!(gone(at).unwrap(), Looked::Later);
    assert_eq!(get(at).unwrap(), Looked::Found(Some(text("1"))));
    reader.groups.unfollow(GroupId(1), &NoJournal).unwrap();
    assert_eq!(get(at).unwrap(), Looked::NotHeld);
    assert!(copy.has_ended() && !copy.holds(TREE));
}
