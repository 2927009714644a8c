//! The way to the other nodes, as the gateway uses it.

use bytes::Bytes;
use std::sync::Arc;

use wire::{Link, LinkWatch};

use crate::peer::{BoxFuture, PeerStream, Unreachable};

/// The other nodes.
pub trait Nodes: Send + Sync + 'static {
    /// Opens a stream to a node.
    fn open(
        self: Arc<Self>,
        node: u32,
        opening: Bytes,
    ) -> BoxFuture<'static, Result<PeerStream, Unreachable>>;

    /// Sends a request to a node.
    fn call(
        self: Arc<Self>,
        node: u32,
        request: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Unreachable>>;
}

/// There are none.
pub struct Alone;

impl Alone {
    fn unknown<T: Send + 'static>(node: u32) -> BoxFuture<'static, Result<T, Unreachable>> {
        Box::pin(std::future::ready(Err(Unreachable::Unconnected {
            address: format!("node {node}"),
            why: "this node is alone".into(),
        })))
    }
}

impl Nodes for Alone {
    fn open(
        self: Arc<Self>,
        node: u32,
        _: Bytes,
    ) -> BoxFuture<'static, Result<PeerStream, Unreachable>> {
        Alone::unknown(node)
    }

    fn call(
        self: Arc<Self>,
        node: u32,
        _: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Unreachable>> {
        Alone::unknown(node)
    }
}

impl Link for PeerStream {
    fn watch(&self) -> LinkWatch {
        let watched = self.watched();
        Arc::new(move || Box::pin(watched.gone()))
    }
}
