//! What other nodes ask of this one, and whether they may.

use std::sync::Arc;

use bytes::Bytes;
use raft::NodeId;
use sql::catalog::NodeState;
use storage::{Clock as _, GroupId, TxId};
use tokio::time::Instant;

use super::ask::{self, Ask, Told};
use super::claims::Claims;
use super::fellows::{NEWS, WISH};
use super::{ASK_TIME_MAX, Cluster, Run};
use crate::peer::{
    BoxFuture, FORMAT_VERSION, Hello, Identity, Lane, PeerStream, Service, Unreachable,
};
use crate::system::SystemClock;
use crate::{feeds, follow, gateway, remote};

/// Between two looks at whether sessions are served here.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

impl Service for Cluster {
    fn admit(&self, peer: &Hello) -> Result<(), String> {
        if peer.format.abs_diff(FORMAT_VERSION) > 1 {
            return Err(format!(
                "its formats have version {}, this node's {FORMAT_VERSION}: upgrade one version \
                 at a time",
                peer.format
            ));
        }
        let who = &peer.identity;
        let (Some(member), Some(cluster)) = (self.member(), who.cluster) else {
            // One of the two is in no cluster: it may ask to be taken in, and nothing else.
            return Ok(());
        };
        if cluster != member.cluster {
            return Err(format!(
                "it belongs to cluster {cluster}, this node to {}",
                member.cluster
            ));
        }
        if let Some(known) = self.catalog().and_then(|c| c.node(who.node).cloned()) {
            if known.incarnation != who.incarnation.to_string() {
                return Err(format!(
                    "node {} is another data folder: an empty folder joins under a new number",
                    who.node
                ));
            }
            if known.state == NodeState::Gone {
                return Err(format!(
                    "node {} was replaced while it was away: start it with an empty folder",
                    who.node
                ));
            }
        }
        if who.node == member.node {
            return Err(format!("node {} is this node itself", who.node));
        }
        if peer.claims.is_empty() {
            // What it acknowledged from here on would be held against what it will say then.
            return Err(format!("node {} is still opening its journal", who.node));
        }
        self.check_run(peer)?;
        // Before this node leads anything, if it is starting.
        self.note_clock(who.node, peer.clock_micros, std::time::Instant::now());
        if !who.address.is_empty() {
            self.book.learn(who.node, &who.address);
        }
        Ok(())
    }

    fn hello(&self) -> Hello {
        let incarnation = self.stored.lock().incarnation;
        let member = self.member();
        let identity = Identity {
            cluster: member.map(|member| member.cluster),
            node: member.map_or(0, |member| member.node),
            incarnation,
            address: self.place.address.clone(),
            client_address: self.place.client_address.clone(),
        };
        let claims = self.parts().map(|parts| Claims {
            run: self.run,
            ends: parts.raft.ends().clone(),
        });
        let claims = claims.map(|claims| claims.encode()).unwrap_or_default();
        Hello::new(identity, SystemClock.unix_micros(), claims)
    }

