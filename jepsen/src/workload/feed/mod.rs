//! Many writers of two owners, and consumers that must see every commit once, in order, whole.

mod poller;
mod writer;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Workload, create_owners, too_few};
use crate::check::consumer::{Consumer, Copy, End, Transactions, judge_copies, judge_whole};
use crate::error::Result;
use crate::field::Field;
use crate::finding::Kind as FindingKind;
use crate::link::{Link, integer};
use crate::options::Options;
use crate::victim::Kind;
use poller::Poller;
use writer::Writer;

/// The two owners.
const OWNERS: [&str; 2] = ["alpha", "beta"];

/// Who reads.
const READER: &str = "reader";

/// Writers if nobody says how many.
const CLIENTS: u32 = 1_000;

/// Connections that are being made at one time.
const CONNECTING_MAX: usize = 64;

/// Lines that pollers must have seen under load to say anything.
const OBSERVED_MIN: u64 = 100;

/// Longest time without a new line before a consumer at rest is taken to be stuck.
const STUCK_MAX: Duration = Duration::from_secs(15);

/// Pause between snapshots under load.
const SNAPSHOT_PAUSE: Duration = Duration::from_millis(700);

/// The integration table of an owner.
fn table(owner: &str) -> String {
    format!("{owner}_v1")
}

/// A feed made of triggers, for PostgreSQL in Freehold's place.
const STAND_IN: &str = include_str!("stand_in.sql");

/// Puts the triggers of the stand-in on a table.
async fn stand_in(link: &Link, table: &str) -> Result<()> {
    let transitions = [
        ("INSERT", "NEW TABLE AS news"),
        ("UPDATE", "OLD TABLE AS olds NEW TABLE AS news"),
        ("DELETE", "OLD TABLE AS olds"),
    ];
    for (event, tables) in transitions {
        let sql = format!(
            "CREATE TRIGGER note_{event} AFTER {event} ON public.{table} REFERENCING {tables} \
             FOR EACH STATEMENT EXECUTE FUNCTION freehold.note()"
        );
        link.must(&sql).await?;
    }
    link.must(&format!("GRANT SELECT ON public.{table} TO {READER}"))
        .await?;
    Ok(())
}

/// What tasks give back.
enum Done {
    Writer(Box<Writer>),
    Poller(Box<Poller>),
    Snapshots(Vec<(u64, Copy)>),
}

/// The workload.
pub struct Feed {
    kind: Kind,
    clients: u32,
    began: Instant,
    written: Arc<Mutex<Transactions>>,
    writers: Vec<Writer>,
    pollers: Vec<Poller>,
    snapshots: Vec<(u64, Copy)>,
    whole: Option<Consumer>,
    tasks: JoinSet<Done>,
}

impl Workload for Feed {
    const OWNERS: &'static [&'static str] = &OWNERS;

    fn new(options: &Options) -> Feed {
        Feed {
            kind: options.victim,
            clients: options.clients.unwrap_or(CLIENTS),
            began: Instant::now(),
            written: Arc::default(),
            writers: Vec::new(),
            pollers: Vec::new(),
            snapshots: Vec::new(),
            whole: None,
            tasks: JoinSet::new(),
        }
    }

    async fn prepare(&mut self, field: &Field) -> Result<()> {
        let roles: Vec<&str> = OWNERS.iter().copied().chain([READER]).collect();
        create_owners(field, self.kind, &roles).await?;
        if self.kind == Kind::Postgres {
            Link::demand(&field.address, "postgres")
                .await?
                .must(STAND_IN)
                .await?;
        }
        for owner in OWNERS {
            let link = Link::demand(&field.address, owner).await?;
            let columns = "(id bigint PRIMARY KEY, tx bigint NOT NULL, n int NOT NULL, note text)";
            link.must(&format!("CREATE TABLE public.{} {columns}", table(owner)))
                .await?;
            link.must("CREATE TABLE secret (tx bigint PRIMARY KEY)")
                .await?;
            match self.kind {
                Kind::Freehold => {
                    link.must(&format!("GRANT READ ON {owner}_* TO {READER}"))
                        .await?;
                }
                Kind::Postgres => stand_in(&link, &table(owner)).await?,
            }
        }
        self.writers = (0..self.clients)
            .map(|number| Writer::new(number, self.began))
            .collect();
        self.pollers = Poller::usual();
        Ok(())
    }

    async fn begin(&mut self, field: &Field) -> Result<()> {
        let connecting = Arc::new(Semaphore::new(CONNECTING_MAX));
        for writer in self.writers.drain(..) {
            let (field, written) = (field.clone(), self.written.clone());
            let connecting = connecting.clone();
            self.tasks.spawn(async move {
                Done::Writer(Box::new(writer.live(field, written, connecting).await))
            });
        }
        self.pollers.push(Poller::follower(field.run));
        for poller in self.pollers.drain(..) {
            let field = field.clone();
            self.tasks
                .spawn(async move { Done::Poller(Box::new(poller.live(field).await)) });
        }
        let field = field.clone();
        self.tasks
            .spawn(async move { Done::Snapshots(take_snapshots(field).await) });
        Ok(())
    }

    async fn finish(&mut self) {
        while let Some(done) = self.tasks.join_next().await {
            match done.expect("no task of the load panics") {
                Done::Writer(writer) => self.writers.push(*writer),
                Done::Poller(poller) => self.pollers.push(*poller),
                Done::Snapshots(snapshots) => self.snapshots.extend(snapshots),
            }
        }
        self.writers.sort_by_key(Writer::number);
        self.pollers.sort_by_key(Poller::number);
    }

    async fn verify(&mut self, field: &Field) -> Result<()> {
        let whole = self.read_whole(field).await?;
        if let Some(before) = &self.whole {
            field.findings.extend(before.compare(&whole));
        }
        self.judge_whole(field, &whole).await?;
        for poller in &mut self.pollers {
            if poller.catch_up(field, whole.newest(), STUCK_MAX).await? {
                field.findings.extend(poller.consumer().compare(&whole));
            }
        }
        self.judge_followers(field).await?;
        self.pollers.retain(|poller| !poller.is_follower());
        for writer in &mut self.writers {
            writer.settle(&self.written);
        }
        self.whole = Some(whole);
        Ok(())
    }

    fn too_low(&self, field: &Field) -> Option<String> {
        let seen = field.progress.observed.load(Ordering::Relaxed);
        let few = (seen < OBSERVED_MIN)
            .then(|| format!("{seen} lines polled under load, fewer than {OBSERVED_MIN}"));
        too_few(field).or(few)
    }
}

