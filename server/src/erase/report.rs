//! How copies report: the leader of a group asks the nodes that have copies of it how far they have erased,
//! and writes it down. One question per node and second at most, for all groups that this node leads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sql::engine::Engine;
use storage::erase::{Copy, Erasure};
use storage::{Clock as _, Group, GroupId, Position};
use tokio::task::{JoinSet, block_in_place};

use super::LOOK;
use crate::cluster::Cluster;
use crate::cluster::ask::{Ask, Told};
use crate::system::SystemClock;

/// How long a node may take to say how far it has erased.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
/// Groups in one question; the others are asked for in the next ones.
const ASKED_MAX: usize = 4096;

pub(super) struct Reporter {
    pub cluster: Arc<Cluster>,
    pub engine: Arc<Engine>,
    pub raft: Arc<raft::Node>,
    /// Nodes without a copy, when asked about what was erased up to there: they are asked again about
    /// what comes after.
    pub without: BTreeMap<(u32, GroupId), Position>,
    /// Questions begin with this group: not all had room in the last ones.
    pub next: GroupId,
}

/// A group that this node leads, and what is known of its copies.
struct Led {
    group: Arc<Group>,
    /// This node has erased up to here.
    upto: Position,
    /// All replicas have up to here.
    everywhere: Position,
    known: Vec<Erasure>,
    replicas: BTreeSet<u32>,
}

impl Led {
    fn copy(&self, node: u32) -> Copy {
        Copy {
            node,
            followed: !self.replicas.contains(&node),
        }
    }

    /// What the node's copy has told last.
    fn told(&self, node: u32) -> Position {
        let copy = self.copy(node);
        let of = self.known.iter().filter(|known| known.copy == copy);
        of.map(|known| known.upto).max().unwrap_or_default()
    }
}

