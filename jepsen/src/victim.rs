//! The server under test: a real process on a folder of its own, reached by its socket only.
//!
//! PostgreSQL can stand in for Freehold: what the harness must not find in a database of proven
//! durability, and must find in the same one with fsync off, is the harness's own test.

use std::fs::OpenOptions;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::error::{Error, Result};
use crate::link::{Address, Link, Protocol};
use crate::processes;

/// Longest wait for the server to serve after a start; recovery included.
const READY_MAX: Duration = Duration::from_secs(60);

/// Longest wait for a graceful end.
const STOP_MAX: Duration = Duration::from_secs(60);

/// What Freehold prints when it serves.
const READY: &str = "freehold is ready on ";
/// Where servers listen, below the ports of clients (from 32768 on).
const SERVER_PORT_MIN: u16 = 12_000;
const SERVER_PORTS: u16 = 20_000;

/// Which program is under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Freehold.
    Freehold,
    /// PostgreSQL, to test the harness.
    Postgres,
}

/// Where Freehold keeps its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Store {
    /// lsm-tree.
    Lsm,
    /// sled.
    Sled,
}

impl Store {
    /// The word of the flag.
    pub fn word(self) -> &'static str {
        match self {
            Store::Lsm => "lsm",
            Store::Sled => "sled",
        }
    }
}

/// How to run the server.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which program.
    pub kind: Kind,
    /// Its executable; for PostgreSQL the folder of its executables.
    pub program: PathBuf,
    /// Table store (Freehold).
    pub store: Store,
    /// Additional flags: Freehold's own, or `name=value` settings of PostgreSQL.
    pub options: Vec<String>,
    /// The fault built into a sabotage build.
    pub sabotage: Option<String>,
    /// Where clients are to connect; port 0 for any.
    pub listen: SocketAddr,
    /// What all roles have; without one the server is `--insecure`.
    pub password: Option<&'static str>,
    /// The command line that goes before the server's, and is replaced by it (`ip netns exec N`).
    pub prefix: Vec<String>,
}

/// Any free port of 127.0.0.1.
pub const ANY_PORT: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(
    std::net::Ipv4Addr::LOCALHOST,
    0,
));

/// A command under which the server runs, with where it writes its trace.
#[derive(Clone, Debug)]
pub struct Tracer {
    /// The command line that goes before the server's.
    pub command: Vec<String>,
}

/// The two ends of a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// SIGSTOP.
    Begin,
    /// SIGCONT.
    End,
}

/// The server process and its folder.
pub struct Victim {
    plan: Plan,
    data: PathBuf,
    log: PathBuf,
    tracer: Option<Tracer>,
    child: Option<Child>,
    address: Option<Address>,
}

impl Victim {
    /// A server that is not started, on `data`; both outputs go to the end of `log`.
    pub fn new(plan: Plan, data: PathBuf, log: PathBuf) -> Victim {
        Victim {
            plan,
            data,
            log,
            tracer: None,
            child: None,
            address: None,
        }
    }

    /// Runs the server under a tracer from the next start on.
    pub fn trace(&mut self, tracer: Option<Tracer>) {
        self.tracer = tracer;
    }

    /// The server's own folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Makes the folder ready for the first start.
    pub async fn create(&self) -> Result<()> {
        match self.plan.kind {
            Kind::Freehold => Ok(std::fs::create_dir_all(&self.data)?),
            Kind::Postgres => self.initdb().await,
        }
    }

    /// Starts the server and waits until it serves.
    pub async fn start(&mut self) -> Result<Address> {
        let address = match self.plan.kind {
            Kind::Freehold => self.start_freehold().await?,
            Kind::Postgres => self.start_postgres().await?,
        };
        self.address = Some(address.clone());
        Ok(address)
    }

