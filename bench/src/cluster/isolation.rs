//! One owner's commits while another owner loads as fast as it can.

use std::path::Path;
use std::time::Duration;

use super::freehold::Nodes;
use super::load::{Load, make_owner};
use crate::table::median;
use crate::{Options, Result};

/// Runs it and prints a table.
pub fn run(program: &Path, folder: &Path, options: &Options) -> Result<()> {
    let nodes = Nodes::start(program, folder, options)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let server = nodes.any();
    for owner in ["loading", "quiet"] {
        runtime.block_on(make_owner(server, owner))?;
        println!("{owner}: led by node {}", nodes.home_of(owner)? + 1);
    }
    println!(
        "\n| another owner's commits (ms) | quiet | beside 32 clients of a loading owner | ratio | bar | the loading owner's commits a second |"
    );
    println!("|---|---|---|---|---|---|");
    runtime.block_on(async {
        let time = Duration::from_secs(u64::from(options.seconds));
        let (mut ratios, mut quiets, mut louds, mut rates) = (vec![], vec![], vec![], vec![]);
        for pair in 0..options.pairs as i64 {
            let probe = |number| Load {
                server,
                user: "quiet",
                clients: 1,
                time,
                rate: None,
                number,
            };
            let load = Load {
                user: "loading",
                clients: 32,
                ..probe(pair)
            };
            let quiet = probe(2 * pair).run().await?.at(0.5);
            let loud = probe(2 * pair + 1);
            let (loud, load) = tokio::join!(loud.run(), load.run());
            let loud = loud?.at(0.5);
            ratios.push(loud / quiet);
            quiets.push(quiet);
            louds.push(loud);
            rates.push(load?.rate);
        }
        println!(
            "| median | {:.3} | {:.3} | {:.2} | < 3 | {:.0} |",
            median(&mut quiets),
            median(&mut louds),
            median(&mut ratios),
            median(&mut rates)
        );
        Ok(())
    })
}
