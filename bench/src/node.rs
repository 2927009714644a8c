//! A node of Freehold as a process of its own, and what it has used.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::Result;
use crate::peers::{Server, run};

/// A process that is killed when it is dropped.
pub struct Node(Child);

impl Node {
    /// Starts it, with these options beside those that every node here has. It does not wait until
    /// the node is ready.
    pub fn start(program: &Path, data: &Path, table_store: &str, options: &[&str]) -> Result<Node> {
        let spawned = Command::new(program)
            .args(["start", "--listen", "127.0.0.1:0", "--insecure"])
            .args(["--log", "warn", "--table-store", table_store])
            .args(options)
            .arg("--data")
            .arg(data)
            .stdout(Stdio::piped())
            .spawn();
        let spawned = spawned.map_err(|e| format!("{}: {e}", program.display()))?;
        Ok(Node(spawned))
    }

    /// Waits until it says where it listens, which it does once.
    pub fn ready(&mut self) -> Result<Server> {
        let out = self.0.stdout.take().ok_or("no standard output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let port = line.trim().rsplit(':').next().and_then(|p| p.parse().ok());
        Ok(Server {
            name: "freehold",
            port: port.ok_or_else(|| format!("a node did not start: {line:?}"))?,
            database: "freehold",
        })
    }

    /// Every other process goes first from now on: what it costs this machine is what they leave.
    pub fn step_back(&self) -> Result<()> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0.id()))?;
        let tasks = tasks.collect::<std::io::Result<Vec<_>>>()?;
        for task in tasks {
            let mut chrt = Command::new("chrt");
            chrt.args(["--idle", "--pid", "0"]).arg(task.file_name());
            run(&mut chrt)?;
        }
        Ok(())
    }

    /// CPU seconds (user and system) so far.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let behind_name = stat.rsplit(')').next().unwrap_or("");
        let fields: Vec<&str> = behind_name.split_whitespace().collect();
        let mut ticks = 0.0;
        for at in [11, 12] {
            ticks += fields.get(at).ok_or("stat")?.parse::<f64>()?;
        }
        Ok(ticks / 100.0)
    }

    /// The most resident memory so far, in kB.
    pub fn peak_kb(&self) -> Result<u64> {
        self.status_kb("VmHWM:")
    }

    /// Resident memory that belongs to no file, in kB.
    pub fn anonymous_kb(&self) -> Result<u64> {
        self.status_kb("RssAnon:")
    }

    /// A line of the process's status.
    fn status_kb(&self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find(|line| line.starts_with(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(number.ok_or_else(|| format!("no {name}"))?.parse()?)
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// Asks it to take its leave.
    pub fn ask_to_end(&self) -> Result<()> {
        run(Command::new("kill").arg(self.0.id().to_string()))
    }

    /// Waits until it has ended.
    pub fn await_end(&mut self) -> Result<()> {
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Ending a benchmark must not hide its result.
        let _ = self.kill();
    }
}
