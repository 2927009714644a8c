//! The registry of sessions: what pg_stat_activity shows, and where cancel and terminate land.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use storage::{GroupId, TxId};

use super::notify::Mailbox;
use crate::catalog::RoleId;
use crate::{Error, Result, state};

/// What a session is doing, in PostgreSQL's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doing {
    /// Waiting for the client.
    #[default]
    Idle,
    /// Running a statement.
    Active,
    /// Waiting for the client within a transaction.
    IdleInTransaction,
    /// The same, the transaction has failed.
    IdleAborted,
}

impl Doing {
    /// `pg_stat_activity.state`.
    pub fn name(self) -> &'static str {
        match self {
            Doing::Idle => "idle",
            Doing::Active => "active",
            Doing::IdleInTransaction => "idle in transaction",
            Doing::IdleAborted => "idle in transaction (aborted)",
        }
    }
}

/// One row of pg_stat_activity; times in microseconds since 2000-01-01 UTC.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// `usesysid`.
    pub role: RoleId,
    /// `usename`.
    pub role_name: String,
    /// `application_name`.
    pub application_name: String,
    /// `client_addr`, empty if it has none.
    pub address: String,
    /// `client_port`.
    pub port: i32,
    /// `backend_start`.
    pub started: i64,
    /// `xact_start`.
    pub transaction_started: Option<i64>,
    /// `query_start`.
    pub query_started: Option<i64>,
    /// `state_change`.
    pub changed: i64,
    /// Waiting for a lock?
    pub waiting: bool,
    /// `state`.
    pub doing: Doing,
    /// `query`: the present or the last statement.
    pub query: Arc<str>,
    /// `backend_xid`.
    pub txid: Option<TxId>,
    /// Channels listened to.
    pub channels: BTreeSet<String>,
}

/// One session as the others see it.
pub struct Activity {
    process: i32,
    /// Seen by the executor.
    cancel: AtomicBool,
    reason: AtomicU8,
    shown: Mutex<Shown>,
    mailbox: Arc<Mailbox>,
    /// Groups with whose era on this node the session ends.
    bound: Mutex<BTreeSet<GroupId>>,
    is_bound: AtomicBool,
    wake: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

const USER: u8 = 1;
const STATEMENT_TIMEOUT: u8 = 2;
const TERMINATED: u8 = 3;
const LEADER_LOST: u8 = 4;

impl Activity {
    /// The process id that BackendKeyData names.
    pub fn process(&self) -> i32 {
        self.process
    }

    /// What arrives for the session while it is idle.
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Says whom to wake on cancel and terminate, in whatever the session waits.
    pub fn on_interrupt(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        *self.wake.lock() = Some(wake);
    }

    fn interrupt(&self, reason: u8) {
        self.reason.fetch_max(reason, Ordering::SeqCst);
        self.cancel.store(true, Ordering::SeqCst);
        let wake = self.wake.lock().clone();
        if let Some(wake) = wake {
            wake();
        }
    }

    /// CancelRequest, `pg_cancel_backend`. A session that runs nothing does not notice.
    pub fn cancel(&self) {
        if self.shown.lock().doing == Doing::Active {
            self.interrupt(USER);
        }
    }

    /// The server's timer for `statement_timeout`.
    pub fn time_out(&self) {
        self.interrupt(STATEMENT_TIMEOUT);
    }

    /// `pg_terminate_backend`, shutdown: the session ends (57P01).
    pub fn terminate(&self) {
        self.interrupt(TERMINATED);
    }

    /// The session ends (57P01) if it runs nothing and no transaction is open. What it begins
    /// meanwhile does not come to run.
    pub fn retire(&self) {
        let shown = self.shown.lock();
        let idle = shown.doing == Doing::Idle;
        if idle {
            // With the lock held: a statement says that it runs before it looks at this.
            self.reason.fetch_max(TERMINATED, Ordering::SeqCst);
            self.cancel.store(true, Ordering::SeqCst);
        }
        drop(shown);
        if idle {
            self.interrupt(TERMINATED);
        }
    }

