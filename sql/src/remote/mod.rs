//! Views over tables that must not come to this node. What a role may not read itself, it may see
//! through a view, as far as the view shows it: then only the view's rows travel. A node that holds
//! the owner's group by Raft makes them, with the rights of the view's owner, and at the very position
//! at which the reader's snapshot has that group, so that the statement still reads one cut.
//!
//! ```text
//! the reader's node                                   a node that holds the owner's group
//! bind: the view becomes a leaf (bind/remote.rs)
//! snapshot: a cut, the group at p
//! View::rows ── Request: view, columns, conditions, ──> session::stand_in::Source: applied up to p?
//!               p, who asks and with what settings      may the role read the view? the same view?
//!       rows <──────────────────── Answer::Rows ─────── SELECT ... FROM view, at p
//! ```
//! A source keeps old versions of rows for a while, and longer what somebody reads there; in a
//! transaction that keeps its snapshot what was read once is held readable until its end.

mod codec;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use storage::{GroupId, Position};

pub use self::codec::{decode_error, encode_error};
pub(crate) use self::view::{View, shape};
use crate::catalog::{RoleId, TableId};
use crate::engine::Engine;
use crate::types::codec::{decode_next_as, encode_value};
use crate::types::{Datum, Type};
use crate::{Error, Result};

/// What a node that holds a group is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The group of all tables behind the view.
    pub group: GroupId,
    /// Its rows as of this position.
    pub at: Position,
    /// How far the reader's catalog has the groups that say what the view shows and who may read it,
    /// the directory among them.
    pub known: Vec<(GroupId, Position)>,
    /// The view.
    pub view: TableId,
    /// What the reader takes it for ([`shape`]).
    pub shape: Vec<u8>,
    /// Who must be allowed to read it: the session's role, or the owner of a view over it.
    pub reader: RoleId,
    /// Which of its columns, in order.
    pub columns: Vec<u16>,
    /// What the reader looks at again: rows for which one of these does not hold may be left out.
    pub conditions: Vec<Condition>,
    /// The session that asks: roles, settings, database.
    pub asker: Vec<u8>,
    /// When its transaction began, in microseconds since 1970.
    pub started: u64,
    /// When its statement began, likewise.
    pub begun: u64,
    /// The position stays readable until the reader goes, beyond the end of the rows.
    pub holds: bool,
}

/// `column compare value`.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// The column, from 0.
    pub column: u16,
    /// How it compares.
    pub compare: Compare,
    /// With what.
    pub value: Datum,
}

/// An operator of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// `=`
    Equal,
    /// `>`
    Above,
    /// `>=`
    From,
}

/// What comes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Rows ([`Rows`]).
    Rows(Bytes),
    /// No more of them.
    End,
    /// The source's catalog is ahead: what is asked for was changed by an entry of this group up to
    /// this position.
    Ahead(GroupId, Position),
    /// The position is not readable any more there; this one is.
    Old(Position),
    /// The source was lost after it had given rows.
    Lost,
    /// No node that has the group can be asked.
    Away(String),
}

/// The rows of a view, as they come from another node.
pub trait Reading: Send {
    /// What comes next. It may block: it is called on a thread that others don't need.
    ///
    /// # Errors
    /// The view's own; the interrupt's.
    fn next(&mut self) -> Result<Answer>;

    /// After [`Answer::End`] of a request that holds: keeps the position readable where it was read.
    fn hold(self: Box<Self>) -> Option<Held>;
}

/// A position that is held readable at another node until this is dropped.
pub struct Held {
    /// The node.
    pub node: u32,
    /// What ends with it.
    pub stream: Box<dyn Send + Sync>,
}

/// What a transaction holds readable elsewhere.
pub(crate) type Holds = Arc<Mutex<BTreeMap<GroupId, Held>>>;

/// What a statement reads a group's views on.
pub struct Ground {
    /// The reader's node.
    pub(crate) engine: Arc<Engine>,
    /// The position of the group in its snapshot.
    pub(crate) at: Position,
    /// The snapshot is kept: it can't be taken again.
    pub(crate) kept: bool,
    /// When the transaction began, in microseconds since 1970.
    pub(crate) started: u64,
    /// When the statement began, likewise.
    pub(crate) begun: u64,
    /// What the transaction holds.
    pub(crate) holds: Holds,
}

/// Rows that come together at the most: those without a column take no bytes.
const ROWS_MAX: u32 = 1 << 20;

/// Rows on their way: how many, then the storage form of each value.
#[derive(Default)]
pub(crate) struct Rows {
    bytes: Bytes,
    at: usize,
    left: u32,
}

