//! The engine: what all sessions of a node share. It is handed its groups, clock and randomness,
//! keeps the catalog, the settings' defaults, the cached plans and the registry of sessions, and
//! knows nothing of sockets or Raft.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use storage::{
    Change, Clock, Direction, Group, GroupId, Groups, Meta, Observer, Position, Propose, TxId,
    TxStatus,
};

use crate::catalog::{self, Cache, Catalog};
use crate::cluster::Cluster;
use crate::integrity::Open;
use crate::meter::Meter;
use crate::outbox::{Calls, Verdicts};
use crate::plan::{Registry, SystemFunction};
use crate::session::activity::Activities;
use crate::session::notify::Notifier;
use crate::session::plans::Plans;
use crate::session::sequence::Sequences;
use crate::session::signal::{Bell, Signal};
use crate::settings::Settings;
use crate::system::SystemRelation;
use crate::system::projections::Fills;
use crate::transaction::{Allocations, Stop};
use crate::{Error, Result};

/// Where randomness comes from (the server: the operating system; tests: a seed).
pub trait Random: Send + Sync {
    /// 64 random bits.
    fn bits(&self) -> u64;
}

/// Limits of one node.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one transaction's writes in memory; above it they are spooled.
    pub write_memory_bytes: usize,
    /// Bytes of one transaction's writes (`freehold.max_transaction`).
    pub transaction_bytes_max: u64,
    /// Cached plans.
    pub plans_max: usize,
    /// Notifications queued for one session that does not read.
    pub notifications_max: usize,
    /// Sessions of all roles but superusers; the places above it are kept for these.
    pub sessions_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            write_memory_bytes: 16 << 20,
            transaction_bytes_max: storage::TRANSACTION_BYTES_MAX,
            plans_max: 1_024,
            notifications_max: 8_192,
            sessions_max: usize::MAX,
        }
    }
}

/// What an engine is made of.
pub struct Parts {
    /// The groups of this node.
    pub groups: Arc<Groups>,
    /// Where new groups are made.
    pub propose: Arc<dyn Propose>,
    /// The other nodes.
    pub cluster: Arc<dyn Cluster>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// System relations that the server adds (`freehold.nodes`, ...).
    pub relations: Vec<Arc<dyn SystemRelation>>,
    /// Table functions that the server adds.
    pub functions: Vec<Arc<dyn SystemFunction>>,
    /// Defaults of settings that were given at start: (name, value).
    pub settings: Vec<(String, String)>,
    /// Limits.
    pub limits: Limits,
}

/// Where a group is led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Led {
    /// On this node: transactions can begin.
    Here,
    /// On this other node.
    At(u32),
    /// Nobody is known to lead it.
    Nowhere,
}

/// What all sessions of a node share.
pub struct Engine {
    groups: Arc<Groups>,
    propose: Arc<dyn Propose>,
    cluster: Arc<dyn Cluster>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    limits: Limits,
    watch: Arc<Watch>,
    relations: Vec<Arc<dyn SystemRelation>>,
    functions: Vec<Arc<dyn SystemFunction>>,
    calls: Calls,
    settings: Settings,
    allocations: Allocations,
    sequences: Arc<Sequences>,
    plans: Plans,
    activities: Arc<Activities>,
    meter: Meter,
    notifier: Arc<Notifier>,
    creating: Mutex<BTreeMap<GroupId, Signal>>,
    fills: Fills,
}

/// Sees entries as they are applied: the catalog's feeder and the waker of those who wait for
/// entries.
struct Watch {
    cache: Cache,
    sequences: Arc<Sequences>,
    activities: Arc<Activities>,
    entries: Bell,
    verdicts: Verdicts,
    open: Open,
    /// The first row of the catalog that could not be read: nothing may be served after it.
    damaged: Mutex<Option<Error>>,
}

