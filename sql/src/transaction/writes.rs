//! What an open transaction has written: net changes by row, the index entries that come with
//! them, undo for savepoints; in memory up to a limit, then in a scratch tree on disk.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use storage::{Change, Direction, IndexWrite, Position, Scratch, TableStore};

use super::{RowChange, Stop};
use crate::{Error, state};

/// The value that an own write gave a key: `None` = deleted.
pub(super) type Own = Option<Bytes>;

/// The net change of one row of a table or system tree.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RowState {
    /// The row before this transaction.
    pub old: Option<Bytes>,
    /// The row now.
    pub new: Option<Bytes>,
    /// Net writes of index entries, the last one per key.
    pub index: Vec<IndexWrite>,
    pub feed: bool,
    /// Order of the first touch.
    pub seq: u32,
    /// Where the row was seen that the first change was computed from.
    pub seen: Position,
    /// ERASE has removed it; nothing comes in its place but where it was new itself.
    pub erase: bool,
}

impl RowState {
    /// Is it gone to be erased, and was it there before the transaction?
    fn is_erased(&self) -> bool {
        self.erase && self.old.is_some() && self.new.is_none()
    }
}

/// One step back.
enum Undo {
    /// The tree had no writes of this transaction.
    Tree(u32),
    Row(u32, Bytes, Option<Box<RowState>>),
    Entry(u32, Bytes, Option<Own>),
}

/// A moment to go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    undo: usize,
    seq: u32,
}

type Tree<T> = BTreeMap<Bytes, T>;

/// The write set of one transaction.
pub(super) struct Writes {
    rows: BTreeMap<u32, Tree<RowState>>,
    /// Index entries by index tree.
    entries: BTreeMap<u32, Tree<Own>>,
    undo: Vec<Undo>,
    /// Savepoints that may be gone back to: undo is kept only while there is one.
    marks: usize,
    /// Trees that have an [`Undo::Tree`], and where in `undo`: up to a later savepoint their keys
    /// need no steps of their own, and a table that is filled or rewritten has millions of them.
    whole: BTreeMap<u32, usize>,
    /// The greatest `undo` of a savepoint made so far.
    last_mark: usize,
    bytes: usize,
    /// Bytes kept in memory (`work_mem`).
    memory_max: usize,
    spilled: Option<Spilled>,
    seq: u32,
    total_bytes: u64,
    /// What is removed now is to be erased.
    pub erasing: Option<u32>,
}

/// The part of the write set that is on disk. Keys: kind, tree, key.
struct Spilled {
    scratch: Box<dyn Scratch>,
    trees: BTreeMap<u32, bool>,
}

const ROW: u8 = 0;
const ENTRY: u8 = 1;
/// Bytes of bookkeeping per row or entry, for the memory limit.
const OVERHEAD: usize = 96;