    /// Starts the server and doesn't wait: for kills in the middle of recovery.
    pub fn launch(&mut self) -> Result<()> {
        let mut command = match self.plan.kind {
            Kind::Freehold => self.freehold_command(),
            Kind::Postgres => self.postgres_command(free_port()?)?,
        };
        command
            .stdin(Stdio::null())
            .stdout(self.log_file()?)
            .stderr(self.log_file()?);
        self.child = Some(
            command
                .kill_on_drop(true)
                .spawn()
                .map_err(|e| self.not_started(e))?,
        );
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> Result<Address> {
        self.address
            .clone()
            .ok_or_else(|| Error::Setup("the server isn't started".into()))
    }

    /// Whether its process runs.
    pub fn is_running(&self) -> bool {
        self.pids()
            .first()
            .is_some_and(|pid| processes::is_running(*pid))
    }

    /// SIGKILL to the server and all its processes; whether it was running until then.
    pub async fn kill(&mut self) -> Result<bool> {
        let pids = self.pids();
        let was_running = self.is_running();
        // A tracer must outlive what it traces, or its last lines are missing.
        let spared = usize::from(self.tracer.is_some()).min(pids.len());
        for pid in &pids[spared..] {
            processes::signal(*pid, Signal::KILL);
        }
        let gone = processes::gone(&pids[spared..]).await;
        self.reap().await?;
        if !gone {
            return Err(Error::Setup("a killed process did not go away".into()));
        }
        Ok(was_running)
    }

    /// Stops the process where it is (SIGSTOP) or lets it go on; whether it was there.
    pub fn pause(&self, on: Pause) -> bool {
        let signal = match on {
            Pause::Begin => Signal::STOP,
            Pause::End => Signal::CONT,
        };
        let pids = self.pids();
        let sent = pids.iter().filter(|pid| processes::signal(**pid, signal));
        sent.count() > 0
    }

    /// Asks it to end and waits for that.
    pub async fn stop(&mut self) -> Result<()> {
        let Some(pid) = self.pids().get(usize::from(self.tracer.is_some())).copied() else {
            return Ok(());
        };
        // PostgreSQL's "fast" shutdown is SIGINT; Freehold ends gracefully on both.
        let signal = if self.plan.kind == Kind::Postgres {
            Signal::INT
        } else {
            Signal::TERM
        };
        processes::signal(pid, signal);
        let Some(child) = self.child.as_mut() else {
            return Ok(());
        };
        let ended = timeout(STOP_MAX, child.wait()).await;
        self.address = None;
        match ended {
            Ok(Ok(status)) if status.success() => {
                self.child = None;
                Ok(())
            }
            Ok(status) => {
                self.child = None;
                Err(Error::Victim(format!(
                    "a graceful shutdown ended with {status:?}"
                )))
            }
            Err(_) => {
                self.kill().await?;
                Err(Error::Victim(format!(
                    "no end {} s after SIGTERM",
                    STOP_MAX.as_secs()
                )))
            }
        }
    }

    /// Runs `freehold check` on the folder of the stopped server. `Some` is what it complained of.
    pub async fn check(&self) -> Result<Option<String>> {
        self.check_with(&[]).await
    }

    /// The same, and that nothing is left of what was removed.
    pub async fn check_erased(&self) -> Result<Option<String>> {
        self.check_with(&["--erased"]).await
    }

    async fn check_with(&self, flags: &[&str]) -> Result<Option<String>> {
        if !self.has_check() {
            return Ok(None);
        }
        let mut command = Command::new(&self.plan.program);
        command
            .arg("check")
            .args(flags)
            .arg("--data")
            .arg(&self.data);
        let output = timeout(READY_MAX, command.kill_on_drop(true).output());
        let Ok(output) = output.await else {
            return Ok(Some(format!("no end within {} s", READY_MAX.as_secs())));
        };
        let output = output.map_err(|e| self.not_started(e))?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            return Ok(None);
        }
        let (out, err) = (said(&output.stdout), said(&output.stderr));
        Ok(Some(format!("{}: {out} {err}", output.status)))
    }

    /// Whether it has a command that checks its folder.
    pub fn has_check(&self) -> bool {
        self.plan.kind == Kind::Freehold
    }

    /// Length of the server's log.
    pub fn log_bytes(&self) -> Result<u64> {
        Ok(std::fs::metadata(&self.log)?.len())
    }

