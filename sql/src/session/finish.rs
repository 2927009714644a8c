//! The end of transactions: commit, rollback, and holding the answer until everything that it is
//! based on is committed.

use std::sync::Arc;

use storage::{GroupId, Outcome, Position};

use super::notify::Outbox;
use super::output::Output;
use super::signal::Signal;
use super::step::Waiting;
use super::turn::Asked;
use super::{Saved, Session, sequence};
use crate::catalog::TREE_SEQUENCES;
use crate::cluster::{News, Untold};
use crate::integrity::{self, Ending};
use crate::meter::Ended;
use crate::outbox::{Commands, Verdict};
use crate::transaction::{Committed, Identity, Isolation, Stop, Transaction, Wait, readable};
use crate::{Error, Result, state};

/// A statement by itself that sends a command waits so long for the verdict, in microseconds.
const ACCEPTED_WITHIN: u64 = 10_000_000;
/// It looks again after this time, whatever it was told.
const LOOK_AGAIN: u64 = 1_000_000;

/// Positions that an answer waits for.
#[must_use = "an answer that is not held may tell of what is lost"]
pub(super) struct Holding {
    positions: Vec<(GroupId, Position, Signal)>,
    /// The transaction's own entry.
    own: Option<(GroupId, Position)>,
    /// Sent when the entry is applied.
    notifications: Outbox,
    listens: Vec<(bool, Option<String>)>,
    trees: Vec<u32>,
    /// The own entry takes away what roles could read: the other nodes are told.
    takes_away: bool,
    told: Option<Asked>,
    untold: Untold,
    /// Commands whose verdict the answer tells, and until when it waits for it.
    verdicts: Vec<Commands>,
    verdicts_until: Option<u64>,
    /// Other owners change rows before the transaction's own entry comes.
    ending: Option<Ending>,
    /// What the client is told besides its answer.
    warning: Option<Error>,
}

/// What the end of a transaction changes in its session.
pub(super) struct Before {
    /// As it was at the transaction's begin, if it was committed.
    pub saved: Option<Saved>,
    /// The turn had done something that must not be done twice.
    pub acted: bool,
}

impl Holding {
    /// Still waiting?
    fn pending(&self) -> Option<&Signal> {
        #[cfg(feature = "sabotage")]
        if self
            .trees
            .iter()
            .any(|tree| *tree > storage::TreeId::SYSTEM_MAX)
            && storage::sabotage::planted("answer-before-quorum")
        {
            return None;
        }
        self.positions
            .iter()
            .map(|(_, _, signal)| signal)
            .find(|s| !s.is_set())
    }

    /// What was sent with it is nobody's business here.
    pub(super) fn without_verdicts(mut self) -> Holding {
        self.verdicts.clear();
        self
    }

    /// The client knows already that nothing it was told in the transaction counts: the end of a
    /// failed block waits for nothing, and can't fail.
    pub(super) fn release(&mut self) {
        self.positions.clear();
    }

    /// The waiting ends by cancel or a timeout. That takes back no commit: what has its place in
    /// the log may be there later.
    ///
    /// # Errors
    /// What the answer is then. None: the commit stands, with a warning.
    pub(super) fn give_up(&mut self, interrupt: Error) -> Result<()> {
        match self.own {
            None => Err(interrupt),
            // It is applied here.
            Some(_) if self.verdicts_until.is_some() => {
                self.warning = Some(not_accepted(&format!("{interrupt}.")));
                Ok(())
            }
            Some(_) if self.told.is_some() => match interrupt.state() == state::ADMIN_SHUTDOWN {
                true => Err(interrupt.detail(self.not_everywhere())),
                false => {
                    self.warn(&format!("The wait for them has ended: {interrupt}."));
                    Ok(())
                }
            },
            Some(_) => Err(unknown()
                .detail(format!("While the commit was under way: {interrupt}."))
                .hint(ASK)),
        }
    }

    /// Some nodes are not known to have what is taken away.
    fn warn(&mut self, why: &str) {
        let message = "the transaction is committed, but what it takes away may not count on every \
                       node yet";
        let detail = format!("{} {why}", self.not_everywhere());
        let hint = "They give none of it once they have the transaction, or have heard most of the \
                    other nodes for 5 seconds no more.";
        let warning = Error::new(state::WARNING, message);
        self.warning = Some(warning.detail(detail).hint(hint));
    }

