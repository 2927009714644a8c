//! The interleavings that must not happen around a group's writer, each named after its rule.

mod harness;

use std::ops::Bound;
use std::sync::{Arc, Mutex};

use harness::*;
use storage::{
    Change, Changes, Check, Direction, Entry, Error, Event, EventKind, GroupId, Index, Local,
    LockKey, Locked, Observer, Outcome, PartSource, Policy, Position, Proposed, Refused, RowMode,
    TableStore, Term, TreeId, TxId, TxStatus, Verdict, Wait, system,
};

fn serialization(answer: Result<Position, Refused>) {
    assert!(
        matches!(answer, Err(Refused::Serialization(_))),
        "{answer:?}"
    );
}

fn doomed(answer: Result<Position, Refused>) {
    assert!(matches!(answer, Err(Refused::NotLeader)), "{answer:?}");
}

struct NoParts;

impl PartSource for NoParts {
    fn part(&mut self, index: Index) -> storage::Result<journal::Payload> {
        panic!("no part {index:?}")
    }
}

// What is placed is visible to the next transaction, and to nobody else.

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

// Chain.

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

// Unknown is not failed.

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

// Locks are on keys; the writer asserts once more.

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

// Nothing unproven ends.

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

// Positions.

#[test]
fn positions_follow_clock_last_and_deps() {
    let node = Node::new();
    let first = node.put("k", "1");
    assert_eq!(first.unix_micros(), NOW);
    assert_eq!(node.put("k", "2"), first.next(), "the clock stands still");
    node.clock.set(NOW - 1_000_000);
    assert_eq!(
        node.put("k", "3"),
        first.next().next(),
        "it may even go back"
    );
    let dep = Position(first.0 + 500);
    let mut commit = node.begin().put("k", "4").into_commit();
    commit.deps = vec![(GroupId(2), dep)];
    assert_eq!(node.group.commit(commit).expect("placed"), dep.next());
    node.clock.set(NOW + 5);
    assert_eq!(node.put("k", "5"), Position::from_unix_micros(NOW + 5));
}

#[test]
fn the_end_of_the_number_space_is_an_error() {
    let node = Node::new();
    let mut commit = node.begin().put("k", "4").into_commit();
    commit.deps = vec![(GroupId(2), Position::MAX)];
    assert!(matches!(
        node.group.commit(commit),
        Err(Refused::Storage(Error::Format(_)))
    ));
    node.put("k", "5");
}

#[test]
fn a_close_stamps_the_clock_and_shows_nothing() {
    let node = Node::new();
    node.put("k", "1");
    node.clock.advance(1000);
    node.group.close();
    assert_eq!(node.group.applied(), Position::from_unix_micros(NOW + 1000));
    let log = node.local.log(GROUP);
    let entry = Entry::decode(&log.last().expect("a record").payload).expect("whole");
    assert!(entry.close && entry.changes.is_empty());
    node.local.step_down(GROUP);
    node.group.close();
    assert_eq!(node.local.log(GROUP).len(), log.len());
}

#[test]
fn positions_after_a_restart_are_above_the_log_and_what_was_lost_of_it() {
    let node = Node::new();
    node.put("k", "1");
    node.local.hold(GROUP);
    node.put("k", "2");
    let broken = node.put("k", "3");
    node.local.refuse(GROUP, 1);
    node.local
        .deliver(GROUP, 1)
        .expect("in the log, and broken");
    node.local
        .groups()
        .checkpoint(&*node.local)
        .expect("written");
    let log = node.local.log(GROUP);
    let rest = |local: &Local| {
        let group = local.groups().open(GROUP).expect("opens");
        let index = group.applied_log().0.index;
        let rest = log
            .iter()
            .filter(|record| record.index > index)
            .cloned()
            .collect();
        local.replay(GROUP, rest).expect("replayed");
    };
    for survives in [false, true] {
        let store = node.store.crash(|_, _, _| survives);
        let clock = Arc::new(storage::ManualClock::new(NOW - 60_000_000));
        let local = Local::new(store as Arc<dyn TableStore>, clock);
        rest(&local);
        let group = local.lead(GROUP).expect("leads");
        assert_eq!(
            text(group.get(TREE, b"k", group.applied()).expect("read")).as_deref(),
            Some("1")
        );
        let opened = group.newest().expect("no barrier");
        assert!(opened > broken, "{opened} is not above {broken}");
        assert!(group.begin().0 > broken.0);
    }
}

