//! Advisory locks. They belong to a service, so they are in the lock table of the group of the role
//! that takes them (of a role without a group: the directory's). They end with their leader: a session
//! that holds some of its own is ended then, a transaction fails.

use std::collections::BTreeMap;

use storage::{Group, GroupId, LockKey, LockMode, Locked, Policy, TxId};

use super::environment::{Memo, Need, Surroundings};
use crate::engine::Engine;
use crate::transaction::{Stop, Wait, deadlock, leader_changed};
use crate::types::Datum;
use crate::{Error, Result, state};

/// The advisory locks of a session.
#[derive(Default)]
pub(super) struct Advisory {
    session: BTreeMap<GroupId, Held>,
    /// Holders for the open transaction.
    transaction: BTreeMap<GroupId, TxId>,
}

/// What a session holds in one group.
struct Held {
    holder: TxId,
    /// Locks, each as often as it was taken.
    count: u64,
}

impl Advisory {
    /// Is none held?
    pub fn is_free(&self) -> bool {
        self.transaction.is_empty() && self.session.values().all(|held| held.count == 0)
    }

    /// Groups in which the session itself holds some.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> {
        let held = self.session.iter().filter(|(_, held)| held.count > 0);
        held.map(|(group, _)| *group)
    }

    /// Releases all.
    pub fn release(&mut self, engine: &Engine) {
        self.release_transaction(engine);
        for (group, held) in std::mem::take(&mut self.session) {
            free(engine, group, held.holder);
        }
    }

    /// Releases the transaction's.
    pub fn release_transaction(&mut self, engine: &Engine) {
        for (group, holder) in std::mem::take(&mut self.transaction) {
            free(engine, group, holder);
        }
    }

    fn counted(&mut self, group: GroupId) {
        if let Some(held) = self.session.get_mut(&group) {
            held.count += 1;
        }
    }

    /// The holder's era is over; it held nothing that would have to be told of.
    fn forget(&mut self, engine: &Engine, group: GroupId) {
        let holders = self.session.remove(&group).map(|held| held.holder);
        for holder in holders.into_iter().chain(self.transaction.remove(&group)) {
            engine.activities().release_apart(holder);
        }
    }
}

fn free(engine: &Engine, group: GroupId, holder: TxId) {
    if let Some(group) = engine.groups().get(group) {
        group.locks().release(holder);
    }
    engine.activities().release_apart(holder);
}

/// One call.
struct Wanted {
    key: LockKey,
    mode: LockMode,
    tries: bool,
    transaction: bool,
}

