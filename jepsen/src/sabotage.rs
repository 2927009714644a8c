//! The harness's own test: planted faults, each of which a workload must catch.

use crate::error::Result;
use crate::fault::Fault;
use crate::finding::{Kind as FindingKind, Tally};
use crate::options::{Options, Workload};
use crate::program::{self, Build};
use crate::runs::{Setup, play};
use crate::victim::{Kind, Tracer};

/// Runs in which a planted fault must be caught.
const RUNS_MAX: u64 = 6;

/// How a fault gets in.
#[derive(Clone, Copy, Debug)]
enum How {
    /// FREEHOLD_SABOTAGE of a sabotage build.
    Built,
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
}

/// All of them. A new fault of the server's sabotage build gets a line here.
const PLANTS: [Plant; 11] = [
    plant(
        "no-fsync",
        Kind::Freehold,
        How::Built,
        Workload::Acknowledged,
        Fault::Power,
    ),
    plant(
        "fsync-ignored",
        Kind::Freehold,
        How::Unsynced,
        Workload::Acknowledged,
        Fault::Power,
    ),
    plant(
        "read-committed",
        Kind::Freehold,
        How::Weaken,
        Workload::Append,
        Fault::None,
    ),
    plant(
        "read-committed-bank",
        Kind::Freehold,
        How::Weaken,
        Workload::Bank,
        Fault::None,
    ),
    plant(
        "fsync=off",
        Kind::Postgres,
        How::Setting("fsync=off"),
        Workload::Acknowledged,
        Fault::Power,
    ),
    plant(
        "synchronous_commit=off",
        Kind::Postgres,
        How::Setting("synchronous_commit=off"),
        Workload::Acknowledged,
        Fault::Kill,
    ),
    plant(
        "read-committed",
        Kind::Postgres,
        How::Weaken,
        Workload::Append,
        Fault::None,
    ),
    plant(
        "read-committed-bank",
        Kind::Postgres,
        How::Weaken,
        Workload::Bank,
        Fault::None,
    ),
    plant(
        "freehold.fault=drop-deletes",
        Kind::Postgres,
        How::Setting("freehold.fault=drop-deletes"),
        Workload::Feed,
        Fault::None,
    ),
    plant(
        "freehold.fault=early-position",
        Kind::Postgres,
        How::Setting("freehold.fault=early-position"),
        Workload::Feed,
        Fault::None,
    ),
    plant(
        "freehold.fault=torn",
        Kind::Postgres,
        How::Setting("freehold.fault=torn"),
        Workload::Feed,
        Fault::None,
    ),
];

const fn plant(
    name: &'static str,
    victim: Kind,
    how: How,
    workload: Workload,
    fault: Fault,
) -> Plant {
    Plant {
        name,
        victim,
        how,
        workload,
        fault,
        seconds: 4,
    }
}

/// Plays all plants of the victim; the tally of what was found where, and whether each was caught.
pub async fn play_all(only: Option<&str>, options: &Options) -> Result<bool> {
    let mut rows = Vec::new();
    let mut all_caught = true;
    let mut program = None;
    for plant in PLANTS.iter().filter(|plant| plant.victim == options.victim) {
        if only.is_some_and(|name| name != plant.name) {
            continue;
        }
        let program = match &program {
            Some(program) => program,
            None => program.insert(program::find(options, Build::Sabotage)?),
        };
        let (tally, first) = play_plant(plant, options, program.clone()).await?;
        all_caught &= tally.is_caught();
        rows.push(row(plant, &tally, first.as_deref()));
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
    options.out = options.out.join("sabotage").join(plant.name);
    let (mut sabotage, mut tracer) = (None, None);
    match plant.how {
        How::Built => sabotage = Some(plant.name.to_owned()),
        How::Unsynced => tracer = Some(unsynced()),
        How::Setting(setting) => options.victim_options.push(setting.to_owned()),
        How::Weaken => options.weaken = true,
    }
    println!("planted: {}", plant.name);
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
    format!(
        "| {} | {} | {} | {} | {caught} | {} |",
        plant.name,
        plant.workload.word(),
        plant.fault.word(),
        tally.runs,
        by.replace('|', "/"),
    )
}