impl Writes {
    pub fn new(memory_max: usize) -> Writes {
        Writes {
            rows: BTreeMap::new(),
            entries: BTreeMap::new(),
            undo: Vec::new(),
            marks: 0,
            whole: BTreeMap::new(),
            last_mark: 0,
            bytes: 0,
            memory_max,
            spilled: None,
            seq: 0,
            total_bytes: 0,
            erasing: None,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.spilled.is_none()
    }

    pub fn is_spilled(&self) -> bool {
        self.spilled.is_some()
    }

    /// Bytes written so far, overwritten ones included.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Counts what the transaction keeps elsewhere.
    pub fn count(&mut self, bytes: u64) {
        self.total_bytes += bytes;
    }

    /// The next number of the sequence that changes and events share.
    pub fn next_seq(&mut self) -> u32 {
        self.seq += 1;
        self.seq
    }

    pub fn mark(&mut self) -> Mark {
        self.marks += 1;
        self.last_mark = self.undo.len();
        Mark {
            undo: self.undo.len(),
            seq: self.seq,
        }
    }

    /// Forgets a savepoint; its writes stay.
    pub fn unmark(&mut self) {
        self.marks = self.marks.saturating_sub(1);
        if self.marks == 0 {
            self.undo.clear();
            self.whole.clear();
        }
    }

    /// Takes back what was written since the mark; the savepoint itself stays.
    pub fn undo_to(&mut self, mark: Mark) -> Result<(), Stop> {
        while self.undo.len() > mark.undo {
            match self.undo.pop() {
                Some(Undo::Tree(tree)) => self.forget_tree(tree)?,
                Some(Undo::Row(tree, key, state)) => self.put_row(tree, key, state.map(|s| *s))?,
                Some(Undo::Entry(tree, key, own)) => self.put_entry(tree, key, own)?,
                None => break,
            }
        }
        self.seq = mark.seq;
        self.last_mark = mark.undo;
        Ok(())
    }

    fn forget_tree(&mut self, tree: u32) -> Result<(), Stop> {
        self.whole.remove(&tree);
        self.rows.remove(&tree);
        self.entries.remove(&tree);
        match &mut self.spilled {
            Some(spilled) => spilled.forget_tree(tree),
            None => Ok(()),
        }
    }

    /// Whether a write to the tree needs a step back of its own; notes the tree's first write.
    fn needs_undo(&mut self, tree: u32) -> bool {
        if self.marks == 0 {
            return false;
        }
        if let Some(at) = self.whole.get(&tree) {
            return self.last_mark > *at;
        }
        if self.touches(tree) {
            return true;
        }
        self.whole.insert(tree, self.undo.len());
        self.undo.push(Undo::Tree(tree));
        false
    }

    /// What this transaction wrote at a key of a table's or index's tree.
    pub fn get(&self, tree: u32, key: &[u8]) -> Result<Option<Own>, Stop> {
        if let Some(row) = self.rows.get(&tree).and_then(|t| t.get(key)) {
            return Ok(Some(row.new.clone()));
        }
        if let Some(own) = self.entries.get(&tree).and_then(|t| t.get(key)) {
            return Ok(Some(own.clone()));
        }
        match &self.spilled {
            Some(spilled) => spilled.get(tree, key),
            None => Ok(None),
        }
    }

    /// Does the transaction hold any write in the tree?
    pub fn touches(&self, tree: u32) -> bool {
        self.rows.get(&tree).is_some_and(|t| !t.is_empty())
            || self.entries.get(&tree).is_some_and(|t| !t.is_empty())
            || self
                .spilled
                .as_ref()
                .is_some_and(|s| s.trees.contains_key(&tree))
    }

    /// Own writes of a range in key order, as of now.
    pub fn range(
        &self,
        tree: u32,
        range: &(Bound<Bytes>, Bound<Bytes>),
        direction: Direction,
    ) -> Result<OwnRange, Stop> {
        let mut memory: Vec<(Bytes, Own)> = Vec::new();
        if !is_empty_range(range) {
            if let Some(rows) = self.rows.get(&tree) {
                let rows = rows.range::<Bytes, _>((range.0.as_ref(), range.1.as_ref()));
                memory.extend(rows.map(|(k, s)| (k.clone(), s.new.clone())));
            } else if let Some(entries) = self.entries.get(&tree) {
                let entries = entries.range::<Bytes, _>((range.0.as_ref(), range.1.as_ref()));
                memory.extend(entries.map(|(k, own)| (k.clone(), own.clone())));
            }
        }
        if direction == Direction::Backward {
            memory.reverse();
        }
        let disk = match &self.spilled {
            Some(s) if !is_empty_range(range) => s.range(tree, range, direction)?,
            _ => None,
        };
        Ok(OwnRange {
            memory: memory.into_iter().peekable(),
            disk: disk.map(Iterator::peekable),
            direction,
        })
    }

    /// Adds one change of one row.
    pub fn write(&mut self, tree: u32, change: RowChange, seen: Position) -> Result<(), Stop> {
        let size = change.key.len()
            + change.new.as_ref().map_or(0, Bytes::len)
            + change.index.iter().map(|i| i.key.len() + 16).sum::<usize>();
        self.total_bytes += size as u64;
        for write in &change.index {
            self.entry(write.tree, write.key.clone(), write.value.clone())?;
        }
        let before = self.row(tree, &change.key)?;
        let comes_back = change.new.is_some() && before.as_ref().is_some_and(RowState::is_erased);
        // What a trigger of the ERASE removes elsewhere and puts back is a row that lives.
        if comes_back && self.erasing.is_none_or(|own| own == tree) {
            return Err(put_back().into());
        }
        let erase = self.erasing.is_some() && change.new.is_none();
        let mut state = match &before {
            Some(state) => merge(state.clone(), change.clone()),
            None => RowState {
                old: change.old,
                new: change.new,
                index: change.index,
                feed: change.feed,
                seq: self.next_seq(),
                seen,
                erase,
            },
        };
        state.erase = (state.erase || erase) && !comes_back;
        self.bytes += size + OVERHEAD;
        if self.needs_undo(tree) {
            self.undo
                .push(Undo::Row(tree, change.key.clone(), before.map(Box::new)));
        }
        self.rows.entry(tree).or_default().insert(change.key, state);
        self.spill_if_large()
    }

    fn entry(&mut self, tree: u32, key: Bytes, value: Own) -> Result<(), Stop> {
        self.bytes += key.len() + OVERHEAD;
        if self.needs_undo(tree) {
            let before = match self.entries.get(&tree).and_then(|t| t.get(&key)) {
                Some(own) => Some(own.clone()),
                None => match &self.spilled {
                    Some(spilled) => spilled.entry(tree, &key)?,
                    None => None,
                },
            };
            self.undo.push(Undo::Entry(tree, key.clone(), before));
        }
        self.entries.entry(tree).or_default().insert(key, value);
        Ok(())
    }

    fn row(&self, tree: u32, key: &[u8]) -> Result<Option<RowState>, Stop> {
        if let Some(state) = self.rows.get(&tree).and_then(|t| t.get(key)) {
            return Ok(Some(state.clone()));
        }
        match &self.spilled {
            Some(spilled) => spilled.row(tree, key),
            None => Ok(None),
        }
    }

    fn put_row(&mut self, tree: u32, key: Bytes, state: Option<RowState>) -> Result<(), Stop> {
        if let Some(spilled) = &mut self.spilled {
            spilled.remove(ROW, tree, &key)?;
        }
        let rows = self.rows.entry(tree).or_default();
        match state {
            Some(state) => rows.insert(key, state),
            None => rows.remove(&key),
        };
        if self.rows.get(&tree).is_some_and(BTreeMap::is_empty) {
            self.rows.remove(&tree);
        }
        Ok(())
    }

    fn put_entry(&mut self, tree: u32, key: Bytes, own: Option<Own>) -> Result<(), Stop> {
        if let Some(spilled) = &mut self.spilled {
            spilled.remove(ENTRY, tree, &key)?;
        }
        let entries = self.entries.entry(tree).or_default();
        match own {
            Some(own) => entries.insert(key, own),
            None => entries.remove(&key),
        };
        Ok(())
    }

    /// Whether the next write needs a scratch tree first (see [`Writes::spill_to`]).
    fn spill_if_large(&mut self) -> Result<(), Stop> {
        if self.bytes <= self.memory_max || self.spilled.is_none() {
            return Ok(());
        }
        self.spill()
    }

    pub fn wants_scratch(&self) -> bool {
        self.spilled.is_none() && self.bytes > self.memory_max
    }

    /// From now on the write set lives on disk.
    pub fn spill_to(&mut self, store: &Arc<dyn TableStore>) -> Result<(), Stop> {
        let scratch = store.scratch()?;
        self.spilled = Some(Spilled {
            scratch,
            trees: BTreeMap::new(),
        });
        self.spill()
    }

    fn spill(&mut self) -> Result<(), Stop> {
        let Some(spilled) = &mut self.spilled else {
            return Ok(());
        };
        for (tree, rows) in std::mem::take(&mut self.rows) {
            spilled.trees.insert(tree, true);
            for (key, state) in rows {
                spilled.put_row(tree, &key, &state)?;
            }
        }
        for (tree, entries) in std::mem::take(&mut self.entries) {
            spilled.trees.entry(tree).or_insert(false);
            for (key, own) in entries {
                spilled.put_entry(tree, &key, &own)?;
            }
        }
        self.bytes = 0;
        Ok(())
    }

    /// The changes of a transaction that stayed in memory, in order of their first touch.
    pub fn take_small(&mut self) -> Vec<(Change, Position)> {
        let mut all: Vec<(Change, Position)> = Vec::new();
        for (tree, rows) in std::mem::take(&mut self.rows) {
            for (key, state) in rows {
                let seen = state.seen;
                all.extend(net(tree, key, state).map(|change| (change, seen)));
            }
        }
        self.entries.clear();
        all.sort_by_key(|(change, _)| change.seq);
        all
    }

    /// The changes of a spooled transaction.
    pub fn take_large(&mut self) -> Result<Box<dyn storage::LargeChanges>, Stop> {
        self.spill()?;
        let spilled = self
            .spilled
            .take()
            .expect("only a spilled write set is large");
        let trees = spilled.trees.keys().copied().collect();
        let from = (
            Bound::Included(Bytes::from_static(&[ROW])),
            Bound::Excluded(ENTRY_START),
        );
        let scan = spilled.scratch.scan(from, Direction::Forward)?;
        Ok(Box::new(Large {
            spilled,
            scan,
            seq: 0,
            trees,
        }))
    }
}

const ENTRY_START: Bytes = Bytes::from_static(&[ENTRY]);

fn is_empty_range(range: &(Bound<Bytes>, Bound<Bytes>)) -> bool {
    match (&range.0, &range.1) {
        (Bound::Included(a), Bound::Included(b)) => a > b,
        (Bound::Included(a) | Bound::Excluded(a), Bound::Excluded(b) | Bound::Included(b)) => {
            a >= b
        }
        _ => false,
    }
}

/// The second change of a row within one transaction.
fn merge(mut state: RowState, change: RowChange) -> RowState {
    state.new = change.new;
    state.feed |= change.feed;
    for write in change.index {
        match state
            .index
            .iter_mut()
            .find(|w| w.tree == write.tree && w.key == write.key)
        {
            Some(same) => same.value = write.value,
            None => state.index.push(write),
        }
    }
    state
}

/// 55000: the two would be one change of a row that lives, and of those nothing is erased.
fn put_back() -> Error {
    let message = "cannot insert a row whose key is erased in the same transaction";
    Error::new(state::OBJECT_NOT_IN_PREREQUISITE_STATE, message)
        .hint("COMMIT the ERASE, and insert the row in another transaction.")
}

/// A row's change as the entry carries it; nothing if the row came and went.
fn net(tree: u32, key: Bytes, state: RowState) -> Option<Change> {
    if state.old.is_none() && state.new.is_none() {
        return None;
    }
    if state.old == state.new && state.index.is_empty() {
        return None;
    }
    let erase = state.erase && state.new.is_none();
    Some(Change {
        seq: state.seq,
        tree,
        feed: state.feed,
        key,
        old: state.old,
        new: state.new,
        index: state.index,
        erase,
    })
}

/// Own writes of a range: memory and disk merged, memory wins.
pub(super) struct OwnRange {
    memory: std::iter::Peekable<std::vec::IntoIter<(Bytes, Own)>>,
    disk: Option<std::iter::Peekable<DiskRange>>,
    direction: Direction,
}

type DiskRange = Box<dyn Iterator<Item = Result<(Bytes, Own), Stop>> + Send>;

impl OwnRange {
    pub fn is_empty(&mut self) -> bool {
        self.memory.peek().is_none() && self.disk.is_none()
    }
}

impl Iterator for OwnRange {
    type Item = Result<(Bytes, Own), Stop>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(disk) = &mut self.disk else {
            return self.memory.next().map(Ok);
        };
        match (self.memory.peek(), disk.peek()) {
            (None, _) => disk.next(),
            (Some(_), None) => self.memory.next().map(Ok),
            (Some(_), Some(Err(_))) => disk.next(),
            (Some((a, _)), Some(Ok((b, _)))) => match order(a, b, self.direction) {
                std::cmp::Ordering::Less => self.memory.next().map(Ok),
                std::cmp::Ordering::Greater => disk.next(),
                std::cmp::Ordering::Equal => {
                    disk.next();
                    self.memory.next().map(Ok)
                }
            },
        }
    }
}