    fn request(
        self: Arc<Self>,
        peer: Arc<Identity>,
        _lane: Lane,
        request: Bytes,
    ) -> BoxFuture<'static, Bytes> {
        if request.first() == Some(&ask::FIRST_BYTE) {
            return Box::pin(async move {
                let sql = self.sql.clone();
                let answer = sql.spawn(async move { self.answer(&peer, &request).await });
                match answer.await {
                    Ok(told) => told.encode(),
                    // It panicked, which was logged.
                    Err(_) => Bytes::new(),
                }
            });
        }
        if request.first() == Some(&WISH) && self.is_fellow(&peer) {
            return Box::pin(async move {
                let sql = self.sql.clone();
                let granted = sql.spawn(async move { self.grant(request).await });
                // It panicked, which was logged.
                granted.await.unwrap_or_default()
            });
        }
        if request.first() == Some(&NEWS) && self.is_fellow(&peer) {
            self.take_news(&request);
            return Box::pin(std::future::ready(Bytes::new()));
        }
        if request.first() == Some(&gateway::REQUEST) {
            let sessions = self.sessions().filter(|_| self.is_fellow(&peer));
            let answer = sessions.and_then(|sessions| {
                let _sql = self.sql.enter();
                gateway::serve_request(&sessions, request)
            });
            return Box::pin(std::future::ready(answer.unwrap_or_default()));
        }
        match self.parts() {
            Some(parts) if self.is_fellow(&peer) => parts.raft.serve(NodeId(peer.node), request),
            _ => Box::pin(std::future::ready(Bytes::new())),
        }
    }

    fn stream(
        self: Arc<Self>,
        peer: Arc<Identity>,
        opening: Bytes,
        stream: PeerStream,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if !self.is_fellow(&peer) {
                return stream.reset("only nodes of the cluster open streams");
            }
            if opening.first() == Some(&follow::FIRST_BYTE) {
                let following = follow::serve(self.clone(), peer.node, opening, stream);
                // A panic ends this stream alone, and was logged.
                let _ = self.sql.spawn(following).await;
                return;
            }
            if opening.first() == Some(&feeds::FIRST_BYTE) {
                let giving = feeds::serve(self.clone(), peer.node, opening, stream);
                // A panic ends this stream alone, and was logged.
                let _ = self.sql.spawn(giving).await;
                return;
            }
            if opening.first() == Some(&remote::FIRST_BYTE) {
                let giving = remote::serve(self.clone(), peer.node, opening, stream);
                // A panic ends this stream alone, and was logged.
                let _ = self.sql.spawn(giving).await;
                return;
            }
            // A node that starts may lead before it serves.
            let begun = Instant::now();
            let sessions = loop {
                match self.sessions() {
                    Some(sessions) => break sessions,
                    None if begun.elapsed() < ASK_TIME_MAX => tokio::time::sleep(PAUSE).await,
                    None => return stream.reset("no sessions are served here"),
                }
            };
            // Statements that compute block their thread: they have a runtime for that.
            let served = self
                .sql
                .spawn(gateway::serve_stream(sessions, opening, stream));
            // A panic ends this session alone, and was logged.
            let _ = served.await;
        })
    }
}

impl gateway::Nodes for Cluster {
    fn open(
        self: Arc<Self>,
        node: u32,
        opening: Bytes,
    ) -> BoxFuture<'static, Result<PeerStream, Unreachable>> {
        Box::pin(async move { Cluster::open(&self, node, opening).await })
    }

    fn call(
        self: Arc<Self>,
        node: u32,
        request: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Unreachable>> {
        Box::pin(
            async move { Cluster::call(&self, node, Lane::Control, request, ASK_TIME_MAX).await },
        )
    }
}

impl Cluster {
    /// A process that is met for the first time must have what its node has acknowledged to this
    /// one, and the one before it must have gone silent.
    fn check_run(&self, peer: &Hello) -> Result<(), String> {
        let (node, claims) = (peer.identity.node, Claims::decode(&peer.claims));
        let Some(parts) = self.parts().filter(|_| claims.run != 0) else {
            return Ok(());
        };
        let mut runs = self.runs.lock();
        if let Some(known) = runs.get(&node) {
            if known.run == claims.run {
                return Ok(());
            }
            if known.address != peer.identity.address && self.heard.is_live(node) {
                return Err(format!(
                    "node {node} runs at {}: a copy of its folder must not run beside it",
                    known.address
                ));
            }
            // Of a group that this node leads it knows what that one had.
            let acknowledged = |group: storage::GroupId| {
                let replicas = parts.raft.replicas(group).into_iter();
                let of_peer = replicas.filter(move |r| r.node.0 == node);
                of_peer.filter_map(move |r| Some((group, r.matched?)))
            };
            let groups = parts.engine.groups().all().into_iter();
            let led = groups.filter(|group| group.term().is_some());
            if let Some(group) = claims.lacks(led.flat_map(|group| acknowledged(group.id()))) {
                return Err(format!(
                    "node {node} has lost entries of group {group} that it had: start it with an \
                     empty folder, it joins under a new number"
                ));
            }
        }
        let address = peer.identity.address.clone();
        let run = claims.run;
        runs.insert(node, Run { run, address });
        Ok(())
    }

