//! How a transaction leaves storage: the small traits that `raft` implements, and that [`Local`]
//! implements without Raft. `sql` commits through them and never sees Raft.
//!
//! [`Local`]: crate::Local

use bytes::Bytes;
use journal::{GroupId, Index, Payload, Position, Term};

use crate::{Change, Result, TxId};

/// What is to become one record of a group.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The term in which it was made. Never propose it in another one.
    pub epoch: Term,
    /// The transaction; 0 for a close.
    pub txid: TxId,
    /// Entry or part.
    pub what: Proposed,
    /// The record's payload.
    pub payload: Payload,
}

/// The two kinds of proposals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proposed {
    /// A whole entry, or the end of a large one (`Kind::Entry`). If it is refused:
    /// `Group::refused` with its position.
    Entry(Position),
    /// A part of a large transaction (`Kind::Part`, position 0). When it is committed:
    /// `Group::apply_part`; if it is refused: `Group::part_refused`.
    Part,
}

/// The way into the log.
pub trait Propose: Send + Sync {
    /// Takes a proposal. Called inside the group's critical section, so in log order per group:
    /// must not block, and must not call back into the group.
    fn propose(&self, group: GroupId, proposal: Proposal);

    /// The largest payload that the log takes as one record, in bytes. The group refuses what
    /// would be larger: a record that the log does not take ends it for everybody.
    fn payload_bytes_max(&self) -> usize {
        usize::MAX
    }

    /// Called after one or more calls of `propose`, outside of the critical section.
    fn placed(&self, _group: GroupId) {}

    /// Someone waits until a group is closed that this node does not lead: its leader is to be
    /// asked for [`Group::close_wanted`](crate::Group::close_wanted). Must not block; may do
    /// nothing.
    fn ask_close(&self, _group: GroupId) {}

    /// Makes a new group on this node and leads it; `done` is called when transactions can begin
    /// there. Its positions begin above `above` (the directory's position that made it).
    fn create(&self, group: GroupId, above: Position, done: Box<dyn FnOnce(Result<()>) + Send>);
}

/// Where `Group::apply` gets the parts of a large transaction from: the journal.
pub trait PartSource {
    /// The payload of the group's part record at `index`. Called with no lock held, so that a
    /// source may run a checkpoint here when the table store's memory has grown: a large entry
    /// is the one that is allowed to be checkpointed in its middle.
    fn part(&mut self, index: Index) -> Result<Payload>;
}

/// Who knows how far this node's journal is durable.
pub trait Durable: Send + Sync {
    /// Returns when the group's record at `index` is on this node's disk. The leader may have
    /// applied an entry before its own fsync is done; a checkpoint must not contain it yet.
    fn wait(&self, group: GroupId, index: Index) -> Result<()>;
}

/// Sees entries as they are applied on this node: the catalog cache, wakers of the feed.
pub trait Observer: Send + Sync {
    /// An entry that changes system trees (numbers up to `TreeId::SYSTEM_MAX`) is in the store
    /// and its position is about to be published: who reads at `position` may rely on what this
    /// call has done. `changes` are those of system trees only. Called with the group's apply
    /// lock held: must be quick. A snapshot that replaces all of the group comes here as one
    /// entry, with the difference to what was there.
    fn system(&self, _group: GroupId, _position: Position, _changes: &[Change]) {}

    /// An entry that changes outboxes of the group ([`crate::system::outbox`]) is about to be
    /// published: its changes of those trees. Called with the group's apply lock held: must be
    /// quick.
    fn sent(&self, _group: GroupId, _changes: &[Change]) {}

    /// An era of the group has ended on this node: it leads no more, or a proposal was refused. Its
    /// locks and open transactions are gone. Called with no lock held; must be quick.
    fn era_ended(&self, _group: GroupId) {}

    /// The group's applied position is now `position`. Called after each entry, in order; must
    /// be quick.
    fn published(&self, _group: GroupId, _position: Position) {}
}

/// State that Raft wants to find again after a restart (last membership); opaque here.
pub type RaftState = Bytes;
