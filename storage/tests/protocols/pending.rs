//! What is placed is visible to the next transaction, and to nobody else.

use super::*;

#[test]
fn a_pending_entry_is_read_at_the_newest_position_and_not_at_the_applied_one() {
    let node = Node::new();
    node.put("k", "old");
    node.local.hold(GROUP);
    let position = node.put("k", "new");
    assert_eq!(node.newest("k").as_deref(), Some("new"));
    assert_eq!(node.applied("k").as_deref(), Some("old"));
    node.local.deliver(GROUP, 1).expect("applied");
    assert_eq!(node.group.applied(), position);
    assert_eq!(node.applied("k").as_deref(), Some("new"));
}

#[test]
fn a_hot_row_is_written_many_times_before_anything_is_applied() {
    let node = Node::new();
    node.put("n", "0");
    node.local.hold(GROUP);
    for n in 1..=100 {
        let read: u32 = node.newest("n").expect("a row").parse().expect("a number");
        assert_eq!(read, n - 1);
        node.begin()
            .unchanged("n")
            .put("n", &n.to_string())
            .commit(&node.group)
            .expect("placed");
    }
    assert_eq!(node.applied("n").as_deref(), Some("0"));
    node.local.release(GROUP).expect("applied");
    assert_eq!(node.applied("n").as_deref(), Some("100"));
}

#[test]
fn an_entry_becomes_visible_as_a_whole() {
    let node = Node::new();
    let before = node.group.applied();
    node.local.hold(GROUP);
    node.begin()
        .put("a", "1")
        .put("b", "1")
        .index("ia", Some("a"))
        .commit(&node.group)
        .expect("ok");
    assert_eq!(node.scan(node.group.applied(), Direction::Forward), []);
    node.local.deliver(GROUP, 2).expect("applied");
    let at = node.group.applied();
    assert_eq!(node.scan(at, Direction::Forward).len(), 2);
    assert_eq!(
        text(node.group.get(INDEX, b"ia", at).expect("readable")).as_deref(),
        Some("a")
    );
    assert_eq!(
        node.scan(before, Direction::Forward),
        [],
        "at the old position still nothing"
    );
}

#[test]
fn where_one_row_gives_an_index_key_up_and_another_takes_it_the_put_holds() {
    let node = Node::new();
    node.begin()
        .put("1", "a")
        .index("a", Some("1"))
        .put("2", "b")
        .index("b", Some("2"))
        .commit(&node.group)
        .expect("ok");
    node.local.hold(GROUP);
    node.begin()
        .put("1", "b")
        .index("a", None)
        .index("b", Some("1"))
        .put("2", "a")
        .index("b", None)
        .index("a", Some("2"))
        .commit(&node.group)
        .expect("ok");
    for _ in 0..2 {
        let at = node.group.newest().expect("no barrier");
        let get = |key: &[u8]| text(node.group.get(INDEX, key, at).expect("readable"));
        assert_eq!(
            (get(b"a").as_deref(), get(b"b").as_deref()),
            (Some("2"), Some("1"))
        );
        node.local.release(GROUP).expect("applied");
    }
}
