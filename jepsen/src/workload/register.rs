//! Single registers: read, write, compare-and-set, each in one statement, alone or in a block
//! whose transaction any node can be asked about. Checked for linearizability.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::acknowledged::status_by;
use super::{Workload, create_owners, too_few};
use crate::check::register::{Deed, Operation, Verdict, judge};
use crate::error::Result;
use crate::field::{CONFLICTS, Field};
use crate::history::Step;
use crate::link::{Failure, Link, Outcome, Protocol, Texts, integer, text};
use crate::options::Options;
use crate::victim::Kind;

/// Clients if nobody says how many.
const CLIENTS: u32 = 10;

/// Registers in use at a time.
const LANES: i64 = 4;

/// Operations on a register before another one takes its place: orders are tried one by one.
const OPERATIONS_MAX: i64 = 100;

/// Values that are written: few, so that a compare-and-set often finds its own.
const VALUES: i64 = 6;

/// The owner of the registers.
const OWNER: &str = "registrar";

/// The workload.
pub struct Register {
    kind: Kind,
    clients: u32,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

/// What the clients share: all operations by register, and how many were asked for.
struct Shared {
    /// The origin of all times, whatever run they are of.
    began: Instant,
    operations: Mutex<BTreeMap<i64, Vec<Operation>>>,
    asked: AtomicI64,
    undecided: AtomicI64,
}

impl Shared {
    fn new() -> Shared {
        Shared {
            began: Instant::now(),
            operations: Mutex::default(),
            asked: AtomicI64::new(0),
            undecided: AtomicI64::new(0),
        }
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    fn add(&self, key: i64, operation: Operation) {
        let mut operations = self
            .operations
            .lock()
            .expect("no task panics while it holds the operations");
        operations.entry(key).or_default().push(operation);
    }

    /// The register in use in a lane now.
    fn key(&self, lane: i64) -> i64 {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        asked / (OPERATIONS_MAX * LANES) * LANES + lane
    }
}

impl Workload for Register {
    const OWNERS: &'static [&'static str] = &[OWNER];

    fn new(options: &Options) -> Register {
        Register {
            kind: options.victim,
            clients: options.clients.unwrap_or(CLIENTS),
            shared: Arc::new(Shared::new()),
            tasks: JoinSet::new(),
        }
    }

    async fn prepare(&mut self, field: &Field) -> Result<()> {
        create_owners(field, self.kind, &[OWNER]).await?;
        let link = Link::demand(&field.address, OWNER).await?;
        link.must("CREATE TABLE register (k bigint PRIMARY KEY, v bigint NOT NULL)")
            .await?;
        Ok(())
    }

    async fn begin(&mut self, field: &Field) -> Result<()> {
        for number in 0..u64::from(self.clients) {
            let client = Client {
                field: field.clone(),
                shared: self.shared.clone(),
                rng: field.seed.fork("client", number).rng(),
                process: field.run * 10_000 + number,
                xid: None,
            };
            self.tasks.spawn(client.live());
        }
        Ok(())
    }

    async fn finish(&mut self) {
        while let Some(task) = self.tasks.join_next().await {
            task.expect("a client does not panic");
        }
    }

    async fn verify(&mut self, field: &Field) -> Result<()> {
        let link = Link::demand(&field.address, OWNER).await?;
        let begun = self.shared.now();
        let rows = link.must("SELECT k, v FROM register").await?;
        let ended = self.shared.now();
        let last: BTreeMap<i64, i64> = rows
            .iter()
            .filter_map(|row| Some((integer(row, 0)?, integer(row, 1)?)))
            .collect();
        let mut operations = self
            .shared
            .operations
            .lock()
            .expect("no task panics while it holds the operations");
        let mut undecided = 0;
        for (key, operations) in operations.iter_mut() {
            operations.push(Operation {
                deed: Deed::Read(last.get(key).copied()),
                begun,
                ended: Some(ended),
            });
            match judge(*key, operations) {
                Verdict::Linearizable => {}
                Verdict::Broken(finding) => field.findings.extend(vec![finding]),
                Verdict::Undecided => undecided += 1,
            }
        }
        self.shared.undecided.store(undecided, Ordering::SeqCst);
        Ok(())
    }

    fn too_low(&self, field: &Field) -> Option<String> {
        let undecided = self.shared.undecided.load(Ordering::SeqCst);
        let open = (undecided > 0).then(|| format!("{undecided} registers could not be judged"));
        too_few(field).or(open)
    }
}

struct Client {
    field: Field,
    shared: Arc<Shared>,
    rng: StdRng,
    process: u64,
    /// The transaction of the operation under way, if it was asked for.
    xid: Option<String>,
}

impl Client {
    async fn live(mut self) {
        let protocol = if self.process.is_multiple_of(2) {
            Protocol::Simple
        } else {
            Protocol::Extended
        };
        while let Some(link) = self.field.connect(OWNER, protocol).await {
            while !self.field.is_stopped() {
                let outcome = self.operate(&link).await;
                if outcome.failure().is_some_and(Failure::is_end) {
                    break;
                }
            }
            if !self.field.goes_on() {
                return;
            }
            self.process = self.field.next_process();
        }
    }

