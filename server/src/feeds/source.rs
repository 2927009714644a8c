//! The other end of a reader of the feed: makes the rows of entries of groups that are held here by
//! Raft, as far as the reading role may see them by this node's catalog.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use sql::catalog::Catalog;
use sql::changes::{Filter, Given, Piece};
use sql::engine::Engine;
use sql::state;
use storage::{Group, GroupId, Position};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::task::block_in_place;
use tokio::time::Instant;

use super::words::{Opening, Word};
use super::{BEHIND_AFTER, LOOK_EVERY, READ_WITHIN, SIGN_EVERY, SOURCES_MAX, WRITE_BYTES};
use crate::changes::JournalUnits;
use crate::cluster::Cluster;
use crate::peer::PeerStream;
use crate::peer::word::{TooLong, write_slowly};

/// What this node gives to readers elsewhere.
pub struct Sources {
    places: Arc<Semaphore>,
    rows: AtomicU64,
}

impl Default for Sources {
    fn default() -> Sources {
        Sources {
            places: Arc::new(Semaphore::new(SOURCES_MAX)),
            rows: AtomicU64::new(0),
        }
    }
}

impl Sources {
    /// Streams at this moment.
    pub fn streams(&self) -> usize {
        SOURCES_MAX.saturating_sub(self.places.available_permits())
    }

    /// Rows that were given.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

/// Serves a stream that another node of the cluster has opened.
pub async fn serve(cluster: Arc<Cluster>, peer: u32, opening: Bytes, mut stream: PeerStream) {
    let Some((opening, filter)) = Opening::decode(opening) else {
        return stream.reset("no reader of the feed begins like this");
    };
    let sources = cluster.sources();
    let Ok(_place) = sources.places.clone().try_acquire_owned() else {
        return stream.reset("too many readers of the feed");
    };
    let Some((engine, feed)) = cluster.engine().zip(cluster.feed()) else {
        return stream.reset("the node is starting");
    };
    let source = Source {
        cluster: &cluster,
        engine,
        feed,
        opening,
        rows: &sources.rows,
    };
    match source.give(filter, &mut stream).await {
        // It ends by itself, behind what was said last.
        Ok(()) => drop(stream.shutdown().await),
        Err(why) => {
            tracing::debug!(peer, why, "a reader of the feed gets no more");
            stream.reset(&why);
        }
    }
}

struct Source<'a> {
    cluster: &'a Cluster,
    engine: &'a Arc<Engine>,
    feed: &'a feed::Feed,
    opening: Opening,
    rows: &'a AtomicU64,
}

