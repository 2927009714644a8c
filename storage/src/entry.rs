//! The entry: one committed transaction of one owner, as the images of one payload. The codec is
//! in `entry/codec.rs`, the bytes are drawn in `docs/formats.md`.

mod codec;
mod erased;

use bytes::Bytes;
use journal::{GroupId, Payload, Position, Term};

pub use codec::EntryBuilder;
pub(crate) use codec::{Said, said};

use crate::Result;

/// A transaction's id, shown as `xid8`: never given out twice, in whichever group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxId(pub u64);

impl std::fmt::Display for TxId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Who asked for a transaction; travels with its entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The owner that was acted for.
    pub role: String,
    /// The role that logged in.
    pub login: String,
    /// The session's `application_name`.
    pub application_name: String,
    /// W3C `traceparent`, or empty.
    pub trace: String,
    /// Triggers on followed tables that this effect has passed through.
    pub hops: u16,
}

/// The last image of an entry. It comes last so that the images of the changes can be encoded
/// before the position is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The term in which the transaction began. Apply refuses another.
    pub epoch: Term,
    /// The entry of this group that this one was computed on. Apply refuses another.
    pub prev: Position,
    /// The commit timestamp.
    pub position: Position,
    /// The transaction.
    pub txid: TxId,
    /// Who asked for it.
    pub meta: Meta,
    /// What must be shown before this entry is, of other groups.
    pub deps: Vec<(GroupId, Position)>,
    /// Images before this one in this payload, the erased ones included.
    pub images: u32,
    /// The parts of a large transaction, journaled before this record.
    pub parts: Option<PartsRef>,
    /// Remember the outcome for `pg_xact_status`.
    pub outcome: bool,
}

/// The parts of a large transaction: records of kind `Part` with the entry's epoch and txid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartsRef {
    /// Number of parts.
    pub parts: u32,
    /// Changes in them.
    pub changes: u64,
}

/// The last image of a part's payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartHeader {
    /// The term in which the transaction began.
    pub epoch: Term,
    /// The transaction.
    pub txid: TxId,
    /// Counted from 0.
    pub number: u32,
    /// Images before this one in this payload.
    pub images: u32,
}

/// The net change of one row. A transaction has at most one per row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Its number within the transaction, ascending in the order of the payload.
    pub seq: u32,
    /// The table's tree.
    pub tree: u32,
    /// Shown in the feed? Not: backfill, rewrite, system rows.
    pub feed: bool,
    /// The row's key.
    pub key: Bytes,
    /// The row before, `None` if there was none.
    pub old: Option<Bytes>,
    /// The row after, `None` if it is gone.
    pub new: Option<Bytes>,
    /// What it does to the table's indexes. Within a transaction one index key is put at most
    /// once; where one row gives a key up and another takes it, the put holds.
    pub index: Vec<IndexWrite>,
    /// The row was removed to be erased, or what it held is erased by now: the feed shows its key
    /// and no more.
    pub erase: bool,
}

impl Change {
    /// Does it stand for what was erased with its key, so that only its table is known? No row has
    /// an empty key.
    pub fn is_lost(&self) -> bool {
        self.key.is_empty()
    }
}

/// What an eraser has left in the place of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// What was there.
    pub what: ErasedImage,
    /// The change's number within its transaction.
    pub seq: u32,
    /// The table's tree.
    pub tree: u32,
    /// Was the change shown in the feed?
    pub feed: bool,
    /// The removal of the row with which it was erased: nothing may be shown between this change
    /// and that position, for what stood on the row may still be there.
    pub at: Position,
}

/// An image that was erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErasedImage {
    /// It is not known which.
    #[default]
    Unknown,
    /// A change of a row that was removed later.
    Change,
    /// What a removal has removed; the removal itself, with the key, is still there.
    Rest,
    /// A removal, and with it the key.
    Removal,
    /// An event about a row that was removed, or of a table that was dropped.
    Event,
    /// A change in a tree that was dropped, of a row that had not been removed from it by itself: its
    /// table may live on in another tree.
    Dropped,
}