    /// Lines of the server's log, from byte `from` on, that no run expects; and its length now.
    pub fn complaints(&self, from: u64) -> Result<(Vec<String>, u64)> {
        let bytes = std::fs::read(&self.log)?;
        let new = bytes.get(from as usize..).unwrap_or(&[]);
        let new = String::from_utf8_lossy(new);
        let is_complaint = |line: &&str| {
            self.plan.kind == Kind::Freehold
                && (line.contains("panicked at") || line.contains("ERROR"))
        };
        let lines = new
            .lines()
            .filter(is_complaint)
            .map(str::to_owned)
            .collect();
        Ok((lines, bytes.len() as u64))
    }

    /// The traced process if there is a tracer, the server, its children.
    fn pids(&self) -> Vec<u32> {
        let Some(pid) = self.child.as_ref().and_then(Child::id) else {
            return Vec::new();
        };
        let mut pids = vec![pid];
        pids.extend(processes::descendants(pid));
        pids
    }

    async fn reap(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take()
            && timeout(STOP_MAX, child.wait()).await.is_err()
        {
            child.kill().await?;
        }
        self.address = None;
        Ok(())
    }

    fn not_started(&self, error: std::io::Error) -> Error {
        Error::Setup(format!(
            "{} can't be run: {error}",
            self.plan.program.display()
        ))
    }

    fn log_file(&self) -> Result<std::fs::File> {
        Ok(OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?)
    }

    /// The server's command, under the tracer and behind the prefix if there are any.
    fn command(&self, program: &Path) -> Command {
        let tracer = self.tracer.as_ref().map(|tracer| &tracer.command[..]);
        let before = [&self.plan.prefix[..], tracer.unwrap_or(&[])].concat();
        let Some((first, rest)) = before.split_first() else {
            return Command::new(program);
        };
        let mut command = Command::new(first);
        command.args(rest).arg(program);
        command
    }

    fn freehold_command(&self) -> Command {
        let mut command = self.command(&self.plan.program);
        command.arg("start").arg("--data").arg(&self.data);
        command.args(["--listen", &self.plan.listen.to_string()]);
        match self.plan.password {
            Some(password) => command.args(["--superuser-password", password]),
            None => command.arg("--insecure"),
        };
        command
            .args(["--table-store", self.plan.store.word()])
            .args(&self.plan.options);
        command.env("NO_COLOR", "1");
        if let Some(name) = &self.plan.sabotage {
            command.env("FREEHOLD_SABOTAGE", name);
        }
        command
    }

