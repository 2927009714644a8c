//! Three nodes as processes of their own, each killed and started again by its number.

use std::net::TcpListener;
use std::path::Path;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::Failure;
use crate::cluster::local::{self, ClusterFlags, READY};

/// How many nodes there are.
pub const NODES: u16 = 3;
/// The port for other nodes lies so far behind the one for clients.
const PEER_PORT: u16 = 2000;
/// Ports that are looked for lie here, below those that the system gives to clients: a node that is
/// down finds its own again.
const FREE_PORTS: std::ops::Range<u16> = 12_000..30_000;

/// The processes.
pub struct Nodes {
    flags: ClusterFlags,
    children: Vec<Child>,
}

impl Nodes {
    /// Starts all of them in folders below this one; returns when clients can connect.
    ///
    /// # Errors
    /// A port is taken; there has been a cluster already.
    pub async fn start(data: &Path, port: u16) -> Result<Nodes, Failure> {
        if data.join("n1").exists() {
            let path = data.display();
            let why = format!("{path} holds a node already: give the demo a folder of its own");
            return Err(why.into());
        }
        let port = if port == 0 { free_port()? } else { port };
        let flags = ClusterFlags {
            nodes: NODES,
            data: data.to_owned(),
            port,
            peer_port: port
                .checked_add(PEER_PORT)
                .ok_or("the ports end at 65535")?,
            rest: vec!["--log=error".into()],
        };
        let mut nodes = Nodes {
            flags,
            children: Vec::new(),
        };
        for number in 1..=NODES {
            let child = nodes.spawn(number).await?;
            nodes.children.push(child);
        }
        Ok(nodes)
    }

    /// The nodes' ports for clients.
    pub fn ports(&self) -> Vec<u16> {
        (self.flags.port..).take(self.children.len()).collect()
    }

    /// Their processes.
    pub fn processes(&self) -> Vec<u32> {
        self.children.iter().filter_map(Child::id).collect()
    }

    /// Kill -9.
    pub async fn kill(&mut self, number: u16) -> Result<(), Failure> {
        Ok(self.child(number).kill().await?)
    }

    /// Starts a killed one again; returns when clients can connect.
    pub async fn start_again(&mut self, number: u16) -> Result<(), Failure> {
        *self.child(number) = self.spawn(number).await?;
        Ok(())
    }

    /// Ends all of them in order.
    pub async fn stop(&mut self) -> Result<(), Failure> {
        self.children.iter().for_each(local::ask_to_end);
        for child in &mut self.children {
            child.wait().await?;
        }
        Ok(())
    }

    fn child(&mut self, number: u16) -> &mut Child {
        &mut self.children[usize::from(number) - 1]
    }

    async fn spawn(&self, number: u16) -> Result<Child, Failure> {
        let mut command = local::command(&self.flags, number)?;
        let mut child = command.stderr(std::process::Stdio::inherit()).spawn()?;
        let out = child.stdout.take().ok_or("a node has no output")?;
        let mut lines = BufReader::new(out).lines();
        while let Some(line) = lines.next_line().await? {
            if line.starts_with(READY) {
                // Whatever it says later finds somebody who reads.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Ok(child);
            }
        }
        let status = child.wait().await?;
        Err(format!("node {number} has ended: {status}; see above").into())
    }
}

/// The first of three ports that are free, and of three for other nodes.
fn free_port() -> Result<u16, Failure> {
    // Whoever runs beside this process begins elsewhere.
    let first = std::process::id() as usize * 101;
    let all = FREE_PORTS.cycle().skip(first % FREE_PORTS.len());
    let all = all.step_by(NODES.into()).take(FREE_PORTS.len());
    let is_free = |port: &u16| {
        let clients = *port..*port + NODES;
        let mut both = clients.flat_map(|port| [port, port + PEER_PORT]);
        both.all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
    };
    let mut free = all.into_iter().filter(is_free);
    Ok(free.next().ok_or("no ports are free")?)
}
