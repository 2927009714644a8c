//! The other end of a follower: gives another node what it may have of a group that is held here
//! by Raft, as this node's catalog says.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use feed::follow::{Choice, Piece, Source};
use parking_lot::Mutex;
use sql::engine::Engine;
use storage::{Chosen, Group, GroupId, Groups, Position};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::words::{Asked, Opening, Word};
use super::{
    BEHIND_AFTER, BEHIND_LOOK, BUSY, HEARTBEAT, LIVELY, LIVELY_PACE, PACE, SILENT_AFTER,
    WRITE_BYTES,
};
use crate::cluster::Cluster;
use crate::peer::PeerStream;
use crate::peer::word::write_slowly;

/// Serves a stream that another node of the cluster has opened.
pub async fn serve(cluster: Arc<Cluster>, peer: u32, opening: Bytes, stream: PeerStream) {
    let Some(Opening { asked, request }) = Opening::decode(opening) else {
        return stream.reset("no follower begins like this");
    };
    let follows = cluster.follows();
    let Ok(_place) = follows.given.clone().try_acquire_owned() else {
        return stream.reset("too many followers");
    };
    let Some((engine, feed)) = cluster.engine().zip(cluster.feed()) else {
        return stream.reset("the node is starting");
    };
    let group = request.group;
    let told = follows.listen(group);
    let choice = Arc::new(ByCatalog::new(engine.clone(), peer, group, asked));
    let source = match feed.follow(&request, choice.clone()) {
        Ok(source) => source,
        Err(error) => return stream.reset(&error.to_string()),
    };
    let held = source.group().clone();
    let has = request.has.as_ref();
    let has = has.map_or(Position::ZERO, |(has, _)| has.position);
    if !reaches(&cluster, &held, has, &told).await {
        return stream.reset("it has less than its follower");
    }
    let (read, write) = tokio::io::split(stream);
    let why = tokio::select! {
        why = give(source, engine.groups(), write, &told) => why,
        why = hear(read, &choice, &told, &held) => why,
    };
    tracing::debug!(%group, peer, why, "a follower has left");
}

/// Waits until this node has what the follower has, and knows what it may have. Not for long: others
/// may have it now.
async fn reaches(cluster: &Cluster, held: &Group, has: Position, told: &Notify) -> bool {
    let end = Instant::now() + BEHIND_AFTER;
    loop {
        if cluster.is_read(held) && held.applied() >= has {
            return true;
        }
        let now = Instant::now();
        if now >= end {
            return false;
        }
        let _ = timeout_at(end.min(now + BEHIND_LOOK), told.notified()).await;
    }
}

/// Gives what there is, again and again; returns why it ends.
async fn give(
    mut source: Source,
    groups: &Groups,
    mut to: impl AsyncWrite + Unpin,
    told: &Notify,
) -> String {
    let mut next_sign = Instant::now() + HEARTBEAT;
    let mut bytes = BytesMut::new();
    let mut pace = Pace::new(Instant::now());
    loop {
        let upto = source.group().applied();
        let filled = match fill(&mut source, &mut bytes) {
            Ok(filled) => filled,
            Err(error) => {
                tracing::error!(group = %source.group().id(), %error, "a follower gets no more");
                return error.to_string();
            }
        };
        if bytes.is_empty() {
            if timeout_at(next_sign, told.notified()).await.is_ok() {
                continue;
            }
            if !is_held(groups, source.group()) {
                return "the group has left this node".into();
            }
            next_sign = Instant::now() + HEARTBEAT;
            if source.is_sending_rows() {
                continue;
            }
            bytes.extend_from_slice(&Piece::Newest(upto).encode());
        }
        if let Err(why) = write_slowly(&mut to, &bytes, SILENT_AFTER).await {
            return why;
        }
        if filled.over {
            // It ends by itself, behind what was said last.
            let _ = to.shutdown().await;
            return "it begins anew".into();
        }
        let now = Instant::now();
        next_sign = now + HEARTBEAT;
        if let Some(next) = pace.wrote(filled.entries, now)
            && bytes.len() < WRITE_BYTES
        {
            sleep_until(next).await;
        }
        bytes.clear();
    }
}

/// How busy a stream is. What a write costs both ends goes mostly by the write: entries that come
/// fast go together, the others at once.
struct Pace {
    begun: Instant,
    /// Since then.
    entries: usize,
    /// Between two writes; `None`: as they come.
    every: Option<Duration>,
}

impl Pace {
    fn new(now: Instant) -> Pace {
        Pace {
            begun: now,
            entries: 0,
            every: None,
        }
    }

