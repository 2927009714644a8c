//! From the acknowledged commit to the moment that a reader elsewhere sees the row: at another node
//! of Freehold that votes, at one that keeps a copy by the feed, at a subscriber of PostgreSQL's
//! logical replication and at one of its standbys. Each reader asks again as soon as it has its
//! answer, so nothing below the time of one read, which stands beside it, can be seen.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, Statement};

use super::copies;
use super::freehold::Nodes;
use super::load::connect;
use super::standbys::Standbys;
use crate::Result;
use crate::peers::Server;

/// Commits that are timed.
const COMMITS: usize = 1000;

/// Before: copies and subscriptions that have just begun have not found their way yet.
const WARM_UP: Duration = Duration::from_secs(8);

/// A row that has not come by then never comes.
const PATIENCE: Duration = Duration::from_secs(10);

const TABLE: &str = "CREATE TABLE public.visible (id integer PRIMARY KEY)";

/// Runs all probes and prints a table.
pub fn run(freehold: &mut Nodes, postgres: &Standbys) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    println!(
        "\n| commit to visible elsewhere (ms, commit answered to row read) | median | 99 % | one read, median | seen at the first read |"
    );
    println!("|---|---|---|---|---|");
    freehold.any().run(TABLE)?;
    let (home, away) = (freehold.home()?, freehold.away()?);
    let ours = runtime.block_on(async {
        let reader = connect(away, "postgres").await?;
        reader.batch_execute("SET freehold.read = 'local'").await?;
        probe(&connect(home, "postgres").await?, &reader).await
    })?;
    print("Freehold, another voter's own cut", ours);
    freehold.any().run("DELETE FROM public.visible")?;
    freehold.any().run("CREATE ROLE reader LOGIN")?;
    freehold
        .any()
        .run("GRANT SELECT ON public.visible TO reader")?;
    freehold.join(1)?;
    let (home, last) = (freehold.home()?, freehold.all().len() - 1);
    let ours = runtime.block_on(async {
        let follower = &freehold.all()[last];
        copies::copy(follower, "SELECT FROM public.visible").await?;
        let reader = connect(follower, "reader").await?;
        reader.batch_execute("SET freehold.read = 'local'").await?;
        probe(&connect(home, "postgres").await?, &reader).await
    })?;
    print("Freehold, a follower's copy", ours);
    freehold.part()?;
    let mirror = subscribe(postgres.primary())?;
    let theirs = runtime.block_on(async {
        probe(
            &connect(postgres.primary(), "postgres").await?,
            &connect(&mirror, "postgres").await?,
        )
        .await
    })?;
    print("PostgreSQL, logical replication", theirs);
    postgres.primary().run("DELETE FROM public.visible")?;
    let theirs = runtime.block_on(async {
        let reader = connect(postgres.standby(), "postgres").await?;
        probe(&connect(postgres.primary(), "postgres").await?, &reader).await
    })?;
    print("PostgreSQL, hot standby", theirs);
    Ok(())
}

/// What was seen of one pair of servers, in ms.
struct Seen {
    /// From the answer of the commit to the answer of the read that has it.
    visible: Vec<f64>,
    /// A read of what is there.
    reads: Vec<f64>,
    /// How often the first read had it.
    at_once: usize,
}

fn print(name: &str, mut seen: Seen) {
    seen.visible.sort_by(f64::total_cmp);
    seen.reads.sort_by(f64::total_cmp);
    let at = |of: &[f64], share: f64| of[((of.len() - 1) as f64 * share) as usize];
    println!(
        "| {name} | {:.3} | {:.3} | {:.3} | {} of {COMMITS} |",
        at(&seen.visible, 0.5),
        at(&seen.visible, 0.99),
        at(&seen.reads, 0.5),
        seen.at_once
    );
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

/// Commits one row at a time and reads until it is there, for a while before it counts.
async fn probe(writer: &Client, reader: &Client) -> Result<Seen> {
    let insert = writer
        .prepare("INSERT INTO public.visible VALUES ($1)")
        .await?;
    let select = prepare(reader).await?;
    let mut seen = Seen {
        visible: Vec::with_capacity(COMMITS),
        reads: Vec::with_capacity(COMMITS),
        at_once: 0,
    };
    let begun = Instant::now();
    let mut id = 0;
    while seen.reads.len() < COMMITS {
        id += 1;
        writer.execute(&insert, &[&id]).await?;
        let committed = Instant::now();
        let mut reads = 1;
        while reader.query_opt(&select, &[&id]).await?.is_none() {
            if committed.elapsed() > PATIENCE {
                return Err(format!("row {id} is not seen").into());
            }
            reads += 1;
        }
        let visible = millis(committed);
        let again = Instant::now();
        reader.query_opt(&select, &[&id]).await?;
        if begun.elapsed() >= WARM_UP {
            seen.visible.push(visible);
            seen.at_once += usize::from(reads == 1);
            seen.reads.push(millis(again));
        }
    }
    Ok(seen)
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// The reader's node may not know the table yet.
async fn prepare(reader: &Client) -> Result<Statement> {
    let begun = Instant::now();
    loop {
        match reader
            .prepare("SELECT id FROM public.visible WHERE id = $1")
            .await
        {
            Ok(statement) => return Ok(statement),
            Err(error) if begun.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
