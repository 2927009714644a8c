//! `freehold.erasures`: for each copy of an owner's rows up to where what was removed is gone from
//! it, and since when; what is still to go, and of which node nothing is heard.

use std::collections::BTreeSet;
use std::sync::Arc;

use sql::Result;
use sql::catalog::{Catalog, RoleId};
use sql::engine::since_2000;
use sql::system::{SystemColumn, SystemCx, SystemRelation, SystemRow, SystemRows};
use sql::types::{Datum, Type};
use storage::erase::{Copy, Erasure};
use storage::{Group, Position};

use crate::cluster::Cluster;

/// For who acts for the owner; of groups that this node holds by Raft.
pub struct ErasuresView {
    /// This node.
    pub cluster: Arc<Cluster>,
    /// Its replicas.
    pub raft: Arc<raft::Node>,
}

const fn column(name: &'static str, ty: Type, not_null: bool) -> SystemColumn {
    SystemColumn { name, ty, not_null }
}

const COLUMNS: &[SystemColumn] = &[
    column("owner", Type::NAME, true),
    column("node", Type::INT4, true),
    column("copy", Type::TEXT, true),
    column("removed_up_to", Type::PG_LSN, true),
    column("erased_at", Type::TIMESTAMPTZ, false),
    column("keys_erased", Type::BOOL, true),
    column("reachable", Type::BOOL, true),
];

impl SystemRelation for ErasuresView {
    fn name(&self) -> (&str, &str) {
        ("freehold", "erasures")
    }

    fn columns(&self) -> &[SystemColumn] {
        COLUMNS
    }

    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        let Some(engine) = self.cluster.engine() else {
            return Ok(Box::new(std::iter::empty()));
        };
        let mut rows = Vec::new();
        for group in engine.groups().all() {
            let owner = cx.catalog.owner_of_group(group.id());
            let Some(owner) = owner.filter(|owner| cx.acts_for(*owner)) else {
                continue;
            };
            if !group.is_followed() {
                rows.extend(self.of_group(&group, owner, cx.catalog)?);
            }
        }
        Ok(Box::new(rows.into_iter().map(Ok)))
    }
}

impl ErasuresView {
    fn of_group(
        &self,
        group: &Arc<Group>,
        owner: RoleId,
        catalog: &Catalog,
    ) -> Result<Vec<SystemRow>> {
        let owner = &*catalog.role_name(owner);
        let known = group.erasures()?;
        let everywhere = group.erased_everywhere()?;
        let row = |upto: Position, copy: Copy, at: Option<u64>| -> SystemRow {
            vec![
                Datum::text(owner),
                Datum::Int4(i32::try_from(copy.node).unwrap_or(i32::MAX)),
                Datum::text(if copy.followed { "follower" } else { "replica" }),
                Datum::Lsn(upto.0),
                at.map_or(Datum::Null, |at| Datum::Timestamptz(since_2000(at))),
                Datum::Bool(at.is_some() && upto <= everywhere),
                Datum::Bool(copy.node == self.cluster.me() || self.cluster.is_live(copy.node)),
            ]
        };
        let told = known
            .iter()
            .map(|known| row(known.upto, known.copy, Some(known.unix_micros)));
        let mut rows: Vec<SystemRow> = told.collect();
        // What the copies that are known, and those that should be there, have still to erase.
        let newest = group
            .removals()?
            .map(|removals| removals.newest)
            .unwrap_or_default();
        for copy in self.copies(group, &known, catalog) {
            let of = known.iter().filter(|known| known.copy == copy);
            if of.map(|known| known.upto).max().unwrap_or_default() < newest {
                rows.push(row(newest, copy, None));
            }
        }
        Ok(rows)
    }

    /// Those that should be there, and those that have told that they are.
    fn copies(&self, group: &Arc<Group>, known: &[Erasure], catalog: &Catalog) -> BTreeSet<Copy> {
        let replicas = self.raft.replicas(group.id());
        let replicas: BTreeSet<u32> = replicas.iter().map(|replica| replica.node.0).collect();
        let mut nodes: BTreeSet<u32> = self.cluster.others().into_iter().collect();
        nodes.insert(self.cluster.me());
        let told = known.iter().map(|known| known.copy);
        let told: BTreeSet<u32> = told.filter(|c| c.followed).map(|c| c.node).collect();
        let follows = |node: &u32| {
            told.contains(node) || catalog.chosen(*node, group.id(), &[]).leaves_bytes()
        };
        let followers = nodes.difference(&replicas).filter(|node| follows(node));
        let followers = followers.map(|node| Copy {
            node: *node,
            followed: true,
        });
        let replica = |node: &u32| Copy {
            node: *node,
            followed: false,
        };
        replicas.iter().map(replica).chain(followers).collect()
    }
}
