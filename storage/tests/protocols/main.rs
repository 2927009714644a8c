//! The interleavings that must not happen around a group's writer, each named after its rule.

mod catalog;
mod chain;
#[path = "../harness/mod.rs"]
mod harness;
mod held;
mod locks;
mod pending;
mod positions;
mod reads;
mod unknown;

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
