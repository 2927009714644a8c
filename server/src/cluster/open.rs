//! What a node waits for before clients may come: that its directory is there and current, and that
//! the catalogs of its groups are read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use raft::{NodeId, Placement};
use sql::engine::Engine;
use storage::{Change, Group, GroupId, Groups, Observer, Position};
use tokio::time::Instant;

use super::Cluster;
use super::ask::Ask;
use crate::Failure;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Between two looks at what has been missing for long.
const LATE_PAUSE: Duration = Duration::from_millis(500);
/// How long one group may take to say how far it is.
const BARRIER_TIME_MAX: Duration = Duration::from_millis(500);
/// So long a start waits for groups that a part of the cluster may have lost for the time being.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(10);

/// Hands what it sees to the engine, and tells the cluster when its directory changes.
pub struct Watcher {
    cluster: Arc<Cluster>,
    engine: Arc<dyn Observer>,
}

impl Watcher {
    /// In front of the engine's observer.
    pub fn new(cluster: &Arc<Cluster>, engine: Arc<dyn Observer>) -> Watcher {
        Watcher {
            cluster: cluster.clone(),
            engine,
        }
    }
}

impl Observer for Watcher {
    fn system(&self, group: GroupId, position: Position, changes: &[Change]) {
        self.engine.system(group, position, changes);
        if group == GroupId::DIRECTORY {
            self.cluster.note_change();
            self.cluster.follows().directory_changed();
        }
    }

    fn sent(&self, group: GroupId, changes: &[Change]) {
        self.engine.sent(group, changes);
    }

    fn published(&self, group: GroupId, position: Position) {
        self.engine.published(group, position);
        self.cluster.follows().published(group);
    }

    fn era_ended(&self, group: GroupId) {
        self.engine.era_ended(group);
    }
}

/// Where the voters of a new group are: as soon as the directory says it.
pub fn placement(cluster: &Arc<Cluster>) -> Placement {
    let cluster = cluster.clone();
    Arc::new(move |group| {
        let cluster = cluster.clone();
        Box::pin(async move {
            loop {
                let placed = cluster.catalog().and_then(|c| c.placement(group).cloned());
                if let Some(placed) = placed {
                    return placed.voters.iter().copied().map(NodeId).collect();
                }
                cluster.note_change();
                tokio::time::sleep(PAUSE / 4).await;
            }
        })
    })
}

/// Reads the catalogs of the groups that this node holds: the directory's, for which it waits as
/// long as it takes, then the others', of which one that is not replayed yet is read later.
pub async fn load(
    cluster: &Arc<Cluster>,
    engine: &Arc<Engine>,
    groups: &Arc<Groups>,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut told = false;
    while !usable(groups, GroupId::DIRECTORY) {
        if !told && begun.elapsed() > SETTLE_TIME_MAX {
            tracing::warn!("waiting for the directory: no other node has it, or none answers");
            told = true;
        }
        cluster.meet_seeds().await;
        tokio::time::sleep(PAUSE).await;
    }
    engine.load(GroupId::DIRECTORY)?;
    for group in groups.all() {
        let id = group.id();
        if id == GroupId::DIRECTORY {
            continue;
        }
        if group.ready() {
            engine.load(id)?;
            continue;
        }
        cluster.unread.lock().insert(id);
        let (engine, cluster) = (engine.clone(), cluster.clone());
        tokio::spawn(async move {
            while !group.ready() && !group.has_ended() {
                tokio::time::sleep(PAUSE).await;
            }
            crate::follow::load(&cluster, &engine, id);
            cluster.unread.lock().remove(&id);
        });
    }
    Ok(())
}

impl Cluster {
    /// Can what the group's catalog says be told to others? After a start it is read once the group
    /// is replayed.
    pub(crate) fn is_read(&self, group: &Group) -> bool {
        group.ready() && !self.unread.lock().contains(&group.id())
    }

    /// Has it heard of every owner, since the start, which tables it has? One that is alone needs only what
    /// it has itself.
    pub(super) fn knows_all(&self) -> bool {
        match self.is_reachable() {
            true => self.settled.load(Ordering::Acquire),
            false => self.unread.lock().is_empty(),
        }
    }
}

fn usable(groups: &Groups, id: GroupId) -> bool {
    let has_something = |group: &Arc<Group>| group.ready() && group.applied_log().0.index.0 > 0;
    groups.get(id).is_some_and(|group| has_something(&group))
}

/// Waits until this node stands in the directory, and has of every group that is placed here what
/// was acknowledged before, and of every group that it follows what its source has: a table that
/// others know must not be missing here. Not for ever: a
/// part of the cluster may be away.
pub async fn settled(cluster: &Arc<Cluster>) {
    let until = Instant::now() + SETTLE_TIME_MAX;
    let mut current = BTreeSet::new();
    while let Some(missing) = cluster.misses(&mut current, until).await {
        if Instant::now() >= until {
            tracing::warn!(
                missing,
                "serving before everything is there: other nodes may be away"
            );
            tokio::spawn(settles_late(cluster.clone(), current));
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    cluster.settled.store(true, Ordering::Release);
}

/// Goes on looking for what was missing when clients were let in.
async fn settles_late(cluster: Arc<Cluster>, mut current: BTreeSet<GroupId>) {
    let until = || Instant::now() + SETTLE_TIME_MAX;
    while cluster.misses(&mut current, until()).await.is_some() {
        tokio::time::sleep(LATE_PAUSE).await;
    }
    cluster.settled.store(true, Ordering::Release);
}

impl Cluster {
    /// Handshakes tell where nodes are that have moved while this one was away.
    async fn meet_seeds(&self) {
        for seed in &self.place.seeds {
            // Who does not answer is asked again.
            let _ = self.ask_at(seed, &Ask::Ping, PAUSE * 10).await;
        }
    }

    /// What is not there yet. `current`: groups that have caught up since the start.
    async fn misses(&self, current: &mut BTreeSet<GroupId>, until: Instant) -> Option<String> {
        let Some(parts) = self.parts() else {
            return Some("the tables".to_owned());
        };
        let (catalog, me) = (parts.engine.catalog(), self.me());
        let here = |placement: &&Arc<sql::catalog::Placement>| {
            let here = placement.is_on(me);
            placement.made && here
        };
        let placed = catalog.placements().filter(here);
        let mut ids: BTreeSet<GroupId> = placed.map(|p| GroupId(p.group)).collect();
        ids.insert(GroupId::DIRECTORY);
        let mut why = String::new();
        for id in &ids {
            if !current.contains(id) && Instant::now() < until {
                let asked = Instant::now();
                let passed = tokio::time::timeout(BARRIER_TIME_MAX, self.pass_barrier(*id));
                match passed.await {
                    Ok(Ok(_)) => match self.note_proof(*id, asked) {
                        Ok(()) => drop(current.insert(*id)),
                        Err(said) => why = said,
                    },
                    Ok(Err(error)) => why = error.to_string(),
                    Err(_) => why = "no answer in time".to_owned(),
                }
            }
        }
        // The directory may have told of more meanwhile: it counts once it says where this node is.
        if catalog.node(me).is_none() {
            return Some("this node in the directory".to_owned());
        }
        // Entries that came are nothing to those who ask before the catalog is read that they belong to.
        if let Some(id) = self.unread.lock().first() {
            return Some(format!("the catalog of group {id}"));
        }
        let late = ids.difference(current).next();
        late.map(|id| format!("the newest entries of group {id} ({why})"))
            .or_else(|| Some(format!("the copy of group {}", self.not_followed()?)))
    }
}
