//! A node over real files for the tests of this folder, and short ways to write and read.
#![allow(dead_code, clippy::unwrap_used)]

pub mod cluster;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use journal::{GroupId, Journal, Position, RealDisk};
use raft::{Alone, Node, NodeId, Options};
use storage::{
    Change, Changes, Clock, Commit, Group, Groups, Meta, Outcome, Refused, StoreKind, StoreOptions,
    TxId,
};
use tokio::runtime::Runtime;

pub const TREE: u32 = 1000;

pub struct System;

impl Clock for System {
    fn unix_micros(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.expect("the clock is past 1970").as_micros() as u64
    }
}

/// A running node; dropping it is like a kill: nothing is flushed in order.
pub struct Running {
    pub node: Arc<Node>,
    pub journal: Journal,
    pub runtime: Runtime,
}

impl Running {
    pub fn start(folder: &Path) -> Running {
        Running::retaining(folder, Duration::ZERO, 2 << 20)
    }

    /// One whose journal keeps entries for so long and up to so many bytes.
    pub fn retaining(folder: &Path, retain_time: Duration, retain_bytes: u64) -> Running {
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
            retain_time,
            retain_bytes,
            horizon: Duration::ZERO,
        };
        let node = Node::new(
            journal.clone(),
            groups,
            options,
            runtime.handle().clone(),
            NodeId(1),
            Arc::new(Alone),
        );
        runtime.block_on(node.open(true)).unwrap();
        Running {
            node,
            journal,
            runtime,
        }
    }

    pub fn make(&self, id: u32) -> Arc<Group> {
        self.runtime
            .block_on(self.node.make(GroupId(id), Position::ZERO, &[NodeId(1)]))
            .unwrap();
        self.group(id)
    }

    pub fn group(&self, id: u32) -> Arc<Group> {
        self.node.groups().get(GroupId(id)).unwrap()
    }

    pub fn stop(self) {
        self.runtime.block_on(self.node.shutdown());
        drop(self.runtime);
        drop(self.node);
        self.journal.close();
    }
}

pub fn key(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

pub fn put(number: u64, value: impl Into<Bytes>) -> Change {
    Change {
        tree: TREE,
        feed: true,
        key: key(number),
        new: Some(value.into()),
        ..Change::default()
    }
}

pub fn commit(
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
        // Where the node does not lead, the commit is refused.
        epoch: group.term().unwrap_or_default(),
        meta: Meta::default(),
        changes: Changes::Small(changes),
        events: Vec::new(),
        dropped_trees: Vec::new(),
        deps: Vec::new(),
        checks: Vec::new(),
        record_outcome: false,
        keeps_locks: false,
    })
}

/// Waits for the outcome.
pub fn outcome(group: &Group, position: Position) -> Outcome {
    let (done, told) = channel();
    group.when(
        position,
        Box::new(move |outcome| done.send(outcome).unwrap()),
    );
    told.recv_timeout(Duration::from_secs(30)).unwrap()
}

pub fn write(group: &Group, number: u64, value: impl Into<Bytes>) -> Position {
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

pub fn read(group: &Group, number: u64) -> Option<Bytes> {
    group.get(TREE, &key(number), group.applied()).unwrap()
}
