//! The connections between nodes: who is at the other end ([`Hello`]), requests with their answers,
//! streams of bytes, and the news that a peer is gone. What is said in them is not known here.
//!
//! The way of a request: [`Peers::call`] finds the connection to an address and lane, or dials one
//! (`peers.rs`); the request waits in the connection's queue (`link.rs`) for the one task that
//! writes, which puts all that waits into one write of checksummed frames (`frame.rs`). A long request
//! goes in parts, between which others pass. At the other
//! end [`listen`] reads it and gives it to [`Service::request`]; the answer goes back the same way.
//!
//! Everything has a limit: frames, what waits to be written, requests at the same time, what a
//! stream has under way, streams, connections, peers that have not said who they are. Where one is
//! reached the sender waits; a peer that goes beyond one loses its connection.
//!
//! Invariants: bytes of a peer never panic here, and no checksum is skipped. An answer belongs to
//! its request or does not come. A call that fails says whether its request may have been received.

mod frame;
mod hello;
mod link;
mod listen;
mod peers;
#[cfg(test)]
mod replicas;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
pub mod word;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use frame::BODY_BYTES_MAX;
pub use hello::{FORMAT_VERSION, HELLO_BYTES_MAX, Hello, Identity, Lane, PROTOCOL_VERSIONS};
pub use link::REQUESTS_MAX;
pub use listen::{REQUEST_BYTES_MAX, listen, listen_with};
pub use peers::Peers;
pub use stream::{OPENING_BYTES_MAX, PeerStream, STREAMS_MAX, WINDOW_BYTES, Watched};
pub use tls::{Error as TlsError, PeerTls};

/// Replicas ask each other through here.
const _: () = assert!(raft::REQUEST_BYTES_MAX <= REQUEST_BYTES_MAX);

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a node does with its peers: the layer above.
pub trait Service: Send + Sync + 'static {
    /// May this peer talk to us? Asked at both sides' handshakes. Err(reason) is sent to the peer
    /// and logged by both.
    fn admit(&self, peer: &Hello) -> Result<(), String>;

    /// Our own hello, asked at each handshake: address and number may change when we are taken in.
    fn hello(&self) -> Hello;

    /// One request of a peer, at most [`REQUEST_BYTES_MAX`] long, and its answer, at most
    /// [`BODY_BYTES_MAX`]. Up to
    /// [`REQUESTS_MAX`] run at the same time for each connection. Once begun it runs to its end even
    /// if the connection does not; if it panics, the peer's call fails.
    fn request(
        self: Arc<Self>,
        peer: Arc<Identity>,
        lane: Lane,
        request: Bytes,
    ) -> BoxFuture<'static, Bytes>;

    /// A stream that a peer opened, with the bytes that it opened it with.
    fn stream(
        self: Arc<Self>,
        peer: Arc<Identity>,
        opening: Bytes,
        stream: PeerStream,
    ) -> BoxFuture<'static, ()>;
}

/// Why a peer gave no answer. What the caller does next depends on [`Unreachable::may_have_been_received`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// One of the two nodes does not want to talk to the other.
    #[error("node at {address}: {why}")]
    Refused {
        /// Whom we called.
        address: String,
        /// Who refuses whom, and why.
        why: String,
    },
    /// No connection could be made by the deadline.
    #[error("can't reach the node at {address}: {why}")]
    Unconnected {
        /// Whom we called.
        address: String,
        /// Why the last attempt failed.
        why: String,
    },
    /// The connection ended before the answer came.
    #[error("the connection to the node at {address} broke: {why}")]
    Broken {
        /// Whom we called.
        address: String,
        /// Why it ended.
        why: String,
    },
    /// There was no answer by the deadline.
    #[error("the node at {address} did not answer within {deadline:?}")]
    Late {
        /// Whom we called.
        address: String,
        /// How long we waited.
        deadline: Duration,
    },
    /// The peer has no answer: its service failed, or it is about to end.
    #[error("the node at {address} has no answer: {why}")]
    Failed {
        /// Whom we called.
        address: String,
        /// What it said.
        why: String,
    },
    /// The request is longer than the limit.
    #[error("a request of {bytes} bytes to the node at {address}, {bytes_max} are allowed")]
    TooLong {
        /// Whom we called.
        address: String,
        /// The request's length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

impl Unreachable {
    /// May the peer have received the request, and acted on it? If not, it can be sent elsewhere.
    pub fn may_have_been_received(&self) -> bool {
        match self {
            Unreachable::Refused { .. }
            | Unreachable::Unconnected { .. }
            | Unreachable::TooLong { .. } => false,
            Unreachable::Broken { .. } | Unreachable::Late { .. } | Unreachable::Failed { .. } => {
                true
            }
        }
    }
}

/// Times and numbers of the connections; the defaults are right for all but tests.
#[derive(Debug, Clone)]
pub struct Options {
    /// Each side asks the other for a sign of life this often.
    pub ping_every: Duration,
    /// A peer from which nothing came in so many of these intervals is gone.
    pub silent_pings_max: u32,
    /// For a connection to be made, and for a handshake.
    pub handshake_timeout: Duration,
    /// The pause before the second attempt to connect; it doubles with each failure.
    pub backoff_min: Duration,
    /// The longest of these pauses.
    pub backoff_max: Duration,
    /// Incoming connections at the same time.
    pub connections_max: usize,
    /// Incoming connections at the same time whose peers have not said who they are.
    pub strangers_max: usize,
    /// How long requests and streams may go on when the listener ends.
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            ping_every: Duration::from_secs(1),
            silent_pings_max: 3,
            handshake_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
            connections_max: 1024,
            strangers_max: 64,
            grace: Duration::from_secs(1),
        }
    }
}
