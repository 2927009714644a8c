//! What the node tells of itself and of its cluster in SQL: `freehold.nodes`, `freehold.groups`,
//! `freehold.replicas`, `freehold.followers`, `freehold.lag`, `freehold.journal` and
//! `pg_stat_progress_follow`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use feed::follow::Phase;
use journal::{GroupId, Index, Journal, Position};
use raft::{GroupStatus, ReplicaStatus};
use sql::Result;
use sql::catalog::{Privilege, RoleId, TableKind};
use sql::engine::since_2000;
use sql::system::{SystemColumn, SystemCx, SystemRelation, SystemRow, SystemRows};
use sql::types::{Array, Datum, Type};
use storage::Clock as _;

use crate::cluster::{Cluster, NodeStatus};
use crate::system::SystemClock;

/// All of them.
pub fn relations(
    raft: &Arc<raft::Node>,
    journal: &Journal,
    cluster: &Arc<Cluster>,
) -> Vec<Arc<dyn SystemRelation>> {
    vec![
        Arc::new(GroupsView(raft.clone())),
        Arc::new(JournalView(journal.clone())),
        Arc::new(NodesView(cluster.clone())),
        Arc::new(ReplicasView(raft.clone(), journal.clone())),
        Arc::new(LagView(raft.clone(), cluster.clone())),
        Arc::new(FollowersView(cluster.clone())),
        Arc::new(ProgressView(cluster.clone())),
    ]
}

const fn column(name: &'static str, ty: Type, not_null: bool) -> SystemColumn {
    SystemColumn { name, ty, not_null }
}

fn number(value: u64) -> Datum {
    Datum::Int8(i64::try_from(value).unwrap_or(i64::MAX))
}

fn seconds(time: Duration) -> Datum {
    Datum::Float8(time.as_secs_f64())
}

fn age(position: Position) -> Duration {
    let micros = SystemClock.unix_micros();
    Duration::from_micros(micros.saturating_sub(position.unix_micros()))
}

fn node_number(node: Option<u32>) -> Datum {
    node.map_or(Datum::Null, int4)
}

fn int4(number: u32) -> Datum {
    Datum::Int4(i32::try_from(number).unwrap_or(i32::MAX))
}

fn text(text: Option<&str>) -> Datum {
    text.map_or(Datum::Null, Datum::text)
}

/// A group's owner, and whether the role sees the group: as who acts for the owner, or, of the
/// directory, as a superuser.
fn owner(cx: &SystemCx<'_>, group: GroupId) -> (Option<RoleId>, bool) {
    let owner = cx.catalog.owner_of_group(group);
    let shown = match owner {
        Some(owner) => cx.acts_for(owner),
        None => cx.catalog.is_superuser(cx.role),
    };
    (owner, shown)
}

fn owner_name(cx: &SystemCx<'_>, owner: Option<RoleId>) -> Datum {
    owner.map_or(Datum::Null, |role| Datum::text(cx.catalog.role_name(role)))
}

fn given(rows: Vec<SystemRow>) -> SystemRows {
    Box::new(rows.into_iter().map(Ok))
}

/// The groups of the owners that the role acts for; the directory, which has no owner, is shown
/// to superusers.
struct GroupsView(Arc<raft::Node>);

const GROUPS: &[SystemColumn] = &[
    column("group_id", Type::INT4, true),
    column("owner", Type::NAME, false),
    column("term", Type::INT8, true),
    column("leads", Type::BOOL, true),
    column("leader", Type::INT4, false),
    column("voters", Type::INT4, true),
    column("position", Type::PG_LSN, true),
    column("last_index", Type::INT8, true),
    column("durable_index", Type::INT8, true),
    column("oldest", Type::PG_LSN, true),
];

impl SystemRelation for GroupsView {
    fn name(&self) -> (&str, &str) {
        ("freehold", "groups")
    }

