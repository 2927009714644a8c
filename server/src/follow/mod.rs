//! Copies of other owners' tables: this node follows every group that it does not hold by Raft,
//! at least its catalog, and gives others what they may have of the groups that it holds.
//!
//! ```text
//! keep.rs: which groups, since when, who asks for more ── sink.rs: the task of one of them
//!   want.rs: a session needs a table that is not here        nearest.rs: where it gets it from
//!                                                            words.rs: what the two nodes say
//! source.rs: the other end; the source decides what it gives ────────┘
//! status.rs: what is shown of the copies here; everywhere.rs: of those on all nodes
//! ```
//! What goes over the stream is the `feed` crate's (`feed::follow`); how much may be under way is
//! the peer stream's. Nothing here decides who may read what: `Catalog::chosen` does.

mod everywhere;
mod keep;
mod nearest;
mod sink;
mod source;
mod status;
mod want;
mod words;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use feed::follow::{Phase, Progress};
use parking_lot::{Mutex, RwLock};
use sql::catalog::{RoleId, TableId};
use storage::GroupId;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

pub use self::everywhere::{Everywhere, Far, Place, Said, log_bytes, phase};
pub use self::keep::{keep, open};
pub use self::nearest::holders;
pub use self::sink::load;
pub use self::source::serve;
pub use self::status::Copy;
pub use self::words::FIRST_BYTE;

/// A table that was asked for is kept for so long; the next read asks again.
const FOLLOW_IDLE: Duration = Duration::from_secs(600);
/// Tables of one group that are asked for at the same time.
const ASKED_MAX: usize = 4096;
/// Long bootstraps that arrive at the same time.
const BOOTSTRAPS_MAX: usize = 4;
/// A bootstrap of so many rows is a long one: the others, those of catalogs above all, wait for none.
const LONG_ROWS: u64 = 10_000;
/// Streams that a node gives at the same time.
const SOURCES_MAX: usize = 8192;
/// Between two looks at which groups are to be followed if nothing is heard of a change.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two looks at whether entries wait for a group to be closed.
const CLOSE_EVERY: Duration = Duration::from_millis(100);
/// A group that will come here by Raft, as it has fewer voters than it wants, is not followed
/// for so long.
const GRACE: Duration = Duration::from_secs(3);
/// The pause after every source has failed; it doubles each time.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest of these pauses.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A source that has less than its follower for so long says so.
const BEHIND_AFTER: Duration = Duration::from_secs(1);
/// Between two looks whether it has less.
const BEHIND_LOOK: Duration = Duration::from_millis(5);
/// An idle source says so often that it is there.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A source from which not a byte comes for so long is left for another.
const SILENT_AFTER: Duration = Duration::from_secs(15);
/// What a source writes at once.
const WRITE_BYTES: usize = 64 << 10;
/// A busy stream is written so often.
const PACE: Duration = Duration::from_millis(5);
/// Entries a second from which on a stream is busy.
const BUSY: f64 = 3_000.0;
/// A stream that is lively, and not busy, is written to so often at most.
const LIVELY_PACE: Duration = Duration::from_millis(2);
/// Entries a second from which on a stream is lively: more than a client that waits for its answers
/// makes.
const LIVELY: f64 = 2_000.0;
/// A session that needs a table is told so long after no source could be had.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(5);
/// A session that needs a table is told when nothing has come from the source for so long.
const STALLED_AFTER: Duration = Duration::from_secs(30);

const _: () = assert!(HEARTBEAT.as_millis() * 2 < SILENT_AFTER.as_millis());

/// What a node follows, and who follows it.
pub struct Follows {
    followers: Mutex<BTreeMap<GroupId, Arc<Follower>>>,
    /// Something has changed that the keeper looks at.
    woken: Notify,
    bootstraps: Arc<Semaphore>,
    /// Streams that are given.
    given: Arc<Semaphore>,
    /// Who is told that a group has moved on: those who send it.
    moved: RwLock<BTreeMap<GroupId, Vec<Weak<Notify>>>>,
    /// Is anybody told?
    anybody: AtomicBool,
    /// A group was followed here once.
    any: AtomicBool,
    waiters: Waiters,
}

