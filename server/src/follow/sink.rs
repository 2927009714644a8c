//! The task of one follower: it finds a source, takes what comes, and goes to another one when
//! that fails.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use feed::follow::{Piece, Sink};
use rand::Rng as _;
use storage::{Error as StorageError, Estimate, Group, Groups};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::block_in_place;

use super::nearest::holders;
use super::words::{Opening, Word, read_piece};
use super::{BACKOFF_MAX, BACKOFF_MIN, Follower, LONG_ROWS, SILENT_AFTER};
use crate::cluster::Cluster;

/// Bootstraps that a source may begin without anything in between.
const ANEW_MAX: u32 = 3;

/// Why a stream is over.
enum End {
    /// The next one begins with a bootstrap.
    Anew,
    /// The group is not followed any more.
    Gone,
    /// The next one begins with a long bootstrap, when it has its turn.
    Queued,
    /// Another source is to be asked.
    Failed(String),
}

/// Begins to follow a group, or goes on. Nothing comes before [`run`].
pub fn begin(
    cluster: &Cluster,
    groups: &Groups,
    follower: &Arc<Follower>,
) -> Result<Arc<Group>, StorageError> {
    let asks = Arc::downgrade(follower);
    let ask_close = move || {
        if let Some(follower) = asks.upgrade() {
            follower.ask_close();
        }
    };
    let group = groups.follow(follower.group, Box::new(ask_close))?;
    cluster.note_change();
    Ok(group)
}

/// Follows a group until Raft takes it over, or nobody is to have it here any more.
pub async fn run(cluster: Arc<Cluster>, follower: Arc<Follower>) {
    let Some(engine) = cluster.engine().cloned() else {
        return;
    };
    let groups = engine.groups().clone();
    let group = block_in_place(|| begin(&cluster, &groups, &follower));
    let group = match group {
        Ok(group) => group,
        // Raft has it still, or again: the keeper looks once more.
        Err(error) => {
            return tracing::debug!(group = %follower.group, %error, "not followed yet");
        }
    };
    let mut task = Task {
        sink: Sink::new(groups, group),
        cluster,
        follower,
        failed: Vec::new(),
        backoff: BACKOFF_MIN,
    };
    while task.follow_once().await {}
}

struct Task {
    cluster: Arc<Cluster>,
    follower: Arc<Follower>,
    sink: Sink,
    /// Sources that failed since the last one that did not.
    failed: Vec<u32>,
    backoff: Duration,
}

impl Task {
    /// Takes what one source gives. False: the group is not followed any more.
    async fn follow_once(&mut self) -> bool {
        let Some(node) = self.next_source() else {
            self.failed.clear();
            let jitter = rand::rng().random_range(0.5..1.0);
            tokio::time::sleep(self.backoff.mul_f64(jitter)).await;
            self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
            return true;
        };
        let mut anew = 0;
        let mut permit = None;
        loop {
            let before = self.sink.progress();
            let end = self.follow_from(node, permit.take()).await;
            let now = self.sink.progress();
            if (now.entries, now.bootstraps) != (before.entries, before.bootstraps) {
                self.failed.clear();
                (self.backoff, anew) = (BACKOFF_MIN, 0);
            }
            let group = self.follower.group;
            match end {
                End::Gone => return false,
                End::Queued => {
                    self.follower.queue(true);
                    let bootstraps = self.cluster.follows().bootstraps.clone();
                    permit = bootstraps.acquire_owned().await.ok();
                    self.follower.queue(false);
                }
                End::Anew if anew < ANEW_MAX => anew += 1,
                End::Anew => {
                    self.failed.push(node);
                    return true;
                }
                End::Failed(why) => {
                    tracing::debug!(%group, source = node, why, "another source is needed");
                    self.failed.push(node);
                    return true;
                }
            }
        }
    }

    /// The nearest one that has not failed.
    fn next_source(&self) -> Option<u32> {
        let holders = holders(&self.cluster, self.follower.group);
        holders.into_iter().find(|n| !self.failed.contains(n))
    }

    /// `permit`: to take a long bootstrap.
    async fn follow_from(&mut self, node: u32, permit: Option<OwnedSemaphorePermit>) -> End {
        let request = self.sink.request();
        // Before it is read what is asked for: a change in between is sent afterwards.
        self.follower.asked_changed.store(false, Ordering::Release);
        let asked = self.follower.asked();
        let opening = Opening { asked, request }.encode();
        let stream = match self.cluster.open(node, opening).await {
            Ok(stream) => stream,
            Err(error) => return End::Failed(error.to_string()),
        };
        let (read, mut write) = tokio::io::split(stream);
        let follower = self.follower.clone();
        follower.connected(node);
        let end = tokio::select! {
            end = self.hear(BufReader::new(read), permit) => end,
            why = speak(&follower, &mut write) => End::Failed(why),
            () = follower.leave.notified() => End::Failed("it does not answer".into()),
        };
        follower.disconnected();
        self.cluster.follows().waiters.wake();
        end
    }

