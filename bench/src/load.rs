//! `pgbench -i -s 50`: five million rows in one COPY, while another role goes on committing;
//! prints the time, the peak memory and the other role's commit latency.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio_postgres::NoTls;

use crate::peers::Peers;
use crate::{Result, pgbench};

/// pgbench's scale: 100,000 accounts each.
const SCALE: u32 = 50;

/// Loads and prints.
pub fn run(peers: &Peers) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let ended = Arc::new(AtomicBool::new(false));
    let other = runtime.spawn(commits(peers.freehold.url(), ended.clone()));
    let begun = Instant::now();
    pgbench::load(&peers.freehold, SCALE)?;
    let seconds = begun.elapsed().as_secs_f64();
    ended.store(true, Ordering::Relaxed);
    let mut latencies = runtime.block_on(other)?.map_err(|e| e.to_string())?;
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!(
        "\n`pgbench -i -s {SCALE}`: {seconds:.1} s; peak memory {} MB",
        peers.freehold_peak_mb()?
    );
    println!(
        "another role's commits meanwhile: {} of them, median {:.1} ms, 99 % {:.1} ms, worst {:.0} ms",
        latencies.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(())
}

type Shared<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Another owner's single-row commits until told to end; milliseconds each.
async fn commits(url: String, ended: Arc<AtomicBool>) -> Shared<Vec<f64>> {
    let (admin, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    admin.batch_execute("CREATE ROLE neighbour LOGIN").await?;
    let url = url.replace("user=postgres", "user=neighbour");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    client
        .batch_execute("CREATE TABLE t (id bigint PRIMARY KEY)")
        .await?;
    let insert = client.prepare("INSERT INTO t VALUES ($1)").await?;
    let mut latencies = Vec::new();
    let mut id = 0_i64;
    while !ended.load(Ordering::Relaxed) {
        let begun = Instant::now();
        client.execute(&insert, &[&id]).await?;
        latencies.push(begun.elapsed().as_secs_f64() * 1e3);
        id += 1;
    }
    Ok(latencies)
}
