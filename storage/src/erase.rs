//! What is to be erased of one group: the ledger of removed rows, which apply keeps, and the search
//! for images that name them. The protocol is in `docs/erase.md`.
//!
//! ```text
//! system tree LEDGER    what u8 | tree u32 BE | key  ->  position of the removal u64 BE
//!                         what: 0 = a removal | 1 = an ERASE, at once and with the history
//!                       0       | tree u32 BE        ->  the same: the whole tree was dropped
//! system tree ERASURES  see `erase/report.rs`
//! ```

mod removals;
mod report;
mod search;
mod streams;

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use journal::Position;

pub use removals::Removals;
pub(crate) use removals::{Counting, Erasing};
pub use report::{Copy, Erasure};
pub use search::{Found, Search, naming, remains};
pub use streams::Streamed;
pub(crate) use streams::Streams;

use crate::group::{LogState, TreeWrite};
use crate::{Change, Direction, ErasedKeys, Group, Result, Write, system};

/// Memory for rows of ledgers that are looked for in one pass over the journal, over all groups.
pub const LEDGER_BYTES_MAX: usize = 64 << 20;
/// What a row costs there beside its key.
const LEDGER_ROW_BYTES: usize = 96;
/// Rows of the ledger that are forgotten under one hold of the apply lock.
const FORGET_ROWS_MAX: usize = 4096;
/// Of a removal that is to be erased with what is done anyway.
const IN_TIME: u8 = 0;
/// Of one that is to be erased at once, with what its tree keeps of its history.
const AT_ONCE: u8 = 1;

/// Does a removal from this tree leave something that must be erased? Not where the system keeps
/// what it knows of tables, transactions and itself; but where it keeps keys and rows of tables while
/// something is decided.
pub(crate) fn leaves_bytes(tree: u32) -> bool {
    let of_rows = [
        system::PARKED,
        system::FENCED,
        system::PREPARED,
        system::INTENTS,
        system::LOCKS,
    ];
    !system::is_system(tree) || of_rows.contains(&tree)
}

/// The ledger's rows of some changes. `own` are those of apply.
pub(crate) fn note_removals(changes: &[Change], position: Position, own: &mut Vec<TreeWrite>) {
    let removals = changes.iter().filter(|change| change.new.is_none());
    #[cfg(feature = "sabotage")]
    if (position.0 >> 10).is_multiple_of(10) && journal::sabotage::planted("removal-not-in-ledger")
    {
        return;
    }
    for change in removals.filter(|change| leaves_bytes(change.tree)) {
        own.push(row(change.tree, &change.key, position, change.erase));
    }
}

/// The ledger's row of a dropped tree.
pub(crate) fn note_dropped(tree: u32, position: Position) -> TreeWrite {
    row(tree, &[], position, false)
}

fn row(tree: u32, key: &[u8], position: Position, at_once: bool) -> TreeWrite {
    let what = if at_once { AT_ONCE } else { IN_TIME };
    TreeWrite {
        tree: system::LEDGER,
        key: [&[what], &tree.to_be_bytes()[..], key].concat().into(),
        value: Some(Bytes::copy_from_slice(&position.0.to_be_bytes())),
    }
}

/// The tree, the key (empty: all of the tree), the position and whether it is to be at once.
fn read(key: &Bytes, value: &Bytes) -> Option<(u32, Bytes, Position, bool)> {
    let tree = u32::from_be_bytes(key.get(1..5)?.try_into().ok()?);
    let at = u64::from_be_bytes(value[..].try_into().ok()?);
    Some((tree, key.slice(5..), Position(at), is_at_once(key)))
}

fn is_at_once(key: &[u8]) -> bool {
    key.first() == Some(&AT_ONCE)
}

/// Trees of tables by those of their indexes.
pub type IndexTrees = HashMap<u32, u32>;

/// Removed rows of one group.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    rows: HashMap<(u32, Bytes), Position>,
    dropped: HashMap<u32, Position>,
    /// Those whose history goes, too, by their trees.
    erased: HashMap<u32, ErasedKeys>,
    /// The trees of these trees' indexes.
    indexes: IndexTrees,
    /// Of removals up to here the keys themselves go.
    everywhere: Position,
    /// Up to here images are looked for. The ledger has of each row its last removal: one that has come
    /// and gone once more since was removed before, too.
    upto: Position,
    /// Where the next part of the ledger begins.
    next: Option<Bytes>,
    /// About what it costs in memory.
    bytes: usize,
}

