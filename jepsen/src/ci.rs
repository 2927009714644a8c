//! A short slice of everything, for every push: well under four minutes.

use std::path::PathBuf;

use tokio::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::finding::Tally;
use crate::options::{Options, Workload};
use crate::runs::{Setup, play};
use crate::victim::Store;

/// After this time no further slice is begun.
const TIME_MAX: Duration = Duration::from_secs(200);

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

/// The most telling ones first.
const SLICES: [Slice; 8] = [
    slice(Workload::Acknowledged, Fault::Power, 2, 3, Store::Lsm),
    slice(Workload::Acknowledged, Fault::Kill, 6, 3, Store::Lsm),
    Slice {
        clients: Some(200),
        ..slice(Workload::Feed, Fault::None, 1, 20, Store::Lsm)
    },
    slice(Workload::Append, Fault::None, 1, 4, Store::Lsm),
    slice(Workload::Bank, Fault::Kill, 2, 3, Store::Lsm),
    slice(Workload::Append, Fault::Kill, 2, 3, Store::Lsm),
    slice(Workload::Acknowledged, Fault::Kill, 2, 3, Store::Sled),
    Slice {
        clients: Some(50),
        ..slice(Workload::Feed, Fault::Kill, 2, 3, Store::Lsm)
    },
];

/// Plays the slices and gives their common counts.
pub async fn play_slices(options: &Options, program: PathBuf) -> Result<Tally> {
    let began = Instant::now();
    let mut tally = Tally::default();
    for slice in &SLICES {
        let name = format!(
            "{} {} on {}",
            slice.workload.word(),
            slice.fault.word(),
            slice.store.word()
        );
        if began.elapsed() > TIME_MAX {
            tally.skipped.push(format!("{name}: no time left"));
            continue;
        }
        let mut chosen = options.clone();
        chosen.workload = slice.workload;
        chosen.fault = slice.fault;
        chosen.runs = slice.runs;
        chosen.seconds = slice.seconds;
        chosen.clients = slice.clients;
        chosen.table_store = slice.store;
        let setup = Setup {
            options: chosen,
            program: program.clone(),
            sabotage: None,
            until_found: false,
        };
        match play(&setup).await {
            Ok((part, _)) => tally.add(&part),
            // Only a power cut may be beyond the machine.
            Err(Error::Setup(why)) if slice.fault == Fault::Power => {
                tally.skipped.push(format!("{name}: {why}"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(tally)
}
