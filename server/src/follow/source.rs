//! The other end of a follower: gives another node what it may have of a group that is held here
//! by Raft, as this node's catalog says.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use feed::follow::{Choice, Piece, Source};
use parking_lot::Mutex;
use sql::engine::Engine;
use storage::{Chosen, Group, GroupId, Groups};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::task::block_in_place;
use tokio::time::{Instant, timeout, timeout_at};

use super::words::{Asked, Opening, Word};
use super::{HEARTBEAT, SILENT_AFTER, WRITE_BYTES};
use crate::cluster::Cluster;
use crate::peer::PeerStream;

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
    let why = tokio::select! {
        why = give(source, engine.groups(), write, &told) => why,
        why = hear(read, &choice, &told, &held) => why,
    };
    tracing::debug!(%group, peer, why, "a follower has left");
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
    loop {
        let upto = source.group().applied();
        let over = match fill(&mut source, &mut bytes) {
            Ok(over) => over,
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
        match timeout(SILENT_AFTER, to.write_all(&bytes)).await {
            Ok(Ok(())) => bytes.clear(),
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return format!("it has read nothing for {SILENT_AFTER:?}"),
        }
        next_sign = Instant::now() + HEARTBEAT;
        if over {
            // It ends by itself, behind what was said last.
            let _ = to.shutdown().await;
            return "it begins anew".into();
        }
    }
}

/// Is it still this replica?
fn is_held(groups: &Groups, group: &Arc<Group>) -> bool {
    let held = groups.get(group.id());
    held.is_some_and(|held| Arc::ptr_eq(&held, group))
}

/// As much as is written at once. True: nothing comes behind it.
fn fill(source: &mut Source, bytes: &mut BytesMut) -> feed::Result<bool> {
    while bytes.len() < WRITE_BYTES {
        let piece = match source.is_sending_rows() {
            true => block_in_place(|| source.next())?,
            false => source.next()?,
        };
        let Some(piece) = piece else { break };
        bytes.extend_from_slice(&piece.encode());
        if piece == Piece::Again {
            return Ok(true);
        }
    }
    Ok(false)
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