impl Source<'_> {
    async fn give(&self, filter: Filter, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            match self.has_all() {
                Ok(true) => break,
                Ok(false) if begun.elapsed() < BEHIND_AFTER => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Ok(false) => return Err("it has less than its reader".into()),
                Err(lacks) => return say(&Word::Lacks(lacks), to).await,
            }
        }
        let units = match block_in_place(|| self.units()) {
            Ok(units) => units,
            Err(error @ feed::Error::Behind { .. }) => {
                let said = self.say_behind(self.opening.after, to).await;
                return said.unwrap_or_else(|| Err(error.to_string()));
            }
            Err(feed::Error::Unknown(group)) => return say(&Word::Lacks(group), to).await,
            Err(error) => return Err(error.to_string()),
        };
        let units = Box::new(JournalUnits::unmetered(units));
        let given = self
            .catalog()
            .and_then(|catalog| Given::new(self.engine.groups(), catalog, filter, units));
        match given {
            Ok(given) => self.give_rows(given, to).await,
            Err(error) => self.give_error(&error, self.opening.after, to).await,
        }
    }

    /// Is everything here, on the disk, that the reader knows of? Errors: the group of which this
    /// node has no log.
    fn has_all(&self) -> Result<bool, GroupId> {
        let groups = self.engine.groups();
        let directory = groups.get(GroupId::DIRECTORY);
        let mut has = directory.is_some_and(|d| d.applied() >= self.opening.directory);
        has &= self.doubts().is_none();
        for (id, known) in &self.opening.groups {
            let held = groups.get(*id);
            let held = held.filter(|group| !group.is_followed() && !group.has_ended());
            let held: Arc<Group> = held.ok_or(*id)?;
            let wanted = self.opening.upto.max(*known);
            has &= self.cluster.is_read(&held) && self.feed.reached(&held) >= wanted;
        }
        Ok(has)
    }

    /// A group of which this node must not give rows now: something was taken away that it has not
    /// applied yet.
    fn doubts(&self) -> Option<GroupId> {
        self.engine.cluster().doubts(&self.ids(), None)
    }

    /// The catalog for the next unit. An error: it lacks what was taken away.
    fn catalog(&self) -> Result<Arc<Catalog>, sql::Error> {
        match self.doubts() {
            None => Ok(self.engine.catalog()),
            Some(group) => {
                let message = format!("it is not known what may be read of group {group}");
                Err(sql::Error::new(state::OWNER_UNREACHABLE, message))
            }
        }
    }

    /// The entries asked for.
    fn units(&self) -> feed::Result<feed::Units> {
        let Opening { after, upto, .. } = self.opening;
        self.feed.read(&self.ids(), after, upto)
    }

    fn ids(&self) -> Vec<GroupId> {
        self.opening.groups.iter().map(|(id, _)| *id).collect()
    }

    /// Tells of which groups, if it is any, something behind a position is not here any more.
    async fn say_behind(
        &self,
        after: Position,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Option<Result<(), String>> {
        let behind = block_in_place(|| self.feed.behind(&self.ids(), after)).unwrap_or_default();
        match behind.is_empty() {
            true => None,
            false => Some(say(&Word::Behind(behind), to).await),
        }
    }

    async fn give_rows(
        &self,
        mut given: Given,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), String> {
        let mut bytes = BytesMut::new();
        loop {
            let filled = block_in_place(|| self.fill(&mut given, &mut bytes));
            write_slowly(to, &bytes, READ_WITHIN).await?;
            bytes.clear();
            match filled {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    let begun = given.position().map(|at| Position(at.0.saturating_sub(1)));
                    let after = begun.unwrap_or_default().max(self.opening.after);
                    return self.give_error(&error, after, to).await;
                }
            }
        }
    }

    /// As much as is written at once. True: nothing comes behind it.
    fn fill(&self, given: &mut Given, bytes: &mut BytesMut) -> Result<bool, sql::Error> {
        let begun = std::time::Instant::now();
        let mut passed = None;
        while bytes.len() < WRITE_BYTES && begun.elapsed() < SIGN_EVERY {
            match given.next(|| self.catalog())? {
                Some(Piece::Row { group, last, row }) => {
                    passed = None;
                    self.rows.fetch_add(1, Ordering::Relaxed);
                    let word = Word::Row { group, last, row };
                    word.encode(bytes).map_err(too_long)?;
                }
                Some(Piece::Passed(at)) => passed = Some(at),
                None => {
                    let end = Word::End(self.opening.upto);
                    return end.encode(bytes).map_err(too_long).map(|()| true);
                }
            }
        }
        // Units without a row are passed over many at a time.
        let word = passed.map_or(Word::Sign, Word::Passed);
        word.encode(bytes).map_err(too_long).map(|()| false)
    }

    /// Of what has gone wrong behind a position.
    async fn give_error(
        &self,
        error: &sql::Error,
        after: Position,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), String> {
        match error.state() {
            state::INSUFFICIENT_PRIVILEGE => say(&Word::Denied(error.0.message.clone()), to).await,
            // Entries, or parts of a large one, have left while they were being read.
            state::BEHIND_RETENTION => {
                let said = self.say_behind(after, to).await;
                said.unwrap_or_else(|| Err(error.to_string()))
            }
            // Another node goes on.
            state::OWNER_UNREACHABLE => match self.opening.groups.first() {
                Some((group, _)) => say(&Word::Lacks(*group), to).await,
                None => Err(error.to_string()),
            },
            _ => {
                tracing::error!(%error, "the feed can't be given");
                Err(error.to_string())
            }
        }
    }
}

async fn say(word: &Word, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), String> {
    let mut bytes = BytesMut::new();
    word.encode(&mut bytes).map_err(|error| error.to_string())?;
    write_slowly(to, &bytes, READ_WITHIN).await
}

/// XX000: the row's images are as long as entries can be, and it is longer all the same.
fn too_long(error: TooLong) -> sql::Error {
    sql::Error::internal(format!("a row of the feed can't be given: {error}"))
}
