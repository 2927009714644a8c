//! Transactions of many parts: invisible until whole, others go on between the parts, restarts
//! and refusals in between.

mod harness;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use harness::*;
use storage::{
    Change, Changes, Check, Commit, Direction, Entry, Index, IndexWrite, LargeChanges, Local,
    LockKey, Locked, PART_BYTES_MAX, PartSource, Policy, Position, Proposed, Refused, Result,
    RowMode, TableStore, TxId, Verdict, Wait, system,
};

/// Rows of about 10 KB, made as they are asked for; pauses at some of them.
struct Rows {
    at: u32,
    end: u32,
    pause: Option<(u32, Sender<()>, Receiver<()>)>,
    catalog: bool,
}

fn rows(end: u32) -> Rows {
    Rows {
        at: 0,
        end,
        pause: None,
        catalog: false,
    }
}

fn key(n: u32) -> String {
    format!("row{n:06}")
}

impl LargeChanges for Rows {
    fn next(&mut self) -> Result<Option<Change>> {
        if let Some((at, paused, go)) = &self.pause
            && *at == self.at
        {
            paused.send(()).expect("the test waits");
            go.recv().expect("the test goes on");
            self.pause = None;
        }
        if self.at == self.end {
            return Ok(None);
        }
        let n = self.at;
        self.at += 1;
        if self.catalog && n == 0 {
            let (tree, key) = (system::CATALOG, bytes("table"));
            return Ok(Some(Change {
                tree,
                key,
                new: Some(bytes("{}")),
                ..Change::default()
            }));
        }
        let index = IndexWrite {
            tree: INDEX,
            key: bytes(&format!("i{n}")),
            value: Some(bytes("r")),
        };
        Ok(Some(Change {
            seq: n,
            tree: TREE,
            feed: true,
            key: bytes(&key(n)),
            new: Some(bytes(&"x".repeat(10_000))),
            index: vec![index],
            ..Change::default()
        }))
    }

    fn trees(&self) -> Vec<u32> {
        vec![system::CATALOG, TREE, INDEX]
    }
}

fn commit(node: &Node, rows: Rows) -> Commit {
    Commit {
        changes: Changes::Large(Box::new(rows)),
        ..node.begin().into_commit()
    }
}

fn parts(node: &Node) -> usize {
    node.local
        .log(GROUP)
        .iter()
        .filter(|record| record.what == Some(Proposed::Part))
        .count()
}

#[test]
fn a_large_transaction_is_visible_as_a_whole() {
    let node = Node::new();
    node.put("a", "1");
    let before = node.group.applied();
    let position = node
        .group
        .commit(commit(&node, rows(1000)))
        .expect("placed");
    assert_eq!(parts(&node), 10);
    assert_eq!(node.group.newest(), Ok(position));
    assert_eq!(node.scan(position, Direction::Forward).len(), 1001);
    assert_eq!(node.scan(before, Direction::Forward).len(), 1);
    assert_eq!(
        text(node.group.get(INDEX, b"i77", position).expect("read")).as_deref(),
        Some("r")
    );
    for record in node.local.log(GROUP) {
        assert!(record.payload.len() <= PART_BYTES_MAX + 20_000);
    }
    let entry = Entry::decode(&node.local.log(GROUP).last().expect("one").payload).expect("whole");
    let parts = entry.header.parts.expect("parts");
    assert_eq!((parts.parts, parts.changes), (10, 1000));
    assert_eq!(
        node.group.parts_floor(),
        None,
        "nothing is kept for it any more"
    );
}

#[test]
fn others_go_on_between_the_parts_and_nobody_sees_them() {
    let node = Node::new();
    node.put("row000500", "before");
    let (paused, wait_paused) = channel();
    let (go, wait_go) = channel();
    let mut large = rows(1000);
    large.pause = Some((900, paused, wait_go));
    let commit = commit(&node, large);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| node.group.commit(commit));
        wait_paused.recv().expect("paused");
        assert!(parts(&node) >= 8 && node.group.parts_floor().is_some());
        assert!(node.group.has_open_parts());
        let other = node.put("other", "1");
        assert_eq!(node.group.newest(), Ok(other), "parts alone stop nobody");
        assert_eq!(node.scan(other, Direction::Forward).len(), 2);
        go.send(()).expect("waiting");
        let position = thread.join().expect("no panic").expect("placed");
        assert!(position > other);
        assert_eq!(node.scan(position, Direction::Forward).len(), 1001);
        assert_eq!(
            node.scan(other, Direction::Forward).len(),
            2,
            "history stays"
        );
    });
}