impl ErasedImage {
    /// Does it stand for a change of its own?
    fn is_change(self) -> bool {
        match self {
            ErasedImage::Change
            | ErasedImage::Removal
            | ErasedImage::Dropped
            | ErasedImage::Unknown => true,
            ErasedImage::Rest | ErasedImage::Event => false,
        }
    }
}

/// One write to an index tree: `None` removes the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexWrite {
    /// The index's tree.
    pub tree: u32,
    /// The index key.
    pub key: Bytes,
    /// What the index holds for it, `None` if it is gone.
    pub value: Option<Bytes>,
}

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// `pg_logical_emit_message(true, name, payload)`.
    Message,
    /// A row of an event table: the payload is its bytes, as a change has them. It has no name.
    Row,
    /// A change of the catalog; the name is the command tag.
    Ddl,
}

/// Something that happened, in the feed and never stored in a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number within the transaction, from the same sequence as the changes'.
    pub seq: u32,
    /// What it is.
    pub kind: EventKind,
    /// The event's type, or the command tag.
    pub name: String,
    /// The tree of the table that it is about.
    pub table: Option<u32>,
    /// The body.
    pub payload: Bytes,
    /// The rows that it is about, [`ABOUT_MAX`] at most: what erases one of them erases it, too.
    pub about: Vec<RowKey>,
}

/// Rows that one event may be about: their number is a byte of its image.
pub const ABOUT_MAX: usize = u8::MAX as usize;

/// A row of the same group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowKey {
    /// Its table's tree.
    pub tree: u32,
    /// Its key there.
    pub key: Bytes,
}

/// A decoded entry. Of a large transaction the changes are in its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Who, when, after what.
    pub header: Header,
    /// In order of `seq`.
    pub changes: Vec<Change>,
    /// In order of `seq`.
    pub events: Vec<Event>,
    /// Trees that are gone as of this entry.
    pub dropped_trees: Vec<u32>,
    /// Large transactions whose parts no entry will ever follow.
    pub abandoned: Vec<TxId>,
    /// It only closes its group up to its position.
    pub close: bool,
    /// What was left of images that are erased.
    pub erased: Vec<Erased>,
}

impl Entry {
    /// Reads the payload of a record of kind `Entry`. Errors: `Corrupt`.
    pub fn decode(payload: &Payload) -> Result<Entry> {
        codec::decode_entry(payload)
    }

    /// Reads the header alone. Errors: `Corrupt`.
    pub fn decode_header(payload: &Payload) -> Result<Header> {
        codec::decode_header(payload)
    }

    /// The bytes of this entry; `header.images` is set by what is there.
    pub fn encode(&self) -> Payload {
        let mut builder = EntryBuilder::new();
        self.changes
            .iter()
            .for_each(|change| builder.change(change));
        self.events.iter().for_each(|event| builder.event(event));
        self.dropped_trees
            .iter()
            .for_each(|tree| builder.drop_tree(*tree));
        self.abandoned
            .iter()
            .for_each(|txid| builder.abandon(*txid));
        if self.close {
            builder.close();
        }
        builder.finish(self.header.clone())
    }
}

/// A decoded part of a large transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Of which transaction, and which part.
    pub header: PartHeader,
    /// In key order.
    pub changes: Vec<Change>,
    /// What was left of images that are erased.
    pub erased: Vec<Erased>,
}

impl Part {
    /// Changes that were in it, whether or not they still are.
    pub fn changes_ever(&self) -> u64 {
        let erased = self.erased.iter().filter(|e| e.what.is_change());
        (self.changes.len() + erased.count()) as u64
    }

    /// Reads the payload of a record of kind `Part`. Errors: `Corrupt`.
    pub fn decode(payload: &Payload) -> Result<Part> {
        codec::decode_part(payload)
    }

    /// Reads the header alone. Errors: `Corrupt`.
    pub fn decode_header(payload: &Payload) -> Result<PartHeader> {
        codec::decode_part_header(payload)
    }
}