    async fn hear(
        &mut self,
        mut from: impl AsyncRead + Unpin,
        mut permit: Option<OwnedSemaphorePermit>,
    ) -> End {
        loop {
            let follower = self.follower.clone();
            let come = |bytes| {
                follower.received.fetch_add(bytes, Ordering::Relaxed);
                self.cluster.follows().waiters.wake();
            };
            let piece = match read_piece(&mut from, SILENT_AFTER, come).await {
                Ok(piece) => piece,
                Err(error) => return End::Failed(error.to_string()),
            };
            match &piece {
                Piece::Begin { meta, .. } if permit.is_none() && is_long(meta) => {
                    let bootstraps = self.cluster.follows().bootstraps.clone();
                    match bootstraps.try_acquire_owned() {
                        Ok(taken) => permit = Some(taken),
                        Err(_) => return End::Queued,
                    }
                }
                Piece::End(_) => drop(permit.take()),
                _ => {}
            }
            match self.take(piece) {
                // An idle source has nothing that a group which has ended would refuse.
                Ok(true) if self.sink.has_ended() => return End::Gone,
                Ok(true) => {}
                Ok(false) => return End::Anew,
                Err(feed::Error::Storage(StorageError::NoGroup(_))) => return End::Gone,
                Err(feed::Error::Stream(why)) => return End::Failed(why.into()),
                Err(error) => {
                    let group = self.follower.group;
                    tracing::error!(%group, %error, "a copy is not kept");
                    return End::Failed(error.to_string());
                }
            }
        }
    }

    fn take(&mut self, piece: Piece) -> Result<bool, feed::Error> {
        let newest = matches!(piece, Piece::Newest(_));
        let taken = match piece {
            // It waits for the disk.
            Piece::Begin { .. } | Piece::Come { .. } | Piece::Choose(_) => {
                block_in_place(|| self.sink.take(piece))
            }
            Piece::End(_) => block_in_place(|| self.install(piece)),
            piece => self.sink.take(piece),
        };
        self.follower.note(self.sink.progress(), newest);
        self.cluster.follows().waiters.wake();
        taken
    }

    /// The catalog is read anew once a copy is there: what was dropped meanwhile is in none.
    fn install(&mut self, piece: Piece) -> Result<bool, feed::Error> {
        let before = self.sink.progress().bootstraps;
        let taken = self.sink.take(piece)?;
        if self.sink.progress().bootstraps > before
            && let Some(engine) = self.cluster.engine()
        {
            load(&self.cluster, engine, self.follower.group);
        }
        Ok(taken)
    }
}

/// Are there so many rows in what comes that only some of these may come at the same time?
fn is_long(meta: &bytes::Bytes) -> bool {
    Estimate::new(meta).rows() >= LONG_ROWS
}

/// Reads the catalog of a group that has come here as a whole. One that has left meanwhile, for
/// Raft takes it over, is read when it is here again.
pub fn load(cluster: &Cluster, engine: &sql::engine::Engine, group: storage::GroupId) {
    match engine.load(group) {
        Ok(()) => cluster.note_change(),
        Err(error) if error.state() == sql::state::DATA_CORRUPTED => {
            tracing::error!(%group, %error, "the catalog can't be read, the process ends");
            std::process::abort();
        }
        Err(error) => tracing::debug!(%group, %error, "the catalog is not read yet"),
    }
}

/// Says what is to be said; returns why it can't be.
async fn speak(follower: &Follower, to: &mut (impl AsyncWrite + Unpin)) -> String {
    loop {
        follower.news.notified().await;
        let mut bytes = BytesMut::new();
        let mut said = Ok(());
        if follower.asked_changed.swap(false, Ordering::AcqRel) {
            said = Word::Asked(follower.asked()).encode(&mut bytes);
        }
        if follower.close_wanted.swap(false, Ordering::AcqRel) {
            said = said.and_then(|()| Word::Close.encode(&mut bytes));
        }
        if let Err(error) = said {
            return error.to_string();
        }
        if let Err(error) = to.write_all(&bytes).await {
            return error.to_string();
        }
    }
}
