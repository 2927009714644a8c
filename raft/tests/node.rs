//! A node's groups over a real journal and the default table store: commits, restarts,
//! checkpoints, large transactions, many groups.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use journal::{GroupId, Journal, Position, RealDisk};
use raft::{Node, Options};
use storage::{
    Change, Changes, Clock, Commit, Group, Groups, LockKey, Locked, Meta, Outcome, Policy, Refused,
    RowMode, StoreKind, StoreOptions, TxId,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const TREE: u32 = 1000;

struct System;

impl Clock for System {
    fn unix_micros(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.expect("the clock is past 1970").as_micros() as u64
    }
}

/// A running node; dropping it is like a kill: nothing is flushed in order.
struct Running {
    node: Arc<Node>,
    journal: Journal,
    runtime: Runtime,
}

impl Running {
    fn start(folder: &Path) -> Running {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let options = journal::Options {
            segment_bytes: 1 << 20,
            ..journal::Options::default()
        };
        let journal = Journal::open(Arc::new(RealDisk), &folder.join("journal"), options).unwrap();
        let store = storage::open(
            StoreKind::Lsm,
            &folder.join("tables"),
            StoreOptions::default(),
        )
        .unwrap();
        let groups = Groups::new(store, Arc::new(System));
        let options = Options {
            checkpoint_timeout: Duration::from_secs(3600),
            checkpoint_bytes: u64::MAX,
            retain_time: Duration::ZERO,
            retain_bytes: 2 << 20,
            horizon: Duration::ZERO,
        };
        let node = Node::new(journal.clone(), groups, options, runtime.handle().clone());
        runtime.block_on(node.open()).unwrap();
        Running {
            node,
            journal,
            runtime,
        }
    }

    fn make(&self, id: u32) -> Arc<Group> {
        self.runtime
            .block_on(self.node.make(GroupId(id), Position::ZERO))
            .unwrap();
        self.group(id)
    }

    fn group(&self, id: u32) -> Arc<Group> {
        self.node.groups().get(GroupId(id)).unwrap()
    }

    fn stop(self) {
        self.runtime.block_on(self.node.shutdown());
        drop(self.runtime);
        drop(self.node);
        self.journal.close();
    }
}

fn key(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

fn put(number: u64, value: impl Into<Bytes>) -> Change {
    Change {
        tree: TREE,
        feed: true,
        key: key(number),
        new: Some(value.into()),
        ..Change::default()
    }
}

fn commit(
    group: &Group,
    txid: TxId,
    base: Position,
    changes: Vec<Change>,
) -> Result<Position, Refused> {
    let changes = changes
        .into_iter()
        .enumerate()
        .map(|(seq, change)| Change {
            seq: seq as u32,
            ..change
        })
        .collect();
    group.commit(Commit {
        txid,
        base,
        epoch: group.term().expect("the node leads"),
        meta: Meta::default(),
        changes: Changes::Small(changes),
        events: Vec::new(),
        dropped_trees: Vec::new(),
        deps: Vec::new(),
        checks: Vec::new(),
        record_outcome: false,
    })
}

/// Waits for the outcome.
fn outcome(group: &Group, position: Position) -> Outcome {
    let (done, told) = channel();
    group.when(
        position,
        Box::new(move |outcome| done.send(outcome).unwrap()),
    );
    told.recv_timeout(Duration::from_secs(30)).unwrap()
}

fn write(group: &Group, number: u64, value: impl Into<Bytes>) -> Position {
    let position = commit(
        group,
        group.begin(),
        group.newest().unwrap(),
        vec![put(number, value)],
    )
    .unwrap();
    assert_eq!(outcome(group, position), Outcome::Applied);
    position
}

fn read(group: &Group, number: u64) -> Option<Bytes> {
    group.get(TREE, &key(number), group.applied()).unwrap()
}

#[test]
fn what_is_acknowledged_is_there_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let node = Running::start(folder.path());
    let group = node.make(1);
    let first = write(&group, 1, "one");
    node.runtime.block_on(node.node.checkpoint()).unwrap();
    let second = write(&group, 2, "two");
    drop(group);
    node.stop();

    let node = Running::start(folder.path());
    let group = node.group(1);
    assert_eq!(read(&group, 1).unwrap(), "one");
    assert_eq!(read(&group, 2).unwrap(), "two");
    let third = write(&group, 3, "three");
    assert!(first < second && second < third, "{first} {second} {third}");
    drop(group);
    node.stop();
}

#[test]
fn a_new_leader_stamps_above_the_whole_journal() {
    let folder = TempDir::new().unwrap();
    let node = Running::start(folder.path());
    let (quiet, busy) = (node.make(1), node.make(2));
    write(&quiet, 1, "one");
    let newest = write(&busy, 1, "one");
    drop((quiet, busy));
    node.stop();

    let node = Running::start(folder.path());
    assert!(write(&node.group(1), 2, "two") > newest);
    node.stop();
}

/// A hot row: each takes the lock, reads the newest value and commits; locks are free when the
/// entry has its place, so that several commits ride on one fsync.
#[test]
fn a_hot_row_does_not_cost_one_fsync_per_transaction() {
    const CLIENTS: u64 = 16;
    const COMMITS: u64 = 50;
    let folder = TempDir::new().unwrap();
    let node = Running::start(folder.path());
    let group = node.make(1);
    write(&group, 7, "0");
    let before = node.journal.stats().fsyncs;
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| (0..COMMITS).for_each(|_| increment(&group, 7)));
        }
    });
    let fsyncs = node.journal.stats().fsyncs - before;
    let sum = (CLIENTS * COMMITS).to_string();
    assert_eq!(read(&group, 7).unwrap(), sum);
    assert!(
        fsyncs < CLIENTS * COMMITS,
        "{fsyncs} fsyncs for {sum} commits"
    );
    drop(group);
    node.stop();
}

