//! The harness's own test: planted faults, each of which a workload must catch.

use crate::check::references::OnDelete;
use crate::cluster::Nemesis;
use crate::error::Result;
use crate::fault::Fault;
use crate::finding::{Kind as FindingKind, Tally};
use crate::options::{Options, Workload};
use crate::program::{self, Build};
use crate::runs::{Setup, play};
use crate::victim::{Kind, Tracer};

/// Runs in which a planted fault must be caught.
const RUNS_MAX: u64 = 6;

/// Nodes of a cluster, and strikes of a run on one if nothing else is said.
const NODES: usize = 3;
const STRIKES: u64 = 4;

/// Clients of the feed workload here: the faults need no crowd.
const FEED_CLIENTS: u32 = 50;

/// Clients of the references workload here: they race for a few keys.
const REFERRING_CLIENTS: u32 = 36;

/// Foreign keys that do nothing, and all.
const REFUSE: &[OnDelete] = &[OnDelete::Restrict, OnDelete::NoAction];
const ALL: &[OnDelete] = &[
    OnDelete::Restrict,
    OnDelete::NoAction,
    OnDelete::Cascade,
    OnDelete::SetNull,
    OnDelete::SetDefault,
];

/// A node is behind, on all groups or on one of them; leaders fall with all that they know.
const LAGS: &[Nemesis] = &[Nemesis::Pause, Nemesis::PartitionPair];
const FALLS: &[Nemesis] = &[Nemesis::KillAll];

