//! Quiet groups: an idle group costs nothing, for its replicas have no clock.
//!
//! The leader of a group in which nothing happens stops its heartbeats and asks the other voters,
//! all groups of a node in one request. A voter that has and has applied the same last entry of
//! the same leadership stops its clock and says so; once all have, the group is quiet. Whatever
//! happens wakes it, and nothing is taken from it while it is quiet that its clock would not
//! allow: the leader confirms its leadership by a quorum before it proposes or answers a barrier.
//!
//! A quiet voter begins no election by itself. Its leader's end is noticed by
//! the nodes' failure detector ([`Node::suspect`](crate::Node::suspect)), or by who needs the
//! group and finds that the leader does not answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use journal::GroupId;
use openraft::async_runtime::WatchReceiver;
use openraft::{Instant as _, Raft, ReadPolicy, ServerState};
use parking_lot::Mutex;

use crate::codec::{Answer, Body, GROUPS_MAX, Rest};
use crate::machine::Machine;
use crate::node::{HEARTBEAT_INTERVAL, LEASE, Member, Node};
use crate::transport::NodeId;
use crate::types::{LogId, ReplicaId, Types, Vote, node_of};

/// A group in which nothing has happened for so long may be quiet, unless it is said otherwise.
pub(crate) const QUIET_AFTER: Duration = Duration::from_secs(5);
/// Heartbeats that are on their way arrive by then.
const ON_THE_WAY_MAX: Duration = Duration::from_millis(100);
/// The other voters say by then whether they agree. Before, nobody may miss the heartbeats.
const AGREE_TIME_MAX: Duration = Duration::from_millis(400);
const _: () = assert!(
    (HEARTBEAT_INTERVAL + ON_THE_WAY_MAX.as_millis() as u64 + AGREE_TIME_MAX.as_millis() as u64)
        < LEASE.as_millis() as u64
);
/// How long a quorum may take to confirm the leadership of a group that wakes.
const CONFIRM_TIME_MAX: Duration = Duration::from_secs(1);
/// How long a leader may take to say that it is awake.
const WAKE_TIME_MAX: Duration = Duration::from_millis(500);
/// Between two looks at whether leaders have a quorum.
const QUORUM_LOOK: Duration = Duration::from_millis(200);
/// A leader without a quorum is silent for so long, then asks for it for as long.
const SILENCE: Duration = Duration::from_secs(2);

/// What happens in a group, and its clock.
pub(crate) struct Activity {
    raft: Raft<Types, Machine>,
    state: Mutex<State>,
    /// The leader is being asked to be awake.
    knocking: AtomicBool,
}

struct State {
    phase: Phase,
    /// Of things that have happened.
    count: u64,
    /// When the last one has.
    touched: Instant,
    /// Awake since then, or leading since then.
    since: Instant,
    /// Could this replica have a use for a clock at all?
    needs_clock: bool,
    /// It is awake, but is not to begin an election by itself for a moment.
    held: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Awake,
    /// This leader asks the others.
    Asking,
    Quiet,
}

