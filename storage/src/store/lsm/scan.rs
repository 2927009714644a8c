//! Scans: each memtable and each run of files gives its newest version per key at or below the
//! scan's position, and the newest of those wins. Chains of versions are skipped by seeking to
//! the next key, not walked.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use journal::Position;
use lsm_tree::{InternalValue, SeqNo, Slice, Table};

use super::super::horizon::OpenScan;
use super::super::range::{Range, clip};
use super::codec;
use super::memtable::{Memtable, Version};
use super::tree::{Run, Tree, key_hash};
use crate::{Direction, Result, RowVersion};

/// Rows that a memtable hands out at once: few at first, for a scan that soon ends.
const CHUNK_ROWS_MIN: usize = 8;
const CHUNK_ROWS_MAX: usize = 256;

/// Versions of one key that are walked in a file before the scan seeks past them.
const WALK_VERSIONS_MAX: u32 = 24;

type Items = Box<dyn DoubleEndedIterator<Item = lsm_tree::Result<InternalValue>> + Send>;

/// The merged scan of a tree.
pub(super) struct TreeScan {
    sources: Vec<(Option<RowVersion>, Source)>,
    direction: Direction,
    started: bool,
    // Fields are dropped in this order: the files before the tree that may remove them.
    tree: Arc<Tree>,
    _open: OpenScan,
}

enum Source {
    Memory(MemoryCursor),
    Files(RunCursor),
}

impl Source {
    fn next(&mut self, tree: &Tree) -> Result<Option<RowVersion>> {
        match self {
            Source::Memory(cursor) => Ok(cursor.next()),
            Source::Files(cursor) => cursor.next(tree),
        }
    }
}

impl TreeScan {
    pub fn new(
        tree: Arc<Tree>,
        open: OpenScan,
        range: Range,
        at: Position,
        direction: Direction,
    ) -> TreeScan {
        let mut sources = Vec::new();
        if let Some(range) = clip(range) {
            // The view is taken after the scan is registered, so that nothing it needs is gone.
            let view = tree.view();
            for memtable in std::iter::once(&view.active).chain(&view.sealed) {
                let cursor = MemoryCursor::new(memtable.clone(), range.clone(), at, direction);
                sources.push((None, Source::Memory(cursor)));
            }
            for run in &view.runs {
                let cursor = RunCursor::new(run.clone(), range.clone(), at, direction);
                sources.push((None, Source::Files(cursor)));
            }
        }
        TreeScan {
            sources,
            direction,
            started: false,
            tree,
            _open: open,
        }
    }

    /// The newest version of each key, of those that are deleted too.
    pub fn with_deletions(mut self) -> impl Iterator<Item = Result<RowVersion>> + Send {
        std::iter::from_fn(move || self.next_row().transpose())
    }

    fn start(&mut self) -> Result<()> {
        self.started = true;
        for (head, source) in &mut self.sources {
            *head = source.next(&self.tree)?;
        }
        self.sources.retain(|(head, _)| head.is_some());
        Ok(())
    }

    /// The next key, with its newest version over all sources.
    fn next_row(&mut self) -> Result<Option<RowVersion>> {
        if !self.started {
            self.start()?;
        }
        let mut best: Option<&RowVersion> = None;
        for (head, _) in &self.sources {
            let Some(row) = head else { continue };
            let closer = best.is_none_or(|best| {
                let order = match self.direction {
                    Direction::Forward => row.key.cmp(&best.key),
                    Direction::Backward => best.key.cmp(&row.key),
                };
                // Sources are ordered from the newest: of equal versions the first is taken.
                order.then(best.position.cmp(&row.position)) == Ordering::Less
            });
            if closer {
                best = Some(row);
            }
        }
        let Some(best) = best else { return Ok(None) };
        let (key, position) = (best.key.clone(), best.position);
        let mut result = None;
        for (head, source) in &mut self.sources {
            if head.as_ref().is_some_and(|row| row.key == key) {
                let row = std::mem::replace(head, source.next(&self.tree)?);
                if result.is_none() {
                    result = row.filter(|row| row.position == position);
                }
            }
        }
        Ok(result)
    }
}

