//! What a session needs of the other nodes: who leads a group, proof that this node still does,
//! what only the directory's leader gives out, and notifications to sessions elsewhere. The server
//! plugs in how; a node that is [`Alone`] needs none of it.

mod alone;
mod codec;
mod wish;

use std::ops::Range;

pub use alone::Alone;
pub(crate) use codec::{Reader, Writer};
use storage::{GroupId, Position};

use crate::Result;
use crate::catalog::{RoleId, SchemaId, TableId};

/// Told once, from whatever thread; must be quick and may be called before the call returns.
pub type Done<T> = Box<dyn FnOnce(Result<T>) + Send>;

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

    /// Has the directory's leader grant a wish ([`crate::engine::Engine::serve_wish`] there). An
    /// error: it can't be reached now, or leads no more.
    fn ask_directory(&self, wish: Wish, done: Done<Answer>);

    /// Brings a table that is not held here to this node, for a role that may read it. Done when
    /// all of its trees are held. An error (OW003): no node that has it answers.
    fn want(&self, role: RoleId, group: GroupId, table: TableId, done: Done<()>);

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
