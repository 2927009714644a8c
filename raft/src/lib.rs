//! Who may write: a Raft group per owner, all of them over the node's one journal. openraft lives
//! here only; the rest of Freehold sees [`Node`] and the traits of `storage`.

mod error;
mod log;
mod machine;
mod network;
mod node;
mod replay;
mod types;
mod writer;

pub use error::{Error, Result};
pub use node::{GroupStatus, Node, Options};
pub use replay::{describe, describe_state, replay};
