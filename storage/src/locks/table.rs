//! The state behind the lock table's mutex: all locks, and of each transaction what it has taken
//! in which order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::lock::{Lock, Place, Request, Waiter, Wake};
use super::modes::Modes;
use super::{KeptLock, LOCKS_MAX, LockInfo, LockKey, LockMode, Mark, Policy, RowMode};
use crate::TxId;

/// How many rows of one tree a transaction has locked.
struct Rows {
    tree: u32,
    count: usize,
    modes: Modes,
    /// Sequence number of the first one.
    first: u64,
    /// Number of locks at which escalation is tried (again).
    escalate_at: usize,
}

/// One lock as a transaction took it.
struct Taken {
    seq: u64,
    place: Place,
    mode: LockMode,
}

impl Taken {
    fn kept(&self) -> KeptLock {
        let (key, whole_tree) = match &self.place {
            Place::Key(key) => (key.clone(), false),
            Place::Rows(tree) => {
                let (tree, key) = (*tree, bytes::Bytes::new());
                (LockKey::Row { tree, key }, true)
            }
        };
        let mode = self.mode;
        KeptLock {
            key,
            mode,
            whole_tree,
        }
    }
}

/// Must as many `unlock`s follow as there were `lock`s?
fn is_counted(place: &Place) -> bool {
    matches!(
        place,
        Place::Key(LockKey::Advisory(_) | LockKey::Advisory2(..))
    )
}

/// What the table knows of a transaction.
struct Tx {
    actor: TxId,
    /// Transactions that have this one (a session) as their actor.
    attached: Vec<TxId>,
    /// In the order of `seq`.
    taken: Vec<Taken>,
    /// Advisory locks that were taken more than once in one mode: how often after the first time.
    again: BTreeMap<(Place, LockMode), u64>,
    waiting: Vec<(Place, u64)>,
    rows: Vec<Rows>,
}

/// What became of a request.
pub(super) enum Answer {
    Granted,
    Queued(u64, Place, Arc<Waiter>),
    Busy,
    Deadlock(Vec<TxId>),
    Gone,
    TooMany,
}

/// Everything behind the mutex.
pub(super) struct Table {
    pub(super) locks: HashMap<Place, Lock>,
    transactions: HashMap<TxId, Tx>,
    /// Escalated locks that are held: spares the look at them when there are none.
    whole_trees: usize,
    row_locks_max: usize,
    gone: TxId,
    seq: u64,
}

impl Table {
    pub fn new(row_locks_max: usize) -> Table {
        Table {
            locks: HashMap::new(),
            transactions: HashMap::new(),
            whole_trees: 0,
            row_locks_max: row_locks_max.max(1),
            gone: TxId(0),
            seq: 0,
        }
    }

    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    fn tx(&mut self, tx: TxId) -> &mut Tx {
        self.transactions.entry(tx).or_insert_with(|| Tx {
            actor: tx,
            attached: Vec::new(),
            taken: Vec::new(),
            again: BTreeMap::new(),
            waiting: Vec::new(),
            rows: Vec::new(),
        })
    }

    pub fn lock(&mut self, tx: TxId, key: LockKey, mode: LockMode, policy: Policy) -> Answer {
        if tx <= self.gone {
            return Answer::Gone;
        }
        let (actor, taken) = {
            let tx = self.tx(tx);
            (tx.actor, tx.taken.len())
        };
        if let LockKey::Row { tree, .. } = key
            && self.whole_trees > 0
            && let Some(answer) = self.lock_in_whole_tree(tx, actor, tree, mode, policy)
        {
            return answer;
        }
        let place = Place::Key(key);
        let counted = is_counted(&place);
        let lock = self.locks.entry(place.clone()).or_default();
        let held = lock.held_by(tx);
        let covered = mode.covered_by(held);
        if covered && !counted {
            return Answer::Granted;
        }
        if counted && held & mode.bit() != 0 {
            *self.tx(tx).again.entry((place, mode)).or_default() += 1;
            return Answer::Granted;
        }
        let at = lock.entry(actor);
        if covered || lock.is_free(actor, mode, at) {
            if taken >= LOCKS_MAX {
                self.forget_if_free(&place);
                return Answer::TooMany;
            }
            lock.hold(tx, actor, mode);
            self.note(tx, place, mode);
            return Answer::Granted;
        }
        match policy {
            Policy::NoWait | Policy::SkipLocked => Answer::Busy,
            Policy::Wait => self.queue(tx, actor, place, mode, at),
        }
    }

