//! The metrics of a node, each with its name, type and help. docs/operate.md lists them all.

use std::collections::BTreeMap;

use journal::GroupId;
use raft::{GroupStatus, ReplicaStatus};
use sql::catalog::Catalog;
use sql::session::activity::Doing;
use storage::Clock as _;

use crate::follow::{Copy, Far};
use crate::system::SystemClock;
use crate::views::Lag;

use super::text::{Kind, Text, seconds};
use super::{Stage, Told, health, process};

/// All of them, as of now.
pub fn collect(stage: &Stage) -> String {
    let mut text = Text::default();
    text.family(
        "freehold_build_info",
        Kind::Gauge,
        "Which program runs; always 1.",
    )
    .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    let ready = health::reasons(stage).is_empty();
    text.single(
        "freehold_ready",
        Kind::Gauge,
        "Whether clients should be sent to this node, as /health/ready says.",
        u8::from(ready),
    );
    if let Stage::Serving(told) = stage {
        text.single(
            "freehold_draining",
            Kind::Gauge,
            "Whether the node gives away what it leads (freehold drain, SIGTERM).",
            u8::from(told.drain.is_draining()),
        );
        sessions(told, &mut text);
        statements(told, &mut text);
        journal(told, &mut text);
        tables(told, &mut text);
        erase(told, &mut text);
        feed(told, &mut text);
        groups(told, &mut text);
        copies(told, &mut text);
        followers(told, &mut text);
    }
    process::collect(&mut text);
    text.finish()
}

const DOINGS: [Doing; 4] = [
    Doing::Idle,
    Doing::Active,
    Doing::IdleInTransaction,
    Doing::IdleAborted,
];

fn sessions(told: &Told, text: &mut Text) {
    let mut waiting = 0;
    let mut counts = [0u64; DOINGS.len()];
    for activity in told.engine.activities().all() {
        let shown = activity.shown();
        waiting += u64::from(shown.waiting);
        for (count, doing) in counts.iter_mut().zip(DOINGS) {
            *count += u64::from(shown.doing == doing);
        }
    }
    let mut family = text.family(
        "freehold_sessions",
        Kind::Gauge,
        "Sessions that run on this node, by pg_stat_activity's state.",
    );
    for (count, doing) in counts.iter().zip(DOINGS) {
        family.sample(&[("state", doing.name())], count);
    }
    text.single(
        "freehold_sessions_waiting",
        Kind::Gauge,
        "Sessions that wait for a lock.",
        waiting,
    );
    text.single(
        "freehold_connections_max",
        Kind::Gauge,
        "How many clients may be connected (--max-connections).",
        told.connections_max,
    );
}

fn statements(told: &Told, text: &mut Text) {
    let totals = told.engine.meter().totals();
    text.family(
        "freehold_statement_seconds",
        Kind::Histogram,
        "Statements that were answered, by the time from their begin to their answer.",
    )
    .latencies(&[], &totals.statements);
    text.single(
        "freehold_statements_failed_total",
        Kind::Counter,
        "Statements that ended with an error.",
        totals.failed,
    );
    let mut family = text.family(
        "freehold_transactions_total",
        Kind::Counter,
        "Transactions that have ended: committed (write, read) or aborted.",
    );
    for (outcome, kind, count) in [
        ("committed", "write", totals.written),
        ("committed", "read", totals.read),
        ("aborted", "", totals.aborted),
    ] {
        family.sample(&[("outcome", outcome), ("kind", kind)], count);
    }
}

fn journal(told: &Told, text: &mut Text) {
    let stats = told.journal.stats();
    for (name, kind, help, value) in [
        (
            "freehold_journal_segments",
            Kind::Gauge,
            "Segments of the journal.",
            stats.segments,
        ),
        (
            "freehold_journal_written_bytes_total",
            Kind::Counter,
            "Bytes written to the journal.",
            stats.bytes,
        ),
        (
            "freehold_journal_records_total",
            Kind::Counter,
            "Records written to the journal.",
            stats.records,
        ),
        (
            "freehold_journal_waiting_records",
            Kind::Gauge,
            "Records that wait for the journal's writer.",
            stats.queue,
        ),
        (
            "freehold_journal_memory_bytes",
            Kind::Gauge,
            "Records of the journal that are held in memory.",
            stats.tail_bytes,
        ),
    ] {
        text.single(name, kind, help, value);
    }
    text.family(
        "freehold_journal_fsync_seconds",
        Kind::Histogram,
        "Fsyncs of the journal's segments.",
    )
    .latencies(&[], &told.fsyncs.counted());
}

