//! What is taken away from a role is taken away on every node before REVOKE is answered.
//!
//! The node that has committed it tells all others, those too that its directory does not have yet. One
//! that is told gives no rows of the group before it has the entry in its catalog. One that can't be
//! reached, by no node that answers, does not hear most of the directory's voters either, for two majorities
//! have a node in common: after [`CUT_OFF_AFTER`] it gives only rows of owners whose replicas it
//! holds. When it hears them again, of every group that it follows it first gets what its leader had
//! then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sql::Error;
use sql::cluster::Untold;
use storage::{GroupId, Outcome, Position};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::Cluster;
use super::ask::{Ask, Told};

/// A node that has not heard most of the directory's voters for so long is cut off.
const CUT_OFF_AFTER: Duration = Duration::from_secs(5);
/// Who has not been reached for so long is cut off by its own clock, too, if that is a little slow.
const SURELY_CUT_OFF_AFTER: Duration = Duration::from_secs(6);
/// Until every node is told, or known to be cut off.
const TELL_TIME_MAX: Duration = Duration::from_secs(30);
/// One question to one node.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
/// One that another node hands on.
const HANDED_ON_WITHIN: Duration = Duration::from_secs(5);
/// So long a node that was told waits for the entry before it answers: whoever reads there next
/// need not wait then.
const APPLIED_WITHIN: Duration = Duration::from_secs(1);
/// So long a statement waits until its node knows what may be read.
const VOUCH_TIME_MAX: Duration = Duration::from_secs(5);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// What this node knows of what may still be read.
#[derive(Default)]
pub struct Vouched {
    state: Mutex<State>,
    /// There are entries that must come first.
    awaits: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Counts how often this node was cut off.
    cut_off: u64,
    /// Groups whose catalog was what their leader had, since then.
    current: BTreeSet<GroupId>,
    /// Entries without which no rows of a group are given.
    awaited: BTreeMap<GroupId, Position>,
    /// A task looks after `current`.
    catching_up: bool,
}

impl Vouched {
    /// No rows of the group are given before this entry is in the catalog.
    fn await_first(&self, group: GroupId, position: Position) {
        let mut state = self.state.lock();
        let awaited = state.awaited.entry(group).or_default();
        *awaited = position.max(*awaited);
        self.awaits.store(true, Ordering::Release);
    }
}

impl Cluster {
    /// A copy of the group begins to be kept: what its catalog was before says nothing.
    pub(crate) fn begins_to_follow(&self, group: GroupId) {
        self.vouched.state.lock().current.remove(&group);
    }

    /// Does this node hear most of the directory's voters?
    fn is_in_contact(&self) -> bool {
        let catalog = self.catalog();
        let Some(voters) = catalog
            .as_ref()
            .and_then(|c| c.placement(GroupId::DIRECTORY))
        else {
            return true;
        };
        let Some(since) = Instant::now().checked_sub(CUT_OFF_AFTER) else {
            return false;
        };
        self.heard.most_answer(&voters.voters, self.me(), since)
    }

    /// Notes that this node is cut off, if it is. Called again and again.
    pub(super) fn note_contact(&self) {
        self.keep_contact();
        if !self.is_in_contact() {
            let mut state = self.vouched.state.lock();
            state.cut_off += 1;
            state.current.clear();
        }
    }

    /// One of these groups of which no rows may be given now. The role that owns `own` may read it
    /// whatever the directory says.
    pub(super) fn doubts(&self, groups: &[GroupId], own: Option<GroupId>) -> Option<GroupId> {
        if let Some(doubt) = self.may_be_replaced(groups, own) {
            return Some(doubt);
        }
        let awaits = self.vouched.awaits.load(Ordering::Acquire);
        if !awaits && !self.follows().is_any() {
            return None;
        }
        let engine = self.engine()?;
        let followed = |id: &&GroupId| engine.groups().get(**id).is_some_and(|g| g.is_followed());
        let followed: Vec<GroupId> = groups.iter().filter(followed).copied().collect();
        if !followed.is_empty() && !self.is_in_contact() {
            return followed.first().copied();
        }
        let mut state = self.vouched.state.lock();
        let foreign = |ids: &[GroupId]| ids.iter().any(|id| Some(*id) != own);
        let directory = |ids| foreign(ids).then_some(&GroupId::DIRECTORY).into_iter();
        if awaits {
            let catalog = engine.catalog();
            state.awaited.retain(|id, at| catalog.as_of(*id) < *at);
            let none = state.awaited.is_empty();
            self.vouched.awaits.store(!none, Ordering::Release);
            let mut named = groups.iter().chain(directory(groups));
            if let Some(late) = named.find(|id| state.awaited.contains_key(id)) {
                return Some(*late);
            }
        }
        let mut needed = directory(&followed).chain(&followed);
        needed.find(|id| !state.current.contains(id)).copied()
    }