    /// So many entries were written. When the stream is to be written again, if they come fast.
    fn wrote(&mut self, entries: usize, now: Instant) -> Option<Instant> {
        self.entries += entries;
        let time = now - self.begun;
        if time >= PACE {
            // What came long ago says nothing.
            let rate = self.entries as f64 / time.as_secs_f64();
            self.every = match time < 2 * PACE {
                true if rate >= BUSY => Some(PACE),
                true if rate >= LIVELY => Some(LIVELY_PACE),
                _ => None,
            };
            (self.begun, self.entries) = (now, 0);
        }
        Some(now + self.every?)
    }
}

/// Is it still this replica?
fn is_held(groups: &Groups, group: &Arc<Group>) -> bool {
    let held = groups.get(group.id());
    held.is_some_and(|held| Arc::ptr_eq(&held, group))
}

/// What is written at once.
#[derive(Default)]
struct Filled {
    entries: usize,
    /// Nothing comes behind it.
    over: bool,
}

/// As much as is written at once.
fn fill(source: &mut Source, bytes: &mut BytesMut) -> feed::Result<Filled> {
    let mut filled = Filled::default();
    while bytes.len() < WRITE_BYTES && !filled.over {
        let piece = match source.is_long() {
            true => block_in_place(|| source.next())?,
            false => source.next()?,
        };
        let Some(piece) = piece else { break };
        bytes.extend_from_slice(&piece.encode());
        filled.entries += usize::from(matches!(piece, Piece::Entry { .. }));
        filled.over = piece == Piece::Again;
    }
    Ok(filled)
}

/// Takes what the follower says; returns why it says no more.
async fn hear(
    mut from: impl AsyncRead + Unpin,
    choice: &ByCatalog,
    told: &Notify,
    group: &Group,
) -> String {
    loop {
        match Word::read(&mut from).await {
            Ok(Word::Asked(asked)) => {
                choice.ask(asked);
                told.notify_one();
            }
            Ok(Word::Close) => group.close_wanted(),
            Err(error) => return error.to_string(),
        }
    }
}

/// What a node may have, as this one's catalog says. Every applied entry is in the catalog before
/// it can be sent.
struct ByCatalog {
    engine: Arc<Engine>,
    node: u32,
    group: GroupId,
    state: Mutex<Answer>,
}

/// The last answer.
struct Answer {
    asked: Asked,
    /// The version of the catalog that it was given by.
    version: Option<u64>,
    chosen: Arc<Chosen>,
}

impl ByCatalog {
    fn new(engine: Arc<Engine>, node: u32, group: GroupId, asked: Asked) -> ByCatalog {
        let answer = Answer {
            asked,
            version: None,
            chosen: Arc::default(),
        };
        ByCatalog {
            engine,
            node,
            group,
            state: Mutex::new(answer),
        }
    }

    fn ask(&self, asked: Asked) {
        let mut state = self.state.lock();
        (state.asked, state.version) = (asked, None);
    }
}

impl Choice for ByCatalog {
    fn chosen(&self) -> Arc<Chosen> {
        let catalog = self.engine.catalog();
        let mut state = self.state.lock();
        if state.version != Some(catalog.version()) {
            let chosen = catalog.chosen(self.node, self.group, &state.asked);
            state.version = Some(catalog.version());
            if *state.chosen != chosen {
                state.chosen = Arc::new(chosen);
            }
        }
        state.chosen.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_go_together_only_where_they_come_fast() {
        let begun = Instant::now();
        let after = |ms| begun + Duration::from_millis(ms);
        let mut pace = Pace::new(begun);
        for at in 0..100 {
            let now = begun + at * Duration::from_micros(600);
            assert_eq!(pace.wrote(1, now), None, "1,700 a second");
        }
        let mut pace = Pace::new(begun);
        for tick in 0..5 {
            pace.wrote(3, after(2 * tick));
        }
        assert_eq!(pace.wrote(3, after(10)), Some(after(12)), "2,000 a second");
        let mut pace = Pace::new(begun);
        let waits: Vec<_> = (0..6).map(|ms| pace.wrote(4, after(ms))).collect();
        assert_eq!(waits, [None, None, None, None, None, Some(after(10))]);
        assert_eq!(pace.wrote(20, after(10)), Some(after(15)));
        assert_eq!(pace.wrote(9, after(15)), None, "it is not busy any more");
        pace.wrote(20, after(21));
        assert_eq!(pace.wrote(1, after(1000)), None, "that was long ago");
    }
}