/// The order of two keys in a scan.
pub(super) fn order(a: &[u8], b: &[u8], direction: Direction) -> std::cmp::Ordering {
    match direction {
        Direction::Forward => a.cmp(b),
        Direction::Backward => b.cmp(a),
    }
}

impl Spilled {
    fn key(kind: u8, tree: u32, key: &[u8]) -> Vec<u8> {
        let mut full = Vec::with_capacity(5 + key.len());
        full.push(kind);
        full.extend_from_slice(&tree.to_be_bytes());
        full.extend_from_slice(key);
        full
    }

    fn get(&self, tree: u32, key: &[u8]) -> Result<Option<Own>, Stop> {
        match self.trees.get(&tree) {
            None => Ok(None),
            Some(true) => Ok(self.row(tree, key)?.map(|state| state.new)),
            Some(false) => self.entry(tree, key),
        }
    }

    fn row(&self, tree: u32, key: &[u8]) -> Result<Option<RowState>, Stop> {
        let Some(bytes) = self.scratch.get(&Self::key(ROW, tree, key))? else {
            return Ok(None);
        };
        decode_state(&bytes).map(Some)
    }

    fn entry(&self, tree: u32, key: &[u8]) -> Result<Option<Own>, Stop> {
        let bytes = self.scratch.get(&Self::key(ENTRY, tree, key))?;
        Ok(bytes.map(|b| decode_own(&b)))
    }