/// Those who wait until a table is here: told of all that may have to do with it.
#[derive(Default)]
struct Waiters {
    count: AtomicUsize,
    moved: Notify,
}

impl Waiters {
    fn wake(&self) {
        if self.count.load(Ordering::Acquire) > 0 {
            self.moved.notify_waiters();
        }
    }
}

impl Default for Follows {
    fn default() -> Follows {
        Follows {
            followers: Mutex::default(),
            woken: Notify::new(),
            bootstraps: Arc::new(Semaphore::new(BOOTSTRAPS_MAX)),
            given: Arc::new(Semaphore::new(SOURCES_MAX)),
            moved: RwLock::default(),
            anybody: AtomicBool::new(false),
            any: AtomicBool::new(false),
            waiters: Waiters::default(),
        }
    }
}

impl Follows {
    /// Was a group followed here since the start?
    pub fn is_any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// An entry of a group is applied here.
    pub fn published(&self, group: GroupId) {
        if self.anybody.load(Ordering::Acquire) {
            let moved = self.moved.read();
            wake(moved.get(&group).into_iter().flatten());
        }
        self.waiters.wake();
    }

    /// The directory is another one: other groups, other tables may be meant.
    pub fn directory_changed(&self) {
        self.woken.notify_one();
        if self.anybody.load(Ordering::Acquire) {
            wake(self.moved.read().values().flatten());
        }
    }

    /// How many streams this node gives to others.
    pub fn streams(&self) -> usize {
        SOURCES_MAX.saturating_sub(self.given.available_permits())
    }

    /// Tells of each entry of a group from now on, as long as it is kept.
    fn listen(&self, group: GroupId) -> Arc<Notify> {
        let told = Arc::new(Notify::new());
        let mut moved = self.moved.write();
        moved
            .values_mut()
            .for_each(|all| all.retain(|one| one.strong_count() > 0));
        moved.retain(|_, all| !all.is_empty());
        moved.entry(group).or_default().push(Arc::downgrade(&told));
        self.anybody.store(true, Ordering::Release);
        told
    }

    fn find(&self, group: GroupId) -> Option<Arc<Follower>> {
        self.followers.lock().get(&group).cloned()
    }

    fn all(&self) -> Vec<Arc<Follower>> {
        self.followers.lock().values().cloned().collect()
    }

    /// The follower of a group, which is new if there is none.
    fn enter(&self, group: GroupId) -> Arc<Follower> {
        self.any.store(true, Ordering::Release);
        let mut followers = self.followers.lock();
        let new = || Arc::new(Follower::new(group));
        followers.entry(group).or_insert_with(new).clone()
    }
}

fn wake<'a>(told: impl Iterator<Item = &'a Weak<Notify>>) {
    told.filter_map(Weak::upgrade)
        .for_each(|one| one.notify_one());
}

/// What this node knows of a group that it follows, or is about to.
struct Follower {
    group: GroupId,
    /// Tables that roles need here beside what is followed, and until when.
    asked: Mutex<BTreeMap<(RoleId, TableId), Instant>>,
    /// There is something to be said to the source.
    news: Notify,
    asked_changed: AtomicBool,
    close_wanted: AtomicBool,
    /// The source does not answer any more, as far as this node knows.
    leave: Notify,
    /// Its task runs.
    busy: AtomicBool,
    /// Bytes that have come from sources.
    received: AtomicU64,
    state: Mutex<State>,
}

