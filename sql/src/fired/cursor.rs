//! How far the triggers of a group's owner have run on another group's entries.

use bytes::Bytes;
use storage::{GroupId, Position, system};

use crate::transaction::{Policy, RowMode, Stop, Transaction};
use crate::{Error, state};

/// The number of a row behind all rows of its entry, and of a group behind all groups.
const WHOLE: u32 = u32::MAX;

/// A place in the feed of another group's tables: a row of an entry, in the feed's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cursor {
    /// The entry.
    pub position: Position,
    /// Its group: another one once a table has gone to another owner.
    pub group: GroupId,
    /// The row, by its number in the entry.
    pub seq: u32,
}

impl Cursor {
    /// Behind all rows of an entry.
    pub fn behind(position: Position) -> Cursor {
        Cursor {
            position,
            group: GroupId(WHOLE),
            seq: WHOLE,
        }
    }

    /// From where on the feed is read, to get what comes behind it.
    pub fn after(self) -> Position {
        match self.seq {
            WHOLE => self.position,
            // The entry is read again.
            _ => Position(self.position.0.saturating_sub(1)),
        }
    }

    /// The newest one, locked until the entry has its place.
    pub fn lock(
        home: GroupId,
        source: GroupId,
        tx: &mut Transaction,
    ) -> Result<Option<Cursor>, Stop> {
        let key = key(source);
        tx.lock_row(
            home,
            system::TRIGGER_CURSORS,
            &key,
            RowMode::Update,
            Policy::Wait,
        )?;
        let bytes = tx.newest(home, system::TRIGGER_CURSORS, &key)?;
        let decode = |bytes: Bytes| Cursor::decode(&bytes, source);
        Ok(bytes.map(decode).transpose()?)
    }

    /// As it is applied.
    pub fn applied(home: &storage::Group, source: GroupId) -> crate::Result<Option<Cursor>> {
        let bytes = home.get(system::TRIGGER_CURSORS, &key(source), home.applied())?;
        bytes
            .map(|bytes| Cursor::decode(&bytes, source))
            .transpose()
    }

    /// Writes it.
    pub fn put(self, home: GroupId, source: GroupId, tx: &mut Transaction) -> Result<(), Stop> {
        let mut value = self.position.0.to_be_bytes().to_vec();
        value.extend_from_slice(&self.seq.to_be_bytes());
        value.extend_from_slice(&self.group.0.to_be_bytes());
        let value = Some(value.into());
        tx.put_hidden(home, system::TRIGGER_CURSORS, key(source), value)
    }

    /// One without a group was written when all rows were `source`'s.
    fn decode(bytes: &[u8], source: GroupId) -> crate::Result<Cursor> {
        let number = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_be_bytes);
        let read = || {
            let (position, rest) = bytes.split_at_checked(8)?;
            let (seq, group) = rest.split_at_checked(4)?;
            let position = Position(u64::from_be_bytes(position.try_into().ok()?));
            let seq = number(seq)?;
            Some(match (group, seq) {
                ([], WHOLE) => Cursor::behind(position),
                ([], seq) => Cursor {
                    position,
                    group: source,
                    seq,
                },
                (group, seq) => Cursor {
                    position,
                    group: GroupId(number(group)?),
                    seq,
                },
            })
        };
        let damaged = || Error::new(state::DATA_CORRUPTED, "a trigger's cursor can't be read");
        read().ok_or_else(damaged)
    }
}

fn key(source: GroupId) -> Bytes {
    Bytes::copy_from_slice(&source.0.to_be_bytes())
}
