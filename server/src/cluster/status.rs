//! The nodes of the cluster as this one sees them, for the views and for who hands over.

use std::time::Duration;

use sql::catalog::{Catalog, Node, NodeState};
use tokio::time::Instant;

use super::Cluster;

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its number.
    pub number: u32,
    /// Where other nodes reach it; `None`: nowhere.
    pub address: Option<String>,
    /// Where clients reach it.
    pub client_address: String,
    /// Where it stands: `region=eu,zone=a`.
    pub locality: String,
    /// `active`, `draining`, `silent`, `gone`.
    pub state: &'static str,
    /// It is this one.
    pub is_self: bool,
    /// How long it took to answer this one's last question.
    pub round_trip: Option<Duration>,
    /// How long ago it was heard of.
    pub silence: Option<Duration>,
}

impl Cluster {
    /// All nodes that ever were in the cluster, by number. One that is alone, and in no directory,
    /// knows itself.
    pub fn nodes(&self, catalog: &Catalog) -> Vec<NodeStatus> {
        let mut nodes: Vec<Node> = catalog.nodes().map(|node| (**node).clone()).collect();
        let me = self.me();
        if nodes.iter().all(|node| node.number != me) {
            nodes.push(Node {
                number: me,
                incarnation: String::new(),
                address: self.place.address.clone(),
                client_address: self.place.client_address.clone(),
                locality: self.place.locality.clone(),
                state: NodeState::Active,
            });
        }
        nodes.into_iter().map(|node| self.status_of(node)).collect()
    }

    fn status_of(&self, node: Node) -> NodeStatus {
        let is_self = node.number == self.me();
        let silence = match is_self {
            true => Some(Duration::ZERO),
            false => self.heard.silence(node.number),
        };
        let locality: Vec<String> = node
            .locality
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        NodeStatus {
            number: node.number,
            state: self.state_of(&node),
            is_self,
            round_trip: self.heard.round_trip(node.number),
            silence,
            address: self.address(node.number).or_else(|| {
                let known = !node.address.is_empty();
                known.then(|| node.address.clone())
            }),
            client_address: node.client_address,
            locality: locality.join(","),
        }
    }

    fn state_of(&self, node: &Node) -> &'static str {
        match node.state {
            NodeState::Gone => NodeState::Gone.name(),
            NodeState::Active | NodeState::Draining if !self.is_live(node.number) => "silent",
            NodeState::Active if self.drains(node.number) => NodeState::Draining.name(),
            NodeState::Active | NodeState::Draining => node.state.name(),
        }
    }

    /// Does a node answer?
    pub fn is_live(&self, node: u32) -> bool {
        node == self.me() || self.heard.live(Instant::now()).contains(&node)
    }

    fn drains(&self, node: u32) -> bool {
        match node == self.me() {
            true => self.parts().is_some_and(|parts| parts.raft.abstains()),
            false => self.heard.is_draining(node),
        }
    }

    /// May a group be handed to a node, as far as this one knows?
    pub fn can_lead(&self, node: u32) -> bool {
        self.is_live(node) && !self.drains(node)
    }
}
