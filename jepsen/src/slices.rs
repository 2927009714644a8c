//! Lists of what to play: a short slice of everything for each push, well under four minutes,
//! and what a release is judged by.

use std::path::PathBuf;

use tokio::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::finding::Tally;
use crate::options::{Options, Workload};
use crate::runs::{Setup, play};
use crate::victim::Store;

/// After this time no further slice of the short list is begun.
const TIME_MAX: Duration = Duration::from_secs(200);

/// What a list gave.
pub struct Played {
    /// The counts of all slices together.
    pub tally: Tally,
    /// Valid runs that they had to reach.
    pub asked: u64,
}

struct Slice {
    workload: Workload,
    fault: Fault,
    runs: u64,
    seconds: u64,
    clients: Option<u32>,
    store: Store,
}

const fn slice(workload: Workload, fault: Fault, runs: u64, seconds: u64, store: Store) -> Slice {
    Slice {
        workload,
        fault,
        runs,
        seconds,
        clients: None,
        store,
    }
}

const fn with_clients(clients: u32, slice: Slice) -> Slice {
    Slice {
        clients: Some(clients),
        ..slice
    }
}

/// For each push; the most telling ones first.
const SHORT: [Slice; 8] = [
    slice(Workload::Acknowledged, Fault::Power, 2, 3, Store::Lsm),
    slice(Workload::Acknowledged, Fault::Kill, 6, 3, Store::Lsm),
    with_clients(200, slice(Workload::Feed, Fault::None, 1, 20, Store::Lsm)),
    slice(Workload::Append, Fault::None, 1, 4, Store::Lsm),
    slice(Workload::Bank, Fault::Kill, 2, 3, Store::Lsm),
    slice(Workload::Append, Fault::Kill, 2, 3, Store::Lsm),
    slice(Workload::Acknowledged, Fault::Kill, 2, 3, Store::Sled),
    with_clients(50, slice(Workload::Feed, Fault::Kill, 2, 3, Store::Lsm)),
];

/// For a release.
const JUDGED: [Slice; 18] = [
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
];

/// Plays the short list.
pub async fn play_short(options: &Options, program: PathBuf) -> Result<Played> {
    play_slices(&SHORT, Some(TIME_MAX), options, program).await
}

/// Plays the long list.
pub async fn play_judged(options: &Options, program: PathBuf) -> Result<Played> {
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
        let name = format!(
            "{} {} on {}",
            slice.workload.word(),
            slice.fault.word(),
            slice.store.word()
        );
        if time_max.is_some_and(|most| began.elapsed() > most) {
            tally.skipped.push(format!("{name}: no time left"));
            continue;
        }
        let setup = Setup {
            options: slice.options(options),
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
            Err(Error::Setup(why)) if matches!(slice.fault, Fault::Power | Fault::Replay) => {
                tally.skipped.push(format!("{name}: {why}"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Played { tally, asked })
}

impl Slice {
    fn options(&self, common: &Options) -> Options {
        Options {
            workload: self.workload,
            fault: self.fault,
            runs: self.runs,
            seconds: self.seconds,
            clients: self.clients,
            table_store: self.store,
            ..common.clone()
        }
    }
}
