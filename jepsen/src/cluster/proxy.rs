//! The rootless network: a TCP proxy in front of each node's peer address. Who calls is found out by
//! the process that owns the calling socket, so that each direction of each pair has a gate of its
//! own. What comes to a closed gate waits there, as retransmissions would, and goes on afterwards.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::links::{Direction, Place};
use crate::error::Result;
use crate::processes;
use crate::victim::free_port;

/// Bytes that are passed on at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// The proxies of a cluster; they end when it is dropped.
pub struct Proxies {
    places: Vec<Place>,
    gates: Arc<Gates>,
    _tasks: JoinSet<()>,
}

/// Which directions are closed, and what has waited before them.
struct Gates {
    closed: watch::Sender<Vec<Direction>>,
    kept: AtomicU64,
}

impl Gates {
    /// Returns when the direction is open; `bytes` are what waits.
    async fn pass(&self, direction: Direction, bytes: usize) {
        let mut closed = self.closed.subscribe();
        let is_open = |closed: &Vec<Direction>| !closed.contains(&direction);
        if !is_open(&closed.borrow_and_update()) {
            self.kept.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        // The sender lives as long as this.
        drop(closed.wait_for(is_open).await);
    }
}

impl Proxies {
    /// One proxy before each node; `data` are the nodes' folders, by which their processes are known.
    pub async fn make(data: &[PathBuf]) -> Result<Proxies> {
        let gates = Arc::new(Gates {
            closed: watch::Sender::new(Vec::new()),
            kept: AtomicU64::new(0),
        });
        let (mut places, mut tasks) = (Vec::new(), JoinSet::new());
        let data: Arc<[PathBuf]> = data.into();
        for to in 0..data.len() {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let here = |port| SocketAddr::from(([127, 0, 0, 1], port));
            let place = Place {
                clients: here(free_port()?),
                peer_listen: here(free_port()?),
                peer_advertise: listener.local_addr()?,
                prefix: Vec::new(),
            };
            let proxy = Proxy {
                to,
                target: place.peer_listen,
                data: data.clone(),
                gates: gates.clone(),
            };
            tasks.spawn(proxy.serve(listener));
            places.push(place);
        }
        Ok(Proxies {
            places,
            gates,
            _tasks: tasks,
        })
    }

    /// Where each node is.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Closes these directions, too.
    pub fn cut(&self, directions: &[Direction]) {
        self.gates
            .closed
            .send_modify(|closed| closed.extend(directions));
    }

    /// Opens all directions.
    pub fn heal(&self) {
        self.gates.closed.send_modify(Vec::clear);
    }

    /// Bytes that have waited before a closed gate so far.
    pub fn kept(&self) -> u64 {
        self.gates.kept.load(Ordering::Relaxed)
    }
}

/// What stands before one node.
#[derive(Clone)]
struct Proxy {
    to: usize,
    target: SocketAddr,
    data: Arc<[PathBuf]>,
    gates: Arc<Gates>,
}

impl Proxy {
    async fn serve(self, listener: TcpListener) {
        // Dropped with the set, as are all connections.
        let mut connections = JoinSet::new();
        loop {
            if let Ok((from, address)) = listener.accept().await {
                connections.spawn(self.clone().connect(from, address));
            }
            while connections.try_join_next().is_some() {}
        }
    }

    /// Passes one connection on, in both directions, until it ends.
    async fn connect(self, near: TcpStream, address: SocketAddr) {
        let data = self.data.clone();
        let caller = tokio::task::spawn_blocking(move || node_behind(address, &data)).await;
        let Ok(Some(from)) = caller else {
            return;
        };
        // The first packet must get there, and its answer back.
        self.gates.pass((from, self.to), 1).await;
        self.gates.pass((self.to, from), 0).await;
        let Ok(far) = TcpStream::connect(self.target).await else {
            return;
        };
        // Small messages must not wait for others; without it the connection still works.
        drop((near.set_nodelay(true), far.set_nodelay(true)));
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        let there = pump(near_read, far_write, &self.gates, (from, self.to));
        let back = pump(far_read, near_write, &self.gates, (self.to, from));
        tokio::join!(there, back);
    }
}

/// Passes bytes on until an end is gone.
async fn pump(
    mut read: OwnedReadHalf,
    mut write: OwnedWriteHalf,
    gates: &Gates,
    direction: Direction,
) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(bytes) = read.read(&mut chunk).await {
        gates.pass(direction, bytes.max(1)).await;
        if bytes == 0 || write.write_all(&chunk[..bytes]).await.is_err() {
            return;
        }
    }
}

/// The node whose process owns the socket at `address`: the one with its folder on the command line.
fn node_behind(address: SocketAddr, data: &[PathBuf]) -> Option<usize> {
    let inode = processes::socket_inode(address)?;
    let children = processes::descendants(std::process::id());
    let owner = children
        .into_iter()
        .find(|pid| processes::has_socket(*pid, inode))?;
    let words = processes::command_line(owner);
    data.iter()
        .position(|folder| words.iter().any(|word| folder.as_os_str() == word.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two ends of a connection whose bytes pass a gate.
    async fn gated() -> (TcpStream, TcpStream, Arc<Gates>, JoinSet<()>) {
        let gates = Arc::new(Gates {
            closed: watch::Sender::new(Vec::new()),
            kept: AtomicU64::new(0),
        });
        let pair = || async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
            (one.unwrap(), other.unwrap().0)
        };
        let (near, near_far) = pair().await;
        let (far_near, far) = pair().await;
        let mut tasks = JoinSet::new();
        let (read, back) = near_far.into_split();
        let (back_read, write) = far_near.into_split();
        for (read, write, direction) in [(read, write, (0, 1)), (back_read, back, (1, 0))] {
            let gates = gates.clone();
            tasks.spawn(async move { pump(read, write, &gates, direction).await });
        }
        (near, far, gates, tasks)
    }

    #[tokio::test]
    async fn a_closed_direction_keeps_its_bytes_and_the_other_goes_on() {
        let (mut near, mut far, gates, _tasks) = gated().await;
        gates.closed.send_modify(|closed| closed.push((0, 1)));
        near.write_all(b"kept").await.unwrap();
        far.write_all(b"free").await.unwrap();
        let mut read = [0; 4];
        near.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"free");
        // Without a clock: what waits is counted when it is at the gate.
        while gates.kept.load(Ordering::Relaxed) < 4 {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            far.try_read(&mut read).unwrap_err().kind(),
            std::io::ErrorKind::WouldBlock
        );
        gates.closed.send_modify(Vec::clear);
        far.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"kept");
    }

    #[tokio::test]
    async fn a_caller_is_known_by_its_process() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let port = target.port().to_string();
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; read -u 3 end # $1");
        let mut child = tokio::process::Command::new("bash");
        child.args(["-c", &script, "bash", "/some/node-2"]);
        let mut child = child.kill_on_drop(true).spawn().unwrap();
        let (_open, address) = listener.accept().await.unwrap();
        let data = [PathBuf::from("/some/node-1"), PathBuf::from("/some/node-2")];
        assert_eq!(node_behind(address, &data), Some(1));
        assert_eq!(node_behind(target, &data), None);
        child.kill().await.unwrap();
    }
}