#[test]
fn a_large_entry_conflicts_with_all_of_its_trees_but_for_what_locks_prove() {
    let node = Node::new();
    node.put("row000001", "old");
    let reader = node.begin().unchanged("row000001").put("a", "1");
    let range = node.begin().unchanged_range("row", "rox").put("b", "1");
    let other = node.begin().unchanged("zzz").put("c", "1");
    let locked = node.begin();
    let row = LockKey::Row {
        tree: TREE,
        key: bytes("zzz"),
    };
    let answer = node
        .group
        .locks()
        .lock(locked.id, row, RowMode::Update, Policy::Wait);
    assert!(matches!(answer, Locked::Granted));
    let position = node.group.commit(commit(&node, rows(300))).expect("placed");
    assert!(node.group.applied() >= position);
    assert!(matches!(
        reader.commit(&node.group),
        Err(Refused::Serialization(_))
    ));
    assert!(matches!(
        range.commit(&node.group),
        Err(Refused::Serialization(_))
    ));
    // That a key beside was not written can't be known, unless a lock proves it.
    assert!(matches!(
        other.commit(&node.group),
        Err(Refused::Serialization(_))
    ));
    locked
        .unchanged("zzz")
        .put("zzz", "1")
        .commit(&node.group)
        .expect("its lock proves it");
    let insert = |key: &str, seen| {
        let check = Check::Absent {
            tree: TREE,
            key: bytes(key),
            seen,
        };
        node.begin().check(check).put(key, "2").commit(&node.group)
    };
    insert("yyy", Position(position.0 - 1)).expect("the store knows that it is free");
    assert!(matches!(
        insert("row000002", Position(position.0 - 1)),
        Err(Refused::Serialization(_))
    ));
}

#[test]
fn a_placed_large_entry_makes_new_statements_wait() {
    let node = Node::new();
    let mut commit = commit(&node, rows(0));
    commit.dropped_trees = vec![INDEX];
    node.local.hold(GROUP);
    // Without parts there is nothing to wait for in commit.
    let position = node.group.commit(commit).expect("placed");
    assert_eq!(node.group.newest(), Err(Wait(position)));
    node.local.release(GROUP).expect("applied");
    assert_eq!(node.group.newest(), Ok(position));
}

#[test]
fn changes_of_the_catalog_stay_in_the_entry() {
    let node = Node::new();
    let mut large = rows(500);
    large.catalog = true;
    let position = node.group.commit(commit(&node, large)).expect("placed");
    let entry = Entry::decode(&node.local.log(GROUP).last().expect("one").payload).expect("whole");
    assert_eq!(entry.changes.len(), 1);
    let row = node
        .group
        .get(system::CATALOG, b"table", position)
        .expect("readable");
    assert_eq!(text(row).as_deref(), Some("{}"));
}

#[test]
fn a_refused_part_or_a_fallen_leader_ends_the_waiting() {
    for fall in [false, true] {
        let node = Node::new();
        node.group.newest().expect("opens the era");
        node.local.hold(GROUP);
        let commit = commit(&node, rows(3000));
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| node.group.commit(commit));
            while node.local.held(GROUP) < 8 {
                std::thread::yield_now();
            }
            if fall {
                node.local.step_down(GROUP);
            } else {
                node.local.refuse(GROUP, 1);
            }
            let answer = thread.join().expect("no panic");
            assert!(matches!(answer, Err(Refused::NotLeader)), "{answer:?}");
        });
        assert!(node.local.held(GROUP) <= 8, "a few at a time");
        node.local.release(GROUP).expect("applied");
        assert_eq!(node.scan(node.group.applied(), Direction::Forward), []);
        if fall {
            let floor = node.group.parts_floor();
            assert!(floor.is_some(), "they might still be wanted in this term");
            node.local.lead(GROUP).expect("leads");
        }
        assert_eq!(node.group.parts_floor(), None, "not any more");
        assert!(!node.group.has_open_parts());
    }
}

