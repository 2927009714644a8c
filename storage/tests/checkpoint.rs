//! Checkpoints never run ahead of the local journal; cuts over several groups stay causally
//! closed, over restarts too.

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use harness::*;
use storage::{
    Commit, Durable, Group, GroupId, Index, Local, ManualClock, MemoryStore, Position, Proposed,
    Result, TableStore,
};

const OTHER: GroupId = GroupId(2);

/// A journal whose disk is behind: each wait brings it as far as asked, and no further.
#[derive(Default)]
struct Slow {
    durable: AtomicU64,
    waits: AtomicU64,
    during: Option<Box<dyn Fn(u64) + Send + Sync>>,
}

impl Durable for Slow {
    fn wait(&self, _group: GroupId, index: Index) -> Result<()> {
        let waits = self.waits.fetch_add(1, Ordering::SeqCst);
        if let Some(during) = &self.during {
            during(waits);
        }
        self.durable.fetch_max(index.0, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn a_checkpoint_holds_no_more_than_the_durable_journal() {
    let node = Arc::new(Node::new());
    node.put("a", "1");
    let writer = Arc::clone(&node);
    // While the checkpoint waits for the disk, others go on: once more is applied than durable.
    let during = move |waits| {
        if waits == 0 {
            writer.put("b", "1");
        }
    };
    let slow = Slow {
        during: Some(Box::new(during)),
        ..Slow::default()
    };
    node.local.groups().checkpoint(&slow).expect("written");
    let checkpoint = node.store.checkpoint();
    assert_eq!(
        checkpoint[0].applied.index.0,
        slow.durable.load(Ordering::SeqCst)
    );
    assert_eq!(checkpoint[0].applied, node.group.applied_log().0);
    assert_eq!(
        slow.waits.load(Ordering::SeqCst),
        2,
        "before the lock, and under it"
    );
}

#[test]
fn a_checkpoint_that_can_not_become_durable_changes_nothing() {
    struct Failing;
    impl Durable for Failing {
        fn wait(&self, _group: GroupId, _index: Index) -> Result<()> {
            Err(storage::Error::Store("disk".into()))
        }
    }
    let node = Node::new();
    node.put("a", "1");
    assert!(node.local.groups().checkpoint(&Failing).is_err());
    assert_eq!(node.store.checkpoint(), []);
    node.put("a", "2");
    node.local
        .groups()
        .checkpoint(&*node.local)
        .expect("written");
}

fn commit(group: &Group, key: &str, deps: Vec<(GroupId, Position)>) -> Position {
    let base = group.newest().expect("no barrier");
    let epoch = group.term().expect("leads");
    let tx = Tx {
        id: group.begin(),
        base,
        epoch,
        changes: Vec::new(),
        checks: Vec::new(),
    };
    group
        .commit(Commit {
            deps,
            ..tx.put(key, "1").into_commit()
        })
        .expect("placed")
}

#[test]
fn cuts_are_causally_closed_and_never_go_back() {
    let node = Node::new();
    let other = node.local.lead(OTHER).expect("leads");
    let (parent, child) = (&node.group, &other);
    node.local.hold(GROUP);
    let cause = commit(parent, "cause", Vec::new());
    let effect = commit(child, "effect", vec![(GROUP, cause)]);
    assert!(
        effect > cause && child.applied() == effect,
        "its own group reads it"
    );
    let cut = node.local.groups().cut(&[GROUP, OTHER, GroupId(9)]);
    assert_eq!(cut.len(), 2, "one is not held here");
    assert!(cut[1].1 < effect, "never an effect without its cause");
    let later = commit(child, "later", Vec::new());
    assert!(
        node.local.groups().cut(&[OTHER])[0].1 < effect,
        "order within a group holds"
    );
    node.local.release(GROUP).expect("applied");
    assert_eq!(
        node.local.groups().cut(&[GROUP, OTHER]),
        [(GROUP, cause), (OTHER, later)]
    );
}

/// While the group that it waits for is away, its own cut is where every read of it is.
#[test]
fn no_horizon_goes_beyond_what_is_shown_forced_or_not() {
    let node = Node::new();
    let other = node.local.lead(OTHER).expect("leads");
    let shown = commit(&other, "shown", Vec::new());
    node.local.hold(GROUP);
    let cause = commit(&node.group, "cause", Vec::new());
    let effect = commit(&other, "effect", vec![(GROUP, cause)]);
    let cut = || node.local.groups().cut(&[OTHER])[0].1;
    assert_eq!((cut(), other.applied()), (shown, effect));
    assert_eq!(other.raise_horizon(effect).expect("raised"), shown);
    other.force_horizon(effect);
    assert_eq!(node.store.horizon(OTHER), shown);
    assert!(
        other
            .get(TREE, b"shown", cut())
            .expect("readable")
            .is_some()
    );
    node.local.release(GROUP).expect("applied");
    let pin = other.pin(shown);
    assert_eq!(other.raise_horizon(effect).expect("raised"), shown);
    other.force_horizon(effect);
    assert_eq!(node.store.horizon(OTHER), effect, "nobody is waited for");
    drop(pin);
}

#[test]
fn cuts_are_causally_closed_after_a_restart() {
    let node = Node::new();
    let other = node.local.lead(OTHER).expect("leads");
    commit(&node.group, "early", Vec::new());
    commit(&other, "early", Vec::new());
    let before = node.local.groups().cut(&[GROUP, OTHER]);
    node.local.hold(GROUP);
    let cause = commit(&node.group, "cause", Vec::new());
    let effect = commit(&other, "effect", vec![(GROUP, cause)]);
    node.local
        .groups()
        .checkpoint(&*node.local)
        .expect("written");
    node.local.release(GROUP).expect("applied");
    let store = node.store.crash(|_, _, _| false);
    let local = Local::new(store as Arc<dyn TableStore>, node.clock.clone());
    let parent = local.groups().open(GROUP).expect("opens");
    local.groups().open(OTHER).expect("opens");
    assert_eq!(local.groups().cut(&[GROUP, OTHER]), before);
    let index = parent.applied_log().0.index;
    let rest = node
        .local
        .log(GROUP)
        .into_iter()
        .filter(|record| record.index > index)
        .collect();
    local.replay(GROUP, rest).expect("replayed");
    assert_eq!(
        local.groups().cut(&[GROUP, OTHER]),
        [(GROUP, cause), (OTHER, effect)]
    );
}

#[test]
fn a_checkpoint_keeps_groups_that_this_run_has_not_opened() {
    let node = Node::new();
    let other = node.local.lead(OTHER).expect("leads");
    node.put("a", "1");
    commit(&other, "b", Vec::new());
    node.local
        .groups()
        .checkpoint(&*node.local)
        .expect("written");
    let expected = node.store.checkpoint();
    let store = node.store.crash(|_, _, _| true);
    let local = Local::new(store.clone() as Arc<dyn TableStore>, node.clock.clone());
    local.groups().open(GROUP).expect("opens");
    local.groups().checkpoint(&*local).expect("written");
    assert_eq!(store.checkpoint()[1], expected[1]);
}

#[test]
fn what_raft_keeps_is_found_again() {
    let node = Node::new();
    node.put("a", "1");
    let (applied, _) = node.group.applied_log();
    let next = Index(applied.index.0 + 1);
    node.group
        .apply_raft(applied.term, next, Some(bytes("three voters")));
    node.local
        .groups()
        .checkpoint(&*node.local)
        .expect("written");
    let store = node.store.crash(|_, _, _| true);
    let local = Local::new(store as Arc<dyn TableStore>, node.clock.clone());
    let (again, raft) = local.groups().open(GROUP).expect("opens").applied_log();
    assert_eq!((again.index, again.position), (next, applied.position));
    assert_eq!(raft, bytes("three voters"));
}

#[test]
fn a_new_group_begins_above_the_position_that_made_it() {
    let store = MemoryStore::new();
    let local = Local::new(
        store as Arc<dyn TableStore>,
        Arc::new(ManualClock::new(NOW)),
    );
    let above = Position(Position::from_unix_micros(NOW).0 + 77);
    let (send, receive) = std::sync::mpsc::channel();
    let propose: &dyn storage::Propose = &*local;
    propose.create(
        OTHER,
        above,
        Box::new(move |made| send.send(made).expect("waiting")),
    );
    receive.recv().expect("called").expect("made");
    let group = local.groups().get(OTHER).expect("held");
    assert_eq!(group.newest(), Ok(above.next()));
}

/// Writers of two groups, where the second always depends on what it has just read of the first,
/// while a reader takes cuts and checkpoints are written.
#[test]
fn threads_never_see_an_effect_without_its_cause() {
    const WRITES: usize = 500;
    let node = Node::new();
    let other = node.local.lead(OTHER).expect("leads");
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..WRITES {
                commit(&node.group, &format!("{n:05}"), Vec::new());
            }
            done.fetch_add(1, Ordering::SeqCst);
        });
        scope.spawn(|| {
            for _ in 0..WRITES {
                let read = node.group.applied();
                let newest = node
                    .scan(read, storage::Direction::Backward)
                    .into_iter()
                    .next();
                let key = newest.map_or("none".into(), |(key, _)| key);
                commit(&other, &key, vec![(GROUP, read)]);
            }
            done.fetch_add(1, Ordering::SeqCst);
        });
        let mut last = vec![(GROUP, Position::ZERO), (OTHER, Position::ZERO)];
        while done.load(Ordering::SeqCst) < 2 {
            let cut = node.local.groups().cut(&[GROUP, OTHER]);
            assert!(cut[0].1 >= last[0].1 && cut[1].1 >= last[1].1);
            last.clone_from(&cut);
            let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
            let effects = other.scan(TREE, all, cut[1].1, storage::Direction::Forward);
            for row in effects.expect("readable") {
                let (key, _) = row.expect("readable");
                let cause = node.group.get(TREE, &key, cut[0].1).expect("readable");
                assert!(cause.is_some() || &*key == b"none", "{key:?} has no cause");
            }
            node.local
                .groups()
                .checkpoint(&*node.local)
                .expect("written");
        }
    });
    let entries = node
        .local
        .log(OTHER)
        .iter()
        .filter(|r| matches!(r.what, Some(Proposed::Entry(_))))
        .count();
    assert_eq!(entries, WRITES + 1);
}