    async fn start_freehold(&mut self) -> Result<Address> {
        let mut command = self.freehold_command();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(self.log_file()?);
        let mut child = command
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| self.not_started(e))?;
        let stdout = child.stdout.take().expect("the command above pipes it");
        self.child = Some(child);
        let mut lines = BufReader::new(stdout).lines();
        let ready = timeout(READY_MAX, wait_ready(&mut lines)).await;
        let Ok(place) = ready else {
            self.kill().await?;
            return Err(Error::Victim(format!(
                "not ready after {} s",
                READY_MAX.as_secs()
            )));
        };
        let Some(place) = place else {
            self.reap().await?;
            return Err(Error::Victim(format!(
                "it ended at its start: {}",
                self.last_words()
            )));
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Address::new(&[place], "freehold").with_password(self.plan.password))
    }

    /// The end of the log, for messages.
    fn last_words(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }

    fn postgres_command(&self, port: u16) -> Result<Command> {
        let owner = Owner::of_postgres()?;
        let mut command = self.command(&self.plan.program.join("postgres"));
        command
            .arg("-D")
            .arg(&self.data)
            .arg("-p")
            .arg(port.to_string());
        let fixed = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=1200",
            "shared_buffers=128MB",
        ];
        for setting in fixed
            .iter()
            .copied()
            .chain(self.plan.options.iter().map(String::as_str))
        {
            command.arg("-c").arg(setting);
        }
        owner.apply(&mut command);
        Ok(command)
    }

    async fn initdb(&self) -> Result<()> {
        let owner = Owner::of_postgres()?;
        std::fs::create_dir_all(&self.data)?;
        owner.give(&self.data)?;
        let mut command = Command::new(self.plan.program.join("initdb"));
        command.arg("-D").arg(&self.data);
        command.args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C"]);
        command.stdout(Stdio::null()).stderr(self.log_file()?);
        owner.apply(&mut command);
        let status = command.status().await.map_err(|e| self.not_started(e))?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::Setup(format!("initdb: {status}")))
        }
    }

    async fn start_postgres(&mut self) -> Result<Address> {
        let port = free_port()?;
        let mut command = self.postgres_command(port)?;
        command
            .stdin(Stdio::null())
            .stdout(self.log_file()?)
            .stderr(self.log_file()?);
        self.child = Some(
            command
                .kill_on_drop(true)
                .spawn()
                .map_err(|e| self.not_started(e))?,
        );
        let address = Address::new(&[SocketAddr::from(([127, 0, 0, 1], port))], "postgres");
        let end = Instant::now() + READY_MAX;
        while Link::open(&address, "postgres", Protocol::Simple)
            .await
            .is_err()
        {
            if !self.is_running() {
                self.reap().await?;
                return Err(Error::Victim(format!(
                    "it ended at its start: {}",
                    self.last_words()
                )));
            }
            if Instant::now() > end {
                self.kill().await?;
                return Err(Error::Victim(format!(
                    "not ready after {} s",
                    READY_MAX.as_secs()
                )));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(address)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        for pid in self.pids() {
            processes::signal(pid, Signal::KILL);
        }
    }
}

/// Reads until the line that says where it serves; `None` if the output ends.
async fn wait_ready(lines: &mut Lines<BufReader<ChildStdout>>) -> Option<SocketAddr> {
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(place) = place_of(&line) {
            return Some(place);
        }
    }
    None
}

fn place_of(line: &str) -> Option<SocketAddr> {
    line.trim().strip_prefix(READY)?.parse().ok()
}

/// A port that is free, for a server that can't choose one itself, or that comes again there. It
/// lies below those that the system gives to clients: while a server is down, none takes its port.
pub fn free_port() -> Result<u16> {
    static ASKED: AtomicU16 = AtomicU16::new(0);
    // Whoever runs beside this process begins elsewhere.
    let first = std::process::id().wrapping_mul(101) as u16 % SERVER_PORTS;
    for _ in 0..SERVER_PORTS {
        let at = first.wrapping_add(ASKED.fetch_add(1, Ordering::Relaxed));
        let port = SERVER_PORT_MIN + at % SERVER_PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::Setup("no port is free".into()))
}

/// The account that PostgreSQL runs under: it refuses root.
struct Owner(Option<(u32, u32)>);

impl Owner {
    fn of_postgres() -> Result<Owner> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Owner(None));
        }
        let accounts = std::fs::read_to_string("/etc/passwd")?;
        let line = accounts.lines().find(|line| line.starts_with("postgres:"));
        let fields: Vec<&str> = line.unwrap_or("").split(':').collect();
        let number = |index: usize| fields.get(index).and_then(|field| field.parse().ok());
        match (number(2), number(3)) {
            (Some(user), Some(group)) => Ok(Owner(Some((user, group)))),
            _ => Err(Error::Setup(
                "there is no account \"postgres\" on this machine".into(),
            )),
        }
    }

    fn give(&self, path: &Path) -> Result<()> {
        let Some((user, group)) = self.0 else {
            return Ok(());
        };
        Ok(std::os::unix::fs::chown(path, Some(user), Some(group))?)
    }

    fn apply(&self, command: &mut Command) {
        // The working folder of the caller may be closed to the account.
        command.current_dir("/");
        if let Some((user, group)) = self.0 {
            command.as_std_mut().gid(group).uid(user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_gives_the_place() {
        let place = SocketAddr::from(([127, 0, 0, 1], 41234));
        assert_eq!(
            place_of("freehold is ready on 127.0.0.1:41234"),
            Some(place)
        );
        assert_eq!(place_of("INFO freehold: something else"), None);
    }
}