#[test]
fn a_few_parts_at_a_time_and_the_entry_after_the_last() {
    let node = Node::new();
    node.group.newest().expect("opens the era");
    let commit = commit(&node, rows(2000));
    node.local.hold(GROUP);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| node.group.commit(commit));
        let before = node.group.newest().expect("nothing is placed");
        for part in 0..20 {
            while node.local.held(GROUP) < 8.min(20 - part) {
                std::thread::yield_now();
            }
            assert!(node.local.held(GROUP) <= 8);
            assert_eq!(
                node.group.newest(),
                Ok(before),
                "the entry is not placed yet"
            );
            node.local.deliver(GROUP, 1).expect("applied");
        }
        let position = thread.join().expect("no panic").expect("placed");
        assert_eq!(node.group.newest(), Err(Wait(position)));
        assert_eq!(node.local.held(GROUP), 1);
    });
    node.local.release(GROUP).expect("applied");
    assert_eq!(
        node.scan(node.group.applied(), Direction::Forward).len(),
        2000
    );
}

#[test]
fn the_parts_of_a_refused_transaction_are_given_up() {
    let node = Node::new();
    node.put("a", "1");
    let tx = node.begin().unchanged("a");
    node.put("a", "2");
    let txid = tx.id;
    let large = Commit {
        changes: Changes::Large(Box::new(rows(500))),
        ..tx.into_commit()
    };
    let answer = node.group.commit(large);
    assert!(
        matches!(answer, Err(Refused::Serialization(_))),
        "{answer:?}"
    );
    assert_eq!(parts(&node), 5);
    assert_eq!(node.group.parts_floor(), None);
    let entry = Entry::decode(&node.local.log(GROUP).last().expect("one").payload).expect("whole");
    assert!(entry.close);
    assert_eq!(entry.abandoned, [txid]);
    node.put("a", "3");
    let entry = Entry::decode(&node.local.log(GROUP).last().expect("one").payload).expect("whole");
    assert_eq!(entry.abandoned, [], "said once is enough");
}

#[test]
fn a_spool_that_fails_leaves_nothing() {
    struct Broken;
    impl LargeChanges for Broken {
        fn next(&mut self) -> Result<Option<Change>> {
            Err(storage::Error::Store("spool".into()))
        }
        fn trees(&self) -> Vec<u32> {
            vec![TREE]
        }
    }
    let node = Node::new();
    let changes = Changes::Large(Box::new(Broken));
    let answer = node.group.commit(Commit {
        changes,
        ..node.begin().into_commit()
    });
    assert!(matches!(answer, Err(Refused::Storage(_))), "{answer:?}");
    node.put("a", "1");
}

struct NoParts;

impl PartSource for NoParts {
    fn part(&mut self, index: Index) -> Result<journal::Payload> {
        panic!("no part {index:?}")
    }
}

#[test]
fn an_entry_whose_parts_are_not_all_there_is_a_no_op() {
    let node = Node::new();
    node.group.commit(commit(&node, rows(300))).expect("placed");
    let other = Node::new();
    // The same chain up to the entry, but one part is missing.
    let mut log = node.local.log(GROUP);
    let entry = log.pop().expect("the entry");
    let missing = log
        .iter()
        .position(|r| r.what == Some(Proposed::Part))
        .expect("parts");
    log.remove(missing);
    log.remove(0);
    for record in log {
        match record.what {
            Some(Proposed::Part) => {
                other
                    .group
                    .apply_part(record.term, record.index, &record.payload)
                    .expect("read");
            }
            _ => {
                let verdict =
                    other
                        .group
                        .apply(record.term, record.index, &record.payload, &mut NoParts);
                verdict.expect("read");
            }
        }
    }
    let verdict = other
        .group
        .apply(entry.term, entry.index, &entry.payload, &mut NoParts);
    assert!(matches!(verdict.expect("read"), Verdict::Broken(_)));
    assert_eq!(other.scan(other.group.applied(), Direction::Forward), []);
}

