//! Freehold beside PostgreSQL 15 in one run: pgbench and a feed-latency probe, interleaved pairs,
//! medians and ratios in a Markdown table; with --cluster three nodes beside what has three, too. Nothing here gives a verdict: it prints what it saw.

mod cluster;
mod feed;
mod load;
mod node;
mod peers;
mod pgbench;
mod references;
mod table;

use std::path::PathBuf;

use clap::Parser;

/// `cargo run --release -p bench`
#[derive(Parser)]
#[command(about = "Freehold beside PostgreSQL 15: pgbench and feed latency")]
pub struct Options {
    /// Interleaved pairs of runs per cell; the median counts.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Seconds of each run.
    #[arg(long, default_value_t = 6)]
    seconds: u32,
    /// Only cells whose name contains this text, e.g. `simple-update s10 prepared 32`; `feed`: only
    /// the feed-latency probe; `references`: foreign keys between owners, or a part of one of their
    /// names, e.g. `delete, other owner's 16`.
    #[arg(long)]
    only: Option<String>,
    /// Only the three cells that the project is judged by.
    #[arg(long)]
    judged: bool,
    /// The Freehold program; built if not given.
    #[arg(long)]
    freehold: Option<PathBuf>,
    /// The table store of Freehold.
    #[arg(long, default_value = "lsm")]
    table_store: String,
    /// Folder for both servers' data (the same file system for both).
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
    /// Also load pgbench scale 50 (5 million rows in one COPY) and print the peak memory.
    #[arg(long)]
    load: bool,
    /// Three nodes, beside PostgreSQL with two synchronous standbys and beside three nodes of etcd;
    /// `--only` names one of simple-update, inserts, visible; of isolation, copies, idle, which are
    /// measured of Freehold alone.
    #[arg(long)]
    cluster: bool,
    /// Leave out the feed-latency probe.
    #[arg(long)]
    no_feed: bool,
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let options = Options::parse();
    if options.cluster {
        return cluster::run(&options);
    }
    let peers = peers::Peers::start(&options)?;
    println!("# Freehold beside {}\n", peers.postgres_version()?);
    println!(
        "{} pairs of {} s, interleaved; TCP on loopback, same file system, fsync on in both. \
         Medians; ratio = median of the pairs' ratios (0.95 counts as 1.0: the noise).\n",
        options.pairs, options.seconds
    );
    let only = options.only.as_deref();
    if only.is_some_and(references::names) {
        return references::run(&peers, &options);
    }
    pgbench::run(&peers, &options)?;
    if !options.no_feed && matches!(only, None | Some("feed")) {
        feed::run(&peers)?;
    }
    if options.load {
        load::run(&peers)?;
    }
    println!("\nFreehold's peak memory: {} MB", peers.freehold_peak_mb()?);
    Ok(())
}
