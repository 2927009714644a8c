//! What became of a command, for the statement that has sent it by itself: known where the sender is
//! once the receiver's copy there says so.

use std::collections::{BTreeMap, BTreeSet};

use std::ops::Bound;

use bytes::Bytes;
use parking_lot::Mutex;
use storage::{Change, Direction, Group, GroupId, Looked, Position, TxId, system};

use super::sent::{
    self, COUNTER_KEY, Counter, Kept, Replied, TAKEN_KEY, read_taken, rejected_key, replied_key,
    replied_to,
};
use super::{Commands, Sent};
use crate::engine::Engine;
use crate::integrity::{refers, told_of_answer};
use crate::session::signal::{Bell, Signal};
use crate::{Error, Result};

/// Two groups each.
pub type Pairs = BTreeSet<(GroupId, GroupId)>;

/// What became of a command.
pub(crate) enum Verdict {
    /// It is in the inbox, for good.
    Accepted,
    /// It is not, for this reason.
    Rejected(Error),
    /// That is not known yet; this is set when it may be.
    Awaited(Signal),
}

/// Those who wait for outboxes to move.
#[derive(Default)]
pub(crate) struct Verdicts {
    /// By who takes, and from whom: signals by number.
    waiting: Mutex<BTreeMap<(GroupId, GroupId), BTreeMap<u64, Signal>>>,
    /// By who has sent a command, to whom, and its number: signals for the reply.
    replies: Mutex<BTreeMap<(GroupId, GroupId, u64), Signal>>,
    /// Told by entries that are not shown yet.
    told: Mutex<Vec<(GroupId, Told)>>,
    /// Outboxes that have moved: whose, and for whom.
    moved: Mutex<BTreeSet<(GroupId, GroupId)>>,
    /// The same of rows about foreign keys.
    referred: Mutex<BTreeSet<(GroupId, GroupId)>>,
    /// One has.
    bell: Bell,
}

/// What an entry does to an outbox.
struct Told {
    /// For whom it is.
    other: GroupId,
    /// The group has taken what the other sends up to this number.
    taken: Option<u64>,
    /// The other's reply to the command of this number has come.
    replied: Option<u64>,
    /// It is about foreign keys.
    refers: bool,
    /// The group has answered the other's question about them.
    answered: Option<TxId>,
}

impl Verdicts {
    /// An entry changes outboxes of the group; it is about to be shown.
    pub fn sent(&self, group: GroupId, changes: &[Change]) {
        let mut told = self.told.lock();
        for change in changes {
            let Some(other) = system::outbox_to(change.tree) else {
                continue;
            };
            let taken = change.new.as_deref().filter(|_| change.key == TAKEN_KEY);
            let taken = taken.and_then(|bytes| read_taken(bytes).ok());
            let replied = change.new.as_ref().and_then(|_| replied_to(&change.key));
            let answered = change.new.as_ref();
            let answered = answered.and_then(|_| told_of_answer(&change.key));
            let what = Told {
                other,
                taken,
                replied,
                refers: refers(&change.key),
                answered,
            };
            told.push((group, what));
        }
    }

    /// The entry is shown. Gives the intents to which it has answers.
    pub fn published(&self, group: GroupId) -> Vec<TxId> {
        let told: Vec<(GroupId, Told)> = {
            let mut told = self.told.lock();
            if told.is_empty() {
                return Vec::new();
            }
            told.extract_if(.., |(of, _)| *of == group).collect()
        };
        if told.is_empty() {
            return Vec::new();
        }
        let answered = told.iter().filter_map(|(_, told)| told.answered);
        let answered = answered.collect();
        let mut woken: Vec<Signal> = Vec::new();
        for (_, told) in &told {
            let moved = match told.refers {
                true => &self.referred,
                false => &self.moved,
            };
            moved.lock().insert((group, told.other));
        }
        for (_, told) in told {
            let other = told.other;
            if let Some(number) = told.replied {
                let of = self.replies.lock().remove(&(group, other, number));
                woken.extend(of);
            }
            let Some(number) = told.taken else { continue };
            let mut waiting = self.waiting.lock();
            let Some(of_pair) = waiting.get_mut(&(group, other)) else {
                continue;
            };
            let later = of_pair.split_off(&(number + 1));
            woken.extend(std::mem::replace(of_pair, later).into_values());
            if of_pair.is_empty() {
                waiting.remove(&(group, other));
            }
        }
        woken.iter().for_each(Signal::set);
        self.bell.ring();
        answered
    }

