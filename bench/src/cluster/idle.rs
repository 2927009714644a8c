//! Five hundred owners who do nothing: what they cost, and how long a start takes with them.

use std::path::Path;
use std::time::{Duration, Instant};

use super::freehold::Nodes;
use super::load::make_owner;
use crate::{Options, Result};

/// Owners with one table each.
const OWNERS: usize = 500;

/// How long nothing happens before it is measured.
const REST: Duration = Duration::from_secs(30);

/// How long is measured.
const LOOK: Duration = Duration::from_secs(20);

/// Runs it and prints a table.
pub fn run(program: &Path, folder: &Path, options: &Options) -> Result<()> {
    let mut nodes = Nodes::start(program, folder, options)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let begun = Instant::now();
    for number in 0..OWNERS {
        let all = nodes.all();
        runtime.block_on(make_owner(&all[number % all.len()], &format!("o{number}")))?;
    }
    println!(
        "\n{OWNERS} owners with a table each were made in {:.0} s; {} s later:\n",
        begun.elapsed().as_secs_f64(),
        REST.as_secs()
    );
    println!(
        "| node | CPU, % of a core | anonymous memory MB | started again with the others, ready after s |"
    );
    println!("|---|---|---|---|");
    std::thread::sleep(REST);
    let count = nodes.all().len();
    let cpu = |nodes: &Nodes| -> Result<Vec<f64>> {
        (0..count)
            .map(|number| nodes.cpu_seconds_of(number))
            .collect()
    };
    let before = cpu(&nodes)?;
    std::thread::sleep(LOOK);
    let after = cpu(&nodes)?;
    let memory: Result<Vec<u64>> = (0..count)
        .map(|number| nodes.anonymous_mb_of(number))
        .collect();
    let memory = memory?;
    let ready = nodes.restart()?;
    for number in 0..count {
        let share = (after[number] - before[number]) / LOOK.as_secs_f64() * 100.0;
        println!(
            "| {} | {share:.1} | {} | {:.1} |",
            number + 1,
            memory[number],
            ready[number]
        );
    }
    Ok(())
}
