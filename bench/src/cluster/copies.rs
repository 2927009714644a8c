//! What ten copies of a table on ten more nodes cost its writer, at half of its maximum load. All
//! thirteen nodes and the clients share this machine: where its processors are busy, clients wait for
//! them, whoever is the cause. So the copies are measured a second time as if they stood on other
//! machines: they get the time that the writer's nodes and clients leave, and how far behind they are
//! is told.

use std::path::Path;
use std::time::{Duration, Instant};

use super::freehold::Nodes;
use super::load::{Done, Load, connect};
use crate::peers::Server;
use crate::table::median;
use crate::{Options, Result};

/// Nodes that follow.
const COPIES: usize = 10;

/// The writer's connections.
const CLIENTS: u32 = 32;

/// Parts of the writer's maximum that are asked for. The first is what counts; at the second this
/// machine has time left for ten more processes.
const SHARES: [(&str, f64); 2] = [("half", 0.5), ("a quarter", 0.25)];

/// Longest wait for a copy.
const COPY_MAX: Duration = Duration::from_secs(60);

/// Runs it and prints a table.
pub fn run(program: &Path, folder: &Path, options: &Options) -> Result<()> {
    let mut nodes = Nodes::start(program, folder, options)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let mut loads = 0;
    let mut load = |nodes: &Nodes, rate| {
        loads += 1;
        let load = Load {
            server: nodes.home()?,
            user: "postgres",
            clients: CLIENTS,
            time: Duration::from_secs(u64::from(options.seconds)),
            rate,
            number: loads,
        };
        runtime.block_on(load.run())
    };
    runtime.block_on(prepare(nodes.any()))?;
    let most = load(&nodes, None)?.rate;
    println!("\nThe writer's maximum, {CLIENTS} clients: {most:.0} commits a second\n");
    println!(
        "| of it | copies | commits a second | median ms | 99 % ms \
         | CPU us of the leading node a commit | copies behind, ms |"
    );
    println!("|---|---|---|---|---|---|---|");
    for copies in ["none", "ten", "ten that let others go first", "none again"] {
        match copies {
            "ten" => {
                nodes.join(COPIES)?;
                for server in &nodes.all()[nodes.all().len() - COPIES..] {
                    runtime.block_on(copy(server, "SELECT FROM public.kv WHERE k = 0"))?;
                }
            }
            "none again" => nodes.part()?,
            "none" => {}
            _ => nodes.later_step_back()?,
        }
        for (name, share) in SHARES {
            let mut cells: [Vec<f64>; 5] = Default::default();
            for _ in 0..options.pairs {
                let home = nodes.home_number()?;
                let before = nodes.cpu_seconds_of(home)?;
                let done: Done = load(&nodes, Some(most * share))?;
                let cpu = nodes.cpu_seconds_of(home)? - before;
                let commit_us = cpu / done.latencies.len() as f64 * 1e6;
                let behind = match copies.starts_with("ten") {
                    true => runtime.block_on(behind_ms(nodes.home()?))?,
                    false => 0.0,
                };
                let seen = [done.rate, done.at(0.5), done.at(0.99), commit_us, behind];
                cells
                    .iter_mut()
                    .zip(seen)
                    .for_each(|(cell, seen)| cell.push(seen));
            }
            let [rate, half, most, cpu, behind] = cells.each_mut().map(|cell| median(cell));
            println!(
                "| {name} | {copies} | {rate:.0} | {half:.3} | {most:.3} | {cpu:.1} | {behind:.0} |"
            );
        }
    }
    Ok(())
}

/// How far the copy is behind that is most of all; 0 if there is none.
async fn behind_ms(server: &Server) -> Result<f64> {
    let client = connect(server, "postgres").await?;
    let most = "SELECT coalesce(max(lag_seconds), 0)::float8 * 1000 FROM freehold.followers";
    Ok(client.query_one(most, &[]).await?.get(0))
}

async fn prepare(server: &Server) -> Result<()> {
    let client = connect(server, "postgres").await?;
    for sql in [
        "CREATE ROLE reader LOGIN",
        "CREATE TABLE public.kv (k bigint PRIMARY KEY, v text NOT NULL)",
        "GRANT SELECT ON public.kv TO reader",
    ] {
        client.batch_execute(sql).await?;
    }
    Ok(())
}

/// Reads a table at a node as `reader`; the node then keeps a copy.
pub async fn copy(server: &Server, read: &str) -> Result<()> {
    let end = Instant::now() + COPY_MAX;
    loop {
        let client = connect(server, "reader").await?;
        match client.query(read, &[]).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > end => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
