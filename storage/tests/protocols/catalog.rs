//! Changes of the catalog are applied before anybody reads behind them.

use super::*;

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