fn tables(told: &Told, text: &mut Text) {
    let store = told.raft.groups().store().clone();
    text.single(
        "freehold_tables_unflushed_bytes",
        Kind::Gauge,
        "Changes of tables in memory that the next checkpoint writes.",
        store.memory(),
    );
    let checkpoints = told.raft.checkpoints();
    text.single(
        "freehold_checkpoints_total",
        Kind::Counter,
        "Checkpoints of the tables.",
        checkpoints.count,
    );
    text.single(
        "freehold_checkpoint_seconds_total",
        Kind::Counter,
        "Time that checkpoints took, all together.",
        checkpoints.took.as_secs_f64(),
    );
    text.single(
        "freehold_checkpoint_last_timestamp_seconds",
        Kind::Gauge,
        "When the last checkpoint was complete, in seconds since 1970; the node's start before the \
         first.",
        seconds(checkpoints.last),
    );
}

/// What was removed and is still there, and the work that this makes.
fn erase(told: &Told, text: &mut Text) {
    let rounds = told.raft.rounds();
    for (name, help, value) in [
        (
            "freehold_erase_rounds_total",
            "Rounds in which what was removed was erased here.",
            rounds.count as f64,
        ),
        (
            "freehold_erase_passes_total",
            "Rounds that have read the whole journal.",
            rounds.passes as f64,
        ),
        (
            "freehold_erase_seconds_total",
            "Time that rounds took, all together.",
            rounds.took.as_secs_f64(),
        ),
    ] {
        text.single(name, Kind::Counter, help, value);
    }
    let removals = told.raft.groups().all().into_iter();
    // What can't be read is told by the eraser.
    let oldest = removals
        .filter_map(|group| group.removals().ok()??.oldest)
        .min();
    let age = oldest.map(|at| SystemClock.unix_micros().saturating_sub(at.unix_micros()));
    text.single(
        "freehold_erase_waiting_seconds",
        Kind::Gauge,
        "How long ago the oldest row was removed that is not erased here.",
        seconds(age.unwrap_or_default()),
    );
    text.single(
        "freehold_erase_after_seconds",
        Kind::Gauge,
        "After this time it is gone, by --erase-after.",
        told.erase_after.as_secs_f64(),
    );
}

fn feed(told: &Told, text: &mut Text) {
    let counts = told.feed.counts();
    text.single(
        "freehold_feed_readers",
        Kind::Gauge,
        "Statements that read the feed at this moment.",
        counts.readers,
    );
    text.single(
        "freehold_feed_reads_total",
        Kind::Counter,
        "Looks into the feed: pages, and waits that something has ended.",
        counts.reads,
    );
    text.single(
        "freehold_feed_entries_total",
        Kind::Counter,
        "Entries that were read for the feed.",
        counts.entries,
    );
    let sources = told.cluster.sources();
    for (name, kind, help, value) in [
        (
            "freehold_feed_asked_streams_total",
            Kind::Counter,
            "Streams of the feed that were asked of other nodes.",
            counts.streams,
        ),
        (
            "freehold_feed_asked_rows_total",
            Kind::Counter,
            "Rows of the feed that other nodes have given.",
            counts.rows,
        ),
        (
            "freehold_feed_given_streams",
            Kind::Gauge,
            "Streams of the feed that this node gives to others.",
            sources.streams() as u64,
        ),
        (
            "freehold_feed_given_rows_total",
            Kind::Counter,
            "Rows of the feed that this node has given to others.",
            sources.rows(),
        ),
    ] {
        text.single(name, kind, help, value);
    }
}

/// A group with the labels that name it.
struct Line {
    group: String,
    owner: String,
    status: GroupStatus,
    replicas: Vec<(ReplicaStatus, Lag)>,
    bytes: u64,
}

