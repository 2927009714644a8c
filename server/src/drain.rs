//! Giving away what a node leads, before it ends or because somebody asks for it (`freehold
//! drain`): the owners' groups go on elsewhere without an election, and nobody waits for one.
//!
//! The command reaches the node through a socket in its data folder: who may read the data may
//! ask for it, and nobody else. It sends one line and gets a verdict and lines for people.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use clap::Args;
use journal::GroupId;
use raft::{NodeId, ReplicaStatus};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};

use crate::Failure;
use crate::cluster::Cluster;

/// Everything should have been handed over by then.
const HAND_OVER_TIME_MAX: Duration = Duration::from_secs(10);
/// Groups that are handed over at the same time.
const TRANSFERS_MAX: usize = 50;
/// Between two looks at what is still led here.
const LOOK: Duration = Duration::from_millis(20);
/// A voter that the leader has not heard of for so long gets nothing handed.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// What becomes of a node's leaderships.
pub struct Drain {
    raft: Arc<raft::Node>,
    cluster: Arc<Cluster>,
    draining: watch::Sender<bool>,
}

/// What was handed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandedOver {
    /// Groups that are led elsewhere now.
    pub groups: usize,
    /// Groups that have no other voter.
    pub alone: usize,
    /// Groups that are still led here, though others could.
    pub kept: Vec<GroupId>,
}

/// What a node leads.
#[derive(Default)]
struct Led {
    /// Groups that have no other voter.
    alone: usize,
    /// Groups whose other voters are silent or drain, too.
    stuck: Vec<GroupId>,
    /// Groups whose other voters are there, and have not answered the leader of late.
    waiting: Vec<GroupId>,
    /// Groups that can be handed over, and to whom.
    ready: Vec<(GroupId, NodeId)>,
}

impl Drain {
    /// Of a node that does not drain.
    pub fn new(raft: Arc<raft::Node>, cluster: Arc<Cluster>) -> Arc<Drain> {
        Arc::new(Drain {
            raft,
            cluster,
            draining: watch::Sender::new(false),
        })
    }

    /// Does the node give away what it leads?
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Hands over what the node leads, and what comes to it later, until [`Drain::end`]. Done when
    /// nothing is left that another node could lead, or when its time is over.
    pub async fn begin(self: &Arc<Self>) -> HandedOver {
        let began = !self.draining.send_replace(true);
        self.raft.abstain(true);
        let handed = self.hand_over().await;
        tracing::info!(
            groups = handed.groups,
            alone = handed.alone,
            kept = handed.kept.len(),
            "drained"
        );
        if began {
            let (draining, leadership) = (self.draining.subscribe(), self.raft.leadership());
            tokio::spawn(keep_handing(Arc::downgrade(self), draining, leadership));
        }
        handed
    }

