//! Three nodes of Freehold that form a cluster on loopback.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio_postgres::NoTls;

use crate::peers::Server;
use crate::{Options, Result};

/// Nodes.
const COUNT: usize = 3;

/// Longest wait for all nodes to have all groups.
const WHOLE_MAX: Duration = Duration::from_secs(60);

/// The nodes; they end when it is dropped.
pub struct Nodes {
    processes: Vec<Child>,
    servers: Vec<Server>,
}

impl Nodes {
    /// Starts three nodes below `folder` and waits until all of them have what there is.
    pub fn start(program: &Path, folder: &Path, options: &Options) -> Result<Nodes> {
        let mut nodes = Nodes {
            processes: Vec::new(),
            servers: Vec::new(),
        };
        let mut peers: Vec<String> = Vec::new();
        for _ in 0..COUNT {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            peers.push(format!("127.0.0.1:{port}"));
        }
        for (number, peer) in peers.iter().enumerate() {
            let mut command = Command::new(program);
            command.args([
                "start",
                "--listen",
                "127.0.0.1:0",
                "--insecure",
                "--log",
                "warn",
            ]);
            command.args(["--table-store", &options.table_store, "--peer-listen", peer]);
            if number > 0 {
                command.args(["--join", &peers[0]]);
            }
            let data = folder.join(format!("node-{}", number + 1));
            fs::create_dir_all(&data)?;
            command.arg("--data").arg(data).stdout(Stdio::piped());
            let mut process = command
                .spawn()
                .map_err(|e| format!("{}: {e}", program.display()))?;
            let out = process.stdout.take().ok_or("no standard output")?;
            nodes.processes.push(process);
            let mut line = String::new();
            BufReader::new(out).read_line(&mut line)?;
            let port = line
                .trim()
                .rsplit(':')
                .next()
                .and_then(|port| port.parse().ok());
            nodes.servers.push(Server {
                name: "freehold",
                port: port.ok_or_else(|| format!("a node did not start: {line:?}"))?,
                database: "freehold",
            });
        }
        Ok(nodes)
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

    fn home_number(&self) -> Result<usize> {
        let end = Instant::now() + WHOLE_MAX;
        loop {
            let mut leads = Vec::new();
            for server in &self.servers {
                leads.push(leads_postgres(server)?);
            }
            let leader = leads.iter().position(|leads| *leads == Some(true));
            if let Some(leader) = leader.filter(|_| leads.iter().all(Option::is_some)) {
                return Ok(leader);
            }
            if Instant::now() > end {
                return Err(format!("not all nodes have the group: {leads:?}").into());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// CPU seconds (user and system) of all nodes so far.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let mut ticks = 0.0;
        for process in &self.processes {
            let stat = fs::read_to_string(format!("/proc/{}/stat", process.id()))?;
            let fields: Vec<&str> = stat
                .rsplit(')')
                .next()
                .unwrap_or("")
                .split_whitespace()
                .collect();
            for at in [11, 12] {
                ticks += fields.get(at).ok_or("stat")?.parse::<f64>()?;
            }
        }
        Ok(ticks / 100.0)
    }

    /// The most resident memory of all nodes together so far, in MB.
    pub fn peak_mb(&self) -> Result<u64> {
        let mut sum = 0;
        for process in &self.processes {
            let status = fs::read_to_string(format!("/proc/{}/status", process.id()))?;
            let line = status
                .lines()
                .find(|l| l.starts_with("VmHWM:"))
                .ok_or("no VmHWM")?;
            sum += line
                .split_whitespace()
                .nth(1)
                .ok_or("no number")?
                .parse::<u64>()?;
        }
        Ok(sum / 1024)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // Ending a benchmark must not hide its result.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Whether a node leads the group of `postgres`; `None` if it hasn't got it.
fn leads_postgres(server: &Server) -> Result<Option<bool>> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await?;
        tokio::spawn(connection);
        let sql = "SELECT leads FROM freehold.groups WHERE owner = 'postgres'";
        let row = client.query_opt(sql, &[]).await?;
        Ok(row.map(|row| row.get(0)))
    })
}
