//! Which groups this node follows: all that are led somewhere and have no place here. Looks after
//! their tasks, for ever.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sql::catalog::{Catalog, Follow, Followed, Placement, RoleId, TREE_DESCRIPTORS};
use sql::engine::Engine;
use storage::{GroupId, Groups};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::sink::{begin, load, run};
use super::{CLOSE_EVERY, Follower, GRACE, LOOK_EVERY};
use crate::cluster::Cluster;

/// Opens what the last checkpoint has of followed groups, before their catalogs are read.
pub fn open(cluster: &Cluster, groups: &Groups) -> Result<(), storage::Error> {
    for id in groups.followed()? {
        begin(cluster, groups, &cluster.follows().enter(id))?;
    }
    Ok(())
}

/// Looks after what is followed.
pub async fn keep(cluster: Arc<Cluster>) {
    let mut tick = interval(CLOSE_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut keeper = Keeper::default();
    let mut looked: Option<Instant> = None;
    loop {
        let woken = tokio::select! {
            _ = tick.tick() => false,
            () = cluster.follows().woken.notified() => true,
        };
        let Some(engine) = cluster.engine() else {
            continue;
        };
        engine.groups().close_awaited();
        if woken || looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            keeper.look(&cluster, engine);
            cluster.end_doubts();
            looked = Some(Instant::now());
        }
    }
}

/// What is remembered between two looks.
#[derive(Default)]
struct Keeper {
    /// Since when groups have no place here that may get one.
    without: BTreeMap<GroupId, Instant>,
    /// Groups that were followed and are being taken over by Raft.
    taken: BTreeMap<GroupId, Arc<Follower>>,
    /// What was followed at the last look.
    follows: BTreeMap<(RoleId, Followed), Arc<Follow>>,
}

impl Keeper {
    fn look(&mut self, cluster: &Arc<Cluster>, engine: &Arc<Engine>) {
        let (catalog, groups) = (engine.catalog(), engine.groups());
        let me = cluster.me();
        for placement in catalog.placements() {
            let id = GroupId(placement.group);
            let by_raft = groups.get(id).is_some_and(|group| !group.is_followed());
            if by_raft || !is_meant(placement, me) || self.comes(placement, groups) {
                continue;
            }
            let follower = cluster.follows().enter(id);
            if !follower.busy.swap(true, Ordering::AcqRel) {
                cluster.begins_to_follow(id);
                tokio::spawn(follow(cluster.clone(), follower));
            }
        }
        self.without
            .retain(|id, _| catalog.placement(*id).is_some_and(|p| is_meant(p, me)));
        let ended = self.ended(&catalog);
        for follower in cluster.follows().all() {
            tend(cluster, &catalog, &follower);
            follower.forget(|role, table| {
                let table = catalog.table(table);
                let of_role = ended.iter().filter(|follow| follow.role == role);
                table.is_none_or(|table| of_role.clone().any(|follow| follow.covers(table)))
            });
            self.take_over(cluster, engine, follower);
        }
    }

    /// Will the group come by Raft before long, since it has fewer voters than it wants?
    fn comes(&mut self, placement: &Placement, groups: &Groups) -> bool {
        let id = GroupId(placement.group);
        if !is_short(placement) || groups.get(id).is_some() {
            return false;
        }
        let since = self.without.entry(id).or_insert_with(Instant::now);
        since.elapsed() < GRACE
    }

    /// What was followed at the last look and is followed no more. FOLLOW asks for its tables:
    /// UNFOLLOW ends that, too.
    fn ended(&mut self, catalog: &Catalog) -> Vec<Arc<Follow>> {
        let key = |follow: &Arc<Follow>| ((follow.role, follow.what.clone()), follow.clone());
        let now: BTreeMap<_, _> = catalog.follows().map(key).collect();
        let before = std::mem::take(&mut self.follows);
        let ended = before.into_iter().filter(|(key, _)| !now.contains_key(key));
        let ended = ended.map(|(_, follow)| follow).collect();
        self.follows = now;
        ended
    }

    /// A replica in a follower's place: once it has what was shown, its catalog is read anew, for
    /// what was dropped before it was here is in none of its entries.
    fn take_over(&mut self, cluster: &Arc<Cluster>, engine: &Arc<Engine>, follower: Arc<Follower>) {
        let id = follower.group;
        match engine.groups().get(id) {
            Some(group) if group.is_followed() => {
                self.taken.insert(id, follower);
            }
            Some(group) if self.taken.contains_key(&id) && group.holds(TREE_DESCRIPTORS) => {
                self.taken.remove(&id);
                let (cluster, engine) = (cluster.clone(), engine.clone());
                tokio::task::spawn_blocking(move || load(&cluster, &engine, id));
            }
            Some(_) | None => {}
        }
    }
}

/// Is the group to be followed by a node?
pub(super) fn is_meant(placement: &Placement, node: u32) -> bool {
    let here = placement.is_on(node);
    placement.made && !here && placement.group != GroupId::DIRECTORY.0
}

/// Has it fewer voters than it wants?
pub(super) fn is_short(placement: &Placement) -> bool {
    placement.voters.len() < placement.replicas as usize
}

async fn follow(cluster: Arc<Cluster>, follower: Arc<Follower>) {
    /// Whatever ends the task, another may begin.
    struct Busy(Arc<Follower>);
    impl Drop for Busy {
        fn drop(&mut self) {
            self.0.busy.store(false, Ordering::Release);
        }
    }
    let busy = Busy(follower.clone());
    run(cluster, follower).await;
    drop(busy);
}

/// Forgets what nobody needs, and leaves a source that is none any more.
fn tend(cluster: &Cluster, catalog: &Catalog, follower: &Follower) {
    follower.forget_idle(Instant::now());
    let Some(source) = follower.state.lock().source else {
        return;
    };
    let placed = catalog.placement(follower.group);
    let placed = placed.is_some_and(|p| p.is_on(source));
    if !placed || !cluster.is_live(source) {
        follower.leave.notify_one();
    }
}

impl Cluster {
    /// A group that this node follows, and of which it has not what its source had.
    pub(crate) fn not_followed(&self) -> Option<GroupId> {
        let catalog = self.catalog()?;
        let mut meant = catalog
            .placements()
            .filter(|placement| is_meant(placement, self.me()) && !is_short(placement));
        let missing = meant.find(|placement| {
            let follower = self.follows().find(GroupId(placement.group));
            !follower.is_some_and(|follower| follower.is_settled())
        });
        missing.map(|placement| GroupId(placement.group))
    }
}
