//! What the leader of a group writes down of the copies that have erased.
//!
//! ```text
//! system tree ERASURES  "everywhere"              ->  position u64 BE: erased in all replicas up to there
//!                       position u64 BE | node u32 BE | 0 = replica, 1 = a follower's copy u8
//!                                                 ->  when it had erased up to there, in microseconds since 1970 u64 BE
//! ```

use std::ops::Bound;

use bytes::{BufMut, Bytes, BytesMut};
use journal::Position;

use crate::{Change, Changes, Commit, Direction, Group, Refused, Result, system};

/// The row that says how far all replicas have erased.
pub(super) const EVERYWHERE: &[u8] = b"everywhere";
/// It is kept for so long when copies have erased: 7 days, in microseconds.
const KEPT_MICROS: u64 = 7 * 24 * 60 * 60 * 1_000_000;
/// Rows that one entry writes and removes.
const ROWS_MAX: usize = 1000;

/// A copy of a group's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Copy {
    /// Where it is.
    pub node: u32,
    /// Kept by the feed; of a replica not.
    pub followed: bool,
}

/// A copy has erased what was removed up to a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// The position of the last removal.
    pub upto: Position,
    /// The copy.
    pub copy: Copy,
    /// When it was told, in microseconds since 1970.
    pub unix_micros: u64,
}

impl Erasure {
    fn key(&self) -> Bytes {
        let mut key = BytesMut::with_capacity(13);
        key.put_u64(self.upto.0);
        key.put_u32(self.copy.node);
        key.put_u8(u8::from(self.copy.followed));
        key.freeze()
    }

    fn read(key: &[u8], value: &[u8]) -> Option<Erasure> {
        let (upto, rest) = key.split_first_chunk::<8>()?;
        let (node, followed) = rest.split_first_chunk::<4>()?;
        let &[followed] = followed else { return None };
        Some(Erasure {
            upto: Position(u64::from_be_bytes(*upto)),
            copy: Copy {
                node: u32::from_be_bytes(*node),
                followed: followed != 0,
            },
            unix_micros: u64::from_be_bytes(value.try_into().ok()?),
        })
    }
}

impl Group {
    /// What was written down of copies that have erased, as of what is applied, oldest first.
    ///
    /// # Errors
    /// The table store can't be read.
    pub fn erasures(&self) -> Result<Vec<Erasure>> {
        let all = (Bound::Unbounded, Bound::Unbounded);
        let rows = self.scan(system::ERASURES, all, self.applied(), Direction::Forward)?;
        let mut erasures = Vec::new();
        for row in rows {
            let (key, value) = row?;
            erasures.extend(Erasure::read(&key, &value));
        }
        Ok(erasures)
    }

    /// Commits what copies have told, and how far all replicas have erased, if that is further
    /// than before; forgets what is a week old. The position of the entry; `None` if there is
    /// nothing to say, or this node does not lead.
    pub fn report_erasures(
        &self,
        told: &[Erasure],
        everywhere: Position,
    ) -> Result<Option<Position>, Refused> {
        let (Some(epoch), Ok(base)) = (self.term(), self.newest()) else {
            return Ok(None);
        };
        let changes = self.report(told, everywhere).map_err(Refused::Storage)?;
        if changes.is_empty() {
            return Ok(None);
        }
        let placed = self.commit(Commit {
            txid: self.begin(),
            epoch,
            base,
            meta: crate::Meta::default(),
            changes: Changes::Small(changes),
            events: Vec::new(),
            dropped_trees: Vec::new(),
            deps: Vec::new(),
            checks: Vec::new(),
            record_outcome: false,
            keeps_locks: false,
        })?;
        Ok(Some(placed))
    }

    fn report(&self, told: &[Erasure], everywhere: Position) -> Result<Vec<Change>> {
        let at = self.applied();
        let mut changes = Vec::new();
        let mut put = |key: Bytes, new: Option<u64>| -> Result<()> {
            let change = Change {
                seq: changes.len() as u32,
                tree: system::ERASURES,
                old: self.get(system::ERASURES, &key, at)?,
                key,
                new: new.map(|new| Bytes::copy_from_slice(&new.to_be_bytes())),
                ..Change::default()
            };
            changes.push(change);
            Ok(())
        };
        if everywhere > self.erased_everywhere()? {
            put(Bytes::from_static(EVERYWHERE), Some(everywhere.0))?;
        }
        let known = self.erasures()?;
        for told in told.iter().take(ROWS_MAX) {
            if !known
                .iter()
                .any(|k| (k.upto, k.copy) == (told.upto, told.copy))
            {
                put(told.key(), Some(told.unix_micros))?;
            }
        }
        let now = told
            .iter()
            .map(|told| told.unix_micros)
            .max()
            .unwrap_or_default();
        let old = |known: &&Erasure| known.unix_micros + KEPT_MICROS < now;
        for old in known.iter().filter(old).take(ROWS_MAX) {
            put(old.key(), None)?;
        }
        Ok(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_was_told() {
        for followed in [false, true] {
            let copy = Copy { node: 7, followed };
            let erasure = Erasure {
                upto: Position(0x0102),
                copy,
                unix_micros: 99,
            };
            let value = 99u64.to_be_bytes();
            assert_eq!(Erasure::read(&erasure.key(), &value), Some(erasure));
        }
        assert_eq!(Erasure::read(EVERYWHERE, &[0; 8]), None);
    }
}
