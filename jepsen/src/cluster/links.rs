//! The network between the nodes, each direction of each pair of which can be cut and healed.

use std::net::SocketAddr;

use super::namespaces::Namespaces;
use super::proxy::Proxies;
use crate::error::Result;

/// From which node to which other, by number from 0.
pub type Direction = (usize, usize);

/// How the nodes reach each other.
pub enum Links {
    /// By one TCP proxy for each pair, on loopback.
    Proxies(Proxies),
    /// Each node in a network namespace of its own (root).
    Namespaces(Namespaces),
}

/// Which kind of network to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Network {
    /// TCP proxies on loopback; no rights needed.
    Proxies,
    /// Network namespaces on a bridge; root.
    Namespaces,
}

impl Network {
    /// The word of the flag.
    pub fn word(self) -> &'static str {
        match self {
            Network::Proxies => "proxies",
            Network::Namespaces => "namespaces",
        }
    }
}

/// Where one node is.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where clients connect.
    pub clients: SocketAddr,
    /// Where it waits for its peers.
    pub peer_listen: SocketAddr,
    /// Where its peers find it.
    pub peer_advertise: SocketAddr,
    /// What goes before its command line.
    pub prefix: Vec<String>,
}

impl Links {
    /// Where each node is.
    pub fn places(&self) -> &[Place] {
        match self {
            Links::Proxies(proxies) => proxies.places(),
            Links::Namespaces(namespaces) => namespaces.places(),
        }
    }

    /// Lets nothing through in these directions until [`Links::heal`].
    pub fn cut(&self, directions: &[Direction]) -> Result<()> {
        match self {
            Links::Proxies(proxies) => proxies.cut(directions),
            Links::Namespaces(namespaces) => return namespaces.cut(directions),
        }
        Ok(())
    }

    /// Lets everything through again.
    pub fn heal(&self) -> Result<()> {
        match self {
            Links::Proxies(proxies) => proxies.heal(),
            Links::Namespaces(namespaces) => return namespaces.heal(),
        }
        Ok(())
    }

    /// How much was kept from getting through so far: bytes of proxies, packets of namespaces.
    pub fn kept(&self) -> Result<u64> {
        match self {
            Links::Proxies(proxies) => Ok(proxies.kept()),
            Links::Namespaces(namespaces) => namespaces.kept(),
        }
    }
}