fn increment(group: &Group, number: u64) {
    let txid = group.begin();
    let lock = LockKey::Row {
        tree: TREE,
        key: key(number),
    };
    if let Locked::Queued(ticket) =
        group
            .locks()
            .lock(txid, lock, RowMode::NoKeyUpdate, Policy::Wait)
    {
        let (ready, granted) = channel();
        ticket.on_ready(Box::new(move || ready.send(()).unwrap()));
        granted.recv_timeout(Duration::from_secs(30)).unwrap();
    }
    let newest = group.newest().unwrap();
    let value = group.get(TREE, &key(number), newest).unwrap().unwrap();
    let next = std::str::from_utf8(&value).unwrap().parse::<u64>().unwrap() + 1;
    let change = Change {
        old: Some(value),
        ..put(number, next.to_string())
    };
    let position = commit(group, txid, newest, vec![change]).unwrap();
    assert_eq!(outcome(group, position), Outcome::Applied);
}

#[test]
fn a_large_transaction_is_journaled_in_parts_and_replayed_whole() {
    const ROWS: u64 = 300;
    let folder = TempDir::new().unwrap();
    let node = Running::start(folder.path());
    let group = node.make(1);
    let value = |n: u64| Bytes::from(vec![n as u8; 16 << 10]);
    let changes = (0..ROWS).map(|n| put(n, value(n))).collect();
    let position = commit(&group, group.begin(), group.newest().unwrap(), changes).unwrap();
    assert_eq!(outcome(&group, position), Outcome::Applied);
    let records = node.journal.stats().records;
    assert!(records > 4, "{records} records for {} KiB", ROWS * 16);
    drop(group);
    node.stop();

    let node = Running::start(folder.path());
    let group = node.group(1);
    (0..ROWS).for_each(|n| assert_eq!(read(&group, n).unwrap(), value(n), "row {n}"));
    drop(group);
    node.stop();
}

#[test]
fn segments_leave_when_checkpoint_and_retention_allow() {
    let folder = TempDir::new().unwrap();
    let node = Running::start(folder.path());
    let group = node.make(1);
    for n in 0..40 {
        write(&group, n, vec![7; 256 << 10]);
    }
    let full = node.journal.stats().segments;
    node.runtime.block_on(node.node.checkpoint()).unwrap();
    write(&group, 99, "after");
    node.runtime.block_on(node.node.checkpoint()).unwrap();
    let left = node.journal.stats().segments;
    assert!(
        left < full && left <= 3,
        "{left} of {full} segments are left"
    );
    drop(group);
    node.stop();

    let node = Running::start(folder.path());
    let group = node.group(1);
    assert_eq!(read(&group, 39).unwrap().len(), 256 << 10);
    assert_eq!(read(&group, 99).unwrap(), "after");
    write(&group, 100, "on it goes");
    drop(group);
    node.stop();
}

#[test]
fn many_groups_open_again_and_each_has_its_own() {
    const GROUPS: u32 = 50;
    let folder = TempDir::new().unwrap();
    let node = Running::start(folder.path());
    for id in 1..=GROUPS {
        write(&node.make(id), 1, id.to_string());
    }
    node.stop();
    let node = Running::start(folder.path());
    for id in 1..=GROUPS {
        assert_eq!(read(&node.group(id), 1).unwrap(), id.to_string());
    }
    assert_eq!(node.node.status().len(), GROUPS as usize + 1);
    node.stop();
}
