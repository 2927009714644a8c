//! A group's writer task: takes proposals in the order in which the group's critical section
//! stamped them, and proposes what waits in one batch. What comes while a batch is under way waits
//! for its end, though not for long, and then goes in one: a batch costs each replica as much as
//! many entries do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use journal::{Kind, Position};
use openraft::Raft;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal};
use openraft::raft::WriteResult;
use storage::{Group, Proposal, Proposed, TxId};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use crate::machine::Machine;
use crate::quiet::Activity;
use crate::types::{Command, Types};

/// Proposals in one batch at most.
const BATCH_MAX: usize = 1024;
/// A batch goes so long after the one before, even if that is still under way: between nodes that
/// are far apart there are several.
const UNDER_WAY_MAX: Duration = Duration::from_millis(4);
/// Batches whose outcome is not known yet.
const BATCHES_IN_FLIGHT_MAX: usize = 64;

/// openraft's answers to one batch, in its order.
type Answers = BoxStream<'static, Result<WriteResult<Types>, Fatal<Types>>>;

/// What a refusal must be told to the group with.
#[derive(Clone, Copy)]
struct Name {
    txid: TxId,
    what: Proposed,
}

/// How many proposals of a group wait to be proposed.
#[derive(Default)]
pub struct Waiting(AtomicUsize);

impl Waiting {
    /// So many do.
    #[cfg(test)]
    pub fn of(proposals: usize) -> Waiting {
        Waiting(AtomicUsize::new(proposals))
    }

    /// Does one? A guess: others go on meanwhile.
    pub fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// The way into a group's writer task. Not bounded here: an open transaction has at most one
/// entry in it, and `Group::newest` holds new ones back while too much is pending.
pub struct Inbox {
    proposals: mpsc::UnboundedSender<Proposal>,
    waiting: Arc<Waiting>,
}

impl Inbox {
    /// Puts one in. False: the group is ending.
    pub fn send(&self, proposal: Proposal) -> bool {
        self.waiting.0.fetch_add(1, Ordering::Relaxed);
        self.proposals.send(proposal).is_ok()
    }
}

/// Starts the writer task of a group and the task that hears its answers. They end when the
/// inbox is dropped.
pub fn start(
    group: Arc<Group>,
    raft: Raft<Types, Machine>,
    activity: Arc<Activity>,
    waiting: Arc<Waiting>,
) -> Inbox {
    let (proposals, arriving) = mpsc::unbounded_channel();
    let (sent, answers) = mpsc::channel(BATCHES_IN_FLIGHT_MAX);
    let (heard, decided) = watch::channel(0);
    tokio::spawn(hear(group.clone(), raft.clone(), answers, heard));
    let writer = Writer {
        group,
        raft,
        activity,
        waiting: waiting.clone(),
        sent,
        decided,
    };
    tokio::spawn(writer.run(arriving));
    Inbox { proposals, waiting }
}

struct Writer {
    group: Arc<Group>,
    raft: Raft<Types, Machine>,
    activity: Arc<Activity>,
    waiting: Arc<Waiting>,
    /// To who hears the answers.
    sent: mpsc::Sender<(Vec<Name>, Answers)>,
    /// Of how many batches the outcome is known.
    decided: watch::Receiver<u64>,
}

impl Writer {
    async fn run(mut self, mut proposals: mpsc::UnboundedReceiver<Proposal>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut batches = 0;
        while proposals.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let taken = batch.len();
            if !self.propose(&mut batch).await {
                return;
            }
            self.waiting.0.fetch_sub(taken, Ordering::Relaxed);
            batches += 1;
            let until = Instant::now() + UNDER_WAY_MAX;
            let decided = self.decided.wait_for(|decided| *decided >= batches);
            // Time is up, or Raft has ended, of which the next batch is told.
            let _ = timeout_at(until, decided).await;
        }
    }

    /// False: Raft has ended.
    async fn propose(&mut self, batch: &mut Vec<Proposal>) -> bool {
        let name = |p: &Proposal| Name {
            txid: p.txid,
            what: p.what,
        };
        let names = batch.iter().map(name).collect();
        let commands: Vec<Command> = batch.drain(..).map(command).collect();
        self.activity.rouse().await;
        match self.raft.client_write_many(commands).await {
            Ok(answers) => self.sent.send((names, answers)).await.is_ok(),
            Err(_) => {
                ended(&self.group, &self.raft);
                false
            }
        }
    }
}

/// Raft of this group has ended: what it took is in doubt, and so is what waits for it.
fn ended(group: &Group, raft: &Raft<Types, Machine>) {
    let state = raft.metrics().borrow_watched().running_state.clone();
    match state {
        Ok(()) | Err(Fatal::Stopped) => tracing::debug!(group = %group.id(), "Raft was stopped"),
        Err(fatal) => {
            tracing::error!(group = %group.id(), %fatal, "the group's Raft has ended");
        }
    }
    group.step_down();
    group.give_up();
}

fn command(proposal: Proposal) -> Command {
    let (kind, position) = match proposal.what {
        Proposed::Entry(position) => (Kind::Entry, position),
        Proposed::Part => (Kind::Part, Position::ZERO),
    };
    Command {
        kind,
        position,
        payload: proposal.payload,
    }
}

/// Applied entries wake their waiters themselves; only refusals have to be told, and the end.
async fn hear(
    group: Arc<Group>,
    raft: Raft<Types, Machine>,
    mut batches: mpsc::Receiver<(Vec<Name>, Answers)>,
    heard: watch::Sender<u64>,
) {
    while let Some((names, mut answers)) = batches.recv().await {
        let mut refused = Vec::new();
        let mut stopped = false;
        for name in names {
            match answers.next().await {
                Some(Ok(Ok(_))) => {}
                Some(Ok(Err(ClientWriteError::LogEntryDiscarded(_)))) => {
                    // In doubt: the log of the new leader decides.
                }
                Some(Ok(Err(_))) => match name.what {
                    Proposed::Entry(position) => refused.push(position),
                    Proposed::Part => group.part_refused(name.txid),
                },
                Some(Err(_)) | None => {
                    stopped = true;
                    break;
                }
            }
        }
        heard.send_modify(|batches| *batches += 1);
        if !refused.is_empty() {
            group.refused(&refused);
        }
        if stopped {
            // Nobody else may ever propose again and find out.
            return ended(&group, &raft);
        }
    }
}
