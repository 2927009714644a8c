//! What readers of a group share: the two positions, the overlay, the pins. Reading takes no lock
//! of the writer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use journal::{GroupId, Position};
use parking_lot::{Mutex, RwLock};

use super::Range;
use super::history::Keeps;
use super::overlay::{Lookup, Overlay, Row};
use crate::{Direction, Error, Result, Scan, TableStore, TreeId};

/// A position that only one thread at a time sets.
#[derive(Default)]
pub(crate) struct AtomicPosition(AtomicU64);

impl AtomicPosition {
    pub fn get(&self) -> Position {
        Position(self.0.load(Ordering::Acquire))
    }

    pub fn set(&self, position: Position) {
        self.0.store(position.0, Ordering::Release);
    }

    /// Zero from now on, unless it has become another one.
    pub fn forget(&self, position: Position) {
        let zero = Position::ZERO.0;
        // Another one stays.
        let _ = (self.0).compare_exchange(position.0, zero, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// Shared between a group, its scans and its pins.
pub(super) struct Shared {
    pub id: GroupId,
    pub store: Arc<dyn TableStore>,
    /// Committed, applied, and visible.
    pub applied: Arc<AtomicPosition>,
    /// The newest placed entry, or `applied`.
    pub placed: AtomicPosition,
    /// `newest` must look closer.
    pub slow: AtomicBool,
    pub overlay: RwLock<Overlay>,
    /// Positions held readable, with the number of pins.
    pins: Mutex<BTreeMap<Position, usize>>,
}

impl Shared {
    pub fn new(id: GroupId, store: Arc<dyn TableStore>, applied: Arc<AtomicPosition>) -> Shared {
        Shared {
            id,
            store,
            applied,
            placed: AtomicPosition::default(),
            slow: AtomicBool::new(true),
            overlay: RwLock::default(),
            pins: Mutex::default(),
        }
    }

    pub fn tree(&self, number: u32) -> TreeId {
        TreeId {
            group: self.id,
            number,
        }
    }

    fn check_placed(&self, at: Position) -> Result<()> {
        if at <= self.placed.get() {
            return Ok(());
        }
        Err(Error::NotReached {
            at,
            applied: self.applied.get(),
        })
    }

    pub fn get(&self, tree: u32, key: &[u8], at: Position) -> Result<Option<Bytes>> {
        if at > self.applied.get() {
            let overlay = self.overlay.read();
            // Under the overlay's lock, for it is dropped together with what was placed.
            self.check_placed(at)?;
            if let Lookup::Found(value) = overlay.get(tree, key, at) {
                return Ok(value);
            }
        }
        // What is not in the overlay is in the store by now.
        self.store.get(self.tree(tree), key, at)
    }

    pub fn scan(
        self: &Arc<Shared>,
        tree: u32,
        range: Range,
        at: Position,
        direction: Direction,
    ) -> Result<Scan> {
        if at <= self.applied.get() {
            return self.store.scan(self.tree(tree), range, at, direction);
        }
        let mut merge = Merge {
            shared: Arc::clone(self),
            tree,
            at,
            direction,
            rest: range.clone(),
            range,
            rows: VecDeque::new(),
            more: true,
            generation: self.overlay.read().generation(),
            opened: self.applied.get(),
            store: Box::new(std::iter::empty()),
            stored: None,
            failed: false,
        };
        merge.fill()?;
        if merge.rows.is_empty() && !merge.more {
            return self.store.scan(self.tree(tree), merge.range, at, direction);
        }
        merge.open()?;
        Ok(Box::new(merge))
    }

    /// Pins a position.
    pub fn pin(self: &Arc<Shared>, at: Position) -> Pin {
        *self.pins.lock().entry(at).or_default() += 1;
        Pin {
            at,
            shared: Arc::clone(self),
        }
    }

    /// Lets the overlay forget what nobody needs, after an entry whose versions had `written`
    /// bytes was applied. Twice as much may leave: so the overlay shrinks to its limits, and no
    /// entry pays for all that a long transaction has held. Readers pass between the batches.
    pub fn evict(&self, written: usize) {
        let mut gone = 0;
        loop {
            let applied = self.applied.get();
            // Held while evicting, so that a pin taken meanwhile can look at the floor afterwards.
            let pins = self.pins.lock();
            let needed = pins.first_key_value().map_or(applied, |(at, _)| *at);
            let batch = self.overlay.write().evict(applied, needed);
            drop(pins);
            gone += batch;
            if batch == 0 || gone >= 2 * written {
                return;
            }
        }
    }

    /// Raises the store's horizon as far as pins and `applied` allow, and before it what trees keep.
    pub fn raise_horizon(&self, wanted: Position, keeps: &Keeps) -> Result<Position> {
        let pins = self.pins.lock();
        let needed = pins.first_key_value().map_or(Position::MAX, |(at, _)| *at);
        let horizon = wanted.min(needed).min(self.applied.get());
        for (tree, keep) in keeps {
            let from = keep.from(horizon);
            self.store.keep(self.tree(*tree), Some(from))?;
        }
        self.store.set_horizon(self.id, horizon);
        Ok(self.store.horizon(self.id))
    }
}

/// Holds a position readable: the store's horizon and the overlay's floor stay at or below it
/// until the pin is dropped.
pub struct Pin {
    at: Position,
    shared: Arc<Shared>,
}

impl Pin {
    /// The position.
    pub fn position(&self) -> Position {
        self.at
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.shared.pins.lock();
        if let Some(count) = pins.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.at);
            }
        }
    }
}