    fn put_row(&mut self, tree: u32, key: &[u8], state: &RowState) -> Result<(), Stop> {
        Ok(self
            .scratch
            .put(&Self::key(ROW, tree, key), &encode_state(state))?)
    }

    fn put_entry(&mut self, tree: u32, key: &[u8], own: &Own) -> Result<(), Stop> {
        Ok(self
            .scratch
            .put(&Self::key(ENTRY, tree, key), &encode_own(own))?)
    }

    fn remove(&mut self, kind: u8, tree: u32, key: &[u8]) -> Result<(), Stop> {
        Ok(self.scratch.remove(&Self::key(kind, tree, key))?)
    }

    /// Takes all keys of a tree away.
    fn forget_tree(&mut self, tree: u32) -> Result<(), Stop> {
        const KEYS_AT_ONCE: usize = 1024;
        let Some(rows) = self.trees.remove(&tree) else {
            return Ok(());
        };
        let kind = if rows { ROW } else { ENTRY };
        let from = Bytes::from(Self::key(kind, tree, &[]));
        let to = Bytes::from(Self::key(kind, tree + 1, &[]));
        loop {
            let range = (Bound::Included(from.clone()), Bound::Excluded(to.clone()));
            let scan = self.scratch.scan(range, Direction::Forward)?;
            let keys: storage::Result<Vec<Bytes>> = scan
                .take(KEYS_AT_ONCE)
                .map(|item| item.map(|(key, _)| key))
                .collect();
            let keys = keys?;
            if keys.is_empty() {
                return Ok(());
            }
            for key in keys {
                self.scratch.remove(&key)?;
            }
        }
    }