    fn columns(&self) -> &[SystemColumn] {
        GROUPS
    }

    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        let mut rows = Vec::new();
        for status in self.0.status() {
            let (owner, shown) = owner(cx, status.group);
            if !shown {
                continue;
            }
            rows.push(vec![
                int4(status.group.0),
                owner_name(cx, owner),
                number(status.term),
                Datum::Bool(status.term > 0),
                node_number(status.leader.map(|node| node.0)),
                int4(u32::try_from(status.voters).unwrap_or(u32::MAX)),
                Datum::Lsn(status.applied.0),
                number(status.last_index.0),
                number(status.durable.0),
                Datum::Lsn(status.oldest.0),
            ]);
        }
        Ok(given(rows))
    }
}

/// The journal of the node: one row, for superusers.
struct JournalView(Journal);

const JOURNAL: &[SystemColumn] = &[
    column("segments", Type::INT8, true),
    column("bytes_written", Type::INT8, true),
    column("records_written", Type::INT8, true),
    column("fsyncs", Type::INT8, true),
    column("waiting_records", Type::INT8, true),
    column("memory_bytes", Type::INT8, true),
];

impl SystemRelation for JournalView {
    fn name(&self) -> (&str, &str) {
        ("freehold", "journal")
    }

    fn columns(&self) -> &[SystemColumn] {
        JOURNAL
    }

    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        if !cx.catalog.is_superuser(cx.role) {
            return Ok(given(Vec::new()));
        }
        let stats = self.0.stats();
        let row = [
            stats.segments,
            stats.bytes,
            stats.records,
            stats.fsyncs,
            stats.queue,
            stats.tail_bytes,
        ];
        Ok(given(vec![row.map(number).to_vec()]))
    }
}

/// The nodes of the cluster: for superusers, and without addresses for roles that act for an
/// owner.
struct NodesView(Arc<Cluster>);

const NODES: &[SystemColumn] = &[
    column("node", Type::INT4, true),
    column("address", Type::TEXT, false),
    column("client_address", Type::TEXT, false),
    column("locality", Type::TEXT, true),
    column("state", Type::TEXT, true),
    column("is_self", Type::BOOL, true),
    column("round_trip", Type::FLOAT8, false),
    column("last_seen", Type::TIMESTAMPTZ, false),
];

impl SystemRelation for NodesView {
    fn name(&self) -> (&str, &str) {
        ("freehold", "nodes")
    }

    fn columns(&self) -> &[SystemColumn] {
        NODES
    }

    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        let addresses = cx.catalog.is_superuser(cx.role);
        let owns = || cx.catalog.owners().any(|(owner, _)| cx.acts_for(owner));
        if !addresses && !owns() {
            return Ok(given(Vec::new()));
        }
        let nodes = self.0.nodes(cx.catalog).into_iter();
        Ok(given(
            nodes.map(|node| node_row(&node, addresses)).collect(),
        ))
    }
}

fn node_row(node: &NodeStatus, addresses: bool) -> SystemRow {
    let seen = node.silence.map(|silence| {
        let micros = u64::try_from(silence.as_micros()).unwrap_or(u64::MAX);
        since_2000(SystemClock.unix_micros().saturating_sub(micros))
    });
    let address = |address: Option<&str>| text(address.filter(|_| addresses));
    vec![
        int4(node.number),
        address(node.address.as_deref()),
        address(Some(&node.client_address)),
        Datum::text(&node.locality),
        Datum::text(node.state),
        Datum::Bool(node.is_self),
        node.round_trip.map_or(Datum::Null, seconds),
        seen.map_or(Datum::Null, Datum::Timestamptz),
    ]
}

/// The replicas of the groups that the role sees, as this node knows them.
struct ReplicasView(Arc<raft::Node>, Journal);

const REPLICAS: &[SystemColumn] = &[
    column("group_id", Type::INT4, true),
    column("owner", Type::NAME, false),
    column("node", Type::INT4, true),
    column("replica", Type::INT8, true),
    column("voter", Type::BOOL, true),
    column("leads", Type::BOOL, true),
    column("matched", Type::INT8, false),
    column("lag_entries", Type::INT8, false),
    column("lag_seconds", Type::FLOAT8, false),
    column("heard_seconds", Type::FLOAT8, false),
];

impl SystemRelation for ReplicasView {
    fn name(&self) -> (&str, &str) {
        ("freehold", "replicas")
    }