    /// There may be something to do for foreign keys of these pairs: the group that may do it, and the other one.
    pub fn stir(&self, pairs: impl IntoIterator<Item = (GroupId, GroupId)>) {
        let pairs = pairs.into_iter().map(|(home, other)| (other, home));
        self.referred.lock().extend(pairs);
        self.bell.ring();
    }

    fn wait(&self, taker: GroupId, sender: GroupId, number: u64) -> Signal {
        let mut waiting = self.waiting.lock();
        let of_pair = waiting.entry((taker, sender)).or_default();
        of_pair.entry(number).or_default().clone()
    }
}

impl Engine {
    /// The reply to the command that `from` has sent to `to` under this number, as JSON; or a signal
    /// that is set when it may have come.
    ///
    /// # Errors
    /// XX001.
    pub(super) fn reply(
        &self,
        from: GroupId,
        to: GroupId,
        number: u64,
    ) -> Result<std::result::Result<String, Signal>> {
        // Before it is looked: what comes in between is not missed.
        let of = (from, to, number);
        let signal = self
            .verdicts()
            .replies
            .lock()
            .entry(of)
            .or_default()
            .clone();
        let Some(sender) = self.groups().get(from) else {
            return Ok(Err(signal));
        };
        match sender.get(system::outbox(to), &replied_key(number), sender.applied())? {
            None => Ok(Err(signal)),
            Some(bytes) => {
                self.verdicts().replies.lock().remove(&of);
                Ok(Ok(Replied::decode(&bytes)?.payload))
            }
        }
    }

    /// Nobody waits for the reply any more.
    pub(super) fn forget_reply(&self, from: GroupId, to: GroupId, number: u64) {
        self.verdicts().replies.lock().remove(&(from, to, number));
    }

    /// Sets the signal when something is sent or taken next, by any group that is here.
    pub fn on_sent(&self, signal: &Signal) {
        self.verdicts().bell.wait(signal);
    }

    /// Pairs for which there may be something to do, since this was asked last: the group that may
    /// take or remove something, and the other one; and those whose foreign keys are to be seen to.
    pub fn take_moved(&self) -> (Pairs, Pairs) {
        let take = |of: &Mutex<Pairs>| -> Pairs {
            let moved = std::mem::take(&mut *of.lock());
            moved
                .into_iter()
                .map(|(group, other)| (other, group))
                .collect()
        };
        (
            take(&self.verdicts().moved),
            take(&self.verdicts().referred),
        )
    }

    /// All pairs of groups of which one has ever sent something to the other.
    pub fn sending(&self) -> BTreeSet<(GroupId, GroupId)> {
        let catalog = self.catalog();
        let mut pairs = BTreeSet::new();
        for from in self.groups().all().iter().map(|group| group.id()) {
            for to in catalog.outboxes(from) {
                pairs.extend([(to, from), (from, to)]);
            }
        }
        // What can't be read tells its courier why.
        pairs.retain(|(home, other)| self.has_work(*home, *other).unwrap_or(true));
        pairs
    }