    /// Is a group in doubt, where all that is followed here rests on the directory? What stands in
    /// the way.
    fn doubt_of(&self, group: GroupId) -> Option<GroupId> {
        let known = group != GroupId::DIRECTORY
            || !self.follows().is_any()
            || self.vouched.state.lock().current.contains(&group);
        self.doubts(&[group], Some(group))
            .or((!known).then_some(group))
    }

    /// Returns when there is no doubt about a group. Errors: OW003; 57P03 if this node may have
    /// been replaced.
    pub(super) async fn have_vouched(&self, group: GroupId) -> Result<(), Error> {
        let until = Instant::now() + VOUCH_TIME_MAX;
        let mut why = String::new();
        loop {
            let Some(doubt) = self.doubt_of(group) else {
                return Ok(());
            };
            if self.is_replaced() {
                return Err(self.replaced());
            }
            if Instant::now() >= until {
                return Err(match self.is_trusted() {
                    true => self.unreachable(group, &why),
                    false => self.replaced(),
                });
            }
            let gone_on = match !self.rests_on_others(doubt) || self.is_in_contact() {
                true => self.catch_up(doubt, until).await,
                false => Err("this node does not hear the others".to_owned()),
            };
            match gone_on {
                Ok(()) => "it is in doubt again and again".clone_into(&mut why),
                Err(reason) => {
                    why = reason;
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Does what may be read of a group need the directory's voters?
    fn rests_on_others(&self, group: GroupId) -> bool {
        let held = self.engine().and_then(|e| e.groups().get(group));
        group == GroupId::DIRECTORY || held.is_none_or(|held| held.is_followed())
    }

    /// Gets of every followed group what its leader has, where that is in doubt: nobody who reads
    /// later waits for it, and an owner that goes away then can be read. Called again and again.
    pub(crate) fn end_doubts(self: &Arc<Cluster>) {
        let Some(engine) = self.engine() else {
            return;
        };
        let groups = engine.groups().all().into_iter();
        let followed = groups.filter(|g| g.is_followed()).map(|g| g.id());
        let mut state = self.vouched.state.lock();
        let directory = GroupId::DIRECTORY;
        let mut doubted = in_doubt(followed, &state.current);
        if !self.is_trusted() && !self.is_replaced() && !doubted.contains(&directory) {
            doubted.insert(0, directory);
        }
        if doubted.is_empty() || std::mem::replace(&mut state.catching_up, true) {
            return;
        }
        drop(state);
        let cluster = self.clone();
        tokio::spawn(async move {
            for group in doubted {
                let unnamed = group == directory && !cluster.is_trusted();
                let lacks = || unnamed || !cluster.vouched.state.lock().current.contains(&group);
                if cluster.is_in_contact() && lacks() {
                    // Who fails is asked again.
                    let until = Instant::now() + VOUCH_TIME_MAX;
                    if let Err(why) = cluster.catch_up(group, until).await {
                        tracing::debug!(%group, why, "not known to be current yet");
                    }
                }
            }
            cluster.vouched.state.lock().catching_up = false;
        });
    }

    /// Gets of a group what its leader has now, by this time.
    async fn catch_up(&self, group: GroupId, until: Instant) -> Result<(), String> {
        let within = |time: Duration| time.min(until.saturating_duration_since(Instant::now()));
        let (cut_off, awaited) = {
            let state = self.vouched.state.lock();
            (state.cut_off, state.awaited.get(&group).copied())
        };
        if let Some(position) = awaited {
            let time = within(APPLIED_WITHIN);
            return match self.apply_within(group, position, time).await {
                true => Ok(()),
                false => Err("what was taken away there has not come yet".into()),
            };
        }
        let asked = Instant::now();
        let position = self.newest_of(group, within).await?;
        if !self
            .apply_within(group, position, within(APPLIED_WITHIN))
            .await
        {
            return Err("what its leader has does not come".into());
        }
        self.note_proof(group, asked)?;
        let mut state = self.vouched.state.lock();
        if state.cut_off == cut_off {
            state.current.insert(group);
        }
        Ok(())
    }

    /// What the leader of a group has, which proves that it is one.
    async fn newest_of(
        &self,
        group: GroupId,
        within: impl Fn(Duration) -> Duration,
    ) -> Result<Position, String> {
        let catalog = self.catalog().ok_or("the node is starting")?;
        let held = self.engine().and_then(|e| e.groups().get(group));
        if held.is_some_and(|held| held.term().is_some()) {
            let passed = self.pass_barrier(group).await;
            return passed.map_err(|error| error.to_string());
        }
        let said = self.leads.leader(group, |node| self.heard.is_live(node));
        let mut nodes: Vec<u32> = said.map(|(node, _)| node).into_iter().collect();
        nodes.extend(self.leader(group));
        if let Some(placement) = catalog.placement(group) {
            nodes.extend(&placement.voters);
        }
        let mut asked = BTreeSet::from([self.me()]);
        let mut why = "no leader of its group answers".to_owned();
        for node in nodes.into_iter().filter(|node| asked.insert(*node)) {
            let ask = Ask::Barrier { group: group.0 };
            match self.ask(node, &ask, within(TOLD_WITHIN)).await {
                Ok(Told::Passed { position }) => return Ok(Position(position)),
                Ok(Told::NotNow { why: told }) | Err(told) => why = told,
                Ok(_) => {}
            }
        }
        Err(why)
    }

    /// Waits for an entry of a group here.
    async fn apply_within(&self, group: GroupId, position: Position, time: Duration) -> bool {
        let Some(held) = self.engine().and_then(|e| e.groups().get(group)) else {
            return false;
        };
        let (told, outcome) = tokio::sync::oneshot::channel();
        // Nobody hears it if this call was given up.
        let tell = move |outcome| told.send(outcome).unwrap_or_default();
        let waiter = held.when(position, Box::new(tell));
        let outcome = timeout(time, outcome).await;
        if outcome.is_err()
            && let Some(waiter) = waiter
        {
            held.forget(waiter);
        }
        matches!(outcome, Ok(Ok(Outcome::Applied)))
    }

    /// Tells all other nodes of an entry that takes something away, until it counts on each of
    /// them, or for as long as may be.
    pub(super) async fn tell_taken_away(
        self: &Arc<Cluster>,
        group: GroupId,
        position: Position,
        untold: &Untold,
    ) {
        let mut telling = JoinSet::new();
        let tell = |telling: &mut JoinSet<_>, nodes: Vec<u32>| {
            for node in nodes {
                let cluster = self.clone();
                telling.spawn(async move { cluster.tell_one(node, group, position).await });
            }
        };
        let known = untold.nodes();
        tell(&mut telling, known.clone());
        let looking = self.knows_all_nodes();
        tokio::pin!(looking);
        let mut looks = true;
        loop {
            tokio::select! {
                all = &mut looking, if looks => {
                    looks = false;
                    if all {
                        let joined = self.others().into_iter().filter(|n| !known.contains(n));
                        let joined: Vec<u32> = joined.collect();
                        untold.knows_all(joined.iter().copied());
                        tell(&mut telling, joined);
                    }
                }
                Some(told) = telling.join_next() => {
                    // One that panicked was logged, and has told nothing.
                    if let Ok(Ok(node)) = told {
                        untold.counts(node);
                    }
                }
                else => return,
            }
        }
    }

    /// Waits until this node's directory has every node that could read before this call; who
    /// joins later asks each owner's leader first. False if that does not come.
    async fn knows_all_nodes(&self) -> bool {
        let begun = Instant::now();
        while self.pass_barrier(GroupId::DIRECTORY).await.is_err() {
            if begun.elapsed() > TELL_TIME_MAX {
                return false;
            }
            sleep(PAUSE).await;
        }
        true
    }

    /// Directly, or by another node that reaches it. Gives its number, as a result once it counts.
    async fn tell_one(
        self: Arc<Cluster>,
        node: u32,
        group: GroupId,
        position: Position,
    ) -> Result<u32, u32> {
        let begun = Instant::now();
        let (group, position) = (group.0, position.0);
        let ask = Ask::TakenAway {
            group,
            position,
            node,
        };
        loop {
            let mut ways = JoinSet::new();
            let live = self.heard.live(Instant::now());
            let by = live
                .into_iter()
                .filter(|by| *by != self.me() && *by != node);
            for by in std::iter::once(node).chain(by) {
                let (cluster, ask) = (self.clone(), ask.clone());
                let time = if by == node {
                    TOLD_WITHIN
                } else {
                    HANDED_ON_WITHIN
                };
                ways.spawn(async move { (by, cluster.ask(by, &ask, time).await) });
            }
            let mut silent = BTreeSet::new();
            while let Some(way) = ways.join_next().await {
                match way {
                    Ok((_, Ok(Told::Done { .. }))) => return Ok(node),
                    // It is of an older version, in which it gives rows until it has the entry.
                    Ok((by, Ok(Told::Refused { .. }))) if by == node => return Ok(node),
                    Ok((by, Ok(Told::Silent))) => drop(silent.insert(by)),
                    Ok(_) | Err(_) => {}
                }
            }
            if self.has_lost(node) {
                silent.insert(self.me());
            }
            // What hears no voter of a majority serves no more, whoever else hears it.
            if self.is_majority(&silent) && self.is_in_contact() {
                return Ok(node);
            }
            if begun.elapsed() > TELL_TIME_MAX {
                return Err(node);
            }
            sleep(PAUSE).await;
        }
    }

    /// Has this node not heard of another one for longer than that serves without the others?
    fn has_lost(&self, node: u32) -> bool {
        let lost = self
            .heard
            .lost(&[node], SURELY_CUT_OFF_AFTER, Instant::now());
        lost.contains(&node)
    }

    /// Are these most of the directory's voters?
    fn is_majority(&self, nodes: &BTreeSet<u32>) -> bool {
        let catalog = self.catalog();
        let directory = catalog
            .as_ref()
            .and_then(|c| c.placement(GroupId::DIRECTORY));
        directory.is_some_and(|directory| {
            let voters = &directory.voters;
            let count = voters.iter().filter(|voter| nodes.contains(voter)).count();
            count > voters.len() / 2
        })
    }

    /// The other side of it.
    pub(super) async fn note_taken_away(&self, ask: Ask) -> Told {
        let Ask::TakenAway {
            group,
            position,
            node,
        } = ask
        else {
            let why = "nothing is taken away".into();
            return Told::Refused { why };
        };
        if node != self.me() {
            return match self.ask(node, &ask, TOLD_WITHIN).await {
                Ok(told) => told,
                Err(_) if self.has_lost(node) => Told::Silent,
                Err(why) => Told::NotNow { why },
            };
        }
        let (group, at) = (GroupId(group), Position(position));
        let held = self.engine().and_then(|e| e.groups().get(group));
        // A copy that comes later may be older.
        if held.is_none_or(|held| held.applied() < at) {
            self.vouched.await_first(group, at);
            self.apply_within(group, at, APPLIED_WITHIN).await;
        }
        Told::Done {
            position,
            remark: None,
        }
    }
}

/// Which groups are in doubt, those first on which the others rest.
fn in_doubt(followed: impl Iterator<Item = GroupId>, current: &BTreeSet<GroupId>) -> Vec<GroupId> {
    let mut followed = followed.peekable();
    let directory = followed.peek().map(|_| GroupId::DIRECTORY);
    let all = directory.into_iter().chain(followed);
    all.filter(|id| !current.contains(id)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::detect::Heard;
    use super::*;

    #[test]
    fn the_directory_is_in_doubt_until_its_leader_has_answered() {
        let (directory, a, b) = (GroupId::DIRECTORY, GroupId(1), GroupId(2));
        let doubts = |followed: &[GroupId], current: &[GroupId]| {
            in_doubt(followed.iter().copied(), &current.iter().copied().collect())
        };
        assert_eq!(doubts(&[a, b], &[]), [directory, a, b]);
        // It did not answer when the others did.
        assert_eq!(doubts(&[a, b], &[a, b]), [directory]);
        assert_eq!(doubts(&[a, b], &[directory, a]), [b]);
        assert_eq!(doubts(&[], &[]), []);
    }

    #[test]
    fn a_node_hears_most_voters_or_is_cut_off() {
        let now = Instant::now();
        let heard = Heard::default();
        let since = now - CUT_OFF_AFTER;
        assert!(heard.most_answer(&[1], 1, since), "it is the only one");
        assert!(!heard.most_answer(&[1, 2, 3], 1, since));
        // Being asked proves nothing: what this one says may arrive nowhere.
        heard.note(2, now);
        assert!(!heard.most_answer(&[1, 2, 3], 1, since));
        heard.answered(2, (now, PAUSE), false, false);
        assert!(heard.most_answer(&[1, 2, 3], 1, since));
        assert!(!heard.most_answer(&[1, 2, 3], 4, since), "no voter itself");
        heard.answered(3, (since - PAUSE, PAUSE), false, false);
        assert!(
            !heard.most_answer(&[1, 2, 3], 4, since),
            "what was asked before does not count"
        );
        heard.answered(3, (now, PAUSE), false, false);
        assert!(heard.most_answer(&[1, 2, 3], 4, since));
    }
}
