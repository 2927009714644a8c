//! Single-row inserts over several connections, as fast as they are answered or at a given rate, and
//! how long each took.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_postgres::{Client, NoTls};

use crate::Result;
use crate::peers::Server;

/// Bytes of a row's text.
const VALUE_BYTES: usize = 100;

/// Keys of one client.
const KEYS: i64 = 1 << 32;

/// What a load has done.
pub struct Done {
    /// From the moment that a commit was due to its answer, in ms, sorted.
    pub latencies: Vec<f64>,
    /// Commits a second.
    pub rate: f64,
}

impl Done {
    /// The latency that this share of the commits does not exceed, in ms.
    pub fn at(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies
            .get((last as f64 * share) as usize)
            .copied()
            .unwrap_or(f64::NAN)
    }
}

/// One owner's inserts into `kv` at a server.
pub struct Load<'a> {
    /// Where.
    pub server: &'a Server,
    /// As whom.
    pub user: &'a str,
    /// Connections.
    pub clients: u32,
    /// How long.
    pub time: Duration,
    /// Commits a second of all connections; as many as can be if there is none.
    pub rate: Option<f64>,
    /// A number that no other load of the same table has.
    pub number: i64,
}

impl Load<'_> {
    /// Plays it to its end.
    pub async fn run(&self) -> Result<Done> {
        let begun = Instant::now();
        let pace = self.rate.map(|rate| f64::from(self.clients) / rate);
        let mut tasks = JoinSet::new();
        for number in 0..self.clients {
            let client = connect(self.server, self.user).await?;
            let first = (self.number * 1000 + i64::from(number)) * KEYS;
            // Clients are due one after the other.
            let shift = pace.unwrap_or(0.0) * f64::from(number) / f64::from(self.clients);
            let begin = Instant::now() + Duration::from_secs_f64(shift);
            tasks.spawn(inserts(client, first, begin, begun + self.time, pace));
        }
        let mut latencies = Vec::new();
        while let Some(done) = tasks.join_next().await {
            latencies.extend(done?.map_err(|error| error.to_string())?);
        }
        latencies.sort_by(f64::total_cmp);
        let rate = latencies.len() as f64 / begun.elapsed().as_secs_f64();
        Ok(Done { latencies, rate })
    }
}

async fn inserts(
    client: Client,
    first: i64,
    begin: Instant,
    end: Instant,
    pace: Option<f64>,
) -> std::result::Result<Vec<f64>, tokio_postgres::Error> {
    let insert = client.prepare("INSERT INTO kv VALUES ($1, $2)").await?;
    let value = "v".repeat(VALUE_BYTES);
    let mut latencies = Vec::new();
    let mut due = begin;
    while due < end {
        sleep_until(due).await;
        let key = first + latencies.len() as i64;
        client.execute(&insert, &[&key, &value]).await?;
        latencies.push(due.elapsed().as_secs_f64() * 1e3);
        due = match pace {
            // What comes late makes the next ones late: they were due.
            Some(pace) => due + Duration::from_secs_f64(pace),
            None => Instant::now(),
        };
    }
    Ok(latencies)
}

/// A connection.
pub async fn connect(server: &Server, user: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(&server.url_of(user), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Makes a role with a table `kv` in its schema.
pub async fn make_owner(server: &Server, name: &str) -> Result<()> {
    let root = connect(server, "postgres").await?;
    root.batch_execute(&format!("CREATE ROLE {name} LOGIN"))
        .await?;
    let owner = connect(server, name).await?;
    owner
        .batch_execute("CREATE TABLE kv (k bigint PRIMARY KEY, v text NOT NULL)")
        .await?;
    Ok(())
}