    /// Has `home` something to take of what `other` sends, or to remove of what it has sent itself, or
    /// answers that may have grown old?
    fn has_work(&self, home: GroupId, other: GroupId) -> Result<bool> {
        let groups = self.groups();
        let (Some(own), Some(theirs)) = (groups.get(home), groups.get(other)) else {
            return Ok(false);
        };
        let (mine, sent) = (system::outbox(other), system::outbox(home));
        if !self.leads(home) || !theirs.holds(sent) {
            return Ok(false);
        }
        let counter = |group: &Group, tree| -> Result<Counter> {
            let row = group.get(tree, COUNTER_KEY, group.applied())?;
            row.map_or(Ok(Counter::NEW), |row| Counter::decode(&row))
        };
        let taken = |group: &Group, tree| -> Result<u64> {
            let row = group.get(tree, TAKEN_KEY, group.applied())?;
            row.map_or(Ok(0), |row| read_taken(&row))
        };
        let comes = counter(&theirs, sent)?.next > taken(&own, mine)? + 1;
        let goes = counter(&own, mine)?.first <= taken(&theirs, sent)?;
        let (first, last) = (rejected_key(0), replied_key(u64::MAX));
        let range = (Bound::Included(first), Bound::Included(last));
        let mut answers = own.scan(mine, range, own.applied(), Direction::Forward)?;
        Ok(comes || goes || answers.next().is_some())
    }

    /// What became of commands that `from` has sent: accepted if all are, rejected if one is.
    ///
    /// # Errors
    /// XX001.
    pub(crate) fn verdict(&self, from: GroupId, commands: Commands) -> Result<Verdict> {
        if let Some(verdict) = self.look(from, commands)? {
            return Ok(verdict);
        }
        let signal = self.verdicts().wait(commands.to, from, commands.last);
        // What has come in between is not missed.
        match self.look(from, commands)? {
            Some(verdict) => Ok(verdict),
            None => Ok(Verdict::Awaited(signal)),
        }
    }

    fn look(&self, from: GroupId, commands: Commands) -> Result<Option<Verdict>> {
        let Commands { to, first, last } = commands;
        let held = |id| self.groups().get(id);
        let (Some(sender), Some(taker)) = (held(from), held(to)) else {
            return Ok(None);
        };
        // One cut: a rejection that the sender has taken is at the sender if it is gone here.
        let cut: BTreeMap<GroupId, Position> = self.groups().cut(&[from, to]).into_iter().collect();
        let (Some(own), Some(at)) = (cut.get(&from).copied(), cut.get(&to).copied()) else {
            return Ok(None);
        };
        let tree = system::outbox(from);
        let taken = match taker.look(tree, at, |group: &Group| group.get(tree, TAKEN_KEY, at))? {
            Looked::Found(Some(bytes)) => read_taken(&bytes)?,
            Looked::Found(None) | Looked::NotHeld | Looked::Later => 0,
        };
        #[cfg(feature = "sabotage")]
        let taken = match storage::sabotage::planted("command-accepted-unseen") {
            true => last,
            false => taken,
        };
        if taken < last {
            return Ok(None);
        }
        let range = |from: Bytes, to: Bytes| (Bound::Included(from), Bound::Included(to));
        let sent = range(sent::key(0), sent::key(u64::MAX));
        // The first of them, wherever it is.
        let mut rejected: Option<(u64, Error)> = None;
        for row in taker.scan(tree, sent, at, Direction::Forward)? {
            if let Sent::Rejected { number, error } = Sent::decode(&row?.1)?
                && (first..=last).contains(&number)
                && rejected.as_ref().is_none_or(|(known, _)| number < *known)
            {
                rejected = Some((number, error.error()));
            }
        }
        let noted = range(rejected_key(first), rejected_key(last));
        let mut noted = sender.scan(system::outbox(to), noted, own, Direction::Forward)?;
        if let Some((key, kept)) = noted.next().transpose()? {
            let number = key.last_chunk::<8>().map_or(0, |n| u64::from_be_bytes(*n));
            if rejected.as_ref().is_none_or(|(known, _)| number < *known) {
                rejected = Some((number, Kept::decode(&kept)?.error.error()));
            }
        }
        Ok(Some(match rejected {
            Some((_, error)) => Verdict::Rejected(error),
            None => Verdict::Accepted,
        }))
    }
}
