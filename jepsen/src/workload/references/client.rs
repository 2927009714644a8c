//! One who writes tables of one owner: single statements and blocks with savepoints.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;
use tokio::time::sleep;

use super::{
    CHURNED, DANGLING, Desk, OWNERS, PUT_BACK, ROLLED_BACK, SERIALIZABLE, TAKEN, expected,
    is_parent, is_state, literal, row_of,
};
use crate::check::erased::canary;
use crate::check::references::{Effects, Key, Row, Schema, TableAt};
use crate::field::{CONFLICTS, Field};
use crate::finding::Kind as FindingKind;
use crate::history::Step;
use crate::link::{Failure, Link, Outcome, Protocol, Texts, integer};

/// Longest pause in an open block, in milliseconds.
const PAUSE_MAX_MS: u64 = 15;

/// Share of removals that are ERASE and not DELETE.
const ERASED: f64 = 0.4;

/// The word of one.
const ERASE: &str = "ERASE";

/// One who writes.
pub(super) struct Client {
    pub field: Field,
    pub desk: Arc<Desk>,
    pub schema: Arc<Schema>,
    pub owner: usize,
    pub rng: StdRng,
    pub process: u64,
}

/// A statement, and what it does to rows.
pub(super) struct Statement {
    pub sql: String,
    pub does: Does,
}

/// With ids returned, what was done.
#[derive(Clone)]
pub(super) enum Does {
    /// One row is there like this, if its id is returned.
    Put(TableAt, i64, Row),
    /// These rows go, as far as they are returned.
    Delete(TableAt, Vec<i64>),
    /// A row gets another id, if that is returned.
    Rename(TableAt, i64, i64, Row),
    /// All rows go.
    Empty(TableAt),
}

impl Does {
    /// Takes note of it, and of the rows that were returned; `None`: nobody knows what was.
    pub fn note(&self, returned: Option<&[Texts]>, schema: &Schema, effects: &mut Effects) {
        let is_there = |id: i64| {
            returned.is_none_or(|rows| rows.iter().any(|row| integer(row, 0) == Some(id)))
        };
        match self {
            Does::Put(table, id, row) if is_there(*id) => {
                effects.left.insert((*table, *id), Some(row.clone()));
            }
            Does::Delete(table, ids) => {
                for id in ids.iter().filter(|id| is_there(**id)) {
                    effects.left.insert((*table, *id), None);
                    effects.deleted.insert((*table, *id));
                }
            }
            Does::Rename(table, from, to, row) if is_there(*to) => {
                effects.left.insert((*table, *from), None);
                effects.left.insert((*table, *to), Some(row.clone()));
            }
            Does::Empty(table) => {
                for id in 1..=schema[*table].keys {
                    effects.left.insert((*table, id), None);
                }
            }
            Does::Put(..) | Does::Rename(..) => {}
        }
    }
}

