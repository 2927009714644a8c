//! A node's groups over a real journal and the default table store: commits, restarts,
//! checkpoints, large transactions, many groups.

#![allow(clippy::unwrap_used)]

mod harness;

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::{Running, TREE, commit, key, outcome, put, read, write};
use journal::{Payload, Position};
use storage::{
    Change, Group, LockKey, Locked, Outcome, Policy, Proposal, Proposed, Refused, RowMode,
};
use tempfile::TempDir;

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

#[test]
fn what_no_segment_holds_is_refused_and_the_group_goes_on() {
    let folder = TempDir::new().unwrap();
    let node = Running::start(folder.path());
    let group = node.make(1);
    write(&group, 1, "before");
    let term = group.term();
    let half = Bytes::from(vec![7; 600 << 10]);
    let update = Change {
        old: Some(half.clone()),
        ..put(2, half)
    };
    for change in [put(2, vec![7; 2 << 20]), update] {
        let refused = commit(&group, group.begin(), group.newest().unwrap(), vec![change]);
        assert!(
            matches!(refused, Err(Refused::RecordTooLarge(_))),
            "{refused:?}"
        );
    }
    write(&group, 3, "after");
    assert_eq!(group.term(), term);
    node.runtime.block_on(node.node.checkpoint()).unwrap();
    drop(group);
    node.stop();
}

/// An error of the log's storage is final for openraft; nobody may wait for its answers then.
#[test]
fn who_waits_is_told_when_raft_has_ended() {
    let folder = TempDir::new().unwrap();
    let node = Running::start(folder.path());
    let group = node.make(1);
    let last = write(&group, 1, "before");
    let epoch = group.term().unwrap();
    // Past the group, which would refuse it.
    node.node.propose().propose(
        group.id(),
        Proposal {
            epoch,
            txid: group.begin(),
            what: Proposed::Entry(Position(last.0 + 1)),
            payload: Payload::of(&vec![7; 2 << 20]),
        },
    );
    let behind = commit(
        &group,
        group.begin(),
        group.newest().unwrap(),
        vec![put(2, "behind")],
    );
    match behind {
        Ok(placed) => assert_eq!(outcome(&group, placed), Outcome::Unknown),
        Err(refused) => assert!(matches!(refused, Refused::NotLeader), "{refused:?}"),
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while group.term().is_some() {
        assert!(Instant::now() < deadline, "nobody has heard of the end");
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(group);
    node.stop();
}
