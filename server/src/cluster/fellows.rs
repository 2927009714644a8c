//! What sessions need of the other nodes, as `sql` asks for it: who leads, proof that a leader is
//! still one, what the directory's leader gives out, and notifications.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use raft::NodeId;
use sql::catalog::{RoleId, TableId};
use sql::changes::Interrupt;
use sql::cluster::{Alone, Answer, Asking, Cluster as Fellows, Done, News, Untold, Wish};
use sql::remote::Reading;
use sql::{Error, state};
use storage::{GroupId, Groups, Outcome, Position, TxId};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::ask::{Ask, Told};
use super::{ASK_TIME_MAX, Cluster};
use crate::peer::Lane;
use crate::remote;

/// First byte of a wish that another node has.
pub const WISH: u8 = b'W';
/// First byte of news for sessions that LISTEN.
pub const NEWS: u8 = b'N';
/// First byte of an answer that grants a wish; anything else: not now.
const GRANTED: u8 = 1;

/// The other nodes as sessions see them.
struct View(Arc<Cluster>);

/// A task that ends with who waits for it.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl View {
    fn ask(&self, asks: impl Future<Output = ()> + Send + 'static) -> Asking {
        Box::new(Task(self.0.sql.spawn(asks).abort_handle()))
    }
}

impl Fellows for View {
    fn node(&self) -> u32 {
        self.0.me()
    }

    fn leader(&self, group: GroupId) -> Option<u32> {
        let (parts, me) = (self.0.parts()?, self.0.me());
        let held = parts.engine.groups().get(group);
        match held.filter(|held| !held.is_followed()) {
            Some(held) if held.term().is_some() => Some(me),
            // Elected, and not through with what came before: nobody can be asked yet.
            // A silent one leads no more, or not for long.
            Some(_) => {
                let leader = self.0.leader(group).filter(|node| *node != me);
                leader.filter(|node| !self.0.heard.suspects(*node, Instant::now()))
            }
            // Of a group that is not held here, who says that he leads it, or else who should.
            None => {
                let there = |node| self.0.heard.is_live(node);
                let trusted = |node| there(node) && !self.0.heard.suspects(node, Instant::now());
                if let Some((node, _)) = self.0.leads.leader(group, trusted) {
                    return Some(node);
                }
                let catalog = parts.engine.catalog();
                let voters = catalog.placement(group)?.voters.iter().copied();
                voters.into_iter().find(|node| there(*node))
            }
        }
    }

    fn barrier(&self, group: GroupId, done: Done<Position>) {
        let cluster = self.0.clone();
        self.0
            .sql
            .spawn(async move { done(cluster.pass_barrier(group).await) });
    }

    fn ask_undecided(&self, node: u32, id: TxId, done: Done<bool>) {
        let cluster = self.0.clone();
        self.0.sql.spawn(async move {
            let ask = Ask::Undecided { id: id.0 };
            done(match cluster.ask(node, &ask, ASK_TIME_MAX).await {
                Ok(Told::Undecided { undecided }) => Ok(undecided),
                Ok(_) | Err(_) => {
                    let what = format!("node {node} does not say what became of a transaction");
                    Err(Error::new(state::CANNOT_CONNECT_NOW, what))
                }
            });
        });
    }

    fn ask_directory(&self, wish: Wish, done: Done<Answer>) {
        let cluster = self.0.clone();
        self.0
            .sql
            .spawn(async move { cluster.have_granted(wish, done).await });
    }

    fn want(&self, role: RoleId, group: GroupId, table: TableId, done: Done<()>) -> Asking {
        let cluster = self.0.clone();
        self.ask(async move { done(cluster.have_table(role, group, table).await) })
    }

    fn read_view(
        &self,
        request: sql::remote::Request,
        near: Option<u32>,
        interrupt: Interrupt,
    ) -> Box<dyn Reading> {
        remote::read(&self.0, &request, near, interrupt)
    }

    fn taken_away(
        &self,
        group: GroupId,
        position: Position,
        untold: Untold,
        done: Done<()>,
    ) -> Asking {
        let cluster = self.0.clone();
        untold.begin(cluster.others());
        untold.may_be_more();
        self.ask(async move {
            cluster.tell_taken_away(group, position, &untold).await;
            done(Ok(()));
        })
    }

    fn doubts(&self, groups: &[GroupId], own: Option<GroupId>) -> Option<GroupId> {
        self.0.doubts(groups, own)
    }

    fn vouch(&self, group: GroupId, done: Done<()>) -> Asking {
        let cluster = self.0.clone();
        self.ask(async move { done(cluster.have_vouched(group).await) })
    }

    fn knows_all(&self) -> bool {
        self.0.knows_all()
    }

    fn has_listeners(&self) -> bool {
        !self.0.heard.listening().is_empty()
    }

