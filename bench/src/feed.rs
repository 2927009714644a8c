//! Feed latency: from the acknowledged commit to the moment a consumer holds the change.
//! Freehold: `freehold.changes(wait => ...)` over an ordinary connection; PostgreSQL: logical
//! decoding through `pg_recvlogical` with `test_decoding`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};

use crate::Result;
use crate::peers::{Peers, Server};

/// Commits that are timed.
const COMMITS: usize = 500;
/// A change that has not come by then never comes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the probe on both and prints two lines.
pub fn run(peers: &Peers) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    println!("\n| feed latency (ms, commit answered to change received) | median | 99 % |");
    println!("|---|---|---|");
    let ours = runtime.block_on(freehold(&peers.freehold))?;
    print("Freehold, freehold.changes", ours);
    let theirs = runtime.block_on(postgres(&peers.postgres))?;
    print("PostgreSQL, pg_recvlogical", theirs);
    Ok(())
}

fn print(name: &str, mut latencies: Vec<f64>) {
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!("| {name} | {:.2} | {:.2} |", at(0.5), at(0.99));
}

async fn connect(server: &Server) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Commits one row at a time and asks `received` for the moment that the consumer had it.
async fn commits(client: &Client, received: &Receiver<(i32, Instant)>) -> Result<Vec<f64>> {
    let insert = client.prepare("INSERT INTO feed_probe VALUES ($1)").await?;
    let mut latencies = Vec::with_capacity(COMMITS);
    for id in 0..COMMITS as i32 {
        client.execute(&insert, &[&id]).await?;
        let committed = Instant::now();
        let (seen, at) = received.recv_timeout(PATIENCE)?;
        if seen != id {
            return Err(format!("the feed gave {seen} instead of {id}").into());
        }
        // The consumer may have had it before the writer had its answer: then it is zero.
        latencies.push(at.saturating_duration_since(committed).as_secs_f64() * 1e3);
    }
    Ok(latencies)
}

async fn freehold(server: &Server) -> Result<Vec<f64>> {
    let client = connect(server).await?;
    client
        .batch_execute("CREATE TABLE public.feed_probe (id integer PRIMARY KEY)")
        .await?;
    let consumer = connect(server).await?;
    let row = consumer
        .query_one("SELECT freehold.snapshot_position()::text", &[])
        .await?;
    let mut after: String = row.get(0);
    let (send, received) = channel();
    tokio::spawn(async move {
        loop {
            let rows = consumer
                .query(
                    "SELECT position::text, (new->>'id')::integer FROM freehold.changes(\
                     after => $1::text::pg_lsn, tables => ARRAY['feed_probe'], wait => '10s', \
                     max_rows => 500) WHERE op = 'insert'",
                    &[&after],
                )
                .await;
            let Ok(rows) = rows else { return };
            let at = Instant::now();
            for row in rows {
                after = row.get(0);
                if send.send((row.get(1), at)).is_err() {
                    return;
                }
            }
        }
    });
    commits(&client, &received).await
}

async fn postgres(server: &Server) -> Result<Vec<f64>> {
    let client = connect(server).await?;
    client
        .batch_execute("CREATE TABLE feed_probe (id integer PRIMARY KEY)")
        .await?;
    let slot = "SELECT pg_create_logical_replication_slot('feed_probe', 'test_decoding')";
    client.execute(slot, &[]).await?;
    let (child, received) = recvlogical(server)?;
    let latencies = commits(&client, &received).await;
    end(child);
    latencies
}

/// pg_recvlogical writing to its standard output, which a thread reads line by line.
fn recvlogical(server: &Server) -> Result<(Child, Receiver<(i32, Instant)>)> {
    let mut child = Command::new("/usr/lib/postgresql/15/bin/pg_recvlogical")
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &server.port.to_string(),
            "-U",
            "postgres",
        ])
        .args([
            "-d",
            server.database,
            "-S",
            "feed_probe",
            "--start",
            "-f",
            "-",
            "-F",
            "0",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let out = child.stdout.take().ok_or("no standard output")?;
    let (send, received) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(std::io::Result::ok) {
            let id = line
                .split("id[integer]:")
                .nth(1)
                .and_then(|text| text.trim().parse().ok());
            if let Some(id) = id
                && send.send((id, Instant::now())).is_err()
            {
                return;
            }
        }
    });
    Ok((child, received))
}

fn end(mut child: Child) {
    // It may have ended by itself; either way it is gone after this.
    let _ = child.kill();
    let _ = child.wait();
}