    /// Is the peer another node of this cluster?
    fn is_fellow(&self, peer: &Identity) -> bool {
        self.member()
            .is_some_and(|member| peer.cluster == Some(member.cluster) && peer.node != 0)
    }

    /// Has the peer, whose connection is older than that, been replaced?
    fn has_given_up(&self, peer: &Identity) -> bool {
        let known = self.catalog().and_then(|c| c.node(peer.node).cloned());
        self.is_fellow(peer) && known.is_some_and(|known| known.state == NodeState::Gone)
    }

    async fn answer(self: &Arc<Cluster>, peer: &Identity, request: &[u8]) -> Told {
        let Some(ask) = Ask::decode(request) else {
            let why = "this node does not know the request".into();
            return Told::Refused { why };
        };
        if self.has_given_up(peer) {
            return Told::Gone;
        }
        match ask {
            Ask::Ping | Ask::PingMe => {
                if self.is_fellow(peer) {
                    let now = Instant::now();
                    self.heard.note(peer.node, now);
                    if ask == Ask::PingMe {
                        self.heard.ask_soon(peer.node, now);
                    }
                }
                let (draining, listens, leads) = self.news();
                Told::Here {
                    member: self.member(),
                    draining,
                    listens,
                    leads,
                    clock: SystemClock.unix_micros(),
                }
            }
            Ask::Leads if self.is_fellow(peer) => {
                let (version, says) = self.leads.own();
                Told::Leads { version, says }
            }
            Ask::Init => self.init().await,
            Ask::Join { .. } => self.take_in(ask).await,
            Ask::Alter { .. } | Ask::Claim { .. } if self.is_fellow(peer) => self.alter(&ask).await,
            Ask::Barrier { group } if self.is_fellow(peer) => self.barrier(GroupId(group)).await,
            Ask::Undecided { id } if self.is_fellow(peer) => self.undecided(TxId(id)),
            Ask::TakenAway { .. } if self.is_fellow(peer) => self.note_taken_away(ask).await,
            Ask::Copies { after } if self.is_fellow(peer) => self.say_copies(after),
            Ask::Lags { of } if self.is_fellow(peer) => Told::Lags {
                bytes: self.lags(&of),
            },
            Ask::Erased { groups } if self.is_fellow(peer) => {
                tokio::task::block_in_place(|| self.say_erased(&groups))
            }
            Ask::Traces { group, tree, key } if self.is_fellow(peer) => {
                tokio::task::block_in_place(|| self.say_traces(GroupId(group), tree, &key))
            }
            Ask::Leads
            | Ask::Copies { .. }
            | Ask::Traces { .. }
            | Ask::Erased { .. }
            | Ask::Lags { .. }
            | Ask::Alter { .. }
            | Ask::Claim { .. }
            | Ask::Barrier { .. }
            | Ask::Undecided { .. }
            | Ask::TakenAway { .. } => Told::Refused {
                why: "only nodes of the cluster may ask this".into(),
            },
        }
    }

    fn undecided(&self, id: TxId) -> Told {
        let Some(engine) = self.engine() else {
            return Told::NotNow {
                why: "the node is starting".into(),
            };
        };
        match engine.is_undecided(id) {
            Ok(undecided) => Told::Undecided { undecided },
            Err(error) => Told::NotNow {
                why: error.to_string(),
            },
        }
    }