    fn columns(&self) -> &[SystemColumn] {
        REPLICAS
    }

    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        let mut rows = Vec::new();
        for GroupStatus { group, .. } in self.0.status() {
            let (owner, shown) = owner(cx, group);
            if !shown {
                continue;
            }
            for replica in self.0.replicas(group) {
                rows.push(vec![
                    int4(group.0),
                    owner_name(cx, owner),
                    int4(replica.node.0),
                    number(replica.replica),
                    Datum::Bool(replica.voter),
                    Datum::Bool(replica.leads),
                    replica.matched.map_or(Datum::Null, |index| number(index.0)),
                    replica.lag.map_or(Datum::Null, number),
                    self.lag(group, &replica).map_or(Datum::Null, seconds),
                    replica.heard.map_or(Datum::Null, seconds),
                ]);
            }
        }
        Ok(given(rows))
    }
}

impl ReplicasView {
    /// How long the oldest record that a replica lacks has been waiting for it. `None` where that
    /// is not known: elsewhere than at the leader, or when the record is no longer here.
    fn lag(&self, group: GroupId, replica: &ReplicaStatus) -> Option<Duration> {
        if replica.lag? == 0 {
            return Some(Duration::ZERO);
        }
        let next = Index(replica.matched.map_or(0, |index| index.0 + 1));
        let read = self.1.read(group, next, Index(next.0 + 1), 1);
        let record = read.ok()?.into_iter().next()?;
        (record.index == next).then(|| age(record.position))
    }
}

/// How current this node is, for each owner of whom the role may read a table.
struct LagView(Arc<raft::Node>, Arc<Cluster>);

const LAG: &[SystemColumn] = &[
    column("owner", Type::NAME, true),
    column("position", Type::PG_LSN, true),
    column("age_seconds", Type::FLOAT8, true),
    column("behind_seconds", Type::FLOAT8, false),
    column("leader", Type::INT4, false),
];

impl SystemRelation for LagView {
    fn name(&self) -> (&str, &str) {
        ("freehold", "lag")
    }

    fn columns(&self) -> &[SystemColumn] {
        LAG
    }

    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        let mut readable: BTreeMap<GroupId, RoleId> = BTreeMap::new();
        for table in cx.catalog.tables() {
            let stored = table.kind != TableKind::System && !readable.contains_key(&table.group);
            let select = || {
                let any = Some(&[][..]);
                cx.catalog
                    .has_privilege(cx.role, table, Privilege::Select, any)
            };
            if stored && select() {
                readable.insert(table.group, table.owner);
            }
        }
        let mut rows = Vec::new();
        for status in self.0.status() {
            if let Some(owner) = readable.get(&status.group) {
                rows.push(vec![
                    owner_name(cx, Some(*owner)),
                    Datum::Lsn(status.applied.0),
                    seconds(age(status.applied)),
                    status.behind.map_or(Datum::Null, seconds),
                    node_number(status.leader.map(|node| node.0)),
                ]);
            }
        }
        for copy in self.1.copies() {
            if let Some(owner) = readable.get(&copy.group) {
                rows.push(vec![
                    owner_name(cx, Some(*owner)),
                    Datum::Lsn(copy.shown.0),
                    seconds(age(copy.shown)),
                    copy.behind.map_or(Datum::Null, seconds),
                    Datum::Null,
                ]);
            }
        }
        Ok(given(rows))
    }
}

/// The copies of other owners' tables on this node: for who acts for the owner, and for the roles
/// because of whom they are here.
struct FollowersView(Arc<Cluster>);

const FOLLOWERS: &[SystemColumn] = &[
    column("node", Type::INT4, true),
    column("group_id", Type::INT4, true),
    column("owner", Type::NAME, false),
    column("roles", Type::TEXT_ARRAY, true),
    column("tables", Type::TEXT_ARRAY, true),
    column("phase", Type::TEXT, true),
    column("source", Type::INT4, false),
    column("position", Type::PG_LSN, true),
    column("lag_seconds", Type::FLOAT8, false),
    column("bytes", Type::INT8, true),
    column("entries", Type::INT8, true),
    column("bootstraps", Type::INT8, true),
];

