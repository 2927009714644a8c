//! A writer of the feed workload: transactions of 1 to 5,000 rows, a fifth of them rolled back.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;
use tokio::sync::Semaphore;

use super::{OWNERS, table};
use crate::check::consumer::{Changes, End, Transactions, Written};
use crate::field::Field;
use crate::history::Step;
use crate::link::{Failure, Link, Outcome, Protocol};

/// Most rows of a transaction.
const ROWS_MAX: i64 = 5_000;

/// Share of transactions that are rolled back.
const ROLLED_BACK: f64 = 0.2;

/// Ranges of rows that a writer keeps to update and delete.
const RANGES_MAX: usize = 12;

/// Transactions per writer; their numbers are the writer's times this plus their own.
const TRANSACTIONS_MAX: i64 = 1 << 22;

/// Keys per transaction.
const KEYS_MAX: i64 = 1 << 13;

/// One connection's worth of writing, over all runs on a folder.
pub struct Writer {
    number: u32,
    began: Instant,
    last: i64,
    ranges: Vec<(i64, i64)>,
    unknown: Option<(i64, Vec<(i64, i64)>)>,
}

/// A transaction as planned.
struct Plan {
    mark: i64,
    statements: Vec<String>,
    changes: Changes,
    /// The writer's ranges after it.
    ranges: Vec<(i64, i64)>,
    rolls_back: bool,
    alone: bool,
}

impl Writer {
    /// A writer that has written nothing yet; `began` is the origin of its times.
    pub fn new(number: u32, began: Instant) -> Writer {
        Writer {
            number,
            began,
            last: 0,
            ranges: Vec::new(),
            unknown: None,
        }
    }

    /// Which writer.
    pub fn number(&self) -> u32 {
        self.number
    }

    fn owner(&self) -> &'static str {
        OWNERS[self.number as usize % OWNERS.len()]
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// Once the unknown transaction is known, so are the writer's rows.
    pub fn settle(&mut self, written: &Mutex<Transactions>) {
        let Some((mark, ranges)) = self.unknown.take() else {
            return;
        };
        let written = written.lock().expect("no task panics while it holds this");
        if written
            .get(&mark)
            .is_some_and(|one| one.end == End::Acknowledged)
        {
            self.ranges = ranges;
        }
    }

    /// Writes until the field is stopped or the connection is lost.
    pub async fn live(
        mut self,
        field: Field,
        written: Arc<Mutex<Transactions>>,
        connecting: Arc<Semaphore>,
    ) -> Writer {
        let protocol = if self.number % 4 < 2 {
            Protocol::Simple
        } else {
            Protocol::Extended
        };
        let mut rng = field.seed.fork("writer", u64::from(self.number)).rng();
        loop {
            let permit = connecting.acquire().await;
            let link = field.connect(self.owner(), protocol).await;
            drop(permit);
            let Some(link) = link else {
                return self;
            };
            self.work(&field, &link, &written, &mut rng).await;
            if !field.goes_on() {
                return self;
            }
            // Nobody knows which of its rows are there until the end: it begins with new ones.
            if self.unknown.take().is_some() {
                self.ranges.clear();
            }
        }
    }

    async fn work(
        &mut self,
        field: &Field,
        link: &Link,
        written: &Mutex<Transactions>,
        rng: &mut StdRng,
    ) {
        while !field.is_stopped() {
            let plan = self.plan(rng);
            let outcome = self.write(field, link, written, plan).await;
            if outcome.failure().is_some_and(Failure::is_end) {
                return;
            }
        }
    }

    /// How many rows: mostly few, sometimes the most.
    fn count(rng: &mut StdRng) -> i64 {
        match rng.random_range(0..400) {
            0 => ROWS_MAX,
            1..4 => rng.random_range(401..=ROWS_MAX),
            4..36 => rng.random_range(51..=400),
            36..120 => rng.random_range(6..=50),
            _ => rng.random_range(1..=5),
        }
    }

    fn plan(&mut self, rng: &mut StdRng) -> Plan {
        self.last += 1;
        let mark = i64::from(self.number) * TRANSACTIONS_MAX + self.last;
        let mut plan = Plan {
            mark,
            statements: Vec::new(),
            changes: Changes::default(),
            ranges: self.ranges.clone(),
            rolls_back: rng.random_bool(ROLLED_BACK),
            alone: false,
        };
        let first = mark * KEYS_MAX;
        let count = Self::count(rng);
        self.plan_insert(&mut plan, first, count);
        if !plan.rolls_back && rng.random_bool(0.2) {
            plan.alone = true;
            return plan;
        }
        if plan.ranges.len() > 2 && rng.random_bool(0.4) {
            self.plan_update(&mut plan, rng);
        }
        if plan.ranges.len() > RANGES_MAX || (plan.ranges.len() > 4 && rng.random_bool(0.3)) {
            self.plan_delete(&mut plan, rng);
        }
        if rng.random_bool(0.2) {
            self.plan_scratch(&mut plan, first + count);
        }
        if rng.random_bool(0.1) {
            plan.statements
                .push(format!("INSERT INTO secret VALUES ({mark})"));
        }
        plan
    }