    fn range(
        &self,
        tree: u32,
        range: &(Bound<Bytes>, Bound<Bytes>),
        direction: Direction,
    ) -> Result<Option<DiskRange>, Stop> {
        let Some(rows) = self.trees.get(&tree).copied() else {
            return Ok(None);
        };
        let kind = if rows { ROW } else { ENTRY };
        let full = |key: &Bytes| Bytes::from(Self::key(kind, tree, key));
        let from = match &range.0 {
            Bound::Included(key) => Bound::Included(full(key)),
            Bound::Excluded(key) => Bound::Excluded(full(key)),
            Bound::Unbounded => Bound::Included(Bytes::from(Self::key(kind, tree, &[]))),
        };
        let to = match &range.1 {
            Bound::Included(key) => Bound::Included(full(key)),
            Bound::Excluded(key) => Bound::Excluded(full(key)),
            Bound::Unbounded => Bound::Excluded(Bytes::from(Self::key(kind, tree + 1, &[]))),
        };
        let scan = self.scratch.scan((from, to), direction)?;
        Ok(Some(Box::new(scan.map(move |item| {
            let (key, bytes) = item?;
            let own = if rows {
                decode_state(&bytes)?.new
            } else {
                decode_own(&bytes)
            };
            Ok((key.slice(5..), own))
        }))))
    }
}

/// Reads a spooled write set once, in key order.
struct Large {
    spilled: Spilled,
    scan: storage::Scan,
    seq: u32,
    trees: Vec<u32>,
}

impl Large {
    /// One index key appears once over all changes: where another row has taken a key that this
    /// one gave up, the put stays.
    fn tidy(&self, change: &mut Change) -> Result<(), storage::Error> {
        let mut kept = Vec::with_capacity(change.index.len());
        for write in std::mem::take(&mut change.index) {
            if write.value.is_none() {
                let key = Spilled::key(ENTRY, write.tree, &write.key);
                let last = self.spilled.scratch.get(&key)?;
                if last.is_some_and(|b| decode_own(&b).is_some()) {
                    continue;
                }
            }
            kept.push(write);
        }
        change.index = kept;
        Ok(())
    }
}

