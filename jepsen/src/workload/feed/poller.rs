//! Consumers of the feed workload: each asks in its own way, some lose their place and go back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tokio_postgres::types::PgLsn;

use super::{OWNERS, READER, add_row, table};
use crate::check::consumer::{Consumer, Copy, Line, Op};
use crate::error::{Error, Result};
use crate::field::Field;
use crate::finding::Kind as FindingKind;
use crate::link::{Failure, Link, Protocol, Texts, integer, text};

/// The columns that a consumer asks for.
const COLUMNS: &str = "position::text AS place, tx::text, seq::bigint, last_in_tx, owner, table_name, op, \
                       key::text, new::text";

/// Pages between two losses of a restarting consumer's place.
const RESTART_PAGES: u64 = 40;

/// Pages after which a consumer of a cluster goes on at another node.
const MOVE_PAGES: u64 = 15;

/// Positions that a restarting consumer may fall back to.
const STORED_MAX: usize = 30;

/// Pause of a consumer that cannot wait in the server.
const PAUSE: Duration = Duration::from_millis(20);

/// Once the nodes that have what lies behind a cursor are all away, the feed says so.
const UNREACHABLE: &[&str] = &["OW003"];

/// How a consumer asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `freehold.changes` with a wait.
    Changes,
    /// `freehold.feed` with FETCH FIRST ... WITH TIES and a parameter.
    View,
}

/// A page's size and how it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// How.
    pub source: Source,
    /// Lines, at most, before the last transaction.
    pub rows_max: usize,
}

/// A consumer with its way of asking.
pub struct Poller {
    number: u64,
    page: Page,
    restarts: bool,
    stored: Vec<u64>,
    consumer: Consumer,
    copy: Option<Copy>,
    follows: bool,
}

impl Poller {
    fn new(number: u64, source: Source, rows_max: usize) -> Poller {
        let name = format!("poller {number} ({source:?}, pages of {rows_max})");
        Poller {
            number,
            page: Page { source, rows_max },
            restarts: false,
            stored: Vec::new(),
            consumer: Consumer::new(name, 0, false),
            copy: None,
            follows: false,
        }
    }

    /// The three that poll from the begin on.
    pub fn usual() -> Vec<Poller> {
        let sevens = Poller::new(0, Source::Changes, 7);
        let view = Poller::new(1, Source::View, 50);
        let restarting = Poller {
            restarts: true,
            ..Poller::new(2, Source::Changes, 500)
        };
        vec![sevens, view, restarting]
    }

    /// One that begins with a snapshot.
    pub fn follower(run: u64) -> Poller {
        Poller {
            follows: true,
            ..Poller::new(100 + run, Source::Changes, 64)
        }
    }

    /// One that reads everything at rest and keeps it.
    pub fn whole() -> Poller {
        let consumer = Consumer::new("the whole feed", 0, true);
        Poller {
            consumer,
            ..Poller::new(99, Source::Changes, 2_000)
        }
    }

    /// Which one.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What it has seen.
    pub fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    /// What it has seen.
    pub fn into_consumer(self) -> Consumer {
        self.consumer
    }

    /// Whether it began with a snapshot in this run.
    pub fn is_follower(&self) -> bool {
        self.follows
    }

    /// Its copy of the tables, if it has one.
    pub fn copy(&self) -> Option<&Copy> {
        self.copy.as_ref()
    }

