//! Copying a table's trees into another group by comparing them: a round goes over all rows and entries
//! of both sides in the order of their keys and writes what differs. So it does not matter what was
//! copied before, by whom, or what the owner has written since; the last round, over rows that nobody
//! writes any more, makes both sides equal.

use std::cmp::Ordering;
use std::ops::Bound;

use bytes::Bytes;
use storage::{Direction, GroupId};

use crate::catalog::Table;
use crate::exec::ExecCx;
use crate::transaction::{RowChange, Stop};

/// Rows that one step looks at: for so long it keeps its thread and its snapshots.
const LOOKED_MAX: u64 = if cfg!(test) { 40 } else { 20_000 };
/// Differences of one entry.
const CHANGES_MAX: usize = if cfg!(test) { 16 } else { 2_000 };
/// Their bytes; one row more may go beyond.
const BYTES_MAX: usize = 1 << 20;
/// A round that has found no more differences was the last one before the owner stops writing.
const CAUGHT_UP: u64 = if cfg!(test) { 4 } else { 1_000 };
/// So was this one: it is written faster than it is copied.
const ROUNDS_MAX: u32 = 8;

/// The trees of one side with those of the other, and how far a round has come in them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Round {
    /// (from, into): the rows, then the entries of each index.
    trees: Vec<(u32, u32)>,
    /// Nobody has written the table since before the round began.
    pub frozen: bool,
    number: u32,
    at: usize,
    after: Option<Bytes>,
    /// Rows and entries that were looked at, over all rounds.
    pub looked: u64,
    /// Differences of this round, and over all.
    found: u64,
    pub written: u64,
}

/// What a step has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stepped {
    /// It has written differences.
    Wrote,
    /// There was nothing to write so far; it goes on.
    Looked,
    /// The round is over.
    Over,
}

impl Round {
    /// The first one.
    pub fn new(theirs: &Table, ours: &Table) -> Round {
        Round {
            trees: pairs(theirs, ours),
            frozen: theirs.has_left(),
            number: 1,
            at: 0,
            after: None,
            looked: 0,
            found: 0,
            written: 0,
        }
    }

    /// Is it about these trees, and still worth its end? What was frozen since is gone over anew.
    pub fn is_of(&self, theirs: &Table, ours: &Table) -> bool {
        self.trees == pairs(theirs, ours) && self.frozen == theirs.has_left()
    }

    /// Is so little left that the owner may stop writing?
    pub fn has_caught_up(&self) -> bool {
        self.found <= CAUGHT_UP || self.number >= ROUNDS_MAX
    }

    /// From the beginning.
    pub fn again(&mut self) {
        (self.at, self.after, self.found) = (0, None, 0);
        self.number += 1;
    }

    /// Goes on from `from`'s rows to `into`'s.
    pub fn step(
        &mut self,
        (from, into): (GroupId, GroupId),
        cx: &mut ExecCx<'_>,
    ) -> Result<Stepped, Stop> {
        let Some((source, target)) = self.trees.get(self.at).copied() else {
            return Ok(Stepped::Over);
        };
        let after = self.after.clone();
        let range = (
            after.map_or(Bound::Unbounded, Bound::Excluded),
            Bound::Unbounded,
        );
        let (tx, forward) = (&mut cx.transaction, Direction::Forward);
        let mut theirs = tx.scan(from, source, range.clone(), forward)?;
        let mut ours = tx.scan(into, target, range, forward)?;
        let (mut there, mut here) = (theirs.next().transpose()?, ours.next().transpose()?);
        let (mut changes, mut bytes, mut looked) = (Vec::new(), 0, 0);
        while looked < LOOKED_MAX && changes.len() < CHANGES_MAX && bytes < BYTES_MAX {
            let order = match (&there, &here) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((a, _)), Some((b, _))) => a.cmp(b),
            };
            looked += 1;
            let new = match order.is_le() {
                true => std::mem::replace(&mut there, theirs.next().transpose()?),
                false => None,
            };
            let old = match order.is_ge() {
                true => std::mem::replace(&mut here, ours.next().transpose()?),
                false => None,
            };
            let key = new.as_ref().or(old.as_ref()).map(|(key, _)| key.clone());
            let key = key.expect("one of the sides has it");
            self.after = Some(key.clone());
            let (new, old) = (new.map(|(_, row)| row), old.map(|(_, row)| row));
            if new == old {
                continue;
            }
            bytes += key.len() + new.as_ref().map_or(0, Bytes::len);
            let index = Vec::new();
            changes.push(RowChange {
                key,
                old,
                new,
                index,
                feed: false,
            });
        }
        if there.is_none() && here.is_none() {
            (self.at, self.after) = (self.at + 1, None);
        }
        let wrote = changes.len() as u64;
        self.looked += looked;
        self.found += wrote;
        self.written += wrote;
        for change in changes {
            cx.transaction.write(into, target, change)?;
        }
        Ok(match (wrote, self.at == self.trees.len()) {
            (0, true) => Stepped::Over,
            (0, false) => Stepped::Looked,
            _ => Stepped::Wrote,
        })
    }
}

/// The trees of the rows, and those of the indexes that have their own.
fn pairs(theirs: &Table, ours: &Table) -> Vec<(u32, u32)> {
    let indexes = theirs.indexes.iter().zip(&ours.indexes);
    let own = indexes.filter(|(index, _)| !theirs.is_clustering(index));
    let mut pairs = vec![(theirs.tree, ours.tree)];
    pairs.extend(own.map(|(from, into)| (from.tree, into.tree)));
    pairs
}