impl storage::LargeChanges for Large {
    fn next(&mut self) -> storage::Result<Option<Change>> {
        loop {
            let Some(item) = self.scan.next() else {
                return Ok(None);
            };
            let (key, bytes) = item?;
            let damaged = || storage::Error::Corrupt {
                place: "spool of a transaction".to_owned(),
                what: "a row's state can't be read".to_owned(),
            };
            let tree = key
                .get(1..5)
                .and_then(|b| b.try_into().ok())
                .ok_or_else(damaged)?;
            let state = read_state(&bytes).ok_or_else(damaged)?;
            let Some(mut change) = net(u32::from_be_bytes(tree), key.slice(5..), state) else {
                continue;
            };
            self.tidy(&mut change)?;
            self.seq += 1;
            change.seq = self.seq;
            return Ok(Some(change));
        }
    }

    fn trees(&self) -> Vec<u32> {
        self.trees.clone()
    }
}

fn encode_own(own: &Own) -> Vec<u8> {
    match own {
        None => vec![0],
        Some(bytes) => {
            let mut out = Vec::with_capacity(bytes.len() + 1);
            out.push(1);
            out.extend_from_slice(bytes);
            out
        }
    }
}

fn decode_own(bytes: &Bytes) -> Own {
    (bytes.first() == Some(&1)).then(|| bytes.slice(1..))
}

/// State of a row in a scratch tree: seq, seen, feed and erase as bits, old, new, number of index writes, those.
fn encode_state(state: &RowState) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + state.new.as_ref().map_or(0, Bytes::len));
    out.extend_from_slice(&state.seq.to_le_bytes());
    out.extend_from_slice(&state.seen.0.to_le_bytes());
    out.push(u8::from(state.feed) | u8::from(state.erase) << 1);
    put_optional(&mut out, state.old.as_ref());
    put_optional(&mut out, state.new.as_ref());
    out.extend_from_slice(&(state.index.len() as u32).to_le_bytes());
    for write in &state.index {
        out.extend_from_slice(&write.tree.to_le_bytes());
        put_optional(&mut out, Some(&write.key));
        put_optional(&mut out, write.value.as_ref());
    }
    out
}

fn put_optional(out: &mut Vec<u8>, bytes: Option<&Bytes>) {
    match bytes {
        None => out.extend_from_slice(&u32::MAX.to_le_bytes()),
        Some(bytes) => {
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        }
    }
}

fn decode_state(bytes: &Bytes) -> Result<RowState, Stop> {
    read_state(bytes).ok_or_else(|| {
        Stop::Error(crate::Error::internal(
            "spool of a transaction: a row can't be read",
        ))
    })
}

fn read_state(bytes: &Bytes) -> Option<RowState> {
    let mut at = 0;
    let seq = take_u32(bytes, &mut at)?;
    let seen = u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?);
    at += 8;
    let bits = *bytes.get(at)?;
    at += 1;
    let old = take_optional(bytes, &mut at)?;
    let new = take_optional(bytes, &mut at)?;
    let count = take_u32(bytes, &mut at)?;
    let mut index = Vec::with_capacity(count.min(64) as usize);
    for _ in 0..count {
        let tree = take_u32(bytes, &mut at)?;
        let key = take_optional(bytes, &mut at)??;
        let value = take_optional(bytes, &mut at)?;
        index.push(IndexWrite { tree, key, value });
    }
    Some(RowState {
        old,
        new,
        index,
        feed: bits & 1 != 0,
        seq,
        seen: Position(seen),
        erase: bits & 2 != 0,
    })
}

fn take_u32(bytes: &Bytes, at: &mut usize) -> Option<u32> {
    let value = u32::from_le_bytes(bytes.get(*at..*at + 4)?.try_into().ok()?);
    *at += 4;
    Some(value)
}