impl Observer for Watch {
    fn system(&self, group: GroupId, position: Position, changes: &[Change]) {
        for change in changes.iter().filter(|c| c.tree == catalog::TREE_SEQUENCES) {
            self.sequences
                .observe(group, position, &change.key, change.new.as_deref());
        }
        let rows = changes
            .iter()
            .map(|c| (c.tree, c.key.as_ref(), c.new.as_deref()));
        if let Err(error) = self.cache.apply(group, position, rows) {
            tracing::error!(%group, %position, %error, "a catalog row can't be read");
            self.damaged.lock().get_or_insert(error);
        }
    }

    fn era_ended(&self, group: GroupId) {
        self.activities.end_era(group);
        self.open.era_ended(group);
    }

    fn sent(&self, group: GroupId, changes: &[Change]) {
        self.verdicts.sent(group, changes);
    }

    fn published(&self, group: GroupId, _position: Position) {
        for intent in self.verdicts.published(group) {
            self.open.answered(intent);
        }
        self.entries.ring();
    }
}

impl Engine {
    /// An engine over groups that are not opened yet: [`Engine::observer`] must see every entry
    /// that they apply. Then each group is opened, replayed and given to [`Engine::load`].
    pub fn new(parts: Parts) -> Result<Arc<Engine>> {
        let settings = Settings::new(&parts.settings)?;
        let limits = parts.limits;
        let mut relations = crate::system::relations();
        relations.extend(parts.relations);
        let mut functions = parts.functions;
        functions.extend(crate::outbox::functions());
        let fills = Fills::default();
        relations.push(crate::system::projections::relation(&fills));
        relations.push(crate::system::moves::relation(&fills));
        relations.push(crate::system::contracts::relation(&parts.groups));
        Ok(Arc::new_cyclic(|engine| {
            relations.extend(crate::session::system::relations(engine));
            relations.extend(crate::outbox::relations(engine));
            relations.extend(crate::integrity::relations(engine));
            let base = Catalog::base(&relations);
            let sequences = Arc::new(Sequences::default());
            let activities = Arc::new(Activities::default());
            Engine {
                groups: parts.groups,
                propose: parts.propose,
                cluster: parts.cluster,
                clock: parts.clock,
                random: parts.random,
                limits,
                watch: Arc::new(Watch {
                    cache: Cache::new(base),
                    sequences: Arc::clone(&sequences),
                    activities: Arc::clone(&activities),
                    entries: Bell::default(),
                    verdicts: Verdicts::default(),
                    open: Open::default(),
                    damaged: Mutex::default(),
                }),
                relations,
                functions,
                calls: Calls::default(),
                settings,
                allocations: Allocations::default(),
                sequences,
                plans: Plans::new(limits.plans_max),
                activities,
                meter: Meter::default(),
                notifier: Arc::new(Notifier::default()),
                creating: Mutex::default(),
                fills,
            }
        }))
    }

    /// Projections and tables that are being filled.
    pub(crate) fn fills(&self) -> &Fills {
        &self.fills
    }

    /// Must see every entry that the groups apply.
    pub fn observer(&self) -> Arc<dyn Observer> {
        Arc::clone(&self.watch) as Arc<dyn Observer>
    }