    fn not_everywhere(&self) -> String {
        let nodes: Vec<String> = self.untold.nodes().iter().map(u32::to_string).collect();
        let known = match &nodes[..] {
            [] => None,
            [node] => Some(format!("node {node}")),
            nodes => Some(format!("nodes {}", nodes.join(", "))),
        };
        let unknown = self.untold.are_unknown();
        let unknown = unknown.then(|| "nodes that have joined lately, if there are any".to_owned());
        let nodes: Vec<String> = known.into_iter().chain(unknown).collect();
        let nodes = match nodes.is_empty() {
            true => "none".to_owned(),
            false => nodes.join(", "),
        };
        format!("The transaction is committed; not known to have it: {nodes}.")
    }

    /// What went wrong with what the answer relies on.
    fn failure(&self) -> Option<Error> {
        let bad = |(group, position, signal): &&(GroupId, Position, Signal)| {
            let _ = (group, position);
            signal.outcome().is_some_and(|o| o != Outcome::Applied)
        };
        let (group, position, signal) = self.positions.iter().find(bad)?;
        let own = self.own == Some((*group, *position));
        Some(match signal.outcome() {
            Some(Outcome::Unknown) if own => unknown()
                .detail("The leader of the owner's group was lost while the commit was under way.")
                .hint(ASK),
            _ => crate::transaction::leader_changed().begins_anew(self.came_to_nothing()),
        })
    }

    /// Is the transaction's own entry, if there is one, certainly in no log?
    fn came_to_nothing(&self) -> bool {
        let lost = |(group, position): (GroupId, Position)| {
            let mut held = self.positions.iter();
            held.any(|(id, at, signal)| {
                (*id, *at) == (group, position) && signal.outcome() == Some(Outcome::Lost)
            })
        };
        self.own.is_none_or(lost)
    }
}

/// A commit has sent commands that were not accepted yet.
fn not_accepted(why: &str) -> Error {
    let message = "the command is sent, but its receiver has not accepted it yet";
    Error::new(state::WARNING, message)
        .detail(format!("The wait for it has ended: {why}"))
        .hint("It is delivered, once, when the receiver can be reached: do not send it again.")
}

const ASK: &str = "Ask pg_xact_status for the transaction's id before running it again.";

fn unknown() -> Error {
    Error::new(
        state::TRANSACTION_RESOLUTION_UNKNOWN,
        "the outcome of the transaction is unknown",
    )
}

/// What to do after a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chain {
    /// Nothing.
    No,
    /// Another one with the same modes.
    Yes,
}

impl Session {
    /// Begins a transaction if none is open. `block`: by BEGIN.
    pub(super) fn ensure_transaction(&mut self, block: bool) {
        if self.transaction.is_some() {
            return;
        }
        let (isolation, read_only) = (self.effective.isolation, self.effective.read_only);
        self.open_transaction(isolation, read_only, block);
    }

    pub(super) fn open_transaction(&mut self, isolation: Isolation, read_only: bool, block: bool) {
        let mut tx = Transaction::new(&self.engine, isolation, read_only, block);
        tx.set_process(self.activity.process());
        self.transaction = Some(tx);
        self.block = block;
        self.failed = false;
        self.saved.clear();
        self.saved.push(self.save());
        let now = self.engine.now();
        self.activity
            .update(|shown| shown.transaction_started = Some(now));
    }

    fn identity(&self) -> Identity {
        Identity {
            role: self.user.current,
            login: self.user.login_name.to_string(),
            application_name: self.effective.application_name.clone(),
            trace: self.effective.trace.clone(),
        }
    }

