//! The task of one follower: it finds a source, takes what comes, and goes to another one when
//! that fails.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use feed::follow::{Piece, Sink};
use rand::Rng as _;
use storage::{Error as StorageError, Group, Groups};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::block_in_place;

use super::nearest::{Seen, sources};
use super::words::{Opening, Word, read_piece};
use super::{BACKOFF_MAX, BACKOFF_MIN, Follower, SILENT_AFTER};
use crate::cluster::Cluster;

/// Bootstraps that a source may begin without anything in between.
const ANEW_MAX: u32 = 3;

/// Why a stream is over.
enum End {
    /// The next one begins with a bootstrap.
    Anew,
    /// The group is not followed any more.
    Gone,
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
    let Some((engine, journal)) = cluster.engine().cloned().zip(cluster.journal().cloned()) else {
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
    let durable = Arc::new(raft::OnDisk(journal));
    let mut task = Task {
        sink: Sink::new(groups, group, durable),
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
        loop {
            let before = self.sink.progress();
            let end = self.follow_from(node).await;
            let now = self.sink.progress();
            if (now.entries, now.bootstraps) != (before.entries, before.bootstraps) {
                self.failed.clear();
                (self.backoff, anew) = (BACKOFF_MIN, 0);
            }
            let group = self.follower.group;
            match end {
                End::Gone => return false,
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
        let catalog = self.cluster.catalog()?;
        let placement = catalog.placement(self.follower.group)?;
        let seen = |node| Seen {
            live: self.cluster.is_live(node),
            round_trip: self.cluster.round_trip(node),
        };
        let sources = sources(&catalog, placement, self.cluster.me(), seen);
        let mut fresh = sources.into_iter().filter(|n| !self.failed.contains(n));
        fresh.next()
    }

    async fn follow_from(&mut self, node: u32) -> End {
        let request = self.sink.request();
        let bootstraps = self.cluster.follows().bootstraps.clone();
        let permit = match request.has {
            Some(_) => None,
            None => bootstraps.acquire_owned().await.ok(),
        };
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
        end
    }

    async fn hear(
        &mut self,
        mut from: impl AsyncRead + Unpin,
        mut permit: Option<OwnedSemaphorePermit>,
    ) -> End {
        loop {
            let piece = match tokio::time::timeout(SILENT_AFTER, read_piece(&mut from)).await {
                Ok(Ok(piece)) => piece,
                Ok(Err(error)) => return End::Failed(error.to_string()),
                Err(_) => return End::Failed(format!("nothing came for {SILENT_AFTER:?}")),
            };
            if matches!(piece, Piece::End(_)) {
                drop(permit.take());
            }
            match self.take(piece) {
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
            Piece::Begin { .. } | Piece::End(_) => block_in_place(|| self.install(piece)),
            piece => self.sink.take(piece),
        };
        self.follower.note(self.sink.progress(), newest);
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
        let mut words = Vec::new();
        if follower.asked_changed.swap(false, Ordering::AcqRel) {
            words.push(Word::Asked(follower.asked()));
        }
        if follower.close_wanted.swap(false, Ordering::AcqRel) {
            words.push(Word::Close);
        }
        for word in words {
            if let Err(error) = to.write_all(&word.encode()).await {
                return error.to_string();
            }
        }
    }
}
