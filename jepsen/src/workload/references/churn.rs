//! One who drops a foreign key to another owner's table, writes what it forbids, mends that, and adds it
//! again, valid at once or NOT VALID first.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;
use tokio::time::sleep;

use super::client::Does;
use super::{CHURNED, CHURNED_KEY, Desk, OWNERS, add_key, expected, literal};
use crate::check::erased::canary;
use crate::check::references::{Effects, Row, Schema};
use crate::field::Field;
use crate::history::Step;
use crate::link::{Failure, Link, Outcome, Protocol, text};

/// Between two changes, in milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 100..1_500;

/// One who changes the schema.
pub(super) struct Churner {
    pub field: Field,
    pub desk: Arc<Desk>,
    pub schema: Arc<Schema>,
    pub rng: StdRng,
    pub process: u64,
}

impl Churner {
    pub async fn live(mut self) {
        let name = OWNERS[self.schema[CHURNED].owner];
        while let Some(link) = self.field.connect(name, Protocol::Simple).await {
            while !self.field.is_stopped() {
                if let Err(failure) = self.step(&link).await {
                    // Another step may have done it, its answer being lost.
                    let mut states = expected(&self.field);
                    states.extend(["42704", "42710"]);
                    if self.field.survives(&failure, "change", &states).await != Some(true) {
                        break;
                    }
                    self.field.roll_back(&link).await;
                }
                let pause = self.rng.random_range(PAUSE_MS);
                sleep(Duration::from_millis(pause)).await;
            }
            if !self.field.goes_on() {
                return;
            }
            self.process = self.field.next_process();
        }
    }

    /// What the state of the foreign key asks for.
    async fn step(&mut self, link: &Link) -> Result<(), Failure> {
        let sql = format!("SELECT convalidated FROM pg_constraint WHERE conname = '{CHURNED_KEY}'");
        let rows = link.run(&sql).await?;
        let table = self.schema[CHURNED].name;
        let drop = format!("ALTER TABLE public.{table} DROP CONSTRAINT {CHURNED_KEY}");
        let key = &self.schema[CHURNED].references[0];
        let add = add_key(&self.schema, &self.schema[CHURNED], key, key.action);
        match rows.first().map(|row| text(row, 0).starts_with('t')) {
            Some(true) if self.rng.random_bool(0.25) => {
                let end = match self.rng.random_bool(0.5) {
                    true => "COMMIT",
                    false => "ROLLBACK",
                };
                for sql in ["BEGIN", &drop, &add, end] {
                    self.run(link, sql).await?;
                }
            }
            Some(true) => {
                self.run(link, &drop).await?;
                self.desk.dropped.fetch_add(1, Ordering::Relaxed);
                for _ in 0..self.rng.random_range(0..3) {
                    self.forbidden(link).await?;
                }
            }
            Some(false) => {
                self.mend(link).await?;
                let sql = format!("ALTER TABLE public.{table} VALIDATE CONSTRAINT {CHURNED_KEY}");
                self.run(link, &sql).await?;
                self.desk.added.fetch_add(1, Ordering::Relaxed);
            }
            None if self.rng.random_bool(0.4) => {
                self.run(link, &format!("{add} NOT VALID")).await?;
            }
            None => {
                self.mend(link).await?;
                self.run(link, &add).await?;
                self.desk.added.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    async fn run(&self, link: &Link, sql: &str) -> Result<(), Failure> {
        let history = &self.field.history;
        history.step(self.process, Step::Invoke, "change", json!(sql));
        let answer = link.run(sql).await;
        let (step, error) = match &answer {
            Ok(_) => (Step::Ok, None),
            Err(failure) => (Step::Info, Some(failure.to_string())),
        };
        let value = json!({ "value": sql, "error": error });
        history.step(self.process, step, "change", value);
        answer.map(drop)
    }

    /// A row whose parent may never have been there.
    async fn forbidden(&mut self, link: &Link) -> Result<(), Failure> {
        let n = self.desk.name();
        let table = &self.schema[CHURNED];
        let parents = self.schema[table.references[0].parent].keys;
        let id = self.rng.random_range(1..=table.keys);
        let row = Row {
            n,
            references: vec![Some(self.rng.random_range(1..=parents + 2))],
        };
        let parent = literal(row.references[0]);
        let note = canary(((CHURNED, id), n));
        let sql = format!(
            "INSERT INTO public.{} VALUES ({id}, {n}, {parent}, '{note}') \
             ON CONFLICT (id) DO UPDATE SET n = {n}, customer = {parent}, note = '{note}' RETURNING id",
            table.name
        );
        self.write(link, n, &sql, Does::Put(CHURNED, id, row)).await
    }

    /// Rows without a parent go.
    async fn mend(&self, link: &Link) -> Result<(), Failure> {
        let table = &self.schema[CHURNED];
        let parent = self.schema[table.references[0].parent].name;
        let sql = format!(
            "DELETE FROM public.{} c WHERE customer IS NOT NULL AND NOT EXISTS \
             (SELECT 1 FROM public.{parent} p WHERE p.id = c.customer) RETURNING id",
            table.name
        );
        let does = Does::Delete(CHURNED, (1..=table.keys).collect());
        self.write(link, self.desk.name(), &sql, does).await
    }

    async fn write(&self, link: &Link, n: i64, sql: &str, does: Does) -> Result<(), Failure> {
        let history = &self.field.history;
        history.step(
            self.process,
            Step::Invoke,
            "write",
            json!({ "id": n, "sql": sql }),
        );
        let asked = self.desk.tick();
        let answer = link.run(sql).await;
        let outcome = Outcome::of_commit(&answer);
        let mut effects = Effects::default();
        let returned = answer.as_ref().ok().map(Vec::as_slice);
        does.note(returned, &self.schema, &mut effects);
        self.desk.end(n, false, effects, asked, &outcome);
        let states = expected(&self.field);
        self.field
            .ended(self.process, "write", &outcome, &states, json!(n));
        answer.map(drop)
    }
}