#[test]
fn a_checkpoint_between_the_parts_keeps_what_the_entry_will_need() {
    for survives in [false, true] {
        let node = Node::new();
        let (paused, wait_paused) = channel();
        let (go, wait_go) = channel();
        let mut large = rows(1000);
        large.pause = Some((500, paused, wait_go));
        let commit = commit(&node, large);
        let first = std::thread::scope(|scope| {
            let thread = scope.spawn(|| node.group.commit(commit));
            wait_paused.recv().expect("paused");
            node.put("other", "1");
            node.local
                .groups()
                .checkpoint(&*node.local)
                .expect("written");
            let first = node.group.parts_floor().expect("open");
            go.send(()).expect("waiting");
            thread.join().expect("no panic").expect("placed");
            first
        });
        assert_eq!(
            node.group.parts_floor(),
            Some(first),
            "the checkpoint needs them"
        );
        let expected = node.scan(node.group.applied(), Direction::Forward);
        assert_eq!(expected.len(), 1001);
        let store = node.store.crash(|_, _, _| survives);
        let local = Local::new(store.clone() as Arc<dyn TableStore>, node.clock.clone());
        let group = local.groups().open(GROUP).expect("opens");
        let index = group.applied_log().0.index;
        assert!(first < index);
        assert_eq!(group.parts_floor(), Some(first));
        // The journal has all of it; the log below the checkpoint is only read for its parts.
        local
            .replay(GROUP, node.local.log(GROUP))
            .expect("replayed");
        let again = Node {
            store,
            clock: node.clock.clone(),
            local,
            group,
        };
        assert_eq!(
            again.scan(again.group.applied(), Direction::Forward),
            expected
        );
        assert_eq!(again.group.applied_log().0, node.group.applied_log().0);
        again
            .local
            .groups()
            .checkpoint(&*again.local)
            .expect("written");
        assert_eq!(again.group.parts_floor(), None);
    }
}

#[test]
fn a_checkpoint_within_the_apply_of_a_large_entry_is_one_before_it() {
    struct Checkpointing<'a> {
        node: &'a Node,
        parts: Vec<(Index, journal::Payload)>,
        asked: usize,
    }
    impl PartSource for Checkpointing<'_> {
        fn part(&mut self, index: Index) -> Result<journal::Payload> {
            self.asked += 1;
            self.node.local.groups().checkpoint(&*self.node.local)?;
            let part = self
                .parts
                .iter()
                .find(|(at, _)| *at == index)
                .expect("kept");
            Ok(part.1.clone())
        }
    }
    let node = Node::new();
    node.group.commit(commit(&node, rows(500))).expect("placed");
    let other = Node::new();
    let mut parts = Vec::new();
    let mut log = node.local.log(GROUP);
    let entry = log.pop().expect("the entry");
    for record in log.into_iter().skip(1) {
        if record.what == Some(Proposed::Part) {
            other
                .group
                .apply_part(record.term, record.index, &record.payload)
                .expect("read");
            parts.push((record.index, record.payload));
        } else {
            let (term, index) = (record.term, record.index);
            other
                .group
                .apply(term, index, &record.payload, &mut NoParts)
                .expect("read");
        }
    }
    let before = other.group.applied_log().0;
    let mut source = Checkpointing {
        node: &other,
        parts,
        asked: 0,
    };
    other
        .group
        .apply(entry.term, entry.index, &entry.payload, &mut source)
        .expect("applied");
    assert_eq!(source.asked, 5);
    assert_eq!(other.store.checkpoint()[0].applied, before);
    assert_eq!(
        other.scan(other.group.applied(), Direction::Forward).len(),
        500
    );
    // After a crash the half that is in the files is seen by nobody until the replay is through.
    let store = other.store.crash(|_, _, _| true);
    let local = Local::new(store as Arc<dyn TableStore>, other.clock.clone());
    let group = local.groups().open(GROUP).expect("opens");
    assert!(!group.ready());
    let position = node.group.applied();
    local
        .replay(GROUP, node.local.log(GROUP))
        .expect("replayed");
    assert!(group.ready());
    assert_eq!(group.applied(), position);
}

