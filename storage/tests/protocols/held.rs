//! Nothing unproven ends a transaction.

use super::*;

#[test]
fn an_answer_waits_for_what_it_has_read() {
    let node = Node::new();
    node.local.hold(GROUP);
    node.put("k", "1");
    let read = node.group.newest().expect("no barrier");
    assert_eq!(node.get("k", read).as_deref(), Some("1"));
    let held = node.watch(read);
    node.local.deliver(GROUP, 1).expect("the era's first entry");
    assert_eq!(outcome(&held), None);
    node.local.deliver(GROUP, 1).expect("applied");
    assert_eq!(outcome(&held), Some(Outcome::Applied));
    assert_eq!(
        outcome(&node.watch(read)),
        Some(Outcome::Applied),
        "at once"
    );
}

#[test]
fn a_waiter_can_be_forgotten_and_a_future_position_waited_for() {
    let node = Node::new();
    let future = Position(node.put("k", "1").0 + (1 << 20));
    let seen = node.watch(future);
    let called = Arc::new(Mutex::new(false));
    let note = Arc::clone(&called);
    let waiter = node
        .group
        .when(
            future,
            Box::new(move |_| *note.lock().expect("not poisoned") = true),
        )
        .expect("not known yet");
    node.group.forget(waiter);
    node.put("k", "2");
    assert_eq!(outcome(&seen), None);
    node.clock.advance(1 << 11);
    node.group.close();
    assert_eq!(outcome(&seen), Some(Outcome::Applied));
    assert!(!*called.lock().expect("not poisoned"));
}