    /// Polls until the field is stopped or the connection is lost.
    pub async fn live(mut self, field: Field) -> Poller {
        let mut rng = field.seed.fork("poller", self.number).rng();
        if self.follows && !self.begin_with_snapshot(&field, &mut rng).await {
            return self;
        }
        let mut pages = 0u64;
        let mut link = None;
        while !field.is_stopped() {
            match self.poll(&field, &mut link, "1s").await {
                Ok(0) if self.page.source == Source::View => sleep(PAUSE).await,
                Ok(lines) => drop(field.progress.observed.fetch_add(lines, Ordering::Relaxed)),
                // It goes on with its cursor, elsewhere if there are several nodes.
                Err(failure) => match field.survives(&failure, "poll", UNREACHABLE).await {
                    Some(_) if field.is_cluster() => continue,
                    _ => return self,
                },
            }
            pages += 1;
            if self.restarts && pages.is_multiple_of(RESTART_PAGES) {
                link = None;
                let at = rng.random_range(0..=self.stored.len());
                self.consumer
                    .rewind(self.stored.get(at).copied().unwrap_or(u64::MAX));
            } else if field.is_cluster() && pages.is_multiple_of(MOVE_PAGES) {
                link = None;
            }
        }
        self
    }

    /// Takes the snapshot that a follower begins with; false if there is none.
    async fn begin_with_snapshot(&mut self, field: &Field, rng: &mut StdRng) -> bool {
        sleep(Duration::from_millis(rng.random_range(100..1_000))).await;
        while let Err(failure) = self.bootstrap(field).await {
            let survived = field.survives(&failure, "bootstrap", &[]).await;
            if survived.is_none() || !field.goes_on() {
                return false;
            }
        }
        true
    }

    async fn bootstrap(&mut self, field: &Field) -> std::result::Result<(), Failure> {
        let (position, copy) = snapshot(field).await?;
        let name = format!("follower of run {} from {position}", field.run);
        self.consumer = Consumer::new(name, position, false);
        self.copy = Some(copy);
        Ok(())
    }

    /// One page; how many lines it had.
    async fn poll(
        &mut self,
        field: &Field,
        link: &mut Option<Link>,
        wait: &str,
    ) -> std::result::Result<u64, Failure> {
        let open = match link.take() {
            Some(open) => open,
            None => Link::open(&field.address, READER, Protocol::Simple).await?,
        };
        let rows = ask(&open, self.page, self.consumer.cursor(), wait).await?;
        *link = Some(open);
        if let Some(position) = rows.iter().find_map(progress_of) {
            field.findings.extend(self.consumer.progress(position));
        }
        let lines: Vec<Line> = rows.iter().filter_map(|row| line_of(row, field)).collect();
        let count = lines.len() as u64;
        let known = self.consumer.passed();
        for line in lines.iter().filter(|line| line.position > known) {
            let wrong = self.copy.as_mut().and_then(|copy| copy.apply(line));
            field.findings.extend(wrong.into_iter().collect());
        }
        field
            .findings
            .extend(self.consumer.page(self.page.rows_max, lines));
        self.stored.push(self.consumer.cursor());
        if self.stored.len() > STORED_MAX {
            self.stored.remove(0);
        }
        Ok(count)
    }

    /// Reads until two pages in a row are empty.
    pub async fn read_to_rest(&mut self, field: &Field) -> Result<()> {
        let mut link = None;
        let mut empty = 0;
        while empty < 2 {
            let lines = self
                .poll(field, &mut link, "300ms")
                .await
                .map_err(at_rest)?;
            empty = if lines == 0 { empty + 1 } else { 0 };
        }
        Ok(())
    }

