//! Positions grow, also over a restart.

use super::*;

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
