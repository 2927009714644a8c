//! A turn: what a client sends between two ReadyForQuery. If nothing of it would be lost, it can
//! be run again elsewhere from its beginning: a statement that needs a group which is led on another
//! node then ends with [`Step::Elsewhere`].

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use storage::{GroupId, Outcome};

use super::prepared::Prepared;
use super::signal::Signal;
use super::step::Waiting;
use super::{Portal, Session, Status, User};
use crate::catalog::{RoleId, TableId};
use crate::engine::Led;
use crate::settings::Values;
use crate::transaction::{Barriers, Stop, Wait, leader_changed};
use crate::{Error, Result, state};

/// A statement waits this long for a leader, in microseconds.
const LEADERLESS_MAX: u64 = 5_000_000;
/// Between two looks for one.
const LOOK_PAUSE: u64 = 10_000;

/// What the present turn has done to the session.
#[derive(Default)]
pub(super) struct Turn {
    /// Counts the turns.
    pub number: u64,
    /// The block that was open when it began: the settings and roles at that moment.
    pub block: Option<(Values, User)>,
    /// It has done something that must not be done twice.
    pub acted: bool,
    /// Prepared statements as they were before it touched them, in order.
    pub statements: Vec<(String, Option<Arc<Prepared>>)>,
    /// It ended with [`super::Step::Elsewhere`] for this group: what is exported is the state at its
    /// beginning.
    pub moving: Option<GroupId>,
    /// It was begun at another node, which has sent it here for this group.
    pub came_for: Option<GroupId>,
    /// Proofs for the present statement's reads.
    pub barriers: Barriers,
    /// One of them has failed: that a group is led here is in doubt.
    pub unproven: bool,
    /// When its statement gives up waiting for a leader.
    leaderless: Option<u64>,
    /// What the directory's leader was asked for last.
    wish: Option<Signal>,
    /// Tables of other owners that its statement has asked for.
    wanted: Vec<Wanted>,
}

/// A table that was asked for.
struct Wanted {
    table: (GroupId, TableId),
    over: Signal,
    came: Arc<OnceLock<Result<()>>>,
}

impl Turn {
    /// Another statement begins.
    pub fn begin_statement(&mut self) {
        (self.leaderless, self.wish) = (None, None);
        self.wanted.clear();
        self.unproven = false;
        self.barriers.clear();
    }
}

/// What a statement does that has met a group led elsewhere or nowhere.
pub(super) enum Met {
    /// It waits for this, then runs again.
    Wait(Wait),
    /// Another node leads the group.
    Elsewhere(GroupId),
}

impl Session {
    /// ReadyForQuery is sent: what follows is another turn.
    pub(super) fn next_turn(&mut self) {
        let block = match self.status() {
            Status::Idle => None,
            Status::InTransaction | Status::Failed => {
                Some((self.values.clone(), self.user.clone()))
            }
        };
        let turn = &mut self.turn;
        turn.number += 1;
        turn.block = block;
        turn.acted = false;
        (turn.moving, turn.came_for) = (None, None);
        turn.statements.clear();
        turn.begin_statement();
    }

    /// Keeps a prepared statement under a name.
    pub(super) fn keep_statement(&mut self, name: &str, prepared: Arc<Prepared>) {
        let former = self.statements.insert(name.to_owned(), prepared);
        self.turn.statements.push((name.to_owned(), former));
        self.changed.statement(name);
    }

    /// Forgets a prepared statement; false if there is none.
    pub(super) fn drop_statement(&mut self, name: &str) -> bool {
        let Some(former) = self.statements.remove(name) else {
            return false;
        };
        self.turn.statements.push((name.to_owned(), Some(former)));
        self.changed.statement(name);
        true
    }

    /// Forgets all of them.
    pub(super) fn drop_statements(&mut self) {
        for (name, former) in self.statements.drain() {
            self.changed.statement(&name);
            self.turn.statements.push((name, Some(former)));
        }
    }

    /// What becomes of a wait: one for a leader ends where the leader is, or at its time.
    ///
    /// # Errors
    /// 57P03 when no leader could be found in time.
    pub(super) fn meet(&mut self, wait: Wait) -> Result<Met> {
        let now = self.engine.clock().unix_micros();
        match wait {
            Wait::Leader(group) => match self.engine.led(group) {
                Led::Here if std::mem::take(&mut self.turn.unproven) => self.pause(group, now),
                Led::Here => {
                    self.turn.leaderless = None;
                    Ok(Met::Wait(Wait::Again))
                }
                Led::At(_) => Ok(Met::Elsewhere(group)),
                Led::Nowhere => self.pause(group, now),
            },
            Wait::Wish(signal) => {
                let failed = |last: &Signal| last.outcome().is_some_and(|o| o != Outcome::Applied);
                match self.turn.wish.replace(signal.clone()) {
                    Some(last) if failed(&last) => self.in_time(GroupId::DIRECTORY, now)?,
                    _ => self.turn.leaderless = None,
                }
                match failed(&signal) {
                    true => self.pause(GroupId::DIRECTORY, now),
                    false => Ok(Met::Wait(Wait::Wish(signal))),
                }
            }
            Wait::Table { role, group, table } => self.have(role, (group, table), now),
            wait => Ok(Met::Wait(wait)),
        }
    }

