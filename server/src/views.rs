//! What the node tells of itself and of its cluster in SQL: `freehold.nodes`, `freehold.groups`,
//! `freehold.replicas`, `freehold.erasures` (in `erase/view.rs`), `freehold.followers`, `freehold.lag`, `freehold.journal` and
//! `pg_stat_progress_follow`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use journal::{GroupId, Index, Journal, Position, Record};
use raft::{GroupStatus, ReplicaStatus};
use sql::Result;
use sql::catalog::{Catalog, Privilege, RoleId, TableKind};
use sql::engine::since_2000;
use sql::system::{SystemColumn, SystemCx, SystemRelation, SystemRow, SystemRows};
use sql::transaction::{Stop, Wait};
use sql::types::{Array, Datum, Type};
use storage::{Chosen, Clock as _};

use crate::cluster::{Cluster, NodeStatus};
use crate::erase::ErasuresView;
use crate::follow::{Far, Said, log_bytes, phase};
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
        Arc::new(ErasuresView {
            cluster: cluster.clone(),
            raft: raft.clone(),
        }),
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
    column("lag_bytes", Type::INT8, false),
    column("heard_seconds", Type::FLOAT8, false),
    column("repair_bytes", Type::INT8, false),
    column("repair_bytes_expected", Type::INT8, false),
    column("repair_seconds_left", Type::FLOAT8, false),
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
        for status in self.0.status() {
            let group = status.group;
            let (owner, shown) = owner(cx, group);
            if !shown {
                continue;
            }
            for replica in self.0.replicas(group) {
                let lag = Lag::of(&self.1, &status, &replica);
                let repair = replica.repair;
                rows.push(vec![
                    int4(group.0),
                    owner_name(cx, owner),
                    int4(replica.node.0),
                    number(replica.replica),
                    Datum::Bool(replica.voter),
                    Datum::Bool(replica.leads),
                    replica.matched.map_or(Datum::Null, |index| number(index.0)),
                    replica.lag.map_or(Datum::Null, number),
                    lag.time.map_or(Datum::Null, seconds),
                    lag.bytes.map_or(Datum::Null, number),
                    replica.heard.map_or(Datum::Null, seconds),
                    repair.map_or(Datum::Null, |repair| number(repair.bytes)),
                    (repair.and_then(|r| r.expected)).map_or(Datum::Null, number),
                    (repair.and_then(|r| r.left)).map_or(Datum::Null, seconds),
                ]);
            }
        }
        Ok(given(rows))
    }
}

/// How far a replica is behind. `None` where that is not known: elsewhere than at the leader, when
/// the records that it lacks are no longer here.
#[derive(Default)]
pub struct Lag {
    /// How long the oldest record that it lacks has been waiting for it; not known of Raft's own
    /// ones, which have no time.
    pub time: Option<Duration>,
    /// Bytes of the entries that it lacks.
    pub bytes: Option<u64>,
}

impl Lag {
    /// Of a replica of a group.
    pub fn of(journal: &Journal, status: &GroupStatus, replica: &ReplicaStatus) -> Lag {
        match replica.lag {
            None => Lag::default(),
            Some(0) => Lag {
                time: Some(Duration::ZERO),
                bytes: Some(0),
            },
            Some(_) => {
                let next = Index(replica.matched.map_or(0, |index| index.0 + 1));
                let oldest = journal.read(status.group, next, Index(next.0 + 1), 1);
                let oldest = oldest.ok().and_then(|read| read.into_iter().next());
                let dated =
                    |record: &Record| record.index == next && record.position > Position::ZERO;
                let has = Index(next.0.saturating_sub(1));
                Lag {
                    time: oldest.filter(dated).map(|record| age(record.position)),
                    bytes: log_bytes(journal, status.group, has, status.last_index),
                }
            }
        }
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
                    node_number(self.1.leads_elsewhere(copy.group)),
                ]);
            }
        }
        Ok(given(rows))
    }
}

/// The copies of owners' tables on nodes that have no replica of their groups: for who acts for the
/// owner, and for the roles because of whom they are there.
struct FollowersView(Arc<Cluster>);

const FOLLOWERS: &[SystemColumn] = &[
    column("node", Type::INT4, true),
    column("group_id", Type::INT4, true),
    column("owner", Type::NAME, false),
    column("roles", Type::TEXT_ARRAY, true),
    column("tables", Type::TEXT_ARRAY, true),
    column("phase", Type::TEXT, true),
    column("source", Type::INT4, false),
    column("position", Type::PG_LSN, false),
    column("lag_seconds", Type::FLOAT8, false),
    column("lag_bytes", Type::INT8, false),
    column("bytes", Type::INT8, false),
    column("entries", Type::INT8, false),
    column("bootstraps", Type::INT8, false),
    column("repair_bytes", Type::INT8, false),
    column("repair_bytes_expected", Type::INT8, false),
    column("repair_seconds_left", Type::FLOAT8, false),
];