    fn plan_insert(&self, plan: &mut Plan, first: i64, count: i64) {
        let (table, mark) = (table(self.owner()), plan.mark);
        let sql = if count <= 5 {
            let row = |id| format!("({id}, {mark}, {}, 'one')", id - first);
            let rows: Vec<String> = (first..first + count).map(row).collect();
            format!("INSERT INTO public.{table} VALUES {}", rows.join(", "))
        } else {
            let last = first + count - 1;
            format!(
                "INSERT INTO public.{table} SELECT g, {mark}, 0, 'many' FROM \
                 generate_series({first}::bigint, {last}::bigint) AS g"
            )
        };
        plan.statements.push(sql);
        plan.changes.inserted.push((first, count));
        plan.ranges.push((first, count));
    }

    fn plan_update(&self, plan: &mut Plan, rng: &mut StdRng) {
        // The newest range is this transaction's own: its update is part of the net insert.
        let at = rng.random_range(0..plan.ranges.len());
        let (first, count) = plan.ranges[at];
        let (table, mark) = (table(self.owner()), plan.mark);
        plan.statements.push(format!(
            "UPDATE public.{table} SET tx = {mark}, n = n + 1, note = 'again' \
             WHERE id >= {first} AND id < {}",
            first + count
        ));
        if at + 1 != plan.ranges.len() {
            plan.changes.updated.push((first, count));
        }
    }

    fn plan_delete(&self, plan: &mut Plan, rng: &mut StdRng) {
        let at = rng.random_range(0..plan.ranges.len() - 1);
        let (first, count) = plan.ranges.remove(at);
        let table = table(self.owner());
        let last = first + count - 1;
        plan.statements.push(format!(
            "DELETE FROM public.{table} WHERE id BETWEEN {first} AND {last}"
        ));
        // What was updated before it went is one net delete.
        plan.changes.updated.retain(|range| range.0 != first);
        plan.changes.deleted.push((first, count));
    }

    /// A row that comes and goes within the transaction leaves nothing in the feed.
    fn plan_scratch(&self, plan: &mut Plan, id: i64) {
        let (table, mark) = (table(self.owner()), plan.mark);
        plan.statements.push(format!(
            "INSERT INTO public.{table} VALUES ({id}, {mark}, 0, NULL)"
        ));
        plan.statements
            .push(format!("DELETE FROM public.{table} WHERE id = {id}"));
    }

    async fn write(
        &mut self,
        field: &Field,
        link: &Link,
        written: &Mutex<Transactions>,
        plan: Plan,
    ) -> Outcome {
        let process = field.run * 10_000 + u64::from(self.number);
        let rows = plan
            .changes
            .inserted
            .iter()
            .map(|(_, count)| count)
            .sum::<i64>();
        let value = json!({ "tx": plan.mark, "rows": rows, "rolls_back": plan.rolls_back });
        field.history.step(process, Step::Invoke, "write", value);
        let begun = self.now();
        self.enter(written, &plan, begun, begun, End::Unknown);
        let outcome = run(link, &plan).await;
        let end = match &outcome {
            Outcome::Acknowledged => End::Acknowledged,
            Outcome::Failed(_) => End::Failed,
            Outcome::Unknown(_) => End::Unknown,
        };
        self.enter(written, &plan, begun, self.now(), end);
        field.ended(
            process,
            "write",
            &outcome,
            &["ROLLBACK"],
            json!({ "tx": plan.mark }),
        );
        match end {
            End::Acknowledged => self.ranges = plan.ranges,
            End::Failed => {}
            End::Unknown => self.unknown = Some((plan.mark, plan.ranges)),
        }
        outcome
    }

    fn enter(&self, written: &Mutex<Transactions>, plan: &Plan, begun: u64, ended: u64, end: End) {
        let one = Written {
            owner: self.owner().into(),
            begun,
            ended,
            end,
            changes: plan.changes.clone(),
        };
        written
            .lock()
            .expect("no task panics while it holds this")
            .insert(plan.mark, one);
    }
}

async fn run(link: &Link, plan: &Plan) -> Outcome {
    if plan.alone {
        return Outcome::of_commit(&link.run(&plan.statements[0]).await);
    }
    match run_block(link, plan).await {
        Ok(()) if plan.rolls_back => match link.run("ROLLBACK").await {
            Ok(_) => Outcome::Failed(Failure::Refused {
                state: "ROLLBACK".into(),
                message: "rolled back by the client".into(),
            }),
            Err(failure) => Outcome::Failed(failure),
        },
        Ok(()) => Outcome::of_commit(&link.run("COMMIT").await),
        Err(failure) => {
            if !failure.is_end() {
                drop(link.run("ROLLBACK").await);
            }
            Outcome::Failed(failure)
        }
    }
}

async fn run_block(link: &Link, plan: &Plan) -> std::result::Result<(), Failure> {
    link.run("BEGIN").await?;
    for sql in &plan.statements {
        link.run(sql).await?;
    }
    Ok(())
}
