//! What can go wrong in a node's groups.

use journal::GroupId;

use crate::transport::NodeId;

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of a node's groups. Those of disk and tables end the process at start-up or are logged
/// once; of the others each variant is what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal refused.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The tables refused.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// A group's Raft does not run.
    #[error("group {0}: {1}")]
    Raft(GroupId, String),
    /// Damaged bytes of Raft's own.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Raft's settings contradict each other.
    #[error("Raft's settings: {0}")]
    Config(String),
    /// A task of the node panicked.
    #[error("task: {0}")]
    Task(String),
    /// There is no replica of the group on this node.
    #[error("group {0} is not held by this node")]
    NotHeld(GroupId),
    /// Only the leader can do that: ask this one, if it is known, or later.
    #[error("this node does not lead the group, {}", leader(.0))]
    NotLeader(Option<NodeId>),
    /// The tables have a group of which the journal knows no vote.
    #[error(
        "the journal has nothing of group {0}, of which the tables hold entries: it was lost, and \
         what this node has voted with it; restore it, or start with an empty folder, and the node \
         joins as a new one"
    )]
    JournalLost(GroupId),
    /// The group has no replica on that node.
    #[error("group {0} has no voter on node {1}")]
    NoVoter(GroupId, NodeId),
    /// It has not happened in time; it may still happen.
    #[error("group {0}: {1} took too long")]
    Timeout(GroupId, &'static str),
}

fn leader(known: &Option<NodeId>) -> String {
    match known {
        Some(node) => format!("node {node} does"),
        None => "and knows of none that does".into(),
    }
}
