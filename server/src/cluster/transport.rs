//! Raft's requests on the connections between nodes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raft::{NodeId, Transport, Unreachable};

use super::Cluster;
use crate::peer::{BoxFuture, Lane};

/// The way of Raft's requests.
pub struct Way(pub Arc<Cluster>);

impl Transport for Way {
    fn call(
        &self,
        to: NodeId,
        lane: raft::Lane,
        request: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, Unreachable>> {
        let cluster = self.0.clone();
        let lane = match lane {
            raft::Lane::Control => Lane::Control,
            raft::Lane::Data => Lane::Data,
            raft::Lane::Bulk => Lane::Bulk,
        };
        Box::pin(async move {
            let called = cluster.call(to.0, lane, request, deadline).await;
            called.map_err(|error| Unreachable {
                node: to,
                reason: error.to_string(),
            })
        })
    }
}
