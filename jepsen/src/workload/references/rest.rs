//! What must hold when nobody writes: nothing is asked any more, all rows are what somebody left, and
//! each key can be referenced, and be removed where nothing references it.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    CHURNED, CHURNED_KEY, CONFLICT, Desk, LOCAL, ONLOOKER, OWNERS, columns, is_parent, is_state,
    row_of,
};
use crate::check::erased::canary;
use crate::check::references::{Rest, Rows, Schema, TableAt};
use crate::error::{Error, Result};
use crate::field::Field;
use crate::finding::Kind as FindingKind;
use crate::link::{Failure, Link, Texts, integer, text};

/// No intent is left so long after the load, at most.
const ENDED_WITHIN: Duration = Duration::from_secs(60);

/// A key that nobody is about to remove can be referenced, and one that nobody references can be
/// removed, after this time at most.
const FREE_WITHIN: Duration = Duration::from_secs(10);

/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// Judges a quiet database as this node has it.
pub(super) async fn judge(field: &Field, desk: &Desk) -> Result<()> {
    let schema = desk.schema();
    let mut links = Vec::new();
    for owner in OWNERS {
        links.push(Link::demand(&field.address, owner).await?);
    }
    for (owner, link) in OWNERS.iter().zip(&links) {
        await_intents(field, owner, link).await?;
    }
    let now = desk.tick();
    let rest = read_all(field, &schema, &links, now).await?;
    let rows = rest.rows.clone();
    let found = desk.books().settle(rest, now);
    field.findings.extend(found);
    for parent in (0..schema.len()).filter(|table| is_parent(*table)) {
        let probe = Probe {
            field,
            desk,
            schema: &schema,
            links: &links,
            rows: &rows,
            parent,
        };
        probe.play().await?;
    }
    Ok(())
}

/// Waits until nobody is asked anything.
async fn await_intents(field: &Field, owner: &str, link: &Link) -> Result<()> {
    let end = Instant::now() + ENDED_WITHIN;
    loop {
        let rows = link
            .must("SELECT transaction, asked, state FROM freehold.intents")
            .await?;
        if rows.is_empty() {
            return Ok(());
        }
        if Instant::now() > end {
            let seconds = ENDED_WITHIN.as_secs();
            let what = format!("intents of {owner} are left after {seconds} s: {rows:?}");
            field.findings.add(FindingKind::Anomaly, what);
            return Ok(());
        }
        sleep(LOOK_PAUSE).await;
    }
}

/// All rows in one snapshot of the node's own, not older than what the owners write now, at `now` by
/// the workload's own clock: a token tells of what a session has committed.
async fn read_all(field: &Field, schema: &Schema, links: &[Link], now: u64) -> Result<Rest> {
    let mut rest = Rest::default();
    let reader = Link::demand(&field.address, ONLOOKER).await?;
    for link in links {
        let marks = link.must("SELECT id FROM done").await?;
        rest.marks
            .extend(marks.iter().filter_map(|row| integer(row, 0)));
        link.must(&format!("INSERT INTO quiet VALUES ({now})"))
            .await?;
        let token = token(link).await?;
        reader
            .must(&format!("SET freehold.token = '{token}'"))
            .await?;
        reader
            .must("SELECT 1 FROM public.customer_v1 LIMIT 1")
            .await?;
    }
    reader.must(LOCAL).await?;
    let sql =
        format!("SELECT 1 FROM pg_constraint WHERE conname = '{CHURNED_KEY}' AND convalidated");
    rest.all_in_force = !links[schema[CHURNED].owner].must(&sql).await?.is_empty();
    reader
        .must("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    for (at, table) in schema.iter().enumerate() {
        let sql = format!("SELECT {} FROM public.{}", columns(table), table.name);
        for (id, row) in reader.must(&sql).await?.iter().filter_map(row_of) {
            rest.rows.insert((at, id), row);
        }
    }
    reader.must("COMMIT").await?;
    Ok(rest)
}

/// What a session has seen.
async fn token(link: &Link) -> Result<String> {
    let rows = link.must("SHOW freehold.token").await?;
    Ok(rows.first().map_or("", |row| text(row, 0)).to_owned())
}

/// Whether the keys of one table are free, as far as the rows say that they are. All that it does
/// is undone in the end.
struct Probe<'a> {
    field: &'a Field,
    desk: &'a Desk,
    schema: &'a Schema,
    links: &'a [Link],
    rows: &'a Rows,
    parent: TableAt,
}

