//! Plans cached by text, role, login, search_path and declared parameter types; good for exactly
//! one catalog. Bounded: the entry that was used longest ago goes.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::catalog::{Catalog, RoleId, SchemaId};
use crate::parse::Parsed;
use crate::plan::Planned;
use crate::types::Type;

/// Text longer than this is not kept: bulk INSERTs come once.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// What a plan depends on besides the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The statement.
    pub text: Arc<str>,
    /// `current_user`.
    pub role: RoleId,
    /// `session_user`.
    pub login: RoleId,
    /// The resolved search_path.
    pub path: Arc<[SchemaId]>,
    /// Declared parameter types.
    pub types: Arc<[Type]>,
    /// DateStyle and TimeZone, which decide what literals mean.
    pub format: u64,
}

/// A statement's plan and the catalog that it was made for.
#[derive(Clone)]
pub struct Cached {
    /// The catalog.
    pub catalog: Arc<Catalog>,
    /// The plan.
    pub planned: Arc<Planned>,
}

struct Slot {
    cached: Cached,
    used: u64,
}

#[derive(Default)]
struct Inner {
    plans: HashMap<Key, Slot>,
    texts: HashMap<Arc<str>, (Arc<[Parsed]>, u64)>,
    clock: u64,
}

/// The cache of one node.
pub struct Plans {
    inner: Mutex<Inner>,
    max: usize,
}

impl Plans {
    /// An empty cache for at most `max` plans and as many parsed texts.
    pub fn new(max: usize) -> Plans {
        Plans {
            inner: Mutex::default(),
            max: max.max(1),
        }
    }

    /// The plan for this catalog, if it is there.
    pub fn get(&self, key: &Key, catalog: &Arc<Catalog>) -> Option<Arc<Planned>> {
        let mut inner = self.inner.lock();
        inner.clock += 1;
        let now = inner.clock;
        let slot = inner.plans.get_mut(key)?;
        if !Arc::ptr_eq(&slot.cached.catalog, catalog) {
            return None;
        }
        slot.used = now;
        Some(Arc::clone(&slot.cached.planned))
    }

    /// Keeps a plan.
    pub fn put(&self, key: Key, catalog: &Arc<Catalog>, planned: &Arc<Planned>) {
        if key.text.len() > TEXT_BYTES_MAX {
            return;
        }
        let mut inner = self.inner.lock();
        inner.clock += 1;
        let used = inner.clock;
        if inner.plans.len() >= self.max && !inner.plans.contains_key(&key) {
            evict(&mut inner.plans, |slot| slot.used);
        }
        let cached = Cached {
            catalog: Arc::clone(catalog),
            planned: Arc::clone(planned),
        };
        inner.plans.insert(key, Slot { cached, used });
    }

    /// The statements of a query string, if it was read before.
    pub fn parsed(&self, text: &str) -> Option<Arc<[Parsed]>> {
        let mut inner = self.inner.lock();
        inner.clock += 1;
        let now = inner.clock;
        let (parsed, used) = inner.texts.get_mut(text)?;
        *used = now;
        Some(Arc::clone(parsed))
    }

    /// Keeps the statements of a query string.
    pub fn put_parsed(&self, text: &str, parsed: &Arc<[Parsed]>) {
        if text.len() > TEXT_BYTES_MAX {
            return;
        }
        let mut inner = self.inner.lock();
        inner.clock += 1;
        let used = inner.clock;
        if inner.texts.len() >= self.max && !inner.texts.contains_key(text) {
            evict(&mut inner.texts, |(_, used)| *used);
        }
        inner
            .texts
            .insert(Arc::from(text), (Arc::clone(parsed), used));
    }
}

/// Removes the older half: rare, so the cost per insert stays small.
fn evict<K: Clone + Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>, used: impl Fn(&V) -> u64) {
    let mut ages: Vec<u64> = map.values().map(&used).collect();
    ages.sort_unstable();
    let middle = ages.get(ages.len() / 2).copied().unwrap_or(0);
    map.retain(|_, v| used(v) > middle);
}