    /// The answer, if an escalated lock of the row's tree decides it.
    fn lock_in_whole_tree(
        &mut self,
        tx: TxId,
        actor: TxId,
        tree: u32,
        mode: LockMode,
        policy: Policy,
    ) -> Option<Answer> {
        let place = Place::Rows(tree);
        let lock = self.locks.get_mut(&place)?;
        if mode.covered_by(lock.held_by(tx)) {
            return Some(Answer::Granted);
        }
        if mode.conflicts() & lock.held_by_others(actor) != 0 {
            let at = lock.queue.len();
            return Some(match policy {
                Policy::NoWait | Policy::SkipLocked => Answer::Busy,
                Policy::Wait => self.queue(tx, actor, place, mode, at),
            });
        }
        if lock.held_by(tx) == 0 || self.others_hold_rows(actor, tree, mode.conflicts()) {
            return None;
        }
        // The whole tree in one more mode.
        self.locks.get_mut(&place)?.hold(tx, actor, mode);
        let first = self
            .tx(tx)
            .taken
            .iter()
            .find(|t| t.place == place)
            .map(|t| t.seq);
        let seq = first.unwrap_or(self.seq);
        self.insert_taken(tx, Taken { seq, place, mode });
        Some(Answer::Granted)
    }

    fn queue(&mut self, tx: TxId, actor: TxId, place: Place, mode: LockMode, at: usize) -> Answer {
        let id = self.next_seq();
        let waiter = Arc::new(Waiter::default());
        let lock = self.locks.entry(place.clone()).or_default();
        lock.queue.insert(
            at,
            Request {
                id,
                tx,
                actor,
                mode,
                waiter: Arc::clone(&waiter),
            },
        );
        self.tx(tx).waiting.push((place.clone(), id));
        if let Some(cycle) = self.cycle(actor) {
            self.leave(&place, id);
            return Answer::Deadlock(cycle);
        }
        Answer::Queued(id, place, waiter)
    }

    /// Takes a request out of its queue. Returns the waiters that need not wait any longer.
    pub fn leave(&mut self, place: &Place, id: u64) -> Vec<Wake> {
        let mut wakes = Vec::new();
        let Some(lock) = self.locks.get_mut(place) else {
            return wakes;
        };
        let Some(at) = lock.queue.iter().position(|request| request.id == id) else {
            return wakes;
        };
        let Some(request) = lock.queue.remove(at) else {
            return wakes;
        };
        if let Some(tx) = self.transactions.get_mut(&request.tx) {
            tx.waiting.retain(|(_, waiting)| *waiting != id);
        }
        self.forget_if_idle(request.tx);
        self.wake(place, &mut wakes);
        wakes
    }

    /// Writes down what was granted, and escalates if it is too much.
    fn note(&mut self, tx: TxId, place: Place, mode: LockMode) {
        let seq = self.next_seq();
        let row_locks_max = self.row_locks_max;
        let mut escalate = None;
        let state = self.tx(tx);
        if let Place::Key(LockKey::Row { tree, .. }) = place {
            let at = state
                .rows
                .iter()
                .position(|rows| rows.tree == tree)
                .unwrap_or_else(|| {
                    let escalate_at = row_locks_max + 1;
                    state.rows.push(Rows {
                        tree,
                        count: 0,
                        modes: 0,
                        first: seq,
                        escalate_at,
                    });
                    state.rows.len() - 1
                });
            let rows = &mut state.rows[at];
            rows.count += 1;
            rows.modes |= mode.bit();
            if rows.count >= rows.escalate_at {
                rows.escalate_at += row_locks_max;
                escalate = Some(tree);
            }
        }
        state.taken.push(Taken { seq, place, mode });
        if let Some(tree) = escalate {
            self.escalate(tx, tree);
        }
    }

