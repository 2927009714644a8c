//! `freehold cluster 3`: a cluster for development, its nodes as child processes of this one.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::Failure;
use crate::start::Ending;

/// Nodes of one local cluster at most.
const NODES_MAX: u16 = 9;

/// What a node prints when clients can connect, before its address.
pub const READY: &str = "freehold is ready on ";

/// A node that was killed starts again after this time.
const RESTART_AFTER: Duration = Duration::from_secs(5);

/// What `freehold cluster` is given.
#[derive(Args)]
pub struct ClusterFlags {
    /// How many nodes.
    #[arg(default_value_t = 3, value_name = "NODES", value_parser = clap::value_parser!(u16).range(1..=i64::from(NODES_MAX)))]
    pub nodes: u16,
    /// Folder for the nodes' folders, n1, n2, ...
    #[arg(
        long,
        env = "FREEHOLD_DATA",
        value_name = "DIR",
        default_value = "freehold-cluster"
    )]
    pub data: PathBuf,
    /// Port of the first node for clients; those of the others follow.
    #[arg(long, default_value_t = 5432, value_name = "PORT")]
    pub port: u16,
    /// Port of the first node for the other nodes; those of the others follow.
    #[arg(long, default_value_t = 7432, value_name = "PORT")]
    pub peer_port: u16,
    /// More flags for every node, behind `--`.
    #[arg(last = true)]
    pub rest: Vec<String>,
}

/// Runs the nodes until a signal, or until one of them ends by itself.
pub fn main(flags: &ClusterFlags) -> Result<(), Failure> {
    tokio::runtime::Runtime::new()?.block_on(run(flags))
}

async fn run(flags: &ClusterFlags) -> Result<(), Failure> {
    let mut ending = Ending::listen()?;
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut local = Local {
        flags,
        nodes: BTreeMap::new(),
        ready: BTreeSet::new(),
        tell,
    };
    local.start_next()?;
    let ended = loop {
        let told = tokio::select! {
            biased;
            () = ending.asked() => break Ok(()),
            told = told.recv() => told,
        };
        match told {
            Some(Told::Ready(number)) => local.note_ready(number)?,
            Some(Told::Ended(number)) => {
                if let Err(error) = local.note_end(number).await {
                    break Err(error);
                }
            }
            Some(Told::Restart(number)) => local.start(number)?,
            None => break Ok(()),
        }
    };
    for child in local.nodes.values() {
        ask_to_end(child);
    }
    for child in local.nodes.values_mut() {
        child.wait().await?;
    }
    drop(local);
    // What they said last is printed before this process ends.
    while told.recv().await.is_some() {}
    ended
}

/// What a node's output tells.
enum Told {
    Ready(u16),
    Ended(u16),
    /// The pause after a killed node's end is over.
    Restart(u16),
}

/// The child processes.
struct Local<'a> {
    flags: &'a ClusterFlags,
    nodes: BTreeMap<u16, Child>,
    ready: BTreeSet<u16>,
    tell: mpsc::UnboundedSender<Told>,
}

impl Local<'_> {
    /// Starts the next node that is not started yet. On the first start each waits for the one
    /// before, so that their numbers are those of their folders; later all start at once.
    fn start_next(&mut self) -> Result<(), Failure> {
        for number in 1..=self.flags.nodes {
            if self.nodes.contains_key(&number) {
                continue;
            }
            let known = super::identity::path(&folder(self.flags, number)).exists();
            self.start(number)?;
            if !known {
                return Ok(());
            }
        }
        Ok(())
    }

    fn start(&mut self, number: u16) -> Result<(), Failure> {
        let child = start(self.flags, number, self.tell.clone())?;
        self.nodes.insert(number, child);
        Ok(())
    }

    fn note_ready(&mut self, number: u16) -> Result<(), Failure> {
        self.start_next()?;
        let all = usize::from(self.flags.nodes);
        if self.ready.insert(number) && self.ready.len() == all {
            println!(
                "{all} nodes are ready: psql -h 127.0.0.1 -p {} -U postgres, or any of the {all} \
                 ports from there; Ctrl-C ends them",
                self.flags.port
            );
        }
        Ok(())
    }

    /// A killed node comes back, so that one can watch what the others do meanwhile; one that
    /// ends by itself can't run.
    async fn note_end(&mut self, number: u16) -> Result<(), Failure> {
        let Some(mut child) = self.nodes.remove(&number) else {
            return Ok(());
        };
        let status = child.wait().await?;
        if status.signal().is_none() {
            return Err(format!("node {number} has ended: {status}").into());
        }
        let seconds = RESTART_AFTER.as_secs();
        println!("n{number} | killed ({status}); it starts again in {seconds} s");
        let tell = self.tell.clone();
        tokio::spawn(async move {
            tokio::time::sleep(RESTART_AFTER).await;
            // Nobody listens any more at the end.
            let _ = tell.send(Told::Restart(number));
        });
        Ok(())
    }
}

fn folder(flags: &ClusterFlags, number: u16) -> PathBuf {
    flags.data.join(format!("n{number}"))
}

fn start(
    flags: &ClusterFlags,
    number: u16,
    tell: mpsc::UnboundedSender<Told>,
) -> Result<Child, Failure> {
    let mut child = command(flags, number)?.spawn()?;
    if let Some(out) = child.stdout.take() {
        tokio::spawn(pass_on(number, out, Some(tell)));
    }
    if let Some(out) = child.stderr.take() {
        tokio::spawn(pass_on(number, out, None));
    }
    Ok(child)
}

/// What starts a node; its output is for the caller.
pub fn command(flags: &ClusterFlags, number: u16) -> Result<Command, Failure> {
    let at = |first: u16| {
        let port = first.checked_add(number - 1);
        let port = port.ok_or("the ports end at 65535")?;
        Ok::<_, Failure>(format!("127.0.0.1:{port}"))
    };
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("start")
        .arg("--insecure")
        .arg("--data")
        .arg(folder(flags, number))
        .args(["--listen", &at(flags.port)?])
        .args(["--peer-listen", &at(flags.peer_port)?]);
    if number > 1 {
        command.args(["--join", &format!("127.0.0.1:{}", flags.peer_port)]);
    }
    command
        .args(&flags.rest)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C is for this process, which ends them in order.
        .process_group(0)
        .kill_on_drop(true);
    Ok(command)
}

/// Prints a node's lines with its number, to the end.
async fn pass_on(
    number: u16,
    out: impl AsyncRead + Unpin,
    tell: Option<mpsc::UnboundedSender<Told>>,
) {
    let mut lines = BufReader::new(out).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        println!("n{number} | {line}");
        if let Some(tell) = &tell
            && line.starts_with(READY)
        {
            // Nobody listens any more at the end.
            let _ = tell.send(Told::Ready(number));
        }
    }
    if let Some(tell) = tell {
        let _ = tell.send(Told::Ended(number));
    }
}

/// SIGTERM.
pub fn ask_to_end(child: &Child) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
        // It may have ended already.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}
