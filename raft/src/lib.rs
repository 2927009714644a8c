//! Who may write: a Raft group per owner, all of them over the node's one journal. openraft lives
//! here only; the rest of Freehold sees [`Node`] and the traits of `storage`.

mod barrier;
mod codec;
mod election;
mod erase;
mod error;
mod leadership;
mod log;
mod machine;
mod members;
mod network;
mod node;
mod quiet;
mod repair;
mod replay;
mod serve;
mod snapshot;
mod status;
mod transport;
mod types;
mod upkeep;
mod writer;

pub use erase::{EraseGroup, ErasedGroup, ErasedRound, IndexesOf, images_of_row, not_erased};
pub use error::{Error, Result};
pub use members::ReplicaStatus;
pub use node::{Node, Options, Placement};
pub use repair::Repair;
pub use replay::{describe, describe_state, replay};
pub use status::{Checkpoints, GroupStatus, Rounds};
pub use transport::{
    ANSWER_BYTES_MAX, Alone, Lane, NodeId, REQUEST_BYTES_MAX, Transport, Unreachable,
};
pub use types::ReplicaId;
pub use upkeep::OnDisk;
