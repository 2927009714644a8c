//! One who looks, at one node: for rows without a parent, in one statement and in a snapshot of all
//! tables.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::{CHURNED_KEY, Desk, LOCAL, ONLOOKER, OWNERS, columns, row_of};
use crate::check::erased::Sight;
use crate::check::references::{Rows, Schema, dangling};
use crate::field::{CONFLICTS, Field};
use crate::finding::Kind as FindingKind;
use crate::link::{Failure, Link, Protocol, integer, text};

/// One who looks.
pub(super) struct Reader {
    pub field: Field,
    pub desk: Arc<Desk>,
    pub schema: Arc<Schema>,
    /// At the node's own cut, as one who has no tables; else as the owner of most children, whose
    /// home looks at its newest state.
    pub is_local: bool,
    pub node: usize,
    pub rng: StdRng,
}

impl Reader {
    pub async fn live(mut self) {
        let role = match self.is_local {
            true => ONLOOKER,
            false => OWNERS[2],
        };
        while let Some(link) = self.field.connect(role, Protocol::Extended).await {
            let mut sight = Sight::default();
            let mut failed = match self.is_local {
                true => link.run(LOCAL).await.err(),
                false => None,
            };
            while !self.field.is_stopped() && failed.as_ref().is_none_or(|f| !f.is_end()) {
                if let Some(failure) = failed.take() {
                    let survived = self.field.survives(&failure, "look", &CONFLICTS).await;
                    if survived != Some(true) {
                        break;
                    }
                    self.field.roll_back(&link).await;
                }
                failed = match self.rng.random_bool(0.6) {
                    true => self.look(&link).await.err(),
                    false => self.look_at_all(&link, &mut sight).await.err(),
                };
            }
            if !self.field.goes_on() {
                return;
            }
        }
    }

    /// The tables that this role may read.
    fn tables(&self) -> Vec<usize> {
        let all = 0..self.schema.len();
        // An owner has its own, and their parents.
        let is_read = |table: &usize| self.is_local || [0, 2, 4, 5].contains(table);
        all.filter(is_read).collect()
    }

    /// With how far this node has each owner's entries a moment later.
    async fn complain(&self, how: &str, what: Vec<String>) {
        let sql = "SELECT owner, position FROM freehold.groups";
        let rows = match Link::open(&self.field.address, "postgres", Protocol::Simple).await {
            Ok(link) => link.run(sql).await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        let positions = rows
            .iter()
            .map(|row| format!("{} {}", text(row, 0), text(row, 1)));
        let positions = positions.collect::<Vec<_>>().join(", ");
        let who = match self.is_local {
            true => "its own cut",
            false => "the home of billing",
        };
        for what in what {
            let what = format!("node {}, {who}, {how}: {what}; then {positions}", self.node);
            self.field.findings.add(FindingKind::Anomaly, what);
        }
    }

    /// One statement asks for all rows without a parent.
    async fn look(&mut self, link: &Link) -> Result<(), Failure> {
        let (mut parts, schema) = (Vec::new(), self.schema.clone());
        for at in self.tables() {
            let table = &schema[at];
            let keys = table.references.iter();
            for key in keys.filter(|key| !key.comes_and_goes) {
                let (name, column, parent) = (table.name, key.column, schema[key.parent].name);
                let what = format!("SELECT '{name} references {parent}', c.id, c.{column}, c.n");
                parts.push(match self.rng.random_bool(0.5) {
                    true => format!(
                        "{what} FROM public.{name} c LEFT JOIN public.{parent} p ON p.id = c.{column} \
                         WHERE c.{column} IS NOT NULL AND p.id IS NULL"
                    ),
                    false => format!(
                        "{what} FROM public.{name} c WHERE c.{column} IS NOT NULL AND NOT EXISTS \
                         (SELECT 1 FROM public.{parent} p WHERE p.id = c.{column})"
                    ),
                });
            }
        }
        parts.shuffle(&mut self.rng);
        let rows = link.run(&parts.join(" UNION ALL ")).await?;
        let what = rows.iter().map(|row| {
            let (id, parent, n) = (text(row, 1), text(row, 2), text(row, 3));
            format!(
                "{} ({id} of transaction {n}: {parent} is not there)",
                text(row, 0)
            )
        });
        let what: Vec<String> = what.collect();
        if !what.is_empty() {
            self.complain("one statement", what).await;
        }
        self.field.progress.observed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// All rows in one snapshot. The foreign key that comes and goes is looked for before and after
    /// it: while it is the same one, and valid, all the time, it holds in the snapshot, for a
    /// session never sees less than before.
    async fn look_at_all(&mut self, link: &Link, sight: &mut Sight) -> Result<(), Failure> {
        let before = churned(link).await?;
        link.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await?;
        let mut tables = self.tables();
        tables.shuffle(&mut self.rng);
        let mut rows = Rows::new();
        for at in &tables {
            let table = &self.schema[*at];
            let sql = format!("SELECT {} FROM public.{}", columns(table), table.name);
            for (id, row) in link.run(&sql).await?.iter().filter_map(row_of) {
                rows.insert((*at, id), row);
            }
        }
        let judged = without_emptied(&self.schema, &rows);
        let what = dangling(&self.schema, &judged, false);
        if !what.is_empty() {
            self.complain("one snapshot", what).await;
        }
        link.run("COMMIT").await?;
        self.desk.books().see(&rows);
        let back = sight.see(&rows).into_iter();
        let back = back.map(|((table, id), n)| {
            let name = self.schema[table].name;
            format!("{name} {id} of transaction {n} had gone, and is there again")
        });
        let back: Vec<String> = back.collect();
        if !back.is_empty() {
            self.complain("one snapshot after the other", back).await;
        }
        let after = churned(link).await?;
        if before.is_some() && before == after {
            let what = dangling(&self.schema, &judged, true);
            if !what.is_empty() {
                self.complain("one snapshot, while it was valid", what)
                    .await;
            }
            self.desk.in_force.fetch_add(1, Ordering::Relaxed);
        }
        self.field.progress.observed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Without references to tables that show no row at all. As in PostgreSQL, a table that was emptied by
/// TRUNCATE after a block's snapshot is empty for that block; single statements have no such excuse.
fn without_emptied(schema: &Schema, rows: &Rows) -> Rows {
    let mut judged = rows.clone();
    for ((table, _), row) in &mut judged {
        let keys = schema[*table].references.iter().zip(&mut row.references);
        for (key, value) in keys {
            let mut of_parent = rows.range((key.parent, i64::MIN)..=(key.parent, i64::MAX));
            if of_parent.next().is_none() {
                *value = None;
            }
        }
    }
    judged
}

/// The foreign key that comes and goes, if it is there and valid.
async fn churned(link: &Link) -> Result<Option<i64>, Failure> {
    let sql = format!(
        "SELECT oid::bigint FROM pg_constraint WHERE conname = '{CHURNED_KEY}' AND convalidated"
    );
    let rows = link.run(&sql).await?;
    Ok(rows.first().and_then(|row| integer(row, 0)))
}
