//! Compares a group's tables with the sums that apply has kept of them.

use std::ops::Bound;

use super::Group;
use crate::sums::TableSum;
use crate::{Direction, Error, Result, TreeId};

/// What [`Group::verify_sums`] has read and found right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Tables compared.
    pub tables: u64,
    /// Their rows.
    pub rows: u64,
    /// Keys of the other trees (indexes, the system's), which have no sum: they were read, so
    /// their files' checksums are right.
    pub others: u64,
}

impl Group {
    /// Reads all trees of the group as of the last applied entry and compares each table with
    /// what checkpoint and log say of it. Nothing is applied meanwhile. Errors: `Corrupt` names
    /// the first tree that differs, with both sums; `TooOld` if the versions are gone that the
    /// tables had there (the horizon has moved on between checkpoint and stop: replay first).
    pub fn verify_sums(&self) -> Result<Sums> {
        let state = self.log.lock();
        let mut read = Sums::default();
        for (number, expected) in state.sums.tables() {
            let mut found = TableSum::default();
            self.each(number, state.applied.position, |key, value| {
                found.add(key, value)
            })?;
            if found != expected {
                return Err(Error::Corrupt {
                    place: format!("tables of group {}, tree {number}", self.shared.id),
                    what: format!("expected {expected}, found {found}"),
                });
            }
            read.tables += 1;
            read.rows += found.rows;
        }
        let others = self.shared.store.trees().into_iter();
        for TreeId { number, .. } in
            others.filter(|tree| tree.group == self.shared.id && !state.sums.has(tree.number))
        {
            self.each(number, state.applied.position, |_, _| read.others += 1)?;
        }
        Ok(read)
    }

    fn each(
        &self,
        number: u32,
        at: journal::Position,
        mut row: impl FnMut(&[u8], &[u8]),
    ) -> Result<()> {
        let all = (Bound::Unbounded, Bound::Unbounded);
        let tree = self.shared.tree(number);
        for found in self.shared.store.scan(tree, all, at, Direction::Forward)? {
            let (key, value) = found?;
            row(&key, &value);
        }
        Ok(())
    }
}