impl SystemRelation for FollowersView {
    fn name(&self) -> (&str, &str) {
        ("freehold", "followers")
    }

    fn columns(&self) -> &[SystemColumn] {
        FOLLOWERS
    }

    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        let (cluster, catalog, role) = (self.0.clone(), cx.catalog.clone(), cx.role);
        let mut rows: Option<std::vec::IntoIter<SystemRow>> = None;
        let next = move || -> std::result::Result<Option<SystemRow>, Stop> {
            let rows = match &mut rows {
                Some(rows) => rows,
                None => {
                    let told = cluster.copies_everywhere();
                    let told = told.map_err(|asked| Stop::Wait(Wait::Signal(asked)))?;
                    let shown = told.iter();
                    let shown = shown.filter_map(|far| follower(&cluster, &catalog, role, far));
                    rows.insert(shown.collect::<Vec<_>>().into_iter())
                }
            };
            Ok(rows.next())
        };
        let mut next = next;
        Ok(Box::new(std::iter::from_fn(move || next().transpose())))
    }
}

/// A copy as a role sees it, if it sees it.
fn follower(cluster: &Cluster, catalog: &Catalog, role: RoleId, far: &Far) -> Option<SystemRow> {
    let owner = catalog.owner_of_group(far.group);
    // What a node that does not answer should have.
    let meant = || catalog.chosen(far.node, far.group, &[]);
    let trees = match &far.said {
        Some(said) => Chosen::new(said.trees.iter().copied()),
        None => meant(),
    };
    let tables: Vec<_> = (catalog.tables_in(far.group))
        .filter(|table| trees.has(table.tree))
        .collect();
    let mut roles: Vec<RoleId> = (catalog.follows())
        .filter(|follow| catalog.places(follow.role, far.node))
        .filter(|follow| tables.iter().any(|table| follow.covers(table)))
        .map(|follow| follow.role)
        .collect();
    roles.dedup();
    let acts_for = |owner: &RoleId| catalog.has_role(role, *owner);
    let owns = match &owner {
        Some(owner) => acts_for(owner),
        None => catalog.is_superuser(role),
    };
    if !owns && !roles.iter().any(acts_for) {
        return None;
    }
    let schema = |table: &sql::catalog::Table| catalog.schema_name(table.schema);
    let named = tables
        .iter()
        .filter(|table| catalog.reads_table(role, table));
    let mut names: Vec<String> = named
        .map(|table| format!("{}.{}", schema(table), table.name))
        .collect();
    names.sort();
    let mut row = vec![
        int4(far.node),
        int4(far.group.0),
        owner.map_or(Datum::Null, |role| Datum::text(catalog.role_name(role))),
        texts(roles.into_iter().map(|role| catalog.role_name(role))),
        texts(names),
    ];
    row.extend(match &far.said {
        Some(said) => said_row(said, far.lag_bytes),
        None => silent_row(cluster.unproven(far.node), far.lag_bytes),
    });
    Some(row)
}

/// From `phase` on.
fn said_row(said: &Said, lag_bytes: Option<u64>) -> SystemRow {
    let time =
        |micros: Option<u64>| micros.map_or(Datum::Null, |m| seconds(Duration::from_micros(m)));
    let arriving = said.arriving;
    vec![
        Datum::text(&said.phase),
        node_number(said.source),
        Datum::Lsn(said.shown),
        time(said.behind),
        lag_bytes.map_or(Datum::Null, number),
        number(said.bytes),
        number(said.entries),
        number(said.bootstraps),
        arriving.map_or(Datum::Null, |arriving| number(arriving.bytes)),
        arriving
            .and_then(|a| a.expected)
            .map_or(Datum::Null, number),
        time(arriving.and_then(|arriving| arriving.left)),
    ]
}

/// The same of a node that does not answer: it has nothing newer than what it had then.
fn silent_row(silence: Option<Duration>, lag_bytes: Option<u64>) -> SystemRow {
    let mut row = vec![Datum::Null; 11];
    row[0] = Datum::text("silent");
    row[3] = silence.map_or(Datum::Null, seconds);
    row[4] = lag_bytes.map_or(Datum::Null, number);
    row
}

fn texts(values: impl IntoIterator<Item = impl AsRef<str>>) -> Datum {
    let values = values.into_iter().map(Datum::text).collect();
    Datum::array(Array::of(Type::TEXT, values))
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
    column("bytes_expected", Type::INT8, false),
    column("seconds_left", Type::FLOAT8, false),
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
        let running = copies.filter(|copy| copy.is_arriving());
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
                    copy.progress.expected.map_or(Datum::Null, number),
                    copy.left().map_or(Datum::Null, seconds),
                ]
            })
        });
        Ok(given(rows.collect()))
    }
}