    /// Commits the open transaction (if any). On success the session is out of it and the answer
    /// waits for the holding.
    pub(super) fn commit(&mut self, chain: Chain) -> std::result::Result<Holding, Stop> {
        self.run_deferred(true)?;
        let identity = self.identity();
        let Some(mut tx) = self.transaction.take() else {
            return Ok(self.hold(Vec::new(), None));
        };
        // Alone: a single statement that does nothing else.
        let alone = !self.block && tx.only_sends();
        let committed = self
            .write_sequences(&mut tx)
            .and_then(|()| tx.end_intents())
            .and_then(|()| tx.place_sent(&identity.trace))
            .and_then(|sent| Ok((tx.commit(&identity)?, sent)));
        let (committed, sent) = match committed {
            Ok(committed) => committed,
            Err(Stop::Error(error)) => {
                // Nothing was written; whatever it read, it fails.
                self.transaction = Some(tx);
                return Err(Stop::Error(error));
            }
            Err(stop) => {
                self.transaction = Some(tx);
                return Err(stop);
            }
        };
        let modes = (tx.isolation(), tx.read_only());
        let acted = self.turn.acted || tx.has_acted();
        drop(tx);
        self.values.end_transaction();
        let ending = committed.ending.clone();
        let Committed {
            entry,
            hold,
            trees,
            takes_away,
            ..
        } = committed;
        if entry.is_none() {
            self.note_end(Ended::Read);
        }
        let mut holding = self.hold(hold, entry);
        holding.trees = trees;
        holding.takes_away = takes_away;
        holding.ending = ending;
        if alone {
            holding.verdicts = sent;
        }
        holding.notifications = std::mem::take(&mut self.notifications);
        holding.listens = std::mem::take(&mut self.listens);
        self.saved.truncate(1);
        self.turn.before = Some(Before {
            saved: self.saved.pop(),
            acted,
        });
        self.left_transaction(chain, modes);
        Ok(holding)
    }

    /// Runs foreign-key checks: all of them at COMMIT, otherwise those that SET CONSTRAINTS has
    /// made immediate.
    pub(super) fn run_deferred(&mut self, commit: bool) -> std::result::Result<(), Stop> {
        let gone = self
            .transaction
            .as_mut()
            .is_some_and(|tx| tx.intents().has_gone());
        if !gone && self.deferred.is_empty() || self.transaction.is_none() {
            return Ok(());
        }
        // They lock tables as these are by now.
        self.fresh_catalog();
        let job = super::job::Job::idle(self.engine.clock().unix_micros());
        if gone {
            // REFRESH: no statement's end has asked about it.
            self.exec(&job, |cx| {
                let gone = cx.transaction.intents().take_gone();
                let asked = integrity::ask(&gone, cx);
                if asked.is_err() {
                    let intents = cx.transaction.intents();
                    gone.into_iter().for_each(|one| intents.push_gone(one));
                }
                asked
            })?;
        }
        let checks = self.deferred.take(commit);
        for (at, check) in checks.iter().enumerate() {
            if let Err(stop) = self.exec(&job, |cx| check.run(cx)) {
                if !matches!(stop, Stop::Error(_)) {
                    self.deferred.put_back(checks.into_iter().skip(at));
                }
                return Err(stop);
            }
        }
        Ok(())
    }

    /// Ends the open transaction without a trace.
    pub(super) fn rollback(&mut self, chain: Chain) -> Holding {
        let Some(mut tx) = self.transaction.take() else {
            return self.hold(Vec::new(), None);
        };
        let hold = tx.rollback();
        let modes = (tx.isolation(), tx.read_only());
        let acted = self.turn.acted || tx.has_acted();
        drop(tx);
        if let Some(saved) = self.saved.first().cloned() {
            self.restore(saved);
        }
        self.values.end_transaction();
        self.notifications.clear();
        self.listens.clear();
        self.note_end(Ended::Aborted);
        let holding = self.hold(hold, None);
        self.turn.before = Some(Before { saved: None, acted });
        self.left_transaction(chain, modes);
        holding
    }

    fn note_end(&self, how: Ended) {
        self.engine.meter().ended(self.activity.process(), how);
    }

    /// What a savepoint goes back to besides the transaction itself.
    pub(super) fn save(&self) -> Saved {
        Saved {
            values: self.values.clone(),
            user: self.user.clone(),
            deferred: self.deferred.len(),
            notifications: self.notifications.len(),
            listens: self.listens.len(),
            cursors: self.portals.keys().cloned().collect(),
        }
    }

    pub(super) fn restore(&mut self, saved: Saved) {
        self.deferred.truncate(saved.deferred);
        self.notifications.truncate(saved.notifications);
        self.listens.truncate(saved.listens);
        // A cursor goes with the savepoint in which it was declared.
        self.portals
            .retain(|name, portal| portal.cursor.is_none() || saved.cursors.contains(name));
        self.values = saved.values;
        self.user = saved.user;
        // The values were in force before, so they can be decoded.
        let _ = self.settings_touched();
    }