    async fn hand_over(&self) -> HandedOver {
        let ends = Instant::now() + HAND_OVER_TIME_MAX;
        let mut groups = 0;
        loop {
            let led = self.led();
            if (led.ready.is_empty() && led.waiting.is_empty()) || Instant::now() >= ends {
                let ready = led.ready.into_iter().map(|(group, _)| group);
                return HandedOver {
                    groups,
                    alone: led.alone,
                    kept: led
                        .stuck
                        .into_iter()
                        .chain(led.waiting)
                        .chain(ready)
                        .collect(),
                };
            }
            groups += self.transfer(&led.ready, ends).await;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The node may lead again.
    pub fn end(&self) {
        self.raft.abstain(false);
        if self.draining.send_replace(false) {
            tracing::info!("draining was taken back");
        }
    }

    /// What this node leads, by what can be done about it.
    fn led(&self) -> Led {
        let mut led = Led::default();
        for status in self.raft.status() {
            if status.term == 0 {
                continue;
            }
            let group = status.group;
            let mut others = self.raft.replicas(group);
            others.retain(|replica| replica.voter && !replica.leads);
            if others.is_empty() {
                led.alone += 1;
                continue;
            }
            others.retain(|other| self.cluster.can_lead(other.node.0));
            match heir(&others) {
                _ if others.is_empty() => led.stuck.push(group),
                None => led.waiting.push(group),
                Some(heir) => led.ready.push((group, heir)),
            }
        }
        led
    }

    /// Hands groups over, some at the same time; how many are led elsewhere now.
    async fn transfer(&self, groups: &[(GroupId, NodeId)], ends: Instant) -> usize {
        let places = Arc::new(Semaphore::new(TRANSFERS_MAX));
        let mut transfers = JoinSet::new();
        for (group, heir) in groups.iter().copied() {
            let (raft, places) = (self.raft.clone(), places.clone());
            transfers.spawn(async move {
                let _place = places.acquire().await;
                match tokio::time::timeout_at(ends, raft.transfer(group, heir)).await {
                    Ok(Ok(())) => true,
                    Ok(Err(error)) => {
                        tracing::info!(%group, to = %heir, %error, "not handed over yet");
                        false
                    }
                    Err(_) => false,
                }
            });
        }
        let done = transfers.join_all().await;
        done.into_iter().filter(|done| *done).count()
    }
}

/// A node that did not know that this one drains may have handed something to it.
async fn keep_handing(
    drain: Weak<Drain>,
    mut draining: watch::Receiver<bool>,
    mut leadership: watch::Receiver<u64>,
) {
    loop {
        let ended = async { draining.wait_for(|draining| !draining).await.map(|_| ()) };
        tokio::select! {
            biased;
            // Also when the drain is gone.
            _ = ended => return,
            changed = leadership.changed() => {
                let Some(drain) = drain.upgrade().filter(|_| changed.is_ok()) else {
                    return;
                };
                drain.hand_over().await;
            }
        }
    }
}

/// Who gets a group: the voter that has most of its log, of those that the leader hears.
fn heir(others: &[ReplicaStatus]) -> Option<NodeId> {
    let heard = others
        .iter()
        .filter(|other| other.heard.is_some_and(|heard| heard < SILENCE_MAX));
    let best = heard.min_by_key(|other| (other.lag.unwrap_or(u64::MAX), other.node));
    best.map(|other| other.node)
}

/// The socket in the data folder.
const SOCKET: &str = "control";
/// The longest request.
const REQUEST_BYTES_MAX: u64 = 256;
/// A request must have come by then.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);
/// The command waits for the answer this long.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Who asks at the same time.
const ASKERS_MAX: usize = 4;

const DRAIN: &str = "drain";
const CANCEL: &str = "cancel";
const DONE: &str = "done";
const NOT_ALL: &str = "not all";

/// The socket on which a node is asked to drain; dropped, it is gone.
pub struct Control {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Control {
    /// Listens in the data folder, which must belong to this process alone. `None`, with a warning,
    /// where there can be no sockets.
    pub fn listen(data: &Path, drain: Arc<Drain>) -> Option<Control> {
        let path = data.join(SOCKET);
        let listener = bind(data, &path)
            .inspect_err(|error| {
                let path = path.display();
                tracing::warn!(%path, %error, "freehold drain will not reach this node");
            })
            .ok()?;
        let task = tokio::spawn(accept(listener, drain));
        Some(Control { path, task })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        // The next start removes it too.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn bind(data: &Path, path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let folder = std::fs::File::open(data)?;
    UnixListener::bind(through(&folder))
}

/// The socket's path in an open folder: a socket's own path may have 107 bytes at most, and
/// folders lie deeper.
fn through(folder: &std::fs::File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(SOCKET)
}

async fn accept(listener: UnixListener, drain: Arc<Drain>) {
    let places = Arc::new(Semaphore::new(ASKERS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let drain = drain.clone();
                tokio::spawn(async move {
                    if let Err(error) = attend(stream, &drain).await {
                        tracing::debug!(%error, "a request on the control socket failed");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a request on the control socket");
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// One request and its answer.
async fn attend(mut stream: UnixStream, drain: &Arc<Drain>) -> std::io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    if peer != 0 && peer != rustix::process::geteuid().as_raw() {
        return stream
            .write_all(b"refused\nit is for the node's own user\n")
            .await;
    }
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    let mut reading = tokio::io::BufReader::new(reading.take(REQUEST_BYTES_MAX));
    timeout(REQUEST_TIME_MAX, reading.read_line(&mut line)).await??;
    let answer = match line.trim_end() {
        DRAIN => told(&drain.begin().await),
        CANCEL => {
            drain.end();
            format!("{DONE}\nthe node may lead again\n")
        }
        _ => "refused\nit knows no such request\n".into(),
    };
    writing.write_all(answer.as_bytes()).await
}

/// A verdict, and lines for people.
fn told(handed: &HandedOver) -> String {
    let verdict = if handed.kept.is_empty() {
        DONE
    } else {
        NOT_ALL
    };
    let mut lines = format!("{verdict}\nhanded over: {}\n", counted(handed.groups));
    if handed.alone > 0 {
        lines += &format!(
            "no other node can lead: {}; this node leads on until it ends\n",
            counted(handed.alone)
        );
    }
    if !handed.kept.is_empty() {
        let kept: Vec<String> = handed.kept.iter().map(GroupId::to_string).collect();
        lines += &format!("still led here: group {}\n", kept.join(", "));
    }
    lines
}

fn counted(groups: usize) -> String {
    match groups {
        1 => "1 group".into(),
        groups => format!("{groups} groups"),
    }
}

/// What `freehold drain` is given.
#[derive(Args)]
pub struct DrainFlags {
    /// Folder of the running node.
    #[arg(long, env = "FREEHOLD_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// Take it back: the node may lead again.
    #[arg(long)]
    pub cancel: bool,
}

/// Asks the node that runs on a folder, and says what it answered.
pub fn main(flags: &DrainFlags) -> Result<(), Failure> {
    let request = if flags.cancel { CANCEL } else { DRAIN };
    let data = flags.data.display();
    let answer = ask(&flags.data, request)
        .map_err(|e| format!("no node answers on {data}: {e}; it must run, on this machine"))?;
    let (verdict, lines) = answer.split_once('\n').unwrap_or((&answer, ""));
    match verdict {
        DONE => {
            print!("{lines}");
            Ok(())
        }
        _ => Err(lines.trim_end().replace('\n', "; ").into()),
    }
}

fn ask(data: &Path, request: &str) -> std::io::Result<String> {
    let folder = std::fs::File::open(data)?;
    let mut stream = StdUnixStream::connect(through(&folder))?;
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut reading = BufReader::new(stream);
    let mut answer = String::new();
    if reading.read_line(&mut answer)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    reading.read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(node: u32, lag: u64, heard_ms: Option<u64>) -> ReplicaStatus {
        ReplicaStatus {
            node: NodeId(node),
            replica: u64::from(node) << 32 | 1,
            voter: true,
            leads: false,
            matched: None,
            lag: Some(lag),
            heard: heard_ms.map(Duration::from_millis),
            repair: None,
        }
    }

    #[test]
    fn who_is_nearest_and_there_gets_the_group() {
        let near = other(2, 3, Some(50));
        let far = other(3, 90, Some(10));
        let silent = other(4, 0, Some(5_000));
        let never = other(5, 0, None);
        let all = [far.clone(), silent.clone(), near, never.clone()];
        assert_eq!(heir(&all), Some(NodeId(2)));
        assert_eq!(heir(&[silent.clone(), far, never.clone()]), Some(NodeId(3)));
        assert_eq!(heir(&[silent, never]), None);
        assert_eq!(heir(&[]), None);
    }

    #[test]
    fn the_answer_says_what_stays() {
        let handed = HandedOver {
            groups: 2,
            alone: 1,
            kept: vec![GroupId(3), GroupId(7)],
        };
        assert_eq!(
            told(&handed),
            "not all\nhanded over: 2 groups\n\
             no other node can lead: 1 group; this node leads on until it ends\n\
             still led here: group 3, 7\n"
        );
    }
}
