//! Reads see their position, whatever goes on, and entries say what the feed needs.

use super::*;

#[test]
fn an_entry_says_who_when_and_after_what() {
    let node = Node::new();
    let first = node.put("k", "1");
    let mut commit = node.begin().put("k", "2").into_commit();
    let txid = commit.txid;
    commit.events.push(Event {
        seq: 1,
        kind: EventKind::Message,
        name: "happened".into(),
        table: Some(TREE),
        payload: bytes("{}"),
        about: Vec::new(),
    });
    commit.deps = vec![(GroupId(9), first)];
    let position = node.group.commit(commit).expect("placed");
    let log = node.local.log(GROUP);
    let record = log.last().expect("a record");
    let entry = Entry::decode(&record.payload).expect("whole");
    let header = &entry.header;
    assert_eq!((header.prev, header.position), (first, position));
    assert_eq!((header.txid, header.epoch), (txid, Term(1)));
    assert_eq!(header.deps, [(GroupId(9), first)]);
    assert_eq!(header.meta.role, "owner");
    assert_eq!(entry.events[0].name, "happened");
    assert_eq!(record.what, Some(Proposed::Entry(position)));
}

#[test]
fn scans_merge_overlay_and_store_in_both_directions() {
    let node = Node::new();
    for key in ["a", "c", "e", "g"] {
        node.put(key, "old");
    }
    node.local.hold(GROUP);
    node.begin()
        .put("b", "new")
        .put("c", "new")
        .remove("e")
        .put("h", "new")
        .commit(&node.group)
        .expect("ok");
    let rows = [
        ("a", "old"),
        ("b", "new"),
        ("c", "new"),
        ("g", "old"),
        ("h", "new"),
    ];
    let mut rows = rows
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec();
    let newest = node.group.newest().expect("no barrier");
    assert_eq!(node.scan(newest, Direction::Forward), rows);
    rows.reverse();
    assert_eq!(node.scan(newest, Direction::Backward), rows);
    let bounds = (Bound::Excluded(bytes("a")), Bound::Included(bytes("c")));
    let scan = node
        .group
        .scan(TREE, bounds, newest, Direction::Forward)
        .expect("readable");
    let keys: Vec<_> = scan.map(|row| row.expect("readable").0).collect();
    assert_eq!(keys, ["b", "c"]);
    let empty = (Bound::Excluded(bytes("c")), Bound::Excluded(bytes("c")));
    let mut scan = node
        .group
        .scan(TREE, empty, newest, Direction::Forward)
        .expect("readable");
    assert!(scan.next().is_none());
}

#[test]
fn an_open_scan_sees_its_position_while_everything_is_applied_and_written_again() {
    for direction in [Direction::Forward, Direction::Backward] {
        let node = Node::new();
        for n in 0..3000 {
            node.put(&format!("{n:05}"), "1");
        }
        node.local.hold(GROUP);
        for n in (0..3000).step_by(2) {
            node.put(&format!("{n:05}"), "2");
        }
        let at = node.group.newest().expect("no barrier");
        let _pin = node.group.pin(at);
        let all = (Bound::Unbounded, Bound::Unbounded);
        let mut scan = node.group.scan(TREE, all, at, direction).expect("readable");
        let mut rows: Vec<_> = scan
            .by_ref()
            .take(10)
            .map(|row| row.expect("read"))
            .collect();
        node.local.release(GROUP).expect("applied");
        for n in 0..3000 {
            node.begin()
                .remove(&format!("{n:05}"))
                .commit(&node.group)
                .expect("ok");
        }
        rows.extend(scan.map(|row| row.expect("readable")));
        if direction == Direction::Backward {
            rows.reverse();
        }
        assert_eq!(rows.len(), 3000);
        for (n, (key, value)) in rows.iter().enumerate() {
            let expected = if n % 2 == 0 { "2" } else { "1" };
            assert_eq!(
                (&**key, &**value),
                (format!("{n:05}").as_bytes(), expected.as_bytes())
            );
        }
    }
}

#[test]
fn a_position_that_is_not_here_is_not_answered() {
    let node = Node::new();
    let position = node.put("k", "1");
    let future = position.next();
    assert!(matches!(
        node.group.get(TREE, b"k", future),
        Err(Error::NotReached { .. })
    ));
    let all = (Bound::Unbounded, Bound::Unbounded);
    let scan = node.group.scan(TREE, all, future, Direction::Forward);
    assert!(matches!(scan.err(), Some(Error::NotReached { .. })));
    node.put("k", "2");
    node.group.raise_horizon(Position::MAX).expect("ok");
    assert!(matches!(
        node.group.get(TREE, b"k", position),
        Err(Error::TooOld { .. })
    ));
}

#[test]
fn a_small_transaction_that_is_much_larger_than_one_record_goes_in_parts() {
    let node = Node::new();
    let big = "x".repeat(10_000);
    let tx = (0..300).fold(node.begin(), |tx, n| tx.put(&format!("{n:03}"), &big));
    let position = tx.commit(&node.group).expect("placed");
    assert_eq!(node.group.newest(), Ok(position));
    assert_eq!(node.scan(position, Direction::Forward).len(), 300);
    let parts = node
        .local
        .log(GROUP)
        .iter()
        .filter(|r| r.what == Some(Proposed::Part))
        .count();
    assert_eq!(parts, 3);
}

#[test]
fn changes_is_send() {
    fn is_send<T: Send>() {}
    is_send::<Changes>();
}
