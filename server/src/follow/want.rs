//! A session reads a table that is not here: the node follows it for a while, and the session
//! waits until it has come.

use std::sync::atomic::Ordering;

use sql::catalog::{RoleId, TableId};
use sql::{Error, state};
use storage::{GroupId, Position};
use tokio::time::Instant;

use super::{Follower, STALLED_AFTER, UNREACHABLE_AFTER, Waiters};
use crate::cluster::Cluster;

/// Someone who waits is told of what happens.
struct Waiter<'a>(&'a Waiters);

impl<'a> Waiter<'a> {
    fn of(waiters: &'a Waiters) -> Waiter<'a> {
        waiters.count.fetch_add(1, Ordering::AcqRel);
        Waiter(waiters)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How far a table has come on its way, and until when that may stay so.
struct Way {
    /// Bytes from sources, and what is applied.
    come: (u64, Position),
    moved: Instant,
    reached: Instant,
}

impl Way {
    fn new() -> Way {
        let now = Instant::now();
        Way {
            come: (0, Position::ZERO),
            moved: now,
            reached: now,
        }
    }

    /// Looks again: by when something must have happened, and what is wrong if it has not.
    fn look(&mut self, come: (u64, Position), reached: bool) -> (Instant, &'static str) {
        let now = Instant::now();
        if come != self.come {
            (self.come, self.moved) = (come, now);
        }
        if reached {
            self.reached = now;
            return (
                self.moved + STALLED_AFTER,
                "nothing has come of them for long",
            );
        }
        (
            self.reached + UNREACHABLE_AFTER,
            "no node that has them answers",
        )
    }
}

impl Cluster {
    /// Returns once all trees of a table are held here, or it is gone. Errors: OW003; 57P03 if this
    /// node was replaced, and gets nothing any more.
    pub(crate) async fn have_table(
        &self,
        role: RoleId,
        group: GroupId,
        table: TableId,
    ) -> Result<(), Error> {
        let waiters = &self.follows().waiters;
        let _waiter = Waiter::of(waiters);
        let mut way = Way::new();
        // By the version of the catalog.
        let mut may: Option<(u64, bool)> = None;
        loop {
            let told = waiters.moved.notified();
            tokio::pin!(told);
            // What happens from here on is not missed.
            told.as_mut().enable();
            if self.is_replaced() {
                return Err(self.replaced());
            }
            let Some(engine) = self.engine() else {
                return Err(self.unreachable(group, "the node is starting"));
            };
            let catalog = engine.catalog();
            let Some(table) = catalog.table(table).filter(|table| table.group == group) else {
                // The statement finds out.
                return Ok(());
            };
            let held = engine.groups().get(group);
            let holds = |held: &std::sync::Arc<storage::Group>| {
                table.trees().iter().all(|tree| held.holds(*tree))
            };
            if held.as_ref().is_some_and(holds) {
                return Ok(());
            }
            let by_raft = held.as_ref().is_some_and(|held| !held.is_followed());
            if may.is_none_or(|(version, _)| version != catalog.version()) {
                let chosen = catalog.chosen(self.me(), group, &[(role, table.id)]);
                may = Some((catalog.version(), chosen.has(table.tree)));
            }
            if !by_raft && may.is_some_and(|(_, may)| !may) {
                return Err(self.unreachable(group, "the role may not read the table"));
            }
            let follower = self.follows().find(group);
            let asks = |follower: &Follower| follower.ask(role, table.id);
            if follower.as_ref().is_some_and(|follower| !asks(follower)) {
                return Err(self.unreachable(group, "too many tables are asked for"));
            }
            // A source that has said all it has, and says now and then that it is there, does not
            // bring the table nearer.
            let catches_up = follower.as_ref().filter(|f| by_raft || f.is_catching_up());
            let come = match catches_up {
                Some(f) => f.received.load(Ordering::Relaxed),
                None => way.come.0,
            };
            let applied = held.filter(|_| by_raft).map(|held| held.applied());
            let come = (come, applied.unwrap_or_default());
            let queued = follower.as_ref().is_some_and(|f| f.is_queued());
            let connected = follower.is_some_and(|f| f.alone_for().is_zero());
            let (until, why) = way.look(come, by_raft || connected || queued);
            let why = match queued {
                true => "copies of other owners come first",
                false => why,
            };
            if tokio::time::timeout_at(until, told).await.is_err() {
                return Err(self.unreachable(group, why));
            }
        }
    }

    pub(crate) fn unreachable(&self, group: GroupId, why: &str) -> Error {
        let catalog = self.catalog();
        let owner = catalog.and_then(|c| Some(c.role_name(c.owner_of_group(group)?)));
        let whose = owner.map_or_else(|| format!("group {group}"), |owner| format!("\"{owner}\""));
        let what = format!("the tables of {whose} can't be had here");
        Error::new(state::OWNER_UNREACHABLE, what)
            .detail(format!("They are on other nodes: {why}."))
            .hint("Look at freehold.nodes and pg_stat_progress_follow, and try again.")
    }
}
