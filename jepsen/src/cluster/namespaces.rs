//! The network of root: each node in a network namespace of its own, all of them on a bridge in
//! another one, this process on it with one address. A direction is closed by a policy in the
//! receiver's namespace that drops the sender's packets (`ip xfrm`, no kernel module to load), and
//! the kernel counts what it drops.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::links::{Direction, Place};
use crate::error::{Error, Result};

/// Where each node waits for clients, and for its peers.
const CLIENT_PORT: u16 = 5432;
const PEER_PORT: u16 = 7432;

/// The namespaces of a cluster; they go when it is dropped.
pub struct Namespaces {
    name: String,
    addresses: Vec<Ipv4Addr>,
    places: Vec<Place>,
}

/// Tells apart the clusters of one process.
static MADE: AtomicU32 = AtomicU32::new(0);

impl Namespaces {
    /// Namespaces for `count` nodes.
    pub fn make(count: usize) -> Result<Namespaces> {
        // Interface names have 15 characters at most; networks of other processes differ.
        let unique = std::process::id().wrapping_add(MADE.fetch_add(1, Ordering::Relaxed) * 7);
        let (name, third) = (format!("jp{}", unique % 100_000), (unique % 200 + 20) as u8);
        let address = |host: usize| Ipv4Addr::new(10, 77, third, host as u8);
        let addresses: Vec<Ipv4Addr> = (1..=count).map(address).collect();
        let place = |(number, address): (usize, &Ipv4Addr)| Place {
            clients: SocketAddr::from((*address, CLIENT_PORT)),
            peer_listen: SocketAddr::from((*address, PEER_PORT)),
            peer_advertise: SocketAddr::from((*address, PEER_PORT)),
            prefix: ["ip", "netns", "exec", &node_name(&name, number)]
                .map(String::from)
                .to_vec(),
        };
        let places = addresses.iter().enumerate().map(place).collect();
        let made = Namespaces {
            name,
            addresses,
            places,
        };
        made.build(address(254))?;
        Ok(made)
    }

    fn build(&self, own: Ipv4Addr) -> Result<()> {
        let switch = format!("{}s", self.name);
        let (root_end, switch_end) = (format!("{}r", self.name), "pr".to_owned());
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "br0", "up"])?;
        ip(&[
            "link",
            "add",
            &root_end,
            "type",
            "veth",
            "peer",
            "name",
            &switch_end,
            "netns",
            &switch,
        ])?;
        ip(&["addr", "add", &format!("{own}/24"), "dev", &root_end])?;
        ip(&["link", "set", &root_end, "up"])?;
        ip(&[
            "-n",
            &switch,
            "link",
            "set",
            &switch_end,
            "master",
            "br0",
            "up",
        ])?;
        for (number, address) in self.addresses.iter().enumerate() {
            let (node, end) = (node_name(&self.name, number), format!("p{number}"));
            ip(&["netns", "add", &node])?;
            ip(&[
                "-n", &switch, "link", "add", &end, "type", "veth", "peer", "name", "v", "netns",
                &node,
            ])?;
            ip(&["-n", &switch, "link", "set", &end, "master", "br0", "up"])?;
            ip(&[
                "-n",
                &node,
                "addr",
                "add",
                &format!("{address}/24"),
                "dev",
                "v",
            ])?;
            ip(&["-n", &node, "link", "set", "v", "up"])?;
            ip(&["-n", &node, "link", "set", "lo", "up"])?;
        }
        Ok(())
    }

    /// Where each node is.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Closes these directions, too.
    pub fn cut(&self, directions: &[Direction]) -> Result<()> {
        for (from, to) in directions {
            let (source, target) = (self.addresses[*from], self.addresses[*to]);
            let (source, target) = (format!("{source}/32"), format!("{target}/32"));
            let node = node_name(&self.name, *to);
            let policy = [
                "dir", "in", "src", &source, "dst", &target, "action", "block",
            ];
            // Closing a closed direction is no error: an update makes what isn't there.
            ip(&[&["-n", &node, "xfrm", "policy", "update"], &policy[..]].concat())?;
        }
        Ok(())
    }

    /// Opens all directions.
    pub fn heal(&self) -> Result<()> {
        (0..self.addresses.len()).try_for_each(|number| {
            ip(&[
                "-n",
                &node_name(&self.name, number),
                "xfrm",
                "policy",
                "flush",
            ])
        })
    }

    /// Packets that were dropped so far.
    pub fn kept(&self) -> Result<u64> {
        let mut sum = 0;
        for number in 0..self.addresses.len() {
            let node = node_name(&self.name, number);
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &node, "cat", "/proc/net/xfrm_stat"]);
            let said = command.output()?;
            sum += dropped(&String::from_utf8_lossy(&said.stdout));
        }
        Ok(sum)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        let root_end = format!("{}r", self.name);
        drop(ip(&["link", "del", &root_end]));
        for number in 0..self.addresses.len() {
            drop(ip(&["netns", "del", &node_name(&self.name, number)]));
        }
        drop(ip(&["netns", "del", &format!("{}s", self.name)]));
    }
}

fn node_name(name: &str, number: usize) -> String {
    format!("{name}n{}", number + 1)
}

/// The kernel's count of packets that a policy has blocked.
fn dropped(statistics: &str) -> u64 {
    let count = |line: &str| line.strip_prefix("XfrmInPolBlock")?.trim().parse().ok();
    statistics.lines().find_map(count).unwrap_or(0)
}

fn ip(words: &[&str]) -> Result<()> {
    let said = Command::new("ip")
        .args(words)
        .output()
        .map_err(|error| Error::Setup(format!("ip: {error}")))?;
    if said.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&said.stderr);
    Err(Error::Setup(format!(
        "ip {}: {}",
        words.join(" "),
        why.trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_packets_are_read() {
        let statistics = "XfrmInNoPols            \t0\nXfrmInPolBlock          \t42\n";
        assert_eq!(dropped(statistics), 42);
        assert_eq!(dropped(""), 0);
    }
}
