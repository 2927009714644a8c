//! A turn: what a client sends between two ReadyForQuery. If nothing of it would be lost, it can
//! be run again elsewhere from its beginning: a statement that needs a group which is led on another
//! node then ends with [`Step::Elsewhere`].

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use storage::{GroupId, Outcome, Position};

use super::finish::{Before, Chain};
use super::prepared::Prepared;
use super::signal::Signal;
use super::step::Waiting;
use super::{Portal, Saved, Session, Status, User};
use crate::catalog::{RoleId, TableId};
use crate::cluster::{Asking, Done};
use crate::engine::Led;
use crate::settings::Values;
use crate::transaction::{Barriers, Stop, Transaction, Wait, leader_changed};
use crate::{Error, Result, state};

/// A statement waits this long for a leader, in microseconds.
pub(super) const LEADERLESS_MAX: u64 = 5_000_000;
/// So long nothing may move on in a cut that a statement waits for, in microseconds.
pub(super) const STALLED_MAX: u64 = 30_000_000;
/// So long a statement waits for a cut that moves on, in microseconds.
pub(super) const CUT_MAX: u64 = 120_000_000;
/// So long it may be in doubt again and again whether what is copied may be read, in microseconds.
const DOUBTFUL_MAX: u64 = 10_000_000;
/// Doubts that come so long after each other have nothing to do with each other.
const DOUBTLESS_AFTER: u64 = 5_000_000;
/// Between two looks for one.
pub(super) const LOOK_PAUSE: u64 = 10_000;

/// What the present turn has done to the session.
#[derive(Default)]
pub(super) struct Turn {
    /// Counts the turns.
    pub number: u64,
    /// The block that was open when it began, as it was at that moment.
    pub block: Option<Open>,
    /// It has done something that must not be done twice.
    pub acted: bool,
    /// How things were before its last transaction, should that come to nothing.
    pub before: Option<Before>,
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
    /// What its statement has asked other nodes for.
    wanted: Vec<Wanted>,
    /// When something was in doubt last, and until when that may go on.
    doubtful: Option<(u64, u64)>,
    /// What it waits for in a cut.
    awaited: Option<Awaited>,
}

/// An open block that has done nothing yet: what it consists of.
#[derive(Clone)]
pub(super) struct Open {
    /// Settings and roles.
    pub values: Values,
    pub user: User,
    /// Its savepoints, the innermost last.
    pub savepoints: Vec<(String, Saved)>,
    /// LISTENs and UNLISTENs.
    pub listens: Vec<(bool, Option<String>)>,
}

/// What the other nodes are asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// A table of another owner.
    Table(RoleId, GroupId, TableId),
    /// That what is known of a group's grants still holds.
    Vouch(GroupId),
}

/// Something that was asked for.
struct Wanted {
    need: Need,
    answer: Asked,
}

/// A question to other nodes, and what has become of it.
pub(super) struct Asked {
    over: Signal,
    came: Arc<OnceLock<Result<()>>>,
    /// Without it nobody waits for the answer.
    _asking: Asking,
}

impl Asked {
    /// Asks.
    pub fn new(ask: impl FnOnce(Done<()>) -> Asking) -> Asked {
        let (over, came) = (Signal::default(), Arc::new(OnceLock::new()));
        let (told, result) = (over.clone(), Arc::clone(&came));
        let done = move |answer| {
            // It comes once.
            let _ = result.set(answer);
            told.set();
        };
        Asked {
            _asking: ask(Box::new(done)),
            over,
            came,
        }
    }

    /// To be waited for.
    pub fn over(&self) -> Signal {
        self.over.clone()
    }

    /// The answer, once it is there.
    pub fn answer(&self) -> Option<Result<()>> {
        self.came.get().cloned()
    }
}

/// What is shown of a group is waited for.
struct Awaited {
    group: GroupId,
    /// What is applied and shown of it.
    at: (Position, Position),
    /// When the waiting began, for this group or another one, and when it was looked for last.
    begun: u64,
    looked: u64,
    /// It gives up then if nothing moves on.
    until: u64,
}

