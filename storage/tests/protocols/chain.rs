//! Entries form a chain: nothing commits on a hole.

use super::*;

#[test]
fn chain_an_entry_of_another_term_is_a_no_op() {
    let node = Node::new();
    node.local.hold(GROUP);
    node.group.newest().expect("opens the era");
    let position = node.put("k", "v");
    let seen = node.watch(position);
    // The next leader is this node again; the old proposals reach the log behind its first entry.
    node.local.step_down(GROUP);
    let group = node.local.lead(GROUP).expect("leads again");
    assert_eq!(
        outcome(&seen),
        Some(Outcome::Lost),
        "all before the new term is applied"
    );
    let applied = group.applied_log().0;
    node.local.release(GROUP).expect("applied");
    let now = group.applied_log().0;
    assert_eq!(now.position, applied.position);
    assert!(now.index > applied.index, "they were in the log");
    assert_eq!(node.applied("k"), None);
}

#[test]
fn chain_what_was_computed_on_a_refused_entry_is_a_no_op() {
    let node = Node::new();
    node.put("k", "0");
    node.local.hold(GROUP);
    let first = node.put("k", "1");
    let second = node
        .begin()
        .unchanged("k")
        .put("k", "2")
        .commit(&node.group)
        .expect("placed");
    let (one, two) = (node.watch(first), node.watch(second));
    let third = node.begin().put("k", "3");
    node.local.refuse(GROUP, 1);
    doomed(third.commit(&node.group));
    assert_eq!(
        (outcome(&one), outcome(&two)),
        (None, None),
        "one is still in flight"
    );
    assert_eq!(node.group.newest(), Err(Wait(second)));
    node.local.deliver(GROUP, 1).expect("in the log");
    assert_eq!(
        (outcome(&one), outcome(&two)),
        (Some(Outcome::Lost), Some(Outcome::Lost))
    );
    node.local.release(GROUP).expect("nothing");
    assert_eq!(node.newest("k").as_deref(), Some("0"));
    let third = node.put("k", "3");
    assert!(third > second);
    assert_eq!(node.applied("k").as_deref(), Some("3"));
    assert_eq!(node.group.written_since(TREE, b"k", second), Some(true));
}

#[test]
fn chain_apply_names_the_broken_entry() {
    let node = Node::new();
    node.put("k", "1");
    let log = node.local.log(GROUP);
    let other = Node::new();
    let (applied, _) = other.group.applied_log();
    let index = Index(applied.index.0 + 1);
    let last = log.last().expect("an entry");
    let Some(Proposed::Entry(position)) = last.what else {
        panic!("an entry")
    };
    let verdict = other
        .group
        .apply(last.term, index, &last.payload, &mut NoParts)
        .expect("read");
    assert_eq!(verdict, Verdict::Broken(position), "its prev is not here");
    let verdict = other
        .group
        .apply(last.term, index, &last.payload, &mut NoParts)
        .expect("read");
    assert_eq!(verdict, Verdict::Repeated);
    assert_eq!(other.newest("k"), None);
    assert!(
        other.put("k", "2") > position,
        "positions grow beyond broken ones"
    );
}

#[test]
fn a_refused_batch_drops_overlay_and_transactions() {
    let node = Node::new();
    node.put("k", "0");
    node.local.hold(GROUP);
    let open = node.begin();
    node.put("k", "1");
    let reader = node.begin();
    assert!(node.group.alive(reader.base));
    let row = LockKey::Row {
        tree: TREE,
        key: bytes("k"),
    };
    let locked = node
        .group
        .locks()
        .lock(open.id, row.clone(), RowMode::Update, Policy::Wait);
    assert!(matches!(locked, Locked::Granted));
    let read = reader.base;
    node.local.refuse(GROUP, 1);
    assert!(!node.group.alive(read));
    assert!(matches!(
        node.group.get(TREE, b"k", read),
        Err(Error::NotReached { .. })
    ));
    doomed(reader.put("k", "2").commit(&node.group));
    let gone = node
        .group
        .locks()
        .lock(open.id, row, RowMode::Update, Policy::Wait);
    assert!(matches!(gone, Locked::Gone), "{gone:?}");
    assert!(node.group.locks().list().is_empty());
    doomed(open.put("x", "2").commit(&node.group));
    assert_eq!(node.newest("k").as_deref(), Some("0"));
    node.local
        .release(GROUP)
        .expect("the new era's first entry");
    node.put("k", "3");
    assert_eq!(node.applied("k").as_deref(), Some("3"));
}

#[test]
fn a_refused_first_entry_of_an_era_is_tried_again_only_when_somebody_asks() {
    let node = Node::new();
    node.put("k", "0");
    node.local.hold(GROUP);
    node.put("k", "1");
    node.local.refuse(GROUP, 1);
    assert_eq!(node.local.held(GROUP), 0);
    for _ in 0..3 {
        node.group.newest().expect("opens the era");
        assert_eq!(node.local.held(GROUP), 1);
        node.local.refuse(GROUP, 1);
    }
    node.local.release(GROUP).expect("nothing");
    node.put("k", "2");
    assert_eq!(node.applied("k").as_deref(), Some("2"));
}

#[test]
fn a_transaction_that_began_before_the_refusal_is_doomed_even_if_it_read_only_applied_state() {
    let node = Node::new();
    node.put("k", "0");
    let early = node.begin();
    node.local.hold(GROUP);
    node.put("k", "1");
    node.local.refuse(GROUP, 1);
    node.local.release(GROUP).expect("nothing");
    node.put("x", "1");
    doomed(early.put("y", "1").commit(&node.group));
}
