//! A node without Raft for the tests of this folder: short ways to write, read and wait.
#![allow(dead_code)]

use std::ops::Bound;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use storage::{
    Change, Changes, Check, Commit, Direction, Group, GroupId, IndexWrite, Local, ManualClock,
    MemoryStore, Meta, Outcome, Position, Refused, TableStore, Term, TxId,
};

pub const GROUP: GroupId = GroupId(1);
pub const TREE: u32 = 1000;
pub const INDEX: u32 = 1001;
/// 2026-01-01 in microseconds since 1970.
pub const NOW: u64 = 1_767_225_600_000_000;

pub struct Node {
    pub store: Arc<MemoryStore>,
    pub clock: Arc<ManualClock>,
    pub local: Arc<Local>,
    pub group: Arc<Group>,
}

impl Node {
    /// A node that leads an empty group.
    pub fn new() -> Node {
        let store = MemoryStore::new();
        let clock = Arc::new(ManualClock::new(NOW));
        let local = Local::journaled(Arc::clone(&store) as Arc<dyn TableStore>, clock.clone());
        let group = local.lead(GROUP).expect("a new group");
        Node {
            store,
            clock,
            local,
            group,
        }
    }

    /// A transaction that has read the newest state.
    pub fn begin(&self) -> Tx {
        let base = self.group.newest().expect("no barrier");
        let epoch = self.group.term().expect("a leader");
        Tx {
            id: self.group.begin(),
            base,
            epoch,
            changes: Vec::new(),
            checks: Vec::new(),
        }
    }

    /// Puts one key.
    pub fn put(&self, key: &str, value: &str) -> Position {
        self.begin()
            .put(key, value)
            .commit(&self.group)
            .expect("no conflict")
    }

    pub fn get(&self, key: &str, at: Position) -> Option<String> {
        text(self.group.get(TREE, key.as_bytes(), at).expect("readable"))
    }

    /// The value at the newest position.
    pub fn newest(&self, key: &str) -> Option<String> {
        self.get(key, self.group.newest().expect("no barrier"))
    }

    /// The value at the applied position.
    pub fn applied(&self, key: &str) -> Option<String> {
        self.get(key, self.group.applied())
    }

    pub fn scan(&self, at: Position, direction: Direction) -> Vec<(String, String)> {
        let all = (Bound::Unbounded, Bound::Unbounded);
        let rows = self.group.scan(TREE, all, at, direction).expect("readable");
        rows.map(|row| row.expect("readable"))
            .map(|(key, value)| {
                (
                    text(Some(key)).expect("some"),
                    text(Some(value)).expect("some"),
                )
            })
            .collect()
    }

    /// Notes the outcome of a position when it comes.
    pub fn watch(&self, position: Position) -> Arc<Mutex<Option<Outcome>>> {
        let seen = Arc::new(Mutex::new(None));
        let note = Arc::clone(&seen);
        self.group.when(
            position,
            Box::new(move |outcome| *note.lock().expect("not poisoned") = Some(outcome)),
        );
        seen
    }
}

pub fn outcome(seen: &Arc<Mutex<Option<Outcome>>>) -> Option<Outcome> {
    *seen.lock().expect("not poisoned")
}

pub fn text(bytes: Option<Bytes>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8(bytes.to_vec()).expect("text"))
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// A transaction in the making.
pub struct Tx {
    pub id: TxId,
    pub base: Position,
    pub epoch: Term,
    pub changes: Vec<Change>,
    pub checks: Vec<Check>,
}

impl Tx {
    pub fn put(self, key: &str, value: &str) -> Tx {
        self.write(TREE, key, Some(value))
    }

    pub fn remove(self, key: &str) -> Tx {
        self.write(TREE, key, None)
    }

    pub fn write(mut self, tree: u32, key: &str, value: Option<&str>) -> Tx {
        let (key, new) = (bytes(key), value.map(bytes));
        let seq = self.changes.len() as u32;
        self.changes.push(Change {
            seq,
            tree,
            feed: true,
            key,
            new,
            ..Change::default()
        });
        self
    }

    /// Adds an index write to the last change.
    pub fn index(mut self, key: &str, value: Option<&str>) -> Tx {
        let write = IndexWrite {
            tree: INDEX,
            key: bytes(key),
            value: value.map(bytes),
        };
        self.changes.last_mut().expect("a change").index.push(write);
        self
    }

    pub fn check(mut self, check: Check) -> Tx {
        self.checks.push(check);
        self
    }

    pub fn absent(self, key: &str) -> Tx {
        let seen = self.base;
        self.check(Check::Absent {
            tree: TREE,
            key: bytes(key),
            seen,
        })
    }

    pub fn present(self, key: &str) -> Tx {
        let seen = self.base;
        self.check(Check::Present {
            tree: TREE,
            key: bytes(key),
            seen,
        })
    }

    pub fn unchanged(self, key: &str) -> Tx {
        let seen = self.base;
        self.check(Check::Key {
            tree: TREE,
            key: bytes(key),
            seen,
        })
    }

    pub fn unchanged_range(self, from: &str, to: &str) -> Tx {
        let seen = self.base;
        let range = (Bound::Included(bytes(from)), Bound::Excluded(bytes(to)));
        self.check(Check::Range {
            tree: TREE,
            range,
            seen,
        })
    }

    pub fn into_commit(self) -> Commit {
        Commit {
            txid: self.id,
            epoch: self.epoch,
            base: self.base,
            meta: Meta {
                role: "owner".into(),
                ..Meta::default()
            },
            changes: Changes::Small(self.changes),
            events: Vec::new(),
            dropped_trees: Vec::new(),
            deps: Vec::new(),
            checks: self.checks,
            record_outcome: false,
            keeps_locks: false,
        }
    }

    pub fn commit(self, group: &Group) -> Result<Position, Refused> {
        group.commit(self.into_commit())
    }
}
