//! Read barriers: a quorum confirms that this node still leads. One is in flight per group; who
//! comes meanwhile shares the next.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use journal::{GroupId, Position};
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::node::{Member, Node};
use crate::types::node_of;
use crate::{Error, NodeId, Result};

/// A barrier that is not passed by then is not: there is no quorum.
const BARRIER_TIME_MAX: Duration = Duration::from_secs(2);

/// What a barrier tells all that share it.
type Passed = std::result::Result<Position, Option<NodeId>>;

/// The barriers of one group.
#[derive(Default)]
pub(crate) struct Barrier(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    running: bool,
    next: Vec<oneshot::Sender<Passed>>,
}

impl Node {
    /// Confirms by a quorum, asked after this call began, that this node leads the group.
    /// Everything acknowledged before is applied up to the returned position. Errors:
    /// [`Error::NotLeader`], also if there is no quorum; [`Error::NotHeld`].
    pub fn read_barrier(self: &Arc<Self>, group: GroupId) -> BoxFuture<'_, Result<Position>> {
        self.pass_barrier(group).boxed()
    }

    async fn pass_barrier(self: &Arc<Self>, id: GroupId) -> Result<Position> {
        let member = self.member(id).ok_or(Error::NotHeld(id))?;
        if member.group.term().is_none() {
            if member.activity.is_quiet() {
                self.knock(&member);
            }
            return Err(Error::NotLeader(member.other_leader()));
        }
        if member.group.is_sole() {
            return Ok(member.group.applied());
        }
        #[cfg(feature = "sabotage")]
        if journal::sabotage::planted("read-without-barrier") {
            return Ok(member.group.applied());
        }
        let (passed, wait) = oneshot::channel();
        let begins = {
            let mut waiting = member.barrier.0.lock();
            waiting.next.push(passed);
            !std::mem::replace(&mut waiting.running, true)
        };
        if begins {
            self.runtime.spawn(run(member.clone()));
        }
        match wait.await {
            Ok(passed) => passed.map_err(Error::NotLeader),
            Err(_) => Err(Error::NotLeader(None)),
        }
    }
}

/// One barrier after another, while someone waits.
async fn run(member: Arc<Member>) {
    loop {
        let sharing = {
            let mut waiting = member.barrier.0.lock();
            waiting.running = !waiting.next.is_empty();
            std::mem::take(&mut waiting.next)
        };
        if sharing.is_empty() {
            return;
        }
        let passed = member.ask_quorum().await;
        for waiter in sharing {
            // Who no longer waits has given up.
            let _ = waiter.send(passed);
        }
    }
}

impl Member {
    /// The leader, if that is another node.
    pub fn other_leader(&self) -> Option<NodeId> {
        self.leader().filter(|leader| *leader != node_of(self.me))
    }

    async fn ask_quorum(&self) -> Passed {
        if self.silent.load(Ordering::Acquire) {
            // To ask would be a sign of life to those that had better elect.
            return Err(self.other_leader());
        }
        self.activity.touch();
        let asked = self.raft.ensure_linearizable(ReadPolicy::ReadIndex);
        match tokio::time::timeout(BARRIER_TIME_MAX, asked).await {
            // It has a term only once everything before is applied.
            Ok(Ok(_)) if self.group.term().is_some() => Ok(self.group.applied()),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to)))) => Err(to
                .leader_id
                .map(node_of)
                .filter(|to| *to != node_of(self.me))),
            Ok(Ok(_) | Err(_)) | Err(_) => Err(self.other_leader()),
        }
    }
}
