//! The other end of a follower: gives another node what it may have of a group that is held here
//! by Raft, as this node's catalog says.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use feed::follow::{Choice, Piece, Source};
use parking_lot::Mutex;
use sql::engine::Engine;
use storage::{Chosen, Group, GroupId, Groups};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::nearest::{Leader, holders};
use super::words::{Asked, Opening, Word};
use super::{
    BUSY, HEARTBEAT, LEADER_ENTRIES_MAX, LEADER_SPAN, LIVELY, LIVELY_PACE, PACE, SILENT_AFTER,
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
    let (read, write) = tokio::io::split(stream);
    let too_much = |rate| cluster.is_too_much(group, peer, rate);
    let why = tokio::select! {
        why = give(source, engine.groups(), cluster.sql(), write, &told, too_much) => why,
        why = hear(read, &choice, &told, &held) => why,
    };
    tracing::debug!(%group, peer, why, "a follower has left");
}

/// Gives what there is, again and again; returns why it ends. `too_much`: are so many entries a
/// second, of this stream, more than the node should give? Little is read at once where Raft runs; much
/// of it, and rows, beside: commits wait for those threads.
async fn give(
    mut source: Source,
    groups: &Groups,
    sql: &Handle,
    mut to: impl AsyncWrite + Unpin,
    told: &Notify,
    too_much: impl Fn(f64) -> bool,
) -> String {
    let mut next_sign = Instant::now() + HEARTBEAT;
    let mut bytes = BytesMut::new();
    let mut pace = Pace::new(Instant::now());
    let mut span = Span::new(Instant::now());
    let mut much = false;
    loop {
        let upto = source.group().applied();
        let filled;
        if much || source.is_sending_rows() {
            let filling = move || {
                let filled = fill(&mut source, &mut bytes);
                (source, bytes, filled)
            };
            (source, bytes, filled) = match sql.spawn_blocking(filling).await {
                Ok(done) => done,
                // A panic, which was logged; or the node ends.
                Err(error) => return error.to_string(),
            };
        } else {
            filled = fill(&mut source, &mut bytes);
        }
        let filled = match filled {
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
        span.entries += filled.entries;
        if span.is_over(now) && too_much(span.next(now)) {
            let _ = to.shutdown().await;
            return "a leader has no time for it".into();
        }
        let next = pace.wrote(filled.entries, now);
        let full = bytes.len() >= WRITE_BYTES;
        much = full || next.is_some();
        if let Some(next) = next.filter(|_| !full) {
            sleep_until(next).await;
        }
        bytes.clear();
    }
}

/// A time, and the entries that were written in it.
struct Span {
    begun: Instant,
    entries: usize,
}

impl Span {
    fn new(begun: Instant) -> Span {
        Span { begun, entries: 0 }
    }

    fn is_over(&self, now: Instant) -> bool {
        now - self.begun >= LEADER_SPAN
    }

    /// Entries a second in it; the next one begins.
    fn next(&mut self, now: Instant) -> f64 {
        let last = std::mem::replace(self, Span::new(now));
        last.entries as f64 / (now - last.begun).as_secs_f64()
    }
}

impl Cluster {
    /// Does this node lead a group and write too much to its followers, so that this one, which gets
    /// so many entries a second, is to have them from another replica?
    fn is_too_much(&self, group: GroupId, peer: u32, rate: f64) -> bool {
        let follows = self.follows();
        if rate * follows.listeners(group) as f64 <= LEADER_ENTRIES_MAX
            || self.leader(group) != Some(self.me())
        {
            return false;
        }
        let other = |node: &u32| *node != peer && self.is_live(*node);
        holders(self, group, Leader::Last).iter().any(other)
            && follows.send_away(group, peer, Instant::now())
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
        let piece = match source.is_sending_rows() {
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
    use super::super::{Follows, SENT_AWAY_FOR};
    use super::*;

    #[test]
    fn a_leader_counts_what_it_writes_and_sends_nobody_away_twice_in_a_row() {
        let begun = Instant::now();
        let mut span = Span::new(begun);
        span.entries += 500;
        assert!(!span.is_over(begun + LEADER_SPAN / 2));
        let over = begun + LEADER_SPAN;
        assert!(span.is_over(over));
        assert_eq!(span.next(over), 500.0 / LEADER_SPAN.as_secs_f64());
        assert!(!span.is_over(over), "the next one has begun");
        assert_eq!(span.next(over + LEADER_SPAN), 0.0);

        let follows = Follows::default();
        let (orders, billing) = (GroupId(7), GroupId(8));
        let first = follows.listen(orders);
        let second = follows.listen(orders);
        assert_eq!([orders, billing].map(|of| follows.listeners(of)), [2, 0]);
        drop(first);
        assert_eq!(follows.listeners(orders), 1);
        drop(second);
        assert!(follows.send_away(orders, 4, begun));
        let soon = begun + SENT_AWAY_FOR / 2;
        assert!(!follows.send_away(orders, 4, soon), "nobody else has it");
        assert!(follows.send_away(orders, 5, soon));
        assert!(follows.send_away(billing, 4, soon));
        assert!(follows.send_away(orders, 4, begun + SENT_AWAY_FOR));
    }

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