impl Iterator for TreeScan {
    type Item = Result<(Bytes, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.next_row() {
                Ok(Some(RowVersion {
                    key,
                    value: Some(value),
                    ..
                })) => return Some(Ok((key, value))),
                Ok(Some(_)) => continue,
                Ok(None) => return None,
                Err(error) => {
                    self.sources.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}

/// A memtable's rows, in chunks.
struct MemoryCursor {
    memtable: Arc<Memtable>,
    range: Range,
    at: Position,
    direction: Direction,
    rows: VecDeque<RowVersion>,
    chunk: usize,
    more: bool,
}

impl MemoryCursor {
    fn new(memtable: Arc<Memtable>, range: Range, at: Position, direction: Direction) -> Self {
        let (rows, chunk) = (VecDeque::new(), CHUNK_ROWS_MIN);
        MemoryCursor {
            memtable,
            range,
            at,
            direction,
            rows,
            chunk,
            more: true,
        }
    }

    fn next(&mut self) -> Option<RowVersion> {
        if self.rows.is_empty() && self.more {
            let (range, rows) = (&self.range, &mut self.rows);
            self.more = self
                .memtable
                .collect(range, self.at, self.direction, self.chunk, rows);
            self.chunk = (self.chunk * 2).min(CHUNK_ROWS_MAX);
            if let Some(last) = self.rows.back() {
                match self.direction {
                    Direction::Forward => self.range.0 = Bound::Excluded(last.key.clone()),
                    Direction::Backward => self.range.1 = Bound::Excluded(last.key.clone()),
                }
            }
        }
        self.rows.pop_front()
    }
}

/// A run's rows: table after table.
struct RunCursor {
    run: Run,
    range: Range,
    limit: SeqNo,
    direction: Direction,
    /// Tables not begun yet.
    tables: std::ops::Range<usize>,
    table: Option<(Table, Items)>,
    peeked: Option<InternalValue>,
}

impl RunCursor {
    fn new(run: Run, range: Range, at: Position, direction: Direction) -> RunCursor {
        let key = |bound: &Bound<Bytes>| match bound {
            Bound::Included(key) | Bound::Excluded(key) => Some(key.clone()),
            Bound::Unbounded => None,
        };
        let first = key(&range.0).map_or(0, |lower| {
            run.partition_point(|table| table.metadata.key_range.max()[..] < lower[..])
        });
        let last = key(&range.1).map_or(run.len(), |upper| {
            run.partition_point(|table| table.metadata.key_range.min()[..] <= upper[..])
        });
        let limit = codec::seqno_limit(at);
        let tables = first..last.max(first);
        RunCursor {
            run,
            range,
            limit,
            direction,
            tables,
            table: None,
            peeked: None,
        }
    }

    fn next(&mut self, tree: &Tree) -> Result<Option<RowVersion>> {
        loop {
            let place = |error| codec::error(&tree.folder, error);
            let Some(item) = self.next_item().map_err(place)? else {
                return Ok(None);
            };
            let found = match self.direction {
                Direction::Forward => self.newest_forward(item).map_err(place)?,
                Direction::Backward => self.newest_backward(item).map_err(place)?,
            };
            if let Some(item) = found {
                let (key, Version { position, value }) = codec::decode(item)?;
                return Ok(Some(RowVersion {
                    key,
                    position,
                    value,
                }));
            }
        }
    }

    /// The next version in the files, whatever its position.
    fn next_item(&mut self) -> lsm_tree::Result<Option<InternalValue>> {
        if let Some(item) = self.peeked.take() {
            return Ok(Some(item));
        }
        loop {
            if let Some(item) = self.next_in_table()? {
                return Ok(Some(item));
            }
            let next = match self.direction {
                Direction::Forward => self.tables.next(),
                Direction::Backward => self.tables.next_back(),
            };
            let Some(at) = next else {
                self.table = None;
                return Ok(None);
            };
            let table = self.run[at].clone();
            self.seek(table, self.range.clone());
        }
    }

    fn next_in_table(&mut self) -> lsm_tree::Result<Option<InternalValue>> {
        let Some((_, items)) = &mut self.table else {
            return Ok(None);
        };
        match self.direction {
            Direction::Forward => items.next().transpose(),
            Direction::Backward => items.next_back().transpose(),
        }
    }

    fn seek(&mut self, table: Table, (lower, upper): Range) {
        let range = (lower.map(Slice::from), upper.map(Slice::from));
        let items: Items = Box::new(table.range(range));
        self.table = Some((table, items));
    }

    /// Moves past all versions of a key.
    fn seek_past(&mut self, key: &Slice) {
        let Some((table, _)) = self.table.take() else {
            return;
        };
        let range = match self.direction {
            // The next possible key, rather than "behind this key": lsm-tree would look for that
            // in every block that holds a version of the key.
            Direction::Forward => {
                let next = [&key[..], &[0]].concat();
                (Bound::Included(Bytes::from(next)), self.range.1.clone())
            }
            Direction::Backward => (
                self.range.0.clone(),
                Bound::Excluded(Bytes::from(key.clone())),
            ),
        };
        self.seek(table, range);
    }

    /// Versions come newest first: the first below the limit is the answer, the rest is skipped.
    fn newest_forward(&mut self, item: InternalValue) -> lsm_tree::Result<Option<InternalValue>> {
        let key = item.key.user_key.clone();
        let mut found = None;
        let mut current = item;
        for _ in 0..WALK_VERSIONS_MAX {
            if found.is_none() && current.key.seqno < self.limit {
                found = Some(current);
            }
            match self.next_in_table()? {
                Some(next) if next.key.user_key == key => current = next,
                next => {
                    self.peeked = next;
                    return Ok(found);
                }
            }
        }
        if found.is_none() {
            found = self.point_read(&key)?;
        }
        self.seek_past(&key);
        Ok(found)
    }

    /// Versions come oldest first: the last below the limit is the answer.
    fn newest_backward(&mut self, item: InternalValue) -> lsm_tree::Result<Option<InternalValue>> {
        let key = item.key.user_key.clone();
        let mut found = None;
        let mut current = item;
        for _ in 0..WALK_VERSIONS_MAX {
            if current.key.seqno < self.limit {
                found = Some(current);
            }
            match self.next_in_table()? {
                Some(next) if next.key.user_key == key => current = next,
                next => {
                    self.peeked = next;
                    return Ok(found);
                }
            }
        }
        let found = self.point_read(&key)?;
        self.seek_past(&key);
        Ok(found)
    }

    fn point_read(&self, key: &Slice) -> lsm_tree::Result<Option<InternalValue>> {
        match &self.table {
            Some((table, _)) => table.get(key, self.limit, key_hash(key)),
            None => Ok(None),
        }
    }
}