impl Client {
    pub async fn live(mut self) {
        let protocol = match self.rng.random_bool(0.5) {
            true => Protocol::Simple,
            false => Protocol::Extended,
        };
        let name = OWNERS[self.owner];
        while let Some(link) = self.field.connect(name, protocol).await {
            while !self.field.is_stopped() {
                let outcome = match self.rng.random_bool(0.5) {
                    true => self.alone(&link).await,
                    false => self.block(&link).await,
                };
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

    /// One of the owner's tables.
    fn table(&mut self) -> TableAt {
        let dice = self.rng.random_range(0..100);
        match (self.owner, dice) {
            (0, 0..80) => 0,
            (0, _) => 1,
            (1, 0..80) => 2,
            (1, _) => 3,
            (2, 0..70) => 4,
            (2, _) => 5,
            (_, _) => CHURNED,
        }
    }

    /// One of its ids, that which was deleted last more often than others.
    fn id(&mut self, table: TableAt) -> i64 {
        let hot = self.desk.hot[table].load(Ordering::Relaxed);
        match hot > 0 && self.rng.random_bool(0.35) {
            true => hot,
            false => self.rng.random_range(1..=self.schema[table].keys),
        }
    }

    /// A row with any parents.
    fn row(&mut self, table: TableAt, n: i64) -> Row {
        let schema = self.schema.clone();
        let mut references = Vec::new();
        for key in &schema[table].references {
            let value = match self.rng.random_range(0..100) {
                0..15 => None,
                // Nobody has it.
                15..18 => Some(schema[key.parent].keys + 1),
                _ => Some(self.id(key.parent)),
            };
            references.push(value);
        }
        Row { n, references }
    }

    /// Any statement of transaction `n`.
    fn statement(&mut self, n: i64) -> Statement {
        let table = self.table();
        let dice = self.rng.random_range(0..100);
        // What nobody references is written more often, so that much is referenced.
        let delete = if is_parent(table) { 40 } else { 30 };
        let is_offer = table == 1;
        if dice < delete {
            self.delete(table)
        } else if dice < delete + 8 {
            self.rename(table, n)
        } else if dice < delete + 9 || is_offer && dice < delete + 20 {
            Statement {
                sql: format!("TRUNCATE public.{}", self.schema[table].name),
                does: Does::Empty(table),
            }
        } else {
            self.put(table, n)
        }
    }

    fn delete(&mut self, table: TableAt) -> Statement {
        let count = match self.rng.random_range(0..100) {
            0..60 => 1,
            60..85 => 2,
            _ => 3,
        };
        let mut ids: Vec<i64> = (0..count).map(|_| self.id(table)).collect();
        ids.sort_unstable();
        ids.dedup();
        self.desk.hot[table].store(ids[0], Ordering::Relaxed);
        let words: Vec<String> = ids.iter().map(i64::to_string).collect();
        let (name, list) = (self.schema[table].name, words.join(", "));
        let verb = match self.rng.random_bool(ERASED) {
            true => ERASE,
            false => "DELETE",
        };
        Statement {
            sql: format!("{verb} FROM public.{name} WHERE id IN ({list}) RETURNING id"),
            does: Does::Delete(table, ids),
        }
    }

    fn rename(&mut self, table: TableAt, n: i64) -> Statement {
        let (from, row) = (self.id(table), self.row(table, n));
        let to = self.rng.random_range(1..=self.schema[table].keys);
        let sets = self.sets((table, to), &row);
        let name = self.schema[table].name;
        let does = match from == to {
            true => Does::Put(table, from, row),
            false => Does::Rename(table, from, to, row),
        };
        let sql =
            format!("UPDATE public.{name} SET id = {to}, {sets} WHERE id = {from} RETURNING id");
        Statement { sql, does }
    }

    /// A row comes, comes again, or gets other parents.
    fn put(&mut self, table: TableAt, n: i64) -> Statement {
        let (id, row) = (self.id(table), self.row(table, n));
        let (name, sets) = (self.schema[table].name, self.sets((table, id), &row));
        let note = canary(((table, id), n));
        let values: String = row
            .references
            .iter()
            .map(|v| format!(", {}", literal(*v)))
            .collect();
        let insert = format!("INSERT INTO public.{name} VALUES ({id}, {n}{values}, '{note}')");
        let sql = match self.rng.random_range(0..100) {
            0..25 => format!("{insert} RETURNING id"),
            25..45 => format!("{insert} ON CONFLICT (id) DO NOTHING RETURNING id"),
            45..70 => format!("{insert} ON CONFLICT (id) DO UPDATE SET {sets} RETURNING id"),
            _ => format!("UPDATE public.{name} SET {sets} WHERE id = {id} RETURNING id"),
        };
        Statement {
            sql,
            does: Does::Put(table, id, row),
        }
    }

    fn sets(&self, key @ (table, _): Key, row: &Row) -> String {
        let keys = self.schema[table].references.iter().zip(&row.references);
        let sets = keys.map(|(key, value)| format!(", {} = {}", key.column, literal(*value)));
        let (n, sets, note) = (row.n, sets.collect::<String>(), canary((key, row.n)));
        format!("n = {n}, note = '{note}'{sets}")
    }

    fn ended(&self, id: i64, what: &str, outcome: Outcome) -> Outcome {
        let mut states = expected(&self.field);
        states.extend([ROLLED_BACK, SERIALIZABLE, PUT_BACK]);
        self.field
            .ended(self.process, what, &outcome, &states, json!(id));
        outcome
    }

    fn invoke(&self, what: &str, id: i64, sql: &str) {
        let value = json!({ "id": id, "owner": OWNERS[self.owner], "sql": sql });
        self.field
            .history
            .step(self.process, Step::Invoke, what, value);
    }

    /// One statement outside of a transaction block.
    async fn alone(&mut self, link: &Link) -> Outcome {
        let id = self.desk.name();
        let statement = self.statement(id);
        self.invoke("statement", id, &statement.sql);
        let asked = self.desk.tick();
        let answer = link.run(&statement.sql).await;
        let outcome = Outcome::of_commit(&answer);
        let mut effects = Effects::default();
        let returned = answer.as_ref().ok().map(Vec::as_slice);
        statement.does.note(returned, &self.schema, &mut effects);
        self.desk.end(id, false, effects, asked, &outcome);
        if answer.is_ok() && statement.sql.starts_with(ERASE) {
            self.gone(link, &statement, asked).await;
        }
        self.ended(id, "statement", outcome)
    }

    /// After an ERASE that was asked for then, nobody sees what was there before.
    async fn gone(&self, link: &Link, statement: &Statement, asked: u64) {
        let Does::Delete(table, _) = &statement.does else {
            return;
        };
        let Some(sql) = self.rows_of(statement) else {
            return;
        };
        let rows = match link.run(&sql).await {
            Ok(rows) => rows,
            Err(failure) => return self.field.judge(&failure, "look behind ERASE", &CONFLICTS),
        };
        for (id, row) in rows.iter().filter_map(row_of) {
            if self.desk.canaries().was_there(((*table, id), row.n), asked) {
                let (sql, name) = (&statement.sql, self.schema[*table].name);
                let what = format!("after {sql}: {name} {id} of transaction {} is there", row.n);
                self.field.findings.add(FindingKind::Anomaly, what);
            }
        }
        self.desk.erased.fetch_add(1, Ordering::Relaxed);
    }

    /// Several statements and a mark, some of them taken back.
    async fn block(&mut self, link: &Link) -> Outcome {
        let id = self.desk.name();
        self.invoke("block", id, "BEGIN");
        let mut effects = Effects::default();
        let done = self.in_block(link, id, &mut effects).await;
        let mut asked = self.desk.tick();
        let outcome = match done {
            Ok(()) if self.rng.random_bool(0.12) => {
                self.field.change_mind(link).await;
                Outcome::Failed(Failure::Refused {
                    state: ROLLED_BACK.into(),
                    message: "rolled back by the client".into(),
                })
            }
            Ok(()) => {
                asked = self.desk.tick();
                Outcome::of_commit(&link.run("COMMIT").await)
            }
            Err(failure) => {
                if !failure.is_end() {
                    self.field.roll_back(link).await;
                }
                Outcome::Failed(failure)
            }
        };
        self.desk.end(id, true, effects, asked, &outcome);
        self.ended(id, "block", outcome)
    }

    async fn in_block(
        &mut self,
        link: &Link,
        id: i64,
        effects: &mut Effects,
    ) -> Result<(), Failure> {
        let begin = match self.rng.random_range(0..100) {
            0..60 => "BEGIN",
            60..80 => "BEGIN ISOLATION LEVEL REPEATABLE READ",
            _ => "BEGIN ISOLATION LEVEL SERIALIZABLE",
        };
        let mark = format!("INSERT INTO done VALUES ({id})");
        let marks_first = self.rng.random_bool(0.5);
        link.run(begin).await?;
        if marks_first {
            link.run(&mark).await?;
        }
        for _ in 0..self.rng.random_range(1..=3) {
            let statement = self.statement(id);
            let is_guarded = self.rng.random_bool(0.6);
            let how = if is_guarded {
                "behind a savepoint"
            } else {
                "in block"
            };
            self.invoke(how, id, &statement.sql);
            match is_guarded {
                true => self.guarded(link, &statement, effects).await?,
                false => {
                    let rows = link.run(&statement.sql).await?;
                    statement.does.note(Some(&rows), &self.schema, effects);
                }
            }
            if self.rng.random_bool(0.5) {
                let pause = self.rng.random_range(0..PAUSE_MAX_MS);
                sleep(Duration::from_millis(pause)).await;
            }
        }
        if !marks_first {
            link.run(&mark).await?;
        }
        Ok(())
    }

    /// A statement behind a savepoint, to which it is rolled back if it fails, and now and then if not.
    async fn guarded(
        &mut self,
        link: &Link,
        statement: &Statement,
        effects: &mut Effects,
    ) -> Result<(), Failure> {
        let before = match self.rng.random_bool(0.5) {
            true => self.locked(link, statement).await?,
            false => None,
        };
        link.run("SAVEPOINT s").await?;
        match link.run(&statement.sql).await {
            Ok(_) if self.rng.random_bool(0.2) => {
                link.run("ROLLBACK TO SAVEPOINT s").await?;
            }
            Ok(rows) => {
                statement.does.note(Some(&rows), &self.schema, effects);
                link.run("RELEASE SAVEPOINT s").await?;
            }
            Err(failure) if is_state(&failure, DANGLING) || is_state(&failure, TAKEN) => {
                self.desk.count(&failure);
                link.run("ROLLBACK TO SAVEPOINT s").await?;
                if let Some(before) = before {
                    self.unchanged(link, statement, &before, &failure).await?;
                }
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    /// The rows that a statement is to delete, locked.
    async fn locked(
        &self,
        link: &Link,
        statement: &Statement,
    ) -> Result<Option<Vec<Texts>>, Failure> {
        let Some(sql) = self.rows_of(statement) else {
            return Ok(None);
        };
        link.run(&format!("{sql} FOR UPDATE")).await.map(Some)
    }

    fn rows_of(&self, statement: &Statement) -> Option<String> {
        let Does::Delete(table, ids) = &statement.does else {
            return None;
        };
        let table = &self.schema[*table];
        let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
        let (columns, name, ids) = (super::columns(table), table.name, ids.join(", "));
        Some(format!(
            "SELECT {columns} FROM public.{name} WHERE id IN ({ids}) ORDER BY id"
        ))
    }

    /// What was refused has changed nothing of what is locked.
    async fn unchanged(
        &self,
        link: &Link,
        statement: &Statement,
        before: &[Texts],
        failure: &Failure,
    ) -> Result<(), Failure> {
        let Some(sql) = self.rows_of(statement) else {
            return Ok(());
        };
        let after = link.run(&sql).await?;
        if before.iter().any(|row| !after.contains(row)) {
            let sql = &statement.sql;
            let what = format!("{sql} gave {failure}; {before:?} are {after:?} after it");
            self.field.findings.add(FindingKind::Anomaly, what);
        }
        self.desk.kept.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