    fn left_transaction(&mut self, chain: Chain, modes: (Isolation, bool)) {
        self.block = false;
        self.failed = false;
        self.lost = false;
        self.turn.acted = true;
        self.saved.clear();
        self.portals
            .retain(|_, p| p.cursor.as_ref().is_some_and(|c| c.is_held()));
        super::control::unlock_transaction(&self.engine, &self.memory);
        self.memory.borrow_mut().own_sequences.clear();
        self.deferred = crate::exec::Deferred::default();
        self.effects.borrow_mut().txid = None;
        if chain == Chain::Yes {
            self.open_transaction(modes.0, modes.1, true);
        }
        // SET LOCAL may be over.
        if self.settings_changed {
            let _ = self.settings_touched();
        }
    }

    pub(super) fn hold(
        &mut self,
        hold: Vec<(GroupId, Position)>,
        own: Option<(GroupId, Position)>,
    ) -> Holding {
        #[cfg(feature = "sabotage")]
        let hold = match storage::sabotage::planted("answer-before-read") {
            true => Vec::new(),
            false => hold,
        };
        let watch = |(group, position): (GroupId, Position)| {
            let signal = Signal::default();
            match self.engine.groups().get(group) {
                None => signal.finish(Outcome::Unknown),
                Some(held) => {
                    let done = signal.clone();
                    held.when(position, Box::new(move |outcome| done.finish(outcome)));
                }
            }
            (group, position, signal)
        };
        Holding {
            positions: hold.into_iter().map(watch).collect(),
            own,
            notifications: Outbox::default(),
            listens: Vec::new(),
            trees: Vec::new(),
            takes_away: false,
            told: None,
            untold: Untold::default(),
            verdicts: Vec::new(),
            verdicts_until: None,
            ending: None,
            warning: None,
        }
    }

    /// Waits for a holding; `None` when it is over and its effects are done.
    pub(super) fn await_holding(&mut self, holding: &mut Holding) -> Result<Option<Waiting>> {
        if let Some(signal) = holding.pending() {
            return Ok(Some(Waiting::signal(signal.clone())));
        }
        if let Some(error) = holding.failure() {
            if holding.own.is_some() {
                self.note_end(Ended::Aborted);
            }
            return Err(error);
        }
        if let Some(ending) = holding.ending.clone() {
            match ending.signal().outcome() {
                None => return Ok(Some(Waiting::signal(ending.signal().clone()))),
                Some(Outcome::Applied) => {
                    holding.ending = None;
                    holding.own = ending.at().or(holding.own);
                }
                Some(Outcome::Lost | Outcome::Unknown) => {
                    self.note_end(Ended::Aborted);
                    return Err(unknown()
                        .detail(
                            "It is decided and goes forward, but the leader of the owner's group was \
                             lost before the rows of other owners had followed.",
                        )
                        .hint(ASK));
                }
            }
        }
        if let Some((group, position)) = holding.own.filter(|_| holding.told.is_none()) {
            self.note_end(Ended::Written);
            if self.token.add(group, position) {
                self.token_moved = true;
                self.changed.token = true;
            }
        }
        if let Some((group, position)) = holding.own.filter(|_| holding.takes_away) {
            let (cluster, untold) = (self.engine.cluster(), &holding.untold);
            let ask =
                || Asked::new(|done| cluster.taken_away(group, position, untold.clone(), done));
            let told = holding.told.get_or_insert_with(ask);
            if told.answer().is_none() {
                return Ok(Some(Waiting::signal(told.over())));
            }
            if !holding.untold.is_over() {
                holding.warn("They did not answer in time.");
            }
        }
        self.deliver(holding);
        match holding.own {
            Some((group, _)) => self.await_verdicts(group, holding),
            None => Ok(None),
        }
    }

    /// What became of the commands that a statement by itself has sent.
    ///
    /// # Errors
    /// Why one was not accepted.
    fn await_verdicts(&self, from: GroupId, holding: &mut Holding) -> Result<Option<Waiting>> {
        let now = self.engine.clock().unix_micros();
        while let Some(commands) = holding.verdicts.last().copied() {
            let until = *holding
                .verdicts_until
                .get_or_insert(now.saturating_add(ACCEPTED_WITHIN));
            let waiting = match self.engine.verdict(from, commands)? {
                Verdict::Accepted => None,
                Verdict::Rejected(error) => return Err(error),
                Verdict::Awaited(signal) => Some(Waiting::signal(signal)),
            };
            match waiting {
                Some(_) if now >= until => {
                    holding.verdicts.clear();
                    holding.warning = Some(not_accepted("it may not be reachable."));
                }
                Some(waiting) => {
                    let look = now.saturating_add(LOOK_AGAIN).min(until);
                    return Ok(Some(waiting.or_at(Some(look))));
                }
                None => drop(holding.verdicts.pop()),
            }
        }
        Ok(None)
    }

