//! A group's writer task: takes proposals in the order in which the group's critical section
//! stamped them, and proposes what waits in one batch, without waiting for the one before.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use journal::{Kind, Position};
use openraft::Raft;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal};
use openraft::raft::WriteResult;
use storage::{Group, Proposal, Proposed, TxId};
use tokio::sync::mpsc;

use crate::machine::Machine;
use crate::quiet::Activity;
use crate::types::{Command, Types};

/// Proposals in one batch at most.
const BATCH_MAX: usize = 256;
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

/// The way into a group's writer task. Not bounded here: an open transaction has at most one
/// entry in it, and `Group::newest` holds new ones back while too much is pending.
pub type Inbox = mpsc::UnboundedSender<Proposal>;

/// Starts the writer task of a group and the task that hears its answers. They end when the
/// inbox is dropped.
pub fn start(group: Arc<Group>, raft: Raft<Types, Machine>, activity: Arc<Activity>) -> Inbox {
    let (inbox, proposals) = mpsc::unbounded_channel();
    let (sent, answers) = mpsc::channel(BATCHES_IN_FLIGHT_MAX);
    tokio::spawn(hear(group.clone(), raft.clone(), answers));
    tokio::spawn(write(group, raft, activity, proposals, sent));
    inbox
}

async fn write(
    group: Arc<Group>,
    raft: Raft<Types, Machine>,
    activity: Arc<Activity>,
    mut proposals: mpsc::UnboundedReceiver<Proposal>,
    sent: mpsc::Sender<(Vec<Name>, Answers)>,
) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while proposals.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let names = batch
            .iter()
            .map(|p| Name {
                txid: p.txid,
                what: p.what,
            })
            .collect();
        let commands: Vec<Command> = batch.drain(..).map(command).collect();
        activity.rouse().await;
        match raft.client_write_many(commands).await {
            Ok(answers) => {
                if sent.send((names, answers)).await.is_err() {
                    return;
                }
            }
            Err(_) => return ended(&group, &raft),
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
        if !refused.is_empty() {
            group.refused(&refused);
        }
        if stopped {
            // Nobody else may ever propose again and find out.
            return ended(&group, &raft);
        }
    }
}