/// How far a follower is.
#[derive(Clone, Default)]
struct State {
    /// The node from which it gets what it has.
    source: Option<u32>,
    progress: Progress,
    /// When the bootstrap began that is arriving, or arrived last.
    begun: Option<SystemTime>,
    /// Since when there has been no source.
    alone: Option<Instant>,
    /// Its long bootstrap comes when those of others have come.
    queued: bool,
    /// All that the source has said to have is here.
    current: bool,
    /// When that was so last.
    fresh: Option<Instant>,
}

impl Follower {
    fn new(group: GroupId) -> Follower {
        let state = State {
            alone: Some(Instant::now()),
            ..State::default()
        };
        Follower {
            group,
            asked: Mutex::default(),
            news: Notify::new(),
            asked_changed: AtomicBool::new(false),
            close_wanted: AtomicBool::new(false),
            leave: Notify::new(),
            busy: AtomicBool::new(false),
            received: AtomicU64::new(0),
            state: Mutex::new(state),
        }
    }

    /// What is asked for at this moment.
    fn asked(&self) -> Vec<(RoleId, TableId)> {
        self.asked.lock().keys().copied().collect()
    }

    /// A role needs a table from now on. False if there is no room for it.
    fn ask(&self, role: RoleId, table: TableId) -> bool {
        let mut asked = self.asked.lock();
        if asked.len() >= ASKED_MAX && !asked.contains_key(&(role, table)) {
            return false;
        }
        let until = Instant::now() + FOLLOW_IDLE;
        if asked.insert((role, table), until).is_none() {
            self.asked_changed.store(true, Ordering::Release);
            self.news.notify_one();
        }
        true
    }

    /// Forgets what nobody has needed for long.
    fn forget_idle(&self, now: Instant) {
        self.keep_asked(|_, until| *until > now);
    }

    /// Forgets that a role has asked for a table.
    fn forget(&self, ended: impl Fn(RoleId, TableId) -> bool) {
        self.keep_asked(|(role, table), _| !ended(*role, *table));
    }

    fn keep_asked(&self, mut kept: impl FnMut(&(RoleId, TableId), &Instant) -> bool) {
        let mut asked = self.asked.lock();
        let before = asked.len();
        asked.retain(|pair, until| kept(pair, until));
        if asked.len() < before {
            self.asked_changed.store(true, Ordering::Release);
            self.news.notify_one();
        }
    }

    /// Someone waits until the group is closed.
    fn ask_close(&self) {
        self.close_wanted.store(true, Ordering::Release);
        self.news.notify_one();
    }

    /// A source has taken the stream.
    fn connected(&self, node: u32) {
        self.state.lock().source = Some(node);
    }

    fn disconnected(&self) {
        let mut state = self.state.lock();
        (state.source, state.current) = (None, false);
        state.alone.get_or_insert_with(Instant::now);
        state.progress.phase = Phase::Connecting;
    }

    /// Another piece was taken. `newest`: with it everything is here that the source has.
    fn note(&self, progress: Progress, newest: bool) {
        let mut state = self.state.lock();
        if progress.phase == Phase::Bootstrap && state.progress.phase != Phase::Bootstrap {
            state.begun = Some(SystemTime::now());
        }
        (state.alone, state.progress, state.current) = (None, progress, newest);
        if newest {
            state.fresh = Some(Instant::now());
        }
    }

    /// Is there more that the source has said to have, or is sending?
    fn is_catching_up(&self) -> bool {
        let state = self.state.lock();
        !state.current || state.progress.phase == Phase::Bootstrap
    }

    /// Was it current once since the start?
    fn is_settled(&self) -> bool {
        self.state.lock().fresh.is_some()
    }

    /// Its long bootstrap has to wait for its turn, or has it.
    fn queue(&self, queued: bool) {
        self.state.lock().queued = queued;
    }

    fn is_queued(&self) -> bool {
        self.state.lock().queued
    }

    /// How long no source could be had.
    fn alone_for(&self) -> Duration {
        let alone = self.state.lock().alone;
        alone.map_or(Duration::ZERO, |since| since.elapsed())
    }
}
