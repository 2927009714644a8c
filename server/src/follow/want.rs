//! A session reads a table that is not here: the node follows it for a while, and the session
//! waits until it has come.

use std::time::Duration;

use sql::catalog::{RoleId, TableId};
use sql::{Error, state};
use storage::GroupId;
use tokio::time::Instant;

use super::UNREACHABLE_AFTER;
use crate::cluster::Cluster;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

impl Cluster {
    /// Returns once all trees of a table are held here, or it is gone. Errors: OW003.
    pub(crate) async fn have_table(
        &self,
        role: RoleId,
        group: GroupId,
        table: TableId,
    ) -> Result<(), Error> {
        let mut reached = Instant::now();
        loop {
            let Some(engine) = self.engine() else {
                return Err(self.unreachable(group, "the node is starting"));
            };
            let catalog = engine.catalog();
            let Some(table) = catalog.table(table).filter(|table| table.group == group) else {
                // The statement finds out.
                return Ok(());
            };
            let held = engine.groups().get(group);
            if held
                .as_ref()
                .is_some_and(|held| table.trees().iter().all(|tree| held.holds(*tree)))
            {
                return Ok(());
            }
            let by_raft = held.is_some_and(|held| !held.is_followed());
            let follower = self.follows().find(group);
            if by_raft
                || follower
                    .as_ref()
                    .is_some_and(|f| f.alone_for() == Duration::ZERO)
            {
                reached = Instant::now();
            }
            if !by_raft
                && !catalog
                    .chosen(self.me(), group, &[(role, table.id)])
                    .has(table.tree)
            {
                return Err(self.unreachable(group, "the role may not read the table"));
            }
            if follower.is_some_and(|follower| !follower.ask(role, table.id)) {
                return Err(self.unreachable(group, "too many tables are asked for"));
            }
            if reached.elapsed() > UNREACHABLE_AFTER {
                return Err(self.unreachable(group, "no node that has them answers"));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn unreachable(&self, group: GroupId, why: &str) -> Error {
        let catalog = self.catalog();
        let owner = catalog.and_then(|c| Some(c.role_name(c.owner_of_group(group)?)));
        let whose = owner.map_or_else(|| format!("group {group}"), |owner| format!("\"{owner}\""));
        let what = format!("the tables of {whose} can't be had here");
        Error::new(state::OWNER_UNREACHABLE, what)
            .detail(format!("They are on other nodes: {why}."))
    }
}