    /// An error of a call leaves when this says that nothing is left to wait for: what the failed
    /// transaction has read may not be committed yet.
    ///
    /// # Errors
    /// What is to be sent in its place.
    pub fn settle(&mut self) -> Result<Option<Waiting>> {
        let Some(mut holding) = self.owed.take() else {
            return Ok(None);
        };
        let waiting = self.await_holding(&mut holding)?;
        if waiting.is_some() {
            self.activity.check_interrupt()?;
            self.owed = Some(holding);
        }
        Ok(waiting)
    }

    /// Says what the client is to know besides its answer.
    pub(super) fn warn_of(&self, holding: &mut Holding, out: &mut dyn Output) {
        if let Some(warning) = holding.warning.take() {
            self.send_notice(&warning, out);
        }
    }

    /// The waiting for a holding ends before its time.
    ///
    /// # Errors
    /// See [`Holding::give_up`].
    pub(super) fn give_up(&mut self, holding: &mut Holding, interrupt: Error) -> Result<()> {
        holding.give_up(interrupt)?;
        self.deliver(holding);
        Ok(())
    }

    /// LISTEN, NOTIFY and table wake-ups of a transaction that is committed.
    fn deliver(&mut self, holding: &mut Holding) {
        let process = self.activity.process();
        let notifier = Arc::clone(self.engine.notifier());
        self.changed.channels |= !holding.listens.is_empty();
        for (listen, channel) in std::mem::take(&mut holding.listens) {
            match (listen, channel) {
                (true, Some(channel)) => {
                    notifier.listen(&channel, process, self.activity.mailbox());
                    self.activity.update(|shown| {
                        shown.channels.insert(channel);
                    });
                }
                (_, channel) => {
                    notifier.unlisten(channel.as_deref(), process);
                    self.activity.update(|shown| match &channel {
                        Some(channel) => {
                            shown.channels.remove(channel);
                        }
                        None => shown.channels.clear(),
                    });
                }
            }
        }
        let here = !notifier.is_idle();
        let elsewhere = self.engine.cluster().has_listeners();
        if !here && !elsewhere {
            return;
        }
        let notes = std::mem::take(&mut holding.notifications).into_notes();
        let news = News {
            process,
            entry: holding.own,
            trees: std::mem::take(&mut holding.trees),
            notes: notes.collect(),
        };
        if news.trees.is_empty() && news.notes.is_empty() {
            return;
        }
        if elsewhere {
            self.engine.cluster().notify(&news);
        }
        self.engine.tell(news);
    }

    /// Sequences that were made by this transaction keep where they stand.
    fn write_sequences(&mut self, tx: &mut Transaction) -> std::result::Result<(), Stop> {
        let own: Vec<_> = self
            .memory
            .borrow()
            .own_sequences
            .iter()
            .map(|(id, p)| (*id, *p))
            .collect();
        for (id, position) in own {
            let Some(table) = tx.catalog().table(crate::catalog::TableId(id)).cloned() else {
                continue;
            };
            let (key, value) = (sequence::key(id), position.encode());
            tx.write_system(table.group, TREE_SEQUENCES, key, Some(value))?;
        }
        Ok(())
    }

    /// Something must be awaited before a statement of this session may begin (a token).
    pub(super) fn token_wait(&mut self) -> Option<Wait> {
        if !self.await_token {
            return None;
        }
        let behind = self
            .token
            .iter()
            .chain(self.seen.iter())
            .find(|(group, position)| {
                let groups = self.engine.groups();
                let held = groups.get(*group);
                held.is_some_and(|held| readable(groups, &held) < *position)
            });
        if behind.is_none() {
            self.await_token = false;
        }
        behind.map(|(group, position)| self.until_readable(group, position))
    }

    /// The wait for a position to be readable here.
    pub(super) fn until_readable(&self, group: GroupId, position: Position) -> Wait {
        match self.engine.groups().get(group) {
            Some(held) if held.is_followed() => Wait::Cut(group),
            _ => Wait::Position(group, position),
        }
    }
}