impl Turn {
    /// Another statement begins.
    pub fn begin_statement(&mut self) {
        (self.leaderless, self.wish) = (None, None);
        self.doubtful = None;
        self.wanted.clear();
        self.awaited = None;
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
            Status::InTransaction | Status::Failed => Some(self.opened()),
        };
        self.effects.borrow_mut().lasting = false;
        let turn = &mut self.turn;
        turn.number += 1;
        turn.block = block;
        turn.acted = false;
        (turn.moving, turn.came_for, turn.before) = (None, None, None);
        turn.statements.clear();
        turn.begin_statement();
    }

    /// What the open block consists of.
    pub(super) fn opened(&self) -> Open {
        let names = self
            .transaction
            .iter()
            .flat_map(Transaction::savepoint_names);
        let saved = self.saved.iter().skip(1).cloned();
        Open {
            values: self.values.clone(),
            user: self.user.clone(),
            savepoints: names.map(str::to_owned).zip(saved).collect(),
            listens: self.listens.clone(),
        }
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
            Wait::Table { role, group, table } => {
                let role = role.unwrap_or(self.user.current);
                let me = self.engine.cluster().node();
                if role != self.user.current && !self.engine.catalog().places(role, me) {
                    // What stands behind a view has left this node: it is planned anew, to be read
                    // elsewhere, and does not come here for who may only read the view.
                    return Ok(Met::Wait(Wait::Until(now + LOOK_PAUSE)));
                }
                self.have(Need::Table(role, group, table), now)
            }
            Wait::Doubt(group) => {
                let again = |(last, _): &(u64, u64)| now < last + DOUBTLESS_AFTER;
                let until = match self.turn.doubtful.filter(again) {
                    Some((_, until)) => until,
                    None => now + DOUBTFUL_MAX,
                };
                self.turn.doubtful = Some((now, until));
                match now < until {
                    true => self.have(Need::Vouch(group), now),
                    false => Err(self.doubted(group)),
                }
            }
            Wait::Cut(group) => self.await_cut(group, now),
            wait => Ok(Met::Wait(wait)),
        }
    }

    /// Asks for something, or looks what has become of that.
    ///
    /// # Errors
    /// OW003 if it can't be had.
    fn have(&mut self, need: Need, now: u64) -> Result<Met> {
        let wanted = &mut self.turn.wanted;
        if let Some(at) = wanted.iter().position(|wanted| wanted.need == need) {
            return match wanted[at].answer.answer() {
                None => Ok(Met::Wait(Wait::Signal(wanted[at].answer.over()))),
                Some(Err(error)) => Err(error),
                // It has gone again, or is just being replaced by a newer copy.
                Some(Ok(())) => {
                    wanted.swap_remove(at);
                    Ok(Met::Wait(Wait::Until(now + LOOK_PAUSE)))
                }
            };
        }
        let cluster = self.engine.cluster();
        let answer = Asked::new(|done| match need {
            Need::Table(role, group, table) => cluster.want(role, group, table, done),
            Need::Vouch(group) => cluster.vouch(group, done),
        });
        let over = answer.over();
        wanted.push(Wanted { need, answer });
        Ok(Met::Wait(Wait::Signal(over)))
    }

    /// Waits for what is shown of a followed group, while it moves on and not for ever.
    ///
    /// # Errors
    /// OW003 if it does not move on, OW002 if it does and does not get there.
    fn await_cut(&mut self, group: GroupId, now: u64) -> Result<Met> {
        let groups = self.engine.groups();
        let applied = groups.get(group).map(|group| group.applied());
        let shown = groups.cut(&[group]).first().map(|(_, shown)| *shown);
        let at = (applied.unwrap_or_default(), shown.unwrap_or_default());
        // A wait ends after the first half of it: after longer the statement has been at work.
        let waits = |last: &&Awaited| now.saturating_sub(last.looked) <= 2 * STALLED_MAX;
        let last = self.turn.awaited.as_ref().filter(waits);
        let begun = last.map_or(now, |last| last.begun);
        let until = match last.filter(|last| last.group == group && last.at == at) {
            Some(last) => last.until,
            None => now + STALLED_MAX,
        };
        self.turn.awaited = Some(Awaited {
            group,
            at,
            begun,
            looked: now,
            until,
        });
        if now >= until {
            return Err(self.stands_still(group));
        }
        let end = begun + CUT_MAX;
        match now < end {
            true => Ok(Met::Wait(Wait::Feed(Some(until.min(end))))),
            false => Err(self.falls_short(group, at.1, now)),
        }
    }

    /// OW003. The owner is named to who may know it.
    fn stands_still(&self, group: GroupId) -> Error {
        let what = self.tables_of(group);
        let message = format!("{what} are not shown here as far as the statement needs");
        Error::new(state::OWNER_UNREACHABLE, message)
            .detail(format!(
                "Nothing has come of them for {} seconds, or what they rest on has not come.",
                STALLED_MAX / 1_000_000
            ))
            .hint("Look at freehold.lag, and try again.")
    }

    /// OW003. The owner is named to who may know it.
    fn doubted(&self, group: GroupId) -> Error {
        let what = self.tables_of(group);
        let message = format!("it is not known whether {what} may still be read here");
        Error::new(state::OWNER_UNREACHABLE, message)
            .detail("This node loses contact with the others again and again.")
            .hint("Look at freehold.nodes, and try again, at another node if need be.")
    }

    /// OW002. The owner is named to who may know it.
    fn falls_short(&self, group: GroupId, shown: Position, now: u64) -> Error {
        let what = self.tables_of(group);
        let message = format!("{what} are staler here than the statement needs");
        let state = state::STALER_THAN_MAX_STALENESS;
        let waited = CUT_MAX / 1_000_000;
        let detail = match shown {
            Position::ZERO => format!("In {waited} seconds nothing of them was shown."),
            shown => format!(
                "After {waited} seconds what is shown of them is {} ms old.",
                now.saturating_sub(shown.unix_micros()) / 1_000
            ),
        };
        Error::new(state, message)
            .detail(detail)
            .hint("Look at freehold.lag, and try again when this node has caught up.")
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
        let what = self.tables_of(group);
        let message = format!("{what} can't be reached now: no leader of its group answers");
        Error::new(state::CANNOT_CONNECT_NOW, message).hint(
            "Try again: a group has a leader as soon as most of its replicas can reach each other.",
        )
    }

    /// What a group holds, as the role may hear of it.
    fn tables_of(&self, group: GroupId) -> String {
        let (catalog, role) = (self.engine.catalog(), self.user.current);
        let owner = catalog.owner_of_group(group);
        let owner = owner.filter(|_| catalog.reads_group(role, group));
        match owner {
            Some(owner) => format!("the tables of owner \"{}\"", catalog.role_name(owner)),
            None if group == GroupId::DIRECTORY => "roles, memberships and names".to_owned(),
            None => "the tables of this owner".to_owned(),
        }
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

    /// What the turn has done came to nothing, for a leader has changed, and nothing of it stands:
    /// it may begin anew, from its first message, at the leader of the group that this gives. Who
    /// calls may still find that some of its answer has left ([`Session::stay`]).
    pub(super) fn begin_anew(&mut self, error: &Error) -> Option<GroupId> {
        let alone = self.engine.cluster().is_alone();
        let in_block = self.block || self.turn.block.is_some();
        if !error.0.begins_anew || alone || in_block || self.turn.acted {
            return None;
        }
        let transaction = self.transaction.as_ref();
        let acted = self.effects.borrow().lasting || transaction.is_some_and(|tx| tx.has_acted());
        if acted || self.is_bound(Some(self.turn.number)) {
            return None;
        }
        let read = |tx: &Transaction| tx.unsure().first().map(|(group, _)| *group);
        let home = || self.engine.catalog().group_of(self.user.current);
        let group = transaction.and_then(Transaction::writing).or_else(home);
        let group = group.or_else(|| transaction.and_then(read));
        self.effects.borrow_mut().restart();
        self.rollback(Chain::No).release();
        self.turn.acted = false;
        let group = group.unwrap_or(GroupId::DIRECTORY);
        self.turn.moving = Some(group);
        Some(group)
    }

    /// The same if it has failed when the transaction had ended already.
    pub(super) fn begin_anew_after(&mut self, error: &Error) -> Option<GroupId> {
        if error.0.begins_anew
            && self.transaction.is_none()
            && let Some(Before { saved, acted }) = self.turn.before.take()
        {
            saved.into_iter().for_each(|saved| self.restore(saved));
            self.turn.acted = acted;
        }
        self.begin_anew(error)
    }

    /// Will COMMIT do more than the transaction itself, that can't be taken along?
    pub(super) fn waits_for_commit(&self) -> bool {
        !self.deferred.is_empty() || self.notifications.len() > 0
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