    async fn barrier(&self, group: GroupId) -> Told {
        let Some(parts) = self.parts() else {
            let why = "the node is starting".into();
            return Told::NotNow { why };
        };
        match parts.raft.read_barrier(group).await {
            Ok(position) => Told::Passed {
                position: position.0,
            },
            Err(error) => Told::NotNow {
                why: error.to_string(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::cluster::Place;
    use crate::cluster::identity::Member;
    use crate::temporary::Temporary;

    const OURS: Uuid = Uuid::from_u128(1);

    async fn node(folder: &Temporary, member: Option<Member>) -> Arc<Cluster> {
        let place = Place {
            data: folder.path().to_owned(),
            address: "here:1".into(),
            client_address: "here:2".into(),
            locality: Default::default(),
            seeds: Vec::new(),
            replace_after: std::time::Duration::MAX,
        };
        let cluster = Cluster::of(place, false).unwrap();
        if let Some(member) = member {
            cluster.become_member(member, false).unwrap();
        }
        cluster
    }

    fn peer(cluster: Option<Uuid>, node: u32) -> Hello {
        let identity = Identity {
            cluster,
            node,
            incarnation: Uuid::from_u128(u128::from(node)),
            address: "there:1".into(),
            client_address: String::new(),
        };
        let claims = Claims {
            run: 1,
            ends: Default::default(),
        };
        Hello::new(identity, 0, claims.encode())
    }

    #[tokio::test]
    async fn nodes_of_one_cluster_meet_and_no_others() {
        let folder = Temporary::make("admit").unwrap();
        let member = Member {
            cluster: OURS,
            node: 1,
        };
        let node = node(&folder, Some(member)).await;
        assert_eq!(node.admit(&peer(Some(OURS), 2)), Ok(()));
        assert_eq!(node.address(2).as_deref(), Some("there:1"));
        let other = node.admit(&peer(Some(Uuid::from_u128(2)), 2)).unwrap_err();
        assert!(other.contains("belongs to cluster"), "{other}");
        let itself = node.admit(&peer(Some(OURS), 1)).unwrap_err();
        assert!(itself.contains("is this node itself"), "{itself}");
        let mut early = peer(Some(OURS), 3);
        early.claims = Bytes::new();
        let early = node.admit(&early).unwrap_err();
        assert!(early.contains("opening its journal"), "{early}");
        // It may ask to be taken in, and nothing else.
        let stranger = peer(None, 0);
        assert_eq!(node.admit(&stranger), Ok(()));
        assert!(!node.is_fellow(&stranger.identity));
        let barrier = Ask::Barrier { group: 0 }.encode();
        let refused = node.answer(&stranger.identity, &barrier).await;
        assert!(matches!(refused, Told::Refused { .. }), "{refused:?}");
    }

    #[tokio::test]
    async fn a_node_of_the_next_format_is_admitted_and_none_beyond() {
        let folder = Temporary::make("admit").unwrap();
        let member = Member {
            cluster: OURS,
            node: 1,
        };
        let node = node(&folder, Some(member)).await;
        let mut next = peer(Some(OURS), 2);
        next.format = FORMAT_VERSION + 1;
        assert_eq!(node.admit(&next), Ok(()));
        next.format = FORMAT_VERSION + 2;
        let refused = node.admit(&next).unwrap_err();
        assert!(refused.contains("one version at a time"), "{refused}");
    }

    #[tokio::test]
    async fn an_empty_node_is_initialized_once() {
        let folder = Temporary::make("admit").unwrap();
        let node = node(&folder, None).await;
        let begun = node
            .answer(&peer(None, 0).identity, &Ask::Init.encode())
            .await;
        let Told::Joined { member } = begun else {
            panic!("{begun:?}");
        };
        assert_eq!((member.node, node.member()), (1, Some(member)));
        assert!(node.is_founding());
        let again = node
            .answer(&peer(None, 0).identity, &Ask::Init.encode())
            .await;
        assert!(matches!(again, Told::Refused { .. }), "{again:?}");
    }
}