impl Reporter {
    pub async fn keep(&mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.report().await;
        }
    }

    /// Writes down, for groups that this node leads, which copies have erased.
    async fn report(&mut self) {
        let led = block_in_place(|| self.led());
        let mut asked: BTreeMap<u32, Vec<GroupId>> = BTreeMap::new();
        let mut next = GroupId(0);
        let from = led.partition_point(|one| one.group.id() < self.next);
        for one in led[from..].iter().chain(&led[..from]) {
            let id = one.group.id();
            for node in self.to_ask(one) {
                let of_node = asked.entry(node).or_default();
                if of_node.len() < ASKED_MAX {
                    of_node.push(id);
                } else if next == GroupId(0) {
                    next = id;
                }
            }
        }
        self.next = next;
        let told = self.ask(asked).await;
        self.note_without(&led, &told);
        for one in &led {
            block_in_place(|| self.write(one, &told));
        }
    }

    /// Whose copies of a group may have something to tell: not those that have told of all that this one has
    /// erased, unless they are replicas, and all have not.
    fn to_ask(&self, one: &Led) -> Vec<u32> {
        let others = self.cluster.others().into_iter();
        let open = others.filter(|node| {
            let waits = one.everywhere < one.upto && one.replicas.contains(node);
            waits || one.told(*node) < one.upto
        });
        let without = |node: u32| self.without.get(&(node, one.group.id())) == Some(&one.upto);
        open.filter(|node| !without(*node)).collect()
    }

    fn note_without(&mut self, led: &[Led], told: &BTreeMap<(u32, GroupId), Option<Position>>) {
        let of = |id: &GroupId| led.iter().find(|one| one.group.id() == *id);
        let upto = |id: &GroupId| of(id).map(|one| one.upto);
        self.without.retain(|(_, id), at| upto(id) == Some(*at));
        let without = told.iter().filter(|(_, upto)| upto.is_none());
        // A copy that is not there yet will be.
        let catalog = self.engine.catalog();
        let is_to_come = |node: u32, id: GroupId| {
            let replica = of(&id).is_some_and(|one| one.replicas.contains(&node));
            replica || catalog.chosen(node, id, &[]).leaves_bytes()
        };
        let without = without.filter(|((node, id), _)| !is_to_come(*node, *id));
        let without = without.filter_map(|((node, id), _)| Some(((*node, *id), upto(id)?)));
        self.without.extend(without);
    }

    /// The groups of which copies may have something to tell, ascending.
    fn led(&self) -> Vec<Led> {
        let mut all = Vec::new();
        // In what is left of ended logs may be what the tables have erased.
        if self.raft.has_dead_logs() {
            return all;
        }
        for group in self.engine.groups().all() {
            let upto = group.erased();
            if group.term().is_none() || group.is_followed() || upto == Position::ZERO {
                continue;
            }
            let known = group
                .erasures()
                .and_then(|known| Ok((known, group.erased_everywhere()?)));
            match known {
                Ok((known, everywhere)) => all.push(Led {
                    known,
                    everywhere,
                    upto,
                    replicas: self.replicas(group.id()),
                    group,
                }),
                Err(error) => tracing::warn!(%error, "no erasure is told"),
            }
        }
        all.sort_unstable_by_key(|one| one.group.id());
        all
    }

    fn replicas(&self, group: GroupId) -> BTreeSet<u32> {
        let replicas = self.raft.replicas(group);
        replicas.iter().map(|replica| replica.node.0).collect()
    }

    fn write(&self, one: &Led, told: &BTreeMap<(u32, GroupId), Option<Position>>) {
        let id = one.group.id();
        let me = self.cluster.me();
        // Of what this copy has not erased itself nothing is said: a copy of which nothing was removed since
        // may be far ahead of it, and would be "not everywhere" until something is.
        let now = |node: u32| match node == me {
            true => Some(one.upto),
            false => told
                .get(&(node, id))
                .copied()
                .flatten()
                .map(|upto| upto.min(one.upto)),
        };
        // What it says now counts: its tables may have come from another one since.
        let replicas = one.replicas.iter();
        let reached = replicas.map(|node| now(*node).unwrap_or_else(|| one.told(*node)));
        let everywhere = reached.min().unwrap_or_default().min(one.upto);
        let unix_micros = SystemClock.unix_micros();
        let nodes = told
            .keys()
            .filter(|(_, of)| *of == id)
            .map(|(node, _)| *node);
        let new: Vec<Erasure> = nodes
            .chain([me])
            .filter_map(|node| {
                let upto = now(node).filter(|upto| *upto > one.told(node))?;
                let copy = one.copy(node);
                Some(Erasure {
                    upto,
                    copy,
                    unix_micros,
                })
            })
            .collect();
        if let Err(refused) = one.group.report_erasures(&new, everywhere) {
            tracing::debug!(?refused, group = %id, "erasures are told later");
        }
    }

    /// How far nodes have erased in their copies; `None`: they have none. Those that give no answer are
    /// not among them.
    async fn ask(
        &self,
        asked: BTreeMap<u32, Vec<GroupId>>,
    ) -> BTreeMap<(u32, GroupId), Option<Position>> {
        let mut asking = JoinSet::new();
        for (node, groups) in asked {
            if !self.cluster.is_live(node) {
                continue;
            }
            let cluster = self.cluster.clone();
            let ask = Ask::Erased {
                groups: groups.iter().map(|group| group.0).collect(),
            };
            asking.spawn(async move {
                let told = cluster.ask(node, &ask, ANSWER_TIME_MAX).await;
                (node, groups, told)
            });
        }
        let mut reached = BTreeMap::new();
        while let Some(answer) = asking.join_next().await {
            // One that panicked was logged.
            if let Ok((node, groups, Ok(Told::Erased { upto }))) = answer {
                let told = groups.into_iter().zip(upto);
                reached.extend(told.map(|(group, upto)| ((node, group), upto.map(Position))));
            }
        }
        reached
    }
}

impl Cluster {
    /// How far this node has erased in its copies of groups; `None`: it has none.
    pub(crate) fn say_erased(&self, groups: &[u32]) -> Told {
        let Some(engine) = self.engine() else {
            return Told::NotNow {
                why: "the node is starting".into(),
            };
        };
        // In what is left of ended logs may be what the tables have erased.
        let dead = self.raft().is_none_or(|raft| raft.has_dead_logs());
        let say = |group: &u32| {
            let erased = engine.groups().get(GroupId(*group))?.nothing_left()?;
            Some(if dead { 0 } else { erased.0 })
        };
        Told::Erased {
            upto: groups.iter().map(say).collect(),
        }
    }
}