#[test]
fn sizes_that_no_store_takes_are_refused_before_they_have_a_place() {
    let node = Node::new();
    let empty = node.begin().put("", "x").commit(&node.group);
    assert!(matches!(empty, Err(Refused::Storage(_))), "{empty:?}");
    let long = "k".repeat(70_000);
    let long = node
        .begin()
        .put("k", "x")
        .index(&long, None)
        .commit(&node.group);
    assert!(matches!(long, Err(Refused::Storage(_))), "{long:?}");
    assert_eq!(node.group.outcome(TxId(7)).expect("readable"), None);
}

/// What a journal of small segments does not take must be refused before it has a place: the log
/// ends for everybody over a record that is too large.
#[test]
fn what_no_record_holds_is_refused_and_nothing_is_placed() {
    const BYTES_MAX: usize = 2 * PART_BYTES_MAX;
    let node = Node::new();
    node.put("a", "1");
    node.local.limit_payloads(BYTES_MAX);
    let row = |tree: u32, key: &str, old: usize, new: usize| Change {
        tree,
        key: bytes(key),
        old: (old > 0).then(|| bytes(&"x".repeat(old))),
        new: Some(bytes(&"x".repeat(new))),
        ..Change::default()
    };
    let event = |bytes: usize| storage::Event {
        seq: 9,
        kind: storage::EventKind::Message,
        name: "m".into(),
        table: None,
        payload: vec![7; bytes].into(),
        about: Vec::new(),
    };
    let third = BYTES_MAX / 3;
    let cases = [
        ("a row", vec![row(TREE, "k", 0, BYTES_MAX)], vec![]),
        (
            "a row before and after",
            vec![row(TREE, "k", BYTES_MAX / 2, BYTES_MAX / 2)],
            vec![],
        ),
        ("an event", vec![], vec![event(BYTES_MAX)]),
        (
            "events together",
            vec![],
            vec![event(third), event(third), event(third)],
        ),
        (
            "rows of the catalog together",
            ["k", "l", "m"]
                .map(|key| row(system::CATALOG, key, 0, third))
                .to_vec(),
            vec![],
        ),
        (
            "rows and events",
            vec![row(TREE, "k", 0, third)],
            vec![event(third), event(third)],
        ),
    ];
    let records = node.local.log(GROUP).len();
    for (what, changes, events) in cases {
        let answer = node.group.commit(Commit {
            changes: Changes::Small(changes),
            events,
            ..node.begin().into_commit()
        });
        assert!(
            matches!(answer, Err(Refused::RecordTooLarge(BYTES_MAX))),
            "{what}: {answer:?}"
        );
        assert_eq!(parts(&node), 0, "{what}");
    }
    let entries = node.local.log(GROUP).into_iter().skip(records);
    for entry in entries {
        assert!(Entry::decode(&entry.payload).expect("whole").close);
    }
    // Whatever is split goes on.
    node.group.commit(commit(&node, rows(1000))).expect("parts");
    node.put("a", "2");
    assert_eq!(node.applied("a").as_deref(), Some("2"));
}

#[test]
fn a_record_may_be_as_large_as_the_log_takes_it() {
    const BYTES_MAX: usize = 4096;
    let node = Node::new();
    node.put("a", "1");
    node.local.limit_payloads(BYTES_MAX);
    let message = |bytes: usize| {
        node.group.commit(Commit {
            events: vec![storage::Event {
                seq: 1,
                kind: storage::EventKind::Message,
                name: "m".into(),
                table: None,
                payload: vec![7; bytes].into(),
                about: Vec::new(),
            }],
            ..node.begin().into_commit()
        })
    };
    let most = (0..BYTES_MAX)
        .rev()
        .find(|bytes| message(*bytes).is_ok())
        .expect("some fit");
    let last = node.local.log(GROUP).pop().expect("an entry");
    assert_eq!(
        last.payload.len(),
        BYTES_MAX,
        "with {most} bytes of its own"
    );
}