impl SystemRelation for FollowersView {
    fn name(&self) -> (&str, &str) {
        ("freehold", "followers")
    }

    fn columns(&self) -> &[SystemColumn] {
        FOLLOWERS
    }

    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        let mut rows = Vec::new();
        for copy in self.0.copies() {
            let (owner, owns) = owner(cx, copy.group);
            let tables: Vec<_> = (cx.catalog.tables_in(copy.group))
                .filter(|table| copy.chosen.has(table.tree))
                .collect();
            let me = self.0.me();
            let mut roles: Vec<RoleId> = (cx.catalog.follows())
                .filter(|follow| cx.catalog.places(follow.role, me))
                .filter(|follow| tables.iter().any(|table| follow.covers(table)))
                .map(|follow| follow.role)
                .collect();
            roles.dedup();
            if !owns && !roles.iter().any(|role| cx.acts_for(*role)) {
                continue;
            }
            let schema = |table: &sql::catalog::Table| cx.catalog.schema_name(table.schema);
            let named = tables
                .iter()
                .filter(|table| cx.catalog.reads_table(cx.role, table));
            let mut names: Vec<String> = named
                .map(|table| format!("{}.{}", schema(table), table.name))
                .collect();
            names.sort();
            let roles = roles.into_iter().map(|role| cx.catalog.role_name(role));
            rows.push(vec![
                int4(me),
                int4(copy.group.0),
                owner_name(cx, owner),
                texts(roles),
                texts(names),
                Datum::text(phase(copy.progress.phase)),
                node_number(copy.source),
                Datum::Lsn(copy.shown.0),
                copy.behind.map_or(Datum::Null, seconds),
                number(copy.bytes),
                number(copy.progress.entries),
                number(copy.progress.bootstraps),
            ]);
        }
        Ok(given(rows))
    }
}

fn texts(values: impl IntoIterator<Item = impl AsRef<str>>) -> Datum {
    let values = values.into_iter().map(Datum::text).collect();
    Datum::array(Array::of(Type::TEXT, values))
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Connecting => "connecting",
        Phase::Bootstrap => "bootstrap",
        Phase::Following => "following",
    }
}

/// The bootstraps that arrive at this moment, of the owners that the role acts for.
struct ProgressView(Arc<Cluster>);

const PROGRESS: &[SystemColumn] = &[
    column("group_id", Type::INT4, true),
    column("owner", Type::NAME, false),
    column("source", Type::INT4, false),
    column("phase", Type::TEXT, true),
    column("started", Type::TIMESTAMPTZ, false),
    column("bytes_received", Type::INT8, true),
    column("pieces_received", Type::INT8, true),
];

impl SystemRelation for ProgressView {
    fn name(&self) -> (&str, &str) {
        ("pg_catalog", "pg_stat_progress_follow")
    }

    fn columns(&self) -> &[SystemColumn] {
        PROGRESS
    }

    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        let copies = self.0.copies().into_iter();
        let running = copies.filter(|copy| copy.progress.phase == Phase::Bootstrap);
        let rows = running.filter_map(|copy| {
            let (owner, _) = owner(cx, copy.group);
            let follows = |role| cx.acts_for(role) && cx.catalog.places(role, self.0.me());
            let shown = cx.catalog.is_superuser(cx.role)
                || owner.is_some_and(|owner| cx.acts_for(owner))
                || cx.catalog.owners().any(|(role, _)| follows(role));
            let begun = copy.begun?.duration_since(std::time::UNIX_EPOCH).ok()?;
            let begun = u64::try_from(begun.as_micros()).unwrap_or(u64::MAX);
            shown.then(|| {
                vec![
                    int4(copy.group.0),
                    owner_name(cx, owner),
                    node_number(copy.source),
                    Datum::text(phase(copy.progress.phase)),
                    Datum::Timestamptz(since_2000(begun)),
                    number(copy.progress.bytes),
                    number(u64::from(copy.progress.pieces)),
                ]
            })
        });
        Ok(given(rows.collect()))
    }
}