    fn insert_taken(&mut self, tx: TxId, taken: Taken) {
        let list = &mut self.tx(tx).taken;
        let at = list.partition_point(|other| other.seq <= taken.seq);
        list.insert(at, taken);
    }

    /// Does any other actor hold a row of the tree in one of these modes?
    fn others_hold_rows(&self, actor: TxId, tree: u32, modes: Modes) -> bool {
        self.transactions
            .values()
            .filter(|other| other.actor != actor)
            .any(|other| {
                other
                    .rows
                    .iter()
                    .any(|rows| rows.tree == tree && rows.modes & modes != 0)
            })
    }

    /// Replaces a transaction's row locks of one tree by one lock of all its rows, unless that
    /// conflicts with a lock of somebody else (then it is tried again some locks later).
    fn escalate(&mut self, tx: TxId, tree: u32) {
        let state = self.tx(tx);
        let actor = state.actor;
        let Some(rows) = state.rows.iter().find(|rows| rows.tree == tree) else {
            return;
        };
        let modes: Vec<_> = LockMode::Row(RowMode::Update)
            .of_class(rows.modes)
            .collect();
        let first = rows.first;
        let conflicts = modes.iter().fold(0, |all, mode| all | mode.conflicts());
        let place = Place::Rows(tree);
        let others = self
            .locks
            .get(&place)
            .map_or(0, |lock| lock.held_by_others(actor));
        if conflicts & others != 0 || self.others_hold_rows(actor, tree, conflicts) {
            return;
        }
        let lock = self.locks.entry(place.clone()).or_default();
        let held = lock.held_by(tx);
        let new: Vec<_> = modes
            .into_iter()
            .filter(|mode| mode.bit() & held == 0)
            .collect();
        new.iter().for_each(|mode| lock.hold(tx, actor, *mode));
        self.whole_trees += usize::from(held == 0);
        for mode in new {
            self.insert_taken(
                tx,
                Taken {
                    seq: first,
                    place: place.clone(),
                    mode,
                },
            );
        }
        self.drop_row_locks(tx, tree);
    }

    /// Drops the row locks of an escalated transaction, but for those that somebody waits for.
    fn drop_row_locks(&mut self, tx: TxId, tree: u32) {
        let mut taken = std::mem::take(&mut self.tx(tx).taken);
        let (mut count, mut modes) = (0, 0);
        taken.retain(|taken| {
            let Place::Key(LockKey::Row { tree: of, .. }) = &taken.place else {
                return true;
            };
            if *of != tree {
                return true;
            }
            let Some(lock) = self.locks.get_mut(&taken.place) else {
                return false;
            };
            if !lock.queue.is_empty() {
                count += 1;
                modes |= taken.mode.bit();
                return true;
            }
            lock.let_go(tx, taken.mode.bit());
            if lock.holders.is_empty() {
                self.locks.remove(&taken.place);
            }
            false
        });
        let row_locks_max = self.row_locks_max;
        let state = self.tx(tx);
        state.taken = taken;
        if let Some(rows) = state.rows.iter_mut().find(|rows| rows.tree == tree) {
            (rows.count, rows.modes) = (count, modes);
            rows.escalate_at = count + row_locks_max;
        }
    }

    /// Grants what can be granted, first come, first served.
    fn wake(&mut self, place: &Place, wakes: &mut Vec<Wake>) {
        let mut from = 0;
        while let Some((request, granted)) = self.next_free(place, &mut from) {
            let id = request.id;
            self.tx(request.tx)
                .waiting
                .retain(|(_, waiting)| *waiting != id);
            if granted {
                self.note(request.tx, place.clone(), request.mode);
            }
            request.waiter.finish(granted, wakes);
        }
        self.forget_if_free(place);
    }

