//! What the hot paths cost, printed: `cargo test --release -p storage --test perf -- --ignored
//! --nocapture`. Nothing is asserted, for machines differ.

mod harness;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use harness::*;
use storage::{Direction, LockKey, Locked, Policy, RowMode};

fn measure(what: &str, count: u32, mut step: impl FnMut(u32)) {
    let start = Instant::now();
    (0..count).for_each(&mut step);
    println!(
        "{what}: {:.2} us",
        start.elapsed().as_secs_f64() * 1e6 / f64::from(count)
    );
}

#[test]
#[ignore = "prints figures"]
fn figures() {
    let node = Node::new();
    for n in 0..10_000 {
        node.put(&format!("key{n:05}"), "a row of some length, as rows are");
    }
    let keys: Vec<String> = (0..10_000).map(|n| format!("key{n:05}")).collect();
    let key = |n: u32| &keys[(n as usize * 7919) % keys.len()];
    measure("get at applied (memory store)", 500_000, |n| {
        assert!(
            node.group
                .get(TREE, key(n).as_bytes(), node.group.applied())
                .is_ok()
        );
    });
    measure("newest, pin, unpin", 500_000, |_| {
        drop(node.group.pin_newest())
    });
    measure("lock, release", 500_000, |_| {
        let id = node.group.begin();
        let row = LockKey::Row {
            tree: TREE,
            key: bytes("k"),
        };
        assert!(matches!(
            node.group
                .locks()
                .lock(id, row, RowMode::Update, Policy::Wait),
            Locked::Granted
        ));
        node.group.locks().release(id);
    });
    for round in 0..5 {
        node.local.release(GROUP).expect("applied");
        node.local.hold(GROUP);
        let tx = |n: u32| {
            let tx = node
                .begin()
                .put(key(n), "1")
                .put(key(n + 1), "1")
                .put(key(n + 2), "1");
            tx.present(key(n))
                .present(key(n + 1))
                .present(key(n + 2))
                .into_commit()
        };
        let mut commits: Vec<_> = (0..10_000).map(|n| tx(n * 3)).rev().collect();
        measure(&format!("commit of 3 rows, round {round}"), 10_000, |_| {
            let commit = commits.pop().expect("one for each step");
            node.group.commit(commit).expect("placed");
        });
    }
    measure("get at newest, pending", 500_000, |n| {
        let at = node.group.newest().expect("no barrier");
        assert!(node.group.get(TREE, key(n).as_bytes(), at).is_ok());
    });
    let at = node.group.newest().expect("no barrier");
    measure("scan of 10,000 rows, merged", 20, |_| {
        assert_eq!(node.scan(at, Direction::Forward).len(), 10_000);
    });
    let start = Instant::now();
    node.local.release(GROUP).expect("applied");
    println!(
        "apply of 3 rows: {:.2} us",
        start.elapsed().as_secs_f64() * 1e6 / 20_000.0
    );
    hot_row(&node);
}

/// 32 clients on one row: lock, read, commit, again.
fn hot_row(node: &Node) {
    node.put("hot", "0");
    let count = AtomicU64::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let tx = node.begin();
                    let row = LockKey::Row {
                        tree: TREE,
                        key: bytes("hot"),
                    };
                    let locks = node.group.locks();
                    if let Locked::Queued(ticket) =
                        locks.lock(tx.id, row, RowMode::Update, Policy::Wait)
                    {
                        let (send, receive) = std::sync::mpsc::channel();
                        ticket.on_ready(Box::new(move || send.send(()).expect("waiting")));
                        receive.recv().expect("called");
                    }
                    let value: u64 = node
                        .newest("hot")
                        .expect("a row")
                        .parse()
                        .expect("a number");
                    tx.put("hot", &(value + 1).to_string())
                        .commit(&node.group)
                        .expect("placed");
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let count = count.into_inner();
    assert_eq!(node.newest("hot"), Some(count.to_string()));
    println!(
        "hot row, 32 clients: {:.2} us",
        start.elapsed().as_secs_f64() * 1e6 / count as f64
    );
}
