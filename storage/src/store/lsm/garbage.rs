//! Which versions a compaction drops: those that only reads below the line need.
//!
//! Versions of a key come newest first. The first at or below the line *covers* the key: every
//! read at or above the line finds it or something newer, so what follows goes. A covering
//! deletion itself goes too when the result is the last level, as nothing of the key lies below.
//! Of an erased key its removal covers the key wherever the line is, so that no history is left of it.
//! Copies of one version (flushed before a crash and replayed after it) become one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use journal::Position;
use lsm_tree::UserKey;
use lsm_tree::compaction::filter::Context;
use lsm_tree::compaction::{CompactionFilter, Factory, ItemAccessor, Verdict};
use parking_lot::Mutex;

use super::super::horizon::TreeHorizon;
use super::codec;
use crate::store::ErasedKeys;

/// How often a running compaction asks whether it shall end.
const STOP_CHECK_ITEMS: u32 = 1024;

/// What a rewrite of a tree is to take away, and how far it has come.
#[derive(Default)]
pub(super) struct Erasing {
    keys: Mutex<Arc<ErasedKeys>>,
    /// The least line of the group that a compaction went by.
    line: AtomicU64,
}

impl Erasing {
    /// Compactions that begin now take these keys, too.
    pub fn begin(&self, keys: &Arc<ErasedKeys>) {
        *self.keys.lock() = keys.clone();
        self.line.store(Position::MAX.0, Ordering::Release);
    }

    /// Versions that only reads below this need are gone since.
    pub fn end(&self) -> Position {
        *self.keys.lock() = Arc::default();
        Position(self.line.load(Ordering::Acquire))
    }
}

/// Makes a filter with the line of the moment for each compaction.
pub(super) struct GarbageFactory {
    pub horizon: Arc<TreeHorizon>,
    pub erasing: Arc<Erasing>,
    /// Set when the store closes or the tree is dropped.
    pub stop: Arc<AtomicBool>,
}

// The shared horizon is only locked for a few instructions that can't panic.
impl std::panic::RefUnwindSafe for GarbageFactory {}

impl Factory for GarbageFactory {
    fn name(&self) -> &str {
        "versions below the horizon"
    }

    fn make_filter(&self, context: &Context) -> Box<dyn CompactionFilter> {
        let group = self.horizon.group();
        let line = group.durable_line();
        self.erasing.line.fetch_min(line.0, Ordering::AcqRel);
        Box::new(Garbage {
            line: self.horizon.durable_line().min(line),
            erased: self.erasing.keys.lock().clone(),
            horizon: group.get(),
            covers: Position::ZERO,
            last_level: context.is_last_level,
            key: UserKey::default(),
            covered: false,
            position: None,
            stop: self.stop.clone(),
            items: 0,
        })
    }
}

struct Garbage {
    line: Position,
    erased: Arc<ErasedKeys>,
    /// Removals above it have to wait.
    horizon: Position,
    /// The line of the present key.
    covers: Position,
    last_level: bool,
    key: UserKey,
    covered: bool,
    position: Option<Position>,
    stop: Arc<AtomicBool>,
    items: u32,
}

impl Garbage {
    fn keep(&mut self, key: &UserKey, position: Position, deleted: bool) -> bool {
        if self.position.is_none() || *key != self.key {
            self.key = key.clone();
            self.covered = false;
            let erased = self.erased.get(&key[..]).copied();
            let erased = erased.filter(|removed| *removed <= self.horizon);
            self.covers = self.line.max(erased.unwrap_or_default());
        } else if self.covered || self.position == Some(position) {
            return false;
        }
        self.position = Some(position);
        self.covered = position <= self.covers;
        !(self.covered && deleted && self.last_level)
    }
}

impl CompactionFilter for Garbage {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> lsm_tree::Result<Verdict> {
        self.items += 1;
        if self.items.is_multiple_of(STOP_CHECK_ITEMS) && self.stop.load(Ordering::Relaxed) {
            return Err(std::io::Error::from(std::io::ErrorKind::Interrupted).into());
        }
        let value = item.value()?;
        let (position, deleted) = codec::prefix(&value).ok_or(lsm_tree::Error::Unrecoverable)?;
        Ok(if self.keep(item.key(), position, deleted) {
            Verdict::Keep
        } else {
            Verdict::Destroy
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(line: u64, last_level: bool, versions: &[(&str, u64, bool)]) -> Vec<u64> {
        kept_but(line, last_level, &[], versions)
    }

    /// With a horizon of 100 and erased keys.
    fn kept_but(
        line: u64,
        last_level: bool,
        erased: &[(&'static str, u64)],
        versions: &[(&str, u64, bool)],
    ) -> Vec<u64> {
        let erased = erased.iter().map(|(key, at)| {
            let key = bytes::Bytes::from_static(key.as_bytes());
            (key, Position(*at))
        });
        let mut garbage = Garbage {
            line: Position(line),
            erased: Arc::new(erased.collect()),
            horizon: Position(100),
            covers: Position::ZERO,
            last_level,
            key: UserKey::default(),
            covered: false,
            position: None,
            stop: Arc::default(),
            items: 0,
        };
        let keep = |(key, at, deleted): &&(&str, u64, bool)| {
            garbage.keep(&UserKey::from(*key), Position(*at), *deleted)
        };
        versions.iter().filter(keep).map(|(_, at, _)| *at).collect()
    }

    #[test]
    fn keeps_what_reads_at_or_above_the_line_need() {
        let versions = [
            ("a", 100, false),
            ("a", 50, false),
            ("a", 40, false),
            ("b", 45, false),
        ];
        assert_eq!(kept(60, false, &versions), [100, 50, 45]);
        assert_eq!(kept(100, false, &versions), [100, 45]);
        assert_eq!(kept(0, false, &versions), [100, 50, 40, 45]);
    }

    #[test]
    fn deletions_go_in_the_last_level_only() {
        let versions = [
            ("a", 100, false),
            ("a", 50, true),
            ("a", 40, false),
            ("b", 70, true),
        ];
        assert_eq!(kept(60, false, &versions), [100, 50, 70]);
        assert_eq!(kept(60, true, &versions), [100, 70]);
        assert_eq!(kept(70, true, &versions), [100]);
    }

    #[test]
    fn of_an_erased_key_what_was_before_its_removal_goes() {
        let versions = [
            ("a", 90, false),
            ("a", 80, true),
            ("a", 40, false),
            ("b", 80, true),
            ("b", 40, false),
            ("c", 40, false),
        ];
        let erased = [("a", 80), ("b", 80)];
        assert_eq!(kept_but(10, true, &[], &versions), [90, 80, 40, 80, 40, 40]);
        assert_eq!(kept_but(10, true, &erased, &versions), [90, 40]);
        assert_eq!(kept_but(10, false, &erased, &versions), [90, 80, 80, 40]);
        let later = [("a", 101), ("b", 101)];
        assert_eq!(
            kept_but(10, true, &later, &versions),
            [90, 80, 40, 80, 40, 40]
        );
    }

    #[test]
    fn copies_become_one() {
        assert_eq!(
            kept(
                0,
                true,
                &[("a", 9, false), ("a", 9, false), ("a", 8, false)]
            ),
            [9, 8]
        );
    }
}
