//! What a session needs of the other nodes: who leads a group, proof that this node still does,
//! what only the directory's leader gives out, and notifications to sessions elsewhere. The server
//! plugs in how; a node that is [`Alone`] needs none of it.

mod alone;
mod codec;
mod wish;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

pub use alone::Alone;
pub(crate) use codec::{Reader, Writer};
use parking_lot::Mutex;
use storage::{GroupId, Position, TxId};

use crate::catalog::{RoleId, SchemaId, TableId};
use crate::changes::Interrupt;
use crate::{Result, remote};

/// Told once, from whatever thread; must be quick and may be called before the call returns.
pub type Done<T> = Box<dyn FnOnce(Result<T>) + Send>;

/// Something that was asked for. Who drops it does not wait any more.
pub type Asking = Box<dyn Send + Sync>;

/// The other nodes, as sessions see them. Nothing here may block.
pub trait Cluster: Send + Sync {
    /// This node's number.
    fn node(&self) -> u32;

    /// The node that leads a group, as far as this one knows: its own number if it does.
    fn leader(&self, group: GroupId) -> Option<u32>;

    /// Proves that everything of the group that was acknowledged to anyone before this call is
    /// applied here, up to the position told. Of a group that is led elsewhere its leader is
    /// asked, and its answer is applied here first. An error: there is no proof now.
    fn barrier(&self, group: GroupId, done: Done<Position>);

    /// Asks another node whether a transaction that began there may still commit
    /// ([`crate::engine::Engine::is_undecided`]). An error: it can't be reached, or does not say.
    fn ask_undecided(&self, node: u32, id: TxId, done: Done<bool>);

    /// Has the directory's leader grant a wish ([`crate::engine::Engine::serve_wish`] there). An
    /// error: it can't be reached now, or leads no more.
    fn ask_directory(&self, wish: Wish, done: Done<Answer>);

    /// Brings a table that is not held here to this node, for a role that may read it. Done when
    /// all of its trees are held. An error (OW003): no node that has it answers, or nothing comes.
    fn want(&self, role: RoleId, group: GroupId, table: TableId, done: Done<()>) -> Asking;

    /// The rows of a view whose tables must not come here, from a node that holds their group: if
    /// it can be, from the one that is `near`.
    fn read_view(
        &self,
        _request: remote::Request,
        _near: Option<u32>,
        _interrupt: Interrupt,
    ) -> Box<dyn remote::Reading> {
        Box::new(remote::Nowhere)
    }

    /// An entry of a group takes away what roles could read. Done when no other node gives rows
    /// away that it forbids: each has it, or was told that it must have it first, or is cut off
    /// and so gives nothing of others ([`Cluster::doubts`]); or when that takes too long. `untold`
    /// are those of which it is not known yet.
    fn taken_away(
        &self,
        _group: GroupId,
        _position: Position,
        _untold: Untold,
        done: Done<()>,
    ) -> Asking {
        done(Ok(()));
        Box::new(())
    }

    /// One of these groups of which this node may not give rows now, since it does not know
    /// whether they may still be read: it is cut off from the others, or was. What the directory
    /// says of roles is needed for all of them but `own`, which the reader's own role owns.
    fn doubts(&self, _groups: &[GroupId], _own: Option<GroupId>) -> Option<GroupId> {
        None
    }

    /// Ends the doubt about a group. An error (OW003): its catalog can't be had.
    fn vouch(&self, _group: GroupId, done: Done<()>) -> Asking {
        done(Ok(()));
        Box::new(())
    }

    /// Has this node heard of every owner, since its start, which tables it has? What it does not find before
    /// may be there all the same.
    fn knows_all(&self) -> bool {
        true
    }

    /// Does any session of another node LISTEN, as far as this one knows?
    fn has_listeners(&self) -> bool;

    /// Brings news to the other nodes, as well as it can
    /// ([`crate::engine::Engine::notified`] there).
    fn notify(&self, news: &News);

    /// Is there no other node, so that nobody else can lead what is held here?
    fn is_alone(&self) -> bool {
        false
    }
}

/// Nodes that are told something and of which it is not known yet that it counts there.
#[derive(Clone, Default)]
pub struct Untold(Arc<Mutex<Left>>);

#[derive(Default)]
struct Left {
    nodes: BTreeSet<u32>,
    /// There may be nodes that have joined and are not known here yet.
    unknown: bool,
}

impl Untold {
    /// These are being told.
    pub fn begin(&self, nodes: impl IntoIterator<Item = u32>) {
        self.0.lock().nodes.extend(nodes);
    }

    /// There may be others than those that are being told.
    pub fn may_be_more(&self) {
        self.0.lock().unknown = true;
    }

    /// With these, which are being told from now on, all are known.
    pub fn knows_all(&self, joined: impl IntoIterator<Item = u32>) {
        let mut left = self.0.lock();
        left.nodes.extend(joined);
        left.unknown = false;
    }

    /// It counts on a node.
    pub fn counts(&self, node: u32) {
        self.0.lock().nodes.remove(&node);
    }

    /// Those that are left.
    pub fn nodes(&self) -> Vec<u32> {
        self.0.lock().nodes.iter().copied().collect()
    }

    /// May some be left that are not known?
    pub fn are_unknown(&self) -> bool {
        self.0.lock().unknown
    }

    /// Does it count everywhere?
    pub fn is_over(&self) -> bool {
        let left = self.0.lock();
        left.nodes.is_empty() && !left.unknown
    }
}

/// What only the directory's leader decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A block of OIDs.
    Oids,
    /// A group for a role's tables.
    Group(RoleId),
    /// Names in `public`, or of schemas (schema 0), for a role.
    Reserve(Vec<(SchemaId, String)>, RoleId),
    /// The same for names that it has already.
    Renew(Vec<(SchemaId, String)>, RoleId),
    /// A note that a role reads a contract now.
    Read(TableId, RoleId),
}

/// The answer to a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These OIDs belong to who asked.
    Oids(Range<u32>),
    /// Who has applied the directory up to there can decide alone: the wish is granted, or
    /// the reason against it can be seen.
    At(Position),
}

/// What sessions of other nodes may be listening for: what a transaction has left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// The sender's process id.
    pub process: i32,
    /// Its entry, if it has made one: it must be applied where it is told.
    pub entry: Option<(GroupId, Position)>,
    /// Trees of the tables that it has written.
    pub trees: Vec<u32>,
    /// NOTIFY: channels and payloads.
    pub notes: Vec<(String, String)>,
}