/// How a fault gets in.
#[derive(Clone, Copy, Debug)]
enum How {
    /// FREEHOLD_SABOTAGE of a sabotage build.
    Built,
    /// FREEHOLD_SABOTAGE of a package's tests; this one must fail.
    Test(&'static str, &'static str),
    /// FREEHOLD_SABOTAGE of a sabotage build, which a test over processes plays; it must fail.
    Played(&'static str),
    /// The kernel says yes to every fsync and does none, by strace.
    Unsynced,
    /// A setting of the server.
    Setting(&'static str),
    /// The load claims less than it is judged by.
    Weaken,
}

/// A planted fault.
struct Plant {
    name: &'static str,
    victim: Kind,
    how: How,
    workload: Workload,
    fault: Fault,
    seconds: u64,
    /// On three nodes: what strikes them, and how often in a run.
    nemeses: &'static [Nemesis],
    strikes: u64,
    /// What the foreign keys of the workload may do.
    actions: Option<&'static [OnDelete]>,
}

/// All of them. Each fault of the sabotage build (`journal::sabotage::FAULTS`) has a line here.
const PLANTS: [Plant; 49] = [
    built("no-fsync", How::Built, Workload::Acknowledged, Fault::Power),
    built(
        "ack-before-fsync",
        How::Built,
        Workload::Acknowledged,
        Fault::Power,
    ),
    built(
        "skip-one-entry",
        How::Built,
        Workload::Acknowledged,
        Fault::None,
    ),
    built(
        "feed-drops-deletes",
        How::Built,
        Workload::Feed,
        Fault::None,
    ),
    built("cursor-off-by-one", How::Built, Workload::Feed, Fault::None),
    built(
        "command-accepted-unseen",
        How::Built,
        Workload::Commands,
        Fault::None,
    ),
    built(
        "command-cleared-early",
        How::Built,
        Workload::Commands,
        Fault::None,
    ),
    built(
        "command-of-savepoint-sent",
        How::Built,
        Workload::Commands,
        Fault::None,
    ),
    built(
        "command-passed-over",
        How::Built,
        Workload::Commands,
        Fault::None,
    ),
    built(
        "command-rejected-untold",
        How::Built,
        Workload::Commands,
        Fault::None,
    ),
    built(
        "command-taken-twice",
        How::Built,
        Workload::Commands,
        Fault::None,
    ),
    built(
        "trigger-cursor-lost",
        How::Built,
        Workload::Commands,
        Fault::None,
    ),
    referring("fence-left-out", REFUSE, &[]),
    referring("reference-unchecked-at-commit", REFUSE, &[]),
    referring("reference-without-dep", REFUSE, LAGS),
    referring("removal-without-dep", REFUSE, LAGS),
    late("forgotten-without-dep"),
    late("prepared-without-dep"),
    // What rests on the other owner holds most of it: one fall in twenty shows it.
    Plant {
        strikes: 5 * STRIKES,
        ..referring("reference-below-floor", REFUSE, FALLS)
    },
    // A half of the folders makes checkpoints so often that files have what is removed.
    referring("erase-leaves-files", ALL, &[]),
    referring("removal-not-in-ledger", ALL, &[]),
    referring("erase-skips-replicas", ALL, &[Nemesis::KillLeader]),
    tested(
        "apply-twice",
        "storage",
        "sums_are_right_after_random_transactions_and_at_every_restart",
    ),
    tested(
        "chain-check-off",
        "storage",
        "chain_what_was_computed_on_a_refused_entry_is_a_no_op",
    ),
    tested(
        "pending-answered-as-failed",
        "storage",
        "unknown_is_said_only_when_asked_to_give_up",
    ),
    tested("crc-not-checked", "journal", "a_flipped_bit_anywhere"),
    tested(
        "position-reused",
        "storage",
        "positions_after_a_restart_are_above_the_log_and_what_was_lost_of_it",
    ),
    tested(
        "equal-positions-split",
        "feed",
        "entries_at_one_position_are_one_unit",
    ),
    tested(
        "retention-not-checked",
        "feed",
        "a_cursor_behind_retention_is_told",
    ),
    tested(
        "closing-rule-off",
        "feed",
        "an_effect_is_not_seen_before_its_cause_across_an_owner_that_is_not_here",
    ),
    built(
        "closing-rule-off",
        How::Played("an_effect_is_not_seen_before_its_cause_when_the_causes_stream_is_late"),
        Workload::Acknowledged,
        Fault::None,
    ),
    tested(
        "half-a-transaction",
        "feed",
        "a_bootstrap_then_every_entry_and_nothing_private",
    ),
    tested("insert-without-key-lock", "sql", "two_inserts_of_one_key"),
    tested(
        "moved-table-removed-early",
        "sql",
        "a_table_moves_with_its_rows_and_all_that_was_said_of_it",
    ),
    tested(
        "answer-before-read",
        "sql",
        "an_error_caused_by_a_pending_row_is_held",
    ),
    tested(
        "read-without-barrier",
        "raft",
        "a_leader_that_was_stopped_neither_answers_a_barrier_nor_commits",
    ),
    clustered(
        "read-without-barrier",
        Workload::Register,
        &[Nemesis::PartitionLeader],
    ),
    clustered(
        "answer-before-quorum",
        Workload::Acknowledged,
        &[Nemesis::KillLeader],
    ),
    tested(
        "vote-not-persisted",
        "raft",
        "a_new_leader_stamps_above_the_whole_journal",
    ),
    built(
        "fsync-ignored",
        How::Unsynced,
        Workload::Acknowledged,
        Fault::Power,
    ),
    built("read-committed", How::Weaken, Workload::Append, Fault::None),
    built(
        "read-committed-bank",
        How::Weaken,
        Workload::Bank,
        Fault::None,
    ),
    stand_in(
        "fsync=off",
        How::Setting("fsync=off"),
        Workload::Acknowledged,
        Fault::Power,
    ),
    stand_in(
        "synchronous_commit=off",
        How::Setting("synchronous_commit=off"),
        Workload::Acknowledged,
        Fault::Kill,
    ),
    stand_in("read-committed", How::Weaken, Workload::Append, Fault::None),
    stand_in(
        "read-committed-bank",
        How::Weaken,
        Workload::Bank,
        Fault::None,
    ),
    stand_in(
        "freehold.fault=drop-deletes",
        How::Setting("freehold.fault=drop-deletes"),
        Workload::Feed,
        Fault::None,
    ),
    stand_in(
        "freehold.fault=early-position",
        How::Setting("freehold.fault=early-position"),
        Workload::Feed,
        Fault::None,
    ),
    stand_in(
        "freehold.fault=torn",
        How::Setting("freehold.fault=torn"),
        Workload::Feed,
        Fault::None,
    ),
];

/// A fault of Freehold that a workload catches.
const fn built(name: &'static str, how: How, workload: Workload, fault: Fault) -> Plant {
    Plant {
        name,
        victim: Kind::Freehold,
        how,
        workload,
        fault,
        seconds: 4,
        nemeses: &[],
        strikes: STRIKES,
        actions: None,
    }
}

/// A fault of Freehold that a workload on three nodes catches.
const fn clustered(name: &'static str, workload: Workload, nemeses: &'static [Nemesis]) -> Plant {
    Plant {
        nemeses,
        ..built(name, How::Built, workload, Fault::None)
    }
}

/// A fault of foreign keys between owners, or of erases. One that shows on one node does so in a longer load.
const fn referring(
    name: &'static str,
    actions: &'static [OnDelete],
    nemeses: &'static [Nemesis],
) -> Plant {
    Plant {
        actions: Some(actions),
        seconds: 15,
        ..clustered(name, Workload::References, nemeses)
    }
}

/// A fault of foreign keys between owners that shows where one owner is late, in a test over processes.
const fn late(name: &'static str) -> Plant {
    built(
        name,
        How::Played("nothing_is_seen_before_what_it_rests_on_when_one_owner_is_late"),
        Workload::References,
        Fault::None,
    )
}

/// A fault of Freehold that a test catches.
const fn tested(name: &'static str, package: &'static str, test: &'static str) -> Plant {
    built(
        name,
        How::Test(package, test),
        Workload::Acknowledged,
        Fault::None,
    )
}

/// A fault of PostgreSQL, which tests the harness where there is no Freehold yet.
const fn stand_in(name: &'static str, how: How, workload: Workload, fault: Fault) -> Plant {
    Plant {
        victim: Kind::Postgres,
        ..built(name, how, workload, fault)
    }
}

/// Plays all plants of the victim; the tally of what was found where, and whether each was caught.
pub async fn play_all(only: Option<&str>, options: &Options) -> Result<bool> {
    let mut rows = Vec::new();
    let mut all_caught = true;
    for plant in PLANTS.iter().filter(|plant| plant.victim == options.victim) {
        if only.is_some_and(|name| name != plant.name) {
            continue;
        }
        println!("planted: {}", plant.name);
        let (is_caught, row) = match plant.how {
            How::Test(package, test) => {
                let failed = program::fails_sabotaged(package, test, plant.name)?;
                (failed, test_row(plant, package, test, failed))
            }
            How::Played(test) => {
                let program = program::find(options, Build::Sabotage)?;
                let failed = program::fails_with(&program, test, plant.name)?;
                (failed, test_row(plant, program::PLAYING, test, failed))
            }
            _ => {
                let program = program::find(options, Build::Sabotage)?;
                let (tally, first) = play_plant(plant, options, program).await?;
                (tally.is_caught(), row(plant, &tally, first.as_deref()))
            }
        };
        all_caught &= is_caught;
        rows.push(row);
    }
    println!("\n| planted | workload | fault | runs | caught | by |\n|---|---|---|---:|---|---|");
    rows.iter().for_each(|row| println!("{row}"));
    let result = if rows.is_empty() {
        "nothing-planted"
    } else if all_caught {
        "all-caught"
    } else {
        "escaped"
    };
    println!("jepsen sabotage: result={result} planted={}", rows.len());
    Ok(all_caught && !rows.is_empty())
}

async fn play_plant(
    plant: &Plant,
    options: &Options,
    program: std::path::PathBuf,
) -> Result<(Tally, Option<String>)> {
    let mut options = options.clone();
    options.workload = plant.workload;
    options.fault = plant.fault;
    options.runs = RUNS_MAX;
    options.seconds = plant.seconds;
    if !plant.nemeses.is_empty() {
        options.nodes = NODES;
        options.nemeses = plant.nemeses.to_vec();
        options.strikes = Some(plant.strikes);
    }
    if let Some(actions) = plant.actions {
        options.actions = actions.to_vec();
        options.clients.get_or_insert(REFERRING_CLIENTS);
    }
    options.out = options.out.join("sabotage").join(plant.name);
    if plant.workload == Workload::Feed && options.clients.is_none() {
        options.clients = Some(FEED_CLIENTS);
    }
    let (mut sabotage, mut tracer) = (None, None);
    match plant.how {
        How::Built => sabotage = Some(plant.name.to_owned()),
        How::Unsynced => tracer = Some(unsynced()),
        How::Setting(setting) => options.victim_options.push(setting.to_owned()),
        How::Weaken => options.weaken = true,
        How::Test(..) | How::Played(_) => {}
    }
    let setup = Setup {
        options,
        program,
        sabotage,
        tracer,
        until_found: true,
    };
    let (tally, findings) = play(&setup).await?;
    let telling = findings
        .iter()
        .find(|finding| finding.kind != FindingKind::Unexpected);
    Ok((tally, telling.map(ToString::to_string)))
}

/// Runs a program whose fsyncs do nothing.
fn unsynced() -> Tracer {
    let calls = "fsync,fdatasync,sync_file_range,syncfs,sync";
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:retval=0"));
    let command = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-e",
        &trace,
        "-e",
        &inject,
        "-o",
        "/dev/null",
        "--",
    ];
    Tracer {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
    }
}

fn test_row(plant: &Plant, package: &str, test: &str, failed: bool) -> String {
    let caught = if failed { "yes" } else { "NO" };
    format!(
        "| {} | cargo test -p {package} | | 1 | {caught} | {test} |",
        plant.name
    )
}

fn row(plant: &Plant, tally: &Tally, first: Option<&str>) -> String {
    let caught = if tally.is_caught() { "yes" } else { "NO" };
    let by: String = first
        .unwrap_or("")
        .lines()
        .next()
        .unwrap_or("")
        .chars()
        .take(90)
        .collect();
    let words: Vec<&str> = plant.nemeses.iter().map(|nemesis| nemesis.word()).collect();
    let struck = match words.is_empty() {
        true => plant.fault.word().to_owned(),
        false => words.join(", "),
    };
    format!(
        "| {} | {} | {} | {} | {caught} | {} |",
        plant.name,
        plant.workload.word(),
        struck,
        tally.runs,
        by.replace('|', "/"),
    )
}
