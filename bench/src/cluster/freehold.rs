//! Three nodes of Freehold that form a cluster on loopback.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio_postgres::NoTls;

use crate::node::Node;
use crate::peers::{Server, free_port};
use crate::{Options, Result};

/// Nodes.
const COUNT: usize = 3;

/// Longest wait for all nodes to have all groups.
const WHOLE_MAX: Duration = Duration::from_secs(60);

/// The nodes; they end when it is dropped.
pub struct Nodes {
    program: PathBuf,
    folder: PathBuf,
    table_store: String,
    /// How they call each other.
    peers: Vec<String>,
    processes: Vec<Node>,
    servers: Vec<Server>,
}

impl Nodes {
    /// Starts three nodes below `folder` and waits until all of them have what there is.
    pub fn start(program: &Path, folder: &Path, options: &Options) -> Result<Nodes> {
        let mut nodes = Nodes {
            program: program.to_owned(),
            folder: folder.to_owned(),
            table_store: options.table_store.clone(),
            peers: Vec::new(),
            processes: Vec::new(),
            servers: Vec::new(),
        };
        nodes.join(COUNT)?;
        Ok(nodes)
    }

    /// So many more nodes, one after the other.
    pub fn join(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            self.peers.push(format!("127.0.0.1:{}", free_port()?));
            let process = self.spawn(self.peers.len() - 1)?;
            self.processes.push(process);
            let last = self.processes.last_mut().ok_or("no process")?;
            self.servers.push(last.ready()?);
        }
        Ok(())
    }

    /// The nodes that joined later let all other processes go first.
    pub fn later_step_back(&self) -> Result<()> {
        self.processes[COUNT..].iter().try_for_each(Node::step_back)
    }

    /// Ends the nodes that joined later; they take their leave.
    pub fn part(&mut self) -> Result<()> {
        let later = self.processes.split_off(COUNT);
        self.peers.truncate(COUNT);
        self.servers.truncate(COUNT);
        for process in &later {
            process.ask_to_end()?;
        }
        for mut process in later {
            process.await_end()?;
        }
        Ok(())
    }

    /// Kills all nodes and starts them again at once; seconds until each was ready.
    pub fn restart(&mut self) -> Result<Vec<f64>> {
        for process in &mut self.processes {
            process.kill()?;
        }
        let begun = Instant::now();
        self.processes = (0..self.peers.len())
            .map(|number| self.spawn(number))
            .collect::<Result<_>>()?;
        let mut seconds = Vec::new();
        for (process, server) in self.processes.iter_mut().zip(&mut self.servers) {
            *server = process.ready()?;
            seconds.push(begun.elapsed().as_secs_f64());
        }
        Ok(seconds)
    }

    fn spawn(&self, number: usize) -> Result<Node> {
        let data = self.folder.join(format!("node-{}", number + 1));
        fs::create_dir_all(&data)?;
        let mut options = vec!["--peer-listen", &self.peers[number]];
        if number > 0 {
            options.extend(["--join", &self.peers[0]]);
        }
        Node::start(&self.program, &data, &self.table_store, &options)
    }

    /// All nodes.
    pub fn all(&self) -> &[Server] {
        &self.servers
    }

    /// Any node.
    pub fn any(&self) -> &Server {
        &self.servers[0]
    }

    /// The node that leads the group of `postgres`, once all nodes have that group.
    pub fn home(&self) -> Result<&Server> {
        Ok(&self.servers[self.home_number()?])
    }

    /// A node that does not lead it.
    pub fn away(&self) -> Result<&Server> {
        Ok(&self.servers[(self.home_number()? + 1) % COUNT])
    }

    /// The number of the node that leads the group of `postgres`.
    pub fn home_number(&self) -> Result<usize> {
        self.home_of("postgres")
    }

    /// The number of the node that leads an owner's group, once all nodes have that group.
    pub fn home_of(&self, owner: &str) -> Result<usize> {
        let end = Instant::now() + WHOLE_MAX;
        loop {
            let mut told = Vec::new();
            for server in &self.servers[..COUNT] {
                told.push(leads(server, owner)?);
            }
            let leader = told.iter().position(|leads| *leads == Some(true));
            if let Some(leader) = leader.filter(|_| told.iter().all(Option::is_some)) {
                return Ok(leader);
            }
            if Instant::now() > end {
                return Err(format!("not all nodes have the group: {told:?}").into());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// CPU seconds (user and system) of all nodes so far.
    pub fn cpu_seconds(&self) -> Result<f64> {
        (0..self.processes.len())
            .map(|number| self.cpu_seconds_of(number))
            .sum()
    }

    /// The same of one node.
    pub fn cpu_seconds_of(&self, number: usize) -> Result<f64> {
        self.processes[number].cpu_seconds()
    }

    /// Resident memory of one node that belongs to no file, in MB.
    pub fn anonymous_mb_of(&self, number: usize) -> Result<u64> {
        Ok(self.processes[number].anonymous_kb()? / 1024)
    }

    /// The most resident memory of all nodes together so far, in MB.
    pub fn peak_mb(&self) -> Result<u64> {
        let mut sum = 0;
        for process in &self.processes {
            sum += process.peak_kb()?;
        }
        Ok(sum / 1024)
    }
}

/// Whether a node leads the group of an owner; `None` if it hasn't got it.
fn leads(server: &Server, owner: &str) -> Result<Option<bool>> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await?;
        tokio::spawn(connection);
        let sql = "SELECT leads FROM freehold.groups WHERE owner = $1";
        let row = client.query_opt(sql, &[&owner]).await?;
        Ok(row.map(|row| row.get(0)))
    })
}