impl Ledger {
    /// The trees whose rows they are. Dropped ones are not among them: they have left as a whole.
    pub fn trees(&self) -> BTreeSet<u32> {
        self.rows.keys().map(|(tree, _)| *tree).collect()
    }

    /// An entry of an index that was built for rows which stood there is in no change of its row: it is
    /// found by the row that it leads to.
    pub fn set_indexes(&mut self, indexes: IndexTrees) {
        self.indexes = indexes;
    }

    /// The rows that were removed by ERASE, by their trees.
    pub fn take_erased(&mut self) -> impl Iterator<Item = (u32, Arc<ErasedKeys>)> {
        let erased = std::mem::take(&mut self.erased).into_iter();
        erased.map(|(tree, keys)| (tree, Arc::new(keys)))
    }

    /// About what it costs in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn note(&mut self, tree: u32, key: Bytes, at: Position, at_once: bool) {
        self.bytes += key.len() + LEDGER_ROW_BYTES;
        if key.is_empty() {
            if at <= self.upto {
                self.dropped.insert(tree, at);
            }
            return;
        }
        if at_once {
            let of_tree = self.erased.entry(tree).or_default();
            // What came after is not looked for yet, so it stays in the history, too.
            of_tree.insert(key.clone(), at.min(self.upto));
        }
        // Of a row that was erased and removed once more there are two.
        let last = self.rows.entry((tree, key)).or_insert(at);
        *last = (*last).max(at);
    }

    /// Where to read on ([`Group::ledger`]).
    pub fn next(&self) -> Option<&Bytes> {
        self.next.as_ref()
    }

    /// Is there nothing to be looked for?
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.dropped.is_empty() && self.everywhere == Position::ZERO
    }
}

impl Group {
    /// All replicas have erased what was removed up to here: of these removals the keys go, too.
    ///
    /// # Errors
    /// The table store can't be read.
    pub fn erased_everywhere(&self) -> Result<Position> {
        self.erased_everywhere_at(self.applied_log().0.position)
    }

    fn erased_everywhere_at(&self, at: Position) -> Result<Position> {
        if self.is_followed() || at == Position::ZERO {
            // It has no log, so no keys in it.
            return Ok(Position::ZERO);
        }
        let row = (self.store()).get(self.tree_id(system::ERASURES), report::EVERYWHERE, at)?;
        let position = row.and_then(|row| <[u8; 8]>::try_from(&row[..]).ok());
        Ok(position.map_or(Position::ZERO, |eight| Position(u64::from_be_bytes(eight))))
    }

    /// A part of the ledger as of what is applied, for what was removed `after` a position and up to
    /// another, beginning with the `from` that the part before says, until it costs `bytes_max` or more.
    ///
    /// # Errors
    /// The table store can't be read.
    pub fn ledger(
        &self,
        after: Position,
        upto: Position,
        from: Option<&Bytes>,
        bytes_max: usize,
    ) -> Result<Ledger> {
        let at = self.applied_log().0.position;
        let mut ledger = Ledger {
            everywhere: self.erased_everywhere_at(at)?,
            upto,
            ..Ledger::default()
        };
        if after >= upto {
            return Ok(ledger);
        }
        for row in self.ledger_rows(from, at)? {
            let (row, value) = row?;
            if ledger.bytes >= bytes_max {
                ledger.next = Some(row);
                break;
            }
            match read(&row, &value) {
                Some((_, _, at, _)) if at <= after => {}
                Some((tree, key, at, at_once)) => ledger.note(tree, key, at, at_once),
                None => {}
            }
        }
        Ok(ledger)
    }

    fn ledger_rows(&self, from: Option<&Bytes>, at: Position) -> Result<crate::Scan> {
        if at == Position::ZERO {
            return Ok(Box::new(std::iter::empty()));
        }
        let from = from.map_or(Bound::Unbounded, |from| Bound::Included(from.clone()));
        let range = (from, Bound::Unbounded);
        // Of what is applied, shown or not.
        let tree = self.tree_id(system::LEDGER);
        self.store().scan(tree, range, at, Direction::Forward)
    }

