//! How a node comes into a cluster. Who has `--join` begins none: it asks the nodes named there
//! until one of them takes it in. Who takes it in is the directory's leader, which gives numbers.

use std::sync::Arc;
use std::time::Duration;

use sql::catalog::{Catalog, Change, Node, NodeState, Object};
use storage::GroupId;

use super::ask::{Ask, Told};
use super::identity::Member;
use super::{ASK_TIME_MAX, Cluster};
use crate::Failure;

/// Between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(250);
/// How often a question is sent on to another node in one round.
const HOPS_MAX: u32 = 4;

impl Cluster {
    /// Makes this node the first one of a new cluster.
    pub fn found(&self) -> Result<(), Failure> {
        Ok(self.become_member(Member::first(), true)?)
    }

    /// Waits until this node is a member of a cluster: of one that takes it in, or of its own if
    /// somebody runs `freehold init` meanwhile.
    pub async fn wait_for_member(self: &Arc<Cluster>) -> Result<Member, Failure> {
        let mut member = self.member.subscribe();
        let mut logged = String::new();
        let seeds = self.place.seeds.join(", ");
        tracing::info!(seeds, "waiting for a cluster to take this node in");
        loop {
            if let Some(member) = self.member() {
                return Ok(member);
            }
            for seed in &self.place.seeds {
                match self.ask_to_join(seed).await {
                    Ok(joined) if self.member().is_none() => {
                        self.become_member(joined, false)?;
                        let (cluster, node) = (joined.cluster, joined.node);
                        tracing::info!(%cluster, node, "taken in");
                        break;
                    }
                    Ok(_) => break,
                    Err(why) if why != logged => {
                        tracing::info!(seed, why, "not taken in yet");
                        logged = why;
                    }
                    Err(_) => {}
                }
            }
            tokio::select! {
                _ = member.changed() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Tells the directory where this node is now: it may have moved since it was taken in.
    /// Again and again until somebody has taken note.
    pub async fn announce(self: Arc<Cluster>) {
        loop {
            let known = self.catalog().and_then(|c| c.node(self.me()).cloned());
            if known.is_some_and(|known| self.is_current(&known)) {
                return;
            }
            let mut addresses = self.place.seeds.clone();
            addresses.extend(self.others().into_iter().filter_map(|n| self.address(n)));
            let here = self.take_in(self.request_to_join()).await;
            let mut noted = matches!(here, Told::Joined { .. });
            for address in addresses {
                noted = noted || self.ask_to_join(&address).await.is_ok();
            }
            if !noted {
                tracing::debug!("the directory does not know yet where this node is");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn is_current(&self, known: &Node) -> bool {
        known.address == self.place.address
            && known.client_address == self.place.client_address
            && known.locality == self.place.locality
    }

    fn request_to_join(&self) -> Ask {
        Ask::Join {
            incarnation: self.stored.lock().incarnation,
            address: self.place.address.clone(),
            client_address: self.place.client_address.clone(),
            locality: self.place.locality.clone(),
        }
    }

    /// Asks a node, and whom it names, to take this one in.
    async fn ask_to_join(&self, seed: &str) -> Result<Member, String> {
        let mut address = seed.to_owned();
        for _ in 0..HOPS_MAX {
            let ask = self.request_to_join();
            match self.ask_at(&address, &ask, ASK_TIME_MAX).await? {
                Told::Joined { member } => return Ok(member),
                Told::Elsewhere { address: next } => address = next,
                Told::NotNow { why } | Told::Refused { why } => return Err(why),
                Told::Here { .. }
                | Told::Leads { .. }
                | Told::Copies { .. }
                | Told::Erased { .. }
                | Told::Traces { .. }
                | Told::Lags { .. }
                | Told::Undecided { .. }
                | Told::Passed { .. }
                | Told::Done { .. }
                | Told::Gone
                | Told::Silent => {
                    return Err("no answer to it".into());
                }
            }
        }
        Err("no node leads the directory".into())
    }

    /// The other side: takes a node in if this one leads the directory, or says who does.
    pub(super) async fn take_in(self: &Arc<Cluster>, ask: Ask) -> Told {
        let not_now = |why: &str| Told::NotNow { why: why.into() };
        let (Some(member), Some(parts)) = (self.member(), self.parts()) else {
            return not_now("it is in no cluster yet");
        };
        if self.is_founding() {
            // The first entry of a cluster makes its superuser.
            return not_now("it is about to begin its cluster");
        }
        let Ask::Join {
            incarnation,
            address,
            client_address,
            locality,
        } = ask
        else {
            return not_now("it is no request to join");
        };
        if let Some(elsewhere) = self.directory_elsewhere(parts) {
            return elsewhere;
        }
        let own = incarnation == self.stored.lock().incarnation;
        let wanted = Node {
            // The leader has a number before it stands in the directory.
            number: if own { member.node } else { 0 },
            incarnation: incarnation.to_string(),
            address,
            client_address,
            locality,
            state: NodeState::Active,
        };
        let mut number = 0;
        let decide = |catalog: &Catalog| {
            let (given, changes) = enter(catalog, &wanted, member.node);
            number = given;
            changes
        };
        match self.write_directory(parts, decide).await {
            Err(why) => not_now(&why),
            Ok(_) if number == 0 => Told::Refused {
                why: "the node was replaced while it was away: start it with an empty folder"
                    .into(),
            },
            Ok(_) => {
                let (cluster, node) = (member.cluster, number);
                Told::Joined {
                    member: Member { cluster, node },
                }
            }
        }
    }
}

/// The number of a node that wants to be in, and what must be written for it; 0: it may not.
/// `leader`: the number of who decides, which may not stand in the directory yet.
fn enter(catalog: &Catalog, wanted: &Node, leader: u32) -> (u32, Vec<Change>) {
    let same = |node: &&Arc<Node>| node.incarnation == wanted.incarnation;
    if let Some(known) = catalog.nodes().find(same) {
        if known.state == NodeState::Gone {
            return (0, Vec::new());
        }
        let now = Node {
            number: known.number,
            state: known.state,
            ..wanted.clone()
        };
        if **known == now {
            return (known.number, Vec::new());
        }
        let (old, new) = (Object::Node(Arc::clone(known)), Object::Node(now.into()));
        let change = Change::replace(GroupId::DIRECTORY, old, new);
        return (known.number, vec![change]);
    }
    let greatest = catalog.nodes().map(|node| node.number).max();
    let number = match wanted.number {
        0 => greatest.unwrap_or(0).max(leader) + 1,
        own => own,
    };
    let node = Node {
        number,
        ..wanted.clone()
    };
    let change = Change::create(GroupId::DIRECTORY, Object::Node(node.into()));
    (number, vec![change])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(incarnation: &str, address: &str) -> Node {
        Node {
            number: 0,
            incarnation: incarnation.into(),
            address: address.into(),
            client_address: String::new(),
            locality: Default::default(),
            state: NodeState::Active,
        }
    }

    #[test]
    fn a_folder_gets_one_number_and_keeps_it() {
        let mut catalog = Catalog::default();
        // Others may come before the leader has written itself down.
        for (incarnation, expected) in [("b", 2), ("c", 3)] {
            let (number, changes) = enter(&catalog, &node(incarnation, "x:1"), 1);
            assert_eq!(number, expected);
            catalog = catalog.with(&changes);
        }
        let leader = Node {
            number: 1,
            ..node("a", "x:1")
        };
        let (number, changes) = enter(&catalog, &leader, 1);
        assert_eq!(number, 1);
        catalog = catalog.with(&changes);
        assert_eq!(enter(&catalog, &node("b", "x:1"), 1), (2, Vec::new()));
        let (number, changes) = enter(&catalog, &node("b", "y:1"), 1);
        assert_eq!(number, 2, "it has moved");
        let catalog = catalog.with(&changes);
        assert_eq!(catalog.node(2).unwrap().address, "y:1");
    }

    #[test]
    fn a_number_never_comes_again() {
        let mut gone = node("a", "x:1");
        (gone.number, gone.state) = (4, NodeState::Gone);
        let gone = Change::create(GroupId::DIRECTORY, Object::Node(gone.into()));
        let catalog = Catalog::default().with(&[gone]);
        assert_eq!(enter(&catalog, &node("a", "x:1"), 1), (0, Vec::new()));
        assert_eq!(enter(&catalog, &node("b", "x:1"), 1).0, 5);
    }
}
