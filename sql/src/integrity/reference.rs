//! A transaction that references a key of another owner's table. It asks nobody: it looks at the node's
//! cut of that owner, its entry rests on what it saw there, and when the entry gets its place the key
//! must not have been fenced since.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use storage::{Check, Direction, GroupId, Position, system};

use super::look::Cut;
use super::rows::{self, FLOOR_KEY, Range, all_fences, fences};
use crate::catalog::Table;
use crate::exec::ExecCx;
use crate::transaction::{Stop, Transaction, Wait};
use crate::{Error, state};

/// Keys whose fences a transaction looks at one by one when it commits; of more the whole index.
const KEYS_MAX: usize = 4096;
/// Ranges that it looks at one by one; of more the whole tree.
const RANGES_MAX: usize = 4096;
/// A statement waits so long for a fence to be lifted, in microseconds: PostgreSQL's `deadlock_timeout`.
const FENCED_MAX: u64 = 1_000_000;
/// It looks again so often.
const FENCED_AGAIN: u64 = 20_000;

/// What must not have been written when the transaction gets its place.
#[derive(Default)]
pub(crate) struct References {
    /// By where the fences of a key begin: where they end, and since when.
    keys: BTreeMap<Bytes, (Bytes, Position)>,
    /// Of whole indexes, and ranges of tables that were looked through.
    ranges: BTreeMap<(u32, Option<Bytes>), (Range, Position)>,
    /// Which statement waits for a fence, and since when.
    waiting: Option<(u32, u64)>,
}

impl References {
    /// The checks of a commit.
    pub fn checks(&self) -> impl Iterator<Item = Check> {
        let keys = self.keys.iter().map(|(first, (last, seen))| Check::Range {
            tree: system::FENCED,
            range: (
                Bound::Included(first.clone()),
                Bound::Included(last.clone()),
            ),
            seen: *seen,
        });
        let ranges = self.ranges.iter();
        keys.chain(ranges.map(|((tree, _), (range, seen))| Check::Range {
            tree: *tree,
            range: range.clone(),
            seen: *seen,
        }))
    }

    /// Nobody may write there after `seen`; what was said of the same range before is replaced.
    pub fn guard(&mut self, tree: u32, range: Range, seen: Position) {
        let first = match &range.0 {
            Bound::Included(key) | Bound::Excluded(key) => Some(key.clone()),
            Bound::Unbounded => None,
        };
        self.ranges.insert((tree, first), (range, seen));
        if self.ranges.len() > RANGES_MAX {
            let of = self.ranges.extract_if(.., |(of, _), _| *of == tree);
            let since = of.map(|(_, (_, seen))| seen).min().unwrap_or(seen);
            let all = (Bound::Unbounded, Bound::Unbounded);
            self.ranges.insert((tree, None), (all, since));
        }
    }

    fn unfenced(&mut self, group: GroupId, index: u32, key: &[u8], seen: Position) {
        for key in [Some(key), None] {
            if let (Bound::Included(first), Bound::Included(last)) = fences(group, index, key) {
                self.keys.insert(first, (last, seen));
            }
        }
        if self.keys.len() > KEYS_MAX {
            let whole = all_fences(group, index);
            let within = |first: &Bytes| first.starts_with(&start(&whole));
            let gone: Vec<Bytes> = self.keys.keys().filter(|k| within(k)).cloned().collect();
            let since = gone.iter().filter_map(|k| self.keys.remove(k));
            let seen = since.map(|(_, since)| since).min().unwrap_or(seen);
            let first = Some(start(&whole));
            let known = self.ranges.get(&(system::FENCED, first));
            let seen = known.map_or(seen, |(_, known)| seen.min(*known));
            self.guard(system::FENCED, whole, seen);
        }
    }
}

fn start(range: &Range) -> Bytes {
    match &range.0 {
        Bound::Included(key) | Bound::Excluded(key) => key.clone(),
        Bound::Unbounded => Bytes::new(),
    }
}

/// Is the key there, in an index of the parent's, and can it be relied on?
///
/// # Errors
/// 40001 if its owner is about to remove it; `Wait` while what is known here is too old.
pub(crate) fn check_reference(
    home: GroupId,
    parent: &Arc<Table>,
    index: u32,
    key: &[u8],
    cx: &mut ExecCx<'_>,
) -> Result<bool, Stop> {
    cx.transaction.references_key(home, parent, index, key)
}

impl Transaction {
    fn references_key(
        &mut self,
        home: GroupId,
        parent: &Table,
        index: u32,
        key: &[u8],
    ) -> Result<bool, Stop> {
        let engine = Arc::clone(self.engine());
        let other = parent.group;
        let own = engine.groups().get(home);
        let own = own.ok_or_else(|| super::look::not_here(home))?;
        let wait = |wait: storage::Wait| Stop::Wait(Wait::Position(home, wait.0));
        let seen = own.newest().map_err(wait)?;
        if self.is_fenced(&own, other, index, key, seen)? {
            return Err(self.await_lift());
        }
        // As of the same position: what was lifted before it this is not below.
        let floor = own.get(system::outbox(other), FLOOR_KEY, seen)?;
        let floor = floor.map(|bytes| rows::read_floor(&bytes)).transpose()?;
        let cut = Cut::of(&engine, home, other, floor.unwrap_or_default())?;
        let there = match cut.tree(&engine, parent, index)? {
            Some(tree) => cut.get(&engine, tree, key)?.is_some(),
            None => false,
        };
        if there {
            #[cfg(feature = "sabotage")]
            let at = match storage::sabotage::planted("reference-without-dep") {
                true => Position::ZERO,
                false => cut.position(),
            };
            #[cfg(not(feature = "sabotage"))]
            let at = cut.position();
            self.follows_from(other, at, 0);
            #[cfg(feature = "sabotage")]
            if storage::sabotage::planted("reference-unchecked-at-commit") {
                return Ok(there);
            }
            self.references().unfenced(other, index, key, seen);
        }
        Ok(there)
    }

    fn is_fenced(
        &self,
        own: &storage::Group,
        other: GroupId,
        index: u32,
        key: &[u8],
        seen: Position,
    ) -> Result<bool, Stop> {
        for key in [Some(key), None] {
            let range = fences(other, index, key);
            let mut fences = own.scan(system::FENCED, range, seen, Direction::Forward)?;
            if fences.next().transpose()?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn await_lift(&mut self) -> Stop {
        let (now, statement) = (self.engine().clock().unix_micros(), self.statement());
        let waiting = self.references().waiting.filter(|(of, _)| *of == statement);
        let (_, since) = *self
            .references()
            .waiting
            .insert(waiting.unwrap_or((statement, now)));
        if now < since.saturating_add(FENCED_MAX) {
            return Stop::Wait(Wait::Until(now + FENCED_AGAIN));
        }
        self.references().waiting = None;
        Error::new(
            state::SERIALIZATION_FAILURE,
            "could not serialize access: the referenced key is about to be removed by its owner",
        )
        .hint("Run the transaction again.")
        .into()
    }
}