    /// Reads the catalog of a group that is replayed (`Group::ready`), before it is served; the
    /// directory first. Of a copy that is followed it may be read again at any time: at the
    /// latest after one that was removed here has begun again, for what was dropped meanwhile.
    pub fn load(&self, id: GroupId) -> Result<()> {
        let Some(group) = self.groups.get(id) else {
            return Err(storage::Error::NoGroup(id).into());
        };
        // An entry that is applied meanwhile is in the catalog a moment before it is published.
        while !self.load_at(&group, group.applied())? {
            // Nothing is under way: an earlier copy of the group was further on, and all of it is
            // in the catalog.
            let known = self.catalog().as_of(id);
            if group.applied_log().0.position < known {
                break;
            }
            std::thread::yield_now();
        }
        match self.watch.damaged.lock().clone() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn load_at(&self, group: &Group, position: Position) -> Result<bool> {
        self.watch.cache.load(group.id(), position, |tree| {
            let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
            let rows = group.scan(tree, all, position, Direction::Forward)?;
            Ok(Box::new(rows.map(|row| row.map_err(Error::from))))
        })
    }

    /// Writes the first entry of a new cluster (the superuser) if the directory has none. The
    /// position is to be awaited before anyone logs in. `verifier` is the superuser's SCRAM
    /// verifier, if it has a password.
    pub fn bootstrap(
        &self,
        verifier: Option<String>,
    ) -> std::result::Result<Option<Position>, Stop> {
        if self.catalog().role_by_name(catalog::SUPERUSER).is_some() {
            return Ok(None);
        }
        let Some(group) = self.groups.get(GroupId::DIRECTORY) else {
            return Err(storage::Error::NoGroup(GroupId::DIRECTORY).into());
        };
        let seen = group
            .newest()
            .map_err(|w| Stop::Wait(crate::transaction::Wait::Position(group.id(), w.0)))?;
        let meta = Meta {
            role: catalog::SUPERUSER.to_owned(),
            ..Meta::default()
        };
        self.side_entry(&group, catalog::first_rows(verifier), seen, meta)
            .map(Some)
    }

    /// The newest applied catalog.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.watch.cache.get()
    }

    /// The groups of this node.
    pub fn groups(&self) -> &Arc<Groups> {
        &self.groups
    }

    /// The other nodes.
    pub fn cluster(&self) -> &Arc<dyn Cluster> {
        &self.cluster
    }

    /// Does this node lead the group, so that transactions can begin there?
    pub fn leads(&self, id: GroupId) -> bool {
        self.groups.get(id).is_some_and(|g| g.term().is_some())
    }