    /// Takes the next request at or behind `from` out of the queue whose waiting is over; it
    /// holds the lock if the second is true.
    fn next_free(&mut self, place: &Place, from: &mut usize) -> Option<(Request, bool)> {
        let whole = self.whole_tree_holders(place);
        let lock = self.locks.get_mut(place)?;
        loop {
            let request = lock.queue.get(*from)?;
            let (tx, actor, mode) = (request.tx, request.actor, request.mode);
            let conflicts = mode.conflicts();
            let is_key = matches!(place, Place::Key(_));
            let free = match place {
                Place::Key(_) => lock.is_free(actor, mode, *from),
                Place::Rows(_) => conflicts & lock.held_by_others(actor) == 0,
            };
            if !free && is_key && mode.is_exclusive() {
                return None;
            }
            if !free {
                *from += 1;
                continue;
            }
            // Who waited for a whole tree, or finds that it is locked by now, asks again.
            let blocked = whole
                .iter()
                .any(|(of, held)| *of != actor && conflicts & held != 0);
            let granted = is_key && !blocked;
            if granted {
                lock.hold(tx, actor, mode);
            }
            return lock.queue.remove(*from).map(|request| (request, granted));
        }
    }

    /// Who has escalated to the whole tree of a row.
    fn whole_tree_holders(&self, place: &Place) -> Vec<(TxId, Modes)> {
        let Place::Key(LockKey::Row { tree, .. }) = place else {
            return Vec::new();
        };
        if self.whole_trees == 0 {
            return Vec::new();
        }
        let lock = self.locks.get(&Place::Rows(*tree));
        lock.iter()
            .flat_map(|lock| &lock.holders)
            .map(|h| (h.actor, h.modes))
            .collect()
    }

    fn forget_if_free(&mut self, place: &Place) {
        let free = |lock: &Lock| lock.holders.is_empty() && lock.queue.is_empty();
        if self.locks.get(place).is_some_and(free) {
            self.locks.remove(place);
        }
    }

    fn forget_if_idle(&mut self, id: TxId) {
        let idle = |tx: &Tx| {
            tx.taken.is_empty() && tx.waiting.is_empty() && tx.attached.is_empty() && tx.actor == id
        };
        if self.transactions.get(&id).is_some_and(idle) {
            self.transactions.remove(&id);
        }
    }

    /// One lock less, however often it was taken.
    fn give_back(&mut self, tx: TxId, taken: &Taken, wakes: &mut Vec<Wake>) {
        if let Some(state) = self.transactions.get_mut(&tx)
            && !state.again.is_empty()
        {
            state.again.remove(&(taken.place.clone(), taken.mode));
        }
        let Some(lock) = self.locks.get_mut(&taken.place) else {
            return;
        };
        lock.let_go(tx, taken.mode.bit());
        match &taken.place {
            Place::Rows(_) => {
                let still = self
                    .locks
                    .get(&taken.place)
                    .map_or(0, |lock| lock.held_by(tx));
                self.whole_trees -= usize::from(still == 0);
            }
            Place::Key(LockKey::Row { tree, .. }) => {
                let rows = self.transactions.get_mut(&tx).map(|tx| &mut tx.rows);
                if let Some(rows) = rows
                    && let Some(at) = rows.iter().position(|rows| rows.tree == *tree)
                {
                    rows[at].count -= 1;
                    if rows[at].count == 0 {
                        rows.swap_remove(at);
                    }
                }
            }
            Place::Key(_) => (),
        }
        self.wake(&taken.place, wakes);
    }

    pub fn attach(&mut self, tx: TxId, session: TxId) {
        self.tx(tx).actor = session;
        self.tx(session).attached.push(tx);
        // What it holds already changes hands too.
        let places: Vec<Place> = self.tx(tx).taken.iter().map(|t| t.place.clone()).collect();
        for place in places {
            if let Some(lock) = self.locks.get_mut(&place) {
                let own = lock.holders.iter_mut().filter(|holder| holder.tx == tx);
                own.for_each(|holder| holder.actor = session);
            }
        }
    }