    /// The session ends if this era of the group does.
    pub(super) fn bind(&self, group: GroupId) {
        self.bound.lock().insert(group);
        self.is_bound.store(true, Ordering::SeqCst);
    }

    /// It ends with an era of these groups only.
    pub(super) fn bind_to(&self, groups: BTreeSet<GroupId>) {
        if groups.is_empty() && !self.is_bound.load(Ordering::Relaxed) {
            return;
        }
        self.is_bound.store(!groups.is_empty(), Ordering::SeqCst);
        *self.bound.lock() = groups;
    }

    /// An era of the group has ended.
    fn end_era(&self, group: GroupId) {
        if self.bound.lock().contains(&group) {
            self.interrupt(LEADER_LOST);
        }
    }

    /// Must the session end?
    pub fn is_terminated(&self) -> bool {
        self.reason.load(Ordering::SeqCst) >= TERMINATED
    }

    /// The flag that running plans look at.
    pub fn cancel_flag(&self) -> &AtomicBool {
        &self.cancel
    }

    /// 57014, 57P01 if it was asked for.
    pub fn check_interrupt(&self) -> Result<()> {
        if !self.cancel.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(self.interrupted())
    }

    /// The error of an interrupt.
    pub fn interrupted(&self) -> Error {
        match self.reason.load(Ordering::SeqCst) {
            TERMINATED => Error::new(
                state::ADMIN_SHUTDOWN,
                "terminating connection due to administrator command",
            ),
            LEADER_LOST => Error::new(
                state::ADMIN_SHUTDOWN,
                "terminating connection because the leader of the owner's group has changed",
            )
            .detail("The session's advisory locks or open cursors ended with it.")
            .hint("Connect again."),
            STATEMENT_TIMEOUT => Error::new(
                state::QUERY_CANCELED,
                "canceling statement due to statement timeout",
            ),
            _ => Error::new(
                state::QUERY_CANCELED,
                "canceling statement due to user request",
            ),
        }
    }

    /// A statement begins: an old cancel does not count. Terminate does.
    pub(super) fn clear(&self) {
        if self.cancel.load(Ordering::Relaxed) && !self.is_terminated() {
            self.reason.store(0, Ordering::SeqCst);
            self.cancel.store(false, Ordering::SeqCst);
        }
    }

    /// The role as which the session acts.
    pub fn role(&self) -> RoleId {
        self.shown.lock().role
    }

    /// Channels listened to.
    pub fn channels(&self) -> Vec<String> {
        self.shown.lock().channels.iter().cloned().collect()
    }

    /// The row.
    pub fn shown(&self) -> Shown {
        self.shown.lock().clone()
    }

    pub(super) fn update(&self, with: impl FnOnce(&mut Shown)) {
        with(&mut self.shown.lock());
    }
}

/// Of a process id, for the sessions of one node.
const PROCESS_BITS: u32 = 20;
/// More nodes than that share process ids.
const NODES_TOLD_APART: u32 = 1 << (31 - PROCESS_BITS);

/// All sessions of the node.
#[derive(Default)]
pub struct Activities {
    sessions: Mutex<BTreeMap<i32, Arc<Activity>>>,
    /// Which session holds locks under which transaction id.
    holders: Mutex<HashMap<TxId, i32>>,
    /// Holders beside transactions (of advisory locks).
    apart: AtomicUsize,
    next: AtomicI32,
    /// Added to the numbers of this node's sessions.
    base: AtomicI32,
    started: AtomicU64,
}

impl Activities {
    /// When the engine began, in microseconds since 2000-01-01 UTC.
    pub fn started(&self) -> i64 {
        self.started.load(Ordering::Relaxed) as i64
    }

    /// Sets the time of the start.
    pub fn set_started(&self, at: i64) {
        self.started.store(at as u64, Ordering::Relaxed);
    }

