//! From the acknowledged commit to the moment that a reader elsewhere sees the row: at another node
//! of Freehold, at a subscriber of PostgreSQL's logical replication and at one of its standbys. Each
//! reader asks again as soon as it has its answer.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls, Statement};

use super::freehold::Nodes;
use super::standbys::Standbys;
use crate::Result;
use crate::peers::Server;

/// Commits that are timed.
const COMMITS: usize = 500;

/// A row that has not come by then never comes.
const PATIENCE: Duration = Duration::from_secs(10);

const TABLE: &str = "CREATE TABLE visible (id integer PRIMARY KEY)";

/// Runs all probes and prints a table.
pub fn run(freehold: &Nodes, postgres: &Standbys) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    println!("\n| commit to visible elsewhere (ms, commit answered to row read) | median | 99 % |");
    println!("|---|---|---|");
    freehold.any().run(TABLE)?;
    let (home, away) = (freehold.home()?, freehold.away()?);
    let ours = runtime.block_on(async {
        let reader = connect(away).await?;
        reader.batch_execute("SET freehold.read = 'local'").await?;
        probe(&connect(home).await?, &reader).await
    })?;
    print("Freehold, another node's own cut", ours);
    let mirror = subscribe(postgres.primary())?;
    let theirs = runtime.block_on(async {
        probe(
            &connect(postgres.primary()).await?,
            &connect(&mirror).await?,
        )
        .await
    })?;
    print("PostgreSQL, logical replication", theirs);
    postgres.primary().run("DELETE FROM visible")?;
    let theirs = runtime.block_on(async {
        let reader = connect(postgres.standby()).await?;
        probe(&connect(postgres.primary()).await?, &reader).await
    })?;
    print("PostgreSQL, hot standby", theirs);
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

/// A subscription in another database of the same server.
fn subscribe(primary: &Server) -> Result<Server> {
    let mirror = Server {
        name: "postgres",
        port: primary.port,
        database: "mirror",
    };
    primary.run(TABLE)?;
    primary.run("CREATE PUBLICATION visible FOR TABLE visible")?;
    primary.run("CREATE DATABASE mirror")?;
    primary.run("SELECT pg_create_logical_replication_slot('visible', 'pgoutput')")?;
    mirror.run(TABLE)?;
    mirror.run(&format!(
        "CREATE SUBSCRIPTION visible CONNECTION '{}' PUBLICATION visible \
         WITH (create_slot = false, slot_name = 'visible')",
        primary.url()
    ))?;
    Ok(mirror)
}

/// Commits one row at a time and reads until it is there.
async fn probe(writer: &Client, reader: &Client) -> Result<Vec<f64>> {
    let insert = writer.prepare("INSERT INTO visible VALUES ($1)").await?;
    let select = prepare(reader).await?;
    let mut latencies = Vec::with_capacity(COMMITS);
    for id in 0..COMMITS as i32 {
        writer.execute(&insert, &[&id]).await?;
        let committed = Instant::now();
        while reader.query_opt(&select, &[&id]).await?.is_none() {
            if committed.elapsed() > PATIENCE {
                return Err(format!("row {id} is not seen").into());
            }
        }
        latencies.push(committed.elapsed().as_secs_f64() * 1e3);
    }
    Ok(latencies)
}

/// The reader's node may not know the table yet.
async fn prepare(reader: &Client) -> Result<Statement> {
    let begun = Instant::now();
    loop {
        match reader.prepare("SELECT id FROM visible WHERE id = $1").await {
            Ok(statement) => return Ok(statement),
            Err(error) if begun.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
