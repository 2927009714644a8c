//! What was proposed when a leader falls is unknown, not failed; outcomes and ids.

use super::*;

#[test]
fn unknown_is_not_failed_what_was_proposed_may_still_commit() {
    let node = Node::new();
    node.local.hold(GROUP);
    node.group.newest().expect("opens the era");
    let first = node.put("a", "1");
    let second = node.put("b", "1");
    let (one, two) = (node.watch(first), node.watch(second));
    node.local.step_down(GROUP);
    assert_eq!((outcome(&one), outcome(&two)), (None, None));
    assert_eq!(node.group.newest(), Ok(node.group.applied()));
    node.local
        .deliver(GROUP, 2)
        .expect("the opening entry and the first");
    assert_eq!(
        (outcome(&one), outcome(&two)),
        (Some(Outcome::Applied), None)
    );
    assert_eq!(node.applied("a").as_deref(), Some("1"));
    node.local.lose(GROUP, 1);
    node.local.lead(GROUP).expect("a new term");
    assert_eq!(outcome(&two), Some(Outcome::Lost));
}

#[test]
fn unknown_is_said_only_when_asked_to_give_up() {
    let node = Node::new();
    node.local.hold(GROUP);
    node.group.newest().expect("opens the era");
    let seen = node.watch(
        node.begin()
            .put("a", "1")
            .commit(&node.group)
            .expect("placed"),
    );
    let future = node.watch(Position::MAX);
    node.local.step_down(GROUP);
    node.group.give_up();
    assert_eq!(outcome(&seen), Some(Outcome::Unknown));
    assert_eq!(outcome(&future), None);
}

/// A client registers for the outcome only when its commit has returned, and the end of the log
/// may come in between.
#[test]
fn who_asks_after_the_giving_up_is_told_what_the_others_were() {
    let node = Node::new();
    node.local.hold(GROUP);
    node.group.newest().expect("opens the era");
    let placed = node.put("a", "1");
    node.local.step_down(GROUP);
    node.group.give_up();
    assert_eq!(outcome(&node.watch(placed)), Some(Outcome::Unknown));
    // The log decides after all.
    node.local.release(GROUP).expect("applied");
    assert_eq!(outcome(&node.watch(placed)), Some(Outcome::Applied));
}

#[test]
fn a_lost_answer_stays_lost_for_who_asks_later() {
    let node = Node::new();
    node.put("k", "0");
    node.local.hold(GROUP);
    let lost = node.put("k", "1");
    node.local.refuse(GROUP, 1);
    node.local.release(GROUP).expect("nothing");
    let after = node.put("k", "2");
    assert_eq!(outcome(&node.watch(lost)), Some(Outcome::Lost));
    assert_eq!(outcome(&node.watch(after)), Some(Outcome::Applied));
}

#[test]
fn the_outcome_of_a_recorded_transaction_is_found_and_removed_later() {
    let node = Node::new();
    let tx = node.begin().put("k", "1");
    let id = tx.id;
    let mut commit = tx.into_commit();
    commit.record_outcome = true;
    node.local.hold(GROUP);
    let position = node.group.commit(commit).expect("placed");
    assert_eq!(
        node.group.outcome(id).expect("readable"),
        Some(TxStatus::InProgress)
    );
    node.local.release(GROUP).expect("applied");
    assert_eq!(
        node.group.outcome(id).expect("readable"),
        Some(TxStatus::Committed(position))
    );
    assert_eq!(node.group.outcome(TxId(1)).expect("readable"), None);
    assert_eq!(node.group.remove_outcomes(id).expect("placed"), 0);
    assert_eq!(
        node.group.remove_outcomes(TxId(id.0 + 1)).expect("placed"),
        1
    );
    assert_eq!(node.group.outcome(id).expect("readable"), None);
}

/// `pg_xact_status` asks every group: an aborted transaction of one owner must not be taken for
/// the committed one of another that began in the same microsecond.
#[test]
fn no_two_groups_give_out_one_id() {
    let node = Node::new();
    let other = node.local.lead(GroupId(GROUP.0 + 1)).expect("opened");
    let aborted = other.begin();
    let tx = node.begin().put("k", "1");
    assert_ne!(tx.id, aborted);
    let mut commit = tx.into_commit();
    commit.record_outcome = true;
    node.group.commit(commit).expect("placed");
    assert_eq!(node.group.outcome(aborted).expect("readable"), None);
}

/// Row ids of tables without a key are made of them: one given out twice overwrites a row.
#[test]
fn no_id_comes_again_after_a_clock_set_back_and_a_restart() {
    let node = Node::new();
    node.put("k", "0");
    node.clock.set(NOW - 10_000_000);
    let mut last = TxId(0);
    for n in 0..100 {
        let tx = node.begin().put("k", &n.to_string());
        last = tx.id;
        tx.commit(&node.group).expect("placed");
    }
    let store = node.store.crash(|_, _, _| false);
    let clock = Arc::new(storage::ManualClock::new(NOW - 9_000_000));
    let local = Local::new(store as Arc<dyn TableStore>, clock);
    local
        .replay(GROUP, node.local.log(GROUP))
        .expect("replayed");
    let group = local.lead(GROUP).expect("leads");
    assert!(group.begin() > last);
}

#[test]
fn transaction_ids_are_never_given_out_twice() {
    let node = Node::new();
    let mut last = TxId(0);
    for n in 0..5000 {
        if n % 1000 == 0 {
            node.clock.set(NOW - n);
        }
        let id = node.group.begin();
        assert!(id > last);
        last = id;
    }
    // Another node whose clock shows the same moment, such as the next leader.
    let other = Node::new();
    other.local.groups().number_node(2);
    for _ in 0..10 {
        assert_ne!(other.group.begin().0 & 0x3ff, last.0 & 0x3ff);
    }
}