    /// Who leads the group.
    pub fn led(&self, id: GroupId) -> Led {
        if self.leads(id) {
            return Led::Here;
        }
        let other = |node: &u32| *node != self.cluster.node();
        match self.cluster.leader(id).filter(other) {
            Some(node) => Led::At(node),
            None => Led::Nowhere,
        }
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Microseconds since 2000-01-01 UTC, PostgreSQL's epoch.
    pub fn now(&self) -> i64 {
        since_2000(self.clock.unix_micros())
    }

    /// Randomness.
    pub fn random(&self) -> &Arc<dyn Random> {
        &self.random
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The settings' table and defaults.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn allocations(&self) -> &Allocations {
        &self.allocations
    }

    pub(crate) fn sequences(&self) -> &Sequences {
        &self.sequences
    }

    pub(crate) fn plans(&self) -> &Plans {
        &self.plans
    }

    /// May a transaction that began here still commit: it is open, or what it wrote is not decided?
    ///
    /// # Errors
    /// The tables can't be read.
    pub fn is_undecided(&self, id: TxId) -> Result<bool> {
        // It leaves the registry after it has got its place.
        if self.activities.is_open(id) {
            return Ok(true);
        }
        for group in self.groups.all() {
            if group.outcome(id)? == Some(TxStatus::InProgress) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The sessions of this node.
    pub fn activities(&self) -> &Activities {
        &self.activities
    }

    /// What the sessions of this node have done.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    pub(crate) fn notifier(&self) -> &Arc<Notifier> {
        &self.notifier
    }

    /// All system relations.
    pub fn relations(&self) -> &[Arc<dyn SystemRelation>] {
        &self.relations
    }

    /// Which group a transaction would write, as far as one can guess from what it reads: the
    /// newest state is read there. None: read committed state.
    pub(crate) fn home(&self, groups: &[GroupId]) -> Option<GroupId> {
        match groups {
            [id] if self.leads(*id) => Some(*id),
            _ => None,
        }
    }

    /// Calls whose replies are waited for.
    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// What is open here of foreign keys to other owners' tables.
    pub(crate) fn opened(&self) -> &Open {
        &self.watch.open
    }

    /// Who waits for what was sent to be taken.
    pub(crate) fn verdicts(&self) -> &Verdicts {
        &self.watch.verdicts
    }

    /// Sets the signal when the next entry of any group is applied.
    pub fn on_entry(&self, signal: &Signal) {
        self.watch.entries.wait(signal);
    }

    /// Does the session, which has just joined a queue, wait for itself through several groups'
    /// lock tables, or under several ids (advisory locks)? The waits of transactions within one
    /// table storage has looked at already. The number of sessions in the circle.
    pub(crate) fn deadlocked(&self, process: i32) -> Option<usize> {
        let groups = self.groups.all();
        let waited: Vec<_> = groups.iter().filter(|g| g.locks().is_waited()).collect();
        if waited.len() < 2 && !self.activities.any_apart() {
            return None;
        }
        let mut waits: HashMap<i32, Vec<i32>> = HashMap::new();
        for (waiter, blocker) in waited.iter().flat_map(|group| group.locks().waits()) {
            let of = |id| self.activities.process_of(id);
            if let (Some(waiter), Some(blocker)) = (of(waiter), of(blocker)) {
                waits.entry(waiter).or_default().push(blocker);
            }
        }
        circle(&waits, process)
    }

    pub(crate) fn create_group(&self, id: GroupId, above: Position) {
        let mut creating = self.creating.lock();
        if creating.get(&id).is_some_and(|signal| !signal.is_set()) {
            return;
        }
        let signal = Signal::default();
        creating.insert(id, signal.clone());
        drop(creating);
        let done = Box::new(move |result: storage::Result<()>| {
            if let Err(error) = result {
                tracing::error!(group = %id, %error, "a group could not be made");
            }
            signal.set();
        });
        self.propose.create(id, above, done);
    }

    pub(crate) fn group_signal(&self, id: GroupId) -> Option<Signal> {
        self.creating.lock().get(&id).cloned()
    }
}

/// The length of a shortest circle through `start`.
fn circle(waits: &HashMap<i32, Vec<i32>>, start: i32) -> Option<usize> {
    let mut seen = HashSet::new();
    let mut level = vec![start];
    for length in 1.. {
        let next: Vec<i32> = level
            .iter()
            .filter_map(|waiter| waits.get(waiter))
            .flatten()
            .copied()
            .collect();
        if next.contains(&start) {
            return Some(length);
        }
        level = next.into_iter().filter(|one| seen.insert(*one)).collect();
        if level.is_empty() {
            break;
        }
    }
    None
}

/// 2000-01-01, in microseconds since 1970.
const EPOCH: i64 = 946_684_800_000_000;

/// Microseconds since 2000-01-01 from microseconds since 1970.
pub fn since_2000(unix_micros: u64) -> i64 {
    i64::try_from(unix_micros).unwrap_or(i64::MAX) - EPOCH
}

/// The inverse of [`since_2000`].
pub fn since_1970(micros: i64) -> u64 {
    u64::try_from(micros.saturating_add(EPOCH)).unwrap_or(0)
}

impl Registry for Engine {
    fn relation(&self, id: catalog::TableId) -> Option<Arc<dyn SystemRelation>> {
        let catalog = self.catalog();
        let table = catalog.table(id)?;
        let schema = catalog.schema_name(table.schema);
        let same = |r: &&Arc<dyn SystemRelation>| r.name() == (schema, table.name.as_str());
        self.relations.iter().find(same).cloned()
    }

    fn is_copied(&self, group: GroupId) -> bool {
        let held = self.groups.get(group);
        let held = held.is_some_and(|held| !held.is_followed() && !held.has_ended());
        !held && !self.cluster.is_alone()
    }

    fn node(&self) -> u32 {
        self.cluster.node()
    }

    fn function(&self, schema: Option<&str>, name: &str) -> Option<Arc<dyn SystemFunction>> {
        let schema = schema.unwrap_or("pg_catalog");
        self.functions
            .iter()
            .find(|f| f.name() == (schema, name))
            .cloned()
    }
}
