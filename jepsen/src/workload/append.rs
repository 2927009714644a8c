//! Transactions that append to lists and read them, at SERIALIZABLE: every read shows the order of
//! all appends before it, so a checker can find any cycle of dependencies.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Workload, create_owners, too_few};
use crate::check::append::{Micro, Steps};
use crate::error::Result;
use crate::field::{CONFLICTS, Field};
use crate::finding::Kind as FindingKind;
use crate::history::Step;
use crate::link::{Failure, Link, Outcome, Protocol, Texts, integer, text};
use crate::options::Options;
use crate::victim::Kind;

/// Clients if nobody says how many.
const CLIENTS: u32 = 10;

/// Lists in use at a time: few, so that transactions meet.
const KEYS: i64 = 5;

/// Appends to a list before another one takes its place.
const ELEMENTS_MAX: i64 = 40;

/// Most operations of a transaction.
const MICROS_MAX: usize = 5;

/// The owner of the lists.
const OWNER: &str = "listing";

/// The workload.
pub struct Append {
    kind: Kind,
    clients: u32,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

/// What the clients share: the history, and the next element.
#[derive(Default)]
struct Shared {
    steps: Mutex<Steps>,
    next: AtomicI64,
}

impl Shared {
    fn add(&self, process: u64, step: Step, micros: &[Micro]) {
        let mut steps = self
            .steps
            .lock()
            .expect("no task panics while it holds the steps");
        steps.add(process, step, micros);
    }

    /// An element that was never used, with the list that it belongs to.
    fn next_append(&self, lane: i64) -> Micro {
        let element = self.next.fetch_add(1, Ordering::SeqCst);
        Micro::Append {
            key: self.key(lane),
            element,
        }
    }

    /// The list in use in a lane now.
    fn key(&self, lane: i64) -> i64 {
        let generation = self.next.load(Ordering::SeqCst) / (ELEMENTS_MAX * KEYS);
        generation * KEYS + lane
    }
}

impl Workload for Append {
    const OWNERS: &'static [&'static str] = &[OWNER];

    fn new(options: &Options) -> Append {
        let clients = options.clients.unwrap_or(CLIENTS);
        Append {
            kind: options.victim,
            clients,
            shared: Arc::default(),
            tasks: JoinSet::new(),
        }
    }

    async fn prepare(&mut self, field: &Field) -> Result<()> {
        create_owners(field, self.kind, &[OWNER]).await?;
        let link = Link::demand(&field.address, OWNER).await?;
        link.must("CREATE TABLE list (k bigint PRIMARY KEY, v text NOT NULL)")
            .await?;
        Ok(())
    }