impl Feed {
    /// Reads the whole feed from its begin: all that was acknowledged, and what was there when it
    /// was read before. Ends without them once nothing more comes for as long as makes a consumer
    /// stuck.
    async fn read_whole(&self, field: &Field) -> Result<Consumer> {
        let mut reader = Poller::whole();
        let before = self.whole.as_ref().map_or(0, Consumer::newest);
        let mut seen = (0, Instant::now());
        loop {
            reader.read_to_rest(field).await?;
            let consumer = reader.consumer();
            if consumer.newest() > seen.0 {
                seen = (consumer.newest(), Instant::now());
            }
            let is_whole = consumer.newest() >= before && !self.misses(consumer);
            if is_whole || seen.1.elapsed() > STUCK_MAX {
                let entries = consumer.entries().len();
                let value = json!({ "entries": entries, "newest": seen.0, "whole": is_whole });
                field.history.note("feed", value);
                return Ok(reader.into_consumer());
            }
        }
    }

    /// Whether something that was acknowledged is not among what was read.
    fn misses(&self, consumer: &Consumer) -> bool {
        let seen: BTreeSet<i64> = consumer
            .entries()
            .values()
            .flat_map(|entry| entry.lines.iter().filter_map(|line| line.mark))
            .collect();
        let written = self
            .written
            .lock()
            .expect("no task panics while it holds this");
        written
            .iter()
            .any(|(mark, one)| one.end == End::Acknowledged && !seen.contains(mark))
    }

    async fn judge_whole(&mut self, field: &Field, whole: &Consumer) -> Result<()> {
        let visible: BTreeSet<String> = OWNERS.iter().map(|owner| table(owner)).collect();
        {
            let mut written = self
                .written
                .lock()
                .expect("no task panics while it holds this");
            field
                .findings
                .extend(judge_whole(whole, &mut written, &visible));
        }
        let last = read_tables(field).await?;
        let snapshots = std::mem::take(&mut self.snapshots);
        field
            .findings
            .extend(judge_copies(whole, &snapshots, &last));
        Ok(())
    }

    async fn judge_followers(&self, field: &Field) -> Result<()> {
        let last = read_tables(field).await?;
        for copy in self.pollers.iter().filter_map(Poller::copy) {
            field
                .findings
                .extend(copy.compare(&last, "the follower's copy"));
        }
        Ok(())
    }
}

/// Reads all rows of both owners' tables.
async fn read_tables(field: &Field) -> Result<Copy> {
    let link = Link::demand(&field.address, READER).await?;
    let mut copy = Copy::default();
    for owner in OWNERS {
        let sql = format!("SELECT id, tx FROM public.{}", table(owner));
        for row in link.must(&sql).await? {
            add_row(&mut copy, integer(&row, 0), integer(&row, 1), field);
        }
    }
    Ok(copy)
}

fn add_row(copy: &mut Copy, id: Option<i64>, mark: Option<i64>, field: &Field) {
    let (Some(id), Some(mark)) = (id, mark) else {
        return;
    };
    if copy.rows.insert(id, mark).is_some() {
        field.findings.add(
            FindingKind::Anomaly,
            format!("row {id} is in a table twice"),
        );
    }
}

/// Takes snapshots with their positions while the load runs.
async fn take_snapshots(field: Field) -> Vec<(u64, Copy)> {
    let mut taken = Vec::new();
    while !field.is_stopped() {
        sleep(SNAPSHOT_PAUSE).await;
        match poller::snapshot(&field).await {
            Ok(snapshot) => taken.push(snapshot),
            Err(failure) => {
                if field.survives(&failure, "snapshot", &[]).await.is_none() {
                    return taken;
                }
            }
        }
    }
    taken
}