    pub fn unlock(&mut self, tx: TxId, key: &LockKey, mode: LockMode) -> Option<Vec<Wake>> {
        let place = Place::Key(key.clone());
        let state = self.transactions.get_mut(&tx)?;
        if let Some(again) = state.again.get_mut(&(place.clone(), mode)) {
            *again -= 1;
            if *again == 0 {
                state.again.remove(&(place, mode));
            }
            return Some(Vec::new());
        }
        let mut taken = std::mem::take(&mut state.taken);
        let at = taken
            .iter()
            .rposition(|taken| taken.place == place && taken.mode == mode);
        let removed = at.map(|at| taken.remove(at));
        let mut wakes = Vec::new();
        if let Some(removed) = &removed {
            self.give_back(tx, removed, &mut wakes);
        }
        self.tx(tx).taken = taken;
        self.forget_if_idle(tx);
        removed.map(|_| wakes)
    }

    pub fn holds(&self, tx: TxId, key: &LockKey, mode: LockMode) -> bool {
        let held = |place: &Place| self.locks.get(place).map_or(0, |lock| lock.held_by(tx));
        let whole = match key {
            LockKey::Row { tree, .. } if self.whole_trees > 0 => held(&Place::Rows(*tree)),
            _ => 0,
        };
        mode.covered_by(held(&Place::Key(key.clone())) | whole)
    }

    pub fn mark(&self) -> Mark {
        Mark(self.seq)
    }

    pub fn release_to(&mut self, tx: TxId, mark: Mark) -> Vec<Wake> {
        let mut wakes = Vec::new();
        let Some(state) = self.transactions.get_mut(&tx) else {
            return wakes;
        };
        let mut taken = std::mem::take(&mut state.taken);
        while let Some(last) = taken.pop_if(|last| last.seq > mark.0) {
            self.give_back(tx, &last, &mut wakes);
        }
        self.tx(tx).taken = taken;
        self.forget_if_idle(tx);
        wakes
    }

    pub fn release(&mut self, id: TxId) -> Vec<Wake> {
        let mut wakes = self.release_to(id, Mark(0));
        let Some(tx) = self.transactions.remove(&id) else {
            return wakes;
        };
        for (place, request) in tx.waiting {
            if let Some(lock) = self.locks.get_mut(&place)
                && let Some(at) = lock.queue.iter().position(|other| other.id == request)
            {
                if let Some(request) = lock.queue.remove(at) {
                    request.waiter.finish(false, &mut wakes);
                }
                self.wake(&place, &mut wakes);
            }
        }
        if tx.actor != id
            && let Some(session) = self.transactions.get_mut(&tx.actor)
        {
            session.attached.retain(|attached| *attached != id);
            self.forget_if_idle(tx.actor);
        }
        wakes
    }

    pub fn clear(&mut self, gone: TxId) -> Vec<Wake> {
        let mut wakes = Vec::new();
        let mut waiting: Vec<Request> = self
            .locks
            .drain()
            .flat_map(|(_, lock)| lock.queue)
            .collect();
        waiting.sort_by_key(|request| request.id);
        waiting
            .iter()
            .for_each(|request| request.waiter.finish(false, &mut wakes));
        self.transactions.clear();
        self.whole_trees = 0;
        self.gone = gone.max(self.gone);
        wakes
    }