fn lines(told: &Told) -> Vec<Line> {
    let catalog = told.engine.catalog();
    let mut bytes: BTreeMap<GroupId, u64> = BTreeMap::new();
    let store = told.raft.groups().store();
    for tree in store.trees() {
        *bytes.entry(tree.group).or_default() += store.disk_bytes(tree);
    }
    let line = |status: GroupStatus| Line {
        group: status.group.to_string(),
        owner: owner(&catalog, status.group),
        replicas: match status.term {
            0 => Vec::new(),
            _ => replicas_of(told, &status),
        },
        bytes: bytes.get(&status.group).copied().unwrap_or_default(),
        status,
    };
    told.raft.status().into_iter().map(line).collect()
}

fn replicas_of(told: &Told, status: &GroupStatus) -> Vec<(ReplicaStatus, Lag)> {
    let replicas = told.raft.replicas(status.group).into_iter();
    let with_lag = |replica| {
        let lag = Lag::of(&told.journal, status, &replica);
        (replica, lag)
    };
    replicas.map(with_lag).collect()
}

/// The directory has none, nor has a group whose owner is gone or was never there.
fn owner(catalog: &Catalog, group: GroupId) -> String {
    let role = catalog
        .owner_of_group(group)
        .and_then(|id| catalog.role(id));
    role.map_or_else(String::new, |role| role.name.clone())
}

fn groups(told: &Told, text: &mut Text) {
    let lines = lines(told);
    let mut each = |name, kind, help, value: &dyn Fn(&Line) -> Option<f64>| {
        let mut family = text.family(name, kind, help);
        for line in &lines {
            if let Some(value) = value(line) {
                family.sample(&[("group", &line.group), ("owner", &line.owner)], value);
            }
        }
    };
    each(
        "freehold_group_leads",
        Kind::Gauge,
        "1 if this node leads the owner's group, 0 if not.",
        &|line| Some(f64::from(u8::from(line.status.term > 0))),
    );
    each(
        "freehold_group_leader",
        Kind::Gauge,
        "Number of the node that leads the group, 0 if this node knows none.",
        &|line| Some(f64::from(line.status.leader.map_or(0, |node| node.0))),
    );
    each(
        "freehold_group_term",
        Kind::Gauge,
        "The group's Raft term: it grows with every election.",
        &|line| Some(line.status.current_term as f64),
    );
    each(
        "freehold_group_voters",
        Kind::Gauge,
        "Replicas of the group that vote.",
        &|line| Some(line.status.voters as f64),
    );
    each(
        "freehold_group_last_index",
        Kind::Gauge,
        "Index of the last record of the group's log here.",
        &|line| Some(line.status.last_index.0 as f64),
    );
    each(
        "freehold_group_pending_entries",
        Kind::Gauge,
        "Records of the group's log that are not applied here.",
        &|line| Some(line.status.pending as f64),
    );
    each(
        "freehold_group_applied_timestamp_seconds",
        Kind::Gauge,
        "Time of the newest entry that is applied here, in seconds since 1970.",
        &|line| Some(seconds(line.status.applied.unix_micros())),
    );
    each(
        "freehold_group_behind_seconds",
        Kind::Gauge,
        "What was acknowledged longer ago than this is applied here; none while no leader is heard.",
        &|line| Some(line.status.behind?.as_secs_f64()),
    );
    each(
        "freehold_group_tables_bytes",
        Kind::Gauge,
        "Files of the owner's tables and indexes.",
        &|line| Some(line.bytes as f64),
    );
    replicas(&lines, text);
}

/// What is followed here, all together, and what is given to others.
fn copies(told: &Told, text: &mut Text) {
    let copies = told.cluster.copies();
    let sum = |of: fn(&Copy) -> u64| copies.iter().map(of).sum::<u64>();
    for (name, kind, help, value) in [
        (
            "freehold_follow_groups",
            Kind::Gauge,
            "Groups that this node follows, as it has no replica of them.",
            copies.len() as u64,
        ),
        (
            "freehold_follow_tables_bytes",
            Kind::Gauge,
            "Files of the copies of other owners' tables.",
            sum(|copy| copy.bytes),
        ),
        (
            "freehold_follow_entries_total",
            Kind::Counter,
            "Entries that came after the copies.",
            sum(|copy| copy.progress.entries),
        ),
        (
            "freehold_follow_bootstraps_total",
            Kind::Counter,
            "Copies that came as a whole.",
            sum(|copy| copy.progress.bootstraps),
        ),
        (
            "freehold_follow_streams",
            Kind::Gauge,
            "Streams that this node gives to followers on other nodes.",
            told.cluster.follows().streams() as u64,
        ),
    ] {
        text.single(name, kind, help, value);
    }
    let behind = copies.iter().filter_map(|copy| copy.behind);
    text.single(
        "freehold_follow_behind_seconds",
        Kind::Gauge,
        "What sources had longer ago than this is here: of the copy that is furthest behind.",
        behind.max().unwrap_or_default().as_secs_f64(),
    );
}