impl Activity {
    /// Awake; without a clock until it is known what the replica is.
    pub fn new(raft: Raft<Types, Machine>) -> Arc<Activity> {
        let now = Instant::now();
        Arc::new(Activity {
            raft,
            state: Mutex::new(State {
                phase: Phase::Awake,
                count: 0,
                touched: now,
                since: now,
                needs_clock: false,
                held: false,
            }),
            knocking: AtomicBool::new(false),
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        let ticks = state.needs_clock && state.phase == Phase::Awake && !state.held;
        // It costs nothing if it is so already.
        self.raft.runtime_config().tick(ticks);
        result
    }

    /// Something happens: the group is awake. Tells whether it was not.
    pub fn touch(&self) -> bool {
        self.change(|state| {
            let now = Instant::now();
            let woken = state.phase != Phase::Awake;
            if woken {
                state.since = now;
            }
            state.phase = Phase::Awake;
            state.held = false;
            state.count += 1;
            state.touched = now;
            woken
        })
    }

    /// Like [`Activity::touch`], but an election is begun by the caller alone, who calls `touch`
    /// when it is this replica's turn.
    pub fn stir(&self) {
        let woken = self.touch();
        if woken {
            self.change(|state| state.held = true);
        }
    }

    /// Something happens that needs the leadership: after this its lease is fresh, or there is no
    /// quorum that confirms it.
    pub async fn rouse(&self) {
        if self.touch() {
            self.confirm().await;
        }
    }

    async fn confirm(&self) {
        let asked = self.raft.ensure_linearizable(ReadPolicy::ReadIndex);
        // Who needs the leadership finds out by itself that it is lost.
        let _ = tokio::time::timeout(CONFIRM_TIME_MAX, asked).await;
    }

    /// The replica's part has changed. Only voters elect and lead, and a leader that is alone has
    /// nobody to tell.
    pub fn set_part(&self, needs_clock: bool) {
        self.change(|state| state.needs_clock = needs_clock);
    }

    /// This replica begins to lead.
    pub fn begin_term(&self) {
        self.state.lock().since = Instant::now();
    }

    pub fn is_quiet(&self) -> bool {
        self.state.lock().phase == Phase::Quiet
    }

    /// For how long it has been awake (and, if it leads, has led); `None` if it is not.
    pub fn awake_for(&self) -> Option<Duration> {
        let state = self.state.lock();
        (state.phase == Phase::Awake).then(|| state.since.elapsed())
    }

    fn may_rest(&self, after: Duration) -> bool {
        let state = self.state.lock();
        state.phase == Phase::Awake && state.needs_clock && state.touched.elapsed() >= after
    }

    /// The leader stops its heartbeats; gives the count that has to stay.
    fn begin_rest(&self) -> u64 {
        self.change(|state| {
            state.phase = Phase::Asking;
            state.count
        })
    }

    /// All agree, or not.
    fn end_rest(&self, count: u64, agreed: bool) {
        self.change(|state| {
            if state.phase != Phase::Asking || state.count != count {
                return;
            }
            state.phase = match agreed {
                true => Phase::Quiet,
                false => Phase::Awake,
            };
            // They are asked again after as long a time.
            state.touched = Instant::now();
        });
    }

    /// The leader has asked, and this replica agrees.
    fn rest(&self) {
        self.change(|state| state.phase = Phase::Quiet);
    }
}

/// What a leader wants to be quiet in.
struct Resting {
    member: Arc<Member>,
    count: u64,
    vote: Vote,
    last: LogId,
    /// The other voters.
    others: Vec<ReplicaId>,
}

impl Member {
    /// The leadership, the last entry and the other voters, if nothing is under way and all
    /// voters have everything.
    fn settled(&self) -> Option<(Vote, LogId, Vec<ReplicaId>)> {
        self.group.term()?;
        // Nobody changes the members.
        let _free = self.change.try_lock().ok()?;
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let last = metrics.last_applied?;
        let members = &metrics.membership_config;
        let settled = metrics.state == ServerState::Leader
            && metrics.last_log_index == Some(last.index)
            && members.membership().get_joint_config().len() == 1;
        let replication = metrics.replication.as_ref().filter(|_| settled)?;
        let others: Vec<ReplicaId> = members.voter_ids().filter(|id| *id != self.me).collect();
        let has_all = |id: &ReplicaId| replication.get(id) == Some(&Some(last));
        others
            .iter()
            .all(has_all)
            .then_some((metrics.vote, last, others))
    }

    /// Has this replica all that its leader has, and applied it?
    fn agrees(&self, rest: &Rest) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        self.me == rest.to
            && metrics.state == ServerState::Follower
            && metrics.vote == rest.vote
            && metrics.last_log_index == Some(rest.last.index)
            && metrics.last_applied == Some(rest.last)
    }

    /// Something happens that needs the leadership: see [`Activity::rouse`].
    pub async fn rouse(&self) {
        self.activity.rouse().await;
    }
}

impl Node {
    /// Says after which time in which nothing happens a group may be quiet.
    pub fn quiet_after(&self, time: Duration) {
        *self.quiet_after.lock() = time;
    }

    /// Lets the groups that this node leads be quiet, for ever.
    pub(crate) async fn tend(node: Weak<Node>) {
        const LOOK_MAX: Duration = Duration::from_secs(1);
        loop {
            let Some(look) = node.upgrade().map(|node| *node.quiet_after.lock() / 5) else {
                return;
            };
            tokio::time::sleep(look.min(LOOK_MAX)).await;
            if let Some(node) = node.upgrade() {
                node.hush().await;
            }
        }
    }

    async fn hush(&self) {
        let after = *self.quiet_after.lock();
        let members = self.members().into_iter();
        let mut resting: Vec<Resting> = members
            .filter(|member| member.activity.may_rest(after))
            .filter_map(|member| {
                let (vote, last, others) = member.settled()?;
                Some(Resting {
                    count: member.activity.begin_rest(),
                    member,
                    vote,
                    last,
                    others,
                })
            })
            .collect();
        if resting.is_empty() {
            return;
        }
        tokio::time::sleep(ON_THE_WAY_MAX).await;
        resting.retain(|resting| {
            let now = resting.member.settled();
            let same =
                now.is_some_and(|(vote, last, _)| (vote, last) == (resting.vote, resting.last));
            if !same {
                resting.member.activity.end_rest(resting.count, false);
            }
            same
        });
        for (resting, agreed) in resting.iter().zip(self.agreed(&resting).await) {
            resting.member.activity.end_rest(resting.count, agreed);
        }
    }

    /// Asks the other voters; gives for each group whether all agree.
    async fn agreed(&self, resting: &[Resting]) -> Vec<bool> {
        let mut asked: BTreeMap<NodeId, Vec<(usize, Rest)>> = BTreeMap::new();
        for (number, resting) in resting.iter().enumerate() {
            for other in &resting.others {
                let rest = Rest {
                    group: resting.member.group.id(),
                    to: *other,
                    vote: resting.vote,
                    last: resting.last,
                };
                asked
                    .entry(node_of(*other))
                    .or_default()
                    .push((number, rest));
            }
        }
        let requests = asked.iter().flat_map(|(node, rests)| {
            let several = rests.chunks(GROUPS_MAX);
            several.map(|rests| self.ask_rest(*node, rests))
        });
        let mut agreed = vec![true; resting.len()];
        for (number, agrees) in join_all(requests).await.into_iter().flatten() {
            agreed[number] &= agrees;
        }
        agreed
    }