    fn notify(&self, news: &News) {
        let mut request = BytesMut::from(&[NEWS][..]);
        request.put_slice(&news.encode());
        let request = request.freeze();
        for node in self.0.heard.listening() {
            let (cluster, request) = (self.0.clone(), request.clone());
            self.0.sql.spawn(async move {
                let sent = cluster.call(node, Lane::Control, request, ASK_TIME_MAX);
                if let Err(error) = sent.await {
                    tracing::debug!(node, %error, "notifications did not arrive");
                }
            });
        }
    }
}

/// The other nodes as sessions see them; of a node that nobody reaches there are none.
pub fn fellows(cluster: &Arc<Cluster>, groups: &Arc<Groups>) -> Arc<dyn Fellows> {
    match cluster.is_reachable() {
        true => Arc::new(View(cluster.clone())),
        false => Alone::new(groups.clone()),
    }
}

/// What a session is told: it asks again, or gives up in time.
fn unreachable(group: GroupId, why: &str) -> Error {
    let what = format!("the leader of group {group} can't be asked: {why}");
    Error::new(state::CANNOT_CONNECT_NOW, what)
}

impl Cluster {
    /// Where this node leads, a quorum confirms it; else the leader is asked, and what it says is
    /// waited for here.
    pub(super) async fn pass_barrier(&self, group: GroupId) -> Result<Position, Error> {
        let Some(parts) = self.parts() else {
            return Err(unreachable(group, "the node is starting"));
        };
        let held = parts.engine.groups().get(group);
        let Some(held) = held else {
            return Err(unreachable(group, "it is not held here"));
        };
        if held.term().is_some() {
            let passed = parts.raft.read_barrier(group).await;
            return passed.map_err(|error| unreachable(group, &error.to_string()));
        }
        // Of a group that is only followed here Raft knows none.
        let known = self.leader(group).or_else(|| self.leads_elsewhere(group));
        let Some(leader) = known.filter(|node| *node != self.me()) else {
            return Err(unreachable(group, "there is none"));
        };
        let ask = Ask::Barrier { group: group.0 };
        let position = match self.ask(leader, &ask, ASK_TIME_MAX).await {
            Ok(Told::Passed { position }) => Position(position),
            Ok(Told::NotNow { why } | Told::Refused { why }) | Err(why) => {
                return Err(unreachable(group, &why));
            }
            Ok(_) => return Err(unreachable(group, "no answer to it")),
        };
        let (told, outcome) = tokio::sync::oneshot::channel();
        // Nobody hears it if this call was given up.
        let tell = move |outcome| told.send(outcome).unwrap_or_default();
        held.when(position, Box::new(tell));
        match tokio::time::timeout(ASK_TIME_MAX, outcome).await {
            Ok(Ok(Outcome::Applied)) => Ok(position),
            Ok(_) | Err(_) => Err(unreachable(group, "its entries don't arrive")),
        }
    }

    async fn have_granted(&self, wish: Wish, done: Done<Answer>) {
        let directory = GroupId::DIRECTORY;
        let Some(parts) = self.parts() else {
            return done(Err(unreachable(directory, "the node is starting")));
        };
        let leader = parts.raft.leader(directory);
        match leader {
            Some(NodeId(node)) if node == self.me() => parts.engine.serve_wish(wish, done),
            Some(NodeId(node)) => {
                let mut request = BytesMut::from(&[WISH][..]);
                request.put_slice(&wish.encode());
                let called = self.call(node, Lane::Control, request.freeze(), ASK_TIME_MAX);
                done(match called.await {
                    Ok(answer) => granted(&answer),
                    Err(error) => Err(unreachable(directory, &error.to_string())),
                });
            }
            None => done(Err(unreachable(directory, "there is none"))),
        }
    }

    /// The directory leader's side of a wish.
    pub(super) async fn grant(self: Arc<Cluster>, request: Bytes) -> Bytes {
        let not_now = Bytes::new();
        let (Some(parts), Ok(wish)) = (self.parts(), Wish::decode(&request[1..])) else {
            return not_now;
        };
        let (told, answer) = tokio::sync::oneshot::channel();
        // Nobody hears it if the connection has ended.
        let tell = move |answer| drop(told.send(answer));
        parts.engine.serve_wish(wish, Box::new(tell));
        match answer.await {
            Ok(Ok(answer)) => {
                let mut bytes = BytesMut::from(&[GRANTED][..]);
                bytes.put_slice(&answer.encode());
                bytes.freeze()
            }
            Ok(Err(_)) | Err(_) => not_now,
        }
    }
}

impl Cluster {
    /// News of another node for sessions here.
    pub(super) fn take_news(&self, request: &[u8]) {
        if let (Some(parts), Ok(news)) = (self.parts(), News::decode(&request[1..])) {
            parts.engine.notified(news);
        }
    }
}

fn granted(answer: &[u8]) -> Result<Answer, Error> {
    match answer.split_first() {
        Some((&GRANTED, answer)) => Answer::decode(answer),
        _ => Err(unreachable(GroupId::DIRECTORY, "not now")),
    }
}
