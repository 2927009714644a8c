//! Lists of what to play: a short slice of everything for each push, one node and three, and what
//! a release is judged by.

use std::path::PathBuf;

use tokio::time::{Duration, Instant};

use crate::cluster::Nemesis;
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::finding::Tally;
use crate::options::{Options, Workload};
use crate::runs::{Setup, play};
use crate::victim::Store;

/// After this time no further slice of the short list is begun.
const TIME_MAX: Duration = Duration::from_secs(310);

/// What a list gave.
pub struct Played {
    /// The counts of all slices together.
    pub tally: Tally,
    /// Valid runs that they had to reach.
    pub asked: u64,
}

/// Nodes of a cluster.
const NODES: usize = 3;

struct Slice {
    workload: Workload,
    faults: Faults,
    /// Of a cluster.
    nodes: usize,
    runs: u64,
    clients: Option<u32>,
    /// That a cluster sends before it ends.
    commands: Option<u64>,
    store: Store,
}

/// On what, and how long.
enum Faults {
    /// One node, its fault, and the longest load of a run in seconds.
    Alone(Fault, u64),
    /// A cluster, with so many strikes of these.
    Strikes(&'static [Nemesis], u64),
    /// A cluster, struck by these for so many seconds.
    Time(&'static [Nemesis], u64),
}

const fn slice(workload: Workload, fault: Fault, runs: u64, seconds: u64, store: Store) -> Slice {
    Slice {
        workload,
        faults: Faults::Alone(fault, seconds),
        nodes: 1,
        runs,
        clients: None,
        commands: None,
        store,
    }
}

const fn strikes(workload: Workload, nemeses: &'static [Nemesis], strikes: u64) -> Slice {
    Slice {
        workload,
        faults: Faults::Strikes(nemeses, strikes),
        nodes: NODES,
        runs: 1,
        clients: None,
        commands: None,
        store: Store::Lsm,
    }
}

/// A minute of strikes.
const fn minute(workload: Workload, nemeses: &'static [Nemesis]) -> Slice {
    Slice {
        faults: Faults::Time(nemeses, 60),
        ..strikes(workload, nemeses, 0)
    }
}

const fn with_clients(clients: u32, slice: Slice) -> Slice {
    Slice {
        clients: Some(clients),
        ..slice
    }
}

/// The strikes spread over so many commands.
const fn with_commands(commands: u64, slice: Slice) -> Slice {
    Slice {
        commands: Some(commands),
        ..slice
    }
}

/// With a node of the pool, which follows what the others hold.
const fn with_a_spare(slice: Slice) -> Slice {
    Slice {
        nodes: NODES + 1,
        ..slice
    }
}

const KILLS: &[Nemesis] = &[Nemesis::Kill, Nemesis::KillLeader];
const PAUSES: &[Nemesis] = &[Nemesis::Pause, Nemesis::PauseLeader];
const PARTITIONS: &[Nemesis] = &[Nemesis::Partition];
const PAIRS: &[Nemesis] = &[Nemesis::PartitionPair];
const RESTARTS: &[Nemesis] = &[Nemesis::Restart, Nemesis::KillAll, Nemesis::Membership];
const CLAIMS: &[Nemesis] = &[Nemesis::Claim];
const EVERYTHING: &[Nemesis] = &[
    Nemesis::KillLeader,
    Nemesis::KillAll,
    Nemesis::Restart,
    Nemesis::PauseLeader,
    Nemesis::Partition,
    Nemesis::Membership,
];

/// For each push; the most telling ones first.
const SHORT: [Slice; 14] = [
    slice(Workload::Acknowledged, Fault::Power, 2, 3, Store::Lsm),
    slice(Workload::Acknowledged, Fault::Kill, 6, 3, Store::Lsm),
    strikes(Workload::Acknowledged, &[Nemesis::KillLeader], 2),
    strikes(Workload::Bank, &[Nemesis::KillLeader], 2),
    strikes(Workload::Register, &[Nemesis::PartitionLeader], 1),
    strikes(Workload::Commands, &[Nemesis::KillLeader], 2),
    strikes(Workload::References, &[Nemesis::KillLeader], 2),
    with_clients(200, slice(Workload::Feed, Fault::None, 1, 12, Store::Lsm)),
    slice(Workload::Append, Fault::None, 1, 4, Store::Lsm),
    slice(Workload::Bank, Fault::Kill, 2, 3, Store::Lsm),
    slice(Workload::Append, Fault::Kill, 2, 3, Store::Lsm),
    slice(Workload::Acknowledged, Fault::Kill, 2, 3, Store::Sled),
    with_clients(50, slice(Workload::Feed, Fault::Kill, 2, 3, Store::Lsm)),
    with_clients(8, strikes(Workload::Feed, &[Nemesis::KillLeader], 1)),
];

/// For a release.
const JUDGED: [Slice; 24] = [
    slice(Workload::Acknowledged, Fault::Kill, 50, 5, Store::Lsm),
    slice(Workload::Acknowledged, Fault::Power, 20, 5, Store::Lsm),
    slice(Workload::Acknowledged, Fault::Kill, 50, 5, Store::Sled),
    slice(Workload::Acknowledged, Fault::Power, 20, 5, Store::Sled),
    slice(Workload::Acknowledged, Fault::Replay, 10, 5, Store::Lsm),
    slice(Workload::Acknowledged, Fault::Replay, 10, 5, Store::Sled),
    slice(Workload::Acknowledged, Fault::None, 2, 20, Store::Lsm),
    slice(Workload::Feed, Fault::None, 2, 30, Store::Lsm),
    slice(Workload::Feed, Fault::None, 1, 30, Store::Sled),
    with_clients(200, slice(Workload::Feed, Fault::Kill, 10, 5, Store::Lsm)),
    with_clients(200, slice(Workload::Feed, Fault::Power, 5, 5, Store::Lsm)),
    with_clients(200, slice(Workload::Feed, Fault::Kill, 5, 5, Store::Sled)),
    slice(Workload::Append, Fault::None, 2, 20, Store::Lsm),
    slice(Workload::Append, Fault::Kill, 10, 5, Store::Lsm),
    slice(Workload::Append, Fault::Power, 5, 5, Store::Lsm),
    slice(Workload::Bank, Fault::None, 2, 20, Store::Lsm),
    slice(Workload::Bank, Fault::Kill, 10, 5, Store::Lsm),
    slice(Workload::Bank, Fault::Power, 5, 5, Store::Lsm),
    slice(Workload::Commands, Fault::None, 2, 20, Store::Lsm),
    slice(Workload::Commands, Fault::Kill, 10, 5, Store::Lsm),
    slice(Workload::Commands, Fault::Power, 5, 5, Store::Lsm),
    slice(Workload::References, Fault::None, 2, 20, Store::Lsm),
    slice(Workload::References, Fault::Kill, 10, 5, Store::Lsm),
    slice(Workload::References, Fault::Power, 5, 5, Store::Lsm),
];

/// For a release, on three nodes and with a fourth in the pool: each workload under each kind of
/// nemesis, more than an hour.
const JUDGED_CLUSTER: [Slice; 49] = [
    strikes(Workload::Acknowledged, &[Nemesis::KillLeader], 30),
    minute(Workload::Append, KILLS),
    minute(Workload::Append, PAUSES),
    minute(Workload::Append, PARTITIONS),
    minute(Workload::Append, RESTARTS),
    minute(Workload::Append, EVERYTHING),
    minute(Workload::Bank, KILLS),
    minute(Workload::Bank, PAUSES),
    minute(Workload::Bank, PARTITIONS),
    minute(Workload::Bank, RESTARTS),
    minute(Workload::Bank, EVERYTHING),
    minute(Workload::Register, KILLS),
    minute(Workload::Register, PAUSES),
    minute(Workload::Register, PARTITIONS),
    minute(Workload::Register, RESTARTS),
    minute(Workload::Register, EVERYTHING),
    minute(Workload::Acknowledged, KILLS),
    minute(Workload::Acknowledged, PAUSES),
    minute(Workload::Acknowledged, PARTITIONS),
    minute(Workload::Acknowledged, RESTARTS),
    minute(Workload::Acknowledged, EVERYTHING),
    with_clients(50, minute(Workload::Feed, KILLS)),
    with_clients(50, minute(Workload::Feed, PAUSES)),
    with_clients(50, minute(Workload::Feed, PARTITIONS)),
    with_clients(50, minute(Workload::Feed, RESTARTS)),
    with_clients(50, minute(Workload::Feed, EVERYTHING)),
    minute(Workload::Reads, KILLS),
    minute(Workload::Reads, PAUSES),
    minute(Workload::Reads, PARTITIONS),
    minute(Workload::Reads, RESTARTS),
    minute(Workload::Reads, EVERYTHING),
    with_a_spare(minute(Workload::Reads, KILLS)),
    with_a_spare(minute(Workload::Reads, PARTITIONS)),
    with_a_spare(minute(Workload::Acknowledged, CLAIMS)),
    with_a_spare(with_clients(50, minute(Workload::Feed, CLAIMS))),
    minute(Workload::Commands, KILLS),
    minute(Workload::Commands, PAUSES),
    minute(Workload::Commands, PARTITIONS),
    minute(Workload::Commands, RESTARTS),
    minute(Workload::Commands, EVERYTHING),
    with_a_spare(minute(Workload::Commands, CLAIMS)),
    with_commands(
        100_000,
        strikes(Workload::Commands, &[Nemesis::KillLeader], 20),
    ),
    minute(Workload::References, KILLS),
    minute(Workload::References, PAUSES),
    minute(Workload::References, PARTITIONS),
    minute(Workload::References, PAIRS),
    minute(Workload::References, RESTARTS),
    minute(Workload::References, EVERYTHING),
    with_a_spare(minute(Workload::References, CLAIMS)),
];

/// Plays the short list.
pub async fn play_short(options: &Options, program: PathBuf) -> Result<Played> {
    play_slices(&SHORT, Some(TIME_MAX), options, program).await
}

/// Plays the long list.
pub async fn play_judged(options: &Options, program: PathBuf) -> Result<Played> {
    if options.nodes > 1 {
        return play_slices(&JUDGED_CLUSTER, None, options, program).await;
    }
    play_slices(&JUDGED, None, options, program).await
}

async fn play_slices(
    slices: &[Slice],
    time_max: Option<Duration>,
    options: &Options,
    program: PathBuf,
) -> Result<Played> {
    let began = Instant::now();
    let mut tally = Tally::default();
    let mut asked = 0;
    for slice in slices {
        let played = slice.options(options);
        let name = format!(
            "{} {} on {} nodes, {}",
            slice.workload.word(),
            played.fault_words(),
            played.nodes,
            slice.store.word()
        );
        if time_max.is_some_and(|most| began.elapsed() > most) {
            tally.skipped.push(format!("{name}: no time left"));
            continue;
        }
        let setup = Setup {
            options: played,
            program: program.clone(),
            sabotage: None,
            tracer: None,
            until_found: false,
        };
        match play(&setup).await {
            Ok((part, _)) => {
                asked += slice.runs;
                tally.add(&part);
            }
            // Only the loss of unsynced writes may be beyond the machine.
            Err(Error::Setup(why)) if slice.may_be_beyond() => {
                tally.skipped.push(format!("{name}: {why}"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Played { tally, asked })
}

impl Slice {
    fn may_be_beyond(&self) -> bool {
        matches!(self.faults, Faults::Alone(Fault::Power | Fault::Replay, _))
    }

    fn options(&self, common: &Options) -> Options {
        let mut options = Options {
            workload: self.workload,
            runs: self.runs,
            clients: self.clients,
            commands: self.commands,
            table_store: self.store,
            nodes: self.nodes,
            ..common.clone()
        };
        match self.faults {
            Faults::Alone(fault, seconds) => {
                options.fault = fault;
                options.seconds = seconds;
            }
            Faults::Strikes(nemeses, strikes) => {
                options.nemeses = nemeses.to_vec();
                options.strikes = Some(strikes);
            }
            Faults::Time(nemeses, seconds) => {
                options.nemeses = nemeses.to_vec();
                options.time = seconds;
            }
        }
        options
    }
}