    /// Forgets the ledger's rows of what is erased in every copy that has this ledger: of a
    /// replica's in all replicas, of a follower's in its own. Each copy forgets by itself, and
    /// again if a crash brings rows back: they say nothing any more. Answers how many.
    ///
    /// # Errors
    /// The table store can't be read or written; `NoGroup`, if it has ended.
    pub fn forget_erased(&self) -> Result<usize> {
        let mut forgotten = 0;
        let mut from = None;
        loop {
            let state = self.lock_log();
            self.check_alive(&state)?;
            let (rows, next) = self.forgettable(&state, from.as_ref())?;
            forgotten += rows.len();
            let mut writes = rows.into_iter().map(|key| -> Write { (key, None) });
            let (tree, at) = (self.tree_id(system::LEDGER), state.applied.position);
            if writes.len() > 0 {
                self.store().write(tree, at, &mut writes)?;
            }
            if next.is_none() {
                return Ok(forgotten);
            }
            from = next;
        }
    }

    /// Rows to be forgotten, and where to look on.
    fn forgettable(
        &self,
        state: &LogState,
        from: Option<&Bytes>,
    ) -> Result<(Vec<Bytes>, Option<Bytes>)> {
        let at = state.applied.position;
        let upto = match self.is_followed() {
            true => self.erased(),
            false => self.erased_everywhere_at(at)?,
        };
        let mut forgettable = Vec::new();
        for (looked, row) in self.ledger_rows(from, at)?.enumerate() {
            let (key, value) = row?;
            if looked >= FORGET_ROWS_MAX {
                return Ok((forgettable, Some(key)));
            }
            // What the last entry has written is not written once more at its position.
            if read(&key, &value).is_none_or(|(_, _, removed, _)| removed <= upto && removed < at) {
                forgettable.push(key);
            }
        }
        Ok((forgettable, None))
    }

    /// Where this copy still has a row, by its key: in its table, in a version of it that can be read,
    /// in the ledger, where a tree that was dropped stands for all of its rows. So many of the three.
    ///
    /// # Errors
    /// The table store can't be read.
    pub fn traces(&self, tree: u32, key: &[u8]) -> Result<u32> {
        let (store, at) = (self.store(), self.applied_log().0.position);
        if at == Position::ZERO {
            return Ok(0);
        }
        let mut traces = 0;
        // Where a follower has the keys alone, too.
        for number in [tree, system::keys_of(tree)] {
            let tree = self.tree_id(number);
            let only = Bound::Included(Bytes::copy_from_slice(key));
            let oldest = store.kept(tree).min(at);
            let mut kept = store.versions(tree, (only.clone(), only), oldest, at)?;
            let now = store.get(tree, key, at)?.is_some();
            let before = kept.next().transpose()?.is_some();
            let mut noted = false;
            for (key, at_once) in [(key, false), (key, true), (&[][..], false)] {
                let row = row(number, key, at, at_once).key;
                noted |= store.get(self.tree_id(system::LEDGER), &row, at)?.is_some();
            }
            traces += u32::from(now) + u32::from(before) + u32::from(noted);
        }
        Ok(traces)
    }

    /// Could the ledger be read as of `at` with rows of removals up to a position? What could not
    /// be has left the store's files once the tree is purged with the horizon there.
    ///
    /// # Errors
    /// The table store can't be read.
    pub fn ledger_has(&self, upto: Position, at: Position) -> Result<bool> {
        for row in self.ledger_rows(None, at)? {
            let (key, value) = row?;
            if read(&key, &value).is_some_and(|(_, _, removed, _)| removed <= upto) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Lets the store forget what stood there before a position although somebody may still read
    /// it: that read is refused from now on. For removals whose time is over. What is shown stays
    /// readable even so: while a group that it waits for is away, every read is there.
    pub fn force_horizon(&self, position: Position) {
        let position = position.min(self.applied()).min(self.most_old());
        self.store().set_horizon(self.id(), position);
    }
}
