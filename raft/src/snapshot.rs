//! Snapshots: what a replica that has fallen behind the log gets instead of it.

use openraft::alias::{SnapshotOf, VoteOf};
use openraft::errors::Unreachable;

use crate::network::Peer;
use crate::types::Types;

/// What a snapshot consists of besides its metadata.
pub enum Data {
    /// Only the name of the last checkpoint: it stands for the log below it.
    Checkpoint,
}

/// Sends a snapshot. Gives the receiver's vote.
pub async fn send(
    peer: &Peer,
    _vote: VoteOf<Types>,
    snapshot: SnapshotOf<Types, Data>,
) -> Result<VoteOf<Types>, Unreachable<Types>> {
    match snapshot.snapshot {
        Data::Checkpoint => Err(peer.unreachable("nothing can be sent now")),
    }
}