    /// Reads up to `target`. False, and a finding, if nothing comes for `stuck`.
    pub async fn catch_up(&mut self, field: &Field, target: u64, stuck: Duration) -> Result<bool> {
        if self.follows && self.copy.is_none() {
            return Ok(false);
        }
        let mut link = None;
        let mut end = Instant::now() + stuck;
        while self.consumer.passed() < target {
            let lines = self
                .poll(field, &mut link, "300ms")
                .await
                .map_err(at_rest)?;
            if lines > 0 {
                end = Instant::now() + stuck;
            } else if Instant::now() > end {
                let what = format!(
                    "poller {} is stuck at {}, the feed goes to {target}",
                    self.number,
                    self.consumer.cursor()
                );
                field.findings.add(FindingKind::Feed, what);
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn at_rest(failure: Failure) -> Error {
    Error::Statement {
        statement: "a page of the feed at rest".into(),
        failure,
    }
}

/// Asks for a page behind `after`.
async fn ask(
    link: &Link,
    page: Page,
    after: u64,
    wait: &str,
) -> std::result::Result<Vec<Texts>, Failure> {
    let rows_max = page.rows_max;
    match page.source {
        Source::Changes => {
            let after = if after == 0 {
                "NULL".to_owned()
            } else {
                format!("'{}'", PgLsn::from(after))
            };
            let patterns: Vec<String> = OWNERS.iter().map(|owner| format!("'{owner}_*'")).collect();
            let sql = format!(
                "SELECT {COLUMNS} FROM freehold.changes(after => {after}, \
                 tables => ARRAY[{}], wait => '{wait}', max_rows => {rows_max})",
                patterns.join(", ")
            );
            link.run(&sql).await
        }
        Source::View => {
            let sql = format!(
                "SELECT {COLUMNS} FROM freehold.feed WHERE position > $1 ORDER BY position \
                 FETCH FIRST {rows_max} ROWS WITH TIES"
            );
            let after = PgLsn::from(after);
            let rows = Link::limited(link.client().query(sql.as_str(), &[&after])).await?;
            Ok(rows.iter().map(crate::link::texts).collect())
        }
    }
}

/// A line about a row of the watched tables; `None` for others.
fn line_of(row: &Texts, field: &Field) -> Option<Line> {
    let op = match text(row, 6) {
        "insert" => Op::Insert,
        "update" => Op::Update,
        "delete" => Op::Delete,
        "ddl" | "event" | "progress" => return None,
        other => {
            field.findings.add(
                FindingKind::Feed,
                format!("an op \"{other}\" that nobody caused"),
            );
            return None;
        }
    };
    let number = |json: &str, name: &str| -> Option<i64> {
        serde_json::from_str::<Value>(json)
            .ok()?
            .get(name)?
            .as_i64()
    };
    let position = position_of(text(row, 0));
    let id = number(text(row, 7), "id");
    let (Some(position), Some(id), Some(seq)) = (position, id, integer(row, 2)) else {
        field.findings.add(
            FindingKind::Feed,
            format!("a line that can't be read: {row:?}"),
        );
        return None;
    };
    Some(Line {
        position,
        tx: text(row, 1).to_owned(),
        seq,
        last_in_tx: text(row, 3).starts_with('t'),
        owner: text(row, 4).to_owned(),
        table: short_name(text(row, 5)),
        op,
        id,
        mark: number(text(row, 8), "tx"),
    })
}

/// How far a page without rows says that the feed has got.
fn progress_of(row: &Texts) -> Option<u64> {
    (text(row, 6) == "progress").then(|| position_of(text(row, 0)))?
}

/// Without the schema `public`, which some show and others don't.
fn short_name(table: &str) -> String {
    table.strip_prefix("public.").unwrap_or(table).to_owned()
}

fn position_of(text: &str) -> Option<u64> {
    text.parse::<PgLsn>().ok().map(u64::from)
}

/// A snapshot of both tables with its position, both in one transaction.
pub async fn snapshot(field: &Field) -> std::result::Result<(u64, Copy), Failure> {
    let link = Link::open(&field.address, READER, Protocol::Extended).await?;
    link.run("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    let rows = link
        .run("SELECT freehold.snapshot_position()::text")
        .await?;
    let position = rows.first().and_then(|row| position_of(text(row, 0)));
    let mut copy = Copy::default();
    for owner in OWNERS {
        let sql = format!("SELECT id, tx FROM public.{}", table(owner));
        for row in link.run(&sql).await? {
            add_row(&mut copy, integer(&row, 0), integer(&row, 1), field);
        }
    }
    link.run("COMMIT").await?;
    let Some(position) = position else {
        field
            .findings
            .add(FindingKind::Feed, "snapshot_position() gave no position");
        return Ok((0, copy));
    };
    Ok((position, copy))
}