impl Probe<'_> {
    async fn play(&self) -> Result<()> {
        let parent = &self.schema[self.parent];
        let is_there = |id: &i64| self.rows.contains_key(&(self.parent, *id));
        let absent: BTreeSet<i64> = (1..=parent.keys).filter(|id| !is_there(id)).collect();
        // Without parents of their own.
        let nothing = ", NULL".repeat(parent.references.len());
        if !absent.is_empty() {
            let row = |id: &i64| format!("({id}, 0{nothing})");
            let rows: Vec<String> = absent.iter().map(row).collect();
            let sql = format!(
                "INSERT INTO public.{} VALUES {}",
                parent.name,
                rows.join(", ")
            );
            self.must(parent.owner, &sql, absent.len()).await?;
            self.tell(parent.owner).await?;
        }
        for child in self.schema {
            for (at, key) in child.references.iter().enumerate() {
                if key.parent != self.parent {
                    continue;
                }
                let others = child.references.len() - at - 1;
                let (before, after) = (", NULL".repeat(at), ", NULL".repeat(others));
                let row = |id: i64| format!("({}, 0{before}, {id}{after})", -id);
                let rows: Vec<String> = (1..=parent.keys).map(row).collect();
                let count = rows.len();
                let sql = format!(
                    "INSERT INTO public.{} VALUES {}",
                    child.name,
                    rows.join(", ")
                );
                self.must(child.owner, &sql, count).await?;
                let sql = format!("DELETE FROM public.{} WHERE id < 0", child.name);
                self.must(child.owner, &sql, count).await?;
            }
        }
        self.remove(absent).await
    }

    /// The others see what this owner has done.
    async fn tell(&self, owner: usize) -> Result<()> {
        let token = token(&self.links[owner]).await?;
        for link in self.links {
            link.must(&format!("SET freehold.token = '{token}'"))
                .await?;
        }
        Ok(())
    }

    /// What came goes again; what nobody references goes and comes.
    async fn remove(&self, absent: BTreeSet<i64>) -> Result<()> {
        let parent = &self.schema[self.parent];
        if !absent.is_empty() {
            let ids: Vec<String> = absent.iter().map(i64::to_string).collect();
            let sql = format!(
                "DELETE FROM public.{} WHERE id IN ({})",
                parent.name,
                ids.join(", ")
            );
            self.must(parent.owner, &sql, absent.len()).await?;
        }
        let of = |(table, _): &&(TableAt, i64)| *table == self.parent;
        for key @ (_, id) in self.rows.keys().filter(of) {
            if self.is_referenced(*id) {
                continue;
            }
            let sql = format!("DELETE FROM public.{} WHERE id = {id}", parent.name);
            let asked = self.desk.tick();
            self.must(parent.owner, &sql, 1).await?;
            self.desk.canaries().remove(*key, asked);
            let row = &self.rows[key];
            let values = row
                .references
                .iter()
                .map(|value| format!(", {}", super::literal(*value)));
            let (values, n) = (values.collect::<String>(), row.n);
            let sql = format!(
                "INSERT INTO public.{} VALUES ({id}, {n}{values}, '{}')",
                parent.name,
                canary((*key, n))
            );
            self.must(parent.owner, &sql, 1).await?;
            self.desk.canaries().write((*key, n), self.desk.tick());
        }
        Ok(())
    }

    fn is_referenced(&self, id: i64) -> bool {
        self.rows.iter().any(|((table, _), row)| {
            let keys = self.schema[*table].references.iter().zip(&row.references);
            keys.into_iter()
                .any(|(key, value)| key.parent == self.parent && *value == Some(id))
        })
    }

    /// A statement that has to succeed, with so many rows; a fence that is just being lifted is
    /// waited for.
    async fn must(&self, owner: usize, sql: &str, count: usize) -> Result<()> {
        let end = Instant::now() + FREE_WITHIN;
        let sql = format!("{sql} RETURNING id");
        loop {
            let failure = match self.links[owner].run(&sql).await {
                Ok(rows) => return self.compare(&sql, &rows, count),
                Err(failure) => failure,
            };
            if Instant::now() > end || !is_state(&failure, CONFLICT) {
                return self.stuck(&sql, failure);
            }
            sleep(LOOK_PAUSE).await;
        }
    }

    fn compare(&self, sql: &str, rows: &[Texts], count: usize) -> Result<()> {
        if rows.len() != count {
            let what = format!("at rest {sql} gives {rows:?} and not {count} rows");
            self.field.findings.add(FindingKind::Anomaly, what);
        }
        Ok(())
    }

    fn stuck(&self, sql: &str, failure: Failure) -> Result<()> {
        let Failure::Refused { .. } = &failure else {
            let statement = sql.to_owned();
            return Err(Error::Statement { statement, failure });
        };
        let what = format!("at rest {sql} gives {failure}");
        self.field.findings.add(FindingKind::Anomaly, what);
        Ok(())
    }
}