    /// Asks for a table, or looks what has become of that.
    ///
    /// # Errors
    /// OW003 if it can't be had.
    fn have(&mut self, role: RoleId, table: (GroupId, TableId), now: u64) -> Result<Met> {
        let wanted = &mut self.turn.wanted;
        if let Some(at) = wanted.iter().position(|wanted| wanted.table == table) {
            return match wanted[at].came.get().cloned() {
                None => Ok(Met::Wait(Wait::Signal(wanted[at].over.clone()))),
                Some(Err(error)) => Err(error),
                // It has gone again, or is just being replaced by a newer copy.
                Some(Ok(())) => {
                    wanted.swap_remove(at);
                    Ok(Met::Wait(Wait::Until(now + LOOK_PAUSE)))
                }
            };
        }
        let (over, came) = (Signal::default(), Arc::new(OnceLock::new()));
        wanted.push(Wanted {
            table,
            over: over.clone(),
            came: Arc::clone(&came),
        });
        let told = over.clone();
        let done = move |result| {
            let _ = came.set(result);
            told.set();
        };
        let cluster = Arc::clone(self.engine.cluster());
        cluster.want(role, table.0, table.1, Box::new(done));
        Ok(Met::Wait(Wait::Signal(over)))
    }

    fn pause(&mut self, group: GroupId, now: u64) -> Result<Met> {
        self.in_time(group, now)?;
        Ok(Met::Wait(Wait::Until(now + LOOK_PAUSE)))
    }

    fn in_time(&mut self, group: GroupId, now: u64) -> Result<()> {
        let until = *self.turn.leaderless.get_or_insert(now + LEADERLESS_MAX);
        match now < until {
            true => Ok(()),
            false => Err(self.no_leader(group)),
        }
    }

    /// 57P03. The owner is named to who may know it.
    fn no_leader(&self, group: GroupId) -> Error {
        let (catalog, role) = (self.engine.catalog(), self.user.current);
        let owner = catalog.owner_of_group(group);
        let owner = owner.filter(|_| catalog.reads_group(role, group));
        let what = match owner {
            Some(owner) => format!("the tables of owner \"{}\"", catalog.role_name(owner)),
            None if group == GroupId::DIRECTORY => "roles, memberships and names".to_owned(),
            None => "the tables of this owner".to_owned(),
        };
        let message = format!("{what} can't be written now: no leader of its group can be reached");
        Error::new(state::CANNOT_CONNECT_NOW, message).hint(
            "Try again: a group has a leader as soon as most of its replicas can reach each other.",
        )
    }

    /// The same where nothing can be run again elsewhere.
    ///
    /// # Errors
    /// 57P03; 40001 if another node leads the group.
    pub(super) fn meet_here(&mut self, wait: Wait) -> Result<Wait> {
        match self.meet(wait)? {
            Met::Wait(wait) => Ok(wait),
            Met::Elsewhere(_) => Err(leader_changed()),
        }
    }

    /// The same where no statement is at work whose time could end.
    pub(super) fn waiting_here(&mut self, wait: Wait) -> Result<Waiting> {
        let wait = self.meet_here(wait)?;
        Ok(Waiting::new(&self.engine, wait, None))
    }

    /// Can the turn be run again elsewhere, from its beginning, without a loss?
    pub(super) fn may_leave(&self) -> bool {
        let untouched = match (&self.transaction, &self.turn.block) {
            (None, _) => true,
            (Some(tx), None) => tx.is_untouched(),
            (Some(tx), Some(_)) => {
                tx.is_untouched() && !tx.keeps_snapshot() && !self.waits_for_commit()
            }
        };
        untouched && !self.turn.acted && !self.is_bound(Some(self.turn.number))
    }

    /// Ends the turn here, for it is run again where the group is led.
    ///
    /// # Errors
    /// 40001 if something would be lost; `Wait` while what the client was told is being proven.
    pub(super) fn leave(&mut self, group: GroupId) -> std::result::Result<(), Stop> {
        if !self.may_leave() {
            return Err(Stop::Error(leader_changed()));
        }
        if self.turn.block.is_some()
            && let Some(tx) = self.transaction.as_mut()
        {
            tx.prove_reads()?;
        }
        self.turn.moving = Some(group);
        Ok(())
    }

    /// Will COMMIT do more than the transaction itself?
    pub(super) fn waits_for_commit(&self) -> bool {
        !self.deferred.is_empty() || !self.listens.is_empty() || self.notifications.len() > 0
    }

    /// Has the session something that is bound to this node: cursors, portals that are under way
    /// (but for those of the turn that is `repeated`), advisory locks?
    pub(super) fn is_bound(&self, repeated: Option<u64>) -> bool {
        let memory = self.memory.borrow();
        let holds = |portal: &Portal| {
            portal.cursor.is_some()
                || portal
                    .job
                    .as_ref()
                    .is_some_and(|job| Some(job.turn) != repeated && !job.is_over())
        };
        !memory.advisory.is_free() || self.portals.values().any(holds)
    }

    /// Says for which groups the session stands and falls with this node's leading them: for its
    /// advisory locks, and with open cursors for its home.
    pub(super) fn stand_with_leaders(&self) {
        let cursors = self.portals.values().any(|portal| portal.cursor.is_some());
        let memory = self.memory.borrow();
        let mut groups: BTreeSet<GroupId> = memory.advisory.groups().collect();
        if cursors {
            let home = self.engine.catalog().group_of(self.user.current);
            groups.extend(home.filter(|group| self.engine.leads(*group)));
        }
        self.activity.bind_to(groups);
    }

    /// The server could not take the session where [`super::Step::Elsewhere`] asks for: the turn
    /// fails with this error, as any other.
    pub fn stay(&mut self) -> Error {
        self.turn.moving = None;
        self.simple = None;
        self.current = None;
        self.fail_now();
        leader_changed()
    }
}