    async fn begin(&mut self, field: &Field) -> Result<()> {
        for number in 0..self.clients {
            let client = Client {
                field: field.clone(),
                shared: self.shared.clone(),
                rng: field.seed.fork("client", u64::from(number)).rng(),
                process: field.run * 10_000 + u64::from(number),
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
        let process = field.run * 10_000 + 9_999;
        let mut last: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        let newest = self.shared.key(KEYS - 1);
        let asked: Vec<Micro> = (0..=newest)
            .map(|key| Micro::Read { key, list: None })
            .collect();
        self.shared.add(process, Step::Invoke, &asked);
        for row in link.must("SELECT k, v FROM list ORDER BY k").await? {
            if let Some(key) = integer(&row, 0) {
                last.insert(key, elements(text(&row, 1)));
            }
        }
        let answer: Vec<Micro> = (0..=newest)
            .map(|key| Micro::Read {
                key,
                list: last.get(&key).cloned(),
            })
            .collect();
        self.shared.add(process, Step::Ok, &answer);
        // PostgreSQL promises serializability; Freehold in real time too.
        let model = match self.kind {
            Kind::Freehold => "strict-serializable",
            Kind::Postgres => "serializable",
        };
        let mut steps = self
            .shared
            .steps
            .lock()
            .expect("no task panics while it holds the steps");
        field.findings.extend(steps.judge(model, &last));
        Ok(())
    }

    fn too_low(&self, field: &Field) -> Option<String> {
        too_few(field)
    }
}

struct Client {
    field: Field,
    shared: Arc<Shared>,
    rng: StdRng,
    process: u64,
}

impl Client {
    async fn live(mut self) {
        let protocol = if self.process.is_multiple_of(2) {
            Protocol::Simple
        } else {
            Protocol::Extended
        };
        while let Some(link) = self.field.connect(OWNER, protocol).await {
            self.work(&link).await;
            if !self.field.goes_on() {
                return;
            }
            self.process = self.field.next_process();
        }
    }

    /// Works until the field is stopped or the connection is lost.
    async fn work(&mut self, link: &Link) {
        while !self.field.is_stopped() {
            let outcome = self.transact(link).await;
            if outcome.failure().is_some_and(Failure::is_end) {
                return;
            }
        }
    }

    fn plan(&mut self) -> Vec<Micro> {
        let count = self.rng.random_range(1..=MICROS_MAX);
        let mut plan = Vec::with_capacity(count);
        for _ in 0..count {
            let lane = self.rng.random_range(0..KEYS);
            if self.rng.random_bool(0.5) {
                plan.push(self.shared.next_append(lane));
            } else {
                plan.push(Micro::Read {
                    key: self.shared.key(lane),
                    list: None,
                });
            }
        }
        plan
    }

    async fn transact(&mut self, link: &Link) -> Outcome {
        let mut micros = self.plan();
        let value: Value = micros.iter().map(Micro::json).collect();
        self.field
            .history
            .step(self.process, Step::Invoke, "transaction", value);
        self.shared.add(self.process, Step::Invoke, &micros);
        let outcome = match self.run(link, &mut micros).await {
            Ok(()) => Outcome::of_commit(&link.run("COMMIT").await),
            Err(failure) => {
                if !failure.is_end() {
                    self.field.roll_back(link).await;
                }
                Outcome::Failed(failure)
            }
        };
        let step = match &outcome {
            Outcome::Acknowledged => Step::Ok,
            Outcome::Failed(_) => Step::Fail,
            Outcome::Unknown(_) => Step::Info,
        };
        self.shared.add(self.process, step, &micros);
        let value: Value = micros.iter().map(Micro::json).collect();
        self.field.ended(
            self.process,
            "transaction",
            &outcome,
            &CONFLICTS,
            json!(value),
        );
        outcome
    }

    async fn run(&mut self, link: &Link, micros: &mut [Micro]) -> std::result::Result<(), Failure> {
        let level = if self.field.weaken {
            "READ COMMITTED"
        } else {
            "SERIALIZABLE"
        };
        link.run(&format!("BEGIN ISOLATION LEVEL {level}")).await?;
        if micros
            .iter()
            .all(|micro| matches!(micro, Micro::Read { .. }))
        {
            return self.read_range(link, micros).await;
        }
        for micro in micros {
            match micro {
                Micro::Append { key, element } => {
                    drop(link.run(&append_sql(*key, *element)).await?)
                }
                Micro::Read { key, list } => {
                    let rows = link
                        .run(&format!("SELECT v FROM list WHERE k = {key}"))
                        .await?;
                    self.expect_one(&rows);
                    *list = rows.first().map(|row| elements(text(row, 0)));
                }
            }
        }
        Ok(())
    }

    /// Transactions that only read ask for all their lists by one range scan.
    async fn read_range(
        &self,
        link: &Link,
        micros: &mut [Micro],
    ) -> std::result::Result<(), Failure> {
        let keys: Vec<i64> = micros.iter().map(Micro::key).collect();
        let (Some(low), Some(high)) = (keys.iter().min(), keys.iter().max()) else {
            return Ok(());
        };
        let sql = format!("SELECT k, v FROM list WHERE k BETWEEN {low} AND {high} ORDER BY k");
        let rows = link.run(&sql).await?;
        let lists: BTreeMap<i64, Vec<i64>> = rows
            .iter()
            .filter_map(|row| Some((integer(row, 0)?, elements(text(row, 1)))))
            .collect();
        for micro in micros {
            if let Micro::Read { key, list } = micro {
                *list = lists.get(key).cloned();
            }
        }
        Ok(())
    }

    fn expect_one(&self, rows: &[Texts]) {
        if rows.len() > 1 {
            self.field
                .findings
                .add(FindingKind::Anomaly, "one key gave two rows");
        }
    }
}

fn append_sql(key: i64, element: i64) -> String {
    format!(
        "INSERT INTO list VALUES ({key}, '{element}') \
         ON CONFLICT (k) DO UPDATE SET v = list.v || ',' || excluded.v"
    )
}

/// The list in its text form `1,2,3`.
fn elements(text: &str) -> Vec<i64> {
    text.split(',')
        .filter_map(|element| element.parse().ok())
        .collect()
}