#[test]
fn a_restart_replays_what_the_checkpoint_does_not_have() {
    for survives in 0..4u64 {
        let node = Node::new();
        for n in 0..10 {
            node.put(&format!("k{n}"), "1");
        }
        node.local
            .groups()
            .checkpoint(&*node.local)
            .expect("written");
        for n in 5..15 {
            node.put(&format!("k{n}"), "2");
        }
        node.begin().remove("k0").commit(&node.group).expect("ok");
        let expected = node.scan(node.group.applied(), Direction::Forward);
        let store = node
            .store
            .crash(|_, key, at| (at.0 + key.len() as u64) % 4 < survives);
        let local = Local::new(store.clone() as Arc<dyn TableStore>, node.clock.clone());
        let group = local.groups().open(GROUP).expect("opens");
        let index = group.applied_log().0.index;
        let log = node.local.log(GROUP);
        let rest: Vec<_> = log
            .into_iter()
            .filter(|record| record.index > index)
            .collect();
        assert_eq!(rest.len(), 11);
        if survives > 0 {
            assert!(!group.ready() && group.applied() == Position::ZERO);
        }
        local.replay(GROUP, rest).expect("replayed");
        assert!(group.ready());
        assert_eq!(group.applied(), node.group.applied());
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
    }
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

// The catalog.

#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl Observer for Seen {
    fn system(&self, group: GroupId, position: Position, changes: &[Change]) {
        let trees: Vec<u32> = changes.iter().map(|change| change.tree).collect();
        let line = format!("{group} system {trees:?} {}", position.unix_micros() - NOW);
        self.0.lock().expect("not poisoned").push(line);
    }

    fn published(&self, group: GroupId, position: Position) {
        let line = format!("{group} published {}", position.unix_micros() - NOW);
        self.0.lock().expect("not poisoned").push(line);
    }
}

#[test]
fn nobody_reads_behind_a_change_of_the_catalog_before_it_is_applied() {
    let node = Node::new();
    node.local.hold(GROUP);
    node.group.newest().expect("opens the era");
    let before = node.put("k", "1");
    assert_eq!(node.group.newest(), Ok(before));
    let ddl = node
        .begin()
        .write(system::CATALOG, "t", Some("table"))
        .commit(&node.group);
    let ddl = ddl.expect("placed");
    assert_eq!(node.group.newest(), Err(Wait(ddl)));
    assert!(matches!(node.group.pin_newest(), Err(Wait(at)) if at == ddl));
    node.local.release(GROUP).expect("applied");
    assert_eq!(node.group.newest(), Ok(ddl));
    node.local.hold(GROUP);
    let sequence = node
        .begin()
        .write(system::SEQUENCES, "s", Some("32"))
        .commit(&node.group);
    assert_eq!(
        node.group.newest(),
        Ok(sequence.expect("placed")),
        "sequences do not stop anybody"
    );
}

#[test]
fn the_observer_sees_system_changes_before_their_position_is_visible() {
    let store = storage::MemoryStore::new();
    let clock = Arc::new(storage::ManualClock::new(NOW));
    let local = Local::new(store.clone() as Arc<dyn TableStore>, clock.clone());
    let seen = Arc::new(Seen::default());
    local.groups().observe(seen.clone());
    let group = local.lead(GROUP).expect("leads");
    let node = Node {
        store,
        clock,
        local,
        group,
    };
    node.group.newest().expect("opens the era");
    node.clock.advance(1);
    node.put("k", "1");
    node.clock.advance(1);
    let tx = node
        .begin()
        .put("k", "2")
        .write(system::CATALOG, "t", Some("table"));
    tx.commit(&node.group).expect("ok");
    let lines = seen.0.lock().expect("not poisoned").clone();
    assert_eq!(
        lines,
        [
            "1 published 0",
            "1 published 1",
            "1 system [1] 2",
            "1 published 2"
        ]
    );
}

#[test]
fn a_dropped_tree_stays_readable_until_nobody_can_ask_for_it() {
    let node = Node::new();
    let before = node.put("k", "1");
    let pin = node.group.pin(before);
    let mut commit = node.begin().into_commit();
    commit.dropped_trees = vec![TREE];
    let dropped = node.group.commit(commit).expect("placed");
    assert_eq!(node.get("k", before).as_deref(), Some("1"));
    assert_eq!(node.group.raise_horizon(Position::MAX).expect("ok"), before);
    assert_eq!(node.get("k", before).as_deref(), Some("1"));
    drop(pin);
    assert_eq!(
        node.group.raise_horizon(Position::MAX).expect("ok"),
        dropped
    );
    let tree = TreeId {
        group: GROUP,
        number: TREE,
    };
    assert!(!node.store.trees().contains(&tree));
    // A node that falls before it has removed the tree does so when it starts.
    let node = Node::new();
    node.put("k", "1");
    let mut commit = node.begin().into_commit();
    commit.dropped_trees = vec![TREE];
    node.group.commit(commit).expect("placed");
    node.local
        .groups()
        .checkpoint(&*node.local)
        .expect("written");
    let store = node.store.crash(|_, _, _| true);
    assert!(store.trees().contains(&tree));
    let local = Local::new(store.clone() as Arc<dyn TableStore>, node.clock.clone());
    local.groups().open(GROUP).expect("opens");
    assert!(!store.trees().contains(&tree));
}

// Entries as the feed finds them.

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

// Reads.

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