impl Rows {
    /// Those of [`Answer::Rows`].
    pub fn new(bytes: Bytes) -> Result<Rows> {
        let count = bytes.first_chunk::<4>().ok_or_else(codec::damaged)?;
        let left = u32::from_le_bytes(*count);
        match left > ROWS_MAX {
            true => Err(codec::damaged()),
            false => Ok(Rows { bytes, at: 4, left }),
        }
    }

    /// The next one, of values of these types.
    ///
    /// # Errors
    /// XX001 if it has others, or anything follows the last one.
    pub fn next(&mut self, types: &[Type]) -> Result<Option<Vec<Datum>>> {
        let mut rest = &self.bytes[self.at..];
        let Some(left) = self.left.checked_sub(1) else {
            return match rest.is_empty() {
                true => Ok(None),
                false => Err(codec::damaged()),
            };
        };
        self.left = left;
        let values = types.iter().map(|ty| decode_next_as(*ty, &mut rest));
        let row = values.collect::<Result<Vec<_>>>();
        self.at = self.bytes.len() - rest.len();
        row.map(Some).map_err(|_| codec::damaged())
    }
}

/// Rows being written.
pub(crate) struct RowsOut {
    bytes: Vec<u8>,
    count: u32,
}

impl Default for RowsOut {
    fn default() -> RowsOut {
        RowsOut {
            bytes: vec![0; 4],
            count: 0,
        }
    }
}

impl RowsOut {
    pub fn push(&mut self, row: &[Datum]) {
        for value in row {
            encode_value(value, &mut self.bytes);
        }
        self.count += 1;
    }

    /// About so much was wanted: a row without columns is something, too.
    pub fn is_full(&self, bytes: usize) -> bool {
        self.bytes.len() + self.count as usize >= bytes || self.count == ROWS_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What [`Rows`] reads; `None`: there are none.
    pub fn done(mut self) -> Option<Bytes> {
        self.bytes[..4].copy_from_slice(&self.count.to_le_bytes());
        (self.count > 0).then(|| Bytes::from(self.bytes))
    }
}

/// A [`Reading`] of who can ask nobody.
pub struct Nowhere;

impl Reading for Nowhere {
    fn next(&mut self) -> Result<Answer> {
        Ok(Answer::Away("there is no other node".to_owned()))
    }

    fn hold(self: Box<Self>) -> Option<Held> {
        None
    }
}

/// Why a source does not give what it is asked for.
#[derive(Debug)]
pub enum Refused {
    /// It has not got as far as the reader: it may be asked again.
    Behind,
    /// It does not hold the group by Raft.
    NotHere,
    /// [`Answer::Ahead`].
    Ahead(GroupId, Position),
    /// [`Answer::Old`].
    Old(Position),
    /// The statement fails with this.
    Error(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused::Error(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_what_the_reader_takes_them_for() {
        let types = [Type::INT4, Type::TEXT];
        let row = |n| vec![Datum::Int4(n), Datum::text("x")];
        let mut out = RowsOut::default();
        out.push(&row(1));
        out.push(&row(2));
        let bytes = out.done().unwrap();
        let read = |bytes: &Bytes, types: &[Type]| -> Result<usize> {
            let mut rows = Rows::new(bytes.clone())?;
            let mut count = 0;
            while rows.next(types)?.is_some() {
                count += 1;
            }
            Ok(count)
        };
        assert_eq!(read(&bytes, &types).unwrap(), 2);
        for types in [&[Type::INT8, Type::TEXT][..], &types[..1], &[]] {
            let told = read(&bytes, types).unwrap_err();
            assert_eq!(told.state(), crate::state::DATA_CORRUPTED, "{types:?}");
        }
        for end in 0..bytes.len() {
            assert!(read(&bytes.slice(..end), &types).is_err(), "{end}");
        }
        let longer = Bytes::from([&bytes[..], &[0]].concat());
        assert!(read(&longer, &types).is_err());
    }

    /// They take no bytes: their number is bounded by itself.
    #[test]
    fn rows_without_columns_are_not_without_number() {
        let mut out = RowsOut::default();
        while !out.is_full(usize::MAX) {
            out.push(&[]);
        }
        let mut rows = Rows::new(out.done().unwrap()).unwrap();
        let counted = std::iter::from_fn(|| rows.next(&[]).unwrap()).count();
        assert_eq!(counted, ROWS_MAX as usize);
        let more = (ROWS_MAX + 1).to_le_bytes();
        assert!(Rows::new(Bytes::copy_from_slice(&more)).is_err());
    }
}