    /// Process ids are told apart all over the cluster: they begin with the node's number. The
    /// first node has small ones.
    pub fn number_node(&self, node: u32) {
        let high = node.saturating_sub(1) % NODES_TOLD_APART;
        let base = i32::try_from(high << PROCESS_BITS).unwrap_or(0);
        self.base.store(base, Ordering::Relaxed);
    }

    /// The number of the node that chose a process id.
    pub fn node_of(process: i32) -> u32 {
        (process.cast_unsigned() >> PROCESS_BITS) + 1
    }

    /// Registers a session, unless `sessions_max` are there already. It keeps the process id that it
    /// has.
    pub(super) fn add(
        &self,
        known: i32,
        shown: Shown,
        notifications_max: usize,
        sessions_max: usize,
    ) -> Option<Arc<Activity>> {
        let mut sessions = self.sessions.lock();
        if sessions.len() >= sessions_max {
            return None;
        }
        let process = match known {
            0 => loop {
                let next = self.next.fetch_add(1, Ordering::Relaxed) & ((1 << PROCESS_BITS) - 1);
                let process = self.base.load(Ordering::Relaxed) | next;
                if next > 0 && !sessions.contains_key(&process) {
                    break process;
                }
            },
            known => known,
        };
        let activity = Arc::new(Activity {
            process,
            cancel: AtomicBool::new(false),
            reason: AtomicU8::new(0),
            shown: Mutex::new(shown),
            mailbox: Mailbox::new(notifications_max),
            bound: Mutex::default(),
            is_bound: AtomicBool::new(false),
            wake: Mutex::default(),
        });
        sessions.insert(process, Arc::clone(&activity));
        Some(activity)
    }

    /// Forgets a session, unless another one goes on under its process id.
    pub(super) fn remove(&self, activity: &Arc<Activity>) {
        let mut sessions = self.sessions.lock();
        let same = |now: &Arc<Activity>| Arc::ptr_eq(now, activity);
        if sessions.get(&activity.process).is_some_and(same) {
            sessions.remove(&activity.process);
        }
    }

    /// A session by its process id.
    pub fn get(&self, process: i32) -> Option<Arc<Activity>> {
        self.sessions.lock().get(&process).cloned()
    }

    /// All sessions by process id.
    pub fn all(&self) -> Vec<Arc<Activity>> {
        self.sessions.lock().values().cloned().collect()
    }

    /// Sessions of one role (its connection limit).
    pub fn count(&self, login: RoleId) -> usize {
        self.all().iter().filter(|a| a.role() == login).count()
    }

    /// A transaction of a session may hold locks from now on.
    pub fn hold(&self, id: TxId, process: i32) {
        self.holders.lock().insert(id, process);
    }

    /// A session may hold locks beside its transaction from now on.
    pub(super) fn hold_apart(&self, id: TxId, process: i32) {
        self.apart.fetch_add(1, Ordering::SeqCst);
        self.hold(id, process);
    }

    /// It holds none any more.
    pub(super) fn release_apart(&self, id: TxId) {
        self.release(id);
        self.apart.fetch_sub(1, Ordering::SeqCst);
    }

    /// Does any session hold locks under several ids, so that no lock table knows all its waits?
    pub(crate) fn any_apart(&self) -> bool {
        self.apart.load(Ordering::SeqCst) > 0
    }

    /// It holds none any more.
    pub fn release(&self, id: TxId) {
        self.holders.lock().remove(&id);
    }

    /// An era of the group has ended on this node, and with it the sessions bound to it.
    pub(crate) fn end_era(&self, group: GroupId) {
        for activity in self.all() {
            activity.end_era(group);
        }
    }

    /// Whose transaction it is.
    pub fn process_of(&self, id: TxId) -> Option<i32> {
        self.holders.lock().get(&id).copied()
    }

    /// Is the transaction open in any session?
    pub fn is_open(&self, id: TxId) -> bool {
        self.process_of(id).is_some()
    }
}