    fn plan(&mut self) -> Deed {
        let value = self.rng.random_range(0..VALUES);
        match self.rng.random_range(0..4) {
            0 | 1 => Deed::Read(None),
            2 => Deed::Write(value),
            _ => Deed::Swap {
                from: value,
                to: self.rng.random_range(0..VALUES),
                done: None,
            },
        }
    }

    async fn operate(&mut self, link: &Link) -> Outcome {
        let lane = self.rng.random_range(0..LANES);
        let (key, deed) = (self.shared.key(lane), self.plan());
        let name = name_of(&deed);
        let value = value_of(key, &deed);
        self.field
            .history
            .step(self.process, Step::Invoke, name, value);
        let begun = self.shared.now();
        self.xid = None;
        let in_block = self.rng.random_bool(0.4);
        let answer = if in_block {
            self.in_block(link, key, &deed).await
        } else {
            let answer = link.run(&sql_of(key, &deed)).await;
            (Outcome::of_commit(&answer), answer.unwrap_or_default())
        };
        let (outcome, rows) = answer;
        let deed = answered(deed, &outcome, &rows);
        let ended = self.shared.now();
        let value = value_of(key, &deed);
        self.field
            .ended(self.process, name, &outcome, &CONFLICTS, value);
        let is_read = matches!(deed, Deed::Read(_));
        match &outcome {
            Outcome::Acknowledged => self.record(key, deed, begun, Some(ended)),
            Outcome::Unknown(_) if !is_read => self.find_out(key, deed, begun).await,
            // A read without an answer says nothing, nor does what failed.
            Outcome::Unknown(_) | Outcome::Failed(_) => {}
        }
        outcome
    }

    /// The same within a transaction block; what was read is told only if it commits.
    async fn in_block(&mut self, link: &Link, key: i64, deed: &Deed) -> (Outcome, Vec<Texts>) {
        let rows = match self.statements(link, key, deed).await {
            Ok(rows) => rows,
            Err(failure) => {
                if !failure.is_end() {
                    self.field.roll_back(link).await;
                }
                return (Outcome::Failed(failure), Vec::new());
            }
        };
        (Outcome::of_commit(&link.run("COMMIT").await), rows)
    }

    async fn statements(
        &mut self,
        link: &Link,
        key: i64,
        deed: &Deed,
    ) -> std::result::Result<Vec<Texts>, Failure> {
        link.run("BEGIN ISOLATION LEVEL SERIALIZABLE").await?;
        if !matches!(deed, Deed::Read(_)) {
            let rows = link.run("SELECT pg_current_xact_id()::text").await?;
            self.xid = rows.first().map(|row| text(row, 0).to_owned());
        }
        link.run(&sql_of(key, deed)).await
    }

    /// What became of an unknown operation, if a node can be asked.
    async fn find_out(&mut self, key: i64, deed: Deed, begun: u64) {
        let status = match self.xid.take() {
            Some(xid) if self.field.is_cluster() => status_by(&self.field, OWNER, &xid).await,
            _ => None,
        };
        match status.as_deref() {
            Some("aborted") => {}
            Some(_) => self.record(key, deed, begun, Some(self.shared.now())),
            None => self.record(key, deed, begun, None),
        }
    }

    fn record(&self, key: i64, deed: Deed, begun: u64, ended: Option<u64>) {
        let operation = Operation { deed, begun, ended };
        self.shared.add(key, operation);
    }
}

/// What was asked for, with its answer.
fn answered(deed: Deed, outcome: &Outcome, rows: &[Texts]) -> Deed {
    let is_told = matches!(outcome, Outcome::Acknowledged);
    match deed {
        Deed::Read(_) => Deed::Read(rows.first().and_then(|row| integer(row, 0))),
        Deed::Swap { from, to, .. } if is_told => Deed::Swap {
            from,
            to,
            done: Some(!rows.is_empty()),
        },
        other => other,
    }
}

fn sql_of(key: i64, deed: &Deed) -> String {
    match deed {
        Deed::Read(_) => format!("SELECT v FROM register WHERE k = {key}"),
        Deed::Write(value) => format!(
            "INSERT INTO register VALUES ({key}, {value}) \
             ON CONFLICT (k) DO UPDATE SET v = excluded.v"
        ),
        Deed::Swap { from, to, .. } => {
            format!("UPDATE register SET v = {to} WHERE k = {key} AND v = {from} RETURNING v")
        }
    }
}

fn name_of(deed: &Deed) -> &'static str {
    match deed {
        Deed::Read(_) => "read",
        Deed::Write(_) => "write",
        Deed::Swap { .. } => "cas",
    }
}

fn value_of(key: i64, deed: &Deed) -> Value {
    match deed {
        Deed::Read(value) => json!([key, value]),
        Deed::Write(value) => json!([key, value]),
        Deed::Swap { from, to, done } => json!([key, [from, to], done]),
    }
}