impl Surroundings<'_> {
    /// `pg_advisory_lock` and its kin.
    pub(super) fn advisory(&self, name: &str, arguments: &[Datum]) -> Result<Datum> {
        let key = match arguments {
            [Datum::Int8(key)] => LockKey::Advisory(*key),
            [Datum::Int4(a), Datum::Int4(b)] => LockKey::Advisory2(*a, *b),
            _ => {
                return Err(Error::unsupported(format!(
                    "function {name} with these arguments"
                )));
            }
        };
        let mode = match name.ends_with("_shared") {
            true => LockMode::Shared,
            false => LockMode::Exclusive,
        };
        let own = self.catalog.group_of(self.user.current);
        let id = own.unwrap_or(GroupId::DIRECTORY);
        if name.contains("unlock") {
            return Ok(self.unlock(id, &key, mode));
        }
        let group = self.engine.groups().get(id);
        let Some(group) = group.filter(|group| group.term().is_some()) else {
            return Err(self.need(Need::Wait(Wait::Leader(id))));
        };
        let wanted = Wanted {
            key,
            mode,
            tries: name.contains("_try_"),
            transaction: name.contains("xact"),
        };
        if !wanted.transaction {
            // An era that ends from here on ends the session.
            self.activity.bind(id);
        }
        self.take(&group, &wanted)
    }

    fn take(&self, group: &Group, wanted: &Wanted) -> Result<Datum> {
        let id = group.id();
        let base = group.newest();
        let base = base.map_err(|w| self.wait(Stop::Wait(Wait::Position(id, w.0))))?;
        let holder = self.holder(group, wanted.transaction);
        let (locks, key, mode) = (group.locks(), &wanted.key, wanted.mode);
        let policy = match wanted.tries {
            true => Policy::NoWait,
            false => Policy::Wait,
        };
        let granted = || {
            match wanted.transaction {
                true => self.effects.borrow_mut().stands_on.push((id, base)),
                false => self.memory.borrow_mut().advisory.counted(id),
            }
            match wanted.tries {
                true => Datum::Bool(true),
                false => Datum::Void,
            }
        };
        let mut failed = None;
        let mut fail = |error: Error| {
            failed = Some(error);
            Ok(Datum::Null)
        };
        let value = self.once(|memo| {
            // Granted out of the queue: asking again would count it twice.
            if matches!(memo, Some(Memo::Queued)) && locks.holds(holder, key, mode) {
                return Ok(granted());
            }
            match locks.lock(holder, key.clone(), mode, policy) {
                Locked::Granted => Ok(granted()),
                Locked::Busy => Ok(Datum::Bool(false)),
                Locked::Queued(ticket) => match self.engine.deadlocked(self.activity.process()) {
                    Some(count) => fail(deadlock(count)),
                    None => Err((Memo::Queued, Need::Wait(Wait::Lock(ticket)))),
                },
                Locked::Deadlock(circle) => fail(deadlock(circle.len())),
                Locked::Gone => {
                    let mut memory = self.memory.borrow_mut();
                    match memory.advisory.is_free() {
                        true => {
                            memory.advisory.forget(self.engine, id);
                            Err((Memo::Queued, Need::Wait(Wait::Leader(id))))
                        }
                        false => fail(leader_changed()),
                    }
                }
                Locked::TooMany => {
                    fail(Error::new(state::OUT_OF_MEMORY, "out of memory for locks"))
                }
            }
        })?;
        match failed {
            Some(error) => Err(error),
            None => Ok(value),
        }
    }

    /// Who holds: the session, or its transaction, which never waits for the session.
    fn holder(&self, group: &Group, transaction: bool) -> TxId {
        let begin = || {
            let id = group.begin();
            let process = self.activity.process();
            self.engine.activities().hold_apart(id, process);
            id
        };
        let advisory = &mut self.memory.borrow_mut().advisory;
        let new = || Held {
            holder: begin(),
            count: 0,
        };
        let session = advisory
            .session
            .entry(group.id())
            .or_insert_with(new)
            .holder;
        if !transaction {
            return session;
        }
        *advisory.transaction.entry(group.id()).or_insert_with(|| {
            let tx = begin();
            group.locks().attach(tx, session);
            tx
        })
    }

    /// The role may have changed since: the lock is where it was taken.
    fn unlock(&self, first: GroupId, key: &LockKey, mode: LockMode) -> Datum {
        let mut memory = self.memory.borrow_mut();
        let others = memory.advisory.groups().filter(|id| *id != first);
        let ids: Vec<GroupId> = std::iter::once(first).chain(others).collect();
        for id in ids {
            let held = memory.advisory.session.get_mut(&id).filter(|h| h.count > 0);
            let group = self.engine.groups().get(id);
            if let (Some(held), Some(group)) = (held, group)
                && group.locks().unlock(held.holder, key, mode)
            {
                held.count -= 1;
                return Datum::Bool(true);
            }
        }
        let kind = match mode {
            LockMode::Shared => "ShareLock",
            _ => "ExclusiveLock",
        };
        let warning = format!("you don't own a lock of type {kind}");
        let warning = Error::new(state::WARNING, warning);
        self.effects.borrow_mut().notices.push(warning);
        Datum::Bool(false)
    }
}
