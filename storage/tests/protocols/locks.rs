//! Locks are on keys, and the writer asserts once more.

use super::*;

#[test]
fn two_open_inserts_of_one_key_the_second_is_refused() {
    let node = Node::new();
    node.local.hold(GROUP);
    let first = node.begin().absent("k").put("k", "1");
    let second = node.begin().absent("k").put("k", "2");
    first.commit(&node.group).expect("the key is free");
    serialization(second.commit(&node.group));
    node.local.release(GROUP).expect("applied");
    serialization(
        node.begin()
            .absent("k")
            .check(Check::Absent {
                tree: TREE,
                key: bytes("k"),
                seen: Position::ZERO,
            })
            .put("k", "3")
            .commit(&node.group),
    );
    assert_eq!(node.applied("k").as_deref(), Some("1"));
}

#[test]
fn a_reference_to_a_key_removed_meanwhile_is_refused_but_an_update_is_not() {
    let node = Node::new();
    node.put("parent", "1");
    let child = node.begin().present("parent").put("child", "1");
    node.put("parent", "2");
    child
        .commit(&node.group)
        .expect("the parent was only updated");
    let child = node.begin().present("parent").put("other", "1");
    node.begin()
        .remove("parent")
        .commit(&node.group)
        .expect("ok");
    serialization(child.commit(&node.group));
}

#[test]
fn serializable_reads_are_validated_against_pending_entries() {
    let node = Node::new();
    node.put("b", "1");
    node.local.hold(GROUP);
    let keys = node.begin().unchanged("b").put("x", "1");
    let range = node.begin().unchanged_range("a", "c").put("y", "1");
    let beside = node
        .begin()
        .unchanged_range("c", "z")
        .unchanged("a")
        .put("z", "1");
    let phantom = node.begin().put("bb", "1");
    node.put("b", "2");
    serialization(keys.commit(&node.group));
    serialization(range.commit(&node.group));
    let empty = node.begin().unchanged_range("d", "e").put("w", "1");
    beside
        .commit(&node.group)
        .expect("nothing of it has changed");
    phantom.commit(&node.group).expect("blind");
    empty.commit(&node.group).expect("no phantom in its range");
    let phantom = node.begin().unchanged_range("bb", "bc").put("v", "1");
    node.begin()
        .put("bba", "1")
        .commit(&node.group)
        .expect("ok");
    serialization(phantom.commit(&node.group));
}

#[test]
fn a_removed_key_conflicts_too() {
    let node = Node::new();
    node.put("k", "1");
    let reader = node.begin().unchanged_range("a", "z").put("x", "1");
    node.begin().remove("k").commit(&node.group).expect("ok");
    serialization(reader.commit(&node.group));
    let insert = node.begin().absent("k").put("k", "2");
    insert.commit(&node.group).expect("it is free again");
}

#[test]
fn locks_are_released_when_the_entry_has_its_place() {
    let node = Node::new();
    node.local.hold(GROUP);
    let (first, second) = (node.begin(), node.begin());
    let row = LockKey::Row {
        tree: TREE,
        key: bytes("k"),
    };
    let locks = node.group.locks();
    let granted = locks.lock(first.id, row.clone(), RowMode::Update, Policy::Wait);
    assert!(matches!(granted, Locked::Granted));
    let Locked::Queued(ticket) = locks.lock(second.id, row, RowMode::Update, Policy::Wait) else {
        panic!("the row is locked")
    };
    first.put("k", "1").commit(&node.group).expect("placed");
    assert!(ticket.granted(), "before anything is durable");
    assert_eq!(node.applied("k"), None);
}

#[test]
fn a_refused_transaction_keeps_its_locks() {
    let node = Node::new();
    node.put("k", "1");
    let tx = node.begin().unchanged("k").put("x", "1");
    let row = LockKey::Row {
        tree: TREE,
        key: bytes("x"),
    };
    let granted = node
        .group
        .locks()
        .lock(tx.id, row.clone(), RowMode::Update, Policy::Wait);
    assert!(matches!(granted, Locked::Granted));
    let id = tx.id;
    node.put("k", "2");
    serialization(tx.commit(&node.group));
    assert!(node.group.locks().holds(id, &row, RowMode::Update));
}