fn take_optional(bytes: &Bytes, at: &mut usize) -> Option<Option<Bytes>> {
    let length = take_u32(bytes, at)?;
    if length == u32::MAX {
        return Some(None);
    }
    let end = *at + length as usize;
    if end > bytes.len() {
        return None;
    }
    let value = bytes.slice(*at..end);
    *at = end;
    Some(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn b(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn change(
        key: &'static str,
        old: Option<&'static str>,
        new: Option<&'static str>,
    ) -> RowChange {
        let entry = |value: &'static str, on: bool| IndexWrite {
            tree: 2000,
            key: b(value),
            value: on.then(|| b(key)),
        };
        let mut index = Vec::new();
        index.extend(old.filter(|o| Some(*o) != new).map(|o| entry(o, false)));
        index.extend(new.filter(|n| Some(*n) != old).map(|n| entry(n, true)));
        RowChange {
            key: b(key),
            old: old.map(b),
            new: new.map(b),
            index,
            feed: true,
        }
    }

    /// A table that is rewritten has one step back, not one per row: five million of them were
    /// most of the memory of `ALTER TABLE ... ADD PRIMARY KEY`.
    #[test]
    fn a_tree_that_is_first_written_after_a_savepoint_goes_back_as_a_whole() {
        let mut w = Writes::new(1 << 20);
        let outer = w.mark();
        for key in ["a", "b", "c"] {
            w.write(1000, change(key, None, Some(key)), Position(1))
                .unwrap();
        }
        assert_eq!(w.undo.len(), 2, "the table's tree and its index's");
        let inner = w.mark();
        w.write(1000, change("a", Some("a"), Some("z")), Position(1))
            .unwrap();
        w.write(1000, change("d", None, Some("d")), Position(1))
            .unwrap();
        w.undo_to(inner).unwrap();
        assert_eq!(w.get(1000, b"a").unwrap(), Some(Some(b("a"))));
        assert_eq!(w.get(1000, b"d").unwrap(), None);
        w.undo_to(outer).unwrap();
        assert!(!w.touches(1000) && !w.touches(2000));
        w.write(1000, change("b", None, Some("2")), Position(1))
            .unwrap();
        w.undo_to(outer).unwrap();
        assert_eq!(w.get(1000, b"b").unwrap(), None);
        w.unmark();
        w.unmark();
        w.write(1000, change("e", None, Some("e")), Position(1))
            .unwrap();
        let later = w.mark();
        w.write(1000, change("f", None, Some("f")), Position(1))
            .unwrap();
        w.undo_to(later).unwrap();
        assert_eq!(w.get(1000, b"e").unwrap(), Some(Some(b("e"))));
        assert_eq!(w.get(1000, b"f").unwrap(), None);
    }

    #[test]
    fn changes_are_net_and_savepoints_go_back() {
        let mut w = Writes::new(1 << 20);
        w.write(1000, change("a", None, Some("1")), Position(1))
            .unwrap();
        let mark = w.mark();
        w.write(1000, change("a", Some("1"), Some("2")), Position(1))
            .unwrap();
        w.write(1000, change("b", Some("x"), None), Position(1))
            .unwrap();
        assert_eq!(w.get(1000, b"a").unwrap(), Some(Some(b("2"))));
        assert_eq!(w.get(2000, b"1").unwrap(), Some(None));
        w.undo_to(mark).unwrap();
        assert_eq!(w.get(1000, b"a").unwrap(), Some(Some(b("1"))));
        assert_eq!(w.get(2000, b"1").unwrap(), Some(Some(b("a"))));
        assert_eq!(w.get(1000, b"b").unwrap(), None);
        w.unmark();
        w.write(1000, change("a", Some("1"), None), Position(1))
            .unwrap();
        assert!(w.take_small().is_empty(), "came and went");
    }

    #[test]
    fn states_survive_the_spool() {
        let state = RowState {
            old: None,
            new: Some(b("new")),
            index: vec![
                IndexWrite {
                    tree: 7,
                    key: b("k"),
                    value: None,
                },
                IndexWrite {
                    tree: 8,
                    key: b(""),
                    value: Some(b("v")),
                },
            ],
            feed: true,
            seq: 9,
            seen: Position(1 << 40),
            erase: true,
        };
        let bytes = Bytes::from(encode_state(&state));
        assert_eq!(read_state(&bytes), Some(state));
        for cut in 0..bytes.len() {
            assert_eq!(read_state(&bytes.slice(..cut)), None);
        }
    }
}