    /// A lock that outlives its leader: nobody else holds anything yet.
    pub fn keep(&mut self, holder: TxId, kept: &KeptLock) {
        let place = match &kept.key {
            LockKey::Row { tree, .. } if kept.whole_tree => Place::Rows(*tree),
            key => Place::Key(key.clone()),
        };
        let actor = self.tx(holder).actor;
        let lock = self.locks.entry(place.clone()).or_default();
        let held = lock.held_by(holder);
        lock.hold(holder, actor, kept.mode);
        match place {
            Place::Rows(_) => {
                self.whole_trees += usize::from(held == 0);
                let (seq, mode) = (self.next_seq(), kept.mode);
                self.insert_taken(holder, Taken { seq, place, mode });
            }
            Place::Key(_) => self.note(holder, place, kept.mode),
        }
    }

    pub fn holders(&self) -> Vec<TxId> {
        let holds = |(id, tx): (&TxId, &Tx)| (!tx.taken.is_empty()).then_some(*id);
        let mut holders: Vec<TxId> = self.transactions.iter().filter_map(holds).collect();
        holders.sort_unstable();
        holders
    }

    pub fn held(&self, tx: TxId) -> Vec<KeptLock> {
        let taken = self.transactions.get(&tx).into_iter();
        let taken = taken.flat_map(|tx| &tx.taken);
        taken.map(Taken::kept).collect()
    }

    pub fn list(&self) -> Vec<LockInfo> {
        let mut list = Vec::new();
        for (place, lock) in &self.locks {
            let (key, class, whole_tree) = match place {
                Place::Key(key) => (key.clone(), key.class(), false),
                Place::Rows(tree) => {
                    let key = LockKey::Row {
                        tree: *tree,
                        key: bytes::Bytes::new(),
                    };
                    (key.clone(), key.class(), true)
                }
            };
            let info = |tx, mode, granted| LockInfo {
                key: key.clone(),
                tx,
                mode,
                granted,
                whole_tree,
            };
            for holder in &lock.holders {
                let modes = class.of_class(holder.modes);
                list.extend(modes.map(|mode| info(holder.tx, mode, true)));
            }
            list.extend(
                lock.queue
                    .iter()
                    .map(|request| info(request.tx, request.mode, false)),
            );
        }
        list.sort();
        list
    }

    /// The requests with which an actor waits.
    pub(super) fn waits_of(&self, actor: TxId) -> Vec<(TxId, &Place, u64)> {
        let own = self.transactions.get_key_value(&actor);
        let attached = own.iter().flat_map(|(_, tx)| &tx.attached);
        let all = attached
            .filter_map(|tx| self.transactions.get_key_value(tx))
            .chain(own);
        all.flat_map(|(id, tx)| {
            tx.waiting
                .iter()
                .map(|(place, request)| (*id, place, *request))
        })
        .collect()
    }

    /// Does any transaction wait?
    pub fn is_waited(&self) -> bool {
        self.transactions.values().any(|tx| !tx.waiting.is_empty())
    }

    /// Each wait of each transaction, from actor to actor.
    pub fn all_waits(&self) -> Vec<(TxId, TxId)> {
        let mut waits = Vec::new();
        for tx in self.transactions.values() {
            for (place, id) in &tx.waiting {
                let Some(lock) = self.locks.get(place) else {
                    continue;
                };
                let waiter = lock.queue.iter().find(|request| request.id == *id);
                if let Some(waiter) = waiter {
                    let blockers = lock.blockers(place, *id);
                    waits.extend(blockers.into_iter().map(|blocker| (waiter.actor, blocker)));
                }
            }
        }
        waits
    }

    /// Might somebody wait for a lock that the actor holds? True if that is not worth a search.
    pub(super) fn may_block(&self, actor: TxId) -> bool {
        const LOOK_AT_MAX: usize = 64;
        let own = self.transactions.get(&actor);
        let attached = own.iter().flat_map(|tx| &tx.attached);
        attached
            .filter_map(|tx| self.transactions.get(tx))
            .chain(own)
            .any(|tx| {
                let waited_for = |place| self.locks.get(place).is_some_and(|l| !l.queue.is_empty());
                tx.waiting.len() > 1
                    || tx.taken.len() > LOOK_AT_MAX
                    || tx.taken.iter().any(|taken| waited_for(&taken.place))
            })
    }
}