/// A scan of overlay and store together. The overlay is read in chunks, the store by its own
/// iterator. Invariant: what the iterator may have missed (applied after it was opened) is still
/// in the overlay, or the iterator is opened again behind the last key.
struct Merge {
    shared: Arc<Shared>,
    tree: u32,
    at: Position,
    direction: Direction,
    /// Keys not yet returned.
    range: Range,
    /// Keys that the overlay was not yet asked for.
    rest: Range,
    /// From the overlay, not yet returned.
    rows: VecDeque<Row>,
    /// The overlay may have more.
    more: bool,
    generation: u64,
    /// Applied before the store's iterator was opened.
    opened: Position,
    store: Scan,
    /// From the store, not yet returned.
    stored: Option<(Bytes, Bytes)>,
    failed: bool,
}

impl Merge {
    /// Opens the store's iterator at what is left.
    fn open(&mut self) -> Result<()> {
        self.opened = self.shared.applied.get();
        let tree = self.shared.tree(self.tree);
        self.store = self
            .shared
            .store
            .scan(tree, self.range.clone(), self.at, self.direction)?;
        self.stored = self.store.next().transpose()?;
        Ok(())
    }

    /// Takes the next chunk from the overlay. True if the store's iterator must be opened again.
    fn fill(&mut self) -> Result<bool> {
        let shared = Arc::clone(&self.shared);
        let overlay = shared.overlay.read();
        let dropped = overlay.generation() != self.generation;
        if dropped || self.at > shared.placed.get() {
            // What was applied meanwhile can be read from the store alone.
            let applied = shared.applied.get();
            if self.at > applied {
                return Err(Error::NotReached {
                    at: self.at,
                    applied,
                });
            }
            self.more = false;
            return Ok(true);
        }
        while self.rows.is_empty() && self.more {
            self.more = overlay.chunk(
                self.tree,
                &mut self.rest,
                self.at,
                self.direction,
                &mut self.rows,
            );
        }
        Ok(overlay.floor() > self.opened)
    }

    fn step(&mut self) -> Result<Option<(Bytes, Bytes)>> {
        loop {
            if self.rows.is_empty() && self.more && self.fill()? {
                self.open()?;
            }
            let Some((key, _)) = self.rows.front() else {
                return self.take_stored();
            };
            match &self.stored {
                Some((stored, _)) if before(stored, key, self.direction) => {
                    return self.take_stored();
                }
                Some((stored, _)) if stored == key => {
                    self.stored = self.store.next().transpose()?;
                }
                _ => (),
            }
            let Some((key, value)) = self.rows.pop_front() else {
                return Ok(None);
            };
            self.pass(&key);
            if let Some(value) = value {
                return Ok(Some((key, value)));
            }
        }
    }

    fn take_stored(&mut self) -> Result<Option<(Bytes, Bytes)>> {
        let Some(row) = self.stored.take() else {
            return Ok(None);
        };
        self.pass(&row.0);
        self.stored = self.store.next().transpose()?;
        Ok(Some(row))
    }

    /// The key was returned, or is known to be deleted.
    fn pass(&mut self, key: &Bytes) {
        if self.more {
            match self.direction {
                Direction::Forward => self.range.0 = std::ops::Bound::Excluded(key.clone()),
                Direction::Backward => self.range.1 = std::ops::Bound::Excluded(key.clone()),
            }
        }
    }
}

fn before(a: &Bytes, b: &Bytes, direction: Direction) -> bool {
    match direction {
        Direction::Forward => a < b,
        Direction::Backward => a > b,
    }
}

impl Iterator for Merge {
    type Item = Result<(Bytes, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let row = self.step().transpose();
        self.failed = matches!(row, None | Some(Err(_)));
        row
    }
}
