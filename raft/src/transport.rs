//! How requests reach other nodes. The program implements it over its connections, tests in
//! memory; here nothing is known of addresses.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

/// A node's number in its cluster: given once to a data folder, never again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Requests of one lane may wait for each other, those of different lanes should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Votes, heartbeats, barriers: small and urgent.
    Control,
    /// Entries.
    Data,
    /// Snapshots.
    Bulk,
}

/// The longest request that [`Transport::call`] is given: one record of the largest size and its
/// header. What is longer need not be received.
pub const REQUEST_BYTES_MAX: usize = 80 << 20;
/// The largest payload of an entry, however large the journal's segments are: every replica must
/// be able to get it.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 64 << 20;
const _: () = assert!(PAYLOAD_BYTES_MAX + (1 << 20) <= REQUEST_BYTES_MAX);
/// The longest answer that [`Node::serve`](crate::Node::serve) gives.
pub const ANSWER_BYTES_MAX: usize = 4 << 10;

/// How requests reach other nodes.
pub trait Transport: Send + Sync + 'static {
    /// Asks `to` and returns its answer; an error if it can't be reached or does not answer by
    /// `deadline`. Requests may arrive in any order. One that arrives although an error was
    /// returned does no harm.
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        request: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, Unreachable>>;
}

/// A node did not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("node {node} can't be reached: {reason}")]
pub struct Unreachable {
    /// The node that was asked.
    pub node: NodeId,
    /// What happened, for the log.
    pub reason: String,
}

/// The transport of a node that is its whole cluster: nobody else can be reached.
pub struct Alone;

impl Transport for Alone {
    fn call(
        &self,
        to: NodeId,
        _lane: Lane,
        _request: Bytes,
        _deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, Unreachable>> {
        let reason = "this node is alone".into();
        futures_util::future::ready(Err(Unreachable { node: to, reason })).boxed()
    }
}

/// A replica that the test plays. What it does not answer is waited for in vain.
#[cfg(test)]
pub(crate) struct Played<F>(pub F);

#[cfg(test)]
impl<F> Transport for Played<F>
where
    F: Fn(crate::codec::Body) -> Option<crate::codec::Answer> + Send + Sync + 'static,
{
    fn call(
        &self,
        _to: NodeId,
        _lane: Lane,
        request: Bytes,
        _deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, Unreachable>> {
        let request = crate::codec::Request::decode(request);
        let body = request.expect("a request of a replica").body;
        match (self.0)(body) {
            Some(answer) => futures_util::future::ready(Ok(answer.encode())).boxed(),
            None => futures_util::future::pending().boxed(),
        }
    }
}