/// Only who leads a group knows how far the others are.
fn replicas(lines: &[Line], text: &mut Text) {
    let mut each = |name, help, value: &dyn Fn(&ReplicaStatus, &Lag) -> Option<f64>| {
        let mut family = text.family(name, Kind::Gauge, help);
        for line in lines {
            for (replica, lag) in &line.replicas {
                let Some(value) = value(replica, lag) else {
                    continue;
                };
                let node = replica.node.0.to_string();
                let labels = [
                    ("group", line.group.as_str()),
                    ("owner", &line.owner),
                    ("node", &node),
                ];
                family.sample(&labels, value);
            }
        }
    };
    each(
        "freehold_replica_lag_entries",
        "Records of the group's log that a replica does not have on disk; told by the leader.",
        &|replica, _| Some(replica.lag? as f64),
    );
    each(
        "freehold_replica_lag_seconds",
        "How long the oldest of these records has been waiting for the replica.",
        &|_, lag| Some(lag.time?.as_secs_f64()),
    );
    each(
        "freehold_replica_lag_bytes",
        "Bytes of these records.",
        &|_, lag| Some(lag.bytes? as f64),
    );
    each(
        "freehold_replica_repair_bytes",
        "Bytes of the snapshot that the leader sends to the replica which it has; none is sent else.",
        &|replica, _| Some(replica.repair?.bytes as f64),
    );
    each(
        "freehold_replica_repair_expected_bytes",
        "About how many bytes the snapshot has in all.",
        &|replica, _| Some(replica.repair?.expected? as f64),
    );
    each(
        "freehold_replica_repair_seconds_left",
        "How long the rest of the snapshot takes at this rate.",
        &|replica, _| Some(replica.repair?.left?.as_secs_f64()),
    );
}

/// The copies of the groups that are led here, wherever they are.
fn followers(told: &Told, text: &mut Text) {
    let catalog = told.engine.catalog();
    let all = told.cluster.copies_last_told();
    let led = |far: &&Far| {
        let held = told.engine.groups().get(far.group);
        held.is_some_and(|held| held.term().is_some())
    };
    let led: Vec<&Far> = all.iter().filter(led).collect();
    let mut each = |name, help, value: &dyn Fn(&Far) -> Option<f64>| {
        let mut family = text.family(name, Kind::Gauge, help);
        for far in &led {
            if let Some(value) = value(far) {
                let (group, node) = (far.group.to_string(), far.node.to_string());
                let owner = owner(&catalog, far.group);
                let labels = [
                    ("group", group.as_str()),
                    ("owner", &owner),
                    ("node", &node),
                ];
                family.sample(&labels, value);
            }
        }
    };
    each(
        "freehold_follower_answers",
        "1 if the node that should have a copy of the group says how far it is, 0 if not; told by the \
         leader.",
        &|far| Some(f64::from(u8::from(far.said.is_some()))),
    );
    each(
        "freehold_follower_lag_seconds",
        "What its source had longer ago than this is in the copy; of a node that does not answer how \
         long it has not.",
        &|far| match &far.said {
            Some(said) => said.behind.map(seconds),
            None => Some(told.cluster.unproven(far.node)?.as_secs_f64()),
        },
    );
    each(
        "freehold_follower_lag_bytes",
        "Bytes of the owner's entries that are not in the copy.",
        &|far| Some(far.lag_bytes? as f64),
    );
    each(
        "freehold_follower_repair_bytes",
        "Bytes of the bootstrap that is arriving there; none else.",
        &|far| Some(far.said.as_ref()?.arriving?.bytes as f64),
    );
    each(
        "freehold_follower_repair_expected_bytes",
        "About how many bytes the bootstrap has in all.",
        &|far| Some(far.said.as_ref()?.arriving?.expected? as f64),
    );
    each(
        "freehold_follower_repair_seconds_left",
        "How long the rest of the bootstrap takes at this rate.",
        &|far| Some(seconds(far.said.as_ref()?.arriving?.left?)),
    );
}