    async fn ask_rest(&self, node: NodeId, rests: &[(usize, Rest)]) -> Vec<(usize, bool)> {
        let body = Body::Rest(rests.iter().map(|(_, rest)| rest.clone()).collect());
        let answer = self.ask_node(node, GroupId::DIRECTORY, body, AGREE_TIME_MAX);
        let flags = match answer.await {
            Some(Answer::Rest(flags)) if flags.len() == rests.len() => flags,
            _ => vec![false; rests.len()],
        };
        rests.iter().map(|(number, _)| *number).zip(flags).collect()
    }

    /// A leader wants to be quiet in these groups.
    pub(crate) fn rest(&self, rests: &[Rest]) -> Vec<bool> {
        let rest = |rest: &Rest| {
            let member = self.member(rest.group).filter(|member| member.agrees(rest));
            if let Some(member) = &member {
                member.activity.rest();
            }
            member.is_some()
        };
        rests.iter().map(rest).collect()
    }

    /// Someone needs these groups, or has started and does not know how they are.
    pub(crate) fn wake(&self, groups: &[GroupId]) -> Vec<bool> {
        let wake = |group: &GroupId| {
            let member = self.member(*group).filter(|m| m.group.term().is_some());
            if let Some(member) = &member
                && member.activity.touch()
            {
                let member = member.clone();
                self.runtime
                    .spawn(async move { member.activity.confirm().await });
            }
            member.is_some()
        };
        groups.iter().map(wake).collect()
    }

    /// Someone needs a group that another node leads and that is quiet here. A leader that is
    /// awake is heard; if there is none, this replica elects.
    pub(crate) fn knock(self: &Arc<Self>, member: &Arc<Member>) {
        if member.activity.knocking.swap(true, Ordering::AcqRel) {
            return;
        }
        let (node, member) = (self.clone(), member.clone());
        self.runtime.spawn(async move {
            let group = member.group.id();
            let awake = match member.other_leader() {
                Some(leader) => {
                    let body = Body::Wake(vec![group]);
                    let asked = node.ask_node(leader, group, body, WAKE_TIME_MAX);
                    asked.await == Some(Answer::Wake(vec![true]))
                }
                None => false,
            };
            if !awake {
                member.activity.touch();
            }
            member.activity.knocking.store(false, Ordering::Release);
        });
    }

    /// This node has started: nobody is to take its replicas for quiet ones.
    pub(crate) fn announce(self: &Arc<Self>) {
        let mut groups: BTreeMap<NodeId, Vec<GroupId>> = BTreeMap::new();
        for member in self.members() {
            let metrics = member.raft.server_metrics();
            let members = metrics.borrow_watched().membership_config.clone();
            let voters = members.voter_ids().map(node_of);
            for node in voters.filter(|node| *node != self.me) {
                groups.entry(node).or_default().push(member.group.id());
            }
        }
        for (to, groups) in groups {
            let node = self.clone();
            self.runtime.spawn(async move {
                for groups in groups.chunks(GROUPS_MAX) {
                    let body = Body::Wake(groups.to_vec());
                    // Who does not hear it is asked for votes, which wakes it, too.
                    node.ask_node(to, GroupId::DIRECTORY, body, CONFIRM_TIME_MAX)
                        .await;
                }
            });
        }
    }

    /// A leader that hears no quorum falls silent, so that those that still hear it elect; now
    /// and then it asks for its quorum. For ever.
    pub(crate) async fn watch_quorums(node: Weak<Node>) {
        loop {
            tokio::time::sleep(QUORUM_LOOK).await;
            let Some(node) = node.upgrade() else {
                return;
            };
            node.members()
                .iter()
                .for_each(|member| member.look_for_quorum());
        }
    }
}

impl Member {
    fn look_for_quorum(&self) {
        let silent = self.without_quorum_for().is_some_and(|time| {
            let over = time.saturating_sub(LEASE).as_millis() / SILENCE.as_millis();
            time > LEASE && over.is_multiple_of(2)
        });
        if self.silent.swap(silent, Ordering::AcqRel) != silent {
            self.raft.runtime_config().heartbeat(!silent);
        }
    }

    /// For how long this leader has not heard a quorum that it asks.
    pub fn without_quorum_for(&self) -> Option<Duration> {
        if self.group.term().is_none() || self.group.is_sole() {
            return None;
        }
        let awake = self.activity.awake_for()?;
        let metrics = self.raft.metrics();
        let acked = metrics.borrow_watched().last_quorum_acked;
        Some(acked.map_or(awake, |acked| acked.elapsed().min(awake)))
    }
}
